//! One remote: what is sent to it, how, and how often.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri};
use net::Chance;
use net::client::{Client, ClientError, Post};
use settings::prometheus::{RemoteWrite, RemoteWriteMessage};
use tokio::runtime::Handle;

use super::counters::{Counters, Dropped, Sent};
use super::request::{self, Verdict};
use super::rows::{Amount, Chunk};
use super::shards::{Phase, ShardQueue};
use crate::Complaints;
use crate::metadata::MetadataBook;

const VERSION: HeaderName = HeaderName::from_static("x-prometheus-remote-write-version");
const RETRY_ATTEMPT: HeaderName = HeaderName::from_static("retry-attempt");
/// Of the body of a refusal no more is read …
const READ_BYTES: usize = 256 << 10;
/// … and no more is told, as in Prometheus.
const TOLD_BYTES: usize = 1_024;

/// What all shards of a remote share.
pub(super) struct Delivery {
    pub(super) parts: Parts,
    /// The remote refused version 2 once: it gets version 1 from then on.
    speaks_one: AtomicBool,
    counters: Counters,
    complaints: Complaints,
}

/// What a delivery is made of.
pub(super) struct Parts {
    pub(super) remote: RemoteWrite,
    /// In metrics and in the log.
    pub(super) name: String,
    pub(super) client: Client,
    pub(super) uri: Uri,
    pub(super) headers: HeaderMap,
    pub(super) metadata: Arc<MetadataBook>,
    pub(super) runtime: Handle,
    pub(super) now_ms: fn() -> i64,
    /// Spreads pauses.
    pub(super) seed: u64,
}

/// How one attempt ended.
enum Attempt {
    Judged(Verdict),
    /// No answer.
    Failed,
}

/// What became of a batch.
enum Outcome {
    Done,
    /// The shard was told to end before it was delivered.
    Halted,
}

impl Delivery {
    pub(super) fn new(parts: Parts) -> Self {
        Delivery {
            parts,
            speaks_one: AtomicBool::new(false),
            counters: Counters::default(),
            complaints: Complaints::default(),
        }
    }

    pub(super) fn remote(&self) -> &RemoteWrite {
        &self.parts.remote
    }

    pub(super) fn counters(&self) -> &Counters {
        &self.counters
    }

    pub(super) fn runtime(&self) -> &Handle {
        &self.parts.runtime
    }

    /// The version in which the next request is written.
    pub(super) fn message(&self) -> RemoteWriteMessage {
        if self.speaks_one.load(Relaxed) {
            RemoteWriteMessage::V1
        } else {
            self.remote().protobuf_message
        }
    }

    /// Sends what comes into the queue until it ends.
    pub(super) async fn run(&self, queue: &ShardQueue) {
        let config = &self.remote().queue;
        let max = usize::try_from(config.max_samples_per_send).unwrap_or(usize::MAX);
        while let Some(mut batch) = queue.next(max, config.batch_send_deadline).await {
            match self.deliver(&mut batch, queue).await {
                Outcome::Done => queue.settle(),
                Outcome::Halted => {
                    queue.give_back(batch);
                    return;
                }
            }
        }
    }

    async fn deliver(&self, batch: &mut [Chunk], queue: &ShardQueue) -> Outcome {
        let mut pauses = Pauses::new(self);
        let mut body: Option<(RemoteWriteMessage, Bytes)> = None;
        loop {
            if self.drop_old(batch) {
                body = None;
            }
            let amount = Amount::of(batch.iter().flat_map(|chunk| &chunk.rows));
            if amount.total() == 0 {
                return Outcome::Done;
            }
            let message = self.message();
            let bytes = match body.take().filter(|(known, _)| *known == message) {
                Some((_, bytes)) => bytes,
                None => {
                    let known = self.parts.metadata.families(model::DEFAULT_TENANT);
                    match request::encode(batch, message, &known) {
                        Ok(bytes) => bytes,
                        Err(error) => {
                            self.complain("a batch cannot be sent", &error.to_string());
                            self.fail(amount, Amount::default());
                            return Outcome::Done;
                        }
                    }
                }
            };
            let wish = match self.attempt(&bytes, message, pauses.attempts).await {
                Attempt::Judged(Verdict::Taken(written)) => {
                    self.counters.bytes.fetch_add(bytes.len() as u64, Relaxed);
                    self.taken(batch, amount, written, message);
                    return Outcome::Done;
                }
                Attempt::Judged(Verdict::Never(written)) => {
                    self.fail(amount, written);
                    return Outcome::Done;
                }
                Attempt::Judged(Verdict::OtherVersion) => {
                    self.fall_back();
                    continue;
                }
                Attempt::Judged(Verdict::Again(wish)) => wish,
                Attempt::Failed => None,
            };
            body = Some((message, bytes));
            self.counters.floats.retried.fetch_add(amount.floats, Relaxed);
            self.counters.histograms.retried.fetch_add(amount.histograms, Relaxed);
            self.counters.exemplars.retried.fetch_add(amount.exemplars, Relaxed);
            if queue.phase() == Phase::Halt {
                return Outcome::Halted;
            }
            queue.pause_unless_halted(pauses.next(wish)).await;
            if queue.phase() == Phase::Halt {
                return Outcome::Halted;
            }
        }
    }

    /// Sends a body that holds metadata alone, with few attempts: it comes again by itself.
    pub(super) async fn deliver_metadata(&self, body: &Bytes, entries: u64) {
        const ATTEMPTS: u32 = 5;
        let mut pauses = Pauses::new(self);
        let sent = &self.counters.metadata;
        loop {
            let wish = match self.attempt(body, RemoteWriteMessage::V1, pauses.attempts).await {
                Attempt::Judged(Verdict::Taken(_)) => {
                    sent.total.fetch_add(entries, Relaxed);
                    self.counters.metadata_bytes.fetch_add(body.len() as u64, Relaxed);
                    return;
                }
                Attempt::Judged(Verdict::Again(wish)) if pauses.attempts < ATTEMPTS => wish,
                Attempt::Failed if pauses.attempts < ATTEMPTS => None,
                Attempt::Judged(_) | Attempt::Failed => {
                    sent.failed.fetch_add(entries, Relaxed);
                    return;
                }
            };
            sent.retried.fetch_add(entries, Relaxed);
            tokio::time::sleep(pauses.next(wish)).await;
        }
    }

    /// One request. What went wrong is told.
    async fn attempt(&self, body: &Bytes, message: RemoteWriteMessage, attempts: u32) -> Attempt {
        let started = Instant::now();
        let headers = self.headers(message, attempts);
        let request = Post {
            url: &self.parts.uri,
            headers: &headers,
            body: body.clone(),
            deadline: started + self.remote().remote_timeout,
        };
        let answer = self.parts.client.post(&request).await;
        let took = started.elapsed();
        self.counters.note_request(took);
        let busy = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.counters.busy_micros.fetch_add(busy, Relaxed);
        let response = match answer {
            Ok(response) => response,
            Err(error) => {
                self.complain("no answer; the same is sent again", &error.to_string());
                return Attempt::Failed;
            }
        };
        let (status, answered) = (response.status, response.headers.clone());
        let on_429 = self.remote().queue.retry_on_http_429;
        let verdict = request::judge(status, &answered, message, on_429, (self.parts.now_ms)());
        if matches!(verdict, Verdict::Taken(_)) {
            response.discard().await;
            return Attempt::Judged(verdict);
        }
        let mut text = Vec::new();
        // What came of it is told, also where it is too long or breaks off.
        let _: Result<(), ClientError> = response.read(READ_BYTES, &mut text).await;
        let what = match verdict {
            Verdict::Again(_) => "refused for now; the same is sent again",
            _ => "refused for good; these samples are not sent again",
        };
        if verdict != Verdict::OtherVersion {
            self.complain_about(what, status, &text);
        }
        Attempt::Judged(verdict)
    }

    fn headers(&self, message: RemoteWriteMessage, attempts: u32) -> HeaderMap {
        let mut headers = self.parts.headers.clone();
        let (content_type, version) = match message {
            RemoteWriteMessage::V1 => ("application/x-protobuf", "0.1.0"),
            RemoteWriteMessage::V2 => {
                ("application/x-protobuf;proto=io.prometheus.write.v2.Request", "2.0.0")
            }
        };
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static("snappy"));
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        headers.insert(VERSION, HeaderValue::from_static(version));
        if attempts > 0 {
            headers.insert(RETRY_ATTEMPT, HeaderValue::from(attempts));
        }
        headers
    }

    fn taken(
        &self,
        batch: &[Chunk],
        amount: Amount,
        written: Option<Amount>,
        message: RemoteWriteMessage,
    ) {
        let counters = &self.counters;
        let written = match (written, message) {
            (None, RemoteWriteMessage::V1) => amount,
            (Some(written), _) => written,
            (None, RemoteWriteMessage::V2) => {
                // A receiver of version 1 that looks at no header finds nothing in the message.
                self.complain(
                    "the remote answered that all is well, but not how much it has written",
                    "it may know version 1 only: set protobuf_message to prometheus.WriteRequest",
                );
                Amount::default()
            }
        };
        for (sent, amount, written) in self.kinds(amount, written) {
            sent.total.fetch_add(amount, Relaxed);
            sent.failed.fetch_add(amount.saturating_sub(written), Relaxed);
        }
        let newest = batch.iter().flat_map(|chunk| &chunk.rows).map(|row| row.t_ms).max();
        counters.newest_sent_ms.fetch_max(newest.unwrap_or(i64::MIN), Relaxed);
        counters.delivered_rows.fetch_add(amount.total(), Relaxed);
        counters.take_pending(amount);
    }

    /// Of a batch that is given up, only so much was written.
    fn fail(&self, amount: Amount, written: Amount) {
        for (sent, amount, written) in self.kinds(amount, written) {
            sent.total.fetch_add(amount, Relaxed);
            sent.failed.fetch_add(amount.saturating_sub(written), Relaxed);
        }
        self.counters.take_pending(amount);
    }

    fn kinds(&self, amount: Amount, written: Amount) -> [(&Sent, u64, u64); 3] {
        [
            (&self.counters.floats, amount.floats, written.floats),
            (&self.counters.histograms, amount.histograms, written.histograms),
            (&self.counters.exemplars, amount.exemplars, written.exemplars),
        ]
    }

    /// Takes rows out that are too old by now; whether there were any.
    fn drop_old(&self, batch: &mut [Chunk]) -> bool {
        let Some(oldest_ms) = self.oldest_ms() else { return false };
        let mut dropped = Amount::default();
        for chunk in batch.iter_mut() {
            let before = Amount::of(&chunk.rows);
            chunk.rows.retain(|row| row.t_ms >= oldest_ms);
            let after = Amount::of(&chunk.rows);
            dropped.floats += before.floats - after.floats;
            dropped.histograms += before.histograms - after.histograms;
            dropped.exemplars += before.exemplars - after.exemplars;
        }
        if dropped.total() == 0 {
            return false;
        }
        self.counters.drop_rows(dropped, Dropped::TooOld);
        self.counters.take_pending(dropped);
        true
    }

    /// Older samples are not sent, by `sample_age_limit`.
    pub(super) fn oldest_ms(&self) -> Option<i64> {
        let limit = self.remote().queue.sample_age_limit;
        let limit_ms = i64::try_from(limit.as_millis()).unwrap_or(i64::MAX);
        (limit_ms > 0).then(|| (self.parts.now_ms)().saturating_sub(limit_ms))
    }

    fn fall_back(&self) {
        if !self.speaks_one.swap(true, Relaxed) {
            tracing::warn!(
                remote = self.parts.name,
                "the remote does not know version 2 of remote write (415): it gets version 1 from \
                 now on"
            );
        }
    }

    fn complain_about(&self, what: &str, status: StatusCode, body: &[u8]) {
        let text = String::from_utf8_lossy(body);
        let line = text.lines().next().unwrap_or_default();
        let line = &line[..line.floor_char_boundary(TOLD_BYTES)];
        self.complain(what, &format!("server returned HTTP status {status}: {line}"));
    }

    /// Tells what is wrong, as often as one may.
    pub(super) fn complain(&self, what: &str, error: &str) {
        if let Some(more) = self.complaints.may_say(&format!("{what}{error}"), Instant::now()) {
            tracing::warn!(
                remote = self.parts.name,
                url = %self.remote().url,
                // Displayed, so that what a server says is told word for word.
                error = %error,
                more_like_it_before = more,
                "remote write: {what}"
            );
        }
    }
}

/// Pauses between attempts: twice as long each time, within the bounds of the configuration, and
/// up to a tenth longer by chance, so that shards do not come back in step.
struct Pauses {
    attempts: u32,
    next: Duration,
    most: Duration,
    chance: Chance,
}

impl Pauses {
    fn new(delivery: &Delivery) -> Self {
        let queue = &delivery.remote().queue;
        let chance = Chance::new(delivery.parts.seed ^ (delivery.parts.now_ms)() as u64);
        Pauses { attempts: 0, next: queue.min_backoff, most: queue.max_backoff, chance }
    }

    /// A wish of the server is not undercut.
    fn next(&mut self, wish: Option<Duration>) -> Duration {
        self.attempts += 1;
        let pause = self.next.min(self.most);
        self.next = self.next.saturating_mul(2).min(self.most);
        let longer = pause + pause.mul_f64(0.1 * self.chance.fraction());
        wish.map_or(longer, |wish| longer.max(wish))
    }
}
