//! From heads to blocks: which blocks a flush writes.
//!
//! A block lies in one window of two hours, so that merges find neighbours and retention finds whole days,
//! whenever lines were sent: a line of last week must not make a block of a week.

use std::sync::Arc;

use blockstore::{BlobWriter, BlockError, BlockSummary, MergePart};
use logstore::{Entries, LogFormat, MetadataWanted, NsRange, Query, Source};
use model::{Labels, TenantId};

use super::deletes::{LineDeletes, of_head};
use super::heads::FrozenHead;

/// Length of the windows.
const WINDOW_NS: i64 = 2 * 60 * 60 * 1_000_000_000;
/// Blocks of one tenant in one flush: the windows of a month. What is beyond is in one, the last.
const MAX_BLOCKS: usize = 400;

/// A block that a flush is to write.
pub(crate) struct PlannedLines {
    pub(crate) tenant: TenantId,
    sources: Vec<Source>,
    keep: NsRange,
}

impl PlannedLines {
    /// Writes it, or a part of it, and yields the last stream of that if there are more.
    ///
    /// # Errors
    /// Faults of the store.
    pub(crate) fn write(
        &self,
        format: &LogFormat,
        part: &MergePart,
        out: &mut dyn BlobWriter,
    ) -> Result<(BlockSummary, Option<Labels>), BlockError> {
        format.flush_part(self.sources.clone(), self.keep, part, out)
    }
}

/// What is to be written of heads that a cut froze, without what deletes up to a number hide. `heads` are
/// sorted by tenant, each in the order in which its lines came.
///
/// # Errors
/// A head cannot be read, which is a defect of this program.
pub(crate) fn plan_flush(
    heads: &[Arc<FrozenHead>],
    deletes: &LineDeletes,
    through: u64,
) -> Result<Vec<PlannedLines>, BlockError> {
    let mut planned = Vec::new();
    for of_tenant in heads.chunk_by(|a, b| a.tenant == b.tenant) {
        let source = |frozen: &Arc<FrozenHead>| Source::Head {
            head: frozen.head.snapshot(&[], NsRange::all()),
            deletes: of_head(deletes, frozen.tenant, frozen.deletes_through, through),
        };
        let tenant = of_tenant[0].tenant;
        let sources: Vec<Source> = of_tenant.iter().map(source).collect();
        let mut from_ns = i64::MIN;
        for count in 1.. {
            let Some(first_ns) = first_line(&sources, from_ns)? else { break };
            let mut keep = window_of(first_ns);
            if count == MAX_BLOCKS {
                keep.end_ns = i64::MAX;
            }
            planned.push(PlannedLines { tenant, sources: sources.clone(), keep });
            if keep.end_ns == i64::MAX {
                break;
            }
            from_ns = keep.end_ns;
        }
    }
    Ok(planned)
}

/// The time of the first line at or after another.
fn first_line(sources: &[Source], from_ns: i64) -> Result<Option<i64>, BlockError> {
    let query = Query::new(Vec::new(), NsRange::new(from_ns, i64::MAX))
        .without_lines()
        .with_metadata(MetadataWanted::None);
    let mut entries = Entries::new(query, sources.to_vec()).map_err(|fault| fault.error)?;
    let first = entries.next_entry().map_err(|fault| fault.error)?;
    Ok(first.map(|entry| entry.timestamp_ns))
}

fn window_of(t_ns: i64) -> NsRange {
    let start_ns = t_ns.div_euclid(WINDOW_NS).saturating_mul(WINDOW_NS);
    // The first window begins before the first time there is.
    let end_ns = t_ns.div_euclid(WINDOW_NS).saturating_add(1).saturating_mul(WINDOW_NS);
    NsRange::new(start_ns, end_ns)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_hold_their_times() {
        for t_ns in [i64::MIN, -WINDOW_NS - 1, -WINDOW_NS, -1, 0, WINDOW_NS - 1, i64::MAX] {
            let window = window_of(t_ns);
            assert!(window.contains(t_ns), "{t_ns} in {window:?}");
            assert!(window.start_ns == i64::MIN || window.start_ns % WINDOW_NS == 0);
        }
        assert_eq!(window_of(-1), NsRange::new(-WINDOW_NS, 0));
    }
}
