//! What can be seen of a notifier: alerts, groups, silences, and why somebody was told or not.

use std::collections::BTreeSet;
use std::sync::Arc;

use model::Labels;
use serde::Serialize;

use super::alert::{Alert, Fingerprint, label_order};
use super::group::{Group, IntegrationOutcome};
use super::notifier::Notifier;
use super::silence::Silence;

/// Whether an alert reaches its receivers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum AlertState {
    /// No group has looked at it yet.
    Unprocessed,
    /// It does.
    Active,
    /// Something mutes it.
    Suppressed,
}

/// What mutes an alert.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AlertStatus {
    /// Whether it reaches its receivers.
    pub state: AlertState,
    /// Alerts that inhibit it.
    pub inhibited_by: Vec<Fingerprint>,
    /// Silences that hold for it, by ascending name.
    pub silenced_by: Vec<String>,
    /// Intervals that muted one of its groups when that last wanted to tell.
    pub muted_by: Vec<String>,
}

/// An alert as it is seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AlertView {
    /// What tells it from others.
    pub fingerprint: Fingerprint,
    /// The alert.
    pub alert: Arc<Alert>,
    /// Whom its routes lead to, each once, by ascending name.
    pub receivers: Vec<Arc<str>>,
    /// What mutes it.
    pub status: AlertStatus,
}

impl AlertView {
    /// Puts alerts in the order in which receivers are told of them: by job, by instance, then by all
    /// labels.
    pub fn sort(views: &mut [AlertView]) {
        views.sort_by_cached_key(|view| view.alert.order_key());
    }
}

/// A group as it is seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupView {
    /// Its key.
    pub key: Arc<str>,
    /// Its route.
    pub route_id: Arc<str>,
    /// The labels all its alerts have.
    pub labels: Labels,
    /// Its receiver.
    pub receiver: Arc<str>,
    /// Its alerts.
    pub alerts: Vec<Fingerprint>,
    /// Intervals that muted it when it last wanted to tell.
    pub muted_by: Vec<String>,
    /// When it told last, in nanoseconds since 1970.
    pub last_flush_ns: Option<i64>,
    /// When it tells next, in nanoseconds since 1970.
    pub next_flush_ns: i64,
    /// Kind and place of each integration, and what became of telling it.
    pub outcomes: Vec<(&'static str, usize, IntegrationOutcome)>,
}

/// Why receivers are told of an alert or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    /// The alert, and what mutes it.
    pub view: AlertView,
    /// The routes where it ends.
    pub routes: Vec<Arc<str>>,
    /// The groups that hold it. Fewer than there are routes if there were too many groups, or if
    /// all was told of an alert that ended.
    pub groups: Vec<GroupView>,
}

impl Notifier {
    /// An alert, if it is known.
    pub fn alert(&mut self, fingerprint: Fingerprint, now_ns: i64) -> Option<AlertView> {
        let entry = self.alerts.get_mut(&fingerprint)?;
        let inhibited_by = self.inhibitor.inhibited_by(&entry.roles, now_ns);
        let silenced_by = self.silences.silenced_by(&entry.alert.labels, &mut entry.seen, now_ns);
        let nodes = self.policy.tree.nodes();
        let receivers = entry.routes.iter().map(|(route, _)| &nodes[*route].options.receiver);
        let receivers: BTreeSet<Arc<str>> = receivers.cloned().collect();
        let groups = entry.routes.iter().filter_map(|(_, id)| self.groups.get(&(*id)?));
        let groups: Vec<&Group> = groups.collect();
        let muted_by: BTreeSet<&String> = groups.iter().flat_map(|group| &group.muted_by).collect();
        let muted_by: Vec<String> = muted_by.into_iter().cloned().collect();
        let muted = !(inhibited_by.is_empty() && silenced_by.is_empty() && muted_by.is_empty());
        let state = if muted {
            AlertState::Suppressed
        } else if groups.iter().all(|group| group.last_flush_ns.is_none()) && !groups.is_empty() {
            AlertState::Unprocessed
        } else {
            AlertState::Active
        };
        Some(AlertView {
            fingerprint,
            alert: Arc::clone(&entry.alert),
            receivers: receivers.into_iter().collect(),
            status: AlertStatus { state, inhibited_by, silenced_by, muted_by },
        })
    }

    /// All alerts that fire, in no order, without what mutes them: cheap, for whoever picks some.
    pub fn firing(&self, now_ns: i64) -> Vec<(Fingerprint, Arc<Alert>)> {
        let firing = self.alerts.iter().filter(|(_, entry)| !entry.alert.is_resolved_at(now_ns));
        firing.map(|(fingerprint, entry)| (*fingerprint, Arc::clone(&entry.alert))).collect()
    }

    /// The receivers of the routes where an alert ends, from left to right: one that two routes lead
    /// to is there twice.
    pub fn receivers_of(&self, fingerprint: Fingerprint) -> Vec<Arc<str>> {
        let nodes = self.policy.tree.nodes();
        let routes = self.alerts.get(&fingerprint).map_or(&[][..], |entry| &entry.routes);
        routes.iter().map(|(route, _)| Arc::clone(&nodes[*route].options.receiver)).collect()
    }

    /// How many alerts that fire end at each route, in the order of the tree's nodes.
    pub fn firing_by_route(&self, now_ns: i64) -> Vec<usize> {
        let mut counts = vec![0; self.policy.tree.nodes().len()];
        let firing = self.alerts.values().filter(|entry| !entry.alert.is_resolved_at(now_ns));
        for (route, _) in firing.flat_map(|entry| &entry.routes) {
            counts[*route] += 1;
        }
        counts
    }

    /// The intervals that mute each route at the moment, in the order of the tree's nodes.
    pub fn muted_routes(&self, now_ns: i64) -> Vec<Vec<String>> {
        let nodes = self.policy.tree.nodes();
        nodes.iter().map(|node| self.policy.muting(node, now_ns).0).collect()
    }

    /// All alerts that fire, in order.
    pub fn firing_alerts(&mut self, now_ns: i64) -> Vec<AlertView> {
        let firing = self.alerts.iter().filter(|(_, entry)| !entry.alert.is_resolved_at(now_ns));
        let firing: Vec<Fingerprint> = firing.map(|(fingerprint, _)| *fingerprint).collect();
        let views = firing.into_iter().filter_map(|fingerprint| self.alert(fingerprint, now_ns));
        let mut views: Vec<AlertView> = views.collect();
        AlertView::sort(&mut views);
        views
    }

    /// All groups, by their labels, then by receiver.
    pub fn groups(&self) -> Vec<GroupView> {
        let mut views: Vec<GroupView> = self.groups.values().map(|g| self.group_view(g)).collect();
        views.sort_by(|a, b| {
            label_order(&a.labels, &b.labels)
                .then_with(|| a.receiver.cmp(&b.receiver))
                .then_with(|| a.route_id.cmp(&b.route_id))
        });
        views
    }

    fn group_view(&self, group: &Group) -> GroupView {
        let targets = self.policy.targets(&group.receiver);
        let outcomes = targets.iter().zip(&group.outcomes);
        GroupView {
            key: Arc::clone(&group.key),
            route_id: Arc::clone(&self.policy.tree.nodes()[group.route].id),
            labels: group.labels.clone(),
            receiver: Arc::clone(&group.receiver),
            alerts: group.alerts.iter().copied().collect(),
            muted_by: group.muted_by.clone(),
            last_flush_ns: group.last_flush_ns,
            next_flush_ns: group.next_flush_ns,
            outcomes: outcomes.map(|(t, outcome)| (t.kind, t.index, outcome.clone())).collect(),
        }
    }

    /// Why receivers are told of an alert or not. `None` if it is not known.
    pub fn explain(&mut self, fingerprint: Fingerprint, now_ns: i64) -> Option<Explanation> {
        let view = self.alert(fingerprint, now_ns)?;
        let entry = self.alerts.get(&fingerprint)?;
        let nodes = self.policy.tree.nodes();
        let groups = entry.routes.iter().filter_map(|(_, id)| self.groups.get(&(*id)?));
        Some(Explanation {
            view,
            routes: entry.routes.iter().map(|(route, _)| Arc::clone(&nodes[*route].id)).collect(),
            groups: groups.map(|group| self.group_view(group)).collect(),
        })
    }

    /// All silences, in the order in which they came.
    pub fn silences(&self) -> impl Iterator<Item = &Silence> {
        self.silences.iter()
    }

    /// A silence.
    pub fn silence(&self, id: &str) -> Option<&Silence> {
        self.silences.get(id)
    }

    /// Whether anything would mute an alert with these labels at the moment, whether there is one
    /// or not.
    pub fn would_be_muted(&self, labels: &Labels, now_ns: i64) -> AlertStatus {
        let inhibited_by = self.inhibitor.inhibited_by(&self.inhibitor.roles(labels), now_ns);
        let silenced_by = self.silences.silenced_by(labels, &mut Default::default(), now_ns);
        let nodes = self.policy.tree.nodes();
        let routes = self.policy.tree.matching(labels);
        let muting = routes.iter().flat_map(|at| self.policy.muting(&nodes[*at], now_ns).0);
        let muted_by: BTreeSet<String> = muting.collect();
        let muted_by: Vec<String> = muted_by.into_iter().collect();
        let muted = !(inhibited_by.is_empty() && silenced_by.is_empty() && muted_by.is_empty());
        let state = if muted { AlertState::Suppressed } else { AlertState::Active };
        AlertStatus { state, inhibited_by, silenced_by, muted_by }
    }
}
