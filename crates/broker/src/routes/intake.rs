//! From a request's body to what became of it, whichever protocol it speaks.

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::request::Parts;
use http::{HeaderValue, StatusCode, header};
use model::{Limits, MetricBatch, TenantName};
use net::auth::Principal;
use net::{ApiError, BodyError, BodyRules, ErrorType, read_body};
use wire::WireError;
use wire::logs::LogPushError;

use crate::Broker;
use crate::commit::CommitError;
use crate::ingest::IngestOutcome;
use crate::tenants::TooFast;

/// Bodies up to this size are unpacked and resolved where they were read: that takes less than a
/// millisecond, and going to another thread and back would be felt.
const INLINE_BYTES: usize = 64 << 10;

/// When the sender of new series may come again: rooms and paces change in seconds.
const RETRY_AFTER_SECONDS: u64 = 10;

/// Why nothing of a request was stored.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
    /// The body did not come, or not as agreed.
    #[error(transparent)]
    Body(#[from] BodyError),
    /// The body cannot be read.
    #[error(transparent)]
    Malformed(#[from] WireError),
    /// A request with lines cannot be read, or holds too much.
    #[error(transparent)]
    Lines(#[from] LogPushError),
    /// Lines come faster than they may; nothing of the request is stored.
    #[error("{}", _0.text)]
    TooFast(TooFast),
    /// The same is under way already, and must not be stored twice.
    #[error("the same request is being stored now; send it again in a moment")]
    UnderWay,
    /// It could be read and not be stored.
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// Nothing of it was stored, and all of it may be when it comes again.
    #[error("{0}")]
    Later(String),
}

impl From<TooFast> for Refusal {
    fn from(too_fast: TooFast) -> Self {
        Refusal::TooFast(too_fast)
    }
}

impl Refusal {
    /// What the sender is told of a request that was read, if nothing of it was stored and all of it
    /// may be when it is sent again. Of a part nothing may be sent again, because the rest of what the
    /// sender has would wait behind it.
    pub(crate) fn of(outcome: &IngestOutcome) -> Option<Refusal> {
        let complaint = outcome.complaint().filter(|_| outcome.may_come_again());
        complaint.map(Refusal::Later)
    }

    /// When the sender may come again, if that is known.
    pub(crate) fn retry_after_seconds(&self) -> Option<u64> {
        match self {
            Refusal::Commit(error) => error.retry_after_seconds(),
            Refusal::Later(_) => Some(RETRY_AFTER_SECONDS),
            Refusal::TooFast(too_fast) => Some(too_fast.retry_after_ms.div_ceil(1_000).max(1)),
            // Streams that are too fast are so for a moment.
            Refusal::Lines(error) if error.status == 429 => Some(1),
            Refusal::Body(_) | Refusal::Malformed(_) | Refusal::Lines(_) | Refusal::UnderWay => {
                None
            }
        }
    }

    /// The status that says it over HTTP.
    pub(crate) fn status(&self) -> StatusCode {
        match self {
            // Senders drop for ever what 408 and 400 refuse.
            Refusal::Body(BodyError::Timeout(_) | BodyError::Broken(_)) => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            Refusal::Body(error) => error.status(),
            Refusal::Malformed(error) if error.is_limit() => StatusCode::PAYLOAD_TOO_LARGE,
            Refusal::Malformed(_) => StatusCode::BAD_REQUEST,
            Refusal::Lines(error) => {
                StatusCode::from_u16(error.status).unwrap_or(StatusCode::BAD_REQUEST)
            }
            Refusal::Commit(CommitError::Full) => StatusCode::INSUFFICIENT_STORAGE,
            Refusal::Commit(CommitError::TooLarge(_)) => StatusCode::PAYLOAD_TOO_LARGE,
            Refusal::Commit(CommitError::OverRate { .. } | CommitError::TooManyTenants { .. }) => {
                StatusCode::TOO_MANY_REQUESTS
            }
            Refusal::Later(_) | Refusal::TooFast(_) => StatusCode::TOO_MANY_REQUESTS,
            Refusal::Commit(_) | Refusal::UnderWay => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// Makes `response`, which tells it in the protocol's own shape, end the connection where that
    /// cannot be used again, and say when to come again where that is known.
    pub(crate) fn on_connection(&self, mut response: Response) -> Response {
        if let Some(seconds) = self.retry_after_seconds() {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if matches!(self, Refusal::Body(error) if error.leaves_bytes()) {
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

/// In the shape of Prometheus' API.
impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let status = self.status();
        let error_type = match self {
            Refusal::Body(error) if error.status() == status => return error.into_response(),
            Refusal::Malformed(_)
            | Refusal::Lines(_)
            | Refusal::Later(_)
            | Refusal::TooFast(_)
            | Refusal::Commit(
                CommitError::TooLarge(_)
                | CommitError::OverRate { .. }
                | CommitError::TooManyTenants { .. },
            ) => ErrorType::BadData,
            Refusal::Body(_) | Refusal::Commit(_) | Refusal::UnderWay => ErrorType::Unavailable,
        };
        let error = ApiError::new(error_type, self.to_string()).with_status(status);
        self.on_connection(error.into_response())
    }
}

/// Whose data a request brings.
///
/// # Panics
/// The route is public.
pub(crate) fn tenant_of(parts: &Parts) -> TenantName {
    let principal = parts.extensions.get::<Principal>();
    principal.expect("routes that store data ask who is calling").tenant
}

/// Reads a body by `rules`, which are given the largest size of one, decodes it under the limits of its
/// tenant, and stores what is in it. Yields what `decode` says of it and what became of it when that is
/// durable and visible.
pub(crate) async fn take<S: Send + 'static>(
    broker: &Broker,
    parts: &Parts,
    body: Body,
    rules: fn(usize) -> BodyRules,
    decode: impl FnOnce(&Broker, &Limits, Vec<u8>, &mut MetricBatch) -> Result<S, WireError>
    + Send
    + 'static,
) -> Result<(S, IngestOutcome), Refusal> {
    let tenant = tenant_of(parts);
    let rules = rules(broker.limits_of(tenant).max_body_bytes);
    let body = read_body(&parts.headers, body, rules, broker.net_metrics()).await?;
    store(broker, tenant, body, decode).await
}

/// [`take`] of formats whose bodies may unfold to far more than their length.
pub(crate) async fn take_unfolding<S: Send + 'static>(
    broker: &Broker,
    parts: &Parts,
    body: Body,
    decode: impl FnOnce(&Broker, &Limits, Vec<u8>, &mut MetricBatch) -> Result<S, WireError>
    + Send
    + 'static,
) -> Result<(S, IngestOutcome), Refusal> {
    let tenant = tenant_of(parts);
    let rules = BodyRules::any_encoding(broker.limits_of(tenant).max_body_bytes);
    let body = read_body(&parts.headers, body, rules, broker.net_metrics()).await?;
    store_from(broker, tenant, body, true, decode).await
}

/// The part of [`take`] after the body was read.
pub(crate) async fn store<S: Send + 'static>(
    broker: &Broker,
    tenant: TenantName,
    body: Vec<u8>,
    decode: impl FnOnce(&Broker, &Limits, Vec<u8>, &mut MetricBatch) -> Result<S, WireError>
    + Send
    + 'static,
) -> Result<(S, IngestOutcome), Refusal> {
    let is_large = body.len() > INLINE_BYTES;
    store_from(broker, tenant, body, is_large, decode).await
}

/// [`store`] that is told whether a body is large.
async fn store_from<S: Send + 'static>(
    broker: &Broker,
    tenant: TenantName,
    body: Vec<u8>,
    is_large: bool,
    decode: impl FnOnce(&Broker, &Limits, Vec<u8>, &mut MetricBatch) -> Result<S, WireError>
    + Send
    + 'static,
) -> Result<(S, IngestOutcome), Refusal> {
    let is_new = broker.is_new_tenant(tenant);
    let may_block = is_new || is_large || broker.is_congested();
    let (stored, answer) = tokio::sync::oneshot::channel();
    let work = {
        let broker = broker.clone();
        move || -> Result<S, Refusal> {
            let mut batch = MetricBatch::default();
            let summary = decode(&broker, &broker.limits_of(tenant), body, &mut batch)?;
            // Who brings nothing does not become a tenant by it.
            if is_new && batch.samples() == 0 {
                let _ = stored.send(Ok(IngestOutcome::default()));
                return Ok(summary);
            }
            let id = broker.tenant_for_write(tenant)?;
            broker.ingest(id, &batch, move |result| {
                // The client may have gone; its data is stored all the same.
                let _ = stored.send(result);
            });
            Ok(summary)
        }
    };
    let summary = if may_block { broker.off_the_sockets(work).await } else { work() }?;
    let outcome = answer.await.unwrap_or(Err(CommitError::Stopping))?;
    Ok((summary, outcome))
}

/// 204, 202 for what another replica has written, or 400 that names what was left out, in the shape of
/// Prometheus' API; 429 as [`Refusal::of`] says.
pub(crate) fn answer(outcome: &IngestOutcome) -> Response {
    let Some(complaint) = outcome.complaint() else {
        return match outcome.is_deduplicated() {
            // As Mimir answers it.
            true => (StatusCode::ACCEPTED, outcome.note.clone()).into_response(),
            false => StatusCode::NO_CONTENT.into_response(),
        };
    };
    match Refusal::of(outcome) {
        Some(later) => later.into_response(),
        None => ApiError::new(ErrorType::BadData, complaint).into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_that_did_not_come_are_sent_again_and_damaged_ones_are_not() {
        let close = |response: &Response| response.headers().contains_key(header::CONNECTION);
        let response = Refusal::from(BodyError::Timeout("too slow".to_owned())).into_response();
        assert_eq!((response.status(), close(&response)), (StatusCode::SERVICE_UNAVAILABLE, true));
        let response = Refusal::from(BodyError::Broken("reset".to_owned())).into_response();
        assert_eq!((response.status(), close(&response)), (StatusCode::SERVICE_UNAVAILABLE, false));
        let response = Refusal::from(BodyError::TooLarge(1)).into_response();
        assert_eq!((response.status(), close(&response)), (StatusCode::PAYLOAD_TOO_LARGE, true));
        let malformed = WireError::Malformed { format: "body", offset: 0, reason: "is damaged" };
        let response = Refusal::from(malformed).into_response();
        assert_eq!((response.status(), close(&response)), (StatusCode::BAD_REQUEST, false));
    }
}
