//! Sizes in bytes, as the Go library `humanize` reads and writes them.

use crate::pipeline::parse_bytes;

/// Letters of the powers of 1000.
const LETTERS: [&str; 7] = ["", "k", "M", "G", "T", "P", "E"];

/// Reads `20MB` (millions) or `20MiB` (powers of 1024). `None` if it is no size.
pub(crate) fn parse(text: &str) -> Option<u64> {
    parse_bytes(text).ok()
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
    let unit = 1_000_f64.powi(power as i32);
    let value = (bytes as f64 / unit * 10.0 + 0.5).floor() / 10.0;
    let letter = LETTERS[power];
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
