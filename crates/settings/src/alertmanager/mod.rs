//! Alertmanager's configuration file, typed (`config/config.go` of Alertmanager).
//!
//! [`Config::load`] reads an `alertmanager.yml` as it is, with every default filled in and what is
//! global inherited. Templates are texts here; what they make of alerts is another's.

mod credential;
mod event_recorder;
mod global;
mod go_duration;
mod host_port;
mod inhibit;
mod intervals;
mod load;
mod matcher;
mod plain_value;
pub mod receivers;
mod referenced;
mod route;
mod template_text;
#[cfg(test)]
mod tests;
mod tracing;

pub use credential::{Credential, check_templated_url};
pub use event_recorder::{EventRecorder, KafkaOutput, WebhookOutput};
pub use global::{Global, Smtp};
pub use host_port::HostPort;
pub use inhibit::{InhibitRule, InhibitSource};
pub use intervals::{
    IntervalSpec, NamedIntervals, Range, TimeInterval, TimeRange, TimeSpec, TimeZone,
    parse_time_intervals, parse_time_range,
};
pub use load::Loaded;
pub use matcher::{LabelMatcher, MatcherMode, ParsedMatchers, matchers_text, parse_one_utf8};
pub use plain_value::parse_plain_value;
pub use receivers::{Integration, IntegrationSettings, Receiver};
pub use route::{GroupBy, Route, parse_route};
pub use tracing::Tracing;

/// A whole configuration, checked, with every default filled in.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Defaults for all receivers.
    pub global: Global,
    /// Patterns of files with templates, joined with the directory of the configuration.
    pub templates: Vec<String>,
    /// The root of the tree of routes; it names a receiver and has no matchers.
    pub route: Route,
    /// The receivers, in the order of the file; names are unique.
    pub receivers: Vec<Receiver>,
    /// Which alerts mute which others.
    pub inhibit_rules: Vec<InhibitRule>,
    /// Intervals that routes name, those of `mute_time_intervals` first; names are unique.
    pub time_intervals: Vec<NamedIntervals>,
    /// Where spans of the notifier itself would go.
    pub tracing: Option<Tracing>,
    /// Where events of the notifier itself would go.
    pub event_recorder: EventRecorder,
}
