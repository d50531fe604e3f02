//! From deltas to the running totals that Prometheus' functions expect.

use std::borrow::Cow;
use std::collections::HashMap;
use std::ops::RangeInclusive;

use model::{Histogram, Share, TenantName};

use super::exponential::Counts;

/// Series whose total is kept.
const SERIES: Share = Share::of_one_alone(500_000);
/// Bytes of their labels and of the counts of their histograms.
const BYTES: Share = Share::of_one_alone(256 << 20);
/// A series without deltas for this long is forgotten when room is needed.
const IDLE_MS: i64 = 60 * 60 * 1_000;
/// All series are looked through for idle ones at most so often: a tenant without room asks for it with
/// each of its deltas, and everybody's wait meanwhile.
const FORGET_EVERY_MS: i64 = 60 * 1_000;

/// Totals of the series that come as deltas, by tenant and labels.
///
/// They are in memory only: after a restart, or once a series was forgotten, its total begins at
/// zero. `rate` and `increase` take that for a counter that was reset where the new total is below
/// the old one; where it is not, and for the first delta of the new total, they show less than what
/// was sent.
#[derive(Debug)]
pub struct Deltas {
    by_tenant: HashMap<TenantName, OfTenant>,
    /// Of all tenants.
    series: usize,
    /// Likewise.
    bytes: usize,
    /// Whose deltas come.
    tenant: TenantName,
    /// When they come.
    now_ms: i64,
    /// When idle series were forgotten last.
    forgot_ms: i64,
    /// Times that are stored; `None` for all.
    admitted: Option<RangeInclusive<i64>>,
    series_share: Share,
    bytes_share: Share,
}

#[derive(Debug, Default)]
struct OfTenant {
    series: HashMap<Box<[u8]>, Total>,
    /// Of labels and of counts of histograms.
    bytes: usize,
}

impl Default for Deltas {
    fn default() -> Self {
        Deltas {
            by_tenant: HashMap::new(),
            series: 0,
            bytes: 0,
            tenant: TenantName::DEFAULT,
            now_ms: 0,
            forgot_ms: i64::MIN,
            admitted: None,
            series_share: SERIES,
            bytes_share: BYTES,
        }
    }
}

#[derive(Debug, Clone)]
struct Total {
    /// The time of its last delta, by the sender.
    last_ms: i64,
    /// When that came.
    seen_ms: i64,
    value: Value,
}

#[derive(Debug, Clone)]
enum Value {
    Float(f64),
    Histogram(Box<Counts>),
}

impl Total {
    /// Bytes beside the entry itself, which are bounded by their number.
    fn bytes(&self) -> usize {
        match &self.value {
            Value::Float(_) => 0,
            Value::Histogram(counts) => counts.bytes(),
        }
    }
}

/// What a request of one tenant has added, so that it can be taken back if it is not stored.
#[derive(Debug, Default)]
pub struct Applied {
    tenant: TenantName,
    /// Labels, and what there was before.
    series: Vec<(Box<[u8]>, Option<Total>)>,
}

/// Why a delta is refused, in words for the sender.
type Reason = Cow<'static, str>;

impl Deltas {
    /// Refuses deltas of other times from now on: they would count in the total and not be stored.
    pub fn admit(&mut self, times_ms: RangeInclusive<i64>) {
        self.admitted = Some(times_ms);
    }

    /// Whose deltas come from now on, which is `now_ms`.
    pub fn begin(&mut self, tenant: TenantName, now_ms: i64) {
        self.tenant = tenant;
        self.now_ms = now_ms;
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
    ) -> Result<f64, Reason> {
        let sum = match self.before(labels, t_ms)? {
            None => delta,
            Some(Value::Float(value)) => value + delta,
            Some(Value::Histogram(_)) => return Err(CHANGED.into()),
        };
        if !sum.is_finite() {
            return Err(NOT_FINITE.into());
        }
        self.put(labels, self.total(t_ms, Value::Float(sum)), applied)?;
        Ok(sum)
    }

    /// As [`Deltas::add_float`], for exponential histograms.
    pub(super) fn add_histogram(
        &mut self,
        labels: &[u8],
        t_ms: i64,
        delta: &Counts,
        applied: &mut Applied,
    ) -> Result<Histogram, Reason> {
        let before = match self.before(labels, t_ms)? {
            None => None,
            Some(Value::Histogram(counts)) => Some(counts.clone()),
            Some(Value::Float(_)) => return Err(CHANGED.into()),
        };
        if delta.to_native().validate().is_err() {
            return Err(
                "an exponential histogram whose counts, buckets or bounds do not agree".into()
            );
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
            return Err(NOT_FINITE.into());
        }
        let native = sum.to_native();
        if native.validate().is_err() {
            return Err("the total of an exponential histogram's deltas cannot be stored".into());
        }
        self.put(labels, self.total(t_ms, Value::Histogram(sum)), applied)?;
        Ok(native)
    }

    /// Makes undone what a request that was not stored has added.
    pub fn take_back(&mut self, applied: Applied) {
        let Some(of_tenant) = self.by_tenant.get_mut(&applied.tenant) else { return };
        let (series, bytes) = (of_tenant.series.len(), of_tenant.bytes);
        // The first entry of a series is what there was before the request.
        for (labels, before) in applied.series.into_iter().rev() {
            if let Some(total) = of_tenant.series.remove(&labels) {
                of_tenant.bytes -= labels.len() + total.bytes();
            }
            if let Some(total) = before {
                of_tenant.bytes += labels.len() + total.bytes();
                of_tenant.series.insert(labels, total);
            }
        }
        self.series = self.series - series + of_tenant.series.len();
        self.bytes = self.bytes - bytes + of_tenant.bytes;
    }

    /// Number of series of all tenants whose total is kept.
    pub fn len(&self) -> usize {
        self.series
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.series == 0
    }

    /// The total so far, if a delta of that time may be added to it.
    fn before(&self, labels: &[u8], t_ms: i64) -> Result<Option<&Value>, Reason> {
        if self.admitted.as_ref().is_some_and(|times_ms| !times_ms.contains(&t_ms)) {
            return Err("a delta further in the future than limits.max_future_ms, or older than \
                        the retention"
                .into());
        }
        match self.kept(labels) {
            Some(total) if t_ms <= total.last_ms => {
                Err("a delta that is not newer than the one before it of its series".into())
            }
            total => Ok(total.map(|total| &total.value)),
        }
    }

    fn total(&self, last_ms: i64, value: Value) -> Total {
        Total { last_ms, seen_ms: self.now_ms, value }
    }

    fn kept(&self, labels: &[u8]) -> Option<&Total> {
        self.by_tenant.get(&self.tenant)?.series.get(labels)
    }

    fn put(&mut self, labels: &[u8], total: Total, applied: &mut Applied) -> Result<(), Reason> {
        if self.check_room(labels, &total).is_err() {
            self.forget_idle();
            self.check_room(labels, &total)?;
        }
        let more_bytes = total.bytes();
        let of_tenant = self.by_tenant.entry(self.tenant).or_default();
        let (before, fewer_bytes) = match of_tenant.series.get_mut(labels) {
            Some(kept) => {
                let before = std::mem::replace(kept, total);
                let bytes = before.bytes();
                (Some(before), bytes)
            }
            None => {
                of_tenant.bytes += labels.len();
                self.bytes += labels.len();
                self.series += 1;
                of_tenant.series.insert(labels.into(), total);
                (None, 0)
            }
        };
        of_tenant.bytes = of_tenant.bytes + more_bytes - fewer_bytes;
        self.bytes = self.bytes + more_bytes - fewer_bytes;
        applied.tenant = self.tenant;
        applied.series.push((labels.into(), before));
        Ok(())
    }

    /// Whether the tenant may have what `total` takes more than what is kept of its series.
    fn check_room(&self, labels: &[u8], total: &Total) -> Result<(), Reason> {
        let (more_series, more_bytes) = match self.kept(labels) {
            Some(kept) => (0, total.bytes().saturating_sub(kept.bytes())),
            None => (1, labels.len() + total.bytes()),
        };
        let of_tenant = self.by_tenant.get(&self.tenant);
        let (series, bytes) = of_tenant.map_or((0, 0), |of| (of.series.len(), of.bytes));
        for (what, own, more, all, share) in [
            ("series", series, more_series, self.series, self.series_share),
            ("bytes of labels and buckets", bytes, more_bytes, self.bytes, self.bytes_share),
        ] {
            share.admit(own, more, all - own).map_err(|limit| {
                format!(
                    "too much of the tenant {} comes as deltas: the limit is {limit} {what} ({}); \
                     let the sender use cumulative temporality",
                    self.tenant,
                    share.rule()
                )
            })?;
        }
        Ok(())
    }

    /// Forgets series of every tenant that have no deltas any more, unless it did so a moment ago.
    #[cold]
    fn forget_idle(&mut self) {
        let now_ms = self.now_ms;
        // Also where the clock was set back.
        if (self.forgot_ms..self.forgot_ms.saturating_add(FORGET_EVERY_MS)).contains(&now_ms) {
            return;
        }
        self.forgot_ms = now_ms;
        self.by_tenant.retain(|_, of_tenant| {
            let series = &mut of_tenant.series;
            series.retain(|_, total| total.seen_ms > now_ms.saturating_sub(IDLE_MS));
            let bytes = series.iter().map(|(labels, total)| labels.len() + total.bytes());
            of_tenant.bytes = bytes.sum();
            !series.is_empty()
        });
        self.series = self.by_tenant.values().map(|of| of.series.len()).sum();
        self.bytes = self.by_tenant.values().map(|of| of.bytes).sum();
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
        deltas.begin(tenants[0], 0);
        assert_eq!(deltas.add_float(b"x", 5, 5.0, &mut applied), Ok(5.0));
        deltas.begin(tenants[1], 0);
        assert_eq!(deltas.add_float(b"x", 1, 1.0, &mut applied), Ok(1.0));
        let mut refused = Applied::default();
        assert_eq!(deltas.add_float(b"x", 2, 1.0, &mut refused), Ok(2.0));
        deltas.begin(tenants[0], 0);
        assert_eq!(deltas.add_float(b"x", 6, 1.0, &mut applied), Ok(6.0));
        deltas.take_back(refused);
        deltas.begin(tenants[1], 0);
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
        let share = Share::of_one_alone(2);
        let mut deltas = Deltas { series_share: share, ..Deltas::default() };
        let mut applied = Applied::default();
        for labels in [b"a", b"b"] {
            assert_eq!(deltas.add_float(labels, 1, 1.0, &mut applied), Ok(1.0));
        }
        // What senders say of the time makes nobody's series idle.
        let late = i64::MAX;
        assert!(deltas.add_float(b"c", late, 1.0, &mut applied).is_err(), "nothing is idle");
        deltas.begin(TenantName::DEFAULT, IDLE_MS);
        assert_eq!(deltas.add_float(b"a", 2, 1.0, &mut applied), Ok(2.0), "it is known");
        assert_eq!(deltas.add_float(b"c", 1, 1.0, &mut applied), Ok(1.0));
        assert_eq!((deltas.len(), deltas.bytes), (2, 2));
        // Within a minute nobody looks again.
        for (now_ms, is_added) in [(FORGET_EVERY_MS - 1, false), (FORGET_EVERY_MS, true)] {
            deltas.begin(TenantName::DEFAULT, 2 * IDLE_MS);
            deltas.forgot_ms = 2 * IDLE_MS - now_ms;
            assert_eq!(deltas.add_float(b"d", 1, 1.0, &mut applied).is_ok(), is_added);
        }
        // Nor for long where the clock was set back.
        assert!(deltas.add_float(b"e", 1, 1.0, &mut applied).is_ok());
        deltas.begin(TenantName::DEFAULT, IDLE_MS);
        assert!(deltas.add_float(b"f", 1, 1.0, &mut applied).is_err());
        assert_eq!(deltas.forgot_ms, IDLE_MS);
    }

    #[test]
    fn one_tenant_leaves_room_for_others() {
        for (series, bytes) in [(300, 1 << 20), (1 << 20, 1_200)] {
            let series_share = Share::of_one_alone(series);
            let bytes_share = Share::of_one_alone(bytes);
            let mut deltas = Deltas { series_share, bytes_share, ..Deltas::default() };
            let mut applied = Applied::default();
            let tenants = ["a", "b", "c"].map(|name| TenantName::parse(name).expect("a name"));
            let taken = tenants.map(|tenant| {
                deltas.begin(tenant, 0);
                let add = |number: &u32| {
                    deltas.add_float(&number.to_le_bytes(), 1, 1.0, &mut applied).is_ok()
                };
                (0..1_000).filter(add).count()
            });
            assert_eq!(taken, [300, 100, 33]);
            let refusal = deltas.add_float(b"next", 1, 1.0, &mut applied).expect_err("full");
            let names_all = ["tenant c", "limit is", "two thirds", "cumulative temporality"]
                .iter()
                .all(|part| refusal.contains(part));
            assert!(names_all, "{refusal}");
            deltas.take_back(applied);
            assert_eq!((deltas.len(), deltas.bytes), (400, 1_600), "only what is of the last one");
        }
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
        assert_eq!((deltas.len(), applied.series.len()), (1, 2));
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
