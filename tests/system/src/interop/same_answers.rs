//! Prometheus remote-writes to us; then both answer the same.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use super::clients::promtool_query;
use super::peer::Prometheus;
use crate::harness::{Client, Launch, Scratch, now_ms};

/// Data that windows may look back on: the longest is 10 s, asked up to 6 s before a time 2 s ago.
/// No window may begin before its series do: 2.42 extrapolates a counter that begins inside a
/// window by up to 1.1 of an interval, later versions by half of one.
const HISTORY: Duration = Duration::from_secs(24);

/// Each is asked at one instant and over a range. What depends on the exact edge of a window is
/// kept out by the choice of the time, not of the query: 2.42 includes a sample at the left edge,
/// 3.x does not. Left out are what 2.42 does not know (`limitk`, `mad_over_time`,
/// `double_exponential_smoothing`, `sort_by_label`, `info`, UTF-8 names) and `holt_winters`, whose
/// name 3.x does not know.
const QUERIES: &[&str] = &[
    "node_load1",
    "up",
    r#"{__name__=~"node_(load|filefd).*"}"#,
    r#"node_cpu_seconds_total{mode!="idle"}"#,
    r#"count by (__name__) ({job="node"})"#,
    "rate(node_cpu_seconds_total[5s])",
    "irate(node_cpu_seconds_total[5s])",
    "increase(node_context_switches_total[10s])",
    r#"sum by (mode) (rate(node_cpu_seconds_total[5s]))"#,
    r#"sum without (cpu) (rate(node_cpu_seconds_total{mode=~"user|system"}[8s]))"#,
    "1 - avg(rate(node_cpu_seconds_total{mode=\"idle\"}[5s]))",
    "node_memory_MemAvailable_bytes / node_memory_MemTotal_bytes * 100",
    "node_filesystem_avail_bytes / on (device, mountpoint) node_filesystem_size_bytes",
    "rate(node_network_receive_bytes_total[5s]) > bool 0",
    "node_network_up == 1",
    "node_load1 > node_load15 or node_load15",
    "topk(3, node_filesystem_size_bytes)",
    "bottomk(2, node_memory_MemTotal_bytes)",
    "quantile(0.9, rate(node_cpu_seconds_total[5s]))",
    "stddev(node_cpu_seconds_total)",
    "stdvar by (mode) (node_cpu_seconds_total)",
    "count_values(\"state\", node_network_up)",
    "group by (job) (up)",
    "max_over_time(node_load1[10s])",
    "min_over_time(node_memory_MemFree_bytes[10s])",
    "avg_over_time(node_memory_MemFree_bytes[10s])",
    "sum_over_time(up[10s])",
    "count_over_time(node_load5[10s])",
    "stddev_over_time(node_memory_MemFree_bytes[10s])",
    "quantile_over_time(0.5, node_memory_MemFree_bytes[10s])",
    "last_over_time(node_load1[5s])",
    "changes(node_context_switches_total[10s])",
    "resets(node_context_switches_total[10s])",
    "delta(node_memory_MemFree_bytes[10s])",
    "deriv(node_context_switches_total[10s])",
    "predict_linear(node_context_switches_total[10s], 60)",
    "node_load1 offset 3s",
    "max_over_time(rate(node_context_switches_total[4s])[8s:1s])",
    "absent(node_nothing)",
    "absent_over_time(node_nothing[5s])",
    "label_replace(node_load1, \"host\", \"$1\", \"instance\", \"(.*):.*\")",
    "label_join(up, \"both\", \"/\", \"job\", \"instance\")",
    "clamp(node_load1, 0, 0.5)",
    "round(node_load1 * 100) % 7",
    "abs(node_load1 - node_load5) ^ 2",
    "ln(node_memory_MemTotal_bytes)",
    "sgn(node_load1)",
    "timestamp(node_load1)",
    "scalar(node_load1) + vector(1)",
    "histogram_quantile(0.9, rate(prometheus_http_request_duration_seconds_bucket[10s]))",
    "sum by (le) (prometheus_tsdb_compaction_chunk_range_seconds_bucket)",
    "node_uname_info * on (instance) group_left () node_boot_time_seconds",
    "up unless node_load1",
    "up and on (job) node_load1",
    "-node_load1",
    "day_of_week(node_boot_time_seconds)",
];

pub(super) fn same_answers(scratch: &Scratch) -> Result<String> {
    let server = Launch::broker(&scratch.join("data")).start()?;
    let ours = server.client();
    let prometheus = Prometheus::start(scratch, ours.address())?;
    let theirs = prometheus.client;
    std::thread::sleep(HISTORY);
    let at_ms = quiet_time(&theirs)?;
    wait_for_all(&ours, &theirs, at_ms)?;
    let (mut compared, mut wrong) = (0, Vec::new());
    for query in QUERIES {
        let at = seconds(at_ms);
        let (start, step) = (seconds(at_ms - 6_000), "2");
        let forms: [(&str, Vec<(&str, &str)>); 2] = [
            ("/api/v1/query", vec![("query", query), ("time", &at)]),
            (
                "/api/v1/query_range",
                vec![("query", query), ("start", &start), ("end", &at), ("step", step)],
            ),
        ];
        for (path, form) in forms {
            compared += 1;
            let (a, b) = (ours.data(path, &form)?, theirs.data(path, &form)?);
            if let Err(error) = compare(&a, &b) {
                wrong.push(format!("{path} {query}: {error}"));
            }
        }
    }
    ensure!(wrong.is_empty(), "{} of {compared} differ:\n  {}", wrong.len(), wrong.join("\n  "));
    let printed = promtool_says_the_same(&ours, &theirs, at_ms)?;
    metadata_came(&ours)?;
    let samples = ours.metric("watchfire_broker_samples_total")?;
    let refused = ours.metric("watchfire_broker_samples_rejected_total")?;
    ensure!(refused == 0.0, "{refused} of Prometheus' samples were refused");
    drop(prometheus);
    server.stop()?;
    Ok(format!(
        "{} queries at an instant and over a range, {printed} outputs of promtool, {samples} samples",
        QUERIES.len()
    ))
}

/// A time some seconds ago from which no whole number of seconds leads to a sample.
fn quiet_time(client: &Client) -> Result<i64> {
    let data = client.data("/api/v1/query", &[("query", "up[10s]")])?;
    let series = data["result"].as_array().context("a matrix")?;
    let mut fractions: Vec<i64> = series
        .iter()
        .flat_map(|one| one["values"].as_array().into_iter().flatten())
        .filter_map(|point| Some((point[0].as_f64()? * 1e3).round() as i64 % 1_000))
        .collect();
    fractions.sort_unstable();
    ensure!(series.len() == 2 && fractions.len() >= 10, "not scraped yet: {data}");
    let distance = |candidate: i64| {
        let gap = |fraction: &i64| {
            let apart = (fraction - candidate).rem_euclid(1_000);
            apart.min(1_000 - apart)
        };
        fractions.iter().map(gap).min().unwrap_or(0)
    };
    let best = (0..1_000).step_by(10).max_by_key(|candidate| distance(*candidate)).unwrap_or(0);
    ensure!(distance(best) >= 20, "samples come at every part of a second: {fractions:?}");
    Ok((now_ms() / 1_000 - 2) * 1_000 + best)
}

/// Waits until everything up to `at_ms` has been sent to us.
fn wait_for_all(ours: &Client, theirs: &Client, at_ms: i64) -> Result<()> {
    let at = seconds(at_ms);
    let form = [("query", r#"{__name__=~".+"}[15s]"#), ("time", &at)];
    let count = |client: &Client| -> Result<usize> {
        Ok(by_labels(&client.data("/api/v1/query", &form)?)?.values().map(Vec::len).sum())
    };
    let begin = Instant::now();
    loop {
        let (a, b) = (count(ours)?, count(theirs)?);
        if a == b {
            return Ok(());
        }
        if begin.elapsed() > Duration::from_secs(10) {
            bail!("we have {a} samples, Prometheus {b}");
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}

fn seconds(t_ms: i64) -> String {
    format!("{}.{:03}", t_ms / 1_000, t_ms % 1_000)
}

/// Same type, same series, same times, values but for rounding.
pub(super) fn compare(ours: &Value, theirs: &Value) -> Result<()> {
    let kinds = (&ours["resultType"], &theirs["resultType"]);
    ensure!(kinds.0 == kinds.1, "{} instead of {}", kinds.0, kinds.1);
    let (ours, theirs) = (by_labels(ours)?, by_labels(theirs)?);
    for labels in theirs.keys() {
        ensure!(ours.contains_key(labels), "{labels} is missing");
    }
    for (labels, points) in &ours {
        let wanted = theirs.get(labels).with_context(|| format!("{labels} is invented"))?;
        ensure!(points.len() == wanted.len(), "{labels}: {} of {}", points.len(), wanted.len());
        for (a, b) in points.iter().zip(wanted) {
            ensure!(a.0 == b.0 && is_close(a.1, b.1), "{labels}: {a:?} instead of {b:?}");
        }
    }
    Ok(())
}

type Points = Vec<(i64, f64)>;

fn by_labels(data: &Value) -> Result<BTreeMap<String, Points>> {
    let mut series = BTreeMap::new();
    for one in data["result"].as_array().context("a vector or matrix")? {
        let points = match &one["values"] {
            Value::Array(points) => points.iter().map(point).collect::<Result<Points>>()?,
            _ => vec![point(&one["value"])?],
        };
        let before = series.insert(one["metric"].to_string(), points);
        ensure!(before.is_none(), "{} comes twice", one["metric"]);
    }
    Ok(series)
}

fn point(point: &Value) -> Result<(i64, f64)> {
    let t_s = point[0].as_f64().context("a time")?;
    let value = point[1].as_str().context("a value")?;
    Ok(((t_s * 1e3).round() as i64, value.parse().context("a number")?))
}

/// The order of additions is not part of the contract.
fn is_close(a: f64, b: f64) -> bool {
    a.to_bits() == b.to_bits()
        || (a.is_nan() && b.is_nan())
        || (a - b).abs() <= 1e-9 * a.abs().max(b.abs()).max(1e-6)
}

/// Each of promtool's queries prints the same for both servers.
fn promtool_says_the_same(ours: &Client, theirs: &Client, at_ms: i64) -> Result<usize> {
    let (start, at) = (seconds(at_ms - 6_000), seconds(at_ms));
    let range = [format!("--start={start}"), format!("--end={at}"), "--step=2s".to_owned()];
    let window = [format!("--start={start}"), format!("--end={at}")];
    let asked: [(&str, Vec<String>, &[&str]); 4] = [
        ("instant", vec![format!("--time={at}")], &["sum by (mode) (node_cpu_seconds_total)"]),
        ("range", range.to_vec(), &["node_load1"]),
        (
            "series",
            window.iter().cloned().chain(["--match={job=\"node\"}".to_owned()]).collect(),
            &[],
        ),
        ("labels", window.to_vec(), &["mode"]),
    ];
    for (kind, flags, rest) in &asked {
        let (a, b) =
            (promtool_query(ours, kind, flags, rest)?, promtool_query(theirs, kind, flags, rest)?);
        ensure!(!a.is_empty() && a == b, "promtool query {kind}: {a:?} instead of {b:?}");
    }
    Ok(asked.len())
}

fn metadata_came(ours: &Client) -> Result<()> {
    let begin = Instant::now();
    loop {
        let answer = ours.get("/api/v1/metadata?metric=node_load1")?;
        let envelope: Value = serde_json::from_slice(&answer.body)?;
        if envelope["data"]["node_load1"][0]["type"] == "gauge" {
            return Ok(());
        }
        ensure!(begin.elapsed() < Duration::from_secs(5), "no metadata of node_load1: {envelope}");
        std::thread::sleep(Duration::from_millis(100));
    }
}
