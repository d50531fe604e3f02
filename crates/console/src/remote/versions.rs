//! What changed in several clusters, told as if it were one store.
//!
//! Each cluster numbers its own changes. Here each set of their numbers gets a number of its own, so that
//! of two sets the one with the larger number has no smaller number of any cluster. A change of one
//! cluster bears the number of the first set that knows it. So whoever kept a result with an older set
//! finds it among what came later, and nobody else does.
//!
//! Sets that are forgotten cost results, never truth: a number that is not known any more stands for a
//! set that knows of nothing.

use std::collections::VecDeque;

use model::TimeRange;
use parking_lot::Mutex;

use crate::data::DataChanges;

/// Sets that are known one by one.
const MAX_SETS: usize = 1 << 14;
/// Before all times.
const NEVER: i64 = i64::MIN;

/// The sets of numbers that were told.
#[derive(Debug, Default)]
pub(super) struct Versions(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// Which runs of which brokers the sets are of.
    stores: Vec<u64>,
    /// Counts how often that changed: the number of a set means nothing after it.
    store: u64,
    last: u64,
    /// Ascending in their numbers, the last of which is `last`.
    sets: VecDeque<Set>,
}

#[derive(Debug)]
struct Set {
    number: u64,
    /// By cluster: number of the last change, and the time by its clock when the set was made.
    numbers: Box<[u64]>,
    at_ms: Box<[i64]>,
}

impl Versions {
    /// From which change on each of `count` clusters is to be asked, for whoever wants what came after
    /// the set `since`.
    pub(super) fn since(&self, since: u64, count: usize) -> Vec<u64> {
        if since == u64::MAX {
            return vec![u64::MAX; count];
        }
        let state = self.0.lock();
        state.set(since).map_or_else(|| vec![0; count], |set| set.numbers.to_vec())
    }

    /// What the clusters told, in the same order, of what came after the set `since`.
    pub(super) fn joined(&self, since: u64, told: &[DataChanges]) -> DataChanges {
        let mut state = self.0.lock();
        let stores = || told.iter().map(|one| one.store);
        if !state.stores.iter().copied().eq(stores()) {
            state.stores = stores().collect();
            state.store += 1;
            state.sets.clear();
        }
        let state = &mut *state;
        let number_now = state.note(told);
        let mut ranges = Vec::new();
        for (cluster, one) in told.iter().enumerate() {
            let number = |change: u64| {
                let first = state.sets.partition_point(|set| set.numbers[cluster] < change);
                state.sets.get(first).map_or(state.last + 1, |set| set.number)
            };
            ranges.extend(one.ranges.iter().map(|(range, change)| (*range, number(*change))));
            if since == u64::MAX {
                continue;
            }
            // Each clock has its own time, so what became too old is told as what went.
            let from_ms = state.set(since).map_or(NEVER, |set| set.at_ms[cluster]);
            let (from_ms, to_ms) =
                (from_ms.min(one.at_ms), one.at_ms.max(from_ms).saturating_add(1));
            ranges.extend(one.kept_ms.iter().map(|kept_ms| {
                let start_ms = from_ms.saturating_sub(*kept_ms);
                (TimeRange::new(start_ms, to_ms.saturating_sub(*kept_ms)), state.last + 1)
            }));
        }
        DataChanges {
            store: state.store,
            number: number_now,
            // What is too young by one clock is not kept.
            at_ms: told.iter().map(|one| one.at_ms).min().unwrap_or(NEVER),
            ranges,
            kept_ms: Vec::new(),
        }
    }
}

impl State {
    /// The set with this number, if it is known.
    fn set(&self, number: u64) -> Option<&Set> {
        let at = self.sets.binary_search_by_key(&number, |set| set.number).ok()?;
        self.sets.get(at)
    }

    /// The number of the newest set of which everything is told; made if the last one has less. Somebody
    /// else may have been told more meanwhile, of which this one must not claim to know.
    fn note(&mut self, told: &[DataChanges]) -> u64 {
        let has_all = |set: &Set| set.numbers.iter().zip(told).all(|(n, one)| *n <= one.number);
        let known = self.sets.partition_point(has_all);
        if known == self.sets.len() {
            let is_same = |set: &Set| set.numbers.iter().zip(told).all(|(n, one)| *n == one.number);
            if !self.sets.back().is_some_and(is_same) {
                self.push(told);
            }
            return self.last;
        }
        known.checked_sub(1).map_or(0, |at| self.sets[at].number)
    }

    fn push(&mut self, told: &[DataChanges]) {
        self.last += 1;
        if self.sets.len() == MAX_SETS {
            self.sets.pop_front();
        }
        let numbers = told.iter().map(|one| one.number).collect();
        let at_ms = told.iter().map(|one| one.at_ms).collect();
        self.sets.push_back(Set { number: self.last, numbers, at_ms });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(store: u64, number: u64, ranges: &[(i64, u64)]) -> DataChanges {
        let ranges =
            ranges.iter().map(|(start_ms, n)| (TimeRange::new(*start_ms, start_ms + 10), *n));
        DataChanges { store, number, at_ms: 1_000, ranges: ranges.collect(), kept_ms: Vec::new() }
    }

    /// Starts of the ranges that came after `version`.
    fn later(changes: &DataChanges, version: u64) -> Vec<i64> {
        let later = changes.ranges.iter().filter(|(_, number)| *number > version);
        later.map(|(range, _)| range.start_ms).collect()
    }

    #[test]
    fn a_change_is_later_than_the_sets_that_do_not_know_it() {
        let versions = Versions::default();
        assert_eq!(versions.since(u64::MAX, 2), [u64::MAX; 2]);
        let first = versions.joined(u64::MAX, &[told(7, 5, &[]), told(8, 9, &[])]);
        let second = versions.joined(u64::MAX, &[told(7, 6, &[]), told(8, 9, &[])]);
        let same = versions.joined(u64::MAX, &[told(7, 6, &[]), told(8, 9, &[])]);
        assert_eq!((first.store, first.number + 1), (second.store, second.number));
        assert_eq!(same.number, second.number);
        assert_eq!(versions.since(first.number, 2), [5, 9]);
        let ranges = [(100, 6), (200, 7)];
        let now = versions.joined(first.number, &[told(7, 7, &ranges), told(8, 10, &[(300, 10)])]);
        assert_eq!(later(&now, first.number), [100, 200, 300]);
        assert_eq!(later(&now, second.number), [200, 300]);
        assert_eq!(later(&now, now.number), [0_i64; 0]);
        // Who was told less than somebody else, and later, does not claim to know the rest.
        let late =
            versions.joined(first.number, &[told(7, 6, &[(100, 6)]), told(8, 11, &[(400, 11)])]);
        assert_eq!(late.number, second.number);
        assert_eq!(later(&late, first.number), [100, 400]);
        assert_eq!(later(&late, now.number), [400]);
    }

    #[test]
    fn numbers_of_another_run_mean_nothing() {
        let versions = Versions::default();
        let first = versions.joined(u64::MAX, &[told(7, 5, &[]), told(8, 9, &[])]);
        let other = versions.joined(u64::MAX, &[told(7, 5, &[]), told(1, 1, &[])]);
        assert_ne!(first.store, other.store);
        assert_eq!(versions.since(first.number, 2), [0, 0]);
        // Also when the first one is asked again.
        let again = versions.joined(u64::MAX, &[told(7, 5, &[]), told(8, 9, &[])]);
        assert!(again.store != first.store && again.store != other.store);
    }

    #[test]
    fn what_becomes_too_old_is_told_by_the_clock_of_its_cluster() {
        let versions = Versions::default();
        let at = |at_ms: i64, kept_ms: i64| DataChanges {
            at_ms,
            kept_ms: vec![kept_ms],
            ..told(7, 5, &[])
        };
        let first = versions.joined(u64::MAX, &[at(10_000, 3_000), at(20_000, 9_000)]);
        assert_eq!((first.at_ms, first.ranges.len(), first.kept_ms.len()), (10_000, 0, 0));
        let now = versions.joined(first.number, &[at(10_500, 3_000), at(20_500, 9_000)]);
        assert_eq!(now.number, first.number);
        let ranges: Vec<_> =
            now.ranges.iter().map(|(range, n)| (*range, *n > now.number)).collect();
        assert_eq!(
            ranges,
            [(TimeRange::new(7_000, 7_501), true), (TimeRange::new(11_000, 11_501), true)]
        );
        // A set that is forgotten: everything may be gone.
        let unknown = versions.joined(99, &[at(10_500, 3_000), at(20_500, 9_000)]);
        assert_eq!(unknown.ranges[0].0.start_ms, i64::MIN);
    }

    #[test]
    fn sets_that_are_forgotten_cost_results_alone() {
        let versions = Versions::default();
        for number in 0..=MAX_SETS as u64 + 5 {
            versions.joined(u64::MAX, &[told(7, number, &[]), told(8, 1, &[])]);
        }
        assert_eq!(versions.since(1, 2), [0, 0]);
        let all = [(0, 1), (20, 3)];
        let now = versions.joined(1, &[told(7, 1 << 15, &all), told(8, 1, &[])]);
        assert_eq!(later(&now, 1), [0, 20]);
    }
}
