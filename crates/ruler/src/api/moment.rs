//! Times as Alertmanager's API has them: read in any of eleven forms, written in one.
//!
//! Source: `github.com/go-openapi/strfmt`, `time.go`.

use std::fmt;

use model::go_time::GoTime;
use serde::{Deserialize, Deserializer, de};

/// The forms, in the order in which they are tried.
const LAYOUTS: [&str; 11] = [
    "2006-01-02T15:04:05.000000Z07:00",
    "2006-01-02T15:04:05.000000Z0700",
    "2006-01-02T15:04:05.000Z07:00",
    "2006-01-02T15:04:05.000Z0700",
    "2006-01-02T15:04:05Z07:00",
    "2006-01-02T15:04:05.999999999Z07:00",
    "2006-01-02T15:04:05",
    "2006-01-02T15:04Z",
    "2006-01-02T15:04",
    "2006-01-02 15:04:05",
    "2006-01-02",
];
/// Longest text that is looked at.
const MAX_BYTES: usize = 64;

/// A time somebody posted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Moment {
    /// Nanoseconds since 1970; a time further away than those reach is the furthest of them.
    pub(super) ns: i64,
    /// Whether it is the first of January of the year 1, which is how Go says that there is none.
    pub(super) is_zero: bool,
}

impl Moment {
    /// Reads one; an empty text is 1970.
    ///
    /// # Errors
    /// It is none, in the words of Go's `time.Parse` about the form that is tried last.
    pub(super) fn parse(text: &str) -> Result<Moment, String> {
        if text.is_empty() {
            return Ok(Moment { ns: 0, is_zero: false });
        }
        if text.len() > MAX_BYTES {
            return Err(format!("a time of {} bytes; none has more than {MAX_BYTES}", text.len()));
        }
        let mut why = String::new();
        for layout in LAYOUTS {
            match GoTime::parse_told(layout, text) {
                Ok(time) => return Ok(Moment::of(&time)),
                Err(reason) => why = reason,
            }
        }
        Err(why)
    }

    fn of(time: &GoTime) -> Moment {
        // A century before and behind what nanoseconds reach, which the year alone tells.
        let ns = match time.civil().year {
            ..1678 => i64::MIN,
            2262.. => i64::MAX,
            _ => time.unix_ns(),
        };
        Moment { ns, is_zero: time.is_zero() }
    }

    /// The time, unless it says that there is none.
    pub(super) fn said(self) -> Option<i64> {
        (!self.is_zero).then_some(self.ns)
    }
}

impl<'de> Deserialize<'de> for Moment {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl de::Visitor<'_> for Text {
            type Value = Moment;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a time as text")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Moment, E> {
                Moment::parse(text).map_err(E::custom)
            }
        }
        deserializer.deserialize_str(Text)
    }
}

/// A time as it is told: RFC 3339 in UTC, to the millisecond.
pub(super) fn shown(ns: i64) -> String {
    model::rfc3339(ns.div_euclid(1_000_000))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ns(text: &str) -> i64 {
        Moment::parse(text).expect(text).ns
    }

    #[test]
    fn times_have_many_forms() {
        let wanted = 1_577_836_800_000_000_000;
        for text in [
            "2020-01-01T00:00:00Z",
            "2020-01-01T08:00:00+08:00",
            "2020-01-01T08:00:00.000+0800",
            "2020-01-01T00:00:00.000000Z",
            "2020-01-01T00:00:00",
            "2020-01-01T00:00Z",
            "2020-01-01T00:00",
            "2020-01-01 00:00:00",
            "2020-01-01",
        ] {
            assert_eq!(ns(text), wanted, "{text}");
        }
        assert_eq!(ns("2020-01-01T00:00:00.123456789Z"), wanted + 123_456_789);
        assert_eq!(ns(""), 0);
        assert_eq!(shown(wanted + 123_456_789), "2020-01-01T00:00:00.123Z");
    }

    #[test]
    fn what_is_no_time_is_told_as_go_tells_it() {
        let told = |text| Moment::parse(text).expect_err(text);
        assert_eq!(told("x"), r#"parsing time "x" as "2006-01-02": cannot parse "x" as "2006""#);
        let told = told("2020-01-01T00:00:00+0800");
        assert!(told.ends_with(r#"extra text: "T00:00:00+0800""#), "{told}");
        assert!(Moment::parse(&"9".repeat(100)).expect_err("long").contains("64"));
    }

    #[test]
    fn times_out_of_reach_are_the_last_in_reach() {
        assert_eq!(ns("9999-12-31T00:00:00Z"), i64::MAX);
        assert_eq!(ns("1000-01-01T00:00:00Z"), i64::MIN);
        let zero = Moment::parse("0001-01-01T00:00:00Z").expect("a time");
        assert_eq!((zero.said(), zero.ns), (None, i64::MIN));
    }

    #[test]
    fn no_text_panics() {
        for text in [
            "2020-02-30",
            "２０２０",
            "2020-01-01T24:00:00Z",
            "-2020-01-01",
            "2020-01-01T00:00:00.Z",
            "9999999999-01-01",
        ] {
            assert!(Moment::parse(text).is_err(), "{text}");
        }
    }
}
