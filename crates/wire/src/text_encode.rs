//! Writes Prometheus' text format 0.0.4.
//!
//! Source: <https://prometheus.io/docs/instrumenting/exposition_formats/>. Names outside the
//! legacy character set are quoted as Prometheus 3 reads them: `{"my.metric",a="b"}`.

use std::io::Write;

use model::is_legacy_metric_name;

/// The content type of what [`TextEncoder`] writes.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Appends families and samples to a buffer; what it writes is UTF-8.
///
/// The caller keeps the format's order: a family first, then all its samples.
#[derive(Debug)]
pub struct TextEncoder<'a> {
    out: &'a mut Vec<u8>,
}

impl<'a> TextEncoder<'a> {
    /// Writes behind what `out` already holds.
    pub fn new(out: &'a mut Vec<u8>) -> Self {
        TextEncoder { out }
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
            if is_legacy_metric_name(label) && !label.contains(':') {
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

    fn family_name(&mut self, name: &str) {
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
    let scientific = format!("{value:e}");
    let (digits, exponent) = scientific.split_once('e').expect("`e` formatting has an exponent");
    let exponent: i32 = exponent.parse().expect("`e` formatting has an integer exponent");
    // Go decides by the exponent as if the precision were six.
    if value != 0.0 && !(-4..6).contains(&exponent) {
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{digits}e{sign}{:02}", exponent.abs());
    }
    let plain = format!("{value}");
    if plain.contains('.') { plain } else { plain + ".0" }
}

#[cfg(test)]
mod tests {
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
}
