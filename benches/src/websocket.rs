//! A WebSocket client (RFC 6455) as far as viewers need it: text frames of a server, and answers to pings.

use std::net::SocketAddr;

use anyhow::{Context, Result, bail, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

const TEXT: u8 = 1;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;
/// Clients must mask what they send; with what does not matter to the server.
const MASK: [u8; 4] = [0x5a, 0xa5, 0x3c, 0xc3];
/// What the system keeps for a reader that does not read, instead of megabytes. Less than some segments of
/// the loopback device, which have 64 KiB, would make a stream that stalled crawl.
const RECEIVE_BYTES: u32 = 192 << 10;

/// One connection to `/api/v1/live`.
pub(crate) struct WebSocket {
    stream: TcpStream,
    /// Bytes read and not yet understood.
    buffer: Vec<u8>,
}

impl WebSocket {
    /// Opens the connection, shakes hands, and subscribes to a selector with id 1.
    pub(crate) async fn subscribe(address: SocketAddr, selector: &str) -> Result<WebSocket> {
        let socket = TcpSocket::new_v4()?;
        socket.set_recv_buffer_size(RECEIVE_BYTES)?;
        let mut stream = socket.connect(address).await.context("connect")?;
        let request = format!(
            "GET /api/v1/live HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await?;
        let mut buffer = Vec::new();
        let end = loop {
            if let Some(end) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                break end;
            }
            ensure!(stream.read_buf(&mut buffer).await? > 0, "closed during the handshake");
        };
        let head = String::from_utf8_lossy(&buffer[..end]).into_owned();
        ensure!(head.starts_with("HTTP/1.1 101"), "handshake refused: {head}");
        buffer.drain(..end + 4);
        let mut socket = WebSocket { stream, buffer };
        let request = serde_json::json!({"type": "subscribe", "id": 1, "selector": selector});
        socket.send(TEXT, request.to_string().as_bytes()).await?;
        Ok(socket)
    }

    async fn send(&mut self, opcode: u8, payload: &[u8]) -> Result<()> {
        let mut frame = vec![0x80 | opcode];
        match u16::try_from(payload.len())? {
            short @ 0..=125 => frame.push(0x80 | short as u8),
            length => {
                frame.push(0x80 | 126);
                frame.extend_from_slice(&length.to_be_bytes());
            }
        }
        frame.extend_from_slice(&MASK);
        frame.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        self.stream.write_all(&frame).await.context("send a frame")
    }

    /// The next text frame. Keeps what was read if it is given up.
    ///
    /// # Errors
    /// The server closed the connection.
    pub(crate) async fn receive(&mut self) -> Result<Vec<u8>> {
        loop {
            while let Some((opcode, payload)) = self.take_frame()? {
                match opcode {
                    TEXT => return Ok(payload),
                    PING => self.send(PONG, &payload).await?,
                    PONG => {}
                    CLOSE => bail!("the server closed: {}", String::from_utf8_lossy(&payload)),
                    other => bail!("unexpected opcode {other}"),
                }
            }
            ensure!(self.stream.read_buf(&mut self.buffer).await? > 0, "the server closed");
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
