//! Jobs that any broker may do and one does at a time.
//!
//! Who has a lease does the job, and what comes of it is agreed upon [under its term](catalog::Command::Under):
//! a broker that lost the lease meanwhile, because it was cut off or stood still, is refused.

use std::future::Future;
use std::time::Duration;

use catalog::{BrokerId, CatalogError, Command, Outcome};
use consensus::{Consensus, ProposeError};

use super::writer::AGREE_DEADLINE;

/// A lease that is not renewed is another's after so long. Longer than clocks of a cluster should differ:
/// whose clock is ahead by more takes jobs away that are being done, which costs the work.
const LEASE: Duration = Duration::from_secs(60);
/// How often it is renewed while the job is done.
const RENEWED_EVERY: Duration = Duration::from_secs(15);

/// The way to leases.
#[derive(Clone)]
pub(super) struct Leases {
    pub(super) own: BrokerId,
    pub(super) consensus: Consensus,
    pub(super) now_ms: fn() -> i64,
}

/// A lease that was taken. It ends by itself when it is not renewed.
pub(super) struct Held {
    leases: Leases,
    job: String,
    term: u64,
}

/// Why there is no result.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoResult {
    /// It does not count and never will.
    #[error(transparent)]
    Refused(#[from] CatalogError),
    /// Nobody knows, or it was not proposed and may be again.
    #[error("it is not known whether it counts: {0}")]
    Doubtful(String),
}

impl Leases {
    /// Takes a lease; `None` if another broker has it, or the cluster does not agree now.
    pub(super) async fn take(&self, job: String) -> Option<Held> {
        let until = |state: &catalog::State| match state.lease(&job) {
            Some(lease) if lease.holder != self.own => lease.until_ms,
            _ => i64::MIN,
        };
        // What would be refused costs the cluster nothing.
        if self.consensus.read(until) > (self.now_ms)() {
            return None;
        }
        let term = self.propose(&job).await?;
        Some(Held { leases: self.clone(), job, term })
    }

    async fn propose(&self, job: &str) -> Option<u64> {
        let now_ms = (self.now_ms)();
        let until_ms = now_ms.saturating_add(i64::try_from(LEASE.as_millis()).expect("a minute"));
        let (job, holder) = (job.to_owned(), self.own);
        let command = Command::TakeLease { job, holder, now_ms, until_ms };
        match self.consensus.propose(command, AGREE_DEADLINE).await {
            Ok(Outcome::Term(term)) => Some(term),
            Ok(other) => unreachable!("a lease is answered with its term, not {other:?}"),
            Err(_) => None,
        }
    }
}

impl Held {
    /// Keeps the lease while something is done.
    pub(super) async fn keep<T>(&self, work: impl Future<Output = T>) -> T {
        let mut work = std::pin::pin!(work);
        loop {
            tokio::select! {
                biased;
                result = &mut work => return result,
                () = tokio::time::sleep(RENEWED_EVERY) => {}
            }
            let renewal = self.leases.propose(&self.job);
            tokio::select! {
                biased;
                result = &mut work => return result,
                // If it is another's by now the result is refused.
                _ = renewal => {}
            }
        }
    }

    /// Has a result agreed upon, if the lease is still held.
    ///
    /// # Errors
    /// Refused, or unknown.
    pub(super) async fn propose(&self, command: Command) -> Result<Outcome, NoResult> {
        let (job, term) = (self.job.clone(), self.term);
        let command = Command::Under { job, term, command: Box::new(command) };
        match self.leases.consensus.propose(command, AGREE_DEADLINE).await {
            Ok(outcome) => Ok(outcome),
            Err(ProposeError::Catalog(error)) => Err(NoResult::Refused(error)),
            Err(error) => Err(NoResult::Doubtful(error.to_string())),
        }
    }

    /// Gives the lease back.
    pub(super) async fn give(self) {
        let command = Command::GiveLease { job: self.job, term: self.term };
        // If it is not, it ends by itself.
        let _ = self.leases.consensus.propose(command, AGREE_DEADLINE).await;
    }
}
