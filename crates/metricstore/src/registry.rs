//! Which series there are: from label bytes as they came to dense ordinals.
//!
//! An ordinal is a number of this process only: index of every column in a shard, and the number
//! of the series in a log file. Series of all tenants share one space of ordinals.
//!
//! **Fast path.** A keyed 128-bit hash of the label bytes finds the ordinal in a cache; nothing is
//! parsed. **Slow path**, once per series: labels are parsed, the series found by them or registered,
//! under one lock.
//!
//! **Release.** An ordinal whose series was silent for hours and has nothing in a shard is given
//! back, but used again only after [`QUARANTINE_MS`], which no query, batch or log writer that
//! still knows the old meaning outlives.

mod cache;
mod exemplars;
mod histograms;
mod limits;
mod order;
mod probing;
mod release;
mod tables;
mod view;

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use model::{LabelForm, Labels, Limits, MetricBatch, SeriesRows, TenantId};
use parking_lot::{Mutex, RwLock};

use crate::fingerprint::Fingerprint;
use crate::rows::{Refusal, ResolvedBatch};
use cache::Cache;
use order::Orders;
use tables::Tables;

pub use exemplars::ExemplarRefusals;
pub use limits::NewSeries;
pub use release::Releasing;
pub use view::HeadSeries;
pub(crate) use view::{NOT_REGISTERED, RegistryVersion, View};

/// How long a released ordinal is not used again: five times the longest query by default.
pub const QUARANTINE_MS: i64 = 10 * 60 * 1_000;

/// Series that are hashed before they are looked up.
const LOOK_AHEAD: usize = 64;
/// Longest name of a series in a refusal.
const MAX_NAME_BYTES: usize = 512;
/// An ordinal that no series has.
const UNKNOWN: u32 = u32::MAX;

/// What a batch is admitted by.
#[derive(Debug, Clone, Copy)]
pub struct Admission<'a> {
    /// Limits of the tenant.
    pub limits: &'a Limits,
    /// The present.
    pub now_ms: i64,
    /// Earliest timestamp that retention keeps.
    pub oldest_ms: i64,
    /// Room for new series.
    pub new_series: NewSeries<'a>,
    /// What to call a series whose labels are refused.
    pub name: NameOfRefused,
}

/// How a sender recognises a series by its label bytes, whatever is wrong with them.
pub type NameOfRefused = fn(LabelForm, &[u8]) -> String;

/// Parses and checks label bytes; the error is the text the sender gets.
pub type DecodeLabels<'a> = dyn Fn(LabelForm, &[u8]) -> Result<Labels, String> + 'a;

/// All series that have samples in memory or had them lately. Any thread may use it.
pub struct Registry {
    hash: Fingerprint,
    /// Tells registries apart.
    identity: Arc<()>,
    // Locks are taken in this order, where more than one is held.
    /// Held by who puts new series in order or gives ordinals back.
    ordering: Mutex<()>,
    orders: RwLock<Orders>,
    tables: RwLock<Tables>,
    /// Registered and not yet in `orders`, by tenant.
    unordered: Mutex<BTreeMap<TenantId, Vec<u32>>>,
    /// Read once per batch, written when series are new.
    cache: RwLock<Cache>,
    reuses: AtomicU64,
    releases: AtomicU64,
    /// Lookups count as of this minute at least, see [`Registry::begin_release`].
    releasing_min: AtomicU32,
    /// Series that were registered.
    registrations: AtomicU64,
}

impl Registry {
    /// An empty registry. `seed` keys the hashes of label bytes; whoever can choose labels must
    /// not be able to know it.
    pub fn new(seed: u64) -> Self {
        Registry {
            hash: Fingerprint::new(seed),
            identity: Arc::new(()),
            ordering: Mutex::new(()),
            orders: RwLock::new(Orders::default()),
            tables: RwLock::new(Tables::new(seed)),
            unordered: Mutex::new(BTreeMap::new()),
            cache: RwLock::new(Cache::new()),
            reuses: AtomicU64::new(0),
            releases: AtomicU64::new(0),
            releasing_min: AtomicU32::new(0),
            registrations: AtomicU64::new(0),
        }
    }

    /// Replaces `out` by the rows of `batch`, by shard, registering series that are new. About
    /// 70 ns per known series; 2 µs and `decode` per new one.
    ///
    /// Rows too far in the future or older than `oldest_ms`, and series that do not decode or
    /// exceed a limit, are left out and counted in `out.rejects`; all others are admitted.
    ///
    /// # Panics
    /// `shards` is 0, or an entry of `batch.series` points outside the batch.
    pub fn resolve(
        &self,
        tenant: TenantId,
        batch: &MetricBatch,
        shards: usize,
        admission: Admission<'_>,
        decode: &DecodeLabels<'_>,
        out: &mut ResolvedBatch,
    ) {
        out.reset(tenant, shards);
        let mut ordinals = std::mem::take(&mut out.ordinals);
        let unknown = self.look_up(tenant, batch, self.lookup_min(admission.now_ms), &mut ordinals);
        let newest_ms = admission.now_ms.saturating_add(admission.limits.max_future_ms);
        let allowed = admission.oldest_ms..=newest_ms;
        if unknown > 0 {
            self.admit_new(tenant, batch, admission, &allowed, decode, &mut ordinals, out);
        }
        for (series, &ordinal) in batch.series.iter().zip(&ordinals) {
            let rows = rows_of(series);
            let timestamps = &batch.timestamps_ms[rows.clone()];
            if !timestamps.iter().all(|t| allowed.contains(t)) {
                let name = || name_of(admission, series.form, batch.label_bytes_of(series));
                reject_times(timestamps, false, admission, newest_ms, &name, out);
            }
            if ordinal == UNKNOWN {
                continue;
            }
            let shard = &mut out.shards[ordinal as usize % shards];
            // Fast path: nobody says when values began.
            if rows.start >= batch.starts_ms.len() {
                for (&t_ms, &value) in timestamps.iter().zip(&batch.values[rows]) {
                    if allowed.contains(&t_ms) {
                        shard.push(ordinal, t_ms, value);
                    }
                }
                continue;
            }
            for row in rows {
                let t_ms = batch.timestamps_ms[row];
                if allowed.contains(&t_ms) {
                    shard.push(ordinal, t_ms, batch.values[row]);
                    shard.set_last_start(batch.start_ms(row));
                }
            }
        }
        out.ordinals = ordinals;
        // Fast path: nothing but floats.
        if !batch.histograms.is_empty() {
            self.resolve_histograms(tenant, batch, admission, &allowed, decode, out);
        }
    }

    /// Finds what the cache knows; yields how many entries of the batch it does not.
    ///
    /// One lock per batch, not per series, and hashing apart from looking up: so the processor
    /// overlaps the cache misses of many lookups, which are most of their cost.
    fn look_up(
        &self,
        tenant: TenantId,
        batch: &MetricBatch,
        seen_min: u32,
        ordinals: &mut Vec<u32>,
    ) -> usize {
        ordinals.clear();
        let mut keys = [0; LOOK_AHEAD];
        let cache = self.cache.read();
        for chunk in batch.series.chunks(LOOK_AHEAD) {
            for (key, series) in keys.iter_mut().zip(chunk) {
                *key = self.key(tenant, series.form, batch.label_bytes_of(series));
            }
            let keys = &keys[..chunk.len()];
            ordinals.extend(keys.iter().map(|&key| cache.find(key, seen_min).unwrap_or(UNKNOWN)));
        }
        drop(cache);
        ordinals.iter().filter(|ordinal| **ordinal == UNKNOWN).count()
    }

    /// Registers the series of a batch that the cache does not know, if they are admitted.
    #[cold]
    #[expect(clippy::too_many_arguments, reason = "the cold half of `resolve`")]
    fn admit_new(
        &self,
        tenant: TenantId,
        batch: &MetricBatch,
        admission: Admission<'_>,
        allowed: &RangeInclusive<i64>,
        decode: &DecodeLabels<'_>,
        ordinals: &mut [u32],
        out: &mut ResolvedBatch,
    ) {
        let news = batch.series.iter().zip(ordinals).filter(|(_, ordinal)| **ordinal == UNKNOWN);
        for (series, ordinal) in news {
            let timestamps = &batch.timestamps_ms[rows_of(series)];
            let admitted = timestamps.iter().filter(|t| allowed.contains(t)).count() as u64;
            if admitted == 0 {
                continue;
            }
            let bytes = batch.label_bytes_of(series);
            let spelling = (series.form, bytes);
            match self.admit(tenant, spelling, admission, decode, &mut out.new_series) {
                Ok(registered) => *ordinal = registered,
                Err(refusal) => {
                    out.reject(refusal, admitted, 0, || name_of(admission, series.form, bytes));
                }
            }
        }
    }

    /// Registers the series with the label bytes `spelling`, unless it is known, if the limits
    /// admit it; the error is what the sender gets. `new_series` counts those of the batch.
    fn admit(
        &self,
        tenant: TenantId,
        spelling: (LabelForm, &[u8]),
        admission: Admission<'_>,
        decode: &DecodeLabels<'_>,
        new_series: &mut usize,
    ) -> Result<u32, Refusal> {
        let seen_min = self.lookup_min(admission.now_ms);
        let labels = decode(spelling.0, spelling.1)?;
        let mut tables = self.tables.write();
        let ordinal = match tables.get(tenant, &labels) {
            Some(ordinal) => ordinal,
            None => {
                tables.check_new(tenant, &labels, admission, *new_series)?;
                *new_series += 1;
                self.register(&mut tables, tenant, &labels, seen_min)
            }
        };
        let key = self.key(tenant, spelling.0, spelling.1);
        self.remember(&tables, key, ordinal, seen_min);
        Ok(ordinal)
    }

    /// The ordinal of a series given by its labels; no limit applies. How they are spelled is not
    /// remembered: the log, which this is for, does so once per file.
    pub fn intern(&self, tenant: TenantId, labels: &Labels, now_ms: i64) -> u32 {
        let seen_min = self.lookup_min(now_ms);
        let mut tables = self.tables.write();
        let ordinal = match tables.get(tenant, labels) {
            Some(ordinal) => ordinal,
            None => self.register(&mut tables, tenant, labels, seen_min),
        };
        self.cache.write().saw(ordinal, seen_min);
        ordinal
    }

    fn key(&self, tenant: TenantId, form: LabelForm, bytes: &[u8]) -> u128 {
        let form = match form {
            LabelForm::Packed => 0,
            LabelForm::RemoteWrite1 => 1,
            LabelForm::Pairs => 2,
        };
        self.hash.of(u64::from(tenant.0) << 8 | form, bytes)
    }

    fn remember(&self, tables: &Tables, key: u128, ordinal: u32, seen_min: u32) {
        self.cache.write().insert(key, ordinal, seen_min, tables.ordinal_count());
    }

    fn register(
        &self,
        tables: &mut Tables,
        tenant: TenantId,
        labels: &Labels,
        seen_min: u32,
    ) -> u32 {
        let (ordinal, is_reused) = tables.register(tenant, labels, seen_min);
        self.registrations.fetch_add(1, Ordering::Relaxed);
        if is_reused {
            self.reuses.fetch_add(1, Ordering::Release);
        }
        self.unordered.lock().entry(tenant).or_default().push(ordinal);
        ordinal
    }

    /// How often an ordinal was given to another series.
    pub(crate) fn reuses(&self) -> u64 {
        self.reuses.load(Ordering::Acquire)
    }
}

fn rows_of(series: &SeriesRows) -> std::ops::Range<usize> {
    series.first_row as usize..(series.first_row + series.rows) as usize
}

/// Minutes since the epoch; times before it count as the epoch.
fn minute(t_ms: i64) -> u32 {
    u32::try_from(t_ms / 60_000).unwrap_or(if t_ms < 0 { 0 } else { u32::MAX })
}

/// The series as Prometheus prints it, cut off where it is long.
fn name_of(admission: Admission<'_>, form: LabelForm, bytes: &[u8]) -> String {
    let mut name = (admission.name)(form, bytes);
    if name.len() > MAX_NAME_BYTES {
        name.truncate(name.floor_char_boundary(MAX_NAME_BYTES));
        name.push('…');
    }
    name
}

/// Counts the rows outside the allowed times, one entry for each of the two reasons.
#[cold]
fn reject_times(
    timestamps: &[i64],
    are_histograms: bool,
    admission: Admission<'_>,
    newest_ms: i64,
    name: &dyn Fn() -> String,
    out: &mut ResolvedBatch,
) {
    let histograms = |samples: u64| if are_histograms { samples } else { 0 };
    let future = timestamps.iter().filter(|t| **t > newest_ms).count() as u64;
    let old = timestamps.iter().filter(|t| **t < admission.oldest_ms).count() as u64;
    if future > 0 {
        out.reject(
            format!(
                "timestamp is more than limits.max_future_ms ({} ms) ahead of this server: set \
                 the sender's clock, or raise the limit",
                admission.limits.max_future_ms
            ),
            future,
            histograms(future),
            name,
        );
    }
    if old > 0 {
        out.reject(
            "timestamp is older than the retention, the sample would be deleted at once; raise \
             storage.retention to keep it"
                .to_owned(),
            old,
            histograms(old),
            name,
        );
    }
}
