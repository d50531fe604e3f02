//! What administrators may do to what is stored. `watchfire` wires it to the broker.

use model::{MatchOp, Matcher, TenantName, TimeRange};

/// The store of a broker. All of it waits for the disk.
pub trait Storage: Send + Sync + 'static {
    /// Hides all samples in `range`, stored until now, of the series that satisfy all matchers of
    /// any of `selectors`; durable and in effect when it returns.
    ///
    /// # Errors
    /// Why not, with the remedy.
    fn delete_series(
        &self,
        tenant: TenantName,
        selectors: &[Vec<Matcher>],
        range: TimeRange,
    ) -> Result<(), StorageError>;

    /// Hides all lines in `range`, stored until now, of the streams that satisfy all matchers; matchers with the name
    /// [`LINE`] are conditions on the line. Durable and in effect when it returns.
    ///
    /// # Errors
    /// Why not, with the remedy.
    fn delete_lines(
        &self,
        tenant: TenantName,
        selector: &[Matcher],
        range: TimeRange,
    ) -> Result<(), StorageError>;

    /// Deletes of lines that still lie on the disk, in the order in which they were made.
    ///
    /// # Errors
    /// Why not.
    fn line_deletes(&self, tenant: TenantName) -> Result<Vec<LineDelete>, StorageError>;

    /// Removes from the disk what is deleted.
    ///
    /// # Errors
    /// Why not.
    fn clean_deleted(&self) -> Result<(), StorageError>;

    /// Writes a copy of the store below `snapshots/<name>`, with or without what is in memory.
    ///
    /// # Errors
    /// Why not.
    fn snapshot(&self, name: &str, with_head: bool) -> Result<(), StorageError>;

    /// All blocks, in ascending order of ids.
    fn blocks(&self) -> Vec<StoredBlock>;
}

/// The name under which a delete of lines has conditions on the line: `=` that it holds a text, `=~` that it has a
/// match of an expression, and the negations of both.
pub const LINE: &str = "__line__";

/// A delete of lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LineDelete {
    /// Its number.
    pub number: u64,
    /// In which time.
    pub range: TimeRange,
    /// When it was made, milliseconds since the epoch.
    pub at_ms: i64,
    /// Conditions on labels and, with the name [`LINE`], on lines, all of which hold.
    pub selector: Vec<(String, MatchOp, String)>,
}

/// Why something was not done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StorageError {
    /// A limit.
    Limit(String),
    /// The store failed.
    Failed(String),
    /// The store is stopping, or the disk is full.
    Unavailable(String),
}

impl std::fmt::Display for StorageError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (StorageError::Limit(text)
        | StorageError::Failed(text)
        | StorageError::Unavailable(text)) = self;
        f.write_str(text)
    }
}

impl std::error::Error for StorageError {}

/// What is known of a block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredBlock {
    /// Whose it is; `None` if the name was lost.
    pub tenant: Option<TenantName>,
    /// The number under which that tenant's data lies.
    pub tenant_number: u32,
    /// Its name.
    pub id: String,
    /// First timestamp, milliseconds.
    pub min_time_ms: i64,
    /// First millisecond behind the last timestamp.
    pub end_time_ms: i64,
    /// Samples, deleted ones too.
    pub samples: u64,
    /// Series.
    pub series: u64,
    /// Size of its file.
    pub size_bytes: u64,
    /// Deletes that may hide samples of it.
    pub deletes: u64,
    /// How far it is merged.
    pub level: u8,
    /// Length of the windows of its rollups, milliseconds; 0 if it has none.
    pub rollup_ms: i64,
    /// Whether there may be fewer samples than came, because they are old.
    pub is_downsampled: bool,
    /// Whether rollups are all that is left of its floats.
    pub is_rollups_alone: bool,
}
