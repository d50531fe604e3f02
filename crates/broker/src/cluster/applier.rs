//! What counts becomes visible, in the order of the catalog; then it is acknowledged.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use blockstore::{BlockSet, OpenBlock};
use catalog::{BlockId, BlockMeta, BrokerId, PassedOver, Standing, State, Tombstone};
use metricstore::{CutData, Delete, MetricBlock, MetricFormat};
use model::TimeRange;
use parking_lot::Mutex;
use tokio::sync::mpsc::UnboundedSender;

use super::OnFault;
use super::feed::Event;
use super::flush::Cut;
use super::writer::{Flight, Flights, Waiting};
use crate::commit::{CommitError, OnStored, Stored};
use crate::visible::Visible;

/// What a flush leaves for the moment its blocks count.
#[derive(Default)]
pub(super) struct Flushed {
    /// Its blocks, open.
    pub(super) opened: BTreeMap<BlockId, Arc<MetricBlock>>,
    /// What of the heads is in them, and below which segment it lies.
    pub(super) cuts: Option<(u64, Vec<CutData>)>,
}

/// One place does all that changes what queries see.
pub(super) struct Applier {
    pub(super) broker: BrokerId,
    pub(super) epoch: u64,
    pub(super) visible: Visible,
    pub(super) blocks: Arc<BlockSet<MetricFormat>>,
    pub(super) flights: Arc<Flights>,
    pub(super) flushed: Arc<Mutex<Flushed>>,
    /// Blocks that others wrote and that have to be opened.
    pub(super) foreign: UnboundedSender<BlockMeta>,
    /// All segments below are in the heads or in blocks.
    pub(super) through: u64,
    /// The last delete that is in effect.
    pub(super) last_delete: u64,
    /// What the catalog lists.
    pub(super) listed: BTreeMap<BlockId, BlockMeta>,
    /// Listed blocks that others wrote and that are not open yet.
    pub(super) coming: BTreeSet<BlockId>,
    /// Deletes that may hide something, as the catalog says.
    pub(super) needed_deletes: BTreeSet<u64>,
    pub(super) on_fault: OnFault,
    /// What is visible is not what the catalog says any more: nothing is acknowledged.
    pub(super) has_failed: bool,
}

impl Applier {
    pub(super) fn apply(&mut self, event: Event) {
        if self.has_failed {
            return;
        }
        match event {
            Event::Begun { epoch, .. } if epoch == self.epoch => {}
            Event::Begun { epoch, .. } => self.fail(&format!(
                "the log of broker {} is in epoch {epoch}, and this process writes in {}: another one \
                 took it over, or runs under the same identity",
                self.broker, self.epoch
            )),
            Event::Segment { seq, passed_over } => self.count(seq, &passed_over),
            Event::Deleted(tombstone) => self.hide(tombstone),
            Event::Blocks { blocks, deletes, flushed_through } => {
                self.list(blocks, deletes, flushed_through);
            }
            Event::Replaced(state) => self.replace(&state),
            Event::Known(done) => self.visible.known(done),
            Event::Then(run) => run(),
            Event::Cut(reply) => {
                let (through, deletes_through) = (self.through, self.last_delete);
                let parts = self.visible.shards.start_cut();
                // If nobody waits any more, the next cut has the parts.
                let _ = reply.send(Cut { through, deletes_through, parts });
            }
            Event::Opened(meta, block) => {
                // Deletes may have been settled in it since it was asked for.
                if let Some(&meta) = self.listed.get(&meta.id) {
                    self.visible.shards.changes().note_range(meta.range);
                    self.note_windows(&block);
                    self.blocks.swap(&[meta.id], vec![OpenBlock { meta, block }]);
                }
                self.came(meta.id);
            }
            Event::NotOpened(id) => self.came(id),
        }
    }

    /// A block that was waited for is open, or never will be.
    fn came(&mut self, id: BlockId) {
        if self.coming.remove(&id) {
            self.remove_gone();
        }
    }

    /// Takes blocks out that are not listed any more. What another broker merged them into may not be
    /// open yet: until it is, they stay, and the deletes with them.
    fn remove_gone(&mut self) {
        let snapshot = self.blocks.snapshot();
        let gone = snapshot.iter().filter(|open| !self.listed.contains_key(&open.meta.id));
        let coming: Vec<&BlockMeta> =
            self.coming.iter().filter_map(|id| self.listed.get(id)).collect();
        let is_merged_into = |gone: &BlockMeta, other: &&BlockMeta| {
            (gone.tenant, gone.signal) == (other.tenant, other.signal)
                && other.first_sequence <= gone.first_sequence
                && gone.last_sequence <= other.last_sequence
                && other.range.overlaps(&gone.range)
        };
        let (waiting, gone): (Vec<BlockMeta>, Vec<BlockMeta>) = gone
            .map(|open| open.meta)
            .partition(|gone| coming.iter().any(|other| is_merged_into(gone, other)));
        let ids: Vec<BlockId> = gone.iter().map(|meta| meta.id).collect();
        self.blocks.swap(&ids, Vec::new());
        gone.iter().for_each(|meta| self.visible.shards.changes().note_range(meta.range));
        if !waiting.is_empty() {
            return;
        }
        let known = self.visible.deletes.current().0;
        let known = known.iter().map(|delete| delete.tombstone().number);
        let gone: BTreeSet<u64> = known.filter(|n| !self.needed_deletes.contains(n)).collect();
        if !gone.is_empty() {
            self.visible.deletes.forget(&gone);
        }
    }

    /// Queries choose between samples and rollups by what there is.
    fn note_windows(&self, block: &MetricBlock) {
        if block.lacks_floats() {
            self.visible.shards.changes().note_windows(block.rollup_ms());
        }
    }

    /// Only a start brings what is visible and the catalog together again.
    fn fail(&mut self, why: &str) {
        self.has_failed = true;
        (self.on_fault)(why);
    }

    /// Shows the batches of a segment that counts, but for those that do not.
    fn count(&mut self, seq: u64, passed_over: &[(u32, PassedOver)]) {
        let flight = self.flights.lock().remove(&seq);
        let Some(Flight { batches, .. }) = flight else {
            return self.fail(&format!(
                "segment {seq} of this broker counts and is not in its memory: it has to be read"
            ));
        };
        let mut passed_over = passed_over.iter().peekable();
        for (number, waiting) in (0_u32..).zip(batches) {
            let why = passed_over.next_if(|(passed, _)| *passed == number);
            self.settle(waiting, why.map(|(_, why)| *why));
        }
        self.through = seq + 1;
        self.visible.counters.groups.fetch_add(1, Ordering::Relaxed);
    }

    fn settle(&self, Waiting { batch, done }: Waiting, passed_over: Option<PassedOver>) {
        let done = done.unwrap_or_else(nobody);
        match passed_over {
            None => self.visible.show(batch, done),
            Some(PassedOver::Known) => self.visible.known(done),
            Some(PassedOver::Gap { through }) => done(Err(CommitError::Gap { through })),
        }
    }

    fn hide(&mut self, tombstone: Arc<Tombstone>) {
        if tombstone.number <= self.last_delete {
            return;
        }
        self.last_delete = tombstone.number;
        self.needed_deletes.insert(tombstone.number);
        match Delete::new(tombstone) {
            Ok(delete) => self.visible.hide(Arc::new(delete)),
            Err(error) => self.fail(&format!(
                "a delete cannot be read by this program, another one wrote it: {error}"
            )),
        }
    }

    /// Takes over the list of blocks: those first, then the rows that are in them go.
    fn list(&mut self, blocks: Vec<BlockMeta>, deletes: BTreeSet<u64>, flushed_through: u64) {
        let listed: BTreeMap<BlockId, BlockMeta> =
            blocks.into_iter().map(|meta| (meta.id, meta)).collect();
        let snapshot = self.blocks.snapshot();
        let mut added = Vec::new();
        let mut changed = Vec::new();
        let mut flushed = self.flushed.lock();
        for meta in listed.values().filter(|meta| self.listed.get(&meta.id) != Some(meta)) {
            let own = flushed.opened.remove(&meta.id);
            let open = || {
                let open = snapshot.iter().find(|open| open.meta.id == meta.id)?;
                Some(Arc::clone(&open.block))
            };
            match own.or_else(open) {
                Some(block) => {
                    self.note_windows(&block);
                    added.push(OpenBlock { meta: *meta, block });
                }
                // It is shown when it is open.
                None => {
                    if self.coming.insert(meta.id) {
                        let _ = self.foreign.send(*meta);
                    }
                }
            }
            changed.push(meta.range);
        }
        self.coming.retain(|id| listed.contains_key(id));
        let is_as_listed = |meta: &BlockMeta| listed.get(&meta.id) == Some(meta);
        changed.extend(self.listed.values().filter(|meta| !is_as_listed(meta)).map(|m| m.range));
        self.listed = listed;
        self.needed_deletes = deletes;
        let replaced: Vec<BlockId> = added.iter().map(|open| open.meta.id).collect();
        let gone: Vec<BlockId> = self.merged_into(&added);
        self.blocks.swap(&[replaced, gone].concat(), added);
        if flushed.cuts.as_ref().is_some_and(|(through, _)| *through <= flushed_through) {
            let (_, cuts) = flushed.cuts.take().expect("there are some");
            self.visible.shards.drop_flushed(&cuts);
        }
        drop(flushed);
        changed
            .iter()
            .for_each(|range: &TimeRange| self.visible.shards.changes().note_range(*range));
        self.remove_gone();
    }

    /// Blocks that are not listed any more and go at the same moment as others come.
    fn merged_into(&self, added: &[OpenBlock<MetricFormat>]) -> Vec<BlockId> {
        if added.is_empty() {
            return Vec::new();
        }
        let snapshot = self.blocks.snapshot();
        let gone = snapshot.iter().map(|open| open.meta.id);
        gone.filter(|id| self.coming.is_empty() && !self.listed.contains_key(id)).collect()
    }

    /// The state came as a whole. What this broker wrote and did not yet know to count is looked for in
    /// it, with the deletes between.
    fn replace(&mut self, state: &State) {
        let Some(own) = state.broker(self.broker).filter(|own| own.epoch == self.epoch) else {
            return self.fail("the log of this broker is another one's by now");
        };
        let tombstones: Vec<Arc<Tombstone>> = state.tombstones().cloned().collect();
        for (&seq, segment) in own.segments.range(self.through..) {
            self.hide_through(&tombstones, segment.deletes_through);
            let passed_over = self.reasons(state, seq, &segment.passed_over);
            self.count(seq, &passed_over);
        }
        self.hide_through(&tombstones, state.last_delete());
        let deletes = tombstones.iter().map(|tombstone| tombstone.number).collect();
        self.list(state.blocks().copied().collect(), deletes, own.flushed_through);
    }

    fn hide_through(&mut self, tombstones: &[Arc<Tombstone>], through: u64) {
        for tombstone in tombstones.iter().filter(|tombstone| tombstone.number <= through) {
            self.hide(Arc::clone(tombstone));
        }
        // Those that the catalog has forgotten by now hid nothing of what is here.
        if through > self.last_delete {
            self.last_delete = through;
            self.visible.deletes.pass(through);
            self.visible.shards.begin_after_delete(through);
        }
    }

    /// Why batches do not count; the catalog only keeps that they do not.
    fn reasons(&self, state: &State, seq: u64, passed_over: &[u32]) -> Vec<(u32, PassedOver)> {
        let flights = self.flights.lock();
        let marks = flights.get(&seq).map_or(&[][..], |flight| &flight.marks);
        let reason = |number: &u32| {
            let mark = marks.iter().find(|(batch, _)| batch == number);
            let why = match mark.map(|(_, mark)| (mark, state.standing(mark))) {
                None | Some((_, Standing::Known)) => PassedOver::Known,
                Some((_, Standing::Gap { through })) => PassedOver::Gap { through },
                // What was missing before it has come since.
                Some((mark, Standing::Next)) => PassedOver::Gap { through: mark.after_seq },
            };
            (*number, why)
        };
        passed_over.iter().map(reason).collect()
    }
}

/// Whoever waited was told already that nobody knows.
fn nobody() -> OnStored {
    Box::new(|_: Result<Stored, CommitError>| {})
}
