//! Signals that stop a process, or have it read its configuration again.

use anyhow::{Context, Result};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// SIGTERM, SIGINT and SIGHUP.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    /// From now on none of them ends the process; each is waiting for [`Signals::until_stop`]. To be called
    /// before anybody is told that the process is ready, and not before it has recovered: until then a
    /// signal may end it at once.
    pub(super) fn listen() -> Result<Self> {
        Ok(Signals {
            terminate: signal(SignalKind::terminate()).context("listen for SIGTERM")?,
            interrupt: signal(SignalKind::interrupt()).context("listen for SIGINT")?,
            hangup: signal(SignalKind::hangup()).context("listen for SIGHUP")?,
        })
    }

    /// Waits for the signal to stop; SIGHUP means to read the configuration again.
    pub(super) async fn until_stop(self, reload: impl AsyncFn()) {
        let Signals { mut terminate, mut interrupt, mut hangup } = self;
        let mut stop = std::pin::pin!(async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        });
        loop {
            tokio::select! {
                () = &mut stop => return,
                _ = hangup.recv() => tokio::select! {
                    // A reload may wait for rules of aggregation; nothing of it holds in another process.
                    () = &mut stop => return,
                    () = reload() => {}
                },
            }
        }
    }
}
