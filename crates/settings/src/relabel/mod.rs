//! Relabeling: rules that rewrite, keep or drop label sets
//! (Prometheus `model/relabel/relabel.go`).

use std::sync::Arc;

/// One rule, checked.
#[derive(Debug, Clone, PartialEq)]
pub struct RelabelConfig {
    /// Labels whose values are joined and matched.
    pub source_labels: Vec<String>,
    /// What stands between the values.
    pub separator: String,
    /// The expression over the joined values, anchored at both ends.
    pub regex: Regex,
    /// The modulus of `hashmod`.
    pub modulus: u64,
    /// The label that is written.
    pub target_label: String,
    /// What is written; `$1`, `${1}` and `${name}` stand for groups of the expression.
    pub replacement: String,
    /// What the rule does.
    pub action: Action,
}

/// What a rule does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
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

/// A compiled expression that remembers its text; equal when the texts are.
#[derive(Debug, Clone)]
pub struct Regex {
    text: String,
    compiled: Arc<regex::Regex>,
}

impl Regex {
    /// Compiles `text`, anchored at both ends.
    ///
    /// # Errors
    /// Those of the expression.
    pub fn new(text: &str) -> Result<Self, regex::Error> {
        let compiled = regex::Regex::new(&format!("^(?s:{text})$"))?;
        Ok(Regex { text: text.to_owned(), compiled: Arc::new(compiled) })
    }

    /// The expression as it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether the whole of `text` matches.
    pub fn is_match(&self, text: &str) -> bool {
        self.compiled.is_match(text)
    }
}

impl PartialEq for Regex {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}
