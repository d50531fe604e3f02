//! Columns that are read: structured metadata, and what differs from line to line.

use std::ops::Range;

use codec::CodecError;
use codec::varint::{take_bytes, take_prefixed, take_u64};
use memchr::memmem::Finder;

use crate::new_column::put_digits;
use crate::planes::take_planes;
use crate::value_text::{Formatted, Out, push_hex, push_integer};

/// Most rows of a group.
pub(crate) const MAX_GROUP_ROWS: usize = 1 << 20;
/// Values of a dictionary, at most; whoever has more is a column of texts.
pub(crate) const MAX_DICTIONARY: usize = 255;
/// Most decimal digits that are written as a number.
pub(crate) const MAX_DIGITS: usize = 18;
/// Values of no row.
const ABSENT: u32 = u32::MAX;

/// How a column is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum ColumnKind {
    /// One value for all rows.
    Constant = 2,
    /// Whole numbers, as they would be printed.
    Integers = 4,
    /// Other numbers, as they would be printed.
    Floats = 5,
    /// Lower-case hexadecimal digits, of each row as many.
    Hex = 6,
    /// Anything.
    Texts = 7,
    /// Decimal digits, of each row as many.
    Digits = 9,
    /// A list of values, and which of them each row has.
    Dictionary = 12,
    /// As whole numbers, in planes; every row has one.
    IntegerPlanes = 13,
    /// As decimal digits, in planes; every row has one.
    DigitPlanes = 14,
    /// As decimal digits that are those of the fraction of the second of a line's time, plus a number.
    Fractions = 15,
}

impl ColumnKind {
    pub(crate) fn from_number(number: u8) -> Option<Self> {
        use ColumnKind::{Constant, Dictionary, DigitPlanes, Digits};
        use ColumnKind::{Floats, Fractions, Hex, IntegerPlanes, Integers, Texts};
        let simple = [Constant, Integers, Floats, Hex, Texts, Digits];
        let bytewise = [Dictionary, IntegerPlanes, DigitPlanes, Fractions];
        simple.into_iter().chain(bytewise).find(|kind| *kind as u8 == number)
    }
}

/// A column that was read.
#[derive(Debug)]
pub(crate) enum Column {
    Constant(String),
    Dictionary { values: Vec<String>, of_rows: Vec<u8> },
    Integers { places: Places, values: Vec<i64> },
    Floats { places: Places, values: Vec<f64> },
    Digits { places: Places, len: usize, values: Vec<i64> },
    Hex { places: Places, len: usize, bytes: Vec<u8> },
    Texts { starts: Vec<u32>, text: String },
}

/// Where the value of a row is.
#[derive(Debug)]
pub(crate) enum Places {
    /// All rows have one.
    All,
    /// By row, [`ABSENT`] if it has none.
    Some(Vec<u32>),
}

impl Places {
    /// Yields how many there are, too.
    fn take(input: &mut &[u8], rows: usize) -> Result<(Self, usize), CodecError> {
        match take_bytes(input, 1)?[0] {
            0 => Ok((Places::All, rows)),
            1 => {
                let bits = take_bytes(input, rows.div_ceil(8))?;
                let mut count = 0;
                let has = |row: usize| bits[row / 8] >> (row % 8) & 1 == 1;
                let place = |row| {
                    has(row).then(|| {
                        count += 1;
                        count - 1
                    })
                };
                let places: Vec<u32> =
                    (0..rows).map(place).map(|place| place.unwrap_or(ABSENT)).collect();
                Ok((Places::Some(places), count as usize))
            }
            other => Err(invalid("kind of places", u64::from(other))),
        }
    }

    fn of(&self, row: usize) -> Option<usize> {
        match self {
            Places::All => Some(row),
            Places::Some(places) => {
                let place = places.get(row).copied().filter(|place| *place != ABSENT);
                place.map(|place| place as usize)
            }
        }
    }
}

fn invalid(field: &'static str, found: u64) -> CodecError {
    CodecError::Invalid { offset: 0, field, found }
}

fn text(bytes: &[u8]) -> Result<String, CodecError> {
    let text = std::str::from_utf8(bytes);
    text.map(str::to_owned).map_err(|e| invalid("text that is UTF-8 up to", e.valid_up_to() as u64))
}

impl Column {
    /// Reads what [`crate::new_column::NewColumn::encode`] wrote for a group with so many rows.
    pub(crate) fn decode(
        kind: ColumnKind,
        rows: usize,
        mut input: &[u8],
    ) -> Result<Self, CodecError> {
        let input = &mut input;
        let column = match kind {
            ColumnKind::Constant => Column::Constant(text(std::mem::take(input))?),
            ColumnKind::Dictionary => {
                let count = take_u64(input)?;
                if count > MAX_DICTIONARY as u64 {
                    return Err(invalid("values of a dictionary", count));
                }
                let values: Vec<String> = (0..count)
                    .map(|_| take_prefixed(input).and_then(text))
                    .collect::<Result<_, _>>()?;
                let of_rows = take_bytes(input, rows)?.to_vec();
                Column::Dictionary { values, of_rows }
            }
            ColumnKind::IntegerPlanes => {
                Column::Integers { places: Places::All, values: take_planes(input, rows)? }
            }
            ColumnKind::DigitPlanes | ColumnKind::Fractions => {
                let len = usize::from(take_bytes(input, 1)?[0]);
                if len > MAX_DIGITS {
                    return Err(invalid("digits of a value", len as u64));
                }
                let values = take_planes(input, rows)?;
                Column::Digits { places: Places::All, len, values }
            }
            ColumnKind::Integers => {
                let (places, count) = Places::take(input, rows)?;
                let mut values = Vec::new();
                codec::decode_i64s(input, count, &mut values)?;
                Column::Integers { places, values }
            }
            ColumnKind::Digits => {
                let (places, count) = Places::take(input, rows)?;
                let len = usize::from(take_bytes(input, 1)?[0]);
                let mut values = Vec::new();
                codec::decode_i64s(input, count, &mut values)?;
                if len > MAX_DIGITS {
                    return Err(invalid("digits of a value", len as u64));
                }
                Column::Digits { places, len, values }
            }
            ColumnKind::Floats => {
                let (places, count) = Places::take(input, rows)?;
                let mut values = Vec::new();
                codec::decode_f64s(input, count, &mut values)?;
                Column::Floats { places, values }
            }
            ColumnKind::Hex => {
                let (places, count) = Places::take(input, rows)?;
                let len = usize::from(take_bytes(input, 1)?[0]);
                let bytes = take_bytes(input, count.saturating_mul(len))?.to_vec();
                Column::Hex { places, len, bytes }
            }
            ColumnKind::Texts => {
                let starts = take_starts(input, rows)?;
                let text = text(std::mem::take(input))?;
                let is_cut = starts.iter().all(|start| text.is_char_boundary(*start as usize));
                if starts.last().is_none_or(|end| *end as usize != text.len()) || !is_cut {
                    return Err(invalid("length of texts", text.len() as u64));
                }
                Column::Texts { starts, text }
            }
        };
        if !input.is_empty() {
            return Err(invalid("end of a column", input.len() as u64));
        }
        Ok(column)
    }

    /// Appends the value of a row; whether it has one.
    pub(crate) fn write_value(&self, row: usize, out: &mut impl Out) -> bool {
        match self {
            Column::Integers { places, values } => {
                let Some(value) = places.of(row).and_then(|at| values.get(at)) else {
                    return false;
                };
                push_integer(*value, 1, out);
            }
            Column::Digits { places, len, values } => {
                let Some(value) = places.of(row).and_then(|at| values.get(at)) else {
                    return false;
                };
                push_integer(*value, *len, out);
            }
            Column::Floats { places, values } => {
                use std::fmt::Write as _;
                let Some(value) = places.of(row).and_then(|at| values.get(at)) else {
                    return false;
                };
                return write!(Formatted(out), "{value}").is_ok();
            }
            Column::Hex { places, len, bytes } => {
                let at = places.of(row);
                let value = at.and_then(|at| bytes.get(at * len..(at + 1) * len));
                let Some(value) = value else { return false };
                push_hex(value, out);
            }
            _ => match self.text(row) {
                Some(value) => out.push_text(value),
                None => return false,
            },
        }
        true
    }

    /// Appends the rows among `rows`, all of which have a value, whose values hold what `finder` looks for.
    pub(crate) fn find(&self, finder: &Finder<'_>, rows: Range<usize>, out: &mut Vec<usize>) {
        let needle = finder.needle();
        match self {
            Column::Constant(value) => {
                if finder.find(value.as_bytes()).is_some() {
                    out.extend(rows);
                }
            }
            Column::Dictionary { values, of_rows } => {
                let mut holds = [false; MAX_DICTIONARY + 1];
                for (number, value) in values.iter().enumerate() {
                    holds[number + 1] = finder.find(value.as_bytes()).is_some();
                }
                if holds.contains(&true) {
                    out.extend(rows.filter(|row| holds[usize::from(of_rows[*row])]));
                }
            }
            // Fast path: ids are looked for whole, and are no longer than that.
            Column::Hex { places: Places::All, len, bytes } if needle.len() >= 2 * len => {
                let mut value = Vec::with_capacity(*len);
                if needle.len() > 2 * len || !put_digits(needle, &mut value) {
                    return;
                }
                let finder = Finder::new(&value);
                let mut at = rows.start * len;
                while let Some(hit) = finder.find(&bytes[at..rows.end * len]) {
                    let hit = at + hit;
                    if hit.is_multiple_of(*len) {
                        out.push(hit / len);
                    }
                    at = hit + 1;
                }
            }
            _ => {
                let mut value = Vec::new();
                out.extend(rows.filter(|row| {
                    value.clear();
                    self.write_value(*row, &mut value) && finder.find(&value).is_some()
                }));
            }
        }
    }

    /// The value of a row where it lies there as a text.
    fn text(&self, row: usize) -> Option<&str> {
        match self {
            Column::Constant(value) => Some(value),
            Column::Dictionary { values, of_rows } => {
                let number = usize::from(*of_rows.get(row)?);
                values.get(number.checked_sub(1)?).map(String::as_str)
            }
            Column::Texts { starts, text } => {
                let (start, end) = (*starts.get(row)? as usize, *starts.get(row + 1)? as usize);
                (start < end).then(|| &text[start..end])
            }
            _ => None,
        }
    }

    /// Whether a row has this value.
    pub(crate) fn is(&self, row: usize, wanted: &str, scratch: &mut String) -> bool {
        if let Some(value) = self.text(row) {
            return value == wanted;
        }
        scratch.clear();
        self.write_value(row, scratch) && scratch == wanted
    }

    /// Bytes of memory held, about.
    pub(crate) fn bytes(&self) -> usize {
        let of_places = |places: &Places| match places {
            Places::All => 0,
            Places::Some(places) => 4 * places.len(),
        };
        match self {
            Column::Constant(value) => value.len(),
            Column::Dictionary { values, of_rows } => {
                of_rows.len() + values.iter().map(|v| v.len() + 24).sum::<usize>()
            }
            Column::Integers { places, values } => of_places(places) + 8 * values.len(),
            Column::Digits { places, values, .. } => of_places(places) + 8 * values.len(),
            Column::Floats { places, values } => of_places(places) + 8 * values.len(),
            Column::Hex { places, bytes, .. } => of_places(places) + bytes.len(),
            Column::Texts { starts, text } => 4 * starts.len() + text.len(),
        }
    }
}

/// Takes a column of lengths; yields where each begins, and where the last one ends.
pub(crate) fn take_starts(input: &mut &[u8], rows: usize) -> Result<Vec<u32>, CodecError> {
    let mut lens = Vec::new();
    codec::decode_i64s(input, rows, &mut lens)?;
    starts_of(lens.into_iter())
}

/// Where texts of these lengths begin, and where the last one ends.
pub(crate) fn starts_of(lens: impl ExactSizeIterator<Item = i64>) -> Result<Vec<u32>, CodecError> {
    let mut starts = Vec::with_capacity(lens.len() + 1);
    let mut end = 0_u64;
    starts.push(0);
    for len in lens {
        end = end.saturating_add(len as u64);
        let start = u32::try_from(end).map_err(|_| invalid("length", len as u64))?;
        starts.push(start);
    }
    Ok(starts)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::new_column::NewColumn;

    fn encoded(values: &[&str]) -> (ColumnKind, Vec<u8>) {
        let mut column = NewColumn::default();
        for (row, value) in (0..).zip(values).filter(|(_, value)| !value.is_empty()) {
            column.push(row, value);
        }
        let mut out = Vec::new();
        let kind = column.encode(values.len(), &mut out);
        (kind, out)
    }

    fn check(values: &[&str]) -> ColumnKind {
        let (kind, out) = encoded(values);
        let column = Column::decode(kind, values.len(), &out).expect("it was written so");
        assert_eq!(ColumnKind::from_number(kind as u8), Some(kind));
        let mut scratch = String::new();
        for (row, value) in values.iter().enumerate() {
            let mut text = "x".to_owned();
            assert_eq!(column.write_value(row, &mut text), !value.is_empty(), "row {row}");
            assert_eq!(&text[1..], *value, "row {row}");
            assert_eq!(column.is(row, value, &mut scratch), !value.is_empty());
            assert!(!column.is(row, "neither", &mut scratch));
        }
        assert!(!column.write_value(values.len(), &mut scratch) || kind == ColumnKind::Constant);
        kind
    }

    #[test]
    fn values_choose_how_they_are_written() {
        let id = |n: u64| format!("{:016x}", crate::grams::mixed(n));
        let ids: Vec<String> = (1..9).map(id).collect();
        let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
        let upper = ids[0].to_uppercase();
        for (values, kind) in [
            (vec!["a"; 3], ColumnKind::Constant),
            (vec!["a", "", "a"], ColumnKind::Dictionary),
            (vec!["a", "bb", "a", "bb", ""], ColumnKind::Dictionary),
            (vec!["1", "-27", "", "9223372036854775807"], ColumnKind::Integers),
            (vec!["1", "2.5", "", "-0.001"], ColumnKind::Floats),
            (vec!["1", "01", "2"], ColumnKind::Texts),
            (vec!["001", "01x", "200"], ColumnKind::Texts),
            (vec!["001", "", "020", "300"], ColumnKind::Digits),
            (vec!["000000000000000001", "999999999999999999"], ColumnKind::Digits),
            (vec!["0", "-9223372036854775808"], ColumnKind::Integers),
            (vec!["1", "2.50", "3"], ColumnKind::Texts),
            (vec!["NaN", "1", "2"], ColumnKind::Texts),
            ([&ids[..], &[""]].concat(), ColumnKind::Hex),
            (vec![ids[0], &upper, ids[1]], ColumnKind::Texts),
            (vec![ids[0], &ids[1][..14], ids[2]], ColumnKind::Texts),
            (vec!["é失", "b", ""], ColumnKind::Texts),
        ] {
            assert_eq!(check(&values), kind, "{values:?}");
        }
    }

    fn value() -> impl Strategy<Value = String> {
        prop_oneof![
            "[ab]{0,2}",
            any::<i64>().prop_map(|n| n.to_string()),
            any::<f64>().prop_map(|n| n.to_string()),
            "[0-9a-f]{8}",
            "[0-9]{3}",
            "\\PC{0,4}",
        ]
    }

    proptest! {
        #[test]
        fn any_values_come_back(
            pool in prop::collection::vec(value(), 1..4),
            picks in prop::collection::vec(any::<prop::sample::Index>(), 1..40),
            own in prop::collection::vec(value(), 0..40),
        ) {
            let mut values: Vec<&str> = picks.iter().map(|pick| pick.get(&pool).as_str()).collect();
            values.extend(own.iter().map(String::as_str));
            prop_assume!(values.iter().any(|value| !value.is_empty()));
            check(&values);
        }

        #[test]
        fn damaged_columns_never_panic(
            bytes in prop::collection::vec(any::<u8>(), 0..60),
            kind in 0_u8..16,
            rows in 0_usize..20,
        ) {
            if let Some(kind) = ColumnKind::from_number(kind)
                && let Ok(column) = Column::decode(kind, rows, &bytes)
            {
                let mut out = String::new();
                (0..rows + 1).for_each(|row| _ = column.write_value(row, &mut out));
            }
        }
    }
}
