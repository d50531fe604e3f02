//! Speed and size of the column codecs.
//!
//! `cargo run --release -p watchfire-codec --example speed [SAMPLES [INTERVAL_MS]]`
//!
//! Prints, for generated columns like those of a node exporter and for columns sampled from this
//! machine's `/proc` (skipped where there is none), bytes per value and millions of values per
//! second on one core. Times are the best of several passes, so that other work on the machine
//! counts little.

#![expect(clippy::print_stdout, reason = "printing figures is what this program is for")]

use std::collections::BTreeMap;
use std::hint::black_box;
use std::time::{Duration, Instant};

use codec::{CodecError, decode_f64s, decode_i64s, encode_f64s, encode_i64s};

/// Values per column in the generated families.
const COLUMN_LEN: usize = 480;
/// Columns per generated family.
const COLUMNS: usize = 200;
/// Passes of which the best counts.
const PASSES: usize = 15;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let mut argument =
        |default: u64| arguments.next().map_or(Some(default), |text| text.parse::<u64>().ok());
    let (Some(samples), Some(interval_ms)) = (argument(240), argument(250)) else {
        println!("usage: speed [SAMPLES [INTERVAL_MS]], two numbers");
        return;
    };
    println!("{:34} {:>8} {:>9} {:>11} {:>11}", "", "columns", "B/value", "enc M/s", "dec M/s");
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    for (name, columns) in integer_families(&mut random) {
        report(name, &columns, encode_i64s, decode_i64s);
    }
    for (name, columns) in float_families(&mut random) {
        report(name, &columns, encode_f64s, decode_f64s);
    }
    let (times, values) = sample_proc(samples as usize, Duration::from_millis(interval_ms));
    if values.is_empty() {
        println!("no /proc here");
        return;
    }
    let changing: Vec<Vec<f64>> =
        values.iter().filter(|column| column.iter().any(|v| *v != column[0])).cloned().collect();
    println!("/proc, {samples} samples every {interval_ms} ms:");
    report("scrape times", &[times], encode_i64s, decode_i64s);
    report("all columns", &values, encode_f64s, decode_f64s);
    report("columns that change", &changing, encode_f64s, decode_f64s);
}

type Encode<T> = fn(&[T], &mut Vec<u8>);
type Decode<T> = fn(&mut &[u8], usize, &mut Vec<T>) -> Result<(), CodecError>;

/// Encodes and decodes all columns, checks that they survive, and prints one line.
fn report<T: Copy + Bits>(name: &str, columns: &[Vec<T>], encode: Encode<T>, decode: Decode<T>) {
    let count: usize = columns.iter().map(Vec::len).sum();
    let mut encoded = Vec::new();
    let encoding = best_of(|| {
        encoded.clear();
        for column in columns {
            encode(black_box(column), &mut encoded);
        }
    });
    let mut decoded = Vec::new();
    let decoding = best_of(|| {
        let mut input = black_box(encoded.as_slice());
        for column in columns {
            decoded.clear();
            decode(&mut input, column.len(), &mut decoded).expect("own bytes decode");
            black_box(&decoded);
        }
    });
    let mut input = encoded.as_slice();
    for column in columns {
        decoded.clear();
        decode(&mut input, column.len(), &mut decoded).expect("own bytes decode");
        assert!(column.iter().zip(&decoded).all(|(a, b)| a.bits() == b.bits()), "lossless");
    }
    let millions = |time: Duration| count as f64 / time.as_secs_f64() / 1e6;
    println!(
        "{name:34} {:>8} {:>9.3} {:>11.1} {:>11.1}",
        columns.len(),
        encoded.len() as f64 / count as f64,
        millions(encoding),
        millions(decoding)
    );
}

fn best_of(mut work: impl FnMut()) -> Duration {
    let pass = || {
        let start = Instant::now();
        work();
        start.elapsed()
    };
    std::iter::repeat_with(pass).take(PASSES).min().unwrap_or_default()
}

/// Values that are compared bit by bit.
trait Bits {
    fn bits(self) -> u64;
}

impl Bits for i64 {
    fn bits(self) -> u64 {
        self as u64
    }
}

impl Bits for f64 {
    fn bits(self) -> u64 {
        self.to_bits()
    }
}

/// Xorshift: the same columns in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: i64) -> i64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 1) as i64 % bound
    }

    /// Many columns, each a running sum of steps that `step` draws.
    fn walks(&mut self, first: i64, step: impl Fn(&mut Self) -> i64) -> Vec<Vec<i64>> {
        let column = |_| {
            let mut sum = first + self.below(1_000_000);
            let next = || {
                sum += step(self);
                sum
            };
            std::iter::repeat_with(next).take(COLUMN_LEN).collect()
        };
        (0..COLUMNS).map(column).collect()
    }
}

fn integer_families(random: &mut Random) -> Vec<(&'static str, Vec<Vec<i64>>)> {
    let start_ms = 1_790_000_000_000;
    vec![
        ("times, regular", random.walks(start_ms, |_| 15_000)),
        ("times, jitter of ±3 ms", random.walks(start_ms, |r| 14_997 + r.below(7))),
        ("integers, random steps of 16 bits", random.walks(0, |r| r.below(1 << 16) - (1 << 15))),
        ("integers, random steps of 40 bits", random.walks(0, |r| r.below(1 << 40) - (1 << 39))),
    ]
}

fn float_families(random: &mut Random) -> Vec<(&'static str, Vec<Vec<f64>>)> {
    let scaled = |columns: Vec<Vec<i64>>, divisor: f64| -> Vec<Vec<f64>> {
        let scale = |column: Vec<i64>| column.iter().map(|v| *v as f64 / divisor).collect();
        columns.into_iter().map(scale).collect()
    };
    vec![
        ("constant", scaled(random.walks(0, |_| 0), 1.0)),
        ("cpu seconds, two decimals", scaled(random.walks(0, |r| 1_400 + r.below(100)), 100.0)),
        ("counter of packets", scaled(random.walks(0, |r| r.below(5_000)), 1.0)),
        ("memory in pages", scaled(random.walks(1 << 32, |r| 4_096 * (r.below(501) - 250)), 1.0)),
        (
            "gauge that rarely changes",
            scaled(random.walks(0, |r| if r.below(40) == 0 { r.below(100) } else { 0 }), 1.0),
        ),
        ("seconds, nine decimals", scaled(random.walks(0, |r| r.below(1_000_000)), 1e9)),
        ("full precision, no decimals", scaled(random.walks(0, |r| r.below(1 << 43)), 9.1e15)),
    ]
}

/// Every number in some files of `/proc`, as columns, and the times of the samples.
fn sample_proc(samples: usize, interval: Duration) -> (Vec<i64>, Vec<Vec<f64>>) {
    const FILES: [&str; 9] = [
        "stat",
        "meminfo",
        "vmstat",
        "diskstats",
        "net/dev",
        "net/snmp",
        "net/netstat",
        "loadavg",
        "schedstat",
    ];
    let start = Instant::now();
    let mut times = Vec::new();
    let mut columns: BTreeMap<(usize, usize), Vec<f64>> = BTreeMap::new();
    for sample in 0..samples {
        std::thread::sleep((interval * sample as u32).saturating_sub(start.elapsed()));
        times.push(1_790_000_000_000 + start.elapsed().as_millis() as i64);
        for (file, name) in FILES.iter().enumerate() {
            let Ok(text) = std::fs::read_to_string(format!("/proc/{name}")) else { continue };
            let numbers = text.split_whitespace().filter_map(|word| word.parse::<f64>().ok());
            // Node Exporter's units: ticks of 10 ms become seconds, KiB become bytes.
            let unit = match *name {
                "stat" => |v: f64| v / 100.0,
                "meminfo" => |v: f64| v * 1_024.0,
                _ => |v: f64| v,
            };
            for (place, number) in numbers.enumerate() {
                let column = columns.entry((file, place)).or_default();
                if column.len() == sample {
                    column.push(unit(number));
                }
            }
        }
    }
    // A file whose count of numbers changed between samples gives incomplete columns.
    (times, columns.into_values().filter(|column| column.len() == samples).collect())
}
