//! A member whose part has ended by itself ends as a whole, and the log is kept small.

use std::sync::Arc;
use std::time::Duration;

use crate::log_store::Failure;
use crate::member::Inner;

/// How often the size of the log is looked at.
const LOOK: Duration = Duration::from_millis(500);

impl Inner {
    /// Tells when openraft's part has ended and nobody asked it to: a snapshot that cannot be written,
    /// or a panic. What is left would answer without taking part.
    pub(crate) async fn end_with_the_core(self: Arc<Self>) {
        let mut stopping = self.stopping.subscribe();
        let mut metrics = self.raft.metrics();
        let why = loop {
            if let Err(fatal) = &metrics.borrow_and_update().running_state {
                break fatal.to_string();
            }
            tokio::select! {
                biased;
                _ = stopping.changed() => return,
                changed = metrics.changed() => {
                    if changed.is_err() {
                        break "its task is gone".to_owned();
                    }
                }
            }
        };
        if !*self.stopping.borrow() {
            (self.on_failure)(&Failure::Ended(&why));
        }
    }

    /// Has the state written down and the log shortened when its entries take too much memory: openraft
    /// counts entries, and one of a busy cluster is ten thousand times as long as one of an idle one.
    pub(crate) async fn keep_the_log_small(self: Arc<Self>) {
        let mut stopping = self.stopping.subscribe();
        let most_bytes = self.config.max_log_bytes;
        loop {
            tokio::select! {
                biased;
                _ = stopping.changed() => return,
                () = tokio::time::sleep(LOOK) => {}
            }
            if self.log.size_bytes() <= most_bytes {
                continue;
            }
            let metrics = self.raft.metrics().borrow().clone();
            let index = |id: Option<crate::types::LogId>| id.map_or(0, |id| id.index);
            let (snapshot, applied) = (index(metrics.snapshot), index(metrics.last_applied));
            // Half of it stays for those that are a little behind.
            let through = self.log.last_within(most_bytes / 2).saturating_sub(1).min(applied);
            let trigger = self.raft.trigger();
            if snapshot > index(metrics.purged) {
                let _ = trigger.purge_log(through.min(snapshot)).await;
            }
            if snapshot < through {
                let _ = trigger.snapshot().await;
            }
        }
    }
}
