//! Rules in the world: groups are evaluated when they are due, what they yield is written, and who has to
//! be told is told.
//!
//! One task, [`Rules::run`], looks what is due; each evaluation is a task of its own, a bounded number at
//! once. The queries of a stage are asked at once, and what a stage yields is written and can be read
//! before the next one is asked. States are kept as [`saving`] says.

mod counters;
mod evaluation;
mod evidence;
pub(crate) mod group_yaml;
mod links;
mod managed;
mod outside;
mod preview;
mod routes;
mod saving;
mod sources;
mod waiting;

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use alerting::rules::{
    AlertView, CatchUpLimits, Changes, Defaults, GroupKey, GroupView, RuleLimits, RuleSet, Sample,
    SharedGroup,
};
use model::Labels;
use parking_lot::{Mutex, RwLock};
use serde::{Deserialize, Serialize};
use settings::relabel::{LabelBuffer, RelabelConfig, relabel};
use settings::{Diagnostic, Faults};
use tokio::sync::{Notify, Semaphore};

use crate::alertmanagers::Alertmanagers;
use crate::clock::Clock;
use crate::keep::Keep;
use crate::notify::{Files, Notifications};

use counters::RuleCounters;
pub(crate) use counters::render;
pub use managed::{MAX_GROUP_BYTES, ManagedError, ManagedGroup, ManagedLimits};
use managed::{Managed, ManagedStore};
pub use outside::{Queries, Store};
pub use preview::{Preview, PreviewedRule};
pub use routes::rule_routes;
use saving::{Evaluated, States};
use waiting::locked;

/// How often it is written for which time groups were evaluated last.
const TIMES_EVERY: Duration = Duration::from_secs(30);
/// The longest sleep: clocks are moved.
const LONGEST_SLEEP: Duration = Duration::from_secs(5);
/// At a stop, evaluations under way have so long to end.
const STOP_PATIENCE: Duration = Duration::from_secs(5);

/// The language of a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RuleLanguage {
    /// Over samples.
    Promql,
    /// Over lines.
    Logql,
}

impl RuleLanguage {
    /// As keys and the API name it.
    pub fn as_str(self) -> &'static str {
        match self {
            RuleLanguage::Promql => "promql",
            RuleLanguage::Logql => "logql",
        }
    }
}

/// How rules are evaluated.
#[derive(Debug, Clone, PartialEq)]
pub struct RuleSettings {
    /// Patterns of files of rules over samples.
    pub promql_files: Vec<String>,
    /// Patterns of files of rules over lines.
    pub logql_files: Vec<String>,
    /// What groups have that say nothing else.
    pub defaults: Defaults,
    /// Names of built-in rules that are off; `None` if all are.
    pub builtin_off: Option<BTreeSet<String>>,
    /// Labels that every alert gets that leaves, unless it has them.
    pub external_labels: Labels,
    /// Rules over the labels of every alert that leaves, those labels included; what they drop is told to
    /// nobody.
    pub alert_relabel_configs: Vec<RelabelConfig>,
    /// Where this system is reached from outside, without a `/` at the end.
    pub external_url: String,
    /// Limits of all rules.
    pub limits: RuleLimits,
    /// The shortest time between two notices of one alert that goes on.
    pub resend_delay: Duration,
    /// How far into the past recording rules are caught up.
    pub catch_up: CatchUpLimits,
    /// Groups that are evaluated at once.
    pub groups_at_once: usize,
    /// Limits of what users keep by the API.
    pub managed: ManagedLimits,
}

impl RuleSettings {
    /// Patterns of files.
    fn patterns(&self, language: RuleLanguage) -> &[String] {
        match language {
            RuleLanguage::Promql => &self.promql_files,
            RuleLanguage::Logql => &self.logql_files,
        }
    }
}

/// Rules that are evaluated. Handles share one state.
#[derive(Clone)]
pub struct Rules {
    inner: Arc<Inner>,
}

struct Inner {
    sets: Mutex<Sets>,
    settings: RwLock<Arc<RuleSettings>>,
    queries: Arc<dyn Queries>,
    store: Arc<dyn Store>,
    notifications: Notifications,
    alertmanagers: Alertmanagers,
    /// Whether states of groups that are not there are forgotten at the start.
    forgets_at_once: bool,
    states: States,
    /// One writes at a time, and what is written is in effect before the next one is.
    store_of_managed: tokio::sync::Mutex<ManagedStore>,
    clock: Arc<Clock>,
    wake: Notify,
    slots: Arc<Semaphore>,
    counters: RuleCounters,
}

/// What is evaluated, and when.
#[derive(Default)]
struct Sets {
    promql: RuleSet,
    logql: RuleSet,
    /// What users keep by the API.
    managed: Managed,
    /// When groups are due, the next one first. Those under way are not in it.
    due: BinaryHeap<Reverse<(i64, RuleLanguage, GroupKey)>>,
    under_way: HashSet<(RuleLanguage, GroupKey)>,
    /// Digests of the states that were written, by group.
    saved: HashMap<(RuleLanguage, GroupKey), u64>,
    is_stopped: bool,
}

impl Sets {
    fn of(&mut self, language: RuleLanguage) -> &mut RuleSet {
        match language {
            RuleLanguage::Promql => &mut self.promql,
            RuleLanguage::Logql => &mut self.logql,
        }
    }

    fn each(&self) -> impl Iterator<Item = (RuleLanguage, &GroupKey, &SharedGroup)> {
        let promql = self.promql.groups().map(|(key, group)| (RuleLanguage::Promql, key, group));
        let logql = self.logql.groups().map(|(key, group)| (RuleLanguage::Logql, key, group));
        promql.chain(logql)
    }

    /// Puts all groups into the order in which they are due.
    fn order(&mut self) {
        let due: Vec<_> = self
            .each()
            .filter(|(language, key, _)| !self.under_way.contains(&(*language, (*key).clone())))
            .map(|(language, key, group)| Reverse((locked(group).due_ms(), language, key.clone())))
            .collect();
        self.due = due.into();
    }
}

/// Everything rules need.
pub struct Parts {
    /// What is evaluated, and how.
    pub prepared: PreparedRules,
    /// Whether the state of a group that is not there is forgotten at once. In a cluster it waits for the next
    /// reload: another broker may have files that lack a group.
    pub forgets_at_once: bool,
    /// Where states are kept, and groups of the API.
    pub keep: Arc<dyn Keep>,
    /// Who answers queries.
    pub queries: Arc<dyn Queries>,
    /// Where results go.
    pub store: Arc<dyn Store>,
    /// Who is told of alerts.
    pub notifications: Notifications,
    /// Who else is.
    pub alertmanagers: Alertmanagers,
    /// The time.
    pub clock: Arc<Clock>,
}

/// Rules that can be put in effect: nothing about them can fail any more.
#[derive(Clone)]
pub struct PreparedRules {
    settings: RuleSettings,
    sources: sources::Sources,
}

/// A group as the API shows it.
#[derive(Debug, Clone, PartialEq)]
pub struct ShownGroup {
    /// The language of its rules.
    pub language: RuleLanguage,
    /// Whether a user keeps it by the API.
    pub is_managed: bool,
    /// The rest.
    pub view: GroupView,
}

/// What came of reading rules.
#[derive(Debug, Clone, Default)]
pub struct Read {
    /// What changed.
    pub changes: Changes,
    /// What is odd, each with its place.
    pub warnings: Vec<Diagnostic>,
}

impl PreparedRules {
    /// Reads all rules. Blocks.
    ///
    /// # Errors
    /// What is wrong with the files.
    pub fn read(settings: RuleSettings, files: &Files) -> Result<PreparedRules, Faults> {
        let sources = sources::read(&settings, files)?;
        Ok(PreparedRules { settings, sources })
    }

    /// What is odd, each with its place.
    pub fn warnings(&self) -> &[Diagnostic] {
        &self.sources.warnings
    }

    /// A number that is the same for the same rules, whatever their files are called and wherever they lie.
    pub fn digest(&self) -> u64 {
        self.sources.digest(&self.settings)
    }
}

impl Rules {
    /// Takes up the groups that users keep, and the states that were kept. Blocks: not for a thread that serves
    /// sockets.
    pub fn open(parts: Parts) -> (Rules, Read) {
        let Parts { prepared, keep, queries, store, clock, .. } = parts;
        let Parts { notifications, alertmanagers, forgets_at_once, .. } = parts;
        let PreparedRules { settings, sources: mut read } = prepared;
        let store_of_managed = ManagedStore::new(Arc::clone(&keep));
        let mut sets = Sets { managed: store_of_managed.read(), ..Sets::default() };
        read.add_managed(&mut sets.managed, settings.defaults);
        let now_ms = clock.now_ms();
        let states = States::new(keep);
        let known = states.read(now_ms);
        let mut changes = Changes::default();
        for (language, specs) in
            [(RuleLanguage::Promql, read.promql), (RuleLanguage::Logql, read.logql)]
        {
            // Without a state, what another system wrote in ALERTS_FOR_STATE counts.
            let asks_store = known.is_none() && language == RuleLanguage::Promql;
            let loaded = sets.of(language).load(specs, now_ms, asks_store);
            changes.added += loaded.added;
            if let Some(snapshot) = known.as_ref().and_then(|known| known.get(&language)) {
                match sets.of(language).restore(snapshot, now_ms) {
                    Ok(0) => {}
                    Ok(alerts) => tracing::info!("{alerts} alerts of rules go on"),
                    Err(error) => tracing::warn!("{error}"),
                }
            }
        }
        sets.order();
        let slots = Arc::new(Semaphore::new(settings.groups_at_once.max(1)));
        let inner = Arc::new(Inner {
            sets: Mutex::new(sets),
            settings: RwLock::new(Arc::new(settings)),
            queries,
            store,
            notifications,
            alertmanagers,
            forgets_at_once,
            states,
            store_of_managed: tokio::sync::Mutex::new(store_of_managed),
            clock,
            wake: Notify::new(),
            slots,
            counters: RuleCounters::default(),
        });
        (Rules { inner }, Read { changes, warnings: read.warnings })
    }

    /// Puts what was read in effect, beside what users keep. Waits for groups whose results are just being
    /// applied, and for changes of what users keep.
    pub async fn put(&self, prepared: PreparedRules) -> Read {
        let inner = Arc::clone(&self.inner);
        let _no_change = inner.store_of_managed.lock().await;
        let putting = Arc::clone(&inner);
        let put = tokio::task::spawn_blocking(move || putting.put(prepared)).await;
        let read = put.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()));
        self.forget_states_of_others().await;
        read
    }

    /// The settings in effect.
    pub fn settings(&self) -> Arc<RuleSettings> {
        Arc::clone(&self.inner.settings.read())
    }

    /// Alertmanagers elsewhere that are told.
    pub fn alertmanagers(&self) -> &Alertmanagers {
        &self.inner.alertmanagers
    }

    /// All groups, as the API shows them. Waits for groups whose results are just being applied.
    pub fn groups(&self, with_alerts: bool) -> Vec<ShownGroup> {
        let groups: Vec<(RuleLanguage, bool, SharedGroup)> = {
            let sets = locked(&self.inner.sets);
            let one = |(language, key, group): (RuleLanguage, &GroupKey, &SharedGroup)| {
                (language, sets.is_managed(language, key), Arc::clone(group))
            };
            sets.each().map(one).collect()
        };
        let shown = |(language, is_managed, group): (RuleLanguage, bool, SharedGroup)| ShownGroup {
            language,
            is_managed,
            view: locked(&group).view(with_alerts),
        };
        groups.into_iter().map(shown).collect()
    }

    /// All pending and firing alerts.
    pub fn alerts(&self) -> Vec<AlertView> {
        let groups: Vec<SharedGroup> = {
            let sets = locked(&self.inner.sets);
            sets.each().map(|(_, _, group)| Arc::clone(group)).collect()
        };
        groups.iter().flat_map(|group| locked(group).alert_views().collect::<Vec<_>>()).collect()
    }

    /// Evaluates what is due until [`Rules::stop`].
    pub async fn run(self) {
        let inner = Arc::clone(&self.inner);
        if inner.forgets_at_once {
            self.forget_states_of_others().await;
        }
        let mut times_due = tokio::time::Instant::now() + TIMES_EVERY;
        let mut caught_up = false;
        let mut said_waiting = false;
        loop {
            if locked(&inner.sets).is_stopped {
                break;
            }
            if let Err(why) = inner.store.ready() {
                if !said_waiting {
                    tracing::info!("rules wait until all data can be read: {why}");
                    said_waiting = true;
                }
                self.rest(Duration::from_millis(200)).await;
                continue;
            }
            if !caught_up {
                caught_up = true;
                tokio::spawn(Arc::clone(&inner).catch_up());
            }
            let (started, retired, next_ms) = self.due();
            for (language, key, group, evaluation) in started {
                let inner = Arc::clone(&inner);
                tokio::spawn(async move {
                    let slots = Arc::clone(&inner.slots);
                    let Ok(_slot) = slots.acquire_owned().await else { return };
                    inner.evaluate(language, &group, &evaluation).await;
                    inner.evaluated(language, key, &group).await;
                });
            }
            if !retired.is_empty()
                && let Err(error) = inner.store.write(retired).await
            {
                tracing::warn!("the ends of series of removed rules were not stored: {error}");
            }
            if tokio::time::Instant::now() >= times_due {
                times_due = tokio::time::Instant::now() + TIMES_EVERY;
                inner.save_times().await;
            }
            let left = next_ms.map_or(LONGEST_SLEEP, |next_ms| {
                let left_ms = next_ms.saturating_sub(inner.clock.now_ms()).max(0);
                Duration::from_millis(left_ms.unsigned_abs()).min(LONGEST_SLEEP)
            });
            self.rest(left).await;
        }
        let all_slots = u32::try_from(inner.settings.read().groups_at_once.max(1)).unwrap_or(1);
        let _ = tokio::time::timeout(STOP_PATIENCE, inner.slots.acquire_many(all_slots)).await;
        inner.save_times().await;
    }

    /// Ends [`Rules::run`].
    pub fn stop(&self) {
        locked(&self.inner.sets).is_stopped = true;
        self.inner.wake.notify_one();
    }

    async fn rest(&self, left: Duration) {
        tokio::select! {
            () = self.inner.wake.notified() => {}
            () = tokio::time::sleep(left) => {}
        }
    }

    /// What is due now: evaluations that begin, ends of series, and when the next thing is.
    fn due(&self) -> (Vec<evaluation::Begun>, Vec<Sample>, Option<i64>) {
        let now_ms = self.inner.clock.now_ms();
        let mut sets = locked(&self.inner.sets);
        let mut begun = Vec::new();
        while let Some(Reverse((due_ms, _, _))) = sets.due.peek()
            && *due_ms <= now_ms
        {
            let Some(Reverse((_, language, key))) = sets.due.pop() else { break };
            let Some(group) = sets.of(language).group(&key).map(Arc::clone) else { continue };
            let begins = locked(&group).begin(now_ms);
            match begins {
                Some(evaluation) => {
                    sets.under_way.insert((language, key.clone()));
                    begun.push((language, key, group, evaluation));
                }
                None => {
                    let due_ms = locked(&group).due_ms().max(now_ms + 1);
                    sets.due.push(Reverse((due_ms, language, key)));
                }
            }
        }
        let mut retired = Vec::new();
        let is_due = |set: &RuleSet| set.retire_due_ms().is_some_and(|due_ms| due_ms <= now_ms);
        if is_due(&sets.promql) || is_due(&sets.logql) {
            // Asks every group what it writes.
            retired = waiting::off_the_runtime(|| {
                let mut retired = sets.promql.retire(now_ms);
                retired.extend(sets.logql.retire(now_ms));
                retired
            });
        }
        let next = sets.due.peek().map(|Reverse((due_ms, _, _))| *due_ms);
        let retire = [sets.promql.retire_due_ms(), sets.logql.retire_due_ms()];
        (begun, retired, next.into_iter().chain(retire.into_iter().flatten()).min())
    }

    async fn forget_states_of_others(&self) {
        let groups: Vec<(RuleLanguage, GroupKey)> = {
            let sets = locked(&self.inner.sets);
            sets.each().map(|(language, key, _)| (language, key.clone())).collect()
        };
        if let Err(error) = self.inner.states.keep_only(&groups).await {
            tracing::warn!("states of rules that are gone were not removed: {error}");
        }
    }
}

impl Inner {
    fn put(&self, prepared: PreparedRules) -> Read {
        let PreparedRules { settings, mut sources } = prepared;
        let now_ms = self.clock.now_ms();
        // Nobody changes them meanwhile, and to read all of them takes a while.
        let mut managed = locked(&self.sets).managed.clone();
        sources.add_managed(&mut managed, settings.defaults);
        let mut sum = Changes::default();
        let mut sets = locked(&self.sets);
        sets.managed = managed;
        for (language, specs) in
            [(RuleLanguage::Promql, sources.promql), (RuleLanguage::Logql, sources.logql)]
        {
            let changes = sets.of(language).load(specs, now_ms, false);
            sum.added += changes.added;
            sum.changed += changes.changed;
            sum.kept += changes.kept;
            sum.removed += changes.removed;
        }
        sets.order();
        *self.settings.write() = Arc::new(settings);
        drop(sets);
        self.wake.notify_one();
        Read { changes: sum, warnings: sources.warnings }
    }

    /// Notes that a group is not under way any more, and writes its state if that is worth it.
    async fn evaluated(&self, language: RuleLanguage, key: GroupKey, group: &SharedGroup) {
        let place = (language, key);
        let (due_ms, digest) = {
            let group = locked(group);
            (group.due_ms(), saving::digest(&group))
        };
        let is_new = {
            let mut sets = locked(&self.sets);
            sets.under_way.remove(&place);
            let known = sets.of(language).group(&place.1);
            let is_there = known.is_some_and(|known| Arc::ptr_eq(known, group));
            match known.map(Arc::clone) {
                // Another one took its place meanwhile.
                Some(other) if !is_there => {
                    let due_ms = locked(&other).due_ms();
                    sets.due.push(Reverse((due_ms, language, place.1.clone())));
                }
                Some(_) => sets.due.push(Reverse((due_ms, language, place.1.clone()))),
                None => {}
            }
            is_there && sets.saved.get(&place).copied().unwrap_or(0) != digest
        };
        self.wake.notify_one();
        if !is_new {
            return;
        }
        let state = alerting::rules::GroupSnapshot::of(&locked(group));
        match self.states.put(language, &place.1, state).await {
            Ok(()) => drop(locked(&self.sets).saved.insert(place, digest)),
            Err(error) => {
                self.counters.state_not_written();
                tracing::warn!(
                    "the state of the rules {} was not written down, and is with the next evaluation: \
                     {error}",
                    place.1
                );
            }
        }
    }

    /// Writes down for which time each group was evaluated last.
    async fn save_times(&self) {
        let groups: Vec<(RuleLanguage, GroupKey, SharedGroup)> = {
            let sets = locked(&self.sets);
            sets.each().map(|(one, key, group)| (one, key.clone(), Arc::clone(group))).collect()
        };
        let row = |(language, key, group): (RuleLanguage, GroupKey, SharedGroup)| {
            let for_ms = locked(&group).evaluated_for_ms()?;
            Some(Evaluated { language, file: key.file, name: key.name, for_ms })
        };
        let rows: Vec<Evaluated> = groups.into_iter().filter_map(row).collect();
        if rows.is_empty() {
            return;
        }
        if let Err(error) = self.states.put_times(&rows).await {
            self.counters.state_not_written();
            tracing::warn!("when rules were evaluated last was not written down: {error}");
        }
    }
}

/// The labels of an alert that leaves: its own, which win, and the external ones, behind the rules; nothing
/// if those drop it.
fn leaving(
    labels: &Labels,
    settings: &RuleSettings,
    work: &mut LabelBuffer,
) -> Option<Vec<(String, String)>> {
    work.load(labels);
    for (name, value) in settings.external_labels.iter() {
        if work.get(name).is_empty() {
            work.set(name, value);
        }
    }
    let is_kept = relabel(&settings.alert_relabel_configs, work) && !work.is_empty();
    is_kept.then(|| work.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
}

#[cfg(test)]
mod tests;
