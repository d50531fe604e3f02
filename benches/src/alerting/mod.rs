//! Alerting: what it costs to take and keep alerts and to tell them, beside Alertmanager; whether a receiver that
//! hangs holds up another; and how late thousands of rules are, beside Prometheus.

mod alerts;
mod held;
mod rules;
mod ruleset;
mod sink;

use anyhow::{Result, ensure};

use crate::server::Kind;

/// What `bench alerting` is told.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Options {
    /// Alerts that are active at once
    #[arg(long, default_value_t = 50_000)]
    alerts: usize,
    /// Alerts of one group
    #[arg(long, default_value_t = 100)]
    group: usize,
    /// Alerts of one request; Prometheus sends at most 64
    #[arg(long, default_value_t = 64)]
    batch: usize,
    /// Connections that post at once
    #[arg(long, default_value_t = 4)]
    connections: usize,
    /// How often all alerts are posted again, as long as they are active
    #[arg(long, default_value_t = 5)]
    rounds: u32,
    /// Seconds between these
    #[arg(long, default_value_t = 60)]
    resend: u64,
    /// Rules, recording and alerting ones, in groups of 25
    #[arg(long, default_value_t = 5_000)]
    rules: usize,
    /// Series that the rules read, 100 of each host
    #[arg(long, default_value_t = 10_000)]
    series: usize,
    /// Seconds between two evaluations of a group, and between two samples of a series
    #[arg(long, default_value_t = 15)]
    interval: u64,
    /// Seconds of evaluations that are measured, two intervals after the start
    #[arg(long, default_value_t = 300)]
    seconds: u64,
    /// Only these
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Part::ALL)]
    parts: Vec<Part>,
    /// Only Watchfire, without its peers
    #[arg(long)]
    alone: bool,
}

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// Alerts taken, kept and told
    Alerts,
    /// A receiver that hangs beside one that does not
    Held,
    /// Rules by the clock
    Rules,
}

impl Part {
    const ALL: [Part; 3] = [Part::Alerts, Part::Held, Part::Rules];
}

/// Versions of what is compared.
pub(crate) fn versions(options: &Options) -> Result<String> {
    let all = [Kind::Watchfire, Kind::Alertmanager, Kind::Prometheus];
    let versions = all.iter().take(if options.alone { 1 } else { all.len() });
    Ok(versions.map(|kind| kind.version()).collect::<Result<Vec<_>>>()?.join(", "))
}

/// Runs the parts and yields their tables.
pub(crate) fn run(options: &Options) -> Result<String> {
    let least = [options.alerts, options.group, options.batch, options.connections, options.rules];
    ensure!(
        least.iter().all(|count| *count > 0) && options.series >= 100 && options.interval > 0,
        "counts must be at least 1, --series at least 100"
    );
    let mut tables = Vec::new();
    for part in &options.parts {
        tables.push(match part {
            Part::Alerts => alerts::run(options)?,
            Part::Held => held::run(options)?,
            Part::Rules => rules::run(options)?,
        });
    }
    Ok(tables.join("\n"))
}

impl Options {
    /// Watchfire and a peer, or Watchfire alone.
    fn beside(&self, peer: Kind) -> impl Iterator<Item = Kind> {
        [Kind::Watchfire, peer].into_iter().take(if self.alone { 1 } else { 2 })
    }
}
