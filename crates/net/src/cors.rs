//! Which web pages of other origins may read answers (Cross-Origin Resource Sharing).
//!
//! Prometheus lets every origin read by default. A server on loopback needs no login, so here that would
//! open it to every page its user looks at: no origin may, but those the operator names.
//!
//! Source: <https://fetch.spec.whatwg.org/#http-cors-protocol>; headers as Prometheus'
//! `util/httputil/cors.go` has them.

use axum::response::Response;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, header};

use crate::routes::{Access, Route, public_answer};

const ALLOWED_HEADERS: &str =
    "Accept, Authorization, Cache-Control, Content-Type, Origin, X-Scope-OrgID";
const ALLOWED_METHODS: &str = "GET, POST, OPTIONS";
/// What a page may read of an answer besides the body; `Warning` tells what is missing in an export.
const EXPOSED_HEADERS: &str = "Date, Retry-After, Warning";

/// Origins that may read, and where.
#[derive(Debug, Clone, Default)]
pub(crate) struct Cors {
    origins: Vec<String>,
    /// Paths whose answers they may read, by segments; one in braces stands for any.
    paths: Vec<String>,
}

impl Cors {
    /// `origins` as browsers write them, or `*`; what they may read is what `table` states for readers,
    /// by GET and POST.
    pub(crate) fn new(origins: Vec<String>, table: &[Route]) -> Self {
        let is_read = |route: &&Route| {
            route.access == Access::Read
                && route.methods.iter().any(|method| [Method::GET, Method::POST].contains(method))
        };
        let paths = table.iter().filter(is_read).map(|route| route.path.clone()).collect();
        Cors { origins, paths }
    }

    /// The origin of a request, if it may read what is asked for.
    pub(crate) fn origin_of<B>(&self, request: &Request<B>) -> Option<HeaderValue> {
        let mut origins = request.headers().get_all(header::ORIGIN).iter();
        let (Some(origin), None) = (origins.next(), origins.next()) else { return None };
        let text = origin.to_str().ok()?;
        let is_named = |known: &String| known == "*" || known.eq_ignore_ascii_case(text);
        let methods = [Method::GET, Method::HEAD, Method::POST, Method::OPTIONS];
        let may = self.origins.iter().any(is_named)
            && methods.contains(request.method())
            && self.paths.iter().any(|path| is_at(path, request.uri().path()));
        may.then(|| origin.clone())
    }

    /// Whether answers depend on who asks, which caches have to know.
    pub(crate) fn is_on(&self) -> bool {
        !self.origins.is_empty()
    }
}

fn is_at(pattern: &str, path: &str) -> bool {
    let (mut wanted, mut found) = (pattern.split('/'), path.split('/'));
    loop {
        match (wanted.next(), found.next()) {
            (None, None) => return true,
            (Some(one), Some(other)) if one == other || one.starts_with('{') => {}
            _ => return false,
        }
    }
}

/// Whether a browser asks if it may ask.
pub(crate) fn is_preflight<B>(request: &Request<B>) -> bool {
    *request.method() == Method::OPTIONS
        && request.headers().contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
}

/// The answer to a browser that asks if it may ask; it sends no credential with that.
pub(crate) fn preflight(origin: &HeaderValue) -> Response {
    let mut answer = public_answer(StatusCode::NO_CONTENT);
    allow(answer.headers_mut(), origin);
    for (name, value) in [
        (header::ACCESS_CONTROL_ALLOW_HEADERS, ALLOWED_HEADERS),
        (header::ACCESS_CONTROL_ALLOW_METHODS, ALLOWED_METHODS),
        (header::ACCESS_CONTROL_MAX_AGE, "600"),
    ] {
        set(answer.headers_mut(), name, value);
    }
    answer
}

/// Lets pages of `origin` read an answer. Cookies are not for them: nothing is said of credentials.
pub(crate) fn allow(headers: &mut HeaderMap, origin: &HeaderValue) {
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
    set(headers, header::ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED_HEADERS);
}

/// Says that the answer depends on the origin.
pub(crate) fn vary(headers: &mut HeaderMap) {
    headers.append(header::VARY, HeaderValue::from_static("Origin"));
}

fn set(headers: &mut HeaderMap, name: HeaderName, value: &'static str) {
    headers.insert(name, HeaderValue::from_static(value));
}

/// Whether `text` is an origin as a browser sends one: `scheme://host[:port]` and nothing behind it.
pub fn is_origin(text: &str) -> bool {
    let Some((scheme, authority)) = text.split_once("://") else { return false };
    let is_scheme = matches!(scheme, "http" | "https") || scheme.ends_with("-extension");
    let authority = authority.parse::<http::uri::Authority>();
    is_scheme && authority.is_ok_and(|one| !one.host().is_empty() && !one.as_str().contains('@'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(method: &str, path: &str, origin: &str) -> Request<()> {
        let request = Request::builder().method(method).uri(path).header("origin", origin);
        request.body(()).expect("a request")
    }

    #[test]
    fn named_origins_read_what_readers_may() {
        let route = |path: &str, method, access| Route {
            methods: vec![method],
            path: path.to_owned(),
            access,
        };
        let table = [
            route("/api/v1/query", Method::POST, Access::Read),
            route("/api/v1/label/{name}/values", Method::GET, Access::Read),
            route("/api/v1/status/active_queries/{id}", Method::DELETE, Access::Admin),
            route("/api/v1/write", Method::POST, Access::Write),
            route("/api/v1/login", Method::POST, Access::Public),
        ];
        let cors = Cors::new(vec!["https://grafana.example".to_owned()], &table);
        let may = |method, path, origin| cors.origin_of(&asked(method, path, origin)).is_some();
        for method in ["GET", "POST", "OPTIONS", "HEAD"] {
            assert!(may(method, "/api/v1/query?query=up", "https://Grafana.example"), "{method}");
        }
        assert!(may("GET", "/api/v1/label/job/values", "https://grafana.example"));
        for (method, path, origin) in [
            ("DELETE", "/api/v1/query", "https://grafana.example"),
            ("GET", "/api/v1/query", "http://grafana.example"),
            ("GET", "/api/v1/query", "https://grafana.example:444"),
            ("GET", "/api/v1/query", "null"),
            ("POST", "/api/v1/write", "https://grafana.example"),
            ("POST", "/api/v1/login", "https://grafana.example"),
            ("POST", "/api/v1/query/", "https://grafana.example"),
            ("GET", "/api/v1/status/active_queries/1", "https://grafana.example"),
        ] {
            assert!(!may(method, path, origin), "{method} {path} {origin}");
        }
        assert!(
            Cors::new(vec!["*".to_owned()], &table)
                .origin_of(&asked("GET", "/api/v1/query", "null"))
                .is_some()
        );
        assert!(Cors::default().origin_of(&asked("GET", "/api/v1/query", "null")).is_none());
    }

    #[test]
    fn origins_have_no_path() {
        for good in ["http://a", "https://a.example:3000", "http://[::1]:1", "moz-extension://f00"]
        {
            assert!(is_origin(good), "{good}");
        }
        for bad in
            ["a.example", "https://", "https://a/", "https://a/b", "https://u@a", "null", "*"]
        {
            assert!(!is_origin(bad), "{bad}");
        }
    }
}
