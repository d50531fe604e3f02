//! What a selection reads, for whoever explains a query.

use super::{Part, Selected};
use crate::shard::HeadChunks;

/// How much of heads and blocks a selection has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SelectCost {
    /// Blocks that have samples of it.
    pub blocks: u64,
    /// Chunks of blocks that overlap the range.
    pub chunks: u64,
    /// Series of it that have samples in the head.
    pub head_series: u64,
    /// Bytes that were copied of the head, and of the pages that were decompressed so far.
    pub bytes: u64,
    /// Lengths of the windows of rollups that were read so far, ascending, milliseconds; 0 where there
    /// are no more. Of more than four the shortest.
    pub rollups_ms: [i64; 4],
}

impl Selected {
    /// What it has of heads and blocks. About 1 ns per part.
    pub fn cost(&self) -> SelectCost {
        let mut has_block = vec![false; self.blocks.len()];
        let mut cost = SelectCost::default();
        for part in &self.parts {
            let part = match *part {
                Part::Masked { index, .. } => self.masked[index as usize].part,
                part => part,
            };
            match part {
                Part::Chunk { block, .. }
                | Part::Histograms { block, .. }
                | Part::Rollups { block, .. } => {
                    has_block[block as usize] = true;
                    cost.chunks += 1;
                }
                Part::Head { .. } => cost.head_series += 1,
                Part::Masked { .. } => unreachable!("a masked part is not masked again"),
            }
        }
        let mut rollups_ms: Vec<i64> = self
            .blocks
            .iter()
            .filter(|(_, reader)| reader.has_read_rollups())
            .map(|(_, reader)| reader.block().rollup_ms())
            .collect();
        rollups_ms.sort_unstable();
        rollups_ms.dedup();
        for (slot, rollup_ms) in cost.rollups_ms.iter_mut().zip(rollups_ms) {
            *slot = rollup_ms;
        }
        cost.blocks = has_block.iter().filter(|has| **has).count() as u64;
        let head_bytes: usize = self.heads.iter().map(HeadChunks::bytes).sum();
        cost.bytes = (head_bytes + self.decompressed_bytes()) as u64;
        cost
    }
}
