//! Names that several brokers give at once.
//!
//! Beside a log, the one broker knows which numbers it gave. In a cluster a number is claimed first, by a
//! key of its own, and then given to the name: so no two names ever have the same one, whoever writes
//! first. A number whose name got another one meanwhile is never used.

use catalog::{Expected, State};
use model::{TenantId, TenantName};

use super::{Kept, PREFIX};
use crate::Broker;
use crate::commit::CommitError;

/// Where numbers are claimed in the key space; the value is the name.
const CLAIMS: &str = "tenant_ids/";

impl Broker {
    /// The number of a name that another broker gave.
    pub(super) fn agreed_tenant(&self, name: TenantName) -> Option<TenantId> {
        self.inner.clustered.as_ref()?;
        self.inner.catalog.read(|state| given(state, name))
    }

    /// Gives a name its number, durably: `first`, or a later one that is free.
    pub(super) fn give_number(
        &self,
        name: TenantName,
        first: TenantId,
    ) -> Result<TenantId, CommitError> {
        let kept =
            |id: TenantId| serde_json::to_vec(&Kept { id: id.0 }).expect("a number is always JSON");
        let key = format!("{PREFIX}{name}");
        if self.inner.clustered.is_none() {
            self.put_key(&key, kept(first), Expected::Absent)?;
            return Ok(first);
        }
        let mut id = first;
        loop {
            let claim = format!("{CLAIMS}{}", id.0);
            match self.put_key(&claim, name.as_str().into(), Expected::Absent) {
                Ok(_) => break,
                // Another broker's tenant has it.
                Err(error) if error.is_version_conflict() => id = TenantId(id.0.saturating_add(1)),
                Err(error) => return Err(error),
            }
        }
        match self.put_key(&key, kept(id), Expected::Absent) {
            Ok(_) => Ok(id),
            Err(error) if error.is_version_conflict() => {
                // It is in the state of this broker, or the put would not have failed here.
                self.inner.catalog.read(|state| given(state, name)).ok_or(error)
            }
            Err(error) => Err(error),
        }
    }
}

fn given(state: &State, name: TenantName) -> Option<TenantId> {
    let kept = state.get(&format!("{PREFIX}{name}"))?;
    serde_json::from_slice::<Kept>(&kept.value).ok().map(|kept| TenantId(kept.id))
}
