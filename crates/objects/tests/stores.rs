//! Every store does the same, also when it fails.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use objects::{
    Backend, Fault, FaultyStore, HttpClient, HttpConnector, MemoryStore, Store, StoreError,
    StoreOptions, StoreUrl,
};

/// For stores that speak no HTTP.
#[derive(Debug, Clone)]
struct NoHttp;

impl HttpConnector for NoHttp {
    fn connect(&self, _: &object_store::ClientOptions) -> object_store::Result<HttpClient> {
        unreachable!("nothing here speaks HTTP")
    }
}

fn runtime() -> tokio::runtime::Runtime {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all().build().expect("a runtime")
}

async fn behaves(store: &Store) {
    let data = Bytes::from_static(b"0123456789");
    store.put("a/1", data.clone()).await.expect("written");
    store.put("a/2", Bytes::new()).await.expect("written, empty");
    store.put("b/1", data.clone()).await.expect("written");
    store.put("a/1", data.clone()).await.expect("the same once more");
    assert_eq!(store.get("a/1").await.expect("read"), data);
    assert_eq!(store.get_range("a/1", 2..5).await.expect("a part"), "234");
    assert!(store.get_range("a/1", 5..20).await.is_err(), "there is no such part");
    assert_eq!(store.size("a/1").await.expect("its size"), 10);
    let keys = |listed: Vec<objects::ObjectInfo>| -> Vec<(String, u64)> {
        listed.into_iter().map(|info| (info.key, info.size_bytes)).collect()
    };
    let listed = keys(store.list("a/").await.expect("listed"));
    assert_eq!(listed, [("a/1".to_owned(), 10), ("a/2".to_owned(), 0)]);
    assert_eq!(store.list("").await.expect("all").len(), 3);
    store.delete("a/1").await.expect("removed");
    store.delete("a/1").await.expect("and again");
    for missing in [store.get("a/1").await, store.get_range("a/1", 0..1).await] {
        assert!(matches!(missing, Err(StoreError::NotFound { .. })), "{missing:?}");
    }
    assert!(matches!(store.size("a/1").await, Err(StoreError::NotFound { .. })));
    store.probe("x").await.expect("it works");
}

#[test]
fn directories_and_memory_behave() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = format!("file://{}/deeper/still", directory.path().display());
    for url in ["memory://", "memory://some/prefix", file.as_str()] {
        let url = StoreUrl::parse(url).expect("a store");
        let store = Store::open(&url, StoreOptions::default(), NoHttp).expect("opened");
        runtime().block_on(behaves(&store));
    }
}

fn faulty(faults: impl Fn(&'static str, u64) -> Fault + Send + Sync + 'static) -> (Store, MemoryStore) {
    let behind = MemoryStore::default();
    let asked = AtomicU64::new(0);
    let decide = Arc::new(move |kind: &'static str, _: &str| {
        faults(kind, asked.fetch_add(1, Ordering::Relaxed))
    });
    let faulty = FaultyStore::new(Arc::new(behind.clone()), decide);
    let options = StoreOptions {
        write_deadline: Duration::from_secs(2),
        read_deadline: Duration::from_secs(2),
        first_pause: Duration::from_millis(10),
    };
    (Store::with_backend(Arc::new(faulty), "", "memory://", options), behind)
}

fn paused() -> tokio::runtime::Runtime {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_time().start_paused(true).build().expect("a runtime")
}

#[test]
fn what_fails_for_a_moment_is_tried_again() {
    for fault in [Fault::Before, Fault::After, Fault::Busy] {
        let (store, _) = faulty(move |_, number| if number % 3 < 2 { fault } else { Fault::None });
        paused().block_on(async {
            store.put("k", Bytes::from_static(b"v")).await.expect("the third attempt");
            assert_eq!(store.get("k").await.expect("likewise"), "v");
            assert_eq!(store.counters().puts.again.load(Ordering::Relaxed), 2);
        });
    }
}

#[test]
fn what_never_ends_ends() {
    let (store, behind) = faulty(|kind, _| match kind {
        "put" => Fault::Late(Duration::from_secs(5)),
        _ => Fault::Hang,
    });
    paused().block_on(async {
        let late = store.put("k", Bytes::from_static(b"v")).await;
        assert!(matches!(late, Err(StoreError::Late { action: "write", .. })), "{late:?}");
        assert!(behind.get("k").await.is_err());
        assert!(matches!(store.get("k").await, Err(StoreError::Late { .. })));
        tokio::time::sleep(Duration::from_secs(5)).await;
        // An orphan: nobody was told that it is there.
        assert_eq!(behind.get("k").await.expect("it arrived"), "v");
    });
}

#[test]
fn what_cannot_succeed_is_not_tried_again() {
    let (store, _) = faulty(|_, _| Fault::Full);
    paused().block_on(async {
        let full = store.put("k", Bytes::from_static(b"v")).await;
        assert!(matches!(full, Err(StoreError::Full { .. })), "{full:?}");
        assert_eq!(store.counters().puts.again.load(Ordering::Relaxed), 0);
    });
    let (store, behind) = faulty(|kind, _| if kind == "get" { Fault::Torn } else { Fault::None });
    paused().block_on(async {
        behind.put("k", Bytes::from_static(b"0123456789")).await.expect("written");
        let torn = store.get_range("k", 0..10).await;
        assert!(matches!(torn, Err(StoreError::Damaged { .. })), "{torn:?}");
    });
    let kinds: BTreeSet<bool> = [StoreError::Settings(String::new()).is_transient()].into();
    assert_eq!(kinds, BTreeSet::from([false]));
}
