//! Live samples of brokers, also when some were away in between.
//!
//! All clusters are subscribed to, and of a cluster all brokers that this console was given, each for what
//! it takes itself; one that is alone tells what the others of its cluster take, too. A sample that comes
//! from several is shown once.
//!
//! Each subscription has a task that always reads: a stream that nobody reads would hold up the queries of
//! everybody, which share its connection. What the user does not take is dropped and counted.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use model::{Labels, Matcher, TenantName};
use net::rpc::{LiveEvents, SubscribeRequest};
use parking_lot::Mutex;
use promql::SourceError;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tonic::Streaming;

use super::fault::{Fault, named};
use super::numbers::Numbers;
use super::{Cluster, Inner, selector_of};
use crate::data::{LiveFeed, NextEvents};

/// Samples that may wait for the user; then the oldest go.
const MAX_WAITING: usize = 1 << 14;
/// Samples handed over at once.
const MAX_TAKEN: usize = 1 << 11;
/// Between two tries to subscribe again.
const PAUSE: Duration = Duration::from_millis(250);

/// One subscription.
pub(super) struct Feed {
    inner: Arc<Inner>,
    inbox: Arc<Inbox>,
    reading: Vec<JoinHandle<()>>,
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
    faults: VecDeque<SourceError>,
    is_over: bool,
}

/// The stream of one broker.
struct Source {
    cluster: Arc<Cluster>,
    /// Of the broker, in its cluster.
    broker: usize,
    /// Of the stream, among all.
    number: usize,
    request: SubscribeRequest,
    /// Streams of the cluster that are open.
    open: Arc<AtomicUsize>,
    /// One outage of a cluster is told once.
    told: Arc<AtomicUsize>,
    numbers: Arc<Mutex<Numbers>>,
    inbox: Arc<Inbox>,
}

impl Feed {
    pub(super) fn open(inner: Arc<Inner>, tenant: TenantName, selector: &[Matcher]) -> Feed {
        let inbox = Arc::<Inbox>::default();
        let counters = &inner.shared.counters;
        counters.subscriptions.fetch_add(1, Ordering::Relaxed);
        let held = inner.shared.budget.query(inner.shared.governor.account()).hold();
        // Clusters without a series that could satisfy the selector are left out.
        let left = |cluster: &Arc<Cluster>| match &cluster.label {
            Some(label) => Some((Arc::clone(cluster), label.left_of(selector)?)),
            None => Some((Arc::clone(cluster), selector.to_vec())),
        };
        let asked: Vec<_> = inner.clusters.iter().filter_map(left).collect();
        let sources = asked.iter().map(|(cluster, _)| cluster.link.len()).sum();
        let numbers = Arc::new(Mutex::new(Numbers::new(sources, held)));
        let mut reading = Vec::with_capacity(sources);
        for (cluster, left) in asked {
            let (open, told) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
            for broker in 0..cluster.link.len() {
                let selector = Some(selector_of(&left));
                let source = Source {
                    cluster: Arc::clone(&cluster),
                    broker,
                    number: reading.len(),
                    request: SubscribeRequest {
                        tenant: tenant.to_string(),
                        selector,
                        // One alone tells what all of its cluster take.
                        only_here: cluster.link.len() > 1,
                    },
                    open: Arc::clone(&open),
                    told: Arc::clone(&told),
                    numbers: Arc::clone(&numbers),
                    inbox: Arc::clone(&inbox),
                };
                reading.push(tokio::spawn(source.read()));
            }
        }
        Feed { inner, inbox, reading }
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        self.reading.iter().for_each(JoinHandle::abort);
        self.inner.shared.counters.subscriptions.fetch_sub(1, Ordering::Relaxed);
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
        if let Some(fault) = self.faults.pop_front() {
            return Some(Some(Err(fault)));
        }
        self.is_over.then_some(None)
    }
}

impl Source {
    /// Reads until the feed is dropped, or the broker says that there can be nothing to read.
    async fn read(self) {
        let counters = &self.cluster.shared.counters;
        let mut was_open = false;
        loop {
            let opened = self.subscribe().await;
            let ended = match opened {
                Err(error) => error,
                Ok(stream) => {
                    if was_open {
                        counters.restarts.fetch_add(1, Ordering::Relaxed);
                    }
                    if was_open || self.told.load(Ordering::Acquire) > 0 {
                        // Nobody knows how many; that there were some makes readers look them up.
                        self.inbox.put(|waiting| waiting.missed += 1);
                    }
                    was_open = true;
                    self.open.fetch_add(1, Ordering::AcqRel);
                    self.told.store(0, Ordering::Release);
                    let ended = self.follow(stream).await;
                    if self.open.fetch_sub(1, Ordering::AcqRel) > 1 {
                        // Others of the cluster go on, and who sent to this one sends to them.
                        self.inbox.put(|waiting| waiting.missed += 1);
                    }
                    ended
                }
            };
            if !matches!(ended, SourceError::Unavailable(_)) {
                self.inbox.put(|waiting| {
                    waiting.faults.push_back(named(&self.cluster.name, ended));
                    waiting.is_over = true;
                });
                return;
            }
            // Those that are asked at the same time may have been faster or slower.
            tokio::time::sleep(PAUSE).await;
            let is_silent = self.open.load(Ordering::Acquire) == 0;
            if is_silent && self.told.fetch_add(1, Ordering::AcqRel) == 0 {
                let ended = named(&self.cluster.name, ended);
                self.inbox.put(|waiting| waiting.faults.push_back(ended));
            }
        }
    }

    async fn subscribe(&self) -> Result<Streaming<LiveEvents>, SourceError> {
        let link = &self.cluster.link;
        let Some(mut client) = link.client(self.broker) else {
            return Err(link.somebody_answers().err().unwrap_or_else(|| {
                SourceError::Unavailable("the broker does not answer".to_owned())
            }));
        };
        match client.subscribe(self.request.clone()).await {
            Ok(answer) => Ok(answer.into_inner()),
            Err(status) => match Fault::of(&status) {
                Fault::Final(error) => Err(error),
                Fault::Unable(words) => Err(SourceError::Unavailable(words)),
                Fault::Away(words) => {
                    link.failed(self.broker, words.clone());
                    Err(SourceError::Unavailable(words))
                }
            },
        }
    }

    /// Takes what comes until the stream ends. Yields why it did.
    async fn follow(&self, mut stream: Streaming<LiveEvents>) -> SourceError {
        self.numbers.lock().begin(self.number);
        loop {
            let events = match stream.message().await {
                Ok(Some(events)) => events,
                Ok(None) => {
                    return SourceError::Unavailable("the broker ended the stream".to_owned());
                }
                Err(status) => {
                    return match Fault::of(&status) {
                        Fault::Final(error) => error,
                        Fault::Away(words) | Fault::Unable(words) => {
                            SourceError::Unavailable(format!(
                                "live samples stop: the broker does not answer ({words}); they \
                                 go on when it does"
                            ))
                        }
                    };
                }
            };
            let label = self.cluster.label.as_ref();
            let translated = self.numbers.lock().translate(self.number, events, label);
            match translated {
                Ok((series, samples, missed)) => self.inbox.put(|waiting| {
                    waiting.series.extend(series);
                    waiting.missed += missed;
                    waiting.samples.extend(samples);
                    let surplus = waiting.samples.len().saturating_sub(MAX_WAITING);
                    waiting.samples.drain(..surplus);
                    waiting.missed += surplus as u64;
                    let counters = &self.cluster.shared.counters;
                    counters.missed.fetch_add(surplus as u64, Ordering::Relaxed);
                }),
                Err(error) => return error,
            }
        }
    }
}

impl Inbox {
    fn put(&self, change: impl FnOnce(&mut Waiting)) {
        change(&mut self.waiting.lock());
        self.wake.notify_one();
    }
}
