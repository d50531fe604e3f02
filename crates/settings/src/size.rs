//! Sizes with units.

/// Why a text is no size; `Display` is Prometheus' message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SizeError {
    /// The text is no number with a unit.
    #[error("units: invalid {0}")]
    Invalid(String),
    /// The number has no unit.
    #[error("units: missing unit: units: unknown unit  in {0}")]
    MissingUnit(String),
    /// The unit is none.
    #[error("units: unknown unit {unit} in {text}")]
    UnknownUnit {
        /// The unit as written.
        unit: String,
        /// The whole text.
        text: String,
    },
    /// Less than zero.
    #[error("units: invalid {0}: a size is not negative")]
    Negative(String),
}

impl SizeError {
    /// What to write instead.
    pub fn help(&self) -> String {
        let form = "write a number with its unit: 512KB, 32MB, 1GB (B, KB, MB, GB, TB, PB, EB; \
                    1KB = 1024 bytes)";
        match self {
            SizeError::MissingUnit(text) => format!("did you mean {text}B or {text}MB? {form}"),
            SizeError::UnknownUnit { unit, text } => {
                let upper = unit.trim().to_ascii_uppercase();
                let guess = UNITS.iter().find(|(name, _)| {
                    let name = name.to_ascii_uppercase();
                    name == upper || name == format!("{upper}B")
                });
                match guess {
                    Some((name, _)) => {
                        format!("did you mean {}? {form}", text.replace(unit.as_str(), name))
                    }
                    None => form.to_owned(),
                }
            }
            _ => form.to_owned(),
        }
    }
}

/// Units as `alecthomas/units` knows them: both spellings count by 1024.
const UNITS: [(&str, u64); 13] = [
    ("B", 1),
    ("KB", 1 << 10),
    ("MB", 1 << 20),
    ("GB", 1 << 30),
    ("TB", 1 << 40),
    ("PB", 1 << 50),
    ("EB", 1 << 60),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
    ("PiB", 1 << 50),
    ("EiB", 1 << 60),
];

/// Reads a size such as `32MB`, `1.5GiB` or `0`, in bytes (`units.ParseBase2Bytes`). Several
/// parts add up: `1GB512MB`.
///
/// # Errors
/// The text has no number, no unit or another one, or does not fit 63 bits.
pub fn parse_size(text: &str) -> Result<u64, SizeError> {
    if text == "0" {
        return Ok(0);
    }
    let invalid = || SizeError::Invalid(text.to_owned());
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    if rest.is_empty() {
        return Err(invalid());
    }
    if rest.starts_with('-') {
        return Err(SizeError::Negative(text.to_owned()));
    }
    let mut total = 0.0_f64;
    while !rest.is_empty() {
        let number_len = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, tail) = rest.split_at(number_len);
        let number: f64 = number.parse().map_err(|_| invalid())?;
        let unit_len = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit_len);
        if unit.is_empty() {
            return Err(SizeError::MissingUnit(text.to_owned()));
        }
        let (_, scale) = UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(|| {
            SizeError::UnknownUnit { unit: unit.to_owned(), text: text.to_owned() }
        })?;
        total += number * *scale as f64;
        rest = tail;
    }
    // 2^63: what a signed 64-bit number of bytes cannot hold.
    if total >= 9_223_372_036_854_775_808.0 { Err(invalid()) } else { Ok(total as u64) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_prometheus_reads() {
        for (text, bytes) in [
            ("0", 0),
            ("100B", 100),
            ("15MB", 15 << 20),
            ("1GB", 1 << 30),
            ("32MiB", 32 << 20),
            ("1.5KB", 1_536),
            ("1GB512MB", (1 << 30) + (512 << 20)),
        ] {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn refuses_the_rest_with_advice() {
        for (text, message, advice) in [
            ("100", "units: unknown unit  in 100", "100MB"),
            ("32mb", "unknown unit mb in 32mb", "did you mean 32MB?"),
            ("32M", "unknown unit M in 32M", "did you mean 32MB?"),
            ("32 MB", "unknown unit  MB in 32 MB", "did you mean 32MB?"),
            ("-1MB", "not negative", "write a number"),
            ("MB", "units: invalid MB", "write a number"),
            ("", "units: invalid", "write a number"),
            ("8EB", "units: invalid 8EB", "write a number"),
            ("1.2.3MB", "units: invalid", "write a number"),
        ] {
            let error = parse_size(text).expect_err(text);
            assert!(error.to_string().contains(message), "{error}");
            assert!(error.help().contains(advice), "{text}: {}", error.help());
        }
    }
}
