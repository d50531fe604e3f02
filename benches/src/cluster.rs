//! `cluster`: what it costs that several brokers agree and that a store beside them keeps everything,
//! against one machine with its log, under the same load on the same cores.

use std::time::Instant;

use anyhow::{Context, Result, ensure};

use crate::load::Load;
use crate::query::{self, Question};
use crate::server::{Flushing, Kind, Server, Setup, free_address};
use crate::table::{Table, grouped, megabytes, ratio};

/// What is measured.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    #[command(flatten)]
    pub(crate) load: crate::Options,
    /// Brokers of each cluster
    #[arg(long, value_delimiter = ',', default_values_t = [1, 2, 3])]
    brokers: Vec<usize>,
    /// Store of each cluster, the prefix of a store that holds nothing; without it a directory. The
    /// credentials are those of the environment
    #[arg(long)]
    store: Option<String>,
}

/// Prices of S3 in us-east-1, US dollars: <https://aws.amazon.com/s3/pricing/>.
const PRICE_PUT: f64 = 0.005 / 1_000.0;
const PRICE_GET: f64 = 0.000_4 / 1_000.0;
const PRICE_GB_MONTH: f64 = 0.023;

/// What one site needed.
struct Cost {
    name: String,
    wall_seconds: f64,
    cpu_seconds: f64,
    resident_bytes: u64,
    /// Of all requests, sorted.
    acknowledged_ms: Vec<f64>,
    /// Of all questions together, each at each broker: milliseconds and CPU milliseconds.
    asked: Vec<(f64, f64)>,
    bill: Option<Bill>,
}

/// Requests to the store and bytes it holds.
#[derive(Debug, Clone, Copy)]
struct Bill {
    puts: f64,
    gets: f64,
    put_bytes: f64,
}

/// Loads one machine and a cluster of each size in turn, and yields the table.
pub(crate) fn run(load: &Load, options: &Options) -> Result<String> {
    let lanes = load.requests.lanes.len();
    let most = options.brokers.iter().copied().max().unwrap_or(0);
    ensure!(
        options.brokers.iter().all(|&brokers| brokers > 0) && lanes >= most,
        "--connections must be at least --brokers, and --brokers at least 1: each broker is written to"
    );
    let questions = query::questions(load);
    let mut costs = vec![measure(
        "one machine".to_owned(),
        vec![Server::start(Kind::Watchfire, Flushing::Soon)?],
        load,
        &questions,
    )?];
    for &brokers in &options.brokers {
        let directory = tempfile::Builder::new().prefix("watchfire-bench-").tempdir()?;
        let store = match &options.store {
            Some(prefix) => format_store(prefix, brokers),
            None => format!("file://{}", directory.path().display()),
        };
        let servers = start(brokers, &store)?;
        let name = format!("{brokers} broker{}", if brokers == 1 { "" } else { "s" });
        costs.push(measure(name, servers, load, &questions)?);
    }
    Ok(render(load, &costs))
}

/// A prefix of its own for each cluster, before what stands behind `?`.
fn format_store(prefix: &str, brokers: usize) -> String {
    let own = format!("{brokers}-brokers-{}", std::process::id());
    match prefix.split_once('?') {
        Some((path, query)) => format!("{}/{own}?{query}", path.trim_end_matches('/')),
        None => format!("{}/{own}", prefix.trim_end_matches('/')),
    }
}

/// Founds a cluster and lets the others join.
fn start(brokers: usize, store: &str) -> Result<Vec<Server>> {
    let mut servers: Vec<Server> = Vec::new();
    let founder = free_address()?;
    for number in 0..brokers {
        let peers = if number == 0 { founder } else { free_address()? };
        let mut arguments = vec!["--store".to_owned(), store.to_owned()];
        arguments.extend(["--name".to_owned(), format!("broker-{}", number + 1)]);
        if let Some(first) = servers.first() {
            let token = first.broker_token()?;
            arguments.extend(["--join".to_owned(), founder.to_string()]);
            arguments.extend(["--join-token".to_owned(), token]);
        }
        let setup = Setup { peer_listen: Some(peers), arguments, ..Flushing::Soon.into() };
        servers.push(Server::start(Kind::Watchfire, setup).context("start a broker")?);
    }
    Ok(servers)
}

fn measure(
    name: String,
    servers: Vec<Server>,
    load: &Load,
    questions: &[Question],
) -> Result<Cost> {
    eprintln!("{name}: taking in {} samples", load.requests.samples);
    let cpu = || -> Result<f64> { servers.iter().map(Server::cpu_seconds).sum() };
    let before = cpu()?;
    let (wall_seconds, acknowledged_ms) = send(load, &servers)?;
    wait_quiet(&servers)?;
    let cpu_seconds = cpu()? - before;
    // All brokers are asked for all that was written at any.
    // The load ended when it was encoded, and was sent since.
    let window = load.shape.duration_ms() / 1_000 + 1_800;
    for server in &servers {
        let all = format!("sum(count_over_time({{__name__!=\"\"}}[{window}s]))");
        let (found, wanted) = (server.query_total(&all)?, load.requests.samples as f64);
        ensure!(found == wanted, "{name}: {found} of {wanted} samples are found");
    }
    let mut asked = Vec::new();
    for question in questions {
        for server in &servers {
            let before = cpu()?;
            let asking = query::time(question, server)?;
            let per_run = (cpu()? - before) * 1e3 / (asking.runs + 1) as f64;
            asked.push((asking.p50_ms, per_run));
        }
    }
    let resident = servers.iter().map(|server| Ok(server.memory()?.now_bytes));
    let resident_bytes = resident.sum::<Result<u64>>()?;
    Ok(Cost {
        name,
        wall_seconds,
        cpu_seconds,
        resident_bytes,
        acknowledged_ms,
        asked,
        bill: bill(&servers)?,
    })
}

/// Each connection keeps to one broker. Yields seconds until the last acknowledgement, and the
/// milliseconds of all.
fn send(load: &Load, servers: &[Server]) -> Result<(f64, Vec<f64>)> {
    let started = Instant::now();
    let mut times = std::thread::scope(|scope| {
        let senders: Vec<_> = load
            .requests
            .lanes
            .iter()
            .enumerate()
            .map(|(number, lane)| {
                let server = &servers[number % servers.len()];
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

fn wait_quiet(servers: &[Server]) -> Result<()> {
    std::thread::scope(|scope| {
        let waiting: Vec<_> =
            servers.iter().map(|server| scope.spawn(|| server.wait_quiet())).collect();
        waiting.into_iter().try_for_each(|one| one.join().expect("waiting returns its errors"))
    })
}

/// What the store was asked for by all; none on one machine.
fn bill(servers: &[Server]) -> Result<Option<Bill>> {
    let mut bill = Bill { puts: 0.0, gets: 0.0, put_bytes: 0.0 };
    for server in servers {
        let page = server.client()?.get("/metrics")?.successful()?;
        let page = String::from_utf8(page).context("/metrics is text")?;
        if !page.contains("watchfire_objects_requests_total{") {
            return Ok(None);
        }
        let sum = |name: &str, operations: &[&str]| -> f64 {
            let is_of = |line: &&str| {
                line.starts_with(name)
                    && operations.iter().any(|one| line.contains(&format!("operation=\"{one}\"")))
            };
            let value = |line: &str| line.rsplit(' ').next()?.parse::<f64>().ok();
            page.lines().filter(is_of).filter_map(value).sum()
        };
        bill.puts += sum("watchfire_objects_requests_total{", &["put", "put_part", "list"]);
        bill.gets += sum("watchfire_objects_requests_total{", &["get", "get_range", "head"]);
        bill.put_bytes += sum("watchfire_objects_bytes_total{", &["put", "put_part"]);
    }
    Ok(Some(bill))
}

fn render(load: &Load, costs: &[Cost]) -> String {
    let samples = load.requests.samples as f64;
    let one = costs.iter().find(|cost| cost.name == "1 broker");
    let machine = &costs[0];
    let mean = |cost: &Cost, figure: fn(&(f64, f64)) -> f64| {
        let logarithms = cost.asked.iter().map(|asked| figure(asked).max(0.01).ln());
        (logarithms.sum::<f64>() / cost.asked.len().max(1) as f64).exp()
    };
    let mut table = Table::new([
        "site",
        "wall s",
        "CPU s",
        "samples/CPU-s",
        "CPU vs 1 broker",
        "CPU vs one machine",
        "ack ms p50",
        "p99",
        "RSS MB of all",
        "query ms",
        "vs one machine",
        "query CPU ms",
        "puts",
        "gets",
        "MB put",
        "USD per million samples",
    ]);
    for cost in costs {
        let late = |share: f64| {
            let place = (cost.acknowledged_ms.len() as f64 * share) as usize;
            let place = place.min(cost.acknowledged_ms.len().saturating_sub(1));
            format!("{:.1}", cost.acknowledged_ms[place])
        };
        let of_bill =
            |figure: &dyn Fn(Bill) -> String| cost.bill.map_or_else(|| "-".to_owned(), figure);
        let dollars = |bill: Bill| {
            let requests = bill.puts * PRICE_PUT + bill.gets * PRICE_GET;
            format!("{:.6}", requests / samples * 1e6)
        };
        table.push(vec![
            cost.name.clone(),
            format!("{:.1}", cost.wall_seconds),
            format!("{:.2}", cost.cpu_seconds),
            grouped(samples / cost.cpu_seconds),
            ratio(cost.cpu_seconds, one.map(|one| one.cpu_seconds)),
            ratio(cost.cpu_seconds, Some(machine.cpu_seconds)),
            late(0.5),
            late(0.99),
            megabytes(cost.resident_bytes),
            format!("{:.2}", mean(cost, |asked| asked.0)),
            ratio(mean(cost, |asked| asked.0), Some(mean(machine, |asked| asked.0))),
            format!("{:.2}", mean(cost, |asked| asked.1)),
            of_bill(&|bill| grouped(bill.puts)),
            of_bill(&|bill| grouped(bill.gets)),
            of_bill(&|bill| format!("{:.1}", bill.put_bytes / 1e6)),
            of_bill(&dollars),
        ]);
    }
    format!(
        "{}\n\
         All brokers share the cores of this machine. CPU: of all of them, from the first request \
         until all were quiet; flushed each 20 s and merged within the time measured. Each \
         connection keeps to one broker and sends its next request when the last one is \
         acknowledged. Every broker was asked for all samples and found them.\n\
         Query: geometric mean over all questions of `bench query` that fit the load, each asked at \
         each broker, one at a time, caches of results off; CPU of all brokers.\n\
         USD: requests at S3's prices (PUT {PRICE_PUT}, GET {PRICE_GET} each); what is kept costs \
         {PRICE_GB_MONTH} per GB and month besides.\n",
        table.render()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_cluster_has_a_prefix_of_its_own() {
        let own = format!("3-brokers-{}", std::process::id());
        assert_eq!(
            format_store("s3://b/x/?endpoint=http://h", 3),
            format!("s3://b/x/{own}?endpoint=http://h")
        );
        assert_eq!(format_store("file:///srv/x", 3), format!("file:///srv/x/{own}"));
    }
}
