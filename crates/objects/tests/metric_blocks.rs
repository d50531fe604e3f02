//! `metricstore`'s blocks in a shared store: written, merged, opened by another broker, read.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use blockstore::{
    BlobError, Blobs, BlockError, BlockFormat, BlockSet, BlockSummary, Counters, MemoryDisk,
    MergeInput, Orphans,
};
use catalog::{BlockId, BlockMeta, Signal};
use metricstore::{
    BlockSource, Deletes, FlushPlan, HeadSnapshot, MetricFormat, Registry, Selected, Shard,
    ShardRows,
};
use model::{DEFAULT_TENANT, Labels, TimeRange};
use objects::{
    Fault, FaultyStore, MemoryStore, Operation, PageCache, SharedBlobs, Store, StoreOptions,
};

const SERIES: u32 = 40;
const SAMPLES: i64 = 5_000;

fn value(series: u32, t_ms: i64) -> f64 {
    // Nothing that packs well, so that blocks have several chunks of the cache.
    f64::from(series) + ((t_ms.wrapping_mul(0x9e37_79b9_7f4a_7c15_u64 as i64)) >> 20) as f64 / 7.0
}

fn labels(series: u32) -> Labels {
    Labels::from_pairs([("__name__", "m"), ("series", &series.to_string())]).expect("labels")
}

/// Writes what one broker has in its head; the ids and what is in the blocks.
fn flush(blobs: &dyn Blobs, first_id: u64, from_ms: i64) -> Vec<(BlockId, BlockSummary)> {
    let (registry, mut shard) = (Registry::new(1), Shard::new(0, 1));
    let mut rows = ShardRows::default();
    for series in 0..SERIES {
        let ordinal = registry.intern(DEFAULT_TENANT, &labels(series), 0);
        let times = (0..SAMPLES).map(|row| from_ms + row * 1_000);
        times.for_each(|t_ms| rows.push(ordinal, t_ms, value(series, t_ms)));
    }
    shard.append(&rows);
    let plan = FlushPlan::new(shard.cut(), &Deletes::default(), &registry);
    let mut written = Vec::new();
    for planned in plan.blocks() {
        let id = BlockId(first_id + written.len() as u64);
        let mut out = blobs.create(&id.key(Signal::Metrics)).expect("begun");
        let format = MetricFormat::new(1);
        let summary = plan.write(planned, &format, &registry, &mut *out).expect("written");
        out.finish().expect("the store is up");
        written.push((id, summary));
    }
    written
}

fn meta(id: BlockId, summary: &BlockSummary, sequence: u64) -> BlockMeta {
    BlockMeta {
        id,
        tenant: DEFAULT_TENANT,
        signal: Signal::Metrics,
        range: summary.range,
        rows: summary.rows,
        series: summary.series,
        size_bytes: 0,
        level: 0,
        first_sequence: sequence,
        last_sequence: sequence,
        deletes_through: 0,
    }
}

/// As another broker does: its own registry, nothing in its head. Yields the rows it read.
fn check(blocks: &BlockSet<MetricFormat>, from_ms: i64) -> u64 {
    let registry = Registry::new(1);
    let head = HeadSnapshot {
        tenant: DEFAULT_TENANT,
        deletes: Deletes::default(),
        series: registry.select(DEFAULT_TENANT, &[]),
        chunks: Vec::new(),
    };
    let sources: Vec<BlockSource> = blocks
        .snapshot()
        .iter()
        .map(|open| BlockSource {
            id: Arc::from("block"),
            block: Arc::clone(&open.block),
            deletes_through: 0,
        })
        .collect();
    let selected = Selected::new(&registry, head, &sources, &[], TimeRange::all(), usize::MAX);
    let selected = selected.expect("it can be selected");
    assert_eq!(selected.len(), SERIES as usize);
    let mut rows = 0;
    for index in 0..selected.len() {
        let series = selected.labels()[index].get("series").expect("it has one").parse();
        let series: u32 = series.expect("a number");
        let (mut timestamps, mut values) = (Vec::new(), Vec::new());
        selected.read(index, &mut timestamps, &mut values).expect("it can be read");
        for (row, (t_ms, found)) in timestamps.iter().zip(&values).enumerate() {
            assert_eq!(*t_ms, from_ms + row as i64 * 1_000);
            assert_eq!(found.to_bits(), value(series, *t_ms).to_bits());
        }
        rows += timestamps.len() as u64;
    }
    rows
}

#[test]
fn blocks_are_read_by_others_and_stay_when_the_store_is_away() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let is_down = Arc::new(AtomicBool::new(false));
    let switch = Arc::clone(&is_down);
    let decide = move |_: &'static str, _: &str| match switch.load(Relaxed) {
        true => Fault::Before,
        false => Fault::None,
    };
    let faulty = FaultyStore::new(Arc::new(MemoryStore::default()), Arc::new(decide));
    let deadline = Duration::from_millis(100);
    let options =
        StoreOptions { write_deadline: deadline, read_deadline: deadline, ..StoreOptions::cache() };
    let store = Store::with_backend(Arc::new(faulty), "", "shared", options);
    let cached = || {
        let cache = PageCache::open(Arc::new(MemoryDisk::new()), 256 << 20).expect("a good disk");
        SharedBlobs::new(store.clone(), runtime.handle().clone(), Some(Arc::new(cache)))
    };
    let from_ms = 1_000 * 7_200_000;
    let writer = cached();
    let mut metas = Vec::new();
    for half in 0..2 {
        let written = flush(&writer, 1 + half * 100, from_ms + half as i64 * SAMPLES * 1_000);
        metas.extend(written.iter().map(|(id, summary)| meta(*id, summary, half)));
    }
    let open = |metas: &[BlockMeta]| {
        let blobs: Arc<dyn Blobs> = Arc::new(cached());
        let (format, counters) = (MetricFormat::new(1), Arc::<Counters>::default());
        let metas = metas.iter().copied();
        BlockSet::open(blobs, format, Signal::Metrics, metas, Orphans::Quarantine, counters)
    };
    let rows = u64::from(SERIES) * 2 * SAMPLES as u64;
    let (blocks, damaged) = open(&metas).expect("the store is up");
    assert!(damaged.is_empty(), "{damaged:?}");
    assert_eq!(check(&blocks, from_ms), rows);
    let asked = store.counters().requests(Operation::GetRange);
    assert_eq!(check(&blocks, from_ms), rows);
    assert_eq!(store.counters().requests(Operation::GetRange), asked, "all of it is cached");

    // While the store is away nothing can be opened, and nothing is taken for damaged.
    is_down.store(true, Relaxed);
    match open(&metas) {
        Err(BlockError::Blob(BlobError::Unavailable { .. })) => {}
        Err(error) => panic!("{error}"),
        Ok((_, damaged)) => panic!("opened without a store, and set aside: {damaged:?}"),
    }
    assert_eq!(check(&blocks, from_ms), rows, "what is cached can be read");
    is_down.store(false, Relaxed);
    let (_, damaged) = open(&metas).expect("the store is up again");
    assert!(damaged.is_empty(), "{damaged:?}");

    // A merge reads and writes there too.
    let inputs: Vec<_> = blocks
        .snapshot()
        .iter()
        .map(|open| MergeInput { block: Arc::clone(&open.block), deletes: Vec::new() })
        .collect();
    let id = BlockId(900);
    let mut out = writer.create(&id.key(Signal::Metrics)).expect("begun");
    let format = MetricFormat::new(1);
    let summary = format.merge(&inputs, TimeRange::all(), 1, &mut *out).expect("merged");
    out.finish().expect("the store is up");
    for meta in &metas {
        writer.delete(&meta.id.key(Signal::Metrics)).expect("the store is up");
    }
    let (blocks, damaged) = open(&[meta(id, &summary, 0)]).expect("the store is up");
    assert!(damaged.is_empty(), "{damaged:?}");
    assert_eq!(check(&blocks, from_ms), rows);
}
