//! What can be told of a block without reading samples: whether deletes or rules meet something in it.

use std::sync::Arc;

use blockstore::BlockError;
use labelindex::LabelIndex;
use model::{Matcher, TimeRange};

use crate::block::MetricBlock;
use crate::block_reader::BlockReader;
use crate::deletes::{Delete, Masks, is_whole, meets};
use crate::directory::Group;
use crate::downsampling::{DownsamplingRules, is_dropped, is_too_dense};

impl MetricBlock {
    /// Whether some of `deletes` hides a sample here.
    ///
    /// # Errors
    /// A directory is damaged or cannot be read.
    pub fn is_touched_by(&self, deletes: &[Arc<Delete>]) -> Result<bool, BlockError> {
        let masks = Masks::find(deletes.iter(), &[], |matchers| self.index().select(matchers));
        let mut current: Option<(usize, Group)> = None;
        for series in masks.series() {
            let Some(kept) = masks.kept(series, 0, self.range()) else { continue };
            for number in self.groups_of(series) {
                if current.as_ref().is_none_or(|(known, _)| *known != number) {
                    current = Some((number, self.group(number)?));
                }
                let Some((_, group)) = &current else { continue };
                let place = (series - self.groups()[number].first_series) as usize;
                let is_cut = |span: (i64, i64)| !is_whole(&kept, self.range(), span);
                if group.spans_of(place).any(is_cut) {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    /// Whether it has more samples of some series than `rules` leave.
    ///
    /// # Errors
    /// A directory is damaged or cannot be read.
    pub fn is_denser_than(self: &Arc<Self>, rules: &DownsamplingRules) -> Result<bool, BlockError> {
        let select = |matchers: &[Matcher]| self.index().select(matchers);
        let intervals = rules.intervals(self.index().series_count(), select);
        if intervals.is_empty() {
            return Ok(false);
        }
        let (mut times_ms, mut values) = (Vec::new(), Vec::new());
        for (number, info) in self.groups().iter().enumerate() {
            let first = info.first_series as usize;
            let of_group = &intervals[first..first + info.series as usize];
            if of_group.iter().all(|&interval_ms| interval_ms == 0) {
                continue;
            }
            let group = self.group(number)?;
            let reader = BlockReader::for_merge(Arc::clone(self));
            for (place, &interval_ms) in of_group.iter().enumerate() {
                if interval_ms == 0 {
                    continue;
                }
                for chunk in group.chunks_of(place) {
                    let chunk = &group.chunks[chunk];
                    let column = &group.columns[chunk.column as usize];
                    let span_ms = column.max_ms.saturating_sub(column.min_ms);
                    // Markers of staleness, and what stands before them, may be what is too much.
                    if !is_too_dense(u64::from(column.rows), span_ms, interval_ms) {
                        continue;
                    }
                    times_ms.clear();
                    values.clear();
                    reader.read(&group, chunk, TimeRange::all(), &mut times_ms, &mut values)?;
                    let at = |index: usize| (times_ms[index], values[index]);
                    if (1..values.len()).any(|n| is_dropped(at(n - 1), at(n), interval_ms)) {
                        return Ok(true);
                    }
                }
            }
        }
        Ok(false)
    }

    /// The series that satisfy `matchers` and of which deletes leave nothing, ascending.
    pub(crate) fn hidden_series(&self, masks: &Masks) -> Result<Vec<u32>, BlockError> {
        let mut hidden = Vec::new();
        let mut current: Option<(usize, Group)> = None;
        for series in masks.series() {
            let Some(kept) = masks.kept(series, 0, self.range()) else { continue };
            let mut is_shown = false;
            // Most deletes leave nothing of the whole range, and no directory is read.
            let groups = if kept.is_empty() { 0..0 } else { self.groups_of(series) };
            for number in groups {
                if current.as_ref().is_none_or(|(known, _)| *known != number) {
                    current = Some((number, self.group(number)?));
                }
                let Some((_, group)) = &current else { continue };
                let place = (series - self.groups()[number].first_series) as usize;
                is_shown |= group.spans_of(place).any(|span| meets(&kept, span));
            }
            if !is_shown {
                hidden.push(series);
            }
        }
        Ok(hidden)
    }
}
