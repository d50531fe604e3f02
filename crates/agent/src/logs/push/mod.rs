//! Lines to other systems beside the broker: in Loki's protocol, in OTLP, to Aliyun's SLS.
//!
//! Sources: <https://grafana.com/docs/loki/latest/reference/loki-http-api/#ingest-logs>,
//! <https://opentelemetry.io/docs/specs/otlp/#otlphttp>, and the API reference of SLS, `PutLogs`. A batch
//! is sent until it is taken, or refused for good; while it is not, it waits in the spool, and so do
//! sources when that is full. What was taken but not acknowledged comes again, and is the same lines then:
//! Loki keeps one of each, others may keep two.

mod parts;
mod protocol;
mod sls;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use model::LogBatch;
use net::client::{Client, ClientOptions, Post};
use settings::logs::LogSink;
use tokio::sync::mpsc::{self, error::TrySendError};
use wire::text_encode::TextEncoder;

use self::protocol::{Protocol, Verdict};
use super::delivery::{LineStore, LinesRefused, NumberedLines, OnDelivered};
use super::status::CollectionStatus;
use crate::error::AgentError;

/// Batches that wait for the one that is sent; more are never under way.
const WAITING: usize = 16;
/// As much of an answer is read.
const MAX_ANSWER_BYTES: usize = 64 << 10;
/// A system that asks for a longer pause gets this one.
const MAX_PAUSE: Duration = Duration::from_secs(300);

/// What sinks count.
#[derive(Debug, Default)]
pub struct PushCounters {
    delivered: AtomicU64,
    refused: AtomicU64,
    failures: AtomicU64,
    collection: OnceLock<Arc<CollectionStatus>>,
}

impl PushCounters {
    /// Says what collects for the sink, whose spool is told then.
    pub fn follow(&self, collection: &Arc<CollectionStatus>) {
        // The first one is told, should there be two of a name.
        let _ = self.collection.set(Arc::clone(collection));
    }

    /// Appends the metrics of all sinks, each by its name.
    pub fn render(sinks: &BTreeMap<String, Arc<PushCounters>>, out: &mut TextEncoder<'_>) {
        type Value = fn(&PushCounters) -> u64;
        let families: [(&str, &str, &str, Value); 4] = [
            (
                "watchfire_agent_log_sink_failures_total",
                "counter",
                "Attempts to push lines to another system that failed and are made again.",
                |counters| counters.failures.load(Ordering::Relaxed),
            ),
            (
                "watchfire_agent_log_sink_lines_total",
                "counter",
                "Lines that another system has taken.",
                |counters| counters.delivered.load(Ordering::Relaxed),
            ),
            (
                "watchfire_agent_log_sink_refused_lines_total",
                "counter",
                "Lines that another system has refused for good; they are dropped for it.",
                |counters| counters.refused.load(Ordering::Relaxed),
            ),
            (
                "watchfire_agent_log_sink_spool_bytes",
                "gauge",
                "Bytes on disk of lines that another system has not taken yet.",
                |counters| counters.collection.get().map_or(0, |status| status.spool_bytes.get()),
            ),
        ];
        for (name, kind, help, value) in families {
            out.family(name, kind, help);
            for (sink, counters) in sinks {
                out.sample(name, &[("sink", sink)], value(counters) as f64);
            }
        }
    }
}

/// Pushes batches to a system, one after the other.
#[derive(Debug)]
pub struct Push {
    attempts: mpsc::Sender<(NumberedLines, OnDelivered)>,
}

impl Push {
    /// Starts a task that pushes. `host` is what this host is called.
    ///
    /// # Errors
    /// Options that can never work.
    pub async fn start(
        sink: &LogSink,
        host: &str,
        counters: Arc<PushCounters>,
    ) -> Result<Self, AgentError> {
        let wrong = |reason: String| AgentError::Sink { name: sink.name.clone(), reason };
        let client = Client::open(&sink.http, &ClientOptions::operator())
            .await
            .map_err(|error| wrong(error.to_string()))?;
        let protocol = Protocol::of(sink, host).map_err(wrong)?;
        let (attempts, waiting) = mpsc::channel(WAITING);
        let pusher = Pusher {
            client,
            protocol,
            sink: sink.clone(),
            counters,
            last: 0,
            begun: None,
            pause: sink.min_backoff,
            not_before: None,
            reason: String::new(),
            complained: String::new(),
        };
        tokio::spawn(pusher.run(waiting));
        Ok(Push { attempts })
    }
}

impl LineStore for Push {
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

/// A batch of which not everything is through.
struct Begun {
    seq: u64,
    parts: VecDeque<LogBatch>,
    delivered: u64,
}

struct Pusher {
    client: Client,
    protocol: Protocol,
    sink: LogSink,
    counters: Arc<PushCounters>,
    /// The batch that was taken, or given up, last.
    last: u64,
    begun: Option<Begun>,
    /// After the next failure.
    pause: Duration,
    not_before: Option<Instant>,
    reason: String,
    complained: String,
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
        let room = self.protocol.room(self.sink.batch_bytes);
        // What of it was taken is not sent again, as long as this process lives.
        let mut begun = match self.begun.take() {
            Some(begun) if begun.seq == lines.seq => begun,
            _ => Begun {
                seq: lines.seq,
                parts: parts::parts(&lines.lines, &self.sink.external_labels, room),
                delivered: 0,
            },
        };
        while let Some(part) = begun.parts.pop_front() {
            let count = part.lines();
            match self.push(&part, lines.tenant.as_deref()).await {
                Verdict::Taken { refused, reason } => {
                    let refused = refused.min(count);
                    begun.delivered += count - refused;
                    self.counters.delivered.fetch_add(count - refused, Ordering::Relaxed);
                    if refused > 0 {
                        self.refused(refused, &reason);
                    }
                    (self.pause, self.not_before) = (self.sink.min_backoff, None);
                }
                Verdict::TooLarge(reason) => match parts::halves(&part, room) {
                    Some(halves) => {
                        halves.into_iter().rev().for_each(|half| begun.parts.push_front(half));
                    }
                    None => self.refused(count, &reason),
                },
                Verdict::Stays(reason) => self.refused(count, &reason),
                Verdict::Passes { reason, pause } => {
                    begun.parts.push_front(part);
                    self.begun = Some(begun);
                    self.counters.failures.fetch_add(1, Ordering::Relaxed);
                    let pause = pause.unwrap_or_default().min(MAX_PAUSE).max(self.pause);
                    self.not_before = Some(Instant::now() + pause);
                    self.pause = (self.pause * 2).min(self.sink.max_backoff);
                    self.reason = format!("{}: {reason}", self.sink.name);
                    return Err(LinesRefused::Now(self.reason.clone()));
                }
            }
        }
        self.last = lines.seq;
        Ok(begun.delivered)
    }

    fn refused(&mut self, lines: u64, reason: &str) {
        self.counters.refused.fetch_add(lines, Ordering::Relaxed);
        if self.complained != reason {
            reason.clone_into(&mut self.complained);
            let sink = &self.sink.name;
            tracing::warn!(sink, reason, lines, "lines are refused and dropped for this system");
        }
    }

    async fn push(&self, part: &LogBatch, tenant: Option<&str>) -> Verdict {
        let (headers, body) = match self.protocol.request(part, tenant) {
            Ok(request) => request,
            Err(verdict) => return verdict,
        };
        let passes = |reason| Verdict::Passes { reason, pause: None };
        let deadline = Instant::now() + self.sink.timeout;
        let post = Post { url: self.protocol.url(), headers: &headers, body, deadline };
        let response = match self.client.post(&post).await {
            Ok(response) => response,
            Err(error) => return passes(error.to_string()),
        };
        let (status, headers) = (response.status, response.headers.clone());
        let mut answer = Vec::new();
        // What cannot be read is not told; the status alone counts then.
        let _ = response.read(MAX_ANSWER_BYTES, &mut answer).await;
        self.protocol.judge(status, &headers, &answer)
    }
}
