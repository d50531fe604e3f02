//! A generation against a list of what was appended.

use std::collections::BTreeMap;

use model::{Histogram, TimeRange};
use proptest::prelude::*;

use super::{Generation, Probes};
use crate::rows::HistogramRow;
use crate::tracks::MAX_TAIL_LEN;

const TARGETS: usize = 3;
const SERIES: usize = 4;

/// What comes next. Times are distances from the target's last scrape.
#[derive(Debug, Clone)]
enum Step {
    /// So many scrapes of a target; `missing` series of it have no sample in the first of them.
    Scrapes { target: usize, count: usize, step_ms: i64, missing: usize },
    /// Two targets that are scraped in the same millisecond, once.
    Together { step_ms: i64 },
    /// A sample of one series alone, maybe a late one.
    One { series: usize, distance_ms: i64 },
    /// A histogram of one series.
    Histogram { series: usize, distance_ms: i64 },
    /// All samples of one series and then those of the next, as an import brings them.
    Import { target: usize, count: usize },
}

fn step() -> impl Strategy<Value = Step> {
    let target = 0..TARGETS;
    let series = 0..TARGETS * SERIES;
    let step_ms = prop_oneof![Just(15_000_i64), 14_000_i64..16_000, Just(1 << 33)];
    prop_oneof![
        6 => (target.clone(), prop_oneof![1_usize..4, 100_usize..150], step_ms.clone(), 0..SERIES)
            .prop_map(|(target, count, step_ms, missing)| {
                Step::Scrapes { target, count, step_ms, missing }
            }),
        1 => step_ms.prop_map(|step_ms| Step::Together { step_ms }),
        2 => (series.clone(), -100_000_i64..20_000)
            .prop_map(|(series, distance_ms)| Step::One { series, distance_ms }),
        1 => (series, -100_000_i64..20_000)
            .prop_map(|(series, distance_ms)| Step::Histogram { series, distance_ms }),
        1 => (target, 1_usize..80).prop_map(|(target, count)| Step::Import { target, count }),
    ]
}

/// A generation as a shard drives it, and what it should have.
#[derive(Default)]
struct Tested {
    generation: Generation,
    floats: BTreeMap<(usize, i64), u64>,
    high_ms: BTreeMap<usize, i64>,
    count: u64,
}

impl Tested {
    fn note(&mut self, series: usize, t_ms: i64) {
        let high_ms = self.high_ms.entry(series).or_insert(t_ms);
        *high_ms = t_ms.max(*high_ms);
        self.count += 1;
    }

    fn push(&mut self, series: usize, t_ms: i64) -> Result<(), TestCaseError> {
        // Some hold still, some are integers, some decimals, some no numbers at all.
        let value = match series % SERIES {
            0 => 7.0,
            1 => (self.count * 3) as f64,
            2 => self.count as f64 / 100.0,
            _ => f64::from_bits(0x7ff0_0000_0000_0000 | self.count),
        };
        if self.generation.push_next(series, t_ms, value) {
            prop_assert!(self.high_ms[&series] < t_ms, "{series} at {t_ms}");
        } else {
            self.generation.touch(series, None);
            let found = self.generation.find(series, t_ms, Probes::All);
            prop_assert_eq!(found, self.floats.get(&(series, t_ms)).copied());
            if found.is_some() {
                return Ok(());
            }
            self.generation.push(series, t_ms, value);
        }
        self.floats.insert((series, t_ms), value.to_bits());
        self.note(series, t_ms);
        Ok(())
    }

    fn check(&self) -> Result<(), TestCaseError> {
        let everything = TimeRange::new(i64::MIN, i64::MAX);
        for series in 0..TARGETS * SERIES {
            let (mut timestamps, mut values) = (Vec::new(), Vec::new());
            self.generation
                .read(series, everything, &mut timestamps, &mut values)
                .expect("own bytes");
            let bits = values.iter().map(|value| value.to_bits());
            let mut read: Vec<(i64, u64)> = timestamps.into_iter().zip(bits).collect();
            read.sort_unstable();
            let of_series = self.floats.range((series, i64::MIN)..=(series, i64::MAX));
            let wanted: Vec<(i64, u64)> = of_series.map(|(&(_, t), &bits)| (t, bits)).collect();
            prop_assert_eq!(&read, &wanted);
            let high_ms = self.high_ms.get(&series).copied();
            prop_assert_eq!(self.generation.high_ms(series), high_ms);
            for &(t_ms, bits) in wanted.iter().step_by(7) {
                let found = self.generation.find(series, t_ms, Probes::All);
                prop_assert_eq!(found, Some(bits));
                prop_assert!(self.generation.may_have(series, TimeRange::new(t_ms, t_ms + 1)));
            }
        }
        let mut shown = std::collections::BTreeSet::new();
        self.generation.for_each_timestamp(|t_ms| {
            shown.insert(t_ms);
        });
        prop_assert!(self.floats.keys().all(|(_, t_ms)| shown.contains(t_ms)));
        prop_assert_eq!(self.generation.rows(), self.count);
        Ok(())
    }
}

fn run(steps: Vec<Step>) -> Result<(), TestCaseError> {
    let mut tested = Tested::default();
    let mut now_ms = [1_000_000_000_i64; TARGETS];
    for step in steps {
        match step {
            Step::Scrapes { target, count, step_ms, missing } => {
                for scrape in 0..count {
                    now_ms[target] += step_ms;
                    let first = if scrape == 0 { missing } else { 0 };
                    for series in first..SERIES {
                        tested.push(target * SERIES + series, now_ms[target])?;
                    }
                }
            }
            Step::Together { step_ms } => {
                let at_ms = now_ms[0].max(now_ms[1]) + step_ms;
                (now_ms[0], now_ms[1]) = (at_ms, at_ms);
                for series in 0..2 * SERIES {
                    tested.push(series, at_ms)?;
                }
            }
            Step::One { series, distance_ms } => {
                tested.push(series, now_ms[series / SERIES] + distance_ms)?;
            }
            Step::Histogram { series, distance_ms } => {
                let t_ms = now_ms[series / SERIES] + distance_ms;
                if tested.floats.contains_key(&(series, t_ms)) {
                    continue;
                }
                tested.generation.touch(series, None);
                let histogram = Histogram::stale();
                let row = HistogramRow { ordinal: 0, t_ms, start_ms: 0, histogram };
                tested.generation.push_histogram(series, &row);
                tested.note(series, t_ms);
            }
            Step::Import { target, count } => {
                let start_ms = now_ms[target];
                for series in 0..SERIES {
                    for at in 1..=count {
                        tested.push(target * SERIES + series, start_ms + at as i64 * 60_000)?;
                    }
                }
                now_ms[target] += count as i64 * 60_000;
            }
        }
    }
    tested.check()
}

proptest! {
    #[test]
    fn a_generation_has_what_was_appended(
        steps in proptest::collection::vec(step(), 1..25),
    ) {
        run(steps)?;
    }
}

/// What a target's series take until they are sealed.
#[test]
fn timestamps_are_kept_once_for_all_series_of_a_target() {
    let mut generation = Generation::default();
    let series = 10_000;
    for scrape in 0..MAX_TAIL_LEN as i64 - 1 {
        for local in 0..series {
            if !generation.push_next(local, scrape * 15_000, 5.0) {
                generation.touch(local, None);
                generation.push(local, scrape * 15_000, 5.0);
            }
        }
    }
    assert!(generation.bytes() < 30 * series, "{} bytes", generation.bytes());
}
