//! What one broker of the cluster alone does, for as long as it lives: others wait for their turn.
//!
//! Unlike a job it never ends, and another broker has to take it up soon after its holder is gone. What its
//! holder writes down is agreed upon under the term of its lease, so that nothing of one that was
//! superseded counts.

use std::future::Future;
use std::time::Duration;

use catalog::{BrokerId, CatalogError, Command, Expected};
use consensus::Consensus;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::drain::DrainStep;
use super::leases::{Held, Leases, NoResult};
use crate::Broker;
use crate::shared_catalog::SharedCatalog;

/// To evaluate rules and to notify.
pub const ALERTING: &str = "alerting";
/// All there are.
const DUTIES: [&str; 1] = [ALERTING];
/// How long a broker that leaves waits until its duties are given back.
const GIVEN_BACK_WITHIN: Duration = Duration::from_secs(20);

/// One that was not renewed for so long is another's, though its holder is there: renewals may fail, and a
/// leader be elected.
const OVER_AFTER: Duration = Duration::from_secs(12);
/// … and for so long, where its holder is taken for dead as well.
const OF_DEAD_AFTER: Duration = Duration::from_secs(6);
/// Its holder is sure of it for so long: less than that, and than what it takes until the log of one that is
/// taken for dead is taken over, and its leases with it.
const SURE_FOR: Duration = Duration::from_secs(5);
/// How often its holder should renew it.
const RENEWED_EVERY: Duration = Duration::from_secs(2);
/// How often others should look whether they may have it.
const LOOKED_EVERY: Duration = Duration::from_secs(1);
/// How long it may take to hear of everything that was agreed upon.
const CATCH_UP_DEADLINE: Duration = Duration::from_secs(2);
/// How long a renewal may take before the next one is tried.
const RENEWAL_DEADLINE: Duration = Duration::from_secs(3);

/// The way to a duty.
pub struct Duty {
    broker: Broker,
    own: BrokerId,
    leases: Leases,
    over_after: Duration,
    job: &'static str,
}

/// A duty that is held. It ends by itself when it is not renewed.
pub struct HeldDuty {
    held: Held,
    /// When the last renewal that succeeded was asked for.
    sure_since: Mutex<Instant>,
}

/// Who has a duty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Holder {
    /// This broker, or its process of before.
    Own,
    /// Another one.
    Other {
        /// Its name.
        name: String,
        /// Where other brokers reach it, `HOST:PORT`.
        address: String,
    },
    /// Nobody.
    Nobody,
}

/// Why nothing came of what the holder of a duty wanted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DutyError {
    /// Another broker has the duty by now.
    #[error("another broker has taken this over")]
    Lost,
    /// The cluster does not agree now, or did not say in time.
    #[error("{0}")]
    Unavailable(String),
}

impl From<NoResult> for DutyError {
    fn from(error: NoResult) -> DutyError {
        match error {
            // A broker that was taken out of the cluster has no leases any more.
            NoResult::Refused(
                CatalogError::LeaseLost { .. } | CatalogError::UnknownBroker { .. },
            ) => DutyError::Lost,
            other => DutyError::Unavailable(other.to_string()),
        }
    }
}

impl Broker {
    /// The way to a duty of the cluster; `None` beside a log.
    pub fn duty(&self, job: &'static str) -> Option<Duty> {
        let SharedCatalog::Agreed(consensus) = &self.inner.catalog else { return None };
        let own = self.inner.clustered.as_ref()?.members.own();
        let leases = Leases::new(own, consensus.clone(), self.inner.config.now_ms);
        Some(Duty { broker: self.clone(), own, leases, over_after: OVER_AFTER, job })
    }
}

/// Waits, not for ever, until a broker that leaves has given its duties back.
pub(super) async fn given_back(consensus: &Consensus, own: BrokerId) {
    let has_any = || {
        let held = |state: &catalog::State| {
            DUTIES.iter().any(|job| state.lease(job).is_some_and(|lease| lease.holder == own))
        };
        consensus.read(held)
    };
    let end = Instant::now() + GIVEN_BACK_WITHIN;
    while has_any() && Instant::now() < end {
        tokio::time::sleep(LOOKED_EVERY / 10).await;
    }
}

impl Duty {
    /// The same, less patient.
    #[cfg(test)]
    pub(super) fn over_after(self, over_after: Duration) -> Duty {
        Duty { over_after, ..self }
    }

    /// How long whoever wants it waits between two attempts.
    pub fn pause(&self) -> Duration {
        LOOKED_EVERY
    }

    /// Takes it; `None` if another broker has it, this one is about to leave, or the cluster does not agree
    /// now. What was agreed upon before can be read here when this is done.
    pub async fn take(&self) -> Option<HeldDuty> {
        if self.is_leaving() {
            return None;
        }
        // Whoever lags behind would take it without being able to use it; and while no majority agrees,
        // standing still means nothing.
        if self.leases.consensus.catch_up(CATCH_UP_DEADLINE).await.is_err() {
            self.leases.forget(self.job);
            return None;
        }
        // One of before, of which this process knows nothing: whatever else was sent under its term, such as to
        // give it back, may arrive at any time, and must not concern the new one.
        let own_term = self.leases.consensus.read(|state| {
            let own = state.lease(self.job).filter(|lease| lease.holder == self.own);
            own.map(|lease| lease.term)
        });
        if let Some(term) = own_term
            && !self.leases.is_given(self.job, term).await
        {
            return None;
        }
        let asked = Instant::now();
        let over_after = match self.is_of_dead() {
            true => self.over_after.min(OF_DEAD_AFTER),
            false => self.over_after,
        };
        let leases = self.leases.clone().over_after(over_after);
        let held = leases.take(self.job.to_owned()).await?;
        Some(HeldDuty { held, sure_since: Mutex::new(asked) })
    }

    /// Whether this broker should give back what it has, since it is about to leave the cluster.
    pub fn is_leaving(&self) -> bool {
        self.broker.drain_progress().is_some_and(|progress| progress.step != DrainStep::Serving)
    }

    /// Whether whoever has it is taken for dead.
    fn is_of_dead(&self) -> bool {
        let holder = self.leases.consensus.read(|state| Some(state.lease(self.job)?.holder));
        let members = holder.map(|id| (id, self.broker.cluster_members()));
        members.is_some_and(|(id, members)| {
            // Who is not seen to live itself sees nobody live.
            let lives = |wanted: BrokerId| {
                members.iter().any(|member| member.id == wanted && member.is_alive)
            };
            lives(self.own) && !lives(id)
        })
    }

    /// Who has it, as far as this broker knows.
    pub fn holder(&self) -> Holder {
        let read = |state: &catalog::State| {
            let holder = state.lease(self.job)?.holder;
            let info = state.broker(holder).map(|broker| broker.info.clone());
            Some((holder, info))
        };
        match self.leases.consensus.read(read) {
            Some((holder, _)) if holder == self.own => Holder::Own,
            Some((_, Some(info))) => Holder::Other { name: info.name, address: info.address },
            // It was taken out of the cluster.
            Some((_, None)) | None => Holder::Nobody,
        }
    }
}

impl HeldDuty {
    /// How often it should be renewed.
    pub fn renewed_every(&self) -> Duration {
        RENEWED_EVERY
    }

    /// Keeps it for longer.
    ///
    /// # Errors
    /// [`DutyError`]. When the cluster does not agree it may go on: nobody else has it either.
    pub async fn renew(&self) -> Result<(), DutyError> {
        let asked = Instant::now();
        let renewed = self.held.renew(RENEWAL_DEADLINE).await;
        renewed.map_err(DutyError::from)?;
        *self.sure_since.lock() = asked;
        Ok(())
    }

    /// Whether no other broker can have it. Where this is not so another one may, or nobody.
    pub fn is_sure(&self) -> bool {
        self.sure_since.lock().elapsed() < SURE_FOR
    }

    /// Writes a key, if it is still held.
    ///
    /// # Errors
    /// [`DutyError`].
    pub fn put(
        &self,
        key: String,
        value: Vec<u8>,
    ) -> impl Future<Output = Result<(), DutyError>> + Send + '_ {
        self.propose(Command::Put { key, value, expected: Expected::Any })
    }

    /// Removes a key, if it is still held.
    ///
    /// # Errors
    /// [`DutyError`].
    pub fn delete(&self, key: String) -> impl Future<Output = Result<(), DutyError>> + Send + '_ {
        self.propose(Command::Delete { key, expected: Expected::Any })
    }

    async fn propose(&self, command: Command) -> Result<(), DutyError> {
        self.held.propose(command).await.map(drop).map_err(DutyError::from)
    }

    /// Gives it back, so that others need not wait.
    pub async fn give(&self) {
        self.held.give().await;
    }
}
