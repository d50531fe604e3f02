//! Remote write and text import as clients send them.

use std::io::Write;

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use crate::harness::remote_write_2::{Exemplar2, Series2};
use crate::harness::{Client, Launch, Scratch, WriteBody, WriteBody2, now_ms};

fn value(client: &Client, query: &str) -> Result<Option<String>> {
    let data = client.data("/api/v1/query", &[("query", query)])?;
    Ok(data["result"][0]["value"][1].as_str().map(str::to_owned))
}

/// 204, 400 with the others stored, 415, and what the text says.
pub(super) fn remote_write(scratch: &Scratch) -> Result<String> {
    let server = Launch::broker(&scratch.join("data")).start()?;
    let client = server.client();
    let t_ms = now_ms();
    let body = WriteBody::new().series(&[("__name__", "w"), ("a", "1")], &[(t_ms, 1.5)]).snappy();
    for content_type in [
        "application/x-protobuf",
        "application/x-protobuf;proto=prometheus.WriteRequest",
        "application/x-protobuf; proto=prometheus.WriteRequest",
    ] {
        let headers = [("Content-Type", content_type), ("Content-Encoding", "snappy")];
        let answer = client.post("/api/v1/write", &headers, &body)?;
        ensure!(
            answer.status == 204 && answer.body.is_empty(),
            "{content_type}: {}",
            answer.text()
        );
    }
    ensure!(value(&client, "w")?.as_deref() == Some("1.5"), "not visible once acknowledged");
    let refused = [
        ("application/x-protobuf;proto=io.prometheus.write.v3.Request", "snappy", 415),
        ("application/json", "snappy", 415),
        ("image/png", "snappy", 415),
        ("application/x-protobuf", "gzip", 415),
        ("application/x-protobuf", "deflate", 415),
    ];
    for (content_type, encoding, status) in refused {
        let headers = [("Content-Type", content_type), ("Content-Encoding", encoding)];
        let answer = client.post("/api/v1/write", &headers, &body)?;
        ensure!(answer.status == status, "{content_type} {encoding}: {}", answer.status);
    }
    ensure!(client.write(b"not snappy at all")?.status == 400, "corrupt snappy");
    let nonsense = crate::harness::remote_write::snappy(&[0xff; 64]);
    ensure!(client.write(&nonsense)?.status == 400, "corrupt protobuf");
    let mixed = WriteBody::new()
        .series(&[("__name__", "w"), ("a", "1")], &[(t_ms, 2.5)])
        .series(&[("__name__", "w"), ("a", "2")], &[(t_ms, 7.0)])
        .series(&[("a", "nameless"), ("a", "twice")], &[(t_ms, 1.0)])
        .snappy();
    let answer = client.write(&mixed)?;
    let text = answer.text();
    ensure!(answer.status == 400 && text.contains("duplicate sample for timestamp"), "{text}");
    ensure!(text.contains("the other samples of the request are stored"), "{text}");
    ensure!(value(&client, r#"w{a="2"}"#)?.as_deref() == Some("7"), "the good one is missing");
    ensure!(value(&client, r#"w{a="1"}"#)?.as_deref() == Some("1.5"), "the first value is gone");
    server.stop()?;
    Ok(format!("{} refused forms", refused.len() + 2))
}

/// Text and OpenMetrics, in every encoding, with labels from the URL.
pub(super) fn text_import(scratch: &Scratch) -> Result<String> {
    let server = Launch::broker(&scratch.join("data")).start()?;
    let client = server.client();
    let path = "/api/v1/import/prometheus";
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(b"packed 2\n")?;
    let mut zlib = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
    zlib.write_all(b"deflated 3\n")?;
    let snappy = crate::harness::remote_write::snappy(b"snapped 4\n");
    for (name, wanted, encoding, body) in [
        ("plain", "1", "identity", b"plain 1\n".to_vec()),
        ("packed", "2", "gzip", gzip.finish()?),
        ("deflated", "3", "deflate", zlib.finish()?),
        ("snapped", "4", "snappy", snappy),
    ] {
        let answer = client.post(path, &[("Content-Encoding", encoding)], &body)?;
        ensure!(answer.status == 204, "{encoding}: {}", answer.text());
        ensure!(value(&client, name)?.as_deref() == Some(wanted), "{encoding} is not there");
    }
    let t_s = now_ms() / 1_000;
    let openmetrics = format!("# TYPE jobs counter\njobs_total 5 {t_s}\n# EOF\n");
    let headers = [("Content-Type", "application/openmetrics-text; version=1.0.0")];
    let answer = client.post(path, &headers, openmetrics.as_bytes())?;
    ensure!(answer.status == 204, "{}", answer.text());
    ensure!(value(&client, "jobs_total")?.as_deref() == Some("5"), "seconds were taken for ms");
    let unended = client.post(path, &headers, b"# TYPE jobs counter\njobs_total 6\n")?;
    ensure!(unended.status == 400, "OpenMetrics without # EOF: {}", unended.status);
    let labelled = format!("{path}?extra_label=job%3Dcron&extra_label=env%3Dprod%3Deu");
    ensure!(client.post(&labelled, &[], b"batch 1\n")?.status == 204, "extra labels");
    let data = client.data("/api/v1/query", &[("query", "batch")])?;
    let metric = json!({"__name__": "batch", "job": "cron", "env": "prod=eu"});
    ensure!(data["result"][0]["metric"] == metric, "{data}");
    ensure!(client.post(&format!("{path}?extra_label=x"), &[], b"a 1\n")?.status == 400, "no =");
    let broken = client.post(path, &[], b"good 1\nbad{ 2\n")?;
    ensure!(broken.status == 400 && broken.text().contains('2'), "{}", broken.text());
    ensure!(value(&client, "good")?.is_none(), "a broken body was stored by half");
    server.stop()?;
    Ok("text, OpenMetrics, 4 encodings".to_owned())
}

/// 2.0: every answer says what was written, and what cannot be is named beside it.
pub(super) fn remote_write_2(scratch: &Scratch) -> Result<String> {
    let server = Launch::broker(&scratch.join("data")).start()?;
    let client = server.client();
    let t_ms = now_ms();
    let owned = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    };
    let written = |answer: &crate::harness::Response| {
        ["samples", "histograms", "exemplars"].map(|what| {
            let name = format!("x-prometheus-remote-write-{what}-written");
            answer.header(&name).map_or(-1, |value| value.parse::<i64>().unwrap_or(-2))
        })
    };
    let series = |name: &str, value: f64| Series2 {
        labels: owned(&[("z", "last"), ("__name__", name)]),
        samples: vec![(t_ms - 1, value, t_ms - 1_000), (t_ms, value, 0)],
        exemplars: vec![Exemplar2 { labels: owned(&[("trace_id", "a")]), value, t_ms }],
        metadata: Some((1, "Help of 2.0.".to_owned(), "bytes".to_owned())),
        ..Series2::default()
    };
    let answer = client.write_2(&WriteBody2::new().series(&series("two", 1.0)).snappy())?;
    ensure!(answer.status == 204, "{}", answer.text());
    ensure!(written(&answer) == [2, 0, 1], "{:?}", answer.headers);
    ensure!(value(&client, r#"two{z="last"}"#)?.as_deref() == Some("1"), "not visible");
    let metadata: Value = serde_json::from_slice(&client.get("/api/v1/metadata?metric=two")?.body)?;
    let said = json!([{"type": "counter", "help": "Help of 2.0.", "unit": "bytes"}]);
    ensure!(metadata["data"]["two"] == said, "{metadata}");
    let kept = client.data("/api/v1/query_exemplars", &[("query", "rate(two[5m])")])?;
    let said = json!([{"labels": {"trace_id": "a"}, "value": "1", "timestamp": t_ms as f64 / 1e3}]);
    let of = json!({"__name__": "two", "z": "last"});
    ensure!(kept == json!([{"seriesLabels": of, "exemplars": said}]), "{kept}");
    // A repetition is written already; another value is not, nor is a series with a label twice.
    // Exemplars are judged for themselves, as in Prometheus.
    let twice = Series2 {
        labels: owned(&[("__name__", "two"), ("a", "1"), ("a", "2")]),
        ..series("two", 1.0)
    };
    let body = WriteBody2::new()
        .series(&series("two", 1.0))
        .series(&series("other", 5.0))
        .series(&twice)
        .snappy();
    let answer = client.write_2(&body)?;
    let text = answer.text();
    ensure!(answer.status == 400 && text.contains("duplicate label name"), "{text}");
    ensure!(written(&answer) == [4, 0, 2], "{:?}", answer.headers);
    let answer = client.write_2(&WriteBody2::new().series(&series("two", 2.0)).snappy())?;
    ensure!(answer.status == 400, "{}", answer.text());
    ensure!(written(&answer) == [0, 0, 1], "{:?}", answer.headers);
    // Without a sample: of a series that has some, and of one that has none.
    let alone = |name, value| Series2 { samples: Vec::new(), ..series(name, value) };
    let answer = client.write_2(&WriteBody2::new().series(&alone("two", 3.0)).snappy())?;
    ensure!(answer.status == 204 && written(&answer) == [0, 0, 1], "{:?}", answer.headers);
    let answer = client.write_2(&WriteBody2::new().series(&alone("orphan", 3.0)).snappy())?;
    let text = answer.text();
    ensure!(answer.status == 400 && text.contains("without a sample"), "{text}");
    ensure!(written(&answer) == [0, 0, 0], "{:?}", answer.headers);
    let answer = client.write_2(b"not snappy at all")?;
    ensure!(answer.status == 400 && written(&answer) == [0, 0, 0], "{:?}", answer.headers);
    server.stop()?;
    Ok("6 answers with their counts".to_owned())
}
