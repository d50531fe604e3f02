//! Requests that another broker of the cluster has to answer, because it evaluates rules and notifies.
//!
//! Who sent them and what they may do was looked at here; there the request is this broker's.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use broker::cluster::{Duty, Holder};
use consensus::TransportError;
use futures_util::StreamExt;
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use net::auth::Principal;
use net::rpc::{HandleRequest, PageResponse};
use net::{ApiError, Detour, ErrorType, PASSED_ON_HEADER, Passed};
use ruler::Seat;
use tokio::time::Instant;
use tonic::Streaming;

use crate::serve::clustered::LateLinks;

/// Most bytes of a request, as it came: more than any of these routes takes.
const MAX_BODY_BYTES: usize = 8 << 20;
/// Until when it is tried again, since another broker takes over from one that is gone. Senders of alerts wait
/// for ten seconds.
const PATIENCE: Duration = Duration::from_secs(8);
/// How long it is waited before it is tried again.
const PAUSE: Duration = Duration::from_millis(250);
/// How long a broker may take until it begins to answer.
const ANSWERED_WITHIN: Duration = Duration::from_secs(30);

/// Passes requests on while another broker has the turn.
pub(in crate::serve) struct PassingOn {
    pub(in crate::serve) seat: Seat,
    pub(in crate::serve) duty: Arc<Duty>,
    pub(in crate::serve) links: Arc<LateLinks>,
    /// Whether this broker takes turns.
    pub(in crate::serve) takes_part: bool,
}

/// Why there is no answer.
enum NoAnswer {
    /// Nothing came of it; it may be tried again.
    Yet(String),
    /// Nobody knows what came of it.
    Unknown(String),
}

impl Detour for PassingOn {
    fn pass(&self, request: Request) -> Pin<Box<dyn Future<Output = Passed> + Send + '_>> {
        Box::pin(async move {
            // Fast path: it is this one's turn.
            if self.seat.is_taken() {
                return Passed::Continue(request);
            }
            if request.headers().contains_key(PASSED_ON_HEADER) {
                return Passed::Break(StatusCode::MISDIRECTED_REQUEST.into_response());
            }
            if !self.takes_part && self.duty.holder() == Holder::Nobody {
                // Rules are off, and the handler says so.
                return Passed::Continue(request);
            }
            self.pass_on(request).await
        })
    }
}

impl PassingOn {
    async fn pass_on(&self, request: Request) -> Passed {
        let (parts, body) = request.into_parts();
        let body = match axum::body::to_bytes(body, MAX_BODY_BYTES).await {
            Ok(body) => body,
            Err(error) => {
                let words = format!(
                    "the body cannot be read, or is larger than {MAX_BODY_BYTES} bytes: {error}; send less \
                     at once"
                );
                let refused = ApiError::new(ErrorType::BadData, words);
                return Passed::Break(
                    refused.with_status(StatusCode::PAYLOAD_TOO_LARGE).into_response(),
                );
            }
        };
        let asked = HandleRequest { body: body.clone(), ..described(&parts) };
        let until = Instant::now() + PATIENCE;
        loop {
            if self.seat.is_taken() {
                return Passed::Continue(Request::from_parts(parts, Body::from(body)));
            }
            let said = match self.ask(&asked, &parts.method).await {
                Ok(answer) => return Passed::Break(answer),
                Err(NoAnswer::Unknown(why)) => return Passed::Break(refusal(&parts, &why)),
                Err(NoAnswer::Yet(why)) => why,
            };
            if Instant::now() >= until {
                return Passed::Break(refusal(&parts, &said));
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn ask(&self, asked: &HandleRequest, method: &Method) -> Result<Response, NoAnswer> {
        let (name, address) = match self.duty.holder() {
            Holder::Other { name, address } => (name, address),
            Holder::Own => {
                return Err(NoAnswer::Yet(
                    "this broker is about to evaluate rules and notify, and has not begun"
                        .to_owned(),
                ));
            }
            Holder::Nobody => {
                return Err(NoAnswer::Yet(
                    "no broker of the cluster evaluates rules and notifies at the moment"
                        .to_owned(),
                ));
            }
        };
        let Some(links) = self.links.get() else {
            return Err(NoAnswer::Yet("this broker has no certificate yet".to_owned()));
        };
        let mut answer = match links.handle(&address, asked.clone(), ANSWERED_WITHIN).await {
            Ok(answer) => answer,
            Err(TransportError::Unreached(why)) => {
                return Err(NoAnswer::Yet(format!(
                    "{name}, which notifies, cannot be reached: {why}"
                )));
            }
            Err(TransportError::Lost(why)) => return Err(lost(method, &name, &why)),
        };
        let first = match answer.message().await {
            Ok(Some(first)) => first,
            Ok(None) => return Err(lost(method, &name, "it did not answer")),
            Err(status) => return Err(lost(method, &name, &net::status_words(&status))),
        };
        let status = u16::try_from(first.status).ok();
        let status = status.and_then(|status| StatusCode::from_u16(status).ok());
        match status {
            Some(StatusCode::MISDIRECTED_REQUEST) => Err(NoAnswer::Yet(format!(
                "{name} evaluated rules and notified, and does not any more"
            ))),
            Some(status) => Ok(response(status, &first, answer)),
            None => Err(lost(method, &name, "its answer has no status")),
        }
    }
}

/// Whether a request may have counted is not known. What changes nothing, or the same once more, is asked
/// again.
fn lost(method: &Method, name: &str, why: &str) -> NoAnswer {
    let words = format!("{name}, which notifies, did not answer: {why}");
    match *method {
        Method::POST => {
            NoAnswer::Unknown(format!("{words}; look whether it counts before you repeat it"))
        }
        _ => NoAnswer::Yet(words),
    }
}

fn described(parts: &Parts) -> HandleRequest {
    let text = |name: HeaderName| {
        let value = parts.headers.get(name).and_then(|value| value.to_str().ok());
        value.unwrap_or_default().to_owned()
    };
    let principal = parts.extensions.get::<Principal>().filter(|principal| !principal.sees_all());
    HandleRequest {
        method: parts.method.to_string(),
        path_and_query: parts.uri.path_and_query().map(ToString::to_string).unwrap_or_default(),
        tenant: principal.map(|principal| principal.tenant.to_string()).unwrap_or_default(),
        content_type: text(header::CONTENT_TYPE),
        content_encoding: text(header::CONTENT_ENCODING),
        is_passed_on: true,
        ..HandleRequest::default()
    }
}

fn response(status: StatusCode, first: &PageResponse, rest: Streaming<PageResponse>) -> Response {
    let begin = first.body.clone();
    let rest = rest.map(|part| part.map(|part| part.body));
    let body = futures_util::stream::iter([Ok(begin)]).chain(rest);
    let mut response = Response::new(Body::from_stream(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    if let Ok(kind) = HeaderValue::from_str(&first.content_type)
        && !kind.is_empty()
    {
        headers.insert(header::CONTENT_TYPE, kind);
    }
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if status == StatusCode::SERVICE_UNAVAILABLE {
        soon(headers);
    }
    response
}

/// 503, in the words of whose path it is.
fn refusal(parts: &Parts, why: &str) -> Response {
    let mut response = if parts.uri.path().contains("/api/v2/") {
        (StatusCode::SERVICE_UNAVAILABLE, axum::Json(why)).into_response()
    } else {
        ApiError::new(ErrorType::Unavailable, why).into_response()
    };
    soon(response.headers_mut());
    response
}

fn soon(headers: &mut HeaderMap) {
    headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
}
