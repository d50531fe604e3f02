//! How fast the engine is and how much it takes, on data shaped like Node Exporter's.
//!
//! ```text
//! cargo run --release -p watchfire-metricstore --example speed -- 10000 1440 240
//! cargo run --release -p watchfire-metricstore --example speed -- 1000000 12 12
//! ```
//!
//! Series, samples per series, samples per series between two flushes; every figure is of one
//! thread.
#![allow(clippy::print_stdout, reason = "a program that prints figures")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use blockstore::{BlockFormat, InMemory, MergeInput};
use metricstore::{
    Admission, BlockSource, Deletes, FlushPlan, HeadSnapshot, LogDecoder, LogEncoder, MetricFormat,
    NewSeries, Registry, ResolvedBatch, Selected, Shard,
};
use model::{DEFAULT_TENANT, Labels, Limits, MatchOp, Matcher, MetricBatch, TimeRange};

const SERIES_PER_TARGET: usize = 845;
const STEP_MS: i64 = 15_000;
const START_MS: i64 = 1_790_000_000_000 / 86_400_000 * 86_400_000;
/// Small, fast, and the same on every run.
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }
}

/// Hosts whose series move as those of real hosts do: 72% never change.
struct Fleet {
    labels: Vec<Labels>,
    state: Vec<f64>,
    random: Random,
}

impl Fleet {
    fn new(series: usize) -> Self {
        let labels = (0..series)
            .map(|index| {
                let (target, metric) = (index / SERIES_PER_TARGET, index % SERIES_PER_TARGET);
                Labels::from_pairs([
                    (
                        "__name__",
                        format!("node_{}_{}_total", FAMILIES[metric % 16], metric / 16).as_str(),
                    ),
                    ("cluster", "production"),
                    ("cpu", &(metric % 64).to_string()),
                    ("device", &format!("nvme{}n1", metric % 7)),
                    ("instance", &format!("host-{target:05}.example.org:9100")),
                    ("job", "node-exporter"),
                    ("mode", ["idle", "user", "system", "iowait"][metric % 4]),
                ])
                .expect("labels")
            })
            .collect();
        let mut random = Random(42);
        let state = (0..series).map(|_| random.below(1_000_000) as f64).collect();
        Fleet { labels, state, random }
    }

    fn value(&mut self, index: usize) -> f64 {
        let kind = (index % SERIES_PER_TARGET) % 25;
        let random = &mut self.random;
        let state = &mut self.state[index];
        match kind {
            // CPU seconds: hundredths, about one core.
            0 | 1 => *state = ((*state * 100.0).round() + random.below(1_500) as f64) / 100.0,
            // Counters of packets and bytes.
            2 | 3 => *state += random.below(20_000) as f64,
            4 => *state += (random.below(4_000) * 512) as f64,
            // Memory: pages up and down.
            5 => *state += (random.below(64) as f64 - 32.0) * 4_096.0,
            // Load: two digits.
            6 => *state = random.below(400) as f64 / 100.0,
            _ => {}
        }
        *state
    }

    fn step(&mut self, step: usize, batch: &mut MetricBatch, range: std::ops::Range<usize>) {
        batch.clear();
        for index in range {
            let jitter = (index / SERIES_PER_TARGET * 7_919 % 15_000) as i64
                + (step * 31 + index / SERIES_PER_TARGET) as i64 % 3;
            let t_ms = START_MS + step as i64 * STEP_MS + jitter;
            let value = self.value(index);
            batch.push(&self.labels[index], t_ms, value);
        }
    }
}

const FAMILIES: [&str; 16] = [
    "cpu_seconds",
    "memory_bytes",
    "disk_reads",
    "disk_writes",
    "network_receive_bytes",
    "network_transmit_bytes",
    "filesystem_free_bytes",
    "netstat_tcp",
    "vmstat_pgfault",
    "load",
    "context_switches",
    "interrupts",
    "sockstat_inuse",
    "softnet_processed",
    "timex_offset",
    "pressure_waiting_seconds",
];

fn rate(name: &str, count: usize, took: Duration) {
    println!("{name:<28}{:>9.2} M/s", count as f64 / took.as_secs_f64() / 1e6);
}

fn rss_bytes() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|kb| kb.parse::<usize>().ok()).unwrap_or(0) * 1_024
}

/// What was spent on each stage.
#[derive(Default)]
struct Spent {
    resolve: Duration,
    encode: Duration,
    append: Duration,
    flush: Duration,
}

/// What is stored.
#[derive(Clone, Copy)]
struct Load {
    series: usize,
    steps: usize,
    /// Steps between two flushes.
    flush_steps: usize,
}

struct Ingested {
    registry: Registry,
    shard: Shard,
    payloads: Vec<Vec<u8>>,
    blocks: Vec<InMemory>,
}

fn ingest(fleet: &mut Fleet, load: Load, format: &MetricFormat) -> Ingested {
    let Load { series, steps, flush_steps } = load;
    let registry = Registry::new(1);
    let mut shard = Shard::new(0, 1);
    let mut encoder = LogEncoder::new();
    let (mut batch, mut resolved) = (MetricBatch::default(), ResolvedBatch::default());
    let limits = Limits::default();
    let mut spent = Spent::default();
    let mut first = Duration::ZERO;
    let mut log_bytes = 0;
    let (mut payloads, mut blocks) = (Vec::new(), Vec::new());
    for step in 0..steps {
        for start in (0..series).step_by(2_000) {
            fleet.step(step, &mut batch, start..(start + 2_000).min(series));
            let begin = Instant::now();
            let admission = Admission {
                limits: &limits,
                now_ms: i64::MAX / 2,
                oldest_ms: 0,
                new_series: NewSeries::ANY,
                name: |_, _| String::new(),
            };
            let decode = |_, bytes: &[u8]| Labels::from_packed(bytes).map_err(|e| e.to_string());
            registry.resolve(DEFAULT_TENANT, &batch, 1, admission, &decode, &mut resolved);
            let took = begin.elapsed();
            if step == 0 {
                first += took
            } else {
                spent.resolve += took
            }

            let begin = Instant::now();
            let mut payload = Vec::new();
            encoder.encode(&resolved, &registry, &mut payload);
            log_bytes += payload.len();
            spent.encode += begin.elapsed();
            if step < 12 {
                payloads.push(payload);
            }
            let begin = Instant::now();
            shard.append(&resolved.shards[0]);
            spent.append += begin.elapsed();
        }
        if step % flush_steps == flush_steps - 1 && step + 1 < steps {
            blocks.extend(flush(&mut shard, &registry, format, &mut spent));
        }
    }
    let samples = series * steps;
    let per_series = (registry.bytes() + shard.bytes()) / series;
    println!(
        "head bytes per series       {per_series:>9} (registry {}, shard {})",
        registry.bytes() / series,
        shard.bytes() / series
    );
    blocks.extend(flush(&mut shard, &registry, format, &mut spent));
    println!("log bytes per sample        {:>9.2}", log_bytes as f64 / samples as f64);
    rate("resolve, series new", series, first);
    rate("resolve, series known", samples - series, spent.resolve);
    rate("log payload", samples, spent.encode);
    rate("append", samples, spent.append);
    rate("flush", samples, spent.flush);
    Ingested { registry, shard, payloads, blocks }
}

fn flush(
    shard: &mut Shard,
    registry: &Registry,
    format: &MetricFormat,
    spent: &mut Spent,
) -> Vec<InMemory> {
    let begin = Instant::now();
    let cuts = shard.cut();
    let Some(id) = cuts.first().map(|cut| cut.id()) else { return Vec::new() };
    let plan = FlushPlan::new(cuts, &Deletes::default(), registry);
    let mut blocks = Vec::new();
    for planned in plan.blocks() {
        let mut out = InMemory::default();
        plan.write(planned, format, registry, &mut out).expect("flush");
        blocks.push(out);
    }
    shard.drop_flushed(id);
    spent.flush += begin.elapsed();
    blocks
}

fn replay(payloads: &[Vec<u8>], series: usize) {
    let begin = Instant::now();
    let registry = Registry::new(2);
    let mut shard = Shard::new(0, 1);
    let mut decoder = LogDecoder::new();
    let mut resolved = ResolvedBatch::default();
    let mut samples = 0;
    for payload in payloads {
        decoder.decode(payload, &registry, 1, 0, &mut resolved).expect("own payload");
        samples += resolved.rows();
        shard.append(&resolved.shards[0]);
    }
    rate("replay, all series new", samples, begin.elapsed());
    println!("replay                      {:>9.2?} for {series} series", begin.elapsed());
}

fn query(
    name: &str,
    registry: &Registry,
    blocks: &[BlockSource],
    matchers: &[Matcher],
    range: TimeRange,
) {
    let begin = Instant::now();
    let series = registry.select(DEFAULT_TENANT, matchers);
    let head = HeadSnapshot {
        tenant: DEFAULT_TENANT,
        deletes: Deletes::default(),
        series,
        chunks: Vec::new(),
    };
    let selected =
        Selected::new(registry, head, blocks, matchers, range, usize::MAX).expect("select");
    let found = begin.elapsed();
    let (mut timestamps, mut values) = (Vec::new(), Vec::new());
    let mut samples = 0;
    for index in 0..selected.len() {
        timestamps.clear();
        values.clear();
        selected.read(index, &mut timestamps, &mut values).expect("read");
        samples += values.len();
    }
    println!(
        "{name:<28}{:>9.2?} for {} series (select {found:.2?}), {samples} samples, {:.1} M/s",
        begin.elapsed(),
        selected.len(),
        samples as f64 / begin.elapsed().as_secs_f64() / 1e6
    );
}

fn main() {
    let mut args = std::env::args().skip(1).map(|arg| arg.parse::<usize>().expect("a number"));
    let (series, steps) = (args.next().unwrap_or(10_000), args.next().unwrap_or(1_440));
    let flush_steps = args.next().unwrap_or(240);
    let samples = series * steps;
    let mut fleet = Fleet::new(series);
    let before = rss_bytes();
    let format = MetricFormat::new(1);
    let Ingested { registry, shard, payloads, blocks } =
        ingest(&mut fleet, Load { series, steps, flush_steps }, &format);
    let flushed: usize = blocks.iter().map(|block| block.0.len()).sum();
    println!("rss per series              {:>9}", rss_bytes().saturating_sub(before) / series);
    println!("flushed bytes per sample    {:>9.3}", flushed as f64 / samples as f64);
    drop(shard);
    replay(&payloads, series);

    let blocks: Vec<_> = blocks
        .into_iter()
        .map(|bytes| Arc::new(format.open(Arc::new(bytes)).expect("own block")))
        .collect();
    let begin = Instant::now();
    let mut merged = InMemory::default();
    let input = |block: &Arc<metricstore::MetricBlock>| MergeInput {
        block: Arc::clone(block),
        deletes: Vec::new(),
    };
    let inputs: Vec<_> = blocks.iter().map(input).collect();
    format.merge(&inputs, TimeRange::all(), 3, &mut merged).expect("merge");
    rate("merge", samples, begin.elapsed());
    println!("merged bytes per sample     {:>9.3}", merged.0.len() as f64 / samples as f64);

    let sources = |blocks: &[Arc<metricstore::MetricBlock>]| -> Vec<BlockSource> {
        blocks
            .iter()
            .map(|block| BlockSource {
                id: Arc::from("block"),
                block: Arc::clone(block),
                deletes_through: 0,
            })
            .collect()
    };
    let end_ms = START_MS + steps as i64 * STEP_MS;
    let hour = TimeRange::new(end_ms - 3_600_000, end_ms);
    let job = [Matcher::new("job", MatchOp::Equal, "node-exporter").expect("matcher")];
    let host = [Matcher::new("instance", MatchOp::Regex, "host-00003.*").expect("matcher")];
    query("all, 1 h, flushed blocks", &registry, &sources(&blocks), &job, hour);
    let merged = Arc::new(format.open(Arc::new(merged)).expect("own block"));
    let merged = sources(&[merged]);
    query("all, 1 h, merged", &registry, &merged, &job, hour);
    query("all, everything, merged", &registry, &merged, &job, TimeRange::all());
    query("one host, 1 h, merged", &registry, &merged, &host, hour);
}
