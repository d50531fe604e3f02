//! Numbers, compared and printed as Prometheus' tests do.

use model::is_stale_nan;

/// Relative error that still counts as equal.
const TOLERANCE: f64 = 1e-6;

/// Whether two values are equal but for what arithmetic may lose. Source: `util/almost` of
/// Prometheus.
pub fn almost_equal(a: f64, b: f64) -> bool {
    if is_stale_nan(a) || is_stale_nan(b) {
        return is_stale_nan(a) && is_stale_nan(b);
    }
    if (a.is_nan() && b.is_nan()) || a == b {
        return true;
    }
    let sum = a.abs() + b.abs();
    let difference = (a - b).abs();
    if a == 0.0 || b == 0.0 || sum < f64::MIN_POSITIVE {
        return difference < TOLERANCE * f64::MIN_POSITIVE;
    }
    difference / sum.min(f64::MAX) < TOLERANCE
}

/// A number as Go's `%g`: with an exponent below 1e-4 and from a million on.
pub fn general(value: f64) -> String {
    if !value.is_finite() {
        let text = if value > 0.0 { "+Inf" } else { "-Inf" };
        return if value.is_nan() { "NaN" } else { text }.to_owned();
    }
    let scientific = format!("{value:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-4..6).contains(&exponent) {
        return value.to_string();
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{digits}e{sign}{:0>2}", exponent.unsigned_abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_are_compared_with_tolerance() {
        assert!(almost_equal(1.0, 1.000_001));
        assert!(!almost_equal(1.0, 1.000_01));
        assert!(almost_equal(f64::NAN, f64::NAN));
        assert!(!almost_equal(0.0, 1e-300));
        assert!(!almost_equal(f64::NAN, f64::from_bits(model::STALE_NAN_BITS)));
        assert!(!almost_equal(f64::INFINITY, f64::MAX));
    }

    #[test]
    fn numbers_are_printed_as_go_does() {
        for (value, text) in [
            (0.0, "0"),
            (-0.3, "-0.3"),
            (1e-5, "1e-05"),
            (123_456.0, "123456"),
            (1_234_567.0, "1.234567e+06"),
            (f64::NAN, "NaN"),
            (f64::INFINITY, "+Inf"),
        ] {
            assert_eq!(general(value), text);
        }
    }
}
