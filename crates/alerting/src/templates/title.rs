//! `title`: the first letter of each word in upper case.
//!
//! Source: Unicode Standard Annex 29, "Word Boundaries", as far as Go's `golang.org/x/text/cases`
//! follows it.

/// What the rest of a word becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rest {
    /// It stays as it is: Prometheus' `title`.
    Kept,
    /// Lower case: Alertmanager's.
    Lower,
}

/// How a character joins words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    Letter,
    Digit,
    /// It belongs to any word beside it, as `_` does.
    Joint,
    /// It belongs to a word if it stands between two letters.
    MidLetter,
    /// The same between two digits.
    MidDigit,
    /// The same between two of either.
    MidEither,
    /// It never counts: marks over letters, and what only directs.
    Mark,
    Other,
}

fn class(c: char) -> Class {
    match c {
        '_' | '\u{203f}' | '\u{2040}' | '\u{2054}' => Class::Joint,
        '\'' | '.' | '\u{2018}' | '\u{2019}' | '\u{2024}' => Class::MidEither,
        ':' | '\u{b7}' | '\u{387}' | '\u{2027}' => Class::MidLetter,
        ',' | ';' | '\u{37e}' | '\u{589}' => Class::MidDigit,
        '\u{300}'..='\u{36f}' | '\u{ad}' | '\u{200d}' | '\u{fe0e}' | '\u{fe0f}' => Class::Mark,
        // Each of these is a word.
        '\u{2e80}'..='\u{9fff}' | '\u{f900}'..='\u{faff}' | '\u{20000}'..='\u{3ffff}' => {
            Class::Other
        }
        c if c.is_alphabetic() => Class::Letter,
        c if c.is_numeric() => Class::Digit,
        _ => Class::Other,
    }
}

fn is_cased(c: char) -> bool {
    c.is_uppercase() || c.is_lowercase()
}

pub(super) fn title(text: &str, rest: Rest) -> String {
    let mut out = String::with_capacity(text.len());
    // The class of the last character of the word at hand, and whether one of it was raised.
    let mut last = Class::Other;
    let mut raised = false;
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        let class = class(c);
        let joins = match class {
            Class::Letter | Class::Digit | Class::Joint => {
                matches!(last, Class::Letter | Class::Digit | Class::Joint)
            }
            Class::Mark => {
                out.push(c);
                continue;
            }
            Class::MidLetter | Class::MidEither | Class::MidDigit => {
                let next = chars.peek().map_or(Class::Other, |next| self::class(*next));
                let letters = last == Class::Letter && next == Class::Letter;
                let digits = last == Class::Digit && next == Class::Digit;
                let inside = match class {
                    Class::MidLetter => letters,
                    Class::MidDigit => digits,
                    _ => letters || digits,
                };
                out.push(c);
                if !inside {
                    (last, raised) = (Class::Other, false);
                }
                continue;
            }
            Class::Other => false,
        };
        if !joins {
            raised = false;
        }
        last = class;
        if !is_cased(c) {
            out.push(c);
        } else if !raised {
            raised = true;
            push_title(c, &mut out);
        } else if rest == Rest::Lower {
            out.extend(c.to_lowercase());
        } else {
            out.push(c);
        }
    }
    out
}

/// Of what becomes several letters, only the first is upper case.
fn push_title(c: char, out: &mut String) {
    let mut upper = c.to_uppercase();
    out.extend(upper.next());
    for more in upper {
        out.extend(more.to_lowercase());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is expected was printed by Go's `golang.org/x/text/cases`.
    #[test]
    fn words_begin_with_upper_case() {
        for (text, kept, lower) in CASES {
            assert_eq!(title(text, Rest::Kept), *kept);
            assert_eq!(title(text, Rest::Lower), *lower);
        }
    }

    const CASES: &[(&str, &str, &str)] = &[("aa bb CC", "Aa Bb CC", "Aa Bb Cc")];
}
