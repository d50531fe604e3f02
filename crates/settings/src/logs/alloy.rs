//! Alloy's configuration, as far as it is about lines of logs.
//!
//! Components become jobs and routes: each source is a job, and what it forwards to is followed to the
//! end. Source: the manual of Alloy, "Components". What does not run here is told, each with its place.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use model::Labels;

use super::alloy_metrics::AlloyMetrics;
use super::alloy_sinks::{self, Sinks};
use super::config::{LogJob, LogRoute, LogSource, LogsConfig, RouteStep};
use super::load::{LoadedLogs, finish_warnings, unique};
use super::read_stage::{StageCheck, StageReader, Syntax, read_stages};
use crate::NameValidation;
use crate::alloy::ast::{Block, Body, Expr};
use crate::alloy::evaluate::{Evaluator, Value, ValueKind};
use crate::alloy::tree::mapping;
use crate::diagnostic::{Diagnostic, Faults, Severity, Source};
use crate::prometheus::read::relabel;
use crate::prometheus::{Surroundings, read_file};
use crate::relabel::RelabelConfig;
use crate::suggestion::nearest;
use crate::yaml::{Context, Node, Section, Span};

/// Most ways that lines of all sources take.
const MAX_ROUTES: usize = 1_000;
/// Most components one behind the other.
const MAX_DEPTH: usize = 64;

/// Loads Alloy's configuration. `check` tries what only a running pipeline knows.
///
/// # Errors
/// Everything that is wrong in the file; of its syntax the first.
pub fn load(
    path: &Path,
    surroundings: &dyn Surroundings,
    check: StageCheck<'_>,
) -> Result<LoadedLogs, Faults> {
    let file = path.to_string_lossy();
    let bytes = read_file(&file, path, surroundings)?;
    let directory = path.parent().unwrap_or(Path::new(""));
    parse(&file, &bytes, directory, surroundings, check)
}

/// As [`load`], of bytes; `file` is the name faults bear, `directory` where relative paths begin.
///
/// # Errors
/// As [`load`].
pub fn parse(
    file: &str,
    bytes: &[u8],
    directory: &Path,
    surroundings: &dyn Surroundings,
    check: StageCheck<'_>,
) -> Result<LoadedLogs, Faults> {
    let Ok(text) = std::str::from_utf8(bytes) else {
        let help = Some("save the file as UTF-8".to_owned());
        return Err(Diagnostic::of_file(file, "illegal UTF-8 encoding", help).into());
    };
    let source = Source { file: Arc::from(file), text: text.to_owned() };
    let body = crate::alloy::parse(&source)?;
    let context = Context::new(&source, directory);
    let components: BTreeMap<String, &Block> =
        body.blocks.iter().map(|block| (block.id(), block)).collect();
    let exports = |id: &str| components.get(id).and_then(|block| exports_of(&block.name));
    let (limits, stages) = (Cell::new(0), Cell::new(0));
    let reader = Reader {
        evaluator: Evaluator { context: &context, surroundings, exports: &exports },
        components: &components,
        stages: StageReader {
            context: &context,
            syntax: Syntax::Alloy,
            check,
            limits: &limits,
            stages: &stages,
        },
        receivers: RefCell::default(),
        sinks: RefCell::default(),
        metrics: RefCell::default(),
        routes: Cell::new(0),
        remotes: Cell::new(0),
    };
    let jobs = reader.jobs(&body);
    let sinks = reader.sinks.into_inner().all;
    let metrics = reader.metrics.into_inner();
    let (faults, warnings) = finish_warnings(context);
    if !faults.is_empty() {
        return Err(Faults::new(faults));
    }
    let config = LogsConfig { jobs, sinks, ..LogsConfig::default() };
    Ok(LoadedLogs { config, metrics, warnings })
}

/// What a component exports.
fn exports_of(name: &str) -> Option<&'static [&'static str]> {
    Some(match name {
        "loki.process" | "loki.write" | "loki.echo" | "prometheus.remote_write" => &["receiver"],
        "loki.relabel" | "prometheus.relabel" => &["receiver", "rules"],
        "discovery.relabel" => &["output", "rules"],
        "local.file" | "remote.http" | "remote.s3" => &["content"],
        "local.file_match" => &["targets"],
        name if name.starts_with("discovery.") => &["targets"],
        name if name.starts_with("prometheus.exporter.") => &["targets"],
        name if name.starts_with("otelcol.") => &["input", "handler", "targets"],
        name if name.starts_with("loki.") => &["receiver", "rules"],
        name if name.starts_with("prometheus.") => &["receiver", "targets"],
        _ => &[],
    })
}

/// Components and blocks that do not run here: what is said, and what to do.
const NOT_RUN: &[(&str, Severity, &str, &str)] = &[
    ("logging", Severity::Warning, "has no effect: the agent's log is told by --log", ""),
    ("livedebugging", Severity::Warning, "has no effect", ""),
    ("tracing", Severity::Warning, "has no effect: the agent sends no spans of its own", ""),
    ("http", Severity::Warning, "has no effect: give the agent's address with --listen", ""),
    ("loki.echo", Severity::Warning, "has no effect: lines are not printed", ""),
    (
        "remotecfg",
        Severity::Mistake,
        "is not supported: nothing is fetched",
        "write the components into this file",
    ),
    (
        "loki.source.api",
        Severity::Mistake,
        "is not run: the agent takes no pushes",
        "push to the broker itself, at /loki/api/v1/push",
    ),
    (
        "otelcol.receiver.otlp",
        Severity::Mistake,
        "is not run: the agent takes no OTLP",
        "send OTLP to the broker itself, at ports 4317 and 4318 or /otlp/v1/logs",
    ),
    (
        "prometheus.exporter.unix",
        Severity::Warning,
        "has no effect: metrics of this host are collected already, by the same names",
        "",
    ),
    (
        "prometheus.remote_write",
        Severity::Warning,
        "has no effect: the agent ships to its broker",
        "write on from the broker with remote_write in its --prometheus-config",
    ),
];

/// Beginnings of names of components that exist there and not here.
const UNSUPPORTED: &[(&str, &str)] = &[
    (
        "loki.source.",
        "keep Alloy for it and point its loki.write at the broker's /loki/api/v1/push",
    ),
    ("loki.enrich", "leave it out, or keep Alloy for it"),
    ("loki.rules.", "keep Alloy for it"),
    ("loki.secretfilter", "replace secrets with the stages replace or luhn"),
    ("discovery.", "name the files with local.file_match"),
    ("otelcol.", "send OTLP to the broker itself, at ports 4317 and 4318"),
    ("prometheus.exporter.", "the agent collects this host by itself"),
    ("prometheus.", "write it into a prometheus.yml and give it with --prometheus-config"),
    ("mimir.", "keep Alloy for it"),
    ("pyroscope.", "keep Alloy for it"),
    ("beyla.", "keep Alloy for it"),
    ("faro.", "keep Alloy for it"),
    ("remote.", "write the value in its place"),
    ("local.file", "name the file itself, such as with password_file"),
];

/// Names of components that are read.
const KNOWN: &[&str] = &[
    "discovery.dns",
    "discovery.docker",
    "discovery.file",
    "discovery.http",
    "discovery.kubernetes",
    "discovery.relabel",
    "local.file_match",
    "loki.process",
    "loki.relabel",
    "loki.source.docker",
    "loki.source.file",
    "loki.source.journal",
    "loki.source.kubernetes",
    "loki.source.syslog",
    "loki.write",
    "prometheus.relabel",
    "prometheus.scrape",
];

/// What takes lines.
#[derive(Clone)]
enum Receiver {
    /// Does something and passes on.
    Step { steps: Vec<RouteStep>, forward: Vec<(String, Span)> },
    /// The end of a way.
    End { external_labels: Labels, sinks: Vec<usize> },
}

pub(super) struct Reader<'r> {
    pub(super) evaluator: Evaluator<'r>,
    pub(super) components: &'r BTreeMap<String, &'r Block>,
    stages: StageReader<'r>,
    receivers: RefCell<BTreeMap<String, Option<Receiver>>>,
    sinks: RefCell<Sinks>,
    metrics: RefCell<AlloyMetrics>,
    routes: Cell<usize>,
    remotes: Cell<usize>,
}

impl Reader<'_> {
    pub(super) fn context(&self) -> &Context<'_> {
        self.evaluator.context
    }

    fn jobs(&self, body: &Body) -> Vec<LogJob> {
        let context = self.context();
        for attribute in &body.attributes {
            let message = format!("unrecognized attribute name {:?}", attribute.name);
            context.fault(attribute.span, message, Some("put it into a block".to_owned()));
        }
        let mut ids = Vec::new();
        let mut jobs: Vec<LogJob> = Vec::new();
        for block in &body.blocks {
            let id = block.id();
            if ids.contains(&id) {
                let message = format!("block {id} already declared");
                context.fault(block.span, message, Some("give it another label".to_owned()));
                continue;
            }
            ids.push(id);
            if block.name == "prometheus.remote_write" {
                self.add_external_labels(self.labels_of_remote(block));
            }
            if self.is_told(block) {
                continue;
            }
            if block.label.is_none() {
                let message = format!("component {:?} must have a label", block.name);
                context.fault(
                    block.span,
                    message,
                    Some(format!("write {} \"name\" {{", block.name)),
                );
            }
            let found = match block.name.as_str() {
                "loki.source.file" => self.files(block),
                "loki.source.kubernetes" => self.pods(block),
                "loki.source.journal" => self.journal(block),
                "loki.source.syslog" => self.syslog(block),
                "loki.source.docker" => self.docker(block),
                "loki.process" | "loki.relabel" | "loki.write" => {
                    self.receiver(&block.id(), block.span);
                    Vec::new()
                }
                "prometheus.scrape" => {
                    self.add_scrapes(block);
                    Vec::new()
                }
                "discovery.relabel" | "prometheus.relabel" => {
                    self.rules_of(block);
                    Vec::new()
                }
                _ => Vec::new(),
            };
            for mut job in found {
                let taken: Vec<String> = jobs.iter().map(|job| job.name.clone()).collect();
                job.name = unique(job.name, &taken);
                jobs.push(job);
            }
        }
        if jobs.is_empty() && self.metrics.borrow().scrape_configs.is_empty() {
            let message = "nothing is collected: there is no loki.source that runs here";
            let help = "add loki.source.file, .journal, .syslog or .docker".to_owned();
            context.warn(Severity::Warning, (0, 0), message, Some(help));
        }
        jobs
    }

    fn add_scrapes(&self, block: &Block) {
        for mut job in self.scrape(block) {
            let metrics = &mut self.metrics.borrow_mut().scrape_configs;
            let taken: Vec<String> = metrics.iter().map(|job| job.job_name.clone()).collect();
            job.job_name = unique(job.job_name, &taken);
            metrics.push(job);
        }
    }

    /// Labels count where all agree.
    fn add_external_labels(&self, labels: Labels) {
        let is_first = self.remotes.replace(self.remotes.get() + 1) == 0;
        let known = &mut self.metrics.borrow_mut().external_labels;
        *known = if is_first || *known == labels { labels } else { Labels::empty() };
    }

    /// Whether something was said about a block that is not read.
    fn is_told(&self, block: &Block) -> bool {
        let context = self.context();
        let (name, place) = (block.name.as_str(), block.span);
        if let Some((_, severity, what, help)) = NOT_RUN.iter().find(|(known, ..)| *known == name) {
            let help = (!help.is_empty()).then(|| (*help).to_owned());
            context.warn(*severity, place, format!("{name} {what}"), help);
            return true;
        }
        if KNOWN.contains(&name) {
            return false;
        }
        if let Some((_, help)) = UNSUPPORTED.iter().find(|(start, _)| name.starts_with(start)) {
            let message = format!("{name} is not supported: nothing of it runs");
            let help = match nearest(name, KNOWN.iter().copied()) {
                Some(known) if is_slip(name, known) => format!("did you mean {known}? Else {help}"),
                _ => (*help).to_owned(),
            };
            context.warn(Severity::Mistake, place, message, Some(help));
            return true;
        }
        let is_module = ["declare", "argument", "export", "foreach"].contains(&name)
            || name.starts_with("import.");
        let (message, help) = if is_module {
            let help = "write the components themselves into this file".to_owned();
            (format!("{name} is not supported"), help)
        } else {
            let help = match nearest(name, KNOWN.iter().copied()) {
                Some(known) => format!("did you mean {known}?"),
                None => format!("known here: {}", KNOWN.join(", ")),
            };
            (format!("cannot find the definition of component name {name:?}"), help)
        };
        context.fault(place, message, Some(help));
        true
    }

    /// The keys of a block, without those that are references.
    pub(super) fn tree(&self, block: &Block) -> Node {
        let apart = |name: &str| {
            matches!(name, "forward_to" | "targets" | "relabel_rules" | "path_targets")
        };
        mapping(&self.evaluator, &block.body, block.span, &apart)
    }

    pub(super) fn attribute<'b>(&self, block: &'b Block, name: &str) -> Option<&'b Expr> {
        let found = block.body.attributes.iter().find(|attribute| attribute.name == name);
        found.map(|attribute| &attribute.value)
    }

    /// A reference that has to be there.
    pub(super) fn required<'b>(&self, block: &'b Block, name: &str) -> Option<&'b Expr> {
        let found = self.attribute(block, name);
        if found.is_none() {
            let message = format!("missing required attribute {name:?}");
            self.context().fault(block.span, message, Some(format!("add {name} = […]")));
        }
        found
    }

    /// The receivers that an expression names.
    pub(super) fn receivers_of(&self, block: &Block) -> Vec<(String, Span)> {
        let Some(value) = self.required(block, "forward_to") else { return Vec::new() };
        let Some(value) = self.evaluator.value(value) else { return Vec::new() };
        let mut found = Vec::new();
        self.add_receivers(&value, &mut found);
        found
    }

    fn add_receivers(&self, value: &Value, found: &mut Vec<(String, Span)>) {
        match &value.kind {
            ValueKind::List(items) => items.iter().for_each(|item| self.add_receivers(item, found)),
            ValueKind::Export(component, export) if export == "receiver" => {
                found.push((component.clone(), value.span));
            }
            _ => {
                let message = format!("{} takes no lines", value.describe());
                let help = "write a list such as [loki.write.default.receiver]".to_owned();
                self.context().fault(value.span, message, Some(help));
            }
        }
    }

    /// A component that takes lines, read once.
    fn receiver(&self, id: &str, place: Span) -> Option<Receiver> {
        if let Some(known) = self.receivers.borrow().get(id) {
            return known.clone();
        }
        // Until it is read it is nothing, so that who refers to itself ends.
        self.receivers.borrow_mut().insert(id.to_owned(), None);
        let block = self.components.get(id)?;
        let receiver = match block.name.as_str() {
            "loki.process" => {
                let forward = self.receivers_of(block);
                let tree = self.tree(block);
                let mut section = Section::open(self.context(), &tree, "loki.process")?;
                let stages = section.node("stage").map(|node| read_stages(&self.stages, node, 0));
                section.finish();
                let stages = stages.filter(|stages| !stages.is_empty());
                Receiver::Step {
                    steps: stages.map(RouteStep::Stages).into_iter().collect(),
                    forward,
                }
            }
            "loki.relabel" => {
                let forward = self.receivers_of(block);
                Receiver::Step { steps: vec![RouteStep::Relabel(self.rules_of(block))], forward }
            }
            "loki.write" => {
                let tree = self.tree(block);
                let section = Section::open(self.context(), &tree, "loki.write")?;
                let mut sinks = self.sinks.borrow_mut();
                let (external_labels, sinks) = alloy_sinks::read(section, id, &mut sinks);
                Receiver::End { external_labels, sinks }
            }
            _ => {
                let message = format!("lines that go to {id} go nowhere");
                let help = "forward them to loki.process, loki.relabel or loki.write".to_owned();
                self.context().warn(Severity::Mistake, place, message, Some(help));
                return None;
            }
        };
        self.receivers.borrow_mut().insert(id.to_owned(), Some(receiver.clone()));
        Some(receiver)
    }

    /// Rules of `loki.relabel` and `discovery.relabel`.
    pub(super) fn rules_of(&self, block: &Block) -> Vec<RelabelConfig> {
        let tree = self.tree(block);
        let Some(mut section) = Section::open(self.context(), &tree, "relabel") else {
            return Vec::new();
        };
        section.value::<u64>("max_cache_size");
        let rules = relabel::read(&mut section, "rule", NameValidation::Utf8, "empty rule");
        section.finish();
        rules
    }

    /// The ways of lines behind some receivers: equal ones are one.
    fn routes(&self, receivers: &[(String, Span)], depth: usize) -> Vec<LogRoute> {
        let mut routes: Vec<LogRoute> = Vec::new();
        for (id, place) in receivers {
            self.routes.set(self.routes.get() + 1);
            if depth > MAX_DEPTH || self.routes.get() > MAX_ROUTES {
                let message = "lines go in a circle, or on too many ways";
                let help = format!(
                    "at most {MAX_DEPTH} components stand one behind the other and lines take \
                     {MAX_ROUTES} ways"
                );
                self.context().fault(*place, message, Some(help));
                return routes;
            }
            let Some(route) = self.route(id, *place, depth) else { continue };
            match routes.iter_mut().find(|known| known.steps == route.steps) {
                Some(known) => known.sinks.extend(route.sinks),
                None => routes.push(route),
            }
        }
        routes
    }

    fn route(&self, id: &str, place: Span, depth: usize) -> Option<LogRoute> {
        match self.receiver(id, place)? {
            Receiver::End { external_labels, sinks } => {
                let steps = match external_labels.is_empty() {
                    true => Vec::new(),
                    false => vec![RouteStep::ExternalLabels(external_labels)],
                };
                Some(LogRoute { steps, sinks })
            }
            Receiver::Step { mut steps, forward } => {
                let mut behind = self.routes(&forward, depth + 1);
                match behind.len() {
                    0 => None,
                    1 => {
                        let next = behind.remove(0);
                        steps.extend(next.steps);
                        Some(LogRoute { steps, sinks: next.sinks })
                    }
                    _ => {
                        steps.push(RouteStep::Branches(behind));
                        Some(LogRoute { steps, sinks: Vec::new() })
                    }
                }
            }
        }
    }

    /// A job of a block, if its lines go somewhere.
    pub(super) fn job(
        &self,
        block: &Block,
        source: LogSource,
        relabel: Vec<RelabelConfig>,
    ) -> Vec<LogJob> {
        let routes = self.routes(&self.receivers_of(block), 0);
        if routes.is_empty() {
            let message = format!("lines of {} go nowhere", block.id());
            let help = "forward them to loki.process, loki.relabel or loki.write".to_owned();
            self.context().warn(Severity::Mistake, block.span, message, Some(help));
            return Vec::new();
        }
        vec![LogJob { name: block.id(), source, relabel, routes }]
    }

    /// Rules that a source names.
    pub(super) fn relabel_rules(&self, block: &Block) -> Vec<RelabelConfig> {
        let Some(expr) = self.attribute(block, "relabel_rules") else { return Vec::new() };
        let Some(value) = self.evaluator.value(expr) else { return Vec::new() };
        match &value.kind {
            ValueKind::Export(component, export) if export == "rules" => {
                let found = self.components.get(component);
                found.map(|block| self.rules_of(block)).unwrap_or_default()
            }
            _ => {
                let help = "write loki.relabel.NAME.rules".to_owned();
                let message = format!("{} is no rules", value.describe());
                self.context().fault(value.span, message, Some(help));
                Vec::new()
            }
        }
    }
}

/// Whether a name is another one with one or two letters amiss.
fn is_slip(name: &str, known: &str) -> bool {
    let common = name.bytes().zip(known.bytes()).take_while(|(a, b)| a == b).count();
    name.len().abs_diff(known.len()) <= 2 && common + 3 >= known.len()
}
