//! How a line, and what is searched in it, fall into tokens and words.
//!
//! A **token** is a longest run of letters, digits, `-` and `_`; a **word** is a longest run of letters in a
//! token. Bytes of other alphabets (0x80 and above) are letters. What matters is not what a token is for a
//! human, but that a piece of a line falls into the same tokens and words as the line does, except at its two
//! ends: only so an index of tokens can serve a search for any piece.

/// Tokens of at least this length are indexed by pieces of them, see [`crate::grams`], so that an id is found
/// by a part of it. Shorter ones are indexed whole, if there is a digit in them.
pub(crate) const LONG: usize = 16;

/// What a byte is for this, as bits, so that of a token it is seen in one go what it is made of.
const DELIMITER: u8 = 0;
const LETTER: u8 = 1;
const DIGIT: u8 = 2;
const JOINER: u8 = 4;
/// Of a letter of another alphabet.
const FOREIGN: u8 = 8;

const KINDS: [u8; 256] = {
    let mut kinds = [DELIMITER; 256];
    let mut byte = 0;
    while byte < 256 {
        kinds[byte] = match byte as u8 {
            b'a'..=b'z' | b'A'..=b'Z' => LETTER,
            0x80.. => LETTER | FOREIGN,
            b'0'..=b'9' => DIGIT,
            b'-' | b'_' => JOINER,
            _ => DELIMITER,
        };
        byte += 1;
    }
    kinds
};

fn kind(byte: u8) -> u8 {
    KINDS[usize::from(byte)]
}

/// Whether a byte may lie in a token that is ASCII.
pub(crate) fn is_of_token(byte: u8) -> bool {
    byte.is_ascii() && kind(byte) != DELIMITER
}

/// One token of a text, and whether the text goes on beyond it on either side: if not, what stands there
/// may be a part of a longer token of the line that the text is a piece of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Token<'a> {
    pub(crate) bytes: &'a [u8],
    /// Where it begins in the text.
    pub(crate) start: usize,
    pub(crate) has_digit: bool,
    pub(crate) has_letter: bool,
    pub(crate) is_ascii: bool,
}

impl Token<'_> {
    pub(crate) fn is_long(&self) -> bool {
        self.bytes.len() >= LONG
    }
}

/// The tokens of a text, one after the other.
pub(crate) fn tokens(text: &[u8]) -> impl Iterator<Item = Token<'_>> {
    let mut at = 0;
    std::iter::from_fn(move || {
        while at < text.len() && kind(text[at]) == DELIMITER {
            at += 1;
        }
        let (start, mut seen) = (at, 0);
        while at < text.len() {
            let kind = kind(text[at]);
            if kind == DELIMITER {
                break;
            }
            seen |= kind;
            at += 1;
        }
        (start < at).then(|| Token {
            bytes: &text[start..at],
            start,
            has_digit: seen & DIGIT != 0,
            has_letter: seen & LETTER != 0,
            is_ascii: seen & FOREIGN == 0,
        })
    })
}

/// The words of a token with the place where each begins in it.
pub(crate) fn words(token: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    let mut at = 0;
    std::iter::from_fn(move || {
        while at < token.len() && kind(token[at]) & LETTER == 0 {
            at += 1;
        }
        let start = at;
        while at < token.len() && kind(token[at]) & LETTER != 0 {
            at += 1;
        }
        (start < at).then(|| (start, &token[start..at]))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(text: &str) -> Vec<(String, Vec<String>)> {
        let shown = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        tokens(text.as_bytes())
            .map(|token| {
                assert_eq!(&text.as_bytes()[token.start..][..token.bytes.len()], token.bytes);
                (shown(token.bytes), words(token.bytes).map(|(_, word)| shown(word)).collect())
            })
            .collect()
    }

    #[test]
    fn a_line_falls_into_tokens_and_words() {
        let is = |text, wanted: &[(&str, &[&str])]| {
            let wanted: Vec<(String, Vec<String>)> = wanted
                .iter()
                .map(|(token, words)| {
                    (token.to_string(), words.iter().map(ToString::to_string).collect())
                })
                .collect();
            assert_eq!(split(text), wanted, "{text}");
        };
        is("", &[]);
        is(" :=\"", &[]);
        is("level=info", &[("level", &["level"]), ("info", &["info"])]);
        is("10.2.3.4:80", &[("10", &[]), ("2", &[]), ("3", &[]), ("4", &[]), ("80", &[])]);
        is("id 4bf9-a7_x", &[("id", &["id"]), ("4bf9-a7_x", &["bf", "a", "x"])]);
        is("连接 失败9", &[("连接", &["连接"]), ("失败9", &["失败"])]);
    }
}
