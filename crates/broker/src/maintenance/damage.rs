//! What the maintenance does about damaged blocks.

use std::collections::BTreeMap;

use blockstore::{BlobError, BlockError};
use catalog::{BlockId, BlockMeta, Command, Signal};
use parking_lot::Mutex;

use super::Maintenance;
use crate::command;
use crate::commit::CommitError;

/// Damaged blocks that are taken out, or about to be, and that the catalog does not call
/// quarantined yet: answers are partial already.
pub(crate) type DamagedBlocks = Mutex<BTreeMap<BlockId, Damaged>>;

/// One of [`DamagedBlocks`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct Damaged {
    /// What the catalog says of it.
    pub(crate) meta: BlockMeta,
    /// What is left to do.
    pub(crate) left: Unfinished,
}

impl Damaged {
    /// What an answer lacks without it, in words.
    pub(crate) fn words(&self) -> String {
        match self.left {
            Unfinished::Move | Unfinished::Tell => words_of_quarantined(&self.meta),
            Unfinished::Open => {
                let what = rows_of(&self.meta);
                format!("partial answer: {what} cannot be read from the store for now")
            }
        }
    }
}

/// What an answer lacks without a block that is in quarantine, or soon will be.
pub(crate) fn words_of_quarantined(meta: &BlockMeta) -> String {
    format!("partial answer: {} was damaged and is in quarantine", rows_of(meta))
}

fn rows_of(meta: &BlockMeta) -> String {
    let unit = match meta.signal {
        Signal::Metrics => "samples",
        Signal::Logs => "lines",
    };
    let (start_ms, end_ms) = (meta.range.start_ms, meta.range.end_ms);
    format!("block {} with {} {unit} from {start_ms} to {end_ms} ms", meta.id, meta.rows)
}

/// What is left to do about a damaged block. A full disk may put it off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unfinished {
    /// Move its file, then tell the catalog.
    Move,
    /// Tell the catalog.
    Tell,
    /// Nothing, of a shared store: it is not known to be damaged, and is opened as soon as it can be.
    Open,
}

impl Maintenance {
    /// Takes a damaged block out, so that it is not read again.
    pub(super) fn set_aside(&self, id: BlockId) {
        let (samples, lines) = (self.blocks.snapshot(), self.log_blocks.snapshot());
        let metas = samples.iter().map(|open| open.meta);
        let mut metas = metas.chain(lines.iter().map(|open| open.meta));
        let Some(meta) = metas.find(|meta| meta.id == id) else { return };
        self.count(&self.counters.quarantined_blocks, 1);
        // First of all: no answer may lack the block and not say so.
        self.damaged.lock().insert(id, Damaged { meta, left: Unfinished::Move });
        match meta.signal {
            Signal::Metrics => {
                self.blocks.swap(&[id], Vec::new());
                self.shards.changes().note_range(meta.range);
            }
            Signal::Logs => self.log_blocks.swap(&[id], Vec::new()),
        }
        self.finish_damaged();
    }

    /// Moves damaged blocks to quarantine and tells the catalog, which makes answers partial also
    /// after a restart. What cannot be done now is done later.
    pub(super) fn finish_damaged(&self) {
        let unfinished: Vec<Damaged> = self.damaged.lock().values().copied().collect();
        for Damaged { meta: BlockMeta { id, signal, .. }, left } in unfinished {
            if left == Unfinished::Move {
                let moved = match signal {
                    Signal::Metrics => self.blocks.quarantine(id),
                    Signal::Logs => self.log_blocks.quarantine(id),
                };
                if let Err(error) = moved {
                    tracing::error!(block = %id, %error, "a damaged block is set aside later");
                    continue;
                }
                if let Some(damaged) = self.damaged.lock().get_mut(&id) {
                    damaged.left = Unfinished::Tell;
                }
            }
            match command(&self.committer, Command::Quarantine { block: id }) {
                // A refusal: expired or merged meanwhile, there is nothing left to tell.
                Ok(_) | Err(CommitError::Catalog(_)) => {
                    self.damaged.lock().remove(&id);
                }
                Err(error) => {
                    tracing::warn!(block = %id, %error, "the catalog hears of a damaged block later");
                }
            }
        }
    }
}

/// Whether the block is to blame, and not a disk or a process in trouble.
pub(crate) fn is_damage(error: &BlockError) -> bool {
    matches!(
        error,
        BlockError::Corrupt { .. }
            | BlockError::Blob(BlobError::NotFound { .. } | BlobError::Damaged { .. })
    )
}
