//! From the lines of a request to their acknowledgement: times → log → head → answer.

use std::sync::atomic::{AtomicU64, Ordering};

use catalog::Mark;
use logstore::{NsRange, encode_payload};
use model::{LogBatch, LogRecord};
use model::{TenantId, TimeRange};

use super::pushes::PushId;
use crate::Broker;
use crate::commit::{CommitError, Message};

/// How far ahead of our clock the time of a line may be in any case.
const FUTURE_MS: i64 = 10 * 60 * 1_000;
const MILLISECOND_NS: i64 = 1_000_000;

/// What became of the lines of one request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LogOutcome {
    /// Lines that are stored.
    pub stored: u64,
    /// Whether the whole push was stored before, in the last ten minutes, or the batch of an agent, ever.
    pub was_known: bool,
    /// Lines left out because they are older than is kept.
    pub too_old: u64,
    /// Lines left out because their time is more than ten minutes ahead.
    pub too_new: u64,
}

/// Counters of lines that come.
#[derive(Debug, Default)]
pub(crate) struct LogCounters {
    pub(crate) pushes: AtomicU64,
    pub(crate) known_pushes: AtomicU64,
    pub(crate) lines: AtomicU64,
    pub(crate) line_bytes: AtomicU64,
    pub(crate) too_old: AtomicU64,
    pub(crate) too_new: AtomicU64,
    pub(crate) syslog_lost: AtomicU64,
    pub(crate) flushed_lines: AtomicU64,
    pub(crate) merges: AtomicU64,
}

/// Lines on their way.
pub(crate) struct NewLines {
    pub(crate) tenant: TenantId,
    pub(crate) batch: Box<LogBatch>,
    /// The same, as the log has them.
    pub(crate) payload: Vec<u8>,
    pub(crate) push: Option<PushId>,
    /// Whether the brokers of a cluster agree on that push, because its lines got their times here.
    pub(crate) is_agreed: bool,
    /// Of the agent whose batch it is.
    pub(crate) mark: Option<Box<Mark>>,
    pub(crate) at_ms: i64,
    /// Of their times.
    pub(crate) range: TimeRange,
}

/// What tells whether lines are stored already.
#[derive(Default)]
struct Told {
    push: Option<PushId>,
    is_agreed: bool,
    mark: Option<Box<Mark>>,
}

/// What became of lines that were not refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StoredLines {
    /// They are durable and searchable.
    New,
    /// Their push, or the batch of an agent that they are, had been stored before.
    Known,
}

/// What happens when lines are stored or refused.
pub(crate) type OnLines = Box<dyn FnOnce(Result<StoredLines, CommitError>) + Send>;

impl Broker {
    /// Stores lines and calls `done` when they are durable and searchable, or refused as a whole. Lines that
    /// are too old or too new are left out. With a `push`, lines of a request that was stored in the last ten
    /// minutes are not stored again; one of which lines are left out is not remembered, since they may be
    /// taken when it comes again.
    ///
    /// Compresses the lines, and waits for a place in the committer's queue: not for a thread that serves
    /// sockets.
    pub fn ingest_logs(
        &self,
        tenant: TenantId,
        batch: LogBatch,
        push: Option<PushId>,
        done: impl FnOnce(Result<LogOutcome, CommitError>) + Send + 'static,
    ) {
        self.put_lines(tenant, batch, Told { push, ..Told::default() }, done);
    }

    /// As [`Broker::ingest_logs`], of lines that got their times here, so that they are others when the push
    /// comes again: in a cluster it is known at all brokers, whichever stored it.
    pub fn ingest_named_logs(
        &self,
        tenant: TenantId,
        batch: LogBatch,
        push: PushId,
        done: impl FnOnce(Result<LogOutcome, CommitError>) + Send + 'static,
    ) {
        let told = Told { push: Some(push), is_agreed: true, mark: None };
        self.put_lines(tenant, batch, told, done);
    }

    /// As [`Broker::ingest_logs`], of an agent's batch, which is stored unless it is stored already; its mark
    /// moves in the same frame.
    pub(crate) fn ingest_marked_logs(
        &self,
        tenant: TenantId,
        batch: LogBatch,
        mark: Mark,
        done: impl FnOnce(Result<LogOutcome, CommitError>) + Send + 'static,
    ) {
        self.put_lines(tenant, batch, Told { mark: Some(Box::new(mark)), ..Told::default() }, done);
    }

    fn put_lines(
        &self,
        tenant: TenantId,
        batch: LogBatch,
        told: Told,
        done: impl FnOnce(Result<LogOutcome, CommitError>) + Send + 'static,
    ) {
        let checked = self.check_logs_are_known().and_then(|()| self.check_head_room());
        if let Err(error) = checked {
            return done(Err(error));
        }
        let at_ms = self.now_ms();
        let sender = self.inner.tenants.numbered(tenant);
        let grace_ns = match &sender {
            Some(sender) => self.limits_of(sender.name).logs.creation_grace_ns,
            None => 0,
        };
        let Admitted { batch, too_old, too_new, span_ns } =
            admitted(batch, self.admitted_times(at_ms, grace_ns));
        let counters = &self.inner.lines.counters;
        counters.too_old.fetch_add(too_old, Ordering::Relaxed);
        counters.too_new.fetch_add(too_new, Ordering::Relaxed);
        let outcome = LogOutcome { stored: batch.lines(), was_known: false, too_old, too_new };
        let Told { push, is_agreed, mark } = told;
        let push = push.filter(|_| too_old + too_new == 0);
        let Some((first_ns, last_ns)) = span_ns else {
            match mark {
                None => done(Ok(outcome)),
                // The agent may go on behind it.
                Some(mark) => self.move_mark(*mark, move |was_known| {
                    done(was_known.map(|was_known| LogOutcome { was_known, ..outcome }));
                }),
            }
            return;
        };
        let [first_ms, last_ms] = [first_ns, last_ns].map(|ns| ns.div_euclid(MILLISECOND_NS));
        let range = TimeRange::new(first_ms, last_ms + 1);
        // What is left out now may be taken when it comes again.
        let push = push.filter(|_| too_old + too_new == 0);
        let mut payload = Vec::new();
        encode_payload(&batch, tenant, &mut payload);
        let (stored_lines, stored_bytes) = (batch.lines(), batch.line_bytes());
        let batch = Box::new(batch);
        let lines = NewLines { tenant, batch, payload, push, is_agreed, mark, at_ms, range };
        let done: OnLines = Box::new(move |result| {
            done(result.map(|stored| match stored {
                StoredLines::New => {
                    if let Some(sender) = sender {
                        sender.lines.count_stored(stored_lines, stored_bytes);
                    }
                    outcome
                }
                StoredLines::Known => LogOutcome { was_known: true, ..outcome },
            }));
        });
        let message = Message::WriteLines { lines: Box::new(lines), done };
        if let Err(Message::WriteLines { done, .. }) = self.send(message) {
            done(Err(CommitError::Stopping));
        }
    }

    /// Whether lines are taken at all.
    pub(crate) fn takes_logs(&self) -> bool {
        self.check_logs_are_known().is_ok()
    }

    /// Whether all brokers of the cluster can read what is written of lines.
    pub(super) fn check_logs_are_known(&self) -> Result<(), CommitError> {
        match &self.inner.clustered {
            Some(clustered) if !clustered.has_level(catalog::LOGS_LEVEL) => {
                Err(CommitError::OldBroker)
            }
            _ => Ok(()),
        }
    }

    /// `grace_ns` is how far the tenant's lines may be ahead, if that is more than others may.
    fn admitted_times(&self, now_ms: i64, grace_ns: i64) -> NsRange {
        let ns = |ms: i64| ms.saturating_mul(MILLISECOND_NS);
        let newest_ns = ns(now_ms).saturating_add(grace_ns.max(ns(FUTURE_MS)));
        NsRange::new(ns(self.oldest_log_ms(now_ms)), newest_ns.saturating_add(1))
    }

    /// Lines that are older are not kept.
    pub(super) fn oldest_log_ms(&self, now_ms: i64) -> i64 {
        let kept_ms = self.inner.config.logs_retention_ms;
        kept_ms.map_or(i64::MIN, |kept_ms| now_ms.saturating_sub(kept_ms))
    }
}

/// The lines of a batch that are taken.
#[derive(Debug, PartialEq, Eq)]
struct Admitted {
    batch: LogBatch,
    /// How many of the others are before the range.
    too_old: u64,
    /// How many are behind it.
    too_new: u64,
    /// Times of the first and the last; `None` if there are none.
    span_ns: Option<(i64, i64)>,
}

/// Leaves lines outside a range out of a batch.
fn admitted(batch: LogBatch, range: NsRange) -> Admitted {
    let (mut too_old, mut too_new) = (0, 0);
    let mut span_ns: Option<(i64, i64)> = None;
    let mut metadata = Vec::new();
    let mut records = batch.records();
    while let Some(record) = records.next_record(&mut metadata).expect("a batch is whole") {
        if let LogRecord::Line { timestamp_ns, .. } = record {
            if range.contains(timestamp_ns) {
                let (first, last) = span_ns.unwrap_or((timestamp_ns, timestamp_ns));
                span_ns = Some((first.min(timestamp_ns), last.max(timestamp_ns)));
            } else if timestamp_ns < range.start_ns {
                too_old += 1;
            } else {
                too_new += 1;
            }
        }
    }
    // Fast path: nearly all lines are of now.
    if too_old + too_new == 0 {
        return Admitted { batch, too_old, too_new, span_ns };
    }
    let mut kept = LogBatch::default();
    // A stream is begun when it has a line.
    let mut stream = None;
    let (mut records, mut metadata) = (batch.records(), Vec::new());
    while let Some(record) = records.next_record(&mut metadata).expect("a batch is whole") {
        match record {
            LogRecord::Stream(labels) => stream = Some(labels),
            LogRecord::Line { timestamp_ns, line } if range.contains(timestamp_ns) => {
                if let Some(labels) = stream.take() {
                    kept.stream(&labels);
                }
                kept.push(timestamp_ns, line, &metadata).expect("it is part of one that fits");
            }
            LogRecord::Line { .. } => {}
        }
    }
    Admitted { batch: kept, too_old, too_new, span_ns }
}

#[cfg(test)]
mod tests {
    use model::Labels;

    use super::*;

    #[test]
    fn lines_outside_are_left_out_and_no_others() {
        let stream = |name| Labels::from_pairs([("s", name)]).expect("valid");
        let mut batch = LogBatch::default();
        let mut wanted = LogBatch::default();
        for (name, times) in [("a", &[1, 9, 10][..]), ("b", &[20, 30]), ("c", &[19, 0])] {
            batch.stream(&stream(name));
            let inside: Vec<i64> = times.iter().copied().filter(|t| (10..20).contains(t)).collect();
            if !inside.is_empty() {
                wanted.stream(&stream(name));
            }
            for t_ns in times {
                batch.push(*t_ns, b"line", &[("k", "v")]).expect("short");
                if inside.contains(t_ns) {
                    wanted.push(*t_ns, b"line", &[("k", "v")]).expect("short");
                }
            }
        }
        let of_some = Admitted { batch: wanted, too_old: 3, too_new: 2, span_ns: Some((10, 19)) };
        assert_eq!(admitted(batch.clone(), NsRange::new(10, 20)), of_some);
        let of_none =
            Admitted { batch: LogBatch::default(), too_old: 7, too_new: 0, span_ns: None };
        assert_eq!(admitted(batch.clone(), NsRange::new(90, 91)), of_none);
        let of_all =
            Admitted { batch: batch.clone(), too_old: 0, too_new: 0, span_ns: Some((0, 30)) };
        assert_eq!(admitted(batch, NsRange::all()), of_all);
    }
}
