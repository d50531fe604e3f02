//! Prometheus' Pushgateway: metrics of jobs that do not live long enough to be scraped.
//!
//! Groups are kept in the catalog's key space, so a push that was answered survives a restart.
//! What is kept is stored as samples on each push and then once per interval, as if somebody
//! scraped a Pushgateway with `honor_labels`; a series that is replaced or deleted ends with a
//! stale marker.
//!
//! In a cluster any broker takes pushes and deletes of any group, and the one that is nearest to a group on the
//! circle stores it each interval. It also says again which series ended: clocks differ, and whoever
//! took the push may have said so before the last sample of another.
//!
//! Source: <https://github.com/prometheus/pushgateway>, README, "API".

mod book;
mod group;
mod push;
mod routes;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use catalog::Expected;
use model::{MetricBatch, MetricMetadata, Share, TenantName};
use parking_lot::Mutex;

use crate::commit::CommitError;
use crate::tenants::SendingTenant;
use crate::{Broker, Complaints, MetricRow};
use book::GroupBook;
use group::Group;
use push::{Form, PushError};

pub(crate) use book::WrittenGroups;
pub use routes::{read_routes, routes};

/// Where the groups lie in the key space.
pub(crate) const PREFIX: &str = "pushgateway/";
/// Groups at most. Each is one key of the catalog, and part of each of its snapshots.
const GROUPS: Share = Share::of_one_alone(10_000);
/// Bytes of all groups as they are kept, at most, for the same reason.
const BYTES: Share = Share::of_one_alone(64 << 20);
/// How often a group is changed again that another broker changed in the same moment.
const ATTEMPTS: usize = 5;

/// A grouping key.
type Key = BTreeMap<String, String>;
/// A group: whose it is, and its grouping key.
type Place = (TenantName, Key);

/// What a push does with the families that the group has and the push does not name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// PUT: they go.
    ReplaceGroup,
    /// POST: they stay.
    ReplaceFamilies,
}

/// Keeps what was pushed. Handles share it through an [`Arc`].
pub struct Pushgateway {
    broker: Broker,
    groups: GroupBook,
    /// Held while groups change, so that what is kept is in the order of the answers. The time of
    /// the last samples, milliseconds since the epoch.
    changing: Mutex<i64>,
    /// What this broker of a cluster stored at the last interval.
    stored: Mutex<BTreeMap<Place, Arc<Group>>>,
    /// How many groups this broker stored then.
    last_stored: AtomicU64,
    pushes: AtomicU64,
    refused: AtomicU64,
    complaints: Complaints,
}

impl Pushgateway {
    /// Reads the groups that earlier runs kept, and stores them as samples every `interval` until
    /// the broker stops. Must be called within a tokio runtime.
    pub fn start(broker: Broker, interval: Duration) -> Arc<Pushgateway> {
        let gateway = Arc::new(Pushgateway {
            groups: GroupBook::load(&broker),
            broker,
            changing: Mutex::new(i64::MIN),
            stored: Mutex::default(),
            last_stored: AtomicU64::new(0),
            pushes: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            complaints: Complaints::default(),
        });
        let weak = Arc::downgrade(&gateway);
        tokio::spawn(async move {
            let mut ticks = tokio::time::interval(interval);
            ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
            loop {
                ticks.tick().await;
                let Some(gateway) = weak.upgrade() else { return };
                if gateway.broker.ready().is_err() {
                    return;
                }
                gateway.store_all().await;
            }
        });
        gateway
    }

    /// Its own metrics.
    pub fn rows(&self) -> Vec<MetricRow> {
        self.groups.follow(&self.broker);
        let groups = self.groups.read();
        let series: usize = groups.values().map(|kept| kept.group.series()).sum();
        let bytes: usize = groups.values().map(|kept| kept.bytes).sum();
        let row = |name, help, kind, value| MetricRow { name, help, kind, value };
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed) as f64;
        vec![
            row(
                "watchfire_pushgateway_groups",
                "Groups of pushed metrics.",
                "gauge",
                groups.len() as f64,
            ),
            row("watchfire_pushgateway_series", "Series in all groups.", "gauge", series as f64),
            row(
                "watchfire_pushgateway_bytes",
                "Bytes the groups take in the catalog.",
                "gauge",
                bytes as f64,
            ),
            row(
                "watchfire_pushgateway_stored_groups",
                "Groups that this broker stored as samples at the last interval.",
                "gauge",
                count(&self.last_stored),
            ),
            row(
                "watchfire_pushgateway_pushes_total",
                "Pushes that were stored.",
                "counter",
                count(&self.pushes),
            ),
            row(
                "watchfire_pushgateway_pushes_refused_total",
                "Pushes that were answered with an error.",
                "counter",
                count(&self.refused),
            ),
        ]
    }

    /// The groups of a tenant, sorted by grouping key.
    fn groups_of(&self, tenant: TenantName) -> Vec<Arc<Group>> {
        self.groups.follow(&self.broker);
        self.groups.of(tenant)
    }

    /// Knows what any broker of the cluster was told before now.
    fn catch_up(&self) -> Result<(), CommitError> {
        self.broker.catch_up()?;
        self.groups.follow(&self.broker);
        Ok(())
    }

    /// Takes a push; when it returns, it is durable. Blocks.
    fn push(&self, place: Place, body: &[u8], form: Form, mode: Mode) -> Result<(), PushError> {
        let outcome = self.try_push(place, body, form, mode);
        let counter = if outcome.is_ok() { &self.pushes } else { &self.refused };
        counter.fetch_add(1, Ordering::Relaxed);
        outcome
    }

    fn try_push(
        &self,
        (tenant, key): Place,
        body: &[u8],
        form: Form,
        mode: Mode,
    ) -> Result<(), PushError> {
        let families = push::parse(body, form, &key, &self.broker.limits_of(tenant))?;
        let id = self.broker.tenant_for_write(tenant).map_err(PushError::refused)?;
        let mut last_ms = self.changing.lock();
        for attempt in 1.. {
            self.catch_up().map_err(PushError::not_stored)?;
            let others = self.groups_of(tenant);
            let before = others.iter().find(|group| group.key == key).cloned();
            let of_before = || before.as_deref().cloned();
            let mut group = of_before().unwrap_or_else(|| Group::new(tenant, key.clone()));
            let now_ms = self.next_ms(&mut last_ms);
            let others = others.iter().map(Arc::as_ref).filter(|other| other.key != group.key);
            if let Err(error) = push::check_consistent(&families, others) {
                group.failed_ms = now_ms;
                // Why the push is refused matters more than that this could not be noted.
                let _ = self.keep(group);
                return Err(error);
            }
            group.pushed_ms = now_ms;
            match mode {
                Mode::ReplaceGroup => group.families = families.clone(),
                Mode::ReplaceFamilies => group.families.append(&mut families.clone()),
            }
            let batch_at = |t_ms| {
                let mut batch = MetricBatch::default();
                if let Some(before) = &before {
                    before.collect_ended(Some(&group), t_ms, &mut batch);
                }
                group.collect(t_ms, &mut batch);
                batch.metadata = metadata(&group);
                batch
            };
            let mut batch = batch_at(now_ms);
            // Before it is kept: whoever is told to come again later does so with all of it.
            let admitted = self.broker.admit(id, &batch).map_err(PushError::refused)?;
            match self.keep(group.clone()) {
                Ok(()) => {}
                Err(PushError::Raced) if attempt < ATTEMPTS => {
                    admitted.give_back(batch.samples() as u64);
                    continue;
                }
                Err(error) => {
                    admitted.give_back(batch.samples() as u64);
                    return Err(error);
                }
            }
            if self.broker.inner.clustered.is_some() {
                // Whoever stores the group may have done so with what it held before until just now.
                batch = batch_at(self.next_ms(&mut last_ms));
            }
            self.store(Ok(admitted), &batch);
            return Ok(());
        }
        unreachable!("the last attempt returns")
    }

    /// Makes a group durable, then visible.
    fn keep(&self, group: Group) -> Result<(), PushError> {
        let value = group.encode();
        let bytes = value.len();
        let place = group.place();
        self.check_room(&place, bytes)?;
        let key = stored_key(&place);
        let version = self.broker.put_key(&key, value, self.expected(&key, &place));
        self.groups.put(&key, group, bytes, version.map_err(PushError::not_stored)?);
        Ok(())
    }

    /// What a change goes by: in a cluster another broker may be faster.
    fn expected(&self, key: &str, place: &Place) -> Expected {
        if self.broker.inner.clustered.is_none() {
            return Expected::Any;
        }
        match self.groups.read().get(place) {
            Some(kept) => Expected::Version(kept.version),
            // Or what is there cannot be read.
            None => self.broker.get_key(key).map_or(Expected::Absent, |_| Expected::Any),
        }
    }

    /// Whether a group may have so many bytes; it may always have fewer than it has.
    fn check_room(&self, place: &Place, bytes: usize) -> Result<(), PushError> {
        if bytes > catalog::MAX_VALUE_BYTES {
            return Err(PushError::TooLarge(format!(
                "the push would make {bytes} bytes in one group, the limit is {}: push less in one \
                 group",
                catalog::MAX_VALUE_BYTES
            )));
        }
        let groups = self.groups.read();
        let (mut own_count, mut own_bytes, mut other_count, mut other_bytes) = (0, 0, 0, 0);
        for (other, kept) in groups.iter() {
            if other.0 == place.0 {
                (own_count, own_bytes) = (own_count + 1, own_bytes + kept.bytes);
            } else {
                (other_count, other_bytes) = (other_count + 1, other_bytes + kept.bytes);
            }
        }
        let before = groups.get(place).map(|kept| kept.bytes);
        let more_bytes = bytes.saturating_sub(before.unwrap_or(0));
        for (what, own, more, others, share) in [
            ("groups", own_count, usize::from(before.is_none()), other_count, GROUPS),
            ("bytes in groups", own_bytes, more_bytes, other_bytes, BYTES),
        ] {
            share.admit(own, more, others).map_err(|limit| {
                PushError::TooLarge(format!(
                    "the push would make {} {what} of the tenant {}, the limit is {limit} ({}): \
                     delete groups that are not needed any more, or push less",
                    own + more,
                    place.0,
                    share.rule()
                ))
            })?;
        }
        Ok(())
    }

    /// Removes a group; one that is not there is no error. Blocks.
    fn delete(&self, place: &Place) -> Result<(), PushError> {
        let mut last_ms = self.changing.lock();
        let key = stored_key(place);
        for attempt in 1.. {
            self.catch_up().map_err(PushError::not_stored)?;
            let group = self.groups.read().get(place).map(|kept| Arc::clone(&kept.group));
            let Some(group) = group else { return Ok(()) };
            match self.broker.delete_key(&key, self.expected(&key, place)) {
                Ok(()) => {}
                Err(error) if error.is_version_conflict() && attempt < ATTEMPTS => continue,
                Err(error) => return Err(PushError::not_stored(error)),
            }
            self.groups.remove(&key, place);
            let mut batch = MetricBatch::default();
            group.collect_ended(None, self.next_ms(&mut last_ms), &mut batch);
            // The group is gone already, so its series end now, however fast the tenant's samples come.
            let id = self.broker.tenant_for_write(place.0);
            self.store(id.and_then(|id| self.broker.admit_in_advance(id, &batch)), &batch);
            return Ok(());
        }
        unreachable!("the last attempt returns")
    }

    /// Removes every group of a tenant. Blocks.
    fn wipe(&self, tenant: TenantName) -> Result<(), PushError> {
        self.catch_up().map_err(PushError::not_stored)?;
        self.groups_of(tenant).iter().try_for_each(|group| self.delete(&group.place()))
    }

    /// The present time, later than that of all samples before: at the same millisecond the first
    /// value would stay, and a push show only with the next interval.
    fn next_ms(&self, last_ms: &mut i64) -> i64 {
        *last_ms = self.broker.now_ms().max(last_ms.saturating_add(1));
        *last_ms
    }

    /// Stores every group at the present time; in a cluster, those to which this broker is nearest.
    async fn store_all(self: &Arc<Self>) {
        let gateway = Arc::clone(self);
        self.broker.off_the_sockets(move || gateway.store_own()).await;
    }

    fn store_own(&self) {
        // Not while a group is deleted: its end must come after its last sample.
        let mut last_ms = self.changing.lock();
        let now_ms = self.next_ms(&mut last_ms);
        if let Err(error) = self.catch_up() {
            // Nothing could be stored either.
            tracing::debug!(%error, "pushed metrics are not stored at this interval");
            self.last_stored.store(0, Ordering::Relaxed);
            return;
        }
        let ring = self.broker.cluster_ring();
        let is_own = |place: &Place| {
            let own = |(ring, own): &(catalog::Ring, catalog::BrokerId)| {
                ring.owner(position(place)) == Some(*own)
            };
            ring.as_ref().is_none_or(own)
        };
        let groups: BTreeMap<Place, Arc<Group>> = {
            let groups = self.groups.read();
            let own = groups.iter().filter(|(place, _)| is_own(place));
            own.map(|(place, kept)| (place.clone(), Arc::clone(&kept.group))).collect()
        };
        let mut stored = self.stored.lock();
        let mut batches: BTreeMap<TenantName, MetricBatch> = BTreeMap::new();
        for (place, before) in stored.iter().filter(|(place, _)| is_own(place)) {
            let after = groups.get(place);
            if after.is_none_or(|after| !Arc::ptr_eq(after, before)) {
                let batch = batches.entry(place.0).or_default();
                before.collect_ended(after.map(Arc::as_ref), now_ms, batch);
            }
        }
        self.last_stored.store(groups.len() as u64, Ordering::Relaxed);
        for ((tenant, _), group) in &groups {
            group.collect(now_ms, batches.entry(*tenant).or_default());
        }
        for (tenant, batch) in &batches {
            let id = self.broker.tenant_for_write(*tenant);
            self.store(id.and_then(|id| self.broker.admit(id, batch)), batch);
        }
        if ring.is_some() {
            *stored = groups;
        }
    }

    /// Stores samples and waits until they can be queried. A refusal is told in the log and not to
    /// whoever pushed: the group is durable already, and the next interval brings it again.
    fn store(&self, admitted: Result<SendingTenant, CommitError>, batch: &MetricBatch) {
        let complaint = match admitted {
            Err(error) => Some(error.to_string()),
            Ok(sender) => {
                let (reply, stored) = crossbeam_channel::bounded(1);
                self.broker.ingest_admitted(&sender, batch, None, move |outcome| {
                    // Whoever waits is still there.
                    let _ = reply.send(outcome);
                });
                match stored.recv() {
                    Ok(Ok(delivery)) => delivery.outcome.complaint(),
                    Ok(Err(error)) => Some(error.to_string()),
                    Err(_) => Some("the broker has stopped".to_owned()),
                }
            }
        };
        if let Some(complaint) = complaint
            && let Some(more) = self.complaints.may_say(&complaint, Instant::now())
        {
            tracing::warn!(%complaint, more_like_it_before = more, "pushed metrics were not all stored as samples");
        }
    }
}

/// The catalog's key of a group.
fn stored_key(place: &Place) -> String {
    format!("{PREFIX}{}", hash(place).to_hex())
}

fn hash((tenant, key): &Place) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new();
    // Of which the others have none, so that keys of earlier versions stay what they are.
    if !tenant.is_default() {
        hasher.update(&u64::MAX.to_le_bytes()).update(tenant.as_str().as_bytes()).update(&[0]);
    }
    for text in key.iter().flat_map(|(name, value)| [name, value]) {
        hasher.update(&(text.len() as u64).to_le_bytes());
        hasher.update(text.as_bytes());
    }
    hasher.finalize()
}

/// Where a group lies on the circle of brokers.
fn position(place: &Place) -> u64 {
    let mut first = [0; 8];
    first.copy_from_slice(&hash(place).as_bytes()[..8]);
    u64::from_le_bytes(first)
}

fn metadata(group: &Group) -> Vec<MetricMetadata> {
    let of = |name: &str, family: &group::Family| MetricMetadata {
        metric: name.to_owned(),
        kind: family.kind,
        help: family.help.clone(),
        unit: String::new(),
    };
    let times = group.times();
    let times = times.iter().map(|(name, family)| of(name, family));
    times.chain(group.families.iter().map(|(name, family)| of(name, family))).collect()
}
