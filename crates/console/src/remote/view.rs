//! What one request sees of the brokers' data.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use model::{
    BestNames, CensusReport, CensusRequest, FoundName, Labels, Matcher, NameSearch,
    SearchAlgorithm, SearchOrder, SeriesExemplars, TenantName, TimeRange,
};
use net::rpc::name_search::Order;
use net::rpc::{
    self, CardinalityRequest, ChangesRequest, ExemplarsRequest, LabelsRequest, Metadata,
    MetadataRequest, SelectRequest, SeriesRequest,
};
use promql::{SeriesSet, SourceError};
use tonic::{Code, Streaming};

use super::budget::QueryBudget;
use super::fault::Fault;
use super::series::ArrivedSeries;
use super::{Inner, census, exemplars, labels_of, selector_of, state};
use crate::data::{Cardinality, Counted, DataChanges, Snapshot, Work};

/// How often a call that waits looks whether anybody still wants its answer.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// A view of one tenant, for one request. Each selection is complete; the calls block.
pub(super) struct View {
    inner: Arc<Inner>,
    tenant: TenantName,
    work: Work,
    budget: Arc<QueryBudget>,
    selections: AtomicU64,
    /// Whether some selection was told that something is missing, somewhere.
    something_missing: AtomicBool,
}

impl View {
    pub(super) fn new(inner: Arc<Inner>, tenant: TenantName, work: Work) -> Self {
        let budget = inner.budget.query(Arc::clone(&work));
        let (selections, something_missing) = (AtomicU64::new(0), AtomicBool::new(false));
        View { inner, tenant, work, budget, selections, something_missing }
    }

    /// Waits for `work`, on a thread that may block, as long as somebody wants it. What is given up
    /// ends at the broker too.
    fn wait<T>(
        &self,
        work: impl Future<Output = Result<T, SourceError>>,
    ) -> Result<T, SourceError> {
        let time_limit = self.inner.time_limit(self.tenant);
        let unwanted = async {
            while !self.work.is_cancelled() {
                tokio::time::sleep(LOOK_EVERY).await;
            }
        };
        self.inner.runtime.block_on(async {
            tokio::select! {
                biased;
                () = unwanted => Err(SourceError::Cancelled),
                done = tokio::time::timeout(time_limit, work) => {
                    done.unwrap_or_else(|_| Err(SourceError::Unavailable(format!(
                        "the broker did not answer within {} ms; ask for less or raise \
                         limits.query_timeout_ms",
                        time_limit.as_millis()
                    ))))
                }
            }
        })
    }

    /// Of the families in `metrics`, or of all if that is empty. Older brokers tell of all.
    pub(super) fn metadata(&self, metrics: Vec<String>) -> Result<Vec<Metadata>, SourceError> {
        let request = MetadataRequest { tenant: self.tenant.to_string(), metrics };
        self.wait(self.inner.link.call(|mut client| {
            let request = request.clone();
            async move {
                let answer = client.metadata(request).await.map_err(|status| Fault::of(&status))?;
                self.collect(
                    answer.into_inner(),
                    |message| message.metadata,
                    |one| one.metric.len() + one.help.len() + size_of::<Metadata>(),
                )
                .await
            }
        }))
    }

    /// `None` from a broker that does not tell of changes yet.
    pub(super) fn changes(
        &self,
        since: u64,
        within: TimeRange,
    ) -> Result<Option<DataChanges>, SourceError> {
        let TimeRange { start_ms, end_ms } = within;
        let request = ChangesRequest { tenant: self.tenant.to_string(), since, start_ms, end_ms };
        let found = self.wait(self.inner.link.call(|mut client| {
            let request = request.clone();
            async move {
                match client.changes(request).await {
                    Ok(answer) => Ok(Some(answer.into_inner())),
                    Err(status) if status.code() == Code::Unimplemented => Ok(None),
                    Err(status) => Err(Fault::of(&status)),
                }
            }
        }))?;
        let range = |one: &rpc::Change| (TimeRange::new(one.start_ms, one.end_ms), one.number);
        Ok(found.map(|found| DataChanges {
            store: found.store,
            number: found.number,
            at_ms: found.at_ms,
            ranges: found.changes.iter().map(range).collect(),
            kept_ms: found.kept_ms,
        }))
    }

    fn labels(
        &self,
        name: &str,
        selectors: &[Vec<Matcher>],
        range: TimeRange,
        (limit, search): (usize, Option<rpc::NameSearch>),
    ) -> Result<Vec<String>, SourceError> {
        let request = LabelsRequest {
            tenant: self.tenant.to_string(),
            selectors: selectors.iter().map(|one| selector_of(one)).collect(),
            start_ms: range.start_ms,
            end_ms: range.end_ms,
            limit: limit as u64,
            name: name.to_owned(),
            search,
        };
        self.wait(self.inner.link.call(|mut client| {
            let request = request.clone();
            async move {
                let answer = client.labels(request).await.map_err(|status| Fault::of(&status))?;
                self.collect(
                    answer.into_inner(),
                    |message| message.values,
                    |value| value.len() + size_of::<String>(),
                )
                .await
            }
        }))
    }

    /// All of a stream of lists, within the query's budget.
    async fn collect<M, P>(
        &self,
        mut stream: Streaming<M>,
        pieces: impl Fn(M) -> Vec<P>,
        bytes: impl Fn(&P) -> usize,
    ) -> Result<Vec<P>, Fault> {
        let mut held = self.budget.hold();
        let mut all = Vec::new();
        while let Some(message) = stream.message().await.map_err(|status| Fault::of(&status))? {
            let pieces = pieces(message);
            held.grow(pieces.iter().map(&bytes).sum())?;
            all.extend(pieces);
        }
        Ok(all)
    }

    async fn selection(
        &self,
        mut client: rpc::read_client::ReadClient<tonic::transport::Channel>,
        request: SelectRequest,
    ) -> Result<ArrivedSeries, Fault> {
        let answer = client.select(request).await.map_err(|status| Fault::of(&status))?;
        let mut stream = answer.into_inner();
        let mut arrived = ArrivedSeries::new(self.budget.hold());
        while let Some(message) = stream.message().await.map_err(|status| Fault::of(&status))? {
            let bytes = arrived.add(message)?;
            self.inner.counters.received_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        }
        if arrived.is_complete() {
            Ok(arrived)
        } else {
            Err(Fault::Away("the answer ended in the middle".to_owned()))
        }
    }
}

impl promql::Source for View {
    fn select(
        &self,
        request: &promql::SelectRequest<'_>,
    ) -> Result<Arc<dyn SeriesSet>, SourceError> {
        let asked = SelectRequest {
            tenant: self.tenant.to_string(),
            selector: Some(selector_of(request.matchers)),
            start_ms: request.start_ms,
            end_ms: request.end_ms,
            max_series: self.inner.limits(self.tenant).max_query_series as u64,
            with_starts: request.hints.starts,
        };
        let work = self.inner.link.call(|client| self.selection(client, asked.clone()));
        let arrived = self.wait(work)?;
        self.selections.fetch_add(1, Ordering::Relaxed);
        if !arrived.nothing_missing() {
            self.something_missing.store(true, Ordering::Relaxed);
        }
        Ok(Arc::new(arrived))
    }
}

impl Snapshot for View {
    fn label_names(
        &self,
        selectors: &[Vec<Matcher>],
        range: TimeRange,
        limit: usize,
    ) -> Result<Vec<String>, SourceError> {
        self.labels("", selectors, range, (limit, None))
    }

    fn label_values(
        &self,
        name: &str,
        selectors: &[Vec<Matcher>],
        range: TimeRange,
        limit: usize,
    ) -> Result<Vec<String>, SourceError> {
        self.labels(name, selectors, range, (limit, None))
    }

    fn search(
        &self,
        of: Option<&str>,
        selectors: &[Vec<Matcher>],
        range: TimeRange,
        search: &NameSearch,
    ) -> Result<Vec<FoundName>, SourceError> {
        let order = match search.order {
            SearchOrder::Ascending => Order::Ascending,
            SearchOrder::Descending => Order::Descending,
            SearchOrder::Score => Order::Score,
        };
        let asked = rpc::NameSearch {
            terms: search.terms.clone(),
            by_similarity: search.algorithm == SearchAlgorithm::JaroWinkler,
            threshold: search.threshold,
            folds_case: search.folds_case,
            order: order.into(),
            limit: search.limit as u64,
        };
        // A broker that does not know the search yields all, so there is no limit besides; and only
        // names come, which are scored here again.
        let names = self.labels(of.unwrap_or_default(), selectors, range, (0, Some(asked)))?;
        let mut best = BestNames::new(search);
        names.iter().for_each(|name| best.offer(name));
        Ok(best.into_found())
    }

    fn series(
        &self,
        selectors: &[Vec<Matcher>],
        range: TimeRange,
        limit: usize,
    ) -> Result<Vec<Labels>, SourceError> {
        let request = SeriesRequest {
            tenant: self.tenant.to_string(),
            selectors: selectors.iter().map(|one| selector_of(one)).collect(),
            start_ms: range.start_ms,
            end_ms: range.end_ms,
            limit: limit as u64,
        };
        let found = self.wait(self.inner.link.call(|mut client| {
            let request = request.clone();
            async move {
                let answer = client.series(request).await.map_err(|status| Fault::of(&status))?;
                self.collect(
                    answer.into_inner(),
                    |message| message.labels,
                    |labels| 2 * labels.len() + size_of::<Labels>(),
                )
                .await
            }
        }))?;
        found.iter().map(labels_of).collect()
    }

    fn exemplars(
        &self,
        selectors: &[Vec<Matcher>],
        range: TimeRange,
    ) -> Result<Vec<SeriesExemplars>, SourceError> {
        let request = ExemplarsRequest {
            tenant: self.tenant.to_string(),
            selectors: selectors.iter().map(|one| selector_of(one)).collect(),
            start_ms: range.start_ms,
            end_ms: range.end_ms,
        };
        let found = self.wait(self.inner.link.call(|mut client| {
            let request = request.clone();
            async move {
                let answer =
                    client.exemplars(request).await.map_err(|status| Fault::of(&status))?;
                let parts = |message: rpc::ExemplarsResponse| message.series;
                self.collect(answer.into_inner(), parts, exemplars::bytes).await
            }
        }))?;
        exemplars::arrived(found)
    }

    fn missing(&self, range: TimeRange) -> Vec<String> {
        let was_told = self.selections.load(Ordering::Relaxed) > 0;
        if was_told && !self.something_missing.load(Ordering::Relaxed) {
            return Vec::new();
        }
        let last_ms = range.end_ms.saturating_sub(1);
        match self.wait(state::ask(&self.inner, self.tenant, range.start_ms, last_ms)) {
            Ok(state) => state.missing,
            Err(error) => vec![format!("whether something is missing could not be asked: {error}")],
        }
    }

    fn census(&self, request: &CensusRequest) -> Result<CensusReport, SourceError> {
        let before = request.before.unwrap_or(TimeRange::new(0, 0));
        let asked = rpc::CensusRequest {
            tenant: self.tenant.to_string(),
            selectors: request.selectors.iter().map(|one| selector_of(one)).collect(),
            start_ms: request.range.start_ms,
            end_ms: request.range.end_ms,
            before_start_ms: before.start_ms,
            before_end_ms: before.end_ms,
            limit: request.limit as u64,
            order: census::order(request.order).into(),
            focus: request.focus.clone().unwrap_or_default(),
        };
        let found = self.wait(self.inner.link.call(|mut client| {
            let asked = asked.clone();
            async move {
                let answer = client.census(asked).await;
                answer.map(tonic::Response::into_inner).map_err(|status| Fault::of(&status))
            }
        }))?;
        Ok(census::arrived(found))
    }

    fn cardinality(&self, limit: usize) -> Result<Cardinality, SourceError> {
        let found = self.wait(self.inner.link.call(|mut client| async move {
            let request =
                CardinalityRequest { tenant: self.tenant.to_string(), limit: limit as u64 };
            let answer = client.cardinality(request).await;
            answer.map(tonic::Response::into_inner).map_err(|status| Fault::of(&status))
        }))?;
        let counted = |list: Vec<rpc::Counted>| -> Vec<Counted> {
            list.into_iter().map(|one| (one.name, one.count)).collect()
        };
        Ok(Cardinality {
            series: found.series,
            label_pairs: found.label_pairs,
            chunks: found.chunks,
            min_time_ms: found.min_time_ms,
            max_time_ms: found.max_time_ms,
            series_by_metric: counted(found.series_by_metric),
            values_by_label: counted(found.values_by_label),
            bytes_by_label: counted(found.bytes_by_label),
            series_by_pair: counted(found.series_by_pair),
        })
    }
}
