//! What comes of reading a configuration.

use std::collections::BTreeMap;

use model::Labels;

use super::alloy_metrics::AlloyMetrics;
use super::config::{LogsConfig, StaticTarget};
use crate::diagnostic::Diagnostic;
use crate::relabel::{LabelBuffer, RelabelConfig, relabel};
use crate::yaml::{Context, Document, Node, Section, Value, read_labels};
use crate::{NameValidation, prometheus::Surroundings};

/// A configuration that can be used.
#[derive(Debug, Clone, PartialEq)]
pub struct LoadedLogs {
    /// What it says.
    pub config: LogsConfig,
    /// What it says about metrics; nothing if it is none of Alloy.
    pub metrics: AlloyMetrics,
    /// What of it has no effect or cannot work here, each with its place.
    pub warnings: Vec<Diagnostic>,
}

/// The label of a target with the pattern of its files.
const PATH: &str = "__path__";
/// The label of a target with the pattern of what is left out.
const EXCLUDE: &str = "__path_exclude__";

/// What rules make of the labels of files: the pattern, what is left out, and labels of lines. `None`
/// if they drop it; an empty path if there is none.
pub(super) fn target_of(labels: &Labels, rules: &[RelabelConfig]) -> Option<StaticTarget> {
    let mut buffer = LabelBuffer::new();
    buffer.load(labels);
    if !relabel(rules, &mut buffer) {
        return None;
    }
    let kept: BTreeMap<&str, &str> =
        buffer.iter().filter(|(name, _)| !name.starts_with("__")).collect();
    Some(StaticTarget {
        path: buffer.get(PATH).to_owned(),
        exclude: Some(buffer.get(EXCLUDE).to_owned()).filter(|path| !path.is_empty()),
        labels: Labels::from_pairs(kept).expect("names are unique and not empty"),
    })
}

/// Labels below a key.
pub(super) fn labels_of(section: &mut Section<'_>, key: &'static str) -> Labels {
    let context = section.context;
    let labels = section.node(key);
    labels.map(|node| read_labels(context, node, NameValidation::Utf8)).unwrap_or_default()
}

/// Labels of two sets; those of `ours` win.
pub(super) fn merged(ours: &Labels, theirs: &Labels) -> Labels {
    let all: BTreeMap<&str, &str> = theirs.iter().chain(ours.iter()).collect();
    Labels::from_pairs(all).expect("names are unique and not empty")
}

/// Warns that a section is not looked at.
pub(super) fn without_effect(section: &mut Section<'_>, key: &'static str, why: &str, help: &str) {
    if section.node(key).is_some_and(|node| !node.is_empty()) {
        section.warn(key, format!("{key} has no effect: {why}"), Some(help));
    }
}

/// Whether some scalar of the tree holds a text.
pub(super) fn has_text(node: &Node, is_wanted: &dyn Fn(&str) -> bool) -> bool {
    match &node.value {
        Value::Scalar(scalar) => is_wanted(scalar.text()),
        Value::Sequence(items) => items.iter().any(|item| has_text(item, is_wanted)),
        Value::Mapping(pairs) => pairs.iter().any(|(_, value)| has_text(value, is_wanted)),
    }
}

/// Puts variables of the environment into a text, as Promtail does with `-config.expand-env`:
/// `${NAME}` and `${NAME:-default}`. One that is not set is empty.
pub(super) fn expand_variables(text: &str, surroundings: &dyn Surroundings) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        let (before, tail) = rest.split_at(at);
        out.push_str(before);
        let Some(end) = tail.find('}') else {
            out.push_str(tail);
            return out;
        };
        let inside = &tail[2..end];
        let (name, default) = inside.split_once(":-").unwrap_or((inside, ""));
        if is_variable(name) {
            let value = surroundings.variable(name).filter(|value| !value.is_empty());
            out.push_str(value.as_deref().unwrap_or(default));
        } else {
            out.push_str(&tail[..=end]);
        }
        rest = &tail[end + 1..];
    }
    out.push_str(rest);
    out
}

/// Whether a text names a variable of the environment.
pub(super) fn is_variable(name: &str) -> bool {
    let starts = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    starts && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// Makes a name unique among those that are there.
pub(super) fn unique(name: String, taken: &[String]) -> String {
    if !taken.contains(&name) {
        return name;
    }
    (2..).map(|n| format!("{name}-{n}")).find(|n| !taken.contains(n)).unwrap_or(name)
}

/// What stands below a key such as `logs.files[0].stages`.
pub(super) fn node_at<'d>(document: &'d Document, key: &str) -> Option<&'d Node> {
    let mut node = document.root();
    for step in key.split(['.', '[']).map(|step| step.trim_end_matches(']')) {
        node = match node.map(|node| &node.value) {
            Some(Value::Mapping(pairs)) => pairs
                .iter()
                .find(|(key, _)| matches!(&key.value, Value::Scalar(s) if s.text() == step))
                .map(|(_, value)| &**value),
            Some(Value::Sequence(items)) => {
                step.parse::<usize>().ok().and_then(|at| items.get(at)).map(|item| &**item)
            }
            _ => None,
        };
    }
    node
}

/// Names of labels that a reader may see by its context.
pub(super) fn finish_warnings(context: Context<'_>) -> (Vec<Diagnostic>, Vec<Diagnostic>) {
    let findings = context.finish();
    (findings.faults, findings.warnings)
}
