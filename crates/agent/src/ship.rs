//! From passes to acknowledged batches: which lane a pass takes, what is sent, and what the broker
//! says to it. Knows no socket, thread or clock; why lanes are as they are:
//! `docs/decisions/0016-lanes-and-numbers.md`.

mod backoff;
mod counters;
mod flow;
mod lines;
mod link;
mod pace;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::{Duration, Instant};

use model::{Limits, MetricBatch};
use net::rpc::{self, AgentMessage, BrokerMessage, agent_message, broker_message};

use crate::clock::Now;
use crate::merge::{Merger, Progress, fits_alone};
use crate::spool::{Lane, NewBatch, Spool};
use flow::Flow;

pub use counters::ShipCounters;
pub(crate) use lines::LineShipping;
pub(crate) use link::{Link, LinkEvent, LinkSettings, Outgoing};

/// A live batch that waits longer than this says that the broker does not keep up: what is
/// collected from then on goes to the backlog, until everything before it is acknowledged.
const LIVE_PATIENCE_MS: i64 = 5_000;
/// Passes that no broker takes are gathered for this long before they become one batch.
const GATHER_TIME: Duration = Duration::from_secs(15);
/// Without a word from the broker for this long a stream is given up.
const PATIENCE: Duration = Duration::from_secs(30);
/// A broker that allows less still gets this much.
const MIN_WINDOW_BYTES: u64 = 64 << 10;
/// One complaint of a broker is logged in this time, the others are counted.
const COMPLAIN_EVERY: Duration = Duration::from_secs(60);

/// What the stream has to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Go on.
    Continue,
    /// Give this stream up and come back, not before the time the broker asked for.
    Reset { retry_after: Option<Duration> },
}

/// The spool, what is gathered for it, and the stream that empties it.
pub(crate) struct Shipping {
    spool: Spool,
    lines: Option<LineShipping>,
    stream: Option<Stream>,
    gathered: Merger,
    gathering_since: Option<Instant>,
    gathered_created_ms: i64,
    counters: Arc<ShipCounters>,
    payload: Vec<u8>,
    batch: MetricBatch,
    complained_at: Option<Instant>,
}

struct Stream {
    opened_at: Instant,
    /// Once the broker has said what it has.
    flow: Option<Flow>,
}

impl Shipping {
    /// Seals what an earlier run staged.
    pub(crate) fn new(spool: Spool, seed: u64, counters: Arc<ShipCounters>, now: Now) -> Self {
        let mut shipping = Shipping {
            spool,
            lines: None,
            stream: None,
            gathered: Merger::new(seed),
            gathering_since: None,
            gathered_created_ms: 0,
            counters,
            payload: Vec::new(),
            batch: MetricBatch::default(),
            complained_at: None,
        };
        shipping.seal_staged(now);
        shipping
    }

    /// Ships lines as well.
    pub(crate) fn with_lines(self, lines: Option<LineShipping>) -> Self {
        Shipping { lines, ..self }
    }

    /// What the broker knows the spool of lines by, if there is one.
    pub(crate) fn lines_incarnation(&self) -> Option<[u8; 16]> {
        self.lines.as_ref().map(LineShipping::incarnation)
    }

    fn seal_staged(&mut self, now: Now) {
        let mut batch = MetricBatch::default();
        // What this program packed is within its own limits.
        let limits = Limits { max_body_bytes: usize::MAX, ..Limits::default() };
        let mut through = 0;
        while let Some(pass) = self.spool.next_staged() {
            if let Err(error) = wire::agent_batch::decode(&pass.payload, &limits, &mut batch) {
                // Its checksum is right, so another version packed it.
                tracing::warn!(%error, samples = pass.samples, "a staged pass cannot be unpacked");
                self.counters.unusable(pass.samples);
            } else {
                if !self.gathered.has_room_for(&batch) {
                    self.seal(through, now);
                }
                self.gather(&batch, pass.created_ms, now);
            }
            through = pass.seq;
        }
        self.seal(through, now);
    }

    /// What the broker knows the spool by.
    pub(crate) fn incarnation(&self) -> [u8; 16] {
        *self.spool.incarnation()
    }

    /// When the oldest batch that is not acknowledged was collected.
    pub(crate) fn oldest_ms(&mut self) -> Option<i64> {
        let lines_ms = self.lines.as_ref().and_then(LineShipping::oldest_ms);
        self.spool.oldest_ms().into_iter().chain(lines_ms).min()
    }

    /// Keeps one pass, or what was scraped in a moment.
    ///
    /// # Panics
    /// The batch does not [fit alone](fits_alone).
    pub(crate) fn keep(&mut self, batch: &MetricBatch, now: Now) {
        assert!(fits_alone(batch), "the caller splits batches");
        let live = self.takes_live(now);
        if live || !self.gathered.has_room_for(batch) {
            self.seal(self.spool.last_staged(), now);
        }
        self.payload.clear();
        wire::agent_batch::encode(batch, &mut self.payload);
        let payload = &self.payload;
        let pass = NewBatch { created_ms: now.wall_ms, samples: batch.samples(), payload };
        if live {
            self.spool.put(Lane::Live, pass, now.wall_ms);
        } else if self.spool.stage(pass, now.wall_ms) {
            self.gather(batch, now.wall_ms, now);
        } else {
            // The disk does not take it. What is gathered is staged, and must not be mixed with
            // what is not.
            self.spool.put(Lane::Backlog, pass, now.wall_ms);
            self.seal(self.spool.last_staged(), now);
        }
    }

    /// Whether what is collected now would be sent at once.
    fn takes_live(&self, now: Now) -> bool {
        let Some(flow) = self.flow() else { return false };
        let oldest_ms = flow.oldest_live_ms();
        oldest_ms.is_none_or(|oldest_ms| now.wall_ms - oldest_ms < LIVE_PATIENCE_MS)
    }

    fn flow(&self) -> Option<&Flow> {
        self.stream.as_ref()?.flow.as_ref()
    }

    fn gather(&mut self, batch: &MetricBatch, created_ms: i64, now: Now) {
        if self.gathering_since.is_none() {
            self.gathering_since = Some(now.at);
            self.gathered_created_ms = created_ms;
        }
        let taken = self.gathered.push(batch, &mut Progress::default());
        assert!(taken, "the caller has seen that there is room");
    }

    /// Makes one batch of what is gathered, which is every staged pass up to a number.
    fn seal(&mut self, staged_through: u64, now: Now) {
        if self.gathering_since.take().is_none() {
            return;
        }
        self.gathered.take(&mut self.batch);
        let mut payload = Vec::new();
        wire::agent_batch::encode(&self.batch, &mut payload);
        let batch = NewBatch {
            created_ms: self.gathered_created_ms,
            samples: self.batch.samples(),
            payload: &payload,
        };
        self.spool.seal(batch, staged_through, now.wall_ms);
    }

    /// A stream is open and its greeting sent.
    pub(crate) fn opened(&mut self, now: Now) {
        self.stream = Some(Stream { opened_at: now.at, flow: None });
    }

    /// The stream is gone, and with it everything that was under way.
    pub(crate) fn closed(&mut self) {
        self.stream = None;
        if let Some(lines) = &mut self.lines {
            lines.closed();
        }
    }

    /// Takes note of what the broker says.
    pub(crate) fn received(&mut self, message: BrokerMessage, now: Now) -> Verdict {
        match message.message {
            Some(broker_message::Message::Welcome(welcome)) => self.welcomed(&welcome, now),
            Some(broker_message::Message::Ack(ack)) => self.acknowledged(&ack, now),
            Some(broker_message::Message::Refusal(refusal)) => self.refused(&refusal, now),
            // Of a newer broker.
            None => Verdict::Continue,
        }
    }

    fn welcomed(&mut self, welcome: &rpc::Welcome, now: Now) -> Verdict {
        let Some(stream) = &mut self.stream else { return Verdict::Continue };
        let window_bytes = welcome.window_bytes.max(MIN_WINDOW_BYTES);
        stream.flow = Some(Flow::new(window_bytes, now.at));
        if let Some(lines) = &mut self.lines {
            lines.welcomed(welcome, window_bytes, now);
        }
        let marks = [welcome.live_through_seq, welcome.backlog_through_seq];
        for (lane, through) in Lane::SENT.into_iter().zip(marks) {
            self.spool.acknowledge(lane, through);
            self.spool.rewind(lane);
        }
        self.seal(self.spool.last_staged(), now);
        Verdict::Continue
    }

    fn acknowledged(&mut self, ack: &rpc::Ack, now: Now) -> Verdict {
        if let (rpc::Lane::Lines, Some(lines)) = (ack.lane(), &mut self.lines) {
            lines.acknowledged(ack.through_seq, ack.refused_samples, now);
            self.complain_of_lines(ack.refused_samples, &ack.complaint, now);
            return Verdict::Continue;
        }
        let Some(lane) = lane_of(ack.lane) else { return Verdict::Continue };
        let Some(flow) = self.stream.as_mut().and_then(|stream| stream.flow.as_mut()) else {
            return Verdict::Continue;
        };
        // A broker cannot have what it was not sent, whatever it says.
        let through = ack.through_seq.min(flow.last_sent(lane));
        let done = flow.acknowledged(lane, through, now.at);
        self.spool.acknowledge(lane, through);
        self.counters.acknowledged(lane, &done, ack.refused_samples);
        if ack.refused_samples > 0 && self.may_complain(now) {
            tracing::warn!(
                samples = ack.refused_samples,
                reason = ack.complaint,
                "the broker did not store some samples"
            );
        }
        Verdict::Continue
    }

    fn refused(&mut self, refusal: &rpc::Refusal, now: Now) -> Verdict {
        if !refusal.permanent {
            let wish = Duration::from_millis(u64::from(refusal.retry_after_ms));
            let retry_after = Some(wish).filter(|wish| !wish.is_zero());
            if self.may_complain(now) {
                tracing::warn!(reason = refusal.reason, "the broker cannot store batches now");
            }
            return Verdict::Reset { retry_after };
        }
        if let (rpc::Lane::Lines, Some(lines)) = (refusal.lane(), &mut self.lines) {
            let refused = lines.refused(refusal.seq, now).map_or(0, u64::from);
            self.complain_of_lines(refused, &refusal.reason, now);
            return Verdict::Continue;
        }
        let flow = self.stream.as_mut().and_then(|stream| stream.flow.as_mut());
        let (Some(flow), Some(lane)) = (flow, lane_of(refusal.lane)) else {
            return Verdict::Continue;
        };
        if let Some((samples, done_through)) = flow.refused(lane, refusal.seq, now.at) {
            self.spool.acknowledge(lane, done_through);
            self.counters.refused(samples);
            if self.may_complain(now) {
                tracing::warn!(
                    seq = refusal.seq,
                    samples,
                    reason = refusal.reason,
                    "the broker will never store a batch; it is given up"
                );
            }
        }
        Verdict::Continue
    }

    fn complain_of_lines(&mut self, lines: u64, reason: &str, now: Now) {
        if lines > 0 && self.may_complain(now) {
            tracing::warn!(lines, reason, "the broker did not store some lines");
        }
    }

    fn may_complain(&mut self, now: Now) -> bool {
        let since = self.complained_at.map(|at| now.at.saturating_duration_since(at));
        let may = since.is_none_or(|since| since >= COMPLAIN_EVERY);
        if may {
            self.complained_at = Some(now.at);
        }
        may
    }

    /// The next batch for the stream, the live ones first; nothing while the window is full.
    pub(crate) fn next_message(&mut self, now: Now) -> Option<(Lane, AgentMessage)> {
        let flow = self.stream.as_mut()?.flow.as_mut()?;
        flow.set_others(self.lines.as_ref().map_or(0, LineShipping::under_way_bytes));
        let Some((lane, record, after_seq)) = flow.next(&mut self.spool, now.at) else {
            let message = self.lines.as_mut()?.next_message(flow.under_way_bytes(), now)?;
            // Behind fresh samples, as the backlog.
            return Some((Lane::Backlog, message));
        };
        self.counters.sent(lane, record.payload.len() as u64);
        let batch = rpc::Batch {
            lane: wire_lane(lane).into(),
            seq: record.seq,
            after_seq,
            created_ms: record.created_ms,
            payload: record.payload,
        };
        Some((lane, AgentMessage { message: Some(agent_message::Message::Batch(batch)) }))
    }

    /// Does what is due by the clock.
    pub(crate) fn tick(&mut self, now: Now) -> Verdict {
        let is_due = |since: Instant| now.at.saturating_duration_since(since) >= GATHER_TIME;
        if self.gathering_since.is_some_and(is_due) {
            self.seal(self.spool.last_staged(), now);
        }
        if let Some(lines) = &mut self.lines {
            lines.tick(now);
        }
        let Some(stream) = &self.stream else { return Verdict::Continue };
        let lines_stuck = self.lines.as_ref().is_some_and(|it| it.is_stuck(now.at, PATIENCE));
        let silent = match &stream.flow {
            Some(flow) => flow.is_stuck(now.at, PATIENCE) || lines_stuck,
            None => now.at.saturating_duration_since(stream.opened_at) >= PATIENCE,
        };
        if !silent {
            return Verdict::Continue;
        }
        tracing::warn!(
            seconds = PATIENCE.as_secs(),
            "the broker acknowledges nothing; connecting anew"
        );
        Verdict::Reset { retry_after: None }
    }

    /// Whether the broker has said what it has, so that batches flow.
    pub(crate) fn is_welcome(&self) -> bool {
        self.flow().is_some()
    }

    /// Whether nothing is under way and nothing is left to be sent.
    pub(crate) fn is_drained(&mut self) -> bool {
        self.flow().is_some_and(|flow| flow.under_way_bytes() == 0)
            && self.spool.oldest_ms().is_none()
            && self.lines.as_ref().is_none_or(|lines| lines.oldest_ms().is_none())
    }
}

fn lane_of(number: i32) -> Option<Lane> {
    match rpc::Lane::try_from(number) {
        Ok(rpc::Lane::Live) => Some(Lane::Live),
        Ok(rpc::Lane::Backlog) => Some(Lane::Backlog),
        Ok(rpc::Lane::Lines | rpc::Lane::Unspecified) | Err(_) => None,
    }
}

fn wire_lane(lane: Lane) -> rpc::Lane {
    match lane {
        Lane::Live => rpc::Lane::Live,
        // Staged passes are never sent.
        Lane::Backlog | Lane::Staged => rpc::Lane::Backlog,
    }
}
