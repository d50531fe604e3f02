//! The broker that scrapes is killed: how long its targets are without a scrape, by the samples. By hand,
//! because brokers that come wait for their turn.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::network::rounds_or;
use super::site::{Place, Site};
use crate::harness::random::Random;
use crate::harness::{Client, Scratch, free_address, now_ms};

const TARGETS: u8 = 30;
const INTERVAL: Duration = Duration::from_secs(5);
/// A lease that is over, and what it takes to notice, at its worst: docs/operating/scraping.md.
const DETECTION: Duration = Duration::from_secs(6);
/// Of a scrape that has been put off so that not all begin at once, on a machine that has more to do.
const SLACK: Duration = Duration::from_secs(2);
const PATIENCE: Duration = Duration::from_secs(60);

/// Answers whoever asks, on all addresses of this host.
fn targets() -> Result<u16> {
    let listener = TcpListener::bind(("0.0.0.0", 0))?;
    let port = listener.local_addr()?.port();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || serve(stream));
        }
    });
    Ok(port)
}

fn serve(stream: TcpStream) -> Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut stream = stream;
    let mut line = String::new();
    while reader.read_line(&mut line)? > 0 {
        if line == "\r\n" {
            stream.write_all(
                b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 4\r\n\r\na 1\n",
            )?;
        }
        line.clear();
    }
    Ok(())
}

/// Times of the samples of each target in the last minutes, milliseconds, ascending.
fn times(client: Client) -> Result<BTreeMap<String, Vec<i64>>> {
    let data = client.data("/api/v1/query", &[("query", "a{job=\"taken-over\"}[10m]")])?;
    let rows = data["result"].as_array().context("a matrix")?;
    let of = |row: &serde_json::Value| {
        let name = row["metric"]["instance"].as_str().unwrap_or_default().to_owned();
        let samples = row["values"].as_array().into_iter().flatten();
        let t_ms =
            |sample: &serde_json::Value| sample[0].as_f64().map(|t| (t * 1e3).round() as i64);
        (name, samples.filter_map(t_ms).collect())
    };
    Ok(rows.iter().map(of).collect())
}

/// How many targets each broker has, by the one that is asked.
fn scraped_by(client: Client) -> Result<BTreeMap<String, usize>> {
    let targets = client.get_data("/api/v1/targets")?;
    let mut by = BTreeMap::new();
    for target in targets["activeTargets"].as_array().context("targets")? {
        *by.entry(target["scrapedBy"].as_str().unwrap_or_default().to_owned()).or_insert(0) += 1;
    }
    Ok(by)
}

pub(super) fn taken_over(scratch: &Scratch) -> Result<String> {
    let seed = Random::seed();
    let mut random = Random::new(seed);
    let port = targets()?;
    let names: Vec<String> = (1..=TARGETS).map(|one| format!("'127.0.0.{one}:{port}'")).collect();
    let file = scratch.join("prometheus.yml");
    std::fs::write(
        &file,
        format!(
            "global: {{scrape_interval: {0}s, scrape_timeout: {0}s}}\nscrape_configs: [{{job_name: taken-over, \
             static_configs: [{{targets: [{1}]}}]}}]\n",
            INTERVAL.as_secs(),
            names.join(", ")
        ),
    )?;
    let file: &'static str = String::leak(file.display().to_string());
    let place = |_| -> Result<Place> {
        let mut place = Place::here(free_address()?)?;
        place.environment = vec![("WATCHFIRE_PROMETHEUS_CONFIG", file)];
        Ok(place)
    };
    let places: Vec<Place> = (0..3).map(place).collect::<Result<_>>()?;
    let store = format!("file://{}", scratch.join("store").display());
    let mut site = Site::start_at(scratch, seed, store, &places)?;
    let (mut longest, mut moved) = (Vec::new(), Vec::new());
    for round in 0..rounds_or(3) {
        // All have their share, and what they have is a while old.
        let begin = Instant::now();
        loop {
            let by = scraped_by(site.members[0].client())?;
            let named: Vec<&str> = by.keys().map(String::as_str).collect();
            if named == ["broker-1", "broker-2", "broker-3"] {
                break;
            }
            ensure!(begin.elapsed() < PATIENCE, "not all take part: {by:?}");
            sleep(Duration::from_millis(200));
        }
        sleep(INTERVAL * 2 + Duration::from_millis(random.below(5_000)));
        let share = scraped_by(site.members[0].client())?;
        let leader = site.leader()?;
        let victim = if round % 2 == 0 { (leader + 1) % 3 } else { leader };
        let name = format!("broker-{}", victim + 1);
        let (killed, killed_ms) = (Instant::now(), now_ms());
        site.members[victim].kill()?;
        let client = site.members[(victim + 1) % 3].client();
        while scraped_by(client)?.contains_key(&name) {
            ensure!(killed.elapsed() < PATIENCE, "it keeps its targets");
            sleep(Duration::from_millis(50));
        }
        moved.push(killed.elapsed());
        sleep(INTERVAL * 3);
        let mut gap_ms = 0;
        for (target, times) in times(client)? {
            let around = times.windows(2).filter(|pair| pair[1] > killed_ms - 15_000);
            for pair in around {
                let between = pair[1] - pair[0];
                ensure!(between > 200, "{target} twice: {pair:?}, seed {seed}");
                gap_ms = gap_ms.max(between);
            }
        }
        longest.push(gap_ms as f64 / 1e3);
        println!(
            "round {round}: {name} had {} targets{}; moved as the others tell after {:.1} s, longest time between \
             two samples {:.1} s",
            share[&name],
            if victim == leader { " and led" } else { "" },
            moved[moved.len() - 1].as_secs_f64(),
            longest[longest.len() - 1]
        );
        site.members[victim].start_again()?;
    }
    let worst = longest.iter().copied().fold(0.0, f64::max);
    let slowest = moved.iter().max().copied().unwrap_or_default();
    ensure!(slowest <= DETECTION + SLACK, "targets moved after {slowest:?}, seed {seed}");
    let most = (INTERVAL + DETECTION + SLACK).as_secs_f64();
    ensure!(worst <= most, "{worst} s between two samples: {longest:?}, seed {seed}");
    Ok(format!("{} kills, 0 doubled; longest time between two samples {longest:?} s", moved.len()))
}
