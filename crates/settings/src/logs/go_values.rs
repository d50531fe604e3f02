//! Values as Go programs read them.

use std::time::Duration;

use crate::yaml::{Context, FromNode, Node};

/// A duration as Go's `time.ParseDuration` reads it: `1h30m`, `1.5s`, `300ms`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct GoDuration(pub(crate) Duration);

impl FromNode for GoDuration {
    fn from_node(context: &Context<'_>, node: &Node) -> Option<Self> {
        let text = String::from_node(context, node)?;
        let duration = parse_go_duration(&text);
        if duration.is_none() {
            let message = format!("time: invalid duration {text:?}");
            let help = "write numbers with units, such as 3s, 500ms or 1h30m".to_owned();
            context.fault(node.span, message, Some(help));
        }
        duration.map(GoDuration)
    }
}

/// Reads a duration; `None` if it is none or less than zero.
pub(crate) fn parse_go_duration(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    let mut total_ns = 0_f64;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(|b| b.is_ascii_digit() || *b == b'.').count();
        let (number, tail) = rest.split_at(digits);
        let number: f64 = number.parse().ok()?;
        let unit = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit);
        let unit_ns = match unit {
            "ns" => 1.0,
            "us" | "µs" | "μs" => 1e3,
            "ms" => 1e6,
            "s" => 1e9,
            "m" => 60e9,
            "h" => 3_600e9,
            _ => return None,
        };
        total_ns += number * unit_ns;
        rest = tail;
    }
    (total_ns < i64::MAX as f64).then(|| Duration::from_nanos(total_ns.round() as u64))
}

/// A size as Promtail reads it: `8kb` is 8,000 bytes, `8KiB` 8,192, a number without a unit bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct HumanSize(pub(crate) u64);

impl FromNode for HumanSize {
    fn from_node(context: &Context<'_>, node: &Node) -> Option<Self> {
        let text = String::from_node(context, node)?;
        let size = parse_human_size(&text);
        if size.is_none() {
            let message = format!("{text:?} is not a size");
            let help = "write a number with a unit, such as 8KB or 1MiB".to_owned();
            context.fault(node.span, message, Some(help));
        }
        size.map(HumanSize)
    }
}

fn parse_human_size(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits =
        text.bytes().take_while(|b| b.is_ascii_digit() || matches!(b, b'.' | b',')).count();
    let (number, unit) = text.split_at(digits);
    let number: f64 = number.replace(',', "").parse().ok()?;
    let factor: f64 = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1.0,
        "k" | "kb" => 1e3,
        "ki" | "kib" => 1024.0,
        "m" | "mb" => 1e6,
        "mi" | "mib" => 1_048_576.0,
        "g" | "gb" => 1e9,
        "gi" | "gib" => 1_073_741_824.0,
        _ => return None,
    };
    let bytes = number * factor;
    (bytes < i64::MAX as f64).then_some(bytes as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_go_reads_them() {
        for (text, want) in [
            ("3s", Some(Duration::from_secs(3))),
            ("1h30m", Some(Duration::from_secs(5_400))),
            ("1.5s", Some(Duration::from_millis(1_500))),
            ("100us", Some(Duration::from_micros(100))),
            ("0", Some(Duration::ZERO)),
            ("0s", Some(Duration::ZERO)),
            ("", None),
            ("3", None),
            ("-3s", None),
            ("1d", None),
            ("s", None),
        ] {
            assert_eq!(parse_go_duration(text), want, "{text}");
        }
    }

    #[test]
    fn sizes_are_read_as_promtail_reads_them() {
        for (text, want) in [
            ("8kb", Some(8_000)),
            ("8 KiB", Some(8_192)),
            ("10", Some(10)),
            ("1.5MB", Some(1_500_000)),
            ("1x", None),
            ("", None),
        ] {
            assert_eq!(parse_human_size(text), want, "{text}");
        }
    }
}
