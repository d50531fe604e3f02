//! The contract of every store, for those that need no other program. `tests/stores` runs it on the
//! others.

#[path = "../../../tests/stores/src/contract.rs"]
mod contract;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use objects::{Fault, FaultyStore, MemoryStore, Operation, Purpose, Store, StoreOptions, StoreUrl};

fn options() -> StoreOptions {
    StoreOptions { first_pause: Duration::from_millis(1), ..StoreOptions::cache() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory() {
    let url = StoreUrl::parse("memory://some/prefix").expect("a URL");
    let store = Store::open(&url, options()).await.expect("it is always there");
    contract::check(&store).await.expect("the contract holds");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn directory() {
    let directory = tempfile::tempdir().expect("a directory");
    let url = format!("file://{}/made/by/open", directory.path().display());
    let url = StoreUrl::parse(&url).expect("a URL");
    let options = StoreOptions { purpose: Purpose::Truth, ..options() };
    let store = Store::open(&url, options).await.expect("it can be made");
    contract::check(&store).await.expect("the contract holds");
}

/// A fifth of all requests fails, and whoever asks does not notice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn faulty() {
    let asked = AtomicU64::new(7);
    let decide = move |_: &'static str, _: &str| {
        let state = asked.fetch_add(0x9e37_79b9_7f4a_7c15, Relaxed);
        let chance = (state ^ (state >> 31)).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 32;
        match chance % 15 {
            0 => Fault::Before,
            1 => Fault::After,
            2 => Fault::Busy,
            _ => Fault::None,
        }
    };
    let faulty = FaultyStore::new(Arc::new(MemoryStore::default()), Arc::new(decide));
    let store = Store::with_backend(Arc::new(faulty), "p", "faulty", options());
    contract::check(&store).await.expect("the contract holds");
    let retries: u64 = Operation::ALL.iter().map(|kind| store.counters().retries(*kind)).sum();
    assert!(retries > 300, "{retries} attempts failed");
    assert_eq!(store.counters().errors(Operation::Put), 0);
}

#[tokio::test]
async fn what_can_lose_writes_is_no_truth_without_consent() {
    for url in ["memory://", "redis://h", "redis+cluster://h,i?wait=2"] {
        let parsed = StoreUrl::parse(url).expect("a URL");
        let refused = Store::open(&parsed, StoreOptions::truth()).await.expect_err(url).to_string();
        for part in ["--accept-weaker-durability", "as a cache", url] {
            let part = part.split('?').next().expect("there is a first part");
            assert!(refused.contains(part.split(',').next().expect("one")), "{url}: {refused}");
        }
        let accepted = StoreOptions { accept_weaker_durability: true, ..StoreOptions::truth() };
        Store::open(&parsed, accepted).await.expect("it was accepted");
        Store::open(&parsed, StoreOptions::cache()).await.expect("a cache may lose everything");
    }
    let refused = StoreUrl::parse("redis://h").expect("a URL");
    let refused = Store::open(&refused, StoreOptions::truth()).await.expect_err("no truth");
    assert!(refused.to_string().contains("a replica is promoted"), "{refused}");
}
