//! What is in no block yet, of all brokers: a query at any of them is complete.
//!
//! ```text
//! catch up with the leader ─► ask every other ─► wait until ─► those that do    ─► deletes, own head,
//!                             broker's heads     shown here    not answer: their   blocks: see `reader`
//!                                                              segments
//! ```
//!
//! **Why nothing lacks and nothing doubles.** Each answer bears the version of the catalog as of which
//! nothing had left the heads that were looked at; this broker goes on when it shows all blocks of the
//! highest of those versions. So what another one flushed meanwhile is in its answer or in a block, and
//! what is in both is one sample, as with a head of our own. This broker has caught up with the leader
//! first, so it knows of all that was acknowledged anywhere before the query began, and the others are
//! asked to have applied as much: each knows of all deletes before, and what was noted as a change here is
//! in its answer. A broker that does not answer has acknowledged nothing that is not among the segments in
//! the catalog.

mod answers;
mod following;
mod foreign;
mod heads;
mod lines;
mod live;

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use catalog::{BrokerId, State};
use consensus::Consensus;
use futures_util::future::join_all;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, Stream, StreamExt};
use governor::{Account, Governor, Held, Refused};
use model::{NO_TENANT, TenantId};
use net::rpc::fresh_request::Ask;
use net::rpc::{FreshHead, FreshPart, FreshRequest, LiveLinesRequest, LiveRequest};
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::{Mutex as AsyncMutex, OnceCell, oneshot};
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tonic::Status;

use super::Work;
use super::feed::{CatalogFeed, Event};
use super::store::ObjectStore;
use crate::ReadError;
use crate::deletes::DeleteBook;
use crate::logs::Lines;
use crate::rpc::messages;
use foreign::Foreign;

pub(crate) use heads::{any, head_labels};
pub use lines::LiveLineParts;
pub use live::LiveParts;

/// An answer on its way.
pub type FreshParts = Pin<Box<dyn Stream<Item = Result<FreshPart, Status>> + Send>>;

/// The way to what the other brokers have in memory.
pub trait Peers: Send + Sync + 'static {
    /// Asks one; see [`crate::Broker::answer_fresh`], which answers. The stream ends with an error if it
    /// cannot be reached.
    fn fresh(&self, address: &str, request: FreshRequest) -> FreshParts;

    /// Subscribes at one; see [`crate::Broker::answer_live`], which answers. The stream ends with an error
    /// if it cannot be reached.
    fn live(&self, address: &str, request: LiveRequest) -> LiveParts;

    /// Follows the lines of one; see [`crate::Broker::answer_live_lines`], which answers. The stream ends with an
    /// error if it cannot be reached.
    fn live_lines(&self, address: &str, request: LiveLinesRequest) -> LiveLineParts;
}

/// A broker that has not begun to answer after so long does not answer.
const BEGIN_WAIT: Duration = Duration::from_secs(1);
/// One that answers says at least so often that it is still at work.
const PART_WAIT: Duration = Duration::from_secs(5);
/// One that did not answer is asked again after so long, by nobody who waits.
const SILENCE: Duration = Duration::from_secs(2);
/// How long a query waits for a leader.
const LEADER_WAIT: Duration = Duration::from_secs(5);
/// How long a query waits for blocks that other brokers wrote.
const SHOWN_WAIT: Duration = Duration::from_secs(10);
/// How often one who waits looks whether anybody still wants the answer.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Counts since start.
#[derive(Debug, Default)]
pub(crate) struct FreshCounters {
    pub(crate) asked: AtomicU64,
    pub(crate) unanswered: AtomicU64,
    pub(crate) received_bytes: AtomicU64,
    pub(crate) wait_micros: AtomicU64,
    pub(crate) partial: AtomicU64,
    pub(crate) answered: AtomicU64,
    pub(crate) segments_read: AtomicU64,
}

/// The other brokers, as queries at this one see them.
pub(crate) struct Others {
    pub(super) own: BrokerId,
    pub(super) consensus: Consensus,
    pub(super) feed: Arc<CatalogFeed>,
    pub(super) events: UnboundedSender<Event>,
    pub(super) peers: Arc<dyn Peers>,
    pub(super) store: Arc<dyn ObjectStore>,
    pub(super) work: Work,
    pub(super) governor: Arc<Governor>,
    pub(super) deletes: Arc<DeleteBook>,
    /// With the deletes and the format of this broker.
    pub(super) lines: Lines,
    pub(super) seed: u64,
    pub(super) now_ms: fn() -> i64,
    /// By which threads that may block wait; a simulation has none.
    pub(crate) runtime: Option<Handle>,
    pub(super) known: Mutex<BTreeMap<BrokerId, Arc<Other>>>,
    pub(super) counters: FreshCounters,
    /// Names of runs of which nobody knows the changes.
    pub(super) unknown_runs: AtomicU64,
}

/// One of them.
#[derive(Default)]
pub(super) struct Other {
    /// Set while it does not answer: when it may be asked again. `None` inside: it is being asked.
    silent: Mutex<Option<Option<Instant>>>,
    /// Its heads, made of its segments. Locked while one query brings them up to date for all.
    foreign: AsyncMutex<Option<Foreign>>,
    /// When a query needed them last.
    needed: Mutex<Option<Instant>>,
}

/// What other brokers have.
#[derive(Default)]
pub(crate) struct Gathered {
    pub(crate) answers: Vec<FreshAnswer>,
    /// What lacks, in words.
    pub(crate) lacking: Vec<String>,
}

/// What one of them has.
pub(crate) struct FreshAnswer {
    pub(crate) broker: BrokerId,
    pub(crate) bytes: Vec<u8>,
    /// Deletes up to this number hide nothing of it.
    pub(crate) deletes_through: u64,
    /// The memory it takes.
    pub(crate) held: Held,
}

/// Why there is no answer.
enum Unanswered {
    /// Its heads are looked for elsewhere.
    Silent(String),
    /// It is the question's fault.
    Fault(ReadError),
}

/// Filled when a query has asked the leader, once for all that it selects: with what may lack where there
/// was none, in words.
pub(crate) type CaughtUp = OnceCell<Option<String>>;

/// Shown the catalog while others are asked.
pub(crate) type Look<'a> = dyn Fn(&State) + Sync + 'a;

/// What became of a question: an answer, if there is anything in it, and the version as of which nothing
/// lacks in it.
type Asked = Result<(Option<FreshAnswer>, u64), Unanswered>;

/// What the catalog says of another broker.
struct Peer {
    id: BrokerId,
    name: String,
    address: String,
}

impl Others {
    /// Asks all for what they have in no block. When it returns, this broker shows at least the blocks
    /// that none of the answers has the samples of. `look` sees the catalog as of which that holds.
    ///
    /// # Errors
    /// Too much; nobody waits any more. What could not be read is no error, but told.
    pub(crate) async fn gather(
        self: &Arc<Self>,
        tenant: TenantId,
        ask: Ask,
        account: &Arc<Account>,
        time_limit: Duration,
        (look, caught_up): (&Look<'_>, &CaughtUp),
    ) -> Result<Gathered, ReadError> {
        let began = Instant::now();
        let unwanted = async {
            while !account.is_cancelled() {
                sleep(LOOK_EVERY).await;
            }
        };
        let outcome = tokio::select! {
            biased;
            () = unwanted => Err(Refused::Cancelled.into()),
            done = timeout(time_limit, self.gather_all(tenant, ask, account, look, caught_up)) => {
                done.unwrap_or_else(|_| Err(Refused::TooLarge(format!(
                    "the other brokers did not answer within limits.query_timeout_ms, {} ms: ask for \
                     less, or for a shorter time",
                    time_limit.as_millis()
                )).into()))
            }
        };
        let micros = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
        count(&self.counters.wait_micros, micros);
        if outcome.as_ref().is_ok_and(|gathered| !gathered.lacking.is_empty()) {
            count(&self.counters.partial, 1);
        }
        outcome
    }

    async fn gather_all(
        self: &Arc<Self>,
        tenant: TenantId,
        ask: Ask,
        account: &Arc<Account>,
        look: &Look<'_>,
        caught_up: &CaughtUp,
    ) -> Result<Gathered, ReadError> {
        let mut gathered = Gathered::default();
        // First: an answer of who does not know of a delete yet could not be told from one of before.
        gathered.lacking.extend(caught_up.get_or_init(|| self.catch_up()).await.clone());
        let (at_least, peers) = self.consensus.read(|state| {
            look(state);
            (state.version(), self.listed(state))
        });
        self.forget_removed(&peers);
        let request = FreshRequest { to: 0, tenant: tenant.0, at_least, ask: Some(ask) };
        let asked = self.ask_all(peers, &request, account).await;
        let mut silent = Vec::new();
        let mut version = at_least;
        for (peer, answer) in asked {
            match answer {
                Ok((answer, of_answer)) => {
                    version = version.max(of_answer);
                    gathered.answers.extend(answer);
                }
                Err(Unanswered::Silent(why)) => silent.push((peer, why)),
                Err(Unanswered::Fault(error)) => return Err(error),
            }
        }
        let read = |(peer, why): (Peer, String)| self.read_silent(peer, why, &request, account);
        let read = join_all(silent.into_iter().map(|one| read(one).boxed()));
        let (is_shown, read) = tokio::join!(self.shown(version, SHOWN_WAIT), read);
        if !is_shown {
            gathered.lacking.push(
                "partial answer: blocks that other brokers wrote cannot be read from the store yet"
                    .to_owned(),
            );
        }
        for outcome in read {
            let (answer, lacking) = outcome?;
            gathered.answers.extend(answer);
            gathered.lacking.extend(lacking);
        }
        // Of two values with the same series and time always the same one is seen.
        gathered.answers.sort_by_key(|answer| answer.broker);
        Ok(gathered)
    }

    /// Asks the leader what was agreed upon. Yields what may lack where there is none, in words.
    async fn catch_up(&self) -> Option<String> {
        let error = self.consensus.catch_up(LEADER_WAIT).await.err()?;
        Some(format!(
            "partial answer: no leader of the cluster could be asked what other brokers acknowledged lately \
             ({error}): samples of the last moments may be missing"
        ))
    }

    /// What a broker that does not answer has, from its segments; and what lacks of it, in words.
    async fn read_silent(
        self: &Arc<Self>,
        peer: Peer,
        why: String,
        request: &FreshRequest,
        account: &Arc<Account>,
    ) -> Result<(Option<FreshAnswer>, Vec<String>), ReadError> {
        count(&self.counters.unanswered, 1);
        tracing::debug!(broker = %peer.id, why, "another broker does not answer");
        let request = FreshRequest { to: peer.id.0, ..request.clone() };
        let (answer, lacking) = self.of_segments(peer.id, &request, account).await?;
        let name = peer.name;
        let words =
            |what| format!("partial answer: broker {name} does not answer ({why}) and {what}");
        Ok((answer, lacking.into_iter().map(words).collect()))
    }

    /// Forgets brokers that the catalog does not list: their heads would stay. One that comes again is
    /// another one.
    fn forget_removed(&self, listed: &[Peer]) {
        self.known.lock().retain(|id, _| listed.iter().any(|peer| peer.id == *id));
    }

    /// All other brokers of the catalog, whatever they are doing: also one that leaves has heads.
    fn listed(&self, state: &State) -> Vec<Peer> {
        let others = state.brokers().filter(|(id, _)| *id != self.own);
        let peer = |(id, broker): (BrokerId, &catalog::Broker)| {
            let (name, address) = (broker.info.name.clone(), broker.info.address.clone());
            Peer { id, name, address }
        };
        others.map(peer).collect()
    }

    fn other(&self, id: BrokerId) -> Arc<Other> {
        Arc::clone(self.known.lock().entry(id).or_default())
    }

    /// Memory of heads that were made of segments of others.
    pub(crate) fn foreign_bytes(&self) -> usize {
        let known = self.known.lock();
        let bytes = |other: &Arc<Other>| {
            let foreign = other.foreign.try_lock();
            foreign.map_or(0, |foreign| foreign.as_ref().map_or(0, Foreign::bytes))
        };
        known.values().map(bytes).sum()
    }

    async fn ask_all(
        self: &Arc<Self>,
        peers: Vec<Peer>,
        request: &FreshRequest,
        account: &Arc<Account>,
    ) -> Vec<(Peer, Asked)> {
        let ask = |peer: Peer| async move {
            let other = self.other(peer.id);
            if let Some(why) = self.is_silent(&other, &peer) {
                return (peer, Err(Unanswered::Silent(why)));
            }
            let request = FreshRequest { to: peer.id.0, ..request.clone() };
            count(&self.counters.asked, 1);
            let answer = self.ask(&peer, request, account).await;
            if matches!(answer, Err(Unanswered::Silent(_))) {
                *other.silent.lock() = Some(Some(Instant::now() + SILENCE));
            }
            (peer, answer)
        };
        let ask = |peer| ask(peer).boxed();
        peers.into_iter().map(ask).collect::<FuturesUnordered<_>>().collect().await
    }

    /// Asks one.
    async fn ask(&self, peer: &Peer, request: FreshRequest, account: &Arc<Account>) -> Asked {
        let mut parts = self.peers.fresh(&peer.address, request);
        let mut held = account.hold(0).map_err(|error| Unanswered::Fault(error.into()))?;
        let mut bytes = Vec::new();
        let mut wait = BEGIN_WAIT;
        loop {
            let part = match timeout(wait, parts.next()).await {
                Ok(Some(Ok(part))) => part,
                Ok(Some(Err(status))) => {
                    return Err(match messages::fault_of(&status) {
                        Some(fault) => Unanswered::Fault(fault),
                        None => Unanswered::Silent(net::status_words(&status)),
                    });
                }
                Ok(None) => {
                    let why = "its answer ended in the middle".to_owned();
                    return Err(Unanswered::Silent(why));
                }
                Err(_) => {
                    let why = format!("nothing came for {} s", wait.as_secs_f64());
                    return Err(Unanswered::Silent(why));
                }
            };
            wait = PART_WAIT;
            let more = bytes.len() + part.piece.len();
            held.resize(more).map_err(|error| Unanswered::Fault(error.into()))?;
            bytes.extend_from_slice(&part.piece);
            count(&self.counters.received_bytes, part.piece.len() as u64);
            if let Some(end) = part.end {
                let (broker, deletes_through) = (peer.id, end.deletes_through);
                let answer = FreshAnswer { broker, bytes, deletes_through, held };
                return Ok((Some(answer).filter(|one| !one.bytes.is_empty()), end.version));
            }
        }
    }

    /// Whether a broker did not answer lately. One for which it is time is asked by a task of its own: it
    /// costs no query a second.
    fn is_silent(self: &Arc<Self>, other: &Arc<Other>, peer: &Peer) -> Option<String> {
        let mut silent = other.silent.lock();
        let until = (*silent)?;
        if until.is_some_and(|until| Instant::now() >= until) {
            *silent = Some(None);
            let ask = Some(Ask::Head(FreshHead { limit: 0 }));
            // One that lags would let each query wait, and answer none.
            let at_least = self.consensus.read(State::version);
            let request = FreshRequest { to: peer.id.0, tenant: NO_TENANT.0, at_least, ask };
            let parts = self.peers.fresh(&peer.address, request);
            let other = Arc::clone(other);
            tokio::spawn(async move {
                let answers = is_answer(parts).await;
                *other.silent.lock() = (!answers).then(|| Some(Instant::now() + SILENCE));
            });
        }
        Some("it did not answer lately".to_owned())
    }

    /// Waits until this broker shows everything up to a version of the catalog; false if that takes too
    /// long.
    pub(super) async fn shown(&self, version: u64, most: Duration) -> bool {
        let shown = async {
            let mut reached = self.feed.version();
            reached.wait_for(|reached| *reached >= version).await.ok()?;
            let (tell, told) = oneshot::channel();
            self.events.send(Event::Shown(tell)).ok()?;
            told.await.ok()
        };
        timeout(most, shown).await.ok().flatten().is_some()
    }

    /// Waits until this broker has applied a version of the catalog to its heads, deletes and notes of
    /// changes; false if that takes too long.
    pub(super) async fn applied(&self, version: u64, most: Duration) -> bool {
        let applied = async {
            let mut reached = self.feed.version();
            reached.wait_for(|reached| *reached >= version).await.ok()?;
            let (tell, told) = oneshot::channel();
            let tell = Box::new(move || _ = tell.send(()));
            self.events.send(Event::Then(tell)).ok()?;
            told.await.ok()
        };
        timeout(most, applied).await.ok().flatten().is_some()
    }

    /// Waits until everything that was acknowledged anywhere before now is noted as a change here; false
    /// if nobody knows.
    pub(crate) async fn has_noted_changes(&self) -> bool {
        if self.consensus.catch_up(LEADER_WAIT).await.is_err() {
            return false;
        }
        let version = self.consensus.read(State::version);
        self.applied(version, LEADER_WAIT).await
    }

    /// A name that no run has: what is kept under it is never found again.
    pub(crate) fn unknown_run(&self) -> u64 {
        let number = self.unknown_runs.fetch_add(1, Ordering::Relaxed) + 1;
        self.seed.wrapping_add(number)
    }
}

async fn is_answer(mut parts: FreshParts) -> bool {
    let end = Instant::now() + BEGIN_WAIT;
    while let Ok(Some(Ok(part))) = timeout_at(end, parts.next()).await {
        if part.end.is_some() {
            return true;
        }
    }
    false
}

pub(super) fn count(counter: &AtomicU64, by: u64) {
    counter.fetch_add(by, Ordering::Relaxed);
}
