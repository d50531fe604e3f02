//! Decimal fractions, in which the float functions of templates reckon: `addf 0.1 0.2` is `0.3`.
//!
//! Source of the semantics: sprig, whose functions use `shopspring/decimal`; quotients have 16
//! digits behind the point.

/// A number as `mantissa * 10^exponent`.
#[derive(Debug, Clone, Copy)]
struct Decimal {
    mantissa: i128,
    exponent: i32,
}

/// Digits behind the point of a quotient.
const QUOTIENT_DIGITS: i32 = 16;

/// What is done to two numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operation {
    Add,
    Subtract,
    Multiply,
    Divide,
}

/// A divisor is zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DivisionByZero;

/// Applies `operation` to the numbers from left to right, exactly as far as 38 digits reach, and as
/// floats beyond.
pub(crate) fn fold(operation: Operation, first: f64, rest: &[f64]) -> Result<f64, DivisionByZero> {
    if operation == Operation::Divide && rest.contains(&0.0) {
        return Err(DivisionByZero);
    }
    let exact = rest.iter().try_fold(Decimal::from_float(first), |total, next| {
        let (total, next) = (total?, Decimal::from_float(*next)?);
        Some(total.apply(operation, next))
    });
    if let Some(Some(exact)) = exact {
        return Ok(exact.to_float());
    }
    Ok(rest.iter().fold(first, |total, next| match operation {
        Operation::Add => total + next,
        Operation::Subtract => total - next,
        Operation::Multiply => total * next,
        Operation::Divide => total / next,
    }))
}

impl Decimal {
    /// The shortest decimal that is `value`; none for what is not finite or far from 1.
    fn from_float(value: f64) -> Option<Self> {
        if !value.is_finite() {
            return None;
        }
        let text = format!("{value:e}");
        let (digits, exponent) = text.split_once('e')?;
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        let exponent = exponent.parse::<i32>().ok()? - i32::try_from(fraction.len()).ok()?;
        let mantissa = format!("{whole}{fraction}").parse().ok()?;
        (-30..=18).contains(&exponent).then_some(Decimal { mantissa, exponent })
    }

    fn to_float(self) -> f64 {
        // The text of a decimal is always a float.
        format!("{}e{}", self.mantissa, self.exponent).parse().unwrap_or(f64::NAN)
    }

    /// The mantissa at a lower exponent.
    fn at(self, exponent: i32) -> Option<i128> {
        let shift = u32::try_from(self.exponent - exponent).ok()?;
        self.mantissa.checked_mul(10i128.checked_pow(shift)?)
    }

    /// `None` if 38 digits are too few.
    fn apply(self, operation: Operation, other: Decimal) -> Option<Self> {
        let exponent = self.exponent.min(other.exponent);
        match operation {
            Operation::Add => {
                let mantissa = self.at(exponent)?.checked_add(other.at(exponent)?)?;
                Some(Decimal { mantissa, exponent })
            }
            Operation::Subtract => {
                let mantissa = self.at(exponent)?.checked_sub(other.at(exponent)?)?;
                Some(Decimal { mantissa, exponent })
            }
            Operation::Multiply => Some(Decimal {
                mantissa: self.mantissa.checked_mul(other.mantissa)?,
                exponent: self.exponent + other.exponent,
            }),
            Operation::Divide => {
                let shift = self.exponent - other.exponent + QUOTIENT_DIGITS;
                let (mut dividend, mut divisor) = (self.mantissa, other.mantissa);
                let power = 10i128.checked_pow(shift.unsigned_abs())?;
                if shift >= 0 {
                    dividend = dividend.checked_mul(power)?;
                } else {
                    divisor = divisor.checked_mul(power)?;
                }
                // Rounded half away from zero.
                let (quotient, remainder) = (dividend / divisor, dividend % divisor);
                let up = remainder.unsigned_abs() >= divisor.unsigned_abs().div_ceil(2);
                let sign = if (dividend < 0) == (divisor < 0) { 1 } else { -1 };
                let mantissa = quotient + if up { sign } else { 0 };
                Some(Decimal { mantissa, exponent: -QUOTIENT_DIGITS })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_exact() {
        let add = |first, rest: &[f64]| fold(Operation::Add, first, rest).expect("a sum");
        assert_eq!(add(0.1, &[0.2]), 0.3);
        assert_eq!(fold(Operation::Subtract, 5.0, &[1.5, 3.0]), Ok(0.5));
        assert_eq!(fold(Operation::Multiply, 10.5, &[0.5]), Ok(5.25));
        assert_eq!(fold(Operation::Divide, 20.2, &[5.25]), Ok(3.8476190476190477));
        assert_eq!(fold(Operation::Divide, 2.0, &[-3.0]), Ok(-0.6666666666666667));
        assert_eq!(fold(Operation::Divide, 1.0, &[2.0, 0.0]), Err(DivisionByZero));
        assert_eq!(add(1e300, &[1e300]), 2e300);
        assert!(add(f64::NAN, &[1.0]).is_nan());
    }
}
