//! Where segments lie: with the blocks, or in a store of their own.
//!
//! A segment lives for minutes and every acknowledgement waits for it; a block lives for months and nobody
//! waits. So they may have different stores. Which one an object goes to follows from its key, here and
//! nowhere else: everything above asks one [`ObjectStore`].
//!
//! Where segments lay before is looked at as well: while that is changed, one broker after the other, and
//! for what was not in a block then.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use futures_util::future::join_all;

use super::kept::Place;
use super::store::{self, ObjectStore, StoreCall, StoreFault, StoredObject};

/// Keys of segments begin with it.
const SEGMENTS: &str = "segments/";
/// Below it each store has the names of the clusters that it is of.
const CLUSTERS: &str = "cluster/";

/// Where segments lie, as one broker is told.
#[derive(Clone, Default)]
pub struct SegmentPlaces {
    /// A store of their own; `None`: with the blocks.
    pub apart: Option<SegmentStore>,
    /// Where they lay before, if that was another store than that of the blocks.
    pub former: FormerStore,
}

/// A store for segments alone.
#[derive(Clone)]
pub struct SegmentStore {
    /// The store.
    pub store: Arc<dyn ObjectStore>,
    /// Where it is, without secrets.
    pub url: String,
    /// Drawn at random: the name that it gets if it has none yet.
    pub id: String,
}

/// A store in which segments lay before.
#[derive(Clone, Default)]
pub enum FormerStore {
    /// None is named.
    #[default]
    None,
    /// It can be read.
    At(Arc<dyn ObjectStore>),
    /// It is gone, with what was in it.
    Lost,
}

impl SegmentPlaces {
    /// The store for everything.
    pub(super) fn over(&self, blocks: Arc<dyn ObjectStore>) -> Arc<dyn ObjectStore> {
        let mut segments = vec![Arc::clone(&blocks)];
        if let FormerStore::At(former) = &self.former {
            segments.insert(usize::from(self.apart.is_none()), Arc::clone(former));
        }
        if let Some(apart) = &self.apart {
            segments.insert(0, Arc::clone(&apart.store));
        }
        match segments.len() {
            1 => blocks,
            _ => Arc::new(Tiers { blocks, segments: segments.into() }),
        }
    }
}

/// Two stores or more as one.
struct Tiers {
    blocks: Arc<dyn ObjectStore>,
    /// Where segments are written, and then where some may still lie.
    segments: Arc<[Arc<dyn ObjectStore>]>,
}

impl Tiers {
    fn is_segment(key: &str) -> bool {
        key.starts_with(SEGMENTS)
    }
}

impl ObjectStore for Tiers {
    fn put(&self, key: String, bytes: Bytes) -> StoreCall<()> {
        match Tiers::is_segment(&key) {
            true => self.segments[0].put(key, bytes),
            false => self.blocks.put(key, bytes),
        }
    }

    fn get(&self, key: String) -> StoreCall<Bytes> {
        if !Tiers::is_segment(&key) {
            return self.blocks.get(key);
        }
        let stores = Arc::clone(&self.segments);
        Box::pin(async move {
            // It is nowhere if all say so; one that does not answer may have it.
            let mut fault = StoreFault::NotFound(key.clone());
            for store in &*stores {
                match store.get(key.clone()).await {
                    Ok(bytes) => return Ok(bytes),
                    Err(StoreFault::NotFound(_)) => {}
                    Err(error) if matches!(fault, StoreFault::NotFound(_)) => fault = error,
                    Err(_) => {}
                }
            }
            Err(fault)
        })
    }

    fn delete(&self, key: String) -> StoreCall<()> {
        if !Tiers::is_segment(&key) {
            return self.blocks.delete(key);
        }
        let stores = Arc::clone(&self.segments);
        Box::pin(async move {
            let all = join_all(stores.iter().map(|store| store.delete(key.clone()))).await;
            all.into_iter().collect()
        })
    }

    fn list(&self, prefix: String) -> StoreCall<Vec<StoredObject>> {
        if !Tiers::is_segment(&prefix) {
            return self.blocks.list(prefix);
        }
        let stores = Arc::clone(&self.segments);
        Box::pin(async move {
            let mut found = BTreeMap::new();
            for listed in join_all(stores.iter().map(|store| store.list(prefix.clone()))).await {
                found.extend(listed?.into_iter().map(|object| (object.key, object.size_bytes)));
            }
            let object = |(key, size_bytes)| StoredObject { key, size_bytes };
            Ok(found.into_iter().map(object).collect())
        })
    }
}

/// What a store is to a cluster, as an object in it says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mark {
    /// Its blocks lie here, and its segments unless they have a store of their own.
    Blocks,
    /// Its segments lie here; with the name of the store.
    Segments(String),
}

/// The key of the object that marks a store for a cluster.
pub fn mark_key(cluster: &str, mark: &Mark) -> String {
    match mark {
        Mark::Blocks => format!("{CLUSTERS}{cluster}.json"),
        Mark::Segments(id) => format!("{CLUSTERS}{cluster}.segments-{id}.json"),
    }
}

/// The inverse of [`mark_key`]: the cluster, and what the store is to it.
pub fn mark_of(key: &str) -> Option<(&str, Mark)> {
    let name = key.strip_prefix(CLUSTERS)?.strip_suffix(".json")?;
    match name.split_once(".segments-") {
        Some((cluster, id)) => Some((cluster, Mark::Segments(id.to_owned()))),
        None => Some((name, Mark::Blocks)),
    }
}

/// A store for segments, and whether it has its name already.
pub(super) struct Found {
    pub(super) place: Place,
    pub(super) is_marked: bool,
}

/// Which store it is that a broker is told to keep segments in: the one that the cluster knows, if it bears
/// that name, else one of a name of its own.
///
/// # Errors
/// It is another cluster's, or that of the blocks; it does not answer.
pub(super) async fn find(
    apart: &SegmentStore,
    cluster: &str,
    known: Option<&Place>,
) -> Result<Found> {
    let url = &apart.url;
    let mut ids = Vec::new();
    for (of, mark) in marks(&*apart.store, url).await? {
        ensure!(
            of == cluster,
            "the store {url}, which --store-segments names, belongs to cluster {of}: each cluster would \
             remove what the other one wrote. Give another prefix"
        );
        match mark {
            Mark::Blocks => bail!(
                "--store-segments {url} is the store of the blocks: give another store or prefix, or leave it \
                 out to keep both in one"
            ),
            Mark::Segments(id) => ids.push(id),
        }
    }
    if let Some(known) = known.filter(|known| ids.contains(&known.id)) {
        return Ok(Found { place: known.clone(), is_marked: true });
    }
    ids.sort();
    let marked = ids.into_iter().next();
    let is_marked = marked.is_some();
    let id = marked.unwrap_or_else(|| apart.id.clone());
    Ok(Found { place: Place { id, url: url.clone() }, is_marked })
}

/// Gives a store its name, before anybody relies upon it.
///
/// # Errors
/// Another cluster came at the same time; the store does not take it.
pub(super) async fn mark(apart: &SegmentStore, cluster: &str, place: &Place) -> Result<()> {
    let (store, key) = (&*apart.store, mark_key(cluster, &Mark::Segments(place.id.clone())));
    let text = Bytes::from_static(b"{\"holds\": \"segments of this cluster\"}\n");
    store::put(store, &key, &text).await.context("name the cluster in --store-segments")?;
    let other = marks(store, &apart.url).await?.into_iter().find(|(of, _)| of != cluster);
    if let Some((other, _)) = other {
        // Both look after they wrote: not both find themselves alone.
        store.delete(key).await.context("take the name of a second cluster back")?;
        bail!(
            "the store {}, which --store-segments names, belongs to cluster {other}: give another prefix",
            apart.url
        );
    }
    Ok(())
}

/// Whether a store is the one that bore a name.
///
/// # Errors
/// It does not answer.
pub(super) async fn bears(store: &dyn ObjectStore, cluster: &str, id: &str) -> Result<bool> {
    let wanted = (cluster.to_owned(), Mark::Segments(id.to_owned()));
    Ok(marks(store, "--former-store-segments").await?.contains(&wanted))
}

async fn marks(store: &dyn ObjectStore, shown: &str) -> Result<Vec<(String, Mark)>> {
    let listed = store::list(store, CLUSTERS).await;
    let listed = listed.with_context(|| format!("ask {shown} which cluster it is of"))?;
    let mark = |object: &StoredObject| {
        mark_of(&object.key).map(|(cluster, mark)| (cluster.to_owned(), mark))
    };
    Ok(listed.iter().filter_map(mark).collect())
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

    use parking_lot::Mutex;

    use super::*;

    #[derive(Default)]
    struct Fake {
        objects: Mutex<BTreeMap<String, Bytes>>,
        is_away: AtomicBool,
    }

    impl Fake {
        fn keys(&self) -> Vec<String> {
            self.objects.lock().keys().cloned().collect()
        }

        fn answer<T: Send + 'static>(&self, answer: Result<T, StoreFault>) -> StoreCall<T> {
            let away = StoreFault::Unavailable("away".to_owned());
            let answer = if self.is_away.load(Relaxed) { Err(away) } else { answer };
            Box::pin(async { answer })
        }
    }

    impl ObjectStore for Fake {
        fn put(&self, key: String, bytes: Bytes) -> StoreCall<()> {
            if !self.is_away.load(Relaxed) {
                self.objects.lock().insert(key, bytes);
            }
            self.answer(Ok(()))
        }

        fn get(&self, key: String) -> StoreCall<Bytes> {
            let found = self.objects.lock().get(&key).cloned();
            self.answer(found.ok_or(StoreFault::NotFound(key)))
        }

        fn delete(&self, key: String) -> StoreCall<()> {
            if !self.is_away.load(Relaxed) {
                self.objects.lock().remove(&key);
            }
            self.answer(Ok(()))
        }

        fn list(&self, prefix: String) -> StoreCall<Vec<StoredObject>> {
            let object = |key: String| StoredObject { key, size_bytes: 1 };
            let keys = self.keys().into_iter().filter(|key| key.starts_with(&prefix));
            self.answer(Ok(keys.map(object).collect()))
        }
    }

    fn apart(store: &Arc<Fake>, id: &str) -> SegmentStore {
        let (store, id) = (Arc::clone(store) as Arc<dyn ObjectStore>, id.to_owned());
        SegmentStore { store, url: "redis://r/p".to_owned(), id }
    }

    #[tokio::test]
    async fn the_key_says_which_store() {
        let [blocks, fast, old]: [Arc<Fake>; 3] = Default::default();
        let places = SegmentPlaces {
            apart: Some(apart(&fast, "a")),
            former: FormerStore::At(Arc::clone(&old) as Arc<_>),
        };
        let tiers = places.over(Arc::clone(&blocks) as Arc<_>);
        for key in ["segments/1/0-0.seg", "blocks/1", "probe/x"] {
            tiers.put(key.to_owned(), "x".into()).await.expect("put");
        }
        assert_eq!(fast.keys(), ["segments/1/0-0.seg"]);
        assert_eq!(blocks.keys(), ["blocks/1", "probe/x"]);
        // What lies where segments lay before is found there, listed and removed.
        old.put("segments/1/o".to_owned(), "old".into()).await.expect("put");
        blocks.put("segments/1/b".to_owned(), "with blocks".into()).await.expect("put");
        for (key, bytes) in [("segments/1/o", "old"), ("segments/1/b", "with blocks")] {
            assert_eq!(tiers.get(key.to_owned()).await.expect("found"), bytes);
        }
        let listed = tiers.list("segments/".to_owned()).await.expect("listed");
        let keys: Vec<_> = listed.iter().map(|object| object.key.as_str()).collect();
        assert_eq!(keys, ["segments/1/0-0.seg", "segments/1/b", "segments/1/o"]);
        for key in keys {
            tiers.delete(key.to_owned()).await.expect("deleted");
        }
        assert!(fast.keys().is_empty() && old.keys().is_empty());
        assert_eq!(blocks.keys(), ["blocks/1", "probe/x"]);
    }

    #[tokio::test]
    async fn a_segment_is_nowhere_only_if_every_store_says_so() {
        let [blocks, fast]: [Arc<Fake>; 2] = Default::default();
        let places = SegmentPlaces { apart: Some(apart(&fast, "a")), former: FormerStore::None };
        let tiers = places.over(Arc::clone(&blocks) as Arc<_>);
        let key = || "segments/1/s".to_owned();
        assert!(matches!(tiers.get(key()).await, Err(StoreFault::NotFound(_))));
        fast.is_away.store(true, Relaxed);
        assert!(matches!(tiers.get(key()).await, Err(StoreFault::Unavailable(_))));
        assert!(tiers.put(key(), "x".into()).await.is_err(), "it does not go elsewhere");
        assert!(tiers.list("segments/".to_owned()).await.is_err(), "half of a list is none");
        assert!(tiers.delete(key()).await.is_err());
        blocks.put(key(), "x".into()).await.expect("put");
        assert_eq!(tiers.get(key()).await.expect("it is there"), "x");
    }

    #[test]
    fn back_to_one_store() {
        let [blocks, old]: [Arc<Fake>; 2] = Default::default();
        let one: Arc<dyn ObjectStore> = Arc::clone(&blocks) as Arc<_>;
        assert!(Arc::ptr_eq(&SegmentPlaces::default().over(Arc::clone(&one)), &one));
        let former = FormerStore::At(Arc::clone(&old) as Arc<_>);
        let tiers = SegmentPlaces { apart: None, former }.over(one);
        let put = tiers.put("segments/1/s".to_owned(), "x".into());
        futures_util::FutureExt::now_or_never(put).expect("at once").expect("put");
        assert_eq!((blocks.keys().len(), old.keys().len()), (1, 0));
    }

    #[tokio::test]
    async fn a_store_is_known_by_its_name_and_not_by_its_url() {
        let store = Arc::<Fake>::default();
        let first = find(&apart(&store, "a"), "c1", None).await.expect("empty");
        assert!(!first.is_marked && first.place.id == "a");
        mark(&apart(&store, "a"), "c1", &first.place).await.expect("named");
        // Another broker, by another name of the host, with another name drawn.
        let elsewhere = SegmentStore { url: "redis://10.0.0.1/p".to_owned(), ..apart(&store, "b") };
        let again = find(&elsewhere, "c1", Some(&first.place)).await.expect("known");
        assert!(again.is_marked && again.place == first.place);
        assert!(bears(&*store, "c1", "a").await.expect("listed"));
        assert!(!bears(&*store, "c1", "b").await.expect("listed"));
        let told = |error: anyhow::Error| format!("{error:#}");
        let foreign = told(find(&elsewhere, "c2", None).await.err().expect("of another"));
        assert!(foreign.contains("belongs to cluster c1"), "{foreign}");
        let second = Place { id: "z".to_owned(), url: String::new() };
        let raced = told(mark(&elsewhere, "c2", &second).await.expect_err("of another"));
        assert!(raced.contains("belongs to cluster c1"), "{raced}");
        assert!(!bears(&*store, "c2", "z").await.expect("listed"), "it took its name back");
        let key = mark_key("c1", &Mark::Blocks);
        store.put(key, "{}".into()).await.expect("put");
        let same = told(find(&elsewhere, "c1", None).await.err().expect("the blocks'"));
        assert!(same.contains("is the store of the blocks"), "{same}");
    }

    #[test]
    fn marks_are_read_as_they_are_written() {
        for mark in [Mark::Blocks, Mark::Segments("0af3".to_owned())] {
            assert_eq!(mark_of(&mark_key("abab", &mark)), Some(("abab", mark)));
        }
        assert_eq!(mark_of("cluster/abab"), None);
        assert_eq!(mark_of("segments/abab.json"), None);
    }
}
