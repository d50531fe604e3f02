//! Data of one tenant, whose samples are counted as they are read, for the list of running queries:
//! whoever reads, a query, an export or another Prometheus.

use std::collections::BTreeSet;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use model::{Labels, MetricMetadata, TenantName, TimeRange};
use promql::{Columns, Reads, SelectRequest, SeriesSet, SourceError};

use crate::data::{Data, DataChanges, Families, Snapshot, Work};
use crate::log_data::LogSnapshot;
use crate::running::RunningQuery;

/// What one query may read: the data of its tenant and of no other.
pub(crate) struct QueryData {
    pub(crate) data: Arc<dyn Data>,
    pub(crate) query: Arc<RunningQuery>,
    /// Series that a query may yield.
    pub(crate) max_series: usize,
    /// Samples that it may hold.
    pub(crate) max_values: usize,
}

impl QueryData {
    /// Counts what was read for the list of running queries, where that is no sample of a series.
    pub(crate) fn count_samples(&self, samples: u64) {
        self.query.samples.fetch_add(samples, Ordering::Relaxed);
    }

    fn tenant(&self) -> TenantName {
        self.query.asked.tenant
    }

    /// As [`Data::snapshot`].
    pub(crate) fn snapshot(&self, work: &Work) -> Result<CountedSnapshot, SourceError> {
        let (snapshot, query) = (self.data.snapshot(self.tenant(), work)?, Arc::clone(&self.query));
        Ok(CountedSnapshot { snapshot, query })
    }

    /// As [`Data::logs`].
    pub(crate) fn logs(&self, work: &Work) -> Result<Arc<dyn LogSnapshot>, SourceError> {
        self.data.logs(self.tenant(), work)
    }

    /// As [`Data::metadata`].
    pub(crate) fn metadata(&self) -> Result<Families, SourceError> {
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

/// A snapshot like the one inside, but for samples, which are counted.
pub(crate) struct CountedSnapshot {
    snapshot: Arc<dyn Snapshot>,
    query: Arc<RunningQuery>,
}

impl Deref for CountedSnapshot {
    type Target = dyn Snapshot;

    fn deref(&self) -> &(dyn Snapshot + 'static) {
        &*self.snapshot
    }
}

impl CountedSnapshot {
    /// As [`promql::Source::select`]; found before that of the snapshot inside.
    pub(crate) fn select(
        &self,
        request: &SelectRequest<'_>,
    ) -> Result<Arc<dyn SeriesSet>, SourceError> {
        let (set, query) = (self.snapshot.select(request)?, Arc::clone(&self.query));
        Ok(Arc::new(CountedSet { set, query }))
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

    fn is_coarse(&self) -> bool {
        self.set.is_coarse()
    }

    fn reads(&self) -> Reads {
        self.set.reads()
    }
}
