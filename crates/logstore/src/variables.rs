//! Columns of what differs from line to line: what the values are like decides how they are written. All of them are
//! ASCII, none is empty, and every line that the column is of has one.

use crate::column::{ColumnKind, MAX_DIGITS};
use crate::new_column::{integer, numbered, put_dictionary, put_hex};
use crate::planes::{bytes_bits, put_planes};

/// Digits of nanoseconds in a second.
const FRACTION_DIGITS: usize = 9;
const SECOND_NS: i64 = 1_000_000_000;

/// The first digits, so many, of the fraction of a second that a time has.
pub(crate) fn fraction(t_ns: i64, digits: usize) -> i64 {
    t_ns.rem_euclid(SECOND_NS) / 10_i64.pow((FRACTION_DIGITS - digits.min(FRACTION_DIGITS)) as u32)
}

/// Numbers with so many digits.
pub(crate) fn numbers_of(digits: usize) -> i64 {
    10_i64.pow(digits.min(MAX_DIGITS) as u32)
}

/// Appends the column of values that lines in `rows` have; `times` are those of all rows.
pub(crate) fn encode(
    values: &[&str],
    rows: &[u32],
    times: &[i64],
    out: &mut Vec<u8>,
) -> ColumnKind {
    let first = values.first().copied().unwrap_or_default();
    if values.iter().all(|value| *value == first) {
        out.extend_from_slice(first.as_bytes());
        return ColumnKind::Constant;
    }
    let start = out.len();
    let numbered = numbered(values.iter().copied());
    let as_dictionary = numbered.as_ref().map(|numbered| {
        let texts: usize = numbered.values.iter().map(|value| value.len() + 1).sum();
        let bits = bytes_bits(numbered.numbers.iter().copied());
        texts + (bits / 8.0) as usize
    });
    let of_numbers = put_numbers(values, rows, times, out);
    let of_hex = if of_numbers.is_none() { put_ids(values, out) } else { None };
    let found = of_numbers.or(of_hex);
    if let (Some(numbered), Some(bytes)) = (&numbered, as_dictionary)
        && found.is_none_or(|(_, other)| bytes < other)
        // Values that hardly come twice are texts.
        && (found.is_some() || 2 * numbered.values.len() <= values.len())
    {
        out.truncate(start);
        put_dictionary(&numbered.values, out);
        out.extend_from_slice(&numbered.numbers);
        return ColumnKind::Dictionary;
    }
    if let Some((kind, _)) = found {
        return kind;
    }
    let lens: Vec<i64> = values.iter().map(|value| value.len() as i64).collect();
    codec::encode_i64s(&lens, out);
    values.iter().for_each(|value| out.extend_from_slice(value.as_bytes()));
    ColumnKind::Texts
}

/// Appends values that are hexadecimal digits, as [`put_numbers`].
fn put_ids(values: &[&str], out: &mut Vec<u8>) -> Option<(ColumnKind, usize)> {
    let start = out.len();
    // All lines have one.
    out.push(0);
    if put_hex(values.iter().copied(), out) {
        return Some((ColumnKind::Hex, out.len() - start));
    }
    out.truncate(start);
    None
}

/// Appends values that are numbers, with about how many bytes they take when they are compressed; `None`, and
/// nothing, if some are none.
fn put_numbers(
    values: &[&str],
    rows: &[u32],
    times: &[i64],
    out: &mut Vec<u8>,
) -> Option<(ColumnKind, usize)> {
    let len = values.first().map_or(0, |value| value.len());
    let has_zeros = values.iter().any(|value| value.starts_with('0') && value.len() > 1);
    let is_digits = |value: &&str| value.len() == len && value.bytes().all(|b| b.is_ascii_digit());
    let is_of_one_length = len <= MAX_DIGITS && values.iter().all(is_digits);
    if has_zeros && !is_of_one_length {
        return None;
    }
    if !is_of_one_length {
        let numbers: Vec<i64> = values.iter().map(|v| integer(v)).collect::<Option<_>>()?;
        return Some((ColumnKind::IntegerPlanes, put_planes(&numbers, out)));
    }
    let numbers: Vec<i64> = values.iter().map(|v| v.parse().ok()).collect::<Option<_>>()?;
    let start = out.len();
    out.push(len as u8);
    let bytes = put_planes(&numbers, out);
    if !(2..=FRACTION_DIGITS).contains(&len) {
        return Some((ColumnKind::DigitPlanes, bytes));
    }
    // What a line says of its time is mostly what is known of it, or a little less.
    let (all, mut residuals) = (numbers_of(len), Vec::with_capacity(numbers.len()));
    for (number, row) in numbers.iter().zip(rows) {
        let residual = (number - fraction(times[*row as usize], len)).rem_euclid(all);
        residuals.push(if residual > all / 2 { residual - all } else { residual });
    }
    let mut other = vec![len as u8];
    let of_time = put_planes(&residuals, &mut other);
    if of_time < bytes {
        out.truncate(start);
        out.extend_from_slice(&other);
        return Some((ColumnKind::Fractions, of_time));
    }
    Some((ColumnKind::DigitPlanes, bytes))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::column::Column;
    use crate::template_lines::from_fractions;

    fn check(values: &[&str], times: &[i64]) -> ColumnKind {
        let rows: Vec<u32> = (0..values.len() as u32).collect();
        let mut out = Vec::new();
        let kind = encode(values, &rows, times, &mut out);
        let mut column = Column::decode(kind, values.len(), &out).expect("it was written so");
        if kind == ColumnKind::Fractions {
            from_fractions(&mut column, times.iter().copied());
        }
        for (row, value) in values.iter().enumerate() {
            let mut text = String::new();
            assert!(column.write_value(row, &mut text));
            assert_eq!(text, *value, "row {row} of {kind:?}");
        }
        kind
    }

    fn check_all(values: &[String], times: &[i64]) -> ColumnKind {
        check(&values.iter().map(String::as_str).collect::<Vec<_>>(), times)
    }

    #[test]
    fn values_choose_how_they_are_written() {
        let mixed = |n: i64| crate::grams::mixed(n as u64) as i64 & i64::MAX;
        let times: Vec<i64> =
            (0..2_000).map(|n| 1_700_000_000_000_000_000 + mixed(n) % 10_000_000_000_000).collect();
        let of =
            |value: &dyn Fn(usize) -> String| -> Vec<String> { (0..2_000).map(value).collect() };
        let numbers = of(&|n| (mixed(n as i64) % 9_000).to_string());
        assert_eq!(check_all(&numbers, &times), ColumnKind::IntegerPlanes);
        let ids = of(&|n| format!("{:016x}", mixed(n as i64)));
        assert_eq!(check_all(&ids, &times), ColumnKind::Hex);
        let micros = of(&|n| format!("{:06}", times[n].rem_euclid(1_000_000_000) / 1_000));
        assert_eq!(check_all(&micros, &times), ColumnKind::Fractions);
        // Written a little before it was taken.
        let millis = of(&|n| {
            format!(
                "{:03}",
                (times[n] - mixed(n as i64) % 3_000_000).rem_euclid(1_000_000_000) / 1_000_000
            )
        });
        assert_eq!(check_all(&millis, &times), ColumnKind::Fractions);
        let others = of(&|n| format!("{:06}", mixed(n as i64) % 1_000_000));
        assert_eq!(check_all(&others, &times), ColumnKind::DigitPlanes);
        let ports = of(&|n| ["22", "443", "8080"][mixed(n as i64) as usize % 3].to_owned());
        assert_eq!(check_all(&ports, &times), ColumnKind::Dictionary);
        let names = of(&|n| format!("v{}-x{}", mixed(n as i64), n % 7));
        assert_eq!(check_all(&names, &times), ColumnKind::Texts);
        assert_eq!(check(&["7", "7"], &times), ColumnKind::Constant);
    }

    proptest! {
        #[test]
        fn any_values_come_back(
            values in prop::collection::vec("[0-9]{1,3}|0[0-9]{2}|-?[0-9]{1,20}|[0-9a-f]{8}|[a-z0-9_-]{1,12}", 1..40),
            same in prop::collection::vec("[0-9]{6}|-?[0-9]{1,4}", 1..40),
            times in prop::collection::vec(any::<i64>(), 80),
        ) {
            check_all(&values, &times);
            check_all(&same, &times);
            check_all(&[values, same].concat(), &times);
            let six: Vec<String> = times.iter().map(|t| format!("{:06}", fraction(*t, 6))).collect();
            check_all(&six, &times);
        }
    }
}
