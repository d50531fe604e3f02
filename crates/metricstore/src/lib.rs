//! Storage of metrics: heads and blocks; append, select, flush, merge.
//!
//! A sample walks: [`Registry::resolve`] gives its series an ordinal and its row a shard →
//! [`LogEncoder`] makes the bytes that are made durable → [`Shard::append`] makes it searchable →
//! [`Shard::cut`] and [`FlushPlan`] write it into a block → [`MetricFormat`] merges blocks.
//! [`Selected`] reads all of them as one.
//!
//! The crate is synchronous and pure: no clock, no disk, no threads, no randomness; they are the
//! caller's and come in as arguments. Formats: `docs/formats/metric-log-payload.md`,
//! `docs/formats/metric-block.md`.
//!
//! | module | what |
//! |---|---|
//! | [`registry`] | label bytes → ordinals; limits; release of idle series |
//! | [`rows`] | samples as columns; "the first commit wins" |
//! | `histogram_columns`, `histogram_head` | native histograms, which lie beside the floats |
//! | `starts` | when values began at zero, where that is known |
//! | `gathered` | samples of one series from several sources |
//! | [`log_payload`] | batches ↔ bytes of the log |
//! | [`exemplars`] | the last exemplars of all series, and the file that keeps them |
//! | [`shard`] | the head: `generation` between two cuts, tails in `tracks`, `packed_values` and `slab` |
//! | [`flush`] | frozen generations → blocks |
//! | [`block`] | blocks: `pages`, `directory`, `block_writer`, `group_writer`, `block_reader` |
//! | `page_cache` | what queries read of blocks lately |
//! | `merge` | blocks → one block |
//! | `rollup` | what is known of the samples of each window |
//! | [`select`] | matchers → series and their samples |
//! | `label_query` | matchers → label names and values, and how many series bear them |
//! | [`retention`] | how long the series of a selector are kept |
//! | `deletes` | what deletes hide of a source; `series_bits`: of which series |

pub mod block;
pub mod exemplars;
pub mod flush;
pub mod log_payload;
pub mod registry;
pub mod retention;
pub mod rows;
pub mod select;
pub mod shard;

mod block_contents;
mod block_reader;
mod block_writer;
mod deletes;
mod directory;
mod downsampling;
mod error;
mod exemplar_file;
mod fingerprint;
mod gathered;
mod generation;
mod group_writer;
mod histogram_columns;
mod histogram_head;
mod label_query;
mod log_exemplars;
mod log_histograms;
mod log_starts;
mod merge;
mod packed_values;
mod page_cache;
mod pages;
mod rollup;
mod series_bits;
mod slab;
mod starts;
mod tracks;

pub use block::{MetricBlock, MetricFormat, ROLLED_LEVEL, THINNED_LEVEL};
pub use deletes::{Delete, Deletes};
pub use downsampling::{DownsamplingRule, DownsamplingRules};
pub use error::MetricError;
pub use exemplars::{
    ExemplarFileError, ExemplarOutcome, ExemplarSnapshot, ExemplarStore, Standing,
};
pub use flush::{FlushPlan, PlannedBlock};
pub use histogram_columns::HistogramColumns;
pub use label_query::{HeadLabels, LabelQuery};
pub use labelindex::{Cardinality, Census, Period};
pub use log_payload::{LogDecoder, LogEncoder};
pub use page_cache::PageCache;
pub use registry::{
    Admission, ExemplarRefusals, HeadSeries, NameOfRefused, NewSeries, Registry, Releasing,
};
pub use retention::{RetentionRule, RetentionRules};
pub use rows::{ExemplarRow, HistogramRow, Reject, ResolvedBatch, ShardRows};
pub use select::{BlockSource, HeadSnapshot, SelectCost, Selected};
pub use shard::{AppendOutcome, CutData, HeadChunks, Shard};
