//! The console role: query API, live push and the pages of the UI.
//!
//! It sees data only through [`Data`] and [`Snapshot`]; which broker answers is not its business.

use std::collections::BTreeMap;
use std::sync::Arc;

use http::{Method, StatusCode};
use model::TenantName;
use net::auth::Accounts;
use net::{Access, Routes};

mod admission;
mod api;
mod cache;
mod counted;
mod data;
mod execute;
mod families;
mod fleet;
mod json;
mod keys;
mod live;
mod live_places;
mod log_data;
mod loki;
mod multipart;
mod params;
mod proposals;
mod remote;
mod respond;
mod rule_queries;
mod running;
mod spread;
mod storage;
mod targets;
mod ui;
mod views;

pub use api::{Administration, Joining};
pub use cache::CacheSettings;
pub use data::{
    Cardinality, Counted, Data, DataChanges, Families, LiveEvents, LiveFeed, NextEvents, Snapshot,
    Work,
};
pub use execute::Executor;
pub use fleet::{Agent, Fleet, Removal, RemovalError};
pub use keys::{KeyError, Keys, Stored, Wanted};
pub use log_data::{
    Begun, EachLine, LineFeed, LineFilterTest, LogCount, LogFault, LogReads, LogRequest,
    LogSnapshot, NewLines, NextLines, TakesCount,
};
pub use loki::FoundLine;
pub use params::parse_time_ms;
pub use remote::{
    BrokerStatus, Brokers, ClusterSettings, ClusterStatus, RemoteSettings, RemoteState,
    elsewhere_routes, passed_on_alerting_routes, passed_on_log_routes, passed_on_routes,
};
pub use rule_queries::{FoundExemplar, RuleLanguage};
pub use spread::{EvaluateParts, EvaluationService, Worker, Workers, evaluation_service};
pub use storage::{LINE, LineDelete, Storage, StorageError, StoredBlock};
pub use targets::{ActiveTarget, DroppedTarget, RelabelStep, TargetMetadata, Targets};

use targets::NoTargets;

/// What `/api/v1/status/*` tells about this process.
#[derive(Debug, Clone, Default)]
pub struct About {
    /// Version of the program.
    pub version: String,
    /// Revision it was built from, if known.
    pub revision: String,
    /// When it started, milliseconds since the epoch.
    pub start_ms: i64,
    /// Its working directory.
    pub directory: String,
    /// Name of the host.
    pub hostname: String,
    /// Threads it uses.
    pub threads: usize,
    /// Retention in words, such as `15d`.
    pub retention: String,
    /// How long lines of logs are kept, such as `31d`; empty if this process keeps none.
    pub logs_retention: String,
    /// The configuration of the start, secrets removed.
    pub config_yaml: String,
    /// Flags in effect, sorted by name.
    pub flags: Vec<(String, String)>,
    /// Whether groups of rules are kept by the API of this process.
    pub keeps_rules: bool,
}

/// How the clusters of a console in a process of its own are.
pub type Clusters = Box<dyn Fn() -> Vec<ClusterStatus> + Send + Sync>;

/// A text that may be another one each time.
pub type Text = Box<dyn Fn() -> String + Send + Sync>;

/// What came of putting a configuration in effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reloaded {
    /// Whether the last attempt succeeded; if not, the one of before is in effect.
    pub is_ok: bool,
    /// When the one in effect came into it, milliseconds since the epoch.
    pub in_effect_ms: i64,
}

/// What is known of a tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TenantStatus {
    /// Its name.
    pub name: TenantName,
    /// Series that have samples in memory.
    pub active_series: usize,
    /// The limit of those.
    pub max_active_series: usize,
    /// Samples stored since the start.
    pub samples: u64,
}

/// Everything the handlers need.
pub struct Console {
    executor: Arc<Executor>,
    about: About,
    now_ms: fn() -> i64,
    corruptions: Box<dyn Fn() -> u64 + Send + Sync>,
    external_labels: Box<dyn Fn() -> BTreeMap<String, String> + Send + Sync>,
    retention: Option<Text>,
    broker_url: Option<Text>,
    clusters: Option<Clusters>,
    fleet: Option<Arc<dyn Fleet>>,
    keys: Option<Arc<dyn Keys>>,
    yaml: Option<Text>,
    prometheus_yaml: Option<Text>,
    reloads: Option<Box<dyn Fn() -> Reloaded + Send + Sync>>,
    targets: Arc<dyn Targets>,
    tenants: Option<Box<dyn Fn() -> Vec<TenantStatus> + Send + Sync>>,
}

impl Console {
    /// Puts the parts together. `corruptions` counts damaged places found so far.
    pub fn new(
        executor: Arc<Executor>,
        about: About,
        now_ms: fn() -> i64,
        corruptions: Box<dyn Fn() -> u64 + Send + Sync>,
    ) -> Self {
        Console {
            executor,
            about,
            now_ms,
            corruptions,
            external_labels: Box::new(BTreeMap::new),
            retention: None,
            broker_url: None,
            clusters: None,
            fleet: None,
            keys: None,
            yaml: None,
            prometheus_yaml: None,
            reloads: None,
            targets: Arc::new(NoTargets),
            tenants: None,
        }
    }

    /// `external_labels` yields the labels that `/federate` adds, as configured now.
    pub fn with_external_labels(
        mut self,
        external_labels: Box<dyn Fn() -> BTreeMap<String, String> + Send + Sync>,
    ) -> Self {
        self.external_labels = external_labels;
        self
    }

    /// `retention` yields how long data is kept, in words, where that is not this process' to say.
    pub fn with_retention(mut self, retention: Text) -> Self {
        self.retention = Some(retention);
        self
    }

    /// `url` yields where the broker takes HTTP, where that is another process.
    pub fn with_broker_url(mut self, url: Text) -> Self {
        self.broker_url = Some(url);
        self
    }

    /// `clusters` yields how those are whose data is shown, where that is of other processes.
    pub fn with_clusters(mut self, clusters: Clusters) -> Self {
        self.clusters = Some(clusters);
        self
    }

    pub(crate) fn clusters(&self) -> Vec<ClusterStatus> {
        self.clusters.as_ref().map(|clusters| clusters()).unwrap_or_default()
    }

    pub(crate) fn broker_url(&self) -> Option<String> {
        self.broker_url.as_ref().map(|url| url()).filter(|url| !url.is_empty())
    }

    pub(crate) fn retention(&self) -> String {
        self.retention.as_ref().map_or_else(|| self.about.retention.clone(), |words| words())
    }

    /// `yaml` yields the configuration in effect, where it may be another than that of the start.
    pub fn with_config(mut self, yaml: Text) -> Self {
        self.yaml = Some(yaml);
        self
    }

    pub(crate) fn config_yaml(&self) -> String {
        self.yaml.as_ref().map_or_else(|| self.about.config_yaml.clone(), |yaml| yaml())
    }

    /// `yaml` yields the configuration of scraping as it is in effect, without secrets.
    pub fn with_prometheus_config(mut self, yaml: Text) -> Self {
        self.prometheus_yaml = Some(yaml);
        self
    }

    /// `reloads` yields what came of the last attempt to put a configuration in effect, where one
    /// can be.
    pub fn with_reloads(mut self, reloads: Box<dyn Fn() -> Reloaded + Send + Sync>) -> Self {
        self.reloads = Some(reloads);
        self
    }

    /// Without reloads, the configuration is that of the start.
    pub(crate) fn last_reload(&self) -> Reloaded {
        let at_start = Reloaded { is_ok: true, in_effect_ms: self.about.start_ms };
        self.reloads.as_ref().map_or(at_start, |reloads| reloads())
    }

    pub(crate) fn prometheus_yaml(&self) -> Option<String> {
        self.prometheus_yaml.as_ref().map(|yaml| yaml())
    }

    /// Where `/api/v1/agents` gets its rows.
    pub fn with_fleet(mut self, fleet: Arc<dyn Fleet>) -> Self {
        self.fleet = Some(fleet);
        self
    }

    /// Where `/api/v1/views` keeps what users save.
    pub fn with_keys(mut self, keys: Arc<dyn Keys>) -> Self {
        self.keys = Some(keys);
        self
    }

    /// Where `/api/v1/targets` learns what is scraped; without it nothing is.
    pub fn with_targets(mut self, targets: Arc<dyn Targets>) -> Self {
        self.targets = targets;
        self
    }

    /// What is scraped for a tenant: everything for the default one, nothing for others.
    pub(crate) fn targets(&self, tenant: TenantName) -> &dyn Targets {
        if tenant.is_default() { &*self.targets } else { &NoTargets }
    }

    /// `tenants` yields the tenants there are.
    pub fn with_tenants(
        mut self,
        tenants: Box<dyn Fn() -> Vec<TenantStatus> + Send + Sync>,
    ) -> Self {
        self.tenants = Some(tenants);
        self
    }

    pub(crate) fn tenants(&self) -> Vec<TenantStatus> {
        self.tenants.as_ref().map(|tenants| tenants()).unwrap_or_default()
    }

    pub(crate) fn fleet(&self) -> Option<&dyn Fleet> {
        self.fleet.as_deref()
    }

    pub(crate) fn keys(&self) -> Option<&Arc<dyn Keys>> {
        self.keys.as_ref()
    }

    pub(crate) fn external_labels(&self) -> BTreeMap<String, String> {
        (self.external_labels)()
    }

    pub(crate) fn executor(&self) -> &Arc<Executor> {
        &self.executor
    }

    pub(crate) fn about(&self) -> &About {
        &self.about
    }

    pub(crate) fn now_ms(&self) -> i64 {
        (self.now_ms)()
    }

    pub(crate) fn corruptions(&self) -> u64 {
        (self.corruptions)()
    }
}

/// The whole API over data and broker of this process. Merge it with the routes of other roles
/// before [`pages`].
pub fn api_routes(console: &Arc<Console>) -> Routes {
    let saving = api::saving_routes().with_state(Arc::clone(console));
    query_routes(console).merge(log_routes(console)).merge(told_routes(console)).merge(saving)
}

/// What this process tells of agents, targets and saved views itself.
pub fn told_routes(console: &Arc<Console>) -> Routes {
    api::told_routes().with_state(Arc::clone(console))
}

/// Reading of lines, over [`Data`] of this process.
pub fn log_routes(console: &Arc<Console>) -> Routes {
    loki::routes().with_state(Arc::clone(console))
}

/// What a console without lines of its own tells clients that read lines.
pub fn about_log_routes(console: &Arc<Console>) -> Routes {
    loki::about_routes().with_state(Arc::clone(console))
}

/// The API over [`Data`], without that of lines.
pub fn query_routes(console: &Arc<Console>) -> Routes {
    Routes::new()
        .merge(api::routes())
        .route("/-/healthy", [Method::GET], Access::Public, async || "Watchfire is Healthy.\n")
        .route("/-/ready", [Method::GET], Access::Public, ready)
        .with_state(Arc::clone(console))
}

/// Login, users and API tokens. Present also where no login is needed, so that users can be made
/// before the address is opened to others.
pub fn account_routes(accounts: &Arc<Accounts>) -> Routes {
    api::account_routes().with_state(Arc::clone(accounts))
}

/// Join tokens and certificates, where there is a broker's authority.
pub fn joining_routes(joining: Joining) -> Routes {
    api::joining_routes().with_state(Arc::new(joining))
}

/// Deletes, copies and the list of blocks, where there is a broker.
pub fn administration_routes(administration: Administration) -> Routes {
    let administration = Arc::new(administration);
    let lines = loki::administration_routes().with_state(Arc::clone(&administration));
    api::administration_routes().with_state(administration).merge(lines)
}

/// The pages of the UI and the JSON 404 for unknown API paths. The pages hold no data, so nobody
/// needs a login for them.
pub fn pages(console: &Arc<Console>) -> Routes {
    api::unknown_routes().with_state(Arc::clone(console)).fallback(Access::Public, ui::serve)
}

async fn ready(
    axum::extract::State(console): axum::extract::State<Arc<Console>>,
) -> (StatusCode, String) {
    match console.executor().data().ready() {
        Ok(()) => (StatusCode::OK, "Watchfire is Ready.\n".to_owned()),
        Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {reason}\n")),
    }
}
