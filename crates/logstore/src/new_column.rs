//! Columns being written: what values of one name are like decides how they are written.
use codec::varint::{put_bytes, put_u64};
use hashbrown::HashMap;
use rapidhash::fast::RandomState;

use crate::column::{ColumnKind, MAX_DICTIONARY, MAX_DIGITS};

/// Shortest identifier that is worth to be written as bytes.
const MIN_HEX_LEN: usize = 8;
/// Longest one.
const MAX_HEX_LEN: usize = 128;

/// Values of one name, row by row.
#[derive(Debug, Default)]
pub(crate) struct NewColumn {
    rows: Vec<u32>,
    /// Where the value of each of `rows` ends.
    ends: Vec<u32>,
    bytes: String,
}

impl NewColumn {
    /// Sets the value of a row; rows ascend, and the value is not empty.
    pub(crate) fn push(&mut self, row: u32, value: &str) {
        debug_assert!(self.rows.last().is_none_or(|last| *last < row) && !value.is_empty());
        self.rows.push(row);
        self.bytes.push_str(value);
        self.ends.push(self.bytes.len() as u32);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    pub(crate) fn clear(&mut self) {
        self.rows.clear();
        self.ends.clear();
        self.bytes.clear();
    }

    /// The values, in order of their rows.
    pub(crate) fn values(&self) -> impl Iterator<Item = &str> + Clone {
        let mut start = 0;
        self.ends.iter().map(move |end| {
            let value = &self.bytes[start..*end as usize];
            start = *end as usize;
            value
        })
    }

    /// Appends the column of a group with so many rows.
    pub(crate) fn encode(&self, rows: usize, out: &mut Vec<u8>) -> ColumnKind {
        let numbered = numbered(self.values());
        if let Some(numbered) = &numbered
            && numbered.values.len() == 1
            && self.rows.len() == rows
        {
            out.extend_from_slice(self.values().next().unwrap_or_default().as_bytes());
            return ColumnKind::Constant;
        }
        if let Some(numbered) = numbered.filter(|all| 2 * all.values.len() <= self.rows.len()) {
            self.encode_dictionary(rows, &numbered, out);
            return ColumnKind::Dictionary;
        }
        let start = out.len();
        self.put_places(rows, out);
        if let Some(values) = self.parsed(integer) {
            codec::encode_i64s(&values, out);
            return ColumnKind::Integers;
        }
        if let Some((len, values)) = self.digits() {
            out.push(len);
            codec::encode_i64s(&values, out);
            return ColumnKind::Digits;
        }
        if let Some(values) = self.parsed(float) {
            codec::encode_f64s(&values, out);
            return ColumnKind::Floats;
        }
        if self.put_hex(out) {
            return ColumnKind::Hex;
        }
        out.truncate(start);
        let mut lens = vec![0; rows];
        for (row, value) in self.rows.iter().zip(self.values()) {
            lens[*row as usize] = value.len() as i64;
        }
        codec::encode_i64s(&lens, out);
        out.extend_from_slice(self.bytes.as_bytes());
        ColumnKind::Texts
    }

    fn encode_dictionary(&self, rows: usize, numbered: &Numbered<'_>, out: &mut Vec<u8>) {
        put_dictionary(&numbered.values, out);
        let start = out.len();
        out.resize(start + rows, 0);
        for (row, number) in self.rows.iter().zip(&numbered.numbers) {
            out[start + *row as usize] = *number;
        }
    }

    /// Appends which rows have a value.
    fn put_places(&self, rows: usize, out: &mut Vec<u8>) {
        if self.rows.len() == rows {
            out.push(0);
            return;
        }
        out.push(1);
        let start = out.len();
        out.resize(start + rows.div_ceil(8), 0);
        self.rows.iter().for_each(|row| out[start + *row as usize / 8] |= 1 << (row % 8));
    }

    /// All values, if each is one that `parse` takes.
    fn parsed<T>(&self, parse: fn(&str) -> Option<T>) -> Option<Vec<T>> {
        self.values().map(parse).collect()
    }

    /// All values as numbers, and how many digits they have, if these are as many of each.
    fn digits(&self) -> Option<(u8, Vec<i64>)> {
        let len = self.values().next().map_or(0, str::len);
        if len > MAX_DIGITS {
            return None;
        }
        let parse = |value: &str| {
            let is_it = value.len() == len && value.bytes().all(|byte| byte.is_ascii_digit());
            if is_it { value.parse().ok() } else { None }
        };
        Some((len as u8, self.values().map(parse).collect::<Option<_>>()?))
    }

    /// Appends values of hexadecimal digits as bytes; whether it could.
    fn put_hex(&self, out: &mut Vec<u8>) -> bool {
        put_hex(self.values(), out)
    }
}

/// Different values, numbered from 1 on as they come first.
pub(crate) struct Numbered<'a> {
    pub(crate) values: Vec<&'a str>,
    /// Of each value that was numbered.
    pub(crate) numbers: Vec<u8>,
}

/// Numbers values, unless they are too many for a dictionary.
pub(crate) fn numbered<'a>(values: impl Iterator<Item = &'a str>) -> Option<Numbered<'a>> {
    let mut known: HashMap<&str, u8, RandomState> = HashMap::default();
    let mut numbered = Numbered { values: Vec::new(), numbers: Vec::new() };
    let mut last = ("", 0);
    for value in values {
        // Fast path: many values are those of the line before.
        if value != last.0 || last.1 == 0 {
            let number = match known.get(value) {
                Some(number) => *number,
                None if numbered.values.len() == MAX_DICTIONARY => return None,
                None => {
                    numbered.values.push(value);
                    let number = numbered.values.len() as u8;
                    known.insert(value, number);
                    number
                }
            };
            last = (value, number);
        }
        numbered.numbers.push(last.1);
    }
    Some(numbered)
}

/// Appends the values of a dictionary, by number.
pub(crate) fn put_dictionary(values: &[&str], out: &mut Vec<u8>) {
    put_u64(out, values.len() as u64);
    values.iter().for_each(|value| put_bytes(out, value.as_bytes()));
}

/// Appends values of hexadecimal digits as bytes; whether it could.
pub(crate) fn put_hex<'a>(
    values: impl Iterator<Item = &'a str> + Clone,
    out: &mut Vec<u8>,
) -> bool {
    let start = out.len();
    let len = values.clone().next().map_or(0, str::len);
    if !len.is_multiple_of(2) || !(MIN_HEX_LEN..=MAX_HEX_LEN).contains(&len) {
        return false;
    }
    out.push((len / 2) as u8);
    for value in values {
        if value.len() != len || !put_digits(value.as_bytes(), out) {
            out.truncate(start);
            return false;
        }
    }
    true
}

/// The number a text is, if it is exactly what that number is printed as.
pub(crate) fn integer(value: &str) -> Option<i64> {
    // Nothing is printed for that: what has no zeros or signs too many is the one text of its number.
    let digits = value.strip_prefix('-').unwrap_or(value);
    let is_printed = match digits.as_bytes() {
        [b'1'..=b'9', ..] => true,
        [b'0'] => digits.len() == value.len(),
        _ => false,
    };
    if is_printed { value.parse().ok() } else { None }
}

fn float(value: &str) -> Option<f64> {
    if !value.starts_with(|c: char| c.is_ascii_digit() || c == '-') || value.len() > 24 {
        return None;
    }
    value.parse::<f64>().ok().filter(|number| number.to_string() == value)
}

pub(crate) fn put_digits(digits: &[u8], out: &mut Vec<u8>) -> bool {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    for pair in digits.chunks_exact(2) {
        let (Some(high), Some(low)) = (digit(pair[0]), digit(pair[1])) else { return false };
        out.push(high << 4 | low);
    }
    true
}
