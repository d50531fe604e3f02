//! A small HTTP/1.1 client over one kept connection. It does little, so that what is timed is the
//! server.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

/// Longer than any query of a benchmark may take.
const TIMEOUT: Duration = Duration::from_secs(300);

/// A connection to a server.
#[derive(Debug)]
pub(crate) struct Client {
    stream: BufReader<TcpStream>,
    address: SocketAddr,
}

/// An answer; the body is complete.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
}

impl Client {
    pub(crate) fn connect(address: SocketAddr) -> Result<Client> {
        let stream = TcpStream::connect(address).with_context(|| format!("connect {address}"))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        Ok(Client { stream: BufReader::with_capacity(1 << 16, stream), address })
    }

    pub(crate) fn get(&mut self, path: &str) -> Result<Answer> {
        let head = format!("GET {path} HTTP/1.1\r\nHost: {}\r\n\r\n", self.address);
        self.exchange(&head, &[])
    }

    /// A PUT without a body.
    pub(crate) fn put(&mut self, path: &str) -> Result<Answer> {
        let head =
            format!("PUT {path} HTTP/1.1\r\nHost: {}\r\nContent-Length: 0\r\n\r\n", self.address);
        self.exchange(&head, &[])
    }

    /// Sends a remote write 1.0 body.
    pub(crate) fn write(&mut self, path: &str, body: &[u8]) -> Result<Answer> {
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: {}\r\nContent-Type: application/x-protobuf\r\n\
             Content-Encoding: snappy\r\nX-Prometheus-Remote-Write-Version: 0.1.0\r\n\
             Content-Length: {}\r\n\r\n",
            self.address,
            body.len()
        );
        self.exchange(&head, body)
    }

    /// Sends a body in JSON.
    pub(crate) fn post_json(&mut self, path: &str, body: &[u8]) -> Result<Answer> {
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n",
            self.address,
            body.len()
        );
        self.exchange(&head, body)
    }

    fn exchange(&mut self, head: &str, body: &[u8]) -> Result<Answer> {
        let mut request = Vec::with_capacity(head.len() + body.len());
        request.extend_from_slice(head.as_bytes());
        request.extend_from_slice(body);
        self.stream.get_mut().write_all(&request).context("send a request")?;
        self.answer().context("read an answer")
    }

    fn answer(&mut self) -> Result<Answer> {
        let status_line = self.line()?;
        let status = status_line
            .split(' ')
            .nth(1)
            .with_context(|| format!("{status_line:?} is no status line"))?
            .parse()?;
        let (mut length, mut is_chunked) = (None, false);
        loop {
            let line = self.line()?;
            if line.is_empty() {
                break;
            }
            let (name, value) =
                line.split_once(':').with_context(|| format!("{line:?} is no header"))?;
            let value = value.trim();
            match name.to_ascii_lowercase().as_str() {
                "content-length" => length = Some(value.parse()?),
                "transfer-encoding" => is_chunked = value.eq_ignore_ascii_case("chunked"),
                _ => {}
            }
        }
        let mut body = Vec::new();
        match length {
            _ if is_chunked => self.chunks(&mut body)?,
            Some(length) => self.bytes(length, &mut body)?,
            None if status == 204 => {}
            None => bail!("status {status} with neither a length nor chunks"),
        }
        Ok(Answer { status, body })
    }

    fn chunks(&mut self, body: &mut Vec<u8>) -> Result<()> {
        loop {
            let line = self.line()?;
            let length = u64::from_str_radix(line.split(';').next().unwrap_or(""), 16)
                .with_context(|| format!("{line:?} is no chunk length"))?;
            self.bytes(length, body)?;
            ensure!(self.line()?.is_empty(), "a chunk is longer than it says");
            if length == 0 {
                return Ok(());
            }
        }
    }

    fn bytes(&mut self, length: u64, body: &mut Vec<u8>) -> Result<()> {
        let read = (&mut self.stream).take(length).read_to_end(body)?;
        ensure!(read as u64 == length, "the server closed the connection within an answer");
        Ok(())
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        ensure!(self.stream.read_line(&mut line)? > 0, "the server closed the connection");
        Ok(line.trim_end().to_owned())
    }
}

impl Answer {
    /// The body of a success.
    ///
    /// # Errors
    /// With the beginning of what the server said instead.
    pub(crate) fn successful(self) -> Result<Vec<u8>> {
        if (200..300).contains(&self.status) {
            return Ok(self.body);
        }
        let said = String::from_utf8_lossy(&self.body[..self.body.len().min(400)]).into_owned();
        bail!("status {}: {}", self.status, said.trim())
    }
}

/// `text` as a value in a URL's query.
pub(crate) fn url_encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len() * 2);
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}
