//! An open block: its indexes in memory, its pages read when they are needed.

use std::sync::Arc;

use blockstore::{BlockError, BlockSummary, ReadAt};
use codec::CodecError;
use labelindex::{BlockIndex, LabelIndex};
use model::Matcher;

use crate::counters::Cells;
use crate::footer::{Footer, HEADER_BYTES};
use crate::group_table::{FIRST_NAME, Group, GroupTable, Run};
use crate::groups::GroupSet;
use crate::index_cache::IndexCache;
use crate::page::{corrupt, unpack_section};
use crate::skip::SkipIndex;
use crate::texts::AnyOf;
use crate::time::NsRange;

/// A block whose footer, labels and table of groups were read and checked. Memory: the label index, and per
/// group some 40 bytes for each stream and each column that it has.
pub struct LogBlock {
    file: Arc<dyn ReadAt>,
    footer: Footer,
    index: BlockIndex,
    table: GroupTable,
    cache: Arc<IndexCache>,
    /// Its number in `cache`.
    number: u64,
}

impl std::fmt::Debug for LogBlock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LogBlock").field("footer", &self.footer).finish_non_exhaustive()
    }
}

impl Drop for LogBlock {
    fn drop(&mut self) {
        self.cache.forget(self.number);
    }
}

/// What happens while the skip index is asked.
enum SearchFault {
    Index(CodecError),
    Block(BlockError),
}

impl From<CodecError> for SearchFault {
    fn from(error: CodecError) -> Self {
        SearchFault::Index(error)
    }
}

impl LogBlock {
    /// Reads and checks everything but pages and the skip index.
    ///
    /// # Errors
    /// `Corrupt`, `Version`, faults of the store.
    pub fn open(file: Arc<dyn ReadAt>, cache: &Arc<IndexCache>) -> Result<Self, BlockError> {
        let footer = Footer::read(&*file)?;
        let raw = footer.table.read(&*file, "group table")?;
        let undecodable =
            |error: CodecError| corrupt(footer.table.offset, format!("group table: {error}"));
        let raw = unpack_section(&raw).map_err(undecodable)?;
        let pages = HEADER_BYTES as u64..footer.counters.offset;
        let counters = footer.counters.offset..footer.counters.end();
        let table =
            GroupTable::decode(&raw, footer.streams, pages, counters).map_err(undecodable)?;
        let raw = footer.labels.read(&*file, "label index")?;
        let index = BlockIndex::open(&raw)
            .map_err(|error| corrupt(footer.labels.offset, format!("label index: {error}")))?;
        if index.series_count() != footer.streams as usize {
            return Err(corrupt(footer.labels.offset, "label index of another number of streams"));
        }
        let rows: u64 = table.groups.iter().map(|group| u64::from(group.rows)).sum();
        if rows != footer.rows {
            return Err(corrupt(footer.table.offset, "group table of another number of lines"));
        }
        let number = cache.number_block();
        Ok(LogBlock { file, footer, index, table, cache: Arc::clone(cache), number })
    }

    /// What is inside.
    pub fn summary(&self) -> BlockSummary {
        self.footer.summary()
    }

    /// Bytes of all lines.
    pub fn line_bytes(&self) -> u64 {
        self.footer.line_bytes
    }

    /// Labels and postings of the streams.
    pub fn index(&self) -> &BlockIndex {
        &self.index
    }

    /// Numbers of the streams that satisfy all matchers and have lines in a range, as far as runs tell: a run of a
    /// stream that begins before the range and ends behind it is taken to have some. Ascending.
    pub fn select(&self, matchers: &[Matcher], range: &NsRange) -> Vec<u32> {
        let mut streams = self.index.select(matchers);
        streams.retain(|stream| self.has_lines(*stream, range));
        streams
    }

    /// As [`LogBlock::select`], of the streams that satisfy all matchers already, those that have lines in some of the
    /// groups.
    pub(crate) fn within(&self, streams: Vec<u32>, range: &NsRange, groups: &GroupSet) -> Vec<u32> {
        let runs = groups.iter().flat_map(|group| &self.table.groups[group].runs);
        let runs = runs.filter(|run| range.meets(run.first_ns, run.last_ns));
        // Groups are in order of streams.
        let mut of_groups: Vec<u32> = runs.map(|run| run.stream).collect();
        of_groups.dedup();
        of_groups.retain(|stream| streams.binary_search(stream).is_ok());
        of_groups
    }

    /// Number of groups.
    pub fn groups(&self) -> usize {
        self.table.groups.len()
    }

    /// Names of structured metadata that its lines have, in no order; those beyond the first 65,536 are left
    /// out.
    pub fn metadata_names(&self) -> impl Iterator<Item = &str> {
        self.table.names.iter().map(String::as_str)
    }

    /// Bytes of a file's parts: lines and columns, counters, filters, and indexes.
    pub fn part_bytes(&self) -> [u64; 4] {
        let footer = &self.footer;
        let pages = footer.counters.offset - HEADER_BYTES as u64;
        let indexes = footer.labels.len + footer.table.len + footer.skip.len;
        [pages, footer.counters.len, footer.filters.len, indexes]
    }

    /// Bytes that each column takes in the file: that of times, of lengths, of lines, of metadata that has no
    /// column, and then those of metadata by name.
    pub fn column_bytes(&self) -> ([u64; 4], Vec<(&str, u64)>) {
        let mut first = [0; 4];
        let mut named: Vec<(&str, u64)> = self.metadata_names().map(|name| (name, 0)).collect();
        for page in self.table.groups.iter().flat_map(|group| &group.pages) {
            let bytes = u64::from(page.page.stored_len);
            match page.column.checked_sub(FIRST_NAME) {
                Some(name) => named[name as usize].1 += bytes,
                None => first[page.column as usize] += bytes,
            }
        }
        (first, named)
    }

    pub(crate) fn file(&self) -> &dyn ReadAt {
        &*self.file
    }

    pub(crate) fn group(&self, number: u32) -> &Group {
        &self.table.groups[number as usize]
    }

    pub(crate) fn table(&self) -> &GroupTable {
        &self.table
    }

    /// The runs of a stream, in order of time.
    pub(crate) fn runs_of(&self, stream: u32) -> impl Iterator<Item = &Run> {
        let groups = &self.table.groups;
        let ends_before = |group: &Group| group.runs.last().is_none_or(|run| run.stream < stream);
        let first = groups.partition_point(ends_before);
        groups[first..].iter().map_while(move |group| {
            let at = group.runs.binary_search_by_key(&stream, |run| run.stream).ok()?;
            Some(&group.runs[at])
        })
    }

    /// Whether a stream has lines in a range, as far as runs tell.
    pub(crate) fn has_lines(&self, stream: u32, range: &NsRange) -> bool {
        self.runs_of(stream).any(|run| range.meets(run.first_ns, run.last_ns))
    }

    /// The groups that may have a line with one of each of `needles` in it and all of `fields` in its metadata.
    pub(crate) fn search<'n>(
        &self,
        needles: &[AnyOf],
        fields: impl Iterator<Item = (&'n str, &'n str)>,
    ) -> Result<GroupSet, BlockError> {
        let skip = self.skip_index()?;
        let read = |offset: u64, out: &mut [u8]| {
            let at = self.footer.filters.offset.saturating_add(offset);
            if at.saturating_add(out.len() as u64) > self.footer.filters.end() {
                return Err(SearchFault::Block(corrupt(at, "filter beyond the filters")));
            }
            self.file.read_exact_at(at, out).map_err(|e| SearchFault::Block(e.into()))
        };
        let failed = |fault| match fault {
            SearchFault::Block(error) => error,
            SearchFault::Index(error) => {
                corrupt(self.footer.filters.offset, format!("skip index: {error}"))
            }
        };
        let mut may = GroupSet::all(self.groups());
        for needle in needles {
            let mut have_one = GroupSet::none(self.groups());
            for text in needle.texts() {
                let those = match text.is_whole {
                    true => skip.search_whole(text.bytes(), read),
                    false => skip.search(text.bytes(), read),
                };
                have_one.unite(&those.map_err(failed)?);
            }
            may.intersect(&have_one);
        }
        for (name, value) in fields {
            may.intersect(&skip.search_field(name, value, read).map_err(failed)?);
        }
        Ok(may)
    }

    fn skip_index(&self) -> Result<Arc<SkipIndex>, BlockError> {
        self.cache.get(self.number, || {
            let section = &self.footer.skip;
            let undecodable =
                |error: CodecError| corrupt(section.offset, format!("skip index: {error}"));
            let raw = unpack_section(&section.read(&*self.file, "skip index")?);
            let raw = raw.map_err(undecodable)?;
            let index = SkipIndex::decode(&raw).map_err(undecodable)?;
            if index.groups() != self.groups() || index.row_bytes() != self.footer.filters.len {
                return Err(corrupt(section.offset, "skip index of another block"));
            }
            Ok((index, raw.len()))
        })
    }

    /// The counters of a group.
    pub(crate) fn cells(&self, group: u32) -> Result<Cells, BlockError> {
        let info = self.group(group);
        let raw = info.counters.read(&*self.file, "counters")?;
        let levels = self.table.levels.len();
        Cells::decode(&raw, info.runs.len(), info.rows as usize, levels)
            .map_err(|error| info.counters.undecodable("counters", &error))
    }
}
