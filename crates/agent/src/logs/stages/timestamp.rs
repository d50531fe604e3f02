//! `timestamp`: when a line was written.

use std::collections::HashMap;
use std::sync::Arc;

use model::go_time::{GoTime, is_layout};
use settings::logs::StageFault;
use settings::logs::stage::TimestampStage;

use super::chain::Link;
use super::{Clock, Line, Plan, fault, zones};

/// Streams whose last time is remembered.
const MAX_STREAMS: usize = 10_000;

/// Layouts by the names that Go has for them.
const NAMED: &[(&str, &str)] = &[
    ("ANSIC", "Mon Jan _2 15:04:05 2006"),
    ("UnixDate", "Mon Jan _2 15:04:05 MST 2006"),
    ("RubyDate", "Mon Jan 02 15:04:05 -0700 2006"),
    ("RFC822", "02 Jan 06 15:04 MST"),
    ("RFC822Z", "02 Jan 06 15:04 -0700"),
    ("RFC850", "Monday, 02-Jan-06 15:04:05 MST"),
    ("RFC1123", "Mon, 02 Jan 2006 15:04:05 MST"),
    ("RFC1123Z", "Mon, 02 Jan 2006 15:04:05 -0700"),
    ("RFC3339", "2006-01-02T15:04:05Z07:00"),
    ("RFC3339Nano", "2006-01-02T15:04:05.999999999Z07:00"),
];

/// A form of times.
#[derive(Debug, Clone)]
enum Format {
    /// Seconds, with or without a fraction.
    Unix,
    /// A number of so many nanoseconds.
    UnixOf(i64),
    /// A layout of Go with a name; it is not read in a zone.
    Named(&'static str),
    Layout(String),
    /// A layout without a year; the one here has it in front.
    WithoutYear {
        layout: String,
        dated: String,
    },
}

impl Format {
    fn new(key: &'static str, text: &str) -> Result<Self, StageFault> {
        if let Some((_, layout)) = NAMED.iter().find(|(name, _)| *name == text) {
            return Ok(Format::Named(layout));
        }
        Ok(match text {
            "Unix" => Format::Unix,
            "UnixMs" => Format::UnixOf(1_000_000),
            "UnixUs" => Format::UnixOf(1_000),
            "UnixNs" => Format::UnixOf(1),
            layout if !is_layout(layout) => {
                let message = format!("the format {layout:?} shows nothing of a time");
                let help = "write the time 2006-01-02 15:04:05 as your lines would show it";
                return Err(StageFault { help: Some(help.to_owned()), ..fault(key, message) });
            }
            layout if layout.contains("06") => Format::Layout(layout.to_owned()),
            layout => {
                Format::WithoutYear { layout: layout.to_owned(), dated: format!("2006 {layout}") }
            }
        })
    }

    fn parse(&self, text: &str, zone: Option<&Zone>, clock: &Clock) -> Option<i64> {
        match self {
            Format::Unix => unix(text),
            Format::UnixOf(ns) => text.parse::<i64>().ok()?.checked_mul(*ns),
            Format::Named(layout) => GoTime::parse(layout, text).map(|time| time.unix_ns()),
            Format::Layout(layout) => in_zone(layout, text, zone),
            Format::WithoutYear { layout, dated } => {
                let month = GoTime::parse(layout, text)?.civil().month;
                let now = GoTime::from_unix_ns((clock.wall_ns)()).civil();
                // Around the turn of the year it is the nearer one.
                let year = match (month, now.month) {
                    (12, 1) => now.year - 1,
                    (1, 12) => now.year + 1,
                    _ => now.year,
                };
                in_zone(dated, &format!("{year:04} {text}"), zone)
            }
        }
    }
}

/// Seconds since 1970, with or without a fraction.
fn unix(text: &str) -> Option<i64> {
    let (seconds, fraction) = match text.split_once('.') {
        Some((_, fraction)) if fraction.contains('.') => return None,
        Some((seconds, fraction)) => (seconds, fraction),
        None => (text, ""),
    };
    let mut ns = seconds.parse::<i64>().ok()?.checked_mul(1_000_000_000)?;
    if !fraction.is_empty() || text.contains('.') {
        let number: i64 = fraction.parse().ok()?;
        let places = i32::try_from(fraction.len()).ok()?;
        ns = ns.checked_add((number as f64 * 10_f64.powi(9 - places)) as i64)?;
    }
    Some(ns)
}

/// Reads a time that may name no zone, in that case in `zone`.
fn in_zone(layout: &str, text: &str, zone: Option<&Zone>) -> Option<i64> {
    let time = match zone {
        Some(Zone(file)) => GoTime::parse_in_zone(layout, text, file),
        None => GoTime::parse(layout, text),
    };
    Some(time?.unix_ns())
}

/// A zone of the host's database.
#[derive(Debug, Clone)]
struct Zone(Arc<[u8]>);

impl Zone {
    fn load(name: &str) -> Result<Option<Self>, StageFault> {
        if matches!(name, "UTC" | "") {
            return Ok(None);
        }
        match zones::of_host_now(name) {
            Some(file) => Ok(Some(Zone(file))),
            None => Err(StageFault {
                help: Some(
                    "name a zone as the IANA does, such as Europe/Berlin; the host has those below \
                     /usr/share/zoneinfo (package tzdata)"
                        .to_owned(),
                ),
                ..fault(
                    "location",
                    format!("invalid location specified: {name}: the host has no such zone"),
                )
            }),
        }
    }
}

pub(super) fn timestamp(stage: &TimestampStage) -> Result<Plan, StageFault> {
    let zone = Zone::load(stage.location.as_deref().unwrap_or_default())?;
    let mut formats = vec![Format::new("format", &stage.format)?];
    for format in &stage.fallback_formats {
        formats.push(Format::new("fallback_formats", format)?);
    }
    let formats: Arc<[Format]> = formats.into();
    let (source, fudges): (Arc<str>, bool) = (Arc::from(stage.source.as_str()), stage.fudges);
    Ok(Plan::new(move || {
        let (formats, zone, source) = (Arc::clone(&formats), zone.clone(), Arc::clone(&source));
        let mut last: HashMap<Vec<u8>, i64> = HashMap::new();
        let mut key = Vec::new();
        Link::simple(move |line: &mut Line, clock: &Clock| {
            let parsed = line.value_text(&source).and_then(|text| {
                formats.iter().find_map(|format| format.parse(text, zone.as_ref(), clock))
            });
            if !fudges {
                line.timestamp_ns = parsed.unwrap_or(line.timestamp_ns);
                return true;
            }
            key.clear();
            line.stream_key(&mut key);
            let known = last.get_mut(&key);
            let time = match (parsed, &known) {
                (Some(time), _) => time,
                // Nothing is known yet: the line keeps its time, and that is not remembered.
                (None, None) => return true,
                (None, Some(known)) => known.saturating_add(1),
            };
            line.timestamp_ns = time;
            match known {
                Some(known) => *known = time,
                None => {
                    if last.len() == MAX_STREAMS {
                        last.clear();
                    }
                    last.insert(key.clone(), time);
                }
            }
            true
        })
    }))
}
