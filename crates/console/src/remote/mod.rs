//! Data of brokers in other processes, over gRPC with mutual TLS.
//!
//! A console has no data of its own. It keeps to the broker that answered last, and asks the next
//! one when that one does not answer; a broker that did not answer is left alone for a moment, so
//! that queries fail at once instead of one after the other finding the same out.
//! `docs/formats/read-stream.md` describes the calls.

mod budget;
mod census;
mod counters;
mod exemplars;
mod fault;
mod feed;
mod link;
mod pages;
mod series;
mod state;
mod view;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use governor::Governor;
use model::{Limits, Matcher, MetricMetadata, MetricType, TenantName, TimeRange};
use net::Identity;
use net::rpc::{self, matcher::Op};
use net::tls::{ClientTls, TlsError};
use promql::SourceError;
use tokio::runtime::Handle;

use crate::data::{Data, DataChanges, LiveFeed, Snapshot, Work};
use budget::Budget;
use counters::Counters;
use feed::Feed;
use link::Link;
use state::Watch;
use view::View;

pub use pages::{elsewhere_routes, passed_on_routes};
pub use state::RemoteState;

/// What a console needs to know of its brokers.
#[derive(Debug, Clone)]
pub struct RemoteSettings {
    /// `HOST:PORT` each, at least one.
    pub brokers: Vec<String>,
    /// How this console shows who it is.
    pub tls: ClientTls,
    /// Limits of queries.
    pub limits: Limits,
    /// Of tenants that have others.
    pub tenants: BTreeMap<TenantName, Arc<Limits>>,
    /// Bytes of series one query may hold; all queries together may hold four times as much.
    pub max_query_bytes: usize,
    /// The budget of memory.
    pub governor: Arc<Governor>,
}

/// The brokers of a console. Cheap to clone.
#[derive(Clone)]
pub struct Brokers {
    inner: Arc<Inner>,
}

struct Inner {
    link: Link,
    limits: Limits,
    tenants: BTreeMap<TenantName, Arc<Limits>>,
    governor: Arc<Governor>,
    budget: Arc<Budget>,
    watch: Watch,
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
    /// There is no broker, or this is called outside of a runtime.
    pub fn new(settings: RemoteSettings) -> Result<Brokers, TlsError> {
        let counters = Arc::<Counters>::default();
        let link = Link::new(settings.brokers, settings.tls, Arc::clone(&counters))?;
        let inner = Arc::new(Inner {
            link,
            limits: settings.limits,
            tenants: settings.tenants,
            governor: settings.governor,
            budget: Arc::new(Budget::new(settings.max_query_bytes, Arc::clone(&counters))),
            watch: Watch::default(),
            counters,
            runtime: Handle::current(),
        });
        tokio::spawn(state::watch(Arc::downgrade(&inner)));
        Ok(Brokers { inner })
    }

    /// Renews the certificate before it ends, for ever, with whichever broker is there.
    pub fn keep_fresh(&self, identity: &Arc<Identity>) {
        for (target, channel) in self.inner.link.channels() {
            tokio::spawn(Arc::clone(identity).keep_fresh(channel, target));
        }
    }

    /// What the broker last said of itself.
    pub fn state(&self) -> RemoteState {
        self.inner.watch.latest()
    }

    /// The brokers, as they were given.
    pub fn targets(&self) -> impl Iterator<Item = &str> {
        self.inner.link.targets()
    }

    /// Own metrics.
    pub fn render(&self, out: &mut wire::text_encode::TextEncoder<'_>) {
        self.inner.counters.render(&self.inner.link.answering(), out);
    }
}

impl Brokers {
    /// What the broker knows of the families in `metrics`, or of all if that is empty.
    fn families(
        &self,
        tenant: TenantName,
        metrics: Vec<String>,
    ) -> Result<impl Iterator<Item = MetricMetadata>, SourceError> {
        let view = self.inner.view(tenant, self.inner.governor.account());
        let kind = |word: &str| MetricType::from_word(word).unwrap_or_default();
        Ok(view.metadata(metrics)?.into_iter().map(move |one| MetricMetadata {
            metric: one.metric,
            kind: kind(&one.kind),
            help: one.help,
            unit: one.unit,
        }))
    }
}

impl Inner {
    fn limits(&self, tenant: TenantName) -> &Limits {
        self.tenants.get(&tenant).map_or(&self.limits, Arc::as_ref)
    }

    /// How long one call for a tenant may take.
    fn time_limit(&self, tenant: TenantName) -> Duration {
        Duration::from_millis(self.limits(tenant).query_timeout_ms)
    }

    /// What can be read for `work`.
    fn view(self: &Arc<Self>, tenant: TenantName, work: Work) -> View {
        View::new(Arc::clone(self), tenant, work)
    }
}

impl Data for Brokers {
    fn snapshot(&self, tenant: TenantName, work: &Work) -> Result<Arc<dyn Snapshot>, SourceError> {
        Ok(Arc::new(self.inner.view(tenant, Arc::clone(work))))
    }

    fn metadata(&self, tenant: TenantName) -> Result<Vec<MetricMetadata>, SourceError> {
        Ok(self.families(tenant, Vec::new())?.collect())
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
        let mut found = Vec::new();
        let mut asked = Vec::new();
        let mut bytes = 0;
        let mut names = metrics.iter().peekable();
        while let Some(name) = names.next() {
            bytes += name.len() + NAME_FRAME_BYTES;
            asked.push(name.clone());
            // A broker takes requests up to 1 MiB.
            if bytes >= MAX_ASKED_BYTES || names.peek().is_none() {
                let part = self.families(tenant, std::mem::take(&mut asked))?;
                found.extend(part.filter(|one| metrics.contains(&one.metric)));
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
        Ok(Box::new(Feed::open(Arc::clone(&self.inner), tenant, selector_of(&selector))))
    }

    fn changes(
        &self,
        tenant: TenantName,
        since: u64,
        within: TimeRange,
    ) -> Result<Option<DataChanges>, SourceError> {
        self.inner.view(tenant, self.inner.governor.account()).changes(since, within)
    }

    fn ready(&self) -> Result<(), String> {
        // A query may have found out before the next look at the broker does.
        self.inner.link.somebody_answers().map_err(|error| error.to_string())?;
        self.inner.watch.ready()
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
