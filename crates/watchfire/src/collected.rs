//! What a configuration of a collector of lines would collect, for a person.

use settings::logs::stage::Stage;
use settings::logs::{LoadedLogs, LogJob, LogRoute, LogSource, LogsConfig, RouteStep};
use settings::prometheus::{Discovery, ScrapeConfig};

/// Most targets of a job that are shown.
const MAX_TARGETS: usize = 20;

/// The number of jobs, and a line for each of their sources.
pub(crate) fn describe(loaded: &LoadedLogs) -> String {
    let (config, scrapes) = (&loaded.config, &loaded.metrics.scrape_configs);
    let mut out = format!("; {}", counted(config.jobs.len() + scrapes.len(), "job"));
    for job in &config.jobs {
        for source in sources(job) {
            out.push_str(&format!("\n  {}: {source}{}", job.name, ways(config, job)));
        }
    }
    for job in scrapes {
        out.push_str(&format!("\n  {}: scrapes {}", job.job_name, scraped(job)));
    }
    out
}

/// Whom a job scrapes.
fn scraped(job: &ScrapeConfig) -> String {
    let (mut named, mut found) = (0, 0);
    for discovery in &job.discovery {
        match discovery {
            Discovery::Static(groups) => {
                named += groups.iter().map(|group| group.targets.len()).sum::<usize>();
            }
            _ => found += 1,
        }
    }
    match (named, found) {
        (named, 0) => counted(named, "target"),
        (0, _) => "targets that are found".to_owned(),
        (named, _) => format!("{} and those that are found", counted(named, "target")),
    }
}

fn counted(count: usize, one: &str) -> String {
    match count {
        1 => format!("1 {one}"),
        count => format!("{count} {one}s"),
    }
}

/// Where lines of a job come from.
fn sources(job: &LogJob) -> Vec<String> {
    match &job.source {
        LogSource::Files(files) => {
            let mut shown: Vec<String> = files
                .targets
                .iter()
                .take(MAX_TARGETS)
                .map(|target| {
                    let without = match &target.exclude {
                        Some(exclude) => format!(" without {exclude}"),
                        None => String::new(),
                    };
                    format!("files {}{without} {}", target.path, target.labels)
                })
                .collect();
            if files.targets.len() > MAX_TARGETS {
                shown.push(format!("files of {} more targets", files.targets.len() - MAX_TARGETS));
            }
            let found = files.discovery.iter().flat_map(|found| &found.files);
            shown.extend(found.map(|file| format!("files that {file} names")));
            if shown.is_empty() {
                shown.push("no file".to_owned());
            }
            shown
        }
        LogSource::Pods(pods) => {
            vec![format!("pods by their files in {}", pods.directory.display())]
        }
        LogSource::Journal(journal) => {
            let place = match &journal.path {
                Some(path) => format!("the journal in {}", path.display()),
                None => "the journal of systemd".to_owned(),
            };
            vec![format!("{place} {}", journal.labels)]
        }
        LogSource::Syslog(syslog) => {
            let transport = format!("{:?}", syslog.transport).to_lowercase();
            vec![format!("syslog on {} ({transport}) {}", syslog.listen_address, syslog.labels)]
        }
        LogSource::Docker(docker) => vec![format!("containers of {}", docker.host)],
        LogSource::Stdin { labels } => vec![format!("standard input {labels}")],
    }
}

/// What becomes of them.
fn ways(config: &LogsConfig, job: &LogJob) -> String {
    let mut found = Ways::default();
    job.routes.iter().for_each(|route| found.add(route));
    let mut out = match found.stages {
        0 => "; no stages".to_owned(),
        stages => format!("; {}", counted(stages, "stage")),
    };
    if found.rules > 0 {
        out.push_str(&format!(", {}", counted(found.rules, "rule")));
    }
    found.sinks.sort_unstable();
    found.sinks.dedup();
    let sinks = found.sinks.iter().filter_map(|sink| config.sinks.get(*sink));
    let sinks: Vec<&str> = sinks.map(|sink| sink.name.as_str()).collect();
    if !sinks.is_empty() {
        out.push_str(&format!("; to {} with --keep-clients", sinks.join(", ")));
    }
    out
}

/// What stands on the ways of a job.
#[derive(Default)]
struct Ways {
    stages: usize,
    rules: usize,
    sinks: Vec<usize>,
}

impl Ways {
    fn add(&mut self, route: &LogRoute) {
        self.sinks.extend(&route.sinks);
        for step in &route.steps {
            match step {
                RouteStep::Stages(stages) => {
                    self.stages += stages.iter().map(with_inner).sum::<usize>();
                }
                RouteStep::Relabel(rules) => self.rules += rules.len(),
                RouteStep::ExternalLabels(_) => {}
                RouteStep::Branches(routes) => routes.iter().for_each(|route| self.add(route)),
            }
        }
    }
}

/// A stage and those inside it.
fn with_inner(stage: &Stage) -> usize {
    match stage {
        Stage::Match(inner) => 1 + inner.stages.iter().map(with_inner).sum::<usize>(),
        _ => 1,
    }
}
