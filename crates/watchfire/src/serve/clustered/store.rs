//! The shared store as a broker wants it, and whose store it is.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use blockstore::FileDisk;
use broker::{ObjectStore, StoreCall, StoreFault, StoredObject};
use bytes::Bytes;
use catalog::{BrokerId, StoreId};
use objects::{
    ObjectInfo, PageCache, Refusal, SharedBlobs, Store, StoreError, StoreKind, StoreOptions,
    StoreUrl,
};
use serde::{Deserialize, Serialize};
use tokio::runtime::Handle;

use super::home::{Home, Stage, store_id};
use crate::config::Config;

/// Below it lies one object for each cluster that was founded in a store: one.
const CLUSTERS: &str = "cluster/";
/// The cache of blocks, below the data directory.
const CACHE: &str = "cache";

/// The store, as the write path wants it.
pub(super) struct SharedStore(pub(super) Store);

impl ObjectStore for SharedStore {
    fn put(&self, key: String, bytes: Bytes) -> StoreCall<()> {
        let store = self.0.clone();
        Box::pin(async move { store.put(&key, bytes).await.map_err(fault) })
    }

    fn get(&self, key: String) -> StoreCall<Bytes> {
        let store = self.0.clone();
        Box::pin(async move { store.get(&key).await.map_err(fault) })
    }

    fn delete(&self, key: String) -> StoreCall<()> {
        let store = self.0.clone();
        Box::pin(async move { store.delete(&key).await.map_err(fault) })
    }

    fn list(&self, prefix: String) -> StoreCall<Vec<StoredObject>> {
        let store = self.0.clone();
        Box::pin(async move {
            let found = store.list(&prefix).await.map_err(fault)?;
            let stored = |object: ObjectInfo| StoredObject {
                key: object.key,
                size_bytes: object.size_bytes,
            };
            Ok(found.into_iter().map(stored).collect())
        })
    }
}

/// What can be done about it decides.
fn fault(error: StoreError) -> StoreFault {
    match error {
        StoreError::NotFound { key } => StoreFault::NotFound(key),
        error @ StoreError::Damaged { .. } => StoreFault::Damaged(error.to_string()),
        error @ (StoreError::Refused { .. }
        | StoreError::Settings(_)
        | StoreError::TooLarge { .. }) => StoreFault::Refused(error.to_string()),
        error => StoreFault::Unavailable(error.to_string()),
    }
}

/// Opens the store of a URL and looks whether it can be used: an object is written, read, listed and
/// removed. Where `broker` has data in it, one that takes no writes now still can be read.
pub(super) async fn open(
    url: &str,
    broker: BrokerId,
    has_data: bool,
    config: &Config,
) -> Result<Store> {
    let parsed = StoreUrl::parse(url).context("--store")?;
    let retention_ms =
        config.rollups.last().map_or(0, |tier| tier.kept_ms).max(config.retention_ms);
    let options = StoreOptions {
        accept_weaker_durability: config.cluster.accept_weaker_durability,
        retention: u64::try_from(retention_ms).ok().map(Duration::from_millis),
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

/// The blocks in it, for readers, with a cache on the local disk.
pub(super) fn blobs(
    store: &Store,
    config: &Config,
) -> Result<(SharedBlobs, Option<Arc<PageCache>>)> {
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
    Ok((SharedBlobs::new(store.clone(), Handle::current(), cache.clone()), cache))
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
    let key = format!("{CLUSTERS}{}.json", home.cluster());
    let marker = Marker {
        founded_by: home.name.clone(),
        founded_ms: now_ms,
        version: env!("CARGO_PKG_VERSION").to_owned(),
    };
    let marker = serde_json::to_vec_pretty(&marker).expect("strings are always JSON");
    store.put(&key, marker.into()).await.context("name the cluster in the store")?;
    let found = clusters(store).await?;
    let Some(other) = found.iter().find(|id| id.to_string() != home.cluster()) else {
        return Ok(Claim::Own);
    };
    store.delete(&key).await.context("take the name of a second cluster back")?;
    Ok(Claim::Taken(taken(store, other).await))
}

/// Which cluster a store is of; nothing where none was founded.
pub(super) async fn clusters(store: &Store) -> Result<Vec<StoreId>> {
    let found = store.list(CLUSTERS).await.context("ask the store which cluster it is of")?;
    let id = |key: &str| store_id(key.strip_prefix(CLUSTERS)?.strip_suffix(".json")?);
    Ok(found.iter().filter_map(|object| id(&object.key)).collect())
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
        ([id], true) => Ok((*id, Stage::Joining)),
        ([id], false) => bail!(taken(store, id).await),
        (several, _) => bail!(several_found(store, several)),
    }
}

/// Whether the store is that of the cluster a data directory knows.
pub(super) async fn check_known(store: &Store, home: &Home) -> Result<()> {
    let found = clusters(store).await?;
    let is_own = |id: &StoreId| id.to_string() == home.cluster();
    if found.iter().any(is_own) {
        if found.len() > 1 {
            tracing::warn!("{}", several_found(store, &found));
        }
        return Ok(());
    }
    let what = match found.first() {
        Some(other) => format!("it is the store of cluster {other}"),
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

/// Writes the name of the cluster anew as it is, for ever: Redis forgets what is old.
pub(super) async fn keep_name(store: Store, home: Home) {
    const EVERY: Duration = Duration::from_secs(60 * 60);
    let key = format!("{CLUSTERS}{}.json", home.cluster());
    let forgets =
        StoreUrl::parse(&home.store).is_ok_and(|url| matches!(url.kind, StoreKind::Redis(_)));
    if !forgets {
        return;
    }
    loop {
        let renewed = async {
            let marker = store.get(&key).await?;
            store.put(&key, marker).await
        };
        if let Err(error) = renewed.await {
            tracing::warn!(%error, "the name of the cluster in the store is not renewed now");
        }
        tokio::time::sleep(EVERY).await;
    }
}

async fn taken(store: &Store, id: &StoreId) -> String {
    let founded_by = match store.get(&format!("{CLUSTERS}{id}.json")).await {
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

fn several_found(store: &Store, several: &[StoreId]) -> String {
    let ids: Vec<String> = several.iter().map(ToString::to_string).collect();
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
        assert_eq!(clusters(&store).await.expect("readable"), [StoreId([1; 16])]);
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
        let store = SharedStore(memory().await);
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
            let StoreFault::Refused(words) = fault(refused(refusal)) else { panic!("{refusal:?}") };
            assert!(words.contains(refusal.remedy()), "{words}");
        }
        let busy = StoreError::Busy { action: "write", key: "a".to_owned(), why: "503".to_owned() };
        assert!(matches!(fault(busy), StoreFault::Unavailable(_)));
    }
}
