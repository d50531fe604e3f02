//! Jobs that any broker may do and one does at a time.
//!
//! Who has a lease does the job, and what comes of it is agreed upon [under its term](catalog::Command::Under):
//! a broker that lost the lease meanwhile, because it was cut off or stood still, is refused.
//!
//! No two clocks are compared: a lease is over when whoever wants it saw it stand still for as long as it may,
//! by its own clock, and it is taken [as it was seen](LeaseClaim::Over).

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use catalog::{BROKER_LEASES, BrokerId, CatalogError, Command, Lease, LeaseClaim, Outcome};
use consensus::{Consensus, ProposeError};
use parking_lot::Mutex;
use tokio::time::Instant;

use super::writer::AGREE_DEADLINE;

/// A lease that is not renewed is another's after so long.
const LEASE: Duration = Duration::from_secs(60);
/// How often it is renewed while the job is done.
const RENEWED_EVERY: Duration = Duration::from_secs(15);

/// After so many times as long nobody comes back to one that nobody else wanted: days that are never merged
/// again.
const ABANDONED_AFTER: u32 = 60;
/// Most that are given back in one round, a minute.
const GIVEN_AT_ONCE: usize = 1_000;

/// The way to leases.
#[derive(Clone)]
pub(super) struct Leases {
    own: BrokerId,
    pub(super) consensus: Consensus,
    now_ms: fn() -> i64,
    /// A minute, unless something else was said.
    over_after: Duration,
    watched: Arc<Mutex<BTreeMap<String, Watched>>>,
}

/// A lease as it was seen, and since when it is so.
#[derive(Debug, Clone, Copy)]
struct Watched {
    term: u64,
    renewals: u64,
    since: Instant,
}

impl Watched {
    /// Of now, or of before if it stood still.
    fn of(lease: &Lease, before: Option<Watched>) -> Watched {
        let Lease { term, renewals, .. } = *lease;
        let same = before.filter(|one| (one.term, one.renewals) == (term, renewals));
        same.unwrap_or(Watched { term, renewals, since: Instant::now() })
    }
}

/// A lease that was taken. It ends by itself when it is not renewed.
pub(super) struct Held {
    pub(super) leases: Leases,
    pub(super) job: String,
    pub(super) term: u64,
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
    pub(super) fn new(own: BrokerId, consensus: Consensus, now_ms: fn() -> i64) -> Self {
        Leases { own, consensus, now_ms, over_after: LEASE, watched: Arc::default() }
    }

    /// The same, patient for another time.
    pub(super) fn over_after(self, over_after: Duration) -> Self {
        Leases { over_after, ..self }
    }

    /// Takes a lease; `None` if another broker has it, or the cluster does not agree now. One that its holder
    /// does not renew is had by who asks again and again.
    pub(super) async fn take(&self, job: String) -> Option<Held> {
        let of_another = self
            .consensus
            .read(|state| state.lease(&job).filter(|lease| lease.holder != self.own).cloned());
        let claim = match of_another {
            None => LeaseClaim::Free,
            // What would be refused costs the cluster nothing.
            Some(lease) => self.watch(&job, &lease)?,
        };
        let term = self.propose(&job, claim).await?;
        Some(Held { leases: self.clone(), job, term })
    }

    /// What was seen of a job counts no more: it begins to stand still anew.
    pub(super) fn forget(&self, job: &str) {
        self.watched.lock().remove(job);
    }

    /// Gives back what this broker had under a term; whether that counts, or it had it no more.
    pub(super) async fn is_given(&self, job: &str, term: u64) -> bool {
        let command = Command::GiveLease { job: job.to_owned(), term };
        let given = self.consensus.propose(command, AGREE_DEADLINE).await;
        matches!(given, Ok(_) | Err(ProposeError::Catalog(_)))
    }

    /// The claim to a lease of another, if it stood still for long enough.
    fn watch(&self, job: &str, lease: &Lease) -> Option<LeaseClaim> {
        let mut watched = self.watched.lock();
        let now = Watched::of(lease, watched.get(job).copied());
        watched.insert(job.to_owned(), now);
        let Watched { term, renewals, since } = now;
        (since.elapsed() >= self.over_after).then_some(LeaseClaim::Over { term, renewals })
    }

    /// Looks at all leases, now and then; yields those that stood still for so long that their holders do not
    /// come back to them, with their terms.
    pub(super) fn abandoned(&self) -> Vec<(String, u64)> {
        let mut watched = self.watched.lock();
        let before = std::mem::take(&mut *watched);
        *watched = self.consensus.read(|state| {
            let jobs = state.leases("").filter(|(job, _)| !job.starts_with(BROKER_LEASES));
            jobs.map(|(job, lease)| (job.to_owned(), Watched::of(lease, before.get(job).copied())))
                .collect()
        });
        let old = watched
            .iter()
            .filter(|(_, one)| one.since.elapsed() >= ABANDONED_AFTER * self.over_after);
        old.map(|(job, one)| (job.clone(), one.term)).collect()
    }

    /// Gives leases back that are nobody's any more.
    pub(super) async fn give_back(&self, abandoned: Vec<(String, u64)>) {
        for (job, term) in abandoned.into_iter().take(GIVEN_AT_ONCE) {
            // Else it is tried again in a minute.
            if !self.is_given(&job, term).await {
                return;
            }
        }
    }

    pub(super) async fn propose(&self, job: &str, claim: LeaseClaim) -> Option<u64> {
        self.claim(job, claim, AGREE_DEADLINE).await.ok()
    }

    /// Claims a lease, and yields the term.
    async fn claim(
        &self,
        job: &str,
        claim: LeaseClaim,
        deadline: Duration,
    ) -> Result<u64, ProposeError> {
        let for_ms = i64::try_from(self.over_after.as_millis()).expect("seconds");
        let until_ms = (self.now_ms)().saturating_add(for_ms);
        let (job, holder) = (job.to_owned(), self.own);
        let command = Command::TakeLease { job, holder, claim, until_ms };
        match self.consensus.propose(command, deadline).await? {
            Outcome::Term(term) => Ok(term),
            other => unreachable!("a lease is answered with its term, not {other:?}"),
        }
    }
}

impl Held {
    /// By what right it is kept for longer.
    pub(super) fn claim(&self) -> LeaseClaim {
        LeaseClaim::Held { term: self.term }
    }

    /// Keeps the lease while something is done.
    pub(super) async fn keep<T>(&self, work: impl Future<Output = T>) -> T {
        let mut work = std::pin::pin!(work);
        loop {
            tokio::select! {
                biased;
                result = &mut work => return result,
                () = tokio::time::sleep(RENEWED_EVERY) => {}
            }
            let renewal = self.leases.propose(&self.job, self.claim());
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

    /// Keeps the lease for longer.
    ///
    /// # Errors
    /// Refused, because another has it, or unknown.
    pub(super) async fn renew(&self, deadline: Duration) -> Result<(), NoResult> {
        match self.leases.claim(&self.job, self.claim(), deadline).await {
            Ok(_) => Ok(()),
            Err(ProposeError::Catalog(error)) => Err(NoResult::Refused(error)),
            Err(error) => Err(NoResult::Doubtful(error.to_string())),
        }
    }

    /// Gives the lease back.
    pub(super) async fn give(&self) {
        // If it is not, it ends by itself.
        let _ = self.leases.is_given(&self.job, self.term).await;
    }
}
