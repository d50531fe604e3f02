//! `watchfire agent`: collects this host, keeps what it collected, ships it to a broker.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use agent::logs::{CollectionStatus, StageCounters};
use agent::{Agent, PipelineSender, TargetCounts, TierConfig};
use anyhow::{Context, Result, ensure};
use http::Method;
use model::MetricBatch;
use net::{Access, NetMetrics, OriginPolicy, Role, Routes, ServerSettings};
use tokio::runtime::Builder;
use tokio::sync::mpsc;

use super::collecting::{Pushing, next_counts};
use super::scraping::ScrapeFiles;
use super::{Front, Scraping, Signals, collection_page, on_runtime, start_log};
use crate::cli::AgentArguments;
use crate::config::AgentRole;
use crate::metrics::{AgentTelemetry, Page};
use crate::words;

/// Threads that may block: there is little that does.
const BLOCKING_THREADS: usize = 32;
const COUNT_EVERY: Duration = Duration::from_secs(5);

/// Serves until SIGINT or SIGTERM.
pub(crate) fn run(arguments: &AgentArguments) -> Result<()> {
    start_log(&arguments.log)?;
    let role = AgentRole::load(arguments)?;
    // One stream needs no second thread, and handing its work between threads was a tenth of what
    // an agent takes. Thousands of targets do.
    let builder = match scraped_by(&role) {
        None => Builder::new_current_thread(),
        Some(_) => Builder::new_multi_thread(),
    };
    on_runtime(builder, BLOCKING_THREADS, serve(role))
}

async fn serve(role: AgentRole) -> Result<()> {
    ensure!(
        role.listen.ip().is_loopback() || role.insecure_no_auth,
        "{} is not a loopback address: everyone who can reach it could read this host's metrics. \
         Listen on 127.0.0.1, or add --insecure-no-auth if that is meant",
        role.listen
    );
    ensure!(
        !role.data.join("log").is_dir() || role.data.join("spool").is_dir(),
        "--data {}: that is the directory of a broker. An agent needs one of its own: give another, such \
         as --data watchfire-agent-data",
        role.data.display()
    );
    let metrics = Arc::new(NetMetrics::default());
    let settings = ServerSettings::default();
    let front = Front::start(role.listen, settings, Arc::clone(&metrics), Ok).await?;
    let identity = net::join(
        &role.data.join("tls"),
        &role.brokers,
        role.join.as_deref(),
        &role.name,
        Role::Agent,
    )
    .await
    .context("join the broker")?;
    let mut host = role.collect.clone();
    if let Some(host) = host.as_mut().filter(|_| role.instance_is_name) {
        // The broker keeps names apart, host names alone may be the same on many hosts.
        host.instance = identity.name().to_string();
    }
    let config = TierConfig {
        host,
        spool_directory: role.data.join("spool"),
        spool: role.shipping.spool.clone(),
        logs: role.logs.lines.clone(),
        windows: role.shipping.windows.clone(),
        brokers: role.brokers.clone(),
        labels: role.shipping.labels.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        config_hash: role.config_hash.clone(),
    };
    let agent = {
        let identity = Arc::clone(&identity);
        // Opening a large spool reads all of it.
        let start = move || Agent::start(config, &identity);
        tokio::task::spawn_blocking(start).await.context("start the agent")??
    };
    let agent = Arc::new(agent);
    let scraping = match scraped_by(&role) {
        None => None,
        Some(files) => Some(Scraping::start(files, None, role.features, None).await?),
    };
    let (scraping, scraped) = scraping.unzip();
    let forwarding = scraped.map(|batches| tokio::spawn(forward(batches, agent.sender().clone())));
    let counting =
        scraping.clone().map(|scraping| tokio::spawn(count(scraping, Arc::clone(agent.targets()))));
    let page =
        |scraping: Arc<Scraping>| -> Page { Box::new(move |out| scraping.scraper().render(out)) };
    let mut pages: Vec<Page> = scraping.clone().map(page).into_iter().collect();
    let stages = &role.logs.stage_counters;
    let stage_counting = role.logs.lines.as_ref().map(|_| {
        let (counters, status) = (Arc::clone(stages), agent.collection().cloned());
        pages.push(Box::new(move |out| {
            status.iter().for_each(|status| status.render_files(out));
            counters.render(out);
        }));
        let instance = identity.name().to_string();
        tokio::spawn(forward_counts(Arc::clone(stages), instance, agent.sender().clone()))
    });
    let pushing = Pushing::start(&role.logs.pushed).await?;
    pages.push(pushing.page());
    let signals = Signals::listen()?;
    front.open(routes(&agent, &metrics, front.address(), pages));
    println!("{}", words::agent_banner(front.address(), &identity.name(), &role, &agent));
    let reads_stdin = role.logs.lines.as_ref().is_some_and(|logs| logs.stdin.is_some());
    let reload = async || match &scraping {
        Some(scraping) => scraping.reload_and_tell().await,
        None => tracing::info!("SIGHUP: there is no --prometheus-config to read again"),
    };
    let collection = agent.collection().cloned();
    tokio::select! {
        () = signals.until_stop(reload) => {}
        () = stdin_delivered(collection.filter(|_| reads_stdin)) => {}
    }
    tracing::info!("stopping: what no broker has yet is kept in the spool for the next start");
    front.stop().await;
    for task in [forwarding, counting, stage_counting].into_iter().flatten() {
        task.abort();
    }
    pushing.stop().await?;
    let agent = Arc::into_inner(agent).context("something still uses the agent")?;
    tokio::task::spawn_blocking(move || agent.stop()).await.context("stop the agent")
}

/// Waits until standard input has ended and a broker has all that came by it; for ever if it is not read.
async fn stdin_delivered(collection: Option<Arc<CollectionStatus>>) {
    let Some(collection) = collection else { return std::future::pending().await };
    while !collection.is_stdin_delivered() {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

fn scraped_by(role: &AgentRole) -> Option<ScrapeFiles> {
    ScrapeFiles::of(role.prometheus_config.as_ref(), role.logs.scrapes.as_ref())
}

/// Takes what is scraped into the pipeline.
async fn forward(mut batches: mpsc::Receiver<MetricBatch>, pipeline: PipelineSender) {
    while let Some(batch) = batches.recv().await {
        if pipeline.send(batch).await.is_err() {
            return;
        }
    }
}

/// Takes what stages count of lines into the pipeline.
async fn forward_counts(stages: Arc<StageCounters>, instance: String, pipeline: PipelineSender) {
    while pipeline.send(next_counts(&stages, &instance).await).await.is_ok() {}
}

/// Tells the fleet's table how the targets are.
async fn count(scraping: Arc<Scraping>, counts: Arc<TargetCounts>) {
    let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    loop {
        let totals = scraping.totals();
        counts.set(number(totals.up), number(totals.down), totals.series as u64);
        tokio::time::sleep(COUNT_EVERY).await;
    }
}

fn routes(
    agent: &Arc<Agent>,
    metrics: &Arc<NetMetrics>,
    address: SocketAddr,
    pages: Vec<Page>,
) -> axum::Router {
    let telemetry = AgentTelemetry::new(Arc::downgrade(agent), Arc::clone(metrics), pages);
    let telemetry = Arc::new(telemetry);
    let host = agent.host().map(|host| host.exposition().clone());
    let page = move || {
        let (telemetry, host) = (Arc::clone(&telemetry), host.clone());
        async move {
            let samples = match &host {
                Some(host) => host.page().await,
                None => None,
            };
            telemetry.page(samples.as_deref())
        }
    };
    let routes: Routes = Routes::new()
        .route("/metrics", [Method::GET], Access::Read, page)
        .route("/-/healthy", [Method::GET], Access::Public, async || "Watchfire is Healthy.\n")
        .route("/-/ready", [Method::GET], Access::Public, async || "Watchfire is Ready.\n")
        .merge(collection_page::routes(agent.collection().cloned()));
    let router = net::auth::without_login(routes.into_router());
    let origins = OriginPolicy::new(address).with_metrics(Arc::clone(metrics));
    net::compress::layer(origins.layer(router))
}
