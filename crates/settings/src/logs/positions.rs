//! The files in which Promtail and Alloy note how far they have read.
//!
//! Promtail writes one mapping of paths to positions. Alloy writes one file for each component, whose
//! keys are mappings themselves, of a path and the labels of its target. Source: `positions` of Loki's
//! and Alloy's repositories.

use crate::diagnostic::{Diagnostic, Faults};
use crate::yaml::{Document, Node, Value};

/// How far another collector has read one source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotedPosition {
    /// The path of a file, or `cursor-` (formerly `journal-`) and the name of a job without files.
    pub source: String,
    /// The number of bytes, of lines if the file is unpacked; a cursor of the journal.
    pub position: String,
}

/// Reads such a file; `file` is the name faults bear. An empty file has no positions. Alloy may have
/// several for one path, each with other labels.
///
/// # Errors
/// It is no YAML, or not of either shape.
pub fn parse(file: &str, bytes: &[u8]) -> Result<Vec<NotedPosition>, Faults> {
    let document = Document::parse(file, bytes)?;
    let fault = |node: &Node, message: &str| {
        let help =
            Some("it should be `positions:` with a path and a number on each line".to_owned());
        Faults::from(Diagnostic::at(document.source(), node.span, message.to_owned(), help))
    };
    let Some(root) = document.root().filter(|root| !root.is_empty()) else {
        return Ok(Vec::new());
    };
    let Some(positions) = value_of(root, "positions") else {
        return Err(fault(root, "this is no file of positions"));
    };
    if positions.is_empty() {
        return Ok(Vec::new());
    }
    let Value::Mapping(pairs) = &positions.value else {
        return Err(fault(positions, "positions are no mapping"));
    };
    let mut found = Vec::with_capacity(pairs.len());
    for (key, value) in pairs {
        let source = text_of(key).or_else(|| text_of(value_of(key, "path")?));
        match (source, text_of(value)) {
            (Some(source), Some(position)) => found.push(NotedPosition { source, position }),
            _ => return Err(fault(key, "this is no position of a path")),
        }
    }
    Ok(found)
}

fn value_of<'a>(node: &'a Node, name: &str) -> Option<&'a Node> {
    let Value::Mapping(pairs) = &node.value else { return None };
    let found = pairs.iter().find(|(key, _)| text_of(key).is_some_and(|key| key == name));
    found.map(|(_, value)| &**value)
}

fn text_of(node: &Node) -> Option<String> {
    match &node.value {
        Value::Scalar(scalar) => Some(scalar.text().to_owned()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Vec<(String, String)> {
        let found = parse("positions.yaml", text.as_bytes()).expect("positions");
        found.into_iter().map(|one| (one.source, one.position)).collect()
    }

    #[test]
    fn positions_of_both_are_read() {
        let promtail =
            "positions:\n  /var/log/a b.log: \"17623\"\n  cursor-journal: s=96c;i=63d5;b=64c\n";
        let pair = |source: &str, position: &str| (source.to_owned(), position.to_owned());
        assert_eq!(
            read(promtail),
            [pair("/var/log/a b.log", "17623"), pair("cursor-journal", "s=96c;i=63d5;b=64c")]
        );
        // Long texts are folded by who writes them.
        let alloy = "positions:\n  ? path: /l/a.log\n    labels: '{filename=\"/l/a.log\", \
                     job=\"x\",\n      zone=\"y\"}'\n  : \"12\"\n  ? path: /l/a.log\n    labels: '{}'\n  : \
                     \"7\"\n  ? path: /l/b.log\n  : \"0\"\n";
        assert_eq!(
            read(alloy),
            [pair("/l/a.log", "12"), pair("/l/a.log", "7"), pair("/l/b.log", "0")]
        );
        assert_eq!(read(""), []);
        assert_eq!(read("positions: {}\n"), []);
    }

    #[test]
    fn other_files_are_refused() {
        for text in
            ["server: {}", "positions: [a]", "positions:\n  ? [a]\n  : 1", "positions: {a: [1]}"]
        {
            assert!(parse("f", text.as_bytes()).is_err(), "{text}");
        }
    }
}
