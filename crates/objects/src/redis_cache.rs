//! Chunks of objects in a Redis that brokers share, between their own disks and the store.
//!
//! It holds copies: a chunk that is not there, late, damaged or somebody else's is fetched from the store.
//! Nobody waits for it for longer than [`PATIENCE`], and not again after that: a node that does not answer is
//! left alone until it has answered somebody who has time. Each node has a connection of its own here, so
//! that one that stands still holds up nothing but what lies on it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use parking_lot::{Mutex, RwLock};
use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::{Cmd, Value, cmd};
use tokio::sync::{Notify, Semaphore};
use tokio::time::{Instant, sleep, timeout};
use wire::text_encode::TextEncoder;

use crate::page_cache::{ChunkId, decode_chunk, encode_chunk, encoded_len};
use crate::redis_link::{Dialing, slots};
use crate::redis_nodes::{CONNECT_PATIENCE, FIRST_PAUSE, Node, NodeAway, Nodes, dial};
use crate::{Credentials, Operation, StoreCounters, StoreError, StoreKind, StoreUrl};

/// For a chunk. The store has it, too.
const PATIENCE: Duration = Duration::from_millis(50);
/// For a copy that is written: nobody waits for it.
const WRITE_PATIENCE: Duration = Duration::from_secs(1);
/// So often in a row a node is late before it is left alone.
const LATE: u32 = 2;
/// How often it is looked which node has what, and at once when one says that it does not.
const LOOK_EVERY: Duration = Duration::from_secs(30);
/// … but not sooner than after this.
const LOOK_PAUSE: Duration = Duration::from_millis(250);
/// Copies on their way at once; others are not written.
const WRITES_AT_ONCE: usize = 8;
/// How long a copy is kept, unless the URL says otherwise.
const TTL_S: u64 = 24 * 3_600;
/// After copies of an object were found damaged, none is taken for so long.
const DISTRUST: Duration = Duration::from_secs(3_600);

/// A cache in Redis. Clones share it.
#[derive(Clone)]
pub struct RedisCache(Arc<Inner>);

struct Inner {
    dialing: Dialing,
    seeds: Vec<(String, u16)>,
    is_cluster: bool,
    prefix: String,
    namespace: String,
    ttl_s: u64,
    shown: String,
    nodes: RwLock<Arc<Nodes>>,
    /// Asks to look at the nodes.
    wake: Notify,
    writes: Arc<Semaphore>,
    /// Objects of which no copy is taken, until when.
    distrusted: Mutex<HashMap<[u8; 16], Instant>>,
    requests: StoreCounters,
    counters: Counters,
}

#[derive(Default)]
struct Counters {
    hits: AtomicU64,
    misses: AtomicU64,
    skipped: AtomicU64,
    damaged: AtomicU64,
    unwritten: AtomicU64,
}

impl RedisCache {
    /// A cache at the URL of a Redis. Waits for nothing: as long as no node answers, everything is a miss.
    /// Must be called in a runtime. `namespace` tells objects of one key apart that are not the same:
    /// whoever shares copies gives the same.
    ///
    /// # Errors
    /// `Settings`: it is no Redis, or not to be used like this.
    pub fn open(
        url: &StoreUrl,
        credentials: &Credentials,
        namespace: &str,
    ) -> Result<RedisCache, StoreError> {
        let StoreKind::Redis(place) = &url.kind else {
            return Err(StoreError::Settings(format!(
                "{url} is no cache: give a redis://, redis+cluster://, rediss:// or rediss+cluster://"
            )));
        };
        if place.wait > 0 {
            let why = format!("{url}: wait has no use for a cache, which may lose what it has");
            return Err(StoreError::Settings(why));
        }
        let prefix = &url.prefix;
        let inner = Arc::new(Inner {
            dialing: Dialing::new(place, credentials)?,
            seeds: place.nodes.clone(),
            is_cluster: place.is_cluster,
            prefix: if prefix.is_empty() { String::new() } else { format!("{prefix}/") },
            namespace: namespace.to_owned(),
            ttl_s: place.ttl_s.unwrap_or(TTL_S),
            shown: url.to_string(),
            nodes: RwLock::default(),
            wake: Notify::new(),
            writes: Arc::new(Semaphore::new(WRITES_AT_ONCE)),
            distrusted: Mutex::default(),
            requests: StoreCounters::default(),
            counters: Counters::default(),
        });
        tokio::spawn(keep_links(Arc::downgrade(&inner)));
        Ok(RedisCache(inner))
    }

    /// Its URL, without secrets.
    pub fn url(&self) -> &str {
        &self.0.shown
    }

    /// What it was asked.
    pub fn requests(&self) -> &StoreCounters {
        &self.0.requests
    }

    /// Chunks that it had, and chunks that it did not have, whole and in time.
    pub fn hits_and_misses(&self) -> (u64, u64) {
        let Counters { hits, misses, skipped, .. } = &self.0.counters;
        (hits.load(Relaxed), misses.load(Relaxed) + skipped.load(Relaxed))
    }

    /// Chunks that were there and damaged, or somebody else's.
    pub fn damaged(&self) -> u64 {
        self.0.counters.damaged.load(Relaxed)
    }

    /// Nodes that are left alone for now.
    pub fn away(&self) -> Vec<NodeAway> {
        let nodes = Arc::clone(&self.0.nodes.read());
        nodes.all.iter().filter_map(|node| node.away()).collect()
    }

    /// Chunk `number` of an object, of `len` bytes, if it is here, whole, and soon.
    pub(crate) async fn get(&self, key: &str, number: u32, len: usize) -> Option<Bytes> {
        let Counters { hits, misses, skipped, damaged, .. } = &self.0.counters;
        let count = |counter: &AtomicU64| _ = counter.fetch_add(1, Relaxed);
        let id = self.id(key, number);
        let key = self.key(id);
        let Some((node, link)) = self.0.link(&key).filter(|_| !self.is_distrusted(id.object))
        else {
            count(skipped);
            return None;
        };
        // Of whatever lies there, not more than is of use.
        let whole = encoded_len(len);
        let mut command = cmd("GETRANGE");
        command.arg(&key).arg(0).arg(whole);
        let answer = self.0.ask(Operation::Get, &node, link, command, PATIENCE).await;
        let found = match answer {
            Some(Value::BulkString(bytes)) if !bytes.is_empty() => bytes,
            Some(_) | None => {
                count(misses);
                return None;
            }
        };
        let chunk = decode_chunk(id, len, Bytes::from(found));
        match chunk {
            Some(_) => count(hits),
            // It is written over with what the store has.
            None => {
                count(damaged);
                count(misses);
            }
        }
        chunk
    }

    /// Keeps a chunk for all, some time later; not if too many wait.
    pub(crate) fn put_later(&self, key: &str, number: u32, chunk: Bytes) {
        let id = self.id(key, number);
        let key = self.key(id);
        let unwritten = || _ = self.0.counters.unwritten.fetch_add(1, Relaxed);
        let Some((node, link)) = self.0.link(&key) else { return unwritten() };
        let Ok(turn) = Arc::clone(&self.0.writes).try_acquire_owned() else { return unwritten() };
        let inner = Arc::clone(&self.0);
        tokio::spawn(async move {
            let _turn = turn;
            let mut command = cmd("SET");
            command.arg(&key).arg(encode_chunk(id, &chunk));
            if inner.ttl_s > 0 {
                command.arg("EX").arg(inner.ttl_s);
            }
            if inner.ask(Operation::Put, &node, link, command, WRITE_PATIENCE).await.is_none() {
                inner.counters.unwritten.fetch_add(1, Relaxed);
            }
        });
    }

    /// Copies of an object are of no use: none is taken for a while, and those of `chunks` chunks go.
    pub(crate) async fn forget(&self, key: &str, chunks: u32) {
        let object = self.id(key, 0).object;
        {
            let mut distrusted = self.0.distrusted.lock();
            distrusted.retain(|_, until| Instant::now() < *until);
            distrusted.insert(object, Instant::now() + DISTRUST);
        }
        for number in 0..chunks {
            let key = self.key(ChunkId { object, number });
            let Some((node, link)) = self.0.link(&key) else { continue };
            let mut command = cmd("UNLINK");
            command.arg(&key);
            self.0.ask(Operation::Delete, &node, link, command, WRITE_PATIENCE).await;
        }
    }

    fn is_distrusted(&self, object: [u8; 16]) -> bool {
        let distrusted = self.0.distrusted.lock();
        distrusted.get(&object).is_some_and(|until| Instant::now() < *until)
    }

    fn id(&self, key: &str, number: u32) -> ChunkId {
        let mut hash = blake3::Hasher::new();
        hash.update(self.0.namespace.as_bytes()).update(&[0]).update(key.as_bytes());
        let mut object = [0; 16];
        object.copy_from_slice(&hash.finalize().as_bytes()[..16]);
        ChunkId { object, number }
    }

    fn key(&self, ChunkId { object, number }: ChunkId) -> String {
        let object = u128::from_be_bytes(object);
        format!("{}chunk/{object:032x}/{number}", self.0.prefix)
    }

    /// Writes its counters in Prometheus' text format.
    pub fn render(&self, out: &mut TextEncoder<'_>) {
        let counters = &self.0.counters;
        for (name, help, value) in [
            (
                "watchfire_objects_shared_cache_hits_total",
                "Chunks of objects that the shared cache had.",
                &counters.hits,
            ),
            (
                "watchfire_objects_shared_cache_misses_total",
                "Chunks of objects that the shared cache was asked for and did not give.",
                &counters.misses,
            ),
            (
                "watchfire_objects_shared_cache_skipped_total",
                "Chunks of objects that the shared cache was not asked for, because it is left alone.",
                &counters.skipped,
            ),
            (
                "watchfire_objects_shared_cache_damaged_total",
                "Chunks of objects in the shared cache that were damaged or of others.",
                &counters.damaged,
            ),
            (
                "watchfire_objects_shared_cache_write_failures_total",
                "Chunks of objects that were not written to the shared cache.",
                &counters.unwritten,
            ),
        ] {
            out.family(name, "counter", help);
            out.sample(name, &[], value.load(Relaxed) as f64);
        }
        let name = "watchfire_objects_shared_cache_nodes_away";
        out.family(name, "gauge", "Nodes of the shared cache that are left alone for now.");
        out.sample(name, &[], self.away().len() as f64);
    }
}

impl Inner {
    /// The node of a key, unless it is left alone.
    fn link(&self, key: &str) -> Option<(Arc<Node>, MultiplexedConnection)> {
        let nodes = Arc::clone(&self.nodes.read());
        let node = nodes.of_key(key)?;
        let link = node.link.lock().clone()?;
        Some((Arc::clone(node), link))
    }

    /// Asks a node; nothing where it does not answer in time, or with an error.
    async fn ask(
        &self,
        operation: Operation,
        node: &Node,
        mut link: MultiplexedConnection,
        command: Cmd,
        patience: Duration,
    ) -> Option<Value> {
        let began = Instant::now();
        let answer = timeout(patience, link.req_packed_command(&command)).await;
        let (action, key) = (operation.action(), node.shown());
        let answer = match answer {
            Ok(answer) => answer.and_then(Value::extract_error),
            Err(_) => {
                let error = StoreError::Late { action, key, waited: patience };
                self.requests.note(operation, began.elapsed(), Err(&error));
                if node.late.fetch_add(1, Relaxed) + 1 >= LATE {
                    self.leave_alone(node, error.to_string());
                }
                return None;
            }
        };
        match answer {
            Ok(value) => {
                let bytes = if let Value::BulkString(bytes) = &value { bytes.len() } else { 0 };
                self.requests.note(operation, began.elapsed(), Ok(bytes));
                node.is_well();
                Some(value)
            }
            Err(error) => {
                let why = error.to_string();
                let told = StoreError::Failed { action, key, why };
                self.requests.note(operation, began.elapsed(), Err(&told));
                if error.is_io_error() || error.is_unrecoverable_error() {
                    self.leave_alone(node, told.to_string());
                } else if !matches!(error.code(), Some("OOM")) {
                    // Slots move, a replica was promoted, a password changed.
                    self.wake.notify_one();
                }
                None
            }
        }
    }

    /// Nobody asks the node any more until it has answered [`keep_links`].
    fn leave_alone(&self, node: &Node, why: String) {
        // Whoever is the first tells.
        if node.link.lock().take().is_some() {
            node.is_away(why);
            self.wake.notify_one();
        }
    }
}

/// Looks which nodes there are, and connects to those that have no connection, until the cache is dropped.
async fn keep_links(cache: Weak<Inner>) {
    // Not before the pause is over it is seen that nobody has it any more.
    while let Some(inner) = cache.upgrade() {
        look(&inner).await;
        let nodes = Arc::clone(&inner.nodes.read());
        if nodes.have_slots() {
            join_all(nodes.all.iter().map(|node| node.connect(&inner.dialing))).await;
        }
        let is_whole = nodes.all.iter().all(|node| node.link.lock().is_some());
        let pause = if is_whole && !nodes.all.is_empty() { LOOK_EVERY } else { FIRST_PAUSE };
        tokio::select! {
            () = inner.wake.notified() => sleep(LOOK_PAUSE).await,
            () = sleep(pause) => {}
        }
    }
}

/// Which node has what.
async fn look(inner: &Inner) {
    if !inner.is_cluster {
        if inner.nodes.read().all.is_empty() {
            let only = inner.seeds.first().cloned().expect("a URL names at least one node");
            *inner.nodes.write() = Arc::new(Nodes::only(Node::new(only)));
        }
        return;
    }
    let known = Arc::clone(&inner.nodes.read());
    // Those that answer first, then what the URL names.
    let linked = known.all.iter().filter_map(|node| {
        let link = node.link.lock().clone()?;
        Some((node.address.clone(), Some(link)))
    });
    let seeds = inner.seeds.iter().map(|seed| (seed.clone(), None));
    let mut why = None;
    for (address, link) in linked.chain(seeds).collect::<Vec<_>>() {
        let asking = async {
            let mut link = match link {
                Some(link) => link,
                None => dial(&inner.dialing, &address).await?,
            };
            let mut command = cmd("CLUSTER");
            command.arg("SLOTS");
            let answer = link.req_packed_command(&command).await?.extract_error()?;
            slots(answer, &address.0)
        };
        match timeout(CONNECT_PATIENCE, asking).await {
            Ok(Ok(ranges)) if !ranges.is_empty() => {
                *inner.nodes.write() = Arc::new(Nodes::laid_out(&known, ranges));
                return;
            }
            Ok(Ok(_)) => why = Some((address, "it knows no node that has slots".to_owned())),
            Ok(Err(error)) => why = Some((address, error.to_string())),
            Err(_) => why = Some((address, "it does not answer".to_owned())),
        }
    }
    // So that somebody is told of.
    if let Some((address, why)) = why.filter(|_| !known.have_slots()) {
        *inner.nodes.write() = Arc::new(Nodes::without_slots(Node::new(address).because(why)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_no_cache_is_refused() {
        for (url, word) in [
            ("s3://b/p", "is no cache"),
            ("memory://", "is no cache"),
            ("redis://h/p?wait=1", "wait has no use"),
        ] {
            let url = StoreUrl::parse(url).expect("a URL");
            let refused = RedisCache::open(&url, &Credentials::none(), "c").err().expect("refused");
            assert!(refused.to_string().contains(word), "{refused}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn where_nobody_answers_nobody_waits() {
        // A port of this host where nothing listens.
        let url = StoreUrl::parse("redis://127.0.0.1:1/p").expect("a URL");
        let cache = RedisCache::open(&url, &Credentials::none(), "c").expect("a Redis");
        let began = Instant::now();
        for _ in 0..1_000 {
            assert_eq!(cache.get("k", 0, 7).await, None);
            cache.put_later("k", 0, Bytes::from_static(b"1234567"));
        }
        assert_eq!(began.elapsed(), Duration::ZERO);
        assert_eq!(cache.hits_and_misses(), (0, 1_000));
    }
}
