//! Native histograms as scripts write them: `{{schema:1 sum:2 count:3 buckets:[1 2]}}`.

use std::sync::Arc;

use anyhow::{Context, bail};
use model::{BucketLayout, FloatHistogram, ResetHint, Span};

use super::compare::almost_equal;

/// A histogram of a script.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Literal {
    pub(crate) histogram: Arc<FloatHistogram>,
    /// Whether it says what is known about resets; only then that is compared.
    pub(crate) has_hint: bool,
}

/// Parses `{{…}}`.
pub(crate) fn parse(text: &str) -> anyhow::Result<Literal> {
    let inner = text.strip_prefix("{{").and_then(|text| text.strip_suffix("}}"));
    let mut rest = inner.context("a histogram stands in double braces")?.trim();
    let mut layout = BucketLayout::default();
    let (mut offset, mut negative_offset) = (0, 0);
    let mut histogram = FloatHistogram::empty(Arc::default());
    let mut has_hint = false;
    while !rest.is_empty() {
        let (key, value) = rest.split_once(':').with_context(|| format!("no key in {rest:?}"))?;
        let end = if value.starts_with('[') {
            value.find(']').context("a list has no end")? + 1
        } else {
            value.find(char::is_whitespace).unwrap_or(value.len())
        };
        let (value, after) = value.split_at(end);
        rest = after.trim_start();
        match key.trim() {
            "schema" => layout.schema = value.parse()?,
            "sum" => histogram.sum = number(value)?,
            "count" => histogram.count = number(value)?,
            "z_bucket" => histogram.zero_count = number(value)?,
            "z_bucket_w" => layout.zero_threshold = number(value)?,
            "buckets" => histogram.positive = list(value)?,
            "n_buckets" => histogram.negative = list(value)?,
            "offset" => offset = value.parse()?,
            "n_offset" => negative_offset = value.parse()?,
            "custom_values" => layout.custom_bounds = list(value)?,
            "counter_reset_hint" => {
                has_hint = true;
                histogram.reset_hint = hint(value)?;
            }
            other => bail!("a histogram has no {other:?}"),
        }
    }
    let span = |offset, counts: &[f64]| match counts.len() {
        0 => Vec::new(),
        len => vec![Span { offset, len: len as u32 }],
    };
    layout.positive = span(offset, &histogram.positive);
    layout.negative = span(negative_offset, &histogram.negative);
    histogram.layout = Arc::new(layout);
    Ok(Literal { histogram: Arc::new(histogram), has_hint })
}

fn number(text: &str) -> anyhow::Result<f64> {
    text.parse().with_context(|| format!("{text:?} is no number"))
}

fn list(text: &str) -> anyhow::Result<Vec<f64>> {
    let inner = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
    inner.context("a list stands in brackets")?.split_whitespace().map(number).collect()
}

fn hint(text: &str) -> anyhow::Result<ResetHint> {
    Ok(match text {
        "unknown" => ResetHint::Unknown,
        "reset" => ResetHint::Reset,
        "not_reset" => ResetHint::NoReset,
        "gauge" => ResetHint::Gauge,
        other => bail!("{other:?} is nothing that is known about resets"),
    })
}

/// `left + right`, or `left - right`.
pub(crate) fn add(
    left: &FloatHistogram,
    right: &FloatHistogram,
    subtracts: bool,
) -> anyhow::Result<FloatHistogram> {
    let mut total = left.clone();
    if subtracts {
        total.subtract(right)?
    } else {
        total.add(right)?
    };
    Ok(total)
}

/// Whether `got` is what a script expects.
pub(crate) fn equals(got: &FloatHistogram, expected: &Literal) -> bool {
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
    }
}
