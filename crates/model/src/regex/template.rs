//! Replacement texts with references to groups, as Go's `Regexp.Expand` reads them.

use super::{Groups, Regex};

/// A replacement, taken apart once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    /// The index of a group; a reference to a group that does not exist yields nothing and is
    /// not kept.
    Group(usize),
    /// Several groups of one name: the first of them that took part.
    FirstOf(Vec<usize>),
}

impl Template {
    /// Reads `$1`, `$name`, `${1}`, `${name}` and `$$`. A name is as long as possible: `$1x` is
    /// the group `1x`. A `$` that starts no reference stands for itself.
    pub fn parse(text: &str, regex: &Regex) -> Template {
        let mut parts = Vec::new();
        let mut literal = String::new();
        let mut rest = text;
        while let Some(at) = rest.find('$') {
            literal.push_str(&rest[..at]);
            rest = &rest[at + 1..];
            if let Some(tail) = rest.strip_prefix('$') {
                literal.push('$');
                rest = tail;
            } else if let Some((name, tail)) = reference(rest) {
                rest = tail;
                if let Some(group) = referred(name, regex) {
                    if !literal.is_empty() {
                        parts.push(Part::Text(std::mem::take(&mut literal)));
                    }
                    parts.push(group);
                }
            } else {
                literal.push('$');
            }
        }
        literal.push_str(rest);
        if !literal.is_empty() {
            parts.push(Part::Text(literal));
        }
        Template { parts }
    }

    /// The text, if nothing in it depends on the match.
    pub fn constant(&self) -> Option<&str> {
        match self.parts.as_slice() {
            [] => Some(""),
            [Part::Text(text)] => Some(text),
            _ => None,
        }
    }

    /// The one group that is the whole template.
    pub fn single_group(&self) -> Option<usize> {
        match self.parts.as_slice() {
            [Part::Group(group)] => Some(*group),
            _ => None,
        }
    }

    /// Appends the text with each reference replaced by what its group matched of `text`.
    pub fn expand(&self, out: &mut String, groups: &Groups, text: &str) {
        for part in &self.parts {
            match part {
                Part::Text(text) => out.push_str(text),
                Part::Group(index) => out.push_str(groups.get(*index, text)),
                Part::FirstOf(indexes) => {
                    let taken = indexes.iter().find(|index| groups.range(**index).is_some());
                    out.push_str(taken.map_or("", |index| groups.get(*index, text)));
                }
            }
        }
    }
}

/// Splits the name of a reference from what follows it; `text` starts after the `$`.
fn reference(text: &str) -> Option<(&str, &str)> {
    let (body, braced) = match text.strip_prefix('{') {
        Some(inner) => (inner, true),
        None => (text, false),
    };
    let word = |c: char| c.is_alphanumeric() || c == '_';
    let end = body.find(|c| !word(c)).unwrap_or(body.len());
    if end == 0 {
        return None;
    }
    let (name, tail) = body.split_at(end);
    if braced { tail.strip_prefix('}').map(|tail| (name, tail)) } else { Some((name, tail)) }
}

/// What a reference yields. A name of digits without a leading zero is a number, everything else a
/// name.
fn referred(name: &str, regex: &Regex) -> Option<Part> {
    let digits = name.bytes().all(|b| b.is_ascii_digit());
    if digits && (name == "0" || !name.starts_with('0')) {
        let index = name.parse().ok().filter(|index| *index <= regex.groups());
        return index.map(Part::Group);
    }
    let named: Vec<usize> = regex.groups_named(name).collect();
    match named.as_slice() {
        [] => None,
        [only] => Some(Part::Group(*only)),
        _ => Some(Part::FirstOf(named)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expand(template: &str, pattern: &str, text: &str) -> String {
        let regex = Regex::new(pattern).expect("a valid expression");
        let mut groups = Groups::default();
        assert!(regex.captures(text, &mut groups));
        let mut out = String::new();
        Template::parse(template, &regex).expand(&mut out, &groups, text);
        out
    }

    #[test]
    fn references_are_read_as_go_reads_them() {
        let (pattern, text) = ("(one)(?P<b>two)|(not)", "onetwo");
        for (template, want) in [
            ("$1-x", "one-x"),
            ("$1x", ""),
            ("${1}x", "onex"),
            ("$b ${b} $0", "two two onetwo"),
            ("$$1 $", "$1 $"),
            ("a$-b ${ ${1 ${}", "a$-b ${ ${1 ${}"),
            ("$01 $3 $4 $nope", "   "),
            ("", ""),
        ] {
            assert_eq!(expand(template, pattern, text), want, "{template}");
        }
        // Of groups with one name the first that took part counts.
        let shared = "(?P<x>a)|(?P<x>b)(?P<x>c)";
        assert_eq!(expand("<$x>", shared, "a"), "<a>");
        assert_eq!(expand("<$x>", shared, "bc"), "<b>");
    }
}
