//! The thread that collects: files in turn, what other sources hand in, batches into the spool.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::batch::{BATCH_BYTES, BatchCounts, LinesBatch};
use super::config::LogsConfig;
use super::entry::{Entry, Pipeline};
use super::file::{Scratch, Tailed};
use super::files::{Files, Turn};
use super::journal::Journal;
use super::line_spool::LineSpool;
use super::position::{Position, Positions, SourceId, SourceState, Update};
use super::receivers::Listener;
use super::status::{CollectionStatus, Progress, SourceKind, SourceStatus};
use crate::clock::Now;
use crate::error::AgentError;
use crate::spool::SpoolCounters;

const THREAD_NAME: &str = "log-collect";

/// How often it is looked which files there are.
const SCAN_EVERY: Duration = Duration::from_secs(2);
/// … of many files.
const SCAN_MANY_EVERY: Duration = Duration::from_secs(10);
const MANY: u64 = 2_000;
/// The shortest: files that come due one after the other share a turn.
const SHORTEST: Duration = Duration::from_millis(20);
/// The longest sleep.
const TICK: Duration = Duration::from_millis(250);
/// How often a spool that took nothing is tried again.
const RETRY: Duration = Duration::from_millis(250);
/// Positions that move without lines are noted this often.
const NOTE_EVERY: Duration = Duration::from_secs(1);
/// How often it is told how far all are.
const TELL_EVERY: Duration = Duration::from_secs(1);
/// Hand-overs of other sources that wait.
const QUEUE: usize = 64;

/// Lines of a source that is no file.
pub(crate) struct HandedIn {
    /// Its place among the sources.
    pub(crate) source: usize,
    pub(crate) entries: Vec<Named>,
}

/// A line of such a source, and its name there.
pub(crate) struct Named {
    pub(crate) entry: Entry,
    /// Empty if the source cannot go back.
    pub(crate) cursor: String,
}

/// Collects lines until it is dropped or stopped.
pub(crate) struct Collector {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    /// End with this.
    _journal: Option<Journal>,
    receivers: Vec<Listener>,
}

impl Collector {
    /// Starts to collect, from `positions` on. `put` is called when lines were put into the spool.
    ///
    /// # Errors
    /// No thread.
    pub(crate) fn start(
        config: LogsConfig,
        spool: Arc<LineSpool>,
        positions: Positions,
        status: Arc<CollectionStatus>,
        counters: Arc<SpoolCounters>,
        put: Box<dyn Fn() + Send>,
    ) -> Result<Collector, AgentError> {
        let stop = Arc::new(AtomicBool::new(false));
        let (sender, handed_in) = sync_channel(QUEUE);
        let mut sources = Vec::new();
        let journal = match &config.journal {
            None => None,
            Some(settings) => {
                let known = positions.entries_named(super::journal::NAME);
                let cursor = known.and_then(|(_, position)| match &position.source {
                    SourceState::Entries { cursor, .. } => Some(cursor.clone()),
                    SourceState::File(_) => None,
                });
                let known = known.map(|(id, position)| (id, position.clone()));
                let name = super::journal::NAME.to_owned();
                sources.push(PushedSource::new(name, true, settings.stages.start(), known));
                let sender: SyncSender<HandedIn> = sender.clone();
                let host = config.host.clone();
                Some(Journal::start(settings.clone(), host, cursor, 0, sender, &status)?)
            }
        };
        let mut receivers = Vec::new();
        for settings in &config.syslog {
            let (place, name) = (sources.len(), settings.listen.to_string());
            let receiver = Listener::syslog(
                settings.clone(),
                config.host.clone(),
                place,
                sender.clone(),
                &status,
            )?;
            receivers.push(receiver);
            sources.push(PushedSource::new(name, false, settings.stages.start(), None));
        }
        if let Some(settings) = &config.stdin {
            let (place, name) = (sources.len(), "stdin".to_owned());
            let (sender, host) = (sender.clone(), config.host.clone());
            receivers.push(Listener::stdin(settings.clone(), host, place, sender, &status)?);
            sources.push(PushedSource::new(name, false, settings.stages.start(), None));
        }
        drop(sender);
        let mut files = Files::new(config.files, config.host, positions);
        for source in sources.iter_mut().filter(|source| source.has_positions) {
            source.id.get_or_insert_with(|| files.positions.next_id());
        }
        let mut batch = LinesBatch::default();
        for (tenant, lines) in spool.last_batches() {
            batch.remember(tenant.as_deref(), &lines);
        }
        let running = Running {
            linger: config.linger,
            files,
            sources,
            spool,
            status,
            counters,
            put,
            handed_in,
            stop: Arc::clone(&stop),
            batch,
            scratch: Scratch::new(),
            filling_since: None,
            counted: BatchCounts::default(),
            noted_at: Instant::now(),
            list_at: Instant::now(),
        };
        let thread = thread::Builder::new()
            .name(THREAD_NAME.to_owned())
            .spawn(move || running.run())
            .map_err(|source| AgentError::Thread { name: THREAD_NAME, source })?;
        Ok(Collector { stop, thread: Some(thread), _journal: journal, receivers })
    }

    /// Where syslog is received, in the order of the configuration.
    pub(crate) fn addresses(&self) -> Vec<SocketAddr> {
        self.receivers.iter().filter_map(|receiver| receiver.address).collect()
    }

    /// Ends collecting; what was read is in the spool, or will be read again.
    pub(crate) fn stop(&mut self) {
        // Whoever sends is turned away first: what came is taken.
        self.receivers.clear();
        self.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the collection of lines panicked; it goes on after a restart");
        }
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A source that hands its lines in.
struct PushedSource {
    name: String,
    /// Whether it can be asked again from a place on.
    has_positions: bool,
    id: Option<SourceId>,
    pipeline: Box<dyn Pipeline>,
    /// The number of the next line.
    next: u64,
    /// Lines from the first on that the pipeline holds, with their names.
    names: std::collections::VecDeque<(u64, String)>,
    /// The name before the first of them, and the number behind it.
    anchor: (String, u64),
    replay: Option<Position>,
    is_dirty: bool,
    lines: u64,
}

impl PushedSource {
    fn new(
        name: String,
        has_positions: bool,
        pipeline: Box<dyn Pipeline>,
        known: Option<(SourceId, Position)>,
    ) -> Self {
        let mut source = PushedSource {
            name,
            has_positions,
            id: None,
            pipeline,
            next: 0,
            names: std::collections::VecDeque::new(),
            anchor: (String::new(), 0),
            replay: None,
            is_dirty: false,
            lines: 0,
        };
        if let Some((id, position)) = known
            && let SourceState::Entries { cursor, from, .. } = &position.source
        {
            (source.id, source.next) = (Some(id), *from);
            source.anchor = (cursor.clone(), *from);
            source.replay = Some(position);
        }
        source
    }

    fn take(&mut self, named: &mut Named, now: Instant, out: &mut LinesBatch) {
        let number = self.next;
        self.next += 1;
        if !named.cursor.is_empty() {
            self.names.push_back((number, std::mem::take(&mut named.cursor)));
            self.is_dirty = true;
        }
        if self.replay.as_ref().is_some_and(|position| position.is_done(number)) {
            return;
        }
        self.lines += 1;
        named.entry.offset = number;
        self.pipeline.process(&mut named.entry, now, out);
    }

    fn update(&mut self) -> Update {
        self.is_dirty = false;
        let mut held = Vec::new();
        self.pipeline.held(&mut held);
        let mut through = self.next;
        match &self.replay {
            Some(replay) if self.next < replay.through => {
                held.extend(replay.held.iter().filter(|number| **number >= self.next));
                through = replay.through;
            }
            _ => self.replay = None,
        }
        held.sort_unstable();
        held.dedup();
        let first = held.first().copied().unwrap_or(through);
        while let Some((number, name)) = self.names.pop_front_if(|(number, _)| *number < first) {
            self.anchor = (name, number + 1);
        }
        let (cursor, from) = self.anchor.clone();
        let source = SourceState::Entries { name: self.name.clone(), cursor, from };
        let position = Position { through, held, source, gone_ms: None };
        Update { id: self.id.expect("it was numbered"), position }
    }
}

struct Running {
    linger: Duration,
    files: Files,
    sources: Vec<PushedSource>,
    spool: Arc<LineSpool>,
    status: Arc<CollectionStatus>,
    counters: Arc<SpoolCounters>,
    put: Box<dyn Fn() + Send>,
    handed_in: Receiver<HandedIn>,
    stop: Arc<AtomicBool>,
    batch: LinesBatch,
    scratch: Scratch,
    filling_since: Option<Instant>,
    /// What of the batch's counts is in the status.
    counted: BatchCounts,
    noted_at: Instant,
    /// When the sources are listed again.
    list_at: Instant,
}

impl Running {
    fn run(mut self) {
        let (mut scan_at, mut tell_at) = (Instant::now(), Instant::now());
        while !self.stop.load(Ordering::Acquire) {
            let now = Now::get();
            if now.at >= scan_at {
                self.files.scan(now, &self.status);
                let is_many = self.status.files.get() > MANY;
                scan_at = now.at + if is_many { SCAN_MANY_EVERY } else { SCAN_EVERY };
            }
            let turn = self.files.turn(&mut self.scratch, now, &mut self.batch, &self.status);
            self.flush_sources(now);
            if !self.batch.is_empty() {
                self.filling_since.get_or_insert(now.at);
            }
            let is_full = turn == Turn::Full || self.batch.bytes() >= BATCH_BYTES;
            let lingered = self.filling_since.is_some_and(|since| now.at - since >= self.linger);
            if (is_full || lingered) && !self.keep() {
                // Nothing is read until there is room.
                thread::sleep(RETRY);
                continue;
            }
            if self.batch.is_empty() && now.at - self.noted_at >= NOTE_EVERY {
                self.note(now);
                self.see_whether_stdin_ended();
            }
            self.spool.write_positions(now, false);
            if now.at >= tell_at {
                tell_at = now.at + TELL_EVERY;
                self.tell();
            }
            if turn == Turn::Done {
                self.receive(scan_at);
            }
        }
        while let Ok(handed_in) = self.handed_in.try_recv() {
            self.take(handed_in);
        }
        let (sources, batch) = (&mut self.sources, &mut self.batch);
        for source in sources.iter_mut().filter(|source| !source.has_positions) {
            source.pipeline.flush(None, batch);
        }
        self.keep();
        self.spool.write_positions(Now::get(), true);
    }

    /// Waits for lines of other sources until something else is due.
    fn receive(&mut self, scan_at: Instant) {
        let now = Instant::now();
        let mut until = (now + TICK).min(scan_at);
        until = until.min(self.files.next_poll());
        if let Some(since) = self.filling_since {
            until = until.min(since + self.linger);
        }
        let wait = until.saturating_duration_since(now).max(SHORTEST);
        match self.handed_in.recv_timeout(wait) {
            Ok(handed_in) => self.take(handed_in),
            Err(RecvTimeoutError::Timeout) => return,
            Err(RecvTimeoutError::Disconnected) => {
                thread::sleep(wait);
                return;
            }
        }
        while self.batch.bytes() < BATCH_BYTES
            && let Ok(handed_in) = self.handed_in.try_recv()
        {
            self.take(handed_in);
        }
    }

    fn take(&mut self, mut handed_in: HandedIn) {
        let now = Instant::now();
        let source = &mut self.sources[handed_in.source];
        for named in &mut handed_in.entries {
            source.take(named, now, &mut self.batch);
        }
    }

    fn flush_sources(&mut self, now: Now) {
        for source in &mut self.sources {
            if source.pipeline.deadline().is_some_and(|deadline| deadline <= now.at) {
                source.pipeline.flush(Some(now.at), &mut self.batch);
                source.is_dirty = true;
            }
        }
    }

    fn updates(&mut self, now: Now) -> Vec<Update> {
        let mut updates = self.files.updates(now.wall_ms);
        let is_moved = |source: &&mut PushedSource| source.is_dirty && source.has_positions;
        for source in self.sources.iter_mut().filter(is_moved) {
            updates.push(source.update());
        }
        updates
    }

    /// Makes the batch durable with the positions behind it; false if it is not taken.
    fn keep(&mut self) -> bool {
        let now = Now::get();
        if self.batch.is_empty() {
            return true;
        }
        let updates = self.updates(now);
        let mut is_kept = self.spool.put(&self.batch.batches(), &updates, now);
        while !is_kept {
            self.status.waiting.set(1);
            if self.stop.load(Ordering::Acquire) {
                return false;
            }
            self.spool.write_positions(Now::get(), false);
            self.tell();
            thread::sleep(RETRY);
            is_kept = self.spool.put(&self.batch.batches(), &updates, Now::get());
        }
        self.status.waiting.set(0);
        self.filling_since = None;
        let (counts, counted) = (self.batch.counts, self.counted);
        self.counted = counts;
        let status = &self.status;
        status.lines.add(counts.lines - counted.lines);
        status.line_bytes.add(counts.bytes - counted.bytes);
        status.cut_lines.add(counts.cut - counted.cut);
        status.unlabelled_lines.add(counts.unlabelled - counted.unlabelled);
        status.batches.add(1);
        self.batch.clear();
        self.noted_at = now.at;
        (self.put)();
        is_kept
    }

    /// Notes positions behind which there was no line to keep.
    fn note(&mut self, now: Now) {
        self.noted_at = now.at;
        let updates = self.updates(now);
        if !updates.is_empty() {
            self.spool.note(updates);
        }
    }

    /// Lets go of what stages hold of standard input, when nothing will follow.
    fn see_whether_stdin_ended(&mut self) {
        if self.status.stdin_ended.get() != 1 {
            return;
        }
        // The last of it was handed in before that was said.
        while let Ok(handed_in) = self.handed_in.try_recv() {
            self.take(handed_in);
        }
        let stdin = self.sources.iter_mut().find(|source| source.name == "stdin");
        if let Some(source) = stdin {
            source.pipeline.flush(None, &mut self.batch);
        }
        // Until that is kept, batches are pending.
        let pending = self.spool.pending_batches() + usize::from(!self.batch.is_empty());
        self.status.pending_batches.set(pending);
        self.status.stdin_ended.set(2);
    }

    fn tell(&mut self) {
        let lag: u64 = self.files.iter().map(Tailed::lag_bytes).sum();
        self.status.lag_bytes.set(usize::try_from(lag).unwrap_or(usize::MAX));
        let bytes = self.counters.size_and_limit_bytes().0;
        self.status.spool_bytes.set(usize::try_from(bytes).unwrap_or(usize::MAX));
        let pending = self.spool.pending_batches() + usize::from(!self.batch.is_empty());
        self.status.pending_batches.set(pending);
        let now = Instant::now();
        if now >= self.list_at {
            // A list of many costs more than looking after them.
            let is_many = self.status.files.get() > MANY;
            self.list_at = if is_many { now + SCAN_MANY_EVERY } else { now };
            self.list(now);
        }
    }

    fn list(&self, now: Instant) {
        let mut sources: Vec<SourceStatus> =
            self.files.iter().map(|file| file.status(now)).collect();
        for source in &self.sources {
            sources.push(SourceStatus {
                name: source.name.clone(),
                kind: SourceKind::Stream,
                state: Progress::Reading,
                read: source.next,
                size_bytes: 0,
                lag_bytes: 0,
                lines: source.lines,
                modified_ms: None,
                error: None,
            });
        }
        sources.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        *self.status.sources.lock() = sources;
    }
}
