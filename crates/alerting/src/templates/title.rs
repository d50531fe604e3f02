//! `title`: the first letter of each word in upper case.
//!
//! Source: Unicode Standard Annex 29, "Word Boundaries", as far as Go's `golang.org/x/text/cases`
//! follows it: a comma ends a word also between digits, a dot between a digit and a letter does not.

/// What the rest of a word becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rest {
    /// It stays as it is: Prometheus' `title`.
    Kept,
    /// Lower case: Alertmanager's.
    Lower,
}

/// Whether a character, alone, does not end a word: `don't`, `a.b`.
fn is_mid(c: char) -> bool {
    matches!(
        c,
        '\'' | '.'
            | ':'
            | '\u{b7}'
            | '\u{387}'
            | '\u{55f}'
            | '\u{5f4}'
            | '\u{2018}'
            | '\u{2019}'
            | '\u{2024}'
            | '\u{2027}'
            | '\u{fe13}'
            | '\u{fe52}'
            | '\u{fe55}'
            | '\u{ff07}'
            | '\u{ff0e}'
            | '\u{ff1a}'
    )
}

/// Whether a character only changes others, or is not seen.
fn is_mark(c: char) -> bool {
    matches!(
        c,
        '\u{ad}'
            | '\u{300}'..='\u{36f}'
            | '\u{483}'..='\u{489}'
            | '\u{1ab0}'..='\u{1aff}'
            | '\u{1dc0}'..='\u{1dff}'
            | '\u{200c}'..='\u{200f}'
            | '\u{202a}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{20d0}'..='\u{20ff}'
            | '\u{fe00}'..='\u{fe0f}'
            | '\u{fe20}'..='\u{fe2f}'
            | '\u{feff}'
    )
}

/// Whether a character ends a word. Letters of scripts that write no blanks do.
fn is_break(c: char) -> bool {
    match c {
        '\u{e00}'..='\u{eff}'
        | '\u{1000}'..='\u{109f}'
        | '\u{1780}'..='\u{17ff}'
        | '\u{1950}'..='\u{19df}'
        | '\u{2e80}'..='\u{9fff}'
        | '\u{f900}'..='\u{faff}'
        | '\u{ff66}'..='\u{ff9d}'
        | '\u{20000}'..='\u{3ffff}' => c.is_alphabetic() || !c.is_numeric(),
        '_' | '\u{203f}' | '\u{2040}' | '\u{2054}' => false,
        c => !(c.is_alphanumeric() || is_mid(c) || is_mark(c)),
    }
}

fn is_cased(c: char) -> bool {
    c.is_uppercase() || c.is_lowercase() || matches!(c, 'ǅ' | 'ǈ' | 'ǋ' | 'ǲ')
}

pub(super) fn title(text: &str, rest: Rest) -> String {
    let mut out = String::with_capacity(text.len());
    let (mut in_word, mut after_mid) = (false, false);
    for (at, c) in text.char_indices() {
        let mid = is_mid(c);
        if mid && after_mid {
            in_word = false;
        }
        after_mid = mid;
        if !is_cased(c) {
            out.push(c);
            in_word &= !is_break(c);
        } else if !in_word {
            push_title(c, &mut out);
            in_word = true;
        } else if rest == Rest::Kept {
            out.push(c);
        } else if c == 'Σ' {
            // It looks different at the end of a word.
            let mut after = text[at + c.len_utf8()..].chars();
            let next = after.find(|c| !is_mid(*c) && !is_mark(*c));
            out.push(if next.is_some_and(is_cased) { 'σ' } else { 'ς' });
        } else {
            out.extend(c.to_lowercase());
        }
    }
    out
}

/// Of what becomes several letters, only the first is upper case.
fn push_title(c: char, out: &mut String) {
    // Two letters in one, of which only the first is raised, and one whose first is a mark.
    match c {
        'Ǆ'..='ǆ' => return out.push('ǅ'),
        'Ǉ'..='ǉ' => return out.push('ǈ'),
        'Ǌ'..='ǌ' => return out.push('ǋ'),
        'Ǳ'..='ǳ' => return out.push('ǲ'),
        'ŉ' => return out.push_str("ʼN"),
        _ => {}
    }
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

    const CASES: &[(&str, &str, &str)] = &[
        ("aa bb CC", "Aa Bb CC", "Aa Bb Cc"),
        ("foo-bar", "Foo-Bar", "Foo-Bar"),
        ("foo_bar baz", "Foo_bar Baz", "Foo_bar Baz"),
        ("foo.bar", "Foo.bar", "Foo.bar"),
        ("foo:bar", "Foo:bar", "Foo:bar"),
        ("don't stop", "Don't Stop", "Don't Stop"),
        ("it’s", "It’s", "It’s"),
        ("3com x3y", "3Com X3y", "3Com X3y"),
        ("3.5 a.5 a.b 5.a", "3.5 A.5 A.b 5.A", "3.5 A.5 A.b 5.A"),
        ("a,b 1,2", "A,B 1,2", "A,B 1,2"),
        ("ÀÉ îô", "ÀÉ Îô", "Àé Îô"),
        ("ß ǆ ŉx", "Ss ǅ ʼNx", "Ss ǅ ʼNx"),
        ("über cool", "Über Cool", "Über Cool"),
        ("x'y'z", "X'y'z", "X'y'z"),
        ("'quoted'", "'Quoted'", "'Quoted'"),
        ("foo/bar\\baz", "Foo/Bar\\Baz", "Foo/Bar\\Baz"),
        ("a1b2 C3d", "A1b2 C3d", "A1b2 C3d"),
        ("hello WORLD-Wide web", "Hello WORLD-Wide Web", "Hello World-Wide Web"),
        ("日本語 text", "日本語 Text", "日本語 Text"),
        ("ΑΣ ΣΑΣ", "ΑΣ ΣΑΣ", "Ας Σας"),
        ("e.g. this", "E.g. This", "E.g. This"),
        ("o'neil's", "O'neil's", "O'neil's"),
        ("__a _b", "__A _B", "__A _B"),
        ("a·b", "A·b", "A·b"),
        ("CAPS LOCK", "CAPS LOCK", "Caps Lock"),
        ("áb cd", "Áb Cd", "Áb Cd"),
        ("i.b.m.", "I.b.m.", "I.b.m."),
        ("1st 2ND", "1St 2ND", "1St 2Nd"),
        ("x:y:z", "X:y:z", "X:y:z"),
        ("a;b", "A;B", "A;B"),
        ("foo..bar", "Foo..Bar", "Foo..Bar"),
        ("a''b", "A''B", "A''B"),
        ("tab\tnew\nline", "Tab\tNew\nLine", "Tab\tNew\nLine"),
        ("ﬁx ﬀ", "Fix Ff", "Fix Ff"),
        ("ıI iİ", "II Iİ", "Ii Ii̇"),
        ("-a -B", "-A -B", "-A -B"),
    ];
}
