//! PromQL, as rules want it.

use std::sync::Arc;

use alerting::rules::{Expression, check_template};
use settings::NameValidation;
use settings::prometheus::rules::{ExpressionFault, RuleChecks, RuleFormat};

/// Compiles an expression of PromQL for a rule.
///
/// # Errors
/// The text is no expression, as Prometheus says it.
pub fn compile(text: &str) -> Result<Expression, ExpressionFault> {
    let expr = promql::parse(text).map_err(|error| ExpressionFault {
        message: error.to_string(),
        span: Some((error.span.start as usize, error.span.end as usize)),
    })?;
    Ok(Expression { text: Arc::from(expr.to_string()), selectors: promql::selectors_of(&expr) })
}

fn check(text: &str) -> Result<(), ExpressionFault> {
    compile(text).map(drop)
}

/// How files of rules in PromQL are read, as Prometheus does unless something else is said.
pub fn checks() -> RuleChecks<'static> {
    RuleChecks {
        names: NameValidation::Utf8,
        format: RuleFormat::Prometheus,
        ignore_unknown_fields: false,
        expression: &check,
        template: &check_template,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alerting::rules::{BUILTIN_FILE, Defaults, builtin_groups, builtin_rules, compile_groups};

    #[test]
    fn what_watchfire_brings_along_is_promql() {
        let all = builtin_groups(&|_| true);
        let specs = compile_groups(BUILTIN_FILE, &all, Defaults::default(), &compile);
        let specs = specs.expect("rules that come along compile");
        // None of them reads what another one writes.
        assert!(specs.iter().all(|spec| spec.stages.len() == 1), "{specs:?}");
    }

    /// Metrics of rules that come along are ones that this program has, or will have with rules and
    /// notifications.
    #[test]
    fn what_watchfire_brings_along_uses_metrics_that_exist() {
        let docs = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/operating/metrics.md");
        let docs = std::fs::read_to_string(docs).expect("the docs lie beside the crates");
        for rule in builtin_rules() {
            let compiled = compile(rule.expr).expect("rules that come along compile");
            for name in compiled.selectors.iter().flatten().filter(|m| m.name == "__name__") {
                let is_own = name.value.starts_with("watchfire_");
                let is_listed = docs.contains(&format!("`{}`", name.value))
                    || docs.contains(&format!("`{}{{", name.value));
                assert!(!is_own || is_listed, "{} of {} is not listed", name.value, rule.name);
            }
        }
    }

    #[test]
    fn what_watchfire_brings_along_is_documented() {
        let docs = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/operating/rules.md");
        let docs = std::fs::read_to_string(docs).expect("the docs lie beside the crates");
        for rule in builtin_rules() {
            let after = match rule.hold_min {
                0 => "at once".to_owned(),
                minutes => format!("{minutes} min"),
            };
            let (group, name, severity) = (rule.group, rule.name, rule.severity);
            let row = format!("| `{group}` | `{name}` | {after} | {severity} | ");
            assert!(docs.contains(&row), "docs/operating/rules.md lacks {row}");
        }
    }

    #[test]
    fn a_fault_has_its_place() {
        let fault = compile("rate(hi)").expect_err("it needs a range");
        assert!(fault.message.contains("parse error"), "{}", fault.message);
        assert_eq!(fault.span, Some((5, 7)));
    }
}
