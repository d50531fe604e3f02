//! Lines as a request of OTLP logs, and what of it the server did not take.
//!
//! Source: `opentelemetry/proto/collector/logs/v1/logs_service.proto` of opentelemetry-proto 1.10; the
//! shape stands in [`super::otlp_logs`]. Labels become attributes of the resource, under the names that
//! the semantic conventions have for them; metadata become attributes of the record, but for those that
//! a record has fields for.

use model::{Labels, LogBatch, LogRecord};

use super::{DETECTED_LEVEL, SEVERITY_NUMBER};
use crate::protobuf::{Field, each_field, push_bytes, push_varint};

/// Labels and the attributes that say the same.
const ATTRIBUTES: &[(&str, &str)] = &[
    ("cloud_availability_zone", "cloud.availability_zone"),
    ("cloud_region", "cloud.region"),
    ("container", "k8s.container.name"),
    ("container_name", "container.name"),
    ("deployment_environment", "deployment.environment"),
    ("deployment_environment_name", "deployment.environment.name"),
    ("filename", "log.file.path"),
    ("host", "host.name"),
    ("k8s_cluster_name", "k8s.cluster.name"),
    ("k8s_container_name", "k8s.container.name"),
    ("k8s_cronjob_name", "k8s.cronjob.name"),
    ("k8s_daemonset_name", "k8s.daemonset.name"),
    ("k8s_deployment_name", "k8s.deployment.name"),
    ("k8s_job_name", "k8s.job.name"),
    ("k8s_namespace_name", "k8s.namespace.name"),
    ("k8s_pod_name", "k8s.pod.name"),
    ("k8s_replicaset_name", "k8s.replicaset.name"),
    ("k8s_statefulset_name", "k8s.statefulset.name"),
    ("namespace", "k8s.namespace.name"),
    ("node_name", "k8s.node.name"),
    ("pod", "k8s.pod.name"),
    ("service_instance_id", "service.instance.id"),
    ("service_name", "service.name"),
    ("service_namespace", "service.namespace"),
];

/// Appends a request with all lines of `batch`, uncompressed. A stream that comes again is written
/// again.
///
/// # Panics
/// The batch is not whole.
pub fn encode(batch: &LogBatch, out: &mut Vec<u8>) {
    let (mut records, mut metadata) = (batch.records(), Vec::new());
    let (mut resource, mut record, mut scratch) = (Vec::new(), Vec::new(), Scratch::default());
    let (mut scope, mut level) = (Vec::new(), String::new());
    while let Some(next) = records.next_record(&mut metadata).expect("a batch is whole") {
        match next {
            LogRecord::Stream(labels) => {
                finish(&mut resource, &mut scope, out);
                put_resource(&labels, &mut scratch, &mut resource);
                level.clear();
                level.push_str(labels.get("level").unwrap_or_default());
            }
            LogRecord::Line { timestamp_ns, line } => {
                record.clear();
                // A fixed64; what was before 1970 cannot be said.
                record.push(0x09);
                record.extend_from_slice(&timestamp_ns.max(0).to_le_bytes());
                put_record(line, &metadata, &level, &mut scratch, &mut record);
                push_bytes(&mut scope, 0x12, &record);
            }
        }
    }
    finish(&mut resource, &mut scope, out);
}

#[derive(Default)]
struct Scratch {
    value: Vec<u8>,
    pair: Vec<u8>,
    message: Vec<u8>,
}

/// Ends `ResourceLogs`; a stream without lines is none.
fn finish(resource: &mut Vec<u8>, scope: &mut Vec<u8>, out: &mut Vec<u8>) {
    if !scope.is_empty() {
        push_bytes(resource, 0x12, scope);
        push_bytes(out, 0x0a, resource);
    }
    resource.clear();
    scope.clear();
}

fn put_resource(labels: &Labels, scratch: &mut Scratch, out: &mut Vec<u8>) {
    scratch.message.clear();
    let mut message = std::mem::take(&mut scratch.message);
    let mut known: Vec<&str> = Vec::new();
    let mut put = |key: &str, value: &str, scratch: &mut Scratch| {
        put_attribute(0x0a, key, value.as_bytes(), scratch, &mut message);
    };
    for (name, value) in labels.iter() {
        let found = ATTRIBUTES.binary_search_by(|(label, _)| (*label).cmp(name));
        let attribute = found.ok().map(|at| ATTRIBUTES[at].1);
        // `pod` beside `k8s_pod_name`: an attribute is there once.
        let key = attribute.filter(|attribute| !known.contains(attribute)).unwrap_or(name);
        known.extend(attribute);
        put(key, value, scratch);
    }
    // Every resource should have a name; the word for it elsewhere is job.
    if let (None, Some(job)) = (labels.get("service_name"), labels.get("job")) {
        put("service.name", job, scratch);
    }
    push_bytes(out, 0x0a, &message);
    scratch.message = message;
}

fn put_record(
    line: &[u8],
    metadata: &[(&str, &str)],
    level: &str,
    scratch: &mut Scratch,
    out: &mut Vec<u8>,
) {
    let of = |wanted: &str| metadata.iter().find(|(name, _)| *name == wanted).map(|pair| pair.1);
    let number: Option<u64> = of(SEVERITY_NUMBER).and_then(|text| text.parse().ok());
    let number = number.filter(|number| (1..=24).contains(number));
    let text = of("severity_text").or(of(DETECTED_LEVEL)).or(of("level")).unwrap_or(level);
    let number = number.or_else(|| severity_number(text));
    if let Some(number) = number {
        out.push(0x10);
        push_varint(out, number);
    }
    if !text.is_empty() {
        push_bytes(out, 0x1a, text.as_bytes());
    }
    scratch.value.clear();
    put_any_value(line, &mut scratch.value);
    push_bytes(out, 0x2a, &scratch.value);
    let (mut trace, mut span) = (None, None);
    for (name, value) in metadata {
        match *name {
            "trace_id" => trace = id::<16>(value),
            "span_id" => span = id::<8>(value),
            _ => {}
        }
        let is_field = match *name {
            "trace_id" => trace.is_some(),
            "span_id" => span.is_some(),
            "severity_text" => true,
            SEVERITY_NUMBER => number.is_some_and(|number| value.parse() == Ok(number)),
            DETECTED_LEVEL => text == *value,
            _ => false,
        };
        if !is_field {
            put_attribute(0x32, name, value.as_bytes(), scratch, out);
        }
    }
    if let Some(trace) = trace {
        push_bytes(out, 0x4a, &trace);
    }
    if let Some(span) = span {
        push_bytes(out, 0x52, &span);
    }
}

/// `KeyValue { string key = 1; AnyValue value = 2 }` behind a tag.
fn put_attribute(tag: u8, key: &str, value: &[u8], scratch: &mut Scratch, out: &mut Vec<u8>) {
    scratch.value.clear();
    put_any_value(value, &mut scratch.value);
    scratch.pair.clear();
    push_bytes(&mut scratch.pair, 0x0a, key.as_bytes());
    push_bytes(&mut scratch.pair, 0x12, &scratch.value);
    push_bytes(out, tag, &scratch.pair);
}

/// `AnyValue`: a text if it is one, bytes if it is not UTF-8.
fn put_any_value(value: &[u8], out: &mut Vec<u8>) {
    let tag = if std::str::from_utf8(value).is_ok() { 0x0a } else { 0x3a };
    push_bytes(out, tag, value);
}

/// An id written in hexadecimal digits; `None` if it is none, or zeros.
fn id<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digits = text.as_bytes();
    if digits.len() != 2 * N || !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    let mut id = [0; N];
    for (at, byte) in id.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * at..2 * at + 2], 16).ok()?;
    }
    id.iter().any(|byte| *byte != 0).then_some(id)
}

/// The number for a level. Source: "Mapping of SeverityNumber" and appendix B of OpenTelemetry's data
/// model of logs.
fn severity_number(level: &str) -> Option<u64> {
    let of_words: [(&[&str], u64); 7] = [
        (&["trace"], 1),
        (&["debug"], 5),
        (&["info", "information", "notice"], 9),
        (&["warn", "warning"], 13),
        (&["error", "err"], 17),
        (&["critical", "crit"], 18),
        (&["fatal", "emerg", "alert", "panic"], 21),
    ];
    let is = |word: &&str| level.eq_ignore_ascii_case(word);
    of_words.iter().find(|(words, _)| words.iter().any(is)).map(|(_, number)| *number)
}

/// Of an answer with status 200: how many records were not taken, and why; `None` if all were, or
/// if the answer cannot be read.
pub fn rejected(answer: &[u8]) -> Option<(u64, String)> {
    let mut partial = None;
    let read = each_field(answer, 0..answer.len(), |number, field| {
        if let (1, Field::Bytes { start, end }) = (number, field) {
            partial = Some(start..end);
        }
        Ok(())
    });
    read.ok()?;
    let (mut count, mut reason) = (0, String::new());
    let read = each_field(answer, partial?, |number, field| {
        match (number, field) {
            (1, Field::Varint(rejected)) => count = rejected,
            (2, Field::Bytes { start, end }) => {
                reason = String::from_utf8_lossy(&answer[start..end]).into_owned();
            }
            _ => {}
        }
        Ok(())
    });
    (read.is_ok() && count > 0).then_some((count, reason))
}

#[cfg(test)]
mod tests {
    use model::LogLimits;

    use super::super::LogContext;
    use super::super::otlp_logs::{self, OtlpLogOptions};
    use super::*;

    /// A line of a stream: its time, what it says and its metadata.
    type Decoded = (Labels, i64, Vec<u8>, Vec<(String, String)>);

    fn decoded(body: &[u8]) -> Vec<Decoded> {
        let limits = LogLimits {
            creation_grace_ns: i64::MAX / 4,
            discover_log_levels: false,
            discover_service_name: Vec::new(),
            ..LogLimits::default()
        };
        let context = LogContext { limits: &limits, levels: None, now_ns: 1_000 };
        let mut batch = LogBatch::default();
        otlp_logs::decode(body, &OtlpLogOptions::default(), &context, &mut batch)
            .expect("a request");
        let (mut records, mut metadata) = (batch.records(), Vec::new());
        let (mut stream, mut found) = (Labels::empty(), Vec::new());
        while let Some(record) = records.next_record(&mut metadata).expect("whole") {
            match record {
                LogRecord::Stream(labels) => stream = labels,
                LogRecord::Line { timestamp_ns, line } => {
                    let metadata =
                        metadata.iter().map(|(name, value)| ((*name).into(), (*value).into()));
                    found.push((stream.clone(), timestamp_ns, line.to_vec(), metadata.collect()));
                }
            }
        }
        found
    }

    #[test]
    fn a_server_reads_what_is_written() {
        assert!(ATTRIBUTES.is_sorted(), "it is searched");
        let mut batch = LogBatch::default();
        let labels =
            [("host", "h"), ("job", "app"), ("level", "warn"), ("namespace", "n"), ("pod", "p")];
        batch.stream(&Labels::from_pairs(labels).expect("valid"));
        let ids = [
            ("trace_id", "0af7651916cd43dd8448eb211c80319c"),
            ("span_id", "00f067aa0ba902b7"),
            ("user", "u"),
        ];
        batch.push(5, b"one", &ids).expect("small");
        batch
            .push(6, b"tw\xffo", &[("detected_level", "error"), ("span_id", "no")])
            .expect("small");
        batch.stream(&Labels::from_pairs([("service_name", "s")]).expect("valid"));
        batch.stream(&Labels::from_pairs([("service_name", "t"), ("job", "j")]).expect("valid"));
        batch.push(7, b"three", &[]).expect("small");
        let mut body = Vec::new();
        encode(&batch, &mut body);
        let found = decoded(&body);
        let [one, two, three] = found.as_slice() else { panic!("{found:?}") };
        let labels = [("k8s_namespace_name", "n"), ("k8s_pod_name", "p"), ("service_name", "app")];
        assert_eq!(one.0, Labels::from_pairs(labels).expect("valid"));
        assert_eq!((one.1, one.2.as_slice()), (5, b"one".as_slice()));
        let has = |line: &[(String, String)], name: &str, value: &str| {
            assert!(line.contains(&(name.to_owned(), value.to_owned())), "{name}: {line:?}");
        };
        for (name, value) in ids.into_iter().chain([
            ("severity_number", "13"),
            ("severity_text", "warn"),
            ("host_name", "h"),
            ("job", "app"),
        ]) {
            has(&one.3, name, value);
        }
        has(&two.3, "severity_number", "17");
        has(&two.3, "severity_text", "error");
        has(&two.3, "span_id", "no");
        assert_eq!(
            (three.0.get("service_name"), three.2.as_slice()),
            (Some("t"), b"three".as_slice())
        );
    }

    #[test]
    fn answers_tell_what_was_not_taken() {
        assert_eq!(rejected(b""), None);
        assert_eq!(rejected(&[0x0a, 0]), None);
        let mut inner = vec![0x08, 3];
        push_bytes(&mut inner, 0x12, b"too old");
        let mut answer = Vec::new();
        push_bytes(&mut answer, 0x0a, &inner);
        assert_eq!(rejected(&answer), Some((3, "too old".to_owned())));
        assert_eq!(rejected(&answer[..4]), None);
        assert_eq!(rejected(b"{}"), None);
    }
}
