//! Which agents there are: who is connected, what they say of themselves, how far they are stored.
//!
//! What changes each second is in memory only. What an agent says when it connects is kept in the
//! key space, and written only when it says something else than before; when it last sent a batch
//! is known after a restart from its marks.

mod known;
mod metrics;
mod row;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use catalog::{Command, Expected, Lane, LaneMarks, State};
use crossbeam_channel::Sender;
use parking_lot::{Mutex, RwLock};
use tokio::sync::Notify;

use crate::Broker;
use crate::agents::Delivery;
use crate::commit::{CommitError, Message};
use crate::logs::LOCAL_COLLECTORS;
use known::{Kept, Known, Session};

pub use row::{AgentHello, AgentRow, AgentStatus};

/// Keys of agents in the key space.
pub(crate) const PREFIX: &str = "fleet/";
/// Agents remembered. Beyond it, the one that is silent for longest makes room.
const MAX_AGENTS: usize = 20_000;

/// All agents.
#[derive(Debug, Default)]
pub(crate) struct Fleet {
    agents: RwLock<BTreeMap<Arc<str>, Arc<Agent>>>,
    connected: AtomicUsize,
    replaced_sessions: AtomicU64,
}

#[derive(Debug)]
struct Agent {
    name: Arc<str>,
    known: Mutex<Known>,
}

impl Agent {
    fn new(name: &Arc<str>, kept: Kept) -> Arc<Self> {
        Arc::new(Agent { name: Arc::clone(name), known: Mutex::new(Known::new(kept)) })
    }
}

impl Fleet {
    /// What the catalog knows: what agents said of themselves, and when they last sent a batch.
    pub(crate) fn load(state: &State) -> Self {
        let mut agents: BTreeMap<Arc<str>, Arc<Agent>> = BTreeMap::new();
        for (key, entry) in state.keys(PREFIX) {
            let Some(name) = key.strip_prefix(PREFIX) else { continue };
            let name: Arc<str> = name.into();
            agents.insert(Arc::clone(&name), Agent::new(&name, Kept::decode(&entry.value)));
        }
        // Collectors of brokers have marks as well, and are no agents.
        let of_agents = |(name, _, _): &(&Arc<str>, _, _)| !name.starts_with(LOCAL_COLLECTORS);
        for (name, incarnation, marks) in state.marks().filter(of_agents) {
            let kept = Kept::first_seen(marks.at_ms);
            let agent = agents.entry(Arc::clone(name)).or_insert_with(|| Agent::new(name, kept));
            agent.known.lock().recover(incarnation, marks);
        }
        Fleet { agents: RwLock::new(agents), ..Fleet::default() }
    }

    /// Takes what another broker of the cluster heard of an agent. What is said here is newer.
    pub(crate) fn follow(&self, key: &str, value: Option<&[u8]>) {
        let Some(name) = key.strip_prefix(PREFIX) else { return };
        let mut agents = self.agents.write();
        let known = agents.get(name).map(|agent| agent.known.lock().session.is_some());
        match (known, value) {
            (Some(true), _) => {}
            (_, None) => _ = agents.remove(name),
            (Some(false), Some(value)) => {
                if let Some(agent) = agents.get(name) {
                    agent.known.lock().kept = Kept::decode(value);
                }
            }
            (None, Some(value)) => {
                let name: Arc<str> = name.into();
                agents.insert(Arc::clone(&name), Agent::new(&name, Kept::decode(value)));
            }
        }
    }

    /// Takes from the catalog when agents were last stored, whoever stored it.
    fn hear(&self, state: &State) {
        let agents = self.agents.read();
        for (name, incarnation, marks) in state.marks() {
            if let Some(agent) = agents.get(name) {
                let mut known = agent.known.lock();
                if known.session.is_none() {
                    known.recover(incarnation, marks);
                }
            }
        }
    }

    /// Agents connected now.
    pub(crate) fn connected(&self) -> usize {
        self.connected.load(Ordering::Relaxed)
    }

    /// The agent of this name, and the one that was forgotten for it.
    fn agent(&self, name: &Arc<str>, now_ms: i64) -> (Arc<Agent>, Option<Arc<str>>) {
        if let Some(agent) = self.agents.read().get(name) {
            return (Arc::clone(agent), None);
        }
        let mut agents = self.agents.write();
        let mut forgotten = None;
        if agents.len() >= MAX_AGENTS && !agents.contains_key(name) {
            let last_seen = |agent: &Arc<Agent>| {
                let known = agent.known.lock();
                known.session.is_none().then_some((known.last_seen_ms, Arc::clone(&agent.name)))
            };
            forgotten = agents.values().filter_map(last_seen).min().map(|(_, name)| name);
            if let Some(name) = &forgotten {
                agents.remove(name);
            }
        }
        let kept = Kept::first_seen(now_ms);
        let agent = agents.entry(Arc::clone(name)).or_insert_with(|| Agent::new(name, kept));
        (Arc::clone(agent), forgotten)
    }

    /// Drops agents that are not connected and were last heard before `before_ms`.
    pub(crate) fn forget_silent(&self, before_ms: i64, committer: &Sender<Message>) {
        let mut agents = self.agents.write();
        for (name, _) in agents.extract_if(.., |_, agent| agent.known.lock().is_silent(before_ms)) {
            let _ = committer.send(quiet(delete(&name)));
        }
    }

    fn rows(&self, now_ms: i64) -> Vec<AgentRow> {
        let agents: Vec<Arc<Agent>> = self.agents.read().values().cloned().collect();
        let listed = agents.iter().filter_map(|agent| {
            let known = agent.known.lock();
            (!known.is_removed()).then(|| known.row(&agent.name, now_ms))
        });
        listed.collect()
    }
}

/// Why an agent was not taken off the list.
#[derive(Debug, thiserror::Error)]
pub enum RemoveAgentError {
    /// There is none of that name.
    #[error("there is no agent {0:?}")]
    Unknown(String),
    /// It would be back with its next word.
    #[error("the agent {0:?} is connected: stop it first, or send it away by its certificate")]
    Connected(String),
    /// It could not be kept.
    #[error(transparent)]
    Commit(#[from] CommitError),
}

/// One connection of an agent; it ends when this is dropped.
pub struct AgentSession {
    broker: Broker,
    agent: Arc<Agent>,
    number: u64,
    over: Arc<Notify>,
}

impl Broker {
    /// Notes that an agent is connected. If it was, the older session is told to end: its other end
    /// may be gone without a word.
    pub fn agent_connected(&self, hello: &AgentHello) -> AgentSession {
        let now_ms = self.now_ms();
        let fleet = &self.inner.fleet;
        let (agent, forgotten) = fleet.agent(&hello.name, now_ms);
        let over = Arc::new(Notify::new());
        let mut known = agent.known.lock();
        let news = known.greet(hello, now_ms);
        known.sessions += 1;
        let number = known.sessions;
        let started_ms = hello.started_ms;
        match known.session.replace(Session { number, started_ms, over: Arc::clone(&over) }) {
            Some(before) => {
                fleet.replaced_sessions.fetch_add(1, Ordering::Relaxed);
                before.over.notify_one();
            }
            None => {
                fleet.connected.fetch_add(1, Ordering::Relaxed);
            }
        }
        drop(known);
        // Not waited for: if it does not reach the log, a restart forgets what the agent said of
        // itself until it connects again.
        if let Some(value) = news {
            let key = format!("{PREFIX}{}", agent.name);
            let _ = self.send(quiet(Command::Put { key, value, expected: Expected::Any }));
        }
        if let Some(name) = forgotten {
            let _ = self.send(quiet(delete(&name)));
        }
        AgentSession { broker: self.clone(), agent, number, over }
    }

    /// Takes an agent that is away off the list, durably. When it connects again it is back; what is
    /// stored of it stays, and so does the memory of which of its batches are.
    ///
    /// # Errors
    /// [`RemoveAgentError`].
    pub async fn remove_agent(&self, name: &str) -> Result<(), RemoveAgentError> {
        let agent = self.inner.fleet.agents.read().get(name).map(Arc::clone);
        let agent = agent.ok_or_else(|| RemoveAgentError::Unknown(name.to_owned()))?;
        let value = {
            let mut known = agent.known.lock();
            if known.session.is_some() {
                return Err(RemoveAgentError::Connected(name.to_owned()));
            }
            if known.is_removed() {
                return Err(RemoveAgentError::Unknown(name.to_owned()));
            }
            known.set_removed(true)
        };
        let kept = self.put_key_async(&format!("{PREFIX}{name}"), value, Expected::Any).await;
        if let Err(error) = kept {
            agent.known.lock().set_removed(false);
            return Err(error.into());
        }
        Ok(())
    }

    /// All agents that are connected or remembered, by name.
    pub fn fleet(&self) -> Vec<AgentRow> {
        if self.inner.clustered.is_some() {
            self.inner.catalog.read(|state| self.inner.fleet.hear(state));
        }
        self.inner.fleet.rows(self.now_ms())
    }
}

fn delete(name: &str) -> Command {
    Command::Delete { key: format!("{PREFIX}{name}"), expected: Expected::Any }
}

/// A command whose outcome nobody waits for.
fn quiet(command: Command) -> Message {
    let done = Box::new(|outcome: Result<_, _>| {
        if let Err(error) = outcome {
            tracing::debug!(%error, "what an agent said of itself is not kept");
        }
    });
    Message::Command { command, done }
}

impl AgentSession {
    /// Ends when another session of the same agent has begun.
    pub async fn replaced(&self) {
        self.over.notified().await;
    }

    /// Takes what the agent says of itself.
    pub fn status(&self, status: AgentStatus) {
        let mut known = self.agent.known.lock();
        known.last_seen_ms = self.broker.now_ms();
        known.status = status;
    }

    /// Takes the marks that the agent is told.
    pub fn marks(&self, marks: LaneMarks) {
        self.agent.known.lock().marks = [marks.live_through, marks.backlog_through];
    }

    /// Takes what became of a batch that was not refused.
    pub fn stored(&self, lane: Lane, seq: u64, delivery: &Delivery) {
        let mut known = self.agent.known.lock();
        known.last_seen_ms = self.broker.now_ms();
        known.stored(lane, seq, delivery);
    }

    /// Takes what became of a batch of lines that was not refused.
    pub fn stored_lines(&self, was_known: bool, complaint: Option<&str>) {
        let mut known = self.agent.known.lock();
        known.last_seen_ms = self.broker.now_ms();
        known.stored_lines(was_known, complaint);
    }

    /// Takes that a batch, of a lane of samples if one is given, was passed over, and why.
    pub fn passed_over(&self, lane: Option<Lane>, seq: u64, reason: &str) {
        self.broker.inner.ingest_counters.passed_over.fetch_add(1, Ordering::Relaxed);
        if let Some(lane) = lane {
            self.stored(lane, seq, &Delivery { was_known: true, ..Delivery::default() });
        }
        self.agent.known.lock().complain(reason);
    }

    /// Takes that a batch was refused for now, and why.
    pub fn refused(&self, reason: &str) {
        self.broker.inner.ingest_counters.agent_refused.fetch_add(1, Ordering::Relaxed);
        self.agent.known.lock().complain(reason);
    }
}

impl Drop for AgentSession {
    fn drop(&mut self) {
        let mut known = self.agent.known.lock();
        if known.session.as_ref().is_some_and(|session| session.number == self.number) {
            known.session = None;
            known.last_seen_ms = self.broker.now_ms();
            self.broker.inner.fleet.connected.fetch_sub(1, Ordering::Relaxed);
        }
    }
}
