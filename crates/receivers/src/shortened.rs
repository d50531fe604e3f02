//! Texts that are too long for their receiver.

/// What shows that something is missing.
const MARK: char = '…';

/// At most `most` characters; the last one is `…` if some are missing, unless there is no room.
pub(crate) fn in_chars(text: String, most: usize) -> String {
    if text.len() <= most || text.chars().count() <= most {
        return text;
    }
    if most <= 3 {
        return text.chars().take(most).collect();
    }
    let mut cut: String = text.chars().take(most - 1).collect();
    cut.push(MARK);
    cut
}

/// At most `most` bytes, of which the last three are `…` if some are missing.
pub(crate) fn in_bytes(text: String, most: usize) -> String {
    if text.len() <= most {
        return text;
    }
    let Some(room) = most.checked_sub(MARK.len_utf8()) else { return ".".repeat(most) };
    let mut cut = text;
    cut.truncate(cut.floor_char_boundary(room));
    cut.push(MARK);
    cut
}

/// The text, cut so that what is made of it has at most `limit` bytes; empty if nothing fits.
/// `size` says how large that is, at least a byte for each of the text.
pub(crate) fn to_fit(text: String, limit: usize, size: impl Fn(&str) -> usize) -> String {
    let excess = size(&text).saturating_sub(limit);
    if excess == 0 {
        return text;
    }
    match text.len().checked_sub(excess) {
        Some(room) if room > MARK.len_utf8() => in_bytes(text, room),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_holds_and_is_shown() {
        assert_eq!(in_chars("äöü€x".to_owned(), 5), "äöü€x");
        assert_eq!(in_chars("äöü€x".to_owned(), 4), "äöü…");
        assert_eq!(in_chars("äöü€x".to_owned(), 3), "äöü");
        assert_eq!(in_bytes("äöü".to_owned(), 6), "äöü");
        assert_eq!(in_bytes("äöü€".to_owned(), 6), "ä…");
        assert_eq!(in_bytes("äöü€".to_owned(), 3), "…");
        assert_eq!(in_bytes("äöü€".to_owned(), 2), "..");
    }

    proptest::proptest! {
        #[test]
        fn nothing_is_longer(text in ".*", most in 0usize..40) {
            let chars = in_chars(text.clone(), most).chars().count();
            proptest::prop_assert!(chars <= most || chars == text.chars().count());
            proptest::prop_assert!(in_bytes(text, most).len() <= most);
        }

        #[test]
        fn what_is_cut_fits(text in ".*", limit in 20usize..200) {
            let json = |text: &str| serde_json::json!({"text": text}).to_string().len();
            proptest::prop_assert!(json(&to_fit(text, limit, json)) <= limit);
        }
    }
}
