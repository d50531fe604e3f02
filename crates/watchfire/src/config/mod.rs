//! The configuration file, and what is in effect after flags are applied.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::cli::{AgentArguments, ServeArguments};
use crate::ranges;
use anyhow::{Context, Result, bail};
use broker::{AggregationConfig, HaConfig};
use model::Limits;
use settings::Faults;
use settings::yaml::Document;

use durations::{duration_ms, duration_or_none_ms};

pub(crate) use collectors::Pushed;
pub(crate) use logs::Collection;

mod agent;
mod aggregation;
mod alerting;
mod cluster;
mod collectors;
mod console_role;
mod durations;
mod features;
mod ha;
mod keys;
mod limits;
mod log_limits;
mod logs;
mod query_cache;
mod retention;
mod syslog;
mod tenants;

pub(crate) use agent::Shipping;
pub(crate) use alerting::AlertingConfig;
pub(crate) use cluster::{ClusterSettings, LOST, WITH_BLOCKS};
pub(crate) use console_role::{ConsoleRole, ShownCluster};
pub(crate) use features::Features;
use keys::{File, Tls};
use limits::Defaults;
pub(crate) use syslog::SyslogConfig;

/// Everything in effect.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    pub(crate) data: PathBuf,
    pub(crate) listen: SocketAddr,
    pub(crate) peer_listen: SideListen,
    pub(crate) otlp_grpc_listen: SideListen,
    pub(crate) otlp_http_listen: SideListen,
    pub(crate) graphite_listen: Option<SocketAddr>,
    pub(crate) opentsdb_listen: Option<SocketAddr>,
    pub(crate) syslog: SyslogConfig,
    pub(crate) tls: TlsConfig,
    /// What counts if this broker is one of a cluster.
    pub(crate) cluster: ClusterSettings,
    /// What is scraped, in Prometheus' own form.
    pub(crate) prometheus_config: Option<PathBuf>,
    /// Whether callers of the HTTP API have to say who they are.
    pub(crate) needs_login: bool,
    pub(crate) retention_ms: i64,
    pub(crate) retention_size_bytes: Option<u64>,
    /// For how long lines of logs are kept.
    pub(crate) logs_retention_ms: i64,
    /// For how long those series are kept that are kept for less than `retention_ms`.
    pub(crate) retention_rules: Vec<metricstore::RetentionRule>,
    /// How much less densely older samples of some series are kept.
    pub(crate) downsampling: Vec<metricstore::DownsamplingRule>,
    /// What is kept for longer than `retention_ms`.
    pub(crate) rollups: Vec<broker::RollupTier>,
    pub(crate) flush_interval_ms: i64,
    pub(crate) flush_bytes: u64,
    pub(crate) max_exemplars: usize,
    /// Of log that waits for one remote.
    pub(crate) remote_write_limit_bytes: u64,
    /// How pairs of Prometheus servers are told apart; `None` if they are not.
    pub(crate) ha: Option<HaConfig>,
    /// What is aggregated before it is stored.
    pub(crate) aggregation: AggregationConfig,
    pub(crate) collect: bool,
    pub(crate) agent: ::agent::AgentConfig,
    /// Which lines of logs are collected.
    pub(crate) logs: Collection,
    pub(crate) limits: Limits,
    /// Tenants whose limits are others, and how many tenants there may be.
    pub(crate) tenants: broker::TenantSettings,
    /// Rules, and who is told of alerts.
    pub(crate) alerting: AlertingConfig,
    /// How often what this process tells of itself is stored; `None` if it is not.
    pub(crate) own_metrics: Option<Duration>,
    /// The budget of memory.
    pub(crate) memory: governor::Settings,
    /// By which defaults are smaller where there is little of it.
    memory_bytes: u64,
    /// What results of queries may take.
    pub(crate) query_cache: console::CacheSettings,
    pub(crate) features: Features,
    /// When memory is short, a series without samples for this long is forgotten.
    pub(crate) idle_series_ms: i64,
    /// Of the series one query of a console in a process of its own may hold.
    pub(crate) max_query_bytes: usize,
    pub(crate) max_concurrent_queries: usize,
    pub(crate) max_connections: usize,
    /// Of all request bodies that are being read and unpacked.
    pub(crate) max_inflight_body_bytes: usize,
    /// Names besides loopback under which a server on loopback is reached.
    pub(crate) allowed_hosts: Vec<String>,
    /// Origins of web pages that may read answers.
    pub(crate) cors_origins: Vec<String>,
    /// The flags, by which the file is read again.
    pub(crate) arguments: ServeArguments,
    /// The file as it was understood, for `/api/v1/status/config`.
    pub(crate) yaml: String,
}

/// An address besides that of API and console.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SideListen {
    pub(crate) address: SocketAddr,
    /// Whether the user named it. If not, the start goes on without it where the port is taken.
    pub(crate) is_named: bool,
}

/// Certificates of the HTTP port.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct TlsConfig {
    /// Certificate chain and key of the operator's, instead of the built-in authority's.
    pub(crate) files: Option<(PathBuf, PathBuf)>,
    /// Names and addresses to be in the built-in authority's certificate besides this host's own.
    pub(crate) names: Vec<String>,
}

/// Everything in effect for `watchfire agent`.
#[derive(Debug, Clone)]
pub(crate) struct AgentRole {
    pub(crate) data: PathBuf,
    pub(crate) listen: SocketAddr,
    pub(crate) insecure_no_auth: bool,
    /// At least one.
    pub(crate) brokers: Vec<String>,
    pub(crate) join: Option<String>,
    pub(crate) name: String,
    /// Whether the label `instance` is the name the broker gave, not one from the file.
    pub(crate) instance_is_name: bool,
    /// Nothing where only targets are scraped.
    pub(crate) collect: Option<::agent::AgentConfig>,
    /// Which lines of logs are collected.
    pub(crate) logs: Collection,
    pub(crate) shipping: Shipping,
    /// What is scraped, in Prometheus' own form.
    pub(crate) prometheus_config: Option<PathBuf>,
    pub(crate) features: Features,
    /// Tells configurations apart in the fleet's table.
    pub(crate) config_hash: String,
}

impl AgentRole {
    /// Reads the file if one is named and lets flags win.
    pub(crate) fn load(arguments: &AgentArguments) -> Result<AgentRole> {
        let read = arguments.config.as_deref().map(read).transpose()?;
        let (file, document) = read.unzip();
        AgentRole::effective(file.unwrap_or_default(), document.as_ref(), arguments)
            .map_err(|error| located(error, document.as_ref()))
    }

    fn effective(
        file: File,
        document: Option<&Document>,
        arguments: &AgentArguments,
    ) -> Result<AgentRole> {
        let collecting = agent::collecting(&file.agent)?;
        let mut shipping = agent::shipping(&file.agent)?;
        let in_file = std::mem::take(&mut shipping.brokers);
        let brokers = if arguments.broker.is_empty() { in_file } else { arguments.broker.clone() };
        if brokers.is_empty() {
            bail!(
                "an agent needs a broker to ship to: give --broker HOST:9596, or agent.brokers in \
                 the configuration; `watchfire token create` on the broker's host prints the \
                 whole command"
            );
        }
        let in_file = file.listen.as_deref().map(|text| {
            crate::cli::listen_address(text)
                .map_err(|error| anyhow::anyhow!("listen: {text:?}: {error}"))
        });
        let data = arguments.data.clone().or(file.data);
        let data = data.unwrap_or_else(|| PathBuf::from(DEFAULT_AGENT_DATA));
        let own = (arguments.config.as_deref(), document.map_or("", Document::text));
        let told = (&arguments.collectors, own);
        let logs = Collection::of(&file.logs, &collecting.instance, &data, true, told)?;
        Ok(AgentRole {
            data,
            logs,
            listen: arguments.listen.or(in_file.transpose()?).unwrap_or(DEFAULT_AGENT_LISTEN),
            insecure_no_auth: arguments.insecure_no_auth,
            brokers,
            join: arguments.join.clone(),
            name: arguments.name.clone().unwrap_or_else(|| collecting.instance.clone()),
            instance_is_name: file.agent.instance.is_none(),
            collect: file.agent.enabled.unwrap_or(true).then_some(collecting),
            shipping,
            prometheus_config: arguments.prometheus_config.clone().or(file.prometheus_config),
            features: Features::named(&file.enable_features)?,
            config_hash: agent::hash(document.map_or("", Document::text)),
        })
    }
}

const DEFAULT_AGENT_LISTEN: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 9597);
const DEFAULT_AGENT_DATA: &str = "watchfire-agent-data";
const PEER_PORT: u16 = 9596;
const OTLP_GRPC_PORT: u16 = 4317;
const OTLP_HTTP_PORT: u16 = 4318;
const DEFAULT_LISTEN: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 9595);
const DEFAULT_DATA: &str = "watchfire-data";
const DEFAULT_IDLE_SERIES_MS: i64 = 5 * 60 * 1_000;
const DEFAULT_REMOTE_WRITE_LIMIT_BYTES: u64 = 8 << 30;
const DAY_MS: i64 = 24 * 60 * 60 * 1_000;

impl Config {
    /// Reads the file if one is named and lets flags win.
    pub(crate) fn load(arguments: &ServeArguments) -> Result<Config> {
        Config::load_for(arguments, None)
    }

    /// Reads the file of this configuration again. Defaults follow the budget of memory that this one
    /// has, since another one takes another start.
    pub(crate) fn load_again(&self) -> Result<Config> {
        Config::load_for(&self.arguments, Some(self.memory_bytes))
    }

    fn load_for(arguments: &ServeArguments, memory_bytes: Option<u64>) -> Result<Config> {
        let read = arguments.config.as_deref().map(read).transpose()?;
        let (file, document) = read.unzip();
        let yaml = document.as_ref().map_or_else(String::new, |file| file.text().to_owned());
        let mut file = file.unwrap_or_default();
        let aggregated = std::mem::take(&mut file.stream_aggregation);
        effective(file, yaml, arguments, memory_bytes)
            .and_then(|config| ranges::check(&config).map(|()| config))
            .and_then(|config| {
                let aggregation = aggregation::read(&aggregated, document.as_ref())?;
                Ok(Config { aggregation, ..config })
            })
            .map_err(|error| located(error, document.as_ref()))
    }
}

/// The file's keys, and the file itself for whoever has to point at a place in it.
fn read(path: &Path) -> Result<(File, Document)> {
    let bytes = std::fs::read(path).with_context(|| format!("read {}", path.display()))?;
    let document = Document::parse(&path.to_string_lossy(), &bytes)?;
    let file = document.deserialize()?;
    Ok((file, document))
}

/// An error about a key, at that key's place in the file, if there is a file.
fn located(error: anyhow::Error, document: Option<&Document>) -> anyhow::Error {
    if error.is::<Faults>() {
        return error;
    }
    let text = format!("{error:#}");
    match document {
        Some(document) => Faults::new(vec![document.locate(&text)]).into(),
        None => anyhow::anyhow!(text),
    }
}

/// `memory_bytes` is the budget by which defaults go, if that is not the one of the file.
fn effective(
    file: File,
    yaml: String,
    arguments: &ServeArguments,
    memory_bytes: Option<u64>,
) -> Result<Config> {
    // A mistake in the file is named also where a flag wins.
    let in_file = file.listen.as_deref().map(|text| {
        crate::cli::listen_address(text)
            .map_err(|error| anyhow::anyhow!("listen: {text:?}: {error}"))
    });
    let listen = arguments.listen.or(in_file.transpose()?).unwrap_or(DEFAULT_LISTEN);
    let side =
        |key, in_file: Option<&str>, flag, port| side_listen(key, in_file, flag, listen, port);
    let peer_listen =
        side("peer_listen", file.peer_listen.as_deref(), arguments.peer_listen, PEER_PORT)?;
    let in_file = file.otlp.grpc_listen.as_deref();
    let otlp_grpc_listen =
        side("otlp.grpc_listen", in_file, arguments.otlp_grpc_listen, OTLP_GRPC_PORT)?;
    let in_file = file.otlp.http_listen.as_deref();
    let otlp_http_listen =
        side("otlp.http_listen", in_file, arguments.otlp_http_listen, OTLP_HTTP_PORT)?;
    let needs_login = needs_login(file.auth.login, arguments, listen)?;
    for (key, side) in
        [("otlp.grpc_listen", otlp_grpc_listen), ("otlp.http_listen", otlp_http_listen)]
    {
        if !side.address.ip().is_loopback() && !needs_login && !arguments.insecure_no_auth {
            bail!(
                "{key}: everyone who can reach {}, which is not a loopback address, could write \
                 without a login. Set auth.login to true, listen on 127.0.0.1, or add \
                 --insecure-no-auth if the network is closed",
                side.address
            );
        }
    }
    let lines = |key, in_file: Option<&str>, flag| line_listen(key, in_file, flag, arguments);
    let in_file = file.graphite.listen.as_deref();
    let graphite_listen = lines("graphite.listen", in_file, arguments.graphite_listen)?;
    let in_file = file.opentsdb.listen.as_deref();
    let opentsdb_listen = lines("opentsdb.listen", in_file, arguments.opentsdb_listen)?;
    let syslog = syslog::settings(&file.syslog, arguments)?;
    // How an agent ships matters only to `watchfire agent`, but mistakes are named here as well.
    agent::shipping(&file.agent)?;
    let collecting = agent::collecting(&file.agent)?;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let memory = governor::Settings {
        limit_bytes: file.memory.limit_bytes,
        max_query_bytes: file.limits.max_query_bytes,
    };
    let memory_bytes = memory_bytes.unwrap_or_else(|| memory.limit_bytes());
    let defaults = Defaults::of(memory_bytes);
    let limits = limits::in_effect(&file.limits, &defaults)?;
    let tenants = tenants::settings(&file, &limits)?;
    let retention_ms =
        duration_ms("storage.retention", file.storage.retention.as_deref())?.unwrap_or(15 * DAY_MS);
    let data = arguments.data.clone().or(file.data);
    let data = data.unwrap_or_else(|| PathBuf::from(DEFAULT_DATA));
    let told = (&arguments.collectors, (arguments.config.as_deref(), yaml.as_str()));
    Ok(Config {
        logs: Collection::of(&file.logs, &collecting.instance, &data, false, told)?,
        data,
        listen,
        peer_listen,
        otlp_grpc_listen,
        otlp_http_listen,
        graphite_listen,
        opentsdb_listen,
        syslog,
        tls: tls(file.tls)?,
        cluster: cluster::settings(
            &file.cluster,
            cluster::Stores { blocks: file.storage.store, segments: file.storage.store_segments },
            &arguments.cluster,
            &collecting.instance,
        )?,
        prometheus_config: arguments.prometheus_config.clone().or(file.prometheus_config),
        needs_login,
        retention_ms,
        retention_size_bytes: file.storage.retention_size_bytes,
        logs_retention_ms: duration_ms(
            "storage.logs_retention",
            file.storage.logs_retention.as_deref(),
        )?
        .unwrap_or(31 * DAY_MS),
        retention_rules: retention::rules(&file.storage.retention_rules, retention_ms)?,
        downsampling: retention::downsampling(file.storage.downsampling.as_deref(), retention_ms)?,
        rollups: retention::rollups(file.storage.rollups.as_deref(), retention_ms)?,
        flush_interval_ms: duration_ms(
            "storage.flush_interval",
            file.storage.flush_interval.as_deref(),
        )?
        .unwrap_or(5 * 60 * 1_000),
        flush_bytes: file.storage.flush_bytes.unwrap_or(1 << 30),
        max_exemplars: file.storage.exemplars.max_exemplars.unwrap_or(100_000),
        remote_write_limit_bytes: file
            .remote_write
            .limit_bytes
            .unwrap_or(DEFAULT_REMOTE_WRITE_LIMIT_BYTES),
        ha: ha::tracker(file.ha_tracker)?,
        // Rules have places of their own in the file: they are read apart.
        aggregation: AggregationConfig::default(),
        collect: file.agent.enabled.unwrap_or(true),
        agent: collecting,
        tenants,
        alerting: alerting::settings(file.rules, file.alertmanager, arguments)?,
        own_metrics: own_metrics(&file.own_metrics, arguments.own_metrics)?,
        limits,
        memory,
        memory_bytes,
        query_cache: query_cache::settings(&file.query_cache, memory_bytes)?,
        features: Features::named(&file.enable_features)?,
        idle_series_ms: duration_ms("memory.idle_series", file.memory.idle_series.as_deref())?
            .unwrap_or(DEFAULT_IDLE_SERIES_MS),
        max_query_bytes: file.limits.max_query_bytes.unwrap_or(defaults.max_query_bytes),
        max_concurrent_queries: file.limits.max_concurrent_queries.unwrap_or(cores * 4),
        max_connections: file
            .http
            .max_connections
            .unwrap_or(net::ServerSettings::default().max_connections),
        max_inflight_body_bytes: file
            .http
            .max_inflight_body_bytes
            .unwrap_or(defaults.max_inflight_body_bytes),
        allowed_hosts: file.http.allowed_hosts,
        cors_origins: cors_origins(file.http.cors_origins, needs_login)?,
        arguments: arguments.clone(),
        yaml,
    })
}

/// How often what this process tells of itself is stored, if it is.
fn own_metrics(keys: &keys::OwnMetrics, flag: Option<bool>) -> Result<Option<Duration>> {
    let every_ms = duration_ms("own_metrics.interval", keys.interval.as_deref())?.unwrap_or(15_000);
    let every = Duration::from_millis(u64::try_from(every_ms).unwrap_or(0));
    if !(Duration::from_secs(1)..=Duration::from_secs(3_600)).contains(&every) {
        bail!("own_metrics.interval: {every:?} is out of range; it must be from 1s to 1h");
    }
    Ok(flag.or(keys.enabled).unwrap_or(true).then_some(every))
}

/// The origins of `http.cors_origins`.
fn cors_origins(origins: Vec<String>, needs_login: bool) -> Result<Vec<String>> {
    for origin in &origins {
        if origin == "*" && !needs_login {
            bail!(
                "http.cors_origins: \"*\" would let every web page that a user of this host looks at read \
                 all data, since no login is needed. Name the origins, or set auth.login to true"
            );
        }
        if origin != "*" && !net::is_origin(origin) {
            bail!(
                "http.cors_origins: {origin:?} is no origin; write scheme://host[:port] without a path, \
                 such as https://grafana.example.org"
            );
        }
    }
    Ok(origins)
}

/// `flag` wins over `in_file`, the value of `key`; otherwise it is `port` of the host of `listen`.
fn side_listen(
    key: &str,
    in_file: Option<&str>,
    flag: Option<SocketAddr>,
    listen: SocketAddr,
    port: u16,
) -> Result<SideListen> {
    let in_file = in_file.map(|text| {
        crate::cli::listen_address(text)
            .map_err(|error| anyhow::anyhow!("{key}: {text:?}: {error}"))
    });
    Ok(match flag.or(in_file.transpose()?) {
        Some(address) => SideListen { address, is_named: true },
        // Beside a free port for the one, a fixed one for the other would be a surprise.
        None if listen.port() == 0 => {
            SideListen { address: SocketAddr::new(listen.ip(), 0), is_named: false }
        }
        None => SideListen { address: SocketAddr::new(listen.ip(), port), is_named: false },
    })
}

/// Where a protocol of lines is taken, if anywhere. It knows neither TLS nor login.
fn line_listen(
    key: &str,
    in_file: Option<&str>,
    flag: Option<SocketAddr>,
    arguments: &ServeArguments,
) -> Result<Option<SocketAddr>> {
    let in_file = in_file.map(|text| {
        crate::cli::listen_address(text)
            .map_err(|error| anyhow::anyhow!("{key}: {text:?}: {error}"))
    });
    let Some(address) = flag.or(in_file.transpose()?) else { return Ok(None) };
    if !address.ip().is_loopback() && !arguments.insecure_no_auth {
        bail!(
            "{key}: this protocol knows no login, so everyone who can reach {address} could write. \
             Listen on 127.0.0.1, or add --insecure-no-auth if the network is closed"
        );
    }
    Ok(Some(address))
}

fn needs_login(
    in_file: Option<bool>,
    arguments: &ServeArguments,
    listen: SocketAddr,
) -> Result<bool> {
    let is_open = !listen.ip().is_loopback();
    match (in_file, arguments.insecure_no_auth) {
        (Some(true), true) => bail!("auth.login is true and --insecure-no-auth is given; drop one"),
        (Some(false), false) if is_open => bail!(
            "auth.login: without a login everyone who can reach {listen}, which is not a loopback \
             address, could read and write everything. Leave auth.login out, listen on 127.0.0.1, \
             or add --insecure-no-auth if the network is closed"
        ),
        (in_file, insecure) => Ok(in_file.unwrap_or(is_open && !insecure)),
    }
}

fn tls(keys: Tls) -> Result<TlsConfig> {
    let files = match (keys.cert_file, keys.key_file) {
        (Some(certificate), Some(key)) => Some((certificate, key)),
        (None, None) => None,
        (Some(_), None) => bail!("tls.cert_file is given without tls.key_file; give both"),
        (None, Some(_)) => bail!("tls.key_file is given without tls.cert_file; give both"),
    };
    Ok(TlsConfig { files, names: keys.names })
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn load(yaml: &str) -> Result<Config> {
        let document = Document::parse("watchfire.yml", yaml.as_bytes())?;
        let file = document.deserialize()?;
        let arguments = ServeArguments {
            data: None,
            listen: None,
            peer_listen: None,
            otlp_grpc_listen: None,
            otlp_http_listen: None,
            graphite_listen: None,
            opentsdb_listen: None,
            syslog_udp_listen: None,
            syslog_tcp_listen: None,
            syslog_tls_listen: None,
            prometheus_config: None,
            alertmanager_config: None,
            own_metrics: None,
            builtin_rules: None,
            config: None,
            collectors: crate::cli::CollectorFiles::default(),
            insecure_no_auth: false,
            cluster: crate::cli::ClusterArguments::default(),
            log: "info".to_owned(),
        };
        let config = effective(file, yaml.to_owned(), &arguments, None)?;
        ranges::check(&config).map(|()| config)
    }

    #[test]
    fn every_key_has_its_effect() {
        let config = load(
            "data: /d\nlisten: 127.0.0.1:1\nstorage:\n  retention: 3d\n  logs_retention: 9d\n  flush_bytes: 500000\n\
             agent:\n  interval: 5s\n  job: j\nlimits:\n  max_labels_per_series: 7\n",
        )
        .expect("valid configuration");
        assert_eq!(config.data, PathBuf::from("/d"));
        assert_eq!(config.listen.port(), 1);
        assert_eq!((config.retention_ms, config.flush_bytes), (3 * DAY_MS, 500_000));
        assert_eq!(config.logs_retention_ms, 9 * DAY_MS);
        assert_eq!((config.agent.interval_ms, config.agent.job.as_str()), (5_000, "j"));
        assert_eq!(config.limits.max_labels_per_series, 7);
    }

    #[test]
    fn mistakes_are_named() {
        let error = load("storage:\n  retentoin: 3d\n").expect_err("unknown key").to_string();
        assert!(error.contains("retentoin") && error.contains('2'), "{error}");
        let error =
            format!("{:#}", load("storage:\n  retention: soon\n").expect_err("no duration"));
        assert!(error.contains("storage.retention") && error.contains("15d"), "{error}");
    }

    #[test]
    fn numbers_that_cannot_work_are_refused() {
        for yaml in [
            "storage:\n  retention: 1s\n",
            "storage:\n  retention_size_bytes: 0\n",
            "storage:\n  flush_interval: 1ms\n",
            "storage:\n  flush_interval: 3d\n",
            "storage:\n  flush_bytes: 0\n",
            "remote_write:\n  limit_bytes: 1000\n",
            "ha_tracker:\n  enabled: true\n  failover_timeout: 10ms\n",
            "ha_tracker:\n  enabled: true\n  max_clusters: 0\n",
            "agent:\n  interval: 1ms\n",
            "agent:\n  interval: 2h\n",
            "agent:\n  instance: \"\"\n",
            "limits:\n  max_labels_per_series: 0\n",
            "limits:\n  max_future_ms: -1\n",
            "limits:\n  max_future_ms: 9223372036854775807\n",
            "limits:\n  max_body_bytes: 4294967296\n",
            "limits:\n  query_timeout_ms: 0\n",
            "limits:\n  max_concurrent_queries: 0\n",
            "limits:\n  max_concurrent_queries: 18446744073709551615\n",
            "limits:\n  max_new_series_per_second: 18446744073709551615\n",
            "memory:\n  limit_bytes: 1000\n",
            "memory:\n  idle_series: 5s\n",
            "http:\n  max_connections: 0\n",
            "limits:\n  max_tenants: 0\n",
            "limits:\n  ingestion_rate: 18446744073709551615\n",
        ] {
            let (section, rest) = yaml.split_once(":\n  ").expect("two levels");
            let key = rest.trim_start_matches("enabled: true\n  ").split(':').next();
            let key = key.expect("a key");
            let error = load(yaml).expect_err(yaml).to_string();
            assert!(error.starts_with(&format!("{section}.{key}: ")), "{error}");
        }
        load("").expect("the defaults are within all ranges");
    }
}
