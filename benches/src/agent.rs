//! `agent`: an agent that ships to a broker beside Node Exporter that is scraped, on the same host
//! in the same minute.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::environment;
use crate::http::Client;
use crate::program::Program;
use crate::server::{Flushing, Kind, Server, Setup, free_address, metric};
use crate::table::{Table, ratio};

const NODE_EXPORTER: &str = "/usr/bin/prometheus-node-exporter";
const PERIOD: Duration = Duration::from_secs(1);
/// Both have found all there is on the host, and the kernel has their files in memory.
const WARM_UP: u64 = 10;

/// What is measured.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Passes of the agent and scrapes of Node Exporter, one per second
    #[arg(long, default_value_t = 60)]
    passes: u64,
}

/// What one of the two needed.
struct Cost {
    name: String,
    passes: f64,
    samples: f64,
    cpu_seconds: f64,
    memory: crate::usage::Memory,
}

/// The versions of what runs.
pub(crate) fn versions() -> Result<String> {
    let exporter = environment::version(Path::new(NODE_EXPORTER), None).with_context(|| {
        "Node Exporter is missing: install Debian's package (apt-get install \
             prometheus-node-exporter)"
    })?;
    Ok(format!("{}, prometheus-node-exporter {exporter}", Kind::Watchfire.version()?))
}

/// Runs both and yields the table.
pub(crate) fn run(options: &Options) -> Result<String> {
    let peers = free_address()?;
    let setup = Setup { peer_listen: Some(peers), ..Flushing::Default.into() };
    let broker = Server::start(Kind::Watchfire, setup)?;
    let directory = tempfile::Builder::new().prefix("watchfire-bench-").tempdir()?;
    let (mut agent, agent_address) = start_agent(&broker, peers, directory.path())?;
    let (mut exporter, exporter_address) = start_exporter(directory.path())?;
    agent.wait_until(|| is_connected(agent_address).unwrap_or(false))?;
    exporter.wait_until(|| Client::connect(exporter_address).is_ok())?;
    let mut costs = Vec::new();
    for is_scraped in [false, true] {
        eprintln!("{} s, agent scraped too: {is_scraped}", WARM_UP + options.passes);
        let scraped = Scraped { agent: is_scraped.then_some(agent_address), exporter_address };
        scraped.each_second(WARM_UP)?;
        let before = Counted::of(agent_address)?;
        let cpu_before = (agent.cpu_seconds()?, exporter.cpu_seconds()?);
        let samples = scraped.each_second(options.passes)?;
        let cpu = (agent.cpu_seconds()? - cpu_before.0, exporter.cpu_seconds()? - cpu_before.1);
        let after = Counted::of(agent_address)?;
        let passes = options.passes as f64;
        costs.push(Cost {
            name: "prometheus-node-exporter".to_owned(),
            passes,
            samples: samples as f64 / passes,
            cpu_seconds: cpu.1,
            memory: exporter.memory()?,
        });
        let what = if is_scraped { ", scraped as well" } else { "" };
        costs.push(Cost {
            name: format!("watchfire agent{what}"),
            passes,
            samples: (after.acknowledged - before.acknowledged) / (after.batches - before.batches),
            cpu_seconds: cpu.0,
            memory: agent.memory()?,
        });
    }
    Ok(render(&costs, options))
}

/// What is asked once a second.
struct Scraped {
    agent: Option<SocketAddr>,
    exporter_address: SocketAddr,
}

impl Scraped {
    /// Samples that Node Exporter showed.
    fn each_second(&self, times: u64) -> Result<usize> {
        let mut exporter = Client::connect(self.exporter_address)?;
        let mut agent = self.agent.map(Client::connect).transpose()?;
        let started = Instant::now();
        let mut samples = 0;
        for number in 1..=times {
            let due = PERIOD * u32::try_from(number)?;
            sleep(due.saturating_sub(started.elapsed()));
            let page = exporter.get("/metrics")?.successful()?;
            samples += page
                .split(|byte| *byte == b'\n')
                .filter(|line| !line.is_empty() && line[0] != b'#')
                .count();
            if let Some(agent) = &mut agent {
                agent.get("/metrics")?.successful()?;
            }
        }
        Ok(samples)
    }
}

/// What the agent says it has shipped.
struct Counted {
    acknowledged: f64,
    batches: f64,
}

impl Counted {
    fn of(agent: SocketAddr) -> Result<Counted> {
        let page = page(agent)?;
        let live = |name: &str| metric(&page, &format!("{name}{{lane=\"live\"}}"));
        Ok(Counted {
            acknowledged: live("watchfire_agent_ship_acknowledged_samples_total")?,
            batches: live("watchfire_agent_ship_acknowledged_batches_total")?,
        })
    }
}

fn page(agent: SocketAddr) -> Result<String> {
    let body = Client::connect(agent)?.get("/metrics")?.successful()?;
    Ok(String::from_utf8_lossy(&body).into_owned())
}

fn is_connected(agent: SocketAddr) -> Result<bool> {
    Ok(metric(&page(agent)?, "watchfire_agent_ship_connected")? > 0.0)
}

fn start_agent(
    broker: &Server,
    peers: SocketAddr,
    directory: &Path,
) -> Result<(Program, SocketAddr)> {
    let address = free_address()?;
    let mut command = Command::new(Kind::Watchfire.binary()?);
    command
        .args(["agent", "--broker", &peers.to_string(), "--join", &broker.join_token(1)?])
        .args(["--listen", &address.to_string(), "--data"])
        .arg(directory.join("agent"));
    Ok((Program::start(command, &directory.join("agent.log"))?, address))
}

fn start_exporter(directory: &Path) -> Result<(Program, SocketAddr)> {
    let address = free_address()?;
    let mut command = Command::new(NODE_EXPORTER);
    command.arg(format!("--web.listen-address={address}"));
    Ok((Program::start(command, &directory.join("exporter.log"))?, address))
}

fn render(costs: &[Cost], options: &Options) -> String {
    let mut table = Table::new([
        "program",
        "samples per pass",
        "CPU ms per pass",
        "vs exporter",
        "RSS MiB",
        "vs exporter",
        "anonymous MiB",
        "peak RSS MiB",
    ]);
    let mebibytes = |bytes: u64| format!("{:.1}", bytes as f64 / f64::from(1 << 20));
    for pair in costs.chunks(2) {
        let exporter = &pair[0];
        for cost in pair {
            let per_pass = |cost: &Cost| cost.cpu_seconds * 1e3 / cost.passes;
            let resident = |cost: &Cost| cost.memory.now_bytes as f64;
            table.push(vec![
                cost.name.clone(),
                format!("{:.0}", cost.samples),
                format!("{:.2}", per_pass(cost)),
                ratio(per_pass(cost), Some(per_pass(exporter))),
                mebibytes(cost.memory.now_bytes),
                ratio(resident(cost), Some(resident(exporter))),
                mebibytes(cost.memory.anonymous_bytes),
                mebibytes(cost.memory.peak_bytes),
            ]);
        }
    }
    format!(
        "{}\n\
         Both run at once with their defaults; {} passes, one per second. The exporter is scraped \
         over a kept connection; the agent collects, writes and syncs its spool, ships over mutual \
         TLS and is acknowledged, and in the second half is scraped as well.\n\
         CPU: all threads of the process.\n",
        table.render(),
        options.passes
    )
}
