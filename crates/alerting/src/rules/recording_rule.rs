//! What a recording rule makes of a result.

use std::collections::HashSet;

use model::METRIC_NAME;

use super::label_merge::merge;
use super::limits::RuleLimits;
use super::sample::Sample;
use super::spec::RuleSpec;

/// The samples to write.
///
/// # Errors
/// Two of them would be of one series, or there are too many.
pub(super) fn evaluate(
    rule: &RuleSpec,
    mut result: Vec<Sample>,
    limit: usize,
    limits: &RuleLimits,
) -> Result<Vec<Sample>, String> {
    if result.len() > limits.max_series_per_rule {
        return Err(format!(
            "the rule yields {} series; rules.max_series_per_rule is {}: aggregate more, or raise it",
            result.len(),
            limits.max_series_per_rule
        ));
    }
    let mut set: Vec<(&str, &str)> =
        rule.labels.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    set.push((METRIC_NAME, &rule.name));
    set.sort_unstable();
    let mut seen = HashSet::with_capacity(result.len());
    for sample in &mut result {
        sample.labels = merge(&sample.labels, set.iter().copied());
        if !seen.insert(sample.labels.clone()) {
            return Err(
                "vector contains metrics with the same labelset after applying rule labels"
                    .to_owned(),
            );
        }
    }
    if limit > 0 && result.len() > limit {
        return Err(format!("exceeded limit of {limit} with {} series", result.len()));
    }
    Ok(result)
}

#[cfg(test)]
mod tests {
    use super::super::spec::tests::recording;
    use super::*;
    use model::Labels;

    fn sample(pairs: &[(&str, &str)]) -> Sample {
        let labels = Labels::from_pairs(pairs.iter().copied()).expect("a test's labels");
        Sample::float(labels, 1, 2.0)
    }

    #[test]
    fn series_get_the_rules_name_and_labels() {
        let mut rule = recording("a:b", "up");
        rule.labels = vec![("job".into(), "x".into()), ("pod".into(), String::new())];
        let input = vec![sample(&[("__name__", "up"), ("job", "j"), ("pod", "p"), ("z", "1")])];
        let out = evaluate(&rule, input, 0, &RuleLimits::default()).expect("it is one series");
        assert_eq!(out[0].labels.to_string(), r#"a:b{job="x", z="1"}"#);
    }

    #[test]
    fn twins_and_too_many_are_refused() {
        let mut rule = recording("a", "up");
        let input = || vec![sample(&[("x", "1")]), sample(&[("x", "2")])];
        let limits = RuleLimits::default();
        assert_eq!(evaluate(&rule, input(), 2, &limits).map(|out| out.len()), Ok(2));
        let error = evaluate(&rule, input(), 1, &limits).expect_err("one is allowed");
        assert_eq!(error, "exceeded limit of 1 with 2 series");
        let few = RuleLimits { max_series_per_rule: 1, ..limits };
        assert!(
            evaluate(&rule, input(), 0, &few).expect_err("one is allowed").contains("raise it")
        );
        rule.labels = vec![("x".into(), String::new())];
        let error = evaluate(&rule, input(), 0, &limits).expect_err("they are one series");
        assert!(error.contains("same labelset after applying rule labels"), "{error}");
    }
}
