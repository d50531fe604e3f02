//! Writes Prometheus' text format 0.0.4.
//!
//! Source: <https://prometheus.io/docs/instrumenting/exposition_formats/>. Names outside the
//! legacy character set are quoted as Prometheus 3 reads them: `{"my.metric",a="b"}`.

use std::io::Write;

use model::{FloatHistogram, is_legacy_label_name, is_legacy_metric_name};

use crate::name_escaping::NameEscaping;

/// The content type of what [`TextEncoder`] writes.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Appends families and samples to a buffer; what it writes is UTF-8.
///
/// The caller keeps the format's order: a family first, then all its samples.
#[derive(Debug)]
pub struct TextEncoder<'a> {
    out: &'a mut Vec<u8>,
    names: NameEscaping,
}

impl<'a> TextEncoder<'a> {
    /// Writes behind what `out` already holds.
    pub fn new(out: &'a mut Vec<u8>) -> Self {
        TextEncoder { out, names: NameEscaping::AllowUtf8 }
    }

    /// Escapes names that readers before Prometheus 3 do not know. Without, none is.
    pub fn with_names(mut self, names: NameEscaping) -> Self {
        self.names = names;
        self
    }

    /// Begins a family: its `HELP` and `TYPE` lines. `kind` is `counter`, `gauge`, `histogram`,
    /// `summary` or `untyped`.
    pub fn family(&mut self, name: &str, kind: &str, help: &str) {
        self.out.extend_from_slice(b"# HELP ");
        self.family_name(name);
        self.out.push(b' ');
        escape(self.out, help, false);
        self.out.push(b'\n');
        self.family_type(name, kind);
    }

    /// Begins a family of which only the type is known.
    pub fn family_type(&mut self, name: &str, kind: &str) {
        self.out.extend_from_slice(b"# TYPE ");
        self.family_name(name);
        self.out.push(b' ');
        self.out.extend_from_slice(kind.as_bytes());
        self.out.push(b'\n');
    }

    /// One sample without a timestamp.
    pub fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: f64) {
        self.sample_at(name, labels.iter().copied(), value, None);
    }

    /// One sample with an optional timestamp in milliseconds.
    pub fn sample_at<'l>(
        &mut self,
        name: &str,
        labels: impl IntoIterator<Item = (&'l str, &'l str)>,
        value: f64,
        t_ms: Option<i64>,
    ) {
        let name = &*self.names.metric(name);
        let quoted = !is_legacy_metric_name(name);
        let mut open = quoted;
        if quoted {
            self.out.push(b'{');
            self.quote(name);
        } else {
            self.out.extend_from_slice(name.as_bytes());
        }
        for (label, text) in labels {
            self.out.push(if open { b',' } else { b'{' });
            open = true;
            let label = &*self.names.label(label);
            if is_legacy_label_name(label) {
                self.out.extend_from_slice(label.as_bytes());
            } else {
                self.quote(label);
            }
            self.out.push(b'=');
            self.quote(text);
        }
        if open {
            self.out.push(b'}');
        }
        self.out.push(b' ');
        push_float(self.out, value);
        if let Some(t_ms) = t_ms {
            write!(self.out, " {t_ms}").expect("a Vec takes every write");
        }
        self.out.push(b'\n');
    }

    /// A native histogram with custom bounds as the classic one it was, or would have been; its family
    /// has the type `histogram`.
    pub fn classic_histogram<'l, L>(
        &mut self,
        name: &str,
        labels: L,
        histogram: &FloatHistogram,
        t_ms: Option<i64>,
    ) where
        L: IntoIterator<Item = (&'l str, &'l str)> + Clone,
    {
        let (bucket, sum, count) =
            (format!("{name}_bucket"), format!("{name}_sum"), format!("{name}_count"));
        let bounds = classic_buckets(histogram).map(|(bound, below)| (go_float(bound), below));
        for (bound, below) in bounds.chain([("+Inf".to_owned(), histogram.count)]) {
            let mut with_bound: Vec<(&str, &str)> = labels.clone().into_iter().collect();
            with_bound.push(("le", &bound));
            self.sample_at(&bucket, with_bound, below, t_ms);
        }
        self.sample_at(&sum, labels.clone(), histogram.sum, t_ms);
        self.sample_at(&count, labels, histogram.count, t_ms);
    }

    fn family_name(&mut self, name: &str) {
        let name = &*self.names.metric(name);
        if is_legacy_metric_name(name) {
            self.out.extend_from_slice(name.as_bytes());
        } else {
            self.quote(name);
        }
    }

    fn quote(&mut self, text: &str) {
        self.out.push(b'"');
        escape(self.out, text, true);
        self.out.push(b'"');
    }
}

/// The finite bounds of a native histogram with custom ones, and how much is at or below each.
pub(crate) fn classic_buckets(histogram: &FloatHistogram) -> impl Iterator<Item = (f64, f64)> {
    let (mut buckets, mut below) = (histogram.buckets().peekable(), 0.0);
    histogram.layout.custom_bounds.iter().map(move |bound| {
        while let Some(bucket) = buckets.next_if(|bucket| bucket.upper <= *bound) {
            below += bucket.count;
        }
        (*bound, below)
    })
}

fn escape(out: &mut Vec<u8>, text: &str, quotes: bool) {
    for c in text.chars() {
        match c {
            '\\' => out.extend_from_slice(b"\\\\"),
            '\n' => out.extend_from_slice(b"\\n"),
            '"' if quotes => out.extend_from_slice(b"\\\""),
            c => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
}

/// Shortest text that reads back as the same value; large and small magnitudes with an exponent.
fn push_float(out: &mut Vec<u8>, value: f64) {
    if value.is_nan() {
        out.extend_from_slice(b"NaN");
    } else if value.is_infinite() {
        out.extend_from_slice(if value > 0.0 { b"+Inf" } else { b"-Inf" });
    } else {
        let plain = value == 0.0 || (1e-5..1e21).contains(&value.abs());
        if plain { write!(out, "{value}") } else { write!(out, "{value:e}") }
            .expect("a Vec takes every write");
    }
}

/// A finite float as OpenMetrics writes it in `le` and `quantile`: Go's shortest `%g`, with `.0`
/// where it would look like an integer.
pub(crate) fn openmetrics_float(value: f64) -> String {
    let text = go_float(value);
    if text.contains(['.', 'e']) { text } else { text + ".0" }
}

/// A finite float as Go's shortest `%g`.
fn go_float(value: f64) -> String {
    let scientific = format!("{value:e}");
    let (digits, exponent) = scientific.split_once('e').expect("`e` formatting has an exponent");
    let exponent: i32 = exponent.parse().expect("`e` formatting has an integer exponent");
    // Go decides by the exponent as if the precision were six.
    if value != 0.0 && !(-4..6).contains(&exponent) {
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{digits}e{sign}{:02}", exponent.abs());
    }
    format!("{value}")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use model::{BucketLayout, Span};

    use super::*;

    #[test]
    fn writes_what_prometheus_reads() {
        let mut out = Vec::new();
        let mut encoder = TextEncoder::new(&mut out);
        encoder.family("a_total", "counter", "Help with \\ and\nnewline \"q\".");
        encoder.sample("a_total", &[("x", "1\"\\\n")], 3.0);
        encoder.sample_at("a_total", [], 1e300, Some(-5));
        encoder.family("my.metric", "gauge", "");
        encoder.sample("my.metric", &[("dotted.name", "é")], f64::NEG_INFINITY);
        assert_eq!(
            String::from_utf8(out).expect("text is UTF-8"),
            "# HELP a_total Help with \\\\ and\\nnewline \"q\".\n# TYPE a_total counter\n\
             a_total{x=\"1\\\"\\\\\\n\"} 3\na_total 1e300 -5\n# HELP \"my.metric\" \n\
             # TYPE \"my.metric\" gauge\n{\"my.metric\",\"dotted.name\"=\"é\"} -Inf\n"
        );
    }
    #[test]
    fn names_are_escaped_where_that_is_wanted() {
        let mut out = Vec::new();
        let mut encoder = TextEncoder::new(&mut out).with_names(NameEscaping::Underscores);
        encoder.family_type("http.reqs", "untyped");
        encoder.sample("http.reqs", &[("my.label", "a.b"), ("c:d", ""), ("job", "j")], 1.0);
        assert_eq!(
            String::from_utf8(out).expect("text is UTF-8"),
            "# TYPE http_reqs untyped\nhttp_reqs{my_label=\"a.b\",c_d=\"\",job=\"j\"} 1\n"
        );
    }

    #[test]
    fn custom_bounds_are_classic_buckets_in_text() {
        let layout = BucketLayout {
            schema: model::histogram::CUSTOM_BUCKETS_SCHEMA,
            positive: vec![Span { offset: 1, len: 1 }, Span { offset: 1, len: 1 }],
            custom_bounds: vec![0.5, 1.0, 1e6],
            ..BucketLayout::default()
        };
        let mut histogram = FloatHistogram::empty(Arc::new(layout));
        (histogram.count, histogram.sum, histogram.positive) = (5.5, 9.0, vec![2.0, 3.5]);
        let mut out = Vec::new();
        TextEncoder::new(&mut out).classic_histogram("h", [("a", "b")], &histogram, Some(7));
        assert_eq!(
            String::from_utf8(out).expect("text is UTF-8"),
            "h_bucket{a=\"b\",le=\"0.5\"} 0 7\nh_bucket{a=\"b\",le=\"1\"} 2 7\n\
             h_bucket{a=\"b\",le=\"1e+06\"} 2 7\nh_bucket{a=\"b\",le=\"+Inf\"} 5.5 7\n\
             h_sum{a=\"b\"} 9 7\nh_count{a=\"b\"} 5.5 7\n"
        );
    }
}
