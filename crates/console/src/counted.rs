//! Data whose samples are counted as they are read, for the list of running queries: whoever reads,
//! a query, an export or another Prometheus.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use model::{
    CensusReport, CensusRequest, Labels, Matcher, MetricMetadata, SeriesExemplars, TenantId,
    TimeRange,
};
use promql::{Columns, Reads, SelectRequest, SeriesSet, Source, SourceError};

use crate::data::{Cardinality, Data, DataChanges, LiveFeed, Snapshot, Work};
use crate::running::RunningQuery;

/// Data, and for which query it is read.
pub(crate) struct CountedData {
    pub(crate) data: Arc<dyn Data>,
    pub(crate) query: Arc<RunningQuery>,
}

impl Data for CountedData {
    fn snapshot(&self, tenant: TenantId, work: &Work) -> Result<Arc<dyn Snapshot>, SourceError> {
        let (snapshot, query) = (self.data.snapshot(tenant, work)?, Arc::clone(&self.query));
        Ok(Arc::new(CountedSnapshot { snapshot, query }))
    }

    fn metadata(&self, tenant: TenantId) -> Result<Vec<MetricMetadata>, SourceError> {
        self.data.metadata(tenant)
    }

    fn subscribe(
        &self,
        tenant: TenantId,
        selector: Vec<Matcher>,
    ) -> Result<Box<dyn LiveFeed>, SourceError> {
        self.data.subscribe(tenant, selector)
    }

    fn ready(&self) -> Result<(), String> {
        self.data.ready()
    }

    fn changes(
        &self,
        tenant: TenantId,
        since: u64,
        within: TimeRange,
    ) -> Result<Option<DataChanges>, SourceError> {
        self.data.changes(tenant, since, within)
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
