//! Compares what a query yielded with what its script expects.

use std::collections::BTreeMap;
use std::sync::Arc;

use ::promql::{QueryValue, RangeSeries};
use model::{FloatHistogram, Labels};
use ruletest::notation::almost_equal;
use ruletest::notation::histogram::{self, Literal};
use ruletest::notation::series::{Item, SeriesLine};

use super::script::Expected;

/// Points of a result by labels.
type Points = BTreeMap<Labels, Vec<(i64, Point)>>;

/// What a series has at a time.
#[derive(Debug, Clone)]
enum Point {
    Float(f64),
    Histogram(Arc<FloatHistogram>),
    /// Only expected ones.
    Literal(Literal),
}

/// Compares an instant result; vectors are also compared by order if `ordered`.
pub(crate) fn instant(
    value: &QueryValue,
    expected: &Expected,
    t_ms: i64,
    ordered: bool,
) -> Result<(), String> {
    match (value, expected) {
        (QueryValue::Scalar { value, .. }, Expected::Scalar(expected)) => {
            equal_floats(*value, *expected)
        }
        (QueryValue::String { value, .. }, Expected::String(expected)) if value == expected => {
            Ok(())
        }
        (QueryValue::Vector(samples), Expected::Series { lines, range_vector: None }) => {
            let mut points = Points::new();
            for sample in samples {
                let point = match &sample.histogram {
                    Some(histogram) => Point::Histogram(Arc::clone(histogram)),
                    None => Point::Float(sample.value),
                };
                let double = points.insert(sample.labels.clone(), vec![(t_ms, point)]);
                if double.is_some() {
                    return Err(format!("{} comes twice", sample.labels));
                }
            }
            equal_points(&points, &expected_points(lines, t_ms, 0)?)?;
            let in_order = samples.iter().zip(lines).all(|(s, l)| s.labels == l.labels);
            if ordered && !in_order {
                let order: Vec<String> = samples.iter().map(|s| s.labels.to_string()).collect();
                return Err(format!("the order is {}", order.join(" ")));
            }
            Ok(())
        }
        (
            QueryValue::Matrix(series),
            Expected::Series { lines, range_vector: Some((start, step)) },
        ) => equal_points(&matrix_points(series)?, &expected_points(lines, *start, *step)?),
        (QueryValue::Scalar { value, .. }, Expected::Series { .. }) => {
            Err(format!("got the scalar {value}"))
        }
        (value, expected) => Err(format!("expected {expected:?}, got {value:?}")),
    }
}

/// Compares a range result whose first step is at `start_ms`.
pub(crate) fn range(
    value: &QueryValue,
    expected: &Expected,
    start_ms: i64,
    step_ms: i64,
) -> Result<(), String> {
    match (value, expected) {
        (QueryValue::Matrix(series), Expected::Series { lines, .. }) => {
            equal_points(&matrix_points(series)?, &expected_points(lines, start_ms, step_ms)?)
        }
        (value, expected) => Err(format!("expected {expected:?}, got {value:?}")),
    }
}

/// Compares the values a range result has at `t_ms` with an expected instant result.
pub(crate) fn step(value: &QueryValue, expected: &Expected, t_ms: i64) -> Result<(), String> {
    let QueryValue::Matrix(series) = value else { return Err(format!("got {value:?}")) };
    let mut points = matrix_points(series)?;
    points.retain(|_, points| {
        points.retain(|(at, _)| *at == t_ms);
        !points.is_empty()
    });
    match expected {
        Expected::Series { lines, .. } => equal_points(&points, &expected_points(lines, t_ms, 0)?),
        Expected::Scalar(expected) => match points.get(&Labels::empty()).map(Vec::as_slice) {
            Some([(_, Point::Float(value))]) => equal_floats(*value, *expected),
            other => Err(format!("expected the scalar {expected}, got {other:?}")),
        },
        Expected::String(_) => Ok(()),
    }
}

fn matrix_points(series: &[RangeSeries]) -> Result<Points, String> {
    if let Some(pair) = series.windows(2).find(|pair| pair[0].labels >= pair[1].labels) {
        return Err(format!("{} comes before {}", pair[0].labels, pair[1].labels));
    }
    Ok(series
        .iter()
        .map(|series| {
            let times = series.timestamps_ms.iter().copied();
            let floats = times.zip(series.values.iter().map(|value| Point::Float(*value)));
            let histograms = series.histograms.iter();
            let histograms = histograms.map(|(t, h)| (*t, Point::Histogram(Arc::clone(h))));
            let mut points: Vec<_> = floats.chain(histograms).collect();
            points.sort_by_key(|point| point.0);
            (series.labels.clone(), points)
        })
        .collect())
}

fn expected_points(lines: &[SeriesLine], start_ms: i64, step_ms: i64) -> Result<Points, String> {
    let mut all = Points::new();
    for line in lines {
        let mut points = Vec::new();
        for (index, item) in line.items.iter().enumerate() {
            let point = match item {
                Item::Missing => continue,
                Item::Float(value) => Point::Float(*value),
                Item::Histogram(literal) => Point::Literal(literal.clone()),
            };
            points.push((start_ms + index as i64 * step_ms, point));
        }
        if step_ms == 0 && points.len() != 1 {
            return Err(format!("the script expects {} values of one step", points.len()));
        }
        if all.insert(line.labels.clone(), points).is_some() {
            return Err(format!("the script expects {} twice", line.labels));
        }
    }
    Ok(all)
}

fn equal_points(got: &Points, expected: &Points) -> Result<(), String> {
    for (labels, points) in expected {
        match got.get(labels) {
            None => return Err(format!("{labels} is missing; got {}", list(got))),
            Some(found) if same(found, points) => {}
            Some(found) => return Err(format!("{labels} should be {points:?}, is {found:?}")),
        }
    }
    match got.keys().find(|labels| !expected.contains_key(labels)) {
        Some(labels) => Err(format!("{labels} is not expected: {:?}", got[labels])),
        None => Ok(()),
    }
}

fn list(points: &Points) -> String {
    let labels: Vec<String> = points.keys().map(Labels::to_string).collect();
    format!("[{}]", labels.join(" "))
}

fn same(got: &[(i64, Point)], expected: &[(i64, Point)]) -> bool {
    let fits = |(got, expected): (&(i64, Point), &(i64, Point))| {
        got.0 == expected.0
            && match (&got.1, &expected.1) {
                (Point::Float(a), Point::Float(b)) => almost_equal(*a, *b),
                (Point::Histogram(got), Point::Literal(expected)) => {
                    histogram::equals(got, expected)
                }
                _ => false,
            }
    };
    got.len() == expected.len() && got.iter().zip(expected).all(fits)
}

fn equal_floats(got: f64, expected: f64) -> Result<(), String> {
    if almost_equal(got, expected) {
        Ok(())
    } else {
        Err(format!("expected {expected}, got {got}"))
    }
}
