//! A broker that is lost is taken out of its cluster by another one.

use std::time::Duration;

use catalog::{BrokerId, CatalogError, Command};
use consensus::ProposeError;

use super::drain::LEAVE_DEADLINE;
use super::members::ClusterMember;
use super::writer::AGREE_DEADLINE;
use crate::Broker;

/// One that is silent for less may be starting again.
pub(super) const LOST_AFTER: Duration = Duration::from_secs(60);

/// Why a broker is not taken out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LostError {
    /// It is none of a cluster.
    #[error("this broker is alone: there is no other one to take out")]
    Alone,
    /// Nobody is called so.
    #[error("there is no broker {name:?}; there are {known}")]
    Unknown {
        /// The name or number that was given.
        name: String,
        /// All there are.
        known: String,
    },
    /// Several are called so.
    #[error(
        "several brokers are called {name:?}: name the one that is lost by its number, of {ids}"
    )]
    Several {
        /// The name.
        name: String,
        /// Their numbers.
        ids: String,
    },
    /// It lives.
    #[error(
        "the broker {name:?} is not lost: it lives, or was heard {silent_seconds} s ago. One that lives \
         leaves by `watchfire drain` on its host; one that is gone can be taken out when it was silent \
         for {} s",
        LOST_AFTER.as_secs()
    )]
    Alive {
        /// Its name.
        name: String,
        /// For how long it is silent.
        silent_seconds: u64,
    },
    /// What it took is in no block.
    #[error(
        "the broker {name:?} left {segments} segments that are in no block yet: another one makes blocks of \
         them when it was silent for five minutes. Try again then; if they do not become fewer, \
         `watchfire cluster status` says why"
    )]
    Unflushed {
        /// Its name.
        name: String,
        /// How many.
        segments: u64,
    },
    /// Nobody agrees.
    #[error("the broker was not taken out: {0}")]
    Unavailable(String),
}

impl Broker {
    /// Takes a broker that is lost out of the cluster: the catalog lists it no more, and its vote is
    /// taken away. `name` is its name, or its number in hexadecimal. May be repeated. One that comes back all the same
    /// is taken in again, as a broker that has nothing.
    ///
    /// # Errors
    /// [`LostError`].
    pub async fn remove_lost(&self, name: &str) -> Result<(), LostError> {
        self.remove_lost_after(name, LOST_AFTER).await
    }

    pub(super) async fn remove_lost_after(
        &self,
        name: &str,
        silent: Duration,
    ) -> Result<(), LostError> {
        let clustered = self.inner.clustered.as_ref().ok_or(LostError::Alone)?;
        let consensus = clustered.members.consensus().clone();
        let unavailable = |error: &dyn std::fmt::Display| LostError::Unavailable(error.to_string());
        consensus.catch_up(AGREE_DEADLINE).await.map_err(|error| unavailable(&error))?;
        let listed = self.cluster_members();
        let is_meant = |id: BrokerId, called: &str| called == name || id.to_string() == name;
        let meant: Vec<&ClusterMember> =
            listed.iter().filter(|member| is_meant(member.id, &member.name)).collect();
        let members = consensus.status().members;
        let id = match meant[..] {
            [one] => {
                self.forget_lost(one, silent).await?;
                one.id
            }
            // It may have been forgotten before, and its vote be there still.
            [] => {
                let voting = members.iter().map(|(id, (member, _))| (BrokerId(*id), member));
                let is_left = |id| listed.iter().all(|member| member.id != id);
                let mut left = voting.filter(|(id, _)| is_left(*id));
                let found = left.find(|(id, member)| is_meant(*id, &member.name));
                found.map(|(id, _)| id).ok_or_else(|| LostError::Unknown {
                    name: name.to_owned(),
                    known: listed
                        .iter()
                        .map(|one| one.name.as_str())
                        .collect::<Vec<_>>()
                        .join(", "),
                })?
            }
            _ => {
                let ids: Vec<String> = meant.iter().map(|one| one.id.to_string()).collect();
                return Err(LostError::Several { name: name.to_owned(), ids: ids.join(", ") });
            }
        };
        if members.contains_key(&id.0) {
            let gone = consensus.dismiss(id.0, LEAVE_DEADLINE).await;
            gone.map_err(|error| unavailable(&error))?;
        }
        tracing::info!(broker = %id, name, "a broker that is lost was taken out of the cluster");
        Ok(())
    }

    /// Has the catalog forget it.
    async fn forget_lost(&self, lost: &ClusterMember, silent: Duration) -> Result<(), LostError> {
        let name = lost.name.clone();
        if lost.is_own || lost.is_alive || u128::from(lost.silent_ms) < silent.as_millis() {
            return Err(LostError::Alive { name, silent_seconds: lost.silent_ms / 1_000 });
        }
        if lost.segments > 0 {
            return Err(LostError::Unflushed { name, segments: lost.segments });
        }
        let clustered = self.inner.clustered.as_ref().expect("it has members");
        let command = Command::RemoveBroker { broker: lost.id };
        match clustered.members.consensus().propose(command, AGREE_DEADLINE).await {
            Ok(_) | Err(ProposeError::Catalog(CatalogError::UnknownBroker { .. })) => Ok(()),
            Err(ProposeError::Catalog(CatalogError::UnflushedBroker { segments, .. })) => {
                Err(LostError::Unflushed { name, segments })
            }
            Err(error) => Err(LostError::Unavailable(error.to_string())),
        }
    }
}
