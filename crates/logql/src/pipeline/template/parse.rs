//! From tokens to trees.

use std::collections::BTreeMap;

use super::ast::{Command, Node, Nodes, Operand, OperandKind, Pipeline};
use super::functions::{Dialect, Function};
use super::lex::{Piece, Token, lex, parse_number};

/// Deepest nesting of blocks and parentheses.
const MAX_NESTING: usize = 100;

/// A template that was read.
#[derive(Debug, Clone)]
pub(crate) struct Parsed {
    pub(crate) nodes: Nodes,
    /// Templates that are defined inside.
    pub(crate) defined: BTreeMap<String, Nodes>,
    /// First names of fields, each once.
    pub(crate) fields: Vec<String>,
    /// Whether labels are reached by other ways than by fields, so that all may be needed.
    pub(crate) needs_all: bool,
    /// Which functions there are, and what a label that is not there is.
    pub(crate) dialect: Dialect,
}

/// Reads a template that errors call `name`.
///
/// # Errors
/// What Go says about it.
pub(crate) fn parse(name: &str, text: &str, dialect: Dialect) -> Result<Parsed, String> {
    let told = |(place, problem): (usize, String)| {
        let line = 1 + text[..place.min(text.len())].matches('\n').count();
        format!("template: {name}:{line}: {problem}")
    };
    let pieces = lex(text).map_err(told)?;
    let mut parser = Parser {
        pieces,
        piece: 0,
        at: 0,
        end: text.len(),
        variables: vec!["$".to_owned()],
        range_depth: 0,
        nesting: 0,
        defined: BTreeMap::new(),
        fields: Vec::new(),
        needs_all: false,
        dialect,
    };
    let (nodes, closing) = parser.list(true).map_err(told)?;
    if let Some((place, closing)) = closing {
        return Err(told((place, format!("unexpected {closing}"))));
    }
    Ok(Parsed {
        nodes,
        defined: parser.defined,
        fields: parser.fields,
        needs_all: parser.needs_all,
        dialect,
    })
}

type Fault = (usize, String);

/// What ends a list of nodes: where, and which.
type Closing = Option<(usize, &'static str)>;

const END: &str = "{{end}}";
const ELSE: &str = "{{else}}";

struct Parser<'t> {
    pieces: Vec<Piece<'t>>,
    /// The piece at hand.
    piece: usize,
    /// The token at hand in its action.
    at: usize,
    end: usize,
    variables: Vec<String>,
    range_depth: usize,
    nesting: usize,
    defined: BTreeMap<String, Nodes>,
    fields: Vec<String>,
    needs_all: bool,
    dialect: Dialect,
}

impl<'t> Parser<'t> {
    fn peek(&self) -> Option<&Token<'t>> {
        self.pieces.get(self.piece)?.action.get(self.at).map(|(_, token)| token)
    }

    fn place(&self) -> usize {
        let action = self.pieces.get(self.piece).map(|piece| &piece.action);
        action.and_then(|action| action.get(self.at)).map_or(self.end, |(place, _)| *place)
    }

    fn next(&mut self) -> Option<Token<'t>> {
        let token = self.peek().cloned();
        self.at += 1;
        token
    }

    fn skip_space(&mut self) {
        while self.peek() == Some(&Token::Space) {
            self.at += 1;
        }
    }

    fn fail<T>(&self, text: String) -> Result<T, Fault> {
        Err((self.place(), text))
    }

    fn unexpected<T>(&self, context: &str) -> Result<T, Fault> {
        match self.peek() {
            Some(token) => self.fail(format!("unexpected {} in {context}", token.shown())),
            None => self.fail("unexpected EOF".to_owned()),
        }
    }

    /// Nodes up to `{{end}}` or `{{else}}`, whose word was read then, or to the end of the template.
    fn list(&mut self, top: bool) -> Result<(Nodes, Closing), Fault> {
        self.nesting += 1;
        if self.nesting > MAX_NESTING {
            return self.fail("blocks are nested too deep".to_owned());
        }
        let mut nodes = Vec::new();
        loop {
            let Some(piece) = self.pieces.get(self.piece) else {
                if top {
                    self.nesting -= 1;
                    return Ok((nodes, None));
                }
                return self.fail("unexpected EOF".to_owned());
            };
            if self.at == 0 && !piece.text.is_empty() {
                nodes.push(Node::Text(piece.text.to_owned()));
            }
            if piece.action.is_empty() {
                self.piece += 1;
                self.at = 0;
                continue;
            }
            self.skip_space();
            let place = self.place();
            let word = match self.peek() {
                Some(Token::Word(word)) => *word,
                _ => "",
            };
            if matches!(word, "end" | "else") {
                self.at += 1;
                self.nesting -= 1;
                return Ok((nodes, Some((place, if word == "end" { END } else { ELSE }))));
            }
            if word == "define" {
                if !top {
                    return self.unexpected("command");
                }
                self.at += 1;
                self.define()?;
                continue;
            }
            nodes.push(self.action(word)?);
        }
    }

    /// The next piece; the action at hand is done.
    fn close(&mut self, context: &str) -> Result<(), Fault> {
        self.skip_space();
        if self.peek() != Some(&Token::Close) {
            return self.unexpected(context);
        }
        self.piece += 1;
        self.at = 0;
        Ok(())
    }

    fn action(&mut self, word: &str) -> Result<Node, Fault> {
        match word {
            "if" | "with" | "range" => {
                self.at += 1;
                self.control(word)
            }
            "break" | "continue" => {
                if self.range_depth == 0 {
                    return self.fail(format!("{{{{{word}}}}} outside {{{{range}}}}"));
                }
                self.at += 1;
                self.close(&format!("{{{{{word}}}}}"))?;
                Ok(if word == "break" { Node::Break } else { Node::Continue })
            }
            "template" => {
                self.at += 1;
                let (place, name) = self.template_name("template clause")?;
                self.skip_space();
                let pipeline = if self.peek() == Some(&Token::Close) {
                    None
                } else {
                    Some(self.pipeline("template clause", &Token::Close)?)
                };
                self.close("template clause")?;
                Ok(Node::Template(place, name, pipeline))
            }
            "block" => {
                self.at += 1;
                let (place, name) = self.template_name("block clause")?;
                let pipeline = self.pipeline("block clause", &Token::Close)?;
                self.close("block clause")?;
                self.body_of(name.clone())?;
                Ok(Node::Template(place, name, Some(pipeline)))
            }
            _ => {
                let pipeline = self.pipeline("command", &Token::Close)?;
                self.close("command")?;
                Ok(Node::Action(pipeline))
            }
        }
    }

    fn template_name(&mut self, context: &str) -> Result<(usize, String), Fault> {
        self.skip_space();
        let place = self.place();
        match self.peek() {
            Some(Token::Text(_, name)) => {
                let name = name.clone();
                self.at += 1;
                Ok((place, name))
            }
            _ => self.unexpected(context),
        }
    }

    fn define(&mut self) -> Result<(), Fault> {
        let (_, name) = self.template_name("define clause")?;
        self.close("define clause")?;
        self.body_of(name)
    }

    /// Nodes up to `{{end}}` as a template of their own.
    fn body_of(&mut self, name: String) -> Result<(), Fault> {
        let variables = std::mem::replace(&mut self.variables, vec!["$".to_owned()]);
        let range_depth = std::mem::take(&mut self.range_depth);
        let (nodes, closing) = self.list(false)?;
        self.variables = variables;
        self.range_depth = range_depth;
        match closing {
            Some((_, END)) => self.close("end")?,
            Some((place, other)) => {
                return Err((place, format!("unexpected {other} in define clause")));
            }
            None => {}
        }
        self.defined.insert(name, nodes);
        Ok(())
    }

    /// `if`, `with` or `range` behind its word.
    fn control(&mut self, word: &str) -> Result<Node, Fault> {
        let scope = self.variables.len();
        let pipeline = self.pipeline(word, &Token::Close)?;
        self.close(word)?;
        self.range_depth += usize::from(word == "range");
        let (body, closing) = self.list(false)?;
        self.range_depth -= usize::from(word == "range");
        let mut otherwise = Vec::new();
        if let Some((_, ELSE)) = closing {
            self.skip_space();
            match self.peek() {
                // `{{else if x}}` is an `if` inside the `else`; both have one end.
                Some(Token::Word(inner)) if *inner == word && word != "range" => {
                    let inner = *inner;
                    self.at += 1;
                    self.nesting += 1;
                    if self.nesting > MAX_NESTING {
                        return self.fail("blocks are nested too deep".to_owned());
                    }
                    otherwise.push(self.control(inner)?);
                    self.nesting -= 1;
                    self.variables.truncate(scope);
                    return Ok(node(word, pipeline, body, otherwise));
                }
                _ => {
                    self.close("else")?;
                    let (nodes, closing) = self.list(false)?;
                    if let Some((place, ELSE)) = closing {
                        return Err((place, "expected end; found {{else}}".to_owned()));
                    }
                    otherwise = nodes;
                }
            }
        }
        self.close("end")?;
        self.variables.truncate(scope);
        Ok(node(word, pipeline, body, otherwise))
    }

    fn pipeline(&mut self, context: &str, end: &Token<'_>) -> Result<Pipeline, Fault> {
        let (variables, assigns) = self.declarations(context)?;
        let mut commands: Vec<Command> = Vec::new();
        loop {
            self.skip_space();
            match self.peek() {
                Some(token) if token == end => break,
                Some(
                    Token::Word(_)
                    | Token::Field(_)
                    | Token::Variable(_)
                    | Token::Text(..)
                    | Token::Number(_)
                    | Token::Dot
                    | Token::OpenParen,
                ) => {
                    let command = self.command(context)?;
                    commands.push(command);
                }
                None => return self.fail("unclosed action".to_owned()),
                Some(_) => return self.unexpected(context),
            }
        }
        if commands.is_empty() {
            return self.fail(format!("missing value for {context}"));
        }
        for (index, command) in commands.iter().enumerate().skip(1) {
            let first = &command.operands[0].kind;
            let constant = matches!(
                first,
                OperandKind::Bool(_)
                    | OperandKind::Dot
                    | OperandKind::Nil
                    | OperandKind::Number(..)
                    | OperandKind::Text(..)
            );
            if constant {
                let stage = index + 1;
                return self.fail(format!("non executable command in pipeline stage {stage}"));
            }
        }
        // Only now the variables are known.
        if !assigns {
            self.variables.extend(variables.iter().cloned());
        }
        Ok(Pipeline { variables, assigns, commands })
    }

    /// `$x :=`, `$x =` or, of a range, `$i, $x :=`.
    fn declarations(&mut self, context: &str) -> Result<(Vec<String>, bool), Fault> {
        self.skip_space();
        let start = self.at;
        let mut variables = Vec::new();
        while let Some(Token::Variable(name)) = self.peek() {
            variables.push((*name).to_owned());
            self.at += 1;
            self.skip_space();
            match self.peek() {
                Some(Token::Declare) => {
                    self.at += 1;
                    return Ok((variables, false));
                }
                Some(Token::Assign) => {
                    for name in &variables {
                        self.known(name)?;
                    }
                    self.at += 1;
                    return Ok((variables, true));
                }
                Some(Token::Comma) if context == "range" && variables.len() < 2 => {
                    self.at += 1;
                    self.skip_space();
                }
                Some(Token::Comma) if context == "range" => {
                    return self.fail("too many declarations in range".to_owned());
                }
                _ => break,
            }
        }
        self.at = start;
        Ok((Vec::new(), false))
    }

    fn known(&self, variable: &str) -> Result<(), Fault> {
        if self.variables.iter().any(|known| known == variable) {
            return Ok(());
        }
        let quoted = model::quote::quote(variable);
        self.fail(format!("undefined variable {quoted}"))
    }

    /// Operands up to `|`, which is read, or to the end.
    fn command(&mut self, context: &str) -> Result<Command, Fault> {
        let mut operands = Vec::new();
        loop {
            self.skip_space();
            match self.operand()? {
                Some(operand) => operands.push(operand),
                None if operands.is_empty() => return self.unexpected(context),
                None => {}
            }
            match self.peek() {
                Some(Token::Space) => {
                    self.skip_space();
                    if matches!(self.peek(), Some(Token::Pipe)) {
                        self.at += 1;
                        break;
                    }
                    if matches!(self.peek(), Some(Token::Close | Token::CloseParen)) {
                        break;
                    }
                }
                Some(Token::Pipe) => {
                    self.at += 1;
                    break;
                }
                Some(Token::Close | Token::CloseParen) => break,
                _ => return self.unexpected("operand"),
            }
        }
        Ok(Command { operands })
    }

    fn operand(&mut self) -> Result<Option<Operand>, Fault> {
        let Some(term) = self.term()? else { return Ok(None) };
        let mut names = Vec::new();
        while let Some(Token::Field(name)) = self.peek() {
            names.push((*name).to_owned());
            self.at += 1;
        }
        if names.is_empty() {
            return Ok(Some(term));
        }
        let place = term.place;
        let kind = match term.kind {
            OperandKind::Field(index, mut all) => {
                all.extend(names);
                OperandKind::Field(index, all)
            }
            OperandKind::Variable(name, mut all) => {
                all.extend(names);
                OperandKind::Variable(name, all)
            }
            OperandKind::Bool(_)
            | OperandKind::Text(..)
            | OperandKind::Number(..)
            | OperandKind::Nil
            | OperandKind::Dot => {
                let quoted = model::quote::quote(&term.to_string());
                return self.fail(format!("unexpected . after term {quoted}"));
            }
            _ => OperandKind::Chain(Box::new(term), names),
        };
        Ok(Some(Operand { place, kind }))
    }

    fn term(&mut self) -> Result<Option<Operand>, Fault> {
        let place = self.place();
        let kind = match self.peek() {
            Some(Token::Word("true")) => OperandKind::Bool(true),
            Some(Token::Word("false")) => OperandKind::Bool(false),
            Some(Token::Word("nil")) => OperandKind::Nil,
            Some(Token::Word(word)) => match Function::by_name(word, self.dialect) {
                Some(function) => OperandKind::Function(function),
                None => {
                    let quoted = model::quote::quote(word);
                    return self.fail(format!("function {quoted} not defined"));
                }
            },
            Some(Token::Dot) => {
                self.needs_all = true;
                OperandKind::Dot
            }
            Some(Token::Variable(name)) => {
                let name = (*name).to_owned();
                self.known(&name)?;
                self.needs_all |= name == "$";
                OperandKind::Variable(name, Vec::new())
            }
            Some(Token::Text(written, text)) => {
                OperandKind::Text((*written).to_owned(), text.clone())
            }
            Some(Token::Number(written)) => match parse_number(written) {
                Some(number) => OperandKind::Number((*written).to_owned(), number),
                None => return self.fail(format!("illegal number syntax: {written}")),
            },
            Some(Token::Field(name)) => {
                let name = (*name).to_owned();
                let known = self.fields.iter().position(|field| *field == name);
                let index = known.unwrap_or(self.fields.len());
                if known.is_none() {
                    self.fields.push(name.clone());
                }
                OperandKind::Field(index, vec![name])
            }
            Some(Token::OpenParen) => {
                self.at += 1;
                self.nesting += 1;
                if self.nesting > MAX_NESTING {
                    return self.fail("parentheses are nested too deep".to_owned());
                }
                let pipeline = self.pipeline("parenthesized pipeline", &Token::CloseParen)?;
                self.nesting -= 1;
                OperandKind::Pipeline(pipeline)
            }
            _ => return Ok(None),
        };
        self.next();
        Ok(Some(Operand { place, kind }))
    }
}

fn node(word: &str, pipeline: Pipeline, body: Nodes, otherwise: Nodes) -> Node {
    match word {
        "if" => Node::If(pipeline, body, otherwise),
        "with" => Node::With(pipeline, body, otherwise),
        _ => Node::Range(pipeline, body, otherwise),
    }
}
