//! Several blocks into one: series by series in order of labels, chunk by chunk in order of time.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

use blockstore::BlobWriter;
use blockstore::{BlockError, BlockSummary, MergeError, MergeInput, MergePart};
use labelindex::LabelIndex;
use model::{Labels, TimeRange, is_stale_nan};

use crate::block::{MetricBlock, MetricFormat, ROLLED_LEVEL, THINNED_LEVEL};
use crate::block_reader::BlockReader;
use crate::block_writer::{BlockWriter, Rollups};
use crate::deletes::{Delete, Masks, meets};
use crate::directory::Group;
use crate::gathered::Gathered;
use crate::rollup::{is_whole_in, keep_and_join, lacks_floats};

/// A merge happens once and its result is read for days, so it may spend more than a flush.
const ZSTD_LEVEL: i32 = 6;
/// The last merge of all, whose result is read for weeks. Level 19 saves 3% more and takes 12 times as
/// long, during which nothing is flushed.
const COLD_ZSTD_LEVEL: i32 = 9;

/// Where a merge is in one input.
struct Cursor {
    reader: BlockReader,
    series: u32,
    /// The groups that were read and may still be needed.
    groups: std::ops::Range<usize>,
    masks: Masks,
    /// To what its series are downsampled, see [`DownsamplingRules::intervals`].
    ///
    /// [`DownsamplingRules::intervals`]: crate::downsampling::DownsamplingRules::intervals
    intervals: Vec<i64>,
}

/// What a chunk holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Floats,
    Histograms,
    Rollups,
}

/// A chunk of the series being merged.
struct Piece {
    input: usize,
    group: Arc<Group>,
    kind: Kind,
    /// Index in the group's chunks of that kind.
    chunk: usize,
    min_ms: i64,
    max_ms: i64,
    /// What deletes leave of what is kept, if they take something.
    kept: Option<Arc<[TimeRange]>>,
}

pub(crate) fn merge(
    format: &MetricFormat,
    inputs: &[MergeInput<MetricBlock, Delete>],
    keep: TimeRange,
    level: u8,
    part: &MergePart,
    out: &mut dyn BlobWriter,
) -> Result<(BlockSummary, Option<Labels>), MergeError> {
    let of_output = |error: BlockError| MergeError { input: None, error };
    let is_cold = level >= ROLLED_LEVEL;
    let zstd_level = if is_cold { COLD_ZSTD_LEVEL } else { ZSTD_LEVEL };
    let writer = BlockWriter::new(out, zstd_level, format.seed()).map_err(of_output)?;
    let writer = if is_cold { writer.for_cold_data() } else { writer };
    let mut writer = writer.with_rollups(rollups(format, inputs, level));
    let rules = format.downsampling();
    let mut cursors: Vec<Cursor> = inputs
        .iter()
        .map(|MergeInput { block, deletes }| Cursor {
            reader: BlockReader::for_merge(Arc::clone(block)),
            series: part.behind.as_ref().map_or(0, |last| first_behind(block, last)),
            groups: 0..0,
            masks: Masks::find(deletes.iter(), &[], |matchers| block.index().select(matchers)),
            intervals: rules
                .intervals(block.index().series_count(), |matchers| block.index().select(matchers)),
        })
        .collect();
    let mut next: BinaryHeap<Reverse<(Labels, usize)>> = BinaryHeap::new();
    for (input, cursor) in cursors.iter().enumerate() {
        next.extend(cursor.labels().map(|labels| Reverse((labels, input))));
    }
    let mut pieces = Vec::new();
    let mut gathered = Gathered::default();
    let mut last = None;
    while let Some(Reverse((labels, input))) = next.pop() {
        let mut sources = vec![input];
        while next.peek().is_some_and(|Reverse((other, _))| *other == labels) {
            sources.extend(next.pop().map(|Reverse((_, input))| input));
        }
        pieces.clear();
        for &input in &sources {
            cursors[input]
                .collect(input, keep, &mut pieces)
                .map_err(|error| MergeError { input: Some(input), error })?;
        }
        let before = labels.clone();
        writer.series(labels).map_err(of_output)?;
        writer.downsample_to(cursors[input].interval_ms());
        write_series(&cursors, keep, &mut pieces, &mut gathered, &mut writer)?;
        for input in sources {
            let following = cursors[input].advance_past(&before);
            let following = following.map_err(|error| MergeError { input: Some(input), error })?;
            next.extend(following.map(|labels| Reverse((labels, input))));
        }
        if writer.position() >= part.most_bytes && !next.is_empty() {
            last = Some(before);
            break;
        }
    }
    // Those of the inputs are borne on by the first part.
    if part.behind.is_none() {
        inputs.iter().for_each(|input| writer.add_conflicts(input.block.summary().conflicts));
    }
    Ok((writer.finish().map_err(of_output)?, last))
}

/// The first series of a block that is behind another.
fn first_behind(block: &MetricBlock, last: &Labels) -> u32 {
    let index = block.index();
    let (mut low, mut high) = (0, index.series_count() as u32);
    while low < high {
        let middle = low + (high - low) / 2;
        match index.labels(middle) <= *last {
            true => low = middle + 1,
            false => high = middle,
        }
    }
    low
}

/// What the outcome has of rollups. What has no floats any more stays so, whatever is wanted now.
fn rollups(
    format: &MetricFormat,
    inputs: &[MergeInput<MetricBlock, Delete>],
    level: u8,
) -> Rollups {
    let is_thinned = inputs.iter().any(|input| input.block.is_thinned());
    let passed_on = inputs.iter().filter(|input| input.block.has_only_rollups());
    let resolutions = passed_on.map(|input| input.block.rollup_ms());
    // Windows of one length are rows of windows of any multiple of it.
    let common = resolutions.chain(format.rollup_ms(level)).reduce(least_common_multiple);
    match common.filter(|resolution_ms| u32::try_from(*resolution_ms).is_ok()) {
        Some(resolution_ms) if is_thinned || level >= THINNED_LEVEL => {
            Rollups::Instead { resolution_ms }
        }
        Some(resolution_ms) if level >= ROLLED_LEVEL => Rollups::Beside { resolution_ms },
        _ => Rollups::None,
    }
}

fn least_common_multiple(a: i64, b: i64) -> i64 {
    let (mut x, mut y) = (a, b);
    while y != 0 {
        (x, y) = (y, x % y);
    }
    (a / x.max(1)).saturating_mul(b)
}

impl Cursor {
    fn labels(&self) -> Option<Labels> {
        let index = self.reader.block().index();
        ((self.series as usize) < index.series_count()).then(|| index.labels(self.series))
    }

    fn interval_ms(&self) -> i64 {
        self.intervals.get(self.series as usize).copied().unwrap_or(0)
    }

    /// Goes on to the next series. An index whose checksums fit may still be out of order, if
    /// whatever wrote it was wrong.
    fn advance_past(&mut self, before: &Labels) -> Result<Option<Labels>, BlockError> {
        self.series += 1;
        let labels = self.labels();
        if labels.as_ref().is_some_and(|labels| labels <= before) {
            let detail = format!("series {} is not behind the one before it", self.series);
            return Err(BlockError::Corrupt { offset: 0, detail });
        }
        Ok(labels)
    }

    /// Says when the floats of a piece began, which were gathered last.
    fn note_starts(&self, piece: &Piece, gathered: &mut Gathered) -> Result<(), BlockError> {
        let place = piece.group.series_of(piece.chunk as u32);
        if let Some(starts) = self.reader.starts(&piece.group, place)? {
            gathered.note_starts(&starts);
        }
        Ok(())
    }

    /// Whether the rollups of a series count floats that are not there; otherwise they are made anew of
    /// those, which may be more than they count.
    fn lacks_floats(&self, group: &Group, place: u32) -> Result<bool, BlockError> {
        let block = self.reader.block();
        let Some(rollups) = group.rollups.as_deref().filter(|_| block.has_only_rollups()) else {
            return Ok(false);
        };
        if block.is_thinned() {
            return Ok(true);
        }
        let whole = TimeRange::all();
        let mut rows = Vec::new();
        for chunk in rollups.chunks_of(place as usize) {
            self.reader.read_rollups(rollups, &rollups.chunks[chunk], whole, &mut rows)?;
        }
        let (mut times_ms, mut values) = (Vec::new(), Vec::new());
        for chunk in group.chunks_of(place as usize) {
            self.reader.read(group, &group.chunks[chunk], whole, &mut times_ms, &mut values)?;
        }
        Ok(lacks_floats(&rows, &values))
    }

    /// Appends the chunks of the current series that overlap `keep`, but for those that are deleted.
    fn collect(
        &mut self,
        input: usize,
        keep: TimeRange,
        pieces: &mut Vec<Piece>,
    ) -> Result<(), BlockError> {
        let groups = self.reader.block().groups_of(self.series);
        for passed in self.groups.start..groups.start {
            self.reader.forget_group(passed);
        }
        self.groups = groups.clone();
        let kept: Option<Arc<[TimeRange]>> = self.masks.kept(self.series, 0, keep).map(Arc::from);
        let whole = [keep];
        let shown = kept.as_deref().unwrap_or(&whole);
        for number in groups {
            let group = self.reader.group(number)?;
            let first = self.reader.block().groups()[number].first_series;
            let rollups = group.rollups.as_deref();
            let is_passed_on = self.lacks_floats(&group, self.series - first)?;
            let rollups = rollups.filter(|_| is_passed_on);
            let kinds = [
                (Kind::Floats, Some(&*group)),
                (Kind::Histograms, group.histograms.as_deref()),
                (Kind::Rollups, rollups),
            ];
            for (kind, chunks) in kinds {
                let Some(chunks) = chunks else { continue };
                for chunk in chunks.chunks_of((self.series - first) as usize) {
                    let (min_ms, max_ms) = chunks.span(&chunks.chunks[chunk]);
                    if meets(shown, (min_ms, max_ms)) {
                        let (group, kept) = (Arc::clone(&group), kept.clone());
                        pieces.push(Piece { input, group, kind, chunk, min_ms, max_ms, kept });
                    }
                }
            }
        }
        Ok(())
    }
}

/// Writes the samples of one series. Only chunks that overlap in time are in memory together.
fn write_series(
    cursors: &[Cursor],
    keep: TimeRange,
    pieces: &mut [Piece],
    gathered: &mut Gathered,
    writer: &mut BlockWriter<'_>,
) -> Result<(), MergeError> {
    // Stable: pieces of one start stay in commit order.
    pieces.sort_by_key(|piece| (piece.kind == Kind::Rollups, piece.min_ms));
    let samples = pieces.partition_point(|piece| piece.kind != Kind::Rollups);
    let (mut rest, rollups) = pieces.split_at_mut(samples);
    // Of two rows that say as much of one time the one that is there already stays.
    rollups.sort_by_key(|piece| piece.input);
    let told_by: Vec<usize> = rollups.iter().map(|piece| piece.input).collect();
    for piece in rollups {
        write_rollups(&cursors[piece.input].reader, piece, keep, writer)
            .map_err(|error| MergeError { input: Some(piece.input), error })?;
    }
    while !rest.is_empty() {
        let mut end_ms = rest[0].max_ms;
        let mut len = 1;
        while len < rest.len() && rest[len].min_ms <= end_ms {
            end_ms = end_ms.max(rest[len].max_ms);
            len += 1;
        }
        let (cluster, later) = rest.split_at_mut(len);
        rest = later;
        // Commit order decides between equal timestamps.
        cluster.sort_by_key(|piece| piece.input);
        gathered.clear();
        // Floats that rows count which are there already.
        let mut told = 0;
        for piece in &*cluster {
            let before = gathered.values.len();
            gathered
                .add(|timestamps, values, histograms| {
                    let reader = &cursors[piece.input].reader;
                    let whole = [keep];
                    let kept = piece.kept.as_deref().unwrap_or(&whole);
                    kept.iter().try_for_each(|&keep| match &piece.group.histograms {
                        Some(of_kind) if piece.kind == Kind::Histograms => {
                            let chunk = &of_kind.chunks[piece.chunk];
                            reader.read_histograms(of_kind, chunk, keep, histograms)
                        }
                        _ => {
                            let chunk = &piece.group.chunks[piece.chunk];
                            reader.read(&piece.group, chunk, keep, timestamps, values)
                        }
                    })
                })
                .and_then(|()| match piece.kind {
                    Kind::Floats => cursors[piece.input].note_starts(piece, gathered),
                    _ => Ok(()),
                })
                .map_err(|error| MergeError { input: Some(piece.input), error })?;
            let is_told = |input: &usize| *input == piece.input;
            if piece.kind == Kind::Floats && told_by.iter().any(is_told) {
                let new = gathered.values.get(before..).unwrap_or_default();
                told += new.iter().filter(|value| !is_stale_nan(**value)).count() as u64;
            }
        }
        writer.add_conflicts(gathered.settle());
        let of_output = |error| MergeError { input: None, error };
        writer.expect_told(told);
        writer.push(&gathered.timestamps, &gathered.values, &gathered.starts).map_err(of_output)?;
        writer.push_histograms(&mut gathered.histograms).map_err(of_output)?;
    }
    Ok(())
}

/// Passes on the rows of which everything is kept: what is left of the others nobody can tell.
fn write_rollups(
    reader: &BlockReader,
    piece: &Piece,
    keep: TimeRange,
    writer: &mut BlockWriter<'_>,
) -> Result<(), BlockError> {
    let Some(group) = &piece.group.rollups else { return Ok(()) };
    let mut rows = Vec::new();
    reader.read_rollups(group, &group.chunks[piece.chunk], keep, &mut rows)?;
    let whole = [keep];
    let kept = piece.kept.as_deref().unwrap_or(&whole);
    match writer.rollup_ms() {
        Some(resolution_ms) if resolution_ms > reader.block().rollup_ms() => {
            rows = keep_and_join(&rows, kept, resolution_ms);
        }
        _ => rows.retain(|row| is_whole_in(row, kept)),
    }
    writer.push_rollups(&rows);
    if !reader.block().is_thinned() {
        // Floats are there, too, and tell; but not all that these rows count.
        writer.note_downsampled();
        return Ok(());
    }
    let place = group.series_of(piece.chunk as u32);
    let starts = reader.starts(&piece.group, place)?;
    // Also where nothing is known: what another input says ends there.
    for row in &rows {
        let start_ms = starts.as_ref().map_or(0, |starts| starts.at(row.last_ms));
        writer.note_start(row.last_ms, start_ms);
    }
    Ok(())
}
