//! Groups of rules, the states of alerts, and what is written and sent because of them.
//!
//! A [`RuleSet`] knows its groups and when they are due. Who evaluates one calls [`Group::begin`],
//! asks the queries of an [`Evaluation`] stage by stage, hands each result to [`Group::apply`], and
//! writes and sends what that yields. Nothing here reads a clock, asks a query or knows a language:
//! expressions were compiled by [`CompileExpression`], templates are expanded by [`Expand`].
//!
//! What happens is what Prometheus does (`rules/` of version 3), with these differences: the state
//! of alerts outlives a restart in a [`Snapshot`], rules that do not see each other may run at once
//! without any of them seeing another order, and recording rules may be evaluated later for the time
//! in which nobody did ([`Group::catch_up`]).
//!
//! | what the query yields | what becomes of an alert |
//! |---|---|
//! | a sample with its labels | pending, and firing once `for` has passed |
//! | no such sample | pending: forgotten; firing: resolved, once `keep_firing_for` has passed |
//! | an error | as it was; the rule's health is `err` |

mod alert;
mod alerting_rule;
mod builtin;
mod dependencies;
mod group;
mod label_merge;
mod limits;
mod recording_rule;
mod restore;
mod rule_set;
mod sample;
mod schedule;
mod snapshot;
mod spec;
mod templates;
mod text;
mod view;

pub use alert::{Alert, AlertState, Annotations, Notice, RESOLVED_RETENTION_MS, generator_path};
pub use builtin::{BUILTIN_FILE, BuiltinRule, builtin_groups, builtin_rules};
pub use dependencies::stages;
pub use group::{Applied, Evaluation, Group, Health, Surroundings, Timing};
pub use limits::{AlertBudget, RuleLimits};
pub use restore::{FOR_GRACE_PERIOD_MS, ForStateSeries, OUTAGE_TOLERANCE_MS, RestoreRequest};
pub use rule_set::{Changes, GroupKey, RuleSet, SharedGroup};
pub use sample::Sample;
pub use schedule::{CatchUp, CatchUpLimits, Tick, offset_ms, slot_before};
pub use snapshot::{GroupSnapshot, SNAPSHOT_VERSION, Snapshot, SnapshotError};
pub use spec::{CompileExpression, Defaults, Expression, GroupSpec, RuleSpec, compile_groups};
pub use templates::{AnswerQuery, Behind, Evidence, NoEvidence, RuleTemplates, check_template};
pub use text::{Expand, TextData};
pub use view::{AlertView, GroupView, RuleView, go_scientific};

/// The series that says which alerts there are.
pub const ALERTS: &str = "ALERTS";
/// The series that says since when they are active.
pub const ALERTS_FOR_STATE: &str = "ALERTS_FOR_STATE";
/// The label that holds an alert's name.
pub const ALERT_NAME: &str = "alertname";
/// The label that holds an alert's state.
pub const ALERT_STATE: &str = "alertstate";

#[cfg(test)]
mod tests;
