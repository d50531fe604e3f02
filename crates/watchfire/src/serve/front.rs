//! The socket everybody talks to: it answers from the first moment, and passes requests on once
//! there are routes.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

use anyhow::{Context, Result};
use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use http::Request;
use net::routes::public_answer;
use net::{ApiError, Bound, ErrorType, NetMetrics, Server, ServerSettings};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tower::ServiceExt;

/// A server whose routes come later.
pub(super) struct Front {
    address: SocketAddr,
    routes: Arc<OnceLock<Router>>,
    stop: watch::Sender<bool>,
    server: JoinHandle<()>,
}

impl Front {
    /// Listens and answers that the program is starting.
    pub(super) async fn start(
        listen: SocketAddr,
        settings: ServerSettings,
        metrics: Arc<NetMetrics>,
        prepare: impl FnOnce(Bound) -> Result<Bound>,
    ) -> Result<Front> {
        let bound = Server::bind(listen).await.with_context(|| {
            format!(
                "cannot listen on {listen}; is another Watchfire running? Choose another address \
                 with --listen HOST:PORT"
            )
        })?;
        let address = bound.local_addr();
        let bound = prepare(bound.with_settings(settings).with_metrics(metrics))?;
        let routes = Arc::new(OnceLock::<Router>::new());
        let router = Router::new().fallback(forward).with_state(Arc::clone(&routes));
        let (stop, stopped) = watch::channel(false);
        let server = tokio::spawn(bound.serve(router, until(stopped)));
        Ok(Front { address, routes, stop, server })
    }

    /// Where it listens, with the port the system chose.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on requests go to `routes`.
    pub(super) fn open(&self, routes: Router) {
        let was_closed = self.routes.set(routes).is_ok();
        debug_assert!(was_closed, "a front is opened once");
    }

    /// Takes no more requests and waits for those under way.
    pub(super) async fn stop(self) {
        let _ = self.stop.send(true);
        let _ = self.server.await;
    }
}

/// Passes requests to the real routes once there are any.
async fn forward(State(front): State<Arc<OnceLock<Router>>>, request: Request<Body>) -> Response {
    match front.get() {
        Some(router) => match router.clone().oneshot(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        },
        None if request.uri().path() == "/-/healthy" => public_answer("Watchfire is Healthy.\n"),
        None => public_answer(ApiError::new(
            ErrorType::Unavailable,
            "Watchfire is starting: it reads back what was written before; try again in a moment",
        )),
    }
}

async fn until(mut stopped: watch::Receiver<bool>) {
    // An error means the sender is gone, which is a stop as well.
    let _ = stopped.wait_for(|stopped| *stopped).await;
}
