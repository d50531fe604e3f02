//! Seven brokers and two consoles behind nginx: whoever writes and reads knows one address only, while a broker
//! drawn by lot is killed again and again. By hand, as it takes minutes: docs/testing.md.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use serde_json::Value;

use super::site::{Place, Site, join_token};
use crate::harness::random::{Random, mix};
use crate::harness::{Client, Launch, Scratch, WriteBody, free_address, now_ms};

const BROKERS: usize = 7;
const CONSOLES: usize = 2;
const WRITERS: u64 = 6;
/// Of each writer; a batch has a sample of each.
const SERIES: u64 = 10;
/// Between the batches of one writer, so that each has a time of its own and reads stay small.
const PAUSE: Duration = Duration::from_millis(40);
/// From one kill to the next, and how long a broker is away.
const EVERY: Duration = Duration::from_secs(15);
const AWAY: Duration = Duration::from_secs(4);
/// For how long one batch may be refused, or lost on its way.
const PATIENCE: Duration = Duration::from_secs(60);

/// Ends with the test.
struct Nginx {
    child: Child,
    /// Writes go to brokers, all else to consoles.
    front: Client,
    /// Everything goes to brokers.
    brokers: Client,
}

impl Nginx {
    /// As docs/operating/cluster.md has it, in a directory of its own.
    fn start(scratch: &Scratch, brokers: &[SocketAddr], consoles: &[SocketAddr]) -> Result<Nginx> {
        let directory = scratch.join("nginx");
        std::fs::create_dir_all(&directory)?;
        let (front, behind) = (free_address()?, free_address()?);
        let upstream = |name: &str, addresses: &[SocketAddr]| {
            let servers = addresses.iter().fold(String::new(), |mut text, address| {
                let _ = writeln!(text, "    server {address} max_fails=1 fail_timeout=2s;");
                text
            });
            format!("  upstream {name} {{\n{servers}  }}\n")
        };
        let here = directory.display();
        let mut paths = String::new();
        for kind in ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"] {
            let _ = writeln!(paths, "  {kind}_temp_path {here}/{kind};");
        }
        let text = format!(
            "daemon off;\nworker_processes 1;\npid {here}/pid;\nerror_log {here}/error.log;\n\
             events {{ worker_connections 1024; }}\nhttp {{\n{paths}  log_format short '$request_method \
             $upstream_addr $upstream_status $status $request_time';\n  access_log {here}/access.log short;\n\
             {}{}  proxy_set_header Host $http_host;\n  proxy_connect_timeout 1s;\n  proxy_read_timeout 30s;\n  \
             proxy_next_upstream error timeout http_502 http_503 http_504 non_idempotent;\n  server {{\n    \
             listen {front};\n    location = /api/v1/write {{ proxy_pass http://brokers; }}\n    location / {{ \
             proxy_pass http://consoles; }}\n  }}\n  server {{\n    listen {behind};\n    location / {{ proxy_pass \
             http://brokers; }}\n  }}\n}}\n",
            upstream("brokers", brokers),
            upstream("consoles", consoles),
        );
        let file = directory.join("nginx.conf");
        std::fs::write(&file, text)?;
        let child = Command::new("nginx")
            .args(["-e", &format!("{here}/error.log"), "-p"])
            .arg(&directory)
            .arg("-c")
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("start nginx; install Debian's nginx-light")?;
        let nginx = Nginx { child, front: Client::new(front), brokers: Client::new(behind) };
        let begin = Instant::now();
        while nginx.front.connect().is_err() || nginx.brokers.connect().is_err() {
            ensure!(begin.elapsed() < PATIENCE, "nginx does not listen: see {here}/error.log");
            sleep(Duration::from_millis(20));
        }
        Ok(nginx)
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // With its workers, which outlive a master that is killed.
        if let Some(pid) = rustix::process::Pid::from_raw(self.child.id().cast_signed()) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        let _ = self.child.wait();
    }
}

/// What one writer sent, and what it was told.
#[derive(Default)]
struct Account {
    /// Times of batches that were acknowledged, ascending.
    acknowledged: Vec<i64>,
    /// From the first try of a batch to its acknowledgement.
    took: Vec<Duration>,
    /// Answers other than 204, by status; 0 for none at all.
    refusals: std::collections::BTreeMap<u16, u64>,
}

fn value(writer: u64, series: u64, t_ms: i64) -> f64 {
    (mix(mix(writer << 8 | series) ^ t_ms.cast_unsigned()) % 1_000_000) as f64 / 100.0
}

/// Sends each batch until it is acknowledged: what is not known is sent again, as it was.
fn write(
    writer: u64,
    front: Client,
    acknowledged: &AtomicU64,
    over: &AtomicBool,
) -> Result<Account> {
    let mut account = Account::default();
    while !over.load(Ordering::Relaxed) {
        let last = account.acknowledged.last().copied().unwrap_or(0);
        let t_ms = now_ms().max(last + 1);
        let body = (0..SERIES).fold(WriteBody::new(), |body, series| {
            let (writer_label, series_label) = (writer.to_string(), series.to_string());
            let labels =
                [("__name__", "balanced"), ("series", &series_label), ("writer", &writer_label)];
            body.series(&labels, &[(t_ms, value(writer, series, t_ms))])
        });
        let (body, begin) = (body.snappy(), Instant::now());
        loop {
            let status = front.write(&body).map_or(0, |answer| answer.status);
            match status {
                204 => break,
                // nginx has its own words where nobody answers it.
                0 | 502 | 503 | 504 => *account.refusals.entry(status).or_default() += 1,
                status => bail!("a good batch was answered {status}"),
            }
            ensure!(
                begin.elapsed() < PATIENCE,
                "a batch was not taken in {PATIENCE:?}, last {status}"
            );
            sleep(Duration::from_millis(50));
        }
        account.acknowledged.push(t_ms);
        account.took.push(begin.elapsed());
        acknowledged.store(account.acknowledged.len() as u64, Ordering::Release);
        sleep(PAUSE);
    }
    Ok(account)
}

/// What reads on the way were like.
#[derive(Debug, Default)]
struct Reads {
    whole: u64,
    /// Marked as such.
    partial: u64,
    failed: u64,
}

/// Counts of what had been acknowledged before a read began: an answer that is not marked has all of it.
fn read(client: Client, acknowledged: &[AtomicU64], over: &AtomicBool) -> Result<Reads> {
    let mut reads = Reads::default();
    while !over.load(Ordering::Relaxed) {
        for (writer, known) in acknowledged.iter().enumerate() {
            let least = known.load(Ordering::Acquire);
            let query = format!("sum(count_over_time(balanced{{writer=\"{writer}\"}}[1h]))");
            let time = ((now_ms() + 1_000) / 1_000).to_string();
            let form = [("query", query.as_str()), ("time", &time)];
            match client.envelope("/api/v1/query", &form) {
                Ok((200, answer)) if answer.get("warnings").is_some() => reads.partial += 1,
                Ok((200, answer)) => {
                    reads.whole += 1;
                    let count = &answer["data"]["result"][0]["value"][1];
                    let count: u64 = count.as_str().unwrap_or("0").parse()?;
                    ensure!(
                        count >= least * SERIES,
                        "an answer that is not marked has {count} of {} samples of writer {writer}",
                        least * SERIES
                    );
                }
                _ => reads.failed += 1,
            }
        }
        sleep(Duration::from_millis(300));
    }
    Ok(reads)
}

/// Every sample that was acknowledged is there once, with its value, and nothing else.
fn check(client: Client, writer: u64, account: &Account, minutes: u64) -> Result<()> {
    let query = format!("balanced{{writer=\"{writer}\"}}[{minutes}m]");
    let time = (now_ms() / 1_000 + 2).to_string();
    let (status, answer) =
        client.envelope("/api/v1/query", &[("query", query.as_str()), ("time", &time)])?;
    ensure!(status == 200 && answer.get("warnings").is_none(), "{status}: {}", answer["warnings"]);
    let rows = answer["data"]["result"].as_array().context("result is an array")?;
    ensure!(rows.len() as u64 == SERIES, "writer {writer} has {} series", rows.len());
    for row in rows {
        let series: u64 = row["metric"]["series"].as_str().unwrap_or_default().parse()?;
        let samples = row["values"].as_array().context("values are an array")?;
        let stored: Vec<(i64, f64)> = samples.iter().map(sample).collect::<Result<_>>()?;
        let times: Vec<i64> = stored.iter().map(|(t_ms, _)| *t_ms).collect();
        if times != account.acknowledged {
            let lost = account.acknowledged.iter().filter(|t_ms| !times.contains(t_ms)).count();
            let invented = times.iter().filter(|t_ms| !account.acknowledged.contains(t_ms)).count();
            let doubled = times.windows(2).filter(|two| two[0] >= two[1]).count();
            bail!(
                "writer {writer}, series {series}: {lost} lost, {doubled} doubled, {invented} invented"
            );
        }
        for (t_ms, stored) in stored {
            let sent = value(writer, series, t_ms);
            ensure!(
                stored.to_bits() == sent.to_bits(),
                "{sent} was sent for {t_ms}, {stored} is there"
            );
        }
    }
    Ok(())
}

fn sample(pair: &Value) -> Result<(i64, f64)> {
    let seconds = pair[0].as_f64().context("time is a number")?;
    let value = pair[1].as_str().unwrap_or_default().parse()?;
    Ok(((seconds * 1_000.0).round() as i64, value))
}

/// Consoles that know all brokers.
fn consoles(scratch: &Scratch, site: &Site) -> Result<Vec<crate::harness::Server>> {
    let brokers: Vec<String> = site.members.iter().map(|member| member.peers.to_string()).collect();
    let brokers = brokers.join(",");
    let start = |number: usize| {
        let name = format!("console-{number}");
        let data = scratch.join(&name).join("data");
        std::fs::create_dir_all(data.parent().expect("a directory of its own"))?;
        let token = join_token(&site.members[0].data, "console")?;
        let words = ["--broker", &brokers, "--join", &token, "--name", &name];
        Launch::console(&data).arguments(&words).start()
    };
    (0..CONSOLES).map(start).collect()
}

/// `SECONDS` is how long it goes on, five minutes unless it is set.
pub(super) fn seven_brokers(scratch: &Scratch) -> Result<String> {
    let seconds = std::env::var("SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(300);
    let (seed, lasts) = (Random::seed(), Duration::from_secs(seconds));
    let store = format!("file://{}", scratch.join("store").display());
    let places: Vec<Place> =
        (0..BROKERS).map(|_| Place::here(free_address()?)).collect::<Result<_>>()?;
    let mut site = Site::start_at(scratch, seed, store, &places)?;
    let consoles = consoles(scratch, &site)?;
    let addresses: Vec<SocketAddr> =
        site.members.iter().map(|member| member.client().address()).collect();
    let of_consoles: Vec<SocketAddr> =
        consoles.iter().map(|console| console.client().address()).collect();
    let nginx = Nginx::start(scratch, &addresses, &of_consoles)?;
    let (over, begun) = (AtomicBool::new(false), Instant::now());
    let known: Vec<AtomicU64> = (0..WRITERS).map(|_| AtomicU64::new(0)).collect();
    let starts = Mutex::new(Vec::new());
    let run = std::thread::scope(|scope| -> Result<_> {
        let (over, known, front) = (&over, &known, nginx.front);
        let writing: Vec<_> = (0..WRITERS)
            .zip(known)
            .map(|(writer, known)| scope.spawn(move || write(writer, front, known, over)))
            .collect();
        let reading =
            [front, nginx.brokers].map(|client| scope.spawn(move || read(client, known, over)));
        let kills = kill_again_and_again(&mut site, seed, begun, lasts, &starts);
        over.store(true, Ordering::Relaxed);
        let panicked = |_| anyhow!("a thread panicked");
        let accounts: Result<Vec<Account>> =
            writing.into_iter().map(|one| one.join().map_err(panicked)?).collect();
        let reads = reading.map(|one| one.join().map_err(panicked)?);
        Ok((kills?, accounts?, reads))
    });
    let (kills, accounts, [by_consoles, by_brokers]) =
        run.with_context(|| format!("seed {seed}"))?;
    let minutes = begun.elapsed().as_secs() / 60 + 2;
    for (writer, account) in (0..).zip(&accounts) {
        for (way, client) in [("consoles", nginx.front), ("brokers", nginx.brokers)] {
            let whom = || format!("seed {seed}, through {way}");
            check(client, writer, account, minutes).with_context(whom)?;
        }
    }
    for console in consoles {
        console.stop()?;
    }
    Ok(told(
        &accounts,
        kills,
        &[("consoles", by_consoles?), ("brokers", by_brokers?)],
        &starts.into_inner()?,
    ))
}

/// Kills a broker drawn by lot and starts it again, until the time is over; all run at the end. Yields how
/// many were killed.
fn kill_again_and_again(
    site: &mut Site,
    seed: u64,
    begun: Instant,
    lasts: Duration,
    starts: &Mutex<Vec<Duration>>,
) -> Result<u64> {
    let (mut random, mut kills) = (Random::new(seed), 0);
    loop {
        let next = EVERY * (u32::try_from(kills).expect("minutes") + 1);
        if next + AWAY >= lasts {
            sleep(lasts.saturating_sub(begun.elapsed()));
            return Ok(kills);
        }
        sleep(next.saturating_sub(begun.elapsed()));
        let victim = &mut site.members[random.below(BROKERS as u64) as usize];
        victim.kill()?;
        sleep(AWAY);
        let begin = Instant::now();
        victim.start_again()?;
        starts.lock().expect("nobody panicked").push(begin.elapsed());
        kills += 1;
    }
}

fn told(accounts: &[Account], kills: u64, reads: &[(&str, Reads)], starts: &[Duration]) -> String {
    let mut took: Vec<Duration> =
        accounts.iter().flat_map(|account| account.took.clone()).collect();
    took.sort();
    let at = |share: usize| took[(took.len() - 1) * share / 1_000].as_secs_f64();
    let batches = took.len() as u64;
    let mut refusals = std::collections::BTreeMap::new();
    for (status, count) in accounts.iter().flat_map(|account| &account.refusals) {
        *refusals.entry(*status).or_insert(0) += count;
    }
    let longest = starts.iter().max().copied().unwrap_or_default().as_secs_f64();
    let mut text = format!(
        "{kills} kills, {batches} batches, {} samples: 0 lost, 0 doubled, 0 invented; acknowledged after {:.2} s at \
         the median, {:.2} s p99, {:.2} s p99.9, {:.2} s at most; other answers {refusals:?}; starts ≤ {longest:.1} s",
        batches * SERIES,
        at(500),
        at(990),
        at(999),
        at(1_000),
    );
    for (way, Reads { whole, partial, failed }) in reads {
        let _ = write!(text, "; by {way} {whole} reads whole, {partial} marked, {failed} failed");
    }
    text
}
