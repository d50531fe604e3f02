//! What the maintenance does about what is too old.

use catalog::{BlockId, BlockMeta, Command, Signal};

use super::Maintenance;
use crate::command;

impl Maintenance {
    /// Forgets what retention no longer keeps; damaged blocks, too, when their time is over.
    pub(super) fn expire(&self) {
        let (listed, (expired, damaged)): (Vec<BlockMeta>, _) = {
            let catalog = self.catalog.lock();
            (catalog.blocks().copied().collect(), self.planner.expired(&catalog))
        };
        let removed: Vec<BlockId> = expired.iter().copied().chain(damaged).collect();
        if removed.is_empty() {
            return;
        }
        match command(&self.committer, Command::Expire { removed }) {
            Ok(_) => {
                let gone = listed.iter().filter(|meta| expired.contains(&meta.id));
                let is_of_samples = |meta: &&BlockMeta| meta.signal == Signal::Metrics;
                let (samples, lines): (Vec<_>, Vec<_>) = gone.partition(is_of_samples);
                let ids = |metas: &[&BlockMeta]| metas.iter().map(|meta| meta.id).collect();
                let (of_samples, of_lines): (Vec<BlockId>, Vec<BlockId>) =
                    (ids(&samples), ids(&lines));
                self.blocks.swap(&of_samples, Vec::new());
                self.log_blocks.swap(&of_lines, Vec::new());
                samples.iter().for_each(|meta| self.shards.changes().note_range(meta.range));
                self.delete_blobs(&of_samples);
                self.delete_log_blobs(&of_lines);
                self.forget_deletes();
                self.count(&self.counters.expired_blocks, expired.len() as u64);
            }
            Err(error) => tracing::warn!(%error, "old blocks are removed later"),
        }
    }

    /// Forgets agents and their marks when they are silent for longer than anything they sent is
    /// kept.
    pub(super) fn forget_agents(&self) {
        let Some(before_ms) = self.planner.forgotten_before_ms() else { return };
        self.fleet.forget_silent(before_ms, &self.committer);
        if self.catalog.lock().marks().all(|(_, _, marks)| marks.at_ms >= before_ms) {
            return;
        }
        if let Err(error) = command(&self.committer, Command::ExpireMarks { before_ms }) {
            tracing::warn!(%error, "marks of agents long gone are removed later");
        }
    }
}
