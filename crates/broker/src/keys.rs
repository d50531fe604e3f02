//! The versioned key space of the catalog, for whoever keeps something small beside the samples:
//! users, tokens, the fleet, pushed groups.
//!
//! Keys are `/`-separated paths; the first part names the owner. Values are bounded by
//! [`catalog::MAX_VALUE_BYTES`], and every log file begins with all of them: what is large or
//! changes each second does not belong here.

pub use catalog::{Expected, KeyValue};

use catalog::{CatalogError, Command, Outcome};
use crossbeam_channel::bounded;
use tokio::sync::oneshot;

use crate::Broker;
use crate::commit::{CommitError, Message};

impl Broker {
    /// The value of a key and its version.
    pub fn get_key(&self, key: &str) -> Option<KeyValue> {
        self.inner.catalog.read(|state| state.get(key).cloned())
    }

    /// All keys that start with `prefix`, in ascending order, with their values: one consistent
    /// state.
    pub fn list_keys(&self, prefix: &str) -> Vec<(String, KeyValue)> {
        self.inner.catalog.read(|state| {
            state.keys(prefix).map(|(key, value)| (key.to_owned(), value.clone())).collect()
        })
    }

    /// Writes a key if it is as `expected`, and yields its new version when that is durable. Waits
    /// for a sync of the log: not for a thread that serves sockets, see [`Broker::put_key_async`].
    ///
    /// # Errors
    /// [`CommitError::Catalog`] with `VersionConflict` if someone else wrote the key meanwhile, or
    /// `TooLarge`; [`CommitError::Full`]; [`CommitError::Stopping`].
    pub fn put_key(
        &self,
        key: &str,
        value: Vec<u8>,
        expected: Expected,
    ) -> Result<u64, CommitError> {
        self.wait_for(put(key, value, expected)?).map(version_of)
    }

    /// As [`Broker::put_key`], for a task.
    ///
    /// # Errors
    /// As [`Broker::put_key`].
    pub async fn put_key_async(
        &self,
        key: &str,
        value: Vec<u8>,
        expected: Expected,
    ) -> Result<u64, CommitError> {
        self.apply(put(key, value, expected)?).await.map(version_of)
    }

    /// Removes a key if it is as `expected`; returns when that is durable. Removing an absent key
    /// is no error unless a version was expected.
    ///
    /// # Errors
    /// As [`Broker::put_key`].
    pub fn delete_key(&self, key: &str, expected: Expected) -> Result<(), CommitError> {
        self.wait_for(delete(key, expected)).map(|_| ())
    }

    /// As [`Broker::delete_key`], for a task.
    ///
    /// # Errors
    /// As [`Broker::put_key`].
    pub async fn delete_key_async(&self, key: &str, expected: Expected) -> Result<(), CommitError> {
        self.apply(delete(key, expected)).await.map(|_| ())
    }

    /// Applies a command durably and waits for it.
    fn wait_for(&self, command: Command) -> Result<Outcome, CommitError> {
        let (reply, answer) = bounded(1);
        let done = Box::new(move |outcome| {
            // Whoever asked waits for it.
            let _ = reply.send(outcome);
        });
        self.send(Message::Command { command, done }).map_err(|_| CommitError::Stopping)?;
        answer.recv().unwrap_or(Err(CommitError::Stopping))
    }

    /// Applies a command durably.
    pub(crate) async fn apply(&self, command: Command) -> Result<Outcome, CommitError> {
        let (reply, answer) = oneshot::channel();
        let done = Box::new(move |outcome| {
            // The task may have been dropped; the command is applied all the same.
            let _ = reply.send(outcome);
        });
        let message = Message::Command { command, done };
        let sent = if self.is_congested() {
            let broker = self.clone();
            self.off_the_sockets(move || broker.send(message)).await
        } else {
            self.send(message)
        };
        sent.map_err(|_| CommitError::Stopping)?;
        answer.await.unwrap_or(Err(CommitError::Stopping))
    }
}

/// Refuses what the catalog would refuse anyway before it is in the log.
fn put(key: &str, value: Vec<u8>, expected: Expected) -> Result<Command, CommitError> {
    for (what, found, limit) in [
        ("a key of the catalog", key.len(), catalog::MAX_KEY_BYTES),
        ("a value of the catalog", value.len(), catalog::MAX_VALUE_BYTES),
    ] {
        if found > limit {
            let (found, limit) = (found as u64, limit as u64);
            return Err(CatalogError::TooLarge { what, found, limit }.into());
        }
    }
    Ok(Command::Put { key: key.to_owned(), value, expected })
}

fn delete(key: &str, expected: Expected) -> Command {
    Command::Delete { key: key.to_owned(), expected }
}

fn version_of(outcome: Outcome) -> u64 {
    match outcome {
        Outcome::Written(version) => version,
        other => unreachable!("the catalog answers a put with a version, not {other:?}"),
    }
}
