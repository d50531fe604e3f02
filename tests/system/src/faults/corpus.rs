//! Bad inputs that broke other programs, over the real socket: never an answer that blames
//! Watchfire, never a panic, never unbounded memory. The cases lie beside the repository; where
//! they are absent nothing is run.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::harness::remote_write::snappy;
use crate::harness::{Client, Launch, Response, Scratch};

/// Most memory that all cases together may cost. One body of the largest size that is allowed
/// takes up to nine times its size when it is decoded, for a moment.
const MEMORY_BYTES: u64 = 320 << 20;

const IMPORT: &str = "/api/v1/import/prometheus";
pub(super) const PROTOBUF: &str = "application/vnd.google.protobuf; \
                                   proto=io.prometheus.client.MetricFamily; encoding=delimited";

/// How the cases of one protocol are sent.
type Send = fn(Client, &[u8]) -> Result<()>;

/// One bad input.
#[derive(Clone)]
pub(super) struct Case {
    /// Its id, or its file.
    pub(super) name: String,
    /// What its source does with it, such as `reject`.
    pub(super) expect: String,
    /// Where it comes from.
    pub(super) source: String,
    pub(super) bytes: Vec<u8>,
}

const PROTOCOLS: &[(&str, Send)] = &[
    ("remote-write-v1", |client, case| well(client.write(&snappy(case)))),
    ("prom-protobuf", |client, case| {
        well(client.write(&snappy(case)))?;
        import(client, case, ("Content-Type", PROTOBUF))?;
        push(client, case, ("Content-Type", PROTOBUF))
    }),
    ("snappy-block", packed_write),
    ("gzip", |client, case| import(client, case, ("Content-Encoding", "gzip"))),
    ("zstd", |client, case| import(client, case, ("Content-Encoding", "zstd"))),
    ("prom-text", |client, case| {
        import(client, case, ("Content-Type", "text/plain"))?;
        push(client, case, ("Content-Type", "text/plain"))
    }),
    ("openmetrics", |client, case| {
        import(client, case, ("Content-Type", "application/openmetrics-text; version=1.0.0"))
    }),
    ("promql", expression),
    ("logql", expression),
    ("promql-selector", selector),
    ("matchers", selector),
    ("regex", regex),
    ("url", path),
    ("path-param", path),
    ("raw-http", |client, case| raw(client, case).map(drop)),
];

pub(super) fn corpus(scratch: &Scratch) -> Result<String> {
    let Some(root) = root() else { return Ok(ABSENT.to_owned()) };
    let server = Launch::broker(&scratch.join("data")).start()?;
    let client = server.client();
    let before = server.peak_resident_bytes()?;
    let mut sent = Vec::new();
    for (protocol, send) in PROTOCOLS {
        let cases = cases(&root, protocol)?;
        for case in &cases {
            send(client, &case.bytes).with_context(|| format!("{protocol} case {}", case.name))?;
        }
        sent.push(format!("{} {protocol}", cases.len()));
        ensure!(client.get("/-/ready")?.status == 200, "not ready after {protocol}");
    }
    let grown = server.peak_resident_bytes()?.saturating_sub(before);
    ensure!(grown < MEMORY_BYTES, "the cases cost {} MiB of memory", grown >> 20);
    let said = server.stderr();
    ensure!(!said.contains("panicked"), "{said}");
    server.stop()?;
    Ok(format!("{} cases, {} MiB more memory at most", sent.join(", "), grown >> 20))
}

/// What a test says where the cases are absent.
pub(super) const ABSENT: &str = "the public cases are not on this machine; nothing run";

/// Where the cases lie, if they do.
pub(super) fn root() -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/corpus");
    root.is_dir().then_some(root)
}

/// The cases of a protocol, those in lines first.
pub(super) fn cases(root: &Path, protocol: &str) -> Result<Vec<Case>> {
    let mut cases = Vec::new();
    let lines = root.join(format!("{protocol}.jsonl"));
    let lines = if lines.exists() { std::fs::read_to_string(&lines)? } else { String::new() };
    for line in lines.lines() {
        let case: Value = serde_json::from_str(line).context("read a case")?;
        let bytes = match (case["text"].as_str(), case["b64"].as_str()) {
            (Some(text), _) => text.as_bytes().to_vec(),
            (_, Some(base64)) => decode_base64(base64)?,
            _ => bail!("a case without text: {line}"),
        };
        let field = |name: &str| case[name].as_str().unwrap_or("?").to_owned();
        let (name, expect, source) = (field("id"), field("expect"), field("source"));
        cases.push(Case { name, expect, source, bytes });
    }
    let index = std::fs::read_to_string(root.join("index.tsv")).context("read the index")?;
    for row in index.lines() {
        let columns: Vec<_> = row.split('\t').collect();
        let [id, proto, _, expect, _, _, place, source, ..] = columns.as_slice() else { continue };
        if *proto == protocol && place.starts_with("files/") {
            let bytes = std::fs::read(root.join(place)).with_context(|| format!("read {place}"))?;
            let [name, expect, source] = [id, expect, source].map(|text| (*text).to_owned());
            cases.push(Case { name, expect, source, bytes });
        }
    }
    ensure!(!cases.is_empty(), "there are no cases of {protocol}");
    Ok(cases)
}

fn decode_base64(text: &str) -> Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    let (mut bits, mut held) = (0_u32, 0);
    for letter in text.bytes().filter(|&letter| letter != b'=') {
        let digit = match letter {
            b'A'..=b'Z' => letter - b'A',
            b'a'..=b'z' => letter - b'a' + 26,
            b'0'..=b'9' => letter - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => bail!("{letter} is no base 64"),
        };
        bits = bits << 6 | u32::from(digit);
        held += 6;
        if held >= 8 {
            held -= 8;
            bytes.push((bits >> held) as u8);
        }
    }
    Ok(bytes)
}

/// There must be an answer, and it must not blame the server. 503 and 507 say "not now".
pub(super) fn well(answer: Result<Response>) -> Result<()> {
    let answer = answer?;
    let is_well = answer.status < 500 || matches!(answer.status, 503 | 507);
    ensure!(is_well, "answered {}: {}", answer.status, answer.text());
    Ok(())
}

/// As it is, and unpacked first where the case is wrapped to be small.
fn packed_write(client: Client, case: &[u8]) -> Result<()> {
    well(client.write(case))?;
    let mut unwrapped = Vec::new();
    let unwrapping = flate2::read::ZlibDecoder::new(case).read_to_end(&mut unwrapped);
    if unwrapping.is_ok() {
        well(client.write(&unwrapped))?;
    }
    Ok(())
}

fn import(client: Client, case: &[u8], header: (&str, &str)) -> Result<()> {
    well(client.post(IMPORT, &[header], case))
}

/// To the Pushgateway, whose parser is as strict and which keeps what it takes.
fn push(client: Client, case: &[u8], header: (&str, &str)) -> Result<()> {
    well(client.post("/metrics/job/corpus", &[header], case))
}

/// A query as a form.
pub(super) fn ask(client: Client, path: &str, form: &[(&str, &[u8])]) -> Result<()> {
    let mut body = String::new();
    for (name, value) in form {
        if !body.is_empty() {
            body.push('&');
        }
        body.push_str(name);
        body.push('=');
        body.extend(form_urlencoded::byte_serialize(value));
    }
    let headers = [("Content-Type", "application/x-www-form-urlencoded")];
    well(client.post(path, &headers, body.as_bytes())).context(path.to_owned())
}

fn expression(client: Client, case: &[u8]) -> Result<()> {
    ask(client, "/api/v1/query", &[("query", case), ("time", b"1700000000")])?;
    let range: [(&str, &[u8]); 4] =
        [("query", case), ("start", b"1700000000"), ("end", b"1700000300"), ("step", b"15")];
    ask(client, "/api/v1/query_range", &range)?;
    ask(client, "/api/v1/parse_query", &[("query", case)])?;
    ask(client, "/api/v1/format_query", &[("query", case)])
}

fn selector(client: Client, case: &[u8]) -> Result<()> {
    ask(client, "/api/v1/query", &[("query", case)])?;
    ask(client, "/api/v1/series", &[("match[]", case)])?;
    ask(client, "/api/v1/labels", &[("match[]", case)])?;
    ask(client, "/api/v1/label/__name__/values", &[("match[]", case)])
}

/// As a matcher; quoted as JSON does, which PromQL reads too.
fn regex(client: Client, case: &[u8]) -> Result<()> {
    let quoted = Value::from(String::from_utf8_lossy(case)).to_string();
    selector(client, format!("{{__name__=~{quoted}}}").as_bytes())
}

/// As a part of the path and as all of it, unescaped: what is no HTTP may also be cut off.
fn path(client: Client, case: &[u8]) -> Result<()> {
    for (before, after) in [("/api/v1/label/", "/values"), ("/assets/", ""), ("/", ""), ("", "")] {
        let mut request = format!("GET {before}").into_bytes();
        request.extend_from_slice(case);
        request.extend_from_slice(after.as_bytes());
        request.extend_from_slice(b" HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n");
        let answer = String::from_utf8_lossy(&raw(client, &request)?).into_owned();
        ensure!(!answer.contains("root:"), "a file of this machine is served: {answer}");
    }
    Ok(())
}

/// Sends bytes and reads whatever comes until the connection is closed.
fn raw(client: Client, bytes: &[u8]) -> Result<Vec<u8>> {
    let mut stream = client.connect()?;
    let mut answer = Vec::new();
    // A server that has seen enough closes while more is sent.
    let _ = stream.write_all(bytes);
    let _ = stream.shutdown(Shutdown::Write);
    let _ = stream.read_to_end(&mut answer);
    for status in ["500", "501", "502", "504", "505"] {
        let line = format!("HTTP/1.1 {status}");
        ensure!(!answer.starts_with(line.as_bytes()), "{}", String::from_utf8_lossy(&answer));
    }
    Ok(answer)
}
