//! `fleet`: many agents and one broker. The agents are simulated in this process, but each has its
//! own certificate, connection and stream, over mutual TLS, and sends batches as agents do. What
//! they lack is a spool.

mod member;
mod steady;
mod storm;

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::scrape::quantile;
use crate::server::{Flushing, Kind, Server, Setup, free_address};
use crate::table::{Table, grouped, megabytes};
use crate::usage;
use member::Member;

/// Files of this process besides its connections.
const SPARE_FILES: usize = 1_000;
/// Between agents that have connected and the reading of the broker's memory.
const SETTLE: std::time::Duration = std::time::Duration::from_secs(5);

/// What is simulated.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Agents that send once a second; 0 leaves this part out
    #[arg(long, default_value_t = 1_000)]
    agents: usize,
    /// Series of each of them
    #[arg(long, default_value_t = 500)]
    series: usize,
    /// How long they send
    #[arg(long, default_value_t = 300)]
    seconds: usize,
    /// Agents that are cut off at once; 0 leaves this part out
    #[arg(long, default_value_t = 10_000)]
    storm_agents: usize,
    /// Series of each of these
    #[arg(long, default_value_t = 50)]
    storm_series: usize,
}

/// Runs both parts and yields their tables.
pub(crate) fn run(options: &Options) -> Result<String> {
    let agents = options.agents.max(options.storm_agents);
    raise_open_files(agents)?;
    let runtime = tokio::runtime::Runtime::new().context("start the runtime")?;
    let mut text = String::new();
    if options.agents > 0 {
        text += &runtime.block_on(steady(options))?;
    }
    if options.storm_agents > 0 {
        text += &runtime.block_on(storm(options))?;
    }
    // Its agents run for ever.
    runtime.shutdown_background();
    Ok(text)
}

/// A broker that takes agents at the address, and agents that have joined it.
async fn start(
    agents: usize,
    directory: &Path,
    flushing: Flushing,
) -> Result<(Server, Vec<Arc<Member>>, f64)> {
    let peers = free_address()?;
    // The port for agents needs one for each, and half of what the system allows is for files.
    let max_connections = Some(agents.max(SPARE_FILES));
    let setup = Setup { peer_listen: Some(peers), max_connections, ..flushing.into() };
    let broker = Server::start(Kind::Watchfire, setup)?;
    let token = broker.join_token(agents)?;
    eprintln!("{agents} agents join");
    let begin = Instant::now();
    let members = member::join(agents, &peers.to_string(), &token, directory).await?;
    Ok((broker, members, begin.elapsed().as_secs_f64()))
}

async fn steady(options: &Options) -> Result<String> {
    let directory = tempfile::Builder::new().prefix("watchfire-bench-").tempdir()?;
    let (broker, members, joined_s) =
        start(options.agents, directory.path(), Flushing::Soon).await?;
    let before = broker.memory()?;
    let connected = steady::connect(&members).await?;
    let idle = broker.memory()?;
    eprintln!("{} agents send for {} s", options.agents, options.seconds);
    let own_pid = std::process::id();
    let (cpu, own_cpu) = (broker.cpu_seconds()?, usage::cpu_seconds(own_pid)?);
    let taken = broker.metric("watchfire_broker_samples_total")?;
    let begin = Instant::now();
    let seen = connected.send(options.series, options.seconds).await?;
    let wall = begin.elapsed().as_secs_f64();
    let cpu = broker.cpu_seconds()? - cpu;
    let own_cpu = usage::cpu_seconds(own_pid)? - own_cpu;
    let stored = broker.metric("watchfire_broker_samples_total")? - taken;
    let memory = broker.memory()?;
    ensure!(
        stored == seen.samples as f64,
        "{} samples were sent and {stored} made durable",
        seen.samples
    );
    for fault in [
        "watchfire_broker_samples_rejected_total",
        "watchfire_broker_samples_duplicate_total",
        "watchfire_broker_samples_conflicting_total",
        "watchfire_broker_agent_streams_refused_total",
        "watchfire_broker_agent_batches_passed_over_total",
    ] {
        let count = broker.metric(fault)?;
        ensure!(count == 0.0, "{fault} is {count}");
    }
    let window = wall.ceil() as u64 + 60;
    let one =
        format!("count_over_time(node_cpu_seconds_total{{cpu=\"0\",mode=\"idle\"}}[{window}s])");
    let found = broker.query_total(&format!("sum({one})"))?;
    let wanted = (options.agents * options.seconds) as f64;
    ensure!(found == wanted, "a query finds {found} samples of one series per agent, not {wanted}");
    let late = |share| format!("{:.1}", quantile(&seen.latencies_ms, share));
    let mut table = Table::new([
        "agents x series",
        "samples",
        "lost",
        "ack ms p50",
        "p99",
        "max",
        "p99 later",
        "max later",
        "broker's cores",
        "samples/CPU-s",
        "RSS MB",
        "peak RSS MB",
        "kB per connection",
        "agents' cores",
        "sent late",
    ]);
    let per_connection =
        idle.now_bytes.saturating_sub(before.now_bytes) as f64 / options.agents as f64;
    table.push(vec![
        format!("{} x {}", grouped(options.agents as f64), options.series),
        grouped(seen.samples as f64),
        "0".to_owned(),
        late(0.5),
        late(0.99),
        late(1.0),
        format!("{:.1}", quantile(&seen.settled_ms, 0.99)),
        format!("{:.1}", quantile(&seen.settled_ms, 1.0)),
        format!("{:.2}", cpu / wall),
        grouped(seen.samples as f64 / cpu),
        megabytes(memory.now_bytes),
        megabytes(memory.peak_bytes),
        format!("{:.1}", per_connection / 1e3),
        format!("{:.2}", own_cpu / wall),
        grouped(seen.late as f64),
    ]);
    Ok(format!(
        "{}\n\
         {} s, one batch per agent and second, spread over the second; each synced before it is \
         acknowledged, flushed each 20 s and merged within the time measured. Lost: sent and not \
         counted as durable by the broker; a query over one series per agent found all of its \
         samples, too. Acknowledged: as the agent sees it; later: without the first {} s, in which all \
         series are new. Sent late: by more than 1 s, because the \
         simulation was too slow. Joining took {:.1} s.\n\n",
        table.render(),
        options.seconds,
        steady::NEW_STEPS,
        joined_s
    ))
}

async fn storm(options: &Options) -> Result<String> {
    let directory = tempfile::Builder::new().prefix("watchfire-bench-").tempdir()?;
    let agents = options.storm_agents;
    let (mut broker, members, joined_s) =
        start(agents, directory.path(), Flushing::Default).await?;
    tokio::time::sleep(SETTLE).await;
    let before = broker.memory()?;
    // A stream without batches first: what a connection costs, without its series.
    let idle = steady::connect(&members).await?;
    tokio::time::sleep(SETTLE).await;
    let connected = broker.memory()?;
    drop(idle);
    tokio::time::sleep(SETTLE).await;
    let per_connection =
        connected.now_bytes.saturating_sub(before.now_bytes) as f64 / agents as f64;
    let mut table = Table::new([
        "what",
        "agents",
        "back s p50",
        "p99",
        "all",
        "failed attempts",
        "broker CPU s",
        "agents' CPU s",
        "RSS MB",
        "peak RSS MB",
    ]);
    let own_pid = std::process::id();
    let (mut begin, mut cpu) = (Instant::now(), broker.cpu_seconds()?);
    let mut own_cpu = usage::cpu_seconds(own_pid)?;
    let mut fleet = storm::Fleet::start(&members, options.storm_series)?;
    for what in ["all come for the first time", "all connections cut", "kill -9 and start again"] {
        eprintln!("{agents} agents: {what}");
        match what {
            "all connections cut" => {
                (begin, cpu) = (Instant::now(), broker.cpu_seconds()?);
                own_cpu = usage::cpu_seconds(own_pid)?;
                fleet.cut();
            }
            "kill -9 and start again" => {
                own_cpu = usage::cpu_seconds(own_pid)?;
                begin = broker.kill_and_start_again()?;
                cpu = 0.0;
            }
            _ => {}
        }
        let back = fleet.wait_all(begin).await?;
        let memory = broker.memory()?;
        let late = |share| format!("{:.1}", quantile(&back.seconds, share));
        table.push(vec![
            what.to_owned(),
            grouped(agents as f64),
            late(0.5),
            late(0.99),
            late(1.0),
            grouped(back.failures as f64),
            format!("{:.1}", broker.cpu_seconds()? - cpu),
            format!("{:.1}", usage::cpu_seconds(own_pid)? - own_cpu),
            megabytes(memory.now_bytes),
            megabytes(memory.peak_bytes),
        ]);
        tokio::time::sleep(SETTLE).await;
    }
    Ok(format!(
        "{}\n\
         From the cut until a batch of {} series collected after it is acknowledged, over all \
         agents, which wait a random time of up to 1 s, then 2 s, 4 s, … 30 s before each attempt. \
         Agents and broker share the machine. An idle connection with its stream takes {:.1} kB of \
         the broker. Joining took {:.1} s.\n",
        table.render(),
        options.storm_series,
        per_connection / 1e3,
        joined_s
    ))
}

/// Lets this process and its children open so many files.
fn raise_open_files(connections: usize) -> Result<()> {
    // A server keeps half of what it may open for its files.
    let wanted = (2 * connections).max(connections + SPARE_FILES) as u64;
    let limit = getrlimit(Resource::Nofile);
    if limit.maximum.is_none_or(|maximum| maximum >= wanted) {
        let raised = Rlimit { current: Some(wanted), maximum: limit.maximum };
        return setrlimit(Resource::Nofile, raised).context("raise the limit on open files");
    }
    let raised = Rlimit { current: Some(wanted), maximum: Some(wanted) };
    setrlimit(Resource::Nofile, raised).with_context(|| {
        format!("{wanted} open files are needed: run as root, or raise the limit with ulimit -n")
    })
}
