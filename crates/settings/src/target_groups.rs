//! Groups of targets as discovery yields them, from YAML and JSON.

use std::path::Path;
use std::sync::Arc;

use model::Labels;
use serde::Deserialize;
use serde::de::{self, Deserializer, MapAccess, Visitor};

use crate::NameValidation;
use crate::diagnostic::{Diagnostic, Faults, Source};
use crate::yaml::{Context, Document, Node, Section, items_of, read_labels};

/// Targets that share labels.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TargetGroup {
    /// The labels of each target; `__address__` is its host and port.
    pub targets: Vec<Labels>,
    /// Labels of all targets; a label of the target itself wins.
    pub labels: Labels,
    /// What identifies the group among those of its mechanism: a new group of the same source
    /// replaces the old one. Groups of a file or an answer are numbered from 0.
    pub source: String,
}

/// The label of a target that holds its host and port.
const ADDRESS: &str = "__address__";

/// Reads the target groups of a file: JSON if its name ends in `.json`, else YAML.
///
/// # Errors
/// Those of [`parse_json`] and [`parse_yaml`].
pub fn parse(file: &str, bytes: &[u8]) -> Result<Vec<TargetGroup>, Faults> {
    let is_json = Path::new(file).extension().is_some_and(|end| end.eq_ignore_ascii_case("json"));
    if is_json { parse_json(file, bytes) } else { parse_yaml(file, bytes) }
}

/// Reads the target groups of a YAML file.
///
/// # Errors
/// Every fault with its place: no list, an entry that is nothing, an unknown key, a name that is
/// no label name.
pub fn parse_yaml(file: &str, bytes: &[u8]) -> Result<Vec<TargetGroup>, Faults> {
    let document = Document::parse(file, bytes)?;
    let context = Context::new(document.source(), Path::new(""));
    let mut groups = Vec::new();
    let nodes = document.root().map(|root| items_of(&context, root)).unwrap_or_default();
    for (index, node) in nodes.into_iter().enumerate() {
        if node.is_null() {
            let message = format!("nil target group item found (index {index})");
            context.fault(node.span, message, Some("remove the entry".to_owned()));
            continue;
        }
        let Some(mut group) = read_group(&context, node) else { continue };
        group.source = index.to_string();
        groups.push(group);
    }
    let faults = context.finish().faults;
    if faults.is_empty() { Ok(groups) } else { Err(Faults::new(faults)) }
}

/// Reads the target groups of a JSON file or of the answer of an `http_sd` server.
///
/// # Errors
/// The first fault with its place.
pub fn parse_json(file: &str, bytes: &[u8]) -> Result<Vec<TargetGroup>, Faults> {
    let fault = |error: &serde_json::Error| {
        let text = String::from_utf8_lossy(bytes).into_owned();
        let line_start: usize =
            text.split_inclusive('\n').take(error.line().saturating_sub(1)).map(str::len).sum();
        let at = line_start + error.column().saturating_sub(1);
        let source = Source { file: Arc::from(file), text };
        let message = error.to_string();
        // serde_json says the place itself; here it stands before the message.
        let message = message.split(" at line ").next().unwrap_or_default().to_owned();
        let help = "a list of {\"targets\": [\"host:port\"], \"labels\": {\"name\": \"value\"}}";
        Faults::from(Diagnostic::at(&source, (at, at), message, Some(help.to_owned())))
    };
    let groups: Vec<Option<JsonGroup>> =
        serde_json::from_slice(bytes).map_err(|error| fault(&error))?;
    groups
        .into_iter()
        .enumerate()
        .map(|(index, group)| match group {
            Some(group) => Ok(TargetGroup {
                targets: group.targets.iter().map(|text| address(text)).collect(),
                labels: group.labels.0,
                source: index.to_string(),
            }),
            None => {
                let message = format!("nil target group item found (index {index})");
                Err(Diagnostic::of_file(file, message, Some("remove the entry".to_owned())).into())
            }
        })
        .collect()
}

/// Reads one group. Its `source` is left empty.
pub(crate) fn read_group(context: &Context<'_>, node: &Node) -> Option<TargetGroup> {
    let mut section = Section::open(context, node, "targetgroup.Group")?;
    let targets: Vec<String> = section.value("targets");
    let labels = section
        .node("labels")
        .map(|node| read_labels(context, node, NameValidation::Utf8))
        .unwrap_or_default();
    section.finish();
    let targets = targets.iter().map(|text| address(text)).collect();
    Some(TargetGroup { targets, labels, source: String::new() })
}

fn address(text: &str) -> Labels {
    Labels::from_pairs([(ADDRESS, text)]).expect("one name, and it is not empty")
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct JsonGroup {
    #[serde(default, deserialize_with = "null_is_default")]
    targets: Vec<String>,
    #[serde(default, deserialize_with = "null_is_default")]
    labels: JsonLabels,
}

fn null_is_default<'de, T, D>(deserializer: D) -> Result<T, D::Error>
where
    T: Deserialize<'de> + Default,
    D: Deserializer<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

#[derive(Default)]
struct JsonLabels(Labels);

impl<'de> Deserialize<'de> for JsonLabels {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Pairs;
        impl<'de> Visitor<'de> for Pairs {
            type Value = JsonLabels;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object of label names and values")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<JsonLabels, A::Error> {
                // As in Go, the last of two equal names wins.
                let mut pairs = std::collections::BTreeMap::new();
                while let Some((name, value)) = map.next_entry::<String, String>()? {
                    if !NameValidation::Utf8.is_label_name(&name) {
                        let message = format!("{name:?} is not a valid label name");
                        return Err(de::Error::custom(message));
                    }
                    pairs.insert(name, value);
                }
                Labels::from_pairs(pairs.iter().map(|(n, v)| (n.as_str(), v.as_str())))
                    .map(JsonLabels)
                    .map_err(de::Error::custom)
            }
        }
        deserializer.deserialize_map(Pairs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn yaml_and_json_say_the_same() {
        let json = r#"[{"targets": ["a:1", "b:2"], "labels": {"x": "y"}}, {"targets": null}]"#;
        let yaml = "- targets: [a:1, 'b:2']\n  labels:\n    x: y\n- targets:\n";
        let from_json = parse_json("f.json", json.as_bytes()).expect("valid");
        let from_yaml = parse_yaml("f.yml", yaml.as_bytes()).expect("valid");
        assert_eq!(from_json, from_yaml);
        assert_eq!(from_json[0].targets[1].to_string(), r#"{__address__="b:2"}"#);
        assert_eq!(from_json[1].source, "1");
        assert_eq!(parse_yaml("f.yml", b"").expect("nothing"), Vec::new());
    }

    #[test]
    fn faults_have_a_place() {
        for (yaml, want) in [
            ("- targets: [a]\n- null\n", "f.yml:2:3: nil target group item found (index 1)"),
            ("- target: [a]\n", "f.yml:1:3: field target not found in type targetgroup.Group"),
            ("targets: [a]\n", "f.yml:1:1: cannot unmarshal !!map into a list"),
            ("- targets: a\n", "f.yml:1:12: cannot unmarshal !!str `a` into a list"),
            ("- labels: {'': x}\n", "f.yml:1:12: \"\" is not a valid label name"),
        ] {
            let faults = parse_yaml("f.yml", yaml.as_bytes()).expect_err(yaml);
            assert_eq!(faults.iter().next().expect("a fault").to_string(), want);
        }
        for (json, want) in [
            ("[null]", "f.json: nil target group item found (index 0)"),
            ("[\n{\"target\": []}]", "f.json:2:9: unknown field `target`"),
            ("[{\"targets\": [1]}]", "f.json:1:15: invalid type: integer `1`"),
            ("{}", "f.json:1:1: invalid type: map"),
            ("[", "f.json:1:1: EOF while parsing a list"),
        ] {
            let faults = parse_json("f.json", json.as_bytes()).expect_err(json);
            let shown = faults.iter().next().expect("a fault").to_string();
            assert!(shown.starts_with(want), "{shown}");
        }
    }
}
