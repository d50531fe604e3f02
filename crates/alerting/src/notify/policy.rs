//! A configuration as the notifier needs it.

use std::collections::HashMap;
use std::sync::Arc;

use settings::alertmanager::{Config, InhibitRule, MatcherMode, NamedIntervals};

use super::routing::{RouteNode, RouteTree, nanoseconds};

/// What a configuration says about routing and notifying.
#[derive(Debug, Clone, PartialEq)]
pub struct Policy {
    /// The tree of routes.
    pub tree: RouteTree,
    /// How names of labels are judged.
    pub mode: MatcherMode,
    pub(crate) resolve_timeout_ns: i64,
    pub(crate) inhibit_rules: Vec<InhibitRule>,
    receivers: HashMap<Arc<str>, Arc<[Target]>>,
    intervals: HashMap<String, NamedIntervals>,
}

/// One way in which a receiver is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) kind: &'static str,
    pub(crate) index: usize,
    pub(crate) send_resolved: bool,
    pub(crate) timeout_ns: Option<i64>,
}

/// What intervals of time say about a route at a moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Muting(pub(crate) Vec<String>);

impl Policy {
    /// Takes what is needed from a configuration.
    pub fn new(config: &Config, mode: MatcherMode) -> Policy {
        let targets = |receiver: &settings::alertmanager::Receiver| {
            let target = |integration: &settings::alertmanager::Integration| Target {
                kind: integration.kind(),
                index: integration.index,
                send_resolved: integration.send_resolved,
                timeout_ns: integration.timeout.map(nanoseconds),
            };
            let all: Arc<[Target]> = receiver.integrations.iter().map(target).collect();
            (Arc::from(receiver.name.as_str()), all)
        };
        let named = |interval: &NamedIntervals| (interval.name.clone(), interval.clone());
        Policy {
            tree: RouteTree::new(&config.route),
            mode,
            resolve_timeout_ns: nanoseconds(config.global.resolve_timeout),
            inhibit_rules: config.inhibit_rules.clone(),
            receivers: config.receivers.iter().map(targets).collect(),
            intervals: config.time_intervals.iter().map(named).collect(),
        }
    }

    /// The ways in which a receiver is told.
    pub(crate) fn targets(&self, receiver: &str) -> Arc<[Target]> {
        self.receivers.get(receiver).cloned().unwrap_or_else(|| Arc::from([]))
    }

    /// The intervals that mute a route at a moment; none if nothing does.
    pub(crate) fn muting(&self, node: &RouteNode, now_ns: i64) -> Muting {
        let inside = |name: &&String| {
            self.intervals.get(*name).is_some_and(|interval| interval.contains(now_ns))
        };
        let active = &node.options.active_time_intervals;
        if !active.is_empty() && !active.iter().any(|name| inside(&name)) {
            return Muting(active.clone());
        }
        Muting(node.options.mute_time_intervals.iter().filter(inside).cloned().collect())
    }
}
