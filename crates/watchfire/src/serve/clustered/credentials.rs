//! Users, tokens, sessions and certificates in the catalog, so that what is made at one broker counts
//! at each.

use std::time::Duration;

use catalog::{CatalogError, Command, KeyValue, Outcome};
use consensus::{Consensus, ProposeError};
use net::auth::{CredentialStore, Expected, StoreError, Versioned};
use tokio::runtime::Handle;

/// For one change, an election included.
const DEADLINE: Duration = Duration::from_secs(10);

/// A [`CredentialStore`] that all brokers of a cluster share. What another broker changed counts here
/// when it has come here, milliseconds later.
pub(super) struct CatalogCredentials {
    pub(super) consensus: Consensus,
    /// Changes wait on it: they are made by threads that may.
    pub(super) runtime: Handle,
}

impl CatalogCredentials {
    fn propose(&self, command: Command) -> Result<Outcome, StoreError> {
        let proposed = self.consensus.propose(command, DEADLINE);
        self.runtime.block_on(proposed).map_err(|error| match error {
            ProposeError::Catalog(CatalogError::VersionConflict { key, .. }) => {
                StoreError::Conflict(key)
            }
            error => StoreError::Unavailable(error.to_string()),
        })
    }
}

fn versioned(found: &KeyValue) -> Versioned {
    Versioned { value: found.value.clone(), version: found.version }
}

fn expected(expected: Expected) -> catalog::Expected {
    match expected {
        Expected::Any => catalog::Expected::Any,
        Expected::Absent => catalog::Expected::Absent,
        Expected::Version(version) => catalog::Expected::Version(version),
    }
}

impl CredentialStore for CatalogCredentials {
    fn get(&self, key: &str) -> Result<Option<Versioned>, StoreError> {
        Ok(self.consensus.read(|state| state.get(key).map(versioned)))
    }

    fn list(&self, prefix: &str) -> Result<Vec<(String, Versioned)>, StoreError> {
        Ok(self.consensus.read(|state| {
            state.keys(prefix).map(|(key, found)| (key.to_owned(), versioned(found))).collect()
        }))
    }

    fn put(&self, key: &str, value: &[u8], wanted: Expected) -> Result<u64, StoreError> {
        let put =
            Command::Put { key: key.to_owned(), value: value.to_vec(), expected: expected(wanted) };
        match self.propose(put)? {
            Outcome::Written(version) => Ok(version),
            other => unreachable!("the catalog answers a put with a version, not {other:?}"),
        }
    }

    fn delete(&self, key: &str, wanted: Expected) -> Result<(), StoreError> {
        let delete = Command::Delete { key: key.to_owned(), expected: expected(wanted) };
        self.propose(delete).map(|_| ())
    }
}
