//! Rules and notifications in a cluster: one broker evaluates and notifies for all, the others wait until it
//! is gone.
//!
//! ```text
//! wait ──► the lease is free, or stood still for too long ──► what was kept is taken up ──► evaluate, notify
//!   ▲                                                                                        │
//!   └───────── superseded, leaving the cluster, stopping: the lease is given back ◄──────────┘
//! ```
//!
//! All that is kept is written under the term of the lease, and a message is sent when what led to it is
//! written. So a broker that was superseded without noticing sends nothing more.

use std::sync::Arc;
use std::time::Duration;

use broker::cluster::{Duty, DutyError, HeldDuty};
use ruler::notify::Ended;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::{Alerting, Tasks};

/// How often it is looked whether this broker is about to leave.
const LOOKED_EVERY: Duration = Duration::from_millis(250);
/// After a failed start, or an end that nobody expected, the next attempt waits so long; other brokers may take the
/// turn meanwhile.
const REST_AFTER_FAILURE: Duration = Duration::from_secs(15);

/// Waits for its turn, and works then.
pub(super) struct InTurn {
    is_stopping: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl InTurn {
    pub(super) fn start(alerting: &Arc<Alerting>, duty: Arc<Duty>) -> InTurn {
        let (is_stopping, stopping) = watch::channel(false);
        let turn = Turn { alerting: Arc::clone(alerting), duty, stopping };
        InTurn { is_stopping, task: tokio::spawn(turn.run()) }
    }

    /// Gives back what it has.
    pub(super) async fn stop(self) {
        let _ = self.is_stopping.send(true);
        let _ = self.task.await;
    }
}

struct Turn {
    alerting: Arc<Alerting>,
    duty: Arc<Duty>,
    stopping: watch::Receiver<bool>,
}

/// Why a turn ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Over {
    /// Another broker has it.
    Superseded,
    /// This broker is about to leave the cluster.
    Leaving,
    /// The process is about to end.
    Stopping,
    /// It ended by itself, which it should not.
    Broken,
}

impl Turn {
    async fn run(mut self) {
        loop {
            let held = tokio::select! {
                () = stopped(&mut self.stopping) => return,
                held = self.duty.take() => held,
            };
            let pause = match held {
                None => self.duty.pause(),
                Some(held) => self.take(Arc::new(held)).await,
            };
            tokio::select! {
                () = stopped(&mut self.stopping) => return,
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// Has a turn; yields how long it waits for the next one.
    async fn take(&mut self, held: Arc<HeldDuty>) -> Duration {
        let tasks = match self.alerting.sit_down(Some(Arc::clone(&held))).await {
            Ok(tasks) => tasks,
            Err(error) => {
                tracing::error!(
                    "it is this broker's turn to evaluate rules and notify, and it cannot; another broker \
                     may: {error:#}"
                );
                held.give().await;
                return REST_AFTER_FAILURE;
            }
        };
        tracing::info!(
            "this broker evaluates rules and notifies from now on, for all of the cluster"
        );
        let (over, tasks) = self.work(&held, tasks).await;
        self.alerting.seat.leave();
        match over {
            Over::Superseded => {
                // Whoever has it by now tells of the same.
                tasks.running.notifications.supersede();
                tracing::warn!("another broker evaluates rules and notifies by now");
                tasks.end().await;
                return self.duty.pause();
            }
            Over::Broken => tracing::error!(
                "what evaluates rules or notifies ended unexpectedly, see above; another broker may"
            ),
            Over::Leaving | Over::Stopping => {}
        }
        tasks.end().await;
        held.give().await;
        tracing::info!("another broker may evaluate rules and notify from now on");
        if over == Over::Broken {
            return REST_AFTER_FAILURE;
        }
        self.duty.pause()
    }

    /// Until it is over.
    async fn work(&mut self, held: &HeldDuty, mut tasks: Tasks) -> (Over, Tasks) {
        let mut renewal_due = Instant::now() + held.renewed_every();
        loop {
            tokio::select! {
                () = stopped(&mut self.stopping) => return (Over::Stopping, tasks),
                ended = &mut tasks.driving => {
                    let is_superseded = ended.is_ok_and(|ended| ended == Ended::Superseded);
                    return (if is_superseded { Over::Superseded } else { Over::Broken }, tasks);
                }
                _ = &mut tasks.evaluating => return (Over::Broken, tasks),
                () = tokio::time::sleep(LOOKED_EVERY) => {}
            }
            if self.duty.is_leaving() {
                return (Over::Leaving, tasks);
            }
            if Instant::now() < renewal_due {
                continue;
            }
            match held.renew().await {
                // Without a majority nobody else has it either, and whoever has to be told is told.
                Ok(()) | Err(DutyError::Unavailable(_)) => {}
                Err(DutyError::Lost) => return (Over::Superseded, tasks),
            }
            renewal_due = Instant::now() + held.renewed_every();
        }
    }
}

/// Ends when the process is about to end.
async fn stopped(stopping: &mut watch::Receiver<bool>) {
    // Nobody could say any more that it is not.
    let _ = stopping.wait_for(|stopping| *stopping).await;
}
