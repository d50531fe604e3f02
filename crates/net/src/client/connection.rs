//! One connection, plain or encrypted, direct or through a proxy.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::connect::{Connected, Connection as ConnectionInfo};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};

/// What bytes travel over.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A connection as the HTTP client wants it.
pub(super) struct Connection {
    io: TokioIo<Box<dyn Stream>>,
    is_proxied: bool,
    is_http2: bool,
}

impl Connection {
    pub(super) fn new(stream: Box<dyn Stream>) -> Self {
        Connection { io: TokioIo::new(stream), is_proxied: false, is_http2: false }
    }

    /// Requests name the whole URL, for a proxy that passes them on.
    pub(super) fn proxied(mut self) -> Self {
        self.is_proxied = true;
        self
    }

    /// HTTP/2 was agreed on.
    pub(super) fn http2(mut self, is_http2: bool) -> Self {
        self.is_http2 = is_http2;
        self
    }
}

impl ConnectionInfo for Connection {
    fn connected(&self) -> Connected {
        let connected = Connected::new().proxy(self.is_proxied);
        if self.is_http2 { connected.negotiated_h2() } else { connected }
    }
}

impl Read for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(context, buffer)
    }
}

impl Write for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }
}
