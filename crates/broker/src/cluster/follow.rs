//! What brokers know beside the catalog, and keep in its keys, follows what others put there: names of
//! tenants, metadata of metric families, what agents said of themselves, pushed groups.

use catalog::State;

use crate::Broker;
use crate::{fleet, metadata, pushgateway, tenants};

/// Whether a key is kept in mind by brokers.
pub(super) fn is_followed(key: &str) -> bool {
    PREFIXES.iter().any(|prefix| key.starts_with(prefix))
}

const PREFIXES: [&str; 4] = [tenants::PREFIX, metadata::PREFIX, fleet::PREFIX, pushgateway::PREFIX];

impl Broker {
    /// Takes what another broker, or this one, put under a key; nothing if it was deleted.
    pub(super) fn follow_key(&self, key: &str, value: Option<&[u8]>) {
        let inner = &self.inner;
        match value {
            Some(value) if key.starts_with(tenants::PREFIX) => inner.tenants.follow(key, value),
            _ if key.starts_with(metadata::PREFIX) => inner.metadata.follow(key, value),
            _ if key.starts_with(fleet::PREFIX) => inner.fleet.follow(key, value),
            // Whoever needs them looks at the catalog then.
            _ if key.starts_with(pushgateway::PREFIX) => inner.pushed.note(key),
            // Names of tenants are given for ever.
            _ => {}
        }
    }

    /// Takes all that a state has.
    pub(super) fn follow_all(&self, state: &State) {
        // Some may be gone.
        self.inner.pushed.note_all();
        for prefix in PREFIXES {
            for (key, kept) in state.keys(prefix) {
                self.follow_key(key, Some(&kept.value));
            }
        }
    }
}
