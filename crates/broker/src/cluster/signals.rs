//! Blocks and rows of whichever signal, for what treats all of them alike.

use std::collections::BTreeMap;
use std::sync::Arc;

use blockstore::{BlockError, BlockSet, OpenBlock};
use catalog::{BlockId, BlockMeta, NewBlock, Signal};
use logstore::{LogBlock, LogFormat};
use metricstore::{CutData, MetricBlock, MetricFormat, ResolvedBatch};
use model::LogBatch;
use model::TenantId;

use crate::logs::FrozenHead;

/// A block that can be read.
#[derive(Clone)]
pub(super) enum AnyBlock {
    Samples(Arc<MetricBlock>),
    Lines(Arc<LogBlock>),
}

/// The blocks that queries see.
#[derive(Clone)]
pub(super) struct BlockSets {
    pub(super) samples: Arc<BlockSet<MetricFormat>>,
    pub(super) lines: Arc<BlockSet<LogFormat>>,
}

impl BlockSets {
    /// Opens and checks one, of the signal that is meant.
    ///
    /// # Errors
    /// As [`BlockSet::open_block`].
    pub(super) fn open_block(&self, id: BlockId, signal: Signal) -> Result<AnyBlock, BlockError> {
        match signal {
            Signal::Metrics => self.samples.open_block(id).map(AnyBlock::Samples),
            Signal::Logs => self.lines.open_block(id).map(AnyBlock::Lines),
        }
    }

    /// All of them.
    pub(super) fn open(&self) -> BTreeMap<BlockId, (BlockMeta, AnyBlock)> {
        let (samples, lines) = (self.samples.snapshot(), self.lines.snapshot());
        let samples = samples
            .iter()
            .map(|open| (open.meta.id, (open.meta, AnyBlock::Samples(Arc::clone(&open.block)))));
        let lines = lines
            .iter()
            .map(|open| (open.meta.id, (open.meta, AnyBlock::Lines(Arc::clone(&open.block)))));
        samples.chain(lines).collect()
    }

    /// What the catalog says of one that is seen.
    pub(super) fn meta(&self, id: BlockId) -> Option<BlockMeta> {
        let (samples, lines) = (self.samples.snapshot(), self.lines.snapshot());
        let metas = samples.iter().map(|open| open.meta);
        metas.chain(lines.iter().map(|open| open.meta)).find(|meta| meta.id == id)
    }

    /// Whether there are none.
    pub(super) fn is_empty(&self) -> bool {
        self.samples.snapshot().is_empty() && self.lines.snapshot().is_empty()
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.samples.snapshot().len() + self.lines.snapshot().len()
    }

    /// Replaces some. Of one signal a reader sees either all of the old or all of the new.
    pub(super) fn swap(&self, gone: &[BlockId], added: Vec<(BlockMeta, AnyBlock)>) {
        let (mut samples, mut lines) = (Vec::new(), Vec::new());
        for (meta, block) in added {
            match block {
                AnyBlock::Samples(block) => samples.push(OpenBlock { meta, block }),
                AnyBlock::Lines(block) => lines.push(OpenBlock { meta, block }),
            }
        }
        self.samples.swap(gone, samples);
        self.lines.swap(gone, lines);
    }
}

/// Rows of one batch of a segment.
pub(crate) enum Rows {
    Samples(Box<ResolvedBatch>),
    Lines(TenantId, Box<LogBatch>),
}

/// What a cut froze of heads.
#[derive(Clone, Default)]
pub(super) struct Frozen {
    pub(super) samples: Vec<CutData>,
    pub(super) lines: Vec<Arc<FrozenHead>>,
}

impl Frozen {
    /// How many samples there are, and how many lines.
    pub(super) fn rows(&self) -> (u64, u64) {
        let samples = self.samples.iter().map(CutData::rows).sum();
        (samples, self.lines.iter().map(|frozen| frozen.head.rows()).sum())
    }
}

/// Blocks by what their keys are made of.
pub(super) type Named = (BlockId, Signal);

/// The names of new blocks.
pub(super) fn named(blocks: &[NewBlock]) -> Vec<Named> {
    blocks.iter().map(|new| (new.id, new.signal)).collect()
}
