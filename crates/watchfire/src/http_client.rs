//! Requests to a server over HTTP/1.1 or HTTPS, one at a time, on a connection that is kept.
//!
//! For the subcommands that ask a running Watchfire (or any Prometheus): blocking, so that their
//! code reads from top to bottom. Redirects are not followed, because a credential must not go
//! where its user did not send it.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use model::TenantName;
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio::time::timeout;

mod credentials;
pub(crate) mod prometheus;
mod server;
mod trust;

pub(crate) use credentials::Credentials;
pub(crate) use server::ServerArguments;
pub(crate) use trust::Trust;

/// Time to connect, TLS included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Time for an answer: a query may take `limits.query_timeout_ms`, 120 s unless raised.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(130);
/// The largest answer kept; all series of a large server with room to spare.
const MAX_ANSWER_BYTES: usize = 512 << 20;

/// Asks one server.
///
/// Must not be used inside an async task: every request blocks its thread.
pub(crate) struct HttpClient {
    server: Server,
    authorization: Option<HeaderValue>,
    tenant: Option<TenantName>,
    trust: Trust,
    answer_timeout: Duration,
    runtime: Runtime,
    kept: Option<SendRequest<Full<Bytes>>>,
}

/// Where requests go.
struct Server {
    tls: bool,
    /// Host and port as the user wrote them, for the `Host` header and messages.
    authority: String,
    host: String,
    port: u16,
    /// Path of the URL without a slash at its end.
    prefix: String,
}

/// What came back, whatever its status.
#[derive(Debug)]
pub(crate) struct Answer {
    /// The status line's code.
    pub(crate) status: StatusCode,
    /// All header fields.
    pub(crate) headers: HeaderMap,
    /// The whole body.
    pub(crate) body: Bytes,
}

impl HttpClient {
    /// A client for the server at `url`, such as `https://host:9595`; a path in it stands before
    /// every request's. Nothing is sent yet.
    ///
    /// # Errors
    /// When `url` is no `http://` or `https://` URL, or names a user, or a credential cannot stand
    /// in a header.
    pub(crate) fn new(url: &str, credentials: &Credentials) -> Result<HttpClient> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("start the runtime")?;
        Ok(HttpClient {
            server: Server::parse(url)?,
            authorization: credentials.header()?,
            tenant: None,
            trust: Trust::default(),
            answer_timeout: ANSWER_TIMEOUT,
            runtime,
            kept: None,
        })
    }

    /// Asks for the data of one tenant.
    pub(crate) fn for_tenant(mut self, tenant: Option<TenantName>) -> Self {
        self.tenant = tenant;
        self
    }

    /// Believes the certificates that `trust` says, instead of those of the system and of a data
    /// directory nearby.
    pub(crate) fn with_trust(self, trust: Trust) -> HttpClient {
        HttpClient { trust, ..self }
    }

    /// Waits this long for an answer instead of 130 s.
    pub(crate) fn with_answer_timeout(self, answer_timeout: Duration) -> HttpClient {
        HttpClient { answer_timeout, ..self }
    }

    /// The URL at which `path` is asked for.
    pub(crate) fn url(&self, path: &str) -> String {
        let scheme = if self.server.tls { "https" } else { "http" };
        format!("{scheme}://{}{}{path}", self.server.authority, self.server.prefix)
    }

    /// Gets `path`, which begins with a slash and may have a query.
    ///
    /// # Errors
    /// As for all requests: when the server cannot be reached, is not trusted, or gives no answer
    /// in time. Any status is an answer; see [`Answer::success`].
    pub(crate) fn get(&mut self, path: &str) -> Result<Answer> {
        self.send(Method::GET, path, None, Bytes::new())
    }

    /// Deletes what `path` names. Errors: see [`HttpClient::get`].
    pub(crate) fn delete(&mut self, path: &str) -> Result<Answer> {
        self.send(Method::DELETE, path, None, Bytes::new())
    }

    /// Posts a form. Errors: see [`HttpClient::get`].
    pub(crate) fn post_form(&mut self, path: &str, form: &[(&str, String)]) -> Result<Answer> {
        let body = Bytes::from(encode_form(form));
        self.send(Method::POST, path, Some("application/x-www-form-urlencoded"), body)
    }

    /// Posts a body of remote write 1.0, packed already. Errors: see [`HttpClient::get`].
    pub(crate) fn post_remote_write(&mut self, path: &str, body: Bytes) -> Result<Answer> {
        self.send(Method::POST, path, Some("application/x-protobuf"), body)
    }

    /// Posts JSON. Errors: see [`HttpClient::get`].
    pub(crate) fn post_json(&mut self, path: &str, body: &serde_json::Value) -> Result<Answer> {
        let body = Bytes::from(body.to_string());
        self.send(Method::POST, path, Some("application/json"), body)
    }

    fn send(
        &mut self,
        method: Method,
        path: &str,
        content_type: Option<&'static str>,
        body: Bytes,
    ) -> Result<Answer> {
        let url = self.url(path);
        let request = self.request(method, path, content_type, body)?;
        let exchange = exchange(&self.server, &self.trust, &mut self.kept, request);
        let wait = self.answer_timeout + CONNECT_TIMEOUT;
        let outcome = self.runtime.block_on(async { timeout(wait, exchange).await });
        let Ok(outcome) = outcome else {
            self.kept = None;
            bail!("{url} gave no answer within {} s", wait.as_secs());
        };
        outcome.with_context(|| format!("ask {url}"))
    }

    fn request(
        &self,
        method: Method,
        path: &str,
        content_type: Option<&'static str>,
        body: Bytes,
    ) -> Result<Request<Full<Bytes>>> {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.server.prefix))
            .header(header::HOST, &self.server.authority)
            .header(header::USER_AGENT, concat!("watchfire/", env!("CARGO_PKG_VERSION")));
        if let Some(content_type) = content_type {
            request = request.header(header::CONTENT_TYPE, content_type);
        }
        if let Some(authorization) = &self.authorization {
            request = request.header(header::AUTHORIZATION, authorization);
        }
        if let Some(tenant) = &self.tenant {
            request = request.header(net::auth::TENANT_HEADER, tenant.as_str());
        }
        request.body(Full::new(body)).with_context(|| format!("{path:?} is no path of a URL"))
    }
}

impl Server {
    fn parse(url: &str) -> Result<Server> {
        let uri: Uri = url.parse().with_context(|| format!("{url:?} is not a URL"))?;
        let tls = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => bail!("{url:?}: give the address as http://HOST:PORT or https://HOST:PORT"),
        };
        let authority = uri.authority().with_context(|| format!("{url:?} names no host"))?;
        ensure!(
            !authority.as_str().contains('@'),
            "the URL holds a user or password; give them with --user or --token-file, where they \
             are not seen in lists of processes and logs"
        );
        ensure!(uri.query().is_none(), "{url:?} has a query; only host, port and path are used");
        Ok(Server {
            tls,
            authority: authority.as_str().to_owned(),
            host: authority.host().trim_matches(['[', ']']).to_owned(),
            port: authority.port_u16().unwrap_or(if tls { 443 } else { 80 }),
            prefix: uri.path().trim_end_matches('/').to_owned(),
        })
    }
}

impl Answer {
    /// This answer, if its status is one of success.
    ///
    /// # Errors
    /// What the server said of itself (`error` of a JSON answer, otherwise the first line), with
    /// the remedy where one is known.
    pub(crate) fn success(self) -> Result<Answer> {
        if self.status.is_success() {
            return Ok(self);
        }
        #[derive(serde::Deserialize)]
        struct Refusal {
            error: String,
        }
        let said = serde_json::from_slice::<Refusal>(&self.body).map_or_else(
            |_| self.text().lines().next().unwrap_or_default().chars().take(300).collect(),
            |refusal| refusal.error,
        );
        let remedy = match self.status {
            StatusCode::UNAUTHORIZED => {
                "; give a token with --token-file FILE or WATCHFIRE_TOKEN, or --user NAME"
            }
            StatusCode::FORBIDDEN => "; the token lacks the scope for this",
            _ => "",
        };
        let separator = if said.is_empty() { "" } else { ": " };
        bail!("answered {}{separator}{said}{remedy}", self.status)
    }

    /// The body as text; bytes that are no UTF-8 are replaced.
    pub(crate) fn text(&self) -> std::borrow::Cow<'_, str> {
        String::from_utf8_lossy(&self.body)
    }
}

/// Sends on the kept connection, or on a new one when there is none or the server has closed it.
async fn exchange(
    server: &Server,
    trust: &Trust,
    kept: &mut Option<SendRequest<Full<Bytes>>>,
    request: Request<Full<Bytes>>,
) -> Result<Answer> {
    let mut unsent = request;
    if let Some(mut sender) = kept.take()
        && sender.ready().await.is_ok()
    {
        // To ask once more changes nothing.
        let repeatable = (*unsent.method() == Method::GET).then(|| unsent.clone());
        match sender.try_send_request(unsent).await {
            Ok(response) => return receive(response, sender, kept).await,
            // Another one may be sent again only if nothing of it was sent: the server may have closed the
            // connection just now, or after it took the request.
            Err(mut error) => match error.take_message().or(repeatable) {
                Some(request) => unsent = request,
                None => return Err(error.into_error()).context("the connection broke"),
            },
        }
    }
    let mut sender = timeout(CONNECT_TIMEOUT, connect(server, trust)).await.map_err(|_| {
        anyhow::anyhow!(
            "connect to {}: no answer within {} s; is a firewall between?",
            server.authority,
            CONNECT_TIMEOUT.as_secs()
        )
    })??;
    let response = sender.send_request(unsent).await.map_err(|error| {
        let is_parse = error.is_parse();
        let error = anyhow::Error::new(error);
        if is_parse && !server.tls {
            error.context("the answer is not HTTP; if the server speaks TLS, write https://")
        } else {
            error.context("send the request")
        }
    })?;
    receive(response, sender, kept).await
}

async fn receive(
    response: http::Response<hyper::body::Incoming>,
    sender: SendRequest<Full<Bytes>>,
    kept: &mut Option<SendRequest<Full<Bytes>>>,
) -> Result<Answer> {
    let (head, body) = response.into_parts();
    let body = Limited::new(body, MAX_ANSWER_BYTES)
        .collect()
        .await
        .map_err(|error| anyhow::anyhow!("read the answer: {error}"))?
        .to_bytes();
    *kept = Some(sender);
    Ok(Answer { status: head.status, headers: head.headers, body })
}

async fn connect(server: &Server, trust: &Trust) -> Result<SendRequest<Full<Bytes>>> {
    let authority = &server.authority;
    let stream =
        TcpStream::connect((server.host.as_str(), server.port)).await.with_context(|| {
            format!("connect to {authority}: is Watchfire running there? Start it with `watchfire`")
        })?;
    // A request is one small write; waiting for more only delays it.
    let _ = stream.set_nodelay(true);
    if !server.tls {
        return handshake(stream).await;
    }
    let connector = tokio_rustls::TlsConnector::from(Arc::new(trust.client_config()?));
    let name = rustls::pki_types::ServerName::try_from(server.host.clone())
        .with_context(|| format!("{:?} is no name a certificate can have", server.host))?;
    let stream = connector.connect(name, stream).await.with_context(|| {
        format!(
            "TLS with {authority}; to trust a certificate of Watchfire's own authority, copy \
             tls/ca.pem from the server's data directory and name it with --ca-file"
        )
    })?;
    handshake(stream).await
}

async fn handshake<S>(stream: S) -> Result<SendRequest<Full<Bytes>>>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    Ok(sender)
}

/// The pairs as `application/x-www-form-urlencoded`, which is also what stands after the `?` of a
/// URL.
pub(crate) fn encode_form(form: &[(&str, String)]) -> String {
    let mut out = String::new();
    for (name, value) in form {
        if !out.is_empty() {
            out.push('&');
        }
        out.push_str(name);
        out.push('=');
        for byte in value.bytes() {
            if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
                out.push(char::from(byte));
            } else {
                out.push_str(&format!("%{byte:02X}"));
            }
        }
    }
    out
}

#[cfg(test)]
mod tests;
