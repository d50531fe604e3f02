//! The agent's host metrics: collectors for this machine and the queue that carries their
//! batches to a broker in the same process.
//!
//! [`HostAgent::start`] runs every collector once a second on one thread of its own and yields a
//! [`BatchReceiver`]: one [`model::MetricBatch`] per pass, whose samples all bear one timestamp.
//! Metric names, labels, types and help texts are Node Exporter's, so its dashboards and alerts
//! work unchanged. A series that vanishes ends with a stale marker.

mod agent;
mod clock;
mod collector;
mod collector_settings;
mod collectors;
mod config;
mod counters;
mod dbus;
mod discovery;
mod error;
mod exposition;
mod host;
pub mod logs;
mod merge;
mod netlink;
mod pattern;
mod pipeline;
mod proc_reader;
mod queue;
mod reading;
mod registry;
pub mod scrape;
mod series;
mod ship;
mod spool;
mod status;
mod survey;
mod sysfs;
mod windows;

pub use agent::{Agent, TierConfig};
pub use collector_settings::{
    BackendLabel, BcacheSettings, CollectorSettings, CpuInfoSettings, DeviceSettings,
    FieldSettings, FilesystemSettings, HwmonSettings, InterruptsSettings, IpvsSettings,
    NetclassSettings, PcideviceSettings, PowersupplySettings, ProcessGroupSettings, RaplSettings,
    SlabinfoSettings, SysctlSettings, SystemdSettings, TapestatsSettings,
};
pub use collectors::{COLLECTORS, CollectorInfo, LEFT_OUT, LeftOut};
pub use config::AgentConfig;
pub use counters::{AgentCounters, CounterRow};
pub use error::AgentError;
pub use exposition::Exposition;
pub use host::HostAgent;
pub use pattern::Pattern;
pub use pipeline::{PipelineEnded, PipelineSender, TrySendError};
pub use queue::{BatchReceiver, RecvError};
pub use ship::ShipCounters;
pub use spool::{FullPolicy, SpoolConfig, SpoolCounters};
pub use status::TargetCounts;
pub use windows::{Pace, ReductionRule, Statistic, WindowRule, WindowsConfig};
