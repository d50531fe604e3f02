//! Damaged blocks of a shared store. One broker that cannot read a block may have itself to blame; it is
//! read again from the store before the others hear of it.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use blockstore::{BlobError, BlobWriter, BlockError, BlockFormat, BlockSet, MergeInput};
use catalog::{BlockId, BlockMeta, Command};
use metricstore::{MetricBlock, MetricFormat};
use model::TimeRange;
use tokio::sync::mpsc::UnboundedSender;

use super::Work;
use super::feed::Event;
use super::leases::{Leases, NoResult};
use crate::maintenance::{Damaged, DamagedBlocks, MaintenanceCounters, Unfinished, is_damage};
use crate::shards::Shards;

/// So often it is read before it is believed to be damaged.
const READS: u32 = 3;

/// Takes blocks out that are damaged, or seem to be.
#[derive(Clone)]
pub(super) struct SettingAside {
    pub(super) blocks: Arc<BlockSet<MetricFormat>>,
    pub(super) damaged: Arc<DamagedBlocks>,
    pub(super) shards: Arc<Shards>,
    pub(super) counters: Arc<MaintenanceCounters>,
    pub(super) work: Work,
    pub(super) format: Arc<MetricFormat>,
    pub(super) leases: Leases,
    pub(super) events: UnboundedSender<Event>,
}

impl SettingAside {
    /// Takes a damaged block out, so that it is not read again here; answers are partial.
    pub(super) fn take(&self, id: BlockId) {
        let snapshot = self.blocks.snapshot();
        let Some(open) = snapshot.iter().find(|open| open.meta.id == id) else { return };
        self.counters.quarantined_blocks.fetch_add(1, Ordering::Relaxed);
        // First of all: no answer may lack the block and not say so.
        self.damaged.lock().insert(id, Damaged { meta: open.meta, left: Unfinished::Tell });
        self.blocks.swap(&[id], Vec::new());
        self.shards.changes().note_range(open.meta.range);
    }

    /// Looks at all that were taken out: those that are damaged in the store are told to all, others are
    /// shown again.
    pub(super) async fn settle(&self) {
        let found: Vec<BlockMeta> = self.damaged.lock().values().map(|one| one.meta).collect();
        for meta in found {
            // Merged, expired, or told by another: it is missed until the list without it is shown.
            if self.leases.consensus.read(|state| state.block(meta.id).is_none()) {
                continue;
            }
            match self.verify(meta).await {
                Verdict::Whole(block) => {
                    tracing::warn!(block = %meta.id, "a block that could not be read can be again");
                    // The applier knows whether it is still listed.
                    let _ = self.events.send(Event::Opened(meta, block));
                    self.damaged.lock().remove(&meta.id);
                }
                Verdict::Damaged => self.tell(meta.id).await,
                Verdict::Unknown => {}
            }
        }
    }

    async fn verify(&self, meta: BlockMeta) -> Verdict {
        for read in 1..=READS {
            let (blocks, format) = (Arc::clone(&self.blocks), Arc::clone(&self.format));
            let look = move || {
                let block = blocks.open_block(meta.id)?;
                let input = MergeInput { block: Arc::clone(&block), deletes: Vec::new() };
                let all = TimeRange::all();
                let read = format.merge(&[input], all, meta.level, &mut Nowhere(0));
                read.map(|_| block).map_err(|error| error.error)
            };
            match self.work.run(look).await {
                Ok(block) => return Verdict::Whole(block),
                Err(error) if !is_damage(&error) => return Verdict::Unknown,
                Err(error) if read == READS => {
                    tracing::error!(
                        block = %meta.id, %error,
                        "a block is damaged in the store, or gone: it is set aside for all brokers, and \
                         answers in its range are partial"
                    );
                }
                Err::<_, BlockError>(_) => {}
            }
        }
        Verdict::Damaged
    }

    async fn tell(&self, block: BlockId) {
        let Some(lease) = self.leases.take(format!("quarantine/{block}")).await else { return };
        let told = lease.propose(Command::Quarantine { block }).await;
        lease.give().await;
        match told {
            // A refusal: expired or merged meanwhile, there is nothing left to tell. It is missed until the
            // list without it is shown.
            Ok(_) | Err(NoResult::Refused(_)) => {}
            Err(error) => {
                tracing::warn!(%block, %error, "the others hear of a damaged block later");
            }
        }
    }
}

enum Verdict {
    Whole(Arc<MetricBlock>),
    Damaged,
    Unknown,
}

/// Takes bytes that nobody wants.
struct Nowhere(u64);

impl BlobWriter for Nowhere {
    fn write(&mut self, bytes: &[u8]) -> Result<(), BlobError> {
        self.0 += bytes.len() as u64;
        Ok(())
    }

    fn position(&self) -> u64 {
        self.0
    }

    fn finish(self: Box<Self>) -> Result<(), BlobError> {
        Ok(())
    }
}
