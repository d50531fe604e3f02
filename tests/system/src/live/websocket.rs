//! A WebSocket client (RFC 6455) as far as tests need it: text frames, one at a time.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::harness::Client;

const TEXT: u8 = 1;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;
/// Clients must mask what they send; with what does not matter to the server.
const MASK: [u8; 4] = [0x5a, 0xa5, 0x3c, 0xc3];

/// One connection.
pub(crate) struct WebSocket {
    stream: TcpStream,
    /// Bytes read and not yet understood.
    buffer: Vec<u8>,
}

impl WebSocket {
    /// Opens the connection and shakes hands.
    pub(crate) fn open(client: &Client) -> Result<WebSocket> {
        let tenant = client.tenant().map_or_else(String::new, |name| format!("?tenant={name}"));
        WebSocket::open_at(client, &format!("/api/v1/live{tenant}"))
    }

    /// Opens a connection to another path and shakes hands.
    pub(crate) fn open_at(client: &Client, target: &str) -> Result<WebSocket> {
        let mut stream = client.connect()?;
        let request = format!(
            "GET {target} HTTP/1.1\r\nHost: {}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
            client.address()
        );
        stream.write_all(request.as_bytes())?;
        let mut buffer = Vec::new();
        let end = loop {
            if let Some(end) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                break end;
            }
            let mut chunk = [0; 1_024];
            let count = stream.read(&mut chunk)?;
            ensure!(count > 0, "closed during the handshake");
            buffer.extend_from_slice(&chunk[..count]);
        };
        let head = String::from_utf8_lossy(&buffer[..end]).into_owned();
        ensure!(head.starts_with("HTTP/1.1 101"), "handshake refused: {head}");
        // RFC 6455, section 1.3, gives the answer to this key.
        ensure!(head.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "wrong accept key: {head}");
        buffer.drain(..end + 4);
        Ok(WebSocket { stream, buffer })
    }

    /// Keeps the system from taking in megabytes for a reader that does not read. Less than some
    /// segments of the loopback device, which are 64 KiB, would make a stalled stream crawl.
    pub(crate) fn keep_little(&self) -> Result<()> {
        rustix::net::sockopt::set_socket_recv_buffer_size(&self.stream, 192 << 10)
            .context("set the size of the receive buffer")
    }

    /// Opens a connection and subscribes to a selector with id 1.
    pub(crate) fn subscribe(client: &Client, selector: &str) -> Result<WebSocket> {
        let mut socket = WebSocket::open(client)?;
        let request = serde_json::json!({"type": "subscribe", "id": 1, "selector": selector});
        socket.send(&request)?;
        Ok(socket)
    }

    /// Sends a message.
    pub(crate) fn send(&mut self, message: &Value) -> Result<()> {
        self.send_frame(TEXT, message.to_string().as_bytes())
    }

    fn send_frame(&mut self, opcode: u8, payload: &[u8]) -> Result<()> {
        let mut frame = vec![0x80 | opcode];
        match u16::try_from(payload.len()) {
            Ok(short @ 0..=125) => frame.push(0x80 | short as u8),
            Ok(length) => {
                frame.push(0x80 | 126);
                frame.extend_from_slice(&length.to_be_bytes());
            }
            Err(_) => {
                frame.push(0x80 | 127);
                frame.extend_from_slice(&(payload.len() as u64).to_be_bytes());
            }
        }
        frame.extend_from_slice(&MASK);
        frame.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        self.stream.write_all(&frame).context("send a frame")
    }

    /// The next message, or `None` when none comes within `timeout`.
    ///
    /// # Errors
    /// The server closed the connection.
    pub(crate) fn receive(&mut self, timeout: Duration) -> Result<Option<Value>> {
        let deadline = Instant::now() + timeout;
        loop {
            while let Some((opcode, payload)) = self.take_frame()? {
                match opcode {
                    TEXT => return serde_json::from_slice(&payload).context("parse").map(Some),
                    PING => self.send_frame(PONG, &payload)?,
                    PONG => {}
                    CLOSE => bail!("the server closed: {}", String::from_utf8_lossy(&payload)),
                    other => bail!("unexpected opcode {other}"),
                }
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            self.stream.set_read_timeout(Some(left))?;
            let mut chunk = [0; 64 << 10];
            match self.stream.read(&mut chunk) {
                Ok(0) => bail!("the server closed without a word"),
                Ok(count) => self.buffer.extend_from_slice(&chunk[..count]),
                Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(error) => return Err(error).context("read a frame"),
            }
        }
    }

    /// The next message of that type, others skipped.
    ///
    /// # Errors
    /// None within `timeout`.
    pub(crate) fn expect(&mut self, kind: &str, timeout: Duration) -> Result<Value> {
        let deadline = Instant::now() + timeout;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.receive(left)? {
                Some(message) if message["type"] == kind => return Ok(message),
                Some(_) => {}
                None => bail!("no message of type {kind} within {timeout:?}"),
            }
        }
    }

    /// A whole frame off the buffer, if there is one: opcode and payload.
    fn take_frame(&mut self) -> Result<Option<(u8, Vec<u8>)>> {
        let bytes = &self.buffer;
        let [first, second, ..] = bytes.as_slice() else { return Ok(None) };
        ensure!(first & 0x80 != 0, "the server sent a fragment");
        ensure!(second & 0x80 == 0, "the server sent a masked frame");
        let (start, length) = match (second & 0x7f, bytes.get(2..4), bytes.get(2..10)) {
            (126, Some(two), _) => {
                (4, u64::from(u16::from_be_bytes(two.try_into().expect("two bytes"))))
            }
            (127, _, Some(eight)) => {
                (10, u64::from_be_bytes(eight.try_into().expect("eight bytes")))
            }
            (126 | 127, _, _) => return Ok(None),
            (short, _, _) => (2, u64::from(short)),
        };
        let end = start + usize::try_from(length).context("a frame longer than memory")?;
        if bytes.len() < end {
            return Ok(None);
        }
        let frame = (first & 0x0f, bytes[start..end].to_vec());
        self.buffer.drain(..end);
        Ok(Some(frame))
    }
}
