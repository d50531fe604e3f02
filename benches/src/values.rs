//! The values of one series, one scrape after another.

use crate::families::Behaviour;

/// Where a series stands. The same seed yields the same values.
#[derive(Debug, Clone)]
pub(crate) struct Values {
    behaviour: Behaviour,
    is_moving: bool,
    /// The value in units of the behaviour's last decimal, so that decimals stay exact.
    mantissa: i64,
    /// What this series makes of its family's pace.
    pace: i64,
    random: Random,
}

impl Values {
    /// A series at its first value.
    pub(crate) fn new(behaviour: Behaviour, is_moving: bool, seed: u64) -> Self {
        let mut random = Random::new(seed);
        let (mantissa, pace) = match behaviour {
            // Half of what holds still is zero, as with the error counters of real hosts.
            Behaviour::Still { up_to } => (random.below(2) * random.below(up_to + 1), 0),
            Behaviour::Counter { pace, .. } => {
                let pace = (pace * (1 + random.below(20)) / 10).max(1);
                (pace * random.below(230_000), pace)
            }
            Behaviour::Gauge { around, quantum, .. } => {
                let start = around / 2 + random.below(around);
                (start / quantum * quantum, 0)
            }
            Behaviour::Float { .. } | Behaviour::Clock => (0, 0),
        };
        Values { behaviour, is_moving, mantissa, pace, random }
    }

    /// The value at the next scrape, which happens at `t_ms`.
    pub(crate) fn next(&mut self, t_ms: i64) -> f64 {
        if self.is_moving {
            self.advance();
        }
        match self.behaviour {
            Behaviour::Still { .. } => self.mantissa as f64,
            Behaviour::Counter { decimals, .. } | Behaviour::Gauge { decimals, .. } => {
                self.mantissa as f64 / 10_f64.powi(i32::from(decimals))
            }
            Behaviour::Float { scale } => scale * (0.5 + self.random.unit()),
            Behaviour::Clock => (t_ms * 10_000 + self.random.below(10_000)) as f64 / 1e7,
        }
    }

    /// The host starts again: counters fall to zero.
    pub(crate) fn reboot(&mut self) {
        if self.is_moving && matches!(self.behaviour, Behaviour::Counter { .. }) {
            self.mantissa = 0;
        }
    }

    fn advance(&mut self) {
        match self.behaviour {
            Behaviour::Counter { busy_percent, .. } => {
                if self.random.below(100) < i64::from(busy_percent) {
                    let burst = if self.random.below(50) == 0 { 5 } else { 1 };
                    let percent = 40 + self.random.below(120);
                    self.mantissa += (self.pace * percent / 100).max(1) * burst;
                }
            }
            Behaviour::Gauge { around, stride, quantum, .. } => {
                let step = (self.random.below(2 * stride + 1) - stride) * quantum;
                let is_outward = (self.mantissa > around * 3 / 2 && step > 0)
                    || (self.mantissa < around / 2 && step < 0);
                self.mantissa += if is_outward { -step } else { step };
            }
            Behaviour::Still { .. } | Behaviour::Float { .. } | Behaviour::Clock => {}
        }
    }
}

/// SplitMix64 (Steele, Lea, Flood 2014): eight bytes of state, because a million series have one
/// each.
#[derive(Debug, Clone)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Random(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// An integer in `0..bound`; 0 if `bound` is below 1.
    pub(crate) fn below(&mut self, bound: i64) -> i64 {
        let bound = bound.max(1) as u64;
        (self.next() % bound) as i64
    }

    /// A number in `[0, 1)` with 53 random bits.
    pub(crate) fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_only_rise_until_the_host_reboots() {
        let behaviour = Behaviour::Counter { pace: 20, decimals: 2, busy_percent: 60 };
        let mut values = Values::new(behaviour, true, 7);
        let mut last = values.next(0);
        for _ in 0..1_000 {
            let value = values.next(0);
            assert!(value >= last);
            last = value;
        }
        values.reboot();
        assert!(values.next(0) < last);
    }

    #[test]
    fn gauges_stay_near_their_middle_and_in_their_grid() {
        let behaviour = Behaviour::Gauge { around: 1_000, stride: 9, quantum: 5, decimals: 1 };
        let mut values = Values::new(behaviour, true, 7);
        for _ in 0..10_000 {
            let value = values.next(0);
            assert!((45.0..=155.0).contains(&value), "{value}");
            assert_eq!((value * 10.0).round() as i64 % 5, 0, "{value}");
        }
    }

    #[test]
    fn what_holds_still_holds_still() {
        for behaviour in [
            Behaviour::Still { up_to: 9 },
            Behaviour::Counter { pace: 20, decimals: 2, busy_percent: 60 },
        ] {
            let mut values = Values::new(behaviour, false, 3);
            let first = values.next(0);
            assert!((0..100).all(|_| values.next(0) == first));
        }
    }
}
