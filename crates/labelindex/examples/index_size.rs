//! What an index takes and how fast it answers, on labels like those of Node Exporter.
//!
//! ```text
//! cargo run --release -p watchfire-labelindex --example index_size -- 60
//! ```
//!
//! The argument is the number of hosts, each with about 630 series; every figure is of one thread.
#![allow(clippy::print_stdout, reason = "a program that prints figures")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use labelindex::{BlockIndex, BlockIndexBuilder, Census, LabelIndex, MemIndex, Period};
use model::{Labels, MatchOp, Matcher};

const MODES: [&str; 8] = ["idle", "iowait", "irq", "nice", "softirq", "steal", "system", "user"];
const MOUNTPOINTS: [&str; 4] = ["/", "/boot", "/data", "/var"];

/// Collects the series of one host.
struct Host<'a> {
    instance: String,
    datacenter: &'static str,
    series: &'a mut Vec<Labels>,
}

impl Host<'_> {
    fn add(&mut self, name: &str, own: &[(&str, &str)]) {
        let common = [
            ("__name__", name),
            ("cluster", "production"),
            ("datacenter", self.datacenter),
            ("instance", &self.instance),
            ("job", "node-exporter"),
        ];
        let pairs = common.into_iter().chain(own.iter().copied());
        self.series.push(Labels::from_pairs(pairs).expect("names are unique"));
    }

    /// Hosts differ in processors, disks and network devices.
    fn add_all(&mut self, number: usize) {
        for cpu in 0..8 + 8 * (number % 3) {
            let cpu = cpu.to_string();
            for mode in MODES {
                self.add("node_cpu_seconds_total", &[("cpu", &cpu), ("mode", mode)]);
            }
            for name in ["node_schedstat_running_seconds_total", "node_softnet_processed_total"] {
                self.add(name, &[("cpu", &cpu)]);
            }
        }
        for metric in 0..250 {
            let group = ["memory", "netstat_Tcp", "sockstat", "timex", "vmstat"][metric % 5];
            self.add(&format!("node_{group}_{metric}"), &[]);
        }
        for device in 0..3 + number % 4 {
            let device = format!("eth{device}");
            for metric in 0..25 {
                self.add(&format!("node_network_{metric}_total"), &[("device", &device)]);
            }
        }
        for device in 0..2 + number % 3 {
            let device = format!("nvme{device}n1");
            for metric in 0..18 {
                self.add(&format!("node_disk_{metric}_total"), &[("device", &device)]);
            }
        }
        for mountpoint in &MOUNTPOINTS[..3 + number % 2] {
            for metric in 0..7 {
                let own = [("device", "/dev/sda1"), ("fstype", "ext4"), ("mountpoint", mountpoint)];
                self.add(&format!("node_filesystem_{metric}_bytes"), &own);
            }
        }
    }
}

/// Series in the order in which targets are scraped.
fn fleet(hosts: usize) -> Vec<Labels> {
    let mut series = Vec::new();
    for number in 0..hosts {
        let datacenter = ["ams", "fra", "iad"][number % 3];
        let instance = format!("host-{:05}.{datacenter}.example.org:9100", number * 7_919 % 99_991);
        Host { instance, datacenter, series: &mut series }.add_all(number);
    }
    series
}

fn per_series(what: &str, took: Duration, series: usize) {
    println!("{what:<44}{:>9.0} ns per series", took.as_nanos() as f64 / series as f64);
}

fn bytes(what: &str, bytes: usize, series: usize) {
    println!("{what:<44}{:>9.2} B per series", bytes as f64 / series as f64);
}

fn timed<T>(run: impl FnOnce() -> T) -> (T, Duration) {
    let begin = Instant::now();
    let result = run();
    (result, begin.elapsed())
}

fn selectors() -> Vec<Vec<Matcher>> {
    let matcher = |name: &str, op, value: &str| Matcher::new(name, op, value).expect("pattern");
    let cpu = || matcher("__name__", MatchOp::Equal, "node_cpu_seconds_total");
    vec![
        vec![],
        vec![matcher("job", MatchOp::Equal, "node-exporter")],
        vec![cpu(), matcher("mode", MatchOp::Equal, "idle")],
        vec![cpu(), matcher("instance", MatchOp::Regex, "host-00000.*")],
        vec![cpu(), matcher("instance", MatchOp::Regex, ".*7.*")],
        vec![matcher("__name__", MatchOp::Regex, "node_net.*")],
        vec![matcher("device", MatchOp::Equal, "")],
    ]
}

/// Prints the median of five runs for each selector.
fn select(what: &str, index: &dyn LabelIndex) {
    for matchers in selectors() {
        let mut runs: Vec<_> = (0..5).map(|_| timed(|| index.select(&matchers))).collect();
        runs.sort_by_key(|(_, took)| *took);
        let (found, took) = &runs[2];
        println!("{what} {matchers:?}: {} series in {took:.1?}", found.len());
    }
}

fn read_labels(what: &str, index: &dyn LabelIndex, step: usize) {
    let series = index.series_count();
    let ((), took) = timed(|| {
        for number in 0..series {
            black_box(index.labels((number * step % series) as u32));
        }
    });
    per_series(what, took, series);
}

fn measure_head(arrived: &[Labels]) {
    let mut head = MemIndex::new(1);
    let ((), took) = timed(|| {
        for (ordinal, labels) in (0..).zip(arrived) {
            head.insert(ordinal, labels);
        }
    });
    per_series("head: insert", took, arrived.len());
    bytes("head: memory", head.bytes(), arrived.len());
    read_labels("head: labels, far apart", &head, 7_919);
    select("head", &head);
    let (_, took) = timed(|| black_box(head.cardinality(10)));
    println!("head: cardinality in {took:.1?}");
    let ordinals: Vec<u32> = (0..arrived.len() as u32).collect();
    let mut census = Census::new(1);
    let ((), took) = timed(|| census.add_head(&head, &ordinals, Period::Now));
    per_series("head: census", took, arrived.len());
    bytes("head: memory of a census", census.bytes(), arrived.len());
}

fn measure_block(sorted: &[Labels]) {
    let mut builder = BlockIndexBuilder::new(1);
    let mut file = Vec::new();
    let ((), took) = timed(|| {
        sorted.iter().for_each(|labels| builder.push(labels));
        builder.finish(&mut file);
    });
    per_series("block: write", took, sorted.len());
    bytes("block: file", file.len(), sorted.len());
    let (block, took) = timed(|| BlockIndex::open(&file).expect("own bytes"));
    per_series("block: open", took, sorted.len());
    bytes("block: memory", block.bytes(), sorted.len());
    read_labels("block: labels, neighbours", &block, 1);
    read_labels("block: labels, far apart", &block, 7_919);
    select("block", &block);
    let mut census = Census::new(1);
    let ((), took) = timed(|| census.add_block(&block, &[], &[], Period::Before));
    per_series("block: census, first", took, sorted.len());
    let ((), took) = timed(|| census.add_block(&block, &[], &[], Period::Now));
    per_series("block: census, again", took, sorted.len());
    bytes("block: memory of a census", census.bytes(), sorted.len());
}

fn main() {
    let hosts = std::env::args().nth(1).map_or(60, |arg| arg.parse().expect("number of hosts"));
    let mut series = fleet(hosts);
    let packed: usize = series.iter().map(|labels| labels.as_packed().len()).sum();
    println!("{} series of {hosts} hosts", series.len());
    bytes("labels as they are", packed, series.len());
    measure_head(&series);
    series.sort_unstable();
    measure_block(&series);
}
