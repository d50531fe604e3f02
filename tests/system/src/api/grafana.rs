//! What Grafana's Prometheus data source asks, in its order and forms.

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use super::import;
use crate::harness::{Client, Launch, Scratch, now_ms};

/// Save & test, then the query editor, then a panel.
pub(super) fn sequence(scratch: &Scratch) -> Result<String> {
    let server = Launch::broker(&scratch.join("data")).start()?;
    let client = server.client();
    let now_s = now_ms() / 1_000;
    let lines: String = (0..60)
        .map(|ago| {
            let t_ms = (now_s - ago) * 1_000;
            format!("http_requests_total{{code=\"200\"}} {} {t_ms}\n", 1_000 - ago * 2)
        })
        .collect();
    import(&client, &format!("# TYPE http_requests_total counter\n{lines}"))?;
    save_and_test(&client)?;
    query_editor(&client, now_s)?;
    panel(&client, now_s)?;
    absent(&client)?;
    server.stop()?;
    Ok("save & test, editor, panel".to_owned())
}

fn save_and_test(client: &Client) -> Result<()> {
    let (status, answer) = client.envelope("/api/v1/query", &[("query", "1+1"), ("time", "4")])?;
    let wanted = json!({"status": "success", "data": {"resultType": "scalar", "result": [4, "2"]}});
    ensure!(status == 200 && answer == wanted, "1+1 at 4: {answer}");
    let build = client.get("/api/v1/status/buildinfo")?;
    let build: Value = serde_json::from_slice(&build.body)?;
    // With features it is a Mimir to Grafana, whose rules can be changed.
    let has_ruler = build["data"]["features"]["ruler_config_api"] == "true";
    ensure!(build["data"]["version"].is_string() && has_ruler, "{build}");
    Ok(())
}

fn query_editor(client: &Client, now_s: i64) -> Result<()> {
    let (start, end) = ((now_s - 3_600).to_string(), now_s.to_string());
    let range = [("start", start.as_str()), ("end", end.as_str()), ("limit", "40000")];
    let labels = client.data("/api/v1/labels", &range)?;
    ensure!(labels == json!(["__name__", "code"]), "{labels}");
    let target = format!("/api/v1/label/__name__/values?start={start}&end={end}&limit=40000");
    let names: Value = serde_json::from_slice(&client.get(&target)?.body)?;
    ensure!(names["data"] == json!(["http_requests_total"]), "{names}");
    let matched =
        [("match[]", r#"{__name__="http_requests_total"}"#), range[0], range[1], range[2]];
    let series = client.data("/api/v1/series", &matched)?;
    let wanted = json!([{"__name__": "http_requests_total", "code": "200"}]);
    ensure!(series == wanted, "{series}");
    let metadata: Value =
        serde_json::from_slice(&client.get("/api/v1/metadata?limit=40000")?.body)?;
    ensure!(metadata["data"]["http_requests_total"][0]["type"] == "counter", "{metadata}");
    Ok(())
}

fn panel(client: &Client, now_s: i64) -> Result<()> {
    let (start, end) = ((now_s - 30).to_string(), now_s.to_string());
    let rate = client.data(
        "/api/v1/query_range",
        &[
            ("query", r#"sum by (code) (rate(http_requests_total{code=~"2.."}[15s]))"#),
            ("start", &start),
            ("end", &end),
            ("step", "15"),
            ("timeout", "60s"),
        ],
    )?;
    ensure!(rate["resultType"] == "matrix", "{rate}");
    let values = rate["result"][0]["values"].as_array().map_or(&[][..], Vec::as_slice);
    ensure!(values.len() == 3 && values.iter().all(|point| point[1] == "2"), "{rate}");
    let instant = [("query", "http_requests_total"), ("time", end.as_str())];
    let instant = client.data("/api/v1/query", &instant)?;
    ensure!(instant["result"][0]["value"][1] == "1000", "{instant}");
    Ok(())
}

/// What is not there yet is answered as by a Prometheus that has none.
fn absent(client: &Client) -> Result<()> {
    for (path, wanted) in [
        ("/api/v1/rules", json!({"groups": []})),
        ("/api/v1/rules?type=Alert&exclude_alerts=true&group_limit=5", json!({"groups": []})),
        ("/api/v1/alerts", json!({"alerts": []})),
        ("/api/v1/alertmanagers", json!({"activeAlertmanagers": [], "droppedAlertmanagers": []})),
        ("/api/v1/status/walreplay", json!({"min": 0, "max": 0, "current": 0})),
    ] {
        let found = client.get_data(path)?;
        ensure!(found == wanted, "{path}: {found}");
    }
    Ok(())
}
