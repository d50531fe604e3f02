//! Rollups of the series that were selected: what functions over whole windows need to know.

use std::sync::Arc;

use model::{RollupRow, TimeRange};

use super::{Masked, Part, Selected};
use crate::block::MetricBlock;
use crate::error::MetricError;
use crate::rollup::{RollupBuilder, is_whole_in, lacks_floats};
use crate::rows::settle_from;

impl Selected {
    /// Appends rows that tell all samples of series `index` in the range, ascending in time, each
    /// within a window of `window_ms`: from rollups where they are sound, else from samples. The
    /// range must be one of whole windows. `false`, and nothing, if the series has to be read sample
    /// by sample, because it has histograms. Block by block, so that what is said of a window is the
    /// same whatever else is asked for: where rollups of other windows are all that is left, the last
    /// samples of those stand for all, see [`Selected::has_coarser`].
    ///
    /// Rollups beside samples are sound if no other source has samples of the series among them, and
    /// nothing of them is deleted. Where they tell what samples do not any more, samples that came later
    /// and lie within a row are left out, as a merge will do.
    ///
    /// # Errors
    /// As [`Selected::read`].
    ///
    /// # Panics
    /// `index` is not below [`Selected::len`], or this was not made by [`Selected::with_rollups`].
    pub fn read_rows(
        &self,
        index: usize,
        window_ms: i64,
        out: &mut Vec<RollupRow>,
    ) -> Result<bool, MetricError> {
        assert!(self.with_rollups, "rollups were looked for");
        if self.has_histograms(index) {
            return Ok(false);
        }
        let parts = self.parts_of(index);
        // Fast path, most series of most ranges: days that follow one another.
        if self.are_rollups_in_order(parts, window_ms) {
            let rollups = parts.iter().filter(|part| matches!(part, Part::Rollups { .. }));
            for part in rollups {
                self.rows_of(*part, self.range, out)?;
            }
            return Ok(true);
        }
        let (mut timestamps_ms, mut values) = (Vec::new(), Vec::new());
        let (mut head_ms, mut head_values) = (Vec::new(), Vec::new());
        for part in parts.iter().filter(|part| self.is_in_head(part)) {
            self.read_part(part, &mut head_ms, &mut head_values)?;
        }
        let of_heads = span_of(&head_ms);
        let mut builder = RollupBuilder::default();
        let in_blocks = parts.chunk_by(|a, b| a.source() == b.source());
        let in_blocks: Vec<&[Part]> =
            in_blocks.filter(|parts| !self.is_in_head(&parts[0])).collect();
        let alone = self.alone(&in_blocks, of_heads);
        for (of_block, is_alone) in in_blocks.into_iter().zip(alone) {
            let is_masked = of_block.iter().any(|part| matches!(part, Part::Masked { .. }));
            let has_only_rollups = self.block_of(of_block).has_only_rollups();
            let is_sound = self.has_sound_rollups(of_block, window_ms);
            if is_sound && is_alone && !is_masked {
                let mut rows = Vec::new();
                of_block.iter().try_for_each(|part| self.read_rollups(*part, &mut rows))?;
                builder.extend_rows(&rows);
                continue;
            }
            let first = values.len();
            // Of rows that fit no window the last samples stand for all.
            let is_thinned = of_block.iter().any(|part| self.is_thinned(part));
            if !(is_sound && is_thinned) {
                for part in of_block {
                    self.read_part(part, &mut timestamps_ms, &mut values)?;
                }
            }
            // … and floats that no row counts stand beside those that are, as in a merge.
            if is_sound && has_only_rollups {
                let mut rows = Vec::new();
                of_block.iter().try_for_each(|part| self.read_rollups(*part, &mut rows))?;
                if is_thinned || lacks_floats(&rows, &values[first..]) {
                    builder.extend_rows(&rows);
                }
            }
        }
        // Of equal times the earlier commit's sample stays, and what is in blocks is earlier.
        timestamps_ms.append(&mut head_ms);
        values.append(&mut head_values);
        settle_from(&mut timestamps_ms, &mut values, 0, &mut Vec::new());
        // None lies among the rows of a block that is alone; among others, as a merge would have it.
        builder.extend(&timestamps_ms, &values, window_ms);
        out.append(builder.finish());
        Ok(true)
    }

    /// Whether the rollups among these parts say all, and are in order of time: no head, no delete,
    /// and each block ends before the next begins.
    fn are_rollups_in_order(&self, parts: &[Part], window_ms: i64) -> bool {
        let mut end_ms = i64::MIN;
        parts.chunk_by(|a, b| a.source() == b.source()).all(|of_block| {
            let is_plain = |part: &Part| matches!(part, Part::Rollups { .. } | Part::Chunk { .. });
            if !of_block.iter().all(is_plain) || !self.has_sound_rollups(of_block, window_ms) {
                return false;
            }
            let (first_ms, last_ms) = self.span_of_parts(of_block);
            let is_behind = first_ms > end_ms;
            end_ms = last_ms;
            is_behind
        })
    }

    /// Which blocks have samples of a series where no other source has any.
    fn alone(&self, in_blocks: &[&[Part]], of_heads: Option<(i64, i64)>) -> Vec<bool> {
        let mut spans: Vec<(i64, i64, Option<usize>)> = Vec::with_capacity(in_blocks.len() + 1);
        for (index, parts) in in_blocks.iter().enumerate() {
            let (first_ms, last_ms) = self.span_of_parts(parts);
            spans.push((first_ms, last_ms, Some(index)));
        }
        spans.extend(of_heads.map(|(first_ms, last_ms)| (first_ms, last_ms, None)));
        spans.sort_unstable();
        let mut alone = vec![true; in_blocks.len()];
        // The span so far that ends last.
        let mut longest: Option<(i64, Option<usize>)> = None;
        for &(first_ms, last_ms, index) in &spans {
            if let Some((end_ms, other)) = longest
                && first_ms <= end_ms
            {
                for index in [index, other].into_iter().flatten() {
                    alone[index] = false;
                }
            }
            if longest.is_none_or(|(end_ms, _)| end_ms < last_ms) {
                longest = Some((last_ms, index));
            }
        }
        alone
    }

    /// Whether the rollups among the parts that one block has of a series can be used, if no other
    /// source has samples among them.
    fn has_sound_rollups(&self, of_block: &[Part], window_ms: i64) -> bool {
        let block = self.block_of(of_block);
        let fits = block.rollup_ms() > 0 && window_ms % block.rollup_ms() == 0;
        let is_masked = |part: &Part| matches!(part, Part::Masked { .. });
        let is_rollup = |part: &Part| matches!(part, Part::Rollups { .. });
        // Beside all samples they were not even looked for if a delete concerns the series, also where
        // it leaves the chunks whole.
        let are_found = of_block.iter().any(is_rollup) && !of_block.iter().any(is_masked);
        fits && (block.has_only_rollups() || are_found)
    }

    /// From the first to the last sample that parts of blocks may have.
    pub(super) fn span_of_parts(&self, parts: &[Part]) -> (i64, i64) {
        parts.iter().fold((i64::MAX, i64::MIN), |(min_ms, max_ms), part| {
            let (first_ms, last_ms) = self.span_of_part(part);
            (min_ms.min(first_ms), max_ms.max(last_ms))
        })
    }

    fn span_of_part(&self, part: &Part) -> (i64, i64) {
        let part = match part {
            Part::Masked { index, .. } => &self.masked[*index as usize].part,
            part => part,
        };
        let (group, chunk, of_kind) = match *part {
            Part::Chunk { group, chunk, .. } => {
                let group = &*self.groups[group as usize];
                (group, chunk, Some(group))
            }
            Part::Histograms { group, chunk, .. } => {
                let group = &*self.groups[group as usize];
                (group, chunk, group.histograms.as_deref())
            }
            Part::Rollups { group, chunk, .. } => {
                let group = &*self.groups[group as usize];
                (group, chunk, group.rollups.as_deref())
            }
            Part::Head { .. } | Part::Masked { .. } => return (i64::MAX, i64::MIN),
        };
        let of_kind = of_kind.unwrap_or(group);
        let (first_ms, last_ms) = of_kind.span(&of_kind.chunks[chunk as usize]);
        // Where a row begins is known roughly, but a day's first not before the day.
        let (_, reader) = &self.blocks[part.source() as usize];
        (first_ms.max(reader.block().range().start_ms), last_ms)
    }

    fn is_in_head(&self, part: &Part) -> bool {
        match part {
            Part::Head { .. } => true,
            Part::Masked { index, .. } => {
                matches!(self.masked[*index as usize].part, Part::Head { .. })
            }
            _ => false,
        }
    }

    /// Whether a part is a rollup whose samples are gone.
    fn is_thinned(&self, part: &Part) -> bool {
        match *part {
            Part::Rollups { block, .. } => self.blocks[block as usize].1.block().is_thinned(),
            Part::Masked { index, .. } => self.is_thinned(&self.masked[index as usize].part),
            _ => false,
        }
    }

    /// Whether some part of series `index` is a rollup whose samples are gone, so that what
    /// [`Selected::read`] yields are the last samples of its windows.
    ///
    /// # Panics
    /// `index` is not below [`Selected::len`].
    pub fn has_thinned(&self, index: usize) -> bool {
        self.parts_of(index).iter().any(|part| self.is_thinned(part))
    }

    /// Whether some part of series `index` is a rollup whose samples are gone, and whose windows do not
    /// make up windows of `window_ms`.
    ///
    /// # Panics
    /// `index` is not below [`Selected::len`].
    pub fn has_coarser(&self, index: usize, window_ms: i64) -> bool {
        self.parts_of(index).iter().any(|part| {
            self.is_thinned(part) && {
                let (_, reader) = &self.blocks[part.source() as usize];
                window_ms % reader.block().rollup_ms() != 0
            }
        })
    }

    /// Appends the rows of a part, if it is one of rollups.
    fn read_rollups(&self, part: Part, rows: &mut Vec<RollupRow>) -> Result<(), MetricError> {
        match part {
            Part::Masked { index, .. } => {
                let Masked { part, kept } = &self.masked[index as usize];
                let mut of_part = Vec::new();
                self.rows_of(*part, self.range, &mut of_part)?;
                rows.extend(of_part.into_iter().filter(|row| is_whole_in(row, &kept[0])));
                Ok(())
            }
            part => self.rows_of(part, self.range, rows),
        }
    }

    fn block_of(&self, of_block: &[Part]) -> &MetricBlock {
        self.blocks[of_block[0].source() as usize].1.block()
    }

    fn rows_of(
        &self,
        part: Part,
        range: TimeRange,
        rows: &mut Vec<RollupRow>,
    ) -> Result<(), MetricError> {
        let Part::Rollups { block, group, chunk } = part else { return Ok(()) };
        let (id, reader) = &self.blocks[block as usize];
        let Some(group) = &self.groups[group as usize].rollups else { return Ok(()) };
        reader
            .read_rollups(group, &group.chunks[chunk as usize], range, rows)
            .map_err(|error| MetricError::Block { block: Arc::clone(id), error })
    }

    /// Appends the last samples of the windows of a part that lie in what is asked for; of `kept`, what deletes
    /// leave, only those of windows that lie in it as a whole.
    pub(super) fn read_last(
        &self,
        part: Part,
        kept: Option<TimeRange>,
        timestamps_ms: &mut Vec<i64>,
        values: &mut Vec<f64>,
    ) -> Result<(), MetricError> {
        let mut rows = Vec::new();
        match kept {
            None => self.rows_of(part, self.range, &mut rows)?,
            Some(kept) => {
                self.rows_of(part, kept.intersection(&self.range), &mut rows)?;
                rows.retain(|row| kept.start_ms <= row.first_ms);
            }
        }
        timestamps_ms.extend(rows.iter().map(|row| row.last_ms));
        values.extend(rows.iter().map(|row| row.last));
        Ok(())
    }
}

/// The first and the last of these times.
fn span_of(timestamps_ms: &[i64]) -> Option<(i64, i64)> {
    Some((timestamps_ms.iter().copied().min()?, timestamps_ms.iter().copied().max()?))
}
