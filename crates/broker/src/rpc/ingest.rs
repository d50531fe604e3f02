//! The service `Ingest`: agents join, renew their certificates, and push.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;

use axum::extract::ConnectInfo;
use futures_util::Stream;
use net::rpc::ingest_server::{Ingest, IngestServer};
use net::rpc::{AgentMessage, BrokerMessage, EnrollRequest, EnrollResponse, RenewRequest};
use net::{Enrollment, PeerIdentity};
use tonic::{Request, Response, Status, Streaming};
use wire::agent_batch::MAX_PAYLOAD_BYTES;

use super::push::{Caller, PushStream};
use crate::Broker;

/// A message that holds a payload of twice the limit is still read, so that its refusal can name
/// it; a larger one ends the stream.
const MAX_MESSAGE_BYTES: usize = 2 * MAX_PAYLOAD_BYTES + (4 << 10);

/// What all streams share.
pub(super) struct Shared {
    pub(super) broker: Broker,
    /// Of the broker, for its agents.
    pub(super) name: String,
}

/// The service. See [`ingest_service`].
pub struct IngestService {
    shared: Arc<Shared>,
    enrollment: Enrollment,
}

/// The service `Ingest`, to be put among the routes of [`net::server::Bound::serve_rpc`], which
/// says with [`PeerIdentity`] who calls and which role may. `name` is told to agents.
///
/// All agents together may have 128 MiB of payload under way; the window each is given shrinks with
/// their number. An idle agent costs 27 kB, and TLS; most of it
/// is HTTP/2.
pub fn ingest_service(
    broker: &Broker,
    name: String,
    enrollment: Enrollment,
) -> IngestServer<IngestService> {
    let shared = Arc::new(Shared { broker: broker.clone(), name });
    IngestServer::new(IngestService { shared, enrollment })
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
}

#[tonic::async_trait]
impl Ingest for IngestService {
    type PushStream = Pin<Box<dyn Stream<Item = Result<BrokerMessage, Status>> + Send>>;

    async fn enroll(
        &self,
        request: Request<EnrollRequest>,
    ) -> Result<Response<EnrollResponse>, Status> {
        self.enrollment.enroll(request).await
    }

    async fn renew(
        &self,
        request: Request<RenewRequest>,
    ) -> Result<Response<EnrollResponse>, Status> {
        self.enrollment.renew(request).await
    }

    async fn push(
        &self,
        request: Request<Streaming<AgentMessage>>,
    ) -> Result<Response<Self::PushStream>, Status> {
        let peer = request.extensions().get::<PeerIdentity>().cloned();
        let peer = peer.ok_or_else(|| Status::unauthenticated("Push needs a certificate"))?;
        let address = request.extensions().get::<ConnectInfo<SocketAddr>>();
        let caller = Caller {
            name: peer.name,
            address: address.map_or_else(String::new, |info| info.0.ip().to_string()),
            certificate_expires_ms: peer.expires_ms,
        };
        let stream = PushStream::new(Arc::clone(&self.shared), caller, request.into_inner());
        Ok(Response::new(stream.answers()))
    }
}
