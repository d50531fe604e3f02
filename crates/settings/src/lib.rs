//! Configuration files as the field writes them, with a place for every fault.
//!
//! [`prometheus::Config`] is a whole `prometheus.yml`, typed, with every default filled in;
//! [`relabel`] holds the rules over labels, which run for every scraped series.

mod names;
pub mod prometheus;
pub mod relabel;
mod secret;
mod target_groups;
mod url;

pub use names::NameValidation;
pub use secret::{REDACTED, Secret};
pub use target_groups::TargetGroup;
pub use url::HttpUrl;
