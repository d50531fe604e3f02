//! Go's regular expressions (RE2) in the syntax of the `regex` crates.
//!
//! The two agree on semantics, leftmost-first, and on most of the syntax. They differ where text
//! would silently mean something else: `\d`, `\w`, `\s` and `\b` are ASCII in Go; `[a&&b]`,
//! `[a--b]` and a bracket inside brackets are plain characters there; so is a `{` that starts no
//! repetition; `\Q…\E` and octal escapes exist; `a**` and verbose mode do not.
//! Source: <https://github.com/google/re2/wiki/Syntax>, Go `regexp/syntax`.

use std::fmt::Write as _;

use super::RegexError;

/// Most times a part may be repeated by a count, as in Go.
const MAX_REPEAT: u32 = 1_000;

/// A translated expression. Groups keep their numbers; names are taken out, because Go allows
/// names the `regex` crates do not.
pub(super) struct Translated {
    pub(super) pattern: String,
    pub(super) names: Vec<(String, usize)>,
}

/// Rewrites `pattern`.
///
/// # Errors
/// What Go says about an expression it does not take.
pub(super) fn translate(pattern: &str) -> Result<Translated, RegexError> {
    let mut translator = Translator {
        whole: pattern,
        rest: pattern,
        out: String::with_capacity(pattern.len() + 16),
        names: Vec::new(),
        groups: 0,
        depth: 0,
        operand: Operand::None,
    };
    while !translator.rest.is_empty() {
        translator.step()?;
    }
    if translator.depth > 0 {
        return Err(fault("missing closing )", pattern));
    }
    Ok(Translated { pattern: translator.out, names: translator.names })
}

struct Translator<'a> {
    whole: &'a str,
    rest: &'a str,
    out: String,
    names: Vec<(String, usize)>,
    groups: usize,
    depth: usize,
    operand: Operand<'a>,
}

/// What stands before the place, for the operators of repetition.
#[derive(Clone, Copy)]
enum Operand<'a> {
    /// Nothing that could be repeated.
    None,
    /// Something that may be repeated.
    Some,
    /// Something repeated already; holds the text from that operator on.
    Repeated(&'a str),
}

fn fault(reason: &str, text: &str) -> RegexError {
    RegexError(format!("{reason}: `{text}`"))
}

impl<'a> Translator<'a> {
    fn next(&mut self) -> Option<char> {
        let c = self.rest.chars().next()?;
        self.rest = &self.rest[c.len_utf8()..];
        Some(c)
    }

    fn step(&mut self) -> Result<(), RegexError> {
        let start = self.rest;
        let Some(c) = self.next() else { return Ok(()) };
        match c {
            '\\' => return self.escape(start),
            '[' => self.class(start)?,
            '(' => return self.open(start),
            ')' => {
                if self.depth == 0 {
                    return Err(fault("unexpected )", self.whole));
                }
                self.depth -= 1;
                self.out.push(')');
            }
            '|' => {
                self.out.push('|');
                self.operand = Operand::None;
                return Ok(());
            }
            '*' | '+' | '?' => {
                self.out.push(c);
                return self.repeated(start);
            }
            '{' => match repetition(self.rest) {
                Some((counts, tail)) => {
                    self.rest = tail;
                    if !counts.valid() {
                        let shown = &start[..start.len() - tail.len()];
                        return Err(fault("invalid repeat count", shown));
                    }
                    counts.write(&mut self.out);
                    return self.repeated(start);
                }
                None => self.out.push_str("\\{"),
            },
            '.' | '^' | '$' => self.out.push(c),
            _ => push_literal(&mut self.out, c),
        }
        self.operand = Operand::Some;
        Ok(())
    }

    /// After an operator of repetition was written; `start` is the text from it on.
    fn repeated(&mut self, start: &'a str) -> Result<(), RegexError> {
        if let Some(tail) = self.rest.strip_prefix('?') {
            self.rest = tail;
            self.out.push('?');
        }
        let shown = &start[..start.len() - self.rest.len()];
        match self.operand {
            Operand::None => Err(fault("missing argument to repetition operator", shown)),
            Operand::Repeated(before) => {
                let both = &before[..before.len() - self.rest.len()];
                Err(fault("invalid nested repetition operator", both))
            }
            Operand::Some => {
                self.operand = Operand::Repeated(start);
                Ok(())
            }
        }
    }

    fn open(&mut self, start: &'a str) -> Result<(), RegexError> {
        self.operand = Operand::None;
        let Some(tail) = self.rest.strip_prefix('?') else {
            self.depth += 1;
            self.groups += 1;
            self.out.push('(');
            return Ok(());
        };
        if let Some(named) = tail.strip_prefix("P<").or_else(|| tail.strip_prefix('<')) {
            let (name, after) =
                named.split_once('>').ok_or_else(|| fault("invalid named capture", start))?;
            let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
            // Go lets several groups bear one name.
            if name.is_empty() || !name.chars().all(word) {
                let shown = &start[..start.len() - after.len()];
                return Err(fault("invalid named capture", shown));
            }
            self.rest = after;
            self.depth += 1;
            self.groups += 1;
            self.names.push((name.to_owned(), self.groups));
            self.out.push('(');
            return Ok(());
        }
        self.flags(start, tail)
    }

    /// `(?i)`, `(?i-s:…)`; `flags` is the text after `(?`.
    fn flags(&mut self, start: &str, flags: &'a str) -> Result<(), RegexError> {
        let mut negative = false;
        let mut any_after_sign = false;
        for (index, c) in flags.char_indices() {
            match c {
                'i' | 'm' | 's' | 'U' => any_after_sign = true,
                '-' if !negative => {
                    negative = true;
                    any_after_sign = false;
                }
                ':' | ')' if !negative || any_after_sign => {
                    self.rest = &flags[index + 1..];
                    self.out.push_str("(?");
                    self.out.push_str(&flags[..=index]);
                    if c == ':' {
                        self.depth += 1;
                    }
                    return Ok(());
                }
                _ => {
                    let shown = &start[..start.len() - flags.len() + index + c.len_utf8()];
                    return Err(fault("invalid or unsupported Perl syntax", shown));
                }
            }
        }
        Err(fault("missing closing )", self.whole))
    }

    fn escape(&mut self, start: &'a str) -> Result<(), RegexError> {
        if let Some(quoted) = self.rest.strip_prefix('Q') {
            let (text, tail) = quoted.split_once("\\E").unwrap_or((quoted, ""));
            for c in text.chars() {
                push_literal(&mut self.out, c);
                self.operand = Operand::Some;
            }
            self.rest = tail;
            return Ok(());
        }
        self.operand = Operand::Some;
        let (meaning, tail) = escaped(start)?;
        match meaning {
            Escaped::Char(c) => push_literal(&mut self.out, c),
            Escaped::Set(set) => {
                self.out.push('[');
                self.out.push_str(set);
                self.out.push(']');
            }
            Escaped::Property(property) => self.out.push_str(&property),
            Escaped::Assertion(assertion) => self.out.push_str(assertion),
        }
        self.rest = tail;
        Ok(())
    }

    /// A class; `start` begins with its `[`.
    fn class(&mut self, start: &'a str) -> Result<(), RegexError> {
        self.out.push('[');
        if let Some(tail) = self.rest.strip_prefix('^') {
            self.rest = tail;
            self.out.push('^');
        }
        let mut first = true;
        loop {
            if self.rest.is_empty() {
                return Err(fault("missing closing ]", start));
            }
            if !first && let Some(tail) = self.rest.strip_prefix(']') {
                self.rest = tail;
                self.out.push(']');
                return Ok(());
            }
            first = false;
            self.class_item(start)?;
        }
    }

    fn class_item(&mut self, class: &'a str) -> Result<(), RegexError> {
        if self.rest.starts_with("[:")
            && let Some(end) = self.rest[2..].find(":]")
        {
            let (named, tail) = self.rest.split_at(end + 4);
            let name = named[2..end + 2].trim_start_matches('^');
            if !POSIX_CLASSES.contains(&name) {
                return Err(fault("invalid character class range", named));
            }
            self.out.push_str(named);
            self.rest = tail;
            return Ok(());
        }
        let start = self.rest;
        let low = match self.class_character(class)? {
            Escaped::Char(c) => c,
            Escaped::Set(set) => {
                // A negated set is a class of its own; nesting makes the union.
                self.out.push('[');
                self.out.push_str(set);
                self.out.push(']');
                return Ok(());
            }
            Escaped::Property(property) => {
                self.out.push_str(&property);
                return Ok(());
            }
            Escaped::Assertion(_) => {
                return Err(fault("invalid escape sequence", &start[..2]));
            }
        };
        let mut high = low;
        let is_range =
            self.rest.len() >= 2 && self.rest.starts_with('-') && !self.rest.starts_with("-]");
        if is_range {
            self.rest = &self.rest[1..];
            let end = self.class_character(class)?;
            let shown = &start[..start.len() - self.rest.len()];
            match end {
                Escaped::Char(c) if c >= low => high = c,
                _ => return Err(fault("invalid character class range", shown)),
            }
        }
        push_code_point(&mut self.out, low);
        if high != low {
            self.out.push('-');
            push_code_point(&mut self.out, high);
        }
        Ok(())
    }

    fn class_character(&mut self, class: &'a str) -> Result<Escaped, RegexError> {
        if self.rest.starts_with('\\') {
            let (meaning, tail) = escaped(self.rest)?;
            self.rest = tail;
            return Ok(meaning);
        }
        self.next().map(Escaped::Char).ok_or_else(|| fault("missing closing ]", class))
    }
}

const POSIX_CLASSES: [&str; 14] = [
    "alnum", "alpha", "ascii", "blank", "cntrl", "digit", "graph", "lower", "print", "punct",
    "space", "upper", "word", "xdigit",
];

enum Escaped {
    Char(char),
    /// What stands between the brackets of a class.
    Set(&'static str),
    /// A Unicode property, ready to be written.
    Property(String),
    Assertion(&'static str),
}

/// Reads one escape; `text` begins with its backslash.
fn escaped(text: &str) -> Result<(Escaped, &str), RegexError> {
    let mut characters = text[1..].chars();
    let Some(c) = characters.next() else {
        return Err(fault("trailing backslash at end of expression", ""));
    };
    let tail = characters.as_str();
    let invalid = || fault("invalid escape sequence", &text[..1 + c.len_utf8()]);
    let meaning = match c {
        'd' => Escaped::Set("0-9"),
        'D' => Escaped::Set("^0-9"),
        's' => Escaped::Set(r"\t\n\f\r\x20"),
        'S' => Escaped::Set(r"^\t\n\f\r\x20"),
        'w' => Escaped::Set("0-9A-Za-z_"),
        'W' => Escaped::Set("^0-9A-Za-z_"),
        'b' => Escaped::Assertion(r"(?-u:\b)"),
        'B' => Escaped::Assertion(r"(?-u:\B)"),
        'A' => Escaped::Assertion(r"\A"),
        'z' => Escaped::Assertion(r"\z"),
        'a' => Escaped::Char('\x07'),
        'f' => Escaped::Char('\x0c'),
        't' => Escaped::Char('\t'),
        'n' => Escaped::Char('\n'),
        'r' => Escaped::Char('\r'),
        'v' => Escaped::Char('\x0b'),
        'p' | 'P' => return property(text, c == 'P', tail),
        'x' => return hexadecimal(text, tail),
        '0' => return Ok(octal(0, tail, 2)),
        '1'..='7' => {
            if !tail.starts_with(|next: char| ('0'..='7').contains(&next)) {
                return Err(invalid());
            }
            return Ok(octal(c as u32 - '0' as u32, tail, 2));
        }
        c if c == '_' || (c.is_ascii() && !c.is_ascii_alphanumeric()) => Escaped::Char(c),
        _ => return Err(invalid()),
    };
    Ok((meaning, tail))
}

fn octal(first: u32, tail: &str, more: usize) -> (Escaped, &str) {
    let digits = tail.bytes().take(more).take_while(|b| (b'0'..=b'7').contains(b)).count();
    let value = tail[..digits].bytes().fold(first, |value, b| value * 8 + u32::from(b - b'0'));
    let c = char::from_u32(value).expect("three octal digits stay below the surrogates");
    (Escaped::Char(c), &tail[digits..])
}

fn hexadecimal<'a>(text: &'a str, tail: &'a str) -> Result<(Escaped, &'a str), RegexError> {
    let (digits, rest) = match tail.strip_prefix('{') {
        Some(inner) => {
            inner.split_once('}').ok_or_else(|| fault("invalid escape sequence", text))?
        }
        None => {
            let end = tail.char_indices().nth(2).map_or(tail.len(), |(index, _)| index);
            tail.split_at(end)
        }
    };
    let braced = tail.starts_with('{');
    let valid = digits.bytes().all(|b| b.is_ascii_hexdigit())
        && if braced { (1..=8).contains(&digits.len()) } else { digits.len() == 2 };
    let shown = &text[..text.len() - rest.len()];
    let c = if valid { u32::from_str_radix(digits, 16).ok() } else { None };
    c.and_then(char::from_u32)
        .map(|c| (Escaped::Char(c), rest))
        .ok_or_else(|| fault("invalid escape sequence", shown))
}

/// `\pN`, `\p{Greek}`, `\p{^Greek}`.
fn property<'a>(
    text: &'a str,
    negated: bool,
    tail: &'a str,
) -> Result<(Escaped, &'a str), RegexError> {
    let invalid = |shown| fault("invalid character class range", shown);
    let (name, rest) = match tail.strip_prefix('{') {
        Some(inner) => inner.split_once('}').ok_or_else(|| invalid(text))?,
        None => {
            let end = tail.chars().next().map_or(0, char::len_utf8);
            tail.split_at(end)
        }
    };
    let shown = &text[..text.len() - rest.len()];
    let (name, negated) = match name.strip_prefix('^') {
        Some(name) => (name, !negated),
        None => (name, negated),
    };
    // Go knows categories and scripts by name only, the `regex` crates also take `sc=…`.
    if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
        return Err(invalid(shown));
    }
    Ok((Escaped::Property(format!("\\{}{{{name}}}", if negated { 'P' } else { 'p' })), rest))
}

/// `n`, `n,` or `n,m` of a repetition.
struct Counts {
    low: u32,
    high: Option<u32>,
    exact: bool,
}

impl Counts {
    fn valid(&self) -> bool {
        self.low <= MAX_REPEAT
            && self.high.is_none_or(|high| high <= MAX_REPEAT && high >= self.low)
    }

    fn write(&self, out: &mut String) {
        let written = match (self.exact, self.high) {
            (true, _) => write!(out, "{{{}}}", self.low),
            (false, Some(high)) => write!(out, "{{{},{high}}}", self.low),
            (false, None) => write!(out, "{{{},}}", self.low),
        };
        written.expect("a String takes every text");
    }
}

/// Reads the counts after a `{`. `None` if they are no counts, so the brace is a character.
fn repetition(text: &str) -> Option<(Counts, &str)> {
    let (inside, tail) = text.split_once('}')?;
    let (low, high) = match inside.split_once(',') {
        Some((low, high)) => (low, Some(high)),
        None => (inside, None),
    };
    let low = count(low)?;
    let counts = match high {
        None => Counts { low, high: None, exact: true },
        Some("") => Counts { low, high: None, exact: false },
        Some(high) => Counts { low, high: Some(count(high)?), exact: false },
    };
    Some((counts, tail))
}

/// A number without leading zeros; one too large to hold is simply too large.
fn count(digits: &str) -> Option<u32> {
    let plain = !digits.is_empty()
        && digits.bytes().all(|b| b.is_ascii_digit())
        && (digits == "0" || !digits.starts_with('0'));
    plain.then(|| digits.parse().unwrap_or(u32::MAX))
}

fn push_literal(out: &mut String, c: char) {
    if regex_syntax::is_meta_character(c) {
        out.push('\\');
    }
    out.push(c);
}

fn push_code_point(out: &mut String, c: char) {
    if c.is_ascii_alphanumeric() || !c.is_ascii() {
        out.push(c);
    } else {
        write!(out, "\\x{{{:X}}}", c as u32).expect("a String takes every text");
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::Regex;

    fn matches(pattern: &str, text: &str) -> bool {
        Regex::new(pattern).unwrap_or_else(|error| panic!("{pattern}: {error}")).is_match(text)
    }

    #[test]
    fn text_means_what_it_means_in_go() {
        for (pattern, yes, no) in [
            (r"\d+", "42", "٤٢"),
            (r"\w+", "az_09", "é"),
            (r"\W", "é", "a"),
            (r"[\D]", "x", "1"),
            (r"[^\s]", "\u{b}", " "),
            (r"[[a]", "[", "b"),
            (r"[a&&b]", "&", "c"),
            (r"[+--b]", ",", "+--b"),
            (r"[]a]", "]", "b"),
            (r"[^]a]", "b", "]"),
            (r"[a-]", "-", "b"),
            (r"[[:alpha:]\-]", "-", "1"),
            (r"[[:^digit:]]", "x", "1"),
            (r"a{b}", "a{b}", "ab"),
            (r"a{,2}", "a{,2}", "aa"),
            (r"a{2,}", "aaa", "a"),
            (r"{foo}", "{foo}", "foo"),
            (r"\Qa.b*\E+", "a.b**", "axb"),
            (r"\101\x42\x{43}", "ABC", "abc"),
            (r"\pN\p{Greek}\P{Greek}", "5αa", "5αα"),
            (r"\p{^Greek}", "a", "α"),
            (r"(?i)abc", "ABC", "ABD"),
            (r"(?i:a)b", "Ab", "AB"),
            (r"(?P<1st>a)", "a", "b"),
            (r"a\bé", "aé", "a"),
            (r"a.b", "a\nb", "ab"),
            (r"(?-s:a.b)", "axb", "a\nb"),
            (r"^a$|b", "b", "ab"),
            (r"\/\_\<\%", "/_<%", "x"),
            (r"a#b c~d&e", "a#b c~d&e", "ab"),
        ] {
            assert!(matches(pattern, yes), "{pattern} {yes:?}");
            assert!(!matches(pattern, no), "{pattern} {no:?}");
        }
    }

    #[test]
    fn what_go_refuses_is_refused_in_its_words() {
        for (pattern, want) in [
            ("abc(def", "missing closing ): `abc(def`"),
            ("a)", "unexpected ): `a)`"),
            ("[a", "missing closing ]: `[a`"),
            ("[b-a]", "invalid character class range: `b-a`"),
            (r"[a-\d]", r"invalid character class range: `a-\d`"),
            ("*a", "missing argument to repetition operator: `*`"),
            ("(|+?)", "missing argument to repetition operator: `+?`"),
            ("a**", "invalid nested repetition operator: `**`"),
            ("a{2}{3}", "invalid nested repetition operator: `{2}{3}`"),
            ("a{1001}", "invalid repeat count: `{1001}`"),
            ("a{3,2}", "invalid repeat count: `{3,2}`"),
            (r"\q", r"invalid escape sequence: `\q`"),
            (r"\1", r"invalid escape sequence: `\1`"),
            (r"\x{110000}", r"invalid escape sequence: `\x{110000}`"),
            ("a\\", "trailing backslash at end of expression: ``"),
            ("(?=a)", "invalid or unsupported Perl syntax: `(?=`"),
            ("(?x)a", "invalid or unsupported Perl syntax: `(?x`"),
            ("(?P<a-b>c)", "invalid named capture: `(?P<a-b>`"),
            (r"\p{Klingon}", "property not found"),
        ] {
            let error = Regex::new(pattern).expect_err(pattern).to_string();
            assert!(error.starts_with("error parsing regexp: "), "{error}");
            assert!(error.contains(want), "{pattern}: {error}");
        }
        let nested = "(".repeat(300) + &")".repeat(300);
        Regex::new(&nested).expect_err("too deep");
        Regex::new("(((a{1000}){1000}){1000}){1000}").expect_err("too large");
    }

    proptest! {
        #[test]
        fn nothing_panics(pattern in r"[\\\[\](){}|*+?.^$a-c0-9,:<>PQE\-&pxd é]{0,24}", text in "[a-c]{0,4}") {
            if let Ok(regex) = Regex::new(&pattern) {
                regex.is_match(&text);
            }
        }

        #[test]
        fn quoted_text_matches_itself(text in "[^\\\\]{0,16}", other in "[a-c]{0,3}") {
            let regex = Regex::new(&format!("\\Q{text}\\E")).expect("quoted text");
            prop_assert!(regex.is_match(&text));
            prop_assert_eq!(regex.is_match(&other), other == text);
        }
    }
}
