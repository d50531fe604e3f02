//! The section that tells when float samples began at zero.

use codec::varint::{put_runs, take_i64};
use model::{MetricBatch, SeriesRows};

use super::Fields;
use crate::WireError;

/// Whether there is something to tell.
pub(super) fn has_any(batch: &MetricBatch) -> bool {
    batch.starts_ms.iter().any(|start_ms| *start_ms != 0)
}

/// Appends the starts of the samples of `batch`, in their order in the section of samples.
pub(super) fn put(batch: &MetricBatch, out: &mut Vec<u8>) {
    let rows = |series: &SeriesRows| series.first_row..series.first_row + series.rows;
    let starts = batch.series.iter().flat_map(rows).map(|row| batch.start_ms(row as usize));
    // Of the last ones nothing is known if nothing is said.
    let known = starts.clone().zip(1..).filter(|(start_ms, _)| *start_ms != 0).last();
    put_runs(out, starts.take(known.map_or(0, |(_, len)| len)));
}

/// Takes what [`put`] wrote, behind the samples.
pub(super) fn take(fields: &mut Fields<'_>, out: &mut MetricBatch) -> Result<(), WireError> {
    fields.spend(out.rows(), size_of::<i64>())?;
    let mut start_ms = 0_i64;
    while !fields.rest.is_empty() {
        let run = fields.number()?;
        let step = take_i64(&mut fields.rest);
        start_ms = start_ms.wrapping_add(fields.located(step)?);
        let left = out.rows() - out.starts_ms.len();
        let run = usize::try_from(run).ok().filter(|run| (1..=left).contains(run));
        let run = run.ok_or_else(|| fields.malformed("starts of more samples than there are"))?;
        out.starts_ms.resize(out.starts_ms.len() + run, start_ms);
    }
    Ok(())
}
