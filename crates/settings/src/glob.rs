//! Path patterns with `*`, `?` and `[…]`, as Go's `filepath.Glob` reads them.

use std::path::{Path, PathBuf};

use crate::prometheus::Surroundings;

/// The files a pattern names, sorted; none for a pattern that names nothing. Only its last part
/// may hold wildcards, which is what Prometheus' configuration allows.
pub fn expand(pattern: &str, surroundings: &dyn Surroundings) -> Vec<PathBuf> {
    let path = Path::new(pattern);
    let directory = path.parent().unwrap_or(Path::new(""));
    let Some(name) = path.file_name().and_then(|name| name.to_str()) else { return Vec::new() };
    let listed = if directory.as_os_str().is_empty() { Path::new(".") } else { directory };
    let mut names = surroundings.list(listed).unwrap_or_default();
    names.retain(|candidate| matches(name, candidate));
    names.sort_unstable();
    names.iter().map(|name| directory.join(name)).collect()
}

/// Whether `name` fits `pattern`. A pattern that is malformed fits nothing.
pub fn matches(pattern: &str, name: &str) -> bool {
    let pattern: Vec<char> = pattern.chars().collect();
    let name: Vec<char> = name.chars().collect();
    let (mut p, mut n) = (0, 0);
    // Where to go on after the last star, should what follows it not fit.
    let mut retry: Option<(usize, usize)> = None;
    while n < name.len() {
        if pattern.get(p) == Some(&'*') {
            retry = Some((p + 1, n));
            p += 1;
        } else if let Some(next) = step(&pattern, p, name[n]) {
            p = next;
            n += 1;
        } else if let Some((after_star, from)) = retry.filter(|(_, from)| name[*from] != '/') {
            p = after_star;
            n = from + 1;
            retry = Some((after_star, from + 1));
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

/// Where the pattern goes on after `c` fitted its element at `p`.
fn step(pattern: &[char], p: usize, c: char) -> Option<usize> {
    match *pattern.get(p)? {
        '?' => (c != '/').then_some(p + 1),
        '[' => class(pattern, p + 1, c),
        '\\' => (*pattern.get(p + 1)? == c).then_some(p + 2),
        literal => (literal == c).then_some(p + 1),
    }
}

/// A class, from after its bracket.
fn class(pattern: &[char], mut p: usize, c: char) -> Option<usize> {
    let negated = pattern.get(p) == Some(&'^');
    p += usize::from(negated);
    let first = p;
    let mut found = false;
    loop {
        if *pattern.get(p)? == ']' && p > first {
            return (found != negated && c != '/').then_some(p + 1);
        }
        let (low, after) = class_character(pattern, p)?;
        p = after;
        let mut high = low;
        if pattern.get(p) == Some(&'-') {
            (high, p) = class_character(pattern, p + 1)?;
        }
        found |= (low..=high).contains(&c);
    }
}

fn class_character(pattern: &[char], p: usize) -> Option<(char, usize)> {
    match *pattern.get(p)? {
        '\\' => Some((*pattern.get(p + 1)?, p + 2)),
        '-' | ']' => None,
        c => Some((c, p + 1)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_fit_as_in_go() {
        for (pattern, name, want) in [
            ("*.yml", "a.yml", true),
            ("*.yml", "a.yaml", false),
            ("*", "", true),
            ("a*b*c", "aXbYbZc", true),
            ("a*b*c", "aXbYcZ", false),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("[a-c]x", "bx", true),
            ("[^a-c]x", "bx", false),
            ("[^a]x", "bx", true),
            ("[]a]", "]", false),
            ("[a", "a", false),
            ("\\*", "*", true),
            ("\\*", "a", false),
            ("*", "a/b", false),
            ("é*", "éa", true),
        ] {
            assert_eq!(matches(pattern, name), want, "{pattern} {name}");
        }
    }
}
