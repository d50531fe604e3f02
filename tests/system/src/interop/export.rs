//! What is exported can be imported: by us without a loss, by VictoriaMetrics, and back.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};

use super::peer::VictoriaMetrics;
use crate::harness::{Client, Launch, Scratch, WriteBody, now_ms};

const SERIES: i64 = 40;
const SAMPLES: i64 = 500;
const STALE_NAN: u64 = 0x7ff0_0000_0000_0002;

/// Lines, sorted: series come in no particular order.
pub(super) fn lines(client: Client, target: &str) -> Result<BTreeSet<String>> {
    let answer = client.get(target)?;
    ensure!(answer.status == 200, "{target}: {} {}", answer.status, answer.text());
    Ok(answer.text().lines().map(str::to_owned).collect())
}

fn take(client: Client, target: &str, lines: &BTreeSet<String>) -> Result<()> {
    let body: String = lines.iter().map(|line| format!("{line}\n")).collect();
    let answer = client.post(target, &[], body.as_bytes())?;
    ensure!(answer.status == 204, "{target}: {} {}", answer.status, answer.text());
    Ok(())
}

pub(super) fn exports_come_back(scratch: &Scratch) -> Result<String> {
    // All at once so that some of it is in blocks and some in the head.
    let config = "storage:\n  flush_interval: 500ms\n";
    let first = Launch::broker(&scratch.join("first")).config(config).start()?;
    let second = Launch::broker(&scratch.join("second")).start()?;
    let (ours, copy) = (first.client(), second.client());
    let start = now_ms() - 3_600_000;
    let mut body = WriteBody::new();
    for series in 0..SERIES {
        // Values whose last bit a careless reader loses.
        let value = |step: i64| ((series * SAMPLES + step) as f64).sqrt() / 3.0;
        let samples: Vec<_> = (0..SAMPLES).map(|s| (start + s * 5_000 + s % 7, value(s))).collect();
        let number = series.to_string();
        body =
            body.series(&[("__name__", "exported"), ("n", &number), ("q", "a\"b\\c\n")], &samples);
    }
    let special = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -0.0, f64::from_bits(STALE_NAN)];
    let special: Vec<_> = special.into_iter().zip(0..).map(|(v, n)| (start + n, v)).collect();
    let histograms: Vec<_> = (0..20).map(|n| (start + n * 1_000, vec![n, n * 2, 0, 5])).collect();
    let body = body
        .series(&[("__name__", "special")], &special)
        .histograms(&[("__name__", "seconds")], &histograms);
    let answer = ours.write(&body.snappy())?;
    ensure!(answer.status == 204, "{} {}", answer.status, answer.text());
    std::thread::sleep(std::time::Duration::from_millis(700));

    let all = "/api/v1/export?match[]=%7B__name__=~%22.%2B%22%7D&match[]=special";
    let exported = lines(ours, all)?;
    ensure!(exported.len() as i64 == SERIES + 2, "{} lines", exported.len());
    take(copy, "/api/v1/import", &exported)?;
    // Which empty buckets a histogram lists depends on its neighbours in memory and in blocks.
    let floats = |lines: &BTreeSet<String>| -> BTreeSet<String> {
        lines.iter().filter(|line| line.contains("\"values\"")).cloned().collect()
    };
    let copied = lines(copy, all)?;
    ensure!(floats(&copied) == floats(&exported), "the copy differs");
    let histograms = [("query", "seconds[2h]")];
    let (a, b) =
        (ours.data("/api/v1/query", &histograms)?, copy.data("/api/v1/query", &histograms)?);
    ensure!(a == b && a.to_string().len() > 1_000, "{a} is not {b}");
    let bits = "exported{n=\"7\"}[2h]";
    let (a, b) = (samples(ours, bits)?, samples(copy, bits)?);
    ensure!(a == b && a.len() as i64 == SAMPLES, "{} and {} samples", a.len(), b.len());

    // A part, as text and as CSV.
    let part = format!("match[]=exported%7Bn=%227%22%7D&start={}", start as f64 / 1e3 + 2_400.0);
    let text = lines(ours, &format!("/api/v1/export?format=prometheus&{part}"))?;
    let csv = "format=__name__,n,__value__,__timestamp__:unix_ms";
    let rows = lines(ours, &format!("/api/v1/export/csv?{csv}&{part}"))?;
    ensure!(text.len() == 20 && rows.len() == 20, "{} and {} samples", text.len(), rows.len());
    let third = Launch::broker(&scratch.join("third")).start()?;
    take(third.client(), "/api/v1/import/prometheus", &text)?;
    let format = "2:label:n,3:metric:exported_csv,4:time:unix_ms";
    take(third.client(), &format!("/api/v1/import/csv?format={format}"), &rows)?;
    let sums = samples(third.client(), "sum_over_time(exported[2h])")?;
    ensure!(!sums.is_empty(), "nothing came of the text");
    let csv_sums = samples(third.client(), "sum_over_time(exported_csv[2h])")?;
    ensure!(sums == csv_sums, "{sums:?} by text, {csv_sums:?} by CSV");
    for (target, status) in [
        ("/api/v1/export", 400),
        ("/api/v1/export?match[]=a&format=orc", 400),
        ("/api/v1/export/csv?match[]=a", 400),
    ] {
        let answer = ours.get(target)?;
        ensure!(answer.status == status, "{target}: {} {}", answer.status, answer.text());
    }

    let rows = parquet_holds_the_same(ours, scratch)?;
    let ways = super::parquet::comes_back(ours, &exported, scratch)?;

    // Through VictoriaMetrics, which rounds: what it gives back stays as it is.
    let theirs = VictoriaMetrics::start(scratch)?;
    let floats: BTreeSet<String> =
        exported.into_iter().filter(|line| line.contains("\"exported\"")).collect();
    take(theirs.client, "/api/v1/import", &floats)?;
    theirs.client.get("/internal/force_flush")?;
    let theirs_all = "/api/v1/export?match[]=exported";
    let given = lines(theirs.client, theirs_all)?;
    ensure!(given.len() as i64 == SERIES, "VictoriaMetrics exports {} lines", given.len());
    let back = Launch::broker(&scratch.join("back")).start()?;
    take(back.client(), "/api/v1/import", &given)?;
    let (a, b) = (parsed(&given)?, parsed(&lines(back.client(), theirs_all)?)?);
    ensure!(a == b, "what came of VictoriaMetrics' lines is not what they say");
    Ok(format!(
        "{} lines copied, {} through VictoriaMetrics, {rows} rows read by pyarrow and written again \
         in {ways} ways",
        SERIES + 2,
        given.len()
    ))
}

/// Reads a file as lines of name, labels, milliseconds and the bits of the value.
const READ_PARQUET: &str = r#"
import struct, sys
import pyarrow.parquet as parquet
table = parquet.read_table(sys.argv[1])
print(table.schema.field("timestamp").type, table.schema.field("value").type)
for row in table.to_pylist():
    labels = ",".join(f"{name}={value!r}" for name, value in sorted(row["labels"]))
    ms = round(row["timestamp"].timestamp() * 1000)
    bits = struct.unpack("<Q", struct.pack("<d", row["value"]))[0]
    print(f"{row['name']} {labels} {ms} {bits:x}")
"#;

/// Apache Arrow reads from the Parquet export what the JSON lines say.
fn parquet_holds_the_same(client: Client, scratch: &Scratch) -> Result<usize> {
    let matched = "match[]=exported&match[]=special";
    let answer = client.get(&format!("/api/v1/export?format=parquet&{matched}"))?;
    ensure!(answer.status == 200, "{}", answer.text());
    let file = scratch.join("export.parquet");
    std::fs::write(&file, &answer.body)?;
    let told = super::python::run(READ_PARQUET, &[file.display().to_string()])?;
    let mut read = told.lines();
    let types = read.next().context("no types")?;
    ensure!(types == "timestamp[ms, tz=UTC] double", "{types}");
    let read: BTreeSet<String> = read.map(str::to_owned).collect();
    let mut wanted = BTreeSet::new();
    for line in lines(client, &format!("/api/v1/export?{matched}"))? {
        let line: serde_json::Value = serde_json::from_str(&line)?;
        let metric = line["metric"].as_object().context("no labels")?;
        let name = metric["__name__"].as_str().context("no name")?;
        let labels = match metric.get("n").and_then(|value| value.as_str()) {
            Some(n) => format!(r#"n='{n}',q='a"b\\c\n'"#),
            None => String::new(),
        };
        let times = line["timestamps"].as_array().context("no times")?;
        for (t_ms, value) in times.iter().zip(line["values"].as_array().context("no values")?) {
            let value = match value.as_str() {
                _ if value.is_null() => continue,
                Some("NaN") => f64::NAN,
                Some("Infinity") => f64::INFINITY,
                Some("-Infinity") => f64::NEG_INFINITY,
                _ => value.as_f64().context("a number")?,
            };
            wanted.insert(format!("{name} {labels} {t_ms} {:x}", value.to_bits()));
        }
    }
    let different: Vec<_> = wanted.symmetric_difference(&read).take(4).collect();
    ensure!(different.is_empty() && read.len() > 10_000, "{different:?} of {}", read.len());
    Ok(read.len())
}

/// Lines as values, so that `1.0` is `1`; labels with the samples' bits.
fn parsed(lines: &BTreeSet<String>) -> Result<BTreeSet<String>> {
    let parse = |line: &String| -> Result<String> {
        let line: serde_json::Value = serde_json::from_str(line)?;
        let values = line["values"].as_array().context("values")?;
        let bits: Option<Vec<u64>> =
            values.iter().map(|value| value.as_f64().map(f64::to_bits)).collect();
        Ok(format!("{} {:?} {}", line["metric"], bits.context("numbers")?, line["timestamps"]))
    };
    lines.iter().map(parse).collect()
}

/// All values of a query's answer, as they are written.
fn samples(client: Client, query: &str) -> Result<Vec<String>> {
    let data = client.data("/api/v1/query", &[("query", query)])?;
    let rows = data["result"].as_array().context("result")?;
    let value = |sample: &serde_json::Value| sample[1].to_string();
    Ok(rows
        .iter()
        .flat_map(|row| match row["values"].as_array() {
            Some(values) => values.iter().map(value).collect::<Vec<_>>(),
            None => vec![value(&row["value"])],
        })
        .collect())
}
