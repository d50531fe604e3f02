//! Numbers and little pictures in few columns.

/// Which characters pictures are made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Glyphs {
    /// Eighths of blocks.
    Blocks,
    /// For terminals that know no others.
    Ascii,
}

impl Glyphs {
    fn ramp(self) -> [char; 8] {
        match self {
            Glyphs::Blocks => ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'],
            Glyphs::Ascii => ['_', '.', ':', '-', '=', '+', '*', '#'],
        }
    }

    fn bar(self) -> (char, char) {
        match self {
            Glyphs::Blocks => ('█', '░'),
            Glyphs::Ascii => ('#', '.'),
        }
    }

    /// Marks the column that orders the list.
    pub(crate) fn descending(self, reversed: bool) -> &'static str {
        match (self, reversed) {
            (Glyphs::Blocks, false) => "▼",
            (Glyphs::Blocks, true) => "▲",
            (Glyphs::Ascii, false) => "v",
            (Glyphs::Ascii, true) => "^",
        }
    }
}

/// A share as a percentage in four columns, such as ` 43%`; `  - ` where there is none.
pub(crate) fn percent(share: Option<f64>) -> String {
    match share {
        Some(share) => format!("{:>3.0}%", (share * 100.0).clamp(0.0, 999.0)),
        None => "  - ".to_owned(),
    }
}

/// Bytes in five columns at most, in powers of 1,024: `0`, `512B`, `1.2K`, `340M`, `12.5G`.
pub(crate) fn bytes(value: f64) -> String {
    const UNITS: [&str; 6] = ["B", "K", "M", "G", "T", "P"];
    let mut value = value.max(0.0);
    if value < 0.5 {
        return "0".to_owned();
    }
    let mut unit = 0;
    // What rounds to 1,000 needs a column more than its unit leaves.
    while value >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1_024.0;
        unit += 1;
    }
    let digits = usize::from(unit > 0 && value < 99.95);
    format!("{value:.digits$}{}", UNITS[unit])
}

/// The same of something that may be missing.
pub(crate) fn some_bytes(value: Option<f64>) -> String {
    value.map_or_else(|| "-".to_owned(), bytes)
}

/// A load in five columns: `0.12`, `12.3`, `1234`.
pub(crate) fn load(value: Option<f64>) -> String {
    match value {
        Some(value) if value < 99.995 => format!("{value:.2}"),
        Some(value) => format!("{value:.0}"),
        None => "-".to_owned(),
    }
}

/// A duration in its two largest units: `3d 4h`, `12m 5s`, `8s`.
pub(crate) fn duration(seconds: f64) -> String {
    let s = seconds.max(0.0) as u64;
    let (d, h, m) = (s / 86_400, s / 3_600 % 24, s / 60 % 60);
    match (d, h, m) {
        (0, 0, 0) => format!("{s}s"),
        (0, 0, m) => format!("{m}m {}s", s % 60),
        (0, h, m) => format!("{h}h {m}m"),
        (d, h, _) => format!("{d}d {h}h"),
    }
}

/// A bar of `width` columns, filled by a share.
pub(crate) fn bar(share: f64, width: usize, glyphs: Glyphs) -> String {
    let (full, empty) = glyphs.bar();
    let filled = (share.clamp(0.0, 1.0) * width as f64).round() as usize;
    (0..width).map(|column| if column < filled { full } else { empty }).collect()
}

/// The values in `width` columns, the newest at the right; a column of several values shows their
/// largest, so that no peak is lost. `full` is the value of a full column; without it the largest
/// is.
pub(crate) fn sparkline(
    values: &[Option<f64>],
    width: usize,
    full: Option<f64>,
    glyphs: Glyphs,
) -> String {
    let shown = values.len().min(width);
    let columns: Vec<Option<f64>> = (0..shown)
        .map(|column| {
            let from = column * values.len() / shown;
            let to = ((column + 1) * values.len()).div_ceil(shown);
            values[from..to].iter().flatten().copied().reduce(f64::max)
        })
        .collect();
    let largest = columns.iter().flatten().copied().fold(0.0, f64::max);
    let full = full.unwrap_or(largest);
    let glyph = |value: &Option<f64>| {
        value.map_or(' ', |value| {
            let share = if full > 0.0 { (value / full).clamp(0.0, 1.0) } else { 0.0 };
            glyphs.ramp()[(share * 7.0).round() as usize]
        })
    };
    let missing = width.saturating_sub(columns.len());
    std::iter::repeat_n(' ', missing).chain(columns.iter().map(glyph)).collect()
}

/// One character for a share.
pub(crate) fn level(share: f64, glyphs: Glyphs) -> char {
    glyphs.ramp()[(share.clamp(0.0, 1.0) * 7.0).round() as usize]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_fit_five_columns() {
        for (value, text) in [
            (0.0, "0"),
            (0.4, "0"),
            (7.0, "7B"),
            (999.0, "999B"),
            (999.6, "1.0K"),
            (1_229.0, "1.2K"),
            (102_300.0, "99.9K"),
            (1_023_000.0, "999K"),
            (1_048_576.0, "1.0M"),
            (64_800_944_128.0, "60.4G"),
            (1e20, "88818P"),
        ] {
            assert_eq!(bytes(value), text, "{value}");
        }
    }

    #[test]
    fn sparklines_keep_peaks_and_gaps() {
        let blocks = Glyphs::Blocks;
        let values: Vec<Option<f64>> =
            [0.0, 1.0, 0.0, 0.0].into_iter().map(Some).chain([None, None]).collect();
        assert_eq!(sparkline(&values, 6, Some(1.0), blocks), "▁█▁▁  ");
        assert_eq!(sparkline(&values, 3, Some(1.0), blocks), "█▁ ");
        assert_eq!(sparkline(&values, 4, Some(1.0), blocks), "██▁ ");
        assert_eq!(sparkline(&values, 8, None, blocks), "  ▁█▁▁  ");
        assert_eq!(sparkline(&[], 3, None, blocks), "   ");
        assert_eq!(sparkline(&[Some(0.0)], 1, None, Glyphs::Ascii), "_");
        assert_eq!(sparkline(&[Some(5.0)], 0, None, blocks), "");
    }

    #[test]
    fn durations_have_two_units() {
        for (seconds, text) in
            [(8.9, "8s"), (725.0, "12m 5s"), (3_600.0, "1h 0m"), (273_600.0, "3d 4h")]
        {
            assert_eq!(duration(seconds), text);
        }
    }

    #[test]
    fn bars_and_percentages_stay_inside() {
        assert_eq!(bar(0.5, 4, Glyphs::Blocks), "██░░");
        assert_eq!(bar(7.0, 3, Glyphs::Ascii), "###");
        assert_eq!(percent(Some(0.434)), " 43%");
        assert_eq!(percent(Some(1.0)), "100%");
        assert_eq!(percent(None), "  - ");
        assert_eq!(level(0.99, Glyphs::Blocks), '█');
    }
}
