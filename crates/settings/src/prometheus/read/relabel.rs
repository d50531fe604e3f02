//! Relabel rules.

use crate::NameValidation;
use crate::relabel::{Action, Regex, RelabelConfig, RelabelFields};
use crate::suggestion::nearest;
use crate::yaml::{Context, FromNode, LabelName, Node, Section};

/// Reads the list of rules below `key`; `empty` is what Prometheus says about a rule that is
/// nothing.
pub(crate) fn read(
    section: &mut Section<'_>,
    key: &'static str,
    names: NameValidation,
    empty: &str,
) -> Vec<RelabelConfig> {
    let context = section.context;
    let mut rules = Vec::new();
    for node in section.items(key) {
        if node.is_null() {
            context.fault(node.span, empty, Some("remove the lone `-`".to_owned()));
        } else {
            rules.extend(read_rule(context, node, names));
        }
    }
    rules
}

/// Reads one rule.
pub(super) fn read_rule(
    context: &Context<'_>,
    node: &Node,
    names: NameValidation,
) -> Option<RelabelConfig> {
    let mut section = Section::open(context, node, "relabel.plain")?;
    let default = RelabelFields::default();
    let source_labels: Vec<LabelName> = section.value("source_labels");
    let action = read_action(&mut section);
    let regex = match section.node("regex") {
        None => Some(default.regex),
        Some(node) => read_regex(context, node),
    };
    let fields = RelabelFields {
        source_labels: source_labels.into_iter().map(|name| name.0).collect(),
        separator: section.or("separator", default.separator),
        // A rule whose expression is wrong is not used; the others are still checked.
        regex: regex.clone().unwrap_or_else(Regex::match_all),
        modulus: section.value("modulus"),
        target_label: section.value("target_label"),
        replacement: section.or("replacement", default.replacement),
        action: action.unwrap_or_default(),
    };
    let rule = match (action, RelabelConfig::new(fields, names)) {
        (Some(_), Ok(rule)) => Some(rule),
        (Some(_), Err(error)) => {
            section.fault(error.key(), error.to_string(), None);
            None
        }
        (None, _) => None,
    };
    section.finish();
    rule.filter(|_| regex.is_some())
}

fn read_action(section: &mut Section<'_>) -> Option<Action> {
    let Some(node) = section.node("action") else { return Some(Action::Replace) };
    if node.is_null() {
        let help = "name an action, or remove the key for `replace`";
        section.fault("action", "relabel action cannot be empty", Some(help));
        return None;
    }
    let text = String::from_node(section.context, node)?;
    let action = Action::parse(&text);
    if action.is_none() {
        let names = Action::ALL.map(Action::name);
        let help = match nearest(&text, names) {
            Some(name) => format!("did you mean `{name}`?"),
            None => format!("the actions are {}", names.join(", ")),
        };
        section.fault("action", format!("unknown relabel action {text:?}"), Some(&help));
    }
    action
}

/// An expression; nothing at all matches the empty text only.
fn read_regex(context: &Context<'_>, node: &Node) -> Option<Regex> {
    let text = if node.is_null() { String::new() } else { String::from_node(context, node)? };
    match Regex::new(&text) {
        Ok(regex) => Some(regex),
        Err(error) => {
            let help = "expressions have the syntax of RE2 and match the whole text";
            context.fault(node.span, error.to_string(), Some(help.to_owned()));
            None
        }
    }
}
