//! What the status of a cluster tells of the stores.

use std::sync::Arc;

use broker::cluster::status::{
    CacheReport, OperationCounts, ReadStores, SHARED_CACHE, StoreCounts,
};
use objects::{Operation, PageCache, RedisCache, Store, StoreCounters};
use wire::text_encode::TextEncoder;

use super::store::Stores;

/// The tier: segments and blocks lie there and nowhere else. The label of the metrics, too.
const TRUTH: &str = "truth";
/// The tiers where segments have a store of their own.
const BLOCKS: &str = "blocks";
const SEGMENTS: &str = "segments";

/// The stores, each with the name of its tier.
fn tiers(stores: &Stores) -> Vec<(&'static str, Store)> {
    let blocks = stores.blocks.clone();
    match &stores.segments {
        None => vec![(TRUTH, blocks)],
        Some(segments) => vec![(BLOCKS, blocks), (SEGMENTS, segments.clone())],
    }
}

/// The caches before the store of the blocks.
#[derive(Clone)]
pub(super) struct Caches {
    /// On the local disk.
    pub(super) own: Option<Arc<PageCache>>,
    /// Behind that, of all brokers.
    pub(super) shared: Option<RedisCache>,
}

/// Writes the counters of the stores and of the caches in Prometheus' text format.
pub(super) fn render(stores: &Stores, caches: &Caches, out: &mut TextEncoder<'_>) {
    let tiers = tiers(stores);
    let mut counters: Vec<_> =
        tiers.iter().map(|(tier, store)| (*tier, store.counters())).collect();
    counters.extend(caches.shared.as_ref().map(|shared| (SHARED_CACHE, shared.requests())));
    StoreCounters::render(&counters, out);
    if let Some(cache) = &caches.own {
        cache.counters().render(out);
    }
    if let Some(shared) = &caches.shared {
        shared.render(out);
    }
}

/// Reads the counters of the stores and of the caches before the blocks.
pub(super) fn of(stores: &Stores, caches: &Caches) -> ReadStores {
    let (tiers, Caches { own: cache, shared }) = (tiers(stores), caches.clone());
    Box::new(move || {
        let cache = cache.as_ref().map(|cache| CacheReport {
            hits: cache.counters().hits(),
            misses: cache.counters().misses(),
            neighbours: cache.counters().from_neighbours(),
            bytes: cache.counters().bytes(),
        });
        let count = |(place, (tier, store)): (usize, &(&'static str, Store))| StoreCounts {
            store: (*tier).to_owned(),
            url: store.url().to_owned(),
            operations: Operation::ALL.map(|operation| one(store.counters(), operation)).to_vec(),
            // The first is that of the blocks.
            cache: cache.filter(|_| place == 0),
            away: Vec::new(),
        };
        let mut told: Vec<StoreCounts> = tiers.iter().enumerate().map(count).collect();
        told.extend(shared.as_ref().map(of_shared));
        told
    })
}

fn of_shared(shared: &RedisCache) -> StoreCounts {
    let (hits, misses) = shared.hits_and_misses();
    let operations = [Operation::Get, Operation::Put, Operation::Delete];
    StoreCounts {
        store: SHARED_CACHE.to_owned(),
        url: shared.url().to_owned(),
        operations: operations.map(|operation| one(shared.requests(), operation)).to_vec(),
        cache: Some(CacheReport { hits, misses, neighbours: 0, bytes: 0 }),
        away: shared
            .away()
            .into_iter()
            .map(|node| format!("{}: {}", node.address, node.why))
            .collect(),
    }
}

fn one(counters: &StoreCounters, operation: Operation) -> OperationCounts {
    OperationCounts {
        operation: operation.as_str(),
        bounds_ms: StoreCounters::BOUNDS_MS,
        buckets: counters.durations(operation).to_vec(),
        errors: counters.errors_by_kind(operation).collect(),
    }
}
