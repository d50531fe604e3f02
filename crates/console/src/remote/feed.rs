//! Live samples of a broker, also when it was away in between.
//!
//! Each feed has a task that always reads: a stream that nobody reads would hold up the queries of
//! everybody, which share its connection. What the user does not take is dropped and counted.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use model::{Labels, TenantName};
use net::rpc::{self, LiveEvents, Selector, SubscribeRequest};
use parking_lot::Mutex;
use promql::SourceError;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tonic::Streaming;

use super::budget::Held;
use super::fault::{Fault, garbled};
use super::{Inner, labels_of};
use crate::data::{LiveFeed, NextEvents};

/// Samples that may wait for the user; then the oldest go.
const MAX_WAITING: usize = 1 << 14;
/// Series one feed may have, as at the broker.
const MAX_SERIES: usize = 1 << 16;
/// What a series of a feed takes besides its labels.
const SERIES_BYTES: usize = 100;
/// Samples handed over at once.
const MAX_TAKEN: usize = 1 << 11;
/// Between two tries to subscribe again.
const PAUSE: Duration = Duration::from_millis(250);

/// One subscription.
pub(super) struct Feed {
    inner: Arc<Inner>,
    inbox: Arc<Inbox>,
    reading: JoinHandle<()>,
}

#[derive(Default)]
struct Inbox {
    waiting: Mutex<Waiting>,
    wake: Notify,
}

#[derive(Default)]
struct Waiting {
    series: Vec<(u32, Labels)>,
    samples: VecDeque<(u32, i64, f64)>,
    missed: u64,
    fault: Option<SourceError>,
    is_over: bool,
}

/// The user's numbers of series: they stay the same when the broker's begin anew.
struct Numbers {
    own: HashMap<Labels, u32>,
    /// The next new series' own.
    next: u32,
    by_broker: HashMap<u32, u32>,
    /// For the labels in `own`.
    held: Held,
}

impl Feed {
    pub(super) fn open(inner: Arc<Inner>, tenant: TenantName, selector: Selector) -> Feed {
        let inbox = Arc::<Inbox>::default();
        inner.counters.subscriptions.fetch_add(1, Ordering::Relaxed);
        let request = SubscribeRequest { tenant: tenant.to_string(), selector: Some(selector) };
        let reading = tokio::spawn(read(Arc::clone(&inner), request, Arc::clone(&inbox)));
        Feed { inner, inbox, reading }
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        self.reading.abort();
        self.inner.counters.subscriptions.fetch_sub(1, Ordering::Relaxed);
    }
}

impl LiveFeed for Feed {
    fn next(&mut self) -> NextEvents<'_> {
        Box::pin(async {
            loop {
                if let Some(next) = self.inbox.waiting.lock().take() {
                    return next;
                }
                self.inbox.wake.notified().await;
            }
        })
    }
}

impl Waiting {
    /// What there is to say; `Some(None)` at the end.
    fn take(&mut self) -> Option<Option<Result<crate::LiveEvents, SourceError>>> {
        if !self.samples.is_empty() || self.missed > 0 {
            let count = self.samples.len().min(MAX_TAKEN);
            return Some(Some(Ok(crate::LiveEvents {
                series: std::mem::take(&mut self.series),
                samples: self.samples.drain(..count).collect(),
                missed: std::mem::take(&mut self.missed),
            })));
        }
        if let Some(fault) = self.fault.take() {
            return Some(Some(Err(fault)));
        }
        self.is_over.then_some(None)
    }
}

/// Reads until the feed is dropped, or the broker says that there can be none.
async fn read(inner: Arc<Inner>, request: SubscribeRequest, inbox: Arc<Inbox>) {
    let mut numbers = Numbers::new(inner.budget.query(inner.governor.account()).hold());
    let mut was_open = false;
    // One outage is told once.
    let mut is_told = false;
    loop {
        let opened = subscribe(&inner, &request).await;
        let ended = match opened {
            Err(error) => error,
            Ok(stream) => {
                if was_open {
                    inner.counters.restarts.fetch_add(1, Ordering::Relaxed);
                    // Nobody knows how many; that there were some makes readers look them up.
                    inbox.put(|waiting| waiting.missed += 1);
                }
                (was_open, is_told) = (true, false);
                follow(&inner, stream, &inbox, &mut numbers).await
            }
        };
        let is_final = !matches!(ended, SourceError::Unavailable(_));
        if is_final || !is_told {
            is_told = true;
            inbox.put(|waiting| {
                waiting.fault = Some(ended);
                waiting.is_over = is_final;
            });
        }
        if is_final {
            return;
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn subscribe(
    inner: &Inner,
    request: &SubscribeRequest,
) -> Result<Streaming<LiveEvents>, SourceError> {
    inner
        .link
        .call(|mut client| {
            let request = request.clone();
            async move {
                let answer = client.subscribe(request).await;
                answer.map(tonic::Response::into_inner).map_err(|status| Fault::of(&status))
            }
        })
        .await
}

/// Takes what comes until the stream ends. Yields why it did.
async fn follow(
    inner: &Inner,
    mut stream: Streaming<LiveEvents>,
    inbox: &Inbox,
    numbers: &mut Numbers,
) -> SourceError {
    numbers.by_broker.clear();
    loop {
        let events = match stream.message().await {
            Ok(Some(events)) => events,
            Ok(None) => return SourceError::Unavailable("the broker ended the stream".to_owned()),
            Err(status) => {
                return match Fault::of(&status) {
                    Fault::Final(error) => error,
                    Fault::Away(words) => SourceError::Unavailable(format!(
                        "live samples stop: the broker does not answer ({words}); they go on when \
                         it does"
                    )),
                };
            }
        };
        match numbers.translate(events) {
            Ok((series, samples, missed)) => inbox.put(|waiting| {
                waiting.series.extend(series);
                waiting.missed += missed;
                waiting.samples.extend(samples);
                let surplus = waiting.samples.len().saturating_sub(MAX_WAITING);
                waiting.samples.drain(..surplus);
                waiting.missed += surplus as u64;
                inner.counters.missed.fetch_add(surplus as u64, Ordering::Relaxed);
            }),
            Err(error) => return error,
        }
    }
}

impl Inbox {
    fn put(&self, change: impl FnOnce(&mut Waiting)) {
        change(&mut self.waiting.lock());
        self.wake.notify_one();
    }
}

/// New series, samples, and how many are missed.
type Translated = (Vec<(u32, Labels)>, Vec<(u32, i64, f64)>, u64);

impl Numbers {
    fn new(held: Held) -> Self {
        Numbers { own: HashMap::new(), next: 0, by_broker: HashMap::new(), held }
    }

    /// A number for a series that has none; `None` if there are too many.
    ///
    /// # Errors
    /// There is no room for its labels.
    fn add(&mut self, labels: &Labels) -> Result<Option<u32>, SourceError> {
        if self.own.len() >= MAX_SERIES && !self.forget() {
            return Ok(None);
        }
        if let Err(full) = self.held.grow(bytes_of(labels)) {
            if !self.forget() {
                return Err(full);
            }
            self.held.grow(0)?;
        }
        let number = self.next;
        self.next = self.next.wrapping_add(1);
        self.own.insert(labels.clone(), number);
        Ok(Some(number))
    }

    /// Drops series that the broker has not told again since its numbers began anew; whether there
    /// were any. Those that come back do so under another number.
    fn forget(&mut self) -> bool {
        if self.own.len() <= self.by_broker.len() {
            return false;
        }
        let told: HashSet<u32> = self.by_broker.values().copied().collect();
        let mut freed = 0;
        let before = self.own.len();
        self.own.retain(|labels, number| {
            let stays = told.contains(number);
            freed += if stays { 0 } else { bytes_of(labels) };
            stays
        });
        self.held.shrink(freed);
        self.own.len() < before
    }

    fn translate(&mut self, events: LiveEvents) -> Result<Translated, SourceError> {
        let mut new = Vec::new();
        for rpc::LiveSeries { number, labels } in events.series {
            let labels = labels_of(&labels)?;
            let own = match self.own.get(&labels) {
                Some(own) => *own,
                None => {
                    let Some(own) = self.add(&labels)? else { continue };
                    new.push((own, labels));
                    own
                }
            };
            self.by_broker.insert(number, own);
        }
        let columns = [events.timestamps_ms.len(), events.values.len()];
        if columns != [events.series_numbers.len(); 2] {
            return Err(garbled("live columns of different lengths"));
        }
        let mut samples = Vec::with_capacity(events.values.len());
        let mut missed = events.missed;
        let times = events.timestamps_ms.into_iter().zip(events.values);
        for (number, (t_ms, value)) in events.series_numbers.into_iter().zip(times) {
            match self.by_broker.get(&number) {
                Some(own) => samples.push((*own, t_ms, value)),
                None => missed += 1,
            }
        }
        Ok((new, samples, missed))
    }
}

fn bytes_of(labels: &Labels) -> usize {
    SERIES_BYTES + labels.as_packed().len()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::super::budget::Budget;
    use super::super::counters::Counters;
    use super::*;

    /// Series as a broker tells them, under numbers from `first` on, each with a sample.
    fn told(first: u32, names: &[&str]) -> LiveEvents {
        let series = |(number, name): (u32, &&str)| {
            let labels = Labels::from_pairs([("__name__", *name)]).expect("valid");
            rpc::LiveSeries { number, labels: Bytes::copy_from_slice(labels.as_packed()) }
        };
        let count = names.len();
        LiveEvents {
            series: (first..).zip(names).map(series).collect(),
            series_numbers: (first..).take(count).collect(),
            timestamps_ms: vec![1; count],
            values: vec![1.0; count],
            ..LiveEvents::default()
        }
    }

    fn own_numbers(numbers: &mut Numbers, events: LiveEvents) -> Vec<u32> {
        let (_, samples, missed) = numbers.translate(events).expect("room");
        assert_eq!(missed, 0);
        samples.iter().map(|(own, _, _)| *own).collect()
    }

    #[test]
    fn labels_are_held_and_given_back_and_forgotten_when_room_is_needed() {
        let counters = Arc::<Counters>::default();
        let held = || counters.held_bytes.load(Ordering::Relaxed);
        let budget = Arc::new(Budget::new(3 * (SERIES_BYTES + 30), Arc::clone(&counters)));
        let mut numbers =
            Numbers::new(budget.query(governor::Governor::unlimited().account()).hold());
        assert_eq!(own_numbers(&mut numbers, told(0, &["a", "b", "c"])), [0, 1, 2]);
        let full = held();
        assert!(full > 3 * SERIES_BYTES);
        let error = numbers.translate(told(3, &["d"])).expect_err("no room");
        assert!(matches!(&error, SourceError::Limit(_)), "{error:?}");
        assert!(error.to_string().contains("limits.max_query_bytes"), "{error}");
        drop(numbers);
        assert_eq!(held(), 0);
        let mut numbers =
            Numbers::new(budget.query(governor::Governor::unlimited().account()).hold());
        assert_eq!(own_numbers(&mut numbers, told(0, &["a", "b", "c"])), [0, 1, 2]);
        // The broker begins anew: what it tells again keeps its number, also where another series
        // takes the room of those that it does not.
        numbers.by_broker.clear();
        assert_eq!(own_numbers(&mut numbers, told(0, &["c", "d", "a"])), [2, 3, 4]);
        assert_eq!(held(), full);
        numbers.translate(told(3, &["e"])).expect_err("no room");
        drop(numbers);
        assert_eq!(held(), 0);
    }
}
