//! Registered series, by ordinal and by labels.

use std::collections::{BTreeMap, VecDeque};

use labelindex::MemIndex;
use model::{Labels, TenantId};

use super::limits::Pace;
use super::probing::{Home, Probing};
use super::{QUARANTINE_MS, UNKNOWN};
use crate::fingerprint::Fingerprint;

/// What the registry knows, under one lock.
pub(super) struct Tables {
    seed: u64,
    hash: Fingerprint,
    /// Ordinals by a hash of tenant and labels, which the tenant's index tells apart.
    by_labels: Probing<2>,
    /// By ordinal: whose series has it, [`NOBODY`] for a hole in the ordinals.
    owners: Vec<TenantId>,
    pub(super) tenants: BTreeMap<TenantId, MemIndex>,
    /// Released, with the time of release, oldest first.
    quarantine: VecDeque<(i64, u32)>,
    /// How fast new series of tenants came, where that is limited.
    pub(super) paces: BTreeMap<TenantId, Pace>,
}

/// Stands for no tenant.
const NOBODY: TenantId = TenantId(u32::MAX);

impl Tables {
    /// `seed` keys the hashes of labels.
    pub(super) fn new(seed: u64) -> Self {
        Tables {
            seed,
            hash: Fingerprint::new(seed),
            by_labels: Probing::new(),
            owners: Vec::new(),
            tenants: BTreeMap::new(),
            quarantine: VecDeque::new(),
            paces: BTreeMap::new(),
        }
    }

    /// Number of ordinals there are, in use or not.
    pub(super) fn ordinal_count(&self) -> usize {
        self.owners.len()
    }

    /// Whose series has an ordinal; `None` if it is not in use.
    #[inline]
    pub(super) fn owner(&self, ordinal: u32) -> Option<TenantId> {
        self.owners.get(ordinal as usize).copied().filter(|owner| *owner != NOBODY)
    }

    /// The ordinal of a series.
    pub(super) fn get(&self, tenant: TenantId, labels: &Labels) -> Option<u32> {
        let index = self.tenants.get(&tenant)?;
        let key = self.key(tenant, labels);
        self.by_labels.find(home_of(key), |&[high, ordinal]| {
            high == high_of(key)
                && self.owners[ordinal as usize] == tenant
                && index.bears(ordinal, labels)
        })
    }

    fn key(&self, tenant: TenantId, labels: &Labels) -> u128 {
        self.hash.of(tenant.0.into(), labels.as_packed())
    }

    /// Registers a series that is not; yields its ordinal and whether another series had it before.
    pub(super) fn register(
        &mut self,
        tenant: TenantId,
        labels: &Labels,
        seen_min: u32,
    ) -> (u32, bool) {
        assert_ne!(tenant, NOBODY, "4 G tenants do not fit in memory");
        let rested_ms = (i64::from(seen_min) * 60_000).saturating_sub(QUARANTINE_MS);
        let released = self.quarantine.pop_front_if(|(released_ms, _)| *released_ms < rested_ms);
        let ordinal = match released {
            Some((_, ordinal)) => {
                self.owners[ordinal as usize] = tenant;
                ordinal
            }
            None => {
                assert!(self.owners.len() < UNKNOWN as usize, "4 G series do not fit in memory");
                if self.owners.len() == self.owners.capacity() {
                    // Doubling would leave much of it unused.
                    self.owners.reserve_exact(self.owners.len() / 8 + 64);
                }
                self.owners.push(tenant);
                self.owners.len() as u32 - 1
            }
        };
        let key = self.key(tenant, labels);
        self.by_labels.insert(home_of(key), [high_of(key), ordinal], |&[high, _]| high);
        let Tables { seed, tenants, .. } = self;
        tenants.entry(tenant).or_insert_with(|| MemIndex::new(*seed)).insert(ordinal, labels);
        (ordinal, released.is_some())
    }

    /// Forgets series; their ordinals rest before they are used again.
    pub(super) fn release(&mut self, ordinals: impl Iterator<Item = u32>, now_ms: i64) {
        for ordinal in ordinals {
            let owner = std::mem::replace(&mut self.owners[ordinal as usize], NOBODY);
            if let Some(index) = self.tenants.get_mut(&owner) {
                index.remove(ordinal);
            }
            self.quarantine.push_back((now_ms, ordinal));
        }
        let Tables { by_labels, owners, .. } = self;
        by_labels.retain(|&[high, _]| high, |ordinal| owners[ordinal as usize] != NOBODY);
    }

    pub(super) fn bytes(&self) -> usize {
        self.by_labels.bytes()
            + self.owners.capacity() * size_of::<TenantId>()
            + self.quarantine.capacity() * size_of::<(i64, u32)>()
            + self.tenants.values().map(MemIndex::bytes).sum::<usize>()
    }
}

fn high_of(key: u128) -> u32 {
    (key >> 96) as u32
}

fn home_of(key: u128) -> Home {
    Home { part: key as u32, place: high_of(key) }
}
