//! Frozen generations into blocks.

use std::collections::{BTreeMap, BTreeSet};

use blockstore::BlobWriter;
use blockstore::{BlockError, BlockSummary};
use catalog::Tombstone;
use model::{Matcher, TenantId, TimeRange};

use crate::block::MetricFormat;
use crate::block_writer::BlockWriter;
use crate::deletes::{Deletes, Masks};
use crate::gathered::Gathered;
use crate::registry::Registry;
use crate::shard::CutData;

/// Length of the windows that flushed blocks are aligned to.
pub const WINDOW_MS: i64 = 2 * 60 * 60 * 1_000;

/// A flush is on the way of ingest and its block lives for hours, so it compresses lightly.
const ZSTD_LEVEL: i32 = 1;

/// Which blocks some cuts become: one per tenant and window of two hours.
#[derive(Debug)]
pub struct FlushPlan {
    cuts: Vec<CutData>,
    blocks: Vec<PlannedBlock>,
    /// What is deleted, by tenant.
    masks: BTreeMap<TenantId, Masks>,
}

/// A block that a [`FlushPlan`] asks for.
#[derive(Debug)]
pub struct PlannedBlock {
    tenant: TenantId,
    window: TimeRange,
    /// Ascending by labels.
    ordinals: Vec<u32>,
}

impl PlannedBlock {
    /// Whose samples it holds.
    pub fn tenant(&self) -> TenantId {
        self.tenant
    }

    /// The window it lies in, aligned to [`WINDOW_MS`].
    pub fn window(&self) -> TimeRange {
        self.window
    }
}

impl FlushPlan {
    /// Plans the flush of `cuts`, those of one shard in the order they were made, without what
    /// `deletes` hide in them. About 100 ns per series, plus sorting.
    pub fn new(cuts: Vec<CutData>, deletes: &Deletes, registry: &Registry) -> Self {
        let mut by_block: BTreeMap<(TenantId, i64), Vec<u32>> = BTreeMap::new();
        for window in windows(&cuts) {
            let mut ordinals: Vec<u32> = cuts.iter().flat_map(|cut| cut.ordinals(window)).collect();
            ordinals.sort_unstable();
            ordinals.dedup();
            registry.for_each_tenant(&ordinals, |ordinal, tenant| {
                by_block.entry((tenant, window.start_ms)).or_default().push(ordinal);
            });
        }
        let masks = find_masks(&cuts, deletes, registry);
        let blocks = by_block
            .into_iter()
            .map(|((tenant, start_ms), mut ordinals)| {
                registry.sort_by_labels(tenant, &mut ordinals);
                let window = TimeRange::new(start_ms, start_ms.saturating_add(WINDOW_MS));
                PlannedBlock { tenant, window, ordinals }
            })
            .collect();
        FlushPlan { cuts, blocks, masks }
    }

    /// The same rows in smaller blocks, none of them made of much more than so many bytes of memory unless
    /// one series is. Series differ less than tenants do: it goes by their number.
    #[must_use]
    pub fn in_parts(mut self, max_bytes: usize) -> Self {
        let bytes: usize = self.cuts.iter().map(CutData::bytes).sum();
        let series: usize = self.blocks.iter().map(|block| block.ordinals.len()).sum();
        let most = (series as u128 * max_bytes as u128) / (bytes.max(1) as u128);
        let most = usize::try_from(most).unwrap_or(usize::MAX).max(1);
        let parts = |block: PlannedBlock| {
            let PlannedBlock { tenant, window, ordinals } = block;
            let part = |part: &[u32]| PlannedBlock { tenant, window, ordinals: part.to_vec() };
            ordinals.chunks(most).map(part).collect::<Vec<_>>()
        };
        self.blocks = std::mem::take(&mut self.blocks).into_iter().flat_map(parts).collect();
        self
    }

    /// The blocks to write, by tenant and time. Each may be written by another thread.
    pub fn blocks(&self) -> &[PlannedBlock] {
        &self.blocks
    }

    /// Writes one block of the plan. About 80 ns per sample. The caller finishes the blob, and
    /// drops it if the summary says 0 rows.
    ///
    /// # Errors
    /// Faults of the store.
    pub fn write(
        &self,
        planned: &PlannedBlock,
        format: &MetricFormat,
        registry: &Registry,
        out: &mut dyn BlobWriter,
    ) -> Result<BlockSummary, BlockError> {
        let mut writer = BlockWriter::new(out, ZSTD_LEVEL, format.seed())?;
        let mut gathered = Gathered::default();
        let masks = self.masks.get(&planned.tenant).filter(|masks| !masks.is_empty());
        // Labels are taken in batches, so that the registry is not locked while blocks are written.
        for ordinals in planned.ordinals.chunks(1_024) {
            let mut labels = Vec::with_capacity(ordinals.len());
            registry.for_each_labels(ordinals, |_, of_one| labels.push(of_one));
            for (&ordinal, labels) in ordinals.iter().zip(labels) {
                gathered.clear();
                for cut in self.cuts.iter().filter(|cut| cut.holds(ordinal)) {
                    let kept =
                        masks.and_then(|m| m.kept(ordinal, cut.deletes_through(), planned.window));
                    let kept = kept.as_deref().unwrap_or(std::slice::from_ref(&planned.window));
                    gathered
                        .add(|timestamps, values, histograms| {
                            kept.iter().try_for_each(|&kept| {
                                cut.read(ordinal, kept, timestamps, values)?;
                                cut.read_histograms(ordinal, kept, histograms)
                            })
                        })
                        .expect("a chunk in memory decodes to what was encoded");
                    if let Some(starts) = cut.starts(ordinal) {
                        gathered.note_starts(starts);
                    }
                }
                writer.add_conflicts(gathered.settle());
                writer.series(labels)?;
                writer.push(&gathered.timestamps, &gathered.values, &gathered.starts)?;
                writer.push_histograms(&mut gathered.histograms)?;
            }
        }
        writer.finish()
    }
}

/// What deletes hide in `cuts`, by tenant. The index is not asked about deletes that lie before all
/// of a cut's samples, or in another time.
fn find_masks(
    cuts: &[CutData],
    deletes: &Deletes,
    registry: &Registry,
) -> BTreeMap<TenantId, Masks> {
    let is_concerned = |cut: &CutData, tombstone: &Tombstone| {
        tombstone.number > cut.deletes_through() && tombstone.range.overlaps(&cut.range())
    };
    let concerning =
        deletes.iter().filter(|one| cuts.iter().any(|cut| is_concerned(cut, one.tombstone())));
    let deletes = Deletes::new(concerning.cloned().collect());
    let tenants: BTreeSet<TenantId> =
        deletes.iter().map(|delete| delete.tombstone().tenant).collect();
    let find = |tenant| {
        let deletes = deletes.of_tenant(tenant);
        let select = |matchers: &[Matcher]| registry.select(tenant, matchers).ordinals;
        (tenant, Masks::find(deletes.iter(), &[], select))
    };
    tenants.into_iter().map(find).collect()
}

/// The aligned windows in which some sample of `cuts` lies, ascending.
fn windows(cuts: &[CutData]) -> Vec<TimeRange> {
    let mut starts = BTreeSet::new();
    for cut in cuts.iter().filter(|cut| cut.rows() > 0) {
        let range = cut.range();
        let (first, last) = (window_start(range.start_ms), window_start(range.end_ms - 1));
        starts.insert(first);
        starts.insert(last);
        // Nearly always there is one window or two neighbours, and nothing needs to be looked at.
        if last.saturating_sub(first) > WINDOW_MS {
            cut.for_each_timestamp(|t_ms| {
                starts.insert(window_start(t_ms));
            });
        }
    }
    starts.into_iter().map(|start| TimeRange::new(start, start.saturating_add(WINDOW_MS))).collect()
}

fn window_start(t_ms: i64) -> i64 {
    t_ms.div_euclid(WINDOW_MS).saturating_mul(WINDOW_MS)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use catalog::{LabelCondition, Signal};
    use model::MatchOp;

    use super::*;
    use crate::deletes::Delete;
    use crate::rows::ShardRows;
    use crate::shard::Shard;

    #[test]
    fn deletes_of_another_time_cost_a_flush_no_search() {
        let mut shard = Shard::new(0, 1);
        let mut rows = ShardRows::default();
        rows.ordinals.push(0);
        rows.timestamps_ms.push(1_000);
        rows.values.push(1.0);
        shard.append(&rows);
        let cuts = shard.cut();
        let registry = Registry::new(1);
        let searched = |number, range| {
            let name = "__name__".to_owned();
            let any = LabelCondition { name, op: MatchOp::Regex, value: ".+".to_owned() };
            let tombstone = Tombstone {
                number,
                tenant: TenantId(0),
                signal: Signal::Metrics,
                range,
                at_ms: 0,
                selectors: vec![vec![any]],
            };
            let delete = Delete::new(Arc::new(tombstone)).expect("a pattern");
            let deletes = Deletes::new(vec![Arc::new(delete)]);
            !find_masks(&cuts, &deletes, &registry).is_empty()
        };
        assert!(searched(1, TimeRange::new(1_000, 1_001)));
        assert!(!searched(1, TimeRange::new(0, 1_000)) && !searched(1, TimeRange::new(1_001, 9)));
        assert!(!searched(0, TimeRange::all()), "older than the cut");
    }
}
