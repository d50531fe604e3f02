//! Why the store refuses or fails.

use std::sync::Arc;

use blockstore::BlockError;
use codec::CodecError;

/// Why a payload cannot be replayed or a query cannot be answered.
#[derive(Debug, thiserror::Error)]
pub enum MetricError {
    /// A log payload is damaged or not one. The frame is to be counted as lost; the decoder can
    /// go on with the next one.
    #[error("metric log payload is corrupt at byte {offset}: {detail}")]
    Payload {
        /// Where, from the start of the payload.
        offset: usize,
        /// What was expected.
        detail: String,
    },
    /// A log payload was written by a newer program.
    #[error(
        "metric log payload has version {found}, this program reads up to {supported}: upgrade it"
    )]
    PayloadVersion {
        /// What the payload says.
        found: u8,
        /// The highest this program reads.
        supported: u8,
    },
    /// More series than the query may touch.
    #[error(
        "the selector matches more than {limit} series: narrow it, or raise \
         limits.max_query_series ({limit})"
    )]
    TooManySeries {
        /// The limit.
        limit: usize,
    },
    /// A block could not be read. The query may go on without it, marked partial.
    #[error("block {block}: {error}")]
    Block {
        /// Which block.
        block: Arc<str>,
        /// What happened, with the offset.
        error: BlockError,
    },
    /// A chunk in memory does not decode: a defect of the program, never of its input.
    #[error("chunk of ordinal {ordinal} in memory does not decode: {error}")]
    Head {
        /// The series.
        ordinal: u32,
        /// What the codec said.
        error: CodecError,
    },
}
