//! Functions over ranges yield of rows of whole windows what they yield of the samples.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use model::{Labels, RollupRow};
use promql::{
    Columns, EvalOptions, EvalTime, Evaluation, Hints, Inline, QueryValue, SelectRequest,
    SeriesSet, Source, SourceError, evaluate, parse,
};

const RESOLUTION_MS: i64 = 300_000;

/// One series of a counter with resets, gaps, staleness markers and odd values.
struct Store {
    samples: Vec<(i64, f64)>,
    /// Whether rows are given where the hints allow it.
    gives_rows: bool,
    given: AtomicUsize,
}

struct Selected {
    labels: Labels,
    columns: Columns,
}

impl Source for Store {
    fn select(&self, request: &SelectRequest<'_>) -> Result<Arc<dyn SeriesSet>, SourceError> {
        let Hints { window_ms, .. } = request.hints;
        let in_range =
            |sample: &&(i64, f64)| (request.start_ms..=request.end_ms).contains(&sample.0);
        let mut columns = Columns::default();
        let fits = window_ms != 0 && window_ms % RESOLUTION_MS == 0;
        if fits {
            // What is asked for consists of whole windows.
            assert_eq!((request.start_ms - 1) % window_ms, 0);
            assert_eq!(request.end_ms % window_ms, 0);
        }
        if self.gives_rows && fits {
            self.given.fetch_add(1, Ordering::Relaxed);
            for &(t_ms, value) in self.samples.iter().filter(in_range) {
                add(&mut columns.rows, t_ms, value);
            }
            columns.timestamps_ms.extend(columns.rows.iter().map(|row| row.last_ms));
            columns.values.extend(columns.rows.iter().map(|row| row.last));
        } else {
            for &(t_ms, value) in self.samples.iter().filter(in_range) {
                columns.timestamps_ms.push(t_ms);
                columns.values.push(value);
            }
        }
        let labels = Labels::from_pairs([("__name__", "m_total")]).expect("valid");
        Ok(Arc::new(Selected { labels, columns }))
    }
}

fn add(rows: &mut Vec<RollupRow>, t_ms: i64, value: f64) {
    if model::is_stale_nan(value) {
        return;
    }
    let window = |t_ms: i64| (t_ms - 1).div_euclid(RESOLUTION_MS);
    match rows.last_mut() {
        Some(row) if window(row.last_ms) == window(t_ms) => {
            if value < row.last {
                row.resets += 1;
                row.before_resets += row.last;
            }
            row.count += 1;
            row.sum += value;
            (row.last_ms, row.last) = (t_ms, value);
            (row.min, row.max) = (row.min.min(value), row.max.max(value));
        }
        _ => rows.push(RollupRow::of(t_ms, value)),
    }
}

impl SeriesSet for Selected {
    fn len(&self) -> usize {
        1
    }

    fn labels(&self, _: usize) -> &Labels {
        &self.labels
    }

    fn read(&self, _: usize, out: &mut Columns) -> Result<(), SourceError> {
        *out = self.columns.clone();
        Ok(())
    }
}

fn samples(seed: u64) -> Vec<(i64, f64)> {
    let mut state = seed;
    let mut below = |end: u64| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % end
    };
    let (mut t_ms, mut value, mut all) = (0, 0.0, Vec::new());
    while t_ms < 40 * RESOLUTION_MS {
        // Often on the very border of a window.
        t_ms += [15_000, 30_000, 15_001, 60_000][below(4) as usize];
        if below(100) == 0 {
            t_ms += 1_500_000;
        }
        if below(5) == 0 {
            t_ms = (t_ms + 14_999) / 15_000 * 15_000;
        }
        value = match below(60) {
            0 => 0.0,
            1 => value / 2.0,
            2 => f64::from_bits(model::STALE_NAN_BITS),
            _ if value.is_nan() => 3.25,
            _ => value + below(1_000) as f64 / 8.0,
        };
        all.push((t_ms, value));
    }
    all
}

fn run(store: &Store, query: &str, time: EvalTime) -> (QueryValue, Vec<String>) {
    let expr = parse(query).expect("a query");
    let cancelled = AtomicBool::new(false);
    let options = EvalOptions {
        lookback_ms: 300_000,
        default_subquery_step_ms: 60_000,
        max_samples: 1 << 20,
        memory: None,
        cancelled: &cancelled,
        parallel: &Inline,
        clock: None,
        use_start_timestamps: false,
        type_and_unit_labels: false,
    };
    let output = evaluate(&Evaluation { expr: &expr, time, source: store, options }).expect("runs");
    let annotations = output.annotations.iter().map(|note| note.render(query)).collect();
    (output.value, annotations)
}

fn values(value: QueryValue) -> Vec<(i64, f64)> {
    match value {
        QueryValue::Matrix(series) => series
            .into_iter()
            .flat_map(|one| one.timestamps_ms.into_iter().zip(one.values))
            .collect(),
        QueryValue::Vector(samples) => {
            samples.into_iter().map(|sample| (sample.t_ms, sample.value)).collect()
        }
        other => panic!("{other:?}"),
    }
}

const FUNCTIONS: [&str; 15] = [
    "rate",
    "increase",
    "delta",
    "resets",
    "sum_over_time",
    "count_over_time",
    "avg_over_time",
    "min_over_time",
    "max_over_time",
    "first_over_time",
    "last_over_time",
    "present_over_time",
    "ts_of_first_over_time",
    "ts_of_last_over_time",
    "absent_over_time",
];

#[test]
fn rows_of_whole_windows_are_as_good_as_samples() {
    for seed in 0..40 {
        let store = |gives_rows| Store { samples: samples(seed), gives_rows, given: 0.into() };
        let (of_samples, of_rows) = (store(false), store(true));
        for function in FUNCTIONS {
            for range in ["5m", "10m", "1h", "150m"] {
                for (suffix, step_ms) in [("", 300_000), (" offset 10m", 600_000), (" @ 6000", 7)] {
                    let query = format!("{function}(m_total[{range}]{suffix})");
                    let start_ms = 2 * RESOLUTION_MS;
                    let end_ms = start_ms + 30 * step_ms;
                    let time = EvalTime::Range { start_ms, end_ms, step_ms };
                    let given = of_rows.given.load(Ordering::Relaxed);
                    let (found, notes) = run(&of_rows, &query, time);
                    assert_eq!(of_rows.given.load(Ordering::Relaxed), given + 1, "{query}");
                    let (expected, expected_notes) = run(&of_samples, &query, time);
                    assert_eq!(notes, expected_notes, "{query}");
                    let (found, expected) = (values(found), values(expected));
                    assert_eq!(found.len(), expected.len(), "seed {seed}: {query}");
                    let is_summed =
                        matches!(function, "rate" | "increase" | "sum_over_time" | "avg_over_time");
                    for (found, expected) in found.iter().zip(&expected) {
                        let reach = if is_summed { expected.1.abs() * 1e-12 } else { 0.0 };
                        let are_nan = found.1.is_nan() && expected.1.is_nan();
                        let is_near = are_nan || (found.1 - expected.1).abs() <= reach;
                        let is_same = found.0 == expected.0 && is_near;
                        assert!(is_same, "seed {seed}: {query}: {found:?} for {expected:?}");
                    }
                }
            }
        }
    }
}

/// Values whose differences and sums overflow.
#[test]
fn rows_of_huge_values_are_as_good_as_samples() {
    let huge = |index: i64| match index % 7 {
        0 | 2 => 1e308,
        1 | 3 => -1e308,
        4 => 1.5e308,
        _ => 1e300,
    };
    let alternating = |index: i64| if index % 2 == 0 { -1e308 } else { 1e308 };
    let shapes: [&dyn Fn(i64) -> f64; 3] = [&alternating, &|index| alternating(index + 1), &huge];
    for (number, shape) in shapes.into_iter().enumerate() {
        let samples: Vec<_> = (1..1_000).map(|index| (index * 30_000, shape(index))).collect();
        let store = |gives_rows| Store { samples: samples.clone(), gives_rows, given: 0.into() };
        let (of_samples, of_rows) = (store(false), store(true));
        // Where parts of a sum overflow and the whole does not, rows cannot tell it.
        let sums = ["sum_over_time", "avg_over_time"];
        for function in FUNCTIONS.into_iter().filter(|name| number < 2 || !sums.contains(name)) {
            for range in ["5m", "1h"] {
                let query = format!("{function}(m_total[{range}])");
                let (start_ms, step_ms) = (2 * RESOLUTION_MS, RESOLUTION_MS);
                let time = EvalTime::Range { start_ms, end_ms: start_ms + 80 * step_ms, step_ms };
                let given = of_rows.given.load(Ordering::Relaxed);
                let found = values(run(&of_rows, &query, time).0);
                assert_eq!(of_rows.given.load(Ordering::Relaxed), given + 1, "{query}");
                let expected = values(run(&of_samples, &query, time).0);
                assert_eq!(found.len(), expected.len(), "{query}");
                for (found, expected) in found.iter().zip(&expected) {
                    let is_same = found.1 == expected.1
                        || found.1.is_nan() && expected.1.is_nan()
                        || (found.1 - expected.1).abs() <= expected.1.abs() * 1e-12;
                    assert!(is_same, "shape {number}: {query}: {found:?} for {expected:?}");
                }
            }
        }
    }
}

#[test]
fn what_does_not_fit_is_asked_for_in_samples() {
    let store = Store { samples: samples(1), gives_rows: true, given: 0.into() };
    let aligned = |step_ms| EvalTime::Range { start_ms: 600_000, end_ms: 1_800_000, step_ms };
    for (query, time) in [
        ("rate(m_total[7m])", aligned(300_000)),
        ("rate(m_total[5m])", aligned(60_000)),
        ("rate(m_total[5m] offset 1m)", aligned(300_000)),
        ("rate(m_total[10m] @ 601)", aligned(300_000)),
        ("rate(m_total[5m])", EvalTime::Instant(600_001)),
        ("irate(m_total[5m])", aligned(300_000)),
        ("quantile_over_time(0.5, m_total[5m])", aligned(300_000)),
        ("rate(m_total[5m] anchored)", aligned(300_000)),
        ("m_total", aligned(300_000)),
        ("sum_over_time(m_total[10m:1m])", aligned(300_000)),
    ] {
        run(&store, query, time);
        assert_eq!(store.given.load(Ordering::Relaxed), 0, "{query}");
    }
    run(&store, "rate(m_total[5m])", EvalTime::Instant(600_000));
    assert_eq!(store.given.load(Ordering::Relaxed), 1);
}
