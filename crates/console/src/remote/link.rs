//! Which broker of a cluster is asked.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use net::rpc::StateResponse;
use net::rpc::read_client::ReadClient;
use net::tls::{ClientTls, TlsError};
use parking_lot::Mutex;
use promql::SourceError;
use tokio::sync::{Notify, watch};
use tonic::transport::Channel;

use super::counters::Counters;
use super::fault::Fault;
use super::state::RemoteState;

/// Largest message of a broker: a chunk of histograms and what stands beside it.
const MAX_MESSAGE_BYTES: usize = 16 << 20;
/// A broker that does not answer is looked at again after this long, doubled each time …
pub(super) const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// … and at most after this long.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// The connections to the brokers of one cluster.
///
/// Somebody looks at each broker every second ([`Link::look`]). A call goes to the broker that answered
/// last and, when that is lost, to the next one that was well when it was last looked at. One that is
/// not well is left alone until a look finds it well again, so that no call waits for it.
pub(super) struct Link {
    brokers: Vec<Broker>,
    /// Index of the one that answered last, and above it how often that changed.
    current: AtomicU64,
    /// Whether a call leaves a broker in which it has waited when a look finds it lost.
    gives_up: bool,
    tls: ClientTls,
    counters: Arc<Counters>,
}

/// Bits of [`Link::current`] for the index.
const INDEX_BITS: u32 = 16;
const INDEX_MASK: u64 = (1 << INDEX_BITS) - 1;

struct Broker {
    target: String,
    state: Mutex<State>,
    /// Counts the looks that found it lost.
    lost: watch::Sender<u64>,
    /// A call found out before a look did.
    suspect: Arc<Notify>,
}

struct State {
    channel: Channel,
    health: Health,
    /// Since it was well last.
    failures: u32,
    /// What it last said of itself.
    told: Option<RemoteState>,
}

/// How a broker was when it was last asked.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Health {
    Unknown,
    Well,
    /// It answers that it cannot.
    NotReady(String),
    Away(String),
}

/// How a broker is, for whoever looks after this console.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokerStatus {
    /// `HOST:PORT`, as it was given.
    pub address: String,
    /// Whether it answered when it was last asked.
    pub answers: bool,
    /// Why not; empty if it does.
    pub reason: String,
}

/// A client of the service `Read`.
pub(super) type Client = ReadClient<Channel>;

impl Link {
    /// `is_one_of_many`: whether there are other clusters, whose answers are of use without this one's.
    pub(super) fn new(
        targets: Vec<String>,
        tls: ClientTls,
        is_one_of_many: bool,
        counters: Arc<Counters>,
    ) -> Result<Link, TlsError> {
        assert!(!targets.is_empty(), "a console has a broker");
        assert!(targets.len() as u64 <= INDEX_MASK, "a cluster has fewer brokers");
        let broker = |target: String| {
            let channel = net::channel(&target, &tls)?;
            let state = State { channel, health: Health::Unknown, failures: 0, told: None };
            let (lost, _) = watch::channel(0);
            Ok(Broker { target, state: Mutex::new(state), lost, suspect: Arc::default() })
        };
        let brokers: Vec<Broker> =
            targets.into_iter().map(broker).collect::<Result<_, TlsError>>()?;
        let gives_up = is_one_of_many || brokers.len() > 1;
        Ok(Link { brokers, current: AtomicU64::new(0), gives_up, tls, counters })
    }

    pub(super) fn len(&self) -> usize {
        self.brokers.len()
    }

    pub(super) fn targets(&self) -> impl Iterator<Item = &str> {
        self.brokers.iter().map(|broker| broker.target.as_str())
    }

    pub(super) fn channels(&self) -> impl Iterator<Item = (String, Channel)> {
        let brokers = self.brokers.iter();
        brokers.map(|broker| (broker.target.clone(), broker.state.lock().channel.clone()))
    }

    pub(super) fn statuses(&self) -> Vec<BrokerStatus> {
        let status = |broker: &Broker| {
            let health = broker.state.lock().health.clone();
            let answers = health == Health::Well;
            BrokerStatus { address: broker.target.clone(), answers, reason: health.reason() }
        };
        self.brokers.iter().map(status).collect()
    }

    /// Whether some broker was well when it was last asked.
    ///
    /// # Errors
    /// None was.
    pub(super) fn somebody_answers(&self) -> Result<(), SourceError> {
        let is_well = |broker: &Broker| broker.state.lock().health == Health::Well;
        match self.brokers.iter().any(is_well) {
            true => Ok(()),
            false => Err(self.nobody()),
        }
    }

    /// What the broker that is asked first said of itself last, or else any other one.
    pub(super) fn told(&self) -> Option<RemoteState> {
        let told = |broker: &Broker| broker.state.lock().told.clone();
        told(&self.brokers[self.first()]).or_else(|| self.brokers.iter().find_map(told))
    }

    /// As [`Link::call_noted`].
    pub(super) async fn call<T, A>(&self, ask: impl Fn(Client) -> A) -> Result<T, SourceError>
    where
        A: Future<Output = Result<T, Fault>>,
    {
        self.call_noted(ask).await.map(|(answer, _)| answer)
    }

    /// Does `ask` with the first broker that answers, beginning with the one that did last. `ask`
    /// may be called again for another broker, so it must not leave anything behind. Yields besides
    /// how often another broker than before has answered: between two equal numbers one and the same
    /// did.
    ///
    /// # Errors
    /// No broker answers, or one says that it cannot be done.
    pub(super) async fn call_noted<T, A>(
        &self,
        ask: impl Fn(Client) -> A,
    ) -> Result<(T, u64), SourceError>
    where
        A: Future<Output = Result<T, Fault>>,
    {
        self.counters.calls.fetch_add(1, Ordering::Relaxed);
        let first = self.first();
        let mut unable = None;
        for turn in 0..self.brokers.len() {
            let index = (first + turn) % self.brokers.len();
            let broker = &self.brokers[index];
            // Before the look at its health: whatever is found out later is told.
            let mut lost = broker.lost.subscribe();
            let Some(client) = self.client(index) else { continue };
            let answer = tokio::select! {
                biased;
                answer = ask(client) => answer,
                Ok(()) = lost.changed(), if self.gives_up => Err(Fault::Away(broker.reason())),
            };
            match answer {
                Err(Fault::Away(words)) => {
                    self.failed(index, words);
                    if turn + 1 < self.brokers.len() {
                        self.counters.failovers.fetch_add(1, Ordering::Relaxed);
                    }
                }
                Err(Fault::Unable(words)) => unable = Some(words),
                Err(Fault::Final(error)) => {
                    self.answered(index);
                    return Err(error);
                }
                Ok(answer) => return Ok((answer, self.answered(index))),
            }
        }
        self.counters.failed.fetch_add(1, Ordering::Relaxed);
        Err(unable.map_or_else(|| self.nobody(), SourceError::Unavailable))
    }

    /// To the broker `index`; `None` while it is left alone.
    pub(super) fn client(&self, index: usize) -> Option<Client> {
        let state = self.brokers[index].state.lock();
        let is_asked = matches!(state.health, Health::Unknown | Health::Well);
        is_asked.then(|| client_of(&state))
    }

    /// As [`Link::client`], over a connection of its own: for what is read only as fast as somebody else reads.
    pub(super) fn client_apart(&self, index: usize) -> Option<Client> {
        self.client(index)?;
        let channel = net::channel(&self.brokers[index].target, &self.tls).ok()?;
        Some(ReadClient::new(channel).max_decoding_message_size(MAX_MESSAGE_BYTES))
    }

    /// All brokers, the one that answered last first.
    pub(super) fn in_turn(&self) -> impl Iterator<Item = usize> + use<> {
        let (first, len) = (self.first(), self.brokers.len());
        (0..len).map(move |turn| (first + turn) % len)
    }

    /// Notes that a call to a broker did not work.
    pub(super) fn failed(&self, index: usize, words: String) {
        let broker = &self.brokers[index];
        let mut state = broker.state.lock();
        // Of calls that were under way together the first has told it.
        if matches!(state.health, Health::Unknown | Health::Well) {
            self.lose(broker, &mut state, Health::Away(words));
            broker.suspect.notify_one();
        }
    }

    /// Asks a broker how it is and notes it. Yields after how long to look again.
    pub(super) async fn look<A>(
        &self,
        index: usize,
        every: Duration,
        ask: impl FnOnce(Client) -> A,
    ) -> Duration
    where
        A: Future<Output = Result<StateResponse, Fault>>,
    {
        let broker = &self.brokers[index];
        let client = client_of(&broker.state.lock());
        let answer = ask(client).await;
        let mut state = broker.state.lock();
        let health = match answer {
            Ok(answer) => {
                let reason = answer.not_ready.clone();
                state.told = Some(RemoteState::from(answer));
                match reason.is_empty() {
                    true => Health::Well,
                    false => Health::NotReady(reason),
                }
            }
            Err(Fault::Away(words) | Fault::Unable(words)) => Health::Away(words),
            Err(Fault::Final(error)) => Health::Away(error.to_string()),
        };
        if health == Health::Well {
            if state.failures > 0 {
                tracing::info!(broker = broker.target, "the broker answers again");
            }
            (state.health, state.failures) = (health, 0);
            return every;
        }
        let is_lost = matches!(health, Health::Away(_));
        self.lose(broker, &mut state, health);
        let pause = FIRST_PAUSE.saturating_mul(1 << state.failures.min(8)).min(LONGEST_PAUSE);
        drop(state);
        if is_lost {
            broker.lost.send_modify(|looks| *looks += 1);
        }
        pause
    }

    /// Waits until a call finds out that a broker does not answer.
    pub(super) fn suspect(&self, index: usize) -> Arc<Notify> {
        Arc::clone(&self.brokers[index].suspect)
    }

    /// Notes that a broker is not well. A connection that has gone silent is not used again.
    fn lose(&self, broker: &Broker, state: &mut State, health: Health) {
        let is_new = state.failures == 0;
        state.failures = state.failures.saturating_add(1);
        if matches!(health, Health::Away(_))
            && let Ok(channel) = net::channel(&broker.target, &self.tls)
        {
            state.channel = channel;
        }
        if is_new {
            let reason = health.reason();
            tracing::warn!(broker = broker.target, reason, "the broker does not answer");
        }
        state.health = health;
    }

    /// Index of the broker that is asked first.
    fn first(&self) -> usize {
        (self.current.load(Ordering::Acquire) & INDEX_MASK) as usize
    }

    /// Notes who answered. Yields how often that was another one than before.
    pub(super) fn answered(&self, index: usize) -> u64 {
        {
            let mut state = self.brokers[index].state.lock();
            if state.health == Health::Unknown {
                state.health = Health::Well;
            }
        }
        let next = |current: u64| {
            let is_other = current & INDEX_MASK != index as u64;
            is_other.then(|| ((current >> INDEX_BITS) + 1) << INDEX_BITS | index as u64)
        };
        let set = self.current.fetch_update(Ordering::AcqRel, Ordering::Acquire, next);
        set.map_or_else(|same| same >> INDEX_BITS, |before| (before >> INDEX_BITS) + 1)
    }

    fn nobody(&self) -> SourceError {
        let not_ready = self.brokers.iter().find_map(|broker| {
            let state = broker.state.lock();
            let Health::NotReady(reason) = &state.health else { return None };
            let name = state.told.as_ref().map_or(&broker.target, |told| &told.broker);
            Some(format!("the broker {name} is not ready: {reason}"))
        });
        if let Some(words) = not_ready {
            return SourceError::Unavailable(words);
        }
        let tried = |broker: &Broker| format!("{} ({})", broker.target, broker.reason());
        let tried: Vec<String> = self.brokers.iter().map(tried).collect();
        SourceError::Unavailable(format!(
            "no broker answers; tried {}. Check that `watchfire broker` runs there, and that \
             its --peer-listen address is the one that this console was given",
            tried.join(", ")
        ))
    }
}

impl Broker {
    fn reason(&self) -> String {
        self.state.lock().health.reason()
    }
}

impl Health {
    fn reason(&self) -> String {
        match self {
            Health::Unknown => "not asked yet".to_owned(),
            Health::Well => String::new(),
            Health::NotReady(reason) => format!("not ready: {reason}"),
            Health::Away(reason) => reason.clone(),
        }
    }
}

fn client_of(state: &State) -> Client {
    ReadClient::new(state.channel.clone()).max_decoding_message_size(MAX_MESSAGE_BYTES)
}
