//! Addresses.

use super::FAILSAFE;

/// Whether an address has no scheme, or one of those that execute nothing.
fn is_safe(url: &str) -> bool {
    match url.split_once(':') {
        Some((scheme, _)) if !scheme.contains('/') => {
            ["http", "https", "mailto"].iter().any(|known| scheme.eq_ignore_ascii_case(known))
        }
        _ => true,
    }
}

/// The address, if it is safe.
pub(super) fn filtered(url: &str) -> String {
    if is_safe(url) { url.to_owned() } else { format!("#{FAILSAFE}") }
}

/// A text as a part of an address, or, `normalized`, as one that is written already.
pub(super) fn escaped(text: &str, normalized: bool) -> String {
    let bytes = text.as_bytes();
    let mut out = String::with_capacity(text.len());
    for (at, byte) in bytes.iter().enumerate() {
        let stays = match byte {
            b'!' | b'#' | b'$' | b'&' | b'*' | b'+' | b',' | b'/' | b':' | b';' | b'=' | b'?'
            | b'@' | b'[' | b']' => normalized,
            b'-' | b'.' | b'_' | b'~' => true,
            // What is encoded already stays so.
            b'%' => {
                let digits = bytes.get(at + 1..at + 3);
                normalized && digits.is_some_and(|d| d.iter().all(u8::is_ascii_hexdigit))
            }
            byte => byte.is_ascii_alphanumeric(),
        };
        if stays {
            out.push(char::from(*byte));
        } else {
            out.push_str(&format!("%{byte:02x}"));
        }
    }
    out
}

fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\u{c}' | '\r')
}

/// A list of images with sizes.
pub(super) fn source_set(text: &str) -> String {
    let images: Vec<String> = text.split(',').map(image).collect();
    images.join(",")
}

fn image(text: &str) -> String {
    let trimmed = text.trim_start_matches(is_blank);
    let start = text.len() - trimmed.len();
    let end = start + trimmed.find(is_blank).unwrap_or(trimmed.len());
    let url = &text[start..end];
    let plain = text[end..].chars().all(|c| is_blank(c) || c.is_ascii_alphanumeric());
    if is_safe(url) && plain {
        format!("{}{}{}", &text[..start], escaped(url, true), &text[end..])
    } else {
        format!("#{FAILSAFE}")
    }
}
