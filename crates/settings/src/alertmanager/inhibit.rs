//! The section `inhibit_rules`: alerts that mute others.

use super::route::{label_names, read_match, read_match_re, read_matchers};
use super::{LabelMatcher, MatcherMode};
use crate::yaml::Section;

/// Alerts that match the target are muted while an alert that matches a source fires, if both have
/// the same values for the labels that must be equal.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InhibitRule {
    /// A name for people; may be empty.
    pub name: String,
    /// The alerts that mute; one source, unless several are listed under `sources`, all of which
    /// must then fire.
    pub sources: Vec<InhibitSource>,
    /// The alerts that are muted; sorted.
    pub target_matchers: Vec<LabelMatcher>,
}

/// Alerts that mute.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InhibitSource {
    /// What they match; sorted.
    pub matchers: Vec<LabelMatcher>,
    /// Labels whose values are the same in both alerts; sorted, each once.
    pub equal: Vec<String>,
}

/// Reads `inhibit_rules`.
pub(super) fn read(root: &mut Section<'_>, mode: MatcherMode) -> Vec<InhibitRule> {
    let context = root.context;
    let mut rules = Vec::new();
    for node in root.items("inhibit_rules") {
        let Some(mut section) = Section::open(context, node, "config.plain") else { continue };
        rules.push(read_rule(&mut section, mode));
        section.finish();
    }
    rules
}

fn read_rule(section: &mut Section<'_>, mode: MatcherMode) -> InhibitRule {
    let context = section.context;
    let mut target_matchers = read_match(section, "target_match");
    target_matchers.extend(read_match_re(section, "target_match_re"));
    target_matchers.extend(read_matchers(section, "target_matchers", mode));
    target_matchers.sort();
    let mut source = InhibitSource {
        matchers: read_match(section, "source_match"),
        equal: read_equal(section, mode),
    };
    source.matchers.extend(read_match_re(section, "source_match_re"));
    source.matchers.extend(read_matchers(section, "source_matchers", mode));
    source.matchers.sort();
    let listed = section.is_set("sources");
    let mut sources = Vec::new();
    for node in section.items("sources") {
        let Some(mut inner) = Section::open(context, node, "config.plain") else { continue };
        let mut matchers = read_matchers(&mut inner, "matchers", mode);
        matchers.extend(read_matchers(&mut inner, "source_matchers", mode));
        matchers.sort();
        let equal = read_equal(&mut inner, mode);
        if matchers.is_empty() {
            let message = "a source without matchers";
            inner.fault("matchers", message, Some("add matchers: [name=\"value\"]"));
        }
        inner.finish();
        sources.push(InhibitSource { matchers, equal });
    }
    if listed && !(source.matchers.is_empty() && source.equal.is_empty()) {
        let message = "sources cannot be used together with source_match, source_match_re, \
                       source_matchers or equal";
        section.fault("sources", message, Some("move those keys into one of the sources"));
    }
    if !listed {
        sources.push(source);
    }
    InhibitRule { name: section.value("name"), sources, target_matchers }
}

fn read_equal(section: &mut Section<'_>, mode: MatcherMode) -> Vec<String> {
    let mut equal = label_names(section, "equal", mode, "equal list");
    equal.sort();
    equal.dedup();
    equal
}
