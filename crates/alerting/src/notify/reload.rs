//! A new configuration under a running notifier.

use std::collections::HashMap;

use super::inhibition::Inhibitor;
use super::notifier::Notifier;
use super::schedule::Timer;
use super::{Fingerprint, Group, GroupPlace, Policy};

/// Groups by key and receiver, which is what survives a change of routes.
type Carried = HashMap<GroupPlace, Vec<Group>>;

impl Notifier {
    /// Takes another policy. Alerts are routed anew. Groups that are the same then go on: what is
    /// under way stays so, and those that have not told yet do so when they would have; others
    /// look at once whether there is something to tell. What receivers know is not forgotten.
    pub fn reload(&mut self, policy: Policy, now_ns: i64) {
        let before = std::mem::replace(&mut self.policy, policy);
        let mut carried: Carried = HashMap::new();
        self.group_ids.clear();
        for (_, group) in self.groups.drain() {
            self.dirty.groups.insert(group.place(), None);
            carried.entry(group.place()).or_default().push(group);
        }
        self.inhibitor = Inhibitor::new(&self.policy.inhibit_rules);
        let mut routed: Vec<(i64, Fingerprint)> = Vec::new();
        for (fingerprint, entry) in &mut self.alerts {
            let alert = &entry.alert;
            entry.roles = self.inhibitor.roles(&alert.labels);
            self.inhibitor.insert(*fingerprint, &entry.roles, alert.ends_at_ns);
            let waits = entry.routes.iter().any(|(_, group)| group.is_some());
            let matching = self.policy.tree.matching(&alert.labels);
            entry.routes = matching.into_iter().map(|route| (route, None)).collect();
            if waits || !alert.is_resolved_at(now_ns) {
                routed.push((alert.starts_at_ns, *fingerprint));
            }
        }
        // The alert that has fired longest decides how long a group waits.
        routed.sort_unstable();
        for (_, fingerprint) in &routed {
            self.route(*fingerprint, now_ns);
        }
        // For whom there is no room under the new routes was perhaps in a group before.
        let without = routed.into_iter().filter(|(_, fingerprint)| {
            let entry = self.alerts.get(fingerprint);
            entry.is_some_and(|entry| entry.routes.iter().all(|(_, group)| group.is_none()))
        });
        self.dirty.alerts.extend(without.map(|(_, fingerprint)| fingerprint));
        let mut ids: Vec<u64> = self.groups.keys().copied().collect();
        ids.sort_unstable();
        for id in ids {
            let Some(group) = self.groups.get(&id) else { continue };
            let place = group.place();
            self.dirty.groups.insert(place.clone(), Some(id));
            if let Some(old) = carried.get_mut(&place).and_then(Vec::pop) {
                let receiver = &place.receiver;
                let same = before.targets(receiver) == self.policy.targets(receiver);
                self.carry(id, old, same);
            }
        }
        let gone = carried.into_values().flatten().filter_map(|group| group.flush);
        for number in gone.flat_map(|flush| flush.pending) {
            self.abandon(number);
        }
    }

    /// Gives a group what it was before.
    fn carry(&mut self, id: u64, old: Group, same_receiver: bool) {
        let Some(group) = self.groups.get_mut(&id) else { return };
        group.last_flush_ns = old.last_flush_ns;
        group.muted_by = old.muted_by;
        if old.last_flush_ns.is_none() && old.next_flush_ns < group.next_flush_ns {
            group.next_flush_ns = old.next_flush_ns;
            self.schedule.add(group.next_flush_ns, Timer::Group(id));
        }
        let pending = old.flush.iter().flat_map(|flush| flush.pending.clone());
        let pending: Vec<u64> = pending.collect();
        if same_receiver {
            group.outcomes = old.outcomes;
            group.flush = old.flush;
            for number in pending {
                if let Some(flight) = self.flights.get_mut(&number) {
                    flight.group = id;
                }
            }
        } else {
            for number in pending {
                self.abandon(number);
            }
        }
    }
}
