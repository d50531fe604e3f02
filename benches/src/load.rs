//! The load: what a fleet of hosts would send by remote write 1.0, in the order of arrival.
//!
//! Every host is scraped once per step at an offset of its own, so that no sample lies on a whole step
//! of a query: servers differ in whether a window holds its left edge, and that is not what is
//! compared. All requests are encoded before a server is started.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Result, bail, ensure};

use crate::environment;
use crate::families::Fleet;
use crate::values::{Random, Values};

/// Prometheus' default for `max_samples_per_send`.
const SAMPLES_PER_REQUEST: usize = 2_000;
const SEED: u64 = 0x00c0_ffee;
/// One host in so many reboots halfway: its counters fall to zero.
const REBOOT_EVERY: usize = 16;
/// A compressed request needs about 20 bytes per sample, at most 70.
const MEMORY_PER_SAMPLE: usize = 70;

/// How large a load is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    pub(crate) fleet: Fleet,
    /// Series there are at a time.
    pub(crate) series: usize,
    pub(crate) steps: usize,
    pub(crate) connections: usize,
    /// Time between scrapes of a host.
    pub(crate) step_ms: i64,
    /// So many of a hundred hosts are replaced by new ones at each step.
    pub(crate) churn_percent: usize,
}

impl Shape {
    /// Samples in all.
    pub(crate) fn samples(&self) -> usize {
        self.series * self.steps
    }

    /// Time from the first step to the end of the last.
    pub(crate) fn duration_ms(&self) -> i64 {
        i64::try_from(self.steps).expect("steps fit") * self.step_ms
    }

    /// Series of one family there are at a time.
    pub(crate) fn series_of(&self, name: &str) -> usize {
        let of_host = |count: usize| {
            let names = self.fleet.families().iter().flat_map(|families| {
                let combinations = families.combinations().len();
                families.names.iter().flat_map(move |name| std::iter::repeat_n(name, combinations))
            });
            names.take(count).filter(|other| **other == name).count()
        };
        let of_whole = self.fleet.series_per_host();
        (self.series / of_whole) * of_host(of_whole) + of_host(self.series % of_whole)
    }

    /// How often a host was replaced until a step.
    fn replaced(&self, host: usize, step: usize) -> usize {
        // Hosts take turns, so that each step brings the same number of new series.
        let turns = |step: usize| (step * self.churn_percent + host * 37 % 100) / 100;
        turns(step) - turns(0)
    }
}

/// An encoded load.
#[derive(Debug)]
pub(crate) struct Load {
    pub(crate) shape: Shape,
    /// End of the last step, a multiple of the step; all samples lie before it.
    pub(crate) end_ms: i64,
    pub(crate) requests: Requests,
}

/// What is sent.
#[derive(Debug)]
pub(crate) struct Requests {
    /// Series there are at a time.
    pub(crate) series: usize,
    pub(crate) samples: usize,
    /// The bodies each connection sends, in order. A host belongs to one connection.
    pub(crate) lanes: Vec<Vec<Vec<u8>>>,
}

impl Requests {
    /// Bytes of a sample as it is sent, with its part of everything else.
    pub(crate) fn bytes_per_sample(&self) -> f64 {
        let bytes: usize = self.lanes.iter().flatten().map(Vec::len).sum();
        bytes as f64 / self.samples as f64
    }
}

/// Makes requests of samples, as they come.
pub(crate) struct Encoder {
    snappy: snap::raw::Encoder,
    request: Vec<u8>,
    in_request: usize,
    bodies: Vec<Vec<u8>>,
}

impl Encoder {
    pub(crate) fn new() -> Self {
        let snappy = snap::raw::Encoder::new();
        Encoder { snappy, request: Vec::new(), in_request: 0, bodies: Vec::new() }
    }

    /// `labels` are as [`put_labels`] writes them.
    pub(crate) fn push(&mut self, labels: &[u8], t_ms: i64, value: f64) {
        put_series(&mut self.request, labels, t_ms, value);
        self.in_request += 1;
        if self.in_request == SAMPLES_PER_REQUEST {
            self.end_request();
        }
    }

    fn end_request(&mut self) {
        let body = self.snappy.compress_vec(&self.request);
        self.bodies.push(body.expect("a request is far below 4 GiB"));
        self.request.clear();
        self.in_request = 0;
    }

    pub(crate) fn finish(mut self) -> Vec<Vec<u8>> {
        if self.in_request > 0 {
            self.end_request();
        }
        self.bodies
    }
}

impl Load {
    /// Encodes a load that ends at the last whole step before now.
    ///
    /// # Errors
    /// If it would not fit into half of the free memory.
    pub(crate) fn encode(shape: Shape) -> Result<Load> {
        ensure!(
            shape.series > 0 && shape.steps > 0 && shape.connections > 0,
            "--series, --steps and --connections must be at least 1"
        );
        ensure!(shape.churn_percent <= 100, "--churn is a percentage");
        ensure!(shape.step_ms >= 1_000, "--interval must be at least 1");
        let needed = shape.samples() * MEMORY_PER_SAMPLE;
        let available = environment::available_memory_bytes()?;
        if needed > available / 2 {
            bail!(
                "{} samples may need {} MB of memory as requests, and only {} MB are free: lower \
                 --series or --steps",
                shape.samples(),
                needed >> 20,
                available >> 20
            );
        }
        let now_ms = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis())?;
        let end_ms = now_ms / shape.step_ms * shape.step_ms;
        Ok(Load::ending_at(shape, end_ms))
    }

    /// Encodes a load that ends at a time, which may be still to come.
    pub(crate) fn ending_at(shape: Shape, end_ms: i64) -> Load {
        let per_host = shape.fleet.series_per_host();
        let mut instances: Vec<Instance> = (0..shape.series.div_ceil(per_host))
            .map(|index| {
                let count = per_host.min(shape.series - index * per_host);
                Instance::new(&shape, index, 0, count)
            })
            .collect();
        instances.sort_by_key(|instance| (instance.offset_ms, instance.index));
        let mut lanes: Vec<Vec<Instance>> = (0..shape.connections).map(|_| Vec::new()).collect();
        for (place, instance) in instances.into_iter().enumerate() {
            lanes[place % shape.connections].push(instance);
        }
        let start_ms = end_ms - shape.duration_ms();
        let lanes = lanes.into_iter().map(|lane| encode_lane(lane, start_ms, &shape)).collect();
        let requests = Requests { series: shape.series, samples: shape.samples(), lanes };
        Load { shape, end_ms, requests }
    }
}

/// One host: its series with their labels as they go over the wire.
struct Instance {
    index: usize,
    replaced: usize,
    offset_ms: i64,
    label_bytes: Vec<u8>,
    series: Vec<Series>,
}

struct Series {
    /// End of its labels in the instance's bytes; they start where those before it end.
    labels_end: usize,
    values: Values,
}

impl Instance {
    fn new(shape: &Shape, index: usize, replaced: usize, count: usize) -> Self {
        let seed = SEED ^ ((index as u64) << 32);
        let offset_ms = 1 + Random::new(seed).below(shape.step_ms - 2);
        let seed = seed ^ ((replaced as u64) << 16);
        let of_host = shape.fleet.host_labels(index, replaced);
        let mut label_bytes = Vec::new();
        let mut series = Vec::with_capacity(count);
        'all: for families in shape.fleet.families() {
            let combinations = families.combinations();
            for name in families.names {
                for (place, combination) in combinations.iter().enumerate() {
                    if series.len() == count {
                        break 'all;
                    }
                    let mut labels = combination.clone();
                    labels.push(("__name__", *name));
                    labels.extend(of_host.iter().map(|(name, value)| (*name, value.as_str())));
                    labels.sort_unstable();
                    put_labels(&mut label_bytes, &labels);
                    let is_moving = place < families.moving;
                    let seed = seed + 1 + series.len() as u64;
                    // Seeds of neighbours must not be close: SplitMix64 adds a constant per step.
                    let seed = Random::new(seed).below(i64::MAX) as u64;
                    let values = Values::new(families.behaviour, is_moving, seed);
                    series.push(Series { labels_end: label_bytes.len(), values });
                }
            }
        }
        Instance { index, replaced, offset_ms, label_bytes, series }
    }
}

fn encode_lane(mut instances: Vec<Instance>, start_ms: i64, shape: &Shape) -> Vec<Vec<u8>> {
    let steps = shape.steps;
    let mut encoder = Encoder::new();
    for (step, step_ms) in (start_ms..).step_by(shape.step_ms as usize).take(steps).enumerate() {
        for instance in &mut instances {
            let replaced = shape.replaced(instance.index, step);
            if replaced != instance.replaced {
                *instance = Instance::new(shape, instance.index, replaced, instance.series.len());
            }
            let t_ms = step_ms + instance.offset_ms;
            let reboots = step == steps / 2 && instance.index % REBOOT_EVERY == REBOOT_EVERY / 2;
            let mut labels_start = 0;
            for series in &mut instance.series {
                if reboots {
                    series.values.reboot();
                }
                let labels = &instance.label_bytes[labels_start..series.labels_end];
                labels_start = series.labels_end;
                encoder.push(labels, t_ms, series.values.next(t_ms));
            }
        }
    }
    encoder.finish()
}

/// Appends `WriteRequest.timeseries` with one sample; see `prompb/types.proto` of Prometheus.
pub(crate) fn put_series(out: &mut Vec<u8>, labels: &[u8], t_ms: i64, value: f64) {
    let mut sample = [0_u8; 24];
    let mut len = 0;
    // Prometheus leaves out a zero, as proto3 has it.
    if value.to_bits() != 0 {
        sample[0] = 0x09;
        sample[1..9].copy_from_slice(&value.to_le_bytes());
        len = 9;
    }
    sample[len] = 0x10;
    len += 1;
    let mut rest = t_ms as u64;
    while rest >= 0x80 {
        sample[len] = rest as u8 | 0x80;
        rest >>= 7;
        len += 1;
    }
    sample[len] = rest as u8;
    len += 1;

    out.push(0x0a);
    put_varint(out, labels.len() + 2 + len);
    out.extend_from_slice(labels);
    out.extend_from_slice(&[0x12, len as u8]);
    out.extend_from_slice(&sample[..len]);
}

/// Appends `TimeSeries.labels`, which have to be in order of their names.
pub(crate) fn put_labels(out: &mut Vec<u8>, labels: &[(&str, &str)]) {
    for (name, value) in labels {
        let mut label = Vec::new();
        for (tag, text) in [(0x0a, name), (0x12, value)] {
            label.push(tag);
            put_varint(&mut label, text.len());
            label.extend_from_slice(text.as_bytes());
        }
        out.push(0x0a);
        put_varint(out, label.len());
        out.append(&mut label);
    }
}

fn put_varint(out: &mut Vec<u8>, mut value: usize) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use model::{Limits, MetricBatch};

    use super::*;

    const END_MS: i64 = 1_800_000_000_000;
    const STEP_MS: i64 = 15_000;

    fn shape(series: usize, steps: usize, connections: usize) -> Shape {
        let fleet = Fleet::Node;
        Shape { fleet, series, steps, connections, step_ms: STEP_MS, churn_percent: 0 }
    }

    fn samples_of(load: &Load) -> HashMap<String, Vec<(i64, f64)>> {
        let limits = Limits::default();
        let mut series: HashMap<String, Vec<(i64, f64)>> = HashMap::new();
        for body in load.requests.lanes.iter().flatten() {
            let raw = snap::raw::Decoder::new().decompress_vec(body).expect("snappy");
            let mut batch = MetricBatch::default();
            wire::remote_write::decode(raw, &limits, &mut batch).expect("a write request");
            for rows in &batch.series {
                let bytes = batch.label_bytes_of(rows);
                let labels = wire::decode_labels(rows.form, bytes, &limits).expect("labels");
                let row = rows.first_row as usize;
                let sample = (batch.timestamps_ms[row], batch.values[row]);
                series.entry(labels.to_string()).or_default().push(sample);
            }
        }
        series
    }

    #[test]
    fn every_series_has_one_sample_per_step_inside_it() {
        let shape = shape(1_500, 7, 2);
        let series = samples_of(&Load::ending_at(shape, END_MS));
        assert_eq!(series.len(), shape.series);
        for (labels, samples) in &series {
            assert_eq!(samples.len(), shape.steps, "{labels}");
            for (step, (t_ms, _)) in samples.iter().enumerate() {
                let left_ms = END_MS - (shape.steps - step) as i64 * STEP_MS;
                assert!(left_ms < *t_ms && *t_ms < left_ms + STEP_MS, "{labels} at {t_ms}");
            }
        }
    }

    #[test]
    fn churn_brings_as_many_new_series_at_each_step() {
        let shape = Shape { churn_percent: 10, ..shape(62_500, 6, 1) };
        let series = samples_of(&Load::ending_at(shape, END_MS));
        let samples: usize = series.values().map(Vec::len).sum();
        assert_eq!(samples, shape.samples());
        for step in 1..6 {
            let begin_ms = END_MS - (6 - step) * STEP_MS;
            let new =
                |samples: &&Vec<(i64, f64)>| (begin_ms..begin_ms + STEP_MS).contains(&samples[0].0);
            assert_eq!(series.values().filter(new).count(), 6_250, "step {step}");
        }
    }

    #[test]
    fn devops_has_ten_tags() {
        let shape = Shape { fleet: Fleet::Devops, ..shape(250, 2, 1) };
        let series = samples_of(&Load::ending_at(shape, END_MS));
        assert_eq!(series.len(), 250);
        assert!(series.keys().all(|labels| labels.matches('=').count() >= 10), "{series:?}");
    }

    #[test]
    fn series_of_a_family_are_counted() {
        let shape = shape(1_300, 1, 1);
        let series = samples_of(&Load::ending_at(shape, END_MS));
        for name in ["node_cpu_seconds_total", "node_load1", "up"] {
            let prefix = format!("{name}{{");
            let found = series.keys().filter(|labels| labels.starts_with(&prefix)).count();
            assert_eq!(shape.series_of(name), found, "{name}");
        }
    }

    #[test]
    fn the_same_shape_yields_the_same_bytes() {
        let shape = shape(700, 3, 1);
        let (one, two) = (Load::ending_at(shape, END_MS), Load::ending_at(shape, END_MS));
        assert_eq!(one.requests.lanes, two.requests.lanes);
        let values: Vec<f64> =
            samples_of(&one).values().map(|samples| samples[0].1).filter(|v| *v != 0.0).collect();
        let distinct: std::collections::HashSet<u64> =
            values.iter().map(|value| value.to_bits()).collect();
        assert!(distinct.len() * 2 > values.len(), "values of different series differ");
    }
}
