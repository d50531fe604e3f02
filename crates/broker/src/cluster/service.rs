//! What other brokers ask of this one.

use bytes::Bytes;
use consensus::Consensus;
use net::rpc::cluster_server::{Cluster, ClusterServer};
use net::rpc::{AboutRequest, AboutResponse, ConsensusRequest, ConsensusResponse};
use tonic::{Request, Response, Status};

use super::links::MAX_MESSAGE_BYTES;

/// The service. See [`cluster_service`].
pub struct ClusterService {
    consensus: Consensus,
}

/// The service `Cluster`, to be put among the routes of [`net::server::Bound::serve_rpc`], which lets
/// nobody but brokers call it.
pub fn cluster_service(consensus: Consensus) -> ClusterServer<ClusterService> {
    ClusterServer::new(ClusterService { consensus })
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES)
}

#[tonic::async_trait]
impl Cluster for ClusterService {
    async fn consensus(
        &self,
        request: Request<ConsensusRequest>,
    ) -> Result<Response<ConsensusResponse>, Status> {
        let ConsensusRequest { to, body } = request.into_inner();
        let own = self.consensus.status().id;
        if to != 0 && to != own {
            return Err(Status::failed_precondition(format!(
                "this is broker {own}, not broker {to}: its address was given to another"
            )));
        }
        let body = self.consensus.answer(&body).await;
        Ok(Response::new(ConsensusResponse { body }))
    }

    async fn about(&self, _: Request<AboutRequest>) -> Result<Response<AboutResponse>, Status> {
        let status = self.consensus.status();
        let own = status.members.get(&status.id);
        let (store, feature_level) =
            self.consensus.read(|state| (state.store(), state.feature_level()));
        Ok(Response::new(AboutResponse {
            cluster: store.map_or_else(Bytes::new, |id| Bytes::copy_from_slice(&id.0)),
            feature_level,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            name: own.map(|(member, _)| member.name.clone()).unwrap_or_default(),
        }))
    }
}
