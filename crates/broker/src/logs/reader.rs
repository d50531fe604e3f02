//! A view of one tenant's lines, across heads and blocks.

use std::sync::Arc;

use catalog::{BlockId, BlockMeta, Signal};
use logstore::{NsRange, ReadError, Source};
use model::{Matcher, TenantId, TimeRange};

use super::deletes::{of_block, of_head};
use crate::Broker;
use crate::maintenance::is_damage;

const MILLISECOND_NS: i64 = 1_000_000;

/// Reads lines that are committed. The list of deletes is taken first, heads second and blocks third, while
/// a flush publishes blocks first and drops heads second; a line that is found in both is one. What is past
/// its retention is not there, whether it was removed already or not.
pub struct LogsReader {
    broker: Broker,
    tenant: TenantId,
}

/// Where the lines of a range are. They stay readable for as long as somebody holds this, whatever is flushed,
/// merged, deleted or removed meanwhile.
#[derive(Debug)]
pub struct LogSelection {
    /// In order of commits, for [`logstore::Query`] with the matchers that were selected by.
    pub sources: Vec<Source>,
    /// The part of the range that is kept: what the query is to ask for.
    pub range: NsRange,
    /// What is missing in the range because it was damaged, in words.
    pub missing: Vec<String>,
    /// Those of the first sources, which are blocks.
    blocks: Vec<BlockId>,
}

impl LogSelection {
    /// Leaves a source out that cannot be read; what was asked can be asked again without it.
    ///
    /// # Panics
    /// It is none of the sources.
    pub fn remove(&mut self, error: &ReadError) {
        self.sources.remove(error.source_index);
        if error.source_index < self.blocks.len() {
            let block = self.blocks.remove(error.source_index);
            self.missing.push(format!("partial answer: block {block} cannot be read"));
        }
    }
}

impl Broker {
    /// A view of one tenant's lines.
    pub fn logs_reader(&self, tenant: TenantId) -> LogsReader {
        LogsReader { broker: self.clone(), tenant }
    }
}

impl LogsReader {
    /// Where the lines in a range are of the streams whose labels satisfy all matchers. Of the heads, up to 64
    /// KiB per stream are copied; of blocks, nothing is read.
    pub fn select(&self, matchers: &[Matcher], range: NsRange) -> LogSelection {
        let inner = &self.broker.inner;
        let oldest_ms = self.broker.oldest_log_ms(self.broker.now_ms());
        let start_ns = range.start_ns.max(oldest_ms.saturating_mul(MILLISECOND_NS));
        let range = NsRange::new(start_ns, range.end_ns);
        let (deletes, _) = inner.lines.deletes.current();
        let heads = inner.lines.heads.select(self.tenant, matchers, range);
        let within = milliseconds_of(range);
        let (open, mut missing) = {
            // Both at one moment: later a block may be there again that is not in this answer.
            let damaged = inner.damaged.lock();
            let lost = damaged.values().map(|damaged| &damaged.meta);
            let lost = lost.filter(|meta| self.concerns(meta, within)).map(lost_block);
            (inner.log_blocks.snapshot(), lost.collect::<Vec<_>>())
        };
        // In this order: a block leaves the first list after it came into the second.
        inner.catalog.read(|state| {
            let lost = state.quarantined().filter(|meta| self.concerns(meta, within));
            missing.extend(lost.map(lost_block));
        });
        missing.sort_unstable();
        missing.dedup();
        let (mut sources, mut blocks) = (Vec::new(), Vec::new());
        for one in open.iter().filter(|open| self.concerns(&open.meta, within)) {
            let deletes = of_block(&deletes, u64::MAX, &one.meta);
            sources.push(Source::Block { block: Arc::clone(&one.block), deletes });
            blocks.push(one.meta.id);
        }
        sources.extend(heads.into_iter().map(|found| Source::Head {
            deletes: of_head(&deletes, self.tenant, found.deletes_through, u64::MAX),
            head: found.head,
        }));
        LogSelection { sources, range, missing, blocks }
    }

    /// Sets a block aside that turned out to be damaged. One that could not be read for another reason, such
    /// as too few file handles, stays.
    pub fn report(&self, selection: &LogSelection, error: &ReadError) {
        if is_damage(&error.error)
            && let Some(block) = selection.blocks.get(error.source_index)
        {
            tracing::error!(%block, %error, "a query found a damaged block of logs");
            self.broker.inner.wake.damaged(*block);
        }
    }

    fn concerns(&self, meta: &BlockMeta, range: TimeRange) -> bool {
        (meta.tenant, meta.signal) == (self.tenant, Signal::Logs) && meta.range.overlaps(&range)
    }
}

/// The milliseconds that hold all times of a range.
fn milliseconds_of(range: NsRange) -> TimeRange {
    let last_ms = range.end_ns.saturating_sub(1).div_euclid(MILLISECOND_NS);
    TimeRange::new(range.start_ns.div_euclid(MILLISECOND_NS), last_ms + 1)
}

fn lost_block(meta: &BlockMeta) -> String {
    format!(
        "partial answer: block {} with {} lines from {} to {} ms was damaged and is in quarantine",
        meta.id, meta.rows, meta.range.start_ms, meta.range.end_ms
    )
}
