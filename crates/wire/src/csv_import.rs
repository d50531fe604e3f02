//! CSV by a description of its columns, as VictoriaMetrics' `/api/v1/import/csv` takes it.
//!
//! ```text
//! format=2:metric:ask,3:metric:bid,1:label:ticker,4:time:unix_s
//!
//! GOOG,1.23,4.56,1700000000
//! ```
//!
//! Columns count from 1. `metric` names the series that a column's numbers belong to, `label` the
//! label that its text becomes, `time` the unit of its timestamps: `unix_s`, `unix_ms`, `unix_ns`,
//! `rfc3339` or `custom:` and a layout of Go, such as `3:time:custom:2006-01-02 15:04:05`. Columns that are not described are left out.

use std::collections::BTreeSet;

use model::{Limits, MetricBatch};

use crate::WireError;
use crate::pair_rows::PairRows;
use crate::refusals::Refusals;
use crate::time_layout::Layout;

/// Longest part of a line that an error repeats.
const SHOWN_BYTES: usize = 120;
/// Most columns that are looked at.
const MAX_COLUMN: usize = 10_000;

/// What a column is.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Role {
    Metric(String),
    Label(String),
    Time(Unit),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Unit {
    Seconds,
    Milliseconds,
    Nanoseconds,
    Rfc3339,
    Custom(Layout),
}

/// What each column is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Format(Vec<(usize, Role)>);

impl Format {
    /// Reads the description.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (mut columns, mut metrics) = (Vec::new(), BTreeSet::new());
        for part in text.split(',') {
            let mut words = part.splitn(3, ':');
            let (column, role, name) = (words.next(), words.next(), words.next());
            let place = column
                .and_then(|column| column.trim().parse().ok())
                .filter(|place| (1..=MAX_COLUMN).contains(place))
                .ok_or_else(|| {
                    format!("{part:?} does not begin with a column from 1 to {MAX_COLUMN}")
                })?;
            let name = name.filter(|name| !name.is_empty());
            let name = name.ok_or_else(|| format!("{part:?} is not COLUMN:KIND:NAME"))?;
            let role = match role.unwrap_or_default() {
                "metric" if metrics.insert(name) => Role::Metric(name.to_owned()),
                "metric" => return Err(format!("more than one column is the metric {name:?}")),
                "label" => Role::Label(name.to_owned()),
                "time" => Role::Time(match name {
                    "unix_s" => Unit::Seconds,
                    "unix_ms" => Unit::Milliseconds,
                    "unix_ns" => Unit::Nanoseconds,
                    "rfc3339" => Unit::Rfc3339,
                    other => match other.strip_prefix("custom:") {
                        Some(layout) => Unit::Custom(Layout::parse(layout)?),
                        None => {
                            return Err(format!(
                                "{other:?} is no time; use unix_s, unix_ms, unix_ns, rfc3339 or \
                                 custom:2006-01-02 15:04:05"
                            ));
                        }
                    },
                }),
                other => return Err(format!("{other:?} is neither metric, label nor time")),
            };
            columns.push((place - 1, role));
        }
        if !columns.iter().any(|(_, role)| matches!(role, Role::Metric(_))) {
            return Err("no column is a metric".to_owned());
        }
        Ok(Format(columns))
    }
}

/// Decodes lines into `out`, which is emptied first. Lines without a column of time have `now_ms`. A
/// number that is empty is left out. Yields the lines that cannot be read.
///
/// # Errors
/// [`WireError::Limit`] for a body or labels that are too large; `out` is then empty.
pub fn decode(
    body: &[u8],
    format: &Format,
    now_ms: i64,
    limits: &Limits,
    out: &mut MetricBatch,
) -> Result<Refusals, WireError> {
    let mut refusals = Refusals::default();
    let mut rows = PairRows::new("CSV", body.len(), limits, out)?;
    let mut cells = Vec::new();
    for line in body.split(|byte| *byte == b'\n') {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.is_empty() {
            continue;
        }
        let taken =
            std::str::from_utf8(line).map_err(|_| Fault::Line("invalid UTF-8")).and_then(|text| {
                split(text, &mut cells).map_err(Fault::Line)?;
                take(&cells, format, now_ms, &mut rows)
            });
        match taken {
            Ok(()) => {}
            Err(Fault::Line(reason)) => {
                let shown = String::from_utf8_lossy(&line[..line.len().min(SHOWN_BYTES)]);
                refusals.add(reason, 0, 0, || shown.into_owned());
            }
            Err(Fault::Whole(error)) => {
                out.clear();
                return Err(error);
            }
        }
    }
    Ok(refusals)
}

enum Fault {
    Line(&'static str),
    Whole(WireError),
}

fn take(
    cells: &[String],
    format: &Format,
    now_ms: i64,
    rows: &mut PairRows<'_>,
) -> Result<(), Fault> {
    let cell = |place: &usize| cells.get(*place).ok_or(Fault::Line("too few columns"));
    let mut t_ms = now_ms;
    let mut samples = Vec::new();
    for (place, role) in &format.0 {
        match role {
            Role::Time(unit) => {
                t_ms = time(cell(place)?, unit).ok_or(Fault::Line("invalid time"))?;
            }
            Role::Metric(name) => {
                let text = cell(place)?.trim();
                if !text.is_empty() {
                    let value = text.parse().map_err(|_| Fault::Line("invalid number"))?;
                    samples.push((name, value));
                }
            }
            Role::Label(_) => {
                cell(place)?;
            }
        }
    }
    for (name, value) in samples {
        rows.begin(&[name.as_bytes()]);
        for (place, role) in &format.0 {
            if let Role::Label(name) = role {
                rows.label(name.as_bytes(), cells[*place].as_bytes());
            }
        }
        rows.end([(t_ms, value)]).map_err(Fault::Whole)?;
    }
    Ok(())
}

fn time(text: &str, unit: &Unit) -> Option<i64> {
    let text = text.trim();
    match unit {
        Unit::Seconds => {
            let seconds: f64 = text.parse().ok()?;
            (seconds.abs() < 9e12).then(|| (seconds * 1e3).round() as i64)
        }
        Unit::Milliseconds => text.parse().ok(),
        Unit::Nanoseconds => text.parse::<i64>().ok().map(|ns| ns.div_euclid(1_000_000)),
        Unit::Rfc3339 => model::parse_rfc3339_ms(text),
        Unit::Custom(layout) => layout.read(text),
    }
}

/// Cells of a line; one in quotes may hold commas, and quotes that are written twice.
fn split(line: &str, cells: &mut Vec<String>) -> Result<(), &'static str> {
    cells.clear();
    let mut rest = line;
    loop {
        let mut cell = String::new();
        if let Some(mut quoted) = rest.strip_prefix('"') {
            loop {
                let end = quoted.find('"').ok_or("unbalanced quotes")?;
                cell.push_str(&quoted[..end]);
                quoted = &quoted[end + 1..];
                match quoted.strip_prefix('"') {
                    Some(more) => {
                        cell.push('"');
                        quoted = more;
                    }
                    None => break,
                }
            }
            rest = quoted;
        } else {
            let end = rest.find(',').unwrap_or(rest.len());
            cell.push_str(&rest[..end]);
            rest = &rest[end..];
        }
        cells.push(cell);
        match rest.strip_prefix(',') {
            Some(more) => rest = more,
            None if rest.is_empty() => return Ok(()),
            None => return Err("something stands behind a quoted cell"),
        }
    }
}
