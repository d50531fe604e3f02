//! Results of range queries, kept for those that ask for the same steps again.
//!
//! A result is kept as an [`Extent`]: a run of steps of one query, with the number of the last change
//! that the broker had noted before it was computed. Before an extent is used, the broker is asked what
//! changed since; steps that could see a changed sample are left out. So a result is right whether
//! samples come late, are deleted or expire, and there is no time after which it ends.
//!
//! - [`extent`]: cutting and joining runs of steps
//! - [`lookup`]: which steps of a query are there, and which are still to be computed

mod extent;
mod lookup;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use governor::Governor;
use model::TenantName;
use parking_lot::Mutex;

pub(crate) use extent::{Extent, Piece, Version, join};
pub(crate) use lookup::{Lookup, Wanted};

/// Queries of which something is kept; above it, the one that was used longest ago goes.
const MAX_ENTRIES: usize = 4_096;
/// Of the whole, the share that one query may take.
const MAX_ENTRY_SHARE: usize = 4;
/// More extents of one query than this are joined.
const MAX_EXTENTS: usize = 6;
/// What a key and its entry take besides text and extents.
const ENTRY_BYTES: usize = 256;

/// What results may take and which are kept.
#[derive(Debug, Clone, Copy)]
pub struct CacheSettings {
    /// All kept results together, bytes; 0 keeps none.
    pub max_bytes: usize,
    /// Steps younger than this are not kept: samples still come.
    pub recent: Duration,
}

/// Kept results.
pub(crate) struct ResultCache {
    settings: CacheSettings,
    governor: Arc<Governor>,
    state: Mutex<State>,
    pub(crate) counters: CacheCounters,
}

/// Counts since start.
#[derive(Debug, Default)]
pub(crate) struct CacheCounters {
    pub(crate) hits: AtomicU64,
    pub(crate) misses: AtomicU64,
    pub(crate) hit_steps: AtomicU64,
    pub(crate) missed_steps: AtomicU64,
    invalid_steps: AtomicU64,
    evictions: AtomicU64,
}

/// What a result depends on besides data and time. The text as it was sent, since remarks name places
/// in it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    pub(crate) tenant: TenantName,
    pub(crate) text: String,
    pub(crate) step_ms: i64,
    /// Where steps lie: their times modulo the step.
    pub(crate) phase_ms: i64,
    pub(crate) lookback_ms: i64,
}

#[derive(Default)]
struct State {
    entries: HashMap<Key, Entry>,
    bytes: usize,
    uses: u64,
}

struct Entry {
    /// Ascending, without overlap.
    extents: Vec<Extent>,
    /// The longest range that was asked for, milliseconds.
    longest_ms: i64,
    bytes: usize,
    used: u64,
}

impl ResultCache {
    pub(crate) fn new(settings: CacheSettings, governor: Arc<Governor>) -> Self {
        let (state, counters) = (Mutex::default(), CacheCounters::default());
        ResultCache { settings, governor, state, counters }
    }

    /// Whether anything is kept.
    pub(crate) fn is_on(&self) -> bool {
        self.settings.max_bytes > 0
    }

    /// For how long steps are too young to be kept.
    pub(crate) fn recent_ms(&self) -> i64 {
        i64::try_from(self.settings.recent.as_millis()).unwrap_or(i64::MAX)
    }

    /// The extents of a query that have steps from `start_ms` to `end_ms`.
    pub(crate) fn get(&self, key: &Key, start_ms: i64, end_ms: i64) -> Vec<Extent> {
        let mut state = self.state.lock();
        state.uses += 1;
        let used = state.uses;
        let Some(entry) = state.entries.get_mut(key) else { return Vec::new() };
        entry.used = used;
        entry.longest_ms = entry.longest_ms.max(end_ms.saturating_sub(start_ms));
        let overlaps = |extent: &&Extent| extent.start_ms <= end_ms && start_ms <= extent.end_ms;
        entry.extents.iter().filter(overlaps).cloned().collect()
    }

    /// Puts `extents`, all of one version, in the place of whatever there is at their times.
    pub(crate) fn put(&self, key: Key, step_ms: i64, extents: Vec<Extent>, asked_ms: i64) {
        if !self.governor.admits_query() {
            // Memory is short; everything that is kept can be computed again.
            self.clear();
            return;
        }
        debug_assert!(
            extents.iter().enumerate().all(|(at, one)| {
                extents[..at]
                    .iter()
                    .all(|two| one.end_ms < two.start_ms || two.end_ms < one.start_ms)
            }),
            "extents that overlap would be answered twice"
        );
        let mut state = self.state.lock();
        state.uses += 1;
        let used = state.uses;
        let mut entry = state.entries.remove(&key).unwrap_or(Entry {
            extents: Vec::new(),
            longest_ms: 0,
            bytes: 0,
            used,
        });
        state.bytes -= entry.bytes;
        entry.used = used;
        entry.longest_ms = entry.longest_ms.max(asked_ms);
        let is_free = |known: &Extent| {
            extents.iter().all(|new| known.end_ms < new.start_ms || new.end_ms < known.start_ms)
        };
        entry.extents.retain(is_free);
        entry.extents.extend(extents);
        entry.extents.sort_by_key(|extent| extent.start_ms);
        entry.tidy(step_ms);
        entry.bytes = ENTRY_BYTES + key.text.len();
        entry.bytes += entry.extents.iter().map(|extent| extent.bytes).sum::<usize>();
        if entry.extents.is_empty() || entry.bytes > self.settings.max_bytes / MAX_ENTRY_SHARE {
            return;
        }
        state.bytes += entry.bytes;
        state.entries.insert(key, entry);
        while state.bytes > self.settings.max_bytes || state.entries.len() > MAX_ENTRIES {
            let oldest = state.entries.iter().min_by_key(|(_, entry)| entry.used);
            let Some(oldest) = oldest.map(|(key, _)| key.clone()) else { break };
            let gone = state.entries.remove(&oldest).map_or(0, |entry| entry.bytes);
            state.bytes -= gone;
            self.counters.evictions.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Counts steps that were there and could not be used any more.
    pub(crate) fn count_invalid(&self, steps: u64) {
        self.counters.invalid_steps.fetch_add(steps, Ordering::Relaxed);
    }

    /// Forgets everything.
    pub(crate) fn clear(&self) {
        let mut state = self.state.lock();
        self.counters.evictions.fetch_add(state.entries.len() as u64, Ordering::Relaxed);
        (state.entries, state.bytes) = (HashMap::new(), 0);
    }

    /// Own metrics: name, help, type, value.
    pub(crate) fn rows(&self) -> Vec<(&'static str, &'static str, &'static str, f64)> {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed) as f64;
        let (bytes, entries) = {
            let state = self.state.lock();
            (state.bytes as f64, state.entries.len() as f64)
        };
        let c = &self.counters;
        vec![
            (
                "watchfire_console_cache_hits_total",
                "Range queries of which some steps were in the cache of results.",
                "counter",
                read(&c.hits),
            ),
            (
                "watchfire_console_cache_misses_total",
                "Range queries of which steps may be kept and none were in the cache.",
                "counter",
                read(&c.misses),
            ),
            (
                "watchfire_console_cache_hit_steps_total",
                "Steps that were answered from the cache.",
                "counter",
                read(&c.hit_steps),
            ),
            (
                "watchfire_console_cache_missed_steps_total",
                "Steps of such queries that were computed.",
                "counter",
                read(&c.missed_steps),
            ),
            (
                "watchfire_console_cache_invalid_steps_total",
                "Steps that were in the cache and not used because samples had changed since.",
                "counter",
                read(&c.invalid_steps),
            ),
            (
                "watchfire_console_cache_evictions_total",
                "Queries whose results were forgotten to make room.",
                "counter",
                read(&c.evictions),
            ),
            (
                "watchfire_console_cache_queries",
                "Queries with results in the cache.",
                "gauge",
                entries,
            ),
            ("watchfire_console_cache_bytes", "Bytes of results in the cache.", "gauge", bytes),
        ]
    }
}

impl Entry {
    /// Joins extents and forgets steps that windows have moved past.
    fn tidy(&mut self, step_ms: i64) {
        let Some(end_ms) = self.extents.last().map(|extent| extent.end_ms) else { return };
        let oldest_ms = end_ms.saturating_sub(self.longest_ms.saturating_mul(2));
        self.extents.retain(|extent| extent.end_ms >= oldest_ms);
        if self.extents.len() <= MAX_EXTENTS {
            return;
        }
        let joins = |a: &Extent, b: &Extent| {
            a.end_ms.saturating_add(step_ms) == b.start_ms && a.version == b.version
        };
        let runs = self.extents.chunk_by(joins);
        let joined = runs.map(|run| match run {
            [one] => one.clone(),
            run => Extent::joined(run, oldest_ms),
        });
        self.extents = joined.collect();
    }
}

#[cfg(test)]
mod tests {
    use model::Labels;
    use promql::RangeSeries;

    use super::*;

    const STEP: i64 = 10;

    fn key(text: &str) -> Key {
        let text = text.to_owned();
        Key { tenant: TenantName::DEFAULT, text, step_ms: STEP, phase_ms: 0, lookback_ms: 5 }
    }

    fn extent(start_ms: i64, end_ms: i64, number: u64) -> Extent {
        let timestamps_ms: Vec<i64> = (start_ms..=end_ms).step_by(STEP as usize).collect();
        let values = timestamps_ms.iter().map(|t_ms| *t_ms as f64).collect();
        let labels = Labels::from_pairs([("a", "b")]).expect("one");
        let series = RangeSeries { labels, timestamps_ms, values, histograms: Vec::new() };
        let version = Version { store: 1, number, at_ms: 0 };
        Extent::new((start_ms, end_ms), vec![series], Vec::new(), version)
    }

    fn cache(max_bytes: usize) -> ResultCache {
        let settings = CacheSettings { max_bytes, recent: Duration::ZERO };
        ResultCache::new(settings, Governor::unlimited())
    }

    #[test]
    fn room_is_made_by_what_was_used_longest_ago() {
        let one = extent(0, 1_000, 1).bytes + ENTRY_BYTES + 1;
        let cache = cache(4 * one + 10);
        for text in ["a", "b", "c", "d"] {
            cache.put(key(text), STEP, vec![extent(0, 1_000, 1)], 1_000);
        }
        assert_eq!(cache.get(&key("a"), 0, 10).len(), 1);
        cache.put(key("e"), STEP, vec![extent(0, 1_000, 1)], 1_000);
        let held = ["a", "b", "c", "d", "e"].map(|text| cache.get(&key(text), 0, 10).len());
        assert_eq!(held, [1, 0, 1, 1, 1]);
        assert_eq!(cache.state.lock().bytes, 4 * one);
        // One that takes more than its share is not kept, and what there was of it goes.
        cache.put(key("a"), STEP, vec![extent(0, 3_000, 2)], 1_000);
        assert_eq!(cache.get(&key("a"), 0, 10).len(), 0);
        cache.clear();
        let state = cache.state.lock();
        assert_eq!((state.bytes, state.entries.len()), (0, 0));
    }

    #[test]
    fn extents_are_joined_replaced_and_left_behind() {
        let cache = cache(1 << 20);
        for n in 0..40 {
            let known = cache.get(&key("a"), n * 100 - 910, n * 100 + 90);
            let known =
                known.into_iter().map(|one| Extent { version: extent(0, 0, 9).version, ..one });
            let all = known.chain([extent(n * 100, n * 100 + 90, 9)]).collect();
            cache.put(key("a"), STEP, all, 1_000);
        }
        let known = cache.get(&key("a"), 0, 4_000);
        assert!(known.len() <= MAX_EXTENTS, "{}", known.len());
        // Twice what was asked for is kept of a window that moves on.
        assert!(
            known[0].start_ms >= 3_990 - 2_000 - 90 * MAX_EXTENTS as i64,
            "{}",
            known[0].start_ms
        );
        let points: usize = known.iter().map(|one| one.series[0].values.len()).sum();
        let steps: i64 = known.iter().map(|one| (one.end_ms - one.start_ms) / STEP + 1).sum();
        assert_eq!(points as i64, steps);
        cache.put(key("a"), STEP, vec![extent(2_500, 3_990, 10)], 1_000);
        let known = cache.get(&key("a"), 2_500, 4_000);
        assert_eq!(known.len(), 1);
        assert_eq!(known[0].version.number, 10);
    }
}
