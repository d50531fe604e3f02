//! Exponential histograms of OTLP to native histograms.
//!
//! Bucket `i` of scale `s` holds `(2^(i·2^-s), 2^((i+1)·2^-s)]`; the native bucket with that upper
//! bound has index `i + 1` in schema `s`.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use model::histogram::{MAX_BUCKETS, MAX_SCHEMA, MIN_SCHEMA};
use model::{BucketLayout, Histogram, IntegerHistogram, Span};

use crate::histogram_fields::sint32;
use crate::protobuf::{self, Fault, Field, each_message};

/// Where OTLP says nothing about it, the zero bucket ends here, as in Prometheus.
const DEFAULT_ZERO_THRESHOLD: f64 = 1e-128;
/// No float lies in a bucket further from 1: they end at 2^±1074, and a power of two has at most 256
/// buckets.
const MAX_INDEX: i32 = 1_100 << 8;
/// Buckets of one sign that an accumulated histogram may have before it is made coarser.
const MAX_SUM_BUCKETS: usize = 320;

/// One point as it came.
#[derive(Debug, Clone, Default)]
pub(super) struct Exponential {
    pub(super) count: u64,
    pub(super) sum: f64,
    pub(super) scale: i32,
    pub(super) zero_count: u64,
    pub(super) zero_threshold: f64,
    /// Index of the first bucket, and counts from there on.
    pub(super) positive: (i32, Vec<u64>),
    pub(super) negative: (i32, Vec<u64>),
}

/// Counts by native index, in some schema.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Counts {
    schema: i32,
    zero_threshold: f64,
    zero_count: u64,
    count: u64,
    sum: f64,
    positive: BTreeMap<i32, u64>,
    negative: BTreeMap<i32, u64>,
}

impl Exponential {
    /// The native histogram.
    ///
    /// # Errors
    /// Why there is none, in words for the sender.
    pub(super) fn to_native(&self) -> Result<Histogram, &'static str> {
        Ok(self.counts()?.to_native())
    }

    /// The counts in a schema that is stored.
    pub(super) fn counts(&self) -> Result<Counts, &'static str> {
        if self.scale < MIN_SCHEMA {
            return Err("exponential histograms with a scale below -4 cannot be stored");
        }
        if self.positive.1.len().max(self.negative.1.len()) > MAX_BUCKETS {
            return Err("exponential histograms of more than 65,536 buckets cannot be stored");
        }
        let schema = self.scale.min(MAX_SCHEMA);
        let coarser = (self.scale - schema).cast_unsigned();
        let side = |(offset, counts): &(i32, Vec<u64>)| {
            let mut buckets = BTreeMap::new();
            for (place, &count) in counts.iter().enumerate().filter(|(_, count)| **count > 0) {
                let index = i64::from(*offset) + place as i64;
                let index = i32::try_from((index >> coarser.min(63)) + 1)
                    .ok()
                    .filter(|index| (-MAX_INDEX..=MAX_INDEX).contains(index))
                    .ok_or("an exponential histogram has buckets beyond any float")?;
                let bucket: &mut u64 = buckets.entry(index).or_default();
                *bucket = bucket.saturating_add(count);
            }
            Ok::<_, &'static str>(buckets)
        };
        Ok(Counts {
            schema,
            zero_threshold: if self.zero_threshold > 0.0 {
                self.zero_threshold
            } else {
                DEFAULT_ZERO_THRESHOLD
            },
            zero_count: self.zero_count,
            count: self.count,
            sum: self.sum,
            positive: side(&self.positive)?,
            negative: side(&self.negative)?,
        })
    }
}

impl Counts {
    /// Adds a later delta; the result has the coarser schema of both, and at most
    /// [`MAX_SUM_BUCKETS`] of each sign where a schema allows that.
    pub(super) fn add(&mut self, other: &Counts) {
        let mut other = other.clone();
        let schema = self.schema.min(other.schema);
        self.coarsen(schema);
        other.coarsen(schema);
        self.zero_threshold = self.zero_threshold.max(other.zero_threshold);
        self.zero_count = self.zero_count.saturating_add(other.zero_count);
        self.count = self.count.saturating_add(other.count);
        self.sum += other.sum;
        for (sum, added) in
            [(&mut self.positive, &other.positive), (&mut self.negative, &other.negative)]
        {
            for (&index, &count) in added {
                let bucket = sum.entry(index).or_default();
                *bucket = bucket.saturating_add(count);
            }
        }
        self.bound();
    }

    /// Makes it coarser until it has at most [`MAX_SUM_BUCKETS`] of each sign.
    pub(super) fn bound(&mut self) {
        while self.positive.len().max(self.negative.len()) > MAX_SUM_BUCKETS
            && self.schema > MIN_SCHEMA
        {
            self.coarsen(self.schema - 1);
        }
    }

    /// Bytes in memory, roughly: a tree's nodes are between half full and full.
    pub(super) fn bytes(&self) -> usize {
        const BUCKET_BYTES: usize = 24;
        size_of::<Counts>() + (self.positive.len() + self.negative.len()) * BUCKET_BYTES
    }

    pub(super) fn has_finite_sum(&self) -> bool {
        self.sum.is_finite()
    }

    fn coarsen(&mut self, schema: i32) {
        let by = (self.schema - schema).cast_unsigned();
        if by == 0 {
            return;
        }
        for side in [&mut self.positive, &mut self.negative] {
            let mut merged = BTreeMap::new();
            for (&index, &count) in &*side {
                let bucket: &mut u64 = merged.entry(((index - 1) >> by.min(31)) + 1).or_default();
                *bucket = bucket.saturating_add(count);
            }
            *side = merged;
        }
        self.schema = schema;
    }

    /// The native histogram with these counts.
    pub(super) fn to_native(&self) -> Histogram {
        let side = |buckets: &BTreeMap<i32, u64>| {
            let mut spans: Vec<Span> = Vec::new();
            let mut next = 0;
            for &index in buckets.keys() {
                match spans.last_mut() {
                    Some(span) if index == next => span.len += 1,
                    // The first span's offset counts from zero, as the later ones' from the end
                    // of the one before.
                    _ => spans.push(Span { offset: index - next, len: 1 }),
                }
                next = index.saturating_add(1);
            }
            spans
        };
        let layout = Arc::new(BucketLayout {
            schema: self.schema,
            zero_threshold: self.zero_threshold,
            positive: side(&self.positive),
            negative: side(&self.negative),
            ..BucketLayout::default()
        });
        let mut histogram = IntegerHistogram::empty(layout);
        histogram.count = self.count;
        histogram.zero_count = self.zero_count;
        histogram.sum = self.sum;
        histogram.positive = self.positive.values().copied().collect();
        histogram.negative = self.negative.values().copied().collect();
        Histogram::Integer(histogram)
    }
}

/// `Buckets { sint32 offset = 1; repeated uint64 bucket_counts = 2 }`. Keeps one bucket more than
/// can be stored, by which the histogram is refused later, and no others: a count of one byte here
/// takes eight in memory.
pub(super) fn buckets(
    body: &[u8],
    message: Range<usize>,
    out: &mut (i32, Vec<u64>),
) -> Result<(), Fault> {
    let keep = |counts: &mut Vec<u64>, count| {
        if counts.len() <= MAX_BUCKETS {
            counts.push(count);
        }
    };
    each_message(body, message, |number, field| {
        match (number, field) {
            (1, Field::Varint(offset)) => out.0 = sint32(offset),
            (2, Field::Varint(count)) => keep(&mut out.1, count),
            (2, Field::Bytes { start, end }) => {
                let mut at = start;
                while at < end {
                    keep(&mut out.1, protobuf::varint(body, &mut at, end)?);
                }
            }
            _ => {}
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(scale: i32, offset: i32, counts: &[u64]) -> Exponential {
        let count = counts.iter().sum();
        let positive = (offset, counts.to_vec());
        Exponential { count, sum: 1.0, scale, positive, ..Exponential::default() }
    }

    #[test]
    fn bounds_are_the_same() {
        // Scale 0: index 0 is (1, 2], the native bucket with upper bound 2 has index 1.
        let histogram = point(0, 0, &[3, 0, 0, 4]).to_native().expect("valid");
        let buckets: Vec<_> = match &histogram {
            Histogram::Integer(histogram) => {
                histogram.buckets().map(|bucket| (bucket.upper, bucket.count)).collect()
            }
            Histogram::Float(_) => unreachable!("counts are whole"),
        };
        assert_eq!(buckets, [(2.0, 3), (16.0, 4)]);
        assert!(histogram.validate().is_ok());
    }

    #[test]
    fn fine_scales_are_made_coarser() {
        // 8 buckets of scale 10 are two of scale 8.
        let counts = point(10, -4, &[1; 8]).counts().expect("valid");
        assert_eq!((counts.schema, counts.positive), (8, BTreeMap::from([(0, 4), (1, 4)])));
        assert!(point(-5, 0, &[1]).counts().is_err());
        assert!(point(8, i32::MAX, &[0, 1]).counts().is_err());
    }

    #[test]
    fn deltas_add_up_in_the_coarser_schema() {
        let mut sum = point(1, 0, &[1, 2, 3, 4]).counts().expect("valid");
        sum.add(&point(0, 0, &[10, 20]).counts().expect("valid"));
        assert_eq!(sum.schema, 0);
        assert_eq!(sum.positive, BTreeMap::from([(1, 13), (2, 27)]));
        assert_eq!((sum.count, sum.sum), (40, 2.0));
        let mut wide = Counts { schema: 8, ..Counts::default() };
        wide.add(&point(8, 0, &vec![1; 5_000]).counts().expect("valid"));
        assert!(wide.positive.len() <= MAX_SUM_BUCKETS);
        assert_eq!(wide.positive.values().sum::<u64>(), 5_000);
        assert!(wide.to_native().validate().is_ok());
    }

    #[test]
    fn more_buckets_than_are_stored_are_refused() {
        assert!(point(0, 0, &[0; MAX_BUCKETS]).counts().is_ok());
        assert!(point(0, 0, &[0; MAX_BUCKETS + 1]).counts().is_err());
    }
}
