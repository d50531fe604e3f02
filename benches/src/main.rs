//! Benchmarks of Watchfire beside its peers, in one run on one machine.
//!
//! Every figure is a ratio of that run: same load, same client, one server at a time on an empty
//! directory, CPU counted until the server is quiet, so that work put off counts.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program speaks to its user")]

mod agent;
mod alerting;
mod answers;
mod cluster;
mod console;
mod dashboards;
mod environment;
mod families;
mod fleet;
mod http;
mod ingest;
mod load;
mod logs;
mod memory;
mod program;
mod query;
mod recorded;
mod restart;
mod rolling;
mod scrape;
mod server;
mod site;
mod stores;
mod table;
mod targets;
mod usage;
mod values;
mod viewers;
mod websocket;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use families::Fleet;
use load::{Load, Shape};
use server::Kind;

#[derive(Debug, Parser)]
#[command(name = "cargo xtask bench", about = "Watchfire beside its peers")]
struct Cli {
    #[command(subcommand)]
    benchmark: Benchmark,
}

#[derive(Debug, Subcommand)]
enum Benchmark {
    /// CPU, memory and disk for taking in a load by remote write
    Ingest(Options),
    /// The same for samples that were recorded: real values
    Recorded(recorded::Options),
    /// Time and CPU of the questions dashboards ask, and whether the answers are Prometheus'
    Query(Options),
    /// The same questions to a broker and to a console in a process of its own
    Console(Options),
    /// One machine beside clusters of brokers over a store: CPU, acknowledgements, queries, prices
    Cluster(cluster::Options),
    /// How long small questions take when many are asked, and while a load comes in
    Dashboards(Options),
    /// Memory while each series gets a sample per step by the clock
    Memory(Options),
    /// Time until a server answers after kill -9, and what it has lost
    Restart(Options),
    /// CPU and memory of an agent that ships, beside Node Exporter
    Agent(agent::Options),
    /// Scraping thousands of targets by the clock, beside Prometheus
    Scrape(scrape::Options),
    /// Many agents and one broker: acknowledgements, memory, and all coming back at once
    Fleet(fleet::Options),
    /// Brokers of a cluster restarted one after the other under load, with a ledger
    Rolling(rolling::Options),
    /// Lines of logs taken in, kept and found again, beside zstd and ripgrep over the same lines in files
    Logs(logs::Options),
    /// Alerts taken, kept and told beside Alertmanager, and rules beside Prometheus
    Alerting(alerting::Options),
    /// Many viewers of live samples over WebSocket, some of whom do not read
    Viewers(viewers::Options),
}

#[derive(Debug, Clone, clap::Args)]
struct Options {
    /// What the hosts expose
    #[arg(long, value_enum, default_value = "node")]
    fleet: Fleet,
    /// Series at a time, 625 per host of `node` and 100 of `devops`
    #[arg(long, default_value_t = 10_000)]
    series: usize,
    /// Samples of each series, the last one now
    #[arg(long, default_value_t = 1_440)]
    steps: usize,
    /// Seconds between samples of a series
    #[arg(long, default_value_t = 15)]
    interval: i64,
    /// So many of a hundred hosts are replaced by new ones at each step
    #[arg(long, default_value_t = 0)]
    churn: usize,
    /// Connections that send at once; each host keeps to one
    #[arg(long, default_value_t = 1)]
    connections: usize,
    /// Only these
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Kind::ALL)]
    servers: Vec<Kind>,
}

fn main() -> ExitCode {
    match run(&Cli::parse().benchmark) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(benchmark: &Benchmark) -> Result<()> {
    let environment = environment::describe(&std::env::temp_dir())?;
    let (programs, table) = match benchmark {
        Benchmark::Ingest(options) => {
            loaded(options, |load, servers| ingest::run(&load.requests, servers))?
        }
        Benchmark::Recorded(options) => recorded::run(options, versions(&options.servers)?)?,
        Benchmark::Query(options) => loaded(options, query::run)?,
        Benchmark::Console(options) => loaded(options, console::run)?,
        Benchmark::Cluster(options) => {
            let connections = options.load.connections.max(cluster::CONNECTIONS);
            let servers = vec![Kind::Watchfire];
            let only = Options { connections, servers, ..options.load.clone() };
            loaded(&only, |load, _| cluster::run(load, options))?
        }
        Benchmark::Dashboards(options) => loaded(options, dashboards::run)?,
        Benchmark::Memory(options) => loaded(options, memory::run)?,
        Benchmark::Restart(options) => loaded(options, restart::run)?,
        Benchmark::Agent(options) => (agent::versions()?, agent::run(options)?),
        Benchmark::Scrape(options) => (versions(&options.servers)?, scrape::run(options)?),
        Benchmark::Fleet(options) => (versions(&[Kind::Watchfire])?, fleet::run(options)?),
        Benchmark::Rolling(options) => (versions(&[Kind::Watchfire])?, rolling::run(options)?),
        Benchmark::Logs(options) => (logs::versions()?, logs::run(options)?),
        Benchmark::Alerting(options) => (alerting::versions(options)?, alerting::run(options)?),
        Benchmark::Viewers(options) => (versions(&[Kind::Watchfire])?, viewers::run(options)?),
    };
    println!("{environment}");
    println!("programs  {programs}\n\n{table}");
    Ok(())
}

fn versions(servers: &[Kind]) -> Result<String> {
    let versions = servers.iter().map(|kind| kind.version()).collect::<Result<Vec<_>>>()?;
    Ok(versions.join(", "))
}

/// Encodes a load and runs a benchmark with it. Yields what ran and the table.
fn loaded(
    options: &Options,
    benchmark: impl FnOnce(&Load, &[Kind]) -> Result<String>,
) -> Result<(String, String)> {
    let versions = versions(&options.servers)?;
    let shape = Shape {
        fleet: options.fleet,
        series: options.series,
        steps: options.steps,
        connections: options.connections,
        step_ms: options.interval.saturating_mul(1_000),
        churn_percent: options.churn,
    };
    eprintln!("encoding {} samples", shape.samples());
    let load = Load::encode(shape)?;
    let table = benchmark(&load, &options.servers)?;
    let described = format!(
        "{versions}\n\
         load      {:?}, {} series x {} steps of {} s, {} % of hosts replaced per step, {} \
         connections, {:.1} bytes per sample on the wire",
        shape.fleet,
        shape.series,
        shape.steps,
        options.interval,
        shape.churn_percent,
        shape.connections,
        load.requests.bytes_per_sample()
    );
    Ok((described, table))
}
