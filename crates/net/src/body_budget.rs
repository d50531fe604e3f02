//! How many bytes of request bodies may be in memory at once, over all connections.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};

use crate::metrics::Refusal;
use crate::{ApiError, ErrorType, NetMetrics};

/// When a refused sender may come again: a body takes about as long.
const RETRY_AFTER_SECONDS: u16 = 2;

tokio::task_local! {
    /// What the request that this task answers has reserved.
    static RESERVATION: Arc<Reservation>;
}

/// A budget that servers share (`http.max_inflight_body_bytes`). Bytes count from when they are
/// received, packed and unpacked, until the request is answered. The request that would go over it
/// is refused with 503; the others go on.
#[derive(Debug)]
pub struct BodyBudget {
    limit: usize,
    used: AtomicUsize,
}

impl BodyBudget {
    /// A budget of `limit` bytes.
    pub fn new(limit: usize) -> Arc<BodyBudget> {
        Arc::new(BodyBudget { limit, used: AtomicUsize::new(0) })
    }

    /// The most bytes at once.
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// Bytes in use now.
    pub fn used(&self) -> usize {
        self.used.load(Relaxed)
    }

    fn take(&self, bytes: usize) -> bool {
        let fits = |used: usize| used.checked_add(bytes).filter(|used| *used <= self.limit);
        self.used.fetch_update(Relaxed, Relaxed, fits).is_ok()
    }
}

/// The budget has no more; the request is answered 503.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "all request bodies together exceed the limit of {limit} bytes; send again in a moment, send \
     smaller batches, or raise `http.max_inflight_body_bytes`"
)]
pub(crate) struct OverBudget {
    limit: usize,
}

/// The part of the budget that one request uses; given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Reservation {
    budget: Arc<BodyBudget>,
    metrics: Arc<NetMetrics>,
    bytes: AtomicUsize,
    refused: AtomicBool,
}

impl Reservation {
    pub(crate) fn new(budget: Arc<BodyBudget>, metrics: Arc<NetMetrics>) -> Arc<Self> {
        let (bytes, refused) = (AtomicUsize::new(0), AtomicBool::new(false));
        Arc::new(Reservation { budget, metrics, bytes, refused })
    }

    /// Reserves more.
    pub(crate) fn grow(&self, bytes: usize) -> Result<(), OverBudget> {
        if self.budget.take(bytes) {
            self.bytes.fetch_add(bytes, Relaxed);
            self.metrics.inflight_body_bytes.fetch_add(bytes as u64, Relaxed);
            return Ok(());
        }
        if !self.refused.swap(true, Relaxed) {
            self.metrics.count_refusal(Refusal::OverBudget);
        }
        Err(OverBudget { limit: self.budget.limit })
    }

    /// Gives `bytes` of it back.
    fn shrink(&self, bytes: usize) {
        self.bytes.fetch_sub(bytes, Relaxed);
        self.budget.used.fetch_sub(bytes, Relaxed);
        self.metrics.inflight_body_bytes.fetch_sub(bytes as u64, Relaxed);
    }

    /// Runs `answer`, which reads the body, and yields its response; or the refusal, whatever the
    /// handler made of a body that broke off.
    pub(crate) async fn over(self: Arc<Self>, answer: impl Future<Output = Response>) -> Response {
        let response = RESERVATION.scope(Arc::clone(&self), answer).await;
        if self.refused.load(Relaxed) {
            let mut refusal = OverBudget { limit: self.budget.limit }.into_response();
            // Who may see it was stated for the response that it replaces.
            *refusal.extensions_mut() = response.extensions().clone();
            return refusal;
        }
        response
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.shrink(self.bytes.load(Relaxed));
    }
}

/// Reserves `wanted` bytes for what `work` writes, runs it, and keeps reserved what it wrote. `work`
/// does not wait for anything. Where no server has set a budget, none counts.
pub(crate) fn reserve_while<E>(
    wanted: usize,
    work: impl FnOnce() -> (usize, Result<(), E>),
) -> Result<Result<(), E>, OverBudget> {
    let Ok(reservation) = RESERVATION.try_with(Arc::clone) else { return Ok(work().1) };
    reservation.grow(wanted)?;
    let (written, result) = work();
    reservation.shrink(wanted.saturating_sub(written));
    Ok(result)
}

/// Gives back what a part of the body took that is stored and forgotten, for handlers of bodies that are
/// longer than memory. To be called by the task that answers the request.
pub fn release_body(bytes: usize) {
    let _ = RESERVATION.try_with(|reservation| {
        reservation.shrink(bytes.min(reservation.bytes.load(Relaxed)));
    });
}

impl IntoResponse for OverBudget {
    fn into_response(self) -> Response {
        let error = ApiError::new(ErrorType::Unavailable, self.to_string())
            .with_status(StatusCode::SERVICE_UNAVAILABLE);
        let mut response = error.into_response();
        let headers = response.headers_mut();
        headers.insert(header::RETRY_AFTER, HeaderValue::from(RETRY_AFTER_SECONDS));
        // What is left of the body would have to be read before the next request; do not.
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_released_is_there_for_others() {
        let budget = BodyBudget::new(10);
        let reservation = Reservation::new(Arc::clone(&budget), Arc::default());
        let of_request = Arc::clone(&reservation);
        let answer = async move {
            for _ in 0..5 {
                of_request.grow(8).expect("there is room");
                release_body(6);
                assert_eq!(of_request.budget.used(), 2);
                release_body(7);
                assert_eq!(of_request.budget.used(), 0, "no more than it has");
            }
            StatusCode::OK.into_response()
        };
        assert_eq!(reservation.over(answer).await.status(), StatusCode::OK);
        assert_eq!(budget.used(), 0);
        release_body(1);
        assert_eq!(budget.used(), 0, "outside of a request there is nothing to release");
    }
}
