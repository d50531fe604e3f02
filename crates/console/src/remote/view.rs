//! What one request sees of the data of all clusters, which are asked at once.
//!
//! A cluster that is away does not make a request fail as long as there is another one: the answer is of
//! those that are there, and says which one is missing.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{join_all, ready};
use model::{
    BestNames, CensusReport, CensusRequest, FoundName, Labels, Matcher, MetricMetadata, MetricType,
    NameSearch, SeriesExemplars, TenantName, TimeRange,
};
use promql::{SeriesSet, SourceError};

use super::budget::QueryBudget;
use super::fault::named;
use super::label::{ClusterLabel, left_of_all};
use super::merged::MergedSeries;
use super::part::{Part, asked};
use super::series::ArrivedSeries;
use super::{Inner, lists};
use crate::data::{Cardinality, DataChanges, Snapshot, Work};

/// How often a call that waits looks whether anybody still wants its answer.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// A view of one tenant, for one request. The calls block.
pub(super) struct View {
    inner: Arc<Inner>,
    tenant: TenantName,
    work: Work,
    budget: Arc<QueryBudget>,
    parts: Vec<Part>,
}

/// What a cluster found, with the label that tells it apart.
type Found<T> = (T, Option<ClusterLabel>);

impl View {
    pub(super) fn new(inner: Arc<Inner>, tenant: TenantName, work: Work) -> Self {
        // One for all: what a query may hold it may hold of all clusters together.
        let budget = inner.shared.budget.query(Arc::clone(&work));
        let part = |cluster| Part::new(Arc::clone(cluster), tenant, Arc::clone(&budget));
        let parts = inner.clusters.iter().map(part).collect();
        View { inner, tenant, work, budget, parts }
    }

    /// Waits, on a thread that may block, as long as somebody wants it. What is given up ends at the
    /// brokers too.
    fn wait<T>(&self, work: impl Future<Output = T>) -> Result<T, SourceError> {
        let unwanted = async {
            while !self.work.is_cancelled() {
                tokio::time::sleep(LOOK_EVERY).await;
            }
        };
        self.inner.shared.runtime.block_on(async {
            tokio::select! {
                biased;
                () = unwanted => Err(SourceError::Cancelled),
                done = work => Ok(done),
            }
        })
    }

    /// What `ask` finds at each cluster that is there, in their order.
    ///
    /// # Errors
    /// None is there, or one says that it cannot be done.
    fn each<'a, T, A>(&'a self, ask: impl Fn(&'a Part) -> A) -> Result<Vec<Found<T>>, SourceError>
    where
        A: Future<Output = Result<T, SourceError>>,
    {
        let limit = self.inner.shared.time_limit(self.tenant);
        let in_time = |part: &'a Part| {
            let asked = ask(part);
            async move {
                // Made here, where there is a runtime.
                let asked = tokio::time::timeout(limit, asked);
                let late = |_| {
                    Err(SourceError::Unavailable(format!(
                        "the broker did not answer within {} ms; ask for less or raise \
                         limits.query_timeout_ms",
                        limit.as_millis()
                    )))
                };
                (part, asked.await.unwrap_or_else(late))
            }
        };
        let there = self.parts.iter().filter(|part| part.away().is_none());
        let answers = self.wait(join_all(there.map(in_time)))?;
        let mut found = Vec::with_capacity(answers.len());
        for (part, answer) in answers {
            match answer {
                Ok(answer) => found.push((answer, part.cluster.label.clone())),
                // The only one is asked again by the next call.
                Err(error) if self.parts.len() == 1 => {
                    return Err(named(&part.cluster.name, error));
                }
                Err(SourceError::Unavailable(words)) => part.note_away(words),
                Err(error) => return Err(named(&part.cluster.name, error)),
            }
        }
        if found.is_empty() {
            let away =
                |part: &Part| part.away().map(|words| format!("{}: {words}", part.cluster.name));
            let away: Vec<String> = self.parts.iter().filter_map(away).collect();
            let words = format!("no cluster answers; {}", away.join("; "));
            return Err(SourceError::Unavailable(words));
        }
        Ok(found)
    }

    /// As [`View::each`], with what of `selectors` is left for the cluster. `none` is what one finds
    /// whose series satisfy none.
    fn each_selecting<'a, T, A>(
        &'a self,
        selectors: &[Vec<Matcher>],
        none: impl Fn() -> T,
        ask: impl Fn(&'a Part, Vec<Vec<Matcher>>) -> A,
    ) -> Result<Vec<Found<T>>, SourceError>
    where
        A: Future<Output = Result<T, SourceError>>,
    {
        self.each(|part| match left_of_all(part.cluster.label.as_ref(), selectors) {
            Some(left) => ask(part, left).left_future(),
            None => ready(Ok(none())).right_future(),
        })
    }

    /// The label by which clusters are told apart, if `name` is it.
    fn is_cluster_label(&self, name: &str) -> bool {
        self.inner.cluster_label.as_deref() == Some(name)
    }

    /// Names of clusters with series, which are the values of their label.
    fn clusters_with_series(
        &self,
        selectors: &[Vec<Matcher>],
        range: TimeRange,
    ) -> Result<Vec<String>, SourceError> {
        // Every series has some label.
        let found = self.each_selecting(selectors, Vec::new, |part, left| async move {
            part.labels("", &left, range, 1, None).await
        })?;
        let has_series = found.into_iter().filter(|(names, _)| !names.is_empty());
        Ok(has_series.filter_map(|(_, label)| Some(label?.value)).collect())
    }

    /// What the clusters know of the families in `metrics`, or of all if that is empty.
    pub(super) fn metadata(&self, metrics: &[String]) -> Result<Vec<MetricMetadata>, SourceError> {
        let found = self.each(|part| part.metadata(metrics))?;
        let kind = |word: &str| MetricType::from_word(word).unwrap_or_default();
        let family = |one: net::rpc::Metadata| MetricMetadata {
            metric: one.metric,
            kind: kind(&one.kind),
            help: one.help,
            unit: one.unit,
        };
        let lists = found.into_iter().map(|(list, _)| list.into_iter().map(family).collect());
        Ok(lists::families(lists.collect()))
    }

    /// `None` if some cluster does not tell: then nothing that is kept can be known to hold.
    pub(super) fn changes(
        &self,
        since: u64,
        within: TimeRange,
    ) -> Result<Option<DataChanges>, SourceError> {
        if self.parts.len() == 1 {
            let found = self.each(|part| part.changes(since, within))?;
            return Ok(found.into_iter().next().and_then(|(told, _)| told));
        }
        let versions = &self.inner.versions;
        let numbers = versions.since(since, self.parts.len());
        let place = |part: &Part| {
            self.parts.iter().position(|one| std::ptr::eq(one, part)).expect("it is one of them")
        };
        let found = self.each(|part| part.changes(numbers[place(part)], within))?;
        if found.len() < self.parts.len() {
            return Ok(None);
        }
        let told: Option<Vec<DataChanges>> = found.into_iter().map(|(told, _)| told).collect();
        Ok(told.map(|told| versions.joined(since, &told)))
    }

    /// One selection of several clusters' answers.
    fn merged(&self, found: Vec<Found<ArrivedSeries>>) -> Result<Arc<dyn SeriesSet>, SourceError> {
        let found = match <[_; 1]>::try_from(found) {
            Ok([(one, None)]) => return Ok(Arc::new(one)),
            Ok(one) => Vec::from(one),
            Err(found) => found,
        };
        let merged = MergedSeries::new(found, self.budget.hold())?;
        let most = self.inner.shared.limits(self.tenant).max_query_series;
        if merged.len() > most {
            return Err(SourceError::Limit(format!(
                "the selector matches more series in all clusters than \
                 limits.max_query_series ({most}); narrow it or raise the limit"
            )));
        }
        Ok(Arc::new(merged))
    }
}

impl promql::Source for View {
    fn select(
        &self,
        request: &promql::SelectRequest<'_>,
    ) -> Result<Arc<dyn SeriesSet>, SourceError> {
        let found = self.each(|part| async move {
            let label = part.cluster.label.as_ref();
            match label
                .map_or_else(|| Some(request.matchers.to_vec()), |l| l.left_of(request.matchers))
            {
                Some(left) => part.select(&left, request).await,
                None => Ok(ArrivedSeries::new(self.budget.hold())),
            }
        })?;
        self.merged(found)
    }
}

impl Snapshot for View {
    fn label_names(
        &self,
        selectors: &[Vec<Matcher>],
        range: TimeRange,
        limit: usize,
    ) -> Result<Vec<String>, SourceError> {
        let found = self.each_selecting(selectors, Vec::new, |part, left| async move {
            part.labels("", &left, range, limit, None).await
        })?;
        let with_label = |(mut names, label): Found<Vec<String>>| {
            if let Some(label) = label.filter(|_| !names.is_empty()) {
                names.push(label.name);
            }
            names
        };
        Ok(lists::united(found.into_iter().map(with_label).collect(), limit))
    }

    fn label_values(
        &self,
        name: &str,
        selectors: &[Vec<Matcher>],
        range: TimeRange,
        limit: usize,
    ) -> Result<Vec<String>, SourceError> {
        if self.is_cluster_label(name) {
            return Ok(lists::united(vec![self.clusters_with_series(selectors, range)?], limit));
        }
        let found = self.each_selecting(selectors, Vec::new, |part, left| async move {
            part.labels(name, &left, range, limit, None).await
        })?;
        Ok(lists::united(found.into_iter().map(|(values, _)| values).collect(), limit))
    }

    fn search(
        &self,
        of: Option<&str>,
        selectors: &[Vec<Matcher>],
        range: TimeRange,
        search: &NameSearch,
    ) -> Result<Vec<FoundName>, SourceError> {
        let mut best = BestNames::new(search);
        if let Some(name) = of
            && self.is_cluster_label(name)
        {
            let names = self.clusters_with_series(selectors, range)?;
            names.iter().for_each(|name| best.offer(name));
            return Ok(best.into_found());
        }
        // A broker that does not know the search yields all, so there is no limit besides; and only
        // names come, which are scored here again.
        let found = self.each_selecting(selectors, Vec::new, |part, left| async move {
            part.labels(of.unwrap_or_default(), &left, range, 0, Some(asked(search))).await
        })?;
        found.iter().flat_map(|(names, _)| names).for_each(|name| best.offer(name));
        if let Some(label) = self.inner.cluster_label.as_deref().filter(|_| of.is_none())
            && !self.clusters_with_series(selectors, range)?.is_empty()
        {
            best.offer(label);
        }
        Ok(best.into_found())
    }

    fn series(
        &self,
        selectors: &[Vec<Matcher>],
        range: TimeRange,
        limit: usize,
    ) -> Result<Vec<Labels>, SourceError> {
        let found = self.each_selecting(selectors, Vec::new, |part, left| async move {
            part.series(&left, range, limit).await
        })?;
        let with_label = |(mut series, label): Found<Vec<Labels>>| {
            if let Some(label) = label {
                lists::labelled(&mut series, &label);
            }
            series
        };
        Ok(lists::united(found.into_iter().map(with_label).collect(), limit))
    }

    fn exemplars(
        &self,
        selectors: &[Vec<Matcher>],
        range: TimeRange,
    ) -> Result<Vec<SeriesExemplars>, SourceError> {
        let found = self.each_selecting(selectors, Vec::new, |part, left| async move {
            part.exemplars(&left, range).await
        })?;
        let with_label = |(mut all, label): Found<Vec<SeriesExemplars>>| {
            if let Some(label) = label {
                all.iter_mut().for_each(|one| one.labels = label.added_to(&one.labels));
            }
            all
        };
        Ok(lists::exemplars(found.into_iter().map(with_label).collect()))
    }

    fn away(&self) -> Vec<String> {
        let away = |part: &Part| {
            part.away().map(|words| {
                let name = &part.cluster.name;
                format!("what the cluster {name} has is not in this answer, it is away: {words}")
            })
        };
        self.parts.iter().filter_map(away).collect()
    }

    fn missing(&self, range: TimeRange) -> Vec<String> {
        let uncertain =
            self.parts.iter().filter(|part| part.away().is_none() && !part.misses_nothing());
        let asked =
            join_all(uncertain.map(|part| async move { (part, part.missing(range).await) }));
        let could_not = |error: SourceError| {
            vec![format!("whether something is missing could not be asked: {error}")]
        };
        let mut missing = match self.wait(asked) {
            Ok(told) => told
                .into_iter()
                .flat_map(|(part, told)| {
                    let name = &part.cluster.name;
                    let words = told.unwrap_or_else(could_not).into_iter();
                    words.map(move |words| match name.is_empty() {
                        true => words,
                        false => format!("cluster {name}: {words}"),
                    })
                })
                .collect(),
            Err(error) => could_not(error),
        };
        missing.extend(self.away());
        missing
    }

    fn census(&self, request: &CensusRequest) -> Result<CensusReport, SourceError> {
        let none = CensusReport::default;
        let found = self.each_selecting(&request.selectors, none, |part, left| async move {
            part.census(&left, request).await
        })?;
        Ok(lists::census(found, request.limit, request.order, request.focus.as_deref()))
    }

    fn cardinality(&self, limit: usize) -> Result<Cardinality, SourceError> {
        Ok(lists::cardinality(self.each(|part| part.cardinality(limit))?, limit))
    }
}
