//! The evaluator against a naive one, over random data; and on many threads against one.

mod naive;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use model::{Labels, STALE_NAN_BITS};
use naive::{Matrix, Naive, Stored};
use promql::{
    Columns, EvalError, EvalOptions, EvalTime, Evaluation, Inline, Parallel, QueryOutput,
    QueryValue, SelectRequest, SeriesSet, Source, SourceError, evaluate, parse,
};
use proptest::prelude::*;

/// Expressions both evaluators know. `m` has labels x and y, `n` has x.
const EXPRESSIONS: [&str; 58] = [
    "m",
    "{__name__=~'m|n'}",
    "m offset 20s",
    "m offset -15s",
    "m @ 60",
    "m @ start() offset -30s",
    "-m",
    "m * 2 + time()",
    "2 ^ m",
    "m > 3",
    "3 > m",
    "m == bool 3",
    "abs(m) > 2",
    "ceil(m / 3)",
    "m + n",
    "m + on (x) group_left n",
    "n * on (x) group_right m",
    "m / on (x, y) m",
    "m > ignoring (y) group_left n",
    "m >= bool on (x) group_left n",
    "m - ignoring (y) n",
    "m and n",
    "m and on (x) n",
    "m or n",
    "m or on (x) n",
    "n or on (x) m",
    "m unless on (x) n",
    "sum(m)",
    "sum by (x) (m)",
    "avg without (x) (m)",
    "min by (y) (m)",
    "max by (x) (m)",
    "count by (__name__) ({x=~'.+'})",
    "group by (y) (m)",
    "stdvar by (x) (m)",
    "quantile by (x) (0.3, m)",
    "topk(2, m)",
    "bottomk by (x) (1, m)",
    "rate(m[40s])",
    "increase(m[25s] offset 5s)",
    "delta(m[1m])",
    "sum by (x) (rate(m[40s]))",
    "idelta(m[40s])",
    "changes(m[1m])",
    "resets(m[1m])",
    "sum_over_time(m[30s])",
    "avg_over_time(m[30s])",
    "min_over_time(m[45s])",
    "max_over_time(m[45s])",
    "stdvar_over_time(m[50s])",
    "last_over_time(m[20s])",
    "first_over_time(m[20s] @ end())",
    "quantile_over_time(0.7, m[1m])",
    "deriv(m[1m])",
    "predict_linear(m[1m], 30)",
    "max_over_time(sum by (x) (m)[1m:7s])",
    "sum_over_time(rate(m[20s])[40s:10s] offset 10s)",
    "absent(m > 5) + scalar(sum(n))",
];

fn value() -> impl Strategy<Value = f64> {
    prop_oneof![
        20 => (0_i32..8).prop_map(f64::from),
        2 => -5.0..5.0_f64,
        1 => Just(f64::NAN),
        1 => Just(f64::INFINITY),
        2 => Just(f64::from_bits(STALE_NAN_BITS)),
    ]
}

fn samples() -> impl Strategy<Value = Vec<(i64, f64)>> {
    proptest::collection::vec((1_i64..30_000, value()), 0..20).prop_map(|steps| {
        steps
            .into_iter()
            .scan(0, |t_ms, (gap, value)| {
                *t_ms += gap;
                Some((*t_ms, value))
            })
            .collect()
    })
}

fn series() -> impl Strategy<Value = Vec<Stored>> {
    let labels = ("m|n", 0_u8..3, 0_u8..3).prop_map(|(name, x, y)| {
        let (x, y) = (x.to_string(), y.to_string());
        let mut pairs = vec![("__name__", name.as_str()), ("x", x.as_str())];
        if name == "m" {
            pairs.push(("y", y.as_str()));
        }
        Labels::from_pairs(pairs).expect("names differ")
    });
    proptest::collection::btree_map(labels, samples(), 0..8)
        .prop_map(|series| series.into_iter().collect())
}

/// Series in memory, sorted by labels.
struct Store(Arc<Vec<Stored>>);

struct Selected {
    series: Arc<Vec<Stored>>,
    wanted: Vec<usize>,
    start_ms: i64,
    end_ms: i64,
}

impl Source for Store {
    fn select(&self, request: &SelectRequest<'_>) -> Result<Arc<dyn SeriesSet>, SourceError> {
        let matches = |labels: &Labels| {
            request.matchers.iter().all(|m| m.matches(labels.get(&m.name).unwrap_or("")))
        };
        let wanted = (0..self.0.len()).filter(|index| matches(&self.0[*index].0)).collect();
        Ok(Arc::new(Selected {
            series: Arc::clone(&self.0),
            wanted,
            start_ms: request.start_ms,
            end_ms: request.end_ms,
        }))
    }
}

impl SeriesSet for Selected {
    fn len(&self) -> usize {
        self.wanted.len()
    }

    fn labels(&self, index: usize) -> &Labels {
        &self.series[self.wanted[index]].0
    }

    fn read(&self, index: usize, out: &mut Columns) -> Result<(), SourceError> {
        for &(t_ms, value) in &self.series[self.wanted[index]].1 {
            if (self.start_ms..=self.end_ms).contains(&t_ms) {
                out.timestamps_ms.push(t_ms);
                out.values.push(value);
            }
        }
        Ok(())
    }
}

/// Runs tasks on three threads, whichever comes first.
struct Threads;

impl Parallel for Threads {
    fn run(&self, count: usize, task: &(dyn Fn(usize) + Sync)) {
        let next = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    loop {
                        let index = next.fetch_add(1, Ordering::Relaxed);
                        if index >= count {
                            return;
                        }
                        task(index);
                    }
                });
            }
        });
    }

    fn width(&self) -> usize {
        3
    }
}

fn run_with(
    store: &Store,
    query: &str,
    time: EvalTime,
    max_samples: usize,
    parallel: &dyn Parallel,
    cancelled: bool,
) -> Result<QueryOutput, EvalError> {
    let expr = parse(query).expect("the tests' queries are PromQL");
    let cancelled = AtomicBool::new(cancelled);
    let options = EvalOptions {
        lookback_ms: 60_000,
        default_subquery_step_ms: 60_000,
        max_samples,
        memory: None,
        cancelled: &cancelled,
        parallel,
        clock: None,
        use_start_timestamps: true,
        type_and_unit_labels: false,
    };
    evaluate(&Evaluation { expr: &expr, time, source: store, options })
}

fn run(store: &Store, query: &str, time: EvalTime) -> Result<QueryOutput, EvalError> {
    run_with(store, query, time, 1_000_000, &Inline, false)
}

fn matrix(output: QueryOutput) -> Matrix {
    let QueryValue::Matrix(series) = output.value else { panic!("a range query yields a matrix") };
    series
        .into_iter()
        .map(|s| (s.labels, s.timestamps_ms.into_iter().zip(s.values).collect()))
        .collect()
}

/// Equal but for rounding: sums are taken in another order, and small differences of large
/// numbers keep few digits.
fn close(a: f64, b: f64, tolerance: f64) -> bool {
    a.to_bits() == b.to_bits()
        || (a.is_nan() && b.is_nan())
        || a == b
        || (a - b).abs() <= tolerance * (1.0 + a.abs().max(b.abs()))
}

/// A line through samples a millisecond apart, read a minute later, keeps some five digits, in Prometheus as well:
/// its slope is a quotient of differences between numbers that agree in their first ten.
fn tolerance(query: &str) -> f64 {
    let is_regression = query.contains("predict_linear") || query.contains("deriv");
    if is_regression { 1e-4 } else { 1e-9 }
}

fn same(a: &Matrix, b: &Matrix, tolerance: f64) -> bool {
    a.len() == b.len()
        && a.iter().zip(b).all(|((la, pa), (lb, pb))| {
            la == lb
                && pa.len() == pb.len()
                && pa.iter().zip(pb).all(|(a, b)| a.0 == b.0 && close(a.1, b.1, tolerance))
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn equals_the_naive_evaluator(
        series in series(),
        start_ms in -30_000_i64..150_000,
        step_ms in 1_000_i64..40_000,
        steps in 0_i64..7,
    ) {
        let store = Store(Arc::new(series));
        let end_ms = start_ms + step_ms * steps;
        let time = EvalTime::Range { start_ms, end_ms, step_ms };
        for query in EXPRESSIONS {
            let expr = parse(query).expect("the tests' queries are PromQL");
            let naive = Naive { series: &store.0, start_ms, end_ms, lookback_ms: 60_000 };
            let expected = naive.range_query(&expr, step_ms);
            match (run(&store, query, time).map(matrix), expected) {
                (Ok(got), Ok(expected)) => prop_assert!(
                    same(&got, &expected, tolerance(query)), "{query}:\n got {got:?}\nwant {expected:?}"
                ),
                (Err(_), Err(_)) => {}
                (got, expected) => {
                    prop_assert!(false, "{query}:\n got {got:?}\nwant {expected:?}");
                }
            }
        }
    }

    #[test]
    fn no_time_is_too_extreme(
        series in series(),
        time in prop_oneof![Just(i64::MIN), Just(i64::MAX), any::<i64>()],
        at in prop_oneof![Just(i64::MIN), Just(i64::MAX)],
    ) {
        let store = Store(Arc::new(series));
        for query in EXPRESSIONS {
            // Errors are fine, panics are not.
            let _ = run(&store, query, EvalTime::Instant(time));
            let (start_ms, end_ms) = (time.min(at), time.max(at));
            for step_ms in [i64::MAX, 1 << 60, 1] {
                let _ = run(&store, query, EvalTime::Range { start_ms, end_ms, step_ms });
            }
        }
    }
}

/// Many series with values that do not add up exactly.
fn many() -> Store {
    let series: BTreeMap<Labels, Vec<(i64, f64)>> = (0..1_000_i64)
        .map(|index| {
            let (x, y, id) = ((index % 7).to_string(), (index % 3).to_string(), index.to_string());
            let name = if index % 5 == 0 { "n" } else { "m" };
            let pairs = [("__name__", name), ("id", &id), ("x", &x), ("y", &y)];
            let labels = Labels::from_pairs(pairs).expect("names differ");
            let samples = (0..40)
                .map(|step| {
                    let value = ((index * 37 + step * 101) % 1_009) as f64 / 7.0;
                    (step * 5_000 + index % 900, value * 10_f64.powi((index % 9) as i32))
                })
                .collect();
            (labels, samples)
        })
        .collect();
    Store(Arc::new(series.into_iter().collect()))
}

#[test]
fn threads_do_not_change_a_bit() {
    let store = many();
    let time = EvalTime::Range { start_ms: 30_000, end_ms: 190_000, step_ms: 7_000 };
    let more = [
        "sum by (x) (rate(m[40s]) * 1e10)",
        "avg(m)",
        "stddev by (y) (m)",
        "topk by (x) (3, m)",
        "limitk by (x) (2, m)",
        "limit_ratio(0.3, m)",
        "count_values('v', ceil(m))",
        "quantile by (x, y) (0.9, rate(m[30s]))",
        "sort(m)",
        "label_replace(m, 'z', '$1', 'x', '(.)')",
        "m / on (id) m",
    ];
    for query in EXPRESSIONS.iter().chain(&more) {
        let inline = run(&store, query, time);
        let threads = run_with(&store, query, time, 1_000_000, &Threads, false);
        let bits = |output: &QueryOutput| format!("{:?} {:?}", output.value, output.annotations);
        match (inline, threads) {
            (Ok(inline), Ok(threads)) => {
                assert_eq!(bits(&inline), bits(&threads), "{query}");
                assert_eq!(inline.stats.samples_read, threads.stats.samples_read);
            }
            (inline, threads) => assert_eq!(inline, threads, "{query}"),
        }
    }
}

#[test]
fn limits_name_themselves() {
    let store = many();
    let time = EvalTime::Range { start_ms: 0, end_ms: 190_000, step_ms: 1_000 };
    for query in ["m", "m * m", "max_over_time(m[1m:1s])", "quantile(0.5, m)"] {
        let error = run_with(&store, query, time, 10_000, &Inline, false).expect_err("too many");
        let EvalError::Limit(text) = error else { panic!("{query}: {error:?}") };
        assert!(
            text.starts_with(
                "query processing would load too many samples into memory in query execution"
            ) && text.contains("10000")
                && text.contains("raise the limit"),
            "{text}"
        );
    }
    // An aggregation holds its groups only.
    let output = run_with(&store, "sum by (x) (rate(m[1m]))", time, 10_000, &Inline, false);
    let output = output.expect("folding needs little room");
    assert!(output.stats.peak_samples < 800 * 191 / 10, "{:?}", output.stats);
    assert_eq!(output.stats.series_selected, 800);
    assert_eq!(output.stats.samples_read, 800 * 38);
}

#[test]
fn a_cancelled_query_stops() {
    let store = many();
    for query in ["m", "sum(rate(m[1m]))", "1 + 1", "m and m"] {
        let cancelled = run_with(&store, query, EvalTime::Instant(0), 1_000, &Inline, true);
        assert_eq!(cancelled, Err(EvalError::Cancelled), "{query}");
    }
}

#[test]
fn a_query_stops_in_the_middle_of_one_series() {
    // Ten thousand windows of as many samples: minutes if nobody looked at the flag in between.
    let store = many();
    let cancelled = AtomicBool::new(false);
    let expr = parse("quantile_over_time(0.5, vector(1)[3h:1s])").expect("valid");
    let evaluation = Evaluation {
        expr: &expr,
        time: EvalTime::Range { start_ms: 0, end_ms: 10_000_000, step_ms: 1_000 },
        source: &store,
        options: EvalOptions {
            lookback_ms: 300_000,
            default_subquery_step_ms: 60_000,
            max_samples: 1_000_000,
            memory: None,
            cancelled: &cancelled,
            parallel: &Inline,
            clock: None,
            use_start_timestamps: true,
            type_and_unit_labels: false,
        },
    };
    std::thread::scope(|scope| {
        let query = scope.spawn(|| evaluate(&evaluation));
        std::thread::sleep(std::time::Duration::from_millis(100));
        cancelled.store(true, std::sync::atomic::Ordering::Relaxed);
        let told = std::time::Instant::now();
        let outcome = query.join().expect("does not panic");
        assert_eq!(outcome.expect_err("it cannot be done yet"), EvalError::Cancelled);
        assert!(told.elapsed() < std::time::Duration::from_secs(1), "{:?}", told.elapsed());
    });
}
