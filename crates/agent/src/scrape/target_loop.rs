//! One target: its scrapes, one after the other.

use std::sync::Arc;
use std::time::{Duration, Instant};

use discovery::Task;
use http::{HeaderMap, Uri};
use model::{Labels, MetricBatch, TimeRange};
use net::client::ClientError;
use parking_lot::Mutex;
use tokio::sync::{mpsc, watch};
use wire::decompress::Encoding;

use super::append::{Appender, Format, SampleRules, Tally, TimeLimit};
use super::cache::SeriesCache;
use super::counters::ScrapeCounters;
use super::delivery::deliver;
use super::error::ScrapeError;
use super::fetch::{Fetched, fetch, format, headers, unpack};
use super::job::Job;
use super::metadata::MetadataBook;
use super::report::{Outcome, ReportSeries};
use super::schedule::{Schedule, now, now_ms};
use super::series_rules::SeriesRules;
use super::sharing::{Sharing, Whose};
use super::status::{TargetHealth, TargetStatus, TargetTotals};
use super::target::{INTERVAL, TIMEOUT, Target};
use super::workspace::{Workspace, Workspaces};

/// Answers longer than this on the wire are taken on another thread: unpacking and reading them
/// takes milliseconds, in which this one could serve hundreds of other targets.
const INLINE_BYTES: usize = 128 << 10;

/// What all loops of a scraper share.
pub(super) struct Shared {
    pub(super) batches: mpsc::Sender<MetricBatch>,
    pub(super) counters: Arc<ScrapeCounters>,
    pub(super) workspaces: Workspaces,
    /// Differs between processes, so that two do not scrape at the same moment.
    pub(super) seed: u64,
    pub(super) sharing: Option<Arc<dyn Sharing>>,
}

impl Shared {
    fn whose(&self, place: u64, due_ms: i64) -> Whose {
        self.sharing.as_ref().map_or(Whose::Own, |sharing| sharing.whose(place, due_ms))
    }
}

/// What a loop is told.
#[derive(Clone)]
pub(super) struct Order {
    pub(super) job: Arc<Job>,
    pub(super) phase: Phase,
    /// Set when the job has too many targets; then none is scraped.
    pub(super) target_limit: Option<ScrapeError>,
}

/// Where a loop stands in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// Scrape.
    Run,
    /// The target is gone: at its next time write the markers that end its series, and end.
    End,
    /// Another loop goes on with the same series: end, and leave them to it.
    HandOver,
}

/// What others see of a target.
pub(super) struct TargetState {
    pub(super) target: Target,
    pub(super) public_labels: Labels,
    seen: Mutex<Seen>,
    metadata: Mutex<MetadataBook>,
}

#[derive(Clone)]
struct Seen {
    discovered: Labels,
    health: TargetHealth,
    last_error: String,
    last_scrape_ms: Option<i64>,
    last_duration: Duration,
    series: usize,
    scraped_by: Option<String>,
}

impl TargetState {
    pub(super) fn new(target: Target, discovered: Labels) -> Self {
        TargetState {
            public_labels: target.public_labels(),
            target,
            seen: Mutex::new(Seen {
                discovered,
                health: TargetHealth::Unknown,
                last_error: String::new(),
                last_scrape_ms: None,
                last_duration: Duration::ZERO,
                series: 0,
                scraped_by: None,
            }),
            metadata: Mutex::default(),
        }
    }

    /// Discovery says something else about the same target.
    pub(super) fn set_discovered(&self, discovered: Labels) {
        self.seen.lock().discovered = discovered;
    }

    pub(super) fn status(&self, pool: &str) -> TargetStatus {
        let seen = self.seen.lock().clone();
        TargetStatus {
            pool: pool.to_owned(),
            discovered: seen.discovered,
            labels: self.public_labels.clone(),
            url: self.target.url.clone(),
            health: seen.health,
            last_error: seen.last_error,
            last_scrape_ms: seen.last_scrape_ms,
            last_duration: seen.last_duration,
            interval: self.target.written(INTERVAL).to_owned(),
            timeout: self.target.written(TIMEOUT).to_owned(),
            scraped_by: seen.scraped_by,
        }
    }

    /// Another one asks it from now on, or nobody is known to.
    fn leave_to(&self, other: Option<String>) {
        let mut seen = self.seen.lock();
        *seen = Seen {
            discovered: seen.discovered.clone(),
            health: TargetHealth::Unknown,
            last_error: String::new(),
            last_scrape_ms: None,
            last_duration: Duration::ZERO,
            series: 0,
            scraped_by: other,
        };
    }

    /// Adds this target to the figures.
    pub(super) fn count(&self, totals: &mut TargetTotals) {
        let seen = self.seen.lock();
        match seen.health {
            TargetHealth::Unknown => {}
            TargetHealth::Up => totals.up += 1,
            TargetHealth::Down => totals.down += 1,
        }
        totals.series += seen.series;
    }

    /// What it says about all families, or about one.
    pub(super) fn metadata(&self, metric: Option<&str>) -> Vec<model::MetricMetadata> {
        let book = self.metadata.lock();
        match metric {
            None => book.list(),
            Some(metric) => book.get(metric).into_iter().collect(),
        }
    }
}

/// A running loop.
pub(super) struct TargetLoop {
    state: Arc<TargetState>,
    shared: Arc<Shared>,
    orders: watch::Receiver<Order>,
    schedule: Schedule,
    uri: Result<Uri, String>,
    timeout: Duration,
    cache: SeriesCache,
    /// What follows from the job.
    job: Arc<Job>,
    rules: Arc<Rules>,
    headers: HeaderMap,
    report: ReportSeries,
    has_scraped: bool,
    /// When the last scrape was due that it did, milliseconds since the epoch.
    scraped_ms: Option<i64>,
    gone: Option<watch::Receiver<TimeRange>>,
}

/// What happens to the series and the samples of one target.
struct Rules {
    series: SeriesRules,
    samples: SampleRules,
}

impl Rules {
    fn new(job: &Job, state: &TargetState) -> Arc<Self> {
        Arc::new(Rules {
            series: job.series_rules(state.public_labels.clone()),
            samples: job.sample_rules(&state.target),
        })
    }
}

impl TargetLoop {
    pub(super) fn new(
        state: Arc<TargetState>,
        shared: Arc<Shared>,
        orders: watch::Receiver<Order>,
    ) -> Self {
        let job = Arc::clone(&orders.borrow().job);
        let target = &state.target;
        let hash = target.hash() ^ shared.seed;
        // Those who share a target ask it at the same times.
        let offset = if shared.sharing.is_some() { target.place() } else { hash };
        let timeout = target.timeout();
        TargetLoop {
            schedule: Schedule::new(target.interval(), offset),
            uri: target.uri(),
            timeout,
            cache: SeriesCache::new(hash),
            rules: Rules::new(&job, &state),
            headers: headers(&job, timeout),
            report: job.report(&state.public_labels),
            job,
            orders,
            state,
            has_scraped: false,
            scraped_ms: None,
            gone: shared.sharing.as_ref().and_then(|sharing| sharing.gone()),
            shared,
        }
    }

    /// Runs until told to end; yields the series when another loop goes on with them. With a
    /// `predecessor`, goes on with those of that one.
    pub(super) async fn run(
        mut self,
        predecessor: Option<Task<Option<SeriesCache>>>,
    ) -> Option<SeriesCache> {
        if let Some(predecessor) = predecessor
            && let Some(Some(mut cache)) = predecessor.join().await
        {
            // It may have had other rules.
            cache.forget_texts();
            self.cache = cache;
            self.has_scraped = true;
        }
        let mut tick = self.schedule.next(now());
        loop {
            match self.wait(tick).await {
                Waited::Due => {}
                Waited::ClockSetBack => {
                    tick = self.schedule.next(now());
                    continue;
                }
                Waited::Gone(unasked) => {
                    tick = self.made_up_for(unasked, tick).unwrap_or(tick);
                    continue;
                }
                Waited::HandOver => return Some(self.cache),
                Waited::Abandoned => return None,
            }
            let began = now();
            let due_ms = i64::try_from(tick.as_millis()).unwrap_or(i64::MAX);
            match self.shared.whose(self.state.target.place(), due_ms) {
                Whose::Own => {}
                whose => {
                    self.leave_to(whose);
                    if self.orders.borrow_and_update().phase == Phase::End {
                        return None;
                    }
                    tick = self.schedule.next(now().max(tick));
                    continue;
                }
            }
            if self.orders.borrow_and_update().phase == Phase::End {
                self.end(self.schedule.timestamp_ms(tick, began)).await;
                return None;
            }
            self.adopt_job();
            self.scraped_ms = Some(due_ms);
            let t_ms = self.schedule.timestamp_ms(tick, began);
            if !self.scrape(t_ms, began.saturating_sub(tick)).await {
                return Some(self.cache);
            }
            let missed = self.schedule.missed(tick, now());
            self.shared.counters.missed(missed);
            tick = self.schedule.next(now().max(tick));
        }
    }

    /// Another one goes on with the series: what is known of them is forgotten and nothing ends.
    fn leave_to(&mut self, whose: Whose) {
        if self.has_scraped {
            self.cache = SeriesCache::new(self.shared.seed);
            self.has_scraped = false;
        }
        self.state.leave_to(match whose {
            Whose::Of(name) => Some(name),
            Whose::Own | Whose::Nobody => None,
        });
    }

    /// When a target is asked whose last scrape nobody did: soon, instead of an interval later. Whose that
    /// is, is looked at when it is due, as for each.
    fn made_up_for(&self, unasked: TimeRange, tick: Duration) -> Option<Duration> {
        let now = now();
        let missed_ms = i64::try_from(self.schedule.last(now)?.as_millis()).ok()?;
        let was_missed = unasked.start_ms <= missed_ms && missed_ms < unasked.end_ms;
        let was_own = self.scraped_ms.is_some_and(|scraped_ms| scraped_ms >= missed_ms);
        // A clock may be behind that of whoever gave it away.
        let from = Duration::from_millis(u64::try_from(unasked.end_ms).ok()?);
        let place = self.state.target.place();
        (was_missed && !was_own).then(|| self.schedule.made_up_for(now.max(from), tick, place))
    }

    async fn wait(&mut self, tick: Duration) -> Waited {
        loop {
            let now = now();
            if self.schedule.is_lost(tick, now) {
                return Waited::ClockSetBack;
            }
            let due = tokio::time::sleep(tick.saturating_sub(now));
            tokio::select! {
                biased;
                changed = self.orders.changed() => {
                    if changed.is_err() {
                        return Waited::Abandoned;
                    }
                    if self.orders.borrow_and_update().phase == Phase::HandOver {
                        return Waited::HandOver;
                    }
                }
                Some(unasked) = heard(&mut self.gone) => return Waited::Gone(unasked),
                () = due => return Waited::Due,
            }
        }
    }

    /// Takes over what the job says now.
    fn adopt_job(&mut self) {
        let job = Arc::clone(&self.orders.borrow().job);
        if Arc::ptr_eq(&job, &self.job) {
            return;
        }
        let rules = Rules::new(&job, &self.state);
        if rules.series != self.rules.series {
            self.cache.forget_texts();
        }
        self.rules = rules;
        self.headers = headers(&job, self.timeout);
        self.report = job.report(&self.state.public_labels);
        self.job = job;
    }

    /// One scrape; false when it was broken off because another loop goes on.
    async fn scrape(&mut self, t_ms: i64, delay: Duration) -> bool {
        let started = Instant::now();
        let began_ms = now_ms();
        let mut workspace = self.shared.workspaces.take();
        let mut orders = self.orders.clone();
        let (deadline, timeout) = (started + self.timeout, self.timeout);
        let time_limit = TimeLimit { deadline, timeout };
        let fetched = tokio::select! {
            biased;
            _ = orders.wait_for(|order| order.phase == Phase::HandOver) => {
                self.shared.workspaces.give_back(workspace);
                return false;
            }
            fetched = self.fetch(deadline, &mut workspace.body) => fetched,
        };
        let exposition = Exposition {
            cache: std::mem::replace(&mut self.cache, SeriesCache::empty()),
            rules: Arc::clone(&self.rules),
            job: Arc::clone(&self.job),
            state: Arc::clone(&self.state),
            workspace,
            fetched,
            t_ms,
            time_limit,
        };
        let taken = if exposition.workspace.body.len() <= INLINE_BYTES {
            exposition.take()
        } else {
            match tokio::task::spawn_blocking(move || exposition.take()).await {
                Ok(taken) => taken,
                Err(error) => {
                    // A panic ends one scrape. What the target had is forgotten with it.
                    tracing::error!(%error, url = self.state.target.url, "scrape broken off");
                    self.cache = SeriesCache::new(self.shared.seed);
                    return true;
                }
            }
        };
        let Taken { cache, workspace, outcome, mut batch, tally, body_bytes } = taken;
        self.cache = cache;
        self.shared.workspaces.give_back(workspace);
        let duration = started.elapsed();
        let report = Outcome {
            is_up: outcome.is_ok(),
            duration,
            tally,
            timeout: self.timeout,
            sample_limit: self.rules.samples.sample_limit,
            body_bytes,
        };
        self.report.push(&report, t_ms, &mut batch);
        self.has_scraped = true;
        self.note(&outcome, began_ms, duration, tally.kept);
        self.shared.counters.scrape(delay, duration, &tally);
        deliver(batch, &self.shared.batches).await;
        true
    }

    async fn fetch(&self, deadline: Instant, body: &mut Vec<u8>) -> Result<Fetched, ScrapeError> {
        if let Some(error) = self.orders.borrow().target_limit.clone() {
            return Err(error);
        }
        match &self.uri {
            Ok(uri) => fetch(&self.job, uri, &self.headers, deadline, body).await,
            Err(reason) => Err(ScrapeError::Request {
                url: self.state.target.url.clone(),
                error: ClientError::Url(reason.clone()),
            }),
        }
    }

    /// Tells those who look, and the log of failures, how it went.
    fn note(
        &self,
        outcome: &Result<(), ScrapeError>,
        began_ms: i64,
        duration: Duration,
        series: usize,
    ) {
        let last_error = outcome.as_ref().err().map(ToString::to_string).unwrap_or_default();
        if let Err(error) = outcome {
            self.shared.counters.failure(error);
            tracing::debug!(url = self.state.target.url, %error, "scrape failed");
            if let Some(log) = &self.job.failure_log {
                let (job, url) = (&self.job.config.job_name, &self.state.target.url);
                log.log(began_ms, job, url, &last_error, &self.shared.counters);
            }
        }
        let mut seen = self.state.seen.lock();
        seen.health = if outcome.is_ok() { TargetHealth::Up } else { TargetHealth::Down };
        seen.last_error = last_error;
        seen.last_scrape_ms = Some(began_ms);
        seen.last_duration = duration;
        seen.series = series;
        seen.scraped_by = self.shared.sharing.as_ref().map(|sharing| sharing.own_name());
    }

    /// Writes the markers that end all series of the target.
    async fn end(&mut self, t_ms: i64) {
        if !self.has_scraped {
            return;
        }
        let mut batch = MetricBatch::default();
        self.cache.fail(t_ms, &mut batch);
        self.report.push_stale(t_ms, &mut batch);
        deliver(batch, &self.shared.batches).await;
    }
}

/// The next that is heard; never, if there is nothing to hear any more.
async fn heard(gone: &mut Option<watch::Receiver<TimeRange>>) -> Option<TimeRange> {
    let Some(receiver) = gone else { return std::future::pending().await };
    if receiver.changed().await.is_err() {
        *gone = None;
        return None;
    }
    Some(*receiver.borrow_and_update())
}

/// Why a loop no longer waits.
enum Waited {
    Due,
    ClockSetBack,
    /// Nobody asked the targets of one that is gone in that time.
    Gone(TimeRange),
    HandOver,
    Abandoned,
}

/// An answer and all it takes to make a batch of it; may go to another thread.
struct Exposition {
    cache: SeriesCache,
    rules: Arc<Rules>,
    job: Arc<Job>,
    state: Arc<TargetState>,
    workspace: Workspace,
    fetched: Result<Fetched, ScrapeError>,
    t_ms: i64,
    time_limit: TimeLimit,
}

/// What became of it.
struct Taken {
    cache: SeriesCache,
    workspace: Workspace,
    outcome: Result<(), ScrapeError>,
    batch: MetricBatch,
    tally: Tally,
    body_bytes: f64,
}

impl Exposition {
    fn take(self) -> Taken {
        let Exposition { mut cache, rules, job, state, mut workspace, fetched, t_ms, time_limit } =
            self;
        let Workspace { body, unpacked, scratch } = &mut workspace;
        let mut batch = MetricBatch::default();
        let mut tally = Tally::default();
        let mut body_bytes = 0.0;
        let readable = fetched.and_then(|fetched| {
            let body = match fetched.encoding {
                Encoding::Identity => body,
                encoding => {
                    unpack(encoding, body, job.body_limit, unpacked)?;
                    time_limit.check()?;
                    unpacked
                }
            };
            body_bytes = body.len() as f64;
            // Nothing is in any format.
            let format = match body.as_slice() {
                [] => Format::Text,
                _ => format(fetched.content_type.as_ref(), job.fallback)?,
            };
            Ok((body, format))
        });
        let outcome = match readable {
            Ok((body, format)) => {
                let mut metadata = state.metadata.lock();
                let mut appender = Appender::new(
                    &mut cache,
                    &mut metadata,
                    &rules.series,
                    &rules.samples,
                    scratch,
                    &mut batch,
                    t_ms,
                    now_ms(),
                    time_limit,
                );
                let outcome = appender.take(body, format);
                tally = appender.tally;
                outcome
            }
            Err(error) => {
                if matches!(error, ScrapeError::BodySize { .. }) {
                    body_bytes = -1.0;
                }
                cache.fail(t_ms, &mut batch);
                Err(error)
            }
        };
        Taken { cache, workspace, outcome, batch, tally, body_bytes }
    }
}
