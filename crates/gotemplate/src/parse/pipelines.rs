//! Pipelines: declarations, commands and their operands.

use crate::ast::{Command, Operand, OperandKind, Pipeline};
use crate::builtins;
use crate::lex::Token;
use crate::number::{parse_number, unquoted};

use super::{Fault, Parser};

impl Parser<'_> {
    /// Commands up to `end`, which is read as well.
    pub(super) fn pipeline(&mut self, context: &str, end: &Token<'_>) -> Result<Pipeline, Fault> {
        self.skip_space();
        let place = self.place();
        let (variables, assigns) = self.declarations(context)?;
        let mut commands: Vec<Command> = Vec::new();
        loop {
            match self.peek_solid() {
                token if token == end => break,
                Token::Word(word) if is_reserved(word) => return self.unexpected(context),
                Token::Word(_)
                | Token::Field(_)
                | Token::Variable(_)
                | Token::Text(_)
                | Token::Number(_)
                | Token::Dot
                | Token::OpenParen => {
                    let command = self.command()?;
                    commands.push(command);
                }
                _ => return self.unexpected(context),
            }
        }
        self.at += 1;
        if commands.is_empty() {
            self.at -= 1;
            return self.fail(format!("missing value for {context}"));
        }
        for (index, command) in commands.iter().enumerate().skip(1) {
            let constant = matches!(
                command.operands[0].kind,
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
        Ok(Pipeline { place, variables, assigns, commands })
    }

    /// `$x :=`, `$x =` or, of a range, `$i, $x :=`.
    pub(super) fn declarations(&mut self, context: &str) -> Result<(Vec<String>, bool), Fault> {
        let mut variables = Vec::new();
        loop {
            let start = self.at;
            let Token::Variable(name) = self.peek_solid() else { break };
            let name = (*name).to_owned();
            self.at += 1;
            match self.peek_solid() {
                token @ (Token::Declare | Token::Assign) => {
                    let assigns = *token == Token::Assign;
                    self.at += 1;
                    self.variables.push(name.clone());
                    variables.push(name);
                    return Ok((variables, assigns));
                }
                Token::Comma => {
                    self.at += 1;
                    self.variables.push(name.clone());
                    variables.push(name);
                    if context != "range" || variables.len() >= 2 {
                        return self.fail(format!("too many declarations in {context}"));
                    }
                    if !matches!(
                        self.peek_solid(),
                        Token::Variable(_) | Token::Close | Token::CloseParen
                    ) {
                        return self.fail("range can only initialize variables");
                    }
                }
                _ => {
                    self.at = start;
                    break;
                }
            }
        }
        Ok((variables, false))
    }

    /// Operands up to `|`, which is read, or to the end.
    pub(super) fn command(&mut self) -> Result<Command, Fault> {
        self.skip_space();
        let place = self.place();
        let mut operands = Vec::new();
        loop {
            self.skip_space();
            if let Some(operand) = self.operand()? {
                operands.push(operand);
            }
            match self.peek() {
                Token::Space => continue,
                Token::Pipe => self.at += 1,
                Token::Close | Token::CloseParen => {}
                _ => return self.unexpected("operand"),
            }
            break;
        }
        if operands.is_empty() {
            return self.fail("empty command");
        }
        Ok(Command { place, operands })
    }

    pub(super) fn operand(&mut self) -> Result<Option<Operand>, Fault> {
        let Some(term) = self.term()? else { return Ok(None) };
        let place = self.place();
        let mut names = Vec::new();
        while let Token::Field(name) = self.peek() {
            names.push((*name).to_owned());
            self.at += 1;
        }
        if names.is_empty() {
            return Ok(Some(term));
        }
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

    pub(super) fn term(&mut self) -> Result<Option<Operand>, Fault> {
        let place = self.place();
        let kind = match self.peek() {
            Token::Word("true") => OperandKind::Bool(true),
            Token::Word("false") => OperandKind::Bool(false),
            Token::Word("nil") => OperandKind::Nil,
            Token::Word(word) if is_reserved(word) => return Ok(None),
            Token::Word(word) => {
                let known = self.vocabulary.find(word).or_else(|| builtins::find(word));
                match known {
                    Some(function) => OperandKind::Function(function),
                    None => {
                        let quoted = model::quote::quote(word);
                        return self.fail(format!("function {quoted} not defined"));
                    }
                }
            }
            Token::Dot => {
                self.needs_all = true;
                OperandKind::Dot
            }
            Token::Variable(name) => {
                let name = (*name).to_owned();
                if !self.variables.contains(&name) {
                    let quoted = model::quote::quote(&name);
                    return self.fail(format!("undefined variable {quoted}"));
                }
                self.needs_all |= name == "$";
                OperandKind::Variable(name, Vec::new())
            }
            Token::Text(written) => {
                let written = *written;
                OperandKind::Text(written.to_owned(), self.text_of(written)?)
            }
            Token::Number(written) => match parse_number(written) {
                Some(number) => OperandKind::Number((*written).to_owned(), number),
                None => {
                    let inner = &written[1..written.len() - 1];
                    let readable = unquoted(inner, '\'').is_some_and(|text| !text.is_empty());
                    return self.fail(if readable {
                        format!("malformed character constant: {written}")
                    } else {
                        "invalid syntax".to_owned()
                    });
                }
            },
            Token::Field(name) => {
                let name = (*name).to_owned();
                let next = self.fields.len();
                let number = *self.numbers.entry(name.clone()).or_insert(next);
                if number == next {
                    self.fields.push(name.clone());
                }
                OperandKind::Field(number, vec![name])
            }
            Token::OpenParen => {
                self.at += 1;
                self.enter()?;
                let pipeline = self.pipeline("parenthesized pipeline", &Token::CloseParen)?;
                self.nesting -= 1;
                return Ok(Some(Operand { place, kind: OperandKind::Pipeline(pipeline) }));
            }
            _ => return Ok(None),
        };
        self.at += 1;
        Ok(Some(Operand { place, kind }))
    }
}

/// Words that begin an action and are no functions.
fn is_reserved(word: &str) -> bool {
    matches!(
        word,
        "if" | "else"
            | "end"
            | "range"
            | "with"
            | "template"
            | "define"
            | "block"
            | "break"
            | "continue"
    )
}
