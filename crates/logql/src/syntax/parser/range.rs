//! Range aggregations.

use super::super::ast::{
    Conversion, LogExpr, LogRange, MetricExpr, RangeAggregation, RangeOp, Stage, Unwrap,
};
use super::super::duration;
use super::super::error::ParseError;
use super::super::lexer::{Token, TokenKind, signed_duration};
use super::super::number;
use super::Parser;

/// A range of which not all has been read.
struct PartialRange {
    log: LogExpr,
    unwrap: Option<Unwrap>,
    interval: Option<i64>,
    offset: i64,
    /// Whether the last thing read was its closing parenthesis.
    is_closed: bool,
}

impl Parser<'_> {
    /// `rate({app="a"}[5m])`
    pub(super) fn range_aggregation(&mut self, op: RangeOp) -> Result<MetricExpr, ParseError> {
        let start = self.next()?.span.start;
        self.expect(TokenKind::OpenParen)?;
        let parameter = match self.peek_kind()? {
            TokenKind::Number => {
                let number = self.next()?;
                self.expect(TokenKind::Comma)?;
                if !matches!(self.peek_kind()?, TokenKind::OpenBrace | TokenKind::OpenParen) {
                    return Err(self.unexpected(&[TokenKind::OpenBrace, TokenKind::OpenParen]));
                }
                Some(number)
            }
            TokenKind::OpenBrace | TokenKind::OpenParen => None,
            _ => {
                let wanted = [TokenKind::Number, TokenKind::OpenBrace, TokenKind::OpenParen];
                return Err(self.unexpected(&wanted));
            }
        };
        let range = self.log_range()?;
        self.expect(TokenKind::CloseParen)?;
        let grouping = self.grouping()?;
        let parameter = self.quantile(op, parameter);
        let span = self.span_from(start);
        let name = op.as_str();
        if grouping.is_some() && !op.takes_grouping() {
            self.fault(format!("grouping not allowed for {name} aggregation"));
        }
        if range.unwrap.is_some() && !op.takes_unwrap() {
            self.fault(format!("invalid aggregation {name} with unwrap"));
        }
        if range.unwrap.is_none() && !op.takes_lines() {
            self.fault(format!("invalid aggregation {name} without unwrap"));
        }
        let aggregation = RangeAggregation { op, parameter, range, grouping, span };
        Ok(MetricExpr::Range(Box::new(aggregation)))
    }

    fn quantile(&mut self, op: RangeOp, parameter: Option<Token>) -> Option<f64> {
        let name = op.as_str();
        let Some(token) = parameter else {
            if op == RangeOp::QuantileOverTime {
                self.fault(format!("parameter required for operation {name}"));
            }
            return None;
        };
        let text = self.text_of(token);
        if op != RangeOp::QuantileOverTime {
            self.fault(format!("parameter {text} not supported for operation {name}"));
            return None;
        }
        match number::parse(text) {
            Ok(value) => Some(value),
            Err(message) => {
                self.fault(format!("invalid parameter for operation {name}: {message}"));
                None
            }
        }
    }

    fn log_range(&mut self) -> Result<LogRange, ParseError> {
        let PartialRange { log, unwrap, interval, offset, is_closed } = self.partial_range()?;
        match interval {
            Some(interval) => Ok(LogRange { log, unwrap, interval, offset }),
            None if is_closed => Err(self.unexpected(&[TokenKind::Range])),
            None if unwrap.is_some() => Err(self.unexpected(&[TokenKind::Range, TokenKind::Pipe])),
            None => Err(self.unexpected(&[])),
        }
    }

    /// Lines, the window and the offset in one of the orders in which they may stand, as far as
    /// they stand here.
    fn partial_range(&mut self) -> Result<PartialRange, ParseError> {
        let start = self.peek()?.span.start;
        let mut range = if self.accept(TokenKind::OpenParen)? {
            self.enter()?;
            if !matches!(self.peek_kind()?, TokenKind::OpenBrace | TokenKind::OpenParen) {
                return Err(self.unexpected(&[TokenKind::OpenBrace, TokenKind::OpenParen]));
            }
            let range = self.partial_range()?;
            if !self.accept(TokenKind::CloseParen)? {
                return Err(match (range.interval, &range.unwrap) {
                    (Some(_), _) => self.unexpected(&[TokenKind::CloseParen]),
                    (None, _) => self.unexpected(&[]),
                });
            }
            self.leave();
            PartialRange { is_closed: true, ..range }
        } else {
            let matchers = self.selector()?;
            let log = LogExpr { matchers, stages: Vec::new(), span: self.span_from(start) };
            PartialRange { log, unwrap: None, interval: None, offset: 0, is_closed: false }
        };
        if range.is_closed && range.interval.is_some() {
            return Ok(range);
        }
        self.pipeline_of_range(&mut range)?;
        if range.interval.is_none() && self.peek_kind()? == TokenKind::Range {
            let token = self.next()?;
            let text = self.text_of(token);
            // The lexer has read it before.
            range.interval =
                Some(duration::parse_either(&text[1..text.len() - 1]).unwrap_or_default());
            if self.accept(TokenKind::Offset)? {
                let token = self.expect(TokenKind::Duration)?;
                range.offset = signed_duration(self.text_of(token)).unwrap_or_default();
            }
            self.pipeline_of_range(&mut range)?;
        }
        range.log.span.start = start;
        Ok(range)
    }

    /// Steps of the pipeline, and the `unwrap` that ends it.
    fn pipeline_of_range(&mut self, range: &mut PartialRange) -> Result<(), ParseError> {
        while range.unwrap.is_none() {
            let start = self.peek()?.span.start;
            if self.peek_kind()? != TokenKind::Pipe {
                let Some(stage) = self.stage()? else { return Ok(()) };
                range.log.stages.push(stage);
            } else {
                self.next()?;
                if self.peek_kind()? == TokenKind::Unwrap {
                    range.unwrap = Some(self.unwrap()?);
                } else {
                    let kind = self.stage_behind_pipe()?;
                    let span = self.span_from(start);
                    range.log.stages.push(Stage { kind, span });
                }
            }
            range.is_closed = false;
            range.log.span.end = self.end;
        }
        Ok(())
    }

    /// `unwrap duration(took) | __error__=""`
    fn unwrap(&mut self) -> Result<Unwrap, ParseError> {
        self.expect(TokenKind::Unwrap)?;
        let conversion = match self.peek_kind()? {
            TokenKind::BytesConversion => Some(Conversion::Bytes),
            TokenKind::DurationConversion => Some(Conversion::Duration),
            TokenKind::DurationSecondsConversion => Some(Conversion::DurationSeconds),
            TokenKind::Identifier => None,
            _ => {
                return Err(self.unexpected(&[
                    TokenKind::Identifier,
                    TokenKind::BytesConversion,
                    TokenKind::DurationConversion,
                    TokenKind::DurationSecondsConversion,
                ]));
            }
        };
        let label = if conversion.is_some() {
            self.next()?;
            self.expect(TokenKind::OpenParen)?;
            let label = self.identifier()?;
            self.expect(TokenKind::CloseParen)?;
            label
        } else {
            self.identifier()?
        };
        let mut filters = Vec::new();
        while self.accept(TokenKind::Pipe)? {
            filters.push(self.label_filter()?);
        }
        Ok(Unwrap { label, conversion, filters })
    }
}
