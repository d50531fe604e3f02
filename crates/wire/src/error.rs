//! Why bytes were refused.

/// Why bytes were refused. Every message names the cause and, where there is one, the limit, its
/// value and the configuration key that raises it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// The bytes do not follow their format; the sender must not retry them.
    #[error("malformed {format} at byte {offset}: {reason}")]
    Malformed {
        /// The format, as its specification names it.
        format: &'static str,
        /// Where the fault was seen, counted from the first byte after decompression.
        offset: usize,
        /// What was wrong there.
        reason: &'static str,
    },
    /// The bytes follow their format and hold what is not read here.
    #[error("{format}: {reason}")]
    Unsupported {
        /// The format.
        format: &'static str,
        /// What is there or missing, and what to do.
        reason: String,
    },
    /// A line of a text format does not follow its grammar.
    #[error("line {line}: {message}")]
    Text {
        /// The line, from 1.
        line: usize,
        /// The fault in Prometheus' words.
        message: String,
    },
    /// A metric family says something impossible about itself; the text is Prometheus'.
    #[error("{0}")]
    Family(String),
    /// A compressed body cannot be decompressed.
    #[error("corrupt {encoding} body: {reason}; check the sender's Content-Encoding")]
    Compression {
        /// The encoding the body was declared to have.
        encoding: &'static str,
        /// What the decoder reports.
        reason: String,
    },
    /// Something is larger than a limit allows.
    #[error("{what} exceeds the limit of {limit}; {remedy}")]
    Limit {
        /// What is too large, with its size where that is known.
        what: String,
        /// The limit's value with its unit.
        limit: String,
        /// What the sender can do, and the key in the configuration that raises the limit.
        remedy: &'static str,
    },
    /// Another program wrote the bytes in a form that is not read here: they may be right.
    #[error("{format}: {what} is {found}, which is not read here, only {supported}; {remedy}")]
    NotRead {
        /// The format.
        format: &'static str,
        /// What is unknown.
        what: &'static str,
        /// What the bytes say, by name if it has one.
        found: String,
        /// What is read.
        supported: &'static str,
        /// How the data comes here nevertheless.
        remedy: &'static str,
    },
    /// A newer program wrote the bytes: they may be right, and must be kept until this one is
    /// upgraded.
    #[error(
        "{format} needs a newer watchfire here: {what} is {found}, this program knows up to \
         {supported}; upgrade brokers before agents"
    )]
    Newer {
        /// The format.
        format: &'static str,
        /// What is unknown.
        what: &'static str,
        /// What the bytes say.
        found: u64,
        /// The highest this program knows.
        supported: u64,
    },
    /// The labels of one series are invalid; the other series of the request are not affected.
    #[error("invalid labels: {0}")]
    Labels(String),
}

impl WireError {
    /// Whether the fault is size, which HTTP reports as 413, rather than form, which is 400.
    pub fn is_limit(&self) -> bool {
        matches!(self, WireError::Limit { .. })
    }
}
