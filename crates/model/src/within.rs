//! What a place in a half-written query lies in: PromQL and LogQL have the same quotations and comments.
//!
//! Source: <https://prometheus.io/docs/prometheus/latest/querying/basics/>, "String literals" and "Comments".

/// What a place lies in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Within {
    /// What is neither.
    Text,
    /// A comment, which goes on to the end of its line.
    Comment,
    /// A quotation; the byte at which its mark stands.
    Quote(usize),
}

/// What the end of `text` lies in. A quotation in `"` or `'` that goes over the end of a line was not
/// closed, and ends there. Takes time in proportion to the text.
pub fn within(text: &str) -> Within {
    let mut within = Within::Text;
    let mut bytes = text.bytes().enumerate();
    while let Some((at, byte)) = bytes.next() {
        within = match (within, byte) {
            (Within::Text, b'"' | b'\'' | b'`') => Within::Quote(at),
            (Within::Text, b'#') => Within::Comment,
            (Within::Comment, b'\n') => Within::Text,
            (Within::Quote(start), mark) if mark == text.as_bytes()[start] => Within::Text,
            (Within::Quote(start), b'\n') if text.as_bytes()[start] != b'`' => Within::Text,
            (Within::Quote(start), b'\\') if text.as_bytes()[start] != b'`' => {
                bytes.next();
                Within::Quote(start)
            }
            (same, _) => same,
        };
    }
    within
}

/// The byte at which the mark stands that closes a quotation whose end is `text`; `None` if what
/// follows reads as if it was not closed: `{a="|, b="c"}`.
pub fn closing(text: &str, mark: char) -> Option<usize> {
    let mut chars = text.char_indices();
    let mut follows_equals = false;
    while let Some((at, c)) = chars.next() {
        match c {
            _ if c == mark => return (!follows_equals).then_some(at),
            '\n' if mark != '`' => return None,
            '\\' if mark != '`' => drop(chars.next()),
            _ => {}
        }
        follows_equals = matches!(c, '=' | '~');
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_text_lies_in_text_a_comment_or_a_quotation() {
        for (text, wanted) in [
            ("", Within::Text),
            (r#"{a="b"} "#, Within::Text),
            (r#"{a="b"#, Within::Quote(3)),
            (r#"{a="b\"c"#, Within::Quote(3)),
            (r#"{a="b\\""#, Within::Text),
            (r"{a=`b\`", Within::Text),
            ("{a=\"b\n", Within::Text),
            ("{a=`b\n", Within::Quote(3)),
            ("up # it's", Within::Comment),
            ("up # it's\n", Within::Text),
            (r#"'#' "#, Within::Text),
            ("\"\\", Within::Quote(0)),
        ] {
            assert_eq!(within(text), wanted, "{text}");
        }
    }

    #[test]
    fn a_quotation_is_closed_by_its_mark_unless_that_opens_the_next_one() {
        for (text, mark, wanted) in [
            (r#"b"}"#, '"', Some(1)),
            (r#"é"}"#, '"', Some(2)),
            (r#", b="c"}"#, '"', None),
            (r#"b\"c"}"#, '"', Some(4)),
            (r"b\`}", '`', Some(2)),
            ("b\n\"", '"', None),
            ("b\n`", '`', Some(2)),
            ("b", '"', None),
        ] {
            assert_eq!(closing(text, mark), wanted, "{text}");
        }
    }
}
