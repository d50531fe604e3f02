//! `watchfire import`: takes over what another system has stored.

mod block;
mod chunk_file;
mod prometheus;
mod sender;

use anyhow::Result;
use clap::{Args, Subcommand};

use prometheus::PrometheusArguments;

/// Which system's data.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct ImportArguments {
    #[command(subcommand)]
    source: ImportSource,
}

const EXAMPLES: &str = "\
Examples:
  watchfire import prometheus /var/lib/prometheus
      every block of a Prometheus, which may go on running
  watchfire import prometheus --dry-run /var/lib/prometheus
      say what there is and how much of it would be kept
  watchfire import prometheus --match '{job=\"node\"}' --start 2026-11-01T00:00:00Z snapshots/x
      some series, from a time on, out of a snapshot

What was imported before is recognised, so that an import that broke off can be run again.";

#[derive(Debug, Subcommand)]
enum ImportSource {
    /// Blocks of Prometheus, or of a snapshot of it
    Prometheus(PrometheusArguments),
}

/// Imports, and says what it does on standard error.
pub(crate) fn run(arguments: &ImportArguments) -> Result<()> {
    match &arguments.source {
        ImportSource::Prometheus(arguments) => prometheus::run(arguments),
    }
}
