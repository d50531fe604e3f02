//! Range queries of which some steps are known already.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use model::TimeRange;
use net::ApiError;
use promql::{EvalTime, QueryOutput, QueryStats, QueryValue, locality, selectors_of};

use super::{Executor, Job, Session};
use crate::cache::{Extent, Key, Lookup, Piece, Version, Wanted, join};
use crate::counted::QueryData;
use crate::data::DataChanges;
use crate::respond::source_error;

impl Executor {
    /// The steps that `job` wants, if their results may be kept.
    pub(super) fn keepable(&self, job: &Job) -> Option<(Key, Wanted)> {
        let EvalTime::Range { start_ms, end_ms, step_ms } = job.time else { return None };
        // What looks at no data is computed faster than found. A result that is measured is computed.
        if !self.cache.is_on() || job.is_measured || !job.may_be_kept {
            return None;
        }
        // One step alone may be answered from longer windows of rollups than among others.
        let has_steps = step_ms > 0 && end_ms.saturating_sub(start_ms) >= step_ms;
        if !has_steps || selectors_of(&job.expr).is_empty() {
            return None;
        }
        let locality = locality(&job.expr, step_ms, job.lookback_ms)?;
        let key = Key {
            tenant: job.asked.tenant,
            text: job.asked.text.clone(),
            step_ms,
            phase_ms: start_ms.rem_euclid(step_ms),
            lookback_ms: job.lookback_ms,
        };
        Some((key, Wanted::new((start_ms, end_ms, step_ms), locality)))
    }

    /// The extents that are there, and what changed since they were made. `None` if the data does not
    /// tell of changes.
    pub(super) fn look(
        &self,
        data: &QueryData,
        (key, wanted): &(Key, Wanted),
    ) -> Result<Option<Lookup>, ApiError> {
        let extents = self.cache.get(key, wanted.start_ms, wanted.end_ms);
        let since = extents.iter().map(|extent| extent.version.number).min().unwrap_or(u64::MAX);
        // Before the snapshot, so that whatever it may lack is told of when the result is used.
        let changes = data.changes(since, wanted.reach(&extents));
        let Some(changes) = changes.map_err(source_error)? else { return Ok(None) };
        let looked = wanted.look(&extents, &changes, self.newest_ms(&changes, wanted));
        self.cache.count_invalid(looked.invalid_steps);
        Ok(Some(looked))
    }

    /// Whether what was read since came from the broker that told of changes, and not from another one
    /// that took its place.
    fn is_same_store(&self, data: &QueryData, version: Version) -> bool {
        let nothing = TimeRange::new(0, 0);
        let now = data.changes(u64::MAX, nothing);
        now.is_ok_and(|now| now.is_some_and(|now| now.store == version.store))
    }

    /// The newest step whose samples are all old enough.
    fn newest_ms(&self, changes: &DataChanges, wanted: &Wanted) -> i64 {
        let newest_ms = changes.at_ms.saturating_sub(self.cache.recent_ms());
        newest_ms.saturating_sub(wanted.locality.ahead_ms)
    }

    /// Computes what is not there, keeps what may be kept, and joins both.
    pub(super) fn complete(
        &self,
        (session, data): (&Session<'_>, &QueryData),
        (key, wanted): (Key, Wanted),
        looked: Lookup,
    ) -> Result<QueryOutput, ApiError> {
        let Lookup { found, gaps, holding, version, .. } = looked;
        let (mut pieces, mut kept) = (found, holding);
        let steps = |start_ms: i64, end_ms: i64| (end_ms - start_ms) / wanted.step_ms + 1;
        let found: i64 = pieces.iter().map(|piece| steps(piece.start_ms, piece.end_ms)).sum();
        let mut stats = QueryStats::default();
        let mut has_new = false;
        for (start_ms, end_ms, may_be_kept) in gaps {
            // So one step is computed with the one before it.
            let is_alone = start_ms == end_ms;
            let from_ms = if is_alone { start_ms - wanted.step_ms } else { start_ms };
            let time = EvalTime::Range { start_ms: from_ms, end_ms, step_ms: wanted.step_ms };
            let QueryOutput { value, annotations, stats: took, .. } = session.evaluate(time)?;
            let QueryValue::Matrix(series) = value else { unreachable!("a range yields a matrix") };
            stats.samples_read += took.samples_read;
            stats.series_selected += took.series_selected;
            stats.peak_samples = stats.peak_samples.max(took.peak_samples);
            let adds_up = annotations.iter().all(|note| !note.is_summary);
            let mut extent = Extent::new((start_ms, end_ms), series, annotations, version);
            if is_alone {
                extent = Extent::joined(&[extent], i64::MIN);
            }
            pieces.push(extent.piece(start_ms, end_ms));
            if may_be_kept && adds_up {
                has_new = true;
                kept.push(extent);
            }
        }
        let counters = &self.cache.counters;
        let counter = if found > 0 { &counters.hits } else { &counters.misses };
        counter.fetch_add(1, Ordering::Relaxed);
        counters.hit_steps.fetch_add(found as u64, Ordering::Relaxed);
        counters.missed_steps.fetch_add((wanted.steps() - found) as u64, Ordering::Relaxed);
        // What is damaged now may be whole again later, and a part of an answer is none.
        if has_new && !session.source.lacks_something() && self.is_same_store(data, version) {
            let asked_ms = wanted.end_ms - wanted.start_ms;
            self.cache.put(key, wanted.step_ms, kept, asked_ms);
        }
        let (series, annotations) = joined(pieces);
        Ok(QueryOutput { value: QueryValue::Matrix(series), annotations, stats, profile: None })
    }
}

/// As [`join`], without copying a result that is computed as a whole.
fn joined(mut pieces: Vec<Piece>) -> (Vec<promql::RangeSeries>, Vec<promql::Annotation>) {
    pieces.sort_by_key(|piece| piece.start_ms);
    if pieces.len() == 1
        && let Some(Piece { series, annotations, start_ms, end_ms }) = pieces.pop()
    {
        match (Arc::try_unwrap(series), Arc::try_unwrap(annotations)) {
            (Ok(series), Ok(annotations)) => return (series, annotations),
            (series, annotations) => {
                let series = series.map_or_else(|shared| shared, Arc::new);
                let annotations = annotations.map_or_else(|shared| shared, Arc::new);
                pieces.push(Piece { series, annotations, start_ms, end_ms });
            }
        }
    }
    join(&pieces)
}
