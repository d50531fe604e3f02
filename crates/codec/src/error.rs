//! Why encoded bytes cannot be decoded.

/// Encoded bytes that are damaged or were written by something else.
///
/// Offsets count from the start of the slice that was passed to the decoding function. A caller
/// treats all variants alike: the page that holds the bytes is corrupt, is quarantined, and the
/// answer is marked partial.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// The bytes end too early.
    #[error(
        "encoded data ends at byte {offset}, but {needed} more bytes are needed; \
         the page is truncated and must be restored or quarantined"
    )]
    Truncated {
        /// Where the missing bytes should begin.
        offset: usize,
        /// How many bytes the item needs.
        needed: usize,
    },
    /// A field holds a value that its format does not allow.
    #[error(
        "{field} is {found} at byte {offset} of encoded data, which the format does not allow; \
         the page is corrupt and must be restored or quarantined"
    )]
    Invalid {
        /// Where the field begins.
        offset: usize,
        /// What the field is.
        field: &'static str,
        /// What it holds.
        found: u64,
    },
    /// The caller asked for more values than a column may hold.
    #[error(
        "a column of {count} values was asked for, the limit is {limit}; \
         the header that states the count is corrupt"
    )]
    TooLong {
        /// Values asked for.
        count: usize,
        /// [`crate::MAX_COLUMN_LEN`].
        limit: usize,
    },
}

impl CodecError {
    /// The same error, its offset moved by `by` bytes: for a decoder that was handed a part of a
    /// larger input.
    #[must_use]
    pub fn shifted(self, by: usize) -> Self {
        match self {
            CodecError::Truncated { offset, needed } => {
                CodecError::Truncated { offset: offset + by, needed }
            }
            CodecError::Invalid { offset, field, found } => {
                CodecError::Invalid { offset: offset + by, field, found }
            }
            CodecError::TooLong { .. } => self,
        }
    }
}

/// Runs `decode` and lets the offset of its error count from the start of `input` as it is now.
///
/// Inside, every primitive reports an offset relative to the bytes that were left when it was
/// called; what was consumed before is added here, once, on the cold path.
pub(crate) fn located<'a, T>(
    input: &mut &'a [u8],
    decode: impl FnOnce(&mut &'a [u8]) -> Result<T, CodecError>,
) -> Result<T, CodecError> {
    let total = input.len();
    decode(input).map_err(|error| error.shifted(total - input.len()))
}
