//! What an agent has under way on one stream, and what it is to be told of it.

use std::collections::VecDeque;

use net::rpc::{self, Lane};
use parking_lot::Mutex;
use tokio::sync::Notify;

/// Longest complaint told with an acknowledgement; the rest is cut off.
const MAX_COMPLAINT_BYTES: usize = 1 << 10;

/// The lanes there are, by their numbers, from 1.
const LANES: [Lane; 3] = [Lane::Live, Lane::Backlog, Lane::Lines];

/// Batches under way on one stream. The committer and the shards answer on their own threads; the
/// stream takes what there is to tell when it comes to it, so many batches are acknowledged at once.
#[derive(Default)]
pub(super) struct Acks {
    state: Mutex<State>,
    wake: Notify,
}

#[derive(Default)]
struct State {
    /// In the order of [`LANES`].
    lanes: [LaneAcks; 3],
    /// Of batches passed over, durably.
    refusals: VecDeque<rpc::Refusal>,
    under_way_bytes: usize,
    refused: Option<Refused>,
}

#[derive(Default)]
struct LaneAcks {
    /// In the order in which they came: number, and whether it is answered.
    under_way: VecDeque<(u64, bool)>,
    /// The newest one to be acknowledged; 0 if there is none.
    through: u64,
    refused: u64,
    complaint: String,
}

/// A batch that was refused; the stream ends with the first one.
#[derive(Debug, Clone)]
pub(super) struct Refused {
    pub(super) lane: Lane,
    pub(super) seq: u64,
    pub(super) reason: String,
    pub(super) retry: Retry,
}

/// When a batch that was refused may come again.
#[derive(Debug, Clone, Copy)]
pub(super) enum Retry {
    AfterMs(u32),
    /// The agent breaks the protocol.
    Never,
}

/// What became of a batch.
pub(super) enum Answer {
    /// Stored, or known.
    Stored {
        /// Samples or lines of it that were not stored, …
        refused: u64,
        /// … and why.
        complaint: Option<String>,
    },
    /// Durably passed over, for this reason.
    PassedOver(String),
    Refused(String, Retry),
}

impl Acks {
    /// Notes that a batch is under way.
    pub(super) fn begin(&self, lane: Lane, seq: u64, bytes: usize) {
        let mut state = self.state.lock();
        state.lanes[lane as usize - 1].under_way.push_back((seq, false));
        state.under_way_bytes += bytes;
    }

    /// Notes what became of it.
    pub(super) fn end(&self, lane: Lane, seq: u64, bytes: usize, answer: Answer) {
        let mut guard = self.state.lock();
        let state = &mut *guard;
        state.under_way_bytes -= bytes;
        let acks = &mut state.lanes[lane as usize - 1];
        match answer {
            Answer::Stored { refused, complaint } => {
                acks.refused += refused;
                if let Some(mut complaint) = complaint {
                    complaint.truncate(complaint.floor_char_boundary(MAX_COMPLAINT_BYTES));
                    acks.complaint = complaint;
                }
                acks.answered(seq);
            }
            Answer::PassedOver(reason) => {
                acks.answered(seq);
                let lane = lane as i32;
                let permanent = true;
                let retry_after_ms = 0;
                let refusal = rpc::Refusal { lane, seq, reason, permanent, retry_after_ms };
                state.refusals.push_back(refusal);
            }
            // It and all behind it come again.
            Answer::Refused(reason, retry) => {
                state.refused.get_or_insert(Refused { lane, seq, reason, retry });
            }
        }
        drop(guard);
        self.wake.notify_one();
    }

    /// The next thing to tell, if there is any.
    pub(super) fn next(&self) -> Option<rpc::broker_message::Message> {
        use rpc::broker_message::Message;
        let mut state = self.state.lock();
        // Before the acknowledgement that covers it.
        if let Some(refusal) = state.refusals.pop_front() {
            return Some(Message::Refusal(refusal));
        }
        for lane in LANES {
            let acks = &mut state.lanes[lane as usize - 1];
            if acks.through > 0 {
                return Some(Message::Ack(rpc::Ack {
                    lane: lane as i32,
                    through_seq: std::mem::take(&mut acks.through),
                    refused_samples: std::mem::take(&mut acks.refused),
                    complaint: std::mem::take(&mut acks.complaint),
                }));
            }
        }
        None
    }

    /// The first batch that was refused, if one was.
    pub(super) fn refused(&self) -> Option<Refused> {
        self.state.lock().refused.clone()
    }

    /// Bytes of payload under way.
    pub(super) fn under_way_bytes(&self) -> usize {
        self.state.lock().under_way_bytes
    }

    /// Waits until something was answered since the last call.
    pub(super) async fn answered(&self) {
        self.wake.notified().await;
    }
}

impl LaneAcks {
    /// Acknowledges as far as everything before is answered, too: shards may finish in another
    /// order.
    fn answered(&mut self, seq: u64) {
        if let Some(entry) = self.under_way.iter_mut().find(|entry| entry.0 == seq && !entry.1) {
            entry.1 = true;
        }
        while let Some((seq, _)) = self.under_way.pop_front_if(|entry| entry.1) {
            self.through = seq;
        }
    }
}
