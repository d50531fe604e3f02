//! The stage `metrics` from a tree.

use std::time::Duration;

use super::go_values::GoDuration;
use super::read_stage::{StageReader, Syntax};
use super::stage::{GaugeAction, MetricKind, MetricStage};
use super::stage_keys::required;
use crate::yaml::{FromNode, Node, Section, Span, Value, items_of, pairs_of};

/// Most buckets of a histogram.
const MAX_BUCKETS: usize = 500;
/// What `client_golang` takes where no buckets are told.
const DEFAULT_BUCKETS: [f64; 11] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// Reads metrics: by name in Promtail, as blocks in Alloy.
pub(super) fn read_metrics(reader: &StageReader<'_>, node: &Node) -> Vec<MetricStage> {
    let context = reader.context;
    let mut metrics: Vec<MetricStage> = Vec::new();
    let mut take = |metric: Option<MetricStage>, place: Span| {
        let Some(metric) = metric else { return };
        if metrics.iter().any(|known| known.name == metric.name) {
            let message = format!("the metric {} is there already", metric.name);
            context.fault(place, message, Some("give each metric a name of its own".to_owned()));
            return;
        }
        metrics.push(metric);
    };
    match reader.syntax {
        Syntax::Promtail => {
            for (key, node) in pairs_of(context, node) {
                let Some(name) = String::from_node(context, key) else { continue };
                let metric = Section::open(context, node, "stages.MetricConfig")
                    .and_then(|section| promtail_metric(&name, section));
                take(metric, key.span);
            }
        }
        Syntax::Alloy => {
            let Some(mut section) = Section::open(context, node, "stage.metrics") else {
                return metrics;
            };
            let blocks = section.node("metric").map(|node| items_of(context, node));
            section.finish();
            for block in blocks.unwrap_or_default() {
                let Value::Mapping(pairs) = &block.value else { continue };
                let Some((kind, node)) = pairs.first() else { continue };
                let Some(kind_name) = String::from_node(context, kind) else { continue };
                let metric = Section::open(context, node, "metric")
                    .and_then(|section| alloy_metric(&kind_name, kind.span, section));
                take(metric, kind.span);
            }
        }
    }
    metrics
}

/// The keys of a metric, and what is done below `config`.
fn promtail_metric(name: &str, mut section: Section<'_>) -> Option<MetricStage> {
    let kind: String = section.value::<String>("type").to_ascii_lowercase();
    let place = section.place("type");
    let common = Common::read(&mut section, name, "promtail_custom_");
    let context = section.context;
    let config = section.node("config");
    let empty = Node::nothing(section.span_start());
    section.finish();
    let mut config = Section::open(context, config.unwrap_or(&empty), "metric.Config")?;
    let metric = common.with_kind(&mut config, &kind, place);
    config.finish();
    metric
}

/// All keys in one block.
fn alloy_metric(kind: &str, place: Span, mut section: Section<'_>) -> Option<MetricStage> {
    let name = required(&mut section, "name", "a metric needs a name").unwrap_or_default();
    let common = Common::read(&mut section, &name, "loki_process_custom_");
    let metric = common.with_kind(&mut section, kind, place);
    section.finish();
    metric.filter(|_| !name.is_empty())
}

/// What metrics of all kinds have.
struct Common {
    name: String,
    description: String,
    source: String,
    max_idle: Duration,
}

impl Common {
    fn read(section: &mut Section<'_>, name: &str, default_prefix: &str) -> Self {
        let prefix: String = section.value("prefix");
        let prefix = if prefix.is_empty() { default_prefix } else { &prefix };
        let full = format!("{prefix}{name}");
        if !name.is_empty() && !model::is_legacy_metric_name(&full) {
            let message = format!("{full:?} is not a valid metric name");
            let help = "a name has letters, digits, `_` and `:` and begins with no digit";
            section.context.fault(section.span_start(), message, Some(help.to_owned()));
        }
        let idle = section.read::<GoDuration>("max_idle_duration").map(|idle| idle.0);
        if idle.is_some_and(|idle| idle < Duration::from_secs(1)) {
            let message = "max_idle_duration less than 1s not allowed";
            section.fault("max_idle_duration", message, None);
        }
        let source: String = section.value("source");
        Common {
            name: full,
            description: section.value("description"),
            source: if source.is_empty() { name.to_owned() } else { source },
            max_idle: idle.unwrap_or(Duration::from_secs(300)),
        }
    }

    fn with_kind(self, section: &mut Section<'_>, kind: &str, place: Span) -> Option<MetricStage> {
        let value = section.read::<String>("value").filter(|value| !value.is_empty());
        let kind = match kind {
            "counter" => counter(section, value.is_some())?,
            "gauge" => gauge(section)?,
            "histogram" => MetricKind::Histogram { buckets: buckets(section)? },
            other => {
                let message = format!(
                    "invalid metric type '{other}', metric type must be one of 'counter', 'gauge', \
                     or 'histogram'"
                );
                section.context.fault(place, message, None);
                return None;
            }
        };
        let Common { name, description, source, max_idle } = self;
        Some(MetricStage { name, description, source, max_idle, value, kind })
    }
}

fn counter(section: &mut Section<'_>, has_value: bool) -> Option<MetricKind> {
    let match_all: bool = section.value("match_all");
    let count_entry_bytes: bool = section.value("count_entry_bytes");
    let action: String = section.value("action");
    let adds = match action.to_ascii_lowercase().as_str() {
        "inc" => false,
        "add" => true,
        "" => {
            let message = "counter action must be defined as either `inc` or `add`";
            section.fault("action", message, Some("add `action`"));
            return None;
        }
        other => {
            let message =
                format!("action {other} is not valid, action must be either `inc` or `add`");
            section.fault("action", message, None);
            return None;
        }
    };
    if match_all && has_value {
        let message = "`match_all: true` cannot be combined with `value`, please remove \
                       `match_all` or `value`";
        section.fault("match_all", message, None);
    }
    if count_entry_bytes && !match_all {
        let message = "`count_entry_bytes: true` can only be set with `match_all: true`";
        section.fault("count_entry_bytes", message, None);
    }
    if count_entry_bytes && !adds {
        let message = "`count_entry_bytes: true` can only be used with `action: add`";
        section.fault("count_entry_bytes", message, None);
    }
    Some(MetricKind::Counter { adds, match_all, count_entry_bytes })
}

fn gauge(section: &mut Section<'_>) -> Option<MetricKind> {
    let action: String = section.value("action");
    Some(MetricKind::Gauge(match action.to_ascii_lowercase().as_str() {
        "set" => GaugeAction::Set,
        "inc" => GaugeAction::Inc,
        "dec" => GaugeAction::Dec,
        "add" => GaugeAction::Add,
        "sub" => GaugeAction::Sub,
        "" => {
            let message = "gauge action must be defined as `set`, `inc`, `dec`, `add`, or `sub`";
            section.fault("action", message, Some("add `action`"));
            return None;
        }
        other => {
            let message = format!(
                "action {other} is not valid, action must be `set`, `inc`, `dec`, `add`, or `sub`"
            );
            section.fault("action", message, None);
            return None;
        }
    }))
}

fn buckets(section: &mut Section<'_>) -> Option<Vec<f64>> {
    let mut buckets: Vec<f64> = section.value("buckets");
    if buckets.is_empty() {
        return Some(DEFAULT_BUCKETS.to_vec());
    }
    if buckets.len() > MAX_BUCKETS {
        let message = format!("{} buckets are more than {MAX_BUCKETS}", buckets.len());
        section.fault("buckets", message, None);
        return None;
    }
    if buckets.last() == Some(&f64::INFINITY) {
        buckets.pop();
    }
    let is_ascending = buckets.windows(2).all(|pair| pair[0] < pair[1]);
    if !is_ascending || buckets.iter().any(|bound| !bound.is_finite()) {
        let message = "histogram buckets must be in increasing order";
        section.fault("buckets", message, Some("list upper bounds, the smallest first"));
        return None;
    }
    Some(buckets)
}
