//! Files of Promtail and Alloy as what this program collects.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use agent::logs::{
    Encoding, FileGroup, FirstEntries, ForeignPositions, Glob, JournalConfig, JournalLabels,
    Layout, LogStages, LogsConfig, PodLabels, StageContext, StageCounters, Stages, Start,
    StdinConfig, SyslogConfig, SyslogListen, check_stage,
};
use anyhow::{Context, Result, anyhow};
use settings::logs::{
    FileSource, JournalSource, LineLimits, LoadedLogs, LogJob, LogRoute, LogSink, LogSource,
    PodSource, RouteStep, SyslogSource, SyslogTransport, alloy, parse_sinks, promtail,
};
use settings::yaml::Document;

use super::logs::{JOURNALCTL, joined, journalctl, told_before};
use crate::check::ThisMachine;
use crate::cli::CollectorFiles;

const PROMTAIL: &str = "promtail";
const ALLOY: &str = "alloy";

/// What is collected besides what keys alone can say.
#[derive(Debug, Clone, Copy)]
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
    /// Their lines have the labels `of_all` where they have none of that name.
    ///
    /// # Errors
    /// A file cannot be used.
    pub(super) fn add_to(
        &self,
        logs: &mut LogsConfig,
        of_all: &BTreeMap<String, String>,
    ) -> Result<()> {
        for (of, loaded) in self.load()? {
            for warning in &loaded.warnings {
                tracing::warn!("{warning}");
            }
            add(&loaded.config.jobs, &loaded.config.limits, logs, self.counters)?;
            if of == PROMTAIL {
                logs.take_over.extend(positions_of_promtail(&loaded.config)?);
            } else {
                let storage = alloy_storage(self.files.alloy_storage.as_deref())?;
                logs.take_over.append(&mut positions_of_alloy(&loaded.config, &storage)?);
            }
        }
        let of_files = logs.files.iter_mut().map(|group| &mut group.labels);
        let of_journal = logs.journal.iter_mut().map(|journal| &mut journal.labels);
        let of_syslog = logs.syslog.iter_mut().map(|syslog| &mut syslog.labels);
        let of_stdin = logs.stdin.iter_mut().map(|stdin| &mut stdin.labels);
        for labels in of_files.chain(of_journal).chain(of_syslog).chain(of_stdin) {
            *labels = joined(of_all, labels);
        }
        Ok(())
    }

    /// What the files of others push to systems that they name, each with a spool of its own.
    ///
    /// # Errors
    /// A file cannot be used.
    pub(super) fn pushed(&self, data: &Path, like: &LogsConfig) -> Result<Vec<Pushed>> {
        let mut found = Vec::new();
        if !self.files.keep_clients {
            return Ok(found);
        }
        for (kind, loaded) in self.load()? {
            for (at, sink) in loaded.config.sinks.iter().enumerate() {
                let mut jobs = loaded.config.jobs.clone();
                for job in &mut jobs {
                    job.routes = job.routes.iter().filter_map(|route| only(route, at)).collect();
                }
                jobs.retain(|job| !job.routes.is_empty());
                let mut lines = LogsConfig { files: Vec::new(), journal: None, ..like.clone() };
                // What stages count counts once, on the way to the broker.
                let limits = &loaded.config.limits;
                told_before(|| add(&jobs, limits, &mut lines, &Arc::default()))?;
                found.push(Pushed::new(sink.clone(), kind, data, lines));
            }
        }
        Ok(found)
    }

    /// The file of Alloy, if something is scraped by it.
    ///
    /// # Errors
    /// It cannot be used.
    pub(super) fn scrapes(&self) -> Result<Option<PathBuf>> {
        let is_there = self.load()?.iter().any(|(_, file)| !file.metrics.scrape_configs.is_empty());
        Ok(self.files.alloy_config.clone().filter(|_| is_there))
    }

    fn load(&self) -> Result<Vec<(&'static str, LoadedLogs)>> {
        let CollectorFiles { promtail_config, alloy_config, config_expand_env, .. } = self.files;
        let mut found = Vec::new();
        if let Some(path) = promtail_config {
            let loaded = promtail::load(path, &ThisMachine, *config_expand_env, &check_stage)?;
            found.push((PROMTAIL, loaded));
        }
        if let Some(path) = alloy_config {
            found.push((ALLOY, alloy::load(path, &ThisMachine, &check_stage)?));
        }
        Ok(found)
    }

    /// Systems that our own file names.
    ///
    /// # Errors
    /// Everything that is wrong with them.
    pub(super) fn own_sinks(&self) -> Result<Vec<LogSink>> {
        let path = self.own.0.unwrap_or(Path::new(""));
        let document = Document::parse(&path.to_string_lossy(), self.own.1.as_bytes())?;
        let directory = path.parent().unwrap_or(Path::new(""));
        let (sinks, warnings) = parse_sinks(&document, "logs.sinks", directory)?;
        for warning in warnings {
            tracing::warn!("{warning}");
        }
        Ok(sinks)
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

/// Lines for a system besides the broker.
#[derive(Debug, Clone)]
pub(crate) struct Pushed {
    pub(crate) sink: LogSink,
    pub(crate) lines: LogsConfig,
}

impl Pushed {
    /// Lines that are collected for `sink`, which a file of this kind names.
    pub(super) fn new(sink: LogSink, kind: &str, data: &Path, mut lines: LogsConfig) -> Pushed {
        let name = |c: char| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' };
        let name: String = sink.name.chars().map(name).collect();
        lines.directory = data.join("pushed").join(format!("{kind}-{name}"));
        lines.linger = sink.batch_wait;
        // What a socket hands in cannot be read twice.
        if !std::mem::take(&mut lines.syslog).is_empty() || lines.stdin.take().is_some() {
            tracing::warn!(sink = sink.name, "syslog and standard input go to the broker alone");
        }
        Pushed { sink, lines }
    }
}

/// A route without the ways that lead elsewhere.
fn only(route: &LogRoute, sink: usize) -> Option<LogRoute> {
    let mut route = route.clone();
    match route.steps.last_mut() {
        Some(RouteStep::Branches(ways)) => {
            *ways = ways.iter().filter_map(|way| only(way, sink)).collect();
            (!ways.is_empty()).then_some(route)
        }
        _ => route.sinks.contains(&sink).then_some(route),
    }
}

fn add(
    jobs: &[LogJob],
    limits: &LineLimits,
    logs: &mut LogsConfig,
    counters: &Arc<StageCounters>,
) -> Result<()> {
    let context = StageContext::new(limits, Arc::clone(counters));
    for job in jobs {
        let stages = LogStages::new(&job.routes, &context)
            .map_err(|fault| anyhow!("{}: {}: {}", job.name, fault.key, fault.message))?;
        let stages: Arc<dyn Stages> = Arc::new(stages);
        match &job.source {
            LogSource::Files(files) => add_files(job, files, &stages, logs)?,
            LogSource::Pods(pods) => add_pods(job, pods, stages, logs)?,
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

fn add_pods(
    job: &LogJob,
    pods: &PodSource,
    stages: Arc<dyn Stages>,
    logs: &mut LogsConfig,
) -> Result<()> {
    let paths = pods.directory.join("*/*/*.log");
    logs.files.push(FileGroup {
        paths: vec![glob(job, &paths.to_string_lossy())?],
        exclude: Vec::new(),
        labels: BTreeMap::new(),
        encoding: Encoding::Utf8,
        start: if pods.tail_from_end { Start::End } else { Start::Beginning },
        stages: Arc::new(PodLabels::before(&job.relabel, &pods.namespaces, stages)),
        layout: Layout::Plain,
    });
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::keys;
    use super::super::logs::Collection;
    use super::*;

    const PROMTAIL: &str = "\
clients:
  - {name: one, url: 'http://one/loki/api/v1/push', external_labels: {zone: a}}
  - {name: two, url: 'http://two/loki/api/v1/push', external_labels: {zone: a}}
scrape_configs:
  - job_name: app
    static_configs:
      - labels: {job: app, __path__: /l/app/*.log, __path_exclude__: /l/app/debug.log}
      - labels: {job: other, __path__: other.log}
    pipeline_stages:
      - static_labels: {kind: x}
  - job_name: journal
    journal: {matches: _TRANSPORT=kernel, labels: {job: kernel}}
  - job_name: syslog
    syslog: {listen_address: '127.0.0.1:1514'}
";
    const ALLOY: &str = "\
loki.source.file \"f\" {
  targets       = [{\"__path__\" = \"/l/a.log\", \"job\" = \"a\"}]
  tail_from_end = true
  forward_to    = [loki.write.w.receiver, loki.process.p.receiver]
}
loki.process \"p\" {
  stage.static_labels { values = { \"kind\" = \"y\" } }
  forward_to = [loki.write.v.receiver]
}
loki.write \"w\" { endpoint { url = \"http://w/loki/api/v1/push\" } }
loki.write \"v\" { endpoint { url = \"http://v/loki/api/v1/push\" } }
";

    fn collection(more: impl FnOnce(&mut CollectorFiles), own: &str) -> Result<Collection> {
        let directory = tempfile::tempdir().expect("a directory");
        let (promtail, alloy) = (directory.path().join("p.yml"), directory.path().join("c.alloy"));
        std::fs::write(&promtail, PROMTAIL).expect("writable");
        std::fs::write(&alloy, ALLOY).expect("writable");
        let mut files = CollectorFiles {
            promtail_config: Some(promtail),
            alloy_config: Some(alloy),
            ..CollectorFiles::default()
        };
        more(&mut files);
        let document = Document::parse("own.yml", own.as_bytes())?;
        let keys: keys::Logs = document.deserialize()?;
        Collection::of(&keys, "here", Path::new("/data"), false, (&files, (None, "")))
    }

    #[test]
    fn files_of_others_say_what_is_collected() {
        let found = collection(|_| {}, "labels: {}").expect("valid");
        assert!(found.pushed.is_empty());
        let lines = found.lines.expect("files");
        let paths: Vec<&str> = lines.files.iter().map(|group| group.paths[0].as_str()).collect();
        let there = std::env::current_dir().expect("a directory").join("other.log");
        assert_eq!(paths, ["/l/app/*.log", &*there.to_string_lossy(), "/l/a.log"]);
        assert_eq!(lines.files[0].exclude[0].as_str(), "/l/app/debug.log");
        assert_eq!(lines.files[0].labels, BTreeMap::from([("job".to_owned(), "app".to_owned())]));
        assert_eq!((lines.files[1].start, lines.files[2].start), (Start::Beginning, Start::End));
        assert_eq!(lines.journal.expect("the journal").arguments, ["_TRANSPORT=kernel"]);
        assert_eq!(lines.linger, agent::logs::LINGER);
        // Beside them is what the own file says.
        let own = "files: [{paths: [/l/own.log]}]\ncontainers: false";
        let lines = collection(|_| {}, own).expect("valid").lines.expect("files");
        assert_eq!(lines.files.len(), 4);
    }

    #[test]
    fn labels_of_all_lines_are_on_those_of_other_files_too() {
        let own = "labels: {zone: a, job: mine}\nfiles: [{paths: [/l/own.log]}]\ncontainers: false";
        let found = collection(|files| files.keep_clients = true, own).expect("valid");
        let lines = found.lines.expect("files");
        let of = |name: &str, at: usize| lines.files[at].labels.get(name).map(String::as_str);
        assert_eq!((of("zone", 0), of("job", 0)), (Some("a"), Some("app")), "its own counts");
        assert_eq!((of("zone", 3), of("job", 3)), (Some("a"), Some("mine")));
        assert_eq!(lines.journal.expect("the journal").labels["zone"], "a");
        assert!(lines.syslog.iter().all(|syslog| syslog.labels["zone"] == "a"));
        // Other systems get what their own file says.
        let of_client = &found.pushed[0].lines.files[0].labels;
        assert!(!of_client.contains_key("zone"), "{of_client:?}");
    }

    #[test]
    fn each_client_gets_what_leads_to_it() {
        let found = collection(|files| files.keep_clients = true, "labels: {}").expect("valid");
        let pushed: Vec<(&str, usize, bool)> = found
            .pushed
            .iter()
            .map(|one| (&*one.sink.name, one.lines.files.len(), one.lines.journal.is_some()))
            .collect();
        assert!(found.pushed.iter().all(|one| one.lines.linger == Duration::from_secs(1)));
        let of_alloy = ("loki.write.w", 1, false);
        assert_eq!(pushed[..2], [("one", 2, true), ("two", 2, true)]);
        assert_eq!(pushed.len(), 4);
        assert!(pushed.contains(&of_alloy), "{pushed:?}");
        let mut directories: Vec<&Path> =
            found.pushed.iter().map(|one| &*one.lines.directory).collect();
        directories.sort_unstable();
        directories.dedup();
        assert_eq!(directories.len(), 4);
        assert!(directories.iter().all(|path| path.starts_with("/data/pushed")));
    }

    #[test]
    fn own_sinks_get_all_lines() {
        let own = "logs:\n  files: [{paths: [/l/own.log]}]\n  containers: false\n  sinks:\n  \
                   - {type: otlp, url: 'http://o', batch_wait: 3s}\n  \
                   - {type: sls, name: a-b, endpoint: e, project: p, logstore: l}\n";
        let read = |own: &str, is_agent| {
            let document = Document::parse("own.yml", own.as_bytes())?;
            let text = own.split_once('\n').expect("lines").1;
            let keys: keys::Logs = Document::parse("own.yml", text.as_bytes())?.deserialize()?;
            let told = (&CollectorFiles::default(), (None, document.text()));
            Collection::of(&keys, "here", Path::new("/data"), is_agent, told)
        };
        let found = read(own, true).expect("valid");
        let [otlp, sls] = found.pushed.as_slice() else { panic!("{:?}", found.pushed) };
        assert_eq!((otlp.lines.files.len(), sls.lines.files.len()), (1, 1));
        assert_eq!(otlp.lines.directory, Path::new("/data/pushed/own-otlp"));
        assert_eq!(sls.lines.directory, Path::new("/data/pushed/own-a-b"));
        assert_eq!(otlp.lines.linger, Duration::from_secs(3));
        let broken = own.replace("otlp, url", "otlp, ur");
        let error = read(&broken, true).expect_err("a slip").to_string();
        assert!(error.contains("ur"), "{error}");
        let nothing = "logs:\n  sinks: [{type: otlp, url: 'http://o'}]\n";
        let error = read(nothing, true).expect_err("nothing").to_string();
        assert!(error.contains("logs.collect: true"), "{error}");
    }

    #[test]
    fn what_cannot_be_is_told() {
        for (own, more, wanted) in [
            ("collect: false", false, "logs.collect"),
            ("journal: {enabled: true}", false, "logs.journal.enabled"),
            ("labels: {}", true, "--keep-clients"),
        ] {
            let forget = |files: &mut CollectorFiles| {
                if more {
                    *files = CollectorFiles { keep_clients: true, ..CollectorFiles::default() };
                }
            };
            let error = collection(forget, own).expect_err(own).to_string();
            assert!(error.contains(wanted), "{own}: {error}");
        }
    }
}
