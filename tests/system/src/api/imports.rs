//! Bulk formats and small protocols, each as its clients send it.

use std::io::Write;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde_json::Value;

use crate::harness::{Client, Launch, Scratch, now_ms, push_bytes, push_varint};

fn value(client: &Client, query: &str) -> Result<Option<String>> {
    let data = client.data("/api/v1/query", &[("query", query)])?;
    Ok(data["result"][0]["value"][1].as_str().map(str::to_owned))
}

/// Sends a body and checks status and answer.
fn send(client: &Client, path: &str, body: &str, status: u16, wanted: &str) -> Result<()> {
    let headers = [("Content-Type", "application/json")];
    let answer = client.post(path, &headers, body.as_bytes())?;
    let text = answer.text();
    ensure!(answer.status == status && text.contains(wanted), "{path}: {} {text}", answer.status);
    Ok(())
}

/// JSON lines, CSV, OpenTSDB and Datadog over HTTP.
pub(super) fn over_http(scratch: &Scratch) -> Result<String> {
    let server = Launch::broker(&scratch.join("data")).start()?;
    let client = server.client();
    let (t_ms, t_s) = (now_ms(), now_ms() / 1_000);
    let line = format!(
        r#"{{"metric":{{"__name__":"jl","a":"b"}},"values":[1,2],"timestamps":[{},{t_ms}]}}"#,
        t_ms - 1_000
    );
    send(&client, "/api/v1/import", &line, 204, "")?;
    send(
        &client,
        "/api/v1/import",
        "{}",
        400,
        "missing field `metric` (the first is of line 1: {})",
    )?;
    let csv = "/api/v1/import/csv?format=2:metric:csv_ask,1:label:ticker,3:time:unix_s";
    send(&client, csv, &format!("GOOG,1.5,{t_s}\n"), 204, "")?;
    send(&client, csv, &format!("GOOG,x,{t_s}\nMSFT,3,{t_s}\n"), 400, "invalid number")?;
    send(&client, "/api/v1/import/csv", "a,b", 400, "format")?;
    let point = |value: &str| {
        format!(r#"{{"metric":"ot","timestamp":{t_s},"value":{value},"tags":{{"host":"h"}}}}"#)
    };
    send(&client, "/api/put", &point("7"), 204, "")?;
    let list = format!("[{},{}]", point("7"), point("\"x\""));
    let counts = r#""failed":1"#;
    send(&client, "/opentsdb/api/put?details", &list, 400, counts)?;
    send(&client, "/api/put?summary", &list, 400, r#""success":1"#)?;
    send(&client, "/api/put", "[", 400, r#"{"error":{"code":400"#)?;
    let one = format!(
        r#"{{"series":[{{"metric":"dd.one","points":[[{t_s},4]],"host":"h","tags":["env:p"]}}]}}"#
    );
    send(&client, "/datadog/api/v1/series", &one, 202, r#"{"status":"ok"}"#)?;
    let two = format!(
        r#"{{"series":[{{"metric":"dd.two","points":[{{"timestamp":{t_s},"value":5}}],
        "resources":[{{"type":"host","name":"h"}}]}}]}}"#
    );
    send(&client, "/datadog/api/v2/series", &two, 202, r#"{"errors":[]}"#)?;
    send(&client, "/datadog/api/v2/series", "[]", 400, r#"{"errors":["#)?;
    let headers = [("Content-Type", "application/x-protobuf")];
    let body = datadog_protobuf(t_s);
    let answer = client.post("/datadog/api/v2/series", &headers, &body)?;
    ensure!((answer.status, answer.text().as_str()) == (202, r#"{"errors":[]}"#), "{answer:?}");
    let answer = client.post("/datadog/api/v2/series", &headers, &body[..9])?;
    ensure!(answer.status == 400, "{}", answer.text());
    for (query, wanted) in [
        (r#"jl{a="b"}"#, "2"),
        (r#"csv_ask{ticker="GOOG"}"#, "1.5"),
        (r#"csv_ask{ticker="MSFT"}"#, "3"),
        (r#"ot{host="h"}"#, "7"),
        (r#"{"dd.one",host="h",env="p"}"#, "4"),
        (r#"{"dd.two",host="h"}"#, "5"),
        (r#"{"dd.three",host="h",env="p"}"#, "6.5"),
    ] {
        let found = value(&client, query)?;
        ensure!(found.as_deref() == Some(wanted), "{query} is {found:?}, not {wanted}");
    }
    server.stop()?;
    Ok("4 protocols".to_owned())
}

/// Graphite and OpenTSDB's telnet: what one connection sends is there, a wrong line harms no other.
pub(super) fn over_tcp(scratch: &Scratch) -> Result<String> {
    let free = || -> Result<String> {
        Ok(std::net::TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.to_string())
    };
    let (graphite, opentsdb) = (free()?, free()?);
    let ports = ["--graphite-listen", &graphite, "--opentsdb-listen", &opentsdb];
    let server = Launch::broker(&scratch.join("data")).arguments(&ports).start()?;
    let client = server.client();
    let t_s = now_ms() / 1_000;
    let mut stream = TcpStream::connect(&graphite)?;
    // In two pieces, and the last line without an end.
    write!(stream, "web.load;dc=eu 0.5 {t_s}\nnonsense\nweb.us")?;
    stream.flush()?;
    write!(stream, "ers 7 {t_s}\nlast 1 {t_s}")?;
    drop(stream);
    let mut stream = TcpStream::connect(&opentsdb)?;
    writeln!(stream, "put sys.cpu {t_s} 18 host=web-1")?;
    drop(stream);
    for (query, wanted) in [
        (r#"{"web.load",dc="eu"}"#, "0.5"),
        (r#"{"web.users"}"#, "7"),
        ("last", "1"),
        (r#"{"sys.cpu",host="web-1"}"#, "18"),
    ] {
        let begin = Instant::now();
        while value(&client, query)?.as_deref() != Some(wanted) {
            ensure!(begin.elapsed() < Duration::from_secs(10), "{query} is not there");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    let refused = client.metric("watchfire_broker_lines_refused_total")?;
    ensure!(refused == 1.0, "{refused} lines refused");
    let open = Launch::broker(&scratch.join("open"))
        .beside(scratch.path())
        .arguments(&["--graphite-listen", "0.0.0.0:0"])
        .start();
    let error = open.err().map(|error| error.to_string()).unwrap_or_default();
    ensure!(error.contains("knows no login"), "an open port without login: {error}");
    server.stop()?;
    Ok("2 protocols".to_owned())
}

/// OTLP's answers: partial success, refusals in the encoding of the request, and deltas once.
pub(super) fn otlp(scratch: &Scratch) -> Result<String> {
    let server = Launch::broker(&scratch.join("data")).start()?;
    let client = server.client();
    let t_ns = now_ms() * 1_000_000;
    let request = |name: &str, temporality: u8, t_ns: i64, value: i64| {
        format!(
            r#"{{"resourceMetrics":[{{"scopeMetrics":[{{"metrics":[{{"name":"{name}","sum":{{
            "aggregationTemporality":{temporality},"isMonotonic":true,"dataPoints":[
            {{"timeUnixNano":"{t_ns}","asInt":"{value}"}}]}}}}]}}]}}]}}"#
        )
    };
    let json = [("Content-Type", "application/json")];
    let post = |body: &str| client.post("/v1/metrics", &json, body.as_bytes());
    let answer = post(&request("cumulative", 2, t_ns, 7))?;
    ensure!(answer.status == 200 && answer.text() == "{}", "{}", answer.text());
    ensure!(value(&client, "cumulative_total")?.as_deref() == Some("7"), "cumulative");
    let answer = post(&request("old", 2, 1_000_000, 7))?;
    let told: Value = serde_json::from_slice(&answer.body)?;
    let partial = &told["partialSuccess"];
    ensure!(answer.status == 200 && partial["rejectedDataPoints"] == "1", "{told}");
    let message = partial["errorMessage"].as_str().unwrap_or_default();
    ensure!(message.contains("older than the retention"), "{told}");
    // A delta whose acknowledgement was lost comes again and counts once.
    for _ in 0..2 {
        let answer = post(&request("delta", 1, t_ns, 5))?;
        ensure!(answer.status == 200 && answer.text() == "{}", "{}", answer.text());
    }
    post(&request("delta", 1, t_ns + 1_000_000, 2))?;
    ensure!(value(&client, "delta_total")?.as_deref() == Some("7"), "deltas");
    for (content_type, body, status, wanted) in [
        ("application/json", "{", 400, r#""code":3"#),
        ("application/x-protobuf", "\u{1}\u{1}\u{1}", 400, "malformed OTLP"),
        ("text/plain", "", 415, "application/x-protobuf"),
    ] {
        let headers = [("Content-Type", content_type)];
        let answer = client.post("/v1/metrics", &headers, body.as_bytes())?;
        let text = answer.text();
        ensure!(answer.status == status && text.contains(wanted), "{content_type}: {text}");
    }
    let headers = [("Content-Type", "application/x-protobuf")];
    let answer = client.post("/v1/metrics", &headers, b"")?;
    ensure!(answer.status == 200 && answer.body.is_empty(), "an empty request is a success");
    server.stop()?;
    Ok("deltas once, partial success, 3 refusals".to_owned())
}

/// `MetricPayload` of Datadog's agents with one series.
fn datadog_protobuf(t_s: i64) -> Vec<u8> {
    let mut resource = Vec::new();
    push_bytes(&mut resource, 1, b"host");
    push_bytes(&mut resource, 2, b"h");
    let mut point = vec![1 << 3 | 1];
    point.extend(6.5_f64.to_bits().to_le_bytes());
    point.push(2 << 3);
    push_varint(&mut point, t_s.cast_unsigned());
    let mut series = Vec::new();
    push_bytes(&mut series, 1, &resource);
    push_bytes(&mut series, 2, b"dd.three");
    push_bytes(&mut series, 3, b"env:p");
    push_bytes(&mut series, 4, &point);
    let mut body = Vec::new();
    push_bytes(&mut body, 1, &series);
    body
}
