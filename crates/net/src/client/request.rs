//! One request and its answer, redirects included.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use bytes::Bytes;
use http::header::{LOCATION, PROXY_AUTHORIZATION, USER_AGENT};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use settings::Secret;
use settings::prometheus::HttpClientConfig;
use tokio::time::timeout_at;

use super::addresses::{AddressCheck, operator_addresses};
use super::connection::Used;
use super::connector::describe;
use super::counters::ClientCounters;
use super::credentials::Credentials;
use super::dns::Dns;
use super::error::ClientError;
use super::redirect::{MAX_REDIRECTS, may_share_credentials, target};
use super::transport::{Transports, failure, was_stale};

/// How much of an unwanted body is read so that the connection can be used again.
const DRAIN_BYTES: usize = 64 << 10;

/// What several clients share.
#[derive(Clone)]
pub struct ClientOptions {
    /// The header `User-Agent`.
    pub user_agent: HeaderValue,
    /// Which addresses may be connected to.
    pub addresses: AddressCheck,
    /// Looks names up.
    pub dns: Arc<Dns>,
    /// What is counted.
    pub counters: Arc<ClientCounters>,
}

impl ClientOptions {
    /// For servers that the operator's own configuration names: `User-Agent: Watchfire/<version>`
    /// and [`operator_addresses`].
    pub fn operator() -> Self {
        ClientOptions {
            user_agent: HeaderValue::from_static(concat!("Watchfire/", env!("CARGO_PKG_VERSION"))),
            addresses: Arc::new(operator_addresses),
            dns: Arc::new(Dns::new()),
            counters: Arc::default(),
        }
    }
}

/// A client with one set of options. Keeps connections open; share it.
pub struct Client {
    transports: Transports,
    credentials: Credentials,
    follow_redirects: bool,
    /// Whether a redirect to somebody else is an error.
    keeps_to_host: bool,
    options: ClientOptions,
}

/// A request without a body.
#[derive(Debug, Clone)]
pub struct Get<'a> {
    /// `http://` or `https://`; a name and password in it become `Authorization: Basic` unless the
    /// options say something else.
    pub url: &'a Uri,
    /// Headers besides `User-Agent` and those of the options.
    pub headers: &'a HeaderMap,
    /// When the whole exchange must be over, body included.
    pub deadline: Instant,
}

/// A request with a body. It may be sent twice: where a kept connection turns out to be closed, nobody
/// knows whether the server has seen it.
#[derive(Debug, Clone)]
pub struct Post<'a> {
    /// As for [`Get`].
    pub url: &'a Uri,
    /// As for [`Get`].
    pub headers: &'a HeaderMap,
    /// The body.
    pub body: Bytes,
    /// As for [`Get`].
    pub deadline: Instant,
}

/// What goes out, whichever method it has. As [`Post`], it may be sent twice.
#[derive(Debug, Clone)]
pub struct Outgoing<'a> {
    /// As for [`Get`].
    pub url: &'a Uri,
    /// As for [`Get`].
    pub headers: &'a HeaderMap,
    /// The method; sending the request again must do no harm.
    pub method: Method,
    /// The body, which may be empty.
    pub body: Bytes,
    /// As for [`Get`].
    pub deadline: Instant,
}

impl Outgoing<'_> {
    /// Whether an answer with this status sends the same request elsewhere. The older statuses turn
    /// a POST into a GET, which is of no use to whoever has something to deliver: they are answers.
    fn is_redirected_by(&self, status: StatusCode) -> bool {
        match status.as_u16() {
            307 | 308 => true,
            301..=303 => self.method == Method::GET,
            _ => false,
        }
    }
}

/// An answer whose body is still on its way.
#[derive(Debug)]
pub struct Response {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    body: Incoming,
    started: Instant,
    deadline: Instant,
}

/// Name and password of a URL, decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Userinfo {
    pub(super) name: String,
    pub(super) password: String,
}

impl Client {
    /// A client with these options. Files of `tls_config` and files with credentials are read when
    /// a request needs them, so that they may come later and change.
    ///
    /// # Errors
    /// [`ClientError::Config`] for options that can never work. A file that is not there or of no
    /// use is none of them: requests fail until it is.
    pub async fn open(
        config: &HttpClientConfig,
        options: &ClientOptions,
    ) -> Result<Self, ClientError> {
        let transports = Transports::new(&config.tls, &config.proxy, config.enable_http2, options)?;
        match transports.current().await {
            Ok(_) => {}
            Err(error @ ClientError::Credentials(_)) => {
                tracing::warn!(%error, "requests fail until the file can be used");
            }
            Err(error) => return Err(error),
        }
        Ok(Client {
            transports,
            credentials: Credentials::new(config, options)?,
            follow_redirects: config.follow_redirects,
            keeps_to_host: false,
            options: options.clone(),
        })
    }

    /// A client for requests whose URL, headers and body are themselves secret: a redirect that
    /// leads to another host, or away from TLS, is an error instead of being followed. Files are
    /// not looked at before the first request.
    ///
    /// # Errors
    /// [`ClientError::Config`] for options that can never work.
    pub fn confidential(
        config: &HttpClientConfig,
        options: &ClientOptions,
    ) -> Result<Self, ClientError> {
        let transports = Transports::new(&config.tls, &config.proxy, config.enable_http2, options)?;
        transports.check()?;
        Ok(Client {
            transports,
            credentials: Credentials::new(config, options)?,
            follow_redirects: config.follow_redirects,
            keeps_to_host: true,
            options: options.clone(),
        })
    }

    /// The header `Authorization` with a token that was fetched for requests (OAuth 2), if there is
    /// one: for whoever takes secrets out of what servers answer.
    pub fn fetched_token(&self) -> Option<Secret> {
        self.credentials.token()
    }

    /// Asks and, if the options allow it, follows redirects; credentials and extra headers go to
    /// the first host only. Every status is an answer.
    ///
    /// # Errors
    /// [`ClientError`], except `Config` and `BodyTooLarge`.
    pub async fn get(&self, request: &Get<'_>) -> Result<Response, ClientError> {
        let Get { url, headers, deadline } = *request;
        let (method, body) = (Method::GET, Bytes::new());
        self.exchange(&Outgoing { url, headers, method, body, deadline }).await
    }

    /// Delivers a body, as [`Client::get`] asks; of redirects only 307 and 308 are followed.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub async fn post(&self, request: &Post<'_>) -> Result<Response, ClientError> {
        let Post { url, headers, deadline, .. } = *request;
        let (method, body) = (Method::POST, request.body.clone());
        self.exchange(&Outgoing { url, headers, method, body, deadline }).await
    }

    /// Sends a request of any method, as [`Client::get`] asks.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub async fn exchange(&self, request: &Outgoing<'_>) -> Result<Response, ClientError> {
        let started = Instant::now();
        match timeout_at(request.deadline.into(), self.follow(request, started)).await {
            Ok(result) => result,
            Err(_) => Err(ClientError::Timeout(request.deadline.duration_since(started))),
        }
    }

    async fn follow(
        &self,
        request: &Outgoing<'_>,
        started: Instant,
    ) -> Result<Response, ClientError> {
        let (first, userinfo) = split_userinfo(&request.url.to_string())?;
        let mut uri = first.clone();
        for _ in 0..=MAX_REDIRECTS {
            let mut headers = request.headers.clone();
            headers.insert(USER_AGENT, self.options.user_agent.clone());
            let is_known = may_share_credentials(&first, &uri);
            if is_known {
                self.credentials.add_to(&mut headers, userinfo.as_ref()).await?;
            }
            let response = self.send(&uri, headers, request).await?;
            let status = response.status();
            if status == StatusCode::UNAUTHORIZED && is_known {
                self.credentials.rejected();
            }
            let location = response
                .headers()
                .get(LOCATION)
                .filter(|_| self.follow_redirects && request.is_redirected_by(status));
            let Some(location) = location else {
                let (parts, body) = response.into_parts();
                return Ok(Response {
                    status,
                    headers: parts.headers,
                    body,
                    started,
                    deadline: request.deadline,
                });
            };
            let location = String::from_utf8_lossy(location.as_bytes()).into_owned();
            // A name and password that a server sends along are not used.
            let next = target(&uri, &location).map_err(ClientError::Redirect)?;
            uri = split_userinfo(&next.to_string())?.0;
            if self.keeps_to_host && !may_share_credentials(&first, &uri) {
                return Err(ClientError::Redirect(format!(
                    "the server redirects to another host or port, {:?}, which is not to see the request; \
                     if it is the right one, put it into the URL",
                    uri.authority().map_or("", |authority| authority.as_str())
                )));
            }
            drain(response.into_body()).await;
        }
        Err(ClientError::Redirect(format!(
            "stopped after {MAX_REDIRECTS} redirects; the last one leads to {uri}"
        )))
    }

    async fn send(
        &self,
        uri: &Uri,
        mut headers: HeaderMap,
        outgoing: &Outgoing<'_>,
    ) -> Result<http::Response<Incoming>, ClientError> {
        if let Some(value) = self.transports.proxies().authorization(uri) {
            headers.insert(PROXY_AUTHORIZATION, value.clone());
        }
        let request = |headers: HeaderMap| {
            let mut request = Request::new(Full::new(outgoing.body.clone()));
            *request.method_mut() = outgoing.method.clone();
            *request.uri_mut() = uri.clone();
            *request.headers_mut() = headers;
            request
        };
        let transport = self.transports.current().await?;
        let result = match transport.request(request(headers.clone())).await {
            Err(error) if was_stale(&error) => {
                self.options.counters.retries.fetch_add(1, Relaxed);
                transport.request(request(headers)).await
            }
            result => result,
        };
        result.inspect(Used::note).map_err(|error| failure(&error))
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Client")
    }
}

impl Response {
    /// Appends the body as it came, still compressed, to `out`.
    ///
    /// # Errors
    /// `BodyTooLarge` for more than `limit` bytes, `Timeout`, `Broken`.
    pub async fn read(self, limit: usize, out: &mut Vec<u8>) -> Result<(), ClientError> {
        let (started, deadline) = (self.started, self.deadline);
        match timeout_at(deadline.into(), self.read_all(limit, out)).await {
            Ok(result) => result,
            Err(_) => Err(ClientError::Timeout(deadline.duration_since(started))),
        }
    }

    async fn read_all(mut self, limit: usize, out: &mut Vec<u8>) -> Result<(), ClientError> {
        let start = out.len();
        while let Some(frame) = self.body.frame().await {
            let frame = frame.map_err(|error| {
                ClientError::Broken(format!("the answer breaks off: {}", describe(&error)))
            })?;
            let Ok(data) = frame.into_data() else { continue };
            if out.len() - start + data.len() > limit {
                return Err(ClientError::BodyTooLarge { limit });
            }
            out.extend_from_slice(&data);
        }
        Ok(())
    }

    /// Reads an unwanted body, unless it is long, so that the connection can be used again.
    pub async fn discard(self) {
        // What is not read by the deadline costs the connection, nothing else.
        let _ = timeout_at(self.deadline.into(), drain(self.body)).await;
    }
}

async fn drain(mut body: Incoming) {
    let mut left = DRAIN_BYTES;
    while let Some(Ok(frame)) = body.frame().await {
        let bytes = frame.data_ref().map_or(0, Bytes::len);
        if bytes > left {
            return;
        }
        left -= bytes;
    }
}

/// Parts name and password from a URL, so that neither is sent as part of the host.
///
/// # Errors
/// [`ClientError::Url`]; without the URL, which may hold a password.
pub(super) fn split_userinfo(url: &str) -> Result<(Uri, Option<Userinfo>), ClientError> {
    let no_url = || ClientError::Url("this is no URL; write http://HOST:PORT/PATH".to_owned());
    let uri = Uri::try_from(url).map_err(|_| no_url())?;
    let authority = uri.authority().ok_or_else(no_url)?.as_str();
    let Some((userinfo, host)) = authority.rsplit_once('@') else { return Ok((uri, None)) };
    let (name, password) = userinfo.split_once(':').unwrap_or((userinfo, ""));
    let userinfo = Userinfo { name: percent_decode(name), password: percent_decode(password) };
    let host = host.parse().map_err(|_| no_url())?;
    let mut parts = uri.into_parts();
    parts.authority = Some(host);
    let uri = Uri::from_parts(parts).map_err(|_| no_url())?;
    Ok((uri, Some(userinfo)))
}

/// Resolves `%xx`; what is no such escape stands for itself.
fn percent_decode(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        let escaped = tail.get(..2).filter(|_| byte == b'%').and_then(|digits| {
            let digits = std::str::from_utf8(digits).ok()?;
            u8::from_str_radix(digits, 16).ok()
        });
        match escaped {
            Some(decoded) => {
                out.push(decoded);
                rest = &tail[2..];
            }
            None => {
                out.push(byte);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_and_password_leave_the_url() {
        let (uri, userinfo) = split_userinfo("http://u%40:p:w@h:1/x").expect("a URL");
        assert_eq!(uri, "http://h:1/x");
        assert_eq!(userinfo, Some(Userinfo { name: "u@".to_owned(), password: "p:w".to_owned() }));
        assert_eq!(split_userinfo("http://h/").expect("a URL").1, None);
        assert!(split_userinfo("/only/a/path").is_err());
        assert_eq!(percent_decode("a%2"), "a%2");
        assert_eq!(percent_decode("%zz%41"), "%zzA");
    }
}
