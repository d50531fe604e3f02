//! When a target is scraped: at multiples of its interval, shifted by its own share of it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A scrape that begins so little after its time bears that time: regular timestamps are what
/// codecs compress best. Prometheus has 2 ms; ours is more, as thousands of targets on two cores
/// wait for one another for longer, and still below a thousandth of a usual interval.
const TOLERANCE: Duration = Duration::from_millis(10);

/// The times of one target. All are since the epoch.
#[derive(Debug, Clone, Copy)]
pub(super) struct Schedule {
    interval: Duration,
    offset: Duration,
}

impl Schedule {
    /// `hash` spreads targets over the interval.
    ///
    /// # Panics
    /// `interval` is zero.
    pub(super) fn new(interval: Duration, hash: u64) -> Self {
        let interval_ns = u64::try_from(interval.as_nanos()).unwrap_or(u64::MAX);
        Schedule { interval, offset: Duration::from_nanos(hash % interval_ns) }
    }

    /// The first time after `now`.
    pub(super) fn next(&self, now: Duration) -> Duration {
        let since_offset = now.saturating_sub(self.offset).as_nanos();
        let rounds =
            if now < self.offset { 0 } else { since_offset / self.interval.as_nanos() + 1 };
        self.at(rounds)
    }

    /// The last time up to and including `now`; `None` before the first.
    pub(super) fn last(&self, now: Duration) -> Option<Duration> {
        self.next(now).checked_sub(self.interval)
    }

    /// The time of a scrape that is made up for from `from` on, before the one at `tick`; that one if it comes
    /// soon. `hash` spreads targets over a twentieth of the interval, so that not all are asked at once,
    /// and as much lies before the next scrape: 1 s at most each.
    pub(super) fn made_up_for(&self, from: Duration, tick: Duration, hash: u64) -> Duration {
        let most = (self.interval / 20).min(Duration::from_secs(1));
        let soon = from + most.mul_f64((hash % 1_000) as f64 / 1_000.0);
        if soon + most <= tick { soon } else { tick }
    }

    /// How many times lie between `tick` and `now`.
    pub(super) fn missed(&self, tick: Duration, now: Duration) -> u64 {
        let late = now.saturating_sub(tick).as_nanos() / self.interval.as_nanos();
        u64::try_from(late).unwrap_or(u64::MAX)
    }

    /// Whether `tick` is further away than any time should be, so that the clock must have been
    /// set back.
    pub(super) fn is_lost(&self, tick: Duration, now: Duration) -> bool {
        tick.saturating_sub(now) > self.interval
    }

    fn at(&self, rounds: u128) -> Duration {
        let ns = self.offset.as_nanos() + rounds * self.interval.as_nanos();
        Duration::from_nanos(u64::try_from(ns).unwrap_or(u64::MAX))
    }

    /// The time samples of a scrape bear that was due at `tick` and begins `now`.
    pub(super) fn timestamp_ms(&self, tick: Duration, now: Duration) -> i64 {
        let tolerance = TOLERANCE.min(self.interval / 100);
        let is_timely = now.saturating_sub(tick) <= tolerance && now >= tick;
        let time = if is_timely { tick } else { now };
        i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
    }
}

/// The wall clock.
pub(super) fn now() -> Duration {
    // A clock before 1970 is wrong in any case.
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// The wall clock in milliseconds.
pub(super) fn now_ms() -> i64 {
    i64::try_from(now().as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_an_interval_apart_and_never_now() {
        let schedule = Schedule::new(Duration::from_secs(15), 7_000_000_000 + 15_000_000_000 * 3);
        let seconds = Duration::from_secs;
        assert_eq!(schedule.next(seconds(0)), seconds(7));
        assert_eq!(schedule.next(seconds(7)), seconds(22));
        assert_eq!(schedule.next(seconds(21)), seconds(22));
        let last = [6, 7, 21, 22].map(|now| schedule.last(seconds(now)));
        assert_eq!(last, [None, Some(seconds(7)), Some(seconds(7)), Some(seconds(22))]);
        let made_up = |tick| schedule.made_up_for(seconds(10), seconds(tick), 7_500).as_millis();
        assert_eq!([22, 12, 11].map(made_up), [10_375, 10_375, 11_000]);
        assert_eq!(schedule.missed(seconds(22), seconds(22)), 0);
        assert_eq!(schedule.missed(seconds(22), seconds(53)), 2);
        assert!(schedule.is_lost(seconds(3_622), seconds(22)));
        assert!(!schedule.is_lost(seconds(37), seconds(22)));
    }

    #[test]
    fn a_little_late_is_on_time() {
        let schedule = Schedule::new(Duration::from_secs(15), 0);
        let tick = Duration::from_secs(30);
        let late = |ms| schedule.timestamp_ms(tick, tick + Duration::from_millis(ms));
        assert_eq!((late(0), late(10), late(11)), (30_000, 30_000, 30_011));
        let hurried = Schedule::new(Duration::from_millis(100), 0);
        assert_eq!(hurried.timestamp_ms(tick, tick + Duration::from_millis(2)), 30_002);
    }
}
