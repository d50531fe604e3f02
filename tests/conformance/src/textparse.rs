//! Runs the exposition format tables of Prometheus' `model/textparse`.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use model::{Labels, NORMAL_NAN_BITS};
use serde_json::{Map, Value, json};
use wire::{Entry, Series, WireError, exposition, openmetrics};

use crate::case::CaseResult;

/// Tables whose input is the protobuf exposition, or whose output is native histograms.
const NOT_SUPPORTED_YET: [&str; 2] = ["Protobuf", "NHCB"];

/// Runs every table in `dir`, in the order of their names, and tells which are not run.
///
/// # Errors
/// A table that cannot be read or is not of the known shape.
pub(crate) fn run(dir: &Path) -> anyhow::Result<Vec<CaseResult>> {
    let mut results = Vec::new();
    let mut not_run = 0;
    for path in tables(dir)? {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
        let name = name.unwrap_or_default();
        let text =
            std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        let table: Value =
            serde_json::from_str(&text).with_context(|| format!("parse {}", path.display()))?;
        if NOT_SUPPORTED_YET.iter().any(|word| name.contains(word)) {
            not_run += cases_in(&table);
            continue;
        }
        // A table of inputs for other tables, without expectations of its own.
        if table.get("format").is_none() {
            continue;
        }
        run_table(&path, &text, &table, &mut results)
            .with_context(|| format!("run {}", path.display()))?;
    }
    writeln!(io::stdout(), "{not_run} not run: protobuf exposition is not supported yet")
        .context("write the report")?;
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

fn cases_in(table: &Value) -> usize {
    table.get("cases").and_then(Value::as_array).map_or(1, Vec::len)
}

/// A table is one case, or holds a list of them under `cases`.
fn run_table(
    path: &Path,
    text: &str,
    table: &Value,
    results: &mut Vec<CaseResult>,
) -> anyhow::Result<()> {
    let format = match table["format"].as_str() {
        Some("prom") => Format::Prometheus,
        Some("openmetrics") => Format::OpenMetrics,
        other => bail!("format {other:?} is neither \"prom\" nor \"openmetrics\""),
    };
    let source = table["source"].as_str().unwrap_or("table");
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

fn entry_value(entry: Entry<'_>) -> Value {
    match entry {
        Entry::Help { metric, text } => json!({"m": metric, "help": text}),
        Entry::Type { metric, kind } => json!({"m": metric, "typ": kind.as_str()}),
        Entry::Unit { metric, unit } => json!({"m": metric, "unit": unit}),
        Entry::Comment(text) => json!({"comment": String::from_utf8_lossy(text)}),
        Entry::Series(series) => series_value(&series),
    }
}

fn series_value(series: &Series<'_>) -> Value {
    let mut out = Map::new();
    out.insert("m".to_owned(), json!(String::from_utf8_lossy(series.as_written())));
    out.insert("v".to_owned(), float_value(series.value));
    match series.labels() {
        Ok(labels) => out.insert("lset".to_owned(), labels_value(&labels)),
        Err(error) => out.insert("lset".to_owned(), json!(error.to_string())),
    };
    if let Some(t_ms) = series.timestamp_ms {
        out.insert("t".to_owned(), json!(t_ms));
    }
    if let Some(t_ms) = series.start_timestamp_ms {
        out.insert("st".to_owned(), json!(t_ms));
    }
    if let Some(exemplar) = &series.exemplar {
        let mut value = Map::new();
        match exemplar.labels() {
            Ok(labels) => value.insert("Labels".to_owned(), labels_value(&labels)),
            Err(error) => value.insert("Labels".to_owned(), json!(error.to_string())),
        };
        value.insert("Value".to_owned(), float_value(exemplar.value));
        if let Some(t_ms) = exemplar.timestamp_ms {
            value.insert("HasTs".to_owned(), json!(true));
            value.insert("Ts".to_owned(), json!(t_ms));
        }
        out.insert("es".to_owned(), json!([value]));
    }
    Value::Object(out)
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
    let fits = |key: &str, want: &Value| match (want, got.get(key)) {
        (Value::Number(a), Some(Value::Number(b))) => a.as_f64() == b.as_f64(),
        (Value::Number(a), None) => a.as_f64() == Some(0.0),
        (want, Some(got)) if key == "es" => exemplars_match(want, got),
        (want, got) => got == Some(want),
    };
    want.iter().all(|(key, value)| fits(key, value))
        && got.iter().all(|(key, _)| want.contains_key(key) || matches!(key.as_str(), "v" | "lset"))
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
