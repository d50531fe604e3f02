//! Lines of logs: from where they are written, through stages, to a broker.
//!
//! A source reads lines and knows for each the offset at which it begins. A [`Pipeline`] of the
//! source's own makes of each line none, one or, once it has seen what follows, one of several. What
//! comes out is durable before the source's position moves, and the position says which lines a
//! pipeline still holds, so that a kill neither loses nor doubles one.
//!
//! ```text
//! files, journal ── pipelines ── batch ── spool: lines and positions ── lane of lines ── broker
//!                    one thread                one record               or: same process
//! ```

mod batch;
pub(crate) mod collector;
mod config;
mod containers;
mod delivery;
mod encoding;
mod entry;
mod file;
mod files;
mod glob;
mod journal;
pub(crate) mod line_spool;
mod path_labels;
pub(crate) mod position;
mod push;
mod receivers;
mod stages;
mod status;
mod take_over;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use blockstore::FileDisk;

use crate::clock::Now;
use crate::error::AgentError;
use crate::spool::SpoolCounters;
use line_spool::LineSpool;
use position::Positions;

pub use config::{
    FileGroup, FirstEntries, ForeignPositions, JournalConfig, LINGER, Layout, LogsConfig, Start,
    StdinConfig, SyslogConfig, SyslogListen,
};
pub use containers::{Format, Unwrapping};
pub use delivery::{LineStore, LinesRefused, LocalCollection, NumberedLines, OnDelivered};
pub use encoding::Encoding;
pub use entry::{Entries, Entry, Pipeline, Stages, Unchanged};
pub use glob::Glob;
pub use push::{Push, PushCounters};
pub use stages::{JournalLabels, LogStages, PodLabels, StageContext, StageCounters, check_stage};
pub use status::{
    CollectionStatus, LookStatus, PassedOver, PatternStatus, Progress, SourceKind, SourceStatus,
};

/// Opens the spool of lines, and tells how far all sources are read.
pub(crate) fn open_spool(
    config: &LogsConfig,
    counters: Arc<SpoolCounters>,
) -> Result<(Arc<LineSpool>, Positions), AgentError> {
    let disk = Arc::new(FileDisk::open(&config.directory)?);
    let random = crate::agent::random_incarnation()?;
    let (spool, mut positions) = LineSpool::open(disk, config.spool.clone(), random, counters)?;
    let now = Now::get();
    let taken_over = take_over::take_over(&config.take_over, &mut positions, now.wall_ms)?;
    if !taken_over.is_empty() {
        // All of them in one write: a kill before takes them over again, one behind it does not.
        spool.note(taken_over);
        spool.write_positions(now, true);
    }
    Ok((Arc::new(spool), positions))
}

/// The lines of a batch, in their order.
#[cfg(test)]
fn test_lines(batch: &batch::LinesBatch) -> Vec<String> {
    let mut found = Vec::new();
    for (_, batch) in batch.batches() {
        let (mut records, mut metadata) = (batch.records(), Vec::new());
        while let Some(record) = records.next_record(&mut metadata).expect("own parts") {
            if let model::LogRecord::Line { line, .. } = record {
                found.push(String::from_utf8_lossy(line).into_owned());
            }
        }
    }
    found
}
