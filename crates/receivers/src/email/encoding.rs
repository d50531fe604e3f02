//! Quoted-printable bodies and headers that are not ASCII (RFC 2045, section 6.7; RFC 2047).

/// Longest line of a body that is encoded, without its end.
const MAX_LINE_BYTES: usize = 76;

/// Longest encoded word.
const MAX_WORD_BYTES: usize = 75;

/// A header is folded before its lines are longer; 998 is what may be (RFC 5322, section 2.1.1).
const FOLD_BYTES: usize = 900;

/// Appends a body in quoted-printable: lines end with CRLF, none is longer than 76 bytes, and it
/// ends as the text does.
pub(super) fn quoted_printable(text: &str, out: &mut Vec<u8>) {
    let mut lines = text.split('\n').peekable();
    while let Some(line) = lines.next() {
        let is_last = lines.peek().is_none();
        let line = if is_last { line } else { line.strip_suffix('\r').unwrap_or(line) };
        quoted_line(line.as_bytes(), out);
        if !is_last {
            out.extend_from_slice(b"\r\n");
        }
    }
}

fn quoted_line(line: &[u8], out: &mut Vec<u8>) {
    let mut used = 0;
    for (at, &byte) in line.iter().enumerate() {
        let is_last = at + 1 == line.len();
        let is_plain = match byte {
            b' ' | b'\t' => !is_last,
            b'=' => false,
            byte => byte.is_ascii_graphic(),
        };
        let width = if is_plain { 1 } else { 3 };
        // A soft break needs a place for its own mark, unless the line ends here.
        if used + width > MAX_LINE_BYTES - usize::from(!is_last) {
            out.extend_from_slice(b"=\r\n");
            used = 0;
        }
        if is_plain {
            out.push(byte);
        } else {
            out.extend_from_slice(format!("={byte:02X}").as_bytes());
        }
        used += width;
    }
}

/// The value of a header: as it is if it is ASCII, else as encoded words. Line breaks in it do not
/// begin new headers.
pub(super) fn header_value(text: &str) -> String {
    if text.chars().all(|c| c == '\t' || c == ' ' || c.is_ascii_graphic()) {
        return folded(text);
    }
    const OPEN: &str = "=?utf-8?q?";
    const CLOSE: &str = "?=";
    let mut out = String::from(OPEN);
    let mut used = OPEN.len() + CLOSE.len();
    let mut encoded = String::new();
    for c in text.chars() {
        encoded.clear();
        let mut bytes = [0; 4];
        for byte in c.encode_utf8(&mut bytes).bytes() {
            match byte {
                b' ' => encoded.push('_'),
                b'=' | b'?' | b'_' => encoded.push_str(&format!("={byte:02X}")),
                byte if byte.is_ascii_graphic() => encoded.push(char::from(byte)),
                byte => encoded.push_str(&format!("={byte:02X}")),
            }
        }
        // A character stands in one word; between words there is nothing but the line break.
        if used + encoded.len() > MAX_WORD_BYTES {
            out.push_str(CLOSE);
            out.push_str("\r\n ");
            out.push_str(OPEN);
            used = OPEN.len() + CLOSE.len();
        }
        out.push_str(&encoded);
        used += encoded.len();
    }
    out.push_str(CLOSE);
    out
}

/// A long value on several lines, broken at spaces; a word that is too long itself is broken too.
fn folded(text: &str) -> String {
    if text.len() <= FOLD_BYTES {
        return text.to_owned();
    }
    let mut out = String::with_capacity(text.len() + text.len() / FOLD_BYTES * 3);
    let mut rest = text;
    while rest.len() > FOLD_BYTES {
        let at = rest[..FOLD_BYTES].rfind(' ').filter(|at| *at > 0).unwrap_or(FOLD_BYTES);
        let (line, more) = rest.split_at(at);
        out.push_str(line);
        out.push_str("\r\n ");
        rest = more.strip_prefix(' ').unwrap_or(more);
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quoted(text: &str) -> String {
        let mut out = Vec::new();
        quoted_printable(text, &mut out);
        String::from_utf8(out).expect("ASCII")
    }

    #[test]
    fn bodies() {
        assert_eq!(quoted("a = b\nc \r\nä\t"), "a =3D b\r\nc=20\r\n=C3=A4=09");
        assert_eq!(quoted("x\n"), "x\r\n");
        assert_eq!(quoted(&"x".repeat(76)), "x".repeat(76));
        assert_eq!(quoted(&"x".repeat(77)), format!("{}=\r\nxx", "x".repeat(75)));
    }

    #[test]
    fn headers() {
        assert_eq!(header_value("[FIRING:1] Down"), "[FIRING:1] Down");
        assert_eq!(header_value("für _alle_"), "=?utf-8?q?f=C3=BCr_=5Falle=5F?=");
        assert_eq!(header_value("a\r\nBcc: b"), "=?utf-8?q?a=0D=0ABcc:_b?=");
        for line in header_value(&"ä€".repeat(50)).split("\r\n ") {
            assert!(line.len() <= MAX_WORD_BYTES && line.starts_with("=?utf-8?q?"), "{line}");
        }
        let long = vec!["a@example.org,"; 200].join(" ");
        let value = header_value(&long);
        assert!(value.split("\r\n").all(|line| line.len() <= 998));
        assert_eq!(value.replace("\r\n ", " "), long);
    }

    proptest::proptest! {
        #[test]
        fn what_is_encoded_is_decoded_to_the_same(text in "[a-c=äё€ \t\n]{0,300}") {
            let encoded = quoted(&text);
            let mut bytes = Vec::new();
            for (n, line) in encoded.split("\r\n").enumerate() {
                proptest::prop_assert!(line.len() <= MAX_LINE_BYTES);
                if n > 0 && bytes.last() == Some(&b'=') { bytes.pop(); } else if n > 0 { bytes.push(b'\n'); }
                bytes.extend_from_slice(line.as_bytes());
            }
            let mut decoded = Vec::new();
            let mut at = 0;
            while at < bytes.len() {
                if bytes[at] == b'=' {
                    let digits = std::str::from_utf8(&bytes[at + 1..at + 3]).expect("digits");
                    decoded.push(u8::from_str_radix(digits, 16).expect("hexadecimal"));
                    at += 3;
                } else {
                    decoded.push(bytes[at]);
                    at += 1;
                }
            }
            proptest::prop_assert_eq!(String::from_utf8(decoded).expect("UTF-8"), text);
        }
    }
}
