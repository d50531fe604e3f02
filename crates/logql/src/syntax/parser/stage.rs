//! Steps of a pipeline.

use super::super::ast::{
    Extraction, LabelChoice, LabelFormat, LabelFormatSource, LineFilter, LineFilterOp, LineOperand,
    Stage, StageKind,
};
use super::super::error::ParseError;
use super::super::lexer::TokenKind;
use super::Parser;
use super::log::match_op;
use crate::pipeline::{PatternParser, RegexpParser};

impl Parser<'_> {
    /// The next step; `None` if the pipeline ends here.
    pub(super) fn stage(&mut self) -> Result<Option<Stage>, ParseError> {
        let token = self.peek()?;
        let kind = if let Some(op) = line_filter_op(token.kind) {
            self.next()?;
            StageKind::LineFilter(self.line_filter(op)?)
        } else if self.accept(TokenKind::Pipe)? {
            self.stage_behind_pipe()?
        } else {
            return Ok(None);
        };
        Ok(Some(Stage { kind, span: self.span_from(token.span.start) }))
    }

    /// What follows a line filter's operator.
    fn line_filter(&mut self, op: LineFilterOp) -> Result<LineFilter, ParseError> {
        let mut operands = vec![self.line_operand()?];
        while self.accept(TokenKind::Or)? {
            operands.push(self.line_operand()?);
        }
        Ok(LineFilter { op, operands })
    }

    fn line_operand(&mut self) -> Result<LineOperand, ParseError> {
        if self.peek_kind()? == TokenKind::Ip {
            return Ok(LineOperand { value: self.ip()?, is_ip: true });
        }
        let token = self.expect_or(TokenKind::String, &[TokenKind::Ip])?;
        Ok(LineOperand { value: self.value_of(token)?, is_ip: false })
    }

    /// `ip("10.0.0.0/8")`
    pub(super) fn ip(&mut self) -> Result<String, ParseError> {
        self.expect(TokenKind::Ip)?;
        self.expect(TokenKind::OpenParen)?;
        let pattern = self.string()?;
        self.expect(TokenKind::CloseParen)?;
        Ok(pattern)
    }

    /// A step whose `|` was taken.
    pub(super) fn stage_behind_pipe(&mut self) -> Result<StageKind, ParseError> {
        let kind = self.peek_kind()?;
        if kind == TokenKind::OpenParen || self.is_name_ahead()? {
            return Ok(StageKind::LabelFilter(self.label_filter()?));
        }
        let read: fn(&mut Self) -> Result<StageKind, ParseError> = match kind {
            TokenKind::Json => |parser| Ok(StageKind::Json(parser.extractions()?)),
            TokenKind::Logfmt => Self::logfmt,
            TokenKind::Regexp => Self::regexp,
            TokenKind::Pattern => Self::pattern,
            TokenKind::Unpack => |_| Ok(StageKind::Unpack),
            TokenKind::LineFormat => |parser| Ok(StageKind::LineFormat(parser.string()?)),
            TokenKind::LabelFormat => |parser| Ok(StageKind::LabelFormat(parser.label_formats()?)),
            TokenKind::Decolorize => |_| Ok(StageKind::Decolorize),
            TokenKind::Drop => |parser| Ok(StageKind::Drop(parser.label_choices()?)),
            TokenKind::Keep => |parser| Ok(StageKind::Keep(parser.label_choices()?)),
            _ => return Err(self.unexpected(&[])),
        };
        self.next()?;
        read(self)
    }

    /// The expression of `regexp`, which Loki checks while it reads the query.
    fn regexp(&mut self) -> Result<StageKind, ParseError> {
        let expression = self.string()?;
        match RegexpParser::new(&expression) {
            Ok(_) => Ok(StageKind::Regexp(expression)),
            Err(error) => Err(ParseError::general(format!("invalid regexp parser: {error}"))),
        }
    }

    /// The pattern of `pattern`, checked likewise.
    fn pattern(&mut self) -> Result<StageKind, ParseError> {
        let pattern = self.string()?;
        match PatternParser::new(&pattern) {
            Ok(_) => Ok(StageKind::Pattern(pattern)),
            Err(error) => Err(ParseError::general(format!("invalid pattern parser: {error}"))),
        }
    }

    /// `--strict --keep-empty a="b"`
    fn logfmt(&mut self) -> Result<StageKind, ParseError> {
        let (mut strict, mut keep_empty) = (false, false);
        while self.peek_kind()? == TokenKind::Flag {
            let flag = self.next()?;
            match self.text_of(flag) {
                "--strict" => strict = true,
                _ => keep_empty = true,
            }
        }
        Ok(StageKind::Logfmt { strict, keep_empty, extractions: self.extractions()? })
    }

    /// `a="b.c", d`, or nothing.
    fn extractions(&mut self) -> Result<Vec<Extraction>, ParseError> {
        let mut extractions = Vec::new();
        if !self.is_name_ahead()? {
            return Ok(extractions);
        }
        loop {
            let label = self.identifier()?;
            let path = if self.accept(TokenKind::Eq)? { self.string()? } else { label.clone() };
            extractions.push(Extraction { label, path });
            if !self.accept(TokenKind::Comma)? {
                return Ok(extractions);
            }
        }
    }

    /// `a=b,c="{{.d}}"`
    fn label_formats(&mut self) -> Result<Vec<LabelFormat>, ParseError> {
        let mut formats = Vec::new();
        loop {
            let label = self.identifier()?;
            self.expect(TokenKind::Eq)?;
            let source = if self.peek_kind()? == TokenKind::String {
                LabelFormatSource::Template(self.string()?)
            } else {
                let token = self.expect_or(TokenKind::Identifier, &[TokenKind::String])?;
                LabelFormatSource::Rename(self.text_of(token).to_owned())
            };
            formats.push(LabelFormat { label, source });
            if !self.accept(TokenKind::Comma)? {
                return Ok(formats);
            }
        }
    }

    /// `a,b="c"`
    fn label_choices(&mut self) -> Result<Vec<LabelChoice>, ParseError> {
        let mut choices = Vec::new();
        loop {
            let name = self.identifier()?;
            choices.push(match match_op(self.peek_kind()?) {
                Some(op) => {
                    self.next()?;
                    let value = self.string()?;
                    LabelChoice::Matcher(self.matcher(name, op, value)?)
                }
                None => LabelChoice::Name(name),
            });
            if !self.accept(TokenKind::Comma)? {
                return Ok(choices);
            }
        }
    }
}

fn line_filter_op(kind: TokenKind) -> Option<LineFilterOp> {
    match kind {
        TokenKind::PipeExact => Some(LineFilterOp::Contains),
        TokenKind::Neq => Some(LineFilterOp::NotContains),
        TokenKind::PipeMatch => Some(LineFilterOp::Matches),
        TokenKind::Nre => Some(LineFilterOp::NotMatches),
        TokenKind::PipePattern => Some(LineFilterOp::Pattern),
        TokenKind::NotPattern => Some(LineFilterOp::NotPattern),
        _ => None,
    }
}
