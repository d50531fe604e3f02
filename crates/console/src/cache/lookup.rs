//! Which steps of a query are in the cache and still hold, and which are to be computed.

use model::TimeRange;
use promql::Locality;

use super::extent::{Extent, Piece, Version};
use crate::data::DataChanges;

/// More runs of steps than this are not computed one by one: each selects its series anew.
const MAX_GAPS: usize = 4;
/// Fewer steps than this are not worth a computation of their own, to be kept apart from those that
/// are too young.
const MIN_KEPT_STEPS: i64 = 8;

/// The steps of a query, and what each depends on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted {
    /// First step.
    pub(crate) start_ms: i64,
    /// Last step.
    pub(crate) end_ms: i64,
    pub(crate) step_ms: i64,
    pub(crate) locality: Locality,
}

/// What came of a look into the cache.
pub(crate) struct Lookup {
    /// What is there, ascending in time.
    pub(crate) found: Vec<Piece>,
    /// What is to be computed: first and last step of each run, and whether the result may be kept.
    pub(crate) gaps: Vec<(i64, i64, bool)>,
    /// What holds of the extents that were looked at, as of the version now.
    pub(crate) holding: Vec<Extent>,
    /// The version of what is computed now.
    pub(crate) version: Version,
    /// Steps that hold no more.
    pub(crate) invalid_steps: u64,
}

impl Wanted {
    /// The steps of a range, of which there is at least one.
    pub(crate) fn new((start_ms, end_ms, step_ms): (i64, i64, i64), locality: Locality) -> Self {
        let last = end_ms.saturating_sub(start_ms) / step_ms;
        Wanted { start_ms, end_ms: start_ms + last * step_ms, step_ms, locality }
    }

    pub(crate) fn steps(&self) -> i64 {
        (self.end_ms - self.start_ms) / self.step_ms + 1
    }

    /// Where samples lie that the steps from `start_ms` to `end_ms` depend on.
    fn window(&self, start_ms: i64, end_ms: i64) -> TimeRange {
        let Locality { back_ms, ahead_ms } = self.locality;
        let end_ms = end_ms.saturating_add(ahead_ms).saturating_add(1);
        TimeRange::new(start_ms.saturating_sub(back_ms), end_ms)
    }

    /// Changes of samples in this range matter to these steps and to `extents`.
    pub(crate) fn reach(&self, extents: &[Extent]) -> TimeRange {
        let own = self.window(self.start_ms, self.end_ms);
        let windows = extents.iter().map(|extent| self.window(extent.start_ms, extent.end_ms));
        windows.fold(own, |all, one| {
            TimeRange::new(all.start_ms.min(one.start_ms), all.end_ms.max(one.end_ms))
        })
    }

    /// The first step at or after `t_ms`.
    fn step_from(&self, t_ms: i64) -> i64 {
        let ahead = t_ms.saturating_sub(self.start_ms).rem_euclid(self.step_ms);
        if ahead == 0 { t_ms } else { t_ms.saturating_add(self.step_ms - ahead) }
    }

    /// The last step before `t_ms`.
    fn step_before(&self, t_ms: i64) -> i64 {
        self.step_from(t_ms).saturating_sub(self.step_ms)
    }

    /// The steps of `extent` that no change since concerns: first and last of each run.
    fn holding(&self, extent: &Extent, changes: &DataChanges) -> Vec<(i64, i64)> {
        let version = extent.version;
        if version.store != changes.store {
            return Vec::new();
        }
        let mut runs = vec![(extent.start_ms, extent.end_ms)];
        let later = changes.ranges.iter().filter(|(_, number)| *number > version.number);
        let (from_ms, to_ms) =
            (version.at_ms.min(changes.at_ms), version.at_ms.max(changes.at_ms).saturating_add(1));
        let expired = changes.kept_ms.iter().map(|kept_ms| {
            TimeRange::new(from_ms.saturating_sub(*kept_ms), to_ms.saturating_sub(*kept_ms))
        });
        for range in later.map(|(range, _)| *range).chain(expired) {
            // Steps whose window has some of the range.
            let Locality { back_ms, ahead_ms } = self.locality;
            let first = self.step_from(range.start_ms.saturating_sub(ahead_ms));
            let last = self.step_before(range.end_ms.saturating_add(back_ms));
            let mut left = Vec::with_capacity(runs.len() + 1);
            for (start_ms, end_ms) in runs {
                if last < start_ms || end_ms < first {
                    left.push((start_ms, end_ms));
                    continue;
                }
                if start_ms < first {
                    left.push((start_ms, first - self.step_ms));
                }
                if last < end_ms {
                    left.push((last + self.step_ms, end_ms));
                }
            }
            runs = left;
        }
        runs
    }

    /// What is there, given what changed; steps after `newest_ms` are not kept.
    pub(crate) fn look(&self, extents: &[Extent], changes: &DataChanges, newest_ms: i64) -> Lookup {
        let version =
            Version { store: changes.store, number: changes.number, at_ms: changes.at_ms };
        let mut holding = Vec::new();
        let mut invalid_steps = 0;
        for extent in extents {
            let runs = self.holding(extent, changes);
            let steps = |(start_ms, end_ms): (i64, i64)| (end_ms - start_ms) / self.step_ms + 1;
            let held: i64 = runs.iter().copied().map(steps).sum();
            invalid_steps += (steps((extent.start_ms, extent.end_ms)) - held) as u64;
            holding.extend(runs.iter().map(|&(start_ms, end_ms)| {
                if (start_ms, end_ms) == (extent.start_ms, extent.end_ms) {
                    return Extent { version, ..extent.clone() };
                }
                let part = Extent { start_ms, end_ms, version, ..extent.clone() };
                Extent::joined(std::slice::from_ref(&part), i64::MIN)
            }));
        }
        let clip = |extent: &Extent| {
            let (start_ms, end_ms) =
                (extent.start_ms.max(self.start_ms), extent.end_ms.min(self.end_ms));
            (start_ms <= end_ms).then(|| extent.piece(start_ms, end_ms))
        };
        let mut found: Vec<Piece> = holding.iter().filter_map(clip).collect();
        let mut gaps = self.gaps(&found);
        while gaps.len() > MAX_GAPS {
            // The shortest piece is computed with the gaps around it.
            let shortest =
                (0..found.len()).min_by_key(|at| found[*at].end_ms - found[*at].start_ms);
            let Some(shortest) = shortest else { break };
            found.remove(shortest);
            gaps = self.gaps(&found);
        }
        // What is computed once more is kept once: extents must not overlap.
        holding.retain(|extent| {
            gaps.iter()
                .all(|(start_ms, end_ms)| extent.end_ms < *start_ms || *end_ms < extent.start_ms)
        });
        let newest_ms = self.step_before(newest_ms.saturating_add(1));
        let gaps = gaps.into_iter().flat_map(|gap| self.kept_apart(gap, newest_ms)).collect();
        Lookup { found, gaps, holding, version, invalid_steps }
    }

    /// The steps that are in none of `found`.
    fn gaps(&self, found: &[Piece]) -> Vec<(i64, i64)> {
        let mut gaps = Vec::new();
        let mut next = self.start_ms;
        for piece in found {
            if next < piece.start_ms {
                gaps.push((next, piece.start_ms - self.step_ms));
            }
            next = piece.end_ms + self.step_ms;
        }
        if next <= self.end_ms {
            gaps.push((next, self.end_ms));
        }
        gaps
    }

    /// A gap, divided into what may be kept and what is too young.
    fn kept_apart(&self, (start_ms, end_ms): (i64, i64), newest_ms: i64) -> Vec<(i64, i64, bool)> {
        if end_ms <= newest_ms {
            return vec![(start_ms, end_ms, true)];
        }
        let kept = newest_ms.saturating_sub(start_ms) / self.step_ms + 1;
        if newest_ms < start_ms || kept < MIN_KEPT_STEPS {
            return vec![(start_ms, end_ms, false)];
        }
        vec![(start_ms, newest_ms, true), (newest_ms + self.step_ms, end_ms, false)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(start_ms: i64, end_ms: i64) -> Wanted {
        let locality = Locality { back_ms: 25, ahead_ms: 0 };
        Wanted::new((start_ms, end_ms, 10), locality)
    }

    fn extent(start_ms: i64, end_ms: i64, number: u64) -> Extent {
        let version = Version { store: 7, number, at_ms: 1_000 };
        Extent::new((start_ms, end_ms), Vec::new(), Vec::new(), version)
    }

    fn changes(ranges: &[(i64, i64, u64)]) -> DataChanges {
        let ranges =
            ranges.iter().map(|(start, end, n)| (TimeRange::new(*start, *end), *n)).collect();
        DataChanges { store: 7, number: 20, at_ms: 1_010, ranges, kept_ms: Vec::new() }
    }

    #[test]
    fn steps_that_could_see_a_change_do_not_hold() {
        let wanted = wanted(3, 203);
        let held = |ranges| wanted.holding(&extent(3, 203, 10), &changes(ranges));
        assert_eq!(held(&[]), [(3, 203)]);
        // What was known already does not matter.
        assert_eq!(held(&[(50, 60, 10)]), [(3, 203)]);
        // A sample at 50 is seen by the steps 53, 63 and 73 (its window has its start), one at 59
        // also by 83.
        assert_eq!(held(&[(50, 51, 11)]), [(3, 43), (83, 203)]);
        assert_eq!(held(&[(50, 60, 11)]), [(3, 43), (93, 203)]);
        assert_eq!(held(&[(0, 3, 11), (200, 300, 12)]), [(33, 193)]);
        assert_eq!(held(&[(i64::MIN, i64::MAX, 11)]), []);
        assert_eq!(held(&[(204, 205, 11), (-50, -25, 11)]), [(3, 203)]);
        let other = DataChanges { store: 8, ..changes(&[]) };
        assert_eq!(wanted.holding(&extent(3, 203, 10), &other), []);
        // Kept for 900 ms: what was at 100 to 110 went meanwhile.
        let expired = DataChanges { kept_ms: vec![900], ..changes(&[]) };
        assert_eq!(wanted.holding(&extent(3, 203, 10), &expired), [(3, 93), (143, 203)]);
    }

    #[test]
    fn what_is_not_there_is_computed_and_kept_unless_it_is_young() {
        let wanted = wanted(0, 500);
        let looked = wanted.look(&[extent(100, 200, 10)], &changes(&[]), 1_000);
        assert_eq!(looked.gaps, [(0, 90, true), (210, 500, true)]);
        let looked = wanted.look(&[extent(-100, 200, 10)], &changes(&[]), 405);
        assert_eq!(looked.gaps, [(210, 400, true), (410, 500, false)]);
        assert_eq!((looked.found[0].start_ms, looked.found[0].end_ms), (0, 200));
        assert_eq!(looked.holding[0].version.number, 20);
        // Not worth it yet.
        let looked = wanted.look(&[extent(-100, 380, 10)], &changes(&[]), 405);
        assert_eq!(looked.gaps, [(390, 500, false)]);
        let many: Vec<Extent> = (0..9).map(|n| extent(n * 50, n * 50 + 10 * (n % 3), 10)).collect();
        let looked = wanted.look(&many, &changes(&[]), 1_000);
        assert_eq!(looked.gaps.len(), MAX_GAPS);
        let steps = |(start, end): (i64, i64)| (end - start) / 10 + 1;
        let computed: i64 = looked.gaps.iter().map(|(start, end, _)| steps((*start, *end))).sum();
        let found: i64 = looked.found.iter().map(|p| steps((p.start_ms, p.end_ms))).sum();
        assert_eq!(computed + found, wanted.steps());
        let mut kept: Vec<_> = looked.holding.iter().map(|e| (e.start_ms, e.end_ms)).collect();
        kept.extend(looked.gaps.iter().map(|(start_ms, end_ms, _)| (*start_ms, *end_ms)));
        kept.sort_unstable();
        assert!(kept.windows(2).all(|pair| pair[0].1 < pair[1].0), "{kept:?}");
    }
}
