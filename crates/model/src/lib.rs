//! The vocabulary every other crate speaks: labels, matchers, time, tenants, limits and batches.
//!
//! Nothing here knows a disk, a socket or a clock. Types are parsed once at the edge and trusted
//! afterwards.

mod batch;
mod calendar;
mod census;
mod exemplar;
pub mod go_time;
pub mod histogram;
mod labels;
mod limits;
mod log_batch;
mod log_limits;
mod matcher;
pub mod quote;
pub mod regex;
mod rollup;
mod search;
mod share;
mod tenant;
mod time;
pub mod within;
pub mod zone;
mod zone_files;

pub use batch::{LabelForm, MetricBatch, MetricMetadata, MetricType, SeriesRows};
pub use calendar::{civil_from_days, days_from_civil, days_in_month, parse_rfc3339_ms, rfc3339};
pub use census::{CensusEntry, CensusOrder, CensusReport, CensusRequest};
pub use exemplar::{Exemplar, ExemplarSample, MAX_EXEMPLAR_CHARS, SeriesExemplars};
pub use histogram::{
    BucketLayout, Count, FloatHistogram, Histogram, HistogramError, HistogramSample,
    IntegerHistogram, NativeHistogram, ResetHint, Span,
};
pub use labels::{
    LabelError, Labels, LabelsBuilder, METRIC_NAME, is_legacy_label_name, is_legacy_metric_name,
};
pub use limits::Limits;
pub use log_batch::{
    LogBatch, LogBatchError, LogRecord, LogRecords, MAX_LOG_BATCH_BYTES, MAX_LOG_LINE_BYTES,
};
pub use log_limits::{LEVEL_FIELDS, LogLimits};
pub use matcher::{MatchOp, Matcher, MatcherError};
pub use rollup::RollupRow;
pub use search::{BestNames, FoundName, NameSearch, Scorer, SearchAlgorithm, SearchOrder};
pub use share::Share;
pub use tenant::{DEFAULT_TENANT, NO_TENANT, TenantId, TenantName, TenantNameError};
pub use time::TimeRange;
pub use zone_files::{NO_ZONES, ZoneFiles, Zones};

/// Bit pattern of the value that marks a series as gone at a timestamp.
/// Source: Prometheus `model/value/value.go`, `StaleNaN`.
pub const STALE_NAN_BITS: u64 = 0x7ff0_0000_0000_0002;

/// Bit pattern of the ordinary quiet NaN that Prometheus produces itself
/// (`model/value/value.go`, `NormalNaN`).
pub const NORMAL_NAN_BITS: u64 = 0x7ff8_0000_0000_0001;

/// Whether `value` is the staleness marker. Other NaNs are ordinary values.
#[inline]
pub fn is_stale_nan(value: f64) -> bool {
    value.to_bits() == STALE_NAN_BITS
}
