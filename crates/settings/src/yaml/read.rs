//! Values of configuration files.

use std::collections::{BTreeMap, HashSet};
use std::path::PathBuf;
use std::time::Duration;

use model::Labels;

use super::section::{Context, ReferenceKind, items_of};
use super::tree::{Node, Value};
use crate::duration::parse_duration;
use crate::size::parse_size;
use crate::{HttpUrl, NameValidation, REDACTED, Secret};

/// A value that can be read from a node that is not `null`.
pub(crate) trait FromNode: Sized {
    /// The value; `None` after a fault was noted.
    fn from_node(context: &Context<'_>, node: &Node) -> Option<Self>;
}

/// Notes that `node` is no `type_name`.
fn mismatch<T>(context: &Context<'_>, node: &Node, type_name: &str, help: &str) -> Option<T> {
    let message = format!("cannot unmarshal {} into {type_name}", node.describe());
    context.fault(node.span, message, Some(help.to_owned()));
    None
}

impl FromNode for String {
    fn from_node(context: &Context<'_>, node: &Node) -> Option<Self> {
        match &node.value {
            Value::Scalar(scalar) if scalar.is_invalid_utf8() => {
                let message = format!("\"{}\" is not valid UTF-8", scalar.text());
                context.fault(node.span, message, None);
                None
            }
            Value::Scalar(scalar) => Some(scalar.text().to_owned()),
            _ => mismatch(context, node, "string", "write one text here, not a list or a mapping"),
        }
    }
}

impl FromNode for Secret {
    fn from_node(context: &Context<'_>, node: &Node) -> Option<Self> {
        match &node.value {
            // Nothing is no secret, and may have no place of its own.
            Value::Scalar(scalar) if scalar.is_null() || scalar.text().trim().is_empty() => {}
            Value::Scalar(scalar) if scalar.tag() == "!!binary" => {
                context.hide(node.span, scalar.replaced_by(REDACTED));
            }
            _ => context.hide(node.span, REDACTED.to_owned()),
        }
        String::from_node(context, node).map(Secret::new)
    }
}

impl FromNode for PathBuf {
    fn from_node(context: &Context<'_>, node: &Node) -> Option<Self> {
        let path = context.join(&String::from_node(context, node)?);
        if !path.as_os_str().is_empty() {
            let shown = path.to_string_lossy().into_owned();
            context.refer(ReferenceKind::Content, node.span, shown);
        }
        Some(path)
    }
}

/// A file that is written, which need not exist.
#[derive(Debug, Clone, Default)]
pub(crate) struct OutputPath(pub(crate) PathBuf);

impl FromNode for OutputPath {
    fn from_node(context: &Context<'_>, node: &Node) -> Option<Self> {
        String::from_node(context, node).map(|path| OutputPath(context.join(&path)))
    }
}

impl FromNode for bool {
    fn from_node(context: &Context<'_>, node: &Node) -> Option<Self> {
        let value = match &node.value {
            Value::Scalar(scalar) => scalar.boolean(),
            _ => None,
        };
        value.or_else(|| mismatch(context, node, "bool", "write true or false, without quotes"))
    }
}

fn integer<T: TryFrom<i128>>(context: &Context<'_>, node: &Node, type_name: &str) -> Option<T> {
    let value = match &node.value {
        Value::Scalar(scalar) => scalar.integer().and_then(|number| T::try_from(number).ok()),
        _ => None,
    };
    let help = if type_name == "int" {
        "write a whole number, without quotes"
    } else {
        "write a whole number of 0 or more, without quotes"
    };
    value.or_else(|| mismatch(context, node, type_name, help))
}

impl FromNode for u64 {
    fn from_node(context: &Context<'_>, node: &Node) -> Option<Self> {
        integer(context, node, "uint")
    }
}

impl FromNode for i64 {
    fn from_node(context: &Context<'_>, node: &Node) -> Option<Self> {
        integer(context, node, "int")
    }
}

impl FromNode for f64 {
    fn from_node(context: &Context<'_>, node: &Node) -> Option<Self> {
        let value = match &node.value {
            Value::Scalar(scalar) => {
                scalar.integer().map(|number| number as f64).or_else(|| scalar.float())
            }
            _ => None,
        };
        value.or_else(|| mismatch(context, node, "float64", "write a number, without quotes"))
    }
}

/// A duration in Prometheus' notation; whole milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) struct Milliseconds(pub(crate) u64);

impl Milliseconds {
    pub(crate) fn duration(self) -> Duration {
        Duration::from_millis(self.0)
    }

    /// Zero stands for "not set" in most of Prometheus' keys.
    pub(crate) fn or_if_zero(self, default: Duration) -> Duration {
        if self.0 == 0 { default } else { self.duration() }
    }
}

impl FromNode for Milliseconds {
    fn from_node(context: &Context<'_>, node: &Node) -> Option<Self> {
        let text = String::from_node(context, node)?;
        match parse_duration(&text) {
            Ok(duration) => {
                Some(Milliseconds(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)))
            }
            Err(error) => {
                context.fault(node.span, error.to_string(), Some(error.help()));
                None
            }
        }
    }
}

/// A number of bytes with its unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct ByteSize(pub(crate) u64);

impl FromNode for ByteSize {
    fn from_node(context: &Context<'_>, node: &Node) -> Option<Self> {
        let text = String::from_node(context, node)?;
        match parse_size(&text) {
            Ok(bytes) => Some(ByteSize(bytes)),
            Err(error) => {
                context.fault(node.span, error.to_string(), Some(error.help()));
                None
            }
        }
    }
}

impl FromNode for HttpUrl {
    fn from_node(context: &Context<'_>, node: &Node) -> Option<Self> {
        let text = String::from_node(context, node)?;
        match HttpUrl::parse(&text) {
            Ok(url) => {
                let shown = url.to_string();
                if let Value::Scalar(scalar) = &node.value
                    && shown != text
                {
                    context.hide(node.span, scalar.replaced_by(&shown));
                }
                Some(url)
            }
            Err(error) => {
                let help = "write a URL such as http://host:9090/path";
                context.fault(node.span, error.to_string(), Some(help.to_owned()));
                None
            }
        }
    }
}

/// The name of a label, by the UTF-8 rule: anything but nothing.
#[derive(Debug, Clone, Default)]
pub(crate) struct LabelName(pub(crate) String);

impl FromNode for LabelName {
    fn from_node(context: &Context<'_>, node: &Node) -> Option<Self> {
        label_name(context, node, NameValidation::Utf8).map(LabelName)
    }
}

/// Reads the name of a label.
fn label_name(context: &Context<'_>, node: &Node, names: NameValidation) -> Option<String> {
    let Value::Scalar(scalar) = &node.value else {
        return mismatch(context, node, "model.LabelName", "write the name of a label");
    };
    let name = scalar.text();
    if scalar.is_invalid_utf8() {
        context.fault(node.span, format!("\"{name}\" is not a valid label name"), None);
        return None;
    }
    if !names.is_label_name(name) {
        let help = match names {
            NameValidation::Utf8 => "a label name must not be empty",
            NameValidation::Legacy => {
                "letters, digits and `_`, not starting with a digit; or set \
                 metric_name_validation_scheme to utf8"
            }
        };
        let message = format!("{name:?} is not a valid label name");
        context.fault(node.span, message, Some(help.to_owned()));
        return None;
    }
    Some(name.to_owned())
}

impl<T: FromNode + Default> FromNode for Vec<T> {
    fn from_node(context: &Context<'_>, node: &Node) -> Option<Self> {
        let read = |item: &&Node| {
            if item.is_null() { Some(T::default()) } else { T::from_node(context, item) }
        };
        Some(items_of(context, node).iter().filter_map(read).collect())
    }
}

impl<T: FromNode> FromNode for Option<T> {
    fn from_node(context: &Context<'_>, node: &Node) -> Option<Self> {
        T::from_node(context, node).map(Some)
    }
}

/// A mapping from any name to values of one type, by ascending name.
pub(crate) fn read_map<T: FromNode + Default>(
    context: &Context<'_>,
    node: &Node,
) -> Vec<(String, T)> {
    let mut map: BTreeMap<String, T> = BTreeMap::new();
    for (key, value) in pairs_of(context, node) {
        let Some(name) = String::from_node(context, key) else { continue };
        if map.contains_key(&name) {
            context.fault(key.span, format!("key {name:?} already set in map"), None);
            continue;
        }
        let value = if value.is_null() { Some(T::default()) } else { T::from_node(context, value) };
        map.extend(value.map(|value| (name, value)));
    }
    map.into_iter().collect()
}

/// Labels of a mapping, their names valid by `names`.
pub(crate) fn read_labels(context: &Context<'_>, node: &Node, names: NameValidation) -> Labels {
    let mut labels: BTreeMap<String, String> = BTreeMap::new();
    for (key, value) in pairs_of(context, node) {
        let name = label_name(context, key, names);
        let text = match &value.value {
            Value::Scalar(scalar) if scalar.is_invalid_utf8() => {
                let message = format!("\"{}\" is not a valid label value", scalar.text());
                context.fault(value.span, message, None);
                None
            }
            _ if value.is_null() => Some(String::new()),
            _ => String::from_node(context, value),
        };
        let (Some(name), Some(text)) = (name, text) else { continue };
        if labels.contains_key(&name) {
            context.fault(key.span, format!("key {name:?} already set in map"), None);
            continue;
        }
        labels.insert(name, text);
    }
    Labels::from_pairs(labels.iter().map(|(name, text)| (name.as_str(), text.as_str())))
        .expect("names are unique and not empty")
}

/// The pairs of a node that must be a mapping of free keys; `null` has none. Pairs a merge
/// (`<<`) brings in come last and yield to the others.
pub(crate) fn pairs_of<'a>(context: &Context<'_>, node: &'a Node) -> Vec<(&'a Node, &'a Node)> {
    let Value::Mapping(pairs) = &node.value else {
        if !node.is_null() {
            let help = "write a mapping: `name: value` on lines of their own";
            mismatch::<()>(context, node, "map[string]string", help);
        }
        return Vec::new();
    };
    let mut out: Vec<(&Node, &Node)> = Vec::with_capacity(pairs.len());
    for (key, value) in pairs {
        if text_of(key) != Some("<<") {
            out.push((key, value));
        }
    }
    for (_, merged) in pairs.iter().filter(|(key, _)| text_of(key) == Some("<<")) {
        let own: HashSet<&str> = out.iter().filter_map(|(key, _)| text_of(key)).collect();
        let mut inherited = pairs_of(context, merged);
        inherited.retain(|(key, _)| text_of(key).is_none_or(|name| !own.contains(name)));
        out.extend(inherited);
    }
    out
}

fn text_of(node: &Node) -> Option<&str> {
    match &node.value {
        Value::Scalar(scalar) => Some(scalar.text()),
        _ => None,
    }
}
