//! All jobs of one configuration.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use discovery::{Prepared, Task};
use model::{Labels, MetricBatch};
use net::client::{Client, ClientOptions};
use parking_lot::Mutex;
use settings::prometheus::{Config, Discovery, ScrapeConfig};
use settings::relabel::{LabelBuffer, relabel_one};
use tokio::sync::{Semaphore, SemaphorePermit, mpsc};
use wire::text_encode::TextEncoder;

use super::counters::ScrapeCounters;
use super::error::ScraperError;
use super::failure_log::FailureLogs;
use super::job::Job;
use super::pool::{Plan, Pool, PoolView};
use super::sharing::Sharing;
use super::status::{DroppedTarget, RelabelStep, TargetMetadata, TargetStatus, TargetTotals};
use super::target_loop::Shared;
use super::workspace::Workspaces;

/// What a scraper is told besides the configuration.
pub struct ScraperOptions {
    /// How requests are made; [`ClientOptions::operator`] unless something else is wanted.
    pub client: ClientOptions,
    /// Whether series get the configuration's `external_labels`, which belongs to whoever passes
    /// them on.
    pub adds_external_labels: bool,
    /// Whether `_created` lines of OpenMetrics are when the series they stand beside began, and no
    /// series: Prometheus' feature `st-storage`. Each family is then read twice.
    pub folds_created: bool,
    /// Whether type and unit of families become labels `__type__` and `__unit__` of their series,
    /// before metric relabeling: Prometheus' feature `type-and-unit-labels`.
    pub type_and_unit_labels: bool,
    /// Differs between processes: two that scrape the same targets do so at different moments, unless
    /// they share them.
    pub seed: u64,
    /// With whom targets are shared: of those that are another's, nothing is asked and nothing written,
    /// no staleness markers either, because the other goes on with their series.
    pub sharing: Option<Arc<dyn Sharing>>,
}

/// Scrapes by a configuration until it is stopped or dropped. Must be used on a tokio runtime.
pub struct Scraper {
    options: ScraperOptions,
    shared: Arc<Shared>,
    jobs: Mutex<Jobs>,
    /// One reload at a time: a plan says what is to change about the plan before.
    turn: Semaphore,
}

#[derive(Default)]
struct Jobs {
    running: BTreeMap<String, Running>,
    /// Jobs that are gone and whose targets are still ending.
    ending: Vec<Task>,
}

struct Running {
    view: Arc<PoolView>,
    job: Arc<Job>,
    /// Without a bound: a reload adds one plan, and a pool takes plans as they come.
    plans: mpsc::UnboundedSender<Plan>,
    task: Task,
}

/// A job of the new configuration with everything it needs.
struct Ready {
    job: Arc<Job>,
    discovery: Vec<(Discovery, Option<Prepared>)>,
}

/// Jobs that can be put in effect.
pub struct PreparedJobs<'a> {
    ready: Vec<Ready>,
    _turn: SemaphorePermit<'a>,
}

impl Scraper {
    /// Starts scraping; batches go to `batches`, and while it is full, scrapes wait.
    ///
    /// # Errors
    /// As [`Scraper::reload`].
    pub async fn start(
        config: &Config,
        options: ScraperOptions,
        batches: mpsc::Sender<MetricBatch>,
    ) -> Result<Self, ScraperError> {
        let scraper = Scraper {
            shared: Arc::new(Shared {
                batches,
                counters: Arc::new(ScrapeCounters::default()),
                workspaces: Workspaces::default(),
                seed: options.seed,
                sharing: options.sharing.clone(),
            }),
            options,
            jobs: Mutex::default(),
            turn: Semaphore::new(1),
        };
        scraper.reload(config).await?;
        Ok(scraper)
    }

    /// Puts another configuration in effect, all of it or nothing. Jobs that stay as they are go on
    /// undisturbed; targets that stay keep their times and series. Targets that are gone end with
    /// staleness markers at the time of their next scrape.
    ///
    /// # Errors
    /// [`ScraperError::Job`] names a job that cannot run, for example because its
    /// `scrape_failure_log_file` cannot be opened.
    pub async fn reload(&self, config: &Config) -> Result<(), ScraperError> {
        let prepared = self.prepare(config).await.inspect_err(|_| self.count_refused())?;
        self.put(prepared);
        Ok(())
    }

    /// The first half of [`Scraper::reload`], all of it that may fail. No other begins until what it
    /// yields is [put in effect](Scraper::put) or dropped. A refusal is the caller's to count.
    ///
    /// # Errors
    /// As [`Scraper::reload`].
    pub async fn prepare(&self, config: &Config) -> Result<PreparedJobs<'_>, ScraperError> {
        let turn = self.turn.acquire().await.expect("the semaphore is never closed");
        let ready = self.open_jobs(config).await?;
        Ok(PreparedJobs { ready, _turn: turn })
    }

    /// Puts jobs in effect in place of those of before.
    pub fn put(&self, prepared: PreparedJobs<'_>) {
        self.apply(prepared.ready);
    }

    /// Counts a configuration that was refused, also one that could not even be read.
    pub fn count_refused(&self) {
        self.shared.counters.reloads_failed.add(1);
    }

    /// Opens what the new configuration needs and the old one has not.
    async fn open_jobs(&self, config: &Config) -> Result<Vec<Ready>, ScraperError> {
        let external = match self.options.adds_external_labels {
            true => config.global.external_labels.clone(),
            false => Labels::empty(),
        };
        let mut logs = FailureLogs::default();
        let mut ready = Vec::with_capacity(config.scrape_configs.len());
        for scrape in &config.scrape_configs {
            let known = {
                let jobs = self.jobs.lock();
                jobs.running.get(&scrape.job_name).map(|running| Arc::clone(&running.job))
            };
            ready.push(match known {
                // What is the same is not even opened again.
                Some(job) if *job.config == *scrape && job.external_labels == external => {
                    Ready { job, discovery: Vec::new() }
                }
                known => self.prepare_job(scrape, &external, known.as_deref(), &mut logs).await?,
            });
        }
        Ok(ready)
    }

    async fn prepare_job(
        &self,
        scrape: &ScrapeConfig,
        external_labels: &Labels,
        known: Option<&Job>,
        logs: &mut FailureLogs,
    ) -> Result<Ready, ScraperError> {
        let fault = |reason: String| ScraperError::Job { job: scrape.job_name.clone(), reason };
        let client = match known {
            // Its connections are kept, too.
            Some(known) if known.config.http == scrape.http => Arc::clone(&known.client),
            _ => Arc::new(
                Client::open(&scrape.http, &self.options.client)
                    .await
                    .map_err(|error| fault(error.to_string()))?,
            ),
        };
        let failure_log = match &scrape.scrape_failure_log_file {
            None => None,
            Some(path) => Some(logs.open(path).await.map_err(|error| {
                fault(format!("scrape_failure_log_file {}: {error}", path.display()))
            })?),
        };
        let mut discovery = Vec::with_capacity(scrape.discovery.len());
        for block in &scrape.discovery {
            let runs = known.is_some_and(|known| known.config.discovery.contains(block));
            let prepared = if runs {
                None
            } else {
                let prepared = Prepared::new(block, &self.options.client).await;
                Some(prepared.map_err(|error| fault(error.to_string()))?)
            };
            discovery.push((block.clone(), prepared));
        }
        let config = Arc::new(scrape.clone());
        let job = Job::new(config, external_labels.clone(), client, failure_log);
        let ScraperOptions { folds_created, type_and_unit_labels, .. } = self.options;
        let job = Arc::new(Job { folds_created, type_and_unit_labels, ..job });
        Ok(Ready { job, discovery })
    }

    fn apply(&self, ready: Vec<Ready>) {
        let mut jobs = self.jobs.lock();
        let names: BTreeSet<&str> =
            ready.iter().map(|ready| ready.job.config.job_name.as_str()).collect();
        let gone: Vec<String> =
            jobs.running.keys().filter(|name| !names.contains(name.as_str())).cloned().collect();
        jobs.ending.retain(|task| !task.is_finished());
        for name in gone {
            if let Some(running) = jobs.running.remove(&name) {
                // Without its sender the pool knows that it is to end.
                jobs.ending.push(running.task);
            }
        }
        for Ready { job, discovery } in ready {
            let name = job.config.job_name.clone();
            let plan = Plan { job: Arc::clone(&job), discovery };
            match jobs.running.get_mut(&name) {
                Some(running) if Arc::ptr_eq(&running.job, &job) => {}
                Some(running) => {
                    self.shared.counters.reloads.add(1);
                    running.job = job;
                    running.plans.send(plan).expect("a pool lives as long as its sender");
                }
                None => {
                    self.shared.counters.reloads.add(1);
                    jobs.running.insert(name, self.run(plan));
                }
            }
        }
    }

    fn run(&self, plan: Plan) -> Running {
        let job = Arc::clone(&plan.job);
        let view = Arc::new(PoolView::new(&job.config.job_name));
        let (plans, waiting) = mpsc::unbounded_channel();
        let shared = Arc::clone(&self.shared);
        let task = Task::spawn(Pool::run(Arc::clone(&view), shared, plan, waiting));
        Running { view, job, plans, task }
    }

    /// Ends all scrapes at once. Series get no markers: whoever starts next goes on with them.
    pub fn stop(self) {
        drop(self);
    }

    /// The jobs, by name.
    pub fn pools(&self) -> Vec<String> {
        self.jobs.lock().running.keys().cloned().collect()
    }

    /// The targets of one job or of all, by job and URL.
    pub fn targets(&self, pool: Option<&str>) -> Vec<TargetStatus> {
        self.views(pool).iter().flat_map(|view| view.targets()).collect()
    }

    /// Figures of all targets together.
    pub fn totals(&self) -> TargetTotals {
        let mut totals = TargetTotals::default();
        for state in self.views(None).iter().flat_map(|view| view.states()) {
            state.count(&mut totals);
        }
        totals
    }

    /// The targets relabeling dropped, as many as `keep_dropped_targets` keeps.
    pub fn dropped_targets(&self, pool: Option<&str>) -> Vec<DroppedTarget> {
        self.views(pool).iter().flat_map(|view| view.dropped()).collect()
    }

    /// How many targets relabeling dropped, for each job.
    pub fn dropped_counts(&self) -> Vec<(String, usize)> {
        self.views(None).iter().map(|view| (view.name.clone(), view.dropped_count())).collect()
    }

    /// What targets whose labels `keep` accepts say about all families or about one. No further
    /// target is asked once there are `limit` entries.
    pub fn metadata(
        &self,
        keep: &dyn Fn(&Labels) -> bool,
        metric: Option<&str>,
        limit: usize,
    ) -> Vec<TargetMetadata> {
        let mut found = Vec::new();
        for view in self.views(None) {
            for state in view.states().iter().filter(|state| keep(&state.public_labels)) {
                let target = || state.public_labels.clone();
                let told = state.metadata(metric).into_iter();
                found.extend(told.map(|metadata| TargetMetadata { target: target(), metadata }));
                if found.len() >= limit {
                    return found;
                }
            }
        }
        found
    }

    /// What each relabeling rule of a job makes of `labels`; `None` if there is no such job. Behind
    /// the rule that drops the target there are no labels.
    pub fn relabel_steps(&self, pool: &str, labels: &Labels) -> Option<Vec<RelabelStep>> {
        let job = Arc::clone(&self.jobs.lock().running.get(pool)?.job);
        let mut work = LabelBuffer::new();
        work.load(labels);
        let mut kept = true;
        let steps = job.config.relabel_configs.iter().map(|rule| {
            kept = kept && relabel_one(rule, &mut work);
            let labels = if kept { work.to_labels().unwrap_or_default() } else { Labels::empty() };
            RelabelStep { rule: rule.clone(), labels, kept }
        });
        Some(steps.collect())
    }

    /// Writes every counter in Prometheus' text format.
    pub fn render(&self, out: &mut TextEncoder<'_>) {
        self.shared.counters.render(out);
        self.options.client.counters.render(out);
        let jobs: Vec<(String, usize, u64)> = {
            let jobs = self.jobs.lock();
            let row = |(name, running): (&String, &Running)| {
                let targets = running.view.target_count();
                (name.clone(), targets, running.job.config.target_limit)
            };
            jobs.running.iter().map(row).collect()
        };
        let name = "watchfire_agent_scrape_pools";
        out.family(name, "gauge", "Jobs that are scraped.");
        out.sample(name, &[], jobs.len() as f64);
        let name = "watchfire_agent_scrape_pool_targets";
        out.family(name, "gauge", "Targets that are scraped, by job.");
        for (job, targets, _) in &jobs {
            out.sample(name, &[("scrape_job", job)], *targets as f64);
        }
        let name = "watchfire_agent_scrape_pool_target_limit";
        out.family(name, "gauge", "target_limit, by job; 0 means none.");
        for (job, _, limit) in &jobs {
            out.sample(name, &[("scrape_job", job)], *limit as f64);
        }
    }

    fn views(&self, pool: Option<&str>) -> Vec<Arc<PoolView>> {
        let jobs = self.jobs.lock();
        let wanted = jobs.running.iter().filter(|(name, _)| pool.is_none_or(|pool| pool == *name));
        wanted.map(|(_, running)| Arc::clone(&running.view)).collect()
    }
}

impl std::fmt::Debug for Scraper {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Scraper").field("pools", &self.pools()).finish_non_exhaustive()
    }
}
