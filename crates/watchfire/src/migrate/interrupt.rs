//! Ctrl-C ends a move where nothing is left behind by it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, ensure};
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};

use super::words::Words;

/// Whether it was asked to end. What takes long looks at it between its parts.
#[derive(Clone, Default)]
pub(super) struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// Listens from now on. Whoever asks twice does not want to wait.
    pub(super) fn listen(runtime: &Runtime, words: Words) -> Result<Interrupt> {
        let interrupt = Interrupt::default();
        let _entered = runtime.enter();
        for kind in [SignalKind::interrupt(), SignalKind::terminate()] {
            let mut signals = signal(kind).context("listen for signals")?;
            let asked = interrupt.clone();
            runtime.spawn(async move {
                while signals.recv().await.is_some() {
                    if asked.0.swap(true, Ordering::Relaxed) {
                        std::process::exit(130);
                    }
                    eprintln!("\n{}", words.stopping());
                }
            });
        }
        Ok(interrupt)
    }

    /// # Errors
    /// It was.
    pub(super) fn check(&self) -> Result<()> {
        ensure!(!self.0.load(Ordering::Relaxed), "interrupted");
        Ok(())
    }
}
