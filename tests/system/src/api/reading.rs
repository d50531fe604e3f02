//! Names, values, series, metadata, status and health.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::{import, launch};
use crate::harness::{Client, Launch, Scratch, WriteBody, now_ms};

/// The whole envelope of a GET that must succeed.
fn get(client: &Client, target: &str) -> Result<Value> {
    let answer = client.get(target)?;
    ensure!(answer.status == 200, "{target}: {} {}", answer.status, answer.text());
    serde_json::from_slice(&answer.body).context("not JSON")
}

/// Matchers, times and their union.
pub(super) fn labels_and_series(scratch: &Scratch) -> Result<String> {
    let server = launch(scratch).start()?;
    let client = server.client();
    import(
        &client,
        "up{job=\"a\",zone=\"eu\"} 1 100000\nup{job=\"b\"} 1 100000\n\
         down{job=\"a\",why=\"x\"} 1 200000\n",
    )?;
    let up_a = json!({"__name__": "up", "job": "a", "zone": "eu"});
    let up_b = json!({"__name__": "up", "job": "b"});
    let down = json!({"__name__": "down", "job": "a", "why": "x"});
    let cases = [
        ("/api/v1/labels", json!(["__name__", "job", "why", "zone"])),
        ("/api/v1/labels?match[]=down", json!(["__name__", "job", "why"])),
        ("/api/v1/labels?match[]=down&match[]=up", json!(["__name__", "job", "why", "zone"])),
        ("/api/v1/labels?match[]=nothing", json!([])),
        ("/api/v1/labels?start=300", json!([])),
        ("/api/v1/labels?start=200&end=100", json!([])),
        ("/api/v1/label/__name__/values", json!(["down", "up"])),
        ("/api/v1/label/job/values", json!(["a", "b"])),
        ("/api/v1/label/job/values?match[]=down", json!(["a"])),
        ("/api/v1/label/job/values?match[]=%7Bzone%3D%22%22%7D", json!(null)),
        ("/api/v1/label/job/values?match[]=up%7Bzone%3D%22%22%7D", json!(["b"])),
        ("/api/v1/label/job/values?end=100", json!(["a", "b"])),
        ("/api/v1/label/job/values?start=200.001", json!([])),
        ("/api/v1/label/nothing/values", json!([])),
        ("/api/v1/label/with%2Dhyphen/values", json!([])),
        ("/api/v1/series?match[]=down", json!([down])),
        ("/api/v1/series?match[]=up&match[]=%7Bjob%3D%22b%22%7D", json!([up_a, up_b])),
        ("/api/v1/series?match[]=%7Bjob%3D~%22a%7Cc%22%7D", json!([down, up_a])),
        ("/api/v1/series?match[]=up&match[]=down&start=150", json!([down])),
        ("/api/v1/series?match[]=up&start=200&end=100", json!([])),
        ("/api/v1/series?match[]=%7B%22up%22%2Cjob!%3D%22a%22%7D", json!([up_b])),
    ];
    for (target, data) in &cases {
        if data.is_null() {
            ensure!(client.get(target)?.status == 400, "{target} was answered");
            continue;
        }
        let wanted = json!({"status": "success", "data": data});
        let got = get(&client, target)?;
        ensure!(got == wanted, "{target}: {got}");
    }
    let text = client.get("/api/v1/label/job/values")?.text();
    ensure!(text == r#"{"status":"success","data":["a","b"]}"#, "order of keys: {text}");
    server.stop()?;
    Ok(format!("{} requests", cases.len()))
}

/// Names beyond ASCII words, escaped with `U__` in paths and quoted in queries.
pub(super) fn escaped_names(scratch: &Scratch) -> Result<String> {
    let server = Launch::broker(&scratch.join("data")).start()?;
    let client = server.client();
    let labels = [("__name__", "温度.室内"), ("http.status_code", "200"), ("名", "值 \"q\"\n")];
    let written = client.write(&WriteBody::new().series(&labels, &[(now_ms(), 21.5)]).snappy())?;
    ensure!(written.status == 204, "{}", written.text());
    for name in ["U__http_2e_status__code", "http.status_code", "http%2Estatus_code"] {
        let got = get(&client, &format!("/api/v1/label/{name}/values"))?;
        ensure!(got["data"] == json!(["200"]), "{name}: {got}");
    }
    for name in ["U___540d_", "%E5%90%8D"] {
        let got = get(&client, &format!("/api/v1/label/{name}/values"))?;
        ensure!(got["data"] == json!(["值 \"q\"\n"]), "{name}: {got}");
    }
    let query = [("query", r#"{"温度.室内","http.status_code"="200"}"#)];
    let got = client.data("/api/v1/query", &query)?;
    ensure!(got["result"][0]["metric"]["__name__"] == "温度.室内", "{got}");
    ensure!(got["result"][0]["value"][1] == "21.5", "{got}");
    server.stop()?;
    Ok("escaped, percent-encoded and quoted".to_owned())
}

/// Type and help come from text and from remote write.
pub(super) fn metadata(scratch: &Scratch) -> Result<String> {
    let server = Launch::broker(&scratch.join("data")).start()?;
    let client = server.client();
    import(
        &client,
        "# HELP hits_total Hits \\\\ so far.\n# TYPE hits_total counter\nhits_total 1\n\
         # TYPE temp gauge\ntemp 2\n",
    )?;
    let hits = json!([{"type": "counter", "help": "Hits \\ so far.", "unit": ""}]);
    let temp = json!([{"type": "gauge", "help": "", "unit": ""}]);
    for (rest, data) in [
        ("", json!({"hits_total": hits, "temp": temp})),
        ("?metric=temp", json!({"temp": temp})),
        ("?metric=nothing", json!({})),
        ("?limit=1", json!({"hits_total": hits})),
        ("?limit_per_metric=1", json!({"hits_total": hits, "temp": temp})),
    ] {
        let got = get(&client, &format!("/api/v1/metadata{rest}"))?;
        ensure!(got == json!({"status": "success", "data": data}), "{rest}: {got}");
    }
    server.stop()?;
    Ok("5 requests".to_owned())
}

/// What runs here. Grafana reads `version` and must find no `features`.
pub(super) fn status(scratch: &Scratch) -> Result<String> {
    let server = Launch::broker(&scratch.join("data"))
        .config("# kept as written\nstorage:\n  retention: 3d\n")
        .start()?;
    let client = server.client();
    import(&client, "a{x=\"1\"} 1\na{x=\"2\"} 1\nb 1\n")?;
    let build = get(&client, "/api/v1/status/buildinfo")?["data"].take();
    let version = build["version"].as_str().unwrap_or_default();
    ensure!(version.starts_with("3."), "version {version}");
    for key in ["revision", "branch", "buildUser", "buildDate", "goVersion"] {
        ensure!(build[key].is_string(), "no {key} in {build}");
    }
    let has_ruler = build["features"]["ruler_config_api"] == "true";
    ensure!(has_ruler, "Grafana would not let rules be changed: {build}");
    let runtime = get(&client, "/api/v1/status/runtimeinfo")?["data"].take();
    ensure!(runtime["storageRetention"] == "3d", "{runtime}");
    ensure!(runtime["corruptionCount"] == 0 && runtime["reloadConfigSuccess"] == true, "{runtime}");
    let config = get(&client, "/api/v1/status/config")?["data"].take();
    ensure!(config["yaml"].as_str().is_some_and(|yaml| yaml.contains("retention: 3d")), "{config}");
    let flags = get(&client, "/api/v1/status/flags")?["data"].take();
    ensure!(flags["storage.retention"] == "3d" && flags["agent.enabled"] == "false", "{flags}");
    let tsdb = get(&client, "/api/v1/status/tsdb?limit=1")?["data"].take();
    ensure!(tsdb["headStats"]["numSeries"] == 3, "{tsdb}");
    let top = json!([{"name": "a", "value": 2}]);
    ensure!(tsdb["seriesCountByMetricName"] == top, "{tsdb}");
    let (least, most) = (&tsdb["headStats"]["minTime"], &tsdb["headStats"]["maxTime"]);
    let is_now = |t: &Value| t.as_i64().is_some_and(|t_ms| (now_ms() - t_ms).abs() < 60_000);
    ensure!(is_now(least) && is_now(most), "times of the head: {tsdb}");
    server.stop()?;
    Ok("buildinfo, runtimeinfo, config, flags, tsdb".to_owned())
}

/// Pretty-printing and the tree of an expression.
pub(super) fn format_and_parse(scratch: &Scratch) -> Result<String> {
    let server = Launch::broker(&scratch.join("data")).start()?;
    let client = server.client();
    let formatted = client.data("/api/v1/format_query", &[("query", "foo/bar")])?;
    ensure!(formatted == "foo / bar", "{formatted}");
    let parsed = client.data("/api/v1/parse_query", &[("query", "foo/bar")])?;
    let selector = |name: &str| {
        json!({
            "type": "vectorSelector", "name": name, "offset": 0, "timestamp": null,
            "startOrEnd": null,
            "matchers": [{"name": "__name__", "type": "=", "value": name}],
        })
    };
    let same = |got: &Value, wanted: &Value| {
        wanted.as_object().is_some_and(|keys| keys.iter().all(|(key, value)| got[key] == *value))
    };
    ensure!(parsed["type"] == "binaryExpr" && parsed["op"] == "/", "{parsed}");
    ensure!(same(&parsed["lhs"], &selector("foo")), "{parsed}");
    ensure!(same(&parsed["rhs"], &selector("bar")), "{parsed}");
    let matching = json!({"card": "one-to-one", "include": [], "labels": [], "on": false});
    ensure!(same(&parsed["matching"], &matching), "{parsed}");
    server.stop()?;
    Ok("formatted and parsed".to_owned())
}

/// Probes of orchestrators: plain text.
pub(super) fn health(scratch: &Scratch) -> Result<String> {
    let server = Launch::broker(&scratch.join("data")).start()?;
    let client = server.client();
    for (path, text) in
        [("/-/healthy", "Watchfire is Healthy.\n"), ("/-/ready", "Watchfire is Ready.\n")]
    {
        let answer = client.get(path)?;
        ensure!(answer.status == 200 && answer.text() == text, "{path}: {}", answer.text());
    }
    ensure!(client.get("/-/nothing")?.status == 404, "/-/nothing is answered");
    ensure!(server.ready_after() < Duration::from_secs(5), "ready {:?}", server.ready_after());
    server.stop()?;
    Ok("healthy and ready".to_owned())
}
