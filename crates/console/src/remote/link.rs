//! Which broker is asked.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use net::rpc::read_client::ReadClient;
use net::tls::{ClientTls, TlsError};
use parking_lot::Mutex;
use promql::SourceError;
use tonic::transport::Channel;

use super::counters::Counters;
use super::fault::Fault;

/// Largest message of a broker: a chunk of histograms and what stands beside it.
const MAX_MESSAGE_BYTES: usize = 16 << 20;
/// A broker that did not answer is left alone for this long, doubled each time …
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// … and at most for this long.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// The connections.
pub(super) struct Link {
    brokers: Vec<Broker>,
    /// The one that answered last.
    preferred: AtomicUsize,
    tls: ClientTls,
    counters: Arc<Counters>,
}

struct Broker {
    target: String,
    state: Mutex<State>,
}

struct State {
    channel: Channel,
    /// Since it answered last.
    failures: u32,
    not_before: Option<Instant>,
    /// Why it did not answer.
    fault: String,
}

impl Link {
    pub(super) fn new(
        targets: Vec<String>,
        tls: ClientTls,
        counters: Arc<Counters>,
    ) -> Result<Link, TlsError> {
        assert!(!targets.is_empty(), "a console has a broker");
        let broker = |target: String| {
            let channel = net::channel(&target, &tls)?;
            let fault = "not asked yet".to_owned();
            let state = State { channel, failures: 0, not_before: None, fault };
            Ok(Broker { target, state: Mutex::new(state) })
        };
        let brokers = targets.into_iter().map(broker).collect::<Result<_, TlsError>>()?;
        Ok(Link { brokers, preferred: AtomicUsize::new(0), tls, counters })
    }

    pub(super) fn targets(&self) -> impl Iterator<Item = &str> {
        self.brokers.iter().map(|broker| broker.target.as_str())
    }

    pub(super) fn channels(&self) -> impl Iterator<Item = (String, Channel)> {
        let brokers = self.brokers.iter();
        brokers.map(|broker| (broker.target.clone(), broker.state.lock().channel.clone()))
    }

    /// Which brokers answered when they were last asked.
    pub(super) fn answering(&self) -> Vec<(&str, bool)> {
        let answers = |broker: &Broker| {
            let state = broker.state.lock();
            state.failures == 0 && state.fault.is_empty()
        };
        self.brokers.iter().map(|broker| (broker.target.as_str(), answers(broker))).collect()
    }

    /// Whether some broker answered when it was last asked.
    ///
    /// # Errors
    /// None did.
    pub(super) fn somebody_answers(&self) -> Result<(), SourceError> {
        match self.answering().iter().any(|(_, answers)| *answers) {
            true => Ok(()),
            false => Err(self.nobody()),
        }
    }

    /// Does `ask` with the first broker that answers, beginning with the one that did last. `ask`
    /// may be called again for another broker, so it must not leave anything behind.
    ///
    /// # Errors
    /// No broker answers, or one says that it cannot be done.
    pub(super) async fn call<T, A>(
        &self,
        ask: impl Fn(ReadClient<Channel>) -> A,
    ) -> Result<T, SourceError>
    where
        A: Future<Output = Result<T, Fault>>,
    {
        self.counters.calls.fetch_add(1, Ordering::Relaxed);
        let preferred = self.preferred.load(Ordering::Relaxed);
        for turn in 0..self.brokers.len() {
            let index = (preferred + turn) % self.brokers.len();
            let broker = &self.brokers[index];
            let Some(channel) = broker.channel() else { continue };
            let client = ReadClient::new(channel).max_decoding_message_size(MAX_MESSAGE_BYTES);
            match ask(client).await {
                Err(Fault::Away(words)) => {
                    self.failed(broker, words);
                    if turn + 1 < self.brokers.len() {
                        self.counters.failovers.fetch_add(1, Ordering::Relaxed);
                    }
                }
                answer => {
                    broker.answered();
                    self.preferred.store(index, Ordering::Relaxed);
                    return answer.map_err(|fault| match fault {
                        Fault::Final(error) => error,
                        Fault::Away(words) => SourceError::Unavailable(words),
                    });
                }
            }
        }
        self.counters.failed.fetch_add(1, Ordering::Relaxed);
        Err(self.nobody())
    }

    /// Notes that a broker did not answer. A connection that has gone silent is not used again.
    fn failed(&self, broker: &Broker, words: String) {
        let mut state = broker.state.lock();
        let now = Instant::now();
        if state.not_before.is_some_and(|moment| moment > now) {
            // Of calls that were under way together the first has told it.
            return;
        }
        let is_new = state.failures == 0;
        let pause = FIRST_PAUSE.saturating_mul(1 << state.failures.min(8)).min(LONGEST_PAUSE);
        state.failures = state.failures.saturating_add(1);
        state.not_before = Some(now + pause);
        if let Ok(channel) = net::channel(&broker.target, &self.tls) {
            state.channel = channel;
        }
        if is_new {
            tracing::warn!(broker = broker.target, reason = words, "the broker does not answer");
        }
        state.fault = words;
    }

    fn nobody(&self) -> SourceError {
        let tried: Vec<String> = self
            .brokers
            .iter()
            .map(|broker| format!("{} ({})", broker.target, broker.state.lock().fault))
            .collect();
        SourceError::Unavailable(format!(
            "no broker answers; tried {}. Check that `watchfire broker` runs there, and that \
             --broker names its --peer-listen address",
            tried.join(", ")
        ))
    }
}

impl Broker {
    /// The connection; `None` while it is left alone.
    fn channel(&self) -> Option<Channel> {
        let state = self.state.lock();
        let is_due = state.not_before.is_none_or(|moment| moment <= Instant::now());
        is_due.then(|| state.channel.clone())
    }

    fn answered(&self) {
        let mut state = self.state.lock();
        if state.failures > 0 {
            tracing::info!(broker = self.target, "the broker answers again");
        }
        state.failures = 0;
        state.not_before = None;
        state.fault.clear();
    }
}
