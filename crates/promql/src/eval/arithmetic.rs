//! The operators on two numbers.

use model::histogram::Trim;

use crate::ast::BinaryOp;

/// An operator that yields a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Arithmetic {
    Add,
    Sub,
    Mul,
    Div,
    Mod,
    Pow,
    Atan2,
}

/// An operator that holds or does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Comparison {
    Equal,
    NotEqual,
    Greater,
    Less,
    GreaterEqual,
    LessEqual,
}

/// What an operator between elements does to its left value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ScalarOp {
    /// Replaces it.
    Arithmetic(Arithmetic),
    /// Keeps it where the comparison holds.
    Filter(Comparison),
    /// Replaces it with 1 or 0.
    Bool(Comparison),
    /// Cuts a histogram, if it is one.
    Trim(Trim),
}

/// What kind of operator a binary operator is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OpClass {
    Value(ScalarOp),
    Set(SetOp),
}

/// The operators on sets of elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SetOp {
    And,
    Or,
    Unless,
}

impl OpClass {
    pub(crate) fn of(op: BinaryOp, return_bool: bool) -> Self {
        let compare = |comparison| {
            OpClass::Value(if return_bool {
                ScalarOp::Bool(comparison)
            } else {
                ScalarOp::Filter(comparison)
            })
        };
        let arithmetic = |op| OpClass::Value(ScalarOp::Arithmetic(op));
        match op {
            BinaryOp::Add => arithmetic(Arithmetic::Add),
            BinaryOp::Sub => arithmetic(Arithmetic::Sub),
            BinaryOp::Mul => arithmetic(Arithmetic::Mul),
            BinaryOp::Div => arithmetic(Arithmetic::Div),
            BinaryOp::Mod => arithmetic(Arithmetic::Mod),
            BinaryOp::Pow => arithmetic(Arithmetic::Pow),
            BinaryOp::Atan2 => arithmetic(Arithmetic::Atan2),
            BinaryOp::Equal => compare(Comparison::Equal),
            BinaryOp::NotEqual => compare(Comparison::NotEqual),
            BinaryOp::Greater => compare(Comparison::Greater),
            BinaryOp::Less => compare(Comparison::Less),
            BinaryOp::GreaterEqual => compare(Comparison::GreaterEqual),
            BinaryOp::LessEqual => compare(Comparison::LessEqual),
            BinaryOp::And => OpClass::Set(SetOp::And),
            BinaryOp::Or => OpClass::Set(SetOp::Or),
            BinaryOp::Unless => OpClass::Set(SetOp::Unless),
            BinaryOp::TrimUpper => OpClass::Value(ScalarOp::Trim(Trim::Above)),
            BinaryOp::TrimLower => OpClass::Value(ScalarOp::Trim(Trim::Below)),
        }
    }
}

impl Arithmetic {
    #[inline(always)]
    pub(crate) fn apply(self, left: f64, right: f64) -> f64 {
        match self {
            Arithmetic::Add => left + right,
            Arithmetic::Sub => left - right,
            Arithmetic::Mul => left * right,
            Arithmetic::Div => left / right,
            Arithmetic::Mod => left % right,
            Arithmetic::Pow => left.powf(right),
            Arithmetic::Atan2 => left.atan2(right),
        }
    }
}

impl Comparison {
    #[inline(always)]
    pub(crate) fn holds(self, left: f64, right: f64) -> bool {
        match self {
            Comparison::Equal => left == right,
            Comparison::NotEqual => left != right,
            Comparison::Greater => left > right,
            Comparison::Less => left < right,
            Comparison::GreaterEqual => left >= right,
            Comparison::LessEqual => left <= right,
        }
    }
}

impl ScalarOp {
    /// The operator between two scalars, where a comparison always yields 1 or 0.
    pub(crate) fn between_scalars(self, left: f64, right: f64) -> f64 {
        match self {
            ScalarOp::Arithmetic(op) => op.apply(left, right),
            ScalarOp::Filter(op) | ScalarOp::Bool(op) => f64::from(u8::from(op.holds(left, right))),
            // Nothing is cut off a number, and nothing is left of it.
            ScalarOp::Trim(_) => f64::NAN,
        }
    }
}

/// The larger of two numbers as Go has it: infinity if either is, else NaN if either is, and 0 is
/// larger than -0.
pub(crate) fn larger(a: f64, b: f64) -> f64 {
    if a == f64::INFINITY || b == f64::INFINITY {
        f64::INFINITY
    } else if a.is_nan() || b.is_nan() {
        f64::NAN
    } else if a == b {
        if a.is_sign_negative() { b } else { a }
    } else {
        a.max(b)
    }
}

/// The smaller of two numbers; the opposite of [`larger`].
pub(crate) fn smaller(a: f64, b: f64) -> f64 {
    -larger(-a, -b)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extremes_are_those_of_go() {
        let same = |a: f64, b: f64| assert_eq!(a.to_bits(), b.to_bits(), "{a} {b}");
        same(larger(f64::INFINITY, f64::NAN), f64::INFINITY);
        same(smaller(f64::NAN, f64::NEG_INFINITY), f64::NEG_INFINITY);
        assert!(larger(f64::NEG_INFINITY, f64::NAN).is_nan() && smaller(1.0, f64::NAN).is_nan());
        same(larger(-0.0, 0.0), 0.0);
        same(smaller(0.0, -0.0), -0.0);
        same(larger(-0.0, -0.0), -0.0);
        same(smaller(2.0, -3.0), -3.0);
    }
}
