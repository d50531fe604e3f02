//! What can only be told by looking again: how much came in the last minute, and since when something
//! has been the same.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::Duration;

use catalog::{BrokerId, State};
use parking_lot::Mutex;
use tokio::time::Instant;

use super::told::{CacheReport, OperationReport, StoreReport, TenantLoad};
use crate::TenantRow;

/// How often it is looked.
pub(super) const EVERY: Duration = Duration::from_secs(10);
/// Looks that are kept: what is told is of the time between the oldest and now, a minute.
const KEPT: usize = 6;

/// What a store was asked since the start, and how that ended; whoever starts the broker knows its
/// stores and reads this off their counters.
#[derive(Debug, Clone, Default)]
pub struct StoreCounts {
    /// The tier it serves, which no other has.
    pub store: String,
    /// Where it is, without secrets.
    pub url: String,
    /// By kind of request.
    pub operations: Vec<OperationCounts>,
    /// Chunks read from the cache on the local disk, chunks fetched, and its bytes, if there is one.
    pub cache: Option<CacheReport>,
    /// What of a shared cache is left alone for now, each in words.
    pub away: Vec<String>,
}

/// One kind of request since the start.
#[derive(Debug, Clone, Default)]
pub struct OperationCounts {
    /// The label of the metrics.
    pub operation: &'static str,
    /// Upper bounds of the buckets, milliseconds, ascending.
    pub bounds_ms: &'static [u64],
    /// Requests by bucket, not cumulative; one more than bounds: what took longer than all.
    pub buckets: Vec<u64>,
    /// Requests that failed, by kind of error.
    pub errors: Vec<(&'static str, u64)>,
}

/// One look.
struct Moment {
    at: Instant,
    samples: HashMap<model::TenantName, u64>,
    stores: Vec<StoreCounts>,
}

/// Looks, and what changed between them.
#[derive(Default)]
pub(super) struct Meter {
    moments: Mutex<VecDeque<Moment>>,
    /// For each broker with segments, the first of them and since when, as far as it was looked.
    waiting: Mutex<BTreeMap<BrokerId, (u64, Instant)>>,
}

impl Meter {
    /// Looks.
    pub(super) fn note(&self, tenants: &[TenantRow], stores: Vec<StoreCounts>) {
        let samples = tenants.iter().map(|row| (row.name, row.samples)).collect();
        let mut moments = self.moments.lock();
        if moments.len() == KEPT {
            moments.pop_front();
        }
        moments.push_back(Moment { at: Instant::now(), samples, stores });
    }

    /// Looks at the segments.
    pub(super) fn note_segments(&self, state: &State) {
        let now = Instant::now();
        let mut waiting = self.waiting.lock();
        let first =
            |broker: &catalog::Broker| broker.segments.first_key_value().map(|(seq, _)| *seq);
        let oldest: BTreeMap<BrokerId, u64> =
            state.brokers().filter_map(|(id, broker)| Some((id, first(broker)?))).collect();
        waiting.retain(|id, (seq, _)| oldest.get(id) == Some(seq));
        for (id, seq) in oldest {
            waiting.entry(id).or_insert((seq, now));
        }
    }

    /// For how long, at least, the oldest segment of a broker has waited, milliseconds.
    pub(super) fn waited_ms(&self, broker: BrokerId) -> u64 {
        let waiting = self.waiting.lock();
        waiting.get(&broker).map_or(0, |(_, since)| millis(since.elapsed()))
    }

    /// What tenants bring now, the greatest load first.
    pub(super) fn tenants(&self, rows: &[TenantRow]) -> Vec<TenantLoad> {
        let moments = self.moments.lock();
        let oldest = moments.front().filter(|moment| moment.at.elapsed() >= Duration::from_secs(1));
        let rate = |row: &TenantRow| {
            let oldest = oldest?;
            let before = oldest.samples.get(&row.name).copied().unwrap_or(0);
            Some(row.samples.saturating_sub(before) as f64 / oldest.at.elapsed().as_secs_f64())
        };
        let mut loads: Vec<TenantLoad> = rows
            .iter()
            .map(|row| TenantLoad {
                name: row.name.as_str().to_owned(),
                samples_per_second: rate(row),
                active_series: row.active_series as u64,
                max_active_series: row.max_active_series as u64,
            })
            .collect();
        greatest_first(&mut loads);
        loads
    }

    /// How stores were, from the oldest look to `now`; since the start where there was none.
    pub(super) fn stores(&self, now: &[StoreCounts]) -> Vec<StoreReport> {
        let moments = self.moments.lock();
        let oldest = moments.front();
        now.iter()
            .map(|counts| {
                let before = oldest.and_then(|moment| {
                    moment.stores.iter().find(|before| before.store == counts.store)
                });
                let operation = |of: &OperationCounts| {
                    let before = before.and_then(|before| {
                        before.operations.iter().find(|one| one.operation == of.operation)
                    });
                    of.since(before)
                };
                let operations = counts.operations.iter().map(operation);
                let cache = counts.cache.map(|cache| {
                    let before = before.and_then(|before| before.cache).unwrap_or_default();
                    CacheReport {
                        hits: cache.hits.saturating_sub(before.hits),
                        misses: cache.misses.saturating_sub(before.misses),
                        neighbours: cache.neighbours.saturating_sub(before.neighbours),
                        bytes: cache.bytes,
                    }
                });
                StoreReport {
                    store: counts.store.clone(),
                    url: counts.url.clone(),
                    window_ms: oldest.map_or(0, |moment| millis(moment.at.elapsed())),
                    operations: operations.filter(|told| told.requests > 0).collect(),
                    cache,
                    away: counts.away.clone(),
                }
            })
            .collect()
    }
}

/// By samples, then by series, then by name.
pub(super) fn greatest_first(loads: &mut [TenantLoad]) {
    loads.sort_by(|a, b| {
        let rate = |load: &TenantLoad| load.samples_per_second.unwrap_or(0.0);
        let by_rate = rate(b).total_cmp(&rate(a));
        by_rate.then(b.active_series.cmp(&a.active_series)).then_with(|| a.name.cmp(&b.name))
    });
}

impl OperationCounts {
    fn since(&self, before: Option<&OperationCounts>) -> OperationReport {
        let bucket = |index: usize| {
            let before = before.and_then(|before| before.buckets.get(index)).copied();
            self.buckets[index].saturating_sub(before.unwrap_or(0))
        };
        let buckets: Vec<u64> = (0..self.buckets.len()).map(bucket).collect();
        let requests = buckets.iter().sum();
        let errors = self.errors.iter().filter_map(|(kind, count)| {
            let before = before.and_then(|before| {
                before.errors.iter().find(|(other, _)| other == kind).map(|(_, count)| *count)
            });
            let since = count.saturating_sub(before.unwrap_or(0));
            (since > 0).then(|| ((*kind).to_owned(), since))
        });
        OperationReport {
            operation: self.operation.to_owned(),
            requests,
            p50_ms: quantile(&buckets, self.bounds_ms, requests, 0.5),
            p99_ms: quantile(&buckets, self.bounds_ms, requests, 0.99),
            errors: errors.collect(),
        }
    }
}

/// The bound of the bucket in which the request is that `share` of all are not slower than.
fn quantile(buckets: &[u64], bounds_ms: &[u64], requests: u64, share: f64) -> Option<u64> {
    let wanted = (requests as f64 * share).ceil().max(1.0) as u64;
    let mut count = 0;
    let at = buckets.iter().position(|bucket| {
        count += bucket;
        count >= wanted
    })?;
    bounds_ms.get(at).copied()
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use model::TenantName;

    use super::*;

    fn counts(buckets: [u64; 4], full: u64) -> StoreCounts {
        let put = OperationCounts {
            operation: "put",
            bounds_ms: &[10, 100, 1_000],
            buckets: buckets.to_vec(),
            errors: vec![("full", full), ("late", 0)],
        };
        let (hits, misses, neighbours, bytes) = (10 * full, 2 * full, full, 7);
        let cache = Some(CacheReport { hits, misses, neighbours, bytes });
        let (store, url) = ("truth".to_owned(), "s3://b".to_owned());
        StoreCounts { store, url, operations: vec![put], cache, away: vec!["r:1".to_owned()] }
    }

    fn row(samples: u64) -> TenantRow {
        let (name, active_series, max_active_series) = (TenantName::DEFAULT, 5, 9);
        TenantRow { name, active_series, max_active_series, samples }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_told_is_of_the_last_minute() {
        let meter = Meter::default();
        assert_eq!(meter.tenants(&[row(5)])[0].samples_per_second, None);
        meter.note(&[row(100)], vec![counts([100, 0, 0, 0], 3)]);
        for look in 1..=10 {
            tokio::time::advance(EVERY).await;
            meter.note(&[row(100 + look * 50)], vec![counts([100, 0, 0, 0], 3)]);
        }
        // The oldest look that is kept is 50 s old.
        assert_eq!(meter.tenants(&[row(600)])[0].samples_per_second, Some(5.0));
        let told = meter.stores(&[counts([150, 49, 1, 0], 4)]);
        let put = &told[0].operations[0];
        assert_eq!((put.requests, put.p50_ms, put.p99_ms), (100, Some(10), Some(100)));
        assert_eq!(put.errors, BTreeMap::from([("full".to_owned(), 1)]));
        let cache = CacheReport { hits: 10, misses: 2, neighbours: 1, bytes: 7 };
        assert_eq!(told[0].cache, Some(cache));
        assert_eq!((told[0].window_ms, &*told[0].away), (50_000, &["r:1".to_owned()][..]));
        // Slower than every bound is no number.
        assert_eq!(meter.stores(&[counts([100, 0, 0, 3], 3)])[0].operations[0].p50_ms, None);
        // What was not asked is not told.
        assert!(meter.stores(&[counts([100, 0, 0, 0], 3)])[0].operations.is_empty());
    }
}
