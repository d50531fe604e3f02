//! Requests as people type them, and refusals that really reach whoever sent them.

use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::expect;
use crate::harness::{Launch, Scratch};

/// Large enough that the answer comes long before the body has been sent.
const UPLOAD_BYTES: usize = 40 << 20;
const UPLOADS: usize = 20;

/// `curl 'http://…?query=up{job="a"}'`: no URL may hold a quotation mark, and all do.
pub(super) fn typed_queries(scratch: &Scratch) -> Result<String> {
    let server = Launch::broker(&scratch.join("data")).start()?;
    let client = server.client();
    let long = format!("/api/v1/query?query=vector(1)<2or\"{}\"==\"\"", "x".repeat(10_000));
    for target in [
        "/api/v1/query?query=count(up{job=\"a\"})",
        "/api/v1/query?query=vector(1)<2",
        "/api/v1/query?query=count(up{job=\"größe\"})",
    ] {
        expect(&client.get(target)?, 200, &["\"status\":\"success\""])?;
    }
    // Wrong as an expression, and told so in JSON.
    expect(&client.get(&long)?, 400, &["\"errorType\":\"bad_data\""])?;
    server.stop()?;
    Ok("quotation marks, angle brackets and umlauts are taken as they are typed".to_owned())
}

/// A refusal before the body was read, over HTTP/2: curl 7.88 reports a stream that was reset and
/// forgets the answer, unless the stream is left open for a moment.
pub(super) fn http2_refusals(scratch: &Scratch) -> Result<String> {
    let server = Launch::broker(&scratch.join("data")).start()?;
    let body = scratch.join("body");
    std::fs::write(&body, vec![b'a'; UPLOAD_BYTES])?;
    let url = format!("http://{}/api/v1/import/prometheus", server.client().address());
    for attempt in 0..UPLOADS {
        let output = Command::new("curl")
            .args(["-sS", "--http2-prior-knowledge", "--max-time", "20", "-w", "\n%{http_code}"])
            .arg("--data-binary")
            .arg(format!("@{}", body.display()))
            .arg(&url)
            .output()
            .context("start curl")?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let fault = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(
            said.ends_with("413") && said.contains("limits.max_body_bytes"),
            "upload {attempt} got {said:?} {fault:?}"
        );
    }
    server.stop()?;
    Ok(format!("{UPLOADS} of {UPLOADS} refused uploads told why"))
}
