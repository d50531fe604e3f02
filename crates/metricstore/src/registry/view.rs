//! What queries and flushes see of the registry.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use labelindex::{Cardinality, Census, LabelIndex, MemIndex, Parts, Period, Texts};
use model::{Labels, Matcher, TenantId};
use parking_lot::RwLockReadGuard;

use super::order::{self, Orders, UNRANKED};
use super::tables::Tables;
use super::{Registry, UNKNOWN};

/// Stands for the ordinal of a series that has none.
pub(crate) const NOT_REGISTERED: u32 = UNKNOWN;

/// New series are put in order when there is one for so many that are, or at a flush. Until then
/// they are sorted by their labels where they occur.
const ORDERED_PER_FRESH: usize = 64;
/// So few new series are never put in order by a query.
const MIN_FRESH: usize = 256;
/// Series that are counted while none can be registered: some 10 ms.
const COUNTED_AT_ONCE: usize = 1 << 16;

/// The series of a head that match a selector.
#[derive(Debug, Clone, Default)]
pub struct HeadSeries {
    pub(crate) ordinals: Vec<u32>,
}

impl HeadSeries {
    /// Ordinals, for [`Shard::select`](crate::Shard::select).
    pub fn ordinals(&self) -> &[u32] {
        &self.ordinals
    }
}

impl Registry {
    /// The tenant's series that match all of `matchers`.
    pub fn select(&self, tenant: TenantId, matchers: &[Matcher]) -> HeadSeries {
        let tables = self.tables.read();
        let ordinals =
            tables.tenants.get(&tenant).map_or_else(Vec::new, |index| index.select(matchers));
        HeadSeries { ordinals }
    }

    /// Labels of a series; `None` if the ordinal is not in use.
    pub fn labels(&self, ordinal: u32) -> Option<Labels> {
        let tables = self.tables.read();
        Some(tables.tenants.get(&tables.owner(ordinal)?)?.labels(ordinal))
    }

    /// Number of series the tenant has registered.
    pub fn active_series(&self, tenant: TenantId) -> usize {
        self.tables.read().tenants.get(&tenant).map_or(0, MemIndex::series_count)
    }

    /// Number of series that all tenants have registered.
    pub fn all_series(&self) -> usize {
        self.tables.read().tenants.values().map(MemIndex::series_count).sum()
    }

    /// Tenants that have, or had, series, ascending.
    pub fn tenants(&self) -> Vec<TenantId> {
        self.tables.read().tenants.keys().copied().collect()
    }

    /// Where the tenant's series come from; each list has at most `limit` entries.
    pub fn cardinality(&self, tenant: TenantId, limit: usize) -> Cardinality {
        let tables = self.tables.read();
        tables.tenants.get(&tenant).map_or_else(Cardinality::default, |i| i.cardinality(limit))
    }

    /// Counts the tenant's series that have these ordinals. Whoever registers a series meanwhile waits
    /// for a part of them only.
    pub(crate) fn count(
        &self,
        tenant: TenantId,
        ordinals: &[u32],
        census: &mut Census,
        period: Period,
    ) {
        for part in ordinals.chunks(COUNTED_AT_ONCE) {
            if let Some(index) = self.tables.read().tenants.get(&tenant) {
                census.add_head(index, part, period);
            }
        }
    }

    /// Shows `visit` label names, or the values of the label `of`, of the tenant's series that match,
    /// in no order and perhaps more than once. They are copied in parts, and `visit` runs while series
    /// can be registered; only the matchers are evaluated at once.
    pub(crate) fn visit(
        &self,
        tenant: TenantId,
        of: Option<&str>,
        matchers: &[Matcher],
        visit: &mut dyn FnMut(&str),
    ) {
        let (mut parts, mut texts) = (Parts::new(of, matchers), Texts::default());
        loop {
            let is_more = {
                let tables = self.tables.read();
                let Some(index) = tables.tenants.get(&tenant) else { return };
                parts.read(index, &mut texts)
            };
            texts.iter().for_each(&mut *visit);
            if !is_more {
                return;
            }
        }
    }

    /// Shows `visit` the labels of each ordinal, in the order given.
    ///
    /// # Panics
    /// An ordinal that is not in use.
    pub(crate) fn for_each_labels(&self, ordinals: &[u32], mut visit: impl FnMut(u32, Labels)) {
        let tables = self.tables.read();
        for &ordinal in ordinals {
            let owner = tables.owner(ordinal).expect("the ordinal is in use");
            visit(ordinal, tables.tenants[&owner].labels(ordinal));
        }
    }

    /// Shows `visit` the tenant of each ordinal, in the order given.
    pub(crate) fn for_each_tenant(&self, ordinals: &[u32], mut visit: impl FnMut(u32, TenantId)) {
        let tables = self.tables.read();
        for &ordinal in ordinals {
            visit(ordinal, tables.owner(ordinal).expect("the ordinal is in use"));
        }
    }

    /// Puts ordinals of one tenant, all in use, in ascending order of labels.
    pub(crate) fn sort_by_labels(&self, tenant: TenantId, ordinals: &mut [u32]) {
        // Also waits for a query that is about to do it.
        self.order_fresh(tenant);
        let orders = self.orders.read();
        ordinals.sort_unstable_by_key(|&ordinal| orders.ranks.of(ordinal));
    }

    /// Ranks the tenant's new series. What others read is locked for moments only: a million new
    /// series take seconds, in which batches come in and queries begin.
    fn order_fresh(&self, tenant: TenantId) {
        let _ordering = self.ordering.lock();
        let Some(fresh) = self.unordered.lock().remove(&tenant) else { return };
        let sorted = self.orders.read().sorted(tenant);
        let labels_of = |ordinal| self.tables.read().tenants[&tenant].labels(ordinal);
        let sorted = order::with_fresh(sorted, &fresh, labels_of);
        self.orders.write().replace(tenant, sorted);
    }

    /// What a query sees; no ordinal is released while it lasts.
    pub(crate) fn view(&self, tenant: TenantId) -> View<'_> {
        let tolerated = (self.orders.read().len(tenant) / ORDERED_PER_FRESH).max(MIN_FRESH);
        if self.unordered.lock().get(&tenant).map_or(0, Vec::len) > tolerated {
            self.order_fresh(tenant);
        }
        View {
            tenant,
            orders: self.orders.read(),
            tables: self.tables.read(),
            version: RegistryVersion {
                registry: Arc::clone(&self.identity),
                releases: self.releases.load(Ordering::Acquire),
            },
        }
    }

    /// A number that is another one once series came or went.
    pub fn changes(&self) -> u64 {
        let registrations = self.registrations.load(Ordering::Relaxed);
        registrations.wrapping_add(self.releases.load(Ordering::Relaxed))
    }

    /// Bytes of memory held. Some nanoseconds per distinct label pair.
    pub fn bytes(&self) -> usize {
        let orders = self.orders.read().bytes();
        orders + self.tables.read().bytes() + self.cache.read().bytes()
    }
}

/// The series of one tenant at one moment.
pub(crate) struct View<'a> {
    tenant: TenantId,
    orders: RwLockReadGuard<'a, Orders>,
    tables: RwLockReadGuard<'a, Tables>,
    version: RegistryVersion,
}

/// A registry between two releases. What is known about ordinals in one version says nothing in
/// another.
#[derive(Debug, Clone)]
pub(crate) struct RegistryVersion {
    registry: Arc<()>,
    releases: u64,
}

impl PartialEq for RegistryVersion {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.registry, &other.registry) && self.releases == other.releases
    }
}

impl View<'_> {
    /// Which registry it is of, as of which release.
    pub(crate) fn version(&self) -> &RegistryVersion {
        &self.version
    }

    /// The series that match all of `matchers`, ascending.
    pub(crate) fn select(&self, matchers: &[Matcher]) -> Vec<u32> {
        let index = self.tables.tenants.get(&self.tenant);
        index.map_or_else(Vec::new, |index| index.select(matchers))
    }

    /// The ordinal of a series, or [`NOT_REGISTERED`].
    pub(crate) fn ordinal(&self, labels: &Labels) -> u32 {
        self.tables.get(self.tenant, labels).unwrap_or(NOT_REGISTERED)
    }

    /// The labels of an ordinal, unless it was released meanwhile.
    pub(crate) fn labels(&self, ordinal: u32) -> Option<Labels> {
        let is_valid = self.tables.owner(ordinal) == Some(self.tenant);
        is_valid.then(|| self.tables.tenants[&self.tenant].labels(ordinal))
    }

    /// The place of an ordinal in the order of labels, if it is known. Only ranks of ordinals in
    /// use mean something.
    pub(crate) fn rank(&self, ordinal: u32) -> Option<u32> {
        let rank = self.orders.ranks.of(ordinal);
        (rank != UNRANKED).then_some(rank)
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use model::{BestNames, DEFAULT_TENANT, NameSearch, SearchAlgorithm, SearchOrder};

    use super::*;

    fn registry(values: u32) -> Registry {
        let registry = Registry::new(1);
        for number in 0..values {
            let path = format!("/orders/{:08x}", number.wrapping_mul(0x9e37_79b1));
            let labels = Labels::from_pairs([("__name__", "requests"), ("path", &path)]);
            registry.intern(DEFAULT_TENANT, &labels.expect("labels"), 0);
        }
        registry
    }

    /// Series can be registered while somebody looks at names.
    #[test]
    fn no_lock_is_held_while_names_are_looked_at() {
        let registry = registry(10_000);
        let of_requests = Matcher::new("__name__", model::MatchOp::Equal, "requests");
        let of_requests = [of_requests.expect("matcher")];
        for (of, matchers) in [(Some("path"), &[][..]), (Some("path"), &of_requests), (None, &[])] {
            let mut seen = 0;
            registry.visit(DEFAULT_TENANT, of, matchers, &mut |_| {
                assert!(registry.tables.try_write().is_some(), "{of:?} {matchers:?}");
                seen += 1;
            });
            assert_eq!(seen, if of.is_some() { 10_000 } else { 2 });
        }
    }

    /// How long at the longest a series waits to be registered while a million values are scored:
    /// `cargo test --release -p metricstore -- --ignored --nocapture waits_at_the_longest`.
    #[test]
    #[ignore = "a measurement"]
    fn a_new_series_waits_at_the_longest() {
        let registry = registry(1_000_000);
        let search = NameSearch {
            terms: vec!["ord7f3".to_owned()],
            algorithm: SearchAlgorithm::Subsequence,
            threshold: 0.0,
            folds_case: true,
            order: SearchOrder::Score,
            limit: 100,
        };
        let mut waited = Vec::new();
        let took = std::thread::scope(|scope| {
            let searching = scope.spawn(|| {
                let begin = Instant::now();
                let mut best = BestNames::new(&search);
                let mut offer = |name: &str| best.offer(name);
                registry.visit(DEFAULT_TENANT, Some("path"), &[], &mut offer);
                assert_eq!(best.into_found().len(), 100);
                begin.elapsed()
            });
            while !searching.is_finished() {
                std::thread::sleep(Duration::from_micros(200));
                let begin = Instant::now();
                drop(registry.tables.write());
                waited.push(begin.elapsed());
            }
            searching.join().expect("no panic")
        });
        waited.sort_unstable();
        let p99 = waited[waited.len() * 99 / 100];
        eprintln!("search {took:?}; waited: p99 {p99:?}, longest {:?}", waited[waited.len() - 1]);
    }
}
