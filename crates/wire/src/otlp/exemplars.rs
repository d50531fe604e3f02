//! Exemplars of data points.
//!
//! ```text
//! Exemplar { fixed64 time_unix_nano = 2; double as_double = 3; bytes span_id = 4;
//!            bytes trace_id = 5; sfixed64 as_int = 6; repeated KeyValue filtered_attributes = 7 }
//! ```
//!
//! Names of labels follow Prometheus' `storage/remote/otlptranslator`: `trace_id` and `span_id` in
//! hexadecimal, and the attributes by their own names unless that would be too much text.

use std::ops::Range;

use model::{LabelForm, MAX_EXEMPLAR_CHARS, MetricBatch};

use super::attributes::Attributes;
use super::names::LabelRules;
use crate::exemplar_rows::{self, Observation, name_series};
use crate::pair_rows::push_pair;
use crate::protobuf::{Fault, Field, each_field};

const TRACE_ID: &str = "trace_id";
const SPAN_ID: &str = "span_id";
const WRONG_TYPE: &str = "field of an exemplar has the wrong type";

/// The exemplars of one point; memory to be used again for the next.
#[derive(Debug, Default)]
pub(super) struct PointExemplars {
    messages: Vec<Range<usize>>,
    /// Ascending by value, with where their labels lie among the batch's.
    found: Vec<(Observation, Range<usize>)>,
    given: usize,
    attributes: Attributes,
    /// Those without a value, or for which there was no room in the batch, of all points.
    pub(super) left_out: u64,
}

impl PointExemplars {
    /// Begins a point.
    pub(super) fn clear(&mut self) {
        self.messages.clear();
        self.found.clear();
        self.given = 0;
    }

    /// Notes where an `Exemplar` lies.
    pub(super) fn add(&mut self, message: Range<usize>) {
        self.messages.push(message);
    }

    /// Reads what was noted and writes the labels to those of the batch. To be called before those
    /// of a series are written.
    pub(super) fn read(
        &mut self,
        body: &[u8],
        rules: LabelRules,
        out: &mut MetricBatch,
    ) -> Result<(), Fault> {
        // Fast path: most points have none.
        if self.messages.is_empty() {
            return Ok(());
        }
        for message in std::mem::take(&mut self.messages) {
            let start = out.label_bytes.len();
            let observed =
                exemplar(body, message, rules, &mut self.attributes, &mut out.label_bytes)?;
            match observed {
                Some(observed) => self.found.push((observed, start..out.label_bytes.len())),
                None => self.left_out += 1,
            }
        }
        // What has no place among the bounds belongs behind the last.
        let key = |value: f64| if value.is_nan() { f64::INFINITY } else { value };
        self.found.sort_by(|a, b| key(a.0.value).total_cmp(&key(b.0.value)));
        Ok(())
    }

    /// Gives those that no series has yet, up to the value `bound`, to the series whose labels lie
    /// at `series`.
    pub(super) fn give(
        &mut self,
        bound: f64,
        series: (u32, u32),
        read_ms: i64,
        out: &mut MetricBatch,
    ) {
        let first = out.exemplars.len();
        for (observed, own) in &self.found[self.given..] {
            if !(bound == f64::INFINITY || observed.value <= bound) {
                break;
            }
            self.given += 1;
            let is_taken =
                exemplar_rows::push(out, (own.clone(), LabelForm::Pairs), *observed, read_ms);
            self.left_out += u64::from(!is_taken);
        }
        name_series(out, first, series, LabelForm::Pairs);
    }
}

/// Reads one, its labels into `out`; `None` without a value.
fn exemplar(
    body: &[u8],
    message: Range<usize>,
    rules: LabelRules,
    attributes: &mut Attributes,
    out: &mut Vec<u8>,
) -> Result<Option<Observation>, Fault> {
    attributes.clear();
    let (mut value, mut t_ms) = (None, None);
    let (mut trace_id, mut span_id) = (0..0, 0..0);
    let mut filtered: Vec<Range<usize>> = Vec::new();
    each_field(body, message, |number, field| {
        match (number, field) {
            (2, Field::Fixed64(ns)) => {
                t_ms = Some((ns / 1_000_000).cast_signed()).filter(|t_ms| *t_ms != 0);
            }
            (3, Field::Fixed64(bits)) => value = Some(f64::from_bits(bits)),
            (4, Field::Bytes { start, end }) => span_id = start..end,
            (5, Field::Bytes { start, end }) => trace_id = start..end,
            (6, Field::Fixed64(bits)) => value = Some(bits.cast_signed() as f64),
            (7, Field::Bytes { start, end }) => filtered.push(start..end),
            (2..=7, _) => return Err(WRONG_TYPE),
            _ => {}
        }
        Ok(())
    })?;
    let Some(value) = value else { return Ok(None) };
    for attribute in filtered {
        attributes.read(body, attribute, rules)?;
    }
    let mut chars = 0;
    for (name, id) in [(TRACE_ID, &body[trace_id]), (SPAN_ID, &body[span_id])] {
        if id.iter().any(|byte| *byte != 0) {
            let text = hexadecimal(id);
            chars += name.len() + text.len();
            push_pair(out, name.as_bytes(), text.as_bytes());
        }
    }
    let chars_of = |text: &[u8]| String::from_utf8_lossy(text).chars().count();
    chars +=
        attributes.iter().map(|(key, _, value)| chars_of(key) + chars_of(value)).sum::<usize>();
    if chars <= MAX_EXEMPLAR_CHARS {
        attributes.iter().for_each(|(key, _, value)| push_pair(out, key, value));
    }
    Ok(Some(Observation { value, t_ms }))
}

fn hexadecimal(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |nibble: u8| char::from(DIGITS[usize::from(nibble)]);
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}
