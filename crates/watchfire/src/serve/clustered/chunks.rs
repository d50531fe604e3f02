//! Chunks of blocks between the caches of brokers: each broker caches the blocks that the ring names it
//! for, and asks the others for theirs.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use broker::Broker;
use broker::cluster::NearBroker;
use net::rpc::block_cache_client::BlockCacheClient;
use net::rpc::block_cache_server::{BlockCache, BlockCacheServer};
use net::rpc::{ChunkRequest, ChunkResponse};
use objects::{NeighbourCall, Neighbours, SharedBlobs};
use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tonic::{Code, Request, Response, Status};
use wire::text_encode::TextEncoder;

use super::late::LateLinks;

/// A broker that has not sent a chunk after so long is not waited for: the store is asked.
const CHUNK_WAIT: Duration = Duration::from_millis(500);
/// One that did not answer is not asked for so long.
const SILENCE: Duration = Duration::from_secs(5);
/// Chunks that are read for others at once, each on a thread and a mebibyte.
const AT_ONCE: usize = 32;

/// Counts since start.
#[derive(Debug, Default)]
pub(super) struct ChunkCounters {
    asked: AtomicU64,
    unanswered: AtomicU64,
    given: AtomicU64,
}

impl ChunkCounters {
    pub(super) fn render(&self, out: &mut TextEncoder<'_>) {
        for (name, help, value) in [
            (
                "watchfire_objects_neighbour_requests_total",
                "Chunks of objects that other brokers were asked for.",
                &self.asked,
            ),
            (
                "watchfire_objects_neighbour_failures_total",
                "Chunks of objects that the other broker did not give: the store was asked.",
                &self.unanswered,
            ),
            (
                "watchfire_objects_neighbour_given_total",
                "Chunks of objects given to other brokers.",
                &self.given,
            ),
        ] {
            out.family(name, "counter", help);
            out.sample(name, &[], value.load(Ordering::Relaxed) as f64);
        }
    }
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// The caches of the other brokers.
pub(super) struct OtherCaches {
    pub(super) broker: Broker,
    pub(super) links: Arc<LateLinks>,
    pub(super) counters: Arc<ChunkCounters>,
    /// Until when who did not answer is not asked.
    pub(super) silent: Arc<Mutex<BTreeMap<u64, Instant>>>,
}

impl OtherCaches {
    /// Who is nearer to an object than this broker, and answers.
    fn nearer(&self, key: &str) -> Option<NearBroker> {
        let (_, near) = self.broker.nearer_to_block(key)?;
        let near = near?;
        let mut silent = self.silent.lock();
        silent.retain(|_, until| Instant::now() < *until);
        (!silent.contains_key(&near.id.0)).then_some(near)
    }
}

impl Neighbours for OtherCaches {
    fn chunk(&self, key: &str, size_bytes: u64, number: u32) -> NeighbourCall {
        let Some(near) = self.nearer(key) else { return Box::pin(std::future::ready(None)) };
        let channel = self.links.get().and_then(|links| links.channel(&near.address).ok());
        let (counters, silent) = (Arc::clone(&self.counters), Arc::clone(&self.silent));
        let request = ChunkRequest { to: near.id.0, key: key.to_owned(), size_bytes, number };
        Box::pin(async move {
            count(&counters.asked);
            let mut client = BlockCacheClient::new(channel?);
            let why = match tokio::time::timeout(CHUNK_WAIT, client.chunk(request)).await {
                Ok(Ok(answer)) => return Some(answer.into_inner().chunk),
                Ok(Err(status)) => {
                    // One that is busy, or does not list the block, answers the next time.
                    if !matches!(status.code(), Code::ResourceExhausted | Code::NotFound) {
                        silent.lock().insert(near.id.0, Instant::now() + SILENCE);
                    }
                    net::status_words(&status)
                }
                Err(_) => {
                    silent.lock().insert(near.id.0, Instant::now() + SILENCE);
                    "it takes too long".to_owned()
                }
            };
            count(&counters.unanswered);
            tracing::debug!(broker = near.name, why, "the store is asked for a chunk");
            None
        })
    }
}

/// What this broker's cache gives to others.
pub(super) struct OwnCache {
    own: u64,
    broker: Broker,
    blobs: SharedBlobs,
    counters: Arc<ChunkCounters>,
    places: Arc<Semaphore>,
}

impl OwnCache {
    /// The service, to be put among the routes that other brokers call.
    pub(super) fn service(
        own: u64,
        broker: &Broker,
        blobs: &SharedBlobs,
        counters: &Arc<ChunkCounters>,
    ) -> BlockCacheServer<OwnCache> {
        BlockCacheServer::new(OwnCache {
            own,
            broker: broker.clone(),
            blobs: blobs.clone(),
            counters: Arc::clone(counters),
            places: Arc::new(Semaphore::new(AT_ONCE)),
        })
    }
}

#[tonic::async_trait]
impl BlockCache for OwnCache {
    async fn chunk(
        &self,
        request: Request<ChunkRequest>,
    ) -> Result<Response<ChunkResponse>, Status> {
        let ChunkRequest { to, key, size_bytes, number } = request.into_inner();
        if to != self.own {
            return Err(Status::failed_precondition(format!(
                "this is broker {}, not broker {to}: its address was given to another",
                self.own
            )));
        }
        // Blocks of the catalog and nothing else of the store.
        let listed = self.broker.nearer_to_block(&key).map(|(size_bytes, _)| size_bytes);
        if listed != Some(size_bytes) {
            return Err(Status::not_found("the catalog lists no such block"));
        }
        let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
            return Err(Status::resource_exhausted("as many chunks are read as may be at once"));
        };
        let blobs = self.blobs.clone();
        let read = tokio::task::spawn_blocking(move || {
            let _place = place;
            blobs.chunk(&key, size_bytes, number)
        });
        match read.await {
            Ok(Ok(chunk)) => {
                count(&self.counters.given);
                Ok(Response::new(ChunkResponse { chunk }))
            }
            // Who asked tries the store, too.
            Ok(Err(error)) => Err(Status::resource_exhausted(error.to_string())),
            Err(panic) => Err(Status::internal(panic.to_string())),
        }
    }
}
