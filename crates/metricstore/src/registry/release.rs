//! Giving ordinals of idle series back.

use std::sync::atomic::Ordering;

use model::TenantId;

use super::tables::Entry;
use super::{Registry, minute};
use crate::deletes::Deletes;

impl Registry {
    /// Ordinals whose series were not looked up for `idle_ms`. Those of them that no shard holds
    /// samples of ([`Shard::without_samples`](crate::Shard::without_samples)) may be released.
    pub fn idle(&self, now_ms: i64, idle_ms: i64) -> Vec<u32> {
        let limit = minute(now_ms.saturating_sub(idle_ms));
        let seen = self.seen().into_iter().enumerate();
        let is_idle = |seen_min: Option<u32>| seen_min.is_some_and(|seen_min| seen_min < limit);
        seen.filter(|(_, seen_min)| is_idle(*seen_min)).map(|(at, _)| at as u32).collect()
    }

    /// Ordinals of the tenant's series that some of its deletes concern and that were not looked up
    /// after the minute of the last of these, ascending. One search for each selector, and one pass
    /// over all series.
    pub fn silent_since(&self, tenant: TenantId, deletes: &Deletes) -> Vec<u32> {
        let concerned = deletes.concerned_at(self, tenant);
        let seen = if concerned.is_empty() { Vec::new() } else { self.seen() };
        let is_silent = |ordinal: u32, at_ms: i64| {
            let seen_min = seen.get(ordinal as usize).copied().flatten();
            seen_min.is_some_and(|seen_min| seen_min <= minute(at_ms))
        };
        let concerned = concerned.into_iter();
        concerned.filter(|(ordinal, at)| is_silent(*ordinal, *at)).map(|one| one.0).collect()
    }

    /// For each ordinal the minute in which its series was last looked up; `None` if it is unused.
    fn seen(&self) -> Vec<Option<u32>> {
        let tables = self.tables.read();
        let seen = |entry: &Entry| entry.is_used.then_some(entry.seen_min);
        let mut seen: Vec<Option<u32>> = tables.series.iter().map(seen).collect();
        for entry in self.cache.read().entries() {
            if let Some(kept) = &mut seen[entry.ordinal as usize] {
                *kept = (*kept).max(entry.seen_min());
            }
        }
        seen
    }

    /// Forgets series and gives their ordinals back, except those looked up within `idle_ms`.
    /// Yields how many were released. Rows resolved before must have been appended.
    pub fn release(&self, ordinals: &[u32], now_ms: i64, idle_ms: i64) -> usize {
        let limit = minute(now_ms.saturating_sub(idle_ms));
        let _ordering = self.ordering.lock();
        let mut orders = self.orders.write();
        let mut tables = self.tables.write();
        let mut wanted = vec![false; tables.series.len()];
        for &ordinal in ordinals {
            let place = ordinal as usize;
            wanted[place] = tables.series[place].is_used && tables.series[place].seen_min < limit;
        }
        // No batch is being looked up while the cache is held for writing: what was found before
        // shows in `seen_min`, and what comes later must wait for `tables`.
        let mut cache = self.cache.write();
        for entry in cache.entries().filter(|entry| entry.seen_min() >= limit) {
            wanted[entry.ordinal as usize] = false;
        }
        cache.retain(|entry| !wanted[entry.ordinal as usize]);
        drop(cache);
        let is_gone = |ordinal: u32| wanted[ordinal as usize];
        orders.remove(is_gone);
        for fresh in self.unordered.lock().values_mut() {
            fresh.retain(|&ordinal| !is_gone(ordinal));
        }
        let mut released = 0;
        for ordinal in (0..wanted.len() as u32).filter(|&ordinal| is_gone(ordinal)) {
            tables.release(ordinal, now_ms);
            released += 1;
        }
        tables.shrink();
        self.releases.fetch_add(1, Ordering::Release);
        released
    }
}
