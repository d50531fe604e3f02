//! What is asked of blocks and heads.

use std::fmt;
use std::sync::Arc;

use blockstore::{BlobError, BlockError};
use model::{Labels, Matcher};

use crate::block::LogBlock;
use crate::deletes::LogDelete;
use crate::group_table::MAX_NAMES;
use crate::head::HeadSnapshot;
use crate::rows::MetadataWanted;
use crate::texts::AnyOf;
use crate::time::NsRange;

/// In which order lines are yielded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Oldest first; lines of one stream and time in the order in which they came.
    Forward,
    /// Exactly the other way round.
    Backward,
}

impl Order {
    /// A number that ascends in this order.
    #[inline]
    pub(crate) fn key(self, t_ns: i64) -> i64 {
        match self {
            Order::Forward => t_ns,
            // All bits turned: there is no overflow, and it undoes itself.
            Order::Backward => !t_ns,
        }
    }
}

/// Whether a line is wanted.
pub type LineTest = Arc<dyn Fn(&[u8]) -> bool + Send + Sync>;

/// Is told what a query looks at, and may end it.
pub trait ReadWatch: Send + Sync {
    /// So many lines are looked at, of so many bytes. Yields whether the query goes on; if not, it ends with an error
    /// that says nothing of the source.
    fn looks_at(&self, lines: u64, bytes: u64) -> bool;
}

/// Does several things at once, with the threads of whoever asks.
pub trait Together: Send + Sync {
    /// Does `job` once with each number below `jobs`, in any order, and returns when all are done.
    fn run(&self, jobs: usize, job: &(dyn Fn(usize) + Sync));
}

/// Which lines are wanted, and what of them. The fewer things are asked for, the less is read.
#[derive(Clone)]
pub struct Query {
    matchers: Vec<Matcher>,
    range: NsRange,
    order: Order,
    needles: Vec<AnyOf>,
    fields: Vec<(String, String)>,
    line_test: Option<LineTest>,
    needs_lines: bool,
    metadata: MetadataWanted,
    watch: Option<Arc<dyn ReadWatch>>,
    together: Option<Arc<dyn Together>>,
}

impl fmt::Debug for Query {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Query")
            .field("matchers", &self.matchers)
            .field("range", &self.range)
            .field("order", &self.order)
            .finish_non_exhaustive()
    }
}

impl Query {
    /// All lines in a range of the streams whose labels satisfy all matchers, oldest first, with all of their
    /// metadata.
    pub fn new(matchers: Vec<Matcher>, range: NsRange) -> Self {
        Query {
            matchers,
            range,
            order: Order::Forward,
            needles: Vec::new(),
            fields: Vec::new(),
            line_test: None,
            needs_lines: true,
            metadata: MetadataWanted::All,
            watch: None,
            together: None,
        }
    }

    /// In another order.
    #[must_use]
    pub fn in_order(self, order: Order) -> Self {
        Query { order, ..self }
    }

    /// Only lines that hold these bytes, too. Groups of blocks that cannot have such a line are not read.
    #[must_use]
    pub fn with_needle(mut self, needle: &[u8]) -> Self {
        if !needle.is_empty() {
            self.search(AnyOf::one(needle));
        }
        self
    }

    /// Only lines that hold one of these texts, as [`Query::with_needle`]; all lines if one of them is empty, or there
    /// is none.
    #[must_use]
    pub fn with_any_of(mut self, texts: &[Vec<u8>]) -> Self {
        if !texts.is_empty() && texts.iter().all(|text| !text.is_empty()) {
            self.search(AnyOf::texts_of(texts));
        }
        self
    }

    /// Only lines that hold this value, which is not empty, as JSON or logfmt have it: with none of letters, digits,
    /// `-` and `_` beside it, or in a way that has a backslash somewhere in the line. More lines may be yielded than
    /// have it. Groups of blocks that cannot have such a line are not read.
    #[must_use]
    pub fn with_value(mut self, value: &str) -> Self {
        self.search(AnyOf::value(value.as_bytes()));
        self
    }

    fn search(&mut self, text: AnyOf) {
        self.needles.push(text);
        // The longest one is looked for first: it is the rarest, as a rule. A value is looked for twice.
        let length = |texts: &AnyOf| texts.sole().map_or(0, |text| text.bytes().len());
        self.needles.sort_by_key(|texts| std::cmp::Reverse(length(texts)));
    }

    /// Only lines whose structured metadata has this value under this name, which is not empty. Groups of
    /// blocks that cannot have such a line are not read. Of equal lines in several sources the first that meets
    /// this counts.
    #[must_use]
    pub fn with_field(mut self, name: &str, value: &str) -> Self {
        self.fields.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Only lines that pass a test. It may be made for lines that are not yielded in the end, and again.
    #[must_use]
    pub fn with_line_test(self, test: LineTest) -> Self {
        Query { line_test: Some(test), ..self }
    }

    /// Lines may be empty: nobody reads them, only their lengths.
    #[must_use]
    pub fn without_lines(self) -> Self {
        Query { needs_lines: false, ..self }
    }

    /// With some of the metadata.
    #[must_use]
    pub fn with_metadata(self, metadata: MetadataWanted) -> Self {
        Query { metadata, ..self }
    }

    /// Told of everything that is looked at.
    #[must_use]
    pub fn with_watch(self, watch: Arc<dyn ReadWatch>) -> Self {
        Query { watch: Some(watch), ..self }
    }

    /// Filters of several blocks, and groups of several streams, are looked into at once.
    #[must_use]
    pub fn with_together(self, together: Arc<dyn Together>) -> Self {
        Query { together: Some(together), ..self }
    }

    /// Conditions on labels.
    pub fn matchers(&self) -> &[Matcher] {
        &self.matchers
    }

    /// The range of time.
    pub fn range(&self) -> NsRange {
        self.range
    }

    /// The order.
    pub fn order(&self) -> Order {
        self.order
    }

    /// The same for streams that were selected, and of lines nothing but level, time and length.
    pub(crate) fn for_counts(&self) -> Query {
        let metadata = MetadataWanted::Named(vec![crate::LEVEL.to_owned()]);
        let (matchers, order) = (Vec::new(), Order::Forward);
        Query { matchers, order, metadata, needs_lines: false, ..self.clone() }
    }

    pub(crate) fn set_range(&mut self, range: NsRange) {
        self.range = range;
    }

    pub(crate) fn needles(&self) -> &[AnyOf] {
        &self.needles
    }

    pub(crate) fn fields(&self) -> &[(String, String)] {
        &self.fields
    }

    pub(crate) fn line_test(&self) -> Option<&LineTest> {
        self.line_test.as_ref()
    }

    pub(crate) fn needs_lines(&self) -> bool {
        self.needs_lines
    }

    pub(crate) fn metadata(&self) -> &MetadataWanted {
        &self.metadata
    }

    /// Tells whoever watches what is looked at.
    ///
    /// # Errors
    /// They want no more.
    pub(crate) fn tell(&self, lines: u64, bytes: u64) -> Result<(), BlockError> {
        match &self.watch {
            Some(watch) if !watch.looks_at(lines, bytes) => {
                let source = std::io::Error::from(std::io::ErrorKind::Interrupted);
                let (action, key) = ("read for", "a query that was ended".to_owned());
                Err(BlobError::Io { action, key, source }.into())
            }
            _ => Ok(()),
        }
    }

    /// Whether something is looked for of which filters of blocks know.
    pub(crate) fn is_search(&self) -> bool {
        !self.needles.is_empty() || !self.fields.is_empty()
    }

    /// By what several blocks are looked into at once.
    pub(crate) fn together(&self) -> Option<&dyn Together> {
        self.together.as_deref()
    }

    /// Whether it says something of lines beyond their time.
    pub(crate) fn has_tests(&self) -> bool {
        !self.needles.is_empty() || !self.fields.is_empty() || self.line_test.is_some()
    }
}

/// Where lines are.
#[derive(Debug, Clone)]
pub enum Source {
    /// A block, and the deletes that may hide lines of it.
    Block {
        /// The block.
        block: Arc<LogBlock>,
        /// The deletes.
        deletes: Vec<Arc<LogDelete>>,
    },
    /// A head, and the deletes that may hide lines of it.
    Head {
        /// What was in it. It must have been taken with the matchers of the query, or fewer.
        head: HeadSnapshot,
        /// The deletes.
        deletes: Vec<Arc<LogDelete>>,
    },
}

impl Source {
    /// A block of which nothing is deleted.
    pub fn block(block: Arc<LogBlock>) -> Self {
        Source::Block { block, deletes: Vec::new() }
    }

    /// A head of which nothing is deleted.
    pub fn head(head: HeadSnapshot) -> Self {
        Source::Head { head, deletes: Vec::new() }
    }

    /// Whether lines of it may have structured metadata under one of these names. Reads nothing of a block.
    pub fn may_have_metadata(&self, names: &[&str]) -> bool {
        match self {
            Source::Block { block, .. } => {
                let known = &block.table().names;
                known.len() >= MAX_NAMES || known.iter().any(|name| names.contains(&name.as_str()))
            }
            Source::Head { head, .. } => {
                let mut pieces = head.streams().iter().flat_map(|stream| &stream.pieces);
                pieces.any(|piece| names.iter().any(|name| piece.has_metadata(name)))
            }
        }
    }

    pub(crate) fn deletes(&self) -> &[Arc<LogDelete>] {
        match self {
            Source::Block { deletes, .. } | Source::Head { deletes, .. } => deletes,
        }
    }
}

/// A source that cannot be read. The others may be read without it.
#[derive(Debug, thiserror::Error)]
#[error("source {source_index} of a query for logs: {error}")]
pub struct ReadError {
    /// Which of the sources.
    pub source_index: usize,
    /// What happened, with the offset.
    pub error: BlockError,
}

/// A line that was found.
#[derive(Debug, Clone, Copy)]
pub struct Entry<'a> {
    /// Labels of its stream.
    pub labels: &'a Labels,
    /// When it was written, nanoseconds since the epoch.
    pub timestamp_ns: i64,
    /// The line; may be empty if the query says that nobody reads it.
    pub line: &'a [u8],
    /// Length of the line.
    pub line_bytes: u64,
    /// What is wanted of its structured metadata.
    pub metadata: &'a crate::Metadata,
}
