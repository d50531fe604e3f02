//! What a signal's store tells the block life: how to open a block and how to merge some.

use std::sync::Arc;

use model::{Labels, TimeRange};

use crate::blobs::{BlobError, BlobWriter, ReadAt};

/// Why a block could not be opened, read or written.
#[derive(Debug, thiserror::Error)]
pub enum BlockError {
    /// Bytes are not what was written. The block is quarantined.
    #[error("block is corrupt at offset {offset}: {detail}")]
    Corrupt {
        /// Where the damage was noticed.
        offset: u64,
        /// What was expected.
        detail: String,
    },
    /// The block was written by a newer program.
    #[error("block has format version {found}, this program reads up to {supported}: upgrade it")]
    Version {
        /// What the block says.
        found: u8,
        /// The highest this program reads.
        supported: u8,
    },
    /// The store failed.
    #[error(transparent)]
    Blob(#[from] BlobError),
}

/// What is inside a finished block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockSummary {
    /// Range of the rows; empty if there are none.
    pub range: TimeRange,
    /// Series, streams or the like.
    pub series: u64,
    /// Samples, lines or the like.
    pub rows: u64,
    /// Rows left out because an earlier commit has another value for the same series and time.
    pub conflicts: u64,
}

/// A block to be merged.
#[derive(Debug)]
pub struct MergeInput<B, D> {
    /// The block.
    pub block: Arc<B>,
    /// The deletes that may hide rows of it.
    pub deletes: Vec<Arc<D>>,
}

/// One signal's kind of block.
pub trait BlockFormat: Send + Sync + 'static {
    /// An open block.
    type Block: Send + Sync + 'static;

    /// A delete that a merge can apply.
    type Delete: Send + Sync + 'static;

    /// Reads and checks footer and indexes, so that later reads only decode pages.
    ///
    /// # Errors
    /// `Corrupt`, `Version`, faults of the store.
    fn open(&self, file: Arc<dyn ReadAt>) -> Result<Self::Block, BlockError>;

    /// Samples that were left out of a block when it was written, all inputs of merges included.
    fn conflicts(block: &Self::Block) -> u64;

    /// Writes one block with the rows of all `inputs` that lie in `keep` and that their deletes do
    /// not hide. Inputs are in commit order: of two rows with the same series and time the earlier input's wins. Memory is
    /// bounded by pages, not by blocks. `level` is that of the outcome, see [`crate::plan_merge`]: a
    /// format may write more, or less, at a higher one.
    ///
    /// # Errors
    /// As `open`; a corrupt input is named by its offset and index in `inputs`.
    fn merge(
        &self,
        inputs: &[MergeInput<Self::Block, Self::Delete>],
        keep: TimeRange,
        level: u8,
        out: &mut dyn BlobWriter,
    ) -> Result<BlockSummary, MergeError> {
        self.merge_part(inputs, keep, level, &MergePart::default(), out).map(|(summary, _)| summary)
    }

    /// As [`BlockFormat::merge`], of the series behind one alone, and no more when the block has this many
    /// bytes: yields the last series then, for the next part. A format that knows no series writes all.
    ///
    /// # Errors
    /// As [`BlockFormat::merge`].
    fn merge_part(
        &self,
        inputs: &[MergeInput<Self::Block, Self::Delete>],
        keep: TimeRange,
        level: u8,
        part: &MergePart,
        out: &mut dyn BlobWriter,
    ) -> Result<(BlockSummary, Option<Labels>), MergeError>;
}

/// Which part of the outcome of a merge is written.
#[derive(Debug, Clone)]
pub struct MergePart {
    /// Series behind this one; `None` from the first on.
    pub behind: Option<Labels>,
    /// The part ends with the series that reaches so many bytes.
    pub most_bytes: u64,
}

impl Default for MergePart {
    /// All of it.
    fn default() -> Self {
        MergePart { behind: None, most_bytes: u64::MAX }
    }
}

/// A merge that failed.
#[derive(Debug, thiserror::Error)]
#[error("merge input {input:?}: {error}")]
pub struct MergeError {
    /// The input that was bad; `None` if the output was.
    pub input: Option<usize>,
    /// What happened.
    pub error: BlockError,
}
