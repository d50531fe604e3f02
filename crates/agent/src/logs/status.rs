//! What collecting lines counts about itself.

use std::sync::atomic::{AtomicU64, Ordering};

use model::MetricType;
use parking_lot::Mutex;
use serde::Serialize;

use crate::counters::CounterRow;

/// A number that others read.
#[derive(Debug, Default)]
pub(crate) struct Figure(AtomicU64);

impl Figure {
    pub(crate) fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    pub(crate) fn set(&self, value: usize) {
        self.0.store(value as u64, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Figures of the collection of lines, and how its sources are.
#[derive(Debug, Default)]
pub struct CollectionStatus {
    pub(crate) files: Figure,
    pub(crate) read_bytes: Figure,
    pub(crate) lines: Figure,
    pub(crate) line_bytes: Figure,
    pub(crate) cut_lines: Figure,
    pub(crate) unlabelled_lines: Figure,
    pub(crate) batches: Figure,
    pub(crate) errors: Figure,
    pub(crate) truncations: Figure,
    pub(crate) lost_files: Figure,
    pub(crate) lag_bytes: Figure,
    pub(crate) waiting: Figure,
    pub(crate) journal_entries: Figure,
    pub(crate) journal_restarts: Figure,
    pub(crate) syslog_messages: Figure,
    /// Not shown: 1 when standard input has ended.
    pub(crate) stdin_ended: Figure,
    pub(crate) delivered_lines: Figure,
    pub(crate) refused_lines: Figure,
    pub(crate) spool_bytes: Figure,
    pub(crate) pending_batches: Figure,
    pub(crate) sources: Mutex<Vec<SourceStatus>>,
}

/// How one source is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SourceStatus {
    /// Path of the file, or what else it is.
    pub name: String,
    /// How far it is read, in bytes; entries of the journal.
    pub read: u64,
    /// Bytes that are not read yet.
    pub lag_bytes: u64,
    /// Lines since the start.
    pub lines: u64,
}

impl CollectionStatus {
    /// How the sources are as of the last second, by name.
    pub fn sources(&self) -> Vec<SourceStatus> {
        self.sources.lock().clone()
    }

    /// Whether standard input was read, has ended, and all that came is with a broker.
    pub fn is_stdin_delivered(&self) -> bool {
        self.stdin_ended.get() == 2 && self.pending_batches.get() == 0
    }

    /// Lines collected since the start.
    pub fn lines(&self) -> u64 {
        self.lines.get()
    }

    /// Everything that is counted, in a fixed order.
    pub fn rows(&self) -> Vec<CounterRow> {
        ROWS.iter()
            .map(|(name, help, kind, of)| CounterRow {
                name,
                help,
                kind: *kind,
                labels: Vec::new(),
                value: of(self).get() as f64,
            })
            .collect()
    }
}

type Row = (&'static str, &'static str, MetricType, fn(&CollectionStatus) -> &Figure);

const COUNTER: MetricType = MetricType::Counter;
const GAUGE: MetricType = MetricType::Gauge;

const ROWS: &[Row] = &[
    ("watchfire_agent_logs_files", "Files that are followed.", GAUGE, |s| &s.files),
    (
        "watchfire_agent_logs_read_bytes_total",
        "Bytes read of files, unpacked if they are packed.",
        COUNTER,
        |s| &s.read_bytes,
    ),
    (
        "watchfire_agent_logs_lag_bytes",
        "Bytes of files that are written and not read yet.",
        GAUGE,
        |s| &s.lag_bytes,
    ),
    (
        "watchfire_agent_logs_lines_total",
        "Lines that came out of the stages and are durable.",
        COUNTER,
        |s| &s.lines,
    ),
    (
        "watchfire_agent_logs_line_bytes_total",
        "Bytes of the lines that came out of the stages and are durable.",
        COUNTER,
        |s| &s.line_bytes,
    ),
    (
        "watchfire_agent_logs_cut_lines_total",
        "Lines cut because they were longer than 1 MiB.",
        COUNTER,
        |s| &s.cut_lines,
    ),
    (
        "watchfire_agent_logs_unlabelled_lines_total",
        "Lines left out because the stages took all their labels.",
        COUNTER,
        |s| &s.unlabelled_lines,
    ),
    (
        "watchfire_agent_logs_batches_total",
        "Batches of lines made durable in the spool of lines.",
        COUNTER,
        |s| &s.batches,
    ),
    (
        "watchfire_agent_logs_errors_total",
        "Files that could not be opened or read, each time.",
        COUNTER,
        |s| &s.errors,
    ),
    (
        "watchfire_agent_logs_truncations_total",
        "Files that were truncated or written anew and began again.",
        COUNTER,
        |s| &s.truncations,
    ),
    (
        "watchfire_agent_logs_lost_files_total",
        "Files that were gone at a start before they were read to their end.",
        COUNTER,
        |s| &s.lost_files,
    ),
    (
        "watchfire_agent_logs_waiting",
        "1 while nothing is read because the spool of lines is full or not writable.",
        GAUGE,
        |s| &s.waiting,
    ),
    ("watchfire_agent_logs_journal_entries_total", "Entries read of the journal.", COUNTER, |s| {
        &s.journal_entries
    }),
    (
        "watchfire_agent_logs_journal_restarts_total",
        "Times that journalctl ended and was started again.",
        COUNTER,
        |s| &s.journal_restarts,
    ),
    ("watchfire_agent_logs_syslog_messages_total", "Messages of syslog received.", COUNTER, |s| {
        &s.syslog_messages
    }),
    (
        "watchfire_agent_logs_delivered_lines_total",
        "Lines that a broker has acknowledged.",
        COUNTER,
        |s| &s.delivered_lines,
    ),
    (
        "watchfire_agent_logs_refused_lines_total",
        "Lines that a broker will never store.",
        COUNTER,
        |s| &s.refused_lines,
    ),
    ("watchfire_agent_logs_spool_bytes", "Size of the spool of lines on disk.", GAUGE, |s| {
        &s.spool_bytes
    }),
    (
        "watchfire_agent_logs_pending_batches",
        "Batches of lines that no broker has acknowledged.",
        GAUGE,
        |s| &s.pending_batches,
    ),
];
