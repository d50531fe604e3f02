//! Long work for a stream: whoever waits is told that it goes on.

use std::future::Future;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;
use tokio::time::sleep;
use tonic::Status;

/// What comes of `work`. Whoever asked is told meanwhile, each `every`, by an empty part, that the answer is
/// still being made; `None` when nobody waits any more.
pub async fn at_work<T, P: Default>(
    work: impl Future<Output = T>,
    sender: &mpsc::Sender<Result<P, Status>>,
    every: Duration,
) -> Option<T> {
    tokio::pin!(work);
    loop {
        tokio::select! {
            biased;
            done = &mut work => return Some(done),
            () = sender.closed() => return None,
            () = sleep(every) => {
                // Where it waits for the network nothing has to be said.
                if let Err(TrySendError::Closed(_)) = sender.try_send(Ok(P::default())) {
                    return None;
                }
            }
        }
    }
}
