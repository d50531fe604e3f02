//! `dashboards`: small questions at a fixed rate, to a server that has answered them before; and
//! one of them while a load comes in at half the pace the server is capable of.
//!
//! Times count from the moment a question was due, not from the moment a connection was free for
//! it, so that a server that falls behind is charged for it (Gil Tene's "coordinated omission").

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::load::Load;
use crate::query::{Question, questions};
use crate::server::{Flushing, Kind, Server};
use crate::table::Table;

const PER_SECOND: f64 = 200.0;
const HOT: Duration = Duration::from_secs(30);
const WHILE_INGESTING_PER_SECOND: f64 = 20.0;
const CONNECTIONS: usize = 8;
/// The part of a load that is sent before anything is asked; its pace is the maximum.
const BEFORE: f64 = 0.25;
/// The windows of these questions are what a dashboard shows.
const WINDOW: &str = "1 h / 15 s";
/// Questions over all series are not small.
const LARGE: &[&str] = &["count over all", "regex on names"];

/// Times of one server, ascending, in milliseconds.
#[derive(Debug)]
struct Times {
    ascending_ms: Vec<f64>,
    cpu_share: f64,
}

/// Loads each server in turn, asks it, and yields the table.
pub(crate) fn run(load: &Load, kinds: &[Kind]) -> Result<String> {
    let small: Vec<Question> = questions(load)
        .into_iter()
        .filter(|question| question.window == WINDOW && !LARGE.contains(&question.name))
        .collect();
    ensure!(!small.is_empty(), "the load is shorter than an hour: raise --steps");
    let mut table = Table::new([
        "server",
        "asked",
        "p50 ms",
        "p99 ms",
        "max ms",
        "CPU %",
        "ingested/s",
        "asked meanwhile",
        "p50 ms",
        "p99 ms",
        "max ms",
    ]);
    for &kind in kinds {
        table.push(measure(load, &small, kind)?);
    }
    let names: Vec<&str> = small.iter().map(|question| question.name).collect();
    Ok(format!(
        "{}\n\
         {PER_SECOND} questions per second for {} s, in turn ({}), over {WINDOW}, each asked once \
         before; what servers cache of results is on. Then {WHILE_INGESTING_PER_SECOND} per second \
         of the first of them, while samples come at half the pace at which the server took the \
         first quarter of the load. Times count from when a question was due. CPU: of one core.\n",
        table.render(),
        HOT.as_secs(),
        names.join(", ")
    ))
}

fn measure(load: &Load, small: &[Question], kind: Kind) -> Result<Vec<String>> {
    eprintln!("{}: taking in {} samples", kind.name(), load.shape.samples());
    let server = Server::start(kind, Flushing::Default)?;
    let started = Instant::now();
    let before = |lane: &Vec<Vec<u8>>| (lane.len() as f64 * BEFORE) as usize;
    each_lane(load, |lane| send(&server, &lane[..before(lane)], None))?;
    let seconds = started.elapsed().as_secs_f64();
    let pace = load.shape.samples() as f64 * BEFORE / seconds / 2.0;
    server.wait_quiet()?;
    let paths: Vec<&str> = small.iter().map(|question| question.path.as_str()).collect();
    for path in &paths {
        server.client()?.get(path)?.successful()?;
    }
    eprintln!("{}: asking", kind.name());
    let running = AtomicBool::new(true);
    let hot = ask(&server, &paths, PER_SECOND, Some(HOT), &running)?;
    eprintln!("{}: asking while samples come", kind.name());
    let busy = std::thread::scope(|scope| -> Result<Times> {
        let asking =
            scope.spawn(|| ask(&server, &paths[..1], WHILE_INGESTING_PER_SECOND, None, &running));
        let spread = Duration::from_secs_f64(seconds * 2.0 * (1.0 - BEFORE) / BEFORE);
        let sent = each_lane(load, |lane| send(&server, &lane[before(lane)..], Some(spread)));
        running.store(false, Ordering::Relaxed);
        let times = asking.join().expect("who asks returns its errors")?;
        sent.map(|()| times)
    })?;
    let mut row = vec![kind.name().to_owned()];
    row.extend(hot.cells());
    row.push(format!("{:.0}", hot.cpu_share * 100.0));
    row.push(crate::table::grouped(pace));
    row.extend(busy.cells());
    Ok(row)
}

impl Times {
    fn cells(&self) -> [String; 4] {
        let at = |share: f64| {
            let place = (self.ascending_ms.len() as f64 * share) as usize;
            self.ascending_ms.get(place.min(self.ascending_ms.len() - 1))
        };
        let cell = |ms: Option<&f64>| ms.map_or_else(|| "-".to_owned(), |ms| format!("{ms:.1}"));
        [self.ascending_ms.len().to_string(), cell(at(0.5)), cell(at(0.99)), cell(at(1.0))]
    }
}

fn each_lane(load: &Load, work: impl Fn(&Vec<Vec<u8>>) -> Result<()> + Sync) -> Result<()> {
    std::thread::scope(|scope| {
        let work = &work;
        let lanes: Vec<_> =
            load.requests.lanes.iter().map(|lane| scope.spawn(move || work(lane))).collect();
        lanes.into_iter().try_for_each(|lane| lane.join().expect("a lane returns its errors"))
    })
}

/// Sends requests one after the other, spread over a time if there is one.
fn send(server: &Server, bodies: &[Vec<u8>], spread: Option<Duration>) -> Result<()> {
    let (mut client, started) = (server.client()?, Instant::now());
    for (number, body) in bodies.iter().enumerate() {
        if let Some(spread) = spread {
            let due = spread.mul_f64(number as f64 / bodies.len() as f64);
            sleep(due.saturating_sub(started.elapsed()));
        }
        client
            .write("/api/v1/write", body)
            .and_then(|answer| answer.successful())
            .with_context(|| format!("request {number}:\n{}", server.last_words()))?;
    }
    Ok(())
}

/// Asks at a fixed rate, for a time or until told to end.
fn ask(
    server: &Server,
    paths: &[&str],
    per_second: f64,
    time: Option<Duration>,
    running: &AtomicBool,
) -> Result<Times> {
    let (next, started) = (AtomicUsize::new(0), Instant::now());
    let cpu_before = server.cpu_seconds()?;
    let work = || -> Result<Vec<f64>> {
        let mut client = server.client()?;
        let mut times = Vec::new();
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let due = Duration::from_secs_f64(number as f64 / per_second);
            if time.is_some_and(|time| due >= time) || !running.load(Ordering::Relaxed) {
                return Ok(times);
            }
            sleep(due.saturating_sub(started.elapsed()));
            client.get(paths[number % paths.len()])?.successful()?;
            times.push((started.elapsed().saturating_sub(due)).as_secs_f64() * 1e3);
        }
    };
    let mut ascending_ms = std::thread::scope(|scope| -> Result<Vec<f64>> {
        let workers: Vec<_> = (0..CONNECTIONS).map(|_| scope.spawn(work)).collect();
        let mut all = Vec::new();
        for worker in workers {
            all.extend(worker.join().expect("a worker returns its errors")?);
        }
        Ok(all)
    })?;
    ensure!(!ascending_ms.is_empty(), "nothing was asked: the load is too short");
    ascending_ms.sort_by(f64::total_cmp);
    let cpu_share = (server.cpu_seconds()? - cpu_before) / started.elapsed().as_secs_f64();
    Ok(Times { ascending_ms, cpu_share })
}
