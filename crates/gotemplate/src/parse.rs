//! From tokens to trees.

mod pipelines;

use std::collections::HashMap;
use std::sync::Arc;

use crate::ast::{self, Invocation, Node, Nodes, OperandKind};
use crate::lex::{Placed, Token, lex};
use crate::number::unquoted;
use crate::signature::Vocabulary;

/// Deepest nesting of blocks and parentheses.
const MAX_NESTING: usize = 100;

/// Longest template that is read.
const MAX_TEMPLATE_BYTES: usize = 4 << 20;

/// One template with a name. Nobody outside can look into it.
#[derive(Debug, Clone)]
pub struct Tree {
    pub(crate) name: String,
    /// What errors call the text it stands in.
    pub(crate) parse_name: Arc<str>,
    pub(crate) text: Arc<str>,
    pub(crate) nodes: Nodes,
}

impl Tree {
    /// A place as errors tell it: `name:line:column`.
    pub(crate) fn place_of(&self, place: usize) -> String {
        let line = line_at(&self.text, place);
        let column = place - self.text[..place].rfind('\n').map_or(0, |at| at + 1);
        format!("{}:{line}:{column}", self.parse_name)
    }

    /// Whether it is nothing but blanks and templates that are defined inside.
    pub(crate) fn is_blank(&self) -> bool {
        ast::is_blank(&self.nodes)
    }
}

/// A text that was read: a template, and those that are defined inside it.
#[derive(Debug, Clone)]
pub struct Parsed {
    pub(crate) main: Tree,
    /// Each name once.
    pub(crate) defined: Vec<Tree>,
    pub(crate) fields: Vec<String>,
    pub(crate) needs_all: bool,
}

/// A part of a template that only puts fields in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// Text as it is.
    Text(String),
    /// The field with that number among [`Parsed::fields`].
    Field(usize),
}

impl Parsed {
    /// Reads a template that errors call `name`.
    ///
    /// # Errors
    /// What Go says about it: `template: name:1: …`.
    pub fn new(name: &str, text: &str, vocabulary: &dyn Vocabulary) -> Result<Self, String> {
        if text.len() > MAX_TEMPLATE_BYTES {
            return Err(format!(
                "template: {name}: the template has {} bytes, more than {MAX_TEMPLATE_BYTES}; \
                 split it",
                text.len()
            ));
        }
        let tokens = lex(text);
        let parser = Parser {
            vocabulary,
            parse_name: name.into(),
            text: text.into(),
            tokens,
            at: 0,
            action: None,
            variables: vec!["$".to_owned()],
            range_depth: 0,
            nesting: 0,
            defined: Vec::new(),
            fields: Vec::new(),
            numbers: HashMap::new(),
            needs_all: false,
        };
        parser.whole().map_err(|(place, problem)| {
            let line = line_at(text, place);
            format!("template: {name}:{line}: {problem}")
        })
    }

    /// First names of fields, each once.
    pub fn fields(&self) -> &[String] {
        &self.fields
    }

    /// Whether the data is reached by other ways than by fields, so that all of it may be needed.
    pub fn needs_all(&self) -> bool {
        self.needs_all
    }

    /// The template as parts, if it only puts fields of the data in.
    pub fn parts(&self) -> Option<Vec<Part>> {
        let part = |node: &Node| match node {
            Node::Text(text) => Some(Part::Text(text.clone())),
            Node::Action(pipeline) => {
                let [command] = pipeline.commands.as_slice() else { return None };
                let [operand] = command.operands.as_slice() else { return None };
                match &operand.kind {
                    OperandKind::Field(number, names)
                        if names.len() == 1 && pipeline.variables.is_empty() =>
                    {
                        Some(Part::Field(*number))
                    }
                    _ => None,
                }
            }
            _ => None,
        };
        self.main.nodes.iter().map(part).collect()
    }
}

/// The line, from 1, in which `place` lies.
pub(crate) fn line_at(text: &str, place: usize) -> usize {
    1 + text.as_bytes()[..place.min(text.len())].iter().filter(|byte| **byte == b'\n').count()
}

type Fault = (usize, String);

/// What ends a list of nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Closing {
    End,
    Else,
}

impl Closing {
    fn shown(self) -> &'static str {
        match self {
            Closing::End => "{{end}}",
            Closing::Else => "{{else}}",
        }
    }
}

struct Parser<'t> {
    vocabulary: &'t dyn Vocabulary,
    parse_name: Arc<str>,
    text: Arc<str>,
    tokens: Vec<Placed<'t>>,
    /// The token at hand.
    at: usize,
    /// The line in which the action at hand began.
    action: Option<usize>,
    variables: Vec<String>,
    range_depth: usize,
    nesting: usize,
    defined: Vec<Tree>,
    fields: Vec<String>,
    numbers: HashMap<String, usize>,
    needs_all: bool,
}

impl<'t> Parser<'t> {
    /// The last token, which is the end or an error, is there however far one reads.
    fn placed(&self) -> &Placed<'t> {
        &self.tokens[self.at.min(self.tokens.len() - 1)]
    }

    fn peek(&self) -> &Token<'t> {
        &self.placed().1
    }

    fn place(&self) -> usize {
        self.placed().0
    }

    fn skip_space(&mut self) {
        while *self.peek() == Token::Space {
            self.at += 1;
        }
    }

    /// The next token that is no blank.
    fn peek_solid(&mut self) -> &Token<'t> {
        self.skip_space();
        self.peek()
    }

    fn fail<T>(&self, text: impl Into<String>) -> Result<T, Fault> {
        Err((self.place(), text.into()))
    }

    fn unexpected<T>(&self, context: &str) -> Result<T, Fault> {
        let token = self.peek();
        let Token::Error(problem) = token else {
            return self.fail(format!("unexpected {} in {context}", token.shown()));
        };
        match self.action {
            Some(line) if line != line_at(&self.text, self.place()) => {
                // "unclosed action started at" needs no second "in action".
                let inside = if problem.ends_with(" action") { "" } else { " in action" };
                let name = &self.parse_name;
                self.fail(format!("{problem}{inside} started at {name}:{line}"))
            }
            _ => self.fail(problem.clone()),
        }
    }

    fn enter(&mut self) -> Result<(), Fault> {
        self.nesting += 1;
        if self.nesting > MAX_NESTING {
            return self.fail(format!(
                "blocks and parentheses are nested more than {MAX_NESTING} deep; nest less"
            ));
        }
        Ok(())
    }

    fn tree(&self, name: &str, nodes: Nodes) -> Tree {
        let (parse_name, text) = (Arc::clone(&self.parse_name), Arc::clone(&self.text));
        Tree { name: name.to_owned(), parse_name, text, nodes }
    }

    fn whole(mut self) -> Result<Parsed, Fault> {
        let mut nodes = Vec::new();
        while *self.peek_solid() != Token::End {
            if *self.peek() == Token::Open {
                let before = self.at;
                self.at += 1;
                if *self.peek_solid() == Token::Word("define") {
                    self.at += 1;
                    self.define()?;
                    continue;
                }
                self.at = before;
            }
            match self.text_or_action()? {
                Ok(node) => nodes.push(node),
                Err(closing) => return self.fail(format!("unexpected {}", closing.shown())),
            }
        }
        let name = self.parse_name.to_string();
        let main = self.tree(&name, nodes);
        // A template may be defined inside the text that has its name, if one of both is blank.
        let twin = self.defined.iter().position(|tree| tree.name == name && !tree.is_blank());
        let main = match twin {
            Some(_) if !main.is_blank() => {
                let quoted = model::quote::quote(&name);
                return self.fail(format!("template: multiple definition of template {quoted}"));
            }
            Some(at) => self.defined.swap_remove(at),
            None => main,
        };
        let Parser { defined, fields, needs_all, .. } = self;
        Ok(Parsed { main, defined, fields, needs_all })
    }

    fn define(&mut self) -> Result<(), Fault> {
        const CONTEXT: &str = "define clause";
        let (_, name) = self.template_name(CONTEXT)?;
        self.expect_close(CONTEXT)?;
        self.body_of(&name, CONTEXT)
    }

    /// Nodes up to `{{end}}` as a template of their own.
    fn body_of(&mut self, name: &str, context: &str) -> Result<(), Fault> {
        let variables = std::mem::replace(&mut self.variables, vec!["$".to_owned()]);
        let range_depth = std::mem::take(&mut self.range_depth);
        let action = self.action.take();
        let (nodes, closing) = self.list()?;
        if closing != Closing::End {
            return self.fail(format!("unexpected {} in {context}", closing.shown()));
        }
        self.variables = variables;
        self.range_depth = range_depth;
        self.action = action;
        let tree = self.tree(name, nodes);
        match self.defined.iter_mut().find(|known| known.name == name) {
            None => self.defined.push(tree),
            Some(known) if known.is_blank() => *known = tree,
            Some(_) if tree.is_blank() => {}
            Some(_) => {
                let quoted = model::quote::quote(name);
                return self.fail(format!("template: multiple definition of template {quoted}"));
            }
        }
        Ok(())
    }

    /// Nodes up to `{{end}}` or `{{else}}`; behind `else`, `if` and `with` are left to be read.
    fn list(&mut self) -> Result<(Nodes, Closing), Fault> {
        self.enter()?;
        let mut nodes = Vec::new();
        while *self.peek_solid() != Token::End {
            match self.text_or_action()? {
                Ok(node) => nodes.push(node),
                Err(closing) => {
                    self.nesting -= 1;
                    return Ok((nodes, closing));
                }
            }
        }
        self.fail("unexpected EOF")
    }

    fn text_or_action(&mut self) -> Result<Result<Node, Closing>, Fault> {
        match self.peek_solid() {
            Token::Outside(text) => {
                let node = Node::Text((*text).to_owned());
                self.at += 1;
                Ok(Ok(node))
            }
            Token::Open => {
                self.action = Some(line_at(&self.text, self.place()));
                self.at += 1;
                let node = self.action()?;
                self.action = None;
                Ok(node)
            }
            _ => self.unexpected("input"),
        }
    }

    /// The end of an action.
    fn expect_close(&mut self, context: &str) -> Result<(), Fault> {
        if *self.peek_solid() != Token::Close {
            return self.unexpected(context);
        }
        self.at += 1;
        Ok(())
    }

    fn action(&mut self) -> Result<Result<Node, Closing>, Fault> {
        let word = match self.peek_solid() {
            Token::Word(word) => *word,
            _ => "",
        };
        self.at += 1;
        let node = match word {
            "if" | "with" | "range" => self.control(word)?,
            "end" => {
                self.expect_close("end")?;
                return Ok(Err(Closing::End));
            }
            "else" => {
                if !matches!(self.peek_solid(), Token::Word("if" | "with")) {
                    self.expect_close("else")?;
                }
                return Ok(Err(Closing::Else));
            }
            "break" | "continue" => {
                self.expect_close(&format!("{{{{{word}}}}}"))?;
                if self.range_depth == 0 {
                    return self.fail(format!("{{{{{word}}}}} outside {{{{range}}}}"));
                }
                if word == "break" { Node::Break } else { Node::Continue }
            }
            "template" => {
                const CONTEXT: &str = "template clause";
                let (place, name) = self.template_name(CONTEXT)?;
                let pipeline = if *self.peek_solid() == Token::Close {
                    self.at += 1;
                    None
                } else {
                    Some(self.pipeline(CONTEXT, &Token::Close)?)
                };
                Node::Template(Box::new(Invocation { place, name, pipeline }))
            }
            "block" => {
                const CONTEXT: &str = "block clause";
                let (place, name) = self.template_name(CONTEXT)?;
                let pipeline = Some(self.pipeline(CONTEXT, &Token::Close)?);
                self.body_of(&name, CONTEXT)?;
                Node::Template(Box::new(Invocation { place, name, pipeline }))
            }
            _ => {
                self.at -= 1;
                Node::Action(self.pipeline("command", &Token::Close)?)
            }
        };
        Ok(Ok(node))
    }

    fn template_name(&mut self, context: &str) -> Result<(usize, String), Fault> {
        match self.peek_solid() {
            Token::Text(written) => {
                let written = *written;
                let name = self.text_of(written)?;
                let place = self.place();
                self.at += 1;
                Ok((place, name))
            }
            _ => self.unexpected(context),
        }
    }

    /// What a text between quotes stands for.
    fn text_of(&self, written: &str) -> Result<String, Fault> {
        let inner = &written[1..written.len() - 1];
        if written.starts_with('`') {
            return Ok(inner.replace('\r', ""));
        }
        match unquoted(inner, '"') {
            Some(text) => Ok(text),
            None => self.fail("invalid syntax"),
        }
    }

    /// `if`, `with` or `range` behind its word.
    fn control(&mut self, word: &str) -> Result<Node, Fault> {
        let scope = self.variables.len();
        let pipeline = self.pipeline(word, &Token::Close)?;
        self.range_depth += usize::from(word == "range");
        let (body, mut closing) = self.list()?;
        self.range_depth -= usize::from(word == "range");
        let mut otherwise = Vec::new();
        if closing == Closing::Else {
            // `{{else if x}}` is an `if` inside the `else`; both have one end.
            if word != "range" && *self.peek_solid() == Token::Word(word) {
                self.at += 1;
                self.enter()?;
                otherwise.push(self.control(word)?);
                self.nesting -= 1;
            } else {
                (otherwise, closing) = self.list()?;
                if closing != Closing::End {
                    return self.fail(format!("expected end; found {}", closing.shown()));
                }
            }
        }
        self.variables.truncate(scope);
        Ok(match word {
            "if" => Node::If(pipeline, body, otherwise),
            "with" => Node::With(pipeline, body, otherwise),
            _ => Node::Range(pipeline, body, otherwise),
        })
    }
}
