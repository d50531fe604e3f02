//! Templates as tokens.
//!
//! Source of the syntax: Go's `text/template/parse`; its errors are kept.

use crate::number::parse_number;

/// A token with its place in the template.
pub(crate) type Placed<'t> = (usize, Token<'t>);

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Token<'t> {
    /// What stands outside of actions, never empty.
    Outside(&'t str),
    /// `{{`
    Open,
    /// A name without a dot: a function, a keyword, `true`, `false` or `nil`.
    Word(&'t str),
    /// `.name`, without the dot.
    Field(&'t str),
    /// `$name` or `$`, with the `$`.
    Variable(&'t str),
    /// A text as written, with its quotes.
    Text(&'t str),
    /// A number or character as written.
    Number(&'t str),
    Dot,
    Pipe,
    Comma,
    /// `:=`
    Declare,
    /// `=`
    Assign,
    OpenParen,
    CloseParen,
    Space,
    /// `}}`
    Close,
    /// Some other character.
    Other(char),
    End,
    /// What follows cannot be read; always the last token.
    Error(String),
}

impl Token<'_> {
    /// The token as an error tells it.
    pub(crate) fn shown(&self) -> String {
        let text = match self {
            Token::End => return "EOF".to_owned(),
            Token::Error(problem) => return problem.clone(),
            Token::Dot => return "<.>".to_owned(),
            Token::Word(text) if is_keyword(text) => return format!("<{text}>"),
            Token::Word(text)
            | Token::Variable(text)
            | Token::Number(text)
            | Token::Text(text)
            | Token::Outside(text) => (*text).to_owned(),
            Token::Field(name) => format!(".{name}"),
            Token::Pipe => "|".to_owned(),
            Token::Comma => ",".to_owned(),
            Token::Declare => ":=".to_owned(),
            Token::Assign => "=".to_owned(),
            Token::OpenParen => "(".to_owned(),
            Token::CloseParen => ")".to_owned(),
            Token::Space => " ".to_owned(),
            Token::Open => "{{".to_owned(),
            Token::Close => "}}".to_owned(),
            Token::Other(c) => c.to_string(),
        };
        // Go counts bytes to decide, and characters to cut.
        if text.len() <= 10 {
            return model::quote::quote(&text);
        }
        let cut: String = text.chars().take(10).collect();
        format!("{}...", model::quote::quote(&cut))
    }
}

fn is_keyword(word: &str) -> bool {
    matches!(
        word,
        "nil"
            | "if"
            | "else"
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

/// Takes a template apart. The last token is [`Token::End`] or [`Token::Error`].
pub(crate) fn lex(template: &str) -> Vec<Placed<'_>> {
    let mut lexer = Lexer { template, at: 0, depth: 0, tokens: Vec::new() };
    match lexer.all() {
        Ok(()) => lexer.tokens.push((template.len(), Token::End)),
        Err((place, problem)) => lexer.tokens.push((place, Token::Error(problem))),
    }
    lexer.tokens
}

fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\r' | '\n')
}

/// `- ` behind `{{`.
fn has_trim_marker(text: &str) -> bool {
    text.strip_prefix('-').is_some_and(|rest| rest.starts_with(is_blank))
}

/// `}}`, or ` -}}`, which cuts the blanks that follow: how long it is, and whether it cuts.
fn closing(text: &str) -> Option<(usize, bool)> {
    if text.starts_with("}}") {
        return Some((2, false));
    }
    let rest = text.strip_prefix(is_blank)?;
    rest.starts_with("-}}").then_some((4, true))
}

fn is_word_char(c: char) -> bool {
    c == '_' || c.is_alphanumeric()
}

/// A character as Go's `%#U` shows it.
fn shown_char(c: char) -> String {
    let code = c as u32;
    // Go shows what it can print; blanks but the plain one are not among that.
    let printable = c == ' ' || (!c.is_whitespace() && !c.is_control() && c != '\u{feff}');
    if printable { format!("U+{code:04X} '{c}'") } else { format!("U+{code:04X}") }
}

struct Lexer<'t> {
    template: &'t str,
    at: usize,
    /// Parentheses that are open.
    depth: usize,
    tokens: Vec<Placed<'t>>,
}

type Fault = (usize, String);

impl<'t> Lexer<'t> {
    fn rest(&self) -> &'t str {
        &self.template[self.at..]
    }

    fn push(&mut self, len: usize, token: Token<'t>) {
        self.tokens.push((self.at, token));
        self.at += len;
    }

    fn fail<T>(&self, text: impl Into<String>) -> Result<T, Fault> {
        Err((self.at, text.into()))
    }

    fn all(&mut self) -> Result<(), Fault> {
        loop {
            let rest = self.rest();
            let open = memchr_pair(rest);
            let text = &rest[..open.unwrap_or(rest.len())];
            let trims = open.is_some_and(|open| has_trim_marker(&rest[open + 2..]));
            let kept = if trims { text.trim_end_matches(is_blank) } else { text };
            if !kept.is_empty() {
                self.tokens.push((self.at, Token::Outside(kept)));
            }
            self.at += text.len();
            if open.is_none() {
                return Ok(());
            }
            let marker = if trims { 2 } else { 0 };
            if self.rest()[2 + marker..].starts_with("/*") {
                self.at += 2 + marker;
                self.comment()?;
            } else {
                self.push(2, Token::Open);
                self.at += marker;
                self.depth = 0;
                self.action()?;
            }
        }
    }

    fn comment(&mut self) -> Result<(), Fault> {
        let rest = self.rest();
        let Some(end) = rest[2..].find("*/") else { return self.fail("unclosed comment") };
        let Some((len, trims)) = closing(&rest[end + 4..]) else {
            return self.fail("comment ends before closing delimiter");
        };
        self.at += end + 4 + len;
        self.trim(trims);
        Ok(())
    }

    /// Cuts blanks behind an action, if it asks for that.
    fn trim(&mut self, trims: bool) {
        if trims {
            let rest = self.rest();
            self.at += rest.len() - rest.trim_start_matches(is_blank).len();
        }
    }

    fn action(&mut self) -> Result<(), Fault> {
        loop {
            let rest = self.rest();
            if let Some((len, trims)) = closing(rest) {
                if self.depth > 0 {
                    return self.fail("unclosed left paren");
                }
                self.at += len - 2;
                self.push(2, Token::Close);
                self.trim(trims);
                return Ok(());
            }
            let Some(first) = rest.chars().next() else { return self.fail("unclosed action") };
            match first {
                c if is_blank(c) => {
                    let mut len = rest.len() - rest.trim_start_matches(is_blank).len();
                    // The last blank may belong to ` -}}`.
                    if rest[len..].starts_with("-}}") && len > 1 {
                        len -= 1;
                    }
                    self.push(len, Token::Space);
                }
                ':' if rest.starts_with(":=") => self.push(2, Token::Declare),
                ':' => return self.fail("expected :="),
                '=' => self.push(1, Token::Assign),
                '|' => self.push(1, Token::Pipe),
                ',' => self.push(1, Token::Comma),
                '(' => {
                    self.depth += 1;
                    self.push(1, Token::OpenParen);
                }
                ')' => {
                    if self.depth == 0 {
                        return self.fail("unexpected right paren");
                    }
                    self.depth -= 1;
                    self.push(1, Token::CloseParen);
                }
                '"' => self.quoted('"', "unterminated quoted string", Token::Text)?,
                '\'' => self.quoted('\'', "unterminated character constant", Token::Number)?,
                '`' => {
                    let Some(end) = rest[1..].find('`') else {
                        return self.fail("unterminated raw quoted string");
                    };
                    self.push(end + 2, Token::Text(&rest[..end + 2]));
                }
                '$' => {
                    let len = self.name_len(1)?;
                    self.push(len, Token::Variable(&rest[..len]));
                }
                '.' if !rest[1..].starts_with(|c: char| c.is_ascii_digit()) => {
                    if ends_name(&rest[1..]) {
                        self.push(1, Token::Dot);
                    } else {
                        let len = self.name_len(1)?;
                        self.push(len, Token::Field(&rest[1..len]));
                    }
                }
                '0'..='9' | '.' | '+' | '-' => self.number()?,
                c if is_word_char(c) => {
                    let len = self.name_len(0)?;
                    self.push(len, Token::Word(&rest[..len]));
                }
                c if c.is_ascii_graphic() => self.push(1, Token::Other(c)),
                c => {
                    return self
                        .fail(format!("unrecognized character in action: {}", shown_char(c)));
                }
            }
        }
    }

    /// How long the name is whose sign, so many bytes long, stands here. It has to end where
    /// something else may begin.
    fn name_len(&self, sign: usize) -> Result<usize, Fault> {
        let rest = self.rest();
        let name = &rest[sign..];
        let len = sign + name.find(|c| !is_word_char(c)).unwrap_or(name.len());
        match rest[len..].chars().next() {
            Some(c) if !ends_name(&rest[len..]) => {
                self.fail(format!("bad character {}", shown_char(c)))
            }
            _ => Ok(len),
        }
    }

    /// Something between two `mark`s, with escaped characters.
    fn quoted(
        &mut self,
        mark: char,
        unterminated: &str,
        token: fn(&'t str) -> Token<'t>,
    ) -> Result<(), Fault> {
        let rest = self.rest();
        let mut escaped = false;
        for (at, c) in rest.char_indices().skip(1) {
            match c {
                '\n' => break,
                _ if escaped => escaped = false,
                '\\' => escaped = true,
                c if c == mark => {
                    self.push(at + 1, token(&rest[..=at]));
                    return Ok(());
                }
                _ => {}
            }
        }
        self.fail(unterminated)
    }

    fn number(&mut self) -> Result<(), Fault> {
        let rest = self.rest();
        let len = number_len(rest);
        let mut written = &rest[..len];
        if let Some(next) = rest[len..].chars().next().filter(|c| is_word_char(*c)) {
            written = &rest[..len + next.len_utf8()];
            let quoted = model::quote::quote(written);
            return self.fail(format!("bad number syntax: {quoted}"));
        }
        // Signs behind a number are for complex numbers, which are not known here.
        if rest[len..].starts_with(['+', '-']) {
            let quoted = model::quote::quote(&rest[..len + number_len(&rest[len..])]);
            return self.fail(format!("bad number syntax: {quoted}"));
        }
        if parse_number(written).is_none() {
            return self.fail(format!("illegal number syntax: {}", model::quote::quote(written)));
        }
        self.push(len, Token::Number(written));
        Ok(())
    }
}

/// Where `{{` stands.
fn memchr_pair(text: &str) -> Option<usize> {
    text.find("{{")
}

/// Whether a name may end before `rest`.
fn ends_name(rest: &str) -> bool {
    rest.is_empty()
        || rest.starts_with(is_blank)
        || rest.starts_with(['.', ',', '|', ':', ')', '('])
        || rest.starts_with("}}")
}

/// How many bytes may belong to the number at the start of `text`.
fn number_len(text: &str) -> usize {
    let bytes = text.as_bytes();
    let accept = |at: usize, set: &[u8]| bytes.get(at).is_some_and(|byte| set.contains(byte));
    let run = |mut at: usize, set: &[u8]| {
        while accept(at, set) {
            at += 1;
        }
        at
    };
    let mut at = usize::from(accept(0, b"+-"));
    let mut digits: &[u8] = b"0123456789_";
    if accept(at, b"0") {
        at += 1;
        let (set, found): (&[u8], bool) = match bytes.get(at) {
            Some(b'x' | b'X') => (b"0123456789abcdefABCDEF_", true),
            Some(b'o' | b'O') => (b"01234567_", true),
            Some(b'b' | b'B') => (b"01_", true),
            _ => (digits, false),
        };
        digits = set;
        at += usize::from(found);
    }
    at = run(at, digits);
    if accept(at, b".") {
        at = run(at + 1, digits);
    }
    let exponents: &[u8] = match digits.len() {
        11 => b"eE",
        23 => b"pP",
        _ => b"",
    };
    if accept(at, exponents) {
        at += 1;
        at += usize::from(accept(at, b"+-"));
        at = run(at, b"0123456789_");
    }
    at
}
