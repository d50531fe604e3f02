//! What is behind an alert goes with it: lines that a rule counted, lines of the same host, and exemplars.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::{Listener, launch};
use crate::harness::{Client, Scratch};

/// The groups, by language. Rules over lines with a pipeline, an operation and a grouping; rules over samples
/// with a histogram whose exemplars name traces.
const LINES: &str = "name: lines\ninterval: 1s\nrules:\n- alert: Failing\n  expr: sum by (app, path) (count_over_time({env=\"p\"} | logfmt \
                     | level=\"error\" [5m])) > 1\n  annotations:\n    lines: '{{ range lines 2 }}{{ .Labels.pod }}: {{ .Line }}\n\n      \
                     {{ end }}'\n";
const SAMPLES: &str = "name: samples\ninterval: 1s\nrules:\n- alert: Slow\n  expr: histogram_quantile(0.9, sum by (le, app) \
                       (latency_seconds_bucket)) > 0.2\n  annotations:\n    trace: '{{ range exemplars 1 }}{{ .Labels.trace_id }} took {{ .Value \
                       }} s{{ end }}'\n    lines: '{{ range linesOf (printf \"{app=%q} |= `slow`\" $labels.app) \"5m\" 3 }}{{ .Line }}{{ \
                       end }}'\n";

pub(super) fn goes_with_an_alert(scratch: &Scratch) -> Result<String> {
    let listener = Listener::start()?;
    let configuration = format!(
        "route: {{receiver: hook, group_by: [alertname], group_wait: 10ms, group_interval: 50ms, repeat_interval: 10h}}\n\
         receivers:\n- name: hook\n  webhook_configs: [{{url: '{}'}}]\n",
        listener.url()
    );
    let (launch, _) = launch(scratch, &configuration)?;
    let server = launch.start()?;
    let client = server.client();
    push_lines(client)?;
    push_samples(client)?;
    for (path, group) in
        [("/loki/api/v1/rules/t", LINES), ("/prometheus/config/v1/rules/t", SAMPLES)]
    {
        let answer = client.post(path, &[], group.as_bytes())?;
        ensure!(answer.status == 202, "{path}: {} {}", answer.status, answer.text());
    }
    let failing = told(&listener, "Failing")?;
    // The newest first, of this path and level alone.
    let wanted = "p1: level=error path=/pay msg=third\np2: level=error path=/pay msg=second\n";
    ensure!(failing["lines"] == wanted, "the lines are {}", failing["lines"]);
    let slow = told(&listener, "Slow")?;
    let trace = "5b8efff798038103d269b633813fc60c took 0.67 s";
    ensure!(slow["trace"] == trace, "the exemplar is {}", slow["trace"]);
    ensure!(slow["lines"] == "a slow one", "the lines are {}", slow["lines"]);
    server.stop()?;
    Ok("lines of an alert's labels, lines of a query, a trace".to_owned())
}

/// The annotations of an alert of the app `shop` that was told.
fn told(listener: &Listener, name: &str) -> Result<Value> {
    fn of<'m>(message: &'m Value, name: &str) -> Option<&'m Value> {
        let is_it = |alert: &&Value| {
            let labels = &alert["labels"];
            labels["alertname"] == name && labels["app"] == "shop"
        };
        message["alerts"].as_array()?.iter().find(is_it)
    }
    let message = listener.wait_for(name, |message| of(message, name).is_some())?;
    Ok(of(&message, name).context("it is there")?["annotations"].clone())
}

fn now_ns() -> Result<u128> {
    Ok(SystemTime::now().duration_since(UNIX_EPOCH).context("a time")?.as_nanos())
}

fn push_lines(client: Client) -> Result<()> {
    let now_ns = now_ns()?;
    let at = |ago_s: u128| (now_ns - ago_s * 1_000_000_000).to_string();
    let stream = |pod: &str, app: &str, lines: Value| json!({ "stream": { "env": "p", "app": app, "pod": pod }, "values": lines });
    let body = json!({ "streams": [
        stream("p1", "shop", json!([
            [at(40), "level=error path=/pay msg=first"],
            [at(20), "level=error path=/pay msg=third"],
            [at(10), "level=info path=/pay msg=fourth"],
            [at(9), "level=error path=/other msg=fifth"],
        ])),
        stream("p2", "shop", json!([[at(30), "level=error path=/pay msg=second"], [at(8), "a slow one"]])),
        stream("p3", "blog", json!([[at(7), "level=error path=/pay msg=other"]])),
    ]});
    let headers = [("Content-Type", "application/json")];
    let answer = client.post("/loki/api/v1/push", &headers, body.to_string().as_bytes())?;
    ensure!(answer.status == 204, "push: {} {}", answer.status, answer.text());
    Ok(())
}

/// Histograms of two apps with exemplars, as an SDK of OpenTelemetry sends them.
fn push_samples(client: Client) -> Result<()> {
    let now_ns = now_ns()?;
    let point = |app: &str, trace: &str, value: f64| {
        json!({
            "attributes": [{ "key": "app", "value": { "stringValue": app } }],
            "startTimeUnixNano": (now_ns - 60_000_000_000).to_string(),
            "timeUnixNano": now_ns.to_string(),
            "count": "10", "sum": 5.0, "bucketCounts": ["1", "9", "0"], "explicitBounds": [0.1, 1.0],
            "exemplars": [{ "timeUnixNano": (now_ns - 5_000_000_000).to_string(), "asDouble": value, "traceId": trace,
                            "spanId": "051581bf3cb55c13" }],
        })
    };
    let points = [
        point("shop", "5b8efff798038103d269b633813fc60c", 0.67),
        point("blog", "0af7651916cd43dd8448eb211c80319c", 0.5),
    ];
    let body = json!({ "resourceMetrics": [{ "scopeMetrics": [{ "metrics": [{
        "name": "latency", "unit": "s",
        "histogram": { "aggregationTemporality": 2, "dataPoints": points },
    }] }] }] });
    let headers = [("Content-Type", "application/json")];
    let answer = client.post("/otlp/v1/metrics", &headers, body.to_string().as_bytes())?;
    ensure!(answer.status == 200, "OTLP: {} {}", answer.status, answer.text());
    Ok(())
}
