//! The whole engine against a naive model: a map from series and time to the first value.

use std::collections::BTreeMap;
use std::sync::Arc;

use blockstore::{Blobs, BlockFormat, DiskBlobs, MemoryDisk};
use metricstore::{
    Admission, BlockSource, FlushPlan, HeadSnapshot, LogDecoder, LogEncoder, MetricBlock,
    MetricFormat, Registry, ResolvedBatch, Selected, Shard,
};
use model::{DEFAULT_TENANT, Labels, Limits, MatchOp, Matcher, MetricBatch, TimeRange};
use proptest::prelude::*;

const SHARDS: usize = 2;
const HOUR_MS: i64 = 3_600_000;

/// One engine as a broker would drive it, and the model beside it.
struct Engine {
    format: MetricFormat,
    registry: Registry,
    shards: Vec<Shard>,
    encoder: LogEncoder,
    log: Vec<Vec<u8>>,
    blobs: DiskBlobs,
    blocks: Vec<BlockSource>,
    model: BTreeMap<(Labels, i64), u64>,
}

impl Engine {
    fn new() -> Self {
        Engine {
            format: MetricFormat::new(7),
            registry: Registry::new(7),
            shards: (0..SHARDS).map(|index| Shard::new(index, SHARDS)).collect(),
            encoder: LogEncoder::new(),
            log: Vec::new(),
            blobs: DiskBlobs::open(Arc::new(MemoryDisk::new())).expect("memory"),
            blocks: Vec::new(),
            model: BTreeMap::new(),
        }
    }

    fn append(&mut self, rows: &[(u8, i64, f64)]) {
        let mut batch = MetricBatch::default();
        for &(series, t_ms, value) in rows {
            let labels = labels(series);
            batch.push(&labels, t_ms, value);
            self.model.entry((labels, t_ms)).or_insert(value.to_bits());
        }
        let mut resolved = ResolvedBatch::default();
        let limits = Limits::default();
        let admission = Admission { limits: &limits, now_ms: 100 * HOUR_MS, oldest_ms: i64::MIN };
        self.registry.resolve(
            DEFAULT_TENANT,
            &batch,
            SHARDS,
            admission,
            &|_, bytes| Labels::from_packed(bytes).map_err(|error| error.to_string()),
            &mut resolved,
        );
        assert_eq!(resolved.rejects, []);
        let mut payload = Vec::new();
        self.encoder.encode(&resolved, &self.registry, &mut payload);
        self.log.push(payload);
        self.apply(&resolved);
    }

    fn apply(&mut self, resolved: &ResolvedBatch) {
        for (shard, rows) in self.shards.iter_mut().zip(&resolved.shards) {
            let outcome = shard.append(rows);
            let sum = outcome.appended + outcome.duplicates_equal + outcome.conflicts;
            assert_eq!(sum, rows.len() as u64);
        }
    }

    fn cut(&mut self) {
        for shard in &mut self.shards {
            shard.cut();
        }
    }

    /// Writes what was cut into blocks; drops it from the heads only if `drop` is set.
    fn flush(&mut self, drop: bool) {
        for shard in &mut self.shards {
            let cuts = shard.cuts().to_vec();
            let plan = FlushPlan::new(cuts.clone(), &self.registry);
            for planned in plan.blocks() {
                let key = format!("blocks/{}", self.blocks.len());
                let mut writer = self.blobs.create(&key).expect("memory");
                let summary =
                    plan.write(planned, &self.format, &self.registry, &mut *writer).expect("flush");
                writer.finish().expect("memory");
                let block = open(&self.blobs, &self.format, &key);
                assert_eq!(*block.summary(), summary);
                self.blocks.push(BlockSource { id: Arc::from(key), block });
            }
            if drop {
                cuts.iter().for_each(|cut| shard.drop_flushed(cut.id()));
            }
        }
    }

    fn merge(&mut self) {
        let inputs: Vec<_> = self.blocks.iter().map(|source| Arc::clone(&source.block)).collect();
        let mut writer = self.blobs.create("blocks/merged").expect("memory");
        self.format.merge(&inputs, TimeRange::all(), &mut *writer).expect("merge");
        writer.finish().expect("memory");
        let block = open(&self.blobs, &self.format, "blocks/merged");
        self.blocks = vec![BlockSource { id: Arc::from("blocks/merged"), block }];
        self.blobs.delete("blocks/merged").expect("memory");
    }

    /// Starts again from the log alone, with other ordinals.
    fn replay(&mut self) {
        let registry = Registry::new(8);
        registry.intern(DEFAULT_TENANT, &labels(200), 0);
        let mut decoder = LogDecoder::new();
        let mut resolved = ResolvedBatch::default();
        self.shards = (0..SHARDS).map(|index| Shard::new(index, SHARDS)).collect();
        self.blocks.clear();
        for payload in &self.log.clone() {
            decoder.decode(payload, &registry, SHARDS, 0, &mut resolved).expect("own payload");
            self.apply(&resolved);
        }
        self.registry = registry;
        self.encoder.begin_file();
        self.log.clear();
        // What was replayed is in the new log too, as it would be after a checkpoint.
        let everything: Vec<_> = self.model.iter().map(|((l, t), v)| (l.clone(), *t, *v)).collect();
        let mut batch = ResolvedBatch::default();
        batch.reset(DEFAULT_TENANT, SHARDS);
        for (labels, t_ms, bits) in everything {
            let ordinal = self.registry.intern(DEFAULT_TENANT, &labels, 0);
            batch.shards[ordinal as usize % SHARDS].push(ordinal, t_ms, f64::from_bits(bits));
        }
        let mut payload = Vec::new();
        self.encoder.encode(&batch, &self.registry, &mut payload);
        self.log.push(payload);
    }

    fn select(&self, matchers: &[Matcher], range: TimeRange) -> Selected {
        let series = self.registry.select(DEFAULT_TENANT, matchers);
        let chunks =
            self.shards.iter().map(|shard| shard.select(series.ordinals(), range)).collect();
        let head = HeadSnapshot { tenant: DEFAULT_TENANT, series, chunks };
        Selected::new(&self.registry, head, &self.blocks, matchers, range, 1_000).expect("select")
    }

    fn check(&self, matchers: &[Matcher], range: TimeRange) -> Result<(), TestCaseError> {
        let mut expected: BTreeMap<Labels, Vec<(i64, u64)>> = BTreeMap::new();
        for ((labels, t_ms), bits) in &self.model {
            let matches = |m: &Matcher| m.matches(labels.get(&m.name).unwrap_or(""));
            if range.contains(*t_ms) && matchers.iter().all(matches) {
                expected.entry(labels.clone()).or_default().push((*t_ms, *bits));
            }
        }
        let selected = self.select(matchers, range);
        prop_assert!(selected.labels().is_sorted_by(|a, b| a < b));
        let mut found = BTreeMap::new();
        for (index, labels) in selected.labels().iter().enumerate() {
            let (mut timestamps, mut values) = (Vec::new(), Vec::new());
            selected.read(index, &mut timestamps, &mut values).expect("read");
            let samples: Vec<_> =
                timestamps.into_iter().zip(values.iter().map(|v| v.to_bits())).collect();
            if !samples.is_empty() {
                found.insert(labels.clone(), samples);
            }
            if let Some(chunks) = selected.statistics(index).expect("statistics") {
                let live = values.iter().filter(|v| !model::is_stale_nan(**v)).count();
                let count: u32 = chunks.iter().map(|chunk| chunk.count).sum();
                prop_assert_eq!(count as usize, live);
            }
        }
        prop_assert_eq!(found, expected);
        Ok(())
    }
}

fn open(blobs: &DiskBlobs, format: &MetricFormat, key: &str) -> Arc<MetricBlock> {
    Arc::new(format.open(blobs.open(key).expect("memory")).expect("own block"))
}

fn labels(series: u8) -> Labels {
    let (name, instance) = (format!("metric_{}", series % 3), format!("host-{}", series / 3));
    Labels::from_pairs([("__name__", name.as_str()), ("instance", &instance), ("Z", "first")])
        .expect("labels")
}

#[derive(Debug, Clone)]
enum Step {
    Append(Vec<(u8, i64, f64)>),
    /// A regular run of one series, long enough to seal chunks.
    Run(u8, i64, u16, f64),
    Cut,
    Flush(bool),
    Merge,
    Replay,
    Select(Vec<Matcher>, i64, i64),
}

fn value() -> impl Strategy<Value = f64> {
    prop_oneof![
        4 => (0..5_i32).prop_map(f64::from),
        2 => any::<f64>(),
        1 => Just(f64::from_bits(model::STALE_NAN_BITS)),
        1 => Just(f64::from_bits(0x7ff8_dead_beef_0001)),
    ]
}

fn time() -> impl Strategy<Value = i64> {
    prop_oneof![
        6 => (0..40_i64).prop_map(|step| 2 * HOUR_MS - 300_000 + step * 15_000),
        1 => -5 * HOUR_MS..90 * HOUR_MS,
        1 => Just(-1_000_000_000_000_i64),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let row = (0..9_u8, time(), value());
    let matcher = prop_oneof![
        Just(("__name__", MatchOp::Equal, "metric_1")),
        Just(("__name__", MatchOp::Regex, "metric_[12]")),
        Just(("instance", MatchOp::NotEqual, "host-1")),
        Just(("instance", MatchOp::NotRegex, "host-(0|2)")),
        Just(("absent", MatchOp::Equal, "")),
    ]
    .prop_map(|(name, op, value)| Matcher::new(name, op, value).expect("matcher"));
    prop_oneof![
        8 => proptest::collection::vec(row, 1..40).prop_map(Step::Append),
        3 => (0..9_u8, time(), 1..700_u16, value()).prop_map(|(s, t, n, v)| Step::Run(s, t, n, v)),
        2 => Just(Step::Cut),
        2 => any::<bool>().prop_map(Step::Flush),
        1 => Just(Step::Merge),
        1 => Just(Step::Replay),
        4 => (proptest::collection::vec(matcher, 0..3), time(), time())
            .prop_map(|(m, a, b)| Step::Select(m, a.min(b), a.max(b))),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn engine_answers_as_a_map_would(steps in proptest::collection::vec(step(), 1..24)) {
        let mut engine = Engine::new();
        for step in steps {
            match step {
                Step::Append(rows) => engine.append(&rows),
                Step::Run(series, start, len, value) => {
                    let rows: Vec<_> = (0..i64::from(len))
                        .map(|i| (series, start + i * 1_000, value + (i % 7) as f64))
                        .collect();
                    engine.append(&rows);
                }
                Step::Cut => engine.cut(),
                Step::Flush(drop) => {
                    engine.flush(drop);
                }
                Step::Merge => engine.merge(),
                Step::Replay => engine.replay(),
                Step::Select(matchers, start, end) => {
                    engine.check(&matchers, TimeRange::new(start, end))?;
                }
            }
        }
        engine.check(&[], TimeRange::all())?;
        engine.cut();
        engine.flush(true);
        engine.check(&[], TimeRange::all())?;
        engine.merge();
        engine.check(&[], TimeRange::all())?;
    }
}
