//! `logfmt`: pairs of lines become labels.

use hashbrown::HashTable;
use rapidhash::v3::{RapidSecrets, rapidhash_v3_inline};

use super::entry::{Category, Span, StageError, State};
use super::json::without_replacement;
use super::json_path::PathError;
use super::logfmt_scan::{Fault, Pairs, Value};
use super::names::{Name, Names, sanitize_into};

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
        let mut pairs = Pairs::new(line);
        let mut fault = None;
        while !state.is_complete() {
            let Some(pair) = pairs.next() else { break };
            let outcome = pair.and_then(|(key, value)| self.add(origin, key, value, &pairs, state));
            if let Err(broken) = outcome {
                fault = Some(broken);
                if self.options.strict {
                    break;
                }
            }
        }
        tell(fault, self.options, state);
    }

    /// Makes a pair a label, if it is to be one.
    fn add(
        &mut self,
        origin: &str,
        key: &str,
        value: Value<'_>,
        pairs: &Pairs<'_>,
        state: &mut State,
    ) -> Result<(), Fault> {
        let Some(name) = self.name(key, &mut state.names) else { return Ok(()) };
        let Some(name) = state.name_for_parsed(name) else { return Ok(()) };
        let value = value_span(origin, pairs.text(value, &mut self.scratch)?, state);
        if !value.is_empty() || self.options.keep_empty {
            state.set(Category::Parsed, name, value);
        }
        Ok(())
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

fn value_span(origin: &str, text: &str, state: &mut State) -> Span {
    without_replacement(text, |text| state.keep(origin, text))
}

/// Sets the error of the line, which only a strict parser has.
fn tell(fault: Option<Fault>, options: LogfmtOptions, state: &mut State) {
    if let Some(fault) = fault
        && options.strict
    {
        state.set_error(StageError::Logfmt, &fault.to_string());
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

    /// Hands over each pair up to the first that is broken, as a decoder of logfmt does that stops
    /// there. `unescaped` is memory to use. Yields whether none was broken.
    pub fn until_broken(self, unescaped: &mut String, mut take: impl FnMut(&'t str, &str)) -> bool {
        let mut pairs = Pairs::new(self.text);
        while let Some(pair) = pairs.next() {
            let Ok((key, value)) = pair else { return false };
            let Ok(value) = pairs.text(value, unescaped) else { return false };
            take(key, value);
        }
        true
    }

    /// Hands over each pair that is not broken, the value without escapes, until `take` says no.
    pub fn for_each(self, mut take: impl FnMut(&'t str, &str) -> bool) {
        let mut pairs = Pairs::new(self.text);
        let mut unescaped = String::new();
        while let Some(pair) = pairs.next() {
            let Ok((key, value)) = pair else { continue };
            let Ok(value) = pairs.text(value, &mut unescaped) else { continue };
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
    /// Memory to use again.
    unescaped: String,
}

impl LogfmtFields {
    /// Labels with the keys of their values.
    pub fn new(options: LogfmtOptions, expressions: Vec<(String, String)>) -> Self {
        let bound = expressions.into_iter().map(|(label, key)| (label, Name::default(), key));
        LogfmtFields { options, expressions: bound.collect(), unescaped: String::new() }
    }

    pub(crate) fn bind(&mut self, names: &mut Names) {
        for (label, name, _) in &mut self.expressions {
            *name = names.intern(label);
        }
    }

    /// Adds a label for each key; an empty one for what is not there. Of pairs with one key the last
    /// counts.
    pub(crate) fn process(
        &mut self,
        origin: &str,
        line: &str,
        state: &mut State,
        clean: &mut String,
    ) {
        for (_, name, _) in &self.expressions {
            if state.unless_taken(*name) == *name {
                let empty = state.write("");
                state.set(Category::Parsed, *name, empty);
            }
        }
        let mut pairs = Pairs::new(line);
        let mut fault = None;
        while let Some(pair) = pairs.next() {
            if let Err(broken) =
                pair.and_then(|(key, value)| self.add(origin, key, value, &pairs, state, clean))
            {
                fault = Some(broken);
                if self.options.strict {
                    break;
                }
            }
        }
        tell(fault, self.options, state);
    }

    fn add(
        &mut self,
        origin: &str,
        key: &str,
        value: Value<'_>,
        pairs: &Pairs<'_>,
        state: &mut State,
        clean: &mut String,
    ) -> Result<(), Fault> {
        clean.clear();
        sanitize_into(clean, key);
        let mut kept = None;
        for (_, name, wanted) in &self.expressions {
            if wanted == clean {
                let value = match kept {
                    Some(value) => value,
                    None => value_span(origin, pairs.text(value, &mut self.unescaped)?, state),
                };
                kept = Some(value);
                let name = state.unless_taken(*name);
                state.set(Category::Parsed, name, value);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
