//! Answers of any size, to scripts of other origins and to forms of any kind.

use anyhow::{Result, ensure};
use serde_json::Value;

use super::import;
use crate::harness::remote_write::{push_bytes, snappy};
use crate::harness::{Launch, Scratch};

/// What an export cannot hold is said with a status before it begins, in every format.
pub(super) fn exports_over_a_limit(scratch: &Scratch) -> Result<String> {
    let config = "limits:\n  max_query_series: 4\n";
    let server = Launch::broker(&scratch.join("data")).config(config).start()?;
    let client = server.client();
    let lines: String = (0..6).map(|n| format!("s{n} {n}\n")).collect();
    import(&client, &lines)?;
    let matched = "match[]=s0&match[]=%7B__name__=~%22s.*%22%7D";
    let paths = [
        format!("/api/v1/export?{matched}"),
        format!("/api/v1/export?format=prometheus&{matched}"),
        format!("/api/v1/export?format=parquet&{matched}"),
        format!("/api/v1/export/csv?format=__name__,__value__&{matched}"),
    ];
    for path in &paths {
        let answer = client.get(path)?;
        let text = answer.text();
        ensure!(answer.status == 422 && text.contains("limits.max_query_series"), "{path}: {text}");
    }
    let answer = client.get("/api/v1/export?match[]=%7B__name__=~%22s[0-3]%22%7D")?;
    ensure!(answer.status == 200 && answer.text().lines().count() == 4, "{}", answer.text());
    // Nothing that matches is an empty answer.
    let answer = client.get("/api/v1/export?match[]=none")?;
    ensure!(answer.status == 200 && answer.body.is_empty(), "{}", answer.text());
    // A query of remote read without conditions asks for nothing, as in Prometheus.
    let mut request = Vec::new();
    push_bytes(&mut request, 1, &[1 << 3, 0, 2 << 3, 0xff, 0xff, 0xff, 0xff, 0xff, 0x3f]);
    let answer = client.post("/api/v1/read", &[], &snappy(&request))?;
    let body = snap::raw::Decoder::new().decompress_vec(&answer.body)?;
    ensure!(answer.status == 200 && body == [1 << 3 | 2, 0], "{} {body:?}", answer.status);
    server.stop()?;
    Ok(format!("{} formats", paths.len()))
}

/// Scripts of the origins that the operator names read, and do nothing else.
pub(super) fn named_origins(scratch: &Scratch) -> Result<String> {
    let ours = "https://grafana.example.org";
    let config = format!("http:\n  cors_origins: ['{ours}']\n");
    let server = Launch::broker(&scratch.join("data")).config(&config).start()?;
    let client = server.client();
    let ask = |method: &str, path: &str, origin: &str| {
        let preflight = [("Access-Control-Request-Method", "POST")];
        let form = [("Content-Type", "application/x-www-form-urlencoded")];
        let more = if method == "OPTIONS" { preflight } else { form };
        let headers = [&[("Origin", origin)][..], &more].concat();
        let body: &[u8] = if method == "POST" { b"query=1" } else { b"" };
        client.request(method, path, &headers, body)
    };
    let name = "access-control-allow-origin";
    for (method, status) in [("GET", 200), ("POST", 200), ("OPTIONS", 204)] {
        let answer = ask(method, "/api/v1/query?query=1", ours)?;
        let is_allowed = answer.header(name) == Some(ours);
        ensure!(answer.status == status && is_allowed, "{method}: {}", answer.text());
        ensure!(answer.header("vary").is_some(), "{method}: caches are not told");
        ensure!(answer.header("access-control-allow-credentials").is_none(), "cookies");
    }
    let headers = ask("OPTIONS", "/api/v1/query", ours)?;
    let headers = headers.header("access-control-allow-headers").unwrap_or_default().to_owned();
    ensure!(headers.contains("Authorization") && headers.contains("X-Scope-OrgID"), "{headers}");
    for (method, path, origin, status) in [
        ("POST", "/api/v1/query", "https://other.example.org", 403),
        ("POST", "/api/v1/import/prometheus", ours, 403),
        ("POST", "/api/v1/admin/tsdb/delete_series", ours, 403),
        ("OPTIONS", "/api/v1/write", ours, 405),
        ("OPTIONS", "/api/v1/query", "https://other.example.org", 405),
        ("GET", "/api/v1/query?query=1", "https://other.example.org", 200),
    ] {
        let answer = ask(method, path, origin)?;
        let is_silent = answer.header(name).is_none();
        ensure!(answer.status == status && is_silent, "{method} {path}: {}", answer.status);
    }
    server.stop()?;
    for (origin, wanted) in [("*", "auth.login"), ("https://a.example/", "scheme://host[:port]")] {
        let config = format!("http:\n  cors_origins: ['{origin}']\n");
        let begun = Launch::broker(&scratch.join("refused")).config(&config).start();
        let error = begun.err().map(|error| format!("{error:#}")).unwrap_or_default();
        ensure!(error.contains(wanted), "{origin}: {error}");
    }
    Ok("9 requests, 2 refused configurations".to_owned())
}

/// `curl -F query=…`.
pub(super) fn multipart(scratch: &Scratch) -> Result<String> {
    let server = Launch::broker(&scratch.join("data")).start()?;
    let client = server.client();
    let url = |path: &str| format!("http://{}{path}", client.address());
    let mut asked = 0;
    for (path, fields) in [
        ("/api/v1/query", &["query=1"][..]),
        ("/api/v1/query_range", &["query=1", "start=0", "end=60", "step=15"]),
        ("/api/v1/series", &["match[]=up", "match[]={job=\"a\"}"]),
        ("/api/v1/labels", &["limit=3"]),
        ("/api/v1/format_query", &["query=sum( up )"]),
    ] {
        let mut curl = std::process::Command::new("curl");
        curl.arg("-sS").arg(url(path));
        fields.iter().for_each(|field| {
            curl.args(["-F", field]);
        });
        let out = curl.output()?;
        let text = String::from_utf8_lossy(&out.stdout).into_owned();
        let answer: Value = serde_json::from_str(&text)?;
        ensure!(answer["status"] == "success", "{path}: {text}");
        asked += 1;
    }
    let kind = [("Content-Type", "multipart/form-data; boundary=x")];
    let answer = client.post("/api/v1/query", &kind, b"--x\r\nContent-Disposition: form-data")?;
    ensure!(answer.status == 400 && answer.text().contains("cut off"), "{}", answer.text());
    server.stop()?;
    Ok(format!("{asked} forms"))
}
