//! A Redis as the cache of several brokers: whatever happens to it, what is read is right, and soon.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use blockstore::{Blobs, MemoryDisk};
use objects::{Credentials, Operation, PageCache, RedisCache, SharedBlobs, Store, StoreUrl};
use rustix::process::Signal;
use settings::Secret;
use tokio::runtime::Runtime;

use crate::contract::body;
use crate::harness::peer::Host;
use crate::harness::ports::free_ports;
use crate::harness::redis::{PASSWORD, RedisCluster, redis, redis_cli};
use crate::harness::{Group, Scratch, options, random::Random};

pub(crate) const GROUP: Group = Group {
    name: "redis-cache",
    tests: &[
        ("shared", shared),
        ("garbage", garbage),
        ("stands-still", stands_still),
        ("killed", killed),
        ("cluster", cluster),
    ],
};

/// An object of so many chunks, the last of which is short.
const CHUNKS: usize = 12;
const OBJECT_BYTES: usize = (CHUNKS - 1) * (1 << 20) + 12_345;
const KEY: &str = "blocks/metrics/7";
const LOCKED: [&str; 2] = ["--requirepass", PASSWORD];
const PATIENCE: Duration = Duration::from_secs(60);
/// What a read may take at the 99th percentile while the cache does not answer: a few times the 50 ms that it
/// is waited for, on a machine that compiles at the same time.
const SLOW: Duration = Duration::from_millis(400);

/// A store in a directory, and the readers of two brokers, whose disks keep nothing.
struct Site {
    runtime: Runtime,
    store: Store,
    written: Vec<u8>,
}

struct Broker {
    blobs: SharedBlobs,
    cache: RedisCache,
}

impl Site {
    fn new(scratch: &Scratch) -> Result<Site> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .context("make a runtime")?;
        let url = StoreUrl::parse(&format!("file://{}", scratch.join("store").display()))?;
        let store = runtime.block_on(Store::open(&url, options()))?;
        let written = body(1, OBJECT_BYTES);
        runtime.block_on(store.put(KEY, written.clone().into()))?;
        Ok(Site { runtime, store, written })
    }

    fn broker(&self, url: &str) -> Result<Broker> {
        let _inside = self.runtime.enter();
        let credentials = Credentials::none().with("REDIS_PASSWORD", Secret::new(PASSWORD));
        let cache = RedisCache::open(&StoreUrl::parse(url)?, &credentials, "cluster")?;
        // A byte is less than a chunk: everything comes from the cache behind it, or from the store.
        let pages = PageCache::open(Arc::new(MemoryDisk::new()), 1)?;
        let handle = self.runtime.handle().clone();
        let blobs = SharedBlobs::new(self.store.clone(), handle, Some(Arc::new(pages)));
        let broker = Broker { blobs: blobs.with_shared_cache(cache.clone()), cache };
        wait("it connects", || broker.cache.away().is_empty() && broker.is_connected())?;
        Ok(broker)
    }

    fn fetched(&self) -> u64 {
        self.store.counters().requests(Operation::GetRange)
    }

    /// Reads each chunk, and yields how long each took.
    fn read(&self, broker: &Broker) -> Result<Vec<Duration>> {
        let blob = broker.blobs.open(KEY)?;
        (0..CHUNKS)
            .map(|number| {
                let start = number << 20;
                let end = (start + (1 << 20)).min(OBJECT_BYTES);
                let mut out = vec![0; end - start];
                let began = Instant::now();
                blob.read_exact_at(start as u64, &mut out)?;
                ensure!(out == self.written[start..end], "chunk {number} is another one");
                Ok(began.elapsed())
            })
            .collect()
    }

    /// Reads until all of it is in the cache.
    fn fill(&self, broker: &Broker) -> Result<()> {
        wait("it is filled", || {
            let before = self.fetched();
            self.read(broker).is_ok() && self.fetched() == before
        })
    }
}

impl Broker {
    /// Whether it asks at all.
    fn is_connected(&self) -> bool {
        let asked = || self.cache.requests().requests(Operation::Get);
        let before = asked();
        let mut byte = [0];
        let read = self.blobs.open(KEY).and_then(|blob| blob.read_exact_at(0, &mut byte));
        read.is_ok() && asked() > before
    }
}

fn wait(what: &str, is_so: impl Fn() -> bool) -> Result<()> {
    let begin = Instant::now();
    while !is_so() {
        ensure!(begin.elapsed() < PATIENCE, "{what}: not within {PATIENCE:?}");
        sleep(Duration::from_millis(50));
    }
    Ok(())
}

/// The 99th percentile, and the longest.
fn slowest(mut times: Vec<Duration>) -> (Duration, Duration) {
    times.sort();
    (times[times.len() * 99 / 100], times[times.len() - 1])
}

fn shared(scratch: &Scratch) -> Result<String> {
    let peer = redis(scratch, &Host::here(), "redis", free_ports(1)?[0], &LOCKED)?;
    let url = |rest: &str| format!("redis://127.0.0.1:{}/{rest}", peer.port());
    let site = Site::new(scratch)?;
    let first = site.broker(&url("p"))?;
    site.fill(&first)?;
    let keys = redis_cli(peer.address, &["keys", "p/chunk/*"])?;
    ensure!(keys.lines().count() == CHUNKS, "{keys}");
    let ttl: i64 =
        redis_cli(peer.address, &["ttl", keys.lines().next().unwrap_or_default()])?.parse()?;
    ensure!((86_000..=86_400).contains(&ttl), "a copy lives {ttl} s");
    // One that has never read it takes nothing from the store.
    let second = site.broker(&url("p"))?;
    let before = site.fetched();
    site.read(&second)?;
    ensure!(site.fetched() == before, "{} came from the store", site.fetched() - before);
    let (hits, _) = second.cache.hits_and_misses();
    ensure!(hits >= CHUNKS as u64, "{hits} hits");
    // Another cluster has other objects of the same names.
    let _inside = site.runtime.enter();
    let credentials = Credentials::none().with("REDIS_PASSWORD", Secret::new(PASSWORD));
    let other = RedisCache::open(&StoreUrl::parse(&url("p"))?, &credentials, "another")?;
    drop(_inside);
    let handle = site.runtime.handle().clone();
    let pages = PageCache::open(Arc::new(MemoryDisk::new()), 1)?;
    let other = Broker {
        blobs: SharedBlobs::new(site.store.clone(), handle, Some(Arc::new(pages)))
            .with_shared_cache(other.clone()),
        cache: other,
    };
    wait("it connects", || other.is_connected())?;
    site.read(&other)?;
    ensure!(other.cache.hits_and_misses().0 <= CHUNKS as u64 / 2, "another cluster's were taken");
    // What was found damaged is not taken again, and goes.
    second.blobs.forget_copies(KEY);
    wait("copies go", || {
        redis_cli(peer.address, &["dbsize"]).is_ok_and(|left| left.parse().unwrap_or(99) <= CHUNKS)
    })?;
    let before = site.fetched();
    site.read(&second)?;
    ensure!(site.fetched() - before == CHUNKS as u64, "copies are taken that nobody trusts");
    Ok(format!("{CHUNKS} chunks, read by a second broker without the store"))
}

/// Whatever lies under a key of ours.
fn garbage(scratch: &Scratch) -> Result<String> {
    let peer = redis(scratch, &Host::here(), "redis", free_ports(1)?[0], &LOCKED)?;
    let site = Site::new(scratch)?;
    let broker = site.broker(&format!("redis://127.0.0.1:{}/p", peer.port()))?;
    site.fill(&broker)?;
    let keys = redis_cli(peer.address, &["keys", "p/chunk/*"])?;
    let keys: Vec<&str> = keys.lines().collect();
    let seed = Random::seed();
    let mut random = Random::new(seed);
    let stop = AtomicBool::new(false);
    let mut rounds = 0;
    let read = std::thread::scope(|scope| {
        let reading = scope.spawn(|| {
            let mut read = 0;
            while !stop.load(Relaxed) {
                site.read(&broker)?;
                read += CHUNKS;
            }
            Ok::<_, anyhow::Error>(read)
        });
        let begin = Instant::now();
        while begin.elapsed() < Duration::from_secs(8) {
            let key = keys[random.below(keys.len() as u64) as usize];
            let other = keys[random.below(keys.len() as u64) as usize];
            let offset = random.below(1 << 20).to_string();
            let commands: [&[&str]; 8] = [
                &["setrange", key, &offset, "garbage"],
                &["set", key, ""],
                &["set", key, "short"],
                &["append", key, "behind"],
                &["copy", other, key, "replace"],
                &["del", key],
                &["flushall"],
                &["eval", "redis.call('del', KEYS[1]); redis.call('rpush', KEYS[1], 1)", "1", key],
            ];
            // A key of another type takes not every command.
            let _ = redis_cli(peer.address, commands[random.below(8) as usize]);
            rounds += 1;
        }
        stop.store(true, Relaxed);
        reading.join().expect("it does not panic")
    });
    let read = read.with_context(|| format!("seed {seed}"))?;
    let damaged = broker.cache.damaged();
    ensure!(damaged > 0, "nothing was found damaged in {read} reads, seed {seed}");
    // It heals by itself.
    site.fill(&broker)?;
    Ok(format!("{rounds} times damaged, {read} chunks read, each right; {damaged} found damaged"))
}

fn stands_still(scratch: &Scratch) -> Result<String> {
    let peer = redis(scratch, &Host::here(), "redis", free_ports(1)?[0], &LOCKED)?;
    let site = Site::new(scratch)?;
    let broker = site.broker(&format!("redis://127.0.0.1:{}/p", peer.port()))?;
    site.fill(&broker)?;
    peer.signal(Signal::STOP)?;
    let mut times = Vec::new();
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_secs(10) {
        times.extend(site.read(&broker)?);
    }
    let reads = times.len();
    let (p99, longest) = slowest(times);
    ensure!(p99 < SLOW, "p99 {p99:?}, longest {longest:?}, {reads} reads");
    // Not each of them has waited for it.
    ensure!(reads > 300, "{reads} reads in 10 s");
    let away = broker.cache.away();
    ensure!(away.len() == 1 && away[0].for_ms > 1_000, "{away:?}");
    // One that begins while it stands still does not wait either.
    let began = Instant::now();
    let _inside = site.runtime.enter();
    let url = StoreUrl::parse(&format!("redis://127.0.0.1:{}/p", peer.port()))?;
    RedisCache::open(&url, &Credentials::none(), "cluster")?;
    ensure!(began.elapsed() < Duration::from_secs(1), "a start took {:?}", began.elapsed());
    drop(_inside);
    peer.signal(Signal::CONT)?;
    let began = Instant::now();
    wait("it is used again", || broker.cache.away().is_empty())?;
    let again = began.elapsed();
    site.fill(&broker)?;
    Ok(format!(
        "{reads} chunks read in 10 s, p99 {} ms, longest {} ms; used again after {:.1} s",
        p99.as_millis(),
        longest.as_millis(),
        again.as_secs_f64()
    ))
}

fn killed(scratch: &Scratch) -> Result<String> {
    let port = free_ports(1)?[0];
    let mut peer = redis(scratch, &Host::here(), "redis", port, &LOCKED)?;
    let site = Site::new(scratch)?;
    let broker = site.broker(&format!("redis://127.0.0.1:{port}/p"))?;
    let mut times = Vec::new();
    for _ in 0..4 {
        site.fill(&broker)?;
        peer.kill()?;
        for _ in 0..20 {
            times.extend(site.read(&broker)?);
        }
        ensure!(broker.cache.away().len() == 1, "it is asked still");
        peer = redis(scratch, &Host::here(), "redis", port, &LOCKED)?;
        wait("it is used again", || broker.cache.away().is_empty())?;
    }
    let reads = times.len();
    let (p99, longest) = slowest(times);
    ensure!(p99 < SLOW, "p99 {p99:?}, longest {longest:?}");
    Ok(format!("4 kills, {reads} chunks, p99 {} ms", p99.as_millis()))
}

/// Of three primaries one stands still: what lies on the others is still had from there, and when its replica
/// has taken over, what lies there as well.
fn cluster(scratch: &Scratch) -> Result<String> {
    let nodes = RedisCluster::start(scratch)?;
    let site = Site::new(scratch)?;
    let broker = site.broker(&nodes.url("p"))?;
    wait("all nodes are known", || broker.cache.away().is_empty())?;
    site.fill(&broker)?;
    let mut used = 0;
    for node in &nodes.nodes {
        let size: u64 = redis_cli(node.address, &["dbsize"])?.parse()?;
        used += usize::from(size > 0);
    }
    ensure!(used >= 4, "only {used} nodes have a share");
    let victim = nodes.primary()?;
    nodes.nodes[victim].signal(Signal::STOP)?;
    let (mut times, begin) = (Vec::new(), Instant::now());
    let (hits, _) = broker.cache.hits_and_misses();
    while begin.elapsed() < Duration::from_secs(2) {
        times.extend(site.read(&broker)?);
    }
    let others = broker.cache.hits_and_misses().0 - hits;
    ensure!(others > times.len() as u64 / 4, "{others} hits of {} reads", times.len());
    // The replica needs some seconds to be promoted; then nothing comes from the store.
    let mut filled = None;
    while filled.is_none() {
        ensure!(begin.elapsed() < PATIENCE, "what its replica has is not found");
        let before = site.fetched();
        times.extend(site.read(&broker)?);
        filled = (site.fetched() == before).then(|| begin.elapsed());
    }
    let reads = times.len();
    let (p99, longest) = slowest(times);
    ensure!(p99 < SLOW, "p99 {p99:?}, longest {longest:?}");
    nodes.nodes[victim].signal(Signal::CONT)?;
    site.fill(&broker)?;
    Ok(format!(
        "{reads} chunks, p99 {} ms, longest {} ms; {others} hits on the others meanwhile; all from Redis \
         again after {:.1} s",
        p99.as_millis(),
        longest.as_millis(),
        filled.unwrap_or_default().as_secs_f64()
    ))
}
