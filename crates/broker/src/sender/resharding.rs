//! How many shards a remote needs.
//!
//! As Prometheus reckons: a request takes so long for each of its rows, so many rows come each
//! second, and what has piled up is to be gone in a while. Rates are smoothed, and a number that is
//! hardly another is left alone.

use std::time::Duration;

/// How often the number is looked at.
pub(super) const EVERY: Duration = Duration::from_secs(10);
/// The share a new measurement has in a smoothed rate.
const WEIGHT: f64 = 0.2;
/// The share of what has piled up that is to be sent each second besides what comes.
const CATCH_UP: f64 = 0.05;
/// Numbers within this share of the present one are no reason to change it.
const TOLERANCE: f64 = 0.3;

/// What was counted since the last look.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Measured {
    /// Time since the last look.
    pub(super) elapsed: Duration,
    /// Rows that came into the log for this remote.
    pub(super) arrived: f64,
    /// Rows that were delivered.
    pub(super) delivered: u64,
    /// Time all requests took together.
    pub(super) busy: Duration,
    /// Rows that wait, in shards and in the log.
    pub(super) waiting: f64,
}

/// Smoothed rates, per second.
#[derive(Debug, Default)]
pub(super) struct Resharding {
    arriving: Option<f64>,
    delivering: Option<f64>,
    busy: Option<f64>,
}

impl Resharding {
    /// How many shards would do, as a fraction; `None` as long as nothing is delivered, because
    /// more requests do not help a remote that takes none.
    pub(super) fn desired(&mut self, measured: &Measured) -> Option<f64> {
        let seconds = measured.elapsed.as_secs_f64();
        if seconds <= 0.0 {
            return None;
        }
        let arriving = smooth(&mut self.arriving, measured.arrived / seconds);
        let delivering = smooth(&mut self.delivering, measured.delivered as f64 / seconds);
        let busy = smooth(&mut self.busy, measured.busy.as_secs_f64() / seconds);
        if measured.delivered == 0 || delivering <= 0.0 {
            return None;
        }
        let seconds_per_row = busy / delivering;
        Some(seconds_per_row * (arriving + CATCH_UP * measured.waiting))
    }
}

fn smooth(rate: &mut Option<f64>, now: f64) -> f64 {
    let smoothed = rate.map_or(now, |before| before + WEIGHT * (now - before));
    *rate = Some(smoothed);
    smoothed
}

/// The number to go to from `present`, within the bounds of the configuration.
pub(super) fn number(desired: f64, present: usize, min: usize, max: usize) -> usize {
    let bounded = |number: usize| number.clamp(min, max);
    let present = bounded(present);
    let low = present as f64 * (1.0 - TOLERANCE);
    let high = present as f64 * (1.0 + TOLERANCE);
    if !desired.is_finite() || (low..=high).contains(&desired) {
        return present;
    }
    bounded(desired.ceil().clamp(1.0, max as f64) as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_remote_gets_as_many_requests_as_its_slowness_needs() {
        let ten_seconds = |arrived, delivered, busy, waiting| Measured {
            elapsed: Duration::from_secs(10),
            arrived,
            delivered,
            busy: Duration::from_secs(busy),
            waiting,
        };
        // One shard that is busy all the time and does half of what comes.
        let mut slow = Resharding::default();
        let desired = slow.desired(&ten_seconds(20_000.0, 10_000, 10, 0.0)).expect("it delivers");
        assert!((desired - 2.0).abs() < 1e-9, "{desired}");
        // What has piled up asks for more, until it is gone.
        let desired = slow.desired(&ten_seconds(20_000.0, 10_000, 10, 100_000.0)).expect("it does");
        assert!((desired - 7.0).abs() < 1e-9, "{desired}");
        let mut idle = Resharding::default();
        let desired = idle.desired(&ten_seconds(1_000.0, 1_000, 1, 0.0)).expect("it delivers");
        assert!(desired < 0.2, "{desired}");
        // A remote that takes nothing needs no more requests.
        assert_eq!(Resharding::default().desired(&ten_seconds(1e6, 0, 10, 1e9)), None);
    }

    #[test]
    fn the_number_is_changed_when_it_matters() {
        for (desired, present, wanted) in [
            (0.1, 1, 1),
            (1.2, 1, 1),
            (1.31, 1, 2),
            (9.0, 10, 10),
            (6.5, 10, 7),
            (1_000.0, 10, 50),
            (f64::NAN, 3, 3),
            (0.0, 9, 1),
        ] {
            assert_eq!(number(desired, present, 1, 50), wanted, "{desired} from {present}");
        }
        assert_eq!(number(0.5, 1, 4, 8), 4);
    }
}
