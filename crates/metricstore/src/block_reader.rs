//! Reads chunks of a block for one query or one merge, each page decompressed once.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use blockstore::BlockError;
use model::{RollupRow, TimeRange};
use parking_lot::Mutex;
use rapidhash::RapidHashMap;

use crate::block::MetricBlock;
use crate::directory::{Chunk, Group, TimestampColumn};
use crate::histogram_columns::HistogramColumns;
use crate::starts::{GroupStarts, Starts};

/// Locks over the decoded timestamp columns, so that threads of one query seldom meet.
const STRIPES: usize = 16;
/// Decoded timestamps kept per stripe: 1 MiB of 8 bytes over all stripes.
const MAX_STRIPE_TIMESTAMPS: usize = 1 << 16;

/// A block and what one reader has decompressed of it.
pub(crate) struct BlockReader {
    block: Arc<MetricBlock>,
    /// By page number. A lock is held while its page is decompressed, so no page is twice.
    pages: Box<[Cached<Vec<u8>>]>,
    groups: Box<[Cached<Group>]>,
    columns: [Mutex<Columns>; STRIPES],
    /// The group's pages of starts that were read, by number.
    starts: Mutex<RapidHashMap<u32, Arc<GroupStarts>>>,
    /// Whether what is read may be wanted by others.
    is_shared: bool,
    decompressed_bytes: AtomicUsize,
    has_read_rollups: AtomicBool,
}

/// Something that is read once; its lock is held meanwhile.
type Cached<T> = Mutex<Option<Arc<T>>>;

#[derive(Default)]
struct Columns {
    by_place: RapidHashMap<(u32, u32), Arc<[i64]>>,
    timestamps: usize,
}

impl BlockReader {
    /// For a query.
    pub(crate) fn new(block: Arc<MetricBlock>) -> Self {
        Self::of(block, true)
    }

    /// For a merge, which reads everything once.
    pub(crate) fn for_merge(block: Arc<MetricBlock>) -> Self {
        Self::of(block, false)
    }

    fn of(block: Arc<MetricBlock>, is_shared: bool) -> Self {
        let pages = (0..block.page_count()).map(|_| Mutex::new(None)).collect();
        let groups = (0..block.groups().len()).map(|_| Mutex::new(None)).collect();
        let decompressed_bytes = AtomicUsize::new(0);
        let has_read_rollups = AtomicBool::new(false);
        BlockReader {
            block,
            pages,
            groups,
            columns: Default::default(),
            starts: Mutex::default(),
            is_shared,
            decompressed_bytes,
            has_read_rollups,
        }
    }

    pub(crate) fn block(&self) -> &MetricBlock {
        &self.block
    }

    /// Bytes of the pages that were decompressed so far.
    pub(crate) fn decompressed_bytes(&self) -> usize {
        self.decompressed_bytes.load(Ordering::Relaxed)
    }

    /// Whether rollups were read so far.
    pub(crate) fn has_read_rollups(&self) -> bool {
        self.has_read_rollups.load(Ordering::Relaxed)
    }

    /// The directory of a group.
    pub(crate) fn group(&self, number: usize) -> Result<Arc<Group>, BlockError> {
        let mut slot = self.groups[number].lock();
        if let Some(group) = &*slot {
            return Ok(Arc::clone(group));
        }
        let group = match self.is_shared {
            true => self.block.shared_group(number)?,
            false => Arc::new(self.block.group(number)?),
        };
        *slot = Some(Arc::clone(&group));
        Ok(group)
    }

    fn page(&self, number: u32) -> Result<Arc<Vec<u8>>, BlockError> {
        let mut slot = self.pages[number as usize].lock();
        if let Some(page) = &*slot {
            return Ok(Arc::clone(page));
        }
        let page = match self.is_shared {
            true => self.block.shared_page(number)?,
            false => Arc::new(self.block.page(number)?),
        };
        self.decompressed_bytes.fetch_add(page.len(), Ordering::Relaxed);
        *slot = Some(Arc::clone(&page));
        Ok(page)
    }

    /// Forgets what was decompressed for a group: its series will not be read again.
    pub(crate) fn forget_group(&self, number: usize) {
        if let Some(group) = self.groups[number].lock().take() {
            if let Some(page) = group.starts_page {
                self.starts.lock().remove(&page);
            }
            let others = group.histograms.iter().chain(&group.rollups);
            for chunk in group.chunks.iter().chain(others.flat_map(|group| &group.chunks)) {
                *self.pages[chunk.page as usize].lock() = None;
            }
        }
    }

    /// What is known of when the values of the series at `place` of a group began.
    pub(crate) fn starts(&self, group: &Group, place: u32) -> Result<Option<Starts>, BlockError> {
        // Fast path: most blocks have no such pages.
        let Some(page) = group.starts_page else { return Ok(None) };
        let mut known = self.starts.lock();
        if let Some(starts) = known.get(&page) {
            return Ok(starts.of(place));
        }
        let starts = Arc::new(self.block.starts(page, group.ends.len())?);
        self.decompressed_bytes.fetch_add(starts.bytes(), Ordering::Relaxed);
        known.insert(page, Arc::clone(&starts));
        Ok(starts.of(place))
    }

    fn timestamps(&self, column: &TimestampColumn) -> Result<Arc<[i64]>, BlockError> {
        let key = (column.page, column.offset);
        let stripe = (column.page.wrapping_mul(31).wrapping_add(column.offset)) as usize % STRIPES;
        if let Some(known) = self.columns[stripe].lock().by_place.get(&key) {
            return Ok(Arc::clone(known));
        }
        let page = self.page(column.page)?;
        let mut decoded = Vec::new();
        self.block.timestamps(column, &page, &mut decoded)?;
        let decoded: Arc<[i64]> = Arc::from(decoded);
        let mut columns = self.columns[stripe].lock();
        if columns.timestamps + decoded.len() > MAX_STRIPE_TIMESTAMPS {
            *columns = Columns::default();
        }
        columns.timestamps += decoded.len();
        columns.by_place.insert(key, Arc::clone(&decoded));
        Ok(decoded)
    }

    /// All timestamps of a chunk, and where those that lie in `range` are.
    fn timestamps_in(
        &self,
        group: &Group,
        chunk: &Chunk,
        range: TimeRange,
    ) -> Result<(Arc<[i64]>, Range<usize>), BlockError> {
        let column = self.timestamps(group.column(chunk))?;
        let start = column.partition_point(|&t| t < range.start_ms);
        let end = column.partition_point(|&t| t < range.end_ms).max(start);
        Ok((column, start..end))
    }

    /// Appends the histograms of a chunk that lie in `range`; `group` is the directory of
    /// histograms.
    pub(crate) fn read_histograms(
        &self,
        group: &Group,
        chunk: &Chunk,
        range: TimeRange,
        out: &mut HistogramColumns,
    ) -> Result<(), BlockError> {
        let column = self.timestamps(group.column(chunk))?;
        let page = self.page(chunk.page)?;
        let start = out.len();
        self.block.histograms(chunk, column.len(), &page, out)?;
        out.timestamps_ms.extend_from_slice(&column);
        out.trim_from(start, range);
        Ok(())
    }

    /// Appends the rows of a chunk of rollups whose last samples lie in `range`; `group` is the
    /// directory of rollups.
    pub(crate) fn read_rollups(
        &self,
        group: &Group,
        chunk: &Chunk,
        range: TimeRange,
        out: &mut Vec<RollupRow>,
    ) -> Result<(), BlockError> {
        let (column, inside) = self.timestamps_in(group, chunk, range)?;
        if inside.is_empty() {
            return Ok(());
        }
        let page = self.page(chunk.page)?;
        let start = out.len();
        // Threads that only ever store the same share the line without owning it.
        if !self.has_read_rollups() {
            self.has_read_rollups.store(true, Ordering::Relaxed);
        }
        self.block.rollups(chunk, &column, &page, out)?;
        out.truncate(start + inside.end);
        out.drain(start..start + inside.start);
        Ok(())
    }

    /// Appends the samples of a chunk that lie in `range`.
    pub(crate) fn read(
        &self,
        group: &Group,
        chunk: &Chunk,
        range: TimeRange,
        timestamps: &mut Vec<i64>,
        values: &mut Vec<f64>,
    ) -> Result<(), BlockError> {
        let (column, inside) = self.timestamps_in(group, chunk, range)?;
        if inside.is_empty() {
            return Ok(());
        }
        let page = self.page(chunk.page)?;
        self.block.values(chunk, column.len(), inside.clone(), &page, values)?;
        timestamps.extend_from_slice(&column[inside]);
        Ok(())
    }
}
