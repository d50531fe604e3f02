//! The section `route`: which alerts go to whom, and how they are grouped.

use std::path::Path;
use std::time::Duration;

use model::{Labels, MatchOp};

use super::{LabelMatcher, MatcherMode};
use crate::NameValidation;
use crate::diagnostic::{Faults, Severity};
use crate::yaml::{Context, Document, FromNode, Milliseconds, Node, Section, Span, pairs_of};

/// A node of the tree. What is `None` is inherited from the node above.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Route {
    /// Name of the receiver.
    pub receiver: Option<String>,
    /// What an alert has to match to enter; sorted.
    pub matchers: Vec<LabelMatcher>,
    /// Which labels make a group.
    pub group_by: GroupBy,
    /// How long a new group waits for more alerts.
    pub group_wait: Option<Duration>,
    /// How long a group waits before it tells of changes; never zero.
    pub group_interval: Option<Duration>,
    /// How long a group waits before it repeats what has not changed; never zero.
    pub repeat_interval: Option<Duration>,
    /// Names of intervals during which the route sends nothing.
    pub mute_time_intervals: Vec<String>,
    /// Names of intervals outside of which the route sends nothing; none for no restriction.
    pub active_time_intervals: Vec<String>,
    /// Whether an alert that entered tries the next route as well.
    pub continues: bool,
    /// Labels for people and metrics.
    pub labels: Labels,
    /// Nodes below.
    pub routes: Vec<Route>,
}

/// Which labels make a group.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum GroupBy {
    /// As the node above.
    #[default]
    Inherited,
    /// All of them: each alert is a group of its own.
    All,
    /// These; none for one group of all alerts.
    Labels(Vec<String>),
}

/// What routes name, with the places.
#[derive(Debug, Default)]
pub(super) struct Named {
    pub(super) receivers: Vec<(String, Span)>,
    pub(super) intervals: Vec<(String, Span)>,
}

/// Reads a document that is a route.
///
/// # Errors
/// All that is wrong, each with its place.
pub fn parse_route(file: &str, bytes: &[u8], mode: MatcherMode) -> Result<Route, Faults> {
    let document = Document::parse(file, bytes)?;
    let context = Context::new(document.source(), Path::new(""));
    let route = document.root().and_then(|node| read(&context, node, mode));
    let faults = context.finish().faults;
    if faults.is_empty() {
        Ok(route.map(|(route, _)| route).unwrap_or_default())
    } else {
        Err(Faults::new(faults))
    }
}

/// Reads the tree below a node.
pub(super) fn read(
    context: &Context<'_>,
    node: &Node,
    mode: MatcherMode,
) -> Option<(Route, Named)> {
    let mut named = Named::default();
    let route = read_node(context, node, mode, &mut named)?;
    Some((route, named))
}

/// Depth is bounded by that of the document.
fn read_node(
    context: &Context<'_>,
    node: &Node,
    mode: MatcherMode,
    named: &mut Named,
) -> Option<Route> {
    let mut section = Section::open(context, node, "config.plain")?;
    let receiver = section.read::<String>("receiver").filter(|name| !name.is_empty());
    if let Some(name) = &receiver {
        named.receivers.push((name.clone(), section.place("receiver")));
    }
    let mut matchers = read_match(&mut section, "match");
    matchers.extend(read_match_re(&mut section, "match_re"));
    matchers.extend(read_matchers(&mut section, "matchers", mode));
    matchers.sort();
    let route = Route {
        receiver,
        matchers,
        group_by: read_group_by(&mut section, mode),
        group_wait: read_duration(&mut section, "group_wait", true),
        group_interval: read_duration(&mut section, "group_interval", false),
        repeat_interval: read_duration(&mut section, "repeat_interval", false),
        mute_time_intervals: interval_names(&mut section, "mute_time_intervals", named),
        active_time_intervals: interval_names(&mut section, "active_time_intervals", named),
        continues: section.value("continue"),
        labels: read_route_labels(&mut section, mode),
        routes: section
            .items("routes")
            .into_iter()
            .filter_map(|node| read_node(context, node, mode, named))
            .collect(),
    };
    section.finish();
    Some(route)
}

fn read_duration(
    section: &mut Section<'_>,
    key: &'static str,
    may_be_zero: bool,
) -> Option<Duration> {
    let node = section.node(key).filter(|node| !node.is_null())?;
    let duration = Milliseconds::from_node(section.context, node)?.duration();
    if duration.is_zero() && !may_be_zero {
        let help = "write a duration such as 5m, or remove the key";
        section.fault(key, format!("{key} cannot be zero"), Some(help));
        return None;
    }
    Some(duration)
}

fn interval_names(section: &mut Section<'_>, key: &'static str, named: &mut Named) -> Vec<String> {
    let context = section.context;
    let mut names = Vec::new();
    for node in section.items(key) {
        let Some(name) = String::from_node(context, node) else { continue };
        named.intervals.push((name.clone(), node.span));
        names.push(name);
    }
    names
}

fn read_group_by(section: &mut Section<'_>, mode: MatcherMode) -> GroupBy {
    let context = section.context;
    let Some(node) = section.node("group_by").filter(|node| !node.is_null()) else {
        return GroupBy::Inherited;
    };
    let (mut all, mut labels) = (false, Vec::<String>::new());
    for item in crate::yaml::items_of(context, node) {
        let Some(name) = String::from_node(context, item) else { continue };
        if name == "..." {
            all = true;
        } else if !mode.is_label_name(&name) {
            let message = format!("invalid label name {name:?} in group_by list");
            context.fault(item.span, message, Some(names_help(mode)));
        } else if labels.contains(&name) {
            let message = format!("duplicated label {name:?} in group_by");
            context.fault(item.span, message, Some("name it once".to_owned()));
        } else {
            labels.push(name);
        }
    }
    if all && !labels.is_empty() {
        let message = "cannot have wildcard group_by (`...`) and other labels at the same time";
        let help = "keep `...` for a group per alert, or the labels";
        section.fault("group_by", message, Some(help));
    }
    if all { GroupBy::All } else { GroupBy::Labels(labels) }
}

fn names_help(mode: MatcherMode) -> String {
    match mode {
        MatcherMode::Classic => "letters, digits and `_`, not starting with a digit".to_owned(),
        _ => "a label name must not be empty".to_owned(),
    }
}

fn read_route_labels(section: &mut Section<'_>, mode: MatcherMode) -> Labels {
    let context = section.context;
    let Some(node) = section.node("labels") else { return Labels::empty() };
    for (key, _) in pairs_of(context, node) {
        let Some(name) = String::from_node(context, key) else { continue };
        if !mode.is_label_name(&name) {
            let message = format!("invalid label name {name:?} in route labels");
            context.fault(key.span, message, Some(names_help(mode)));
        }
    }
    crate::yaml::read_labels(context, node, NameValidation::Utf8)
}

/// Reads a list of names of labels, which stand `place`.
pub(super) fn label_names(
    section: &mut Section<'_>,
    key: &'static str,
    mode: MatcherMode,
    place: &str,
) -> Vec<String> {
    let context = section.context;
    let mut names = Vec::new();
    for node in section.items(key) {
        let Some(name) = String::from_node(context, node) else { continue };
        if !mode.is_label_name(&name) {
            let message = format!("invalid label name {name:?} in {place}");
            context.fault(node.span, message, Some(names_help(mode)));
            continue;
        }
        names.push(name);
    }
    names
}

/// Reads `match`: labels with values.
pub(super) fn read_match(section: &mut Section<'_>, key: &'static str) -> Vec<LabelMatcher> {
    old_matchers(section, key, MatchOp::Equal)
}

/// Reads `match_re`: labels with expressions.
pub(super) fn read_match_re(section: &mut Section<'_>, key: &'static str) -> Vec<LabelMatcher> {
    old_matchers(section, key, MatchOp::Regex)
}

fn old_matchers(section: &mut Section<'_>, key: &'static str, op: MatchOp) -> Vec<LabelMatcher> {
    let context = section.context;
    let Some(node) = section.node(key) else { return Vec::new() };
    let mut matchers = Vec::new();
    for (key, value) in pairs_of(context, node) {
        let Some(name) = String::from_node(context, key) else { continue };
        if !model::is_legacy_label_name(&name) {
            let help = "names of other letters can be had with matchers: ['\"name\"=\"value\"']";
            let message = format!("invalid label name {name:?}");
            context.fault(key.span, message, Some(help.to_owned()));
            continue;
        }
        let matcher = if value.is_null() {
            if op == MatchOp::Regex {
                let message = format!("invalid regexp value for {name:?}");
                context.fault(key.span, message, Some("write an expression".to_owned()));
                continue;
            }
            LabelMatcher::new(name, op, "")
        } else {
            let Some(text) = String::from_node(context, value) else { continue };
            // Alertmanager anchors these once more than others, which shows in keys of routes.
            let text = if op == MatchOp::Regex { format!("^(?:{text})$") } else { text };
            LabelMatcher::new(name, op, text)
        };
        match matcher {
            Ok(matcher) => matchers.push(matcher),
            Err(error) => {
                let help = "write an expression of Go's syntax".to_owned();
                context.fault(value.span, error.to_string(), Some(help));
            }
        }
    }
    matchers
}

/// Reads `matchers`: a list of texts, each of which may hold several.
pub(super) fn read_matchers(
    section: &mut Section<'_>,
    key: &'static str,
    mode: MatcherMode,
) -> Vec<LabelMatcher> {
    let context = section.context;
    let mut matchers = Vec::new();
    for node in section.items(key) {
        let Some(text) = String::from_node(context, node) else { continue };
        match mode.parse(&text) {
            Ok(parsed) => {
                if let Some(remark) = parsed.remark {
                    context.warn(Severity::Warning, node.span, remark, None);
                }
                matchers.extend(parsed.matchers);
            }
            Err(error) => {
                let help = "write matchers such as name=\"value\" or name=~\"a|b\"".to_owned();
                context.fault(node.span, error.to_string(), Some(help));
            }
        }
    }
    matchers
}
