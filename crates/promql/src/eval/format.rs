//! Texts as Go formats them, for labels and annotations.

use model::{FloatHistogram, Labels, is_legacy_label_name};

/// `%q` for names and label values.
pub(crate) fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            c if c.is_control() => out.extend(c.escape_unicode()),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// Labels as Prometheus shows them in errors, the metric's name among them:
/// `{__name__="up", job="a"}`.
pub(crate) fn label_set(labels: &Labels) -> String {
    let mut out = String::from("{");
    for (index, (name, value)) in labels.iter().enumerate() {
        out.push_str(if index == 0 { "" } else { ", " });
        if is_legacy_label_name(name) {
            out.push_str(name)
        } else {
            out.push_str(&quoted(name))
        }
        out.push('=');
        out.push_str(&quoted(value));
    }
    out.push('}');
    out
}

/// `%f` with as many digits as needed and never an exponent (`strconv.FormatFloat(v, 'f', -1)`).
pub(crate) fn plain(value: f64) -> String {
    special(value).unwrap_or_else(|| value.to_string())
}

/// `%.2g`: two significant digits.
pub(crate) fn two_digits(value: f64) -> String {
    special(value).unwrap_or_else(|| {
        let rounded = format!("{value:.1e}").parse().unwrap_or(value);
        let text = shortest(rounded);
        // Two digits reach up to 99; what is larger has an exponent.
        if rounded.abs() < 100.0 || text.contains('e') { text } else { exponential(rounded) }
    })
}

/// `%e` with as many digits as needed.
fn exponential(value: f64) -> String {
    let scientific = format!("{value:e}");
    let Some((mantissa, exponent)) = scientific.split_once('e') else { return scientific };
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{mantissa}e{sign}{:02}", exponent.abs())
}

/// `%g`: as many digits as needed, with an exponent below 10⁻⁴ and from 10⁶ on.
pub(crate) fn shortest(value: f64) -> String {
    if let Some(text) = special(value) {
        return text;
    }
    if value == 0.0 || (1e-4..1e6).contains(&value.abs()) {
        return value.to_string();
    }
    exponential(value)
}

/// A histogram as Prometheus prints it: `{count:3, sum:2.5, [-0.1,0.1]:1, (0.5,1]:2}`, buckets
/// without observations left out.
pub fn histogram_text(histogram: &FloatHistogram) -> String {
    let mut out = format!("{{count:{}, sum:{}", shortest(histogram.count), shortest(histogram.sum));
    for bucket in histogram.listed_buckets().filter(|bucket| bucket.count != 0.0) {
        let (open, close) =
            (if bucket.has_lower { '[' } else { '(' }, if bucket.has_upper { ']' } else { ')' });
        let [lower, upper, count] = [bucket.lower, bucket.upper, bucket.count].map(shortest);
        out.push_str(&format!(", {open}{lower},{upper}{close}:{count}"));
    }
    out.push('}');
    out
}

/// A float as OpenMetrics writes it: like `%g`, with `.0` behind whole numbers.
pub(crate) fn open_metrics(value: f64) -> String {
    let text = shortest(value);
    if value.is_finite() && !text.contains(['e', '.']) { text + ".0" } else { text }
}

fn special(value: f64) -> Option<String> {
    if value.is_nan() {
        Some("NaN".to_owned())
    } else if value == f64::INFINITY {
        Some("+Inf".to_owned())
    } else if value == f64::NEG_INFINITY {
        Some("-Inf".to_owned())
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_look_like_go() {
        assert_eq!(plain(1e21), "1000000000000000000000");
        assert_eq!(plain(f64::NEG_INFINITY), "-Inf");
        assert_eq!(plain(0.1), "0.1");
        assert_eq!(shortest(-1.1), "-1.1");
        assert_eq!(shortest(1_234_567.0), "1.234567e+06");
        assert_eq!(shortest(123_456.0), "123456");
        assert_eq!(shortest(1.5e-7), "1.5e-07");
        assert_eq!(two_digits(0.012_34), "0.012");
        assert_eq!(two_digits(1_234.0), "1.2e+03");
        assert_eq!(two_digits(20.0), "20");
        assert_eq!(open_metrics(1.0), "1.0");
        assert_eq!(open_metrics(0.99), "0.99");
    }

    #[test]
    fn names_are_quoted() {
        assert_eq!(quoted("a\"b\\\n"), r#""a\"b\\\n""#);
        let labels = Labels::from_pairs([("__name__", "up"), ("a.b", "c\"d")]).expect("two names");
        assert_eq!(label_set(&labels), r#"{__name__="up", "a.b"="c\"d"}"#);
        assert_eq!(label_set(&Labels::empty()), "{}");
    }
}
