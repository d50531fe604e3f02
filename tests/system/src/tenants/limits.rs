//! Limits of one tenant, in the words of each protocol; others notice nothing.

use anyhow::{Result, ensure};

use crate::harness::{Client, Launch, Response, Scratch, WriteBody, WriteBody2, now_ms};
use crate::harness::{push_bytes, remote_write_2::Series2};

const CONFIG: &str = "\
tenants:
  small:
    limits:
      max_active_series: 3
  slow:
    limits:
      ingestion_rate: 1
      ingestion_burst_size: 5
";

fn rows(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("m{{n=\"{number}\"}} 1\n")).collect()
}

/// Series of one tenant: the first are taken, the others are named in the refusal; another tenant may
/// have as many as before.
pub(super) fn series(scratch: &Scratch) -> Result<String> {
    let server = Launch::broker(&scratch.join("data")).config(CONFIG).start()?;
    let client = server.client();
    let (small, other) = (client.for_tenant("small"), client.for_tenant("other"));
    let send = |client: &Client, count: usize| {
        client.post("/api/v1/import/prometheus", &[], rows(count).concat().as_bytes())
    };
    let count = |client: &Client| -> Result<String> {
        let data = client.data("/api/v1/query", &[("query", "count(m)")])?;
        Ok(data["result"][0]["value"][1].as_str().unwrap_or("0").to_owned())
    };
    ensure!(send(&other, 100)?.status == 204, "the other tenant is refused");
    ensure!(send(&small, 3)?.status == 204, "three series are too many");
    let refused = send(&small, 5)?;
    let text = refused.text();
    ensure!(refused.status == 400, "{}: {text}", refused.status);
    ensure!(text.contains("limits.max_active_series is 3") && text.contains("m{n="), "{text}");
    ensure!((count(&small)?, count(&other)?) == ("3".to_owned(), "100".to_owned()), "wrong counts");
    ensure!(send(&other, 200)?.status == 204, "the other tenant is refused");
    ensure!(send(&client, 200)?.status == 204, "the default tenant is refused");
    ensure!(send(&small, 3)?.status == 204, "series that are known are refused");
    let name = "watchfire_broker_tenant_samples_refused_total";
    let refused = format!("{name}{{tenant=\"small\",limit=\"max_active_series\"}}");
    ensure!(client.metric(&refused)? == 2.0, "refusals are not counted");
    let active = "watchfire_broker_tenant_active_series";
    ensure!(client.metric(&format!("{active}{{tenant=\"small\"}}"))? == 3.0, "not counted");
    ensure!(client.metric(&format!("{active}{{tenant=\"other\"}}"))? == 200.0, "not counted");
    server.stop()?;
    Ok("3 of one, 200 of others".to_owned())
}

/// What is sent, and what stands in the refusal.
struct Way {
    path: &'static str,
    headers: &'static [(&'static str, &'static str)],
    body: Vec<u8>,
    refusal: &'static str,
}

/// A gauge in OTLP's protobuf.
fn otlp(t_ms: i64) -> Vec<u8> {
    let mut point = vec![0x19];
    point.extend_from_slice(&(t_ms.cast_unsigned() * 1_000_000).to_le_bytes());
    point.push(0x21);
    point.extend_from_slice(&1.0_f64.to_bits().to_le_bytes());
    let mut gauge = Vec::new();
    push_bytes(&mut gauge, 1, &point);
    let mut metric = Vec::new();
    push_bytes(&mut metric, 1, b"otlp");
    push_bytes(&mut metric, 5, &gauge);
    let mut scope = Vec::new();
    push_bytes(&mut scope, 2, &metric);
    let mut resource = Vec::new();
    push_bytes(&mut resource, 2, &scope);
    let mut request = Vec::new();
    push_bytes(&mut request, 1, &resource);
    request
}

fn ways() -> Vec<Way> {
    const PROTOBUF: &[(&str, &str)] =
        &[("Content-Type", "application/x-protobuf"), ("Content-Encoding", "snappy")];
    const TWO: &[(&str, &str)] = &[
        ("Content-Type", "application/x-protobuf;proto=io.prometheus.write.v2.Request"),
        ("Content-Encoding", "snappy"),
    ];
    const OTLP: &[(&str, &str)] = &[("Content-Type", "application/x-protobuf")];
    let (t_ms, t_s) = (now_ms(), now_ms() / 1_000);
    let one = WriteBody::new().series(&[("__name__", "rw1")], &[(t_ms, 1.0)]).snappy();
    let labels = vec![("__name__".to_owned(), "rw2".to_owned())];
    let of_two = Series2 { labels, samples: vec![(t_ms, 1.0, 0)], ..Series2::default() };
    let two = WriteBody2::new().series(&of_two).snappy();
    let way = |path, headers, body: Vec<u8>, refusal| Way { path, headers, body, refusal };
    let text = |path, body: String, refusal| way(path, &[], body.into_bytes(), refusal);
    vec![
        way("/api/v1/write", PROTOBUF, one, r#""errorType":"bad_data""#),
        way("/api/v1/write", TWO, two, r#""errorType":"bad_data""#),
        way("/v1/metrics", OTLP, otlp(t_ms), "limits.ingestion_rate"),
        text("/api/v1/import/prometheus", "text 1\n".to_owned(), r#""errorType":"bad_data""#),
        text("/write?db=d", format!("influx v=1 {t_s}000000000"), r#"{"error":"#),
        text("/api/v2/write?bucket=b", "influx2 v=1".to_owned(), r#""code":"too many requests""#),
        text(
            "/api/put",
            format!(r#"{{"metric":"ot","timestamp":{t_s},"value":1,"tags":{{"h":"a"}}}}"#),
            r#"{"error":{"code":429"#,
        ),
        text(
            "/datadog/api/v1/series",
            format!(r#"{{"series":[{{"metric":"dd","points":[[{t_s},4]],"host":"h"}}]}}"#),
            r#"{"errors":["#,
        ),
        text(
            "/api/v1/import",
            format!(r#"{{"metric":{{"__name__":"jl"}},"values":[1],"timestamps":[{t_ms}]}}"#),
            r#""errorType":"bad_data""#,
        ),
        text(
            "/api/v1/import/csv?format=1:metric:csv,2:time:unix_s",
            format!("1,{t_s}\n"),
            r#""errorType":"bad_data""#,
        ),
        text("/metrics/job/j", "pushed 1\n".to_owned(), "the tenant slow is above"),
    ]
}

fn send(client: &Client, way: &Way) -> Result<Response> {
    client.post(way.path, way.headers, &way.body)
}

/// Above its rate a tenant is answered 429 by each protocol, in that one's shape, with when to come
/// again; another tenant may send the same.
pub(super) fn every_way_in(scratch: &Scratch) -> Result<String> {
    let server = Launch::broker(&scratch.join("data")).config(CONFIG).start()?;
    let client = server.client();
    let (slow, other) = (client.for_tenant("slow"), client.for_tenant("other"));
    // Larger than the burst, so it passes a full bucket, and what follows has to wait.
    let first = slow.post("/api/v1/import/prometheus", &[], rows(600).concat().as_bytes())?;
    ensure!(first.status == 204, "{}: {}", first.status, first.text());
    let mut ways = ways();
    // What another tenant exports is one sample.
    let one = other.post("/api/v1/import/prometheus", &[], b"parquet 1\n")?;
    let file = other.get("/api/v1/export?format=parquet&match[]=parquet")?;
    ensure!((one.status, file.status) == (204, 200), "{} {}", one.text(), file.text());
    ways.push(Way {
        path: "/api/v1/import/parquet",
        headers: &[],
        body: file.body,
        refusal: r#""errorType":"bad_data""#,
    });
    for way in &ways {
        let refused = send(&slow, way)?;
        let (status, text) = (refused.status, refused.text());
        ensure!(status == 429, "{}: {status} {text}", way.path);
        ensure!(text.contains(way.refusal), "{}: {text}", way.path);
        ensure!(text.contains("limits.ingestion_rate (1 samples"), "{}: {text}", way.path);
        let after = refused.header("retry-after").and_then(|text| text.parse::<u64>().ok());
        ensure!(after.is_some_and(|after| (300..700).contains(&after)), "{}: {after:?}", way.path);
        let taken = send(&other, way)?;
        ensure!(taken.status < 300, "{}: {} {}", way.path, taken.status, taken.text());
    }
    let kept = slow.get_data("/api/v1/metrics")?;
    ensure!(kept.as_array().is_some_and(Vec::is_empty), "a refused push is kept: {kept}");
    ensure!(slow.request("DELETE", "/metrics/job/j", &[], &[])?.status == 202, "no delete");
    let stored = slow.data("/api/v1/query", &[("query", "count({__name__!=\"\"})")])?;
    ensure!(stored["result"][0]["value"][1] == "600", "{stored}");
    let name = "watchfire_broker_tenant_samples_refused_total";
    let refused = client.metric(&format!("{name}{{tenant=\"slow\",limit=\"ingestion_rate\"}}"))?;
    // A push is stored with its two times.
    ensure!(refused == ways.len() as f64 + 2.0, "{refused} refusals are counted");
    server.stop()?;
    Ok(format!("{} protocols", ways.len()))
}
