//! The lane of lines on one stream: what of the spool of lines is under way.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use net::rpc::{self, AgentMessage, agent_message};

use crate::clock::Now;
use crate::logs::CollectionStatus;
use crate::logs::line_spool::{LineRecord, LineSpool};

/// Bytes under way at the beginning of a stream.
const FIRST_ALLOWANCE_BYTES: u64 = 256 << 10;
/// The least that adapting leads to.
const MIN_ALLOWANCE_BYTES: u64 = 16 << 10;
/// Acknowledged faster than this, there may be more under way.
const QUICK: Duration = Duration::from_millis(250);
/// Acknowledged slower than this, it has to be less: it delays fresh samples.
const SLOW: Duration = Duration::from_millis(500);

/// Ships lines beside samples.
pub(crate) struct LineShipping {
    spool: Arc<LineSpool>,
    status: Arc<CollectionStatus>,
    stream: Option<LineStream>,
    /// Brokers that take no lines were told of.
    has_complained: bool,
}

struct LineStream {
    window_bytes: u64,
    allowance_bytes: u64,
    under_way: VecDeque<UnderWay>,
    bytes: u64,
    /// The batch sent last on this stream.
    last_seq: u64,
    /// Read from the spool, waiting for room.
    held: Option<LineRecord>,
    last_progress: Instant,
}

struct UnderWay {
    seq: u64,
    bytes: u64,
    lines: u32,
    sent_at: Instant,
    is_refused: bool,
}

impl LineShipping {
    pub(crate) fn new(spool: Arc<LineSpool>, status: Arc<CollectionStatus>) -> Self {
        LineShipping { spool, status, stream: None, has_complained: false }
    }

    /// What the broker knows the spool by.
    pub(crate) fn incarnation(&self) -> [u8; 16] {
        *self.spool.incarnation()
    }

    /// The broker has said what it has.
    pub(crate) fn welcomed(&mut self, welcome: &rpc::Welcome, window_bytes: u64, now: Now) {
        self.stream = None;
        if !welcome.takes_lines {
            if !std::mem::replace(&mut self.has_complained, true) {
                tracing::warn!(
                    broker = welcome.broker,
                    version = welcome.version,
                    "the broker is of a version that takes no lines: they wait in the spool until it \
                     is upgraded"
                );
            }
            return;
        }
        self.spool.acknowledge(welcome.lines_through_seq);
        self.spool.rewind();
        self.stream = Some(LineStream {
            window_bytes,
            allowance_bytes: FIRST_ALLOWANCE_BYTES,
            under_way: VecDeque::new(),
            bytes: 0,
            last_seq: 0,
            held: None,
            last_progress: now.at,
        });
    }

    /// The stream is gone.
    pub(crate) fn closed(&mut self) {
        self.stream = None;
    }

    /// Bytes under way.
    pub(crate) fn under_way_bytes(&self) -> u64 {
        self.stream.as_ref().map_or(0, |stream| stream.bytes)
    }

    /// The next batch, if there is room for it beside samples of `others_bytes`.
    pub(crate) fn next_message(&mut self, others_bytes: u64, now: Now) -> Option<AgentMessage> {
        let stream = self.stream.as_mut()?;
        if stream.held.is_none() {
            // Whoever puts something in rings behind it.
            stream.held = self.spool.try_next().ok().flatten();
        }
        let bytes = stream.held.as_ref()?.payload.len() as u64;
        let all = others_bytes + stream.bytes;
        let fits = all == 0 || all + bytes <= stream.window_bytes;
        let allowance = stream.allowance_bytes.min(stream.window_bytes / 2);
        if !fits || (stream.bytes > 0 && stream.bytes + bytes > allowance) {
            return None;
        }
        if stream.bytes == 0 {
            stream.last_progress = now.at;
        }
        let record = stream.held.take()?;
        let (seq, lines) = (record.seq, record.lines);
        let after_seq = std::mem::replace(&mut stream.last_seq, seq);
        stream.bytes += bytes;
        let under_way = UnderWay { seq, bytes, lines, sent_at: now.at, is_refused: false };
        stream.under_way.push_back(under_way);
        let batch = rpc::Batch {
            lane: rpc::Lane::Lines.into(),
            seq,
            after_seq,
            created_ms: record.created_ms,
            payload: record.payload,
        };
        Some(AgentMessage { message: Some(agent_message::Message::Batch(batch)) })
    }

    /// Everything through a number is stored. Yields how many lines a complaint speaks of.
    pub(crate) fn acknowledged(&mut self, through: u64, refused: u64, now: Now) {
        let Some(stream) = &mut self.stream else { return };
        // A broker cannot have what it was not sent, whatever it says.
        let through = through.min(stream.last_seq);
        let (mut lines, mut bytes, mut latency) = (0, 0, Duration::ZERO);
        while let Some(first) = stream.under_way.pop_front_if(|first| first.seq <= through) {
            lines += if first.is_refused { 0 } else { u64::from(first.lines) };
            bytes += first.bytes;
            latency = now.at.saturating_duration_since(first.sent_at);
        }
        if bytes == 0 {
            return;
        }
        stream.bytes -= bytes;
        stream.last_progress = now.at;
        if latency > SLOW {
            stream.allowance_bytes = (stream.allowance_bytes / 2).max(MIN_ALLOWANCE_BYTES);
        } else if latency < QUICK {
            let most = stream.window_bytes.max(MIN_ALLOWANCE_BYTES);
            stream.allowance_bytes = (stream.allowance_bytes + bytes).min(most);
        }
        self.status.delivered_lines.add(lines.saturating_sub(refused));
        self.status.refused_lines.add(refused);
        self.spool.acknowledge(through);
    }

    /// A batch will never be stored. Yields its lines, unless it is not under way.
    pub(crate) fn refused(&mut self, seq: u64, now: Now) -> Option<u32> {
        let stream = self.stream.as_mut()?;
        let batch =
            stream.under_way.iter_mut().find(|batch| batch.seq == seq && !batch.is_refused)?;
        batch.is_refused = true;
        let lines = batch.lines;
        self.status.refused_lines.add(u64::from(lines));
        let refused = stream.under_way.iter().take_while(|batch| batch.is_refused);
        if let Some(through) = refused.map(|batch| batch.seq).last() {
            self.acknowledged(through, 0, now);
        }
        Some(lines)
    }

    /// Whether something is under way and nothing was acknowledged for this long.
    pub(crate) fn is_stuck(&self, now: Instant, patience: Duration) -> bool {
        self.stream.as_ref().is_some_and(|stream| {
            stream.bytes > 0 && now.saturating_duration_since(stream.last_progress) >= patience
        })
    }

    /// When the oldest batch that is not acknowledged was collected.
    pub(crate) fn oldest_ms(&self) -> Option<i64> {
        self.spool.oldest_ms()
    }

    /// Writes positions, if it is time.
    pub(crate) fn tick(&mut self, now: Now) {
        self.spool.write_positions(now, false);
    }
}
