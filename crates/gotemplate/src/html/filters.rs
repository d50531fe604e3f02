//! Values in text and attributes.

use super::attributes::{Content, content_of};
use super::{FAILSAFE, tags};

/// What is escaped besides the marks of HTML.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Extent {
    /// Nothing.
    Marks,
    /// What ends the value of an attribute without quotes.
    Unquoted,
}

/// A text with what means something to HTML escaped; `&` only if it does not begin an entity that
/// is meant, `is_html`.
pub(super) fn escaped(text: &str, extent: Extent, is_html: bool) -> String {
    let unquoted = extent == Extent::Unquoted;
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\0' if unquoted => out.push_str("&#xfffd;"),
            '\0' => out.push(char::REPLACEMENT_CHARACTER),
            '"' => out.push_str("&#34;"),
            '&' if !is_html => out.push_str("&amp;"),
            '\'' => out.push_str("&#39;"),
            '+' => out.push_str("&#43;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '\t' | '\n' | '\u{b}' | '\u{c}' | '\r' | ' ' | '=' | '`' if unquoted => {
                out.push_str(&format!("&#{};", c as u32));
            }
            '\u{fdd0}'..='\u{fdef}' | '\u{fff0}'..='\u{ffff}' if unquoted => {
                out.push_str(&format!("&#x{:x};", c as u32));
            }
            c => out.push(c),
        }
    }
    out
}

/// A value of an attribute between quotes.
pub(super) fn attribute(text: &str, is_html: bool) -> String {
    if is_html {
        return escaped(&tags::stripped(text), Extent::Marks, true);
    }
    escaped(text, Extent::Marks, false)
}

/// A value of an attribute without quotes.
pub(super) fn unquoted(text: &str, is_html: bool) -> String {
    if text.is_empty() {
        return FAILSAFE.to_owned();
    }
    if is_html {
        return escaped(&tags::stripped(text), Extent::Unquoted, true);
    }
    escaped(text, Extent::Unquoted, false)
}

/// A name of a tag or attribute, if it is a harmless one.
pub(super) fn name(text: &str) -> String {
    let name = text.to_lowercase();
    let harmless = !name.is_empty()
        && content_of(&name) == Content::Plain
        && name.bytes().all(|byte| byte.is_ascii_digit() || byte.is_ascii_lowercase());
    if harmless { name } else { FAILSAFE.to_owned() }
}
