//! Giving ordinals of idle series back.

use std::sync::atomic::Ordering;

use super::{Registry, minute};

impl Registry {
    /// Ordinals whose series were not looked up for `idle_ms`. Those of them that no shard holds
    /// samples of ([`Shard::without_samples`](crate::Shard::without_samples)) may be released.
    pub fn idle(&self, now_ms: i64, idle_ms: i64) -> Vec<u32> {
        let limit = minute(now_ms.saturating_sub(idle_ms));
        let tables = self.tables.read();
        let mut seen: Vec<u32> = tables.series.iter().map(|entry| entry.seen_min).collect();
        for entry in self.cache.read().entries() {
            let kept = &mut seen[entry.ordinal as usize];
            *kept = (*kept).max(entry.seen_min());
        }
        let entries = tables.series.iter().zip(seen).enumerate();
        entries
            .filter(|(_, (entry, seen_min))| entry.is_used && *seen_min < limit)
            .map(|(ordinal, _)| ordinal as u32)
            .collect()
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
        self.releases.fetch_add(1, Ordering::Release);
        released
    }
}
