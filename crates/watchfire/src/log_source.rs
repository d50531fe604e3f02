//! Lines of logs: the console's view of the broker.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use broker::{LineFeed, LiveLines, LogSelection, LogsReader};
use console::{
    Begun, EachLine, LogCount, LogFault, LogReads, LogRequest, LogSnapshot, NewLines, NextLines,
    TakesCount, Work,
};
use labelindex::LabelIndex;
use logql::metric::{Entry, MetadataWanted, Run, Sink};
use logstore::{Entries, LEVEL, NsRange, Order, Query, ReadWatch, Source, StreamsPart};
use model::{Labels, MatchOp, Matcher};
use parking_lot::Mutex;
use promql::SourceError;

use crate::log_helpers::{self, Helpers};
use crate::source::fault;

/// Threads that compute for one query, at most.
const MAX_PARTS: usize = 16;

/// The lines of one tenant for one request.
pub(crate) struct LogView {
    reader: LogsReader,
    watch: Arc<Watch>,
    missing: Mutex<BTreeSet<String>>,
    sources: Mutex<(u64, u64)>,
}

/// Counts what is looked at, and ends it when nobody waits any more.
struct Watch {
    work: Work,
    lines: AtomicU64,
    bytes: AtomicU64,
}

impl ReadWatch for Watch {
    fn looks_at(&self, lines: u64, bytes: u64) -> bool {
        self.lines.fetch_add(lines, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        !self.work.is_cancelled()
    }
}

impl LogView {
    pub(crate) fn new(reader: LogsReader, work: &Work) -> LogView {
        let (lines, bytes) = Default::default();
        let watch = Arc::new(Watch { work: Arc::clone(work), lines, bytes });
        LogView { reader, watch, missing: Mutex::default(), sources: Mutex::default() }
    }

    fn select(&self, matchers: &[Matcher], range: NsRange) -> Result<LogSelection, SourceError> {
        let selection = self.reader.select(matchers, range).map_err(fault)?;
        let blocks = |source: &&Source| matches!(source, Source::Block { .. });
        let count = selection.sources.iter().filter(blocks).count();
        let mut sources = self.sources.lock();
        sources.0 += count as u64;
        sources.1 += (selection.sources.len() - count) as u64;
        self.missing.lock().extend(selection.missing.iter().cloned());
        Ok(selection)
    }

    /// What a fault of reading means.
    fn failed(&self, selection: &LogSelection, error: &logstore::ReadError) -> LogFault {
        if self.watch.work.is_cancelled() {
            return LogFault::Source(SourceError::Cancelled);
        }
        if self.reader.report(selection, error) {
            return LogFault::Again;
        }
        LogFault::Source(SourceError::Storage(error.to_string()))
    }

    fn query(&self, request: &LogRequest<'_>, selection: &LogSelection) -> Query {
        let order = if request.newest_first { Order::Backward } else { Order::Forward };
        let metadata = match request.metadata {
            MetadataWanted::All => logstore::MetadataWanted::All,
            MetadataWanted::Named([]) => logstore::MetadataWanted::None,
            MetadataWanted::Named(names) => logstore::MetadataWanted::Named(names.to_vec()),
        };
        let watch: Arc<dyn ReadWatch> = Arc::<Watch>::clone(&self.watch);
        let mut query = Query::new(request.matchers.to_vec(), selection.range)
            .in_order(order)
            .with_metadata(metadata)
            .with_watch(watch)
            .with_together(Arc::new(Helpers));
        for needle in &request.needles {
            query = query.with_any_of(needle);
        }
        for (name, value) in &request.fields {
            // Where a stream has a label of that name, the metadata is not what is asked for.
            if !is_of_streams(name, request, selection) {
                query = query.with_field(name, value);
            }
        }
        for (name, value) in &request.values {
            // Nor is what the line says, where the metadata has it.
            let of_metadata = |source: &Source| source.may_have_metadata(&[name]);
            if !is_of_streams(name, request, selection)
                && !selection.sources.iter().any(of_metadata)
            {
                query = query.with_value(value);
            }
        }
        if let Some(test) = &request.test {
            query = query.with_line_test(Arc::clone(test));
        }
        if request.needs_lines { query } else { query.without_lines() }
    }
}

/// Whether a stream that is meant has a label of that name.
fn is_of_streams(name: &str, request: &LogRequest<'_>, selection: &LogSelection) -> bool {
    Matcher::new(name, MatchOp::NotEqual, "").is_ok_and(|matcher| {
        let mut matchers = request.matchers.to_vec();
        matchers.push(matcher);
        selection.sources.iter().any(|source| has_stream(source, &matchers))
    })
}

fn has_stream(source: &Source, matchers: &[Matcher]) -> bool {
    match source {
        Source::Block { block, .. } => !block.index().select(matchers).is_empty(),
        Source::Head { head, .. } => {
            head.labels().any(|labels| Matcher::all_match(matchers, labels))
        }
    }
}

/// The pairs of a line's metadata, in memory that is used again.
fn pairs<'e>(
    metadata: &'e logstore::Metadata,
    memory: Vec<(&'static str, &'static str)>,
) -> Vec<(&'e str, &'e str)> {
    let mut pairs: Vec<(&str, &str)> = memory;
    pairs.extend(metadata.iter());
    pairs
}

/// The memory of pairs, without them.
fn emptied(mut pairs: Vec<(&str, &str)>) -> Vec<(&'static str, &'static str)> {
    pairs.clear();
    // Collected in place: the memory stays.
    pairs.into_iter().map(|_| ("", "")).collect()
}

impl LogSnapshot for LogView {
    fn lines(&self, request: &LogRequest<'_>, each: &mut EachLine<'_>) -> Result<(), LogFault> {
        let range = NsRange::new(request.start_ns, request.end_ns);
        let selection = self.select(request.matchers, range)?;
        let query = self.query(request, &selection);
        let failed = |error| self.failed(&selection, &error);
        let mut entries = Entries::new(query, selection.sources.clone()).map_err(failed)?;
        let mut memory = Vec::new();
        while let Some(entry) = entries.next_entry().map_err(failed)? {
            let metadata = pairs(entry.metadata, memory);
            let line = Entry {
                timestamp_ns: entry.timestamp_ns,
                line: entry.line,
                line_bytes: entry.line_bytes,
                metadata: &metadata,
            };
            let next = each(entry.labels, &line);
            memory = emptied(metadata);
            if next.is_break() {
                break;
            }
        }
        Ok(())
    }

    fn feed(&self, request: &LogRequest<'_>, sink: &mut dyn Sink) -> Result<(), LogFault> {
        let range = NsRange::new(request.start_ns, request.end_ns);
        let selection = self.select(request.matchers, range)?;
        let failed = |error| self.failed(&selection, &error);
        if let Some(wants_level) = counted(request, &selection) {
            return self.feed_counts(request, wants_level, &selection, sink);
        }
        let query = self.query(request, &selection);
        let parts = StreamsPart::split(&query, selection.sources.clone(), 1).map_err(failed)?;
        let is_over = AtomicBool::new(false);
        parts.into_iter().try_for_each(|part| self.feed_part(part, &selection, sink, &is_over))
    }

    fn width(&self) -> usize {
        log_helpers::processors().min(MAX_PARTS)
    }

    fn feed_parts(
        &self,
        request: &LogRequest<'_>,
        sinks: &mut [&mut (dyn Sink + Send)],
    ) -> Result<(), LogFault> {
        let range = NsRange::new(request.start_ns, request.end_ns);
        let selection = self.select(request.matchers, range)?;
        let query = self.query(request, &selection);
        let parts = StreamsPart::split(&query, selection.sources.clone(), sinks.len());
        let parts = parts.map_err(|error| self.failed(&selection, &error))?;
        let jobs: Vec<Mutex<_>> =
            parts.into_iter().zip(sinks).map(|job| Mutex::new(Some(job))).collect();
        let (is_over, first_fault) = (AtomicBool::new(false), Mutex::new(None));
        log_helpers::compute(jobs.len(), &|number| {
            let Some((part, sink)) = jobs[number].lock().take() else { return };
            if let Err(fault) = self.feed_part(part, &selection, &mut **sink, &is_over) {
                first_fault.lock().get_or_insert(fault);
                is_over.store(true, Ordering::Relaxed);
            }
        });
        first_fault.into_inner().map_or(Ok(()), Err)
    }

    fn counts(
        &self,
        request: &LogRequest<'_>,
        takes: &mut TakesCount<'_>,
        each: &mut dyn FnMut(LogCount<'_>),
    ) -> Result<(), LogFault> {
        let range = NsRange::new(request.start_ns, request.end_ns);
        let selection = self.select(request.matchers, range)?;
        let query = self.query(request, &selection);
        let mut pass = |count: logstore::Count<'_>| {
            let logstore::Count { labels, level, first_ns, last_ns, lines, bytes } = count;
            each(LogCount { labels, level, first_ns, last_ns, lines, bytes });
        };
        logstore::count(&query, selection.sources.clone(), takes, &mut pass)
            .map_err(|error| self.failed(&selection, &error))
    }

    fn streams(
        &self,
        selectors: &[Vec<Matcher>],
        start_ns: i64,
        end_ns: i64,
        limit: usize,
    ) -> Result<Vec<Labels>, LogFault> {
        let range = NsRange::new(start_ns, end_ns);
        let mut found = BTreeSet::new();
        for matchers in selectors {
            let selection = self.select(matchers, range)?;
            for source in &selection.sources {
                if self.watch.work.is_cancelled() {
                    return Err(LogFault::Source(SourceError::Cancelled));
                }
                match source {
                    Source::Block { block, .. } => {
                        let streams = block.select(matchers, &selection.range);
                        found.extend(streams.into_iter().map(|one| block.index().labels(one)));
                    }
                    Source::Head { head, .. } => found.extend(head.labels().cloned()),
                }
                while found.len() > limit {
                    found.pop_last();
                }
            }
        }
        Ok(found.into_iter().collect())
    }

    fn missing(&self) -> Vec<String> {
        self.missing.lock().iter().cloned().collect()
    }

    fn reads(&self) -> LogReads {
        let (blocks, heads) = *self.sources.lock();
        let Watch { lines, bytes, .. } = &*self.watch;
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        LogReads { blocks, heads, lines: read(lines), bytes: read(bytes) }
    }
}

/// Whether lines can be told by how many of each level there are, and if so, whether the level matters: nobody reads
/// them, no text is looked for in them, and of what is wanted of their metadata they can have the level alone.
fn counted(request: &LogRequest<'_>, selection: &LogSelection) -> Option<bool> {
    let MetadataWanted::Named(names) = request.metadata else { return None };
    if !request.takes_runs || !request.needles.is_empty() || request.test.is_some() {
        return None;
    }
    let others = names.iter().map(String::as_str).filter(|name| *name != LEVEL);
    let others: Vec<&str> = others.collect();
    let have_others = !others.is_empty()
        && selection.sources.iter().any(|source| source.may_have_metadata(&others));
    (!have_others).then_some(others.len() < names.len())
}

impl LogView {
    /// Hands over some of the lines, unless it is over.
    fn feed_part(
        &self,
        mut part: StreamsPart,
        selection: &LogSelection,
        sink: &mut dyn Sink,
        is_over: &AtomicBool,
    ) -> Result<(), LogFault> {
        let failed = |error| self.failed(selection, &error);
        let mut memory = Vec::new();
        while let Some(labels) = part.next_stream() {
            let labels = labels.clone();
            let mut is_told = false;
            while let Some(entry) = part.next_entry().map_err(failed)? {
                if is_over.load(Ordering::Relaxed) {
                    return Ok(());
                }
                if !is_told {
                    sink.stream(&labels);
                    is_told = true;
                }
                let metadata = pairs(entry.metadata, memory);
                let line = Entry {
                    timestamp_ns: entry.timestamp_ns,
                    line: entry.line,
                    line_bytes: entry.line_bytes,
                    metadata: &metadata,
                };
                let taken = sink.entry(&line);
                memory = emptied(metadata);
                taken.map_err(LogFault::Query)?;
            }
        }
        Ok(())
    }

    /// Hands over runs of lines that nobody reads.
    fn feed_counts(
        &self,
        request: &LogRequest<'_>,
        wants_level: bool,
        selection: &LogSelection,
        sink: &mut dyn Sink,
    ) -> Result<(), LogFault> {
        // What is asked of labels and of the level is looked at where the runs go.
        let request = LogRequest { fields: Vec::new(), ..request.clone() };
        let query = self.query(&request, selection);
        // One is asked whether it takes runs while the other gets them.
        let sink = std::cell::RefCell::new(sink);
        let mut current: Option<Labels> = None;
        let mut outcome = Ok(());
        let mut takes = |first_ns, last_ns| sink.borrow().takes_run(first_ns, last_ns);
        let mut each = |count: logstore::Count<'_>| {
            if outcome.is_err() {
                return;
            }
            let mut sink = sink.borrow_mut();
            if current.as_ref() != Some(count.labels) {
                sink.stream(count.labels);
                current = Some(count.labels.clone());
            }
            let logstore::Count { level, first_ns, last_ns, lines, bytes, .. } = count;
            let level = [(LEVEL, level)];
            let has_level = wants_level && !count.level.is_empty();
            let metadata = if has_level { &level[..] } else { &[] };
            outcome = sink.run(Run { first_ns, last_ns, lines, bytes, metadata });
        };
        let counted = logstore::count(&query, selection.sources.clone(), &mut takes, &mut each);
        counted.map_err(|error| self.failed(selection, &error))?;
        outcome.map_err(LogFault::Query)
    }
}

/// New lines.
pub(crate) struct LogTail(pub(crate) LineFeed);

impl console::LineFeed for LogTail {
    fn next(&mut self) -> NextLines<'_> {
        Box::pin(async {
            let LiveLines { batch, missed, dropped, notes } = self.0.next().await?;
            Some(Ok(NewLines { batch, missed, dropped, notes }))
        })
    }

    fn begun(&mut self) -> Begun<'_> {
        Box::pin(self.0.begun())
    }
}
