//! Bodies of remote write 2.0, built by hand so that they can also be wrong.

use super::remote_write::{push_bytes, push_varint, snappy};

/// An `io.prometheus.write.v2.Request` in the making.
#[derive(Debug, Clone)]
pub(crate) struct WriteBody2 {
    symbols: Vec<String>,
    series: Vec<u8>,
}

/// One `TimeSeries`; what is empty is left out.
#[derive(Debug, Clone, Default)]
pub(crate) struct Series2 {
    /// In the given order, unchecked.
    pub(crate) labels: Vec<(String, String)>,
    /// Milliseconds, value, start in milliseconds (0 = none).
    pub(crate) samples: Vec<(i64, f64, i64)>,
    pub(crate) histograms: Vec<Histogram2>,
    pub(crate) exemplars: Vec<Exemplar2>,
    /// Type, help, unit.
    pub(crate) metadata: Option<(u8, String, String)>,
}

/// A native histogram of whole counts.
#[derive(Debug, Clone, Default)]
pub(crate) struct Histogram2 {
    pub(crate) t_ms: i64,
    pub(crate) start_ms: i64,
    pub(crate) schema: i64,
    pub(crate) count: u64,
    pub(crate) zero_count: u64,
    pub(crate) sum: f64,
    /// Offset and length of spans, then differences of counts.
    pub(crate) positive: (Vec<(i64, u64)>, Vec<i64>),
    pub(crate) negative: (Vec<(i64, u64)>, Vec<i64>),
    pub(crate) custom_values: Vec<f64>,
}

/// An exemplar.
#[derive(Debug, Clone, Default)]
pub(crate) struct Exemplar2 {
    pub(crate) labels: Vec<(String, String)>,
    pub(crate) value: f64,
    pub(crate) t_ms: i64,
}

impl WriteBody2 {
    /// An empty request: one symbol, the empty one.
    pub(crate) fn new() -> Self {
        WriteBody2 { symbols: vec![String::new()], series: Vec::new() }
    }

    /// Adds a series.
    pub(crate) fn series(mut self, series: &Series2) -> Self {
        let mut message = self.refs(&series.labels);
        for &(t_ms, value, start_ms) in &series.samples {
            let mut sample = Vec::new();
            push_double(&mut sample, 1, value);
            push_number(&mut sample, 2, t_ms.cast_unsigned());
            push_number(&mut sample, 3, start_ms.cast_unsigned());
            push_bytes(&mut message, 2, &sample);
        }
        for histogram in &series.histograms {
            push_bytes(&mut message, 3, &histogram.message());
        }
        for exemplar in &series.exemplars {
            let mut content = self.refs(&exemplar.labels);
            push_double(&mut content, 2, exemplar.value);
            push_number(&mut content, 3, exemplar.t_ms.cast_unsigned());
            push_bytes(&mut message, 4, &content);
        }
        if let Some((kind, help, unit)) = &series.metadata {
            let mut content = Vec::new();
            push_number(&mut content, 1, u64::from(*kind));
            push_number(&mut content, 3, self.symbol(help));
            push_number(&mut content, 4, self.symbol(unit));
            push_bytes(&mut message, 5, &content);
        }
        push_bytes(&mut self.series, 5, &message);
        self
    }

    /// The message as it goes over the wire.
    pub(crate) fn snappy(&self) -> Vec<u8> {
        let mut message = Vec::new();
        for symbol in &self.symbols {
            push_bytes(&mut message, 4, symbol.as_bytes());
        }
        message.extend_from_slice(&self.series);
        snappy(&message)
    }

    fn symbol(&mut self, text: &str) -> u64 {
        let known = self.symbols.iter().position(|symbol| symbol == text);
        known.unwrap_or_else(|| {
            self.symbols.push(text.to_owned());
            self.symbols.len() - 1
        }) as u64
    }

    /// The field `labels_refs`.
    fn refs(&mut self, labels: &[(String, String)]) -> Vec<u8> {
        let mut refs = Vec::new();
        for text in labels.iter().flat_map(|(name, value)| [name, value]) {
            let reference = self.symbol(text);
            push_varint(&mut refs, reference);
        }
        let mut field = Vec::new();
        push_bytes(&mut field, 1, &refs);
        field
    }
}

impl Histogram2 {
    fn message(&self) -> Vec<u8> {
        let mut out = Vec::new();
        push_number(&mut out, 1, self.count);
        push_double(&mut out, 3, self.sum);
        push_number(&mut out, 4, zigzag(self.schema));
        push_number(&mut out, 6, self.zero_count);
        for (field, (spans, deltas)) in [(8, &self.negative), (11, &self.positive)] {
            for &(offset, length) in spans {
                let mut span = Vec::new();
                push_number(&mut span, 1, zigzag(offset));
                push_number(&mut span, 2, length);
                push_bytes(&mut out, field, &span);
            }
            let mut packed = Vec::new();
            deltas.iter().for_each(|&delta| push_varint(&mut packed, zigzag(delta)));
            push_bytes(&mut out, field + 1, &packed);
        }
        push_number(&mut out, 15, self.t_ms.cast_unsigned());
        if !self.custom_values.is_empty() {
            let packed: Vec<u8> =
                self.custom_values.iter().flat_map(|value| value.to_le_bytes()).collect();
            push_varint(&mut out, 16 << 3 | 2);
            push_varint(&mut out, packed.len() as u64);
            out.extend_from_slice(&packed);
        }
        if self.start_ms != 0 {
            push_varint(&mut out, 17 << 3);
            push_varint(&mut out, self.start_ms.cast_unsigned());
        }
        out
    }
}

fn zigzag(number: i64) -> u64 {
    (number << 1 ^ number >> 63).cast_unsigned()
}

/// Left out where it is zero, as protobuf does.
fn push_number(out: &mut Vec<u8>, field: u8, number: u64) {
    if number != 0 {
        out.push(field << 3);
        push_varint(out, number);
    }
}

fn push_double(out: &mut Vec<u8>, field: u8, value: f64) {
    out.push(field << 3 | 1);
    out.extend_from_slice(&value.to_bits().to_le_bytes());
}
