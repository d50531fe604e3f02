//! `restart`: how soon a server answers after kill -9, and whether all it acknowledged is there.

use std::thread::sleep;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Result;

use crate::answers::Answer;
use crate::http::url_encode;
use crate::ingest;
use crate::load::Load;
use crate::server::{Flushing, Kind, Server};
use crate::table::{Table, grouped, megabytes};

/// VictoriaMetrics hides the last 30 s of the clock from queries (`-search.latencyOffset`).
const HIDDEN: Duration = Duration::from_secs(31);

/// Loads, kills and restarts each server in turn and yields the table.
pub(crate) fn run(load: &Load, kinds: &[Kind]) -> Result<String> {
    let mut table = Table::new([
        "server",
        "ready s",
        "first answer s",
        "samples counted",
        "of them missing",
        "RSS MB",
        "peak RSS MB",
        "disk MB before",
    ]);
    let family = load.shape.fleet.counted();
    let counted = load.shape.series_of(family) * load.shape.steps;
    for &kind in kinds {
        eprintln!("{}: taking in {} samples", kind.name(), load.shape.samples());
        table.push(measure(load, kind, counted)?);
    }
    Ok(format!(
        "{}\n\
         The server is killed with SIGKILL as soon as it has acknowledged the last request, with \
         its default times of flushing.\n\
         Ready: /-/ready (victoria-metrics: /health) answers 200. First answer: the \
         query count({}) does.\n\
         Missing: acknowledged samples of {family} that count_over_time no longer finds.\n",
        table.render(),
        load.shape.fleet.one_per_host()
    ))
}

fn measure(load: &Load, kind: Kind, counted: usize) -> Result<Vec<String>> {
    let visible = Duration::from_millis(u64::try_from(load.end_ms)?) + HIDDEN;
    sleep(visible.saturating_sub(SystemTime::now().duration_since(UNIX_EPOCH)?));
    let mut server = Server::start(kind, Flushing::Default)?;
    ingest::send(&load.requests, &server)?;
    let disk_bytes = server.disk_bytes()?;
    let started = server.kill_and_start_again()?;
    server.wait_ready()?;
    let ready = started.elapsed();
    let end = load.end_ms / 1_000;
    let fleet = load.shape.fleet;
    let first = format!(
        "/api/v1/query?query=count({})&time={end}{}",
        fleet.one_per_host(),
        kind.uncached()
    );
    server.wait_answering(&first)?;
    let answered = started.elapsed();
    let window = (load.shape.duration_ms() + load.shape.step_ms) / 1_000;
    let count = format!("sum(count_over_time({}[{window}s]))", fleet.counted());
    let path = format!("/api/v1/query?query={}&time={end}", url_encode(&count));
    let body = server.client()?.get(&format!("{path}{}", kind.uncached()))?.successful()?;
    let found = Answer::parse(&body)?.total();
    let memory = server.memory()?;
    Ok(vec![
        kind.name().to_owned(),
        format!("{:.2}", ready.as_secs_f64()),
        format!("{:.2}", answered.as_secs_f64()),
        grouped(counted as f64),
        grouped(counted as f64 - found),
        megabytes(memory.now_bytes),
        megabytes(memory.peak_bytes),
        megabytes(disk_bytes),
    ])
}
