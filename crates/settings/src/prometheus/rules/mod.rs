//! Files of rules: groups of recording and alerting rules, as Prometheus and the rulers of Mimir and
//! Loki read them (`model/rulefmt` of Prometheus 3).
//!
//! What an expression or a template may say is not known here: [`RuleChecks`] brings closures.

mod duplicates;
mod expression_place;
mod read;

use std::time::Duration;

use crate::NameValidation;
use crate::diagnostic::{Diagnostic, Faults};
use crate::yaml::Document;

/// Most groups of a file.
pub const MAX_GROUPS: usize = 10_000;
/// Most rules of a file.
pub const MAX_RULES: usize = 100_000;

/// What a file of rules says.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RuleFile {
    /// The key `namespace`, which files for the rulers of Mimir and Loki have.
    pub namespace: Option<String>,
    /// The groups, in the order of the file; their names are not empty and differ.
    pub groups: Vec<RuleGroup>,
}

/// Rules that are evaluated together, one after the other.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RuleGroup {
    /// The name.
    pub name: String,
    /// How often it is evaluated; `None` for the default.
    pub interval: Option<Duration>,
    /// How far its queries look into the past; `None` for the default.
    pub query_offset: Option<Duration>,
    /// Most alerts, or series, that one of its rules may yield; 0 for any number.
    pub limit: usize,
    /// Labels that all of its rules add, by ascending name; a rule's own win.
    pub labels: Vec<(String, String)>,
    /// The rules, in the order in which they are evaluated.
    pub rules: Vec<Rule>,
    /// Tenants whose data the rules read together (Mimir); empty for the owner's alone.
    pub source_tenants: Vec<String>,
    /// Whether evaluations begin at multiples of the interval (Mimir).
    pub align_evaluation_time: bool,
    /// The line it begins on, from 1.
    pub line: usize,
}

/// One rule.
#[derive(Debug, Clone, PartialEq)]
pub struct Rule {
    /// Whether it records or alerts.
    pub kind: RuleKind,
    /// The name of the series it writes, or of the alert; never empty.
    pub name: String,
    /// The expression, as it was written.
    pub expr: String,
    /// How long an alert stays pending; zero for recording rules.
    pub hold: Duration,
    /// How long an alert goes on when its expression has ended; zero for recording rules.
    pub keep_firing_for: Duration,
    /// Its own labels, by ascending name. An empty value takes the label away.
    pub labels: Vec<(String, String)>,
    /// Annotations, by ascending name; none for recording rules.
    pub annotations: Vec<(String, String)>,
    /// The line it begins on, from 1.
    pub line: usize,
}

/// What a rule does with its result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RuleKind {
    /// Writes it as series.
    Recording,
    /// Makes alerts of it.
    Alerting,
}

impl RuleGroup {
    /// The labels of one of its rules together with the group's, by ascending name.
    pub fn labels_of(&self, rule: &Rule) -> Vec<(String, String)> {
        let is_own = |name: &str| rule.labels.iter().any(|(own, _)| own == name);
        let of_group = self.labels.iter().filter(|(name, _)| !is_own(name));
        let mut labels: Vec<(String, String)> = of_group.chain(&rule.labels).cloned().collect();
        labels.sort_unstable();
        labels
    }
}

/// Who will evaluate the file, as far as keys depend on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RuleFormat {
    /// Prometheus.
    #[default]
    Prometheus,
    /// The ruler of Mimir or of Loki: `namespace`, `source_tenants`, `evaluation_delay` and
    /// `align_evaluation_time_on_interval` are known as well.
    Ruler,
}

/// What is wrong with an expression.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExpressionFault {
    /// What is wrong, as the language says it.
    pub message: String,
    /// Where in the text, bytes from and to, if that is known.
    pub span: Option<(usize, usize)>,
}

/// Says whether a text is an expression.
pub type CheckExpression<'a> = dyn Fn(&str) -> Result<(), ExpressionFault> + 'a;

/// Says whether the second text is a template; the first is the name of the alert it is for.
pub type CheckTemplate<'a> = dyn Fn(&str, &str) -> Result<(), String> + 'a;

/// How files are read.
pub struct RuleChecks<'a> {
    /// Which names are valid.
    pub names: NameValidation,
    /// Who will evaluate them.
    pub format: RuleFormat,
    /// Whether keys that nobody knows are passed over.
    pub ignore_unknown_fields: bool,
    /// Checks the expression of each rule.
    pub expression: &'a CheckExpression<'a>,
    /// Checks labels and annotations of alerts.
    pub template: &'a CheckTemplate<'a>,
}

/// A file that can be used.
#[derive(Debug, Clone, PartialEq)]
pub struct LoadedRules {
    /// What it says.
    pub file: RuleFile,
    /// What is odd about it: documents that nobody reads, keys without effect.
    pub warnings: Vec<Diagnostic>,
    /// Rules that are there twice, as `promtool check rules` tells them.
    pub duplicates: Vec<DuplicateRule>,
}

/// A rule that has the name and the labels of another one of its file.
#[derive(Debug, Clone, PartialEq)]
pub struct DuplicateRule {
    /// The name.
    pub metric: String,
    /// The labels, those of the group included, by ascending name.
    pub labels: Vec<(String, String)>,
    /// Where the second one stands.
    pub place: Diagnostic,
}

/// Reads a file of rules; `file` is the name faults bear.
///
/// # Errors
/// Everything that is wrong with it, in the words of Prometheus, each with its place.
pub fn parse(file: &str, bytes: &[u8], checks: &RuleChecks<'_>) -> Result<LoadedRules, Faults> {
    let document = Document::parse(file, bytes)?;
    read::file(&document, checks)
}

/// Reads a document that is one group, as the rulers' API takes it.
///
/// # Errors
/// Everything that is wrong with it.
pub fn parse_group(file: &str, bytes: &[u8], checks: &RuleChecks<'_>) -> Result<RuleGroup, Faults> {
    let document = Document::parse(file, bytes)?;
    read::single_group(&document, checks)
}

#[cfg(test)]
mod tests;
