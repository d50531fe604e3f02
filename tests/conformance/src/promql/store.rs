//! The samples a script has loaded, as plainly as possible.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ::promql::{Columns, SelectRequest, SeriesSet, Source, SourceError};
use anyhow::Context;
use model::{FloatHistogram, Labels, LabelsBuilder, METRIC_NAME};
use wire::nhcb::Converter;
use wire::{Entry, exposition};

use super::script::Load;
use super::series::Item;

/// Series by labels. Remembers whether a query found more than floats.
#[derive(Debug, Default)]
pub(crate) struct Store {
    series: BTreeMap<Labels, Stored>,
    touched_more: AtomicBool,
}

#[derive(Debug, Default, Clone)]
struct Stored {
    floats: BTreeMap<i64, f64>,
    histograms: BTreeMap<i64, Arc<FloatHistogram>>,
    has_start_timestamps: bool,
}

impl Store {
    /// Stores the samples of `load`.
    ///
    /// # Errors
    /// Classic histograms that cannot be written as an exposition.
    pub(crate) fn load(&mut self, load: &Load) -> anyhow::Result<()> {
        for line in &load.series {
            let stored = self.series.entry(line.labels.clone()).or_default();
            for (index, item) in line.items.iter().enumerate() {
                let t_ms = index as i64 * load.step_ms;
                match item {
                    Item::Missing => {}
                    Item::Float(value) => {
                        stored.floats.insert(t_ms, *value);
                    }
                    Item::Histogram(literal) => {
                        stored.histograms.insert(t_ms, Arc::clone(&literal.histogram));
                    }
                }
            }
        }
        for labels in &load.start_timestamped {
            self.series.entry(labels.clone()).or_default().has_start_timestamps = true;
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
                    stored.histograms.insert(t_ms, Arc::new(converted.histogram.to_float()));
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

    /// Whether a query since the last call selected native histograms or start timestamps.
    pub(crate) fn take_touched_more(&self) -> bool {
        self.touched_more.swap(false, Ordering::Relaxed)
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
            if range.start() <= range.end() {
                for (&t_ms, histogram) in stored.histograms.range(range.clone()) {
                    columns.histograms.push(t_ms, Arc::clone(histogram));
                }
                for (&t_ms, &value) in stored.floats.range(range.clone()) {
                    columns.timestamps_ms.push(t_ms);
                    columns.values.push(value);
                }
            }
            if !columns.histograms.is_empty() || stored.has_start_timestamps {
                self.touched_more.store(true, Ordering::Relaxed);
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
        let columns = &self.0[index].1;
        out.timestamps_ms.extend_from_slice(&columns.timestamps_ms);
        out.values.extend_from_slice(&columns.values);
        out.histograms = columns.histograms.clone();
        Ok(())
    }
}
