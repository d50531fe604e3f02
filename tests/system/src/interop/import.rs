//! `watchfire import prometheus` over blocks that real programs wrote: promtool's out of
//! OpenMetrics, and a snapshot of a Prometheus with native histograms and deleted series.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::peer::Scraper;
use crate::harness::process::binary;
use crate::harness::{Client, Launch, Scratch, WriteBody, now_ms};

/// Series that promtool writes, and samples of each.
const SERIES: i64 = 40;
const SAMPLES: i64 = 700;

pub(super) fn blocks_are_imported(scratch: &Scratch) -> Result<String> {
    let server = Launch::broker(&scratch.join("data")).start()?;
    let ours = server.client();
    let blocks = scratch.join("blocks");
    let start = now_ms() / 1_000 - 20 * 3_600;
    write_blocks(scratch, &blocks, start)?;
    let told = import(&ours, &["--dry-run"], &blocks)?;
    ensure!(told.contains("28 k samples"), "{told}");
    ensure!(count(&ours, "count_over_time(backfill[2d])")? == 0, "a dry run sent something");
    // One series first, then all of them: what is there already is recognised.
    let told = import(&ours, &["--match", r#"backfill{n="7"}"#], &blocks)?;
    ensure!(told.contains("imported 700 samples"), "{told}");
    for _ in 0..2 {
        let told = import(&ours, &[], &blocks)?;
        ensure!(told.contains(&format!("imported {} samples", SERIES * SAMPLES)), "{told}");
        let found = count(&ours, "sum(count_over_time(backfill[2d]))")?;
        ensure!(found == SERIES * SAMPLES, "{found} samples");
    }
    let form = [("query", r#"backfill{n="3",text="a \"b\"\n"}"#)];
    let at = (start + 60 * 100).to_string();
    let data = ours.data("/api/v1/query", &[form[0], ("time", &at)])?;
    ensure!(data["result"][0]["value"][1] == "300.25", "{data}");
    let told = from_a_snapshot(scratch, &ours)?;
    server.stop()?;
    Ok(told)
}

/// A day of data as OpenMetrics, made into blocks by promtool.
fn write_blocks(scratch: &Scratch, blocks: &Path, start: i64) -> Result<()> {
    let mut page = "# TYPE backfill gauge\n".to_owned();
    for n in 0..SERIES {
        for step in 0..SAMPLES {
            let value = (n * step) as f64 + 0.25;
            writeln!(
                page,
                "backfill{{n=\"{n}\",text=\"a \\\"b\\\"\\n\"}} {value} {}",
                start + step * 60
            )?;
        }
    }
    page.push_str("# EOF\n");
    let file = scratch.join("page.om");
    std::fs::write(&file, page)?;
    let output = Command::new("promtool")
        .args(["tsdb", "create-blocks-from", "openmetrics"])
        .arg(&file)
        .arg(blocks)
        .output()
        .context("start promtool")?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

/// Histograms, floats, and a series that was deleted, out of a running Prometheus.
fn from_a_snapshot(scratch: &Scratch, ours: &Client) -> Result<String> {
    let file = scratch.join("empty.yml");
    std::fs::write(&file, "global: {}\n")?;
    let flags = [
        "--web.enable-remote-write-receiver",
        "--web.enable-admin-api",
        "--enable-feature=native-histograms",
    ];
    let prometheus = Scraper::with(scratch, &file.display().to_string(), &flags)?;
    let theirs = prometheus.client;
    let first = now_ms() - 3_600_000;
    let times = (0..300).map(|step| first + step * 10_000 + step % 7);
    // It starts again twice, and jumps once.
    let counted = |step: i64| step % 120 * if step > 200 { 1_000_003 } else { 3 };
    let counts = |step| vec![counted(step), 0, counted(step) * 2, 1];
    let rows: Vec<(i64, Vec<i64>)> = times.clone().zip(0..).map(|(t, i)| (t, counts(i))).collect();
    let floats: Vec<(i64, f64)> =
        times.zip(0..).map(|(t, i): (i64, i32)| (t, f64::from(i) / 3.0)).collect();
    let body = WriteBody::new()
        .histograms(&[("__name__", "snapped_seconds")], &rows)
        .series(&[("__name__", "snapped"), ("n", "1")], &floats)
        .series(&[("__name__", "snapped"), ("n", "2")], &floats);
    let answer = theirs.write(&body.snappy())?;
    ensure!(answer.status == 204, "Prometheus answered {}: {}", answer.status, answer.text());
    let answer =
        theirs.post("/api/v1/admin/tsdb/delete_series?match[]=snapped%7Bn=%222%22%7D", &[], &[])?;
    ensure!(answer.status == 204, "{}", answer.text());
    let snapshot = theirs.post("/api/v1/admin/tsdb/snapshot", &[], &[])?;
    let snapshot: Value = serde_json::from_slice(&snapshot.body)?;
    let name = snapshot["data"]["name"].as_str().context("a snapshot's name")?;
    let directory = scratch.join("prometheus").join("snapshots").join(name);
    let told = import(ours, &[], &directory)?;
    ensure!(told.contains("imported 600 samples"), "{told}");
    let mut compared = 0;
    for step in [0, 1, 119, 120, 121, 200, 201, 299] {
        let at = ((first + step * 10_000 + 500) as f64 / 1_000.0).to_string();
        for query in [
            "snapped",
            "histogram_count(snapped_seconds)",
            "histogram_sum(snapped_seconds)",
            "histogram_count(snapped_seconds) * 2",
        ] {
            let form = [("query", query), ("time", at.as_str())];
            let (a, b) = (ours.data("/api/v1/query", &form)?, theirs.data("/api/v1/query", &form)?);
            let (a, b) = (a["result"].to_string(), b["result"].to_string());
            ensure!(a == b && a.len() > 10, "{query} at {at}: {a} is not {b}");
            compared += 1;
        }
    }
    Ok(format!("{} samples of promtool, {compared} answers of a snapshot", SERIES * SAMPLES))
}

/// Runs the import and yields what it says.
fn import(ours: &Client, flags: &[&str], directory: &Path) -> Result<String> {
    let output = Command::new(binary())
        .args(["import", "prometheus", "--url", &format!("http://{}", ours.address())])
        .args(flags)
        .arg(directory)
        .output()
        .context("start the import")?;
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.success(), "{} {told}", output.status);
    Ok(told)
}

/// The one number of an instant query; 0 where there is none.
fn count(client: &Client, query: &str) -> Result<i64> {
    let data = client.data("/api/v1/query", &[("query", query)])?;
    let value = data["result"][0]["value"][1].as_str().unwrap_or("0");
    value.parse().with_context(|| format!("{query}: {value}"))
}
