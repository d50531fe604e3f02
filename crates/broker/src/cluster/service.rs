//! What other brokers ask of this one.

use std::sync::Arc;

use bytes::Bytes;
use consensus::Consensus;
use net::rpc::cluster_server::{Cluster, ClusterServer};
use net::rpc::{
    AboutRequest, AboutResponse, ConsensusRequest, ConsensusResponse, FreshRequest,
    LiveLinesRequest, LiveRequest,
};
use tonic::{Request, Response, Status};

use super::feed::CatalogFeed;
use super::fresh::{FreshParts, LiveLineParts, LiveParts};
use super::links::MAX_MESSAGE_BYTES;

/// The service. See [`cluster_service`].
pub struct ClusterService {
    consensus: Consensus,
    feed: Arc<CatalogFeed>,
}

/// The service `Cluster`, to be put among the routes of [`net::server::Bound::serve_rpc`], which lets
/// nobody but brokers call it. `feed` is what the consensus was given: by it the broker is found that
/// answers, once that is open.
pub fn cluster_service(
    consensus: Consensus,
    feed: Arc<CatalogFeed>,
) -> ClusterServer<ClusterService> {
    ClusterServer::new(ClusterService { consensus, feed })
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES)
}

#[tonic::async_trait]
impl Cluster for ClusterService {
    type FreshStream = FreshParts;
    type LiveStream = LiveParts;
    type LiveLinesStream = LiveLineParts;

    async fn fresh(&self, request: Request<FreshRequest>) -> Result<Response<FreshParts>, Status> {
        let broker = self.feed.opened();
        let broker = broker.ok_or_else(|| Status::unavailable("the broker is starting"))?;
        Ok(Response::new(broker.answer_fresh(request.into_inner())))
    }

    async fn live(&self, request: Request<LiveRequest>) -> Result<Response<LiveParts>, Status> {
        let broker = self.feed.opened();
        let broker = broker.ok_or_else(|| Status::unavailable("the broker is starting"))?;
        Ok(Response::new(broker.answer_live(request.into_inner())))
    }

    async fn live_lines(
        &self,
        request: Request<LiveLinesRequest>,
    ) -> Result<Response<LiveLineParts>, Status> {
        let broker = self.feed.opened();
        let broker = broker.ok_or_else(|| Status::unavailable("the broker is starting"))?;
        Ok(Response::new(broker.answer_live_lines(request.into_inner())))
    }

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
