//! Which series there are: from label bytes as they came to dense ordinals.
//!
//! An ordinal is a number of this process only: index of every column in a shard, and the number
//! of the series in a log file. Series of all tenants share one space of ordinals.
//!
//! **Fast path.** A keyed 128-bit hash of the label bytes finds the ordinal in a cache; nothing is
//! parsed. **Slow path**, once per series: labels are parsed, `SeriesId` computed, the series found
//! by it or registered, under one lock.
//!
//! **Release.** An ordinal whose series was silent for hours and has nothing in a shard is given
//! back, but used again only after [`QUARANTINE_MS`], which no query, batch or log writer that
//! still knows the old meaning outlives.

use std::collections::{BTreeMap, VecDeque};
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::interim_index::{LabelIndex, MemIndex};
use hashbrown::HashTable;
use model::{LabelForm, Labels, Limits, Matcher, MetricBatch, SeriesId, SeriesRows, TenantId};
use parking_lot::RwLock;

use crate::fingerprint::Fingerprint;
use crate::rows::ResolvedBatch;

/// How long a released ordinal is not used again: five times the longest query by default.
pub const QUARANTINE_MS: i64 = 10 * 60 * 1_000;

/// Parts of the cache: when one grows, the others stay as they are.
const PARTS: usize = 64;
/// Entries the cache may hold per registered series, before a part is emptied: the same series may
/// come in several spellings, but a sender that permutes labels must not fill memory.
const SPELLINGS: usize = 4;
/// Entries a part may always hold.
const MIN_PART_LIMIT: usize = 4_096;
/// Series that are hashed before they are looked up.
const LOOK_AHEAD: usize = 64;
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
}

/// Parses and checks label bytes; the error is the text the sender gets.
pub type DecodeLabels<'a> = dyn Fn(LabelForm, &[u8]) -> Result<Labels, String> + 'a;

/// All series that have samples in memory or had them lately. Any thread may use it.
pub struct Registry {
    hash: Fingerprint,
    /// Read once per batch, written when series are new. Locked after `tables`, if both are.
    cache: RwLock<Cache>,
    tables: RwLock<Tables>,
    reuses: AtomicU64,
}

/// Ordinals by the fingerprint of label bytes as they came.
struct Cache {
    parts: Box<[HashTable<CacheEntry>]>,
}

/// A spelling of a series' labels. 24 bytes.
#[derive(Debug)]
struct CacheEntry {
    key: [u32; 4],
    ordinal: u32,
    /// Minute in which it was last looked up; written while others read.
    seen_min: AtomicU32,
}

#[derive(Default)]
struct Tables {
    /// Ordinals, hashed by the id in `series`.
    by_id: HashTable<u32>,
    /// By ordinal.
    series: Vec<Entry>,
    tenants: BTreeMap<TenantId, MemIndex>,
    /// Released, with the time of release, oldest first.
    quarantine: VecDeque<(i64, u32)>,
}

/// A registered series, or a hole in the ordinals.
#[derive(Debug, Clone, Copy)]
struct Entry {
    id: [u64; 2],
    tenant: TenantId,
    /// Minute in which the series was last looked up without the cache.
    seen_min: u32,
    is_used: bool,
}

impl Registry {
    /// An empty registry. `seed` keys the hashes of label bytes; whoever can choose labels must
    /// not be able to know it.
    pub fn new(seed: u64) -> Self {
        let parts = (0..PARTS).map(|_| HashTable::new()).collect();
        Registry {
            hash: Fingerprint::new(seed),
            cache: RwLock::new(Cache { parts }),
            tables: RwLock::new(Tables::default()),
            reuses: AtomicU64::new(0),
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
        let unknown = self.look_up(tenant, batch, minute(admission.now_ms), &mut ordinals);
        let newest_ms = admission.now_ms.saturating_add(admission.limits.max_future_ms);
        let allowed = admission.oldest_ms..=newest_ms;
        if unknown > 0 {
            self.admit_new(tenant, batch, admission, &allowed, decode, &mut ordinals, out);
        }
        for (series, &ordinal) in batch.series.iter().zip(&ordinals) {
            let rows = rows_of(series);
            let timestamps = &batch.timestamps_ms[rows.clone()];
            if !timestamps.iter().all(|t| allowed.contains(t)) {
                reject_times(timestamps, admission, newest_ms, out);
            }
            if ordinal == UNKNOWN {
                continue;
            }
            let shard = &mut out.shards[ordinal as usize % shards];
            for (&t_ms, &value) in timestamps.iter().zip(&batch.values[rows]) {
                if allowed.contains(&t_ms) {
                    shard.push(ordinal, t_ms, value);
                }
            }
        }
        out.ordinals = ordinals;
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
        let seen_min = minute(admission.now_ms);
        let news = batch.series.iter().zip(ordinals).filter(|(_, ordinal)| **ordinal == UNKNOWN);
        for (series, ordinal) in news {
            let timestamps = &batch.timestamps_ms[rows_of(series)];
            let admitted = timestamps.iter().filter(|t| allowed.contains(t)).count() as u64;
            if admitted == 0 {
                continue;
            }
            let bytes = batch.label_bytes_of(series);
            let registered = decode(series.form, bytes).and_then(|labels| {
                let mut tables = self.tables.write();
                let ordinal = match tables.find(tenant, &labels, seen_min) {
                    Ok(ordinal) => ordinal,
                    Err(id) => {
                        tables.check_active(tenant, admission.limits)?;
                        self.register(&mut tables, tenant, id, &labels, seen_min)
                    }
                };
                let key = self.key(tenant, series.form, bytes);
                self.cache.write().insert(&mut tables, key, ordinal, seen_min);
                Ok(ordinal)
            });
            match registered {
                Ok(registered) => *ordinal = registered,
                Err(reason) => out.reject(reason, admitted),
            }
        }
    }

    /// The ordinal of a series given by its labels; no limit applies.
    pub fn intern(&self, tenant: TenantId, labels: &Labels, now_ms: i64) -> u32 {
        let seen_min = minute(now_ms);
        let key = self.key(tenant, LabelForm::Packed, labels.as_packed());
        if let Some(ordinal) = self.cache.read().find(key, seen_min) {
            return ordinal;
        }
        let mut tables = self.tables.write();
        let ordinal = match tables.find(tenant, labels, seen_min) {
            Ok(ordinal) => ordinal,
            Err(id) => self.register(&mut tables, tenant, id, labels, seen_min),
        };
        self.cache.write().insert(&mut tables, key, ordinal, seen_min);
        ordinal
    }

    fn key(&self, tenant: TenantId, form: LabelForm, bytes: &[u8]) -> u128 {
        let form = match form {
            LabelForm::Packed => 0,
            LabelForm::RemoteWrite1 => 1,
        };
        self.hash.of(u64::from(tenant.0) << 8 | form, bytes)
    }

    fn register(
        &self,
        tables: &mut Tables,
        tenant: TenantId,
        id: SeriesId,
        labels: &Labels,
        seen_min: u32,
    ) -> u32 {
        let now_ms = i64::from(seen_min) * 60_000;
        let entry =
            Entry { id: [id.0 as u64, (id.0 >> 64) as u64], tenant, seen_min, is_used: true };
        let is_free =
            |&(released_ms, _): &(i64, u32)| now_ms.saturating_sub(released_ms) > QUARANTINE_MS;
        let ordinal = match tables.quarantine.pop_front_if(|released| is_free(released)) {
            Some((_, ordinal)) => {
                self.reuses.fetch_add(1, Ordering::Release);
                tables.series[ordinal as usize] = entry;
                ordinal
            }
            None => {
                let ordinal =
                    u32::try_from(tables.series.len()).expect("4 G series do not fit in memory");
                tables.series.push(entry);
                ordinal
            }
        };
        let Tables { by_id, series, tenants, .. } = tables;
        by_id.insert_unique(entry.id[0], ordinal, |&other| series[other as usize].id[0]);
        tenants.entry(tenant).or_default().insert(ordinal, labels);
        ordinal
    }

    /// How often an ordinal was given to another series.
    pub(crate) fn reuses(&self) -> u64 {
        self.reuses.load(Ordering::Acquire)
    }
}

/// The series of a head that match a selector.
#[derive(Debug, Clone, Default)]
pub struct HeadSeries {
    ordinals: Vec<u32>,
    labels: Vec<Labels>,
}

impl HeadSeries {
    /// Ordinals, for [`Shard::select`](crate::Shard::select), in ascending order of labels.
    pub fn ordinals(&self) -> &[u32] {
        &self.ordinals
    }

    /// Labels, ascending.
    pub fn labels(&self) -> &[Labels] {
        &self.labels
    }

    pub(crate) fn into_iter(self) -> impl Iterator<Item = (u32, Labels)> {
        self.ordinals.into_iter().zip(self.labels)
    }
}

impl Registry {
    /// The tenant's series that match all of `matchers`, in ascending order of labels.
    pub fn select(&self, tenant: TenantId, matchers: &[Matcher]) -> HeadSeries {
        let tables = self.tables.read();
        let Some(index) = tables.tenants.get(&tenant) else { return HeadSeries::default() };
        let mut found: Vec<(Labels, u32)> =
            index.select(matchers).into_iter().map(|o| (index.labels(o), o)).collect();
        drop(tables);
        found.sort_unstable();
        let (labels, ordinals) = found.into_iter().unzip();
        HeadSeries { ordinals, labels }
    }

    /// Labels of a series; `None` if the ordinal is not in use.
    pub fn labels(&self, ordinal: u32) -> Option<Labels> {
        let tables = self.tables.read();
        let entry = tables.series.get(ordinal as usize).filter(|entry| entry.is_used)?;
        Some(tables.tenants[&entry.tenant].labels(ordinal))
    }

    /// Number of series the tenant has registered.
    pub fn active_series(&self, tenant: TenantId) -> usize {
        self.tables.read().tenants.get(&tenant).map_or(0, MemIndex::series_count)
    }

    /// Tenants that have, or had, series.
    pub fn tenants(&self) -> Vec<TenantId> {
        self.tables.read().tenants.keys().copied().collect()
    }

    /// Shows `visit` the labels of each ordinal, in the order given.
    ///
    /// # Panics
    /// An ordinal that is not in use.
    pub(crate) fn for_each_labels(&self, ordinals: &[u32], mut visit: impl FnMut(u32, Labels)) {
        let tables = self.tables.read();
        for &ordinal in ordinals {
            let tenant = tables.series[ordinal as usize].tenant;
            visit(ordinal, tables.tenants[&tenant].labels(ordinal));
        }
    }

    /// Shows `visit` the tenant of each ordinal, in the order given.
    pub(crate) fn for_each_tenant(&self, ordinals: &[u32], mut visit: impl FnMut(u32, TenantId)) {
        let tables = self.tables.read();
        for &ordinal in ordinals {
            visit(ordinal, tables.series[ordinal as usize].tenant);
        }
    }

    /// Puts ordinals of one tenant in ascending order of labels.
    pub(crate) fn sort_by_labels(&self, ordinals: &mut [u32]) {
        let mut keyed = Vec::with_capacity(ordinals.len());
        self.for_each_labels(ordinals, |ordinal, labels| keyed.push((labels, ordinal)));
        keyed.sort_unstable();
        for (place, (_, ordinal)) in ordinals.iter_mut().zip(keyed) {
            *place = ordinal;
        }
    }

    /// Ordinals whose series were not looked up for `idle_ms`. Those of them that no shard holds
    /// samples of ([`Shard::without_samples`](crate::Shard::without_samples)) may be released.
    pub fn idle(&self, now_ms: i64, idle_ms: i64) -> Vec<u32> {
        let limit = minute(now_ms.saturating_sub(idle_ms));
        let tables = self.tables.read();
        let mut seen: Vec<u32> = tables.series.iter().map(|entry| entry.seen_min).collect();
        for entry in self.cache.read().parts.iter().flatten() {
            let kept = &mut seen[entry.ordinal as usize];
            *kept = (*kept).max(entry.seen_min.load(Ordering::Relaxed));
        }
        let entries = tables.series.iter().zip(seen).enumerate();
        entries
            .filter(|(_, (entry, seen_min))| entry.is_used && *seen_min < limit)
            .map(|(ordinal, _)| ordinal as u32)
            .collect()
    }

    /// Forgets series and gives their ordinals back, except those looked up within `idle_ms`.
    /// Yields how many were released.
    pub fn release(&self, ordinals: &[u32], now_ms: i64, idle_ms: i64) -> usize {
        let limit = minute(now_ms.saturating_sub(idle_ms));
        let mut tables = self.tables.write();
        let mut wanted = vec![false; tables.series.len()];
        for &ordinal in ordinals {
            let place = ordinal as usize;
            wanted[place] = tables.series[place].is_used && tables.series[place].seen_min < limit;
        }
        // No batch is being looked up while the cache is held for writing: what was found before
        // shows in `seen_min`, and what comes later must wait for `tables`.
        let mut cache = self.cache.write();
        for entry in cache.parts.iter().flatten() {
            if entry.seen_min.load(Ordering::Relaxed) >= limit {
                wanted[entry.ordinal as usize] = false;
            }
        }
        for part in &mut cache.parts {
            part.retain(|entry| !wanted[entry.ordinal as usize]);
        }
        drop(cache);
        let mut released = 0;
        for ordinal in (0..wanted.len()).filter(|&ordinal| wanted[ordinal]) {
            tables.release(ordinal as u32, now_ms);
            released += 1;
        }
        released
    }

    /// Bytes of memory held.
    pub fn bytes(&self) -> usize {
        let cache: usize = self.cache.read().parts.iter().map(HashTable::allocation_size).sum();
        let tables = self.tables.read();
        cache
            + tables.by_id.allocation_size()
            + tables.series.capacity() * size_of::<Entry>()
            + tables.tenants.values().map(MemIndex::bytes).sum::<usize>()
    }
}

impl Tables {
    /// The ordinal of a series, or its id if it is not registered.
    fn find(&mut self, tenant: TenantId, labels: &Labels, seen_min: u32) -> Result<u32, SeriesId> {
        let id = SeriesId::of(tenant, labels);
        let halves = [id.0 as u64, (id.0 >> 64) as u64];
        let series = &mut self.series;
        let known = self.by_id.find(halves[0], |&other| series[other as usize].id == halves);
        let ordinal = *known.ok_or(id)?;
        let kept = &mut series[ordinal as usize].seen_min;
        *kept = (*kept).max(seen_min);
        Ok(ordinal)
    }

    fn check_active(&self, tenant: TenantId, limits: &Limits) -> Result<(), String> {
        let active = self.tenants.get(&tenant).map_or(0, MemIndex::series_count);
        if active < limits.max_active_series {
            return Ok(());
        }
        Err(format!(
            "{active} series are active, limits.max_active_series is {}: the new series was not \
             stored; find labels with too many values and drop them at the source, or raise the \
             limit",
            limits.max_active_series
        ))
    }

    fn release(&mut self, ordinal: u32, now_ms: i64) {
        let entry = &mut self.series[ordinal as usize];
        entry.is_used = false;
        let (id, tenant) = (entry.id, entry.tenant);
        if let Ok(known) = self.by_id.find_entry(id[0], |&other| other == ordinal) {
            known.remove();
        }
        if let Some(index) = self.tenants.get_mut(&tenant) {
            index.remove(ordinal);
        }
        self.quarantine.push_back((now_ms, ordinal));
    }
}

impl Cache {
    #[inline]
    fn find(&self, key: u128, seen_min: u32) -> Option<u32> {
        let wanted = split(key);
        let part = &self.parts[part_of(key)];
        let entry = part.find(key as u64, |entry| entry.key == wanted)?;
        if entry.seen_min.load(Ordering::Relaxed) != seen_min {
            entry.seen_min.store(seen_min, Ordering::Relaxed);
        }
        Some(entry.ordinal)
    }

    fn insert(&mut self, tables: &mut Tables, key: u128, ordinal: u32, seen_min: u32) {
        let wanted = split(key);
        let part = &mut self.parts[part_of(key)];
        if part.find(key as u64, |entry| entry.key == wanted).is_some() {
            // Another batch with the same new series was faster.
            return;
        }
        let limit = (tables.series.len() * SPELLINGS / PARTS).max(MIN_PART_LIMIT);
        if part.len() >= limit {
            for entry in part.iter() {
                let kept = &mut tables.series[entry.ordinal as usize].seen_min;
                *kept = (*kept).max(entry.seen_min.load(Ordering::Relaxed));
            }
            part.clear();
        }
        let entry = CacheEntry { key: wanted, ordinal, seen_min: AtomicU32::new(seen_min) };
        part.insert_unique(key as u64, entry, CacheEntry::hash);
    }
}

impl CacheEntry {
    fn hash(&self) -> u64 {
        u64::from(self.key[0]) | u64::from(self.key[1]) << 32
    }
}

fn split(key: u128) -> [u32; 4] {
    [key as u32, (key >> 32) as u32, (key >> 64) as u32, (key >> 96) as u32]
}

fn part_of(key: u128) -> usize {
    // Bits that the table inside the part does not use.
    (key >> 64) as usize % PARTS
}

fn rows_of(series: &SeriesRows) -> std::ops::Range<usize> {
    series.first_row as usize..(series.first_row + series.rows) as usize
}

/// Minutes since the epoch; times before it count as the epoch.
fn minute(t_ms: i64) -> u32 {
    u32::try_from(t_ms / 60_000).unwrap_or(if t_ms < 0 { 0 } else { u32::MAX })
}

/// Counts the rows outside the allowed times, one entry for each of the two reasons.
#[cold]
fn reject_times(
    timestamps: &[i64],
    admission: Admission<'_>,
    newest_ms: i64,
    out: &mut ResolvedBatch,
) {
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
        );
    }
    if old > 0 {
        out.reject(
            "timestamp is older than the retention: the sample would be deleted at once; raise \
             the retention to keep it"
                .to_owned(),
            old,
        );
    }
}
