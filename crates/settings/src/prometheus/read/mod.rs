//! From YAML to types.

mod alerting;
pub(crate) mod discovery;
mod global;
pub(crate) mod http_client;
mod kubernetes_selectors;
mod mechanism_rules;
mod mechanisms;
pub(crate) mod relabel;
mod remote;
pub(crate) mod scrape;

use std::path::Path;

use super::{Config, Global, ScrapeConfig};
use crate::NameValidation;
use crate::diagnostic::Diagnostic;
use crate::relabel::RelabelConfig;
use crate::yaml::{Context, Document, Findings, FromNode, ReferenceKind, Section, Span, items_of};

/// What one file says.
pub(super) struct Parsed {
    pub(super) config: Config,
    /// The name of each job and where it stands.
    pub(super) jobs: Vec<(String, Span)>,
    pub(super) findings: Findings,
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
        config.rule_files = patterns(&mut root, "rule_files", "rule file", ReferenceKind::Rules);
        config.scrape_config_files =
            patterns(&mut root, "scrape_config_files", "scrape config file", ReferenceKind::Jobs);
        config.scrape_configs = jobs_of(&mut root, &config.global, &mut jobs);
        config.storage = global::read_storage(&mut root);
        config.tracing = global::read_tracing(&mut root);
        config.remote_write = remote::read_writes(&mut root, names);
        config.remote_read = remote::read_reads(&mut root);
        config.otlp = global::read_otlp(&mut root, names);
        warn_without_effect(&root);
        root.finish();
    }
    finish(context, document, config, jobs)
}

/// Sections that are read and checked, but that nothing acts upon yet.
const WITHOUT_EFFECT: [(&str, &str, Option<&str>); 2] = [
    ("remote_read", "other stores are not read from yet", None),
    ("tracing", "Watchfire sends no spans of its own yet", None),
];

fn warn_without_effect(root: &Section<'_>) {
    for (key, why, help) in WITHOUT_EFFECT {
        if root.is_set(key) {
            root.warn(key, format!("{key} has no effect: {why}"), help);
        }
    }
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

/// Reads a document that is a list of relabel rules.
pub(crate) fn read_rules(
    document: &Document,
    names: NameValidation,
) -> (Vec<RelabelConfig>, Vec<Diagnostic>) {
    let context = Context::new(document.source(), Path::new(""));
    let nodes = document.root().map(|root| items_of(&context, root)).unwrap_or_default();
    let rules = nodes.iter().filter_map(|node| relabel::read_rule(&context, node, names)).collect();
    (rules, context.finish().faults)
}

fn finish(
    context: Context<'_>,
    document: &Document,
    config: Config,
    jobs: Vec<(String, Span)>,
) -> Parsed {
    let mut findings = context.finish();
    findings.warnings.extend(document.trailing());
    Parsed { config, jobs, findings }
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
fn patterns(
    root: &mut Section<'_>,
    key: &'static str,
    what: &str,
    kind: ReferenceKind,
) -> Vec<String> {
    let context = root.context;
    let mut patterns = Vec::new();
    for node in root.items(key) {
        let Some(pattern) = String::from_node(context, node) else { continue };
        if !is_pattern(&pattern) {
            let help = "only the last part of a path may hold *".to_owned();
            context.fault(node.span, format!("invalid {what} path {pattern:?}"), Some(help));
        }
        let pattern = join(context, &pattern);
        context.refer(kind, node.span, pattern.clone());
        patterns.push(pattern);
    }
    patterns
}

/// `^[^*]*(\*[^/]*)?$`: no `/` after the first `*`.
fn is_pattern(text: &str) -> bool {
    text.find('*').is_none_or(|at| !text[at..].contains('/'))
}

fn join(context: &Context<'_>, path: &str) -> String {
    context.join(path).to_string_lossy().into_owned()
}
