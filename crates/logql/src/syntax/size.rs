//! Sizes in bytes, as the Go library `humanize` reads and writes them.

/// Units from the smallest: the letter, 1000 and 1024 to its power.
const UNITS: [(&str, u64, u64); 7] = [
    ("", 1, 1),
    ("k", 1_000, 1 << 10),
    ("m", 1_000_000, 1 << 20),
    ("g", 1_000_000_000, 1 << 30),
    ("t", 1_000_000_000_000, 1 << 40),
    ("p", 1_000_000_000_000_000, 1 << 50),
    ("e", 1_000_000_000_000_000_000, 1 << 60),
];

/// Reads `20MB` (millions) or `20MiB` (powers of 1024). `None` if it is no size.
pub(crate) fn parse(text: &str) -> Option<u64> {
    let length =
        text.find(|c: char| !(c.is_ascii_digit() || c == '.' || c == ',')).unwrap_or(text.len());
    let (number, unit) = text.split_at(length);
    let number: f64 = number.replace(',', "").parse().ok()?;
    let unit = unit.trim().to_ascii_lowercase();
    let factor = UNITS.iter().find_map(|&(letter, thousand, binary)| {
        let rest = unit.strip_prefix(letter)?;
        match rest {
            "b" | "" => Some(thousand),
            "ib" | "i" if !letter.is_empty() => Some(binary),
            _ => None,
        }
    })?;
    let bytes = number * factor as f64;
    (bytes < u64::MAX as f64).then_some(bytes as u64)
}

/// Writes a size so that reading it yields it again: `10GB` where that is exact, else all digits.
pub(crate) fn format(bytes: u64) -> String {
    let rounded = rounded(bytes);
    if parse(&rounded) == Some(bytes) { rounded } else { format!("{bytes}B") }
}

/// Two or three leading digits and a unit.
fn rounded(bytes: u64) -> String {
    if bytes < 10 {
        return format!("{bytes}B");
    }
    let power = (bytes.ilog10() / 3) as usize;
    let value = (bytes as f64 / UNITS[power].1 as f64 * 10.0 + 0.5).floor() / 10.0;
    let letter = match UNITS[power].0 {
        "k" => "k".to_owned(),
        letter => letter.to_ascii_uppercase(),
    };
    if value < 10.0 { format!("{value:.1}{letter}B") } else { format!("{value:.0}{letter}B") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_sizes() {
        for (text, bytes) in [
            ("0B", 0),
            ("250kB", 250_000),
            ("200MiB", 200 << 20),
            ("123PiB", 123 << 50),
            ("1.5KB", 1_500),
            ("1,000", 1_000),
            ("10 MB", 10_000_000),
        ] {
            assert_eq!(parse(text), Some(bytes), "{text}");
        }
        for text in ["", "MB", "5xB", "1.2.3B", "99999999999EB", "1iB"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn writes_no_size_that_reads_back_as_another() {
        for (bytes, text) in [
            (0, "0B"),
            (10_000_000_000, "10GB"),
            (250_000, "250kB"),
            (1_500, "1.5kB"),
            (1_234_567, "1234567B"),
            (200 << 20, "209715200B"),
            (u64::MAX >> 12, "4503599627370495B"),
        ] {
            assert_eq!(format(bytes), text);
            assert_eq!(parse(text), Some(bytes));
        }
    }
}
