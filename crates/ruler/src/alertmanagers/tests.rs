use std::collections::BTreeMap;
use std::path::Path;

use axum::Router;
use axum::extract::State;
use bytes::Bytes;
use http::{HeaderMap, StatusCode, Uri};
use parking_lot::Mutex;
use serde_json::Value;
use settings::prometheus::{Config, Surroundings};
use tokio::net::TcpListener;

use super::*;

/// An Alertmanager that notes what it is told.
#[derive(Clone)]
struct Peer {
    address: String,
    told: Arc<Mutex<Vec<Told>>>,
}

/// One request: its path, its credentials and its alerts.
struct Told {
    path: String,
    authorization: String,
    alerts: Vec<Value>,
}

impl Peer {
    async fn start(status: StatusCode) -> Peer {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        let told = Arc::default();
        let state = (Arc::clone(&told), status);
        let router = Router::new().fallback(take).with_state(state);
        tokio::spawn(async move { axum::serve(listener, router).await });
        Peer { address, told }
    }

    /// The names of the alerts of each request.
    fn names(&self) -> Vec<Vec<String>> {
        let name = |alert: &Value| alert["labels"]["alertname"].as_str().unwrap_or("").to_owned();
        self.told.lock().iter().map(|told| told.alerts.iter().map(name).collect()).collect()
    }

    fn count(&self) -> usize {
        self.told.lock().iter().map(|told| told.alerts.len()).sum()
    }
}

type Noted = (Arc<Mutex<Vec<Told>>>, StatusCode);

async fn take(
    State((told, status)): State<Noted>,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> StatusCode {
    let authorization = headers.get("authorization").and_then(|value| value.to_str().ok());
    told.lock().push(Told {
        path: uri.path().to_owned(),
        authorization: authorization.unwrap_or_default().to_owned(),
        alerts: serde_json::from_slice(&body).expect("a list of alerts"),
    });
    status
}

struct File(String);

impl Surroundings for File {
    fn read(&self, _: &Path) -> std::io::Result<Vec<u8>> {
        Ok(self.0.clone().into_bytes())
    }

    fn list(&self, _: &Path) -> std::io::Result<Vec<String>> {
        Ok(Vec::new())
    }

    fn variable(&self, _: &str) -> Option<String> {
        None
    }
}

/// Puts what stands below `alertmanagers` in effect.
async fn put(alertmanagers: &Alertmanagers, blocks: &str, limits: QueueLimits) {
    let file = File(format!("alerting:\n  alertmanagers:\n{blocks}"));
    let loaded = Config::load(Path::new("p.yml"), &file).expect("a configuration");
    let blocks = &loaded.config.alerting.alertmanagers;
    let prepared = alertmanagers.prepare(blocks, limits).await.expect("nothing about it can fail");
    alertmanagers.put(prepared);
}

fn alert(name: &str) -> PostedAlert {
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    PostedAlert {
        labels: vec![pair("alertname", name), pair("replica", "a")],
        annotations: BTreeMap::from([pair("summary", "it \"burns\"")]),
        starts_at_ns: Some(1_577_836_800_123_000_000),
        ends_at_ns: Some(1_577_836_860_000_000_000),
        generator_url: "http://w/graph?g0.expr=up&g0.tab=1".to_owned(),
    }
}

async fn until(what: &str, is_so: impl Fn() -> bool) {
    for _ in 0..1_000 {
        if is_so() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("waited in vain: {what}");
}

fn shown(alertmanagers: &Alertmanagers) -> String {
    let mut page = Vec::new();
    render(alertmanagers, &mut wire::text_encode::TextEncoder::new(&mut page));
    String::from_utf8(page).expect("the text format is UTF-8")
}

#[tokio::test]
async fn alerts_are_sent_as_prometheus_sends_them() {
    let peer = Peer::start(StatusCode::OK).await;
    let alertmanagers = Alertmanagers::default();
    let blocks = format!(
        "  - path_prefix: /am\n    basic_auth: {{username: u, password: p}}\n    \
         alert_relabel_configs: [{{regex: replica, action: labeldrop}}, {{source_labels: [alertname], \
         regex: Quiet, action: drop}}]\n    static_configs: [{{targets: ['{}']}}]\n",
        peer.address
    );
    put(&alertmanagers, &blocks, QueueLimits::default()).await;
    alertmanagers.send(&[alert("Fire"), alert("Quiet")]);
    until("it is told", || peer.count() > 0).await;
    let told = peer.told.lock();
    assert_eq!(
        (told[0].path.as_str(), told[0].authorization.as_str()),
        ("/am/api/v2/alerts", "Basic dTpw")
    );
    let expected = serde_json::json!([{
        "annotations": { "summary": "it \"burns\"" },
        "endsAt": "2020-01-01T00:01:00.000Z",
        "startsAt": "2020-01-01T00:00:00.123Z",
        "generatorURL": "http://w/graph?g0.expr=up&g0.tab=1",
        "labels": { "alertname": "Fire" },
    }]);
    assert_eq!(Value::Array(told[0].alerts.clone()), expected);
}

#[tokio::test]
async fn one_that_does_not_answer_delays_no_other() {
    // Takes connections and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let silent_address = silent.local_addr().expect("an address");
    let (peer, refusing) =
        (Peer::start(StatusCode::OK).await, Peer::start(StatusCode::BAD_REQUEST).await);
    let alertmanagers = Alertmanagers::default();
    let blocks = format!(
        "  - static_configs: [{{targets: ['{silent_address}', '{}', '{}']}}]\n",
        peer.address, refusing.address
    );
    put(&alertmanagers, &blocks, QueueLimits { capacity: 3, batch: 2 }).await;
    alertmanagers.send(&[alert("a"), alert("b"), alert("c"), alert("d")]);
    until("it is told", || peer.count() >= 3 && refusing.count() >= 3).await;
    // The oldest had no place.
    assert_eq!(peer.names(), [vec!["b", "c"], vec!["d"]]);
    until("it is counted", || {
        shown(&alertmanagers).contains("_errors_total{alertmanager=\"http://")
            && shown(&alertmanagers).contains("} 4\n")
    })
    .await;
    let page = shown(&alertmanagers);
    let of = |name: &str, address: &str| {
        let line = format!("{name}{{alertmanager=\"http://{address}/api/v2/alerts\"}} ");
        let value = page.lines().find_map(|row| row.strip_prefix(&line));
        value.unwrap_or_else(|| panic!("{line}: {page}")).to_owned()
    };
    let row = |address: &str| {
        ["sent_total", "errors_total", "dropped_total", "queue_length"]
            .map(|name| of(&format!("prometheus_notifications_{name}"), address))
    };
    assert_eq!(row(&peer.address), ["3", "0", "1", "0"]);
    assert_eq!(row(&refusing.address), ["3", "3", "4", "0"]);
    assert_eq!(row(&silent_address.to_string()), ["0", "0", "1", "1"]);
    assert!(page.contains("prometheus_notifications_alertmanagers_discovered 3\n"), "{page}");
}

#[tokio::test]
async fn what_says_what_it_said_goes_on_over_a_reload() {
    let silent = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let silent_address = silent.local_addr().expect("an address");
    let peer = Peer::start(StatusCode::OK).await;
    let alertmanagers = Alertmanagers::default();
    let limits = QueueLimits::default();
    let stays = format!("  - static_configs: [{{targets: ['{silent_address}']}}]\n");
    put(&alertmanagers, &stays, limits).await;
    alertmanagers.send(&[alert("a")]);
    let comes = format!(
        "  - relabel_configs: [{{source_labels: [__address__], regex: 'gone:1', action: drop}}]\n    \
         static_configs: [{{targets: ['{}', 'gone:1']}}]\n{stays}",
        peer.address
    );
    let before = Arc::clone(&alertmanagers.inner.sets.read()[0]);
    put(&alertmanagers, &comes, limits).await;
    assert!(Arc::ptr_eq(&before, &alertmanagers.inner.sets.read()[1]));
    let url = |address: &str| format!("http://{address}/api/v2/alerts");
    assert_eq!(alertmanagers.active(), [url(&peer.address), url(&silent_address.to_string())]);
    assert_eq!(alertmanagers.dropped(), [url("gone:1")]);
    alertmanagers.send(&[alert("b")]);
    put(&alertmanagers, "    []\n", limits).await;
    assert!(alertmanagers.active().is_empty());
    assert!(!shown(&alertmanagers).contains("alertmanager=\""));
}

#[tokio::test]
async fn a_stop_sends_what_waits() {
    let peer = Peer::start(StatusCode::OK).await;
    let alertmanagers = Alertmanagers::default();
    let blocks = format!("  - static_configs: [{{targets: ['{}']}}]\n", peer.address);
    put(&alertmanagers, &blocks, QueueLimits { capacity: 100, batch: 1 }).await;
    let alerts: Vec<PostedAlert> = (0..50).map(|index| alert(&index.to_string())).collect();
    alertmanagers.send(&alerts);
    alertmanagers.stop().await;
    assert_eq!(peer.count(), 50);
}
