//! Queries of numbers over lines in memory.

use logql::compile::stages;
use logql::metric::{
    Entry, EvalOptions, Evaluation, MetadataWanted, MetricError, Request, Run, Sink, Source, Steps,
    evaluate,
};
use logql::pipeline::Pipeline;
use logql::syntax::ast::StageKind;
use logql::syntax::{optimized, parse_metric};
use model::Labels;

const SECOND: i64 = 1_000_000_000;

/// A line: the second it was written in, labels of its stream, metadata, text.
type Line<'l> = (i64, &'l [(&'l str, &'l str)], &'l [(&'l str, &'l str)], &'l str);

/// Hands over what the selector and the time choose.
struct Lines<'l>(&'l [Line<'l>]);

/// The same, as a run for each line where that is allowed.
struct Runs<'l>(Lines<'l>);

/// Passes lines on as runs, without what is in them.
struct AsRuns<'s, 'q> {
    sink: &'s mut dyn Sink,
    request: &'q Request<'q>,
}

impl Sink for AsRuns<'_, '_> {
    fn stream(&mut self, labels: &Labels) {
        self.sink.stream(labels);
    }

    fn entry(&mut self, entry: &Entry<'_>) -> Result<(), MetricError> {
        let (t_ns, lines, bytes) = (entry.timestamp_ns, 1, entry.line_bytes);
        if !self.request.takes_runs || !self.sink.takes_run(t_ns, t_ns) {
            return self.sink.entry(entry);
        }
        let MetadataWanted::Named(names) = self.request.metadata else { panic!("all of it") };
        let is_wanted = |pair: &&(&str, &str)| names.iter().any(|name| name == pair.0);
        let metadata: Vec<(&str, &str)> =
            entry.metadata.iter().filter(is_wanted).copied().collect();
        let (first_ns, last_ns) = (t_ns, t_ns);
        self.sink.run(Run { first_ns, last_ns, lines, bytes, metadata: &metadata })
    }

    fn takes_run(&self, _: i64, _: i64) -> bool {
        false
    }

    fn run(&mut self, _: Run<'_>) -> Result<(), MetricError> {
        Ok(())
    }
}

impl Source for Runs<'_> {
    fn read(&self, request: &Request<'_>, sink: &mut dyn Sink) -> Result<(), MetricError> {
        self.0.read(request, &mut AsRuns { sink, request })
    }
}

impl Source for Lines<'_> {
    fn read(&self, request: &Request<'_>, sink: &mut dyn Sink) -> Result<(), MetricError> {
        for (second, stream, metadata, line) in self.0 {
            let value = |name: &str| {
                stream.iter().find(|(known, _)| *known == name).map_or("", |pair| pair.1)
            };
            let time = second * SECOND;
            let is_wanted = request.matchers().iter().all(|m| m.matches(value(&m.name)))
                && request.after_ns < time
                && time <= request.until_ns;
            if is_wanted {
                sink.stream(&Labels::from_pairs(stream.iter().copied()).expect("labels"));
                sink.entry(&Entry {
                    timestamp_ns: time,
                    line: line.as_bytes(),
                    line_bytes: line.len() as u64,
                    metadata,
                })?;
            }
        }
        Ok(())
    }
}

/// Hands over only lines that pass the filters on stored lines, and nothing of them that nobody reads.
struct Filtered<'a>(Lines<'a>);

struct Passing<'s> {
    sink: &'s mut dyn Sink,
    filters: Pipeline,
    needs_lines: bool,
}

impl Sink for Passing<'_> {
    fn stream(&mut self, labels: &Labels) {
        self.filters.set_stream(labels.iter());
        self.sink.stream(labels);
    }

    fn entry(&mut self, entry: &Entry<'_>) -> Result<(), MetricError> {
        if self.filters.process(entry.timestamp_ns, entry.line, []).is_none() {
            return Ok(());
        }
        let line = if self.needs_lines { entry.line } else { b"" };
        self.sink.entry(&Entry { line, ..*entry })
    }

    fn takes_run(&self, _: i64, _: i64) -> bool {
        false
    }

    fn run(&mut self, _: Run<'_>) -> Result<(), MetricError> {
        Ok(())
    }
}

impl Source for Filtered<'_> {
    fn read(&self, request: &Request<'_>, sink: &mut dyn Sink) -> Result<(), MetricError> {
        let mut log = request.log.clone();
        let is_stored = log.ordered_stages().into_iter().take_while(|one| !one.kind.changes_line());
        let filters = is_stored.filter(|one| matches!(one.kind, StageKind::LineFilter(_)));
        log.stages = filters.cloned().collect();
        assert!(log.stages.is_empty() || !request.takes_runs, "{}", request.log);
        let filters = Pipeline::new(stages(&log)?, 1);
        self.0.read(request, &mut Passing { sink, filters, needs_lines: request.needs_lines })
    }

    fn filters_lines(&self) -> bool {
        true
    }
}

fn outcome(query: &str, steps: Steps, lines: &[Line<'_>]) -> Result<Vec<String>, String> {
    let expr = parse_metric(query).map_err(|error| error.to_string())?;
    let options = EvalOptions {
        max_series: 500,
        max_values: 1 << 20,
        now_ns: 0,
        zones: model::NO_ZONES,
        seed: 3,
    };
    let expr = optimized(expr);
    let result = evaluate(&expr, steps, &Lines(lines), &options);
    let of_runs = evaluate(&expr, steps, &Runs(Lines(lines)), &options);
    assert_eq!(format!("{result:?}"), format!("{of_runs:?}"), "{query} by runs");
    let of_filtered = evaluate(&expr, steps, &Filtered(Lines(lines)), &options);
    assert_eq!(format!("{result:?}"), format!("{of_filtered:?}"), "{query} of filtered lines");
    Ok(match result.map_err(|error| error.to_string())? {
        Evaluation::Scalar(value) => vec![value.to_string()],
        Evaluation::Series(series) => series
            .into_iter()
            .map(|series| {
                let values: Vec<String> = series
                    .values
                    .iter()
                    .map(|value| value.map_or("-".to_owned(), |value| value.to_string()))
                    .collect();
                format!("{} {}", series.labels, values.join(" "))
            })
            .collect(),
    })
}

/// What a query yields at the end of the first minute.
fn at_a_minute(query: &str, lines: &[Line<'_>]) -> Vec<String> {
    outcome(query, Steps::instant(60 * SECOND), lines).unwrap_or_else(|error| vec![error])
}

#[test]
fn an_empty_label_tells_series_apart_until_they_are_grouped_or_matched() {
    let lines: &[Line<'_>] = &[
        (10, &[("app", "m")], &[("name", "")], "x=1"),
        (20, &[("app", "m")], &[], "x=2"),
        (30, &[("app", "m")], &[], "x="),
    ];
    let counted = r#"count_over_time({app="m"}[1m])"#;
    for (query, wanted) in [
        (counted.to_owned(), &[r#"{app="m"} 2"#, r#"{app="m", name=""} 1"#][..]),
        (format!("{counted} > 0"), &[r#"{app="m"} 2"#, r#"{app="m", name=""} 1"#]),
        (format!("topk(2, {counted})"), &[r#"{app="m"} 2"#, r#"{app="m", name=""} 1"#]),
        (format!("sum without (x) ({counted})"), &[r#"{app="m"} 3"#]),
        (format!("max without (x) ({counted})"), &[r#"{app="m"} 2"#]),
        (format!("sum by (app, name) ({counted})"), &[r#"{app="m"} 3"#]),
        (
            r#"label_replace(count_over_time({app="m"} | name="" | logfmt --keep-empty | x="" [1m]),
               "y", "z", "app", "m")"#
                .to_owned(),
            &[r#"{app="m", y="z"} 1"#],
        ),
        (
            r#"count_over_time({app="m"} | logfmt --keep-empty | x="" [1m])"#.to_owned(),
            &[r#"{app="m", x=""} 1"#],
        ),
        (
            r#"count_over_time({app="m"} | logfmt --keep-empty | x="" [1m])
               + on (app) group_left vector(1)"#
                .to_owned(),
            &[],
        ),
        (
            r#"count_over_time({app="m"} | logfmt --keep-empty | x="" [1m])
               + sum by (app) (count_over_time({app="m"}[1m]))"#
                .to_owned(),
            &[r#"{app="m"} 4"#],
        ),
    ] {
        assert_eq!(at_a_minute(&query, lines), wanted, "{query}");
    }
}

#[test]
fn labels_may_be_called_as_words_of_the_language() {
    let lines: &[Line<'_>] = &[(10, &[("by", "m")], &[], r#"{"bool": true, "on": "a"}"#)];
    for (query, wanted) in [
        (r#"{by="m"} | json b="bool" | keep b"#, r#"{b="true"} 1"#),
        (r#"{by=~"m"} | json bool="bool" | keep bool="true""#, r#"{bool="true"} 1"#),
        (r#"{by="m"} | json | bool="true" and on="a" | keep on="a""#, r#"{on="a"} 1"#),
        (r#"{by="m"} | label_format json=by | keep json="m""#, "syntax error: unexpected by"),
        // A stage followed by a condition on the line stays one.
        (r#"{by="m"} | json != "x" | keep y"#, "{} 1"),
        (r#"{by="m"} | json == 1"#, "syntax error: unexpected =="),
    ] {
        let got = at_a_minute(&format!("count_over_time({query} [1m])"), lines);
        assert!(got.len() == 1 && got[0].contains(wanted), "{query}: {got:?}");
    }
}

/// A line each ten seconds of the first minute.
const SIX: &[Line<'_>] = &[
    (10, &[("app", "a")], &[], "v=1"),
    (20, &[("app", "a")], &[], "v=2"),
    (30, &[("app", "a")], &[], "v=3"),
    (40, &[("app", "a")], &[], "v=4"),
    (50, &[("app", "a")], &[], "v=5"),
    (60, &[("app", "a")], &[], "v=6"),
];

#[test]
fn windows_end_at_the_step_and_hold_it() {
    for (range, wanted) in [
        ("[1m]", "6"),
        ("[30s]", "3"),
        ("[30s] offset 30s", "3"),
        ("[30s] offset -10s", "2"),
        ("[30s] offset 1h-1h", "parse error"),
        ("[10s500ms]", "2"),
        ("[1.5m]", "6"),
    ] {
        let got = at_a_minute(&format!("count_over_time({{app=\"a\"}}{range})"), SIX);
        let shown = format!("{{app=\"a\"}} {wanted}");
        assert!(got == [shown] || got[0].starts_with(wanted), "{range}: {got:?}");
    }
    let steps = Steps::range(0, 60 * SECOND, 25 * SECOND);
    let got = outcome(r#"count_over_time({app="a"}[10s])"#, steps, SIX);
    assert_eq!(got.expect("a result"), [r#"{app="a"} - 1 1"#]);
}

#[test]
fn every_range_aggregation_has_its_value() {
    for (query, wanted) in [
        (r#"rate({app="a"}[1m])"#, "0.1"),
        (r#"bytes_over_time({app="a"}[1m])"#, "18"),
        (r#"bytes_rate({app="a"}[1m])"#, "0.3"),
        (r#"rate({app="a"} | logfmt | unwrap v [1m])"#, "0.35"),
        (r#"sum_over_time({app="a"} | logfmt | unwrap v [1m])"#, "21"),
        (r#"avg_over_time({app="a"} | logfmt | unwrap v [1m])"#, "3.5"),
        (r#"min_over_time({app="a"} | logfmt | unwrap v [1m])"#, "1"),
        (r#"max_over_time({app="a"} | logfmt | unwrap v [1m])"#, "6"),
        (r#"first_over_time({app="a"} | logfmt | unwrap v [1m])"#, "1"),
        (r#"last_over_time({app="a"} | logfmt | unwrap v [1m])"#, "6"),
        (r#"stdvar_over_time({app="a"} | logfmt | unwrap v [1m]) * 12"#, "35"),
        (r#"stddev_over_time({app="a"} | logfmt | unwrap v [1m]) ^ 2 * 12 > 34.99 < 35.01"#, "35"),
        (r#"quantile_over_time(0.5, {app="a"} | logfmt | unwrap v [1m])"#, "3.5"),
        (r#"quantile_over_time(1.1, {app="a"} | logfmt | unwrap v [1m])"#, "inf"),
        // One in ten seconds, from its first to its last line and half a step to each end.
        (r#"rate_counter({app="a"} | logfmt | unwrap v [1m])"#, "0.1"),
        (r#"sum_over_time({app="a"} | label_format d="3m0.5s" | unwrap duration(d) [15s])"#, "361"),
        (r#"sum_over_time({app="a"} | label_format d="2 KiB" | unwrap bytes(d) [15s])"#, "4096"),
    ] {
        let got = at_a_minute(query, SIX);
        let value = got.first().and_then(|series| series.rsplit(' ').next()).unwrap_or_default();
        let is_close = match (value.parse::<f64>(), wanted.parse::<f64>()) {
            (Ok(value), Ok(wanted)) => value == wanted || (value - wanted).abs() < 1e-9,
            _ => false,
        };
        assert!(got.len() == 1 && is_close, "{query}: {got:?}");
    }
}

#[test]
fn numbers_and_series_are_put_together_as_in_loki() {
    for (query, wanted) in [
        ("2 ^ 3 ^ 2 - 1 * 4 % 3", &["511"][..]),
        ("vector(2) / 0", &["{} NaN"]),
        ("vector(2) % vector(0)", &["{} NaN"]),
        ("vector(1) and vector(2)", &["{} 1"]),
        ("vector(1) unless vector(2)", &[]),
        ("vector(1) or vector(2)", &["{} 1"]),
        (r#"count_over_time({app="a"}[1m]) > 10"#, &[]),
        (r#"count_over_time({app="a"}[1m]) > bool 10"#, &[r#"{app="a"} 0"#]),
        (r#"10 > count_over_time({app="a"}[1m])"#, &[r#"{app="a"} 6"#]),
        (r#"absent_over_time({app="q", x=~"y.*"}[1m])"#, &[r#"{app="q"} 1"#]),
        (r#"absent_over_time({app="a"}[1m])"#, &[]),
        (
            r#"sort(count_over_time({app="a"} | logfmt | v > 4 [1m]) * on (v) group_left ()
               sum by (v) (sum_over_time({app="a"} | logfmt | v > 4 | label_format w="{{.v}}" | unwrap w [1m])))"#,
            &[r#"{app="a", v="5"} 5"#, r#"{app="a", v="6"} 6"#],
        ),
        (
            r#"approx_topk(2, sum by (v) (count_over_time({app="a"} | logfmt [1m])) * 2)"#,
            &[r#"{v="1"} 2"#, r#"{v="2"} 2"#],
        ),
        (r#"label_replace(vector(1), "x", "$a-$1", "none", "(?P<a>b?)()")"#, &[r#"{x="-"} 1"#]),
    ] {
        assert_eq!(at_a_minute(query, SIX), wanted, "{query}");
    }
}

#[test]
fn what_failed_is_told_unless_a_condition_leaves_it_out() {
    let lines: &[Line<'_>] = &[
        (10, &[("app", "j")], &[], r#"{"status": 500, "took": "2s"}"#),
        (20, &[("app", "j")], &[], "no object"),
        (30, &[("app", "j")], &[], r#"{"status": "x", "took": "0.1s"}"#),
    ];
    let count = |stages: &str| {
        at_a_minute(&format!("sum(count_over_time({{app=\"j\"}} {stages} [1m]))"), lines)
    };
    // A condition on an address leaves a line that failed as it is.
    let got = count("| json | addr = ip(\"::1\")");
    assert!(got[0].starts_with("pipeline error: 'JSONParserErr'"), "{got:?}");
    for stages in
        ["| json | status >= 500", "| json | status >= 500 | __error__!=\"JSONParserErr\""]
    {
        let got = count(stages);
        assert!(got[0].starts_with("pipeline error: 'LabelFilterErr'"), "{got:?}");
    }
    // Other conditions want their label, whether the line failed or not.
    assert!(count("| json | size > 1KB").is_empty());
    for (stages, wanted) in [
        ("| json | __error__=\"\"", "{} 2"),
        ("| json | status >= 500 | __error__=\"\"", "{} 1"),
        ("| json | __error__=\"JSONParserErr\" | drop __error__, __error_details__", "{} 1"),
        ("| json | took > 1s", "{} 1"),
        ("| json | status >= 500 and took > 1s", "{} 1"),
    ] {
        assert_eq!(count(stages), [wanted], "{stages}");
    }
    let told = at_a_minute(
        r#"sum by (app) (count_over_time({app="j"} | json | took != 5s or app="j" [1m]))"#,
        lines,
    );
    assert_eq!(
        told,
        ["pipeline error: 'JSONParserErr' for series: '{__error__=\"JSONParserErr\", \
          __error_details__=\"Value looks like object, but can't find closing '}' symbol\", \
          app=\"j\"}'.\nUse a label filter to intentionally skip this error. (e.g | \
          __error__!=\"JSONParserErr\").\nTo skip all potential errors you can match empty \
          errors.(e.g __error__=\"\")\nThe label filter can also be specified after unwrap. (e.g | \
          unwrap latency | __error__=\"\" )\n"]
    );
}

/// Numbers are those of the lines that the same steps list, also where a template fails whose line nobody reads.
#[test]
fn a_template_that_fails_is_seen_by_what_chooses_lines_by_their_error() {
    let lines: &[Line<'_>] = &[
        (10, &[("app", "j")], &[], "v=1 an error"),
        (20, &[("app", "j")], &[], "v=2 fine"),
        (30, &[("app", "j")], &[], "v=3 fine"),
    ];
    let fails = r#"| line_format "{{ if contains \"error\" __line__ }}{{ div 1 0 }}{{ end }}""#;
    let unwrap = r#"label_format w="7" | unwrap w"#;
    let drop = "drop __error__, __error_details__";
    for (aggregation, stages, wanted) in [
        ("count_over_time", r#"__error__="""#.to_owned(), "{} 2"),
        ("rate", r#"__error__="""#.to_owned(), "{} 0.03333333333333333"),
        ("count_over_time", format!(r#"__error__!="" | {drop}"#), "{} 1"),
        ("count_over_time", format!(r#"__error_details__=~".*div.*" | {drop}"#), "{} 1"),
        (
            "count_over_time",
            format!(r#"label_format e="{{{{.__error__}}}}" | e!="" | {drop}, e"#),
            "{} 1",
        ),
        ("count_over_time", format!(r#"app=ip("::1") | {drop}"#), "{} 1"),
        ("sum_over_time", format!(r#"{unwrap} | __error__="""#), "{} 14"),
        // Nobody sees it, and Loki does not run it.
        ("count_over_time", r#"app="j""#.to_owned(), "{} 3"),
        ("sum_over_time", unwrap.to_owned(), "{} 21"),
    ] {
        let query = format!("sum({aggregation}({{app=\"j\"}} {fails} | {stages} [1m]))");
        assert_eq!(at_a_minute(&query, lines), [wanted], "{query}");
    }
    // What cannot fail is left out whoever looks for errors.
    let query = r#"count_over_time({app="j"} | line_format "{{.v}} x" | __error__="" [1m])"#;
    let expr = optimized(parse_metric(query).expect("a query"));
    assert_eq!(expr.to_string(), r#"count_over_time({app="j"} | __error__=""[1m])"#);
}

#[test]
fn counts_by_metadata_are_told_by_runs_as_by_lines() {
    let lines: &[Line<'_>] = &[
        (1, &[("app", "a")], &[("detected_level", "info")], "x"),
        (2, &[("app", "a")], &[("detected_level", "error"), ("k", "v")], "yy"),
        (3, &[("app", "a"), ("detected_level", "own")], &[("detected_level", "info")], "z"),
        (4, &[("app", "a")], &[], ""),
    ];
    let steps = Steps::instant(10 * SECOND);
    for (query, expected) in [
        (
            r#"sum by (level, detected_level) (count_over_time({app="a"}[10s]))"#,
            &[
                "{} 1",
                r#"{detected_level="error"} 1"#,
                r#"{detected_level="info"} 1"#,
                r#"{detected_level="own"} 1"#,
            ][..],
        ),
        (r#"sum by (app) (bytes_over_time({app="a"}[10s]))"#, &[r#"{app="a"} 4"#]),
        (
            r#"sum by (app) (count_over_time({app="a"} | detected_level="info" [10s]))"#,
            &[r#"{app="a"} 1"#],
        ),
        (r#"sum by (k) (sum_over_time({app="a"} | unwrap k [10s]))"#, &[]),
    ] {
        match outcome(query, steps, lines) {
            Ok(found) => assert_eq!(found, expected, "{query}"),
            // The value is none: both ways say so.
            Err(error) => assert!(error.starts_with("pipeline error"), "{query}: {error}"),
        }
    }
}
