//! The command line.

use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::admin::AdminArguments;
use crate::check::CheckArguments;
use crate::cluster::ClusterCommandArguments;
use crate::completions::CompletionsArguments;
use crate::delete::DeleteArguments;
use crate::doctor::DoctorArguments;
use crate::drain::DrainArguments;
use crate::http_client::ServerArguments;
use crate::import::ImportArguments;
use crate::man::ManArguments;
use crate::migrate::MigrateArguments;
use crate::rule_test::TestArguments;
use crate::snapshot::SnapshotArguments;
use crate::token::TokenArguments;
use crate::top::TopArguments;

mod examples;

use examples::{AGENT_EXAMPLES, BROKER_EXAMPLES, CONSOLE_EXAMPLES, QUERY_EXAMPLES};

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
  watchfire --prometheus-config prometheus.yml
      scrape what your Prometheus scrapes
  watchfire broker
      the same without collecting this host
  watchfire query 'rate(node_cpu_seconds_total{mode=\"user\"}[1m])'
      ask a running Watchfire, or any Prometheus with --url
  watchfire query --range 1h --step 1m 'node_load1'
      the same as a table over time

Send data to it:
  Prometheus     remote_write: [{url: http://127.0.0.1:9595/api/v1/write}]
  curl           curl --data-binary 'my_metric 1' http://127.0.0.1:9595/api/v1/import/prometheus
  Grafana        add Prometheus and Loki data sources with URL http://127.0.0.1:9595";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Store, query and show, without collecting this host
    #[command(after_long_help = BROKER_EXAMPLES)]
    Broker(Box<ServeArguments>),
    /// Collect this host and ship to a broker, losing nothing while it is away
    #[command(after_long_help = AGENT_EXAMPLES)]
    Agent(AgentArguments),
    /// Show what brokers on other hosts have, in a process without data of its own
    #[command(after_long_help = CONSOLE_EXAMPLES)]
    Console(ConsoleArguments),
    /// Evaluate a PromQL expression and print the result
    #[command(after_long_help = QUERY_EXAMPLES)]
    Query(QueryArguments),
    /// Take over the data of another system
    Import(ImportArguments),
    /// Move the data of one machine into a cluster
    #[command(after_long_help = crate::migrate::EXAMPLES)]
    Migrate(MigrateArguments),
    /// Delete samples of a running server, after saying of how many series
    #[command(after_long_help = crate::delete::EXAMPLES)]
    Delete(DeleteArguments),
    /// Have a running server write a copy of all it stores
    #[command(after_long_help = crate::snapshot::EXAMPLES)]
    Snapshot(SnapshotArguments),
    /// Show hosts live in the terminal
    Top(TopArguments),
    /// Check configuration files: what is wrong, where, and what to do
    #[command(after_long_help = crate::check::EXAMPLES, arg_required_else_help = true)]
    Check(CheckArguments),
    /// Run unit tests of rules, or tell a receiver that this is a test
    Test(TestArguments),
    /// Examine this machine and say what to do
    Doctor(DoctorArguments),
    /// Let a broker leave its cluster
    #[command(after_long_help = crate::drain::EXAMPLES)]
    Drain(DrainArguments),
    /// Show how the brokers of a cluster are, and what to do
    Cluster(ClusterCommandArguments),
    /// Make, list and revoke tokens, by which hosts join and programs log in
    Token(TokenArguments),
    /// What only the owner of the data directory may do
    Admin(AdminArguments),
    /// Print completions for a shell
    Completions(CompletionsArguments),
    /// Write the manual pages
    Man(ManArguments),
}

/// How a role that serves is run.
#[derive(Debug, Clone, Args)]
pub(crate) struct ServeArguments {
    /// Directory of the data; made if absent [default: watchfire-data]
    #[arg(long, value_name = "DIR", env = "WATCHFIRE_DATA")]
    pub(crate) data: Option<PathBuf>,

    /// Address of API and console; port 0 picks a free one [default: 127.0.0.1:9595]
    #[arg(long, value_name = "HOST:PORT", env = "WATCHFIRE_LISTEN", value_parser = listen_address)]
    pub(crate) listen: Option<SocketAddr>,

    /// Address for agents and consoles on other hosts; port 0 picks a free one [default: the same
    /// host, port 9596]
    #[arg(
        long,
        value_name = "HOST:PORT",
        env = "WATCHFIRE_PEER_LISTEN",
        value_parser = listen_address
    )]
    pub(crate) peer_listen: Option<SocketAddr>,

    /// Address for OTLP over gRPC [default: the same host, port 4317]
    #[arg(
        long,
        value_name = "HOST:PORT",
        env = "WATCHFIRE_OTLP_GRPC_LISTEN",
        value_parser = listen_address
    )]
    pub(crate) otlp_grpc_listen: Option<SocketAddr>,

    /// Address for OTLP over HTTP [default: the same host, port 4318]
    #[arg(
        long,
        value_name = "HOST:PORT",
        env = "WATCHFIRE_OTLP_HTTP_LISTEN",
        value_parser = listen_address
    )]
    pub(crate) otlp_http_listen: Option<SocketAddr>,

    /// Address for Graphite's plaintext protocol, which knows no login [default: none]
    #[arg(
        long,
        value_name = "HOST:PORT",
        env = "WATCHFIRE_GRAPHITE_LISTEN",
        value_parser = listen_address
    )]
    pub(crate) graphite_listen: Option<SocketAddr>,

    /// Address for OpenTSDB's telnet protocol, which knows no login [default: none]
    #[arg(
        long,
        value_name = "HOST:PORT",
        env = "WATCHFIRE_OPENTSDB_LISTEN",
        value_parser = listen_address
    )]
    pub(crate) opentsdb_listen: Option<SocketAddr>,

    /// Address for syslog over UDP, which knows no login [default: none]
    #[arg(
        long,
        value_name = "HOST:PORT",
        env = "WATCHFIRE_SYSLOG_UDP_LISTEN",
        value_parser = listen_address
    )]
    pub(crate) syslog_udp_listen: Option<SocketAddr>,

    /// Address for syslog over TCP, which knows no login [default: none]
    #[arg(
        long,
        value_name = "HOST:PORT",
        env = "WATCHFIRE_SYSLOG_TCP_LISTEN",
        value_parser = listen_address
    )]
    pub(crate) syslog_tcp_listen: Option<SocketAddr>,

    /// Address for syslog over TLS, which knows no login [default: none]
    #[arg(
        long,
        value_name = "HOST:PORT",
        env = "WATCHFIRE_SYSLOG_TLS_LISTEN",
        value_parser = listen_address
    )]
    pub(crate) syslog_tls_listen: Option<SocketAddr>,

    /// Configuration in YAML; every key is described in docs/operating/configuration.md
    #[arg(long, value_name = "FILE", env = "WATCHFIRE_CONFIG")]
    pub(crate) config: Option<PathBuf>,

    /// Scrape by this configuration of Prometheus, as it is; SIGHUP and POST /-/reload read it
    /// again
    #[arg(long, value_name = "FILE", env = "WATCHFIRE_PROMETHEUS_CONFIG")]
    pub(crate) prometheus_config: Option<PathBuf>,

    /// Notify by this configuration of Alertmanager, as it is; SIGHUP and POST /-/reload read it
    /// again
    #[arg(long, value_name = "FILE", env = "WATCHFIRE_ALERTMANAGER_CONFIG")]
    pub(crate) alertmanager_config: Option<PathBuf>,

    /// Whether what this process tells of itself on /metrics is stored as well [default: true]
    #[arg(long, value_name = "BOOL", env = "WATCHFIRE_OWN_METRICS")]
    pub(crate) own_metrics: Option<bool>,

    /// Whether the rules that Watchfire brings along are evaluated [default: true]
    #[arg(long, value_name = "BOOL", env = "WATCHFIRE_BUILTIN_RULES")]
    pub(crate) builtin_rules: Option<bool>,

    /// What is collected by files of other collectors of logs.
    #[command(flatten)]
    pub(crate) collectors: CollectorFiles,

    /// Neither TLS nor login, also on an address other than loopback: everyone who can reach it
    /// can read and write everything
    #[arg(long)]
    pub(crate) insecure_no_auth: bool,

    /// What makes it one of a cluster.
    #[command(flatten)]
    pub(crate) cluster: ClusterArguments,

    /// How much to tell on standard error
    #[arg(
        long,
        value_name = "LEVEL",
        env = "WATCHFIRE_LOG",
        default_value = "info",
        value_parser = ["error", "warn", "info", "debug", "trace"]
    )]
    pub(crate) log: String,
}

/// Files of other collectors of logs; docs/operating/log-stages.md tells what of them runs.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct CollectorFiles {
    /// Collect logs by this configuration of Promtail, as it is
    #[arg(long, value_name = "FILE", env = "WATCHFIRE_PROMTAIL_CONFIG")]
    pub(crate) promtail_config: Option<PathBuf>,

    /// Collect logs by this configuration of Alloy, as it is
    #[arg(long, value_name = "FILE", env = "WATCHFIRE_ALLOY_CONFIG")]
    pub(crate) alloy_config: Option<PathBuf>,

    /// Alloy's --storage.path, where it has noted how far it has read [default: data-alloy, or
    /// /var/lib/alloy/data]
    #[arg(long, value_name = "DIR", requires = "alloy_config", env = "WATCHFIRE_ALLOY_STORAGE")]
    pub(crate) alloy_storage: Option<PathBuf>,

    /// In the configuration of Promtail ${NAME} is that variable of the environment
    #[arg(long, requires = "promtail_config")]
    pub(crate) config_expand_env: bool,

    /// Push lines also to the systems that these configurations name, as they would
    #[arg(long)]
    pub(crate) keep_clients: bool,
}

impl CollectorFiles {
    pub(crate) fn is_empty(&self) -> bool {
        self.promtail_config.is_none() && self.alloy_config.is_none()
    }
}

/// How a broker is one of a cluster; docs/operating/cluster.md tells the whole of it.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Cluster")]
pub(crate) struct ClusterArguments {
    /// Store that all brokers of a cluster share, such as s3://BUCKET/PREFIX or
    /// file:///mnt/shared; the first broker founds the cluster there
    #[arg(long, value_name = "URL", env = "WATCHFIRE_STORE", hide_env_values = true)]
    pub(crate) store: Option<String>,

    /// Store for segments alone, such as a faster one; blocks go to --store. `blocks`: with the blocks again
    #[arg(long, value_name = "URL", env = "WATCHFIRE_STORE_SEGMENTS", hide_env_values = true)]
    pub(crate) store_segments: Option<String>,

    /// Where segments lay before --store-segments was changed, while that is done; `lost` if that store
    /// has lost them
    #[arg(
        long,
        value_name = "URL",
        env = "WATCHFIRE_FORMER_STORE_SEGMENTS",
        hide_env_values = true
    )]
    pub(crate) former_store_segments: Option<String>,

    /// Redis that keeps chunks of blocks for all brokers, such as redis+cluster://HOST:PORT/PREFIX: its
    /// loss costs time only
    #[arg(long, value_name = "URL", env = "WATCHFIRE_CACHE", hide_env_values = true)]
    pub(crate) cache: Option<String>,

    /// Brokers of the cluster to join, at their peer port; with --join-token at the first start
    #[arg(long, value_name = "HOST:PORT", value_delimiter = ',', value_parser = host_and_port)]
    pub(crate) join: Vec<String>,

    /// Token that `watchfire token create --role broker` printed; needed until the broker has joined
    #[arg(long, value_name = "TOKEN", env = "WATCHFIRE_JOIN_TOKEN", hide_env_values = true)]
    pub(crate) join_token: Option<String>,

    /// Name of this broker in the cluster [default: the host's name]
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,

    /// What fails together with this broker, such as a rack: votes are spread over zones
    #[arg(long, value_name = "ZONE", env = "WATCHFIRE_ZONE")]
    pub(crate) zone: Option<String>,

    /// Where other brokers and agents reach the peer port [default: where it listens, by the host's
    /// name if that is every address]
    #[arg(long, value_name = "HOST:PORT", env = "WATCHFIRE_ADVERTISE", value_parser = host_and_port)]
    pub(crate) advertise: Option<String>,

    /// Take a store that can lose what it confirmed, such as Redis, as the only place of data
    #[arg(long)]
    pub(crate) accept_weaker_durability: bool,

    /// Change what the cluster keeps to the retention, rollups, downsampling and place of segments of
    /// this broker; VERSION is told by the refusal to start without
    #[arg(long, value_name = "VERSION")]
    pub(crate) change_kept: Option<u64>,
}

/// How an agent is run.
#[derive(Debug, Args)]
pub(crate) struct AgentArguments {
    /// Brokers to ship to; the next one is tried when one does not answer
    #[arg(
        long,
        value_name = "HOST:PORT",
        env = "WATCHFIRE_BROKER",
        value_delimiter = ',',
        value_parser = host_and_port
    )]
    pub(crate) broker: Vec<String>,

    /// Token that `watchfire token create` printed; needed until the agent has its certificate
    #[arg(long, value_name = "TOKEN", env = "WATCHFIRE_JOIN", hide_env_values = true)]
    pub(crate) join: Option<String>,

    /// Name of this agent in the fleet [default: the host's name]
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,

    /// Directory of certificate and spool; made if absent [default: watchfire-agent-data]
    #[arg(long, value_name = "DIR", env = "WATCHFIRE_DATA")]
    pub(crate) data: Option<PathBuf>,

    /// Address of /metrics; port 0 picks a free one [default: 127.0.0.1:9597]
    #[arg(long, value_name = "HOST:PORT", env = "WATCHFIRE_LISTEN", value_parser = listen_address)]
    pub(crate) listen: Option<SocketAddr>,

    /// Configuration in YAML; every key is described in docs/operating/configuration.md
    #[arg(long, value_name = "FILE", env = "WATCHFIRE_CONFIG")]
    pub(crate) config: Option<PathBuf>,

    /// Scrape by this configuration of Prometheus, as it is; SIGHUP reads it again
    #[arg(long, value_name = "FILE", env = "WATCHFIRE_PROMETHEUS_CONFIG")]
    pub(crate) prometheus_config: Option<PathBuf>,

    /// What is collected by files of other collectors of logs.
    #[command(flatten)]
    pub(crate) collectors: CollectorFiles,

    /// Serve /metrics without TLS and login also on an address other than loopback
    #[arg(long)]
    pub(crate) insecure_no_auth: bool,

    /// How much to tell on standard error
    #[arg(
        long,
        value_name = "LEVEL",
        env = "WATCHFIRE_LOG",
        default_value = "info",
        value_parser = ["error", "warn", "info", "debug", "trace"]
    )]
    pub(crate) log: String,
}

/// How a console is run.
#[derive(Debug, Args)]
pub(crate) struct ConsoleArguments {
    /// Brokers of one cluster, at their peer port; the next one is asked when one does not answer
    #[arg(
        long,
        value_name = "HOST:PORT",
        env = "WATCHFIRE_BROKER",
        value_delimiter = ',',
        value_parser = host_and_port
    )]
    pub(crate) broker: Vec<String>,

    /// A cluster by name, with its brokers, several with commas; given several times, all are asked
    /// and shown as one
    #[arg(
        long,
        value_name = "NAME=HOST:PORT",
        conflicts_with = "broker",
        value_parser = named_brokers
    )]
    pub(crate) cluster: Vec<NamedBrokers>,

    /// Label to tell series of the clusters apart by; without it equal ones are one series
    #[arg(long, value_name = "LABEL")]
    pub(crate) cluster_label: Option<String>,

    /// Token that `watchfire token create --role console` printed; needed until the console has its
    /// certificate. NAME=TOKEN for one of several clusters
    #[arg(
        long,
        value_name = "TOKEN",
        env = "WATCHFIRE_JOIN",
        hide_env_values = true,
        value_delimiter = ','
    )]
    pub(crate) join: Vec<String>,

    /// Name of this console's certificate [default: the host's name]
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,

    /// Directory of certificates and users; made if absent [default: watchfire-console-data]
    #[arg(long, value_name = "DIR", env = "WATCHFIRE_DATA")]
    pub(crate) data: Option<PathBuf>,

    /// Address of API and pages; port 0 picks a free one [default: 127.0.0.1:9598]
    #[arg(long, value_name = "HOST:PORT", env = "WATCHFIRE_LISTEN", value_parser = listen_address)]
    pub(crate) listen: Option<SocketAddr>,

    /// Configuration in YAML; every key is described in docs/operating/configuration.md
    #[arg(long, value_name = "FILE", env = "WATCHFIRE_CONFIG")]
    pub(crate) config: Option<PathBuf>,

    /// Neither TLS nor login, also on an address other than loopback: everyone who can reach it
    /// can read everything
    #[arg(long)]
    pub(crate) insecure_no_auth: bool,

    /// How much to tell on standard error
    #[arg(
        long,
        value_name = "LEVEL",
        env = "WATCHFIRE_LOG",
        default_value = "info",
        value_parser = ["error", "warn", "info", "debug", "trace"]
    )]
    pub(crate) log: String,
}

/// One query.
#[derive(Debug, Args)]
pub(crate) struct QueryArguments {
    /// The PromQL expression
    pub(crate) expr: String,

    /// Which server to ask.
    #[command(flatten)]
    pub(crate) server: ServerArguments,

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

/// The address to listen on. A name is looked up, and its IPv4 address preferred, as `localhost`
/// means 127.0.0.1 to those who then open the URL.
pub(crate) fn listen_address(text: &str) -> Result<SocketAddr, String> {
    const WANTED: &str = "give host and port, such as 127.0.0.1:9595 or localhost:9595";
    let addresses: Vec<SocketAddr> =
        text.to_socket_addrs().map_err(|error| format!("{error}; {WANTED}"))?.collect();
    let v4 = addresses.iter().find(|address| address.is_ipv4());
    v4.or(addresses.first()).copied().ok_or_else(|| WANTED.to_owned())
}

/// A host with its port, looked up only when it is needed.
pub(crate) fn host_and_port(text: &str) -> Result<String, String> {
    let (host, port) = text.rsplit_once(':').unwrap_or((text, ""));
    if host.is_empty() || port.parse::<u16>().is_err() {
        return Err("give host and port, such as monitor.example.com:9596".to_owned());
    }
    Ok(text.to_owned())
}

/// A cluster as it is named on the command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NamedBrokers {
    pub(crate) name: String,
    pub(crate) brokers: Vec<String>,
}

fn named_brokers(text: &str) -> Result<NamedBrokers, String> {
    let Some((name, brokers)) = text.split_once('=').filter(|(name, _)| !name.is_empty()) else {
        return Err("give a name and its brokers, such as eu=eu.example.com:9596".to_owned());
    };
    let brokers = brokers.split(',').map(host_and_port).collect::<Result<_, _>>()?;
    Ok(NamedBrokers { name: name.to_owned(), brokers })
}

/// How a result is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// Aligned columns
    Table,
    /// The API's answer as it came
    Json,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        <Cli as clap::CommandFactory>::command().debug_assert();
    }

    #[test]
    fn listens_where_it_is_told() {
        let parse = |text: &str| {
            let cli = Cli::try_parse_from(["watchfire", "--listen", text]);
            cli.map(|cli| cli.serve.listen.expect("given").to_string()).map_err(|e| e.to_string())
        };
        assert_eq!(parse("127.0.0.1:0").as_deref(), Ok("127.0.0.1:0"));
        assert_eq!(parse("[::1]:9595").as_deref(), Ok("[::1]:9595"));
        assert_eq!(parse("localhost:9595").as_deref(), Ok("127.0.0.1:9595"));
        for bad in ["foo", "127.0.0.1", "127.0.0.1:99999"] {
            let error = parse(bad).expect_err(bad);
            assert!(error.contains(bad) && error.contains("localhost:9595"), "{error}");
        }
    }

    #[test]
    fn a_url_may_leave_out_its_scheme() {
        let url = |text: &str| {
            let cli = Cli::try_parse_from(["watchfire", "query", "--url", text, "1"]);
            match cli.expect("valid").command {
                Some(Command::Query(query)) => query.server.url,
                other => panic!("{other:?} is no query"),
            }
        };
        assert_eq!(url("127.0.0.1:9595"), "http://127.0.0.1:9595");
        assert_eq!(url("http://h/prom"), "http://h/prom");
    }

    #[test]
    fn an_unknown_log_level_is_refused() {
        let error = Cli::try_parse_from(["watchfire", "--log", "banana"]).expect_err("no level");
        assert!(error.to_string().contains("debug"), "{error}");
    }
}
