//! Tables for a terminal and for Markdown alike.

/// Rows of equal length under a header.
#[derive(Debug)]
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new<const N: usize>(header: [&str; N]) -> Self {
        Table { rows: vec![header.map(str::to_owned).to_vec()] }
    }

    /// # Panics
    /// If the row is not as long as the header.
    pub(crate) fn push(&mut self, row: Vec<String>) {
        assert_eq!(row.len(), self.rows[0].len(), "a row is as long as the header");
        self.rows.push(row);
    }

    /// Aligned Markdown: the first column to the left, figures to the right.
    pub(crate) fn render(&self) -> String {
        let columns = self.rows[0].len();
        let width = |column: usize| {
            self.rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let mut out = String::new();
        for (number, row) in self.rows.iter().enumerate() {
            for (column, (cell, &width)) in row.iter().zip(&widths).enumerate() {
                if column == 0 {
                    out.push_str(&format!("| {cell:<width$} |"));
                } else {
                    out.push_str(&format!(" {cell:>width$} |"));
                }
            }
            out.push('\n');
            if number == 0 {
                for (column, width) in widths.iter().enumerate() {
                    let (open, close) = if column == 0 { ("|", "|") } else { ("", ":|") };
                    let dashes = width + 2 - (close.len() - 1);
                    out.push_str(&format!("{open}{}{close}", "-".repeat(dashes)));
                }
                out.push('\n');
            }
        }
        out
    }
}

/// `1234567` as `1,234,567`.
pub(crate) fn grouped(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut out = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place) % 3 == 0 {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// Bytes as megabytes of 10^6.
pub(crate) fn megabytes(bytes: u64) -> String {
    format!("{:.1}", bytes as f64 / 1e6)
}

/// `value` in multiples of `reference`; `-` where there is none.
pub(crate) fn ratio(value: f64, reference: Option<f64>) -> String {
    match reference {
        Some(reference) if reference > 0.0 => format!("{:.2} x", value / reference),
        _ => "-".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned() {
        let mut table = Table::new(["server", "samples"]);
        table.push(vec!["watchfire".to_owned(), grouped(14_400_000.0)]);
        table.push(vec!["prom".to_owned(), grouped(999.0)]);
        let expected = "\
| server    |    samples |
|-----------|-----------:|
| watchfire | 14,400,000 |
| prom      |        999 |
";
        assert_eq!(table.render(), expected);
    }
}
