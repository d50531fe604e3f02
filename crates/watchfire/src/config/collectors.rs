//! Files of Promtail and Alloy as what this program collects.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use agent::logs::{
    Encoding, FileGroup, FirstEntries, ForeignPositions, Glob, JournalConfig, JournalLabels,
    Layout, LogStages, LogsConfig, StageContext, StageCounters, Stages, Start, StdinConfig,
    SyslogConfig, SyslogListen, check_stage,
};
use anyhow::{Context, Result, anyhow};
use settings::logs::{
    FileSource, JournalSource, LineLimits, LoadedLogs, LogJob, LogRoute, LogSource, RouteStep,
    SyslogSource, SyslogTransport, alloy, promtail,
};
use settings::yaml::Document;

use super::logs::{JOURNALCTL, journalctl};
use crate::check::ThisMachine;
use crate::cli::CollectorFiles;

/// What is collected besides what keys alone can say.
#[derive(Debug)]
pub(super) struct Collectors<'a> {
    /// Files of others.
    pub(super) files: &'a CollectorFiles,
    /// Our own file, and its text.
    pub(super) own: (Option<&'a Path>, &'a str),
    pub(super) counters: &'a Arc<StageCounters>,
}

impl Collectors<'_> {
    /// Adds what the files of others say to what is collected already. What of them does not run is told
    /// in the log, since nobody would see it otherwise.
    ///
    /// # Errors
    /// A file cannot be used.
    pub(super) fn add_to(&self, logs: &mut LogsConfig) -> Result<()> {
        let files = self.files;
        if let Some(path) = &files.promtail_config {
            let loaded = promtail::load(path, &ThisMachine, files.config_expand_env, &check_stage)?;
            add(&loaded, logs, self)?;
            logs.take_over.extend(positions_of_promtail(&loaded.config)?);
        }
        if let Some(path) = &files.alloy_config {
            let loaded = alloy::load(path, &ThisMachine, &check_stage)?;
            add(&loaded, logs, self)?;
            let storage = alloy_storage(files.alloy_storage.as_deref())?;
            logs.take_over.append(&mut positions_of_alloy(&loaded.config, &storage)?);
        }
        Ok(())
    }

    /// The stages below a key of our own file.
    ///
    /// # Errors
    /// Everything that is wrong with them.
    pub(super) fn own_stages(&self, key: &str) -> Result<Arc<dyn Stages>> {
        let file = self.own.0.unwrap_or(Path::new("")).to_string_lossy();
        let document = Document::parse(&file, self.own.1.as_bytes())?;
        let (stages, warnings) = promtail::parse_stages(&document, key, &check_stage)?;
        for warning in warnings {
            tracing::warn!("{warning}");
        }
        let route = LogRoute { steps: vec![RouteStep::Stages(stages)], sinks: Vec::new() };
        let context = StageContext::new(&LineLimits::default(), Arc::clone(self.counters));
        let stages = LogStages::new(&[route], &context)
            .map_err(|fault| anyhow!("{key}: {}: {}", fault.key, fault.message))?;
        Ok(Arc::new(stages))
    }
}

fn add(loaded: &LoadedLogs, logs: &mut LogsConfig, from: &Collectors<'_>) -> Result<()> {
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    let context = StageContext::new(&loaded.config.limits, Arc::clone(from.counters));
    for job in &loaded.config.jobs {
        let stages = LogStages::new(&job.routes, &context)
            .map_err(|fault| anyhow!("{}: {}: {}", job.name, fault.key, fault.message))?;
        let stages: Arc<dyn Stages> = Arc::new(stages);
        match &job.source {
            LogSource::Files(files) => add_files(job, files, &stages, logs)?,
            LogSource::Journal(journal) => add_journal(job, journal, stages, logs),
            LogSource::Syslog(syslog) => add_syslog(job, syslog, stages, logs)?,
            LogSource::Docker(_) => {
                not_run(job, "containers by their daemon", "set logs.containers: true in --config");
            }
            LogSource::Stdin { labels } => {
                let labels = labels.iter();
                let labels =
                    labels.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
                logs.stdin = Some(StdinConfig { labels, stages });
            }
        }
    }
    Ok(())
}

/// Where Promtail has noted how far it was.
fn positions_of_promtail(config: &settings::logs::LogsConfig) -> Result<Option<ForeignPositions>> {
    let Some(path) = &config.positions else { return Ok(None) };
    let unpacks = |job: &LogJob| matches!(&job.source, LogSource::Files(files) if files.compression.is_some());
    let journal = config.jobs.iter().find(|job| matches!(job.source, LogSource::Journal(_)));
    Ok(Some(ForeignPositions {
        path: from_here(path)?,
        older: None,
        journal: journal.map(|job| job.name.clone()),
        unpacks: config.jobs.iter().any(unpacks),
    }))
}

/// Where the components of Alloy have.
fn positions_of_alloy(
    config: &settings::logs::LogsConfig,
    storage: &Path,
) -> Result<Vec<ForeignPositions>> {
    let mut found = Vec::new();
    for job in &config.jobs {
        let path = storage.join(&job.name).join("positions.yml");
        let of_job = ForeignPositions { path, older: None, journal: None, unpacks: false };
        found.push(match &job.source {
            LogSource::Files(files) => ForeignPositions {
                older: files.legacy_positions.as_deref().map(from_here).transpose()?,
                unpacks: files.compression.is_some(),
                ..of_job
            },
            LogSource::Journal(_) => ForeignPositions { journal: Some(job.name.clone()), ..of_job },
            _ => continue,
        });
    }
    Ok(found)
}

/// Alloy's `--storage.path`: what is given, what it is without it, or what its packages give.
fn alloy_storage(given: Option<&Path>) -> Result<PathBuf> {
    let usual = [Path::new("data-alloy"), Path::new("/var/lib/alloy/data")];
    let is_there = usual.into_iter().find(|path| path.is_dir());
    from_here(given.or(is_there).unwrap_or(usual[0]))
}

/// A path, from where the program was started if it is not absolute, as there.
fn from_here(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path).context("where the program was started")
}

fn not_run(job: &LogJob, what: &str, instead: &str) {
    tracing::warn!(job = job.name, "{what}: not collected yet; {instead}");
}

fn add_files(
    job: &LogJob,
    files: &FileSource,
    stages: &Arc<dyn Stages>,
    logs: &mut LogsConfig,
) -> Result<()> {
    if !files.discovery.is_empty() {
        not_run(job, "targets of files", "name the paths in static_configs");
    }
    if files.compression.is_some() {
        not_run(job, "packed files", "unpack them");
    }
    let encoding = files.encoding.as_deref().map_or(Ok(Encoding::Utf8), Encoding::named);
    let encoding = encoding.map_err(|error| anyhow!("{}: encoding: {error}", job.name))?;
    for target in &files.targets {
        let labels = target.labels.iter();
        let labels: BTreeMap<String, String> =
            labels.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        let exclude = target.exclude.iter().map(|path| glob(job, path));
        logs.files.push(FileGroup {
            paths: vec![glob(job, &target.path)?],
            exclude: exclude.collect::<Result<_>>()?,
            labels,
            encoding,
            start: if files.tail_from_end { Start::End } else { Start::Beginning },
            stages: Arc::clone(stages),
            layout: Layout::Plain,
        });
    }
    Ok(())
}

fn add_syslog(
    job: &LogJob,
    syslog: &SyslogSource,
    stages: Arc<dyn Stages>,
    logs: &mut LogsConfig,
) -> Result<()> {
    if syslog.tls.is_some() {
        not_run(job, "syslog over TLS", "set syslog.tls_listen at a broker");
        return Ok(());
    }
    if !job.relabel.is_empty() {
        tracing::warn!(
            job = job.name,
            "labels __syslog_… are not relabelled: messages have hostname, app_name and others as labels"
        );
    }
    let scheme = match syslog.transport {
        SyslogTransport::Tcp => "tcp",
        SyslogTransport::Udp => "udp",
    };
    let listen = SyslogListen::parse(&format!("{scheme}://{}", syslog.listen_address));
    let listen = listen.map_err(|error| anyhow!("{}: listen_address: {error}", job.name))?;
    let labels = syslog.labels.iter();
    let labels = labels.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    logs.syslog.push(SyslogConfig { listen, labels, stages });
    Ok(())
}

/// A pattern, from where the program was started if it is not absolute, as there.
fn glob(job: &LogJob, path: &str) -> Result<Glob> {
    let whole = from_here(Path::new(path))?;
    Glob::new(&whole.to_string_lossy()).map_err(|error| anyhow!("{}: {error}", job.name))
}

fn add_journal(
    job: &LogJob,
    journal: &JournalSource,
    stages: Arc<dyn Stages>,
    logs: &mut LogsConfig,
) {
    if logs.journal.is_some() {
        not_run(job, "a second time the journal", "collect it in one job");
        return;
    }
    let mut arguments = journal.matches.clone();
    arguments.extend(journal.path.iter().map(|path| format!("--directory={}", path.display())));
    let stages = JournalLabels::before(journal.labels.clone(), &job.relabel, stages);
    logs.journal = Some(JournalConfig {
        command: journalctl().unwrap_or_else(|| PathBuf::from(JOURNALCTL[0])),
        arguments,
        labels: BTreeMap::new(),
        first: FirstEntries::Since(journal.max_age),
        as_json: journal.as_json,
        stages: Arc::new(stages),
    });
}
