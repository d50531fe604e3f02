//! One Alertmanager: what waits for it, and the task that sends it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use bytes::Bytes;
use discovery::{Standing, Task};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Uri};
use net::client::{Client, Post};
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::counters::OfOne;
use super::{Shared, written};

/// Most that is read of an answer, and told of it.
const MAX_ANSWER_BYTES: usize = 64 << 10;
const MAX_TOLD_CHARS: usize = 256;

/// An Alertmanager that is told. Its task ends with this.
pub(super) struct Member {
    queue: Arc<Queue>,
    _task: Task,
}

/// What its task knows.
struct Queue {
    url: String,
    waiting: Mutex<VecDeque<Bytes>>,
    is_sending: AtomicBool,
    wake: Notify,
    counts: Arc<OfOne>,
    shared: Arc<Shared>,
}

impl Member {
    pub(super) fn start(
        url: String,
        client: Arc<Client>,
        timeout: Duration,
        shared: &Arc<Shared>,
    ) -> Self {
        let queue = Arc::new(Queue {
            counts: shared.counts.of(&url),
            url,
            waiting: Mutex::default(),
            is_sending: AtomicBool::new(false),
            wake: Notify::new(),
            shared: Arc::clone(shared),
        });
        let task = Task::spawn(Arc::clone(&queue).run(client, timeout));
        Member { queue, _task: task }
    }

    pub(super) fn url(&self) -> &str {
        &self.queue.url
    }

    pub(super) fn counts(&self) -> Arc<OfOne> {
        Arc::clone(&self.queue.counts)
    }

    /// How many alerts wait.
    pub(super) fn waiting(&self) -> usize {
        self.queue.waiting.lock().len()
    }

    /// Whether something waits or is on its way.
    pub(super) fn is_busy(&self) -> bool {
        self.waiting() > 0 || self.queue.is_sending.load(Relaxed)
    }

    /// Appends alerts; where there is no place for all, the oldest go.
    pub(super) fn add(&self, alerts: &[Bytes]) {
        let capacity = self.queue.shared.limits.read().capacity;
        let mut waiting = self.queue.waiting.lock();
        waiting.extend(alerts.iter().cloned());
        let too_many = waiting.len().saturating_sub(capacity);
        waiting.drain(..too_many);
        drop(waiting);
        if too_many > 0 {
            self.queue.counts.dropped.fetch_add(too_many as u64, Relaxed);
            tracing::warn!(
                alertmanager = self.queue.url,
                alerts = too_many,
                limit = capacity,
                "the queue of an Alertmanager is full, the oldest alerts are dropped; rules send what \
                 still fires again. Raise rules.notification_queue_capacity if it happens again"
            );
        }
        self.queue.wake.notify_one();
    }
}

impl Queue {
    async fn run(self: Arc<Self>, client: Arc<Client>, timeout: Duration) {
        let mut standing = Standing::default();
        loop {
            let batch = self.take();
            if batch.is_empty() {
                self.wake.notified().await;
                continue;
            }
            let began = Instant::now();
            let outcome = self.post(&client, written::list(&batch), began + timeout).await;
            self.counts.requested(batch.len(), began.elapsed(), outcome.is_err());
            self.is_sending.store(false, Relaxed);
            match outcome {
                Ok(()) => {
                    if let Some(failures) = standing.works() {
                        let alertmanager = &self.url;
                        tracing::info!(alertmanager, failures, "alerts can be sent again");
                    }
                }
                Err(reason) => {
                    if standing.fails(&reason) {
                        let (alertmanager, alerts) = (&self.url, batch.len());
                        tracing::warn!(
                            alertmanager,
                            alerts,
                            %reason,
                            "alerts could not be sent; rules send what still fires again"
                        );
                    }
                }
            }
        }
    }

    fn take(&self) -> Vec<Bytes> {
        let batch = self.shared.limits.read().batch.max(1);
        let mut waiting = self.waiting.lock();
        let count = waiting.len().min(batch);
        // Noted before others can see that the queue is empty.
        self.is_sending.store(count > 0, Relaxed);
        waiting.drain(..count).collect()
    }

    async fn post(&self, client: &Client, body: Bytes, deadline: Instant) -> Result<(), String> {
        let url: Uri = self.url.parse().map_err(|error| format!("it is no URL: {error}"))?;
        let headers =
            HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("application/json"))]);
        let request = Post { url: &url, headers: &headers, body, deadline };
        let response = client.post(&request).await.map_err(|error| error.to_string())?;
        let status = response.status;
        if status.is_success() {
            response.discard().await;
            return Ok(());
        }
        let mut answer = Vec::new();
        let _ = response.read(MAX_ANSWER_BYTES, &mut answer).await;
        let answer = String::from_utf8_lossy(&answer);
        let told = answer.trim().chars().take(MAX_TOLD_CHARS);
        let told: String = told.map(|c| if c.is_control() { ' ' } else { c }).collect();
        Err(format!("bad response status {status}: {told}"))
    }
}
