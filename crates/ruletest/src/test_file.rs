//! A file of tests, typed (`cmd/promtool/unittest.go` of Prometheus 3).

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::Deserialize;
use serde::de::{self, Deserializer, Visitor};
use settings::yaml::Document;
use settings::{DurationValue, Faults};

/// What a file of tests says.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TestFile {
    /// Patterns of rule files, relative to the file.
    #[serde(default)]
    pub rule_files: Vec<String>,
    /// How often rules are evaluated; a minute if nothing is said.
    #[serde(default)]
    evaluation_interval: Option<DurationValue>,
    /// Groups that are evaluated in this order.
    #[serde(default)]
    pub group_eval_order: Vec<String>,
    /// Whether numbers may differ in the last bit.
    #[serde(default)]
    pub fuzzy_compare: bool,
    /// The tests.
    #[serde(default)]
    pub tests: Vec<TestGroup>,
}

/// Series, and what is expected of rules and expressions over them.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TestGroup {
    /// What it is called.
    #[serde(default)]
    pub name: String,
    #[serde(default)]
    interval: Option<DurationValue>,
    /// The series.
    #[serde(default)]
    pub input_series: Vec<InputSeries>,
    /// Alerts that must fire.
    #[serde(default, rename = "alert_rule_test")]
    pub alerts: Vec<AlertCase>,
    /// What expressions must yield.
    #[serde(default, rename = "promql_expr_test")]
    pub expressions: Vec<ExprCase>,
    /// `$externalLabels` of templates.
    #[serde(default)]
    pub external_labels: BTreeMap<String, String>,
    /// `$externalURL` of templates.
    #[serde(default)]
    pub external_url: String,
    #[serde(default)]
    start_timestamp: StartTime,
}

/// One series of a test.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InputSeries {
    /// Name and labels.
    #[serde(default)]
    pub series: String,
    /// Values.
    #[serde(default)]
    pub values: String,
}

/// Which alerts of a name must fire at a time.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AlertCase {
    #[serde(default)]
    eval_time: Option<DurationValue>,
    /// The name.
    #[serde(default)]
    pub alertname: String,
    /// All of them.
    #[serde(default)]
    pub exp_alerts: Vec<ExpectedAlert>,
}

/// An alert that must fire.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExpectedAlert {
    /// Its labels, `alertname` aside.
    #[serde(default)]
    pub exp_labels: BTreeMap<String, String>,
    /// Its annotations.
    #[serde(default)]
    pub exp_annotations: BTreeMap<String, String>,
}

/// What an expression must yield at a time.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExprCase {
    /// The expression.
    #[serde(default)]
    pub expr: String,
    #[serde(default)]
    eval_time: Option<DurationValue>,
    /// All samples.
    #[serde(default)]
    pub exp_samples: Vec<ExpectedSample>,
}

/// A sample that an expression must yield.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExpectedSample {
    /// Name and labels; nothing for none.
    #[serde(default)]
    pub labels: String,
    /// Its value, if it is no histogram.
    #[serde(default)]
    pub value: f64,
    /// The histogram, as tests write it.
    #[serde(default)]
    pub histogram: String,
}

impl TestFile {
    /// Reads a file of tests.
    ///
    /// # Errors
    /// What is wrong with it, with its place.
    pub fn parse(file: &str, bytes: &[u8]) -> Result<TestFile, Faults> {
        Document::parse(file, bytes)?.deserialize()
    }

    /// How often rules are evaluated.
    pub fn evaluation_interval(&self) -> Duration {
        or_if_none(self.evaluation_interval, Duration::from_secs(60))
    }
}

impl TestGroup {
    /// The time between two values of a series.
    pub fn interval(&self, evaluation_interval: Duration) -> Duration {
        or_if_none(self.interval, evaluation_interval)
    }

    /// When the test begins, milliseconds since the epoch.
    pub fn start_ms(&self) -> i64 {
        self.start_timestamp.0
    }

    /// The latest time that anything is expected of, seen from the beginning.
    pub fn last_time(&self) -> Duration {
        let of_alerts = self.alerts.iter().map(AlertCase::time);
        of_alerts.chain(self.expressions.iter().map(ExprCase::time)).max().unwrap_or_default()
    }
}

impl AlertCase {
    /// For which time, seen from the beginning.
    pub fn time(&self) -> Duration {
        or_if_none(self.eval_time, Duration::ZERO)
    }
}

impl ExprCase {
    /// For which time, seen from the beginning.
    pub fn time(&self) -> Duration {
        or_if_none(self.eval_time, Duration::ZERO)
    }
}

/// What nothing and zero stand for.
fn or_if_none(value: Option<DurationValue>, default: Duration) -> Duration {
    value.map(|value| value.0).filter(|value| !value.is_zero()).unwrap_or(default)
}

/// A date, or seconds since the epoch; milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct StartTime(i64);

impl<'de> Deserialize<'de> for StartTime {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = StartTime;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a date such as 2024-01-01T00:00:00Z, or seconds since 1970")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<StartTime, E> {
                if text.is_empty() {
                    return Ok(StartTime(0));
                }
                let seconds = || {
                    let seconds: f64 = text.parse().ok()?;
                    // Beyond that no date has a name.
                    (seconds.abs() < 1e11).then_some((seconds * 1_000.0) as i64)
                };
                let found = model::parse_rfc3339_ms(text).or_else(seconds);
                found.map(StartTime).ok_or_else(|| {
                    E::custom(format!(
                        "cannot parse {text:?} as a time\nhelp: write a date such as \
                         2024-01-01T00:00:00Z, or seconds since 1970"
                    ))
                })
            }
        }
        deserializer.deserialize_str(Text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(yaml: &str) -> Result<TestFile, String> {
        TestFile::parse("t.yml", yaml.as_bytes()).map_err(|faults| faults.render())
    }

    #[test]
    fn a_file_is_read_whole() {
        let yaml = "rule_files: [a.yml]\nevaluation_interval: 30s\ngroup_eval_order: [g]\nfuzzy_compare: \
                    true\ntests:\n- name: n\n  start_timestamp: 2024-01-01T00:00:00Z\n  external_labels: {a: \
                    b}\n  external_url: http://x\n  input_series: [{series: up, values: 1}]\n  \
                    alert_rule_test: [{eval_time: 5m, alertname: A, exp_alerts: [{exp_labels: {x: 1}}]}]\n  \
                    promql_expr_test: [{expr: up, eval_time: 0, exp_samples: [{value: 1e3, labels: up}]}]\n\
                    - {}\n";
        let file = parse(yaml).expect("the file is right");
        assert_eq!(file.evaluation_interval().as_secs(), 30);
        let [test, empty] = file.tests.as_slice() else { panic!("{file:?}") };
        assert_eq!(test.interval(file.evaluation_interval()).as_secs(), 30);
        assert_eq!(test.start_ms(), 1_704_067_200_000);
        assert_eq!(test.last_time().as_secs(), 300);
        assert_eq!(test.expressions[0].exp_samples[0].value, 1_000.0);
        assert_eq!(test.alerts[0].exp_alerts[0].exp_labels["x"], "1");
        assert_eq!((empty.start_ms(), empty.last_time()), (0, Duration::ZERO));
        assert_eq!(parse("").expect("nothing is no fault").tests, []);
    }

    #[test]
    fn faults_have_places() {
        for (yaml, said) in [
            ("tests: [{start_timestamp: soon}]", "t.yml:1:27: error: cannot parse \"soon\""),
            ("tests: [{intervall: 1m}]", "did you mean `interval`?"),
            ("evaluation_interval: 5", "did you mean 5s?"),
        ] {
            let error = parse(yaml).expect_err(yaml);
            assert!(error.contains(said), "{error}");
        }
        assert_eq!(
            parse("tests: [{start_timestamp: 1.5}]").map(|f| f.tests[0].start_ms()),
            Ok(1_500)
        );
    }
}
