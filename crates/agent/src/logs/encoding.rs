//! How the bytes of a file are lines, and lines are UTF-8.

use std::borrow::Cow;

/// How a file is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Encoding {
    /// UTF-8, or any bytes in which a line ends with the byte 10. A mark of UTF-16 at the beginning says
    /// that it is that.
    #[default]
    Utf8,
    /// UTF-16, the lower byte first.
    Utf16Le,
    /// UTF-16, the higher byte first.
    Utf16Be,
    /// ISO 8859-1.
    Latin1,
}

impl Encoding {
    /// By its name in a configuration.
    ///
    /// # Errors
    /// In words: the names there are.
    pub fn named(name: &str) -> Result<Encoding, String> {
        match name.to_ascii_lowercase().as_str() {
            "utf-8" | "utf8" => Ok(Encoding::Utf8),
            "utf-16le" | "utf-16" => Ok(Encoding::Utf16Le),
            "utf-16be" => Ok(Encoding::Utf16Be),
            "iso-8859-1" | "latin1" => Ok(Encoding::Latin1),
            _ => Err(format!(
                "{name:?} is no encoding; utf-8, utf-16le, utf-16be and iso-8859-1 are"
            )),
        }
    }

    /// What the first bytes of a file say.
    pub(crate) fn seen_in(self, head: &[u8]) -> Encoding {
        match head {
            [0xff, 0xfe, ..] => Encoding::Utf16Le,
            [0xfe, 0xff, ..] => Encoding::Utf16Be,
            _ => self,
        }
    }

    /// Bytes of one unit.
    pub(crate) fn unit(self) -> usize {
        if matches!(self, Encoding::Utf16Le | Encoding::Utf16Be) { 2 } else { 1 }
    }

    /// Length of the first line with its end, if it has one. `bytes` begin with a unit.
    pub(crate) fn line_len(self, bytes: &[u8]) -> Option<usize> {
        let wanted = match self {
            Encoding::Utf8 | Encoding::Latin1 => {
                return memchr::memchr(b'\n', bytes).map(|at| at + 1);
            }
            Encoding::Utf16Le => [b'\n', 0],
            Encoding::Utf16Be => [0, b'\n'],
        };
        let units = bytes.as_chunks::<2>().0;
        units.iter().position(|unit| *unit == wanted).map(|at| 2 * at + 2)
    }

    /// A line as UTF-8, without its end, a byte order mark, and zeros before it, which are what
    /// truncating a file leaves below a writer that does not append.
    pub(crate) fn line(self, bytes: &[u8]) -> Cow<'_, [u8]> {
        let text = match self {
            Encoding::Utf8 => Cow::Borrowed(bytes),
            Encoding::Latin1 => {
                let text: String = bytes.iter().map(|byte| char::from(*byte)).collect();
                Cow::Owned(text.into_bytes())
            }
            Encoding::Utf16Le | Encoding::Utf16Be => {
                let unit = |unit: &[u8; 2]| match self {
                    Encoding::Utf16Be => u16::from_be_bytes(*unit),
                    _ => u16::from_le_bytes(*unit),
                };
                let units = bytes.as_chunks::<2>().0.iter().map(unit);
                let text = char::decode_utf16(units).map(|char| char.unwrap_or('\u{fffd}'));
                Cow::Owned(text.collect::<String>().into_bytes())
            }
        };
        match text {
            Cow::Borrowed(text) => Cow::Borrowed(trimmed(text)),
            Cow::Owned(text) => Cow::Owned(trimmed(&text).to_vec()),
        }
    }
}

fn trimmed(mut text: &[u8]) -> &[u8] {
    text = text.strip_suffix(b"\n").unwrap_or(text);
    text = text.strip_suffix(b"\r").unwrap_or(text);
    while let Some(rest) = text.strip_prefix(b"\0") {
        text = rest;
    }
    text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_all_encodings_are_the_same() {
        let text = "é 1\r\n🚀 2\nrest";
        let utf16 = |bytes: fn(u16) -> [u8; 2]| -> Vec<u8> {
            text.encode_utf16().flat_map(bytes).collect()
        };
        for (encoding, bytes, wanted) in [
            (Encoding::Utf8, text.as_bytes().to_vec(), ["é 1", "🚀 2"]),
            (Encoding::Utf16Le, utf16(u16::to_le_bytes), ["é 1", "🚀 2"]),
            (Encoding::Utf16Be, utf16(u16::to_be_bytes), ["é 1", "🚀 2"]),
            (Encoding::Latin1, b"\xe9 1\n\0\0x\nrest".to_vec(), ["é 1", "x"]),
        ] {
            let (mut rest, mut lines) = (&bytes[..], Vec::new());
            while let Some(len) = encoding.line_len(rest) {
                let line = encoding.line(&rest[..len]).into_owned();
                lines.push(String::from_utf8(line).expect("UTF-8"));
                rest = &rest[len..];
            }
            assert_eq!(lines, wanted, "{encoding:?}");
            assert_eq!(&*encoding.line(rest), b"rest", "{encoding:?}");
        }
        assert_eq!(Encoding::Utf8.seen_in(b"\xff\xfea\0"), Encoding::Utf16Le);
        assert_eq!(&*Encoding::Utf16Le.line(b"\xff\xfea\0\n\0"), b"a");
    }
}
