//! The samples of the series that were selected.

use std::sync::Arc;

use model::TimeRange;

use super::{Masked, Part, Selected};
use crate::error::MetricError;
use crate::gathered::Gathered;
use crate::histogram_columns::HistogramColumns;
use crate::rows::settle_from;
use crate::shard::HeadChunks;
use crate::starts::Starts;

impl Selected {
    /// Whether series `index` may have histograms in the range.
    ///
    /// # Panics
    /// `index` is not below [`Selected::len`].
    pub fn has_histograms(&self, index: usize) -> bool {
        self.parts_of(index).iter().any(|part| match *part {
            Part::Chunk { .. } | Part::Rollups { .. } => false,
            Part::Histograms { .. } => true,
            Part::Head { head, place } => self.heads[head as usize].has_histograms(place as usize),
            Part::Masked { index, .. } => match self.masked[index as usize].part {
                Part::Histograms { .. } => true,
                Part::Head { head, place } => {
                    self.heads[head as usize].has_histograms(place as usize)
                }
                _ => false,
            },
        })
    }

    /// As [`Selected::read`], histograms too, which come in columns of their own; no timestamp is
    /// in both. About 5 ns per bucket of a histogram; those of one chunk share a layout, which may
    /// have buckets that are empty.
    ///
    /// # Errors
    /// As [`Selected::read`].
    ///
    /// # Panics
    /// As [`Selected::read`].
    pub fn read_all(
        &self,
        index: usize,
        timestamps_ms: &mut Vec<i64>,
        values: &mut Vec<f64>,
        histograms: &mut HistogramColumns,
    ) -> Result<(), MetricError> {
        if !self.has_histograms(index) {
            return self.read(index, timestamps_ms, values);
        }
        let mut gathered = self.gather(index, false)?;
        timestamps_ms.append(&mut gathered.timestamps);
        values.append(&mut gathered.values);
        histograms.append(&mut gathered.histograms);
        Ok(())
    }

    /// Appends the floats of series `index` in the range, ascending in time, each timestamp once;
    /// of two commits with one timestamp the earlier. Possibly none. Staleness markers are samples
    /// like others. Where only rollups are left, the last sample of each window. Only chunks that
    /// overlap the range are decoded, 5 to 10 ns per sample.
    ///
    /// # Errors
    /// `Block` with the offset of the damage. What was appended is then taken back.
    ///
    /// # Panics
    /// `index` is not below [`Selected::len`].
    pub fn read(
        &self,
        index: usize,
        timestamps_ms: &mut Vec<i64>,
        values: &mut Vec<f64>,
    ) -> Result<(), MetricError> {
        let (start, values_start) = (timestamps_ms.len(), values.len());
        assert_eq!(start, values_start, "columns of one length are appended to");
        if self.has_histograms(index) {
            // A histogram may have been there first.
            let mut gathered = self.gather(index, false)?;
            timestamps_ms.append(&mut gathered.timestamps);
            values.append(&mut gathered.values);
            return Ok(());
        }
        let result = self
            .parts_of(index)
            .iter()
            .try_for_each(|part| self.read_part(part, timestamps_ms, values));
        match result {
            Ok(()) => {
                settle_from(timestamps_ms, values, start, &mut Vec::new());
            }
            Err(_) => {
                timestamps_ms.truncate(start);
                values.truncate(start);
            }
        }
        result
    }

    /// Whether something is known of when floats of series `index` began at zero, in the range or not.
    ///
    /// # Errors
    /// `Block` with the offset of the damage.
    ///
    /// # Panics
    /// `index` is not below [`Selected::len`].
    pub fn has_starts(&self, index: usize) -> Result<bool, MetricError> {
        for part in self.parts_of(index) {
            let part = match *part {
                Part::Masked { index, .. } => self.masked[index as usize].part,
                part => part,
            };
            let is_known = match part {
                Part::Head { head, place } => self.heads[head as usize].has_starts(place as usize),
                part => self.starts_of(part)?.is_some(),
            };
            if is_known {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// As [`Selected::read_all`], and appends to `starts_ms` when each float began at zero,
    /// milliseconds since the epoch, 0 = not known: nothing if it is not known of any, and zeros at
    /// its end may be left out. Where it is known, reading takes some 50 ns per sample.
    ///
    /// # Errors
    /// As [`Selected::read`].
    ///
    /// # Panics
    /// As [`Selected::read`].
    pub fn read_with_starts(
        &self,
        index: usize,
        (timestamps_ms, values): (&mut Vec<i64>, &mut Vec<f64>),
        starts_ms: &mut Vec<i64>,
        histograms: &mut HistogramColumns,
    ) -> Result<(), MetricError> {
        if !self.has_starts(index)? {
            return self.read_all(index, timestamps_ms, values, histograms);
        }
        let mut gathered = self.gather(index, true)?;
        if gathered.starts.iter().any(|start_ms| *start_ms != 0) {
            starts_ms.resize(timestamps_ms.len(), 0);
            starts_ms.append(&mut gathered.starts);
        }
        timestamps_ms.append(&mut gathered.timestamps);
        values.append(&mut gathered.values);
        histograms.append(&mut gathered.histograms);
        Ok(())
    }

    /// Everything of a series that has histograms, or of which is wanted when its floats began.
    pub(super) fn gather(&self, index: usize, with_starts: bool) -> Result<Gathered, MetricError> {
        let mut gathered = Gathered::default();
        for part in self.parts_of(index) {
            let (part, kept) = match *part {
                Part::Masked { index, .. } => {
                    let Masked { part, kept } = &self.masked[index as usize];
                    (*part, Some(kept.as_slice()))
                }
                part => (part, None),
            };
            let whole = [self.range];
            let kept_of = |generation: usize| kept.map_or(&whole[..], |kept| &kept[generation]);
            match part {
                Part::Head { head, place } => {
                    let head = &self.heads[head as usize];
                    for generation in 0..head.generations() {
                        let kept = kept_of(generation);
                        self.gather_head(head, place as usize, generation, kept, &mut gathered)?;
                        let starts = head.starts_in(place as usize, generation);
                        if let Some(starts) = starts.filter(|_| with_starts) {
                            gathered.note_starts(starts);
                        }
                    }
                }
                Part::Histograms { block, group, chunk } => {
                    let (id, reader) = &self.blocks[block as usize];
                    let Some(group) = &self.groups[group as usize].histograms else { continue };
                    let chunk = &group.chunks[chunk as usize];
                    let mut kept = kept_of(0).iter();
                    gathered
                        .add(|_, _, out| {
                            kept.try_for_each(|&kept| {
                                reader.read_histograms(group, chunk, kept, out)
                            })
                        })
                        .map_err(|error| MetricError::Block { block: Arc::clone(id), error })?;
                }
                Part::Chunk { .. } | Part::Rollups { .. } => {
                    gathered.add(|timestamps_ms, values, _| match kept {
                        None => self.read_chunk(part, None, timestamps_ms, values),
                        Some(kept) => kept[0].iter().try_for_each(|&kept| {
                            self.read_chunk(part, Some(kept), timestamps_ms, values)
                        }),
                    })?;
                    if with_starts && let Some(starts) = self.starts_of(part)? {
                        gathered.note_starts(&starts);
                    }
                }
                Part::Masked { .. } => unreachable!("a masked part is not masked again"),
            }
        }
        gathered.settle();
        Ok(gathered)
    }

    fn gather_head(
        &self,
        head: &HeadChunks,
        place: usize,
        generation: usize,
        kept: &[TimeRange],
        gathered: &mut Gathered,
    ) -> Result<(), MetricError> {
        gathered
            .add(|timestamps_ms, values, histograms| {
                kept.iter().try_for_each(|&kept| {
                    let floats = (&mut *timestamps_ms, &mut *values);
                    head.read_generation(place, generation, kept, floats, histograms)
                })
            })
            .map_err(|error| MetricError::Head { ordinal: head.ordinal(place), error })
    }

    /// What is known of when the floats of a chunk, or of rollups, began.
    fn starts_of(&self, part: Part) -> Result<Option<Starts>, MetricError> {
        let (Part::Chunk { block, group, chunk } | Part::Rollups { block, group, chunk }) = part
        else {
            return Ok(None);
        };
        let group = &self.groups[group as usize];
        let place = match &group.rollups {
            Some(rollups) if matches!(part, Part::Rollups { .. }) => rollups.series_of(chunk),
            _ => group.series_of(chunk),
        };
        let (id, reader) = &self.blocks[block as usize];
        reader
            .starts(group, place)
            .map_err(|error| MetricError::Block { block: Arc::clone(id), error })
    }

    pub(super) fn parts_of(&self, index: usize) -> &[Part] {
        let start = index.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.parts[start as usize..self.ends[index] as usize]
    }

    pub(super) fn read_part(
        &self,
        part: &Part,
        timestamps_ms: &mut Vec<i64>,
        values: &mut Vec<f64>,
    ) -> Result<(), MetricError> {
        match *part {
            Part::Chunk { .. } | Part::Rollups { .. } => {
                self.read_chunk(*part, None, timestamps_ms, values)
            }
            Part::Histograms { .. } => Ok(()),
            Part::Masked { index, .. } => {
                self.read_masked(&self.masked[index as usize], timestamps_ms, values)
            }
            Part::Head { head, place } => {
                let chunks = &self.heads[head as usize];
                let ordinal = chunks.ordinal(place as usize);
                chunks
                    .read(place as usize, self.range, timestamps_ms, values)
                    .map_err(|error| MetricError::Head { ordinal, error })
            }
        }
    }

    #[cold]
    fn read_masked(
        &self,
        masked: &Masked,
        timestamps_ms: &mut Vec<i64>,
        values: &mut Vec<f64>,
    ) -> Result<(), MetricError> {
        for (generation, kept) in masked.kept.iter().enumerate() {
            for &range in kept {
                match masked.part {
                    Part::Head { head, place } => {
                        let (head, place) = (&self.heads[head as usize], place as usize);
                        head.read_floats_in(place, generation, range, timestamps_ms, values)
                            .map_err(|error| MetricError::Head {
                                ordinal: head.ordinal(place),
                                error,
                            })?;
                    }
                    part => self.read_chunk(part, Some(range), timestamps_ms, values)?,
                }
            }
        }
        Ok(())
    }

    /// Appends the floats of a chunk of a block in what is asked for, or in what deletes leave of it; nothing
    /// of other parts.
    fn read_chunk(
        &self,
        part: Part,
        kept: Option<TimeRange>,
        timestamps_ms: &mut Vec<i64>,
        values: &mut Vec<f64>,
    ) -> Result<(), MetricError> {
        if let Part::Rollups { block, .. } = part {
            // What lies beside its samples says nothing more.
            return match self.blocks[block as usize].1.block().is_thinned() {
                true => self.read_last(part, kept, timestamps_ms, values),
                false => Ok(()),
            };
        }
        let Part::Chunk { block, group, chunk } = part else { return Ok(()) };
        let (id, reader) = &self.blocks[block as usize];
        let group = &self.groups[group as usize];
        let chunk = &group.chunks[chunk as usize];
        reader
            .read(group, chunk, kept.unwrap_or(self.range), timestamps_ms, values)
            .map_err(|error| MetricError::Block { block: Arc::clone(id), error })
    }
}
