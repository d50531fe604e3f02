//! Answers a selector: which series match, and their samples out of heads and blocks.
//!
//! The caller takes a snapshot in this order, so that no sample is missed (see
//! [`crate::shard`]):
//!
//! 1. the list of deletes;
//! 2. [`Registry::select`](crate::Registry::select): the head's series that match;
//! 3. [`Shard::select`](crate::Shard::select) with their ordinals, on every shard;
//! 4. the list of blocks;
//! 5. [`Selected::new`].

mod copy;
mod cost;
mod read;
mod rows;

pub use cost::SelectCost;

use std::ops::Range;
use std::sync::Arc;

use blockstore::BlockError;
use labelindex::{BlockIndex, LabelIndex};
use model::{Labels, Matcher, TenantId, TimeRange};

use crate::block::{Handles, MetricBlock};
use crate::block_reader::BlockReader;
use crate::deletes::{Deletes, Masks, is_whole, meets};
use crate::directory::Group;
use crate::error::MetricError;
use crate::registry::{HeadSeries, Registry, View};
use crate::shard::HeadChunks;

/// An open block and its name for errors.
#[derive(Debug, Clone)]
pub struct BlockSource {
    /// Names the block in errors.
    pub id: Arc<str>,
    /// The block.
    pub block: Arc<MetricBlock>,
    /// Deletes up to this number hide nothing in it.
    pub deletes_through: u64,
}

/// What a query took of the head before it listed blocks.
#[derive(Debug)]
pub struct HeadSnapshot {
    /// The tenant that asks.
    pub tenant: TenantId,
    /// The tenant's deletes, taken before all else.
    pub deletes: Deletes,
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
    /// Within a series blocks, then heads: blocks in order of time, or of commits where they overlap.
    parts: Vec<Part>,
    groups: Vec<Arc<Group>>,
    blocks: Vec<(Arc<str>, BlockReader)>,
    heads: Vec<HeadChunks>,
    /// Parts of which deletes hide something.
    masked: Vec<Masked>,
    /// Whether rollups were looked for where there are samples, too.
    with_rollups: bool,
}

/// A part of which deletes hide something.
#[derive(Debug)]
struct Masked {
    part: Part,
    /// What is left of the range that was selected, ascending; of a head for each of its generations.
    kept: Vec<Vec<TimeRange>>,
}

/// Something that may have samples of a series.
#[derive(Debug, Clone, Copy)]
enum Part {
    /// A chunk: index of the block, index in `groups`, index in the group's chunks.
    Chunk { block: u32, group: u32, chunk: u32 },
    /// The same, among the group's histograms.
    Histograms { block: u32, group: u32, chunk: u32 },
    /// The same, among the group's rollups.
    Rollups { block: u32, group: u32, chunk: u32 },
    /// A series of a head: index of the head, place in it.
    Head { head: u32, place: u32 },
    /// One of which deletes hide something: its place in commit order, index in `masked`.
    Masked { source: u32, index: u32 },
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
            Part::Chunk { block, .. }
            | Part::Histograms { block, .. }
            | Part::Rollups { block, .. } => *block,
            Part::Head { .. } => u32::MAX,
            Part::Masked { source, .. } => *source,
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
        Self::find(registry, head, blocks, matchers, range, max_series, false)
    }

    /// As [`Selected::new`], for [`Selected::read_rows`].
    ///
    /// # Errors
    /// As [`Selected::new`].
    pub fn with_rollups(
        registry: &Registry,
        head: HeadSnapshot,
        blocks: &[BlockSource],
        matchers: &[Matcher],
        range: TimeRange,
        max_series: usize,
    ) -> Result<Self, MetricError> {
        Self::find(registry, head, blocks, matchers, range, max_series, true)
    }

    fn find(
        registry: &Registry,
        head: HeadSnapshot,
        blocks: &[BlockSource],
        matchers: &[Matcher],
        range: TimeRange,
        max_series: usize,
        with_rollups: bool,
    ) -> Result<Self, MetricError> {
        let mut selected = Selected {
            range,
            labels: Vec::new(),
            ends: Vec::new(),
            parts: Vec::new(),
            groups: Vec::new(),
            blocks: Vec::new(),
            heads: head.chunks,
            masked: Vec::new(),
            with_rollups,
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
                .find_in_block(source, &head.deletes, &mut search)
                .map_err(|error| MetricError::Block { block: Arc::clone(&source.id), error })?;
        }
        selected.find_in_heads(&head.series, &head.deletes, &mut search);
        selected.unite(search, max_series)?;
        selected.put_in_time();
        Ok(selected)
    }

    fn find_in_block(
        &mut self,
        source: &BlockSource,
        deletes: &Deletes,
        search: &mut Search<'_>,
    ) -> Result<(), BlockError> {
        let reader = BlockReader::new(Arc::clone(&source.block));
        let index = source.block.index();
        let handles = source.block.handles(search.view.version());
        let block = self.blocks.len() as u32;
        let deletes = deletes.after(source.deletes_through, source.block.range());
        let masks = Masks::find(deletes, search.matchers, |matchers| index.select(matchers));
        // Rollups beside all samples can be told from those.
        let block_of = &source.block;
        let are_rollups_wanted =
            block_of.is_thinned() || (self.with_rollups && block_of.has_only_rollups());
        let masked = match are_rollups_wanted {
            true => self.with_windows_before(block_of.rollup_ms()),
            false => self.range,
        };
        // Index in `self.groups` of the group that was used last: series come in order.
        let mut current: Option<(usize, u32)> = None;
        for series in index.select(search.matchers) {
            let start = search.parts.len() as u32;
            let kept = masks.kept(series, 0, masked);
            if kept.as_ref().is_some_and(Vec::is_empty) {
                continue;
            }
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
                let place = (series - first) as usize;
                if let Some(kept) = &kept {
                    let directory = Arc::clone(&self.groups[group as usize]);
                    let rollups = directory.rollups.as_deref().filter(|_| are_rollups_wanted);
                    let kinds = [Some(&*directory), directory.histograms.as_deref(), rollups];
                    let kept = (masked, kept.as_slice());
                    self.find_kept((block, group), kinds, place, kept, &mut search.parts);
                    continue;
                }
                let directory = &*self.groups[group as usize];
                if let Some(rollups) = self.rollups_of(directory, source) {
                    let chunks = overlapping(rollups, place, self.range);
                    let part = |chunk| Part::Rollups { block, group, chunk };
                    search.parts.extend(chunks.map(part));
                }
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

    /// What is asked for, and all of the windows in which it begins: a delete that ends before takes along the
    /// window of which it hides a part.
    fn with_windows_before(&self, window_ms: i64) -> TimeRange {
        TimeRange::new(self.range.start_ms.saturating_sub(window_ms), self.range.end_ms)
    }

    /// The chunks of a series of which deletes hide something. `kept` is what they leave of a range: of
    /// samples, that counts within what is asked for.
    #[cold]
    fn find_kept(
        &mut self,
        (block, group): (u32, u32),
        kinds: [Option<&Group>; 3],
        place: usize,
        (range, kept): (TimeRange, &[TimeRange]),
        parts: &mut Vec<Part>,
    ) {
        let within = kept.iter().map(|kept| kept.intersection(&self.range));
        let of_samples: Vec<TimeRange> = within.filter(|kept| !kept.is_empty()).collect();
        for (kind, chunks) in kinds.into_iter().enumerate() {
            let Some(chunks) = chunks else { continue };
            let (range, kept) = match kind {
                0 | 1 => (self.range, of_samples.as_slice()),
                _ => (range, kept),
            };
            for chunk in overlapping(chunks, place, self.range) {
                let span = chunks.span(&chunks.chunks[chunk as usize]);
                let part = match kind {
                    0 => Part::Chunk { block, group, chunk },
                    1 => Part::Histograms { block, group, chunk },
                    _ => Part::Rollups { block, group, chunk },
                };
                if is_whole(kept, range, span) {
                    parts.push(part);
                } else if meets(kept, span) {
                    parts.push(Part::Masked { source: block, index: self.masked.len() as u32 });
                    self.masked.push(Masked { part, kept: vec![kept.to_vec()] });
                }
            }
        }
    }

    /// The rollups of a group, if they are looked for.
    fn rollups_of<'g>(&self, directory: &'g Group, source: &BlockSource) -> Option<&'g Group> {
        let is_wanted = self.with_rollups || source.block.is_thinned();
        directory.rollups.as_deref().filter(|_| is_wanted)
    }

    fn find_in_heads(&mut self, series: &HeadSeries, deletes: &Deletes, search: &mut Search<'_>) {
        let masks = self.masks_of_heads(deletes, search);
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
            let part = Part::Head { head, place };
            if let Some(kept) = kept_of_head(&masks, chunks, place as usize, self.range) {
                let generations = kept.iter().enumerate();
                let mut ranges =
                    generations.flat_map(|(g, kept)| kept.iter().map(move |k| (g, *k)));
                if ranges.any(|(g, kept)| chunks.may_have_in(place as usize, g, kept)) {
                    let index = self.masked.len() as u32;
                    search.found_in_head(ordinal, Part::Masked { source: part.source(), index });
                    self.masked.push(Masked { part, kept });
                }
            } else if chunks.may_have(place as usize) {
                search.found_in_head(ordinal, part);
            }
        }
    }

    /// Which series of the heads deletes concern.
    fn masks_of_heads(&self, deletes: &Deletes, search: &Search<'_>) -> Masks {
        let Some(oldest) = self.heads.iter().map(oldest_delete).min() else {
            return Masks::default();
        };
        let deletes = deletes.after(oldest, self.range);
        Masks::find(deletes, search.matchers, |matchers| search.view.select(matchers))
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

    /// Puts the blocks of each series in order of time where they do not overlap, so that what is read
    /// needs no sorting: days that were imported, or merged in another order, are not in commit order.
    /// Where they overlap commit order stays, as the first commit wins.
    fn put_in_time(&mut self) {
        let mut blocks: Vec<((i64, i64), Range<usize>)> = Vec::new();
        let mut ordered: Vec<Part> = Vec::new();
        let mut end = 0;
        for index in 0..self.ends.len() {
            let start = std::mem::replace(&mut end, self.ends[index] as usize);
            let parts = &self.parts[start..end];
            // Fast path: one chunk, or nothing but a head.
            if parts.len() < 2 {
                continue;
            }
            blocks.clear();
            let mut at = start;
            for of_block in parts.chunk_by(|a, b| a.source() == b.source()) {
                if of_block[0].source() != u32::MAX {
                    blocks.push((self.span_of_parts(of_block), at..at + of_block.len()));
                }
                at += of_block.len();
            }
            let is_disjoint = |blocks: &[((i64, i64), Range<usize>)]| {
                blocks.windows(2).all(|pair| pair[0].0.1 < pair[1].0.0)
            };
            if is_disjoint(&blocks) {
                continue;
            }
            blocks.sort_by_key(|(span, _)| *span);
            if is_disjoint(&blocks) {
                ordered.clear();
                for (_, parts) in &blocks {
                    ordered.extend_from_slice(&self.parts[parts.clone()]);
                }
                self.parts[start..start + ordered.len()].copy_from_slice(&ordered);
            }
        }
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

    /// Bytes of memory held for labels and places; what heads and blocks share is not counted.
    pub fn bytes(&self) -> usize {
        let labels: usize = self.labels.iter().map(|labels| labels.as_packed().len() + 16).sum();
        let masked = |one: &Masked| one.kept.iter().map(Vec::capacity).sum::<usize>();
        labels
            + self.labels.capacity() * size_of::<Labels>()
            + self.ends.capacity() * size_of::<u32>()
            + self.parts.capacity() * size_of::<Part>()
            + self.masked.capacity() * size_of::<Masked>()
            + self.masked.iter().map(masked).sum::<usize>() * size_of::<TimeRange>()
    }

    /// Bytes of what was decompressed so far, which grows as series are read.
    pub fn decompressed_bytes(&self) -> usize {
        self.blocks.iter().map(|(_, reader)| reader.decompressed_bytes()).sum()
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

/// The last delete that is older than everything a head has.
fn oldest_delete(head: &HeadChunks) -> u64 {
    let generations = 0..head.generations();
    generations.map(|generation| head.deletes_through(generation)).min().unwrap_or(u64::MAX)
}

/// What deletes leave of `range` in each generation of a series of a head; `None` if all of it.
fn kept_of_head(
    masks: &Masks,
    head: &HeadChunks,
    place: usize,
    range: TimeRange,
) -> Option<Vec<Vec<TimeRange>>> {
    if masks.is_empty() {
        return None;
    }
    let ordinal = head.ordinal(place);
    let kept_in = |generation| masks.kept(ordinal, head.deletes_through(generation), range);
    let kept: Vec<_> = (0..head.generations()).map(kept_in).collect();
    let is_touched = kept.iter().any(Option::is_some);
    is_touched.then(|| kept.into_iter().map(|kept| kept.unwrap_or_else(|| vec![range])).collect())
}

/// Of the series of a snapshot, those of which deletes leave nothing in the head.
pub(crate) fn hidden_in_head(head: &HeadSnapshot, registry: &Registry) -> Vec<u32> {
    let select = |matchers: &[Matcher]| registry.select(head.tenant, matchers).ordinals;
    let masks = Masks::find(head.deletes.iter(), &[], select);
    let mut shown = std::collections::BTreeSet::new();
    for chunks in &head.chunks {
        for place in 0..chunks.series() {
            let whole = || vec![vec![TimeRange::all()]; chunks.generations()];
            let kept = kept_of_head(&masks, chunks, place, TimeRange::all()).unwrap_or_else(whole);
            let mut generations = kept.iter().enumerate();
            if generations.any(|(g, k)| k.iter().any(|&k| chunks.may_have_in(place, g, k))) {
                shown.insert(chunks.ordinal(place));
            }
        }
    }
    head.series.ordinals.iter().copied().filter(|ordinal| !shown.contains(ordinal)).collect()
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
