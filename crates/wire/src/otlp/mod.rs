//! OTLP metrics: the protobuf message `ExportMetricsServiceRequest`, and the same as JSON.
//!
//! Source: `opentelemetry/proto/metrics/v1/metrics.proto` of opentelemetry-proto 1.10, translated as
//! Prometheus' OTLP receiver does.
//!
//! ```text
//! Request         { repeated ResourceMetrics = 1 }
//! ResourceMetrics { Resource = 1; repeated ScopeMetrics = 2; string schema_url = 3 }
//! ScopeMetrics    { InstrumentationScope = 1; repeated Metric = 2; string schema_url = 3 }
//! Metric          { string name = 1; string description = 2; string unit = 3; Gauge = 5; Sum = 7;
//!                   Histogram = 9; ExponentialHistogram = 10; Summary = 11 }
//! ```
//!
//! Points have their own file, and so have attributes, names, exponential histograms, deltas and
//! JSON.

mod attributes;
mod deltas;
mod exemplars;
mod exponential;
mod json;
mod names;
mod points;
mod resource;

use std::ops::Range;

use model::{Limits, MetricBatch};

use crate::WireError;
use crate::protobuf::{self, Fault, Field, each_message};
use crate::refusals::Refusals;
use points::Translator;

pub(crate) use attributes::{MAX_DEPTH, any_value};
pub use deltas::{Applied, Deltas};
pub use json::{logs_to_protobuf, to_protobuf};
pub use names::TranslationStrategy;

/// How many times the largest body the labels of a request may take: a histogram's labels are
/// written once per bucket.
const LABELS_RATIO: usize = 8;

/// How OTLP becomes series: the section `otlp` of Prometheus' configuration. `Default` is that of
/// Prometheus 3.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// How names are translated.
    pub translation_strategy: TranslationStrategy,
    /// Whether all resource attributes become labels.
    pub promote_all_resource_attributes: bool,
    /// Resource attributes that become labels.
    pub promote_resource_attributes: Vec<String>,
    /// Resource attributes that do not, where all others do.
    pub ignore_resource_attributes: Vec<String>,
    /// Whether `service.name`, `service.namespace` and `service.instance.id` stay in
    /// `target_info` too.
    pub keep_identifying_resource_attributes: bool,
    /// Whether explicit histograms become native ones with custom buckets.
    pub convert_histograms_to_nhcb: bool,
    /// Whether the scope's name, version, schema and attributes become labels.
    pub promote_scope_metadata: bool,
    /// Whether `key` is put before label names that start with one `_`.
    pub label_name_underscore_sanitization: bool,
    /// Whether runs of `_` in label names are kept.
    pub label_name_preserve_multiple_underscores: bool,
    /// Whether type and unit of a metric become labels `__type__` and `__unit__` of its series, in
    /// place of attributes of these names: not of the configuration, but Prometheus' feature
    /// `type-and-unit-labels`.
    pub type_and_unit_labels: bool,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            translation_strategy: TranslationStrategy::default(),
            promote_all_resource_attributes: false,
            promote_resource_attributes: Vec::new(),
            ignore_resource_attributes: Vec::new(),
            keep_identifying_resource_attributes: false,
            convert_histograms_to_nhcb: false,
            promote_scope_metadata: false,
            label_name_underscore_sanitization: true,
            label_name_preserve_multiple_underscores: true,
            type_and_unit_labels: false,
        }
    }
}

/// What one request held.
#[derive(Debug, Default)]
pub struct Summary {
    /// Data points that are in the batch.
    pub points: u64,
    /// Exemplars that are in the batch.
    pub exemplars: usize,
    /// Exemplars left out because they have no value or there are too many.
    pub exemplars_left_out: u64,
    /// Data points that can never be stored, counted as `series`; the others are in the batch.
    pub refusals: Refusals,
    /// What was added to the totals of deltas.
    pub applied: Applied,
}

/// Decodes a decompressed request in protobuf into `out`, which is emptied first.
///
/// Deltas are added to `deltas`, and the totals are what is in the batch; without `deltas` such
/// points are refused. If the batch is not stored, [`Deltas::take_back`] undoes that. Explicit
/// histograms become classic ones, exponential ones become native ones. Each resource with something
/// that identifies it and something more to tell has a series `target_info`. About 200 ns per point
/// of five attributes.
///
/// # Errors
/// [`WireError::Malformed`] for anything that is no request; [`WireError::Limit`] for a body or
/// labels that are too large, or too many histograms. `out` is then empty, and `deltas` as before.
pub fn decode(
    body: &[u8],
    options: &Options,
    limits: &Limits,
    mut deltas: Option<&mut Deltas>,
    out: &mut MetricBatch,
) -> Result<Summary, WireError> {
    out.clear();
    if body.len() > limits.max_body_bytes.min((u32::MAX / 2) as usize) {
        return Err(too_large(format!("OTLP body of {} bytes", body.len()), limits.max_body_bytes));
    }
    let max_label_bytes =
        limits.max_body_bytes.saturating_mul(LABELS_RATIO).min((u32::MAX / 2) as usize);
    let mut translator =
        Translator::new(body, options, max_label_bytes, deltas.as_deref_mut(), out);
    let decoded = translator.request();
    let summary = translator.into_summary();
    match decoded {
        Ok(()) => Ok(summary),
        Err(error) => {
            out.clear();
            if let Some(deltas) = deltas {
                deltas.take_back(summary.applied);
            }
            Err(error)
        }
    }
}

/// Whether a request holds deltas, which must not be added twice; `false` also for what is no
/// request. Looks at no point.
pub fn has_deltas(body: &[u8]) -> bool {
    const DELTA: u64 = 1;
    let mut found = false;
    // Request → resource → scope → metric → its data, whose field 2 is the temporality.
    let result = nested(body, 0..body.len(), &[1], &mut |resource| {
        nested(body, resource, &[2], &mut |scope| {
            nested(body, scope, &[2], &mut |metric| {
                nested(body, metric, &[7, 9, 10], &mut |data| {
                    each_message(body, data, |number, field| {
                        found |= (number, field) == (2, Field::Varint(DELTA));
                        Ok(())
                    })
                })
            })
        })
    });
    result.is_ok() && found
}

type Visit<'v> = dyn FnMut(Range<usize>) -> Result<(), Fault> + 'v;

/// Shows `visit` each message among the fields `wanted` of a message.
fn nested(
    body: &[u8],
    message: Range<usize>,
    wanted: &[u64],
    visit: &mut Visit<'_>,
) -> Result<(), Fault> {
    each_message(body, message, |number, field| match field {
        Field::Bytes { start, end } if wanted.contains(&number) => visit(start..end),
        _ => Ok(()),
    })
}

fn malformed((offset, reason): Fault) -> WireError {
    WireError::Malformed { format: "OTLP metrics request", offset, reason }
}

fn too_large(what: String, limit: usize) -> WireError {
    WireError::Limit {
        what,
        limit: format!("{limit} bytes"),
        remedy: "let the sender export smaller batches or raise `limits.max_body_bytes`",
    }
}

/// Temporality, and whether it is a counter, of a metric's data; they may stand behind the points.
fn shape(body: &[u8], data: Range<usize>) -> Result<(u64, bool), Fault> {
    let (mut temporality, mut is_monotonic) = (0, false);
    let mut at = data.start;
    while at < data.end {
        let start = at;
        match protobuf::field(body, &mut at, data.end)? {
            (2, Field::Varint(number)) => temporality = number,
            (3, Field::Varint(flag)) => is_monotonic = flag != 0,
            (2 | 3, _) => return Err((start, "field of a data point has the wrong type")),
            _ => {}
        }
    }
    Ok((temporality, is_monotonic))
}

fn too_many_labels(limit: usize) -> WireError {
    too_large("labels of an OTLP request, written out for each series,".to_owned(), limit)
}
