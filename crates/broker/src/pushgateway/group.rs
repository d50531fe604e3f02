//! One group of pushed metrics.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use model::{
    Histogram, LabelForm, Labels, LabelsBuilder, Limits, METRIC_NAME, MetricBatch, MetricType,
    STALE_NAN_BITS, TenantName,
};
use serde::{Deserialize, Serialize};
use wire::text_encode::TextEncoder;

use super::push::{self, Form, PushError};

/// The label that tells targets of a job apart.
const INSTANCE: &str = "instance";

/// Names the gateway sets itself, whatever is pushed.
pub(super) const PUSH_TIME: &str = "push_time_seconds";
pub(super) const PUSH_FAILURE_TIME: &str = "push_failure_time_seconds";

const PUSH_TIME_HELP: &str =
    "Last Unix time when changing this group in the Pushgateway succeeded.";
const PUSH_FAILURE_TIME_HELP: &str =
    "Last Unix time when changing this group in the Pushgateway failed.";

/// Metrics of one family in one group.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Family {
    pub(super) kind: MetricType,
    pub(super) help: String,
    /// Sorted by labels, which include the name and the grouping key.
    pub(super) series: Vec<(Labels, f64)>,
    /// Likewise.
    pub(super) histograms: Vec<NativeSeries>,
}

/// A series whose value is a native histogram.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct NativeSeries {
    pub(super) labels: Labels,
    /// When its counts began at zero, if that was told. Milliseconds since the epoch.
    pub(super) start_ms: Option<i64>,
    pub(super) histogram: Histogram,
}

/// Families by name.
pub(super) type Families = BTreeMap<String, Family>;

/// Everything pushed under one grouping key.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Group {
    /// Whose it is.
    pub(super) tenant: TenantName,
    /// The grouping key; `job` is among them.
    pub(super) key: BTreeMap<String, String>,
    pub(super) families: Families,
    /// Of the last push that was stored, 0 if there was none. Milliseconds since the epoch.
    pub(super) pushed_ms: i64,
    /// Of the last push that was refused, 0 if there was none.
    pub(super) failed_ms: i64,
}

impl Group {
    /// A group nothing was pushed to.
    pub(super) fn new(tenant: TenantName, key: BTreeMap<String, String>) -> Self {
        Group { tenant, key, families: Families::new(), pushed_ms: 0, failed_ms: 0 }
    }

    /// Whose it is, and its grouping key.
    pub(super) fn place(&self) -> (TenantName, BTreeMap<String, String>) {
        (self.tenant, self.key.clone())
    }

    /// Number of series, its two times included.
    pub(super) fn series(&self) -> usize {
        let of = |family: &Family| family.series.len() + family.histograms.len();
        self.families.values().map(of).sum::<usize>() + 2
    }

    /// The two times as families.
    pub(super) fn times(&self) -> [(&'static str, Family); 2] {
        let family = |name: &str, help: &str, t_ms: i64| Family {
            kind: MetricType::Gauge,
            help: help.to_owned(),
            series: vec![(self.labels(name), t_ms as f64 / 1e3)],
            histograms: Vec::new(),
        };
        [
            (PUSH_FAILURE_TIME, family(PUSH_FAILURE_TIME, PUSH_FAILURE_TIME_HELP, self.failed_ms)),
            (PUSH_TIME, family(PUSH_TIME, PUSH_TIME_HELP, self.pushed_ms)),
        ]
    }

    fn labels(&self, name: &str) -> Labels {
        let mut labels = LabelsBuilder::new();
        labels.set(METRIC_NAME, name);
        for (name, value) in &self.key {
            labels.set(name, value);
        }
        labels.build()
    }

    /// Appends every series with its value at `t_ms`.
    pub(super) fn collect(&self, t_ms: i64, out: &mut MetricBatch) {
        for (_, family) in self.times() {
            family.collect(t_ms, out);
        }
        for family in self.families.values() {
            family.collect(t_ms, out);
        }
    }

    /// Appends the end of every series that `after` does not have.
    pub(super) fn collect_ended(&self, after: Option<&Group>, t_ms: i64, out: &mut MetricBatch) {
        if after.is_none() {
            for (labels, _) in self.times().iter().flat_map(|(_, family)| &family.series) {
                out.push(labels, t_ms, f64::from_bits(STALE_NAN_BITS));
            }
        }
        for (name, family) in &self.families {
            let stays = after.and_then(|after| after.families.get(name));
            for (labels, _) in &family.series {
                if stays.is_none_or(|stays| !stays.has(labels)) {
                    out.push(labels, t_ms, f64::from_bits(STALE_NAN_BITS));
                }
            }
            for NativeSeries { labels, .. } in &family.histograms {
                if stays.is_none_or(|stays| !stays.has_histogram(labels)) {
                    out.push_histogram(labels, t_ms, None, Histogram::stale());
                }
            }
        }
    }

    /// The group as it is kept: a line of JSON with key, times and native histograms, then the
    /// text format.
    pub(super) fn encode(&self) -> Vec<u8> {
        let head = Head {
            tenant: (!self.tenant.is_default()).then(|| self.tenant.to_string()),
            key: self.key.clone(),
            pushed_ms: self.pushed_ms,
            failed_ms: self.failed_ms,
            histograms: self.encode_histograms(),
        };
        let mut out = serde_json::to_vec(&head).expect("texts and numbers are JSON");
        out.push(b'\n');
        let mut text = TextEncoder::new(&mut out);
        for (name, family) in &self.families {
            family.write(name, &mut text);
        }
        out
    }

    /// Reads back what [`Group::encode`] wrote; `limits_of` yields the limits of its tenant.
    pub(super) fn decode(
        bytes: &[u8],
        limits_of: impl FnOnce(TenantName) -> Arc<Limits>,
    ) -> Result<Group, PushError> {
        let end = bytes.iter().position(|byte| *byte == b'\n').unwrap_or(bytes.len());
        let head: Head = serde_json::from_slice(&bytes[..end]).map_err(damaged)?;
        let tenant = head.tenant.as_deref().map(TenantName::parse).transpose().map_err(damaged)?;
        let tenant = tenant.unwrap_or_default();
        let limits = &*limits_of(tenant);
        let text = bytes.get(end + 1..).unwrap_or_default();
        let mut families = push::read(text, Form::Text, &head.key, limits)?;
        decode_histograms(&head.histograms, limits, &mut families)?;
        push::settle(&mut families)?;
        let Head { key, pushed_ms, failed_ms, .. } = head;
        Ok(Group { tenant, key, families, pushed_ms, failed_ms })
    }

    /// Native histograms as an agent would send them, which text cannot say; empty if there are
    /// none.
    fn encode_histograms(&self) -> String {
        let mut batch = MetricBatch::default();
        for one in self.families.values().flat_map(|family| &family.histograms) {
            batch.push_histogram(&one.labels, 0, one.start_ms, one.histogram.clone());
        }
        if batch.histograms.is_empty() {
            return String::new();
        }
        let mut bytes = Vec::new();
        wire::agent_batch::encode(&batch, &mut bytes);
        BASE64_STANDARD.encode(bytes)
    }
}

fn decode_histograms(
    encoded: &str,
    limits: &Limits,
    families: &mut Families,
) -> Result<(), PushError> {
    if encoded.is_empty() {
        return Ok(());
    }
    let bytes = BASE64_STANDARD.decode(encoded).map_err(damaged)?;
    let mut batch = MetricBatch::default();
    wire::agent_batch::decode(&bytes, limits, &mut batch).map_err(damaged)?;
    for sample in &batch.histograms {
        let labels = batch.label_bytes_of_histogram(sample);
        let labels = wire::decode_labels(LabelForm::Packed, labels, limits).map_err(damaged)?;
        let family = families.get_mut(labels.metric_name().unwrap_or_default());
        let family = family.ok_or_else(|| damaged("a histogram without its family"))?;
        let (start_ms, histogram) = (sample.start_ms, sample.histogram.clone());
        family.histograms.push(NativeSeries { labels, start_ms, histogram });
    }
    Ok(())
}

fn damaged(error: impl std::fmt::Display) -> PushError {
    PushError::Refused(format!("a stored group is damaged: {error}"))
}

/// The first line of a stored group.
#[derive(Serialize, Deserialize)]
struct Head {
    /// Absent for the default one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tenant: Option<String>,
    key: BTreeMap<String, String>,
    pushed_ms: i64,
    failed_ms: i64,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    histograms: String,
}

/// Buckets by their upper bounds, where labels alone would put 10 before 2 and both behind `+Inf`.
fn by_bound(one: &Labels, other: &Labels) -> Ordering {
    const BOUND: &str = "le";
    fn rest(labels: &Labels) -> impl Iterator<Item = (&str, &str)> {
        labels.iter().filter(|(name, _)| *name != BOUND)
    }
    let bound = |labels: &Labels| labels.get(BOUND).and_then(|bound| bound.parse::<f64>().ok());
    let of = |labels| bound(labels).unwrap_or(f64::NAN);
    rest(one).cmp(rest(other)).then_with(|| of(one).total_cmp(&of(other)))
}

impl Family {
    /// Whether nothing was pushed but its description.
    pub(super) fn is_empty(&self) -> bool {
        self.series.is_empty() && self.histograms.is_empty()
    }

    fn collect(&self, t_ms: i64, out: &mut MetricBatch) {
        for (labels, value) in &self.series {
            out.push(labels, t_ms, *value);
        }
        for one in &self.histograms {
            out.push_histogram(&one.labels, t_ms, one.start_ms, one.histogram.clone());
        }
    }

    /// Whether one of its series has these labels.
    pub(super) fn has(&self, labels: &Labels) -> bool {
        self.series.binary_search_by(|(other, _)| other.cmp(labels)).is_ok()
    }

    /// Whether one of its native histograms has these labels.
    pub(super) fn has_histogram(&self, labels: &Labels) -> bool {
        self.histograms.binary_search_by(|other| other.labels.cmp(labels)).is_ok()
    }

    /// Writes the family in the text format, which has no native histograms.
    pub(super) fn write(&self, name: &str, text: &mut TextEncoder<'_>) {
        let kind = if self.kind == MetricType::Unknown { "untyped" } else { self.kind.as_str() };
        text.family(name, kind, &self.help);
        self.write_samples(text);
    }

    /// Writes the family's samples without its `HELP` and `TYPE`. One without `instance` is written
    /// with an empty one, as the Pushgateway does: else whoever scrapes adds its own.
    pub(super) fn write_samples(&self, text: &mut TextEncoder<'_>) {
        let mut rows: Vec<&(Labels, f64)> = self.series.iter().collect();
        if self.kind == MetricType::Histogram {
            rows.sort_by(|(one, _), (other, _)| by_bound(one, other));
        }
        for (labels, value) in rows {
            let rest = labels.iter().filter(|(label, _)| *label != METRIC_NAME);
            let none = labels.get(INSTANCE).is_none().then_some((INSTANCE, ""));
            let name = labels.metric_name().unwrap_or_default();
            text.sample_at(name, rest.chain(none), *value, None);
        }
    }
}
