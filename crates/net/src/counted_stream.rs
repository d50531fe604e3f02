//! A connection that counts its bytes and holds its place among the allowed connections.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;

use crate::NetMetrics;

/// A TCP stream.
///
/// It, and not the task that serves it, owns the permit: a WebSocket outlives the HTTP connection
/// it grew from and must still count against the limit.
#[derive(Debug)]
pub(crate) struct CountedStream {
    socket: TcpStream,
    metrics: Arc<NetMetrics>,
    _permit: OwnedSemaphorePermit,
}

impl CountedStream {
    pub(crate) fn new(
        socket: TcpStream,
        metrics: Arc<NetMetrics>,
        permit: OwnedSemaphorePermit,
    ) -> Self {
        metrics.connections_open.fetch_add(1, Relaxed);
        CountedStream { socket, metrics, _permit: permit }
    }
}

impl Drop for CountedStream {
    fn drop(&mut self) {
        self.metrics.connections_open.fetch_sub(1, Relaxed);
    }
}

impl AsyncRead for CountedStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let result = Pin::new(&mut self.socket).poll_read(context, buffer);
        let read = buffer.filled().len() - before;
        self.metrics.received_bytes.fetch_add(read as u64, Relaxed);
        result
    }
}

impl CountedStream {
    fn count_sent(&self, result: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(sent)) = &result {
            self.metrics.sent_bytes.fetch_add(*sent as u64, Relaxed);
        }
        result
    }
}

impl AsyncWrite for CountedStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.socket).poll_write(context, bytes);
        self.count_sent(result)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.socket).poll_write_vectored(context, slices);
        self.count_sent(result)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(context)
    }
}
