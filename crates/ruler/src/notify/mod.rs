//! The notifier in the world: alerts are taken, what changed is written down, receivers are told.
//!
//! One task, [`Notifications::run`], drives `alerting::notify::Notifier`: it lets time pass, writes down
//! what changed, and only then has receivers told. Whoever changes something waits until that is
//! written down; many changes are one write. Each notification is a task of its own, so that a receiver
//! that hangs holds up no other.

mod configuration;
mod counters;
mod deliveries;
mod driver;
mod journal;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use alerting::notify::{
    AlertError, Effect, Fingerprint, Limits, Notification, NotificationId, NotifiedAlert, Notifier,
    Outcome, PostedAlert, PostedSilence, SilenceError, SnapshotError,
};
use parking_lot::{Mutex, RwLock};
use tokio::sync::{Notify, Semaphore, watch};
use tokio::task::AbortHandle;

use crate::clock::Clock;
use crate::keep::{Boxed, Keep};

pub use configuration::{ConfigurationError, Files, NotifyConfiguration};
pub(crate) use counters::render;
pub use counters::{Attempts, NotifyCounters, Way};
pub use deliveries::{Deliveries, Delivery, Latest};
pub use driver::Driver;
use journal::Journal;
pub use journal::JournalError;

/// Messages under way to one integration of a receiver; more wait for their turn.
const MESSAGES_AT_ONCE: usize = 16;
/// How long a change may wait to be written down before whoever made it is told that it is not.
const WRITE_PATIENCE: Duration = Duration::from_secs(10);
/// What is said of messages that were sent although what led to them is not written down.
const UNWRITTEN: &str = "not written down: it may be told again, also by another broker";

/// Tells receivers.
pub trait Deliver: Send + Sync + 'static {
    /// Tells one, once. Dropping the future gives the attempt up. What `note` says has to be seen by
    /// whoever reads the message.
    fn deliver<'a>(
        &'a self,
        notification: &'a Notification,
        note: Option<&'static str>,
        now_ns: i64,
    ) -> Boxed<'a, Outcome>;

    /// Tells a receiver once in each of its ways that this is a test; of `alerts`, or of one that is
    /// made up if there are none. Empty if the receiver is told in no way, or there is none of that
    /// name.
    fn test<'a>(
        &'a self,
        receiver: &'a str,
        alerts: Arc<[NotifiedAlert]>,
        now_ns: i64,
    ) -> Boxed<'a, Vec<Tested>>;
}

/// What came of a test of one way of telling a receiver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tested {
    /// The kind of the integration, such as `webhook`.
    pub kind: &'static str,
    /// Its place among those of its kind.
    pub index: usize,
    /// What came of it.
    pub outcome: Outcome,
    /// How long it took.
    pub took: Duration,
}

/// Why a change was not made, or is not safe.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotSaved {
    /// It is in effect, and a restart may forget it.
    #[error(
        "it is in effect at this broker for now, and may be forgotten at a restart, since it could not be \
         written down; send it again: {0}"
    )]
    Unwritten(String),
    /// Another broker is at it now.
    #[error("another broker notifies by now; send it again")]
    Superseded,
}

/// Why the driver ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// Nobody asks any more.
    Stopped,
    /// Another broker is at it now.
    Superseded,
}

/// Alerts, silences and what receivers were told. Handles share one state.
#[derive(Clone)]
pub struct Notifications {
    inner: Arc<Inner>,
}

/// How many messages are under way to each integration, by receiver and place.
type Turns = HashMap<(Arc<str>, usize), Arc<Semaphore>>;

struct Inner {
    core: Mutex<Core>,
    deliver: RwLock<Arc<dyn Deliver>>,
    clock: Arc<Clock>,
    /// Something changed, or the driver is to end.
    wake: Notify,
    saved: watch::Sender<Saved>,
    flights: Mutex<HashMap<(NotificationId, u32), AbortHandle>>,
    /// Whether what is sent now was not written down.
    is_unwritten: AtomicBool,
    configuration: RwLock<NotifyConfiguration>,
    turns: Mutex<Turns>,
    counters: NotifyCounters,
    deliveries: Deliveries,
}

struct Core {
    notifier: Notifier,
    /// Number of the last change that somebody waits for.
    changes: u64,
    is_stopped: bool,
    /// Another broker is at it now.
    is_superseded: bool,
}

/// How far changes are written down.
#[derive(Debug, Clone, Default)]
struct Saved {
    through: u64,
    /// Through which change it was tried in vain, and why.
    failed: Option<(u64, String)>,
    is_superseded: bool,
}

/// Why the state of before cannot be taken up.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// It cannot be read.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// Another version wrote it.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
}

impl Notifications {
    /// Takes up what was kept. Groups tell nothing for `dispatch_after`, so that alerts which are sent
    /// again are there first.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(
        keep: Arc<dyn Keep>,
        configuration: &NotifyConfiguration,
        deliver: Arc<dyn Deliver>,
        limits: Limits,
        clock: Arc<Clock>,
        dispatch_after: Duration,
    ) -> Result<(Notifications, Driver), OpenError> {
        let (snapshot, journal) = Journal::open(keep)?;
        let now_ns = clock.now_ns();
        let after_ns = i64::try_from(dispatch_after.as_nanos()).unwrap_or(i64::MAX);
        let policy = configuration.policy();
        let (notifier, problems) = Notifier::restore(
            snapshot,
            policy,
            limits,
            &|name| configuration.zone(name),
            now_ns,
            now_ns.saturating_add(after_ns),
        )?;
        for problem in problems {
            tracing::warn!("of the notifications' state {problem}");
        }
        let counters = NotifyCounters::default();
        let inner = Arc::new(Inner {
            core: Mutex::new(Core {
                notifier,
                changes: 0,
                is_stopped: false,
                is_superseded: false,
            }),
            deliver: RwLock::new(deliver),
            clock,
            wake: Notify::new(),
            saved: watch::Sender::default(),
            flights: Mutex::default(),
            is_unwritten: AtomicBool::new(false),
            configuration: RwLock::new(configuration.clone()),
            turns: Mutex::default(),
            counters,
            deliveries: Deliveries::default(),
        });
        let driver = Driver::new(Arc::clone(&inner), journal);
        Ok((Notifications { inner }, driver))
    }

    /// Takes alerts; each is taken or refused by itself. They are written down when this is done.
    ///
    /// # Errors
    /// [`NotSaved`].
    pub async fn post_alerts(
        &self,
        posted: Vec<PostedAlert>,
    ) -> Result<Vec<Result<Fingerprint, AlertError>>, NotSaved> {
        let (results, change) = self.take_alerts(posted);
        self.saved(change).await.map(|()| results)
    }

    /// As [`Notifications::post_alerts`], for alerts that are sent again anyway.
    pub fn post_alerts_of_rules(&self, posted: Vec<PostedAlert>) {
        self.take_alerts(posted);
    }

    fn take_alerts(&self, posted: Vec<PostedAlert>) -> (Vec<Result<Fingerprint, AlertError>>, u64) {
        let now_ns = self.inner.clock.now_ns();
        for alert in &posted {
            self.inner.counters.alert_received(alert.ends_at_ns.is_some_and(|at| at <= now_ns));
        }
        let (results, change) = self.inner.change(|notifier| notifier.put_alerts(posted, now_ns));
        for refused in results.iter().filter_map(|result| result.as_ref().err()) {
            self.inner.counters.alert_refused();
            tracing::warn!("an alert is not taken: {refused}");
        }
        (results, change)
    }

    /// Adds or changes a silence; yields its name once that is written down.
    ///
    /// # Errors
    /// What is wrong with it; [`NotSaved`] outside.
    pub async fn set_silence(
        &self,
        posted: PostedSilence,
    ) -> Result<Result<String, SilenceError>, NotSaved> {
        let now_ns = self.inner.clock.now_ns();
        let configuration = self.configuration();
        let (result, change) = self.inner.change(|notifier| {
            let zone = |name: &str| configuration.zone(name);
            notifier.set_silence(posted, &mut new_silence_id, &zone, now_ns)
        });
        if result.is_err() {
            return Ok(result);
        }
        self.saved(change).await.map(|()| result)
    }

    /// Ends a silence.
    ///
    /// # Errors
    /// There is none of that name; [`NotSaved`] outside.
    pub async fn expire_silence(&self, id: &str) -> Result<Result<(), SilenceError>, NotSaved> {
        let now_ns = self.inner.clock.now_ns();
        let (result, change) = self.inner.change(|notifier| notifier.expire_silence(id, now_ns));
        if result.is_err() {
            return Ok(result);
        }
        self.saved(change).await.map(|()| result)
    }

    /// Takes another configuration.
    pub fn reload(&self, configuration: &NotifyConfiguration, deliver: Arc<dyn Deliver>) {
        let now_ns = self.inner.clock.now_ns();
        let policy = configuration.policy();
        *self.inner.deliver.write() = deliver;
        *self.inner.configuration.write() = configuration.clone();
        self.inner.change(|notifier| notifier.reload(policy, now_ns));
        self.inner.turns.lock().clear();
    }

    /// Looks at the notifier.
    pub fn look<T>(&self, look: impl FnOnce(&mut Notifier, i64) -> T) -> T {
        let now_ns = self.inner.clock.now_ns();
        look(&mut self.inner.core.lock().notifier, now_ns)
    }

    /// Tells a receiver in each of its ways that this is a test. It is no notification: nothing
    /// remembers it.
    pub async fn test_receiver(&self, receiver: &str, alerts: Arc<[NotifiedAlert]>) -> Vec<Tested> {
        let deliver = Arc::clone(&self.inner.deliver.read());
        deliver.test(receiver, alerts, self.now_ns()).await
    }

    /// The time by which everything here goes, nanoseconds since 1970.
    pub fn now_ns(&self) -> i64 {
        self.inner.clock.now_ns()
    }

    /// Counts since the start.
    pub fn counters(&self) -> &NotifyCounters {
        &self.inner.counters
    }

    /// What receivers were told last.
    pub fn deliveries(&self) -> &Deliveries {
        &self.inner.deliveries
    }

    /// The configuration in effect.
    pub fn configuration(&self) -> NotifyConfiguration {
        self.inner.configuration.read().clone()
    }

    /// Ends the driver. What is under way has a few seconds to end; what is given up then is made up for
    /// after the next start.
    pub fn stop(&self) {
        self.inner.core.lock().is_stopped = true;
        self.inner.wake.notify_one();
    }

    /// Ends the driver at once, with all messages that are under way: another broker tells of the same.
    pub fn supersede(&self) {
        self.inner.core.lock().is_superseded = true;
        self.inner.abandon_all();
        self.inner.wake.notify_one();
    }

    /// Waits until a change is written down.
    async fn saved(&self, change: u64) -> Result<(), NotSaved> {
        let mut saved = self.inner.saved.subscribe();
        let written = async {
            loop {
                {
                    let now = saved.borrow_and_update();
                    if now.through >= change {
                        return Ok(());
                    }
                    if now.is_superseded {
                        return Err(NotSaved::Superseded);
                    }
                    if let Some((through, why)) = &now.failed
                        && *through >= change
                    {
                        return Err(NotSaved::Unwritten(why.clone()));
                    }
                }
                if saved.changed().await.is_err() {
                    return Err(NotSaved::Superseded);
                }
            }
        };
        match tokio::time::timeout(WRITE_PATIENCE, written).await {
            Ok(outcome) => outcome,
            Err(_) => Err(NotSaved::Unwritten(format!(
                "nothing was written within {} s; see the log",
                WRITE_PATIENCE.as_secs()
            ))),
        }
    }
}

/// A name for a silence: a UUID of version 4, as Alertmanager gives them.
fn new_silence_id() -> String {
    let mut bytes = [0_u8; 16];
    // Without random numbers nothing that asks for a login would have started.
    if getrandom::fill(&mut bytes).is_err() {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        bytes = now.unwrap_or_default().as_nanos().to_be_bytes();
    }
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

impl Inner {
    /// Changes the notifier, has the driver look, and yields the number to wait for.
    fn change<T>(&self, change: impl FnOnce(&mut Notifier) -> T) -> (T, u64) {
        let mut core = self.core.lock();
        let result = change(&mut core.notifier);
        core.changes += 1;
        let number = core.changes;
        drop(core);
        self.wake.notify_one();
        (result, number)
    }

    /// Has receivers told, each by a task of its own.
    fn carry_out(self: &Arc<Self>, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Send(notification) => self.send(notification),
                Effect::Abandon(id) => {
                    let mut flights = self.flights.lock();
                    flights.retain(|(other, _), task| {
                        if *other == id {
                            task.abort();
                        }
                        *other != id
                    });
                }
            }
        }
    }

    fn send(self: &Arc<Self>, notification: Notification) {
        let place = (notification.id, notification.attempt);
        let turn = {
            let key = (Arc::clone(&notification.receiver), notification.integration);
            let mut turns = self.turns.lock();
            let turn =
                turns.entry(key).or_insert_with(|| Arc::new(Semaphore::new(MESSAGES_AT_ONCE)));
            Arc::clone(turn)
        };
        let inner = Arc::clone(self);
        // Held while it begins, so that it is not done before it is noted.
        let mut flights = self.flights.lock();
        let task = tokio::spawn(async move {
            let permit = turn.acquire_owned().await;
            let began_ns = inner.clock.now_ns();
            let deliver = Arc::clone(&inner.deliver.read());
            let outcome = {
                let note = inner.is_unwritten.load(Ordering::Relaxed).then_some(UNWRITTEN);
                deliver.deliver(&notification, note, began_ns).await
            };
            drop(permit);
            let now_ns = inner.clock.now_ns();
            let took = Duration::from_nanos(now_ns.saturating_sub(began_ns).unsigned_abs());
            inner.counters.told(&notification, &outcome, took);
            inner.deliveries.note(&notification, &outcome, began_ns, took);
            if let Outcome::Failed { message } | Outcome::Retry { message, .. } = &outcome {
                tracing::warn!(
                    receiver = &*notification.receiver,
                    integration = format!("{}[{}]", notification.kind, notification.index),
                    attempt = notification.attempt,
                    alerts = notification.alerts.len(),
                    "a receiver was not told: {message}"
                );
            }
            let Notification { id, attempt, .. } = notification;
            inner.change(|notifier| notifier.answered(id, attempt, outcome, now_ns));
            inner.flights.lock().remove(&(id, attempt));
            inner.wake.notify_one();
        });
        flights.insert(place, task.abort_handle());
    }

    fn abandon_all(&self) {
        self.flights.lock().drain().for_each(|(_, task)| task.abort());
    }
}

/// Numbers of alerts and groups, for `/metrics`.
pub(crate) fn by_state(notifications: &Notifications) -> BTreeMap<&'static str, usize> {
    notifications.look(|notifier, now_ns| {
        let mut states = BTreeMap::from([("active", 0), ("suppressed", 0), ("unprocessed", 0)]);
        let views = notifier.firing(now_ns).into_iter();
        let views: Vec<_> =
            views.filter_map(|(fingerprint, _)| notifier.alert(fingerprint, now_ns)).collect();
        for view in views {
            let state = match view.status.state {
                alerting::notify::AlertState::Active => "active",
                alerting::notify::AlertState::Suppressed => "suppressed",
                alerting::notify::AlertState::Unprocessed => "unprocessed",
            };
            *states.entry(state).or_default() += 1;
        }
        states
    })
}

#[cfg(test)]
mod tests;
