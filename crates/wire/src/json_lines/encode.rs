//! Writing of lines.

use std::io::Write as _;
use std::sync::Arc;

use model::{FloatHistogram, Labels, ResetHint, Span, is_stale_nan};

/// Samples of one line at most. A reader takes a line as a whole.
const LINE_SAMPLES: usize = 10_000;

/// Appends the floats of a series, as many lines as they need; none if there are no samples.
/// `starts_ms` says of the first so many when they began at zero, milliseconds since the epoch; 0 = not
/// known.
pub fn push_values(
    out: &mut Vec<u8>,
    labels: &Labels,
    timestamps_ms: &[i64],
    values: &[f64],
    starts_ms: &[i64],
) {
    let chunks = timestamps_ms.chunks(LINE_SAMPLES).zip(values.chunks(LINE_SAMPLES));
    let mut starts = starts_ms.chunks(LINE_SAMPLES);
    for (timestamps_ms, values) in chunks {
        push_metric(out, labels);
        out.extend_from_slice(b",\"values\":[");
        push_list(out, values, |out, value| push_number(out, *value));
        push_end(out, timestamps_ms, starts.next().unwrap_or(&[]));
    }
}

/// Appends the native histograms of a series, as many lines as they need; `starts_ms` as in
/// [`push_values`].
pub fn push_histograms(
    out: &mut Vec<u8>,
    labels: &Labels,
    timestamps_ms: &[i64],
    histograms: &[Arc<FloatHistogram>],
    starts_ms: &[i64],
) {
    let chunks = timestamps_ms.chunks(LINE_SAMPLES).zip(histograms.chunks(LINE_SAMPLES));
    let mut starts = starts_ms.chunks(LINE_SAMPLES);
    for (timestamps_ms, histograms) in chunks {
        push_metric(out, labels);
        out.extend_from_slice(b",\"histograms\":[");
        push_list(out, histograms, |out, histogram| push_histogram(out, histogram));
        push_end(out, timestamps_ms, starts.next().unwrap_or(&[]));
    }
}

fn push_metric(out: &mut Vec<u8>, labels: &Labels) {
    out.extend_from_slice(b"{\"metric\":{");
    for (index, (name, value)) in labels.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        push_text(out, name);
        out.push(b':');
        push_text(out, value);
    }
    out.push(b'}');
}

fn push_end(out: &mut Vec<u8>, timestamps_ms: &[i64], starts_ms: &[i64]) {
    let push_time = |out: &mut Vec<u8>, t_ms: &i64| {
        out.extend_from_slice(itoa::Buffer::new().format(*t_ms).as_bytes());
    };
    out.extend_from_slice(b"],\"timestamps\":[");
    push_list(out, timestamps_ms, push_time);
    if starts_ms.iter().any(|start_ms| *start_ms != 0) {
        out.extend_from_slice(b"],\"startTimestamps\":[");
        push_list(out, starts_ms, push_time);
    }
    out.extend_from_slice(b"]}\n");
}

/// The non-default fields of remote write's `Histogram` whose counts are floats.
fn push_histogram(out: &mut Vec<u8>, histogram: &FloatHistogram) {
    let layout = &histogram.layout;
    write!(out, "{{\"schema\":{},\"zeroThreshold\":", layout.schema).expect("a Vec takes it");
    push_number(out, layout.zero_threshold);
    for (name, value) in [
        (&b",\"zeroCountFloat\":"[..], histogram.zero_count),
        (b",\"countFloat\":", histogram.count),
        (b",\"sum\":", histogram.sum),
    ] {
        out.extend_from_slice(name);
        push_number(out, value);
    }
    for (spans_name, counts_name, spans, counts) in [
        (
            &b",\"positiveSpans\":["[..],
            &b",\"positiveCounts\":["[..],
            &layout.positive,
            &histogram.positive,
        ),
        (b",\"negativeSpans\":[", b",\"negativeCounts\":[", &layout.negative, &histogram.negative),
    ] {
        if spans.is_empty() {
            continue;
        }
        out.extend_from_slice(spans_name);
        push_list(out, spans, |out, Span { offset, len }| {
            write!(out, "{{\"offset\":{offset},\"length\":{len}}}").expect("a Vec takes it");
        });
        out.push(b']');
        out.extend_from_slice(counts_name);
        push_list(out, counts, |out, count| push_number(out, *count));
        out.push(b']');
    }
    if !layout.custom_bounds.is_empty() {
        out.extend_from_slice(b",\"customValues\":[");
        push_list(out, &layout.custom_bounds, |out, bound| push_number(out, *bound));
        out.push(b']');
    }
    let hint: &[u8] = match histogram.reset_hint {
        // Found by comparing with the sample before, as whoever imports it can.
        ResetHint::Unknown | ResetHint::NoReset => b"",
        ResetHint::Reset => b",\"resetHint\":\"YES\"",
        ResetHint::Gauge => b",\"resetHint\":\"GAUGE\"",
    };
    out.extend_from_slice(hint);
    out.push(b'}');
}

fn push_list<T>(out: &mut Vec<u8>, items: &[T], push: impl Fn(&mut Vec<u8>, &T)) {
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        push(out, item);
    }
}

fn push_number(out: &mut Vec<u8>, value: f64) {
    if value.is_finite() {
        let mut buffer = zmij::Buffer::new();
        let text = buffer.format_finite(value);
        out.extend_from_slice(text.strip_suffix(".0").unwrap_or(text).as_bytes());
        return;
    }
    let text: &[u8] = if is_stale_nan(value) {
        b"null"
    } else if value.is_nan() {
        b"\"NaN\""
    } else if value > 0.0 {
        b"\"Infinity\""
    } else {
        b"\"-Infinity\""
    };
    out.extend_from_slice(text);
}

fn push_text(out: &mut Vec<u8>, text: &str) {
    serde_json::to_writer(&mut *out, text).expect("a Vec takes every text");
}
