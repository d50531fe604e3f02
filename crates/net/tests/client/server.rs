//! Small servers for the tests: each request is recorded and answered by a function.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, Request, Response, Uri, Version};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use net::client::{Client, ClientError, ClientOptions, Get};
use settings::prometheus::HttpClientConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;

/// One request as it came.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) uri: Uri,
    pub(crate) version: Version,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Seen {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}

/// A server on a port of its own.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) seen: Arc<Mutex<Vec<Seen>>>,
    pub(crate) connections: Arc<AtomicUsize>,
}

impl Server {
    pub(crate) fn requests(&self) -> Vec<Seen> {
        self.seen.lock().expect("no test panics with it").clone()
    }

    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    pub(crate) fn url(&self, path: &str) -> Uri {
        format!("http://{}{path}", self.address).parse().expect("a URL")
    }
}

/// Starts a plain server.
pub(crate) async fn serve(
    answer: impl Fn(&Seen) -> Response<Full<Bytes>> + Send + Sync + 'static,
) -> Server {
    serve_with(answer, None).await
}

/// Starts a server, with TLS if there is an acceptor.
pub(crate) async fn serve_with(
    answer: impl Fn(&Seen) -> Response<Full<Bytes>> + Send + Sync + 'static,
    tls: Option<tokio_rustls::TlsAcceptor>,
) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let address = listener.local_addr().expect("bound");
    let seen = Arc::new(Mutex::new(Vec::new()));
    let connections = Arc::new(AtomicUsize::new(0));
    let server = Server { address, seen: Arc::clone(&seen), connections: Arc::clone(&connections) };
    let answer = Arc::new(answer);
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            connections.fetch_add(1, Ordering::SeqCst);
            let (seen, answer, tls) = (Arc::clone(&seen), Arc::clone(&answer), tls.clone());
            tokio::spawn(async move {
                match tls {
                    None => speak(socket, seen, answer).await,
                    Some(tls) => {
                        if let Ok(stream) = tls.accept(socket).await {
                            speak(stream, seen, answer).await;
                        }
                    }
                }
            });
        }
    });
    server
}

async fn speak<S, F>(stream: S, seen: Arc<Mutex<Vec<Seen>>>, answer: Arc<F>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    F: Fn(&Seen) -> Response<Full<Bytes>> + Send + Sync + 'static,
{
    let service = service_fn(move |request: Request<Incoming>| {
        let (seen, answer) = (Arc::clone(&seen), Arc::clone(&answer));
        async move {
            let (parts, body) = request.into_parts();
            let body = body.collect().await.expect("a whole body").to_bytes();
            let request =
                Seen { uri: parts.uri, version: parts.version, headers: parts.headers, body };
            let response = answer(&request);
            seen.lock().expect("no test panics with it").push(request);
            Ok::<_, Infallible>(response)
        }
    });
    let builder = Builder::new(TokioExecutor::new());
    let _ = builder.serve_connection(TokioIo::new(stream), service).await;
}

/// A response.
pub(crate) fn answer(status: u16, headers: &[(&str, &str)], body: &str) -> Response<Full<Bytes>> {
    let mut response = Response::builder().status(status);
    for (name, value) in headers {
        response = response.header(*name, *value);
    }
    response.body(Full::new(Bytes::from(body.to_owned()))).expect("a response")
}

pub(crate) fn ok(body: &str) -> Response<Full<Bytes>> {
    answer(200, &[], body)
}

pub(crate) async fn open(config: &HttpClientConfig) -> Client {
    Client::open(config, &ClientOptions::operator()).await.expect("usable options")
}

/// Status and body of one request with five seconds of time.
pub(crate) async fn get(client: &Client, url: &Uri) -> Result<(u16, String), ClientError> {
    let headers = HeaderMap::new();
    let deadline = Instant::now() + Duration::from_secs(5);
    let response = client.get(&Get { url, headers: &headers, deadline }).await?;
    let status = response.status.as_u16();
    let mut body = Vec::new();
    response.read(1 << 20, &mut body).await?;
    Ok((status, String::from_utf8(body).expect("text")))
}
