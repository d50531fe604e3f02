//! Samples of one series out of several sources, brought into one order.

use crate::histogram_columns::HistogramColumns;
use crate::rows::settle_from;
use crate::starts::Starts;

/// Samples of one series, gathered source by source in commit order, sorted when complete.
#[derive(Debug, Default)]
pub(crate) struct Gathered {
    pub(crate) timestamps: Vec<i64>,
    pub(crate) values: Vec<f64>,
    pub(crate) histograms: HistogramColumns,
    /// When the first so many values began at zero; 0 = not known, as of those behind its end.
    pub(crate) starts: Vec<i64>,
    /// Where the floats and the histograms of each source end.
    ends: Vec<(usize, usize)>,
    scratch: Vec<(i64, u64)>,
}

/// A sample on its way into one order.
#[derive(Debug, Clone, Copy)]
struct Candidate {
    t_ms: i64,
    source: u32,
    is_histogram: bool,
    index: u32,
}

impl Gathered {
    pub(crate) fn clear(&mut self) {
        self.timestamps.clear();
        self.values.clear();
        self.histograms.clear();
        self.starts.clear();
        self.ends.clear();
    }

    /// Adds the samples of one source. Sources are added in commit order.
    pub(crate) fn add<E>(
        &mut self,
        read: impl FnOnce(&mut Vec<i64>, &mut Vec<f64>, &mut HistogramColumns) -> Result<(), E>,
    ) -> Result<(), E> {
        read(&mut self.timestamps, &mut self.values, &mut self.histograms)?;
        self.ends.push((self.timestamps.len(), self.histograms.len()));
        Ok(())
    }

    /// Says when the values of the source that was added last began.
    pub(crate) fn note_starts(&mut self, starts: &Starts) {
        let from = self.ends.len().checked_sub(2).map_or(0, |before| self.ends[before].0);
        starts.append_to(&self.timestamps[from..], from, &mut self.starts);
    }

    /// Puts what was gathered in order of time; of equal timestamps the sample of the earliest
    /// commit is kept. Yields the number of dropped samples that say something else.
    pub(crate) fn settle(&mut self) -> u64 {
        // Fast path, nearly every series is of one kind.
        if self.histograms.is_empty() && self.starts.is_empty() {
            return settle_from(&mut self.timestamps, &mut self.values, 0, &mut self.scratch);
        }
        if self.timestamps.is_empty() {
            return self.histograms.settle();
        }
        self.settle_both()
    }

    fn settle_both(&mut self) -> u64 {
        let mut candidates = Vec::with_capacity(self.timestamps.len() + self.histograms.len());
        let (mut float, mut histogram) = (0, 0);
        for (source, &(float_end, histogram_end)) in (0..).zip(&self.ends) {
            let of = |is_histogram, index: usize, t_ms| {
                let index = index as u32;
                Candidate { t_ms, source, is_histogram, index }
            };
            let floats = (float..float_end).map(|i| of(false, i, self.timestamps[i]));
            candidates.extend(floats);
            let histograms =
                (histogram..histogram_end).map(|i| of(true, i, self.histograms.timestamps_ms[i]));
            candidates.extend(histograms);
            (float, histogram) = (float_end, histogram_end);
        }
        // Stable, so arrival decides within a source.
        candidates.sort_by_key(|candidate| (candidate.t_ms, candidate.source));
        let mut conflicts = 0;
        candidates.dedup_by(|later, earlier| {
            let same = later.t_ms == earlier.t_ms;
            conflicts += u64::from(same && !self.say_the_same(*later, *earlier));
            same
        });
        self.keep(&candidates);
        conflicts
    }

    fn say_the_same(&self, a: Candidate, b: Candidate) -> bool {
        let (left, right) = (a.index as usize, b.index as usize);
        match (a.is_histogram, b.is_histogram) {
            (false, false) => self.values[left].to_bits() == self.values[right].to_bits(),
            (true, true) => {
                let histograms = &self.histograms.histograms;
                histograms[left].says_the_same(&histograms[right])
            }
            _ => false,
        }
    }

    fn keep(&mut self, candidates: &[Candidate]) {
        let (timestamps, values) =
            (std::mem::take(&mut self.timestamps), std::mem::take(&mut self.values));
        let histograms = std::mem::take(&mut self.histograms);
        let starts = std::mem::take(&mut self.starts);
        let mut taken: Vec<_> = histograms.histograms.into_iter().map(Some).collect();
        for candidate in candidates {
            let index = candidate.index as usize;
            if candidate.is_histogram {
                let histogram = taken[index].take().expect("each index occurs once");
                self.histograms.push(candidate.t_ms, histograms.start_ms[index], histogram);
            } else {
                self.timestamps.push(timestamps[index]);
                self.values.push(values[index]);
                if let Some(&start_ms) = starts.get(index).filter(|start_ms| **start_ms != 0) {
                    self.starts.resize(self.values.len() - 1, 0);
                    self.starts.push(start_ms);
                }
            }
        }
    }
}
