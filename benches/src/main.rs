//! Benchmarks of Watchfire beside VictoriaMetrics and Prometheus, in one run on one machine.
//!
//! Every figure is a ratio of that run: same load, same client, one server at a time on an empty
//! directory, CPU counted until the server is quiet, so that work put off counts.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program speaks to its user")]

mod answers;
mod environment;
mod families;
mod http;
mod ingest;
mod load;
mod query;
mod restart;
mod server;
mod table;
mod usage;
mod values;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use load::{Load, Shape};
use server::Kind;

#[derive(Debug, Parser)]
#[command(name = "cargo xtask bench", about = "Watchfire beside VictoriaMetrics and Prometheus")]
struct Cli {
    #[command(subcommand)]
    benchmark: Benchmark,
}

#[derive(Debug, Subcommand)]
enum Benchmark {
    /// CPU, memory and disk for taking in a load by remote write
    Ingest(Options),
    /// Time and CPU of the questions dashboards ask, and whether the answers are Prometheus'
    Query(Options),
    /// Time until a server answers after kill -9, and what it has lost
    Restart(Options),
}

#[derive(Debug, clap::Args)]
struct Options {
    /// Series in all, 625 per host
    #[arg(long, default_value_t = 10_000)]
    series: usize,
    /// Samples of each series, 15 s apart, the last one now
    #[arg(long, default_value_t = 1_440)]
    steps: usize,
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
    let (Benchmark::Ingest(options) | Benchmark::Query(options) | Benchmark::Restart(options)) =
        benchmark;
    let versions = options.servers.iter().map(|kind| kind.version()).collect::<Result<Vec<_>>>()?;
    let shape =
        Shape { series: options.series, steps: options.steps, connections: options.connections };
    let environment = environment::describe(&std::env::temp_dir())?;
    eprintln!("encoding {} samples", shape.samples());
    let load = Load::encode(shape)?;
    let table = match benchmark {
        Benchmark::Ingest(_) => ingest::run(&load, &options.servers)?,
        Benchmark::Query(_) => query::run(&load, &options.servers)?,
        Benchmark::Restart(_) => restart::run(&load, &options.servers)?,
    };
    println!("{environment}");
    println!("servers   {}", versions.join(", "));
    println!(
        "load      {} series x {} steps of 15 s, {} connections, {:.1} bytes per sample on the \
         wire\n\n{table}",
        shape.series,
        shape.steps,
        shape.connections,
        load.wire_bytes() as f64 / shape.samples() as f64
    );
    Ok(())
}
