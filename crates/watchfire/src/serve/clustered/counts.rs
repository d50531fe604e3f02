//! What the status of a cluster tells of the store.

use std::sync::Arc;

use broker::cluster::status::{CacheReport, OperationCounts, ReadStores, StoreCounts};
use objects::{Operation, PageCache, Store, StoreCounters};

/// The tier: segments and blocks lie there and nowhere else. The label of the metrics, too.
pub(super) const TIER: &str = "truth";

/// Reads the counters of the store and of the cache before it.
pub(super) fn of(store: &Store, cache: Option<&Arc<PageCache>>) -> ReadStores {
    let (store, cache) = (store.clone(), cache.cloned());
    Box::new(move || {
        let counters = store.counters();
        let cache = cache.as_ref().map(|cache| CacheReport {
            hits: cache.counters().hits(),
            misses: cache.counters().misses(),
            neighbours: cache.counters().from_neighbours(),
            bytes: cache.counters().bytes(),
        });
        vec![StoreCounts {
            store: TIER.to_owned(),
            url: store.url().to_owned(),
            operations: Operation::ALL.map(|operation| one(counters, operation)).to_vec(),
            cache,
        }]
    })
}

fn one(counters: &StoreCounters, operation: Operation) -> OperationCounts {
    OperationCounts {
        operation: operation.as_str(),
        bounds_ms: StoreCounters::BOUNDS_MS,
        buckets: counters.durations(operation).to_vec(),
        errors: counters.errors_by_kind(operation).collect(),
    }
}
