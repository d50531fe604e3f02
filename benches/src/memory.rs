//! `memory`: what a server keeps in memory while its series get a sample per step by the clock.
//!
//! The samples' timestamps are older than the clock by the length of the load; their pace is the
//! clock's, so that servers flush and merge as often as they do in life.

use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::load::Load;
use crate::server::{Flushing, Kind, Server};
use crate::table::{Table, megabytes, ratio};

/// VictoriaMetrics closes connections after two minutes.
const RECONNECT_EVERY: Duration = Duration::from_secs(30);
/// How often memory is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What one server kept.
#[derive(Debug)]
struct Kept {
    kind: Kind,
    empty_bytes: u64,
    /// Means over the last half of the steps.
    mean_bytes: f64,
    peak_bytes: u64,
    /// Of one core.
    cpu_share: f64,
}

/// Sends the load to each server in turn, a step at a time, and yields the table.
pub(crate) fn run(load: &Load, kinds: &[Kind]) -> Result<String> {
    let mut kept = Vec::new();
    for &kind in kinds {
        let seconds = load.shape.duration_ms() / 1_000;
        eprintln!("{}: {} samples in {seconds} s", kind.name(), load.shape.samples());
        let one = measure(load, kind)?;
        eprintln!("{}: {:.0} MB", kind.name(), one.mean_bytes / 1e6);
        kept.push(one);
    }
    Ok(render(load, &kept))
}

fn measure(load: &Load, kind: Kind) -> Result<Kept> {
    let server = Server::start(kind, Flushing::Default)?;
    let empty_bytes = server.memory()?.now_bytes;
    let (started, cpu_before) = (Instant::now(), server.cpu_seconds()?);
    let total = Duration::from_millis(u64::try_from(load.shape.duration_ms())?);
    let mut looks = Vec::new();
    std::thread::scope(|scope| -> Result<()> {
        let senders: Vec<_> = load
            .requests
            .lanes
            .iter()
            .map(|lane| scope.spawn(|| send_lane(lane, &server, started, total)))
            .collect();
        while !senders.iter().all(|sender| sender.is_finished()) {
            sleep(LOOK_EVERY);
            if started.elapsed() > total / 2 {
                looks.push(server.memory()?.now_bytes as f64);
            }
        }
        senders
            .into_iter()
            .try_for_each(|sender| sender.join().expect("a sender returns its errors"))
    })?;
    Ok(Kept {
        kind,
        empty_bytes,
        mean_bytes: looks.iter().sum::<f64>() / looks.len().max(1) as f64,
        peak_bytes: server.memory()?.peak_bytes,
        cpu_share: (server.cpu_seconds()? - cpu_before) / started.elapsed().as_secs_f64(),
    })
}

/// Sends each request at its time: they are spread evenly over the load's duration.
fn send_lane(lane: &[Vec<u8>], server: &Server, started: Instant, total: Duration) -> Result<()> {
    let (mut client, mut connected) = (server.client()?, Instant::now());
    for (number, body) in lane.iter().enumerate() {
        if connected.elapsed() > RECONNECT_EVERY {
            (client, connected) = (server.client()?, Instant::now());
        }
        let due = total.mul_f64(number as f64 / lane.len() as f64);
        sleep(due.saturating_sub(started.elapsed()));
        client
            .write("/api/v1/write", body)
            .and_then(|answer| answer.successful())
            .with_context(|| format!("request {number}:\n{}", server.last_words()))?;
    }
    Ok(())
}

fn render(load: &Load, all: &[Kept]) -> String {
    let reference = all.iter().find(|kept| kept.kind == Kind::VictoriaMetrics);
    let mut table =
        Table::new(["server", "RSS MB", "vs VM", "B/series", "vs VM", "peak RSS MB", "CPU %"]);
    let per_series =
        |kept: &Kept| (kept.mean_bytes - kept.empty_bytes as f64) / load.shape.series as f64;
    for kept in all {
        table.push(vec![
            kept.kind.name().to_owned(),
            megabytes(kept.mean_bytes as u64),
            ratio(kept.mean_bytes, reference.map(|one| one.mean_bytes)),
            format!("{:.0}", per_series(kept)),
            ratio(per_series(kept), reference.map(per_series)),
            megabytes(kept.peak_bytes),
            format!("{:.0}", kept.cpu_share * 100.0),
        ]);
    }
    format!(
        "{}\n\
         Every series gets a sample each {} s by the clock, {} times. RSS: mean of the second half. \
         B/series: that, less what the empty server had. CPU: of one core.\n",
        table.render(),
        load.shape.step_ms / 1_000,
        load.shape.steps
    )
}
