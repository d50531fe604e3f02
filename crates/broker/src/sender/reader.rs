//! The thread that reads the log for one remote and keeps account of what is delivered.
//!
//! The log is the queue. A *cursor* says before where everything is delivered or given up; it is
//! kept in the catalog, and the log from there on is kept on the disk. What lies between cursor and
//! the place that is read is in the shards, in memory; after a restart it is read again.

use std::collections::{HashMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use blockstore::{Disk, Frame, FrameKind, LogTail, Tailed};
use catalog::{Command, Expected, LogPosition, StoreId};
use metricstore::{HistogramRow, LogDecoder, ResolvedBatch};
use model::{Exemplar, Labels};
use parking_lot::Mutex;
use settings::prometheus::RemoteWriteMessage;

use super::counters::Dropped;
use super::delivery::Delivery;
use super::left_out::LeftOut;
use super::resharding::{self, Measured, Resharding};
use super::rows::{Amount, Chunk, HistogramValue, Kind, Row, Value};
use super::series::{Sendable, SeriesTable};
use super::shards::{ShardSet, spread};
use crate::commit::{CommitQueue, Message};
use crate::following::Following;
use crate::in_effect::InEffect;
use crate::{agent_frame, aggregation};

/// What has come is read at most so often; it goes out in batches anyway.
const GATHER: Duration = Duration::from_millis(50);
/// How long to wait for something before looking at the clock.
const LOOK: Duration = Duration::from_millis(250);
/// After a fault of the disk nothing is read for this long.
const RETRY: Duration = Duration::from_secs(1);
/// Rows of a frame that are unpacked at once: a frame may hold millions.
const SLICE_ROWS: usize = 1 << 16;
/// How often it is looked at how much waits: what comes meanwhile lies beyond the limit.
const COUNT_EVERY: Duration = Duration::from_millis(250);
/// How often the cursor is written; what was delivered since is sent again after a crash.
const SAVE_EVERY: Duration = Duration::from_secs(5);
/// How long the last cursor may take.
const LAST_SAVE: Duration = Duration::from_secs(5);

/// What a reader is made of.
pub(super) struct ReaderParts {
    /// In the catalog.
    pub(super) key: String,
    pub(super) delivery: Arc<Delivery>,
    pub(super) external: Labels,
    pub(super) disk: Arc<dyn Disk>,
    pub(super) store: StoreId,
    pub(super) following: Arc<Following>,
    pub(super) committer: CommitQueue,
    pub(super) cursor: LogPosition,
    /// Most bytes of log that wait for this remote.
    pub(super) in_effect: Arc<InEffect>,
    pub(super) stop: Arc<Stop>,
}

/// Tells a reader to end.
#[derive(Debug, Default)]
pub(super) struct Stop(Mutex<Option<Instant>>);

impl Stop {
    /// Until `deadline` it still reads and sends what is durable.
    pub(super) fn at(&self, deadline: Instant) {
        *self.0.lock() = Some(deadline);
    }

    fn deadline(&self) -> Option<Instant> {
        *self.0.lock()
    }
}

/// The thread's state.
pub(super) struct Reader {
    parts: ReaderParts,
    tail: LogTail,
    /// The file whose series `decoder` and `table` know.
    file: u64,
    decoder: LogDecoder,
    table: SeriesTable,
    batch: ResolvedBatch,
    /// Of the decoded frame, by series, where they are sent.
    exemplars: HashMap<u32, Vec<Exemplar>>,
    shards: ShardSet,
    /// Chunks of the frame that is being handed out, each with its shard.
    pending: VecDeque<(usize, Chunk)>,
    /// Frames that were handed out, with their ends, the oldest first.
    frames: VecDeque<(u64, LogPosition)>,
    next_frame: u64,
    /// Through where frames were handed out.
    read_through: LogPosition,
    /// Before where everything is delivered or given up.
    cursor: LogPosition,
    saved: Saved,
    /// What lies before it is given up: the log may not be kept any longer.
    floor: LogPosition,
    resharding: Resharding,
    due: Due,
    seen: Seen,
}

/// The cursor as it was last sent to the catalog, and as it is durable there.
struct Saved {
    sent: LogPosition,
    durable: Arc<Mutex<LogPosition>>,
    /// Whether samples were delivered since.
    is_behind: bool,
}

/// When something is done next.
struct Due {
    count: Instant,
    save: Instant,
    reshard: Instant,
}

/// What the last look at the number of shards saw.
#[derive(Default)]
struct Seen {
    at: Option<Instant>,
    delivered: u64,
    busy_micros: u64,
    /// Rows and bytes of log that were read, all together.
    rows: u64,
    bytes: u64,
    arrived: f64,
}

fn exemplar_row(series: &Sendable, exemplar: Exemplar) -> Row {
    let (labels, hash, t_ms) = (series.labels.clone(), series.hash, exemplar.t_ms);
    Row { labels, hash, t_ms, value: Value::Exemplar(Box::new(exemplar)) }
}

impl Reader {
    pub(super) fn new(parts: ReaderParts) -> Self {
        // Series are defined by the frames of their file: those before the cursor are read for them.
        let begin = LogPosition { file: parts.cursor.file, offset: 0 };
        let tail = LogTail::new(Arc::clone(&parts.disk), parts.store, begin);
        let min_shards = usize::try_from(parts.delivery.remote().queue.min_shards).unwrap_or(1);
        let shards = ShardSet::start(&parts.delivery, min_shards);
        let now = Instant::now();
        let cursor = parts.cursor;
        Reader {
            parts,
            tail,
            file: cursor.file,
            decoder: LogDecoder::new(),
            table: SeriesTable::default(),
            batch: ResolvedBatch::default(),
            exemplars: HashMap::new(),
            shards,
            pending: VecDeque::new(),
            frames: VecDeque::new(),
            next_frame: 0,
            read_through: cursor,
            cursor,
            saved: Saved { sent: cursor, durable: Arc::new(Mutex::new(cursor)), is_behind: false },
            floor: LogPosition::default(),
            resharding: Resharding::default(),
            due: Due { count: now, save: now + SAVE_EVERY, reshard: now + resharding::EVERY },
            seen: Seen::default(),
        }
    }

    /// Reads and hands out until told to stop.
    pub(super) fn run(mut self) {
        loop {
            let until = self.parts.following.durable();
            let is_at_end = self.tail.position() >= until;
            match self.parts.stop.deadline() {
                Some(deadline) if is_at_end || Instant::now() >= deadline => break,
                _ => {}
            }
            self.look_at_the_clock();
            if is_at_end {
                self.parts.following.wait_beyond(until, LOOK);
                if self.parts.stop.deadline().is_none() {
                    std::thread::sleep(GATHER);
                }
                continue;
            }
            match self.tail.read(until) {
                Ok(tailed) => self.take(tailed),
                Err(error) => {
                    self.parts.delivery.complain("the log cannot be read", &error.to_string());
                    std::thread::sleep(RETRY);
                }
            }
        }
        if let Some(deadline) = self.parts.stop.deadline() {
            self.shards.finish(deadline);
        }
        self.advance();
        self.save_and_wait();
    }

    fn take(&mut self, tailed: Tailed) {
        if tailed.is_cut || tailed.damaged_bytes > 0 {
            self.parts.delivery.counters().gaps.fetch_add(1, Relaxed);
            let what = match tailed.is_cut {
                true => "files of the log are gone; what was in them is not sent".to_owned(),
                false => format!("{} damaged bytes of the log are not sent", tailed.damaged_bytes),
            };
            self.parts.delivery.complain("a part of the log is missing", &what);
        }
        for frame in tailed.frames {
            if self.is_to_leave() {
                return;
            }
            self.take_frame(&frame);
        }
        if !self.is_to_leave() {
            self.read_through = self.read_through.max(self.tail.position());
        }
    }

    /// Whether what is not handed out yet is left for the next start.
    fn is_to_leave(&self) -> bool {
        self.parts.stop.deadline().is_some_and(|deadline| Instant::now() >= deadline)
    }

    fn take_frame(&mut self, frame: &Frame) {
        if frame.position.file != self.file {
            self.file = frame.position.file;
            self.decoder = LogDecoder::new();
            self.table.clear();
        }
        let samples = match frame.kind {
            FrameKind::AgentMetrics => match agent_frame::split(&frame.payload) {
                Ok((_, samples)) => samples,
                Err(reason) => return self.unusable(frame, &reason),
            },
            FrameKind::Aggregated => match aggregation::frame::split(&frame.payload) {
                Ok(parts) => parts.samples,
                Err(reason) => return self.unusable(frame, &reason),
            },
            FrameKind::AggregationEnd => return,
            _ => frame.payload.clone(),
        };
        if samples.is_empty() {
            return;
        }
        let parts = &self.parts;
        let rules = &parts.delivery.remote().write_relabel_configs;
        let table = &mut self.table;
        let mut define =
            |tenant, labels: Labels| table.define(tenant, &labels, &parts.external, rules);
        if frame.position < parts.cursor {
            if let Err(error) = self.decoder.define_as(&samples, &mut define) {
                self.unusable(frame, &error.to_string());
            }
            return;
        }
        let decoded = self.decoder.decode_as(&samples, &mut define, 1, &mut self.batch);
        if let Err(error) = decoded {
            return self.unusable(frame, &error.to_string());
        }
        self.seen.rows += self.batch.rows() as u64;
        self.seen.bytes += samples.len() as u64;
        self.exemplars.clear();
        if self.parts.delivery.remote().send_exemplars {
            match self.decoder.take_exemplars() {
                Ok(exemplars) => exemplars.into_iter().for_each(|(ordinal, exemplar)| {
                    self.exemplars.entry(ordinal).or_default().push(exemplar);
                }),
                Err(error) => self.unusable(frame, &error.to_string()),
            }
        }
        let number = self.next_frame;
        self.next_frame += 1;
        let floats = self.batch.shards[0].ordinals.len();
        for begin in (0..floats).step_by(SLICE_ROWS) {
            let rows = self.floats(begin..floats.min(begin + SLICE_ROWS));
            self.hand_out(frame, number, rows);
        }
        let rows = self.histograms();
        self.hand_out(frame, number, rows);
        let rows = self.exemplars_alone();
        self.hand_out(frame, number, rows);
        self.frames.push_back((number, frame.end));
        self.read_through = frame.end;
    }

    fn unusable(&self, frame: &Frame, reason: &str) {
        self.parts.delivery.counters().gaps.fetch_add(1, Relaxed);
        let text = format!("{} of the log: {reason}", frame.position);
        self.parts.delivery.complain("a frame cannot be sent", &text);
    }

    /// The floats of the decoded frame that are sent, of so many of its rows.
    fn floats(&mut self, range: Range<usize>) -> Vec<Row> {
        let delivery = &self.parts.delivery;
        let oldest_ms = delivery.oldest_ms().unwrap_or(i64::MIN);
        let columns = &self.batch.shards[0];
        let mut rows = Vec::with_capacity(range.len());
        let mut dropped = LeftOut::default();
        for at in range {
            let (t_ms, value) = (columns.timestamps_ms[at], columns.values[at]);
            let series = self.table.get_mut(columns.ordinals[at]);
            let Some(series) = dropped.check(series, t_ms, oldest_ms) else { continue };
            let (labels, hash) = (series.labels.clone(), series.hash);
            let value = Value::Float { value, start_ms: columns.start_ms(at) };
            rows.push(Row { labels, hash, t_ms, value });
            if let Some(exemplars) = self.exemplars.remove(&columns.ordinals[at]) {
                rows.extend(exemplars.into_iter().map(|one| exemplar_row(series, one)));
            }
        }
        for (count, why) in dropped.reasons() {
            delivery.counters().drop_rows(Amount::of_kind(Kind::Float, count), why);
        }
        rows
    }

    /// The histograms of the decoded frame that are sent.
    fn histograms(&mut self) -> Vec<Row> {
        let delivery = &self.parts.delivery;
        let columns = &mut self.batch.shards[0];
        if !delivery.remote().send_native_histograms {
            columns.histograms.clear();
        }
        let oldest_ms = delivery.oldest_ms().unwrap_or(i64::MIN);
        let takes_custom = delivery.message() == RemoteWriteMessage::V2;
        let mut rows = Vec::with_capacity(columns.histograms.len());
        let mut dropped = LeftOut::default();
        for HistogramRow { ordinal, t_ms, start_ms, histogram } in columns.histograms.drain(..) {
            let series = self.table.get_mut(ordinal);
            let Some(series) = dropped.check(series, t_ms, oldest_ms) else { continue };
            if !takes_custom && histogram.layout().is_custom() {
                dropped.custom += 1;
                continue;
            }
            let (labels, hash) = (series.labels.clone(), series.hash);
            let value = Value::Histogram(Box::new(HistogramValue { start_ms, histogram }));
            rows.push(Row { labels, hash, t_ms, value });
            if let Some(exemplars) = self.exemplars.remove(&ordinal) {
                rows.extend(exemplars.into_iter().map(|one| exemplar_row(series, one)));
            }
        }
        for (count, why) in dropped.reasons() {
            delivery.counters().drop_rows(Amount::of_kind(Kind::Histogram, count), why);
        }
        rows
    }

    /// The exemplars of the decoded frame whose series has no samples in it. Version 2 has no place
    /// for them: by its specification an entry without samples is malformed.
    fn exemplars_alone(&mut self) -> Vec<Row> {
        let delivery = &self.parts.delivery;
        let takes_them = delivery.message() == RemoteWriteMessage::V1;
        let mut rows = Vec::new();
        let mut alone = 0;
        for (ordinal, exemplars) in std::mem::take(&mut self.exemplars) {
            match self.table.get_mut(ordinal) {
                Some(series) if takes_them => {
                    rows.extend(exemplars.into_iter().map(|one| exemplar_row(series, one)));
                }
                _ => alone += exemplars.len() as u64,
            }
        }
        if alone > 0 {
            let amount = Amount::of_kind(Kind::Exemplar, alone);
            delivery.counters().drop_rows(amount, Dropped::Series);
        }
        rows
    }

    /// Hands rows to the shards, which takes as long as they are full.
    fn hand_out(&mut self, frame: &Frame, number: u64, mut rows: Vec<Row>) {
        let newest = rows.iter().map(|row| row.t_ms).max().unwrap_or(i64::MIN);
        self.parts.delivery.counters().newest_read_ms.fetch_max(newest, Relaxed);
        if frame.position < self.floor {
            self.parts.delivery.counters().drop_rows(Amount::of(&rows), Dropped::LogLimit);
            return;
        }
        let most = self.parts.delivery.remote().queue.max_samples_per_send;
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        let at = Instant::now();
        while !rows.is_empty() {
            let is_sample = |row: &Row| row.kind() != Kind::Exemplar;
            // Exemplars stay with the sample before them.
            let end = match rows.get(most..) {
                Some(rest) => most + rest.iter().position(is_sample).unwrap_or(rest.len()),
                None => rows.len(),
            };
            let later = rows.split_off(end);
            let chunk = Chunk { frame: number, at, rows };
            self.pending.extend(spread(chunk, self.shards.count()));
            rows = later;
        }
        while let Some((shard, chunk)) = self.pending.pop_front() {
            let Err(chunk) = self.shards.push(shard, chunk) else { continue };
            self.pending.push_front((shard, chunk));
            self.parts.delivery.counters().enqueue_retries.fetch_add(1, Relaxed);
            let space = Arc::clone(self.shards.space());
            space.wait(GATHER);
            self.look_at_the_clock();
            if frame.position < self.floor {
                let rows = self.pending.iter().flat_map(|(_, chunk)| &chunk.rows);
                let amount = Amount::of(rows);
                self.parts.delivery.counters().drop_rows(amount, Dropped::LogLimit);
                self.pending.clear();
            } else if self.is_to_leave() {
                // The cursor stays before the frame as long as something of it is pending.
                return;
            }
        }
    }

    fn look_at_the_clock(&mut self) {
        let now = Instant::now();
        if now >= self.due.count {
            self.due.count = now + COUNT_EVERY;
            self.advance();
            self.keep_within_limit();
        }
        if now >= self.due.save {
            self.due.save = now + SAVE_EVERY;
            self.save();
        }
        if now >= self.due.reshard {
            self.due.reshard = now + resharding::EVERY;
            self.reshard(now);
        }
    }

    /// Moves the cursor over all frames of which nothing is outstanding.
    fn advance(&mut self) {
        let pending = self.pending.front().map(|(_, chunk)| chunk.frame);
        let outstanding = self.shards.first_outstanding().into_iter().chain(pending).min();
        while let Some(&(number, end)) = self.frames.front() {
            if outstanding.is_some_and(|first| number >= first) {
                return;
            }
            self.cursor = self.cursor.max(end);
            self.saved.is_behind = true;
            self.frames.pop_front();
        }
        if outstanding.is_none() {
            self.cursor = self.cursor.max(self.read_through);
        }
    }

    /// Gives up what is beyond the limit, or takes more of the disk than is free.
    fn keep_within_limit(&mut self) {
        let parts = &self.parts;
        let until = parts.following.durable();
        let begin = self.cursor.max(self.floor);
        let behind = LogTail::bytes_between(&*parts.disk, begin, until).unwrap_or_default();
        parts.delivery.counters().behind_bytes.store(behind, Relaxed);
        let free = parts.disk.free_space_bytes().unwrap_or(u64::MAX);
        let allowed_bytes = parts.in_effect.get().remote_write_limit_bytes;
        let limit_bytes = allowed_bytes.min(free);
        if behind > limit_bytes {
            let oldest = LogTail::oldest_within(&*parts.disk, until, limit_bytes);
            let oldest = oldest.unwrap_or_default();
            if oldest > begin {
                tracing::warn!(
                    remote = parts.delivery.parts.name,
                    waiting_bytes = behind,
                    limit_bytes = allowed_bytes,
                    free_bytes = free,
                    "too much log waits for the remote: the oldest samples are dropped; see why it \
                     does not take them, raise remote_write.limit_bytes or free space"
                );
                self.floor = oldest;
            }
        }
        self.hold();
    }

    /// Says from where on the log is needed. The cursor in memory would not do: a restart begins at
    /// the one in the catalog.
    fn hold(&self) {
        // What is given up is read first, so that it can be counted.
        let from = (*self.saved.durable.lock()).max(self.floor.min(self.read_through));
        let following = &self.parts.following;
        let before = following.keep();
        following.hold(&self.parts.key, from);
        let file = |position: Option<LogPosition>| position.map(|position| position.file);
        if file(before) < file(following.keep()) {
            let _ = self.parts.committer.send(Message::LetGo);
        }
    }

    /// Writes the cursor into the catalog, if it has moved over samples or into another file. The
    /// cursor's own frames are no reason: each would be followed by the next.
    fn save(&mut self) {
        if !self.saved.is_behind && self.cursor.file == self.saved.sent.file {
            return;
        }
        let cursor = self.cursor;
        let durable = Arc::clone(&self.saved.durable);
        let done = Box::new(move |outcome: Result<_, _>| {
            // On a full disk the next attempt may do better.
            if outcome.is_ok() {
                *durable.lock() = cursor;
            }
        });
        let command = put_cursor(&self.parts.key, cursor);
        if self.parts.committer.send(Message::Command { command, done }).is_ok() {
            self.saved.sent = cursor;
            self.saved.is_behind = false;
        }
    }

    /// Writes the last cursor and waits until it is durable.
    fn save_and_wait(&mut self) {
        self.save();
        let begun = Instant::now();
        while *self.saved.durable.lock() < self.saved.sent && begun.elapsed() < LAST_SAVE {
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    fn reshard(&mut self, now: Instant) {
        let Some(desired) = self.desired_shards(now) else { return };
        let delivery = Arc::clone(&self.parts.delivery);
        delivery.counters().set_desired_shards(desired);
        let bound = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
        let queue = &delivery.remote().queue;
        let (min, max) = (bound(queue.min_shards), bound(queue.max_shards));
        let present = self.shards.count();
        let wanted = resharding::number(desired, present, min, max);
        if wanted == present || self.parts.stop.deadline().is_some() {
            return;
        }
        tracing::info!(
            remote = delivery.parts.name,
            from = present,
            to = wanted,
            "remote write: another number of shards"
        );
        self.shards.resize(wanted);
        let pending = std::mem::take(&mut self.pending);
        self.pending.extend(pending.into_iter().flat_map(|(_, chunk)| spread(chunk, wanted)));
    }

    fn desired_shards(&mut self, now: Instant) -> Option<f64> {
        let counters = self.parts.delivery.counters();
        let delivered = counters.delivered_rows.load(Relaxed);
        let busy_micros = counters.busy_micros.load(Relaxed);
        let in_shards =
            counters.floats.pending.load(Relaxed) + counters.histograms.pending.load(Relaxed);
        // What lies in the log is not counted in rows; it holds as many per byte as what was read.
        let per_byte = self.seen.rows as f64 / self.seen.bytes.max(1) as f64;
        let until = self.parts.following.durable();
        let unread = LogTail::bytes_between(&*self.parts.disk, self.read_through, until);
        let unread = unread.unwrap_or_default() as f64 * per_byte;
        let arrived = self.seen.rows as f64 + unread;
        let measured = Measured {
            elapsed: self.seen.at.map(|at| now.duration_since(at)).unwrap_or_default(),
            arrived: (arrived - self.seen.arrived).max(0.0),
            delivered: delivered - self.seen.delivered,
            busy: Duration::from_micros(busy_micros - self.seen.busy_micros),
            waiting: in_shards.max(0) as f64 + unread,
        };
        self.seen.at = Some(now);
        (self.seen.delivered, self.seen.busy_micros) = (delivered, busy_micros);
        self.seen.arrived = arrived;
        self.resharding.desired(&measured)
    }
}

/// The command that keeps a cursor.
pub(super) fn put_cursor(key: &str, cursor: LogPosition) -> Command {
    let value = cursor.to_string().into_bytes();
    Command::Put { key: key.to_owned(), value, expected: Expected::Any }
}

/// Reads what [`put_cursor`] wrote.
pub(super) fn read_cursor(value: &[u8]) -> Option<LogPosition> {
    let (file, offset) = std::str::from_utf8(value).ok()?.split_once(':')?;
    Some(LogPosition { file: file.parse().ok()?, offset: offset.parse().ok()? })
}
