//! Lines to another system beside the broker, in Loki's protocol.
//!
//! Source: <https://grafana.com/docs/loki/latest/reference/loki-http-api/#ingest-logs>. A batch is sent until
//! it is taken, or refused for good; while it is not, it waits in the spool and so do sources. A batch that
//! was taken but not acknowledged comes again, and is the same lines then: Loki keeps one of each.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri};
use model::{Labels, LogBatch, LogRecord};
use net::client::{Client, ClientOptions, Post};
use settings::logs::LogSink;
use tokio::sync::mpsc::{self, error::TrySendError};
use wire::text_encode::TextEncoder;

use super::delivery::{LineStore, LinesRefused, NumberedLines, OnDelivered};
use crate::error::AgentError;

/// Batches that wait for the one that is sent; more are never under way.
const WAITING: usize = 16;
/// As much of an answer is told.
const MAX_ANSWER_BYTES: usize = 64 << 10;
const SHOWN_ANSWER_CHARS: usize = 200;
/// A system that asks for a longer pause gets this one.
const MAX_PAUSE: Duration = Duration::from_secs(300);

/// What sinks count.
#[derive(Debug, Default)]
pub struct PushCounters {
    delivered: AtomicU64,
    refused: AtomicU64,
    failures: AtomicU64,
}

impl PushCounters {
    /// Appends the metrics of all sinks, each by its name.
    pub fn render(sinks: &BTreeMap<String, Arc<PushCounters>>, out: &mut TextEncoder<'_>) {
        type Field = fn(&PushCounters) -> &AtomicU64;
        let families: [(&str, &str, Field); 3] = [
            (
                "watchfire_agent_log_sink_failures_total",
                "Attempts to push lines to another system that failed and are made again.",
                |counters| &counters.failures,
            ),
            (
                "watchfire_agent_log_sink_lines_total",
                "Lines that another system has taken.",
                |counters| &counters.delivered,
            ),
            (
                "watchfire_agent_log_sink_refused_lines_total",
                "Lines that another system has refused for good; they are dropped for it.",
                |counters| &counters.refused,
            ),
        ];
        for (name, help, field) in families {
            out.family(name, "counter", help);
            for (sink, counters) in sinks {
                let value = field(counters).load(Ordering::Relaxed) as f64;
                out.sample(name, &[("sink", sink)], value);
            }
        }
    }
}

/// Pushes batches to a system, one after the other.
#[derive(Debug)]
pub struct LokiPush {
    attempts: mpsc::Sender<(NumberedLines, OnDelivered)>,
}

impl LokiPush {
    /// Starts a task that pushes.
    ///
    /// # Errors
    /// Options that can never work.
    pub async fn start(sink: &LogSink, counters: Arc<PushCounters>) -> Result<Self, AgentError> {
        let wrong = |reason: String| AgentError::Sink { name: sink.name.clone(), reason };
        let client = Client::open(&sink.http, &ClientOptions::operator())
            .await
            .map_err(|error| wrong(error.to_string()))?;
        let url = Uri::try_from(sink.url.reveal()).map_err(|error| wrong(error.to_string()))?;
        let mut headers = HeaderMap::new();
        for (name, value) in &sink.headers {
            let name = HeaderName::try_from(name).map_err(|error| wrong(error.to_string()))?;
            let value = HeaderValue::try_from(value).map_err(|error| wrong(error.to_string()))?;
            headers.insert(name, value);
        }
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        let (attempts, waiting) = mpsc::channel(WAITING);
        let pusher = Pusher {
            client,
            url,
            headers,
            sink: sink.clone(),
            counters,
            last: 0,
            pause: sink.min_backoff,
            not_before: None,
            reason: String::new(),
        };
        tokio::spawn(pusher.run(waiting));
        Ok(LokiPush { attempts })
    }
}

impl LineStore for LokiPush {
    fn stored_through(&self, _: [u8; 16]) -> Option<u64> {
        // The spool alone knows.
        Some(0)
    }

    fn store(&self, _: [u8; 16], lines: NumberedLines, done: OnDelivered) {
        if let Err(TrySendError::Full((_, done)) | TrySendError::Closed((_, done))) =
            self.attempts.try_send((lines, done))
        {
            done(Err(LinesRefused::Now("others are sent first".to_owned())));
        }
    }
}

struct Pusher {
    client: Client,
    url: Uri,
    headers: HeaderMap,
    sink: LogSink,
    counters: Arc<PushCounters>,
    /// The batch that was taken, or given up, last.
    last: u64,
    /// After the next failure.
    pause: Duration,
    not_before: Option<Instant>,
    reason: String,
}

/// Why a push failed.
enum Failure {
    Passes { reason: String, pause: Option<Duration> },
    Stays(String),
}

impl Pusher {
    async fn run(mut self, mut waiting: mpsc::Receiver<(NumberedLines, OnDelivered)>) {
        while let Some((lines, done)) = waiting.recv().await {
            done(self.attempt(&lines).await);
        }
    }

    async fn attempt(&mut self, lines: &NumberedLines) -> Result<u64, LinesRefused> {
        let is_early = self.not_before.is_some_and(|at| Instant::now() < at);
        // One whose predecessor failed comes again behind it.
        if is_early || (lines.after_seq != 0 && lines.after_seq != self.last) {
            return Err(LinesRefused::Now(self.reason.clone()));
        }
        let (body, count) = encode(&lines.lines, &self.sink.external_labels);
        let result = match count {
            0 => Ok(()),
            _ => self.push(body, lines.tenant.as_deref()).await,
        };
        match result {
            Ok(()) => {
                self.counters.delivered.fetch_add(count, Ordering::Relaxed);
                self.is_through(lines.seq);
                Ok(count)
            }
            Err(Failure::Stays(reason)) => {
                self.counters.refused.fetch_add(count, Ordering::Relaxed);
                self.is_through(lines.seq);
                Err(LinesRefused::Never(reason))
            }
            Err(Failure::Passes { reason, pause }) => {
                self.counters.failures.fetch_add(1, Ordering::Relaxed);
                let pause = pause.unwrap_or_default().min(MAX_PAUSE).max(self.pause);
                self.not_before = Some(Instant::now() + pause);
                self.pause = (self.pause * 2).min(self.sink.max_backoff);
                self.reason.clone_from(&reason);
                Err(LinesRefused::Now(reason))
            }
        }
    }

    fn is_through(&mut self, seq: u64) {
        self.last = seq;
        self.pause = self.sink.min_backoff;
        self.not_before = None;
    }

    async fn push(&self, body: Bytes, tenant: Option<&str>) -> Result<(), Failure> {
        let mut headers = self.headers.clone();
        if let Some(tenant) = tenant.or(self.sink.tenant.as_deref()) {
            let value = HeaderValue::try_from(tenant).map_err(|_| {
                Failure::Stays(format!("{}: {tenant:?} cannot be sent as a tenant", self.sink.name))
            })?;
            headers.insert("x-scope-orgid", value);
        }
        let name = &self.sink.name;
        let passes = |reason| Failure::Passes { reason: format!("{name}: {reason}"), pause: None };
        let deadline = Instant::now() + self.sink.timeout;
        let post = Post { url: &self.url, headers: &headers, body, deadline };
        let response = self.client.post(&post).await.map_err(|error| passes(error.to_string()))?;
        let status = response.status;
        if status.is_success() {
            response.discard().await;
            return Ok(());
        }
        let after = response.headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok());
        let pause = after.and_then(|text| text.parse().ok()).map(Duration::from_secs);
        let mut answer = Vec::new();
        // What cannot be read is not told.
        let _ = response.read(MAX_ANSWER_BYTES, &mut answer).await;
        let answer: String =
            String::from_utf8_lossy(&answer).trim().chars().take(SHOWN_ANSWER_CHARS).collect();
        let reason = format!("{name}: the server answered {status}: {answer}");
        // As Promtail does: what is wrong with the lines will be wrong the next time, too.
        let is_final = status.is_client_error()
            && !matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT)
            && !matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN);
        match is_final {
            true => Err(Failure::Stays(reason)),
            false => Err(Failure::Passes { reason, pause }),
        }
    }
}

/// The body of a push, packed, and how many lines it has.
fn encode(batch: &LogBatch, external: &Labels) -> (Bytes, u64) {
    let mut text = br#"{"streams":["#.to_vec();
    let (mut records, mut metadata) = (batch.records(), Vec::new());
    let (mut count, mut has_line, mut has_stream) = (0, false, false);
    // A batch of our own is never broken.
    while let Ok(Some(record)) = records.next_record(&mut metadata) {
        match record {
            LogRecord::Stream(labels) => {
                text.extend_from_slice(if has_stream { b"]}," } else { b"" });
                (has_stream, has_line) = (true, false);
                text.extend_from_slice(br#"{"stream":"#);
                let more = external.iter().filter(|(name, _)| labels.get(name).is_none());
                put_object(labels.iter().chain(more), &mut text);
                text.extend_from_slice(br#","values":["#);
            }
            LogRecord::Line { timestamp_ns, line } => {
                text.extend_from_slice(if has_line { b",[\"" } else { b"[\"" });
                has_line = true;
                text.extend_from_slice(timestamp_ns.to_string().as_bytes());
                text.extend_from_slice(b"\",");
                put_text(&String::from_utf8_lossy(line), &mut text);
                if !metadata.is_empty() {
                    text.push(b',');
                    put_object(metadata.iter().copied(), &mut text);
                }
                text.push(b']');
                count += 1;
            }
        }
    }
    text.extend_from_slice(if has_stream { b"]}]}" } else { b"]}" });
    let mut packed = GzEncoder::new(Vec::with_capacity(text.len() / 8), Compression::fast());
    packed.write_all(&text).expect("memory takes everything");
    (packed.finish().expect("memory takes everything").into(), count)
}

fn put_object<'a>(pairs: impl Iterator<Item = (&'a str, &'a str)>, out: &mut Vec<u8>) {
    out.push(b'{');
    for (at, (name, value)) in pairs.enumerate() {
        if at > 0 {
            out.push(b',');
        }
        put_text(name, out);
        out.push(b':');
        put_text(value, out);
    }
    out.push(b'}');
}

fn put_text(text: &str, out: &mut Vec<u8>) {
    serde_json::to_writer(out, text).expect("a text is JSON");
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Read};
    use std::net::TcpListener;
    use std::sync::mpsc::channel;

    use settings::HttpUrl;

    use super::*;

    /// Answers each request by the next status; yields head and unpacked body of each.
    fn server(statuses: &'static [&'static str]) -> (String, std::sync::mpsc::Receiver<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("bound");
        let (sender, seen) = channel();
        std::thread::spawn(move || {
            for status in statuses {
                let (stream, _) = listener.accept().expect("a client");
                let mut reader = BufReader::new(&stream);
                let (mut head, mut length) = (String::new(), 0);
                loop {
                    let mut line = String::new();
                    reader.read_line(&mut line).expect("a head");
                    if line.trim().is_empty() {
                        break;
                    }
                    head.push_str(&line.to_ascii_lowercase());
                    if let Some(text) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                        length = text.trim().parse().expect("a number");
                    }
                }
                let mut body = vec![0; length];
                reader.read_exact(&mut body).expect("a body");
                let mut text = String::new();
                flate2::read::GzDecoder::new(&body[..]).read_to_string(&mut text).expect("gzip");
                let answer = format!(
                    "HTTP/1.1 {status}\r\ncontent-length: 4\r\nconnection: close\r\n\r\nwhat"
                );
                (&stream).write_all(answer.as_bytes()).expect("a client that waits");
                sender.send(head + &text).expect("a test");
            }
        });
        (format!("http://{address}/loki/api/v1/push"), seen)
    }

    fn lines(seq: u64, after_seq: u64, tenant: Option<&str>) -> NumberedLines {
        let mut lines = LogBatch::default();
        lines.stream(&Labels::from_pairs([("job", "a")]).expect("valid"));
        lines.push_with(5, b"one \"1\"", [("trace", "x")].into_iter()).expect("small");
        lines.push_with(6, b"two\xff", std::iter::empty()).expect("small");
        lines.stream(&Labels::from_pairs([("job", "b"), ("zone", "own")]).expect("valid"));
        lines.push_with(7, b"three", std::iter::empty()).expect("small");
        NumberedLines { seq, after_seq, tenant: tenant.map(str::to_owned), lines }
    }

    async fn push(to: &LokiPush, lines: NumberedLines) -> Result<u64, LinesRefused> {
        let (sender, told) = tokio::sync::oneshot::channel();
        to.store([0; 16], lines, Box::new(move |result| sender.send(result).expect("a test")));
        told.await.expect("an answer")
    }

    #[tokio::test]
    async fn lines_are_pushed_until_they_are_taken_or_refused() {
        let (url, seen) = server(&["503 Busy", "204 OK", "400 Bad", "200 OK"]);
        let mut sink = LogSink::new("other", HttpUrl::parse(&url).expect("a URL"));
        sink.tenant = Some("t1".to_owned());
        sink.min_backoff = Duration::from_millis(1);
        sink.headers.push(("x-more".to_owned(), "yes".to_owned()));
        sink.external_labels = Labels::from_pairs([("zone", "z")]).expect("valid");
        let counters = Arc::new(PushCounters::default());
        let to = LokiPush::start(&sink, Arc::clone(&counters)).await.expect("valid");

        let Err(LinesRefused::Now(reason)) = push(&to, lines(1, 0, None)).await else {
            panic!("a busy server takes nothing");
        };
        assert!(reason.contains("other: the server answered 503"), "{reason}");
        // What comes behind it is not sent before it.
        assert!(matches!(push(&to, lines(2, 1, None)).await, Err(LinesRefused::Now(_))));
        tokio::time::sleep(Duration::from_millis(5)).await;
        assert_eq!(push(&to, lines(1, 0, None)).await, Ok(3));
        let Err(LinesRefused::Never(reason)) = push(&to, lines(2, 1, Some("t2"))).await else {
            panic!("what is bad stays bad");
        };
        assert!(reason.ends_with("400 Bad Request: what"), "{reason}");
        assert_eq!(push(&to, lines(3, 2, None)).await, Ok(3));

        let requests: Vec<String> = seen.iter().collect();
        assert_eq!(requests.len(), 4);
        assert!(requests[1].contains("x-scope-orgid: t1\r\n"), "{}", requests[1]);
        assert!(requests[1].contains("x-more: yes\r\n"), "{}", requests[1]);
        assert!(requests[2].contains("x-scope-orgid: t2\r\n"), "{}", requests[2]);
        let body = r#"{"streams":[{"stream":{"job":"a","zone":"z"},"values":[["5","one \"1\"",{"trace":"x"}],["6","two�"]]},{"stream":{"job":"b","zone":"own"},"values":[["7","three"]]}]}"#;
        assert!(requests[3].ends_with(body), "{}", requests[3]);

        let mut page = Vec::new();
        let sinks = BTreeMap::from([("other".to_owned(), counters)]);
        PushCounters::render(&sinks, &mut TextEncoder::new(&mut page));
        let page = String::from_utf8(page).expect("text");
        for line in [
            "sink_failures_total{sink=\"other\"} 1\n",
            "sink_lines_total{sink=\"other\"} 6\n",
            "sink_refused_lines_total{sink=\"other\"} 3\n",
        ] {
            assert!(page.contains(line), "{line}: {page}");
        }
    }
}
