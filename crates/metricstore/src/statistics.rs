//! What is known of a chunk without decoding it.

use codec::CodecError;

/// Statistics over the samples of one chunk, staleness markers left out.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ChunkStatistics {
    /// Samples that are staleness markers.
    pub stale: u32,
    /// Samples that are not.
    pub count: u32,
    /// First value. NaN (the marker itself) if `count` is 0, as the other values.
    pub first: f64,
    /// Last value.
    pub last: f64,
    /// Least value; NaN only if every value is.
    pub min: f64,
    /// Greatest value; NaN only if every value is.
    pub max: f64,
    /// Sum of the values, by compensated summation.
    pub sum: f64,
    /// How often a value is below its predecessor.
    pub resets: u32,
    /// Sum of the values before those resets.
    pub before_resets: f64,
}

impl ChunkStatistics {
    /// How much a counter rose from the first to the last sample, resets accounted for.
    pub fn increase(&self) -> f64 {
        self.last - self.first + self.before_resets
    }

    /// Statistics of a chunk's values.
    pub(crate) fn of(values: &[f64]) -> Self {
        let Some(&head) = values.first() else { return Self::repeated(0.0, 0) };
        // Fast path, most chunks of most hosts: nothing ever changes.
        if values.iter().all(|value| value.to_bits() == head.to_bits()) {
            return Self::repeated(head, values.len() as u32);
        }
        let mut live = values.iter().copied().filter(|value| !model::is_stale_nan(*value));
        let Some(first) = live.next() else { return Self::repeated(head, values.len() as u32) };
        let mut all = ChunkStatistics {
            stale: 0,
            count: 1,
            first,
            last: first,
            min: first,
            max: first,
            sum: first,
            resets: 0,
            before_resets: 0.0,
        };
        let mut compensation = 0.0;
        for value in live {
            all.count += 1;
            add_compensated(&mut all.sum, &mut compensation, value);
            all.min = all.min.min(value);
            all.max = all.max.max(value);
            if value < all.last {
                all.resets += 1;
                all.before_resets += all.last;
            }
            all.last = value;
        }
        if compensation.is_finite() {
            all.sum += compensation;
        }
        all.stale = values.len() as u32 - all.count;
        all
    }

    /// Statistics of a chunk whose `rows` samples are all `value`.
    fn repeated(value: f64, rows: u32) -> Self {
        let is_stale = model::is_stale_nan(value);
        let count = if is_stale { 0 } else { rows };
        ChunkStatistics {
            stale: rows - count,
            count,
            first: value,
            last: value,
            min: value,
            max: value,
            sum: value * f64::from(count),
            resets: 0,
            before_resets: 0.0,
        }
    }

    /// Whether the chunk is `count` times the same bits, or nothing but staleness markers.
    fn is_simple(&self) -> bool {
        self.bits() == Self::repeated(self.first, self.stale + self.count).bits()
            && self.resets == 0
            && (self.stale == 0 || self.count == 0)
    }

    fn bits(&self) -> [u64; 6] {
        [self.first, self.last, self.min, self.max, self.sum, self.before_resets].map(f64::to_bits)
    }
}

/// Adds `value` to `sum` so that what rounding loses is kept in `compensation` (Neumaier).
pub(crate) fn add_compensated(sum: &mut f64, compensation: &mut f64, value: f64) {
    let total = *sum + value;
    *compensation +=
        if sum.abs() >= value.abs() { (*sum - total) + value } else { (value - total) + *sum };
    *sum = total;
}

/// Appends the statistics of all chunks of a group.
pub(crate) fn encode(all: &[ChunkStatistics], out: &mut Vec<u8>) {
    let ints = |out: &mut Vec<u8>, of: &dyn Fn(&ChunkStatistics) -> i64| {
        codec::encode_i64s(&all.iter().map(of).collect::<Vec<_>>(), out);
    };
    ints(out, &|s| i64::from(s.stale));
    ints(out, &|s| i64::from(s.resets));
    ints(out, &|s| i64::from(s.is_simple()));
    let floats = |out: &mut Vec<u8>, every: bool, of: &dyn Fn(&ChunkStatistics) -> f64| {
        let column = all.iter().filter(|s| every || !s.is_simple()).map(of).collect::<Vec<_>>();
        codec::encode_f64s(&column, out);
    };
    floats(out, true, &|s| s.first);
    floats(out, true, &|s| s.last);
    floats(out, false, &|s| s.min);
    floats(out, false, &|s| s.max);
    floats(out, false, &|s| s.sum);
    floats(out, false, &|s| s.before_resets);
}

/// Takes the statistics of chunks that have as many samples as `rows` says.
pub(crate) fn decode(rows: &[u32], input: &mut &[u8]) -> Result<Vec<ChunkStatistics>, CodecError> {
    let count = rows.len();
    let ints = |input: &mut &[u8]| {
        let mut column = Vec::new();
        codec::decode_i64s(input, count, &mut column).map(|()| column)
    };
    let floats = |input: &mut &[u8], count: usize| {
        let mut column = Vec::new();
        codec::decode_f64s(input, count, &mut column).map(|()| column)
    };
    let (stale, resets, simple) = (ints(input)?, ints(input)?, ints(input)?);
    let (first, last) = (floats(input, count)?, floats(input, count)?);
    let complex = simple.iter().filter(|simple| **simple == 0).count();
    let min = floats(input, complex)?;
    let max = floats(input, complex)?;
    let sum = floats(input, complex)?;
    let before_resets = floats(input, complex)?;
    let mut next = 0;
    let mut all = Vec::with_capacity(count);
    for (chunk, &rows) in rows.iter().enumerate() {
        if simple[chunk] != 0 {
            all.push(ChunkStatistics::repeated(first[chunk], rows));
            continue;
        }
        let stale = u32::try_from(stale[chunk]).unwrap_or(0).min(rows);
        all.push(ChunkStatistics {
            stale,
            count: rows - stale,
            first: first[chunk],
            last: last[chunk],
            min: min[next],
            max: max[next],
            sum: sum[next],
            resets: u32::try_from(resets[chunk]).unwrap_or(0),
            before_resets: before_resets[next],
        });
        next += 1;
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    const STALE: f64 = f64::from_bits(model::STALE_NAN_BITS);

    fn round_trip(chunks: &[&[f64]]) -> Vec<ChunkStatistics> {
        let all: Vec<_> = chunks.iter().map(|values| ChunkStatistics::of(values)).collect();
        let rows: Vec<_> = chunks.iter().map(|values| values.len() as u32).collect();
        let mut bytes = Vec::new();
        encode(&all, &mut bytes);
        let again = decode(&rows, &mut bytes.as_slice()).expect("own bytes decode");
        assert_eq!(format!("{all:?}"), format!("{again:?}"));
        again
    }

    #[test]
    fn statistics_survive_and_say_what_they_should() {
        let all = round_trip(&[
            &[1.0, 2.0, 0.5, 4.0, STALE],
            &[7.0; 9],
            &[STALE, STALE],
            &[0.1; 10],
            &[-0.0, 0.0],
            &[f64::NAN, 1.0, f64::INFINITY],
            &[1e16, 1.0, -1e16],
        ]);
        assert_eq!((all[0].count, all[0].stale, all[0].resets), (4, 1, 1));
        assert_eq!((all[0].min, all[0].max, all[0].sum), (0.5, 4.0, 7.5));
        assert_eq!(all[0].increase(), 1.0 + 4.0);
        assert_eq!((all[1].count, all[1].sum), (9, 63.0));
        assert_eq!((all[2].count, all[2].stale), (0, 2));
        assert_eq!((all[5].min, all[5].max), (1.0, f64::INFINITY));
        assert_eq!(all[6].sum, 1.0);
    }

    #[test]
    fn simple_chunks_cost_next_to_nothing() {
        let all = vec![ChunkStatistics::of(&[3.0; 500]); 1_000];
        let mut bytes = Vec::new();
        encode(&all, &mut bytes);
        assert!(bytes.len() < 40, "{}", bytes.len());
    }
}
