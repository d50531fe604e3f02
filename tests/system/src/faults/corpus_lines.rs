//! Bad inputs that broke other programs, where lines of logs come in and where they are read: each way in, each
//! port of syslog, each query. What was taken of them must be readable in every way afterwards.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::corpus::{ABSENT, Case, ask, cases, root, well};
use crate::harness::remote_write::snappy;
use crate::harness::{Client, Launch, Scratch, free_address, now_ms};

/// Most memory that all cases together may cost.
const MEMORY_BYTES: u64 = 320 << 20;
const JSON: &str = "application/json";
const PROTOBUF: &str = "application/x-protobuf";
const PUSHES: [&str; 2] = ["/loki/api/v1/push", "/insert/loki/api/v1/push"];
const PATIENCE: Duration = Duration::from_secs(10);

/// How the cases of one protocol are sent.
type Send = fn(&Ways, &Case) -> Result<()>;

/// Where lines come in.
struct Ways {
    client: Client,
    udp: SocketAddr,
    tcp: SocketAddr,
}

const PROTOCOLS: &[(&str, Send)] = &[
    ("loki-push-json", |ways, case| PUSHES.iter().try_for_each(|path| ways.post(path, JSON, case))),
    ("vlinsert-loki", |ways, case| {
        ways.post("/loki/api/v1/push", JSON, case)?;
        ways.post("/api/prom/push", JSON, case)?;
        let packed = [("Content-Type", PROTOBUF)];
        well(ways.client.post("/loki/api/v1/push", &packed, &snappy(&case.bytes)))
    }),
    ("snappy-block", |ways, case| ways.post("/loki/api/v1/push", PROTOBUF, case)),
    ("gzip", |ways, case| ways.packed("gzip", case)),
    ("zstd", |ways, case| ways.packed("zstd", case)),
    ("json-log", |ways, case| {
        ways.post("/insert/jsonline", JSON, case)?;
        ways.post("/loki/api/v1/push", JSON, case)?;
        let document = [b"{\"index\":{\"_index\":\"case\"}}\n", &case.bytes[..], b"\n"].concat();
        well(ways.client.post("/elasticsearch/_bulk", &[("Content-Type", JSON)], &document))
    }),
    ("json", |ways, case| ways.post("/insert/jsonline", JSON, case)),
    ("vlinsert-insertutil", |ways, case| ways.post("/insert/jsonline", JSON, case)),
    ("vlinsert-jsonline", |ways, case| ways.post("/insert/jsonline", JSON, case)),
    ("vlinsert-elasticsearch", |ways, case| {
        ways.post("/elasticsearch/_bulk", JSON, case)?;
        ways.post("/insert/elasticsearch/logs/_bulk", JSON, case)
    }),
    ("vlinsert-journald", |ways, case| {
        ways.post("/upload", "application/vnd.fdo.journal", case)?;
        ways.post("/insert/journald/upload", "application/vnd.fdo.journal", case)
    }),
    ("otlp-json", |ways, case| {
        ways.post("/v1/logs", JSON, case)?;
        ways.post("/v1/logs", PROTOBUF, case)
    }),
    ("syslog", Ways::syslog),
    ("vlinsert-syslog", Ways::syslog),
    ("logql", |ways, case| {
        let answer = ways.query(case)?;
        // What the cases are refused for stands in Loki's parser.
        ensure!(case.expect != "reject" || answer == 400, "answered {answer}, Loki refuses it");
        Ok(())
    }),
    ("matchers", |ways, case| ways.query(case).map(drop)),
    ("promql-selector", |ways, case| ways.query(case).map(drop)),
    ("regex", |ways, case| {
        let quoted = Value::from(String::from_utf8_lossy(&case.bytes)).to_string();
        for query in [format!("{{app=~{quoted}}}"), format!("{{app=~\".+\"}} |~ {quoted}")] {
            ways.query(&Case { bytes: query.into_bytes(), ..case.clone() })?;
        }
        Ok(())
    }),
];

pub(super) fn lines(scratch: &Scratch) -> Result<String> {
    let Some(root) = root() else { return Ok(ABSENT.to_owned()) };
    let (udp, tcp) = (free_address()?, free_address()?);
    let server = Launch::broker(&scratch.join("data"))
        .config("logs:\n  collect: false\n")
        .arguments(&["--syslog-udp-listen", &udp.to_string()])
        .arguments(&["--syslog-tcp-listen", &tcp.to_string()])
        .start()?;
    let ways = Ways { client: server.client(), udp, tcp };
    let before = server.peak_resident_bytes()?;
    let mut sent = Vec::new();
    for (protocol, send) in PROTOCOLS {
        let cases = cases(&root, protocol)?;
        for case in &cases {
            send(&ways, case).with_context(|| format!("{protocol} case {}", case.name))?;
        }
        sent.push(format!("{} {protocol}", cases.len()));
        ensure!(ways.client.get("/-/ready")?.status == 200, "not ready after {protocol}");
    }
    let lines = ways.read_all()?;
    let grown = server.peak_resident_bytes()?.saturating_sub(before);
    ensure!(grown < MEMORY_BYTES, "the cases cost {} MiB of memory", grown >> 20);
    let said = server.stderr();
    ensure!(!said.contains("panicked"), "{said}");
    server.stop()?;
    Ok(format!(
        "{} cases, {lines} lines of them read, {} MiB more memory at most",
        sent.join(", "),
        grown >> 20
    ))
}

impl Ways {
    fn post(&self, path: &str, kind: &str, case: &Case) -> Result<()> {
        let headers = [("Content-Type", kind)];
        well(self.client.post(path, &headers, &case.bytes)).context(path.to_owned())
    }

    fn packed(&self, encoding: &str, case: &Case) -> Result<()> {
        let headers = [("Content-Type", JSON), ("Content-Encoding", encoding)];
        for path in ["/loki/api/v1/push", "/insert/jsonline", "/elasticsearch/_bulk", "/v1/logs"] {
            well(self.client.post(path, &headers, &case.bytes)).context(path)?;
        }
        Ok(())
    }

    /// As a datagram; over a connection that ends behind it, as it is, as a line and with its length before it.
    fn syslog(&self, case: &Case) -> Result<()> {
        let bytes = &case.bytes;
        UdpSocket::bind("127.0.0.1:0")?.send_to(&bytes[..bytes.len().min(60_000)], self.udp)?;
        let counted = [format!("{} ", bytes.len()).as_bytes(), bytes].concat();
        for message in [bytes.clone(), [bytes, &b"\n"[..]].concat(), counted] {
            let mut stream = TcpStream::connect(self.tcp).context("syslog takes no connection")?;
            stream.set_read_timeout(Some(PATIENCE))?;
            // One that breaks the frames is cut off.
            let _ = stream.write_all(&message);
            let _ = stream.shutdown(Shutdown::Write);
            let read = stream.read_to_end(&mut Vec::new());
            let is_closed = read.is_ok_and(|read| read == 0)
                || stream
                    .read(&mut [0])
                    .is_err_and(|error| error.kind() != std::io::ErrorKind::WouldBlock);
            ensure!(is_closed, "the connection stays open");
        }
        Ok(())
    }

    /// Wherever a query stands. Yields what it is answered as one of lines.
    fn query(&self, case: &Case) -> Result<u16> {
        let query = ("query", &case.bytes[..]);
        for path in [
            "/loki/api/v1/query_range",
            "/loki/api/v1/index/stats",
            "/loki/api/v1/index/volume",
            "/loki/api/v1/patterns",
            "/loki/api/v1/detected_labels",
            "/loki/api/v1/detected_fields",
            "/loki/api/v1/labels",
            "/loki/api/v1/label/app/values",
            "/loki/api/v1/format_query",
            "/loki/api/v1/export",
        ] {
            ask(self.client, path, &[query])?;
        }
        ask(self.client, "/loki/api/v1/series", &[("match[]", &case.bytes)])?;
        let form: String = form_urlencoded::byte_serialize(&case.bytes).collect();
        let answer = self.client.get(&format!("/loki/api/v1/query?query={form}"))?;
        let status = answer.status;
        well(Ok(answer))?;
        Ok(status)
    }

    /// Reads all that was taken in the ways there are; yields how many lines that is.
    fn read_all(&self) -> Result<usize> {
        let begin = Instant::now();
        let mut before = None;
        // Nobody is told when messages of syslog are stored.
        loop {
            let lines = self.read("{service_name=~\".+\"}")?;
            if before.replace(lines) == Some(lines) && lines > 0 {
                break;
            }
            ensure!(begin.elapsed() < PATIENCE, "lines still come");
            std::thread::sleep(Duration::from_millis(500));
        }
        let all = "{service_name=~\".+\"}";
        for pipeline in [
            "| json",
            "| logfmt",
            "| unpack",
            "| pattern \"<a> <b>\"",
            "| regexp \"(?P<first>.)\"",
            "| decolorize | json | line_format \"{{.app}} {{__line__ | lower | trunc 5}}\"",
            "| json | label_format x=\"{{ .app | b64enc }}\" | keep x | drop y",
            "!~ \"a.*b\" |~ \"(?i)e\"",
        ] {
            self.read(&format!("{all} {pipeline}"))?;
        }
        for query in [
            format!("sum by (detected_level) (count_over_time({all}[1h]))"),
            format!("sum by (app) (bytes_rate({all} | json [1h]))"),
            format!("topk(3, quantile_over_time(0.9, {all} | json | unwrap n [1h]) by (app))"),
        ] {
            let form: String = form_urlencoded::byte_serialize(query.as_bytes()).collect();
            let answer = self.client.get(&format!("/loki/api/v1/query?query={form}"))?;
            // What cannot be read of a line is an error of the query, as in Loki.
            let is_told = answer.status == 200 || answer.status == 400;
            ensure!(is_told, "{query}: {} {}", answer.status, answer.text());
        }
        for path in
            ["detected_fields", "detected_labels", "patterns", "index/volume", "labels", "export"]
        {
            let form: String = form_urlencoded::byte_serialize(all.as_bytes()).collect();
            let answer = self.client.get(&format!("/loki/api/v1/{path}?query={form}"))?;
            ensure!(answer.status == 200, "{path}: {} {}", answer.status, answer.text());
        }
        before.context("it was read")
    }

    fn read(&self, query: &str) -> Result<usize> {
        let end = ((now_ms() + 3_600_000) * 1_000_000).to_string();
        let start = ((now_ms() - 3_600_000) * 1_000_000).to_string();
        let form = [("query", query), ("start", &start), ("end", &end), ("limit", "5000")];
        let data = self.client.data("/loki/api/v1/query_range", &form)?;
        let streams = data["result"].as_array().context("streams")?;
        let lines = |stream: &Value| stream["values"].as_array().map_or(0, Vec::len);
        Ok(streams.iter().map(lines).sum())
    }
}
