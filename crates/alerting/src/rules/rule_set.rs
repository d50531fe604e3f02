//! All groups of one owner.

use std::collections::BTreeMap;
use std::sync::Arc;

use model::Labels;
use parking_lot::{Mutex, MutexGuard};

use super::group::Group;
use super::limits::AlertBudget;
use super::sample::Sample;
use super::snapshot::{Snapshot, SnapshotError};
use super::spec::GroupSpec;

/// Which group: names are unique within a file only.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupKey {
    /// The file, or the namespace.
    pub file: String,
    /// The name.
    pub name: String,
}

impl std::fmt::Display for GroupKey {
    /// As Prometheus' metrics name a group: `file;name`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{};{}", self.file, self.name)
    }
}

/// What loading changed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    /// Groups that were not there.
    pub added: usize,
    /// Groups that are others now, and know what they knew.
    pub changed: usize,
    /// Groups that go on as if nothing had happened.
    pub kept: usize,
    /// Groups that are no longer there.
    pub removed: usize,
}

/// Series of a group that is no longer there.
#[derive(Debug)]
struct Retired {
    /// When to mark them as ended: others may have taken them over by then.
    due_ms: i64,
    /// The time their end bears.
    t_ms: i64,
    series: Vec<Labels>,
}

/// A group that one thread at a time evaluates.
pub type SharedGroup = Arc<Mutex<Group>>;

/// The groups, by file and name. Each has a lock of its own, so that many can be evaluated at once.
#[derive(Debug, Default)]
pub struct RuleSet {
    groups: BTreeMap<GroupKey, SharedGroup>,
    retired: Vec<Retired>,
    budget: Arc<AlertBudget>,
}

impl RuleSet {
    /// No groups at all.
    pub fn new() -> Self {
        Self::default()
    }

    /// Replaces the groups. Those that say what they said go on untouched, those that say something
    /// else keep alerts and series of rules with the same name and labels. Of two of the same file
    /// and name the last one counts. Waits for groups whose results are just being applied.
    ///
    /// `restores` says whether new groups ask the store for the state before the last stop: at a
    /// start without a snapshot.
    pub fn load(&mut self, specs: Vec<GroupSpec>, now_ms: i64, restores: bool) -> Changes {
        let mut changes = Changes::default();
        let mut before = std::mem::take(&mut self.groups);
        for spec in specs {
            let key = GroupKey { file: spec.file.clone(), name: spec.name.clone() };
            let known = before.remove(&key).or_else(|| self.groups.remove(&key));
            let group = self.succeed(known, spec, now_ms, restores, &mut changes);
            self.groups.insert(key, group);
        }
        changes.removed = before.len();
        for group in before.into_values() {
            self.retire_group(&group, now_ms);
        }
        changes
    }

    /// Adds or replaces one group, as [`RuleSet::load`] does; the others go on untouched.
    pub fn put(&mut self, spec: GroupSpec, now_ms: i64) -> Changes {
        let mut changes = Changes::default();
        let key = GroupKey { file: spec.file.clone(), name: spec.name.clone() };
        let known = self.groups.remove(&key);
        let group = self.succeed(known, spec, now_ms, false, &mut changes);
        self.groups.insert(key, group);
        changes
    }

    /// Takes one group away, as [`RuleSet::load`] does; says whether it was there.
    pub fn remove(&mut self, key: &GroupKey, now_ms: i64) -> bool {
        let group = self.groups.remove(key);
        if let Some(group) = &group {
            self.retire_group(group, now_ms);
        }
        group.is_some()
    }

    /// The group that says what `spec` says, in the place of the one that was known.
    fn succeed(
        &self,
        known: Option<SharedGroup>,
        spec: GroupSpec,
        now_ms: i64,
        restores: bool,
        changes: &mut Changes,
    ) -> SharedGroup {
        match known {
            Some(known) if *known.lock().spec == spec => {
                changes.kept += 1;
                known
            }
            Some(known) => {
                changes.changed += 1;
                let still = restores || known.lock().restores_in.is_some();
                let mut group = Group::new(spec, now_ms, still, &self.budget);
                group.take_over(self.taken(&known));
                Arc::new(Mutex::new(group))
            }
            None => {
                changes.added += 1;
                Arc::new(Mutex::new(Group::new(spec, now_ms, restores, &self.budget)))
            }
        }
    }

    /// Notes the series of a group that is gone.
    fn retire_group(&mut self, group: &SharedGroup, now_ms: i64) {
        let group = self.taken(group);
        let (interval_ms, offset_ms) = (group.spec.interval_ms, group.spec.query_offset_ms);
        let series = group.into_series();
        if !series.is_empty() {
            self.retired.push(Retired {
                due_ms: now_ms.saturating_add(interval_ms.saturating_mul(2)),
                t_ms: now_ms.saturating_sub(offset_ms),
                series,
            });
        }
    }

    /// Takes a group out of its lock. Whoever is evaluating it finds one that has been replaced.
    fn taken(&self, group: &SharedGroup) -> Group {
        let mut group = group.lock();
        let nothing = GroupSpec { rules: Vec::new(), ..GroupSpec::clone(&group.spec) };
        std::mem::replace(&mut group, Group::new(nothing, 0, false, &self.budget))
    }

    /// The groups, by ascending file and name.
    pub fn groups(&self) -> impl Iterator<Item = (&GroupKey, &SharedGroup)> {
        self.groups.iter()
    }

    /// One group.
    pub fn group(&self, key: &GroupKey) -> Option<&SharedGroup> {
        self.groups.get(key)
    }

    /// When the series of a group that was removed are to be marked as ended, if any are.
    pub fn retire_due_ms(&self) -> Option<i64> {
        self.retired.iter().map(|retired| retired.due_ms).min()
    }

    /// When the next thing is due, if anything is.
    pub fn next_due_ms(&self) -> Option<i64> {
        let groups = self.groups.values().map(|group| group.lock().due_ms());
        groups.chain(self.retire_due_ms()).min()
    }

    /// Pending and firing alerts of all groups.
    pub fn active_alerts(&self) -> usize {
        self.budget.used()
    }

    /// The marks that end the series of groups which were removed two intervals ago. What a group
    /// that is there now writes has not ended.
    pub fn retire(&mut self, now_ms: i64) -> Vec<Sample> {
        let mut samples = Vec::new();
        let groups = &self.groups;
        let is_written = |series: &Labels| groups.values().any(|group| group.lock().writes(series));
        self.retired.retain_mut(|retired| {
            if retired.due_ms > now_ms {
                return true;
            }
            let ended = retired.series.drain(..).filter(|series| !is_written(series));
            samples.extend(ended.map(|series| Sample::stale(series, retired.t_ms)));
            false
        });
        samples
    }

    /// Everything that outlives a restart.
    pub fn snapshot(&self, now_ms: i64) -> Snapshot {
        let groups: Vec<MutexGuard<'_, Group>> =
            self.groups.values().map(|group| group.lock()).collect();
        Snapshot::of(groups.iter().map(|group| &**group), now_ms)
    }

    /// Takes up what an earlier process knew; to be called after [`RuleSet::load`], before the first
    /// evaluation. Yields how many alerts came back.
    ///
    /// # Errors
    /// The snapshot is of a version that nobody knows here.
    pub fn restore(&mut self, snapshot: &Snapshot, now_ms: i64) -> Result<usize, SnapshotError> {
        snapshot.restore(&self.groups, now_ms)
    }
}
