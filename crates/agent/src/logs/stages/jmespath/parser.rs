//! Expressions as trees: a parser by precedence, as the specification's reference has it.

use super::functions::Function;
use super::json::Json;
use super::lexer::{Token, fault, tokens};

/// Deepest nesting.
const MAX_DEPTH: usize = 64;
/// Longest expression in bytes.
const MAX_BYTES: usize = 16 << 10;

/// An expression.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Expression {
    /// The value at hand.
    Current,
    Field(String),
    Index(i64),
    Slice(Option<i64>, Option<i64>, i64),
    Literal(Json),
    /// The second of what the first yields; a pipe as well.
    Sub(Box<Expression>, Box<Expression>),
    /// The second of each element.
    Project(Box<Expression>, Box<Expression>),
    /// The second of each member's value.
    ProjectValues(Box<Expression>, Box<Expression>),
    /// Elements for which the third is true.
    Filter(Box<Expression>, Box<Expression>, Box<Expression>),
    /// Lists inside a list become its elements.
    Flatten(Box<Expression>),
    List(Vec<Expression>),
    Object(Vec<(String, Expression)>),
    Or(Box<Expression>, Box<Expression>),
    And(Box<Expression>, Box<Expression>),
    Not(Box<Expression>),
    Compare(Comparison, Box<Expression>, Box<Expression>),
    Call(Function, Vec<Expression>),
    /// `&x`, for functions that call it.
    Reference(Box<Expression>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl Expression {
    /// Keys one inside the other, if it is nothing else.
    pub(crate) fn keys(&self) -> Option<Vec<&str>> {
        match self {
            Expression::Field(name) => Some(vec![name]),
            Expression::Sub(left, right) => {
                let mut keys = left.keys()?;
                keys.extend(right.keys()?);
                Some(keys)
            }
            _ => None,
        }
    }
}

/// Reads an expression.
///
/// # Errors
/// What is wrong with it, and where.
pub(crate) fn parse(text: &str) -> Result<Expression, String> {
    if text.len() > MAX_BYTES {
        return Err(format!("an expression of {} bytes: {MAX_BYTES} are the most", text.len()));
    }
    let mut parser = Parser { tokens: tokens(text)?, at: 0, depth: 0 };
    let expression = parser.expression(0)?;
    match parser.peek() {
        Token::End => Ok(expression),
        _ => Err(parser.unexpected()),
    }
}

struct Parser {
    tokens: Vec<(usize, Token)>,
    at: usize,
    depth: usize,
}

/// How strongly a token binds what stands before it.
fn power(token: &Token) -> u8 {
    match token {
        Token::Pipe => 1,
        Token::Or => 2,
        Token::And => 3,
        Token::Equal
        | Token::NotEqual
        | Token::Less
        | Token::LessOrEqual
        | Token::Greater
        | Token::GreaterOrEqual => 5,
        Token::Flatten => 9,
        Token::Star => 20,
        Token::Filter => 21,
        Token::Dot => 40,
        Token::Not => 45,
        Token::OpenBrace => 50,
        Token::OpenBracket => 55,
        Token::OpenParen => 60,
        _ => 0,
    }
}

const PROJECTION_STOP: u8 = 10;

fn boxed(expression: Expression) -> Box<Expression> {
    Box::new(expression)
}

impl Parser {
    fn peek(&self) -> &Token {
        &self.tokens[self.at.min(self.tokens.len() - 1)].1
    }

    fn peek_next(&self) -> &Token {
        &self.tokens[(self.at + 1).min(self.tokens.len() - 1)].1
    }

    fn next(&mut self) -> Token {
        let token = self.peek().clone();
        self.at += 1;
        token
    }

    fn unexpected(&self) -> String {
        let (place, token) = &self.tokens[self.at.min(self.tokens.len() - 1)];
        match token {
            Token::End => fault(*place, "the expression ends too early"),
            Token::Name(name) => fault(*place, &format!("unexpected {name:?}")),
            _ => fault(*place, "unexpected token"),
        }
    }

    fn expect(&mut self, token: &Token) -> Result<(), String> {
        if self.peek() != token {
            return Err(self.unexpected());
        }
        self.at += 1;
        Ok(())
    }

    fn expression(&mut self, binding: u8) -> Result<Expression, String> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(format!("the expression is nested deeper than {MAX_DEPTH}"));
        }
        let mut left = self.prefix()?;
        while binding < power(self.peek()) {
            left = self.infix(left)?;
        }
        self.depth -= 1;
        Ok(left)
    }

    fn prefix(&mut self) -> Result<Expression, String> {
        let place = self.at;
        Ok(match self.next() {
            Token::Literal(value) => Expression::Literal(value),
            Token::Name(name) => Expression::Field(name),
            Token::Quoted(name) => {
                if *self.peek() == Token::OpenParen {
                    return Err(self.unexpected());
                }
                Expression::Field(name)
            }
            Token::Star => {
                let right = match self.peek() {
                    Token::CloseBracket => Expression::Current,
                    _ => self.projected(power(&Token::Star))?,
                };
                Expression::ProjectValues(boxed(Expression::Current), boxed(right))
            }
            Token::Filter => self.filter(Expression::Current)?,
            Token::OpenBrace => self.object()?,
            Token::OpenParen => {
                let inner = self.expression(0)?;
                self.expect(&Token::CloseParen)?;
                inner
            }
            Token::Flatten => {
                let flat = Expression::Flatten(boxed(Expression::Current));
                let right = self.projected(power(&Token::Flatten))?;
                Expression::Project(boxed(flat), boxed(right))
            }
            Token::Not => Expression::Not(boxed(self.expression(power(&Token::Not))?)),
            Token::OpenBracket => match (self.peek(), self.peek_next()) {
                (Token::Number(_) | Token::Colon, _) => self.index(Expression::Current)?,
                (Token::Star, Token::CloseBracket) => {
                    self.at += 2;
                    let right = self.projected(power(&Token::Star))?;
                    Expression::Project(boxed(Expression::Current), boxed(right))
                }
                _ => self.list()?,
            },
            Token::At => Expression::Current,
            Token::Ampersand => Expression::Reference(boxed(self.expression(0)?)),
            _ => {
                self.at = place;
                return Err(self.unexpected());
            }
        })
    }

    fn infix(&mut self, left: Expression) -> Result<Expression, String> {
        let token = self.next();
        let binding = power(&token);
        Ok(match token {
            Token::Dot if *self.peek() == Token::Star => {
                self.at += 1;
                let right = self.projected(binding)?;
                Expression::ProjectValues(boxed(left), boxed(right))
            }
            Token::Dot => {
                let right = self.behind_dot(binding)?;
                Expression::Sub(boxed(left), boxed(right))
            }
            Token::Pipe => Expression::Sub(boxed(left), boxed(self.expression(binding)?)),
            Token::Or => Expression::Or(boxed(left), boxed(self.expression(binding)?)),
            Token::And => Expression::And(boxed(left), boxed(self.expression(binding)?)),
            Token::OpenParen => self.call(&left)?,
            Token::Filter => self.filter(left)?,
            Token::Flatten => {
                let flat = Expression::Flatten(boxed(left));
                let right = self.projected(binding)?;
                Expression::Project(boxed(flat), boxed(right))
            }
            Token::OpenBracket => match self.peek() {
                Token::Number(_) | Token::Colon => self.index(left)?,
                _ => {
                    self.expect(&Token::Star)?;
                    self.expect(&Token::CloseBracket)?;
                    let right = self.projected(power(&Token::Star))?;
                    Expression::Project(boxed(left), boxed(right))
                }
            },
            comparison => {
                let comparison = match comparison {
                    Token::Equal => Comparison::Equal,
                    Token::NotEqual => Comparison::NotEqual,
                    Token::Less => Comparison::Less,
                    Token::LessOrEqual => Comparison::LessOrEqual,
                    Token::Greater => Comparison::Greater,
                    Token::GreaterOrEqual => Comparison::GreaterOrEqual,
                    _ => {
                        self.at -= 1;
                        return Err(self.unexpected());
                    }
                };
                let right = self.expression(binding)?;
                Expression::Compare(comparison, boxed(left), boxed(right))
            }
        })
    }

    /// What is done to each element of a projection.
    fn projected(&mut self, binding: u8) -> Result<Expression, String> {
        match self.peek() {
            token if power(token) < PROJECTION_STOP => Ok(Expression::Current),
            Token::OpenBracket | Token::Filter => self.expression(binding),
            Token::Dot => {
                self.at += 1;
                self.behind_dot(binding)
            }
            _ => Err(self.unexpected()),
        }
    }

    fn behind_dot(&mut self, binding: u8) -> Result<Expression, String> {
        match self.peek() {
            Token::Name(_) | Token::Quoted(_) | Token::Star => self.expression(binding),
            Token::OpenBracket => {
                self.at += 1;
                self.list()
            }
            Token::OpenBrace => {
                self.at += 1;
                self.object()
            }
            _ => Err(self.unexpected()),
        }
    }

    fn filter(&mut self, left: Expression) -> Result<Expression, String> {
        let condition = self.expression(0)?;
        self.expect(&Token::CloseBracket)?;
        let right = match self.peek() {
            Token::Flatten => Expression::Current,
            _ => self.projected(power(&Token::Filter))?,
        };
        Ok(Expression::Filter(boxed(left), boxed(right), boxed(condition)))
    }

    /// An index or a slice, behind the bracket.
    fn index(&mut self, left: Expression) -> Result<Expression, String> {
        let mut parts = [None; 3];
        let mut part = 0;
        loop {
            match self.next() {
                Token::Number(number) if parts[part].is_none() => parts[part] = Some(number),
                Token::Colon if part < 2 => part += 1,
                Token::CloseBracket => break,
                _ => {
                    self.at -= 1;
                    return Err(self.unexpected());
                }
            }
        }
        let [first, end, step] = parts;
        if part == 0 {
            let index = Expression::Index(first.unwrap_or_default());
            return Ok(Expression::Sub(boxed(left), boxed(index)));
        }
        let slice = Expression::Slice(first, end, step.unwrap_or(1));
        let sliced = Expression::Sub(boxed(left), boxed(slice));
        let right = self.projected(power(&Token::Star))?;
        Ok(Expression::Project(boxed(sliced), boxed(right)))
    }

    /// `a, b]`
    fn list(&mut self) -> Result<Expression, String> {
        let mut items = Vec::new();
        loop {
            items.push(self.expression(0)?);
            match self.next() {
                Token::Comma => {}
                Token::CloseBracket => return Ok(Expression::List(items)),
                _ => {
                    self.at -= 1;
                    return Err(self.unexpected());
                }
            }
        }
    }

    /// `a: x, b: y}`
    fn object(&mut self) -> Result<Expression, String> {
        let mut members = Vec::new();
        loop {
            let (Token::Name(name) | Token::Quoted(name)) = self.next() else {
                self.at -= 1;
                return Err(self.unexpected());
            };
            self.expect(&Token::Colon)?;
            members.push((name, self.expression(0)?));
            match self.next() {
                Token::Comma => {}
                Token::CloseBrace => return Ok(Expression::Object(members)),
                _ => {
                    self.at -= 1;
                    return Err(self.unexpected());
                }
            }
        }
    }

    fn call(&mut self, left: &Expression) -> Result<Expression, String> {
        let Expression::Field(name) = left else {
            self.at -= 1;
            return Err(self.unexpected());
        };
        let place = self.tokens[self.at - 1].0;
        let mut args = Vec::new();
        while *self.peek() != Token::CloseParen {
            args.push(self.expression(0)?);
            match self.peek() {
                Token::Comma => self.at += 1,
                Token::CloseParen => {}
                _ => return Err(self.unexpected()),
            }
        }
        self.at += 1;
        let function = Function::by_name(name)
            .ok_or_else(|| fault(place, &format!("there is no function {name}()")))?;
        function.check_count(args.len()).map_err(|message| fault(place, &message))?;
        Ok(Expression::Call(function, args))
    }
}
