//! Blocks in the form of YAML.
//!
//! An attribute is a key, a block a key with a mapping. Blocks that may stand several times are a
//! list: `rule { … } rule { … }` becomes `rule: [{…}, {…}]`, and `stage.json { … }` becomes an
//! element `json: {…}` of the list `stage`, in the order of the file.

use std::sync::Arc;

use super::ast::{Attribute, Block, Body};
use super::evaluate::{Evaluator, Value, ValueKind};
use crate::yaml::{Node, Scalar, Span, Value as Yaml};

/// Keys by other names than those of Prometheus.
const RENAMED: &[(&str, &str)] = &[("ca_pem", "ca"), ("cert_pem", "cert"), ("key_pem", "key")];

/// Blocks that may stand several times.
const REPEATED: &[&str] = &["endpoint", "filter", "listener", "rule", "write_relabel_config"];

type Pairs = Vec<(Arc<Node>, Arc<Node>)>;

/// The body as a mapping, without the attributes that `is_apart` names.
pub(crate) fn mapping(
    evaluator: &Evaluator<'_>,
    body: &Body,
    span: Span,
    is_apart: &dyn Fn(&str) -> bool,
) -> Node {
    let mut pairs: Pairs = Vec::new();
    for Attribute { name, span, value } in &body.attributes {
        if is_apart(name) {
            continue;
        }
        let node = evaluator.value(value).and_then(|value| node_of(evaluator, &value));
        if let Some(node) = node {
            let renamed = RENAMED.iter().find(|(known, _)| known == name);
            let name = renamed.map_or(name.as_str(), |(_, name)| name);
            pairs.push((key(name, *span), Arc::new(node)));
        }
    }
    let mut lists: Vec<(&str, Span, Vec<Arc<Node>>)> = Vec::new();
    for block in &body.blocks {
        let (name, item) = item_of(evaluator, block);
        if !REPEATED.contains(&name) && !block.name.contains('.') {
            pairs.push((key(name, block.span), item));
            continue;
        }
        match lists.iter_mut().find(|(known, ..)| *known == name) {
            Some((_, _, items)) => items.push(item),
            None => lists.push((name, block.span, vec![item])),
        }
    }
    for (name, span, items) in lists {
        pairs.push((key(name, span), Arc::new(Node::new(span, Yaml::Sequence(items)))));
    }
    Node::new(span, Yaml::Mapping(pairs))
}

/// The key of a block, and what is below it.
fn item_of<'b>(evaluator: &Evaluator<'_>, block: &'b Block) -> (&'b str, Arc<Node>) {
    let inner = Arc::new(mapping(evaluator, &block.body, block.span, &|_| false));
    match block.name.split_once('.') {
        None => (&block.name, inner),
        Some((outer, name)) => {
            let item = vec![(key(name, block.span), inner)];
            (outer, Arc::new(Node::new(block.span, Yaml::Mapping(item))))
        }
    }
}

fn key(name: &str, span: Span) -> Arc<Node> {
    Arc::new(text(name, span))
}

fn text(text: &str, span: Span) -> Node {
    Node::new(span, Yaml::Scalar(Scalar::of_text(text.to_owned(), false)))
}

fn plain(text: String, span: Span) -> Node {
    Node::new(span, Yaml::Scalar(Scalar::of_text(text, true)))
}

/// A value as a node; `None` after a fault for what only references can be.
pub(crate) fn node_of(evaluator: &Evaluator<'_>, value: &Value) -> Option<Node> {
    let span = value.span;
    Some(match &value.kind {
        ValueKind::Null => Node::nothing(span),
        ValueKind::Bool(is) => plain(is.to_string(), span),
        ValueKind::Number(number) => plain(number.to_string(), span),
        ValueKind::Text(value) => text(value, span),
        ValueKind::List(items) => {
            let items: Option<Vec<Arc<Node>>> =
                items.iter().map(|item| node_of(evaluator, item).map(Arc::new)).collect();
            Node::new(span, Yaml::Sequence(items?))
        }
        ValueKind::Object(members) => {
            let pairs: Option<Pairs> = members
                .iter()
                .map(|(name, value)| {
                    Some((key(name, value.span), Arc::new(node_of(evaluator, value)?)))
                })
                .collect();
            Node::new(span, Yaml::Mapping(pairs?))
        }
        ValueKind::Export(component, export) => {
            let message = format!("{component}.{export} cannot stand here");
            let help = "write the value itself; only forward_to, targets and rules take references";
            evaluator.context.fault(span, message, Some(help.to_owned()));
            return None;
        }
    })
}
