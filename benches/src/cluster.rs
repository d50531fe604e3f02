//! `cluster`: what it costs that several brokers agree and that a store beside them keeps everything,
//! against one machine with its log, under the same load on the same cores.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::load::Load;
use crate::query::{self, Question};
use crate::scrape::quantile;
use crate::server::{Flushing, Server};
use crate::site::{Bill, PRICE_GB_MONTH, PRICE_GET, PRICE_PUT, Site};
use crate::stores::StoreKind;
use crate::table::{Table, grouped, megabytes, ratio};

/// What is measured.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    #[command(flatten)]
    pub(crate) load: crate::Options,
    /// Brokers of each cluster
    #[arg(long, value_delimiter = ',', default_values_t = [1, 2, 3])]
    brokers: Vec<usize>,
    /// Store that each cluster is measured over: file, moto, redis, redis-cluster, which are started for it, or
    /// the prefix of a store that holds nothing, with the credentials of the environment. May be given several times
    #[arg(long, default_value = "file")]
    store: Vec<StoreKind>,
    /// Only measure acknowledgements: no questions
    #[arg(long)]
    no_questions: bool,
}

/// Connections of a load that names fewer. A broker of a cluster seals four segments a second as long as little
/// comes, so that a sender that waits for each answer gets four requests through in a second; Prometheus uses up to 50 at once.
pub(crate) const CONNECTIONS: usize = 50;

/// The end of each connection's requests, in so many of a hundred, is sent by the clock: what
/// a sender that is not held up waits for its answer.
const PACED_PERCENT: usize = 3;
const PACED_PER_SECOND: f64 = 20.0;
/// How long many ask at once, and how many.
const ASKING: Duration = Duration::from_secs(10);
const ASKERS: usize = 4;

/// What one site needed.
struct Cost {
    name: String,
    /// Samples that came as fast as they were taken.
    samples: f64,
    wall_seconds: f64,
    cpu_seconds: f64,
    resident_bytes: u64,
    /// Of these requests, in order.
    acknowledged_ms: Vec<f64>,
    /// Of those by the clock, in order.
    paced_ms: Vec<f64>,
    /// CPU in cores when nothing is done.
    idle_cores: f64,
    /// Of all questions together, each at each broker: milliseconds and CPU milliseconds.
    asked: Vec<(f64, f64)>,
    /// Questions a second, of many that ask at once.
    answered_per_second: f64,
    bill: Option<Bill>,
}

/// Loads one machine and a cluster of each size over each store in turn, and yields the table.
pub(crate) fn run(load: &Load, options: &Options) -> Result<String> {
    let lanes = load.requests.lanes.len();
    let most = options.brokers.iter().copied().max().unwrap_or(0);
    ensure!(
        options.brokers.iter().all(|&brokers| brokers > 0) && lanes >= most,
        "--connections must be at least --brokers, and --brokers at least 1: each broker is written to"
    );
    let questions = if options.no_questions { Vec::new() } else { query::questions(load) };
    let mut costs = vec![measure(
        "one machine".to_owned(),
        &Site::one_machine(Flushing::Soon)?,
        load,
        &questions,
    )?];
    for store in &options.store {
        for &brokers in &options.brokers {
            let site = Site::start(brokers, store, &Flushing::Soon.into())?;
            let name = format!("{brokers} on {}", store.name());
            costs.push(measure(name, &site, load, &questions)?);
        }
    }
    Ok(render(&costs))
}

fn measure(name: String, site: &Site, load: &Load, questions: &[Question]) -> Result<Cost> {
    eprintln!("{name}: taking in {} samples", load.requests.samples);
    let idle_cores = idle_cores(site)?;
    let before = site.cpu_seconds()?;
    let billed = site.bill()?;
    let paced = |lane: &Vec<Vec<u8>>| lane.len() - (lane.len() * PACED_PERCENT).div_ceil(100);
    let (wall_seconds, acknowledged_ms) = send(load, site, |lane| &lane[..paced(lane)])?;
    site.wait_quiet()?;
    let cpu_seconds = site.cpu_seconds()? - before;
    let bill = site.bill()?.zip(billed).map(|(after, before)| after.since(before));
    let requests: usize = load.requests.lanes.iter().map(Vec::len).sum();
    let unpaced: usize = load.requests.lanes.iter().map(paced).sum();
    let samples = load.requests.samples as f64 * unpaced as f64 / requests as f64;
    eprintln!("{name}: the rest by the clock");
    let paced_ms = send_by_the_clock(load, site, |lane| &lane[paced(lane)..])?;
    // All brokers are asked for all that was written at any.
    // The load ended when it was encoded, and was sent since.
    let window = load.shape.duration_ms() / 1_000 + 1_800;
    for server in &site.servers {
        let all = format!("sum(count_over_time({{__name__!=\"\"}}[{window}s]))");
        let (found, wanted) = (server.query_total(&all)?, load.requests.samples as f64);
        ensure!(found == wanted, "{name}: {found} of {wanted} samples are found");
    }
    let mut asked = Vec::new();
    if !questions.is_empty() {
        site.wait_quiet()?;
        eprintln!("{name}: asking");
    }
    for question in questions {
        for server in &site.servers {
            let before = site.cpu_seconds()?;
            let asking = query::time(question, server)?;
            let per_run = (site.cpu_seconds()? - before) * 1e3 / (asking.runs + 1) as f64;
            asked.push((asking.p50_ms, per_run));
        }
    }
    let answered_per_second = ask_at_once(site, questions)?;
    let resident_bytes = site.resident_bytes()?;
    Ok(Cost {
        name,
        samples,
        wall_seconds,
        cpu_seconds,
        resident_bytes,
        acknowledged_ms,
        paced_ms,
        idle_cores,
        asked,
        answered_per_second,
        bill,
    })
}

fn idle_cores(site: &Site) -> Result<f64> {
    const LONG: Duration = Duration::from_secs(10);
    let before = site.cpu_seconds()?;
    sleep(LONG);
    Ok((site.cpu_seconds()? - before) / LONG.as_secs_f64())
}

/// Each connection keeps to one broker. Yields seconds until the last acknowledgement, and the
/// milliseconds of all.
fn send<'a>(
    load: &'a Load,
    site: &Site,
    part: impl Fn(&'a Vec<Vec<u8>>) -> &'a [Vec<u8>],
) -> Result<(f64, Vec<f64>)> {
    let started = Instant::now();
    let mut times = std::thread::scope(|scope| {
        let senders: Vec<_> = load
            .requests
            .lanes
            .iter()
            .enumerate()
            .map(|(number, lane)| {
                let server = &site.servers[number % site.servers.len()];
                let lane = part(lane);
                scope.spawn(move || send_lane(lane, server))
            })
            .collect();
        let mut times = Vec::new();
        for sender in senders {
            times.extend(sender.join().expect("a sender returns its errors")?);
        }
        anyhow::Ok(times)
    })?;
    let wall_seconds = started.elapsed().as_secs_f64();
    times.sort_by(f64::total_cmp);
    Ok((wall_seconds, times))
}

fn send_lane(lane: &[Vec<u8>], server: &Server) -> Result<Vec<f64>> {
    let mut client = server.client()?;
    let mut times = Vec::with_capacity(lane.len());
    for body in lane {
        let sent = Instant::now();
        let answer = client.write("/api/v1/write", body).and_then(|answer| answer.successful());
        answer.with_context(|| format!("a broker logged:\n{}", server.last_words()))?;
        times.push(sent.elapsed().as_secs_f64() * 1e3);
    }
    Ok(times)
}

/// As [`send`], but each connection's requests are due one after the other at a fixed pace, and times count from when one
/// was due.
fn send_by_the_clock<'a>(
    load: &'a Load,
    site: &Site,
    part: impl Fn(&'a Vec<Vec<u8>>) -> &'a [Vec<u8>],
) -> Result<Vec<f64>> {
    let lanes = &load.requests.lanes;
    let every = Duration::from_secs_f64(lanes.len() as f64 / PACED_PER_SECOND);
    let started = Instant::now();
    let mut times = std::thread::scope(|scope| {
        let senders: Vec<_> = lanes
            .iter()
            .enumerate()
            .map(|(number, lane)| {
                let server = &site.servers[number % site.servers.len()];
                let (lane, first) = (part(lane), every.mul_f64(number as f64 / lanes.len() as f64));
                scope.spawn(move || -> Result<Vec<f64>> {
                    let mut times = Vec::with_capacity(lane.len());
                    for (place, body) in (0_u32..).zip(lane) {
                        let due = first + every * place;
                        sleep(due.saturating_sub(started.elapsed()));
                        // Servers close connections that were idle for long.
                        let answer = server.client()?.write("/api/v1/write", body)?.successful();
                        answer.with_context(|| server.last_words())?;
                        times.push((started.elapsed() - due).as_secs_f64() * 1e3);
                    }
                    Ok(times)
                })
            })
            .collect();
        let mut times = Vec::new();
        for sender in senders {
            times.extend(sender.join().expect("a sender returns its errors")?);
        }
        anyhow::Ok(times)
    })?;
    times.sort_by(f64::total_cmp);
    Ok(times)
}

/// How many questions are answered in a second when several ask one after the other, spread over the brokers.
fn ask_at_once(site: &Site, questions: &[Question]) -> Result<f64> {
    if questions.is_empty() {
        return Ok(0.0);
    }
    let (next, answered) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let started = Instant::now();
    std::thread::scope(|scope| {
        let work = |number: usize| -> Result<()> {
            let server = &site.servers[number % site.servers.len()];
            let mut client = server.client()?;
            while started.elapsed() < ASKING {
                let question = &questions[next.fetch_add(1, Ordering::Relaxed) % questions.len()];
                let path = format!("{}{}", question.path, server.kind.uncached());
                client.get(&path)?.successful()?;
                answered.fetch_add(1, Ordering::Relaxed);
            }
            Ok(())
        };
        let workers: Vec<_> = (0..ASKERS.max(site.servers.len()))
            .map(|number| scope.spawn(move || work(number)))
            .collect();
        workers.into_iter().try_for_each(|one| one.join().expect("who asks returns its errors"))
    })?;
    Ok(answered.into_inner() as f64 / started.elapsed().as_secs_f64())
}

fn render(costs: &[Cost]) -> String {
    let machine = &costs[0];
    let one = costs.iter().find(|cost| cost.name.starts_with("1 on "));
    let per_sample = |cost: &Cost| cost.cpu_seconds / cost.samples;
    let mean = |cost: &Cost, figure: fn(&(f64, f64)) -> f64| {
        let logarithms = cost.asked.iter().map(|asked| figure(asked).max(0.01).ln());
        (logarithms.sum::<f64>() / cost.asked.len().max(1) as f64).exp()
    };
    let late = |times: &[f64], share: f64| format!("{:.1}", quantile(times, share));
    let mut writes = Table::new([
        "site",
        "wall s",
        "samples/s",
        "CPU s",
        "ns CPU/sample",
        "vs one machine",
        "vs 1 broker",
        "full: ack ms p50",
        "p99",
        "by the clock: p50",
        "p99",
        "RSS MB of all",
        "idle cores",
    ]);
    let mut reads = Table::new([
        "site",
        "query ms",
        "vs one machine",
        "vs 1 broker",
        "query CPU ms",
        "vs one machine",
        "vs 1 broker",
        "queries/s",
    ]);
    let mut prices = Table::new([
        "site",
        "puts",
        "gets",
        "MB put",
        "MB got",
        "puts per million samples",
        "gets",
        "USD per million samples",
    ]);
    for cost in costs {
        writes.push(vec![
            cost.name.clone(),
            format!("{:.1}", cost.wall_seconds),
            grouped(cost.samples / cost.wall_seconds),
            format!("{:.2}", cost.cpu_seconds),
            format!("{:.0}", per_sample(cost) * 1e9),
            ratio(per_sample(cost), Some(per_sample(machine))),
            ratio(per_sample(cost), one.map(per_sample)),
            late(&cost.acknowledged_ms, 0.5),
            late(&cost.acknowledged_ms, 0.99),
            late(&cost.paced_ms, 0.5),
            late(&cost.paced_ms, 0.99),
            megabytes(cost.resident_bytes),
            format!("{:.3}", cost.idle_cores),
        ]);
        if !cost.asked.is_empty() {
            let (ms, cpu) = (mean(cost, |asked| asked.0), mean(cost, |asked| asked.1));
            reads.push(vec![
                cost.name.clone(),
                format!("{ms:.2}"),
                ratio(ms, Some(mean(machine, |asked| asked.0))),
                ratio(ms, one.map(|one| mean(one, |asked| asked.0))),
                format!("{cpu:.2}"),
                ratio(cpu, Some(mean(machine, |asked| asked.1))),
                ratio(cpu, one.map(|one| mean(one, |asked| asked.1))),
                format!("{:.0}", cost.answered_per_second),
            ]);
        }
        if let Some(bill) = cost.bill {
            let per_million = |count: f64| count / cost.samples * 1e6;
            prices.push(vec![
                cost.name.clone(),
                grouped(bill.puts),
                grouped(bill.gets),
                format!("{:.1}", bill.put_bytes / 1e6),
                format!("{:.1}", bill.get_bytes / 1e6),
                format!("{:.1}", per_million(bill.puts)),
                format!("{:.1}", per_million(bill.gets)),
                format!("{:.6}", per_million(bill.dollars())),
            ]);
        }
    }
    format!(
        "{}\n\
         All brokers, and the store if it is a program, share the cores of this machine. CPU: of all brokers, from the first \
         request until all were quiet; flushed each 20 s and merged within the time measured. Full: each \
         connection keeps to one broker and sends its next request when the last one is \
         acknowledged. By the clock: the last {PACED_PERCENT} % of the load, {PACED_PER_SECOND} requests a second over all \
         connections, from when a request was due. Every broker was asked for all samples and found them. Idle: 10 s \
         of all brokers before the load.\n\n\
         {}\n\
         Geometric mean over all questions of `bench query` that fit the load, each asked at each broker, one at a time, \
         caches of results off; CPU of all brokers. Queries/s: {ASKERS} who ask one question after the other, spread over \
         the brokers, for {} s.\n\n\
         {}\n\
         USD: requests at S3's prices (PUT {PRICE_PUT}, GET {PRICE_GET} each); what is kept costs \
         {PRICE_GB_MONTH} per GB and month besides.\n",
        writes.render(),
        reads.render(),
        ASKING.as_secs(),
        prices.render()
    )
}
