//! How much is under way, and what may be sent next.
//!
//! Live batches go first. The backlog gets what room they leave, and no more than a broker
//! acknowledges within half a second: whatever is under way delays the next live batch.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::spool::{Lane, Record, Spool};

/// Bytes of backlog under way at the beginning of a stream.
const FIRST_ALLOWANCE_BYTES: u64 = 64 << 10;
/// The least that adapting leads to.
const MIN_ALLOWANCE_BYTES: u64 = 16 << 10;
/// Acknowledged faster than this, the backlog may have more under way.
const QUICK: Duration = Duration::from_millis(250);
/// Acknowledged slower than this, it has to have less.
const SLOW: Duration = Duration::from_millis(500);

/// A batch on its way to the broker.
#[derive(Debug, Clone, Copy)]
struct UnderWay {
    seq: u64,
    bytes: u64,
    samples: u32,
    created_ms: i64,
    sent_at: Instant,
    /// The broker will never store it.
    refused: bool,
}

#[derive(Debug, Default)]
struct LaneFlow {
    under_way: VecDeque<UnderWay>,
    bytes: u64,
    /// The batch sent last on this stream.
    last_seq: u64,
    /// Read from the spool, waiting for room.
    held: Option<Record>,
}

/// What is acknowledged at once.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Acknowledged {
    pub(crate) batches: u64,
    pub(crate) samples: u64,
    pub(crate) bytes: u64,
    /// How long the last of them took.
    pub(crate) latency: Duration,
}

/// One stream's batches under way.
#[derive(Debug)]
pub(crate) struct Flow {
    window_bytes: u64,
    allowance_bytes: u64,
    live: LaneFlow,
    backlog: LaneFlow,
    /// Bytes of lines under way beside them.
    others_bytes: u64,
    last_progress: Instant,
}

impl Flow {
    /// Nothing under way; the broker takes `window_bytes` at once.
    pub(crate) fn new(window_bytes: u64, now: Instant) -> Self {
        Flow {
            window_bytes,
            allowance_bytes: FIRST_ALLOWANCE_BYTES,
            live: LaneFlow::default(),
            backlog: LaneFlow::default(),
            others_bytes: 0,
            last_progress: now,
        }
    }

    /// Says how much else is under way on the stream.
    pub(crate) fn set_others(&mut self, bytes: u64) {
        self.others_bytes = bytes;
    }

    /// The next batch to be sent, with the number of the one before it in its lane on this stream.
    pub(crate) fn next(&mut self, spool: &mut Spool, now: Instant) -> Option<(Lane, Record, u64)> {
        for lane in Lane::SENT {
            let flow = self.lane(lane);
            if flow.held.is_none() {
                flow.held = spool.next(lane);
            }
            let Some(bytes) = flow.held.as_ref().map(|record| record.payload.len() as u64) else {
                continue;
            };
            if !self.has_room(lane, bytes) {
                return None;
            }
            if self.under_way_bytes() == 0 {
                self.last_progress = now;
            }
            let flow = self.lane(lane);
            let record = flow.held.take()?;
            let after_seq = std::mem::replace(&mut flow.last_seq, record.seq);
            flow.bytes += bytes;
            flow.under_way.push_back(UnderWay {
                seq: record.seq,
                bytes,
                samples: record.samples,
                created_ms: record.created_ms,
                sent_at: now,
                refused: false,
            });
            return Some((lane, record, after_seq));
        }
        None
    }

    /// A batch that is larger than every allowance goes alone.
    fn has_room(&self, lane: Lane, bytes: u64) -> bool {
        let all = self.under_way_bytes() + self.others_bytes;
        let fits = all == 0 || all + bytes <= self.window_bytes;
        if lane == Lane::Live {
            return fits;
        }
        let allowance = self.allowance_bytes.min(self.window_bytes / 2);
        fits && (self.backlog.bytes == 0 || self.backlog.bytes + bytes <= allowance)
    }

    /// Takes note that everything of a lane through a number is stored.
    pub(crate) fn acknowledged(&mut self, lane: Lane, through: u64, now: Instant) -> Acknowledged {
        let mut done = Acknowledged::default();
        let flow = self.lane(lane);
        while let Some(first) = flow.under_way.front().filter(|first| first.seq <= through) {
            done.batches += u64::from(!first.refused);
            done.samples += if first.refused { 0 } else { u64::from(first.samples) };
            done.bytes += first.bytes;
            done.latency = now.saturating_duration_since(first.sent_at);
            flow.bytes -= first.bytes;
            flow.under_way.pop_front();
        }
        if done.bytes > 0 {
            self.last_progress = now;
            if lane == Lane::Backlog {
                self.adapt(done);
            }
        }
        done
    }

    fn adapt(&mut self, done: Acknowledged) {
        if done.latency > SLOW {
            self.allowance_bytes = (self.allowance_bytes / 2).max(MIN_ALLOWANCE_BYTES);
        } else if done.latency < QUICK {
            let most = self.window_bytes.max(MIN_ALLOWANCE_BYTES);
            self.allowance_bytes = (self.allowance_bytes + done.bytes).min(most);
        }
    }

    /// Takes note that a batch will never be stored. Yields its samples, and through which number
    /// the lane is done with now; nothing if the batch is not under way.
    pub(crate) fn refused(&mut self, lane: Lane, seq: u64, now: Instant) -> Option<(u32, u64)> {
        let flow = self.lane(lane);
        let batch = flow.under_way.iter_mut().find(|batch| batch.seq == seq && !batch.refused)?;
        batch.refused = true;
        let samples = batch.samples;
        let mut through = 0;
        for batch in flow.under_way.iter().take_while(|batch| batch.refused) {
            through = batch.seq;
        }
        self.acknowledged(lane, through, now);
        Some((samples, through))
    }

    /// When the oldest live batch that waits for room or for its acknowledgement was collected.
    pub(crate) fn oldest_live_ms(&self) -> Option<i64> {
        let under_way = self.live.under_way.front().map(|batch| batch.created_ms);
        under_way.or(self.live.held.as_ref().map(|record| record.created_ms))
    }

    /// The number sent last in a lane on this stream.
    pub(crate) fn last_sent(&self, lane: Lane) -> u64 {
        if lane == Lane::Live { self.live.last_seq } else { self.backlog.last_seq }
    }

    /// Whether something is under way and nothing was acknowledged for this long.
    pub(crate) fn is_stuck(&self, now: Instant, patience: Duration) -> bool {
        self.under_way_bytes() > 0 && now.saturating_duration_since(self.last_progress) >= patience
    }

    /// Payload bytes under way.
    pub(crate) fn under_way_bytes(&self) -> u64 {
        self.live.bytes + self.backlog.bytes
    }

    fn lane(&mut self, lane: Lane) -> &mut LaneFlow {
        match lane {
            Lane::Live => &mut self.live,
            Lane::Backlog | Lane::Staged => &mut self.backlog,
        }
    }
}
