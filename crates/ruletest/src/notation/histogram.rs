//! Native histograms as scripts write them: `{{schema:1 sum:2 count:3 buckets:[1 2]}}`.

use std::sync::Arc;

use model::{BucketLayout, FloatHistogram, ResetHint, Span};

use super::{NotationError, almost_equal, general};

/// A histogram of a script.
#[derive(Debug, Clone, PartialEq)]
pub struct Literal {
    /// The histogram.
    pub histogram: Arc<FloatHistogram>,
    /// Whether it says what is known about resets; only then that is compared.
    pub has_hint: bool,
}

/// Parses `{{…}}`.
pub fn parse(text: &str) -> Result<Literal, NotationError> {
    let inner = text.strip_prefix("{{").and_then(|text| text.strip_suffix("}}"));
    let mut rest =
        inner.ok_or_else(|| NotationError::new("a histogram stands in double braces"))?.trim();
    let mut layout = BucketLayout::default();
    let (mut offset, mut negative_offset) = (0, 0);
    let mut histogram = FloatHistogram::empty(Arc::default());
    let mut has_hint = false;
    while !rest.is_empty() {
        let (key, value) = rest
            .split_once(':')
            .ok_or_else(|| NotationError::new(format!("no key in {rest:?}")))?;
        let end = if value.starts_with('[') {
            value.find(']').ok_or_else(|| NotationError::new("a list has no end"))? + 1
        } else {
            value.find(char::is_whitespace).unwrap_or(value.len())
        };
        let (value, after) = value.split_at(end);
        rest = after.trim_start();
        match key.trim() {
            "schema" => layout.schema = integer(value)?,
            "sum" => histogram.sum = number(value)?,
            "count" => histogram.count = number(value)?,
            "z_bucket" => histogram.zero_count = number(value)?,
            "z_bucket_w" => layout.zero_threshold = number(value)?,
            "buckets" => histogram.positive = list(value)?,
            "n_buckets" => histogram.negative = list(value)?,
            "offset" => offset = integer(value)?,
            "n_offset" => negative_offset = integer(value)?,
            "custom_values" => layout.custom_bounds = list(value)?,
            "counter_reset_hint" => {
                has_hint = true;
                histogram.reset_hint = hint(value)?;
            }
            other => return Err(NotationError::new(format!("a histogram has no {other:?}"))),
        }
    }
    layout.positive = span(offset, &histogram.positive)?;
    layout.negative = span(negative_offset, &histogram.negative)?;
    histogram.layout = Arc::new(layout);
    Ok(Literal { histogram: Arc::new(histogram), has_hint })
}

/// All counts in one span.
fn span(offset: i32, counts: &[f64]) -> Result<Vec<Span>, NotationError> {
    if counts.is_empty() {
        return Ok(Vec::new());
    }
    let len = i32::try_from(counts.len()).ok().filter(|len| offset.checked_add(*len).is_some());
    match len {
        Some(len) => Ok(vec![Span { offset, len: len.unsigned_abs() }]),
        None => Err(NotationError::new(format!("offset {offset} is out of range"))),
    }
}

fn number(text: &str) -> Result<f64, NotationError> {
    text.parse().map_err(|_| NotationError::new(format!("{text:?} is no number")))
}

fn integer(text: &str) -> Result<i32, NotationError> {
    text.parse().map_err(|_| NotationError::new(format!("{text:?} is no whole number")))
}

fn list(text: &str) -> Result<Vec<f64>, NotationError> {
    let inner = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
    inner
        .ok_or_else(|| NotationError::new("a list stands in brackets"))?
        .split_whitespace()
        .map(number)
        .collect()
}

fn hint(text: &str) -> Result<ResetHint, NotationError> {
    Ok(match text {
        "unknown" => ResetHint::Unknown,
        "reset" => ResetHint::Reset,
        "not_reset" => ResetHint::NoReset,
        "gauge" => ResetHint::Gauge,
        other => {
            let message = format!("{other:?} is nothing that is known about resets");
            return Err(NotationError::new(message));
        }
    })
}

/// `left + right`, or `left - right`.
pub fn add(
    left: &FloatHistogram,
    right: &FloatHistogram,
    subtracts: bool,
) -> Result<FloatHistogram, NotationError> {
    let mut total = left.clone();
    let added =
        if subtracts { total.subtract(right).map(drop) } else { total.add(right).map(drop) };
    added.map_err(|error| NotationError::new(error.to_string()))?;
    Ok(total)
}

/// A histogram in this notation, as Prometheus prints it: what is 0 is left out.
pub fn print(histogram: &FloatHistogram) -> String {
    let mut compact = histogram.clone();
    compact.compact(u32::MAX);
    let mut parts: Vec<String> = Vec::new();
    let mut part = |name: &str, value: f64| {
        if value != 0.0 {
            parts.push(format!("{name}:{}", general(value)));
        }
    };
    let layout = &compact.layout;
    part("schema", f64::from(layout.schema));
    part("count", compact.count);
    part("sum", compact.sum);
    part("z_bucket", compact.zero_count);
    part("z_bucket_w", layout.zero_threshold);
    let list = |values: &[f64]| values.iter().map(|v| general(*v)).collect::<Vec<_>>().join(" ");
    if !layout.custom_bounds.is_empty() {
        parts.push(format!("custom_values:[{}]", list(&layout.custom_bounds)));
    }
    match compact.reset_hint {
        ResetHint::Unknown => {}
        ResetHint::Reset => parts.push("counter_reset_hint:reset".to_owned()),
        ResetHint::NoReset => parts.push("counter_reset_hint:not_reset".to_owned()),
        ResetHint::Gauge => parts.push("counter_reset_hint:gauge".to_owned()),
    }
    for (name, offset, spans, counts) in [
        ("buckets", "offset", &layout.positive, &compact.positive),
        ("n_buckets", "n_offset", &layout.negative, &compact.negative),
    ] {
        let Some(first) = spans.first() else { continue };
        if first.offset != 0 {
            parts.push(format!("{offset}:{}", first.offset));
        }
        parts.push(format!("{name}:[{}]", list(counts)));
    }
    format!("{{{{{}}}}}", parts.join(" "))
}

/// Whether `got` is what a script expects.
pub fn equals(got: &FloatHistogram, expected: &Literal) -> bool {
    let compacted = |histogram: &FloatHistogram| {
        let mut histogram = histogram.clone();
        histogram.compact(0);
        histogram
    };
    let (got, wanted) = (compacted(got), compacted(&expected.histogram));
    let same = |a: &[f64], b: &[f64]| {
        a.len() == b.len() && a.iter().zip(b).all(|(a, b)| almost_equal(*a, *b))
    };
    got.layout == wanted.layout
        && almost_equal(got.count, wanted.count)
        && almost_equal(got.sum, wanted.sum)
        && almost_equal(got.zero_count, wanted.zero_count)
        && same(&got.positive, &wanted.positive)
        && same(&got.negative, &wanted.negative)
        && (!expected.has_hint || got.reset_hint == wanted.reset_hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_are_read_and_added() {
        let parsed = |text: &str| parse(text).expect("a test's histogram parses");
        let left = parsed("{{schema:-1 sum:4 count:1 buckets:[1] offset:1}}");
        let right = parsed("{{ schema:0 sum:4  count:4 buckets:[2 2] offset:1 }}");
        let sum = add(&left.histogram, &right.histogram, false).expect("one kind");
        assert!(equals(&sum, &parsed("{{schema:-1 count:5 sum:8 offset:1 buckets:[5 0]}}")));
        assert!(!equals(&sum, &parsed("{{schema:-1 count:5 sum:8 offset:2 buckets:[5]}}")));
        let gauge = parsed("{{counter_reset_hint:gauge n_buckets:[1] z_bucket:2 z_bucket_w:0.5}}");
        assert!(gauge.has_hint && gauge.histogram.reset_hint == ResetHint::Gauge);
        assert!(parse("{{what:1}}").is_err());
        let text = "{{schema:1 count:32.1 sum:-0.3 z_bucket:7.1 z_bucket_w:0.05 counter_reset_hint:gauge \
                    offset:-3 buckets:[5.1 10 7] n_offset:-5 n_buckets:[4.1 5]}}";
        assert_eq!(print(&parsed(text).histogram), text);
        assert_eq!(print(&parsed("{{}}").histogram), "{{}}");
    }
}
