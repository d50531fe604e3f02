//! Durations as Go's `time.ParseDuration` reads them: `500ms`, `1.5s`, `1h10m`. Some keys of
//! receivers have these instead of Prometheus' own.

use std::time::Duration;

use crate::yaml::{Context, FromNode, Node, Value};

/// Longest duration that is taken: a hundred years.
const MAX_NS: f64 = 100.0 * 365.0 * 86_400.0 * 1e9;

/// A duration in Go's notation, or whole nanoseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct GoDuration(pub(super) Duration);

impl FromNode for GoDuration {
    fn from_node(context: &Context<'_>, node: &Node) -> Option<Self> {
        if let Value::Scalar(scalar) = &node.value
            && let Some(ns) = scalar.integer()
            && let Ok(ns) = u64::try_from(ns)
            && ns as f64 <= MAX_NS
        {
            return Some(GoDuration(Duration::from_nanos(ns)));
        }
        let text = String::from_node(context, node)?;
        let parsed = parse(&text).map(GoDuration);
        if parsed.is_none() {
            let message = format!("time: invalid duration {text:?}");
            let help = "write numbers with units: 500ms, 1.5s, 1h10m (ns, us, ms, s, m, h)";
            context.fault(node.span, message, Some(help.to_owned()));
        }
        parsed
    }
}

fn parse(text: &str) -> Option<Duration> {
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    if rest == "0" {
        return Some(Duration::ZERO);
    }
    let mut ns = 0.0_f64;
    while !rest.is_empty() {
        let unit_at = rest.find(|c: char| !(c.is_ascii_digit() || c == '.'))?;
        let number: f64 = rest[..unit_at].parse().ok()?;
        let tail = &rest[unit_at..];
        let unit_end = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
        let unit = match &tail[..unit_end] {
            "ns" => 1.0,
            "us" | "µs" | "μs" => 1e3,
            "ms" => 1e6,
            "s" => 1e9,
            "m" => 60e9,
            "h" => 3_600e9,
            _ => return None,
        };
        ns += number * unit;
        rest = &tail[unit_end..];
    }
    (!text.is_empty() && text != "+" && ns <= MAX_NS).then(|| Duration::from_nanos(ns as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_go_reads() {
        for (text, ms) in
            [("500ms", 500), ("1.5s", 1_500), ("1h10m", 4_200_000), ("0", 0), ("+2m", 120_000)]
        {
            assert_eq!(parse(text), Some(Duration::from_millis(ms)), "{text}");
        }
        for text in ["", "1", "1d", "-1s", "s", "1.2.3s", "99999999999h", "+", "é"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
