//! Names outside the legacy character set, for readers that do not know them.
//!
//! Prometheus reads `{"http.reqs"}` since 3.0; what is older fails on it. So a scraper says in `Accept`
//! how it wants such names, and one that says nothing gets underscores.
//!
//! Source: `EscapeName` in Prometheus' `common/model` and `Negotiate` in `common/expfmt`.

use std::borrow::Cow;

use model::{is_legacy_label_name, is_legacy_metric_name};

use crate::{protobuf_encode, text_encode};

/// What becomes of a name that older readers could not read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum NameEscaping {
    /// It stays, in quotation marks where the format has them.
    AllowUtf8,
    /// Every such character becomes `_`, which cannot be undone.
    #[default]
    Underscores,
    /// `.` becomes `_dot_`, `_` becomes `__`, and so does every other such character.
    Dots,
    /// `U__` is put before it, `_` becomes `__`, and every other such character `_` its code in
    /// hexadecimal digits `_`.
    Values,
}

impl NameEscaping {
    /// The scheme that `Accept` and `Content-Type` know by this name.
    fn named(name: &str) -> Option<Self> {
        let all = [Self::AllowUtf8, Self::Underscores, Self::Dots, Self::Values];
        all.into_iter().find(|one| one.as_str() == name)
    }

    /// As it is called in `Accept` and `Content-Type`.
    pub fn as_str(self) -> &'static str {
        match self {
            NameEscaping::AllowUtf8 => "allow-utf-8",
            NameEscaping::Underscores => "underscores",
            NameEscaping::Dots => "dots",
            NameEscaping::Values => "values",
        }
    }

    /// The name of a metric as this scheme has it; legacy names stay as they are.
    pub fn metric(self, name: &str) -> Cow<'_, str> {
        if self == NameEscaping::AllowUtf8 || is_legacy_metric_name(name) {
            return Cow::Borrowed(name);
        }
        Cow::Owned(self.escaped(name, true))
    }

    /// The name of a label. Colons are escaped too: Prometheus leaves them, and what it serves then is
    /// what a reader before 3.0 fails on.
    pub fn label(self, name: &str) -> Cow<'_, str> {
        if self == NameEscaping::AllowUtf8 || is_legacy_label_name(name) {
            return Cow::Borrowed(name);
        }
        Cow::Owned(self.escaped(name, false))
    }

    fn escaped(self, name: &str, may_have_colons: bool) -> String {
        let mut out = String::with_capacity(name.len() + 8);
        if self == NameEscaping::Values {
            out.push_str("U__");
        }
        for (place, c) in name.char_indices() {
            let is_legacy = c.is_ascii_alphabetic()
                || c == '_'
                || (c == ':' && may_have_colons)
                || (c.is_ascii_digit() && place > 0);
            match (self, c) {
                (NameEscaping::Underscores, _) => out.push(if is_legacy { c } else { '_' }),
                (_, '_') => out.push_str("__"),
                (NameEscaping::Dots, '.') => out.push_str("_dot_"),
                _ if is_legacy => out.push(c),
                (NameEscaping::Dots, _) => out.push_str("__"),
                _ => out.push_str(&format!("_{:x}_", u32::from(c))),
            }
        }
        out
    }
}

/// What a scraper is answered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Negotiated {
    /// Whether in delimited protobuf instead of the text format 0.0.4.
    pub is_protobuf: bool,
    /// With which names.
    pub escaping: NameEscaping,
}

impl Negotiated {
    /// The best of what `accept`, the values of the headers `Accept`, wants, if it is among what there
    /// is; text otherwise. A scheme of escaping that any of it names holds for all: Prometheus names it at
    /// the versions of text that have it, and reads the same names in protobuf, which comes before
    /// those. (Prometheus itself looks only at what comes first, and federates underscores then.)
    pub fn of<'a>(accept: impl IntoIterator<Item = &'a str>) -> Self {
        let clauses = accept.into_iter().flat_map(|value| value.split(','));
        let mut clauses: Vec<Clause> = clauses.map(Clause::parse).collect();
        clauses.sort_by(|a, b| b.quality.total_cmp(&a.quality));
        let chosen = clauses.iter().position(|clause| clause.is_protobuf || clause.is_text);
        let (before, behind) = clauses.split_at(chosen.map_or(clauses.len(), |place| place + 1));
        // The scheme nearest to what is chosen, those before it first.
        let mut named = before.iter().rev().chain(behind).filter_map(|clause| clause.escaping);
        let is_protobuf = chosen.is_some_and(|place| clauses[place].is_protobuf);
        Negotiated { is_protobuf, escaping: named.next().unwrap_or_default() }
    }

    /// As [`Negotiated::of`], where there is only text.
    pub fn text<'a>(accept: impl IntoIterator<Item = &'a str>) -> Self {
        Negotiated { is_protobuf: false, ..Self::of(accept) }
    }

    /// What the answer says it is.
    pub fn content_type(self) -> String {
        let kind = match self.is_protobuf {
            true => protobuf_encode::CONTENT_TYPE,
            false => text_encode::CONTENT_TYPE,
        };
        format!("{kind}; escaping={}", self.escaping.as_str())
    }
}

/// One of the things that `Accept` lists.
struct Clause {
    quality: f64,
    escaping: Option<NameEscaping>,
    is_protobuf: bool,
    is_text: bool,
}

impl Clause {
    fn parse(text: &str) -> Self {
        let mut parts = text.split(';').map(str::trim);
        let kind = parts.next().unwrap_or_default();
        let (mut quality, mut escaping, mut version) = (1.0, None, "");
        let (mut is_family, mut is_delimited) = (false, false);
        for (key, value) in parts.filter_map(|part| part.split_once('=')) {
            match key.trim() {
                "q" => quality = value.parse().ok().filter(|q: &f64| q.is_finite()).unwrap_or(1.0),
                "escaping" => escaping = NameEscaping::named(value),
                "version" => version = value,
                "proto" => is_family = value == "io.prometheus.client.MetricFamily",
                "encoding" => is_delimited = value == "delimited",
                _ => {}
            }
        }
        let is_protobuf = kind == "application/vnd.google.protobuf" && is_family && is_delimited;
        let is_text = kind == "text/plain" && matches!(version, "" | "0.0.4");
        Clause { quality, escaping, is_protobuf, is_text }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_escaped_as_prometheus_has_it() {
        use NameEscaping::{AllowUtf8, Dots, Underscores, Values};
        for (name, expected) in [
            (
                "http.reqs_total",
                ["http_reqs_total", "http_dot_reqs__total", "U__http_2e_reqs__total"],
            ),
            ("1ß:x y", ["__:x_y", "____:x__y", "U___31__df_:x_20_y"]),
            ("legacy:name_1", ["legacy:name_1"; 3]),
        ] {
            let found = [Underscores, Dots, Values].map(|scheme| scheme.metric(name).into_owned());
            assert_eq!(found, expected, "{name}");
            assert_eq!(AllowUtf8.metric(name), name);
        }
        assert_eq!(Underscores.label("a:b"), "a_b");
        assert_eq!(Values.label("a:b"), "U__a_3a_b");
        assert_eq!(Values.label("job"), "job");
    }

    #[test]
    fn the_best_that_there_is_is_answered() {
        let delimited = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;\
                         encoding=delimited";
        let of = |accept: &str| {
            let found = Negotiated::of([accept]);
            (found.is_protobuf, found.escaping.as_str())
        };
        // Prometheus 2.42, 3.14, 3.14 where it scrapes native histograms, curl.
        let old = "application/openmetrics-text;version=1.0.0,application/openmetrics-text;\
                   version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        assert_eq!(of(old), (false, "underscores"));
        let new = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,\
                   application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;\
                   escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
        assert_eq!(of(new), (false, "allow-utf-8"));
        assert_eq!(of(&format!("{delimited};escaping=values;q=0.7,{new}")), (true, "values"));
        assert_eq!(of(&format!("{delimited};q=0.7,{new}")), (true, "allow-utf-8"));
        assert_eq!(of(&format!("{delimited};q=0.9,{old}")), (true, "underscores"));
        assert_eq!(of("*/*"), (false, "underscores"));
        assert_eq!(of(""), (false, "underscores"));
        assert_eq!(of("text/plain;version=0.0.4;escaping=dots"), (false, "dots"));
        assert_eq!(of("text/plain; version=0.0.4; escaping=other"), (false, "underscores"));
        assert_eq!(of(&format!("text/plain;q=0.9,{delimited};q=0.5")), (false, "underscores"));
        assert!(of(&format!("{delimited};q=0.5,application/x;q=0.6,*/*;q=0.1")).0);
        assert!(!of("application/vnd.google.protobuf;encoding=text").0);
        assert!(!Negotiated::text([delimited]).is_protobuf);
        let text = Negotiated::of([old]).content_type();
        assert_eq!(text, "text/plain; version=0.0.4; charset=utf-8; escaping=underscores");
    }
}
