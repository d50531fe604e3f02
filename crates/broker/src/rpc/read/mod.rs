//! The service `Read`: consoles ask for series, lists, live samples and pages.
//!
//! What takes long runs on threads that may block, a bounded number at once, and stops when
//! whoever asked is gone. `docs/formats/read-stream.md` describes the calls.

mod census;
mod lists;
mod live;
mod page;
mod select;

pub(crate) use live::events as live_events;

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::Router;
use futures_util::Stream;
use model::{TenantId, TenantName, TimeRange};
use net::rpc::read_server::{Read, ReadServer};
use net::rpc::{
    CardinalityRequest, CardinalityResponse, CensusRequest, CensusResponse, Change, ChangesRequest,
    ChangesResponse, ExemplarsRequest, ExemplarsResponse, HandleRequest, LabelsRequest,
    LabelsResponse, LiveEvents, MetadataRequest, MetadataResponse, PageRequest, PageResponse,
    SelectRequest, SelectResponse, SeriesRequest, SeriesResponse, StateRequest, StateResponse,
    SubscribeRequest,
};
use net::{PeerIdentity, Role};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::{Request, Response, Status};

use super::messages::{fault, matchers, selectors};
use crate::Broker;

/// How long a call waits for its turn.
const TURN_WAIT: Duration = Duration::from_secs(10);
/// Bytes gathered before a message is sent.
const MESSAGE_BYTES: usize = 512 << 10;
/// What requests may hold: selectors, a path, the alerts of one request.
const MAX_REQUEST_BYTES: usize = 9 << 20;

/// Requests about rules and alerts that are handled at once.
const HANDLED_AT_ONCE: usize = 64;

/// What needs the scope `admin` among what is handled.
const FOR_ADMINISTRATORS: &str = "/api/v1/notifications/test";

/// A stream of answers.
type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// What the service needs besides the broker.
pub struct ReadSettings {
    /// Calls that may read the store at once.
    pub max_concurrent: usize,
    /// What consoles show of this broker, as it is now.
    pub facts: Box<dyn Fn() -> BrokerFacts + Send + Sync>,
    /// What `Page` answers with, for callers that may read.
    pub pages: Router,
    /// What `Handle` answers with: rules, alerts and silences.
    pub of_alerting: Router,
}

/// What consoles show of a broker.
#[derive(Debug, Clone, Default)]
pub struct BrokerFacts {
    /// Its name.
    pub name: String,
    /// How long it keeps data, in words.
    pub retention: String,
    /// Labels that `/federate` adds.
    pub external_labels: BTreeMap<String, String>,
    /// Where its HTTP port is reached.
    pub url: String,
}

/// Counts since start.
#[derive(Debug, Default)]
pub(crate) struct ReadCounters {
    pub(crate) calls: AtomicU64,
    pub(crate) failed: AtomicU64,
    pub(crate) refused: AtomicU64,
    pub(crate) abandoned: AtomicU64,
    pub(crate) sent_bytes: AtomicU64,
}

/// The service. See [`read_service`].
pub struct ReadService {
    broker: Broker,
    settings: ReadSettings,
    turns: Arc<Semaphore>,
    handling: Semaphore,
}

/// The service `Read`, to be put among the routes of [`net::server::Bound::serve_rpc`], which lets
/// only consoles and brokers call it.
pub fn read_service(broker: &Broker, settings: ReadSettings) -> ReadServer<ReadService> {
    let turns = Arc::new(Semaphore::new(settings.max_concurrent));
    let handling = Semaphore::new(HANDLED_AT_ONCE);
    ReadServer::new(ReadService { broker: broker.clone(), settings, turns, handling })
        .max_decoding_message_size(MAX_REQUEST_BYTES)
}

impl ReadService {
    /// Waits until the store may be read; what it yields is held until that is done.
    async fn turn(&self) -> Result<OwnedSemaphorePermit, Status> {
        let counters = &self.broker.inner.read_counters;
        counters.calls.fetch_add(1, Ordering::Relaxed);
        let turn = Arc::clone(&self.turns).acquire_owned();
        match tokio::time::timeout(TURN_WAIT, turn).await {
            Ok(Ok(turn)) => Ok(turn),
            _ => {
                counters.refused.fetch_add(1, Ordering::Relaxed);
                Err(Status::aborted(format!(
                    "the broker answers {} reads of consoles already and none ended within {} s; \
                     try again later or raise its limits.max_concurrent_queries",
                    self.settings.max_concurrent,
                    TURN_WAIT.as_secs()
                )))
            }
        }
    }

    /// Runs `task` on a thread that may block, when it is its turn.
    async fn blocking<T: Send + 'static>(
        &self,
        task: impl FnOnce(&Broker) -> Result<T, Status> + Send + 'static,
    ) -> Result<T, Status> {
        let turn = self.turn().await?;
        self.ready()?;
        let broker = self.broker.clone();
        let work = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            let outcome = task(&broker);
            if outcome.is_err() {
                broker.inner.read_counters.failed.fetch_add(1, Ordering::Relaxed);
            }
            outcome
        });
        work.await.map_err(|panic| {
            tracing::error!(%panic, "a read for a console failed");
            Status::internal("the read failed inside the broker; see its log")
        })?
    }

    fn ready(&self) -> Result<(), Status> {
        self.broker.ready().map_err(Status::unavailable)
    }
}

#[tonic::async_trait]
impl Read for ReadService {
    type SelectStream = Answers<SelectResponse>;
    type LabelsStream = Answers<LabelsResponse>;
    type SeriesStream = Answers<SeriesResponse>;
    type ExemplarsStream = Answers<ExemplarsResponse>;
    type MetadataStream = Answers<MetadataResponse>;
    type SubscribeStream = Answers<LiveEvents>;
    type PageStream = Answers<PageResponse>;
    type HandleStream = Answers<PageResponse>;

    async fn select(
        &self,
        request: Request<SelectRequest>,
    ) -> Result<Response<Self::SelectStream>, Status> {
        let turn = self.turn().await?;
        self.ready()?;
        let answers = select::answers(&self.broker, request.into_inner(), turn)?;
        Ok(Response::new(answers))
    }

    async fn labels(
        &self,
        request: Request<LabelsRequest>,
    ) -> Result<Response<Self::LabelsStream>, Status> {
        let request = request.into_inner();
        let found = self.blocking(move |broker| lists::labels(broker, &request)).await?;
        Ok(Response::new(found.in_pieces()))
    }

    async fn series(
        &self,
        request: Request<SeriesRequest>,
    ) -> Result<Response<Self::SeriesStream>, Status> {
        let request = request.into_inner();
        let found = self.blocking(move |broker| lists::series(broker, &request)).await?;
        Ok(Response::new(found.in_pieces()))
    }

    async fn exemplars(
        &self,
        request: Request<ExemplarsRequest>,
    ) -> Result<Response<Self::ExemplarsStream>, Status> {
        let request = request.into_inner();
        let found = self.blocking(move |broker| lists::exemplars(broker, &request)).await?;
        Ok(Response::new(found.in_pieces()))
    }

    async fn metadata(
        &self,
        request: Request<MetadataRequest>,
    ) -> Result<Response<Self::MetadataStream>, Status> {
        let request = request.into_inner();
        let tenant = tenant(&self.broker, &request.tenant)?;
        let metrics = request.metrics;
        let found = self.blocking(move |broker| Ok(lists::metadata(broker, tenant, &metrics)));
        let found = found.await?;
        Ok(Response::new(lists::in_pieces(found)))
    }

    async fn cardinality(
        &self,
        request: Request<CardinalityRequest>,
    ) -> Result<Response<CardinalityResponse>, Status> {
        let request = request.into_inner();
        let found = self.blocking(move |broker| lists::cardinality(broker, &request)).await?;
        Ok(Response::new(found))
    }

    async fn census(
        &self,
        request: Request<CensusRequest>,
    ) -> Result<Response<CensusResponse>, Status> {
        let request = request.into_inner();
        let found = self.blocking(move |broker| census::answer(broker, &request)).await?;
        Ok(Response::new(found))
    }

    /// Answers also while the broker is not ready: that is what is asked.
    async fn state(
        &self,
        request: Request<StateRequest>,
    ) -> Result<Response<StateResponse>, Status> {
        let request = request.into_inner();
        let tenant = tenant(&self.broker, &request.tenant)?;
        let range = TimeRange::new(request.start_ms, request.end_ms.saturating_add(1));
        let facts = (self.settings.facts)();
        let reader = self.broker.reader(tenant);
        reader.look_for_others().await;
        Ok(Response::new(StateResponse {
            missing: reader.missing(range),
            not_ready: self.broker.ready().err().unwrap_or_default(),
            corruptions: self.broker.corruptions(),
            broker: facts.name,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            retention: facts.retention,
            external_labels: facts.external_labels.into_iter().collect(),
            url: facts.url,
        }))
    }

    /// Looks at no series, so it takes no turn.
    async fn changes(
        &self,
        request: Request<ChangesRequest>,
    ) -> Result<Response<ChangesResponse>, Status> {
        let request = request.into_inner();
        named(&request.tenant)?;
        self.ready()?;
        let within = TimeRange::new(request.start_ms, request.end_ms);
        let found = self.broker.agreed_changes_since(request.since, within).await;
        let changes = found.ranges.iter().map(|(range, number)| Change {
            start_ms: range.start_ms,
            end_ms: range.end_ms,
            number: *number,
        });
        Ok(Response::new(ChangesResponse {
            store: found.store,
            number: found.number,
            at_ms: found.at_ms,
            changes: changes.collect(),
            kept_ms: found.kept_ms,
        }))
    }

    async fn subscribe(
        &self,
        request: Request<SubscribeRequest>,
    ) -> Result<Response<Self::SubscribeStream>, Status> {
        let request = request.into_inner();
        let tenant = named(&request.tenant)?;
        let selector = matchers(&request.selector.unwrap_or_default())?;
        let feed = match request.only_here {
            true => self.broker.subscribe_here(tenant, selector),
            false => self.broker.subscribe(tenant, selector),
        };
        let feed = feed.map_err(Status::resource_exhausted)?;
        Ok(Response::new(live::events(feed, self.broker.stopping())))
    }

    async fn page(
        &self,
        request: Request<PageRequest>,
    ) -> Result<Response<Self::PageStream>, Status> {
        let pages = self.settings.pages.clone();
        let PageRequest { path_and_query, tenant } = request.into_inner();
        let asked = HandleRequest {
            method: "GET".to_owned(),
            path_and_query,
            tenant,
            ..HandleRequest::default()
        };
        Ok(Response::new(page::answer(pages, asked).await?))
    }

    async fn handle(
        &self,
        request: Request<HandleRequest>,
    ) -> Result<Response<Self::HandleStream>, Status> {
        let routes = self.settings.of_alerting.clone();
        let peer = request.extensions().get::<PeerIdentity>();
        let is_console = peer.is_some_and(|peer| peer.role == Role::Console);
        if is_console && request.get_ref().path_and_query.starts_with(FOR_ADMINISTRATORS) {
            return Err(Status::permission_denied(
                "this is for administrators of the broker, whom a console does not know; ask the broker \
                 itself",
            ));
        }
        // Bodies lie in memory; those of all brokers may come to this one.
        let turn = tokio::time::timeout(TURN_WAIT, self.handling.acquire()).await;
        let Ok(Ok(_turn)) = turn else {
            return Err(Status::aborted(format!(
                "{HANDLED_AT_ONCE} requests about rules and alerts are handled at the moment, which is the \
                 limit; try again later"
            )));
        };
        Ok(Response::new(page::answer(routes, request.into_inner()).await?))
    }
}

/// The tenant that a console names; which its user may name, it knows. Nothing is the default one.
fn tenant(broker: &Broker, name: &str) -> Result<TenantId, Status> {
    named(name).map(|name| broker.tenant_id(name))
}

pub(crate) fn named(name: &str) -> Result<TenantName, Status> {
    if name.is_empty() {
        return Ok(TenantName::DEFAULT);
    }
    TenantName::parse(name).map_err(|error| Status::invalid_argument(error.to_string()))
}
