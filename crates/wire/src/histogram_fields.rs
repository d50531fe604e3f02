//! Fields of native histograms that the protobuf exposition and remote write have in common.

use model::{IntegerHistogram, Span};

use crate::WireError;
use crate::protobuf::{self, Fault, Field, each_field};

/// Native histograms one request may hold. They take ten bytes on the wire and some hundred in
/// memory, so without a bound a small body would grow 30-fold.
const MAX_HISTOGRAMS: usize = 100_000;

/// Fails if there are as many histograms as one request may hold.
pub(crate) fn check_count(histograms: usize) -> Result<(), WireError> {
    if histograms < MAX_HISTOGRAMS {
        return Ok(());
    }
    Err(WireError::Limit {
        what: "number of native histograms in one request".to_owned(),
        limit: MAX_HISTOGRAMS.to_string(),
        remedy: "send fewer at once",
    })
}

/// Buckets of one sign.
#[derive(Debug, Default)]
pub(crate) struct Side {
    pub(crate) spans: Vec<Span>,
    deltas: Vec<i64>,
    pub(crate) counts: Vec<f64>,
}

impl Side {
    /// Empties it and keeps its memory.
    pub(crate) fn clear(&mut self) {
        self.spans.clear();
        self.deltas.clear();
        self.counts.clear();
    }

    /// Reads a field whose place among spans, differences of counts, and counts is `place`. Numbers
    /// may be packed. `start` is where to report a field of the wrong type.
    pub(crate) fn read(
        &mut self,
        input: &[u8],
        place: u64,
        field: Field,
        start: usize,
    ) -> Result<(), Fault> {
        match (place, field) {
            (0, Field::Bytes { start, end }) => self.spans.push(span(input, start, end)?),
            (1, Field::Varint(delta)) => self.deltas.push(sint64(delta)),
            (1, Field::Bytes { start, end }) => {
                let mut at = start;
                while at < end {
                    self.deltas.push(sint64(protobuf::varint(input, &mut at, end)?));
                }
            }
            (2, Field::Fixed64(bits)) => self.counts.push(f64::from_bits(bits)),
            (2, Field::Bytes { start, end }) => doubles(input, start, end, &mut self.counts)?,
            _ => return Err((start, "field of a histogram has the wrong type")),
        }
        Ok(())
    }

    /// The counts that the differences lead to.
    pub(crate) fn absolute(&self) -> Vec<u64> {
        IntegerHistogram::from_deltas(self.deltas.iter().copied())
    }
}

fn span(input: &[u8], start: usize, end: usize) -> Result<Span, Fault> {
    let mut span = Span::default();
    each_field(input, start..end, |number, field| {
        match (number, field) {
            (1, Field::Varint(offset)) => span.offset = sint32(offset),
            (2, Field::Varint(len)) => span.len = len as u32,
            (1 | 2, _) => return Err("field of a span has the wrong type"),
            _ => {}
        }
        Ok(())
    })?;
    Ok(span)
}

/// Appends packed doubles.
pub(crate) fn doubles(
    input: &[u8],
    start: usize,
    end: usize,
    out: &mut Vec<f64>,
) -> Result<(), Fault> {
    let mut at = start;
    while at < end {
        out.push(f64::from_bits(protobuf::fixed64(input, &mut at, end)?));
    }
    Ok(())
}

/// A `sint32`; what does not fit loses its highest bits, as protobuf says.
pub(crate) fn sint32(varint: u64) -> i32 {
    let zigzag = varint as u32;
    (zigzag >> 1) as i32 ^ -((zigzag & 1) as i32)
}

fn sint64(zigzag: u64) -> i64 {
    (zigzag >> 1) as i64 ^ -((zigzag & 1) as i64)
}

/// Appends a `sint32` or `sint64`.
pub(crate) fn push_sint(out: &mut Vec<u8>, value: i64) {
    protobuf::push_varint(out, (value << 1 ^ value >> 63) as u64);
}
