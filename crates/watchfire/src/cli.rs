//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// What `watchfire` understands.
#[derive(Debug, Parser)]
#[command(
    version,
    about = "See your servers, one second at a time: metrics of this host, stored and queryable",
    long_about = "Watchfire collects, keeps, queries and shows metrics, in one program.\n\n\
        Without a subcommand it runs everything: it collects this host each second, takes \
        Prometheus remote write, stores it under --data, answers the Prometheus API and serves \
        the console. Nothing has to be configured.",
    after_long_help = EXAMPLES,
    args_conflicts_with_subcommands = true
)]
pub(crate) struct Cli {
    /// What to do instead of running everything.
    #[command(subcommand)]
    pub(crate) command: Option<Command>,

    /// How to run everything.
    #[command(flatten)]
    pub(crate) serve: ServeArguments,
}

const EXAMPLES: &str = "\
Examples:
  watchfire
      run everything; open http://127.0.0.1:9595
  watchfire --data /var/lib/watchfire --listen 127.0.0.1:9595
      keep the data somewhere else
  watchfire broker
      the same without collecting this host
  watchfire query 'rate(node_cpu_seconds_total{mode=\"user\"}[1m])'
      ask a running Watchfire, or any Prometheus with --url
  watchfire query --range 1h --step 1m 'node_load1'
      the same as a table over time

Send data to it:
  Prometheus     remote_write: [{url: http://127.0.0.1:9595/api/v1/write}]
  curl           curl --data-binary 'my_metric 1' http://127.0.0.1:9595/api/v1/import/prometheus
  Grafana        add a Prometheus data source with URL http://127.0.0.1:9595";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Store, query and show, without collecting this host
    #[command(after_long_help = "Serves the same API and console as `watchfire` alone.")]
    Broker(ServeArguments),
    /// Evaluate a PromQL expression and print the result
    #[command(after_long_help = QUERY_EXAMPLES)]
    Query(QueryArguments),
}

const QUERY_EXAMPLES: &str = "\
Examples:
  watchfire query up
  watchfire query --time 2026-11-21T10:00:00Z 'node_load1'
  watchfire query --range 1h --step 5m 'sum by (mode) (rate(node_cpu_seconds_total[5m]))'
  watchfire query -o json 'topk(3, node_filesystem_avail_bytes)'";

/// How a role that serves is run.
#[derive(Debug, Args)]
pub(crate) struct ServeArguments {
    /// Directory of the data; made if absent
    #[arg(long, value_name = "DIR", env = "WATCHFIRE_DATA")]
    pub(crate) data: Option<PathBuf>,

    /// Address of API and console; port 0 picks a free one [default: 127.0.0.1:9595]
    #[arg(long, value_name = "HOST:PORT", env = "WATCHFIRE_LISTEN")]
    pub(crate) listen: Option<SocketAddr>,

    /// Configuration in YAML; every key is described in docs/operating/configuration.md
    #[arg(long, value_name = "FILE", env = "WATCHFIRE_CONFIG")]
    pub(crate) config: Option<PathBuf>,

    /// Allow an address other than loopback although there is no login yet: everyone who can
    /// reach it can read and write everything
    #[arg(long)]
    pub(crate) insecure_no_auth: bool,

    /// How much to tell: error, warn, info, debug, trace
    #[arg(long, value_name = "LEVEL", env = "WATCHFIRE_LOG", default_value = "info")]
    pub(crate) log: String,
}

/// One query.
#[derive(Debug, Args)]
pub(crate) struct QueryArguments {
    /// The PromQL expression
    pub(crate) expr: String,

    /// Where to ask
    #[arg(
        long,
        value_name = "URL",
        env = "WATCHFIRE_URL",
        default_value = "http://127.0.0.1:9595"
    )]
    pub(crate) url: String,

    /// Evaluation time, or end of the range: seconds since the epoch or RFC 3339; now if absent
    #[arg(long, value_name = "TIME")]
    pub(crate) time: Option<String>,

    /// Evaluate over this long up to the time, such as 1h
    #[arg(long, value_name = "DURATION")]
    pub(crate) range: Option<String>,

    /// Distance of steps in a range, such as 1m [default: a sixtieth of the range]
    #[arg(long, value_name = "DURATION", requires = "range")]
    pub(crate) step: Option<String>,

    /// How to print
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    pub(crate) output: Output,
}

/// How a result is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// Aligned columns
    Table,
    /// The API's answer as it came
    Json,
}
