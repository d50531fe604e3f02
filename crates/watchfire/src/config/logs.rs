//! What the file says about collecting lines of logs.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use agent::SpoolConfig;
use agent::logs::{
    Encoding, FileGroup, FirstEntries, Format, Glob, JournalConfig, LINGER, Layout, LogsConfig,
    StageCounters, Stages, Start, StdinConfig, SyslogConfig, SyslogListen, Unchanged, Unwrapping,
};
use anyhow::{Result, anyhow, ensure};

use super::collectors::{Collectors, Pushed};
use super::{duration_ms, keys};
use crate::cli::CollectorFiles;

/// Where `journalctl` is, and what it reads.
pub(super) const JOURNALCTL: [&str; 2] = ["/usr/bin/journalctl", "/bin/journalctl"];
const JOURNALS: [&str; 2] = ["/var/log/journal", "/run/log/journal"];
/// What is collected where there is no journal and nothing is configured.
const SYSTEM_LOGS: [&str; 3] = ["/var/log/*.log", "/var/log/syslog", "/var/log/messages"];
const DOCKER_LOGS: &str = "/var/lib/docker/containers/*/*-json.log";
const POD_LOGS: &str = "/var/log/pods/*/*/*.log";
/// Of a system's log that was there before the first start, so much is read: it says little of now.
const SYSTEM_LOG_BYTES: u64 = 64 << 10;
const FIRST_LINES: u32 = 1_000;

impl keys::Logs {
    fn says_something(&self) -> bool {
        !self.files.is_empty()
            || self.journal.enabled == Some(true)
            || self.containers == Some(true)
    }
}

/// What is collected, and where it goes besides the broker.
#[derive(Debug, Clone, Default)]
pub(crate) struct Collection {
    /// For the broker; nothing if no lines are collected.
    pub(crate) lines: Option<LogsConfig>,
    /// What their stages count.
    pub(crate) stage_counters: Arc<StageCounters>,
    /// A file of Alloy that says what is scraped.
    pub(crate) scrapes: Option<PathBuf>,
    /// For systems besides the broker.
    pub(crate) pushed: Vec<Pushed>,
}

impl Collection {
    /// What is told by keys, by files of others and below keys of `own`: that is our own file, and its
    /// text.
    ///
    /// # Errors
    /// What is told cannot be done.
    pub(super) fn of(
        keys: &keys::Logs,
        host: &str,
        data: &Path,
        is_agent: bool,
        (files, own): (&CollectorFiles, (Option<&Path>, &str)),
    ) -> Result<Collection> {
        ensure!(
            !files.keep_clients || !files.is_empty(),
            "--keep-clients: nothing names clients; give --promtail-config or --alloy-config"
        );
        let stage_counters = Arc::default();
        let others = Collectors { files, own, counters: &stage_counters };
        let lines = collecting(keys, host, data, is_agent, &others)?;
        let mut pushed = match &lines {
            Some(lines) => others.pushed(data, lines)?,
            None => Vec::new(),
        };
        if keys.sinks.is_some() {
            // What stages count counts once, on the way to the broker.
            let again = Collectors { counters: &Arc::default(), ..others };
            let lines = told_before(|| collecting(keys, host, data, is_agent, &again))?;
            for sink in others.own_sinks()? {
                let lines = lines.clone().ok_or_else(|| {
                    anyhow!("logs.sinks: no lines are collected; set logs.collect: true")
                })?;
                pushed.push(Pushed::new(sink, "own", data, lines));
            }
        }
        let scrapes = others.scrapes()?;
        Ok(Collection { lines, stage_counters, scrapes, pushed })
    }
}

/// Reads again what has been read, without telling again what of it does not run.
pub(super) fn told_before<T>(read: impl FnOnce() -> T) -> T {
    tracing::subscriber::with_default(tracing::subscriber::NoSubscriber::default(), read)
}

/// What is collected into `data`; nothing if it is switched off. A process that runs everything collects
/// without being told what, an agent only what it is told.
fn collecting(
    keys: &keys::Logs,
    host: &str,
    data: &Path,
    is_agent: bool,
    others: &Collectors<'_>,
) -> Result<Option<LogsConfig>> {
    let default = SpoolConfig::default();
    let spool = SpoolConfig {
        limit_bytes: keys.spool.limit_bytes.unwrap_or(default.limit_bytes),
        disk_share_percent: keys.spool.disk_share_percent.unwrap_or(default.disk_share_percent),
        ..default
    };
    for (key, value, range) in [
        ("limit_bytes", spool.limit_bytes, 1 << 20..=u64::MAX),
        ("disk_share_percent", spool.disk_share_percent.into(), 1..=100),
    ] {
        let (min, max) = (range.start(), range.end());
        ensure!(
            range.contains(&value),
            "logs.spool.{key}: {value} is out of range; it must be from {min} to {max}"
        );
    }
    check_labels("logs.labels", &keys.labels)?;
    check_labels("logs.journal.labels", &keys.journal.labels)?;
    let mut files = Vec::with_capacity(keys.files.len());
    for (at, group) in keys.files.iter().enumerate() {
        let stages: Arc<dyn Stages> = match group.stages {
            Some(_) => others.own_stages(&format!("logs.files[{at}].stages"))?,
            None => Arc::new(Unchanged),
        };
        files.push(file_group(group, &keys.labels, stages)?);
    }
    let journal_stages: Arc<dyn Stages> = match keys.journal.stages {
        Some(_) => others.own_stages("logs.journal.stages")?,
        None => Arc::new(Unchanged),
    };
    let syslog: Vec<SyslogConfig> = keys
        .syslog
        .iter()
        .enumerate()
        .map(|(at, listener)| syslog(at, listener, &keys.labels, others))
        .collect::<Result<_>>()?;
    let stdin = keys.stdin.as_ref().map(|stdin| {
        check_labels("logs.stdin.labels", &stdin.labels)?;
        let stages: Arc<dyn Stages> = match stdin.stages {
            Some(_) => others.own_stages("logs.stdin.stages")?,
            None => Arc::new(Unchanged),
        };
        let mut labels = joined(&keys.labels, &stdin.labels);
        labels.entry("job".to_owned()).or_insert_with(|| "stdin".to_owned());
        Ok::<_, anyhow::Error>(StdinConfig { labels, stages })
    });
    let stdin = stdin.transpose()?;
    let is_told = !others.files.is_empty();
    ensure!(
        !is_told || keys.collect != Some(false),
        "logs.collect: false, but --promtail-config or --alloy-config is given; leave one out"
    );
    let own = keys.collect.unwrap_or(!is_agent || keys.says_something());
    let listens = keys.collect != Some(false) && (!syslog.is_empty() || stdin.is_some());
    if !own && !is_told && !listens {
        return Ok(None);
    }
    let host = keys.host.clone().unwrap_or_else(|| host.to_owned());
    let mut logs = LogsConfig {
        files: Vec::new(),
        journal: None,
        syslog,
        stdin,
        take_over: Vec::new(),
        host,
        directory: data.join("lines"),
        linger: LINGER,
        spool,
    };
    others.add_to(&mut logs, &keys.labels)?;
    // Files of others say all there is to collect.
    if !own || (is_told && keys.collect.is_none() && !keys.says_something()) {
        return Ok(Some(logs));
    }
    let journal = journal(keys, journal_stages)?;
    if files.is_empty() && journal.is_none() && keys.journal.enabled != Some(false) {
        files.push(default_group(&SYSTEM_LOGS, "varlogs", Start::Last(SYSTEM_LOG_BYTES), keys)?);
    }
    if keys.containers.unwrap_or(true) {
        let docker = default_group(&[DOCKER_LOGS], "docker", Start::Beginning, keys)?;
        let stages = Unwrapping::before(Format::Docker, Arc::new(Unchanged));
        files.push(FileGroup { layout: Layout::Docker, stages, ..docker });
        let pods = default_group(&[POD_LOGS], "pods", Start::Beginning, keys)?;
        let stages = Unwrapping::before(Format::Cri, Arc::new(Unchanged));
        files.push(FileGroup { layout: Layout::Pods, stages, ..pods });
    }
    logs.files.append(&mut files);
    ensure!(
        logs.journal.is_none() || keys.journal.enabled != Some(true),
        "logs.journal.enabled: the journal is collected by another file already; leave one out"
    );
    logs.journal = logs.journal.or(journal);
    Ok(Some(logs))
}

/// `journalctl`, if it is there.
pub(super) fn journalctl() -> Option<PathBuf> {
    JOURNALCTL.iter().map(PathBuf::from).find(|path| path.is_file())
}

fn journal(keys: &keys::Logs, stages: Arc<dyn Stages>) -> Result<Option<JournalConfig>> {
    let keys::LogJournal { enabled, command, arguments, labels, first_lines, max_age, .. } =
        &keys.journal;
    let max_age_ms = duration_ms("logs.journal.max_age", max_age.as_deref())?;
    let first = match (first_lines, max_age_ms) {
        (Some(_), Some(_)) => anyhow::bail!(
            "logs.journal.max_age and logs.journal.first_lines: both say where the first start begins; \
             leave one out"
        ),
        (None, Some(ms)) => FirstEntries::Since(Duration::from_millis(ms.unsigned_abs())),
        (lines, None) => FirstEntries::Last(lines.unwrap_or(FIRST_LINES)),
    };
    let command = command.clone().or_else(journalctl);
    let is_there = || {
        JOURNALS.iter().any(|path| std::fs::read_dir(path).is_ok_and(|mut it| it.next().is_some()))
    };
    let wanted = enabled.unwrap_or_else(|| command.is_some() && is_there());
    let labels = joined(&keys.labels, labels);
    Ok(wanted.then(|| JournalConfig {
        // Without it each attempt says what is missing.
        command: command.unwrap_or_else(|| PathBuf::from(JOURNALCTL[0])),
        arguments: arguments.clone(),
        labels,
        first,
        as_json: false,
        stages,
    }))
}

fn default_group(paths: &[&str], job: &str, start: Start, keys: &keys::Logs) -> Result<FileGroup> {
    let mut labels = keys.labels.clone();
    labels.entry("job".to_owned()).or_insert_with(|| job.to_owned());
    Ok(FileGroup {
        paths: globs("logs", paths.iter().copied())?,
        exclude: Vec::new(),
        labels,
        encoding: Encoding::Utf8,
        start,
        stages: Arc::new(Unchanged),
        layout: Layout::Plain,
    })
}

fn file_group(
    keys: &keys::LogFiles,
    labels: &BTreeMap<String, String>,
    stages: Arc<dyn Stages>,
) -> Result<FileGroup> {
    ensure!(
        !keys.paths.is_empty(),
        "logs.files.paths: there is none; name files such as /var/log/nginx/*.log"
    );
    check_labels("logs.files.labels", &keys.labels)?;
    let all = joined(labels, &keys.labels);
    let encoding = keys.encoding.as_deref().map_or(Ok(Encoding::Utf8), Encoding::named);
    let format = match keys.format.unwrap_or(keys::LogFormat::Plain) {
        keys::LogFormat::Plain => Format::Plain,
        keys::LogFormat::Docker => Format::Docker,
        keys::LogFormat::Cri => Format::Cri,
    };
    Ok(FileGroup {
        paths: globs("logs.files.paths", keys.paths.iter().map(String::as_str))?,
        exclude: globs("logs.files.exclude", keys.exclude.iter().map(String::as_str))?,
        labels: all,
        encoding: encoding.map_err(|error| anyhow!("logs.files.encoding: {error}"))?,
        start: match keys.start_at.unwrap_or(keys::LogStart::Beginning) {
            keys::LogStart::Beginning => Start::Beginning,
            keys::LogStart::End => Start::End,
        },
        stages: Unwrapping::before(format, stages),
        layout: Layout::Plain,
    })
}

fn syslog(
    at: usize,
    keys: &keys::LogSyslog,
    labels: &BTreeMap<String, String>,
    others: &Collectors<'_>,
) -> Result<SyslogConfig> {
    check_labels("logs.syslog.labels", &keys.labels)?;
    let listen = SyslogListen::parse(&keys.listen);
    let listen = listen.map_err(|error| anyhow!("logs.syslog.listen: {error}"))?;
    let stages: Arc<dyn Stages> = match keys.stages {
        Some(_) => others.own_stages(&format!("logs.syslog[{at}].stages"))?,
        None => Arc::new(Unchanged),
    };
    Ok(SyslogConfig { listen, labels: joined(labels, &keys.labels), stages })
}

/// Labels of all, and those of some, which count more.
pub(super) fn joined(
    all: &BTreeMap<String, String>,
    own: &BTreeMap<String, String>,
) -> BTreeMap<String, String> {
    let mut labels = all.clone();
    labels.extend(own.clone());
    labels
}

fn globs<'a>(key: &str, patterns: impl Iterator<Item = &'a str>) -> Result<Vec<Glob>> {
    let glob = |text| Glob::new(text).map_err(|error| anyhow!("{key}: {error}"));
    patterns.map(glob).collect()
}

fn check_labels(key: &str, labels: &BTreeMap<String, String>) -> Result<()> {
    let is_name = |name: &str| {
        !name.is_empty()
            && !name.starts_with(|first: char| first.is_ascii_digit())
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    };
    match labels.keys().find(|name| !is_name(name)) {
        Some(name) => Err(anyhow!("{key}: {name:?} is no name of a label, such as job")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(yaml: &str, is_agent: bool) -> Result<Option<LogsConfig>> {
        let document = settings::yaml::Document::parse("test", yaml.as_bytes())?;
        let keys: keys::Logs = document.deserialize()?;
        let yaml = yaml.replace('\n', "\n  ");
        let others = Collectors {
            files: &CollectorFiles::default(),
            own: (None, &format!("logs:\n  {yaml}\n")),
            counters: &Arc::default(),
        };
        collecting(&keys, "here", Path::new("data"), is_agent, &others)
    }

    #[test]
    fn an_agent_collects_what_it_is_told_and_a_broker_what_there_is() {
        assert!(read("spool: {limit_bytes: 1048576}", true).expect("valid").is_none());
        assert!(read("collect: false", false).expect("valid").is_none());
        let found = read("journal: {enabled: false}", false).expect("valid").expect("containers");
        assert!(found.journal.is_none());
        let paths: Vec<&str> = found.files.iter().map(|group| group.paths[0].as_str()).collect();
        assert_eq!(paths, [DOCKER_LOGS, POD_LOGS]);
        let yaml = "labels: {zone: a}\ncontainers: false\njournal: {enabled: false}\nhost: h\n\
                    files: [{paths: [/l/*.log], exclude: [/l/b.log], labels: {job: x}, encoding: utf-16, \
                    start_at: end, format: cri}]";
        let found = read(yaml, true).expect("valid").expect("files");
        assert_eq!((found.files.len(), found.host.as_str()), (1, "h"));
        let group = &found.files[0];
        assert_eq!((group.encoding, group.start), (Encoding::Utf16Le, Start::End));
        assert_eq!(group.labels.len(), 2);
        let yaml = "journal: {enabled: true, max_age: 2h}";
        let found = read(yaml, true).expect("valid").expect("the journal");
        let two_hours = FirstEntries::Since(Duration::from_secs(7_200));
        assert_eq!(found.journal.expect("the journal").first, two_hours);
        let yaml = "syslog: [{listen: 'udp://[::1]:0', labels: {a: b}}]\nstdin: {}";
        let found = read(yaml, true).expect("valid").expect("listeners");
        assert!(found.files.is_empty() && found.journal.is_none(), "nothing that is not named");
        assert_eq!(found.syslog[0].listen.to_string(), "udp://[::1]:0");
        assert_eq!(found.stdin.expect("it is read").labels["job"], "stdin");
    }

    #[test]
    fn mistakes_are_named() {
        for (yaml, wanted) in [
            ("files: [{paths: []}]", "logs.files.paths"),
            ("files: [{paths: [a.log]}]", "absolute"),
            ("files: [{paths: [/a], encoding: x}]", "logs.files.encoding"),
            ("files: [{paths: [/a], labels: {1a: b}}]", "logs.files.labels"),
            ("spool: {limit_bytes: 1}", "logs.spool.limit_bytes"),
            ("syslog: [{listen: '127.0.0.1:514'}]", "logs.syslog.listen"),
            ("stdin: {labels: {a-b: c}}", "logs.stdin.labels"),
            ("files: [{paths: [/a], stages: [{jsn: {}}]}]", "jsn"),
            ("journal: {stages: [{regex: {expression: '('}}]}", "regex"),
            ("journal: {enabled: true, max_age: 1h, first_lines: 3}", "logs.journal.max_age"),
            ("journal: {enabled: true, max_age: young}", "logs.journal.max_age"),
        ] {
            let error = read(yaml, true).expect_err(yaml).to_string();
            assert!(error.contains(wanted), "{yaml}: {error}");
        }
    }
}
