//! How fast samples of a tenant may come.

/// A burst is so many seconds of the rate where none is configured.
pub(crate) const BURST_SECONDS: usize = 10;

/// A bucket that fills with the rate. What is larger than the whole bucket is taken when that is
/// full, and what comes next waits for it: a request that never fits could never be stored.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// Samples, below 0 behind a large request; with when that was so, milliseconds since the epoch.
    credit: Option<(f64, i64)>,
}

impl Pace {
    /// Takes `samples`, or says after how many milliseconds they may be.
    pub(super) fn take(
        &mut self,
        samples: usize,
        rate: usize,
        burst: usize,
        now_ms: i64,
    ) -> Result<(), u64> {
        let (credit, burst) = self.credit_at(rate, burst, now_ms);
        let needed = (samples as f64).min(burst);
        let is_taken = credit >= needed;
        let left = if is_taken { credit - samples as f64 } else { credit };
        self.credit = Some((left, now_ms));
        if is_taken {
            return Ok(());
        }
        Err(((needed - credit) / rate as f64 * 1_000.0).ceil() as u64)
    }

    /// Takes `samples`, whatever is left.
    pub(super) fn take_in_advance(
        &mut self,
        samples: usize,
        rate: usize,
        burst: usize,
        now_ms: i64,
    ) {
        let (credit, _) = self.credit_at(rate, burst, now_ms);
        self.credit = Some((credit - samples as f64, now_ms));
    }

    /// What is there by now, and the most there can be.
    fn credit_at(&self, rate: usize, burst: usize, now_ms: i64) -> (f64, f64) {
        let burst = if burst == 0 { rate.saturating_mul(BURST_SECONDS) } else { burst } as f64;
        let (credit, at_ms) = self.credit.unwrap_or((burst, now_ms));
        // A clock that is set back gives nothing and takes nothing.
        let seconds = now_ms.saturating_sub(at_ms).max(0) as f64 / 1_000.0;
        ((credit + seconds * rate as f64).min(burst), burst)
    }

    /// Gives samples back that were taken and are not stored.
    pub(super) fn give_back(&mut self, samples: u64) {
        if let Some((credit, _)) = &mut self.credit {
            *credit += samples as f64;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_holds_over_time_and_a_burst_is_let_through() {
        let mut pace = Pace::default();
        assert_eq!(pace.take(1_500, 100, 1_500, 0), Ok(()));
        assert_eq!(pace.take(100, 100, 1_500, 0), Err(1_000));
        assert_eq!(pace.take(100, 100, 1_500, 999), Err(1));
        assert_eq!(pace.take(100, 100, 1_500, 1_000), Ok(()));
        assert_eq!(pace.take(1, 100, 1_500, 500), Err(10), "the clock was set back");
        let taken = (0..100_000).filter(|ms| pace.take(1, 100, 1_500, 20_000 + ms).is_ok()).count();
        assert!((11_400..=11_600).contains(&taken), "{taken}");
    }

    #[test]
    fn what_is_given_back_may_be_taken_again_up_to_a_burst() {
        let mut pace = Pace::default();
        assert_eq!(pace.take(1_000, 100, 1_000, 0), Ok(()));
        assert_eq!(pace.take(1, 100, 1_000, 0), Err(10));
        pace.give_back(400);
        assert_eq!(pace.take(400, 100, 1_000, 0), Ok(()));
        pace.give_back(9_000);
        assert_eq!(pace.take(1_000, 100, 1_000, 0), Ok(()));
        assert_eq!(pace.take(1, 100, 1_000, 0), Err(10));
    }

    #[test]
    fn what_is_taken_in_advance_is_waited_for_later() {
        let mut pace = Pace::default();
        pace.take_in_advance(1_500, 100, 1_000, 0);
        assert_eq!(pace.take(1, 100, 1_000, 0), Err(5_010));
        pace.take_in_advance(100, 100, 1_000, 5_000);
        assert_eq!(pace.take(1, 100, 1_000, 6_000), Err(10));
        assert_eq!(pace.take(1, 100, 1_000, 6_010), Ok(()));
    }

    #[test]
    fn what_is_larger_than_the_burst_passes_a_full_bucket() {
        let mut pace = Pace::default();
        assert_eq!(pace.take(5_000, 100, 0, 0), Ok(()));
        assert_eq!(pace.take(5_000, 100, 0, 10_000), Err(40_000));
        assert_eq!(pace.take(5_000, 100, 0, 50_000), Ok(()));
    }
}
