//! Lines of other systems to batches, one file per protocol.
//!
//! | module | what comes in |
//! |---|---|
//! | [`loki_push`], [`loki_json`], [`loki_json_legacy`] | Loki's push, protobuf and JSON, and its first JSON |
//! | [`otlp_logs`] | OTLP logs, protobuf and JSON |
//! | [`elastic_bulk`] | Elasticsearch's `_bulk` |
//! | [`json_line`] | JSON lines, as VictoriaLogs takes them |
//! | [`syslog`], [`syslog_frames`] | syslog of RFC 5424 and RFC 3164, and how it is framed |
//! | [`journal_export`] | what `systemd-journal-upload` sends |
//! | [`batch`] | what agents send |
//!
//! [`loki_push`], [`otlp_logs_encode`] and [`sls_log_group`] write what other systems take.
//!
//! All of them hand their lines to one place, `intake`, which holds the tenant's limits against them,
//! keeps the valid ones, tells the others in Loki's words, moves equal lines of one time apart, and
//! notes how severe each line is. Bodies come decompressed; answers are data: a status and a text.

pub mod batch;
pub mod elastic_bulk;
mod fields;
mod intake;
pub mod journal_export;
pub mod json_line;
pub mod loki_json;
pub mod loki_json_legacy;
pub mod loki_push;
pub mod otlp_logs;
pub mod otlp_logs_encode;
mod pairs;
mod refusals;
mod severity;
pub mod sls_log_group;
mod stream_labels;
pub mod syslog;
pub mod syslog_frames;
mod timestamp;
mod twins;

use model::LogLimits;

use crate::WireError;
use crate::protobuf::Fault;

pub use fields::FieldOptions;
pub use refusals::{LogRefusal, LogRefusals, LogRefused};

/// The metadata that holds how severe a line is.
pub const DETECTED_LEVEL: &str = "detected_level";
/// The metadata that holds OpenTelemetry's severity number.
pub const SEVERITY_NUMBER: &str = "severity_number";

/// What finds out how severe lines are. Languages know that, which this crate does not see.
pub trait LineLevels {
    /// The level that a word names, in any case, as `detected_level` has it; `None` for a word that
    /// names none.
    fn of_word(&self, word: &str) -> Option<&'static str>;

    /// The level of a line. `severity_number` is the metadata of that name.
    fn of_line(&self, line: &str, severity_number: Option<&str>) -> &'static str;
}

/// What decoders of lines go by.
#[derive(Clone, Copy)]
pub struct LogContext<'a> {
    /// Limits of the tenant.
    pub limits: &'a LogLimits,
    /// What finds out levels; without it there are none but those that the sender names.
    pub levels: Option<&'a dyn LineLevels>,
    /// The time, in nanoseconds since the epoch: that of the first line which has none, those that
    /// follow get one nanosecond more each; and that against which old and future lines are held.
    pub now_ns: i64,
}

/// What became of a request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogSummary {
    /// Lines in the batch.
    pub lines: u64,
    /// Bytes of these lines.
    pub line_bytes: u64,
    /// Bytes of names and values of their metadata.
    pub metadata_bytes: u64,
    /// Lines in the batch that were cut.
    pub truncated_lines: u64,
    /// Bytes that were cut off.
    pub truncated_bytes: u64,
    /// Lines that got their time here, because they came without one.
    pub timed_here: u64,
    /// Lines that were moved because the request has the same line at that time.
    pub moved_lines: u64,
    /// What is not in the batch, and why.
    pub refusals: LogRefusals,
}

/// Why nothing of a request is taken, as the answer that tells it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct LogPushError {
    /// The status of HTTP.
    pub status: u16,
    /// The text.
    pub text: String,
}

impl From<WireError> for LogPushError {
    fn from(error: WireError) -> Self {
        let status = if error.is_limit() { 413 } else { 400 };
        LogPushError { status, text: error.to_string() }
    }
}

impl LogPushError {
    fn bad_request(text: impl Into<String>) -> Self {
        LogPushError { status: 400, text: text.into() }
    }

    fn malformed(format: &'static str, (offset, reason): Fault) -> Self {
        WireError::Malformed { format, offset, reason }.into()
    }

    /// Loki's answer to a push of nothing.
    fn no_streams() -> Self {
        let text = "error at least one valid stream is required for ingestion".to_owned();
        LogPushError { status: 422, text }
    }
}

/// Refuses a body that is too large.
fn check_body(body: &[u8], limits: &LogLimits) -> Result<(), LogPushError> {
    let (len, limit) = (body.len(), limits.max_body_bytes);
    if len <= limit {
        return Ok(());
    }
    let text = format!(
        "request body too large: {len} bytes, limit: {limit} bytes; send smaller batches or raise \
         `limits.max_body_bytes`"
    );
    Err(LogPushError { status: 413, text })
}
