//! The samples a script has loaded, as plainly as possible.

use std::collections::BTreeMap;
use std::sync::Arc;

use ::promql::{Columns, SelectRequest, SeriesSet, Source, SourceError};
use anyhow::{Context, bail};
use model::{FloatHistogram, Labels, LabelsBuilder, METRIC_NAME, ResetHint};
use wire::nhcb::Converter;
use wire::{Entry, exposition};

use super::script::Load;
use super::series::Item;

/// Series by labels.
#[derive(Debug, Default)]
pub(crate) struct Store {
    series: BTreeMap<Labels, Stored>,
}

#[derive(Debug, Default, Clone)]
struct Stored {
    samples: BTreeMap<i64, Sample>,
    /// When samples began at zero, by their times.
    starts: BTreeMap<i64, i64>,
}

#[derive(Debug, Clone)]
enum Sample {
    Float(f64),
    Histogram(Arc<FloatHistogram>),
}

impl Sample {
    fn says_the_same(&self, other: &Sample) -> bool {
        match (self, other) {
            (Sample::Float(a), Sample::Float(b)) => a.to_bits() == b.to_bits(),
            (Sample::Histogram(a), Sample::Histogram(b)) => a.equals(b),
            _ => false,
        }
    }
}

impl Stored {
    fn insert(&mut self, t_ms: i64, sample: Sample) -> anyhow::Result<()> {
        match self.samples.get(&t_ms) {
            Some(known) if !known.says_the_same(&sample) => {
                bail!("a second sample at {t_ms} ms says something else")
            }
            _ => self.samples.insert(t_ms, sample),
        };
        Ok(())
    }

    /// What Prometheus' storage knows about resets: it starts a new chunk at each, and at whatever
    /// it cannot append, and of every sample but the first of a chunk it says that it is none.
    fn settled(&self) -> Vec<(i64, Sample)> {
        let mut before: Option<&FloatHistogram> = None;
        let mut settled = Vec::with_capacity(self.samples.len());
        for (&t_ms, sample) in &self.samples {
            let Sample::Histogram(histogram) = sample else {
                before = None;
                settled.push((t_ms, sample.clone()));
                continue;
            };
            let mut known = FloatHistogram::clone(histogram);
            if histogram.reset_hint != ResetHint::Gauge {
                known.reset_hint = match before {
                    Some(before) if continues(histogram, before) => ResetHint::NoReset,
                    _ => ResetHint::Unknown,
                };
            }
            before = Some(&**histogram);
            settled.push((t_ms, Sample::Histogram(Arc::new(known))));
        }
        settled
    }
}

/// Whether a histogram can be appended to a chunk that ends with `before`.
fn continues(histogram: &FloatHistogram, before: &FloatHistogram) -> bool {
    let mut counter = histogram.clone();
    if counter.reset_hint == ResetHint::NoReset {
        // Storage looks for itself.
        counter.reset_hint = ResetHint::Unknown;
    }
    let layouts = (&histogram.layout, &before.layout);
    before.reset_hint != ResetHint::Gauge
        && !before.is_stale()
        && (histogram.is_stale()
            || (layouts.0.has_same_bounds(layouts.1) && !counter.is_reset_since(before)))
}

impl Store {
    /// Stores the samples of `load`.
    ///
    /// # Errors
    /// Another sample at the same time; starts without samples; classic histograms that cannot be
    /// written as an exposition.
    pub(crate) fn load(&mut self, load: &Load) -> anyhow::Result<()> {
        // Of several definitions of a series within one load the last one is meant.
        let lines: BTreeMap<_, _> = load.series.iter().map(|line| (&line.labels, line)).collect();
        for line in lines.values() {
            let stored = self.series.entry(line.labels.clone()).or_default();
            for (index, item) in line.items.iter().enumerate() {
                let t_ms = index as i64 * load.step_ms;
                match item {
                    Item::Missing => {}
                    Item::Float(value) => stored.insert(t_ms, Sample::Float(*value))?,
                    Item::Histogram(literal) => {
                        let histogram = Arc::clone(&literal.histogram);
                        stored.insert(t_ms, Sample::Histogram(histogram))?;
                    }
                }
            }
        }
        for (labels, offsets) in &load.starts {
            let samples =
                lines.get(labels).with_context(|| format!("{labels} has starts but no samples"))?;
            if samples.items.len() != offsets.len() {
                bail!("{labels} has {} samples and {} starts", samples.items.len(), offsets.len());
            }
            let stored = self.series.entry(labels.clone()).or_default();
            for (index, offset) in offsets.iter().enumerate() {
                let t_ms = index as i64 * load.step_ms;
                stored.starts.extend(offset.map(|offset| (t_ms, t_ms + offset)));
            }
        }
        if load.with_nhcb {
            self.convert_classic(load).context("convert classic histograms")?;
        }
        Ok(())
    }

    /// `load_with_nhcb` also makes a native histogram out of each classic one, as a scrape does:
    /// time by time, out of an exposition.
    fn convert_classic(&mut self, load: &Load) -> anyhow::Result<()> {
        let mut lines: BTreeMap<(i64, String), Vec<String>> = BTreeMap::new();
        for line in &load.series {
            let name = line.labels.metric_name().unwrap_or("");
            let suffixes = ["_bucket", "_count", "_sum"];
            let Some(base) = suffixes.iter().find_map(|suffix| name.strip_suffix(suffix)) else {
                continue;
            };
            let without = LabelsBuilder::from_labels(&line.labels).remove("le").build();
            let without = LabelsBuilder::from_labels(&without).set(METRIC_NAME, base).build();
            for (index, item) in line.items.iter().enumerate() {
                if let Item::Float(value) = item
                    && !model::is_stale_nan(*value)
                {
                    let key = (index as i64 * load.step_ms, without.to_string());
                    let text = line.labels.to_string().replace(", ", ",");
                    lines.entry(key).or_default().push(format!("{text} {value}\n"));
                }
            }
        }
        for ((t_ms, series), lines) in lines {
            let base = series.split('{').next().unwrap_or_default();
            let text = format!("# TYPE {base} histogram\n{}", lines.concat());
            let mut parser = exposition::Parser::new(text.as_bytes());
            let mut converter = Converter::new(false);
            let mut keep = |entry: Entry<'_>| {
                if let Entry::Histogram(converted) = entry {
                    let stored = self.series.entry(converted.labels()?).or_default();
                    let histogram = Arc::new(converted.histogram.to_float());
                    stored.insert(t_ms, Sample::Histogram(histogram))?;
                }
                Ok::<(), anyhow::Error>(())
            };
            while let Some(entry) = parser.next_entry()? {
                converter.push(entry, &mut keep)?;
            }
            converter.finish(keep)?;
        }
        Ok(())
    }
}

impl Source for Store {
    fn select(&self, request: &SelectRequest<'_>) -> Result<Arc<dyn SeriesSet>, SourceError> {
        let matches = |labels: &Labels| {
            request.matchers.iter().all(|m| m.matches(labels.get(&m.name).unwrap_or("")))
        };
        let range = request.start_ms..=request.end_ms;
        let mut selected = Selected::default();
        for (labels, stored) in self.series.iter().filter(|(labels, _)| matches(labels)) {
            let mut columns = Columns::default();
            let samples = stored.settled().into_iter();
            for (t_ms, sample) in samples.filter(|(t_ms, _)| range.contains(t_ms)) {
                let start_ms = stored.starts.get(&t_ms).copied().unwrap_or(0);
                match sample {
                    Sample::Float(value) => {
                        columns.timestamps_ms.push(t_ms);
                        columns.values.push(value);
                        if !stored.starts.is_empty() {
                            columns.starts_ms.push(start_ms);
                        }
                    }
                    Sample::Histogram(histogram) => {
                        columns.histograms.push_started(t_ms, start_ms, histogram);
                    }
                }
            }
            selected.0.push((labels.clone(), columns));
        }
        Ok(Arc::new(selected))
    }
}

#[derive(Debug, Default)]
struct Selected(Vec<(Labels, Columns)>);

impl SeriesSet for Selected {
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
