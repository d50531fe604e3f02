//! Request bodies that are too large, packed to explode, cut short or never finished.

use std::io::Write;

use anyhow::{Context, Result, ensure};

use super::expect;
use crate::harness::remote_write::snappy;
use crate::harness::{Client, Launch, Scratch, Server, WriteBody, now_ms};

/// Most memory that bad requests may cost: bodies of the largest size, packed and unpacked at once.
const MEMORY_BYTES: u64 = 96 << 20;

const IMPORT: &str = "/api/v1/import/prometheus";

pub(super) fn oversize(scratch: &Scratch) -> Result<String> {
    let server = Launch::broker(&scratch.join("data"))
        .config("limits:\n  max_body_bytes: 50000\n")
        .start()?;
    let client = server.client();
    let names_limit = ["50000", "limits.max_body_bytes"];
    // Too large on the wire, declared.
    expect(&client.post(IMPORT, &[], &[b'a'; 60_000])?, 413, &names_limit)?;
    // Declared, and never sent.
    let head =
        format!("POST {IMPORT} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999\r\n\r\n");
    expect(&client.raw(head.as_bytes())?, 413, &names_limit)?;
    // Too large on the wire, in chunks that declare nothing.
    let mut chunked = format!("POST {IMPORT} HTTP/1.1\r\nHost: localhost\r\n").into_bytes();
    chunked.extend_from_slice(b"Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n");
    for _ in 0..60 {
        chunked.extend_from_slice(b"3e8\r\n");
        chunked.extend_from_slice(&[b'a'; 1_000]);
        chunked.extend_from_slice(b"\r\n");
    }
    expect(&client.raw(&chunked)?, 413, &names_limit)?;
    // Too large only when unpacked.
    expect(&client.write(&snappy(&[0; 60_000]))?, 413, &names_limit)?;
    let gzip = [("Content-Encoding", "gzip")];
    expect(&client.post(IMPORT, &gzip, &gzipped(60_000)?)?, 413, &names_limit)?;
    // A head that is too large.
    let endless = "a".repeat(200_000);
    let refused = client.request("GET", "/api/v1/labels", &[("X-Endless", &endless)], &[])?;
    ensure!(refused.status == 431, "an endless header is answered {}", refused.status);
    still_writes(client)?;
    server.stop()?;
    Ok("413 names the limit and its key, 6 ways".to_owned())
}

pub(super) fn bombs(scratch: &Scratch) -> Result<String> {
    let server = Launch::broker(&scratch.join("data")).start()?;
    let client = server.client();
    still_writes(client)?;
    let before = server.peak_resident_bytes()?;
    let names_limit = ["33554432", "limits.max_body_bytes"];
    let snappy_bomb = snappy(&vec![0; 64 << 20]);
    let gzip_bomb = gzipped(512 << 20)?;
    let gzip = [("Content-Encoding", "gzip")];
    for _ in 0..3 {
        expect(&client.write(&snappy_bomb)?, 413, &names_limit)?;
        expect(&client.post(IMPORT, &gzip, &gzip_bomb)?, 413, &names_limit)?;
    }
    // Lengths that are declared and not there.
    for declared in [u64::from(u32::MAX), 1 << 40, u64::MAX >> 1] {
        let mut body = Vec::new();
        let mut left = declared;
        while left >= 0x80 {
            body.push((left & 0x7f) as u8 | 0x80);
            left >>= 7;
        }
        body.push(left as u8);
        body.extend_from_slice(b"abc");
        let status = client.write(&body)?.status;
        ensure!(matches!(status, 400 | 413), "{declared} declared bytes are answered {status}");
    }
    // A message that says of one field that it is longer than the message.
    expect(&client.write(&snappy(&[0x0a, 0xff, 0xff, 0xff, 0xff, 0x0f]))?, 400, &[])?;
    let grown = grown_since(&server, before)?;
    still_writes(client)?;
    server.stop()?;
    Ok(format!("refused with {} MiB more memory at most", grown >> 20))
}

pub(super) fn truncated(scratch: &Scratch) -> Result<String> {
    let server = Launch::broker(&scratch.join("data")).start()?;
    let client = server.client();
    let labels = [("__name__", "truncated"), ("place", "somewhere")];
    let whole = WriteBody::new().series(&labels, &[(now_ms(), 1.0)]);
    for cut in 1..whole.message().len() {
        expect(&client.write(&snappy(&whole.message()[..cut]))?, 400, &["remote write"])
            .with_context(|| format!("message cut after {cut} bytes"))?;
    }
    let packed = whole.snappy();
    for cut in 0..packed.len() {
        expect(&client.write(&packed[..cut])?, 400, &[])
            .with_context(|| format!("snappy cut after {cut} bytes"))?;
    }
    let found = client.data("/api/v1/query", &[("query", "count({__name__=~\".+\"})")])?;
    ensure!(found["result"].as_array().is_some_and(Vec::is_empty), "something is stored: {found}");
    still_writes(client)?;
    server.stop()?;
    Ok(format!("{} cuts answered 400, nothing stored", whole.message().len() + packed.len() - 1))
}

pub(super) fn half_sent(scratch: &Scratch) -> Result<String> {
    let server = Launch::broker(&scratch.join("data")).start()?;
    let client = server.client();
    let labels = [("__name__", "half_sent")];
    let body = WriteBody::new().series(&labels, &[(now_ms(), 1.0)]).snappy();
    let mut request = format!(
        "POST /api/v1/write HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n",
        body.len()
    )
    .into_bytes();
    request.extend_from_slice(&body);
    for sent in 0..request.len() {
        client.connect()?.write_all(&request[..sent])?;
    }
    // Two good requests in one go, the second cut: the first counts.
    let found = client.data("/api/v1/query", &[("query", "half_sent")])?;
    ensure!(found["result"].as_array().is_some_and(Vec::is_empty), "stored: {found}");
    let mut both = request.clone();
    both.extend_from_slice(&request[..request.len() - 1]);
    let mut stream = client.connect()?;
    stream.write_all(&both)?;
    stream.shutdown(std::net::Shutdown::Write)?;
    let mut answers = Vec::new();
    std::io::Read::read_to_end(&mut stream, &mut answers)?;
    let answers = String::from_utf8_lossy(&answers);
    ensure!(answers.starts_with("HTTP/1.1 204"), "the first of two was answered {answers}");
    still_writes(client)?;
    server.stop()?;
    Ok(format!("{} requests cut off", request.len() + 1))
}

/// Zeros, packed; made piece by piece so that this process stays small too.
fn gzipped(zeros: usize) -> Result<Vec<u8>> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(6));
    let piece = vec![0; 1 << 20];
    let mut left = zeros;
    while left > 0 {
        let len = left.min(piece.len());
        encoder.write_all(&piece[..len])?;
        left -= len;
    }
    encoder.finish().context("pack zeros")
}

fn still_writes(client: Client) -> Result<()> {
    let body = WriteBody::new().series(&[("__name__", "good")], &[(now_ms(), 1.0)]);
    expect(&client.write(&body.snappy())?, 204, &[])
}

fn grown_since(server: &Server, before: u64) -> Result<u64> {
    let grown = server.peak_resident_bytes()?.saturating_sub(before);
    ensure!(grown < MEMORY_BYTES, "bad requests cost {} MiB of memory", grown >> 20);
    Ok(grown)
}
