//! A view of one tenant's data, across heads and blocks; in a cluster, across the heads of all brokers.

mod others;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use blockstore::SegmentName;
use catalog::{BlockId, BlockMeta, Signal, State};
use governor::{Account, Held, Refused};
use metricstore::{
    BlockSource, Cardinality, Census, Deletes, HeadChunks, HeadSnapshot, LabelQuery, MetricError,
    Period, Selected,
};
use model::{
    BestNames, CensusReport, CensusRequest, FoundName, Labels, Limits, Matcher, NameSearch,
    SeriesExemplars, TenantId, TimeRange,
};
use parking_lot::Mutex;

use crate::cluster::{CaughtUp, any, head_labels};
use crate::maintenance::{Damaged, is_damage, words_of_quarantined};
use crate::{Broker, HeadTotals};
use others::Fresh;

/// What a series of the head takes until it is known whether it has samples in the range that is
/// asked for: labels, its place, its rank. Measured: 300 bytes with six labels.
const SERIES_BYTES: usize = 320;
/// Memory of a search is counted in steps of so many bytes.
const HELD_STEP: usize = 64 << 10;
/// Of what a selection lacks, the number of things that are named one by one.
const MOST_TOLD: usize = 100;
/// Names that are scored between two looks at the clock.
const LOOKS_AT_CLOCK_EVERY: u32 = 1_024;

/// Why something could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The store failed, or a limit of it was passed.
    #[error(transparent)]
    Store(#[from] MetricError),
    /// It would take too much memory.
    #[error(transparent)]
    Refused(#[from] Refused),
}

/// What a selector found, and the memory it takes.
pub struct Selection {
    selected: Selected,
    fixed_bytes: usize,
    held: Mutex<Held>,
    window_ms: Option<i64>,
    /// What other brokers gave.
    _fresh: Vec<Held>,
}

impl std::ops::Deref for Selection {
    type Target = Selected;

    fn deref(&self) -> &Selected {
        &self.selected
    }
}

impl Selection {
    /// If there are rollups that fit what was asked for, the length of the windows that
    /// [`Selected::read_rows`] takes.
    pub fn window_ms(&self) -> Option<i64> {
        self.window_ms
    }

    /// Counts what was decompressed by reading so far; to be called after each series.
    ///
    /// # Errors
    /// It is too much.
    pub fn count_decompressed(&self) -> Result<(), Refused> {
        let bytes = self.fixed_bytes + self.selected.decompressed_bytes();
        let mut held = self.held.lock();
        // Other threads may have counted more already.
        if bytes > held.bytes() { held.resize(bytes) } else { Ok(()) }
    }
}

/// Reads what is committed. Each selection is complete: heads are taken first and blocks second,
/// while a flush publishes blocks first and drops heads second. The list of deletes is taken before
/// both, and changes after both. What is past its retention is not there, whether it was removed
/// already or not.
///
/// In a cluster the heads of the other brokers come first of all, and whatever reads waits for them: it
/// is for a thread that may wait. What could not be read of them is told by [`Reader::missing`] after it.
/// One reader is for one query: all that it reads is at least as of its first read, before which the
/// leader is asked once.
pub struct Reader {
    broker: Broker,
    tenant: TenantId,
    account: Arc<Account>,
    /// What answers so far lack, in words.
    lacking: Mutex<BTreeSet<String>>,
    caught_up: CaughtUp,
}

impl Reader {
    /// The limits of its tenant.
    fn limits(&self) -> Arc<Limits> {
        self.broker.limits_of(self.broker.tenant_name(self.tenant).unwrap_or_default())
    }

    pub(crate) fn new(broker: Broker, tenant: TenantId, account: Arc<Account>) -> Self {
        Reader { broker, tenant, account, lacking: Mutex::default(), caught_up: CaughtUp::new() }
    }

    /// The series that match all of `matchers` and may have samples in `range`.
    ///
    /// # Errors
    /// Too many series; too much memory; a damaged block, which is then set aside.
    pub fn select(&self, matchers: &[Matcher], range: TimeRange) -> Result<Selection, ReadError> {
        self.select_windows(matchers, range, 0)
    }

    /// As [`Reader::select`], for a function over ranges that are all made of whole windows of
    /// `window_ms`, as is `range`; 0 if they are not.
    ///
    /// # Errors
    /// As [`Reader::select`].
    pub fn select_windows(
        &self,
        matchers: &[Matcher],
        range: TimeRange,
        window_ms: i64,
    ) -> Result<Selection, ReadError> {
        let range = self.kept(range);
        let fresh = self.fresh_samples(matchers, range)?;
        self.select_beside(fresh, matchers, range, window_ms)
    }

    /// As [`Reader::select`], for tasks: waits for other brokers without a thread, and then reads on this
    /// one.
    ///
    /// # Errors
    /// As [`Reader::select`].
    pub async fn select_in_task(
        &self,
        matchers: &[Matcher],
        range: TimeRange,
    ) -> Result<Selection, ReadError> {
        let range = self.kept(range);
        let fresh = self.ask_for_samples(matchers, range).await?;
        self.select_beside(fresh, matchers, range, 0)
    }

    /// Selects from what this broker has and what others gave.
    fn select_beside(
        &self,
        fresh: Fresh,
        matchers: &[Matcher],
        range: TimeRange,
        window_ms: i64,
    ) -> Result<Selection, ReadError> {
        let inner = &self.broker.inner;
        let deletes = self.hidden(range);
        let series = inner.registry.select(self.tenant, matchers);
        let mut held = self.account.hold(series.ordinals().len() * SERIES_BYTES)?;
        let chunks = inner.shards.select(series.ordinals(), range);
        let copied_bytes: usize = chunks.iter().map(HeadChunks::bytes).sum();
        held.resize(held.bytes() + copied_bytes)?;
        let head = HeadSnapshot { tenant: self.tenant, deletes, series, chunks };
        let mut blocks = self.blocks(range);
        blocks.extend(fresh.blocks);
        let limit = self.limits().max_query_series;
        let fits = |source: &BlockSource| {
            let resolution_ms = source.block.rollup_ms();
            resolution_ms > 0 && window_ms > 0 && window_ms % resolution_ms == 0
        };
        let window_ms = blocks.iter().any(fits).then_some(window_ms);
        let find = if window_ms.is_some() { Selected::with_rollups } else { Selected::new };
        let selected = find(&inner.registry, head, &blocks, matchers, range, limit)
            .inspect_err(|error| self.report(error))?;
        let fixed_bytes = copied_bytes + selected.bytes();
        held.resize(fixed_bytes)?;
        let held = Mutex::new(held);
        Ok(Selection { selected, fixed_bytes, held, window_ms, _fresh: fresh.held })
    }

    /// Sets a block aside that turned out to be damaged. One that could not be read for another
    /// reason, such as too few file handles, stays.
    pub fn report(&self, error: &MetricError) {
        if let MetricError::Block { block, error: fault } = error
            && is_damage(fault)
            && let Ok(number) = block.parse()
        {
            tracing::error!(%error, "a query found a damaged block");
            self.broker.inner.wake.damaged(BlockId(number));
        }
    }

    /// What is missing in `range` because it was damaged, or lacks in what was read so far because another
    /// broker could not be asked, in words; empty if nothing is known to be missing. What was missing when
    /// something was read is told also if it is there again.
    pub fn missing(&self, range: TimeRange) -> Vec<String> {
        let inner = &self.broker.inner;
        // In this order: a block leaves the first list after it came into the second.
        let mut missing = self.of_damaged(&inner.damaged.lock(), range);
        missing.extend(inner.catalog.read(|state| self.lost(state, range)));
        missing.extend(self.lacking());
        BTreeSet::from_iter(missing).into_iter().collect()
    }

    /// Blocks that were taken out here, in words.
    fn of_damaged(&self, damaged: &BTreeMap<BlockId, Damaged>, range: TimeRange) -> Vec<String> {
        let damaged = damaged.values().filter(|damaged| self.concerns(&damaged.meta, range));
        damaged.map(Damaged::words).collect()
    }

    /// What cannot be read as far as the catalog knows, in words.
    fn lost(&self, state: &State, range: TimeRange) -> Vec<String> {
        let blocks = state.quarantined().filter(|meta| self.concerns(meta, range));
        let blocks = blocks.map(words_of_quarantined);
        // Whose rows are in a segment only it says.
        let segments = self.broker.inner.clustered.iter().flat_map(|own| own.missing(state));
        let segments = segments.filter(|(.., segment)| segment.range.overlaps(&range));
        let words = segments.map(|(broker, seq, segment)| {
            let key = SegmentName { broker, epoch: segment.epoch, seq }.key();
            format!(
                "partial answer: segment {seq} of broker {broker} with {} samples of all tenants from \
                 {} to {} ms cannot be read (object {key})",
                segment.rows, segment.range.start_ms, segment.range.end_ms
            )
        });
        blocks.chain(words).collect()
    }

    fn concerns(&self, meta: &BlockMeta, range: TimeRange) -> bool {
        let is_own = (meta.tenant, meta.signal) == (self.tenant, Signal::Metrics);
        is_own && meta.range.overlaps(&range)
    }

    /// Keeps what an answer lacks until somebody asks.
    fn note_lacking(&self, mut lacking: Vec<String>) {
        // Fast path: nothing.
        if lacking.is_empty() {
            return;
        }
        if lacking.len() > MOST_TOLD {
            let more = lacking.len() - MOST_TOLD;
            lacking.truncate(MOST_TOLD);
            lacking.push(format!("partial answer: {more} more blocks or segments cannot be read"));
        }
        self.lacking.lock().extend(lacking);
    }

    /// What answers so far lack, in words.
    pub(crate) fn lacking(&self) -> Vec<String> {
        self.lacking.lock().iter().cloned().collect()
    }

    /// Whether nothing at all is known to be missing, in any range.
    pub(crate) fn misses_nothing(&self) -> bool {
        let inner = &self.broker.inner;
        // In this order, as in `missing`.
        self.lacking.lock().is_empty()
            && !inner.damaged.lock().values().any(|damaged| is_of_samples(&damaged.meta))
            && inner.catalog.read(|state| {
                !state.quarantined().any(is_of_samples)
                    && inner
                        .clustered
                        .as_ref()
                        .is_none_or(|own| own.missing(state).next().is_none())
            })
    }

    /// Names of labels of the series that match any of `selectors`, sorted, at most `limit`. The
    /// head and every block that overlaps `range` count as a whole.
    ///
    /// # Errors
    /// Too much memory; nobody waits for it any more.
    pub fn label_names(
        &self,
        selectors: &[Vec<Matcher>],
        range: TimeRange,
        limit: usize,
    ) -> Result<Vec<String>, ReadError> {
        self.collect(None, selectors, range, limit)
    }

    /// Values of the label `name`, otherwise as [`Reader::label_names`].
    ///
    /// # Errors
    /// As [`Reader::label_names`].
    pub fn label_values(
        &self,
        name: &str,
        selectors: &[Vec<Matcher>],
        range: TimeRange,
        limit: usize,
    ) -> Result<Vec<String>, ReadError> {
        self.collect(Some(name), selectors, range, limit)
    }

    /// The first names of labels that fit `search`, or values of the label `of`, otherwise as
    /// [`Reader::label_names`]. Holds as many as it yields.
    ///
    /// # Errors
    /// Too much memory; nobody waits for it any more.
    pub fn search(
        &self,
        of: Option<&str>,
        selectors: &[Vec<Matcher>],
        range: TimeRange,
        search: &NameSearch,
    ) -> Result<Vec<FoundName>, ReadError> {
        let fresh = self.fresh_names(of, selectors, range, (0, Some(search)))?;
        let mut best = BestNames::new(search);
        fresh.iter().for_each(|name| best.offer(name));
        drop(fresh);
        let mut held = self.account.hold(best.bytes())?;
        let mut refused = None;
        // Those who register series wait meanwhile, also where nobody waits for the answer any more.
        let timeout_ms = self.limits().query_timeout_ms;
        let until = Instant::now() + Duration::from_millis(timeout_ms);
        let mut seen = 0_u32;
        self.each_query(selectors, range, |query| {
            query.visit(of, &mut |text| {
                if refused.is_some() || self.account.is_cancelled() {
                    return;
                }
                seen = seen.wrapping_add(1);
                if seen.is_multiple_of(LOOKS_AT_CLOCK_EVERY) && Instant::now() >= until {
                    refused = Some(Refused::TooLarge(format!(
                        "the search for names took longer than limits.query_timeout_ms, {timeout_ms} ms: \
                         give a selector or a shorter time"
                    )));
                    return;
                }
                best.offer(text);
                if best.bytes() > held.bytes() {
                    refused = held.resize(best.bytes() + HELD_STEP).err();
                }
            });
        });
        if self.account.is_cancelled() {
            return Err(Refused::Cancelled.into());
        }
        refused.map_or_else(|| Ok(best.into_found()), |refused| Err(refused.into()))
    }

    fn collect(
        &self,
        of: Option<&str>,
        selectors: &[Vec<Matcher>],
        range: TimeRange,
        limit: usize,
    ) -> Result<Vec<String>, ReadError> {
        let fresh = self.fresh_names(of, selectors, range, (limit, None))?;
        let mut found: BTreeSet<String> = fresh.into_iter().collect();
        self.each_query(selectors, range, |query| {
            found.extend(of.map_or_else(|| query.names(), |name| query.values(name)));
        });
        Ok(found.into_iter().take(limit).collect())
    }

    /// Shows `ask` what is to be asked for each of `selectors`.
    fn each_query(
        &self,
        selectors: &[Vec<Matcher>],
        range: TimeRange,
        mut ask: impl FnMut(&LabelQuery<'_>),
    ) {
        let inner = &self.broker.inner;
        let range = self.kept(range);
        // Blocks and the head count as a whole.
        let deletes = self.hidden(TimeRange::all());
        let head_range = inner.shards.totals().range;
        // The head first and blocks second, as in `select`.
        let labels =
            || head_labels(&inner.registry, &inner.shards, self.tenant, &deletes, head_range);
        let head = head_range.overlaps(&range).then(labels);
        let blocks = self.blocks(range);
        for matchers in any(selectors) {
            let (head, deletes, blocks) = (head.as_ref(), &deletes, &*blocks);
            ask(&LabelQuery { head, deletes, blocks, matchers, range, limit: 0 });
        }
    }

    /// Label sets of the series that match any of `selectors`, sorted, at most `limit`.
    ///
    /// # Errors
    /// Too many series; too much memory; a damaged block.
    pub fn series(
        &self,
        selectors: &[Vec<Matcher>],
        range: TimeRange,
        limit: usize,
    ) -> Result<Vec<Labels>, ReadError> {
        let most = self.limits().max_query_series;
        let mut all = BTreeSet::new();
        let mut held = self.account.hold(0)?;
        for selector in any(selectors) {
            let selected = self.select(selector, range)?;
            // Labels are shared, so this is for their places.
            held.resize(held.bytes() + 2 * size_of::<Labels>() * selected.len())?;
            all.extend(selected.labels().iter().cloned());
            if all.len() > most {
                return Err(MetricError::TooManySeries { limit: most }.into());
            }
        }
        Ok(all.into_iter().take(limit).collect())
    }

    /// The exemplars in `range`, as far as retention keeps them, of the series that satisfy all
    /// matchers of any of `selectors`; ascending by labels. They lie in memory.
    ///
    /// # Errors
    /// Too much memory; nobody waits for it any more.
    pub fn exemplars(
        &self,
        selectors: &[Vec<Matcher>],
        range: TimeRange,
    ) -> Result<Vec<SeriesExemplars>, ReadError> {
        let start_ms = range.start_ms.max(self.broker.oldest_ms());
        let range = TimeRange::new(start_ms, range.end_ms);
        let fresh = self.fresh_exemplars(selectors, range)?;
        let own = self.broker.inner.exemplars.select(self.tenant, selectors, range);
        Ok(others::unite_exemplars(own, fresh))
    }

    /// Where the series of the heads come from, and how much there is in them; each list has at most
    /// `limit` entries. What the heads of several brokers have counts for each of them.
    ///
    /// # Errors
    /// Too much memory; nobody waits for it any more.
    pub fn cardinality(&self, limit: usize) -> Result<(Cardinality, HeadTotals), ReadError> {
        let fresh = self.fresh_cardinality(limit)?;
        let own = self.broker.inner.registry.cardinality(self.tenant, limit);
        Ok(others::unite_cardinality((own, self.head()), fresh, limit))
    }

    /// Where the series of a time come from, and how that differs from another. A block that overlaps
    /// a range counts as a whole, as for [`Reader::label_names`]; of the head, series with samples in
    /// it. 0.3 to 0.4 µs per series and block, and per series of the head.
    ///
    /// # Errors
    /// Too much memory; nobody waits any more.
    pub fn census(&self, request: &CensusRequest) -> Result<CensusReport, ReadError> {
        let inner = &self.broker.inner;
        let mut census = Census::new(inner.config.hash_seed());
        let mut held = self.account.hold(0)?;
        let periods = [(request.before, Period::Before), (Some(request.range), Period::Now)];
        for (range, period) in periods {
            let Some(range) = range else { continue };
            let range = self.kept(range);
            let fresh = self.fresh_series(&request.selectors, range)?;
            fresh.count(&mut census, period);
            held.resize(census.bytes())?;
            drop(fresh);
            // Blocks count as a whole.
            let deletes = self.hidden(TimeRange::all());
            let head_range = inner.shards.totals().range;
            // The head first and blocks second, as in `select`. A flush in between may put a series
            // into both, which counts once.
            let labels =
                || head_labels(&inner.registry, &inner.shards, self.tenant, &deletes, head_range);
            let head = head_range.overlaps(&range).then(labels);
            for matchers in any(&request.selectors) {
                let series = inner.registry.select(self.tenant, matchers);
                let active = inner.shards.with_samples(series.ordinals(), range);
                let (head, deletes, blocks) = (head.as_ref(), &deletes, &[]);
                let query = LabelQuery { head, deletes, blocks, matchers, range, limit: 0 };
                query.count(&active, &mut census, period);
                held.resize(census.bytes())?;
            }
            // One by one, so that memory is counted and a stop noticed in between.
            for block in self.blocks(range) {
                let blocks = std::slice::from_ref(&block);
                for matchers in any(&request.selectors) {
                    let (head, deletes) = (None, &deletes);
                    let query = LabelQuery { head, deletes, blocks, matchers, range, limit: 0 };
                    query.count(&[], &mut census, period);
                }
                held.resize(census.bytes())?;
            }
        }
        Ok(census.report(request.limit, request.order, request.focus.as_deref()))
    }

    /// Size and range of the head of this broker.
    pub fn head(&self) -> HeadTotals {
        self.broker.inner.shards.totals()
    }

    /// The part of a range that retention keeps.
    fn kept(&self, range: TimeRange) -> TimeRange {
        let start_ms = range.start_ms.max(self.broker.oldest_kept_ms());
        TimeRange::new(start_ms, range.end_ms.max(start_ms))
    }

    /// What deletes and rules of retention hide in a range.
    fn hidden(&self, range: TimeRange) -> Deletes {
        let inner = &self.broker.inner;
        let deletes = inner.deletes.current().0.of_tenant(self.tenant);
        let rules = &self.broker.in_effect().retention_rules;
        // A window that is left as a rollup goes with the first of its samples.
        let window_ms = inner.shards.changes().window_ms();
        let range = TimeRange::new(range.start_ms.saturating_sub(window_ms), range.end_ms);
        rules.with(deletes, self.tenant, range, self.broker.now_ms())
    }

    /// The blocks that can be read; which cannot is noted.
    fn blocks(&self, range: TimeRange) -> Vec<BlockSource> {
        let inner = &self.broker.inner;
        let (blocks, mut lacking) = {
            // Both at one moment: later a block may be there again that is not in this answer.
            let damaged = inner.damaged.lock();
            (inner.blocks.snapshot(), self.of_damaged(&damaged, range))
        };
        // In this order, as in `missing`.
        lacking.extend(inner.catalog.read(|state| self.lost(state, range)));
        self.note_lacking(lacking);
        blocks
            .iter()
            .filter(|open| self.concerns(&open.meta, range))
            .map(|open| BlockSource {
                id: open.meta.id.to_string().into(),
                block: Arc::clone(&open.block),
                deletes_through: open.meta.deletes_through,
            })
            .collect()
    }
}

fn is_of_samples(meta: &BlockMeta) -> bool {
    meta.signal == Signal::Metrics
}
