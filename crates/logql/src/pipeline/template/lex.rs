//! Templates as tokens.
//!
//! Source of the syntax: Go's `text/template`; its errors are kept.

/// A token inside an action.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Token<'t> {
    /// A name without a dot: a function, a keyword, `true`, `false` or `nil`.
    Word(&'t str),
    /// `.name`, without the dot.
    Field(&'t str),
    /// `$name` or `$`, with the `$`.
    Variable(&'t str),
    /// A text as written, with its quotes, and what it stands for.
    Text(&'t str, String),
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
}

impl Token<'_> {
    /// The token as an error tells it.
    pub(crate) fn shown(&self) -> String {
        let text = match self {
            Token::Dot => return "<.>".to_owned(),
            Token::Word(text) if is_keyword(text) => return format!("<{text}>"),
            Token::Word(text) | Token::Variable(text) | Token::Number(text) => (*text).to_owned(),
            Token::Text(written, _) => (*written).to_owned(),
            Token::Field(name) => format!(".{name}"),
            Token::Pipe => "|".to_owned(),
            Token::Comma => ",".to_owned(),
            Token::Declare => ":=".to_owned(),
            Token::Assign => "=".to_owned(),
            Token::OpenParen => "(".to_owned(),
            Token::CloseParen => ")".to_owned(),
            Token::Space => " ".to_owned(),
            Token::Close => "}}".to_owned(),
            Token::Other(c) => c.to_string(),
        };
        let cut: String = text.chars().take(10).collect();
        let quoted = model::quote::quote(&cut);
        if cut.len() < text.len() { format!("{quoted}...") } else { quoted }
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

/// Text, then an action.
pub(crate) struct Piece<'t> {
    pub(crate) text: &'t str,
    /// Tokens of the action with their places in the template, the closing one included; none at
    /// the end.
    pub(crate) action: Vec<(usize, Token<'t>)>,
}

/// Takes a template apart. An error comes with the place it is told for.
pub(crate) fn lex(template: &str) -> Result<Vec<Piece<'_>>, (usize, String)> {
    let mut pieces = Vec::new();
    let mut at = 0;
    let mut trim = false;
    loop {
        let rest = &template[at..];
        let open = rest.find("{{");
        let mut text = &rest[..open.unwrap_or(rest.len())];
        if trim {
            text = text.trim_start_matches(is_blank);
        }
        let Some(open) = open else {
            pieces.push(Piece { text, action: Vec::new() });
            return Ok(pieces);
        };
        at += open + 2;
        if has_trim_marker(&template[at..]) {
            text = text.trim_end_matches(is_blank);
            at += 2;
        }
        if template[at..].starts_with("/*") {
            let Some(end) = template[at..].find("*/") else {
                return Err((at, "unclosed comment".to_owned()));
            };
            at += end + 2;
            trim = template[at..].starts_with(" -}}");
            at += if trim { 2 } else { 0 };
            if !template[at..].starts_with("}}") {
                return Err((at, "comment ends before closing delimiter".to_owned()));
            }
            at += 2;
            pieces.push(Piece { text, action: Vec::new() });
            continue;
        }
        let mut lexer = Lexer { template, at, depth: 0, tokens: Vec::new(), trim: false };
        lexer.action()?;
        trim = lexer.trim;
        at = lexer.at;
        pieces.push(Piece { text, action: lexer.tokens });
    }
}

fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\r' | '\n')
}

/// `- ` behind `{{`.
fn has_trim_marker(text: &str) -> bool {
    text.strip_prefix('-').is_some_and(|rest| rest.starts_with(is_blank))
}

fn is_word_char(c: char) -> bool {
    c == '_' || c.is_alphanumeric()
}

struct Lexer<'t> {
    template: &'t str,
    at: usize,
    depth: usize,
    tokens: Vec<(usize, Token<'t>)>,
    /// Whether blanks behind the action are cut.
    trim: bool,
}

impl<'t> Lexer<'t> {
    fn rest(&self) -> &'t str {
        &self.template[self.at..]
    }

    fn push(&mut self, len: usize, token: Token<'t>) {
        self.tokens.push((self.at, token));
        self.at += len;
    }

    fn fail<T>(&self, text: impl Into<String>) -> Result<T, (usize, String)> {
        Err((self.at, text.into()))
    }

    fn action(&mut self) -> Result<(), (usize, String)> {
        loop {
            let rest = self.rest();
            let trimming = rest.starts_with(is_blank) && rest[1..].starts_with("-}}");
            if rest.starts_with("}}") || trimming {
                if self.depth > 0 {
                    return self.fail("unclosed left paren");
                }
                self.trim = trimming;
                self.at += if trimming { 2 } else { 0 };
                self.push(2, Token::Close);
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
                '"' => self.quoted()?,
                '`' => {
                    let Some(end) = rest[1..].find('`') else {
                        return self.fail("unterminated raw quoted string");
                    };
                    let text = rest[1..=end].replace('\r', "");
                    self.push(end + 2, Token::Text(&rest[..end + 2], text));
                }
                '\'' => self.character()?,
                '$' => {
                    let len = word_len(&rest[1..]);
                    self.push(1 + len, Token::Variable(&rest[..=len]));
                    self.check_end("bad character")?;
                }
                '.' if !rest[1..].starts_with(|c: char| c.is_ascii_digit()) => {
                    let len = word_len(&rest[1..]);
                    if len == 0 {
                        self.push(1, Token::Dot);
                    } else {
                        self.push(1 + len, Token::Field(&rest[1..=len]));
                        self.check_end("bad character")?;
                    }
                }
                '0'..='9' | '.' | '+' | '-' => self.number()?,
                c if is_word_char(c) => {
                    let len = word_len(rest);
                    self.push(len, Token::Word(&rest[..len]));
                    self.check_end("bad character")?;
                }
                c if c.is_ascii_graphic() => self.push(1, Token::Other(c)),
                c => {
                    return self
                        .fail(format!("unrecognized character in action: U+{:04X}", c as u32));
                }
            }
        }
    }

    /// A name has to end where something else may begin.
    fn check_end(&self, problem: &str) -> Result<(), (usize, String)> {
        let rest = self.rest();
        let ends = rest.is_empty()
            || rest.starts_with(is_blank)
            || rest.starts_with(['.', ',', '|', ':', '=', '(', ')'])
            || rest.starts_with("}}");
        if ends {
            return Ok(());
        }
        let c = rest.chars().next().unwrap_or_default();
        self.fail(format!("{problem} U+{:04X} '{c}'", c as u32))
    }

    fn quoted(&mut self) -> Result<(), (usize, String)> {
        let rest = self.rest();
        let mut escaped = false;
        let end = rest.char_indices().skip(1).find_map(|(at, c)| match c {
            '\n' => Some(None),
            _ if escaped => {
                escaped = false;
                None
            }
            '\\' => {
                escaped = true;
                None
            }
            '"' => Some(Some(at)),
            _ => None,
        });
        let Some(Some(end)) = end else { return self.fail("unterminated quoted string") };
        let written = &rest[..=end];
        match unquoted(&rest[1..end], '"') {
            Some(text) => {
                self.push(end + 1, Token::Text(written, text));
                Ok(())
            }
            None => self.fail("invalid syntax"),
        }
    }

    fn character(&mut self) -> Result<(), (usize, String)> {
        let rest = self.rest();
        let mut escaped = false;
        for (at, c) in rest.char_indices().skip(1) {
            match c {
                '\n' => break,
                _ if escaped => escaped = false,
                '\\' => escaped = true,
                '\'' => {
                    self.push(at + 1, Token::Number(&rest[..=at]));
                    return Ok(());
                }
                _ => {}
            }
        }
        self.fail("unterminated character constant")
    }

    fn number(&mut self) -> Result<(), (usize, String)> {
        let rest = self.rest();
        let unsigned = rest.trim_start_matches(['+', '-']);
        let sign = rest.len() - unsigned.len();
        let hexadecimal = unsigned.starts_with("0x") || unsigned.starts_with("0X");
        let mut before = ' ';
        let body = unsigned.find(|c: char| {
            let exponent =
                if hexadecimal { matches!(before, 'p' | 'P') } else { matches!(before, 'e' | 'E') };
            before = c;
            !(c.is_ascii_alphanumeric()
                || c == '_'
                || c == '.'
                || (exponent && matches!(c, '+' | '-')))
        });
        let len = sign + body.unwrap_or(unsigned.len());
        let written = &rest[..len];
        if sign > 1 || parse_number(written).is_none() {
            return self.fail(format!("bad number syntax: {}", model::quote::quote(written)));
        }
        self.push(len, Token::Number(written));
        Ok(())
    }
}

fn word_len(text: &str) -> usize {
    text.find(|c| !is_word_char(c)).unwrap_or(text.len())
}

/// A constant: as an integer, if it is one, and as a float.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Number {
    pub(crate) integer: Option<i64>,
    pub(crate) float: Option<f64>,
    /// Whether it is a float where nothing says what is wanted.
    pub(crate) ideal_float: bool,
}

/// Reads a number or character as written.
pub(crate) fn parse_number(written: &str) -> Option<Number> {
    if let Some(quoted) = written.strip_prefix('\'') {
        let inner = quoted.strip_suffix('\'')?;
        let text = unquoted(inner, '\'')?;
        let mut chars = text.chars();
        let (Some(c), None) = (chars.next(), chars.next()) else { return None };
        let integer = i64::from(c as u32);
        return Some(Number {
            integer: Some(integer),
            float: Some(integer as f64),
            ideal_float: false,
        });
    }
    let integer = super::value::parse_go_integer(written);
    let unsigned = written.trim_start_matches(['+', '-']);
    let hexadecimal = unsigned.starts_with("0x") || unsigned.starts_with("0X");
    let decimal = written.replace('_', "");
    let float = match integer {
        Some(integer) => Some(integer as f64),
        // Go's `inf` and `nan` are no numbers here.
        None if unsigned.starts_with(|c: char| c.is_ascii_digit() || c == '.') => {
            crate::pipeline::number::parse_float(&decimal).ok()
        }
        None => None,
    };
    if integer.is_none() && float.is_none() {
        return None;
    }
    let whole = float.filter(|float| float.fract() == 0.0 && float.abs() < 9.2e18);
    let marks: &[char] = if hexadecimal { &['.', 'p', 'P'] } else { &['.', 'e', 'E', 'p', 'P'] };
    Some(Number {
        integer: integer.or(whole.map(|float| float as i64)),
        float,
        ideal_float: unsigned.contains(marks),
    })
}

/// What stands between two `mark`s in a template. Escaped bytes that are no UTF-8 are U+FFFD.
fn unquoted(inner: &str, mark: char) -> Option<String> {
    let bytes = model::quote::unquote(inner, mark)?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}
