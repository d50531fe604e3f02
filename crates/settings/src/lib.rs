//! Configuration files as the field writes them, with a place for every fault.
//!
//! [`prometheus::Config`] is a whole `prometheus.yml`, typed, with every default filled in;
//! [`relabel`] holds the rules over labels, which run for every scraped series; [`yaml`] parses
//! any other file and points at what is wrong in it; [`logs`] is what collectors of lines are told.

pub mod alertmanager;
mod alloy;
mod diagnostic;
mod duration;
pub mod glob;
pub mod logs;
mod names;
pub mod prometheus;
pub mod relabel;
mod secret;
mod size;
pub mod stream_aggregation;
mod suggestion;
pub mod target_groups;
mod url;
mod values;
pub mod yaml;

pub use diagnostic::{Diagnostic, Faults, Severity};
pub use duration::{DurationError, format_duration, parse_duration};
pub use names::NameValidation;
pub use secret::{REDACTED, Secret};
pub use size::{SizeError, parse_size};
pub use target_groups::TargetGroup;
pub use url::{HttpUrl, UrlError};
pub use values::{DurationValue, SizeValue};
