//! `metrics`: what is counted of lines, and what stages count of themselves.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use model::{Labels, METRIC_NAME, MetricBatch, MetricMetadata, MetricType};
use parking_lot::Mutex;
use settings::logs::StageFault;
use settings::logs::stage::{GaugeAction, MetricKind, MetricStage};
use wire::text_encode::TextEncoder;

use super::chain::Link;
use super::line::Found;
use super::{Clock, Line, Plan, fault};

/// Series of one metric; labels of more lines are not counted.
const MAX_SERIES: usize = 10_000;
/// Reasons and fields that are told apart.
const MAX_NAMES: usize = 1_000;

/// Everything that stages count, of all sources of a process.
#[derive(Debug, Default)]
pub struct StageCounters {
    families: Mutex<BTreeMap<String, Arc<Family>>>,
    dropped: Mutex<BTreeMap<String, u64>>,
    truncated: Mutex<BTreeMap<String, u64>>,
    partial_flushed: Mutex<u64>,
}

/// A metric that a configuration names.
#[derive(Debug)]
struct Family {
    kind: MetricType,
    help: String,
    buckets: Vec<f64>,
    max_idle: Duration,
    series: Mutex<HashMap<Vec<u8>, Series>>,
}

#[derive(Debug)]
struct Series {
    labels: Labels,
    value: Value,
    last: Instant,
}

#[derive(Debug, Clone)]
enum Value {
    Number(f64),
    /// How many values lie at or below each bound and above the one before; the last is for those
    /// above all bounds.
    Histogram {
        counts: Vec<u64>,
        sum: f64,
    },
}

/// One sample of [`StageCounters::for_each_sample`].
struct Sample<'s> {
    name: &'s str,
    labels: Vec<(&'s str, &'s str)>,
    value: f64,
}

impl StageCounters {
    pub(super) fn dropped(&self, reason: &str) {
        add(&self.dropped, reason);
    }

    pub(super) fn truncated(&self, field: &str) {
        add(&self.truncated, field);
    }

    pub(super) fn partial_flushed(&self, lines: u64) {
        *self.partial_flushed.lock() += lines;
    }

    /// Lines that stages have dropped, by reason.
    pub fn dropped_lines(&self) -> BTreeMap<String, u64> {
        self.dropped.lock().clone()
    }

    /// The metric of that name: of stages that name the same one it is one.
    fn family(&self, stage: &MetricStage) -> Result<Arc<Family>, StageFault> {
        let (kind, buckets) = match &stage.kind {
            MetricKind::Counter { .. } => (MetricType::Counter, Vec::new()),
            MetricKind::Gauge(_) => (MetricType::Gauge, Vec::new()),
            MetricKind::Histogram { buckets } => (MetricType::Histogram, buckets.clone()),
        };
        let mut families = self.families.lock();
        if let Some(known) = families.get(&stage.name) {
            if known.kind != kind || known.buckets != buckets {
                let message = format!(
                    "the metric {} is there already, as a {} or with other buckets",
                    stage.name,
                    known.kind.as_str()
                );
                return Err(StageFault {
                    help: Some("give it another name or prefix".to_owned()),
                    ..fault("name", message)
                });
            }
            return Ok(Arc::clone(known));
        }
        let family = Arc::new(Family {
            kind,
            help: stage.description.clone(),
            buckets,
            max_idle: stage.max_idle,
            series: Mutex::default(),
        });
        families.insert(stage.name.clone(), Arc::clone(&family));
        Ok(family)
    }

    /// Appends all of it in the text format of Prometheus.
    pub fn render(&self, text: &mut TextEncoder<'_>) {
        let own = [
            (
                "watchfire_agent_log_lines_dropped_total",
                "Lines that stages and limits of the collection of logs have dropped.",
                "reason",
                &self.dropped,
            ),
            (
                "watchfire_agent_log_fields_truncated_total",
                "Lines, labels and values that stages and limits have cut.",
                "field",
                &self.truncated,
            ),
        ];
        for (name, help, label, counts) in own {
            text.family(name, "counter", help);
            for (value, count) in counts.lock().iter() {
                text.sample(name, &[(label, value)], *count as f64);
            }
        }
        let name = "watchfire_agent_log_partial_lines_flushed_total";
        let help = "Parts of lines that were put out because too many waited for their ends.";
        text.family(name, "counter", help);
        text.sample(name, &[], *self.partial_flushed.lock() as f64);
        self.for_each_family(Instant::now(), |name, family, samples| {
            text.family(name, family.kind.as_str(), &family.help);
            for sample in samples {
                text.sample(sample.name, &sample.labels, sample.value);
            }
        });
    }

    /// Appends what configurations count, for the agent to ship. `common` are labels that series get
    /// which have none of that name.
    pub fn collect(&self, common: &[(&str, &str)], t_ms: i64, batch: &mut MetricBatch) {
        self.for_each_family(Instant::now(), |name, family, samples| {
            batch.metadata.push(MetricMetadata {
                metric: name.to_owned(),
                kind: family.kind,
                help: family.help.clone(),
                unit: String::new(),
            });
            for sample in samples {
                let mut labels: BTreeMap<&str, &str> = common.iter().copied().collect();
                labels.extend(sample.labels.iter().copied());
                labels.insert(METRIC_NAME, sample.name);
                let labels = Labels::from_pairs(labels).expect("names are unique and not empty");
                batch.push(&labels, t_ms, sample.value);
            }
        });
    }

    fn for_each_family(&self, now: Instant, mut take: impl FnMut(&str, &Family, Vec<Sample<'_>>)) {
        let families: Vec<(String, Arc<Family>)> = {
            let families = self.families.lock();
            families.iter().map(|(name, family)| (name.clone(), Arc::clone(family))).collect()
        };
        for (name, family) in families {
            let mut series = family.series.lock();
            series.retain(|_, series| now.saturating_duration_since(series.last) < family.max_idle);
            let bounds: Vec<String> = family.buckets.iter().map(f64::to_string).collect();
            let parts = ["bucket", "sum", "count"].map(|part| format!("{name}_{part}"));
            let mut sorted: Vec<&Series> = series.values().collect();
            sorted.sort_by(|a, b| a.labels.as_packed().cmp(b.labels.as_packed()));
            let mut samples = Vec::new();
            for series in sorted {
                // The name of the metric is no label of lines.
                let labels: Vec<(&str, &str)> =
                    series.labels.iter().filter(|(name, _)| *name != METRIC_NAME).collect();
                match &series.value {
                    Value::Number(value) => {
                        samples.push(Sample { name: &name, labels, value: *value });
                    }
                    Value::Histogram { counts, sum } => {
                        let mut below = 0;
                        let infinity = ["+Inf".to_owned()];
                        for (count, bound) in counts.iter().zip(bounds.iter().chain(&infinity)) {
                            below += count;
                            let mut labels = labels.clone();
                            labels.retain(|(name, _)| *name != "le");
                            // Bounds lie in a list that outlives the samples.
                            let bound = match bounds.iter().find(|known| *known == bound) {
                                Some(known) => known.as_str(),
                                None => "+Inf",
                            };
                            labels.push(("le", bound));
                            samples.push(Sample { name: &parts[0], labels, value: below as f64 });
                        }
                        let count = below as f64;
                        samples.push(Sample {
                            name: &parts[1],
                            labels: labels.clone(),
                            value: *sum,
                        });
                        samples.push(Sample { name: &parts[2], labels, value: count });
                    }
                }
            }
            take(&name, &family, samples);
        }
    }
}

fn add(counts: &Mutex<BTreeMap<String, u64>>, name: &str) {
    let mut counts = counts.lock();
    if let Some(count) = counts.get_mut(name) {
        *count += 1;
    } else if counts.len() < MAX_NAMES {
        counts.insert(name.to_owned(), 1);
    }
}

impl Family {
    fn change(
        &self,
        line: &Line,
        key: &mut Vec<u8>,
        now: Instant,
        change: impl FnOnce(&mut Value),
    ) {
        key.clear();
        line.stream_key(key);
        let mut series = self.series.lock();
        if let Some(series) = series.get_mut(key) {
            series.last = now;
            return change(&mut series.value);
        }
        if series.len() >= MAX_SERIES {
            series.retain(|_, series| now.saturating_duration_since(series.last) < self.max_idle);
            if series.len() >= MAX_SERIES {
                return;
            }
        }
        let mut value = match self.kind {
            MetricType::Histogram => {
                Value::Histogram { counts: vec![0; self.buckets.len() + 1], sum: 0.0 }
            }
            _ => Value::Number(0.0),
        };
        change(&mut value);
        let labels = Labels::from_trusted_packed(key);
        series.insert(key.clone(), Series { labels, value, last: now });
    }
}

/// Metrics of one stage.
pub(super) fn metrics(
    stages: &[MetricStage],
    counters: &Arc<StageCounters>,
) -> Result<Plan, StageFault> {
    let mut counted = Vec::with_capacity(stages.len());
    for stage in stages {
        counted.push((stage.clone(), counters.family(stage)?));
    }
    let counted: Arc<[(MetricStage, Arc<Family>)]> = counted.into();
    Ok(Plan::new(move || {
        let counted = Arc::clone(&counted);
        let mut key = Vec::new();
        Link::simple(move |line: &mut Line, clock: &Clock| {
            for (stage, family) in &*counted {
                count(stage, family, line, &mut key, clock.now);
            }
            true
        })
    }))
}

fn count(stage: &MetricStage, family: &Family, line: &Line, key: &mut Vec<u8>, now: Instant) {
    if let MetricKind::Counter { match_all: true, count_entry_bytes, adds } = stage.kind {
        let value = match (count_entry_bytes, adds) {
            (true, _) => line.text.len() as f64,
            (false, false) => 1.0,
            // There is no value that could be added.
            (false, true) => return,
        };
        return family.change(line, key, now, |known| add_to(known, value));
    }
    let Some(found) = line.value(&stage.source) else { return };
    if let Some(wanted) = &stage.value
        && line.value_text(&stage.source) != Some(wanted)
    {
        return;
    }
    let Some(value) = amount(&stage.kind, &found) else { return };
    family.change(line, key, now, |known| match (&stage.kind, known) {
        (MetricKind::Gauge(GaugeAction::Set), known) => *known = Value::Number(value),
        (MetricKind::Histogram { buckets }, Value::Histogram { counts, sum }) => {
            let at = buckets.partition_point(|bound| value > *bound);
            counts[at] += 1;
            *sum += value;
        }
        (_, known) => add_to(known, value),
    });
}

/// What a line changes a metric by; `None` if its value cannot be used.
fn amount(kind: &MetricKind, found: &Found<'_>) -> Option<f64> {
    match kind {
        MetricKind::Counter { adds: false, .. } | MetricKind::Gauge(GaugeAction::Inc) => Some(1.0),
        MetricKind::Gauge(GaugeAction::Dec) => Some(-1.0),
        MetricKind::Gauge(GaugeAction::Sub) => found.number().map(|number| -number),
        // A counter never falls.
        MetricKind::Counter { .. } => found.number().filter(|number| *number >= 0.0),
        MetricKind::Gauge(_) => found.number(),
        MetricKind::Histogram { .. } => found.number().filter(|number| !number.is_nan()),
    }
}

fn add_to(known: &mut Value, amount: f64) {
    if let Value::Number(number) = known {
        *number += amount;
    }
}
