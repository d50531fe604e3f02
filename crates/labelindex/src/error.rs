//! Why bytes are no label index.

/// Why a block's label index cannot be opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IndexError {
    /// The bytes are damaged or were not written by this program.
    #[error(
        "label index is corrupt at byte {offset}: {detail}; its block must be restored or \
         quarantined"
    )]
    Corrupt {
        /// Where, from the start of the index; the start of the section if that is compressed.
        offset: usize,
        /// What was expected.
        detail: String,
    },
    /// The index was written by a newer program.
    #[error("label index has version {found}, this program reads up to {supported}: upgrade it")]
    Version {
        /// What the index says.
        found: u8,
        /// The highest this program reads.
        supported: u8,
    },
}

/// Why a section is refused, before it is known where the section stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Fault {
    #[error("{0}")]
    Codec(#[from] codec::CodecError),
    #[error("{0}")]
    Invalid(&'static str),
}
