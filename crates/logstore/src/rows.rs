//! Lines of a source that lie together, wherever that is: what reading needs of them.

use std::ops::Range;

use crate::metadata::Metadata;
use crate::texts::AnyOf;
use blockstore::BlockError;

/// Which structured metadata is read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum MetadataWanted {
    /// None.
    None,
    /// All.
    #[default]
    All,
    /// What has one of these names.
    Named(Vec<String>),
}

impl MetadataWanted {
    pub(crate) fn has(&self, name: &str) -> bool {
        match self {
            MetadataWanted::None => false,
            MetadataWanted::All => true,
            MetadataWanted::Named(names) => names.iter().any(|known| known == name),
        }
    }
}

/// Lines by row, in order of stream and time. What is not in memory is read when it is asked for.
pub(crate) trait Rows {
    /// Time of each row.
    fn timestamps(&self) -> Result<&[i64], BlockError>;

    /// Where each line begins in the text that all of them are, and where the last one ends.
    fn starts(&self) -> Result<&[u32], BlockError>;

    /// The line of a row; `scratch` may hold it.
    fn line<'a>(&'a self, row: u32, scratch: &'a mut Vec<u8>) -> Result<&'a [u8], BlockError>;

    /// Rows among `rows` whose lines hold what is wanted, ascending. Something is wanted.
    fn rows_with(&self, needles: &[AnyOf], rows: Range<u32>) -> Result<Vec<u32>, BlockError>;

    /// Replaces `out` by the metadata of a row that is wanted.
    fn read_metadata(
        &self,
        row: usize,
        wanted: &MetadataWanted,
        out: &mut Metadata,
    ) -> Result<(), BlockError>;

    /// Whether the metadata of a row has a value under a name.
    fn has_field(
        &self,
        row: usize,
        name: &str,
        value: &str,
        scratch: &mut String,
    ) -> Result<bool, BlockError>;
}
