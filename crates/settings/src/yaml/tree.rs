//! The tree of a YAML document, with a place for every node.

use std::collections::HashMap;
use std::sync::Arc;

use granit_parser::{Event, Parser, ScalarStyle, Tag, options};

use super::scalar::Scalar;
use crate::diagnostic::{Diagnostic, Faults, Source};

/// Deepest nesting; configurations have about ten levels.
const MAX_DEPTH: usize = 100;

/// Most nodes that aliases may stand for in sum. A document that names nodes again and again to
/// grow without end is refused before it is read.
const MAX_ALIASED_NODES: usize = 400_000;

/// Most nodes of a document. One takes about 110 bytes, and `[a,a,a…` makes one of every two bytes
/// of text; a hundred thousand targets with ten labels each stay below.
const MAX_NODES: usize = 4_000_000;

/// Bytes of the source, half-open.
pub(crate) type Span = (usize, usize);

/// One node.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) span: Span,
    pub(crate) value: Value,
    /// Nodes below and including this one, aliases counted as what they stand for.
    weight: usize,
}

/// What a node is.
#[derive(Debug)]
pub(crate) enum Value {
    Scalar(Scalar),
    Sequence(Vec<Arc<Node>>),
    Mapping(Vec<(Arc<Node>, Arc<Node>)>),
}

impl Node {
    /// A node that is nothing, at a place.
    pub(crate) fn nothing(span: Span) -> Self {
        Node { span, value: Value::Scalar(Scalar::of_text(String::new(), true)), weight: 1 }
    }

    /// A node that does not come from YAML.
    pub(crate) fn new(span: Span, value: Value) -> Self {
        Node { span, value, weight: 1 }
    }

    /// Whether the node is nothing: absent after its key, `~` or `null`.
    pub(crate) fn is_null(&self) -> bool {
        matches!(&self.value, Value::Scalar(scalar) if scalar.is_null())
    }

    /// Whether the node holds nothing: no value, no item, no key.
    pub(crate) fn is_empty(&self) -> bool {
        match &self.value {
            Value::Scalar(scalar) => scalar.is_null(),
            Value::Sequence(items) => items.is_empty(),
            Value::Mapping(pairs) => pairs.is_empty(),
        }
    }

    /// Whether the node is one text.
    pub(crate) fn is_scalar(&self) -> bool {
        matches!(self.value, Value::Scalar(_))
    }

    /// Where the first scalar with that text stands, here or below; the node itself if nowhere.
    pub(crate) fn span_of_text(&self, text: &str) -> Span {
        self.find_text(text).unwrap_or(self.span)
    }

    fn find_text(&self, text: &str) -> Option<Span> {
        match &self.value {
            Value::Scalar(scalar) => (scalar.text() == text).then_some(self.span),
            Value::Sequence(items) => items.iter().find_map(|item| item.find_text(text)),
            Value::Mapping(pairs) => pairs.iter().find_map(|(_, value)| value.find_text(text)),
        }
    }

    /// Where the value of a key of this mapping stands; the node itself if it is not there.
    pub(crate) fn place_of_key(&self, name: &str) -> Span {
        let Value::Mapping(pairs) = &self.value else { return self.span };
        let is_name =
            |key: &Node| matches!(&key.value, Value::Scalar(scalar) if scalar.text() == name);
        pairs.iter().find(|(key, _)| is_name(key)).map_or(self.span, |(_, value)| value.span)
    }

    /// The node as yaml.v2 names it in messages, with the beginning of a scalar's text.
    pub(crate) fn describe(&self) -> String {
        match &self.value {
            Value::Scalar(scalar) => {
                let text = scalar.text();
                let shown: String = if text.chars().count() > 10 {
                    text.chars().take(7).chain("...".chars()).collect()
                } else {
                    text.to_owned()
                };
                format!("{} `{shown}`", scalar.tag())
            }
            Value::Sequence(_) => "!!seq".to_owned(),
            Value::Mapping(_) => "!!map".to_owned(),
        }
    }
}

/// The tree, and whether more documents follow in the file.
pub(crate) struct Loaded {
    /// `None` if there is nothing but comments.
    pub(crate) root: Option<Arc<Node>>,
    /// Where a second document starts, which nobody reads.
    pub(crate) second_document: Option<Span>,
}

/// Reads the first document of `source`.
///
/// # Errors
/// The first fault of syntax; nesting, aliases or tags that are refused.
pub(crate) fn load(source: &Source) -> Result<Loaded, Faults> {
    let options = options! {
        emit_comments: false,
        flow_nesting_limit: MAX_DEPTH,
        block_nesting_limit: MAX_DEPTH,
    };
    let mut loader = Loader {
        source,
        open: Vec::new(),
        anchors: HashMap::new(),
        aliased: 0,
        root: None,
        nodes: 0,
        documents: 0,
        second_document: None,
    };
    for next in Parser::new_from_str_with_options(&source.text, options) {
        let (event, span) = next.map_err(|error| {
            let at = error.marker().byte_offset().unwrap_or(source.text.len());
            let help = tab_help(source, at);
            loader.fault(
                (at, at),
                &format!("yaml: line {}: {}", error.marker().line(), error.info()),
                help,
            )
        })?;
        let span = span.byte_range().map_or((0, 0), |range| (range.start, range.end));
        loader.take(event, span)?;
        if loader.second_document.is_some() {
            break;
        }
    }
    Ok(Loaded { root: loader.root, second_document: loader.second_document })
}

/// Tabs are the one thing about YAML that nobody sees.
fn tab_help(source: &Source, at: usize) -> Option<String> {
    let at = (0..=at.min(source.text.len())).rev().find(|at| source.text.is_char_boundary(*at))?;
    let start = source.text[..at].rfind('\n').map_or(0, |newline| newline + 1);
    let line = source.text[start..].lines().next().unwrap_or_default();
    let indent = &line[..line.len() - line.trim_start().len()];
    indent.contains('\t').then(|| "indent with spaces; YAML does not allow tabs there".to_owned())
}

struct Loader<'a> {
    source: &'a Source,
    open: Vec<Open>,
    /// `None` while the anchored node is still being read.
    anchors: HashMap<usize, Option<Arc<Node>>>,
    aliased: usize,
    root: Option<Arc<Node>>,
    nodes: usize,
    documents: usize,
    second_document: Option<Span>,
}

/// A collection that is not finished.
struct Open {
    start: usize,
    anchor: usize,
    children: Vec<Arc<Node>>,
    mapping: bool,
}

impl Loader<'_> {
    fn fault(&self, span: Span, message: &str, help: Option<String>) -> Faults {
        Diagnostic::at(self.source, span, message.to_owned(), help).into()
    }

    fn take(&mut self, event: Event<'_>, span: Span) -> Result<(), Faults> {
        self.nodes += usize::from(event.is_node());
        if self.nodes > MAX_NODES {
            let message = format!("the document has more than {MAX_NODES} values");
            return Err(self.fault(span, &message, Some("split the file".to_owned())));
        }
        match event {
            Event::DocumentStart(..) => {
                self.documents += 1;
                if self.documents > 1 {
                    self.second_document = Some(span);
                }
            }
            Event::Scalar(text, style, anchor, tag) => {
                let binary = check_tag(tag.as_deref(), "!!str", &text)
                    .map_err(|message| self.fault(span, &message, Some(TAG_HELP.to_owned())))?;
                let plain = style == ScalarStyle::Plain && tag.is_none();
                let scalar =
                    Scalar::new(text.into_owned(), plain, tag_name(tag.as_deref()), binary)
                        .map_err(|message| self.fault(span, message, None))?;
                let node = Node { span, value: Value::Scalar(scalar), weight: 1 };
                self.finish(node, anchor);
            }
            Event::SequenceStart(_, anchor, tag) => {
                self.start(span, anchor, tag.as_deref(), false)?
            }
            Event::MappingStart(_, anchor, tag) => {
                self.start(span, anchor, tag.as_deref(), true)?
            }
            Event::SequenceEnd | Event::MappingEnd => self.close(span),
            Event::Alias(id) => {
                let target = match self.anchors.get(&id) {
                    Some(Some(target)) => Arc::clone(target),
                    _ => {
                        let message = "yaml: anchor value contains itself";
                        return Err(self.fault(span, message, None));
                    }
                };
                self.aliased = self.aliased.saturating_add(target.weight);
                if self.aliased > MAX_ALIASED_NODES {
                    let help = format!("aliases may stand for {MAX_ALIASED_NODES} values in sum");
                    let message = "yaml: document contains excessive aliasing";
                    return Err(self.fault(span, message, Some(help)));
                }
                self.attach(target);
            }
            _ => {}
        }
        Ok(())
    }

    fn start(
        &mut self,
        span: Span,
        anchor: usize,
        tag: Option<&Tag>,
        mapping: bool,
    ) -> Result<(), Faults> {
        check_tag(tag, if mapping { "!!map" } else { "!!seq" }, "")
            .map_err(|message| self.fault(span, &message, Some(TAG_HELP.to_owned())))?;
        if anchor != 0 {
            self.anchors.insert(anchor, None);
        }
        self.open.push(Open { start: span.0, anchor, children: Vec::new(), mapping });
        Ok(())
    }

    fn close(&mut self, span: Span) {
        let Some(open) = self.open.pop() else { return };
        let weight =
            open.children.iter().fold(1, |sum: usize, node| sum.saturating_add(node.weight));
        let value = if open.mapping {
            let mut children = open.children.into_iter();
            let mut pairs = Vec::with_capacity(children.len() / 2);
            while let (Some(key), Some(value)) = (children.next(), children.next()) {
                pairs.push((key, value));
            }
            Value::Mapping(pairs)
        } else {
            Value::Sequence(open.children)
        };
        // The end of a block collection is wherever the next token starts.
        let end =
            open.start + self.source.text[open.start..span.1.max(open.start)].trim_end().len();
        self.finish(Node { span: (open.start, end), value, weight }, open.anchor);
    }

    fn finish(&mut self, node: Node, anchor: usize) {
        let node = Arc::new(node);
        if anchor != 0 {
            self.anchors.insert(anchor, Some(Arc::clone(&node)));
        }
        self.attach(node);
    }

    fn attach(&mut self, node: Arc<Node>) {
        match self.open.last_mut() {
            Some(open) => open.children.push(node),
            None => self.root = Some(node),
        }
    }
}

const TAG_HELP: &str = "remove the tag; nothing but the standard ones means anything here";

/// The standard tag in short form.
fn tag_name(tag: Option<&Tag>) -> Option<&'static str> {
    let suffix = tag?.suffix_in_namespace("tag:yaml.org,2002:")?;
    ["str", "int", "float", "bool", "null", "binary", "timestamp", "map", "seq", "merge"]
        .into_iter()
        .find(|known| *known == suffix)
}

/// Whether the tag says `!!binary`. A tag nobody knows is refused, as it asks for something to
/// happen that will not.
fn check_tag(tag: Option<&Tag>, found: &str, text: &str) -> Result<bool, String> {
    let Some(tag) = tag else { return Ok(false) };
    match tag_name(Some(tag)) {
        Some("binary") => Ok(true),
        Some(_) => Ok(false),
        // The non-specific tag: "this is a string".
        None if tag.original() == "!" => Ok(false),
        None => Err(format!("yaml: cannot decode {found} `{text}` as a {}", tag.original())),
    }
}
