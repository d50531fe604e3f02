//! What of Alloy's configuration is about metrics: `prometheus.scrape`, and what is behind it.

use std::sync::Arc;

use model::Labels;

use super::alloy::Reader;
use super::alloy_targets::Targets;
use crate::alloy::ast::Block;
use crate::alloy::evaluate::ValueKind;
use crate::diagnostic::Severity;
use crate::prometheus::read::scrape;
use crate::prometheus::{Discovery, Global, ScrapeConfig};
use crate::relabel::RelabelConfig;
use crate::target_groups::TargetGroup;
use crate::yaml::{Node, Scalar, Span, Value};

/// What is scraped by a file of Alloy.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct AlloyMetrics {
    /// Jobs; their names are unique.
    pub scrape_configs: Vec<ScrapeConfig>,
    /// Labels of all samples where they are passed on, if all `prometheus.remote_write` agree.
    pub external_labels: Labels,
}

/// Most components one behind the other.
const MAX_DEPTH: usize = 64;
/// Keys by other names than those of Prometheus.
const RENAMED: &[(&str, &str)] = &[
    ("extra_metrics", "extra_scrape_metrics"),
    ("scrape_classic_histograms", "always_scrape_classic_histograms"),
    ("scrape_fallback_protocol", "fallback_scrape_protocol"),
];
/// Keys that do not matter here: brokers of a cluster share targets by themselves.
const IGNORED: &[&str] = &["clustering", "enable_protobuf_negotiation", "honor_metadata"];

impl Reader<'_> {
    /// Jobs of a `prometheus.scrape`.
    pub(super) fn scrape(&self, block: &Block) -> Vec<ScrapeConfig> {
        let mut targets = Targets::default();
        if let Some(value) =
            self.required(block, "targets").and_then(|expr| self.evaluator.value(expr))
        {
            self.add_targets(&value, &mut targets, 0);
        }
        if !targets.pods.is_empty() || !targets.containers.is_empty() {
            let message = "pods and containers are not scraped: only their lines are read here";
            let help =
                "find targets with discovery.dns, discovery.http or discovery.file".to_owned();
            self.context().warn(Severity::Mistake, block.span, message, Some(help));
        }
        let Some(metric_relabel_configs) = self.rules_behind(block) else { return Vec::new() };
        let tree = with_prometheus_names(self.tree(block), &block.id());
        let Some(mut config) = scrape::read(self.context(), &tree, &Global::default()) else {
            return Vec::new();
        };
        config.metric_relabel_configs = metric_relabel_configs;
        let group = self.group_of(&targets);
        if !group.targets.is_empty() {
            config.discovery.push(Discovery::Static(vec![group]));
        }
        let mut jobs = Vec::new();
        for (discovery, rules) in targets.found {
            match rules.is_empty() {
                true => config.discovery.push(discovery),
                // Rules are those of a job.
                false => jobs.push(ScrapeConfig {
                    discovery: vec![discovery],
                    relabel_configs: rules,
                    ..config.clone()
                }),
            }
        }
        if !config.discovery.is_empty() {
            jobs.insert(0, config);
        }
        jobs
    }

    /// Targets that stand in the file, as far as they have an address.
    fn group_of(&self, targets: &Targets) -> TargetGroup {
        let mut group = TargetGroup { source: "0".to_owned(), ..TargetGroup::default() };
        for (labels, span) in &targets.files {
            if labels.get("__address__").is_none() {
                let message = "the target has no label __address__: nothing is scraped";
                let help = "add __address__ = \"host:port\"".to_owned();
                self.context().warn(Severity::Mistake, *span, message, Some(help));
            } else if !group.targets.contains(labels) {
                group.targets.push(labels.clone());
            }
        }
        group
    }

    /// Rules over samples on their way from a block to `prometheus.remote_write`, which is the broker
    /// here. `None` if they go nowhere.
    fn rules_behind(&self, block: &Block) -> Option<Vec<RelabelConfig>> {
        let mut ways = Vec::new();
        for (id, place) in self.receivers_of(block) {
            if let Some(way) = self.way(&id, place, 0)
                && !ways.contains(&way)
            {
                ways.push(way);
            }
        }
        if ways.len() > 1 {
            let message = "samples go on several ways with different rules; the first counts";
            let help =
                "forward them to one prometheus.relabel or prometheus.remote_write".to_owned();
            self.context().warn(Severity::Mistake, block.span, message, Some(help));
        }
        if ways.is_empty() {
            let message = format!("samples of {} go nowhere", block.id());
            let help = "forward them to prometheus.remote_write".to_owned();
            self.context().warn(Severity::Mistake, block.span, message, Some(help));
        }
        ways.into_iter().next()
    }

    fn way(&self, id: &str, place: Span, depth: usize) -> Option<Vec<RelabelConfig>> {
        let block = self.components.get(id)?;
        match block.name.as_str() {
            "prometheus.remote_write" => Some(Vec::new()),
            "prometheus.relabel" if depth < MAX_DEPTH => {
                let mut rules = self.rules_of(block);
                let behind = self.receivers_of(block);
                let mut ways =
                    behind.iter().filter_map(|(id, place)| self.way(id, *place, depth + 1));
                rules.extend(ways.next()?);
                Some(rules)
            }
            _ => {
                let message = format!("samples that go to {id} go nowhere");
                let help = "forward them to prometheus.remote_write".to_owned();
                self.context().warn(Severity::Mistake, place, message, Some(help));
                None
            }
        }
    }

    /// `external_labels` of a `prometheus.remote_write`.
    pub(super) fn labels_of_remote(&self, block: &Block) -> Labels {
        let Some(value) =
            self.attribute(block, "external_labels").and_then(|expr| self.evaluator.value(expr))
        else {
            return Labels::empty();
        };
        let ValueKind::Object(members) = &value.kind else { return Labels::empty() };
        let pairs = members.iter().filter_map(|(name, value)| match &value.kind {
            ValueKind::Text(text) if !name.is_empty() => Some((name.as_str(), text.as_str())),
            _ => None,
        });
        Labels::from_pairs(pairs).expect("names of an object are unique")
    }
}

/// The keys of a block as a job of Prometheus has them.
fn with_prometheus_names(tree: Node, id: &str) -> Node {
    let span = tree.span;
    let pairs = match tree.value {
        Value::Mapping(pairs) => pairs,
        _ => Vec::new(),
    };
    let key = |text: &str, span| {
        Arc::new(Node::new(span, Value::Scalar(Scalar::of_text(text.to_owned(), false))))
    };
    let name_of = |node: &Node| match &node.value {
        Value::Scalar(scalar) => scalar.text().to_owned(),
        _ => String::new(),
    };
    let mut renamed = Vec::with_capacity(pairs.len() + 1);
    let mut has_name = false;
    for (name, value) in pairs {
        let text = name_of(&name);
        has_name |= text == "job_name" && !value.is_null();
        if IGNORED.contains(&text.as_str()) {
            continue;
        }
        let name = match RENAMED.iter().find(|(known, _)| *known == text) {
            Some((_, new)) => key(new, name.span),
            None => name,
        };
        renamed.push((name, value));
    }
    if !has_name {
        renamed.push((key("job_name", span), key(id, span)));
    }
    Node::new(span, Value::Mapping(renamed))
}
