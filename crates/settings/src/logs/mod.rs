//! How lines of logs are collected: one shape for what Promtail's and Alloy's configurations say.
//!
//! [`LogsConfig`] is what a collector works by. [`stage`] has what is done to lines, [`promtail`] and
//! [`alloy`] read the files of those, [`positions`] how far they have read.

pub mod alloy;
mod alloy_sinks;
mod alloy_sources;
mod alloy_targets;
mod config;
mod go_values;
mod load;
pub mod positions;
pub mod promtail;
mod read_metrics;
mod read_stage;
pub mod stage;
mod stage_keys;

pub use config::{
    DockerSource, FileSource, JournalSource, LineLimits, LogJob, LogRoute, LogSink, LogSource,
    LogsConfig, RouteStep, StaticTarget, SyslogSource, SyslogTransport,
};
pub use load::LoadedLogs;
pub use read_stage::{StageCheck, StageFault};

#[cfg(test)]
mod alloy_tests;
#[cfg(test)]
mod promtail_tests;
