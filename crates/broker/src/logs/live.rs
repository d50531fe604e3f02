//! Live lines: each line that was stored, when it is searchable, to those who asked for its stream.
//!
//! While nobody listens it costs one atomic load per batch. A subscriber that does not take what it asked for has a
//! bounded buffer; when it is full, lines that come are dropped, and it is told how many and which.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use model::{Labels, LogBatch, LogRecord, Matcher, Share, TenantId};
use parking_lot::{Mutex, RwLock};
use tokio::sync::Notify;

use crate::Broker;

/// Subscriptions over all connections.
const SUBSCRIPTIONS: Share = Share::of_one_alone(256);
/// Bytes one subscription may have waiting.
const MAX_WAITING_BYTES: u64 = 4 << 20;
/// Lines that were dropped and are named; further ones are counted.
const MAX_NAMED: usize = 100;

/// All live subscriptions of lines.
#[derive(Default)]
pub(crate) struct LineHub {
    all: RwLock<Vec<Arc<Subscriber>>>,
    count: AtomicUsize,
    /// Lines handed over.
    pub(super) delivered: AtomicU64,
    /// Lines dropped.
    pub(super) missed: AtomicU64,
}

struct Subscriber {
    tenant: TenantId,
    matchers: Vec<Matcher>,
    is_gone: AtomicBool,
    inbox: Mutex<LiveLines>,
    wake: Notify,
}

/// What came since it was last taken.
#[derive(Debug, Default)]
pub struct LiveLines {
    /// The lines, in the order in which they came.
    pub batch: LogBatch,
    /// How many were dropped because the reader was too slow.
    pub missed: u64,
    /// The first of those: labels of the stream, and the time in nanoseconds since the epoch.
    pub dropped: Vec<(Labels, i64)>,
}

impl LiveLines {
    fn is_empty(&self) -> bool {
        self.batch.is_empty() && self.missed == 0
    }
}

/// A subscription; it ends when this is dropped.
pub struct LineFeed {
    hub: Arc<LineHub>,
    subscriber: Arc<Subscriber>,
}

impl LineFeed {
    /// Waits until there is something to say, and takes it.
    pub async fn next(&mut self) -> LiveLines {
        loop {
            let woken = self.subscriber.wake.notified();
            {
                let mut inbox = self.subscriber.inbox.lock();
                if !inbox.is_empty() {
                    return std::mem::take(&mut *inbox);
                }
            }
            woken.await;
        }
    }
}

impl Drop for LineFeed {
    fn drop(&mut self) {
        self.subscriber.is_gone.store(true, Ordering::Relaxed);
        let mut all = self.hub.all.write();
        all.retain(|one| !one.is_gone.load(Ordering::Relaxed));
        self.hub.count.store(all.len(), Ordering::Release);
    }
}

impl LineHub {
    /// Adds a subscription.
    ///
    /// # Errors
    /// The tenant has too many already.
    pub(crate) fn subscribe(
        self: &Arc<Self>,
        tenant: TenantId,
        matchers: Vec<Matcher>,
    ) -> Result<LineFeed, String> {
        let mut all = self.all.write();
        let own = all.iter().filter(|one| one.tenant == tenant).count();
        SUBSCRIPTIONS.admit(own, 1, all.len() - own).map_err(|limit| {
            format!(
                "max concurrent tail requests limit exceeded, count > limit ({} > {limit}): {}",
                own + 1,
                SUBSCRIPTIONS.rule()
            )
        })?;
        let subscriber = Arc::new(Subscriber {
            tenant,
            matchers,
            is_gone: AtomicBool::new(false),
            inbox: Mutex::default(),
            wake: Notify::new(),
        });
        all.push(Arc::clone(&subscriber));
        self.count.store(all.len(), Ordering::Release);
        Ok(LineFeed { hub: Arc::clone(self), subscriber })
    }

    /// Hands lines that have become searchable to those who asked for them.
    pub(super) fn publish(&self, tenant: TenantId, batch: &LogBatch) {
        if self.count.load(Ordering::Acquire) == 0 {
            return;
        }
        let all = self.all.read();
        for subscriber in all.iter().filter(|one| one.tenant == tenant) {
            self.hand_over(subscriber, batch);
        }
    }

    fn hand_over(&self, subscriber: &Subscriber, batch: &LogBatch) {
        let (mut records, mut metadata) = (batch.records(), Vec::new());
        // Labels of the stream that is read, if it is asked for, and whether they were told.
        let mut stream: Option<(Labels, bool)> = None;
        let (mut delivered, mut missed) = (0, 0);
        let mut inbox = subscriber.inbox.lock();
        while let Ok(Some(record)) = records.next_record(&mut metadata) {
            match record {
                LogRecord::Stream(labels) => {
                    let is_meant = Matcher::all_match(&subscriber.matchers, &labels);
                    stream = is_meant.then_some((labels, false));
                }
                LogRecord::Line { timestamp_ns, line } => {
                    let Some((labels, is_told)) = &mut stream else { continue };
                    let is_full = inbox.batch.line_bytes() >= MAX_WAITING_BYTES;
                    if !is_full && !*is_told {
                        inbox.batch.stream(labels);
                        *is_told = true;
                    }
                    if is_full || inbox.batch.push(timestamp_ns, line, &metadata).is_err() {
                        missed += 1;
                        if inbox.dropped.len() < MAX_NAMED {
                            inbox.dropped.push((labels.clone(), timestamp_ns));
                        }
                    } else {
                        delivered += 1;
                    }
                }
            }
        }
        inbox.missed += missed;
        let is_new = !inbox.is_empty();
        drop(inbox);
        self.delivered.fetch_add(delivered, Ordering::Relaxed);
        self.missed.fetch_add(missed, Ordering::Relaxed);
        if is_new {
            subscriber.wake.notify_one();
        }
    }

    /// How many subscribe.
    pub(super) fn subscriptions(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }
}

impl Broker {
    /// The tenant's lines, from now on, of streams that satisfy all matchers, when they have become searchable
    /// at this broker.
    ///
    /// # Errors
    /// Too many subscriptions.
    pub fn subscribe_lines(
        &self,
        tenant: TenantId,
        matchers: Vec<Matcher>,
    ) -> Result<LineFeed, String> {
        self.inner.lines.heads.hub().subscribe(tenant, matchers)
    }
}

#[cfg(test)]
mod tests {
    use model::{DEFAULT_TENANT, MatchOp};

    use super::*;

    fn labels(app: &str) -> Labels {
        Labels::from_pairs([("app", app)]).expect("valid")
    }

    fn lines(batch: &LogBatch) -> Vec<(Labels, i64)> {
        let (mut records, mut metadata, mut found) = (batch.records(), Vec::new(), Vec::new());
        let mut stream = Labels::empty();
        while let Some(record) = records.next_record(&mut metadata).expect("whole") {
            match record {
                LogRecord::Stream(labels) => stream = labels,
                LogRecord::Line { timestamp_ns, .. } => found.push((stream.clone(), timestamp_ns)),
            }
        }
        found
    }

    fn take(feed: &LineFeed) -> LiveLines {
        std::mem::take(&mut *feed.subscriber.inbox.lock())
    }

    #[test]
    fn who_asked_gets_the_lines_of_their_streams() {
        let hub = Arc::new(LineHub::default());
        let matcher = Matcher::new("app", MatchOp::Equal, "a").expect("valid");
        let feed = hub.subscribe(DEFAULT_TENANT, vec![matcher]).expect("the first");
        let mut batch = LogBatch::default();
        for (app, t_ns) in [("a", 1), ("b", 2), ("a", 3)] {
            batch.stream(&labels(app));
            batch.push(t_ns, b"x", &[]).expect("short");
        }
        hub.publish(TenantId(9), &batch);
        assert!(take(&feed).is_empty(), "another tenant's");
        hub.publish(DEFAULT_TENANT, &batch);
        let found = take(&feed);
        assert_eq!(lines(&found.batch), [(labels("a"), 1), (labels("a"), 3)]);
        drop(feed);
        assert_eq!((hub.subscriptions(), hub.delivered.load(Ordering::Relaxed)), (0, 2));
    }

    #[test]
    fn a_slow_reader_is_told_what_it_missed() {
        let hub = Arc::new(LineHub::default());
        let feed = hub.subscribe(DEFAULT_TENANT, Vec::new()).expect("the first");
        let line = vec![b'x'; 1 << 20];
        for t_ns in 0..6 {
            let mut batch = LogBatch::default();
            batch.stream(&labels("a"));
            batch.push(t_ns, &line, &[]).expect("short");
            hub.publish(DEFAULT_TENANT, &batch);
        }
        let found = take(&feed);
        assert_eq!((found.batch.lines(), found.missed), (4, 2));
        assert_eq!(found.dropped, [(labels("a"), 4), (labels("a"), 5)]);
    }
}
