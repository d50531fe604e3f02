//! The group of series that a block's writer is collecting.

use blockstore::BlockError;
use rapidhash::RapidHashMap;

use crate::directory::{self, NewChunk, TimestampColumn};
use crate::pages::{PageKind, PageWriter, TARGET_PAGE_BYTES};
use crate::starts::GroupStarts;

/// The group being collected.
#[derive(Default)]
pub(crate) struct NewGroup {
    pub(crate) first_series: u32,
    pub(crate) series: u32,
    pub(crate) values: NewChunks,
    pub(crate) histograms: NewChunks,
    pub(crate) rollups: NewChunks,
    starts: GroupStarts,
    scratch: Vec<u8>,
}

/// The chunks of a group that are of one kind.
#[derive(Default)]
pub(crate) struct NewChunks {
    columns: Vec<TimestampColumn>,
    by_place: RapidHashMap<(u32, u32), u32>,
    pub(crate) chunks: Vec<NewChunk>,
    /// Encoded content of `chunks`, in their order.
    pub(crate) bytes: Vec<u8>,
    /// The same in another form, if there is one, and how long it is of each chunk.
    other_bytes: Vec<u8>,
    other_lens: Vec<u32>,
    /// Next chunk's index in its series.
    pub(crate) next_index: u32,
}

impl NewGroup {
    pub(crate) fn push(&mut self, column: TimestampColumn, values: &[f64], is_cold: bool) {
        self.values.push(self.series - 1, column, |out| codec::encode_f64s(values, out));
        if is_cold {
            self.values.push_other(|out| codec::encode_f64s_bytewise(values, out));
        }
    }

    /// Notes when values of the series under way began, of which a chunk was pushed; 0 = not known.
    pub(crate) fn note_starts(&mut self, starts: impl Iterator<Item = (i64, i64)>) {
        starts.for_each(|(t_ms, start_ms)| self.starts.push(self.series - 1, t_ms, start_ms));
    }

    /// How often it changes when values began.
    pub(crate) fn start_steps(&self) -> usize {
        self.starts.len()
    }

    /// Writes values and histograms, then their directories; yields the page of the first one.
    pub(crate) fn write(&mut self, pages: &mut PageWriter<'_>) -> Result<u32, BlockError> {
        let series = self.series as usize;
        let (first_page, order) = self.values.write(PageKind::Values, pages)?;
        let has_histograms = !self.histograms.chunks.is_empty();
        let histograms = if has_histograms {
            Some(self.histograms.write(PageKind::Histograms, pages)?)
        } else {
            None
        };
        let rollups = if self.rollups.chunks.is_empty() {
            None
        } else {
            Some(self.rollups.write(PageKind::Rollups, pages)?)
        };
        self.scratch.clear();
        self.values.encode_directory(series, first_page, &order, &mut self.scratch);
        let directory = pages.next_number();
        pages.write(PageKind::Directory, &self.scratch)?;
        if let Some((first_page, order)) = histograms {
            self.scratch.clear();
            self.histograms.encode_directory(series, first_page, &order, &mut self.scratch);
            pages.write(PageKind::HistogramDirectory, &self.scratch)?;
        }
        if let Some((first_page, order)) = rollups {
            self.scratch.clear();
            self.rollups.encode_directory(series, first_page, &order, &mut self.scratch);
            pages.write(PageKind::RollupDirectory, &self.scratch)?;
        }
        if !self.starts.is_empty() {
            self.scratch.clear();
            self.starts.encode(&mut self.scratch);
            pages.write(PageKind::Starts, &self.scratch)?;
        }
        Ok(directory)
    }

    pub(crate) fn clear(&mut self) {
        self.series = 0;
        self.values.clear();
        self.histograms.clear();
        self.rollups.clear();
        self.starts.clear();
    }
}

impl NewChunks {
    /// Appends a chunk of a series, number `series` of the group.
    pub(crate) fn push(
        &mut self,
        series: u32,
        column: TimestampColumn,
        encode: impl FnOnce(&mut Vec<u8>),
    ) {
        let next = self.columns.len() as u32;
        let local = *self.by_place.entry((column.page, column.offset)).or_insert(next);
        if local == next {
            self.columns.push(column);
        }
        let start = self.bytes.len();
        encode(&mut self.bytes);
        self.chunks.push(NewChunk {
            series,
            index: self.next_index,
            column: local,
            len: (self.bytes.len() - start) as u32,
        });
        self.next_index += 1;
    }

    /// Adds the other form of the chunk that was pushed last.
    fn push_other(&mut self, encode: impl FnOnce(&mut Vec<u8>)) {
        let start = self.other_bytes.len();
        encode(&mut self.other_bytes);
        self.other_lens.push((self.other_bytes.len() - start) as u32);
    }

    /// Writes a page of some chunks, in whichever form is smaller.
    fn write_page(
        &mut self,
        kind: PageKind,
        chunks: &[u32],
        (page, other): (&[u8], &[u8]),
        pages: &mut PageWriter<'_>,
    ) -> Result<(), BlockError> {
        if self.other_lens.is_empty() {
            return pages.write(kind, page);
        }
        if pages.write_smaller(kind, page, other)? {
            for &chunk in chunks {
                self.chunks[chunk as usize].len = self.other_lens[chunk as usize];
            }
        }
        Ok(())
    }

    /// Writes the content chunk index by chunk index; yields the first page and that order.
    fn write(
        &mut self,
        kind: PageKind,
        pages: &mut PageWriter<'_>,
    ) -> Result<(u32, Vec<u32>), BlockError> {
        let starts = starts_of(self.chunks.iter().map(|chunk| chunk.len));
        let other_starts = starts_of(self.other_lens.iter().copied());
        let mut order: Vec<u32> = (0..self.chunks.len() as u32).collect();
        // Stable: within one index the series stay in their order.
        order.sort_by_key(|&chunk| self.chunks[chunk as usize].index);

        let first_page = pages.next_number();
        let (mut page, mut other) = (Vec::with_capacity(TARGET_PAGE_BYTES), Vec::new());
        let mut first = 0;
        for (place, &chunk) in order.iter().enumerate() {
            let at = chunk as usize;
            page.extend_from_slice(&self.bytes[starts[at]..starts[at + 1]]);
            if !self.other_lens.is_empty() {
                other.extend_from_slice(&self.other_bytes[other_starts[at]..other_starts[at + 1]]);
            }
            if page.len() >= TARGET_PAGE_BYTES || place + 1 == order.len() {
                self.write_page(kind, &order[first..=place], (&page, &other), pages)?;
                first = place + 1;
                page.clear();
                other.clear();
            }
        }
        Ok((first_page, order))
    }

    fn encode_directory(&self, series: usize, first_page: u32, order: &[u32], out: &mut Vec<u8>) {
        let sorted: Vec<NewChunk> = order.iter().map(|&at| self.chunks[at as usize]).collect();
        directory::encode(series, first_page, &self.columns, &sorted, out);
    }

    pub(crate) fn clear(&mut self) {
        self.columns.clear();
        self.by_place.clear();
        self.chunks.clear();
        self.bytes.clear();
        self.other_bytes.clear();
        self.other_lens.clear();
        self.next_index = 0;
    }
}

/// Where pieces of these lengths begin, and where the last one ends.
fn starts_of(lens: impl Iterator<Item = u32>) -> Vec<usize> {
    let ends = lens.scan(0, |end, len| {
        *end += len as usize;
        Some(*end)
    });
    std::iter::once(0).chain(ends).collect()
}
