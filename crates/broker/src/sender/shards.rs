//! The shards of a remote: each sends its series in order, one request at a time.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::delivery::Delivery;
use super::rows::{Amount, Chunk, Kind, Row};

/// What a shard is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// Send when there is a full request or the first row has waited long enough.
    Run,
    /// Send what is there at once, then end.
    Finish,
    /// End after the request that is under way, and leave the rest.
    Halt,
}

/// Rows that wait for one shard.
#[derive(Debug)]
pub(super) struct ShardQueue {
    state: Mutex<State>,
    filled: Notify,
    capacity: usize,
    space: Arc<Space>,
}

#[derive(Debug)]
struct State {
    chunks: VecDeque<Chunk>,
    rows: usize,
    /// The first frame of the request under way.
    in_flight: Option<u64>,
    phase: Phase,
}

/// Wakes the reader when a shard has taken something.
#[derive(Debug, Default)]
pub(super) struct Space {
    lock: Mutex<()>,
    freed: Condvar,
}

impl Space {
    /// Waits until something was taken, or for a while.
    pub(super) fn wait(&self, timeout: Duration) {
        self.freed.wait_for(&mut self.lock.lock(), timeout);
    }
}

impl ShardQueue {
    fn new(capacity: usize, space: &Arc<Space>) -> Self {
        let state = State { chunks: VecDeque::new(), rows: 0, in_flight: None, phase: Phase::Run };
        let (state, space) = (Mutex::new(state), Arc::clone(space));
        ShardQueue { state, filled: Notify::new(), capacity, space }
    }

    /// Appends a chunk unless the queue is full; gives it back then. An empty queue takes every
    /// chunk.
    fn push(&self, chunk: Chunk) -> Result<(), Chunk> {
        let mut state = self.state.lock();
        if state.rows > 0 && state.rows + chunk.rows.len() > self.capacity {
            return Err(chunk);
        }
        state.rows += chunk.rows.len();
        state.chunks.push_back(chunk);
        drop(state);
        self.filled.notify_one();
        Ok(())
    }

    /// Rows for the next request, at most `max`, as soon as there are enough or the first has waited
    /// for `deadline`. `None`: the shard is to end.
    pub(super) async fn next(&self, max: usize, deadline: Duration) -> Option<Vec<Chunk>> {
        loop {
            let filled = self.filled.notified();
            let wait = {
                let mut state = self.state.lock();
                let waited = state.chunks.front().map(|first| first.at.elapsed());
                let is_due = waited.is_some_and(|waited| waited >= deadline);
                match state.phase {
                    Phase::Halt => return None,
                    Phase::Finish if state.rows == 0 => return None,
                    Phase::Run if state.rows < max && !is_due => {
                        waited.map(|waited| deadline.saturating_sub(waited))
                    }
                    Phase::Finish | Phase::Run => {
                        let taken = state.take(max);
                        drop(state);
                        self.space.freed.notify_all();
                        return Some(taken);
                    }
                }
            };
            match wait {
                Some(wait) => {
                    let _ = tokio::time::timeout(wait, filled).await;
                }
                None => filled.await,
            }
        }
    }

    /// What was taken last is done with: sent, or given up.
    pub(super) fn settle(&self) {
        self.state.lock().in_flight = None;
    }

    /// Puts back what was taken last and could not be sent.
    pub(super) fn give_back(&self, chunks: Vec<Chunk>) {
        let mut state = self.state.lock();
        for chunk in chunks.into_iter().rev() {
            state.rows += chunk.rows.len();
            state.chunks.push_front(chunk);
        }
        state.in_flight = None;
    }

    pub(super) fn phase(&self) -> Phase {
        self.state.lock().phase
    }

    /// Ends after `timeout`, or when the shard is to leave the rest.
    pub(super) async fn pause_unless_halted(&self, timeout: Duration) {
        let end = tokio::time::Instant::now() + timeout;
        loop {
            let filled = self.filled.notified();
            if self.phase() == Phase::Halt {
                return;
            }
            if tokio::time::timeout_at(end, filled).await.is_err() {
                return;
            }
        }
    }

    fn enter(&self, phase: Phase) {
        self.state.lock().phase = phase;
        self.filled.notify_one();
    }

    /// The first frame of which something is not done with.
    fn first_outstanding(&self) -> Option<u64> {
        let state = self.state.lock();
        state.in_flight.or_else(|| state.chunks.front().map(|chunk| chunk.frame))
    }
}

impl State {
    fn take(&mut self, max: usize) -> Vec<Chunk> {
        let mut taken = Vec::new();
        let mut left = max;
        while left > 0 {
            let Some(front) = self.chunks.front_mut() else { break };
            let part = if front.rows.len() <= left {
                self.chunks.pop_front().expect("it is there")
            } else {
                // Exemplars stay with the sample before them.
                let is_sample = |row: &Row| row.kind() != Kind::Exemplar;
                let rest = front.rows[left..].iter().position(is_sample);
                let end = rest.map_or(front.rows.len(), |more| left + more);
                let rows = front.rows.drain(..end).collect();
                Chunk { frame: front.frame, at: front.at, rows }
            };
            left = left.saturating_sub(part.rows.len());
            self.rows -= part.rows.len();
            taken.push(part);
        }
        self.in_flight = taken.first().map(|chunk| chunk.frame);
        taken
    }
}

/// All shards of a remote.
pub(super) struct ShardSet {
    queues: Vec<Arc<ShardQueue>>,
    tasks: Vec<JoinHandle<()>>,
    space: Arc<Space>,
    delivery: Arc<Delivery>,
}

impl ShardSet {
    pub(super) fn start(delivery: &Arc<Delivery>, count: usize) -> Self {
        let mut set = ShardSet {
            queues: Vec::new(),
            tasks: Vec::new(),
            space: Arc::default(),
            delivery: Arc::clone(delivery),
        };
        set.open(count);
        set
    }

    fn open(&mut self, count: usize) {
        let queue = &self.delivery.remote().queue;
        let most = queue.capacity.max(queue.max_samples_per_send);
        let capacity = usize::try_from(most).unwrap_or(usize::MAX);
        for _ in 0..count.max(1) {
            let queue = Arc::new(ShardQueue::new(capacity, &self.space));
            let delivery = Arc::clone(&self.delivery);
            let task = Arc::clone(&queue);
            let spawned = self.delivery.runtime().spawn(async move { delivery.run(&task).await });
            self.tasks.push(spawned);
            self.queues.push(queue);
        }
        self.delivery
            .counters()
            .shards
            .store(self.queues.len() as u64, std::sync::atomic::Ordering::Relaxed);
    }

    pub(super) fn count(&self) -> usize {
        self.queues.len()
    }

    pub(super) fn space(&self) -> &Arc<Space> {
        &self.space
    }

    /// Hands a chunk to a shard; gives it back if the shard is full.
    pub(super) fn push(&self, shard: usize, chunk: Chunk) -> Result<(), Chunk> {
        let amount = Amount::of(&chunk.rows);
        self.queues[shard].push(chunk)?;
        self.delivery.counters().add_pending(amount);
        Ok(())
    }

    /// The first frame of which something is not done with.
    pub(super) fn first_outstanding(&self) -> Option<u64> {
        self.queues.iter().filter_map(|queue| queue.first_outstanding()).min()
    }

    /// Ends all shards after the requests that are under way, and goes on with `count` of them.
    /// What they had not sent yet is spread anew, in the order it came.
    pub(super) fn resize(&mut self, count: usize) {
        self.end(Phase::Halt, None);
        let mut left: Vec<Chunk> = Vec::new();
        for queue in self.queues.drain(..) {
            left.extend(std::mem::take(&mut queue.state.lock().chunks));
        }
        // A series was in one shard only, so its rows stay in order.
        left.sort_by_key(|chunk| chunk.frame);
        self.open(count);
        for chunk in left {
            for (shard, chunk) in spread(chunk, count) {
                let queue = &self.queues[shard];
                let mut state = queue.state.lock();
                state.rows += chunk.rows.len();
                state.chunks.push_back(chunk);
                drop(state);
                queue.filled.notify_one();
            }
        }
    }

    /// Sends what is there, until `deadline`.
    pub(super) fn finish(&mut self, deadline: Instant) {
        self.end(Phase::Finish, Some(deadline));
    }

    fn end(&mut self, phase: Phase, deadline: Option<Instant>) {
        self.queues.iter().for_each(|queue| queue.enter(phase));
        let tasks = std::mem::take(&mut self.tasks);
        self.delivery.runtime().block_on(async {
            for mut task in tasks {
                match deadline {
                    None => {
                        let _ = task.await;
                    }
                    Some(deadline) => {
                        if tokio::time::timeout_at(deadline.into(), &mut task).await.is_err() {
                            task.abort();
                        }
                    }
                }
            }
        });
    }
}

impl Drop for ShardSet {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

/// Spreads the rows of a chunk over shards: a series is always in the same.
pub(super) fn spread(chunk: Chunk, count: usize) -> Vec<(usize, Chunk)> {
    if count == 1 {
        return vec![(0, chunk)];
    }
    let Chunk { frame, at, rows } = chunk;
    let mut by_shard: Vec<Vec<Row>> = (0..count).map(|_| Vec::new()).collect();
    for row in rows {
        by_shard[row.hash as usize % count].push(row);
    }
    let chunks = by_shard.into_iter().enumerate().filter(|(_, rows)| !rows.is_empty());
    chunks.map(|(shard, rows)| (shard, Chunk { frame, at, rows })).collect()
}
