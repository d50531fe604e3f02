//! Ports for protocols that are lines over TCP and have no answers.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::timeout;

use crate::NetMetrics;
use crate::accepting::accept_all;

/// Lines are handed on at the latest when there are this many bytes of them; a longer line ends its
/// connection.
const BUFFER_BYTES: usize = 64 << 10;
/// A connection that says nothing for this long is closed. Senders of such protocols keep theirs open
/// between their intervals.
const IDLE: Duration = Duration::from_secs(15 * 60);

/// A port for lines on which nothing is accepted yet.
#[derive(Debug)]
pub struct LinePort {
    listener: TcpListener,
    local_addr: SocketAddr,
    metrics: Arc<NetMetrics>,
}

impl LinePort {
    /// Listens on `address`; port 0 lets the system choose. Connections count into `metrics`.
    ///
    /// # Errors
    /// The system's, with the address in the message.
    pub async fn bind(address: SocketAddr, metrics: Arc<NetMetrics>) -> io::Result<LinePort> {
        let listener = TcpListener::bind(address).await.map_err(|error| {
            io::Error::new(error.kind(), format!("listen on {address}: {error}"))
        })?;
        let local_addr = listener.local_addr()?;
        Ok(LinePort { listener, local_addr, metrics })
    }

    /// The address with its real port.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Hands whole lines to `take` until `shutdown` is done: what one connection has sent, as it
    /// comes, at most 64 KiB at once. Nothing more is read of a connection before `take` is done,
    /// so that a sender that is too fast has to wait. A last line without an end counts.
    pub async fn serve<F>(
        self,
        take: impl Fn(Vec<u8>) -> F + Clone + Send + 'static,
        shutdown: impl Future<Output = ()>,
    ) where
        F: Future<Output = ()> + Send + 'static,
    {
        let LinePort { listener, metrics, .. } = self;
        accept_all(&listener, &metrics, shutdown, |socket, _, stopped| {
            read_lines(socket, take.clone(), stopped)
        })
        .await;
    }
}

async fn read_lines<F: Future<Output = ()>>(
    mut socket: TcpStream,
    take: impl Fn(Vec<u8>) -> F,
    mut stopped: watch::Receiver<bool>,
) {
    let mut buffer = Vec::new();
    loop {
        let mut chunk = [0; 8 << 10];
        let read = tokio::select! {
            biased;
            _ = stopped.wait_for(|stopped| *stopped) => return,
            read = timeout(IDLE, socket.read(&mut chunk)) => read,
        };
        match read {
            Ok(Ok(0)) => {
                if !buffer.is_empty() {
                    take(buffer).await;
                }
                return;
            }
            Ok(Ok(read)) => buffer.extend_from_slice(&chunk[..read]),
            Ok(Err(_)) | Err(_) => return,
        }
        match buffer.iter().rposition(|byte| *byte == b'\n') {
            Some(end) => {
                let rest = buffer.split_off(end + 1);
                take(std::mem::replace(&mut buffer, rest)).await;
            }
            None if buffer.len() > BUFFER_BYTES => {
                tracing::warn!(
                    "a line of more than {BUFFER_BYTES} bytes; its connection is closed"
                );
                return;
            }
            None => {}
        }
    }
}
