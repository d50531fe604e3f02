//! Which steps of a range are for whom.

use promql::Locality;

use super::Worker;

const DAY_MS: i64 = 86_400_000;
/// A step that needs samples of a longer time needs blocks of several days: nobody is near to it.
const MAX_WIDTH_MS: i64 = DAY_MS / 4;
/// Less than this of a day is not worth asking another broker.
const MIN_ELSEWHERE_MS: i64 = DAY_MS / 4;
/// More days than this are not looked at one by one.
const MAX_DAYS: usize = 1_000;

/// The steps from `start_ms` up to and including `end_ms`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cut {
    pub(crate) start_ms: i64,
    pub(crate) end_ms: i64,
    /// Who is nearer to them than this broker, the nearest first; if there is none, they are this one's.
    pub(crate) nearest: Vec<Worker>,
}

/// Cuts the steps from `start_ms` to `end_ms` into runs, ascending, that together are all of them. `None` if
/// all are for this broker. Days that `now_ms` has not passed yet are: all brokers have the heads, and a
/// dashboard's panels would meet at one broker.
///
/// `nearest` yields for each of the days (since the epoch) who is nearer than this broker.
pub(crate) fn cut(
    (start_ms, end_ms, step_ms): (i64, i64, i64),
    locality: Locality,
    now_ms: i64,
    nearest: impl FnOnce(&[i64]) -> Vec<Vec<Worker>>,
) -> Option<Vec<Cut>> {
    let Locality { back_ms, ahead_ms } = locality;
    if step_ms <= 0 || end_ms < start_ms || back_ms.saturating_add(ahead_ms) > MAX_WIDTH_MS {
        return None;
    }
    // The last sample that a step may see decides: one at midnight ends a day.
    let day_of = |t_ms: i64| t_ms.saturating_add(ahead_ms).saturating_sub(1).div_euclid(DAY_MS);
    let today = now_ms.div_euclid(DAY_MS);
    if day_of(start_ms) >= today {
        return None;
    }
    let (mut runs, mut days) = (Vec::new(), Vec::new());
    let mut first_ms = start_ms;
    while first_ms <= end_ms {
        let day = day_of(first_ms);
        let last_of_day_ms = (day + 1).saturating_mul(DAY_MS).saturating_sub(ahead_ms);
        let most_ms = if day < today { last_of_day_ms.min(end_ms) } else { end_ms };
        let steps = (most_ms.max(first_ms) - first_ms) / step_ms;
        let last_ms = first_ms + steps * step_ms;
        runs.push((first_ms, last_ms));
        days.push(day);
        if days.len() > MAX_DAYS {
            return None;
        }
        first_ms = last_ms.saturating_add(step_ms);
    }
    let past = days.partition_point(|day| *day < today);
    let mut nearest = nearest(&days[..past]);
    nearest.resize(runs.len(), Vec::new());
    let cuts = runs.into_iter().zip(nearest);
    let cuts =
        cuts.map(|((start_ms, end_ms), nearest)| Cut { start_ms, end_ms, nearest }).collect();
    let mut cuts = united(cuts);
    for cut in &mut cuts {
        if cut.end_ms - cut.start_ms < MIN_ELSEWHERE_MS.max(step_ms) {
            cut.nearest.clear();
        }
    }
    let cuts = united(cuts);
    cuts.iter().any(|cut| !cut.nearest.is_empty()).then_some(cuts)
}

/// Runs that follow each other and are for the same broker are one.
fn united(cuts: Vec<Cut>) -> Vec<Cut> {
    let mut united: Vec<Cut> = Vec::with_capacity(cuts.len());
    for cut in cuts {
        match united.last_mut() {
            Some(before) if before.nearest.first() == cut.nearest.first() => {
                before.end_ms = cut.end_ms;
            }
            _ => united.push(cut),
        }
    }
    united
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn worker(number: u64) -> Worker {
        Worker { number, name: format!("b{number}"), address: format!("b{number}:1") }
    }

    /// Days are dealt out in turn; 0 is this broker.
    fn dealt(brokers: u64) -> impl Fn(&[i64]) -> Vec<Vec<Worker>> {
        move |days| {
            let of = |day: &i64| match day.rem_euclid(brokers as i64) as u64 {
                0 => Vec::new(),
                number => vec![worker(number)],
            };
            days.iter().map(of).collect()
        }
    }

    const LOOKBACK: Locality = Locality { back_ms: 300_000, ahead_ms: 0 };
    const NOW_MS: i64 = 100 * DAY_MS + 3_600_000;

    fn shown(cuts: Option<Vec<Cut>>) -> Vec<(i64, i64, u64)> {
        let one = |cut: Cut| {
            let number = cut.nearest.first().map_or(0, |worker| worker.number);
            (cut.start_ms / 60_000, cut.end_ms / 60_000, number)
        };
        cuts.into_iter().flatten().map(one).collect()
    }

    #[test]
    fn each_day_goes_to_who_is_nearest_and_today_stays() {
        let range = (97 * DAY_MS, NOW_MS, 3_600_000);
        let found = shown(cut(range, LOOKBACK, NOW_MS, dealt(3)));
        let day = 24 * 60;
        let expected = [
            // It sees the day before alone.
            (97 * day, 97 * day, 0),
            (97 * day + 60, 98 * day, 1),
            (98 * day + 60, 99 * day, 2),
            (99 * day + 60, 100 * day + 60, 0),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn an_offset_moves_the_days() {
        let a_day_before = Locality { back_ms: DAY_MS + 300_000, ahead_ms: -DAY_MS };
        let range = (98 * DAY_MS + 60_000, 99 * DAY_MS, 60_000);
        let found = cut(range, a_day_before, NOW_MS, |days| {
            assert_eq!(days, [97]);
            vec![vec![worker(7)]]
        });
        assert_eq!(found.expect("elsewhere").len(), 1);
    }

    #[test]
    fn what_is_near_to_nobody_stays() {
        let range = (90 * DAY_MS, 99 * DAY_MS, 60_000);
        let wide = Locality { back_ms: DAY_MS, ahead_ms: 0 };
        assert_eq!(cut(range, wide, NOW_MS, dealt(3)), None);
        assert_eq!(cut(range, LOOKBACK, NOW_MS, |days| vec![Vec::new(); days.len()]), None);
        let today = (100 * DAY_MS + 1, NOW_MS, 60_000);
        assert_eq!(cut(today, LOOKBACK, NOW_MS, |_| panic!("nobody is asked for today")), None);
        let short = (97 * DAY_MS + 60_000, 97 * DAY_MS + 3_600_000, 60_000);
        assert_eq!(cut(short, LOOKBACK, NOW_MS, dealt(3)), None);
        // Each step is of a day of its own: no piece is computed of one step.
        let coarse = (0, 99 * DAY_MS, DAY_MS);
        let found = cut(coarse, LOOKBACK, NOW_MS, dealt(2));
        assert_eq!(found, None);
        assert_eq!(cut((0, i64::MAX, 60_000), LOOKBACK, i64::MAX, dealt(2)), None);
    }

    proptest! {
        #[test]
        fn no_step_is_lost_or_computed_twice(
            start_ms in 0..200 * DAY_MS,
            steps in 0_i64..3_000,
            step_ms in 1_000_i64..2 * DAY_MS,
            back_ms in 0..DAY_MS / 3,
            ahead_ms in -DAY_MS..DAY_MS / 3,
            brokers in 1_u64..5,
        ) {
            let end_ms = start_ms + steps * step_ms;
            let locality = Locality { back_ms: back_ms - ahead_ms.min(0), ahead_ms };
            let range = (start_ms, end_ms, step_ms);
            let Some(cuts) = cut(range, locality, NOW_MS, dealt(brokers)) else { return Ok(()) };
            let mut next_ms = start_ms;
            for cut in &cuts {
                prop_assert_eq!(cut.start_ms, next_ms);
                prop_assert!(cut.end_ms >= cut.start_ms);
                prop_assert_eq!((cut.end_ms - cut.start_ms) % step_ms, 0);
                next_ms = cut.end_ms + step_ms;
                if !cut.nearest.is_empty() {
                    prop_assert!(cut.end_ms > cut.start_ms);
                    prop_assert!(cut.end_ms + ahead_ms <= 100 * DAY_MS);
                }
            }
            prop_assert_eq!(next_ms, end_ms + step_ms);
        }
    }
}
