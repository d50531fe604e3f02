//! Who may talk to a server in the user's name: a check of `Host` and `Origin`.
//!
//! A server on loopback needs no login, so a web page could reach it through the user's browser:
//! by letting its own domain resolve to 127.0.0.1 (DNS rebinding), or by opening a WebSocket or
//! posting a form across sites, which browsers allow without asking. Both betray themselves by
//! the name in `Host` or `Origin`.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use http::request::Parts;
use http::uri::Authority;
use http::{HeaderMap, Method, StatusCode, header};

use crate::cors::{self, Cors};
use crate::routes::{Route, public_answer};
use crate::{ApiError, ErrorType, NetMetrics};

/// Which names a server answers to.
#[derive(Debug, Clone)]
pub struct OriginPolicy {
    loopback: bool,
    address: String,
    hosts: Vec<String>,
    metrics: Arc<NetMetrics>,
    cors: Cors,
}

impl OriginPolicy {
    /// The policy of a server bound to `address`.
    ///
    /// On loopback only `localhost`, loopback addresses and [`OriginPolicy::with_hosts`] are
    /// answered. On any other bind the server cannot know its names, so any `Host` passes and only
    /// `Origin` is checked.
    pub fn new(address: SocketAddr) -> Self {
        OriginPolicy {
            loopback: address.ip().is_loopback(),
            address: address.ip().to_string(),
            hosts: Vec::new(),
            metrics: Arc::default(),
            cors: Cors::default(),
        }
    }

    /// Adds names the server is reached by, such as the one a reverse proxy passes on
    /// (`http.allowed_hosts`).
    pub fn with_hosts(mut self, hosts: impl IntoIterator<Item = String>) -> Self {
        self.hosts.extend(hosts);
        self
    }

    /// Lets web pages of `origins` read what `table` states for readers (`http.cors_origins`).
    pub fn with_readers(mut self, origins: Vec<String>, table: &[Route]) -> Self {
        self.cors = Cors::new(origins, table);
        self
    }

    /// Counts refusals into `metrics`.
    pub fn with_metrics(mut self, metrics: Arc<NetMetrics>) -> Self {
        self.metrics = metrics;
        self
    }

    /// Puts the check before every route of `router`: a request passes, or is answered 403 with
    /// the reason. Clients that send no `Origin`, as everything that is no browser does, are only
    /// asked for their `Host`.
    pub fn layer(self, router: Router) -> Router {
        router.layer(from_fn_with_state(Arc::new(self), check))
    }

    /// Whether the server answers to `host`. Ports do not matter: a rebinding page cannot change
    /// the name, and proxies and forwarded ports change the port.
    fn answers_to(&self, host: &str) -> bool {
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let host = host.strip_suffix('.').unwrap_or(host);
        host.eq_ignore_ascii_case("localhost")
            || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
            || self.address.eq_ignore_ascii_case(host)
            || self.is_configured(host)
    }

    fn is_configured(&self, host: &str) -> bool {
        self.hosts.iter().any(|known| known.eq_ignore_ascii_case(host))
    }

    fn refusal(&self, request: &Request) -> Option<String> {
        let host = match request_host(request) {
            Ok(host) => host,
            Err(fault) => return Some(fault.to_owned()),
        };
        if let Some(host) = host
            && self.loopback
            && !self.answers_to(host)
        {
            return Some(format!(
                "host {host:?} is not a name of this server, which listens on loopback; use \
                 localhost, or add the name to `http.allowed_hosts`"
            ));
        }
        if !changes_state(request.method()) && !is_websocket(request.headers()) {
            return None;
        }
        let origin = request.headers().get(header::ORIGIN)?;
        if !is_websocket(request.headers()) && self.cors.origin_of(request).is_some() {
            return None;
        }
        let origin_host = origin.to_str().ok().and_then(origin_host);
        let own = origin_host.is_some_and(|origin_host| {
            host.is_some_and(|host| host.eq_ignore_ascii_case(origin_host))
                || self.answers_to(origin_host)
        });
        if own {
            return None;
        }
        Some(format!(
            "origin {:?} may not open a WebSocket or change anything here; open the console under \
             its own address, or add the origin's host to `http.allowed_hosts`",
            String::from_utf8_lossy(origin.as_bytes())
        ))
    }
}

/// Marks a request whose `Origin` is a name that the operator has configured.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ConfiguredOrigin;

async fn check(
    State(policy): State<Arc<OriginPolicy>>,
    mut request: Request,
    next: Next,
) -> Response {
    match policy.refusal(&request) {
        None => {
            // WebSockets are no part of what other origins may read.
            let is_plain = !is_websocket(request.headers());
            let reader = policy.cors.origin_of(&request).filter(|_| is_plain);
            if let Some(reader) = reader.as_ref().filter(|_| cors::is_preflight(&request)) {
                let mut answer = cors::preflight(reader);
                cors::vary(answer.headers_mut());
                return answer;
            }
            let origin = request.headers().get(header::ORIGIN);
            let host = origin.and_then(|origin| origin.to_str().ok()).and_then(origin_host);
            if host.is_some_and(|host| policy.is_configured(host)) {
                request.extensions_mut().insert(ConfiguredOrigin);
            }
            let mut answer = next.run(request).await;
            if let Some(reader) = &reader {
                cors::allow(answer.headers_mut(), reader);
            }
            if policy.cors.is_on() {
                cors::vary(answer.headers_mut());
            }
            answer
        }
        Some(message) => {
            policy.metrics.refused_origins.fetch_add(1, Relaxed);
            public_answer(
                ApiError::new(ErrorType::BadData, message).with_status(StatusCode::FORBIDDEN),
            )
        }
    }
}

/// The host a request is for, without its port. HTTP/2 and absolute-form requests carry it in the
/// URI, which then counts (RFC 9112, section 3.2.2). `None` only in HTTP/1.0.
fn request_host(request: &Request) -> Result<Option<&str>, &'static str> {
    if let Some(authority) = request.uri().authority() {
        return Ok(Some(authority.host()));
    }
    let mut values = request.headers().get_all(header::HOST).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err("more than one Host header");
    }
    let host = value.to_str().ok().and_then(authority_host);
    host.map(Some).ok_or("malformed Host header")
}

/// The host of `host[:port]`.
fn authority_host(authority: &str) -> Option<&str> {
    authority.parse::<Authority>().ok().filter(|parsed| !parsed.host().is_empty())?;
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    match host.strip_prefix('[') {
        Some(rest) => rest.split_once(']').map(|(address, _)| address),
        None => host.split(':').next(),
    }
}

/// The host of `scheme://host[:port]`; the opaque origin `null` has none.
fn origin_host(origin: &str) -> Option<&str> {
    origin.split_once("://").and_then(|(_, authority)| authority_host(authority))
}

/// Whether a request can do more than read: a method that changes something, or a WebSocket.
pub(crate) fn changes_something(parts: &Parts) -> bool {
    changes_state(&parts.method) || is_websocket(&parts.headers)
}

/// Whether a request has exactly one `Origin` and it is the server it is sent to, the port
/// included. The scheme is not compared: a proxy in front may speak TLS for this server.
pub(crate) fn is_same_origin(parts: &Parts) -> bool {
    let mut origins = parts.headers.get_all(header::ORIGIN).iter();
    let (Some(origin), None) = (origins.next(), origins.next()) else { return false };
    let Some((scheme, origin)) = origin.to_str().ok().and_then(|text| text.split_once("://"))
    else {
        return false;
    };
    let default_port = match scheme {
        "https" => ":443",
        "http" => ":80",
        _ => return false,
    };
    let own = match parts.uri.authority() {
        Some(authority) => Some(authority.as_str()),
        None => parts.headers.get(header::HOST).and_then(|host| host.to_str().ok()),
    };
    let bare = |authority: &str| {
        authority.strip_suffix(default_port).unwrap_or(authority).to_ascii_lowercase()
    };
    !origin.is_empty() && own.is_some_and(|own| bare(own) == bare(origin))
}

fn changes_state(method: &Method) -> bool {
    !matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS)
}

fn is_websocket(headers: &HeaderMap) -> bool {
    headers
        .get_all(header::UPGRADE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .any(|value| value.to_ascii_lowercase().contains("websocket"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::Body;

    fn refusal(bind: &str, method: &str, uri: &str, headers: &[(&str, &str)]) -> Option<String> {
        let address = bind.parse().expect("test address");
        let policy = OriginPolicy::new(address).with_hosts(["Mon.example".to_owned()]);
        let mut request = Request::builder().method(method).uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        policy.refusal(&request.body(Body::empty()).expect("test request"))
    }

    #[test]
    fn a_rebound_name_is_refused_on_loopback_only() {
        let get = |bind, host| refusal(bind, "GET", "/", &[("host", host)]);
        for own in ["localhost", "LOCALHOST:9595", "localhost.:1", "127.0.0.1:9595", "127.8.9.1"] {
            assert_eq!(get("127.0.0.1:9595", own), None, "{own}");
        }
        assert_eq!(get("127.0.0.1:9595", "[::1]:9595"), None);
        assert_eq!(get("127.0.0.1:9595", "mon.example"), None);
        for foreign in ["evil.example", "localhost.evil.example", "10.0.0.1", "a@b@", "", ":80"] {
            assert!(get("127.0.0.1:9595", foreign).is_some(), "{foreign}");
        }
        assert!(get("[::1]:9595", "evil.example").is_some());
        assert_eq!(get("10.0.0.1:9595", "any.example"), None);
        assert!(refusal("127.0.0.1:1", "GET", "http://169.254.169.254/", &[]).is_some());
        assert!(
            refusal("127.0.0.1:1", "GET", "/", &[("host", "localhost"), ("host", "b")]).is_some()
        );
        assert_eq!(refusal("127.0.0.1:1", "GET", "/", &[]), None);
    }

    #[test]
    fn a_foreign_origin_may_read_but_not_change_nor_open_a_websocket() {
        let host = ("host", "localhost:9595");
        let check = |method, headers: &[(&str, &str)]| {
            let mut all = vec![host];
            all.extend_from_slice(headers);
            refusal("127.0.0.1:9595", method, "/api", &all).is_some()
        };
        let websocket = ("upgrade", "WebSocket");
        for foreign in ["https://evil.example", "null", "http://localhost.evil.example", "x"] {
            assert!(check("POST", &[("origin", foreign)]), "{foreign}");
            assert!(check("GET", &[("origin", foreign), websocket]), "{foreign}");
            assert!(!check("GET", &[("origin", foreign)]), "{foreign}");
        }
        for own in ["http://localhost:9595", "http://127.0.0.1", "http://[::1]:3000"] {
            assert!(!check("POST", &[("origin", own)]), "{own}");
            assert!(!check("GET", &[("origin", own), websocket]), "{own}");
        }
        assert!(!check("POST", &[]));
        assert!(!check("GET", &[websocket]));
        let same = [("host", "mon.corp"), ("origin", "https://mon.corp")];
        assert_eq!(refusal("10.0.0.1:1", "POST", "/", &same), None);
        let other = [("host", "mon.corp"), ("origin", "https://evil.example")];
        assert!(refusal("10.0.0.1:1", "POST", "/", &other).is_some());
    }
}
