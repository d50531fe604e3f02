//! Live lines: each line that was stored, when it is searchable, to those who asked for its stream.
//!
//! While nobody listens it costs one atomic load per batch. A subscriber that does not take what it asked for has a
//! bounded buffer; when it is full, lines that come are dropped, and it is told how many and which. In a cluster,
//! lines that other brokers take come in beside those of this one.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use model::{Labels, LogBatch, LogRecord, Matcher, NO_TENANT, Share, TenantId, TenantName};
use parking_lot::{Mutex, RwLock};
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::AbortHandle;

use crate::Broker;

/// Subscriptions over all connections.
const SUBSCRIPTIONS: Share = Share::of_one_alone(256);
/// Bytes one subscription may have waiting.
const MAX_WAITING_BYTES: u64 = 4 << 20;
/// Lines that were dropped and are named; further ones are counted.
const MAX_NAMED: usize = 100;
/// Notes that may wait; further ones are not told.
const MAX_NOTES: usize = 32;
/// How long the first word of other brokers is waited for.
const BEGIN_WAIT: Duration = Duration::from_secs(2);

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
    tenant: TenantName,
    /// The tenant's number; [`NO_TENANT`] until it has one.
    number: AtomicU32,
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
    /// What lines may lack, in words: which other brokers do not answer, and which answer again.
    pub notes: Vec<String>,
}

impl LiveLines {
    fn is_empty(&self) -> bool {
        self.batch.is_empty() && self.missed == 0 && self.notes.is_empty()
    }
}

/// A subscription; it ends when this is dropped.
pub struct LineFeed {
    hub: Arc<LineHub>,
    subscriber: Arc<Subscriber>,
    /// What brings the lines of other brokers, and what ends when all of them have begun.
    following: Option<(AbortHandle, mpsc::Receiver<()>)>,
    /// Becomes true when the broker ends what goes on for as long as somebody reads.
    stopping: Option<watch::Receiver<bool>>,
}

/// Where lines of other brokers are put for one subscription.
#[derive(Clone)]
pub(crate) struct LineInbox {
    hub: Arc<LineHub>,
    subscriber: Arc<Subscriber>,
}

impl LineInbox {
    /// Takes in what another broker tells.
    pub(crate) fn take_in(&self, lines: LiveLines) {
        let LiveLines { batch, missed, dropped, .. } = lines;
        if missed > 0 {
            let mut inbox = self.subscriber.inbox.lock();
            inbox.missed += missed;
            let room = MAX_NAMED.saturating_sub(inbox.dropped.len());
            inbox.dropped.extend(dropped.into_iter().take(room));
            drop(inbox);
            self.subscriber.wake.notify_one();
        }
        if !batch.is_empty() {
            self.hub.hand_over(&self.subscriber, &batch);
        }
    }

    /// Tells the subscriber what lacks.
    pub(crate) fn note(&self, words: String) {
        let mut inbox = self.subscriber.inbox.lock();
        if inbox.notes.len() < MAX_NOTES {
            inbox.notes.push(words);
        }
        drop(inbox);
        self.subscriber.wake.notify_one();
    }
}

impl LineFeed {
    /// Waits until nothing is missed from here on: until all other brokers of the cluster tell what they take, or
    /// do not answer. At most 2 s.
    pub async fn begun(&mut self) {
        if let Some((_, all_begun)) = &mut self.following {
            let _ = tokio::time::timeout(BEGIN_WAIT, all_begun.recv()).await;
        }
    }

    /// Waits until there is something to say, and takes it; `None` when the broker stops.
    pub async fn next(&mut self) -> Option<LiveLines> {
        let (subscriber, stopping) = (&self.subscriber, &mut self.stopping);
        let stopped = async {
            match stopping {
                Some(stopping) => _ = stopping.wait_for(|stopping| *stopping).await,
                None => std::future::pending().await,
            }
        };
        let lines = async {
            loop {
                let woken = subscriber.wake.notified();
                {
                    let mut inbox = subscriber.inbox.lock();
                    if !inbox.is_empty() {
                        return std::mem::take(&mut *inbox);
                    }
                }
                woken.await;
            }
        };
        tokio::select! {
            biased;
            () = stopped => None,
            lines = lines => Some(lines),
        }
    }
}

impl Drop for LineFeed {
    fn drop(&mut self) {
        if let Some((following, _)) = &self.following {
            following.abort();
        }
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
        tenant: TenantName,
        number: TenantId,
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
            number: AtomicU32::new(number.0),
            matchers,
            is_gone: AtomicBool::new(false),
            inbox: Mutex::default(),
            wake: Notify::new(),
        });
        all.push(Arc::clone(&subscriber));
        self.count.store(all.len(), Ordering::Release);
        Ok(LineFeed { hub: Arc::clone(self), subscriber, following: None, stopping: None })
    }

    /// A tenant has a number from now on: who waits for its lines gets them from the first one.
    pub(crate) fn number(&self, tenant: TenantName, number: TenantId) {
        for subscriber in self.all.read().iter().filter(|one| one.tenant == tenant) {
            subscriber.number.store(number.0, Ordering::Release);
        }
    }

    /// Hands lines that have become searchable to those who asked for them.
    pub(super) fn publish(&self, tenant: TenantId, batch: &LogBatch) {
        if self.count.load(Ordering::Acquire) == 0 {
            return;
        }
        let all = self.all.read();
        for subscriber in all.iter().filter(|one| one.number.load(Ordering::Acquire) == tenant.0) {
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
    pub(crate) fn subscriptions(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }
}

impl Broker {
    /// The tenant's lines, from now on, of streams that satisfy all matchers, when they have become searchable at
    /// any broker of the cluster. There need be no such tenant yet.
    ///
    /// # Errors
    /// Too many subscriptions.
    pub fn subscribe_lines(
        &self,
        tenant: TenantName,
        matchers: Vec<Matcher>,
    ) -> Result<LineFeed, String> {
        let mut feed = self.subscribe_lines_here(tenant, matchers)?;
        if let Some(clustered) = &self.inner.clustered {
            let (hub, subscriber) = (Arc::clone(&feed.hub), Arc::clone(&feed.subscriber));
            let matchers = &feed.subscriber.matchers;
            let inbox = LineInbox { hub, subscriber };
            feed.following = clustered.peers.bring_lines(tenant, matchers, inbox);
        }
        Ok(feed)
    }

    /// As [`Broker::subscribe_lines`], but what this broker takes alone.
    ///
    /// # Errors
    /// As there.
    pub fn subscribe_lines_here(
        &self,
        tenant: TenantName,
        matchers: Vec<Matcher>,
    ) -> Result<LineFeed, String> {
        let hub = self.inner.lines.heads.hub();
        let mut feed = hub.subscribe(tenant, self.tenant_id(tenant), matchers)?;
        feed.stopping = Some(self.stopping());
        // It may have got its number meanwhile.
        let number = self.tenant_id(tenant);
        if number != NO_TENANT {
            hub.number(tenant, number);
        }
        Ok(feed)
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
        let feed = hub.subscribe(TenantName::DEFAULT, DEFAULT_TENANT, vec![matcher]);
        let feed = feed.expect("the first");
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
        let feed = hub.subscribe(TenantName::DEFAULT, DEFAULT_TENANT, Vec::new());
        let feed = feed.expect("the first");
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

    #[test]
    fn the_first_line_of_a_new_tenant_is_told() {
        let hub = Arc::new(LineHub::default());
        let tenant = TenantName::parse("new").expect("a name");
        let feed = hub.subscribe(tenant, NO_TENANT, Vec::new()).expect("the first");
        let mut batch = LogBatch::default();
        batch.stream(&labels("a"));
        batch.push(7, b"x", &[]).expect("short");
        hub.publish(DEFAULT_TENANT, &batch);
        hub.number(TenantName::DEFAULT, DEFAULT_TENANT);
        assert!(take(&feed).is_empty(), "another tenant's");
        hub.number(tenant, TenantId(4));
        hub.publish(TenantId(4), &batch);
        assert_eq!(lines(&take(&feed).batch), [(labels("a"), 7)]);
    }

    #[test]
    fn what_another_broker_tells_is_bounded_as_well() {
        let hub = Arc::new(LineHub::default());
        let feed = hub.subscribe(TenantName::DEFAULT, DEFAULT_TENANT, Vec::new());
        let feed = feed.expect("the first");
        let inbox = LineInbox { hub, subscriber: Arc::clone(&feed.subscriber) };
        for t_ns in 0..6 {
            let mut batch = LogBatch::default();
            batch.stream(&labels("a"));
            batch.push(t_ns, &vec![b'x'; 1 << 20], &[]).expect("short");
            let dropped = vec![(labels("b"), t_ns)];
            inbox.take_in(LiveLines { batch, missed: 3, dropped, notes: Vec::new() });
        }
        (0..40).for_each(|n| inbox.note(format!("note {n}")));
        let found = take(&feed);
        assert_eq!((found.batch.lines(), found.missed, found.notes.len()), (4, 20, MAX_NOTES));
        assert_eq!(found.dropped.len(), 8);
    }
}
