//! Results that are kept are those that would be computed, whatever happens to the data meanwhile.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use blockstore::{Disk, MemoryDisk, Retention};
use broker::{Broker, BrokerConfig};
use console::{About, CacheSettings, Console, Executor};
use governor::Governor;
use http::{Request, StatusCode};
use metricstore::{RetentionRule, RetentionRules};
use model::{
    BucketLayout, DEFAULT_TENANT, Histogram, IntegerHistogram, Labels, Limits, MatchOp, Matcher,
    MetricBatch, Span, TimeRange,
};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::Value;
use tower::ServiceExt;

use crate::source::BrokerData;

const BEGIN_MS: i64 = 1_700_000_000_000;
const MINUTE_MS: i64 = 60_000;
const KEPT_MS: i64 = 3 * 60 * MINUTE_MS;

/// The broker's clock.
static NOW_MS: AtomicI64 = AtomicI64::new(BEGIN_MS);

fn now_ms() -> i64 {
    NOW_MS.load(Ordering::SeqCst)
}

const QUERIES: [&str; 16] = [
    "m",
    "sum by (x) (rate(m_total[2m]))",
    "max_over_time(sum(m)[6m:45s])",
    "m offset 7m",
    "m offset -2m",
    "topk(2, m)",
    "count_over_time(m[10m]) / on (s) m",
    "rate(m[3m])",
    "absent(m{s=\"3\"})",
    "histogram_quantile(0.9, h)",
    "histogram_count(rate(h[4m])) or vector(0)",
    "time() - timestamp(m)",
    "rate(m_total[step() * 5])",
    "m @ end()",
    "limitk(1, sum by (s) (m))",
    "quantile(0.5, m) > bool scalar(avg(m))",
];

#[derive(Debug, Clone)]
enum Step {
    /// The clock goes on, and every series gets a sample each 15 s meanwhile.
    GoOn {
        minutes: i64,
    },
    /// Samples of one series at some time before.
    Late {
        series: usize,
        minutes_ago: i64,
        count: i64,
        value: i64,
    },
    Delete {
        series: Option<usize>,
        minutes_ago: i64,
        minutes: i64,
    },
    Clean,
    /// Time for a flush, a merge or an expiry.
    Wait,
    Ask {
        query: usize,
        minutes_ago: i64,
        minutes: i64,
        step: i64,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let ask = (0..QUERIES.len(), 0_i64..150, 1_i64..90, 0_i64..3).prop_map(
        |(query, minutes_ago, minutes, step)| {
            let minutes_ago = minutes_ago / 10 * 10;
            Step::Ask { query, minutes_ago, minutes, step: [15, 30, 60][step as usize] }
        },
    );
    prop_oneof![
        3 => (1_i64..20).prop_map(|minutes| Step::GoOn { minutes }),
        2 => (0_usize..4, 0_i64..170, 1_i64..30, 0_i64..100).prop_map(
            |(series, minutes_ago, count, value)| Step::Late { series, minutes_ago, count, value }
        ),
        1 => (proptest::option::of(0_usize..4), 0_i64..200, 1_i64..60).prop_map(
            |(series, minutes_ago, minutes)| Step::Delete { series, minutes_ago, minutes }
        ),
        1 => Just(Step::Clean),
        1 => Just(Step::Wait),
        12 => ask,
    ]
}

struct Store {
    broker: Broker,
    executor: Arc<Executor>,
    router: Router,
}

impl Store {
    fn open() -> Store {
        NOW_MS.store(BEGIN_MS, Ordering::SeqCst);
        let config = BrokerConfig {
            retention: Retention { time_ms: Some(KEPT_MS), size_bytes: None },
            retention_rules: RetentionRules::new(vec![RetentionRule {
                selector: vec![Matcher::new("s", MatchOp::Equal, "1").expect("valid")],
                kept_ms: KEPT_MS / 2,
            }]),
            flush_interval_ms: 20,
            shards: 2,
            ..BrokerConfig::new("unused".into(), now_ms)
        };
        let disk = Arc::new(MemoryDisk::new()) as Arc<dyn Disk>;
        let broker = Broker::open_on(disk, config, Arc::default()).expect("an empty disk");
        let data = Arc::new(BrokerData(broker.clone()));
        let executor = Executor::new(data, Limits::default(), Governor::unlimited(), 4, 2);
        let settings = CacheSettings { max_bytes: 64 << 20, recent: Duration::from_secs(30) };
        let executor = Arc::new(executor.with_cache(settings));
        let console = Console::new(Arc::clone(&executor), About::default(), now_ms, Box::new(|| 0));
        let routes = console::query_routes(&Arc::new(console));
        Store { broker, executor, router: net::auth::without_login(routes.into_router()) }
    }

    fn metric(&self, name: &str) -> f64 {
        let rows = self.executor.metrics();
        rows.iter().find(|row| row.0 == name).expect("it is there").3
    }

    fn write(&self, batch: &MetricBatch) {
        let (done, stored) = std::sync::mpsc::channel();
        self.broker.ingest(DEFAULT_TENANT, batch, move |result| {
            let _ = done.send(result.is_ok());
        });
        assert!(stored.recv().expect("answered"));
    }

    fn push(batch: &mut MetricBatch, series: usize, t_ms: i64, value: f64) {
        let of = |name: &str| {
            let (s, x) = (series.to_string(), if series.is_multiple_of(2) { "a" } else { "b" });
            Labels::from_pairs([("__name__", name), ("s", &s), ("x", x)]).expect("valid")
        };
        if series == 3 {
            let positive = vec![Span { offset: 0, len: 2 }];
            let layout = BucketLayout { schema: 0, positive, ..BucketLayout::default() };
            let mut histogram = IntegerHistogram::empty(layout.into());
            let count = (t_ms - BEGIN_MS).unsigned_abs() / 15_000 + 1;
            (histogram.count, histogram.sum) = (2 * count, value);
            histogram.positive = vec![count, count];
            batch.push_histogram(&of("h"), t_ms, None, Histogram::Integer(histogram));
        }
        batch.push(&of("m"), t_ms, value);
        batch.push(&of("m_total"), t_ms, ((t_ms - BEGIN_MS) / 1_000) as f64);
    }

    fn take(&self, step: &Step, runtime: &tokio::runtime::Runtime) -> Result<(), TestCaseError> {
        let now = now_ms();
        match *step {
            Step::GoOn { minutes } => {
                for tick in 1..=minutes * 4 {
                    let t_ms = now + tick * 15_000;
                    NOW_MS.store(t_ms, Ordering::SeqCst);
                    let mut batch = MetricBatch::default();
                    for series in 0..4 {
                        Self::push(&mut batch, series, t_ms, (t_ms / 15_000 % 97) as f64);
                    }
                    self.write(&batch);
                }
            }
            Step::Late { series, minutes_ago, count, value } => {
                let mut batch = MetricBatch::default();
                for n in 0..count {
                    let t_ms = now - minutes_ago * MINUTE_MS + n * 7_001;
                    Self::push(&mut batch, series, t_ms.min(now), value as f64);
                }
                self.write(&batch);
            }
            Step::Delete { series, minutes_ago, minutes } => {
                let matcher = |name, op, value: &str| Matcher::new(name, op, value).expect("valid");
                let mut selector = vec![matcher("__name__", MatchOp::Regex, "m|h|m_total")];
                if let Some(series) = series {
                    selector.push(matcher("s", MatchOp::Equal, &series.to_string()));
                }
                let start_ms = now - minutes_ago * MINUTE_MS;
                let range = TimeRange::new(start_ms, start_ms + minutes * MINUTE_MS);
                let done = self.broker.delete_series(DEFAULT_TENANT, &[selector], range);
                done.expect("there is room for a delete");
            }
            Step::Clean => self.broker.clean_deleted().expect("a disk in memory"),
            Step::Wait => std::thread::sleep(Duration::from_millis(60)),
            Step::Ask { query, minutes_ago, minutes, step } => {
                let end = now / 1_000 / 60 * 60 - minutes_ago * 60;
                let start = end - minutes * 60;
                let query = QUERIES[query];
                let encoded: String = query.bytes().map(|byte| format!("%{byte:02x}")).collect();
                let path = format!(
                    "/api/v1/query_range?query={encoded}&start={start}&end={end}&step={step}"
                );
                return self.same(&path, query, runtime);
            }
        }
        Ok(())
    }

    /// What is kept is what is computed. Samples may expire between the two answers, so a difference
    /// must last.
    fn same(
        &self,
        path: &str,
        query: &str,
        runtime: &tokio::runtime::Runtime,
    ) -> Result<(), TestCaseError> {
        let mut tries = 0;
        loop {
            let kept = runtime.block_on(self.ask(path));
            let computed = runtime.block_on(self.ask(&format!("{path}&nocache=1")));
            tries += 1;
            let remarks = |answer: &Value, of: &str| -> Vec<Value> {
                answer[of].as_array().cloned().unwrap_or_default()
            };
            let are_told = ["infos", "warnings"].iter().all(|of| {
                let told = remarks(&kept, of);
                remarks(&computed, of).iter().all(|remark| told.contains(remark))
            });
            if kept["data"] == computed["data"] && are_told {
                return Ok(());
            }
            if tries == 3 {
                prop_assert!(false, "{query}\n{path}\nkept {kept}\ncomputed {computed}");
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    async fn ask(&self, path: &str) -> Value {
        let request = Request::get(path).body(Body::empty()).expect("a request");
        let answer = self.router.clone().oneshot(request).await.expect("answers");
        assert_eq!(answer.status(), StatusCode::OK, "{path}");
        let body = axum::body::to_bytes(answer.into_body(), 64 << 20).await.expect("a body");
        serde_json::from_slice(&body).expect("JSON")
    }
}

#[test]
fn what_is_kept_is_what_is_computed() {
    let runtime = tokio::runtime::Runtime::new().expect("threads");
    let found = std::cell::RefCell::new([0.0; 2]);
    let steps = proptest::collection::vec(step(), 30..80);
    let mut runner = TestRunner::new(Config { cases: 12, ..Config::default() });
    let outcome = runner.run(&steps, |steps| {
        let store = Store::open();
        store.take(&Step::GoOn { minutes: 60 }, &runtime)?;
        for step in &steps {
            store.take(step, &runtime)?;
        }
        let mut found = found.borrow_mut();
        found[0] += store.metric("watchfire_console_cache_hit_steps_total");
        found[1] += store.metric("watchfire_console_cache_invalid_steps_total");
        store.broker.stop();
        Ok(())
    });
    outcome.unwrap_or_else(|error| panic!("{error}"));
    // Otherwise this proves nothing.
    let [hits, invalid] = found.into_inner();
    assert!(hits > 1_000.0 && invalid > 100.0, "{hits} steps found, {invalid} not used");
}
