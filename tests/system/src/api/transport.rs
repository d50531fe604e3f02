//! What HTTP itself promises: methods, compression, HEAD, caches, policies, origins.

use std::io::Read;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::{import, launch};
use crate::harness::{Launch, Scratch};

/// No API path is ever answered with the console's page.
pub(super) fn unknown_paths_and_methods(scratch: &Scratch) -> Result<String> {
    let server = Launch::broker(&scratch.join("data")).start()?;
    let client = server.client();
    let paths = ["/api", "/api/", "/api/v1", "/api/v1/nothing", "/api/v9/status", "/api/v1/query/"];
    for path in paths {
        for method in ["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"] {
            let answer = client.request(method, path, &[], &[])?;
            let envelope: Value = serde_json::from_slice(&answer.body)
                .with_context(|| format!("{method} {path} answered {}", answer.text()))?;
            let told = envelope["status"] == "error" && envelope["errorType"] == "not_found";
            ensure!(answer.status == 404 && told, "{method} {path}: {}", answer.text());
            ensure!(answer.header("content-type") == Some("application/json"), "{method} {path}");
        }
    }
    for (method, path, allowed) in [
        ("PUT", "/api/v1/query", "GET,HEAD,POST"),
        ("DELETE", "/api/v1/series", "GET,HEAD,POST"),
        ("POST", "/api/v1/metadata", "GET,HEAD"),
        ("GET", "/api/v1/write", "POST"),
        ("POST", "/metrics", "GET,HEAD"),
    ] {
        let answer = client.request(method, path, &[], &[])?;
        let envelope: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        ensure!(answer.status == 405 && envelope["status"] == "error", "{method} {path}");
        let allow = answer.header("allow");
        ensure!(allow == Some(allowed), "{method} {path} allows {allow:?}");
    }
    server.stop()?;
    Ok(format!("{} paths in 6 methods, 5 wrong methods", paths.len()))
}

/// Long answers are compressed for those who accept it, others are not.
pub(super) fn gzip(scratch: &Scratch) -> Result<String> {
    let server = launch(scratch).start()?;
    let client = server.client();
    let lines: String = (0..500).map(|x| format!("a{{x=\"{x}\"}} {x} 100000\n")).collect();
    import(&client, &lines)?;
    let target = "/api/v1/query?query=a&time=100";
    let plain = client.get(target)?;
    ensure!(plain.header("content-encoding").is_none(), "compressed unasked");
    for accepted in ["gzip", "gzip, deflate", "br;q=1.0, gzip;q=0.8", "*"] {
        let packed = client.request("GET", target, &[("Accept-Encoding", accepted)], &[])?;
        ensure!(packed.header("content-encoding") == Some("gzip"), "not for {accepted:?}");
        let vary = packed.header("vary").unwrap_or_default();
        ensure!(vary.eq_ignore_ascii_case("accept-encoding"), "vary {vary:?}");
        let mut unpacked = Vec::new();
        flate2::read::GzDecoder::new(packed.body.as_slice()).read_to_end(&mut unpacked)?;
        ensure!(unpacked == plain.body, "{accepted:?} unpacks to something else");
    }
    for refused in ["gzip;q=0", "identity", "deflate"] {
        let answer = client.request("GET", target, &[("Accept-Encoding", refused)], &[])?;
        ensure!(answer.header("content-encoding").is_none(), "{refused:?} was answered with gzip");
    }
    let short = client.request("GET", "/api/v1/nothing", &[("Accept-Encoding", "gzip")], &[])?;
    ensure!(short.header("content-encoding").is_none(), "a short answer was compressed");
    let packed = client.request("GET", target, &[("Accept-Encoding", "gzip")], &[])?.body.len();
    server.stop()?;
    Ok(format!("{} bytes become {packed}", plain.body.len()))
}

/// HEAD is GET without its body.
pub(super) fn head(scratch: &Scratch) -> Result<String> {
    let server = Launch::broker(&scratch.join("data")).start()?;
    let client = server.client();
    let paths = ["/", "/explore", "/-/healthy", "/metrics", "/api/v1/query?query=1&time=0"];
    for path in paths {
        let request = format!(
            "HEAD {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n",
            client.address()
        );
        let mut stream = client.connect()?;
        std::io::Write::write_all(&mut stream, request.as_bytes())?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        let text = String::from_utf8_lossy(&answer);
        ensure!(text.starts_with("HTTP/1.1 200"), "{path}: {text}");
        ensure!(
            text.ends_with("\r\n\r\n") && text.matches("\r\n\r\n").count() == 1,
            "{path}: {text}"
        );
        let get = client.get(path)?;
        let kind = get.header("content-type").unwrap_or_default();
        ensure!(text.to_ascii_lowercase().contains(&format!("content-type: {kind}")), "{path}");
    }
    server.stop()?;
    Ok(format!("{} paths", paths.len()))
}

/// Pages run only their own scripts, files with a hash in their name are kept for ever.
pub(super) fn pages(scratch: &Scratch) -> Result<String> {
    let server = Launch::broker(&scratch.join("data")).start()?;
    let client = server.client();
    let page = client.get("/")?;
    ensure!(page.status == 200, "/: {}", page.status);
    ensure!(page.header("content-type").is_some_and(|kind| kind.starts_with("text/html")));
    let policy = page.header("content-security-policy").unwrap_or_default();
    for directive in ["default-src 'self'", "base-uri 'none'", "object-src 'none'"] {
        ensure!(policy.contains(directive), "no {directive} in {policy:?}");
    }
    let scripts = policy.split(';').map(str::trim).find(|part| part.starts_with("script-src"));
    ensure!(scripts.is_none_or(|part| !part.contains("unsafe")), "scripts may be unsafe: {policy}");
    for (name, value) in [
        ("x-content-type-options", "nosniff"),
        ("x-frame-options", "SAMEORIGIN"),
        ("referrer-policy", "no-referrer"),
        ("cache-control", "no-cache"),
    ] {
        ensure!(page.header(name) == Some(value), "{name}: {:?}", page.header(name));
    }
    let etag = page.header("etag").context("a page has no ETag")?.to_owned();
    let again = client.request("GET", "/", &[("If-None-Match", &etag)], &[])?;
    ensure!(again.status == 304 && again.body.is_empty(), "known page: {}", again.status);
    for path in ["/explore", "/host/web-1", "/hosts"] {
        let routed = client.get(path)?;
        ensure!(routed.status == 200 && routed.body == page.body, "{path}: {}", routed.status);
    }
    for path in ["/no/such/page", "/consoles/node.html", "/-/quit", "/apifoo"] {
        let probed = client.get(path)?;
        ensure!(probed.status == 404 && probed.body != page.body, "{path}: {}", probed.status);
        let seen = client.request("GET", path, &[("Accept", "text/html,*/*")], &[])?;
        ensure!(seen.status == 404 && seen.body == page.body, "{path}: {}", seen.status);
    }
    let html = page.text();
    let assets: Vec<&str> =
        html.split(['"', '\'']).filter(|word| word.starts_with("/assets/")).collect();
    ensure!(assets.len() >= 2, "the page names no script and style");
    for path in &assets {
        let asset = client.get(path)?;
        let cache = asset.header("cache-control").unwrap_or_default();
        ensure!(asset.status == 200 && cache.contains("immutable"), "{path}: {cache:?}");
        let packed = client.request("GET", path, &[("Accept-Encoding", "gzip")], &[])?;
        // What gets no shorter is sent as it is.
        if packed.header("content-encoding").is_none() {
            ensure!(packed.body == asset.body, "{path} is something else");
            ensure!(asset.body.len() < 1_024, "{path} is not packed: {}", asset.body.len());
            continue;
        }
        let mut unpacked = Vec::new();
        flate2::read::MultiGzDecoder::new(packed.body.as_slice())
            .read_to_end(&mut unpacked)
            .with_context(|| format!("unpack {path}"))?;
        ensure!(unpacked == asset.body, "{path} packed is something else");
    }
    ensure!(client.get("/assets/nothing.js")?.status == 404, "a missing asset is a page");
    ensure!(client.post("/explore", &[], &[])?.status == 405, "a page takes POST");
    ensure!(client.post("/datadog/api/v9/x", &[], &[])?.status == 404, "a path nobody knows");
    server.stop()?;
    Ok(format!("{} assets", assets.len()))
}

/// A page of another site reaches nothing through the user's browser.
pub(super) fn foreign_origins(scratch: &Scratch) -> Result<String> {
    let server = Launch::broker(&scratch.join("data"))
        .config("http:\n  allowed_hosts: [watch.example.org]\n")
        .start()?;
    let client = server.client();
    let port = client.address().port();
    let ask = |method: &str, path: &str, host: &str, more: &str| -> Result<u16> {
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\
             Content-Length: 0\r\n{more}\r\n"
        );
        Ok(client.raw(request.as_bytes())?.status)
    };
    let own = format!("127.0.0.1:{port}");
    let named = format!("localhost:{port}");
    for host in [own.as_str(), named.as_str(), "[::1]", "watch.example.org", "LOCALHOST"] {
        ensure!(ask("GET", "/api/v1/labels", host, "")? == 200, "host {host} is refused");
    }
    for host in ["evil.example.org", "127.0.0.1.evil.example.org", "1.2.3.4", "localhost.evil", ""]
    {
        let status = ask("GET", "/api/v1/labels", host, "")?;
        ensure!(status == 403 || status == 400, "host {host:?} is answered {status}");
    }
    let upgrade = "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                   Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    for origin in ["http://evil.example.org", "null", "https://localhost.evil"] {
        let origin = format!("Origin: {origin}\r\n");
        let write = ask("POST", "/api/v1/import/prometheus", &own, &origin)?;
        ensure!(write == 403, "{origin}writes: {write}");
        let live = ask("GET", "/api/v1/live", &own, &format!("{origin}{upgrade}"))?;
        ensure!(live == 403, "{origin}listens: {live}");
    }
    for origin in [format!("http://{own}"), format!("http://{named}")] {
        let origin = format!("Origin: {origin}\r\n");
        let write = ask("POST", "/api/v1/import/prometheus", &own, &origin)?;
        ensure!(write == 204, "{origin}is refused: {write}");
    }
    let refused = client.metric("watchfire_net_origins_refused_total")?;
    ensure!(refused >= 10.0, "{refused} refusals counted");
    let answer = client.get("/api/v1/labels")?;
    let open = answer.header("access-control-allow-origin");
    ensure!(open.is_none(), "other sites may read answers: {open:?}");
    server.stop()?;
    Ok(format!("{refused} refused and counted"))
}
