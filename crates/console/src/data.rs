//! What the console needs of the brokers behind it. `watchfire` wires the two together.

use std::collections::BTreeSet;
use std::sync::Arc;

use model::{
    CensusReport, CensusRequest, FoundName, Labels, Matcher, MetricMetadata, NameSearch,
    SeriesExemplars, TenantName, TimeRange,
};
use promql::{Source, SourceError};

use crate::log_data::{LineFeed, LogSnapshot};

/// One request that reads: the memory it holds, and whether somebody still waits for its answer. Who
/// works for it stops when it is cancelled.
pub type Work = Arc<governor::Account>;

/// Data of all tenants, live. Of a tenant that there is not, there is none.
pub trait Data: Send + Sync + 'static {
    /// A consistent view for one request. It may block, stops when `work` is cancelled, and counts
    /// what it holds for it.
    ///
    /// # Errors
    /// The store is not ready or failed.
    fn snapshot(&self, tenant: TenantName, work: &Work) -> Result<Arc<dyn Snapshot>, SourceError>;

    /// The lines of logs of a tenant, for one request; otherwise as [`Data::snapshot`].
    ///
    /// # Errors
    /// There are none here; the store is not ready.
    fn logs(&self, tenant: TenantName, work: &Work) -> Result<Arc<dyn LogSnapshot>, SourceError> {
        let _ = (tenant, work);
        Err(SourceError::Unavailable("lines of logs cannot be read here".to_owned()))
    }

    /// Every line of the streams that satisfy all matchers, from now on, as it becomes searchable. Never blocks.
    ///
    /// # Errors
    /// Too many subscriptions; there are no lines here.
    fn tail(
        &self,
        tenant: TenantName,
        matchers: Vec<Matcher>,
    ) -> Result<Box<dyn LineFeed>, SourceError> {
        let _ = (tenant, matchers);
        Err(SourceError::Unavailable("lines of logs cannot be followed here".to_owned()))
    }

    /// What is known about metric families. It may block.
    ///
    /// # Errors
    /// Nobody who knows can be asked.
    fn metadata(&self, tenant: TenantName) -> Result<Families, SourceError>;

    /// As [`Data::metadata`], of the families with these names only.
    ///
    /// # Errors
    /// As [`Data::metadata`].
    fn metadata_of(
        &self,
        tenant: TenantName,
        metrics: &BTreeSet<String>,
    ) -> Result<Vec<MetricMetadata>, SourceError> {
        let mut known = self.metadata(tenant)?.known;
        known.retain(|one| metrics.contains(&one.metric));
        Ok(known)
    }

    /// Every sample of the matching series from now on, before it is durable. Never blocks.
    ///
    /// # Errors
    /// Too many subscriptions; the text names the limit.
    fn subscribe(
        &self,
        tenant: TenantName,
        selector: Vec<Matcher>,
    ) -> Result<Box<dyn LiveFeed>, SourceError>;

    /// Whether writes are accepted and answers are complete; otherwise what is still missing.
    ///
    /// # Errors
    /// The reason why not, in words.
    fn ready(&self) -> Result<(), String>;

    /// What changed in `within` after the change number `since`: whoever keeps what it reads asks
    /// this first and reads second. `None` if nobody can tell, and then nothing can be kept. It may
    /// block.
    ///
    /// # Errors
    /// Nobody who knows can be asked.
    fn changes(
        &self,
        tenant: TenantName,
        since: u64,
        within: TimeRange,
    ) -> Result<Option<DataChanges>, SourceError> {
        let _ = (tenant, since, within);
        Ok(None)
    }
}

/// What is known about metric families.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Families {
    /// Sorted by name.
    pub known: Vec<MetricMetadata>,
    /// Who may know of others and could not be asked, in words.
    pub away: Vec<String>,
}

/// What changed in the data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataChanges {
    /// Which run of which broker counts: numbers of another one mean nothing.
    pub store: u64,
    /// Number of the last change before this was asked.
    pub number: u64,
    /// When it was asked, by the broker's clock, milliseconds since the epoch.
    pub at_ms: i64,
    /// Ranges of time in which samples came or went, with the number of the last change of each. They
    /// may overlap.
    pub ranges: Vec<(TimeRange, u64)>,
    /// For how long samples are kept, milliseconds, some of them or all: what was younger when
    /// something was read, and is older now, may be gone without a change.
    pub kept_ms: Vec<i64>,
}

/// A view that does not change while it is held.
pub trait Snapshot: Source {
    /// Names of labels of the series that match any of `selectors` (all series if empty) and
    /// have samples in `range`; sorted, at most `limit`.
    ///
    /// # Errors
    /// Faults of the store.
    fn label_names(
        &self,
        selectors: &[Vec<Matcher>],
        range: TimeRange,
        limit: usize,
    ) -> Result<Vec<String>, SourceError>;

    /// Values of the label `name`, otherwise as [`Snapshot::label_names`].
    ///
    /// # Errors
    /// Faults of the store.
    fn label_values(
        &self,
        name: &str,
        selectors: &[Vec<Matcher>],
        range: TimeRange,
        limit: usize,
    ) -> Result<Vec<String>, SourceError>;

    /// The first names of labels that fit `search`, or values of the label `of`, otherwise as
    /// [`Snapshot::label_names`]. Only what is yielded is held, and counted.
    ///
    /// # Errors
    /// Faults of the store; too much memory; nobody waits for it any more.
    fn search(
        &self,
        of: Option<&str>,
        selectors: &[Vec<Matcher>],
        range: TimeRange,
        search: &NameSearch,
    ) -> Result<Vec<FoundName>, SourceError>;

    /// Label sets of the series that match any of `selectors`, sorted, at most `limit`.
    ///
    /// # Errors
    /// Faults of the store.
    fn series(
        &self,
        selectors: &[Vec<Matcher>],
        range: TimeRange,
        limit: usize,
    ) -> Result<Vec<Labels>, SourceError>;

    /// The exemplars in `range` of the series that match any of `selectors`, ascending by labels.
    ///
    /// # Errors
    /// Nobody who knows can be asked.
    fn exemplars(
        &self,
        selectors: &[Vec<Matcher>],
        range: TimeRange,
    ) -> Result<Vec<SeriesExemplars>, SourceError>;

    /// Whose data is not in what this view has yielded so far, because they could not be asked, in
    /// words.
    fn away(&self) -> Vec<String> {
        Vec::new()
    }

    /// What is missing in `range` because it was damaged or is [away](Snapshot::away), in words; empty
    /// if nothing is known to be missing.
    fn missing(&self, range: TimeRange) -> Vec<String>;

    /// Where the series of the head come from; each list has at most `limit` entries.
    ///
    /// # Errors
    /// Nobody who knows can be asked.
    fn cardinality(&self, limit: usize) -> Result<Cardinality, SourceError>;

    /// Where the series of a time come from, and how that differs from another time.
    ///
    /// # Errors
    /// Faults of the store; too much memory.
    fn census(&self, request: &CensusRequest) -> Result<CensusReport, SourceError>;
}

/// A name and how much of something it has.
pub type Counted = (String, u64);

/// Numbers behind `/api/v1/status/tsdb`.
#[derive(Debug, Clone, Default)]
pub struct Cardinality {
    /// Series in the head.
    pub series: u64,
    /// Distinct label pairs in the head.
    pub label_pairs: u64,
    /// Sealed and open chunks in the head.
    pub chunks: u64,
    /// First timestamp in the head; `i64::MAX` if empty.
    pub min_time_ms: i64,
    /// Last timestamp in the head; `i64::MIN` if empty.
    pub max_time_ms: i64,
    /// Series per metric name, most first.
    pub series_by_metric: Vec<Counted>,
    /// Values per label name, most first.
    pub values_by_label: Vec<Counted>,
    /// Bytes of values per label name, most first.
    pub bytes_by_label: Vec<Counted>,
    /// Series per `name=value`, most first.
    pub series_by_pair: Vec<Counted>,
}

/// One subscription to live samples.
pub trait LiveFeed: Send {
    /// Waits until there is something to say and takes it; `None` at the end. Behind an error there
    /// may be more, when what was wrong has passed.
    fn next(&mut self) -> NextEvents<'_>;
}

/// What [`LiveFeed::next`] waits for.
pub type NextEvents<'a> = std::pin::Pin<
    Box<dyn std::future::Future<Output = Option<Result<LiveEvents, SourceError>>> + Send + 'a>,
>;

/// What came in since the last call.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LiveEvents {
    /// Series seen for the first time, with the number that stands for them.
    pub series: Vec<(u32, Labels)>,
    /// Samples: number of the series, time, value.
    pub samples: Vec<(u32, i64, f64)>,
    /// Samples that were dropped because the reader was too slow.
    pub missed: u64,
}
