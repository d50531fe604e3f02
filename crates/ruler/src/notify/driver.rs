//! Lets time pass, writes down what changed, and has receivers told.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use alerting::notify::Effect;

use super::journal::Journal;
use super::{Ended, Inner};
use crate::keep::KeepError;

/// After a failed write the next attempt waits so long …
const FIRST_PAUSE: Duration = Duration::from_millis(200);
/// … and twice as long after each further one, up to this.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// What is to be sent waits so long for what changed to be written down, then it is sent all the same: a
/// full disk, or a cluster without a majority, is what somebody has to be told of.
const HELD_AT_MOST: Duration = Duration::from_secs(5);
/// At a stop, messages under way have so long to end.
const STOP_PATIENCE: Duration = Duration::from_secs(5);

/// What writes the states down, to be run beside.
pub struct Driver {
    inner: Arc<Inner>,
    journal: Journal,
}

impl Driver {
    pub(super) fn new(inner: Arc<Inner>, journal: Journal) -> Driver {
        Driver { inner, journal }
    }

    /// Drives the notifier until it is stopped or another broker is at it.
    pub async fn run(mut self) -> Ended {
        let ended = self.drive().await;
        self.inner.abandon_all();
        if ended == Ended::Superseded {
            self.inner.saved.send_modify(|saved| saved.is_superseded = true);
        }
        ended
    }

    async fn drive(&mut self) -> Ended {
        let inner = Arc::clone(&self.inner);
        let (mut failures, mut held, mut failing_since) = (0, Vec::new(), None::<Instant>);
        loop {
            let (effects, change, write, due_ns, is_stopped) = {
                let mut core = inner.core.lock();
                if core.is_superseded {
                    return Ended::Superseded;
                }
                let now_ns = inner.clock.now_ns();
                let effects = core.notifier.step(now_ns);
                let changes = core.notifier.take_changes();
                let write = if self.journal.wants_everything() {
                    Write::Everything(Box::new(core.notifier.snapshot()))
                } else if changes == Default::default() {
                    Write::Nothing
                } else {
                    Write::Changes(Box::new(changes))
                };
                (effects, core.changes, write, core.notifier.next_due_ns(), core.is_stopped)
            };
            let written = match write {
                // Another attempt at a message changes nothing, and must not be another broker's as well.
                Write::Nothing if effects.iter().any(is_sent) => self.journal.fence().await,
                Write::Nothing => Ok(()),
                Write::Changes(changes) => self.journal.append(*changes).await,
                Write::Everything(snapshot) => self.journal.replace(*snapshot).await,
            };
            match written {
                Ok(()) => {
                    (failures, failing_since) = (0, None);
                    inner.is_unwritten.store(false, Ordering::Relaxed);
                    inner.saved.send_modify(|saved| {
                        saved.through = change;
                        saved.failed = None;
                    });
                }
                Err(KeepError::Superseded) => return Ended::Superseded,
                Err(KeepError::Unavailable(why)) => {
                    if failures == 0 {
                        tracing::warn!(
                            "what changed of alerts and silences could not be written down, and is \
                             tried again: {why}"
                        );
                    }
                    failures += 1;
                    failing_since.get_or_insert_with(Instant::now);
                    inner.counters.write_failed();
                    inner.saved.send_modify(|saved| saved.failed = Some((change, why)));
                }
            }
            held.extend(effects);
            match failing_since {
                None => inner.carry_out(std::mem::take(&mut held)),
                Some(since) if since.elapsed() >= HELD_AT_MOST => {
                    inner.is_unwritten.store(true, Ordering::Relaxed);
                    inner.carry_out(std::mem::take(&mut held));
                }
                Some(_) => {}
            }
            if is_stopped {
                return self.end().await;
            }
            let pause = (failures > 0)
                .then(|| LONGEST_PAUSE.min(FIRST_PAUSE * 2_u32.pow(u32::min(failures - 1, 8))));
            // Nothing is held for longer than it may be.
            let pause = match failing_since.filter(|_| !held.is_empty()) {
                None => pause,
                Some(since) => {
                    pause.map(|one| one.min(HELD_AT_MOST.saturating_sub(since.elapsed())))
                }
            };
            self.wait(due_ns, pause).await;
        }
    }

    /// Begins nothing more, and waits for what is under way: a message whose outcome is not written down
    /// is told again after the next start.
    async fn end(&mut self) -> Ended {
        let inner = Arc::clone(&self.inner);
        let until = tokio::time::Instant::now() + STOP_PATIENCE;
        loop {
            let is_done = inner.flights.lock().is_empty();
            let changes = inner.core.lock().notifier.take_changes();
            if changes != Default::default() {
                match self.journal.append(changes).await {
                    Ok(()) => {}
                    Err(KeepError::Superseded) => return Ended::Superseded,
                    Err(KeepError::Unavailable(why)) => tracing::warn!(
                        "what receivers were told last could not be written down, and is told again after \
                         the next start: {why}"
                    ),
                }
            }
            if is_done || tokio::time::Instant::now() >= until {
                return Ended::Stopped;
            }
            tokio::select! {
                () = inner.wake.notified() => {}
                () = tokio::time::sleep_until(until) => {}
            }
        }
    }

    /// Waits until something is due, something changed, or a pause is over.
    async fn wait(&self, due_ns: Option<i64>, pause: Option<Duration>) {
        let until_due = due_ns.map(|due_ns| {
            let left_ns = due_ns.saturating_sub(self.inner.clock.now_ns());
            Duration::from_nanos(u64::try_from(left_ns).unwrap_or(0))
        });
        if let Some(pause) = pause {
            // What changes meanwhile waits as well: each attempt writes everything.
            tokio::time::sleep(pause).await;
            return;
        }
        // The clock may be moved, and the sleep goes by another one.
        let longest = Duration::from_secs(10);
        let until = until_due.map_or(longest, |due| due.min(longest));
        tokio::select! {
            () = self.inner.wake.notified() => {}
            () = tokio::time::sleep(until) => {}
        }
    }
}

fn is_sent(effect: &Effect) -> bool {
    matches!(effect, Effect::Send(_))
}

enum Write {
    Nothing,
    Changes(Box<alerting::notify::Changes>),
    Everything(Box<alerting::notify::Snapshot>),
}
