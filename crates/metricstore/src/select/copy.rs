//! What was selected, as a block of its own: so one broker gives another what only its heads have.

use std::sync::Arc;

use blockstore::{BlobWriter, BlockError, BlockSummary};

use super::Selected;
use crate::block::MetricFormat;
use crate::block_writer::BlockWriter;
use crate::error::MetricError;

/// It is read once, soon, and perhaps by a neighbour.
const ZSTD_LEVEL: i32 = 1;

impl Selected {
    /// Writes the samples of all series that lie in the range as a block; what is deleted is not in it.
    /// About 80 ns per sample. The caller finishes the blob, and drops it if the summary says 0 rows.
    ///
    /// # Errors
    /// As [`Selected::read`], and faults of `out`.
    pub fn write_block(
        &self,
        format: &MetricFormat,
        out: &mut dyn BlobWriter,
    ) -> Result<BlockSummary, MetricError> {
        let of_output =
            |error: BlockError| MetricError::Block { block: Arc::from("of an answer"), error };
        let mut writer = BlockWriter::new(out, ZSTD_LEVEL, format.seed()).map_err(of_output)?;
        for (index, labels) in self.labels().iter().enumerate() {
            let mut gathered = self.gather(index, true)?;
            writer.series(labels.clone()).map_err(of_output)?;
            writer
                .push(&gathered.timestamps, &gathered.values, &gathered.starts)
                .map_err(of_output)?;
            writer.push_histograms(&mut gathered.histograms).map_err(of_output)?;
        }
        writer.finish().map_err(of_output)
    }
}
