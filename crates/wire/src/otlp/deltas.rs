//! From deltas to the running totals that Prometheus' functions expect.

use std::collections::HashMap;
use std::ops::RangeInclusive;

use model::{Histogram, TenantName};

use super::exponential::Counts;

/// Series whose total is kept.
const MAX_SERIES: usize = 500_000;
/// Bytes of their labels and of the counts of their histograms.
const MAX_BYTES: usize = 256 << 20;
/// A series without deltas for this long is forgotten when room is needed.
const IDLE_MS: i64 = 60 * 60 * 1_000;

/// Totals of the series that come as deltas, by tenant and labels.
///
/// They are in memory only: after a restart, or once a series was forgotten, its total begins at
/// zero. `rate` and `increase` take that for a counter that was reset where the new total is below
/// the old one; where it is not, and for the first delta of the new total, they show less than what
/// was sent.
#[derive(Debug, Default)]
pub struct Deltas {
    series: HashMap<Box<[u8]>, Total>,
    /// Of keys and of counts of histograms.
    bytes: usize,
    /// The tenant whose deltas come, and behind that the labels of one of its series.
    key: Vec<u8>,
    tenant_len: usize,
    /// Times that are stored; `None` for all.
    admitted: Option<RangeInclusive<i64>>,
}

#[derive(Debug, Clone)]
struct Total {
    last_ms: i64,
    value: Value,
}

#[derive(Debug, Clone)]
enum Value {
    Float(f64),
    Histogram(Box<Counts>),
}

impl Total {
    /// Bytes beside the entry itself, of which there are at most [`MAX_SERIES`].
    fn bytes(&self) -> usize {
        match &self.value {
            Value::Float(_) => 0,
            Value::Histogram(counts) => counts.bytes(),
        }
    }
}

/// What a request has added, so that it can be taken back if it is not stored.
#[derive(Debug, Default)]
pub struct Applied(Vec<(Box<[u8]>, Option<Total>)>);

impl Deltas {
    /// Refuses deltas of other times from now on: they would count in the total and not be stored.
    pub fn admit(&mut self, times_ms: RangeInclusive<i64>) {
        self.admitted = Some(times_ms);
    }

    /// Whose deltas come from now on.
    pub fn begin(&mut self, tenant: TenantName) {
        self.key.clear();
        self.key.extend_from_slice(tenant.as_str().as_bytes());
        // No name has it, so no name is the beginning of another one's keys.
        self.key.push(0);
        self.tenant_len = self.key.len();
    }

    /// Runs `add` with the key of a series.
    fn with_key<T>(&mut self, labels: &[u8], add: impl FnOnce(&mut Self, &[u8]) -> T) -> T {
        let mut key = std::mem::take(&mut self.key);
        key.truncate(self.tenant_len);
        key.extend_from_slice(labels);
        let added = add(self, &key);
        self.key = key;
        added
    }

    /// Adds a delta and yields the total.
    ///
    /// # Errors
    /// Why it is refused, in words for the sender. The total is then as before.
    pub(super) fn add_float(
        &mut self,
        labels: &[u8],
        t_ms: i64,
        delta: f64,
        applied: &mut Applied,
    ) -> Result<f64, &'static str> {
        self.with_key(labels, |deltas, key| deltas.add_float_at(key, t_ms, delta, applied))
    }

    fn add_float_at(
        &mut self,
        key: &[u8],
        t_ms: i64,
        delta: f64,
        applied: &mut Applied,
    ) -> Result<f64, &'static str> {
        let sum = match self.before(key, t_ms)? {
            None => delta,
            Some(Value::Float(value)) => value + delta,
            Some(Value::Histogram(_)) => return Err(CHANGED),
        };
        if !sum.is_finite() {
            return Err(NOT_FINITE);
        }
        self.put(key, Total { last_ms: t_ms, value: Value::Float(sum) }, applied)?;
        Ok(sum)
    }

    /// As [`Deltas::add_float`], for exponential histograms.
    pub(super) fn add_histogram(
        &mut self,
        labels: &[u8],
        t_ms: i64,
        delta: &Counts,
        applied: &mut Applied,
    ) -> Result<Histogram, &'static str> {
        self.with_key(labels, |deltas, key| deltas.add_histogram_at(key, t_ms, delta, applied))
    }

    fn add_histogram_at(
        &mut self,
        key: &[u8],
        t_ms: i64,
        delta: &Counts,
        applied: &mut Applied,
    ) -> Result<Histogram, &'static str> {
        let before = match self.before(key, t_ms)? {
            None => None,
            Some(Value::Histogram(counts)) => Some(counts.clone()),
            Some(Value::Float(_)) => return Err(CHANGED),
        };
        if delta.to_native().validate().is_err() {
            return Err("an exponential histogram whose counts, buckets or bounds do not agree");
        }
        let sum = match before {
            Some(mut sum) => {
                sum.add(delta);
                sum
            }
            None => {
                let mut sum = Box::new(delta.clone());
                sum.bound();
                sum
            }
        };
        if !sum.has_finite_sum() {
            return Err(NOT_FINITE);
        }
        let native = sum.to_native();
        if native.validate().is_err() {
            return Err("the total of an exponential histogram's deltas cannot be stored");
        }
        self.put(key, Total { last_ms: t_ms, value: Value::Histogram(sum) }, applied)?;
        Ok(native)
    }

    /// Makes undone what a request that was not stored has added.
    pub fn take_back(&mut self, applied: Applied) {
        // The first entry of a series is what there was before the request.
        for (labels, before) in applied.0.into_iter().rev() {
            if let Some(total) = self.series.remove(&labels) {
                self.bytes -= labels.len() + total.bytes();
            }
            if let Some(total) = before {
                self.bytes += labels.len() + total.bytes();
                self.series.insert(labels, total);
            }
        }
    }

    /// Number of series whose total is kept.
    pub fn len(&self) -> usize {
        self.series.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.series.is_empty()
    }

    /// The total so far, if a delta of that time may be added to it.
    fn before(&self, labels: &[u8], t_ms: i64) -> Result<Option<&Value>, &'static str> {
        if self.admitted.as_ref().is_some_and(|times_ms| !times_ms.contains(&t_ms)) {
            return Err(
                "a delta further in the future than limits.max_future_ms, or older than the \
                        retention",
            );
        }
        match self.series.get(labels) {
            Some(total) if t_ms <= total.last_ms => {
                Err("a delta that is not newer than the one before it of its series")
            }
            total => Ok(total.map(|total| &total.value)),
        }
    }

    fn put(
        &mut self,
        labels: &[u8],
        total: Total,
        applied: &mut Applied,
    ) -> Result<(), &'static str> {
        if self.is_full(labels, &total) {
            self.forget_idle(total.last_ms);
            if self.is_full(labels, &total) {
                return Err(
                    "too much comes as deltas (the limit is 500,000 series and 256 MiB of \
                            labels and buckets); let the sender use cumulative temporality",
                );
            }
        }
        self.bytes += total.bytes();
        let before = match self.series.get_mut(labels) {
            Some(kept) => {
                let before = std::mem::replace(kept, total);
                self.bytes -= before.bytes();
                Some(before)
            }
            None => {
                self.bytes += labels.len();
                self.series.insert(labels.into(), total);
                None
            }
        };
        applied.0.push((labels.into(), before));
        Ok(())
    }

    /// Whether there is no room for what `total` takes more than what is kept of its series.
    fn is_full(&self, labels: &[u8], total: &Total) -> bool {
        let (more_series, more_bytes) = match self.series.get(labels) {
            Some(kept) => (0, total.bytes().saturating_sub(kept.bytes())),
            None => (1, labels.len() + total.bytes()),
        };
        self.series.len() + more_series > MAX_SERIES
            || more_bytes > 0 && self.bytes + more_bytes > MAX_BYTES
    }

    #[cold]
    fn forget_idle(&mut self, now_ms: i64) {
        self.series.retain(|_, total| total.last_ms > now_ms.saturating_sub(IDLE_MS));
        self.bytes = self.series.iter().map(|(labels, total)| labels.len() + total.bytes()).sum();
    }
}

const NOT_FINITE: &str = "a delta, or the total with it, that is not a finite number";
const CHANGED: &str = "a metric that was a number and became a histogram, or the reverse";

#[cfg(test)]
mod tests {
    use super::super::exponential::Exponential;
    use super::*;

    #[test]
    fn deltas_become_totals_and_can_be_taken_back() {
        let mut deltas = Deltas::default();
        let mut applied = Applied::default();
        assert_eq!(deltas.add_float(b"a", 1, 5.0, &mut applied), Ok(5.0));
        assert_eq!(deltas.add_float(b"a", 2, 1.5, &mut applied), Ok(6.5));
        assert!(deltas.add_float(b"a", 2, 1.0, &mut applied).is_err(), "not newer");
        let mut refused = Applied::default();
        assert_eq!(deltas.add_float(b"a", 3, 100.0, &mut refused), Ok(106.5));
        assert_eq!(deltas.add_float(b"a", 4, 100.0, &mut refused), Ok(206.5));
        assert_eq!(deltas.add_float(b"b", 3, 100.0, &mut refused), Ok(100.0));
        deltas.take_back(refused);
        assert_eq!(deltas.len(), 1);
        assert_eq!(deltas.add_float(b"a", 3, 1.0, &mut applied), Ok(7.5));
    }

    #[test]
    fn totals_of_tenants_are_their_own() {
        let mut deltas = Deltas::default();
        let mut applied = Applied::default();
        let tenants = ["a", "aa"].map(|name| TenantName::parse(name).expect("a name"));
        deltas.begin(tenants[0]);
        assert_eq!(deltas.add_float(b"x", 5, 5.0, &mut applied), Ok(5.0));
        deltas.begin(tenants[1]);
        assert_eq!(deltas.add_float(b"x", 1, 1.0, &mut applied), Ok(1.0));
        let mut refused = Applied::default();
        assert_eq!(deltas.add_float(b"x", 2, 1.0, &mut refused), Ok(2.0));
        deltas.begin(tenants[0]);
        assert_eq!(deltas.add_float(b"x", 6, 1.0, &mut applied), Ok(6.0));
        deltas.take_back(refused);
        deltas.begin(tenants[1]);
        assert_eq!(deltas.add_float(b"x", 3, 1.0, &mut applied), Ok(2.0));
    }

    #[test]
    fn histograms_add_up() {
        let mut deltas = Deltas::default();
        let mut applied = Applied::default();
        let point = Exponential { count: 2, positive: (0, vec![2]), ..Exponential::default() };
        let counts = point.counts().expect("valid");
        for (t_ms, wanted) in [(1, 2), (2, 4)] {
            let total = deltas.add_histogram(b"h", t_ms, &counts, &mut applied).expect("added");
            assert!(matches!(total, Histogram::Integer(h) if h.count == wanted));
        }
        assert!(deltas.add_float(b"h", 3, 1.0, &mut applied).is_err());
    }

    #[test]
    fn room_is_made_by_forgetting_what_is_idle() {
        let mut deltas = Deltas { bytes: MAX_BYTES, ..Deltas::default() };
        let mut applied = Applied::default();
        // The count of bytes is taken anew, so there is room again.
        assert_eq!(deltas.add_float(b"a", 1, 1.0, &mut applied), Ok(1.0));
        assert_eq!(deltas.bytes, 1);
        deltas.forget_idle(1 + IDLE_MS);
        assert!(deltas.is_empty());
    }

    #[test]
    fn what_the_store_would_reject_does_not_count() {
        let mut deltas = Deltas::default();
        deltas.admit(10..=20);
        let mut applied = Applied::default();
        for (t_ms, delta) in [(9, 1.0), (21, 1.0), (15, f64::NAN), (15, f64::INFINITY)] {
            assert!(deltas.add_float(b"a", t_ms, delta, &mut applied).is_err(), "{delta} @{t_ms}");
        }
        assert_eq!(deltas.add_float(b"a", 15, f64::MAX, &mut applied), Ok(f64::MAX));
        assert!(deltas.add_float(b"a", 16, f64::MAX, &mut applied).is_err(), "too large");
        assert_eq!(deltas.add_float(b"a", 16, -1.0, &mut applied), Ok(f64::MAX));
        // A bucket more than the count says, and a sum that is no number.
        let wrong = Exponential { count: 1, positive: (0, vec![2]), ..Exponential::default() };
        let endless = Exponential { sum: f64::INFINITY, ..Exponential::default() };
        for point in [wrong, endless] {
            let counts = point.counts().expect("in range");
            assert!(deltas.add_histogram(b"h", 15, &counts, &mut applied).is_err());
        }
        assert_eq!((deltas.len(), applied.0.len()), (1, 2));
    }

    #[test]
    fn buckets_are_bounded_and_counted() {
        let mut deltas = Deltas::default();
        let mut applied = Applied::default();
        let wide = Exponential {
            count: 5_000,
            scale: 8,
            positive: (0, vec![1; 5_000]),
            ..Exponential::default()
        };
        let counts = wide.counts().expect("in range");
        deltas.add_histogram(b"h", 1, &counts, &mut applied).expect("added");
        let bytes = deltas.bytes;
        assert!(bytes > 1 && bytes < counts.bytes() / 4, "{bytes}: coarser from the first on");
        let mut refused = Applied::default();
        deltas.add_histogram(b"i", 1, &counts, &mut refused).expect("added");
        deltas.add_histogram(b"h", 2, &counts, &mut refused).expect("added");
        assert_eq!(deltas.bytes, 2 * bytes);
        deltas.take_back(refused);
        assert_eq!(deltas.bytes, bytes);
    }
}
