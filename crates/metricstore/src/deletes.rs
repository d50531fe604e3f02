//! Deletes as reading applies them: which series of a source they hide, and in which time.
//!
//! Every source of samples, a generation of a head or a block, says through which number deletes
//! do not concern it (`docs/formats/catalog.md`). A delete with a higher number hides samples of
//! it. Nothing is looked at sample by sample: the hidden ranges of a series are subtracted from the
//! range that is asked for, and what remains is read.

use std::sync::Arc;

use catalog::Tombstone;
use model::{MatchOp, Matcher, MatcherError, TenantId, TimeRange};

use crate::registry::{HeadSeries, Registry};
use crate::series_bits::SeriesBits;

/// A delete, ready to be applied.
#[derive(Debug)]
pub struct Delete {
    tombstone: Arc<Tombstone>,
    selectors: Arc<[Vec<Matcher>]>,
}

impl Delete {
    /// Compiles the selectors.
    ///
    /// # Errors
    /// A pattern does not compile.
    pub fn new(tombstone: Arc<Tombstone>) -> Result<Self, MatcherError> {
        let mut selectors = Vec::with_capacity(tombstone.selectors.len());
        for selector in &tombstone.selectors {
            let matcher = |c: &catalog::LabelCondition| Matcher::new(&c.name, c.op, &c.value);
            selectors.push(selector.iter().map(matcher).collect::<Result<_, _>>()?);
        }
        Ok(Delete { tombstone, selectors: selectors.into() })
    }

    /// One that hides what is older than `before_ms`, whenever it was committed.
    pub(crate) fn older_than(
        before_ms: i64,
        tenant: TenantId,
        selectors: &Arc<[Vec<Matcher>]>,
    ) -> Self {
        let tombstone = Tombstone {
            number: u64::MAX,
            tenant,
            signal: catalog::Signal::Metrics,
            range: TimeRange::new(i64::MIN, before_ms),
            at_ms: before_ms,
            // Nobody compiles these again.
            selectors: Vec::new(),
        };
        Delete { tombstone: Arc::new(tombstone), selectors: Arc::clone(selectors) }
    }

    /// What the catalog says of it.
    pub fn tombstone(&self) -> &Tombstone {
        &self.tombstone
    }

    pub(crate) fn selectors(&self) -> &[Vec<Matcher>] {
        &self.selectors
    }
}

/// Deletes that may hide something, in ascending order of numbers. Cloning copies nothing.
#[derive(Debug, Clone, Default)]
pub struct Deletes(Arc<[Arc<Delete>]>);

impl Deletes {
    /// `deletes` must be in ascending order of numbers.
    pub fn new(deletes: Vec<Arc<Delete>>) -> Self {
        Deletes(deletes.into())
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All, in ascending order of numbers.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Arc<Delete>> {
        self.0.iter()
    }

    /// Those up to a number.
    #[must_use]
    pub fn through(&self, number: u64) -> Deletes {
        let first = self.iter().filter(|delete| delete.tombstone.number <= number);
        Deletes(first.cloned().collect())
    }

    /// Those that may hide samples in a range.
    #[must_use]
    pub fn overlapping(&self, range: TimeRange) -> Deletes {
        // Fast path: nothing is deleted, nothing is copied.
        if self.is_empty() {
            return self.clone();
        }
        Deletes(self.after(0, range).cloned().collect())
    }

    /// Those of one tenant.
    #[must_use]
    pub fn of_tenant(&self, tenant: TenantId) -> Deletes {
        // Fast path: nothing is deleted, nothing is copied.
        if self.is_empty() {
            return self.clone();
        }
        let of_tenant = self.iter().filter(|delete| delete.tombstone.tenant == tenant);
        Deletes(of_tenant.cloned().collect())
    }

    /// Series of a head, of one tenant, that some of these may concern, ascending.
    pub fn concerned(
        &self,
        registry: &Registry,
        tenant: TenantId,
        matchers: &[Matcher],
    ) -> HeadSeries {
        let select = |matchers: &[Matcher]| registry.select(tenant, matchers).ordinals;
        let masks = Masks::find(self.iter(), matchers, select);
        HeadSeries { ordinals: masks.series() }
    }

    /// Series of a head, of one tenant, that some of these concern, ascending, and when the last
    /// of those was made.
    pub(crate) fn concerned_at(&self, registry: &Registry, tenant: TenantId) -> Vec<(u32, i64)> {
        let select = |matchers: &[Matcher]| registry.select(tenant, matchers).ordinals;
        let mut last: Vec<Option<i64>> = Vec::new();
        // One by one: together they might concern many times as many series as there are.
        for delete in self.iter() {
            let at_ms = Some(delete.tombstone.at_ms);
            for series in Masks::find(std::iter::once(delete), &[], select).series() {
                let place = series as usize;
                if last.len() <= place {
                    last.resize(place + 1, None);
                }
                last[place] = last[place].max(at_ms);
            }
        }
        let concerned = last.into_iter().enumerate();
        concerned.filter_map(|(series, at_ms)| Some((series as u32, at_ms?))).collect()
    }

    /// Those that may hide samples in `range` of a source to which deletes up to `through` are no
    /// matter.
    pub(crate) fn after(
        &self,
        through: u64,
        range: TimeRange,
    ) -> impl Iterator<Item = &Arc<Delete>> {
        self.iter().filter(move |delete| {
            delete.tombstone.number > through && delete.tombstone.range.overlaps(&range)
        })
    }
}

/// The series of one source that deletes concern.
#[derive(Debug, Default)]
pub(crate) struct Masks {
    deletes: Vec<Arc<Delete>>,
    /// Series and index of a delete, ascending, of deletes that concern few series.
    few: Vec<(u32, u32)>,
    /// Series and index of a delete, of the others: a thousand deletes of everything take an eighth
    /// of a kilobyte per series.
    many: Vec<(SeriesBits, u32)>,
}

impl Masks {
    /// Of the series that satisfy `matchers`, those that some of `deletes` concern. `select` asks
    /// the source's index; it is not asked about selectors that no such series can satisfy.
    pub(crate) fn find<'a>(
        deletes: impl Iterator<Item = &'a Arc<Delete>>,
        matchers: &[Matcher],
        select: impl Fn(&[Matcher]) -> Vec<u32>,
    ) -> Masks {
        let mut masks = Masks::default();
        for delete in deletes {
            let index = masks.deletes.len() as u32;
            let mut concerned: Vec<u32> = Vec::new();
            for selector in delete.selectors.iter().filter(|s| may_meet(s, matchers)) {
                let both = [matchers, selector].concat();
                concerned.append(&mut select(&both));
                // At once, as many selectors may find the same series. These are two ascending
                // runs, which this sort merges in linear time.
                concerned.sort();
                concerned.dedup();
            }
            if SeriesBits::is_smaller(&concerned) {
                masks.many.push((SeriesBits::of(&concerned), index));
            } else {
                masks.few.extend(concerned.into_iter().map(|series| (series, index)));
            }
            masks.deletes.push(Arc::clone(delete));
        }
        masks.few.sort_unstable();
        masks
    }

    /// Whether no series is concerned.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.few.is_empty() && self.many.is_empty()
    }

    /// What deletes after `through` leave of `range` of a series, ascending, possibly nothing;
    /// `None` if it is untouched.
    #[inline]
    pub(crate) fn kept(
        &self,
        series: u32,
        through: u64,
        range: TimeRange,
    ) -> Option<Vec<TimeRange>> {
        // Fast path: nothing is deleted here.
        if self.is_empty() {
            return None;
        }
        self.subtract(series, through, range)
    }

    fn subtract(&self, series: u32, through: u64, range: TimeRange) -> Option<Vec<TimeRange>> {
        let start = self.few.partition_point(|(known, _)| *known < series);
        let few = self.few[start..].iter().take_while(|(known, _)| *known == series);
        let many = self.many.iter().filter(|(set, _)| set.contains(series));
        let concerning = few.map(|(_, index)| *index).chain(many.map(|(_, index)| *index));
        let mut kept = None;
        for index in concerning {
            let tombstone = &self.deletes[index as usize].tombstone;
            if tombstone.number > through && tombstone.range.overlaps(&range) {
                let kept = kept.get_or_insert_with(|| vec![range]);
                cut_out(kept, tombstone.range);
                if kept.is_empty() {
                    break;
                }
            }
        }
        kept
    }

    /// The series concerned, ascending.
    pub(crate) fn series(&self) -> Vec<u32> {
        let mut many = SeriesBits::default();
        self.many.iter().for_each(|(set, _)| many.add(set));
        let mut all: Vec<u32> = self.few.iter().map(|(series, _)| *series).collect();
        all.dedup();
        all.extend(many.iter());
        // Two ascending runs, which this merges.
        all.sort();
        all.dedup();
        all
    }

    /// What the deletes and `matchers` ask for together, each an alternative.
    pub(crate) fn selectors(&self, matchers: &[Matcher]) -> Vec<Vec<Matcher>> {
        let all = self.deletes.iter().flat_map(|delete| delete.selectors.iter());
        all.filter(|s| may_meet(s, matchers)).map(|s| [matchers, s].concat()).collect()
    }
}

/// Takes `hole` out of ascending ranges.
fn cut_out(ranges: &mut Vec<TimeRange>, hole: TimeRange) {
    let mut left = Vec::with_capacity(ranges.len() + 1);
    for range in ranges.drain(..) {
        let before = TimeRange::new(range.start_ms, range.end_ms.min(hole.start_ms));
        let after = TimeRange::new(range.start_ms.max(hole.end_ms), range.end_ms);
        left.extend([before, after].into_iter().filter(|part| !part.is_empty()));
    }
    *ranges = left;
}

/// Whether a series might satisfy both, as far as conditions that name one value can tell. Most
/// queries and most deletes name a metric, and then this spares the index.
fn may_meet(selector: &[Matcher], matchers: &[Matcher]) -> bool {
    let contradicts = |one: &Matcher, other: &Matcher| {
        one.op == MatchOp::Equal && one.name == other.name && !other.matches(&one.value)
    };
    !selector.iter().any(|a| matchers.iter().any(|b| contradicts(a, b) || contradicts(b, a)))
}

/// Whether some of `kept` holds everything between two timestamps, both inclusive, that lies in
/// `range`.
pub(crate) fn is_whole(kept: &[TimeRange], range: TimeRange, (min_ms, max_ms): (i64, i64)) -> bool {
    let (start_ms, last_ms) = (min_ms.max(range.start_ms), max_ms.min(range.end_ms - 1));
    kept.iter().any(|kept| kept.start_ms <= start_ms && last_ms < kept.end_ms)
}

/// Whether some of `kept` has a timestamp between two, both inclusive.
pub(crate) fn meets(kept: &[TimeRange], (min_ms, max_ms): (i64, i64)) -> bool {
    kept.iter().any(|kept| kept.start_ms <= max_ms && min_ms < kept.end_ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(start: i64, end: i64) -> TimeRange {
        TimeRange::new(start, end)
    }

    #[test]
    fn holes_are_cut_out() {
        let cut = |holes: &[(i64, i64)]| {
            let mut ranges = vec![range(0, 10)];
            holes.iter().for_each(|hole| cut_out(&mut ranges, range(hole.0, hole.1)));
            ranges
        };
        assert_eq!(cut(&[(20, 30), (10, 12), (-5, 0)]), [range(0, 10)]);
        assert_eq!(cut(&[(2, 4), (3, 6)]), [range(0, 2), range(6, 10)]);
        assert_eq!(cut(&[(-9, 3), (9, 99)]), [range(3, 9)]);
        assert_eq!(cut(&[(i64::MIN, i64::MAX)]), []);
    }

    #[test]
    fn selectors_that_find_the_same_series_hide_it_once() {
        let condition = catalog::LabelCondition {
            name: "__name__".to_owned(),
            op: MatchOp::Regex,
            value: ".+".to_owned(),
        };
        let delete = |number| {
            let tombstone = Tombstone {
                number,
                tenant: TenantId(0),
                signal: catalog::Signal::Metrics,
                range: TimeRange::all(),
                at_ms: 0,
                selectors: vec![vec![condition.clone()]; catalog::MAX_TOMBSTONE_SELECTORS],
            };
            Arc::new(Delete::new(Arc::new(tombstone)).expect("a pattern"))
        };
        let deletes = [delete(1), delete(2)];
        let masks = Masks::find(deletes.iter(), &[], |_| (0..1_000).collect());
        assert!(masks.series().into_iter().eq(0..1_000) && masks.few.is_empty());
        assert_eq!(masks.many.len(), 2);
        let few = |_: &[Matcher]| (0..1_000).map(|n| n * 100).collect();
        let masks = Masks::find(deletes.iter(), &[], few);
        let expected: Vec<_> = (0..1_000).flat_map(|n| [(100 * n, 0), (100 * n, 1)]).collect();
        assert_eq!(masks.few, expected);
        let held = masks.few.capacity();
        assert!(held <= 4_000, "room for {held} where 2,000 are needed");
    }

    #[test]
    fn a_thousand_deletes_of_everything_take_little() {
        let tombstone = |number| Tombstone {
            number,
            tenant: TenantId(0),
            signal: catalog::Signal::Metrics,
            range: range(10 * number as i64, 10 * number as i64 + 5),
            at_ms: 0,
            selectors: vec![vec![]],
        };
        let deletes: Vec<Arc<Delete>> = (1..=1_000)
            .map(|number| Arc::new(Delete::new(Arc::new(tombstone(number))).expect("no pattern")))
            .collect();
        let series = 100_000;
        let masks = Masks::find(deletes.iter(), &[], |_| (0..series).collect());
        let bytes: usize = masks.many.iter().map(|(set, _)| set.bytes()).sum();
        assert!(
            masks.few.is_empty() && bytes <= 1_000 * (series as usize / 8 + 8),
            "{bytes} bytes"
        );
        let kept = masks.kept(series - 1, 999, range(9_990, 10_010));
        assert_eq!(kept, Some(vec![range(9_990, 10_000), range(10_005, 10_010)]));
        assert_eq!(masks.kept(series, 0, range(0, 10_010)), None);
    }

    #[test]
    fn selectors_that_cannot_meet_are_told() {
        let matcher = |name: &str, op, value: &str| {
            Matcher::new(name, op, value).expect("a matcher of this test")
        };
        let up = [matcher("__name__", MatchOp::Equal, "up")];
        let down = [matcher("__name__", MatchOp::Equal, "down")];
        let pattern = [matcher("__name__", MatchOp::Regex, "d.*")];
        let other = [matcher("job", MatchOp::Equal, "x")];
        assert!(!may_meet(&up, &down));
        assert!(!may_meet(&pattern, &up) && !may_meet(&up, &pattern));
        assert!(may_meet(&pattern, &down) && may_meet(&other, &up) && may_meet(&up, &[]));
    }
}
