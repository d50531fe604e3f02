//! Data of one tenant, whose samples are counted as they are read, for the list of running queries:
//! whoever reads, a query, an export or another Prometheus.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use model::{
    CensusReport, CensusRequest, FoundName, Labels, Matcher, MetricMetadata, NameSearch,
    SeriesExemplars, TenantName, TimeRange,
};
use promql::{Columns, Reads, SelectRequest, SeriesSet, Source, SourceError};

use crate::data::{Cardinality, Data, DataChanges, Snapshot, Work};
use crate::running::RunningQuery;

/// What one query may read: the data of its tenant and of no other.
pub(crate) struct QueryData {
    pub(crate) data: Arc<dyn Data>,
    pub(crate) query: Arc<RunningQuery>,
}

impl QueryData {
    fn tenant(&self) -> TenantName {
        self.query.asked.tenant
    }

    /// As [`Data::snapshot`].
    pub(crate) fn snapshot(&self, work: &Work) -> Result<Arc<dyn Snapshot>, SourceError> {
        let (snapshot, query) = (self.data.snapshot(self.tenant(), work)?, Arc::clone(&self.query));
        Ok(Arc::new(CountedSnapshot { snapshot, query }))
    }

    /// As [`Data::metadata`].
    pub(crate) fn metadata(&self) -> Result<Vec<MetricMetadata>, SourceError> {
        self.data.metadata(self.tenant())
    }

    /// As [`Data::metadata_of`].
    pub(crate) fn metadata_of(
        &self,
        metrics: &BTreeSet<String>,
    ) -> Result<Vec<MetricMetadata>, SourceError> {
        self.data.metadata_of(self.tenant(), metrics)
    }

    /// As [`Data::changes`].
    pub(crate) fn changes(
        &self,
        since: u64,
        within: TimeRange,
    ) -> Result<Option<DataChanges>, SourceError> {
        self.data.changes(self.tenant(), since, within)
    }
}

struct CountedSnapshot {
    snapshot: Arc<dyn Snapshot>,
    query: Arc<RunningQuery>,
}

impl Source for CountedSnapshot {
    fn select(&self, request: &SelectRequest<'_>) -> Result<Arc<dyn SeriesSet>, SourceError> {
        let (set, query) = (self.snapshot.select(request)?, Arc::clone(&self.query));
        Ok(Arc::new(CountedSet { set, query }))
    }
}

impl Snapshot for CountedSnapshot {
    fn label_names(
        &self,
        selectors: &[Vec<Matcher>],
        range: TimeRange,
        limit: usize,
    ) -> Result<Vec<String>, SourceError> {
        self.snapshot.label_names(selectors, range, limit)
    }

    fn label_values(
        &self,
        name: &str,
        selectors: &[Vec<Matcher>],
        range: TimeRange,
        limit: usize,
    ) -> Result<Vec<String>, SourceError> {
        self.snapshot.label_values(name, selectors, range, limit)
    }

    fn search(
        &self,
        of: Option<&str>,
        selectors: &[Vec<Matcher>],
        range: TimeRange,
        search: &NameSearch,
    ) -> Result<Vec<FoundName>, SourceError> {
        self.snapshot.search(of, selectors, range, search)
    }

    fn series(
        &self,
        selectors: &[Vec<Matcher>],
        range: TimeRange,
        limit: usize,
    ) -> Result<Vec<Labels>, SourceError> {
        self.snapshot.series(selectors, range, limit)
    }

    fn exemplars(
        &self,
        selectors: &[Vec<Matcher>],
        range: TimeRange,
    ) -> Result<Vec<SeriesExemplars>, SourceError> {
        self.snapshot.exemplars(selectors, range)
    }

    fn missing(&self, range: TimeRange) -> Vec<String> {
        self.snapshot.missing(range)
    }

    fn census(&self, request: &CensusRequest) -> Result<CensusReport, SourceError> {
        self.snapshot.census(request)
    }

    fn cardinality(&self, limit: usize) -> Result<Cardinality, SourceError> {
        self.snapshot.cardinality(limit)
    }
}

struct CountedSet {
    set: Arc<dyn SeriesSet>,
    query: Arc<RunningQuery>,
}

impl SeriesSet for CountedSet {
    fn len(&self) -> usize {
        self.set.len()
    }

    fn labels(&self, index: usize) -> &Labels {
        self.set.labels(index)
    }

    fn read(&self, index: usize, out: &mut Columns) -> Result<(), SourceError> {
        self.set.read(index, out)?;
        self.query.samples.fetch_add(out.samples() as u64, Ordering::Relaxed);
        Ok(())
    }

    fn reads(&self) -> Reads {
        self.set.reads()
    }
}
