//! Writes a block front to back: series in ascending order of labels, samples in order of time.

use std::ops::Range;

use blockstore::{BlobError, BlobWriter};
use blockstore::{BlockError, BlockSummary};
use codec::checksum;
use codec::varint::put_u64;
use labelindex::BlockIndexBuilder;
use model::{Labels, RollupRow, TimeRange};
use rapidhash::RapidHashMap;

use crate::block::{FOOTER_BYTES, HEADER_BYTES, MAGIC, VERSION};
use crate::directory::TimestampColumn;
use crate::downsampling::is_dropped;
use crate::fingerprint::Fingerprint;
use crate::group_writer::NewGroup;
use crate::histogram_columns::HistogramColumns;
use crate::pages::{PageKind, PageWriter, TARGET_PAGE_BYTES};
use crate::rollup::{self, RollupBuilder};
use crate::starts::Starts;

/// Samples at which a chunk is closed: about 4 h of a 15 s series. Longer chunks save less than
/// 1% of the block and make queries for an hour decode what they do not need.
pub(crate) const CHUNK_ROWS: usize = 1_024;
/// Series at which a group is closed.
const GROUP_SERIES: usize = 512;
/// Chunks at which a group is closed, inside a series if need be.
const GROUP_CHUNKS: usize = 1 << 14;
/// Encoded bytes at which a group is closed, inside a series if need be.
const GROUP_BYTES: usize = 1 << 20;
/// Changes of when values began at which a group is closed, inside a series if need be: a page of
/// them has 2.4 MiB at most.
const GROUP_STARTS: usize = 1 << 16;
/// Samples at which a chunk of histograms is closed: an hour of a 15 s series, decoded at once.
const HISTOGRAM_CHUNK_ROWS: usize = 256;
/// Timestamp columns remembered for sharing: 12 MiB at most.
const MAX_SHARED_COLUMNS: usize = 1 << 18;

/// A block being written. Memory: one group, the label index, and the columns it may share.
pub(crate) struct BlockWriter<'a> {
    pages: PageWriter<'a>,
    index: BlockIndexBuilder,
    groups: Vec<GroupInfo>,
    group: NewGroup,
    timestamps: TimestampPages,
    /// The series under way and the samples of it that are in no chunk yet.
    labels: Labels,
    has_chunks: bool,
    /// Whether the group lists it already.
    is_in_group: bool,
    pending_ms: Vec<i64>,
    pending: Vec<f64>,
    /// When the first so many of `pending` began; 0 = not known, as of those behind its end.
    pending_starts: Vec<i64>,
    pending_histograms: HistogramColumns,
    rollups: Rollups,
    rolled: RollupBuilder,
    /// When values of the series under way began, if it has only rollups.
    rolled_starts: Starts,
    has_rollups: bool,
    is_cold: bool,
    /// Of the series under way, 0 if all its samples are kept.
    downsampled_to_ms: i64,
    is_downsampled: bool,
    /// How many of the next floats are counted in rows that were given.
    told: u64,
    totals: Totals,
}

/// What a block has of rollups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rollups {
    None,
    /// Rollups beside the floats.
    Beside {
        resolution_ms: i64,
    },
    /// Rollups instead of the floats.
    Instead {
        resolution_ms: i64,
    },
}

/// A group as the group table lists it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct GroupInfo {
    pub(crate) first_series: u32,
    pub(crate) series: u32,
    pub(crate) directory: u32,
}

#[derive(Debug, Default)]
struct Totals {
    series: u32,
    rows: u64,
    chunks: u64,
    conflicts: u64,
    span_ms: Option<(i64, i64)>,
}

/// Timestamp columns, each written once.
struct TimestampPages {
    hash: Fingerprint,
    known: RapidHashMap<u128, TimestampColumn>,
    page: Vec<u8>,
    bytes: Vec<u8>,
}

impl<'a> BlockWriter<'a> {
    /// Starts a block. `level` is zstd's; `seed` keys the hash that finds equal timestamps.
    pub(crate) fn new(
        out: &'a mut dyn BlobWriter,
        level: i32,
        seed: u64,
    ) -> Result<Self, BlockError> {
        let mut header = [0; HEADER_BYTES];
        header[..4].copy_from_slice(&MAGIC);
        header[4] = VERSION;
        out.write(&header)?;
        Ok(BlockWriter {
            pages: PageWriter::new(out, level),
            index: BlockIndexBuilder::new(seed),
            groups: Vec::new(),
            group: NewGroup::default(),
            timestamps: TimestampPages {
                hash: Fingerprint::new(seed),
                known: RapidHashMap::default(),
                page: Vec::new(),
                bytes: Vec::new(),
            },
            labels: Labels::empty(),
            has_chunks: false,
            is_in_group: false,
            pending_ms: Vec::new(),
            pending: Vec::new(),
            pending_starts: Vec::new(),
            pending_histograms: HistogramColumns::default(),
            rollups: Rollups::None,
            rolled: RollupBuilder::default(),
            rolled_starts: Starts::default(),
            has_rollups: false,
            is_cold: false,
            downsampled_to_ms: 0,
            is_downsampled: false,
            told: 0,
            totals: Totals::default(),
        })
    }

    /// The same writer, that takes more time for less space.
    #[must_use]
    pub(crate) fn for_cold_data(self) -> Self {
        BlockWriter { is_cold: true, ..self }
    }

    /// The same writer, that writes rollups.
    #[must_use]
    pub(crate) fn with_rollups(self, rollups: Rollups) -> Self {
        BlockWriter { rollups, ..self }
    }

    /// Bytes that are written: of the groups that are complete.
    pub(crate) fn position(&self) -> u64 {
        self.pages.out.position()
    }

    /// Says that samples are gone which are counted in rollups beside those that are left.
    pub(crate) fn note_downsampled(&mut self) {
        self.is_downsampled = true;
    }

    /// Says how many of the floats that are pushed next are counted in rows that were given, so that it is
    /// nothing to tell that they are left out.
    pub(crate) fn expect_told(&mut self, floats: u64) {
        self.told = floats;
    }

    /// Keeps of the floats of the series under way the last of each interval, as
    /// [`downsampling`](crate::downsampling) has it; they are rolled up before.
    pub(crate) fn downsample_to(&mut self, interval_ms: i64) {
        self.downsampled_to_ms = interval_ms;
    }

    /// Ends the series under way and starts the next one, whose labels are greater. A series
    /// without samples leaves no trace.
    pub(crate) fn series(&mut self, labels: Labels) -> Result<(), BlockError> {
        self.end_series()?;
        debug_assert!(self.totals.series == 0 || self.labels < labels, "series out of order");
        self.labels = labels;
        self.downsampled_to_ms = 0;
        Ok(())
    }

    /// Appends samples of the series under way, later than those before, strictly ascending. `starts_ms`
    /// says of the first so many when they began; 0 = not known.
    pub(crate) fn push(
        &mut self,
        timestamps_ms: &[i64],
        values: &[f64],
        starts_ms: &[i64],
    ) -> Result<(), BlockError> {
        if let Some(resolution_ms) = self.rollup_ms() {
            let left_out = self.rolled.extend(timestamps_ms, values, resolution_ms);
            let told = std::mem::take(&mut self.told);
            self.add_conflicts(left_out.saturating_sub(told));
        }
        if matches!(self.rollups, Rollups::Instead { .. }) {
            // Fast path: nothing is known. What comes now is later, so this need not be noted.
            if starts_ms.is_empty() && self.rolled_starts.is_empty() {
                return Ok(());
            }
            for (index, &t_ms) in timestamps_ms.iter().enumerate() {
                self.note_start(t_ms, starts_ms.get(index).copied().unwrap_or(0));
            }
            return Ok(());
        }
        let mut full = self.pending.len() + values.len();
        if self.downsampled_to_ms > 0 {
            self.push_last(timestamps_ms, values, starts_ms);
            // The last one may still go.
            full = self.pending.len().saturating_sub(1);
        } else {
            if !starts_ms.is_empty() {
                self.pending_starts.resize(self.pending.len(), 0);
                self.pending_starts.extend_from_slice(starts_ms);
            }
            self.pending_ms.extend_from_slice(timestamps_ms);
            self.pending.extend_from_slice(values);
        }
        let full = full / CHUNK_ROWS * CHUNK_ROWS;
        for start in (0..full).step_by(CHUNK_ROWS) {
            self.write_chunk(start, start + CHUNK_ROWS)?;
        }
        self.pending_ms.drain(..full);
        self.pending.drain(..full);
        self.pending_starts.drain(..full.min(self.pending_starts.len()));
        Ok(())
    }

    /// Appends samples to the pending ones, and takes those out that go when the next one follows.
    fn push_last(&mut self, timestamps_ms: &[i64], values: &[f64], starts_ms: &[i64]) {
        for (index, (&t_ms, &value)) in timestamps_ms.iter().zip(values).enumerate() {
            if let (Some(&last_ms), Some(&last)) = (self.pending_ms.last(), self.pending.last())
                && is_dropped((last_ms, last), (t_ms, value), self.downsampled_to_ms)
            {
                self.is_downsampled = true;
                self.pending_ms.pop();
                self.pending.pop();
                self.pending_starts.truncate(self.pending.len());
            }
            if let Some(&start_ms) = starts_ms.get(index) {
                self.pending_starts.resize(self.pending.len(), 0);
                self.pending_starts.push(start_ms);
            }
            self.pending_ms.push(t_ms);
            self.pending.push(value);
        }
    }

    /// Says when a value of the series under way began of which only a rollup is left; 0 = not known.
    pub(crate) fn note_start(&mut self, t_ms: i64, start_ms: i64) {
        self.rolled_starts.set(t_ms, start_ms);
    }

    /// Length of the windows of the rollups it writes, if it does.
    pub(crate) fn rollup_ms(&self) -> Option<i64> {
        match self.rollups {
            Rollups::None => None,
            Rollups::Beside { resolution_ms } | Rollups::Instead { resolution_ms } => {
                Some(resolution_ms)
            }
        }
    }

    /// Takes rows of rollups of the series under way, of which nothing else is left, before all of its
    /// floats.
    pub(crate) fn push_rollups(&mut self, rows: &[RollupRow]) {
        self.rolled.extend_rows(rows);
    }

    fn write_rollups(&mut self) -> Result<(), BlockError> {
        let mut rows = std::mem::take(self.rolled.finish());
        for rows in rows.chunks(CHUNK_ROWS) {
            self.begin_chunk()?;
            let last_ms: Vec<i64> = rows.iter().map(|row| row.last_ms).collect();
            if matches!(self.rollups, Rollups::Instead { .. }) {
                self.totals.add(rows[0].first_ms, &last_ms);
            }
            let column = self.timestamps.place(&last_ms, &mut self.pages)?;
            let series = self.group.series - 1;
            self.group.rollups.push(series, column, |out| rollup::encode(rows, out));
            if !self.rolled_starts.is_empty() {
                let starts = &self.rolled_starts;
                self.group.note_starts(last_ms.iter().map(|&t_ms| (t_ms, starts.at(t_ms))));
            }
            self.has_rollups = true;
        }
        self.rolled_starts.clear();
        // The next series takes the memory over.
        rows.clear();
        *self.rolled.finish() = rows;
        Ok(())
    }

    /// Takes histograms of the series under way, later than those before, strictly ascending;
    /// `histograms` is empty afterwards.
    pub(crate) fn push_histograms(
        &mut self,
        histograms: &mut HistogramColumns,
    ) -> Result<(), BlockError> {
        // Fast path, nearly every series has none.
        if histograms.is_empty() {
            return Ok(());
        }
        self.pending_histograms.append(histograms);
        // What may still grow waits for more.
        self.write_histograms(HISTOGRAM_CHUNK_ROWS)
    }

    /// Writes pending histograms as long as there are at least `min_rows`.
    fn write_histograms(&mut self, min_rows: usize) -> Result<(), BlockError> {
        let mut start = 0;
        while self.pending_histograms.len() >= start + min_rows.max(1) {
            let run = self.pending_histograms.unite_run(start, HISTOGRAM_CHUNK_ROWS);
            start = run.end;
            self.write_histogram_chunk(run)?;
        }
        self.pending_histograms.drain(0..start);
        Ok(())
    }

    /// Counts samples that were left out because an earlier commit has another value, or a row that
    /// may count them.
    pub(crate) fn add_conflicts(&mut self, conflicts: u64) {
        // Inputs of a merge may say anything.
        self.totals.conflicts = self.totals.conflicts.saturating_add(conflicts);
    }

    fn end_series(&mut self) -> Result<(), BlockError> {
        if !self.pending.is_empty() {
            self.write_chunk(0, self.pending.len())?;
            self.pending_ms.clear();
            self.pending.clear();
            self.pending_starts.clear();
        }
        self.write_histograms(1)?;
        self.write_rollups()?;
        self.has_chunks = false;
        self.is_in_group = false;
        self.group.values.next_index = 0;
        self.group.histograms.next_index = 0;
        self.group.rollups.next_index = 0;
        if self.group.series as usize >= GROUP_SERIES {
            self.end_group()?;
        }
        Ok(())
    }

    fn write_chunk(&mut self, start: usize, end: usize) -> Result<(), BlockError> {
        self.begin_chunk()?;
        let timestamps = &self.pending_ms[start..end];
        let values = &self.pending[start..end];
        self.totals.add(timestamps[0], timestamps);
        let column = self.timestamps.place(timestamps, &mut self.pages)?;
        self.group.push(column, values, self.is_cold);
        // Where it is no longer known that has to be said, too.
        if !self.pending_starts.is_empty() || self.group.start_steps() > 0 {
            let starts = self.pending_starts.iter().copied().chain(std::iter::repeat(0));
            self.group.note_starts(timestamps.iter().copied().zip(starts.skip(start)));
        }
        Ok(())
    }

    fn write_histogram_chunk(&mut self, run: Range<usize>) -> Result<(), BlockError> {
        self.begin_chunk()?;
        let timestamps = &self.pending_histograms.timestamps_ms[run.clone()];
        self.totals.add(timestamps[0], timestamps);
        let column = self.timestamps.place(timestamps, &mut self.pages)?;
        let (histograms, series) = (&mut self.group.histograms, self.group.series - 1);
        histograms.push(series, column, |out| self.pending_histograms.encode(run, out));
        Ok(())
    }

    /// Ends a full group and makes sure that the series under way is in the one at hand.
    fn begin_chunk(&mut self) -> Result<(), BlockError> {
        let group = &self.group;
        let kinds = [&group.values, &group.histograms, &group.rollups];
        let chunks: usize = kinds.iter().map(|kind| kind.chunks.len()).sum();
        let bytes: usize = kinds.iter().map(|kind| kind.bytes.len()).sum();
        let starts = self.group.start_steps();
        if chunks >= GROUP_CHUNKS || bytes >= GROUP_BYTES || starts >= GROUP_STARTS {
            self.end_group()?;
        }
        if !self.has_chunks {
            self.has_chunks = true;
            self.index.push(&self.labels);
            self.totals.series += 1;
        }
        if !self.is_in_group {
            self.is_in_group = true;
            if self.group.series == 0 {
                self.group.first_series = self.totals.series - 1;
            }
            self.group.series += 1;
        }
        Ok(())
    }

    fn end_group(&mut self) -> Result<(), BlockError> {
        if self.group.series == 0 {
            return Ok(());
        }
        self.timestamps.write_page(&mut self.pages)?;
        let directory = self.group.write(&mut self.pages)?;
        self.groups.push(GroupInfo {
            first_series: self.group.first_series,
            series: self.group.series,
            directory,
        });
        self.group.clear();
        self.is_in_group = false;
        Ok(())
    }

    /// Ends the last series and writes the indexes and the footer. The blob itself is finished by
    /// the caller.
    pub(crate) fn finish(mut self) -> Result<BlockSummary, BlockError> {
        self.end_series()?;
        self.end_group()?;
        let (min_ms, max_ms) = self.totals.span_ms.unwrap_or((0, -1));
        let mut footer = Footer::default();

        let mut section = Vec::new();
        self.index.finish(&mut section);
        footer.section(0, self.pages.out, &section)?;
        section.clear();
        self.pages.encode_table(&mut section);
        footer.section(1, self.pages.out, &section)?;
        section.clear();
        encode_groups(&self.groups, &mut section);
        footer.section(2, self.pages.out, &section)?;

        footer.put(64, &u64::from(self.totals.series).to_le_bytes());
        footer.put(72, &self.totals.rows.to_le_bytes());
        footer.put(80, &self.totals.chunks.to_le_bytes());
        footer.put(88, &min_ms.to_le_bytes());
        footer.put(96, &max_ms.to_le_bytes());
        footer.put(104, &self.totals.conflicts.to_le_bytes());
        let (resolution_ms, is_thinned) = match self.rollups {
            Rollups::Beside { resolution_ms } if self.has_rollups => (resolution_ms, false),
            Rollups::Instead { resolution_ms } if self.has_rollups => (resolution_ms, true),
            _ => (0, false),
        };
        let resolution_ms = u32::try_from(resolution_ms).expect("a window of less than a month");
        footer.put(112, &resolution_ms.to_le_bytes());
        footer.put(116, &[u8::from(is_thinned), u8::from(self.is_downsampled && !is_thinned)]);
        footer.put(119, &[VERSION]);
        let sum = checksum(&footer.0[..120]);
        footer.put(120, &sum.to_le_bytes());
        footer.put(124, &MAGIC);
        self.pages.out.write(&footer.0)?;
        Ok(BlockSummary {
            range: TimeRange::new(min_ms, max_ms + 1),
            series: u64::from(self.totals.series),
            rows: self.totals.rows,
            conflicts: self.totals.conflicts,
        })
    }
}

impl Totals {
    /// Counts a chunk whose first sample is at `min_ms`.
    fn add(&mut self, min_ms: i64, timestamps: &[i64]) {
        let max_ms = timestamps[timestamps.len() - 1];
        self.rows += timestamps.len() as u64;
        self.chunks += 1;
        self.span_ms = match self.span_ms {
            Some((min, max)) => Some((min.min(min_ms), max.max(max_ms))),
            None => Some((min_ms, max_ms)),
        };
    }
}

impl TimestampPages {
    /// Where the column is; writes it if it is not known.
    fn place(
        &mut self,
        timestamps: &[i64],
        pages: &mut PageWriter<'_>,
    ) -> Result<TimestampColumn, BlockError> {
        self.bytes.clear();
        self.bytes.extend(timestamps.iter().flat_map(|t| t.to_le_bytes()));
        let key = self.hash.of(timestamps.len() as u64, &self.bytes);
        if let Some(column) = self.known.get(&key) {
            return Ok(*column);
        }
        if self.page.len() >= TARGET_PAGE_BYTES {
            self.write_page(pages)?;
        }
        let offset = self.page.len() as u32;
        codec::encode_i64s(timestamps, &mut self.page);
        let column = TimestampColumn {
            // Nothing but timestamps is written before a group ends, and then this page comes
            // first: so its number is known before it is written.
            page: pages.next_number(),
            offset,
            len: self.page.len() as u32 - offset,
            rows: timestamps.len() as u32,
            min_ms: timestamps[0],
            max_ms: timestamps[timestamps.len() - 1],
        };
        if self.known.len() == MAX_SHARED_COLUMNS {
            self.known.clear();
        }
        self.known.insert(key, column);
        Ok(column)
    }

    fn write_page(&mut self, pages: &mut PageWriter<'_>) -> Result<(), BlockError> {
        if !self.page.is_empty() {
            pages.write(PageKind::Timestamps, &self.page)?;
            self.page.clear();
        }
        Ok(())
    }
}

fn encode_groups(groups: &[GroupInfo], out: &mut Vec<u8>) {
    put_u64(out, groups.len() as u64);
    let column = |of: fn(&GroupInfo) -> u32| -> Vec<i64> {
        groups.iter().map(|group| i64::from(of(group))).collect()
    };
    codec::encode_i64s(&column(|group| group.first_series), out);
    codec::encode_i64s(&column(|group| group.series), out);
    codec::encode_i64s(&column(|group| group.directory), out);
}

/// The fixed end of a block.
struct Footer([u8; FOOTER_BYTES]);

impl Default for Footer {
    fn default() -> Self {
        Footer([0; FOOTER_BYTES])
    }
}

impl Footer {
    fn put(&mut self, at: usize, bytes: &[u8]) {
        self.0[at..at + bytes.len()].copy_from_slice(bytes);
    }

    /// Writes a section and notes where it is.
    fn section(
        &mut self,
        number: usize,
        out: &mut dyn BlobWriter,
        bytes: &[u8],
    ) -> Result<(), BlobError> {
        self.put(16 * number, &out.position().to_le_bytes());
        self.put(16 * number + 8, &(bytes.len() as u64).to_le_bytes());
        self.put(48 + 4 * number, &checksum(bytes).to_le_bytes());
        out.write(bytes)
    }
}
