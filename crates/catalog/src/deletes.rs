//! Deletes, from when they are taken until nothing is left that they hide.

use std::ops::Bound;
use std::sync::Arc;

use crate::state::{Outcome, check_deletes};
use crate::tombstone::kept_since;
use crate::{BlockId, CatalogError, KEEPS_DELETES, MAX_KEPT_TOMBSTONES, State, Tombstone};

impl State {
    pub(crate) fn delete_rows(&mut self, tombstone: &Tombstone) -> Result<Outcome, CatalogError> {
        self.check_delete(tombstone)?;
        self.last_delete = tombstone.number;
        self.tombstones.insert(tombstone.number, Arc::new(tombstone.clone()));
        Ok(Outcome::Done)
    }

    pub(crate) fn settle_deletes(
        &mut self,
        blocks: &[BlockId],
        deletes_through: u64,
    ) -> Result<Outcome, CatalogError> {
        for block in self.listed(blocks)? {
            check_deletes(deletes_through, block.deletes_through)?;
        }
        for id in blocks {
            self.blocks.get_mut(id).expect("listed above").deletes_through = deletes_through;
        }
        self.saw_deletes(deletes_through);
        Ok(Outcome::Done)
    }

    /// A delete that was lost with a damaged frame must not give its number to another.
    pub(crate) fn saw_deletes(&mut self, deletes_through: u64) {
        self.last_delete = self.last_delete.max(deletes_through);
    }

    /// Whether something may be left that the delete hides.
    pub(crate) fn is_needed(&self, tombstone: &Tombstone) -> bool {
        // One machine alone has one log, a cluster has one for each broker.
        let is_in_log = match self.brokers.is_empty() {
            true => tombstone.number > self.flushed_deletes,
            false => false,
        };
        // In a cluster those that were set aside may be listed again.
        let set_aside = self.quarantined.values().filter(|_| !self.brokers.is_empty());
        is_in_log
            || self.has_segments_before(tombstone.number)
            || self.blocks.values().chain(set_aside).any(|block| tombstone.concerns(block))
    }

    pub(crate) fn forget_deletes(&mut self) {
        if self.tombstones.is_empty() {
            return;
        }
        let since = self.keys(KEEPS_DELETES).filter_map(|(_, kept)| kept_since(&kept.value)).min();
        let mut tombstones = std::mem::take(&mut self.tombstones);
        let mut may_wait = MAX_KEPT_TOMBSTONES;
        let mut gone = Vec::new();
        for (number, tombstone) in tombstones.iter().rev() {
            if self.is_needed(tombstone) {
                continue;
            }
            match since.is_some_and(|since| *number > since) && may_wait > 0 {
                true => may_wait -= 1,
                false => gone.push(*number),
            }
        }
        gone.iter().for_each(|number| _ = tombstones.remove(number));
        self.tombstones = tombstones;
    }

    /// Whether every delete after `number` is still known.
    pub fn knows_deletes_since(&self, number: u64) -> bool {
        let after = (Bound::Excluded(number), Bound::Unbounded);
        let known = self.tombstones.range(after).count() as u64;
        known == self.last_delete.saturating_sub(number)
    }
}
