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

/// A client that sends protobuf, as Go's does: families of every type, one histogram with native
/// buckets beside its classic ones. Message and field numbers are those of `metrics.proto`.
const PROTOBUF_SCRIPT: &str = r#"
import sys, urllib.request
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.internal.encoder import _VarintBytes

D, U, I, S, M, SI, E = 1, 4, 13, 9, 11, 17, 18  # types of fields
file = descriptor_pb2.FileDescriptorProto(name="m.proto", package="io.prometheus.client")
def message(name, fields):
    added = file.message_type.add(name=name)
    for number, field, kind, many, of in fields:
        one = added.field.add(name=field, number=number, type=kind, label=3 if many else 1)
        if of: one.type_name = ".io.prometheus.client." + of
message("LabelPair", [(1, "name", S, 0, ""), (2, "value", S, 0, "")])
message("Gauge", [(1, "value", D, 0, "")])
message("Counter", [(1, "value", D, 0, "")])
message("Quantile", [(1, "quantile", D, 0, ""), (2, "value", D, 0, "")])
message("Summary", [(1, "count", U, 0, ""), (2, "sum", D, 0, ""), (3, "quantile", M, 1, "Quantile")])
message("Untyped", [(1, "value", D, 0, "")])
message("Bucket", [(1, "cumulative_count", U, 0, ""), (2, "upper_bound", D, 0, "")])
message("BucketSpan", [(1, "offset", SI, 0, ""), (2, "length", I, 0, "")])
message("Histogram", [(1, "count", U, 0, ""), (2, "sum", D, 0, ""), (3, "bucket", M, 1, "Bucket"),
    (5, "schema", SI, 0, ""), (6, "zero_threshold", D, 0, ""), (7, "zero_count", U, 0, ""),
    (12, "positive_span", M, 1, "BucketSpan"), (13, "positive_delta", E, 1, "")])
message("Metric", [(1, "label", M, 1, "LabelPair"), (2, "gauge", M, 0, "Gauge"),
    (3, "counter", M, 0, "Counter"), (4, "summary", M, 0, "Summary"),
    (5, "untyped", M, 0, "Untyped"), (7, "histogram", M, 0, "Histogram")])
message("MetricFamily", [(1, "name", S, 0, ""), (2, "help", S, 0, ""), (3, "type", 5, 0, ""),
    (4, "metric", M, 1, "Metric")])
pool = descriptor_pool.DescriptorPool()
pool.Add(file)
kind = pool.FindMessageTypeByName("io.prometheus.client.MetricFamily")
Family = message_factory.MessageFactory(pool).GetPrototype(kind)

def family(name, kind, help=""):
    one = Family(name=name, help=help, type=kind)
    def metric(**labels):
        added = one.metric.add()
        for label, value in labels.items():
            added.label.add(name=label, value=value)
        return added
    return one, metric

rows, metric = family("backup_rows_total", 0, "Rows\nof tables.")
metric(table="a/b").counter.value = 3
metric(table="caf\u00e9", job="other").counter.value = 4
bytes_, metric = family("backup_bytes", 1)
metric(instance="disk").gauge.value = float("inf")
took, metric = family("backup_took", 2)
one = metric().summary
one.count, one.sum = 2, 16.5
one.quantile.add(quantile=0.5, value=8.25)
old, metric = family("backup_old", 3)
metric().untyped.value = -0.5
seconds, metric = family("backup_seconds", 4, "Time.")
one = metric().histogram
one.count, one.sum = 5, 20.5
one.bucket.add(cumulative_count=1, upper_bound=1)
one.bucket.add(cumulative_count=3, upper_bound=10)
one.schema, one.zero_threshold, one.zero_count = 0, 1e-128, 1
one.positive_span.add(offset=0, length=2)
one.positive_delta.extend([1, 2])
def delimited(*families):
    return b"".join(_VarintBytes(f.ByteSize()) + f.SerializeToString() for f in families)
kind = "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited"
for gateway in sys.argv[1:]:
    for method, body in [("PUT", delimited(rows, took)), ("POST", delimited(bytes_, old, seconds))]:
        url = f"http://{gateway}/metrics/job/backup/host@base64/ZGIvMQ"
        request = urllib.request.Request(url, body, {"Content-Type": kind}, method=method)
        urllib.request.urlopen(request)
"#;

pub(super) fn protobuf_pushes(scratch: &Scratch) -> Result<String> {
    let launch = Launch::broker(&scratch.join("data"));
    let server = launch.start()?;
    let theirs = super::peer::Pushgateway::start(scratch)?;
    let gateways = [server.client(), theirs.client].map(|client| client.address().to_string());
    let output = Command::new(PYTHON)
        .args(["-c", PROTOBUF_SCRIPT])
        .args(&gateways)
        .output()
        .with_context(|| format!("start {PYTHON}"))?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    server.kill()?;
    let server = launch.start()?;
    let client = server.client();
    let ours = exposed(&client.get("/pushgateway/metrics")?.text());
    let theirs = exposed(&theirs.client.get("/metrics")?.text());
    ensure!(ours == theirs, "we expose {ours:#?}, the Pushgateway {theirs:#?}");
    ensure!(ours.len() > 12, "only {} samples were pushed", ours.len());
    // What text cannot show: the native histogram, under the time of the push and of the restart.
    for (query, wanted) in [
        ("histogram_count(backup_seconds{job=\"backup\",host=\"db/1\"})", json!("5")),
        ("histogram_sum(backup_seconds)", json!("20.5")),
        ("histogram_quantile(1, backup_seconds)", json!("2")),
        ("backup_seconds_bucket{le=\"10.0\"}", json!("3")),
    ] {
        let found = value(&client, query)?;
        ensure!(found == wanted, "{query} is {found}, wanted {wanted}");
    }
    let gone = client.request("DELETE", "/metrics/job/backup/host@base64/ZGIvMQ", &[], &[])?;
    ensure!(gone.status == 202, "{}", gone.text());
    let left = value(&client, "histogram_count(backup_seconds) or backup_rows_total")?;
    ensure!(left == Value::Null, "{left} is still there after the group was deleted");
    server.stop()?;
    Ok(format!("{} samples as a Pushgateway has them, and a native histogram", ours.len()))
}

/// Types and samples that were pushed: name, sorted labels that are not empty, value.
fn exposed(page: &str) -> Vec<String> {
    let pushed = page.lines().filter(|line| !line.starts_with("# HELP"));
    let pushed = pushed.filter(|line| line.trim_start_matches("# TYPE ").starts_with("backup_"));
    let mut lines: Vec<String> = pushed
        .map(|line| {
            let Some((series, value)) = line.rsplit_once(' ').filter(|_| !line.starts_with('#'))
            else {
                return line.to_owned();
            };
            let (name, labels) = series.split_once('{').unwrap_or((series, ""));
            let labels = labels.trim_end_matches('}').split(',');
            let mut labels: Vec<String> = labels
                .filter(|label| !label.is_empty() && !label.ends_with("\"\""))
                // Bounds are kept in their canonical form.
                .map(|label| {
                    match label.strip_prefix("le=\"").and_then(|rest| rest.strip_suffix('"')) {
                        Some(bound) => format!("le={:?}", bound.parse::<f64>()),
                        None => label.to_owned(),
                    }
                })
                .collect();
            labels.sort();
            format!("{name} {labels:?} {:?}", value.parse::<f64>())
        })
        .collect();
    lines.sort();
    lines
}
