//! How fast foreign metrics become batches: `cargo bench -p watchfire-wire`.
//!
//! Load: 10,000 series of a Node Exporter's shape, ten labels and one sample each, in memory.

#![expect(clippy::print_stdout, reason = "a benchmark reports on standard output")]

use std::collections::BTreeMap;
use std::hint::black_box;
use std::time::Instant;

use model::{Labels, Limits, MetricBatch};
use wire::text_encode::TextEncoder;
use wire::{agent_batch, decode_labels, exposition, remote_write};

const SERIES: usize = 10_000;

fn labels(index: usize) -> Labels {
    let (cpu, instance) = ((index % 64).to_string(), format!("host-{:04}:9100", index / 64));
    Labels::from_pairs([
        ("__name__", "node_cpu_seconds_total"),
        ("cluster", "eu-west-1-production"),
        ("cpu", cpu.as_str()),
        ("env", "production"),
        ("instance", instance.as_str()),
        ("job", "node-exporter"),
        ("mode", "idle"),
        ("namespace", "monitoring"),
        ("pod", "node-exporter-x7k2p"),
        ("region", "eu-west-1"),
    ])
    .expect("names are unique")
}

/// Runs `work`, which handles [`SERIES`] samples of `bytes`, often enough and prints the best rate.
fn measure(name: &str, bytes: usize, mut work: impl FnMut()) {
    let best = (0..50)
        .map(|_| {
            let start = Instant::now();
            work();
            start.elapsed().as_secs_f64()
        })
        .fold(f64::INFINITY, f64::min);
    println!(
        "{name:<28} {:>7.2} M samples/s {:>8.0} MB/s",
        SERIES as f64 / best / 1e6,
        bytes as f64 / best / 1e6
    );
}

fn main() {
    let limits = Limits::default();
    let mut batch = MetricBatch::default();
    let mut text = Vec::new();
    let mut encoder = TextEncoder::new(&mut text);
    for index in 0..SERIES {
        let labels = labels(index);
        let value = index as f64 * 0.37;
        batch.push(&labels, 1_700_000_000_000, value);
        let name = labels.metric_name().expect("set above");
        encoder.sample(
            name,
            &labels.iter().filter(|(n, _)| *n != "__name__").collect::<Vec<_>>(),
            value,
        );
    }
    let mut body = Vec::new();
    remote_write::encode(&batch, &mut body).expect("a valid batch");
    let mut out = MetricBatch::default();
    // The body is handed over, so each pass copies it; that is part of the figure.
    measure("remote write 1.0", body.len(), || {
        remote_write::decode(body.clone(), &limits, &mut out).expect("own bytes");
        black_box(&out);
    });
    measure("labels on a cache miss", body.len(), || {
        for series in &out.series {
            let labels = decode_labels(series.form, out.label_bytes_of(series), &limits);
            black_box(labels.expect("own labels"));
        }
    });
    let mut payload = Vec::new();
    measure("agent batch, encode", body.len(), || {
        payload.clear();
        agent_batch::encode(&batch, &mut payload);
    });
    let mut packed = MetricBatch::default();
    measure("agent batch, decode", payload.len(), || {
        agent_batch::decode(&payload, &limits, &mut packed).expect("own bytes");
        black_box(&packed);
    });
    measure("Prometheus text", text.len(), || {
        exposition::decode(&text, 0, &BTreeMap::new(), &limits, &mut packed).expect("own text");
        black_box(&packed);
    });
}
