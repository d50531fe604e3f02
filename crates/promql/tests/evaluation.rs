//! What users read beside values: errors, warnings, infos; and trees as deep as the parser allows.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use expect_test::{Expect, expect};
use model::Labels;
use promql::{
    Columns, EvalOptions, EvalTime, Evaluation, Inline, QueryValue, SelectRequest, SeriesSet,
    Source, SourceError, evaluate, parse,
};

/// Series whose value is the same every 15 s from 0 to 10 min.
struct Store(Arc<Vec<(Labels, f64)>>);

struct Selected(Arc<Vec<(Labels, f64)>>, Vec<usize>);

impl Source for Store {
    fn select(&self, request: &SelectRequest<'_>) -> Result<Arc<dyn SeriesSet>, SourceError> {
        let matches = |labels: &Labels| {
            request.matchers.iter().all(|m| m.matches(labels.get(&m.name).unwrap_or("")))
        };
        let wanted = (0..self.0.len()).filter(|index| matches(&self.0[*index].0)).collect();
        Ok(Arc::new(Selected(Arc::clone(&self.0), wanted)))
    }
}

impl SeriesSet for Selected {
    fn len(&self) -> usize {
        self.1.len()
    }

    fn labels(&self, index: usize) -> &Labels {
        &self.0[self.1[index]].0
    }

    fn read(&self, index: usize, out: &mut Columns) -> Result<(), SourceError> {
        for step in 0..=40 {
            out.timestamps_ms.push(step * 15_000);
            out.values.push(self.0[self.1[index]].1);
        }
        Ok(())
    }
}

fn store() -> Store {
    let labels =
        |pairs: &[(&str, &str)]| Labels::from_pairs(pairs.iter().copied()).expect("names differ");
    let bucket =
        |le: &str, count| (labels(&[("__name__", "h_bucket"), ("job", "x"), ("le", le)]), count);
    let mut series = vec![
        (labels(&[("__name__", "up"), ("job", "a"), ("host", "1")]), 1.0),
        (labels(&[("__name__", "up"), ("job", "a"), ("host", "2")]), 0.0),
        (labels(&[("__name__", "info"), ("job", "a"), ("team", "t")]), 1.0),
        (labels(&[("__name__", "jobs_total"), ("job", "a")]), 5.0),
        bucket("0.1", 10.0),
        bucket("1", 8.0),
        bucket("+Inf", 20.0),
    ];
    series.sort_by(|a, b| a.0.cmp(&b.0));
    Store(Arc::new(series))
}

/// Evaluates and prints the result, one element per line, then annotations with their places.
fn show(query: &str, time: EvalTime) -> String {
    show_with(query, time, false)
}

fn show_with(query: &str, time: EvalTime, type_and_unit_labels: bool) -> String {
    let expr = match parse(query) {
        Ok(expr) => expr,
        Err(error) => return error.to_string(),
    };
    let (store, cancelled) = (store(), AtomicBool::new(false));
    let options = EvalOptions {
        lookback_ms: 300_000,
        default_subquery_step_ms: 60_000,
        max_samples: 1_000,
        memory: None,
        cancelled: &cancelled,
        parallel: &Inline,
        // What is measured is of no interest here, but has to fit as well.
        clock: Some(|| 0),
        use_start_timestamps: true,
        type_and_unit_labels,
    };
    let output = match evaluate(&Evaluation { expr: &expr, time, source: &store, options }) {
        Ok(output) => output,
        Err(error) => return format!("error: {error}"),
    };
    let mut lines = match output.value {
        QueryValue::Scalar { value, .. } => vec![format!("scalar {value}")],
        QueryValue::String { value, .. } => vec![format!("string {value:?}")],
        QueryValue::Vector(samples) => {
            samples.iter().map(|s| format!("{} {}", s.labels, s.value)).collect()
        }
        QueryValue::Matrix(series) => {
            series.iter().map(|s| format!("{} {:?}", s.labels, s.values)).collect()
        }
    };
    lines.extend(output.annotations.iter().map(|note| note.render(query)));
    lines.join("\n")
}

fn check(query: &str, expected: &Expect) {
    expected.assert_eq(&show(query, EvalTime::Instant(600_000)));
}

/// As Prometheus 3.14 words it with `--enable-feature=type-and-unit-labels`.
#[test]
fn types_tell_what_a_counter_is() {
    let check = |query: &str, told: &str| {
        let shown = show_with(query, EvalTime::Instant(600_000), true);
        let notes: Vec<_> = shown.lines().filter(|line| line.starts_with("PromQL")).collect();
        let notes = notes.join("\n");
        assert_eq!(notes.split(" (").next().unwrap_or_default(), told, "{query}");
    };
    let is_none = |kind: &str, name: &str| {
        format!(
            "PromQL info: metric might not be a counter, __type__ label is not set to \"counter\" \
             or \"histogram\", got {kind:?}: {name:?}"
        )
    };
    check("rate(jobs_total[5m])", &is_none("", "jobs_total"));
    let typed = |kind: &str| format!("rate(label_replace(up, '__type__', '{kind}', '', '')[5m:])");
    check(&typed("gauge"), &is_none("gauge", "up"));
    check(&typed("counter"), "");
    check(&typed("histogram"), "");
}

#[test]
fn annotations_point_at_their_cause() {
    check(
        "sum(rate(up[5m]))\n + rate(jobs_total[5m])",
        &expect![[
            r#"PromQL info: metric might not be a counter, name does not end in _total/_sum/_count/_bucket: "up" (1:10)"#
        ]],
    );
    check(
        "quantile(1.5, up)",
        &expect![[r#"
            {} inf
            PromQL warning: quantile value should be between 0 and 1, got 1.5 (1:10)"#]],
    );
    check(
        "histogram_quantile(0.5, h_bucket)",
        &expect![[r#"
            {job="x"} 0.1
            PromQL info: input to histogram_quantile needed to be fixed for monotonicity (see https://prometheus.io/docs/prometheus/latest/querying/functions/#histogram_quantile) for metric name "h_bucket", from buckets 1 to 1, with a max diff of 2, over 1 samples from 1970-01-01T00:10:00Z to 1970-01-01T00:10:00Z (1:25)"#]],
    );
    check(
        "histogram_quantile(0.5, jobs_total)",
        &expect![[
            r#"PromQL warning: bucket label "le" is missing or has a malformed value of "" for metric name "jobs_total" (1:25)"#
        ]],
    );
    // What is asked for is computed even if nothing of it is kept.
    check(
        "bottomk(0, quantile_over_time(-1, up[5m]))",
        &expect!["PromQL warning: quantile value should be between 0 and 1, got -1 (1:31)"],
    );
    // Histograms of one metric are told of together.
    check(
        r#"histogram_quantile(0.5, h_bucket or label_replace(h_bucket, "job", "y", "", ""))"#,
        &expect![[r#"
            {job="x"} 0.1
            {job="y"} 0.1
            PromQL info: input to histogram_quantile needed to be fixed for monotonicity (see https://prometheus.io/docs/prometheus/latest/querying/functions/#histogram_quantile) for metric name "h_bucket", from buckets 1 to 1, with a max diff of 2, over 2 samples from 1970-01-01T00:10:00Z to 1970-01-01T00:10:00Z (1:25)"#]],
    );
    check(
        "up </ 1",
        &expect![[
            r#"PromQL info: incompatible sample types encountered for binary operator "</": float </ float (1:1)"#
        ]],
    );
}

#[test]
fn errors_tell_what_and_where() {
    check(
        "info * on (job) up",
        &expect![[
            r#"error: found duplicate series for the match group {job="a"} on the right hand-side of the operation: [{__name__="up", host="2", job="a"}, {__name__="up", host="1", job="a"}];many-to-many matching not allowed: matching labels must be unique on one side"#
        ]],
    );
    check(
        "up * on (job) info",
        &expect![
            "error: multiple matches for labels: many-to-one matching must be explicit (group_left/group_right)"
        ],
    );
    check(
        r#"label_replace(up, "host", "same", "", "")"#,
        &expect!["error: vector cannot contain metrics with the same labelset"],
    );
    check("topk(1e30, up)", &expect!["error: Scalar value 1e+30 overflows int64"]);
    check(
        "max_over_time(up[10m] smoothed)",
        &expect![
            "error: smoothed modifier can only be used with: delta, increase, rate - not with max_over_time"
        ],
    );
    check(
        "max_over_time(up[10m:1ms])",
        &expect![
            "error: query processing would load too many samples into memory in query execution: the limit (max samples per query) is 1000; select fewer series, use a shorter range or a longer step, or raise the limit"
        ],
    );
    check("up[step() * 3]", &expect!["error: 3:13: duration must be greater than 0"]);
    check("up[(min_of((step()), 1m))]", &expect!["error: 12:23: duration must be greater than 0"]);
    check("up[-(step())]", &expect!["error: 3:11: duration must be greater than 0"]);
    check("up offset (5m / step())", &expect!["error: 11:22: division by zero"]);
    let range = EvalTime::Range { start_ms: 0, end_ms: 60_000, step_ms: 0 };
    expect!["error: zero or negative query resolution step widths are not accepted (got 0ms); try a positive number"]
        .assert_eq(&show("up", range));
}

#[test]
fn bytes_that_are_no_utf8_name_no_label() {
    for (query, role) in [
        (
            r#"label_join(up, "\xff", "-", "job")"#,
            "destination label name in label_join(): \u{fffd}",
        ),
        (r#"label_join(up, "a", "-", "\xff")"#, "source label name in label_join(): \u{fffd}"),
        (
            r#"label_replace(up, "\xff", "a", "job", ".*")"#,
            "destination label name in label_replace(): \u{fffd}",
        ),
    ] {
        let found = show(query, EvalTime::Instant(600_000));
        assert_eq!(found, format!("error: invalid {role}"), "{query}");
    }
    // The character that stands for such bytes is one like others.
    let found = show(r#"label_join(info, "\ufffd", "-", "job")"#, EvalTime::Instant(600_000));
    assert!(found.contains("\"\u{fffd}\"=\"a\""), "{found}");
}

#[test]
fn results_have_the_shape_of_the_query() {
    check("1 + 1", &expect!["scalar 2"]);
    check(r#""a" "#, &expect![[r#"string "a""#]]);
    check("jobs_total[30s]", &expect![[r#"jobs_total{job="a"} [5.0, 5.0]"#]]);
    check(
        "sort_desc(up)",
        &expect![[r#"
            up{host="1", job="a"} 1
            up{host="2", job="a"} 0"#]],
    );
    let range = EvalTime::Range { start_ms: 0, end_ms: 60_000, step_ms: 30_000 };
    expect!["{} [3.0, 33.0, 63.0]"].assert_eq(&show("time() + 3", range));
    expect![[r#"
        up{host="1", job="a"} [1.0, 1.0, 1.0]
        up{host="2", job="a"} [0.0, 0.0, 0.0]
        PromQL warning: sort is ineffective for range queries since results are always ordered by labels (1:1)"#]]
    .assert_eq(&show("sort(up)", range));
}

#[test]
fn deep_trees_fit_a_small_stack() {
    // Threads have 2 MiB; the parser refuses what would not fit.
    let deep = |open: &str, close: &str| {
        (0..2_000)
            .rev()
            .step_by(50)
            .map(|depth| format!("{}up{}", open.repeat(depth), close.repeat(depth)))
            .find(|query| parse(query).is_ok())
            .expect("shallow queries parse")
    };
    let queries = [
        deep("(", ")"),
        deep("-", ""),
        deep("abs(", ")"),
        deep("sum(", ")"),
        deep("1 + (", ")"),
        deep("up and (", ")"),
        deep("max_over_time(", "[1m:1m])"),
        deep("label_join(", ", 'a', 'b', 'c')"),
    ];
    for query in queries {
        let thread = std::thread::Builder::new().stack_size(2 << 20).spawn(move || {
            // Limits may be met, the stack must not be.
            show(&query, EvalTime::Instant(600_000));
        });
        thread.expect("a thread starts").join().expect("no panic");
    }
}
