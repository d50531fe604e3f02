//! What collecting lines counts about itself.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use model::MetricType;
use parking_lot::Mutex;
use serde::Serialize;
use wire::text_encode::TextEncoder;

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
    pub(crate) looked: Mutex<LookStatus>,
}

/// How one source is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SourceStatus {
    /// Path of the file, or what else it is.
    pub name: String,
    /// What it is.
    pub kind: SourceKind,
    /// How it goes.
    pub state: Progress,
    /// How far it is read, in bytes; entries of what is no file.
    pub read: u64,
    /// Size of the file as it lies there, 0 of what is none.
    pub size_bytes: u64,
    /// Bytes that are not read yet.
    pub lag_bytes: u64,
    /// Lines since the start.
    pub lines: u64,
    /// When the file was written to last, milliseconds since the epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub modified_ms: Option<i64>,
    /// Why it cannot be read now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// What a source is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SourceKind {
    /// A file.
    File,
    /// The journal, syslog or standard input.
    Stream,
}

/// How reading a source goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Progress {
    /// It is read as it grows.
    Reading,
    /// A limit of its stages holds it up.
    Limited,
    /// It was renamed or removed; it is read on for a while.
    Moved,
    /// It cannot be read; it is tried again.
    Failing,
    /// Nothing can follow.
    Ended,
}

impl Progress {
    /// As it is written in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Progress::Reading => "reading",
            Progress::Limited => "limited",
            Progress::Moved => "moved",
            Progress::Failing => "failing",
            Progress::Ended => "ended",
        }
    }
}

/// What was found when it was looked last which files there are.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LookStatus {
    /// The patterns of the configuration.
    pub patterns: Vec<PatternStatus>,
    /// Files that a pattern names and that are not collected; the first 1,000.
    pub passed_over: Vec<PassedOver>,
    /// How many more there are.
    pub more_passed_over: u64,
}

/// What a pattern names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PatternStatus {
    /// As it is in the configuration.
    pub pattern: String,
    /// How many files it names.
    pub files: usize,
    /// Why it names none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// A file that is not collected.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PassedOver {
    /// Its path.
    pub path: String,
    /// Why.
    pub reason: String,
}

/// Files passed over that are listed.
const LISTED: usize = 1_000;

impl LookStatus {
    pub(crate) fn pass_over(&mut self, path: &Path, reason: impl Into<String>) {
        if self.passed_over.len() >= LISTED {
            self.more_passed_over += 1;
            return;
        }
        let path = path.display().to_string();
        self.passed_over.push(PassedOver { path, reason: reason.into() });
    }
}

impl CollectionStatus {
    /// How the sources are as of the last second, of ten where there are more than 2,000; by name.
    pub fn sources(&self) -> Vec<SourceStatus> {
        self.sources.lock().clone()
    }

    /// Which files were found when it was looked last, and which of them are not collected.
    pub fn looked(&self) -> LookStatus {
        self.looked.lock().clone()
    }

    /// The files that are furthest behind, at most `limit`, by path: each once, though two may have borne
    /// it one after the other.
    pub fn furthest_behind(&self, limit: usize) -> Vec<SourceStatus> {
        let mut files: BTreeMap<String, SourceStatus> = BTreeMap::new();
        for file in self.sources.lock().iter().filter(|source| source.kind == SourceKind::File) {
            match files.get_mut(&file.name) {
                None => _ = files.insert(file.name.clone(), file.clone()),
                Some(known) => {
                    let later = if file.lines > 0 { file.clone() } else { known.clone() };
                    let (lag_bytes, lines) =
                        (known.lag_bytes + file.lag_bytes, known.lines + file.lines);
                    *known = SourceStatus { lag_bytes, lines, ..later };
                }
            }
        }
        let mut files: Vec<SourceStatus> = files.into_values().collect();
        files.sort_by_key(|file| Reverse(file.lag_bytes));
        files.truncate(limit);
        files.sort_by(|a, b| a.name.cmp(&b.name));
        files
    }

    /// Whether standard input was read, has ended, and all that came is with a broker.
    pub fn is_stdin_delivered(&self) -> bool {
        self.stdin_ended.get() == 2 && self.pending_batches.get() == 0
    }

    /// Bytes of files that are written and not read yet.
    pub fn lag_bytes(&self) -> u64 {
        self.lag_bytes.get()
    }

    /// Whether nothing is read because the spool takes nothing.
    pub fn is_waiting(&self) -> bool {
        self.waiting.get() != 0
    }

    /// Batches that no broker has acknowledged.
    pub fn pending_batches(&self) -> u64 {
        self.pending_batches.get()
    }

    /// Lines collected since the start.
    pub fn lines(&self) -> u64 {
        self.lines.get()
    }

    /// Appends the series of single files in the text format of Prometheus: of the 100 that are furthest
    /// behind, so that however many files there are, series are few.
    pub fn render_files(&self, out: &mut TextEncoder<'_>) {
        let files = self.furthest_behind(FILE_SERIES);
        for (name, help, kind, of) in FILE_ROWS {
            out.family(name, kind.as_str(), help);
            for file in &files {
                out.sample(name, &[("path", file.name.as_str())], of(file) as f64);
            }
        }
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

/// Files that have series of their own.
const FILE_SERIES: usize = 100;

type FileRow = (&'static str, &'static str, MetricType, fn(&SourceStatus) -> u64);

const FILE_ROWS: &[FileRow] = &[
    (
        "watchfire_agent_logs_file_lag_bytes",
        "Bytes of a file that are written and not read yet; of the 100 files furthest behind.",
        GAUGE,
        |file| file.lag_bytes,
    ),
    (
        "watchfire_agent_logs_file_read_bytes",
        "How far a file is read; of the 100 files furthest behind.",
        GAUGE,
        |file| file.read,
    ),
    (
        "watchfire_agent_logs_file_lines_total",
        "Lines read of a file since the start; of the 100 files furthest behind.",
        COUNTER,
        |file| file.lines,
    ),
];

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_furthest_behind_are_shown_each_once() {
        let status = CollectionStatus::default();
        let source = |name: &str, kind, lag_bytes| SourceStatus {
            name: name.to_owned(),
            kind,
            state: Progress::Reading,
            read: 9,
            size_bytes: 9 + lag_bytes,
            lag_bytes,
            lines: 1,
            modified_ms: None,
            error: None,
        };
        let file = SourceKind::File;
        *status.sources.lock() = vec![
            source("/a", file, 0),
            source("/b", file, 5),
            source("/b", file, 2),
            source("/c", file, 6),
            source("journal", SourceKind::Stream, 0),
        ];
        let shown: Vec<(String, u64, u64)> = status
            .furthest_behind(2)
            .into_iter()
            .map(|file| (file.name, file.lag_bytes, file.lines))
            .collect();
        assert_eq!(shown, [("/b".to_owned(), 7, 2), ("/c".to_owned(), 6, 1)]);
        assert_eq!(status.furthest_behind(9).len(), 3);
        let mut looked = LookStatus::default();
        (0..LISTED + 2).for_each(|_| looked.pass_over(Path::new("/x"), "why"));
        assert_eq!((looked.passed_over.len(), looked.more_passed_over), (LISTED, 2));
    }
}
