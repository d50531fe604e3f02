//! A start: the heads again, from this broker's own segments that are in no block yet.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use blockstore::{BlockError, SegmentError, SegmentName, read_segment};
use bytes::Bytes;
use catalog::{BlockMeta, BrokerId, Segment, Signal, State, Tombstone};
use consensus::Consensus;
use futures_util::{FutureExt, StreamExt, stream};
use logstore::{PayloadError, decode_payload};
use metricstore::{Delete, LogDecoder, MetricError, Registry, ResolvedBatch};
use tokio::sync::Semaphore;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};
use tokio::time::Instant;

use super::Work;
use super::feed::Event;
use super::signals::{AnyBlock, BlockSets, Rows};
use super::store::{self, ObjectStore, StoreFault};
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
/// How long a start or a list of blocks waits for a block that cannot be read; then they go on without, and it
/// is told as missing.
const PATIENCE: Duration = Duration::from_secs(20);
/// Blocks of others that are opened side by side: those that the store does not give must not keep back
/// those that it does.
const FOLLOWED_AT_ONCE: usize = 64 * AT_ONCE;

/// What it takes to read segments of a broker.
pub(super) struct Rebuild<'a> {
    pub(super) broker: BrokerId,
    pub(super) store: &'a Arc<dyn ObjectStore>,
    pub(super) work: Work,
    pub(super) registry: &'a Arc<Registry>,
    pub(super) visible: &'a Visible,
    pub(super) now_ms: i64,
}

/// What a rebuild left out.
#[derive(Default)]
pub(super) struct LeftOut {
    /// Numbers of segments that are damaged or gone.
    pub(super) unread: BTreeSet<u64>,
    /// How many of those that are not known to be missing are not in the store.
    pub(super) gone: usize,
    /// There are segments, and not one of them is in the store.
    pub(super) is_all: bool,
}

/// Why a segment was not read.
pub(super) enum Unread {
    /// It is not in the store.
    Gone,
    /// It is damaged, or the store does not give it.
    Unusable,
    /// A newer program wrote it: this one must not go on as if it were lost.
    Newer(String),
}

impl Rebuild<'_> {
    /// Fills the heads with what counts and is in no block, of segments below `through` and in the order in
    /// which it came to count. A segment that is damaged or gone is told and left out. Those that were left
    /// out before are tried again.
    ///
    /// # Errors
    /// A newer program wrote a segment.
    pub(super) async fn run(
        &self,
        state: &State,
        through: u64,
        recovered: &mut Recovered,
    ) -> Result<LeftOut> {
        let mut left_out = LeftOut::default();
        let Some(own) = state.broker(self.broker) else { return Ok(left_out) };
        let mut deletes = 0;
        let tombstones: Vec<Arc<Tombstone>> = state.tombstones().cloned().collect();
        let mut segments = Vec::new();
        for (_, seq, segment) in state.unread_segments().filter(|(id, ..)| *id == self.broker) {
            match has_all_deletes_since(state, segment) {
                true => segments.push((seq, segment.clone())),
                false => _ = left_out.unread.insert(seq),
            }
        }
        let listed = || own.segments.range(..through);
        segments.extend(listed().map(|(seq, segment)| (*seq, segment.clone())));
        let mut gone = 0;
        let read = |(seq, segment): (u64, Segment)| {
            let deletes_through = segment.deletes_through;
            async move { (seq, deletes_through, self.read(seq, &segment).await) }.boxed()
        };
        let mut segments = stream::iter(segments).map(read).buffered(AT_ONCE);
        while let Some((seq, deletes_through, batches)) = segments.next().await {
            self.pass_deletes(&tombstones, &mut deletes, deletes_through);
            let batches = match batches {
                Ok(batches) => batches,
                Err(Unread::Newer(why)) => bail!("segment {seq} of broker {}: {why}", self.broker),
                Err(why) => {
                    recovered.unusable_frames += 1;
                    gone += usize::from(
                        matches!(why, Unread::Gone) && listed().any(|(one, _)| *one == seq),
                    );
                    left_out.unread.insert(seq);
                    continue;
                }
            };
            for rows in batches {
                match &rows {
                    Rows::Samples(batch) => recovered.samples += batch.rows() as u64,
                    Rows::Lines(_, batch) => recovered.lines += batch.lines(),
                }
                self.visible.bring_back(rows);
            }
        }
        self.pass_deletes(&tombstones, &mut deletes, state.last_delete());
        self.visible.settle();
        recovered.series = self.registry.all_series();
        left_out.gone = gone;
        left_out.is_all = gone > 0 && gone == listed().count();
        Ok(left_out)
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
        let between = tombstones
            .iter()
            .filter(|t| t.signal == Signal::Metrics && t.number > *passed && t.number <= through);
        for tombstone in between {
            // One whose pattern this program cannot compile has stopped the start.
            if let Ok(delete) = Delete::new(Arc::clone(tombstone)) {
                self.visible.exemplars.forget_deleted(&delete);
            }
        }
        self.visible.begin_after_deletes(through);
        *passed = through;
    }

    /// The batches of a segment that count.
    pub(super) async fn read(&self, seq: u64, segment: &Segment) -> Result<Vec<Rows>, Unread> {
        let name = SegmentName { broker: self.broker, epoch: segment.epoch, seq };
        let key = name.key();
        let mut fault = String::new();
        let mut unread = Unread::Unusable;
        for _ in 0..READS {
            let bytes = match store::get(&**self.store, &key).await {
                Ok(bytes) => bytes,
                // On the way, perhaps.
                Err(error @ StoreFault::Damaged(_)) => {
                    fault = error.to_string();
                    continue;
                }
                Err(error) => {
                    if matches!(error, StoreFault::NotFound(_)) {
                        unread = Unread::Gone;
                    }
                    fault = error.to_string();
                    break;
                }
            };
            match self.decode(name, bytes, segment).await {
                Ok(batches) => return Ok(batches),
                Err(Undecoded { why, is_newer: true }) => return Err(Unread::Newer(why)),
                Err(Undecoded { why, .. }) => fault = why,
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
        Err(unread)
    }

    async fn decode(
        &self,
        name: SegmentName,
        bytes: Bytes,
        segment: &Segment,
    ) -> Result<Vec<Rows>, Undecoded> {
        let passed_over = segment.passed_over.clone();
        let (size_bytes, checksum) = (segment.size_bytes, segment.checksum);
        let (registry, now_ms) = (Arc::clone(self.registry), self.now_ms);
        let shards = self.visible.shards.count();
        let decode = move || {
            if bytes.len() as u64 != size_bytes || codec::checksum(&bytes) != checksum {
                let why = "length or checksum are not what the catalog says".to_owned();
                return Err(Undecoded { why, is_newer: false });
            }
            let batches =
                read_segment(&bytes, name, MAX_SEGMENT_BYTES).map_err(|error| Undecoded {
                    is_newer: matches!(error, SegmentError::Version { .. }),
                    why: error.to_string(),
                })?;
            let mut decoder = LogDecoder::new();
            let mut decoded = Vec::with_capacity(batches.len());
            for batch in batches {
                let counts = passed_over.binary_search(&batch.number).is_err();
                if batch.signal == Signal::Logs {
                    if counts {
                        decoded.push(decode_lines(&batch.payload)?);
                    }
                    continue;
                }
                // Also what does not count: series may be defined there.
                let mut rows = ResolvedBatch::default();
                decoder.decode(&batch.payload, &registry, shards, now_ms, &mut rows).map_err(
                    |error| Undecoded {
                        is_newer: matches!(error, MetricError::PayloadVersion { .. }),
                        why: error.to_string(),
                    },
                )?;
                if counts {
                    decoded.push(Rows::Samples(Box::new(rows)));
                }
            }
            Ok(decoded)
        };
        self.work.run(decode).await
    }
}

fn decode_lines(payload: &[u8]) -> Result<Rows, Undecoded> {
    let decoded = decode_payload(payload).map_err(|error| Undecoded {
        is_newer: matches!(error, PayloadError::Version { .. }),
        why: error.to_string(),
    });
    decoded.map(|(tenant, batch)| Rows::Lines(tenant, Box::new(batch)))
}

/// Why bytes are not a segment's.
struct Undecoded {
    why: String,
    is_newer: bool,
}

/// Whether every delete that came after a segment is still known. Otherwise what it hid would be back.
fn has_all_deletes_since(state: &State, segment: &Segment) -> bool {
    let known = state.tombstones().filter(|one| one.number > segment.deletes_through).count();
    known as u64 == state.last_delete() - segment.deletes_through
}

/// Blocks of a start.
#[derive(Default)]
pub(super) struct OpenedBlocks {
    pub(super) open: Vec<(BlockMeta, AnyBlock)>,
    /// Those that cannot be read for now.
    pub(super) late: Vec<BlockMeta>,
}

/// What became of a block.
enum OneBlock {
    Open(AnyBlock),
    /// It is not listed any more.
    Gone,
    /// Answers say that it is missing.
    Damaged,
    /// It cannot be read for now: answers say so.
    Late,
}

/// Opens blocks that the catalog lists.
#[derive(Clone)]
pub(super) struct Opening {
    pub(super) consensus: Consensus,
    pub(super) blocks: BlockSets,
    pub(super) damaged: Arc<DamagedBlocks>,
    pub(super) work: Work,
    /// One for each that is being read.
    pub(super) turns: Arc<Semaphore>,
}

impl Opening {
    /// Opens one, as long as that may take.
    ///
    /// # Errors
    /// A newer program wrote it.
    async fn open(&self, meta: BlockMeta, patience: Option<Duration>) -> Result<OneBlock> {
        let is_listed = || self.consensus.read(|state| state.block(meta.id).is_some());
        let missing = |left| Damaged { meta, left };
        let began = Instant::now();
        let mut reads = 0;
        loop {
            let blocks = self.blocks.clone();
            let turn = self.turns.acquire().await.expect("nobody closes it");
            let opened = self.work.run(move || blocks.open_block(meta.id, meta.signal)).await;
            drop(turn);
            match opened {
                Ok(block) => return Ok(OneBlock::Open(block)),
                Err(_) if !is_listed() => return Ok(OneBlock::Gone),
                Err(error @ BlockError::Version { .. }) => {
                    return Err(error).with_context(|| format!("open block {}", meta.id));
                }
                Err(error) if is_damage(&error) && reads >= READS => {
                    tracing::error!(
                        block = %meta.id, %error,
                        "a block is damaged or gone; answers in its range are partial"
                    );
                    self.damaged.lock().insert(meta.id, missing(Unfinished::Tell));
                    return Ok(OneBlock::Damaged);
                }
                Err(error) if patience.is_some_and(|most| began.elapsed() >= most) => {
                    tracing::error!(
                        block = %meta.id, %error,
                        "a block cannot be read for now; answers in its range are partial until it can"
                    );
                    self.damaged.lock().insert(meta.id, missing(Unfinished::Open));
                    return Ok(OneBlock::Late);
                }
                Err(error) => {
                    tracing::warn!(block = %meta.id, %error, "a block is opened later");
                }
            }
            reads += 1;
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Opens those of a start.
    ///
    /// # Errors
    /// A newer program wrote one.
    pub(super) async fn open_all(&self, metas: Vec<BlockMeta>) -> Result<OpenedBlocks> {
        let open =
            |meta: BlockMeta| async move { (meta, self.open(meta, Some(PATIENCE)).await) }.boxed();
        let mut opening = stream::iter(metas).map(open).buffer_unordered(AT_ONCE);
        let mut opened = OpenedBlocks::default();
        while let Some((meta, outcome)) = opening.next().await {
            match outcome? {
                OneBlock::Open(block) => opened.open.push((meta, block)),
                OneBlock::Gone | OneBlock::Damaged => {}
                OneBlock::Late => opened.late.push(meta),
            }
        }
        Ok(opened)
    }

    /// Opens what others write, as it comes, and what a start could not.
    pub(super) async fn follow(
        self,
        foreign: UnboundedReceiver<BlockMeta>,
        events: UnboundedSender<Event>,
    ) {
        let metas =
            stream::unfold(
                foreign,
                |mut foreign| async move { Some((foreign.recv().await?, foreign)) },
            );
        let open = |meta: BlockMeta| {
            let (opening, events) = (&self, &events);
            async move {
                let unread = || _ = events.send(Event::Unread(meta));
                let mut outcome = opening.open(meta, Some(PATIENCE)).await;
                if matches!(outcome, Ok(OneBlock::Late)) {
                    unread();
                    outcome = opening.open(meta, None).await;
                }
                let damaged = Arc::clone(&opening.damaged);
                match outcome {
                    // It is missed until the applier shows it.
                    Ok(OneBlock::Open(block)) => _ = events.send(Event::Opened(meta, block)),
                    Ok(OneBlock::Gone) => {
                        unread();
                        let gone = move || _ = damaged.lock().remove(&meta.id);
                        let _ = events.send(Event::Then(Box::new(gone)));
                    }
                    Ok(OneBlock::Damaged | OneBlock::Late) => unread(),
                    Err(error) => {
                        tracing::error!("{error:#}; answers in its range are partial");
                        let missing = Damaged { meta, left: Unfinished::Open };
                        damaged.lock().insert(meta.id, missing);
                        unread();
                    }
                }
            }
            .boxed()
        };
        metas.map(open).buffer_unordered(FOLLOWED_AT_ONCE).collect::<()>().await;
    }
}
