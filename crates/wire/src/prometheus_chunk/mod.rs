//! Chunks of samples as Prometheus keeps them on disk and sends them in answers to remote reads.
//!
//! Source: Prometheus `tsdb/docs/format/chunks.md` and `tsdb/chunkenc`.

mod bits;
mod float;
mod histogram;

use std::sync::Arc;

use model::Histogram;
use model::histogram::FloatHistogram;

use crate::WireError;
use bits::BitReader;

/// Samples in one chunk of ours. Prometheus cuts at as many; readers take up to 65,535.
const MAX_SAMPLES: usize = 120;

/// How the data of a chunk is written; the numbers are those of the format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Encoding {
    /// Floats.
    Xor = 1,
    /// Native histograms with whole counts.
    Histogram = 2,
    /// Native histograms with counts that are fractions.
    FloatHistogram = 3,
}

impl Encoding {
    /// The encoding with this number; `None` for those of newer programs.
    pub fn from_number(number: u64) -> Option<Self> {
        [Encoding::Xor, Encoding::Histogram, Encoding::FloatHistogram]
            .into_iter()
            .find(|encoding| *encoding as u64 == number)
    }
}

/// One encoded chunk: its data stands at `range` of the buffer it was appended to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk {
    /// How it is written.
    pub encoding: Encoding,
    /// Time of the first sample, milliseconds since the epoch.
    pub first_ms: i64,
    /// Time of the last sample.
    pub last_ms: i64,
    /// Where its data stands.
    pub range: std::ops::Range<usize>,
}

/// What chunks held: floats as two columns of equal length, histograms apart.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Samples {
    /// Times of the floats, milliseconds since the epoch.
    pub timestamps_ms: Vec<i64>,
    /// The floats, bit-exact.
    pub values: Vec<f64>,
    /// Native histograms with their times. They are not validated.
    pub histograms: Vec<(i64, Histogram)>,
}

impl Samples {
    /// Empties it and keeps its memory.
    pub fn clear(&mut self) {
        self.timestamps_ms.clear();
        self.values.clear();
        self.histograms.clear();
    }

    fn push(&mut self, t_ms: i64, value: f64) {
        self.timestamps_ms.push(t_ms);
        self.values.push(value);
    }

    fn push_histogram(&mut self, t_ms: i64, histogram: Histogram) {
        self.histograms.push((t_ms, histogram));
    }
}

/// Appends floats to `data` as chunks of at most 120 samples, described in `chunks`.
///
/// The columns are of equal length and times ascend. About 20 ns per sample.
pub fn encode_floats(
    timestamps_ms: &[i64],
    values: &[f64],
    data: &mut Vec<u8>,
    chunks: &mut Vec<Chunk>,
) {
    let columns = timestamps_ms.chunks(MAX_SAMPLES).zip(values.chunks(MAX_SAMPLES));
    for (times, values) in columns {
        let start = data.len();
        float::encode(times, values, data);
        chunks.push(chunk(Encoding::Xor, times, start..data.len()));
    }
}

/// As [`encode_floats`], for native histograms. A chunk ends early where the layout changes and
/// where counts may have started again.
pub fn encode_histograms(
    timestamps_ms: &[i64],
    histograms: &[Arc<FloatHistogram>],
    data: &mut Vec<u8>,
    chunks: &mut Vec<Chunk>,
) {
    let mut done = 0;
    while done < histograms.len() {
        let end = done + histogram::run_length(&histograms[done..]);
        let (times, start) = (&timestamps_ms[done..end], data.len());
        histogram::encode(times, &histograms[done..end], data);
        chunks.push(chunk(Encoding::FloatHistogram, times, start..data.len()));
        done = end;
    }
}

fn chunk(encoding: Encoding, times: &[i64], range: std::ops::Range<usize>) -> Chunk {
    // Neither is empty.
    Chunk { encoding, first_ms: times[0], last_ms: times[times.len() - 1], range }
}

/// Appends the samples of one chunk to `out`, in the order in which they stand.
///
/// Memory is at most 64 times `data` and a few hundred bytes per histogram.
///
/// # Errors
/// [`WireError::Malformed`] for anything that is no such chunk; `out` may then hold some of its
/// samples.
pub fn decode(encoding: Encoding, data: &[u8], out: &mut Samples) -> Result<(), WireError> {
    let malformed =
        |offset, reason| WireError::Malformed { format: "Prometheus chunk", offset, reason };
    let Some((count, rest)) = data.split_first_chunk::<2>() else {
        return Err(malformed(0, bits::CUT_OFF));
    };
    let count = usize::from(u16::from_be_bytes(*count));
    let mut from = BitReader::new(rest);
    let result = match encoding {
        Encoding::Xor => float::decode(count, &mut from, out),
        Encoding::Histogram => histogram::decode_integers(count, &mut from, out),
        Encoding::FloatHistogram => histogram::decode_floats(count, &mut from, out),
    };
    result.map_err(|reason| malformed(from.offset() + 2, reason))
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::{BucketLayout, ResetHint, Span};
    use proptest::prelude::*;

    fn decoded(data: &[u8], chunks: &[Chunk]) -> Samples {
        let mut out = Samples::default();
        for chunk in chunks {
            decode(chunk.encoding, &data[chunk.range.clone()], &mut out).expect("our own");
        }
        out
    }

    proptest! {
        #[test]
        fn floats_round_trip(
            steps in proptest::collection::vec((1_i64..1 << 40, any::<u64>()), 1..400),
            start in -1_i64 << 40..1 << 40,
        ) {
            let mut t_ms = start;
            let times: Vec<i64> = steps.iter().map(|(step, _)| { t_ms += step; t_ms }).collect();
            let values: Vec<f64> = steps.iter().map(|(_, bits)| f64::from_bits(*bits)).collect();
            let (mut data, mut chunks) = (Vec::new(), Vec::new());
            encode_floats(&times, &values, &mut data, &mut chunks);
            prop_assert_eq!(chunks.len(), times.len().div_ceil(MAX_SAMPLES));
            let out = decoded(&data, &chunks);
            prop_assert_eq!(&out.timestamps_ms, &times);
            let bits = |values: &[f64]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
            prop_assert_eq!(bits(&out.values), bits(&values));
        }

        #[test]
        fn histograms_round_trip(
            rows in proptest::collection::vec((any::<bool>(), 0_u32..4, 0.0..1e9_f64), 1..300),
            threshold in prop_oneof![Just(0.0), Just(2_f64.powi(-128)), Just(0.1), Just(2_f64.powi(-243)), Just(2_f64.powi(-244)), Just(1024.0), Just(2048.0)],
        ) {
            let layouts: Vec<Arc<BucketLayout>> = (0..4).map(|number| Arc::new(BucketLayout {
                schema: if number == 3 { -53 } else { number },
                zero_threshold: threshold,
                positive: vec![Span { offset: -3, len: 2 }, Span { offset: 1, len: number as u32 }],
                negative: vec![Span { offset: 100, len: 1 }],
                custom_bounds: if number == 3 { vec![0.005, 0.1, 1.0 / 3.0, -2.0, 33_554.431] } else { Vec::new() },
            })).collect();
            let histograms: Vec<Arc<FloatHistogram>> = rows.iter().map(|&(grows, place, value)| {
                let mut one = FloatHistogram::empty(Arc::clone(&layouts[place as usize]));
                (one.count, one.sum, one.zero_count) = (value, -value, value / 3.0);
                one.positive.fill(if grows { value } else { 1.0 });
                if place == 2 { one.reset_hint = ResetHint::Gauge; }
                Arc::new(one)
            }).collect();
            let times: Vec<i64> = (0..rows.len() as i64).map(|i| 1_700_000_000_000 + i * i * 15_000).collect();
            let (mut data, mut chunks) = (Vec::new(), Vec::new());
            encode_histograms(&times, &histograms, &mut data, &mut chunks);
            let out = decoded(&data, &chunks);
            prop_assert_eq!(out.histograms.len(), histograms.len());
            for ((t_ms, found), (wanted_ms, wanted)) in out.histograms.iter().zip(times.iter().zip(&histograms)) {
                prop_assert_eq!(t_ms, wanted_ms);
                let mut found = found.clone();
                found.set_reset_hint(wanted.reset_hint);
                prop_assert_eq!(found, Histogram::Float(FloatHistogram::clone(wanted)));
            }
        }

        #[test]
        fn any_bytes_are_survived(number in 1_u64..4, data in proptest::collection::vec(any::<u8>(), 0..200)) {
            let encoding = Encoding::from_number(number).expect("one of three");
            let _ = decode(encoding, &data, &mut Samples::default());
        }
    }

    #[test]
    fn a_stale_marker_has_a_chunk_of_its_own() {
        let marker = Arc::new(Histogram::stale().to_float());
        let mut one = FloatHistogram::empty(Arc::default());
        one.count = 1.0;
        let one = Arc::new(one);
        let (mut data, mut chunks) = (Vec::new(), Vec::new());
        let histograms = [Arc::clone(&one), marker, one];
        encode_histograms(&[1, 2, 3], &histograms, &mut data, &mut chunks);
        assert_eq!(chunks.len(), 3);
        let out = decoded(&data, &chunks);
        assert_eq!(
            out.histograms.iter().map(|(_, h)| h.is_stale()).collect::<Vec<_>>(),
            [false, true, false]
        );
    }
}
