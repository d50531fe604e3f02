//! What one request sees of one cluster's data. Nothing here blocks; [`super::view`] waits.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use model::{
    CensusReport, CensusRequest, Labels, Matcher, NameSearch, SearchAlgorithm, SearchOrder,
    SeriesExemplars, TenantName, TimeRange,
};
use net::rpc::name_search::Order;
use net::rpc::{
    self, CardinalityRequest, ChangesRequest, ExemplarsRequest, LabelsRequest, Metadata,
    MetadataRequest, SelectRequest, SeriesRequest,
};
use parking_lot::Mutex;
use promql::SourceError;
use tonic::{Code, Streaming};

use super::budget::QueryBudget;
use super::fault::Fault;
use super::link::Client;
use super::series::ArrivedSeries;
use super::{Cluster, census, exemplars, labels_of, selector_of, state};
use crate::data::{Cardinality, Counted, DataChanges};

/// A cluster, for one request of one tenant. Each selection is complete.
pub(super) struct Part {
    pub(super) cluster: Arc<Cluster>,
    tenant: TenantName,
    budget: Arc<QueryBudget>,
    selections: AtomicU64,
    /// Whether some selection was told that something is missing, somewhere.
    something_missing: AtomicBool,
    /// What some answer lacks, in words.
    told_missing: Mutex<BTreeSet<String>>,
    /// Why it could not be asked, from then on.
    away: Mutex<Option<String>>,
}

impl Part {
    pub(super) fn new(cluster: Arc<Cluster>, tenant: TenantName, budget: Arc<QueryBudget>) -> Self {
        let (selections, something_missing) = (AtomicU64::new(0), AtomicBool::new(false));
        let (told_missing, away) = (Mutex::default(), Mutex::default());
        Part { cluster, tenant, budget, selections, something_missing, told_missing, away }
    }

    /// Why the cluster could not be asked, if some call of this request found that it cannot. It is not
    /// asked again: of two selections of a query both are to be of the same clusters.
    pub(super) fn away(&self) -> Option<String> {
        self.away.lock().clone()
    }

    pub(super) fn note_away(&self, words: String) {
        self.away.lock().get_or_insert(words);
    }

    /// Of the families in `metrics`, or of all if that is empty. Older brokers tell of all.
    pub(super) async fn metadata(&self, metrics: &[String]) -> Result<Vec<Metadata>, SourceError> {
        let request =
            MetadataRequest { tenant: self.tenant.to_string(), metrics: metrics.to_vec() };
        self.cluster
            .link
            .call(|mut client| {
                let request = request.clone();
                async move {
                    let answer =
                        client.metadata(request).await.map_err(|status| Fault::of(&status))?;
                    self.collect(
                        answer.into_inner(),
                        |message| message.metadata,
                        |one| one.metric.len() + one.help.len() + size_of::<Metadata>(),
                    )
                    .await
                }
            })
            .await
    }

    /// `None` from a broker that does not tell of changes yet.
    pub(super) async fn changes(
        &self,
        since: u64,
        within: TimeRange,
    ) -> Result<Option<DataChanges>, SourceError> {
        let TimeRange { start_ms, end_ms } = within;
        let request = ChangesRequest { tenant: self.tenant.to_string(), since, start_ms, end_ms };
        let asked = self.cluster.link.call_noted(|mut client| {
            let request = request.clone();
            async move {
                match client.changes(request).await {
                    Ok(answer) => Ok(Some(answer.into_inner())),
                    Err(status) if status.code() == Code::Unimplemented => Ok(None),
                    Err(status) => Err(Fault::of(&status)),
                }
            }
        });
        let (found, answering) = asked.await?;
        let range = |one: &rpc::Change| (TimeRange::new(one.start_ms, one.end_ms), one.number);
        Ok(found.map(|found| DataChanges {
            // Also where one and the same broker told before and after another one took its place.
            store: found.store ^ answering.wrapping_mul(0x9e37_79b9_7f4a_7c15),
            number: found.number,
            at_ms: found.at_ms,
            ranges: found.changes.iter().map(range).collect(),
            kept_ms: found.kept_ms,
        }))
    }

    /// Names of labels if `name` is empty.
    pub(super) async fn labels(
        &self,
        name: &str,
        selectors: &[Vec<Matcher>],
        range: TimeRange,
        limit: usize,
        search: Option<rpc::NameSearch>,
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
        self.cluster
            .link
            .call(|mut client| {
                let request = request.clone();
                async move {
                    let answer =
                        client.labels(request).await.map_err(|status| Fault::of(&status))?;
                    self.collect(
                        answer.into_inner(),
                        |message| {
                            self.told_missing.lock().extend(message.missing);
                            message.values
                        },
                        |value| value.len() + size_of::<String>(),
                    )
                    .await
                }
            })
            .await
    }

    pub(super) async fn series(
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
        let asked = self.cluster.link.call(|mut client| {
            let request = request.clone();
            async move {
                let answer = client.series(request).await.map_err(|status| Fault::of(&status))?;
                self.collect(
                    answer.into_inner(),
                    |message| {
                        self.told_missing.lock().extend(message.missing);
                        message.labels
                    },
                    |labels| 2 * labels.len() + size_of::<Labels>(),
                )
                .await
            }
        });
        asked.await?.iter().map(labels_of).collect()
    }

    pub(super) async fn exemplars(
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
        let asked = self.cluster.link.call(|mut client| {
            let request = request.clone();
            async move {
                let answer =
                    client.exemplars(request).await.map_err(|status| Fault::of(&status))?;
                let parts = |message: rpc::ExemplarsResponse| {
                    self.told_missing.lock().extend(message.missing);
                    message.series
                };
                self.collect(answer.into_inner(), parts, exemplars::bytes).await
            }
        });
        exemplars::arrived(asked.await?)
    }

    pub(super) async fn select(
        &self,
        matchers: &[Matcher],
        request: &promql::SelectRequest<'_>,
    ) -> Result<ArrivedSeries, SourceError> {
        let asked = SelectRequest {
            tenant: self.tenant.to_string(),
            selector: Some(selector_of(matchers)),
            start_ms: request.start_ms,
            end_ms: request.end_ms,
            max_series: self.cluster.shared.limits(self.tenant).max_query_series as u64,
            with_starts: request.hints.starts,
        };
        let mut arrived =
            self.cluster.link.call(|client| self.selection(client, asked.clone())).await?;
        self.told_missing.lock().extend(arrived.take_missing());
        self.selections.fetch_add(1, Ordering::Relaxed);
        if !arrived.nothing_missing() {
            self.something_missing.store(true, Ordering::Relaxed);
        }
        Ok(arrived)
    }

    async fn selection(
        &self,
        mut client: Client,
        request: SelectRequest,
    ) -> Result<ArrivedSeries, Fault> {
        let answer = client.select(request).await.map_err(|status| Fault::of(&status))?;
        let mut stream = answer.into_inner();
        let mut arrived = ArrivedSeries::new(self.budget.hold());
        while let Some(message) = stream.message().await.map_err(|status| Fault::of(&status))? {
            let bytes = arrived.add(message)?;
            let counters = &self.cluster.shared.counters;
            counters.received_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        }
        if arrived.is_complete() {
            Ok(arrived)
        } else {
            Err(Fault::Away("the answer ended in the middle".to_owned()))
        }
    }

    /// Whether all selections were told that nothing is missing; `false` if there was none.
    pub(super) fn misses_nothing(&self) -> bool {
        let was_told = self.selections.load(Ordering::Relaxed) > 0;
        was_told && !self.something_missing.load(Ordering::Relaxed)
    }

    /// What is missing in `range`, in words.
    pub(super) async fn missing(&self, range: TimeRange) -> Result<Vec<String>, SourceError> {
        let last_ms = range.end_ms.saturating_sub(1);
        let told = state::ask(&self.cluster, self.tenant, range.start_ms, last_ms).await?;
        let mut missing = self.told_missing.lock().clone();
        missing.extend(told.missing);
        Ok(missing.into_iter().collect())
    }

    pub(super) async fn census(
        &self,
        selectors: &[Vec<Matcher>],
        request: &CensusRequest,
    ) -> Result<CensusReport, SourceError> {
        let before = request.before.unwrap_or(TimeRange::new(0, 0));
        let asked = rpc::CensusRequest {
            tenant: self.tenant.to_string(),
            selectors: selectors.iter().map(|one| selector_of(one)).collect(),
            start_ms: request.range.start_ms,
            end_ms: request.range.end_ms,
            before_start_ms: before.start_ms,
            before_end_ms: before.end_ms,
            limit: request.limit as u64,
            order: census::order(request.order).into(),
            focus: request.focus.clone().unwrap_or_default(),
        };
        let asked = self.cluster.link.call(|mut client| {
            let asked = asked.clone();
            async move {
                let answer = client.census(asked).await;
                answer.map(tonic::Response::into_inner).map_err(|status| Fault::of(&status))
            }
        });
        let mut found = asked.await?;
        self.told_missing.lock().extend(std::mem::take(&mut found.missing));
        Ok(census::arrived(found))
    }

    pub(super) async fn cardinality(&self, limit: usize) -> Result<Cardinality, SourceError> {
        let asked = self.cluster.link.call(|mut client| async move {
            let request =
                CardinalityRequest { tenant: self.tenant.to_string(), limit: limit as u64 };
            let answer = client.cardinality(request).await;
            answer.map(tonic::Response::into_inner).map_err(|status| Fault::of(&status))
        });
        let found = asked.await?;
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
}

/// A search as a broker is asked for it.
pub(super) fn asked(search: &NameSearch) -> rpc::NameSearch {
    let order = match search.order {
        SearchOrder::Ascending => Order::Ascending,
        SearchOrder::Descending => Order::Descending,
        SearchOrder::Score => Order::Score,
    };
    rpc::NameSearch {
        terms: search.terms.clone(),
        by_similarity: search.algorithm == SearchAlgorithm::JaroWinkler,
        threshold: search.threshold,
        folds_case: search.folds_case,
        order: order.into(),
        limit: search.limit as u64,
    }
}
