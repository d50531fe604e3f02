//! The API over a notifier that runs, with its state in memory.

mod alerts;
mod bad_input;
mod own;
mod silences;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use alerting::notify::{Limits, Notification, NotifiedAlert, Outcome};
use axum::Router;
use axum::body::Body;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::BodyExt;
use net::NetMetrics;
use net::auth::without_login;
use parking_lot::Mutex;
use serde_json::Value;
use settings::alertmanager::MatcherMode;
use settings::prometheus::Surroundings;
use tower::ServiceExt;

use super::{About, ClusterAbout, Finder, alertmanager_routes, notification_routes};
use crate::Clock;
use crate::keep::Boxed;
use crate::notify::{Deliver, Notifications, NotifyConfiguration, Tested};
use crate::shelf::Shelf;

/// Files of a test.
struct Texts(Vec<(&'static str, String)>);

impl Surroundings for Texts {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let found = self.0.iter().find(|(name, _)| Path::new(name) == path);
        found
            .map(|(_, text)| text.clone().into_bytes())
            .ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn list(&self, _: &Path) -> io::Result<Vec<String>> {
        Ok(self.0.iter().map(|(name, _)| name.trim_start_matches('/').to_owned()).collect())
    }

    fn variable(&self, _: &str) -> Option<String> {
        None
    }
}

/// Remembers what it was told, and refuses receivers called `deaf`.
#[derive(Default)]
struct Ears {
    heard: Mutex<Vec<Notification>>,
}

impl Deliver for Ears {
    fn deliver<'a>(
        &'a self,
        notification: &'a Notification,
        _: Option<&'static str>,
        _: i64,
    ) -> Boxed<'a, Outcome> {
        self.heard.lock().push(notification.clone());
        let outcome = match &*notification.receiver {
            "deaf" => Outcome::Failed { message: "nobody listens".to_owned() },
            _ => Outcome::Delivered { store: None },
        };
        Box::pin(async move { outcome })
    }

    fn test<'a>(
        &'a self,
        _: &'a str,
        alerts: Arc<[NotifiedAlert]>,
        _: i64,
    ) -> Boxed<'a, Vec<Tested>> {
        assert_eq!(alerts.len(), 1);
        assert_eq!(alerts[0].alert.labels.get("alertname"), Some("WatchfireTest"));
        let (kind, took) = ("webhook", Duration::from_millis(5));
        let failed = Outcome::Failed { message: "no such host".to_owned() };
        let delivered = Outcome::Delivered { store: None };
        let tested = move |(index, outcome)| Tested { kind, index, outcome, took };
        Box::pin(async move { [delivered, failed].into_iter().enumerate().map(tested).collect() })
    }
}

struct World {
    shelf: Arc<Shelf>,
    ears: Arc<Ears>,
    /// Whether it is this process that notifies.
    here: Arc<AtomicBool>,
    notifications: Notifications,
    router: Router,
    text: String,
}

const CONFIGURATION: &str = r#"
route:
  receiver: everybody
  group_by: [alertname]
  group_wait: 10ms
  group_interval: 50ms
  routes:
    - matchers: [team="db"]
      receiver: db
      continue: true
      labels: {owner: "{{ .CommonLabels.team }}", plain: text}
    - matchers: [team="db", severity="page"]
      receiver: deaf
    - matchers: [team="night"]
      receiver: db
      active_time_intervals: [never]
time_intervals:
  - {name: never, time_intervals: [{years: ["1999"]}]}
inhibit_rules:
  - source_matchers: [severity="critical"]
    target_matchers: [severity="warning"]
    equal: [host]
receivers:
  - name: everybody
    webhook_configs: [{url: "http://secret.example/token"}]
  - name: db
    labels: {tier: one}
    webhook_configs: [{url: "http://a/"}, {url: "http://b/", send_resolved: false}]
  - name: deaf
    webhook_configs: [{url: "http://c/"}]
templates: [own.tmpl]
"#;

impl World {
    fn new() -> World {
        World::with(Shelf::new(), CONFIGURATION)
    }

    fn with(shelf: Arc<Shelf>, text: &str) -> World {
        let file = "/am.yml";
        let own = "{{ define \"mine\" }}<{{ .Status }}>{{ end }}\n{{ define \"broken\" }}\n{{ .Nothing.There }}{{ end }}";
        let files = Arc::new(Texts(vec![(file, text.to_owned()), ("/own.tmpl", own.to_owned())]));
        let path = PathBuf::from(file);
        let configuration = NotifyConfiguration::load(&path, MatcherMode::Fallback, files)
            .unwrap_or_else(|error| panic!("{error}"));
        let ears = Arc::new(Ears::default());
        let (notifications, driver) = Notifications::open(
            Arc::clone(&shelf) as _,
            &configuration,
            Arc::clone(&ears) as _,
            Limits { max_silences: 5, ..Limits::default() },
            Arc::new(Clock::default()),
            Duration::ZERO,
        )
        .expect("opens");
        tokio::spawn(driver.run());
        let about = Arc::new(About {
            version: "9.9.9".to_owned(),
            revision: "abc".to_owned(),
            started_ms: 1_577_836_800_123,
            external_url: "http://w:9093".to_owned(),
            cluster: Box::new(ClusterAbout::default),
            net_metrics: Arc::new(NetMetrics::default()),
        });
        let here = Arc::new(AtomicBool::new(true));
        let finder: Finder = {
            let (here, notifications) = (Arc::clone(&here), notifications.clone());
            Arc::new(move || here.load(Ordering::SeqCst).then(|| notifications.clone()))
        };
        let routes = alertmanager_routes(Arc::clone(&finder), Arc::clone(&about), None)
            .merge(notification_routes(finder, about, None));
        let router = without_login(routes.into_router());
        World { shelf, ears, here, notifications, router, text: text.to_owned() }
    }

    /// The same after a restart.
    fn restarted(self) -> World {
        self.notifications.stop();
        World::with(self.shelf, &self.text)
    }

    async fn send(&self, request: Request<Body>) -> (StatusCode, HeaderMap, String) {
        let response = self.router.clone().oneshot(request).await.expect("answers");
        let (status, headers) = (response.status(), response.headers().clone());
        let body = response.into_body().collect().await.expect("a body").to_bytes();
        (status, headers, String::from_utf8(body.to_vec()).expect("UTF-8"))
    }

    /// Asks, and yields what is answered with 200.
    async fn get(&self, path: &str) -> Value {
        let request = Request::get(path).body(Body::empty()).expect("a request");
        let (status, _, body) = self.send(request).await;
        assert_eq!(status, StatusCode::OK, "{path}: {body}");
        serde_json::from_str(&body).unwrap_or_else(|error| panic!("{path}: {error}: {body}"))
    }

    /// Asks, and yields status and text.
    async fn told(&self, method: &str, path: &str, body: &str) -> (u16, String) {
        let request = Request::builder().method(method).uri(path);
        let request = request.header("Content-Type", "application/json");
        let request = request.body(Body::from(body.to_owned())).expect("a request");
        let (status, headers, body) = self.send(request).await;
        let is_empty = body.is_empty();
        assert_eq!(headers.contains_key("content-type"), !is_empty, "{path}");
        (status.as_u16(), body.trim_end().to_owned())
    }

    async fn post(&self, path: &str, body: &str) -> Value {
        let (status, text) = self.told("POST", path, body).await;
        assert_eq!(status, 200, "{path}: {text}");
        if text.is_empty() { Value::Null } else { serde_json::from_str(&text).expect("JSON") }
    }

    /// Posts alerts with these labels, each `name=value name=value`.
    async fn fire(&self, alerts: &[&str]) {
        let alert = |text: &&str| {
            let pairs = text.split(' ').map(|pair| pair.split_once('=').expect("a pair"));
            let labels: serde_json::Map<String, Value> =
                pairs.map(|(name, value)| (name.to_owned(), value.into())).collect();
            serde_json::json!({ "labels": labels })
        };
        let alerts: Value = alerts.iter().map(alert).collect();
        self.post("/api/v2/alerts", &alerts.to_string()).await;
    }

    /// Posts a silence for a year with these matchers of equality.
    async fn silence(&self, matchers: &[(&str, &str)]) -> String {
        let matchers: Value = matchers
            .iter()
            .map(|(name, value)| {
                serde_json::json!({ "name": name, "value": value, "isRegex": false })
            })
            .collect();
        let body = serde_json::json!({
            "matchers": matchers,
            "startsAt": super::moment::shown(self.notifications.now_ns()),
            "endsAt": super::moment::shown(self.notifications.now_ns() + 31_000_000_000_000_000),
            "createdBy": "ann",
            "comment": "work",
        });
        let told = self.post("/api/v2/silences", &body.to_string()).await;
        told["silenceID"].as_str().expect("an id").to_owned()
    }

    /// Waits until receivers were told so often.
    async fn heard(&self, times: usize) {
        for _ in 0..500 {
            let newest = self.notifications.deliveries().newest(None, 1_000);
            if newest.len() >= times {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{} of {times} were told", self.ears.heard.lock().len());
    }
}

/// A field of every element of a list.
fn each<'v>(list: &'v Value, pointer: &str) -> Vec<&'v str> {
    let list = list.as_array().expect("a list");
    list.iter().map(|one| one.pointer(pointer).and_then(Value::as_str).unwrap_or("-")).collect()
}
