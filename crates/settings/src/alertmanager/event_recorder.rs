//! The section `event_recorder`: where a record of what the notifier does would go.

use std::path::PathBuf;
use std::time::Duration;

use super::credential::{self, Credential};
use super::receivers::read_http;
use crate::prometheus::read::http_client::read_tls;
use crate::prometheus::{HttpClientConfig, TlsConfig};
use crate::yaml::{Context, Milliseconds, Node, OutputPath, Section};

/// Outputs of the record, by kind. Read and checked; nothing writes to them yet.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct EventRecorder {
    /// Files to which lines of JSON are appended.
    pub file_outputs: Vec<PathBuf>,
    /// Servers to which events are posted.
    pub webhook_outputs: Vec<WebhookOutput>,
    /// Kafka topics.
    pub kafka_outputs: Vec<KafkaOutput>,
    /// How often events are printed on the standard output.
    pub stdout_outputs: usize,
}

/// A server to which events are posted.
#[derive(Debug, Clone, PartialEq)]
pub struct WebhookOutput {
    /// Where to.
    pub url: Credential,
    /// How.
    pub http: HttpClientConfig,
    /// How long one request may take.
    pub timeout: Duration,
    /// Requests at once.
    pub workers: u64,
    /// Attempts per event.
    pub max_retries: u64,
    /// The pause after the first failure; it doubles.
    pub retry_backoff: Duration,
    /// Whether several events are sent in one request.
    pub batch: bool,
    /// Most events of one request.
    pub batch_max_events: u64,
    /// Most bytes of one request.
    pub batch_max_bytes: u64,
    /// How long events wait for others.
    pub batch_flush_interval: Duration,
}

/// A Kafka topic.
#[derive(Debug, Clone, PartialEq)]
pub struct KafkaOutput {
    /// Brokers to begin with; not empty.
    pub brokers: Vec<String>,
    /// The topic; not empty.
    pub topic: String,
    /// The client's name.
    pub client_id: String,
    /// Events that wait at most.
    pub buffer_size: u64,
    /// TLS, if any.
    pub tls: TlsConfig,
}

/// Reads `event_recorder`.
pub(super) fn read(root: &mut Section<'_>) -> EventRecorder {
    let Some(mut section) = root.section("event_recorder", "eventrecorder.plain") else {
        return EventRecorder::default();
    };
    let context = section.context;
    let recorder = EventRecorder {
        file_outputs: outputs(&mut section, "file_outputs", |inner| {
            let path = inner.value::<OutputPath>("path").0;
            if path.as_os_str().is_empty() {
                let help = Some("add path: …");
                inner.fault("path", "event_recorder file output requires a path", help);
            }
            path
        }),
        webhook_outputs: outputs(&mut section, "webhook_outputs", read_webhook),
        kafka_outputs: outputs(&mut section, "kafka_outputs", |inner| read_kafka(context, inner)),
        stdout_outputs: outputs(&mut section, "stdout_outputs", |_| ()).len(),
    };
    section.finish();
    if recorder != EventRecorder::default() {
        let message = "event_recorder has no effect: events are not recorded yet";
        root.warn("event_recorder", message, None);
    }
    recorder
}

fn outputs<T>(
    section: &mut Section<'_>,
    key: &'static str,
    read: impl Fn(&mut Section<'_>) -> T,
) -> Vec<T> {
    let context = section.context;
    let open = |node: &Node| {
        let mut inner = Section::open(context, node, "eventrecorder.plain")?;
        // A name only tells outputs apart in the recorder's own metrics.
        inner.value::<String>("name");
        let output = read(&mut inner);
        inner.finish();
        Some(output)
    };
    section.items(key).into_iter().filter_map(open).collect()
}

fn read_webhook(inner: &mut Section<'_>) -> WebhookOutput {
    let ms = |inner: &mut Section<'_>, key, default| {
        inner.read::<Milliseconds>(key).unwrap_or(Milliseconds(default)).duration()
    };
    let output = WebhookOutput {
        url: credential::read_url(inner, "url", "url_file"),
        http: read_http(inner).unwrap_or_default(),
        timeout: ms(inner, "timeout", 10_000),
        workers: inner.or("workers", 4),
        max_retries: inner.or("max_retries", 3),
        retry_backoff: ms(inner, "retry_backoff", 500),
        batch: inner.value("batch"),
        batch_max_events: inner.or("batch_max_events", 100),
        batch_max_bytes: inner.or("batch_max_bytes", 1 << 20),
        batch_flush_interval: ms(inner, "batch_flush_interval", 100),
    };
    if !output.url.is_set() {
        let help = Some("add url: https://…");
        inner.fault("url", "event_recorder webhook output requires a url", help);
    }
    output
}

fn read_kafka(context: &Context<'_>, inner: &mut Section<'_>) -> KafkaOutput {
    let output = KafkaOutput {
        brokers: inner.value("brokers"),
        topic: inner.value("topic"),
        client_id: inner.or("client_id", "alertmanager".to_owned()),
        buffer_size: inner.or("buffer_size", 1_024),
        tls: read_tls(inner),
    };
    for (key, known) in [
        ("format", &["", "json", "protobuf"][..]),
        ("acks", &["", "none", "leader", "all"]),
        ("compression", &["", "none", "gzip", "snappy", "lz4", "zstd"]),
    ] {
        let text: String = inner.value(key);
        if !known.contains(&text.as_str()) {
            let message = format!("event_recorder kafka output has unknown {key} {text:?}");
            let help = format!("known here: {}", known[1..].join(", "));
            context.fault(inner.place(key), message, Some(help));
        }
    }
    if output.brokers.is_empty() {
        let message = "event_recorder kafka output requires at least one broker";
        inner.fault("brokers", message, Some("add brokers: [host:9092]"));
    } else if output.brokers.iter().any(String::is_empty) {
        let message = "event_recorder kafka output broker entries must be non-empty";
        inner.fault("brokers", message, Some("remove the empty one"));
    }
    if output.topic.is_empty() {
        let message = "event_recorder kafka output requires a topic";
        inner.fault("topic", message, Some("add topic: …"));
    }
    output
}
