//! How many live expressions there are, and of whom.

use std::collections::BTreeMap;
use std::sync::Arc;

use model::{Share, TenantName};
use parking_lot::Mutex;

/// Live expressions over all connections: each runs up to ten times a second and takes turns with
/// the queries of everybody.
const LIVE_EXPRESSIONS: Share = Share::of_one_alone(256);

/// The places of live expressions.
#[derive(Default)]
pub(crate) struct LivePlaces {
    /// Of tenants that have some.
    by_tenant: Mutex<BTreeMap<TenantName, usize>>,
}

/// The place of a live expression; it is free again when this is dropped.
pub(crate) struct LivePlace {
    places: Arc<LivePlaces>,
    tenant: TenantName,
}

impl LivePlaces {
    /// A place for one more live expression of a tenant.
    ///
    /// # Errors
    /// The tenant has too many; the text names the limit.
    pub(crate) fn take(self: &Arc<Self>, tenant: TenantName) -> Result<LivePlace, String> {
        let mut by_tenant = self.by_tenant.lock();
        let own = by_tenant.get(&tenant).copied().unwrap_or(0);
        let limit = LIVE_EXPRESSIONS.beside(by_tenant.values().sum::<usize>() - own);
        if own >= limit {
            return Err(format!(
                "{own} live expressions of the tenant {tenant} are evaluated already and the limit \
                 is {limit} ({}); unsubscribe some",
                LIVE_EXPRESSIONS.rule()
            ));
        }
        by_tenant.insert(tenant, own + 1);
        Ok(LivePlace { places: Arc::clone(self), tenant })
    }

    /// How many are taken.
    pub(crate) fn taken(&self) -> usize {
        self.by_tenant.lock().values().sum()
    }
}

impl Drop for LivePlace {
    fn drop(&mut self) {
        let mut by_tenant = self.places.by_tenant.lock();
        if let Some(own) = by_tenant.get_mut(&self.tenant) {
            *own -= 1;
            if *own == 0 {
                by_tenant.remove(&self.tenant);
            }
        }
    }
}
