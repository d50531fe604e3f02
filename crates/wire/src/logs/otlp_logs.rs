//! OTLP logs in protobuf; [`crate::otlp::logs_to_protobuf`] makes that of JSON.
//!
//! Source: `opentelemetry/proto/logs/v1/logs.proto` of opentelemetry-proto 1.10, translated as Loki's
//! receiver does:
//!
//! ```text
//! Request      { repeated ResourceLogs = 1 }
//! ResourceLogs { Resource { attributes = 1 } = 1; repeated ScopeLogs = 2 }
//! ScopeLogs    { Scope { name = 1; version = 2; attributes = 3; dropped_attributes_count = 4 } = 1;
//!                repeated LogRecord = 2 }
//! LogRecord    { fixed64 time = 1; severity_number = 2; severity_text = 3; AnyValue body = 5;
//!                attributes = 6; dropped_attributes_count = 7; fixed32 flags = 8; trace_id = 9;
//!                span_id = 10; fixed64 observed_time = 11; event_name = 12 }
//! ```
//!
//! Some attributes of the resource are the labels of the stream; all others, and the fields of a
//! record, are its structured metadata, by their names as labels have them. Maps become one pair for
//! each of their values.

use std::ops::Range;

use model::LogBatch;

use super::intake::Intake;
use super::pairs::{Pairs, write_label_name};
use super::{LogContext, LogPushError, LogSummary, SEVERITY_NUMBER, check_body};
use crate::otlp::{MAX_DEPTH, any_value};
use crate::protobuf::{Fault, Field, each_field, each_message};

const FORMAT: &str = "OTLP logs request";

/// Most pairs that the attributes of one message become.
const MAX_PAIRS: usize = 1_024;

/// What becomes of attributes. Source: `otlp_config` of Loki.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OtlpLogOptions {
    /// Attributes of resources that become labels of streams.
    pub label_attributes: Vec<String>,
    /// Attributes of resources, scopes and records that are left out.
    pub dropped_attributes: Vec<String>,
    /// Whether the text of a severity is a label, too.
    pub severity_text_as_label: bool,
}

impl Default for OtlpLogOptions {
    fn default() -> Self {
        const LABELS: &[&str] = &[
            "service.name",
            "service.namespace",
            "service.instance.id",
            "deployment.environment",
            "deployment.environment.name",
            "cloud.region",
            "cloud.availability_zone",
            "k8s.cluster.name",
            "k8s.namespace.name",
            "k8s.pod.name",
            "k8s.container.name",
            "container.name",
            "k8s.replicaset.name",
            "k8s.deployment.name",
            "k8s.statefulset.name",
            "k8s.daemonset.name",
            "k8s.cronjob.name",
            "k8s.job.name",
        ];
        OtlpLogOptions {
            label_attributes: LABELS.iter().map(|name| (*name).to_owned()).collect(),
            dropped_attributes: Vec::new(),
            severity_text_as_label: false,
        }
    }
}

/// Decodes a decompressed request in protobuf into `out`, which is emptied first.
///
/// # Errors
/// Status 400 for what is no such message, 413 for one that is too large; `out` is then empty. A
/// record that is at fault is no error but a refusal.
pub fn decode(
    body: &[u8],
    options: &OtlpLogOptions,
    context: &LogContext<'_>,
    out: &mut LogBatch,
) -> Result<LogSummary, LogPushError> {
    let mut intake = Intake::new(context, out);
    let read = check_body(body, context.limits).and_then(|()| {
        let mut reader = Reader::new(body, options);
        reader.request(&mut intake).map_err(|fault| LogPushError::malformed(FORMAT, fault))?;
        reader.full.map_or(Ok(()), Err)
    });
    let summary = intake.finish();
    match read {
        Ok(()) => Ok(summary),
        Err(error) => {
            out.clear();
            Err(error)
        }
    }
}

struct Reader<'b> {
    body: &'b [u8],
    options: &'b OtlpLogOptions,
    labels: Pairs,
    /// How many of them are of the resource.
    resource_labels: usize,
    of_resource: Pairs,
    of_scope: Pairs,
    metadata: Pairs,
    line: Vec<u8>,
    text: Vec<u8>,
    /// The batch is full.
    full: Option<LogPushError>,
}

/// Where attributes are.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Owner {
    Resource,
    Scope,
    Record,
}

impl<'b> Reader<'b> {
    fn new(body: &'b [u8], options: &'b OtlpLogOptions) -> Self {
        Reader {
            body,
            options,
            labels: Pairs::default(),
            resource_labels: 0,
            of_resource: Pairs::default(),
            of_scope: Pairs::default(),
            metadata: Pairs::default(),
            line: Vec::new(),
            text: Vec::new(),
            full: None,
        }
    }

    fn request(&mut self, intake: &mut Intake<'_>) -> Result<(), Fault> {
        let body = self.body;
        messages(body, 0..body.len(), 1, &mut |resource| {
            self.labels.clear();
            self.of_resource.clear();
            // What all records share may stand behind them.
            messages(body, resource.clone(), 1, &mut |resource| {
                messages(body, resource, 1, &mut |pair| self.attribute(pair, Owner::Resource))
            })?;
            self.resource_labels = self.labels.len();
            messages(body, resource, 2, &mut |scope| {
                self.of_scope.clear();
                messages(body, scope.clone(), 1, &mut |message| self.scope(message))?;
                messages(body, scope, 2, &mut |record| self.record(record, intake))
            })
        })
    }

    fn scope(&mut self, message: Range<usize>) -> Result<(), Fault> {
        let body = self.body;
        messages(body, message.clone(), 3, &mut |pair| self.attribute(pair, Owner::Scope))?;
        each_field(body, message, |number, field| {
            match (number, field) {
                (1, Field::Bytes { start, end }) if start < end => {
                    self.of_scope.push_lossy("scope_name", &body[start..end]);
                }
                (2, Field::Bytes { start, end }) if start < end => {
                    self.of_scope.push_lossy("scope_version", &body[start..end]);
                }
                (4, Field::Varint(count)) if count > 0 => {
                    self.of_scope.push("scope_dropped_attributes_count", &count.to_string());
                }
                (1 | 2, Field::Bytes { .. }) | (4, Field::Varint(_)) => {}
                (1 | 2 | 4, _) => return Err("field of a scope has the wrong type"),
                _ => {}
            }
            Ok(())
        })
    }

    fn record(&mut self, message: Range<usize>, intake: &mut Intake<'_>) -> Result<(), Fault> {
        if self.full.is_some() {
            return Ok(());
        }
        let body = self.body;
        let (mut time, mut observed) = (0_u64, 0_u64);
        let (mut number, mut dropped, mut flags) = (0_u64, 0_u64, 0_u32);
        let [mut severity, mut trace, mut span, mut event] = [0..0, 0..0, 0..0, 0..0];
        let mut content: Option<Range<usize>> = None;
        self.metadata.clear();
        self.labels.truncate(self.resource_labels);
        let begin = message.start;
        each_message(body, message, |field_number, field| {
            match (field_number, field) {
                (1, Field::Fixed64(ns)) => time = ns,
                (2, Field::Varint(value)) => number = value,
                (3, Field::Bytes { start, end }) => severity = start..end,
                (5, Field::Bytes { start, end }) => content = Some(start..end),
                (6, Field::Bytes { start, end }) => self.attribute(start..end, Owner::Record)?,
                (7, Field::Varint(count)) => dropped = count,
                (8, Field::Fixed32(value)) => flags = value,
                (9, Field::Bytes { start, end }) => trace = start..end,
                (10, Field::Bytes { start, end }) => span = start..end,
                (11, Field::Fixed64(ns)) => observed = ns,
                (12, Field::Bytes { start, end }) => event = start..end,
                (1..=3 | 5..=12, _) => return Err((begin, "field of a record has the wrong type")),
                _ => {}
            }
            Ok(())
        })?;
        let metadata = &mut self.metadata;
        // Without a time the observed one is the line's.
        if time != 0 && observed != 0 {
            metadata.push("observed_timestamp", &observed.to_string());
        }
        if number != 0 {
            metadata.push(SEVERITY_NUMBER, &number.to_string());
        }
        if !severity.is_empty() {
            metadata.push_lossy("severity_text", &body[severity.clone()]);
            if self.options.severity_text_as_label {
                self.labels.push_lossy("severity_text", &body[severity]);
            }
        }
        for (name, count) in [("dropped_attributes_count", dropped), ("flags", u64::from(flags))] {
            if count != 0 {
                metadata.push(name, &count.to_string());
            }
        }
        for (name, id) in [("trace_id", trace), ("span_id", span)] {
            // Ids of zeros are none.
            if body[id.clone()].iter().any(|byte| *byte != 0) {
                metadata.push(name, &hexadecimal(&body[id]));
            }
        }
        if !event.is_empty() {
            metadata.push_lossy("event_name", &body[event]);
        }
        self.line.clear();
        if let Some(content) = content {
            any_value(body, content, &mut self.line, 0)?;
        }
        let ns = [time, observed].into_iter().find(|ns| *ns != 0);
        // What does not fit is refused as too far in the future.
        let timestamp_ns = match ns {
            Some(ns) => i64::try_from(ns).unwrap_or(i64::MAX),
            None => intake.arrival_ns(),
        };
        intake.begin_any(&self.labels);
        let shared = [&self.of_resource, &self.of_scope];
        self.full = intake.line_with(timestamp_ns, &self.line, &mut self.metadata, &shared).err();
        Ok(())
    }

    /// Reads one `KeyValue { string key = 1; AnyValue value = 2 }`.
    fn attribute(&mut self, message: Range<usize>, owner: Owner) -> Result<(), Fault> {
        let (key, value) = key_value(self.body, message)?;
        let key_text = String::from_utf8_lossy(&self.body[key]);
        let is_in = |list: &[String]| list.iter().any(|listed| *listed == *key_text);
        if is_in(&self.options.dropped_attributes) {
            return Ok(());
        }
        let is_label = owner == Owner::Resource && is_in(&self.options.label_attributes);
        let pairs = match owner {
            Owner::Resource if is_label => &mut self.labels,
            Owner::Resource => &mut self.of_resource,
            Owner::Scope => &mut self.of_scope,
            Owner::Record => &mut self.metadata,
        };
        let mut name = String::new();
        write_label_name(&key_text, &mut name);
        let mut flat = Flat { body: self.body, pairs, text: &mut self.text, is_label };
        flat.add(&name, value, 0)
    }
}

/// Writes a value as pairs.
struct Flat<'f> {
    body: &'f [u8],
    pairs: &'f mut Pairs,
    text: &'f mut Vec<u8>,
    is_label: bool,
}

impl Flat<'_> {
    fn add(&mut self, name: &str, value: Range<usize>, depth: usize) -> Result<(), Fault> {
        if depth == MAX_DEPTH {
            return Err((value.start, "an attribute's value is nested too deep"));
        }
        let mut map = None;
        each_field(self.body, value.clone(), |number, field| {
            // The last of several counts.
            map = match (number, field) {
                (6, Field::Bytes { start, end }) => Some(start..end),
                _ => None,
            };
            Ok(())
        })?;
        if let Some(map) = map {
            let body = self.body;
            return messages(body, map, 1, &mut |message| {
                let (key, value) = key_value(body, message)?;
                let mut path = String::new();
                let key = String::from_utf8_lossy(&body[key]);
                write_label_name(&format!("{name}_{key}"), &mut path);
                self.add(&path, value, depth + 1)
            });
        }
        if self.pairs.len() == MAX_PAIRS {
            return Err((value.start, "more than 1,024 attributes"));
        }
        self.text.clear();
        any_value(self.body, value, self.text, 0)?;
        let text = String::from_utf8_lossy(self.text);
        // Labels that are written alike are no fault, and an empty one is none.
        let is_left_out = self.is_label && (text.is_empty() || self.pairs.get(name).is_some());
        if !name.is_empty() && !is_left_out {
            self.pairs.push(name, &text);
        }
        Ok(())
    }
}

/// Key and value of a `KeyValue`.
fn key_value(body: &[u8], message: Range<usize>) -> Result<(Range<usize>, Range<usize>), Fault> {
    let (mut key, mut value) = (0..0, 0..0);
    each_field(body, message, |number, field| {
        match (number, field) {
            (1, Field::Bytes { start, end }) => key = start..end,
            (2, Field::Bytes { start, end }) => value = start..end,
            (1 | 2, _) => return Err("field of an attribute has the wrong type"),
            _ => {}
        }
        Ok(())
    })?;
    Ok((key, value))
}

type Visit<'v> = dyn FnMut(Range<usize>) -> Result<(), Fault> + 'v;

/// Shows `visit` each message in the fields `wanted` of a message.
fn messages(
    body: &[u8],
    message: Range<usize>,
    wanted: u64,
    visit: &mut Visit<'_>,
) -> Result<(), Fault> {
    let begin = message.start;
    each_message(body, message, |number, field| match field {
        Field::Bytes { start, end } if number == wanted => visit(start..end),
        _ if number == wanted => Err((begin, "field is no message")),
        _ => Ok(()),
    })
}

fn hexadecimal(bytes: &[u8]) -> String {
    let digit = |value: u8| char::from_digit(u32::from(value), 16).expect("below 16");
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}
