//! A parsed file.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::de::DeserializeOwned;

use super::deserialize::NodeDeserializer;
use super::tree::{self, Node, Value};
use crate::diagnostic::{Diagnostic, Faults, Severity, Source};

/// Largest file that is read. Target lists of a hundred thousand hosts stay below.
const MAX_FILE_BYTES: usize = 64 << 20;

/// One YAML document with a place for every part of it. JSON is YAML.
#[derive(Debug)]
pub struct Document {
    source: Source,
    root: Option<Arc<Node>>,
    second: Option<tree::Span>,
}

impl Document {
    /// Parses the first document of `bytes`; `file` is the name faults bear.
    ///
    /// Memory is bounded by a small multiple of the text: depth, aliases and size are limited.
    ///
    /// # Errors
    /// The bytes are no UTF-8 or no YAML, or a limit is passed.
    pub fn parse(file: &str, bytes: &[u8]) -> Result<Document, Faults> {
        if bytes.len() > MAX_FILE_BYTES {
            let message = format!("the file has {} bytes", bytes.len());
            let help = format!("at most {MAX_FILE_BYTES} bytes are read; split the file");
            return Err(Diagnostic::of_file(file, message, Some(help)).into());
        }
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        let text = match std::str::from_utf8(bytes) {
            Ok(text) => text.to_owned(),
            Err(error) => {
                let good = error.valid_up_to();
                // What follows only serves to show the line.
                let source = Source {
                    file: Arc::from(file),
                    text: String::from_utf8_lossy(bytes).into_owned(),
                };
                let message = "yaml: invalid UTF-8".to_owned();
                let help = "save the file as UTF-8".to_owned();
                return Err(Diagnostic::at(&source, (good, good), message, Some(help)).into());
            }
        };
        let source = Source { file: Arc::from(file), text };
        let loaded = tree::load(&source)?;
        Ok(Document { source, root: loaded.root, second: loaded.second_document })
    }

    /// The text that was parsed, without a byte order mark.
    pub fn text(&self) -> &str {
        &self.source.text
    }

    /// Takes the document as a `T`. Nothing but comments counts as an empty mapping, so a type
    /// whose fields all have defaults can be read from it; so does a key without a value.
    ///
    /// A `Deserialize` implementation may say what to do behind `"\nhelp: "` in its message.
    ///
    /// # Errors
    /// The first part that does not fit, with its place; an unknown key names the nearest one.
    pub fn deserialize<T: DeserializeOwned>(&self) -> Result<T, Faults> {
        T::deserialize(NodeDeserializer::new(self.root.as_deref())).map_err(|error| {
            let span = error.span.unwrap_or((0, 0));
            Diagnostic::at(&self.source, span, error.message, error.help).into()
        })
    }

    /// A fault at a key, for what only shows after reading. `path` is `storage.retention` or
    /// `jobs[2].name`; as much of it as exists is followed.
    pub fn fault(&self, path: &str, message: impl Into<String>, help: Option<&str>) -> Diagnostic {
        let mut span = (0, 0);
        let mut node = self.root.as_deref();
        for step in path.split(['.', '[']).map(|step| step.trim_end_matches(']')) {
            let next = match node.map(|node| &node.value) {
                Some(Value::Mapping(pairs)) => pairs
                    .iter()
                    .find(|(key, _)| {
                        matches!(&key.value, Value::Scalar(scalar) if scalar.text() == step)
                    })
                    .map(|(key, value)| (if value.is_null() { key } else { value }, value)),
                Some(Value::Sequence(items)) => {
                    step.parse().ok().and_then(|index: usize| items.get(index)).map(|v| (v, v))
                }
                _ => None,
            };
            let Some((place, below)) = next else { break };
            span = match &below.value {
                Value::Scalar(_) => place.span,
                // A caret under a whole block would say nothing.
                _ => (place.span.0, place.span.0 + 1),
            };
            node = Some(below);
        }
        Diagnostic::at(&self.source, span, message.into(), help.map(str::to_owned))
    }

    /// The fault an error in the form `storage.retention: what is wrong` tells of, at its key;
    /// any other text is about the whole file.
    pub fn locate(&self, error: &str) -> Diagnostic {
        let is_path = |text: &str| {
            let first = text.split(['.', '[']).next().unwrap_or_default();
            let Some(Value::Mapping(pairs)) = self.root().map(|root| &root.value) else {
                return false;
            };
            pairs.iter().any(
                |(key, _)| matches!(&key.value, Value::Scalar(scalar) if scalar.text() == first),
            )
        };
        match error.split_once(": ") {
            Some((path, message)) if is_path(path) => self.fault(path, message, None),
            _ => Diagnostic::of_file(&self.source.file, error, None),
        }
    }

    /// Where two documents differ, as `storage.retention` for a key that has another value or is in one
    /// of them only; ascending. Lists are compared as a whole, and nothing is as good as no key.
    pub fn differences(&self, other: &Document) -> Vec<String> {
        let mut found = Vec::new();
        differences("", self.root(), other.root(), &mut found);
        found.sort_unstable();
        found.dedup();
        found
    }

    pub(crate) fn source(&self) -> &Source {
        &self.source
    }

    pub(crate) fn root(&self) -> Option<&Node> {
        self.root.as_deref()
    }

    /// A warning if the file goes on after the document.
    pub(crate) fn trailing(&self) -> Option<Diagnostic> {
        let message = "only the first document of the file is read".to_owned();
        let help = "remove the line `---` or what follows it".to_owned();
        let span = self.second?;
        let diagnostic = Diagnostic::at(&self.source, span, message, Some(help));
        Some(diagnostic.with_severity(Severity::Warning))
    }
}

fn differences(path: &str, one: Option<&Node>, other: Option<&Node>, found: &mut Vec<String>) {
    let children = |node: Option<&Node>| -> BTreeMap<String, Arc<Node>> {
        let Some(Value::Mapping(pairs)) = node.map(|node| &node.value) else {
            return BTreeMap::new();
        };
        let text = |key: &Node| match &key.value {
            Value::Scalar(scalar) => scalar.text().to_owned(),
            _ => String::new(),
        };
        pairs.iter().map(|(key, value)| (text(key), Arc::clone(value))).collect()
    };
    let is_leaf = |node: Option<&Node>| {
        node.is_some_and(|node| !node.is_empty() && !matches!(node.value, Value::Mapping(_)))
    };
    if is_leaf(one) || is_leaf(other) {
        let is_equal = match (one, other) {
            (Some(one), Some(other)) => is_same(one, other),
            _ => false,
        };
        if !is_equal {
            found.push(path.to_owned());
        }
        return;
    }
    let (ones, others) = (children(one), children(other));
    for key in ones.keys().chain(others.keys()) {
        let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        let child = |of: &BTreeMap<String, Arc<Node>>| of.get(key).map(Arc::clone);
        differences(&path, child(&ones).as_deref(), child(&others).as_deref(), found);
    }
}

/// Whether two nodes say the same, wherever they stand.
fn is_same(one: &Node, other: &Node) -> bool {
    match (&one.value, &other.value) {
        (Value::Scalar(one), Value::Scalar(other)) => one.text() == other.text(),
        (Value::Sequence(one), Value::Sequence(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(a, b)| is_same(a, b))
        }
        (Value::Mapping(one), Value::Mapping(other)) => {
            let is_in = |(key, value): &(Arc<Node>, Arc<Node>)| {
                other.iter().any(|(k, v)| is_same(key, k) && is_same(value, v))
            };
            one.len() == other.len() && one.iter().all(is_in)
        }
        _ => false,
    }
}
