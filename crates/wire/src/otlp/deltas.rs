//! From deltas to the running totals that Prometheus' functions expect.

use std::collections::HashMap;

use model::Histogram;

use super::exponential::Counts;

/// Series whose total is kept.
const MAX_SERIES: usize = 500_000;
/// Bytes of their labels.
const MAX_LABEL_BYTES: usize = 256 << 20;
/// A series without deltas for this long is forgotten when room is needed.
const IDLE_MS: i64 = 60 * 60 * 1_000;

/// Totals of the series that come as deltas, by their labels.
///
/// They are in memory only: after a restart a total begins at zero, which `rate` and `increase`
/// take for a counter that was reset, and rightly so.
#[derive(Debug, Default)]
pub struct Deltas {
    series: HashMap<Box<[u8]>, Total>,
    label_bytes: usize,
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

/// What a request has added, so that it can be taken back if it is not stored.
#[derive(Debug, Default)]
pub struct Applied(Vec<(Box<[u8]>, Option<Total>)>);

impl Deltas {
    /// Adds a delta and yields the total.
    ///
    /// # Errors
    /// Why it is refused, in words for the sender.
    pub(super) fn add_float(
        &mut self,
        labels: &[u8],
        t_ms: i64,
        delta: f64,
        applied: &mut Applied,
    ) -> Result<f64, &'static str> {
        let total = self.total(labels, t_ms, applied, || Value::Float(0.0))?;
        match &mut total.value {
            Value::Float(value) => {
                *value += delta;
                Ok(*value)
            }
            Value::Histogram(_) => Err(CHANGED),
        }
    }

    /// As [`Deltas::add_float`], for exponential histograms.
    pub(super) fn add_histogram(
        &mut self,
        labels: &[u8],
        t_ms: i64,
        delta: &Counts,
        applied: &mut Applied,
    ) -> Result<Histogram, &'static str> {
        let mut is_new = false;
        let total = self.total(labels, t_ms, applied, || {
            is_new = true;
            Value::Histogram(Box::new(delta.clone()))
        })?;
        match &mut total.value {
            Value::Histogram(counts) => {
                if !is_new {
                    counts.add(delta);
                }
                Ok(counts.to_native())
            }
            Value::Float(_) => Err(CHANGED),
        }
    }

    /// Makes undone what a request that was not stored has added.
    pub fn take_back(&mut self, applied: Applied) {
        // The first entry of a series is what there was before the request.
        for (labels, before) in applied.0.into_iter().rev() {
            match before {
                Some(total) => {
                    self.series.insert(labels, total);
                }
                None => {
                    if self.series.remove(&labels).is_some() {
                        self.label_bytes -= labels.len();
                    }
                }
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

    fn total(
        &mut self,
        labels: &[u8],
        t_ms: i64,
        applied: &mut Applied,
        first: impl FnOnce() -> Value,
    ) -> Result<&mut Total, &'static str> {
        if self.series.contains_key(labels) {
            let total = self.series.get_mut(labels).expect("looked up above");
            if t_ms <= total.last_ms {
                return Err("a delta that is not newer than the one before it of its series");
            }
            applied.0.push((labels.into(), Some(total.clone())));
            total.last_ms = t_ms;
            return Ok(total);
        }
        if self.is_full(labels.len()) {
            self.forget_idle(t_ms);
            if self.is_full(labels.len()) {
                return Err("too many series come as deltas (the limit is 500,000 and 256 MiB of \
                            labels); let the sender use cumulative temporality");
            }
        }
        applied.0.push((labels.into(), None));
        self.label_bytes += labels.len();
        let total = Total { last_ms: t_ms, value: first() };
        Ok(self.series.entry(labels.into()).or_insert(total))
    }

    fn is_full(&self, more_bytes: usize) -> bool {
        self.series.len() >= MAX_SERIES || self.label_bytes + more_bytes > MAX_LABEL_BYTES
    }

    #[cold]
    fn forget_idle(&mut self, now_ms: i64) {
        self.series.retain(|_, total| total.last_ms > now_ms.saturating_sub(IDLE_MS));
        self.label_bytes = self.series.keys().map(|labels| labels.len()).sum();
    }
}

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
        let mut deltas = Deltas { label_bytes: MAX_LABEL_BYTES, ..Deltas::default() };
        let mut applied = Applied::default();
        // The count of bytes is taken anew, so there is room again.
        assert_eq!(deltas.add_float(b"a", 1, 1.0, &mut applied), Ok(1.0));
        assert_eq!(deltas.label_bytes, 1);
        deltas.forget_idle(1 + IDLE_MS);
        assert!(deltas.is_empty());
    }
}
