//! Native histograms in queries: which sample counts at a step, and what becomes of them.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use model::{BucketLayout, FloatHistogram, Labels, STALE_NAN_BITS, Span};
use promql::{
    Columns, EvalOptions, EvalTime, Evaluation, Inline, QueryOutput, QueryValue, SelectRequest,
    SeriesSet, Source, SourceError, evaluate, parse,
};

/// A histogram whose count is `count`, all of it in `(1, 2]`.
fn histogram(count: f64) -> Arc<FloatHistogram> {
    let layout =
        BucketLayout { positive: vec![Span { offset: 1, len: 1 }], ..BucketLayout::default() };
    let mut histogram = FloatHistogram::empty(Arc::new(layout));
    (histogram.count, histogram.sum, histogram.positive) = (count, 1.5 * count, vec![count]);
    Arc::new(histogram)
}

fn stale() -> Arc<FloatHistogram> {
    let mut stale = FloatHistogram::clone(&histogram(0.0));
    stale.sum = f64::from_bits(STALE_NAN_BITS);
    Arc::new(stale)
}

#[derive(Clone)]
struct Store(Arc<Vec<(Labels, Columns)>>);

impl Source for Store {
    fn select(&self, request: &SelectRequest<'_>) -> Result<Arc<dyn SeriesSet>, SourceError> {
        let matches = |labels: &Labels| {
            request.matchers.iter().all(|m| m.matches(labels.get(&m.name).unwrap_or("")))
        };
        let inside = |t_ms: &i64| (request.start_ms..=request.end_ms).contains(t_ms);
        let mut wanted = Vec::new();
        for (labels, all) in self.0.iter().filter(|(labels, _)| matches(labels)) {
            let mut columns = Columns::default();
            for (t_ms, value) in all.timestamps_ms.iter().zip(&all.values) {
                if inside(t_ms) {
                    columns.timestamps_ms.push(*t_ms);
                    columns.values.push(*value);
                }
            }
            let histograms = &all.histograms;
            for (t_ms, histogram) in histograms.timestamps_ms.iter().zip(&histograms.histograms) {
                if inside(t_ms) {
                    columns.histograms.push(*t_ms, Arc::clone(histogram));
                }
            }
            wanted.push((labels.clone(), columns));
        }
        Ok(Arc::new(Store(Arc::new(wanted))))
    }
}

impl SeriesSet for Store {
    fn len(&self) -> usize {
        self.0.len()
    }

    fn labels(&self, index: usize) -> &Labels {
        &self.0[index].0
    }

    fn read(&self, index: usize, out: &mut Columns) -> Result<(), SourceError> {
        out.clone_from(&self.0[index].1);
        Ok(())
    }
}

/// `h` is a histogram from 10 s to 40 s, a float at 50 s, a histogram at 60 s, then gone; `f` is a
/// float all the time.
fn store() -> Store {
    let labels = |name: &str| Labels::from_pairs([("__name__", name), ("job", "j")]).expect("two");
    let mut mixed = Columns::default();
    for step in 1..=4 {
        mixed.histograms.push(step * 10_000, histogram(step as f64));
    }
    mixed.timestamps_ms.push(50_000);
    mixed.values.push(5.0);
    mixed.histograms.push(60_000, histogram(6.0));
    mixed.histograms.push(70_000, stale());
    let mut floats = Columns::default();
    floats.timestamps_ms.extend((1..=8).map(|step| step * 10_000));
    floats.values.extend((1..=8).map(f64::from));
    Store(Arc::new(vec![(labels("f"), floats), (labels("h"), mixed)]))
}

fn run(query: &str, time: EvalTime, max_samples: usize) -> Result<QueryOutput, String> {
    let expr = parse(query).map_err(|error| error.to_string())?;
    let (store, cancelled) = (store(), AtomicBool::new(false));
    let options = EvalOptions {
        lookback_ms: 300_000,
        default_subquery_step_ms: 10_000,
        max_samples,
        memory: None,
        cancelled: &cancelled,
        parallel: &Inline,
        clock: None,
        use_start_timestamps: true,
        type_and_unit_labels: false,
    };
    let output = evaluate(&Evaluation { expr: &expr, time, source: &store, options });
    output.map_err(|error| error.to_string())
}

fn output(query: &str, time: EvalTime, max_samples: usize) -> Result<QueryValue, String> {
    run(query, time, max_samples).map(|output| output.value)
}

/// Times in seconds and what is there; of histograms the count.
fn show(query: &str, time: EvalTime) -> String {
    match output(query, time, 1_000) {
        Err(error) => error,
        Ok(QueryValue::Vector(samples)) => samples
            .iter()
            .map(|sample| match &sample.histogram {
                Some(histogram) => format!("{} h{}", sample.labels, histogram.count),
                None => format!("{} {}", sample.labels, sample.value),
            })
            .collect::<Vec<_>>()
            .join("; "),
        Ok(QueryValue::Matrix(series)) => series
            .iter()
            .map(|series| {
                let floats = series.timestamps_ms.iter().zip(&series.values);
                let mut points: Vec<_> = floats.map(|(t, v)| (*t, v.to_string())).collect();
                let histograms = series.histograms.iter();
                points.extend(histograms.map(|(t, h)| (*t, format!("h{}", h.count))));
                points.sort();
                let points = points.iter().map(|(t, v)| format!(" {}:{v}", t / 1_000));
                format!("{}{}", series.labels, points.collect::<String>())
            })
            .collect::<Vec<_>>()
            .join("; "),
        Ok(other) => format!("{other:?}"),
    }
}

const RANGE: EvalTime = EvalTime::Range { start_ms: 5_000, end_ms: 80_000, step_ms: 15_000 };

#[test]
fn the_latest_sample_of_either_kind_counts() {
    let at = |t_ms| show("h", EvalTime::Instant(t_ms));
    assert_eq!(at(5_000), "");
    assert_eq!(at(25_000), "h{job=\"j\"} h2");
    assert_eq!(at(59_999), "h{job=\"j\"} 5");
    assert_eq!(at(60_000), "h{job=\"j\"} h6");
    assert_eq!(at(70_000), "", "gone");
    assert_eq!(show("h", RANGE), "h{job=\"j\"} 20:h2 35:h3 50:5 65:h6");
    assert_eq!(show("timestamp(h)", EvalTime::Instant(25_000)), "{job=\"j\"} 20");
}

#[test]
fn ranges_and_subqueries_yield_both() {
    let at = EvalTime::Instant(75_000);
    assert_eq!(show("h[50s]", at), "h{job=\"j\"} 30:h3 40:h4 50:5 60:h6", "no stale marker");
    assert_eq!(show("h[20s:5s] offset 20s", at), "h{job=\"j\"} 40:h4 45:h4 50:5 55:5");
    assert_eq!(show("h @ 20", RANGE).matches("h2").count(), 6, "pinned, at every step");
}

#[test]
fn labels_may_change_and_parts_be_taken() {
    let at = EvalTime::Instant(25_000);
    assert_eq!(
        show("label_replace(h, \"a\", \"$1\", \"job\", \"(.*)\")", at),
        "h{a=\"j\", job=\"j\"} h2"
    );
    assert_eq!(show("histogram_count({job=\"j\"})", at), "{job=\"j\"} 2");
    assert_eq!(show("histogram_sum(h)", RANGE), "{job=\"j\"} 20:3 35:4.5 65:9", "floats are none");
    assert_eq!(show("histogram_avg(h) * 2", at), "{job=\"j\"} 3");
    assert_eq!(show("histogram_quantile(1, h)", at), "{job=\"j\"} 2");
    assert_eq!(show("histogram_fraction(0, 2, h)", at), "{job=\"j\"} 1");
    assert_eq!(show("sum(histogram_count(h))", at), "{} 2");
}

#[test]
fn everything_computes_with_them() {
    let at = EvalTime::Instant(25_000);
    for (query, expected) in [
        ("increase(h[1m])", "{job=\"j\"} h2"),
        ("sum(h)", "{} h2"),
        ("avg(h)", "{} h2"),
        ("count({job=\"j\"})", "{} 2"),
        ("sum({job=\"j\"})", ""),
        ("abs(h)", ""),
        ("h + 1", ""),
        ("h * 3", "{job=\"j\"} h6"),
        ("h + h", "{job=\"j\"} h4"),
        ("h == h", "h{job=\"j\"} h2"),
        ("h > h", ""),
        ("-h", "{job=\"j\"} h-2"),
        ("topk(1, h)", ""),
        ("topk(2, {job=\"j\"})", "f{job=\"j\"} 2"),
        ("limitk(1, h)", "h{job=\"j\"} h2"),
        ("count_values(\"v\", h)", "{v=\"{count:2, sum:3, (1,2]:2}\"} 1"),
        ("sort(h)", ""),
        ("max_over_time(h[1m])", ""),
        ("quantile(0.5, {job=\"j\"})", "{} 2"),
        ("h and h", "h{job=\"j\"} h2"),
        ("h or f", "h{job=\"j\"} h2"),
        ("scalar({job=\"j\"}) + h * 0 == bool h", ""),
        ("vector(scalar({job=\"j\"}))", "{} 2"),
        ("sum_over_time(h[1m:10s])", "{job=\"j\"} h3"),
        ("h </ 1", "h{job=\"j\"} h0"),
        ("h >/ 1", "h{job=\"j\"} h2"),
        ("resets(h[1m])", "{job=\"j\"} 0"),
        ("start_timestamp(h)", "{job=\"j\"} 0"),
    ] {
        assert_eq!(show(query, at), expected, "{query}");
    }
    assert_eq!(show("count_over_time(h[1m])", EvalTime::Instant(60_000)), "{job=\"j\"} 6");
    assert_eq!(show("changes(h[1m])", EvalTime::Instant(60_000)), "{job=\"j\"} 5");
}

#[test]
fn remarks_name_what_was_left_out() {
    let at = EvalTime::Instant(55_000);
    for (query, expected) in [
        (
            "rate(h[1m])",
            "PromQL warning: encountered a mix of histograms and floats for metric name \"h\" (1:6)",
        ),
        (
            "max_over_time(h[1m])",
            "PromQL info: ignored histograms in a range containing both floats and histograms for \
             metric name \"h\" (1:15)",
        ),
        (
            "sum({job=\"j\"} offset 10s)",
            "PromQL warning: encountered a mix of histograms and floats for aggregation (1:5)",
        ),
        ("2 + min(h offset 10s)", "PromQL info: ignored histogram in min aggregation (1:9)"),
        (
            "h offset 10s + 1",
            "PromQL info: incompatible sample types encountered for binary operator \"+\": \
             histogram + float (1:1)",
        ),
        (
            "f </ 1",
            "PromQL info: incompatible sample types encountered for binary operator \"</\": \
             float </ float (1:1)",
        ),
        (
            "delta(h[20s] offset 10s)",
            "PromQL warning: this native histogram metric is not a gauge: \"h\" (1:7)",
        ),
    ] {
        let notes = run(query, at, 1_000).expect(query).annotations;
        let notes: Vec<String> = notes.iter().map(|note| note.render(query)).collect();
        assert_eq!(notes, [expected], "{query}");
    }
    let silent = run("sum(h offset 10s) + sum(h offset 10s)", at, 1_000).expect("possible");
    assert_eq!(silent.annotations, []);
}

/// As in Prometheus the factors are looked at wherever a window has samples, of whatever kind.
#[test]
fn factors_are_checked_over_histograms_alone() {
    let at = EvalTime::Instant(40_000);
    let smoothing = |factors: &str| {
        let query = format!("double_exponential_smoothing(h[30s], {factors})");
        run(&query, at, 1_000).map(|output| output.annotations).map_err(|error| error.to_string())
    };
    assert_eq!(smoothing("0.5, 0.5"), Ok(Vec::new()));
    for (factors, expected) in [
        ("1, 0.5", "invalid smoothing factor. Expected: 0 < sf < 1, got: 1.000000"),
        ("0.5, -Inf", "invalid trend factor. Expected: 0 < tf < 1, got: -Inf"),
    ] {
        let error = smoothing(factors).expect_err(factors);
        assert!(error.contains(expected), "{error}");
    }
    // Nothing is there.
    let query = "double_exponential_smoothing(h[30s] offset 1h, 7, 7)";
    assert!(run(query, at, 1_000).is_ok());
}

#[test]
fn histograms_count_in_the_budget() {
    // Six steps of one value each, and three histograms.
    let error = output("h", RANGE, 15).expect_err("too many");
    assert!(error.contains("the limit (max samples per query) is 15"), "{error}");
    assert!(output("f", RANGE, 15).is_ok());
    assert!(output("h", RANGE, 30).is_ok());
}

fn remarks(query: &str, time: EvalTime) -> Vec<String> {
    let output = run(query, time, 1_000).expect("the query can be computed");
    output.annotations.iter().map(|note| note.render(query)).collect()
}

#[test]
fn only_floats_are_sorted_also_where_order_means_nothing() {
    assert_eq!(show("sort(h)", EvalTime::Instant(25_000)), "");
    assert_eq!(show("sort(h)", RANGE), "h{job=\"j\"} 50:5");
    let warning = "PromQL warning: sort is ineffective for range queries since results are always ordered by \
         labels (1:1)";
    assert_eq!(remarks("sort(h)", RANGE), [warning]);
    assert!(remarks("sort(h @ 20)", RANGE).is_empty(), "it is sorted once");
    assert_eq!(remarks("max_over_time(sort(f)[20s:5s])", EvalTime::Instant(60_000)).len(), 1);
}

#[test]
fn a_step_tells_of_the_last_element_that_failed() {
    let incompatible = |left: &str, right: &str| {
        format!(
            "PromQL info: incompatible sample types encountered for binary operator \"/\": \
             {left} / {right} (1:1)"
        )
    };
    let at = EvalTime::Instant(25_000);
    // `f / h`, then `h / h`.
    let query = "{job=\"j\"} / on(job) group_left h";
    assert_eq!(remarks(query, at), [incompatible("histogram", "histogram")]);
    let range = EvalTime::Range { start_ms: 25_000, end_ms: 35_000, step_ms: 10_000 };
    assert_eq!(remarks(query, range), [incompatible("histogram", "histogram")]);
}

#[test]
fn elements_that_cannot_be_computed_match_nobody() {
    let at = EvalTime::Instant(25_000);
    // `f` is divided by a number, `h ^ 1` is not possible and does not count as a second match.
    let query = "{job=\"j\"} ^ on(job) (f * 0 + 1)";
    assert_eq!(show(query, at), "{job=\"j\"} 2");
    // Nor does it keep the other side from being filled in for.
    assert_eq!(show("h ^ on(job) fill_left(3) f", at), "{job=\"j\"} 9");
}

#[test]
fn the_first_value_decides_whether_the_name_is_dropped() {
    // `rate` has no value at the first step yet.
    let range = EvalTime::Range { start_ms: 10_000, end_ms: 30_000, step_ms: 10_000 };
    let first = show("rate(f[15s]) or f", range);
    assert!(first.starts_with("f{job=\"j\"} 10:1 20:"), "{first}");
    let later = EvalTime::Range { start_ms: 20_000, end_ms: 80_000, step_ms: 60_000 };
    let dropped = show("rate(f[15s] @ 20) * 2 or f", later);
    assert!(dropped.starts_with("{job=\"j\"} 20:"), "{dropped}");
}

#[test]
fn remarks_about_subqueries_are_at_the_beginning() {
    let at = EvalTime::Instant(60_000);
    let info = "PromQL info: metric might not be a counter, name does not end in _total/_sum/_count/_bucket: \
         \"f\"";
    assert_eq!(remarks("-rate(f[30s])", at), [format!("{info} (1:7)")]);
    assert_eq!(remarks("-rate(f[30s:10s])", at), [format!("{info} (1:1)")]);
}

#[test]
fn hidden_buckets_are_left_out_of_sums() {
    // All of it in the bucket up to 2, which the zero bucket covers.
    let layout = BucketLayout {
        zero_threshold: 2.0,
        positive: vec![Span { offset: 1, len: 2 }],
        ..BucketLayout::default()
    };
    let mut hiding = FloatHistogram::empty(Arc::new(layout));
    (hiding.count, hiding.zero_count, hiding.positive) = (6.0, 1.0, vec![2.0, 3.0]);
    let mut sum = hiding.clone();
    sum.add(&hiding).expect("of one kind");
    assert_eq!((sum.count, sum.zero_count, sum.positive), (12.0, 2.0, vec![2.0, 6.0]));
    hiding.multiply(-1.0);
    let shown: Vec<_> = hiding.buckets().map(|b| (b.lower, b.upper, b.count)).collect();
    assert_eq!(shown, [(2.0, 2.0, -2.0), (2.0, 4.0, -3.0)], "no zero bucket below nothing");
    let listed: Vec<_> = hiding.listed_buckets().map(|b| (b.lower, b.upper, b.count)).collect();
    assert_eq!(listed, [(-2.0, 2.0, -1.0), (1.0, 2.0, -2.0), (2.0, 4.0, -3.0)]);
}
