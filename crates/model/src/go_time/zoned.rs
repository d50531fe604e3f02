//! Times read as a clock of some zone shows them.

use super::{GoTime, tells_zone};
use crate::zone::offset_at;

impl GoTime {
    /// Reads `text` as `layout` shows it; where it tells no zone, in that of `file`, a file of the IANA's
    /// database, and a name of a zone means what it means there. `None` if it is no such time. Source: Go's
    /// `time.ParseInLocation`.
    pub fn parse_in_zone(layout: &str, text: &str, file: &[u8]) -> Option<Self> {
        let time = GoTime::parse(layout, text)?;
        let at = |seconds: i64| GoTime { seconds, ..time.clone() };
        if !tells_zone(layout) {
            return at(to_utc(file, time.seconds)).in_zone(file);
        }
        let is_named = time.offset_seconds == 0 && !matches!(time.zone.as_str(), "UTC" | "GMT");
        if is_named && let Some(offset) = offset_of(file, &time.zone, time.seconds) {
            return at(time.seconds.saturating_sub(i64::from(offset))).in_zone(file);
        }
        // An offset that the zone has at that moment is shown as the zone's.
        let shown = time.in_zone(file).filter(|shown| {
            let is_same_name = time.zone.starts_with(['+', '-']) || time.zone == shown.zone;
            !is_named && is_same_name && shown.offset_seconds == time.offset_seconds
        });
        Some(shown.unwrap_or(time))
    }
}

fn offset_s(file: &[u8], unix_s: i64) -> i64 {
    offset_at(file, unix_s).map_or(0, |offset| i64::from(offset.seconds))
}

/// The moment at which a clock there shows what a clock in UTC shows at `shown`. Of two, or of none, the
/// one that Go takes.
fn to_utc(file: &[u8], shown: i64) -> i64 {
    let offset = offset_s(file, shown);
    if offset == 0 {
        return shown;
    }
    shown.saturating_sub(offset_s(file, shown.saturating_sub(offset)))
}

/// How much later than UTC it is there when the zone is called `name`.
fn offset_of(file: &[u8], name: &str, around: i64) -> Option<i32> {
    const HALF_YEAR_S: i64 = 182 * 86_400;
    [0, HALF_YEAR_S, -HALF_YEAR_S].into_iter().find_map(|shift| {
        let offset = offset_at(file, around.saturating_add(shift))?;
        (offset.name == name).then_some(offset.seconds)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::zone::tests::with_rule;

    #[test]
    fn what_tells_no_zone_is_of_the_place() {
        let berlin = with_rule("CET", 3_600, "CET-1CEST,M3.5.0,M10.5.0/3");
        for (layout, text, shown) in [
            ("2006-01-02 15:04", "2021-07-02 10:00", "2021-07-02 10:00:00 +0200 CEST"),
            ("2006-01-02 15:04", "2021-01-02 10:00", "2021-01-02 10:00:00 +0100 CET"),
            // No clock there shows that: Go takes the offset that follows it.
            ("2006-01-02 15:04", "2021-03-28 02:30", "2021-03-28 03:30:00 +0200 CEST"),
            ("2006-01-02 15:04 MST", "2021-07-02 10:00 CET", "2021-07-02 11:00:00 +0200 CEST"),
            ("2006-01-02 15:04 MST", "2021-07-02 10:00 UTC", "2021-07-02 10:00:00 +0000 UTC"),
            ("2006-01-02 15:04 MST", "2021-07-02 10:00 XYZ", "2021-07-02 10:00:00 +0000 XYZ"),
            ("2006-01-02 15:04 -0700", "2021-07-02 10:00 +0200", "2021-07-02 10:00:00 +0200 CEST"),
            ("2006-01-02 15:04 -0700", "2021-07-02 10:00 -0700", "2021-07-02 10:00:00 -0700 -0700"),
        ] {
            let time = GoTime::parse_in_zone(layout, text, &berlin).expect("a time");
            let mut out = String::new();
            time.write_default(&mut out);
            assert_eq!(out, shown, "{text}");
        }
        assert_eq!(GoTime::parse_in_zone("2006", "x", &berlin), None);
    }
}
