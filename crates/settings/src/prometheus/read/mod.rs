//! From YAML to types.

mod alerting;
mod discovery;
mod global;
mod http_client;
mod kubernetes_selectors;
mod mechanism_rules;
mod mechanisms;
mod relabel;
mod remote;
mod scrape;

use std::path::Path;

use super::{Config, Global, ScrapeConfig};
use crate::diagnostic::Diagnostic;
use crate::yaml::{Context, Document, Section, Span};

/// What one file says.
pub(super) struct Parsed {
    pub(super) config: Config,
    /// The name of each job and where it stands.
    pub(super) jobs: Vec<(String, Span)>,
    pub(super) faults: Vec<Diagnostic>,
    pub(super) warnings: Vec<Diagnostic>,
    pub(super) secrets: Vec<(Span, String)>,
}

/// Reads a whole configuration. Relative paths are joined with `directory`.
pub(super) fn read(
    document: &Document,
    directory: &Path,
    variable: &dyn Fn(&str) -> Option<String>,
) -> Parsed {
    let context = Context::new(document.source(), directory);
    let mut config = Config::default();
    let mut jobs = Vec::new();
    if let Some(mut root) =
        document.root().and_then(|node| Section::open(&context, node, "config.plain"))
    {
        config.global = global::read(&mut root, variable);
        global::read_runtime(&mut root);
        let names = config.global.metric_name_validation_scheme;
        config.alerting = alerting::read(&mut root, names);
        config.rule_files = patterns(&mut root, "rule_files", "rule file");
        config.scrape_config_files =
            patterns(&mut root, "scrape_config_files", "scrape config file");
        config.scrape_configs = jobs_of(&mut root, &config.global, &mut jobs);
        config.storage = global::read_storage(&mut root);
        config.tracing = global::read_tracing(&mut root);
        config.remote_write = remote::read_writes(&mut root, names);
        config.remote_read = remote::read_reads(&mut root);
        config.otlp = global::read_otlp(&mut root, names);
        root.finish();
    }
    finish(context, document, config, jobs)
}

/// Reads a file of `scrape_config_files`: jobs and nothing else.
pub(super) fn read_jobs(document: &Document, directory: &Path, global: &Global) -> Parsed {
    let context = Context::new(document.source(), directory);
    let mut config = Config::default();
    let mut jobs = Vec::new();
    if let Some(mut root) =
        document.root().and_then(|node| Section::open(&context, node, "config.ScrapeConfigs"))
    {
        config.scrape_configs = jobs_of(&mut root, global, &mut jobs);
        root.finish();
    }
    finish(context, document, config, jobs)
}

fn finish(
    context: Context<'_>,
    document: &Document,
    config: Config,
    jobs: Vec<(String, Span)>,
) -> Parsed {
    let (faults, mut warnings, secrets) = context.finish();
    warnings.extend(document.trailing());
    Parsed { config, jobs, faults, warnings, secrets }
}

fn jobs_of(
    root: &mut Section<'_>,
    global: &Global,
    jobs: &mut Vec<(String, Span)>,
) -> Vec<ScrapeConfig> {
    let context = root.context;
    let mut configs: Vec<ScrapeConfig> = Vec::new();
    for node in root.items("scrape_configs") {
        let Some(config) = scrape::read(context, node, global) else { continue };
        let place = node.place_of_key("job_name");
        if !config.job_name.is_empty() && jobs.iter().any(|(name, _)| *name == config.job_name) {
            let message =
                format!("found multiple scrape configs with job name {:?}", config.job_name);
            context.fault(place, message, Some("give each job its own name".to_owned()));
        }
        jobs.push((config.job_name.clone(), place));
        configs.push(config);
    }
    configs
}

/// Reads a list of path patterns, joined with the directory of the file.
fn patterns(root: &mut Section<'_>, key: &'static str, what: &str) -> Vec<String> {
    let patterns: Vec<String> = root.value(key);
    for pattern in patterns.iter().filter(|pattern| !is_pattern(pattern)) {
        let message = format!("invalid {what} path {pattern:?}");
        root.fault(key, message, Some("only the last part of a path may hold *"));
    }
    patterns.iter().map(|pattern| join(root.context, pattern)).collect()
}

/// `^[^*]*(\*[^/]*)?$`: no `/` after the first `*`.
fn is_pattern(text: &str) -> bool {
    text.find('*').is_none_or(|at| !text[at..].contains('/'))
}

fn join(context: &Context<'_>, path: &str) -> String {
    context.join(path).to_string_lossy().into_owned()
}
