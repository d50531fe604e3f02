//! Parquet files that are exported come back, also as other programs write them again.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};

use super::export::lines;
use crate::harness::{Client, Launch, Scratch};

const IMPORT: &str = "/api/v1/import/parquet";

/// Writes what it has read in other ways, each with names of its own; prints them.
const WRITE_AGAIN: &str = r#"
import sys
import pyarrow as pa
import pyarrow.compute as compute
import pyarrow.parquet as parquet

table = parquet.read_table(sys.argv[1])

def put(column, values):
    return again.set_column(again.schema.get_field_index(column), column, values)

def pairs():
    kind = pa.list_(pa.list_(pa.string()))
    return pa.array([[list(pair) for pair in row] for row in table["labels"].to_pylist()], kind)

def fields():
    rows = [dict(row) for row in table["labels"].to_pylist()]
    return pa.array(rows, pa.struct([(n, pa.string()) for n in sorted(set().union(*rows))]))

plain = {"name": "DELTA_LENGTH_BYTE_ARRAY", "labels.key_value.key": "PLAIN",
    "labels.key_value.value": "DELTA_LENGTH_BYTE_ARRAY", "timestamp": "DELTA_BINARY_PACKED",
    "value": "BYTE_STREAM_SPLIT"}
ways = {
    "defaults": ({}, {}),
    "gzip_two": ({}, {"compression": "gzip", "data_page_version": "2.0"}),
    "zstd_groups": ({}, {"compression": "zstd", "row_group_size": 777, "data_page_size": 500}),
    "none_plain": ({}, {"compression": "none", "use_dictionary": False, "data_page_size": 300}),
    "deltas": ({}, {"use_dictionary": False, "column_encoding": plain, "data_page_version": "2.0"}),
    "int96": ({}, {"use_deprecated_int96_timestamps": True, "version": "1.0"}),
    "micro": ({"timestamp": pa.timestamp("us")}, {"version": "1.0"}),
    "nano": ({"timestamp": pa.timestamp("ns", tz="UTC")}, {}),
    "number": ({"timestamp": pa.int64()}, {"write_batch_size": 3, "data_page_size": 100}),
    "pairs": ({"labels": pairs}, {}),
    "fields": ({"labels": fields}, {"data_page_version": "2.0"}),
}
for way, (columns, options) in ways.items():
    again = table.sort_by([("timestamp", "ascending")]) if way == "zstd_groups" else table
    again = put("name", compute.binary_join_element_wise(again["name"], way, "_"))
    for column, kind in columns.items():
        again = put(column, kind() if callable(kind) else again[column].cast(kind))
    if way == "micro":
        again = again.select(["value", "labels", "timestamp", "name"])
    parquet.write_table(again, f"{sys.argv[2]}/{way}.parquet", **options)
    print(way)
wrong = {
    "extra": table.append_column("host", table["name"]),
    "lacking": table.drop_columns(["value"]),
    "seconds": table.set_column(2, "timestamp", table["timestamp"].cast(pa.int64()).cast(pa.float64())),
    "brotli": table,
}
prefixes = {"use_dictionary": False, "column_encoding": {"name": "DELTA_BYTE_ARRAY"}}
parquet.write_table(table, f"{sys.argv[2]}/prefixes.parquet", **prefixes)
for way, other in wrong.items():
    codec = "brotli" if way == "brotli" else "snappy"
    parquet.write_table(other, f"{sys.argv[2]}/{way}.parquet", compression=codec)
"#;

/// A file that `client` exports, which `exported` tells as lines.
pub(super) fn comes_back(
    client: Client,
    exported: &BTreeSet<String>,
    scratch: &Scratch,
) -> Result<usize> {
    let matched = "match[]=exported&match[]=special";
    let answer = client.get(&format!("/api/v1/export?format=parquet&{matched}"))?;
    ensure!(answer.status == 200, "{}", answer.text());
    let server = Launch::broker(&scratch.join("of-parquet")).start()?;
    let copy = server.client();
    let headers = [("Content-Type", "application/vnd.apache.parquet")];
    let stored = copy.post("/api/v1/import", &headers, &answer.body)?;
    ensure!(stored.status == 204, "{} {}", stored.status, stored.text());
    let copied = lines(copy, &format!("/api/v1/export?{matched}"))?;
    let floats = exported.iter().filter(|line| line.contains("\"values\""));
    // Parquet holds no staleness marker; `special` ends with one.
    let wanted: BTreeSet<String> = floats.map(|line| without_marker(line)).collect();
    ensure!(copied == wanted && copied.len() > 40, "{} lines of {}", copied.len(), wanted.len());

    let file = scratch.join("of-parquet.parquet");
    std::fs::write(&file, &answer.body)?;
    let arguments = [file.display().to_string(), scratch.path().display().to_string()];
    let ways = super::python::run(WRITE_AGAIN, &arguments)?;
    let body = |way: &str| {
        let path = scratch.join(&format!("{way}.parquet"));
        std::fs::read(&path).with_context(|| format!("read {}", path.display()))
    };
    for way in ways.lines() {
        let stored = copy.post(IMPORT, &[], &body(way)?)?;
        ensure!(stored.status == 204, "{way}: {} {}", stored.status, stored.text());
        let all = format!("/api/v1/export?match[]=%7B__name__=~%22.*_{way}%22%7D");
        let renamed: BTreeSet<String> =
            lines(copy, &all)?.iter().map(|line| line.replace(&format!("_{way}"), "")).collect();
        ensure!(renamed == wanted, "{way}: {} lines of {}", renamed.len(), wanted.len());
    }
    for (way, told) in [
        ("extra", "no place for the column \\\"host\\\"; leave it out or put it into labels"),
        ("lacking", "there is no column \\\"value\\\""),
        ("seconds", "the column \\\"timestamp\\\" is neither a timestamp"),
        (
            "prefixes",
            "written in DELTA_BYTE_ARRAY (7), which is not read; use dictionaries or PLAIN",
        ),
        ("brotli", "compressed with BROTLI; write it with snappy, gzip, zstd or none"),
    ] {
        let refused = copy.post(IMPORT, &[], &body(way)?)?;
        let text = refused.text();
        ensure!(refused.status == 400 && text.contains(told), "{way}: {} {text}", refused.status);
    }
    let cut = &answer.body[..answer.body.len() / 2];
    let refused = copy.post(IMPORT, &[], cut)?;
    ensure!(refused.status == 400 && refused.text().contains("cut off"), "{}", refused.text());
    Ok(ways.lines().count())
}

fn without_marker(line: &str) -> String {
    let Some((front, times)) = line.split_once(",null],\"timestamps\":[") else {
        return line.to_owned();
    };
    let times = times.rsplit_once(',').map_or("", |(times, _)| times);
    format!("{front}],\"timestamps\":[{times}]}}")
}
