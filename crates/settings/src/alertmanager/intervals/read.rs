//! Intervals in configuration files.

use std::collections::HashSet;
use std::path::Path;

use super::range::{self, Range, TimeRange};
use super::{NamedIntervals, TimeInterval, TimeZone, unknown_zone};
use crate::diagnostic::Faults;
use crate::prometheus::Surroundings;
use crate::yaml::{Context, Document, FromNode, Node, Section, items_of};

/// Reads `mute_time_intervals` and `time_intervals`. Names are unique among both.
pub(crate) fn read_named(
    root: &mut Section<'_>,
    surroundings: &dyn Surroundings,
) -> Vec<NamedIntervals> {
    let context = root.context;
    let mut all = Vec::new();
    let mut names: HashSet<String> = HashSet::new();
    for (key, what) in
        [("mute_time_intervals", "mute time interval"), ("time_intervals", "time interval")]
    {
        for node in root.items(key) {
            let Some(mut section) = Section::open(context, node, "config.plain") else { continue };
            let name: String = section.value("name");
            if name.is_empty() {
                let message = format!("missing name in {what}");
                section.fault("name", message, Some("add name: …, which routes refer to"));
            } else if !names.insert(name.clone()) {
                let message = format!("{what} {name:?} is not unique");
                section.fault("name", message, Some("give each interval its own name"));
            }
            let intervals = section
                .items("time_intervals")
                .into_iter()
                .filter_map(|node| read_interval(context, node, surroundings))
                .collect();
            section.finish();
            all.push(NamedIntervals { name, intervals });
        }
    }
    if root.is_set("mute_time_intervals") {
        let help = "move them to time_intervals; routes name them as before";
        root.warn("mute_time_intervals", "mute_time_intervals is deprecated", Some(help));
    }
    all
}

/// Reads one interval.
fn read_interval(
    context: &Context<'_>,
    node: &Node,
    surroundings: &dyn Surroundings,
) -> Option<TimeInterval> {
    let mut section = Section::open(context, node, "timeinterval.TimeInterval")?;
    let interval = TimeInterval {
        times: read_times(&mut section),
        weekdays: read_ranges(&mut section, "weekdays", range::weekdays),
        days_of_month: read_ranges(&mut section, "days_of_month", range::days_of_month),
        months: read_ranges(&mut section, "months", range::months),
        years: read_ranges(&mut section, "years", range::years),
        location: read_location(&mut section, surroundings),
    };
    section.finish();
    Some(interval)
}

fn read_location(section: &mut Section<'_>, surroundings: &dyn Surroundings) -> Option<TimeZone> {
    let name: String = section.read("location")?;
    let zone = TimeZone::load(&name, surroundings);
    if zone.is_none() {
        let help = "write a name of the time zone database, such as Europe/Berlin or \
                    Asia/Shanghai; its files are expected in /usr/share/zoneinfo (the package \
                    tzdata)";
        section.fault("location", unknown_zone(&name), Some(help));
    }
    zone
}

fn read_times(section: &mut Section<'_>) -> Option<Vec<TimeRange>> {
    let context = section.context;
    let node = section.node("times").filter(|node| !node.is_null())?;
    let read = |item: &&Node| read_time(context, item);
    Some(items_of(context, node).iter().filter_map(read).collect())
}

fn read_time(context: &Context<'_>, node: &Node) -> Option<TimeRange> {
    let mut inner = Section::open(context, node, "timeinterval.yamlTimeRange")?;
    let (start, end): (String, String) = (inner.value("start_time"), inner.value("end_time"));
    let place = if start.is_empty() { "start_time" } else { "end_time" };
    let read = range::times(&start, &end)
        .map_err(|message| {
            let help = "write both as HH:MM, from 00:00 to 24:00, the start before the end; an \
                        interval over midnight is two of them";
            inner.fault(place, message, Some(help));
        })
        .ok();
    inner.finish();
    read
}

fn read_ranges(
    section: &mut Section<'_>,
    key: &'static str,
    read: fn(&str) -> Result<Range, String>,
) -> Option<Vec<Range>> {
    let context = section.context;
    let node = section.node(key).filter(|node| !node.is_null())?;
    let mut ranges = Vec::new();
    for item in items_of(context, node) {
        let Some(text) = String::from_node(context, item) else { continue };
        match read(&text) {
            Ok(range) => ranges.push(range),
            Err(message) => {
                let help = match key {
                    "weekdays" => "write days in English, such as monday:friday or sunday",
                    "days_of_month" => "write days from 1 to 31 or from -31 to -1, such as 1:7",
                    "months" => "write months in English or by number, such as january:march",
                    _ => "write years such as 2026 or 2026:2028",
                };
                context.fault(item.span, message, Some(help.to_owned()));
            }
        }
    }
    Some(ranges)
}

/// Reads a document that is a list of intervals, or one.
///
/// # Errors
/// All that is wrong, each with its place.
pub fn parse_time_intervals(
    file: &str,
    bytes: &[u8],
    surroundings: &dyn Surroundings,
) -> Result<Vec<TimeInterval>, Faults> {
    let document = Document::parse(file, bytes)?;
    let context = Context::new(document.source(), Path::new(""));
    let mut intervals = Vec::new();
    if let Some(root) = document.root() {
        let nodes = match &root.value {
            crate::yaml::Value::Mapping(_) => vec![root],
            _ => items_of(&context, root),
        };
        let read = |node| read_interval(&context, node, surroundings);
        intervals.extend(nodes.into_iter().filter_map(read));
    }
    let faults = context.finish().faults;
    if faults.is_empty() { Ok(intervals) } else { Err(Faults::new(faults)) }
}

/// Reads a document that is one range of times: `{start_time: '09:00', end_time: '17:00'}`.
///
/// # Errors
/// All that is wrong, each with its place.
pub fn parse_time_range(file: &str, bytes: &[u8]) -> Result<TimeRange, Faults> {
    let document = Document::parse(file, bytes)?;
    let context = Context::new(document.source(), Path::new(""));
    let range = document.root().and_then(|root| read_time(&context, root));
    let faults = context.finish().faults;
    match range {
        Some(range) if faults.is_empty() => Ok(range),
        _ if faults.is_empty() => {
            let message = "both start and end times must be provided";
            Err(crate::Diagnostic::of_file(file, message, None).into())
        }
        _ => Err(Faults::new(faults)),
    }
}
