//! Prometheus' Python client pushes, as to a Pushgateway.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::harness::{Client, Launch, Scratch};

/// Debian's Python, which has Debian's `python3-prometheus-client`.
const PYTHON: &str = "/usr/bin/python3";

/// What a nightly job would do.
const SCRIPT: &str = r#"
import sys
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client import push_to_gateway, pushadd_to_gateway, delete_from_gateway
gateway = sys.argv[1]
registry = CollectorRegistry()
Gauge("backup_last_success_unixtime", "When it last ended well.", registry=registry).set(1.5e9)
rows = Counter("backup_rows", "Rows.", ["table"], registry=registry)
rows.labels("a/b").inc(3)
rows.labels("caf\u00e9\n\"x\"").inc(4)
seconds = Histogram("backup_seconds", "Time.", buckets=(1, 10), registry=registry)
seconds.observe(0.5)
seconds.observe(20)
push_to_gateway(gateway, job="backup", registry=registry, grouping_key={"host": "db/1", "zone": ""})
more = CollectorRegistry()
Gauge("backup_bytes", "Size.", registry=more).set(float("inf"))
pushadd_to_gateway(gateway, job="backup", registry=more, grouping_key={"host": "db/1", "zone": ""})
push_to_gateway(gateway, job="gone", registry=more)
delete_from_gateway(gateway, job="gone")
"#;

/// The newest value of one series.
fn value(client: &Client, query: &str) -> Result<Value> {
    let data = client.data("/api/v1/query", &[("query", query)])?;
    Ok(data["result"][0]["value"][1].clone())
}

pub(super) fn python_client_pushes(scratch: &Scratch) -> Result<String> {
    let launch = Launch::broker(&scratch.join("data"));
    let server = launch.start()?;
    let output = Command::new(PYTHON)
        .args(["-c", SCRIPT, &server.client().address().to_string()])
        .output()
        .with_context(|| format!("start {PYTHON}"))?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    // What was pushed is there after a crash, as a Pushgateway with persistence would have it.
    server.kill()?;
    let server = launch.start()?;
    let client = server.client();
    let group = r#"job="backup",host="db/1""#;
    for (query, wanted) in [
        (format!("backup_last_success_unixtime{{{group}}}"), json!("1500000000")),
        (format!("backup_rows_total{{{group},table=\"a/b\"}}"), json!("3")),
        (format!("backup_rows_total{{{group},table=\"café\\n\\\"x\\\"\"}}"), json!("4")),
        (format!("backup_seconds_bucket{{{group},le=\"10.0\"}}"), json!("1")),
        (format!("backup_seconds_count{{{group}}}"), json!("2")),
        (format!("backup_bytes{{{group}}}"), json!("+Inf")),
        // The client library names the job's group so that nothing adds its own instance.
        (format!("count(backup_bytes{{{group},instance=\"\"}})"), json!("1")),
        (format!("count(push_time_seconds{{{group}}} > 1.7e9)"), json!("1")),
        ("backup_bytes{job=\"gone\"}".to_owned(), Value::Null),
    ] {
        let found = value(&client, &query)?;
        ensure!(found == wanted, "{query} is {found}, wanted {wanted}");
    }
    let page = client.get("/pushgateway/metrics")?.text();
    ensure!(page.contains("# TYPE backup_seconds histogram"), "{page}");
    let listed: Value = serde_json::from_slice(&client.get("/api/v1/metrics")?.body)?;
    ensure!(listed["data"].as_array().is_some_and(|groups| groups.len() == 1), "{listed}");
    server.stop()?;
    Ok("pushed, added, deleted, and there after kill -9".to_owned())
}
