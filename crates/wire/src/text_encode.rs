//! Writes Prometheus' text format 0.0.4.
//!
//! Source: <https://prometheus.io/docs/instrumenting/exposition_formats/>. Names outside the
//! legacy character set are quoted as Prometheus 3 reads them: `{"my.metric",a="b"}`.

use std::fmt::Write;

use model::is_legacy_metric_name;

/// The content type of what [`TextEncoder`] writes.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Appends families and samples to a string.
///
/// The caller keeps the format's order: a family first, then all its samples.
#[derive(Debug)]
pub struct TextEncoder<'a> {
    out: &'a mut String,
}

impl<'a> TextEncoder<'a> {
    /// Writes behind what `out` already holds.
    pub fn new(out: &'a mut String) -> Self {
        TextEncoder { out }
    }

    /// Begins a family: its `HELP` and `TYPE` lines. `kind` is `counter`, `gauge`, `histogram`,
    /// `summary` or `untyped`.
    pub fn family(&mut self, name: &str, kind: &str, help: &str) {
        self.out.push_str("# HELP ");
        self.family_name(name);
        self.out.push(' ');
        escape(self.out, help, false);
        self.out.push_str("\n# TYPE ");
        self.family_name(name);
        self.out.push(' ');
        self.out.push_str(kind);
        self.out.push('\n');
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
            self.out.push('{');
            self.quote(name);
        } else {
            self.out.push_str(name);
        }
        for (label, text) in labels {
            self.out.push(if open { ',' } else { '{' });
            open = true;
            if is_legacy_metric_name(label) && !label.contains(':') {
                self.out.push_str(label);
            } else {
                self.quote(label);
            }
            self.out.push('=');
            self.quote(text);
        }
        if open {
            self.out.push('}');
        }
        self.out.push(' ');
        push_float(self.out, value);
        if let Some(t_ms) = t_ms {
            write!(self.out, " {t_ms}").expect("a String takes every write");
        }
        self.out.push('\n');
    }

    fn family_name(&mut self, name: &str) {
        if is_legacy_metric_name(name) {
            self.out.push_str(name);
        } else {
            self.quote(name);
        }
    }

    fn quote(&mut self, text: &str) {
        self.out.push('"');
        escape(self.out, text, true);
        self.out.push('"');
    }
}

fn escape(out: &mut String, text: &str, quotes: bool) {
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '"' if quotes => out.push_str("\\\""),
            c => out.push(c),
        }
    }
}

/// Shortest text that reads back as the same value; large and small magnitudes with an exponent.
fn push_float(out: &mut String, value: f64) {
    if value.is_nan() {
        out.push_str("NaN");
    } else if value.is_infinite() {
        out.push_str(if value > 0.0 { "+Inf" } else { "-Inf" });
    } else {
        let magnitude = value.abs();
        let plain = value == 0.0 || (1e-5..1e21).contains(&magnitude);
        if plain { write!(out, "{value}") } else { write!(out, "{value:e}") }
            .expect("a String takes every write");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_what_prometheus_reads() {
        let mut out = String::new();
        let mut encoder = TextEncoder::new(&mut out);
        encoder.family("a_total", "counter", "Help with \\ and\nnewline \"q\".");
        encoder.sample("a_total", &[("x", "1\"\\\n")], 3.0);
        encoder.sample_at("a_total", [], 1e300, Some(-5));
        encoder.family("my.metric", "gauge", "");
        encoder.sample("my.metric", &[("dotted.name", "é")], f64::NEG_INFINITY);
        assert_eq!(
            out,
            "# HELP a_total Help with \\\\ and\\nnewline \"q\".\n# TYPE a_total counter\n\
             a_total{x=\"1\\\"\\\\\\n\"} 3\na_total 1e300 -5\n# HELP \"my.metric\" \n\
             # TYPE \"my.metric\" gauge\n{\"my.metric\",\"dotted.name\"=\"é\"} -Inf\n"
        );
    }
}
