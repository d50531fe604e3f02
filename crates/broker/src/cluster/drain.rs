//! A broker leaves its cluster: takes no writes any more, makes blocks of what it has, gives back what it
//! holds, and is forgotten.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use blockstore::Disk;
use catalog::{BrokerId, BrokerState, CatalogError, Command};
use consensus::{Consensus, ProposeError, Voting};
use crossbeam_channel::bounded;
use futures_util::future::BoxFuture;
use tokio::sync::{oneshot, watch};

use super::members::ClusterMember;
use super::writer::AGREE_DEADLINE;
use crate::Broker;
use crate::commit::Message;
use crate::maintenance::Wake;

/// How long it is waited before something is tried again.
const PAUSE: Duration = Duration::from_millis(500);
/// How long the others may take to let a member go before they are asked again.
pub(super) const LEAVE_DEADLINE: Duration = Duration::from_secs(15);
/// File on a broker's own disk that says that it has left.
const LEFT: &str = "left-cluster";

/// How far a broker is on its way out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum DrainStep {
    /// It works: nobody asked it to leave.
    Serving,
    /// It refuses writes and answers those that are on their way.
    Finishing,
    /// It makes blocks of its segments.
    Flushing,
    /// Nothing is left; the others let it go.
    Leaving,
    /// It is no part of the cluster any more. The process may end.
    Left,
}

impl DrainStep {
    /// One word, lower case.
    pub fn name(self) -> &'static str {
        match self {
            DrainStep::Serving => "serving",
            DrainStep::Finishing => "finishing",
            DrainStep::Flushing => "flushing",
            DrainStep::Leaving => "leaving",
            DrainStep::Left => "left",
        }
    }
}

/// What of a broker is left to be done before it has left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DrainProgress {
    /// What it is at.
    pub step: DrainStep,
    /// Segments that are in no block yet.
    pub segments: u64,
    /// Their bytes.
    pub segment_bytes: u64,
    /// Why it does not get on, if it does not: it goes on trying.
    pub trouble: Option<String>,
}

/// The certificate by which the others know a broker, when it leaves.
pub trait Farewell: Send + Sync + 'static {
    /// Has it agreed upon that the certificate counts no more from the moment on in which the others let
    /// the broker go. May be asked again.
    fn revoke(&self) -> BoxFuture<'_, Result<()>>;

    /// Whether another broker refuses it: then the others have let this one go.
    fn is_refused(&self) -> BoxFuture<'_, bool>;
}

/// Whether, and how far, a broker is on its way out.
pub(crate) struct Draining {
    /// Shared with the queue, which refuses writes then.
    pub(super) refuses: Arc<AtomicBool>,
    progress: watch::Sender<DrainProgress>,
    farewell: OnceLock<Arc<dyn Farewell>>,
    /// What cannot be said again when the others have let this one go.
    has_said_farewell: AtomicBool,
}

impl Draining {
    pub(super) fn new(refuses: Arc<AtomicBool>) -> Self {
        let nothing = DrainProgress {
            step: DrainStep::Serving,
            segments: 0,
            segment_bytes: 0,
            trouble: None,
        };
        Draining {
            refuses,
            progress: watch::Sender::new(nothing),
            farewell: OnceLock::new(),
            has_said_farewell: AtomicBool::new(false),
        }
    }
}

/// Why a broker does not begin to leave.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DrainError {
    /// It is none of a cluster.
    #[error("this broker is alone and keeps its data itself: there is nobody to leave it to")]
    Alone,
    /// Nobody would take its place.
    #[error(
        "no other broker of the cluster is alive and takes writes: start another one before this one \
         leaves"
    )]
    Last,
    /// The others could not agree that it is gone, nor upon anything then.
    #[error(
        "without this broker {alive} of {voters} voters live, and that is no majority: start the others again, or \
         take out those that are gone for good (`watchfire drain --lost NAME`), and ask again"
    )]
    NoMajority {
        /// Voters that live, without this one.
        alive: usize,
        /// All of them.
        voters: usize,
    },
    /// The cluster does not agree now.
    #[error("{0}: whether this broker leaves is not agreed upon; ask again")]
    NotAgreed(String),
}

impl Broker {
    /// Begins to leave the cluster, or goes on with it; yields how far that is, until [`DrainStep::Left`].
    /// When the others agree that it may, writes are refused with words that name another broker as the remedy;
    /// what was acknowledged becomes blocks; reads go on until the process ends. A start in between takes the
    /// broker back in; one after it is refused, see [`left_cluster`].
    ///
    /// # Errors
    /// [`DrainError`]; it takes writes then as before.
    pub async fn drain(&self) -> Result<watch::Receiver<DrainProgress>, DrainError> {
        let clustered = self.inner.clustered.as_ref().ok_or(DrainError::Alone)?;
        let draining = &clustered.draining;
        let progress = draining.progress.subscribe();
        if progress.borrow().step != DrainStep::Serving {
            return Ok(progress);
        }
        let others = self.cluster_members();
        if !others.iter().any(|other| !other.is_own && other.is_alive && !other.is_draining) {
            return Err(DrainError::Last);
        }
        self.others_have_a_majority(&others)?;
        // Of all that are asked to leave at once the last one is refused: their order decides, not what each
        // of them sees of the others.
        match self.say_that_it_leaves().await {
            Ok(()) => {}
            Err(ProposeError::Catalog(CatalogError::LastBroker { .. })) => {
                return Err(DrainError::Last);
            }
            Err(error) => return Err(DrainError::NotAgreed(error.to_string())),
        }
        if draining.refuses.swap(true, Ordering::AcqRel) {
            return Ok(progress);
        }
        draining.progress.send_modify(|now| now.step = DrainStep::Finishing);
        let broker = self.clone();
        tokio::spawn(async move { broker.leave().await });
        Ok(progress)
    }

    /// Says by which certificate the others know this broker, so that it counts no more when it has left;
    /// once, and nothing beside a log.
    pub fn leaves_with(&self, farewell: Arc<dyn Farewell>) {
        if let Some(clustered) = &self.inner.clustered {
            let is_first = clustered.draining.farewell.set(farewell).is_ok();
            debug_assert!(is_first, "it is said once");
        }
    }

    /// Whether the others can go on without this broker's vote: else it would take no writes any more, and not
    /// get away either.
    fn others_have_a_majority(&self, members: &[ClusterMember]) -> Result<(), DrainError> {
        let (consensus, own) = self.of_cluster();
        let counted = consensus.status().members.into_iter();
        let voters: Vec<BrokerId> = counted
            .filter(|(_, (_, voting))| *voting == Voting::Voter)
            .map(|(id, _)| BrokerId(id))
            .collect();
        if !voters.contains(&own) || voters.len() == 1 {
            return Ok(());
        }
        let lives = |id: BrokerId| members.iter().any(|one| one.id == id && one.is_alive);
        let alive = voters.iter().filter(|id| **id != own && lives(**id)).count();
        let voters = voters.len() - 1;
        if 2 * alive > voters { Ok(()) } else { Err(DrainError::NoMajority { alive, voters }) }
    }

    /// How far this broker is on its way out of the cluster; `None` beside a log.
    pub fn drain_progress(&self) -> Option<DrainProgress> {
        let clustered = self.inner.clustered.as_ref()?;
        Some(clustered.draining.progress.borrow().clone())
    }

    /// Does it, however long it takes.
    async fn leave(self) {
        let steps = [DrainStep::Finishing, DrainStep::Flushing, DrainStep::Leaving];
        for step in steps {
            self.note(step, None);
            loop {
                let outcome = match step {
                    DrainStep::Finishing => self.finish_writes().await,
                    DrainStep::Flushing => self.flush_all().await,
                    _ => self.let_go().await,
                };
                match outcome {
                    Ok(()) => break,
                    Err(error) => {
                        tracing::warn!("the broker cannot leave the cluster yet: {error:#}");
                        self.note(step, Some(format!("{error:#}")));
                    }
                }
                if *self.inner.stopping.borrow() && self.inner.committer.lock().is_none() {
                    return;
                }
                tokio::time::sleep(PAUSE).await;
            }
        }
        self.note(DrainStep::Left, None);
        tracing::info!("this broker has left the cluster: the process may end");
    }

    fn note(&self, step: DrainStep, trouble: Option<String>) {
        let Some(clustered) = &self.inner.clustered else { return };
        let (segments, segment_bytes) = self.unflushed();
        let now = DrainProgress { step, segments, segment_bytes, trouble };
        clustered.draining.progress.send_replace(now);
    }

    /// Segments that are in no block, and their bytes.
    fn unflushed(&self) -> (u64, u64) {
        let Some(clustered) = &self.inner.clustered else { return (0, 0) };
        let own = clustered.members.own();
        self.inner.catalog.read(|state| {
            let segments = state.broker(own).into_iter().flat_map(|own| own.segments.values());
            segments.fold((0, 0), |(count, bytes), one| (count + 1, bytes + one.size_bytes))
        })
    }

    /// Has it agreed upon that this broker leaves.
    async fn say_that_it_leaves(&self) -> Result<(), ProposeError> {
        let (consensus, own) = self.of_cluster();
        let info = consensus.read(|state| state.broker(own).map(|own| own.info.clone()));
        let Some(mut info) = info else { return Ok(()) };
        info.state = BrokerState::Draining;
        let command = Command::SetBroker { broker: own, info: Box::new(info) };
        consensus.propose(command, AGREE_DEADLINE).await.map(|_| ())
    }

    /// Waits until everything that was taken is answered.
    async fn finish_writes(&self) -> Result<()> {
        let (consensus, own) = self.of_cluster();
        let listed = consensus.read(|state| state.broker(own).map(|own| own.info.state));
        if listed == Some(BrokerState::Active) {
            self.say_that_it_leaves().await.context("say that this broker leaves")?;
        }
        let (told, answered) = oneshot::channel();
        let done = Box::new(move || _ = told.send(()));
        if self.send(Message::Fence { done }).is_err() || answered.await.is_err() {
            bail!("the broker is stopping");
        }
        Ok(())
    }

    /// Flushes until nothing is left.
    async fn flush_all(&self) -> Result<()> {
        while self.unflushed().0 > 0 {
            self.note(DrainStep::Flushing, None);
            let (reply, answer) = bounded(1);
            if !self.inner.wake.send(Wake::Flush(reply)) {
                bail!("the broker is stopping");
            }
            // Not waited for on a thread: in a simulation there is none.
            let outcome = loop {
                match answer.try_recv() {
                    Ok(outcome) => break outcome,
                    Err(crossbeam_channel::TryRecvError::Disconnected) => {
                        bail!("the broker is stopping");
                    }
                    Err(crossbeam_channel::TryRecvError::Empty) => {
                        tokio::time::sleep(PAUSE / 10).await;
                    }
                }
            };
            outcome.map_err(anyhow::Error::msg)?;
        }
        Ok(())
    }

    /// Gives everything back that the broker holds, and is forgotten.
    async fn let_go(&self) -> Result<()> {
        let (consensus, own) = self.of_cluster();
        let clustered = self.inner.clustered.as_ref().expect("only a clustered broker leaves");
        super::duty::given_back(&consensus, own).await;
        clustered.stop_jobs();
        clustered.members.leave().await;
        // With all its leases.
        match consensus.propose(Command::RemoveBroker { broker: own }, AGREE_DEADLINE).await {
            Ok(_) | Err(ProposeError::Catalog(CatalogError::UnknownBroker { .. })) => {}
            Err(error) => {
                // It may have been agreed upon and not come here.
                if consensus.read(|state| state.broker(own).is_some()) {
                    return Err(error).context("be forgotten by the others");
                }
            }
        }
        // Before the others let it go: from then on it may lack what they agreed upon of it, and one that
        // starts would come back as a voter. A process that ends here leaves a vote behind, which
        // [`Broker::remove_lost`] takes away.
        let noted = mark_left(&*self.inner.disk, own);
        noted.context("note on the disk that this broker has left")?;
        let draining = &clustered.draining;
        let farewell = draining.farewell.get();
        if let Some(farewell) = farewell
            && !draining.has_said_farewell.load(Ordering::Acquire)
        {
            farewell.revoke().await.context("revoke the certificate of this broker")?;
            draining.has_said_farewell.store(true, Ordering::Release);
        }
        let gone = consensus.leave(LEAVE_DEADLINE).await;
        // The answer may have been cut off with the connection, and no call of this broker counts any more.
        if let (Err(_), Some(farewell)) = (&gone, farewell)
            && farewell.is_refused().await
        {
            return Ok(());
        }
        gone.context("leave those that agree")
    }

    fn of_cluster(&self) -> (Consensus, BrokerId) {
        let clustered = self.inner.clustered.as_ref().expect("only a clustered broker leaves");
        (clustered.members.consensus().clone(), clustered.members.own())
    }
}

/// Whether the broker of this disk was drained and has left its cluster, and what to do about it, in words.
/// It must not start again under the identity that it had: nobody knows it any more.
pub fn left_cluster(disk: &dyn Disk) -> Option<String> {
    disk.open(LEFT).is_ok().then(|| {
        "this broker was drained and has left its cluster. To take the machine in again, remove its data \
         directory, which holds nothing that the cluster needs, and start it with a join token"
            .to_owned()
    })
}

fn mark_left(disk: &dyn Disk, own: BrokerId) -> Result<()> {
    if left_cluster(disk).is_some() {
        return Ok(());
    }
    let mut file = disk.create(LEFT)?;
    file.append(&[own.to_string().as_bytes()])?;
    file.sync_data()?;
    disk.sync_directory("")?;
    Ok(())
}
