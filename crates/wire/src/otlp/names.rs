//! Names of OTLP to names of Prometheus.
//!
//! Source: <https://opentelemetry.io/docs/specs/otel/compatibility/prometheus_and_openmetrics/> and
//! the behaviour of Prometheus' `otlptranslator`.

/// How names of OTLP become names of Prometheus; `otlp.translation_strategy` of its configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TranslationStrategy {
    /// Other characters become `_`, unit and type are appended.
    #[default]
    UnderscoreEscapingWithSuffixes,
    /// Other characters become `_`, nothing is appended.
    UnderscoreEscapingWithoutSuffixes,
    /// Names stay, unit and type are appended.
    NoUtf8EscapingWithSuffixes,
    /// Names stay.
    NoTranslation,
}

impl TranslationStrategy {
    fn escapes(self) -> bool {
        matches!(
            self,
            TranslationStrategy::UnderscoreEscapingWithSuffixes
                | TranslationStrategy::UnderscoreEscapingWithoutSuffixes
        )
    }

    fn has_suffixes(self) -> bool {
        matches!(
            self,
            TranslationStrategy::UnderscoreEscapingWithSuffixes
                | TranslationStrategy::NoUtf8EscapingWithSuffixes
        )
    }
}

/// What decides a metric's suffixes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Gauge,
    Counter,
    Other,
}

/// UCUM units and what Prometheus calls them.
const UNITS: &[(&str, &str)] = &[
    ("d", "days"),
    ("h", "hours"),
    ("min", "minutes"),
    ("s", "seconds"),
    ("ms", "milliseconds"),
    ("us", "microseconds"),
    ("ns", "nanoseconds"),
    ("By", "bytes"),
    ("KiBy", "kibibytes"),
    ("MiBy", "mebibytes"),
    ("GiBy", "gibibytes"),
    ("TiBy", "tebibytes"),
    ("kBy", "kilobytes"),
    ("KBy", "kilobytes"),
    ("MBy", "megabytes"),
    ("GBy", "gigabytes"),
    ("TBy", "terabytes"),
    ("m", "meters"),
    ("V", "volts"),
    ("A", "amperes"),
    ("J", "joules"),
    ("W", "watts"),
    ("g", "grams"),
    ("Cel", "celsius"),
    ("Hz", "hertz"),
    ("1", ""),
    ("%", "percent"),
];

/// Units behind a `/`.
const PER_UNITS: &[(&str, &str)] = &[
    ("s", "second"),
    ("m", "minute"),
    ("h", "hour"),
    ("d", "day"),
    ("w", "week"),
    ("mo", "month"),
    ("y", "year"),
];

fn looked_up(table: &[(&'static str, &'static str)], unit: &str) -> String {
    let known = table.iter().find(|(ucum, _)| *ucum == unit);
    known.map_or(unit, |(_, name)| name).to_owned()
}

/// The suffix of a unit, and that of what it is divided by (`per_second`); empty where there is
/// none. Units in braces are annotations and name nothing.
fn unit_suffixes(unit: &str) -> (String, String) {
    let (main, per) = unit.split_once('/').unwrap_or((unit, ""));
    let named = |part: &str, table| {
        let part = part.trim();
        if part.is_empty() || part.contains(['{', '}']) {
            String::new()
        } else {
            looked_up(table, part)
        }
    };
    let per = named(per, PER_UNITS);
    let per = if per.is_empty() { per } else { format!("per_{per}") };
    (named(main, UNITS), per)
}

/// The unit as metadata tells it.
pub(super) fn unit_name(unit: &str) -> String {
    let (main, per) = unit_suffixes(unit);
    let (main, per) = (cleaned(&main), cleaned(&per));
    let joined = if main.is_empty() || per.is_empty() { main + &per } else { main + "_" + &per };
    joined.trim_matches('_').to_owned()
}

fn is_metric_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == ':'
}

/// A unit with other characters replaced, runs of `_` as one, and none in front.
fn cleaned(unit: &str) -> String {
    let mut out = String::with_capacity(unit.len());
    for c in unit.chars() {
        let c = if is_metric_char(c) { c } else { '_' };
        if c != '_' || !out.ends_with('_') {
            out.push(c);
        }
    }
    out.strip_prefix('_').map_or(out.clone(), str::to_owned)
}

/// The name of a metric; `None` if nothing is left of it.
pub(super) fn metric_name(
    name: &str,
    unit: &str,
    kind: Kind,
    strategy: TranslationStrategy,
) -> Option<String> {
    let built = match (strategy.escapes(), strategy.has_suffixes()) {
        (false, false) => name.to_owned(),
        (false, true) => with_suffixes(name, unit, kind),
        (true, true) => normalized(name, unit, kind),
        (true, false) => {
            let is_kept = |c: char| is_metric_char(c) || c == '_';
            let parts: Vec<_> =
                name.split(|c| !is_kept(c)).filter(|part| !part.is_empty()).collect();
            after_digit(parts.join("_"))
        }
    };
    let is_only_underscores =
        strategy.escapes() && built != name && built.bytes().all(|b| b == b'_');
    (!built.is_empty() && !is_only_underscores).then_some(built)
}

/// A name that begins with a digit gets a `_` before it.
fn after_digit(name: String) -> String {
    if name.starts_with(|c: char| c.is_ascii_digit()) { format!("_{name}") } else { name }
}

fn normalized(name: &str, unit: &str, kind: Kind) -> String {
    let mut tokens: Vec<String> = name
        .split(|c| !is_metric_char(c))
        .filter(|token| !token.is_empty())
        .map(str::to_owned)
        .collect();
    let (main, per) = unit_suffixes(unit);
    let (mut main, mut per) = (cleaned(&main), cleaned(&per));
    if tokens.contains(&main) {
        main.clear();
    }
    let trimmed = |text: &str| text.strip_suffix('_').unwrap_or(text).to_owned();
    per = if per == "per_" { String::new() } else { trimmed(&per) };
    if tokens.contains(&per) {
        per.clear();
    }
    if !per.is_empty() {
        main = trimmed(&main);
    }
    tokens.extend([main, per].into_iter().filter(|suffix| !suffix.is_empty()));
    let last = match kind {
        Kind::Counter => Some("total"),
        Kind::Gauge if unit == "1" => Some("ratio"),
        Kind::Gauge | Kind::Other => None,
    };
    if let Some(last) = last {
        tokens.retain(|token| token != last);
        tokens.push(last.to_owned());
    }
    after_digit(tokens.join("_"))
}

/// Suffixes on a name whose characters stay as they are.
fn with_suffixes(name: &str, unit: &str, kind: Kind) -> String {
    fn without(name: &str, suffix: &str) -> String {
        let is_longer = name.len() > suffix.len() + 1;
        let rest = name.strip_suffix(suffix).filter(|_| is_longer);
        // With the character before it, which is taken for a delimiter.
        rest.and_then(|rest| Some(&rest[..rest.char_indices().next_back()?.0]))
            .unwrap_or(name)
            .to_owned()
    }
    let last = match kind {
        Kind::Counter => "total",
        Kind::Gauge if unit == "1" => "ratio",
        Kind::Gauge | Kind::Other => "",
    };
    let (main, per) = unit_suffixes(unit);
    let mut out = name.to_owned();
    for suffix in [last, per.as_str()].into_iter().filter(|suffix| !suffix.is_empty()) {
        out = without(&out, suffix);
    }
    if !main.is_empty() && !out.ends_with(&main) {
        out = out + "_" + &main;
    }
    for suffix in [per.as_str(), last].into_iter().filter(|suffix| !suffix.is_empty()) {
        out = out + "_" + suffix;
    }
    out
}

/// How label names are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LabelRules {
    pub(super) escapes: bool,
    /// `key` before names that begin with one `_`.
    pub(super) marks_underscore: bool,
    /// Runs of `_` stay.
    pub(super) keeps_runs: bool,
}

impl LabelRules {
    pub(super) fn new(
        strategy: TranslationStrategy,
        marks_underscore: bool,
        keeps_runs: bool,
    ) -> Self {
        LabelRules { escapes: strategy.escapes(), marks_underscore, keeps_runs }
    }

    /// Appends the label name for an attribute's key.
    pub(super) fn append(&self, key: &[u8], out: &mut Vec<u8>) {
        if !self.escapes {
            out.extend_from_slice(key);
            return;
        }
        let text = std::str::from_utf8(key).unwrap_or("");
        let first = text.chars().next().unwrap_or('_');
        let second_is_plain =
            text.chars().nth(1).is_none_or(|c| c.is_ascii_alphanumeric()) || text.len() == 1;
        if first.is_ascii_digit() {
            out.extend_from_slice(b"key_");
        } else if self.marks_underscore && !first.is_ascii_alphanumeric() && second_is_plain {
            out.extend_from_slice(b"key");
        }
        let start = out.len();
        for c in text.chars() {
            let byte = if c.is_ascii_alphanumeric() { c as u8 } else { b'_' };
            if byte != b'_' || self.keeps_runs || out.len() == start || out.last() != Some(&b'_') {
                out.push(byte);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use TranslationStrategy::{
        NoTranslation, NoUtf8EscapingWithSuffixes, UnderscoreEscapingWithSuffixes,
        UnderscoreEscapingWithoutSuffixes,
    };

    #[test]
    fn metrics_are_named_as_prometheus_names_them() {
        let cases = [
            ("http.server.duration", "s", Kind::Other, "http_server_duration_seconds"),
            ("requests", "1", Kind::Counter, "requests_total"),
            ("requests.total", "{request}", Kind::Counter, "requests_total"),
            ("system.network.io", "By", Kind::Counter, "system_network_io_bytes_total"),
            ("cpu.utilization", "1", Kind::Gauge, "cpu_utilization_ratio"),
            ("disk.rate", "By/s", Kind::Gauge, "disk_rate_bytes_per_second"),
            ("hits", "1/s", Kind::Gauge, "hits_per_second"),
            ("memory_bytes", "By", Kind::Gauge, "memory_bytes"),
            ("__a__b", "", Kind::Gauge, "a_b"),
            ("3d.points", "", Kind::Gauge, "_3d_points"),
            ("load", "%", Kind::Gauge, "load_percent"),
            ("odd", "foo bar/baz", Kind::Gauge, "odd_foo_bar_per_baz"),
        ];
        for (name, unit, kind, wanted) in cases {
            let built = metric_name(name, unit, kind, UnderscoreEscapingWithSuffixes);
            assert_eq!(built.as_deref(), Some(wanted), "{name} {unit}");
        }
        let name = |name, unit, kind, strategy| metric_name(name, unit, kind, strategy);
        assert_eq!(
            name("a.b", "s", Kind::Counter, NoUtf8EscapingWithSuffixes).as_deref(),
            Some("a.b_seconds_total")
        );
        assert_eq!(
            name("a.seconds.total", "s", Kind::Counter, NoUtf8EscapingWithSuffixes).as_deref(),
            Some("a.seconds_total")
        );
        assert_eq!(
            name("a.b", "s", Kind::Counter, UnderscoreEscapingWithoutSuffixes).as_deref(),
            Some("a_b")
        );
        assert_eq!(name("a.b", "s", Kind::Counter, NoTranslation).as_deref(), Some("a.b"));
        assert_eq!(name("...", "", Kind::Gauge, UnderscoreEscapingWithSuffixes), None);
        assert_eq!(name("", "", Kind::Gauge, NoTranslation), None);
    }

    #[test]
    fn units_are_named() {
        for (unit, wanted) in [
            ("s", "seconds"),
            ("By/s", "bytes_per_second"),
            ("1", ""),
            ("{x}", ""),
            ("1/s", "per_second"),
        ] {
            assert_eq!(unit_name(unit), wanted, "{unit}");
        }
    }

    #[test]
    fn labels_are_named_as_prometheus_names_them() {
        let rules = LabelRules::new(UnderscoreEscapingWithSuffixes, true, true);
        let named = |rules: LabelRules, key: &str| {
            let mut out = Vec::new();
            rules.append(key.as_bytes(), &mut out);
            String::from_utf8(out).expect("ASCII, or what came")
        };
        for (key, wanted) in [
            ("http.method", "http_method"),
            ("1st", "key_1st"),
            ("_private", "key_private"),
            ("__reserved", "__reserved"),
            ("a..b", "a__b"),
            ("é", "key_"),
        ] {
            assert_eq!(named(rules, key), wanted, "{key}");
        }
        let collapsing = LabelRules { keeps_runs: false, marks_underscore: false, ..rules };
        assert_eq!(named(collapsing, "a..b"), "a_b");
        assert_eq!(named(collapsing, "_a"), "_a");
        let verbatim = LabelRules::new(NoUtf8EscapingWithSuffixes, true, true);
        assert_eq!(named(verbatim, "http.méthod"), "http.méthod");
    }
}
