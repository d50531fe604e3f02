//! A request body that fails when its sender stalls, or when there is no memory for it.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::runtime::Handle;
use tokio::time::{Instant, Sleep, sleep_until, timeout};

use crate::body_budget::{OverBudget, Reservation};

/// What is read of a body that nobody wants …
const LINGER_BYTES: usize = 1 << 20;
/// … and for how long its stream is kept open: long enough for an answer to be read on a slow way.
const LINGER_TIME: Duration = Duration::from_secs(2);

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
    /// There until it is dropped.
    inner: Option<Incoming>,
    idle: Duration,
    total: Duration,
    deadline: Instant,
    /// Made when the body first has to be waited for; most bodies are there at once.
    sleep: Option<Pin<Box<Sleep>>>,
    waiting: bool,
    reservation: Arc<Reservation>,
    lingers: bool,
}

impl TimedBody {
    /// What comes is charged to `reservation`. What nobody has read is read and forgotten for a
    /// moment if it `lingers`.
    pub(crate) fn new(
        inner: Incoming,
        idle: Duration,
        total: Duration,
        reservation: Arc<Reservation>,
        lingers: bool,
    ) -> Self {
        let deadline = Instant::now() + total;
        let (inner, sleep, waiting) = (Some(inner), None, false);
        TimedBody { inner, idle, total, deadline, sleep, waiting, reservation, lingers }
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
        let Some(inner) = &mut this.inner else { return Poll::Ready(None) };
        if let Poll::Ready(frame) = Pin::new(inner).poll_frame(context) {
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
        self.inner.as_ref().is_none_or(Incoming::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.as_ref().map_or_else(SizeHint::default, Incoming::size_hint)
    }
}

impl Drop for TimedBody {
    fn drop(&mut self) {
        let Some(body) = self.inner.take() else { return };
        if !self.lingers || body.is_end_stream() {
            return;
        }
        // There is no runtime any more when the process ends.
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(linger(body));
        }
    }
}

/// Reads and forgets some of a body whose request is answered already.
///
/// Over HTTP/2 dropping it resets the stream, and clients such as curl 7.88 then report the reset and
/// not the answer that came before it, which says what is wrong.
async fn linger(mut body: Incoming) {
    let mut left = LINGER_BYTES;
    let reading = async {
        while let Some(Ok(frame)) = body.frame().await {
            let bytes = frame.data_ref().map_or(0, Bytes::len);
            if bytes > left {
                // Nothing more is let through; the answer is still being read.
                std::future::pending::<()>().await;
            }
            left -= bytes;
        }
    };
    let _ = timeout(LINGER_TIME, reading).await;
}
