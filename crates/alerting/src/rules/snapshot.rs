//! What rules know, in a form that outlives a restart.
//!
//! A snapshot is of one version; what it holds is checked when it is read, and what is damaged in it
//! is left out: then that alert begins anew.

use std::collections::{BTreeMap, HashMap};

use model::Labels;
use serde::{Deserialize, Serialize};

use super::alert::{Alert, AlertState, Annotations};
use super::group::Group;
use super::restore::{OUTAGE_TOLERANCE_MS, restore_alert};
use super::rule_set::{GroupKey, SharedGroup};

/// The version that is written.
pub const SNAPSHOT_VERSION: u32 = 1;

/// The last moment that a date has a name for; times of a snapshot lie before.
const LAST_MS: i64 = 253_402_300_799_999;

/// In how many evaluations a restored alert stays although its expression does not yield it: data
/// has to come in again first.
const HELD_FOR: u8 = 2;

/// Labels as pairs.
type Pairs = BTreeMap<String, String>;

/// Why a snapshot cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SnapshotError {
    /// Another version wrote it.
    #[error(
        "the state of rules is of version {0}, and this program knows {SNAPSHOT_VERSION}: alerts begin \
         anew, or start the version that wrote it"
    )]
    Version(u32),
}

/// The state of all groups.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// [`SNAPSHOT_VERSION`] of whoever wrote it.
    pub version: u32,
    /// When it was made, milliseconds since the epoch.
    pub taken_at_ms: i64,
    /// The groups.
    pub groups: Vec<GroupSnapshot>,
}

/// The state of one group.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GroupSnapshot {
    /// Its file.
    pub file: String,
    /// Its name.
    pub name: String,
    /// For which time it was last evaluated.
    pub evaluated_for_ms: Option<i64>,
    rules: Vec<RuleSnapshot>,
    /// Series of rules that were gone, and whose end was not marked yet.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    ended: Vec<Pairs>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct RuleSnapshot {
    name: String,
    labels: Pairs,
    /// Series that its last evaluation wrote, except those that follow from its alerts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    series: Vec<Pairs>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    alerts: Vec<AlertSnapshot>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct AlertSnapshot {
    state: AlertState,
    labels: Pairs,
    #[serde(default)]
    annotations: Pairs,
    /// As a text, for JSON has no NaN.
    value: String,
    active_at_ms: i64,
    #[serde(default)]
    fired_at_ms: Option<i64>,
    #[serde(default)]
    resolved_at_ms: Option<i64>,
    #[serde(default)]
    keep_firing_since_ms: Option<i64>,
    #[serde(default)]
    last_sent_at_ms: Option<i64>,
    #[serde(default)]
    valid_until_ms: Option<i64>,
}

impl Snapshot {
    pub(super) fn of<'a>(groups: impl Iterator<Item = &'a Group>, now_ms: i64) -> Self {
        let groups = groups.map(GroupSnapshot::of).collect();
        Snapshot { version: SNAPSHOT_VERSION, taken_at_ms: now_ms, groups }
    }

    pub(super) fn restore(
        &self,
        groups: &BTreeMap<GroupKey, SharedGroup>,
        now_ms: i64,
    ) -> Result<usize, SnapshotError> {
        if self.version != SNAPSHOT_VERSION {
            return Err(SnapshotError::Version(self.version));
        }
        let mut alerts = 0;
        for saved in &self.groups {
            let key = GroupKey { file: saved.file.clone(), name: saved.name.clone() };
            if let Some(group) = groups.get(&key) {
                alerts += saved.restore(&mut group.lock(), self.taken_at_ms, now_ms);
            }
        }
        // What is not in the snapshot is new since.
        groups.values().for_each(|group| group.lock().restored());
        Ok(alerts)
    }
}

impl GroupSnapshot {
    /// The state of a group.
    pub fn of(group: &Group) -> Self {
        let rules = group.spec.rules.iter().zip(&group.rules).map(|(spec, state)| {
            let alerts = state.alerts.iter().flat_map(|alerts| alerts.by_labels.values());
            let implied = |series: &&Labels| {
                let name = series.metric_name();
                state.alerts.is_some()
                    && (name == Some(super::ALERTS) || name == Some(super::ALERTS_FOR_STATE))
            };
            RuleSnapshot {
                name: spec.name.clone(),
                labels: spec.labels.iter().cloned().collect(),
                series: state.series.iter().filter(|series| !implied(series)).map(pairs).collect(),
                alerts: alerts.map(AlertSnapshot::of).collect(),
            }
        });
        GroupSnapshot {
            file: group.key.file.clone(),
            name: group.key.name.clone(),
            evaluated_for_ms: group.evaluated_for_ms,
            rules: rules.collect(),
            ended: group.ended.iter().map(pairs).collect(),
        }
    }

    /// Puts the state into a group that was just made; yields how many alerts came back.
    fn restore(&self, group: &mut Group, taken_at_ms: i64, now_ms: i64) -> usize {
        let stopped_ms = self.evaluated_for_ms.unwrap_or(taken_at_ms).min(now_ms).max(0);
        let is_fresh = now_ms.saturating_sub(stopped_ms) <= OUTAGE_TOLERANCE_MS;
        let mut saved: HashMap<(String, Pairs), Vec<&RuleSnapshot>> = HashMap::new();
        for rule in self.rules.iter().rev() {
            saved.entry((rule.name.clone(), rule.labels.clone())).or_default().push(rule);
        }
        let mut count = 0;
        for (spec, state) in group.spec.rules.iter().zip(&mut group.rules) {
            let own = (spec.name.clone(), spec.labels.iter().cloned().collect());
            let known = saved.get_mut(&own).and_then(Vec::pop);
            let Some(known) = known else { continue };
            state.series.extend(known.series.iter().filter_map(labels));
            let Some(alerts) = &mut state.alerts else { continue };
            for alert in known.alerts.iter().filter_map(AlertSnapshot::alert) {
                if alert.is_active() {
                    // Whatever becomes of it, these were written.
                    state.series.extend(alert.series.iter().cloned());
                }
                if is_fresh {
                    let mut alert = alert;
                    resume(&mut alert, spec.hold_ms, stopped_ms, now_ms);
                    alerts.by_labels.insert(alert.labels.clone(), alert);
                    count += 1;
                }
            }
            alerts.recount();
        }
        for rule in saved.into_values().flatten() {
            group.ended.extend(rule.series.iter().filter_map(labels));
            let active =
                rule.alerts.iter().filter_map(AlertSnapshot::alert).filter(Alert::is_active);
            group.ended.extend(active.flat_map(|alert| alert.series));
        }
        group.ended.extend(self.ended.iter().filter_map(labels));
        group.evaluated_for_ms = self.evaluated_for_ms.filter(|at_ms| (0..=now_ms).contains(at_ms));
        count
    }
}

/// Sets the times of an alert as if nothing had run on while nobody evaluated.
fn resume(alert: &mut Alert, hold_ms: i64, stopped_ms: i64, now_ms: i64) {
    if !alert.is_active() {
        return;
    }
    alert.held_for = HELD_FOR;
    if alert.state == AlertState::Pending {
        let active_at_ms = alert.active_at_ms;
        restore_alert(alert, hold_ms, active_at_ms, stopped_ms, now_ms);
    }
    if let Some(since_ms) = &mut alert.keep_firing_since_ms {
        *since_ms = since_ms.saturating_add(now_ms.saturating_sub(stopped_ms).max(0));
    }
}

impl AlertSnapshot {
    fn of(alert: &Alert) -> Self {
        AlertSnapshot {
            state: alert.state,
            labels: pairs(&alert.labels),
            annotations: alert.annotations.iter().cloned().collect(),
            value: alert.value.to_string(),
            active_at_ms: alert.active_at_ms,
            fired_at_ms: alert.fired_at_ms,
            resolved_at_ms: alert.resolved_at_ms,
            keep_firing_since_ms: alert.keep_firing_since_ms,
            last_sent_at_ms: alert.last_sent_at_ms,
            valid_until_ms: alert.valid_until_ms,
        }
    }

    /// The alert; `None` if it is none.
    fn alert(&self) -> Option<Alert> {
        let labels = labels(&self.labels).filter(|labels| !labels.is_empty())?;
        let is_resolved = self.resolved_at_ms.is_some();
        if is_resolved != (self.state == AlertState::Inactive) {
            return None;
        }
        let annotations: Annotations =
            self.annotations.iter().map(|(name, text)| (name.clone(), text.clone())).collect();
        let value = self.value.parse().ok()?;
        let times = [
            self.fired_at_ms,
            self.resolved_at_ms,
            self.keep_firing_since_ms,
            self.last_sent_at_ms,
            self.valid_until_ms,
        ];
        let mut times = times.into_iter().flatten().chain([self.active_at_ms]);
        if !times.all(|at_ms| (-LAST_MS..=LAST_MS).contains(&at_ms)) {
            return None;
        }
        let mut alert = Alert::new(labels, annotations, value, self.active_at_ms);
        alert.enter(self.state);
        alert.fired_at_ms = self.fired_at_ms;
        alert.resolved_at_ms = self.resolved_at_ms;
        alert.keep_firing_since_ms = self.keep_firing_since_ms;
        alert.last_sent_at_ms = self.last_sent_at_ms;
        alert.valid_until_ms = self.valid_until_ms;
        Some(alert)
    }
}

fn pairs(labels: &Labels) -> Pairs {
    labels.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

fn labels(pairs: &Pairs) -> Option<Labels> {
    Labels::from_pairs(pairs.iter().map(|(name, value)| (name.as_str(), value.as_str()))).ok()
}
