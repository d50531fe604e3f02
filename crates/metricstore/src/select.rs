//! Answers a selector: which series match, and their samples out of heads and blocks.
//!
//! The caller takes a snapshot in this order, so that no sample is missed (see
//! [`crate::shard`]):
//!
//! 1. [`Registry::select`](crate::Registry::select): the head's series that match;
//! 2. [`Shard::select`](crate::Shard::select) with their ordinals, on every shard;
//! 3. the list of blocks;
//! 4. [`Selected::new`].

use std::ops::Range;
use std::sync::Arc;

use blockstore::BlockError;
use labelindex::{BlockIndex, LabelIndex};
use model::{Labels, Matcher, TenantId, TimeRange};

use crate::block::{Handles, MetricBlock};
use crate::block_reader::BlockReader;
use crate::directory::Group;
use crate::error::MetricError;
use crate::gathered::Gathered;
use crate::histogram_columns::HistogramColumns;
use crate::registry::{HeadSeries, Registry, View};
use crate::rows::settle_from;
use crate::shard::HeadChunks;
use crate::statistics::ChunkStatistics;

/// An open block and its name for errors.
#[derive(Debug, Clone)]
pub struct BlockSource {
    /// Names the block in errors.
    pub id: Arc<str>,
    /// The block.
    pub block: Arc<MetricBlock>,
}

/// What a query took of the head before it listed blocks.
#[derive(Debug)]
pub struct HeadSnapshot {
    /// The tenant that asks.
    pub tenant: TenantId,
    /// The head's series that match.
    pub series: HeadSeries,
    /// What the shards have of them; shards without samples in the range may be left out.
    pub chunks: Vec<HeadChunks>,
}

/// Series that match, sorted by labels, each label set once, and access to their samples.
///
/// Any number of threads may read at once; a page of a block is decompressed once for all.
pub struct Selected {
    range: TimeRange,
    labels: Vec<Labels>,
    /// Where the parts of each series end.
    ends: Vec<u32>,
    /// In commit order within a series: blocks, then heads.
    parts: Vec<Part>,
    groups: Vec<Arc<Group>>,
    blocks: Vec<(Arc<str>, BlockReader)>,
    heads: Vec<HeadChunks>,
}

/// Something that may have samples of a series.
#[derive(Debug, Clone, Copy)]
enum Part {
    /// A chunk: index of the block, index in `groups`, index in the group's chunks.
    Chunk { block: u32, group: u32, chunk: u32 },
    /// The same, among the group's histograms.
    Histograms { block: u32, group: u32, chunk: u32 },
    /// A series of a head: index of the head, place in it.
    Head { head: u32, place: u32 },
}

/// Series as they are found, source by source in commit order.
struct Search<'a> {
    view: View<'a>,
    matchers: &'a [Matcher],
    parts: Vec<Part>,
    /// Series with a rank: rank, ordinal, parts.
    ranked: Vec<(u32, u32, Range<u32>)>,
    /// Series without: they are not in the registry, or too new.
    others: Vec<(Labels, Range<u32>)>,
}

impl Part {
    /// The place of its source in commit order.
    fn source(&self) -> u32 {
        match self {
            Part::Chunk { block, .. } | Part::Histograms { block, .. } => *block,
            Part::Head { .. } => u32::MAX,
        }
    }
}

impl Selected {
    /// Finds the series of heads and blocks that match all of `matchers` and may have samples in
    /// `range`. `blocks` are in commit order. `series` and `heads` are of one moment before
    /// `blocks` were listed. About 100 ns per series and source.
    ///
    /// # Errors
    /// `TooManySeries`; `Block` for the first block that cannot be read.
    pub fn new(
        registry: &Registry,
        head: HeadSnapshot,
        blocks: &[BlockSource],
        matchers: &[Matcher],
        range: TimeRange,
        max_series: usize,
    ) -> Result<Self, MetricError> {
        let mut selected = Selected {
            range,
            labels: Vec::new(),
            ends: Vec::new(),
            parts: Vec::new(),
            groups: Vec::new(),
            blocks: Vec::new(),
            heads: head.chunks,
        };
        let mut search = Search {
            view: registry.view(head.tenant),
            matchers,
            parts: Vec::new(),
            ranked: Vec::new(),
            others: Vec::new(),
        };
        for source in blocks.iter().filter(|source| source.block.range().overlaps(&range)) {
            selected
                .find_in_block(source, &mut search)
                .map_err(|error| MetricError::Block { block: Arc::clone(&source.id), error })?;
        }
        selected.find_in_heads(&head.series, &mut search);
        selected.unite(search, max_series)?;
        Ok(selected)
    }

    fn find_in_block(
        &mut self,
        source: &BlockSource,
        search: &mut Search<'_>,
    ) -> Result<(), BlockError> {
        let reader = BlockReader::new(Arc::clone(&source.block));
        let index = source.block.index();
        let handles = source.block.handles(search.view.version());
        let block = self.blocks.len() as u32;
        // Index in `self.groups` of the group that was used last: series come in order.
        let mut current: Option<(usize, u32)> = None;
        for series in index.select(search.matchers) {
            let start = search.parts.len() as u32;
            for number in source.block.groups_of(series) {
                let group = match current {
                    Some((known, group)) if known == number => group,
                    _ => {
                        self.groups.push(reader.group(number)?);
                        let group = self.groups.len() as u32 - 1;
                        current = Some((number, group));
                        group
                    }
                };
                let first = source.block.groups()[number].first_series;
                let directory = &*self.groups[group as usize];
                let place = (series - first) as usize;
                let chunks = overlapping(directory, place, self.range);
                search.parts.extend(chunks.map(|chunk| Part::Chunk { block, group, chunk }));
                if let Some(histograms) = directory.histograms.as_deref() {
                    let chunks = overlapping(histograms, place, self.range);
                    let part = |chunk| Part::Histograms { block, group, chunk };
                    search.parts.extend(chunks.map(part));
                }
            }
            let end = search.parts.len() as u32;
            if end > start {
                search.found_in_block(series, index, &handles, start..end);
            }
        }
        self.blocks.push((Arc::clone(&source.id), reader));
        Ok(())
    }

    fn find_in_heads(&self, series: &HeadSeries, search: &mut Search<'_>) {
        let Some(shards) = self.heads.first().map(HeadChunks::shards) else { return };
        let mut head_of_shard = vec![None; shards];
        for (head, chunks) in self.heads.iter().enumerate() {
            head_of_shard[chunks.shard()] = Some(head as u32);
        }
        // Every head has its series in the order of `series`, so one walk finds all places.
        let mut places = vec![0_u32; self.heads.len()];
        for &ordinal in &series.ordinals {
            let Some(head) = head_of_shard[ordinal as usize % shards] else { continue };
            let chunks = &self.heads[head as usize];
            let place = places[head as usize];
            if place as usize >= chunks.series() || chunks.ordinal(place as usize) != ordinal {
                continue;
            }
            places[head as usize] += 1;
            if chunks.may_have(place as usize) {
                search.found_in_head(ordinal, Part::Head { head, place });
            }
        }
    }

    /// Brings together what several sources have of one series.
    fn unite(&mut self, search: Search<'_>, max_series: usize) -> Result<(), MetricError> {
        let Search { view, parts, mut ranked, mut others, .. } = search;
        // Stable, so sources stay in commit order; each is a sorted run, so this is a merge.
        ranked.sort_by_key(|(rank, ..)| *rank);
        others.sort_by(|a, b| a.0.cmp(&b.0));
        let mut others = others.into_iter().peekable();
        for same in ranked.chunk_by(|a, b| a.0 == b.0) {
            // The view holds releases back, so a series with a rank has its labels.
            let Some(labels) = view.labels(same[0].1) else { continue };
            while let Some((labels, of_one)) = others.next_if(|(other, _)| *other < labels) {
                self.add(labels, &parts[as_index(&of_one)], max_series)?;
            }
            for (_, _, of_one) in same {
                self.add(labels.clone(), &parts[as_index(of_one)], max_series)?;
            }
            while let Some((labels, of_one)) = others.next_if(|(other, _)| *other == labels) {
                self.add(labels, &parts[as_index(&of_one)], max_series)?;
                let start = self.ends.len().checked_sub(2).map_or(0, |before| self.ends[before]);
                self.parts[start as usize..].sort_by_key(Part::source);
            }
        }
        for (labels, of_one) in others {
            self.add(labels, &parts[as_index(&of_one)], max_series)?;
        }
        Ok(())
    }

    /// Adds parts of a series that is the last one so far, or comes after it.
    fn add(
        &mut self,
        labels: Labels,
        parts: &[Part],
        max_series: usize,
    ) -> Result<(), MetricError> {
        if self.labels.last() != Some(&labels) {
            if self.labels.len() == max_series {
                return Err(MetricError::TooManySeries { limit: max_series });
            }
            self.labels.push(labels);
            self.ends.push(self.parts.len() as u32);
        }
        self.parts.extend_from_slice(parts);
        *self.ends.last_mut().expect("pushed with the labels") = self.parts.len() as u32;
        Ok(())
    }

    /// Number of series.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether no series matches.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// Labels of all series, ascending.
    pub fn labels(&self) -> &[Labels] {
        &self.labels
    }

    /// The range that was selected.
    pub fn range(&self) -> TimeRange {
        self.range
    }

    /// Whether series `index` may have histograms in the range.
    ///
    /// # Panics
    /// `index` is not below [`Selected::len`].
    pub fn has_histograms(&self, index: usize) -> bool {
        self.parts_of(index).iter().any(|part| match *part {
            Part::Chunk { .. } => false,
            Part::Histograms { .. } => true,
            Part::Head { head, place } => self.heads[head as usize].has_histograms(place as usize),
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
        let mut gathered = self.gather(index)?;
        timestamps_ms.append(&mut gathered.timestamps);
        values.append(&mut gathered.values);
        histograms.append(&mut gathered.histograms);
        Ok(())
    }

    /// Appends the floats of series `index` in the range, ascending in time, each timestamp once;
    /// of two commits with one timestamp the earlier. Possibly none. Staleness markers are samples
    /// like others. Only chunks that overlap the range are decoded, 5 to 10 ns per sample.
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
            let mut gathered = self.gather(index)?;
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

    /// Everything of a series that has histograms.
    fn gather(&self, index: usize) -> Result<Gathered, MetricError> {
        let mut gathered = Gathered::default();
        for part in self.parts_of(index) {
            match *part {
                Part::Head { head, place } => {
                    self.gather_head(&self.heads[head as usize], place as usize, &mut gathered)?;
                }
                Part::Histograms { block, group, chunk } => {
                    let (id, reader) = &self.blocks[block as usize];
                    let Some(group) = &self.groups[group as usize].histograms else { continue };
                    let chunk = &group.chunks[chunk as usize];
                    gathered
                        .add(|_, _, out| reader.read_histograms(group, chunk, self.range, out))
                        .map_err(|error| MetricError::Block { block: Arc::clone(id), error })?;
                }
                Part::Chunk { .. } => gathered
                    .add(|timestamps_ms, values, _| self.read_part(part, timestamps_ms, values))?,
            }
        }
        gathered.settle();
        Ok(gathered)
    }

    fn gather_head(
        &self,
        head: &HeadChunks,
        place: usize,
        gathered: &mut Gathered,
    ) -> Result<(), MetricError> {
        for generation in 0..head.generations() {
            gathered
                .add(|timestamps_ms, values, histograms| {
                    let floats = (timestamps_ms, values);
                    head.read_generation(place, generation, self.range, floats, histograms)
                })
                .map_err(|error| MetricError::Head { ordinal: head.ordinal(place), error })?;
        }
        Ok(())
    }

    /// Statistics of the chunks of series `index`, in order of time, if they say everything there
    /// is to know: no sample is outside the range, in a head, a histogram, or in two chunks that
    /// overlap.
    /// `None` if the series must be read instead. Decodes no sample.
    ///
    /// # Errors
    /// `Block` with the offset of the damage.
    ///
    /// # Panics
    /// `index` is not below [`Selected::len`].
    pub fn statistics(&self, index: usize) -> Result<Option<Vec<ChunkStatistics>>, MetricError> {
        let mut all = Vec::new();
        let mut end_ms = None;
        for part in self.parts_of(index) {
            let &Part::Chunk { block, group, chunk } = part else { return Ok(None) };
            let group = &self.groups[group as usize];
            let chunk = &group.chunks[chunk as usize];
            let column = group.column(chunk);
            let is_whole = self.range.contains(column.min_ms) && self.range.contains(column.max_ms);
            if !is_whole || end_ms.is_some_and(|end_ms| column.min_ms <= end_ms) {
                return Ok(None);
            }
            end_ms = Some(column.max_ms);
            let (id, reader) = &self.blocks[block as usize];
            let of_group = group.statistics().map_err(|error| MetricError::Block {
                block: Arc::clone(id),
                error: reader.block().column_error(chunk.page, chunk.offset, &error),
            })?;
            all.push(of_group[chunk.place as usize]);
        }
        Ok(Some(all))
    }

    fn parts_of(&self, index: usize) -> &[Part] {
        let start = index.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.parts[start as usize..self.ends[index] as usize]
    }

    fn read_part(
        &self,
        part: &Part,
        timestamps_ms: &mut Vec<i64>,
        values: &mut Vec<f64>,
    ) -> Result<(), MetricError> {
        match *part {
            Part::Chunk { block, group, chunk } => {
                let (id, reader) = &self.blocks[block as usize];
                let group = &self.groups[group as usize];
                let chunk = &group.chunks[chunk as usize];
                reader
                    .read(group, chunk, self.range, timestamps_ms, values)
                    .map_err(|error| MetricError::Block { block: Arc::clone(id), error })
            }
            Part::Histograms { .. } => Ok(()),
            Part::Head { head, place } => {
                let chunks = &self.heads[head as usize];
                let ordinal = chunks.ordinal(place as usize);
                chunks
                    .read(place as usize, self.range, timestamps_ms, values)
                    .map_err(|error| MetricError::Head { ordinal, error })
            }
        }
    }
}

impl Search<'_> {
    fn found_in_block(
        &mut self,
        series: u32,
        index: &BlockIndex,
        handles: &Handles,
        parts: Range<u32>,
    ) {
        let known = handles.get(series);
        if let Some((ordinal, rank)) = known.and_then(|o| Some((o, self.view.rank(o)?))) {
            self.ranked.push((rank, ordinal, parts));
            return;
        }
        let labels = index.labels(series);
        let ordinal = known.unwrap_or_else(|| self.view.ordinal(&labels));
        handles.set(series, ordinal);
        match self.view.rank(ordinal) {
            Some(rank) => self.ranked.push((rank, ordinal, parts)),
            None => self.others.push((labels, parts)),
        }
    }

    fn found_in_head(&mut self, ordinal: u32, part: Part) {
        let start = self.parts.len() as u32;
        let parts = start..start + 1;
        if let Some(rank) = self.view.rank(ordinal) {
            self.ranked.push((rank, ordinal, parts));
        } else if let Some(labels) = self.view.labels(ordinal) {
            self.others.push((labels, parts));
        }
        self.parts.push(part);
    }
}

/// The chunks of a series of the group that overlap `range`.
fn overlapping(group: &Group, series: usize, range: TimeRange) -> impl Iterator<Item = u32> + '_ {
    let is_inside = move |chunk: &usize| {
        let column = group.column(&group.chunks[*chunk]);
        column.min_ms < range.end_ms && range.start_ms <= column.max_ms
    };
    group.chunks_of(series).filter(is_inside).map(|chunk| chunk as u32)
}

fn as_index(range: &Range<u32>) -> Range<usize> {
    range.start as usize..range.end as usize
}
