//! Objects in the shared store that nothing refers to: writes that arrived late, blocks of flushes and
//! merges that never counted, what somebody was about to remove when it ended.
//!
//! An object goes if the catalog cannot come to refer to it any more, and if it was so for long, as
//! one broker saw it: queries may still read what was referred to a moment ago. A block cannot when its id
//! was [retired](catalog::Command::RetireBlocks); a segment cannot when its broker, epoch or number is past.
//! Nothing else is touched, whatever its name.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context, Result};
use blockstore::SegmentName;
use catalog::{BlockId, BrokerId, Command, State};
use tokio::time::Instant;

use super::blocks::BlockWriting;
use super::leases::{Held, Leases};
use super::members::Members;
use super::metrics::ClusterCounters;
use super::store;
use super::writer::AGREE_DEADLINE;

/// Keys that are looked up at once, while nothing can be agreed upon.
const AT_ONCE: usize = 1_000;
/// Objects that go in one round.
const MAX_REMOVED: usize = 10_000;
/// Place of the job on the circle.
const PLACE: u64 = 0x006f_7270_6861_6e73;

/// Looks for them.
pub(super) struct Orphans {
    pub(super) own: BrokerId,
    pub(super) members: Arc<Members>,
    pub(super) leases: Leases,
    pub(super) writing: BlockWriting,
    pub(super) cluster: Arc<ClusterCounters>,
    /// For how long nothing must have referred to them.
    pub(super) age: Duration,
    /// When this broker first saw that nothing refers to a key.
    pub(super) seen: BTreeMap<String, Instant>,
    /// Which ids were handed out, and when that was noted.
    pub(super) handed_out: VecDeque<(Instant, BlockId)>,
    pub(super) looked: Option<Instant>,
}

impl Orphans {
    /// Looks, if it is time and this broker is nearest to it.
    ///
    /// # Errors
    /// The store or the cluster failed: it is tried again.
    pub(super) async fn step(&mut self) -> Result<()> {
        if self.looked.is_some_and(|looked| looked.elapsed() < self.age / 6) {
            return Ok(());
        }
        if self.members.ring().owner(PLACE) != Some(self.own) {
            self.seen.clear();
            self.handed_out.clear();
            return Ok(());
        }
        let Some(lease) = self.leases.take("orphans".to_owned()).await else { return Ok(()) };
        self.looked = Some(Instant::now());
        let outcome = lease.keep(self.look(&lease)).await;
        lease.give().await;
        outcome
    }

    async fn look(&mut self, lease: &Held) -> Result<()> {
        let consensus = self.writing.consensus.clone();
        consensus.catch_up(AGREE_DEADLINE).await.context("look at the catalog of now")?;
        let (next, retired) = consensus.read(|state| (state.next_block(), state.retired_below()));
        let now = Instant::now();
        self.handed_out.push_back((now, next));
        let mut below = None;
        while self.handed_out.front().is_some_and(|(at, _)| now - *at >= self.age) {
            below = self.handed_out.pop_front().map(|(_, id)| id);
        }
        if let Some(below) = below.filter(|below| *below > retired) {
            lease.propose(Command::RetireBlocks { below }).await.context("retire ids of blocks")?;
        }
        let mut orphans = Vec::new();
        let mut bytes = 0;
        for prefix in ["segments/", "blocks/"] {
            let listed = store::list(&*self.writing.store, prefix).await?;
            for objects in listed.chunks(AT_ONCE) {
                consensus.read(|state| {
                    let nobodys = objects.iter().filter(|object| is_orphan(state, &object.key));
                    bytes += nobodys.clone().map(|object| object.size_bytes).sum::<u64>();
                    orphans.extend(nobodys.map(|object| object.key.clone()));
                });
            }
        }
        self.cluster.orphans.store(orphans.len() as u64, Ordering::Relaxed);
        self.cluster.orphan_bytes.store(bytes, Ordering::Relaxed);
        let mut seen = std::mem::take(&mut self.seen);
        let since = |key: String| (seen.remove(&key).unwrap_or(now), key);
        let orphans: Vec<(Instant, String)> = orphans.into_iter().map(since).collect();
        let (old, young): (Vec<_>, Vec<_>) =
            orphans.into_iter().partition(|(since, _)| now - *since >= self.age);
        self.seen = young.into_iter().map(|(since, key)| (key, since)).collect();
        let keys: Vec<String> = old.into_iter().map(|(_, key)| key).take(MAX_REMOVED).collect();
        if !keys.is_empty() {
            tracing::info!(objects = keys.len(), "objects that nothing refers to are removed");
            ClusterCounters::count(&self.cluster.orphans_removed, keys.len() as u64);
            store::delete_all(Arc::clone(&self.writing.store), keys).await;
        }
        Ok(())
    }
}

/// Whether the catalog neither refers to an object nor can come to.
fn is_orphan(state: &State, key: &str) -> bool {
    if let Some((id, _)) = BlockId::of_any_key(key) {
        return id < state.retired_below() && !state.knows_block(id);
    }
    match SegmentName::of_key(key) {
        Some(SegmentName { broker, epoch, seq }) => state.is_orphaned_segment(broker, epoch, seq),
        None => false,
    }
}
