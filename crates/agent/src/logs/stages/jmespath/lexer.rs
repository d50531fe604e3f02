//! Tokens of expressions.

use super::json::Json;

/// A token.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Token {
    Name(String),
    Quoted(String),
    Number(i64),
    Literal(Json),
    Dot,
    Star,
    Pipe,
    Or,
    And,
    Not,
    Ampersand,
    At,
    Comma,
    Colon,
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    OpenParen,
    CloseParen,
    OpenBrace,
    CloseBrace,
    OpenBracket,
    CloseBracket,
    /// `[]`
    Flatten,
    /// `[?`
    Filter,
    End,
}

/// Takes a text apart.
///
/// # Errors
/// What is no token, with its place.
pub(super) fn tokens(text: &str) -> Result<Vec<(usize, Token)>, String> {
    let bytes = text.as_bytes();
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let start = at;
        let pair = bytes.get(at + 1).copied();
        at += 1;
        let token = match byte {
            b' ' | b'\t' | b'\n' | b'\r' => continue,
            b'.' => Token::Dot,
            b'*' => Token::Star,
            b'@' => Token::At,
            b',' => Token::Comma,
            b':' => Token::Colon,
            b'(' => Token::OpenParen,
            b')' => Token::CloseParen,
            b'{' => Token::OpenBrace,
            b'}' => Token::CloseBrace,
            b']' => Token::CloseBracket,
            b'[' => double(pair, b'?', &mut at, Token::Filter)
                .or_else(|| double(pair, b']', &mut at, Token::Flatten))
                .unwrap_or(Token::OpenBracket),
            b'|' => double(pair, b'|', &mut at, Token::Or).unwrap_or(Token::Pipe),
            b'&' => double(pair, b'&', &mut at, Token::And).unwrap_or(Token::Ampersand),
            b'!' => double(pair, b'=', &mut at, Token::NotEqual).unwrap_or(Token::Not),
            b'<' => double(pair, b'=', &mut at, Token::LessOrEqual).unwrap_or(Token::Less),
            b'>' => double(pair, b'=', &mut at, Token::GreaterOrEqual).unwrap_or(Token::Greater),
            b'=' => double(pair, b'=', &mut at, Token::Equal)
                .ok_or_else(|| fault(start, "unexpected '='; compare with `==`"))?,
            b'a'..=b'z' | b'A'..=b'Z' | b'_' => {
                let is_part = |byte: &&u8| byte.is_ascii_alphanumeric() || **byte == b'_';
                at += bytes[at..].iter().take_while(is_part).count();
                Token::Name(text[start..at].to_owned())
            }
            b'-' | b'0'..=b'9' => {
                at += bytes[at..].iter().take_while(|byte| byte.is_ascii_digit()).count();
                let number = text[start..at].parse();
                Token::Number(number.map_err(|_| fault(start, "a number is expected"))?)
            }
            b'"' => {
                at = closing(bytes, at, b'"').ok_or_else(|| fault(start, "unclosed `\"`"))?;
                let name = serde_json::from_str(&text[start..at]);
                Token::Quoted(name.map_err(|_| fault(start, "a quoted name is broken"))?)
            }
            b'\'' => {
                at = closing(bytes, at, b'\'').ok_or_else(|| fault(start, "unclosed `'`"))?;
                Token::Literal(Json::Text(text[start + 1..at - 1].replace("\\'", "'")))
            }
            b'`' => {
                at = closing(bytes, at, b'`').ok_or_else(|| fault(start, "unclosed '`'"))?;
                let inside = text[start + 1..at - 1].replace("\\`", "`");
                let value = serde_json::from_str(&inside);
                Token::Literal(value.map_err(|_| fault(start, "a literal is no JSON"))?)
            }
            _ => {
                let c = text[start..].chars().next().unwrap_or_default();
                return Err(fault(start, &format!("unknown character {c:?}")));
            }
        };
        found.push((start, token));
    }
    found.push((text.len(), Token::End));
    Ok(found)
}

fn double(next: Option<u8>, wanted: u8, at: &mut usize, token: Token) -> Option<Token> {
    (next == Some(wanted)).then(|| {
        *at += 1;
        token
    })
}

/// Behind the next `quote` that no backslash stands before.
fn closing(bytes: &[u8], mut at: usize, quote: u8) -> Option<usize> {
    loop {
        match bytes.get(at)? {
            b'\\' => at += 2,
            byte if *byte == quote => return Some(at + 1),
            _ => at += 1,
        }
    }
}

pub(super) fn fault(at: usize, message: &str) -> String {
    format!("{message} (at character {})", at + 1)
}
