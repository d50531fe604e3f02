//! Blocks at the edges of their layout: long series, several tenants, conflicts, label queries.

use std::sync::Arc;

use blockstore::{Blobs, BlockFormat, DiskBlobs, MemoryDisk, MergeInput, MergePart};
use catalog::{LabelCondition, Signal, Tombstone};
use metricstore::{
    BlockSource, Delete, Deletes, FlushPlan, HeadLabels, HeadSnapshot, LabelQuery, MetricBlock,
    MetricError, MetricFormat, Registry, Selected, Shard, ShardRows,
};
use model::{DEFAULT_TENANT, Labels, MatchOp, Matcher, TenantId, TimeRange};

const HOUR_MS: i64 = 3_600_000;

fn labels(name: &str, host: &str) -> Labels {
    Labels::from_pairs([("__name__", name), ("host", host)]).expect("labels")
}

struct Store {
    registry: Registry,
    shard: Shard,
    blobs: DiskBlobs,
    written: usize,
}

impl Store {
    fn new() -> Self {
        Store {
            registry: Registry::new(1),
            shard: Shard::new(0, 1),
            blobs: DiskBlobs::open(Arc::new(MemoryDisk::new())).expect("memory"),
            written: 0,
        }
    }

    fn append(&mut self, tenant: TenantId, labels: &Labels, samples: &[(i64, f64)]) {
        let ordinal = self.registry.intern(tenant, labels, 0);
        let mut rows = ShardRows::default();
        samples.iter().for_each(|&(t_ms, value)| rows.push(ordinal, t_ms, value));
        self.shard.append(&rows);
    }

    /// Writes everything into blocks, by tenant and window.
    fn flush(&mut self) -> Vec<(TenantId, Arc<MetricBlock>)> {
        let cuts = self.shard.cut();
        let id = cuts[0].id();
        let plan = FlushPlan::new(cuts, &Deletes::default(), &self.registry);
        let mut blocks = Vec::new();
        for planned in plan.blocks() {
            let key = format!("blocks/{}", self.written);
            self.written += 1;
            let mut out = self.blobs.create(&key).expect("memory");
            let summary = plan
                .write(planned, &MetricFormat::new(1), &self.registry, &mut *out)
                .expect("flush");
            out.finish().expect("memory");
            assert!(planned.window().contains(summary.range.start_ms));
            assert!(planned.window().contains(summary.range.end_ms - 1));
            blocks.push((planned.tenant(), self.open(&key)));
        }
        self.shard.drop_flushed(id);
        blocks
    }

    fn merge(&mut self, inputs: &[Arc<MetricBlock>], keep: TimeRange) -> Arc<MetricBlock> {
        let key = format!("blocks/{}", self.written);
        self.written += 1;
        let mut out = self.blobs.create(&key).expect("memory");
        let input =
            |block: &Arc<MetricBlock>| MergeInput { block: Arc::clone(block), deletes: Vec::new() };
        let inputs: Vec<_> = inputs.iter().map(input).collect();
        MetricFormat::new(1).merge(&inputs, keep, 1, &mut *out).expect("merge");
        out.finish().expect("memory");
        self.open(&key)
    }

    fn open(&self, key: &str) -> Arc<MetricBlock> {
        Arc::new(MetricFormat::new(1).open(self.blobs.open(key).expect("memory")).expect("open"))
    }

    fn select(&self, blocks: &[Arc<MetricBlock>], max: usize) -> Result<Selected, MetricError> {
        let head = HeadSnapshot {
            tenant: DEFAULT_TENANT,
            deletes: Deletes::default(),
            series: self.registry.select(DEFAULT_TENANT, &[]),
            chunks: Vec::new(),
        };
        Selected::new(&self.registry, head, &sources(blocks), &[], TimeRange::all(), max)
    }
}

#[test]
fn a_large_flush_is_written_in_parts_that_hold_the_same() {
    let mut store = Store::new();
    const SERIES: usize = 400;
    for number in 0..SERIES {
        let text = number.to_string();
        let labels = Labels::from_pairs([("__name__", "m"), ("number", text.as_str())]);
        let samples: Vec<(i64, f64)> = (0..200).map(|t| (t * 1_000, (t * 7 % 13) as f64)).collect();
        store.append(DEFAULT_TENANT, &labels.expect("valid"), &samples);
    }
    let cuts = store.shard.cut();
    let bytes: usize = cuts.iter().map(metricstore::CutData::bytes).sum();
    let plan = FlushPlan::new(cuts, &Deletes::default(), &store.registry).in_parts(bytes / 4 + 1);
    assert_eq!(plan.blocks().len(), 4);
    let (mut rows, mut series) = (0, 0);
    for planned in plan.blocks() {
        let mut out = store.blobs.create("blocks/part").expect("memory");
        let format = MetricFormat::new(1);
        let summary =
            plan.write(planned, &format, &store.registry, &mut *out).expect("it is written");
        assert!(out.position() < bytes as u64 / 4, "{} of {bytes}", out.position());
        rows += summary.rows;
        series += summary.series;
    }
    assert_eq!((rows, series), (200 * SERIES as u64, SERIES as u64));
    // One series is never in two.
    let plan = plan.in_parts(1);
    assert_eq!(plan.blocks().len(), SERIES);
}

fn sources(blocks: &[Arc<MetricBlock>]) -> Vec<BlockSource> {
    let source = |block: &Arc<MetricBlock>| BlockSource {
        id: Arc::from("block"),
        block: Arc::clone(block),
        deletes_through: 0,
    };
    blocks.iter().map(source).collect()
}

/// Selections, cuts and snapshots of heads are read by many threads.
const _: () = {
    const fn is_shared<T: Send + Sync>() {}
    is_shared::<Selected>();
    is_shared::<metricstore::CutData>();
    is_shared::<metricstore::HeadChunks>();
    is_shared::<Registry>();
};

fn read(selected: &Selected, index: usize) -> Vec<(i64, u64)> {
    let (mut timestamps, mut values) = (Vec::new(), Vec::new());
    selected.read(index, &mut timestamps, &mut values).expect("read");
    timestamps.into_iter().zip(values.iter().map(|value| value.to_bits())).collect()
}

#[test]
fn a_series_longer_than_a_group_continues_in_the_next_one() {
    let mut store = Store::new();
    let mut state = 1_u64;
    let long: Vec<(i64, f64)> = (0..140_000)
        .map(|row| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (row * 10, f64::from_bits(state >> 2))
        })
        .collect();
    store.append(DEFAULT_TENANT, &labels("a", "1"), &[(1, 1.0)]);
    store.append(DEFAULT_TENANT, &labels("b", "1"), &long);
    store.append(DEFAULT_TENANT, &labels("c", "1"), &[(1, 3.0)]);
    let block = Arc::clone(&store.flush()[0].1);
    let merged = store.merge(std::slice::from_ref(&block), TimeRange::new(1_000, 101_000));
    let expected: Vec<_> = long.iter().map(|(t, v)| (*t, v.to_bits())).collect();
    let selected = store.select(&[block], 3).expect("select");
    assert_eq!(selected.len(), 3);
    assert!(read(&selected, 1) == expected, "samples of the long series");
    assert_eq!(read(&selected, 0), [(1, 1.0_f64.to_bits())]);
    assert_eq!(read(&selected, 2), [(1, 3.0_f64.to_bits())]);
    let selected = store.select(&[merged], 3).expect("select");
    assert_eq!(selected.labels(), [labels("b", "1")]);
    assert!(read(&selected, 0) == expected[100..10_100], "samples kept of the long series");
}

#[test]
fn blocks_are_apart_by_tenant_and_window() {
    let mut store = Store::new();
    let other = TenantId(7);
    store.append(DEFAULT_TENANT, &labels("up", "1"), &[(0, 1.0), (2 * HOUR_MS, 2.0)]);
    store.append(other, &labels("up", "1"), &[(1, 3.0), (-1, 4.0), (900 * HOUR_MS, 5.0)]);
    let blocks = store.flush();
    let found: Vec<_> =
        blocks.iter().map(|(t, b)| (t.0, b.range().start_ms, b.summary().rows)).collect();
    assert_eq!(
        found,
        [(0, 0, 1), (0, 2 * HOUR_MS, 1), (7, -1, 1), (7, 1, 1), (7, 900 * HOUR_MS, 1)]
    );
    assert_eq!(store.registry.tenants(), [DEFAULT_TENANT, other]);
    assert_eq!(store.registry.cardinality(other, 10).series, 1);
}

#[test]
fn the_first_commit_wins_over_blocks_and_conflicts_are_counted() {
    let mut store = Store::new();
    let up = labels("up", "1");
    store.append(DEFAULT_TENANT, &up, &[(1_000, 1.0), (2_000, 2.0)]);
    let first = Arc::clone(&store.flush()[0].1);
    store.append(DEFAULT_TENANT, &up, &[(2_000, 9.0), (1_000, 1.0), (1_500, 5.0)]);
    let second = Arc::clone(&store.flush()[0].1);
    let blocks = [first, second];
    let expected =
        [(1_000, 1.0), (1_500, 5.0), (2_000, 2.0)].map(|(t, v): (i64, f64)| (t, v.to_bits()));
    assert_eq!(read(&store.select(&blocks, 1).expect("select"), 0), expected);
    let merged = store.merge(&blocks, TimeRange::all());
    assert_eq!((merged.summary().rows, merged.summary().conflicts), (3, 1));
    let selected = store.select(&[merged], 1).expect("select");
    assert_eq!(read(&selected, 0), expected);
}

#[test]
fn a_merge_in_parts_writes_what_it_writes_at_once() {
    // A part goes on until a group is complete.
    const SERIES: usize = 9_000;
    let mut store = Store::new();
    let mut inputs = Vec::new();
    for round in 0..2 {
        for number in (round..SERIES).step_by(1 + round) {
            // The same time twice, with another value.
            let samples = [(1_000, round as f64), (2_000 + round as i64, 1.0)];
            store.append(DEFAULT_TENANT, &labels("m", &number.to_string()), &samples);
        }
        inputs.extend(store.flush().into_iter().map(|(_, block)| block));
    }
    // Conflicts of inputs are borne on, once.
    let whole = store.merge(&inputs[..], TimeRange::all());
    assert_eq!((whole.summary().series, whole.summary().conflicts), (9_000, 4_500));
    inputs = vec![whole];
    let input =
        |block: &Arc<MetricBlock>| MergeInput { block: Arc::clone(block), deletes: Vec::new() };
    let merge_inputs: Vec<_> = inputs.iter().map(input).collect();
    let (mut parts, mut conflicts) = (Vec::new(), 0);
    let mut part = MergePart { behind: None, most_bytes: 100 };
    loop {
        let key = format!("blocks/part-{}", parts.len());
        let mut out = store.blobs.create(&key).expect("memory");
        let written =
            MetricFormat::new(1).merge_part(&merge_inputs, TimeRange::all(), 5, &part, &mut *out);
        let (summary, last) = written.expect("merge");
        out.finish().expect("memory");
        conflicts += summary.conflicts;
        parts.push(store.open(&key));
        match last {
            Some(_) => part.behind = last,
            None => break,
        }
    }
    assert!(parts.len() > 2, "{}", parts.len());
    assert_eq!(conflicts, 4_500);
    let (before, after) = (
        store.select(&inputs, SERIES).expect("select"),
        store.select(&parts, SERIES).expect("select"),
    );
    assert_eq!(after.labels(), before.labels());
    for series in (0..SERIES).step_by(97) {
        assert_eq!(read(&after, series), read(&before, series));
    }
}

#[test]
fn label_queries_see_head_and_blocks() {
    let mut store = Store::new();
    store.append(DEFAULT_TENANT, &labels("up", "old"), &[(0, 1.0)]);
    store.append(DEFAULT_TENANT, &labels("load", "old"), &[(0, 1.0)]);
    let blocks: Vec<_> = store.flush().into_iter().map(|(_, block)| block).collect();
    let idle = store.registry.idle(10 * HOUR_MS, HOUR_MS);
    let idle = store.shard.without_samples(&idle);
    assert_eq!(store.registry.release(&idle, 10 * HOUR_MS, HOUR_MS), 2);
    store.append(DEFAULT_TENANT, &labels("up", "new"), &[(9 * HOUR_MS, 1.0)]);
    let sources = sources(&blocks);
    let up = [Matcher::new("__name__", MatchOp::Equal, "up").expect("matcher")];
    let (head, none) = (HeadLabels::new(&store.registry, DEFAULT_TENANT), Deletes::default());
    let query = LabelQuery {
        head: Some(&head),
        deletes: &none,
        blocks: &sources,
        matchers: &up,
        range: TimeRange::all(),
        limit: 0,
    };
    assert_eq!(query.values("host"), ["new", "old"]);
    assert_eq!(query.names(), ["__name__", "host"]);
    assert_eq!(LabelQuery { limit: 1, ..query }.names(), ["__name__"]);
    assert_eq!(
        LabelQuery { range: TimeRange::new(HOUR_MS, 2 * HOUR_MS), ..query }.values("host"),
        ["new"]
    );
    assert_eq!(
        LabelQuery { head: None, matchers: &[], ..query }.values("__name__"),
        ["load", "up"]
    );

    let error = store.select(&blocks, 1).err().expect("two series are more than one");
    assert!(error.to_string().contains("limits.max_query_series (1)"), "{error}");
}

/// The delete number 1: all of a metric.
fn delete_metric(name: &str, range: TimeRange) -> Deletes {
    let condition =
        LabelCondition { name: "__name__".to_owned(), op: MatchOp::Equal, value: name.to_owned() };
    let tombstone = Tombstone {
        number: 1,
        tenant: DEFAULT_TENANT,
        signal: Signal::Metrics,
        range,
        at_ms: 0,
        selectors: vec![vec![condition]],
    };
    let delete = Delete::new(Arc::new(tombstone)).expect("no pattern");
    Deletes::new(vec![Arc::new(delete)])
}

/// Names, values of `host` and values of `__name__`, of head and blocks.
fn listed(store: &Store, blocks: &[BlockSource], deletes: &Deletes) -> [Vec<String>; 3] {
    let tenant = DEFAULT_TENANT;
    let series = deletes.concerned(&store.registry, tenant, &[]);
    let chunks = vec![store.shard.select(series.ordinals(), TimeRange::all())];
    let concerned = HeadSnapshot { tenant, deletes: deletes.clone(), series, chunks };
    let head = HeadLabels::without_deleted(&store.registry, &concerned);
    let query = LabelQuery {
        head: Some(&head),
        deletes,
        blocks,
        matchers: &[],
        range: TimeRange::all(),
        limit: 0,
    };
    [query.names(), query.values("host"), query.values("__name__")]
}

#[test]
fn names_and_values_that_only_deleted_series_bear_are_gone() {
    let mut store = Store::new();
    let odd = Labels::from_pairs([("__name__", "up"), ("host", "b"), ("odd", "x")]);
    let odd = odd.expect("labels");
    store.append(DEFAULT_TENANT, &labels("up", "a"), &[(0, 1.0), (9, 1.0)]);
    store.append(DEFAULT_TENANT, &labels("load", "a"), &[(0, 1.0)]);
    store.append(DEFAULT_TENANT, &odd, &[(5, 1.0)]);
    let all = [vec!["__name__", "host", "odd"], vec!["a", "b"], vec!["load", "up"]];
    let left = [vec!["__name__", "host"], vec!["a"], vec!["load"]];
    let whole = delete_metric("up", TimeRange::all());
    let part = delete_metric("up", TimeRange::new(5, 100));
    assert_eq!(listed(&store, &[], &Deletes::default()), all);
    assert_eq!(listed(&store, &[], &whole), left, "in the head");
    let blocks: Vec<_> = store.flush().into_iter().map(|(_, block)| block).collect();
    let mut sources = sources(&blocks);
    assert_eq!(listed(&store, &sources, &whole), left, "in a block, and the head is empty");
    // The chunk of up{host="a"} reaches into what is left.
    let up_left = [vec!["__name__", "host"], vec!["a"], vec!["load", "up"]];
    assert_eq!(listed(&store, &sources, &part), up_left);
    // The block has done it; what is in no block is younger than it.
    sources[0].deletes_through = 1;
    assert_eq!(listed(&store, &sources, &whole), all);
    sources[0].deletes_through = 0;
    store.shard.begin_after_delete(1);
    store.append(DEFAULT_TENANT, &odd, &[(5, 2.0)]);
    assert_eq!(listed(&store, &sources, &whole), [all[0].clone(), all[1].clone(), all[2].clone()]);
}
