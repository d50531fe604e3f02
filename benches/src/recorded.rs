//! `recorded`: what it costs to take in samples that were recorded somewhere, in the order in which they
//! came.
//!
//! A recording is what `/api/v1/export` of Watchfire and VictoriaMetrics writes, JSON lines:
//!
//! ```text
//! curl -G "$URL/api/v1/export" --data-urlencode 'match[]={job="node"}' > node.jsonl
//! ```

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use crate::ingest;
use crate::load::{Encoder, Requests, put_labels};
use crate::server::Kind;

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// A file of JSON lines, as /api/v1/export writes them
    recording: PathBuf,
    /// Only these
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Kind::ALL)]
    pub(crate) servers: Vec<Kind>,
}

#[derive(Debug, Deserialize)]
struct Line {
    metric: BTreeMap<String, String>,
    /// `null` is a marker of staleness, which remote write would have as a NaN.
    values: Vec<Option<f64>>,
    timestamps: Vec<i64>,
}

/// Yields what ran and the table.
pub(crate) fn run(options: &Options, versions: String) -> Result<(String, String)> {
    let path = options.recording.display();
    let file = std::fs::File::open(&options.recording).with_context(|| format!("open {path}"))?;
    let (requests, seconds) =
        encode(BufReader::new(file)).with_context(|| format!("read {path}"))?;
    let table = ingest::run(&requests, &options.servers)?;
    let described = format!(
        "{versions}\n\
         load      recorded, {} series, {} samples of {seconds} s, {:.1} bytes per sample on the wire",
        requests.series,
        requests.samples,
        requests.bytes_per_sample()
    );
    Ok((described, table))
}

/// The requests, and how many seconds the recording took.
fn encode(lines: impl BufRead) -> Result<(Requests, i64)> {
    let mut labels: Vec<Vec<u8>> = Vec::new();
    let mut samples: Vec<(i64, u32, f64)> = Vec::new();
    for (number, line) in lines.lines().enumerate() {
        let line: Line =
            serde_json::from_str(&line?).with_context(|| format!("line {}", number + 1))?;
        let series = u32::try_from(labels.len())?;
        let pairs: Vec<(&str, &str)> =
            line.metric.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let mut bytes = Vec::new();
        put_labels(&mut bytes, &pairs);
        labels.push(bytes);
        let stale = f64::from_bits(model::STALE_NAN_BITS);
        let values = line.values.into_iter().map(|value| value.unwrap_or(stale));
        samples
            .extend(line.timestamps.into_iter().zip(values).map(|(t, value)| (t, series, value)));
    }
    ensure!(!samples.is_empty(), "there are no samples in it");
    samples.sort_by_key(|(t_ms, series, _)| (*t_ms, *series));
    let seconds = (samples[samples.len() - 1].0 - samples[0].0) / 1_000;
    let mut encoder = Encoder::new();
    for (t_ms, series, value) in &samples {
        encoder.push(&labels[*series as usize], *t_ms, *value);
    }
    let (series, samples) = (labels.len(), samples.len());
    Ok((Requests { series, samples, lanes: vec![encoder.finish()] }, seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_recorded_is_sent_in_order_of_time() {
        let recording =
            br#"{"metric":{"__name__":"a","x":"1"},"values":[1,null],"timestamps":[2000,4000]}
{"metric":{"__name__":"b"},"values":[0.5],"timestamps":[3000]}"#;
        let (requests, seconds) = encode(&recording[..]).expect("a recording");
        assert_eq!((requests.series, requests.samples, seconds), (2, 3, 2));
        let raw = snap::raw::Decoder::new().decompress_vec(&requests.lanes[0][0]).expect("snappy");
        let mut batch = model::MetricBatch::default();
        wire::remote_write::decode(raw, &model::Limits::default(), &mut batch).expect("a request");
        assert_eq!(batch.timestamps_ms, [2_000, 3_000, 4_000]);
        assert!(model::is_stale_nan(batch.values[2]));
    }
}
