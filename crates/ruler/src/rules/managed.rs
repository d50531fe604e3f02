//! Groups of rules that users keep by the API: durable before anybody is told, and in effect at once.
//!
//! Each group is a value of its own in the key space, and so is what it says: the text as it was handed in,
//! and the same without what a reader of YAML passes over, for lists of many groups.

use std::collections::BTreeMap;
use std::sync::Arc;

use alerting::rules::{GroupKey, GroupSpec};
use serde::{Deserialize, Serialize};
use settings::Faults;

use super::saving::{name, packed, unpacked};
use super::waiting::locked;
use super::{Inner, RuleLanguage, Rules, Sets, group_yaml, sources};
use crate::keep::{Keep, KeepError};
use crate::pages::Pages;

const PREFIX: &str = "alerting/managed/";
const VERSION: u32 = 1;
/// Largest group.
pub const MAX_GROUP_BYTES: usize = 1 << 20;
/// Most of all groups together: the key space is in memory.
const MAX_BYTES: usize = 64 << 20;
/// Longest name of a namespace or group.
const MAX_NAME_BYTES: usize = 1_024;

/// What users keep, by language, namespace and name.
pub(super) type Managed = BTreeMap<(RuleLanguage, GroupKey), Kept>;

/// A group that is kept.
#[derive(Debug, Clone)]
pub(super) struct Kept {
    /// As it was handed in.
    pub(super) yaml: Arc<str>,
    /// What that says, and nothing else.
    plain: Arc<str>,
    /// Why it has no effect, if it has none.
    pub(super) fault: Option<Arc<str>>,
}

impl Kept {
    fn bytes(&self) -> usize {
        self.yaml.len() + self.plain.len()
    }
}

/// A group that a user keeps by the API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManagedGroup {
    /// The language of its rules.
    pub language: RuleLanguage,
    /// The namespace it is in: what a file is to other groups.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The group in YAML, as it was handed in.
    pub yaml: Arc<str>,
    /// What that says in lines that can be moved to the right, without comments.
    pub plain: Arc<str>,
    /// Why it has no effect, if it has none.
    pub fault: Option<Arc<str>>,
}

/// How much users may keep by the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ManagedLimits {
    /// Most groups.
    pub max_groups: usize,
    /// Most rules of one group.
    pub max_rules_per_group: usize,
}

impl Default for ManagedLimits {
    fn default() -> Self {
        ManagedLimits { max_groups: 2_000, max_rules_per_group: 1_000 }
    }
}

/// Why nothing changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ManagedError {
    /// It is no group of rules.
    #[error("{0}")]
    Invalid(Faults),
    /// It is one that is not taken; the text says why and what to do.
    #[error("{0}")]
    Refused(String),
    /// There is no such group.
    #[error("group does not exist")]
    NoGroup,
    /// There is no group in the namespace.
    #[error("group namespace does not exist")]
    NoNamespace,
    /// It could not be written down.
    #[error(transparent)]
    NotKept(#[from] KeepError),
}

/// A group in the key space.
#[derive(Serialize, Deserialize)]
struct Stored {
    version: u32,
    language: RuleLanguage,
    namespace: String,
    name: String,
    yaml: String,
    plain: String,
}

/// Where groups lie.
pub(super) struct ManagedStore {
    pages: Pages,
    /// Of whose last write it is not known whether it counts.
    doubtful: Vec<Place>,
}

/// A group: its language, its namespace and its name.
type Place = (RuleLanguage, GroupKey);

impl ManagedStore {
    pub(super) fn new(keep: Arc<dyn Keep>) -> ManagedStore {
        ManagedStore { pages: Pages::new(keep, PREFIX), doubtful: Vec::new() }
    }

    /// Everything that was kept and can be read.
    pub(super) fn read(&self) -> Managed {
        let (values, mut problems) = self.pages.read();
        let mut managed = Managed::new();
        for (at, bytes) in values {
            match unpacked::<Stored>(&bytes) {
                Ok(one) if one.version == VERSION => {
                    let key = GroupKey { file: one.namespace, name: one.name };
                    let (yaml, plain) = (one.yaml.into(), one.plain.into());
                    managed.insert((one.language, key), Kept { yaml, plain, fault: None });
                }
                Ok(one) => problems.push((at, format!("its version is {}", one.version))),
                Err(error) => problems.push((at, error)),
            }
        }
        for (at, reason) in problems {
            tracing::warn!("the group of rules in {PREFIX}{at} is left out: {reason}");
        }
        managed
    }

    async fn put(
        &self,
        language: RuleLanguage,
        key: &GroupKey,
        kept: &Kept,
    ) -> Result<(), KeepError> {
        let stored = Stored {
            version: VERSION,
            language,
            namespace: key.file.clone(),
            name: key.name.clone(),
            yaml: kept.yaml.to_string(),
            plain: kept.plain.to_string(),
        };
        self.pages.put(&name(language, key), &packed(&stored)?).await
    }

    async fn delete(&self, language: RuleLanguage, key: &GroupKey) -> Result<(), KeepError> {
        self.pages.delete(&name(language, key)).await
    }
}

impl Rules {
    /// The groups that users keep in a language, by namespace and name; those of one namespace if one
    /// is named.
    pub fn managed(&self, language: RuleLanguage, namespace: Option<&str>) -> Vec<ManagedGroup> {
        let sets = locked(&self.inner.sets);
        let wanted = |key: &GroupKey| namespace.is_none_or(|namespace| key.file == namespace);
        let of_language = sets.managed.iter().filter(|((of, _), _)| *of == language);
        of_language.filter(|((_, key), _)| wanted(key)).map(shown).collect()
    }

    /// One group that users keep.
    pub fn managed_group(
        &self,
        language: RuleLanguage,
        namespace: &str,
        name: &str,
    ) -> Option<ManagedGroup> {
        let key = GroupKey { file: namespace.to_owned(), name: name.to_owned() };
        locked(&self.inner.sets).managed.get_key_value(&(language, key)).map(shown)
    }

    /// Keeps a group, in the place of one of its name. It is durable and in effect when this is done, also
    /// if nobody waits for that any more.
    ///
    /// # Errors
    /// What is wrong; everything is as it was.
    pub async fn keep_group(
        &self,
        language: RuleLanguage,
        namespace: String,
        yaml: String,
    ) -> Result<(), ManagedError> {
        let inner = Arc::clone(&self.inner);
        apart(async move { inner.keep_group(language, namespace, yaml).await }).await
    }

    /// Forgets a group; it is gone durably when this is done.
    ///
    /// # Errors
    /// There is none, or it could not be written down.
    pub async fn forget_group(
        &self,
        language: RuleLanguage,
        namespace: String,
        name: String,
    ) -> Result<(), ManagedError> {
        let inner = Arc::clone(&self.inner);
        apart(async move {
            let mut store = inner.store_of_managed.lock().await;
            inner.settle(&mut store).await?;
            let place = (language, GroupKey { file: namespace, name });
            if !locked(&inner.sets).managed.contains_key(&place) {
                return Err(ManagedError::NoGroup);
            }
            inner.forget(&mut store, place).await
        })
        .await
    }

    /// Forgets all groups of a namespace. After an error some of them may be gone.
    ///
    /// # Errors
    /// There is none, or it could not be written down.
    pub async fn forget_namespace(
        &self,
        language: RuleLanguage,
        namespace: String,
    ) -> Result<(), ManagedError> {
        let inner = Arc::clone(&self.inner);
        apart(async move {
            let mut store = inner.store_of_managed.lock().await;
            inner.settle(&mut store).await?;
            let places: Vec<(RuleLanguage, GroupKey)> = {
                let sets = locked(&inner.sets);
                let all = sets.managed.keys();
                let is_in = |(of, key): &&(RuleLanguage, GroupKey)| {
                    *of == language && key.file == namespace
                };
                all.filter(is_in).cloned().collect()
            };
            if places.is_empty() {
                return Err(ManagedError::NoNamespace);
            }
            for place in places {
                inner.forget(&mut store, place).await?;
            }
            Ok(())
        })
        .await
    }
}

/// Runs to the end although the caller may go away: what is written has to come into effect.
async fn apart(
    work: impl Future<Output = Result<(), ManagedError>> + Send + 'static,
) -> Result<(), ManagedError> {
    tokio::spawn(work).await.unwrap_or_else(|error| Err(failed(&error)))
}

fn failed(error: &tokio::task::JoinError) -> ManagedError {
    tracing::error!(%error, "a group of rules could not be changed");
    let why = "the group could not be changed; see the log".to_owned();
    ManagedError::NotKept(KeepError::Unavailable(why))
}

impl Inner {
    async fn keep_group(
        self: Arc<Self>,
        language: RuleLanguage,
        namespace: String,
        yaml: String,
    ) -> Result<(), ManagedError> {
        let mut store = self.store_of_managed.lock().await;
        self.settle(&mut store).await?;
        let defaults = self.settings.read().defaults;
        let check = move || {
            check_name("namespace", &namespace)?;
            let (group, spec) = sources::compile_managed(language, &namespace, &yaml, defaults)
                .map_err(ManagedError::Invalid)?;
            check_name("group", &group.name)?;
            let plain = group_yaml::written(&group);
            let kept = Kept { yaml: yaml.into(), plain: plain.into(), fault: None };
            let key = GroupKey { file: namespace, name: group.name };
            Ok::<_, ManagedError>((key, kept, spec))
        };
        // A large group takes a while.
        let checked = tokio::task::spawn_blocking(check).await;
        let (key, kept, spec) = checked.map_err(|error| failed(&error))??;
        let limits = self.settings.read().managed;
        locked(&self.sets).check_room((language, &key), &kept, spec.rules.len(), limits)?;
        if let Err(error) = store.put(language, &key, &kept).await {
            self.doubt(&mut store, (language, key.clone()), error).await?;
            let all = store.read();
            let counts = all.get(&(language, key.clone()));
            if counts.is_none_or(|counts| counts.yaml != kept.yaml) {
                let why = "it was not written down; send it again".to_owned();
                return Err(KeepError::Unavailable(why).into());
            }
        }
        self.put_one((language, key), kept, spec).await
    }

    /// Puts a group that is kept in effect.
    async fn put_one(
        self: &Arc<Self>,
        (language, key): Place,
        kept: Kept,
        spec: GroupSpec,
    ) -> Result<(), ManagedError> {
        let inner = Arc::clone(self);
        let put = move || {
            inner.wait_for(language, &key);
            let now_ms = inner.clock.now_ms();
            let mut sets = locked(&inner.sets);
            sets.of(language).put(spec, now_ms);
            sets.managed.insert((language, key.clone()), kept);
            sets.order_one(language, &key);
        };
        tokio::task::spawn_blocking(put).await.map_err(|error| failed(&error))?;
        self.wake.notify_one();
        Ok(())
    }

    /// After a write of which it is not known whether it counts: what is read then is what counts.
    ///
    /// # Errors
    /// It cannot be found out now, and is before the next change.
    async fn doubt(
        &self,
        store: &mut ManagedStore,
        place: Place,
        error: KeepError,
    ) -> Result<(), ManagedError> {
        if matches!(error, KeepError::Unavailable(_)) && store.pages.fence().await.is_ok() {
            return Ok(());
        }
        store.doubtful.push(place);
        Err(error.into())
    }

    /// Puts in effect what was found out of writes that were in doubt.
    async fn settle(self: &Arc<Self>, store: &mut ManagedStore) -> Result<(), ManagedError> {
        if store.doubtful.is_empty() {
            return Ok(());
        }
        store.pages.fence().await?;
        let counts = store.read();
        let defaults = self.settings.read().defaults;
        for place in std::mem::take(&mut store.doubtful) {
            match counts.get(&place) {
                None => self.remove_one(place).await?,
                Some(kept) => {
                    let (language, key) = &place;
                    let read = sources::compile_managed(*language, &key.file, &kept.yaml, defaults);
                    let (_, spec) = read.map_err(ManagedError::Invalid)?;
                    self.put_one(place, kept.clone(), spec).await?;
                }
            }
        }
        Ok(())
    }

    /// Waits until what a group yielded last is applied: its templates may ask queries, and whoever waits
    /// for them later on holds up all groups. Blocks.
    fn wait_for(&self, language: RuleLanguage, key: &GroupKey) {
        let known = locked(&self.sets).of(language).group(key).map(Arc::clone);
        if let Some(known) = known {
            drop(locked(&known));
        }
    }

    async fn forget(
        self: &Arc<Self>,
        store: &mut ManagedStore,
        place: Place,
    ) -> Result<(), ManagedError> {
        if let Err(error) = store.delete(place.0, &place.1).await {
            self.doubt(store, place.clone(), error).await?;
            if store.read().contains_key(&place) {
                let why = "it was not written down; send it again".to_owned();
                return Err(KeepError::Unavailable(why).into());
            }
        }
        self.remove_one(place.clone()).await?;
        let is_of_file = locked(&self.sets).of(place.0).group(&place.1).is_some();
        if !is_of_file {
            // If it stays, the next reload removes it.
            let _ = self.states.delete(place.0, &place.1).await;
        }
        Ok(())
    }

    /// Ends a group that is kept no more.
    async fn remove_one(self: &Arc<Self>, place: Place) -> Result<(), ManagedError> {
        let inner = Arc::clone(self);
        let remove = move || {
            inner.wait_for(place.0, &place.1);
            let now_ms = inner.clock.now_ms();
            let mut sets = locked(&inner.sets);
            let kept = sets.managed.remove(&place);
            // One without effect may have the name of a group of files, which stays.
            if kept.is_some_and(|kept| kept.fault.is_none()) {
                sets.of(place.0).remove(&place.1, now_ms);
                sets.order_one(place.0, &place.1);
            }
        };
        tokio::task::spawn_blocking(remove).await.map_err(|error| failed(&error))?;
        self.wake.notify_one();
        Ok(())
    }
}

impl Sets {
    /// Whether a group that is evaluated is one that a user keeps.
    pub(super) fn is_managed(&self, language: RuleLanguage, key: &GroupKey) -> bool {
        self.managed.get(&(language, key.clone())).is_some_and(|kept| kept.fault.is_none())
    }

    /// Says whether a group may be kept.
    fn check_room(
        &mut self,
        (language, key): (RuleLanguage, &GroupKey),
        kept: &Kept,
        rules: usize,
        limits: ManagedLimits,
    ) -> Result<(), ManagedError> {
        let refused = |why: String| Err(ManagedError::Refused(why));
        let most = limits.max_rules_per_group;
        if rules > most {
            return refused(format!(
                "per-user rules per rule group limit (limit: {most} actual: {rules}) exceeded: make \
                 several groups of it, or raise rules.max_rules_per_group"
            ));
        }
        let known = self.managed.get(&(language, key.clone()));
        let (most, groups) = (limits.max_groups, self.managed.len() + usize::from(known.is_none()));
        if groups > most {
            return refused(format!(
                "per-user rule groups limit (limit: {most} actual: {groups}) exceeded: delete groups, \
                 or raise rules.max_managed_groups"
            ));
        }
        let bytes: usize = self.managed.values().map(Kept::bytes).sum();
        let bytes = bytes - known.map_or(0, Kept::bytes) + kept.bytes();
        if bytes > MAX_BYTES {
            return refused(format!(
                "all groups together would have {bytes} bytes, and the limit is {MAX_BYTES}: delete \
                 groups, or keep them in files (rules.files)"
            ));
        }
        if !self.is_managed(language, key) && self.of(language).group(key).is_some() {
            return refused(format!(
                "the group {:?} of {:?} comes from a file or is built in, and is changed there: choose \
                 another namespace",
                key.name, key.file
            ));
        }
        Ok(())
    }

    /// Puts one group into the order in which they are due, or takes it out if it is gone.
    fn order_one(&mut self, language: RuleLanguage, key: &GroupKey) {
        self.due.retain(|std::cmp::Reverse((_, of, other))| *of != language || other != key);
        if self.under_way.contains(&(language, key.clone())) {
            return;
        }
        let due_ms = self.of(language).group(key).map(|group| locked(group).due_ms());
        if let Some(due_ms) = due_ms {
            self.due.push(std::cmp::Reverse((due_ms, language, key.clone())));
        }
    }
}

fn check_name(what: &str, name: &str) -> Result<(), ManagedError> {
    let why = if name.len() > MAX_NAME_BYTES {
        format!("has {} bytes, and the limit is {MAX_NAME_BYTES}", name.len())
    } else if name.chars().any(char::is_control) {
        "has control characters".to_owned()
    } else if matches!(name, "" | "." | "..") {
        // Clients leave these out of addresses.
        "is empty, or one that stands for a directory".to_owned()
    } else {
        return Ok(());
    };
    Err(ManagedError::Refused(format!("the name of the {what} {why}: choose another one")))
}

fn shown((place, kept): (&(RuleLanguage, GroupKey), &Kept)) -> ManagedGroup {
    let (language, GroupKey { file, name }) = place;
    ManagedGroup {
        language: *language,
        namespace: file.clone(),
        name: name.clone(),
        yaml: Arc::clone(&kept.yaml),
        plain: Arc::clone(&kept.plain),
        fault: kept.fault.clone(),
    }
}
