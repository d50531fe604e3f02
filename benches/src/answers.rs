//! Answers of the query API, and whether two servers say the same.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use serde::Deserialize;

/// Relative difference below which values are the same: servers add in different orders.
const TOLERANCE: f64 = 1e-9;

/// Points of each series, by its labels.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Answer {
    series: BTreeMap<BTreeMap<String, String>, Vec<(f64, f64)>>,
}

#[derive(Deserialize)]
struct Envelope {
    data: Data,
}

#[derive(Deserialize)]
struct Data {
    result: Vec<Series>,
}

#[derive(Deserialize)]
struct Series {
    metric: BTreeMap<String, String>,
    #[serde(default)]
    values: Vec<(f64, String)>,
    value: Option<(f64, String)>,
}

impl Answer {
    /// Reads a vector or a matrix.
    pub(crate) fn parse(body: &[u8]) -> Result<Answer> {
        let envelope: Envelope =
            serde_json::from_slice(body).context("read an answer of the query API")?;
        let mut series = BTreeMap::new();
        for one in envelope.data.result {
            let points = one
                .values
                .into_iter()
                .chain(one.value)
                .map(|(seconds, value)| {
                    let value = value.parse().with_context(|| format!("{value:?} is no number"))?;
                    Ok((seconds, value))
                })
                .collect::<Result<Vec<_>>>()?;
            series.insert(one.metric, points);
        }
        Ok(Answer { series })
    }

    /// Number of series.
    pub(crate) fn series(&self) -> usize {
        self.series.len()
    }

    /// Sum of all values, for answers that are one number.
    pub(crate) fn total(&self) -> f64 {
        self.series.values().flatten().map(|(_, value)| value).sum()
    }

    /// In what `self` differs from `other`; `None` if in nothing.
    pub(crate) fn difference(&self, other: &Answer) -> Option<String> {
        if self.series.len() != other.series.len() {
            return Some(format!("{} series, not {}", self.series.len(), other.series.len()));
        }
        let (mut points, mut differing, mut worst) = (0_usize, 0_usize, 0.0_f64);
        for ((labels, ours), (other_labels, theirs)) in self.series.iter().zip(&other.series) {
            if labels != other_labels {
                return Some(format!("{labels:?}, not {other_labels:?}"));
            }
            let times = |points: &[(f64, f64)]| points.iter().map(|p| p.0).collect::<Vec<_>>();
            if times(ours) != times(theirs) {
                return Some(format!("{} points, not {}: {labels:?}", ours.len(), theirs.len()));
            }
            for ((_, one), (_, two)) in ours.iter().zip(theirs) {
                let distance = distance(*one, *two);
                points += 1;
                differing += usize::from(distance > TOLERANCE);
                worst = worst.max(distance);
            }
        }
        (differing > 0).then(|| format!("{differing} of {points} values, by up to {worst:.1e}"))
    }
}

/// Relative distance; 0 for equal infinities and for two NaNs.
fn distance(one: f64, two: f64) -> f64 {
    if one == two || (one.is_nan() && two.is_nan()) {
        return 0.0;
    }
    let distance = (one - two).abs() / one.abs().max(two.abs());
    if distance.is_nan() { f64::INFINITY } else { distance }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(result: &str) -> Answer {
        let body = format!(r#"{{"status":"success","data":{{"result":[{result}]}}}}"#);
        Answer::parse(body.as_bytes()).expect("an answer")
    }

    #[test]
    fn order_and_last_digits_do_not_matter() {
        let one = answer(
            r#"{"metric":{"a":"1"},"values":[[15,"1"],[30,"NaN"],[45,"+Inf"]]},
               {"metric":{"a":"2"},"value":[15.5,"0.1"]}"#,
        );
        let two = answer(
            r#"{"metric":{"a":"2"},"value":[15.5,"0.10000000000000002"]},
               {"metric":{"a":"1"},"values":[[15,"1"],[30,"NaN"],[45,"+Inf"]]}"#,
        );
        assert_eq!(one.difference(&two), None);
        assert_eq!(one.series(), 2);
    }

    #[test]
    fn differences_are_told() {
        let base = answer(r#"{"metric":{"a":"1"},"values":[[15,"1"],[30,"2"]]}"#);
        for (other, expected) in [
            (
                r#"{"metric":{"a":"1"},"values":[[15,"1"],[30,"4"]]}"#,
                "1 of 2 values, by up to 5.0e-1",
            ),
            (
                r#"{"metric":{"a":"1"},"values":[[15,"1"],[30,"NaN"]]}"#,
                "1 of 2 values, by up to inf",
            ),
            (r#"{"metric":{"a":"1"},"values":[[15,"1"]]}"#, r#"2 points, not 1: {"a": "1"}"#),
            (r#"{"metric":{"b":"1"},"values":[]}"#, r#"{"a": "1"}, not {"b": "1"}"#),
            ("", "1 series, not 0"),
        ] {
            assert_eq!(base.difference(&answer(other)).as_deref(), Some(expected));
        }
    }
}
