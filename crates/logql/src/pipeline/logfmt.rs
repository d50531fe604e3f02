//! `logfmt`: lines of `key=value` and `key="quoted value"`.
//!
//! Source of the form: <https://pkg.go.dev/github.com/go-logfmt/logfmt>, whose decoder Loki has
//! taken over; its errors and what it makes of broken lines are kept.

use hashbrown::HashTable;
use rapidhash::v3::{RapidSecrets, rapidhash_v3_inline};

use super::entry::{Category, Span, StageError, State};
use super::json::without_replacement;
use super::json_path::PathError;
use super::names::{Name, Names, sanitize_into};
use super::number::quote_char;

/// Names that would be longer are left out.
const MAX_NAME_BYTES: usize = 2_048;

/// Keys more than this are forgotten between two lines.
const MAX_KEYS: usize = 8_192;

/// How `logfmt` reads lines.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LogfmtOptions {
    /// Whether a broken pair ends the line with an error; else it is passed over.
    pub strict: bool,
    /// Whether keys without a value make labels.
    pub keep_empty: bool,
}

/// Why a line is no logfmt. Positions count bytes from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    UnexpectedByte(u8),
    InvalidKey,
    UnterminatedQuote,
    InvalidQuote,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct LogfmtError {
    position: usize,
    fault: Fault,
}

impl std::fmt::Display for LogfmtError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "logfmt syntax error at pos {} : ", self.position)?;
        match self.fault {
            Fault::UnexpectedByte(byte) => {
                let mut shown = String::new();
                quote_char(&mut shown, char::from(byte), '\'');
                write!(f, "unexpected '{shown}'")
            }
            Fault::InvalidKey => f.write_str("invalid key"),
            Fault::UnterminatedQuote => f.write_str("unterminated quoted value"),
            Fault::InvalidQuote => f.write_str("invalid quoted value"),
        }
    }
}

/// The value of a pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Raw<'t> {
    Plain(&'t str),
    /// Between the quotes; has escapes.
    Escaped(&'t str),
}

/// Takes a line apart.
struct Decoder<'t> {
    text: &'t str,
    at: usize,
    /// The last error.
    error: Option<LogfmtError>,
}

fn is_blank(byte: u8) -> bool {
    byte <= b' '
}

impl<'t> Decoder<'t> {
    fn new(text: &'t str) -> Self {
        Decoder { text, at: 0, error: None }
    }

    /// How many bytes from here on are not `stop`; and the one that is.
    fn span(&self, stop: impl Fn(u8) -> bool) -> (usize, Option<u8>) {
        let rest = &self.text.as_bytes()[self.at..];
        match rest.iter().position(|byte| stop(*byte)) {
            Some(len) => (len, Some(rest[len])),
            None => (rest.len(), None),
        }
    }

    fn fail(&mut self, fault: Fault) {
        self.error = Some(LogfmtError { position: self.at + 1, fault });
    }

    /// Passes over what is left of a broken pair.
    fn skip(&mut self) {
        self.at += self.span(is_blank).0;
    }

    /// The next pair: `Some(None)` is a broken one, told in `error`, `None` the end.
    fn next(&mut self) -> Option<Option<(&'t str, Raw<'t>)>> {
        self.at += self.span(|byte| !is_blank(byte)).0;
        if self.at >= self.text.len() {
            return None;
        }
        let start = self.at;
        let (len, stop) = self.span(|byte| byte == b'=' || byte == b'"' || is_blank(byte));
        self.at += len;
        let key = &self.text[start..self.at];
        match stop {
            Some(byte @ (b'=' | b'"')) if key.is_empty() || byte == b'"' => {
                self.fail(Fault::UnexpectedByte(byte));
                self.skip();
                return Some(None);
            }
            _ => {}
        }
        if key.contains(char::REPLACEMENT_CHARACTER) {
            self.fail(Fault::InvalidKey);
            if stop == Some(b'=') {
                self.skip();
            }
            return Some(None);
        }
        if stop != Some(b'=') {
            return Some(Some((key, Raw::Plain(""))));
        }
        self.at += 1;
        match self.text.as_bytes().get(self.at) {
            Some(b'"') => Some(self.quoted().map(|value| (key, value))),
            _ => Some(self.plain().map(|value| (key, value))),
        }
    }

    fn plain(&mut self) -> Option<Raw<'t>> {
        let start = self.at;
        let (len, stop) = self.span(|byte| byte == b'=' || byte == b'"' || is_blank(byte));
        self.at += len;
        if let Some(byte @ (b'=' | b'"')) = stop {
            self.fail(Fault::UnexpectedByte(byte));
            self.skip();
            return None;
        }
        Some(Raw::Plain(&self.text[start..self.at]))
    }

    fn quoted(&mut self) -> Option<Raw<'t>> {
        let start = self.at + 1;
        let bytes = self.text.as_bytes();
        let mut at = start;
        let mut escaped = false;
        loop {
            let found = bytes.get(at..).and_then(|rest| memchr::memchr2(b'"', b'\\', rest));
            let Some(found) = found else {
                self.at = bytes.len();
                self.fail(Fault::UnterminatedQuote);
                return None;
            };
            at += found;
            if bytes[at] == b'"' {
                break;
            }
            escaped = true;
            at += 2;
        }
        self.at = at + 1;
        let raw = &self.text[start..at];
        if !escaped {
            return Some(Raw::Plain(raw));
        }
        if !is_escaped_well(raw) {
            self.fail(Fault::InvalidQuote);
            return None;
        }
        Some(Raw::Escaped(raw))
    }
}

fn is_escaped_well(raw: &str) -> bool {
    let mut rest = raw.as_bytes();
    while let Some(at) = memchr::memchr(b'\\', rest) {
        let len = match rest.get(at + 1) {
            Some(b'"' | b'\\' | b'/' | b'\'' | b'b' | b'f' | b'n' | b'r' | b't') => 2,
            Some(b'u') => {
                let digits = rest.get(at + 2..at + 6);
                if !digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit)) {
                    return false;
                }
                6
            }
            _ => return false,
        };
        rest = &rest[at + len..];
    }
    true
}

/// Appends a quoted value that [`is_escaped_well`] without its escapes, as Go's `encoding/json`.
fn unquote_into(out: &mut String, raw: &str) {
    let mut rest = raw;
    while let Some(at) = memchr::memchr(b'\\', rest.as_bytes()) {
        out.push_str(&rest[..at]);
        let escape = &rest[at..];
        let mut len = 2;
        match escape.as_bytes().get(1) {
            Some(b'b') => out.push('\x08'),
            Some(b'f') => out.push('\x0c'),
            Some(b'n') => out.push('\n'),
            Some(b'r') => out.push('\r'),
            Some(b't') => out.push('\t'),
            Some(b'u') => {
                len = 6;
                let unit = |at: usize| {
                    let text = escape.get(at..at + 6).filter(|text| text.starts_with("\\u"))?;
                    u32::from_str_radix(&text[2..], 16).ok()
                };
                let first = unit(0).unwrap_or(0xFFFD);
                let second = unit(6).filter(|unit| (0xDC00..0xE000).contains(unit));
                let code = match second {
                    Some(second) if (0xD800..0xDC00).contains(&first) => {
                        len = 12;
                        0x10000 + ((first - 0xD800) << 10) + (second - 0xDC00)
                    }
                    _ => first,
                };
                out.push(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER));
            }
            Some(other) => out.push(char::from(*other)),
            None => len = 1,
        }
        rest = &rest[at + len..];
    }
    out.push_str(rest);
}

/// Makes every pair of a line a label. Of pairs with one key the first counts.
#[derive(Debug)]
pub(crate) struct LogfmtParser {
    options: LogfmtOptions,
    /// Keys as they stand in lines, with their names.
    keys: Vec<(Box<str>, Option<Name>)>,
    lookup: HashTable<u32>,
    secrets: RapidSecrets,
    epoch: u32,
    scratch: String,
}

impl LogfmtParser {
    pub(crate) fn new(options: LogfmtOptions, seed: u64) -> Self {
        LogfmtParser {
            options,
            keys: Vec::new(),
            lookup: HashTable::new(),
            secrets: RapidSecrets::seed(seed),
            epoch: 0,
            scratch: String::new(),
        }
    }

    /// Adds the labels of `line`.
    pub(crate) fn process(&mut self, origin: &str, line: &str, state: &mut State) {
        if self.epoch != state.names.epoch() || self.keys.len() > MAX_KEYS {
            self.keys.clear();
            self.lookup.clear();
            self.epoch = state.names.epoch();
        }
        let mut decoder = Decoder::new(line);
        while !state.is_complete() {
            let Some(pair) = decoder.next() else { break };
            let Some((key, value)) = pair else {
                if self.options.strict {
                    break;
                }
                continue;
            };
            let Some(name) = self.name(key, &mut state.names) else { continue };
            let Some(name) = state.name_for_parsed(name) else { continue };
            let value = value_span(origin, value, state, &mut self.scratch);
            if value.is_empty() && !self.options.keep_empty {
                continue;
            }
            state.set(Category::Parsed, name, value);
        }
        tell(&decoder, self.options, state);
    }

    /// The name of `key`; none if there is nothing to name.
    fn name(&mut self, key: &str, names: &mut Names) -> Option<Name> {
        let hash = rapidhash_v3_inline::<true, false, true>(key.as_bytes(), &self.secrets);
        let is_it = |at: &u32| &*self.keys[*at as usize].0 == key;
        if let Some(at) = self.lookup.find(hash, is_it) {
            return self.keys[*at as usize].1;
        }
        if key.len() > MAX_NAME_BYTES || names.is_overfull() {
            return None;
        }
        self.scratch.clear();
        sanitize_into(&mut self.scratch, key);
        let name = (!self.scratch.is_empty()).then(|| names.intern(&self.scratch));
        let at = u32::try_from(self.keys.len()).expect("keys are forgotten long before");
        self.keys.push((key.into(), name));
        let (keys, secrets) = (&self.keys, &self.secrets);
        self.lookup.insert_unique(hash, at, |at| {
            rapidhash_v3_inline::<true, false, true>(keys[*at as usize].0.as_bytes(), secrets)
        });
        name
    }
}

fn value_span(origin: &str, value: Raw<'_>, state: &mut State, scratch: &mut String) -> Span {
    match value {
        // 0xEF begins U+FFFD.
        Raw::Plain(text) if !text.as_bytes().contains(&0xEF) => state.keep(origin, text),
        Raw::Plain(text) => without_replacement(text, |text| state.keep(origin, text)),
        Raw::Escaped(raw) => {
            scratch.clear();
            unquote_into(scratch, raw);
            without_replacement(scratch, |text| state.write(text))
        }
    }
}

fn tell(decoder: &Decoder<'_>, options: LogfmtOptions, state: &mut State) {
    if let Some(error) = decoder.error
        && options.strict
    {
        state.set_error(StageError::Logfmt, &error.to_string());
    }
}

/// A logfmt line, for whoever wants single values of it without a pipeline.
#[derive(Debug, Clone, Copy)]
pub struct LogfmtPairs<'t> {
    text: &'t str,
}

impl<'t> LogfmtPairs<'t> {
    /// Pairs of `text`.
    pub fn new(text: &'t str) -> Self {
        LogfmtPairs { text }
    }

    /// Hands over each pair that is not broken, the value without escapes, until `take` says no.
    pub fn for_each(self, mut take: impl FnMut(&'t str, &str) -> bool) {
        let mut decoder = Decoder::new(self.text);
        let mut unquoted = String::new();
        while let Some(pair) = decoder.next() {
            let Some((key, value)) = pair else { continue };
            let value = match value {
                Raw::Plain(text) => text,
                Raw::Escaped(raw) => {
                    unquoted.clear();
                    unquote_into(&mut unquoted, raw);
                    &unquoted
                }
            };
            if !take(key, value) {
                return;
            }
        }
    }
}

/// Reads the key an expression of `logfmt` names. An empty text is no key.
///
/// # Errors
/// `text` is more than a key.
pub fn parse_logfmt_key(text: &str) -> Result<Option<String>, PathError> {
    let mut rest = text.trim_start_matches([' ', '\t', '\n', '\r']);
    let mut key = None;
    while let Some(first) = rest.chars().next() {
        let is_part = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
        if !(first.is_ascii_alphabetic() || first == '_') {
            return Err(PathError::new(format!("unexpected char {first}")));
        }
        let len = rest.bytes().take_while(is_part).count();
        let (word, tail) = rest.split_at(len);
        if let Some(next) = tail.chars().next()
            && !matches!(next, ' ' | '\t' | '\n' | '\r')
        {
            return Err(PathError::new(format!("unexpected char {next}")));
        }
        if key.is_some() {
            return Err(PathError::new("syntax error: unexpected KEY".to_owned()));
        }
        key = Some(word.to_owned());
        rest = tail.trim_start_matches([' ', '\t', '\n', '\r']);
    }
    Ok(key)
}

/// Makes labels of given keys of a line.
#[derive(Debug, Clone)]
pub struct LogfmtFields {
    options: LogfmtOptions,
    /// Name of the label, and the key whose value it gets.
    expressions: Vec<(String, Name, String)>,
}

impl LogfmtFields {
    /// Labels with the keys of their values.
    pub fn new(options: LogfmtOptions, expressions: Vec<(String, String)>) -> Self {
        let bound = expressions.into_iter().map(|(label, key)| (label, Name::default(), key));
        LogfmtFields { options, expressions: bound.collect() }
    }

    pub(crate) fn bind(&mut self, names: &mut Names) {
        for (label, name, _) in &mut self.expressions {
            *name = names.intern(label);
        }
    }

    /// Adds a label for each key; an empty one for what is not there. Of pairs with one key the last
    /// counts.
    pub(crate) fn process(
        &self,
        origin: &str,
        line: &str,
        state: &mut State,
        scratch: &mut String,
    ) {
        for (_, name, _) in &self.expressions {
            if state.unless_taken(*name) == *name {
                let empty = state.write("");
                state.set(Category::Parsed, *name, empty);
            }
        }
        let mut decoder = Decoder::new(line);
        while let Some(pair) = decoder.next() {
            let Some((key, value)) = pair else {
                if self.options.strict {
                    break;
                }
                continue;
            };
            scratch.clear();
            sanitize_into(scratch, key);
            let wanted = self.expressions.iter().find(|(_, _, wanted)| wanted == scratch);
            if let Some((_, name, _)) = wanted {
                let name = state.unless_taken(*name);
                let value = value_span(origin, value, state, scratch);
                state.set(Category::Parsed, name, value);
            }
        }
        tell(&decoder, self.options, state);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pairs(text: &str) -> (Vec<String>, Option<String>) {
        let mut decoder = Decoder::new(text);
        let mut all = Vec::new();
        while let Some(pair) = decoder.next() {
            let Some((key, value)) = pair else { continue };
            let mut shown = String::new();
            match value {
                Raw::Plain(text) => shown.push_str(text),
                Raw::Escaped(raw) => unquote_into(&mut shown, raw),
            }
            all.push(format!("{key}:{shown}"));
        }
        (all, decoder.error.map(|error| error.to_string()))
    }

    #[test]
    fn pairs_are_read() {
        let text = r#"a=1 b="x y"  c= d e="q\"\n\u00e9\ud83d\ude00\'" f="""#;
        let (all, error) = pairs(text);
        assert_eq!(all, ["a:1", "b:x y", "c:", "d:", "e:q\"\né😀'", "f:"]);
        assert_eq!(error, None);
    }

    #[test]
    fn broken_pairs_are_told_and_passed_over() {
        for (text, want, error) in [
            ("a=1 =x b=2", vec!["a:1", "b:2"], "at pos 5 : unexpected '='"),
            ("a=b=c d=2", vec!["d:2"], "at pos 4 : unexpected '='"),
            ("a\"b c=2", vec!["c:2"], "at pos 2 : unexpected '\"'"),
            ("a=\"b", vec![], "at pos 5 : unterminated quoted value"),
            ("a=\"\\x\" b=2", vec!["b:2"], "at pos 7 : invalid quoted value"),
            ("\u{fffd}=1 b=2", vec!["b:2"], "at pos 4 : invalid key"),
        ] {
            let (all, told) = pairs(text);
            assert_eq!(all, want, "{text}");
            assert_eq!(told.expect(text), format!("logfmt syntax error {error}"), "{text}");
        }
    }

    #[test]
    fn keys_of_expressions_are_read() {
        assert_eq!(parse_logfmt_key(""), Ok(None));
        assert_eq!(parse_logfmt_key(" id8 "), Ok(Some("id8".to_owned())));
        for (text, error) in [
            ("fieldwithÜFT8", "unexpected char Ü"),
            ("field with spaces", "syntax error: unexpected KEY"),
        ] {
            assert_eq!(parse_logfmt_key(text).expect_err(text).to_string(), error);
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_the_decoder_panic(text in r#"([="\\ u0]|\PC){0,60}"#) {
            pairs(&text);
        }

        #[test]
        fn what_is_written_is_read(pairs_written in proptest::collection::vec(("[a-z]{1,8}", "[ -~]{0,12}"), 0..8)) {
            let mut text = String::new();
            let mut want = Vec::new();
            for (key, value) in &pairs_written {
                let quoted = value.replace('\\', "\\\\").replace('"', "\\\"");
                text.push_str(&format!("{key}=\"{quoted}\" "));
                want.push(format!("{key}:{value}"));
            }
            prop_assert_eq!(pairs(&text), (want, None));
        }
    }
}
