//! Runs roles in one process: binds, opens the store, wires the roles together, stops cleanly.

use std::io::IsTerminal;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use agent::logs::LogsConfig;
use agent::{BatchReceiver, HostAgent};
use anyhow::{Context, Result, bail, ensure};
use blockstore::Retention;
use broker::cluster::status::cluster_status_service;
use broker::{Broker, BrokerConfig, Complaints};
use governor::Governor;
use http::Method;
use metricstore::{DownsamplingRules, RetentionRules};
use model::DEFAULT_TENANT;
use net::auth::Principal;
use net::{Access, NetMetrics, OriginPolicy, Routes, ServerSettings};
use tokio::runtime::Builder;

use crate::about::now_ms;
use crate::cli::ServeArguments;
use crate::config::Config;
use crate::file_handles;
use crate::metrics::{Telemetry, reload_rows};
use crate::source::BrokerStorage;
use crate::words;

mod agent_role;
mod alerting;
#[cfg(test)]
mod cache_tests;
mod clustered;
mod collecting;
mod collection_html;
mod collection_page;
mod console_role;
mod front;
mod line_ports;
#[cfg(test)]
mod loki_completion_tests;
#[cfg(test)]
mod loki_tests;
mod otlp_ports;
mod own_metrics;
mod peer_port;
#[cfg(test)]
mod reload_tests;
mod reloading;
#[cfg(test)]
mod remote_tests;
mod scraping;
mod security;
mod signals;
#[cfg(test)]
mod spread_tests;
mod telling;
#[cfg(test)]
mod tests;

pub(crate) use agent_role::run as run_agent;
#[cfg(test)]
pub(crate) use alerting::receivers_of;
pub(crate) use alerting::{OfPrometheus, check_alerting};
pub(crate) use console_role::run as run_console;

use alerting::{Alerting, PassingOn};
use clustered::Clustered;
use front::Front;
use line_ports::LinePorts;
use otlp_ports::OtlpPorts;
use peer_port::PeerPort;
use scraping::{ByTurns, ScrapeFiles, Scraping};
use security::Security;
use signals::Signals;
use telling::Telling;

/// Threads that may block, besides those of queries.
const SPARE_THREADS: usize = 256;

/// Which roles run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Roles {
    /// Whether this host is collected.
    agent: bool,
}

impl Roles {
    pub(crate) const ALL: Roles = Roles { agent: true };
    pub(crate) const BROKER: Roles = Roles { agent: false };
}

/// Serves until SIGINT or SIGTERM.
pub(crate) fn run(arguments: &ServeArguments, roles: Roles) -> Result<()> {
    start_log(&arguments.log)?;
    let config = Config::load(arguments)?;
    // Each query has a thread, and so has each large request and answer under way.
    // Consoles in processes of their own may ask as many, and so may the other brokers of a cluster.
    let threads = 3 * config.max_concurrent_queries + SPARE_THREADS;
    on_runtime(Builder::new_multi_thread(), threads, serve(config, roles))
}

fn on_runtime(
    mut builder: Builder,
    blocking_threads: usize,
    work: impl Future<Output = Result<()>>,
) -> Result<()> {
    let runtime = builder
        .enable_all()
        .max_blocking_threads(blocking_threads)
        .build()
        .context("start the runtime")?;
    let outcome = runtime.block_on(async {
        outlive_file_size_limit()?;
        work.await
    });
    // Queries that ignore their cancellation must not hold up the end.
    runtime.shutdown_timeout(Duration::from_secs(2));
    outcome
}

/// Makes a write beyond RLIMIT_FSIZE an error like that of a full disk. Left alone, its signal would
/// end the process.
fn outlive_file_size_limit() -> Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let kind = SignalKind::from_raw(rustix::process::Signal::XFSZ.as_raw());
    // The handler stays when its receiver is gone.
    signal(kind).context("listen for SIGXFSZ").map(drop)
}

fn start_log(level: &str) -> Result<()> {
    // The consensus' library tells of each vote and of each message that came too late.
    let of_libraries = match level {
        "debug" | "trace" => String::new(),
        _ => ",openraft=off".to_owned(),
    };
    let filter = tracing_subscriber::EnvFilter::try_new(format!("{level}{of_libraries}"))
        .with_context(|| format!("--log {level:?} is not error, warn, info, debug or trace"))?;
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .init();
    Ok(())
}

async fn serve(config: Config, roles: Roles) -> Result<()> {
    refuse_directory_of_others(&config.data)?;
    let net_metrics = Arc::new(NetMetrics::default());
    let max_connections = file_handles::connections(config.max_connections);
    let body_budget = net::BodyBudget::new(config.max_inflight_body_bytes);
    let settings = ServerSettings { max_connections, body_budget, ..ServerSettings::default() };
    let prepared = Clustered::prepare(&config, Arc::clone(&net_metrics));
    let mut cluster = Box::pin(prepared).await?;
    let credentials = cluster.as_ref().map(Clustered::credentials);
    let security = Security::open(&config, credentials, Arc::clone(&net_metrics))?;
    let dress = |bound| security.dress(bound);
    let front =
        Front::start(config.listen, settings.clone(), Arc::clone(&net_metrics), dress).await?;
    let address = front.address();
    // The broker opens while the port already answers: what is not ready says so.
    let data = config.data.clone();
    let governor = Governor::new(config.memory);
    governor.start().context("start the thread that measures memory")?;
    let broker_config = broker_config(&config, governor);
    let for_broker = Arc::clone(&net_metrics);
    let (broker, peers) = match &mut cluster {
        Some(cluster) => {
            let failed = cluster.failed();
            let open = cluster.open(&config, &security, broker_config, for_broker);
            let (broker, peers) = tokio::select! {
                opened = Box::pin(open) => opened?,
                why = failed => bail!(why),
            };
            (broker, Some(peers))
        }
        None => {
            let open = move || Broker::open(broker_config, for_broker);
            (tokio::task::spawn_blocking(open).await.context("open the store")??, None)
        }
    };
    let collect = roles.agent && config.collect;
    let host = collect
        .then(|| HostAgent::start(config.agent.clone()))
        .transpose()
        .context("start collecting this host")?;
    let (agent, receiver) = host.unzip();
    let mut telemetry = Telemetry::new(broker.clone(), Arc::clone(&net_metrics), agent.as_ref());
    if let Some(cluster) = &cluster {
        telemetry = telemetry.with_page(cluster.page());
    }
    let origins = OriginPolicy::new(address)
        .with_hosts(config.allowed_hosts.iter().cloned())
        .with_metrics(Arc::clone(&net_metrics));
    if collect {
        security.reserve_name(&config.agent.instance);
    }
    ensure!(
        collect || config.arguments.collectors.is_empty(),
        "this process collects nothing: give --promtail-config and --alloy-config to `watchfire agent`"
    );
    let collection = match config.logs.lines.clone().filter(|_| collect) {
        Some(logs) => Some(collecting::start(logs, broker.clone()).await?),
        None => None,
    };
    if let Some(collection) = &collection {
        let (status, stages) = (collection.status(), &config.logs.stage_counters);
        telemetry = telemetry
            .with_page(collecting::page(Arc::clone(status), Arc::clone(stages)))
            .with_collection(Arc::clone(status));
        let (instance, broker) = (config.agent.instance.clone(), broker.clone());
        tokio::spawn(collecting::count(Arc::clone(stages), instance, broker));
    }
    let pushing = collecting::Pushing::start(&config.logs.pushed).await?;
    telemetry = telemetry.with_page(pushing.page());
    // Also one that scrapes nothing may lead, and sees to it that the others know whose turn it is.
    let scraped_by =
        ScrapeFiles::of(config.prometheus_config.as_ref(), config.logs.scrapes.as_ref());
    let turns = broker.scrape_turns(scraped_by.is_some());
    let scraping = match scraped_by {
        None => {
            // What waits for remotes of an earlier file waits for nobody.
            broker.put_remote_writes(broker::PreparedRemotes::none()).await;
            None
        }
        Some(files) => {
            let sharing = turns.clone().map(|turns| Arc::new(ByTurns(turns)) as Arc<_>);
            Some(Scraping::start(files, Some(broker.clone()), config.features, sharing).await?)
        }
    };
    let (scraping, scraped) = scraping.unzip();
    let telling = Telling::new(&config, collect, &broker, scraping.as_ref(), cluster.as_ref());
    let url = format!("{}://{}", security.scheme(), words::elsewhere(address));
    let external_url = config.alerting.external_url(&url);
    let duty = broker.duty(broker::cluster::ALERTING).map(Arc::new);
    let alerting = match config.alerting.is_on {
        false => None,
        true => {
            let of_prometheus =
                scraping.as_ref().map(|scraping| scraping.of_prometheus()).unwrap_or_default();
            let (executor, duty) = (&telling.executor, duty.clone());
            let start = Alerting::start(&config, &of_prometheus, &broker, executor, duty, &url);
            let alerting = Box::pin(start).await?;
            telling.reloading.reload_also(Arc::clone(&alerting));
            let told = Arc::clone(&alerting);
            telling.cluster.tell_of_alerting(Box::new(move || told.in_words()));
            Some(alerting)
        }
    };
    if let Some(alerting) = &alerting {
        let seat = alerting.seat().clone();
        telemetry = telemetry.with_page(Box::new(move |out| {
            ruler::render(&seat, out);
        }));
    }
    let seat = alerting.as_ref().map(|alerting| alerting.seat().clone()).unwrap_or_default();
    let seat = match (&cluster, duty) {
        (Some(cluster), Some(duty)) => {
            let takes_part = alerting.is_some();
            let detour = PassingOn::new(seat.clone(), duty, cluster.links(), takes_part);
            seat.with_detour(Arc::new(detour))
        }
        _ => seat,
    };
    let of_alerting = || {
        let (url, started_ms) = (external_url.clone(), now_ms());
        alerting::routes(&seat, &broker, url, started_ms, Arc::clone(&net_metrics))
    };
    let reads = telling.to_consoles(&broker, &config, url, scraping.clone(), of_alerting);
    let calls = peer_port::calls(&config, &security, &broker, reads);
    let peers = match (&cluster, peers) {
        (Some(cluster), peers) => {
            let calls = calls
                .add_service(cluster_status_service(&telling.cluster))
                .add_service(console::evaluation_service(&telling.executor));
            cluster.open_calls(cluster.with_chunks(calls, &broker));
            peers
        }
        (None, _) => match PeerPort::bind(&config, Arc::clone(&net_metrics)).await? {
            Some(bound) => Some(PeerPort::serve(bound, &config, &security, calls)?),
            None => None,
        },
    };
    let lines = LinePorts::open(&config, &security, &broker, &net_metrics).await?;
    let for_otlp = Arc::clone(&net_metrics);
    let otlp = OtlpPorts::open(&config, &security, &broker, settings, for_otlp).await?;
    let peer_address = match &cluster {
        Some(cluster) => Some(cluster.address()),
        None => peers.as_ref().map(|peers| words::elsewhere(peers.address())),
    };
    let reloading = Arc::clone(&telling.reloading);
    let own = config.own_metrics.map(|every| (config.agent.instance.clone(), every));
    let by = scraping.as_ref();
    let routes = all_routes(telling, &broker, telemetry, &security, peer_address, by, own)
        .merge(of_alerting());
    let origins = origins.with_readers(config.cors_origins.clone(), routes.table());
    let router = origins.layer(security.guard(routes.into_router()));
    let signals = Signals::listen()?;
    front.open(net::compress::layer(router));
    security.let_the_owner_in(&config, words::reachable(address));
    let feeder = receiver.map(|receiver| start_feeder(receiver, broker.clone())).transpose()?;
    let scrape_feeder =
        scraped.map(|batches| scraping::store(batches, broker.clone())).transpose()?;
    let setup = security.setup_link(&words::elsewhere(address))?;
    let summary = cluster.as_ref().map(Clustered::summary);
    let logs = config.logs.lines.as_ref().filter(|_| collect).and_then(LogsConfig::found);
    let hello = Hello { scheme: security.scheme(), address, data: &data, summary, logs };
    hello.say(&broker, agent.as_ref(), setup.as_deref());
    let stop = signals.until_stop(async || reloading.reload_and_tell().await);
    match &cluster {
        None => stop.await,
        Some(cluster) => tokio::select! {
            () = stop => {}
            why = cluster.failed() => bail!(
                "{why}. This broker acknowledges nothing more; a restart reads everything again"
            ),
        },
    }
    tracing::info!("stopping: acknowledged data is durable, a restart brings it back");
    if let Some(agent) = agent {
        agent.stop();
    }
    if let Some(collection) = collection {
        let stop = move || collection.stop();
        tokio::task::spawn_blocking(stop).await.context("stop collecting logs")?;
    }
    pushing.stop().await?;
    if let Some(alerting) = alerting {
        alerting.stop().await;
    }
    broker.end_streams();
    front.stop().await;
    otlp.stop().await;
    lines.stop().await;
    let peers = match cluster {
        // What is agreed upon comes in by this port until everything is answered.
        Some(_) => peers,
        None => {
            if let Some(peers) = peers {
                peers.stop().await;
            }
            None
        }
    };
    drop(reloading);
    // The console holds it as well, so its end is the process'; nothing it brings is taken any more.
    drop(scraping);
    drop(turns);
    if let Some(feeder) = feeder {
        let _ = feeder.join();
    }
    drop(scrape_feeder);
    let stopped = broker.clone();
    tokio::task::spawn_blocking(move || stopped.stop()).await.context("stop the broker")?;
    if let Some(cluster) = cluster {
        broker.stopped().await;
        cluster.stop().await;
    }
    if let Some(peers) = peers {
        peers.stop().await;
    }
    Ok(())
}

/// A store in the directory of an agent or console would mix two processes' files.
fn refuse_directory_of_others(data: &Path) -> Result<()> {
    // Where the directory lies in that of an agent, the user meant another, too.
    for directory in data.ancestors().take(3).filter(|path| !path.as_os_str().is_empty()) {
        let has = |name: &str| directory.join(name).exists();
        if !has("tls/identity.pem") || has("log") || clustered::is_home(directory) {
            continue;
        }
        let whose = if has("spool") {
            "an agent: its certificate, and a spool of what it collected"
        } else {
            "a process that has joined a broker: its certificate"
        };
        let relation = if directory == data { "is" } else { "lies in" };
        bail!(
            "--data {}: that {relation} the directory of {whose}. A broker needs one of its own: give \
             another, such as --data watchfire-data",
            data.display()
        );
    }
    Ok(())
}

/// Every route of a process with a broker; `peers` is where agents connect to it.
fn all_routes(
    telling: Telling,
    broker: &Broker,
    telemetry: Telemetry,
    security: &Security,
    peers: Option<String>,
    scraping: Option<&Arc<Scraping>>,
    own: Option<(String, Duration)>,
) -> Routes {
    let reloads = reloading::routes(&telling.reloading);
    let mut routes = routes(telling, broker, telemetry, scraping, own)
        .merge(console::account_routes(&security.accounts))
        .merge(console::administration_routes(administration(broker)));
    if let Some(address) = peers {
        let is_cluster = broker.drain_progress().is_some();
        routes = routes.merge(console::joining_routes(security.joining(address, is_cluster)));
    }
    routes.merge(reloads)
}

fn administration(broker: &Broker) -> console::Administration {
    let storage = Arc::new(BrokerStorage(broker.clone()));
    console::Administration { storage, now_ms, random }
}

/// Names that differ; without random numbers the clock has to do.
fn random() -> u64 {
    let mut bytes = [0; 8];
    match getrandom(&mut bytes) {
        Ok(()) => u64::from_le_bytes(bytes),
        Err(_) => now_ms().unsigned_abs(),
    }
}

fn routes(
    telling: Telling,
    broker: &Broker,
    telemetry: Telemetry,
    scraping: Option<&Arc<Scraping>>,
    own: Option<(String, Duration)>,
) -> Routes {
    let Telling { executor, console, pushes, reloading, cluster } = telling;
    let for_telemetry = Arc::clone(&pushes);
    let telemetry = match scraping.cloned() {
        None => telemetry,
        Some(scraping) => telemetry.with_page(Box::new(move |out| scraping.scraper().render(out))),
    };
    let telemetry = telemetry
        .with_queries(executor)
        .with_rows(Box::new(move || for_telemetry.rows()))
        .with_rows(Box::new(move || reload_rows(reloading.last())));
    let collection = telemetry.collection().cloned();
    let telemetry = Arc::new(telemetry);
    if let Some((instance, every)) = own {
        let (telemetry, broker) = (Arc::clone(&telemetry), broker.clone());
        tokio::spawn(own_metrics::store(telemetry, broker, instance, every));
    }
    let metrics = async move |principal: Principal| telemetry.page(&principal);
    Routes::new()
        .merge(broker::routes(broker))
        .merge(broker::pushgateway_routes(&pushes))
        .merge(broker::cluster::status::cluster_status_routes(&cluster))
        .merge(broker::cluster::drain_routes(&cluster))
        .merge(console::api_routes(&console))
        .route("/metrics", [Method::GET], Access::Read, metrics)
        .merge(collection_page::routes(collection))
        .merge(console::pages(&console))
}

fn broker_config(config: &Config, governor: Arc<Governor>) -> BrokerConfig {
    let mut seed = [0; 24];
    if let Err(error) = getrandom(&mut seed) {
        // Only hash flooding and the mixing up of two stores become easier without it.
        tracing::warn!(%error, "no random numbers from the system; using the clock");
        seed[..8].copy_from_slice(&now_ms().to_le_bytes());
        seed[16..].copy_from_slice(&(now_ms() ^ i64::from(std::process::id())).to_le_bytes());
    }
    BrokerConfig {
        data: config.data.clone(),
        limits: config.limits.clone(),
        tenants: config.tenants.clone(),
        retention: Retention {
            time_ms: Some(config.retention_ms),
            size_bytes: config.retention_size_bytes,
        },
        logs_retention_ms: Some(config.logs_retention_ms),
        retention_rules: RetentionRules::new(config.retention_rules.clone()),
        downsampling: DownsamplingRules::new(config.downsampling.clone()),
        rollups: config.rollups.clone(),
        flush_interval_ms: config.flush_interval_ms,
        flush_bytes: config.flush_bytes,
        max_exemplars: config.max_exemplars,
        remote_write_limit_bytes: config.remote_write_limit_bytes,
        shards: std::thread::available_parallelism().map_or(1, usize::from),
        governor,
        idle_series_ms: config.idle_series_ms,
        now_ms,
        ha: config.ha.clone(),
        aggregation: config.aggregation.clone(),
        type_and_unit_labels: config.features.type_and_unit_labels,
        change_kept: config.cluster.change_kept,
        has_upkeep: true,
        seed,
    }
}

fn getrandom(out: &mut [u8]) -> std::io::Result<()> {
    use std::io::Read;
    std::fs::File::open("/dev/urandom")?.read_exact(out)
}

/// Takes passes of the collectors to the broker, on a thread of its own.
fn start_feeder(
    mut receiver: BatchReceiver,
    broker: Broker,
) -> Result<std::thread::JoinHandle<()>> {
    std::thread::Builder::new()
        .name("host-ingest".to_owned())
        .spawn(move || {
            let complaints = Arc::new(Complaints::default());
            loop {
                let Some(batch) = receiver.recv() else { return };
                let complaints = Arc::clone(&complaints);
                broker.ingest(DEFAULT_TENANT, &batch, move |result| {
                    let Err(error) = result else { return };
                    let text = error.to_string();
                    if let Some(more) = complaints.may_say(&text, Instant::now()) {
                        tracing::warn!(
                            error = text,
                            more_like_it_before = more,
                            "a second of this host was not stored"
                        );
                    }
                });
                receiver.recycle(batch);
            }
        })
        .context("start the host ingest thread")
}

/// What is told when everything runs.
struct Hello<'a> {
    scheme: &'a str,
    address: SocketAddr,
    data: &'a Path,
    /// Of a broker of a cluster.
    summary: Option<String>,
    /// Which logs are collected.
    logs: Option<String>,
}

impl Hello<'_> {
    fn say(self, broker: &Broker, agent: Option<&HostAgent>, setup: Option<&str>) {
        let found = agent.map(|agent| agent.found().to_vec()).unwrap_or_default();
        let found = self.summary.into_iter().chain(found).chain(self.logs).collect();
        let found = with_recovered(found, broker, self.data);
        println!("{}", words::banner(self.scheme, self.address, self.data, &found, setup));
    }
}

/// What the start read back, behind what else was found.
fn with_recovered(mut found: Vec<String>, broker: &Broker, data: &Path) -> Vec<String> {
    let recovered = broker.recovered();
    if recovered.blocks > 0 || recovered.samples > 0 {
        found.push(format!(
            "{} blocks, and {} samples of {} series read back from the log in {:.2} s",
            recovered.blocks, recovered.samples, recovered.series, recovered.seconds
        ));
    }
    if broker.corruptions() > 0 {
        found.push(format!(
            "{} damaged places, kept in {}; see the log above",
            broker.corruptions(),
            data.join("quarantine").display()
        ));
    }
    found
}
