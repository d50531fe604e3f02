//! Sources into a block: several blocks into one, or a head into its first.

use std::sync::Arc;

use blockstore::{
    BlobWriter, BlockError, BlockFormat, BlockSummary, MergeError, MergeInput, MergePart, ReadAt,
};
use model::{Labels, TimeRange};

use crate::block::LogBlock;
use crate::block_writer::BlockWriter;
use crate::deletes::LogDelete;
use crate::entries::Streams;
use crate::head::LogHead;
use crate::index_cache::IndexCache;
use crate::query::{Query, Source};
use crate::time::NsRange;

/// A flush stands between lines and the memory they hold, so it has to be fast.
const FLUSH_ZSTD_LEVEL: i32 = 1;
/// A merge happens once and its result is read for days.
const MERGE_ZSTD_LEVEL: i32 = 6;

/// The format of blocks of logs, `docs/formats/logs.md`.
#[derive(Debug, Clone)]
pub struct LogFormat {
    seed: u64,
    cache: Arc<IndexCache>,
}

impl LogFormat {
    /// `seed` keys hashes of labels while blocks are written; it comes from the system's randomness and does not
    /// change what a block says. Blocks keep their skip indexes in `cache`.
    pub fn new(seed: u64, cache: Arc<IndexCache>) -> Self {
        LogFormat { seed, cache }
    }

    /// Writes what is in a head, in the order of the catalog's commits: what deletes hide of it is not left out,
    /// and is hidden on by those that are younger than the block.
    ///
    /// # Errors
    /// Faults of the store.
    pub fn flush(
        &self,
        head: &LogHead,
        out: &mut dyn BlobWriter,
    ) -> Result<BlockSummary, BlockError> {
        let source = Source::head(head.snapshot(&[], NsRange::all()));
        let part = MergePart::default();
        self.flush_part(vec![source], NsRange::all(), &part, out).map(|(summary, _)| summary)
    }

    /// As [`LogFormat::flush`], of several heads, which are in order of commits, the lines in a range that their
    /// deletes do not hide, and of them one part: yields its last stream if there are more. The summary has no
    /// rows if there are none.
    ///
    /// # Errors
    /// Faults of the store.
    pub fn flush_part(
        &self,
        sources: Vec<Source>,
        keep: NsRange,
        part: &MergePart,
        out: &mut dyn BlobWriter,
    ) -> Result<(BlockSummary, Option<Labels>), BlockError> {
        let written = write(sources, keep, part, FLUSH_ZSTD_LEVEL, self.seed, out);
        written.map_err(|fault| fault.error)
    }
}

impl BlockFormat for LogFormat {
    type Block = LogBlock;
    type Delete = LogDelete;

    fn open(&self, file: Arc<dyn ReadAt>) -> Result<LogBlock, BlockError> {
        LogBlock::open(file, &self.cache)
    }

    fn conflicts(_block: &LogBlock) -> u64 {
        // Two lines of one time are two lines.
        0
    }

    fn merge_part(
        &self,
        inputs: &[MergeInput<LogBlock, LogDelete>],
        keep: TimeRange,
        _level: u8,
        part: &MergePart,
        out: &mut dyn BlobWriter,
    ) -> Result<(BlockSummary, Option<Labels>), MergeError> {
        let source = |input: &MergeInput<LogBlock, LogDelete>| Source::Block {
            block: Arc::clone(&input.block),
            deletes: input.deletes.clone(),
        };
        let sources = inputs.iter().map(source).collect();
        write(sources, keep.into(), part, MERGE_ZSTD_LEVEL, self.seed, out)
    }
}

/// Writes the lines of `sources`, which are in order of commits, that lie in `keep` and in a part of the
/// streams. Yields the last stream if there are more.
fn write(
    sources: Vec<Source>,
    keep: NsRange,
    part: &MergePart,
    zstd_level: i32,
    seed: u64,
    out: &mut dyn BlobWriter,
) -> Result<(BlockSummary, Option<Labels>), MergeError> {
    let of_output = |error| MergeError { input: None, error };
    let of_input = |fault: crate::query::ReadError| MergeError {
        input: Some(fault.source_index),
        error: fault.error,
    };
    let mut writer = BlockWriter::new(out, zstd_level, seed).map_err(of_output)?;
    if zstd_level == MERGE_ZSTD_LEVEL {
        writer = writer.with_templates();
    }
    let mut streams = Streams::new(Query::new(Vec::new(), keep), sources).map_err(of_input)?;
    if let Some(behind) = &part.behind {
        streams.skip_through(behind);
    }
    let mut last = None;
    while let Some(labels) = streams.next_stream().map_err(of_input)? {
        let labels = labels.clone();
        writer.stream(&labels);
        while let Some(entry) = streams.next_entry().map_err(of_input)? {
            let (t_ns, metadata) = (entry.timestamp_ns, entry.metadata.iter());
            writer.push_settled(t_ns, entry.line, metadata).map_err(of_output)?;
        }
        if writer.position() >= part.most_bytes && streams.has_more() {
            last = Some(labels);
            break;
        }
    }
    Ok((writer.finish().map_err(of_output)?, last))
}

impl LogBlock {
    /// Whether some of `deletes` may hide a line here, as far as labels and times tell.
    pub fn may_be_touched_by(&self, deletes: &[Arc<LogDelete>]) -> bool {
        let touches = |delete: &LogDelete| {
            let selects = |matchers: &Vec<_>| !self.select(matchers, &delete.range).is_empty();
            delete.selectors.iter().any(selects)
        };
        deletes.iter().any(|delete| touches(delete))
    }
}
