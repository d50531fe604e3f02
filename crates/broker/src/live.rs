//! Live subscriptions: every accepted sample, before it is durable, to those who asked for it.
//!
//! The tap costs one atomic load per batch while nobody listens. A subscriber that does not take
//! what it asked for has a bounded buffer; when it is full the oldest samples go and are counted.
//! In a cluster, samples that other brokers take come in beside those of this one.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use model::{Labels, Matcher, Share, TenantName};
use net::rpc::LiveEvents;
use parking_lot::{Mutex, RwLock};
use tokio::sync::Notify;
use tokio::task::AbortHandle;

/// Subscriptions over all connections.
const SUBSCRIPTIONS: Share = Share::of_one_alone(1_024);
/// Samples one subscription may have waiting while there are few subscriptions: 1.5 MiB.
const MAX_WAITING: usize = 1 << 16;
/// Samples all subscriptions together may have waiting; they share it evenly.
const MAX_WAITING_OVER_ALL: usize = 1 << 18;
/// What each subscription may have waiting however many there are: a pass of the host collectors
/// and a usual remote write request must fit.
const MIN_WAITING: usize = 1 << 12;
/// Series one subscription may have. Samples of further ones are counted as missed: their labels
/// would have to be kept for a reader that does not read.
const MAX_SERIES: usize = 1 << 16;
/// Samples handed over at once, so that what is on its way to a slow reader is bounded too.
const MAX_TAKEN: usize = 1 << 11;

/// All live subscriptions.
#[derive(Default)]
pub(crate) struct LiveHub {
    subscribers: RwLock<Vec<Arc<Subscriber>>>,
    count: AtomicUsize,
    delivered: AtomicU64,
    missed: AtomicU64,
}

/// What a subscription has asked for and has not taken yet.
pub(crate) struct Subscriber {
    tenant: TenantName,
    selector: Vec<Matcher>,
    inbox: Mutex<Inbox>,
    wake: Notify,
}

/// What waits for the subscriber, and what it already knows.
#[derive(Default)]
struct Inbox {
    /// The subscriber's own number of each series that is its.
    numbers: HashMap<u32, u32>,
    /// One bit per ordinal: met, and not the subscriber's. There may be millions of them.
    others: Vec<u64>,
    next_number: u32,
    /// Numbers by labels, where other brokers may have the same series: it keeps its number.
    by_labels: Option<HashMap<Labels, u32>>,
    series: Vec<(u32, Labels)>,
    samples: VecDeque<(u32, i64, f64)>,
    missed: u64,
}

/// What came in since it was last taken.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LiveBatch {
    /// Series seen for the first time: number and labels.
    pub series: Vec<(u32, Labels)>,
    /// Samples: number of the series, time in milliseconds, value.
    pub samples: Vec<(u32, i64, f64)>,
    /// Samples dropped because the reader was too slow.
    pub missed: u64,
}

impl LiveHub {
    /// Adds a subscription; it ends when the feed is dropped.
    ///
    /// # Errors
    /// The tenant has too many already.
    pub(crate) fn subscribe(
        self: &Arc<Self>,
        tenant: TenantName,
        selector: Vec<Matcher>,
    ) -> Result<Feed, String> {
        let subscriber =
            Arc::new(Subscriber { tenant, selector, inbox: Mutex::default(), wake: Notify::new() });
        let mut subscribers = self.subscribers.write();
        let own = subscribers.iter().filter(|one| one.tenant == tenant).count();
        SUBSCRIPTIONS.admit(own, 1, subscribers.len() - own).map_err(|limit| {
            format!(
                "the tenant {tenant} has {own} live subscriptions already and the limit is {limit} \
                 ({}); close some",
                SUBSCRIPTIONS.rule()
            )
        })?;
        subscribers.push(Arc::clone(&subscriber));
        self.count.store(subscribers.len(), Ordering::Release);
        Ok(Feed { hub: Arc::clone(self), subscriber, following: None })
    }

    /// Whether anybody listens.
    #[inline]
    pub(crate) fn is_idle(&self) -> bool {
        self.count.load(Ordering::Acquire) == 0
    }

    /// Hands a tenant's rows to whoever asked for them. `labels_of` is called once per subscriber and
    /// series.
    pub(crate) fn publish<'a>(
        &self,
        tenant: TenantName,
        rows: impl Iterator<Item = (u32, i64, f64)> + Clone + 'a,
        labels_of: impl Fn(u32) -> Option<Labels>,
    ) {
        let subscribers = self.subscribers.read();
        let allowed = allowed(subscribers.len());
        for subscriber in subscribers.iter().filter(|one| one.tenant == tenant) {
            let mut inbox = subscriber.inbox.lock();
            let missed_before = inbox.missed;
            for (ordinal, t_ms, value) in rows.clone() {
                let met = match inbox.numbers.get(&ordinal) {
                    Some(number) => Met::Wanted(*number),
                    None if inbox.is_other(ordinal) => Met::Other,
                    None => inbox.meet(ordinal, &subscriber.selector, &labels_of),
                };
                if met == Met::OneTooMany {
                    inbox.missed += 1;
                }
                if let Met::Wanted(number) = met {
                    inbox.push(allowed, (number, t_ms, value));
                }
            }
            self.missed.fetch_add(inbox.missed - missed_before, Ordering::Relaxed);
            if !inbox.samples.is_empty() {
                subscriber.wake.notify_one();
            }
        }
    }

    /// Forgets ordinals that will be given to other series.
    pub(crate) fn forget(&self, ordinals: &[u32]) {
        for subscriber in self.subscribers.read().iter() {
            let mut inbox = subscriber.inbox.lock();
            for &ordinal in ordinals {
                inbox.numbers.remove(&ordinal);
                if let Some(word) = inbox.others.get_mut(ordinal as usize / 64) {
                    *word &= !(1 << (ordinal % 64));
                }
            }
        }
    }

    /// Subscriptions now, samples delivered, samples missed by slow readers.
    pub(crate) fn counts(&self) -> (usize, u64, u64) {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        (self.count.load(Ordering::Relaxed), read(&self.delivered), read(&self.missed))
    }
}

/// Samples each of so many subscriptions may have waiting.
fn allowed(subscriptions: usize) -> usize {
    (MAX_WAITING_OVER_ALL / subscriptions.max(1)).clamp(MIN_WAITING, MAX_WAITING)
}

impl Subscriber {
    /// Takes in what another broker tells, in the numbers that it gives: `numbers` are those of its
    /// stream, with the subscriber's own. Whoever breaks the form is not followed further.
    pub(crate) fn take_in(
        &self,
        hub: &LiveHub,
        numbers: &mut HashMap<u32, u32>,
        events: LiveEvents,
    ) -> Result<(), &'static str> {
        let columns = [events.timestamps_ms.len(), events.values.len()];
        if columns != [events.series_numbers.len(); 2] {
            return Err("live columns of different lengths");
        }
        let mut new = Vec::with_capacity(events.series.len());
        for series in &events.series {
            let labels =
                Labels::from_packed(&series.labels).map_err(|_| "labels it cannot have")?;
            new.push((series.number, labels));
        }
        let allowed = allowed(hub.count.load(Ordering::Acquire));
        let mut inbox = self.inbox.lock();
        let missed_before = inbox.missed;
        for (number, labels) in new {
            if let Some(own) = inbox.number_of(labels) {
                numbers.insert(number, own);
            }
        }
        inbox.missed += events.missed;
        let times = events.timestamps_ms.into_iter().zip(events.values);
        for (number, (t_ms, value)) in events.series_numbers.into_iter().zip(times) {
            match numbers.get(&number) {
                Some(own) => inbox.push(allowed, (*own, t_ms, value)),
                None => inbox.missed += 1,
            }
        }
        hub.missed.fetch_add(inbox.missed - missed_before, Ordering::Relaxed);
        drop(inbox);
        self.wake.notify_one();
        Ok(())
    }

    /// Some samples did not come, nobody knows how many: readers look them up.
    pub(crate) fn miss(&self) {
        self.inbox.lock().missed += 1;
        self.wake.notify_one();
    }
}

impl Inbox {
    fn push(&mut self, allowed: usize, sample: (u32, i64, f64)) {
        while self.samples.len() >= allowed {
            self.samples.pop_front();
            self.missed += 1;
        }
        self.samples.push_back(sample);
    }

    /// The number of a series of the subscriber's, an old one or a new one; `None` if it has as many as
    /// it may have.
    fn number_of(&mut self, labels: Labels) -> Option<u32> {
        let known = self.by_labels.as_ref().map_or(self.numbers.len(), HashMap::len);
        if let Some(number) = self.by_labels.as_ref().and_then(|all| all.get(&labels)) {
            return Some(*number);
        }
        if known >= MAX_SERIES || self.series.len() >= MAX_SERIES {
            return None;
        }
        let number = self.next_number;
        self.next_number += 1;
        if let Some(by_labels) = &mut self.by_labels {
            by_labels.insert(labels.clone(), number);
        }
        self.series.push((number, labels));
        Some(number)
    }

    /// The oldest of what waits, if there is anything.
    fn take(&mut self) -> Option<LiveBatch> {
        if self.samples.is_empty() && self.missed == 0 {
            return None;
        }
        let count = self.samples.len().min(MAX_TAKEN);
        let samples = self.samples.drain(..count).collect();
        if self.samples.is_empty() {
            // A reader that was slow once must not keep what it needed then.
            self.samples.shrink_to(MIN_WAITING);
        }
        Some(LiveBatch {
            series: std::mem::take(&mut self.series),
            samples,
            missed: std::mem::take(&mut self.missed),
        })
    }

    fn is_other(&self, ordinal: u32) -> bool {
        self.others.get(ordinal as usize / 64).is_some_and(|word| word >> (ordinal % 64) & 1 == 1)
    }

    /// Decides once whether a series is asked for.
    fn meet(
        &mut self,
        ordinal: u32,
        selector: &[Matcher],
        labels_of: &impl Fn(u32) -> Option<Labels>,
    ) -> Met {
        let Some(labels) = labels_of(ordinal) else { return Met::Other };
        if !selector.iter().all(|m| m.matches(labels.get(&m.name).unwrap_or_default())) {
            let word = ordinal as usize / 64;
            if self.others.len() <= word {
                self.others.resize(word + 1, 0);
            }
            self.others[word] |= 1 << (ordinal % 64);
            return Met::Other;
        }
        let Some(number) = self.number_of(labels) else { return Met::OneTooMany };
        self.numbers.insert(ordinal, number);
        Met::Wanted(number)
    }
}

/// What a series is to a subscriber.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Met {
    /// Its own, under this number.
    Wanted(u32),
    /// Its own, but it has as many as it may have.
    OneTooMany,
    /// Not its own.
    Other,
}

/// The reading end of one subscription.
pub struct Feed {
    hub: Arc<LiveHub>,
    subscriber: Arc<Subscriber>,
    /// What brings the samples of other brokers.
    following: Option<AbortHandle>,
}

impl Feed {
    /// Lets what `follow` makes bring samples of other brokers for as long as there is this feed.
    pub(crate) fn follow(
        &mut self,
        follow: impl FnOnce(Arc<LiveHub>, Arc<Subscriber>) -> AbortHandle,
    ) {
        self.subscriber.inbox.lock().by_labels = Some(HashMap::new());
        self.following = Some(follow(Arc::clone(&self.hub), Arc::clone(&self.subscriber)));
    }

    /// Waits until something came in and takes the oldest of it, at most 2,048 samples.
    pub async fn next(&mut self) -> LiveBatch {
        loop {
            let batch = self.subscriber.inbox.lock().take();
            if let Some(batch) = batch {
                self.hub.delivered.fetch_add(batch.samples.len() as u64, Ordering::Relaxed);
                return batch;
            }
            self.subscriber.wake.notified().await;
        }
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        if let Some(following) = &self.following {
            following.abort();
        }
        let mut subscribers = self.hub.subscribers.write();
        subscribers.retain(|other| !Arc::ptr_eq(other, &self.subscriber));
        self.hub.count.store(subscribers.len(), Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::MatchOp;

    fn labels(job: &str) -> Labels {
        Labels::from_pairs([("__name__", "up"), ("job", job)]).expect("valid labels")
    }

    fn labels_of(ordinal: u32) -> Option<Labels> {
        Some(labels(if ordinal == 0 { "a" } else { "b" }))
    }

    fn hub_with(job: &str) -> (Arc<LiveHub>, Feed) {
        let hub = Arc::new(LiveHub::default());
        let matcher = Matcher::new("job", MatchOp::Equal, job).expect("no regex");
        let feed = hub.subscribe(TenantName::DEFAULT, vec![matcher]).expect("below the limit");
        (hub, feed)
    }

    #[tokio::test]
    async fn only_what_was_asked_for_arrives() {
        let (hub, mut feed) = hub_with("b");
        hub.publish(
            TenantName::DEFAULT,
            [(0, 1, 1.0), (1, 1, 2.0), (1, 2, 3.0)].into_iter(),
            labels_of,
        );
        hub.publish(TenantName::parse("t1").expect("a name"), [(1, 9, 9.0)].into_iter(), labels_of);
        let batch = feed.next().await;
        assert_eq!(batch.series, [(0, labels("b"))]);
        assert_eq!(batch.samples, [(0, 1, 2.0), (0, 2, 3.0)]);
        hub.publish(TenantName::DEFAULT, [(1, 3, 4.0)].into_iter(), labels_of);
        let batch = feed.next().await;
        assert!(batch.series.is_empty(), "a series is told once");
        assert_eq!(batch.samples, [(0, 3, 4.0)]);
        drop(feed);
        assert!(hub.is_idle());
    }

    #[tokio::test]
    async fn a_slow_reader_is_told_what_it_missed() {
        let (hub, mut feed) = hub_with("a");
        for t_ms in 0..(MAX_WAITING as i64 + 10) {
            hub.publish(TenantName::DEFAULT, [(0, t_ms, 0.0)].into_iter(), labels_of);
        }
        let batch = feed.next().await;
        assert_eq!(batch.missed, 10);
        assert_eq!(batch.samples.len(), MAX_TAKEN);
        assert_eq!(batch.samples[0].1, 10, "the oldest go first");
        let mut taken = batch.samples.len();
        while taken < MAX_WAITING {
            let batch = feed.next().await;
            assert_eq!(batch.missed, 0, "what was missed is told once");
            taken += batch.samples.len();
        }
        assert_eq!(taken, MAX_WAITING);
        assert_eq!(hub.counts().2, 10);
    }

    #[test]
    fn one_tenant_leaves_subscriptions_to_others() {
        let hub = Arc::new(LiveHub::default());
        let fill = |name: &str| {
            let tenant = TenantName::parse(name).expect("a name");
            let feeds: Vec<Feed> =
                std::iter::from_fn(|| hub.subscribe(tenant, Vec::new()).ok()).collect();
            (feeds, hub.subscribe(tenant, Vec::new()).err().expect("full"))
        };
        let (first, refusal) = fill("first");
        assert_eq!(first.len(), 1_024);
        assert!(
            refusal.contains("tenant first has 1024") && refusal.contains("close some"),
            "{refusal}"
        );
        let (second, refusal) = fill("second");
        assert_eq!(second.len(), 341);
        assert!(refusal.contains("the limit is 341"), "{refusal}");
        drop(first);
        let (third, _) = fill("third");
        assert!(third.len() > 700, "{}", third.len());
    }

    #[tokio::test]
    async fn many_slow_readers_share_what_one_could_have() {
        let (hub, mut feed) = hub_with("a");
        let others: Vec<Feed> = (0..99)
            .map(|_| hub.subscribe(TenantName::DEFAULT, Vec::new()).expect("below the limit"))
            .collect();
        hub.publish(
            TenantName::DEFAULT,
            (0..MAX_WAITING as i64).map(|t_ms| (0, t_ms, 0.0)),
            labels_of,
        );
        assert_eq!(feed.next().await.missed, (MAX_WAITING - MIN_WAITING) as u64);
        drop(others);
    }

    #[tokio::test]
    async fn a_reused_ordinal_is_a_new_series() {
        let (hub, mut feed) = hub_with("a");
        hub.publish(TenantName::DEFAULT, [(0, 1, 1.0)].into_iter(), labels_of);
        feed.next().await;
        hub.forget(&[0]);
        hub.publish(TenantName::DEFAULT, [(0, 2, 1.0)].into_iter(), |_| Some(labels("b")));
        hub.publish(TenantName::DEFAULT, [(5, 3, 1.0)].into_iter(), |_| Some(labels("a")));
        let batch = feed.next().await;
        assert_eq!(batch.samples, [(1, 3, 1.0)]);
    }

    #[tokio::test]
    async fn a_subscription_has_a_bounded_number_of_series() {
        let hub = Arc::new(LiveHub::default());
        let mut feed = hub.subscribe(TenantName::DEFAULT, Vec::new()).expect("below the limit");
        let rows = (0..MAX_SERIES as u32 + 5).map(|ordinal| (ordinal, 1, 0.0));
        hub.publish(TenantName::DEFAULT, rows, |ordinal| Some(labels(&ordinal.to_string())));
        let batch = feed.next().await;
        assert_eq!((batch.series.len(), batch.missed), (MAX_SERIES, 5));
        // A series that is forgotten makes room for another.
        hub.forget(&[7]);
        hub.publish(
            TenantName::DEFAULT,
            [(9, 2, 0.0), (MAX_SERIES as u32, 2, 0.0)].into_iter(),
            labels_of,
        );
        let mut last = feed.next().await;
        while last.samples.last() != Some(&(MAX_SERIES as u32, 2, 0.0)) {
            last = feed.next().await;
        }
        assert_eq!(last.missed, 0);
    }
}
