//! What groups and rules say, compiled.

use std::collections::HashMap;
use std::sync::Arc;

use model::{Labels, Matcher};
use settings::prometheus::rules::{ExpressionFault, RuleFile, RuleKind};

use super::dependencies::stages;
use super::schedule::offset_ms;
use super::text::{Depends, depends};

/// An expression, as far as rules look into it.
#[derive(Debug, Clone)]
pub struct Expression {
    /// As the language prints it.
    pub text: Arc<str>,
    /// The matchers of all of its selectors, by which rules are put in order.
    pub selectors: Vec<Vec<Matcher>>,
}

impl PartialEq for Expression {
    fn eq(&self, other: &Self) -> bool {
        // The selectors follow from the text.
        self.text == other.text
    }
}

/// Compiles an expression of the language that the rules are in.
pub type CompileExpression<'a> = dyn Fn(&str) -> Result<Expression, ExpressionFault> + 'a;

/// What groups have that say nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Defaults {
    /// `global.evaluation_interval`, milliseconds.
    pub interval_ms: i64,
    /// `global.rule_query_offset`, milliseconds.
    pub query_offset_ms: i64,
}

impl Default for Defaults {
    fn default() -> Self {
        Defaults { interval_ms: 60_000, query_offset_ms: 0 }
    }
}

/// A group, ready to be evaluated.
#[derive(Debug, Clone, PartialEq)]
pub struct GroupSpec {
    /// The file, or the namespace, that it is in.
    pub file: String,
    /// Its name.
    pub name: String,
    /// How often it is evaluated; at least 1.
    pub interval_ms: i64,
    /// By how much its evaluations come after multiples of that.
    pub offset_ms: i64,
    /// How far its queries look into the past.
    pub query_offset_ms: i64,
    /// Most alerts or series of one rule; 0 for any number.
    pub limit: usize,
    /// Its rules.
    pub rules: Vec<RuleSpec>,
    /// Indices of rules that may run at once, stage after stage.
    pub stages: Vec<Vec<usize>>,
    /// For each rule whose kind and name others have too, the indices of all of them.
    pub(super) twins: HashMap<usize, Arc<[usize]>>,
}

/// A rule, ready to be evaluated.
#[derive(Debug, Clone, PartialEq)]
pub struct RuleSpec {
    /// Whether it records or alerts.
    pub kind: RuleKind,
    /// The name of the series or of the alert.
    pub name: String,
    /// What is evaluated.
    pub expression: Expression,
    /// `for`, milliseconds.
    pub hold_ms: i64,
    /// `keep_firing_for`, milliseconds.
    pub keep_firing_for_ms: i64,
    /// Labels, those of the group included, by ascending name.
    pub labels: Vec<(String, String)>,
    /// Annotations, by ascending name.
    pub annotations: Vec<(String, String)>,
    /// What the texts of labels depend upon together.
    pub(super) labels_depend: Depends,
    /// What the text of each annotation depends upon.
    pub(super) annotations_depend: Vec<Depends>,
}

impl RuleSpec {
    /// Whether it makes alerts.
    pub fn is_alerting(&self) -> bool {
        self.kind == RuleKind::Alerting
    }

    /// Tells rules of a group apart across changes of its file: the name and the labels.
    pub(super) fn identity(&self) -> String {
        let mut out = self.name.clone();
        for (name, value) in &self.labels {
            out.push_str(&format!("\u{0}{name}\u{0}{value}"));
        }
        out
    }

    /// Labels whose texts do not depend on anything: what tells its series apart.
    pub(super) fn fixed_labels(&self) -> Labels {
        let fixed = self.labels.iter().filter(|(_, text)| depends(text) == Depends::Nothing);
        Labels::from_pairs(fixed.map(|(name, text)| (name.as_str(), text.as_str())))
            .unwrap_or_default()
    }
}

/// Compiles what a file says; `file` is the name its groups bear.
///
/// # Errors
/// An expression cannot be compiled: the group, the rule and what is wrong.
pub fn compile_groups(
    file: &str,
    rules: &RuleFile,
    defaults: Defaults,
    compile: &CompileExpression<'_>,
) -> Result<Vec<GroupSpec>, String> {
    rules.groups.iter().map(|group| compile_group(file, group, defaults, compile)).collect()
}

fn compile_group(
    file: &str,
    group: &settings::prometheus::rules::RuleGroup,
    defaults: Defaults,
    compile: &CompileExpression<'_>,
) -> Result<GroupSpec, String> {
    let ms =
        |duration: std::time::Duration| i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
    let mut compiled = Vec::with_capacity(group.rules.len());
    for (index, rule) in group.rules.iter().enumerate() {
        let expression = compile(&rule.expr).map_err(|fault| {
            let (number, name, message) = (index + 1, &rule.name, fault.message);
            format!("group {:?}, rule {number}, {name:?}: {message}", group.name)
        })?;
        let labels = group.labels_of(rule);
        let labels_depend = match rule.kind {
            RuleKind::Recording => Depends::Nothing,
            RuleKind::Alerting => {
                labels.iter().map(|(_, text)| depends(text)).max().unwrap_or(Depends::Nothing)
            }
        };
        compiled.push(RuleSpec {
            kind: rule.kind,
            name: rule.name.clone(),
            expression,
            hold_ms: ms(rule.hold),
            keep_firing_for_ms: ms(rule.keep_firing_for),
            labels,
            annotations: rule.annotations.clone(),
            labels_depend,
            annotations_depend: rule.annotations.iter().map(|(_, text)| depends(text)).collect(),
        });
    }
    let interval_ms = group.interval.map_or(defaults.interval_ms, ms).max(1);
    let offset_ms = match group.align_evaluation_time {
        true => 0,
        false => offset_ms(file, &group.name, interval_ms),
    };
    Ok(GroupSpec {
        file: file.to_owned(),
        name: group.name.clone(),
        interval_ms,
        offset_ms,
        query_offset_ms: group.query_offset.map_or(defaults.query_offset_ms, ms),
        limit: group.limit,
        stages: stages(&compiled),
        twins: twins(&compiled),
        rules: compiled,
    })
}

fn twins(rules: &[RuleSpec]) -> HashMap<usize, Arc<[usize]>> {
    let mut same: HashMap<(bool, &str), Vec<usize>> = HashMap::new();
    for (index, rule) in rules.iter().enumerate() {
        same.entry((rule.is_alerting(), &rule.name)).or_default().push(index);
    }
    let mut twins = HashMap::new();
    for group in same.into_values().filter(|group| group.len() > 1) {
        let all: Arc<[usize]> = Arc::from(group);
        twins.extend(all.iter().map(|index| (*index, Arc::clone(&all))));
    }
    twins
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use model::{METRIC_NAME, MatchOp};
    use settings::prometheus::rules::{Rule, RuleGroup};
    use std::time::Duration;

    /// A language of one selector: `name`, `name{label="value"}` or `{label=~"value"}`.
    pub(in super::super) fn compile(text: &str) -> Result<Expression, ExpressionFault> {
        let matcher = |name: &str, op, value: &str| {
            Matcher::new(name, op, value).expect("a test's matcher compiles")
        };
        let (name, rest) = text.split_once('{').unwrap_or((text, ""));
        let mut matchers = Vec::new();
        if !name.is_empty() {
            matchers.push(matcher(METRIC_NAME, MatchOp::Equal, name));
        }
        if let Some((label, value)) = rest.trim_end_matches('}').split_once('=') {
            let (op, value) = match value.strip_prefix('~') {
                Some(value) => (MatchOp::Regex, value),
                None => (MatchOp::Equal, value),
            };
            matchers.push(matcher(label, op, value.trim_matches('"')));
        }
        Ok(Expression { text: Arc::from(text), selectors: vec![matchers] })
    }

    pub(in super::super) fn rule(kind: RuleKind, name: &str, expr: &str) -> Rule {
        Rule {
            kind,
            name: name.to_owned(),
            expr: expr.to_owned(),
            hold: Duration::ZERO,
            keep_firing_for: Duration::ZERO,
            labels: Vec::new(),
            annotations: Vec::new(),
            line: 1,
        }
    }

    pub(in super::super) fn group(name: &str, rules: Vec<Rule>) -> RuleGroup {
        let interval = Some(Duration::from_secs(60));
        RuleGroup { name: name.to_owned(), interval, rules, ..RuleGroup::default() }
    }

    pub(in super::super) fn compiled(groups: Vec<RuleGroup>) -> Vec<GroupSpec> {
        let file = RuleFile { namespace: None, groups };
        compile_groups("f.yml", &file, Defaults::default(), &compile).expect("a test's rules")
    }

    pub(in super::super) fn recording(name: &str, expr: &str) -> RuleSpec {
        let rule = rule(RuleKind::Recording, name, expr);
        compiled(vec![group("g", vec![rule])]).remove(0).rules.remove(0)
    }

    pub(in super::super) fn alerting(name: &str, expr: &str) -> RuleSpec {
        let rule = rule(RuleKind::Alerting, name, expr);
        compiled(vec![group("g", vec![rule])]).remove(0).rules.remove(0)
    }

    #[test]
    fn groups_have_their_own_or_the_defaults() {
        let plain = RuleGroup { interval: None, ..group("a", Vec::new()) };
        let own = RuleGroup {
            query_offset: Some(Duration::from_secs(5)),
            align_evaluation_time: true,
            ..group("b", Vec::new())
        };
        let file = RuleFile { namespace: None, groups: vec![plain, own] };
        let defaults = Defaults { interval_ms: 15_000, query_offset_ms: 7 };
        let specs = compile_groups("f", &file, defaults, &compile).expect("a test's rules");
        assert_eq!((specs[0].interval_ms, specs[0].query_offset_ms), (15_000, 7));
        assert_eq!((specs[1].interval_ms, specs[1].query_offset_ms), (60_000, 5_000));
        assert_eq!(specs[1].offset_ms, 0);
    }

    #[test]
    fn a_fault_names_the_rule() {
        let file = RuleFile {
            namespace: None,
            groups: vec![group("g", vec![rule(RuleKind::Alerting, "A", "up")])],
        };
        let refuse = |_: &str| Err(ExpressionFault { message: "no".to_owned(), span: None });
        let error = compile_groups("f", &file, Defaults::default(), &refuse).expect_err("refused");
        assert_eq!(error, "group \"g\", rule 1, \"A\": no");
    }
}
