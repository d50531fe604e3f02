//! OTLP's JSON to its protobuf: one table per message says how.
//!
//! Source: <https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding>: lower camel case,
//! enums as numbers, 64-bit integers as strings or numbers, unknown fields ignored. The names of the
//! `.proto` files (`resource_metrics`) are taken too, as <https://protobuf.dev/programming-guides/json/>
//! demands of every reader: what they hold must not be ignored as unknown.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::WireError;
use crate::protobuf::push_varint;

/// One field of a message.
struct Spec {
    json: &'static str,
    number: u64,
    kind: Kind,
}

/// How a field's value is written.
#[derive(Clone, Copy)]
enum Kind {
    Text,
    Base64,
    /// Bytes too; ids of traces and spans alone are written so.
    Hexadecimal,
    Bool,
    /// `double`.
    Double,
    /// `int32`, `int64`, `uint32`, `uint64`, and enums.
    Varint,
    /// `sint32`.
    Zigzag,
    /// `fixed64`.
    Fixed,
    /// `sfixed64`.
    SignedFixed,
    /// `fixed32`.
    Fixed32,
    Message(fn() -> &'static [Spec]),
}

impl Spec {
    /// Whether a field of JSON is this one: by its lower camel case, or by its name in the `.proto`.
    fn is_named(&self, key: &str) -> bool {
        // Fast path: as the specification of OTLP has it.
        self.json == key || {
            let mut key = key.bytes();
            let is_next = |byte: u8| match byte {
                b'A'..=b'Z' => {
                    key.next() == Some(b'_') && key.next() == Some(byte.to_ascii_lowercase())
                }
                byte => key.next() == Some(byte),
            };
            self.json.bytes().all(is_next) && key.next().is_none()
        }
    }
}

const fn spec(json: &'static str, number: u64, kind: Kind) -> Spec {
    Spec { json, number, kind }
}

static LOGS_REQUEST: [Spec; 1] = [spec("resourceLogs", 1, Kind::Message(|| &RESOURCE_LOGS))];
static RESOURCE_LOGS: [Spec; 3] = [
    spec("resource", 1, Kind::Message(|| &RESOURCE)),
    spec("scopeLogs", 2, Kind::Message(|| &SCOPE_LOGS)),
    spec("schemaUrl", 3, Kind::Text),
];
static SCOPE_LOGS: [Spec; 3] = [
    spec("scope", 1, Kind::Message(|| &SCOPE)),
    spec("logRecords", 2, Kind::Message(|| &LOG_RECORD)),
    spec("schemaUrl", 3, Kind::Text),
];
static LOG_RECORD: [Spec; 11] = [
    spec("timeUnixNano", 1, Kind::Fixed),
    spec("severityNumber", 2, Kind::Varint),
    spec("severityText", 3, Kind::Text),
    spec("body", 5, Kind::Message(|| &ANY_VALUE)),
    spec("attributes", 6, Kind::Message(|| &KEY_VALUE)),
    spec("droppedAttributesCount", 7, Kind::Varint),
    spec("flags", 8, Kind::Fixed32),
    spec("traceId", 9, Kind::Hexadecimal),
    spec("spanId", 10, Kind::Hexadecimal),
    spec("observedTimeUnixNano", 11, Kind::Fixed),
    spec("eventName", 12, Kind::Text),
];
static REQUEST: [Spec; 1] = [spec("resourceMetrics", 1, Kind::Message(|| &RESOURCE_METRICS))];
static RESOURCE_METRICS: [Spec; 3] = [
    spec("resource", 1, Kind::Message(|| &RESOURCE)),
    spec("scopeMetrics", 2, Kind::Message(|| &SCOPE_METRICS)),
    spec("schemaUrl", 3, Kind::Text),
];
static RESOURCE: [Spec; 1] = [spec("attributes", 1, Kind::Message(|| &KEY_VALUE))];
static SCOPE_METRICS: [Spec; 3] = [
    spec("scope", 1, Kind::Message(|| &SCOPE)),
    spec("metrics", 2, Kind::Message(|| &METRIC)),
    spec("schemaUrl", 3, Kind::Text),
];
static SCOPE: [Spec; 4] = [
    spec("name", 1, Kind::Text),
    spec("version", 2, Kind::Text),
    spec("attributes", 3, Kind::Message(|| &KEY_VALUE)),
    spec("droppedAttributesCount", 4, Kind::Varint),
];
static KEY_VALUE: [Spec; 2] =
    [spec("key", 1, Kind::Text), spec("value", 2, Kind::Message(|| &ANY_VALUE))];
static ANY_VALUE: [Spec; 7] = [
    spec("stringValue", 1, Kind::Text),
    spec("boolValue", 2, Kind::Bool),
    spec("intValue", 3, Kind::Varint),
    spec("doubleValue", 4, Kind::Double),
    spec("arrayValue", 5, Kind::Message(|| &ARRAY_VALUE)),
    spec("kvlistValue", 6, Kind::Message(|| &MAP_VALUE)),
    spec("bytesValue", 7, Kind::Base64),
];
static ARRAY_VALUE: [Spec; 1] = [spec("values", 1, Kind::Message(|| &ANY_VALUE))];
static MAP_VALUE: [Spec; 1] = [spec("values", 1, Kind::Message(|| &KEY_VALUE))];
static METRIC: [Spec; 8] = [
    spec("name", 1, Kind::Text),
    spec("description", 2, Kind::Text),
    spec("unit", 3, Kind::Text),
    spec("gauge", 5, Kind::Message(|| &NUMBERS)),
    spec("sum", 7, Kind::Message(|| &NUMBERS)),
    spec("histogram", 9, Kind::Message(|| &HISTOGRAMS)),
    spec("exponentialHistogram", 10, Kind::Message(|| &EXPONENTIALS)),
    spec("summary", 11, Kind::Message(|| &SUMMARIES)),
];
static NUMBERS: [Spec; 3] = [
    spec("dataPoints", 1, Kind::Message(|| &NUMBER)),
    spec("aggregationTemporality", 2, Kind::Varint),
    spec("isMonotonic", 3, Kind::Bool),
];
static HISTOGRAMS: [Spec; 2] = [
    spec("dataPoints", 1, Kind::Message(|| &HISTOGRAM)),
    spec("aggregationTemporality", 2, Kind::Varint),
];
static EXPONENTIALS: [Spec; 2] = [
    spec("dataPoints", 1, Kind::Message(|| &EXPONENTIAL)),
    spec("aggregationTemporality", 2, Kind::Varint),
];
static SUMMARIES: [Spec; 1] = [spec("dataPoints", 1, Kind::Message(|| &SUMMARY))];
static NUMBER: [Spec; 7] = [
    spec("startTimeUnixNano", 2, Kind::Fixed),
    spec("timeUnixNano", 3, Kind::Fixed),
    spec("asDouble", 4, Kind::Double),
    spec("exemplars", 5, Kind::Message(|| &EXEMPLAR)),
    spec("asInt", 6, Kind::SignedFixed),
    spec("attributes", 7, Kind::Message(|| &KEY_VALUE)),
    spec("flags", 8, Kind::Varint),
];
static HISTOGRAM: [Spec; 9] = [
    spec("startTimeUnixNano", 2, Kind::Fixed),
    spec("timeUnixNano", 3, Kind::Fixed),
    spec("count", 4, Kind::Fixed),
    spec("sum", 5, Kind::Double),
    spec("bucketCounts", 6, Kind::Fixed),
    spec("explicitBounds", 7, Kind::Double),
    spec("exemplars", 8, Kind::Message(|| &EXEMPLAR)),
    spec("attributes", 9, Kind::Message(|| &KEY_VALUE)),
    spec("flags", 10, Kind::Varint),
];
static EXPONENTIAL: [Spec; 12] = [
    spec("attributes", 1, Kind::Message(|| &KEY_VALUE)),
    spec("startTimeUnixNano", 2, Kind::Fixed),
    spec("timeUnixNano", 3, Kind::Fixed),
    spec("count", 4, Kind::Fixed),
    spec("sum", 5, Kind::Double),
    spec("scale", 6, Kind::Zigzag),
    spec("zeroCount", 7, Kind::Fixed),
    spec("positive", 8, Kind::Message(|| &BUCKETS)),
    spec("negative", 9, Kind::Message(|| &BUCKETS)),
    spec("flags", 10, Kind::Varint),
    spec("exemplars", 11, Kind::Message(|| &EXEMPLAR)),
    spec("zeroThreshold", 14, Kind::Double),
];
static BUCKETS: [Spec; 2] =
    [spec("offset", 1, Kind::Zigzag), spec("bucketCounts", 2, Kind::Varint)];
static SUMMARY: [Spec; 7] = [
    spec("startTimeUnixNano", 2, Kind::Fixed),
    spec("timeUnixNano", 3, Kind::Fixed),
    spec("count", 4, Kind::Fixed),
    spec("sum", 5, Kind::Double),
    spec("quantileValues", 6, Kind::Message(|| &QUANTILE)),
    spec("attributes", 7, Kind::Message(|| &KEY_VALUE)),
    spec("flags", 8, Kind::Varint),
];
static QUANTILE: [Spec; 2] = [spec("quantile", 1, Kind::Double), spec("value", 2, Kind::Double)];
static EXEMPLAR: [Spec; 6] = [
    spec("timeUnixNano", 2, Kind::Fixed),
    spec("asDouble", 3, Kind::Double),
    spec("spanId", 4, Kind::Hexadecimal),
    spec("traceId", 5, Kind::Hexadecimal),
    spec("asInt", 6, Kind::SignedFixed),
    spec("filteredAttributes", 7, Kind::Message(|| &KEY_VALUE)),
];

/// An `ExportMetricsServiceRequest` in JSON as the same in protobuf; about twice as long as the
/// JSON at most.
///
/// # Errors
/// [`WireError::Text`] for what is no JSON or has a field of the wrong kind.
pub fn to_protobuf(json: &[u8]) -> Result<Vec<u8>, WireError> {
    request_to_protobuf(json, &REQUEST)
}

/// An `ExportLogsServiceRequest` in JSON, as [`to_protobuf`] does it.
///
/// # Errors
/// [`WireError::Text`] for what is no JSON or has a field of the wrong kind.
pub fn logs_to_protobuf(json: &[u8]) -> Result<Vec<u8>, WireError> {
    request_to_protobuf(json, &LOGS_REQUEST)
}

fn request_to_protobuf(json: &[u8], specs: &'static [Spec]) -> Result<Vec<u8>, WireError> {
    let mut out = Vec::with_capacity(json.len() / 2);
    let mut deserializer = serde_json::Deserializer::from_slice(json);
    let message = MessageSeed { specs, out: &mut out };
    message
        .deserialize(&mut deserializer)
        .and_then(|()| deserializer.end())
        .map_err(|error| WireError::Text { line: error.line(), message: error.to_string() })?;
    Ok(out)
}

/// Writes the fields of one message.
struct MessageSeed<'o> {
    specs: &'static [Spec],
    out: &'o mut Vec<u8>,
}

impl<'de> DeserializeSeed<'de> for MessageSeed<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for MessageSeed<'_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<std::borrow::Cow<'de, str>>()? {
            match self.specs.iter().find(|spec| spec.is_named(&key)) {
                Some(spec) => map.next_value_seed(FieldSeed { spec, out: self.out })?,
                None => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(())
    }
}

/// Writes one field, or one per element of a list.
struct FieldSeed<'o> {
    spec: &'static Spec,
    out: &'o mut Vec<u8>,
}

impl FieldSeed<'_> {
    fn tag(&mut self, wire_type: u64) {
        push_varint(self.out, self.spec.number << 3 | wire_type);
    }

    fn bytes(&mut self, content: &[u8]) {
        self.tag(2);
        push_varint(self.out, content.len() as u64);
        self.out.extend_from_slice(content);
    }

    fn fixed(&mut self, bits: u64) {
        self.tag(1);
        self.out.extend_from_slice(&bits.to_le_bytes());
    }

    fn integer<E: Error>(&mut self, value: i128) -> Result<(), E> {
        let fits = |valid: bool| {
            if valid { Ok(()) } else { Err(E::custom(format!("{value} is out of range"))) }
        };
        let is_u64 = u64::try_from(value).is_ok();
        let is_i64 = i64::try_from(value).is_ok();
        match self.spec.kind {
            Kind::Double => self.fixed((value as f64).to_bits()),
            Kind::Fixed => {
                fits(is_u64)?;
                self.fixed(value as u64);
            }
            Kind::SignedFixed => {
                fits(is_i64)?;
                self.fixed(value as u64);
            }
            Kind::Fixed32 => {
                fits(u32::try_from(value).is_ok())?;
                self.tag(5);
                self.out.extend_from_slice(&(value as u32).to_le_bytes());
            }
            Kind::Varint => {
                fits(is_u64 || is_i64)?;
                self.tag(0);
                push_varint(self.out, value as u64);
            }
            Kind::Zigzag => {
                fits(i32::try_from(value).is_ok())?;
                self.tag(0);
                push_varint(self.out, ((value << 1) ^ (value >> 127)) as u64);
            }
            Kind::Text | Kind::Base64 | Kind::Hexadecimal | Kind::Bool | Kind::Message(_) => {
                return Err(E::custom(format!("{:?} cannot be a number", self.spec.json)));
            }
        }
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for FieldSeed<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for FieldSeed<'_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "the value of {:?}", self.spec.json)
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E: Error>(mut self, value: bool) -> Result<(), E> {
        if !matches!(self.spec.kind, Kind::Bool) {
            return Err(E::custom(format!("{:?} cannot be a boolean", self.spec.json)));
        }
        self.tag(0);
        self.out.push(u8::from(value));
        Ok(())
    }

    fn visit_u64<E: Error>(mut self, value: u64) -> Result<(), E> {
        self.integer(value.into())
    }

    fn visit_i64<E: Error>(mut self, value: i64) -> Result<(), E> {
        self.integer(value.into())
    }

    fn visit_f64<E: Error>(mut self, value: f64) -> Result<(), E> {
        if matches!(self.spec.kind, Kind::Double) {
            self.fixed(value.to_bits());
            return Ok(());
        }
        // Some writers put a fraction behind whole numbers.
        if value.fract() == 0.0 && value.abs() < 9.1e15 {
            return self.integer(value as i128);
        }
        Err(E::custom(format!("{:?} must be a whole number, not {value}", self.spec.json)))
    }

    fn visit_str<E: Error>(mut self, text: &str) -> Result<(), E> {
        match self.spec.kind {
            Kind::Text => self.bytes(text.as_bytes()),
            Kind::Base64 => {
                use base64::Engine as _;
                let decoded = base64::engine::general_purpose::STANDARD.decode(text);
                let decoded = decoded.map_err(|error| {
                    E::custom(format!("{:?} is no base64: {error}", self.spec.json))
                })?;
                self.bytes(&decoded);
            }
            Kind::Hexadecimal => {
                let digit = |byte: u8| char::from(byte).to_digit(16);
                let (pairs, rest) = text.as_bytes().as_chunks::<2>();
                let byte = |&[high, low]: &[u8; 2]| Some((digit(high)? << 4 | digit(low)?) as u8);
                let decoded: Option<Vec<u8>> = pairs.iter().map(byte).collect();
                let decoded = decoded.filter(|_| rest.is_empty()).ok_or_else(|| {
                    E::custom(format!("{:?} must be hexadecimal digits", self.spec.json))
                })?;
                self.bytes(&decoded);
            }
            Kind::Double => {
                let value = match text {
                    "NaN" => f64::NAN,
                    "Infinity" => f64::INFINITY,
                    "-Infinity" => f64::NEG_INFINITY,
                    text => text.parse().map_err(|_| self.not_a_number::<E>(text))?,
                };
                self.fixed(value.to_bits());
            }
            Kind::Varint if self.spec.json == "aggregationTemporality" && !is_number(text) => {
                let value = match text {
                    "AGGREGATION_TEMPORALITY_DELTA" => 1,
                    "AGGREGATION_TEMPORALITY_CUMULATIVE" => 2,
                    _ => 0,
                };
                return self.integer(value);
            }
            Kind::Varint if self.spec.json == "severityNumber" && !is_number(text) => {
                return self.integer(severity_number(text));
            }
            Kind::Varint | Kind::Zigzag | Kind::Fixed | Kind::SignedFixed | Kind::Fixed32 => {
                let value = text.parse().map_err(|_| self.not_a_number::<E>(text))?;
                return self.integer(value);
            }
            Kind::Bool | Kind::Message(_) => {
                return Err(E::custom(format!("{:?} cannot be a string", self.spec.json)));
            }
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        while list.next_element_seed(FieldSeed { spec: self.spec, out: self.out })?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(mut self, map: A) -> Result<(), A::Error> {
        let Kind::Message(specs) = self.spec.kind else {
            return Err(A::Error::custom(format!("{:?} cannot be an object", self.spec.json)));
        };
        let mut content = Vec::new();
        MessageSeed { specs: specs(), out: &mut content }.visit_map(map)?;
        self.bytes(&content);
        Ok(())
    }
}

impl FieldSeed<'_> {
    fn not_a_number<E: Error>(&self, text: &str) -> E {
        let shown: String = text.chars().take(40).collect();
        E::custom(format!("{:?} must be a number, not {shown:?}", self.spec.json))
    }
}

/// The number of a severity that is written by its name, `SEVERITY_NUMBER_WARN2`; 0 for others.
fn severity_number(name: &str) -> i128 {
    const NAMES: [&str; 6] = ["TRACE", "DEBUG", "INFO", "WARN", "ERROR", "FATAL"];
    let name = name.strip_prefix("SEVERITY_NUMBER_").unwrap_or_default();
    let (kind, step) = match name.as_bytes().last() {
        Some(digit @ b'2'..=b'4') => (&name[..name.len() - 1], i128::from(digit - b'1')),
        _ => (name, 0),
    };
    let of_kind = (0..).zip(NAMES).find(|(_, known)| *known == kind);
    of_kind.map_or(0, |(index, _)| index * 4 + 1 + step)
}

fn is_number(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit())
}
