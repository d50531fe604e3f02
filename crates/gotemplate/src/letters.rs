//! Upper and lower case as Go's `strings` has it: each character becomes one.

/// As `strings.ToLower`.
pub fn lower(text: &str) -> String {
    if text.is_ascii() {
        return text.to_ascii_lowercase();
    }
    // Go maps each character to one, without regard to its neighbours.
    text.chars().map(|c| single(c, c.to_lowercase())).collect()
}

/// As `strings.ToUpper`.
pub fn upper(text: &str) -> String {
    if text.is_ascii() {
        return text.to_ascii_uppercase();
    }
    text.chars().map(|c| single(c, c.to_uppercase())).collect()
}

/// The one character `mapped` has, or `c` itself.
fn single(c: char, mut mapped: impl Iterator<Item = char>) -> char {
    match (mapped.next(), mapped.next()) {
        (Some(one), None) => one,
        _ => c,
    }
}

/// As `strings.Title`: what begins a word becomes upper case.
pub fn title(text: &str) -> String {
    let mut before = ' ';
    let raised = text.chars().map(|c| {
        let starts = is_separator(before);
        before = c;
        if starts { single(c, c.to_uppercase()) } else { c }
    });
    raised.collect()
}

/// Letters, digits and underscores do not separate, beyond ASCII only blanks do.
fn is_separator(c: char) -> bool {
    if c.is_ascii() {
        return !(c.is_ascii_alphanumeric() || c == '_');
    }
    !c.is_alphanumeric() && c.is_whitespace()
}
