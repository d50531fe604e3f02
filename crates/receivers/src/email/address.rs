//! Addresses of mail: lists of `name <local@domain>` (RFC 5322, section 3.4), as far as people
//! write them.

/// Longest address in bytes (RFC 5321, section 4.5.3.1.3).
const MAX_ADDRESS_BYTES: usize = 254;

/// One recipient or sender.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mailbox {
    /// The name for people, without quotes; empty for none.
    pub(super) name: String,
    /// `local@domain`
    pub(super) address: String,
}

/// Reads a list of addresses; never empty.
pub(super) fn parse_list(text: &str) -> Result<Vec<Mailbox>, String> {
    let mut parser = Parser { rest: text };
    let mut all = Vec::new();
    loop {
        parser.skip_space()?;
        // A group, `name: a@b, c@d;`, is told of by its members.
        if parser.eat(',') || parser.eat(';') {
            continue;
        }
        if parser.rest.is_empty() {
            break;
        }
        if let Some(mailbox) = parser.mailbox()? {
            all.push(mailbox);
        }
    }
    if all.is_empty() { Err("there is no address".to_owned()) } else { Ok(all) }
}

struct Parser<'t> {
    rest: &'t str,
}

impl Parser<'_> {
    fn eat(&mut self, c: char) -> bool {
        let found = self.rest.strip_prefix(c);
        self.rest = found.unwrap_or(self.rest);
        found.is_some()
    }

    /// Passes over spaces, line breaks and comments in parentheses.
    fn skip_space(&mut self) -> Result<(), String> {
        loop {
            self.rest = self.rest.trim_start();
            if !self.rest.starts_with('(') {
                return Ok(());
            }
            let (mut depth, mut escaped, mut end) = (0_usize, false, None);
            for (at, c) in self.rest.char_indices() {
                match c {
                    _ if escaped => escaped = false,
                    '\\' => escaped = true,
                    '(' => depth += 1,
                    ')' => depth -= 1,
                    _ => {}
                }
                if depth == 0 {
                    end = Some(at + 1);
                    break;
                }
            }
            let end = end.ok_or("a comment does not end; close it with )")?;
            self.rest = &self.rest[end..];
        }
    }

    /// A mailbox; `None` for the name of a group.
    fn mailbox(&mut self) -> Result<Option<Mailbox>, String> {
        let mut words: Vec<String> = Vec::new();
        loop {
            self.skip_space()?;
            match self.rest.chars().next() {
                Some('<') => {
                    self.eat('<');
                    let address = self.address_until('>')?;
                    if !self.eat('>') {
                        return Err("an address in < is not closed by >".to_owned());
                    }
                    self.skip_space()?;
                    if !self.rest.is_empty() && !self.rest.starts_with([',', ';']) {
                        return Err("addresses are not separated by commas".to_owned());
                    }
                    return Ok(Some(Mailbox { name: words.join(" "), address }));
                }
                Some(':') => {
                    self.eat(':');
                    return Ok(None);
                }
                None | Some(',' | ';') => {
                    let [word] = words.as_slice() else {
                        return Err(format!("{:?} has no address in < >", words.join(" ")));
                    };
                    let address = checked(word)?;
                    return Ok(Some(Mailbox { name: String::new(), address }));
                }
                Some('"') => {
                    let text = self.quoted()?;
                    // A quoted local part of an address without < >.
                    if self.rest.starts_with('@') {
                        let domain = self.word(&[]);
                        words.push(format!("\"{}\"{domain}", escaped(&text)));
                    } else {
                        words.push(text);
                    }
                }
                Some('>') => return Err("there is a > without a <".to_owned()),
                Some(_) => {
                    let word = self.word(&[]);
                    if word.is_empty() {
                        let c = self.rest.chars().next().unwrap_or_default();
                        return Err(format!("{c:?} may not stand in an address"));
                    }
                    words.push(word);
                }
            }
        }
    }

    fn address_until(&mut self, end: char) -> Result<String, String> {
        self.skip_space()?;
        let mut address = String::new();
        if self.rest.starts_with('"') {
            let text = self.quoted()?;
            address = format!("\"{}\"", escaped(&text));
        }
        address.push_str(&self.word(&[end]));
        self.skip_space()?;
        checked(&address)
    }

    fn quoted(&mut self) -> Result<String, String> {
        self.eat('"');
        let mut text = String::new();
        let mut is_escaped = false;
        for (at, c) in self.rest.char_indices() {
            match c {
                _ if is_escaped => {
                    text.push(c);
                    is_escaped = false;
                }
                '\\' => is_escaped = true,
                '"' => {
                    self.rest = &self.rest[at + 1..];
                    return Ok(text);
                }
                c if c.is_control() && c != '\t' => {
                    return Err("a name holds a control character".to_owned());
                }
                c => text.push(c),
            }
        }
        Err("a name in quotes does not end; close it with \"".to_owned())
    }

    fn word(&mut self, ends: &[char]) -> String {
        let is_end = |c: char| {
            ends.contains(&c)
                || c.is_whitespace()
                || c.is_control()
                || matches!(c, '<' | '>' | ',' | ';' | ':' | '"' | '(' | ')')
        };
        // A domain may be an address, `[IPv6:::1]`.
        let literal = self.rest.find("@[").filter(|at| !self.rest[..*at].contains(is_end));
        let end = match literal.and_then(|at| Some(at + self.rest[at..].find(']')? + 1)) {
            Some(end) => end,
            None => self.rest.find(is_end).unwrap_or(self.rest.len()),
        };
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        word.to_owned()
    }
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"")
}

fn checked(address: &str) -> Result<String, String> {
    let fault = |what: &str| Err(format!("{address:?} {what}"));
    if address.len() > MAX_ADDRESS_BYTES {
        return Err(format!("an address has more than {MAX_ADDRESS_BYTES} bytes"));
    }
    let Some((local, domain)) = address.rsplit_once('@') else { return fault("has no @") };
    if local.is_empty() || domain.is_empty() {
        return fault("has nothing on one side of its @");
    }
    let is_quoted = local.starts_with('"');
    if !is_quoted
        && (local.contains('@')
            || local.starts_with('.')
            || local.ends_with('.')
            || local.contains(".."))
    {
        return fault("has an @ or dots where none may be");
    }
    if domain.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return fault("has a space in its domain");
    }
    Ok(address.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(text: &str) -> Result<Vec<(String, String)>, String> {
        let all = parse_list(text)?;
        Ok(all.into_iter().map(|mailbox| (mailbox.name, mailbox.address)).collect())
    }

    #[test]
    fn lists_as_people_write_them() {
        for (text, want) in [
            ("a@b.c", vec![("", "a@b.c")]),
            (" a@b, c@d ,", vec![("", "a@b"), ("", "c@d")]),
            ("Ann Bee <a@b>, c@d", vec![("Ann Bee", "a@b"), ("", "c@d")]),
            ("\"Bee, \\\"Ann\\\"\" <a@b>", vec![("Bee, \"Ann\"", "a@b")]),
            ("Ännchen <ä@b>", vec![("Ännchen", "ä@b")]),
            ("(who) a@b (really (yes))", vec![("", "a@b")]),
            ("team: a@b, c@d;", vec![("", "a@b"), ("", "c@d")]),
            ("\"a b\"@c", vec![("", "\"a b\"@c")]),
            ("<\"a\\\"b\"@c>", vec![("", "\"a\\\"b\"@c")]),
            ("a@[IPv6:::1]", vec![("", "a@[IPv6:::1]")]),
        ] {
            let want: Vec<_> =
                want.into_iter().map(|(n, a)| (n.to_owned(), a.to_owned())).collect();
            assert_eq!(list(text), Ok(want), "{text}");
        }
    }

    #[test]
    fn nothing_else_comes_to_a_server() {
        for text in [
            "",
            " , ",
            "a",
            "a b@c",
            "<a@b",
            "a@b>",
            "<a@b> c@d",
            "a@",
            "@b",
            "a@b@c",
            "(",
            "\"a",
            "<a@b\r\nRCPT TO:<c@d>>",
            "a..b@c",
            "\"a\r\nb\"@c",
            "a)@b",
        ] {
            assert!(list(text).is_err(), "{text:?}: {:?}", list(text));
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_panics_or_smuggles_lines(text in "[a-b@<>(),;:\\\\\"\r\n \\[\\]ä.]{0,24}") {
            for mailbox in parse_list(&text).unwrap_or_default() {
                proptest::prop_assert!(!mailbox.address.contains(['\r', '\n']));
            }
        }
    }
}
