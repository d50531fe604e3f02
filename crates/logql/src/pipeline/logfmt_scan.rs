//! Lines of `key=value` and `key="quoted value"`, taken apart.
//!
//! Blanks, that is bytes up to the space, stand between pairs. A key or a plain value ends at one, a
//! quoted value has the escapes of JSON and `\'`. Source of the form and of the words for what is
//! broken: <https://pkg.go.dev/github.com/go-logfmt/logfmt>. Unlike there a broken pair does not end
//! the line; what is left of it up to the next blank is passed over.

use std::fmt;

use super::json_scan::unescape_logfmt_into;

/// Why a pair is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Broken {
    /// `=` or `"` where there is none.
    Unexpected(char),
    /// A key with bytes that are no UTF-8.
    Key,
    /// A quote without its end.
    Unterminated,
    /// An escape that is none.
    Escape,
}

/// What is wrong with a pair, and before which byte, counted from 1, it was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fault {
    position: usize,
    broken: Broken,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "logfmt syntax error at pos {} : ", self.position)?;
        match self.broken {
            Broken::Unexpected(c) => write!(f, "unexpected '{c}'"),
            Broken::Key => f.write_str("invalid key"),
            Broken::Unterminated => f.write_str("unterminated quoted value"),
            Broken::Escape => f.write_str("invalid quoted value"),
        }
    }
}

/// A value as it stands in the line, without its quotes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Value<'t> {
    Plain(&'t str),
    Escaped(&'t str),
}

/// Pairs of a line. What is broken is yielded as such, and the next pair follows it.
#[derive(Debug, Clone)]
pub(super) struct Pairs<'t> {
    rest: &'t str,
    line_len: usize,
}

fn is_blank(byte: u8) -> bool {
    byte <= b' '
}

fn ends_word(byte: u8) -> bool {
    is_blank(byte) || byte == b'=' || byte == b'"'
}

impl<'t> Pairs<'t> {
    pub(super) fn new(line: &'t str) -> Self {
        Pairs { rest: line, line_len: line.len() }
    }

    /// Takes what stands before the first byte that is an end.
    fn before(&mut self, is_end: impl Fn(u8) -> bool) -> &'t str {
        let len = self.rest.bytes().position(is_end).unwrap_or(self.rest.len());
        let (taken, rest) = self.rest.split_at(len);
        self.rest = rest;
        taken
    }

    fn fault(&self, broken: Broken) -> Fault {
        Fault { position: self.line_len - self.rest.len() + 1, broken }
    }

    fn pair(&mut self) -> Result<(&'t str, Value<'t>), Fault> {
        let key = self.before(ends_word);
        let follows = self.rest.chars().next();
        match follows {
            Some(mark @ '"') => Err(self.fault(Broken::Unexpected(mark))),
            Some(mark @ '=') if key.is_empty() => Err(self.fault(Broken::Unexpected(mark))),
            // Nearly all keys are ASCII, which is seen sooner.
            _ if !key.is_ascii() && key.contains(char::REPLACEMENT_CHARACTER) => {
                Err(self.fault(Broken::Key))
            }
            Some('=') => {
                self.rest = &self.rest[1..];
                let value = if self.rest.starts_with('"') { self.quoted() } else { self.plain() };
                value.map(|value| (key, value))
            }
            _ => Ok((key, Value::Plain(""))),
        }
    }

    fn plain(&mut self) -> Result<Value<'t>, Fault> {
        let value = self.before(ends_word);
        match self.rest.chars().next() {
            Some(mark @ ('=' | '"')) => Err(self.fault(Broken::Unexpected(mark))),
            _ => Ok(Value::Plain(value)),
        }
    }

    /// The value that starts with a quote here.
    fn quoted(&mut self) -> Result<Value<'t>, Fault> {
        let inner = &self.rest[1..];
        let mut is_escaped = false;
        let mut from = 0;
        while let Some(found) =
            inner.as_bytes().get(from..).and_then(|rest| memchr::memchr2(b'"', b'\\', rest))
        {
            let at = from + found;
            if inner.as_bytes()[at] == b'"' {
                self.rest = &inner[at + 1..];
                let value = &inner[..at];
                return Ok(if is_escaped { Value::Escaped(value) } else { Value::Plain(value) });
            }
            is_escaped = true;
            from = at + 2;
        }
        self.rest = "";
        Err(self.fault(Broken::Unterminated))
    }

    /// The text of the value yielded last; `unescaped` is memory to use.
    ///
    /// # Errors
    /// One of its escapes is none: the pair is broken after all.
    pub(super) fn text<'u>(
        &self,
        value: Value<'t>,
        unescaped: &'u mut String,
    ) -> Result<&'u str, Fault>
    where
        't: 'u,
    {
        match value {
            Value::Plain(text) => Ok(text),
            Value::Escaped(raw) => {
                unescaped.clear();
                unescape_logfmt_into(unescaped, raw).map_err(|_| self.fault(Broken::Escape))?;
                Ok(unescaped)
            }
        }
    }
}

impl<'t> Iterator for Pairs<'t> {
    type Item = Result<(&'t str, Value<'t>), Fault>;

    fn next(&mut self) -> Option<Self::Item> {
        self.before(|byte| !is_blank(byte));
        if self.rest.is_empty() {
            return None;
        }
        let pair = self.pair();
        if pair.is_err() {
            self.before(is_blank);
        }
        Some(pair)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pairs(text: &str) -> (Vec<String>, Option<String>) {
        let mut pairs = Pairs::new(text);
        let (mut all, mut told) = (Vec::new(), None);
        let mut unescaped = String::new();
        while let Some(pair) = pairs.next() {
            let shown = pair.and_then(|(key, value)| {
                Ok(format!("{key}:{}", pairs.text(value, &mut unescaped)?))
            });
            match shown {
                Ok(shown) => all.push(shown),
                Err(fault) => told = Some(fault.to_string()),
            }
        }
        (all, told)
    }

    #[test]
    fn pairs_are_read() {
        let text = r#"a=1 b="x y"  c= d e="q\"\n\u00e9\ud83d\ude00\'" f="""#;
        let (all, told) = pairs(text);
        assert_eq!(all, ["a:1", "b:x y", "c:", "d:", "e:q\"\né😀'", "f:"]);
        assert_eq!(told, None);
    }

    #[test]
    fn broken_pairs_are_told_and_passed_over() {
        for (text, want, told) in [
            ("a=1 =x b=2", vec!["a:1", "b:2"], "at pos 5 : unexpected '='"),
            ("a=b=c d=2", vec!["d:2"], "at pos 4 : unexpected '='"),
            ("a\"b c=2", vec!["c:2"], "at pos 2 : unexpected '\"'"),
            ("a=\"b", vec![], "at pos 5 : unterminated quoted value"),
            ("a=\"\\x\" b=2", vec!["b:2"], "at pos 7 : invalid quoted value"),
            ("\u{fffd}=1 b=2", vec!["b:2"], "at pos 4 : invalid key"),
        ] {
            let (all, first) = pairs(text);
            assert_eq!(all, want, "{text}");
            assert_eq!(first.expect(text), format!("logfmt syntax error {told}"), "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in r#"([="\\ u0]|\PC){0,60}"#) {
            pairs(&text);
        }

        #[test]
        fn what_is_written_is_read(written in proptest::collection::vec(("[a-z]{1,8}", "[ -~]{0,12}"), 0..8)) {
            let mut text = String::new();
            let mut want = Vec::new();
            for (key, value) in &written {
                let quoted = value.replace('\\', "\\\\").replace('"', "\\\"");
                text.push_str(&format!("{key}=\"{quoted}\" "));
                want.push(format!("{key}:{value}"));
            }
            prop_assert_eq!(pairs(&text), (want, None));
        }
    }
}
