//! A range query over days that are over, of which other brokers compute parts: whoever is killed or frozen
//! in the middle, and a store that goes away, the answer is whole, or says what lacks.

use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use serde_json::Value;

use super::site::{Place, Site};
use crate::harness::random::Random;
use crate::harness::{Client, Scratch, WriteBody, free_address, now_ms};

const DAYS: i64 = 10;
/// The last days are not read before the store goes away, so that no cache has them.
const COLD: i64 = 2;
const DAY_MS: i64 = 86_400_000;
const SERIES: i64 = 40;
/// Between two samples of a series.
const EVERY_MS: i64 = 120_000;
const PATIENCE: Duration = Duration::from_secs(60);
/// Rounds in which nobody was hit that computed: none of them proves anything.
const MISSES: usize = 12;
/// Sums of halves: the same in whatever order they are added up. It takes long enough to be hit.
const QUERY: &str = "sum by (part) (quantile_over_time(0.5, days[119m]))";
/// Nothing is kept on local disks, so that the store is asked.
const NO_CACHE: &str = "cluster:\n  cache_bytes: 0\n";

/// The days that are over, so that blocks of them are whole.
struct Days {
    start_ms: i64,
    end_ms: i64,
}

impl Days {
    fn of_now() -> Days {
        let today_ms = now_ms().div_euclid(DAY_MS) * DAY_MS;
        Days { start_ms: today_ms - DAYS * DAY_MS, end_ms: today_ms }
    }

    fn write(&self, client: Client) -> Result<()> {
        for day in 0..DAYS {
            let mut body = WriteBody::new();
            for series in 0..SERIES {
                let (part, number) = ((series % 4).to_string(), series.to_string());
                let labels = [("__name__", "days"), ("number", &*number), ("part", &*part)];
                let sample = |step: i64| {
                    let t_ms = self.start_ms + day * DAY_MS + step * EVERY_MS;
                    (t_ms, (t_ms / EVERY_MS % 1_009 + series) as f64)
                };
                let samples: Vec<_> = (0..DAY_MS / EVERY_MS).map(sample).collect();
                body = body.series(&labels, &samples);
            }
            let answer = client.write(&body.snappy())?;
            ensure!(answer.status == 204, "{}: {}", answer.status, answer.text());
        }
        Ok(())
    }

    /// All but the cold ones.
    fn warm(&self) -> Days {
        Days { end_ms: self.end_ms - COLD * DAY_MS, ..*self }
    }

    /// Computed anew: its status, what lacks by its own words, and the result.
    fn ask(&self, client: Client) -> Result<(u16, Vec<Value>, Value)> {
        let seconds = |ms: i64| (ms / 1_000).to_string();
        let (start, end) = (seconds(self.start_ms), seconds(self.end_ms));
        let form = [
            ("query", QUERY),
            ("start", &*start),
            ("end", &*end),
            ("step", "90"),
            ("nocache", "1"),
        ];
        let (status, mut answer) = client.envelope("/api/v1/query_range", &form)?;
        let warnings = answer["warnings"].as_array().cloned().unwrap_or_default();
        Ok((status, warnings, answer["data"]["result"].take()))
    }

    fn whole(&self, client: Client) -> Result<Value> {
        let (status, warnings, result) = self.ask(client)?;
        ensure!(status == 200 && warnings.is_empty(), "{status}, {warnings:?}");
        Ok(result)
    }
}

fn counter(client: Client, what: &str) -> Result<f64> {
    client.metric(&format!("watchfire_console_spread_{what}_total"))
}

/// Waits until all that was written is in blocks that this broker shows.
fn until_in_blocks(client: Client) -> Result<()> {
    let begin = Instant::now();
    loop {
        let status = client.get_data("/api/v1/status/cluster")?;
        let (waiting, blocks) = (&status["segments"]["count"], &status["blocks"]["count"]);
        if *waiting == 0 && blocks.as_i64() >= Some(DAYS) {
            return Ok(());
        }
        ensure!(begin.elapsed() < PATIENCE, "{waiting} segments are in no block");
        sleep(Duration::from_millis(100));
    }
}

/// Waits until nobody of those that are asked is left out; yields how many answers lacked so far.
fn until_all_compute(days: &Days, client: Client) -> Result<f64> {
    let begin = Instant::now();
    loop {
        let (pieces, before) = (counter(client, "pieces")?, counter(client, "unanswered")?);
        days.whole(client)?;
        let now = counter(client, "unanswered")?;
        if now == before && counter(client, "pieces")? > pieces {
            return Ok(now);
        }
        ensure!(begin.elapsed() < PATIENCE, "one that should compute does not answer");
        sleep(Duration::from_millis(200));
    }
}

/// What happens to a broker that computes.
#[derive(Debug, Clone, Copy)]
enum Fault {
    Killed,
    Frozen,
}

pub(super) fn killed_and_frozen(scratch: &Scratch) -> Result<String> {
    let seed = Random::seed();
    let mut random = Random::new(seed);
    let place = |_| -> Result<Place> {
        let mut place = Place::here(free_address()?)?;
        place.config.push_str(NO_CACHE);
        Ok(place)
    };
    let places: Vec<Place> = (0..3).map(place).collect::<Result<_>>()?;
    let store = format!("file://{}", scratch.join("store").display());
    let mut site = Site::start_at(scratch, seed, store, &places)?;
    let client = site.members[0].client();
    let days = Days::of_now();
    days.write(client)?;
    until_in_blocks(client)?;
    let warm = days.warm();
    let before = counter(client, "pieces")?;
    let expected = warm.whole(client)?;
    let begin = Instant::now();
    warm.whole(client)?;
    let usual = begin.elapsed();
    let count = |result: &Value| {
        let rows = result.as_array().into_iter().flatten();
        rows.map(|row| row["values"].as_array().map_or(0, Vec::len)).sum::<usize>()
    };
    ensure!(count(&expected) > 4 * 7_000, "{} values: {expected}", count(&expected));
    ensure!(counter(client, "pieces")? > before, "nobody else computes");

    let mut told = Vec::new();
    for fault in [Fault::Killed, Fault::Frozen] {
        let mut longest = Duration::ZERO;
        for round in 0.. {
            ensure!(round < MISSES, "{fault:?}: nobody was hit while computing, seed {seed}");
            let victim = 1 + random.below(2) as usize;
            let delay = usual.mul_f64(random.below(70) as f64 / 100.0);
            let unanswered = until_all_compute(&warm, client)?;
            let begin = Instant::now();
            let answer = std::thread::scope(|scope| {
                let asking = scope.spawn(|| warm.whole(client));
                sleep(delay);
                match fault {
                    Fault::Killed => site.members[victim].kill()?,
                    Fault::Frozen => site.members[victim].pause(true),
                }
                asking.join().map_err(|_| anyhow!("it panicked"))?
            });
            let context = || format!("{fault:?} after {delay:?}, seed {seed}, round {round}");
            longest = longest.max(begin.elapsed());
            match fault {
                Fault::Killed => site.members[victim].start_again().with_context(context)?,
                Fault::Frozen => site.members[victim].pause(false),
            }
            if answer.with_context(context)? != expected {
                bail!("another answer: {}", context());
            }
            if counter(client, "unanswered")? > unanswered {
                told.push(format!("{fault:?} {:.1} s", longest.as_secs_f64()));
                break;
            }
        }
    }

    // The store goes away, and comes back: what is in no cache lacks.
    until_all_compute(&warm, client)?;
    let (store, away) = (scratch.join("store"), scratch.join("store.away"));
    std::fs::rename(&store, &away)?;
    // What is not there at all counts as lost, and is looked for again minutes later.
    std::fs::write(&store, "in the way")?;
    let asked = days.ask(client);
    std::fs::remove_file(&store)?;
    std::fs::rename(&away, &store)?;
    let (status, warnings, result) = asked?;
    let all = count(&expected) / usize::try_from(DAYS - COLD)? * usize::try_from(DAYS)?;
    let is_whole = status == 200 && warnings.is_empty();
    ensure!(!is_whole || count(&result) >= all, "it lacks something and does not say so");
    told.push(format!("without the store {status}, {} warnings", warnings.len()));
    let begin = Instant::now();
    while !days.whole(client).is_ok_and(|result| count(&result) >= all) {
        ensure!(begin.elapsed() < PATIENCE, "with the store back: {:?}", days.ask(client)?.1);
        sleep(Duration::from_millis(200));
    }
    ensure!(warm.whole(client)? == expected, "another answer");
    Ok(format!(
        "{} values of {} days, in {:.1} s; {}",
        count(&expected),
        DAYS - COLD,
        usual.as_secs_f64(),
        told.join(", ")
    ))
}
