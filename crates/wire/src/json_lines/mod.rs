//! VictoriaMetrics' JSON lines, as its `/api/v1/export` writes them: one series per line.
//!
//! ```text
//! {"metric":{"__name__":"up","job":"a"},"values":[1,0],"timestamps":[1700000000000,1700000015000]}
//! ```
//!
//! A value may be one of the strings `"NaN"`, `"Infinity"`, `"-Infinity"`, and `null`, which is the
//! staleness marker: VictoriaMetrics writes every NaN so, of which it stores few others. Its infinities
//! stand there without quotes (`+Inf`), which is no JSON and read all the same, as is `NaN`.
//!
//! Native histograms have lines of their own, which only Watchfire knows: `"histograms"` instead of
//! `"values"` is a list of remote write's messages `Histogram` as protobuf's JSON has them, without
//! their times and with counts as floats.
//!
//! Lines of either kind may have `"startTimestamps"`, which only Watchfire knows: when each value, or the
//! counts of each histogram, began at zero, milliseconds since the epoch, 0 where that is not known, as of
//! those behind its end.

mod bare;
mod encode;
mod histogram;

use std::borrow::Cow;
use std::fmt;

use model::{Histogram, Limits, METRIC_NAME, MetricBatch, STALE_NAN_BITS};
use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};

use crate::WireError;
use crate::json_list;
use crate::pair_rows::PairRows;
use crate::refusals::Refusals;

pub use encode::{push_histograms, push_values};

/// Decodes lines into `out`, which is emptied first; yields the lines that are no such object, or whose
/// values and timestamps differ in number.
///
/// # Errors
/// [`WireError::Limit`] for a body or labels that are too large. `out` is then empty.
pub fn decode(body: &[u8], limits: &Limits, out: &mut MetricBatch) -> Result<Refusals, WireError> {
    let mut refusals = Refusals::default();
    let mut rows = PairRows::new("JSON lines", body.len(), limits, out)?;
    for (index, line) in body.split(|byte| *byte == b'\n').enumerate() {
        let line = line.trim_ascii();
        if line.is_empty() {
            continue;
        }
        match take(line, &mut rows) {
            Ok(()) => {}
            Err(Fault::Line(reason)) => {
                let text = || json_list::shown(&String::from_utf8_lossy(line));
                refusals.add(&reason, 0, 0, || format!("line {}: {}", index + 1, text()));
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
    Line(String),
    Whole(WireError),
}

fn take(line: &[u8], rows: &mut PairRows<'_>) -> Result<(), Fault> {
    let error = match serde_json::from_slice(line) {
        Ok(series) => return add(series, rows),
        Err(error) => error,
    };
    let fault = |error| Fault::Line(json_list::reason(&error));
    match bare::in_quotes(line) {
        Some(quoted) => add(serde_json::from_slice(&quoted).map_err(fault)?, rows),
        None => Err(fault(error)),
    }
}

fn add(series: Line<'_>, rows: &mut PairRows<'_>) -> Result<(), Fault> {
    let Line { metric, values, histograms, timestamps, starts_ms } = series;
    let (what, count) = match (values.is_empty(), histograms.is_empty()) {
        (false, true) => ("values", values.len()),
        (true, false) => ("histograms", histograms.len()),
        (true, true) => return Err(Fault::Line("a series without values".to_owned())),
        (false, false) => {
            return Err(Fault::Line("both values and histograms; use two lines".to_owned()));
        }
    };
    if count != timestamps.len() {
        return Err(Fault::Line(format!("{count} {what} and {} timestamps", timestamps.len())));
    }
    if starts_ms.len() > count {
        return Err(Fault::Line(format!("{count} {what} and {} startTimestamps", starts_ms.len())));
    }
    let name = metric.0.iter().find(|(name, _)| name == METRIC_NAME);
    let Some((_, name)) = name.filter(|(_, name)| !name.is_empty()) else {
        return Err(Fault::Line(format!("a series without {METRIC_NAME}")));
    };
    rows.begin(&[name.as_bytes()]);
    for (name, value) in metric.0.iter().filter(|(name, _)| name != METRIC_NAME) {
        rows.label(name.as_bytes(), value.as_bytes());
    }
    if !histograms.is_empty() {
        let histograms = histograms.into_iter().map(|object| {
            let histogram = object.into_histogram();
            if histogram.is_stale() { Histogram::stale() } else { Histogram::Float(histogram) }
        });
        let samples = timestamps.into_iter().zip(histograms);
        return rows.end_histograms(samples, &starts_ms).map_err(Fault::Whole);
    }
    let samples = timestamps.into_iter().zip(values.into_iter().map(|value| value.0));
    rows.end(samples).map_err(Fault::Whole)?;
    rows.set_starts(count, &starts_ms);
    Ok(())
}

#[derive(serde::Deserialize)]
struct Line<'l> {
    #[serde(borrow)]
    metric: Pairs<'l>,
    #[serde(default)]
    values: Vec<Number>,
    #[serde(default)]
    histograms: Vec<histogram::Object>,
    timestamps: Vec<i64>,
    #[serde(default, rename = "startTimestamps")]
    starts_ms: Vec<i64>,
}

/// The members of an object of strings, in their order.
struct Pairs<'l>(Vec<(Cow<'l, str>, Cow<'l, str>)>);

impl<'de: 'l, 'l> Deserialize<'de> for Pairs<'l> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members<'l>(std::marker::PhantomData<&'l ()>);

        impl<'de: 'l, 'l> Visitor<'de> for Members<'l> {
            type Value = Pairs<'l>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object of labels")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Pairs<'l>, A::Error> {
                let mut pairs = Vec::new();
                while let Some((name, value)) = map.next_entry::<Text<'l>, Text<'l>>()? {
                    pairs.push((name.0, value.0));
                }
                Ok(Pairs(pairs))
            }
        }

        deserializer.deserialize_map(Members(std::marker::PhantomData))
    }
}

/// A string, borrowed where it has no escapes.
#[derive(serde::Deserialize)]
struct Text<'l>(#[serde(borrow)] Cow<'l, str>);

/// A value.
struct Number(f64);

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Value;

        impl Visitor<'_> for Value {
            type Value = Number;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a number")
            }

            fn visit_unit<E: Error>(self) -> Result<Number, E> {
                Ok(Number(f64::from_bits(STALE_NAN_BITS)))
            }

            fn visit_f64<E: Error>(self, value: f64) -> Result<Number, E> {
                Ok(Number(value))
            }

            fn visit_u64<E: Error>(self, value: u64) -> Result<Number, E> {
                Ok(Number(value as f64))
            }

            fn visit_i64<E: Error>(self, value: i64) -> Result<Number, E> {
                Ok(Number(value as f64))
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Number, E> {
                match text {
                    "NaN" => Ok(Number(f64::NAN)),
                    "Infinity" | "+Infinity" | "+Inf" | "Inf" => Ok(Number(f64::INFINITY)),
                    "-Infinity" | "-Inf" => Ok(Number(f64::NEG_INFINITY)),
                    other => Err(E::custom(format!("{other:?} is no number"))),
                }
            }
        }

        deserializer.deserialize_any(Value)
    }
}
