//! Runs the exposition format tables of Prometheus' `model/textparse`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use model::{
    Count, Histogram, IntegerHistogram, LabelError, Labels, NORMAL_NAN_BITS, NativeHistogram,
    ResetHint, Span,
};
use serde_json::{Map, Value, json};
use wire::nhcb::Converter;
use wire::{
    Entry, Exemplar, HistogramSeries, Series, WireError, exposition, openmetrics,
    protobuf_exposition,
};

use crate::case::CaseResult;

/// Runs every table in `dir`, in the order of their names.
///
/// # Errors
/// A table that cannot be read or is not of the known shape.
pub(crate) fn run(dir: &Path) -> anyhow::Result<Vec<CaseResult>> {
    let mut results = Vec::new();
    for path in tables(dir)? {
        let text =
            std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        let table: Value =
            serde_json::from_str(&text).with_context(|| format!("parse {}", path.display()))?;
        run_table(&path, &text, &table, &mut results)
            .with_context(|| format!("run {}", path.display()))?;
    }
    Ok(results)
}

fn tables(dir: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(dir).with_context(|| format!("read {}", dir.display()))?;
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry.with_context(|| format!("read {}", dir.display()))?.path();
        if path.extension().is_some_and(|extension| extension == "json") {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

/// A table is one case, holds a list of them under `cases`, or one input with several expectations
/// under `scenarios`. A table of inputs for other tables has no expectations.
fn run_table(
    path: &Path,
    text: &str,
    table: &Value,
    results: &mut Vec<CaseResult>,
) -> anyhow::Result<()> {
    let source = table["source"].as_str().unwrap_or("table");
    if let Some(scenarios) = table.get("scenarios") {
        let scenarios = scenarios.as_array().context("`scenarios` is no list")?;
        return run_scenarios(path, source, table, scenarios, results);
    }
    let format = match table["format"].as_str() {
        Some("prom") => Format::Prometheus,
        Some("openmetrics") => Format::OpenMetrics,
        None if source.contains("NHCB") => Format::Converted,
        None if table.get("expected").is_none() => return Ok(()),
        other => bail!("format {other:?} is not known"),
    };
    let cases = match table.get("cases") {
        None => std::slice::from_ref(table),
        Some(cases) => cases.as_array().context("`cases` is no list")?.as_slice(),
    };
    let mut lines = text
        .lines()
        .enumerate()
        .filter(|(_, line)| line.trim_start().starts_with("\"input\""))
        .map(|(index, _)| index + 1);
    for (index, case) in cases.iter().enumerate() {
        let input = input(&case["input"])?;
        let outcome = match (case.get("expected"), case.get("err")) {
            (Some(expected), _) => check_entries(format, &input, expected),
            (None, Some(expected)) => {
                check_fault(format, &input, expected.as_str().context("`err` is no string")?)
            }
            (None, None) => bail!("case {index} expects nothing"),
        };
        let name = match case["name"].as_str() {
            Some(name) => format!("{source}: {name}"),
            None => format!("{source}, case {index}"),
        };
        let line = lines.next().unwrap_or(1);
        results.push(CaseResult { name, file: path.to_owned(), line, outcome });
    }
    Ok(())
}

/// The input lies beside the table, in protobuf; each scenario names the options it is read with.
fn run_scenarios(
    path: &Path,
    source: &str,
    table: &Value,
    scenarios: &[Value],
    results: &mut Vec<CaseResult>,
) -> anyhow::Result<()> {
    let stem = table["input"].as_str().context("`input` names no file")?;
    let file = path.with_file_name(format!("{stem}.bin"));
    let input = std::fs::read(&file).with_context(|| format!("read {}", file.display()))?;
    for scenario in scenarios {
        let name = scenario["name"].as_str().context("a scenario without a name")?;
        let is_on = |option: &str| name.split('/').any(|part| part == format!("{option}=true"));
        let options = protobuf_exposition::Options {
            keep_classic: is_on("parseClassicHistograms"),
            ignore_native: is_on("ignoreNativeHistograms"),
            type_and_unit_labels: is_on("enableTypeAndUnitLabels"),
        };
        let outcome = check_entries(Format::Protobuf(options), &input, &scenario["expected"]);
        let name = format!("{source}: {name}");
        results.push(CaseResult { name, file: path.to_owned(), line: 1, outcome });
    }
    Ok(())
}

fn input(value: &Value) -> anyhow::Result<Vec<u8>> {
    if let Some(text) = value.as_str() {
        return Ok(text.as_bytes().to_vec());
    }
    let encoded = value["base64"].as_str().context("`input` is neither a string nor base64")?;
    base64(encoded).context("`input` is not base64")
}

/// RFC 4648 with padding.
fn base64(encoded: &str) -> Option<Vec<u8>> {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = Vec::new();
    let (mut bits, mut count) = (0_u32, 0);
    for byte in encoded.trim_end_matches('=').bytes() {
        let digit = ALPHABET.iter().position(|&candidate| candidate == byte)?;
        bits = bits << 6 | digit as u32;
        count += 6;
        if count >= 8 {
            count -= 8;
            out.push((bits >> count) as u8);
        }
    }
    Some(out)
}

#[derive(Debug, Clone, Copy)]
enum Format {
    Prometheus,
    OpenMetrics,
    /// OpenMetrics whose classic histograms are converted.
    Converted,
    Protobuf(protobuf_exposition::Options),
}

/// All entries as the tables write them; on a fault also what came before it is given.
fn parse(format: Format, input: &[u8]) -> (Vec<Value>, Result<(), WireError>) {
    let mut entries = Vec::new();
    let result = match format {
        Format::Prometheus => {
            let mut parser = exposition::Parser::new(input);
            collect(&mut entries, |take| parser.next_entry().map(|entry| entry.map(take)))
        }
        Format::OpenMetrics => {
            let mut parser = openmetrics::Parser::new(input).fold_created();
            collect(&mut entries, |take| parser.next_entry().map(|entry| entry.map(take)))
        }
        Format::Converted => convert(input, &mut entries),
        Format::Protobuf(options) => {
            let mut parser = protobuf_exposition::Parser::new(input, options);
            collect(&mut entries, |take| parser.next_entry().map(|entry| entry.map(take)))
        }
    };
    (entries, result)
}

fn collect(
    entries: &mut Vec<Value>,
    mut next: impl FnMut(fn(Entry<'_>) -> Value) -> Result<Option<Value>, WireError>,
) -> Result<(), WireError> {
    while let Some(entry) = next(entry_value)? {
        entries.push(entry);
    }
    Ok(())
}

fn convert(input: &[u8], entries: &mut Vec<Value>) -> Result<(), WireError> {
    let mut parser = openmetrics::Parser::new(input).fold_created();
    let mut converter = Converter::new(false);
    let mut keep = |entry: Entry<'_>| {
        entries.push(entry_value(entry));
        Ok(())
    };
    while let Some(entry) = parser.next_entry()? {
        converter.push(entry, &mut keep)?;
    }
    converter.finish(keep)
}

fn entry_value(entry: Entry<'_>) -> Value {
    match entry {
        Entry::Help { metric, text } => json!({"m": metric, "help": text}),
        Entry::Type { metric, kind } => json!({"m": metric, "typ": kind.as_str()}),
        Entry::Unit { metric, unit } => json!({"m": metric, "unit": unit}),
        Entry::Comment(text) => json!({"comment": String::from_utf8_lossy(text)}),
        Entry::Series(series) => series_value(&series),
        Entry::Histogram(series) => histogram_value(&series),
    }
}

fn series_value(series: &Series<'_>) -> Value {
    let mut out = Map::new();
    out.insert("m".to_owned(), name_value(series.as_written()));
    out.insert("v".to_owned(), float_value(series.value));
    let times = (series.timestamp_ms, series.start_timestamp_ms);
    put_common(&mut out, series.labels(), times, series.exemplar.as_slice());
    Value::Object(out)
}

fn histogram_value(series: &HistogramSeries<'_>) -> Value {
    let mut out = Map::new();
    out.insert("m".to_owned(), name_value(series.as_written()));
    let (key, value) = match &series.histogram {
        Histogram::Integer(histogram) => {
            let deltas =
                |counts: &[u64]| json!(IntegerHistogram::to_deltas(counts).collect::<Vec<_>>());
            let sides = (deltas(&histogram.positive), deltas(&histogram.negative));
            ("shs", buckets_value(histogram, sides))
        }
        Histogram::Float(histogram) => {
            let sides = (json!(histogram.positive), json!(histogram.negative));
            ("fhs", buckets_value(histogram, sides))
        }
    };
    out.insert(key.to_owned(), value);
    let times = (series.timestamp_ms, series.start_timestamp_ms);
    let exemplars: Vec<_> = series.exemplars().collect();
    put_common(&mut out, series.labels(), times, &exemplars);
    Value::Object(out)
}

/// A histogram as Go's structure of it is named; what is zero or empty may be left out.
fn buckets_value<N: Count + Into<Value>>(
    histogram: &NativeHistogram<N>,
    (positive, negative): (Value, Value),
) -> Value {
    let layout = &histogram.layout;
    let spans = |spans: &[Span]| -> Value {
        spans.iter().map(|span| json!({"Offset": span.offset, "Length": span.len})).collect()
    };
    let mut out = json!({
        "Count": histogram.count.into(),
        "ZeroCount": histogram.zero_count.into(),
        "Sum": float_value(histogram.sum),
        "ZeroThreshold": layout.zero_threshold,
        "Schema": layout.schema,
        "PositiveSpans": spans(&layout.positive),
        "NegativeSpans": spans(&layout.negative),
        "PositiveBuckets": positive,
        "NegativeBuckets": negative,
        "CustomValues": layout.custom_bounds,
    });
    if layout.is_custom() {
        out["Schema"] = json!("<histogram.CustomBucketsSchema>");
    }
    out["CounterResetHint"] = json!(match histogram.reset_hint {
        ResetHint::Unknown => "<histogram.UnknownCounterReset>",
        ResetHint::Reset => "<histogram.CounterReset>",
        ResetHint::NoReset => "<histogram.NotCounterReset>",
        ResetHint::Gauge => "<histogram.GaugeType>",
    });
    out
}

/// Labels, times and exemplars.
fn put_common(
    out: &mut Map<String, Value>,
    labels: Result<Labels, LabelError>,
    (timestamp_ms, start_timestamp_ms): (Option<i64>, Option<i64>),
    exemplars: &[Exemplar<'_>],
) {
    let shown = |labels: Result<Labels, LabelError>| match labels {
        Ok(labels) => labels_value(&labels),
        Err(error) => json!(error.to_string()),
    };
    out.insert("lset".to_owned(), shown(labels));
    if let Some(t_ms) = timestamp_ms {
        out.insert("t".to_owned(), json!(t_ms));
    }
    if let Some(t_ms) = start_timestamp_ms {
        out.insert("st".to_owned(), json!(t_ms));
    }
    let exemplar = |exemplar: &Exemplar<'_>| {
        let mut value = Map::new();
        value.insert("Labels".to_owned(), shown(exemplar.labels()));
        value.insert("Value".to_owned(), float_value(exemplar.value));
        if let Some(t_ms) = exemplar.timestamp_ms {
            value.insert("HasTs".to_owned(), json!(true));
            value.insert("Ts".to_owned(), json!(t_ms));
        }
        Value::Object(value)
    };
    if !exemplars.is_empty() {
        out.insert("es".to_owned(), exemplars.iter().map(exemplar).collect());
    }
}

/// What names a series. In protobuf labels have no order, so they are sorted.
fn name_value(as_written: &[u8]) -> Value {
    const SEPARATOR: u8 = 0xff;
    let mut parts = as_written.split(|byte| *byte == SEPARATOR);
    let name = parts.next().unwrap_or_default();
    let parts: Vec<_> = parts.collect();
    let mut pairs: Vec<_> = parts.chunks(2).collect();
    pairs.sort();
    let mut out = String::from_utf8_lossy(name).into_owned();
    for part in pairs.into_iter().flatten() {
        out.push('\u{fffd}');
        out.push_str(&String::from_utf8_lossy(part));
    }
    json!(out)
}

fn labels_value(labels: &Labels) -> Value {
    json!(labels.iter().collect::<BTreeMap<_, _>>())
}

/// Floats JSON has no form for are strings, as in the tables.
fn float_value(value: f64) -> Value {
    if value.to_bits() == NORMAL_NAN_BITS {
        return json!("<<value.NormalNaN>>");
    }
    if value.is_finite() { json!(value) } else { json!(value.to_string()) }
}

fn check_entries(format: Format, input: &[u8], expected: &Value) -> Result<(), String> {
    let (found, result) = parse(format, input);
    if let Err(error) = result {
        return Err(format!("must parse, but: {error}"));
    }
    let expected = expected.as_array().ok_or("`expected` is no list")?;
    for (index, want) in expected.iter().enumerate() {
        let got = found.get(index).ok_or_else(|| format!("entry {index} is missing: {want}"))?;
        if !entry_matches(want, got) {
            return Err(format!("entry {index}\nwant {want}\ngot  {got}"));
        }
    }
    match found.get(expected.len()) {
        Some(extra) => Err(format!("one entry too many: {extra}")),
        None => Ok(()),
    }
}

/// A table leaves a field out where its value is Go's zero, or where it does not look at it.
fn entry_matches(want: &Value, got: &Value) -> bool {
    let (Some(want), Some(got)) = (want.as_object(), got.as_object()) else { return false };
    let fits = |key: &str, want: &Value| match (key, got.get(key)) {
        ("m", got) => got == Some(&wanted_name(want)),
        ("lset", Some(got)) => without_empty(want) == *got,
        ("es", Some(got)) => exemplars_match(want, got),
        ("shs" | "fhs", Some(got)) => histograms_match(want, got),
        (_, got) => is_same(Some(want), got),
    };
    want.iter().all(|(key, value)| fits(key, value))
        && got.iter().all(|(key, _)| want.contains_key(key) || matches!(key.as_str(), "v" | "lset"))
}

/// Whether two values are the same, or both are Go's zero.
fn is_same(want: Option<&Value>, got: Option<&Value>) -> bool {
    let is_zero = |value: Option<&Value>| match value {
        None => true,
        Some(Value::Number(number)) => number.as_f64() == Some(0.0),
        Some(Value::Array(list)) => list.is_empty(),
        Some(Value::String(text)) => text == "<histogram.UnknownCounterReset>",
        _ => false,
    };
    match (want, got) {
        (Some(Value::Number(a)), Some(Value::Number(b))) => a.as_f64() == b.as_f64(),
        (Some(Value::Array(a)), Some(Value::Array(b))) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| is_same(Some(a), Some(b)))
        }
        (want, got) => want == got || (is_zero(want) && is_zero(got)),
    }
}

fn histograms_match(want: &Value, got: &Value) -> bool {
    let (Some(want), Some(got)) = (want.as_object(), got.as_object()) else { return false };
    want.keys().chain(got.keys()).all(|key| is_same(want.get(key), got.get(key)))
}

/// Names that are no text are base64 in the tables.
fn wanted_name(value: &Value) -> Value {
    let bytes = value["base64"].as_str().and_then(base64);
    bytes.map_or_else(|| value.clone(), |bytes| name_value(&bytes))
}

/// A label without a value is no label.
fn without_empty(labels: &Value) -> Value {
    let labels = labels.as_object().into_iter().flatten();
    Value::Object(labels.filter(|(_, v)| *v != "").map(|(n, v)| (n.clone(), v.clone())).collect())
}

fn exemplars_match(want: &Value, got: &Value) -> bool {
    let (Some(want), Some(got)) = (want.as_array(), got.as_array()) else { return false };
    want.len() == got.len()
        && want.iter().zip(got).all(|(want, got)| {
            let number = |value: &Value, key: &str| value[key].as_f64().unwrap_or(0.0);
            want["Labels"] == got["Labels"]
                && number(want, "Value") == number(got, "Value")
                && number(want, "Ts") == number(got, "Ts")
        })
}

/// An empty expectation and `EOF` mean that the input must parse.
fn check_fault(format: Format, input: &[u8], expected: &str) -> Result<(), String> {
    let (_, result) = parse(format, input);
    let message = match result {
        Ok(()) => String::new(),
        Err(WireError::Text { message, .. }) => message,
        Err(other) => other.to_string(),
    };
    let expected = if expected == "EOF" { "" } else { expected };
    if message == expected {
        return Ok(());
    }
    let shown = |message: &str| match message {
        "" => "(parses)".to_owned(),
        message => message.to_owned(),
    };
    Err(format!("want {}\ngot  {}", shown(expected), shown(&message)))
}
