//! The state and what each command does to it.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::{Bound, Range};
use std::sync::Arc;

use crate::marks::Marks;
use crate::pushes::Pushes;
use crate::{
    BlockId, BlockMeta, Broker, BrokerId, CatalogError, Command, Expected, Incarnation, LaneMarks,
    Lease, LogPosition, MAX_TOMBSTONES, Mark, NewBlock, PassedOver, PushMark, Segment, Standing,
    StoreId, Tombstone,
};

/// Longest key of the versioned key space, in bytes.
pub const MAX_KEY_BYTES: usize = 1 << 10;

/// Longest value of the versioned key space, in bytes.
pub const MAX_VALUE_BYTES: usize = 1 << 20;

/// Everything the catalog knows.
///
/// Invariants: ids of blocks are below `next_block_id`, sequences below `next_sequence`; a block is
/// either listed or quarantined; of two listed blocks of one tenant and signal that overlap in
/// time, either the sequences do not overlap, or both come from the same flush. A tombstone is
/// listed as long as it concerns a listed block or what is in no block yet; in a cluster also a
/// quarantined one. Segments of a broker are
/// at or above what it has flushed; no lease has a term, and no log an epoch, above the highest.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct State {
    pub(crate) store: Option<StoreId>,
    pub(crate) version: u64,
    pub(crate) next_block_id: u64,
    pub(crate) next_sequence: u64,
    pub(crate) flushed_through: LogPosition,
    pub(crate) blocks: BTreeMap<BlockId, BlockMeta>,
    pub(crate) quarantined: BTreeMap<BlockId, BlockMeta>,
    pub(crate) keys: BTreeMap<String, KeyValue>,
    pub(crate) marks: Marks,
    /// Of lines, in a cluster.
    pub(crate) pushes: Pushes,
    /// The highest number of a delete.
    pub(crate) last_delete: u64,
    /// What the last flush said: what is not in blocks is younger than these.
    pub(crate) flushed_deletes: u64,
    /// Deletes that may hide something, by number.
    pub(crate) tombstones: BTreeMap<u64, Arc<Tombstone>>,
    /// Of a cluster.
    pub(crate) brokers: BTreeMap<BrokerId, Broker>,
    /// Segments that are in no block because they could not be read, by broker and number.
    pub(crate) unread: BTreeMap<(BrokerId, u64), Segment>,
    pub(crate) ring_epoch: u64,
    pub(crate) leases: BTreeMap<String, Lease>,
    /// Highest term of a lease, and highest epoch of a log.
    pub(crate) next_term: u64,
    /// Ids below this one are not added any more.
    pub(crate) retired_below: BlockId,
}

/// A value of the versioned key space.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyValue {
    /// What was put.
    pub value: Vec<u8>,
    /// [`State::version`] after the put: grows with every write, of whichever key.
    pub version: u64,
}

/// What an applied command yields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing but the change.
    Done,
    /// The ids reserved.
    Reserved(Range<u64>),
    /// The blocks added, with their place in the order of commits, in the order of the command.
    Added(Vec<BlockMeta>),
    /// The version the key now has.
    Written(u64),
    /// The epoch of a log.
    Epoch(u64),
    /// The batches of a segment that do not count, and why; ascending.
    Segment(Vec<(u32, PassedOver)>),
    /// The term of a lease.
    Term(u64),
}

impl State {
    /// Applies one command. The cost is logarithmic in the number of blocks per block named; a
    /// swap also looks at every block once.
    ///
    /// # Errors
    /// The command does not fit the state; the state is then as it was.
    pub fn apply(&mut self, command: &Command) -> Result<Outcome, CatalogError> {
        let outcome = match command {
            Command::CreateStore { store } => self.create_store(*store),
            Command::ReserveIds { count } => self.reserve_ids(*count),
            Command::Flush { added, flushed_through, deletes_through } => {
                self.flush(added, *flushed_through, *deletes_through)
            }
            Command::Swap { removed, added, deletes_through } => {
                self.swap(removed, added, *deletes_through)
            }
            Command::Expire { removed } => self.expire(removed),
            Command::Quarantine { block } => self.quarantine(*block),
            Command::Put { key, value, expected } => self.put(key, value, *expected),
            Command::Delete { key, expected } => self.delete(key, *expected),
            Command::Mark(mark) => return self.marks.store(mark).map(|()| Outcome::Done),
            Command::ExpireMarks { before_ms } => {
                self.marks.expire(*before_ms);
                Ok(Outcome::Done)
            }
            Command::DeleteRows(tombstone) => self.delete_rows(tombstone),
            Command::SettleDeletes { blocks, deletes_through } => {
                self.settle_deletes(blocks, *deletes_through)
            }
            Command::SetBroker { broker, info } => self.set_broker(*broker, info),
            Command::RemoveBroker { broker } => self.remove_broker(*broker),
            Command::BeginLog { broker } => self.begin_log(*broker),
            Command::RetireBlocks { below } => self.retire_blocks(*below),
            Command::AddSegment(segment) => self.add_segment(segment),
            Command::FlushLog { broker, epoch, through, added, deletes_through, unread } => {
                self.flush_log(*broker, *epoch, *through, added, *deletes_through, unread)
            }
            Command::AddBlocks { added, deletes_through } => {
                self.add_blocks(added, *deletes_through)
            }
            Command::TakeLease { job, holder, claim, until_ms } => {
                self.take_lease(job, *holder, *claim, *until_ms)
            }
            Command::GiveLease { job, term } => self.give_lease(job, *term),
            Command::Restore { block } => self.restore(*block),
            Command::FlushUnread { broker, seqs, added, deletes_through } => {
                self.flush_unread(*broker, seqs, added, *deletes_through)
            }
            Command::ForgetUnread { segments } => Ok(self.forget_unread(segments)),
            Command::Under { job, term, command } => {
                return self.apply_under(job, *term, command);
            }
        }?;
        if may_settle(command) {
            self.forget_deletes();
        }
        self.version += 1;
        Ok(outcome)
    }

    /// Identity of the store; `None` before it is created.
    pub fn store(&self) -> Option<StoreId> {
        self.store
    }

    /// How many commands have been applied, marks aside. A reader that pins a version sees the
    /// blocks of then.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// All frames of the log before this position are in blocks.
    pub fn flushed_through(&self) -> LogPosition {
        self.flushed_through
    }

    /// The manifest, in ascending order of ids.
    pub fn blocks(&self) -> impl ExactSizeIterator<Item = &BlockMeta> {
        self.blocks.values()
    }

    /// Damaged blocks, in ascending order of ids: answers that touch their ranges are partial.
    pub fn quarantined(&self) -> impl ExactSizeIterator<Item = &BlockMeta> {
        self.quarantined.values()
    }

    /// Whether a block is listed or quarantined.
    pub fn knows_block(&self, id: BlockId) -> bool {
        self.blocks.contains_key(&id) || self.quarantined.contains_key(&id)
    }

    /// What the manifest says of a block.
    pub fn block(&self, id: BlockId) -> Option<&BlockMeta> {
        self.blocks.get(&id)
    }

    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&KeyValue> {
        self.keys.get(key)
    }

    /// All keys that start with `prefix`, in ascending order.
    pub fn keys<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = (&'a str, &'a KeyValue)> {
        self.keys
            .range::<str, _>((Bound::Included(prefix), Bound::Unbounded))
            .take_while(move |(key, _)| key.starts_with(prefix))
            .map(|(key, value)| (key.as_str(), value))
    }

    /// What a batch of an agent is to the marks.
    pub fn standing(&self, mark: &Mark) -> Standing {
        self.marks.standing(mark)
    }

    /// Whether a push of lines was stored lately, of those that the brokers of a cluster agree on.
    pub fn is_known_push(&self, push: &PushMark) -> bool {
        self.pushes.is_known(push)
    }

    /// The marks of an agent's incarnation; all zero if it is not known.
    pub fn marks_of(&self, agent: &str, incarnation: Incarnation) -> LaneMarks {
        self.marks.of(agent, incarnation)
    }

    /// All marks, by name of the agent and incarnation.
    pub fn marks(&self) -> impl Iterator<Item = (&Arc<str>, Incarnation, LaneMarks)> {
        self.marks.iter()
    }

    /// The highest number of a delete; 0 = there was none.
    pub fn last_delete(&self) -> u64 {
        self.last_delete
    }

    /// The last delete that is done in everything the log held at the last flush: what is in no
    /// block yet was committed after it.
    pub fn flushed_deletes(&self) -> u64 {
        self.flushed_deletes
    }

    /// Deletes that may hide something, in ascending order of numbers.
    pub fn tombstones(&self) -> impl ExactSizeIterator<Item = &Arc<Tombstone>> {
        self.tombstones.values()
    }

    /// Whether a delete would be taken.
    ///
    /// # Errors
    /// Why not.
    pub fn check_delete(&self, tombstone: &Tombstone) -> Result<(), CatalogError> {
        tombstone.check()?;
        if tombstone.number <= self.last_delete {
            let (number, last) = (tombstone.number, self.last_delete);
            return Err(CatalogError::StaleDelete { number, last });
        }
        if self.tombstones.len() >= MAX_TOMBSTONES {
            return Err(CatalogError::TooManyDeletes { limit: MAX_TOMBSTONES });
        }
        Ok(())
    }

    /// This state for a copy of the store that has the blocks and a log of its own, with nothing in
    /// it: what is in no block is not part of the copy.
    #[must_use]
    pub fn for_copy(&self) -> State {
        State { flushed_through: LogPosition::default(), ..self.clone() }
    }

    /// The same state without marks. Marks also speak of batches that are in no block yet: whoever
    /// has the blocks alone must not take those for stored.
    #[must_use]
    pub fn without_marks(&self) -> State {
        State { marks: Marks::default(), ..self.clone() }
    }

    fn create_store(&mut self, store: StoreId) -> Result<Outcome, CatalogError> {
        if self.store.is_some() {
            return Err(CatalogError::StoreExists);
        }
        self.store = Some(store);
        Ok(Outcome::Done)
    }

    fn reserve_ids(&mut self, count: u64) -> Result<Outcome, CatalogError> {
        let first = self.next_block_id;
        let end = first.checked_add(count).ok_or(CatalogError::TooLarge {
            what: "a reservation of block ids",
            found: count,
            limit: u64::MAX - first,
        })?;
        self.next_block_id = end;
        Ok(Outcome::Reserved(first..end))
    }

    fn flush(
        &mut self,
        added: &[NewBlock],
        flushed_through: LogPosition,
        deletes_through: u64,
    ) -> Result<Outcome, CatalogError> {
        if flushed_through < self.flushed_through {
            let (found, reached) = (flushed_through, self.flushed_through);
            return Err(CatalogError::FlushedBackwards { found, reached });
        }
        check_deletes(deletes_through, self.flushed_deletes)?;
        self.check_added(added)?;
        self.flushed_through = flushed_through;
        self.flushed_deletes = deletes_through;
        Ok(self.add_flushed(added, deletes_through))
    }

    /// Adds the blocks of a flush, later than all others.
    pub(crate) fn add_flushed(&mut self, added: &[NewBlock], deletes_through: u64) -> Outcome {
        let sequence = self.next_sequence;
        self.next_sequence += 1;
        self.add(added, sequence, sequence, deletes_through)
    }

    fn add_blocks(
        &mut self,
        added: &[NewBlock],
        deletes_through: u64,
    ) -> Result<Outcome, CatalogError> {
        if deletes_through > self.last_delete {
            let (found, reached) = (deletes_through, self.last_delete);
            return Err(CatalogError::DeletesBackwards { found, reached });
        }
        self.check_added(added)?;
        Ok(self.add_flushed(added, deletes_through))
    }

    fn swap(
        &mut self,
        removed: &[BlockId],
        added: &[NewBlock],
        deletes_through: u64,
    ) -> Result<Outcome, CatalogError> {
        let inputs = self.listed(removed)?;
        self.check_added(added)?;
        let Some(first) = inputs.first() else {
            let Some(block) = added.first() else { return Ok(Outcome::Added(Vec::new())) };
            let reason = "a swap that removes nothing may add nothing";
            return Err(CatalogError::UnfitBlock { id: block.id, reason });
        };
        let owner = (first.tenant, first.signal);
        let strangers = inputs.iter().map(|b| (b.id, (b.tenant, b.signal)));
        let strangers = strangers.chain(added.iter().map(|b| (b.id, (b.tenant, b.signal))));
        if let Some((id, _)) = strangers.into_iter().find(|(_, other)| *other != owner) {
            let reason = "its tenant or signal differs from the others'";
            return Err(CatalogError::UnfitBlock { id, reason });
        }
        let done = inputs.iter().map(|block| block.deletes_through).max();
        check_deletes(deletes_through, done.unwrap_or(0))?;
        let (first_sequence, last_sequence) = sequences(&inputs);
        self.check_order(&inputs, added, first_sequence, last_sequence)?;
        for id in removed {
            self.blocks.remove(id);
        }
        Ok(self.add(added, first_sequence, last_sequence, deletes_through))
    }

    fn expire(&mut self, removed: &[BlockId]) -> Result<Outcome, CatalogError> {
        let mut ids = removed.to_vec();
        ids.sort_unstable();
        if let Some(pair) = ids.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(CatalogError::DuplicateBlock { id: pair[0] });
        }
        let known = |id| self.blocks.contains_key(id) || self.quarantined.contains_key(id);
        if let Some(&id) = ids.iter().find(|id| !known(id)) {
            return Err(CatalogError::UnknownBlock { id });
        }
        for id in &ids {
            self.blocks.remove(id);
            self.quarantined.remove(id);
        }
        Ok(Outcome::Done)
    }

    fn quarantine(&mut self, id: BlockId) -> Result<Outcome, CatalogError> {
        let block = self.blocks.remove(&id).ok_or(CatalogError::UnknownBlock { id })?;
        self.quarantined.insert(id, block);
        Ok(Outcome::Done)
    }

    fn restore(&mut self, id: BlockId) -> Result<Outcome, CatalogError> {
        let mut block = *self.quarantined.get(&id).ok_or(CatalogError::UnknownBlock { id })?;
        let sequences = |block: &BlockMeta| (block.first_sequence, block.last_sequence);
        let is_spanned_by = |other: &BlockMeta| {
            (other.tenant, other.signal) == (block.tenant, block.signal)
                && other.range.overlaps(&block.range)
                && other.first_sequence <= block.last_sequence
                && block.first_sequence <= other.last_sequence
                && sequences(other) != sequences(&block)
        };
        if self.blocks.values().any(is_spanned_by) {
            (block.first_sequence, block.last_sequence) = (self.next_sequence, self.next_sequence);
            self.next_sequence += 1;
        }
        self.quarantined.remove(&id);
        self.blocks.insert(id, block);
        Ok(Outcome::Done)
    }

    fn put(
        &mut self,
        key: &str,
        value: &[u8],
        expected: Expected,
    ) -> Result<Outcome, CatalogError> {
        check_size("a key of the catalog", key.len(), MAX_KEY_BYTES)?;
        check_size("a value of the catalog", value.len(), MAX_VALUE_BYTES)?;
        self.check_expected(key, expected)?;
        let version = self.version + 1;
        self.keys.insert(key.to_owned(), KeyValue { value: value.to_vec(), version });
        Ok(Outcome::Written(version))
    }

    fn delete(&mut self, key: &str, expected: Expected) -> Result<Outcome, CatalogError> {
        self.check_expected(key, expected)?;
        self.keys.remove(key);
        Ok(Outcome::Done)
    }

    /// The listed blocks with these ids, each named once.
    pub(crate) fn listed(&self, ids: &[BlockId]) -> Result<Vec<BlockMeta>, CatalogError> {
        let mut found = BTreeMap::new();
        for id in ids {
            let block = self.blocks.get(id).ok_or(CatalogError::UnknownBlock { id: *id })?;
            if found.insert(*id, *block).is_some() {
                return Err(CatalogError::DuplicateBlock { id: *id });
            }
        }
        Ok(found.into_values().collect())
    }

    /// New blocks need ids that no block has, and a range if they have rows.
    pub(crate) fn check_added(&self, added: &[NewBlock]) -> Result<(), CatalogError> {
        let mut named = BTreeSet::new();
        for block in added {
            let id = block.id;
            let taken = self.blocks.contains_key(&id)
                || self.quarantined.contains_key(&id)
                || !named.insert(id);
            if taken {
                return Err(CatalogError::DuplicateBlock { id });
            }
            if id < self.retired_below {
                let reason = "it comes too late: what was stored under its id may be removed";
                return Err(CatalogError::UnfitBlock { id, reason });
            }
            if id.0 == u64::MAX {
                let reason = "the last id is kept as the end of all";
                return Err(CatalogError::UnfitBlock { id, reason });
            }
            if block.rows > 0 && block.range.is_empty() {
                let reason = "it has rows but an empty time range";
                return Err(CatalogError::UnfitBlock { id, reason });
            }
        }
        Ok(())
    }

    /// No block outside a swap may lie between its inputs in the order of commits while it
    /// overlaps them in time: nobody could tell any more whose sample came first. For the same
    /// reason the outcome stays inside the time range of the inputs.
    fn check_order(
        &self,
        inputs: &[BlockMeta],
        added: &[NewBlock],
        first_sequence: u64,
        last_sequence: u64,
    ) -> Result<(), CatalogError> {
        let range = inputs.iter().fold(inputs[0].range, |all, block| all.union(&block.range));
        let outside = |block: &&NewBlock| {
            block.range.start_ms < range.start_ms || range.end_ms < block.range.end_ms
        };
        if let Some(block) = added.iter().filter(|block| !block.range.is_empty()).find(outside) {
            let reason = "it reaches beyond the time range of the inputs";
            return Err(CatalogError::UnfitBlock { id: block.id, reason });
        }
        // One that is of the same commits as each of the inputs stands to the outcome as it stood to them.
        let place = (first_sequence, last_sequence);
        let is_of_one = inputs.iter().all(|b| (b.first_sequence, b.last_sequence) == place);
        let between = self.blocks.values().find(|block| {
            let is_beside = is_of_one && (block.first_sequence, block.last_sequence) == place;
            !is_beside
                && (block.tenant, block.signal) == (inputs[0].tenant, inputs[0].signal)
                && block.range.overlaps(&range)
                && block.first_sequence <= last_sequence
                && first_sequence <= block.last_sequence
                && inputs.binary_search_by_key(&block.id, |input| input.id).is_err()
        });
        match between {
            Some(block) => {
                let reason = "it was committed between the inputs and overlaps them in time";
                Err(CatalogError::UnfitBlock { id: block.id, reason })
            }
            None => Ok(()),
        }
    }

    fn check_expected(&self, key: &str, expected: Expected) -> Result<(), CatalogError> {
        let found = self.keys.get(key).map_or(0, |entry| entry.version);
        let expected = match expected {
            Expected::Any => return Ok(()),
            Expected::Absent => 0,
            Expected::Version(version) => version,
        };
        if found == expected {
            Ok(())
        } else {
            Err(CatalogError::VersionConflict { key: key.to_owned(), expected, found })
        }
    }

    fn add(
        &mut self,
        added: &[NewBlock],
        first_sequence: u64,
        last_sequence: u64,
        deletes_through: u64,
    ) -> Outcome {
        self.saw_deletes(deletes_through);
        let place = |block| BlockMeta::place(block, first_sequence, last_sequence, deletes_through);
        let blocks: Vec<BlockMeta> = added.iter().map(place).collect();
        for block in &blocks {
            // A reservation that was lost with a damaged frame must not cost the block, too.
            self.next_block_id = self.next_block_id.max(block.id.0 + 1);
            self.blocks.insert(block.id, *block);
        }
        Outcome::Added(blocks)
    }
}

/// The first and the last flush whose rows are in `blocks`.
fn sequences(blocks: &[BlockMeta]) -> (u64, u64) {
    blocks.iter().fold((u64::MAX, 0), |(first, last), block| {
        (first.min(block.first_sequence), last.max(block.last_sequence))
    })
}

/// Whether a command may leave a delete without anything that it concerns.
fn may_settle(command: &Command) -> bool {
    matches!(
        command,
        Command::Flush { .. }
            | Command::Swap { .. }
            | Command::Expire { .. }
            | Command::Quarantine { .. }
            | Command::SettleDeletes { .. }
            | Command::FlushLog { .. }
            | Command::FlushUnread { .. }
            | Command::ForgetUnread { .. }
            | Command::AddBlocks { .. }
            | Command::SetBroker { .. }
            | Command::RemoveBroker { .. }
            | Command::DeleteRows(_)
    )
}

pub(crate) fn check_deletes(found: u64, reached: u64) -> Result<(), CatalogError> {
    if found < reached {
        return Err(CatalogError::DeletesBackwards { found, reached });
    }
    Ok(())
}

pub(crate) fn check_size(
    what: &'static str,
    found: usize,
    limit: usize,
) -> Result<(), CatalogError> {
    if found > limit {
        let (found, limit) = (found as u64, limit as u64);
        return Err(CatalogError::TooLarge { what, found, limit });
    }
    Ok(())
}
