//! Reading a mapping key by key, remembering what is wrong.

use std::cell::RefCell;
use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::read::FromNode;
use super::tree::{Node, Span, Value};
use crate::diagnostic::{Diagnostic, Severity, Source};
use crate::suggestion::nearest;

/// More than anybody reads; whoever mends these sees the rest next time.
const MAX_FAULTS: usize = 100;

/// What a reader of one file carries along: the text, the directory relative paths start from,
/// and everything found wrong so far.
pub(crate) struct Context<'a> {
    source: &'a Source,
    directory: &'a Path,
    faults: RefCell<Vec<Diagnostic>>,
    warnings: RefCell<Vec<Diagnostic>>,
    secrets: RefCell<Vec<(Span, String)>>,
    references: RefCell<Vec<Reference>>,
}

/// A file the configuration names.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Reference {
    pub(crate) kind: ReferenceKind,
    /// A path, or a pattern of paths, joined with the directory of the configuration.
    pub(crate) path: String,
    /// Where it is named; the message is empty.
    pub(crate) place: Diagnostic,
}

/// What is in a file the configuration names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ReferenceKind {
    /// Something that is read when it is needed: a password, a certificate.
    Content,
    /// Target groups.
    Targets,
    /// Rules.
    Rules,
    /// More jobs.
    Jobs,
}

impl<'a> Context<'a> {
    pub(crate) fn new(source: &'a Source, directory: &'a Path) -> Self {
        Context {
            source,
            directory,
            faults: RefCell::default(),
            warnings: RefCell::default(),
            secrets: RefCell::default(),
            references: RefCell::default(),
        }
    }

    /// Notes a fault; reading goes on, so that all faults are told at once.
    pub(crate) fn fault(&self, span: Span, message: impl Into<String>, help: Option<String>) {
        let fault = Diagnostic::at(self.source, span, message.into(), help);
        let mut faults = self.faults.borrow_mut();
        // A node named by several aliases is read several times.
        if faults.len() < MAX_FAULTS && !faults.contains(&fault) {
            faults.push(fault);
        }
    }

    /// Notes what has no effect, or cannot work, in a file that is used all the same.
    pub(crate) fn warn(
        &self,
        severity: Severity,
        span: Span,
        message: impl Into<String>,
        help: Option<String>,
    ) {
        let warning =
            Diagnostic::at(self.source, span, message.into(), help).with_severity(severity);
        let mut warnings = self.warnings.borrow_mut();
        if warnings.len() < MAX_FAULTS && !warnings.contains(&warning) {
            warnings.push(warning);
        }
    }

    /// Remembers where a secret stands and what to show instead.
    pub(super) fn hide(&self, span: Span, shown: String) {
        self.secrets.borrow_mut().push((span, shown));
    }

    /// Remembers a file that is named.
    pub(crate) fn refer(&self, kind: ReferenceKind, span: Span, path: String) {
        let place = Diagnostic::at(self.source, span, String::new(), None);
        self.references.borrow_mut().push(Reference { kind, path, place });
    }

    /// Joins a path of the file with the file's directory, as Prometheus does; an empty one
    /// stays empty.
    pub(crate) fn join(&self, path: &str) -> PathBuf {
        if path.is_empty() { PathBuf::new() } else { self.directory.join(path) }
    }

    /// What was found, each in the order of the file.
    pub(crate) fn finish(self) -> Findings {
        let mut faults = self.faults.into_inner();
        let mut warnings = self.warnings.into_inner();
        let mut secrets = self.secrets.into_inner();
        faults.sort_by_key(|fault| (fault.line, fault.column));
        warnings.sort_by_key(|warning| (warning.line, warning.column));
        secrets.sort_unstable();
        secrets.dedup();
        Findings { faults, warnings, secrets, references: self.references.into_inner() }
    }
}

/// What reading a file found beside its values.
pub(crate) struct Findings {
    pub(crate) faults: Vec<Diagnostic>,
    pub(crate) warnings: Vec<Diagnostic>,
    /// Where secrets stand, and what to show instead.
    pub(crate) secrets: Vec<(Span, String)>,
    pub(crate) references: Vec<Reference>,
}

/// A mapping whose keys are known. Each is asked for once; [`Section::finish`] then names those
/// nobody asked for.
pub(crate) struct Section<'a> {
    pub(crate) context: &'a Context<'a>,
    /// The type of Prometheus' source that has these keys, for its messages.
    type_name: &'static str,
    span: Span,
    fields: Vec<Field<'a>>,
    known: Vec<&'static str>,
}

struct Field<'a> {
    name: &'a str,
    key: Span,
    value: &'a Node,
    used: bool,
}

impl<'a> Section<'a> {
    /// Opens a mapping. Nothing at all is an empty one; anything else is a fault.
    pub(crate) fn open(
        context: &'a Context<'a>,
        node: &'a Node,
        type_name: &'static str,
    ) -> Option<Section<'a>> {
        let mut section =
            Section { context, type_name, span: node.span, fields: Vec::new(), known: Vec::new() };
        match &node.value {
            Value::Mapping(_) => section.collect(node, false),
            _ if node.is_null() => {}
            _ => {
                let message = format!("cannot unmarshal {} into {type_name}", node.describe());
                let help = "this must be a mapping: keys with values, `key: value`";
                context.fault(node.span, message, Some(help.to_owned()));
                return None;
            }
        }
        Some(section)
    }

    /// Takes the keys of `node`. Those a merge brings in yield to those already there.
    fn collect(&mut self, node: &'a Node, merged: bool) {
        let Value::Mapping(pairs) = &node.value else { return };
        let mut places: HashMap<&str, Span> =
            self.fields.iter().map(|field| (field.name, field.key)).collect();
        for (key, value) in pairs {
            let Value::Scalar(scalar) = &key.value else {
                let message = format!("invalid map key: {}", key.describe());
                self.context.fault(key.span, message, Some("a key is a word".to_owned()));
                continue;
            };
            let name = scalar.text();
            if name == "<<" {
                continue;
            }
            if let Some(first) = places.get(name) {
                if !merged {
                    let message = format!("field {name} already set in type {}", self.type_name);
                    let line = self.context.line(*first);
                    let help = format!("it is first set on line {line}; join the two");
                    self.context.fault(key.span, message, Some(help));
                }
                continue;
            }
            places.insert(name, key.span);
            self.fields.push(Field { name, key: key.span, value, used: false });
        }
        let is_merge =
            |key: &Node| matches!(&key.value, Value::Scalar(scalar) if scalar.text() == "<<");
        for (key, value) in pairs.iter().filter(|(key, _)| is_merge(key)) {
            match &value.value {
                Value::Mapping(_) => self.collect(value, true),
                Value::Sequence(maps)
                    if maps.iter().all(|map| matches!(map.value, Value::Mapping(_))) =>
                {
                    for map in maps {
                        self.collect(map, true);
                    }
                }
                _ => {
                    let message = "map merge requires map or sequence of maps as the value";
                    self.context.fault(key.span, message, None);
                }
            }
        }
    }

    /// The node of a key, whatever it is.
    pub(crate) fn node(&mut self, key: &'static str) -> Option<&'a Node> {
        self.known.push(key);
        let field = self.fields.iter_mut().find(|field| field.name == key)?;
        field.used = true;
        Some(field.value)
    }

    /// The value of a key. `None` if it is absent or wrong; `null` resets it to nothing, as in
    /// Prometheus, whatever its default would be.
    pub(crate) fn read<T: FromNode + Default>(&mut self, key: &'static str) -> Option<T> {
        let node = self.node(key)?;
        if node.is_null() {
            return Some(T::default());
        }
        T::from_node(self.context, node)
    }

    /// The value of a key, or `default` if it is absent or wrong.
    pub(crate) fn or<T: FromNode + Default>(&mut self, key: &'static str, default: T) -> T {
        self.read(key).unwrap_or(default)
    }

    /// The value of a key, or the type's own default.
    pub(crate) fn value<T: FromNode + Default>(&mut self, key: &'static str) -> T {
        self.read(key).unwrap_or_default()
    }

    /// The items of a list; none if the key is absent, `null` or wrong.
    pub(crate) fn items(&mut self, key: &'static str) -> Vec<&'a Node> {
        let Some(node) = self.node(key) else { return Vec::new() };
        items_of(self.context, node)
    }

    /// A mapping below a key; `None` if it is absent, `null` or wrong.
    pub(crate) fn section(
        &mut self,
        key: &'static str,
        type_name: &'static str,
    ) -> Option<Section<'a>> {
        let node = self.node(key)?;
        if node.is_null() {
            return None;
        }
        Section::open(self.context, node, type_name)
    }

    /// The type these keys belong to.
    pub(crate) fn type_name(&self) -> &'static str {
        self.type_name
    }

    /// Whether the key is there, be it with `null`.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.fields.iter().any(|field| field.name == key)
    }

    /// Whether the key is there and holds something.
    pub(crate) fn is_set(&self, key: &str) -> bool {
        self.fields.iter().any(|field| field.name == key && !field.value.is_empty())
    }

    /// Where a key stands, or the whole mapping if it is absent.
    pub(crate) fn place(&self, key: &str) -> Span {
        self.fields.iter().find(|field| field.name == key).map_or_else(
            || self.span_start(),
            |field| if field.value.is_null() { field.key } else { field.value.span },
        )
    }

    /// Where the key itself stands, or the whole mapping if it is absent.
    pub(crate) fn key_place(&self, key: &str) -> Span {
        self.fields
            .iter()
            .find(|field| field.name == key)
            .map_or_else(|| self.span_start(), |field| field.key)
    }

    /// The first key of the mapping: a caret under a whole block would say nothing.
    pub(crate) fn span_start(&self) -> Span {
        self.fields.iter().map(|field| field.key).min().unwrap_or(self.span)
    }

    /// Notes a fault at a key.
    pub(crate) fn fault(&self, key: &str, message: impl Into<String>, help: Option<&str>) {
        self.context.fault(self.place(key), message, help.map(str::to_owned));
    }

    /// Notes that a key has no effect.
    pub(crate) fn warn(&self, key: &str, message: impl Into<String>, help: Option<&str>) {
        let help = help.map(str::to_owned);
        self.context.warn(Severity::Warning, self.key_place(key), message, help);
    }

    /// Notes that what a key says cannot work, though Prometheus takes it.
    pub(crate) fn mistake(&self, key: &str, message: impl Into<String>, help: &str) {
        let help = Some(help.to_owned());
        self.context.warn(Severity::Mistake, self.place(key), message, help);
    }

    /// Names the keys nobody asked for.
    pub(crate) fn finish(mut self) {
        self.known.sort_unstable();
        self.known.dedup();
        for field in self.fields.iter().filter(|field| !field.used) {
            let message = format!("field {} not found in type {}", field.name, self.type_name);
            let help = match nearest(field.name, self.known.iter().copied()) {
                Some(known) => format!("did you mean `{known}`?"),
                None if self.known.len() <= 12 => {
                    format!("known here: {}", self.known.join(", "))
                }
                None => {
                    "no key of that name is known here; check its place and indentation".to_owned()
                }
            };
            self.context.fault(field.key, message, Some(help));
        }
    }
}

impl Context<'_> {
    /// The line a place is on, from 1.
    pub(crate) fn line(&self, span: Span) -> usize {
        self.source.text[..span.0].bytes().filter(|b| *b == b'\n').count() + 1
    }
}

/// The items of a node that must be a list; `null` is an empty one.
pub(crate) fn items_of<'a>(context: &Context<'_>, node: &'a Node) -> Vec<&'a Node> {
    match &node.value {
        Value::Sequence(items) => items.iter().map(AsRef::as_ref).collect(),
        _ if node.is_null() => Vec::new(),
        _ => {
            let message = format!("cannot unmarshal {} into a list", node.describe());
            let help = "write a list: `- item` on lines of their own, or `[item, item]`";
            context.fault(node.span, message, Some(help.to_owned()));
            Vec::new()
        }
    }
}
