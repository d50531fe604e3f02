//! What a scalar means, by the rules Prometheus' YAML library has (yaml.v2: mostly YAML 1.1).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// One scalar.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Scalar {
    text: String,
    /// Neither quoted nor tagged, so that its text decides its type.
    plain: bool,
    /// The standard tag, without `!!`.
    tag: Option<&'static str>,
    /// Whether it is a `!!binary` whose bytes are no UTF-8; `text` then shows them as Go does.
    invalid: bool,
}

impl Scalar {
    /// Takes a scalar; the text of a `binary` one is base64.
    ///
    /// # Errors
    /// The text is no base64, in yaml.v2's words.
    pub(super) fn new(
        text: String,
        plain: bool,
        tag: Option<&'static str>,
        binary: bool,
    ) -> Result<Self, &'static str> {
        if !binary {
            return Ok(Scalar { text, plain, tag, invalid: false });
        }
        let symbols: Vec<u8> = text.bytes().filter(|b| !matches!(b, b'\n' | b'\r')).collect();
        let bytes = STANDARD
            .decode(symbols)
            .map_err(|_| "yaml: !!binary value contains invalid base64 data")?;
        Ok(match String::from_utf8(bytes) {
            Ok(text) => Scalar { text, plain, tag, invalid: false },
            Err(error) => Scalar { text: quote_bytes(error.as_bytes()), plain, tag, invalid: true },
        })
    }

    /// A scalar that does not come from YAML: a text, or, if it is plain, what the text spells.
    pub(crate) fn of_text(text: String, plain: bool) -> Self {
        Scalar { text, plain, tag: None, invalid: false }
    }

    /// The text; of bytes that are no UTF-8, how Go's `%q` shows them.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// What stands for `text` in the place of this scalar, behind the same tag, in one line.
    pub(crate) fn replaced_by(&self, text: &str) -> String {
        if self.tag == Some("binary") {
            return STANDARD.encode(text);
        }
        // JSON's strings are YAML's, but YAML wants more of what cannot be printed escaped.
        let mut out = String::with_capacity(text.len() + 2);
        for c in serde_json::Value::from(text).to_string().chars() {
            match c {
                '\u{7f}'..='\u{9f}'
                | '\u{2028}'
                | '\u{2029}'
                | '\u{feff}'
                | '\u{fffe}'
                | '\u{ffff}' => {
                    out.push_str(&format!("\\u{:04x}", u32::from(c)));
                }
                _ => out.push(c),
            }
        }
        out
    }

    /// Whether the scalar holds bytes that are no UTF-8.
    pub(crate) fn is_invalid_utf8(&self) -> bool {
        self.invalid
    }

    /// Whether it stands for nothing.
    pub(crate) fn is_null(&self) -> bool {
        match self.tag {
            Some(tag) => tag == "null",
            None => self.plain && matches!(self.text.as_str(), "" | "~" | "null" | "Null" | "NULL"),
        }
    }

    /// Whether it is one of YAML 1.1's many words for true and false.
    pub(crate) fn boolean(&self) -> Option<bool> {
        if !self.may_be("bool") {
            return None;
        }
        match self.text.as_str() {
            "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => {
                Some(true)
            }
            "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off"
            | "OFF" => Some(false),
            _ => None,
        }
    }

    /// The integer, if it is one: decimal, `0x`, `0o`, `0b` or with a leading zero octal;
    /// underscores are separators. Decimal notation such as `1e3` counts if it is whole.
    pub(crate) fn integer(&self) -> Option<i128> {
        if !self.may_be("int") {
            return None;
        }
        let text = self.text.replace('_', "");
        let (negative, digits) = match text.strip_prefix('-') {
            Some(digits) => (true, digits),
            None => (false, text.strip_prefix('+').unwrap_or(&text)),
        };
        let (digits, radix) = match digits.as_bytes() {
            [b'0', b'x' | b'X', ..] => (&digits[2..], 16),
            [b'0', b'o' | b'O', ..] => (&digits[2..], 8),
            [b'0', b'b' | b'B', ..] => (&digits[2..], 2),
            [b'0', _, ..] if digits.bytes().all(|b| b.is_ascii_digit()) => (&digits[1..], 8),
            _ => (digits, 10),
        };
        let magnitude = if digits.bytes().all(|b| b.is_ascii_alphanumeric()) {
            i128::from_str_radix(digits, radix).ok()
        } else {
            None
        };
        let magnitude = magnitude.or_else(|| {
            let float = self.float().map(f64::abs)?;
            // 2^64 bounds every integer a configuration may hold.
            (float.fract() == 0.0 && float < 18_446_744_073_709_551_616.0).then_some(float as i128)
        })?;
        Some(if negative { -magnitude } else { magnitude })
    }

    /// The number, if it is one.
    pub(crate) fn float(&self) -> Option<f64> {
        if !self.may_be("float") {
            return None;
        }
        match self.text.as_str() {
            ".nan" | ".NaN" | ".NAN" => Some(f64::NAN),
            ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => Some(f64::INFINITY),
            "-.inf" | "-.Inf" | "-.INF" => Some(f64::NEG_INFINITY),
            text => {
                let text = text.replace('_', "");
                let number = text
                    .bytes()
                    .all(|b| matches!(b, b'0'..=b'9' | b'.' | b'+' | b'-' | b'e' | b'E'));
                number.then(|| text.parse().ok()).flatten()
            }
        }
    }

    /// The tag yaml.v2 would name.
    pub(crate) fn tag(&self) -> &'static str {
        match self.tag {
            Some("binary") => "!!binary",
            Some("str") => "!!str",
            _ if self.is_null() => "!!null",
            _ if self.boolean().is_some() => "!!bool",
            _ if self.integer().is_some() => "!!int",
            _ if self.float().is_some() => "!!float",
            _ => "!!str",
        }
    }

    fn may_be(&self, tag: &str) -> bool {
        match self.tag {
            Some(given) => given == tag || (tag == "float" && given == "int"),
            None => self.plain,
        }
    }
}

/// Go's `%q` of bytes that are no UTF-8, without the quotes.
fn quote_bytes(bytes: &[u8]) -> String {
    let mut out = String::new();
    for chunk in bytes.utf8_chunks() {
        out.extend(chunk.valid().chars().flat_map(char::escape_debug));
        for byte in chunk.invalid() {
            out.push_str(&format!("\\x{byte:02x}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(text: &str) -> Scalar {
        Scalar::new(text.to_owned(), true, None, false).expect("plain text")
    }

    #[test]
    fn plain_text_has_the_type_it_has_in_go() {
        for (text, tag) in [
            ("", "!!null"),
            ("~", "!!null"),
            ("yes", "!!bool"),
            ("Off", "!!bool"),
            ("12", "!!int"),
            ("1_000", "!!int"),
            ("1.5", "!!float"),
            (".inf", "!!float"),
            ("15s", "!!str"),
            ("infinity", "!!str"),
            ("nan", "!!str"),
        ] {
            assert_eq!(plain(text).tag(), tag, "{text}");
        }
        assert_eq!(plain("0x1F").integer(), Some(31));
        assert_eq!(plain("010").integer(), Some(8));
        assert_eq!(plain("-0b11").integer(), Some(-3));
        assert_eq!(plain("1e3").integer(), Some(1_000));
        assert_eq!(plain("1.5").integer(), None);
        assert_eq!(plain("18446744073709551615").integer(), Some(u64::MAX.into()));
        assert_eq!(plain("1e300").integer(), None);
        let quoted = Scalar::new("12".to_owned(), false, None, false).expect("text");
        assert_eq!((quoted.integer(), quoted.tag()), (None, "!!str"));
    }

    #[test]
    fn binary_is_decoded() {
        let binary = |text: &str| Scalar::new(text.to_owned(), true, Some("binary"), true);
        assert_eq!(binary("Zm9v\nYg==").expect("base64").text(), "foob");
        for bad in ["/w==$1", "Zg", "Zg==Zg==", "====", "Zm9\u{e9}"] {
            binary(bad).expect_err(bad);
        }
        let invalid = binary("/w==").expect("base64");
        assert!(invalid.is_invalid_utf8());
        assert_eq!(invalid.text(), "\\xff");
    }
}
