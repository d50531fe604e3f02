//! What the brokers of a simulation share: links that are cut, lose and delay, and a store that fails as
//! stores do. Chance is repeatable.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use blockstore::{BlobError, BlobInfo, BlobWriter, Blobs, ReadAt};
use broker::{
    FreshParts, LiveLineParts, LiveParts, ObjectStore, Peers, StoreCall, StoreFault, StoredObject,
};
use bytes::Bytes;
use consensus::{Call, Consensus, Member, Transport, TransportError};
use futures_util::{StreamExt, TryFutureExt};
use net::rpc::{FreshRequest, LiveLinesRequest, LiveRequest};
use parking_lot::Mutex;
use tokio::time::{Instant, sleep};
use tonic::Status;

use crate::clients::Site;
use crate::right_clocks;

/// Repeatable chance: SplitMix64.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    pub(crate) fn percent(&mut self, of_hundred: u64) -> bool {
        self.below(100) < of_hundred
    }
}

/// How the store is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mood {
    Fine,
    /// A third of what is asked goes wrong, in every way.
    Flaky,
    /// Answers take seconds.
    Slow,
    /// Nobody answers.
    Silent,
    /// It says that it is overloaded.
    Down,
    /// It takes no writes.
    Full,
    /// It says of blocks that they are not there, as stores do while one of their nodes is replaced.
    Forgetful,
}

/// All links, and the store.
pub(crate) struct World {
    pub(crate) members: Mutex<BTreeMap<u64, Consensus>>,
    /// From and to: nothing passes.
    pub(crate) cut: Mutex<BTreeSet<(u64, u64)>>,
    pub(crate) lossy: Mutex<bool>,
    pub(crate) slow: Mutex<bool>,
    /// Whose disks take long.
    pub(crate) slow_disks: Mutex<BTreeSet<u64>>,
    pub(crate) mood: Mutex<Mood>,
    pub(crate) dice: Mutex<Dice>,
    pub(crate) objects: Mutex<BTreeMap<String, Bytes>>,
    /// Blocks that the store does not give, whatever its mood.
    pub(crate) kept_back: Mutex<BTreeSet<String>>,
    pub(crate) faults: Mutex<BTreeMap<&'static str, u64>>,
    /// When something bad was done or happened last.
    last_harm: Mutex<Instant>,
    /// The longest time after which the store does what it did not answer.
    most_late_ms: u64,
    /// When it will have done all of that.
    pub(crate) late_until: Mutex<Instant>,
}

impl World {
    pub(crate) fn new(seed: u64, most_late_ms: u64) -> Arc<World> {
        Arc::new(World {
            members: Mutex::default(),
            cut: Mutex::default(),
            lossy: Mutex::new(false),
            slow: Mutex::new(false),
            slow_disks: Mutex::default(),
            mood: Mutex::new(Mood::Fine),
            dice: Mutex::new(Dice(seed ^ 0x5eed)),
            objects: Mutex::default(),
            kept_back: Mutex::default(),
            faults: Mutex::default(),
            last_harm: Mutex::new(Instant::now()),
            most_late_ms,
            late_until: Mutex::new(Instant::now()),
        })
    }

    /// Something bad is done, or has just been made good.
    pub(crate) fn note_harm(&self) {
        *self.last_harm.lock() = Instant::now();
    }

    /// Whether nothing bad has been done or has happened for so long, and everything is well.
    pub(crate) fn is_calm_for(&self, time: Duration) -> bool {
        self.cut.lock().is_empty()
            && !*self.lossy.lock()
            && !*self.slow.lock()
            && self.slow_disks.lock().is_empty()
            && *self.mood.lock() == Mood::Fine
            && self.kept_back.lock().is_empty()
            && self.last_harm.lock().elapsed() >= time
    }

    pub(crate) fn heal(&self) {
        self.cut.lock().clear();
        *self.lossy.lock() = false;
        *self.slow.lock() = false;
        self.slow_disks.lock().clear();
        *self.mood.lock() = Mood::Fine;
        right_clocks();
        self.note_harm();
    }

    pub(crate) fn count(&self, fault: &'static str) {
        *self.faults.lock().entry(fault).or_default() += 1;
        self.note_harm();
    }

    async fn carry(&self, from: u64, to: u64, request: Bytes) -> Result<Bytes, TransportError> {
        if self.cut.lock().contains(&(from, to)) {
            // As a dropped packet: nobody says so.
            return std::future::pending().await;
        }
        self.delay().await?;
        let Some(there) = self.members.lock().get(&to).cloned() else {
            return Err(TransportError::Unreached("connection refused".to_owned()));
        };
        let answer = there.answer(&request).await;
        if self.cut.lock().contains(&(to, from)) || !self.members.lock().contains_key(&to) {
            return std::future::pending().await;
        }
        self.delay().await?;
        Ok(answer)
    }

    async fn delay(&self) -> Result<(), TransportError> {
        let (millis, is_lost) = {
            let mut dice = self.dice.lock();
            let millis = if *self.slow.lock() { dice.below(400) } else { 1 + dice.below(3) };
            (millis, *self.lossy.lock() && dice.percent(20))
        };
        if is_lost {
            return std::future::pending().await;
        }
        sleep(Duration::from_millis(millis)).await;
        Ok(())
    }

    /// How long the disk of a broker takes for its next sync.
    pub(crate) fn sync_takes(&self, id: u64) -> Duration {
        let is_slow = self.slow_disks.lock().contains(&id);
        Duration::from_millis(if is_slow { self.draw(400) } else { self.draw(2) })
    }

    /// Writes an object. Whoever writes other bytes under the same key has broken the rule.
    fn keep(&self, key: String, bytes: Bytes) {
        let before = self.objects.lock().insert(key.clone(), bytes.clone());
        assert!(before.is_none_or(|before| before == bytes), "{key} was written over");
    }

    fn draw(&self, of: u64) -> u64 {
        self.dice.lock().below(of)
    }
}

/// The links as a member sees them.
pub(crate) struct Links {
    pub(crate) id: u64,
    pub(crate) world: Arc<World>,
    /// Who answers questions about heads.
    pub(crate) site: Arc<Site>,
    /// False when its power was cut.
    pub(crate) is_alive: Arc<AtomicBool>,
}

impl Transport for Links {
    fn call(&self, to: u64, member: &Member, request: Bytes, deadline: Duration) -> Call {
        let (world, from) = (Arc::clone(&self.world), self.id);
        // A seed is known by its address only.
        let to = if to == 0 { member.address.parse().unwrap_or(0) } else { to };
        let is_alive = Arc::clone(&self.is_alive);
        Box::pin(async move {
            if !is_alive.load(Ordering::Relaxed) {
                return std::future::pending().await;
            }
            match tokio::time::timeout(deadline, world.carry(from, to, request)).await {
                Ok(answer) => answer,
                Err(_) => Err(TransportError::Lost("no answer in time".to_owned())),
            }
        })
    }
}

impl Peers for Links {
    fn fresh(&self, _: &str, request: FreshRequest) -> FreshParts {
        let (world, from, to) = (Arc::clone(&self.world), self.id, request.to);
        let site = Arc::clone(&self.site);
        let begin = async move {
            if world.cut.lock().contains(&(from, to)) {
                return std::future::pending().await;
            }
            world.delay().await.map_err(|_| Status::unavailable("lost"))?;
            let there = site.brokers.lock().get(&to).cloned();
            let there = there.ok_or_else(|| Status::unavailable("connection refused"))?;
            let parts = there.answer_fresh(request);
            // A part is lost with the connection: the rest does not come.
            let carried = parts.then(move |part| {
                let (world, site) = (Arc::clone(&world), Arc::clone(&site));
                async move {
                    let is_cut = world.cut.lock().contains(&(to, from));
                    if is_cut || !site.brokers.lock().contains_key(&to) {
                        return std::future::pending().await;
                    }
                    world.delay().await.map_err(|_| Status::unavailable("lost"))?;
                    part
                }
            });
            Ok::<_, Status>(carried)
        };
        Box::pin(begin.try_flatten_stream())
    }

    /// Nobody looks on.
    fn live(&self, _: &str, _: LiveRequest) -> LiveParts {
        Box::pin(futures_util::stream::pending())
    }

    /// Nobody looks on.
    fn live_lines(&self, _: &str, _: LiveLinesRequest) -> LiveLineParts {
        Box::pin(futures_util::stream::pending())
    }
}

/// The store as one broker sees it.
#[derive(Clone)]
pub(crate) struct Store {
    pub(crate) world: Arc<World>,
    pub(crate) is_alive: Arc<AtomicBool>,
}

/// What happens to one request.
enum Fate {
    Done,
    Before,
    After,
    Hang,
    Late(u64),
    Torn,
    Refused,
}

impl Store {
    /// Waits as long as the store takes, and decides what it does.
    async fn fate(&self) -> Fate {
        let world = &self.world;
        let mood = *world.mood.lock();
        let millis = if mood == Mood::Slow { 200 + world.draw(4_000) } else { 5 + world.draw(60) };
        sleep(Duration::from_millis(millis)).await;
        if !self.is_alive.load(Ordering::Relaxed) {
            return Fate::Hang;
        }
        let (name, fate) = match (mood, world.draw(30)) {
            (Mood::Fine | Mood::Slow | Mood::Forgetful, _) | (Mood::Flaky, 10..) => {
                return Fate::Done;
            }
            (Mood::Flaky, 0 | 1) => ("failed before", Fate::Before),
            (Mood::Flaky, 2 | 3) => ("done, then failed", Fate::After),
            (Mood::Flaky, 4) | (Mood::Silent, _) => ("silent", Fate::Hang),
            (Mood::Flaky, 5 | 6) => ("late", Fate::Late(world.draw(world.most_late_ms))),
            (Mood::Flaky, 7 | 8) => ("torn", Fate::Torn),
            (Mood::Flaky, _) | (Mood::Full, _) => ("refused", Fate::Refused),
            (Mood::Down, _) => ("overloaded", Fate::Before),
        };
        world.count(name);
        fate
    }
}

fn trouble(what: &str) -> StoreFault {
    StoreFault::Unavailable(what.to_owned())
}

impl ObjectStore for Store {
    fn put(&self, key: String, bytes: Bytes) -> StoreCall<()> {
        let store = self.clone();
        Box::pin(async move {
            match store.fate().await {
                Fate::Done | Fate::Torn => store.world.keep(key, bytes),
                Fate::Before => return Err(trouble("503 Slow Down")),
                Fate::After => {
                    store.world.keep(key, bytes);
                    return Err(trouble("connection reset after the request was sent"));
                }
                Fate::Hang => return std::future::pending().await,
                Fate::Late(millis) => {
                    {
                        let mut late_until = store.world.late_until.lock();
                        *late_until =
                            (*late_until).max(Instant::now() + Duration::from_millis(millis));
                    }
                    tokio::spawn(async move {
                        sleep(Duration::from_millis(millis)).await;
                        store.world.keep(key, bytes);
                    });
                    return std::future::pending().await;
                }
                Fate::Refused => {
                    return Err(StoreFault::Refused("507 Insufficient Storage".to_owned()));
                }
            }
            Ok(())
        })
    }

    fn get(&self, key: String) -> StoreCall<Bytes> {
        let store = self.clone();
        Box::pin(async move {
            let fate = store.fate().await;
            let found = store.world.objects.lock().get(&key).cloned();
            let found = found.ok_or(StoreFault::NotFound(key));
            match fate {
                Fate::Before | Fate::After => Err(trouble("503 Slow Down")),
                Fate::Hang | Fate::Late(_) => std::future::pending().await,
                Fate::Torn => found.map(|bytes| bytes.slice(..bytes.len() / 2)),
                Fate::Done | Fate::Refused => found,
            }
        })
    }

    fn delete(&self, key: String) -> StoreCall<()> {
        let store = self.clone();
        Box::pin(async move {
            match store.fate().await {
                Fate::Done | Fate::Torn | Fate::Late(_) => {
                    store.world.objects.lock().remove(&key);
                    Ok(())
                }
                Fate::Hang => std::future::pending().await,
                _ => Err(trouble("503 Slow Down")),
            }
        })
    }

    fn list(&self, prefix: String) -> StoreCall<Vec<StoredObject>> {
        let store = self.clone();
        Box::pin(async move {
            match store.fate().await {
                Fate::Done | Fate::Torn | Fate::After => {
                    let objects = store.world.objects.lock();
                    let below = objects.iter().filter(|(key, _)| key.starts_with(&prefix));
                    let object = |(key, bytes): (&String, &Bytes)| StoredObject {
                        key: key.clone(),
                        size_bytes: bytes.len() as u64,
                    };
                    Ok(below.map(object).collect())
                }
                Fate::Hang | Fate::Late(_) => std::future::pending().await,
                Fate::Before | Fate::Refused => Err(trouble("503 Slow Down")),
            }
        })
    }
}

struct Object {
    world: Arc<World>,
    key: String,
    size_bytes: u64,
}

impl ReadAt for Object {
    fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// As a store does: what was removed cannot be read by who opened it before.
    fn read_exact_at(&self, offset: u64, out: &mut [u8]) -> Result<(), BlobError> {
        let objects = self.world.objects.lock();
        let Some(bytes) = objects.get(&self.key) else {
            return Err(BlobError::NotFound { key: self.key.clone() });
        };
        let start = usize::try_from(offset).expect("of an object in memory");
        let part = bytes.get(start..start + out.len()).expect("readers know the length");
        out.copy_from_slice(part);
        Ok(())
    }
}

/// Blocks are read by threads that may wait; here there are none, and it is at once.
impl Blobs for Store {
    fn create(&self, key: &str) -> Result<Box<dyn BlobWriter>, BlobError> {
        unreachable!("a clustered broker writes {key} as an object")
    }

    fn open(&self, key: &str) -> Result<Arc<dyn ReadAt>, BlobError> {
        let key = key.to_owned();
        let is_flaky = matches!(*self.world.mood.lock(), Mood::Flaky | Mood::Down | Mood::Silent);
        let is_kept_back = self.world.kept_back.lock().contains(&key);
        if is_kept_back || (is_flaky && self.world.draw(3) == 0) {
            self.world.count("block not opened");
            let source = std::io::Error::other("503 Slow Down");
            return Err(BlobError::Io { action: "open", key, source });
        }
        if *self.world.mood.lock() == Mood::Forgetful {
            self.world.count("block forgotten");
            return Err(BlobError::NotFound { key });
        }
        match self.world.objects.lock().get(&key) {
            Some(bytes) => {
                let (world, size_bytes) = (Arc::clone(&self.world), bytes.len() as u64);
                Ok(Arc::new(Object { world, key, size_bytes }))
            }
            None => Err(BlobError::NotFound { key }),
        }
    }

    fn list(&self, prefix: &str) -> Result<Vec<BlobInfo>, BlobError> {
        unreachable!("nothing that a clustered broker does depends on a list of {prefix}")
    }

    fn delete(&self, key: &str) -> Result<(), BlobError> {
        unreachable!("a clustered broker removes {key} as an object")
    }

    fn quarantine(&self, key: &str) -> Result<(), BlobError> {
        unreachable!("{key} is not one broker's to move")
    }
}
