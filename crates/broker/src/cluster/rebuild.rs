//! A start: the heads again, from this broker's own segments that are in no block yet.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use blockstore::{BlockSet, SegmentName, read_segment};
use bytes::Bytes;
use catalog::{BlockMeta, BrokerId, Segment, State, Tombstone};
use consensus::Consensus;
use futures_util::{FutureExt, StreamExt, stream};
use metricstore::{Delete, LogDecoder, MetricBlock, MetricFormat, Registry, ResolvedBatch};
use tokio::sync::Semaphore;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};
use tokio::time::Instant;

use super::Work;
use super::feed::Event;
use super::store::{self, ObjectStore};
use crate::maintenance::{Damaged, DamagedBlocks, Unfinished, is_damage};
use crate::recovery::Recovered;
use crate::visible::Visible;

/// Segments, or blocks, that are read at once: their bytes are all that a start holds beside the heads.
pub(super) const AT_ONCE: usize = 16;
/// Most bytes of one, unpacked: what the largest batch takes, and more.
const MAX_SEGMENT_BYTES: u64 = 1 << 31;
/// A segment that is not what the catalog says is read again so often: the damage may be on the way.
const READS: u32 = 4;
/// Pause before a block that cannot be read is tried again.
const PAUSE: Duration = Duration::from_secs(1);
/// How long others wait for a block that cannot be read; then it is told as missing.
const PATIENCE: Duration = Duration::from_secs(20);

/// What it takes to read segments of a broker.
pub(super) struct Rebuild<'a> {
    pub(super) broker: BrokerId,
    pub(super) store: &'a Arc<dyn ObjectStore>,
    pub(super) work: Work,
    pub(super) registry: &'a Arc<Registry>,
    pub(super) visible: &'a Visible,
    pub(super) now_ms: i64,
}

impl Rebuild<'_> {
    /// Fills the heads with what counts and is in no block, of segments below `through` and in the order in
    /// which it came to count. A segment that is damaged or gone is told and left out; yields the numbers of
    /// those.
    pub(super) async fn run(
        &self,
        state: &State,
        through: u64,
        recovered: &mut Recovered,
    ) -> BTreeSet<u64> {
        let mut unreadable = BTreeSet::new();
        let Some(own) = state.broker(self.broker) else { return unreadable };
        let mut deletes = 0;
        let tombstones: Vec<Arc<Tombstone>> = state.tombstones().cloned().collect();
        let segments: Vec<(u64, Segment)> =
            own.segments.range(..through).map(|(seq, segment)| (*seq, segment.clone())).collect();
        let read = |(seq, segment): (u64, Segment)| {
            let deletes_through = segment.deletes_through;
            async move { (seq, deletes_through, self.read(seq, &segment).await) }.boxed()
        };
        let mut segments = stream::iter(segments).map(read).buffered(AT_ONCE);
        while let Some((seq, deletes_through, batches)) = segments.next().await {
            self.pass_deletes(&tombstones, &mut deletes, deletes_through);
            let Some(batches) = batches else {
                recovered.unusable_frames += 1;
                unreadable.insert(seq);
                continue;
            };
            for mut batch in batches {
                recovered.samples += batch.rows() as u64;
                self.visible.exemplars.keep(&mut batch);
                self.visible.shards.append(batch.shards, Box::new(|_| {}));
            }
        }
        self.pass_deletes(&tombstones, &mut deletes, state.last_delete());
        self.visible.shards.settle();
        recovered.series = self.registry.all_series();
        unreadable
    }

    /// Separates what comes from what lies before the deletes up to a number.
    pub(super) fn pass_deletes(
        &self,
        tombstones: &[Arc<Tombstone>],
        passed: &mut u64,
        through: u64,
    ) {
        if through <= *passed {
            return;
        }
        let between = tombstones.iter().filter(|t| t.number > *passed && t.number <= through);
        for tombstone in between {
            // One whose pattern this program cannot compile has stopped the start.
            if let Ok(delete) = Delete::new(Arc::clone(tombstone)) {
                self.visible.exemplars.forget_deleted(&delete);
            }
        }
        self.visible.shards.begin_after_delete(through);
        *passed = through;
    }

    /// The batches of a segment that count.
    pub(super) async fn read(&self, seq: u64, segment: &Segment) -> Option<Vec<ResolvedBatch>> {
        let name = SegmentName { broker: self.broker, epoch: segment.epoch, seq };
        let key = name.key();
        let mut fault = String::new();
        for _ in 0..READS {
            let bytes = match store::get(&**self.store, &key).await {
                Ok(bytes) => bytes,
                Err(error) => {
                    fault = error.to_string();
                    break;
                }
            };
            match self.decode(name, bytes, segment).await {
                Ok(batches) => return Some(batches),
                Err(why) => fault = why,
            }
        }
        tracing::error!(
            key,
            fault,
            rows = segment.rows,
            broker = %self.broker,
            "a segment cannot be used: its rows are missing; restore the object from a \
             backup of the store if you have one, and restart"
        );
        None
    }

    async fn decode(
        &self,
        name: SegmentName,
        bytes: Bytes,
        segment: &Segment,
    ) -> Result<Vec<ResolvedBatch>, String> {
        let passed_over = segment.passed_over.clone();
        let (size_bytes, checksum) = (segment.size_bytes, segment.checksum);
        let (registry, now_ms) = (Arc::clone(self.registry), self.now_ms);
        let shards = self.visible.shards.count();
        let decode = move || {
            if bytes.len() as u64 != size_bytes || codec::checksum(&bytes) != checksum {
                return Err("length or checksum are not what the catalog says".to_owned());
            }
            let batches =
                read_segment(&bytes, name, MAX_SEGMENT_BYTES).map_err(|error| error.to_string())?;
            let mut decoder = LogDecoder::new();
            let mut decoded = Vec::with_capacity(batches.len());
            for batch in batches {
                // Also what does not count: series may be defined there.
                let mut rows = ResolvedBatch::default();
                decoder
                    .decode(&batch.payload, &registry, shards, now_ms, &mut rows)
                    .map_err(|error| error.to_string())?;
                if passed_over.binary_search(&batch.number).is_err() {
                    decoded.push(rows);
                }
            }
            Ok(decoded)
        };
        self.work.run(decode).await
    }
}

/// Opens blocks that the catalog lists.
#[derive(Clone)]
pub(super) struct Opening {
    pub(super) consensus: Consensus,
    pub(super) blocks: Arc<BlockSet<MetricFormat>>,
    pub(super) damaged: Arc<DamagedBlocks>,
    pub(super) work: Work,
}

impl Opening {
    /// Opens one, however long that takes; `None` if it is damaged, or gone from the catalog meanwhile.
    /// Calls `give_up` when others should not wait for it any longer.
    pub(super) async fn open(
        &self,
        meta: BlockMeta,
        mut give_up: impl FnMut(),
    ) -> Option<Arc<MetricBlock>> {
        let is_listed = || self.consensus.read(|state| state.block(meta.id).is_some());
        let damaged = Damaged { meta, left: Unfinished::Tell };
        let began = Instant::now();
        let mut reads = 0;
        let mut is_late = false;
        loop {
            let blocks = Arc::clone(&self.blocks);
            match self.work.run(move || blocks.open_block(meta.id)).await {
                Ok(block) => {
                    if is_late {
                        self.damaged.lock().remove(&meta.id);
                    }
                    return Some(block);
                }
                Err(_) if !is_listed() => {
                    self.damaged.lock().remove(&meta.id);
                    return None;
                }
                Err(error) if is_damage(&error) && reads >= READS => {
                    tracing::error!(
                        block = %meta.id, %error,
                        "a block is damaged or gone; answers in its range are partial"
                    );
                    self.damaged.lock().insert(meta.id, damaged);
                    return None;
                }
                Err(error) if !is_late && began.elapsed() >= PATIENCE => {
                    tracing::error!(
                        block = %meta.id, %error,
                        "a block cannot be read for now; answers in its range are partial until it can"
                    );
                    is_late = true;
                    self.damaged.lock().insert(meta.id, damaged);
                    give_up();
                }
                Err(error) => {
                    tracing::warn!(block = %meta.id, %error, "a block is opened later");
                }
            }
            reads += 1;
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Opens many.
    pub(super) async fn open_all(
        &self,
        metas: Vec<BlockMeta>,
    ) -> Vec<(BlockMeta, Arc<MetricBlock>)> {
        let open =
            |meta: BlockMeta| async move { Some((meta, self.open(meta, || ()).await?)) }.boxed();
        let opened: Vec<_> =
            stream::iter(metas).map(open).buffer_unordered(AT_ONCE).collect().await;
        opened.into_iter().flatten().collect()
    }

    /// Opens what others write, as it comes.
    pub(super) async fn follow(
        self,
        foreign: UnboundedReceiver<BlockMeta>,
        events: UnboundedSender<Event>,
    ) {
        // Those that the store does not give must not take the places of those that it does.
        const MOST_AT_ONCE: usize = 64 * AT_ONCE;
        let metas =
            stream::unfold(
                foreign,
                |mut foreign| async move { Some((foreign.recv().await?, foreign)) },
            );
        let turns = Semaphore::new(AT_ONCE);
        let open = |meta: BlockMeta| {
            let (opening, events, turns) = (&self, &events, &turns);
            async move {
                let mut turn = turns.acquire().await.ok();
                let unread = || _ = events.send(Event::Unread(meta));
                let give_up = || {
                    turn.take();
                    unread();
                };
                match opening.open(meta, give_up).await {
                    Some(block) => _ = events.send(Event::Opened(meta, block)),
                    None => unread(),
                }
            }
            .boxed()
        };
        metas.map(open).buffer_unordered(MOST_AT_ONCE).collect::<()>().await;
    }
}
