//! Says that something is still under way, on standard error.

use std::io::{IsTerminal, Write};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Between two pictures on a terminal.
const TERMINAL_EVERY: Duration = Duration::from_millis(500);
/// Between two lines in a log.
const LOG_EVERY: Duration = Duration::from_secs(10);

/// Tells of it until it is dropped.
pub(crate) struct Waiting {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Waiting {
    /// `what` is under way from now on.
    pub(crate) fn begin(what: &'static str) -> Waiting {
        let (stop, stopped) = channel();
        let thread = std::thread::spawn(move || {
            let (is_terminal, started) = (std::io::stderr().is_terminal(), Instant::now());
            let pause = if is_terminal { TERMINAL_EVERY } else { LOG_EVERY };
            while stopped.recv_timeout(pause) == Err(RecvTimeoutError::Timeout) {
                let line = format!("{what} … {} s", started.elapsed().as_secs());
                if is_terminal {
                    eprint!("\r\x1b[K{line}");
                    // A terminal that takes nothing is no reason to stop.
                    let _ = std::io::stderr().flush();
                } else {
                    eprintln!("{line}");
                }
            }
            if is_terminal {
                eprint!("\r\x1b[K");
            }
        });
        Waiting { stop: Some(stop), thread: Some(thread) }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.stop.take();
        // So that nothing is written over what comes after it.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}
