//! The groups as the catalog has them, decoded.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use catalog::KeyValue;
use model::TenantName;
use parking_lot::{Mutex, RwLock, RwLockReadGuard};

use super::group::Group;
use super::{Key, PREFIX, Place};
use crate::Broker;

/// Keys of groups that somebody wrote, this broker or another, and that were not looked at since.
#[derive(Default)]
pub(crate) struct WrittenGroups(Mutex<Written>);

#[derive(Default)]
struct Written {
    keys: BTreeSet<String>,
    /// Any of them.
    all: bool,
}

impl WrittenGroups {
    /// That key was written or deleted.
    pub(crate) fn note(&self, key: &str) {
        self.0.lock().keys.insert(key.to_owned());
    }

    /// Any of them may have been.
    pub(crate) fn note_all(&self) {
        self.0.lock().all = true;
    }

    fn take(&self) -> Written {
        std::mem::take(&mut *self.0.lock())
    }
}

/// A group, and how the catalog keeps it.
pub(super) struct Kept {
    pub(super) group: Arc<Group>,
    /// Length of its value.
    pub(super) bytes: usize,
    /// Version of its key.
    pub(super) version: u64,
}

/// All groups.
#[derive(Default)]
pub(super) struct GroupBook {
    groups: RwLock<BTreeMap<Place, Kept>>,
    places: Mutex<HashMap<String, Place>>,
}

impl GroupBook {
    /// Reads what the catalog has.
    pub(super) fn load(broker: &Broker) -> GroupBook {
        let book = GroupBook::default();
        for (key, value) in broker.list_keys(PREFIX) {
            book.take(broker, &key, Some(&value));
        }
        book
    }

    /// Takes over what was written since the last time.
    pub(super) fn follow(&self, broker: &Broker) {
        let written = broker.inner.pushed.take();
        if written.all {
            let now: BTreeMap<String, KeyValue> = broker.list_keys(PREFIX).into_iter().collect();
            let known: Vec<String> = self.places.lock().keys().cloned().collect();
            known.iter().filter(|key| !now.contains_key(*key)).for_each(|gone| {
                self.take(broker, gone, None);
            });
            now.iter().for_each(|(key, value)| self.take(broker, key, Some(value)));
        }
        for key in written.keys {
            self.take(broker, &key, broker.get_key(&key).as_ref());
        }
    }

    /// Takes over what the catalog has below a key, unless something newer is known.
    fn take(&self, broker: &Broker, key: &str, value: Option<&KeyValue>) {
        let known = self.places.lock().get(key).cloned();
        let Some(KeyValue { value, version }) = value else {
            if let Some(place) = known {
                self.remove(key, &place);
            }
            return;
        };
        let is_news = |place: &Place| {
            self.groups.read().get(place).is_none_or(|kept| kept.version < *version)
        };
        if !known.as_ref().is_none_or(is_news) {
            return;
        }
        match Group::decode(value, |tenant| broker.limits_of(tenant)) {
            Ok(group) => self.put(key, group, value.len(), *version),
            Err(error) => {
                tracing::warn!(%key, %error, "a group of pushed metrics is left out");
                if let Some(place) = known {
                    self.remove(key, &place);
                }
            }
        }
    }

    /// Notes a group that the catalog has, unless a newer one is known.
    pub(super) fn put(&self, key: &str, group: Group, bytes: usize, version: u64) {
        let place = group.place();
        let mut groups = self.groups.write();
        if groups.get(&place).is_none_or(|kept| kept.version < version) {
            self.places.lock().insert(key.to_owned(), place.clone());
            groups.insert(place, Kept { group: Arc::new(group), bytes, version });
        }
    }

    /// Notes that the catalog has it no more.
    pub(super) fn remove(&self, key: &str, place: &Place) {
        self.places.lock().remove(key);
        self.groups.write().remove(place);
    }

    /// All of them, sorted by tenant and grouping key.
    pub(super) fn read(&self) -> RwLockReadGuard<'_, BTreeMap<Place, Kept>> {
        self.groups.read()
    }

    /// Those of a tenant, sorted by grouping key.
    pub(super) fn of(&self, tenant: TenantName) -> Vec<Arc<Group>> {
        let groups = self.groups.read();
        let of_tenant = groups.range((tenant, Key::new())..);
        let of_tenant = of_tenant.take_while(|((other, _), _)| *other == tenant);
        of_tenant.map(|(_, kept)| Arc::clone(&kept.group)).collect()
    }
}
