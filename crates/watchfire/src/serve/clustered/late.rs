//! What is there before what it needs is.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use broker::cluster::Links;
use broker::cluster::status::{AskBroker, Asked, AskedToLeave};
use bytes::Bytes;
use consensus::{Call, Member, Transport, TransportError};
use http::Request;
use net::rpc::DrainRequest;
use tonic::Status;
use tower::ServiceExt;

/// The way to other brokers. A founder has its certificate only when its catalog is there to list it.
#[derive(Default)]
pub(in crate::serve) struct LateLinks(OnceLock<Arc<Links>>);

impl LateLinks {
    pub(in crate::serve) fn get(&self) -> Option<&Arc<Links>> {
        self.0.get()
    }

    pub(super) fn set(&self, links: Links) -> Arc<Links> {
        Arc::clone(self.0.get_or_init(|| Arc::new(links)))
    }
}

impl Transport for LateLinks {
    fn call(&self, to: u64, member: &Member, request: Bytes, deadline: Duration) -> Call {
        match self.0.get() {
            Some(links) => links.call(to, member, request, deadline),
            None => Box::pin(async {
                Err(TransportError::Unreached("this broker has no certificate yet".to_owned()))
            }),
        }
    }
}

impl AskBroker for LateLinks {
    fn ask(&self, address: &str) -> Asked {
        match self.0.get() {
            Some(links) => links.ask(address),
            None => Box::pin(async { Err("this broker has no certificate yet".to_owned()) }),
        }
    }

    fn drain(&self, address: &str, request: DrainRequest) -> AskedToLeave {
        match self.0.get() {
            Some(links) => links.drain(address, request),
            None => Box::pin(async {
                Err(Status::unavailable("this broker has no certificate yet".to_owned()))
            }),
        }
    }
}

/// What agents and consoles call. The broker behind it opens when the brokers agree, and for that they
/// talk over the same port.
#[derive(Clone, Default)]
pub(super) struct LateCalls(Arc<OnceLock<Router>>);

impl LateCalls {
    /// From now on calls go to `routes`.
    pub(super) fn open(&self, routes: tonic::service::Routes) {
        let was_closed = self.0.set(routes.prepare().into_axum_router()).is_ok();
        debug_assert!(was_closed, "a broker is opened once");
    }

    pub(super) fn router(&self) -> Router {
        Router::new().fallback(forward).with_state(self.clone())
    }
}

async fn forward(State(calls): State<LateCalls>, request: Request<Body>) -> Response {
    match calls.0.get() {
        Some(router) => match router.clone().oneshot(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        },
        None => {
            let words = "this broker is starting: it waits for its cluster, or reads back what was \
                         written before; try again in a moment, or another broker";
            Status::unavailable(words).into_http()
        }
    }
}
