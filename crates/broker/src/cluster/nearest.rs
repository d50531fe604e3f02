//! Which brokers are nearest to the blocks of a day.

use std::collections::BTreeMap;

use catalog::{BlockId, BrokerId};
use model::TenantId;

use crate::Broker;
use crate::maintenance::DAY_MS;

/// Where other brokers reach one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NearBroker {
    /// Which.
    pub id: BrokerId,
    /// For people.
    pub name: String,
    /// Its peer port, `HOST:PORT`.
    pub address: String,
}

impl NearBroker {
    fn of(id: BrokerId, broker: &catalog::Broker) -> NearBroker {
        NearBroker { id, name: broker.info.name.clone(), address: broker.info.address.clone() }
    }
}

/// Place on the circle of what a tenant has of a day (since the epoch): who is nearest to it merges its
/// blocks, and reads them for others.
pub(super) fn place(tenant: TenantId, day: i64) -> u64 {
    u64::from(tenant.0).rotate_left(32) ^ day.cast_unsigned()
}

impl Broker {
    /// For each of `days` (since the epoch), the brokers that are nearer than this one to what a tenant has
    /// of it: up to `most`, the nearest first, of those that are alive and not draining. Nobody beside a
    /// log.
    pub fn nearer_brokers(
        &self,
        tenant: TenantId,
        days: &[i64],
        most: usize,
    ) -> Vec<Vec<NearBroker>> {
        let Some(clustered) = &self.inner.clustered else { return vec![Vec::new(); days.len()] };
        let (ring, own) = (clustered.members.ring(), clustered.members.own());
        let known: BTreeMap<BrokerId, NearBroker> = clustered.members.consensus().read(|state| {
            state.brokers().map(|(id, broker)| (id, NearBroker::of(id, broker))).collect()
        });
        let nearer = |day: &i64| {
            let owners = ring.owners(place(tenant, *day), most).into_iter();
            owners.take_while(|id| *id != own).filter_map(|id| known.get(&id).cloned()).collect()
        };
        days.iter().map(nearer).collect()
    }

    /// Of a block, by the key of its object: its bytes, and the broker that is nearest to it, unless that is
    /// this one. `None` of what the catalog does not list.
    pub fn nearer_to_block(&self, key: &str) -> Option<(u64, Option<NearBroker>)> {
        let members = &self.inner.clustered.as_ref()?.members;
        let (id, _) = BlockId::of_any_key(key)?;
        let ring = members.ring();
        members.consensus().read(|state| {
            let block = state.block(id)?;
            let day = block.range.start_ms.div_euclid(DAY_MS);
            let nearest = ring.owner(place(block.tenant, day)).filter(|id| *id != members.own());
            let near = nearest.and_then(|id| Some(NearBroker::of(id, state.broker(id)?)));
            Some((block.size_bytes, near))
        })
    }
}
