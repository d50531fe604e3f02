//! How fast foreign metrics become batches: `cargo bench -p watchfire-wire`.
//!
//! Load: 10,000 series of a Node Exporter's shape, ten labels and one sample each, in memory.

#![expect(clippy::print_stdout, reason = "a benchmark reports on standard output")]

use std::collections::BTreeMap;
use std::hint::black_box;
use std::time::Instant;

use model::{Labels, Limits, MetricBatch};
use wire::decompress::{Encoding, decompress};
use wire::text_encode::TextEncoder;
use wire::{agent_batch, decode_labels, exposition, remote_write, remote_write_2};

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

/// The batch as a request of remote write 2.0.
fn with_symbols(batch: &MetricBatch) -> Vec<u8> {
    let varint = |out: &mut Vec<u8>, mut number: u64| {
        while number >= 0x80 {
            out.push((number & 0x7f) as u8 | 0x80);
            number >>= 7;
        }
        out.push(number as u8);
    };
    let field = |out: &mut Vec<u8>, number: u8, content: &[u8]| {
        out.push(number << 3 | 2);
        varint(out, content.len() as u64);
        out.extend_from_slice(content);
    };
    let (mut symbols, mut known) = (vec![String::new()], BTreeMap::new());
    let mut all = Vec::new();
    for (series, (t_ms, value)) in
        batch.series.iter().zip(batch.timestamps_ms.iter().zip(&batch.values))
    {
        let labels = Labels::from_packed(batch.label_bytes_of(series)).expect("own labels");
        let mut refs = Vec::new();
        for text in labels.iter().flat_map(|(name, value)| [name, value]) {
            let reference = *known.entry(text.to_owned()).or_insert_with(|| {
                symbols.push(text.to_owned());
                symbols.len() as u64 - 1
            });
            varint(&mut refs, reference);
        }
        let mut sample = vec![0x09];
        sample.extend_from_slice(&value.to_bits().to_le_bytes());
        sample.push(0x10);
        varint(&mut sample, *t_ms as u64);
        let mut message = Vec::new();
        field(&mut message, 1, &refs);
        field(&mut message, 2, &sample);
        field(&mut all, 5, &message);
    }
    let mut body = Vec::new();
    symbols.iter().for_each(|symbol| field(&mut body, 4, symbol.as_bytes()));
    body.extend_from_slice(&all);
    body
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
    let symbols = with_symbols(&batch);
    let mut resolved = MetricBatch::default();
    measure("remote write 2.0", symbols.len(), || {
        let summary = remote_write_2::decode(
            &symbols,
            remote_write_2::Options::default(),
            &limits,
            &mut resolved,
        )
        .expect("own bytes");
        black_box((&resolved, summary));
    });
    // As they come over the wire, which is what a sender and a receiver pay for.
    let snappy = |body: &[u8]| snap::raw::Encoder::new().compress_vec(body).expect("small body");
    let (first, second) = (snappy(&body), snappy(&symbols));
    let unpack = |packed: &[u8]| {
        let mut unpacked = Vec::new();
        decompress(Encoding::SnappyBlock, packed, 1 << 30, &mut unpacked).expect("own bytes");
        unpacked
    };
    measure("remote write 1.0, snappy", first.len(), || {
        remote_write::decode(unpack(&first), &limits, &mut out).expect("own bytes");
        black_box(&out);
    });
    measure("remote write 2.0, snappy", second.len(), || {
        let body = unpack(&second);
        let summary = remote_write_2::decode(
            &body,
            remote_write_2::Options::default(),
            &limits,
            &mut resolved,
        )
        .expect("own bytes");
        black_box((&resolved, summary));
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
