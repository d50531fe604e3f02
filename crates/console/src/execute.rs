//! Runs queries on threads of their own, a bounded number at once, each with a time limit.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::{Duration, Instant};

use governor::{Governor, Held};
use model::{Labels, Limits, TenantName, TimeRange};
use parking_lot::RwLock;
use promql::{
    EvalOptions, EvalTime, Evaluation, InstantSample, QueryOutput, QueryValue, RangeSeries,
    SelectRequest, SeriesSet, Source, SourceError,
};

use crate::admission::{Admission, Turn};
use crate::cache::{CacheSettings, ResultCache};
use crate::counted::{CountedSnapshot, QueryData};
use crate::data::{Data, Work};
use crate::live_places::LivePlaces;
use crate::respond::{eval_error, source_error};
use crate::running::{self, Asked, EvaluationMemory, Place, RunningQueries, RunningQuery};
use crate::spread::{Spread, Workers};
use net::{ApiError, ErrorType};

mod cached;
mod for_rules;
mod job;
mod metrics;
mod pieces;
mod threads;

pub(crate) use job::{Job, PieceTerms};
use threads::Threads;

/// Admission, time limits and counters of queries.
pub struct Executor {
    data: Arc<dyn Data>,
    limits: RwLock<QueryLimits>,
    governor: Arc<Governor>,
    queries: Arc<RunningQueries>,
    admission: Admission,
    /// Of rules: an alert must not wait for dashboards.
    rules_admission: Admission,
    live_places: Arc<LivePlaces>,
    width: usize,
    max_concurrent: usize,
    cache: ResultCache,
    use_start_timestamps: bool,
    type_and_unit_labels: bool,
    spread: Option<Arc<Spread>>,
    counters: Counters,
}

/// The limits in effect.
struct QueryLimits {
    all: Limits,
    /// Of tenants that have others.
    tenants: BTreeMap<TenantName, Arc<Limits>>,
}

/// Counts since start.
#[derive(Debug, Default)]
struct Counters {
    queries: AtomicU64,
    failed: AtomicU64,
    cancelled: AtomicU64,
    timed_out: AtomicU64,
    refused: AtomicU64,
    running: AtomicU64,
    samples: AtomicU64,
    micros: AtomicU64,
}

/// How long the parts of an execution took.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Timings {
    /// Until it was its turn.
    pub(crate) queued: Duration,
    /// Until it had a snapshot of the data.
    pub(crate) snapshot: Duration,
    /// Finding, reading and computing.
    pub(crate) evaluation: Duration,
}

/// What a query yields.
pub(crate) struct Answer {
    pub(crate) output: QueryOutput,
    /// What is missing in the data because it was damaged, in words.
    pub(crate) missing: Vec<String>,
    pub(crate) timings: Timings,
    /// Threads it could use.
    pub(crate) threads: usize,
    /// The query is listed as running as long as this lives.
    pub(crate) place: Place,
    /// The memory of the output.
    pub(crate) held: Held,
}

/// How long a query waits for its turn before it is refused.
const ADMISSION_WAIT: Duration = Duration::from_secs(10);
/// How often a query that waits because memory is short looks again.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// `--query.lookback-delta` of Prometheus.
pub(crate) const DEFAULT_LOOKBACK_MS: i64 = 5 * 60 * 1_000;
const DEFAULT_SUBQUERY_STEP_MS: i64 = 60 * 1_000;

impl Executor {
    /// Runs at most `max_concurrent` queries at once, each on up to `width` threads.
    pub fn new(
        data: Arc<dyn Data>,
        limits: Limits,
        governor: Arc<Governor>,
        max_concurrent: usize,
        width: usize,
    ) -> Self {
        let off = CacheSettings { max_bytes: 0, recent: Duration::ZERO };
        let cache = ResultCache::new(off, Arc::clone(&governor));
        Executor {
            data,
            limits: RwLock::new(QueryLimits { all: limits, tenants: BTreeMap::new() }),
            governor,
            queries: Arc::new(RunningQueries::new()),
            admission: Admission::new(max_concurrent),
            rules_admission: Admission::new(2 * width.max(1)),
            live_places: Arc::default(),
            width: width.max(1),
            max_concurrent,
            cache,
            use_start_timestamps: false,
            type_and_unit_labels: false,
            spread: None,
            counters: Counters::default(),
        }
    }

    /// Lets functions over ranges look at when samples began at zero, see
    /// [`EvalOptions::use_start_timestamps`].
    pub fn with_start_timestamps(mut self, are_used: bool) -> Self {
        self.use_start_timestamps = are_used;
        self
    }

    /// Lets the label `__type__` tell what a counter is, see [`EvalOptions::type_and_unit_labels`].
    pub fn with_type_and_unit_labels(mut self, are_given: bool) -> Self {
        self.type_and_unit_labels = are_given;
        self
    }

    /// Lets other brokers compute parts of range queries, and computes parts for them.
    pub fn with_workers(mut self, workers: Arc<dyn Workers>) -> Self {
        self.spread = Some(Arc::new(Spread::new(workers, self.max_concurrent)));
        self
    }

    /// Keeps results of range queries.
    pub fn with_cache(mut self, settings: CacheSettings) -> Self {
        self.cache = ResultCache::new(settings, Arc::clone(&self.governor));
        self
    }

    /// Limits of tenants that have others than the rest.
    pub fn with_tenants(mut self, tenants: BTreeMap<TenantName, Arc<Limits>>) -> Self {
        self.limits.get_mut().tenants = tenants;
        self
    }

    /// Replaces the limits of all tenants and those that some have for themselves, for queries that
    /// begin after this.
    pub fn set_limits(&self, limits: Limits, tenants: BTreeMap<TenantName, Arc<Limits>>) {
        *self.limits.write() = QueryLimits { all: limits, tenants };
    }

    fn limit<T>(&self, tenant: TenantName, limit: impl FnOnce(&Limits) -> T) -> T {
        let limits = self.limits.read();
        limit(limits.tenants.get(&tenant).map_or(&limits.all, Arc::as_ref))
    }

    /// Where the data comes from.
    pub(crate) fn data(&self) -> &Arc<dyn Data> {
        &self.data
    }

    /// What is computed elsewhere, and for others.
    pub(crate) fn spread(&self) -> Option<&Arc<Spread>> {
        self.spread.as_ref()
    }

    /// The queries that run, and those that ran.
    pub(crate) fn queries(&self) -> &RunningQueries {
        &self.queries
    }

    /// How long one request of a tenant may take.
    pub(crate) fn query_timeout(&self, tenant: TenantName) -> Duration {
        Duration::from_millis(self.limit(tenant, |limits| limits.query_timeout_ms))
    }

    /// Series that one selector of a tenant may match, and a query for logs may yield.
    pub(crate) fn max_query_series(&self, tenant: TenantName) -> usize {
        self.limit(tenant, |limits| limits.max_query_series)
    }

    /// Samples that one request of a tenant may hold.
    pub(crate) fn max_query_samples(&self, tenant: TenantName) -> usize {
        self.limit(tenant, |limits| limits.max_query_samples)
    }

    /// Evaluates one query. Dropping the future cancels the work within milliseconds.
    pub(crate) async fn run(self: &Arc<Self>, job: Job) -> Result<Answer, ApiError> {
        let tenant = job.asked.tenant;
        let timeout = self.time_limit(&job);
        if timeout.is_zero() {
            return Err(self.timed_out(timeout));
        }
        let permit = self.admit(tenant).await?;
        self.run_with(permit, job, timeout).await
    }

    async fn run_with(
        self: &Arc<Self>,
        permit: Turn,
        job: Job,
        timeout: Duration,
    ) -> Result<Answer, ApiError> {
        let work = self.governor.account();
        let mut guard = CancelOnDrop::new(&work);
        let executor = Arc::clone(self);
        let evaluation = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            let place = executor.queries.begin(job.asked.clone(), work);
            executor.evaluate(&job, place)
        });
        match tokio::time::timeout(timeout, evaluation).await {
            Ok(Ok(result)) => {
                guard.disarm();
                result
            }
            Ok(Err(panic)) => {
                tracing::error!(%panic, "query task failed");
                Err(ApiError::new(ErrorType::Internal, "the query failed inside; see the log"))
            }
            Err(_) => Err(self.timed_out(timeout)),
        }
    }

    fn timed_out(&self, timeout: Duration) -> ApiError {
        self.counters.timed_out.fetch_add(1, Ordering::Relaxed);
        ApiError::new(
            ErrorType::Timeout,
            format!(
                "query timed out in expression evaluation after {} ms; ask for less or raise \
                 limits.query_timeout_ms",
                timeout.as_millis()
            ),
        )
    }

    /// Runs `task` on a thread that may block, under the same admission as queries.
    pub(crate) async fn blocking<T: Send + 'static>(
        self: &Arc<Self>,
        asked: Asked,
        task: impl FnOnce(&QueryData, &Work) -> Result<T, ApiError> + Send + 'static,
    ) -> Result<T, ApiError> {
        let permit = self.admit(asked.tenant).await?;
        self.blocking_with(permit, asked, task).await
    }

    async fn blocking_with<T: Send + 'static>(
        self: &Arc<Self>,
        permit: Turn,
        asked: Asked,
        task: impl FnOnce(&QueryData, &Work) -> Result<T, ApiError> + Send + 'static,
    ) -> Result<T, ApiError> {
        let executor = Arc::clone(self);
        let work = self.governor.account();
        let _guard = CancelOnDrop::new(&work);
        let queries = Arc::clone(&self.queries);
        tokio::task::spawn_blocking(move || {
            let _permit = permit;
            let place = queries.begin(asked, Arc::clone(&work));
            let data = executor.query_data(&place.query);
            task(&data, &work).map_err(|error| why(&place.query, error))
        })
        .await
        .map_err(|panic| {
            tracing::error!(%panic, "request task failed");
            ApiError::new(ErrorType::Internal, "the request failed inside; see the log")
        })?
    }

    /// As [`Executor::blocking`], for at most as long as a query may take.
    pub(crate) async fn in_time<T: Send + 'static>(
        self: &Arc<Self>,
        asked: Asked,
        task: impl FnOnce(&QueryData, &Work) -> Result<T, ApiError> + Send + 'static,
    ) -> Result<T, ApiError> {
        let limit = self.query_timeout(asked.tenant);
        let work = self.blocking(asked, task);
        tokio::time::timeout(limit, work).await.unwrap_or_else(|_| Err(self.timed_out(limit)))
    }

    /// The places of live expressions.
    pub(crate) fn live_places(&self) -> &Arc<LivePlaces> {
        &self.live_places
    }

    /// Waits until it is a query's turn and there is memory for it.
    async fn admit(&self, tenant: TenantName) -> Result<Turn, ApiError> {
        let until = tokio::time::Instant::now() + ADMISSION_WAIT;
        let own = self.limit(tenant, |limits| limits.max_concurrent_queries);
        let own = Some(own).filter(|most| *most > 0);
        match tokio::time::timeout_at(until, self.admission.turn(tenant, own)).await {
            Ok(permit) => {
                while !self.governor.admits_query() {
                    self.cache.clear();
                    if tokio::time::Instant::now() >= until {
                        self.counters.refused.fetch_add(1, Ordering::Relaxed);
                        self.governor.count_refused_query();
                        let text = self.governor.query_refusal();
                        return Err(ApiError::new(ErrorType::Unavailable, text));
                    }
                    tokio::time::sleep(LOOK_EVERY).await;
                }
                Ok(permit)
            }
            Err(_) => {
                self.counters.refused.fetch_add(1, Ordering::Relaxed);
                let running = match own {
                    Some(most) => format!("{most} queries of the tenant {tenant}"),
                    None => format!("{} queries, or the share of one tenant,", self.max_concurrent),
                };
                Err(ApiError::new(
                    ErrorType::Unavailable,
                    format!(
                        "{running} are already running and none ended within {} s; try again \
                         later or raise limits.max_concurrent_queries",
                        ADMISSION_WAIT.as_secs()
                    ),
                ))
            }
        }
    }

    fn evaluate(&self, job: &Job, place: Place) -> Result<Answer, ApiError> {
        let started = Instant::now();
        let counters = &self.counters;
        let result = {
            let _running = Running::new(&counters.running);
            self.evaluate_now(job, place)
        };
        counters.queries.fetch_add(1, Ordering::Relaxed);
        let micros = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
        counters.micros.fetch_add(micros, Ordering::Relaxed);
        match &result {
            Ok(answer) => {
                counters.samples.fetch_add(answer.output.stats.samples_read, Ordering::Relaxed);
            }
            Err(error) if error.error_type == ErrorType::Canceled => {
                counters.cancelled.fetch_add(1, Ordering::Relaxed);
            }
            Err(_) => {
                counters.failed.fetch_add(1, Ordering::Relaxed);
            }
        }
        result
    }

    fn evaluate_now(&self, job: &Job, place: Place) -> Result<Answer, ApiError> {
        let query = Arc::clone(&place.query);
        let work = &query.work;
        let began = Instant::now();
        let data = self.query_data(&query);
        let looked = match self.keepable(job) {
            Some(keepable) => self.look(&data, &keepable)?.map(|looked| (keepable, looked)),
            None => None,
        };
        let snapshot = data.snapshot(work).map_err(source_error)?;
        let session = self.session(job, snapshot, work);
        let snapshot_taken = Instant::now();
        let output = match looked {
            Some((keepable, looked)) => self.complete((&session, &data), keepable, looked),
            None => session.evaluate(job.time),
        };
        let timings = Timings {
            queued: began.saturating_duration_since(job.asked_at),
            snapshot: snapshot_taken - began,
            evaluation: snapshot_taken.elapsed(),
        };
        let missing = session.source.missing();
        let output = output.map_err(|error| why(&query, error))?;
        let held = running::hold(work, value_bytes(&output.value));
        let held = held.map_err(|error| why(&query, source_error(error)))?;
        Ok(Answer { output, missing, timings, threads: self.width, place, held })
    }

    fn query_data(&self, query: &Arc<RunningQuery>) -> QueryData {
        let limits = |limits: &Limits| (limits.max_query_series, limits.max_query_samples);
        let (max_series, max_values) = self.limit(query.asked.tenant, limits);
        let (data, query) = (Arc::clone(&self.data), Arc::clone(query));
        QueryData { data, query, max_series, max_values }
    }

    fn session<'a>(
        &'a self,
        job: &'a Job,
        snapshot: CountedSnapshot,
        work: &'a Work,
    ) -> Session<'a> {
        let own = PieceTerms {
            max_samples: self.max_query_samples(job.asked.tenant),
            use_start_timestamps: self.use_start_timestamps,
            type_and_unit_labels: self.type_and_unit_labels,
        };
        let terms = job.of_another.unwrap_or(own);
        Session {
            source: Recorder { snapshot, asked: Mutex::new(None) },
            job,
            work,
            memory: Arc::new(EvaluationMemory(Arc::clone(work))),
            parallel: Threads { width: self.width },
            terms: PieceTerms { max_samples: terms.max_samples.min(own.max_samples), ..terms },
            time_limit: self.time_limit(job),
            // A piece is not cut again: nobody waits for whoever waits for them.
            spread: self.spread.as_ref().filter(|_| job.of_another.is_none()),
        }
    }

    /// How long a job may take.
    fn time_limit(&self, job: &Job) -> Duration {
        let limit = self.query_timeout(job.asked.tenant);
        job.timeout.map_or(limit, |wanted| wanted.min(limit))
    }
}

/// One query under way, over one snapshot.
struct Session<'a> {
    source: Recorder,
    job: &'a Job,
    work: &'a Work,
    memory: Arc<dyn promql::Memory>,
    parallel: Threads,
    terms: PieceTerms,
    time_limit: Duration,
    /// Who may compute parts of it.
    spread: Option<&'a Arc<Spread>>,
}

impl Session<'_> {
    /// Evaluates on the threads of this process.
    fn evaluate_here(&self, time: EvalTime) -> Result<QueryOutput, ApiError> {
        let Session { source, job, work, memory, parallel, terms, .. } = self;
        let output = promql::evaluate(&Evaluation {
            expr: &job.expr,
            time,
            source,
            options: EvalOptions {
                lookback_ms: job.lookback_ms,
                default_subquery_step_ms: DEFAULT_SUBQUERY_STEP_MS,
                max_samples: terms.max_samples,
                memory: Some(memory),
                cancelled: work.cancelled(),
                parallel,
                clock: job.is_measured.then_some(clock_ns),
                use_start_timestamps: terms.use_start_timestamps,
                type_and_unit_labels: terms.type_and_unit_labels,
            },
        });
        output.map_err(eval_error)
    }
}

/// Passes selections on and remembers how far they reach: ranges, offsets and subqueries lead far
/// away from the time a query is evaluated at.
struct Recorder {
    snapshot: CountedSnapshot,
    asked: Mutex<Option<TimeRange>>,
}

impl Source for Recorder {
    fn select(&self, request: &SelectRequest<'_>) -> Result<Arc<dyn SeriesSet>, SourceError> {
        let range = TimeRange::new(request.start_ms, request.end_ms.saturating_add(1));
        let mut asked = self.asked.lock().expect("nothing panics while it is held");
        *asked = Some(asked.map_or(range, |before| before.union(&range)));
        drop(asked);
        self.snapshot.select(request)
    }
}

impl Recorder {
    /// Whether something is missing in the data that was asked for.
    fn lacks_something(&self) -> bool {
        !self.missing().is_empty()
    }

    /// What is missing in the data that was asked for.
    fn missing(&self) -> Vec<String> {
        let asked = *self.asked.lock().expect("nothing panics while it is held");
        asked.map(|range| self.snapshot.missing(range)).unwrap_or_default()
    }
}

/// The clock by which queries are measured.
fn clock_ns() -> u64 {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    u64::try_from(START.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

/// Counts something that runs, however it ends.
struct Running<'a>(&'a AtomicU64);

impl<'a> Running<'a> {
    fn new(counter: &'a AtomicU64) -> Self {
        counter.fetch_add(1, Ordering::Relaxed);
        Running(counter)
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Cancels work whose result nobody waits for any more.
struct CancelOnDrop(Option<Work>);

impl CancelOnDrop {
    fn new(work: &Work) -> Self {
        CancelOnDrop(Some(Arc::clone(work)))
    }

    /// The work is done; what holds its result goes on counting for it.
    fn disarm(&mut self) {
        self.0 = None;
    }
}

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        if let Some(work) = &self.0 {
            work.cancel();
        }
    }
}

/// The error of a query that was stopped says why; another one stays as it is.
fn why(query: &RunningQuery, error: ApiError) -> ApiError {
    match query.work.why_stopped() {
        Some(text) if error.error_type == ErrorType::Canceled => {
            let kind =
                if query.was_killed() { ErrorType::Canceled } else { ErrorType::Unavailable };
            ApiError::new(kind, text)
        }
        _ => error,
    }
}

/// The memory of a result, without the buckets of histograms, which are shared with what was read.
fn value_bytes(value: &QueryValue) -> usize {
    let labels = |labels: &Labels| labels.as_packed().len();
    match value {
        QueryValue::Scalar { .. } | QueryValue::String { .. } => 0,
        QueryValue::Vector(samples) => {
            let one = |sample: &InstantSample| size_of::<InstantSample>() + labels(&sample.labels);
            samples.iter().map(one).sum()
        }
        QueryValue::Matrix(series) => {
            let one = |series: &RangeSeries| {
                let points = 16 * series.values.len() + 16 * series.histograms.len();
                size_of::<RangeSeries>() + labels(&series.labels) + points
            };
            series.iter().map(one).sum()
        }
    }
}
