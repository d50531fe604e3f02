//! What series take in memory between two flushes, and how long appending takes:
//! `cargo run --release --example head_size [SERIES]`.
//!
//! Figures in the documentation are from here.
#![expect(clippy::print_stdout, reason = "it is a program that prints")]

use std::time::Instant;

use metricstore::{Registry, Shard, ShardRows};
use model::{DEFAULT_TENANT, Labels};

/// Series of one target.
const PER_TARGET: usize = 500;
/// A flush comes after so many scrapes.
const SCRAPES: i64 = 20;

/// Whose labels a fleet's series have.
#[derive(Debug, Clone, Copy)]
enum Kind {
    /// Many targets show the same names and values.
    Alike,
    /// Each series has a label with a value of its own.
    Apart,
}

fn labels(kind: Kind, number: usize) -> Labels {
    let (target, place) = (number / PER_TARGET, number % PER_TARGET);
    let instance = format!("host-{target:05}.example.com:9100");
    let name = format!("node_example_{}_total", place / 8);
    let device = match kind {
        Kind::Alike => format!("device-{}", place % 8),
        Kind::Apart => format!("{:032x}", number * 0x9e37_79b9),
    };
    let pairs = [
        ("__name__", name.as_str()),
        ("device", &device),
        ("instance", &instance),
        ("job", "node"),
    ];
    Labels::from_pairs(pairs).expect("labels")
}

/// Of ten series seven hold still, two are counters, one uses all bits of a double.
fn value(number: usize, scrape: i64) -> f64 {
    match number % 10 {
        0 | 1 => (number as i64 % 1_000 * scrape) as f64 / 100.0,
        2 => (number as f64 + scrape as f64).sqrt(),
        _ => (number % 3) as f64,
    }
}

fn measure(kind: Kind, series: usize) {
    let registry = Registry::new(1);
    let started = Instant::now();
    for number in 0..series {
        registry.intern(DEFAULT_TENANT, &labels(kind, number), 0);
    }
    let registered = started.elapsed();
    let of_registry = registry.bytes() as f64 / series as f64;
    println!("{kind:?}: registry {of_registry:.0} bytes per series, {registered:.1?}");
    let mut shard = Shard::new(0, 1);
    let started = Instant::now();
    for scrape in 0..SCRAPES {
        for target in 0..series / PER_TARGET {
            let mut rows = ShardRows::default();
            for number in target * PER_TARGET..(target + 1) * PER_TARGET {
                let t_ms = scrape * 15_000 + target as i64 % 15_000;
                rows.push(number as u32, t_ms, value(number, scrape));
            }
            shard.append(&rows);
        }
        if [0, 4, 9, 19].contains(&scrape) {
            let of_head = shard.bytes() as f64 / series as f64;
            println!("{kind:?}: head {of_head:.1} bytes per series after {} samples", scrape + 1);
        }
    }
    let per_row = started.elapsed() / shard.rows() as u32;
    println!("{kind:?}: {per_row:.0?} per sample");
}

fn main() {
    let series = std::env::args().nth(1).map_or(1_000_000, |arg| arg.parse().expect("a number"));
    measure(Kind::Alike, series);
    measure(Kind::Apart, series);
}
