//! The queries of Prometheus' own compliance test, over the same data in Prometheus and in us.

use std::fmt::Write;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::peer::Scraper;
use super::same_answers::compare;
use crate::harness::random::Random;
use crate::harness::{Client, Launch, Scratch, now_ms};

/// Queries to which 2.42 gives another answer than 3.x, and why. A query that is listed here must
/// differ; one that is not must not.
const DIFFERENCES: &[(&str, &str)] = &[
    (
        r#"label_replace(demo_num_cpus, "~invalid", "", "src", "(.*)")"#,
        "since 3.0 names of labels may hold any UTF-8",
    ),
    (
        r#"label_join(demo_num_cpus, "~invalid", "-", "instance")"#,
        "since 3.0 names of labels may hold any UTF-8",
    ),
    (
        "avg_over_time(rate(demo_cpu_usage_seconds_total[1m])[2m:10s])",
        "since 3.0 windows are open at their start: twelve steps of a subquery instead of thirteen",
    ),
];

/// Distance of samples, milliseconds.
const INTERVAL_MS: i64 = 15_000;

/// Samples of each series.
const SAMPLES: i64 = 540;

/// Where the queries are, beside the repository; they are no part of it.
const QUERIES: &str = "../shared/conformance/promql/compliance_queries.txt";

pub(super) fn same_compliance(scratch: &Scratch) -> Result<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(QUERIES);
    if !path.exists() {
        return Ok("the public queries are not on this machine; nothing run".to_owned());
    }
    let text = std::fs::read_to_string(&path).with_context(|| format!("read {QUERIES}"))?;
    for (query, reason) in DIFFERENCES {
        ensure!(text.contains(query), "{query} ({reason}) is none of {QUERIES}");
    }
    let cases: Vec<(&str, &str)> = text
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split_once('\t'))
        .collect();
    ensure!(cases.len() > 500, "{QUERIES} has only {} queries", cases.len());

    let begin_ms = (now_ms() / 3_600_000 - 4) * 3_600_000;
    let exposition = exposition(begin_ms);
    let theirs = their_server(scratch, &exposition)?;
    let server = Launch::broker(&scratch.join("data")).start()?;
    let ours = server.client();
    let headers = [("Content-Type", "application/openmetrics-text")];
    for family in exposition.split_inclusive("# EOF\n") {
        let answer = ours.post("/api/v1/import/prometheus", &headers, family.as_bytes())?;
        ensure!(answer.status == 204, "import: {} {}", answer.status, answer.text());
    }

    let (mut same, mut failed, mut wrong) = (0, 0, Vec::new());
    for (expected, query) in &cases {
        let listed = DIFFERENCES.iter().find(|(known, _)| known == query);
        let outcome = ask_both(&ours, &theirs.client, query, begin_ms);
        match (outcome, listed) {
            (Ok(is_failure), None) if is_failure == (*expected == "fail") => {
                same += 1;
                failed += usize::from(is_failure);
            }
            (Ok(is_failure), None) => wrong.push(format!("{query}: fails on both: {is_failure}")),
            (Ok(_), Some(_)) => wrong.push(format!("{query}: listed, but answers are the same")),
            (Err(_), Some(_)) => {}
            (Err(error), None) => wrong.push(format!("{query}: {error:#}")),
        }
    }
    ensure!(wrong.is_empty(), "{} of {}:\n  {}", wrong.len(), cases.len(), wrong.join("\n  "));
    drop(theirs);
    server.stop()?;
    Ok(format!(
        "{} queries: {same} the same, of them {failed} errors, {} differ for a known reason",
        cases.len(),
        DIFFERENCES.len()
    ))
}

/// Whether both fail.
fn ask_both(ours: &Client, theirs: &Client, query: &str, begin_ms: i64) -> Result<bool> {
    // No whole second is at the edge of a window: 2.42 includes a sample there, 3.x does not.
    let seconds = |minutes: i64| (begin_ms / 1_000 + 60 * minutes).to_string();
    let (start, end) = (seconds(75), seconds(90));
    let form = [("query", query), ("start", &start), ("end", &end), ("step", "10")];
    let ask = |client: &Client| client.envelope("/api/v1/query_range", &form);
    let ((status, a), (their_status, b)) = (ask(ours)?, ask(theirs)?);
    let describe = |envelope: &Value| envelope["error"].as_str().unwrap_or("no error").to_owned();
    ensure!(
        (status == 200) == (their_status == 200),
        "we say {status} ({}), Prometheus {their_status} ({})",
        describe(&a),
        describe(&b)
    );
    if status == 200 {
        compare(&a["data"], &b["data"])?;
    }
    Ok(status != 200)
}

/// Prometheus over blocks made of `exposition`.
fn their_server(scratch: &Scratch, exposition: &str) -> Result<Scraper> {
    let file = scratch.join("exposition.txt");
    let whole = exposition.replace("# EOF\n", "") + "# EOF\n";
    std::fs::write(&file, whole)?;
    let status = Command::new("promtool")
        .args(["tsdb", "create-blocks-from", "openmetrics"])
        .arg(&file)
        .arg(scratch.join("prometheus"))
        .stdout(std::process::Stdio::null())
        .status()
        .context("start promtool; `cargo xtask test` installs it")?;
    ensure!(status.success(), "promtool made no blocks");
    let config = scratch.join("prometheus.yml");
    std::fs::write(&config, "global: {}\n")?;
    Scraper::start(scratch, &config.display().to_string())
}

/// The metrics of Prometheus' demonstration service over more than two hours, one text of
/// OpenMetrics after the other.
fn exposition(begin_ms: i64) -> String {
    let mut random = Random::new(539);
    let mut out = String::new();
    let mut family = |name: &str, series: Vec<(String, Vec<Option<f64>>)>| {
        writeln!(out, "# TYPE {name} unknown").expect("strings can be written to");
        for (place, (labels, values)) in series.iter().enumerate() {
            // Targets are scraped at times of their own, none at a whole second.
            let offset_ms = 7_123 + 1_111 * (place as i64 % 3);
            for (index, value) in values.iter().enumerate() {
                let t_ms = begin_ms + offset_ms + index as i64 * INTERVAL_MS;
                let t_s = format!("{}.{:03}", t_ms / 1_000, t_ms % 1_000);
                if let Some(value) = value {
                    writeln!(out, "{name}{{{labels}}} {value} {t_s}")
                        .expect("strings can be written to");
                }
            }
        }
        out.push_str("# EOF\n");
    };
    let instances: Vec<String> = (10_000..10_003)
        .map(|port| format!("instance=\"demo.promlabs.com:{port}\",job=\"demo\""))
        .collect();
    // Instances come innermost, so that each has one offset throughout.
    let each = |more: &[String]| -> Vec<String> {
        more.iter()
            .flat_map(|more| instances.iter().map(move |instance| format!("{instance}{more}")))
            .collect()
    };
    let labelled = |name: &str, values: &[&str]| -> Vec<String> {
        values.iter().map(|value| format!(",{name}=\"{value}\"")).collect()
    };
    let mut uniform = |from: f64, to: f64| {
        let unit = (random.bits() >> 11) as f64 / (1_u64 << 53) as f64;
        from + (to - from) * unit
    };

    let memory = each(&labelled("type", &["buffers", "cached", "free", "used"]));
    let series = memory
        .into_iter()
        .map(|labels| (labels, (0..SAMPLES).map(|_| Some(uniform(1e8, 8e9).round())).collect()));
    family("demo_memory_usage_bytes", series.collect());

    let cpu = each(&labelled("mode", &["idle", "system", "user"]));
    let series = cpu.into_iter().enumerate().map(|(place, labels)| {
        let mut total = 0.0;
        let values = (0..SAMPLES).map(|index| {
            // One of them is restarted while queries look.
            if place == 4 && index == 330 {
                total = 0.0;
            }
            total += uniform(0.0, 15.0);
            Some(total)
        });
        (labels, values.collect())
    });
    family("demo_cpu_usage_seconds_total", series.collect());

    let plain = each(&[String::new()]);
    let constant = |value: f64| vec![Some(value); SAMPLES as usize];
    let series = plain.iter().map(|labels| (labels.clone(), constant(4.0)));
    family("demo_num_cpus", series.collect());
    let series = plain.iter().map(|labels| (labels.clone(), constant(5e11)));
    family("demo_disk_total_bytes", series.collect());
    let series = plain.iter().map(|labels| {
        let values = (0..SAMPLES).map(|index| Some(1e11 + index as f64 * 1e7 + uniform(0.0, 1e6)));
        (labels.clone(), values.collect())
    });
    family("demo_disk_usage_bytes", series.collect());
    let series = plain.iter().map(|labels| {
        let begin_s = begin_ms as f64 / 1_000.0;
        let values = (0..SAMPLES).map(|index| Some((begin_s + (index / 4 * 60) as f64).floor()));
        (labels.clone(), values.collect())
    });
    family("demo_batch_last_success_timestamp_seconds", series.collect());
    let series = plain.iter().map(|labels| {
        let values = (0..SAMPLES).map(|index| (index / 30 % 2 == 0).then_some(1.0));
        (labels.clone(), values.collect())
    });
    family("demo_intermittent_metric", series.collect());

    let bounds = ["0.0001", "0.001", "0.01", "0.1", "1", "+Inf"];
    let paths = each(&labelled("path", &["/api/bar", "/api/foo"]));
    let mut series = Vec::new();
    for (bound, le) in bounds.iter().enumerate() {
        for labels in &paths {
            let labels = format!("{labels},method=\"GET\",status=\"200\",le=\"{le}\"");
            let mut total = 0.0;
            let values = (0..SAMPLES).map(|_| {
                total += (bound + 1) as f64 * 10.0 + uniform(0.0, 3.0).floor();
                Some(total)
            });
            series.push((labels, values.collect()));
        }
    }
    family("demo_api_request_duration_seconds_bucket", series);
    out
}
