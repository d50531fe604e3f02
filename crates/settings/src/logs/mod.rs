//! How lines of logs are collected: one shape for what Promtail's and Alloy's configurations say.
//!
//! [`LogsConfig`] is what a collector works by. [`stage`] has what is done to lines, [`promtail`] and
//! [`alloy`] read the files of those, [`positions`] how far they have read.

pub mod alloy;
mod alloy_metrics;
mod alloy_sinks;
mod alloy_sources;
mod alloy_targets;
mod config;
mod go_values;
mod load;
mod own_sinks;
mod pods;
pub mod positions;
pub mod promtail;
mod read_metrics;
mod read_stage;
pub mod stage;
mod stage_keys;

pub use alloy_metrics::AlloyMetrics;
pub use config::{
    DockerSource, FileSource, JournalSource, LineLimits, LogJob, LogRoute, LogSink, LogSource,
    LogsConfig, PodSource, RouteStep, SinkProtocol, SlsTarget, StaticTarget, SyslogSource,
    SyslogTransport,
};
pub use load::LoadedLogs;
pub use own_sinks::parse_sinks;
pub use read_stage::{StageCheck, StageFault};

#[cfg(test)]
mod alloy_tests;
#[cfg(test)]
mod promtail_tests;
