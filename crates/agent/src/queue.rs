//! The queue between the collecting thread and whoever ships or stores its batches.
//!
//! Two lock-free rings with one producer and one consumer each: full batches go one way, emptied
//! ones come back, so that steady operation allocates nothing. A doorbell of capacity one wakes
//! the consumer at once; rings that find it already pressed cost one atomic load. One bell may
//! serve several queues and whatever else its owner waits for.

use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use model::MetricBatch;
use rtrb::{Consumer, Producer, RingBuffer};

/// Wakes the one thread that waits at the other end.
#[derive(Debug, Clone)]
pub(crate) struct Bell(SyncSender<()>);

impl Bell {
    /// A bell, and the end at which it is heard.
    pub(crate) fn new() -> (Bell, Receiver<()>) {
        let (ring, heard) = sync_channel(1);
        (Bell(ring), heard)
    }

    /// Wakes the waiting thread now, or when it next waits. Never blocks.
    pub(crate) fn ring(&self) {
        // Full means that it rings already; disconnected, that nobody listens any more.
        let _ = self.0.try_send(());
    }
}

/// The collecting side.
pub(crate) struct BatchSender {
    full: Producer<MetricBatch>,
    empty: Consumer<MetricBatch>,
    /// The batch that found the queue full, for its memory.
    spare: Option<MetricBatch>,
    bell: Bell,
}

/// The consuming side of a queue whose bell somebody else hears.
pub(crate) struct BatchRing {
    full: Consumer<MetricBatch>,
    empty: Producer<MetricBatch>,
}

/// The consuming side: one batch per pass, in order.
///
/// Ends with `None`/[`RecvError::Closed`] after the agent stopped and the queue is drained.
pub struct BatchReceiver {
    ring: BatchRing,
    bell: Receiver<()>,
}

/// Why no batch came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RecvError {
    /// None within the time.
    #[error("no pass within the time allowed; wait longer than the agent's interval")]
    Timeout,
    /// The agent has stopped and everything it collected was received.
    #[error("the agent has stopped; start a new one to collect further")]
    Closed,
}

/// A queue for at most `passes` batches.
pub(crate) fn queue(passes: usize) -> (BatchSender, BatchReceiver) {
    let (bell, heard) = Bell::new();
    let (sender, ring) = ring(passes, bell);
    (sender, BatchReceiver { ring, bell: heard })
}

/// A queue for at most `passes` batches that rings this bell.
pub(crate) fn ring(passes: usize, bell: Bell) -> (BatchSender, BatchRing) {
    let (full_in, full_out) = RingBuffer::new(passes);
    // One more than can wait: the consumer may hold one while the ring is full.
    let (empty_in, empty_out) = RingBuffer::new(passes + 1);
    (
        BatchSender { full: full_in, empty: empty_out, spare: None, bell },
        BatchRing { full: full_out, empty: empty_in },
    )
}

impl BatchSender {
    /// An empty batch, with the memory of an earlier one if one came back.
    pub(crate) fn empty_batch(&mut self) -> MetricBatch {
        self.spare.take().or_else(|| self.empty.pop().ok()).unwrap_or_default()
    }

    /// Hands a batch over; false if the queue is full. Never blocks.
    ///
    /// When the queue is full the newest batch is the one that is lost, because a ring with a
    /// single consumer cannot be emptied from this side.
    pub(crate) fn send(&mut self, batch: MetricBatch) -> bool {
        if let Err(rtrb::PushError::Full(batch)) = self.full.push(batch) {
            self.spare = Some(batch);
            return false;
        }
        self.bell.ring();
        true
    }

    /// Whether the consumer is gone, so that collecting is of no use.
    pub(crate) fn is_abandoned(&self) -> bool {
        self.full.is_abandoned()
    }
}

impl BatchRing {
    /// The next batch, if there is one.
    pub(crate) fn pop(&mut self) -> Option<MetricBatch> {
        self.full.pop().ok()
    }

    /// Gives the memory of a batch back to the collectors. Contents are discarded.
    pub(crate) fn recycle(&mut self, mut batch: MetricBatch) {
        batch.clear();
        // If more come back than were ever under way, the surplus is simply freed.
        let _ = self.empty.push(batch);
    }
}

impl BatchReceiver {
    /// Waits for the next batch; `None` once the agent has stopped and the queue is drained.
    pub fn recv(&mut self) -> Option<MetricBatch> {
        loop {
            if let Some(batch) = self.ring.pop() {
                return Some(batch);
            }
            if self.bell.recv().is_err() {
                return self.ring.pop();
            }
        }
    }

    /// Waits at most `timeout` for the next batch. A zero timeout only looks.
    ///
    /// # Errors
    /// [`RecvError`].
    pub fn recv_timeout(&mut self, timeout: Duration) -> Result<MetricBatch, RecvError> {
        let deadline = Instant::now() + timeout;
        loop {
            if let Some(batch) = self.ring.pop() {
                return Ok(batch);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            match self.bell.recv_timeout(left) {
                Ok(()) => {}
                Err(RecvTimeoutError::Timeout) => return Err(RecvError::Timeout),
                Err(RecvTimeoutError::Disconnected) => {
                    return self.ring.pop().ok_or(RecvError::Closed);
                }
            }
        }
    }

    /// Gives the memory of a batch back to the collectors. Contents are discarded.
    pub fn recycle(&mut self, batch: MetricBatch) {
        self.ring.recycle(batch);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(t_ms: i64) -> MetricBatch {
        MetricBatch { timestamps_ms: vec![t_ms], ..MetricBatch::default() }
    }

    #[test]
    fn a_full_queue_gives_the_newest_back() {
        let (mut sender, mut receiver) = queue(2);
        assert!(sender.send(batch(1)));
        assert!(sender.send(batch(2)));
        assert!(!sender.send(batch(3)));
        assert_eq!(receiver.recv().expect("first").timestamps_ms, [1]);
        assert!(sender.send(batch(4)));
        drop(sender);
        assert_eq!(receiver.recv().expect("second").timestamps_ms, [2]);
        assert_eq!(receiver.recv().expect("fourth").timestamps_ms, [4]);
        assert!(receiver.recv().is_none());
        assert_eq!(receiver.recv_timeout(Duration::ZERO), Err(RecvError::Closed));
    }

    #[test]
    fn memory_goes_round() {
        let (mut sender, mut receiver) = queue(1);
        let mut first = sender.empty_batch();
        first.values.reserve(1_000);
        assert!(sender.send(first));
        let received = receiver.recv_timeout(Duration::ZERO).expect("sent");
        receiver.recycle(received);
        assert!(sender.empty_batch().values.capacity() >= 1_000);
        assert_eq!(sender.empty_batch().values.capacity(), 0);
        assert_eq!(receiver.recv_timeout(Duration::from_millis(1)), Err(RecvError::Timeout));
        drop(receiver);
        assert!(sender.is_abandoned());
    }

    #[test]
    fn a_waiting_consumer_is_woken_in_order() {
        let (mut sender, mut receiver) = queue(4);
        let consumer = std::thread::spawn(move || {
            let mut seen = Vec::new();
            while let Some(batch) = receiver.recv() {
                seen.push(batch.timestamps_ms[0]);
                receiver.recycle(batch);
            }
            seen
        });
        let mut sent = 0;
        while sent < 10_000 {
            if sender.send(batch(sent)) {
                sent += 1;
            }
        }
        drop(sender);
        let seen = consumer.join().expect("consumer ends");
        assert_eq!(seen, (0..10_000).collect::<Vec<_>>());
    }
}
