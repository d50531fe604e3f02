//! A blocking HTTP/1.1 client, one connection per request.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use serde_json::Value;

/// How long a request may take before the test fails.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Speaks to one server.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Client {
    address: SocketAddr,
    tenant: Option<&'static str>,
}

/// An answer, with its body as sent but for chunks.
#[derive(Debug, Clone)]
pub(crate) struct Response {
    pub(crate) status: u16,
    /// Names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Client {
    /// Connects only when asked for something.
    pub(crate) fn new(address: SocketAddr) -> Self {
        Client { address, tenant: None }
    }

    /// The same, with `X-Scope-OrgID` in each request.
    pub(crate) fn for_tenant(self, tenant: &str) -> Self {
        // A client is copied everywhere; a test has some dozens of them.
        Client { tenant: Some(String::leak(tenant.to_owned())), ..self }
    }

    /// The tenant it names.
    pub(crate) fn tenant(&self) -> Option<&str> {
        self.tenant
    }

    /// Where it connects to.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// An open connection with time limits, for tests that write raw bytes.
    pub(crate) fn connect(&self) -> Result<TcpStream> {
        let stream = TcpStream::connect_timeout(&self.address, TIMEOUT)
            .with_context(|| format!("connect to {}", self.address))?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        stream.set_write_timeout(Some(TIMEOUT))?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    /// `GET target`, which is sent as it is.
    pub(crate) fn get(&self, target: &str) -> Result<Response> {
        self.request("GET", target, &[], &[])
    }

    /// `POST target` with a body.
    pub(crate) fn post(
        &self,
        target: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Result<Response> {
        self.request("POST", target, headers, body)
    }

    /// Sends a snappy-packed body of remote write 1.0.
    pub(crate) fn write(&self, packed: &[u8]) -> Result<Response> {
        let headers = [
            ("Content-Type", "application/x-protobuf"),
            ("Content-Encoding", "snappy"),
            ("X-Prometheus-Remote-Write-Version", "0.1.0"),
        ];
        self.post("/api/v1/write", &headers, packed)
    }

    /// Sends a snappy-packed body of remote write 2.0.
    pub(crate) fn write_2(&self, packed: &[u8]) -> Result<Response> {
        let headers = [
            ("Content-Type", "application/x-protobuf;proto=io.prometheus.write.v2.Request"),
            ("Content-Encoding", "snappy"),
            ("X-Prometheus-Remote-Write-Version", "2.0.0"),
        ];
        self.post("/api/v1/write", &headers, packed)
    }

    /// Any request. A server that closes after a whole answer but before it has read the body is
    /// no failure: it may refuse early.
    pub(crate) fn request(
        &self,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Result<Response> {
        let mut head = format!(
            "{method} {target} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n",
            self.address
        );
        if let Some(tenant) = self.tenant {
            head.push_str(&format!("X-Scope-OrgID: {tenant}\r\n"));
        }
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        if method != "GET" {
            head.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        head.push_str("\r\n");
        let mut bytes = head.into_bytes();
        bytes.extend_from_slice(body);
        self.raw(&bytes).with_context(|| format!("{method} {target}"))
    }

    /// Sends bytes as they are and reads one answer.
    pub(crate) fn raw(&self, bytes: &[u8]) -> Result<Response> {
        let mut stream = self.connect()?;
        let sent = stream.write_all(bytes);
        let mut answer = Vec::new();
        let read = stream.read_to_end(&mut answer);
        match parse(&answer) {
            Ok(response) => Ok(response),
            Err(error) => {
                sent.context("send")?;
                read.context("read the answer")?;
                Err(error)
            }
        }
    }

    /// Asks the Prometheus API by POST form and yields the whole envelope, whatever its status.
    pub(crate) fn envelope(&self, path: &str, form: &[(&str, &str)]) -> Result<(u16, Value)> {
        let form: String = form_urlencoded::Serializer::new(String::new())
            .extend_pairs(form.iter().copied())
            .finish();
        let headers = [("Content-Type", "application/x-www-form-urlencoded")];
        let response = self.post(path, &headers, form.as_bytes())?;
        let value = serde_json::from_slice(&response.body)
            .with_context(|| format!("{path} answered {}", response.text()))?;
        Ok((response.status, value))
    }

    /// Asks the Prometheus API and yields `data` of a successful answer.
    pub(crate) fn data(&self, path: &str, form: &[(&str, &str)]) -> Result<Value> {
        let (status, mut envelope) = self.envelope(path, form)?;
        ensure!(status == 200, "{path} {form:?} answered {status}: {envelope}");
        Ok(envelope["data"].take())
    }

    /// `data` of a successful answer to a GET.
    pub(crate) fn get_data(&self, target: &str) -> Result<Value> {
        let response = self.get(target)?;
        ensure!(response.status == 200, "{target}: {} {}", response.status, response.text());
        let mut envelope: Value = serde_json::from_slice(&response.body)
            .with_context(|| format!("{target} answered {}", response.text()))?;
        Ok(envelope["data"].take())
    }

    /// A counter or gauge of `/metrics`, labels as written there (`name{a="b"}` or `name`).
    pub(crate) fn metric(&self, name: &str) -> Result<f64> {
        let page = self.get("/metrics")?.text();
        page.lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
            .ok_or_else(|| anyhow!("/metrics has no {name}"))
    }
}

impl Response {
    /// The body as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The first header of that name, given in lower case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// Reads an answer that was sent until the connection closed.
fn parse(answer: &[u8]) -> Result<Response> {
    let end = find(answer, b"\r\n\r\n").ok_or_else(|| {
        anyhow!("the connection closed after {} bytes, before the headers' end", answer.len())
    })?;
    let head = std::str::from_utf8(&answer[..end]).context("headers are not UTF-8")?;
    let mut lines = head.split("\r\n");
    let status_line = lines.next().unwrap_or_default();
    let status = status_line
        .split(' ')
        .nth(1)
        .and_then(|word| word.parse().ok())
        .ok_or_else(|| anyhow!("no status in {status_line:?}"))?;
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let response = Response { status, headers, body: Vec::new() };
    let rest = &answer[end + 4..];
    let body = if response.header("transfer-encoding") == Some("chunked") {
        dechunk(rest)?
    } else if let Some(length) = response.header("content-length") {
        let length: usize = length.parse().context("read content-length")?;
        ensure!(rest.len() >= length, "{} of {length} body bytes came", rest.len());
        rest[..length].to_vec()
    } else {
        rest.to_vec()
    };
    Ok(Response { body, ..response })
}

fn dechunk(mut bytes: &[u8]) -> Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let end = find(bytes, b"\r\n").ok_or_else(|| anyhow!("a chunk has no size"))?;
        let size = std::str::from_utf8(&bytes[..end]).context("size of a chunk")?;
        let size = usize::from_str_radix(size.trim(), 16).context("size of a chunk")?;
        if size == 0 {
            return Ok(body);
        }
        let start = end + 2;
        if bytes.len() < start + size + 2 {
            bail!("the connection closed inside a chunk");
        }
        body.extend_from_slice(&bytes[start..start + size]);
        bytes = &bytes[start + size + 2..];
    }
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}
