//! Data of brokers in other processes, over gRPC with mutual TLS.
//!
//! A console has no data of its own. Brokers that it is given are of one cluster or of several. Those of
//! one cluster have the same data: one is asked, and when it is lost the next one, within the same
//! request. Those of several have each their own: all are asked at once, and what they answer is merged.
//! `docs/formats/read-stream.md` describes the calls.
//!
//! | Module | |
//! |---|---|
//! | [`link`], [`state`] | the brokers of a cluster: which one is asked, and how they are |
//! | [`part`] | one cluster, for one request |
//! | [`view`] | all clusters, for one request |
//! | [`merged`], [`lists`], [`label`] | what becomes of several answers |
//! | [`versions`] | changes of several clusters, as if of one |
//! | [`feed`], [`numbers`] | live samples |
//! | [`pages`], [`page_merge`] | a broker's own API, passed on |

mod alerting;
mod budget;
mod census;
mod counters;
mod exemplars;
mod fault;
mod feed;
mod label;
mod link;
mod lists;
mod log_tail;
mod logs;
mod merged;
mod numbers;
mod page_merge;
mod pages;
mod part;
mod series;
mod state;
mod versions;
mod view;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use governor::Governor;
use model::{Limits, Matcher, MetricMetadata, TenantName, TimeRange};
use net::Identity;
use net::rpc::{self, matcher::Op};
use net::tls::{ClientTls, TlsError};
use promql::SourceError;
use tokio::runtime::Handle;

use crate::data::{Data, DataChanges, Families, LiveFeed, Snapshot, Work};
use budget::Budget;
use counters::Counters;
use feed::Feed;
use label::ClusterLabel;
use link::Link;
use versions::Versions;
use view::View;

pub use alerting::passed_on_alerting_routes;
pub use link::BrokerStatus;
pub use logs::passed_on_log_routes;
pub use pages::{elsewhere_routes, passed_on_routes};
pub use state::RemoteState;

/// What a console needs to know of its brokers.
#[derive(Debug, Clone)]
pub struct RemoteSettings {
    /// At least one; of two samples of one time the one of the first stays.
    pub clusters: Vec<ClusterSettings>,
    /// Name of the label that tells series of different clusters apart; equal ones are one series if
    /// there is none.
    pub cluster_label: Option<String>,
    /// Limits of queries.
    pub limits: Limits,
    /// Of tenants that have others.
    pub tenants: BTreeMap<TenantName, Arc<Limits>>,
    /// Bytes of series one query may hold; all queries together may hold four times as much.
    pub max_query_bytes: usize,
    /// The budget of memory.
    pub governor: Arc<Governor>,
}

/// Brokers that have the same data.
#[derive(Debug, Clone)]
pub struct ClusterSettings {
    /// Empty if it is the only one and needs none.
    pub name: String,
    /// `HOST:PORT` each, at least one.
    pub brokers: Vec<String>,
    /// How this console shows who it is.
    pub tls: ClientTls,
}

/// How a cluster is.
#[derive(Debug, Clone, PartialEq)]
pub struct ClusterStatus {
    /// Empty if it is the only one and has none.
    pub name: String,
    /// Whether some broker of it answered when it was last asked.
    pub answers: bool,
    /// Its brokers, in the order in which they were given.
    pub brokers: Vec<BrokerStatus>,
    /// What the broker that is asked said of itself last.
    pub state: RemoteState,
}

/// The brokers of a console. Cheap to clone.
#[derive(Clone)]
pub struct Brokers {
    inner: Arc<Inner>,
}

struct Inner {
    clusters: Vec<Arc<Cluster>>,
    cluster_label: Option<String>,
    versions: Versions,
    shared: Arc<Shared>,
}

struct Cluster {
    name: String,
    /// What its series bear here, if clusters are told apart.
    label: Option<ClusterLabel>,
    link: Link,
    shared: Arc<Shared>,
}

/// What all clusters have in common.
struct Shared {
    limits: Limits,
    tenants: BTreeMap<TenantName, Arc<Limits>>,
    governor: Arc<Governor>,
    budget: Arc<Budget>,
    counters: Arc<Counters>,
    runtime: Handle,
}

/// Names of one request, together.
const MAX_ASKED_BYTES: usize = 512 << 10;
/// What a name takes in a request besides itself.
const NAME_FRAME_BYTES: usize = 4;

impl Brokers {
    /// Begins to ask how the brokers are; connections are made when they are needed. Ends with the
    /// last clone.
    ///
    /// # Errors
    /// A broker's address is none.
    ///
    /// # Panics
    /// There is no cluster or one without a broker, or this is called outside of a runtime.
    pub fn new(settings: RemoteSettings) -> Result<Brokers, TlsError> {
        assert!(!settings.clusters.is_empty(), "a console has a cluster");
        let counters = Arc::<Counters>::default();
        let shared = Arc::new(Shared {
            limits: settings.limits,
            tenants: settings.tenants,
            governor: settings.governor,
            budget: Arc::new(Budget::new(settings.max_query_bytes, Arc::clone(&counters))),
            counters: Arc::clone(&counters),
            runtime: Handle::current(),
        });
        let is_one_of_many = settings.clusters.len() > 1;
        let cluster_label = settings.cluster_label;
        let open = |one: ClusterSettings| {
            let ClusterSettings { name, brokers, tls } = one;
            let link = Link::new(brokers, tls, is_one_of_many, Arc::clone(&counters))?;
            let label = cluster_label.clone();
            let label = label.map(|label| ClusterLabel { name: label, value: name.clone() });
            Ok(Arc::new(Cluster { name, label, link, shared: Arc::clone(&shared) }))
        };
        let clusters: Vec<_> =
            settings.clusters.into_iter().map(open).collect::<Result<_, TlsError>>()?;
        for cluster in &clusters {
            for broker in 0..cluster.link.len() {
                tokio::spawn(state::watch(Arc::downgrade(cluster), broker));
            }
        }
        let versions = Versions::default();
        Ok(Brokers { inner: Arc::new(Inner { clusters, cluster_label, versions, shared }) })
    }

    /// Renews the certificates before they end, for ever, each with whichever broker of its cluster is
    /// there; `identities` are in the order of the clusters.
    pub fn keep_fresh(&self, identities: &[Arc<Identity>]) {
        for (cluster, identity) in self.inner.clusters.iter().zip(identities) {
            for (target, channel) in cluster.link.channels() {
                tokio::spawn(Arc::clone(identity).keep_fresh(channel, target));
            }
        }
    }

    /// What the brokers last said of themselves: of several clusters what is true of all.
    pub fn state(&self) -> RemoteState {
        let state = |cluster: &Arc<Cluster>| cluster.link.told().unwrap_or_default();
        let all: Vec<_> =
            self.inner.clusters.iter().map(|one| (one.name.as_str(), state(one))).collect();
        RemoteState::of_all(&all)
    }

    /// How each cluster is.
    pub fn clusters(&self) -> Vec<ClusterStatus> {
        let status = |cluster: &Arc<Cluster>| ClusterStatus {
            name: cluster.name.clone(),
            answers: cluster.link.somebody_answers().is_ok(),
            brokers: cluster.link.statuses(),
            state: cluster.link.told().unwrap_or_default(),
        };
        self.inner.clusters.iter().map(status).collect()
    }

    /// Own metrics.
    pub fn render(&self, out: &mut wire::text_encode::TextEncoder<'_>) {
        self.inner.shared.counters.render(&self.clusters(), out);
    }

    /// What can be read for `work`.
    fn view(&self, tenant: TenantName, work: &Work) -> View {
        View::new(Arc::clone(&self.inner), tenant, Arc::clone(work))
    }
}

impl Shared {
    fn limits(&self, tenant: TenantName) -> &Limits {
        self.tenants.get(&tenant).map_or(&self.limits, Arc::as_ref)
    }

    /// How long one call for a tenant may take.
    fn time_limit(&self, tenant: TenantName) -> Duration {
        Duration::from_millis(self.limits(tenant).query_timeout_ms)
    }
}

impl Data for Brokers {
    fn snapshot(&self, tenant: TenantName, work: &Work) -> Result<Arc<dyn Snapshot>, SourceError> {
        Ok(Arc::new(self.view(tenant, work)))
    }

    fn metadata(&self, tenant: TenantName) -> Result<Families, SourceError> {
        let view = self.view(tenant, &self.inner.shared.governor.account());
        let known = view.metadata(&[])?;
        Ok(Families { known, away: view.away() })
    }

    fn metadata_of(
        &self,
        tenant: TenantName,
        metrics: &BTreeSet<String>,
    ) -> Result<Vec<MetricMetadata>, SourceError> {
        // To ask for none is to ask for all.
        if metrics.is_empty() {
            return Ok(Vec::new());
        }
        let view = self.view(tenant, &self.inner.shared.governor.account());
        let mut found = Vec::new();
        let mut asked = Vec::new();
        let mut bytes = 0;
        let mut names = metrics.iter().peekable();
        while let Some(name) = names.next() {
            bytes += name.len() + NAME_FRAME_BYTES;
            asked.push(name.clone());
            // A broker takes requests up to 1 MiB.
            if bytes >= MAX_ASKED_BYTES || names.peek().is_none() {
                let part = view.metadata(&std::mem::take(&mut asked))?;
                found.extend(part.into_iter().filter(|one| metrics.contains(&one.metric)));
                bytes = 0;
            }
        }
        Ok(found)
    }

    fn subscribe(
        &self,
        tenant: TenantName,
        selector: Vec<Matcher>,
    ) -> Result<Box<dyn LiveFeed>, SourceError> {
        Ok(Box::new(Feed::open(Arc::clone(&self.inner), tenant, &selector)))
    }

    fn changes(
        &self,
        tenant: TenantName,
        since: u64,
        within: TimeRange,
    ) -> Result<Option<DataChanges>, SourceError> {
        self.view(tenant, &self.inner.shared.governor.account()).changes(since, within)
    }

    /// As long as one cluster is there: answers say what is missing of the others.
    fn ready(&self) -> Result<(), String> {
        let mut away = Vec::new();
        for cluster in &self.inner.clusters {
            match cluster.link.somebody_answers() {
                Ok(()) => return Ok(()),
                Err(error) => away.push(fault::named(&cluster.name, error).to_string()),
            }
        }
        Err(away.join("; "))
    }
}

fn selector_of(matchers: &[Matcher]) -> rpc::Selector {
    let matcher = |matcher: &Matcher| {
        let op = match matcher.op {
            model::MatchOp::Equal => Op::Equal,
            model::MatchOp::NotEqual => Op::NotEqual,
            model::MatchOp::Regex => Op::Regex,
            model::MatchOp::NotRegex => Op::NotRegex,
        };
        rpc::Matcher { op: op.into(), name: matcher.name.clone(), value: matcher.value.clone() }
    };
    rpc::Selector { matchers: matchers.iter().map(matcher).collect() }
}

/// Labels as a broker sends them.
fn labels_of(packed: &Bytes) -> Result<model::Labels, SourceError> {
    model::Labels::from_packed(packed)
        .map_err(|error| fault::garbled(&format!("labels of a series: {error}")))
}
