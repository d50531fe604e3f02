//! kill -9 at random moments while exemplars are written: those that were acknowledged are there,
//! but for the oldest, which give way.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::harness::random::Random;
use crate::harness::remote_write_2::{Exemplar2, Series2};
use crate::harness::{Client, Launch, Scratch, WriteBody2, now_ms};

const KILLS: usize = 40;
/// Series, and exemplars in a request: one of each.
const SERIES: u64 = 5;
/// As many requests are kept whole.
const KEPT_REQUESTS: u64 = 60;

/// Kills the program while one writer sends numbered requests, one after the other.
pub(super) fn kill(scratch: &Scratch) -> Result<String> {
    let seed = Random::seed();
    run(scratch, seed).with_context(|| format!("seed {seed}"))
}

fn run(scratch: &Scratch, seed: u64) -> Result<String> {
    let mut random = Random::new(seed);
    let config = format!(
        "storage:\n  flush_interval: 40ms\n  flush_bytes: 65536\n  exemplars: {{max_exemplars: {}}}\n",
        KEPT_REQUESTS * SERIES
    );
    let launch = Launch::broker(&scratch.join("data")).config(&config);
    let base_ms = now_ms() - 3_600_000;
    // Requests 0..acknowledged are acknowledged; the next one may be stored.
    let mut acknowledged = 0;
    let mut flushes = 0.0;
    for kills in 0..=KILLS {
        let server = launch.start()?;
        let client = server.client();
        check(&client, base_ms, acknowledged).with_context(|| format!("after {kills} kills"))?;
        if kills == KILLS {
            server.stop()?;
            let server = launch.start()?;
            check(&server.client(), base_ms, acknowledged).context("after a clean stop")?;
            server.stop()?;
            break;
        }
        let life = Duration::from_millis(20 + random.below(200));
        let is_over = AtomicBool::new(false);
        let got_to = std::thread::scope(|scope| -> Result<u64> {
            let writer = scope.spawn(|| write(&client, base_ms, acknowledged, &is_over));
            std::thread::sleep(life);
            flushes += client.metric("watchfire_broker_flushes_total")?;
            let killed = server.kill();
            is_over.store(true, Ordering::Relaxed);
            let got_to = writer.join().expect("the writer does not panic")?;
            killed.map(|()| got_to)
        })?;
        acknowledged = got_to;
    }
    ensure!(flushes > 10.0, "{flushes} flushes: the kills interrupted nothing");
    ensure!(acknowledged > 2 * KEPT_REQUESTS, "{acknowledged} requests: nothing gave way");
    Ok(format!(
        "{KILLS} kills, {} exemplars acknowledged, 0 of the last {} lost, 0 invented; {flushes} \
         flushes; seed {seed}",
        acknowledged * SERIES,
        KEPT_REQUESTS * SERIES
    ))
}

/// Sends requests from `first` on until the program is gone; yields how many are acknowledged.
fn write(client: &Client, base_ms: i64, first: u64, is_over: &AtomicBool) -> Result<u64> {
    let mut number = first;
    while !is_over.load(Ordering::Relaxed) {
        let Ok(answer) = client.write_2(&request(base_ms, number)) else { break };
        let written = answer.header("x-prometheus-remote-write-exemplars-written");
        ensure!(answer.status == 204, "{}", answer.text());
        ensure!(written == Some(&SERIES.to_string()), "{written:?} written of request {number}");
        number += 1;
    }
    Ok(number)
}

fn request(base_ms: i64, number: u64) -> Vec<u8> {
    let t_ms = base_ms + number.cast_signed();
    let mut body = WriteBody2::new();
    for series in 0..SERIES {
        let labels =
            vec![("__name__".to_owned(), "m".to_owned()), ("s".to_owned(), series.to_string())];
        let trace = vec![("trace_id".to_owned(), trace(number, series))];
        body = body.series(&Series2 {
            labels,
            samples: vec![(t_ms, number as f64, 0)],
            exemplars: vec![Exemplar2 { labels: trace, value: number as f64, t_ms }],
            ..Series2::default()
        });
    }
    body.snappy()
}

fn trace(number: u64, series: u64) -> String {
    format!("{:032x}", number * SERIES + series)
}

/// Exactly those of the last requests are there, up to the last acknowledged or the one behind it.
fn check(client: &Client, base_ms: i64, acknowledged: u64) -> Result<()> {
    let data = client.data("/api/v1/query_exemplars", &[("query", "m")])?;
    let mut found: BTreeMap<u64, u64> = BTreeMap::new();
    for series in data.as_array().context("a list")? {
        let number_of_series: u64 =
            series["seriesLabels"]["s"].as_str().context("a series")?.parse()?;
        for exemplar in series["exemplars"].as_array().context("exemplars")? {
            let number: u64 = exemplar["value"].as_str().context("a value")?.parse()?;
            let t_ms = (exemplar["timestamp"].as_f64().context("a time")? * 1e3).round() as i64;
            ensure!(
                exemplar["labels"]["trace_id"] == trace(number, number_of_series)
                    && t_ms == base_ms + number.cast_signed(),
                "invented: {exemplar} of series {number_of_series}"
            );
            *found.entry(number).or_default() += 1;
        }
    }
    let end = found.last_key_value().map_or(0, |(number, _)| number + 1);
    ensure!(
        end == acknowledged || end == acknowledged + 1,
        "{acknowledged} requests are acknowledged, there are exemplars of {end}"
    );
    let first = end.saturating_sub(KEPT_REQUESTS);
    let wanted: BTreeMap<u64, u64> = (first..end).map(|number| (number, SERIES)).collect();
    ensure!(
        found == wanted,
        "exemplars by request are {found:?}, not {first}..{end}, {SERIES} each"
    );
    Ok(())
}
