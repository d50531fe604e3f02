//! What can go wrong on the way from the kernel to a batch.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use blockstore::{BlobError, OpenError};

/// Why the agent could not start, or why one collector has nothing to say.
///
/// A collector's error never stops a pass: the collector's series end with stale markers,
/// `node_scrape_collector_success` turns 0, and the next pass tries again.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// Lines can never be pushed to a system as it is configured.
    #[error("{name}: {reason}")]
    Sink {
        /// What the system is called.
        name: String,
        /// What is wrong.
        reason: String,
    },
    /// The kernel does not offer what a collector reads. This is a property of the host, not a
    /// failure.
    #[error("{path} is not offered by this kernel; disable the collector to silence this")]
    NoData {
        /// What was looked for.
        path: PathBuf,
    },
    /// A file exists and cannot be read.
    #[error("cannot read {path}: {source}; check the agent's permissions")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the kernel answered.
        source: io::Error,
    },
    /// A file does not look as the kernel documents it.
    #[error("{path} holds no {expected}; the file is truncated or from an unknown kernel")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What was expected in it.
        expected: &'static str,
    },
    /// A file is larger than any that the kernel makes.
    #[error("{path} is larger than the limit of {limit_bytes} bytes; check the configured roots")]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The limit.
        limit_bytes: usize,
    },
    /// The configuration disables a collector that does not exist.
    #[error("unknown collector {name:?}; the collectors are {known}")]
    UnknownCollector {
        /// The name in the configuration.
        name: String,
        /// All names, separated by commas.
        known: String,
    },
    /// A collector waits for a file that does not answer.
    #[error(
        "the collector {collector} did not answer for {} s; it runs again when the file or device \
         that holds it answers",
        timeout.as_secs()
    )]
    Hung {
        /// Its name.
        collector: &'static str,
        /// How long it was waited for.
        timeout: Duration,
    },
    /// The configured interval or queue is out of range.
    #[error("{key} is {value}, it must be from {min} to {max}")]
    OutOfRange {
        /// The configuration key.
        key: &'static str,
        /// What it was set to.
        value: u64,
        /// Least allowed value.
        min: u64,
        /// Greatest allowed value.
        max: u64,
    },
    /// The spool was written by a newer program.
    #[error(
        "{path} in the spool has {what} {kind}, which this program does not know: upgrade it, or \
         remove the spool to give up what is in it"
    )]
    SpoolNewer {
        /// The file, relative to the spool.
        path: String,
        /// What is newer.
        what: &'static str,
        /// Its number.
        kind: u8,
    },
    /// The spool's directory cannot be listed.
    #[error("read the spool: {0}; check its permissions")]
    Spool(#[source] BlobError),
    /// The spool's directory cannot be created or is in use.
    #[error(transparent)]
    SpoolDirectory(#[from] OpenError),
    /// Syslog cannot be received.
    #[error("listen for syslog on {listen}: {source}")]
    Listen {
        /// Where.
        listen: String,
        /// What the system answered.
        source: io::Error,
    },
    /// The file of positions of collected lines cannot be read.
    #[error(
        "read positions.json in the spool of lines: {0}; mend or restore it, or remove it to collect all \
         files from their beginning"
    )]
    Positions(String),
    /// The positions of Promtail or Alloy are there and cannot be read.
    #[error(
        "the positions of another collector in {} cannot be read: {reason}; make them readable, or move \
         the file away to read all files from their beginnings",
        path.display()
    )]
    TakeOver {
        /// The file.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// The certificate cannot be used.
    #[error(transparent)]
    Tls(net::tls::TlsError),
    /// The operating system gave no random numbers.
    #[error("no random numbers: {0}; check that /dev/urandom can be read")]
    Random(String),
    /// The operating system gave no thread.
    #[error("cannot start the thread {name:?}: {source}; check the limits on threads")]
    Thread {
        /// The thread's name.
        name: &'static str,
        /// What the system answered.
        source: io::Error,
    },
}

impl AgentError {
    /// Whether this is a property of the host that needs nobody's attention.
    pub(crate) fn is_no_data(&self) -> bool {
        matches!(self, AgentError::NoData { .. })
    }
}
