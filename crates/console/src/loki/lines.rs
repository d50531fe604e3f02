//! Queries that yield lines.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::ops::ControlFlow;

use logql::metric::Entry;
use logql::pipeline::{self, Category, Pipeline};
use logql::syntax::ast::LogExpr;
use model::Labels;
use model::go_time::GoTime;
use net::ApiError;
use promql::SourceError;

use super::asked::{Bounds, Direction};
use super::cursor::{Cursor, Dedup, Place, line_hash};
use super::encode::{EntryForm, write_object, write_text};
use super::pushdown::Pushdown;
use super::refusal::data_error;
use super::statistics::Processed;
use crate::data::Work;
use crate::log_data::{LogFault, LogSnapshot};
use crate::respond::bad_data;
use crate::running::hold;

/// Which lines are wanted, and how.
#[derive(Debug, Clone, Default)]
pub(super) struct LinesAsked {
    pub(super) bounds: Bounds,
    pub(super) limit: usize,
    pub(super) direction: Direction,
    /// The least time between two lines; 0 for all.
    pub(super) interval_ns: i64,
    /// How lines are written.
    pub(super) form: EntryForm,
    /// What `now` is in templates.
    pub(super) now_ns: i64,
    /// Keys hash tables.
    pub(super) seed: u64,
    /// Behind which line to go on.
    pub(super) cursor: Option<Cursor>,
    /// Of which lines only the first is wanted.
    pub(super) dedup: Option<Dedup>,
    /// Whether it matters which lines were found.
    pub(super) notes_lines: bool,
}

/// Lines of equal labels, as JSON.
pub(super) struct StreamOut {
    /// Its labels, sorted.
    pub(super) labels: Vec<(String, String)>,
    /// The elements of `values`, with commas between them.
    pub(super) values: Vec<u8>,
    /// Where each element begins.
    pub(super) starts: Vec<usize>,
}

impl StreamOut {
    /// The other way round.
    pub(super) fn reversed(self) -> Self {
        let mut values = Vec::with_capacity(self.values.len());
        let mut starts = Vec::with_capacity(self.starts.len());
        let mut end = self.values.len();
        for start in self.starts.into_iter().rev() {
            if !values.is_empty() {
                values.push(b',');
            }
            starts.push(values.len());
            values.extend_from_slice(&self.values[start..end]);
            // The comma before it.
            end = start.saturating_sub(1);
        }
        StreamOut { labels: self.labels, values, starts }
    }

    /// Appends the lines of another stream with the same labels.
    pub(super) fn append(&mut self, other: StreamOut) {
        let shift = if self.values.is_empty() { 0 } else { self.values.len() + 1 };
        if shift > 0 && !other.values.is_empty() {
            self.values.push(b',');
        }
        self.starts.extend(other.starts.iter().map(|start| start + shift));
        self.values.extend_from_slice(&other.values);
    }
}

/// What a query yields.
#[derive(Default)]
pub(super) struct LinesFound {
    /// Sorted by labels.
    pub(super) streams: Vec<StreamOut>,
    /// How many lines there are.
    pub(super) lines: usize,
    /// Time of the last line that was taken.
    pub(super) last_ns: Option<i64>,
    /// Behind which line a request for more goes on; `None` if there are no more.
    pub(super) cursor: Option<Cursor>,
    /// Hashes of the lines, if that was asked for.
    pub(super) noted: HashSet<u64>,
    pub(super) processed: Processed,
    /// The memory of it.
    pub(super) held: Option<governor::Held>,
}

/// Reads the lines of a query.
pub(super) fn find(
    log: &LogExpr,
    asked: &LinesAsked,
    snapshot: &dyn LogSnapshot,
    work: &Work,
) -> Result<LinesFound, ApiError> {
    let pushdown = Pushdown::of(log).map_err(|error| bad_data(error.to_string()))?;
    let Bounds { mut start_ns, mut end_ns } = asked.bounds.of_lines();
    match (&asked.cursor, asked.direction) {
        (Some(cursor), Direction::Forward) => start_ns = start_ns.max(cursor.t_ns),
        (Some(cursor), Direction::Backward) => end_ns = end_ns.min(cursor.t_ns.saturating_add(1)),
        (None, _) => {}
    }
    let mut request = pushdown.request(log, start_ns, end_ns);
    request.newest_first = asked.direction == Direction::Backward;
    loop {
        let mut collector = Collector::new(log, asked, work)?;
        match snapshot.lines(&request, &mut |labels, line| collector.take(labels, line)) {
            Ok(()) => return collector.finish(),
            Err(LogFault::Again) => {}
            Err(LogFault::Source(error)) => return Err(data_error(error)),
            Err(LogFault::Query(error)) => return Err(bad_data(error.to_string())),
        }
    }
}

/// Bytes of an answer that are counted together.
const COUNTED_AT_ONCE: usize = 64 << 10;

struct Collector<'a> {
    asked: &'a LinesAsked,
    pipeline: Pipeline,
    /// Labels of the stream that the pipeline knows.
    stream: Labels,
    /// Where lines go that have exactly these labels, if that is known.
    of_stream: Option<usize>,
    /// By packed labels.
    numbers: HashMap<Vec<u8>, usize>,
    found: LinesFound,
    key: Vec<u8>,
    scratch: Vec<u8>,
    labels: Vec<(String, String)>,
    bytes: usize,
    fault: Option<SourceError>,
    place: Place,
    known: HashSet<u64>,
    hasher: RandomState,
}

impl<'a> Collector<'a> {
    fn new(log: &LogExpr, asked: &'a LinesAsked, work: &Work) -> Result<Self, ApiError> {
        let stages = logql::compile::stages(log).map_err(|error| bad_data(error.to_string()))?;
        let mut pipeline = Pipeline::new(stages, asked.seed);
        pipeline.set_now_ns(asked.now_ns);
        pipeline.set_zones(super::zones::of_host);
        let held = hold(work, 0).map_err(data_error)?;
        Ok(Collector {
            asked,
            pipeline,
            stream: Labels::empty(),
            of_stream: None,
            numbers: HashMap::new(),
            found: LinesFound { held: Some(held), ..LinesFound::default() },
            key: Vec::new(),
            scratch: Vec::new(),
            labels: Vec::new(),
            bytes: 0,
            fault: None,
            place: Place::new(asked.cursor.clone()),
            known: HashSet::new(),
            hasher: RandomState::new(),
        })
    }

    fn take(&mut self, labels: &Labels, line: &Entry<'_>) -> ControlFlow<()> {
        let asked = self.asked;
        let found = &mut self.found;
        found.processed.add(line);
        if !self.place.pass(labels, line.timestamp_ns) {
            return ControlFlow::Continue(());
        }
        if self.stream != *labels {
            self.pipeline.set_stream(labels.iter());
            self.stream = labels.clone();
            self.of_stream = None;
        }
        let metadata = line.metadata.iter().copied();
        let Some(kept) = self.pipeline.process(line.timestamp_ns, line.line, metadata) else {
            return ControlFlow::Continue(());
        };
        found.processed.kept += 1;
        if asked.interval_ns > 0
            && let Some(last_ns) = found.last_ns
            && line.timestamp_ns.abs_diff(last_ns) < asked.interval_ns.unsigned_abs()
        {
            return ControlFlow::Continue(());
        }
        let is_stream_only = kept.has_stream_labels_only();
        let number = match self.of_stream {
            Some(number) if is_stream_only => number,
            _ => {
                label_list(&kept, asked.form.is_categorized(), &mut self.labels);
                let packed = packed(&self.labels, &mut self.key);
                let number = match self.numbers.get(packed) {
                    Some(number) => *number,
                    None => {
                        let number = found.streams.len();
                        self.bytes += 2 * packed.len() + 128;
                        self.numbers.insert(packed.to_vec(), number);
                        let labels = self.labels.clone();
                        let (values, starts) = Default::default();
                        found.streams.push(StreamOut { labels, values, starts });
                        number
                    }
                };
                if is_stream_only {
                    self.of_stream = Some(number);
                }
                number
            }
        };
        if let Some(dedup) = asked.dedup {
            self.scratch.clear();
            dedup.write_key(kept.line(), &mut self.scratch);
            if !self.known.insert(self.hasher.hash_one((number, &self.scratch))) {
                return ControlFlow::Continue(());
            }
        }
        if asked.notes_lines {
            found.noted.insert(line_hash(labels, line.timestamp_ns, line.line));
        }
        let StreamOut { values, starts, .. } = &mut found.streams[number];
        let before = values.len();
        if before > 0 {
            values.push(b',');
        }
        starts.push(values.len());
        write_entry(&kept, asked.form, &mut self.labels, values);
        self.bytes += values.len() - before + size_of::<usize>();
        found.lines += 1;
        found.last_ns = Some(line.timestamp_ns);
        let held = found.held.as_mut().filter(|held| held.bytes() < self.bytes);
        // Once more when the pieces are put together.
        let wanted = 2 * self.bytes + COUNTED_AT_ONCE;
        if let Some(Err(refused)) = held.map(|held| held.resize(wanted)) {
            self.fault = Some(crate::running::refused(refused));
            return ControlFlow::Break(());
        }
        if found.lines < asked.limit {
            return ControlFlow::Continue(());
        }
        found.cursor = self.place.cursor();
        ControlFlow::Break(())
    }

    fn finish(self) -> Result<LinesFound, ApiError> {
        if let Some(fault) = self.fault {
            return Err(data_error(fault));
        }
        let mut found = self.found;
        found.streams.sort_by(|a, b| a.labels.cmp(&b.labels));
        Ok(found)
    }
}

/// The labels that tell streams of an answer apart, sorted.
pub(super) fn label_list(
    line: &pipeline::Entry<'_>,
    categorize: bool,
    labels: &mut Vec<(String, String)>,
) {
    labels.clear();
    line.for_each_label(|name, value, category| {
        if !categorize || category == Category::Stream {
            labels.push((name.to_owned(), value.to_owned()));
        }
    });
    labels.sort_unstable();
}

/// What tells lists of labels apart. Other than those of streams, values may be empty.
fn packed<'k>(labels: &[(String, String)], key: &'k mut Vec<u8>) -> &'k [u8] {
    key.clear();
    for text in labels.iter().flat_map(|(name, value)| [name, value]) {
        key.extend_from_slice(&text.len().to_le_bytes());
        key.extend_from_slice(text.as_bytes());
    }
    key
}

/// Appends a line as an element of `values`.
pub(super) fn write_entry(
    line: &pipeline::Entry<'_>,
    form: EntryForm,
    labels: &mut Vec<(String, String)>,
    out: &mut Vec<u8>,
) {
    if form == EntryForm::Legacy {
        let mut time = String::new();
        let layout = "2006-01-02T15:04:05.999999999Z07:00";
        GoTime::from_unix_ns(line.timestamp_ns()).format_into(&mut time, layout);
        out.extend_from_slice(format!(r#"{{"ts":"{time}","line":"#).as_bytes());
        write_text(out, line.line());
        out.push(b'}');
        return;
    }
    out.extend_from_slice(b"[\"");
    out.extend_from_slice(itoa::Buffer::new().format(line.timestamp_ns()).as_bytes());
    out.extend_from_slice(b"\",");
    write_text(out, line.line());
    if form.is_categorized() {
        out.extend_from_slice(b",{");
        let mut is_first = true;
        for (category, name) in
            [(Category::StructuredMetadata, "structuredMetadata"), (Category::Parsed, "parsed")]
        {
            labels.clear();
            line.for_each_label(|name, value, of| {
                if of == category {
                    labels.push((name.to_owned(), value.to_owned()));
                }
            });
            if labels.is_empty() {
                continue;
            }
            labels.sort_unstable();
            if !is_first {
                out.push(b',');
            }
            is_first = false;
            out.push(b'"');
            out.extend_from_slice(name.as_bytes());
            out.extend_from_slice(b"\":");
            write_object(out, labels.iter().map(|(n, v)| (n.as_str(), v.as_str())));
        }
        out.push(b'}');
    }
    out.push(b']');
}
