//! Retention of some series against a naive model, through flushes, merges, restarts and the
//! passing of time.

mod support;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use blockstore::MemoryDisk;
use broker::{Broker, BrokerConfig};
use metricstore::{RetentionRule, RetentionRules};
use model::{DEFAULT_TENANT, MatchOp, Matcher, TimeRange};
use support::chance::Chance;
use support::*;

const SERIES: usize = 9;
const ODD_MS: i64 = 7 * HOUR_MS;
const FEW_MS: i64 = 3 * HOUR_MS;

/// Samples of the last ten hours, of any series.
fn some_rows(chance: &mut Chance, now_ms: i64) -> Vec<(usize, i64, f64)> {
    let row = |chance: &mut Chance| {
        let series = chance.below(SERIES as u64) as usize;
        let back_ms = MINUTE_MS * chance.below(600) as i64;
        (series, now_ms - back_ms, chance.below(5) as f64)
    };
    (0..=chance.below(30)).map(|_| row(chance)).collect()
}

fn few() -> Matcher {
    Matcher::new("series", MatchOp::Regex, "[0-2]").expect("a pattern")
}

fn with_rules(now_ms: fn() -> i64, flush_interval_ms: i64) -> BrokerConfig {
    let odd = Matcher::new("job", MatchOp::Equal, "odd").expect("no pattern");
    let rule = |matcher, kept_ms| RetentionRule { selector: vec![matcher], kept_ms };
    BrokerConfig {
        retention_rules: RetentionRules::new(vec![rule(odd, ODD_MS), rule(few(), FEW_MS)]),
        ..config(Path::new("/nowhere"), now_ms, flush_interval_ms)
    }
}

/// How long a series of [`labels`] is kept.
fn kept_ms(name: &str) -> i64 {
    let of = |series: usize| match series {
        0..=2 => FEW_MS,
        odd if odd % 2 == 1 => ODD_MS,
        _ => 15 * DAY_MS,
    };
    let series = (0..SERIES).find(|series| labels(*series).to_string() == name);
    of(series.expect("a series of this test"))
}

/// What is left of what was written.
fn kept(model: &Samples, now_ms: i64) -> Samples {
    let is_kept = |(name, t_ms): &(String, i64)| *t_ms >= now_ms - kept_ms(name);
    model.iter().filter(|(key, _)| is_kept(key)).map(|(k, v)| (k.clone(), *v)).collect()
}

fn series_values(broker: &Broker) -> Vec<String> {
    broker
        .reader(DEFAULT_TENANT)
        .label_values("series", &[], TimeRange::all(), usize::MAX)
        .expect("memory suffices")
}

fn stored_rows(broker: &Broker) -> u64 {
    broker.block_metas().iter().map(|(meta, _)| meta.rows).sum()
}

mod any {
    use super::*;
    clock!(CLOCK, now_ms);

    #[test]
    fn any_writes_and_waits_answer_what_the_rules_keep() {
        for seed in 0..8 {
            CLOCK.store(START_MS, Ordering::SeqCst);
            let mut chance = Chance(seed);
            let interval_ms = if seed % 2 == 0 { 10 } else { NEVER_MS };
            let mut disk = MemoryDisk::new();
            let open = |disk: &MemoryDisk| {
                open_on(&Arc::new(disk.clone()), with_rules(now_ms, interval_ms))
            };
            let mut broker = open(&disk);
            let mut model = Samples::new();
            for step in 0..60 {
                match chance.below(8) {
                    0..5 => {
                        let rows = some_rows(&mut chance, now_ms());
                        ingest(&broker, &rows).expect("a sound disk");
                        note(&mut model, &rows);
                    }
                    5..7 => {
                        let by_ms = MINUTE_MS * chance.below(90) as i64;
                        CLOCK.fetch_add(by_ms, Ordering::SeqCst);
                    }
                    _ => {
                        let next = disk.crash(seed * 100 + step);
                        drop(broker);
                        disk = next;
                        broker = open(&disk);
                    }
                }
                let when = format!("seed {seed}, step {step}");
                assert_same(&read_all(&broker), &kept(&model, now_ms()), &when);
            }
            broker.stop();
        }
    }
}

mod space {
    use super::*;
    clock!(CLOCK, now_ms);

    /// What a rule no longer keeps is hidden at once, and leaves the disk when a whole block is
    /// past the rule, although no merge is due any more.
    #[test]
    fn blocks_of_a_day_give_back_what_rules_do_not_keep() {
        let broker = open_on(&Arc::new(MemoryDisk::new()), with_rules(now_ms, 10));
        for _ in 0..60 {
            let rows: Vec<_> = (0..SERIES).map(|s| (s, now_ms(), s as f64)).collect();
            ingest(&broker, &rows).expect("a sound disk");
            CLOCK.store(now_ms() + MINUTE_MS, Ordering::SeqCst);
        }
        wait_for_empty_head(&broker);
        assert_eq!(series_values(&broker).len(), SERIES);

        CLOCK.fetch_add(2 * HOUR_MS + 30 * MINUTE_MS, Ordering::SeqCst);
        let asked = [few()];
        let selected = broker.reader(DEFAULT_TENANT).select(&asked, TimeRange::all());
        let selected = selected.expect("every block is readable");
        let read = |index| {
            let (mut timestamps, mut values) = (Vec::new(), Vec::new());
            selected.read(index, &mut timestamps, &mut values).expect("every block is readable");
            timestamps
        };
        let oldest_ms = (0..selected.len()).flat_map(read).min().expect("half is left");
        assert_eq!(oldest_ms, START_MS + 30 * MINUTE_MS);

        CLOCK.fetch_add(DAY_MS, Ordering::SeqCst);
        assert_eq!(series_values(&broker), ["4", "6", "8"]);
        // Three series of nine are kept for longer than a day.
        let expected = 3 * 60;
        let started = std::time::Instant::now();
        while stored_rows(&broker) != expected {
            assert!(started.elapsed().as_secs() < 20, "{} rows are stored", stored_rows(&broker));
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        assert_eq!(read_all(&broker).len() as u64, expected);
        // Nothing is written again and again.
        let rewritten = metric(&broker, "watchfire_broker_rewritten_blocks_total");
        std::thread::sleep(std::time::Duration::from_millis(300));
        assert_eq!(metric(&broker, "watchfire_broker_rewritten_blocks_total"), rewritten);
        broker.stop();
    }
}

mod changing {
    use super::*;
    clock!(CLOCK, now_ms);

    fn rules(chance: &mut Chance) -> (RetentionRules, [Option<i64>; 2]) {
        let odd = Matcher::new("job", MatchOp::Equal, "odd").expect("no pattern");
        let kept_ms =
            [(); 2].map(|()| (chance.below(3) > 0).then(|| HOUR_MS * (1 + chance.below(9) as i64)));
        let rule = |(matcher, kept_ms): (Matcher, Option<i64>)| {
            Some(RetentionRule { selector: vec![matcher], kept_ms: kept_ms? })
        };
        let rules = [odd, few()].into_iter().zip(kept_ms).filter_map(rule).collect();
        (RetentionRules::new(rules), kept_ms)
    }

    /// Samples that the rules hide now.
    fn is_hidden(name: &str, t_ms: i64, [odd, few]: [Option<i64>; 2]) -> bool {
        let series = (0..SERIES).find(|series| labels(*series).to_string() == name);
        let series = series.expect("a series of this test");
        let odd = odd.filter(|_| series % 2 == 1);
        let few = few.filter(|_| series < 3);
        [odd, few].into_iter().flatten().any(|kept_ms| t_ms < now_ms() - kept_ms)
    }

    /// Rules that a reload changes: what they hide is in no answer, what none has ever hidden is in all,
    /// whatever is flushed and merged meanwhile.
    #[test]
    fn rules_that_change_take_nothing_that_none_of_them_hid() {
        let (mut relaxed, mut merges) = (0, 0.0);
        for seed in 0..6 {
            CLOCK.store(START_MS, Ordering::SeqCst);
            let mut chance = Chance(1_000 + seed);
            let broker =
                open_on(&Arc::new(MemoryDisk::new()), config(Path::new("/nowhere"), now_ms, 10));
            let mut kept_ms = [None; 2];
            // Never hidden; and all that was written.
            let (mut sure, mut all) = (Samples::new(), Samples::new());
            for step in 0..80 {
                let when = format!("seed {seed}, step {step}");
                match chance.below(8) {
                    0..4 => {
                        let rows = some_rows(&mut chance, now_ms());
                        ingest(&broker, &rows).expect("a sound disk");
                        let mut new = Samples::new();
                        note(&mut new, &rows);
                        for (key, bits) in new {
                            // What was there and may be gone may be written anew with another value.
                            if all.contains_key(&key) && !sure.contains_key(&key) {
                                all.insert(key, bits);
                            } else {
                                all.entry(key.clone()).or_insert(bits);
                                sure.entry(key).or_insert(bits);
                            }
                        }
                    }
                    4..6 => {
                        let by_ms = MINUTE_MS * chance.below(90) as i64;
                        CLOCK.fetch_add(by_ms, Ordering::SeqCst);
                    }
                    _ => {
                        let (rules, new_ms) = rules(&mut chance);
                        relaxed += usize::from(new_ms[0] > kept_ms[0]);
                        let mut settings = broker.adjustable();
                        settings.retention_rules = rules;
                        let prepared = broker.prepare_settings(settings);
                        broker.put_settings(prepared.expect("nothing that may fail"));
                        kept_ms = new_ms;
                        // At once, so that merges that are due meet rules that were put a moment ago.
                        let by_ms = MINUTE_MS * chance.below(240) as i64;
                        CLOCK.fetch_add(by_ms, Ordering::SeqCst);
                    }
                }
                sure.retain(|(name, t_ms), _| !is_hidden(name, *t_ms, kept_ms));
                let found = read_all(&broker);
                for (key, bits) in &sure {
                    assert_eq!(found.get(key), Some(bits), "{when}: {key:?} is lost");
                }
                for (name, t_ms) in found.keys() {
                    assert!(!is_hidden(name, *t_ms, kept_ms), "{when}: {name} at {t_ms} shows");
                    assert!(all.contains_key(&(name.clone(), *t_ms)), "{when}: {name} at {t_ms}");
                }
            }
            merges += metric(&broker, "watchfire_broker_merges_total");
            broker.stop();
        }
        assert!(relaxed > 10 && merges > 10.0, "{relaxed} rules relaxed, {merges} merges");
    }
}
