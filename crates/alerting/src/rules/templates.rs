//! Rules' texts, expanded by Prometheus' templates.

use std::collections::BTreeMap;

use model::{FloatHistogram, Labels};

use super::sample::Sample;
use super::text::{Expand, TextData};
use crate::templates::Limits;
use crate::templates::rule::{QuerySample, RuleTemplate, SampleValue, check_named, expand};

/// Says whether a text of an alert is a template, for
/// [`settings::prometheus::rules::RuleChecks::template`].
///
/// # Errors
/// What is wrong with it, as Prometheus says it.
pub fn check_template(alert: &str, text: &str) -> Result<(), String> {
    check_named(&named(alert), text).map_err(|error| error.to_string())
}

/// Answers an expression for a time, milliseconds since the epoch.
pub type AnswerQuery<'a> = dyn Fn(&str, i64) -> Result<Vec<Sample>, String> + 'a;

/// Prometheus' templates over whatever answers queries.
#[derive(Clone, Copy)]
pub struct RuleTemplates<'a> {
    /// Answers the function `query`.
    pub query: &'a AnswerQuery<'a>,
    /// Prints a histogram as the language of the rules does.
    pub histogram_text: fn(&FloatHistogram) -> String,
    /// What one text may use.
    pub limits: Limits,
}

impl Expand for RuleTemplates<'_> {
    fn expand(&self, alert: &str, text: &str, data: &TextData<'_>) -> Result<String, String> {
        let value = |value: f64, histogram: Option<&FloatHistogram>| match histogram {
            Some(histogram) => SampleValue::Histogram((self.histogram_text)(histogram)),
            None => SampleValue::Float(value),
        };
        let template = RuleTemplate {
            labels: map(data.labels),
            external_labels: map(data.external_labels),
            external_url: data.external_url.to_owned(),
            value: value(data.value, data.histogram),
            now_ms: data.at_ms,
            limits: self.limits,
        };
        let mut queries = |text: &str, at_ms: i64| -> Result<Vec<QuerySample>, String> {
            let samples = (self.query)(text, at_ms)?;
            let sample = |one: &Sample| QuerySample {
                labels: map(&one.labels),
                value: value(one.value, one.histogram.as_deref()),
            };
            Ok(samples.iter().map(sample).collect())
        };
        expand(&named(alert), text, &template, &mut queries).map_err(|error| error.to_string())
    }
}

/// What Prometheus calls the template of an alert.
fn named(alert: &str) -> String {
    format!("__alert_{alert}")
}

fn map(labels: &Labels) -> BTreeMap<String, String> {
    labels.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::builtin_rules;

    fn up() -> Labels {
        Labels::from_pairs([("__name__", "up"), ("instance", "h")]).expect("a test's labels")
    }

    #[test]
    fn templates_see_the_sample_and_ask_queries() {
        let (labels, external) = (up(), Labels::empty());
        let query = |text: &str, at_ms: i64| {
            assert_eq!((text, at_ms), ("sum(x)", 5_000));
            Ok(vec![Sample::float(up(), at_ms, 2.5)])
        };
        let templates = RuleTemplates {
            query: &query,
            histogram_text: |_| "{count:1}".to_owned(),
            limits: Limits::default(),
        };
        let histogram = FloatHistogram::empty(std::sync::Arc::default());
        let data = TextData {
            labels: &labels,
            external_labels: &external,
            external_url: "http://w",
            value: 0.25,
            histogram: None,
            at_ms: 5_000,
        };
        for (text, want) in [
            ("{{ $labels.instance }} {{ $value | humanizePercentage }}", "h 25%"),
            ("{{ query \"sum(x)\" | first | value }}", "2.5"),
            ("{{ $externalURL }} {{ .Labels.__name__ }}", "http://w up"),
        ] {
            assert_eq!(templates.expand("A", text, &data).as_deref(), Ok(want), "{text}");
        }
        let data = TextData { histogram: Some(&histogram), ..data };
        assert_eq!(templates.expand("A", "{{ $value }}", &data).as_deref(), Ok("{count:1}"));
        let error = templates.expand("A", "{{ fail }}", &data).expect_err("there is no fail");
        assert!(error.contains("__alert_A"), "{error}");
    }

    #[test]
    fn what_is_no_template_is_told() {
        let error = check_template("A", "{{ $nosuch }}").expect_err("there is no such variable");
        assert!(error.contains("undefined variable \"$nosuch\""), "{error}");
        for rule in builtin_rules() {
            for text in [rule.summary, rule.description] {
                assert_eq!(check_template(rule.name, text), Ok(()), "{}", rule.name);
            }
        }
    }
}
