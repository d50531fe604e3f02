//! What the heads of the other brokers of a cluster give to what is read here. Nothing beside a log.

use std::collections::BTreeMap;
use std::sync::Arc;

use blockstore::{BlockFormat, InMemory};
use catalog::State;
use governor::Held;
use metricstore::{
    BlockSource, Cardinality, Census, Deletes, HeadLabels, LabelQuery, MetricFormat, Period,
    Registry,
};
use model::{DEFAULT_TENANT, Labels, Matcher, NameSearch, SeriesExemplars, TimeRange};
use net::rpc::fresh_request::Ask;
use net::rpc::{
    CardinalityResponse, ExemplarsResponse, FreshExemplars, FreshHead, FreshNames, FreshSamples,
    FreshSeries, LabelsResponse, Selector, SeriesResponse,
};
use parking_lot::Mutex;
use prost::Message;

use super::{ReadError, Reader};
use crate::HeadTotals;
use crate::cluster::{FreshAnswer, Gathered};
use crate::rpc::messages;

/// Samples of other heads, as blocks behind all others.
#[derive(Default)]
pub(super) struct Fresh {
    pub(super) blocks: Vec<BlockSource>,
    /// The memory they take.
    pub(super) held: Vec<Held>,
}

/// Series of other heads.
pub(super) struct FreshLabels {
    registry: Registry,
    ordinals: Vec<u32>,
}

impl FreshLabels {
    /// Counts them, each once however many sources have it.
    pub(super) fn count(&self, census: &mut Census, period: Period) {
        let head = HeadLabels::new(&self.registry, DEFAULT_TENANT);
        let (head, deletes, blocks) = (Some(&head), &Deletes::default(), &[]);
        let (matchers, range) = (&[][..], TimeRange::all());
        let query = LabelQuery { head, deletes, blocks, matchers, range, limit: 0 };
        query.count(&self.ordinals, census, period);
    }
}

fn selectors_of(selectors: &[Vec<Matcher>]) -> Vec<Selector> {
    selectors.iter().map(|one| messages::selector_of(one)).collect()
}

impl Reader {
    /// Asks the other brokers for what they have in `range`, and waits for blocks that they wrote. What
    /// lacks is told afterwards.
    async fn ask(&self, ask: Ask, range: TimeRange) -> Result<Vec<FreshAnswer>, ReadError> {
        let Some(clustered) = &self.broker.inner.clustered else { return Ok(Vec::new()) };
        let time_limit = std::time::Duration::from_millis(self.limits().query_timeout_ms);
        // What the catalog says to be missing may be in a block by the time that blocks are looked at, in
        // one that is not shown here yet.
        let lost = Mutex::default();
        let look = |state: &State| *lost.lock() = self.lost(state, range);
        let known = (&look as _, &self.caught_up);
        let gathered =
            clustered.peers.gather(self.tenant, ask, &self.account, time_limit, known).await?;
        let Gathered { answers, lacking } = gathered;
        self.note_lacking(lost.into_inner());
        self.lacking.lock().extend(lacking);
        Ok(answers)
    }

    /// As [`Reader::ask`], on a thread that may wait. Where there is none, in a simulation, nobody is
    /// asked, and that is told.
    fn wait(
        &self,
        range: TimeRange,
        ask: impl FnOnce() -> Ask,
    ) -> Result<Vec<FreshAnswer>, ReadError> {
        // Fast path: there are no others.
        let Some(clustered) = &self.broker.inner.clustered else { return Ok(Vec::new()) };
        match &clustered.peers.runtime {
            Some(runtime) => runtime.block_on(self.ask(ask(), range)),
            None => {
                let told = "partial answer: the other brokers were not asked".to_owned();
                self.lacking.lock().insert(told);
                Ok(Vec::new())
            }
        }
    }

    /// Finds out what would lack in an answer now.
    pub(crate) async fn look_for_others(&self) {
        let asked = self.ask(Ask::Head(FreshHead { limit: 1 }), TimeRange::new(0, 0)).await;
        if let Err(error) = asked {
            let told = format!("whether something is missing could not be asked: {error}");
            self.lacking.lock().insert(told);
        }
    }

    fn samples(matchers: &[Matcher], range: TimeRange, max_series: usize) -> Ask {
        Ask::Samples(FreshSamples {
            selector: Some(messages::selector_of(matchers)),
            start_ms: range.start_ms,
            end_ms: range.end_ms,
            max_series: max_series as u64,
        })
    }

    pub(super) fn fresh_samples(
        &self,
        matchers: &[Matcher],
        range: TimeRange,
    ) -> Result<Fresh, ReadError> {
        let most = self.limits().max_query_series;
        let answers = self.wait(range, || Self::samples(matchers, range, most))?;
        Ok(self.opened(answers))
    }

    pub(super) async fn ask_for_samples(
        &self,
        matchers: &[Matcher],
        range: TimeRange,
    ) -> Result<Fresh, ReadError> {
        let most = self.limits().max_query_series;
        let answers = self.ask(Self::samples(matchers, range, most), range).await?;
        Ok(self.opened(answers))
    }

    fn opened(&self, answers: Vec<FreshAnswer>) -> Fresh {
        let mut fresh = Fresh::default();
        let format = MetricFormat::new(self.broker.inner.config.hash_seed());
        for FreshAnswer { broker, bytes, deletes_through, held } in answers {
            match format.open(Arc::new(InMemory(bytes))) {
                Ok(block) => {
                    let id = format!("of the heads of broker {broker}").into();
                    let block = Arc::new(block);
                    fresh.blocks.push(BlockSource { id, block, deletes_through });
                    fresh.held.push(held);
                }
                Err(error) => self.malformed(broker, &error),
            }
        }
        fresh
    }

    fn malformed(&self, broker: catalog::BrokerId, error: &dyn std::fmt::Display) {
        tracing::error!(%broker, %error, "the answer of another broker cannot be read");
        self.lacking.lock().insert(format!(
            "partial answer: what broker {broker} has in memory cannot be read here: {error}"
        ));
    }

    fn decoded<M: Message + Default>(&self, answers: Vec<FreshAnswer>) -> Vec<(M, Held)> {
        let mut messages = Vec::with_capacity(answers.len());
        for FreshAnswer { broker, bytes, held, .. } in answers {
            match M::decode(&*bytes) {
                Ok(message) => messages.push((message, held)),
                Err(error) => self.malformed(broker, &error),
            }
        }
        messages
    }

    pub(super) fn fresh_names(
        &self,
        of: Option<&str>,
        selectors: &[Vec<Matcher>],
        range: TimeRange,
        (limit, search): (usize, Option<&NameSearch>),
    ) -> Result<Vec<String>, ReadError> {
        let range = self.kept(range);
        let answers = self.wait(range, || {
            Ask::Names(FreshNames {
                selectors: selectors_of(selectors),
                name: of.unwrap_or_default().to_owned(),
                start_ms: range.start_ms,
                end_ms: range.end_ms,
                search: search.map(messages::search_of),
                limit: if limit == usize::MAX { 0 } else { limit as u64 },
            })
        })?;
        let found = self.decoded::<LabelsResponse>(answers);
        Ok(found.into_iter().flat_map(|(message, _)| message.values).collect())
    }

    pub(super) fn fresh_series(
        &self,
        selectors: &[Vec<Matcher>],
        range: TimeRange,
    ) -> Result<FreshLabels, ReadError> {
        let (start_ms, end_ms) = (range.start_ms, range.end_ms);
        let answers = self.wait(range, || {
            Ask::Series(FreshSeries { selectors: selectors_of(selectors), start_ms, end_ms })
        })?;
        let registry = Registry::new(self.broker.inner.config.hash_seed());
        let mut ordinals = Vec::new();
        for (message, _held) in self.decoded::<SeriesResponse>(answers) {
            let labels = message.labels.iter().filter_map(|packed| messages::labels_of(packed));
            ordinals
                .extend(labels.map(|labels: Labels| registry.intern(DEFAULT_TENANT, &labels, 0)));
        }
        ordinals.sort_unstable();
        ordinals.dedup();
        Ok(FreshLabels { registry, ordinals })
    }

    pub(super) fn fresh_exemplars(
        &self,
        selectors: &[Vec<Matcher>],
        range: TimeRange,
    ) -> Result<Vec<SeriesExemplars>, ReadError> {
        let (start_ms, end_ms) = (range.start_ms, range.end_ms);
        let answers = self.wait(range, || {
            Ask::Exemplars(FreshExemplars { selectors: selectors_of(selectors), start_ms, end_ms })
        })?;
        let found = self.decoded::<ExemplarsResponse>(answers).into_iter();
        Ok(found.flat_map(|(message, _)| messages::exemplars_of(message.series)).collect())
    }

    pub(super) fn fresh_cardinality(
        &self,
        limit: usize,
    ) -> Result<Vec<(Cardinality, HeadTotals)>, ReadError> {
        // Of heads only: blocks are not looked at.
        let answers = self.wait(TimeRange::new(0, 0), || {
            let limit = if limit == usize::MAX { 0 } else { limit as u64 };
            Ask::Head(FreshHead { limit })
        })?;
        let found = self.decoded::<CardinalityResponse>(answers).into_iter();
        Ok(found.map(|(message, _)| messages::cardinality_of(message)).collect())
    }
}

/// Those of each series in one list; one that several brokers have is there once.
pub(super) fn unite_exemplars(
    own: Vec<SeriesExemplars>,
    fresh: Vec<SeriesExemplars>,
) -> Vec<SeriesExemplars> {
    // Fast path: nobody else has any.
    if fresh.is_empty() {
        return own;
    }
    let mut by_labels: BTreeMap<Labels, Vec<model::Exemplar>> = BTreeMap::new();
    for SeriesExemplars { labels, exemplars } in own.into_iter().chain(fresh) {
        by_labels.entry(labels).or_default().extend(exemplars);
    }
    let unite = |(labels, mut exemplars): (Labels, Vec<model::Exemplar>)| {
        exemplars.sort_by(model::Exemplar::order);
        exemplars.dedup_by(|later, earlier| later.repeats(earlier));
        SeriesExemplars { labels, exemplars }
    };
    by_labels.into_iter().map(unite).collect()
}

/// Sums, but for distinct values of a label: of those the most that one broker has, which is what all
/// have together where each has series of all hosts, and at least that.
pub(super) fn unite_cardinality(
    own: (Cardinality, HeadTotals),
    fresh: Vec<(Cardinality, HeadTotals)>,
    limit: usize,
) -> (Cardinality, HeadTotals) {
    // Fast path: nobody else has any.
    if fresh.is_empty() {
        return own;
    }
    let (mut all, mut head) = own;
    let sum = |a: u64, b: u64| a + b;
    for (other, of_head) in fresh {
        all.series += other.series;
        all.label_pairs = all.label_pairs.max(other.label_pairs);
        unite_lists(&mut all.series_by_metric, other.series_by_metric, limit, sum);
        unite_lists(&mut all.series_by_pair, other.series_by_pair, limit, sum);
        unite_lists(&mut all.values_by_label, other.values_by_label, limit, u64::max);
        unite_lists(&mut all.bytes_by_label, other.bytes_by_label, limit, u64::max);
        head.bytes += of_head.bytes;
        head.rows += of_head.rows;
        head.chunks += of_head.chunks;
        head.range = head.range.union(&of_head.range);
    }
    (all, head)
}

fn unite_lists(
    all: &mut Vec<(String, u64)>,
    other: Vec<(String, u64)>,
    limit: usize,
    unite: impl Fn(u64, u64) -> u64,
) {
    let mut by_name: BTreeMap<String, u64> = std::mem::take(all).into_iter().collect();
    for (name, count) in other {
        let known = by_name.entry(name).or_default();
        *known = unite(*known, count);
    }
    all.extend(by_name);
    // The largest first, equals by name.
    all.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    all.truncate(limit);
}
