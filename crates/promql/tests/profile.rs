//! What a query says it cost: samples per step as Prometheus counts them, and the tree of nodes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use expect_test::{Expect, expect};
use model::{BucketLayout, FloatHistogram, Labels, Matcher, Span};
use promql::{
    Columns, EvalOptions, EvalTime, Evaluation, Inline, Parallel, ProfileNode, QueryProfile, Reads,
    SelectRequest, SeriesSet, Source, SourceError, evaluate, parse,
};

/// A clock that goes on by one each time somebody looks.
fn ticks() -> u64 {
    static TICKS: AtomicU64 = AtomicU64::new(0);
    TICKS.fetch_add(1, Ordering::Relaxed)
}

/// `m` (one series), `n` (three) and the histogram `h`, every 10 s from 0 to 1000 s.
struct Store;

struct Selected {
    labels: Vec<Labels>,
    start_ms: i64,
    end_ms: i64,
}

fn labels() -> Vec<Labels> {
    let of = |pairs: &[(&str, &str)]| Labels::from_pairs(pairs.iter().copied()).expect("differ");
    vec![
        of(&[("__name__", "h")]),
        of(&[("__name__", "m")]),
        of(&[("__name__", "n"), ("a", "1"), ("b", "1")]),
        of(&[("__name__", "n"), ("a", "2"), ("b", "2")]),
        of(&[("__name__", "n"), ("a", "3"), ("b", "2")]),
    ]
}

fn matches(matchers: &[Matcher], labels: &Labels) -> bool {
    matchers.iter().all(|m| m.matches(labels.get(&m.name).unwrap_or("")))
}

/// One span of four buckets.
fn histogram() -> Arc<FloatHistogram> {
    let positive = vec![Span { offset: 0, len: 4 }];
    let layout = BucketLayout { schema: 1, positive, ..BucketLayout::default() };
    let mut histogram = FloatHistogram::empty(Arc::new(layout));
    (histogram.count, histogram.sum) = (5.0, 20.0);
    histogram.positive = vec![1.0, 2.0, 1.0, 1.0];
    Arc::new(histogram)
}

impl Source for Store {
    fn select(&self, request: &SelectRequest<'_>) -> Result<Arc<dyn SeriesSet>, SourceError> {
        let labels = labels().into_iter().filter(|one| matches(request.matchers, one)).collect();
        let (start_ms, end_ms) = (request.start_ms, request.end_ms);
        Ok(Arc::new(Selected { labels, start_ms, end_ms }))
    }
}

impl SeriesSet for Selected {
    fn len(&self) -> usize {
        self.labels.len()
    }

    fn labels(&self, index: usize) -> &Labels {
        &self.labels[index]
    }

    fn read(&self, index: usize, out: &mut Columns) -> Result<(), SourceError> {
        let times = (0..=1_000_000).step_by(10_000);
        let inside = times.filter(|t_ms| (self.start_ms..=self.end_ms).contains(t_ms));
        for t_ms in inside {
            if self.labels[index].metric_name() == Some("h") {
                out.histograms.push(t_ms, histogram());
            } else {
                out.timestamps_ms.push(t_ms);
                out.values.push(t_ms as f64);
            }
        }
        Ok(())
    }

    fn reads(&self) -> Reads {
        let head_series = self.labels.len() as u64;
        Reads { blocks: 1, chunks: 2, head_series, bytes: 100, rollups_ms: [0; 4] }
    }
}

/// Runs tasks on two threads.
struct Two;

impl Parallel for Two {
    fn run(&self, count: usize, task: &(dyn Fn(usize) + Sync)) {
        std::thread::scope(|scope| {
            for half in 0..2 {
                scope.spawn(move || (half..count).step_by(2).for_each(task));
            }
        });
    }

    fn width(&self) -> usize {
        2
    }
}

fn profile_on(query: &str, time: EvalTime, parallel: &dyn Parallel) -> QueryProfile {
    let expr = parse(query).expect("the tests' queries are PromQL");
    let cancelled = AtomicBool::new(false);
    let options = EvalOptions {
        lookback_ms: 300_000,
        default_subquery_step_ms: 60_000,
        max_samples: 100_000,
        memory: None,
        cancelled: &cancelled,
        parallel,
        clock: Some(ticks),
        use_start_timestamps: false,
        type_and_unit_labels: false,
    };
    let profiled = evaluate(&Evaluation { expr: &expr, time, source: &Store, options });
    let profiled = profiled.expect("it can be evaluated");
    let options = EvalOptions { clock: None, ..options };
    let plain = evaluate(&Evaluation { expr: &expr, time, source: &Store, options });
    let plain = plain.expect("it can be evaluated");
    // As text, in which NaN is NaN.
    assert_eq!(format!("{:?}", plain.value), format!("{:?}", profiled.value));
    assert_eq!(plain.annotations, profiled.annotations);
    assert_eq!(plain.stats, profiled.stats);
    assert_eq!(plain.profile, None);
    *profiled.profile.expect("there is a clock")
}

fn profile(query: &str, time: EvalTime) -> QueryProfile {
    profile_on(query, time, &Inline)
}

fn range(start: i64, end: i64, step: i64) -> EvalTime {
    let ms = |seconds| seconds * 1_000;
    EvalTime::Range { start_ms: ms(start), end_ms: ms(end), step_ms: ms(step) }
}

/// The numbers are those that Prometheus 3 gives for such data.
#[test]
fn samples_per_step_are_those_of_prometheus() {
    let instants: [(&str, i64, u64); 24] = [
        ("\"text\"", 21, 0),
        ("1", 21, 0),
        ("m", 21, 1),
        ("h", 21, 13),
        ("timestamp(m)", 21, 1),
        ("timestamp(h)", 21, 1),
        ("m offset 10s", 21, 1),
        ("m @ 15", 21, 1),
        ("n{a='1'}[20s] @ 19", 21, 2),
        ("n", 21, 3),
        ("m[60s]", 201, 6),
        ("h[60s]", 201, 78),
        ("max_over_time(m[60s])[20s:5s]", 201, 24),
        ("max_over_time(m[61s])[20s:5s]", 201, 26),
        ("max_over_time(h[60s])[20s:5s]", 201, 312),
        ("m[60s] @ 30", 201, 4),
        ("sum by (b) (max_over_time(n[60s] @ 30))", 201, 12),
        ("n[60s] offset 10s", 201, 18),
        ("absent_over_time(m[60s])", 201, 6),
        ("m[60s:5s]", 201, 12),
        ("m[60s:5s] offset 10s", 201, 12),
        ("max_over_time(n[60s:5s])", 201, 36),
        ("sum(max_over_time(n[60s:5s])) + sum(max_over_time(n[60s:5s]))", 201, 72),
        ("topk(1, n)", 201, 3),
    ];
    for (query, at, expected) in instants {
        let got = profile(query, EvalTime::Instant(at * 1_000)).samples_per_step;
        assert_eq!(got, [expected], "{query}");
    }
    let ranges: [(&str, [u64; 4]); 11] = [
        ("n{a='1'}", [1; 4]),
        ("h", [13; 4]),
        ("timestamp(h)", [1; 4]),
        ("n offset 10s", [3; 4]),
        ("max_over_time(n[60s] @ 30)", [12; 4]),
        ("predict_linear(m[60s] @ 30, 60)", [4; 4]),
        ("n", [3; 4]),
        ("max_over_time(n[60s])", [18; 4]),
        ("max_over_time(n[60s:5s])", [36; 4]),
        ("sum by (b) (max_over_time(m[60s:5s]))", [12; 4]),
        ("sum(max_over_time(n[60s:5s])) + sum(max_over_time(m[60s:5s]))", [48; 4]),
    ];
    for (query, expected) in ranges {
        assert_eq!(profile(query, range(201, 220, 5)).samples_per_step, expected, "{query}");
    }
    let at_the_end = profile("max_over_time(n{a='1'}[10s])", range(991, 1021, 10));
    assert_eq!(at_the_end.samples_per_step, [1, 1, 0, 0]);
}

/// As Prometheus promises of its own statistics.
#[test]
fn a_step_looks_at_what_an_instant_query_there_looks_at() {
    let queries = [
        "m",
        "sum by (b) (rate(n[45s]))",
        "rate(h[45s])",
        "histogram_quantile(0.9, h) + on () m",
        "n - on () group_left m offset 20s",
        "avg_over_time(sum(n)[50s:15s])",
        "avg_over_time(n[50s:15s] @ 77)",
        "-m > scalar(sum(n)) or time() < bool m",
        "absent(nothing) and vector(1)",
        "quantile_over_time(scalar(m) / 1e9, n[40s] @ 30)",
        "label_replace(n, 'c', '$1', 'a', '(.*)')",
        "count_values('v', n)",
        "limitk(2, n)",
        "info(n)",
        "sort(n)",
    ];
    for query in queries {
        let steps = profile(query, range(100, 190, 30)).samples_per_step;
        let instant = |at: i64| profile(query, EvalTime::Instant(at * 1_000)).samples_per_step[0];
        assert_eq!(steps, [100, 130, 160, 190].map(instant), "{query}");
        assert_eq!(profile_on(query, range(100, 190, 30), &Two).samples_per_step, steps, "{query}");
    }
}

fn show(node: &ProfileNode, query: &str, depth: usize, out: &mut String) {
    let span = node.span.start as usize..node.span.end as usize;
    let strategy = node.strategy.map_or("unused", |strategy| strategy.as_str());
    out.push_str(&format!(
        "{:indent$}{} {} `{}`: {strategy}, {} steps, {} of {} series, {} samples, {} bytes\n",
        "",
        node.kind.as_str(),
        node.value_type.as_str(),
        &query[span],
        node.steps,
        node.series_out,
        node.series_in,
        node.samples_read,
        node.reads.bytes,
        indent = 2 * depth,
    ));
    for child in &node.children {
        show(child, query, depth + 1, out);
    }
}

fn check(query: &str, expected: &Expect) {
    let profile = profile(query, range(201, 220, 5));
    let mut shown = String::new();
    show(&profile.root, query, 0, &mut shown);
    expected.assert_eq(&shown);
    check_times(&profile.root);
}

/// Every node that did something took time, and totals add up.
fn check_times(node: &ProfileNode) {
    let below: u64 = node.children.iter().map(|child| child.total_ns).sum();
    assert_eq!(node.total_ns, node.self_ns + below, "{node:?}");
    assert!(node.select_ns <= node.self_ns, "{node:?}");
    let is_idle = node.steps == 0;
    assert_eq!(node.self_ns == 0, is_idle, "{node:?}");
    node.children.iter().for_each(check_times);
}

#[test]
fn an_aggregation_is_one_pass_with_what_is_below() {
    check(
        "sum by (b) (abs(rate(n[1m])))",
        &expect![[r#"
            aggregation vector `sum by (b) (abs(rate(n[1m])))`: fused, 4 steps, 2 of 3 series, 0 samples, 0 bytes
              call vector `abs(rate(n[1m]))`: fused, 4 steps, 3 of 3 series, 0 samples, 0 bytes
                call vector `rate(n[1m])`: fused, 4 steps, 3 of 3 series, 0 samples, 0 bytes
                  range_selector matrix `n[1m]`: fused, 4 steps, 3 of 3 series, 21 samples, 100 bytes
        "#]],
    );
}

#[test]
fn both_sides_of_an_operator_are_held() {
    check(
        "(n > 0) / on (b) group_left sum by (b) (n)",
        &expect![[r#"
            binary vector `(n > 0) / on (b) group_left sum by (b) (n)`: rows, 4 steps, 3 of 5 series, 0 samples, 0 bytes
              binary vector `n > 0`: rows, 4 steps, 3 of 3 series, 0 samples, 0 bytes
                selector vector `n`: rows, 4 steps, 3 of 3 series, 66 samples, 100 bytes
                number scalar `0`: constant, 4 steps, 0 of 0 series, 0 samples, 0 bytes
              aggregation vector `sum by (b) (n)`: fused, 4 steps, 2 of 3 series, 0 samples, 0 bytes
                selector vector `n`: fused, 4 steps, 3 of 3 series, 66 samples, 100 bytes
        "#]],
    );
}

#[test]
fn what_is_the_same_at_all_steps_is_evaluated_once() {
    check(
        "m * scalar(max(n @ 100))",
        &expect![[r#"
            binary vector `m * scalar(max(n @ 100))`: rows, 4 steps, 1 of 2 series, 0 samples, 0 bytes
              selector vector `m`: rows, 4 steps, 1 of 1 series, 22 samples, 100 bytes
              call scalar `scalar(max(n @ 100))`: once, 1 steps, 1 of 1 series, 0 samples, 0 bytes
                aggregation vector `max(n @ 100)`: fused, 1 steps, 1 of 3 series, 0 samples, 0 bytes
                  selector vector `n @ 100`: fused, 1 steps, 3 of 3 series, 33 samples, 100 bytes
        "#]],
    );
}

#[test]
fn a_subquery_has_steps_of_its_own() {
    check(
        "max_over_time((n offset 10s)[1m:5s]) + 1",
        &expect![[r#"
            binary vector `max_over_time((n offset 10s)[1m:5s]) + 1`: rows, 4 steps, 3 of 3 series, 0 samples, 0 bytes
              call vector `max_over_time((n offset 10s)[1m:5s])`: rows, 4 steps, 3 of 3 series, 0 samples, 0 bytes
                subquery matrix `(n offset 10s)[1m:5s]`: rows, 4 steps, 3 of 3 series, 0 samples, 0 bytes
                  selector vector `n offset 10s`: rows, 15 steps, 3 of 3 series, 63 samples, 100 bytes
              number scalar `1`: constant, 4 steps, 0 of 0 series, 0 samples, 0 bytes
        "#]],
    );
}

#[test]
fn what_keeps_the_series_passes_them_on() {
    check(
        "sort(label_join(m, 'x', '-', 'a')) or timestamp(n)",
        &expect![[r#"
            binary vector `sort(label_join(m, 'x', '-', 'a')) or timestamp(n)`: rows, 4 steps, 4 of 4 series, 0 samples, 0 bytes
              call vector `sort(label_join(m, 'x', '-', 'a'))`: rows, 4 steps, 1 of 1 series, 0 samples, 0 bytes
                call vector `label_join(m, 'x', '-', 'a')`: rows, 4 steps, 1 of 1 series, 0 samples, 0 bytes
                  selector vector `m`: rows, 4 steps, 1 of 1 series, 22 samples, 100 bytes
                  string string `'x'`: constant, 0 steps, 0 of 0 series, 0 samples, 0 bytes
                  string string `'-'`: constant, 0 steps, 0 of 0 series, 0 samples, 0 bytes
                  string string `'a'`: constant, 0 steps, 0 of 0 series, 0 samples, 0 bytes
              call vector `timestamp(n)`: rows, 4 steps, 3 of 3 series, 0 samples, 0 bytes
                selector vector `n`: rows, 4 steps, 3 of 3 series, 66 samples, 100 bytes
        "#]],
    );
}
