//! Groups that tell, and notifications under way. Source: Alertmanager, `dispatch/dispatch.go`,
//! `notify/notify.go`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use model::Labels;

use super::dedup::{self, GroupState};
use super::effect::{Effect, Notification, NotificationId, NotifiedAlert, Outcome};
use super::group::Flush;
use super::log::{LogEntry, LogKey, NotificationLog};
use super::notifier::Notifier;
use super::policy::Target;
use super::schedule::Timer;
use super::{Fingerprint, Reason};

/// A notification may take at least this long altogether, in nanoseconds: 10 s.
const MIN_TIMEOUT_NS: i64 = 10_000_000_000;

/// The pause after the first attempt that failed, in nanoseconds: 500 ms.
const FIRST_PAUSE_NS: i64 = 500_000_000;

/// The longest pause between attempts, in nanoseconds: 60 s.
const LONGEST_PAUSE_NS: i64 = 60_000_000_000;

/// A notification under way.
#[derive(Debug, Clone)]
pub(super) struct Flight {
    pub(super) group: u64,
    /// The place of the integration among all of the receiver.
    integration: usize,
    target: Target,
    key: LogKey,
    group_labels: Labels,
    route_id: Arc<str>,
    alerts: Arc<[NotifiedAlert]>,
    firing: Vec<Fingerprint>,
    resolved: Vec<Fingerprint>,
    reason: Reason,
    now_ns: i64,
    repeat_interval_ns: i64,
    deadline_ns: i64,
    store: BTreeMap<String, String>,
    attempt: u32,
    /// When it is tried again; `None` while an answer is awaited.
    retry_at_ns: Option<i64>,
    error: Option<String>,
}

impl Notifier {
    pub(super) fn group_is_due(&mut self, id: u64, due_ns: i64, now_ns: i64) {
        let Some(group) = self.groups.get_mut(&id).filter(|group| group.next_flush_ns == due_ns)
        else {
            return;
        };
        match &mut group.flush {
            Some(flush) => flush.due_again = true,
            None => self.flush(id, now_ns),
        }
    }

    /// Tells each integration of a group's receiver what it does not know.
    fn flush(&mut self, id: u64, now_ns: i64) {
        let Some(group) = self.groups.get_mut(&id) else { return };
        let node = &self.policy.tree.nodes()[group.route];
        let options = &node.options;
        group.next_flush_ns = now_ns.saturating_add(options.group_interval_ns);
        group.last_flush_ns = Some(now_ns);
        self.schedule.add(group.next_flush_ns, Timer::Group(id));
        self.dirty.groups.insert(group.place(), Some(id));
        let mut alerts: Vec<NotifiedAlert> = Vec::with_capacity(group.alerts.len());
        for fingerprint in &group.alerts {
            let Some(entry) = self.alerts.get_mut(fingerprint) else { continue };
            let resolved = entry.alert.is_resolved_at(now_ns);
            if resolved && entry.known_firing {
                entry.known_firing = false;
                self.dirty.alerts.insert(*fingerprint);
            }
            let alert = Arc::clone(&entry.alert);
            alerts.push(NotifiedAlert { alert, fingerprint: *fingerprint, resolved });
        }
        let ended = alerts.iter().filter(|alert| alert.resolved);
        let mut flush = Flush {
            pending: BTreeSet::new(),
            failed: false,
            resolved: ended.map(|a| (a.fingerprint, Arc::clone(&a.alert))).collect(),
            due_again: false,
        };
        group.muted_by = self.policy.muting(node, now_ns).0;
        if group.muted_by.is_empty() {
            alerts.retain(|alert| {
                let Some(entry) = self.alerts.get_mut(&alert.fingerprint) else { return false };
                let labels = &entry.alert.labels;
                self.inhibitor.inhibited_by(&entry.roles, now_ns).is_empty()
                    && self.silences.silenced_by(labels, &mut entry.seen, now_ns).is_empty()
            });
        } else {
            alerts.clear();
        }
        if !alerts.is_empty() {
            flush.pending = self.notify(id, alerts, now_ns);
        }
        if let Some(group) = self.groups.get_mut(&id) {
            group.flush = Some(flush);
        }
        self.finish_flush(id, now_ns);
    }

    /// Begins the notifications about alerts that nothing mutes. Yields their numbers.
    fn notify(&mut self, id: u64, mut alerts: Vec<NotifiedAlert>, now_ns: i64) -> BTreeSet<u64> {
        let mut pending = BTreeSet::new();
        let Some(group) = self.groups.get(&id) else { return pending };
        let node = &self.policy.tree.nodes()[group.route];
        let of = |resolved: bool| {
            let all = alerts.iter().filter(|alert| alert.resolved == resolved);
            let mut all: Vec<Fingerprint> = all.map(|alert| alert.fingerprint).collect();
            all.sort_unstable();
            all
        };
        let (firing, resolved) = (of(false), of(true));
        let state = GroupState { firing: &firing, resolved: &resolved };
        let repeat_interval_ns = node.options.repeat_interval_ns;
        let timeout_ns = node.options.group_interval_ns.max(MIN_TIMEOUT_NS);
        let mut flights: Vec<Flight> = Vec::new();
        for (integration, target) in self.policy.targets(&group.receiver).iter().enumerate() {
            let key = LogKey {
                group_key: Arc::clone(&group.key),
                receiver: Arc::clone(&group.receiver),
                integration: target.kind.to_owned(),
                index: target.index,
            };
            let entry = self.log.get(&key);
            let sends_resolved = target.send_resolved;
            let reason = dedup::reason(entry, state, sends_resolved, repeat_interval_ns, now_ns);
            let Some(reason) = reason else { continue };
            // What is kept for later messages ends with the group's last alert.
            let entry = entry.filter(|_| reason != Reason::FirstNotification);
            flights.push(Flight {
                group: id,
                integration,
                target: target.clone(),
                store: entry.map(|entry| entry.store.clone()).unwrap_or_default(),
                key,
                group_labels: group.labels.clone(),
                route_id: Arc::clone(&node.id),
                alerts: Arc::from([]),
                firing: firing.clone(),
                resolved: resolved.clone(),
                reason,
                now_ns,
                repeat_interval_ns,
                deadline_ns: now_ns.saturating_add(timeout_ns),
                attempt: 0,
                retry_at_ns: None,
                error: None,
            });
        }
        if flights.is_empty() {
            return pending;
        }
        // Only now is the order of interest, and most of the time it is not.
        alerts.sort_by_cached_key(|alert| alert.alert.order_key());
        let unresolved: Arc<[NotifiedAlert]> =
            alerts.iter().filter(|alert| !alert.resolved).cloned().collect();
        let all: Arc<[NotifiedAlert]> = alerts.into();
        for mut flight in flights {
            let told = if flight.target.send_resolved { &all } else { &unresolved };
            flight.alerts = Arc::clone(told);
            if let Some(group) = self.groups.get_mut(&id)
                && let Some(outcome) = group.outcomes.get_mut(flight.integration)
            {
                outcome.notified_at_ns = Some(now_ns);
                outcome.reason = Some(flight.reason);
                outcome.attempts = 0;
            }
            if flight.alerts.is_empty() {
                // Nothing to be told, but to be known: nothing fires any more.
                self.write_log(&flight, None, now_ns);
                continue;
            }
            let number = self.new_id();
            self.schedule.add(flight.deadline_ns, Timer::Deadline(number));
            self.flights.insert(number, flight);
            pending.insert(number);
            self.attempt(number, now_ns);
        }
        pending
    }

    /// Has a notification sent, once more or for the first time.
    fn attempt(&mut self, id: u64, now_ns: i64) {
        let Some(flight) = self.flights.get_mut(&id) else { return };
        flight.attempt += 1;
        flight.retry_at_ns = None;
        let limit_ns = flight.target.timeout_ns.map(|timeout| now_ns.saturating_add(timeout));
        self.effects.push(Effect::Send(Notification {
            id: NotificationId(id),
            attempt: flight.attempt,
            receiver: Arc::clone(&flight.key.receiver),
            integration: flight.integration,
            kind: flight.target.kind,
            index: flight.target.index,
            group_key: Arc::clone(&flight.key.group_key),
            group_labels: flight.group_labels.clone(),
            route_id: Arc::clone(&flight.route_id),
            alerts: Arc::clone(&flight.alerts),
            reason: flight.reason,
            now_ns: flight.now_ns,
            repeat_interval_ns: flight.repeat_interval_ns,
            deadline_ns: limit_ns.map_or(flight.deadline_ns, |ns| ns.min(flight.deadline_ns)),
            store: flight.store.clone(),
        }));
    }

    /// Says what came of an attempt. What is not awaited is ignored: an attempt that was answered
    /// before, or a notification that was abandoned.
    pub fn answered(&mut self, id: NotificationId, attempt: u32, outcome: Outcome, now_ns: i64) {
        let NotificationId(id) = id;
        let awaited =
            |flight: &&mut Flight| flight.attempt == attempt && flight.retry_at_ns.is_none();
        let Some(flight) = self.flights.get_mut(&id).filter(awaited) else { return };
        match outcome {
            Outcome::Delivered { store } => {
                flight.error = None;
                let flight = flight.clone();
                self.write_log(&flight, store, now_ns);
                self.finish(id, now_ns);
            }
            Outcome::Retry { message, after_ns } => {
                if let Some(group) = self.groups.get_mut(&flight.group)
                    && let Some(outcome) = group.outcomes.get_mut(flight.integration)
                {
                    outcome.attempts = flight.attempt;
                    outcome.error = Some(message.clone());
                }
                flight.error = Some(message);
                let pause_ns = pause_ns(id, attempt).max(after_ns.unwrap_or(0));
                let at_ns = now_ns.saturating_add(pause_ns);
                if at_ns < flight.deadline_ns {
                    flight.retry_at_ns = Some(at_ns);
                    self.schedule.add(at_ns, Timer::Retry(id));
                } else {
                    self.finish(id, now_ns);
                }
            }
            Outcome::Failed { message } => {
                flight.error = Some(message);
                self.finish(id, now_ns);
            }
        }
    }

    pub(super) fn retry(&mut self, id: u64, due_ns: i64, now_ns: i64) {
        if self.flights.get(&id).is_some_and(|flight| flight.retry_at_ns == Some(due_ns)) {
            self.attempt(id, now_ns);
        }
    }

    /// A notification has taken too long.
    pub(super) fn give_up(&mut self, id: u64, now_ns: i64) {
        let Some(flight) = self.flights.get_mut(&id) else { return };
        if flight.retry_at_ns.is_none() {
            self.effects.push(Effect::Abandon(NotificationId(id)));
        }
        let late = "it took longer than the group waits between notifications";
        flight.error.get_or_insert_with(|| late.to_owned());
        self.finish(id, now_ns);
    }

    /// Drops a notification whose receiver is gone.
    pub(super) fn abandon(&mut self, id: u64) {
        if let Some(flight) = self.flights.remove(&id)
            && flight.retry_at_ns.is_none()
        {
            self.effects.push(Effect::Abandon(NotificationId(id)));
        }
    }

    /// A notification is over, well or not.
    fn finish(&mut self, id: u64, now_ns: i64) {
        let Some(flight) = self.flights.remove(&id) else { return };
        let Some(group) = self.groups.get_mut(&flight.group) else { return };
        let failed = flight.error.is_some();
        if let Some(outcome) = group.outcomes.get_mut(flight.integration) {
            outcome.attempts = flight.attempt;
            outcome.error = flight.error;
            if !failed {
                outcome.delivered_at_ns = Some(now_ns);
            }
        }
        if let Some(flush) = &mut group.flush {
            flush.pending.remove(&id);
            flush.failed |= failed;
        }
        self.dirty.groups.insert(group.place(), Some(flight.group));
        self.finish_flush(flight.group, now_ns);
    }

    /// If all is told, alerts that ended leave the group, and a group without alerts goes.
    fn finish_flush(&mut self, id: u64, now_ns: i64) {
        let Some(group) = self.groups.get_mut(&id) else { return };
        let Some(flush) = group.flush.take_if(|flush| flush.pending.is_empty()) else { return };
        if !flush.failed {
            for (fingerprint, alert) in &flush.resolved {
                let Some(entry) = self.alerts.get_mut(fingerprint) else { continue };
                // It may fire again since.
                if Arc::ptr_eq(&entry.alert, alert) {
                    group.alerts.remove(fingerprint);
                    for (_, of) in entry.routes.iter_mut().filter(|(_, of)| *of == Some(id)) {
                        *of = None;
                    }
                    self.dirty.alerts.insert(*fingerprint);
                }
            }
        }
        if group.alerts.is_empty() {
            self.remove_group(id);
        } else if flush.due_again {
            self.flush(id, now_ns);
        }
    }

    fn remove_group(&mut self, id: u64) {
        if let Some(group) = self.groups.remove(&id) {
            self.dirty.groups.insert(group.place(), None);
            self.group_ids.remove(&(group.route, group.labels));
        }
    }

    fn write_log(&mut self, flight: &Flight, store: Option<BTreeMap<String, String>>, now_ns: i64) {
        let entry = LogEntry {
            timestamp_ns: now_ns,
            firing: flight.firing.clone(),
            resolved: flight.resolved.clone(),
            expires_at_ns: NotificationLog::expiry_ns(now_ns, flight.repeat_interval_ns),
            store: store.unwrap_or_else(|| flight.store.clone()),
        };
        self.dirty.log.insert(flight.key.clone());
        let limit = self.limits.max_log_entries;
        let gone = self.log.put(flight.key.clone(), entry, now_ns, limit);
        self.dirty.log.extend(gone);
        self.schedule_log(now_ns);
    }
}

/// How long to wait after an attempt that failed: half as long again each time, and up to half
/// more or less, by the number of the notification, so that many of them do not come at once.
fn pause_ns(id: u64, attempt: u32) -> i64 {
    let mut pause = FIRST_PAUSE_NS;
    for _ in 1..attempt.min(32) {
        pause = (pause + pause / 2).min(LONGEST_PAUSE_NS);
    }
    // SplitMix64's last steps spread neighbouring numbers.
    let mut hash = (id ^ (u64::from(attempt) << 48)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    let thousandths = i64::try_from((hash ^ (hash >> 31)) % 1_000).unwrap_or(0);
    pause / 2 + pause / 1_000 * thousandths
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_differ() {
        for attempt in 1..100 {
            let pause = pause_ns(7, attempt);
            assert!((FIRST_PAUSE_NS / 2..LONGEST_PAUSE_NS * 3 / 2).contains(&pause), "{pause}");
        }
        assert!(pause_ns(1, 20) >= LONGEST_PAUSE_NS / 2);
        let different: BTreeSet<i64> = (0..100).map(|id| pause_ns(id, 1)).collect();
        assert!(different.len() > 50);
    }
}
