//! What the lexers of the two text formats share: tokens, the cursor, and errors in Prometheus'
//! words.

use std::fmt::Write;

use model::NORMAL_NAN_BITS;

use crate::WireError;

/// A token of either format. Names as Prometheus prints them in errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Token {
    Invalid,
    Eof,
    Linebreak,
    Help,
    Type,
    Unit,
    EofWord,
    Text,
    Comment,
    MetricName,
    QuotedString,
    BraceOpen,
    BraceClose,
    LabelName,
    LabelValue,
    Comma,
    Equal,
    Timestamp,
    Value,
}

impl Token {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Token::Invalid => "INVALID",
            Token::Eof => "EOF",
            Token::Linebreak => "LINEBREAK",
            Token::Help => "HELP",
            Token::Type => "TYPE",
            Token::Unit => "UNIT",
            Token::EofWord => "EOFWORD",
            Token::Text => "TEXT",
            Token::Comment => "COMMENT",
            Token::MetricName => "MNAME",
            Token::QuotedString => "QSTRING",
            Token::BraceOpen => "BOPEN",
            Token::BraceClose => "BCLOSE",
            Token::LabelName => "LNAME",
            Token::LabelValue => "LVALUE",
            Token::Comma => "COMMA",
            Token::Equal => "EQUAL",
            Token::Timestamp => "TIMESTAMP",
            Token::Value => "VALUE",
        }
    }
}

/// What the next token may be; both lexers are machines over these.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    Init,
    MetaName,
    MetaText,
    Labels,
    LabelValue,
    Value,
    Timestamp,
    Exemplar,
    ExemplarValue,
    ExemplarTimestamp,
}

/// A lexer of one of the formats.
pub(crate) trait Lex<'a> {
    /// Reads the next token; blanks that the format allows are skipped.
    fn next(&mut self) -> Token;
    /// Where it stands.
    fn cursor(&self) -> &Cursor<'a>;
}

/// A position in the input and the token just read.
#[derive(Debug, Clone)]
pub(crate) struct Cursor<'a> {
    pub(crate) bytes: &'a [u8],
    /// Start of the last token.
    pub(crate) start: usize,
    /// Behind the last token or, after [`Token::Invalid`], at the byte that did not fit.
    pub(crate) at: usize,
    /// Whether a line feed is imagined behind the last byte, so that a last line needs none.
    pub(crate) closed_by_newline: bool,
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(bytes: &'a [u8], closed_by_newline: bool) -> Self {
        Cursor { bytes, start: 0, at: 0, closed_by_newline }
    }

    fn end(&self) -> usize {
        self.bytes.len() + usize::from(self.closed_by_newline)
    }

    /// The byte at the position.
    #[inline]
    pub(crate) fn peek(&self) -> Option<u8> {
        match self.bytes.get(self.at) {
            Some(&byte) => Some(byte),
            None if self.at < self.end() => Some(b'\n'),
            None => None,
        }
    }

    /// The bytes of the last token.
    #[inline]
    pub(crate) fn token(&self) -> &'a [u8] {
        let end = self.at.min(self.bytes.len());
        &self.bytes[self.start.min(end)..end]
    }

    #[inline]
    pub(crate) fn skip_while(&mut self, accept: impl Fn(u8) -> bool) {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        self.at += rest.iter().position(|&byte| !accept(byte)).unwrap_or(rest.len());
    }

    /// Steps over a quoted string that starts here; `false` leaves the position at the fault.
    /// `stop` tells the bytes that may not stand in it.
    #[inline]
    pub(crate) fn skip_quoted(&mut self, stop: impl Fn(u8) -> bool) -> bool {
        self.at += 1;
        while let Some(byte) = self.peek() {
            match byte {
                b'"' => {
                    self.at += 1;
                    return true;
                }
                b'\\' => {
                    self.at += 1;
                    match self.peek() {
                        None | Some(b'\n') => return false,
                        Some(_) => self.at += 1,
                    }
                }
                byte if stop(byte) => return false,
                _ => self.at += 1,
            }
        }
        false
    }

    /// Steps over `known`, the name and labels of a series, if they stand here as a whole: a blank
    /// must follow, and then no `{`.
    #[inline]
    pub(crate) fn skip_known(&mut self, known: &[u8]) -> bool {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let Some(behind) = rest.strip_prefix(known).filter(|_| !known.is_empty()) else {
            return false;
        };
        let is_blank = |byte: &u8| *byte == b' ' || *byte == b'\t';
        let blanks = behind.iter().take_while(|byte| is_blank(byte)).count();
        if blanks == 0 || behind.get(blanks) == Some(&b'{') {
            return false;
        }
        self.start = self.at;
        self.at += known.len();
        true
    }

    /// Takes one byte as `token`.
    #[inline]
    pub(crate) fn take(&mut self, token: Token) -> Token {
        self.at += 1;
        token
    }

    /// The input from `from` to one byte past the position, quoted: what errors show.
    fn excerpt(&self, from: usize) -> String {
        let end = (self.at + 1).min(self.end());
        self.quoted(from, end)
    }

    /// The input from `from` up to the position, quoted.
    pub(crate) fn quoted_so_far(&self, from: usize) -> String {
        self.quoted(from, self.at)
    }

    fn quoted(&self, from: usize, end: usize) -> String {
        let real = self.bytes.len();
        let mut bytes = self.bytes[from.min(real)..end.min(real)].to_vec();
        if end > real {
            bytes.push(b'\n');
        }
        go_quote(&bytes)
    }

    /// `expected …, got … while parsing: …` for a token that does not fit the entry.
    pub(crate) fn unexpected(&self, expected: &str, got: Token, entry_start: usize) -> WireError {
        self.error(format!(
            "{expected}, got {} (\"{}\") while parsing: {}",
            self.excerpt(self.start),
            got.as_str(),
            self.excerpt(entry_start)
        ))
    }

    /// An error at the last token.
    pub(crate) fn error(&self, message: String) -> WireError {
        let before = &self.bytes[..self.start.min(self.bytes.len())];
        let line = memchr::memchr_iter(b'\n', before).count() + 1;
        WireError::Text { line, message }
    }
}

#[inline]
pub(crate) fn is_label_start(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || byte == b'_'
}

#[inline]
pub(crate) fn is_label_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

#[inline]
pub(crate) fn is_metric_start(byte: u8) -> bool {
    is_label_start(byte) || byte == b':'
}

#[inline]
pub(crate) fn is_metric_byte(byte: u8) -> bool {
    is_label_byte(byte) || byte == b':'
}

/// Quotes bytes as Go's `%q` does, because Prometheus' messages do.
pub(crate) fn go_quote(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len() + 2);
    out.push('"');
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '"' => out.push_str("\\\""),
                '\\' => out.push_str("\\\\"),
                '\n' => out.push_str("\\n"),
                '\t' => out.push_str("\\t"),
                '\r' => out.push_str("\\r"),
                '\x07' => out.push_str("\\a"),
                '\x08' => out.push_str("\\b"),
                '\x0b' => out.push_str("\\v"),
                '\x0c' => out.push_str("\\f"),
                c if c.is_ascii_control() => push_hex(&mut out, c as u8),
                c if c.is_control() => {
                    write!(out, "\\u{:04x}", c as u32).expect("a String takes every write");
                }
                c => out.push(c),
            }
        }
        for &byte in chunk.invalid() {
            push_hex(&mut out, byte);
        }
    }
    out.push('"');
    out
}

fn push_hex(out: &mut String, byte: u8) {
    write!(out, "\\x{byte:02x}").expect("a String takes every write");
}

/// Parses a float as Prometheus does: Go's decimal syntax without underscores and hexadecimals,
/// a value beyond the range is an error, and every NaN is the canonical one.
pub(crate) fn parse_float(text: &[u8]) -> Result<f64, String> {
    if text.iter().any(|byte| matches!(byte, b'p' | b'P' | b'_')) {
        return Err("unsupported character in float".to_owned());
    }
    let fault = |why| format!("strconv.ParseFloat: parsing {}: {why}", go_quote(text));
    let value = std::str::from_utf8(text)
        .ok()
        .and_then(|text| text.parse::<f64>().ok())
        .ok_or_else(|| fault("invalid syntax"))?;
    if value.is_nan() {
        // Rust reads a signed NaN, Go does not.
        return if matches!(text[0], b'+' | b'-') {
            Err(fault("invalid syntax"))
        } else {
            Ok(f64::from_bits(NORMAL_NAN_BITS))
        };
    }
    if value.is_infinite() && text.iter().any(u8::is_ascii_digit) {
        return Err(fault("value out of range"));
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_are_read_as_go_reads_them() {
        for (text, value) in
            [("1", 1.0), ("-.5e1", -5.0), ("+Inf", f64::INFINITY), ("infinity", f64::INFINITY)]
        {
            assert_eq!(parse_float(text.as_bytes()), Ok(value), "{text}");
        }
        assert_eq!(parse_float(b"nAn").map(f64::to_bits), Ok(NORMAL_NAN_BITS));
        for text in ["", "+nan", "1_0", "0x1p3", "1e400", "1 ", "--1", "e5", "."] {
            assert!(parse_float(text.as_bytes()).is_err(), "{text}");
        }
    }

    #[test]
    fn quotes_as_go_does() {
        assert_eq!(go_quote(b"a\"\\\n\x00\xff\x7f\xc3\xa9"), r#""a\"\\\n\x00\xff\x7fé""#);
    }
}
