//! The whole engine against a naive model: a map from series and time to the first value.

mod samples;
mod windows;

use std::collections::BTreeMap;
use std::sync::Arc;

use blockstore::{Blobs, BlockFormat, DiskBlobs, MemoryDisk, MergeInput};
use catalog::{LabelCondition, Signal, Tombstone};
use metricstore::{
    Admission, BlockSource, Delete, Deletes, FlushPlan, HeadLabels, HeadSnapshot, HistogramColumns,
    HistogramRow, LabelQuery, LogDecoder, LogEncoder, MetricBlock, MetricFormat, NewSeries,
    ROLLED_LEVEL, Registry, ResolvedBatch, Selected, Shard,
};
use model::{
    DEFAULT_TENANT, Histogram, Labels, Limits, MatchOp, Matcher, MetricBatch, RollupRow, TimeRange,
};
use proptest::prelude::*;
use samples::{Given, HOUR_MS, Sample, histogram, start, time, value};
use windows::{combine, exact, row_of, window_of};

const SHARDS: usize = 2;
/// Length of the windows of rollups.
const ROLLUP_MS: i64 = 60_000;

/// One engine as a broker would drive it, and the model beside it.
struct Engine {
    format: MetricFormat,
    registry: Registry,
    shards: Vec<Shard>,
    encoder: LogEncoder,
    log: Vec<Logged>,
    blobs: DiskBlobs,
    blocks: Vec<BlockSource>,
    model: BTreeMap<(Labels, i64), Sample>,
    deletes: Vec<Arc<Delete>>,
}

/// A frame of the log.
#[derive(Clone)]
enum Logged {
    Samples(Vec<u8>),
    Delete(u64),
}

impl Engine {
    fn new() -> Self {
        Engine {
            format: MetricFormat::new(7).with_rollups(&[ROLLUP_MS]),
            registry: Registry::new(7),
            shards: (0..SHARDS).map(|index| Shard::new(index, SHARDS)).collect(),
            encoder: LogEncoder::new(),
            log: Vec::new(),
            blobs: DiskBlobs::open(Arc::new(MemoryDisk::new())).expect("memory"),
            blocks: Vec::new(),
            model: BTreeMap::new(),
            deletes: Vec::new(),
        }
    }

    fn last_delete(&self) -> u64 {
        self.deletes.last().map_or(0, |delete| delete.tombstone().number)
    }

    fn deletes(&self) -> Deletes {
        Deletes::new(self.deletes.clone())
    }

    fn delete(&mut self, selectors: Vec<Vec<Matcher>>, range: TimeRange) {
        if range.is_empty() {
            return;
        }
        let is_hit = |labels: &Labels, t_ms: i64| {
            let matches = |m: &Matcher| m.matches(labels.get(&m.name).unwrap_or(""));
            range.contains(t_ms) && selectors.iter().any(|s| s.iter().all(matches))
        };
        self.model.retain(|(labels, t_ms), _| !is_hit(labels, *t_ms));
        let condition =
            |m: &Matcher| LabelCondition { name: m.name.clone(), op: m.op, value: m.value.clone() };
        let number = self.last_delete() + 1;
        let tombstone = Tombstone {
            number,
            tenant: DEFAULT_TENANT,
            signal: Signal::Metrics,
            range,
            at_ms: 0,
            selectors: selectors.iter().map(|s| s.iter().map(condition).collect()).collect(),
        };
        self.deletes.push(Arc::new(Delete::new(Arc::new(tombstone)).expect("own matchers")));
        self.log.push(Logged::Delete(number));
        self.shards.iter_mut().for_each(|shard| shard.begin_after_delete(number));
    }

    fn append(&mut self, rows: &[(u8, i64, Given)]) {
        let mut batch = MetricBatch::default();
        for &(series, t_ms, given) in rows {
            match given {
                Given::Float(value, start_ms) => {
                    batch.push(&labels(series), t_ms, value);
                    batch.set_last_start(start_ms);
                }
                Given::Histogram(number) => {
                    let (start_ms, histogram) = histogram(number);
                    batch.push_histogram(&labels(series), t_ms, start_ms, histogram);
                }
            }
        }
        // In a batch floats come first.
        let is_float = |row: &&(u8, i64, Given)| matches!(row.2, Given::Float(..));
        let (floats, histograms): (Vec<_>, Vec<_>) = rows.iter().partition(is_float);
        for &(series, t_ms, given) in floats.into_iter().chain(histograms) {
            let sample = match given {
                Given::Float(value, start_ms) => Sample::Float { start_ms, bits: value.to_bits() },
                Given::Histogram(number) => {
                    let (start_ms, histogram) = histogram(number);
                    Sample::of(start_ms.unwrap_or(0), &histogram)
                }
            };
            self.model.entry((labels(series), t_ms)).or_insert(sample);
        }
        let mut resolved = ResolvedBatch::default();
        let limits = Limits::default();
        let admission = Admission {
            limits: &limits,
            now_ms: 100 * HOUR_MS,
            oldest_ms: i64::MIN,
            new_series: NewSeries::ANY,
            name: |_, _| String::new(),
        };
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
        self.log.push(Logged::Samples(payload));
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
        let (deletes, deletes_through) = (self.deletes(), self.last_delete());
        for shard in &mut self.shards {
            let cuts = shard.cuts().to_vec();
            let plan = FlushPlan::new(cuts.clone(), &deletes, &self.registry);
            for planned in plan.blocks() {
                let key = format!("blocks/{}", self.blocks.len());
                let mut writer = self.blobs.create(&key).expect("memory");
                let summary =
                    plan.write(planned, &self.format, &self.registry, &mut *writer).expect("flush");
                writer.finish().expect("memory");
                let block = open(&self.blobs, &self.format, &key);
                assert_eq!(*block.summary(), summary);
                self.blocks.push(BlockSource { id: Arc::from(key), block, deletes_through });
            }
            if drop {
                cuts.iter().for_each(|cut| shard.drop_flushed(cut.id()));
            }
        }
    }

    fn merge(&mut self, level: u8) {
        let input = |source: &BlockSource| {
            let mut deletes = self.deletes.clone();
            deletes.retain(|delete| delete.tombstone().number > source.deletes_through);
            let is_touched = source.block.is_touched_by(&deletes).expect("own block");
            // What is not touched may be taken for settled.
            let deletes = if is_touched { deletes } else { Vec::new() };
            MergeInput { block: Arc::clone(&source.block), deletes }
        };
        let inputs: Vec<_> = self.blocks.iter().map(input).collect();
        let mut writer = self.blobs.create("blocks/merged").expect("memory");
        self.format.merge(&inputs, TimeRange::all(), level, &mut *writer).expect("merge");
        writer.finish().expect("memory");
        let block = open(&self.blobs, &self.format, "blocks/merged");
        let (id, deletes_through) = (Arc::from("blocks/merged"), self.last_delete());
        self.blocks = vec![BlockSource { id, block, deletes_through }];
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
        for logged in &self.log.clone() {
            match logged {
                Logged::Samples(payload) => {
                    decoder
                        .decode(payload, &registry, SHARDS, 0, &mut resolved)
                        .expect("own payload");
                    self.apply(&resolved);
                }
                Logged::Delete(number) => {
                    self.shards.iter_mut().for_each(|shard| shard.begin_after_delete(*number));
                }
            }
        }
        self.registry = registry;
        self.encoder.begin_file();
        self.log = vec![Logged::Delete(self.last_delete())];
        // What was replayed is in the new log too, as it would be after a checkpoint.
        let everything: Vec<_> =
            self.model.iter().map(|((l, t), v)| (l.clone(), *t, v.clone())).collect();
        let mut batch = ResolvedBatch::default();
        batch.reset(DEFAULT_TENANT, SHARDS);
        for (labels, t_ms, sample) in everything {
            let ordinal = self.registry.intern(DEFAULT_TENANT, &labels, 0);
            let shard = &mut batch.shards[ordinal as usize % SHARDS];
            match sample {
                Sample::Float { start_ms, bits } => {
                    shard.push(ordinal, t_ms, f64::from_bits(bits));
                    shard.set_last_start(start_ms);
                }
                Sample::Histogram { start_ms, sum, mut histogram } => {
                    match &mut histogram {
                        Histogram::Integer(histogram) => histogram.sum = f64::from_bits(sum),
                        Histogram::Float(histogram) => histogram.sum = f64::from_bits(sum),
                    }
                    shard.histograms.push(HistogramRow { ordinal, t_ms, start_ms, histogram });
                }
            }
        }
        let mut payload = Vec::new();
        self.encoder.encode(&batch, &self.registry, &mut payload);
        self.log.push(Logged::Samples(payload));
    }

    fn head(&self, matchers: &[Matcher], range: TimeRange) -> HeadSnapshot {
        let series = self.registry.select(DEFAULT_TENANT, matchers);
        let chunks =
            self.shards.iter().map(|shard| shard.select(series.ordinals(), range)).collect();
        let (tenant, deletes) = (DEFAULT_TENANT, self.deletes());
        HeadSnapshot { tenant, deletes, series, chunks }
    }

    fn select(&self, matchers: &[Matcher], range: TimeRange) -> Selected {
        let head = self.head(matchers, range);
        Selected::new(&self.registry, head, &self.blocks, matchers, range, 1_000).expect("select")
    }

    fn check(&self, matchers: &[Matcher], range: TimeRange) -> Result<(), TestCaseError> {
        let mut expected: BTreeMap<Labels, Vec<(i64, Sample)>> = BTreeMap::new();
        for ((labels, t_ms), sample) in &self.model {
            let matches = |m: &Matcher| m.matches(labels.get(&m.name).unwrap_or(""));
            if range.contains(*t_ms) && matchers.iter().all(matches) {
                expected.entry(labels.clone()).or_default().push((*t_ms, sample.clone()));
            }
        }
        let selected = self.select(matchers, range);
        prop_assert!(selected.labels().is_sorted_by(|a, b| a < b));
        let mut found = BTreeMap::new();
        for (index, labels) in selected.labels().iter().enumerate() {
            let (mut timestamps, mut values) = (Vec::new(), Vec::new());
            let mut histograms = HistogramColumns::default();
            let mut starts_ms = Vec::new();
            let floats = (&mut timestamps, &mut values);
            selected
                .read_with_starts(index, floats, &mut starts_ms, &mut histograms)
                .expect("read");
            prop_assert!(starts_ms.len() <= values.len());
            prop_assert!(starts_ms.is_empty() || selected.has_starts(index).expect("starts"));
            prop_assert!(timestamps.is_sorted_by(|a, b| a < b));
            prop_assert!(histograms.timestamps_ms.is_sorted_by(|a, b| a < b));
            prop_assert!(histograms.is_empty() || selected.has_histograms(index));
            let (mut times, mut floats) = (Vec::new(), Vec::new());
            selected.read(index, &mut times, &mut floats).expect("read");
            prop_assert_eq!(&times, &timestamps);
            let bits = |values: &[f64]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
            prop_assert_eq!(bits(&floats), bits(&values));
            let (mut alone, mut same) = (Vec::new(), HistogramColumns::default());
            selected.read_all(index, &mut alone, &mut Vec::new(), &mut same).expect("read");
            prop_assert_eq!(
                (&alone, &same.timestamps_ms),
                (&timestamps, &histograms.timestamps_ms)
            );
            let mut samples: Vec<_> = timestamps
                .into_iter()
                .zip(values.iter().enumerate().map(|(row, value)| {
                    let start_ms = starts_ms.get(row).copied().unwrap_or(0);
                    Sample::Float { start_ms, bits: value.to_bits() }
                }))
                .collect();
            for (place, histogram) in histograms.histograms.iter().enumerate() {
                let sample = Sample::of(histograms.start_ms[place], histogram);
                samples.push((histograms.timestamps_ms[place], sample));
            }
            samples.sort_by_key(|sample| sample.0);
            if !samples.is_empty() {
                found.insert(labels.clone(), samples);
            }
        }
        prop_assert_eq!(&found, &expected);
        for windows in [1, 3] {
            self.check_rows(matchers, range, windows * ROLLUP_MS)?;
        }
        self.check_values(matchers, range, &expected)
    }

    /// Rows say of each window what its samples say.
    fn check_rows(
        &self,
        matchers: &[Matcher],
        range: TimeRange,
        window_ms: i64,
    ) -> Result<(), TestCaseError> {
        let floor = |t_ms: i64| t_ms.clamp(-1 << 41, 1 << 41).div_euclid(window_ms) * window_ms;
        let range = TimeRange::new(floor(range.start_ms) + 1, floor(range.end_ms) + 1);
        let mut expected: BTreeMap<&Labels, BTreeMap<i64, RollupRow>> = BTreeMap::new();
        for ((labels, t_ms), sample) in &self.model {
            let matches = |m: &Matcher| m.matches(labels.get(&m.name).unwrap_or(""));
            let Sample::Float { bits, .. } = sample else { continue };
            let value = f64::from_bits(*bits);
            if range.contains(*t_ms) && matchers.iter().all(matches) && !model::is_stale_nan(value)
            {
                let windows = expected.entry(labels).or_default();
                combine(windows, window_ms, row_of(*t_ms, value));
            }
        }
        let head = self.head(matchers, range);
        let blocks = &self.blocks;
        let selected = Selected::with_rollups(&self.registry, head, blocks, matchers, range, 1_000)
            .expect("select");
        for (index, labels) in selected.labels().iter().enumerate() {
            let mut rows = Vec::new();
            if !selected.read_rows(index, window_ms, &mut rows).expect("read") {
                prop_assert!(rows.is_empty() && selected.has_histograms(index));
                expected.remove(labels);
                continue;
            }
            prop_assert!(rows.is_sorted_by(|a, b| a.last_ms < b.first_ms), "{rows:?}");
            let mut windows = BTreeMap::new();
            for row in rows {
                let (first, last) =
                    (window_of(row.first_ms, window_ms), window_of(row.last_ms, window_ms));
                prop_assert_eq!(first, last);
                combine(&mut windows, window_ms, row);
            }
            let expected = expected.remove(labels).unwrap_or_default();
            let said = |windows: &BTreeMap<i64, RollupRow>| {
                windows.values().map(exact).collect::<Vec<_>>()
            };
            prop_assert_eq!(said(&windows), said(&expected));
            for (found, expected) in windows.values().zip(expected.values()) {
                let reach = expected.min.abs().max(expected.max.abs()) * f64::from(expected.count);
                let sums =
                    [(found.sum, expected.sum), (found.before_resets, expected.before_resets)];
                for (found, expected) in sums {
                    let differ = (found - expected).abs() > reach * 1e-12;
                    prop_assert!(!(reach.is_finite() && differ), "{found} for {expected}");
                }
            }
        }
        prop_assert!(expected.is_empty(), "{expected:?} are missing");
        Ok(())
    }

    /// No value is missing; there may be more, because blocks and the head count as a whole.
    fn check_values(
        &self,
        matchers: &[Matcher],
        range: TimeRange,
        expected: &BTreeMap<Labels, Vec<(i64, Sample)>>,
    ) -> Result<(), TestCaseError> {
        let (tenant, deletes) = (DEFAULT_TENANT, self.deletes());
        let series = deletes.concerned(&self.registry, tenant, &[]);
        let all = TimeRange::all();
        let chunks = self.shards.iter().map(|shard| shard.select(series.ordinals(), all)).collect();
        let concerned = HeadSnapshot { tenant, deletes: deletes.clone(), series, chunks };
        let head = HeadLabels::without_deleted(&self.registry, &concerned);
        let query = LabelQuery {
            head: Some(&head),
            deletes: &deletes,
            blocks: &self.blocks,
            matchers,
            range,
            limit: 0,
        };
        for name in ["__name__", "instance"] {
            let listed = query.values(name);
            for labels in expected.keys() {
                let value = labels.get(name).expect("every series has it").to_owned();
                prop_assert!(listed.contains(&value), "{name}={value} is missing");
            }
        }
        prop_assert!(expected.is_empty() || query.names() == ["Z", "__name__", "instance"]);
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
    Append(Vec<(u8, i64, Given)>),
    /// A regular run of one series, long enough to seal chunks.
    Run(u8, i64, u16, f64, i64),
    /// The same of histograms.
    Histograms(u8, i64, u16, u16),
    Cut,
    Flush(bool),
    /// To a level.
    Merge(u8),
    Replay,
    Select(Vec<Matcher>, i64, i64),
    Delete(Vec<Vec<Matcher>>, i64, i64),
}

fn step() -> impl Strategy<Value = Step> {
    let given = prop_oneof![
        2 => (value(), start()).prop_map(|(value, start_ms)| Given::Float(value, start_ms)),
        1 => any::<u16>().prop_map(Given::Histogram),
    ];
    let row = (0..9_u8, time(), given);
    let matcher = prop_oneof![
        Just(("__name__", MatchOp::Equal, "metric_1")),
        Just(("__name__", MatchOp::Regex, "metric_[12]")),
        Just(("instance", MatchOp::NotEqual, "host-1")),
        Just(("instance", MatchOp::NotRegex, "host-(0|2)")),
        Just(("absent", MatchOp::Equal, "")),
    ]
    .prop_map(|(name, op, value)| Matcher::new(name, op, value).expect("matcher"))
    .boxed();
    let selector = proptest::collection::vec(matcher.clone(), 1..3);
    let end = prop_oneof![3 => time().boxed(), 1 => Just(i64::MAX).boxed()];
    prop_oneof![
        8 => proptest::collection::vec(row, 1..40).prop_map(Step::Append),
        3 => (0..9_u8, time(), 1..700_u16, value(), start())
            .prop_map(|(s, t, n, v, b)| Step::Run(s, t, n, v, b)),
        2 => (0..9_u8, time(), 1..300_u16, 0..999_u16)
            .prop_map(|(s, t, n, h)| Step::Histograms(s, t, n, h)),
        2 => Just(Step::Cut),
        2 => any::<bool>().prop_map(Step::Flush),
        2 => prop_oneof![Just(1_u8), Just(ROLLED_LEVEL)].prop_map(Step::Merge),
        1 => Just(Step::Replay),
        4 => (proptest::collection::vec(matcher, 0..3), time(), time())
            .prop_map(|(m, a, b)| Step::Select(m, a.min(b), a.max(b))),
        3 => (proptest::collection::vec(selector, 1..3), time(), end)
            .prop_map(|(s, a, b)| Step::Delete(s, a.min(b), a.max(b))),
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
                Step::Run(series, start, len, value, began) => {
                    let rows: Vec<_> = (0..i64::from(len))
                        .map(|i| {
                            // Some count on, some begin anew with each sample or now and then.
                            let start_ms = match began {
                                3 => start + i * 1_000 - 1_000,
                                2 => 2 + i / 50,
                                other => other,
                            };
                            let value = Given::Float(value + (i % 7) as f64, start_ms);
                            (series, start + i * 1_000, value)
                        })
                        .collect();
                    engine.append(&rows);
                }
                Step::Histograms(series, start, len, number) => {
                    let rows: Vec<_> = (0..len)
                        .map(|i| {
                            // Mostly of one kind, with another one now and then.
                            let kind = if i % 50 == 49 { i % 8 } else { number % 8 };
                            let given = Given::Histogram(kind + 8 * (number / 8 + i / 3));
                            (series, start + i64::from(i) * 1_000, given)
                        })
                        .collect();
                    engine.append(&rows);
                }
                Step::Cut => engine.cut(),
                Step::Flush(drop) => {
                    engine.flush(drop);
                }
                Step::Merge(level) => engine.merge(level),
                Step::Replay => engine.replay(),
                Step::Delete(selectors, start, end) => {
                    engine.delete(selectors, TimeRange::new(start, end));
                }
                Step::Select(matchers, start, end) => {
                    engine.check(&matchers, TimeRange::new(start, end))?;
                }
            }
        }
        engine.check(&[], TimeRange::all())?;
        engine.cut();
        engine.flush(true);
        engine.check(&[], TimeRange::all())?;
        engine.merge(ROLLED_LEVEL);
        engine.check(&[], TimeRange::all())?;
    }
}
