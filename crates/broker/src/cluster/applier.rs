//! What counts becomes visible, in the order of the catalog; then it is acknowledged.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use catalog::{BlockId, BlockMeta, BrokerId, PassedOver, Standing, State, Tombstone};
use model::TimeRange;
use parking_lot::Mutex;
use tokio::sync::mpsc::UnboundedSender;

use super::OnFault;
use super::feed::{Blocks, CatalogFeed, Event};
use super::flush::Cut;
use super::listing::{Listed, Listing, NeededDeletes, Step};
use super::signals::{AnyBlock, BlockSets, Frozen};
use super::writer::{Flight, Flights, Waiting};
use crate::commit::{CommitError, OnStored, Stored};
use crate::maintenance::DamagedBlocks;
use crate::visible::{Hiding, Visible};

/// What a flush leaves for the moment its blocks count.
#[derive(Default)]
pub(super) struct Flushed {
    /// Its blocks, open.
    pub(super) opened: BTreeMap<BlockId, AnyBlock>,
    /// What of the heads is in them, and below which segment it lies.
    pub(super) cuts: Option<(u64, Frozen)>,
}

/// One place does all that changes what queries see.
pub(super) struct Applier {
    pub(super) broker: BrokerId,
    pub(super) epoch: u64,
    pub(super) visible: Visible,
    pub(super) blocks: BlockSets,
    pub(super) damaged: Arc<DamagedBlocks>,
    pub(super) flights: Arc<Flights>,
    pub(super) flushed: Arc<Mutex<Flushed>>,
    /// Blocks that others wrote and that have to be opened.
    pub(super) foreign: UnboundedSender<BlockMeta>,
    /// All segments below are in the heads or in blocks.
    pub(super) through: u64,
    /// The last delete that is in effect.
    pub(super) last_delete: u64,
    /// Which blocks there are, and which of them can be read.
    pub(super) listing: Listing,
    /// Knows who follows keys of the catalog.
    pub(super) feed: Arc<CatalogFeed>,
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
            Event::Blocks(slot) => {
                let newest = slot.lock().take();
                if let Some(Blocks { blocks, deletes, flushed_through }) = newest {
                    self.list(blocks, deletes, flushed_through);
                }
            }
            Event::Replaced(state) => self.replace(&state),
            Event::Known(done) => self.visible.known(done),
            Event::KnownLines(done) => self.visible.known_lines(done),
            Event::Then(run) => run(),
            Event::Cut(reply) => {
                let (through, deletes_through) = (self.through, self.last_delete);
                let parts = self.visible.shards.start_cut();
                let lines = self.visible.lines.heads.start_cut();
                // If nobody waits any more, the next cut has the parts.
                let _ = reply.send(Cut { through, deletes_through, parts, lines });
            }
            Event::OfOther(range) => self.visible.shards.changes().note_foreign(range),
            Event::Key { key, value } => {
                if let Some(broker) = self.feed.opened() {
                    broker.follow_key(&key, value.as_deref());
                }
            }
            Event::Opened(meta, block) => {
                let step = self.listing.opened(meta, block);
                self.take_step(step);
            }
            Event::Unread(meta) => {
                let step = self.listing.unread(meta);
                self.take_step(step);
            }
            Event::Shown(tell) => self.listing.tell_when_shown(tell),
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

    fn settle(&self, waiting: Waiting, passed_over: Option<PassedOver>) {
        let (batch, done) = match waiting {
            Waiting::Samples { batch, done } => (batch, done.unwrap_or_else(nobody)),
            Waiting::Lines { tenant, batch, push, done } => {
                let done = done.unwrap_or_else(|| Box::new(|_| {}));
                match passed_over {
                    None => {
                        self.visible.lines.note(push);
                        self.visible.show_lines(tenant, batch, done);
                    }
                    Some(PassedOver::Known) => self.visible.known_lines(done),
                    Some(PassedOver::Gap { through }) => done(Err(CommitError::Gap { through })),
                }
                return;
            }
        };
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
        match Hiding::new(tombstone) {
            Ok(delete) => self.visible.hide(delete),
            Err(error) => self.fail(&format!(
                "a delete cannot be read by this program, another one wrote it: {error}"
            )),
        }
    }

    /// Takes over the list of blocks, at once if all of them can be read.
    fn list(&mut self, blocks: Vec<BlockMeta>, deletes: BTreeSet<u64>, flushed_through: u64) {
        let mut flushed = self.flushed.lock();
        let own = |meta: &BlockMeta| Some((meta.id, flushed.opened.remove(&meta.id)?));
        let opened = blocks.iter().filter_map(own).collect();
        let is_in_blocks = |(through, _): &mut (u64, _)| *through <= flushed_through;
        let cuts = flushed.cuts.take_if(is_in_blocks).map(|(_, frozen)| frozen);
        drop(flushed);
        let deletes = NeededDeletes { numbers: deletes, through: self.last_delete };
        let cuts = cuts.into_iter().collect();
        let listed = Listed { blocks, deletes, cuts, told: Vec::new() };
        let (step, foreign) = self.listing.list(listed, opened, &self.blocks.open());
        for meta in foreign {
            let _ = self.foreign.send(meta);
        }
        self.take_step(step);
    }

    /// Shows a list of blocks: those first, then the rows that are in them go.
    fn take_step(&mut self, step: Option<Step>) {
        let Some(Step { added, gone, changed, deletes, cuts, told }) = step else { return };
        // Queries choose between samples and rollups by what there is.
        let changes = self.visible.shards.changes();
        for (_, block) in &added {
            if let AnyBlock::Samples(block) = block
                && block.lacks_floats()
            {
                changes.note_windows(block.rollup_ms());
            }
        }
        let ids: Vec<BlockId> = added.iter().map(|(meta, _)| meta.id).collect();
        {
            // Whoever finds one damaged takes it out while this is locked: that is before or behind.
            let mut damaged = self.damaged.lock();
            self.blocks.swap(&gone, added);
            ids.iter().for_each(|id| _ = damaged.remove(id));
        }
        for Frozen { samples, lines } in &cuts {
            self.visible.shards.drop_flushed(samples);
            self.visible.lines.heads.drop_flushed(lines);
        }
        changed.into_iter().for_each(|range| changes.note_range(range));
        if let Some(deletes) = deletes {
            let known = self.visible.deletes.current().0;
            let known = known.iter().map(|delete| delete.tombstone().number);
            let gone: BTreeSet<u64> = known.filter(|number| !deletes.has(*number)).collect();
            if !gone.is_empty() {
                self.visible.deletes.forget(&gone);
            }
            self.visible.lines.deletes.forget(|number| !deletes.has(number));
            // What was missing is missed no more when the catalog has forgotten it.
            self.damaged.lock().retain(|id, _| self.listing.has(*id));
        }
        // Nobody waits any more, if that fails.
        told.into_iter().for_each(|tell| _ = tell.send(()));
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
        let flushed_through = own.flushed_through;
        // What came of others meanwhile is not told one by one.
        self.visible.shards.changes().note_range(TimeRange::all());
        self.list(state.blocks().copied().collect(), deletes, flushed_through);
        if let Some(broker) = self.feed.opened() {
            broker.follow_all(state);
        }
    }

    fn hide_through(&mut self, tombstones: &[Arc<Tombstone>], through: u64) {
        for tombstone in tombstones.iter().filter(|tombstone| tombstone.number <= through) {
            self.hide(Arc::clone(tombstone));
        }
        // Those that the catalog has forgotten by now hid nothing of what is here.
        if through > self.last_delete {
            self.last_delete = through;
            self.visible.begin_after_deletes(through);
            self.visible.deletes.pass(through);
            self.visible.lines.deletes.pass(through);
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
