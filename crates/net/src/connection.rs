//! One connection: which protocol it speaks, who is at its other end, and how long it may take.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, SystemTime};

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::response::Response;
use bytes::BytesMut;
use http::{Request, Version};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::Watcher;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tonic::Status;
use tower::Service;

use crate::auth::OverTls;
use crate::authority::Role;
use crate::body_budget::Reservation;
use crate::counted_stream::CountedStream;
use crate::metrics::HandshakeFault;
use crate::peers::{PeerIdentity, Peers};
use crate::request_line::escape_query;
use crate::rewound::Rewound;
use crate::routes::only_stated;
use crate::server::ServerSettings;
use crate::timed_body::TimedBody;
use crate::tls::{MutualTls, ServerTls};
use crate::{ApiError, ErrorType, NetMetrics, rpc_access};

/// What an HTTP/2 client says first (RFC 9113, section 3.4).
const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// The first byte of every TLS connection: a handshake record (RFC 8446, section 5.1).
const TLS_HANDSHAKE: u8 = 0x16;
/// Before each TLS record: its type, version and length.
const TLS_HEADER_BYTES: usize = 5;
/// The longest record before anything is encrypted.
const MAX_TLS_RECORD_BYTES: usize = 16 << 10;
/// Of a request line that is looked at before it is parsed.
const MAX_LINE_BYTES: usize = 32 << 10;
/// Read and forgotten of a request that came to the wrong port.
const MAX_UNREAD_BYTES: u64 = 64 << 10;
/// Of a stream's own bytes, not yet read by its handler; and of all streams of a connection.
const RPC_STREAM_WINDOW_BYTES: u32 = 512 << 10;
const RPC_CONNECTION_WINDOW_BYTES: u32 = 1 << 20;
/// Calls under way on one connection of an agent.
const RPC_STREAMS: u32 = 32;
/// … of a console, which has one for each live subscription of its users. They send little.
const RPC_READER_STREAMS: u32 = 1_280;
/// How long a connection without certificate in force may stay: long enough to ask for one.
const STRANGER_TIME: Duration = Duration::from_secs(30);

/// TLS handshakes of one server at once. Each takes half a millisecond of a processor; that many
/// keep it at work while their peers, far away, think.
pub(crate) const MAX_HANDSHAKES: usize = 256;
/// After this long the next one may begin.
const TURN_TIME: Duration = Duration::from_secs(1);
/// Who has waited for so long has given up: agents give the whole handshake no more.
const TURN_WAIT: Duration = Duration::from_secs(15);

/// What a server's connections are served.
#[derive(Clone)]
pub(crate) struct Served {
    pub(crate) router: Router,
    pub(crate) protocol: Protocol,
}

/// What a server's connections speak.
#[derive(Clone)]
pub(crate) enum Protocol {
    Http,
    Https(ServerTls),
    Rpc(MutualTls),
}

/// One connection's needs.
pub(crate) struct Connection {
    pub(crate) served: Served,
    pub(crate) peer: SocketAddr,
    pub(crate) settings: Arc<ServerSettings>,
    pub(crate) metrics: Arc<NetMetrics>,
    pub(crate) watcher: Watcher,
    /// For those who shake hands, see [`MAX_HANDSHAKES`].
    pub(crate) turns: Arc<Semaphore>,
}

/// Who may be at the other end of a connection between Watchfire's own processes.
#[derive(Clone)]
struct Peering {
    peers: Arc<Peers>,
    identity: Option<PeerIdentity>,
    /// Whether the certificate counted when the connection was made.
    was_in_force: bool,
}

impl Peering {
    fn new(peers: Arc<Peers>, identity: Option<PeerIdentity>) -> Self {
        let mut peering = Peering { peers, identity, was_in_force: false };
        peering.was_in_force = peering.is_in_force();
        peering
    }

    fn is_in_force(&self) -> bool {
        let check = |peer| self.peers.check(peer, SystemTime::now()).is_ok();
        self.identity.as_ref().is_some_and(check)
    }

    /// Whether the peer may make the call `path` now.
    fn admit(&self, path: &str) -> Result<(), Status> {
        rpc_access::check(path, self.identity.as_ref())?;
        let Some(peer) = &self.identity else { return Ok(()) };
        // Also for calls that are for everyone: a revoked peer is to learn that it is.
        let in_force = self.peers.check(peer, SystemTime::now());
        in_force.map_err(|refusal| Status::unauthenticated(refusal.to_string()))
    }

    /// Ends when the connection has to: soon for a stranger, with its certificate for a peer.
    async fn end(&self) {
        let mut revocations = self.peers.revocations();
        if !self.was_in_force {
            return sleep(STRANGER_TIME).await;
        }
        while self.is_in_force() {
            // The other end of the channel lives in `peers`. A certificate that ends is looked at
            // with each call, and here once in a while.
            let _ = timeout(STRANGER_TIME, revocations.changed()).await;
        }
    }
}

impl Connection {
    pub(crate) async fn run(self, socket: TcpStream, permit: OwnedSemaphorePermit) {
        // Small responses and live pushes must not wait for Nagle; on failure they do.
        let _ = socket.set_nodelay(true);
        let stream = CountedStream::new(socket, Arc::clone(&self.metrics), permit);
        let limit = self.settings.first_bytes_timeout;
        match self.served.protocol.clone() {
            Protocol::Http => match timeout(limit, first_bytes(stream)).await {
                Ok(Some((http2, stream))) => self.serve(stream, http2, None).await,
                Ok(None) | Err(_) => {
                    self.metrics.silent_connections.fetch_add(1, Relaxed);
                }
            },
            Protocol::Https(tls) => {
                let acceptor = TlsAcceptor::from(tls.config);
                if let Some((http2, stream, _)) = self.secure(stream, acceptor).await {
                    self.serve(stream, http2, None).await;
                }
            }
            Protocol::Rpc(MutualTls { config, peers }) => {
                let acceptor = TlsAcceptor::from(config);
                if let Some((http2, stream, identity)) = self.secure(stream, acceptor).await {
                    let peering = Peering::new(peers, identity);
                    self.serve(stream, http2, Some(peering)).await;
                }
            }
        }
    }

    /// The handshake and the first bytes behind it. The client has the time for first bytes for the
    /// first record, and the same again when it is its turn.
    async fn secure(
        &self,
        mut stream: CountedStream,
        acceptor: TlsAcceptor,
    ) -> Option<(bool, Rewound<TlsStream<Rewound<CountedStream>>>, Option<PeerIdentity>)> {
        let limit = self.settings.first_bytes_timeout;
        let mut first = BytesMut::with_capacity(1 << 10);
        let is_in_time = timeout(limit, first_record(&mut stream, &mut first)).await.is_ok();
        if first.is_empty() {
            self.metrics.silent_connections.fetch_add(1, Relaxed);
            return None;
        }
        if first[0] != TLS_HANDSHAKE {
            let is_http = first[0].is_ascii_alphabetic();
            let fault = if is_http { HandshakeFault::PlainHttp } else { HandshakeFault::Refused };
            self.metrics.count_handshake_fault(fault);
            if is_http {
                // A client that does not read its answer goes without.
                let _ = timeout(limit, refuse_plain_http(&mut stream)).await;
            }
            return None;
        }
        if !is_in_time {
            self.metrics.count_handshake_fault(HandshakeFault::Timeout);
            return None;
        }
        let stream = Rewound::new(first.freeze(), stream);
        let Some(turn) = turn(&self.turns, TURN_WAIT, &self.metrics).await else {
            self.metrics.count_handshake_fault(HandshakeFault::Timeout);
            return None;
        };
        let end = Instant::now() + limit;
        let mut handshake = pin!(acceptor.accept(stream));
        let in_turn = timeout(TURN_TIME.min(limit), &mut handshake).await;
        // One that waits for its peer keeps nobody else waiting.
        drop(turn);
        let outcome = match in_turn {
            Ok(outcome) => Ok(outcome),
            Err(_) => timeout_at(end, handshake).await,
        };
        let stream = match outcome {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => {
                self.metrics.count_handshake_fault(HandshakeFault::Refused);
                tracing::debug!(peer = %self.peer, %error, "TLS handshake failed");
                return None;
            }
            Err(_) => {
                self.metrics.count_handshake_fault(HandshakeFault::Timeout);
                return None;
            }
        };
        self.metrics.handshakes.fetch_add(1, Relaxed);
        let certificates = stream.get_ref().1.peer_certificates();
        let own = certificates.and_then(|chain| chain.first());
        let identity = own.and_then(PeerIdentity::of_certificate);
        let Ok(Some((http2, stream))) = timeout_at(end, first_bytes(stream)).await else {
            self.metrics.silent_connections.fetch_add(1, Relaxed);
            return None;
        };
        Some((http2, stream, identity))
    }

    async fn serve<S>(self, stream: S, http2: bool, peering: Option<Peering>)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let streams = peering.as_ref().map(|peering| match &peering.identity {
            Some(PeerIdentity { role: Role::Console | Role::Broker, .. }) => RPC_READER_STREAMS,
            _ => RPC_STREAMS,
        });
        let builder = self.builder(http2, streams);
        let Connection { served, peer, settings, metrics, watcher, .. } = self;
        let is_asked = Arc::new(AtomicBool::new(false));
        let over_tls = !matches!(served.protocol, Protocol::Http);
        let answering = Answering {
            router: served.router,
            peer,
            over_tls,
            settings: Arc::clone(&settings),
            metrics: Arc::clone(&metrics),
            peering: peering.clone(),
            is_asked: Arc::clone(&is_asked),
        };
        let service = hyper::service::service_fn(move |request| answering.clone().answer(request));
        let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
        let cut = async {
            if http2 {
                // HTTP/1 has its own time limit for the first header.
                sleep(settings.header_timeout).await;
                if !is_asked.load(Relaxed) {
                    return "no request came in time";
                }
            }
            match &peering {
                None => std::future::pending().await,
                Some(peering) => {
                    peering.end().await;
                    "the certificate does not count any more"
                }
            }
        };
        tokio::select! {
            result = watcher.watch(connection.into_owned()) => if let Err(error) = result {
                // Peers go away all the time; this is for whoever looks for a particular one.
                tracing::debug!(%peer, %error, "connection ended with an error");
            },
            reason = cut => {
                metrics.cut_connections.fetch_add(1, Relaxed);
                tracing::debug!(%peer, reason, "connection cut");
            }
        }
    }

    /// `rpc_streams` is how many calls a process of ours may have under way on one connection.
    fn builder(&self, http2: bool, rpc_streams: Option<u32>) -> Builder<TokioExecutor> {
        let mut builder = Builder::new(TokioExecutor::new());
        builder
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(self.settings.header_timeout)
            .max_buf_size(64 << 10);
        builder
            .http2()
            .timer(TokioTimer::new())
            .keep_alive_interval(Some(Duration::from_secs(10)))
            .keep_alive_timeout(Duration::from_secs(5))
            .max_concurrent_streams(128)
            .max_header_list_size(32 << 10);
        if let Some(streams) = rpc_streams {
            // Thousands of agents, each with few streams: what each may leave unread is memory.
            builder
                .http2()
                .max_concurrent_streams(streams)
                .initial_stream_window_size(RPC_STREAM_WINDOW_BYTES)
                .initial_connection_window_size(RPC_CONNECTION_WINDOW_BYTES);
        }
        // The protocol is already known. hyper-util's own detection has no time limit.
        if http2 { builder.http2_only() } else { builder.http1_only() }
    }
}

/// What answers each request of a connection.
#[derive(Clone)]
struct Answering {
    router: Router,
    peer: SocketAddr,
    over_tls: bool,
    settings: Arc<ServerSettings>,
    metrics: Arc<NetMetrics>,
    peering: Option<Peering>,
    is_asked: Arc<AtomicBool>,
}

impl Answering {
    async fn answer(
        mut self,
        request: Request<Incoming>,
    ) -> Result<Response, std::convert::Infallible> {
        self.is_asked.store(true, Relaxed);
        let (method, uri) = (request.method().clone(), request.uri().clone());
        let Some(peering) = self.peering.take() else {
            let reservation =
                Reservation::new(Arc::clone(&self.settings.body_budget), self.metrics);
            let (idle, total) = (self.settings.body_idle_timeout, self.settings.body_total_timeout);
            let charged = Arc::clone(&reservation);
            let lingers = request.version() == Version::HTTP_2;
            let mut request =
                request.map(|body| Body::new(TimedBody::new(body, idle, total, charged, lingers)));
            request.extensions_mut().insert(ConnectInfo(self.peer));
            if self.over_tls {
                request.extensions_mut().insert(OverTls);
            }
            // A router is always ready, so `poll_ready` need not be asked.
            let answer = self.router.call(request);
            let answer =
                reservation.over(async { answer.await.unwrap_or_else(|never| match never {}) });
            return Ok(only_stated(answer.await, &method, &uri));
        };
        if let Err(refusal) = peering.admit(uri.path()) {
            return Ok(rpc_access::refusal(refusal));
        }
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(ConnectInfo(self.peer));
        if let Some(identity) = peering.identity {
            request.extensions_mut().insert(identity);
        }
        self.router.call(request).await
    }
}

/// Waits for a turn to shake hands; `None` if it takes too long.
///
/// When ten thousand agents come at once and all begin, none is done before its patience ends, and
/// all the work is done in vain, again and again. So some begin and the others wait, in the order in
/// which they came.
async fn turn(
    turns: &Arc<Semaphore>,
    limit: Duration,
    metrics: &NetMetrics,
) -> Option<OwnedSemaphorePermit> {
    if let Ok(turn) = Arc::clone(turns).try_acquire_owned() {
        return Some(turn);
    }
    metrics.handshakes_waiting.fetch_add(1, Relaxed);
    let turn = timeout(limit, Arc::clone(turns).acquire_owned()).await;
    metrics.handshakes_waiting.fetch_sub(1, Relaxed);
    turn.ok()?.ok()
}

/// Reads the first record of a TLS handshake, so that whoever begins one and stops takes nobody's
/// turn. Ends early when the peer is gone, or sends what is no such record: whoever parses it says
/// so.
async fn first_record<S: AsyncRead + Unpin>(stream: &mut S, first: &mut BytesMut) {
    loop {
        if first.first().is_some_and(|byte| *byte != TLS_HANDSHAKE) {
            return;
        }
        if let Some(&[_, _, _, high, low]) = first.get(..TLS_HEADER_BYTES) {
            let length = usize::from(u16::from_be_bytes([high, low]));
            if length > MAX_TLS_RECORD_BYTES || first.len() >= TLS_HEADER_BYTES + length {
                return;
            }
        }
        if first.len() == first.capacity() {
            first.reserve(first.len());
        }
        if !matches!(stream.read_buf(first).await, Ok(1..)) {
            return;
        }
    }
}

/// Reads until the protocol can be told and, in HTTP/1, until the request line has ended, or `None` when the peer is gone. Yields whether it is
/// HTTP/2.
///
/// A peek for the first byte would not do: `P` may begin `POST` or the HTTP/2 preface, and who
/// sends it and stops would hold the connection for ever.
async fn first_bytes<S: AsyncRead + Unpin>(mut stream: S) -> Option<(bool, Rewound<S>)> {
    let mut first = BytesMut::with_capacity(4 << 10);
    while HTTP2_PREFACE.starts_with(&first) && first.len() < HTTP2_PREFACE.len() {
        match stream.read_buf(&mut first).await {
            Ok(0) | Err(_) => return None,
            Ok(_) => {}
        }
    }
    if first.starts_with(HTTP2_PREFACE) {
        return Some((true, Rewound::new(first.freeze(), stream)));
    }
    // No line has control characters: they are its end, or for the parser to refuse.
    let mut seen = 0;
    while first.len() < MAX_LINE_BYTES && first[seen..].iter().all(|byte| *byte >= b' ') {
        seen = first.len();
        if seen == first.capacity() {
            first.reserve(seen);
        }
        match stream.read_buf(&mut first).await {
            // The parser says what is wrong with half a line.
            Ok(0) => break,
            Ok(_) => {}
            Err(_) => return None,
        }
    }
    Some((false, Rewound::new(escape_query(first), stream)))
}

/// Tells who speaks plain HTTP to a TLS port what to do instead.
async fn refuse_plain_http(stream: &mut CountedStream) {
    let message = "this port speaks TLS; use https:// instead of http://";
    let body = ApiError::new(ErrorType::BadData, message).to_json();
    let response = format!(
        "HTTP/1.1 400 Bad Request\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n{body}",
        body.len()
    );
    // Whoever does not read this is closed without a word; the caller's time limit holds here.
    let said = async {
        stream.write_all(response.as_bytes()).await?;
        stream.shutdown().await?;
        // Closed with bytes unread, the system would take back what was said.
        tokio::io::copy(&mut stream.take(MAX_UNREAD_BYTES), &mut tokio::io::sink()).await
    };
    let _ = said.await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_turn_is_waited_for_and_not_for_ever() {
        let (turns, metrics) = (Arc::new(Semaphore::new(1)), NetMetrics::default());
        let short = Duration::from_millis(20);
        let first = turn(&turns, short, &metrics).await.expect("free");
        assert!(turn(&turns, short, &metrics).await.is_none());
        assert_eq!(metrics.handshakes_waiting.load(Relaxed), 0);
        let freed = async {
            sleep(short).await;
            drop(first);
        };
        let (next, ()) = tokio::join!(turn(&turns, Duration::from_secs(9), &metrics), freed);
        assert!(next.is_some());
    }

    #[tokio::test]
    async fn the_first_record_is_read_whole_and_nothing_waits_behind_it() {
        for (pieces, wanted) in [
            (&[&b"\x16"[..], b"\x03\x01\x00", b"\x03a", b"bc"][..], 8),
            (&[b"\x16\x03\x01\x00\x01abc", b"late"], 8),
            // Longer than a record may be, and no handshake.
            (&[b"\x16\x03\x01\xff\xff", b"late"], 5),
            (&[b"GET", b"late"], 3),
        ] {
            let (mut client, mut server) = tokio::io::duplex(64);
            let mut first = BytesMut::new();
            let reading = first_record(&mut server, &mut first);
            let sending = async {
                for piece in pieces {
                    client.write_all(piece).await.expect("open");
                    tokio::task::yield_now().await;
                }
                sleep(Duration::from_secs(60)).await;
            };
            tokio::select! {
                biased;
                () = reading => {}
                () = sending => panic!("{pieces:?} is not enough"),
            }
            assert_eq!(first.len(), wanted, "{pieces:?}");
        }
    }
}
