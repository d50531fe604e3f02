//! Heads → blocks in the shared store, and what else a clustered broker does for itself now and then.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Result, anyhow};
use catalog::{BrokerId, CatalogError, Command, NewBlock, segment_key};
use consensus::{Consensus, ProposeError};
use crossbeam_channel::Receiver;
use governor::Governor;
use metricstore::{CutData, Registry};
use parking_lot::{Mutex, RwLock};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, WeakUnboundedSender};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::Work;
use super::applier::Flushed;
use super::blocks::BlockWriting;
use super::feed::Event;
use super::signals::{Frozen, named};
use super::writer::AGREE_DEADLINE;
use crate::commit::Message;
use crate::deletes::Done;
use crate::live::LiveHub;
use crate::logs::FrozenHead;
use crate::maintenance::{MaintenanceCounters, Wake, flush_head_bytes, idle_ms, lines_want_flush};
use crate::shards::receive;
use crate::visible::Visible;

/// How often it is looked whether something is due.
const TICK: Duration = Duration::from_secs(1);
/// After a failure nothing is tried again for this long.
const RETRY: Duration = Duration::from_secs(10);
/// How often idle series are looked for.
const SWEEP: Duration = Duration::from_secs(60);

/// A point in the order of the catalog and the rows that lie before it and are in no block yet.
pub(super) struct Cut {
    /// All segments of this broker below are in the parts or in blocks.
    pub(super) through: u64,
    /// The last delete before it.
    pub(super) deletes_through: u64,
    /// Where to wait for each shard's parts.
    pub(super) parts: Vec<Receiver<Vec<CutData>>>,
    /// Where to wait for lines, also for those that earlier cuts froze.
    pub(super) lines: Receiver<Vec<Arc<FrozenHead>>>,
}

/// Why a flush does not count, or may not.
struct NotAgreed {
    error: ProposeError,
    /// It may count all the same: its blocks must stay.
    is_in_doubt: bool,
}

/// What flushes, of one broker.
pub(super) struct Upkeep {
    pub(super) broker: BrokerId,
    pub(super) epoch: u64,
    pub(super) now_ms: fn() -> i64,
    pub(super) consensus: Consensus,
    pub(super) writing: BlockWriting,
    pub(super) work: Work,
    pub(super) events: UnboundedSender<Event>,
    /// Its own sender would keep the collector from its end.
    pub(super) messages: WeakUnboundedSender<Message>,
    pub(super) registry: Arc<Registry>,
    pub(super) visible: Visible,
    pub(super) live: Arc<LiveHub>,
    pub(super) resolving: Arc<RwLock<()>>,
    /// What is asked of the background jobs.
    pub(super) cleanings: UnboundedSender<Done>,
    pub(super) flushed: Arc<Mutex<Flushed>>,
    pub(super) governor: Arc<Governor>,
    pub(super) counters: Arc<MaintenanceCounters>,
    pub(super) flush_interval: Duration,
    pub(super) flush_bytes: u64,
    pub(super) idle_series_ms: i64,
    /// Frozen rows of flushes that failed: they go with the next.
    pub(super) pending: Vec<CutData>,
    /// Segments that the start could not read. They stay in the store and in the catalog: a later start
    /// tries them again.
    pub(super) unreadable: BTreeSet<u64>,
}

impl Upkeep {
    /// Works until told to stop.
    pub(super) async fn run(mut self, mut woken: UnboundedReceiver<Wake>) {
        let mut flushed_at = Instant::now();
        let mut not_before = flushed_at;
        let mut swept_at = flushed_at;
        loop {
            match tokio::time::timeout(TICK.min(self.flush_interval), woken.recv()).await {
                Ok(None | Some(Wake::Stop)) => return,
                Ok(Some(Wake::Damaged(_))) => unreachable!("taken out at once, without this task"),
                Ok(Some(Wake::Flush(reply))) => {
                    let outcome = self.flush().await.map_err(|error| format!("{error:#}"));
                    let _ = reply.send(outcome);
                }
                Ok(Some(Wake::CleanDeleted(reply))) => self.clean_deleted(reply).await,
                Ok(Some(Wake::Snapshot { reply, .. })) => {
                    let why =
                        "a clustered broker keeps nothing that could be copied: copy the store";
                    let _ = reply.send(Err(why.to_owned()));
                }
                Err(_) => {}
            }
            let is_late = flushed_at.elapsed() >= self.flush_interval;
            if Instant::now() >= not_before && self.flush_is_due(is_late) {
                flushed_at = Instant::now();
                if let Err(error) = self.flush().await {
                    self.counters.flush_failures.fetch_add(1, Ordering::Relaxed);
                    tracing::warn!("flush failed and is tried again; nothing is lost: {error:#}");
                    not_before = Instant::now() + RETRY;
                }
            }
            if swept_at.elapsed() >= SWEEP {
                swept_at = Instant::now();
                self.release_idle_series().await;
            }
        }
    }

    fn flush_is_due(&self, is_late: bool) -> bool {
        let sizes = |state: &catalog::State| {
            let own = state.broker(self.broker);
            own.map_or(0, |own| own.segments.values().map(|segment| segment.size_bytes).sum())
        };
        let unflushed: u64 = self.consensus.read(sizes);
        self.visible.counters.unflushed_bytes.store(unflushed, Ordering::Relaxed);
        (is_late && unflushed > 0)
            || self.has_left_out()
            || unflushed >= self.flush_bytes
            || self.visible.head_bytes() >= flush_head_bytes(&self.governor)
            || lines_want_flush(self.visible.lines.heads.totals().bytes, || {
                self.registry.all_series()
            })
    }

    /// Whether only this broker knows that some segments are missing: when they are flushed past, all do.
    fn has_left_out(&self) -> bool {
        let Some(least) = self.unreadable.first() else { return false };
        let is_listed = |state: &catalog::State| {
            let own = state.broker(self.broker).map(|own| own.segments.range(least..));
            own.into_iter().flatten().any(|(seq, _)| self.unreadable.contains(seq))
        };
        self.consensus.read(is_listed)
    }

    /// Writes what is in the heads into blocks. A crash anywhere leaves either the segments or the
    /// blocks in charge, never both and never none.
    ///
    /// # Errors
    /// The store or the consensus failed; what was frozen goes with the next flush.
    pub(super) async fn flush(&mut self) -> Result<()> {
        let started = Instant::now();
        let (reply, cut) = oneshot::channel();
        let stopping = || anyhow!("the broker is stopping");
        self.events.send(Event::Cut(reply)).map_err(|_| stopping())?;
        let Cut { through, deletes_through, parts, lines } = cut.await.map_err(|_| stopping())?;
        let wait = move || (parts.iter().flat_map(receive).collect::<Vec<_>>(), receive(&lines));
        let (parts, lines) = self.work.run(wait).await;
        self.pending.extend(parts);
        let frozen = Frozen { samples: self.pending.clone(), lines };
        let (samples, rows_of_lines) = frozen.rows();
        let flushed_through =
            |state: &catalog::State| state.broker(self.broker).map_or(0, |own| own.flushed_through);
        if self.consensus.read(flushed_through) == through {
            return Ok(());
        }
        let keys = self.segments_below(through);
        let deletes = (self.visible.deletes.current().0, self.visible.lines.deletes.current().0);
        let writing =
            self.writing.write_frozen(frozen.clone(), deletes, deletes_through, &self.registry);
        let added = writing.await?;
        let blocks = named(&added);
        self.flushed.lock().cuts = Some((through, frozen));
        if let Err(failed) = self.agree(through, deletes_through, &added).await {
            self.flushed.lock().cuts = None;
            match failed.is_in_doubt {
                true => self.writing.forget(&blocks),
                false => self.writing.discard(blocks),
            }
            return Err(failed.error.into());
        }
        // Until queries find them in blocks.
        let (told, seen) = oneshot::channel();
        self.events.send(Event::Shown(told)).map_err(|_| stopping())?;
        seen.await.map_err(|_| stopping())?;
        // What is in blocks now makes no other flush due: the head of lines has dropped it.
        let (told, dropped) = oneshot::channel();
        self.visible.lines.heads.after_all(Box::new(move || _ = told.send(())));
        dropped.await.map_err(|_| stopping())?;
        self.pending.clear();
        self.writing.remove_later(keys);
        let micros = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
        for (counter, by) in [
            (&self.counters.flushes, 1),
            (&self.counters.flushed_samples, samples),
            (&self.visible.lines.counters.flushed_lines, rows_of_lines),
            (&self.counters.flush_micros, micros),
        ] {
            counter.fetch_add(by, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Keys of the segments that a flush makes superfluous.
    fn segments_below(&self, through: u64) -> Vec<String> {
        self.consensus.read(|state| {
            let own = state.broker(self.broker).map(|own| own.segments.range(..through));
            let own = own.into_iter().flatten().map(|(seq, segment)| (*seq, segment));
            // An earlier start could not read these.
            let late = state.unread_segments().filter(|(broker, ..)| *broker == self.broker);
            own.chain(late.map(|(_, seq, segment)| (seq, segment)))
                .filter(|(seq, _)| !self.unreadable.contains(seq))
                .map(|(seq, segment)| segment_key(self.broker, segment.epoch, seq))
                .collect()
        })
    }

    /// Flushes, then hands it to the jobs. What other brokers have in no block yet is cleaned when they
    /// flush.
    async fn clean_deleted(&mut self, reply: Done) {
        let outcome = self.flush().await.map_err(|error| format!("{error:#}"));
        match outcome {
            Ok(()) => {
                if let Err(refused) = self.cleanings.send(reply) {
                    let _ = refused.0.send(Err("the broker leaves the cluster".to_owned()));
                }
            }
            // They may have gone meanwhile.
            Err(why) => _ = reply.send(Err(why)),
        }
    }

    /// Says that everything below a segment is in blocks. Returns when that is known to be so, or not.
    async fn agree(
        &self,
        through: u64,
        deletes_through: u64,
        added: &[NewBlock],
    ) -> Result<(), NotAgreed> {
        let (broker, epoch, added) = (self.broker, self.epoch, added.to_vec());
        let unread = self.unreadable.range(..through).copied().collect();
        let command = Command::FlushLog { broker, epoch, through, added, deletes_through, unread };
        let mut is_in_doubt = false;
        loop {
            match self.consensus.propose(command.clone(), AGREE_DEADLINE).await {
                Ok(_) => return Ok(()),
                // An earlier attempt was applied, and the blocks may have been merged since.
                Err(ProposeError::Catalog(CatalogError::StaleSegment { least, .. }))
                    if is_in_doubt && least >= through =>
                {
                    return Ok(());
                }
                Err(error @ (ProposeError::Catalog(_) | ProposeError::Stopping)) => {
                    let is_in_doubt = is_in_doubt || matches!(error, ProposeError::Stopping);
                    return Err(NotAgreed { error, is_in_doubt });
                }
                Err(error @ ProposeError::NoLeader(_)) if !is_in_doubt => {
                    return Err(NotAgreed { error, is_in_doubt });
                }
                Err(error @ (ProposeError::Unknown(_) | ProposeError::NoLeader(_))) => {
                    is_in_doubt = true;
                    tracing::warn!(%error, "it is not known whether a flush counts: asking again");
                }
            }
        }
    }

    /// As of the maintenance beside a log, see there.
    async fn release_idle_series(&self) {
        let now_ms = (self.now_ms)();
        let idle_ms = idle_ms(&self.governor, self.idle_series_ms);
        if self.registry.idle(now_ms, idle_ms).is_empty() {
            return;
        }
        let _releasing = self.registry.begin_release(now_ms);
        drop(self.resolving.write());
        let (reply, told) = oneshot::channel();
        let done = Box::new(move || _ = reply.send(()));
        let Some(messages) = self.messages.upgrade() else { return };
        let is_sent = messages.send(Message::Fence { done }).is_ok();
        drop(messages);
        if !is_sent || told.await.is_err() {
            return;
        }
        let (registry, shards) = (Arc::clone(&self.registry), Arc::clone(&self.visible.shards));
        let live = Arc::clone(&self.live);
        let released = self.work.run(move || {
            let empty = shards.without_samples(&registry.idle(now_ms, idle_ms));
            live.forget(&empty);
            registry.release(&empty, now_ms, idle_ms)
        });
        count(&self.counters.released_series, released.await as u64);
    }
}

fn count(counter: &AtomicU64, by: u64) {
    counter.fetch_add(by, Ordering::Relaxed);
}
