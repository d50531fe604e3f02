//! An open block: its indexes in memory, its pages read when they are needed.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use blockstore::{BlobWriter, ReadAt};
use blockstore::{BlockError, BlockFormat, BlockSummary, MergeError, MergeInput, MergePart};
use codec::checksum;
use codec::varint::take_u64;
use labelindex::{BlockIndex, LabelIndex};
use model::{Labels, RollupRow, TimeRange};
use parking_lot::Mutex;

use crate::block_writer::GroupInfo;
use crate::deletes::Delete;
use crate::directory::{Chunk, DirectoryFault, Group, MAX_GROUP_SERIES, TimestampColumn};
use crate::downsampling::DownsamplingRules;
use crate::histogram_columns::HistogramColumns;
use crate::page_cache::{Kept, PageCache};
use crate::pages::{PageInfo, PageKind, TableFault, decode_table, read_page};
use crate::registry::{NOT_REGISTERED, RegistryVersion};
use crate::rollup;
use crate::starts::GroupStarts;

/// First and last four bytes of a block.
pub(crate) const MAGIC: [u8; 4] = *b"WFMB";
/// The version this program writes, and the highest it reads.
pub(crate) const VERSION: u8 = 1;
/// Length of the header.
pub(crate) const HEADER_BYTES: usize = 8;
/// Length of the footer.
pub(crate) const FOOTER_BYTES: usize = 128;

/// From this level on a merge writes rollups beside the samples.
pub use blockstore::ROLLED_LEVEL;
/// From this level on it writes rollups instead of the floats.
pub use blockstore::THINNED_LEVEL;

/// The format of metric blocks, `docs/formats/metric-block.md`.
#[derive(Debug, Clone)]
pub struct MetricFormat {
    seed: u64,
    rollups_ms: Arc<[i64]>,
    downsampling: DownsamplingRules,
    cache: Arc<PageCache>,
}

impl MetricFormat {
    /// `seed` keys the hash by which equal timestamp columns are found while writing; it comes
    /// from the system's randomness and does not change what a block says.
    pub fn new(seed: u64) -> Self {
        let (rollups_ms, cache) = (Arc::from([]), PageCache::new(0));
        MetricFormat { seed, rollups_ms, downsampling: DownsamplingRules::default(), cache }
    }

    /// The same, whose merges also write rollups: of windows of the first of these lengths, ascending,
    /// from [`ROLLED_LEVEL`] on, of each next one at the next level above [`THINNED_LEVEL`].
    #[must_use]
    pub fn with_rollups(self, resolutions_ms: &[i64]) -> Self {
        MetricFormat { rollups_ms: Arc::from(resolutions_ms), ..self }
    }

    /// The same, whose merges keep fewer samples of the series that all of these rules concern.
    #[must_use]
    pub fn with_downsampling(self, downsampling: DownsamplingRules) -> Self {
        MetricFormat { downsampling, ..self }
    }

    /// The same, whose blocks keep in `cache` what queries read of them.
    #[must_use]
    pub fn with_cache(self, cache: Arc<PageCache>) -> Self {
        MetricFormat { cache, ..self }
    }

    /// Length of the windows of rollups that a merge to `level` writes, if it writes any.
    pub(crate) fn rollup_ms(&self, level: u8) -> Option<i64> {
        let tier = usize::from(level.saturating_sub(THINNED_LEVEL));
        self.rollups_ms.get(tier).or(self.rollups_ms.last()).copied()
    }

    pub(crate) fn downsampling(&self) -> &DownsamplingRules {
        &self.downsampling
    }

    pub(crate) fn seed(&self) -> u64 {
        self.seed
    }
}

impl BlockFormat for MetricFormat {
    type Block = MetricBlock;
    type Delete = Delete;

    fn open(&self, file: Arc<dyn ReadAt>) -> Result<MetricBlock, BlockError> {
        MetricBlock::open(file, &self.cache)
    }

    fn conflicts(block: &MetricBlock) -> u64 {
        block.summary.conflicts
    }

    fn merge_part(
        &self,
        inputs: &[MergeInput<MetricBlock, Delete>],
        keep: TimeRange,
        level: u8,
        part: &MergePart,
        out: &mut dyn BlobWriter,
    ) -> Result<(BlockSummary, Option<Labels>), MergeError> {
        crate::merge::merge(self, inputs, keep, level, part, out)
    }
}

/// A block whose footer and indexes were read and checked. Memory: the label index, 32 bytes per
/// page and 12 per group.
pub struct MetricBlock {
    file: Arc<dyn ReadAt>,
    index: BlockIndex,
    pages: Vec<PageInfo>,
    groups: Vec<GroupInfo>,
    summary: BlockSummary,
    chunks: u64,
    rollup_ms: i64,
    is_thinned: bool,
    is_downsampled: bool,
    handles: Mutex<Arc<Handles>>,
    /// What queries read of it lately, under this number.
    cache: Arc<PageCache>,
    number: u64,
}

impl Drop for MetricBlock {
    fn drop(&mut self) {
        self.cache.forget_block(self.number);
    }
}

/// Ordinals that the block's series have in a registry, as far as they were asked for: so that a
/// query over many blocks compares integers, not labels.
#[derive(Default)]
pub(crate) struct Handles {
    /// Whose ordinals they are, and as of which release.
    version: Option<RegistryVersion>,
    by_series: Box<[AtomicU32]>,
}

impl Handles {
    /// The ordinal of a series, if it is known.
    pub(crate) fn get(&self, series: u32) -> Option<u32> {
        let ordinal = self.by_series[series as usize].load(Ordering::Relaxed);
        (ordinal != NOT_REGISTERED).then_some(ordinal)
    }

    /// Notes the ordinal of a series; [`NOT_REGISTERED`] notes nothing.
    pub(crate) fn set(&self, series: u32, ordinal: u32) {
        self.by_series[series as usize].store(ordinal, Ordering::Relaxed);
    }
}

/// A section as the footer states it.
struct Section {
    offset: u64,
    len: u64,
    checksum: u32,
}

struct Footer([u8; FOOTER_BYTES]);

impl Footer {
    fn u64(&self, at: usize) -> u64 {
        u64::from_le_bytes(*self.0[at..].first_chunk().expect("field lies inside the footer"))
    }

    fn u32(&self, at: usize) -> u32 {
        u32::from_le_bytes(*self.0[at..].first_chunk().expect("field lies inside the footer"))
    }

    fn section(&self, number: usize) -> Section {
        Section {
            offset: self.u64(16 * number),
            len: self.u64(16 * number + 8),
            checksum: self.u32(48 + 4 * number),
        }
    }
}

impl std::fmt::Debug for MetricBlock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MetricBlock").field("summary", &self.summary).finish_non_exhaustive()
    }
}

impl MetricBlock {
    fn open(file: Arc<dyn ReadAt>, cache: &Arc<PageCache>) -> Result<Self, BlockError> {
        let footer = read_footer(&*file)?;
        let [index, page_table, group_table] = [0, 1, 2].map(|number| footer.section(number));
        let footer_start = file.size_bytes() - FOOTER_BYTES as u64;
        let is_gapless = index.offset >= HEADER_BYTES as u64
            && index.offset.checked_add(index.len) == Some(page_table.offset)
            && page_table.offset.checked_add(page_table.len) == Some(group_table.offset)
            && group_table.offset.checked_add(group_table.len) == Some(footer_start);
        if !is_gapless {
            return Err(corrupt(footer_start, "sections do not fill the file"));
        }
        let table = read_section(&*file, &page_table, "page table")?;
        let pages =
            decode_table(&table, HEADER_BYTES as u64, index.offset).map_err(
                |fault| match fault {
                    TableFault::Codec(error) => corrupt(page_table.offset, error.to_string()),
                    TableFault::Invalid(detail) => corrupt(page_table.offset, detail),
                    TableFault::ReservedKind(kind) => corrupt(
                        page_table.offset,
                        format!("page of kind {kind}, which a newer program wrote: upgrade"),
                    ),
                },
            )?;
        let table = read_section(&*file, &group_table, "group table")?;
        let series = footer.u64(64);
        let groups = decode_groups(&table, series, &pages)
            .map_err(|detail| corrupt(group_table.offset, detail))?;
        let labels = read_section(&*file, &index, "label index")?;
        let labels = BlockIndex::open(&labels)
            .map_err(|error| corrupt(index.offset, format!("label index: {error}")))?;
        if labels.series_count() as u64 != series {
            return Err(corrupt(index.offset, "label index of another number of series"));
        }
        let (min_ms, max_ms) = (footer.u64(88) as i64, footer.u64(96) as i64);
        let has_rollups = pages.iter().any(|page| page.kind == PageKind::RollupDirectory);
        let rollup_ms = i64::from(footer.u32(112));
        if has_rollups != (rollup_ms > 0) {
            return Err(corrupt(footer_start, "rollups without the length of their windows"));
        }
        let is_thinned = footer.0[116] != 0;
        if is_thinned && !has_rollups {
            return Err(corrupt(footer_start, "thinned, and without rollups"));
        }
        Ok(MetricBlock {
            file,
            index: labels,
            pages,
            groups,
            summary: BlockSummary {
                range: TimeRange::new(min_ms, max_ms.saturating_add(1)),
                series,
                rows: footer.u64(72),
                conflicts: footer.u64(104),
            },
            chunks: footer.u64(80),
            rollup_ms,
            is_thinned,
            is_downsampled: footer.0[117] != 0,
            handles: Mutex::default(),
            number: cache.number_block(),
            cache: Arc::clone(cache),
        })
    }

    /// What is inside.
    pub fn summary(&self) -> &BlockSummary {
        &self.summary
    }

    /// Number of chunks.
    pub fn chunks(&self) -> u64 {
        self.chunks
    }

    /// Length of the windows of its rollups; 0 if it has none.
    pub fn rollup_ms(&self) -> i64 {
        self.rollup_ms
    }

    /// Whether the rollups are all that is left of its floats.
    pub fn is_thinned(&self) -> bool {
        self.is_thinned
    }

    /// Whether there may be fewer floats than its rollups count, because they are old.
    pub fn is_downsampled(&self) -> bool {
        self.is_downsampled
    }

    /// Whether it may have fewer floats than there were, because they are old.
    pub fn lacks_floats(&self) -> bool {
        self.is_thinned || self.is_downsampled
    }

    /// Whether its rollups may tell what no floats do any more, so that they cannot be made anew.
    pub(crate) fn has_only_rollups(&self) -> bool {
        self.rollup_ms > 0 && self.lacks_floats()
    }

    /// The smallest range that holds all samples.
    pub fn range(&self) -> TimeRange {
        self.summary.range
    }

    /// Labels and postings of the series.
    pub fn index(&self) -> &BlockIndex {
        &self.index
    }

    /// What is known of the series' ordinals in the registry that `version` is of.
    pub(crate) fn handles(&self, version: &RegistryVersion) -> Arc<Handles> {
        let mut handles = self.handles.lock();
        if handles.version.as_ref() != Some(version) {
            let unknown = || AtomicU32::new(NOT_REGISTERED);
            *handles = Arc::new(Handles {
                version: Some(version.clone()),
                by_series: (0..self.summary.series).map(|_| unknown()).collect(),
            });
        }
        Arc::clone(&handles)
    }

    pub(crate) fn page_count(&self) -> usize {
        self.pages.len()
    }

    pub(crate) fn groups(&self) -> &[GroupInfo] {
        &self.groups
    }

    /// The groups that hold chunks of a series: one, or several neighbours for a long series.
    pub(crate) fn groups_of(&self, series: u32) -> std::ops::Range<usize> {
        let start = self.groups.partition_point(|g| g.first_series + g.series <= series);
        let end = self.groups.partition_point(|g| g.first_series <= series);
        start..end
    }

    /// As [`MetricBlock::page`], for queries: from memory where somebody read it lately.
    pub(crate) fn shared_page(&self, number: u32) -> Result<Arc<Vec<u8>>, BlockError> {
        let key = (self.number, false, number);
        if let Some(Kept::Page(page)) = self.cache.get(key) {
            return Ok(page);
        }
        let page = Arc::new(self.page(number)?);
        self.cache.offer(key, Kept::Page(Arc::clone(&page)));
        Ok(page)
    }

    /// As [`MetricBlock::group`], for queries: from memory where somebody read it lately.
    pub(crate) fn shared_group(&self, number: usize) -> Result<Arc<Group>, BlockError> {
        let key = (self.number, true, number as u32);
        if let Some(Kept::Group(group)) = self.cache.get(key) {
            return Ok(group);
        }
        let group = Arc::new(self.group(number)?);
        self.cache.offer(key, Kept::Group(Arc::clone(&group)));
        Ok(group)
    }

    /// Reads and decompresses a page.
    pub(crate) fn page(&self, number: u32) -> Result<Vec<u8>, BlockError> {
        read_page(&*self.file, &self.pages[number as usize])
    }

    /// Reads the directories of a group.
    pub(crate) fn group(&self, number: usize) -> Result<Group, BlockError> {
        let info = &self.groups[number];
        // The directories of histograms and of rollups, where there are any, are the pages behind
        // that of the floats.
        let is = |page: u32, kind| self.pages.get(page as usize).is_some_and(|p| p.kind == kind);
        let behind = info.directory + 1;
        let has_histograms = is(behind, PageKind::HistogramDirectory);
        let last = behind + u32::from(has_histograms);
        let has_rollups = is(last, PageKind::RollupDirectory);
        let may_lack = has_histograms || has_rollups;
        let mut group = self.directory(info, info.directory, PageKind::Values, may_lack)?;
        if has_histograms {
            let histograms = self.directory(info, behind, PageKind::Histograms, true)?;
            group.histograms = Some(Box::new(histograms));
        }
        if has_rollups {
            let mut rollups = self.directory(info, last, PageKind::Rollups, true)?;
            rollups.resolution_ms = self.rollup_ms;
            group.rollups = Some(Box::new(rollups));
        }
        let after = last + u32::from(has_rollups);
        group.starts_page = is(after, PageKind::Starts).then_some(after);
        Ok(group)
    }

    fn directory(
        &self,
        info: &GroupInfo,
        number: u32,
        content: PageKind,
        may_lack: bool,
    ) -> Result<Group, BlockError> {
        let page = self.page(number)?;
        let len_of = |kind| {
            move |number: u32| {
                self.pages.get(number as usize).filter(|p| p.kind == kind).map(|p| p.raw_len)
            }
        };
        let timestamps = len_of(PageKind::Timestamps);
        let series = info.series as usize;
        Group::decode(&page, series, may_lack, len_of(content), timestamps).map_err(|fault| {
            let offset = self.pages[number as usize].offset;
            match fault {
                DirectoryFault::Codec(error) => corrupt(offset, format!("directory: {error}")),
                DirectoryFault::Invalid(detail) => corrupt(offset, format!("directory: {detail}")),
            }
        })
    }

    /// Reads the page that tells when values of the series of a group began.
    pub(crate) fn starts(&self, number: u32, series: usize) -> Result<GroupStarts, BlockError> {
        let page = self.page(number)?;
        let offset = self.pages[number as usize].offset;
        GroupStarts::decode(&page, series)
            .map_err(|fault| corrupt(offset, format!("starts: {fault}")))
    }

    /// Decodes a timestamp column out of its page.
    pub(crate) fn timestamps(
        &self,
        column: &TimestampColumn,
        page: &[u8],
        out: &mut Vec<i64>,
    ) -> Result<(), BlockError> {
        let mut input = &page[column.offset as usize..][..column.len as usize];
        codec::decode_i64s(&mut input, column.rows as usize, out)
            .map_err(|error| self.column_error(column.page, column.offset, &error))
    }

    /// Decodes the values at `places` of a chunk of `rows` samples.
    pub(crate) fn values(
        &self,
        chunk: &Chunk,
        rows: usize,
        places: std::ops::Range<usize>,
        page: &[u8],
        out: &mut Vec<f64>,
    ) -> Result<(), BlockError> {
        let mut input = &page[chunk.offset as usize..][..chunk.len as usize];
        codec::decode_f64s_at(&mut input, rows, places, out)
            .map_err(|error| self.column_error(chunk.page, chunk.offset, &error))
    }

    /// Decodes the histograms of a chunk of `rows` samples, but for their timestamps.
    pub(crate) fn histograms(
        &self,
        chunk: &Chunk,
        rows: usize,
        page: &[u8],
        out: &mut HistogramColumns,
    ) -> Result<(), BlockError> {
        let mut input = &page[chunk.offset as usize..][..chunk.len as usize];
        out.decode(rows, &mut input)
            .map_err(|error| self.column_error(chunk.page, chunk.offset, &error))
    }

    /// Decodes the rows of a chunk of rollups, whose last samples are at `last_ms`.
    pub(crate) fn rollups(
        &self,
        chunk: &Chunk,
        last_ms: &[i64],
        page: &[u8],
        out: &mut Vec<RollupRow>,
    ) -> Result<(), BlockError> {
        let input = &page[chunk.offset as usize..][..chunk.len as usize];
        rollup::decode(last_ms, input, out)
            .map_err(|error| self.column_error(chunk.page, chunk.offset, &error))
    }

    fn column_error(&self, page: u32, offset: u32, error: &codec::CodecError) -> BlockError {
        let at = self.pages[page as usize].offset;
        corrupt(at, format!("column at {offset} of the page: {error}"))
    }
}

fn corrupt(offset: u64, detail: impl Into<String>) -> BlockError {
    BlockError::Corrupt { offset, detail: detail.into() }
}

fn read_footer(file: &dyn ReadAt) -> Result<Footer, BlockError> {
    let size = file.size_bytes();
    if size < (HEADER_BYTES + FOOTER_BYTES) as u64 {
        return Err(corrupt(0, format!("{size} bytes are too few for a block")));
    }
    let mut header = [0; HEADER_BYTES];
    file.read_exact_at(0, &mut header)?;
    let offset = size - FOOTER_BYTES as u64;
    let mut footer = Footer([0; FOOTER_BYTES]);
    file.read_exact_at(offset, &mut footer.0)?;
    if header[..4] != MAGIC || footer.0[124..] != MAGIC {
        return Err(corrupt(0, "no metric block: magic is missing at the start or at the end"));
    }
    if checksum(&footer.0[..120]) != footer.u32(120) {
        return Err(corrupt(offset, "checksum of the footer does not match"));
    }
    if footer.0[119] != VERSION {
        return Err(BlockError::Version { found: footer.0[119], supported: VERSION });
    }
    if header[4..] != [VERSION, 0, 0, 0] {
        return Err(corrupt(4, "header and footer differ"));
    }
    Ok(footer)
}

fn read_section(file: &dyn ReadAt, section: &Section, name: &str) -> Result<Vec<u8>, BlockError> {
    // The sections were found to fill the file, so this allocates no more than the file has.
    let mut bytes = vec![0; section.len as usize];
    file.read_exact_at(section.offset, &mut bytes)?;
    if checksum(&bytes) != section.checksum {
        return Err(corrupt(section.offset, format!("checksum of the {name} does not match")));
    }
    Ok(bytes)
}

fn decode_groups(
    mut input: &[u8],
    series: u64,
    pages: &[PageInfo],
) -> Result<Vec<GroupInfo>, String> {
    let mut take = || -> Result<[Vec<i64>; 3], codec::CodecError> {
        let count = usize::try_from(take_u64(&mut input)?).unwrap_or(usize::MAX);
        let mut columns = [Vec::new(), Vec::new(), Vec::new()];
        for column in &mut columns {
            codec::decode_i64s(&mut input, count, column)?;
        }
        Ok(columns)
    };
    let [first, counts, directories] = take().map_err(|error| error.to_string())?;
    if !input.is_empty() {
        return Err("bytes after the group table".to_owned());
    }
    let mut groups: Vec<GroupInfo> = Vec::with_capacity(first.len());
    for ((first_series, count), directory) in first.into_iter().zip(counts).zip(directories) {
        let next = groups.last().map_or(0, |g| u64::from(g.first_series) + u64::from(g.series));
        let starts_well =
            first_series as u64 == next || (next > 0 && first_series as u64 == next - 1);
        let has_directory = pages
            .get(usize::try_from(directory).unwrap_or(usize::MAX))
            .is_some_and(|page| page.kind == PageKind::Directory);
        if !starts_well || !(1..=MAX_GROUP_SERIES as i64).contains(&count) || !has_directory {
            return Err(format!("group {} is impossible", groups.len()));
        }
        groups.push(GroupInfo {
            first_series: u32::try_from(first_series).map_err(|_| "series number")?,
            series: count as u32,
            directory: directory as u32,
        });
    }
    let end = groups.last().map_or(0, |g| u64::from(g.first_series) + u64::from(g.series));
    if end != series {
        return Err(format!("groups have {end} series, the footer says {series}"));
    }
    Ok(groups)
}
