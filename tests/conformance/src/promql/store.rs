//! The samples a script has loaded, as plainly as possible.

use std::collections::BTreeMap;
use std::sync::Arc;

use ::promql::{SelectRequest, SeriesSet, Source, SourceError};
use anyhow::{Context, bail};
use model::{LabelsBuilder, METRIC_NAME};
use ruletest::notation::series::Item;
use ruletest::{MemorySource, Point};
use wire::nhcb::Converter;
use wire::{Entry, exposition};

use super::script::Load;

/// Series by labels.
#[derive(Debug, Default)]
pub(crate) struct Store {
    memory: MemorySource,
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
            self.memory.define(&line.labels);
            for (index, item) in line.items.iter().enumerate() {
                let t_ms = index as i64 * load.step_ms;
                if let Some(point) = Point::of_item(item) {
                    self.memory.insert(&line.labels, t_ms, point)?;
                }
            }
        }
        for (labels, offsets) in &load.starts {
            let samples =
                lines.get(labels).with_context(|| format!("{labels} has starts but no samples"))?;
            if samples.items.len() != offsets.len() {
                bail!("{labels} has {} samples and {} starts", samples.items.len(), offsets.len());
            }
            for (index, offset) in offsets.iter().enumerate() {
                let t_ms = index as i64 * load.step_ms;
                if let Some(offset) = offset {
                    self.memory.set_start(labels, t_ms, t_ms + offset);
                }
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
                    let histogram = Arc::new(converted.histogram.to_float());
                    self.memory.insert(&converted.labels()?, t_ms, Point::Histogram(histogram))?;
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
        self.memory.select(request)
    }
}
