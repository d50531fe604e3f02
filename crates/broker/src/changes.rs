//! When what queries see was last changed, by the time that samples bear: who keeps results of queries
//! asks here whether they still hold.
//!
//! **The order that makes it right.** Whoever changes what queries see does so first, notes it here
//! second and acknowledges third. Whoever keeps a result takes the number of changes first and reads
//! second. So a result lacks nothing that was noted up to its number, and whatever it may lack is noted
//! with a higher one.
//!
//! Flushes and merges are no changes, since they show the same samples, unless they write rollups or rules
//! of retention change at that moment.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use model::TimeRange;
use parking_lot::Mutex;

/// Changes are noted for slices of time as long as this.
const SLICE_MS: i64 = 60_000;
/// Slices a shard knows one by one; beyond, neighbours become one.
const MAX_SLICES: usize = 8_192;
/// Slices of one segment of another broker that are known one by one.
const MAX_FOREIGN_SLICES: u64 = 1_024;
/// Deletes and the like that are known one by one.
const MAX_RANGES: usize = 256;

/// What changed since a number of changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataChanges {
    /// Which run of which broker counts: numbers of another one mean nothing.
    pub store: u64,
    /// Number of the last change before this was asked.
    pub number: u64,
    /// When it was asked, milliseconds since the epoch.
    pub at_ms: i64,
    /// Ranges of time in which samples came or went, with the number of the last change of each. They
    /// may overlap.
    pub ranges: Vec<(TimeRange, u64)>,
    /// For how long samples are kept, milliseconds, for some or for all: what was younger when a result
    /// was made, and is older now, may be gone without a change.
    pub kept_ms: Vec<i64>,
}

/// The changes of one store.
#[derive(Debug)]
pub(crate) struct Changes {
    number: AtomicU64,
    /// Of each shard's rows; its thread is nearly always the only one who wants the lock.
    shards: Vec<Mutex<Slices>>,
    /// Of what other brokers of a cluster took.
    foreign: Mutex<Slices>,
    ranges: Mutex<Vec<(TimeRange, u64)>>,
    /// The longest windows whose rollups are all that is left of some samples; 0 if there are none.
    window_ms: AtomicI64,
}

/// Slices of time that do not overlap: start, end and the last change.
#[derive(Debug, Default)]
struct Slices(BTreeMap<i64, (i64, u64)>);

impl Changes {
    pub(crate) fn new(shards: usize) -> Self {
        let shards = (0..shards).map(|_| Mutex::default()).collect();
        let (number, window_ms) = (AtomicU64::new(0), AtomicI64::new(0));
        let (foreign, ranges) = (Mutex::default(), Mutex::default());
        Changes { number, shards, foreign, ranges, window_ms }
    }

    /// Notes rows that a shard has taken. Consecutive rows of one slice cost 1 ns each.
    pub(crate) fn note_rows(&self, shard: usize, timestamps_ms: impl Iterator<Item = i64>) {
        let mut touched: Vec<i64> = Vec::new();
        for t_ms in timestamps_ms {
            let is_in = |start: &i64| (t_ms.wrapping_sub(*start) as u64) < SLICE_MS as u64;
            let is_known = touched.last().is_some_and(is_in);
            if !is_known {
                touched.push(t_ms.saturating_sub(t_ms.rem_euclid(SLICE_MS)));
            }
        }
        if touched.len() > 1 {
            touched.sort_unstable();
            touched.dedup();
        }
        let mut slices = self.shards[shard].lock();
        // Taken while the lock is held: whoever knows the number sees the slices.
        let number = self.number.fetch_add(1, Ordering::AcqRel) + 1;
        touched.iter().for_each(|start_ms| slices.note(*start_ms, number));
    }

    /// Notes that another broker took rows in `range`, as far as that is known: one or both ends of it
    /// may be the only rows.
    pub(crate) fn note_foreign(&self, range: TimeRange) {
        let first = range.start_ms.saturating_sub(range.start_ms.rem_euclid(SLICE_MS));
        let slices = (range.end_ms.saturating_sub(first) as u64).div_ceil(SLICE_MS as u64);
        if slices > MAX_FOREIGN_SLICES {
            return self.note_range(range);
        }
        let mut foreign = self.foreign.lock();
        // As in `note_rows`.
        let number = self.number.fetch_add(1, Ordering::AcqRel) + 1;
        let starts = (0..slices).map(|slice| first.saturating_add(slice as i64 * SLICE_MS));
        starts.for_each(|start_ms| foreign.note(start_ms, number));
    }

    /// From now on rollups of windows of this length are all that is left of some samples: to be
    /// called before anybody sees them.
    pub(crate) fn note_windows(&self, window_ms: i64) {
        self.window_ms.fetch_max(window_ms, Ordering::AcqRel);
    }

    /// The longest of those windows, milliseconds; 0 if there are none.
    pub(crate) fn window_ms(&self) -> i64 {
        self.window_ms.load(Ordering::Acquire)
    }

    /// Notes that samples in `range` were deleted. Of a window of which rollups are all that is left,
    /// what is deleted in part is gone as a whole, and its last sample may be behind the range.
    pub(crate) fn note_delete(&self, range: TimeRange) {
        let behind_ms = (self.window_ms() - 1).max(0);
        self.note_range(TimeRange::new(range.start_ms, range.end_ms.saturating_add(behind_ms)));
    }

    /// Notes that anything in `range` may be another.
    pub(crate) fn note_range(&self, range: TimeRange) {
        let mut ranges = self.ranges.lock();
        let number = self.number.fetch_add(1, Ordering::AcqRel) + 1;
        ranges.retain(|(known, _)| known.start_ms < range.start_ms || range.end_ms < known.end_ms);
        if ranges.len() == MAX_RANGES {
            let (first, _) = ranges.remove(0);
            // The number of the later one: none of them may seem older than it is.
            ranges[0].0 = ranges[0].0.union(&first);
        }
        ranges.push((range, number));
    }

    /// The number of the last change, and what came after `since` in `within`.
    pub(crate) fn since(&self, since: u64, within: TimeRange) -> (u64, Vec<(TimeRange, u64)>) {
        // Before the locks: a change with this number or a lower one is seen below.
        let number = self.number.load(Ordering::Acquire);
        let mut found: Vec<(TimeRange, u64)> = Vec::new();
        for shard in &self.shards {
            shard.lock().since(since, within, &mut found);
        }
        self.foreign.lock().since(since, within, &mut found);
        let ranges = self.ranges.lock();
        let later = ranges.iter().filter(|(range, n)| *n > since && range.overlaps(&within));
        found.extend(later);
        (number, found)
    }
}

impl Slices {
    fn note(&mut self, start_ms: i64, number: u64) {
        let before = self.0.range_mut(..=start_ms).next_back();
        if let Some((_, (end_ms, last))) = before
            && *end_ms > start_ms
        {
            *last = number;
            return;
        }
        self.0.insert(start_ms, (start_ms.saturating_add(SLICE_MS), number));
        if self.0.len() > MAX_SLICES {
            self.coarsen();
        }
    }

    /// Makes one slice of each two, with what lies between them.
    #[cold]
    fn coarsen(&mut self) {
        let mut slices = std::mem::take(&mut self.0).into_iter();
        while let Some((start_ms, (end_ms, number))) = slices.next() {
            let (end_ms, number) = match slices.next() {
                Some((_, (end_ms, other))) => (end_ms, number.max(other)),
                None => (end_ms, number),
            };
            self.0.insert(start_ms, (end_ms, number));
        }
    }

    fn since(&self, since: u64, within: TimeRange, found: &mut Vec<(TimeRange, u64)>) {
        let first = self.0.range(..=within.start_ms).next_back().map(|(start_ms, _)| *start_ms);
        let first = first.unwrap_or(within.start_ms);
        if first >= within.end_ms {
            return;
        }
        for (&start_ms, &(end_ms, number)) in self.0.range(first..within.end_ms) {
            if number > since && end_ms > within.start_ms {
                found.push((TimeRange::new(start_ms, end_ms), number));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: i64 = SLICE_MS;

    fn covered(found: &[(TimeRange, u64)], t_ms: i64) -> bool {
        found.iter().any(|(range, _)| range.contains(t_ms))
    }

    #[test]
    fn what_came_after_a_number_is_told() {
        let changes = Changes::new(2);
        changes.note_rows(0, [5, 10, 59_999, -1].into_iter());
        let (first, found) = changes.since(0, TimeRange::all());
        assert_eq!(first, 1);
        let mut ranges: Vec<TimeRange> = found.iter().map(|(range, _)| *range).collect();
        ranges.sort_by_key(|range| range.start_ms);
        assert_eq!(ranges, [TimeRange::new(-MINUTE, 0), TimeRange::new(0, MINUTE)]);
        assert_eq!(changes.since(first, TimeRange::all()), (1, Vec::new()));
        changes.note_rows(1, [10 * MINUTE].into_iter());
        changes.note_range(TimeRange::new(3 * MINUTE, 4 * MINUTE));
        let (second, found) = changes.since(first, TimeRange::new(0, 10 * MINUTE));
        assert_eq!((second, found.len()), (3, 1), "the end of the range is not in it");
        let (_, found) = changes.since(first, TimeRange::new(0, 10 * MINUTE + 1));
        assert!(covered(&found, 10 * MINUTE) && covered(&found, 3 * MINUTE) && !covered(&found, 0));
        changes.note_rows(0, [30_000].into_iter());
        let (_, found) = changes.since(second, TimeRange::new(59_999, 60_000));
        assert_eq!(found, [(TimeRange::new(0, MINUTE), 4)]);
        let extremes = [i64::MIN, i64::MAX];
        changes.note_rows(0, extremes.into_iter());
        let (_, found) = changes.since(4, TimeRange::all());
        assert!(!found.is_empty());
    }

    #[test]
    fn what_others_took_is_told_by_slices() {
        let changes = Changes::new(1);
        let now = 1_000_000 * MINUTE;
        changes.note_foreign(TimeRange::new(now + 5, now + 6));
        let (first, found) = changes.since(0, TimeRange::all());
        assert_eq!(found, [(TimeRange::new(now, now + MINUTE), 1)]);
        // Four in a second for an hour: what is older is not touched by any of them.
        for tick in 0..4 * 3_600 {
            let t_ms = now + tick * 250;
            changes.note_foreign(TimeRange::new(t_ms - 1_000, t_ms + 1));
        }
        let (_, found) = changes.since(first, TimeRange::new(now - 90 * MINUTE, now - 2 * MINUTE));
        assert_eq!(found, []);
        let (second, found) = changes.since(first, TimeRange::all());
        assert!((0..60).all(|minute| covered(&found, now + minute * MINUTE)));
        // Wide ones are told as a whole, and the extremes overflow nothing.
        for range in [TimeRange::new(now - 2_000 * MINUTE, now), TimeRange::all()] {
            changes.note_foreign(range);
            assert!(covered(&changes.since(second, TimeRange::all()).1, now - 1));
        }
        changes.note_foreign(TimeRange::new(i64::MIN, i64::MIN + 1));
        changes.note_foreign(TimeRange::new(i64::MAX - 1, i64::MAX));
        changes.note_foreign(TimeRange::new(7, 7));
    }

    #[test]
    fn a_delete_reaches_to_the_end_of_the_windows_it_cuts() {
        let changes = Changes::new(1);
        let noted = |since, changes: &Changes| changes.since(since, TimeRange::all()).1;
        changes.note_delete(TimeRange::new(100, 200));
        assert_eq!(noted(0, &changes), [(TimeRange::new(100, 200), 1)]);
        changes.note_windows(3_600_000);
        changes.note_windows(300_000);
        changes.note_delete(TimeRange::new(100, 200));
        assert_eq!(noted(1, &changes), [(TimeRange::new(100, 3_600_199), 2)]);
        changes.note_delete(TimeRange::all());
        assert!(covered(&noted(2, &changes), i64::MAX - 1));
    }

    #[test]
    fn many_slices_and_ranges_become_coarse_and_hide_nothing() {
        let changes = Changes::new(1);
        let count = 3 * MAX_SLICES as i64;
        for slice in 0..count {
            changes.note_rows(0, [slice * 7 * MINUTE].into_iter());
        }
        assert!(changes.shards[0].lock().0.len() <= MAX_SLICES);
        let (_, found) = changes.since(0, TimeRange::all());
        assert!((0..count).all(|slice| covered(&found, slice * 7 * MINUTE)));
        // What came last is told of the last slices, and of few others.
        let (_, found) = changes.since(count as u64 - 10, TimeRange::all());
        assert!((count - 10..count).all(|slice| covered(&found, slice * 7 * MINUTE)));
        assert!(!covered(&found, 0));
        let before = changes.since(0, TimeRange::all()).0;
        for n in 0..2 * MAX_RANGES as i64 {
            changes.note_range(TimeRange::new(-n - 1, -n));
        }
        let (_, found) = changes.since(before, TimeRange::all());
        assert!((1..=2 * MAX_RANGES as i64).all(|n| covered(&found, -n)));
        assert!(changes.ranges.lock().len() <= MAX_RANGES);
    }
}
