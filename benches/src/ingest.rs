//! `ingest`: what it costs to take in a load.

use std::time::Instant;

use anyhow::{Context, Result};

use crate::load::Requests;
use crate::server::{Flushing, Kind, Server};
use crate::table::{Table, grouped, megabytes, ratio};
use crate::usage::Memory;

/// What one server needed for the load.
#[derive(Debug)]
struct Cost {
    kind: Kind,
    wall_seconds: f64,
    cpu_seconds: f64,
    empty_memory: Memory,
    memory: Memory,
    disk_bytes: u64,
    stopped_bytes: u64,
}

/// Sends everything to each server in turn and yields the table.
pub(crate) fn run(requests: &Requests, kinds: &[Kind]) -> Result<String> {
    let mut costs = Vec::new();
    for &kind in kinds {
        eprintln!("{}: taking in {} samples", kind.name(), requests.samples);
        costs.push(measure(requests, kind)?);
    }
    Ok(render(requests, &costs))
}

fn measure(requests: &Requests, kind: Kind) -> Result<Cost> {
    let server = Server::start(kind, Flushing::Soon)?;
    let (empty_memory, cpu_before) = (server.memory()?, server.cpu_seconds()?);
    let wall_seconds = send(requests, &server)?;
    server.wait_quiet()?;
    Ok(Cost {
        kind,
        wall_seconds,
        cpu_seconds: server.cpu_seconds()? - cpu_before,
        empty_memory,
        memory: server.memory()?,
        disk_bytes: server.disk_bytes()?,
        stopped_bytes: server.stop()?,
    })
}

/// Sends every request, each connection in its order, and yields the seconds until the last one
/// was acknowledged.
///
/// # Errors
/// At the first request that is not answered with a success.
pub(crate) fn send(requests: &Requests, server: &Server) -> Result<f64> {
    let started = Instant::now();
    std::thread::scope(|scope| {
        let senders: Vec<_> = requests
            .lanes
            .iter()
            .map(|lane| scope.spawn(move || send_lane(lane, server)))
            .collect();
        senders
            .into_iter()
            .try_for_each(|sender| sender.join().expect("a sender returns its errors"))
    })?;
    Ok(started.elapsed().as_secs_f64())
}

fn send_lane(lane: &[Vec<u8>], server: &Server) -> Result<()> {
    let mut client = server.client()?;
    for (number, body) in lane.iter().enumerate() {
        client.write("/api/v1/write", body).and_then(|answer| answer.successful()).with_context(
            || {
                format!(
                    "{}: request {number} of {}; it logged:\n{}",
                    server.kind.name(),
                    lane.len(),
                    server.last_words()
                )
            },
        )?;
    }
    Ok(())
}

fn render(requests: &Requests, costs: &[Cost]) -> String {
    let (samples, series) = (requests.samples as f64, requests.series as f64);
    let reference = costs.iter().find(|cost| cost.kind == Kind::VictoriaMetrics);
    let mut table = Table::new([
        "server",
        "wall s",
        "CPU s",
        "samples/CPU-s",
        "vs VM",
        "RSS MB",
        "vs VM",
        "peak RSS MB",
        "RSS growth B/series",
        "disk MB",
        "B/sample",
        "vs VM",
        "disk MB stopped",
    ]);
    for cost in costs {
        let per_sample = |cost: &Cost| cost.disk_bytes as f64 / samples;
        let pace = |cost: &Cost| samples / cost.cpu_seconds;
        let resident = |cost: &Cost| cost.memory.now_bytes as f64;
        let growth = resident(cost) - cost.empty_memory.now_bytes as f64;
        table.push(vec![
            cost.kind.name().to_owned(),
            format!("{:.1}", cost.wall_seconds),
            format!("{:.2}", cost.cpu_seconds),
            grouped(pace(cost)),
            ratio(pace(cost), reference.map(pace)),
            megabytes(cost.memory.now_bytes),
            ratio(resident(cost), reference.map(resident)),
            megabytes(cost.memory.peak_bytes),
            format!("{:.0}", growth / series),
            megabytes(cost.disk_bytes),
            format!("{:.3}", per_sample(cost)),
            ratio(per_sample(cost), reference.map(per_sample)),
            megabytes(cost.stopped_bytes),
        ]);
    }
    format!(
        "{}\n\
         CPU: all threads, from the first request until the server was quiet (below 2 % of a core \
         for 5 s, at least 35 s after the last request).\n\
         Disk: what all files of the data directory occupy when quiet, and after a clean stop, \
         without the 8 MiB that watchfire reserves for a full disk.\n\
         watchfire syncs before it acknowledges, flushes each 20 s and merges within the time \
         measured; victoria-metrics does not sync before it acknowledges; prometheus does not \
         either, and keeps up to the last 3 h in its head and log, whose compaction is not in its \
         figures.\n",
        table.render()
    )
}
