//! `watchfire console`: API and pages over the data of brokers in other processes.

use std::sync::Arc;

use anyhow::{Context, Result};
use console::{Brokers, ClusterSettings, Console, Executor, RemoteSettings};
use governor::Governor;
use http::Method;
use net::{Access, BodyBudget, Identity, NetMetrics, OriginPolicy, Role, Routes, ServerSettings};

use super::{Front, SPARE_THREADS, Security, Signals, collection_page, on_runtime, start_log};
use crate::about::{about_console, now_ms};
use crate::cli::ConsoleArguments;
use crate::config::ConsoleRole;
use crate::metrics::ConsoleTelemetry;
use crate::{file_handles, words};

/// Serves until SIGINT or SIGTERM.
pub(crate) fn run(arguments: &ConsoleArguments) -> Result<()> {
    start_log(&arguments.log)?;
    let role = ConsoleRole::load(arguments)?;
    let threads = role.config.max_concurrent_queries + SPARE_THREADS;
    on_runtime(tokio::runtime::Builder::new_multi_thread(), threads, serve(role))
}

async fn serve(role: ConsoleRole) -> Result<()> {
    let config = &role.config;
    let metrics = Arc::new(NetMetrics::default());
    let max_connections = file_handles::connections(config.max_connections);
    let body_budget = BodyBudget::new(config.max_inflight_body_bytes);
    let settings = ServerSettings { max_connections, body_budget, ..ServerSettings::default() };
    let security = Security::open(config, None, Arc::clone(&metrics))?;
    let dress = |bound| security.dress(bound);
    let front = Front::start(config.listen, settings, Arc::clone(&metrics), dress).await?;
    let address = front.address();
    let governor = Governor::new(config.memory);
    governor.start().context("start the thread that measures memory")?;
    let (brokers, identities) = connect(&role, &governor).await?;
    brokers.keep_fresh(&identities);
    let origins = OriginPolicy::new(address)
        .with_hosts(config.allowed_hosts.iter().cloned())
        .with_metrics(Arc::clone(&metrics));
    let routes = routes(&role, &brokers, governor, metrics, &security);
    let origins = origins.with_readers(config.cors_origins.clone(), routes.table());
    let router = origins.layer(security.guard(routes.into_router()));
    let signals = Signals::listen()?;
    front.open(net::compress::layer(router));
    security.let_the_owner_in(config, words::reachable(address));
    let setup = security.setup_link(&words::elsewhere(address))?;
    // The first cluster's: others may have given another number behind the same wish.
    let name = identities.first().map_or_else(|| role.name.as_str().into(), |one| one.name());
    let scheme = security.scheme();
    println!("{}", words::console_banner(scheme, address, &name, &role, setup.as_deref()));
    let reload = async || tracing::info!("SIGHUP: a console reads nothing again, restart it");
    signals.until_stop(reload).await;
    tracing::info!("stopping: a console has nothing that could be lost");
    front.stop().await;
    Ok(())
}

/// Joins each cluster unless that is done, and begins to ask how its brokers are.
pub(super) async fn connect(
    role: &ConsoleRole,
    governor: &Arc<Governor>,
) -> Result<(Brokers, Vec<Arc<Identity>>)> {
    let config = &role.config;
    let (mut identities, mut clusters) = (Vec::new(), Vec::new());
    for cluster in &role.clusters {
        let directory = cluster.identity(config);
        let token = cluster.join.as_deref();
        let joined = net::join(&directory, &cluster.brokers, token, &role.name, Role::Console);
        let joined = joined.await.with_context(|| match cluster.name.as_str() {
            "" => "join the broker".to_owned(),
            name => format!("join the cluster {name}"),
        })?;
        clusters.push(ClusterSettings {
            name: cluster.name.clone(),
            brokers: cluster.brokers.clone(),
            tls: joined.tls().context("use the certificate")?,
        });
        identities.push(joined);
    }
    let brokers = Brokers::new(RemoteSettings {
        clusters,
        cluster_label: role.cluster_label.clone(),
        limits: config.limits.clone(),
        tenants: config.tenants.limits.clone(),
        max_query_bytes: config.max_query_bytes,
        governor: Arc::clone(governor),
    })?;
    Ok((brokers, identities))
}

/// Every route of a console.
pub(super) fn routes(
    role: &ConsoleRole,
    brokers: &Brokers,
    governor: Arc<Governor>,
    metrics: Arc<NetMetrics>,
    security: &Security,
) -> Routes {
    let config = &role.config;
    let width = std::thread::available_parallelism().map_or(1, usize::from);
    let (data, limits) = (Arc::new(brokers.clone()), config.limits.clone());
    let executor = Executor::new(data, limits, governor, config.max_concurrent_queries, width);
    let executor = executor
        .with_cache(config.query_cache)
        .with_tenants(config.tenants.limits.clone())
        .with_start_timestamps(config.features.use_start_timestamps)
        .with_type_and_unit_labels(config.features.type_and_unit_labels);
    let executor = Arc::new(executor);
    let state = || {
        let brokers = brokers.clone();
        move || brokers.state()
    };
    let (for_labels, for_retention) = (state(), state());
    let (for_corruptions, for_url, for_clusters) = (state(), state(), brokers.clone());
    let console = Console::new(
        Arc::clone(&executor),
        about_console(role),
        now_ms,
        Box::new(move || for_corruptions().corruptions),
    )
    .with_external_labels(Box::new(move || for_labels().external_labels))
    .with_retention(Box::new(move || for_retention().retention))
    .with_broker_url(Box::new(move || for_url().url))
    .with_clusters(Box::new(move || for_clusters.clusters()));
    let console = Arc::new(console);
    let telemetry = Arc::new(ConsoleTelemetry::new(brokers.clone(), executor, metrics));
    let page = move || std::future::ready(telemetry.page());
    console::query_routes(&console)
        .merge(collection_page::routes(None))
        .merge(console::about_log_routes(&console))
        .merge(console::passed_on_log_routes(brokers))
        .merge(console::passed_on_routes(brokers))
        .merge(console::passed_on_alerting_routes(brokers))
        .merge(console::elsewhere_routes(brokers))
        .merge(console::account_routes(&security.accounts))
        .route("/metrics", [Method::GET], Access::Read, page)
        .merge(console::pages(&console))
}
