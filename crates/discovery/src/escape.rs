//! Parts of URLs as Go escapes them.

use std::fmt::Write as _;

/// Appends `text` with everything escaped but letters, digits, `-_.~` and the bytes of `also`.
pub fn escape(text: &str, also: &[u8], out: &mut String) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) || also.contains(&byte) {
            out.push(char::from(byte));
        } else {
            write!(out, "%{byte:02X}").expect("a String takes every text");
        }
    }
}

/// Appends a path, as `URL.String` writes it.
pub fn escape_path(path: &str, out: &mut String) {
    escape(path, b"$&+,/:;=@", out);
}
