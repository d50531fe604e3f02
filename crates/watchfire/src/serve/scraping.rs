//! Scraping by Prometheus' own configuration, and its reload.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use agent::scrape::{PreparedJobs, Scraper, ScraperOptions, Sharing, TargetTotals, Whose};
use anyhow::{Context, Result, anyhow, ensure};
use broker::cluster::{Turn, Turns};
use broker::{Broker, Complaints, PreparedRemotes};
use model::{DEFAULT_TENANT, Labels, MetricBatch, TimeRange};
use net::client::ClientOptions;
use parking_lot::RwLock;
use settings::logs::alloy;
use settings::prometheus::{Config, Loaded};
use tokio::sync::{mpsc, watch};

use super::alerting::OfPrometheus;
use super::otlp_ports;
use crate::check::ThisMachine;
use crate::config::Features;

/// Batches that may wait for the store or the spool; then scrapes wait.
const QUEUE: usize = 64;

/// What says which targets are scraped; at least one is there.
#[derive(Debug, Clone)]
pub(super) struct ScrapeFiles {
    prometheus: Option<PathBuf>,
    alloy: Option<PathBuf>,
}

impl ScrapeFiles {
    /// `None` if nothing is scraped. The file of Alloy is one that has something to scrape.
    pub(super) fn of(prometheus: Option<&PathBuf>, alloy: Option<&PathBuf>) -> Option<ScrapeFiles> {
        let files = ScrapeFiles { prometheus: prometheus.cloned(), alloy: alloy.cloned() };
        (files.prometheus.is_some() || files.alloy.is_some()).then_some(files)
    }

    fn shown(&self) -> String {
        let files = self.prometheus.iter().chain(&self.alloy);
        let files: Vec<String> = files.map(|path| path.display().to_string()).collect();
        files.join(" and ")
    }

    fn of_prometheus(&self, loaded: &Loaded) -> OfPrometheus {
        OfPrometheus::of(&loaded.config, self.prometheus.is_some())
    }

    /// Loads the files; what in them has no effect is told, since nobody would see it otherwise.
    fn load(&self) -> Result<Loaded> {
        let mut loaded = match &self.prometheus {
            None => Loaded::nothing(),
            Some(path) => {
                Config::load(path, &ThisMachine).map_err(|faults| anyhow!("{}", faults.render()))?
            }
        };
        for warning in &loaded.warnings {
            tracing::warn!("{warning}");
        }
        // What of it has no effect was told when lines were looked for in it.
        if let Some(path) = &self.alloy {
            let alloy = alloy::load(path, &ThisMachine, &agent::logs::check_stage);
            let metrics = alloy.map_err(|faults| anyhow!("{}", faults.render()))?.metrics;
            for job in metrics.scrape_configs {
                let name = &job.job_name;
                let mut known = loaded.config.scrape_configs.iter();
                ensure!(
                    known.all(|other| other.job_name != *name),
                    "{}: the job {name:?} is in the configuration of Prometheus, too; rename one",
                    path.display()
                );
                loaded.config.scrape_configs.push(job);
            }
            if loaded.config.global.external_labels.is_empty() {
                loaded.config.global.external_labels = metrics.external_labels;
            }
        }
        Ok(loaded)
    }
}

/// What `--prometheus-config` and a file of Alloy ask for, at work.
pub(super) struct Scraping {
    files: ScrapeFiles,
    scraper: Scraper,
    in_effect: RwLock<InEffect>,
    /// What else the file concerns; an agent has none.
    broker: Option<Broker>,
}

/// A file that can be put in effect: nothing about it can fail any more. Dropped, it is forgotten.
pub(super) struct PreparedFile<'a> {
    loaded: Loaded,
    of_prometheus: OfPrometheus,
    jobs: PreparedJobs<'a>,
    remotes: PreparedRemotes,
}

/// What of the file others want to know.
struct InEffect {
    redacted: String,
    external_labels: BTreeMap<String, String>,
    of_prometheus: OfPrometheus,
}

impl PreparedFile<'_> {
    /// What of the file concerns rules.
    pub(super) fn of_prometheus(&self) -> &OfPrometheus {
        &self.of_prometheus
    }
}

/// The brokers of a cluster that are given the same file share its targets.
pub(super) struct ByTurns(pub(super) Arc<Turns>);

impl Sharing for ByTurns {
    fn whose(&self, place: u64, due_ms: i64) -> Whose {
        match self.0.of(place, due_ms) {
            Turn::Own => Whose::Own,
            Turn::Of(name) => Whose::Of(name),
            Turn::Nobody => Whose::Nobody,
        }
    }

    fn gone(&self) -> Option<watch::Receiver<TimeRange>> {
        Some(self.0.gone())
    }

    fn own_name(&self) -> String {
        self.0.own_name()
    }
}

impl Scraping {
    /// Reads the file and begins. Batches come out of the receiver.
    pub(super) async fn start(
        files: ScrapeFiles,
        broker: Option<Broker>,
        features: Features,
        sharing: Option<Arc<dyn Sharing>>,
    ) -> Result<(Arc<Scraping>, mpsc::Receiver<MetricBatch>)> {
        let loaded = files.load()?;
        // Before the first scrape, so that a new remote gets all of them.
        let prepared = prepare(broker.as_ref(), &loaded.config).await?;
        put(broker.as_ref(), &loaded.config, prepared).await;
        let mut seed = [0; 8];
        getrandom::fill(&mut seed).map_err(|error| anyhow!("no random numbers: {error}"))?;
        let options = ScraperOptions {
            client: ClientOptions::operator(),
            // A broker adds them where it passes series on; an agent does nothing else.
            adds_external_labels: broker.is_none(),
            folds_created: features.st_storage,
            type_and_unit_labels: features.type_and_unit_labels,
            seed: u64::from_le_bytes(seed),
            sharing,
        };
        let (batches, receiver) = mpsc::channel(QUEUE);
        let scraper = Scraper::start(&loaded.config, options, batches)
            .await
            .with_context(|| format!("begin to scrape by {}", files.shown()))?;
        let of_prometheus = files.of_prometheus(&loaded);
        let in_effect = RwLock::new(InEffect::of(loaded, of_prometheus));
        Ok((Arc::new(Scraping { files, scraper, in_effect, broker }), receiver))
    }

    /// Reads the file again and does all of putting it in effect that may fail. A refusal is the
    /// caller's to count.
    pub(super) async fn prepare(&self) -> Result<PreparedFile<'_>> {
        let loaded = self.files.load()?;
        let remotes = prepare(self.broker.as_ref(), &loaded.config).await?;
        let jobs = self.scraper.prepare(&loaded.config).await;
        let jobs = jobs.with_context(|| format!("put {} in effect", self.files.shown()))?;
        let of_prometheus = self.files.of_prometheus(&loaded);
        Ok(PreparedFile { loaded, of_prometheus, jobs, remotes })
    }

    /// Puts the file in effect.
    pub(super) async fn put(&self, prepared: PreparedFile<'_>) {
        let PreparedFile { loaded, of_prometheus, jobs, remotes } = prepared;
        self.scraper.put(jobs);
        put(self.broker.as_ref(), &loaded.config, remotes).await;
        *self.in_effect.write() = InEffect::of(loaded, of_prometheus);
    }

    /// Reads the file again and puts it in effect, all of it or nothing, for a signal, whose sender
    /// reads the log.
    pub(super) async fn reload_and_tell(&self) {
        match self.prepare().await {
            Ok(prepared) => {
                self.put(prepared).await;
                tracing::info!(file = self.files.shown(), "the configuration is in effect");
            }
            Err(error) => {
                self.scraper.count_refused();
                tell_refused(&error);
            }
        }
    }

    pub(super) fn scraper(&self) -> &Scraper {
        &self.scraper
    }

    /// The labels `/federate` adds.
    pub(super) fn external_labels(&self) -> BTreeMap<String, String> {
        self.in_effect.read().external_labels.clone()
    }

    /// What of the file concerns rules.
    pub(super) fn of_prometheus(&self) -> OfPrometheus {
        self.in_effect.read().of_prometheus.clone()
    }

    /// The file as it was read, without secrets.
    pub(super) fn redacted(&self) -> String {
        self.in_effect.read().redacted.clone()
    }

    /// How many targets answer and how many do not.
    pub(super) fn totals(&self) -> TargetTotals {
        self.scraper.totals()
    }
}

impl InEffect {
    fn of(loaded: Loaded, of_prometheus: OfPrometheus) -> Self {
        let labels = &loaded.config.global.external_labels;
        InEffect {
            of_prometheus,
            external_labels: labels
                .iter()
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect(),
            redacted: loaded.redacted,
        }
    }
}

impl console::Targets for Scraping {
    fn pools(&self) -> Vec<String> {
        self.scraper.pools()
    }

    fn active(&self, pool: Option<&str>) -> Vec<console::ActiveTarget> {
        let targets = self.scraper.targets(pool).into_iter();
        targets
            .map(|target| console::ActiveTarget {
                pool: target.pool,
                discovered: target.discovered,
                labels: target.labels,
                url: target.url,
                health: target.health.as_str(),
                last_error: target.last_error,
                last_scrape_ms: target.last_scrape_ms,
                last_duration_seconds: target.last_duration.as_secs_f64(),
                interval: target.interval,
                timeout: target.timeout,
                scraped_by: target.scraped_by,
            })
            .collect()
    }

    fn dropped(&self, pool: Option<&str>) -> Vec<console::DroppedTarget> {
        let dropped = self.scraper.dropped_targets(pool).into_iter();
        dropped
            .map(|target| console::DroppedTarget {
                pool: target.pool,
                discovered: target.discovered,
            })
            .collect()
    }

    fn dropped_counts(&self) -> Vec<(String, usize)> {
        self.scraper.dropped_counts()
    }

    fn metadata(
        &self,
        keep: &dyn Fn(&Labels) -> bool,
        metric: Option<&str>,
        limit: usize,
    ) -> Vec<console::TargetMetadata> {
        let found = self.scraper.metadata(keep, metric, limit).into_iter();
        found
            .map(|one| console::TargetMetadata { target: one.target, metadata: one.metadata })
            .collect()
    }

    fn relabel_steps(&self, pool: &str, labels: &Labels) -> Option<Vec<console::RelabelStep>> {
        let steps = self.scraper.relabel_steps(pool, labels)?.into_iter();
        Some(
            steps
                .map(|step| console::RelabelStep {
                    rule: step.rule,
                    output: step.labels,
                    keep: step.kept,
                })
                .collect(),
        )
    }
}

/// Looks whether what concerns the broker can be put in effect.
async fn prepare(broker: Option<&Broker>, config: &Config) -> Result<PreparedRemotes> {
    match broker {
        Some(broker) => broker.prepare_remote_writes(config).await,
        None => {
            if !config.remote_write.is_empty() {
                tracing::warn!(
                    "remote_write has no effect in an agent: give it to the broker it ships to"
                );
            }
            Ok(PreparedRemotes::none())
        }
    }
}

/// Puts in effect what concerns the broker.
async fn put(broker: Option<&Broker>, config: &Config, prepared: PreparedRemotes) {
    if let Some(broker) = broker {
        broker.set_otlp_options(otlp_ports::options(&config.otlp));
        broker.put_remote_writes(prepared).await;
    }
}

/// Logs why a reload changed nothing.
pub(super) fn tell_refused(error: &anyhow::Error) {
    tracing::error!(
        error = format!("{error:#}"),
        "the configuration was not reloaded, the one of before stays in effect"
    );
}

/// Takes what is scraped to the broker of this process, on a thread of its own.
pub(super) fn store(
    mut batches: mpsc::Receiver<MetricBatch>,
    broker: Broker,
) -> Result<std::thread::JoinHandle<()>> {
    std::thread::Builder::new()
        .name("scrape-ingest".to_owned())
        .spawn(move || {
            let complaints = Arc::new(Complaints::default());
            while let Some(batch) = batches.blocking_recv() {
                let complaints = Arc::clone(&complaints);
                broker.ingest(DEFAULT_TENANT, &batch, move |result| match result {
                    Ok(outcome) => {
                        if let Some(complaint) = outcome.complaint()
                            && let Some(more) = complaints.may_say(&complaint, Instant::now())
                        {
                            tracing::warn!(
                                %complaint,
                                more_like_it_before = more,
                                "a scrape was not stored as a whole"
                            );
                        }
                    }
                    Err(error) => {
                        let text = error.to_string();
                        if let Some(more) = complaints.may_say(&text, Instant::now()) {
                            tracing::warn!(
                                error = text,
                                more_like_it_before = more,
                                "a scrape was not stored"
                            );
                        }
                    }
                });
            }
        })
        .context("start the scrape ingest thread")
}
