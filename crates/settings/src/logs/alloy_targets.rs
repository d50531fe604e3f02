//! Targets of Alloy's sources: what expressions and components of discovery yield.

use std::time::Duration;

use model::Labels;

use super::alloy::Reader;
use super::config::{PodSource, StaticTarget};
use super::go_values::GoDuration;
use super::load::target_of;
use crate::alloy::ast::Block;
use crate::alloy::evaluate::{Value, ValueKind};
use crate::diagnostic::Severity;
use crate::prometheus::Discovery;
use crate::prometheus::read::discovery;
use crate::relabel::{LabelBuffer, RelabelConfig, relabel};
use crate::yaml::{Section, Span};

/// Most components of discovery one behind the other.
const MAX_DEPTH: usize = 32;

/// What sources are told to read.
#[derive(Default)]
pub(super) struct Targets {
    /// Labels of files, `__path__` among them.
    pub(super) files: Vec<(Labels, Span)>,
    /// Containers that a daemon knows.
    pub(super) containers: Vec<Containers>,
    /// Pods of this node, with rules over their labels.
    pub(super) pods: Vec<(PodSource, Vec<RelabelConfig>)>,
    /// Targets that are found, with rules over their labels.
    pub(super) found: Vec<(Discovery, Vec<RelabelConfig>)>,
    pub(super) sync_period: Option<Duration>,
}

/// Containers of `discovery.docker`, with rules over their labels.
pub(super) struct Containers {
    pub(super) filters: Vec<(String, Vec<String>)>,
    pub(super) rules: Vec<RelabelConfig>,
}

impl Reader<'_> {
    /// Adds the targets that a value is.
    pub(super) fn add_targets(&self, value: &Value, targets: &mut Targets, depth: usize) {
        match &value.kind {
            ValueKind::List(items) => {
                items.iter().for_each(|item| self.add_targets(item, targets, depth));
            }
            ValueKind::Object(members) => self.add_file(value.span, members, targets),
            ValueKind::Export(component, export) => {
                let block = self.components.get(component).copied();
                if depth > MAX_DEPTH {
                    let message = "targets are made in a circle".to_owned();
                    self.evaluator.context.fault(value.span, message, None);
                } else if let Some(block) = block {
                    self.add_component(block, export, value.span, targets, depth);
                }
            }
            _ => {
                let message = format!("{} is no target", value.describe());
                let help = "write {__path__ = \"/var/log/*.log\", job = \"name\"}".to_owned();
                self.evaluator.context.fault(value.span, message, Some(help));
            }
        }
    }

    fn add_file(&self, span: Span, members: &[(String, Value)], targets: &mut Targets) {
        let mut pairs = Vec::new();
        for (name, value) in members {
            let text = match &value.kind {
                ValueKind::Text(text) => text.clone(),
                ValueKind::Number(number) => number.to_string(),
                ValueKind::Bool(is) => is.to_string(),
                _ => {
                    let message = format!("{} is no value of a label", value.describe());
                    self.evaluator.context.fault(value.span, message, None);
                    return;
                }
            };
            if name.is_empty() {
                self.evaluator.context.fault(value.span, "a label needs a name", None);
                return;
            }
            pairs.push((name.as_str(), text));
        }
        let pairs = pairs.iter().map(|(name, text)| (*name, text.as_str()));
        let labels = Labels::from_pairs(pairs).expect("names of an object are unique");
        targets.files.push((labels, span));
    }

    fn add_component(
        &self,
        block: &Block,
        export: &str,
        span: Span,
        targets: &mut Targets,
        depth: usize,
    ) {
        match (block.name.as_str(), export) {
            ("local.file_match", "targets") => {
                let tree = self.tree(block);
                let context = self.evaluator.context;
                if let Some(mut section) = Section::open(context, &tree, "local.file_match") {
                    let period = section.read::<GoDuration>("sync_period").map(|period| period.0);
                    targets.sync_period = period.or(targets.sync_period);
                    if section.node("ignore_older_than").is_some() {
                        let message = "ignore_older_than has no effect: old files are read, too";
                        section.warn("ignore_older_than", message, None);
                    }
                    section.finish();
                }
                self.add_attribute(block, "path_targets", targets, depth);
            }
            ("discovery.relabel", "output") => {
                let mut inner = Targets::default();
                self.add_attribute(block, "targets", &mut inner, depth);
                let rules = self.rules_of(block);
                for (labels, span) in inner.files {
                    let mut buffer = LabelBuffer::new();
                    buffer.load(&labels);
                    if relabel(&rules, &mut buffer) {
                        let labels = buffer.to_labels().expect("names of labels are unique");
                        targets.files.push((labels, span));
                    }
                }
                for mut containers in inner.containers {
                    containers.rules.extend(rules.iter().cloned());
                    targets.containers.push(containers);
                }
                for (pods, mut of_pods) in inner.pods {
                    of_pods.extend(rules.iter().cloned());
                    targets.pods.push((pods, of_pods));
                }
                for (found, mut of_found) in inner.found {
                    of_found.extend(rules.iter().cloned());
                    targets.found.push((found, of_found));
                }
                targets.sync_period = inner.sync_period.or(targets.sync_period);
            }
            (name @ ("discovery.dns" | "discovery.file" | "discovery.http"), _) => {
                let (tree, context) = (self.tree(block), self.evaluator.context);
                let found = match name {
                    "discovery.dns" => discovery::read_dns(context, &tree).map(Discovery::Dns),
                    "discovery.file" => discovery::read_file(context, &tree).map(Discovery::File),
                    _ => discovery::read_http(context, &tree)
                        .map(|http| Discovery::Http(Box::new(http))),
                };
                targets.found.extend(found.map(|found| (found, Vec::new())));
            }
            // What was said about it is enough.
            (name, _) if name.starts_with("prometheus.exporter.") => {}
            ("discovery.kubernetes", _) => {
                let tree = self.tree(block);
                let section = Section::open(self.evaluator.context, &tree, "discovery.kubernetes");
                let pods = section.and_then(super::pods::read);
                targets.pods.extend(pods.map(|pods| (pods, Vec::new())));
            }
            ("discovery.docker", _) => {
                let tree = self.tree(block);
                let context = self.evaluator.context;
                let mut filters = Vec::new();
                if let Some(mut section) = Section::open(context, &tree, "discovery.docker") {
                    for node in section.items("filter") {
                        let Some(mut filter) = Section::open(context, node, "filter") else {
                            continue;
                        };
                        filters.push((filter.value("name"), filter.value("values")));
                        filter.finish();
                    }
                    section.value::<String>("host");
                    section.value::<u64>("port");
                    section.value::<String>("host_networking_host");
                    section.value::<bool>("match_first_network");
                    section.read::<GoDuration>("refresh_interval");
                    section.finish();
                }
                targets.containers.push(Containers { filters, rules: Vec::new() });
            }
            _ => {
                let message = format!("{}.{export} yields nothing here", block.id());
                let help = "name the files with local.file_match".to_owned();
                self.evaluator.context.warn(Severity::Mistake, span, message, Some(help));
            }
        }
    }

    fn add_attribute(&self, block: &Block, name: &str, targets: &mut Targets, depth: usize) {
        let Some(expr) = self.attribute(block, name) else {
            let message = format!("missing required attribute {name:?}");
            let help = format!("add {name} = […]");
            self.evaluator.context.fault(block.span, message, Some(help));
            return;
        };
        if let Some(value) = self.evaluator.value(expr) {
            self.add_targets(&value, targets, depth + 1);
        }
    }

    /// Patterns with labels, each once.
    pub(super) fn static_targets(&self, targets: &Targets) -> Vec<StaticTarget> {
        let mut found: Vec<StaticTarget> = Vec::new();
        for (labels, span) in &targets.files {
            let Some(target) = target_of(labels, &[]) else { continue };
            if target.path.is_empty() {
                let message = "the target has no label __path__: no file is read";
                let help = "add __path__ = \"/var/log/*.log\"".to_owned();
                self.evaluator.context.warn(Severity::Mistake, *span, message, Some(help));
            } else if !found.contains(&target) {
                found.push(target);
            }
        }
        found
    }
}
