//! What a dead broker left: its segments become blocks by another one's work.
//!
//! Who does it begins the next epoch of the dead broker's log first. From then on nobody else can add to
//! it or flush it, the dead one included: if it comes back it begins an epoch of its own, which refuses what
//! is not agreed upon here by then, and reads from the catalog what is left for it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use blockstore::Disk;
use catalog::{BrokerId, Command, LogPosition, Outcome, State, segment_key};
use metricstore::{CutData, FlushPlan, Registry};

use super::blocks::BlockWriting;
use super::leases::{Held, Leases, NoResult};
use super::members::Members;
use super::metrics::ClusterCounters;
use super::rebuild::Rebuild;
use super::writer::AGREE_DEADLINE;
use crate::deletes::DeleteBook;
use crate::exemplars::ExemplarBook;
use crate::recovery::Recovered;
use crate::shards::{Shards, receive};
use crate::visible::{CommitCounters, Visible};

/// Bytes of segments that are made blocks at once: they lie in memory beside the broker's own.
const CHUNK_BYTES: u64 = 32 << 20;
/// So often a segment that cannot be read is tried before it is passed over.
const TRIES: u32 = 5;

/// Takes over what dead brokers left.
pub(super) struct Adoption {
    pub(super) own: BrokerId,
    pub(super) members: Arc<Members>,
    pub(super) leases: Leases,
    pub(super) writing: BlockWriting,
    pub(super) cluster: Arc<ClusterCounters>,
    pub(super) disk: Arc<dyn Disk>,
    pub(super) seed: u64,
    pub(super) now_ms: fn() -> i64,
    /// A broker that is silent for so long is taken for dead.
    pub(super) after: Duration,
    /// How often segments could not be read.
    pub(super) unreadable: BTreeMap<(BrokerId, u64), u32>,
}

impl Adoption {
    /// Takes over what one dead broker left, if there is one that this broker is nearest to.
    ///
    /// # Errors
    /// The store or the cluster failed: it is tried again.
    pub(super) async fn step(&mut self) -> Result<()> {
        let ring = self.members.ring();
        let is_mine = |id: BrokerId| ring.owner(id.0) == Some(self.own);
        let dead: Vec<BrokerId> =
            self.dead().into_iter().filter(|id| *id != self.own && is_mine(*id)).collect();
        for id in dead {
            let Some(lease) = self.leases.take(format!("adopt/{id}")).await else { continue };
            let outcome = lease.keep(self.adopt(&lease, id)).await;
            lease.give().await;
            outcome.with_context(|| format!("take over what broker {id} left"))?;
        }
        Ok(())
    }

    /// Brokers that are silent for long and have segments that are in no block.
    fn dead(&self) -> Vec<BrokerId> {
        self.members.silent_for(self.after, |broker| !broker.segments.is_empty())
    }

    async fn adopt(&mut self, lease: &Held, id: BrokerId) -> Result<()> {
        let consensus = self.writing.consensus.clone();
        // One that was cut off hears of everybody's signs of life before it takes anything over.
        consensus.catch_up(AGREE_DEADLINE).await.context("look at the catalog of now")?;
        if !self.dead().contains(&id) {
            return Ok(());
        }
        let begun = lease.propose(Command::BeginLog { broker: id }).await?;
        let Outcome::Epoch(epoch) = begun else {
            unreachable!("a log that begins is answered with its epoch, not {begun:?}")
        };
        tracing::warn!(broker = %id, epoch, "a broker is dead: its segments are made blocks here");
        loop {
            // Nobody but us can change what is there of it, unless it comes back.
            let state = consensus.read(State::clone);
            let Some(through) = next_chunk(&state, id) else { return Ok(()) };
            self.flush(lease, id, epoch, &state, through).await?;
        }
    }

    /// Makes segments below a number blocks.
    async fn flush(
        &mut self,
        lease: &Held,
        broker: BrokerId,
        epoch: u64,
        state: &State,
        through: u64,
    ) -> Result<()> {
        let registry = Arc::new(Registry::new(self.seed));
        let deletes = DeleteBook::load(state)?;
        let deletes_through = state.last_delete();
        let now = deletes.current().0.through(deletes_through);
        let visible = heads(&*self.disk, deletes)?;
        let rebuild = Rebuild {
            broker,
            store: &self.writing.store,
            work: self.writing.work,
            registry: &registry,
            visible: &visible,
            now_ms: (self.now_ms)(),
        };
        let left_out = rebuild.run(state, through, &mut Recovered::default()).await?;
        let listed = state.broker(broker).into_iter().flat_map(|own| own.segments.range(..through));
        let listed: Vec<(u64, u64)> = listed.map(|(seq, segment)| (*seq, segment.epoch)).collect();
        for (seq, _) in listed.iter().filter(|(seq, _)| left_out.unread.contains(seq)) {
            let tries = self.unreadable.entry((broker, *seq)).or_default();
            *tries += 1;
            if *tries < TRIES {
                bail!("segment {seq} cannot be read now: it is tried again before it is left out");
            }
        }
        if left_out.is_all && self.writing.blocks.snapshot().is_empty() {
            bail!("none of its segments is in the store, and no block: it is another store");
        }
        // Those that were left out before, too.
        let late = state.unread_segments().filter(|(of, ..)| *of == broker);
        let late = late.map(|(_, seq, segment)| (seq, segment.epoch));
        let read = listed.iter().copied().chain(late);
        let read = read.filter(|(seq, _)| !left_out.unread.contains(seq));
        let keys: Vec<String> = read.map(|(seq, epoch)| segment_key(broker, epoch, seq)).collect();
        let cuts = self.writing.work.run(move || cut(&visible)).await;
        let samples: u64 = cuts.iter().map(CutData::rows).sum();
        let added = match samples {
            0 => Vec::new(),
            _ => {
                let of = Arc::clone(&registry);
                let plan = self.writing.work.run(move || FlushPlan::new(cuts, &now, &of)).await;
                self.writing.write_plan(plan, &registry).await?
            }
        };
        let ids = added.iter().map(|new| new.id).collect();
        let segments = keys.len() as u64;
        let unread = left_out.unread.into_iter().collect();
        let command = Command::FlushLog { broker, epoch, through, added, deletes_through, unread };
        match lease.propose(command).await {
            Ok(_) => {}
            Err(error @ NoResult::Refused(_)) => {
                self.writing.discard(ids);
                return Err(error.into());
            }
            Err(error @ NoResult::Doubtful(_)) => {
                self.writing.forget(&ids);
                return Err(error.into());
            }
        }
        self.unreadable.retain(|(of, seq), _| *of != broker || *seq >= through);
        self.writing.remove_later(keys);
        ClusterCounters::count(&self.cluster.adopted_segments, segments);
        self.writing.counters.flushed_samples.fetch_add(samples, Ordering::Relaxed);
        Ok(())
    }
}

/// The number below which segments are taken next; `None` if there are none.
fn next_chunk(state: &State, id: BrokerId) -> Option<u64> {
    let mut bytes = 0;
    let mut through = None;
    for (seq, segment) in &state.broker(id)?.segments {
        bytes += segment.size_bytes;
        if through.is_some() && bytes > CHUNK_BYTES {
            break;
        }
        through = Some(seq + 1);
    }
    through
}

/// Heads of their own, without exemplars: those are forgotten with the broker.
fn heads(disk: &dyn Disk, deletes: DeleteBook) -> Result<Visible> {
    const SHARDS: usize = 1;
    let exemplars = ExemplarBook::open(disk, LogPosition::default(), false, 0, 0)?;
    Ok(Visible {
        shards: Arc::new(Shards::inline(SHARDS)),
        exemplars: Arc::new(exemplars),
        deletes: Arc::new(deletes),
        counters: Arc::new(CommitCounters::default()),
    })
}

fn cut(visible: &Visible) -> Vec<CutData> {
    visible.shards.start_cut().iter().flat_map(receive).collect()
}
