//! When groups are due.

/// What is due now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tick {
    /// For which time to evaluate, milliseconds since the epoch.
    pub at_ms: i64,
    /// How many evaluations were missed before it.
    pub missed: u64,
}

/// How far into the past missed evaluations of recording rules are made up for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CatchUpLimits {
    /// Most evaluations of a group; the newest ones are made.
    pub max_evaluations: usize,
    /// None is older than this, milliseconds.
    pub max_age_ms: i64,
}

impl Default for CatchUpLimits {
    fn default() -> Self {
        CatchUpLimits { max_evaluations: 1_000, max_age_ms: 6 * 3_600_000 }
    }
}

/// For which times to evaluate recording rules that nobody did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CatchUp {
    /// The times, ascending, milliseconds since the epoch.
    pub timestamps_ms: Vec<i64>,
    /// How many more there would be, were there no limits.
    pub skipped: u64,
}

/// By how much a group's evaluations come after multiples of its interval: the same on every start
/// and every host, and spread over the interval.
pub fn offset_ms(file: &str, name: &str, interval_ms: i64) -> i64 {
    // FNV-1a, then mixed (splitmix64), for its low bits alone are not even.
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    for byte in file.bytes().chain([0xff]).chain(name.bytes()) {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^= hash >> 31;
    (hash % interval_ms.max(1).unsigned_abs()) as i64
}

/// The newest time of evaluation that is not after `now_ms`.
pub fn slot_before(now_ms: i64, interval_ms: i64, offset_ms: i64) -> i64 {
    let interval_ms = interval_ms.max(1);
    let since = now_ms.saturating_sub(offset_ms);
    now_ms.saturating_sub(since.rem_euclid(interval_ms))
}

/// The times of one group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Schedule {
    interval_ms: i64,
    offset_ms: i64,
    /// When it is due next.
    pub(super) due_ms: i64,
    /// Evaluations so far, missed ones included.
    pub(super) iterations: u64,
    /// Evaluations that nobody made.
    pub(super) missed: u64,
}

impl Schedule {
    /// A schedule whose first time comes after `now_ms`.
    pub(super) fn new(interval_ms: i64, offset_ms: i64, now_ms: i64) -> Self {
        let interval_ms = interval_ms.max(1);
        let due_ms = slot_before(now_ms, interval_ms, offset_ms).saturating_add(interval_ms);
        Schedule { interval_ms, offset_ms, due_ms, iterations: 0, missed: 0 }
    }

    /// What is due at `now_ms`, if anything is.
    pub(super) fn tick(&mut self, now_ms: i64) -> Option<Tick> {
        // A clock that was set back must not stop rules until it has caught up.
        if self.due_ms.saturating_sub(now_ms) > self.interval_ms.saturating_mul(2) {
            let slot = slot_before(now_ms, self.interval_ms, self.offset_ms);
            self.due_ms = slot.saturating_add(self.interval_ms);
        }
        if now_ms < self.due_ms {
            return None;
        }
        let missed = (now_ms - self.due_ms) / self.interval_ms;
        let at_ms = self.due_ms + missed * self.interval_ms;
        self.due_ms = at_ms.saturating_add(self.interval_ms);
        self.iterations += missed.unsigned_abs() + 1;
        self.missed += missed.unsigned_abs();
        Some(Tick { at_ms, missed: missed.unsigned_abs() })
    }

    /// The times after `last_ms`, and before the next one that is due.
    pub(super) fn catch_up(&self, last_ms: i64, now_ms: i64, limits: CatchUpLimits) -> CatchUp {
        let slot = slot_before(last_ms, self.interval_ms, self.offset_ms);
        let first = slot.saturating_add(self.interval_ms);
        if first >= self.due_ms {
            return CatchUp::default();
        }
        let span_ms = self.due_ms.saturating_sub(first).saturating_sub(1);
        let all = (span_ms / self.interval_ms).unsigned_abs() + 1;
        let oldest = now_ms.saturating_sub(limits.max_age_ms);
        let mut timestamps_ms = Vec::new();
        let mut at_ms = self.due_ms - self.interval_ms;
        while at_ms >= first.max(oldest) && timestamps_ms.len() < limits.max_evaluations {
            timestamps_ms.push(at_ms);
            at_ms -= self.interval_ms;
        }
        timestamps_ms.reverse();
        let skipped = all.saturating_sub(timestamps_ms.len() as u64);
        CatchUp { timestamps_ms, skipped }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_spread_and_keep_their_place() {
        let offsets: Vec<i64> =
            (0..1_000).map(|n| offset_ms("f.yml", &format!("g{n}"), 15_000)).collect();
        assert!(offsets.iter().all(|offset| (0..15_000).contains(offset)));
        for part in 0..15 {
            let count = offsets.iter().filter(|offset| **offset / 1_000 == part).count();
            assert!((30..=110).contains(&count), "{count} of 1000 in second {part}");
        }
        assert_eq!(offsets[7], offset_ms("f.yml", "g7", 15_000));
        assert_ne!(offset_ms("a", "bc", 1 << 40), offset_ms("ab", "c", 1 << 40));
    }

    #[test]
    fn slots_lie_behind_multiples() {
        assert_eq!(slot_before(100_000, 60_000, 5_000), 65_000);
        assert_eq!(slot_before(65_000, 60_000, 5_000), 65_000);
        assert_eq!(slot_before(64_999, 60_000, 5_000), 5_000);
        assert_eq!(slot_before(0, 60_000, 5_000), -55_000);
    }

    #[test]
    fn what_is_missed_is_counted() {
        let mut schedule = Schedule::new(10_000, 3_000, 20_000);
        assert_eq!(schedule.tick(22_999), None);
        assert_eq!(schedule.tick(23_000), Some(Tick { at_ms: 23_000, missed: 0 }));
        assert_eq!(schedule.tick(23_001), None);
        assert_eq!(schedule.tick(59_000), Some(Tick { at_ms: 53_000, missed: 2 }));
        assert_eq!((schedule.iterations, schedule.missed), (4, 2));
        // The clock is set back by an hour.
        assert_eq!(schedule.tick(-3_600_000), None);
        assert_eq!(schedule.tick(-3_597_000), Some(Tick { at_ms: -3_597_000, missed: 0 }));
    }

    #[test]
    fn catching_up_is_bounded() {
        let schedule = Schedule::new(10_000, 0, 100_000);
        let limits = CatchUpLimits { max_evaluations: 3, max_age_ms: 1_000_000 };
        let plan = schedule.catch_up(40_000, 100_000, limits);
        assert_eq!(plan, CatchUp { timestamps_ms: vec![80_000, 90_000, 100_000], skipped: 3 });
        let limits = CatchUpLimits { max_evaluations: 9, max_age_ms: 15_000 };
        let plan = schedule.catch_up(40_000, 100_000, limits);
        assert_eq!(plan, CatchUp { timestamps_ms: vec![90_000, 100_000], skipped: 4 });
        assert_eq!(schedule.catch_up(100_000, 100_000, limits), CatchUp::default());
    }
}
