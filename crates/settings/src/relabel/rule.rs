//! One rule, checked and compiled.

use std::sync::Arc;

use model::regex::Template;
use serde::{Serialize, Serializer};

use super::{Regex, RegexError};
use crate::names::NameValidation;

/// The keys of a rule as the file has them. `Default` is what Prometheus takes for absent keys.
///
/// Serialises as Prometheus' API shows a rule: `sourceLabels`, `targetLabel` …
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RelabelFields {
    /// Labels whose values are joined and matched; an absent label counts as empty.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub source_labels: Vec<String>,
    /// What stands between the values.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub separator: String,
    /// The expression over the joined values.
    #[serde(serialize_with = "as_text")]
    pub regex: Regex,
    /// The modulus of `hashmod`.
    #[serde(skip_serializing_if = "is_zero")]
    pub modulus: u64,
    /// The label that is written.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub target_label: String,
    /// What is written; `$1`, `${1}` and `${name}` stand for groups of the expression.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub replacement: String,
    /// What the rule does.
    pub action: Action,
}

fn as_text<S: Serializer>(regex: &Regex, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(regex.as_str())
}

impl Default for RelabelFields {
    fn default() -> Self {
        RelabelFields {
            source_labels: Vec::new(),
            separator: DEFAULT_SEPARATOR.to_owned(),
            regex: Regex::match_all(),
            modulus: 0,
            target_label: String::new(),
            replacement: DEFAULT_REPLACEMENT.to_owned(),
            action: Action::Replace,
        }
    }
}

const DEFAULT_SEPARATOR: &str = ";";
const DEFAULT_REPLACEMENT: &str = "$1";

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// What a rule does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// Writes `replacement` to `target_label` where the expression matches.
    #[default]
    Replace,
    /// Keeps what matches.
    Keep,
    /// Drops what matches.
    Drop,
    /// Keeps where the joined values equal the target label.
    KeepEqual,
    /// Drops where the joined values equal the target label.
    DropEqual,
    /// Writes the hash of the joined values modulo `modulus`.
    HashMod,
    /// Copies labels whose names match to the name `replacement` makes.
    LabelMap,
    /// Removes labels whose names match.
    LabelDrop,
    /// Removes labels whose names do not match.
    LabelKeep,
    /// Writes the joined values in lower case.
    Lowercase,
    /// Writes the joined values in upper case.
    Uppercase,
}

impl Action {
    /// All actions, by ascending name.
    pub const ALL: [Action; 11] = [
        Action::Drop,
        Action::DropEqual,
        Action::HashMod,
        Action::Keep,
        Action::KeepEqual,
        Action::LabelDrop,
        Action::LabelKeep,
        Action::LabelMap,
        Action::Lowercase,
        Action::Replace,
        Action::Uppercase,
    ];

    /// The name in the file.
    pub fn name(self) -> &'static str {
        match self {
            Action::Replace => "replace",
            Action::Keep => "keep",
            Action::Drop => "drop",
            Action::KeepEqual => "keepequal",
            Action::DropEqual => "dropequal",
            Action::HashMod => "hashmod",
            Action::LabelMap => "labelmap",
            Action::LabelDrop => "labeldrop",
            Action::LabelKeep => "labelkeep",
            Action::Lowercase => "lowercase",
            Action::Uppercase => "uppercase",
        }
    }

    /// The action of that name, in any case of letters.
    pub fn parse(name: &str) -> Option<Action> {
        Action::ALL.into_iter().find(|action| action.name().eq_ignore_ascii_case(name))
    }

    fn writes_target(self) -> bool {
        use Action::{DropEqual, HashMod, KeepEqual, Lowercase, Replace, Uppercase};
        matches!(self, Replace | HashMod | Lowercase | Uppercase | KeepEqual | DropEqual)
    }

    /// Uses the values themselves, never an expression.
    fn ignores_replacement(self) -> bool {
        use Action::{DropEqual, KeepEqual, Lowercase, Uppercase};
        matches!(self, Lowercase | Uppercase | KeepEqual | DropEqual)
    }
}

/// Why a rule cannot be taken, in Prometheus' words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RelabelError {
    /// A key is missing, superfluous or has a value the action cannot use.
    #[error("{message}")]
    Field {
        /// The key at fault.
        key: &'static str,
        /// What is wrong.
        message: String,
    },
    /// The expression does not compile.
    #[error(transparent)]
    Regex(#[from] RegexError),
}

impl RelabelError {
    /// The key of the rule that is at fault.
    pub fn key(&self) -> &'static str {
        match self {
            RelabelError::Field { key, .. } => key,
            RelabelError::Regex(_) => "regex",
        }
    }
}

/// One rule, checked and compiled. Cloning is cheap.
#[derive(Debug, Clone, PartialEq)]
pub struct RelabelConfig(Arc<Compiled>);

#[derive(Debug, PartialEq)]
pub(super) struct Compiled {
    pub(super) fields: RelabelFields,
    pub(super) names: NameValidation,
    pub(super) target: Template,
    pub(super) replacement: Template,
}

impl RelabelConfig {
    /// Checks a rule and takes it. `names` says which names the rule may write.
    ///
    /// # Errors
    /// What Prometheus refuses: keys that miss, keys the action has no use for, names that are
    /// not valid.
    pub fn new(fields: RelabelFields, names: NameValidation) -> Result<Self, RelabelError> {
        check(&fields, names)?;
        let target = Template::parse(&fields.target_label, &fields.regex);
        let replacement = Template::parse(&fields.replacement, &fields.regex);
        Ok(RelabelConfig(Arc::new(Compiled { fields, names, target, replacement })))
    }

    /// The rule as it was written.
    pub fn fields(&self) -> &RelabelFields {
        &self.0.fields
    }

    pub(super) fn compiled(&self) -> &Compiled {
        &self.0
    }
}

impl Serialize for RelabelConfig {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.fields.serialize(serializer)
    }
}

fn field(key: &'static str, message: String) -> RelabelError {
    RelabelError::Field { key, message }
}

fn check(fields: &RelabelFields, names: NameValidation) -> Result<(), RelabelError> {
    let action = fields.action;
    let name = action.name();
    let target = fields.target_label.as_str();
    if action == Action::HashMod && fields.modulus == 0 {
        let message = "relabel configuration for hashmod requires non-zero modulus";
        return Err(field("modulus", message.to_owned()));
    }
    if action.writes_target() && target.is_empty() {
        let message =
            format!("relabel configuration for {name} action requires 'target_label' value");
        return Err(field("target_label", message));
    }
    let may_expand = action == Action::Replace && target.contains('$');
    let target_is_valid = if may_expand {
        is_name_with_references(target, names)
    } else {
        names.is_label_name(target)
    };
    if action.writes_target() && !target_is_valid {
        let message = format!("{target:?} is invalid 'target_label' for {name} action");
        return Err(field("target_label", message));
    }
    let default_replacement = fields.replacement == DEFAULT_REPLACEMENT;
    if action.ignores_replacement() && !default_replacement {
        let message = format!("'replacement' can not be set for {name} action");
        return Err(field("replacement", message));
    }
    if action == Action::LabelMap && !is_name_with_references(&fields.replacement, names) {
        let shown = &fields.replacement;
        let message = format!("{shown:?} is invalid 'replacement' for {name} action");
        return Err(field("replacement", message));
    }
    let superfluous = [
        ("modulus", fields.modulus != 0),
        ("separator", fields.separator != DEFAULT_SEPARATOR),
        ("replacement", !default_replacement),
    ];
    let superfluous = superfluous.iter().find(|(_, set)| *set).map(|(key, _)| *key);
    match action {
        Action::DropEqual | Action::KeepEqual => {
            let key = if fields.regex.is_match_all() { superfluous } else { Some("regex") };
            key.map_or(Ok(()), |key| {
                Err(field(
                    key,
                    format!(
                        "{name} action requires only 'source_labels' and `target_label`, and no \
                         other fields"
                    ),
                ))
            })
        }
        Action::LabelDrop | Action::LabelKeep => {
            let key = if !fields.source_labels.is_empty() {
                Some("source_labels")
            } else if !target.is_empty() {
                Some("target_label")
            } else {
                superfluous
            };
            key.map_or(Ok(()), |key| {
                Err(field(key, format!("{name} action requires only 'regex', and no other fields")))
            })
        }
        _ => Ok(()),
    }
}

/// Whether `text` can become a label name once its references are replaced.
fn is_name_with_references(text: &str, names: NameValidation) -> bool {
    match names {
        NameValidation::Utf8 => names.is_label_name(text),
        NameValidation::Legacy => is_legacy_name_with_references(text),
    }
}

/// `^(?:(?:[a-zA-Z_]|\$(?:\{\w+\}|\w+))+\w*)+$`: letters, digits and references, where a digit
/// does not come first.
fn is_legacy_name_with_references(text: &str) -> bool {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut rest = text;
    let mut started = false;
    while let Some(c) = rest.chars().next() {
        if let Some(reference) = rest.strip_prefix('$') {
            let (body, braced) = match reference.strip_prefix('{') {
                Some(inner) => (inner, true),
                None => (reference, false),
            };
            let end = body.find(|c| !word(c)).unwrap_or(body.len());
            let tail = &body[end..];
            let tail = if braced { tail.strip_prefix('}') } else { Some(tail) };
            match tail {
                Some(tail) if end > 0 => rest = tail,
                _ => return false,
            }
        } else if c == '_' || c.is_ascii_alphabetic() || (started && c.is_ascii_digit()) {
            rest = &rest[1..];
        } else {
            return false;
        }
        started = true;
    }
    started
}
