//! Results that are kept are those that would be computed, whatever happens to the data meanwhile.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use blockstore::{Disk, MemoryDisk, Retention};
use broker::{Broker, BrokerConfig, RollupTier};
use console::{About, CacheSettings, Console, Executor};
use governor::Governor;
use http::{Request, StatusCode};
use metricstore::{RetentionRule, RetentionRules};
use model::{
    BucketLayout, DEFAULT_TENANT, Histogram, IntegerHistogram, Labels, Limits, MatchOp, Matcher,
    MetricBatch, TimeRange,
};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::Value;
use tower::ServiceExt;

use crate::source::BrokerData;

pub(super) const BEGIN_MS: i64 = 1_700_000_000_000;
pub(super) const MINUTE_MS: i64 = 60_000;
pub(super) const HOUR_MS: i64 = 60 * MINUTE_MS;
const KEPT_MS: i64 = 3 * HOUR_MS;

/// The broker's clock, one of each test.
static NOW_MS: AtomicI64 = AtomicI64::new(BEGIN_MS);
static DAYS_MS: AtomicI64 = AtomicI64::new(BEGIN_MS);
static RULES_MS: AtomicI64 = AtomicI64::new(BEGIN_MS);

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

/// Of days, most of which are rollups.
const QUERIES_OF_DAYS: [&str; 12] = [
    "increase(m_total[10m])",
    "sum by (x) (rate(m_total[1h]))",
    "max_over_time(m[20m])",
    "sum(count_over_time(m[2h]))",
    "avg_over_time(m[1h])",
    "m",
    "rate(m_total[7m])",
    "m offset 13m",
    "resets(m[1h])",
    "sum(m) + on () group_left () count(m_total)",
    "histogram_count(h)",
    "min_over_time(sum(m)[1h:10m])",
];

/// Whose clock and which loads.
#[derive(Debug, Clone, Copy)]
pub(super) struct Span {
    pub(super) clock: &'static AtomicI64,
    pub(super) queries: &'static [&'static str],
    /// Time between two samples of a series.
    pub(super) tick_ms: i64,
    /// In how many minutes everything happens.
    pub(super) minutes: i64,
    pub(super) steps: [i64; 3],
}

const OF_HOURS: Span =
    Span { clock: &NOW_MS, queries: &QUERIES, tick_ms: 15_000, minutes: 180, steps: [15, 30, 60] };

pub(super) const OF_DAYS: Span = Span {
    clock: &DAYS_MS,
    queries: &QUERIES_OF_DAYS,
    tick_ms: 120_000,
    minutes: 80 * 60,
    steps: [600, 3_600, 420],
};

#[derive(Debug, Clone)]
pub(super) enum Step {
    /// The clock goes on, and every series gets samples meanwhile.
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
    /// Some bytes of a block are others.
    Damage {
        block: usize,
    },
    /// Time for a flush, a merge or an expiry.
    Wait,
    Ask {
        query: usize,
        minutes_ago: i64,
        minutes: i64,
        step: i64,
    },
}

pub(super) fn step(span: Span) -> BoxedStrategy<Step> {
    let (queries, minutes) = (span.queries.len(), span.minutes);
    let ask = (0..queries, 0..minutes * 5 / 6, 1..minutes / 2, 0_usize..3).prop_map(
        move |(query, minutes_ago, minutes, step)| {
            let minutes_ago = minutes_ago / 10 * 10;
            Step::Ask { query, minutes_ago, minutes, step: span.steps[step] }
        },
    );
    let late = (0_usize..4, 0..minutes * 17 / 18, 1_i64..30, 0_i64..100).prop_map(
        |(series, minutes_ago, count, value)| Step::Late { series, minutes_ago, count, value },
    );
    let delete = (proptest::option::of(0_usize..4), 0..minutes * 10 / 9, 1..minutes / 3)
        .prop_map(|(series, minutes_ago, minutes)| Step::Delete { series, minutes_ago, minutes });
    prop_oneof![
        6 => (1..minutes / 9).prop_map(|minutes| Step::GoOn { minutes }),
        4 => late,
        2 => delete,
        2 => Just(Step::Clean),
        2 => Just(Step::Wait),
        1 => (0_usize..100).prop_map(|block| Step::Damage { block }),
        24 => ask,
    ]
    .boxed()
}

pub(super) struct Store {
    span: Span,
    disk: MemoryDisk,
    pub(super) broker: Broker,
    executor: Arc<Executor>,
    router: Router,
}

impl Store {
    /// For 3 hours, with a rule for some series.
    fn of_hours() -> Store {
        let now_ms = || NOW_MS.load(Ordering::SeqCst);
        let config = BrokerConfig {
            retention: Retention { time_ms: Some(KEPT_MS), size_bytes: None },
            retention_rules: RetentionRules::new(vec![RetentionRule {
                selector: vec![Matcher::new("s", MatchOp::Equal, "1").expect("valid")],
                kept_ms: KEPT_MS / 2,
            }]),
            ..BrokerConfig::new("unused".into(), now_ms)
        };
        Store::open(OF_HOURS, config)
    }

    /// For more than three days, most of which become rollups of ten minutes and then of hours.
    fn of_days() -> Store {
        Store::of_days_by(OF_DAYS, || DAYS_MS.load(Ordering::SeqCst))
    }

    pub(super) fn of_days_by(span: Span, now_ms: fn() -> i64) -> Store {
        let tier = |resolution_ms, hours| RollupTier { resolution_ms, kept_ms: hours * HOUR_MS };
        let config = BrokerConfig {
            retention: Retention { time_ms: Some(5 * HOUR_MS), size_bytes: None },
            rollups: vec![tier(10 * MINUTE_MS, 26), tier(HOUR_MS, 75)],
            ..BrokerConfig::new("unused".into(), now_ms)
        };
        Store::open(span, config)
    }

    fn open(span: Span, config: BrokerConfig) -> Store {
        span.clock.store(BEGIN_MS, Ordering::SeqCst);
        let config = BrokerConfig { flush_interval_ms: 20, shards: 2, ..config };
        let (now_ms, disk) = (config.now_ms, MemoryDisk::new());
        let on_disk = Arc::new(disk.clone()) as Arc<dyn Disk>;
        let broker = Broker::open_on(on_disk, config, Arc::default()).expect("an empty disk");
        let data = Arc::new(BrokerData(broker.clone()));
        let executor = Executor::new(data, Limits::default(), Governor::unlimited(), 4, 2);
        let settings = CacheSettings { max_bytes: 64 << 20, recent: Duration::from_secs(30) };
        let executor = Arc::new(executor.with_cache(settings));
        let console = Console::new(Arc::clone(&executor), About::default(), now_ms, Box::new(|| 0));
        let routes = console::query_routes(&Arc::new(console));
        Store {
            span,
            disk,
            broker,
            executor,
            router: net::auth::without_login(routes.into_router()),
        }
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
            let positive = vec![model::Span { offset: 0, len: 2 }];
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

    pub(super) fn take(
        &self,
        step: &Step,
        runtime: &tokio::runtime::Runtime,
    ) -> Result<(), TestCaseError> {
        let Span { clock, tick_ms, .. } = self.span;
        let now = clock.load(Ordering::SeqCst);
        match *step {
            Step::GoOn { minutes } => {
                let ticks: Vec<i64> = (1..=minutes * MINUTE_MS / tick_ms).collect();
                for some in ticks.chunks(4) {
                    let mut batch = MetricBatch::default();
                    for tick in some {
                        let t_ms = now + tick * tick_ms;
                        clock.store(t_ms, Ordering::SeqCst);
                        for series in 0..4 {
                            Self::push(&mut batch, series, t_ms, (t_ms / 15_000 % 97) as f64);
                        }
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
            Step::Damage { block } => {
                let metas = self.broker.block_metas();
                if let Some((meta, _)) = metas.get(block % metas.len().max(1)) {
                    // It may be merged away meanwhile, and then nothing is damaged.
                    self.disk.damage_if_there(&meta.key(), |bytes| {
                        let middle = bytes.len() / 3;
                        bytes[8..middle].fill(0x5a);
                    });
                }
            }
            Step::Clean => self.broker.clean_deleted().expect("a disk in memory"),
            Step::Wait => std::thread::sleep(Duration::from_millis(60)),
            Step::Ask { query, minutes_ago, minutes, step } => {
                let (path, query) = self.path(query, (minutes_ago, minutes, step));
                return self.same(&path, query, runtime);
            }
        }
        Ok(())
    }

    /// Where a query over some minutes is asked, and the query.
    pub(super) fn path(
        &self,
        query: usize,
        (minutes_ago, minutes, step): (i64, i64, i64),
    ) -> (String, &'static str) {
        let now = self.span.clock.load(Ordering::SeqCst);
        // Of days mostly in whole windows.
        let whole = if step % 600 == 0 { step } else { 60 };
        let end = (now / 1_000 - minutes_ago * 60) / whole * whole;
        let start = (end - minutes * 60) / whole * whole;
        let query = self.span.queries[query];
        let encoded: String = query.bytes().map(|byte| format!("%{byte:02x}")).collect();
        let path =
            format!("/api/v1/query_range?query={encoded}&start={start}&end={end}&step={step}");
        (path, query)
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
            let kept = runtime.block_on(ask(&self.router, path));
            let computed = runtime.block_on(ask(&self.router, &format!("{path}&nocache=1")));
            let (Some(kept), Some(computed)) = (kept, computed) else {
                // A block was found damaged, and is set aside; it is a fault no more than once.
                tries += 1;
                prop_assert!(tries < 100, "{query}\n{path} fails");
                std::thread::sleep(Duration::from_millis(10));
                continue;
            };
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
            if tries >= 3 {
                prop_assert!(false, "{query}\n{path}\nkept {kept}\ncomputed {computed}");
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

/// The answer, unless a block was damaged.
pub(super) async fn ask(router: &Router, path: &str) -> Option<Value> {
    let request = Request::get(path).body(Body::empty()).expect("a request");
    let answer = router.clone().oneshot(request).await.expect("answers");
    let status = answer.status();
    let body = axum::body::to_bytes(answer.into_body(), 64 << 20).await.expect("a body");
    let text = String::from_utf8_lossy(&body);
    if status != StatusCode::OK && text.contains("corrupt") {
        return None;
    }
    assert_eq!(status, StatusCode::OK, "{path}: {text}");
    Some(serde_json::from_slice(&body).expect("JSON"))
}

fn check(open: fn() -> Store, span: Span, begin_minutes: i64, cases: u32) -> [f64; 3] {
    let runtime = tokio::runtime::Runtime::new().expect("threads");
    let found = std::cell::RefCell::new([0.0; 3]);
    let steps = proptest::collection::vec(step(span), 30..80);
    let mut runner = TestRunner::new(Config { cases, ..Config::default() });
    let outcome = runner.run(&steps, |steps| {
        let store = open();
        store.take(&Step::GoOn { minutes: begin_minutes }, &runtime)?;
        for step in &steps {
            store.take(step, &runtime)?;
        }
        let mut found = found.borrow_mut();
        found[0] += store.metric("watchfire_console_cache_hit_steps_total");
        found[1] += store.metric("watchfire_console_cache_invalid_steps_total");
        let thinned = store.broker.metrics().into_iter();
        found[2] += thinned
            .filter(|row| row.name == "watchfire_broker_thinned_blocks_total")
            .map(|row| row.value)
            .sum::<f64>();
        store.broker.stop();
        Ok(())
    });
    outcome.unwrap_or_else(|error| panic!("{error}"));
    found.into_inner()
}

#[test]
fn what_is_kept_is_what_is_computed() {
    // Otherwise this proves nothing.
    let [hits, invalid, _] = check(Store::of_hours, OF_HOURS, 60, 12);
    assert!(hits > 200.0 && invalid > 50.0, "{hits} steps found, {invalid} not used");
}

#[test]
fn what_is_kept_of_days_that_become_rollups_is_what_is_computed() {
    // Steps are of hours mostly, so there are few of them.
    let [hits, invalid, thinned] = check(Store::of_days, OF_DAYS, 45 * 60, 8);
    assert!(hits > 50.0 && invalid > 50.0, "{hits} steps found, {invalid} not used");
    assert!(thinned > 8.0, "{thinned} blocks became rollups");
}

#[test]
fn what_is_kept_follows_rules_of_retention_that_change() {
    let runtime = tokio::runtime::Runtime::new().expect("threads");
    let now_ms = || RULES_MS.load(Ordering::SeqCst);
    let span = Span { clock: &RULES_MS, ..OF_HOURS };
    let store = Store::open(span, BrokerConfig::new("unused".into(), now_ms));
    let go_on = Step::GoOn { minutes: 60 };
    store.take(&go_on, &runtime).expect("stored");
    let ask = |store: &Store| {
        for query in 0..QUERIES.len() {
            let step = Step::Ask { query, minutes_ago: 0, minutes: 50, step: 60 };
            store.take(&step, &runtime).unwrap_or_else(|error| panic!("{error}"));
        }
    };
    ask(&store);
    ask(&store);
    let hits = || store.metric("watchfire_console_cache_hit_steps_total");
    assert!(hits() > 50.0, "nothing is kept");
    // Hidden at once, shown again at once, and another series' turn.
    for (series, minutes) in [("1", 10), ("1", 170), ("2", 20)] {
        let before = hits();
        let series = Matcher::new("s", MatchOp::Equal, series).expect("valid");
        let rule = RetentionRule { selector: vec![series], kept_ms: minutes * MINUTE_MS };
        let mut settings = store.broker.adjustable();
        settings.retention_rules = RetentionRules::new(vec![rule]);
        let prepared = store.broker.prepare_settings(settings).expect("nothing may fail");
        store.broker.put_settings(prepared);
        ask(&store);
        assert_eq!(hits(), before, "what was kept before the rules changed is used");
    }
    store.broker.stop();
}
