//! Accepts connections and serves routes on them, HTTP/1.1 and HTTP/2, plain and over TLS, with a
//! time limit on everything a peer can delay.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use axum::Router;
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

use crate::body_budget::BodyBudget;
use crate::connection::{Connection, MAX_HANDSHAKES, Protocol, Served};
use crate::tls::{MutualTls, ServerTls};
use crate::{ApiError, ErrorType, NetMetrics};

/// How long peers may take and how many there may be. `Default` gives the documented values, with
/// which a connection that never completes its first request header is closed within 15 s. With TLS it
/// may take 5 s longer, for the handshake, and 15 s more where others wait for theirs.
#[derive(Debug, Clone)]
pub struct ServerSettings {
    /// Until it is known from a new connection's first bytes which protocol it speaks. With TLS, for
    /// the first record of the handshake, and, when it is the connection's turn, for the rest of it
    /// with the bytes behind.
    pub first_bytes_timeout: Duration,
    /// For a complete HTTP/1 request header, also how long an idle connection is kept; in HTTP/2,
    /// until the first request.
    pub header_timeout: Duration,
    /// Between two pieces of a request body.
    pub body_idle_timeout: Duration,
    /// For a whole request body.
    pub body_total_timeout: Duration,
    /// Open connections, upgraded ones included; one more is answered 503.
    pub max_connections: usize,
    /// How long requests under way may go on once shutdown began.
    pub shutdown_grace: Duration,
    /// For the request bodies of all servers that are given clones of these settings.
    pub body_budget: Arc<BodyBudget>,
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
            body_budget: BodyBudget::new(256 << 20),
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
            tls: None,
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
    tls: Option<ServerTls>,
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

    /// Speaks TLS instead of plain HTTP. The handshake is part of the first bytes' time limit.
    pub fn with_tls(mut self, tls: ServerTls) -> Self {
        self.tls = Some(tls);
        self
    }

    /// Serves `router`, which comes from [`crate::Routes`], until `shutdown` is done, then lets
    /// requests under way finish within the grace period. Handlers find the peer as
    /// `ConnectInfo<SocketAddr>`. WebSockets are not waited for: their handlers must watch for
    /// shutdown themselves.
    ///
    /// A failing `accept`, such as too many open files, is logged and tried again.
    pub async fn serve(self, router: Router, shutdown: impl Future<Output = ()>) {
        let protocol = match self.tls.clone() {
            None => Protocol::Http,
            Some(tls) => Protocol::Https(tls),
        };
        self.accept(Served { router, protocol }, shutdown).await;
    }

    /// Serves gRPC to Watchfire's own processes, over mutual TLS alone, until `shutdown` is done.
    ///
    /// Calls find who is calling as the extension [`crate::PeerIdentity`], and the address as
    /// `ConnectInfo<SocketAddr>`. Which role may make which call is decided here; who has no
    /// certificate may only ask for one, within half a minute. When a peer is revoked its
    /// connections are cut. A call's stream may stay open and idle for as long as the peer
    /// answers pings. The size of one message is limited by the service
    /// (`max_decoding_message_size`), streams per connection and unread bytes by this.
    pub async fn serve_rpc(
        self,
        tls: MutualTls,
        routes: tonic::service::Routes,
        shutdown: impl Future<Output = ()>,
    ) {
        let router = routes.prepare().into_axum_router();
        self.accept(Served { router, protocol: Protocol::Rpc(tls) }, shutdown).await;
    }

    async fn accept(self, served: Served, shutdown: impl Future<Output = ()>) {
        let Bound { listener, settings, metrics, .. } = self;
        let settings = Arc::new(settings);
        let places = Arc::new(Semaphore::new(settings.max_connections));
        let turns = Arc::new(Semaphore::new(MAX_HANDSHAKES));
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
                served: served.clone(),
                peer,
                settings: Arc::clone(&settings),
                metrics: Arc::clone(&metrics),
                watcher: graceful.watcher(),
                turns: Arc::clone(&turns),
            };
            tokio::spawn(connection.run(socket, permit));
        }
        drop(listener);
        if timeout(settings.shutdown_grace, graceful.shutdown()).await.is_err() {
            tracing::warn!("requests still under way after the grace period are cut off");
        }
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
