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
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use net::auth::Principal;
use net::rpc::{HandleRequest, PageResponse};
use net::{ApiError, Detour, ErrorType, Passed, PassedOn};
use ruler::Seat;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::serve::clustered::LateLinks;

/// Most bytes of a request, as it came: more than any of these routes takes.
const MAX_BODY_BYTES: usize = 8 << 20;
/// Until when it is tried again, since another broker takes over from one that is gone. Senders of alerts wait
/// for ten seconds.
const PATIENCE: Duration = Duration::from_secs(8);
/// How long it is waited before it is tried again.
const PAUSE: Duration = Duration::from_millis(250);
/// How long a broker may take at least until it begins to answer, and what it answers until it is here.
const ANSWERED_WITHIN: Duration = Duration::from_secs(1);
const WHOLE_WITHIN: Duration = Duration::from_secs(60);
/// Largest answer: of fifty thousand alerts half of it.
const MAX_ANSWER_BYTES: usize = 128 << 20;
/// Requests that wait at a time; their bodies lie in memory.
const MOST_WAITING: usize = 256;

/// Passes requests on while another broker has the turn.
pub(in crate::serve) struct PassingOn {
    seat: Seat,
    duty: Arc<Duty>,
    links: Arc<LateLinks>,
    takes_part: bool,
    waiting: Semaphore,
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
            if request.extensions().get::<PassedOn>().is_some() {
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
    /// `takes_part` says whether this broker takes turns.
    pub(in crate::serve) fn new(
        seat: Seat,
        duty: Arc<Duty>,
        links: Arc<LateLinks>,
        takes_part: bool,
    ) -> Self {
        PassingOn { seat, duty, links, takes_part, waiting: Semaphore::new(MOST_WAITING) }
    }

    async fn pass_on(&self, request: Request) -> Passed {
        let Ok(_place) = self.waiting.try_acquire() else {
            let words = format!(
                "{MOST_WAITING} requests wait for the broker that evaluates rules and notifies, which is the \
                 limit; try again, or ask another broker"
            );
            return self.unanswered(&words);
        };
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
            let left = until.saturating_duration_since(Instant::now());
            let said = match self.ask(&asked, left.max(ANSWERED_WITHIN)).await {
                Ok(answer) => {
                    self.seat.note_passed_on(true);
                    return Passed::Break(answer);
                }
                Err(NoAnswer::Unknown(why)) => return self.unanswered(&why),
                Err(NoAnswer::Yet(why)) => why,
            };
            if Instant::now() >= until {
                return self.unanswered(&said);
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    fn unanswered(&self, why: &str) -> Passed {
        self.seat.note_passed_on(false);
        Passed::Break(refusal(why))
    }

    /// Ends when another broker, or nobody, notifies.
    async fn another_than(&self, known: &str) {
        let is_same =
            |holder: Holder| matches!(holder, Holder::Other { address, .. } if address == known);
        while is_same(self.duty.holder()) {
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn ask(&self, asked: &HandleRequest, within: Duration) -> Result<Response, NoAnswer> {
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
        let handled = tokio::select! {
            handled = links.handle(&address, asked.clone(), within) => handled,
            () = self.another_than(&address) => {
                Err(TransportError::Lost("another broker has taken over from it".to_owned()))
            }
        };
        let mut answer = match handled {
            Ok(answer) => answer,
            Err(TransportError::Unreached(why)) => {
                return Err(NoAnswer::Yet(format!(
                    "{name}, which notifies, cannot be reached: {why}"
                )));
            }
            Err(TransportError::Lost(why)) => return Err(lost(asked, &name, &why)),
        };
        // Read to the end: whoever is slow must not hold up what brokers say to one another on the same
        // connection.
        let whole = async {
            let mut first: Option<PageResponse> = None;
            let mut body = Vec::new();
            while let Some(part) =
                answer.message().await.map_err(|status| net::status_words(&status))?
            {
                body.extend_from_slice(&part.body);
                if body.len() > MAX_ANSWER_BYTES {
                    return Err(format!(
                        "its answer is larger than {MAX_ANSWER_BYTES} bytes; ask for less"
                    ));
                }
                first.get_or_insert(part);
            }
            Ok((first.ok_or("it did not answer")?, body))
        };
        let whole = tokio::time::timeout(WHOLE_WITHIN, whole).await;
        let whole = whole.unwrap_or_else(|_| Err("its answer takes too long".to_owned()));
        let (first, body) = whole.map_err(|why| lost(asked, &name, &why))?;
        let status = u16::try_from(first.status).ok();
        let status = status.and_then(|status| StatusCode::from_u16(status).ok());
        match status {
            Some(StatusCode::MISDIRECTED_REQUEST) => Err(NoAnswer::Yet(format!(
                "{name} evaluated rules and notified, and does not any more"
            ))),
            Some(status) => Ok(response(status, &first.content_type, body)),
            None => Err(lost(asked, &name, "its answer has no status")),
        }
    }
}

/// Whether a request may have counted is not known. What changes nothing, or the same once more, is asked
/// again.
fn lost(asked: &HandleRequest, name: &str, why: &str) -> NoAnswer {
    let words = format!("{name}, which notifies, did not answer: {why}");
    match is_repeatable(asked) {
        true => NoAnswer::Yet(words),
        false => NoAnswer::Unknown(format!("{words}; look whether it counts before you repeat it")),
    }
}

/// A second silence would be another one, a second test is told again, and what is gone cannot be removed.
fn is_repeatable(asked: &HandleRequest) -> bool {
    let path = asked.path_and_query.split('?').next().unwrap_or_default();
    match asked.method.as_str() {
        "GET" | "HEAD" => true,
        "POST" => !path.ends_with("/silences") && !path.ends_with("/notifications/test"),
        _ => false,
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

fn response(status: StatusCode, kind: &str, body: Vec<u8>) -> Response {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    if let Ok(kind) = HeaderValue::from_str(kind)
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

/// 503; the route says it in its own words.
fn refusal(why: &str) -> Response {
    let mut response = ApiError::new(ErrorType::Unavailable, why).into_response();
    soon(response.headers_mut());
    response
}

fn soon(headers: &mut HeaderMap) {
    headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_count_twice_is_not_asked_again() {
        for (method, path, expected) in [
            ("GET", "/api/v2/silences?filter=a", true),
            ("POST", "/api/v2/alerts", true),
            ("POST", "/api/v2/silences", false),
            ("POST", "/alertmanager/api/v2/silences?a=b", false),
            ("POST", "/api/v1/notifications/test", false),
            ("POST", "/api/v1/notifications/silence_preview", true),
            ("POST", "/prometheus/config/v1/rules/team", true),
            ("DELETE", "/api/v2/silence/1", false),
        ] {
            let (method, path_and_query) = (method.to_owned(), path.to_owned());
            let asked = HandleRequest { method, path_and_query, ..HandleRequest::default() };
            assert_eq!(is_repeatable(&asked), expected, "{path}");
        }
    }
}
