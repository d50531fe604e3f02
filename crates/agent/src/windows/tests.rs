//! Windows against a naive model, and reductions against what a query would see.

use model::{MatchOp, is_stale_nan};
use proptest::prelude::*;

use super::*;

fn matchers(name: &str) -> Vec<Matcher> {
    vec![Matcher::new("__name__", MatchOp::Regex, name).expect("a pattern")]
}

fn labels(n: usize) -> Labels {
    let n = n.to_string();
    Labels::from_pairs([("__name__", "load"), ("n", n.as_str())]).expect("labels")
}

const ALL: [Statistic; 5] =
    [Statistic::Min, Statistic::Max, Statistic::Mean, Statistic::Last, Statistic::Count];

fn window(window_ms: u64, step_ms: u64) -> WindowRule {
    let statistics = ALL.to_vec();
    WindowRule { matchers: matchers("load"), window_ms, step_ms, statistics, replaces: true }
}

fn windows(windows: Vec<WindowRule>, reductions: Vec<ReductionRule>) -> Windows {
    let config = WindowsConfig { windows, reductions };
    Windows::new(&config, 7).expect("valid").expect("something to do")
}

/// Every sample of a batch as series, time and value.
fn rows(batch: &MetricBatch) -> Vec<(String, i64, f64)> {
    let mut rows = Vec::new();
    for series in &batch.series {
        let labels = Labels::from_packed(batch.label_bytes_of(series)).expect("packed");
        for row in series.first_row as usize..(series.first_row + series.rows) as usize {
            rows.push((labels.to_string(), batch.timestamps_ms[row], batch.values[row]));
        }
    }
    rows
}

/// Statistics of the samples in (end − window, end], in the order of [`ALL`].
fn naive(samples: &[(i64, f64)], end_ms: i64, window_ms: i64) -> Option<[f64; 5]> {
    let inside = |&&(t_ms, _): &&(i64, f64)| t_ms > end_ms - window_ms && t_ms <= end_ms;
    let values: Vec<f64> = samples.iter().filter(inside).map(|sample| sample.1).collect();
    let count = values.len() as f64;
    let last = *values.last()?;
    Some([
        values.iter().copied().fold(f64::INFINITY, f64::min),
        values.iter().copied().fold(f64::NEG_INFINITY, f64::max),
        values.iter().sum::<f64>() / count,
        last,
        count,
    ])
}

proptest! {
    #[test]
    fn windows_are_what_a_naive_model_says(
        gaps_ms in proptest::collection::vec((1..4_000_i64, -100..100_i32), 1..200),
        start_ms in -100_000..100_000_i64,
        steps in 1..8_u64,
    ) {
        let step_ms = 3_000;
        let mut windows = windows(vec![window(steps * step_ms, step_ms)], vec![]);
        let (mut samples, mut shipped) = (Vec::new(), Vec::new());
        let mut t_ms = start_ms;
        for (gap_ms, value) in gaps_ms {
            t_ms += gap_ms;
            samples.push((t_ms, f64::from(value)));
            let mut batch = MetricBatch::default();
            batch.push(&labels(0), t_ms, f64::from(value));
            windows.apply(&mut batch, t_ms);
            shipped.extend(rows(&batch));
        }
        let mut want = Vec::new();
        for pair in samples.windows(2) {
            let step = |t_ms: i64| (t_ms - 1).div_euclid(step_ms as i64);
            if step(pair[1].0) > step(pair[0].0) {
                let end_ms = (step(pair[0].0) + 1) * step_ms as i64;
                let values = naive(&samples, end_ms, (steps * step_ms) as i64);
                want.extend(values.expect("not empty").map(|value| (end_ms, value)));
            }
        }
        let got: Vec<_> = shipped.iter().map(|(_, end_ms, value)| (*end_ms, *value)).collect();
        prop_assert_eq!(got, want);
    }

    #[test]
    fn a_reduced_series_is_the_same_series_to_a_query(
        values in proptest::collection::vec(prop_oneof![3 => Just(0), 1 => 0..4_i32], 1..400),
        adaptive in any::<bool>(),
        tolerance in 0..2_u8,
    ) {
        let pace = if adaptive { Pace::Adaptive } else { Pace::OnChange };
        let rule = ReductionRule {
            matchers: matchers("load"),
            tolerance: f64::from(tolerance),
            relative_tolerance: 0.0,
            heartbeat_ms: 20_000,
            pace,
        };
        let mut windows = windows(vec![], vec![rule]);
        let mut shipped: Vec<(i64, f64)> = Vec::new();
        for (second, value) in values.iter().enumerate() {
            let t_ms = second as i64 * 1_000;
            let mut batch = MetricBatch::default();
            batch.push(&labels(0), t_ms, f64::from(*value));
            windows.apply(&mut batch, t_ms);
            shipped.extend(rows(&batch).into_iter().map(|(_, t_ms, value)| (t_ms, value)));
            // What a query sees now: the newest sample, never older than the heartbeat, and never
            // further off than the tolerance.
            let newest = *shipped.last().expect("the first is shipped");
            prop_assert!(t_ms - newest.0 <= 20_000);
            prop_assert!((newest.1 - f64::from(*value)).abs() <= f64::from(tolerance));
        }
        prop_assert!(shipped.is_sorted_by(|a, b| a.0 < b.0), "no sample twice, none out of order");
        // Every sample shipped is a true one, and between two of them nothing changed but between
        // neighbouring seconds, so that a step stays a step.
        for pair in shipped.windows(2) {
            prop_assert_eq!(pair[0].1, f64::from(values[(pair[0].0 / 1_000) as usize]));
            let differ = (pair[0].1 - pair[1].1).abs() > f64::from(tolerance);
            prop_assert!(!differ || pair[1].0 - pair[0].0 == 1_000, "{:?}", pair);
        }
    }
}

#[test]
fn names_labels_and_metadata_of_windows() {
    let rule = WindowRule { replaces: false, ..window(90_000, 30_000) };
    let mut windows = windows(vec![rule], vec![]);
    let mut shipped = MetricBatch::default();
    for t_ms in [1_000, 31_000] {
        shipped.clear();
        shipped.push(&labels(4), t_ms, 2.5);
        let other = Labels::from_pairs([("__name__", "other")]).expect("labels");
        shipped.push(&other, t_ms, 1.0);
        windows.apply(&mut shipped, t_ms);
        if t_ms == 1_000 {
            assert_eq!(shipped.metadata.len(), 5);
            assert_eq!(shipped.metadata[1].metric, "load:max1m30s");
            assert_eq!(shipped.metadata[1].help, "Greatest value of load over 1m30s.");
            assert!(model::is_legacy_metric_name(&shipped.metadata[1].metric));
        }
    }
    let want = [
        ("load{n=\"4\"}", 31_000, 2.5),
        ("other", 31_000, 1.0),
        ("load:min1m30s{n=\"4\"}", 30_000, 2.5),
        ("load:max1m30s{n=\"4\"}", 30_000, 2.5),
        ("load:mean1m30s{n=\"4\"}", 30_000, 2.5),
        ("load:last1m30s{n=\"4\"}", 30_000, 2.5),
        ("load:count1m30s{n=\"4\"}", 30_000, 1.0),
    ];
    let got = rows(&shipped);
    let got: Vec<_> =
        got.iter().map(|(name, t_ms, value)| (name.as_str(), *t_ms, *value)).collect();
    assert_eq!(got, want);
    assert!(shipped.metadata.is_empty());
}

#[test]
fn a_series_that_ends_ends_its_windows() {
    let stale = f64::from_bits(model::STALE_NAN_BITS);
    let reduction = ReductionRule {
        matchers: matchers("idle"),
        tolerance: 0.0,
        relative_tolerance: 0.1,
        heartbeat_ms: 60_000,
        pace: Pace::OnChange,
    };
    let mut windows = windows(vec![window(10_000, 10_000)], vec![reduction]);
    let idle = Labels::from_pairs([("__name__", "idle")]).expect("labels");
    let mut pass = |t_ms: i64, load: f64, idle_value: f64| {
        let mut batch = MetricBatch::default();
        batch.push(&labels(0), t_ms, load);
        batch.push(&idle, t_ms, idle_value);
        windows.apply(&mut batch, t_ms);
        rows(&batch)
    };
    assert_eq!(pass(1_000, 1.0, 100.0).len(), 1, "only idle itself");
    assert_eq!(pass(2_000, f64::NAN, 105.0).len(), 0, "5 % is no change");
    let gone = pass(3_000, stale, stale);
    let idle: Vec<_> = gone.iter().filter(|row| row.0 == "idle").map(|row| row.1).collect();
    assert_eq!(idle, [2_000, 3_000], "the last value, then the marker");
    let markers = gone.iter().filter(|row| row.0.starts_with("load:"));
    assert_eq!(markers.filter(|row| row.1 == 3_000 && is_stale_nan(row.2)).count(), 5);
    assert_eq!(pass(4_000, stale, 3.0).len(), 1, "a marker is not repeated");
}

#[test]
fn a_settled_pass_allocates_nothing() {
    let reduction = ReductionRule {
        matchers: matchers("load"),
        tolerance: 0.0,
        relative_tolerance: 0.0,
        heartbeat_ms: 60_000,
        pace: Pace::Adaptive,
    };
    let rule = WindowRule { replaces: false, ..window(6_000, 2_000) };
    let mut windows = windows(vec![rule], vec![reduction]);
    let all: Vec<_> = (0..500).map(labels).collect();
    let mut batch = MetricBatch::default();
    let mut pass = |second: i64| {
        batch.clear();
        for labels in &all {
            batch.push(labels, second * 1_000, (second / 5) as f64);
        }
        windows.apply(&mut batch, second * 1_000);
    };
    (1..30).for_each(&mut pass);
    let info = allocation_counter::measure(|| (30..60).for_each(&mut pass));
    assert_eq!(info.count_total, 0);
}

#[test]
fn silent_series_are_forgotten_and_their_places_used_again() {
    let mut windows = windows(vec![window(1_000, 1_000)], vec![]);
    let hour_ms = 3_600_000;
    for n in 0..50_usize {
        let mut batch = MetricBatch::default();
        let t_ms = n as i64 * hour_ms;
        batch.push(&labels(n), t_ms, 1.0);
        windows.apply(&mut batch, t_ms);
    }
    assert!(windows.replaced.len() <= 5, "{}", windows.replaced.len());
}

#[test]
fn wrong_figures_are_named() {
    let message = |rule: WindowRule| {
        let config = WindowsConfig { windows: vec![rule], reductions: vec![] };
        config.check().expect_err("wrong").to_string()
    };
    assert_eq!(message(window(10, 10)), "windows.window is 10, it must be from 1000 to 3600000");
    assert!(message(window(10_000, 3_000)).starts_with("windows.window modulo windows.step is"));
    assert!(message(window(100_000, 1_000)).contains("it must be from 1 to 60"));
}
