//! Stages from a tree. Alloy's blocks are brought into the form of Promtail's YAML before, so that one
//! reader serves both; where their keys differ, the syntax tells.

use std::cell::Cell;

use super::read_metrics::read_metrics;
use super::stage::{LabelsStage, Stage, StructuredMetadataStage};
use super::stage_keys::{expression, sectioned};
use crate::diagnostic::Severity;
use crate::suggestion::nearest;
use crate::yaml::{Context, FromNode, Node, Section, Span, Value, items_of, pairs_of, read_map};

/// Most stages of a file, those inside others included.
const MAX_STAGES: usize = 1_000;
/// Deepest nesting of `match`.
const MAX_DEPTH: usize = 16;

/// Why a stage cannot run, found by who runs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StageFault {
    /// The key of the stage that is at fault.
    pub key: &'static str,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub help: Option<String>,
}

/// Tries to make what a stage needs: templates, selectors, paths. Stages inside a stage are not its
/// concern.
pub type StageCheck<'c> = &'c dyn Fn(&Stage) -> Result<(), StageFault>;

/// Whose configuration it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Syntax {
    Promtail,
    Alloy,
}

/// What readers of stages share.
pub(crate) struct StageReader<'r> {
    pub(crate) context: &'r Context<'r>,
    pub(crate) syntax: Syntax,
    pub(crate) check: StageCheck<'r>,
    /// Counts limits, so that each has a number.
    pub(crate) limits: &'r Cell<u32>,
    /// Counts stages.
    pub(crate) stages: &'r Cell<usize>,
}

/// Reads a list of stages: mappings with one key each.
pub(crate) fn read_stages(reader: &StageReader<'_>, node: &Node, depth: usize) -> Vec<Stage> {
    let context = reader.context;
    if depth > MAX_DEPTH {
        let help = format!("at most {MAX_DEPTH} stages `match` may stand inside one another");
        context.fault(node.span, "stages are nested too deep", Some(help));
        return Vec::new();
    }
    let mut stages = Vec::new();
    for item in items_of(context, node) {
        let pairs = match &item.value {
            Value::Mapping(_) => pairs_of(context, item),
            // `- cri` instead of `- cri: {}`.
            Value::Scalar(scalar) if !item.is_null() => {
                let help = format!("write `- {}: {{}}`", scalar.text());
                context.fault(item.span, "a stage is a mapping with one key", Some(help));
                continue;
            }
            _ => Vec::new(),
        };
        let [(key, config)] = pairs.as_slice() else {
            let message = "pipeline stage must contain only one key";
            let help = "begin each stage with a `-` of its own".to_owned();
            context.fault((item.span.0, item.span.0 + 1), message, Some(help));
            continue;
        };
        let Some(name) = String::from_node(context, key) else { continue };
        reader.stages.set(reader.stages.get() + 1);
        if reader.stages.get() > MAX_STAGES {
            let help = format!("at most {MAX_STAGES} stages are taken in one file");
            context.fault(key.span, "too many stages", Some(help));
            return stages;
        }
        if let Some(stage) = read_stage(reader, &name, key.span, config, depth) {
            stages.push(stage);
        }
    }
    stages
}

/// Stages by Promtail's and by Alloy's name, and whether they run here.
const NAMES: &[(&str, &str)] = &[
    ("cri", "cri"),
    ("decolorize", "decolorize"),
    ("docker", "docker"),
    ("drop", "drop"),
    ("eventlogmessage", "eventlogmessage"),
    ("json", "json"),
    ("labelallow", "label_keep"),
    ("labeldrop", "label_drop"),
    ("labels", "labels"),
    ("limit", "limit"),
    ("logfmt", "logfmt"),
    ("luhn", "luhn"),
    ("match", "match"),
    ("metrics", "metrics"),
    ("multiline", "multiline"),
    ("output", "output"),
    ("pack", "pack"),
    ("pattern", "pattern"),
    ("regex", "regex"),
    ("replace", "replace"),
    ("sampling", "sampling"),
    ("split_json", "split_json"),
    ("static_labels", "static_labels"),
    ("structured_metadata", "structured_metadata"),
    ("structured_metadata_drop", "structured_metadata_drop"),
    ("template", "template"),
    ("tenant", "tenant"),
    ("timestamp", "timestamp"),
    ("truncate", "truncate"),
];

/// Stages that exist there and not here, with what to do instead.
const UNSUPPORTED: &[(&str, &str)] = &[
    ("geoip", "keep the address as a value or label and look it up where the lines are read"),
    ("windowsevent", "read the message with `eventlogmessage`, or fields with `json`"),
    ("useragent", "take what is needed of it with `regex`"),
];

fn read_stage(
    reader: &StageReader<'_>,
    name: &str,
    place: Span,
    node: &Node,
    depth: usize,
) -> Option<Stage> {
    let context = reader.context;
    if let Some((_, help)) = UNSUPPORTED.iter().find(|(known, _)| *known == name) {
        let message = format!("the stage {name} is not supported and left out");
        context.warn(Severity::Mistake, place, message, Some((*help).to_owned()));
        return None;
    }
    // What was renamed: names of the other program are taken as well.
    let canonical = match name {
        "non_indexed_labels" => "structured_metadata",
        other => other,
    };
    let known = NAMES.iter().find(|(one, other)| *one == canonical || *other == canonical);
    let Some((_, name)) = known else {
        let names = NAMES.iter().map(|(promtail, alloy)| match reader.syntax {
            Syntax::Promtail => *promtail,
            Syntax::Alloy => *alloy,
        });
        let help = match nearest(name, names.clone()) {
            Some(known) => format!("did you mean `{known}`?"),
            None => format!("the stages are {}", names.collect::<Vec<_>>().join(", ")),
        };
        context.fault(place, format!("Unknown stage type: {name}"), Some(help));
        return None;
    };
    let stage = match *name {
        "decolorize" => empty(context, node, Stage::Decolorize)?,
        "docker" => empty(context, node, Stage::Docker)?,
        "label_drop" => Stage::LabelDrop(names_of(reader, node, name)?),
        "label_keep" => Stage::LabelKeep(names_of(reader, node, name)?),
        "structured_metadata_drop" => Stage::StructuredMetadataDrop(names_of(reader, node, name)?),
        "labels" => Stage::Labels(labels(reader, node)?),
        "static_labels" => Stage::StaticLabels(static_labels(reader, node)?),
        "structured_metadata" => Stage::StructuredMetadata(structured_metadata(reader, node)?),
        "metrics" => Stage::Metrics(read_metrics(reader, node)),
        _ => sectioned(reader, name, node, depth)?,
    };
    match (reader.check)(&stage) {
        Ok(()) => Some(stage),
        Err(fault) => {
            let at = match node.place_of_key(fault.key) {
                at if at == node.span => place,
                at => at,
            };
            context.fault(at, fault.message, fault.help);
            None
        }
    }
}

/// A stage without keys.
fn empty(context: &Context<'_>, node: &Node, stage: Stage) -> Option<Stage> {
    // Some write `docker: {}`, some `docker:`; Promtail looks at neither.
    let section = Section::open(context, node, "stage")?;
    section.finish();
    Some(stage)
}

/// Names in a list; in Alloy below `values`.
fn names_of(reader: &StageReader<'_>, node: &Node, stage: &str) -> Option<Vec<String>> {
    let context = reader.context;
    let names = match reader.syntax {
        Syntax::Promtail => Vec::<String>::from_node(context, node)?,
        Syntax::Alloy => {
            let mut section = Section::open(context, node, "stage")?;
            let names = section.value("values");
            section.finish();
            names
        }
    };
    if names.is_empty() {
        let shown = if stage == "label_keep" { "labelkeep" } else { stage };
        let message = format!("{shown} stage config cannot be empty");
        context.fault(node.span, message, Some("list the names".to_owned()));
        return None;
    }
    Some(names)
}

/// A mapping of names; in Alloy below `values`.
fn pairs(
    reader: &StageReader<'_>,
    node: &Node,
    rest: impl FnOnce(&mut Section<'_>),
) -> Option<Vec<(String, String)>> {
    let context = reader.context;
    match reader.syntax {
        Syntax::Promtail => Some(read_map(context, node)),
        Syntax::Alloy => {
            let mut section = Section::open(context, node, "stage")?;
            let pairs = section.node("values").map(|node| read_map(context, node));
            rest(&mut section);
            section.finish();
            Some(pairs.unwrap_or_default())
        }
    }
}

fn check_names(context: &Context<'_>, node: &Node, pairs: &[(String, String)]) {
    for (name, _) in pairs {
        if !model::is_legacy_label_name(name) {
            let help = "a name has letters, digits and `_` and begins with no digit";
            let message = format!("invalid label name: {name}");
            let place = match node.place_of_key(name) {
                at if at == node.span => node.span_of_text(name),
                at => at,
            };
            context.fault(place, message, Some(help.to_owned()));
        }
    }
}

/// Names that have no value are called as they are.
pub(super) fn by_their_names(pairs: Vec<(String, String)>) -> Vec<(String, String)> {
    let named = pairs.into_iter().map(|(name, source)| {
        let source = if source.is_empty() { name.clone() } else { source };
        (name, source)
    });
    named.collect()
}

fn labels(reader: &StageReader<'_>, node: &Node) -> Option<LabelsStage> {
    let mut from_metadata = false;
    let pairs = pairs(reader, node, |section| {
        let kind: String = section.value("source_type");
        match kind.as_str() {
            "" | "extracted" => {}
            "structured_metadata" => from_metadata = true,
            _ => {
                let message = format!(
                    "invalid labels source_type: {kind}. Can only be 'extracted' or \
                     'structured_metadata'"
                );
                section.fault("source_type", message, None);
            }
        }
    })?;
    if pairs.is_empty() {
        let message = "label stage config cannot be empty";
        reader.context.fault(node.span, message, Some("name the labels to make".to_owned()));
        return None;
    }
    check_names(reader.context, node, &pairs);
    Some(LabelsStage { labels: by_their_names(pairs), from_metadata })
}

fn static_labels(reader: &StageReader<'_>, node: &Node) -> Option<Vec<(String, String)>> {
    let pairs = pairs(reader, node, |_| {})?;
    if pairs.is_empty() {
        let message = "static_labels stage config cannot be empty";
        reader.context.fault(node.span, message, Some("name the labels to set".to_owned()));
        return None;
    }
    check_names(reader.context, node, &pairs);
    Some(pairs.into_iter().filter(|(_, value)| !value.is_empty()).collect())
}

fn structured_metadata(reader: &StageReader<'_>, node: &Node) -> Option<StructuredMetadataStage> {
    let mut regex = None;
    let pairs = pairs(reader, node, |section| regex = expression(section, "regex"))?;
    if pairs.is_empty() && regex.is_none() {
        let message = "structured_metadata stage config cannot be empty";
        reader.context.fault(node.span, message, Some("name the values to take".to_owned()));
        return None;
    }
    check_names(reader.context, node, &pairs);
    Some(StructuredMetadataStage { values: by_their_names(pairs), regex })
}
