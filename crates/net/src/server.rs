//! Accepts connections and serves a router on them, HTTP/1.1 and HTTP/2, with a time limit on
//! everything a peer can delay.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::response::Response;
use bytes::{Bytes, BytesMut};
use http::Request;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tower::Service;

use crate::counted_stream::CountedStream;
use crate::routes::only_stated;
use crate::timed_body::TimedBody;
use crate::{ApiError, ErrorType, NetMetrics};

/// What an HTTP/2 client says first (RFC 9113, section 3.4).
const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// How long peers may take and how many there may be. `Default` gives the documented values, with
/// which a connection that never completes its first request header is closed within 15 s.
#[derive(Debug, Clone)]
pub struct ServerSettings {
    /// Until it is known from a new connection's first bytes which protocol it speaks.
    pub first_bytes_timeout: Duration,
    /// For a complete HTTP/1 request header; also how long an idle connection is kept.
    pub header_timeout: Duration,
    /// Between two pieces of a request body.
    pub body_idle_timeout: Duration,
    /// For a whole request body.
    pub body_total_timeout: Duration,
    /// Open connections, upgraded ones included; one more is answered 503.
    pub max_connections: usize,
    /// How long requests under way may go on once shutdown began.
    pub shutdown_grace: Duration,
}

impl Default for ServerSettings {
    fn default() -> Self {
        ServerSettings {
            first_bytes_timeout: Duration::from_secs(5),
            header_timeout: Duration::from_secs(9),
            body_idle_timeout: Duration::from_secs(15),
            body_total_timeout: Duration::from_secs(300),
            max_connections: 4_096,
            shutdown_grace: Duration::from_secs(10),
        }
    }
}

/// Where servers are made.
#[derive(Debug)]
pub struct Server;

impl Server {
    /// Listens on `address`; port 0 lets the system choose, see [`Bound::local_addr`].
    ///
    /// # Errors
    /// The system's, with the address in the message.
    pub async fn bind(address: SocketAddr) -> io::Result<Bound> {
        let listener = TcpListener::bind(address).await.map_err(|error| {
            io::Error::new(error.kind(), format!("listen on {address}: {error}"))
        })?;
        let local_addr = listener.local_addr()?;
        Ok(Bound {
            listener,
            local_addr,
            settings: ServerSettings::default(),
            metrics: Arc::default(),
        })
    }
}

/// A listening socket on which nothing is accepted yet.
#[derive(Debug)]
pub struct Bound {
    listener: TcpListener,
    local_addr: SocketAddr,
    settings: ServerSettings,
    metrics: Arc<NetMetrics>,
}

impl Bound {
    /// The address with its real port.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Replaces the time limits and the connection limit.
    pub fn with_settings(mut self, settings: ServerSettings) -> Self {
        self.settings = settings;
        self
    }

    /// Counts into `metrics`, which other servers may share.
    pub fn with_metrics(mut self, metrics: Arc<NetMetrics>) -> Self {
        self.metrics = metrics;
        self
    }

    /// Serves `router` until `shutdown` is done, then lets requests under way finish within the
    /// grace period. Handlers find the peer as `ConnectInfo<SocketAddr>`. WebSockets are not
    /// waited for: their handlers must watch for shutdown themselves.
    ///
    /// A failing `accept`, such as too many open files, is logged and tried again.
    pub async fn serve(self, router: Router, shutdown: impl Future<Output = ()>) {
        let Bound { listener, settings, metrics, .. } = self;
        let settings = Arc::new(settings);
        let places = Arc::new(Semaphore::new(settings.max_connections));
        let graceful = GracefulShutdown::new();
        let mut shutdown = pin!(shutdown);
        let mut backoff = Backoff::default();
        loop {
            let accepted = tokio::select! {
                biased;
                () = &mut shutdown => break,
                accepted = listener.accept() => accepted,
            };
            let (socket, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(error) if is_peer_fault(&error) => continue,
                Err(error) => {
                    metrics.accept_errors.fetch_add(1, Relaxed);
                    tracing::warn!(%error, "cannot accept connections, trying again");
                    tokio::select! {
                        biased;
                        () = &mut shutdown => break,
                        () = sleep(backoff.next()) => continue,
                    }
                }
            };
            backoff = Backoff::default();
            let Ok(permit) = Arc::clone(&places).try_acquire_owned() else {
                metrics.connections_refused.fetch_add(1, Relaxed);
                refuse(&socket, settings.max_connections);
                continue;
            };
            metrics.connections_accepted.fetch_add(1, Relaxed);
            let connection = Connection {
                router: router.clone(),
                peer,
                settings: Arc::clone(&settings),
                watcher: graceful.watcher(),
            };
            let metrics = Arc::clone(&metrics);
            tokio::spawn(async move {
                // Small responses and live pushes must not wait for Nagle; on failure they do.
                let _ = socket.set_nodelay(true);
                let Some((first, socket)) =
                    first_bytes(socket, connection.settings.first_bytes_timeout).await
                else {
                    metrics.silent_connections.fetch_add(1, Relaxed);
                    return;
                };
                let http2 = first.starts_with(HTTP2_PREFACE);
                let stream = CountedStream::new(socket, first, metrics, permit);
                connection.serve(stream, http2).await;
            });
        }
        drop(listener);
        if timeout(settings.shutdown_grace, graceful.shutdown()).await.is_err() {
            tracing::warn!("requests still under way after the grace period are cut off");
        }
    }
}

/// One connection's needs.
struct Connection {
    router: Router,
    peer: SocketAddr,
    settings: Arc<ServerSettings>,
    watcher: Watcher,
}

impl Connection {
    async fn serve(self, stream: CountedStream, http2: bool) {
        let Connection { router, peer, settings, watcher } = self;
        let mut builder = Builder::new(TokioExecutor::new());
        builder
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(settings.header_timeout)
            .max_buf_size(64 << 10);
        builder
            .http2()
            .timer(TokioTimer::new())
            .keep_alive_interval(Some(Duration::from_secs(10)))
            .keep_alive_timeout(Duration::from_secs(5))
            .max_concurrent_streams(128)
            .max_header_list_size(32 << 10);
        // The protocol is already known. hyper-util's own detection has no time limit.
        let builder = if http2 { builder.http2_only() } else { builder.http1_only() };
        let (idle, total) = (settings.body_idle_timeout, settings.body_total_timeout);
        let service = hyper::service::service_fn(move |request: Request<Incoming>| {
            let mut request = request.map(|body| Body::new(TimedBody::new(body, idle, total)));
            request.extensions_mut().insert(ConnectInfo(peer));
            let mut router = router.clone();
            async move { call(&mut router, request).await }
        });
        let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
        if let Err(error) = watcher.watch(connection.into_owned()).await {
            // Peers go away all the time; this is for whoever looks for a particular one.
            tracing::debug!(%peer, %error, "connection ended with an error");
        }
    }
}

async fn call(router: &mut Router, request: Request<Body>) -> Result<Response, Infallible> {
    let (method, uri) = (request.method().clone(), request.uri().clone());
    // A router is always ready, so `poll_ready` need not be asked.
    let response = router.call(request).await?;
    Ok(only_stated(response, &method, &uri))
}

/// Reads until the protocol can be told, or `None` when the peer is silent for too long or gone.
///
/// A peek for the first byte would not do: `P` may begin `POST` or the HTTP/2 preface, and who
/// sends it and stops would hold the connection for ever.
async fn first_bytes(mut socket: TcpStream, limit: Duration) -> Option<(Bytes, TcpStream)> {
    let mut first = BytesMut::with_capacity(4 << 10);
    let read = async {
        while HTTP2_PREFACE.starts_with(&first) && first.len() < HTTP2_PREFACE.len() {
            match socket.read_buf(&mut first).await {
                Ok(0) | Err(_) => return false,
                Ok(_) => {}
            }
        }
        true
    };
    match timeout(limit, read).await {
        Ok(true) => Some((first.freeze(), socket)),
        Ok(false) | Err(_) => None,
    }
}

/// Whether `accept` failed because that peer went away before it was accepted.
fn is_peer_fault(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::Interrupted
    )
}

/// Says why, as far as it can be said without waiting, and closes.
fn refuse(socket: &TcpStream, max_connections: usize) {
    let body = ApiError::new(
        ErrorType::Unavailable,
        format!(
            "the limit of {max_connections} connections is reached; close idle ones or raise \
             `http.max_connections`"
        ),
    )
    .to_json();
    let response = format!(
        "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\nRetry-After: 5\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    // A fresh socket's buffer takes this; a peer whose socket does not is closed without a word.
    let _ = socket.try_write(response.as_bytes());
}

/// 5 ms, doubled up to 1 s, as Go's `net/http` does.
struct Backoff(Duration);

impl Default for Backoff {
    fn default() -> Self {
        Backoff(Duration::from_millis(5))
    }
}

impl Backoff {
    fn next(&mut self) -> Duration {
        let now = self.0;
        self.0 = (now * 2).min(Duration::from_secs(1));
        now
    }
}
