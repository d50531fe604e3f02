//! A configuration from its file.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use super::route::Route;
use super::{
    Config, MatcherMode, event_recorder, global, inhibit, intervals, receivers, route, tracing,
};
use crate::diagnostic::{Diagnostic, Faults};
use crate::prometheus::{Surroundings, read_file};
use crate::yaml::{Context, Document, FromNode, Node, Reference, ReferenceKind, Section, Span};

/// A configuration that can be used.
#[derive(Debug, Clone, PartialEq)]
pub struct Loaded {
    /// What it says.
    pub config: Config,
    /// What in it has no effect or is read otherwise than it looks, each with its place.
    pub warnings: Vec<Diagnostic>,
    /// The text of the file with every secret replaced by `<secret>`.
    pub redacted: String,
    /// The file.
    pub file: PathBuf,
    pub(super) references: Vec<Reference>,
}

impl Config {
    /// Loads `path`; matchers and names of labels are read as `mode` says.
    ///
    /// # Errors
    /// Everything that is wrong in the file, each with its place.
    pub fn load(
        path: &Path,
        mode: MatcherMode,
        surroundings: &dyn Surroundings,
    ) -> Result<Loaded, Faults> {
        let file = path.to_string_lossy();
        let bytes = read_file(&file, path, surroundings)?;
        let document = Document::parse(&file, &bytes)?;
        let directory = path.parent().unwrap_or(Path::new(""));
        let context = Context::new(document.source(), directory);
        let config = document.root().and_then(|node| read(&context, node, mode, surroundings));
        let findings = context.finish();
        match config {
            Some(config) if findings.faults.is_empty() => Ok(Loaded {
                config,
                warnings: findings.warnings.into_iter().chain(document.trailing()).collect(),
                redacted: redact(document.text(), &findings.secrets),
                file: path.to_owned(),
                references: findings.references,
            }),
            _ if findings.faults.is_empty() => {
                let help = "add route: {receiver: …} and receivers: [{name: …}]".to_owned();
                let message = "no route provided in config";
                Err(Diagnostic::of_file(&file, message, Some(help)).into())
            }
            _ => Err(Faults::new(findings.faults)),
        }
    }
}

/// Reads the whole file. `None` if there is nothing to be used.
fn read(
    context: &Context<'_>,
    node: &Node,
    mode: MatcherMode,
    surroundings: &dyn Surroundings,
) -> Option<Config> {
    if node.is_null() {
        return None;
    }
    let mut root = Section::open(context, node, "config.plain")?;
    let global = global::read(&mut root);
    let templates = root.value::<Vec<Pattern>>("templates").into_iter().map(|text| text.0);
    let templates = templates.collect();
    let receivers = receivers::read(&mut root, &global);
    let time_intervals = intervals::read_named(&mut root, surroundings);
    let inhibit_rules = inhibit::read(&mut root, mode);
    let route = root.node("route").filter(|node| !node.is_null());
    if route.is_none() {
        let help = "add route: {receiver: …}, naming one of the receivers";
        root.fault("route", "no routes provided", Some(help));
    }
    let route = route.and_then(|node| route::read(context, node, mode));
    if let Some((route, places)) = &route {
        check_root(&root, route);
        let receivers: HashSet<&str> = receivers.iter().map(|r| r.name.as_str()).collect();
        let intervals: HashSet<&str> = time_intervals.iter().map(|i| i.name.as_str()).collect();
        check_names(context, &places.receivers, &receivers, "receiver");
        check_names(context, &places.intervals, &intervals, "time interval");
    }
    let config = Config {
        templates,
        receivers,
        time_intervals,
        inhibit_rules,
        tracing: tracing::read(&mut root),
        event_recorder: event_recorder::read(&mut root),
        global,
        route: route.map(|(route, _)| route).unwrap_or_default(),
    };
    root.finish();
    Some(config)
}

/// What only the root of the tree must and must not have.
fn check_root(root: &Section<'_>, route: &Route) {
    let fault = |message: &str, help: &str| root.fault("route", message, Some(help));
    if route.receiver.is_none() {
        fault("root route must specify a default receiver", "add receiver: … to it");
    }
    if !route.matchers.is_empty() {
        let help = "move them into one of its routes: the root takes every alert";
        fault("root route must not have any matchers", help);
    }
    if !route.mute_time_intervals.is_empty() {
        let help = "move them into one of its routes";
        fault("root route must not have any mute time intervals", help);
    }
    if !route.active_time_intervals.is_empty() {
        let help = "move them into one of its routes";
        fault("root route must not have any active time intervals", help);
    }
    if route.continues {
        fault("cannot have continue in root route", "remove it: there is no route behind it");
    }
}

/// Whether what routes name is there.
fn check_names(context: &Context<'_>, named: &[(String, Span)], known: &HashSet<&str>, what: &str) {
    for (name, place) in named.iter().filter(|(name, _)| !known.contains(name.as_str())) {
        let help = match crate::suggestion::nearest(name, known.iter().copied()) {
            Some(known) => format!("did you mean {known:?}?"),
            None => format!("define a {what} of that name, or name one that is defined"),
        };
        context.fault(*place, format!("undefined {what} {name:?} used in route"), Some(help));
    }
}

/// A pattern of files, joined with the directory of the configuration. Unlike a file it may match
/// nothing.
#[derive(Debug, Clone, Default)]
struct Pattern(String);

impl FromNode for Pattern {
    fn from_node(context: &Context<'_>, node: &Node) -> Option<Self> {
        let text = String::from_node(context, node)?;
        let pattern = context.join(&text).to_string_lossy().into_owned();
        // Of the kinds there are, rules are the one that is named by patterns as well.
        context.refer(ReferenceKind::Rules, node.span, pattern.clone());
        Some(Pattern(pattern))
    }
}

/// Replaces each span by the text beside it.
fn redact(text: &str, secrets: &[(Span, String)]) -> String {
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    for ((start, end), replacement) in secrets.iter().filter(|((start, end), _)| start <= end) {
        let (Some(before), Some(hidden)) = (text.get(at..*start), text.get(*start..*end)) else {
            continue;
        };
        out.push_str(before);
        out.push_str(replacement);
        // The line breaks behind a block scalar belong to it, and to what follows as well.
        at = start + hidden.trim_end_matches([' ', '\t', '\r', '\n']).len();
    }
    out.push_str(&text[at..]);
    out
}
