//! `fleet`: many agents and one broker, or the brokers of a cluster. The agents are simulated in this process, but each has its
//! own certificate, connection and stream, over mutual TLS, and sends batches as agents do. What
//! they lack is a spool.

pub(crate) mod member;
mod steady;
mod storm;

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::scrape::quantile;
use crate::server::{Flushing, Setup, free_address};
use crate::site::Site;
use crate::stores::StoreKind;
use crate::table::{Table, grouped, megabytes};
use crate::usage;
use member::Member;

/// Files of this process besides its connections.
const SPARE_FILES: usize = 1_000;
/// Between agents that have connected and the reading of the broker's memory.
const SETTLE: std::time::Duration = std::time::Duration::from_secs(5);

const FIRST: &str = "all come for the first time";
const CUT: &str = "all connections cut";
const RESTARTED: &str = "kill -9 and start again";
const ONE_KILLED: &str = "kill -9 of the leader";

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
    /// Brokers of a cluster, over which the agents are spread; 0: one machine without a cluster
    #[arg(long, default_value_t = 0)]
    brokers: usize,
    /// Store of the cluster: file, moto, redis, redis-cluster, which are started for it, or a URL
    #[arg(long, default_value = "file")]
    store: StoreKind,
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

/// Brokers that take agents, and agents that have joined them.
async fn start(
    agents: usize,
    options: &Options,
    directory: &Path,
    flushing: Flushing,
) -> Result<(Site, Vec<Arc<Member>>, f64)> {
    // The port for agents needs one for each, and half of what the system allows is for files.
    let max_connections = Some(agents.max(SPARE_FILES));
    let setup = Setup { max_connections, ..flushing.into() };
    let site = match options.brokers {
        0 => Site::one_machine(Setup { peer_listen: Some(free_address()?), ..setup })?,
        brokers => Site::start(brokers, &options.store, &setup)?,
    };
    let token = site.servers[0].join_token(agents)?;
    eprintln!("{agents} agents join");
    let begin = Instant::now();
    let members = member::join(agents, &site.peers(), &token, directory).await?;
    Ok((site, members, begin.elapsed().as_secs_f64()))
}

fn described(options: &Options) -> String {
    match options.brokers {
        0 => "One machine".to_owned(),
        1 => format!("A cluster of one broker, store {}", options.store.name()),
        many => format!("A cluster of {many} brokers, store {}", options.store.name()),
    }
}

async fn steady(options: &Options) -> Result<String> {
    let directory = tempfile::Builder::new().prefix("watchfire-bench-").tempdir()?;
    let (site, members, joined_s) =
        start(options.agents, options, directory.path(), Flushing::Soon).await?;
    let before = site.resident_bytes()?;
    let connected = steady::connect(&members).await?;
    let idle = site.resident_bytes()?;
    eprintln!("{} agents send for {} s", options.agents, options.seconds);
    let own_pid = std::process::id();
    let (cpu, own_cpu) = (site.cpu_seconds()?, usage::cpu_seconds(own_pid)?);
    let taken = site.metric("watchfire_broker_samples_total")?;
    let begin = Instant::now();
    let seen = connected.send(options.series, options.seconds).await?;
    let wall = begin.elapsed().as_secs_f64();
    let cpu = site.cpu_seconds()? - cpu;
    let own_cpu = usage::cpu_seconds(own_pid)? - own_cpu;
    let stored = site.metric("watchfire_broker_samples_total")? - taken;
    let resident_bytes = site.resident_bytes()?;
    let peak_bytes: u64 = site.peaks()?.into_iter().sum();
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
        let count = site.metric(fault)?;
        ensure!(count == 0.0, "{fault} is {count}");
    }
    let window = wall.ceil() as u64 + 60;
    let one =
        format!("count_over_time(node_cpu_seconds_total{{cpu=\"0\",mode=\"idle\"}}[{window}s])");
    let wanted = (options.agents * options.seconds) as f64;
    for server in &site.servers {
        let found = server.query_total(&format!("sum({one})"))?;
        ensure!(
            found == wanted,
            "a query finds {found} samples of one series per agent, not {wanted}"
        );
    }
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
        "brokers' cores",
        "samples/CPU-s",
        "RSS MB",
        "peak RSS MB",
        "kB per connection",
        "agents' cores",
        "sent late",
    ]);
    let per_connection = idle.saturating_sub(before) as f64 / options.agents as f64;
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
        megabytes(resident_bytes),
        megabytes(peak_bytes),
        format!("{:.1}", per_connection / 1e3),
        format!("{:.2}", own_cpu / wall),
        grouped(seen.late as f64),
    ]);
    Ok(format!(
        "{}\n\
         {}; {} s, one batch per agent and second, spread over the second; each durable before it is \
         acknowledged, flushed each 20 s and merged within the time measured. Lost: sent and not \
         counted as durable by the broker; a query over one series per agent found all of its \
         samples, too. Acknowledged: as the agent sees it; later: without the first {} s, in which all \
         series are new. Sent late: by more than 1 s, because the \
         simulation was too slow. Joining took {:.1} s.\n\n",
        table.render(),
        described(options),
        options.seconds,
        steady::NEW_STEPS,
        joined_s
    ))
}

async fn storm(options: &Options) -> Result<String> {
    let directory = tempfile::Builder::new().prefix("watchfire-bench-").tempdir()?;
    let agents = options.storm_agents;
    let (mut site, members, joined_s) =
        start(agents, options, directory.path(), Flushing::Default).await?;
    tokio::time::sleep(SETTLE).await;
    let before = site.resident_bytes()?;
    // A stream without batches first: what a connection costs, without its series.
    let idle = steady::connect(&members).await?;
    tokio::time::sleep(SETTLE).await;
    let connected = site.resident_bytes()?;
    drop(idle);
    tokio::time::sleep(SETTLE).await;
    let per_connection = connected.saturating_sub(before) as f64 / agents as f64;
    let mut table = Table::new([
        "what",
        "agents",
        "back s p50",
        "p99",
        "all",
        "ack ms p50",
        "p99",
        "max",
        "failed attempts",
        "brokers' CPU s",
        "agents' CPU s",
        "RSS MB",
        "peak RSS MB",
    ]);
    let own_pid = std::process::id();
    let (mut begin, mut cpu) = (Instant::now(), site.cpu_seconds()?);
    let mut own_cpu = usage::cpu_seconds(own_pid)?;
    let mut fleet = storm::Fleet::start(&members, options.storm_series, options.brokers > 1)?;
    let last = if options.brokers > 1 { ONE_KILLED } else { RESTARTED };
    for what in [FIRST, CUT, last] {
        eprintln!("{agents} agents: {what}");
        match what {
            CUT => {
                (begin, cpu) = (Instant::now(), site.cpu_seconds()?);
                own_cpu = usage::cpu_seconds(own_pid)?;
                fleet.cut();
            }
            RESTARTED => {
                own_cpu = usage::cpu_seconds(own_pid)?;
                begin = site.servers[0].kill_and_start_again()?;
                cpu = 0.0;
            }
            ONE_KILLED => {
                own_cpu = usage::cpu_seconds(own_pid)?;
                // The founder leads, if nothing came between: the worst to lose.
                let mut dead = site.servers.remove(0);
                (begin, cpu) = (Instant::now(), site.cpu_seconds()?);
                dead.kill()?;
            }
            _ => {}
        }
        let back = fleet.wait_all(begin).await?;
        let late = |share| format!("{:.1}", quantile(&back.seconds, share));
        let answered = |share| format!("{:.1}", quantile(&back.acknowledged_ms, share));
        table.push(vec![
            what.to_owned(),
            grouped(agents as f64),
            late(0.5),
            late(0.99),
            late(1.0),
            answered(0.5),
            answered(0.99),
            answered(1.0),
            grouped(back.failures as f64),
            format!("{:.1}", site.cpu_seconds()? - cpu),
            format!("{:.1}", usage::cpu_seconds(own_pid)? - own_cpu),
            megabytes(site.resident_bytes()?),
            megabytes(site.peaks()?.into_iter().sum()),
        ]);
        tokio::time::sleep(SETTLE).await;
    }
    Ok(format!(
        "{}\n\
         {}. From the cut until a batch of {} series collected after it is acknowledged, over all \
         agents, which wait a random time of up to 1 s, then 2 s, 4 s, 5 s before each attempt, and \
         go to the next broker after one that failed. In a cluster they send one batch a second; ack: of all batches \
         until the last agent was back. \
         Agents and brokers share the machine. An idle connection with its stream takes {:.1} kB of \
         the brokers. Joining took {:.1} s.\n",
        table.render(),
        described(options),
        options.storm_series,
        per_connection / 1e3,
        joined_s
    ))
}

/// Lets this process and its children open so many files.
pub(crate) fn raise_open_files(connections: usize) -> Result<()> {
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
