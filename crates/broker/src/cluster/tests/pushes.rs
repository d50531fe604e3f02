//! Pushed metrics, at any broker.

use axum::Router;
use axum::body::{Body, to_bytes};
use http::Request;
use model::is_stale_nan;
use tower::ServiceExt;

use super::*;
use crate::Pushgateway;

const EVERY: Duration = Duration::from_millis(400);

struct Gateway {
    running: Running,
    pushes: Arc<Pushgateway>,
    router: Router,
}

impl Gateway {
    fn start(runtime: &Runtime, site: &Arc<Site>, id: u64) -> Gateway {
        let running = start(runtime, site, id, &MemoryDisk::new());
        let _entered = runtime.enter();
        let pushes = Pushgateway::start(running.broker.clone(), EVERY);
        let router = net::auth::without_login(crate::pushgateway_routes(&pushes).into_router());
        Gateway { running, pushes, router }
    }

    fn call(&self, runtime: &Runtime, method: &str, path: &str, body: &str) -> String {
        let request = Request::builder().method(method).uri(path).body(Body::from(body.to_owned()));
        let request = request.expect("a request");
        runtime.block_on(async {
            let response = self.router.clone().oneshot(request).await.expect("answers");
            let status = response.status();
            let body = to_bytes(response.into_body(), 1 << 20).await.expect("a body");
            let body = String::from_utf8(body.to_vec()).expect("text");
            assert!(status.is_success(), "{method} {path}: {status} {body}");
            body
        })
    }

    /// The samples of a metric's only series, with `None` for its ends.
    fn samples(&self, metric: &str) -> Vec<(i64, Option<f64>)> {
        let matcher = Matcher::new("__name__", MatchOp::Equal, metric).expect("no regex");
        let reader = self.running.broker.reader(DEFAULT_TENANT);
        let selected = reader.select(&[matcher], TimeRange::all()).expect("readable");
        assert!(selected.labels().len() <= 1);
        let (mut times, mut values) = (Vec::new(), Vec::new());
        if !selected.labels().is_empty() {
            selected.read(0, &mut times, &mut values).expect("readable");
        }
        let values = values.into_iter().map(|value| (!is_stale_nan(value)).then_some(value));
        times.into_iter().zip(values).collect()
    }

    fn last(&self, metric: &str) -> Option<f64> {
        self.samples(metric).last().and_then(|(_, value)| *value)
    }

    fn stored(&self) -> f64 {
        let rows = self.pushes.rows();
        let row = rows.iter().find(|row| row.name == "watchfire_pushgateway_stored_groups");
        row.expect("it is told").value
    }
}

fn wait(what: &str, seconds: u64, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(seconds);
    while !is_so() {
        assert!(Instant::now() < end, "{what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn any_broker_takes_pushes_and_one_stores_a_group_until_it_dies() {
    let (runtime, site) = (runtime(), Arc::<Site>::default());
    let mut brokers: Vec<Gateway> = (1..=3).map(|id| Gateway::start(&runtime, &site, id)).collect();
    let [one, two, three] = &brokers[..] else { panic!("three were started") };
    wait("all are on the circle", 10, || {
        let sees_all = |one: &Gateway| {
            let (ring, _) = one.running.broker.cluster_ring().expect("a cluster");
            ring.brokers().len() == 3
        };
        brokers.iter().all(sees_all)
    });
    one.call(&runtime, "PUT", "/metrics/job/j", "a 1\nb 2\n");
    assert_eq!((three.last("a"), three.last("b")), (Some(1.0), Some(2.0)));
    // Another broker replaces the group: it knows what ends by that.
    two.call(&runtime, "PUT", "/metrics/job/j", "a 5\n");
    two.call(&runtime, "PUT", "/metrics/job/short", "c 1\n");
    one.call(&runtime, "DELETE", "/metrics/job/short", "");
    let text = three.call(&runtime, "GET", "/pushgateway/metrics", "");
    assert!(text.contains("a{job=\"j\",instance=\"\"} 5\n") && !text.contains("short"), "{text}");
    let ticks = 8;
    std::thread::sleep(EVERY);
    let before = three.samples("a").len();
    std::thread::sleep(EVERY * ticks);
    let samples = three.samples("a");
    let more = samples.len() - before;
    assert!((ticks as usize - 2..=ticks as usize + 1).contains(&more), "{more}: {samples:?}");
    let from = samples.iter().position(|(_, value)| *value == Some(5.0)).expect("it was pushed");
    assert!(samples[from..].iter().all(|(_, value)| *value == Some(5.0)), "{samples:?}");
    for ended in ["b", "c"] {
        assert_eq!(three.last(ended), None, "{ended}: {:?}", three.samples(ended));
    }
    let stored: Vec<f64> = brokers.iter().map(Gateway::stored).collect();
    assert_eq!(stored.iter().sum::<f64>(), 1.0, "{stored:?}");
    // The one that stores it dies: another goes on.
    let owner = stored.iter().position(|stored| *stored == 1.0).expect("one does");
    let dead = brokers.remove(owner);
    dead.running.kill(&runtime, &site, owner as u64 + 1);
    wait("another stores it", 20, || brokers.iter().map(Gateway::stored).sum::<f64>() == 1.0);
    let count = brokers[0].samples("a").len();
    wait("there are new samples", 5, || brokers[0].samples("a").len() > count);
    assert_eq!(brokers[0].last("a"), Some(5.0));
    // A delete at the one that did not take the push, nor stores it.
    let other = usize::from(brokers[0].stored() == 1.0);
    brokers[other].call(&runtime, "DELETE", "/metrics/job/j", "");
    for broker in &brokers {
        assert_eq!(broker.last("a"), None);
        assert_eq!(broker.call(&runtime, "GET", "/pushgateway/metrics", ""), "");
    }
    std::thread::sleep(3 * EVERY);
    assert_eq!(brokers[1 - other].last("a"), None, "it does not come back");
}
