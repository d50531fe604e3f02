//! The tenants there are: their names, numbers, limits, and what is counted of each.
//!
//! A name gets its number with the first write under it, and keeps it for ever: the pair lies in the
//! catalog's key space and is durable before anything is stored under the number.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use catalog::State;
use model::{DEFAULT_TENANT, Limits, NO_TENANT, TenantId, TenantName};
use parking_lot::{Mutex, RwLock};
use serde::{Deserialize, Serialize};
use wire::text_encode::TextEncoder;

use crate::Broker;
use crate::commit::CommitError;
use crate::in_effect::InEffect;
use crate::logs::LineHub;

mod agreed;
mod lines;
mod pace;
mod streams;

use pace::Pace;

pub(crate) use lines::{LeftOut, TenantLines, TooFast};
pub(crate) use pace::BURST_SECONDS;

/// Where the names lie in the key space.
pub(crate) const PREFIX: &str = "tenants/";
/// Tenants that have rows of their own among the metrics, the oldest ones; the others share one.
const MAX_LABELLED: usize = 200;
/// The tenant of that row, which is nobody's name.
const OTHERS: &str = "*";

/// Limits that samples run into, as they are named in refusals.
const LIMITS: [&str; 8] = [
    "max_labels_per_series",
    "max_label_name_bytes",
    "max_label_value_bytes",
    "max_active_series",
    "max_new_series_per_second",
    "max_values_per_label",
    "max_future_ms",
    RATE,
];
const RATE: &str = "ingestion_rate";

/// What is configured of tenants.
#[derive(Debug, Clone)]
pub struct TenantSettings {
    /// Limits of those that have others than [`crate::BrokerConfig::limits`].
    pub limits: BTreeMap<TenantName, Arc<Limits>>,
    /// Most tenants that come to be by a write; those with limits of their own do not count.
    pub max_tenants: usize,
}

impl Default for TenantSettings {
    fn default() -> Self {
        TenantSettings { limits: BTreeMap::new(), max_tenants: 1_000 }
    }
}

/// One tenant.
#[derive(Debug)]
pub(crate) struct Tenant {
    pub(crate) id: TenantId,
    pub(crate) name: TenantName,
    pace: Mutex<Pace>,
    samples: AtomicU64,
    /// By place in [`LIMITS`].
    refused: [AtomicU64; LIMITS.len()],
    pub(crate) lines: TenantLines,
}

/// A tenant with a batch, and the limits that hold for all of that: what a reload puts in effect
/// meanwhile is for the next one.
#[derive(Debug)]
pub(crate) struct SendingTenant {
    pub(crate) tenant: Arc<Tenant>,
    pub(crate) limits: Arc<Limits>,
}

impl SendingTenant {
    /// Takes so many samples, if they do not come faster than they may.
    pub(crate) fn admit(&self, samples: usize, now_ms: i64) -> Result<(), CommitError> {
        let Limits { ingestion_rate: rate, ingestion_burst_size: burst, .. } = *self.limits;
        if rate == 0 || samples == 0 {
            return Ok(());
        }
        let tenant = &self.tenant;
        let taken = tenant.pace.lock().take(samples, rate, burst, now_ms);
        taken.map_err(|wait_ms| {
            tenant.count_refused(RATE, samples as u64);
            let (tenant, retry_after_ms) = (tenant.name, wait_ms);
            CommitError::OverRate { tenant, samples, rate, burst, retry_after_ms }
        })
    }

    /// Takes so many samples, however fast they come; those that come next wait for it.
    pub(crate) fn admit_in_advance(&self, samples: usize, now_ms: i64) {
        let Limits { ingestion_rate: rate, ingestion_burst_size: burst, .. } = *self.limits;
        if rate > 0 && samples > 0 {
            self.tenant.pace.lock().take_in_advance(samples, rate, burst, now_ms);
        }
    }

    /// Gives samples back that were admitted and are not stored.
    pub(crate) fn give_back(&self, samples: u64) {
        if self.limits.ingestion_rate > 0 && samples > 0 {
            self.tenant.pace.lock().give_back(samples);
        }
    }
}

impl Tenant {
    pub(crate) fn count_stored(&self, samples: u64) {
        self.samples.fetch_add(samples, Ordering::Relaxed);
    }

    /// Counts what was refused, if it was by a limit: refusals name it.
    pub(crate) fn count_refusal(&self, reason: &str, samples: u64) {
        if let Some(limit) = limit_named(reason) {
            self.count_refused(limit, samples);
        }
    }

    fn count_refused(&self, limit: &str, samples: u64) {
        if let Some(place) = LIMITS.iter().position(|known| *known == limit) {
            self.refused[place].fetch_add(samples, Ordering::Relaxed);
        }
    }
}

/// The limit that a refusal names.
fn limit_named(reason: &str) -> Option<&'static str> {
    let named = reason.split_once("limits.")?.1;
    let end = named.find(|c: char| !c.is_ascii_lowercase() && c != '_').unwrap_or(named.len());
    LIMITS.into_iter().find(|limit| *limit == &named[..end])
}

/// What is kept of a name.
#[derive(Serialize, Deserialize)]
struct Kept {
    id: u32,
}

/// The names that a catalog holds.
///
/// # Errors
/// One of them cannot be read.
pub(crate) fn names(catalog: &State) -> anyhow::Result<BTreeMap<TenantId, TenantName>> {
    let mut names = BTreeMap::from([(DEFAULT_TENANT, TenantName::DEFAULT)]);
    for (key, value) in catalog.keys(PREFIX) {
        let Some(name) = key.strip_prefix(PREFIX) else { continue };
        let kept: Kept = serde_json::from_slice(&value.value)?;
        names.insert(TenantId(kept.id), TenantName::parse(name)?);
    }
    Ok(names)
}

/// All tenants.
pub(crate) struct TenantBook {
    known: RwLock<Known>,
    /// Held by who adds one.
    adding: Mutex<()>,
    /// Where the limits of all tenants are.
    in_effect: Arc<InEffect>,
    refused: AtomicU64,
    /// Told of new ones.
    lines: Arc<LineHub>,
    /// Of those that are none: all that they sent was refused.
    strangers: TenantLines,
}

#[derive(Default)]
struct Known {
    by_name: HashMap<TenantName, Arc<Tenant>>,
    by_id: BTreeMap<TenantId, Arc<Tenant>>,
    /// Greater than every number that was ever given out.
    next: u32,
}

impl TenantBook {
    /// Reads the names. `used` are numbers under which there is data: if a name were lost, nobody
    /// else would get its number.
    pub(crate) fn load(
        catalog: &State,
        used: impl IntoIterator<Item = TenantId>,
        in_effect: Arc<InEffect>,
        lines: Arc<LineHub>,
    ) -> TenantBook {
        let (known, adding, refused) = (RwLock::default(), Mutex::default(), AtomicU64::new(0));
        let strangers = TenantLines::default();
        let book = TenantBook { known, adding, in_effect, refused, lines, strangers };
        book.add(TenantName::DEFAULT, DEFAULT_TENANT);
        for (key, kept) in catalog.keys(PREFIX) {
            book.follow(key, &kept.value);
        }
        let mut known = book.known.write();
        for id in used {
            known.next = known.next.max(id.0.saturating_add(1));
        }
        drop(known);
        book
    }

    /// Takes a name that is in the catalog.
    pub(crate) fn follow(&self, key: &str, value: &[u8]) {
        let name = key.strip_prefix(PREFIX).and_then(|name| TenantName::parse(name).ok());
        let kept = serde_json::from_slice::<Kept>(value).ok();
        match (name, kept) {
            (Some(name), Some(kept)) => self.add(name, TenantId(kept.id)),
            _ => tracing::error!(key, "the name of a tenant cannot be read; its data is kept"),
        }
    }

    fn add(&self, name: TenantName, id: TenantId) {
        let tenant = Arc::new(Tenant {
            id,
            name,
            pace: Mutex::default(),
            samples: AtomicU64::new(0),
            refused: Default::default(),
            lines: TenantLines::default(),
        });
        let mut known = self.known.write();
        // Its counters stay, if another one added it meanwhile.
        if known.by_name.contains_key(&name) {
            return;
        }
        known.next = known.next.max(id.0.saturating_add(1));
        known.by_id.insert(id, Arc::clone(&tenant));
        known.by_name.insert(name, tenant);
        drop(known);
        self.lines.number(name, id);
    }

    pub(crate) fn named(&self, name: TenantName) -> Option<Arc<Tenant>> {
        self.known.read().by_name.get(&name).cloned()
    }

    /// The tenant of a number, if it has a name.
    pub(crate) fn numbered(&self, id: TenantId) -> Option<Arc<Tenant>> {
        self.known.read().by_id.get(&id).cloned()
    }

    /// Shows `with` what is known of a tenant's lines.
    pub(crate) fn lines_of<T>(&self, name: TenantName, with: impl FnOnce(&TenantLines) -> T) -> T {
        match self.named(name) {
            Some(tenant) => with(&tenant.lines),
            None => with(&self.strangers),
        }
    }

    /// The tenant of a number, for one batch.
    ///
    /// # Panics
    /// This book did not give it out.
    pub(crate) fn sending(&self, id: TenantId) -> SendingTenant {
        let tenant = self.known.read().by_id.get(&id).cloned();
        let tenant =
            tenant.expect("numbers of tenants come from the book of the broker that is asked");
        let limits = self.in_effect.limits(tenant.name);
        SendingTenant { tenant, limits }
    }

    fn all(&self) -> Vec<Arc<Tenant>> {
        self.known.read().by_id.values().cloned().collect()
    }

    /// The number of one more tenant, if there is room for it.
    fn room_for(&self, name: TenantName) -> Result<TenantId, CommitError> {
        let in_effect = self.in_effect.get();
        let TenantSettings { limits: own, max_tenants } = &in_effect.tenants;
        let known = self.known.read();
        let counted =
            known.by_name.keys().filter(|name| !name.is_default() && !own.contains_key(name));
        let limit = *max_tenants;
        if (!own.contains_key(&name) && counted.count() >= limit) || known.next == NO_TENANT.0 {
            self.refused.fetch_add(1, Ordering::Relaxed);
            return Err(CommitError::TooManyTenants { tenant: name, limit });
        }
        Ok(TenantId(known.next))
    }
}

/// One row of the list of tenants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TenantRow {
    /// Its name.
    pub name: TenantName,
    /// Series of its that have, or lately had, samples in memory.
    pub active_series: usize,
    /// The limit of those.
    pub max_active_series: usize,
    /// Samples stored since the start.
    pub samples: u64,
}

impl Broker {
    /// The number under which a tenant's data lies; [`NO_TENANT`], which never has any, for a name
    /// under which nobody has written.
    pub fn tenant_id(&self, name: TenantName) -> TenantId {
        if name.is_default() {
            return DEFAULT_TENANT;
        }
        self.known_tenant(name).map_or(NO_TENANT, |tenant| tenant.id)
    }

    /// The name of a tenant; `None` if it was lost.
    pub fn tenant_name(&self, id: TenantId) -> Option<TenantName> {
        self.inner.tenants.known.read().by_id.get(&id).map(|tenant| tenant.name)
    }

    /// The limits of a tenant that are in effect, also of one that is not yet.
    pub fn limits_of(&self, name: TenantName) -> Arc<Limits> {
        self.inner.in_effect.limits(name)
    }

    /// Tenants that have written, and those with limits of their own, by name.
    pub fn tenants(&self) -> Vec<TenantRow> {
        let (book, in_effect) = (&self.inner.tenants, self.in_effect());
        let row = |name, tenant: Option<&Tenant>| TenantRow {
            name,
            active_series: tenant.map_or(0, |one| self.inner.registry.active_series(one.id)),
            max_active_series: in_effect.limits_of(name).max_active_series,
            samples: tenant.map_or(0, |one| one.samples.load(Ordering::Relaxed)),
        };
        let configured = in_effect.tenants.limits.keys().map(|name| (*name, row(*name, None)));
        let mut rows: BTreeMap<TenantName, TenantRow> = configured.collect();
        rows.extend(book.all().iter().map(|tenant| (tenant.name, row(tenant.name, Some(tenant)))));
        rows.into_values().collect()
    }

    /// The number under which a tenant writes. The first time, it is made durable: that blocks for a
    /// sync of the log.
    pub(crate) fn tenant_for_write(&self, name: TenantName) -> Result<TenantId, CommitError> {
        let book = &self.inner.tenants;
        if let Some(tenant) = self.known_tenant(name) {
            return Ok(tenant.id);
        }
        // Without a lock: who is refused must not wait for the disk of others.
        book.room_for(name)?;
        let _one_at_a_time = book.adding.lock();
        if let Some(tenant) = self.known_tenant(name) {
            return Ok(tenant.id);
        }
        let id = self.give_number(name, book.room_for(name)?)?;
        book.add(name, id);
        tracing::info!(tenant = %name, "a new tenant writes");
        Ok(id)
    }

    /// Whether [`Broker::tenant_for_write`] may have to wait for the disk.
    pub(crate) fn is_new_tenant(&self, name: TenantName) -> bool {
        self.known_tenant(name).is_none()
    }

    /// A tenant that this broker, or another of its cluster, gave a number.
    fn known_tenant(&self, name: TenantName) -> Option<Arc<Tenant>> {
        let book = &self.inner.tenants;
        book.named(name).or_else(|| {
            book.add(name, self.agreed_tenant(name)?);
            book.named(name)
        })
    }

    /// Own metrics by tenant: of all, or of the one that is shown.
    pub fn render_tenants(&self, shown: Option<TenantName>, out: &mut TextEncoder<'_>) {
        let book = &self.inner.tenants;
        let mut all = book.all();
        let refused = book.refused.load(Ordering::Relaxed);
        for (name, kind, help, value) in [
            (
                "watchfire_broker_tenants",
                "gauge",
                "Tenants that have written, the default one included.",
                all.len() as f64,
            ),
            (
                "watchfire_broker_tenants_refused_total",
                "counter",
                "Writes refused because there are limits.max_tenants tenants.",
                refused as f64,
            ),
        ] {
            out.family(name, kind, help);
            out.sample(name, &[], value);
        }
        all.retain(|tenant| shown.is_none_or(|shown| tenant.name == shown));
        let (own, rest) = all.split_at(all.len().min(MAX_LABELLED));
        let rows = || {
            let own = own.iter().map(|tenant| (tenant.name.as_str(), std::slice::from_ref(tenant)));
            own.chain((!rest.is_empty()).then_some((OTHERS, rest)))
        };
        let sum = |of: &[Arc<Tenant>], value: &dyn Fn(&Tenant) -> u64| -> f64 {
            of.iter().map(|tenant| value(tenant)).sum::<u64>() as f64
        };
        let name = "watchfire_broker_tenant_active_series";
        out.family(name, "gauge", "Series of the tenant known to the head.");
        for (tenant, of) in rows() {
            let active = |one: &Tenant| self.inner.registry.active_series(one.id) as u64;
            out.sample(name, &[("tenant", tenant)], sum(of, &active));
        }
        let name = "watchfire_broker_tenant_samples_total";
        out.family(name, "counter", "Samples of the tenant stored.");
        for (tenant, of) in rows() {
            let stored = |one: &Tenant| one.samples.load(Ordering::Relaxed);
            out.sample(name, &[("tenant", tenant)], sum(of, &stored));
        }
        let name = "watchfire_broker_tenant_samples_refused_total";
        out.family(name, "counter", "Samples of the tenant refused by a limit.");
        for (tenant, of) in rows() {
            for (place, limit) in LIMITS.iter().enumerate() {
                let refused = |one: &Tenant| one.refused[place].load(Ordering::Relaxed);
                let refused = sum(of, &refused);
                // Most tenants never run into most limits.
                if refused > 0.0 {
                    out.sample(name, &[("tenant", tenant), ("limit", limit)], refused);
                }
            }
        }
        let rows: Vec<_> = rows().collect();
        lines::render(&rows, shown.is_none().then_some(&book.strangers), out);
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::{Adjustable, BrokerConfig};

    #[test]
    fn refusals_name_their_limit() {
        for limit in LIMITS {
            let reason = format!("too much: `limits.{limit}` is 5, raise it");
            assert_eq!(limit_named(&reason), Some(limit));
        }
        assert_eq!(limit_named("limits.max_active_series"), Some("max_active_series"));
        for other in
            ["", "limits", "the limits. Too bad", "limits.max_labels", "limits.max_body_bytes"]
        {
            assert_eq!(limit_named(other), None, "{other}");
        }
    }

    #[test]
    fn limits_that_are_reloaded_hold_for_the_next_batch_and_the_bucket_stays() {
        let mut config = BrokerConfig::new(PathBuf::new(), || 0);
        config.limits.ingestion_rate = 10;
        let in_effect = Arc::new(InEffect::new(config.adjustable()));
        let book = TenantBook::load(&State::default(), [], Arc::clone(&in_effect), Arc::default());
        let (acme, id) = (TenantName::parse("acme").expect("a name"), TenantId(1));
        book.add(acme, id);
        let wait_ms = |sender: &SendingTenant, samples, now_ms| {
            sender.admit(samples, now_ms).map_err(|error| match error {
                CommitError::OverRate { retry_after_ms, .. } => retry_after_ms,
                other => panic!("{other}"),
            })
        };
        let before = book.sending(id);
        assert_eq!(wait_ms(&before, 100, 0), Ok(()));
        let own = |rate: usize| {
            let limits = Limits { ingestion_rate: rate, ..Limits::default() };
            let mut settings = Adjustable::clone(&in_effect.get());
            settings.tenants.limits.insert(acme, Arc::new(limits));
            in_effect.set(settings);
        };
        own(1_000);
        // A batch that is on its way keeps its limits, and nothing filled the bucket anew.
        assert_eq!(wait_ms(&before, 1, 0), Err(100));
        assert_eq!(wait_ms(&book.sending(id), 1, 0), Err(1));
        assert_eq!(wait_ms(&book.sending(id), 1_000, 1_000), Ok(()));
        // Others have the limits of all.
        assert_eq!(wait_ms(&book.sending(DEFAULT_TENANT), 100, 1_000), Ok(()));
        assert_eq!(wait_ms(&book.sending(DEFAULT_TENANT), 1, 1_000), Err(100));
        own(1);
        assert_eq!(wait_ms(&book.sending(id), 1, 1_000), Err(1_000));
        own(0);
        assert_eq!(wait_ms(&book.sending(id), 1_000_000, 1_000), Ok(()));
        let config = BrokerConfig::new(PathBuf::new(), || 0);
        in_effect.set(config.adjustable());
        assert_eq!(*book.sending(id).limits, Limits::default());
    }

    #[test]
    fn numbers_with_data_are_not_given_out_again() {
        let used = [DEFAULT_TENANT, TenantId(7)];
        let mut config = BrokerConfig::new(PathBuf::new(), || 0);
        config.tenants.max_tenants = 1;
        let in_effect = Arc::new(InEffect::new(config.adjustable()));
        let book =
            TenantBook::load(&State::default(), used, Arc::clone(&in_effect), Arc::default());
        let name = TenantName::parse("acme").expect("a name");
        assert_eq!(book.room_for(name), Ok(TenantId(8)));
        book.add(name, TenantId(8));
        let other = TenantName::parse("other").expect("a name");
        let error = book.room_for(other).expect_err("no room").to_string();
        assert!(error.contains("limits.max_tenants") && error.contains("other"), "{error}");
        config.tenants.max_tenants = 2;
        in_effect.set(config.adjustable());
        assert_eq!(book.room_for(other), Ok(TenantId(9)));
    }
}
