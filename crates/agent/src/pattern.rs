//! Regular expressions over names of devices, filesystems and units.

use std::fmt;

use regex::bytes::Regex;
use serde::Deserialize;

/// A regular expression in the configuration, searched in a name unless it has anchors, as Node
/// Exporter's flags are.
#[derive(Clone, Deserialize)]
#[serde(try_from = "String")]
pub struct Pattern(Regex);

impl Pattern {
    /// Whether the expression is found in `name`.
    pub fn is_match(&self, name: &[u8]) -> bool {
        self.0.is_match(name)
    }
}

impl TryFrom<String> for Pattern {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        Pattern::try_from(text.as_str())
    }
}

impl TryFrom<&str> for Pattern {
    type Error = String;

    fn try_from(text: &str) -> Result<Self, String> {
        Regex::new(text).map(Pattern).map_err(|error| {
            // The first lines show the expression, the last says what is wrong with it.
            let message = error.to_string();
            let cause = message.lines().last().unwrap_or_default().trim_start_matches("error: ");
            format!("{text:?} is no regular expression: {cause}")
        })
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.0.as_str(), f)
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_str() == other.0.as_str()
    }
}

impl Eq for Pattern {}

/// Which names a collector takes. The default takes what the collector's own default takes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct NameFilter {
    pub(crate) include: Option<Pattern>,
    pub(crate) exclude: Option<Pattern>,
}

impl NameFilter {
    pub(crate) fn new(include: &Option<Pattern>, exclude: &Option<Pattern>) -> Self {
        NameFilter { include: include.clone(), exclude: exclude.clone() }
    }

    /// Whether `name` is taken; `excluded` is the collector's own exclusion, which holds where
    /// the configuration states none.
    pub(crate) fn takes_unless(&self, name: &[u8], excluded: impl FnOnce(&[u8]) -> bool) -> bool {
        match (&self.include, &self.exclude) {
            (None, None) => !excluded(name),
            (include, exclude) => {
                include.as_ref().is_none_or(|pattern| pattern.is_match(name))
                    && !exclude.as_ref().is_some_and(|pattern| pattern.is_match(name))
            }
        }
    }

    /// The same where nothing is excluded by default.
    pub(crate) fn takes(&self, name: &str) -> bool {
        self.takes_unless(name.as_bytes(), |_| false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_takes_what_it_includes_and_does_not_exclude() {
        let pattern = |text: &str| Some(Pattern::try_from(text).expect("valid"));
        let check = |include, exclude, want: &[&str]| {
            let filter = NameFilter { include, exclude };
            let own = |name: &[u8]| name == b"lo";
            let names = ["lo", "eth0", "eth10", "veth0"];
            let taken = names.into_iter().filter(|name| filter.takes_unless(name.as_bytes(), own));
            assert_eq!(taken.collect::<Vec<_>>(), want);
        };
        check(None, None, &["eth0", "eth10", "veth0"]);
        check(pattern("^eth"), None, &["eth0", "eth10"]);
        check(None, pattern("^veth"), &["lo", "eth0", "eth10"]);
        check(pattern("eth"), pattern("10$"), &["eth0", "veth0"]);
    }

    #[test]
    fn a_wrong_expression_is_named() {
        let message = Pattern::try_from("eth(").expect_err("unclosed");
        assert_eq!(message, r#""eth(" is no regular expression: unclosed group"#);
    }
}
