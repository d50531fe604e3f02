//! Compensated summation as Prometheus does it.
//!
//! Source: `util/kahansum` of Prometheus 3 (Neumaier's variant of Kahan's algorithm).

/// Adds `value` to the running sum `(sum, compensation)`. Once the sum is infinite the
/// compensation is dropped, so that it cannot turn infinity into NaN.
#[inline(always)]
pub(crate) fn add(value: f64, sum: f64, compensation: f64) -> (f64, f64) {
    let total = sum + value;
    let lost = if sum.abs() >= value.abs() { (sum - total) + value } else { (value - total) + sum };
    (total, if total.is_infinite() { 0.0 } else { compensation + lost })
}

/// The sum of all values.
pub(crate) fn sum(values: &[f64]) -> f64 {
    let (sum, compensation) =
        values.iter().fold((0.0, 0.0), |(sum, compensation), &value| add(value, sum, compensation));
    if sum.is_infinite() { sum } else { sum + compensation }
}

/// The mean of all values, NaN if there are none. Sums up as long as the sum is finite, then
/// goes over to an incremental mean.
pub(crate) fn mean(values: &[f64]) -> f64 {
    let mut mean = Mean::default();
    for &value in values {
        mean.add(value);
    }
    mean.value()
}

/// A running mean.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Mean {
    pub(crate) count: f64,
    /// The sum so far; the mean so far once `incremental`.
    pub(crate) sum: f64,
    pub(crate) compensation: f64,
    pub(crate) incremental: bool,
}

impl Mean {
    #[inline]
    pub(crate) fn add(&mut self, value: f64) {
        self.count += 1.0;
        if !self.incremental {
            let (sum, compensation) = add(value, self.sum, self.compensation);
            if !sum.is_infinite() || self.count == 1.0 {
                (self.sum, self.compensation) = (sum, compensation);
                return;
            }
            self.make_incremental(self.count - 1.0);
        }
        let share = (self.count - 1.0) / self.count;
        (self.sum, self.compensation) =
            add(value / self.count, share * self.sum, share * self.compensation);
    }

    /// Takes in the values another mean has seen.
    pub(crate) fn merge(&mut self, mut other: Mean) {
        if other.count == 0.0 {
            return;
        }
        if self.count == 0.0 {
            *self = other;
            return;
        }
        let count = self.count + other.count;
        if !self.incremental && !other.incremental {
            let (sum, compensation) =
                add(other.sum, self.sum, self.compensation + other.compensation);
            if !sum.is_infinite() {
                *self = Mean { count, sum, compensation, incremental: false };
                return;
            }
        }
        self.make_incremental(self.count);
        other.make_incremental(other.count);
        let (share, other_share) = (self.count / count, other.count / count);
        let compensation = self.compensation * share + other.compensation * other_share;
        let (sum, compensation) = add(other.sum * other_share, self.sum * share, compensation);
        *self = Mean { count, sum, compensation, incremental: true };
    }

    pub(crate) fn value(&self) -> f64 {
        if self.incremental {
            self.sum + self.compensation
        } else {
            self.sum / self.count + self.compensation / self.count
        }
    }

    fn make_incremental(&mut self, count: f64) {
        if !self.incremental {
            self.incremental = true;
            self.sum /= count;
            self.compensation /= count;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_parts_survive_large_ones() {
        assert_eq!(sum(&[1e100, 1.0, -1e100, 1.0]), 2.0);
        assert_eq!(mean(&[1e100, 1.0, -1e100, 3.0]), 1.0);
    }

    #[test]
    fn means_do_not_overflow() {
        assert_eq!(mean(&[f64::MAX, f64::MAX, f64::MAX]), f64::MAX);
        assert_eq!(mean(&[f64::INFINITY, 1.0]), f64::INFINITY);
        assert!(mean(&[f64::INFINITY, f64::NEG_INFINITY]).is_nan());
        assert!(mean(&[]).is_nan());
    }

    #[test]
    fn merged_means_equal_means_of_all() {
        let values = [f64::MAX, 3.0, f64::MAX, -7.5, f64::MAX / 2.0, 1e300];
        let whole = mean(&values);
        for cut in 0..=values.len() {
            let mut left = Mean::default();
            values[..cut].iter().for_each(|value| left.add(*value));
            let mut right = Mean::default();
            values[cut..].iter().for_each(|value| right.add(*value));
            left.merge(right);
            assert!((left.value() / whole - 1.0).abs() < 1e-12, "cut at {cut}");
        }
    }
}
