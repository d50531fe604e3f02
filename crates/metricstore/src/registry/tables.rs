//! Registered series, by ordinal and by identity.

use std::collections::{BTreeMap, VecDeque};

use hashbrown::HashTable;
use labelindex::MemIndex;
use model::{Labels, SeriesId, TenantId};

use super::limits::Pace;
use super::{QUARANTINE_MS, UNKNOWN};

/// What the registry knows, under one lock.
pub(super) struct Tables {
    seed: u64,
    /// Ordinals, hashed by the id in `series`.
    by_id: HashTable<u32>,
    /// By ordinal.
    pub(super) series: Vec<Entry>,
    pub(super) tenants: BTreeMap<TenantId, MemIndex>,
    /// Released, with the time of release, oldest first.
    quarantine: VecDeque<(i64, u32)>,
    /// How fast new series of tenants came, where that is limited.
    pub(super) paces: BTreeMap<TenantId, Pace>,
}

/// A registered series, or a hole in the ordinals. 32 bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry {
    id: [u64; 2],
    pub(super) tenant: TenantId,
    /// Minute in which the series was last looked up without the cache.
    pub(super) seen_min: u32,
    pub(super) is_used: bool,
}

impl Tables {
    /// `seed` keys the hashes of labels.
    pub(super) fn new(seed: u64) -> Self {
        Tables {
            seed,
            by_id: HashTable::new(),
            series: Vec::new(),
            tenants: BTreeMap::new(),
            quarantine: VecDeque::new(),
            paces: BTreeMap::new(),
        }
    }

    /// The ordinal of a series.
    pub(super) fn get(&self, id: SeriesId) -> Option<u32> {
        let halves = halves(id);
        self.by_id.find(halves[0], |&other| self.series[other as usize].id == halves).copied()
    }

    /// The ordinal of a series, noting that it was looked up; its id if it is not registered.
    pub(super) fn find(
        &mut self,
        tenant: TenantId,
        labels: &Labels,
        seen_min: u32,
    ) -> Result<u32, SeriesId> {
        let id = SeriesId::of(tenant, labels);
        let ordinal = self.get(id).ok_or(id)?;
        self.saw(ordinal, seen_min);
        Ok(ordinal)
    }

    /// Notes when a series was looked up.
    pub(super) fn saw(&mut self, ordinal: u32, seen_min: u32) {
        let kept = &mut self.series[ordinal as usize].seen_min;
        *kept = (*kept).max(seen_min);
    }

    /// Registers a series that is not; yields its ordinal and whether another series had it before.
    pub(super) fn register(
        &mut self,
        tenant: TenantId,
        id: SeriesId,
        labels: &Labels,
        seen_min: u32,
    ) -> (u32, bool) {
        let rested_ms = (i64::from(seen_min) * 60_000).saturating_sub(QUARANTINE_MS);
        let entry = Entry { id: halves(id), tenant, seen_min, is_used: true };
        let released = self.quarantine.pop_front_if(|(released_ms, _)| *released_ms < rested_ms);
        let ordinal = match released {
            Some((_, ordinal)) => {
                self.series[ordinal as usize] = entry;
                ordinal
            }
            None => {
                assert!(self.series.len() < UNKNOWN as usize, "4 G series do not fit in memory");
                self.series.push(entry);
                self.series.len() as u32 - 1
            }
        };
        let Tables { seed, by_id, series, tenants, .. } = self;
        by_id.insert_unique(entry.id[0], ordinal, |&other| series[other as usize].id[0]);
        tenants.entry(tenant).or_insert_with(|| MemIndex::new(*seed)).insert(ordinal, labels);
        (ordinal, released.is_some())
    }

    /// Forgets a series; its ordinal rests before it is used again.
    pub(super) fn release(&mut self, ordinal: u32, now_ms: i64) {
        let entry = &mut self.series[ordinal as usize];
        entry.is_used = false;
        let (id, tenant) = (entry.id, entry.tenant);
        if let Ok(known) = self.by_id.find_entry(id[0], |&other| other == ordinal) {
            known.remove();
        }
        if let Some(index) = self.tenants.get_mut(&tenant) {
            index.remove(ordinal);
        }
        self.quarantine.push_back((now_ms, ordinal));
    }

    /// Gives back what a table has kept for many more series than there are.
    pub(super) fn shrink(&mut self) {
        let Tables { by_id, series, .. } = self;
        if by_id.len() < by_id.capacity() / 4 {
            by_id.shrink_to_fit(|&other| series[other as usize].id[0]);
        }
    }

    pub(super) fn bytes(&self) -> usize {
        self.by_id.allocation_size()
            + self.series.capacity() * size_of::<Entry>()
            + self.quarantine.capacity() * size_of::<(i64, u32)>()
            + self.tenants.values().map(MemIndex::bytes).sum::<usize>()
    }
}

fn halves(id: SeriesId) -> [u64; 2] {
    [id.0 as u64, (id.0 >> 64) as u64]
}
