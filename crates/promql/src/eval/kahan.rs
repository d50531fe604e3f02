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

/// Lanes of a long sum: as many as fill two vector registers of any machine.
const LANES: usize = 4;

/// Sum and compensation of all values.
///
/// The lanes use Knuth's branch-free form of the rounding error, which the compiler can
/// vectorise. Where nothing overflows it is exactly what [`add`] adds to the compensation, and
/// where something does it is NaN. Source: TAOCP 2, 4.2.2, theorem B.
fn total(values: &[f64]) -> (f64, f64) {
    if values.len() >= 2 * LANES {
        // One addition has to wait for the one before, so long slices are summed up in lanes
        // that do not wait for each other.
        let (mut sums, mut lost) = ([0.0; LANES], [0.0; LANES]);
        let (rounds, rest) = values.as_chunks::<LANES>();
        for round in rounds {
            let totals = zip(&sums, round, |a, b| a + b);
            let shares = zip(&totals, &sums, |total, a| total - a);
            let kept = zip(&totals, &shares, |total, share| total - share);
            let lost_left = zip(&sums, &kept, |a, kept| a - kept);
            let lost_right = zip(round, &shares, |b, share| b - share);
            let errors = zip(&lost_left, &lost_right, |a, b| a + b);
            lost = zip(&lost, &errors, |lost, error| lost + error);
            sums = totals;
        }
        let (sum, compensation) = in_turn((0.0, lost.iter().sum()), &sums);
        let (sum, compensation) = in_turn((sum, compensation), rest);
        if sum.is_finite() && compensation.is_finite() {
            return (sum, compensation);
        }
    }
    in_turn((0.0, 0.0), values)
}

#[inline(always)]
fn zip(a: &[f64; LANES], b: &[f64; LANES], f: impl Fn(f64, f64) -> f64) -> [f64; LANES] {
    std::array::from_fn(|lane| f(a[lane], b[lane]))
}

fn in_turn(start: (f64, f64), values: &[f64]) -> (f64, f64) {
    values.iter().fold(start, |(sum, compensation), &value| add(value, sum, compensation))
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
    // A sum that has ever been infinite never becomes finite again, so a finite one proves that
    // nothing overflowed on the way.
    let (sum, compensation) = total(values);
    if sum.is_finite() && !values.is_empty() {
        let count = values.len() as f64;
        return sum / count + compensation / count;
    }
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
    fn lanes_lose_nothing() {
        let mut values: Vec<f64> = (0..40).map(|i| f64::from(i) * 0.1).collect();
        values.extend([1e100, 1.0, -1e100]);
        let exact = 0.1 * f64::from(39 * 40 / 2) + 1.0;
        assert!((sum(&values) - exact).abs() < 1e-12);
        values.push(f64::INFINITY);
        assert_eq!(sum(&values), f64::INFINITY);
        assert!((mean(&[f64::MAX; 40]) / f64::MAX - 1.0).abs() < 1e-12);
    }

    #[test]
    fn means_do_not_overflow() {
        assert!((mean(&[f64::MAX; 3]) / f64::MAX - 1.0).abs() < 1e-12);
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
