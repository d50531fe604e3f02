//! Damaged blocks of a shared store.
//!
//! One broker that cannot read a block may have itself to blame, or a store that is in trouble for some
//! minutes: it leaves the block out, and says so in its answers. Then it reads the block again as the store
//! has it. Only what fails so for long is set aside for all brokers; and what was is read now and then, so
//! that an object that somebody restores comes back.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use blockstore::{BlobError, BlobWriter, BlockError, BlockFormat, BlockSet, MergeInput};
use catalog::{BlockId, BlockMeta, BrokerId, Command, Signal};
use logstore::LogFormat;
use metricstore::MetricFormat;
use model::TimeRange;
use tokio::sync::Notify;
use tokio::sync::mpsc::UnboundedSender;
use tokio::time::Instant;

use super::Work;
use super::feed::Event;
use super::leases::{Leases, NoResult};
use super::members::Members;
use super::signals::BlockSets;
use crate::maintenance::{Damaged, DamagedBlocks, MaintenanceCounters, Unfinished, is_damage};
use crate::shards::Shards;

/// So often a block is read from the store, at the least, before it is set aside for all.
const LOOKS: u32 = 3;
/// A store that gave no answer is asked again after this long, or sooner.
const RETRY: Duration = Duration::from_secs(30);
/// Place on the circle of who looks whether blocks that were set aside are whole again.
const PLACE: u64 = 0x7265_7374_6f72_6564;

/// Takes blocks out that are damaged, or seem to be.
#[derive(Clone)]
pub(super) struct SettingAside {
    pub(super) blocks: BlockSets,
    pub(super) damaged: Arc<DamagedBlocks>,
    pub(super) shards: Arc<Shards>,
    pub(super) counters: Arc<MaintenanceCounters>,
    pub(super) events: UnboundedSender<Event>,
    /// Told of each that is taken out.
    pub(super) taken: Arc<Notify>,
}

impl SettingAside {
    /// Takes a damaged block out, so that it is not read again here; answers are partial.
    pub(super) fn take(&self, id: BlockId) {
        let Some(meta) = self.blocks.meta(id) else { return };
        self.counters.quarantined_blocks.fetch_add(1, Ordering::Relaxed);
        {
            // First of all: no answer may lack the block and not say so. The applier shows it again, and
            // misses it no more, while this is locked.
            let mut damaged = self.damaged.lock();
            damaged.insert(id, Damaged { meta, left: Unfinished::Tell });
            self.blocks.swap(&[id], Vec::new());
        }
        if meta.signal == Signal::Metrics {
            self.shards.changes().note_range(meta.range);
        }
        self.taken.notify_one();
    }
}

/// Looks after what was taken out.
pub(super) struct Mending {
    pub(super) own: BrokerId,
    pub(super) members: Arc<Members>,
    pub(super) leases: Leases,
    pub(super) work: Work,
    pub(super) format: Arc<MetricFormat>,
    pub(super) log_format: LogFormat,
    pub(super) aside: SettingAside,
    /// How often it is looked whether something is due.
    pub(super) every: Duration,
    /// A block that cannot be read for so long is set aside for all.
    pub(super) after: Duration,
    pub(super) looks: BTreeMap<BlockId, Looks>,
}

/// How often a block was read from the store, and with which success.
#[derive(Debug, Clone, Copy)]
pub(super) struct Looks {
    /// When it was found damaged there first.
    since: Instant,
    /// How often it was since then.
    failed: u32,
    /// Not before then it is read again.
    next: Instant,
}

impl Mending {
    /// Works until it is aborted.
    pub(super) async fn run(mut self) {
        let mut restored = Instant::now();
        loop {
            let taken = Arc::clone(&self.aside.taken);
            let _ = tokio::time::timeout(self.every, taken.notified()).await;
            self.settle().await;
            if restored.elapsed() >= self.after {
                self.restore().await;
                restored = Instant::now();
            }
        }
    }

    /// Looks at those that were taken out and whose turn it is: those that are damaged in the store for long
    /// are told to all, others are shown again.
    async fn settle(&mut self) {
        let is_due = |one: &Damaged| one.left != Unfinished::Open;
        let damaged = Arc::clone(&self.aside.damaged);
        let found: Vec<BlockMeta> =
            damaged.lock().values().filter(|one| is_due(one)).map(|one| one.meta).collect();
        let now = Instant::now();
        self.looks.retain(|id, looks| now < looks.next || found.iter().any(|meta| meta.id == *id));
        for meta in found {
            let id = meta.id;
            if self.looks.get(&id).is_some_and(|looks| Instant::now() < looks.next) {
                continue;
            }
            // It may have been shown while the one before was read; one that was merged, expired or told by
            // another is missed until the list without it is shown.
            let is_missed = damaged.lock().get(&id).is_some_and(is_due);
            if !is_missed || self.leases.consensus.read(|state| state.block(id).is_none()) {
                continue;
            }
            let verdict = self.verify(meta).await;
            let now = Instant::now();
            let first = Looks { since: now, failed: 0, next: now };
            let looks = self.looks.entry(id).or_insert(first);
            // Between the first look and the last of them lies what is asked for.
            looks.next = now + self.after / LOOKS;
            match verdict {
                Verdict::Whole => {
                    tracing::warn!(block = %id, "a block that could not be read can be again");
                    (looks.since, looks.failed) = (now, 0);
                    self.show(meta).await;
                }
                Verdict::Damaged(error) => {
                    if looks.failed == 0 {
                        looks.since = now;
                    }
                    looks.failed += 1;
                    let looks = *looks;
                    if looks.failed < LOOKS || now < looks.since + self.after {
                        tracing::warn!(
                            block = %id, %error, looks = looks.failed,
                            "a block is damaged in the store, or gone: answers of this broker in its range \
                             are partial, and it is read again before it is set aside for all"
                        );
                        continue;
                    }
                    tracing::error!(
                        block = %id, %error, looks = looks.failed,
                        "a block is damaged in the store, or gone: it is set aside for all brokers, and \
                         answers in its range are partial; restore the object from a backup of the store \
                         if you have one"
                    );
                    self.tell(Command::Quarantine { block: id }, id).await;
                }
                Verdict::Unknown(error) => {
                    tracing::warn!(block = %id, %error, "a block cannot be read for now");
                    looks.next = now + RETRY.min(self.after / LOOKS);
                }
            }
        }
    }

    /// Lists blocks again that were set aside for all and are whole by now.
    async fn restore(&mut self) {
        let quarantined: Vec<BlockMeta> =
            self.leases.consensus.read(|state| state.quarantined().copied().collect());
        for meta in quarantined {
            if self.members.ring().owner(PLACE) != Some(self.own) {
                return;
            }
            if let Verdict::Whole = self.verify(meta).await {
                tracing::warn!(block = %meta.id, "a block that was set aside is whole: it is listed again");
                self.forget_copies(&meta);
                self.tell(Command::Restore { block: meta.id }, meta.id).await;
            }
        }
    }

    /// Reads all of a block as the store has it.
    async fn verify(&self, meta: BlockMeta) -> Verdict {
        let (blocks, format) = (self.aside.blocks.clone(), Arc::clone(&self.format));
        let log_format = self.log_format.clone();
        let look = move || match meta.signal {
            Signal::Metrics => read_all(&blocks.samples, &*format, &meta),
            Signal::Logs => read_all(&blocks.lines, &log_format, &meta),
        };
        match self.work.run(look).await {
            Ok(()) => Verdict::Whole,
            Err(error) if is_damage(&error) => Verdict::Damaged(error),
            Err(error) => Verdict::Unknown(error),
        }
    }

    /// Shows one again that is whole in the store. What was kept of it here may not be.
    async fn show(&self, meta: BlockMeta) {
        let blocks = self.aside.blocks.clone();
        self.forget_copies(&meta);
        match self.work.run(move || blocks.open_block(meta.id, meta.signal)).await {
            // The applier knows whether it is still listed. It is missed until it is shown.
            Ok(block) => _ = self.aside.events.send(Event::Opened(meta, block)),
            Err(error) => tracing::warn!(block = %meta.id, %error, "it is shown later"),
        }
    }

    fn forget_copies(&self, meta: &BlockMeta) {
        match meta.signal {
            Signal::Metrics => self.aside.blocks.samples.forget_copies(meta.id),
            Signal::Logs => self.aside.blocks.lines.forget_copies(meta.id),
        }
    }

    async fn tell(&self, command: Command, block: BlockId) {
        let Some(lease) = self.leases.take(format!("quarantine/{block}")).await else { return };
        let told = lease.propose(command).await;
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

/// Reads all of a block as the store has it.
fn read_all<F: BlockFormat>(
    blocks: &BlockSet<F>,
    format: &F,
    meta: &BlockMeta,
) -> Result<(), BlockError> {
    let block = blocks.open_in_store(meta.id, format)?;
    let input = MergeInput { block, deletes: Vec::new() };
    let read = format.merge(&[input], TimeRange::all(), meta.level, &mut Nowhere(0));
    read.map(|_| ()).map_err(|error| error.error)
}

enum Verdict {
    Whole,
    Damaged(BlockError),
    Unknown(BlockError),
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
