//! What the committer tells those who read the log behind it, and what they tell it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use catalog::LogPosition;
use parking_lot::{Condvar, Mutex};

/// Where the log is durable, and from where on it is still read.
///
/// Nobody waits for a reader: one that is slow only keeps files, and not for ever, because it gives
/// up what is beyond its limit.
#[derive(Debug, Default)]
pub(crate) struct Following {
    state: Mutex<State>,
    moved: Condvar,
    /// Newest timestamp made durable while there were readers, milliseconds since the epoch.
    newest_ms: AtomicI64,
    floats: AtomicU64,
    histograms: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    durable: LogPosition,
    /// Readers by name, each with the position behind which it still needs the log.
    readers: BTreeMap<String, LogPosition>,
}

impl Following {
    /// All frames before `durable` are on the disk. Whether anybody wants to know.
    pub(crate) fn publish(&self, durable: LogPosition) -> bool {
        let mut state = self.state.lock();
        state.durable = durable;
        let is_followed = !state.readers.is_empty();
        drop(state);
        if is_followed {
            self.moved.notify_all();
        }
        is_followed
    }

    /// Before where all frames are on the disk.
    pub(crate) fn durable(&self) -> LogPosition {
        self.state.lock().durable
    }

    /// Waits until something behind `position` is durable, at most for `timeout`.
    pub(crate) fn wait_beyond(&self, position: LogPosition, timeout: Duration) {
        let mut state = self.state.lock();
        if state.durable <= position {
            self.moved.wait_for(&mut state, timeout);
        }
    }

    /// Ends the wait of every reader, so that it looks at what else it was told.
    pub(crate) fn wake_all(&self) {
        self.moved.notify_all();
    }

    /// A reader needs the log from `from` on.
    pub(crate) fn hold(&self, reader: &str, from: LogPosition) {
        self.state.lock().readers.insert(reader.to_owned(), from);
    }

    /// A reader needs it no more.
    pub(crate) fn release(&self, reader: &str) {
        self.state.lock().readers.remove(reader);
    }

    /// From where on somebody needs the log; `None` if nobody reads.
    pub(crate) fn keep(&self) -> Option<LogPosition> {
        self.state.lock().readers.values().min().copied()
    }

    /// Counts rows that became durable.
    pub(crate) fn count(&self, batch: &metricstore::ResolvedBatch) {
        for rows in &batch.shards {
            let floats = rows.timestamps_ms.iter().copied().max();
            let histograms = rows.histograms.iter().map(|row| row.t_ms).max();
            let newest = floats.into_iter().chain(histograms).max().unwrap_or(i64::MIN);
            self.newest_ms.fetch_max(newest, Ordering::Relaxed);
            self.floats.fetch_add(rows.ordinals.len() as u64, Ordering::Relaxed);
            self.histograms.fetch_add(rows.histograms.len() as u64, Ordering::Relaxed);
        }
    }

    /// Newest timestamp in milliseconds, floats and histograms counted so far.
    pub(crate) fn counts(&self) -> (i64, u64, u64) {
        (
            self.newest_ms.load(Ordering::Relaxed),
            self.floats.load(Ordering::Relaxed),
            self.histograms.load(Ordering::Relaxed),
        )
    }
}
