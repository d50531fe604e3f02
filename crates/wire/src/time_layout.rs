//! Times in milliseconds by a layout of Go: `2006-01-02 15:04:05`.

use model::go_time::{GoTime, is_layout, names_zone};

/// A layout. Names of zones are refused, as they mean different offsets in different places.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Layout(String);

impl Layout {
    /// Reads a layout.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        if names_zone(text) {
            return Err("MST in the layout of a time is not known here; write -0700".to_owned());
        }
        if !is_layout(text) {
            return Err(format!(
                "{text:?} is no layout of a time; write the time 2006-01-02 15:04:05 as yours are"
            ));
        }
        Ok(Layout(text.to_owned()))
    }

    /// Milliseconds since the epoch; without an offset the time is UTC. A fraction of the second may
    /// come whether the layout has one or not, as in Go.
    pub(crate) fn read(&self, text: &str) -> Option<i64> {
        GoTime::parse(&self.0, text).map(|time| time.unix_ms())
    }

    /// Appends a time in UTC.
    pub(crate) fn write(&self, out: &mut String, t_ms: i64) {
        let nanos = t_ms.rem_euclid(1_000) as u32 * 1_000_000;
        GoTime::from_unix(t_ms.div_euclid(1_000), nanos).format_into(out, &self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY_MS: i64 = 86_400_000;
    /// 2026-11-28T15:04:05.678Z, a Saturday.
    const T_MS: i64 = 1_795_878_245_678;

    #[test]
    fn times_are_read_as_they_are_written() {
        for (layout, text, cut_ms) in [
            ("2006-01-02T15:04:05.000Z07:00", "2026-11-28T15:04:05.678Z", 1),
            ("2006-01-02 15:04:05.999999 -0700", "2026-11-28 15:04:05.678 +0000", 1),
            ("Mon, 02 Jan 2006 15:04:05 -07:00", "Sat, 28 Nov 2026 15:04:05 +00:00", 1_000),
            (
                "Monday, January _2, 2006 at 3:04:05 PM",
                "Saturday, November 28, 2026 at 3:04:05 PM",
                1_000,
            ),
            ("1/2/06 15:4:5,00", "11/28/26 15:4:5,67", 10),
            ("20060102150405", "20261128150405", 1_000),
            ("2006-01-02", "2026-11-28", DAY_MS),
        ] {
            let parsed = Layout::parse(layout).expect(layout);
            let mut written = String::new();
            parsed.write(&mut written, T_MS);
            assert_eq!(written, text, "{layout}");
            assert_eq!(parsed.read(text), Some(T_MS - T_MS % cut_ms), "{layout}");
        }
    }

    #[test]
    fn offsets_halves_and_faults() {
        let read = |layout: &str, text: &str| Layout::parse(layout).expect(layout).read(text);
        let midnight_ms = T_MS - T_MS % DAY_MS;
        let at = |hour: i64, minute: i64| Some(midnight_ms + (hour * 60 + minute) * 60_000);
        assert_eq!(read("2006-01-02 15:04 -0700", "2026-11-28 10:00 +0130"), at(8, 30));
        assert_eq!(read("2006-01-02 15:04 Z07", "2026-11-28 10:00 -03"), at(13, 0));
        assert_eq!(read("2006-01-02 03pm", "2026-11-28 12am"), at(0, 0));
        assert_eq!(read("2006-01-02 03PM", "2026-11-28 12PM"), at(12, 0));
        assert_eq!(read("2006-01-02 _2", "2026-11-02  28"), at(0, 0), "the last day counts");
        assert_eq!(read("2006-01-02 15:04:05", "2026-11-28 00:00:00.25"), Some(midnight_ms + 250));
        for (layout, text) in [
            ("2006-01-02", "2026-02-30"),
            ("2006-01-02", "2026-11-28 "),
            ("2006-01-02", "2026-1-28"),
            ("2006-01-02 03", "2026-11-28 13"),
            ("05.000", "01.5"),
            ("Jan 2006", "Foo 2026"),
            ("2006é01", "2026"),
            ("PM", "é"),
            ("03pm", "12PM"),
        ] {
            assert_eq!(read(layout, text), None, "{layout} {text}");
        }
        assert_eq!(read("2006-002 -07:00:00", "2026-332 +00:00:00"), Some(midnight_ms));
        for layout in ["", "foo", "2006 MST"] {
            assert!(Layout::parse(layout).is_err(), "{layout}");
        }
    }
}
