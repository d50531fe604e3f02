//! What the tests of all kinds share: a server that records, and something to tell.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use alerting::notify::{
    Alert, Fingerprint, Notification, NotificationId, NotifiedAlert, Outcome, Reason,
};
use alerting::templates::notice::{NOTICE_LIMITS, Templates};
use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use model::Labels;
use net::client::ClientOptions;
use parking_lot::Mutex;
use serde_json::Value;
use settings::alertmanager::{Config, MatcherMode};
use settings::prometheus::HttpClientConfig;
use tokio::net::TcpListener;

use crate::courier::Courier;
use crate::deliverer::outcome;
use crate::message::{Channel, Message, Surroundings};
use crate::{Deliverer, DeliveryOptions};

/// 2023-11-14T22:13:20Z, in nanoseconds.
pub(crate) const NOW_NS: i64 = 1_700_000_000_000_000_000;

/// One request as it came.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) method: Method,
    /// Path and query.
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Seen {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().expect("ASCII"))
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("JSON")
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("UTF-8")
    }

    /// The pairs of a query or a form.
    pub(crate) fn pairs(text: &str) -> Vec<(String, String)> {
        form_urlencoded::parse(text.as_bytes()).into_owned().collect()
    }
}

/// A server on a port of its own.
pub(crate) struct Peer {
    pub(crate) address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
}

/// An answer: status, `Content-Type`, body.
pub(crate) type Said = (u16, &'static str, String);

pub(crate) fn json(status: u16, body: &str) -> Said {
    (status, "application/json", body.to_owned())
}

impl Peer {
    /// Starts a server that answers by a function of the request and how many came before.
    pub(crate) async fn start(
        answer: impl Fn(&Seen, usize) -> Said + Send + Sync + 'static,
    ) -> Peer {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let address = listener.local_addr().expect("bound");
        let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
        let (all, answer) = (Arc::clone(&seen), Arc::new(answer));
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let (all, answer) = (Arc::clone(&all), Arc::clone(&answer));
                let service = service_fn(move |request: Request<Incoming>| {
                    let (all, answer) = (Arc::clone(&all), Arc::clone(&answer));
                    async move {
                        let (parts, body) = request.into_parts();
                        let body = body.collect().await.expect("a whole body").to_bytes();
                        let path = parts.uri.path_and_query().expect("a path").to_string();
                        let (method, headers) = (parts.method, parts.headers);
                        let request = Seen { method, path, headers, body };
                        let before = all.lock().len();
                        let (status, kind, body) = answer(&request, before);
                        all.lock().push(request);
                        let mut response = Response::builder().status(status);
                        // A kind with a colon is another header.
                        response = match kind.split_once(": ") {
                            Some((name, value)) => response.header(name, value),
                            None => response.header("content-type", kind),
                        };
                        let response = response.body(Full::new(Bytes::from(body)));
                        Ok::<_, Infallible>(response.expect("a response"))
                    }
                });
                tokio::spawn(async move {
                    let builder = Builder::new(TokioExecutor::new());
                    let _ = builder.serve_connection(TokioIo::new(socket), service).await;
                });
            }
        });
        Peer { address, seen }
    }

    /// Starts a server that says the same to everybody.
    pub(crate) async fn saying(said: Said) -> Peer {
        Peer::start(move |_, _| said.clone()).await
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub(crate) fn requests(&self) -> Vec<Seen> {
        self.seen.lock().clone()
    }

    /// The only request there was.
    pub(crate) fn request(&self) -> Seen {
        let all = self.requests();
        assert_eq!(all.len(), 1, "{all:?}");
        all[0].clone()
    }
}

struct Disk;

impl settings::prometheus::Surroundings for Disk {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        std::fs::read(path)
    }

    fn list(&self, _: &Path) -> io::Result<Vec<String>> {
        Ok(Vec::new())
    }

    fn variable(&self, _: &str) -> Option<String> {
        None
    }
}

/// The configuration whose receiver `ops` has these keys, in YAML.
pub(crate) fn config(keys: &str) -> Config {
    let text = format!(
        "route: {{receiver: ops, labels: {{team: '{{{{ .Receiver }}}}'}}}}\nreceivers:\n- name: ops\n  {keys}\n"
    );
    let directory = tempfile::tempdir().expect("a directory");
    let path: PathBuf = directory.path().join("alertmanager.yml");
    std::fs::write(&path, text).expect("written");
    let loaded = Config::load(&path, MatcherMode::Fallback, &Disk);
    loaded.unwrap_or_else(|faults| panic!("{faults}")).config
}

/// A deliverer for it.
pub(crate) fn deliverer(keys: &str) -> Deliverer {
    deliverer_with(keys, DeliveryOptions::operator("http://w.example"))
}

pub(crate) fn deliverer_with(keys: &str, options: DeliveryOptions) -> Deliverer {
    let templates = Arc::new(Templates::new(NOTICE_LIMITS, Arc::new(|_| None)));
    Deliverer::new(&config(keys), templates, options).expect("usable settings")
}

/// A courier for an integration that is made by hand.
pub(crate) fn courier() -> Courier {
    Courier::new(&HttpClientConfig::default(), &ClientOptions::operator()).expect("usable settings")
}

/// Tells by an integration that was made by hand.
pub(crate) async fn send(channel: &dyn Channel, notification: &Notification) -> Outcome {
    let templates = Templates::new(NOTICE_LIMITS, Arc::new(|_| None));
    let surroundings = Surroundings {
        templates: &templates,
        external_url: "http://w.example",
        route_labels: Default::default(),
    };
    let deadline = Instant::now() + Duration::from_secs(10);
    let message = Message::new(notification, surroundings, NOW_NS, deadline, None);
    match channel.send(&message).await {
        Ok(store) => Outcome::Delivered { store },
        Err(failure) => outcome(&message, failure),
    }
}

pub(crate) fn alert(pairs: &[(&str, &str)], resolved: bool) -> NotifiedAlert {
    let labels = Labels::from_pairs(pairs.iter().copied()).expect("labels");
    let fingerprint = Fingerprint::of(&labels);
    let alert = Alert {
        labels,
        annotations: [("summary".to_owned(), "it <is> down".to_owned())].into(),
        starts_at_ns: NOW_NS - 60_000_000_000,
        ends_at_ns: if resolved { NOW_NS - 1_000_000_000 } else { NOW_NS + 300_000_000_000 },
        updated_at_ns: NOW_NS,
        timed_out: false,
        generator_url: "http://p/graph?a=b&c".to_owned(),
    };
    NotifiedAlert { alert: Arc::new(alert), fingerprint, resolved }
}

/// Two alerts of a group, of which the first fires.
pub(crate) fn notification(kind: &'static str) -> Notification {
    let alerts = [
        alert(&[("alertname", "Down"), ("instance", "a"), ("severity", "critical")], false),
        alert(&[("alertname", "Down"), ("instance", "b"), ("severity", "critical")], true),
    ];
    Notification {
        id: NotificationId(7),
        attempt: 1,
        receiver: Arc::from("ops"),
        integration: 0,
        kind,
        index: 0,
        group_key: Arc::from("{}:{alertname=\"Down\"}"),
        group_labels: Labels::from_pairs([("alertname", "Down")]).expect("labels"),
        route_id: Arc::from("{}"),
        alerts: Arc::from(alerts),
        reason: Reason::FirstNotification,
        now_ns: NOW_NS,
        repeat_interval_ns: 3_600_000_000_000,
        deadline_ns: NOW_NS + 10_000_000_000,
        store: Default::default(),
    }
}

/// The same of alerts that all ended.
pub(crate) fn resolved(kind: &'static str) -> Notification {
    let alerts = [alert(&[("alertname", "Down"), ("instance", "a")], true)];
    let reason = Reason::AllAlertsResolved;
    Notification { alerts: Arc::from(alerts), reason, ..notification(kind) }
}

/// SHA-256 of the group's key.
pub(crate) const KEY_HASH: &str =
    "af94c9e8f6a3043625e36c6f472fe6be85ac23a9117184ee4cb7b4ad7401a47e";

pub(crate) fn delivered() -> Outcome {
    Outcome::Delivered { store: None }
}

/// The message of an outcome that is to be tried again.
pub(crate) fn retried(outcome: Outcome) -> String {
    match outcome {
        Outcome::Retry { message, .. } => message,
        other => panic!("{other:?}"),
    }
}

/// The message of an outcome that is final.
pub(crate) fn failed(outcome: Outcome) -> String {
    match outcome {
        Outcome::Failed { message } => message,
        other => panic!("{other:?}"),
    }
}
