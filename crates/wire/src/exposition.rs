//! Prometheus' text format 0.0.4, with the quoted names of Prometheus 3.
//!
//! Source: <https://prometheus.io/docs/instrumenting/exposition_formats/> and the cases of
//! Prometheus' `model/textparse`. What that parser accepts is accepted, with the same words for
//! what is not; beyond it, a timestamp may be negative, as the format's description says.

use std::collections::BTreeMap;
use std::ops::Range;

use model::{Limits, MetricBatch, MetricType};

use crate::WireError;
use crate::text_batch::{self, TextSummary};
use crate::text_entry::{
    Entry, KnownSample, LabelGrammar, RawLabel, RawSeries, Series, help_text, metadata_name,
    parse_labels, unescape,
};
use crate::text_lex::{
    Cursor, Lex, State, Token, go_quote, is_label_byte, is_label_start, is_metric_byte,
    is_metric_start, parse_float,
};

/// Decodes an exposition into `out`, which is emptied first.
///
/// Samples without a timestamp get `default_t_ms`. `extra_labels` are added to every series and
/// replace labels of the same name; an empty value removes the label. Labels are packed but not
/// validated further: see [`crate::decode_labels`].
///
/// # Errors
/// [`WireError::Text`] with line and reason, [`WireError::Limit`]; `out` is then empty.
pub fn decode(
    text: &[u8],
    default_t_ms: i64,
    extra_labels: &BTreeMap<String, String>,
    limits: &Limits,
    out: &mut MetricBatch,
) -> Result<TextSummary, WireError> {
    let mut parser = Parser::new(text);
    text_batch::decode(text.len(), default_t_ms, extra_labels, limits, out, |sink| {
        while let Some(entry) = parser.next_entry()? {
            sink.push(&entry)?;
        }
        Ok(())
    })
}

/// Reads an exposition entry by entry.
#[derive(Debug)]
pub struct Parser<'a> {
    lexer: Lexer<'a>,
    kind: MetricType,
    name: Range<usize>,
    labels: Vec<RawLabel>,
}

impl<'a> Parser<'a> {
    /// A parser at the start of `input`.
    pub fn new(input: &'a [u8]) -> Self {
        Parser {
            lexer: Lexer { cursor: Cursor::new(input, true), state: State::Init },
            kind: MetricType::Unknown,
            name: 0..0,
            labels: Vec::new(),
        }
    }

    /// The next entry, or `None` at the end.
    ///
    /// # Errors
    /// [`WireError::Text`]; the parser is of no use afterwards.
    pub fn next_entry(&mut self) -> Result<Option<Entry<'_>>, WireError> {
        let (token, start) = loop {
            match self.lexer.next() {
                Token::Linebreak => {}
                token => break (token, self.lexer.cursor.start),
            }
        };
        match token {
            Token::Eof => Ok(None),
            Token::Help | Token::Type => self.metadata(token, start).map(Some),
            Token::Comment => {
                let comment = self.lexer.cursor.token();
                self.line_end("linebreak expected after comment", start)?;
                Ok(Some(Entry::Comment(comment)))
            }
            Token::MetricName | Token::BraceOpen => self.series(token, start).map(Some),
            _ => Err(self.lexer.cursor.unexpected("expected a valid start token", token, start)),
        }
    }

    /// Takes the next entry if it is a sample of the series written as `as_written`
    /// ([`Series::as_written`] of an earlier one); otherwise yields `None` and takes nothing.
    ///
    /// Labels are compared as bytes and not parsed, which is some five times cheaper than
    /// [`Parser::next_entry`]: a target writes the same series in the same order every time.
    ///
    /// # Errors
    /// As [`Parser::next_entry`], for value and timestamp.
    pub fn known_series(
        &mut self,
        as_written: &[u8],
    ) -> Result<Option<KnownSample<'_>>, WireError> {
        let cursor = &mut self.lexer.cursor;
        cursor.skip_while(|byte| byte == b'\n');
        if !cursor.skip_known(as_written) {
            return Ok(None);
        }
        let start = cursor.start;
        self.lexer.state = State::Value;
        let token = self.lexer.next();
        let (value, timestamp_ms) = self.value_and_timestamp(token, start)?;
        Ok(Some(KnownSample { value, timestamp_ms, start_timestamp_ms: None, exemplar: None }))
    }

    /// The type that the last `# TYPE` line names, of whatever family.
    pub fn kind(&self) -> MetricType {
        self.kind
    }

    fn line_end(&mut self, expected: &str, start: usize) -> Result<(), WireError> {
        match self.lexer.next() {
            Token::Linebreak => Ok(()),
            token => Err(self.lexer.cursor.unexpected(expected, token, start)),
        }
    }

    fn metadata(&mut self, keyword: Token, start: usize) -> Result<Entry<'_>, WireError> {
        let token = self.lexer.next();
        if token != Token::MetricName {
            let expected = format!("expected metric name after {}", keyword.as_str());
            return Err(self.lexer.cursor.unexpected(&expected, token, start));
        }
        let metric = metadata_name(&self.lexer.cursor)?;
        let token = self.lexer.next();
        if token != Token::Text {
            let message = format!("expected text in {}, got {}", keyword.as_str(), token.as_str());
            return Err(self.lexer.cursor.error(message));
        }
        let text = self.lexer.cursor.token().get(1..).unwrap_or_default();
        let entry = if keyword == Token::Help {
            let text = unescape(help_text(&self.lexer.cursor, text)?, false);
            Entry::Help { metric, text }
        } else {
            let kind = match text {
                b"counter" => MetricType::Counter,
                b"gauge" => MetricType::Gauge,
                b"histogram" => MetricType::Histogram,
                b"summary" => MetricType::Summary,
                b"untyped" => MetricType::Unknown,
                _ => {
                    let message = format!("invalid metric type {}", go_quote(text));
                    return Err(self.lexer.cursor.error(message));
                }
            };
            self.kind = kind;
            Entry::Type { metric, kind }
        };
        self.line_end("linebreak expected after metadata", start)?;
        Ok(entry)
    }

    fn series(&mut self, first: Token, start: usize) -> Result<Entry<'_>, WireError> {
        self.labels.clear();
        let mut name = None;
        let mut token = first;
        if token == Token::MetricName {
            name = Some(start..self.lexer.cursor.at);
            token = self.lexer.next();
        }
        let mut end = name.as_ref().map_or(start, |name| name.end);
        if token == Token::BraceOpen {
            let grammar = LabelGrammar { allows_name: true, needs_comma: false };
            parse_labels(&mut self.lexer, start, grammar, &mut name, &mut self.labels)?;
            end = self.lexer.cursor.at;
            token = self.lexer.next();
        }
        let cursor = &self.lexer.cursor;
        let Some(name) = name else {
            let so_far = cursor.quoted_so_far(start);
            return Err(cursor.error(format!("metric name not set while parsing: {so_far}")));
        };
        self.name = name;
        let (value, timestamp_ms) = self.value_and_timestamp(token, start)?;
        Ok(Entry::Series(Series {
            raw: RawSeries {
                input: self.lexer.cursor.bytes,
                as_written: start..end,
                labels: &self.labels,
                name: &self.name,
                kind: self.kind,
                is_verbatim: false,
            },
            value,
            timestamp_ms,
            start_timestamp_ms: None,
            exemplar: None,
        }))
    }

    /// The value, which is `token`, and the rest of a sample's line.
    fn value_and_timestamp(
        &mut self,
        token: Token,
        start: usize,
    ) -> Result<(f64, Option<i64>), WireError> {
        let cursor = &self.lexer.cursor;
        if token != Token::Value {
            return Err(cursor.unexpected("expected value after metric", token, start));
        }
        let value = parse_float(cursor.token()).map_err(|fault| {
            cursor.error(format!("{fault} while parsing: {}", cursor.quoted_so_far(start)))
        })?;
        Ok((value, self.timestamp(start)?))
    }

    fn timestamp(&mut self, start: usize) -> Result<Option<i64>, WireError> {
        let token = self.lexer.next();
        let cursor = &self.lexer.cursor;
        match token {
            Token::Linebreak => Ok(None),
            Token::Timestamp => {
                let text = String::from_utf8_lossy(cursor.token());
                let t_ms = text.parse::<i64>().map_err(|_| {
                    cursor.error(format!(
                        "strconv.ParseInt: parsing {}: value out of range while parsing: {}",
                        go_quote(text.as_bytes()),
                        cursor.quoted_so_far(start)
                    ))
                })?;
                self.line_end("expected next entry after timestamp", start)?;
                Ok(Some(t_ms))
            }
            _ => Err(cursor.unexpected("expected timestamp or new record", token, start)),
        }
    }
}

#[derive(Debug)]
struct Lexer<'a> {
    cursor: Cursor<'a>,
    state: State,
}

impl<'a> Lex<'a> for Lexer<'a> {
    fn cursor(&self) -> &Cursor<'a> {
        &self.cursor
    }

    fn next(&mut self) -> Token {
        let cursor = &mut self.cursor;
        if self.state != State::MetaText {
            cursor.skip_while(|byte| byte == b' ' || byte == b'\t');
        }
        let Some(byte) = cursor.peek() else { return Token::Eof };
        cursor.start = cursor.at;
        match self.state {
            State::Init => self.line_start(byte),
            State::MetaName => self.metadata_name(byte),
            State::MetaText => {
                cursor.skip_while(|byte| byte != b'\n');
                self.state = State::Init;
                Token::Text
            }
            State::Labels => self.label(byte),
            State::LabelValue => {
                if byte != b'"' || !cursor.skip_quoted(|_| false) {
                    return Token::Invalid;
                }
                self.state = State::Labels;
                Token::LabelValue
            }
            State::Value if byte == b'{' => {
                self.state = State::Labels;
                cursor.take(Token::BraceOpen)
            }
            State::Value => {
                cursor.skip_while(|byte| !matches!(byte, b'{' | b' ' | b'\t' | b'\n' | 0));
                if cursor.at == cursor.start {
                    return Token::Invalid;
                }
                self.state = State::Timestamp;
                Token::Value
            }
            _ => self.timestamp(byte),
        }
    }
}

impl Lexer<'_> {
    fn line_start(&mut self, byte: u8) -> Token {
        let cursor = &mut self.cursor;
        match byte {
            b'\n' => cursor.take(Token::Linebreak),
            b'#' => self.comment(),
            b'{' => {
                self.state = State::Labels;
                cursor.take(Token::BraceOpen)
            }
            byte if is_metric_start(byte) => {
                cursor.skip_while(is_metric_byte);
                self.state = State::Value;
                Token::MetricName
            }
            _ => Token::Invalid,
        }
    }

    /// `# HELP `, `# TYPE `, or a comment up to the end of its line.
    fn comment(&mut self) -> Token {
        let cursor = &mut self.cursor;
        let is_blank = |byte| byte == b' ' || byte == b'\t';
        cursor.at += 1;
        let mark_end = cursor.at;
        cursor.skip_while(is_blank);
        if cursor.at > mark_end {
            let rest = cursor.bytes.get(cursor.at..).unwrap_or_default();
            let keyword = match rest {
                [b'H', b'E', b'L', b'P', b' ' | b'\t', ..] => Some(Token::Help),
                [b'T', b'Y', b'P', b'E', b' ' | b'\t', ..] => Some(Token::Type),
                _ => None,
            };
            if let Some(keyword) = keyword {
                cursor.at += 4;
                cursor.skip_while(is_blank);
                self.state = State::MetaName;
                return keyword;
            }
        }
        cursor.skip_while(|byte| byte != b'\n');
        Token::Comment
    }

    fn metadata_name(&mut self, byte: u8) -> Token {
        let cursor = &mut self.cursor;
        if is_metric_start(byte) {
            cursor.skip_while(is_metric_byte);
        } else if byte != b'"' || !cursor.skip_quoted(|_| false) {
            return Token::Invalid;
        }
        self.state = State::MetaText;
        Token::MetricName
    }

    fn label(&mut self, byte: u8) -> Token {
        let cursor = &mut self.cursor;
        match byte {
            b'}' => {
                self.state = State::Value;
                cursor.take(Token::BraceClose)
            }
            b'=' => {
                self.state = State::LabelValue;
                cursor.take(Token::Equal)
            }
            b',' => cursor.take(Token::Comma),
            b'"' if cursor.skip_quoted(|_| false) => Token::QuotedString,
            byte if is_label_start(byte) => {
                cursor.skip_while(is_label_byte);
                Token::LabelName
            }
            _ => Token::Invalid,
        }
    }

    fn timestamp(&mut self, byte: u8) -> Token {
        let cursor = &mut self.cursor;
        if byte == b'\n' {
            self.state = State::Init;
            return cursor.take(Token::Linebreak);
        }
        if byte == b'-' {
            cursor.at += 1;
        }
        let digits = cursor.at;
        cursor.skip_while(|byte| byte.is_ascii_digit());
        if cursor.at == digits { Token::Invalid } else { Token::Timestamp }
    }
}
