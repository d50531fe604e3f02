//! The thread that reads the log for the rules, ends their windows and writes what they say.

use std::sync::atomic::Ordering;
use std::sync::mpsc::channel;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use blockstore::{BlobError, Disk, LogTail};
use catalog::{Expected, LogPosition};
use crossbeam_channel::bounded;
use model::{DEFAULT_TENANT, Histogram, MetricBatch};

use settings::stream_aggregation::AggregationRule;

use super::Aggregation;
use super::file::{self, Opened};
use super::group::Value;
use super::orders::{Order, Orders};
use super::rule::Written;
use super::state::State;
use crate::commit::{CommitError, Message};
use crate::committer::stop;
use crate::following::Following;
use crate::{Broker, Complaints, Inner};

/// Its name among the readers of the log.
pub(crate) const READER: &str = "stream_aggregation";
/// Through which end of windows everything is written, in the catalog.
const WRITTEN_KEY: &str = "stream_aggregation/written";
/// How long to wait for something before looking at the clock.
const LOOK: Duration = Duration::from_millis(100);
/// After a fault nothing is tried for this long.
const RETRY: Duration = Duration::from_secs(1);
/// Samples that are written at once.
const BATCH_SAMPLES: usize = 100_000;
/// The windows are written to their file at least so often, so that a start has little to read.
const SAVE_EVERY: Duration = Duration::from_secs(60);
/// How often it is looked how much memory the windows take.
const MEASURE_EVERY: Duration = Duration::from_secs(1);
/// A series without samples for this long is forgotten by the registry, as others are.
const IDLE_MS: i64 = 2 * 60 * 60 * 1_000;
/// … and all are when there are no rules: every one was last seen before a minute from now.
const NOT_IDLE_MS: i64 = -2 * 60 * 1_000;

/// The thread's state.
pub(crate) struct Follower {
    broker: Weak<Inner>,
    aggregation: Arc<Aggregation>,
    orders: Arc<Orders>,
    following: Arc<Following>,
    disk: Arc<dyn Disk>,
    tail: LogTail,
    state: State,
    /// Everything of windows that ended up to here is stored, since the clock was set back last.
    written_ms: i64,
    /// Whether the catalog has that of rules of before.
    is_outdated: bool,
    /// Whether all that windows said is stored; if not, a start reads them again.
    is_whole: bool,
    saved: LogPosition,
    saved_at: Instant,
    measured_at: Option<Instant>,
    complaints: Complaints,
}

impl Follower {
    /// What a start found, for a broker that is there but for its threads.
    pub(super) fn new(opened: Opened, broker: &Broker, orders: Arc<Orders>) -> Follower {
        let Opened { state, disk, is_new } = opened;
        let store = broker
            .inner
            .catalog
            .read(catalog::State::store)
            .expect("a start gives the store a name");
        let written = broker.get_key(WRITTEN_KEY);
        // Rules that begin anew have written nothing, wherever the clock stood for those of before.
        let is_outdated = is_new && written.is_some();
        let written = written.filter(|_| !is_new);
        let written =
            written.and_then(|value| std::str::from_utf8(&value.value).ok()?.parse().ok());
        Follower {
            broker: Arc::downgrade(&broker.inner),
            aggregation: Arc::clone(&broker.inner.aggregation),
            orders,
            following: Arc::clone(&broker.inner.following),
            // The file from its beginning, because that is where its series are named.
            tail: LogTail::new(
                Arc::clone(&disk),
                store,
                LogPosition { offset: 0, ..state.through },
            ),
            disk,
            written_ms: written.unwrap_or(i64::MIN),
            is_outdated,
            is_whole: true,
            saved: state.through,
            state,
            saved_at: Instant::now(),
            measured_at: None,
            complaints: Complaints::default(),
        }
    }

    /// Follows the log until the broker stops, or there are no rules any more.
    pub(crate) fn run(mut self) {
        self.follow();
        self.orders.end();
    }

    fn follow(&mut self) {
        if self.is_outdated {
            self.forget_written();
        }
        while !self.is_stopping() && self.read() {
            if !self.take_orders() {
                self.end();
                return;
            }
            self.end_windows();
            self.save_if_due();
            self.following.wait_beyond(self.tail.position(), LOOK);
        }
        // What was acknowledged until now counts for windows that are to be written at a stop.
        if self.is_whole && self.read() {
            self.end_early();
            self.save();
        }
    }

    /// Begins and ends rules as it is told. Whether there are any then.
    fn take_orders(&mut self) -> bool {
        while let Some(order) = self.orders.take() {
            match order {
                Order::Begin { rules, reply } => {
                    // Whoever does not wait any more tells to forget them.
                    let _ = reply.send(self.begin_rules(&rules));
                }
                Order::Forget { rules } => {
                    self.state.forget_rules(&rules);
                    if self.state.rules().is_empty() {
                        return false;
                    }
                    self.save();
                }
                Order::Keep { rules, through } => {
                    while self.tail.position() < through && !self.is_stopping() {
                        if !self.read() {
                            return true;
                        }
                    }
                    // What came while the follower was busy is of windows that are over by now.
                    if !self.end_due_windows() {
                        return true;
                    }
                    let Some(broker) = self.broker() else { return true };
                    let mut out = Vec::new();
                    self.state.keep_rules(&rules, broker.now_ms(), &mut out);
                    drop(broker);
                    self.is_whole = self.write(&out);
                    self.save();
                    if rules.is_empty() {
                        return false;
                    }
                }
            }
        }
        true
    }

    /// Begins rules and makes that durable; or neither, and why.
    fn begin_rules(&mut self, rules: &[AggregationRule]) -> Result<(), String> {
        let Some(broker) = self.broker() else { return Err("the broker is stopping".to_owned()) };
        let before = self.state.rules();
        self.state.begin_rules(rules, broker.now_ms());
        match file::write(&*self.disk, &self.state) {
            Ok(()) => {
                self.saved = self.state.through;
                self.following.hold(READER, self.saved);
                Ok(())
            }
            Err(error @ BlobError::SyncFailed { .. }) => stop(&error),
            Err(error) => {
                self.state.keep_rules(&before, 0, &mut Vec::new());
                Err(format!("the open windows cannot be written: {error}"))
            }
        }
    }

    /// Ends windows until none has to; whether that is so and what they say is stored.
    fn end_due_windows(&mut self) -> bool {
        while self.is_whole && !self.is_stopping() {
            let Some(broker) = self.broker() else { return false };
            let is_due = self.state.is_due(broker.now_ms());
            drop(broker);
            if !is_due {
                return true;
            }
            self.end_windows();
        }
        false
    }

    /// There is nothing to follow the log for.
    fn end(&mut self) {
        match file::remove(&*self.disk) {
            Ok(()) => {}
            Err(error @ BlobError::SyncFailed { .. }) => stop(&error),
            // The next start finds it and removes it.
            Err(error) => self.complain("windows of rules that are gone stay on the disk", &error),
        }
        self.following.release(READER);
        self.forget_written();
        self.show();
        // It goes with this thread.
        self.aggregation.counters.bytes.store(0, Ordering::Relaxed);
        self.release_idle_series(NOT_IDLE_MS);
        if let Some(broker) = self.broker() {
            let _ = broker.send(Message::LetGo);
        }
    }

    /// Rules that begin after those that are gone may do so by a clock that was set back.
    fn forget_written(&mut self) {
        let Some(broker) = self.broker() else { return };
        match broker.delete_key(WRITTEN_KEY, Expected::Any) {
            Ok(()) => self.is_outdated = false,
            Err(error) => self.complain("a mark of rules that are gone stays", &error),
        }
    }

    fn is_stopping(&self) -> bool {
        self.aggregation.stopping.load(Ordering::Acquire) || self.broker.strong_count() == 0
    }

    fn broker(&self) -> Option<Broker> {
        self.broker.upgrade().map(|inner| Broker { inner })
    }

    /// Reads what is durable; whether all that had to be written is.
    fn read(&mut self) -> bool {
        let until = self.following.durable();
        while self.tail.position() < until {
            let tailed = match self.tail.read(until) {
                Ok(tailed) => tailed,
                Err(error) => {
                    self.complain("the log cannot be read for stream_aggregation", &error);
                    std::thread::sleep(RETRY);
                    return !self.is_stopping();
                }
            };
            if tailed.is_cut {
                tracing::error!("a part of the log is gone: it is missing from open windows");
            }
            for frame in tailed.frames {
                let mut out = Vec::new();
                let before_ms = self.state.ended_ms;
                match self.state.take_frame(&frame, &mut out) {
                    Ok(None) => {}
                    Ok(Some(end_ms)) => {
                        if end_ms < before_ms {
                            // The clock was set back: what comes before that may be new. What is not
                            // is written again, which changes nothing.
                            self.written_ms = i64::MIN;
                        }
                        if !self.write_windows(end_ms, out) {
                            return false;
                        }
                    }
                    Err(reason) => {
                        self.aggregation.counters.failed.fetch_add(1, Ordering::Relaxed);
                        tracing::error!(position = %frame.position, reason, "a frame of the log is unusable for stream_aggregation");
                    }
                }
            }
            self.state.passed(self.tail.position());
        }
        self.show();
        true
    }

    /// Says in the log that windows end, if it is time; they do when that is read.
    fn end_windows(&mut self) {
        let Some(broker) = self.broker() else { return };
        let now_ms = broker.now_ms();
        if !self.state.is_due(now_ms) {
            return;
        }
        let (reply, answer) = bounded(1);
        let done = Box::new(move |outcome| {
            // Whoever asked waits for it, or the broker stops.
            let _ = reply.send(outcome);
        });
        if broker.send(Message::EndWindows { at_ms: now_ms, done }).is_err() {
            return;
        }
        drop(broker);
        match answer.recv() {
            Ok(Ok(_)) => _ = self.read(),
            Ok(Err(error)) => {
                self.complain("windows of stream_aggregation cannot end yet", &error);
                std::thread::sleep(RETRY);
            }
            Err(_) => {}
        }
    }

    /// Stores what windows say, unless it is stored already. Whether it is.
    fn write_windows(&mut self, end_ms: i64, out: Vec<Written>) -> bool {
        self.aggregation.counters.windows.fetch_add(1, Ordering::Relaxed);
        if out.is_empty() || end_ms <= self.written_ms {
            return true;
        }
        let is_stored = self.write(&out);
        self.is_whole = is_stored;
        if is_stored && let Some(broker) = self.broker() {
            self.written_ms = end_ms;
            let value = end_ms.to_string().into_bytes();
            if let Err(error) = broker.put_key(WRITTEN_KEY, value, Expected::Any) {
                // Then a start writes the same once more, which changes nothing.
                self.complain("what stream_aggregation has written is not noted", &error);
            }
        }
        is_stored
    }

    /// Stores values, again and again while there is no room for them. Whether they are.
    fn write(&mut self, out: &[Written]) -> bool {
        for part in out.chunks(BATCH_SAMPLES) {
            let mut batch = MetricBatch::default();
            for one in part {
                match &one.value {
                    Value::Float(value) => batch.push(&one.labels, one.t_ms, *value),
                    Value::Histogram(histogram) => {
                        let histogram: Histogram = histogram.clone();
                        batch.push_histogram(&one.labels, one.t_ms, None, histogram);
                    }
                }
            }
            loop {
                let Some(broker) = self.broker() else { return false };
                let (stored, answer) = channel();
                broker.ingest_written(DEFAULT_TENANT, &batch, move |result| {
                    let _ = stored.send(result);
                });
                drop(broker);
                match answer.recv().unwrap_or(Err(CommitError::Stopping)) {
                    Ok(outcome) => {
                        let written = &self.aggregation.counters.written;
                        written.fetch_add(outcome.appended.appended, Ordering::Relaxed);
                        if outcome.rejects.iter().any(|reject| reject.may_come_again) {
                            // The input is acknowledged, so what it says has to wait for room. What
                            // is stored of the part already is a repetition then.
                            let complaint = outcome.complaint().unwrap_or_default();
                            self.complain("series of stream_aggregation have to wait", &complaint);
                            if self.is_stopping() {
                                return false;
                            }
                            std::thread::sleep(RETRY);
                            continue;
                        }
                        if let Some(complaint) = outcome.complaint() {
                            self.complain("not all of stream_aggregation is stored", &complaint);
                        }
                        break;
                    }
                    Err(CommitError::Stopping) => return false,
                    Err(error) => {
                        self.complain("windows of stream_aggregation have to wait", &error);
                        if self.is_stopping() {
                            return false;
                        }
                        std::thread::sleep(RETRY);
                    }
                }
            }
        }
        true
    }

    fn end_early(&mut self) {
        let Some(broker) = self.broker() else { return };
        let now_ms = broker.now_ms();
        drop(broker);
        let mut out = Vec::new();
        self.state.end_early(now_ms, &mut out);
        self.is_whole = self.write(&out);
    }

    /// Writes the windows to their file when the log has gone on to another file, or after a while.
    fn save_if_due(&mut self) {
        let position = self.tail.position();
        let is_due = position.file != self.saved.file || self.saved_at.elapsed() >= SAVE_EVERY;
        if is_due && position != self.saved {
            self.save();
            self.release_idle_series(IDLE_MS);
        }
    }

    /// Gives numbers of silent series back, as the maintenance does with those in the head: batches
    /// that are resolved have to be in the log before.
    fn release_idle_series(&self, idle_ms: i64) {
        let Some(broker) = self.broker() else { return };
        let (registry, now_ms) = (&self.aggregation.registry, broker.now_ms());
        if registry.idle(now_ms, idle_ms).is_empty() {
            return;
        }
        let _releasing = registry.begin_release(now_ms);
        drop(broker.inner.resolving.write());
        let (reply, answer) = bounded(1);
        let done = Box::new(move || _ = reply.send(()));
        if broker.send(Message::Fence { done }).is_err() || answer.recv().is_err() {
            return;
        }
        registry.release(&registry.idle(now_ms, idle_ms), now_ms, idle_ms);
    }

    /// Only what was read and written as a whole is saved: the log before it may go then.
    fn save(&mut self) {
        if !self.is_whole {
            return;
        }
        self.saved_at = Instant::now();
        match file::write(&*self.disk, &self.state) {
            Ok(()) => {
                self.saved = self.state.through;
                self.following.hold(READER, self.saved);
                if let Some(broker) = self.broker() {
                    let _ = broker.send(Message::LetGo);
                }
            }
            Err(error @ BlobError::SyncFailed { .. }) => stop(&error),
            Err(error) => {
                self.complain("the windows of stream_aggregation stay in the log", &error);
            }
        }
    }

    fn show(&mut self) {
        let counters = &self.aggregation.counters;
        let (series, groups) = self.state.sizes();
        counters.series.store(series as u64, Ordering::Relaxed);
        counters.groups.store(groups as u64, Ordering::Relaxed);
        if self.measured_at.is_none_or(|at| at.elapsed() >= MEASURE_EVERY) {
            self.measured_at = Some(Instant::now());
            counters.bytes.store(self.state.bytes() as u64, Ordering::Relaxed);
        }
        let left_out = std::mem::take(&mut self.state.left_out);
        counters.no_number.fetch_add(left_out.no_number, Ordering::Relaxed);
        counters.repeated.fetch_add(left_out.repeated, Ordering::Relaxed);
        counters.old.fetch_add(left_out.old, Ordering::Relaxed);
    }

    fn complain(&self, what: &'static str, error: &dyn std::fmt::Display) {
        let text = error.to_string();
        if let Some(more) = self.complaints.may_say(&text, Instant::now()) {
            tracing::warn!(error = text, more_like_it_before = more, "{what}");
        }
    }
}
