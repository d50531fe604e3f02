//! LogQL: the parser, pipelines over lines, and queries of numbers over a small store.

use logql::compile;
use logql::metric::{
    self, EvalOptions, Evaluation, MetadataWanted, MetricError, Request, Run, Sink, Source, Steps,
    evaluate,
};
use logql::pipeline::{Pipeline, Stage};
use logql::syntax::ast::{Expr, MetricExpr};
use logql::syntax::{
    optimized, parse, parse_bytes, parse_labels, parse_matchers, pretty, pretty_within, tokens,
};
use model::Labels;

use crate::input::text_of;

const SECOND_NS: i64 = 1_000_000_000;

/// What parses is printed, and what is printed is the same query. Whatever else may read the text
/// does not fall over it.
pub(crate) fn parser(bytes: &[u8]) {
    let _ = parse_bytes(bytes);
    let text = text_of(bytes);
    for (_, span) in tokens(text) {
        assert!(text.get(span.start as usize..span.end as usize).is_some(), "{text}: {span:?}");
    }
    let _ = parse_matchers(text);
    if let Ok(labels) = parse_labels(text) {
        assert!(labels.iter().all(|(name, value)| !name.is_empty() && !value.is_empty()), "{text}");
    }
    let Ok(expr) = parse(text) else { return };
    let canonical = expr.to_string();
    for printed in [canonical.clone(), pretty(&expr), pretty_within(&expr, 8)] {
        let again = parse(&printed).unwrap_or_else(|error| panic!("{text} -> {printed}: {error}"));
        assert_eq!(again.to_string(), canonical, "{text} -> {printed}");
    }
    if compile::check(&expr).is_ok()
        && let Expr::Metric(metric) = expr
    {
        // Compared as text, because no NaN equals itself.
        let optimal = optimized(metric);
        assert_eq!(optimized(optimal.clone()).to_string(), optimal.to_string(), "{text}");
    }
}

/// A line that passed, without the memory of its pipeline.
type Passed = Option<(Vec<u8>, Vec<(String, String)>, Option<u64>)>;

fn pass(pipeline: &mut Pipeline, line: &[u8]) -> Passed {
    let metadata = [("meta", "m"), ("app", "other"), ("empty", "")];
    let entry = pipeline.process(1_700_000_000 * SECOND_NS, line, metadata)?;
    let mut labels = Vec::new();
    entry.for_each_label(|name, value, _| labels.push((name.to_owned(), value.to_owned())));
    labels.sort_unstable();
    let names: Vec<&String> = labels.iter().map(|(name, _)| name).collect();
    assert!(names.windows(2).all(|pair| pair[0] != pair[1]), "a name twice: {labels:?}");
    entry.for_each_grouped_label(|name, value, _| {
        assert!(labels.iter().any(|label| label.0 == name && label.1 == value), "{name}={value}");
    });
    Some((entry.line().to_vec(), labels, entry.sample().map(f64::to_bits)))
}

/// The first row is a pipeline, those below it are lines: each passes alike whether the pipeline has
/// seen others before or not.
pub(crate) fn pipeline(bytes: &[u8]) {
    let mut rows = bytes.split(|byte| *byte == b'\n');
    let stages = text_of(rows.next().unwrap_or_default());
    // Longer ones only take longer, and then the search finds less.
    if stages.len() > 300 || bytes.len() > 1_500 {
        return;
    }
    let Some(stages) = stages_of(stages) else { return };
    let fresh = || {
        let mut pipeline = Pipeline::new(stages.clone(), 3);
        pipeline.set_stream([("app", "a"), ("pod", "p")]);
        pipeline
    };
    let mut used = fresh();
    for line in rows.take(8) {
        let passed = pass(&mut used, line);
        assert_eq!(pass(&mut fresh(), line), passed, "{:?}", String::from_utf8_lossy(bytes));
    }
}

/// The stages of a query of lines, and what unwraps if the text says so.
fn stages_of(stages: &str) -> Option<Vec<Stage>> {
    if stages.contains("unwrap") {
        let query = format!("sum_over_time({{app=\"a\"}} {stages} [1m])");
        let Ok(Expr::Metric(MetricExpr::Range(range))) = parse(&query) else { return None };
        return compile::range_stages(&range.range).ok();
    }
    let Ok(Expr::Log(log)) = parse(&format!("{{app=\"a\"}} {stages}")) else { return None };
    compile::stages(&log).ok()
}

/// Any query over a small store ends in time with a value or an error; a range of one step is what
/// an instant query says; and lines that come as a number count like lines.
pub(crate) fn evaluator(bytes: &[u8]) {
    let text = text_of(bytes);
    if text.len() > 300 {
        return;
    }
    let Ok(Expr::Metric(expr)) = parse(text) else { return };
    let run = |steps, gives_runs| {
        let options = EvalOptions {
            max_series: 50,
            max_values: 5_000,
            now_ns: 0,
            zones: model::NO_ZONES,
            seed: 3,
        };
        match evaluate(&expr, steps, &Lines { gives_runs }, &options) {
            Ok(Evaluation::Scalar(value)) => Ok(vec![format!("{value:?}")]),
            Ok(Evaluation::Series(series)) => {
                let shown = |one| format!("{one:?}");
                Ok(series.into_iter().map(shown).collect::<Vec<_>>())
            }
            Err(error) => Err(error.to_string()),
        }
    };
    let range = Steps::range(0, 120 * SECOND_NS, 15 * SECOND_NS);
    assert_eq!(run(range, true), run(range, false), "{text}");
    let at = 60 * SECOND_NS;
    assert_eq!(
        run(Steps::instant(at), true),
        run(Steps::range(at, at, SECOND_NS), false),
        "{text}"
    );
}

/// Two streams with a line each five seconds.
struct Lines {
    gives_runs: bool,
}

const LINES: [&str; 4] =
    ["k=1 v=2.5s", "{\"k\":\"x\",\"v\":\"5KB\"}", "GET 10.0.0.1 k= v=3", "broken \" ="];

impl Source for Lines {
    fn read(&self, request: &Request<'_>, sink: &mut dyn Sink) -> Result<(), MetricError> {
        for app in ["a", "b"] {
            let labels = Labels::from_pairs([("app", app)]).expect("one label");
            let value = |name: &str| labels.get(name).unwrap_or_default().to_owned();
            if !request.matchers().iter().all(|matcher| matcher.matches(&value(&matcher.name))) {
                continue;
            }
            sink.stream(&labels);
            for (number, line) in LINES.iter().cycle().take(24).enumerate() {
                let timestamp_ns = number as i64 * 5 * SECOND_NS;
                let line_bytes = line.len() as u64;
                if timestamp_ns <= request.after_ns || timestamp_ns > request.until_ns {
                    continue;
                }
                let mut metadata: &[(&str, &str)] =
                    if number % 3 == 0 { &[("k", "m")] } else { &[] };
                let takes_run = request.takes_runs && sink.takes_run(timestamp_ns, timestamp_ns);
                if self.gives_runs && takes_run {
                    let (first_ns, last_ns) = (timestamp_ns, timestamp_ns);
                    if let MetadataWanted::Named(names) = request.metadata
                        && !names.iter().any(|name| name == "k")
                    {
                        metadata = &[];
                    }
                    sink.run(Run { first_ns, last_ns, lines: 1, bytes: line_bytes, metadata })?;
                    continue;
                }
                let line = line.as_bytes();
                sink.entry(&metric::Entry { timestamp_ns, line, line_bytes, metadata })?;
            }
        }
        Ok(())
    }
}
