//! How alerts and samples are shown where they differ.

use std::collections::BTreeMap;

use alerting::rules::go_scientific;

/// Labels and annotations of an alert, in the order in which they are compared.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ShownAlert {
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) annotations: BTreeMap<String, String>,
}

/// A sample: labels, a number or a histogram as a text.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ShownSample {
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) value: f64,
    pub(crate) histogram: String,
}

/// `{a="b", c="d"}`.
pub(crate) fn labels(labels: &BTreeMap<String, String>) -> String {
    let pairs: Vec<String> = labels
        .iter()
        .map(|(name, value)| match model::is_legacy_label_name(name) {
            true => format!("{name}={value:?}"),
            false => format!("{name:?}={value:?}"),
        })
        .collect();
    format!("{{{}}}", pairs.join(", "))
}

/// A list of alerts over several lines, as promtool shows it.
pub(crate) fn alerts(alerts: &[ShownAlert]) -> String {
    if alerts.is_empty() {
        return "[]".to_owned();
    }
    let one = |(index, alert): (usize, &ShownAlert)| {
        let (labels, annotations) = (labels(&alert.labels), labels(&alert.annotations));
        format!("{index}:\n  Labels:{labels}\n  Annotations:{annotations}")
    };
    let all: Vec<String> = alerts.iter().enumerate().map(one).collect();
    format!("[\n{}\n]", all.join(",\n"))
}

/// Samples in one line; `nil` if there are none.
pub(crate) fn samples(samples: &[ShownSample]) -> String {
    if samples.is_empty() {
        return "nil".to_owned();
    }
    let one = |sample: &ShownSample| {
        let value = match sample.histogram.is_empty() {
            true => match sample.value.is_finite() {
                true => go_scientific(sample.value).to_uppercase(),
                false => go_scientific(sample.value),
            },
            false => sample.histogram.clone(),
        };
        format!("{} {value}", labels(&sample.labels))
    };
    samples.iter().map(one).collect::<Vec<_>>().join(", ")
}

/// Puts blanks before every line but the first.
pub(crate) fn indent(text: &str, blanks: &str) -> String {
    text.replace('\n', &format!("\n{blanks}"))
}

/// Most pairs of lines that are compared.
const MAX_COMPARED: usize = 4_000_000;

/// The lines of two texts, marked by `-` if only expected and by `+` if only there.
pub(crate) fn difference(expected: &str, got: &str) -> String {
    let (expected, got): (Vec<&str>, Vec<&str>) =
        (expected.lines().collect(), got.lines().collect());
    // The longest run of lines in common, by dynamic programming: alerts of a test are few. Where
    // they are not, nobody reads what is the same.
    if expected.len().saturating_mul(got.len()) > MAX_COMPARED {
        let gone = expected.iter().map(|line| format!("- {line}"));
        let new = got.iter().map(|line| format!("+ {line}"));
        return gone.chain(new).collect::<Vec<_>>().join("\n");
    }
    let mut common = vec![vec![0_usize; got.len() + 1]; expected.len() + 1];
    for i in (0..expected.len()).rev() {
        for j in (0..got.len()).rev() {
            common[i][j] = match expected[i] == got[j] {
                true => common[i + 1][j + 1] + 1,
                false => common[i + 1][j].max(common[i][j + 1]),
            };
        }
    }
    let (mut i, mut j) = (0, 0);
    let mut lines = Vec::new();
    while i < expected.len() || j < got.len() {
        if i < expected.len() && j < got.len() && expected[i] == got[j] {
            lines.push(format!("  {}", expected[i]));
            (i, j) = (i + 1, j + 1);
        } else if j == got.len() || (i < expected.len() && common[i + 1][j] >= common[i][j + 1]) {
            lines.push(format!("- {}", expected[i]));
            i += 1;
        } else {
            lines.push(format!("+ {}", got[j]));
            j += 1;
        }
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_are_marked() {
        assert_eq!(difference("a\nb\nc", "a\nx\nc"), "  a\n- b\n+ x\n  c");
        assert_eq!(difference("", "a"), "+ a");
        assert_eq!(difference("a", "a"), "  a");
    }

    #[test]
    fn samples_are_shown_as_promtool_does() {
        let labels = BTreeMap::from([("__name__".to_owned(), "up".to_owned())]);
        let float = ShownSample { labels: labels.clone(), value: 1.5, histogram: String::new() };
        let histogram = ShownSample { labels, value: 0.0, histogram: "{{}}".to_owned() };
        assert_eq!(
            samples(&[float, histogram]),
            r#"{__name__="up"} 1.5E+00, {__name__="up"} {{}}"#
        );
        assert_eq!(samples(&[]), "nil");
    }
}
