//! Tokens of a configuration.

use crate::yaml::Span;

/// A token.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Token {
    Name(String),
    Number(String),
    Text(String),
    Null,
    Bool(bool),
    /// Punctuation and operators, as they are written.
    Mark(&'static str),
    /// The end of a statement: of a line that may be one.
    Terminator,
    End,
}

impl Token {
    /// As messages show it.
    pub(super) fn shown(&self) -> String {
        match self {
            Token::Name(name) => format!("identifier {name:?}"),
            Token::Number(number) => number.clone(),
            Token::Text(_) => "a string".to_owned(),
            Token::Null => "null".to_owned(),
            Token::Bool(is) => is.to_string(),
            Token::Mark(mark) => (*mark).to_owned(),
            Token::Terminator => "the end of the line".to_owned(),
            Token::End => "the end of the file".to_owned(),
        }
    }

    /// Whether a line that ends behind it may end a statement.
    fn may_end(&self) -> bool {
        match self {
            Token::Name(_) | Token::Number(_) | Token::Text(_) | Token::Null | Token::Bool(_) => {
                true
            }
            Token::Mark(mark) => matches!(*mark, "}" | ")" | "]"),
            Token::Terminator | Token::End => false,
        }
    }
}

/// What is wrong with a text, and where.
pub(super) struct Fault {
    pub(super) span: Span,
    pub(super) message: String,
    pub(super) help: Option<&'static str>,
}

/// Longer ones first.
const MARKS: &[&str] = &[
    "||", "&&", "!=", "==", "<=", ">=", "!", "=", "<", ">", "+", "-", "*", "/", "%", "^", "{", "}",
    "(", ")", "[", "]", ",", ".",
];

/// Takes a text apart.
pub(super) fn tokens(text: &str) -> Result<Vec<(Span, Token)>, Fault> {
    let mut lexer = Lexer { text, at: 0, found: Vec::new() };
    if text.starts_with('\u{feff}') {
        lexer.at = '\u{feff}'.len_utf8();
    }
    while lexer.next()? {}
    lexer.terminate();
    let end = text.len();
    lexer.found.push(((end, end), Token::End));
    Ok(lexer.found)
}

struct Lexer<'t> {
    text: &'t str,
    at: usize,
    found: Vec<(Span, Token)>,
}

impl Lexer<'_> {
    fn terminate(&mut self) {
        if self.found.last().is_some_and(|(_, token)| token.may_end()) {
            self.found.push(((self.at, self.at), Token::Terminator));
        }
    }

    /// Yields whether there was something.
    fn next(&mut self) -> Result<bool, Fault> {
        let start = self.at;
        let rest = &self.text[start..];
        let Some(c) = rest.chars().next() else { return Ok(false) };
        match c {
            '\n' => {
                self.terminate();
                self.at += 1;
            }
            ' ' | '\t' | '\r' => self.at += 1,
            _ if rest.starts_with("//") => self.at += rest.find('\n').unwrap_or(rest.len()),
            _ if rest.starts_with("/*") => {
                let Some(len) = rest.find("*/") else {
                    return Err(self.fault(start, start + 2, "block comment not terminated", None));
                };
                if rest[..len].contains('\n') {
                    self.terminate();
                }
                self.at += len + 2;
            }
            '"' => self.quoted()?,
            '`' => {
                let Some(len) = rest[1..].find('`') else {
                    let message = "string literal not terminated";
                    return Err(self.fault(start, start + 1, message, None));
                };
                let text = rest[1..=len].replace('\r', "");
                self.push(len + 2, Token::Text(text));
            }
            '\'' => {
                let message = "illegal single-quoted string; use double quotes";
                return Err(self.fault(start, start + 1, message, Some("write \"…\" or `…`")));
            }
            '0'..='9' => self.number(),
            '.' if rest[1..].starts_with(|c: char| c.is_ascii_digit()) => self.number(),
            c if c == '_' || c.is_alphabetic() => {
                let is_part = |c: char| c == '_' || c.is_alphanumeric();
                let len = rest.find(|c| !is_part(c)).unwrap_or(rest.len());
                let token = match &rest[..len] {
                    "null" => Token::Null,
                    "true" => Token::Bool(true),
                    "false" => Token::Bool(false),
                    name => Token::Name(name.to_owned()),
                };
                self.push(len, token);
            }
            c => match MARKS.iter().find(|mark| rest.starts_with(**mark)) {
                Some(mark) => self.push(mark.len(), Token::Mark(mark)),
                None => {
                    let message = format!("illegal character {c:?}");
                    let help = (c == '#').then_some("comments begin with //");
                    return Err(self.fault(start, start + c.len_utf8(), &message, help));
                }
            },
        }
        Ok(true)
    }

    fn fault(&self, from: usize, to: usize, message: &str, help: Option<&'static str>) -> Fault {
        Fault { span: (from, to), message: message.to_owned(), help }
    }

    fn push(&mut self, len: usize, token: Token) {
        self.found.push(((self.at, self.at + len), token));
        self.at += len;
    }

    fn number(&mut self) {
        let bytes = self.text.as_bytes();
        let digits = |from: usize| {
            bytes[from..].iter().take_while(|byte| byte.is_ascii_digit()).count() + from
        };
        let mut end = digits(self.at);
        if bytes.get(end) == Some(&b'.') {
            end = digits(end + 1);
        }
        if matches!(bytes.get(end), Some(b'e' | b'E')) {
            let sign = usize::from(matches!(bytes.get(end + 1), Some(b'+' | b'-')));
            let exponent = digits(end + 1 + sign);
            if exponent > end + 1 + sign {
                end = exponent;
            }
        }
        let text = self.text[self.at..end].to_owned();
        self.push(end - self.at, Token::Number(text));
    }

    /// A text between double quotes, with Go's escapes.
    fn quoted(&mut self) -> Result<(), Fault> {
        let start = self.at;
        let unterminated = || Fault {
            span: (start, start + 1),
            message: "string literal not terminated".to_owned(),
            help: Some("a string ends on its line; write `…` around several lines"),
        };
        let mut bytes: Vec<u8> = Vec::new();
        let mut chars = self.text[start + 1..].char_indices();
        loop {
            let (at, c) = chars.next().ok_or_else(unterminated)?;
            match c {
                '"' => {
                    let len = at + 2;
                    let text = String::from_utf8(bytes).map_err(|_| {
                        self.fault(start, start + len, "the string is not valid UTF-8", None)
                    })?;
                    self.push(len, Token::Text(text));
                    return Ok(());
                }
                '\n' => return Err(unterminated()),
                '\\' => {
                    let place = start + 1 + at;
                    let unknown = |end: usize| {
                        self.fault(
                            place,
                            end,
                            "unknown escape sequence",
                            Some("write \\\\ for a backslash, or `…` around the text"),
                        )
                    };
                    let (_, escape) = chars.next().ok_or_else(unterminated)?;
                    let mut digits = |count: usize, radix: u32, first: Option<char>| {
                        let mut value = first.map_or(Some(0), |c| c.to_digit(radix))?;
                        for _ in 0..count {
                            let (_, digit) = chars.next()?;
                            value = value * radix + digit.to_digit(radix)?;
                        }
                        Some(value)
                    };
                    match escape {
                        'a' => bytes.push(7),
                        'b' => bytes.push(8),
                        'f' => bytes.push(12),
                        'n' => bytes.push(b'\n'),
                        'r' => bytes.push(b'\r'),
                        't' => bytes.push(b'\t'),
                        'v' => bytes.push(11),
                        '\\' | '"' | '\'' => bytes.push(escape as u8),
                        '0'..='7' => {
                            let value = digits(2, 8, Some(escape));
                            let value = value.and_then(|value| u8::try_from(value).ok());
                            bytes.push(value.ok_or_else(|| unknown(place + 2))?);
                        }
                        'x' => {
                            let value = digits(2, 16, None);
                            let value = value.and_then(|value| u8::try_from(value).ok());
                            bytes.push(value.ok_or_else(|| unknown(place + 2))?);
                        }
                        'u' | 'U' => {
                            let value = digits(if escape == 'u' { 4 } else { 8 }, 16, None);
                            let c = value.and_then(char::from_u32);
                            let c = c.ok_or_else(|| unknown(place + 2))?;
                            bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
                        }
                        other => return Err(unknown(place + 1 + other.len_utf8())),
                    }
                }
                c => bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
    }
}
