//! Times the evaluator over columns in memory: 10,000 series of 1,440 samples, 240 steps.
//!
//! `cargo run --release -p watchfire-promql --example speed [filter]` prints medians of seven
//! runs: CPU time on one thread (on Linux, where a busy machine does not disturb it), and wall
//! time on one and on two threads. With a filter, only queries that contain it run.

use std::error::Error;
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Instant;

use model::Labels;
use promql::{
    Columns, EvalOptions, EvalTime, Evaluation, Inline, Parallel, SelectRequest, SeriesSet, Source,
    SourceError, evaluate, parse,
};

const INSTANCES: usize = 125;
const CPUS: usize = 10;
const MODES: [&str; 8] = ["guest", "idle", "iowait", "irq", "nice", "softirq", "system", "user"];
const SAMPLES: usize = 1_440;
const INTERVAL_MS: i64 = 15_000;
const STEPS: i64 = 240;

const QUERIES: [&str; 14] = [
    "sum by (mode) (rate(cpu_seconds_total[5m]))",
    "sum by (instance) (rate(cpu_seconds_total[5m]))",
    "topk(5, rate(cpu_seconds_total[1m]))",
    "topk(5, sum by (instance) (rate(cpu_seconds_total[1m])))",
    "quantile by (mode) (0.9, rate(cpu_seconds_total[5m]))",
    "max_over_time(cpu_seconds_total[10m])",
    "sum(max_over_time(cpu_seconds_total[10m]))",
    "sum(avg_over_time(cpu_seconds_total[10m]))",
    "rate(cpu_seconds_total{mode='idle'}[5m]) / on (instance, cpu) rate(cpu_seconds_total{mode='user'}[5m])",
    "cpu_seconds_total / cpu_seconds_total",
    "count({job='node'})",
    "cpu_seconds_total",
    "cpu_seconds_total > 100",
    "max_over_time(sum by (instance) (rate(cpu_seconds_total[1m]))[10m:1m])",
];

fn main() -> Result<(), Box<dyn Error>> {
    let filter = std::env::args().nth(1).unwrap_or_default();
    let store = Store::new()?;
    let mut out = io::stdout().lock();
    writeln!(out, "{:>8} {:>8} {:>8}  query", "CPU ms", "1 thread", "2")?;
    writeln!(out, "over 6 hours, 90 s steps")?;
    run(&store, &mut out, 0, &filter)?;
    writeln!(out, "over the last hour, 15 s steps")?;
    run(&store, &mut out, (SAMPLES as i64 - STEPS) * INTERVAL_MS, &filter)
}

/// Seconds this thread has spent on a CPU; NaN where the system does not tell.
fn cpu_seconds() -> f64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanos = text.split_whitespace().next().and_then(|word| word.parse::<f64>().ok());
    nanos.map_or(f64::NAN, |nanos| nanos / 1e9)
}

fn median_ms(seconds: &mut [f64]) -> f64 {
    seconds.sort_by(f64::total_cmp);
    seconds[seconds.len() / 2] * 1e3
}

fn run(
    store: &Store,
    out: &mut impl Write,
    start_ms: i64,
    filter: &str,
) -> Result<(), Box<dyn Error>> {
    let end_ms = SAMPLES as i64 * INTERVAL_MS;
    let step_ms = (end_ms - start_ms) / STEPS;
    let time = EvalTime::Range { start_ms: start_ms + step_ms, end_ms, step_ms };
    for query in QUERIES.iter().filter(|query| query.contains(filter)) {
        let expr = parse(query)?;
        let cancelled = AtomicBool::new(false);
        let (mut cpu, mut wall) = (Vec::new(), [Vec::new(), Vec::new()]);
        let runners: [&dyn Parallel; 2] = [&Inline, &Threads(2)];
        for (wall, parallel) in wall.iter_mut().zip(runners) {
            let options = EvalOptions {
                lookback_ms: 300_000,
                default_subquery_step_ms: 60_000,
                max_samples: 50_000_000,
                memory: None,
                cancelled: &cancelled,
                parallel,
                clock: None,
                use_start_timestamps: false,
                type_and_unit_labels: false,
            };
            for _ in 0..7 {
                let (started, cpu_started) = (Instant::now(), cpu_seconds());
                evaluate(&Evaluation { expr: &expr, time, source: store, options })?;
                wall.push(started.elapsed().as_secs_f64());
                if parallel.width() == 1 {
                    cpu.push(cpu_seconds() - cpu_started);
                }
            }
        }
        let [one, two] = &mut wall;
        let (cpu, one, two) = (median_ms(&mut cpu), median_ms(one), median_ms(two));
        writeln!(out, "{cpu:8.1} {one:8.1} {two:8.1}  {query}")?;
    }
    Ok(())
}

/// Series sorted by labels; those of an instance share their timestamps.
struct Store {
    series: Arc<Vec<Series>>,
}

struct Series {
    labels: Labels,
    timestamps_ms: Arc<[i64]>,
    values: Vec<f64>,
}

impl Store {
    fn new() -> Result<Self, Box<dyn Error>> {
        let mut series = Vec::new();
        let mut seed = 1_u64;
        let mut random = move || {
            seed = seed
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) as i64
        };
        for instance in 0..INSTANCES {
            let shift = random() % INTERVAL_MS;
            let timestamps_ms: Arc<[i64]> =
                (0..SAMPLES as i64).map(|i| i * INTERVAL_MS + shift + random() % 20).collect();
            for cpu in 0..CPUS {
                for mode in MODES {
                    let labels = Labels::from_pairs([
                        ("__name__", "cpu_seconds_total"),
                        ("cpu", cpu.to_string().as_str()),
                        ("instance", format!("host-{instance:03}:9100").as_str()),
                        ("job", "node"),
                        ("mode", mode),
                    ])?;
                    let mut value = 0.0;
                    let values = (0..SAMPLES)
                        .map(|_| {
                            value += (random() % 1_500) as f64 / 100.0;
                            value
                        })
                        .collect();
                    let timestamps_ms = Arc::clone(&timestamps_ms);
                    series.push(Series { labels, timestamps_ms, values });
                }
            }
        }
        series.sort_by(|a, b| a.labels.cmp(&b.labels));
        Ok(Store { series: Arc::new(series) })
    }
}

impl Source for Store {
    fn select(&self, request: &SelectRequest<'_>) -> Result<Arc<dyn SeriesSet>, SourceError> {
        let matches = |labels: &Labels| {
            request.matchers.iter().all(|m| m.matches(labels.get(&m.name).unwrap_or("")))
        };
        let wanted = (0..self.series.len()).filter(|i| matches(&self.series[*i].labels)).collect();
        let series = Arc::clone(&self.series);
        Ok(Arc::new(Selected {
            series,
            wanted,
            start_ms: request.start_ms,
            end_ms: request.end_ms,
        }))
    }
}

struct Selected {
    series: Arc<Vec<Series>>,
    wanted: Vec<usize>,
    start_ms: i64,
    end_ms: i64,
}

impl SeriesSet for Selected {
    fn len(&self) -> usize {
        self.wanted.len()
    }

    fn labels(&self, index: usize) -> &Labels {
        &self.series[self.wanted[index]].labels
    }

    fn read(&self, index: usize, out: &mut Columns) -> Result<(), SourceError> {
        let series = &self.series[self.wanted[index]];
        let start = series.timestamps_ms.partition_point(|t| *t < self.start_ms);
        let end = series.timestamps_ms.partition_point(|t| *t <= self.end_ms);
        out.timestamps_ms.extend_from_slice(&series.timestamps_ms[start..end]);
        out.values.extend_from_slice(&series.values[start..end]);
        Ok(())
    }
}

struct Threads(usize);

impl Parallel for Threads {
    fn run(&self, count: usize, task: &(dyn Fn(usize) + Sync)) {
        let next = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..self.0 {
                scope.spawn(|| {
                    loop {
                        let index = next.fetch_add(1, Ordering::Relaxed);
                        if index >= count {
                            return;
                        }
                        task(index);
                    }
                });
            }
        });
    }

    fn width(&self) -> usize {
        self.0
    }
}
