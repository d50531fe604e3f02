//! One connection, plain or encrypted, direct or through a proxy.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll};

use http::Extensions;
use hyper::body::Incoming;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::connect::{Connected, Connection as ConnectionInfo};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};

/// What bytes travel over.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Whether a connection has brought an answer yet; travels with answers and errors of it.
#[derive(Clone, Default)]
pub(super) struct Used(Arc<AtomicBool>);

impl Used {
    /// An answer came.
    pub(super) fn note(response: &http::Response<Incoming>) {
        if let Some(Used(used)) = response.extensions().get() {
            used.store(true, Relaxed);
        }
    }

    /// Whether the connection a request failed on had brought an answer before.
    pub(super) fn is_set(connected: &Connected) -> bool {
        let mut extras = Extensions::new();
        connected.get_extras(&mut extras);
        extras.get().is_some_and(|Used(used)| used.load(Relaxed))
    }
}

/// A connection as the HTTP client wants it.
pub(super) struct Connection {
    io: TokioIo<Box<dyn Stream>>,
    is_proxied: bool,
    is_http2: bool,
    used: Used,
}

impl Connection {
    pub(super) fn new(stream: Box<dyn Stream>) -> Self {
        let io = TokioIo::new(stream);
        Connection { io, is_proxied: false, is_http2: false, used: Used::default() }
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
        let connected = Connected::new().proxy(self.is_proxied).extra(self.used.clone());
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
