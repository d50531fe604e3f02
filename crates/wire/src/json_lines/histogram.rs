//! A native histogram as an object: the message `Histogram` of remote write with float counts, as
//! protobuf's JSON has it.

use std::sync::Arc;

use model::{BucketLayout, FloatHistogram, ResetHint, Span};

use super::Number;

/// The object; what is absent is zero or empty.
#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Object {
    schema: i32,
    zero_threshold: Number,
    zero_count_float: Number,
    count_float: Number,
    sum: Number,
    positive_spans: Vec<SpanObject>,
    positive_counts: Vec<Number>,
    negative_spans: Vec<SpanObject>,
    negative_counts: Vec<Number>,
    custom_values: Vec<Number>,
    reset_hint: Hint,
}

impl Default for Object {
    fn default() -> Self {
        let zero = || Number(0.0);
        Object {
            schema: 0,
            zero_threshold: zero(),
            zero_count_float: zero(),
            count_float: zero(),
            sum: zero(),
            positive_spans: Vec::new(),
            positive_counts: Vec::new(),
            negative_spans: Vec::new(),
            negative_counts: Vec::new(),
            custom_values: Vec::new(),
            reset_hint: Hint::Unknown,
        }
    }
}

#[derive(serde::Deserialize)]
struct SpanObject {
    #[serde(default)]
    offset: i32,
    #[serde(default)]
    length: u32,
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "UPPERCASE")]
enum Hint {
    Unknown,
    Yes,
    No,
    Gauge,
}

impl Object {
    /// The histogram, which is not validated.
    pub(super) fn into_histogram(self) -> FloatHistogram {
        let spans = |spans: Vec<SpanObject>| {
            spans.into_iter().map(|span| Span { offset: span.offset, len: span.length }).collect()
        };
        let numbers = |numbers: Vec<Number>| numbers.into_iter().map(|number| number.0).collect();
        FloatHistogram {
            layout: Arc::new(BucketLayout {
                schema: self.schema,
                zero_threshold: self.zero_threshold.0,
                positive: spans(self.positive_spans),
                negative: spans(self.negative_spans),
                custom_bounds: numbers(self.custom_values),
            }),
            reset_hint: match self.reset_hint {
                Hint::Unknown => ResetHint::Unknown,
                Hint::Yes => ResetHint::Reset,
                Hint::No => ResetHint::NoReset,
                Hint::Gauge => ResetHint::Gauge,
            },
            count: self.count_float.0,
            zero_count: self.zero_count_float.0,
            sum: self.sum.0,
            positive: numbers(self.positive_counts),
            negative: numbers(self.negative_counts),
        }
    }
}
