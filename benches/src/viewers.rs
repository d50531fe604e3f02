//! `viewers`: many who watch live samples over WebSocket, each the series of one host, while all hosts send once a
//! second; and some who stop reading.
//!
//! Each sample's value is the moment at which its request was sent, so a viewer knows its delay.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use tokio::task::JoinSet;

use crate::http::Client;
use crate::load::{put_labels, put_series};
use crate::scrape::quantile;
use crate::server::{Flushing, Setup};
use crate::site::Site;
use crate::stores::StoreKind;
use crate::table::{Table, grouped, megabytes};
use crate::usage;
use crate::websocket::WebSocket;

/// Who watches what.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Viewers, spread over the brokers and the hosts
    #[arg(long, default_value_t = 1_000)]
    viewers: usize,
    /// Further viewers that watch all hosts and do not read
    #[arg(long, default_value_t = 20)]
    stalled: usize,
    /// Hosts that send once a second
    #[arg(long, default_value_t = 100)]
    hosts: usize,
    /// Series of each host
    #[arg(long, default_value_t = 100)]
    series: usize,
    /// How long they watch
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Brokers of a cluster; 0: one machine without a cluster
    #[arg(long, default_value_t = 0)]
    brokers: usize,
    /// Store of the cluster: file, moto, redis, redis-cluster, which are started for it, or a URL
    #[arg(long, default_value = "file")]
    store: StoreKind,
}

/// Connections that send, to each broker.
const SENDERS: usize = 20;
const SETTLE: Duration = Duration::from_secs(10);
/// Files besides the connections.
const SPARE: usize = 500;

/// A frame of the server.
#[derive(Debug, Deserialize)]
struct Frame {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    samples: serde_json::Value,
    #[serde(default)]
    error: String,
}

/// What all viewers saw.
#[derive(Debug, Default)]
struct Seen {
    delays_ms: Vec<f64>,
    missed: u64,
}

/// What is shared by those who send and those who watch.
#[derive(Debug, Default)]
struct Course {
    is_over: AtomicBool,
    /// Delays count.
    is_measured: AtomicBool,
    /// Nobody sends any more.
    is_sent: AtomicBool,
}

/// Runs it and yields the table.
pub(crate) fn run(options: &Options) -> Result<String> {
    let connections = options.viewers + options.stalled + SPARE;
    crate::fleet::raise_open_files(connections)?;
    let setup = Setup { max_connections: Some(connections), ..Flushing::Soon.into() };
    let site = match options.brokers {
        0 => Site::one_machine(setup)?,
        brokers => Site::start(brokers, &options.store, &setup)?,
    };
    let runtime = tokio::runtime::Runtime::new().context("start the runtime")?;
    let addresses: Vec<SocketAddr> = site.servers.iter().map(|server| server.address()).collect();
    let course = Arc::new(Course::default());
    let sending: Vec<_> = (0..SENDERS)
        .map(|place| {
            let hosts: Vec<usize> = (place..options.hosts).step_by(SENDERS).collect();
            let (address, course) = (addresses[place % addresses.len()], Arc::clone(&course));
            let series = options.series;
            std::thread::spawn(move || send(&hosts, series, address, &course))
        })
        .collect();
    sleep(SETTLE);
    let mut table = Table::new([
        "viewers",
        "samples/s seen",
        "delay ms p50",
        "p99",
        "max",
        "missed",
        "brokers' cores",
        "viewers' cores",
        "RSS MB",
        "kB per viewer",
        "peak RSS MB",
    ]);
    let idle = site.resident_bytes()?;
    let mut row = |who: &str, seen: &mut Seen, cost: Cost| -> Result<()> {
        seen.delays_ms.sort_by(f64::total_cmp);
        let late = |share| format!("{:.1}", quantile(&seen.delays_ms, share));
        let memory = site.resident_bytes()?;
        let per_viewer = memory.saturating_sub(idle) as f64 / options.viewers.max(1) as f64;
        table.push(vec![
            who.to_owned(),
            grouped(seen.delays_ms.len() as f64 / cost.seconds),
            late(0.5),
            late(0.99),
            late(1.0),
            grouped(seen.missed as f64),
            format!("{:.2}", cost.cores),
            format!("{:.2}", cost.own_cores),
            megabytes(memory),
            format!("{:.1}", per_viewer / 1e3),
            megabytes(site.peaks()?.into_iter().sum()),
        ]);
        Ok(())
    };
    let cost = measure(&site, Duration::from_secs(options.seconds))?;
    row("nobody", &mut Seen::default(), cost)?;
    eprintln!("{} viewers connect", options.viewers);
    // Connects the viewers, lets them settle and watches for so long.
    let watched = || -> Result<_> {
        let mut watching = JoinSet::new();
        for number in 0..options.viewers {
            let address = addresses[number % addresses.len()];
            let selector = format!("{{instance=\"host-{}\"}}", number % options.hosts);
            let opened = runtime.block_on(WebSocket::subscribe(address, &selector))?;
            watching.spawn_on(watch(opened, Arc::clone(&course)), runtime.handle());
        }
        sleep(SETTLE);
        course.is_measured.store(true, Ordering::Relaxed);
        let cost = measure(&site, Duration::from_secs(options.seconds))?;
        course.is_measured.store(false, Ordering::Relaxed);
        Ok((collect(&runtime, &course, watching)?, cost))
    };
    let (mut seen, cost) = watched()?;
    ensure!(!seen.delays_ms.is_empty(), "nobody saw anything");
    row(&grouped(options.viewers as f64), &mut seen, cost)?;
    if options.stalled > 0 {
        eprintln!("{} more do not read", options.stalled);
        course.is_over.store(false, Ordering::Relaxed);
        let mut stalled = Vec::new();
        for number in 0..options.stalled {
            let address = addresses[number % addresses.len()];
            stalled.push(runtime.block_on(WebSocket::subscribe(address, "{__name__!=\"\"}"))?);
        }
        let (mut seen, cost) = watched()?;
        let who = format!("{} and {} stalled", options.viewers, options.stalled);
        row(&who, &mut seen, cost)?;
        drop(stalled);
    }
    course.is_sent.store(true, Ordering::Relaxed);
    for one in sending {
        one.join().expect("a sender returns its errors")?;
    }
    let which = match options.brokers {
        0 => "One machine".to_owned(),
        many => format!("A cluster of {many}, store {}", options.store.name()),
    };
    Ok(format!(
        "{}\n\
         {which}. {} hosts with {} series send once a second by remote write; each viewer watches one host. Delay: from \
         before the request is sent until a viewer has parsed the frame, of each sample. Who does not read watches \
         all hosts, and keeps {} KiB in the system. Each line is of {} s; kB per viewer: beyond the memory with nobody.\n",
        table.render(),
        options.hosts,
        options.series,
        192,
        options.seconds
    ))
}

/// What a time cost.
struct Cost {
    seconds: f64,
    cores: f64,
    own_cores: f64,
}

fn measure(site: &Site, time: Duration) -> Result<Cost> {
    let own_pid = std::process::id();
    let (started, cpu, own) = (Instant::now(), site.cpu_seconds()?, usage::cpu_seconds(own_pid)?);
    sleep(time);
    let seconds = started.elapsed().as_secs_f64();
    Ok(Cost {
        seconds,
        cores: (site.cpu_seconds()? - cpu) / seconds,
        own_cores: (usage::cpu_seconds(own_pid)? - own) / seconds,
    })
}

fn collect(
    runtime: &tokio::runtime::Runtime,
    course: &Course,
    mut watching: JoinSet<Result<Seen>>,
) -> Result<Seen> {
    course.is_over.store(true, Ordering::Relaxed);
    runtime.block_on(async {
        let mut all = Seen::default();
        while let Some(seen) = watching.join_next().await {
            let seen = seen??;
            all.delays_ms.extend(seen.delays_ms);
            all.missed += seen.missed;
        }
        Ok(all)
    })
}

/// Reads what comes until it is over.
async fn watch(mut socket: WebSocket, course: Arc<Course>) -> Result<Seen> {
    let mut seen = Seen::default();
    while !course.is_over.load(Ordering::Relaxed) {
        let frame: Frame = serde_json::from_slice(&socket.receive().await?)?;
        let now = now_s();
        match frame.kind.as_str() {
            "samples" if course.is_measured.load(Ordering::Relaxed) => {
                let samples = frame.samples.as_array().context("samples are a list")?;
                let sent = samples.iter().filter_map(|sample| sample[2].as_f64());
                seen.delays_ms.extend(sent.map(|sent| (now - sent) * 1e3));
            }
            "missed" => seen.missed += frame.samples.as_u64().unwrap_or(0),
            "error" => anyhow::bail!("a viewer was told: {}", frame.error),
            _ => {}
        }
    }
    Ok(seen)
}

/// Sends what some hosts have, one request once a second, until all is over.
fn send(hosts: &[usize], series: usize, address: SocketAddr, course: &Course) -> Result<()> {
    let labels: Vec<Vec<Vec<u8>>> = hosts
        .iter()
        .map(|host| {
            let host = format!("host-{host}");
            let labels = |number: usize| {
                let (mut bytes, number) = (Vec::new(), number.to_string());
                let labels = [
                    ("__name__", "viewed"),
                    ("instance", host.as_str()),
                    ("job", "bench"),
                    ("series", number.as_str()),
                ];
                put_labels(&mut bytes, &labels);
                bytes
            };
            (0..series).map(labels).collect()
        })
        .collect();
    let (mut snappy, mut request) = (snap::raw::Encoder::new(), Vec::new());
    let mut client = Client::connect(address)?;
    let started = Instant::now();
    for second in 0_u32.. {
        if course.is_sent.load(Ordering::Relaxed) {
            return Ok(());
        }
        sleep(Duration::from_secs(1).mul_f64(f64::from(second)).saturating_sub(started.elapsed()));
        request.clear();
        let now = now_s();
        for series in labels.iter().flatten() {
            put_series(&mut request, series, (now * 1e3) as i64, now);
        }
        if request.is_empty() {
            continue;
        }
        client.write("/api/v1/write", &snappy.compress_vec(&request)?)?.successful()?;
    }
    Ok(())
}

/// Seconds since the epoch, with microseconds.
fn now_s() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}
