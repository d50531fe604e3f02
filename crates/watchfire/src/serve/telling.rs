//! What a process with a broker tells, to users and to consoles in other processes.

use std::sync::Arc;
use std::time::Duration;

use broker::cluster::status::{StatusSettings, StatusTeller, cluster_status_routes};
use broker::rpc::{BrokerFacts, ReadSettings};
use broker::{Broker, Pushgateway};
use console::{Console, Executor, TenantStatus};

use super::Scraping;
use super::clustered::Clustered;
use super::reloading::Reloading;
use crate::about::{about, now_ms};
use crate::config::Config;
use crate::source::{BrokerData, BrokerFleet, BrokerKeys};

/// How often what jobs have pushed is stored anew: as often as Prometheus would scrape it.
const PUSHED_EVERY: Duration = Duration::from_secs(15);

fn tenants(broker: Broker) -> Box<dyn Fn() -> Vec<TenantStatus> + Send + Sync> {
    let status = |row: broker::TenantRow| TenantStatus {
        name: row.name,
        active_series: row.active_series,
        max_active_series: row.max_active_series,
        samples: row.samples,
    };
    Box::new(move || broker.tenants().into_iter().map(status).collect())
}

/// Queries, and what is known of agents, targets and pushes.
pub(super) struct Telling {
    pub(super) executor: Arc<Executor>,
    pub(super) console: Arc<Console>,
    pub(super) pushes: Arc<Pushgateway>,
    pub(super) reloading: Arc<Reloading>,
    pub(super) cluster: Arc<StatusTeller>,
}

impl Telling {
    pub(super) fn new(
        config: &Config,
        collect: bool,
        broker: &Broker,
        scraping: Option<&Arc<Scraping>>,
        cluster: Option<&Clustered>,
    ) -> Telling {
        let data = Arc::new(BrokerData(broker.clone()));
        let width = std::thread::available_parallelism().map_or(1, usize::from);
        let limits = config.limits.clone();
        let executor = Executor::new(
            data,
            limits,
            Arc::clone(broker.governor()),
            config.max_concurrent_queries,
            width,
        );
        let executor = match cluster.filter(|_| config.cluster.spread_queries) {
            Some(cluster) => executor.with_workers(cluster.workers(broker)),
            None => executor,
        };
        let executor = executor
            .with_cache(config.query_cache)
            .with_tenants(config.tenants.limits.clone())
            .with_start_timestamps(config.features.use_start_timestamps)
            .with_type_and_unit_labels(config.features.type_and_unit_labels);
        let executor = Arc::new(executor);
        let reloading =
            Reloading::new(config, broker.clone(), Arc::clone(&executor), scraping.cloned());
        let reloading = Arc::new(reloading);
        let for_corruptions = broker.clone();
        let console = Console::new(
            Arc::clone(&executor),
            about(config, collect),
            now_ms,
            Box::new(move || for_corruptions.corruptions()),
        );
        let mut console = console
            .with_fleet(Arc::new(BrokerFleet(broker.clone())))
            .with_keys(Arc::new(BrokerKeys(broker.clone())))
            .with_tenants(tenants(broker.clone()));
        let for_reloads = Arc::clone(&reloading);
        console = console.with_reloads(Box::new(move || for_reloads.last()));
        let for_yaml = Arc::clone(&reloading);
        console = console.with_config(Box::new(move || for_yaml.yaml()));
        if let Some(scraping) = scraping.cloned() {
            let targets: Arc<dyn console::Targets> = Arc::<Scraping>::clone(&scraping);
            console = console.with_targets(targets);
            let for_yaml = Arc::clone(&scraping);
            console = console.with_prometheus_config(Box::new(move || for_yaml.redacted()));
            console = console.with_external_labels(Box::new(move || scraping.external_labels()));
        }
        let pushes = Pushgateway::start(broker.clone(), PUSHED_EVERY);
        let settings = StatusSettings {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started_ms: now_ms(),
            stores: cluster.map(Clustered::stores),
            others: cluster.map(Clustered::others),
        };
        let cluster = StatusTeller::start(broker, settings);
        Telling { executor, console: Arc::new(console), pushes, reloading, cluster }
    }

    /// What consoles in other processes may ask; `url` is where this process' HTTP port is reached.
    pub(super) fn to_consoles(
        &self,
        broker: &Broker,
        config: &Config,
        url: String,
        scraping: Option<Arc<Scraping>>,
        of_alerting: impl Fn() -> net::Routes,
    ) -> ReadSettings {
        let pages = console::told_routes(&self.console)
            .merge(console::log_routes(&self.console))
            .merge(broker::pushgateway_pages(&self.pushes))
            .merge(broker::ha_routes(broker))
            .merge(cluster_status_routes(&self.cluster))
            .merge(of_alerting())
            .into_router();
        let (name, retention) = (config.agent.instance.clone(), about(config, false).retention);
        let facts = move || BrokerFacts {
            name: name.clone(),
            retention: retention.clone(),
            external_labels: scraping
                .as_ref()
                .map(|scraping| scraping.external_labels())
                .unwrap_or_default(),
            url: url.clone(),
        };
        ReadSettings {
            max_concurrent: config.max_concurrent_queries,
            facts: Box::new(facts),
            // Only consoles get here; who of their users may read is theirs to say.
            pages: net::auth::without_login(pages),
            of_alerting: net::auth::without_login(of_alerting().into_router()),
        }
    }
}
