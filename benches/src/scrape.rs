//! `scrape`: thousands of targets by the clock, among them some that misbehave.

use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use crate::server::{Flushing, Kind, Server, Setup, free_address};
use crate::table::{Table, grouped, megabytes, ratio};
use crate::targets::{SLOW, Targets};
use crate::usage::{self, Memory};

/// What is scraped.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Targets that answer at once
    #[arg(long, default_value_t = 5_000)]
    targets: usize,
    /// Samples that each shows
    #[arg(long, default_value_t = 200)]
    samples: usize,
    /// Seconds between two scrapes of a target
    #[arg(long, default_value_t = 15)]
    interval: u64,
    /// Seconds before it is measured: first scrapes make the series
    #[arg(long, default_value_t = 45)]
    warm_up: u64,
    /// Seconds that are measured
    #[arg(long, default_value_t = 180)]
    seconds: u64,
    /// Only these
    #[arg(
        long,
        value_enum,
        value_delimiter = ',',
        default_values_t = [Kind::Watchfire, Kind::Prometheus]
    )]
    pub(crate) servers: Vec<Kind>,
}

/// What one server did and needed.
struct Outcome {
    kind: Kind,
    punctuality: Punctuality,
    cpu_seconds: f64,
    load_cpu_seconds: f64,
    memory: Memory,
    up: f64,
    down: f64,
    samples_per_round: f64,
    series: f64,
}

/// Runs each server in turn and yields the table.
pub(crate) fn run(options: &Options) -> Result<String> {
    ensure!(options.interval >= 10, "--interval must be above the slow target's {SLOW:?}");
    let targets = Targets::start(options.targets, options.samples)?;
    let mut outcomes = Vec::new();
    for &kind in &options.servers {
        eprintln!("{}: {} s", kind.name(), options.warm_up + options.seconds);
        outcomes.push(measure(options, &targets, kind)?);
    }
    Ok(render(options, &outcomes))
}

fn measure(options: &Options, targets: &Targets, kind: Kind) -> Result<Outcome> {
    let scrape_config = Some(configuration(options, targets)?);
    let peer_listen = Some(free_address()?);
    let setup = Setup { scrape_config, peer_listen, ..Flushing::Soon.into() };
    let server = Server::start(kind, setup)?;
    sleep(Duration::from_secs(options.warm_up));
    let own_pid = std::process::id();
    targets.take_arrivals();
    let (begin, cpu) = (Instant::now(), server.cpu_seconds()?);
    let load_cpu = usage::cpu_seconds(own_pid)?;
    sleep(Duration::from_secs(options.seconds));
    let cpu_seconds = server.cpu_seconds()? - cpu;
    let load_cpu_seconds = usage::cpu_seconds(own_pid)? - load_cpu;
    let arrivals = targets.take_arrivals();
    let memory = server.memory()?;
    let seconds = arrivals.iter().map(|(target, at)| (*target, (*at - begin).as_secs_f64()));
    let of_series = match kind {
        Kind::Prometheus => "prometheus_tsdb_head_series",
        _ => "watchfire_broker_head_series",
    };
    Ok(Outcome {
        kind,
        punctuality: Punctuality::of(seconds, options),
        cpu_seconds,
        load_cpu_seconds,
        memory,
        up: server.query_total("sum(up)")?,
        down: server.query_total("count(up == 0)")?,
        samples_per_round: server.query_total("sum(scrape_samples_scraped)")?,
        series: server.metric(of_series)?,
    })
}

fn configuration(options: &Options, targets: &Targets) -> Result<String> {
    // Nobody listens there: connections are refused.
    let refused = free_address()?;
    let list = |addresses: &mut dyn Iterator<Item = std::net::SocketAddr>| {
        let quoted: Vec<String> = addresses.map(|address| format!("'{address}'")).collect();
        quoted.join(", ")
    };
    Ok(format!(
        "global: {{scrape_interval: {}s, scrape_timeout: 10s}}\n\
         scrape_configs:\n\
         - job_name: load\n  static_configs: [{{targets: [{}]}}]\n\
         - job_name: misbehaving\n  static_configs: [{{targets: [{}]}}]\n",
        options.interval,
        list(&mut targets.good()),
        list(&mut [targets.silent(), targets.slow(), refused].into_iter()),
    ))
}

/// How near to the clock scrapes came, as their targets saw it.
#[derive(Debug, PartialEq)]
struct Punctuality {
    scrapes: usize,
    missed: usize,
    /// How much later each came than the most punctual one of its target, in milliseconds, in
    /// order.
    late_ms: Vec<f64>,
}

impl Punctuality {
    /// Of scrapes in the measured time: target, and seconds since its begin.
    fn of(scrapes: impl Iterator<Item = (usize, f64)>, options: &Options) -> Punctuality {
        let interval = options.interval as f64;
        let mut by_target: Vec<Vec<f64>> = vec![Vec::new(); options.targets];
        for (target, at) in scrapes {
            by_target[target].push(at);
        }
        let mut outcome = Punctuality { scrapes: 0, missed: 0, late_ms: Vec::new() };
        let rounds = (options.seconds / options.interval) as usize;
        for times in &by_target {
            outcome.scrapes += times.len();
            // A target whose turn is at the edge of the time may have one more.
            outcome.missed += rounds.saturating_sub(times.len());
            let Some(&first) = times.first() else { continue };
            let offsets: Vec<f64> = times
                .iter()
                .map(|at| at - first - ((at - first) / interval).round() * interval)
                .collect();
            let best = offsets.iter().copied().fold(f64::INFINITY, f64::min);
            outcome.late_ms.extend(offsets.iter().map(|offset| (offset - best) * 1e3));
        }
        outcome.late_ms.sort_by(f64::total_cmp);
        outcome
    }
}

/// The value below which a share of sorted values lies.
pub(crate) fn quantile(sorted: &[f64], share: f64) -> f64 {
    let last = sorted.len().saturating_sub(1);
    sorted.get((last as f64 * share).round() as usize).copied().unwrap_or(f64::NAN)
}

fn render(options: &Options, outcomes: &[Outcome]) -> String {
    let mut table = Table::new([
        "server",
        "scrapes",
        "missed",
        "late ms p50",
        "p99",
        "max",
        "up",
        "down",
        "samples per round",
        "series",
        "CPU ms per scrape",
        "vs Prometheus",
        "cores",
        "RSS MB",
        "vs Prometheus",
        "peak RSS MB",
        "load's cores",
    ]);
    let reference = outcomes.iter().find(|outcome| outcome.kind == Kind::Prometheus);
    for outcome in outcomes {
        let per_scrape =
            |outcome: &Outcome| outcome.cpu_seconds * 1e3 / outcome.punctuality.scrapes as f64;
        let resident = |outcome: &Outcome| outcome.memory.now_bytes as f64;
        let late = |share| format!("{:.1}", quantile(&outcome.punctuality.late_ms, share));
        let seconds = options.seconds as f64;
        table.push(vec![
            outcome.kind.name().to_owned(),
            grouped(outcome.punctuality.scrapes as f64),
            grouped(outcome.punctuality.missed as f64),
            late(0.5),
            late(0.99),
            late(1.0),
            grouped(outcome.up),
            grouped(outcome.down),
            grouped(outcome.samples_per_round),
            grouped(outcome.series),
            format!("{:.2}", per_scrape(outcome)),
            ratio(per_scrape(outcome), reference.map(per_scrape)),
            format!("{:.2}", outcome.cpu_seconds / seconds),
            megabytes(outcome.memory.now_bytes),
            ratio(resident(outcome), reference.map(resident)),
            megabytes(outcome.memory.peak_bytes),
            format!("{:.2}", outcome.load_cpu_seconds / seconds),
        ]);
    }
    format!(
        "{}\n\
         {} targets that answer at once, with {} samples each in the text format, uncompressed, \
         on connections of their own over loopback; besides them one that takes requests and never \
         answers, one that answers after {} s, and one that refuses connections. The last one and \
         the first are down, all others have to be up.\n\
         Measured for {} s after {} s to warm up. Missed: of {} scrapes that each target expects. \
         Late: compared with the most punctual scrape of the same target, seen by the target.\n\
         watchfire syncs what it stores, flushes each 20 s and merges within the time measured; \
         prometheus flushes after 3 h.\n",
        table.render(),
        grouped(options.targets as f64),
        options.samples,
        SLOW.as_secs(),
        options.seconds,
        options.warm_up,
        options.seconds / options.interval
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn late_and_missed_scrapes_are_seen() {
        let options = Options {
            targets: 3,
            samples: 1,
            interval: 10,
            warm_up: 0,
            seconds: 30,
            servers: Vec::new(),
        };
        // The second target misses one and the third is never asked; one scrape is 0.5 s late.
        let scrapes = [(0, 1.0), (1, 2.0), (0, 11.5), (0, 21.0), (1, 22.0)];
        let punctuality = Punctuality::of(scrapes.into_iter(), &options);
        let late_ms = vec![0.0, 0.0, 0.0, 0.0, 500.0];
        assert_eq!(punctuality, Punctuality { scrapes: 5, missed: 4, late_ms });
    }

    #[test]
    fn quantiles_lie_on_values() {
        let values = [1.0, 2.0, 3.0, 4.0, 5.0];
        assert_eq!(
            [0.0, 0.5, 0.99, 1.0].map(|share| quantile(&values, share)),
            [1.0, 3.0, 5.0, 5.0]
        );
        assert!(quantile(&[], 0.5).is_nan());
    }
}
