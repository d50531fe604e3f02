//! Rollups: what is known of the samples of one series in each window of time.
//!
//! A window is open at its start and closed at its end, as the ranges of PromQL are, and begins at
//! multiples of its length since the epoch. So a range that begins and ends at such multiples is a
//! row of whole windows, and what functions over ranges yield of it can be told from the windows
//! alone. A window may have several rows, of samples that follow one another; rows combine.

use codec::CodecError;
use model::{RollupRow, TimeRange, is_stale_nan};

/// Whether all samples of a row lie in one of these ranges.
pub(crate) fn is_whole_in(row: &RollupRow, kept: &[TimeRange]) -> bool {
    kept.iter().any(|range| range.contains(row.first_ms) && range.contains(row.last_ms))
}

/// Number of the window of `resolution_ms` in which a time lies.
pub(crate) fn window_of(t_ms: i64, resolution_ms: i64) -> i64 {
    t_ms.saturating_sub(1).div_euclid(resolution_ms)
}

/// Whether rows count more samples than there are floats, so that they say what no floats do any more.
pub(crate) fn lacks_floats(rows: &[RollupRow], floats: &[f64]) -> bool {
    let counted: u64 = rows.iter().map(|row| u64::from(row.count)).sum();
    let there = floats.iter().filter(|value| !is_stale_nan(**value)).count();
    counted > there as u64
}

/// Of rows in order of time, those of which all samples lie in `kept`; those of one window of
/// `resolution_ms` become one, where nothing between them is taken out.
pub(crate) fn keep_and_join(
    rows: &[RollupRow],
    kept: &[TimeRange],
    resolution_ms: i64,
) -> Vec<RollupRow> {
    let mut joined: Vec<RollupRow> = Vec::new();
    let mut goes_on = false;
    for row in rows {
        if !is_whole_in(row, kept) {
            goes_on = false;
            continue;
        }
        let window = |row: &RollupRow| window_of(row.last_ms, resolution_ms);
        match joined.last_mut() {
            Some(last) if goes_on && window(last) == window(row) => last.append(row),
            _ => joined.push(*row),
        }
        goes_on = true;
    }
    joined
}

/// Rolls samples up as they come, in order of time, beside rows that are there already.
#[derive(Debug, Default)]
pub(crate) struct RollupBuilder {
    /// Of samples.
    rows: Vec<RollupRow>,
    /// Of the last row, while its window may go on.
    compensation: f64,
    is_open: bool,
    /// Rows that were there already.
    given: Vec<RollupRow>,
    /// Whether `given` may be in any order, and overlap.
    is_unsettled: bool,
    /// How many of `given` end before the last sample.
    passed: usize,
}

impl RollupBuilder {
    /// Adds samples that are later than those before. Samples within a row that was given are left
    /// out, as nobody can tell whether it counts them already; yields how many these are. A row has
    /// no samples on both sides of one that was given.
    pub(crate) fn extend(
        &mut self,
        timestamps_ms: &[i64],
        values: &[f64],
        resolution_ms: i64,
    ) -> u64 {
        self.settle_given();
        let mut left_out = 0;
        for (&t_ms, &value) in timestamps_ms.iter().zip(values) {
            if model::is_stale_nan(value) {
                continue;
            }
            while self.given.get(self.passed).is_some_and(|row| row.last_ms < t_ms) {
                self.passed += 1;
                self.close();
            }
            if self.given.get(self.passed).is_some_and(|row| row.first_ms <= t_ms) {
                left_out += 1;
                continue;
            }
            let window = window_of(t_ms, resolution_ms);
            match self.rows.last_mut() {
                Some(row) if self.is_open && window_of(row.last_ms, resolution_ms) == window => {
                    row.last_ms = t_ms;
                    row.count += 1;
                    add_compensated(&mut row.sum, &mut self.compensation, value);
                    row.min = row.min.min(value);
                    row.max = row.max.max(value);
                    if value < row.last {
                        row.resets += 1;
                        row.before_resets += row.last;
                    }
                    row.last = value;
                }
                _ => {
                    self.close();
                    self.rows.push(RollupRow::of(t_ms, value));
                    self.is_open = true;
                }
            }
        }
        left_out
    }

    /// Adds rows that are there already, in any order. All must be added before any sample.
    pub(crate) fn extend_rows(&mut self, rows: &[RollupRow]) {
        debug_assert!(self.rows.is_empty(), "rows come before samples");
        self.given.extend_from_slice(rows);
        self.is_unsettled = true;
    }

    fn close(&mut self) {
        if let Some(row) = self.rows.last_mut().filter(|_| self.is_open)
            && self.compensation.is_finite()
        {
            row.sum += self.compensation;
        }
        self.compensation = 0.0;
        self.is_open = false;
    }

    /// Puts the given rows in order of time. Of two that overlap the one of more samples stays, else
    /// the one that begins first, else the one that was added first.
    fn settle_given(&mut self) {
        if std::mem::take(&mut self.is_unsettled)
            && !self.given.is_sorted_by(|a, b| a.last_ms < b.first_ms)
        {
            self.given.sort_by_key(|row| row.first_ms);
            self.given.dedup_by(|later, earlier| {
                let is_among = later.first_ms <= earlier.last_ms;
                if is_among && earlier.count < later.count {
                    std::mem::swap(later, earlier);
                }
                is_among
            });
        }
    }

    /// The rows so far, in order of time. None overlaps another.
    pub(crate) fn finish(&mut self) -> &mut Vec<RollupRow> {
        self.close();
        self.settle_given();
        self.passed = 0;
        if !self.given.is_empty() {
            self.rows.append(&mut self.given);
            self.rows.sort_by_key(|row| row.last_ms);
        }
        &mut self.rows
    }
}

/// Adds `value` to `sum` so that what rounding loses is kept in `compensation` (Neumaier).
fn add_compensated(sum: &mut f64, compensation: &mut f64, value: f64) {
    let total = *sum + value;
    *compensation +=
        if sum.abs() >= value.abs() { (*sum - total) + value } else { (value - total) + *sum };
    *sum = total;
}

/// The samples are the same in all rows: nothing but count and last is written.
const FLAT: u8 = 1;
/// No row has a reset.
const NO_RESETS: u8 = 2;
/// Each row's least value is its first and the greatest its last, as of a counter.
const RISING: u8 = 4;

fn is_flat(row: &RollupRow) -> bool {
    let bits = row.last.to_bits();
    [row.first, row.min, row.max].iter().all(|value| value.to_bits() == bits)
        && (row.last * f64::from(row.count)).to_bits() == row.sum.to_bits()
        && has_no_resets(row)
}

fn has_no_resets(row: &RollupRow) -> bool {
    row.resets == 0 && row.before_resets.to_bits() == 0
}

fn is_rising(row: &RollupRow) -> bool {
    row.min.to_bits() == row.first.to_bits() && row.max.to_bits() == row.last.to_bits()
}

/// Appends a chunk of rows, but for the times of their last samples.
pub(crate) fn encode(rows: &[RollupRow], out: &mut Vec<u8>) {
    let flag = |flag: u8, holds: fn(&RollupRow) -> bool| {
        if rows.iter().all(holds) { flag } else { 0 }
    };
    let flags = flag(FLAT, is_flat) | flag(NO_RESETS, has_no_resets) | flag(RISING, is_rising);
    out.push(flags);
    let ints = |out: &mut Vec<u8>, of: fn(&RollupRow) -> i64| {
        codec::encode_i64s(&rows.iter().map(of).collect::<Vec<_>>(), out);
    };
    let floats = |out: &mut Vec<u8>, of: fn(&RollupRow) -> f64| {
        // Rollups are written once and kept for long, behind a compressor.
        codec::encode_f64s_bytewise(&rows.iter().map(of).collect::<Vec<_>>(), out);
    };
    ints(out, |row| row.last_ms.wrapping_sub(row.first_ms));
    ints(out, |row| i64::from(row.count));
    floats(out, |row| row.last);
    if flags & FLAT != 0 {
        return;
    }
    floats(out, |row| row.first);
    floats(out, |row| row.sum);
    if flags & RISING == 0 {
        floats(out, |row| row.min);
        floats(out, |row| row.max);
    }
    if flags & NO_RESETS == 0 {
        ints(out, |row| i64::from(row.resets));
        floats(out, |row| row.before_resets);
    }
}

/// Takes the rows whose last samples are at `last_ms`, and appends them.
pub(crate) fn decode(
    last_ms: &[i64],
    mut input: &[u8],
    out: &mut Vec<RollupRow>,
) -> Result<(), CodecError> {
    let count = last_ms.len();
    let flags = codec::varint::take_bytes(&mut input, 1)?[0];
    let ints = |input: &mut &[u8]| {
        let mut column = Vec::new();
        codec::decode_i64s(input, count, &mut column).map(|()| column)
    };
    let floats = |input: &mut &[u8]| {
        let mut column = Vec::new();
        codec::decode_f64s(input, count, &mut column).map(|()| column)
    };
    let spans = ints(&mut input)?;
    let counts = ints(&mut input)?;
    let last = floats(&mut input)?;
    let start = out.len();
    out.extend((0..count).map(|at| {
        let samples = u32::try_from(counts[at]).unwrap_or(1).max(1);
        RollupRow {
            first_ms: last_ms[at].saturating_sub(spans[at].max(0)),
            last_ms: last_ms[at],
            count: samples,
            sum: last[at] * f64::from(samples),
            ..RollupRow::of(last_ms[at], last[at])
        }
    }));
    if flags & FLAT != 0 {
        return Ok(());
    }
    let rows = &mut out[start..];
    let first = floats(&mut input)?;
    let sum = floats(&mut input)?;
    for ((row, first), sum) in rows.iter_mut().zip(first).zip(sum) {
        (row.first, row.sum, row.min, row.max) = (first, sum, first, row.last);
    }
    if flags & RISING == 0 {
        let min = floats(&mut input)?;
        let max = floats(&mut input)?;
        for ((row, min), max) in rows.iter_mut().zip(min).zip(max) {
            (row.min, row.max) = (min, max);
        }
    }
    if flags & NO_RESETS == 0 {
        let resets = ints(&mut input)?;
        let before = floats(&mut input)?;
        for ((row, resets), before) in rows.iter_mut().zip(resets).zip(before) {
            (row.resets, row.before_resets) = (u32::try_from(resets).unwrap_or(0), before);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rolled(timestamps_ms: &[i64], values: &[f64], resolution_ms: i64) -> Vec<RollupRow> {
        let mut builder = RollupBuilder::default();
        builder.extend(timestamps_ms, values, resolution_ms);
        std::mem::take(builder.finish())
    }

    fn round_trip(rows: &[RollupRow]) -> usize {
        let mut bytes = Vec::new();
        encode(rows, &mut bytes);
        let last_ms: Vec<i64> = rows.iter().map(|row| row.last_ms).collect();
        let mut again = Vec::new();
        decode(&last_ms, &bytes, &mut again).expect("own bytes decode");
        assert_eq!(format!("{rows:?}"), format!("{again:?}"));
        for len in 0..bytes.len() {
            let _ = decode(&last_ms, &bytes[..len], &mut Vec::new());
        }
        bytes.len()
    }

    #[test]
    fn windows_are_closed_at_their_end() {
        let times = [-10, -9, 0, 1, 10, 11];
        let rows = rolled(&times, &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], 10);
        let spans: Vec<_> = rows.iter().map(|row| (row.first_ms, row.last_ms)).collect();
        assert_eq!(spans, [(-10, -10), (-9, 0), (1, 10), (11, 11)]);
    }

    #[test]
    fn rows_say_what_they_should_and_survive() {
        let stale = f64::from_bits(model::STALE_NAN_BITS);
        let values = [1.0, 2.0, 0.5, 4.0, stale, 4.0, 1e16, 1.0, -1e16, stale, 7.0, f64::NAN];
        let times: Vec<i64> = (1..=12).map(|t| t * 2).collect();
        let rows = rolled(&times, &values, 8);
        assert_eq!(rows.len(), 3);
        let first = rows[0];
        assert_eq!((first.count, first.resets, first.before_resets), (4, 1, 2.0));
        assert_eq!((first.min, first.max, first.sum), (0.5, 4.0, 7.5));
        assert_eq!((rows[1].count, rows[1].sum), (3, 4.0 + 1.0 + 1e16));
        assert_eq!((rows[2].count, rows[2].min), (3, -1e16));
        round_trip(&rows);
    }

    #[test]
    fn counters_and_constants_are_small() {
        let times: Vec<i64> = (1..=28_800).map(|t| t * 3_000).collect();
        let flat = round_trip(&rolled(&times, &vec![7.5; times.len()], 300_000));
        assert!(flat < 20, "{flat}");
        let rising: Vec<f64> = (0..times.len()).map(|n| n as f64).collect();
        let counter = round_trip(&rolled(&times, &rising, 300_000));
        assert!(counter < 40, "{counter}");
    }

    #[test]
    fn rows_of_several_sources_are_in_order_once() {
        let mut builder = RollupBuilder::default();
        builder.extend_rows(&rolled(&[25, 35], &[1.0, 2.0], 10));
        assert_eq!(builder.extend(&[5, 25], &[3.0, 4.0], 10), 1);
        let rows = builder.finish();
        let found: Vec<_> = rows.iter().map(|row| (row.last_ms, row.last)).collect();
        assert_eq!(found, [(5, 3.0), (25, 1.0), (35, 2.0)]);
    }

    /// First and last time, samples and last value.
    fn told(rows: &[RollupRow]) -> Vec<(i64, i64, u32, f64)> {
        rows.iter().map(|row| (row.first_ms, row.last_ms, row.count, row.last)).collect()
    }

    #[test]
    fn samples_go_around_rows() {
        let mut builder = RollupBuilder::default();
        builder.extend_rows(&rolled(&[130, 140, 150], &[3.0, 4.0, 5.0], 100));
        let (times, values) = ([110, 120, 135, 140], [1.0, 2.0, 3.5, 9.0]);
        assert_eq!(builder.extend(&times, &values, 100), 2);
        assert_eq!(builder.extend(&[151, 160], &[6.0, 7.0], 100), 0);
        let rows = builder.finish();
        assert_eq!(told(rows), [(110, 120, 2, 2.0), (130, 150, 3, 5.0), (151, 160, 2, 7.0)]);
        assert!(rows.iter().all(has_no_resets));
    }

    #[test]
    fn rows_that_overlap_are_one() {
        let wide = rolled(&[110, 120, 150], &[1.0, 2.0, 5.0], 100);
        let small = rolled(&[105, 115], &[0.5, 1.5], 100);
        let within = rolled(&[130], &[3.0], 100);
        let other = rolled(&[110, 120, 150], &[7.0, 8.0, 9.0], 100);
        let beside = rolled(&[101], &[0.1], 100);
        let mut builder = RollupBuilder::default();
        for rows in [wide, small, within, other, beside] {
            builder.extend_rows(&rows);
        }
        assert_eq!(told(builder.finish()), [(101, 101, 1, 0.1), (110, 150, 3, 5.0)]);
    }
}
