//! Connections of ports without HTTP.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::{sleep, timeout};

use crate::NetMetrics;

/// Open connections of one port; one more is closed at once.
const MAX_CONNECTIONS: usize = 1_024;
/// After `accept` failed.
const PAUSE: Duration = Duration::from_millis(100);

/// Serves each connection by a task of its own until `shutdown` is done. All are told by the last argument
/// of `serve` then, and have five seconds to end.
pub(crate) async fn accept_all<F: Future<Output = ()> + Send + 'static>(
    listener: &TcpListener,
    metrics: &NetMetrics,
    shutdown: impl Future<Output = ()>,
    serve: impl Fn(TcpStream, SocketAddr, watch::Receiver<bool>) -> F,
) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let (stop, stopped) = watch::channel(false);
    let mut shutdown = pin!(shutdown);
    loop {
        let accepted = tokio::select! {
            biased;
            () = &mut shutdown => break,
            accepted = listener.accept() => accepted,
        };
        let (socket, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                metrics.accept_errors.fetch_add(1, Relaxed);
                tracing::warn!(%error, "cannot accept connections, trying again");
                sleep(PAUSE).await;
                continue;
            }
        };
        let Ok(permit) = Arc::clone(&places).try_acquire_owned() else {
            metrics.connections_refused.fetch_add(1, Relaxed);
            continue;
        };
        metrics.connections_accepted.fetch_add(1, Relaxed);
        let served = serve(socket, peer, stopped.clone());
        tokio::spawn(async move {
            let _permit = permit;
            served.await;
        });
    }
    let _ = stop.send(true);
    // Those that are storing something finish; nobody waits long for the others.
    let all = u32::try_from(MAX_CONNECTIONS).expect("a small constant");
    let _ = timeout(Duration::from_secs(5), places.acquire_many(all)).await;
}
