//! Live subscriptions: every accepted sample, before it is durable, to those who asked for it.
//!
//! The tap costs one atomic load per batch while nobody listens. A subscriber that does not take
//! what it asked for has a bounded buffer; when it is full the oldest samples go and are counted.
//! In a cluster, samples that other brokers take come in beside those of this one.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};

use model::{Labels, Matcher, Share, TenantName};
use net::rpc::LiveEvents;
use parking_lot::{Mutex, RwLock, RwLockWriteGuard};
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
    subscriptions: RwLock<Subscriptions>,
    count: AtomicUsize,
    delivered: AtomicU64,
    missed: AtomicU64,
}

/// Who subscribes, and what is known of series. Whether anybody wants a sample is one look, however many
/// subscribe: each series is held against each selector once.
#[derive(Default)]
struct Subscriptions {
    /// In the order of their numbers.
    all: Vec<Arc<Subscriber>>,
    /// Of the last one that was added.
    newest: u64,
    /// By ordinal, of which there may be millions: up to which subscription the series was looked at, and
    /// [`IS_WANTED`]; 0 if it never was.
    looked_at: Vec<u64>,
    /// By ordinal: whose the series is. Those that are gone are among them until it is looked at again.
    wanted: HashMap<u32, Vec<Wanted>>,
}

/// Set of a series that is somebody's.
const IS_WANTED: u64 = 1 << 63;

/// A series of a subscriber's.
struct Wanted {
    subscriber: Arc<Subscriber>,
    /// The subscriber's own number of the series; [`ONE_TOO_MANY`] while it has as many as it may have.
    number: AtomicU32,
}

const ONE_TOO_MANY: u32 = u32::MAX;

/// What a subscription has asked for and has not taken yet.
pub(crate) struct Subscriber {
    /// They grow.
    number: u64,
    tenant: TenantName,
    selector: Vec<Matcher>,
    is_gone: AtomicBool,
    inbox: Mutex<Inbox>,
    wake: Notify,
}

/// What waits for the subscriber, and what it already knows.
#[derive(Default)]
struct Inbox {
    /// Series with a number that are here; not counted where `by_labels` does.
    known: usize,
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
        let mut subscriptions = self.subscriptions.write();
        let all = &subscriptions.all;
        let own = all.iter().filter(|one| one.tenant == tenant).count();
        SUBSCRIPTIONS.admit(own, 1, all.len() - own).map_err(|limit| {
            format!(
                "the tenant {tenant} has {own} live subscriptions already and the limit is {limit} \
                 ({}); close some",
                SUBSCRIPTIONS.rule()
            )
        })?;
        subscriptions.newest += 1;
        let subscriber = Arc::new(Subscriber {
            number: subscriptions.newest,
            tenant,
            selector,
            is_gone: AtomicBool::new(false),
            inbox: Mutex::default(),
            wake: Notify::new(),
        });
        subscriptions.all.push(Arc::clone(&subscriber));
        self.count.store(subscriptions.all.len(), Ordering::Release);
        Ok(Feed { hub: Arc::clone(self), subscriber, following: None })
    }

    /// Whether anybody listens.
    #[inline]
    pub(crate) fn is_idle(&self) -> bool {
        self.count.load(Ordering::Acquire) == 0
    }

    /// Hands a tenant's rows to whoever asked for them. `labels_of` is called for series that are new to
    /// a subscriber.
    pub(crate) fn publish<'a>(
        &self,
        tenant: TenantName,
        rows: impl Iterator<Item = (u32, i64, f64)> + Clone + 'a,
        labels_of: impl Fn(u32) -> Option<Labels>,
    ) {
        let mut subscriptions = self.subscriptions.read();
        // Fast path: each series was held against each selector before.
        if rows.clone().any(|(ordinal, ..)| !subscriptions.is_known(ordinal)) {
            drop(subscriptions);
            let mut changing = self.subscriptions.write();
            for (ordinal, ..) in rows.clone() {
                changing.look_at(tenant, ordinal, &labels_of);
            }
            subscriptions = RwLockWriteGuard::downgrade(changing);
        }
        let missed = subscriptions.deliver(tenant, rows, labels_of);
        self.missed.fetch_add(missed, Ordering::Relaxed);
    }

    /// Forgets ordinals that will be given to other series.
    pub(crate) fn forget(&self, ordinals: &[u32]) {
        // Fast path: nobody listens.
        if self.is_idle() {
            return;
        }
        let mut subscriptions = self.subscriptions.write();
        for &ordinal in ordinals {
            if let Some(known) = subscriptions.looked_at.get_mut(ordinal as usize) {
                *known = 0;
            }
            for wanted in subscriptions.wanted.remove(&ordinal).into_iter().flatten() {
                if wanted.number.into_inner() != ONE_TOO_MANY {
                    let mut inbox = wanted.subscriber.inbox.lock();
                    inbox.known = inbox.known.saturating_sub(1);
                }
            }
        }
    }

    fn remove(&self, subscriber: &Arc<Subscriber>) {
        let mut subscriptions = self.subscriptions.write();
        subscriptions.all.retain(|other| !Arc::ptr_eq(other, subscriber));
        subscriber.is_gone.store(true, Ordering::Relaxed);
        *subscriber.inbox.lock() = Inbox::default();
        if subscriptions.all.is_empty() {
            subscriptions.looked_at = Vec::new();
            subscriptions.wanted = HashMap::new();
        }
        self.count.store(subscriptions.all.len(), Ordering::Release);
    }

    /// Subscriptions now, samples delivered, samples missed by slow readers.
    pub(crate) fn counts(&self) -> (usize, u64, u64) {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        (self.count.load(Ordering::Relaxed), read(&self.delivered), read(&self.missed))
    }
}

impl Subscriptions {
    fn looked_at(&self, ordinal: u32) -> u64 {
        self.looked_at.get(ordinal as usize).copied().unwrap_or(0)
    }

    /// Whether it is known of each subscriber whether the series is its.
    fn is_known(&self, ordinal: u32) -> bool {
        self.looked_at(ordinal) & !IS_WANTED == self.newest
    }

    /// Holds a series against the selectors that it was not held against before.
    fn look_at(
        &mut self,
        tenant: TenantName,
        ordinal: u32,
        labels_of: &impl Fn(u32) -> Option<Labels>,
    ) {
        if self.is_known(ordinal) {
            return;
        }
        let through = self.looked_at(ordinal) & !IS_WANTED;
        let mut wanted = self.wanted.remove(&ordinal).unwrap_or_default();
        wanted.retain(|wanted| !wanted.subscriber.is_gone.load(Ordering::Relaxed));
        let first = self.all.partition_point(|one| one.number <= through);
        let new = self.all[first..].iter().filter(|one| one.tenant == tenant);
        if let Some(labels) = labels_of(ordinal) {
            for subscriber in new.filter(|one| one.wants(&labels)) {
                let number = subscriber.inbox.lock().number_of(&labels);
                let number = AtomicU32::new(number.unwrap_or(ONE_TOO_MANY));
                wanted.push(Wanted { subscriber: Arc::clone(subscriber), number });
            }
        }
        let place = ordinal as usize;
        if self.looked_at.len() <= place {
            self.looked_at.resize(place + 1, 0);
        }
        self.looked_at[place] = self.newest;
        if !wanted.is_empty() {
            self.looked_at[place] |= IS_WANTED;
            self.wanted.insert(ordinal, wanted);
        }
    }

    /// Yields how many samples somebody missed.
    fn deliver(
        &self,
        tenant: TenantName,
        rows: impl Iterator<Item = (u32, i64, f64)>,
        labels_of: impl Fn(u32) -> Option<Labels>,
    ) -> u64 {
        let allowed = allowed(self.all.len());
        let mut missed = 0;
        // Woken when all rows are there: they shall go out together.
        let mut to_wake: Vec<&Subscriber> = Vec::new();
        for (ordinal, t_ms, value) in rows {
            if self.looked_at(ordinal) & IS_WANTED == 0 {
                continue;
            }
            for wanted in self.wanted.get(&ordinal).into_iter().flatten() {
                let subscriber = &*wanted.subscriber;
                if subscriber.tenant != tenant || subscriber.is_gone.load(Ordering::Relaxed) {
                    continue;
                }
                let mut inbox = subscriber.inbox.lock();
                let mut number = wanted.number.load(Ordering::Relaxed);
                if number == ONE_TOO_MANY && !inbox.is_full() {
                    let labels = labels_of(ordinal);
                    let given = labels.and_then(|labels| inbox.number_of(&labels));
                    number = given.unwrap_or(ONE_TOO_MANY);
                    wanted.number.store(number, Ordering::Relaxed);
                }
                if number == ONE_TOO_MANY {
                    inbox.missed += 1;
                    missed += 1;
                    continue;
                }
                if inbox.samples.is_empty() {
                    to_wake.push(subscriber);
                }
                missed += inbox.push(allowed, (number, t_ms, value));
            }
        }
        for subscriber in to_wake {
            subscriber.wake.notify_one();
        }
        missed
    }
}

/// Samples each of so many subscriptions may have waiting.
fn allowed(subscriptions: usize) -> usize {
    (MAX_WAITING_OVER_ALL / subscriptions.max(1)).clamp(MIN_WAITING, MAX_WAITING)
}

impl Subscriber {
    fn wants(&self, labels: &Labels) -> bool {
        self.selector.iter().all(|m| m.matches(labels.get(&m.name).unwrap_or_default()))
    }

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
            if let Some(own) = inbox.number_of(&labels) {
                numbers.insert(number, own);
            }
        }
        inbox.missed += events.missed;
        let times = events.timestamps_ms.into_iter().zip(events.values);
        for (number, (t_ms, value)) in events.series_numbers.into_iter().zip(times) {
            match numbers.get(&number) {
                Some(own) => _ = inbox.push(allowed, (*own, t_ms, value)),
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
    /// Yields how many samples had to go for it.
    fn push(&mut self, allowed: usize, sample: (u32, i64, f64)) -> u64 {
        let missed_before = self.missed;
        while self.samples.len() >= allowed {
            self.samples.pop_front();
            self.missed += 1;
        }
        self.samples.push_back(sample);
        self.missed - missed_before
    }

    /// Whether it has as many series as it may have.
    fn is_full(&self) -> bool {
        let known = self.by_labels.as_ref().map_or(self.known, HashMap::len);
        known >= MAX_SERIES || self.series.len() >= MAX_SERIES
    }

    /// The number of a series of the subscriber's, an old one or a new one; `None` if it has as many as
    /// it may have.
    fn number_of(&mut self, labels: &Labels) -> Option<u32> {
        if let Some(number) = self.by_labels.as_ref().and_then(|all| all.get(labels)) {
            return Some(*number);
        }
        if self.is_full() {
            return None;
        }
        let number = self.next_number;
        self.next_number += 1;
        self.known += 1;
        if let Some(by_labels) = &mut self.by_labels {
            by_labels.insert(labels.clone(), number);
        }
        self.series.push((number, labels.clone()));
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
        self.hub.remove(&self.subscriber);
    }
}

#[cfg(test)]
mod tests;
