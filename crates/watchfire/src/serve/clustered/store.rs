//! The shared stores as a broker wants them, and whose they are.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use blockstore::FileDisk;
use broker::cluster::tiers::{FormerStore, Mark, SegmentPlaces, SegmentStore, mark_key, mark_of};
use broker::{ObjectStore, StoreCall, StoreFault, StoredObject};
use bytes::Bytes;
use catalog::{BrokerId, StoreId};
use objects::{
    Credentials, ObjectInfo, PageCache, RedisCache, Refusal, SharedBlobs, Store, StoreError,
    StoreOptions, StoreUrl,
};
use serde::{Deserialize, Serialize};
use tokio::runtime::Handle;

use super::counts::Caches;
use super::home::{Home, Stage, store_id};
use crate::config::{Config, LOST};

/// Below it lies one object for each cluster that was founded in a store: one.
pub(super) const CLUSTERS: &str = "cluster/";
/// So much longer than data is kept, a store that forgets keeps objects: a brokers' outage is to be over
/// before something goes that counts.
const SPARE: Duration = Duration::from_secs(24 * 60 * 60);
/// The cache of blocks, below the data directory.
const CACHE: &str = "cache";

/// A store, as the write path wants it.
pub(super) struct SharedStore {
    store: Store,
    /// Named where there are several.
    url: Option<Arc<str>>,
}

impl SharedStore {
    /// The only one.
    fn only(store: &Store) -> Arc<dyn ObjectStore> {
        Arc::new(SharedStore { store: store.clone(), url: None })
    }

    /// One of several.
    fn one_of(store: &Store) -> Arc<dyn ObjectStore> {
        Arc::new(SharedStore { store: store.clone(), url: Some(store.url().into()) })
    }
}

impl ObjectStore for SharedStore {
    fn put(&self, key: String, bytes: Bytes) -> StoreCall<()> {
        let (store, url) = (self.store.clone(), self.url.clone());
        Box::pin(async move { store.put(&key, bytes).await.map_err(|error| fault(error, url)) })
    }

    fn get(&self, key: String) -> StoreCall<Bytes> {
        let (store, url) = (self.store.clone(), self.url.clone());
        Box::pin(async move { store.get(&key).await.map_err(|error| fault(error, url)) })
    }

    fn delete(&self, key: String) -> StoreCall<()> {
        let (store, url) = (self.store.clone(), self.url.clone());
        Box::pin(async move { store.delete(&key).await.map_err(|error| fault(error, url)) })
    }

    fn list(&self, prefix: String) -> StoreCall<Vec<StoredObject>> {
        let (store, url) = (self.store.clone(), self.url.clone());
        Box::pin(async move {
            let found = store.list(&prefix).await.map_err(|error| fault(error, url))?;
            let stored = |object: ObjectInfo| StoredObject {
                key: object.key,
                size_bytes: object.size_bytes,
            };
            Ok(found.into_iter().map(stored).collect())
        })
    }
}

/// What can be done about it decides.
fn fault(error: StoreError, url: Option<Arc<str>>) -> StoreFault {
    let told = match url {
        None => error.to_string(),
        Some(url) => format!("{error} (the store is {url})"),
    };
    match error {
        StoreError::NotFound { key } => StoreFault::NotFound(key),
        StoreError::Damaged { .. } => StoreFault::Damaged(told),
        StoreError::Refused { .. } | StoreError::Settings(_) | StoreError::TooLarge { .. } => {
            StoreFault::Refused(told)
        }
        _ => StoreFault::Unavailable(told),
    }
}

/// The stores of a cluster.
#[derive(Clone)]
pub(super) struct Stores {
    /// Of blocks, and of everything else that has no store of its own.
    pub(super) blocks: Store,
    pub(super) segments: Option<Store>,
    former_segments: Former,
}

/// A store in which segments lay before.
#[derive(Clone)]
enum Former {
    None,
    At(Store),
    Lost,
}

impl Stores {
    /// Opens them, and looks whether they can be used.
    pub(super) async fn open(home: &Home, has_data: bool, config: &Config) -> Result<Stores> {
        let one = |flag, url| open(flag, url, home.broker(), has_data, config);
        let blocks = one("--store", &home.store).await?;
        let segments = match home.store_segments() {
            None => None,
            Some(url) => Some(one("--store-segments", url).await?),
        };
        if segments.as_ref().is_some_and(|segments| segments.url() == blocks.url()) {
            bail!(
                "--store-segments is the same as --store, {}: leave it out to keep segments and blocks in one \
                 store",
                blocks.url()
            );
        }
        let former = config.cluster.former_store_segments.as_ref().map(settings::Secret::reveal);
        let former_segments = match former {
            None => Former::None,
            Some(LOST) => Former::Lost,
            Some(url) => Former::At(one("--former-store-segments", url).await?),
        };
        Ok(Stores { blocks, segments, former_segments })
    }

    /// The store of the blocks, as the write path wants it.
    pub(super) fn shared(&self) -> Arc<dyn ObjectStore> {
        match &self.segments {
            None => SharedStore::only(&self.blocks),
            Some(_) => SharedStore::one_of(&self.blocks),
        }
    }

    /// Where segments lie, as a broker wants to know it.
    pub(super) fn segment_places(&self) -> Result<SegmentPlaces> {
        let mut id = [0; 8];
        super::super::getrandom(&mut id).context("draw the name of a store")?;
        let apart = self.segments.as_ref().map(|store| SegmentStore {
            store: SharedStore::one_of(store),
            url: store.url().to_owned(),
            id: format!("{:016x}", u64::from_le_bytes(id)),
        });
        let former = match &self.former_segments {
            Former::None => FormerStore::None,
            Former::At(store) => FormerStore::At(SharedStore::one_of(store)),
            Former::Lost => FormerStore::Lost,
        };
        Ok(SegmentPlaces { apart, former })
    }

    /// For people.
    pub(super) fn shown(&self) -> String {
        match &self.segments {
            None => self.blocks.url().to_owned(),
            Some(segments) => {
                format!("{}, segments in {}", self.blocks.url(), segments.url())
            }
        }
    }
}

/// Opens the store of a URL and looks whether it can be used: an object is written, read, listed and
/// removed. Where `broker` has data in it, one that takes no writes now still can be read.
async fn open(
    flag: &'static str,
    url: &str,
    broker: BrokerId,
    has_data: bool,
    config: &Config,
) -> Result<Store> {
    let parsed = StoreUrl::parse(url).context(flag)?;
    let retention_ms =
        config.rollups.last().map_or(0, |tier| tier.kept_ms).max(config.retention_ms);
    let options = StoreOptions {
        accept_weaker_durability: config.cluster.accept_weaker_durability,
        // What is listed is renewed while a broker runs, see `keeping`; so this counts for what nobody
        // renews.
        retention: u64::try_from(retention_ms).ok().map(Duration::from_millis).map(|d| d + SPARE),
        ..StoreOptions::truth()
    };
    let cannot = || format!("the store {parsed} cannot be used");
    let store = Store::open(&parsed, options).await.with_context(cannot)?;
    match store.probe(&broker.to_string()).await {
        Err(error @ StoreError::Refused { refusal: Refusal::Full | Refusal::ReadOnly, .. })
            if has_data =>
        {
            tracing::warn!(%error, "the store takes no writes now; what is in it can be read");
        }
        probed => probed.with_context(cannot)?,
    }
    Ok(store)
}

/// The blocks in it, for readers, with a cache on the local disk and, if there is one, that of all brokers.
pub(super) fn blobs(store: &Store, home: &Home, config: &Config) -> Result<(SharedBlobs, Caches)> {
    let bytes = config.cluster.cache_bytes;
    let cache = match bytes {
        0 => None,
        _ => {
            let disk =
                FileDisk::open(&config.data.join(CACHE)).context("open the cache of blocks")?;
            let cache =
                PageCache::open(Arc::new(disk), bytes).context("open the cache of blocks")?;
            Some(Arc::new(cache))
        }
    };
    let mut blobs = SharedBlobs::new(store.clone(), Handle::current(), cache.clone());
    let shared = match &config.cluster.cache {
        None => None,
        Some(url) => {
            ensure!(
                cache.is_some(),
                "--cache keeps chunks for the caches on the brokers' disks: give cluster.cache_bytes more than 0"
            );
            let url = StoreUrl::parse(url.reveal()).context("--cache")?;
            // Keys are the same in every cluster, and its objects are not.
            let shared = RedisCache::open(&url, &Credentials::from_environment(), home.cluster());
            let shared = shared.context("--cache")?;
            blobs = blobs.with_shared_cache(shared.clone());
            Some(shared)
        }
    };
    Ok((blobs, Caches { own: cache, shared }))
}

/// What a founder leaves in the store. It says for people what the object's name says for brokers.
#[derive(Serialize, Deserialize)]
struct Marker {
    founded_by: String,
    founded_ms: i64,
    version: String,
}

/// What came of naming a cluster in the store.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Claim {
    /// It is named, and no other one.
    Own,
    /// Another one is; why this one cannot be, in words.
    Taken(String),
}

/// Names the cluster in the store, or finds out that another one has it. Two that found at once, in a
/// store that shows what was written, both look after they wrote: not both find themselves alone.
pub(super) async fn claim(store: &Store, home: &Home, now_ms: i64) -> Result<Claim> {
    let key = mark_key(home.cluster(), &Mark::Blocks);
    let marker = Marker {
        founded_by: home.name.clone(),
        founded_ms: now_ms,
        version: env!("CARGO_PKG_VERSION").to_owned(),
    };
    let marker = serde_json::to_vec_pretty(&marker).expect("strings are always JSON");
    store.put(&key, marker.into()).await.context("name the cluster in the store")?;
    let found = clusters(store).await?;
    let Some((other, _)) = found.iter().find(|(id, _)| id.to_string() != home.cluster()) else {
        return Ok(Claim::Own);
    };
    store.delete(&key).await.context("take the name of a second cluster back")?;
    Ok(Claim::Taken(taken(store, other).await))
}

/// Which cluster a store is of, and of what of it; nothing where none was founded.
async fn clusters(store: &Store) -> Result<Vec<(StoreId, Mark)>> {
    let found = store.list(CLUSTERS).await.context("ask the store which cluster it is of")?;
    let mark = |key: &str| mark_of(key).and_then(|(id, mark)| Some((store_id(id)?, mark)));
    Ok(found.iter().filter_map(|object| mark(&object.key)).collect())
}

/// The cluster of a broker that has none: that of the store if it joins, else a new one.
pub(super) async fn cluster_for_new(
    store: &Store,
    joins: bool,
    new: StoreId,
) -> Result<(StoreId, Stage)> {
    let found = clusters(store).await?;
    match (&found[..], joins) {
        ([], false) => Ok((new, Stage::Founding)),
        ([], true) => bail!(
            "there is no cluster in the store {}: give the --store that the brokers named by --join use; \
             the first broker of a new cluster is started without --join",
            store.url()
        ),
        ([(id, Mark::Blocks)], true) => Ok((*id, Stage::Joining)),
        ([(id, Mark::Segments(_))], _) => bail!(of_segments(store, id)),
        ([(id, Mark::Blocks)], false) => bail!(taken(store, id).await),
        (several, _) => bail!(several_found(store, several)),
    }
}

/// Whether the store is that of the cluster a data directory knows.
pub(super) async fn check_known(store: &Store, home: &Home) -> Result<()> {
    let found = clusters(store).await?;
    let is_own = |id: &StoreId| id.to_string() == home.cluster();
    if found.iter().any(|(id, mark)| is_own(id) && *mark == Mark::Blocks) {
        if found.len() > 1 {
            tracing::warn!("{}", several_found(store, &found));
        }
        return Ok(());
    }
    let what = match found.first() {
        Some((id, Mark::Segments(_))) if is_own(id) => bail!(of_segments(store, id)),
        Some((other, _)) => format!("it is the store of cluster {other}"),
        None => {
            "no cluster is named in it: it is another store, or somebody has emptied it".to_owned()
        }
    };
    bail!(
        "the store {} is not that of this broker, whose cluster is {}: {what}. Give the --store of its \
         cluster; for a broker of another cluster give another --data",
        store.url(),
        home.cluster()
    )
}

/// A store for segments was given as that of everything.
fn of_segments(store: &Store, id: &StoreId) -> String {
    format!(
        "in the store {} lie the segments of cluster {id}: give it with --store-segments, and with --store the one \
         that has its blocks",
        store.url()
    )
}

async fn taken(store: &Store, id: &StoreId) -> String {
    let founded_by = match store.get(&mark_key(&id.to_string(), &Mark::Blocks)).await {
        Ok(marker) => {
            serde_json::from_slice::<Marker>(&marker).ok().map(|marker| marker.founded_by)
        }
        Err(_) => None,
    };
    let by = founded_by.map_or_else(String::new, |name| format!(", which {name} founded"));
    format!(
        "the store {} belongs to cluster {id}{by}. To make this broker one of it, run `watchfire token \
         create --role broker` there and start this with --join HOST:9596 --join-token TOKEN; for another \
         cluster give --store another prefix. If that founder never came to run and its data directory is \
         gone, remove the object {CLUSTERS}{id}.json",
        store.url()
    )
}

fn several_found(store: &Store, several: &[(StoreId, Mark)]) -> String {
    let ids: Vec<String> = several.iter().map(|(id, _)| id.to_string()).collect();
    format!(
        "the store {} names several clusters ({}): two were founded there at once, or two stores were \
         copied into one. Remove the object {CLUSTERS}ID.json of the one that is not in use",
        store.url(),
        ids.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn home(id: u8) -> Home {
        Home::new(StoreId([id; 16]), BrokerId(1), Stage::Founding, "memory://", "founder")
    }

    async fn memory() -> Store {
        let url = StoreUrl::parse("memory://").expect("a URL");
        let options = StoreOptions { accept_weaker_durability: true, ..StoreOptions::truth() };
        Store::open(&url, options).await.expect("memory")
    }

    fn says<T: std::fmt::Debug>(outcome: Result<T>, words: &[&str]) {
        let error = format!("{:#}", outcome.expect_err("refused"));
        assert!(words.iter().all(|word| error.contains(word)), "{error}");
    }

    #[tokio::test]
    async fn a_store_is_of_the_cluster_that_claimed_it_first() {
        let store = memory().await;
        let new = StoreId([3; 16]);
        let found = cluster_for_new(&store, false, new).await.expect("empty");
        assert!(found == (new, Stage::Founding));
        says(cluster_for_new(&store, true, new).await, &["there is no cluster", "without --join"]);
        assert_eq!(claim(&store, &home(1), 0).await.expect("a store"), Claim::Own);
        let again = claim(&store, &home(1), 0).await.expect("a store");
        assert_eq!(again, Claim::Own, "an earlier start got this far");
        let taken = claim(&store, &home(2), 0).await.expect("a store");
        let Claim::Taken(why) = taken else { panic!("two in one store") };
        assert!(
            why.contains("belongs to cluster 0101") && why.contains("founder founded"),
            "{why}"
        );
        let found = clusters(&store).await.expect("readable");
        assert_eq!(found, [(StoreId([1; 16]), Mark::Blocks)]);
        let joined = cluster_for_new(&store, true, new).await.expect("one");
        assert!(joined == (StoreId([1; 16]), Stage::Joining));
        says(cluster_for_new(&store, false, new).await, &["--join HOST:9596"]);
        check_known(&store, &home(1)).await.expect("its own");
        says(check_known(&store, &home(2)).await, &["it is the store of cluster 0101"]);
        says(check_known(&memory().await, &home(1)).await, &["no cluster is named in it"]);
        // Two that were copied into one: those that are there go on, nobody new chooses.
        store.put(&format!("{CLUSTERS}{}.json", StoreId([9; 16])), "{}".into()).await.expect("put");
        check_known(&store, &home(1)).await.expect("its own is there");
        for joins in [true, false] {
            says(
                cluster_for_new(&store, joins, new).await,
                &["several clusters", "cluster/ID.json"],
            );
        }
    }

    #[tokio::test]
    async fn faults_are_sorted_by_what_the_writer_can_do() {
        let store = SharedStore::only(&memory().await);
        store.put("a".to_owned(), Bytes::from_static(b"x")).await.expect("put");
        assert_eq!(store.get("a".to_owned()).await.expect("there"), "x");
        store.delete("a".to_owned()).await.expect("removed");
        let absent = store.get("a".to_owned()).await;
        assert_eq!(absent, Err(StoreFault::NotFound("a".to_owned())));
        let refused = |refusal| StoreError::Refused {
            refusal,
            action: "write",
            key: "a".to_owned(),
            why: "no".to_owned(),
        };
        for refusal in [Refusal::Full, Refusal::ReadOnly, Refusal::Credentials, Refusal::Bucket] {
            let url = Some("redis://r/p".into());
            let StoreFault::Refused(words) = fault(refused(refusal), url) else {
                panic!("{refusal:?}")
            };
            assert!(words.contains(refusal.remedy()) && words.contains("redis://r/p"), "{words}");
        }
        let busy = StoreError::Busy { action: "write", key: "a".to_owned(), why: "503".to_owned() };
        assert!(matches!(fault(busy, None), StoreFault::Unavailable(_)));
    }
}
