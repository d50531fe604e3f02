//! Log, segments and the life of immutable blocks.

mod blobs;
mod format;

pub use blobs::{BlobError, BlobInfo, BlobWriter, Blobs, ReadAt};
pub use format::{BlockError, BlockFormat, BlockSummary, MergeError};
