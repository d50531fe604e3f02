//! The notifier: alerts come in, notifications go out, time passes.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use model::Labels;
use settings::alertmanager::TimeZone;

use super::alert::{Alert, AlertError, Fingerprint, PostedAlert};
use super::effect::Effect;
use super::group::{Group, GroupPlace};
use super::inhibition::{Inhibitor, Roles};
use super::log::{LogKey, NotificationLog};
use super::schedule::{Schedule, Timer};
use super::sending::Flight;
use super::silence::{PostedSilence, Silence, SilenceError};
use super::silences::{Seen, Silences};
use super::{Limits, Policy};

/// How long an alert is kept after its end, in nanoseconds: 15 minutes. Until then a late post can
/// still be joined with it. Also how often it is looked at at least, since ends move.
const ALERT_RETENTION_NS: i64 = 15 * 60 * 1_000_000_000;

/// How often it is looked for alerts that ended where there is no room for others: once a second.
const LOOK_NS: i64 = 1_000_000_000;

/// How often a silence is looked at at least, in nanoseconds: a day.
const SILENCE_INTERVAL_NS: i64 = 86_400 * 1_000_000_000;

/// How often expired entries of the log are looked for, in nanoseconds: 15 minutes.
pub(super) const LOG_INTERVAL_NS: i64 = 15 * 60 * 1_000_000_000;

/// Routes, groups, mutes and notifies: what Alertmanager does, as a state machine.
///
/// It has no clock: every call says what time it is, in nanoseconds since 1970, never less than
/// the call before. After any call, [`Notifier::step`] yields what is to be done, and
/// [`Notifier::next_due_ns`] says when to call it again at the latest. The same calls yield the
/// same effects.
#[derive(Debug)]
pub struct Notifier {
    pub(super) policy: Policy,
    pub(super) limits: Limits,
    /// Groups tell nothing before that: alerts that are sent again should be there first.
    pub(super) dispatch_from_ns: i64,
    pub(super) alerts: HashMap<Fingerprint, Entry>,
    names: HashMap<String, usize>,
    pub(super) inhibitor: Inhibitor,
    pub(super) silences: Silences,
    pub(super) log: NotificationLog,
    pub(super) groups: HashMap<u64, Group>,
    pub(super) group_ids: HashMap<(usize, Labels), u64>,
    pub(super) flights: HashMap<u64, Flight>,
    pub(super) schedule: Schedule,
    pub(super) effects: Vec<Effect>,
    pub(super) dirty: Dirty,
    pub(super) log_is_scheduled: bool,
    last_id: u64,
    refused_groups: u64,
    /// In which second no alert, of that name if one is given, was found that ended.
    nothing_ended: Option<(i64, Option<String>)>,
}

/// An alert and what is known about it.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) alert: Arc<Alert>,
    pub(super) roles: Roles,
    pub(super) seen: Seen,
    /// The routes where it ends, and the groups there that hold it.
    pub(super) routes: Vec<(usize, Option<u64>)>,
    /// Whether it was known to fire when it was last looked at.
    pub(super) known_firing: bool,
    /// Its end when it was last to be saved.
    saved_end_ns: i64,
    /// When its timer is due; others that bear its name are of an alert that was forgotten.
    timer_ns: i64,
}

/// What changed since it was last asked for.
#[derive(Debug, Default)]
pub(super) struct Dirty {
    pub(super) alerts: HashSet<Fingerprint>,
    /// With their numbers; `None` for those that are gone.
    pub(super) groups: HashMap<GroupPlace, Option<u64>>,
    pub(super) silences: HashSet<String>,
    pub(super) log: HashSet<LogKey>,
}

/// How much there is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Alerts, those included that ended lately.
    pub alerts: usize,
    /// Groups.
    pub groups: usize,
    /// Silences, those included that expired lately.
    pub silences: usize,
    /// Notifications under way.
    pub notifications: usize,
    /// How often no group could be made for an alert because there were too many.
    pub refused_groups: u64,
}

impl Notifier {
    /// A notifier that knows nothing yet. Groups tell nothing before `dispatch_from_ns`.
    pub fn new(policy: Policy, limits: Limits, now_ns: i64, dispatch_from_ns: i64) -> Notifier {
        Notifier {
            inhibitor: Inhibitor::new(&policy.inhibit_rules),
            policy,
            limits,
            dispatch_from_ns,
            alerts: HashMap::new(),
            names: HashMap::new(),
            silences: Silences::default(),
            log: NotificationLog::default(),
            groups: HashMap::new(),
            group_ids: HashMap::new(),
            flights: HashMap::new(),
            schedule: Schedule::default(),
            effects: Vec::new(),
            dirty: Dirty::default(),
            log_is_scheduled: false,
            // Numbers go up over restarts as time does.
            last_id: u64::try_from(now_ns).unwrap_or(0),
            refused_groups: 0,
            nothing_ended: None,
        }
    }

    /// The policy in effect.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// How much there is.
    pub fn counts(&self) -> Counts {
        Counts {
            alerts: self.alerts.len(),
            groups: self.groups.len(),
            silences: self.silences.len(),
            notifications: self.flights.len(),
            refused_groups: self.refused_groups,
        }
    }

    /// Takes alerts. Each is taken or refused by itself, in order.
    pub fn put_alerts(
        &mut self,
        posted: Vec<PostedAlert>,
        now_ns: i64,
    ) -> Vec<Result<Fingerprint, AlertError>> {
        posted.into_iter().map(|alert| self.put_alert(alert, now_ns)).collect()
    }

    fn put_alert(&mut self, posted: PostedAlert, now_ns: i64) -> Result<Fingerprint, AlertError> {
        let Policy { resolve_timeout_ns, mode, .. } = self.policy;
        let alert = Alert::from_posted(posted, now_ns, resolve_timeout_ns, mode, &self.limits)?;
        let fingerprint = Fingerprint::of(&alert.labels);
        match self.alerts.get(&fingerprint).map(|entry| Arc::clone(&entry.alert)) {
            Some(old) if old.labels != alert.labels => {
                return Err(AlertError::Collision(fingerprint));
            }
            Some(old) => self.change(fingerprint, &old, alert, now_ns),
            None => {
                self.make_room(&alert, now_ns)?;
                self.insert(fingerprint, alert, now_ns);
            }
        }
        self.route(fingerprint, now_ns);
        Ok(fingerprint)
    }

    /// Makes sure that there is room for an alert: one that fires takes the place of those that ended and
    /// of which everybody was told.
    fn make_room(&mut self, alert: &Alert, now_ns: i64) -> Result<(), AlertError> {
        let limit = self.limits.max_alerts;
        if self.alerts.len() >= limit && !self.forget_ended(None, now_ns) {
            return Err(AlertError::TooMany { limit });
        }
        let name = alert.labels.get("alertname").unwrap_or_default();
        let limit = self.limits.max_alerts_per_name;
        let is_full = limit > 0 && self.names.get(name).copied().unwrap_or(0) >= limit;
        if is_full && !self.forget_ended(Some(name), now_ns) {
            return Err(AlertError::TooManyOfName { name: name.to_owned(), limit });
        }
        Ok(())
    }

    /// Forgets those alerts, of a name if one is given, that ended first: a part of them, so that it is not
    /// looked for them with every alert. Yields whether there were any.
    fn forget_ended(&mut self, name: Option<&str>, now_ns: i64) -> bool {
        if self.nothing_ended == Some((now_ns.div_euclid(LOOK_NS), name.map(str::to_owned))) {
            return false;
        }
        let has_ended = |entry: &Entry| {
            entry.alert.is_resolved_at(now_ns)
                && entry.routes.iter().all(|(_, group)| group.is_none())
                && name.is_none_or(|name| {
                    entry.alert.labels.get("alertname").unwrap_or_default() == name
                })
        };
        let ended = self.alerts.iter().filter(|(_, entry)| has_ended(entry));
        let mut ended: Vec<(i64, Fingerprint)> =
            ended.map(|(fingerprint, entry)| (entry.alert.ends_at_ns, *fingerprint)).collect();
        ended.sort_unstable();
        for (_, fingerprint) in &ended[..ended.len().div_ceil(4)] {
            self.remove_alert(*fingerprint);
        }
        if ended.is_empty() {
            self.nothing_ended = Some((now_ns.div_euclid(LOOK_NS), name.map(str::to_owned)));
        }
        !ended.is_empty()
    }

    /// Adds an alert that is not there.
    pub(super) fn insert(&mut self, fingerprint: Fingerprint, alert: Alert, now_ns: i64) {
        let roles = self.inhibitor.roles(&alert.labels);
        self.inhibitor.insert(fingerprint, &roles, alert.ends_at_ns);
        let name = alert.labels.get("alertname").unwrap_or_default();
        *self.names.entry(name.to_owned()).or_default() += 1;
        // One timer per alert, however often it is posted.
        let timer_ns = now_ns.saturating_add(ALERT_RETENTION_NS);
        self.schedule.add(timer_ns, Timer::Alert(fingerprint));
        let routes = self.policy.tree.matching(&alert.labels);
        let entry = Entry {
            known_firing: !alert.is_resolved_at(now_ns),
            saved_end_ns: alert.ends_at_ns,
            timer_ns,
            alert: Arc::new(alert),
            roles,
            seen: Seen::default(),
            routes: routes.into_iter().map(|route| (route, None)).collect(),
        };
        self.alerts.insert(fingerprint, entry);
        self.dirty.alerts.insert(fingerprint);
    }

    /// Joins what was posted with what is there.
    fn change(&mut self, fingerprint: Fingerprint, old: &Alert, alert: Alert, now_ns: i64) {
        let alert = alert.over(old, now_ns);
        let Some(entry) = self.alerts.get_mut(&fingerprint) else { return };
        self.inhibitor.remove(fingerprint, &entry.roles, old.ends_at_ns);
        self.inhibitor.insert(fingerprint, &entry.roles, alert.ends_at_ns);
        let firing = !alert.is_resolved_at(now_ns);
        // An alert that goes on firing is posted again and again; that is nothing to be saved, unless
        // somebody says an end that is far from the one that is known after a crash.
        let away_ns = alert.ends_at_ns.abs_diff(entry.saved_end_ns);
        let is_far = away_ns > self.policy.resolve_timeout_ns.unsigned_abs();
        let is_same_end = match firing {
            true => alert.timed_out || !is_far,
            false => old.ends_at_ns == alert.ends_at_ns,
        };
        let same = entry.known_firing == firing
            && is_same_end
            && old.starts_at_ns == alert.starts_at_ns
            && old.timed_out == alert.timed_out
            && old.annotations == alert.annotations
            && old.generator_url == alert.generator_url;
        if !same {
            entry.saved_end_ns = alert.ends_at_ns;
            self.dirty.alerts.insert(fingerprint);
        }
        entry.known_firing = firing;
        entry.alert = Arc::new(alert);
    }

    /// Puts an alert into the groups of its routes in which it is not yet.
    pub(super) fn route(&mut self, fingerprint: Fingerprint, now_ns: i64) {
        let Some(entry) = self.alerts.get(&fingerprint) else { return };
        let alert = Arc::clone(&entry.alert);
        for at in 0..entry.routes.len() {
            let Some(entry) = self.alerts.get(&fingerprint) else { return };
            let Some((route, None)) = entry.routes.get(at).copied() else { continue };
            let Some(id) = self.group_for(route, &alert, now_ns) else {
                self.refused_groups += 1;
                continue;
            };
            if let Some(group) = self.groups.get_mut(&id) {
                group.alerts.insert(fingerprint);
            }
            if let Some(entry) = self.alerts.get_mut(&fingerprint) {
                entry.routes[at].1 = Some(id);
            }
            self.dirty.alerts.insert(fingerprint);
        }
    }

    /// The group of an alert at a route; a new one if there is none. `None` if there are too many.
    fn group_for(&mut self, route: usize, alert: &Alert, now_ns: i64) -> Option<u64> {
        let node = &self.policy.tree.nodes()[route];
        let labels = node.group_labels(&alert.labels);
        if let Some(id) = self.group_ids.get(&(route, labels.clone())) {
            return Some(*id);
        }
        if self.groups.len() >= self.limits.max_groups {
            return None;
        }
        let wait_ns = node.options.group_wait_ns;
        // Whoever has fired for longer than a group waits need not wait.
        let next_flush_ns = if alert.starts_at_ns.saturating_add(wait_ns) < now_ns {
            now_ns
        } else {
            now_ns.saturating_add(wait_ns)
        };
        let next_flush_ns = next_flush_ns.max(self.dispatch_from_ns);
        let key: Arc<str> = node.group_key(&labels).into();
        let receiver = Arc::clone(&node.options.receiver);
        let outcomes = vec![Default::default(); self.policy.targets(&receiver).len()];
        let id = self.new_id();
        let group = Group {
            route,
            labels: labels.clone(),
            key,
            receiver,
            alerts: Default::default(),
            next_flush_ns,
            last_flush_ns: None,
            flush: None,
            muted_by: Vec::new(),
            outcomes,
        };
        self.dirty.groups.insert(group.place(), Some(id));
        self.groups.insert(id, group);
        self.group_ids.insert((route, labels), id);
        self.schedule.add(next_flush_ns, Timer::Group(id));
        Some(id)
    }

    pub(super) fn new_id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }

    /// Does what is due, and yields what is to be done outside.
    pub fn step(&mut self, now_ns: i64) -> Vec<Effect> {
        while let Some((due_ns, timer)) = self.schedule.take_due(now_ns) {
            match timer {
                Timer::Group(id) => self.group_is_due(id, due_ns, now_ns),
                Timer::Retry(id) => self.retry(id, due_ns, now_ns),
                Timer::Deadline(id) => self.give_up(id, now_ns),
                Timer::Alert(fingerprint) => self.forget_alert(fingerprint, due_ns, now_ns),
                Timer::Silence(id) => self.forget_silence(id, now_ns),
                Timer::Log => {
                    let gone = self.log.expire(now_ns);
                    self.dirty.log.extend(gone);
                    self.log_is_scheduled = false;
                    self.schedule_log(now_ns);
                }
            }
        }
        std::mem::take(&mut self.effects)
    }

    /// When [`Notifier::step`] has something to do at the earliest. `None` if nothing will happen
    /// by itself.
    pub fn next_due_ns(&self) -> Option<i64> {
        if self.effects.is_empty() { self.schedule.next_due_ns() } else { Some(i64::MIN) }
    }

    pub(super) fn schedule_log(&mut self, now_ns: i64) {
        if !self.log_is_scheduled && !self.log.is_empty() {
            self.log_is_scheduled = true;
            self.schedule.add(now_ns.saturating_add(LOG_INTERVAL_NS), Timer::Log);
        }
    }

    fn forget_alert(&mut self, fingerprint: Fingerprint, timer_ns: i64, now_ns: i64) {
        let Some(entry) = self.alerts.get_mut(&fingerprint) else { return };
        if entry.timer_ns != timer_ns {
            return;
        }
        let due_ns = entry.alert.ends_at_ns.saturating_add(ALERT_RETENTION_NS);
        let grouped = entry.routes.iter().any(|(_, group)| group.is_some());
        // Groups hold on to what they have not told of yet.
        if due_ns > now_ns || grouped {
            let next_ns = now_ns.saturating_add(ALERT_RETENTION_NS);
            let next_ns = if grouped { next_ns } else { next_ns.min(due_ns) };
            entry.timer_ns = next_ns;
            self.schedule.add(next_ns, Timer::Alert(fingerprint));
            return;
        }
        self.remove_alert(fingerprint);
    }

    fn remove_alert(&mut self, fingerprint: Fingerprint) {
        let Some(entry) = self.alerts.remove(&fingerprint) else { return };
        self.inhibitor.remove(fingerprint, &entry.roles, entry.alert.ends_at_ns);
        let name = entry.alert.labels.get("alertname").unwrap_or_default();
        if let Some(count) = self.names.get_mut(name) {
            *count -= 1;
            if *count == 0 {
                self.names.remove(name);
            }
        }
        self.dirty.alerts.insert(fingerprint);
    }

    /// Adds a silence, or changes one. `new_id` yields names that are in use nowhere, `zone` zones
    /// of time by name. Yields the name of the silence that is in effect then, which is a new one
    /// where the change would have made untrue what was.
    ///
    /// # Errors
    /// Why it is not taken; nothing has changed then.
    pub fn set_silence(
        &mut self,
        posted: PostedSilence,
        new_id: &mut dyn FnMut() -> String,
        zone: &dyn Fn(&str) -> Option<TimeZone>,
        now_ns: i64,
    ) -> Result<String, SilenceError> {
        let mode = self.policy.mode;
        let before = posted.id.clone();
        let changed = self.silences.set(posted, new_id, now_ns, mode, &self.limits, zone)?;
        for id in changed.iter().filter(|id| **id != before) {
            self.schedule_silence(id.clone(), now_ns);
        }
        self.dirty.silences.extend(changed.iter().cloned());
        Ok(changed.into_iter().next_back().unwrap_or_default())
    }

    /// Ends a silence now; one that has ended stays as it is.
    ///
    /// # Errors
    /// There is none of that name.
    pub fn expire_silence(&mut self, id: &str, now_ns: i64) -> Result<(), SilenceError> {
        if self.silences.expire(id, now_ns)? {
            self.dirty.silences.insert(id.to_owned());
        }
        Ok(())
    }

    /// Has a silence looked at when it may be forgotten. One timer per silence, however often it
    /// is changed.
    pub(super) fn schedule_silence(&mut self, id: String, now_ns: i64) {
        if let Some(silence) = self.silences.get(&id) {
            let latest_ns = now_ns.saturating_add(SILENCE_INTERVAL_NS);
            let due_ns = Silences::forgotten_at_ns(silence).min(latest_ns);
            self.schedule.add(due_ns, Timer::Silence(id));
        }
    }

    fn forget_silence(&mut self, id: String, now_ns: i64) {
        let due = |silence: &Silence| Silences::forgotten_at_ns(silence) <= now_ns;
        if self.silences.get(&id).is_some_and(due) {
            self.silences.forget(&id);
            self.dirty.silences.insert(id);
        } else {
            self.schedule_silence(id, now_ns);
        }
    }
}
