//! Datadog's `series`: version 1 in JSON, version 2 in JSON and protobuf.
//!
//! Source: <https://docs.datadoghq.com/api/latest/metrics/#submit-metrics>:
//!
//! ```text
//! 1: {"series":[{"metric":"a","points":[[1700000000,1.5]],"host":"h","device":"d","type":"gauge",
//!                "tags":["k:v"]}]}
//! 2: {"series":[{"metric":"a","points":[{"timestamp":1700000000,"value":1.5}],"type":3,
//!                "resources":[{"type":"host","name":"h"}],"tags":["k:v"]}]}
//! ```
//!
//! In protobuf version 2 is, by `proto/metrics/agent_payload.proto` of
//! <https://github.com/DataDog/agent-payload>:
//!
//! ```text
//! MetricPayload { 1: series { 1: resources { 1: type, 2: name }, 2: metric, 3: tags,
//!                             4: points { 1: value (double), 2: timestamp (int64, seconds) },
//!                             5: type, 6: unit, 7: source_type_name, 8: interval, 9: metadata } }
//! ```

use std::borrow::Cow;

use model::{Limits, MetricBatch};
use serde_json::value::RawValue;

use crate::WireError;
use crate::json_list::{self, Few};
use crate::pair_rows::PairRows;
use crate::protobuf::{self, Fault, Field};
use crate::refusals::Refusals;

/// Most tags, and most resources, kept of a series, whatever `limits.max_labels_per_series` is: an
/// empty one takes a few bytes of a body and many times that in memory.
const MOST: usize = 10_000;

#[derive(serde::Deserialize)]
struct SeriesOne<'s> {
    #[serde(borrow)]
    metric: Cow<'s, str>,
    points: Vec<(Option<f64>, Option<f64>)>,
    #[serde(borrow, default)]
    host: Option<Cow<'s, str>>,
    #[serde(borrow, default)]
    device: Option<Cow<'s, str>>,
    #[serde(borrow, default)]
    tags: Option<Few<Cow<'s, str>, MOST>>,
}

#[derive(serde::Deserialize)]
struct SeriesTwo<'s> {
    #[serde(borrow)]
    metric: Cow<'s, str>,
    points: Vec<PointTwo>,
    #[serde(borrow, default)]
    resources: Option<Few<Resource<'s>, MOST>>,
    #[serde(borrow, default)]
    tags: Option<Few<Cow<'s, str>, MOST>>,
}

#[derive(serde::Deserialize)]
struct PointTwo {
    timestamp: Option<f64>,
    value: Option<f64>,
}

#[derive(serde::Deserialize)]
struct Resource<'s> {
    #[serde(borrow, rename = "type", default)]
    kind: Cow<'s, str>,
    #[serde(borrow, default)]
    name: Cow<'s, str>,
}

/// Decodes a request of version 1 into `out`, which is emptied first. The metric's name stays as it
/// is, `host` and `device` become labels, and so do tags; one without value has the value
/// `no_label_value`, as in VictoriaMetrics. Yields the series that are refused because they cannot be
/// read or have more labels than a series may, and the points without a time or a value.
///
/// # Errors
/// [`WireError::Text`] for what is no JSON with a list of series; [`WireError::Limit`] for a body or labels that are
/// too large. `out` is then empty.
pub fn decode_one(
    body: &[u8],
    limits: &Limits,
    out: &mut MetricBatch,
) -> Result<Refusals, WireError> {
    let rows = PairRows::new("Datadog series", body.len(), limits, out)?;
    let result = fill_one(body, limits, rows);
    if result.is_err() {
        out.clear();
    }
    result
}

fn fill_one(body: &[u8], limits: &Limits, mut rows: PairRows<'_>) -> Result<Refusals, WireError> {
    let mut refusals = Refusals::default();
    json_list::for_each(body, "series", |raw: &RawValue| {
        let Some(series) = read::<SeriesOne<'_>>(raw, &mut refusals) else { return Ok(()) };
        let tags = series.tags.unwrap_or_default();
        let fields = [&series.host, &series.device];
        let count = tags.count + fields.into_iter().flatten().count();
        if !has_room(count, &series.metric, series.points.len(), limits, &mut refusals) {
            return Ok(());
        }
        let mut labels: Vec<(&str, &str)> = Vec::new();
        add(&mut labels, "host", series.host.as_deref().unwrap_or_default());
        add(&mut labels, "device", series.device.as_deref().unwrap_or_default());
        add_tags(&mut labels, &tags.first);
        push(&series.metric, &labels, series.points.into_iter(), &mut refusals, &mut rows)
    })?;
    Ok(refusals)
}

/// As [`decode_one`], for version 2, whose resources become labels by their type.
///
/// # Errors
/// As [`decode_one`].
pub fn decode_two(
    body: &[u8],
    limits: &Limits,
    out: &mut MetricBatch,
) -> Result<Refusals, WireError> {
    let rows = PairRows::new("Datadog series", body.len(), limits, out)?;
    let result = fill_two(body, limits, rows);
    if result.is_err() {
        out.clear();
    }
    result
}

fn fill_two(body: &[u8], limits: &Limits, mut rows: PairRows<'_>) -> Result<Refusals, WireError> {
    let mut refusals = Refusals::default();
    json_list::for_each(body, "series", |raw: &RawValue| {
        let Some(series) = read(raw, &mut refusals) else { return Ok(()) };
        push_two(&series, limits, &mut refusals, &mut rows)
    })?;
    Ok(refusals)
}

fn push_two(
    series: &SeriesTwo<'_>,
    limits: &Limits,
    refusals: &mut Refusals,
    rows: &mut PairRows<'_>,
) -> Result<(), WireError> {
    let (tags, resources) = (series.tags.as_ref(), series.resources.as_ref());
    let count = tags.map_or(0, |tags| tags.count) + resources.map_or(0, |list| list.count);
    if !has_room(count, &series.metric, series.points.len(), limits, refusals) {
        return Ok(());
    }
    let mut labels: Vec<(&str, &str)> = Vec::new();
    for resource in resources.iter().flat_map(|list| &list.first) {
        add(&mut labels, &resource.kind, &resource.name);
    }
    add_tags(&mut labels, tags.map_or(&[], |tags| &tags.first));
    let points = series.points.iter().map(|point| (point.timestamp, point.value));
    push(&series.metric, &labels, points, refusals, rows)
}

/// A series of JSON; one that is none is refused and the others are not.
fn read<'s, S: serde::Deserialize<'s>>(raw: &'s RawValue, refusals: &mut Refusals) -> Option<S> {
    let read = serde_json::from_str(raw.get());
    if let Err(error) = &read {
        let reason = format!("a series cannot be read: {}", json_list::reason(error));
        refusals.add(&reason, 0, 0, || json_list::shown(raw.get()));
    }
    read.ok()
}

/// As [`decode_two`], for protobuf.
///
/// # Errors
/// As [`decode_one`], and [`WireError::Malformed`] for what is no such message.
pub fn decode_two_protobuf(
    body: &[u8],
    limits: &Limits,
    out: &mut MetricBatch,
) -> Result<Refusals, WireError> {
    let rows = PairRows::new("Datadog series", body.len(), limits, out)?;
    let result = fill_two_protobuf(body, limits, rows);
    if result.is_err() {
        out.clear();
    }
    result
}

fn fill_two_protobuf(
    body: &[u8],
    limits: &Limits,
    mut rows: PairRows<'_>,
) -> Result<Refusals, WireError> {
    let malformed =
        |(offset, reason)| WireError::Malformed { format: "Datadog series", offset, reason };
    let mut refusals = Refusals::default();
    let mut at = 0;
    while at < body.len() {
        let (number, field) = protobuf::field(body, &mut at, body.len()).map_err(malformed)?;
        if let (1, Field::Bytes { start, end }) = (number, field) {
            let most = rows.room();
            let series = series_two(body, start, end, most).map_err(malformed)?;
            if series.points.len() > most {
                return Err(rows.is_full());
            }
            push_two(&series, limits, &mut refusals, &mut rows)?;
        }
    }
    Ok(refusals)
}

/// A series; of more than `most` points it ends with the one that is too many.
fn series_two(body: &[u8], start: usize, end: usize, most: usize) -> Result<SeriesTwo<'_>, Fault> {
    let (mut resources, mut tags) = (Few::default(), Few::default());
    let mut series =
        SeriesTwo { metric: Cow::Borrowed(""), points: Vec::new(), resources: None, tags: None };
    let mut at = start;
    while at < end && series.points.len() <= most {
        match protobuf::field(body, &mut at, end)? {
            (1, Field::Bytes { start, end }) => {
                let mut resource = Resource { kind: Cow::Borrowed(""), name: Cow::Borrowed("") };
                let mut at = start;
                while at < end {
                    match protobuf::field(body, &mut at, end)? {
                        (1, Field::Bytes { start, end }) => resource.kind = text(body, start, end)?,
                        (2, Field::Bytes { start, end }) => resource.name = text(body, start, end)?,
                        _ => {}
                    }
                }
                resources.push(resource);
            }
            (2, Field::Bytes { start, end }) => series.metric = text(body, start, end)?,
            (3, Field::Bytes { start, end }) => tags.push(text(body, start, end)?),
            (4, Field::Bytes { start, end }) => {
                let mut point = PointTwo { timestamp: Some(0.0), value: Some(0.0) };
                let mut at = start;
                while at < end {
                    match protobuf::field(body, &mut at, end)? {
                        (1, Field::Fixed64(bits)) => point.value = Some(f64::from_bits(bits)),
                        (2, Field::Varint(seconds)) => {
                            point.timestamp = Some(seconds as i64 as f64);
                        }
                        _ => {}
                    }
                }
                series.points.push(point);
            }
            _ => {}
        }
    }
    series.resources = Some(resources);
    series.tags = Some(tags);
    Ok(series)
}

fn text(body: &[u8], start: usize, end: usize) -> Result<Cow<'_, str>, Fault> {
    match std::str::from_utf8(&body[start..end]) {
        Ok(text) => Ok(Cow::Borrowed(text)),
        Err(_) => Err((start, "text is not valid UTF-8")),
    }
}

/// Whether a series has not too many labels. To be asked before they are told apart, which takes
/// the square of their number.
fn has_room(
    labels: usize,
    metric: &str,
    samples: usize,
    limits: &Limits,
    refusals: &mut Refusals,
) -> bool {
    let limit = limits.max_labels_per_series.min(MOST);
    if labels > limit {
        let reason = format!(
            "more than {limit} tags and resources; drop tags at the sender or raise \
             `limits.max_labels_per_series`"
        );
        refusals.add(&reason, samples as u64, 0, || metric.to_owned());
    }
    labels <= limit
}

/// Seconds to milliseconds; what is no time at all is too old for any store.
fn ms(seconds: f64) -> i64 {
    (seconds * 1e3).round() as i64
}

/// The first of a name stays.
fn add<'l>(labels: &mut Vec<(&'l str, &'l str)>, name: &'l str, value: &'l str) {
    let is_known = labels.iter().any(|(known, _)| *known == name);
    if !name.is_empty() && !value.is_empty() && !is_known {
        labels.push((name, value));
    }
}

fn add_tags<'l>(labels: &mut Vec<(&'l str, &'l str)>, tags: &'l [Cow<'_, str>]) {
    for tag in tags {
        let (name, value) = tag.split_once(':').unwrap_or((tag, "no_label_value"));
        // The name of a label that a resource or field has already.
        let is_taken = labels.iter().any(|(known, _)| *known == name);
        let name = if is_taken && name == "host" { "exported_host" } else { name };
        add(labels, name, value);
    }
}

fn push(
    metric: &str,
    labels: &[(&str, &str)],
    points: impl Iterator<Item = (Option<f64>, Option<f64>)>,
    refusals: &mut Refusals,
    rows: &mut PairRows<'_>,
) -> Result<(), WireError> {
    rows.begin(&[metric.as_bytes()]);
    for (name, value) in labels {
        rows.label(name.as_bytes(), value.as_bytes());
    }
    rows.end(points.filter_map(|point| match point {
        (Some(seconds), Some(value)) => Some((ms(seconds), value)),
        _ => {
            refusals.add("a point without a time or a value", 1, 0, || metric.to_owned());
            None
        }
    }))
}
