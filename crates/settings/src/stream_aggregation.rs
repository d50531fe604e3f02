//! Rules of streaming aggregation, in the shape of VictoriaMetrics' files.
//!
//! Source: VictoriaMetrics' documentation, "Streaming aggregation", "Stream aggregation config".

use std::path::Path;

use model::Matcher;

use crate::diagnostic::Faults;
use crate::prometheus::read::relabel::read as read_relabel_rules;
use crate::relabel::RelabelConfig;
use crate::suggestion::nearest;
use crate::yaml::{
    Context, Document, FromNode, LabelName, Milliseconds, Node, Section, Span, Value, items_of,
};
use crate::{NameValidation, format_duration};

/// Shortest interval.
const MIN_INTERVAL_MS: u64 = 1_000;
/// Longest interval: what is not written for longer than this is no monitoring.
const MAX_INTERVAL_MS: u64 = 24 * 60 * 60 * 1_000;
/// Most rules.
const MAX_RULES: usize = 1_000;

/// Turns the text of a selector into matchers; the error is what is wrong with it.
pub type ParseSelector<'a> = dyn Fn(&str) -> Result<Vec<Matcher>, String> + 'a;

/// One rule. Times are in milliseconds.
#[derive(Debug, Clone)]
pub struct AggregationRule {
    /// What it is called, possibly nothing.
    pub name: String,
    /// Selectors, of which one has to match; none matches everything.
    pub selectors: Vec<Vec<Matcher>>,
    /// Length of a window.
    pub interval_ms: u64,
    /// As it was written, for names of series.
    pub interval: String,
    /// Labels that are kept; sorted. Empty if `without` is used, or all are kept.
    pub by: Vec<String>,
    /// Labels that are cut off; sorted.
    pub without: Vec<String>,
    /// What is computed, at least one.
    pub outputs: Vec<AggregationOutput>,
    /// Whether the output has the input's name.
    pub keep_metric_names: bool,
    /// The last sample of each series in such an interval counts; 0 if all do.
    pub dedup_interval_ms: u64,
    /// A series without samples for so long is forgotten.
    pub staleness_interval_ms: u64,
    /// For so long after the rule's beginning the first sample of a counter is not counted.
    pub ignore_first_sample_interval_ms: u64,
    /// Windows after the rule's beginning that are not written.
    pub ignore_first_intervals: u64,
    /// Whether samples older than the window in which they come are left out.
    pub ignore_old_samples: bool,
    /// Whether an unfinished window is written when the process stops.
    pub flush_on_shutdown: bool,
    /// Labels that are cut off before anything else.
    pub drop_input_labels: Vec<String>,
    /// Applied to the labels of what comes.
    pub input_relabel_configs: Vec<RelabelConfig>,
    /// Applied to the labels of what is written.
    pub output_relabel_configs: Vec<RelabelConfig>,
    /// Tells rules apart, over restarts: the same words are the same rule.
    pub identity: String,
}

/// What is computed of a group's samples in a window.
#[derive(Debug, Clone, PartialEq)]
pub enum AggregationOutput {
    /// The mean.
    Avg,
    /// How many samples.
    CountSamples,
    /// How many series.
    CountSeries,
    /// A histogram of all values since the group is known.
    HistogramBucket,
    /// By how much counters rose.
    Increase,
    /// The same without the first sample of each series.
    IncreasePrometheus,
    /// The value with the newest timestamp.
    Last,
    /// The largest value.
    Max,
    /// The smallest value.
    Min,
    /// Quantiles, each from 0 to 1.
    Quantiles(Vec<f64>),
    /// The mean of the counters' rates per second.
    RateAvg,
    /// The sum of them.
    RateSum,
    /// The standard deviation.
    Stddev,
    /// The variance.
    Stdvar,
    /// The sum.
    SumSamples,
    /// A counter of all by how much counters rose.
    Total,
    /// The same without the first sample of each series.
    TotalPrometheus,
    /// How many different values.
    UniqueSamples,
}

/// Outputs without arguments, by name.
const OUTPUTS: [(&str, AggregationOutput); 17] = [
    ("avg", AggregationOutput::Avg),
    ("count_samples", AggregationOutput::CountSamples),
    ("count_series", AggregationOutput::CountSeries),
    ("histogram_bucket", AggregationOutput::HistogramBucket),
    ("increase", AggregationOutput::Increase),
    ("increase_prometheus", AggregationOutput::IncreasePrometheus),
    ("last", AggregationOutput::Last),
    ("max", AggregationOutput::Max),
    ("min", AggregationOutput::Min),
    ("rate_avg", AggregationOutput::RateAvg),
    ("rate_sum", AggregationOutput::RateSum),
    ("stddev", AggregationOutput::Stddev),
    ("stdvar", AggregationOutput::Stdvar),
    ("sum_samples", AggregationOutput::SumSamples),
    ("total", AggregationOutput::Total),
    ("total_prometheus", AggregationOutput::TotalPrometheus),
    ("unique_samples", AggregationOutput::UniqueSamples),
];

impl AggregationOutput {
    /// The name, as it ends the names of series.
    pub fn name(&self) -> &'static str {
        let found = OUTPUTS.iter().find(|(_, output)| output == self);
        found.map_or("quantiles", |(name, _)| name)
    }
}

/// The rules below `path` of a document, such as `stream_aggregation.rules`; those of the whole
/// document if `path` is empty.
///
/// # Errors
/// All that is wrong with them, each with its place.
pub fn read_rules(
    document: &Document,
    path: &str,
    parse: &ParseSelector<'_>,
) -> Result<Vec<AggregationRule>, Faults> {
    let mut node = document.root();
    for step in path.split('.').filter(|step| !step.is_empty()) {
        node = node.and_then(|node| below(node, step));
    }
    let Some(node) = node else { return Ok(Vec::new()) };
    let context = Context::new(document.source(), Path::new(""));
    let mut rules: Vec<AggregationRule> = Vec::new();
    for item in items_of(&context, node) {
        if item.is_null() {
            context.fault(item.span, "empty rule", Some("remove the lone `-`".to_owned()));
            continue;
        }
        let Some(section) = Section::open(&context, item, "streamaggr.Config") else { continue };
        let Some(rule) = read_rule(section, parse) else { continue };
        if rules.iter().any(|other| other.identity == rule.identity) {
            let help = "remove one of them: both would write the same series".to_owned();
            context.fault(start_of(item), "the same rule twice", Some(help));
        }
        rules.push(rule);
    }
    if rules.len() > MAX_RULES {
        let message = format!("{} rules; there may be {MAX_RULES}", rules.len());
        context.fault(start_of(node), message, None);
    }
    let faults = context.finish().faults;
    if faults.is_empty() { Ok(rules) } else { Err(Faults::new(faults)) }
}

fn below<'a>(node: &'a Node, step: &str) -> Option<&'a Node> {
    let Value::Mapping(pairs) = &node.value else { return None };
    let is_it = |key: &Node| matches!(&key.value, Value::Scalar(scalar) if scalar.text() == step);
    pairs.iter().find(|(key, _)| is_it(key)).map(|(_, value)| &**value)
}

/// A caret under a whole block would say nothing.
fn start_of(node: &Node) -> Span {
    (node.span.0, node.span.0 + 1)
}

fn read_rule(mut section: Section<'_>, parse: &ParseSelector<'_>) -> Option<AggregationRule> {
    let name = section.value("name");
    let mut words = Vec::new();
    let selectors = read_selectors(&mut section, parse, &mut words);
    let (interval, interval_ms) = read_interval(&mut section)?;
    let interval_ms_or =
        |section: &mut Section<'_>, key, default| read_ms(section, key).unwrap_or(default);
    let dedup_interval_ms = interval_ms_or(&mut section, "dedup_interval", 0);
    if dedup_interval_ms > 0
        && (dedup_interval_ms > interval_ms || !interval_ms.is_multiple_of(dedup_interval_ms))
    {
        let message = format!("the interval {interval} is no multiple of it");
        section.fault("dedup_interval", message, Some("give a part of the interval"));
    }
    let staleness_interval_ms = interval_ms_or(&mut section, "staleness_interval", 2 * interval_ms);
    if staleness_interval_ms < interval_ms {
        let message = format!("shorter than the interval {interval}");
        section.fault("staleness_interval", message, Some("give at least the interval"));
    }
    let ignore_first_sample_interval_ms =
        interval_ms_or(&mut section, "ignore_first_sample_interval", staleness_interval_ms);
    let by = read_labels(&mut section, "by");
    let without = read_labels(&mut section, "without");
    if !by.is_empty() && !without.is_empty() {
        section.fault("without", "`by` and `without` cannot be used together", None);
    }
    let (outputs, written) = read_outputs(&mut section);
    let keep_metric_names = section.value("keep_metric_names");
    if keep_metric_names && outputs.len() > 1 {
        let message = "with several outputs they would all be written to one series";
        section.fault("keep_metric_names", message, Some("give the rule one output"));
    }
    for (key, help) in [
        ("no_align_flush_to_interval", "windows end at multiples of the interval"),
        ("enable_windows", "a sample belongs to the window in which it comes"),
    ] {
        if section.value::<bool>(key) {
            section.fault(key, "not supported", Some(&format!("remove it: {help}")));
        }
    }
    for key in ["keep_input", "drop_input"] {
        if section.has(key) {
            let help = "it stands beside `rules`, and holds for all of them, as the flag of \
                        VictoriaMetrics does";
            let _ = section.value::<bool>(key);
            section.fault(key, format!("{key} is no key of a rule"), Some(help));
        }
    }
    let relabel = |section: &mut Section<'_>, key| {
        read_relabel_rules(section, key, NameValidation::Utf8, "empty or null relabeling rule")
    };
    let mut rule = AggregationRule {
        name,
        selectors,
        interval_ms,
        interval,
        by,
        without,
        outputs,
        keep_metric_names,
        dedup_interval_ms,
        staleness_interval_ms,
        ignore_first_sample_interval_ms,
        ignore_first_intervals: section.value("ignore_first_intervals"),
        ignore_old_samples: section.value("ignore_old_samples"),
        flush_on_shutdown: section.value("flush_on_shutdown"),
        drop_input_labels: read_labels(&mut section, "drop_input_labels"),
        input_relabel_configs: relabel(&mut section, "input_relabel_configs"),
        output_relabel_configs: relabel(&mut section, "output_relabel_configs"),
        identity: String::new(),
    };
    rule.identity = format!(
        "{words:?} {} {:?} {:?} {written:?} {} {} {:?} {:?} {:?}",
        rule.interval_ms,
        rule.by,
        rule.without,
        rule.keep_metric_names,
        rule.dedup_interval_ms,
        rule.drop_input_labels,
        rule.input_relabel_configs,
        rule.output_relabel_configs,
    );
    section.finish();
    Some(rule)
}

fn read_interval(section: &mut Section<'_>) -> Option<(String, u64)> {
    let text: String = section.value("interval");
    if text.is_empty() {
        let help = "add the length of a window: interval: 1m";
        section.fault("interval", "missing `interval` option", Some(help));
        return None;
    }
    let interval_ms = read_ms(section, "interval")?;
    if (MIN_INTERVAL_MS..=MAX_INTERVAL_MS).contains(&interval_ms) {
        return Some((text, interval_ms));
    }
    let shown = |ms| format_duration(std::time::Duration::from_millis(ms));
    let message = format!(
        "{text} is out of range; it must be from {} to {}",
        shown(MIN_INTERVAL_MS),
        shown(MAX_INTERVAL_MS)
    );
    section.fault("interval", message, None);
    None
}

fn read_ms(section: &mut Section<'_>, key: &'static str) -> Option<u64> {
    section.read::<Milliseconds>(key).map(|ms| ms.0.min(365 * MAX_INTERVAL_MS))
}

/// One text or a list of them.
fn texts<'a>(section: &mut Section<'a>, key: &'static str) -> Vec<(&'a Node, String)> {
    let context = section.context;
    let Some(node) = section.node(key) else { return Vec::new() };
    let nodes = if node.is_scalar() { vec![node] } else { items_of(context, node) };
    let text = |node: &'a Node| Some((node, String::from_node(context, node)?));
    nodes.into_iter().filter(|node| !node.is_null()).filter_map(text).collect()
}

fn read_selectors(
    section: &mut Section<'_>,
    parse: &ParseSelector<'_>,
    words: &mut Vec<String>,
) -> Vec<Vec<Matcher>> {
    let context = section.context;
    let mut selectors = Vec::new();
    for (node, text) in texts(section, "match") {
        match parse(&text) {
            Ok(matchers) => selectors.push(matchers),
            Err(error) => {
                let help = "write a selector such as http_requests_total{job=\"api\"}".to_owned();
                context.fault(node.span, format!("no selector: {error}"), Some(help));
            }
        }
        words.push(text);
    }
    selectors
}

fn read_labels(section: &mut Section<'_>, key: &'static str) -> Vec<String> {
    let labels: Vec<LabelName> = section.value(key);
    // The name of a metric is kept anyhow, as in VictoriaMetrics.
    let mut labels: Vec<String> =
        labels.into_iter().map(|label| label.0).filter(|name| name != model::METRIC_NAME).collect();
    labels.sort();
    labels.dedup();
    labels
}

fn read_outputs(section: &mut Section<'_>) -> (Vec<AggregationOutput>, Vec<String>) {
    let context = section.context;
    let (mut outputs, mut written) = (Vec::new(), Vec::new());
    let found = texts(section, "outputs");
    if found.is_empty() {
        let help = "add what is to be computed: outputs: [total]";
        section.fault("outputs", "`outputs` list must not be empty", Some(help));
    }
    for (node, text) in found {
        match read_output(&text) {
            Ok(output) if outputs.contains(&output) || is_second_quantiles(&outputs, &output) => {
                context.fault(node.span, format!("the output {text} is listed twice"), None);
            }
            Ok(output) => outputs.push(output),
            Err((message, help)) => context.fault(node.span, message, Some(help)),
        }
        written.push(text);
    }
    (outputs, written)
}

fn is_second_quantiles(outputs: &[AggregationOutput], output: &AggregationOutput) -> bool {
    let is_quantiles =
        |output: &AggregationOutput| matches!(output, AggregationOutput::Quantiles(_));
    is_quantiles(output) && outputs.iter().any(is_quantiles)
}

fn read_output(text: &str) -> Result<AggregationOutput, (String, String)> {
    if let Some((_, output)) = OUTPUTS.iter().find(|(name, _)| *name == text) {
        return Ok(output.clone());
    }
    if let Some(inner) = text.strip_prefix("quantiles(").and_then(|rest| rest.strip_suffix(')')) {
        let parse = |part: &str| part.trim().parse().ok().filter(|phi| (0.0..=1.0).contains(phi));
        let phis: Option<Vec<f64>> = inner.split(',').map(parse).collect();
        return phis.map(AggregationOutput::Quantiles).ok_or_else(|| {
            let help = "write quantiles(0.5, 0.99): numbers from 0 to 1";
            (format!("unsupported arguments of {text}"), help.to_owned())
        });
    }
    let names = || OUTPUTS.iter().map(|(name, _)| *name).chain(["quantiles(0.5, 0.99)"]);
    let help = match nearest(text, names()) {
        Some(known) => format!("did you mean `{known}`?"),
        None => format!("known here: {}", names().collect::<Vec<_>>().join(", ")),
    };
    Err((format!("unsupported output {text:?}"), help))
}
