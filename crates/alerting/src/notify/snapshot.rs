//! What a notifier knows, to be kept over restarts: as a whole, and what changed since.
//!
//! Whoever keeps it writes the changes down before the effects of the same step are carried out,
//! and those after an answer as soon as it was given. Then a crash forgets no alert, group, silence
//! or notification; a notification is only repeated if the crash falls between its delivery and the
//! writing down of that.

use std::collections::{BTreeMap, HashMap};

use model::Labels;
use serde::{Deserialize, Serialize};
use settings::alertmanager::TimeZone;

use super::alert::{Alert, Fingerprint};
use super::group::{Group, GroupPlace, IntegrationOutcome};
use super::log::{LogEntry, LogKey};
use super::notifier::Notifier;
use super::schedule::Timer;
use super::silence::Silence;
use super::{Limits, Policy};

/// The version that is written, and the only one that is read.
pub const SNAPSHOT_VERSION: u32 = 1;

/// What a notifier knows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// [`SNAPSHOT_VERSION`].
    pub version: u32,
    /// Alerts by fingerprint.
    pub alerts: BTreeMap<Fingerprint, AlertRecord>,
    /// Groups by key and receiver.
    pub groups: Vec<GroupRecord>,
    /// Silences by name.
    pub silences: BTreeMap<String, Silence>,
    /// What receivers were told.
    pub log: Vec<LogRecord>,
}

/// What changed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changes {
    /// Alerts that are new or different.
    pub alerts: BTreeMap<Fingerprint, AlertRecord>,
    /// Alerts that are gone.
    pub gone_alerts: Vec<Fingerprint>,
    /// Groups that are new or different.
    pub groups: Vec<GroupRecord>,
    /// Groups that are gone.
    pub gone_groups: Vec<GroupPlace>,
    /// Silences that are new or different.
    pub silences: BTreeMap<String, Silence>,
    /// Silences that are gone.
    pub gone_silences: Vec<String>,
    /// What receivers were told.
    pub log: Vec<LogRecord>,
    /// What is not known any more.
    pub gone_log: Vec<LogKey>,
}

/// An alert.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AlertRecord {
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// What is said about it beside its labels.
    pub annotations: BTreeMap<String, String>,
    /// Since when it fires, in nanoseconds since 1970.
    pub starts_at_ns: i64,
    /// When it ended or would, in nanoseconds since 1970.
    pub ends_at_ns: i64,
    /// When it was posted last, as far as that was written down.
    pub updated_at_ns: i64,
    /// Whether the end was not said by whoever posted it.
    pub timed_out: bool,
    /// Where it comes from.
    pub generator_url: String,
    /// Whether it fired. Its end then says little: it may have been posted again since.
    pub firing: bool,
    /// Whether it is in a group.
    pub grouped: bool,
}

/// A group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupRecord {
    /// Which.
    pub place: GroupPlace,
    /// When it tells next, in nanoseconds since 1970.
    pub next_flush_ns: i64,
    /// When it told last.
    pub last_flush_ns: Option<i64>,
    /// What became of that.
    pub outcomes: Vec<IntegrationOutcome>,
}

/// What one receiver was told about one group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogRecord {
    /// Whom, about what.
    pub key: LogKey,
    /// What.
    pub entry: LogEntry,
}

/// A snapshot that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SnapshotError {
    /// It was written by another version.
    #[error(
        "the state of notifications has version {0}, version {SNAPSHOT_VERSION} is read: start \
         the program that wrote it, or remove the state"
    )]
    Version(u32),
}

impl Default for Snapshot {
    fn default() -> Self {
        Snapshot {
            version: SNAPSHOT_VERSION,
            alerts: BTreeMap::new(),
            groups: Vec::new(),
            silences: BTreeMap::new(),
            log: Vec::new(),
        }
    }
}

impl Snapshot {
    /// Adds what changed since. Costs as much as the snapshot and the changes are long.
    pub fn apply(&mut self, changes: Changes) {
        let mut groups: BTreeMap<_, GroupRecord> =
            std::mem::take(&mut self.groups).into_iter().map(|g| (g.place.clone(), g)).collect();
        let mut log: BTreeMap<LogKey, LogEntry> =
            std::mem::take(&mut self.log).into_iter().map(|r| (r.key, r.entry)).collect();
        self.alerts.extend(changes.alerts);
        groups.extend(changes.groups.into_iter().map(|group| (group.place.clone(), group)));
        self.silences.extend(changes.silences);
        log.extend(changes.log.into_iter().map(|record| (record.key, record.entry)));
        changes.gone_alerts.iter().for_each(|gone| drop(self.alerts.remove(gone)));
        changes.gone_groups.iter().for_each(|gone| drop(groups.remove(gone)));
        changes.gone_silences.iter().for_each(|gone| drop(self.silences.remove(gone)));
        changes.gone_log.iter().for_each(|gone| drop(log.remove(gone)));
        self.groups = groups.into_values().collect();
        self.log = log.into_iter().map(|(key, entry)| LogRecord { key, entry }).collect();
    }
}

impl GroupRecord {
    fn of(group: &Group) -> GroupRecord {
        GroupRecord {
            place: group.place(),
            next_flush_ns: group.next_flush_ns,
            last_flush_ns: group.last_flush_ns,
            outcomes: group.outcomes.clone(),
        }
    }
}

impl Notifier {
    /// All that is known.
    pub fn snapshot(&self) -> Snapshot {
        let log = self.log.iter();
        let mut snapshot = Snapshot {
            version: SNAPSHOT_VERSION,
            alerts: self.alerts.keys().filter_map(|f| Some((*f, self.record(*f)?))).collect(),
            groups: self.groups.values().map(GroupRecord::of).collect(),
            silences: self.silences.iter().map(|s| (s.id.clone(), s.clone())).collect(),
            log: log
                .map(|(key, entry)| LogRecord { key: key.clone(), entry: entry.clone() })
                .collect(),
        };
        snapshot.groups.sort_by(|a, b| a.place.cmp(&b.place));
        snapshot.log.sort_by(|a, b| a.key.cmp(&b.key));
        snapshot
    }

    fn record(&self, fingerprint: Fingerprint) -> Option<AlertRecord> {
        let entry = self.alerts.get(&fingerprint)?;
        let alert = &entry.alert;
        let owned = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
        Some(AlertRecord {
            labels: alert.labels.iter().map(owned).collect(),
            annotations: alert.annotations.clone(),
            starts_at_ns: alert.starts_at_ns,
            ends_at_ns: alert.ends_at_ns,
            updated_at_ns: alert.updated_at_ns,
            timed_out: alert.timed_out,
            generator_url: alert.generator_url.clone(),
            firing: entry.known_firing,
            grouped: entry.routes.iter().any(|(_, group)| group.is_some()),
        })
    }

    /// What changed since this was last asked for, or since the beginning. Costs as much as
    /// changed.
    pub fn take_changes(&mut self) -> Changes {
        let dirty = std::mem::take(&mut self.dirty);
        let mut changes = Changes::default();
        for fingerprint in dirty.alerts {
            match self.record(fingerprint) {
                Some(record) => drop(changes.alerts.insert(fingerprint, record)),
                None => changes.gone_alerts.push(fingerprint),
            }
        }
        for (place, id) in dirty.groups {
            match id.and_then(|id| self.groups.get(&id)) {
                Some(group) => changes.groups.push(GroupRecord::of(group)),
                None => changes.gone_groups.push(place),
            }
        }
        for id in dirty.silences {
            match self.silences.get(&id) {
                Some(silence) => drop(changes.silences.insert(id, silence.clone())),
                None => changes.gone_silences.push(id),
            }
        }
        for key in dirty.log {
            match self.log.get(&key) {
                Some(entry) => changes.log.push(LogRecord { entry: entry.clone(), key }),
                None => changes.gone_log.push(key),
            }
        }
        changes
    }

    /// A notifier that knows what another one did. Groups tell nothing before `dispatch_from_ns`.
    ///
    /// An alert that fired still does: who posted it could not while nobody was there. It ends
    /// unless it is posted again in time.
    ///
    /// Yields beside the notifier what could not be used, for the log.
    ///
    /// # Errors
    /// The snapshot is of another version.
    pub fn restore(
        snapshot: Snapshot,
        policy: Policy,
        limits: Limits,
        zone: &dyn Fn(&str) -> Option<TimeZone>,
        now_ns: i64,
        dispatch_from_ns: i64,
    ) -> Result<(Notifier, Vec<String>), SnapshotError> {
        if snapshot.version != SNAPSHOT_VERSION {
            return Err(SnapshotError::Version(snapshot.version));
        }
        let mut problems = Vec::new();
        let mut notifier = Notifier::new(policy, limits, now_ns, dispatch_from_ns);
        let mode = notifier.policy.mode;
        for (id, silence) in snapshot.silences {
            match notifier.silences.restore(silence, mode, zone) {
                Ok(()) => notifier.schedule_silence(id, now_ns),
                Err(error) => problems.push(format!("silence {id:?} is left out: {error}")),
            }
        }
        for LogRecord { key, entry } in snapshot.log {
            notifier.log.restore(key, entry);
        }
        notifier.schedule_log(now_ns);
        let mut routed: Vec<(i64, Fingerprint)> = Vec::new();
        for (fingerprint, record) in snapshot.alerts {
            let (firing, grouped) = (record.firing, record.grouped);
            let alert = match record.into_alert() {
                Ok(alert) if Fingerprint::of(&alert.labels) == fingerprint => alert,
                _ => {
                    problems.push(format!("alert {fingerprint} is left out: its labels are none"));
                    continue;
                }
            };
            let mut alert = alert;
            if firing {
                let until_ns = now_ns.saturating_add(notifier.policy.resolve_timeout_ns);
                if alert.ends_at_ns < until_ns {
                    alert.ends_at_ns = until_ns;
                    alert.timed_out = true;
                }
            }
            if firing || grouped {
                routed.push((alert.starts_at_ns, fingerprint));
            }
            notifier.insert(fingerprint, alert, now_ns);
        }
        routed.sort_unstable();
        for (_, fingerprint) in routed {
            notifier.route(fingerprint, now_ns);
        }
        let records: HashMap<_, GroupRecord> =
            snapshot.groups.into_iter().map(|group| (group.place.clone(), group)).collect();
        let nodes = notifier.policy.tree.nodes();
        for (id, group) in &mut notifier.groups {
            let Some(record) = records.get(&group.place()) else { continue };
            group.last_flush_ns = record.last_flush_ns;
            if record.outcomes.len() == group.outcomes.len() {
                group.outcomes.clone_from(&record.outcomes);
            }
            // The interval may be shorter than it was, and the clock may have been ahead.
            let options = &nodes[group.route].options;
            let at_most_ns = match record.last_flush_ns {
                Some(_) => options.group_interval_ns,
                None => options.group_wait_ns,
            };
            let latest_ns = now_ns.saturating_add(at_most_ns);
            group.next_flush_ns = record.next_flush_ns.min(latest_ns).max(dispatch_from_ns);
            notifier.schedule.add(group.next_flush_ns, Timer::Group(*id));
        }
        // Groups of before that are none any more must not come back.
        for place in records.into_keys() {
            notifier.dirty.groups.entry(place).or_insert(None);
        }
        Ok((notifier, problems))
    }
}

impl AlertRecord {
    fn into_alert(self) -> Result<Alert, model::LabelError> {
        let pairs = self.labels.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        Ok(Alert {
            labels: Labels::from_pairs(pairs)?,
            annotations: self.annotations,
            starts_at_ns: self.starts_at_ns,
            ends_at_ns: self.ends_at_ns,
            updated_at_ns: self.updated_at_ns,
            timed_out: self.timed_out,
            generator_url: self.generator_url,
        })
    }
}
