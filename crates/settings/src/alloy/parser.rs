//! From tokens to a tree.

use super::ast::{Attribute, Block, Body, Expr, ExprKind, Operator};
use super::lexer::{Fault, Token, tokens};
use crate::diagnostic::{Diagnostic, Faults, Source};
use crate::yaml::Span;

/// Deepest nesting of blocks and expressions.
const MAX_DEPTH: usize = 100;
/// Most operators, accesses and calls one behind the other in an expression.
const MAX_CHAINED: usize = 500;
/// Largest file that is read.
const MAX_FILE_BYTES: usize = 4 << 20;

/// Reads a configuration.
///
/// # Errors
/// The first fault of syntax.
pub(crate) fn parse(source: &Source) -> Result<Body, Faults> {
    if source.text.len() > MAX_FILE_BYTES {
        let message = format!("the file has {} bytes", source.text.len());
        let help = format!("at most {MAX_FILE_BYTES} bytes are read");
        return Err(Diagnostic::of_file(&source.file, message, Some(help)).into());
    }
    let told = |fault: Fault| {
        let help = fault.help.map(str::to_owned);
        Faults::from(Diagnostic::at(source, fault.span, fault.message, help))
    };
    let tokens = tokens(&source.text).map_err(told)?;
    let mut parser = Parser { tokens, at: 0, depth: 0, chained: 0 };
    parser.body(&Token::End).map_err(told)
}

struct Parser {
    tokens: Vec<(Span, Token)>,
    at: usize,
    depth: usize,
    /// Links of chains in the expression at hand: each is one level of the tree.
    chained: usize,
}

type Parsed<T> = Result<T, Fault>;

impl Parser {
    fn peek(&self) -> &Token {
        &self.tokens[self.at.min(self.tokens.len() - 1)].1
    }

    fn span(&self) -> Span {
        self.tokens[self.at.min(self.tokens.len() - 1)].0
    }

    fn next(&mut self) -> Token {
        let token = self.peek().clone();
        self.at += 1;
        token
    }

    fn is(&self, mark: &str) -> bool {
        matches!(self.peek(), Token::Mark(known) if *known == mark)
    }

    fn take(&mut self, mark: &str) -> bool {
        let is = self.is(mark);
        self.at += usize::from(is);
        is
    }

    fn unexpected<T>(&self, wanted: &str) -> Parsed<T> {
        let message = format!("expected {wanted}, got {}", self.peek().shown());
        Err(Fault { span: self.span(), message, help: None })
    }

    fn expect(&mut self, mark: &str) -> Parsed<()> {
        if self.take(mark) { Ok(()) } else { self.unexpected(mark) }
    }

    fn deeper(&mut self) -> Parsed<()> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            let message = format!("nested deeper than {MAX_DEPTH}");
            return Err(Fault { span: self.span(), message, help: None });
        }
        Ok(())
    }

    fn link(&mut self) -> Parsed<()> {
        self.chained += 1;
        if self.chained > MAX_CHAINED {
            let message = format!("an expression of more than {MAX_CHAINED} parts");
            let help = Some("write it as several, or as a list");
            return Err(Fault { span: self.span(), message, help });
        }
        Ok(())
    }

    /// Statements up to `until`, which is left.
    fn body(&mut self, until: &Token) -> Parsed<Body> {
        self.deeper()?;
        let mut body = Body::default();
        while self.peek() != until {
            if *self.peek() == Token::End {
                return self.unexpected("}");
            }
            self.statement(&mut body)?;
            if self.peek() == until {
                break;
            }
            match self.peek() {
                Token::Terminator => self.at += 1,
                _ => return self.unexpected("the end of the line"),
            }
        }
        self.depth -= 1;
        Ok(body)
    }

    fn name(&mut self) -> Parsed<String> {
        match self.next() {
            Token::Name(name) => Ok(name),
            _ => {
                self.at -= 1;
                self.unexpected("identifier")
            }
        }
    }

    fn statement(&mut self, body: &mut Body) -> Parsed<()> {
        let start = self.span();
        let mut name = self.name()?;
        while self.take(".") {
            name.push('.');
            name.push_str(&self.name()?);
        }
        let span = (start.0, self.tokens[self.at - 1].0.1);
        if self.take("=") {
            if name.contains('.') {
                let message = "attribute names may only consist of a single identifier with no \
                               \".\""
                    .to_owned();
                return Err(Fault { span, message, help: None });
            }
            self.chained = 0;
            let value = self.expression()?;
            if self.is("{") {
                let message = "cannot use a block as an expression".to_owned();
                let help = Some("write the block without `=`");
                return Err(Fault { span: self.span(), message, help });
            }
            body.attributes.push(Attribute { name, span, value });
            return Ok(());
        }
        let label = match self.peek().clone() {
            Token::Text(label) => {
                if !label.is_empty() && !is_identifier(&label) {
                    let message =
                        format!("expected block label to be a valid identifier, but got {label:?}");
                    let help = Some("use letters, digits and `_`");
                    return Err(Fault { span: self.span(), message, help });
                }
                self.at += 1;
                Some(label).filter(|label| !label.is_empty())
            }
            _ => None,
        };
        if !self.take("{") {
            let wanted = if label.is_none() && !name.contains('.') {
                "attribute assignment or block body"
            } else {
                "block body"
            };
            return self.unexpected(wanted);
        }
        let inner = self.body(&Token::Mark("}"))?;
        self.expect("}")?;
        body.blocks.push(Block { name, span, label, body: inner });
        Ok(())
    }

    fn expression(&mut self) -> Parsed<Expr> {
        self.binary(1)
    }

    fn operator(&self) -> Option<(Operator, u8)> {
        let Token::Mark(mark) = self.peek() else { return None };
        Some(match *mark {
            "||" => (Operator::Or, 1),
            "&&" => (Operator::And, 2),
            "==" => (Operator::Equal, 3),
            "!=" => (Operator::NotEqual, 3),
            "<" => (Operator::Less, 3),
            "<=" => (Operator::LessOrEqual, 3),
            ">" => (Operator::Greater, 3),
            ">=" => (Operator::GreaterOrEqual, 3),
            "+" => (Operator::Add, 4),
            "-" => (Operator::Subtract, 4),
            "*" => (Operator::Multiply, 5),
            "/" => (Operator::Divide, 5),
            "%" => (Operator::Modulo, 5),
            "^" => (Operator::Power, 6),
            _ => return None,
        })
    }

    fn binary(&mut self, least: u8) -> Parsed<Expr> {
        self.deeper()?;
        let mut left = self.unary()?;
        while let Some((operator, power)) = self.operator().filter(|(_, power)| *power >= least) {
            self.at += 1;
            self.link()?;
            // Powers bind to the right.
            let inner = if operator == Operator::Power { power } else { power + 1 };
            let right = self.binary(inner)?;
            let span = (left.span.0, right.span.1);
            let kind = ExprKind::Binary(operator, Box::new(left), Box::new(right));
            left = Expr { span, kind };
        }
        self.depth -= 1;
        Ok(left)
    }

    fn unary(&mut self) -> Parsed<Expr> {
        let start = self.span().0;
        for (mark, make) in [
            ("!", ExprKind::Not as fn(Box<Expr>) -> ExprKind),
            ("-", ExprKind::Minus as fn(Box<Expr>) -> ExprKind),
        ] {
            if self.take(mark) {
                self.deeper()?;
                let inner = self.unary()?;
                self.depth -= 1;
                return Ok(Expr { span: (start, inner.span.1), kind: make(Box::new(inner)) });
            }
        }
        let mut value = self.primary()?;
        loop {
            let kind = if self.take(".") {
                let name = self.name()?;
                ExprKind::Access(Box::new(value), name)
            } else if self.take("[") {
                let index = self.expression()?;
                self.expect("]")?;
                ExprKind::Index(Box::new(value), Box::new(index))
            } else if self.take("(") {
                ExprKind::Call(Box::new(value), self.list(")")?)
            } else {
                return Ok(value);
            };
            self.link()?;
            value = Expr { span: (start, self.tokens[self.at - 1].0.1), kind };
        }
    }

    /// Expressions with commas between, up to `end`, which is taken.
    fn list(&mut self, end: &str) -> Parsed<Vec<Expr>> {
        let mut items = Vec::new();
        while !self.take(end) {
            items.push(self.expression()?);
            if self.take(",") {
                continue;
            }
            self.missing_comma(end)?;
            self.expect(end)?;
            break;
        }
        Ok(items)
    }

    fn missing_comma(&self, end: &str) -> Parsed<()> {
        if *self.peek() == Token::Terminator {
            let message = format!("missing ',' before newline, or {end} behind the last element");
            let help = Some("each element on a line of its own ends with a comma");
            return Err(Fault { span: self.span(), message, help });
        }
        Ok(())
    }

    fn primary(&mut self) -> Parsed<Expr> {
        let span = self.span();
        let kind = match self.next() {
            Token::Name(name) => ExprKind::Name(name),
            Token::Text(text) => ExprKind::Text(text),
            Token::Number(number) => ExprKind::Number(number),
            Token::Bool(is) => ExprKind::Bool(is),
            Token::Null => ExprKind::Null,
            Token::Mark("(") => {
                let inner = self.expression()?;
                self.expect(")")?;
                return Ok(inner);
            }
            Token::Mark("[") => ExprKind::List(self.list("]")?),
            Token::Mark("{") => ExprKind::Object(self.members()?),
            _ => {
                self.at -= 1;
                return self.unexpected("expression");
            }
        };
        Ok(Expr { span: (span.0, self.tokens[self.at - 1].0.1), kind })
    }

    /// `name = value` with commas between, behind the brace.
    fn members(&mut self) -> Parsed<Vec<(String, Span, Expr)>> {
        let mut members = Vec::new();
        while !self.take("}") {
            let span = self.span();
            let name = match self.next() {
                Token::Name(name) | Token::Text(name) => name,
                _ => {
                    self.at -= 1;
                    return self.unexpected("field name (string or identifier)");
                }
            };
            self.expect("=")?;
            members.push((name, span, self.expression()?));
            if self.take(",") {
                continue;
            }
            self.missing_comma("}")?;
            self.expect("}")?;
            break;
        }
        Ok(members)
    }
}

fn is_identifier(text: &str) -> bool {
    text.starts_with(|c: char| c == '_' || c.is_alphabetic())
        && text.chars().all(|c| c == '_' || c.is_alphanumeric())
}
