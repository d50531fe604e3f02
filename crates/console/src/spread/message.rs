//! Results of range queries as they travel between brokers, exact to the last bit.

use std::sync::Arc;

use bytes::Bytes;
use codec::{MAX_HISTOGRAM_CELLS, decode_f64s, decode_histograms, decode_i64s};
use codec::{encode_f64s, encode_histograms, encode_i64s};
use governor::Held;
use model::{FloatHistogram, Histogram, Labels};
use net::rpc::{Evaluated, EvaluatedNote, EvaluatedSeries, HistogramChunk};
use promql::ast::Span;
use promql::{Annotation, AnnotationLevel, QueryOutput, QueryStats, QueryValue, RangeSeries};
use prost::Message;

/// Floats of one series; a range query has fewer steps.
const MAX_SAMPLES: u32 = 1 << 16;
/// Histograms in one chunk; their buckets bound it further.
const CHUNK_HISTOGRAMS: usize = 1 << 12;
/// What a series takes besides its labels and points.
const SERIES_BYTES: usize = 160;

/// What came.
pub(super) struct Decoded {
    pub(super) output: QueryOutput,
    /// What lacks in it, in words.
    pub(super) missing: Vec<String>,
}

/// The bytes of an answer. `output` is of a range.
pub(crate) fn encode(output: &QueryOutput, missing: Vec<String>) -> Bytes {
    let QueryValue::Matrix(series) = &output.value else { unreachable!("a range yields a matrix") };
    let note = |note: &Annotation| EvaluatedNote {
        is_warning: note.level == AnnotationLevel::Warning,
        message: note.message.clone(),
        span_start: note.span.start,
        span_end: note.span.end,
        is_summary: note.is_summary,
    };
    let message = Evaluated {
        series: series.iter().map(encode_series).collect(),
        notes: output.annotations.iter().map(note).collect(),
        missing,
        samples_read: output.stats.samples_read,
        series_selected: output.stats.series_selected,
        peak_samples: output.stats.peak_samples,
    };
    message.encode_to_vec().into()
}

fn encode_series(series: &RangeSeries) -> EvaluatedSeries {
    let column = |encode: &dyn Fn(&mut Vec<u8>)| {
        let mut column = Vec::new();
        encode(&mut column);
        Bytes::from(column)
    };
    let mut rest = &series.histograms[..];
    let mut histograms = Vec::new();
    while let Some((_, first)) = rest.first() {
        let most = MAX_HISTOGRAM_CELLS / first.bucket_count().max(1);
        let alike = rest.iter().take_while(|(_, one)| one.layout == first.layout);
        let (run, behind) = rest.split_at(alike.take(most.clamp(1, CHUNK_HISTOGRAMS)).count());
        rest = behind;
        let times: Vec<i64> = run.iter().map(|(t_ms, _)| *t_ms).collect();
        let float = |one: &Arc<FloatHistogram>| Histogram::Float(FloatHistogram::clone(one));
        let values: Vec<Histogram> = run.iter().map(|(_, one)| float(one)).collect();
        histograms.push(HistogramChunk {
            samples: run.len() as u32,
            timestamps: column(&|out| encode_i64s(&times, out)),
            histograms: column(&|out| encode_histograms(&values, out)),
            starts: Bytes::new(),
        });
    }
    EvaluatedSeries {
        labels: Bytes::copy_from_slice(series.labels.as_packed()),
        samples: series.values.len() as u32,
        timestamps: column(&|out| encode_i64s(&series.timestamps_ms, out)),
        values: column(&|out| encode_f64s(&series.values, out)),
        histograms,
    }
}

/// As [`encode`] wrote it, of an evaluation of `query`; `held` grows by what it takes.
///
/// # Errors
/// No broker sends such, or it is too much for the query; in words.
pub(super) fn decode(bytes: Bytes, query: &str, held: &mut Held) -> Result<Decoded, String> {
    let message = Evaluated::decode(bytes).map_err(|error| error.to_string())?;
    let mut series: Vec<RangeSeries> = Vec::with_capacity(message.series.len());
    for one in message.series {
        let points = one.samples as usize
            + one.histograms.iter().map(|chunk| chunk.samples as usize).sum::<usize>();
        // Before it is decoded: counts decide what is allocated.
        let bytes = SERIES_BYTES + one.labels.len() + 16 * points;
        held.resize(held.bytes() + bytes).map_err(|error| error.to_string())?;
        let decoded = decode_series(&one)?;
        if series.last().is_some_and(|before| before.labels >= decoded.labels) {
            return Err("series are not in order".to_owned());
        }
        series.push(decoded);
    }
    let notes = message.notes.into_iter().map(|note| decode_note(note, query));
    let stats = QueryStats {
        samples_read: message.samples_read,
        series_selected: message.series_selected,
        peak_samples: message.peak_samples,
    };
    let output = QueryOutput {
        value: QueryValue::Matrix(series),
        annotations: notes.collect::<Result<_, _>>()?,
        stats,
        profile: None,
    };
    Ok(Decoded { output, missing: message.missing })
}

fn decode_note(note: EvaluatedNote, query: &str) -> Result<Annotation, String> {
    let span = Span { start: note.span_start, end: note.span_end };
    if query.get(span.start as usize..span.end as usize).is_none() {
        return Err("a remark about no place in the query".to_owned());
    }
    let level = if note.is_warning { AnnotationLevel::Warning } else { AnnotationLevel::Info };
    Ok(Annotation { level, message: note.message, span, is_summary: note.is_summary })
}

fn decode_series(series: &EvaluatedSeries) -> Result<RangeSeries, String> {
    let counts = series.histograms.iter().map(|chunk| chunk.samples).chain([series.samples]);
    if counts.max() > Some(MAX_SAMPLES) {
        return Err("a series of too many samples".to_owned());
    }
    let labels = Labels::from_packed(&series.labels).map_err(|error| error.to_string())?;
    let (mut timestamps_ms, mut values) = (Vec::new(), Vec::new());
    let samples = series.samples as usize;
    let garbled = |error: codec::CodecError| error.to_string();
    decode_i64s(&mut &series.timestamps[..], samples, &mut timestamps_ms).map_err(garbled)?;
    decode_f64s(&mut &series.values[..], samples, &mut values).map_err(garbled)?;
    let mut histograms: Vec<(i64, Arc<FloatHistogram>)> = Vec::new();
    for chunk in &series.histograms {
        let (mut times, mut decoded) = (Vec::new(), Vec::new());
        let samples = chunk.samples as usize;
        decode_i64s(&mut &chunk.timestamps[..], samples, &mut times).map_err(garbled)?;
        decode_histograms(&mut &chunk.histograms[..], samples, &mut decoded).map_err(garbled)?;
        let float = |one: Histogram| match one {
            Histogram::Float(one) => Arc::new(one),
            Histogram::Integer(one) => Arc::new(one.to_float()),
        };
        histograms.extend(times.into_iter().zip(decoded.into_iter().map(float)));
    }
    let ascends = timestamps_ms.is_sorted_by(|before, after| before < after)
        && histograms.is_sorted_by(|before, after| before.0 < after.0);
    if !ascends {
        return Err("samples are not in order of time".to_owned());
    }
    Ok(RangeSeries { labels, timestamps_ms, values, histograms })
}

#[cfg(test)]
mod tests {
    use model::{BucketLayout, ResetHint};

    use super::*;

    fn output() -> QueryOutput {
        let labels = |value| Labels::from_pairs([("host", value)]).expect("valid");
        let layout = |schema| Arc::new(BucketLayout { schema, ..BucketLayout::default() });
        let histogram = |layout: &Arc<BucketLayout>, count| {
            let empty = FloatHistogram::empty(Arc::clone(layout));
            Arc::new(FloatHistogram { count, sum: 0.1, reset_hint: ResetHint::Gauge, ..empty })
        };
        let (coarse, fine) = (layout(0), layout(3));
        let series = vec![
            RangeSeries {
                labels: labels("a"),
                timestamps_ms: vec![-5, 10, 30],
                values: vec![0.1 + 0.2, f64::NAN, f64::from_bits(0x7ff0_0000_0000_0002)],
                histograms: Vec::new(),
            },
            RangeSeries {
                labels: labels("b"),
                timestamps_ms: vec![10],
                values: vec![f64::NEG_INFINITY],
                histograms: vec![
                    (20, histogram(&coarse, 1.5)),
                    (30, histogram(&coarse, 2.5)),
                    (40, histogram(&fine, 1.0 / 3.0)),
                ],
            },
        ];
        let note = Annotation {
            level: AnnotationLevel::Warning,
            message: "PromQL warning: so".to_owned(),
            span: Span { start: 3, end: 9 },
            is_summary: true,
        };
        let stats = QueryStats { samples_read: 7, series_selected: 2, peak_samples: 5 };
        QueryOutput {
            value: QueryValue::Matrix(series),
            annotations: vec![note],
            stats,
            profile: None,
        }
    }

    fn bits(output: &QueryOutput) -> Vec<u64> {
        let QueryValue::Matrix(series) = &output.value else { panic!("a matrix") };
        series.iter().flat_map(|one| one.values.iter().map(|value| value.to_bits())).collect()
    }

    #[test]
    fn a_result_arrives_as_it_was() {
        let governor = governor::Governor::unlimited();
        let sent = output();
        let bytes = encode(&sent, vec!["a block".to_owned()]);
        let mut held = governor.account().hold(0).expect("room");
        let arrived = decode(bytes, "rate(x[5m])", &mut held).expect("whole");
        assert_eq!(bits(&arrived.output), bits(&sent));
        // NaN is never equal to itself.
        let plain = |output: &QueryOutput| format!("{:?}", output.value);
        assert_eq!(plain(&arrived.output), plain(&sent));
        assert_eq!(arrived.output.annotations, sent.annotations);
        assert_eq!(arrived.output.stats, sent.stats);
        assert_eq!(arrived.missing, ["a block"]);
        assert!(held.bytes() > 0);
    }

    #[test]
    fn what_no_broker_sends_is_refused() {
        let governor = governor::Governor::unlimited();
        let account = governor.account();
        let bytes = encode(&output(), Vec::new());
        let refused = |bytes: Bytes| {
            let mut held = account.hold(0).expect("room");
            decode(bytes, "rate(x[5m])", &mut held).err()
        };
        // Whatever one byte is turned into, it is an answer or an error.
        for at in 0..bytes.len() {
            for flip in [1, 0x40, 0xff] {
                let mut other = bytes.to_vec();
                other[at] ^= flip;
                let _ = refused(other.into());
            }
        }
        let message = Evaluated::decode(bytes).expect("as it was written");
        let changed = |change: fn(&mut Evaluated)| {
            let mut message = message.clone();
            change(&mut message);
            refused(message.encode_to_vec().into()).expect("it is refused")
        };
        let swapped = changed(|message| message.series.swap(0, 1));
        assert!(swapped.contains("not in order"), "{swapped}");
        let many = changed(|message| message.series[0].samples = 1 << 20);
        assert!(many.contains("too many samples"), "{many}");
        changed(|message| message.series[0].labels = Bytes::from_static(b"\xff\xff"));
        changed(|message| message.series[0].values = Bytes::new());
        let nowhere = changed(|message| message.notes[0].span_end = 12);
        assert!(nowhere.contains("no place"), "{nowhere}");
    }
}
