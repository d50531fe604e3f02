//! Segments that could not be read when everything around them was flushed: they are tried again.
//!
//! The catalog remembers them and answers say that they are missing. Its own broker tries them again when it
//! starts, but it may run for months, or never come back. So whoever is nearest to that broker does it now and
//! then, and makes blocks of those that can be read by then.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context, Result};
use blockstore::Disk;
use catalog::{BrokerId, Command, Segment, State, segment_key};
use metricstore::Registry;
use tokio::time::Instant;

use super::adoption::{LATE_CHUNK_BYTES, cut, heads};
use super::blocks::BlockWriting;
use super::leases::{Held, Leases, NoResult};
use super::members::Members;
use super::rebuild::Rebuild;
use super::signals::named;
use super::writer::AGREE_DEADLINE;
use crate::deletes::DeleteBook;
use crate::logs::LineDeleteBook;

/// Tries them again.
pub(super) struct Missing {
    pub(super) own: BrokerId,
    pub(super) members: Arc<Members>,
    pub(super) leases: Leases,
    pub(super) writing: BlockWriting,
    pub(super) disk: Arc<dyn Disk>,
    pub(super) seed: u64,
    pub(super) now_ms: fn() -> i64,
    /// How often.
    pub(super) every: Duration,
    pub(super) tried: Option<Instant>,
}

impl Missing {
    /// Tries those again that this broker is nearest to, if it is time.
    ///
    /// # Errors
    /// The store or the cluster failed, of one broker's at least: they are tried again.
    pub(super) async fn step(&mut self) -> Result<()> {
        if self.tried.is_some_and(|tried| tried.elapsed() < self.every) {
            return Ok(());
        }
        self.tried = Some(Instant::now());
        let ring = self.members.ring();
        let mut of: Vec<BrokerId> = self
            .writing
            .consensus
            .read(|state| state.unread_segments().map(|(broker, ..)| broker).collect());
        of.dedup();
        let mut outcome = Ok(());
        for broker in of.into_iter().filter(|id| ring.owner(id.0) == Some(self.own)) {
            let Some(lease) = self.leases.take(format!("unread/{broker}")).await else { continue };
            let tried = lease.keep(self.try_all(&lease, broker)).await;
            lease.give().await;
            let tried = tried.with_context(|| format!("read what is missing of broker {broker}"));
            outcome = outcome.and(tried);
        }
        outcome
    }

    async fn try_all(&self, lease: &Held, broker: BrokerId) -> Result<()> {
        let consensus = &self.writing.consensus;
        consensus.catch_up(AGREE_DEADLINE).await.context("look at the catalog of now")?;
        let mut behind = None;
        loop {
            let state = consensus.read(State::clone);
            let chunk = next_chunk(&state, broker, behind);
            let Some((last, _)) = chunk.last_key_value() else { return Ok(()) };
            behind = Some(*last);
            self.flush(lease, broker, &state, chunk).await?;
        }
    }

    /// Makes blocks of those that can be read.
    async fn flush(
        &self,
        lease: &Held,
        broker: BrokerId,
        state: &State,
        segments: BTreeMap<u64, Segment>,
    ) -> Result<()> {
        let registry = Arc::new(Registry::new(self.seed));
        let deletes = DeleteBook::load(state)?;
        let deletes_through = state.last_delete();
        let now = (deletes.current().0, LineDeleteBook::load(state)?.current().0);
        let visible = heads(&*self.disk, deletes, self.seed)?;
        let rebuild = Rebuild {
            broker,
            store: &self.writing.store,
            work: self.writing.work,
            registry: &registry,
            visible: &visible,
            now_ms: (self.now_ms)(),
        };
        let tombstones: Vec<_> = state.tombstones().cloned().collect();
        let (mut passed, mut seqs, mut keys) = (0, Vec::new(), Vec::new());
        for (seq, segment) in segments {
            // What a newer program wrote is one of those that cannot be read, here.
            let Ok(batches) = rebuild.read(seq, &segment).await else { continue };
            rebuild.pass_deletes(&tombstones, &mut passed, segment.deletes_through);
            batches.into_iter().for_each(|rows| visible.bring_back(rows));
            keys.push(segment_key(broker, segment.epoch, seq));
            seqs.push(seq);
        }
        if seqs.is_empty() {
            return Ok(());
        }
        rebuild.pass_deletes(&tombstones, &mut passed, deletes_through);
        visible.settle();
        let frozen = self.writing.work.run(move || cut(&visible)).await;
        let (samples, _) = frozen.rows();
        let added = self.writing.write_frozen(frozen, now, deletes_through, &registry).await?;
        let blocks = named(&added);
        let segments = seqs.len();
        match lease.propose(Command::FlushUnread { broker, seqs, added, deletes_through }).await {
            Ok(_) => {}
            Err(error @ NoResult::Refused(_)) => {
                // Its own broker was faster, perhaps.
                self.writing.discard(blocks);
                return Err(error.into());
            }
            Err(error @ NoResult::Doubtful(_)) => {
                self.writing.forget(&blocks);
                return Err(error.into());
            }
        }
        tracing::info!(%broker, segments, "segments that were missing can be read again");
        self.writing.remove_later(keys);
        self.writing.counters.flushed_samples.fetch_add(samples, Ordering::Relaxed);
        Ok(())
    }
}

/// The next of them, behind a number.
fn next_chunk(state: &State, broker: BrokerId, behind: Option<u64>) -> BTreeMap<u64, Segment> {
    let mut bytes = 0;
    let of = state.unread_segments().filter(|(of, ..)| *of == broker);
    let rest = of.filter(|(_, seq, _)| behind.is_none_or(|behind| *seq > behind));
    rest.take_while(|(_, _, segment)| {
        let is_first = bytes == 0;
        bytes += segment.size_bytes;
        is_first || bytes <= LATE_CHUNK_BYTES
    })
    .map(|(_, seq, segment)| (seq, segment.clone()))
    .collect()
}
