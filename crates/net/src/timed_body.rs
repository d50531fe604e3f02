//! A request body that fails when its sender stalls, or when there is no memory for it.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::time::{Instant, Sleep, sleep_until};

use crate::body_budget::{OverBudget, Reservation};

/// The sender of a body took too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BodyTimeout {
    /// Nothing came for this long.
    #[error("no byte of the request body came for {} s", .0.as_secs_f32())]
    Idle(Duration),
    /// The whole body took longer than this.
    #[error("the request body did not come within {} s", .0.as_secs_f32())]
    Total(Duration),
}

/// Wraps every request body, so that also handlers that read it themselves are safe.
pub(crate) struct TimedBody {
    inner: Incoming,
    idle: Duration,
    total: Duration,
    deadline: Instant,
    /// Made when the body first has to be waited for; most bodies are there at once.
    sleep: Option<Pin<Box<Sleep>>>,
    waiting: bool,
    reservation: Arc<Reservation>,
}

impl TimedBody {
    /// What comes is charged to `reservation`.
    pub(crate) fn new(
        inner: Incoming,
        idle: Duration,
        total: Duration,
        reservation: Arc<Reservation>,
    ) -> Self {
        let deadline = Instant::now() + total;
        TimedBody { inner, idle, total, deadline, sleep: None, waiting: false, reservation }
    }

    /// Refuses what the budget has no place for.
    fn charge(&self, frame: Frame<Bytes>) -> Result<Frame<Bytes>, OverBudget> {
        self.reservation.grow(frame.data_ref().map_or(0, Bytes::len)).map(|()| frame)
    }
}

impl Body for TimedBody {
    type Data = Bytes;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = &mut *self;
        if let Poll::Ready(frame) = Pin::new(&mut this.inner).poll_frame(context) {
            this.waiting = false;
            return Poll::Ready(frame.map(|result| Ok(this.charge(result?)?)));
        }
        let until = (Instant::now() + this.idle).min(this.deadline);
        let sleep = this.sleep.get_or_insert_with(|| Box::pin(sleep_until(until)));
        if !this.waiting {
            this.waiting = true;
            sleep.as_mut().reset(until);
        }
        match sleep.as_mut().poll(context) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(()) => {
                let fault = if Instant::now() >= this.deadline {
                    BodyTimeout::Total(this.total)
                } else {
                    BodyTimeout::Idle(this.idle)
                };
                Poll::Ready(Some(Err(fault.into())))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
