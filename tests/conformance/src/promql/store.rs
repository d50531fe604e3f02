//! The samples a script has loaded, as plainly as possible.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ::promql::{Columns, SelectRequest, SeriesSet, Source, SourceError};
use model::{Labels, LabelsBuilder, METRIC_NAME};

use super::script::Load;
use super::series::Item;

/// Series by labels. Remembers whether a query asked for something it cannot represent.
#[derive(Debug, Default)]
pub(crate) struct Store {
    series: BTreeMap<Labels, Stored>,
    touched_unsupported: AtomicBool,
}

#[derive(Debug, Default, Clone)]
struct Stored {
    floats: BTreeMap<i64, f64>,
    /// Times of native histograms.
    histograms: Vec<i64>,
    has_start_timestamps: bool,
}

impl Store {
    /// Stores the samples of `load`.
    pub(crate) fn load(&mut self, load: &Load) {
        for line in &load.series {
            let stored = self.series.entry(line.labels.clone()).or_default();
            for (index, item) in line.items.iter().enumerate() {
                let t_ms = index as i64 * load.step_ms;
                match item {
                    Item::Missing => {}
                    Item::Float(value) => {
                        stored.floats.insert(t_ms, *value);
                    }
                    Item::Histogram => stored.histograms.push(t_ms),
                }
            }
        }
        for labels in &load.start_timestamped {
            self.series.entry(labels.clone()).or_default().has_start_timestamps = true;
        }
        if load.with_nhcb {
            self.mark_converted(load);
        }
    }

    /// `load_with_nhcb` also makes a native histogram out of each classic one.
    fn mark_converted(&mut self, load: &Load) {
        for line in &load.series {
            let name = line.labels.metric_name().unwrap_or("");
            let suffixes = ["_bucket", "_count", "_sum"];
            let Some(base) = suffixes.iter().find_map(|suffix| name.strip_suffix(suffix)) else {
                continue;
            };
            let mut builder = LabelsBuilder::from_labels(&line.labels);
            let labels = builder.set(METRIC_NAME, base).remove("le").build();
            let present = line.items.iter().enumerate().filter(|(_, i)| **i != Item::Missing);
            let times = present.map(|(index, _)| index as i64 * load.step_ms);
            self.series.entry(labels).or_default().histograms.extend(times);
        }
    }

    /// Whether a query since the last call selected native histograms or start timestamps.
    pub(crate) fn take_touched_unsupported(&self) -> bool {
        self.touched_unsupported.swap(false, Ordering::Relaxed)
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
            let native = stored.histograms.iter().any(|t| range.contains(t));
            if native || stored.has_start_timestamps {
                self.touched_unsupported.store(true, Ordering::Relaxed);
            }
            let mut columns = Columns::default();
            if range.start() <= range.end() {
                for (&t_ms, &value) in stored.floats.range(range.clone()) {
                    columns.timestamps_ms.push(t_ms);
                    columns.values.push(value);
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
        let columns = &self.0[index].1;
        out.timestamps_ms.extend_from_slice(&columns.timestamps_ms);
        out.values.extend_from_slice(&columns.values);
        Ok(())
    }
}
