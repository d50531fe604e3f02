//! Intervals of time by the calendar: when routes are muted or active, and when recurring
//! silences hold. Source: Alertmanager, `timeinterval/timeinterval.go`.

mod range;
mod read;
mod zone;

use model::{civil_from_days, days_in_month};
use serde::{Deserialize, Serialize};

pub use range::{Range, TimeRange};
pub(super) use read::read_named;
pub use read::{parse_time_intervals, parse_time_range};
pub use zone::TimeZone;

/// Most ranges of one kind, and most intervals under one name.
const MAX_PARTS: usize = 1_000;

/// An interval as it is written, in a configuration or in a silence.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct IntervalSpec {
    /// Times of the day.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub times: Vec<TimeSpec>,
    /// `monday:friday`, `sunday`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub weekdays: Vec<String>,
    /// `1:7`, `-3:-1`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub days_of_month: Vec<String>,
    /// `january:march`, `1:3`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub months: Vec<String>,
    /// `2026:2028`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub years: Vec<String>,
    /// Name of the zone in which all of it is meant; UTC if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub location: Option<String>,
}

/// A range of times as it is written: `09:00` to `17:00`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TimeSpec {
    /// The first minute.
    pub start_time: String,
    /// The minute behind the last; `24:00` is the end of the day.
    pub end_time: String,
}

/// An interval of time. What is `None` does not restrict it; an empty list lets nothing in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TimeInterval {
    /// Times of the day.
    pub times: Option<Vec<TimeRange>>,
    /// Days of the week, 0 being Sunday.
    pub weekdays: Option<Vec<Range>>,
    /// Days of the month; negative ones count from its end.
    pub days_of_month: Option<Vec<Range>>,
    /// Months, from 1.
    pub months: Option<Vec<Range>>,
    /// Years.
    pub years: Option<Vec<Range>>,
    /// Where it is meant; UTC if `None`.
    pub location: Option<TimeZone>,
}

/// Intervals under one name, which routes refer to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedIntervals {
    /// The name.
    pub name: String,
    /// A moment is inside if it is in any of them.
    pub intervals: Vec<TimeInterval>,
}

impl NamedIntervals {
    /// Whether a moment, in nanoseconds since 1970, is inside.
    pub fn contains(&self, unix_ns: i64) -> bool {
        self.intervals.iter().any(|interval| interval.contains(unix_ns))
    }
}

impl TimeInterval {
    /// Makes an interval of what is written; `zone` yields zones by name.
    ///
    /// # Errors
    /// What is wrong, in Alertmanager's words.
    pub fn from_spec(
        spec: &IntervalSpec,
        zone: &dyn Fn(&str) -> Option<TimeZone>,
    ) -> Result<TimeInterval, String> {
        let ranges = |texts: &[String], read: fn(&str) -> Result<Range, String>| {
            if texts.len() > MAX_PARTS {
                return Err(too_many(texts.len()));
            }
            let all: Vec<Range> = texts.iter().map(|text| read(text)).collect::<Result<_, _>>()?;
            Ok((!all.is_empty()).then_some(all))
        };
        if spec.times.len() > MAX_PARTS {
            return Err(too_many(spec.times.len()));
        }
        let times: Vec<TimeRange> = spec
            .times
            .iter()
            .map(|time| range::times(&time.start_time, &time.end_time))
            .collect::<Result<_, _>>()?;
        Ok(TimeInterval {
            times: (!times.is_empty()).then_some(times),
            weekdays: ranges(&spec.weekdays, range::weekdays)?,
            days_of_month: ranges(&spec.days_of_month, range::days_of_month)?,
            months: ranges(&spec.months, range::months)?,
            years: ranges(&spec.years, range::years)?,
            location: match &spec.location {
                Some(name) => Some(zone(name).ok_or_else(|| unknown_zone(name))?),
                None => None,
            },
        })
    }

    /// Whether a moment, in nanoseconds since 1970, is inside.
    pub fn contains(&self, unix_ns: i64) -> bool {
        let unix_s = unix_ns.div_euclid(1_000_000_000);
        let offset = self.location.as_ref().map_or(0, |zone| zone.offset_s(unix_s));
        let local = unix_s + offset;
        let days = local.div_euclid(86_400);
        let minute = local.rem_euclid(86_400) / 60;
        let (year, month, day) = civil_from_days(days);
        let within = |ranges: &Option<Vec<Range>>, value: i64| {
            ranges.as_ref().is_none_or(|all| all.iter().any(|range| range.contains(value)))
        };
        let times = self.times.as_ref().is_none_or(|all| {
            all.iter().any(|time| (time.start_minute..time.end_minute).contains(&minute))
        });
        times
            && self.contains_day(year, month, i64::from(day))
            && within(&self.months, i64::from(month))
            // 1970-01-01 was a Thursday.
            && within(&self.weekdays, (days + 4).rem_euclid(7))
            && within(&self.years, year)
    }

    fn contains_day(&self, year: i64, month: u32, day: i64) -> bool {
        let Some(ranges) = &self.days_of_month else { return true };
        let length = i64::from(days_in_month(year, month));
        let of_month = |end: i64| if end < 0 { length + end + 1 } else { end };
        ranges.iter().any(|range| {
            let (begin, end) = (of_month(range.begin), of_month(range.end));
            // What begins behind the end of the month is not in it.
            begin <= length && (begin..=end.min(length)).contains(&day)
        })
    }
}

fn too_many(count: usize) -> String {
    format!("{count} ranges; at most {MAX_PARTS} are read: join some of them")
}

fn unknown_zone(name: &str) -> String {
    format!("unknown time zone {name}")
}

#[cfg(test)]
mod tests {
    use model::days_from_civil;

    use super::*;

    fn at(year: i64, month: u32, day: u32, hour: i64) -> i64 {
        (days_from_civil(year, month, day) * 24 + hour) * 3_600_000_000_000
    }

    fn interval(spec: IntervalSpec) -> TimeInterval {
        TimeInterval::from_spec(&spec, &|_| Some(TimeZone::utc())).expect("valid")
    }

    #[test]
    fn nothing_said_is_always() {
        assert!(TimeInterval::default().contains(at(2026, 11, 30, 9)));
        let nothing = TimeInterval { times: Some(Vec::new()), ..TimeInterval::default() };
        assert!(!nothing.contains(0));
    }

    #[test]
    fn the_ends_of_months_count_from_behind() {
        let spec = IntervalSpec { days_of_month: vec!["-2:-1".into()], ..IntervalSpec::default() };
        let last = interval(spec);
        for (year, month, day, inside) in [
            (2024, 2, 29, true),
            (2024, 2, 28, true),
            (2023, 2, 28, true),
            (2023, 2, 26, false),
            (2026, 12, 31, true),
            (2026, 12, 29, false),
        ] {
            assert_eq!(last.contains(at(year, month, day, 1)), inside, "{year}-{month}-{day}");
        }
        let spec = IntervalSpec { days_of_month: vec!["30:31".into()], ..IntervalSpec::default() };
        assert!(!interval(spec).contains(at(2021, 2, 28, 13)));
    }

    #[test]
    fn hours_and_days() {
        let spec = IntervalSpec {
            times: vec![TimeSpec { start_time: "09:00".into(), end_time: "17:00".into() }],
            weekdays: vec!["monday:friday".into()],
            years: vec!["2026".into()],
            months: vec!["11".into()],
            ..IntervalSpec::default()
        };
        let office = interval(spec.clone());
        assert!(office.contains(at(2026, 11, 30, 9)));
        assert!(!office.contains(at(2026, 11, 30, 17)));
        assert!(!office.contains(at(2026, 11, 29, 10)));
        assert!(!office.contains(at(2026, 12, 1, 10)));
        let text = serde_json::to_string(&spec).expect("JSON");
        assert_eq!(serde_json::from_str::<IntervalSpec>(&text).expect("its own"), spec);
    }

    #[test]
    fn an_unknown_zone_is_told() {
        let spec =
            IntervalSpec { location: Some("Mars/Olympus".into()), ..IntervalSpec::default() };
        let error = TimeInterval::from_spec(&spec, &|_| None).expect_err("no zone");
        assert_eq!(error, "unknown time zone Mars/Olympus");
    }
}
