//! What one query holds.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use crate::budget::Governor;

/// How long a query that holds nothing yet waits for others to give back.
const PATIENCE: Duration = Duration::from_secs(2);
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Why no more may be held. The text names the limit, its value and the remedy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// This query is too large, now and later.
    #[error("{0}")]
    TooLarge(String),
    /// All queries together are, or the process is short of memory; later it may fit.
    #[error("{0}")]
    Later(String),
    /// Nobody wants the answer any more, or the query was stopped.
    #[error("query was cancelled")]
    Cancelled,
}

/// One query, or another request that reads: what it holds, and whether it shall go on.
///
/// Everything it held is given back when the last handle goes.
#[derive(Debug)]
pub struct Account {
    governor: Arc<Governor>,
    limit: usize,
    used: AtomicUsize,
    peak: AtomicUsize,
    cancelled: AtomicBool,
    why_stopped: OnceLock<String>,
}

impl Account {
    pub(crate) fn new(governor: Arc<Governor>, limit: usize) -> Self {
        Account {
            governor,
            limit,
            used: AtomicUsize::new(0),
            peak: AtomicUsize::new(0),
            cancelled: AtomicBool::new(false),
            why_stopped: OnceLock::new(),
        }
    }

    /// Counts `bytes` that are about to be allocated. A query that holds nothing yet waits a short
    /// while if others hold everything; so nobody waits who holds something.
    ///
    /// # Errors
    /// [`Refused`]; then nothing is counted.
    pub fn take(&self, bytes: usize) -> Result<(), Refused> {
        let begin = Instant::now();
        loop {
            if self.is_cancelled() {
                return Err(Refused::Cancelled);
            }
            let used = self.used.fetch_add(bytes, Ordering::Relaxed) + bytes;
            if used > self.limit {
                self.used.fetch_sub(bytes, Ordering::Relaxed);
                return Err(Refused::TooLarge(format!(
                    "the query would hold {used} bytes, limits.max_query_bytes is {}: select \
                     fewer series, use a shorter range or a longer step, or raise the limit",
                    self.limit
                )));
            }
            match self.governor.take(bytes) {
                Ok(()) => {
                    self.peak.fetch_max(used, Ordering::Relaxed);
                    return Ok(());
                }
                Err(text) => {
                    self.used.fetch_sub(bytes, Ordering::Relaxed);
                    if used > bytes || begin.elapsed() >= PATIENCE {
                        self.governor.count_refused_query();
                        return Err(Refused::Later(text));
                    }
                }
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }

    /// Gives back what was taken, or a part of it.
    pub fn give_back(&self, bytes: usize) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
        self.governor.give_back(bytes);
    }

    /// As [`Account::take`], until what it yields is dropped.
    ///
    /// # Errors
    /// As [`Account::take`].
    pub fn hold(self: &Arc<Self>, bytes: usize) -> Result<Held, Refused> {
        self.take(bytes)?;
        Ok(Held { account: Arc::clone(self), bytes })
    }

    /// Bytes held now.
    pub fn bytes(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    /// The most that was held at once.
    pub fn peak_bytes(&self) -> usize {
        self.peak.load(Ordering::Relaxed)
    }

    /// Lets the work end at the next place where it looks.
    pub fn cancel(&self) {
        self.cancelled.store(true, Ordering::Relaxed);
    }

    /// As [`Account::cancel`], with the text that whoever asked will get. The first one stays.
    pub fn stop(&self, why: String) {
        let _ = self.why_stopped.set(why);
        self.cancel();
    }

    /// Whether the work shall end.
    pub fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }

    /// True once the work shall end.
    pub fn cancelled(&self) -> &AtomicBool {
        &self.cancelled
    }

    /// Why it was stopped, if it was.
    pub fn why_stopped(&self) -> Option<&str> {
        self.why_stopped.get().map(String::as_str)
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        self.governor.give_back(*self.used.get_mut());
    }
}

/// Bytes of an account, given back when dropped.
#[derive(Debug)]
pub struct Held {
    account: Arc<Account>,
    bytes: usize,
}

impl Held {
    /// Bytes held by this.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Holds `bytes` in all, more or less than before.
    ///
    /// # Errors
    /// As [`Account::take`]; then it holds what it held.
    pub fn resize(&mut self, bytes: usize) -> Result<(), Refused> {
        if bytes > self.bytes {
            self.account.take(bytes - self.bytes)?;
        } else {
            self.account.give_back(self.bytes - bytes);
        }
        self.bytes = bytes;
        Ok(())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.account.give_back(self.bytes);
    }
}

/// Memory that background work holds beside queries, given back when dropped. Nobody waits for it and nobody
/// stops it.
#[derive(Debug)]
pub struct Room {
    pub(crate) governor: Arc<Governor>,
    pub(crate) bytes: usize,
}

impl Room {
    /// Holds `bytes` in all, more or less than before.
    ///
    /// # Errors
    /// Why not; then it holds what it held.
    pub fn resize(&mut self, bytes: usize) -> Result<(), String> {
        if bytes > self.bytes {
            self.governor.take(bytes - self.bytes)?;
        } else {
            self.governor.give_back(self.bytes - bytes);
        }
        self.bytes = bytes;
        Ok(())
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.governor.give_back(self.bytes);
    }
}
