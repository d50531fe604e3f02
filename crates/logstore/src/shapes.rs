//! Lines cut, as they come, into what they have in common and what differs from line to line. What is common to many
//! lines is looked at once, by the skip index and by [`crate::templates`]: that is most of each line.

use std::hash::BuildHasher;

use hashbrown::HashTable;
use rapidhash::fast::RandomState;

use crate::templates::{MAX_TEMPLATES, MAX_VARIABLES, VARIABLE};
use crate::tokens::{Token, tokens};

/// The part of a token that differs from line to line, if there is one: its digits, if letters before or behind
/// them are more than digits of another base, and otherwise all of it. Only bytes of
/// [`crate::tokens::is_of_token`] are in it; readers rely on that.
pub(crate) fn variable<'a>(token: &Token<'a>) -> Option<(usize, &'a [u8])> {
    let bytes = token.bytes;
    if !token.has_digit || !token.is_ascii {
        return None;
    }
    let is_digit = |byte: &u8| byte.is_ascii_digit();
    let is_word = |part: &[u8]| part.iter().any(|byte| !byte.is_ascii_hexdigit());
    let leading = bytes.iter().take_while(|byte| is_digit(byte)).count();
    let behind = &bytes[leading..];
    if leading > 0 && (behind.is_empty() || (!behind.iter().any(is_digit) && is_word(behind))) {
        return Some((token.start, &bytes[..leading]));
    }
    let first = bytes.iter().position(is_digit)?;
    if bytes[first..].iter().all(is_digit) && is_word(&bytes[..first]) {
        return Some((token.start + first, &bytes[first..]));
    }
    Some((token.start, bytes))
}

/// What lines that differ in variables only have in common.
#[derive(Debug)]
pub(crate) struct Shape {
    /// With [`VARIABLE`] for each variable.
    pub(crate) text: Vec<u8>,
    pub(crate) variables: usize,
    pub(crate) rows: u32,
    /// Where the variables of its first line are among all.
    pub(crate) first_value: usize,
}

/// The lines of a group, cut.
#[derive(Debug, Default)]
pub(crate) struct Shapes {
    by_text: HashTable<u32>,
    hasher: RandomState,
    pub(crate) shapes: Vec<Shape>,
    /// Of each line, if values are kept.
    pub(crate) of_lines: Vec<u32>,
    /// Where each variable of each line begins and ends in the text of all lines, if they are kept.
    pub(crate) values: Vec<(u32, u32)>,
    /// Whether it is kept which shape each line has, and where its variables are.
    keeps_values: bool,
    line_bytes: usize,
    /// Whether a line had no shape: it has the byte that stands for variables, or too many of these, or there are
    /// too many shapes.
    lacks_some: bool,
    text: Vec<u8>,
}

impl Shapes {
    /// Such that remember what is needed to write lines as templates.
    pub(crate) fn with_values() -> Self {
        Shapes { keeps_values: true, ..Shapes::default() }
    }

    /// Whether every line has a shape, and it is kept which.
    pub(crate) fn are_whole(&self) -> bool {
        self.keeps_values && !self.lacks_some
    }

    /// Takes the next line. Yields whether its shape is that of a line before: if so, each token in which it may
    /// differ from that was handed to `each`, and whether all of the token is a variable; else perhaps some were.
    pub(crate) fn push(&mut self, line: &[u8], mut each: impl FnMut(&Token<'_>, bool)) -> bool {
        if self.lacks_some || memchr::memchr(VARIABLE, line).is_some() {
            self.lacks_some = true;
            return false;
        }
        self.text.clear();
        let (first_value, mut variables, mut end) = (self.values.len(), 0, 0);
        for token in tokens(line).filter(|token| token.has_digit) {
            let Some((start, value)) = variable(&token) else { continue };
            each(&token, value.len() == token.bytes.len());
            self.text.extend_from_slice(&line[end..start]);
            self.text.push(VARIABLE);
            end = start + value.len();
            variables += 1;
            if self.keeps_values {
                let bounds = (self.line_bytes + start, self.line_bytes + end);
                self.values.push((bounds.0 as u32, bounds.1 as u32));
            }
        }
        self.text.extend_from_slice(&line[end..]);
        self.line_bytes += line.len();
        let hash = self.hasher.hash_one(self.text.as_slice());
        let is_it = |number: &u32| self.shapes[*number as usize].text == self.text;
        let (number, is_known) = match self.by_text.find(hash, is_it) {
            Some(number) => (*number, true),
            None => {
                let is_too_long = u32::try_from(self.line_bytes).is_err();
                if self.shapes.len() == MAX_TEMPLATES || variables > MAX_VARIABLES || is_too_long {
                    self.lacks_some = true;
                    return false;
                }
                let number = self.shapes.len() as u32;
                let text = self.text.clone();
                self.shapes.push(Shape { text, variables, rows: 0, first_value });
                let (hasher, shapes) = (&self.hasher, &self.shapes);
                let rehash =
                    |number: &u32| hasher.hash_one(shapes[*number as usize].text.as_slice());
                self.by_text.insert_unique(hash, number, rehash);
                (number, false)
            }
        };
        self.shapes[number as usize].rows += 1;
        if self.keeps_values {
            self.of_lines.push(number);
        }
        is_known
    }

    /// Forgets all lines.
    pub(crate) fn clear(&mut self) {
        self.by_text.clear();
        self.shapes.clear();
        self.of_lines.clear();
        self.values.clear();
        (self.line_bytes, self.lacks_some) = (0, false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_is_a_variable() {
        let of = |line: &str| {
            let found = tokens(line.as_bytes()).filter_map(|token| variable(&token));
            let text = |(start, value): (usize, &[u8])| {
                assert_eq!(&line.as_bytes()[start..start + value.len()], value);
                String::from_utf8(value.to_vec()).expect("ASCII")
            };
            found.map(text).collect::<Vec<String>>()
        };
        assert_eq!(of("took=123ms user_77 pod-12 7"), ["123", "77", "12", "7"]);
        assert_eq!(
            of("id=4bf92f35 12abcdef abcdef12 5d"),
            ["4bf92f35", "12abcdef", "abcdef12", "5d"]
        );
        assert_eq!(of("plain 失败9 x"), Vec::<String>::new());
    }

    #[test]
    fn lines_that_differ_in_variables_have_one_shape() {
        let mut shapes = Shapes::with_values();
        let mut handed = Vec::new();
        let mut push = |shapes: &mut Shapes, line: &str| {
            handed.clear();
            let is_known = shapes.push(line.as_bytes(), |token, is_variable| {
                handed.push((String::from_utf8_lossy(token.bytes).into_owned(), is_variable));
            });
            (is_known, handed.clone())
        };
        assert!(!push(&mut shapes, "user_7 took 12ms in 4bf9").0);
        let (is_known, tokens) = push(&mut shapes, "user_88 took 1ms in a0a0");
        assert!(is_known);
        let wanted = [("user_88", false), ("1ms", false), ("a0a0", true)];
        assert_eq!(tokens, wanted.map(|(token, is)| (token.to_owned(), is)));
        assert_eq!((shapes.shapes.len(), shapes.shapes[0].rows, shapes.values.len()), (1, 2, 6));
        assert!(shapes.are_whole());
        // The byte that stands for a variable might be taken for one.
        assert!(!push(&mut shapes, "user_\0 took \0ms in \0").0);
        assert!(!shapes.are_whole());
        shapes.clear();
        assert!(!push(&mut shapes, "user_7 took 12ms in 4bf9").0 && shapes.are_whole());
    }
}
