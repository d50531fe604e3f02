//! Remote write through kills of the sender and absence of the remote: what was acknowledged
//! arrives, and what waits is bounded.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::harness::random::Random;
use crate::harness::{Client, Launch, Scratch, WriteBody, free_address, now_ms};

const KILLS: u64 = 14;
const SERIES: usize = 20;
const PATIENCE: Duration = Duration::from_secs(60);
/// Flushes all the time, so that the log would go at once if nobody needed it.
const BUSY: &str = "storage:\n  flush_interval: 60ms\n  flush_bytes: 200000\n";
const LIMIT_BYTES: u64 = 2 << 20;

/// Acknowledged samples by series and time.
type Acknowledged = BTreeMap<(usize, i64), u64>;

fn configure(file: &Path, remote: SocketAddr) -> Result<()> {
    let text = format!(
        "remote_write:\n- url: http://{remote}/api/v1/write\n  name: other\n  queue_config: \
         {{batch_send_deadline: 50ms, min_backoff: 10ms, max_backoff: 200ms, \
         max_samples_per_send: 300, capacity: 1000}}\n"
    );
    Ok(std::fs::write(file, text)?)
}

/// The sender is killed again and again, the remote comes and goes, and in the end the remote has
/// everything.
pub(super) fn outage(scratch: &Scratch) -> Result<String> {
    let seed = Random::seed();
    run_outage(scratch, seed).with_context(|| format!("seed {seed}"))
}

fn run_outage(scratch: &Scratch, seed: u64) -> Result<String> {
    let mut random = Random::new(seed);
    let remote = free_address()?;
    let file = scratch.join("prometheus.yml");
    configure(&file, remote)?;
    let shown = file.display().to_string();
    for name in ["sender", "remote"] {
        std::fs::create_dir_all(scratch.join(name))?;
    }
    let sender = Launch::broker(&scratch.join("sender/data"))
        .config(BUSY)
        .arguments(&["--prometheus-config", &shown]);
    let listen = remote.to_string();
    let receiver = Launch::broker(&scratch.join("remote/data")).arguments(&["--listen", &listen]);
    let mut acknowledged = Acknowledged::new();
    let mut next_ms = now_ms() - 3_600_000;
    let mut there = None;
    let mut kept_files = 0;
    for cycle in 0..KILLS {
        let server = sender.start().with_context(|| format!("start {cycle}"))?;
        // Away in the beginning, and then by chance.
        let is_wanted = cycle > 3 && random.below(3) > 0;
        match (is_wanted, there.take()) {
            (true, None) => there = Some(receiver.start().context("start the remote")?),
            (true, Some(running)) => there = Some(running),
            (false, Some(running)) => running.kill()?,
            (false, None) => {}
        }
        let client = server.client();
        let end = Instant::now() + Duration::from_millis(100 + random.below(500));
        while Instant::now() < end {
            next_ms += 7;
            write(&client, next_ms, &mut random, &mut acknowledged)?;
        }
        kept_files = kept_files.max(std::fs::read_dir(scratch.join("sender/data/log"))?.count());
        server.kill()?;
    }
    ensure!(kept_files > 6, "the log was not kept: {kept_files} files");
    let there = match there {
        Some(running) => running,
        None => receiver.start().context("start the remote")?,
    };
    let server = sender.start()?;
    let begin = Instant::now();
    loop {
        let missing = missing(&there.client(), &acknowledged)?;
        if missing == 0 {
            break;
        }
        ensure!(begin.elapsed() < PATIENCE, "{missing} of {} are missing", acknowledged.len());
        std::thread::sleep(Duration::from_millis(100));
    }
    // The log goes when it is delivered and the place in it is durable.
    let begin = Instant::now();
    loop {
        let files = std::fs::read_dir(scratch.join("sender/data/log"))?.count();
        if files <= 6 {
            break;
        }
        ensure!(begin.elapsed() < PATIENCE, "{files} files of the log stay");
        std::thread::sleep(Duration::from_millis(50));
    }
    let gaps = server.client().metric(&format!(
        "watchfire_broker_remote_write_gaps_total{{remote_name=\"other\",\
         url=\"http://{remote}/api/v1/write\"}}"
    ))?;
    ensure!(gaps == 0.0, "{gaps} gaps");
    // What is written last is sent by the stop.
    for _ in 0..50 {
        next_ms += 7;
        write(&server.client(), next_ms, &mut random, &mut acknowledged)?;
    }
    server.stop()?;
    let missing = missing(&there.client(), &acknowledged)?;
    ensure!(missing == 0, "{missing} are missing after a clean stop");
    there.stop()?;
    Ok(format!(
        "{KILLS} kills, {} samples acknowledged, 0 missing at the remote; seed {seed}",
        acknowledged.len()
    ))
}

fn write(
    client: &Client,
    t_ms: i64,
    random: &mut Random,
    acknowledged: &mut Acknowledged,
) -> Result<()> {
    let values: Vec<u64> = (0..SERIES).map(|_| random.below(1 << 50)).collect();
    let body = values.iter().enumerate().fold(WriteBody::new(), |body, (number, value)| {
        let number = number.to_string();
        body.series(&[("__name__", "m"), ("n", number.as_str())], &[(t_ms, *value as f64)])
    });
    let status = client.write(&body.snappy())?.status;
    ensure!(status == 204, "a write is answered {status}");
    acknowledged.extend(values.into_iter().enumerate().map(|(n, value)| ((n, t_ms), value)));
    Ok(())
}

/// How many samples the remote does not have, or has otherwise.
fn missing(remote: &Client, acknowledged: &Acknowledged) -> Result<usize> {
    let data = remote.data("/api/v1/query", &[("query", "m[2h]")])?;
    let mut found = BTreeMap::new();
    for series in data["result"].as_array().context("no result")? {
        let number: usize = series["metric"]["n"].as_str().context("no label")?.parse()?;
        for sample in series["values"].as_array().context("no values")? {
            let t_ms = (sample[0].as_f64().context("no time")? * 1e3).round() as i64;
            let value: f64 = sample[1].as_str().context("no value")?.parse()?;
            found.insert((number, t_ms), value as u64);
        }
    }
    Ok(acknowledged.iter().filter(|(place, value)| found.get(*place) != Some(*value)).count())
}

/// A remote that stays away takes no more of the disk than the limit, does not hold up writes, and
/// what was given up for it is counted to the sample.
pub(super) fn bounded(scratch: &Scratch) -> Result<String> {
    let remote = free_address()?;
    let file = scratch.join("prometheus.yml");
    configure(&file, remote)?;
    let shown = file.display().to_string();
    for name in ["sender", "remote"] {
        std::fs::create_dir_all(scratch.join(name))?;
    }
    let config = format!("{BUSY}remote_write:\n  limit_bytes: {LIMIT_BYTES}\n");
    let server = Launch::broker(&scratch.join("sender/data"))
        .config(&config)
        .arguments(&["--prometheus-config", &shown])
        .start()?;
    let client = server.client();
    let mut random = Random::new(Random::seed());
    let begin_ms = now_ms() - 3_600_000;
    let (mut next_ms, mut most_bytes, mut slowest) = (begin_ms, 0, Duration::ZERO);
    let mut written = 0_u64;
    let written_bytes = || client.metric("watchfire_blockstore_log_bytes_total");
    let begun = Instant::now();
    while written_bytes()? < 5.0 * LIMIT_BYTES as f64 {
        for _ in 0..8 {
            let times: Vec<(i64, f64)> = (0..1_000)
                .map(|step| (next_ms + step, f64::from_bits(random.bits() >> 2)))
                .collect();
            next_ms += 1_000;
            let sent = Instant::now();
            let body = WriteBody::new().series(&[("__name__", "m")], &times);
            let status = client.write(&body.snappy())?.status;
            ensure!(status == 204, "a write is answered {status}");
            slowest = slowest.max(sent.elapsed());
            written += times.len() as u64;
        }
        // Files go as a whole: on a fast disk one alone would grow beyond the limit.
        std::thread::sleep(Duration::from_millis(40));
        let log = std::fs::read_dir(scratch.join("sender/data/log"))?;
        // A file may go while it is looked at.
        let sizes = log.flatten().filter_map(|entry| Some(entry.metadata().ok()?.len()));
        most_bytes = most_bytes.max(sizes.sum::<u64>());
    }
    // The limit, the files that are being flushed and removed, and what comes between two looks.
    let per_second = written_bytes()? / begun.elapsed().as_secs_f64();
    let allowed = 2 * LIMIT_BYTES + (per_second / 2.0) as u64;
    ensure!(
        most_bytes <= allowed,
        "the log took {most_bytes} bytes, the limit is {LIMIT_BYTES}, and {per_second} came in a second"
    );
    ensure!(server.stderr().contains("the oldest samples are dropped"), "the log does not say so");
    let listen = remote.to_string();
    let there =
        Launch::broker(&scratch.join("remote/data")).arguments(&["--listen", &listen]).start()?;
    let labels = format!("remote_name=\"other\",url=\"http://{remote}/api/v1/write\"}}");
    let number =
        |name: &str| client.metric(&format!("prometheus_remote_storage_{name}_total{{{labels}"));
    let dropped = || {
        client.metric(&format!(
            "prometheus_remote_storage_samples_dropped_total{{reason=\"log_limit\",{labels}"
        ))
    };
    let begin = Instant::now();
    while number("samples")? + dropped()? < written as f64 {
        ensure!(begin.elapsed() < PATIENCE, "{} and {}", number("samples")?, dropped()?);
        std::thread::sleep(Duration::from_millis(100));
    }
    let (sent, dropped, failed) = (number("samples")?, dropped()?, number("samples_failed")?);
    ensure!(sent + dropped == written as f64, "{sent} + {dropped} of {written}");
    ensure!(failed == 0.0 && dropped > 0.0, "{failed} failed, {dropped} dropped");
    let query = [("query", "count_over_time(m[2h])")];
    let found = there.client().data("/api/v1/query", &query)?;
    let found = found["result"][0]["value"][1].as_str().context("nothing came")?.to_owned();
    ensure!(found == sent.to_string(), "{found} are there, {sent} were sent");
    let newest = [("query", "timestamp(m) * 1000")];
    let newest = there.client().data("/api/v1/query", &[newest[0], ("time", &at(next_ms))])?;
    let newest: f64 = newest["result"][0]["value"][1].as_str().context("no sample")?.parse()?;
    ensure!(newest as i64 == next_ms - 1, "the newest sample did not come");
    server.stop()?;
    there.stop()?;
    Ok(format!(
        "{written} samples, {dropped} dropped, {sent} sent; the log took at most {} KiB of {} KiB; \
         slowest write {} ms",
        most_bytes >> 10,
        LIMIT_BYTES >> 10,
        slowest.as_millis()
    ))
}

fn at(t_ms: i64) -> String {
    format!("{}.{:03}", t_ms / 1_000, t_ms % 1_000)
}
