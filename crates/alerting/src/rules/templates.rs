//! Rules' texts, expanded by Prometheus' templates.

use std::collections::BTreeMap;
use std::time::Duration;

use model::{FloatHistogram, Labels};

use super::sample::Sample;
use super::text::{Expand, TextData};
use crate::templates::Limits;
use crate::templates::rule::{
    QueryExemplar, QueryLine, QuerySample, RuleTemplate, SampleValue, Source, check_named, expand,
};

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

/// An alert of which somebody wants to see what is behind it.
#[derive(Debug, Clone, Copy)]
pub struct Behind<'a> {
    /// What its rule asks.
    pub expression: &'a str,
    /// Labels of the sample that made it.
    pub labels: &'a Labels,
    /// For which time the rule asked, milliseconds since the epoch.
    pub at_ms: i64,
}

/// Finds what is behind alerts, the newest first. Errors say why there is nothing.
pub trait Evidence {
    /// Lines that the rule counted.
    fn lines(&self, behind: Behind<'_>, most: usize) -> Result<Vec<QueryLine>, String>;

    /// Lines of a query, of a range that ends at a time, milliseconds since the epoch.
    fn lines_of(
        &self,
        text: &str,
        range: Duration,
        at_ms: i64,
        most: usize,
    ) -> Result<Vec<QueryLine>, String>;

    /// Exemplars of the series that the rule read.
    fn exemplars(&self, behind: Behind<'_>, most: usize) -> Result<Vec<QueryExemplar>, String>;
}

/// Where there are neither lines nor exemplars, as in tests of rules.
#[derive(Debug, Clone, Copy)]
pub struct NoEvidence;

impl Evidence for NoEvidence {
    fn lines(&self, _: Behind<'_>, _: usize) -> Result<Vec<QueryLine>, String> {
        Ok(Vec::new())
    }

    fn lines_of(&self, _: &str, _: Duration, _: i64, _: usize) -> Result<Vec<QueryLine>, String> {
        Ok(Vec::new())
    }

    fn exemplars(&self, _: Behind<'_>, _: usize) -> Result<Vec<QueryExemplar>, String> {
        Ok(Vec::new())
    }
}

/// Prometheus' templates over whatever answers queries.
#[derive(Clone, Copy)]
pub struct RuleTemplates<'a> {
    /// Answers the function `query`.
    pub query: &'a AnswerQuery<'a>,
    /// Answers `lines`, `linesOf` and `exemplars`.
    pub evidence: &'a dyn Evidence,
    /// Prints a histogram as the language of the rules does.
    pub histogram_text: fn(&FloatHistogram) -> String,
    /// What one text may use.
    pub limits: Limits,
}

impl Expand for RuleTemplates<'_> {
    fn expand(&self, alert: &str, text: &str, data: &TextData<'_>) -> Result<String, String> {
        let template = RuleTemplate {
            labels: map(data.labels),
            external_labels: map(data.external_labels),
            external_url: data.external_url.to_owned(),
            value: self.value(data.value, data.histogram),
            now_ms: data.at_ms,
            limits: self.limits,
        };
        let mut asked = Asked { templates: self, data };
        expand(&named(alert), text, &template, &mut asked).map_err(|error| error.to_string())
    }
}

impl RuleTemplates<'_> {
    fn value(&self, value: f64, histogram: Option<&FloatHistogram>) -> SampleValue {
        match histogram {
            Some(histogram) => SampleValue::Histogram((self.histogram_text)(histogram)),
            None => SampleValue::Float(value),
        }
    }
}

/// What one text asks.
struct Asked<'a> {
    templates: &'a RuleTemplates<'a>,
    data: &'a TextData<'a>,
}

impl Asked<'_> {
    fn behind(&self) -> Behind<'_> {
        let TextData { expression, labels, asked_at_ms, .. } = *self.data;
        Behind { expression, labels, at_ms: asked_at_ms }
    }
}

impl Source for Asked<'_> {
    fn query(&mut self, text: &str, at_ms: i64) -> Result<Vec<QuerySample>, String> {
        let samples = (self.templates.query)(text, at_ms)?;
        let sample = |one: &Sample| QuerySample {
            labels: map(&one.labels),
            value: self.templates.value(one.value, one.histogram.as_deref()),
        };
        Ok(samples.iter().map(sample).collect())
    }

    fn lines(&mut self, most: usize) -> Result<Vec<QueryLine>, String> {
        self.templates.evidence.lines(self.behind(), most)
    }

    fn lines_of(
        &mut self,
        text: &str,
        range: Duration,
        most: usize,
    ) -> Result<Vec<QueryLine>, String> {
        self.templates.evidence.lines_of(text, range, self.data.asked_at_ms, most)
    }

    fn exemplars(&mut self, most: usize) -> Result<Vec<QueryExemplar>, String> {
        self.templates.evidence.exemplars(self.behind(), most)
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
            evidence: &Lines,
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
            expression: "count(x)",
            asked_at_ms: 4_000,
        };
        for (text, want) in [
            ("{{ $labels.instance }} {{ $value | humanizePercentage }}", "h 25%"),
            ("{{ query \"sum(x)\" | first | value }}", "2.5"),
            ("{{ $externalURL }} {{ .Labels.__name__ }}", "http://w up"),
            (
                "{{ range lines 2 }}{{ .Time.Unix }} {{ .Labels.pod }} {{ .Line }};{{ end }}",
                "4 p count(x) h;",
            ),
            (
                "{{ range linesOf \"{a=\\\"b\\\"}\" \"5m\" 1 }}{{ .Line }}{{ end }}",
                "{a=\"b\"} 300s to 4000",
            ),
            (
                "{{ range exemplars 1 }}{{ .Labels.trace_id }} {{ .Value }} {{ .Series.job }}{{ end }}",
                "t 0.5 j",
            ),
        ] {
            assert_eq!(templates.expand("A", text, &data).as_deref(), Ok(want), "{text}");
        }
        let data = TextData { histogram: Some(&histogram), ..data };
        assert_eq!(templates.expand("A", "{{ $value }}", &data).as_deref(), Ok("{count:1}"));
        let error = templates.expand("A", "{{ fail }}", &data).expect_err("there is no fail");
        assert!(error.contains("__alert_A"), "{error}");
        for text in ["{{ lines 0 }}", "{{ lines 101 }}", "{{ linesOf \"{}\" \"0\" 1 }}"] {
            assert!(templates.expand("A", text, &data).is_err(), "{text}");
        }
    }

    /// Tells what it was asked.
    struct Lines;

    impl Evidence for Lines {
        fn lines(&self, behind: Behind<'_>, most: usize) -> Result<Vec<QueryLine>, String> {
            assert_eq!(most, 2);
            let line =
                format!("{} {}", behind.expression, behind.labels.get("instance").unwrap_or(""));
            let labels = vec![("pod".to_owned(), "p".to_owned())];
            Ok(vec![QueryLine { t_ns: behind.at_ms * 1_000_000, line, labels }])
        }

        fn lines_of(
            &self,
            text: &str,
            range: Duration,
            at_ms: i64,
            _: usize,
        ) -> Result<Vec<QueryLine>, String> {
            let line = format!("{text} {}s to {at_ms}", range.as_secs());
            Ok(vec![QueryLine { t_ns: 0, line, labels: Vec::new() }])
        }

        fn exemplars(&self, _: Behind<'_>, _: usize) -> Result<Vec<QueryExemplar>, String> {
            let pair = |name: &str, value: &str| vec![(name.to_owned(), value.to_owned())];
            let (labels, series) = (pair("trace_id", "t"), pair("job", "j"));
            Ok(vec![QueryExemplar { t_ms: 0, value: 0.5, labels, series }])
        }
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
