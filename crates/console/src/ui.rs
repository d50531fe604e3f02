//! The pages of the console, built into the program.

use axum::body::Body;
use axum::response::Response;
use http::header::{
    ACCEPT, ACCEPT_ENCODING, ALLOW, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_SECURITY_POLICY,
    CONTENT_TYPE, ETAG, IF_NONE_MATCH, LOCATION, REFERRER_POLICY, VARY, X_CONTENT_TYPE_OPTIONS,
    X_FRAME_OPTIONS,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri};

/// One embedded file.
struct Page {
    path: &'static str,
    content_type: &'static str,
    etag: &'static str,
    plain: &'static [u8],
    /// Empty when compressing saves nothing.
    gzip: &'static [u8],
}

include!(concat!(env!("OUT_DIR"), "/pages.rs"));

/// Scripts only from here and none inline; styles may be inline because the chart and the editor
/// set them on elements. Connections only to this host.
const POLICY: &str = "default-src 'self'; style-src 'self' 'unsafe-inline'; \
    connect-src 'self' ws: wss:; img-src 'self' data:; base-uri 'none'; form-action 'self'; \
    frame-ancestors 'self'; object-src 'none'";

/// Answers everything no API claims: a file of the console, or its first page, which routes the
/// rest by itself. What is no page of the console is a 404, to a browser with a page that says so:
/// programs that probe for another server's paths must not take HTML for an answer.
pub(crate) async fn serve(method: Method, uri: Uri, headers: HeaderMap) -> Response {
    let path = uri.path().trim_start_matches('/');
    let page = PAGES.iter().find(|page| page.path == path);
    let is_moved = matches!(path, "graph" | "query");
    if method != Method::GET && method != Method::HEAD {
        if page.is_none() && !is_moved && !is_route(path) {
            return plain(StatusCode::NOT_FOUND, "there is nothing at this path\n");
        }
        let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, "this path answers GET only\n");
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    if let Some(page) = page {
        return respond(page, &method, &headers);
    }
    if is_moved {
        return redirect(&net::expression_browser(uri.query().unwrap_or_default()));
    }
    let is_route = is_route(path);
    if !is_route && !says(&headers, &ACCEPT, "text/html") {
        return plain(StatusCode::NOT_FOUND, "there is nothing at this path\n");
    }
    let Some(index) = PAGES.iter().find(|page| page.path == "index.html") else {
        return plain(StatusCode::OK, MISSING);
    };
    let mut response = respond(index, &method, &headers);
    if !is_route {
        *response.status_mut() = StatusCode::NOT_FOUND;
    }
    response
}

/// Whether the console's own router knows the path, `web/src/lib/router.svelte.ts`.
fn is_route(path: &str) -> bool {
    let host = path.strip_prefix("host/").is_some_and(|instance| !instance.contains('/'));
    let others = [
        "logs",
        "alerts",
        "rules",
        "silences",
        "receivers",
        "agents",
        "targets",
        "queries",
        "cardinality",
        "cluster",
        "pushes",
        "access",
        "status",
        "setup",
    ];
    matches!(path, "" | "hosts" | "explore") || host || others.contains(&path)
}

fn redirect(to: &str) -> Response {
    let mut response = Response::new(Body::empty());
    let Ok(to) = HeaderValue::from_str(to) else {
        *response.status_mut() = StatusCode::NOT_FOUND;
        return response;
    };
    *response.status_mut() = StatusCode::FOUND;
    response.headers_mut().insert(LOCATION, to);
    response
}

/// Whether a header that lists words holds `word`.
fn says(headers: &HeaderMap, name: &HeaderName, word: &str) -> bool {
    headers.get(name).and_then(|value| value.to_str().ok()).is_some_and(|value| {
        value.split(',').any(|part| part.trim().split(';').next() == Some(word))
    })
}

const MISSING: &str = "Watchfire runs, but this build has no console pages: web/dist was missing \
    when it was built. Run `cargo xtask web` and build again. The API is at /api/v1/.\n";

fn respond(page: &Page, method: &Method, request: &HeaderMap) -> Response {
    let mut response = Response::new(Body::empty());
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(page.content_type));
    headers.insert(ETAG, HeaderValue::from_static(page.etag));
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(X_FRAME_OPTIONS, HeaderValue::from_static("SAMEORIGIN"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(VARY, HeaderValue::from_static("accept-encoding"));
    // Names under assets/ carry a hash of the content, so they never change.
    let cache = if page.path.starts_with("assets/") {
        "public, max-age=31536000, immutable"
    } else {
        "no-cache"
    };
    headers.insert(CACHE_CONTROL, HeaderValue::from_static(cache));
    if says(request, &IF_NONE_MATCH, page.etag) {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        return response;
    }
    let body = if !page.gzip.is_empty() && says(request, &ACCEPT_ENCODING, "gzip") {
        response.headers_mut().insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        page.gzip
    } else {
        page.plain
    };
    if method != Method::HEAD {
        *response.body_mut() = Body::from(body);
    }
    response
}

fn plain(status: StatusCode, text: &'static str) -> Response {
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}
