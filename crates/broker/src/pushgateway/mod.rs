//! Prometheus' Pushgateway: metrics of jobs that do not live long enough to be scraped.
//!
//! Groups are kept in the catalog's key space, so a push that was answered survives a restart.
//! What is kept is stored as samples on each push and then once per interval, as if somebody
//! scraped a Pushgateway with `honor_labels`; a series that is replaced or deleted ends with a
//! stale marker.
//!
//! Source: <https://github.com/prometheus/pushgateway>, README, "API".

mod group;
mod push;
mod routes;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use model::{MetricBatch, MetricMetadata, Share, TenantName};
use parking_lot::{Mutex, RwLock};

use crate::commit::CommitError;
use crate::tenants::SendingTenant;
use crate::{Broker, Complaints, MetricRow};
use group::Group;
use push::{Form, PushError};

pub use routes::{read_routes, routes};

/// Where the groups lie in the key space.
const PREFIX: &str = "pushgateway/";
/// Groups at most. Each is one key of the catalog, and part of each of its snapshots.
const GROUPS: Share = Share::of_one_alone(10_000);
/// Bytes of all groups as they are kept, at most, for the same reason.
const BYTES: Share = Share::of_one_alone(64 << 20);

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
    groups: RwLock<BTreeMap<Place, Kept>>,
    /// Held while groups change, so that what is kept is in the order of the answers. The time of
    /// the last samples, milliseconds since the epoch.
    changing: Mutex<i64>,
    pushes: AtomicU64,
    refused: AtomicU64,
    complaints: Complaints,
}

/// A group, and how many bytes its key in the catalog holds.
struct Kept {
    group: Arc<Group>,
    bytes: usize,
}

impl Pushgateway {
    /// Reads the groups that earlier runs kept, and stores them as samples every `interval` until
    /// the broker stops. Must be called within a tokio runtime.
    pub fn start(broker: Broker, interval: Duration) -> Arc<Pushgateway> {
        let mut groups = BTreeMap::new();
        for (key, entry) in broker.list_keys(PREFIX) {
            match Group::decode(&entry.value, |tenant| broker.limits_of(tenant)) {
                Ok(group) => {
                    let kept = Kept { bytes: entry.value.len(), group: Arc::new(group) };
                    groups.insert(kept.group.place(), kept);
                }
                Err(error) => tracing::warn!(%key, %error, "a group of pushed metrics is left out"),
            }
        }
        let gateway = Arc::new(Pushgateway {
            broker,
            groups: RwLock::new(groups),
            changing: Mutex::new(i64::MIN),
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

    /// The groups of all tenants, sorted by tenant.
    fn groups(&self) -> Vec<Arc<Group>> {
        self.groups.read().values().map(|kept| Arc::clone(&kept.group)).collect()
    }

    /// The groups of a tenant, sorted by grouping key.
    fn groups_of(&self, tenant: TenantName) -> Vec<Arc<Group>> {
        let groups = self.groups.read();
        let of_tenant = groups.range((tenant, Key::new())..);
        let of_tenant = of_tenant.take_while(|((other, _), _)| *other == tenant);
        of_tenant.map(|(_, kept)| Arc::clone(&kept.group)).collect()
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
        let mut families = push::parse(body, form, &key, &self.broker.limits_of(tenant))?;
        let id = self.broker.tenant_for_write(tenant).map_err(PushError::refused)?;
        let mut last_ms = self.changing.lock();
        let others = self.groups_of(tenant);
        let before = others.iter().find(|group| group.key == key).cloned();
        let mut group = before.as_deref().cloned().unwrap_or_else(|| Group::new(tenant, key));
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
            Mode::ReplaceGroup => group.families = families,
            Mode::ReplaceFamilies => group.families.append(&mut families),
        }
        let mut batch = MetricBatch::default();
        if let Some(before) = before {
            before.collect_ended(Some(&group), now_ms, &mut batch);
        }
        group.collect(now_ms, &mut batch);
        batch.metadata = metadata(&group);
        // Before it is kept: whoever is told to come again later does so with all of it.
        let admitted = self.broker.admit(id, &batch).map_err(PushError::refused)?;
        if let Err(error) = self.keep(group) {
            admitted.give_back(batch.samples() as u64);
            return Err(error);
        }
        self.store(Ok(admitted), &batch);
        Ok(())
    }

    /// Makes a group durable, then visible.
    fn keep(&self, group: Group) -> Result<(), PushError> {
        let value = group.encode();
        let bytes = value.len();
        let place = group.place();
        self.check_room(&place, bytes)?;
        self.broker
            .put_key(&stored_key(&place), value, catalog::Expected::Any)
            .map_err(|error| PushError::NotStored(error.to_string()))?;
        self.groups.write().insert(place, Kept { group: Arc::new(group), bytes });
        Ok(())
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
        let Some(group) = self.groups.read().get(place).map(|kept| Arc::clone(&kept.group)) else {
            return Ok(());
        };
        self.broker
            .delete_key(&stored_key(place), catalog::Expected::Any)
            .map_err(|error| PushError::NotStored(error.to_string()))?;
        self.groups.write().remove(place);
        let mut batch = MetricBatch::default();
        group.collect_ended(None, self.next_ms(&mut last_ms), &mut batch);
        // The group is gone already, so its series end now, however fast the tenant's samples come.
        let id = self.broker.tenant_for_write(place.0);
        self.store(id.and_then(|id| self.broker.admit_in_advance(id, &batch)), &batch);
        Ok(())
    }

    /// Removes every group of a tenant. Blocks.
    fn wipe(&self, tenant: TenantName) -> Result<(), PushError> {
        self.groups_of(tenant).iter().try_for_each(|group| self.delete(&group.place()))
    }

    /// The present time, later than that of all samples before: at the same millisecond the first
    /// value would stay, and a push show only with the next interval.
    fn next_ms(&self, last_ms: &mut i64) -> i64 {
        *last_ms = self.broker.now_ms().max(last_ms.saturating_add(1));
        *last_ms
    }

    /// Stores every group at the present time.
    async fn store_all(self: &Arc<Self>) {
        let gateway = Arc::clone(self);
        self.broker
            .off_the_sockets(move || {
                // Not while a group is deleted: its end must come after its last sample.
                let mut last_ms = gateway.changing.lock();
                let now_ms = gateway.next_ms(&mut last_ms);
                // Sorted by tenant, so that each has one batch.
                for of_tenant in gateway.groups().chunk_by(|one, next| one.tenant == next.tenant) {
                    let mut batch = MetricBatch::default();
                    of_tenant.iter().for_each(|group| group.collect(now_ms, &mut batch));
                    let id = gateway.broker.tenant_for_write(of_tenant[0].tenant);
                    gateway.store(id.and_then(|id| gateway.broker.admit(id, &batch)), &batch);
                }
            })
            .await;
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
fn stored_key((tenant, key): &Place) -> String {
    let mut hasher = blake3::Hasher::new();
    // Of which the others have none, so that keys of earlier versions stay what they are.
    if !tenant.is_default() {
        hasher.update(&u64::MAX.to_le_bytes()).update(tenant.as_str().as_bytes()).update(&[0]);
    }
    for text in key.iter().flat_map(|(name, value)| [name, value]) {
        hasher.update(&(text.len() as u64).to_le_bytes());
        hasher.update(text.as_bytes());
    }
    format!("{PREFIX}{}", hasher.finalize().to_hex())
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
