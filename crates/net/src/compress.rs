//! Compresses responses with gzip where the client can read it.

use std::io::Write;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::middleware::{Next, from_fn};
use axum::response::Response;
use bytes::{Buf, Bytes};
use flate2::Compression;
use flate2::write::GzEncoder;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use hyper::body::{Body as HttpBody, Frame, SizeHint};

/// Below this a packet is not saved and the CPU time is wasted.
const MIN_BYTES: u64 = 1_024;

/// Compressed per call, so that one large answer does not keep a thread from other connections:
/// about 0.5 ms at level 1.
const STEP_BYTES: usize = 64 << 10;

/// Compresses the responses of every route of `router` at level 1 when the request accepts gzip
/// and the body is text-like, longer than 1 KiB or of unknown length, and not encoded already.
/// Works on full and on streamed bodies; a stream that pauses is flushed, so that what was written
/// is seen. WebSockets pass untouched.
pub fn layer(router: Router) -> Router {
    router.layer(from_fn(gzip))
}

async fn gzip(request: Request, next: Next) -> Response {
    let wanted = request.method() != Method::HEAD && accepts_gzip(request.headers());
    let mut response = next.run(request).await;
    if !is_worthwhile(&response) {
        return response;
    }
    // A cache must know that there are two forms, also where it got the plain one.
    response.headers_mut().append(header::VARY, HeaderValue::from_static("accept-encoding"));
    if !wanted {
        return response;
    }
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    headers.remove(header::CONTENT_LENGTH);
    headers.remove(header::ACCEPT_RANGES);
    response.map(|body| Body::new(GzipBody::new(body)))
}

/// Whether `Accept-Encoding` allows gzip (RFC 9110, section 12.5.3).
fn accepts_gzip(headers: &HeaderMap) -> bool {
    let mut any = false;
    for value in headers.get_all(header::ACCEPT_ENCODING) {
        let Ok(value) = value.to_str() else { continue };
        for choice in value.split(',') {
            let mut parts = choice.split(';').map(str::trim);
            let name = parts.next().unwrap_or("");
            let refused = parts
                .filter_map(|part| part.strip_prefix("q=").or_else(|| part.strip_prefix("Q=")))
                .any(|weight| weight.trim().parse::<f32>().is_ok_and(|weight| weight <= 0.0));
            if name.eq_ignore_ascii_case("gzip") || name.eq_ignore_ascii_case("x-gzip") {
                return !refused;
            }
            any |= name == "*" && !refused;
        }
    }
    any
}

fn is_worthwhile(response: &Response) -> bool {
    let headers = response.headers();
    let bodiless = response.status().is_informational()
        || matches!(response.status(), StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    !bodiless
        && response.body().size_hint().upper().is_none_or(|bytes| bytes > MIN_BYTES)
        && !headers.contains_key(header::CONTENT_ENCODING)
        && !headers.contains_key(header::CONTENT_RANGE)
        && headers
            .get(header::CONTENT_TYPE)
            .and_then(|value| value.to_str().ok())
            .is_some_and(is_text_like)
}

fn is_text_like(content_type: &str) -> bool {
    let essence = content_type.split(';').next().unwrap_or("").trim();
    essence.starts_with("text/")
        || essence.ends_with("json")
        || essence.ends_with("xml")
        || matches!(essence, "application/javascript" | "application/wasm")
}

/// A body that is compressed as it is read.
struct GzipBody {
    inner: Body,
    /// Taken from `inner` and not compressed yet.
    pending: Bytes,
    /// `None` once the trailer is written.
    encoder: Option<GzEncoder<Vec<u8>>>,
    /// Whether the encoder holds bytes that a flush would bring out.
    unflushed: bool,
    inner_ended: bool,
}

impl GzipBody {
    fn new(inner: Body) -> Self {
        GzipBody {
            inner,
            pending: Bytes::new(),
            encoder: Some(GzEncoder::new(Vec::new(), Compression::fast())),
            unflushed: false,
            inner_ended: false,
        }
    }

    /// What the encoder has put out, if anything.
    fn take_output(encoder: &mut GzEncoder<Vec<u8>>) -> Option<Bytes> {
        let output = encoder.get_mut();
        (!output.is_empty()).then(|| Bytes::from(std::mem::take(output)))
    }
}

impl HttpBody for GzipBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = &mut *self;
        loop {
            let Some(encoder) = &mut this.encoder else { return Poll::Ready(None) };
            if !this.pending.is_empty() {
                let step = this.pending.len().min(STEP_BYTES);
                encoder.write_all(&this.pending[..step]).map_err(axum::Error::new)?;
                this.pending.advance(step);
                this.unflushed = true;
                if let Some(output) = Self::take_output(encoder) {
                    return Poll::Ready(Some(Ok(Frame::data(output))));
                }
                continue;
            }
            if this.inner_ended {
                let encoder = this.encoder.take().expect("checked at the top of the loop");
                let rest = encoder.finish().map_err(axum::Error::new)?;
                return Poll::Ready(Some(Ok(Frame::data(rest.into()))));
            }
            let frame = Pin::new(&mut this.inner).poll_frame(context);
            if frame.is_pending() && this.unflushed {
                this.unflushed = false;
                encoder.flush().map_err(axum::Error::new)?;
                if let Some(output) = Self::take_output(encoder) {
                    return Poll::Ready(Some(Ok(Frame::data(output))));
                }
            }
            match ready!(frame) {
                None => this.inner_ended = true,
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                // Trailers are not kept: none of our responses has any.
                Some(Ok(frame)) => this.pending = frame.into_data().unwrap_or_default(),
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}
