//! Date functions over seconds since the Unix epoch, in UTC.

/// The function called `name`, if it is a date function.
pub(crate) fn find(name: &str) -> Option<fn(f64) -> f64> {
    Some(match name {
        "day_of_month" => |t| f64::from(Date::of(t).day),
        "day_of_week" => |t| (days(t) + 4).rem_euclid(7) as f64,
        "day_of_year" => |t| {
            let year = Date::of(t).year;
            (days(t) - days_from_civil(year, 1, 1) + 1) as f64
        },
        "days_in_month" => |t| {
            let Date { year, month, .. } = Date::of(t);
            f64::from(days_in_month(year, month))
        },
        "hour" => |t| (seconds(t).rem_euclid(86_400) / 3_600) as f64,
        "minute" => |t| (seconds(t).rem_euclid(3_600) / 60) as f64,
        "month" => |t| f64::from(Date::of(t).month),
        "year" => |t| Date::of(t).year as f64,
        _ => return None,
    })
}

/// A time in UTC as RFC 3339 writes it: `1970-01-01T00:00:00Z`.
pub(crate) fn rfc3339(seconds: i64) -> String {
    let Date { year, month, day } = Date::of(seconds as f64);
    let second = seconds.rem_euclid(86_400);
    let (hour, minute) = (second / 3_600, second % 3_600 / 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{:02}Z", second % 60)
}

/// Whole seconds; NaN counts as 0 and infinity as the last second there is. Prometheus leaves to
/// its processor what becomes of these.
fn seconds(t: f64) -> i64 {
    t as i64
}

fn days(t: f64) -> i64 {
    seconds(t).div_euclid(86_400)
}

/// A day of the proleptic Gregorian calendar.
struct Date {
    year: i64,
    month: u8,
    day: u8,
}

impl Date {
    /// Source: Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms", `civil_from_days`.
    fn of(t: f64) -> Self {
        // Years begin in March, so that the leap day is the last of its year.
        // Days are seconds divided, so nothing here overflows.
        let shifted = days(t) + 719_468;
        let era = shifted.div_euclid(146_097);
        let day_of_era = shifted.rem_euclid(146_097);
        let year_of_era =
            (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let month_from_march = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
        let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
        let year = year_of_era + era * 400 + i64::from(month <= 2);
        Date { year, month: month as u8, day: day as u8 }
    }
}

/// Days since the epoch; the inverse of [`Date::of`].
fn days_from_civil(year: i64, month: u8, day: u8) -> i64 {
    let year = year - i64::from(month <= 2);
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let month_from_march = (i64::from(month) + 9) % 12;
    let day_of_year = (153 * month_from_march + 2) / 5 + i64::from(day) - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

fn days_in_month(year: i64, month: u8) -> u8 {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    match month {
        2 if leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(name: &str, t: f64) -> f64 {
        find(name).expect("a date function")(t)
    }

    #[test]
    fn known_dates() {
        // 2024-02-29T23:59:59Z, a Thursday.
        let leap = 1_709_251_199.0;
        assert_eq!(at("year", leap), 2024.0);
        assert_eq!(at("month", leap), 2.0);
        assert_eq!(at("day_of_month", leap), 29.0);
        assert_eq!(at("days_in_month", leap), 29.0);
        assert_eq!(at("day_of_year", leap), 60.0);
        assert_eq!(at("day_of_week", leap), 4.0);
        assert_eq!(at("hour", leap), 23.0);
        assert_eq!(at("minute", leap), 59.0);
        assert_eq!(rfc3339(leap as i64), "2024-02-29T23:59:59Z");
        assert_eq!(at("year", -1.0), 1969.0);
        assert_eq!(at("day_of_week", -1.0), 3.0);
        assert_eq!(at("days_in_month", 951_782_400.0), 29.0);
        assert_eq!(at("hour", f64::NAN), 0.0);
        assert_eq!(at("year", f64::INFINITY), 292_277_026_596.0);
        assert_eq!((at("hour", 1e18), at("month", 1e18)), (1.0, 10.0));
        assert_eq!(at("day_of_year", f64::NEG_INFINITY), 27.0);
    }

    #[test]
    fn days_count_there_and_back() {
        for day in (-800_000..800_000).step_by(17) {
            let date = Date::of(day as f64 * 86_400.0);
            assert_eq!(days_from_civil(date.year, date.month, date.day), day);
        }
    }
}
