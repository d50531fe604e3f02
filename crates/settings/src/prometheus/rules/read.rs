//! From YAML to groups.

use std::collections::HashSet;
use std::path::Path;
use std::time::Duration;

use super::expression_place::place_in_scalar;
use super::{
    LoadedRules, MAX_GROUPS, MAX_RULES, Rule, RuleChecks, RuleFile, RuleFormat, RuleGroup,
    RuleKind, duplicates,
};
use crate::NameValidation;
use crate::diagnostic::{Diagnostic, Faults, Severity};
use crate::yaml::{
    Context, Document, FromNode, Milliseconds, Node, Section, Span, pairs_of, read_map,
};

/// Reads a whole file.
pub(super) fn file(document: &Document, checks: &RuleChecks<'_>) -> Result<LoadedRules, Faults> {
    let context = Context::new(document.source(), Path::new(""));
    let mut reader = Reader { context: &context, document, checks, rules: 0, places: Vec::new() };
    let mut file = RuleFile::default();
    let root = document.root();
    if let Some(mut root) =
        root.and_then(|node| Section::open(&context, node, "rulefmt.RuleGroups"))
    {
        if checks.format == RuleFormat::Ruler {
            file.namespace = root.read::<String>("namespace").filter(|name| !name.is_empty());
        }
        file.groups = reader.groups(&mut root);
        reader.close(root);
    }
    let places = std::mem::take(&mut reader.places);
    let findings = context.finish();
    if !findings.faults.is_empty() {
        return Err(Faults::new(findings.faults));
    }
    let mut warnings = findings.warnings;
    warnings.extend(document.trailing());
    let duplicates = duplicates::find(&file.groups, places);
    Ok(LoadedRules { file, warnings, duplicates })
}

/// Reads a document that is one group.
pub(super) fn single_group(
    document: &Document,
    checks: &RuleChecks<'_>,
) -> Result<RuleGroup, Faults> {
    let context = Context::new(document.source(), Path::new(""));
    let mut reader = Reader { context: &context, document, checks, rules: 0, places: Vec::new() };
    let group = document.root().and_then(|node| reader.group(node));
    let findings = context.finish();
    match group {
        Some(group) if findings.faults.is_empty() => Ok(group),
        _ if findings.faults.is_empty() => {
            let help = "send one group: name, and rules below it".to_owned();
            let message = "Groupname must not be empty".to_owned();
            Err(Diagnostic::at(document.source(), (0, 0), message, Some(help)).into())
        }
        _ => Err(Faults::new(findings.faults)),
    }
}

struct Reader<'a, 'c> {
    context: &'a Context<'a>,
    document: &'a Document,
    checks: &'c RuleChecks<'c>,
    /// Rules read so far.
    rules: usize,
    /// Where each of them begins.
    places: Vec<Diagnostic>,
}

impl<'a> Reader<'a, '_> {
    fn groups(&mut self, root: &mut Section<'a>) -> Vec<RuleGroup> {
        let context = self.context;
        let mut groups: Vec<RuleGroup> = Vec::new();
        let mut names: HashSet<String> = HashSet::new();
        for node in root.items("groups") {
            if groups.len() == MAX_GROUPS || self.rules > MAX_RULES {
                let message = format!("more than {MAX_GROUPS} groups or {MAX_RULES} rules");
                let help = "split the file".to_owned();
                context.fault(start_of(node), message, Some(help));
                break;
            }
            let Some(group) = self.group(node) else { continue };
            if !names.insert(group.name.clone()) && !group.name.is_empty() {
                let message = format!("groupname: \"{}\" is repeated in the same file", group.name);
                let help = "give each group of a file its own name, or join the two".to_owned();
                context.fault(node.place_of_key("name"), message, Some(help));
            }
            groups.push(group);
        }
        groups
    }

    fn group(&mut self, node: &'a Node) -> Option<RuleGroup> {
        let context = self.context;
        let mut section = Section::open(context, node, "rulefmt.RuleGroup")?;
        let name: String = section.value("name");
        if name.is_empty() {
            let help = "add a name that tells what the rules are for: name: disks";
            section.fault("name", "Groupname must not be empty", Some(help));
        }
        let mut group = RuleGroup {
            interval: duration(&mut section, "interval").filter(|interval| !interval.is_zero()),
            query_offset: duration(&mut section, "query_offset"),
            limit: usize::try_from(section.value::<i64>("limit")).unwrap_or(0),
            line: context.line(section.span_start()),
            name,
            ..RuleGroup::default()
        };
        if self.checks.format == RuleFormat::Ruler {
            self.ruler_keys(&mut section, &mut group);
        }
        group.labels = self.labels(&mut section, "");
        for (index, node) in section.items("rules").into_iter().enumerate() {
            self.rules += 1;
            if self.rules > MAX_RULES {
                break;
            }
            if let Some(rule) = self.rule(node, &group.name, index + 1) {
                let message = String::new();
                let place = Diagnostic::at(self.document.source(), start_of(node), message, None);
                self.places.push(place.with_severity(Severity::Warning));
                group.rules.push(rule);
            }
        }
        self.close(section);
        Some(group)
    }

    /// What only the rulers of Mimir and Loki know.
    fn ruler_keys(&self, section: &mut Section<'a>, group: &mut RuleGroup) {
        group.source_tenants = section.value("source_tenants");
        group.align_evaluation_time = section.value("align_evaluation_time_on_interval");
        if let Some(delay) = duration(section, "evaluation_delay") {
            let help = "rename it to query_offset";
            section.warn("evaluation_delay", "evaluation_delay is the old name of it", Some(help));
            group.query_offset = group.query_offset.or(Some(delay));
        }
        if section.node("remote_write").is_some_and(|node| !node.is_empty()) {
            let why = "remote_write of a group has no effect: what its rules yield is stored here";
            section.warn("remote_write", why, Some("remove it"));
        }
    }

    fn rule(&mut self, node: &'a Node, group: &str, number: usize) -> Option<Rule> {
        let context = self.context;
        let mut section = Section::open(context, node, "rulefmt.Rule")?;
        let record: String = section.value("record");
        let alert: String = section.value("alert");
        let expr: String = section.value("expr");
        let name = if alert.is_empty() { record.clone() } else { alert.clone() };
        let who = format!("group {group:?}, rule {number}, {name:?}: ");
        if !record.is_empty() && !alert.is_empty() {
            let message = format!("{who}only one of 'record' and 'alert' must be set");
            section.fault("record", message, Some("make two rules of it"));
        }
        if record.is_empty() && alert.is_empty() {
            let message = format!("{who}one of 'record' or 'alert' must be set");
            let help = "add record: and the name of a series to write, or alert: and a name";
            section.fault("record", message, Some(help));
        }
        self.expression(&mut section, &who, &expr);
        let mut rule = Rule {
            kind: if alert.is_empty() { RuleKind::Recording } else { RuleKind::Alerting },
            expr,
            hold: duration(&mut section, "for").unwrap_or_default(),
            keep_firing_for: duration(&mut section, "keep_firing_for").unwrap_or_default(),
            labels: Vec::new(),
            annotations: Vec::new(),
            line: context.line(section.span_start()),
            name,
        };
        if !record.is_empty() {
            self.recording(&section, &who, &record, &rule);
        }
        rule.labels = self.labels(&mut section, &who);
        rule.annotations = self.annotations(&mut section, &who);
        if rule.kind == RuleKind::Alerting {
            self.templates(&mut section, &who, &rule);
        }
        self.close(section);
        Some(rule)
    }

    fn expression(&self, section: &mut Section<'a>, who: &str, expr: &str) {
        if expr.is_empty() {
            let is_text = section.node("expr").is_none_or(Node::is_scalar);
            if is_text {
                let message = format!("{who}field 'expr' must be set in rule");
                let help = "add the expression to evaluate: expr: up == 0";
                section.fault("expr", message, Some(help));
            }
            return;
        }
        let Err(fault) = (self.checks.expression)(expr) else { return };
        let scalar = section.place("expr");
        let text = self.document.text();
        let place = fault.span.map_or(scalar, |span| place_in_scalar(text, scalar, expr, span));
        let message = format!("{who}could not parse expression: {}", fault.message);
        let help = "try the expression as a query; when it works there, it works here".to_owned();
        self.context.fault(place, message, Some(help));
    }

    /// What a recording rule must not have.
    fn recording(&self, section: &Section<'a>, who: &str, record: &str, rule: &Rule) {
        let found = [
            ("annotations", section.is_set("annotations")),
            ("for", !rule.hold.is_zero()),
            ("keep_firing_for", !rule.keep_firing_for.is_zero()),
        ];
        for (key, _) in found.into_iter().filter(|(_, is_set)| *is_set) {
            let message = format!("{who}invalid field '{key}' in recording rule");
            let help = "remove it, or write alert: instead of record:";
            self.context.fault(section.key_place(key), message, Some(help.to_owned()));
        }
        let is_valid = match self.checks.names {
            NameValidation::Utf8 => true,
            NameValidation::Legacy => model::is_legacy_metric_name(record),
        };
        if !is_valid {
            let message = format!("{who}invalid recording rule name: {record}");
            let help = "use letters, digits, `_` and `:`, not starting with a digit";
            section.fault("record", message, Some(help));
        }
        if record.contains(['{', '}']) {
            let message = format!(
                "{who}braces present in the recording rule name; should it be in expr?: {record}"
            );
            let help = "write labels of the new series below labels:, and selectors in expr:";
            section.fault("record", message, Some(help));
        }
    }

    fn labels(&self, section: &mut Section<'a>, who: &str) -> Vec<(String, String)> {
        let Some(node) = section.node("labels") else { return Vec::new() };
        let labels = read_map::<String>(self.context, node);
        for (name, _) in &labels {
            if !self.checks.names.is_label_name(name) || name == model::METRIC_NAME {
                let message = format!("{who}invalid label name: {name}");
                let help = if name == model::METRIC_NAME {
                    "the name of the series is what stands behind record:"
                } else {
                    "use letters, digits and `_`, not starting with a digit"
                };
                self.context.fault(key_in(self.context, node, name), message, Some(help.into()));
            }
        }
        labels
    }

    fn annotations(&self, section: &mut Section<'a>, who: &str) -> Vec<(String, String)> {
        let Some(node) = section.node("annotations") else { return Vec::new() };
        let annotations = read_map::<String>(self.context, node);
        for (name, _) in &annotations {
            if !self.checks.names.is_label_name(name) {
                let message = format!("{who}invalid annotation name: {name}");
                let help = "use letters, digits and `_`, not starting with a digit".to_owned();
                self.context.fault(key_in(self.context, node, name), message, Some(help));
            }
        }
        annotations
    }

    fn templates(&self, section: &mut Section<'a>, who: &str, rule: &Rule) {
        for (what, key, texts) in
            [("label", "labels", &rule.labels), ("annotation", "annotations", &rule.annotations)]
        {
            for (name, text) in texts {
                let Err(error) = (self.checks.template)(&rule.name, text) else { continue };
                let message = format!("{who}{what} {name:?}: {error}");
                let place = section.node(key).map_or((0, 0), |node| node.place_of_key(name));
                let help = "labels are {{ $labels.NAME }}, the value is {{ $value }}".to_owned();
                self.context.fault(place, message, Some(help));
            }
        }
    }

    /// Names keys that nobody knows, unless they are to be passed over.
    fn close(&self, section: Section<'a>) {
        if !self.checks.ignore_unknown_fields {
            section.finish();
        }
    }
}

fn duration(section: &mut Section<'_>, key: &'static str) -> Option<Duration> {
    let has = section.node(key).is_some_and(|node| !node.is_null());
    has.then(|| section.read::<Milliseconds>(key).map(Milliseconds::duration)).flatten()
}

/// Where a key of a mapping stands.
fn key_in(context: &Context<'_>, node: &Node, name: &str) -> Span {
    let is_it =
        |key: &Node| key.is_scalar() && String::from_node(context, key).as_deref() == Some(name);
    let pairs = pairs_of(context, node);
    pairs.into_iter().find(|(key, _)| is_it(key)).map_or(node.span, |(key, _)| key.span)
}

/// The beginning of a node: a caret under a whole block would say nothing.
fn start_of(node: &Node) -> Span {
    (node.span.0, node.span.0 + 1)
}
