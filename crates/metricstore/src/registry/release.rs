//! Giving ordinals of idle series back.

use std::sync::atomic::{AtomicU32, Ordering};

use model::TenantId;

use super::{Registry, minute};
use crate::deletes::Deletes;

/// While it lives, what is looked up counts as looked up at the time of the release, or later.
#[must_use]
#[derive(Debug)]
pub struct Releasing<'r>(&'r AtomicU32);

impl Drop for Releasing<'_> {
    fn drop(&mut self) {
        self.0.store(0, Ordering::SeqCst);
    }
}

impl Registry {
    /// To be called before batches that are resolved are waited for, so that [`Registry::idle`] and
    /// [`Registry::release`] of that time leave out what is resolved meanwhile, whatever the clock says by then: one that
    /// was ahead and is set right makes that look long ago. One release at a time.
    pub fn begin_release(&self, now_ms: i64) -> Releasing<'_> {
        self.releasing_min.store(minute(now_ms), Ordering::SeqCst);
        Releasing(&self.releasing_min)
    }

    /// The minute as of which a series is looked up.
    pub(super) fn lookup_min(&self, now_ms: i64) -> u32 {
        minute(now_ms).max(self.releasing_min.load(Ordering::SeqCst))
    }

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
        let cache = self.cache.read();
        let ordinals = 0..tables.ordinal_count() as u32;
        let is_used = |&ordinal: &u32| tables.owner(ordinal).is_some();
        ordinals.map(|ordinal| Some(ordinal).filter(is_used).map(|o| cache.seen_min(o))).collect()
    }

    /// Forgets series and gives their ordinals back, except those looked up within `idle_ms`.
    /// Yields how many were released. Rows resolved before must have been appended.
    pub fn release(&self, ordinals: &[u32], now_ms: i64, idle_ms: i64) -> usize {
        let limit = minute(now_ms.saturating_sub(idle_ms));
        let _ordering = self.ordering.lock();
        let mut orders = self.orders.write();
        let mut tables = self.tables.write();
        let mut wanted = vec![false; tables.ordinal_count()];
        // No batch is being looked up while the cache is held for writing: what was found before
        // shows in `seen_min`, and what comes later must wait for `tables`.
        let mut cache = self.cache.write();
        for &ordinal in ordinals {
            let is_used = tables.owner(ordinal).is_some();
            wanted[ordinal as usize] = is_used && cache.seen_min(ordinal) < limit;
        }
        let is_gone = |ordinal: u32| wanted[ordinal as usize];
        cache.forget(is_gone);
        drop(cache);
        orders.remove(is_gone);
        for fresh in self.unordered.lock().values_mut() {
            fresh.retain(|&ordinal| !is_gone(ordinal));
        }
        let gone = (0..wanted.len() as u32).filter(|&ordinal| is_gone(ordinal));
        let released = gone.clone().count();
        if released > 0 {
            tables.release(gone, now_ms);
        }
        self.releases.fetch_add(1, Ordering::Release);
        released
    }
}
