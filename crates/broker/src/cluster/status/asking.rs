//! What brokers ask one another for the state of the cluster.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use net::rpc::cluster_status_client::ClusterStatusClient;
use net::rpc::cluster_status_server::{ClusterStatus, ClusterStatusServer};
use net::rpc::{DrainRequest, DrainResponse, ReportRequest, ReportResponse};
use tonic::{Request, Response, Status};

use super::{BrokerReport, DrainReport, StatusTeller};
use crate::cluster::{DrainError, Links};

/// Most bytes of a report: a hundred tenants and all stores have a tenth of it.
const MAX_REPORT_BYTES: usize = 1 << 20;

/// An answer on its way; why there is none, in words.
pub type Asked = Pin<Box<dyn Future<Output = Result<BrokerReport, String>> + Send>>;

/// How far a broker is on its way out, on its way here; why it does not tell or begin, as gRPC says it.
pub type AskedToLeave = Pin<Box<dyn Future<Output = Result<DrainReport, Status>> + Send>>;

/// The way to other brokers.
pub trait AskBroker: Send + Sync + 'static {
    /// What the broker at `address` tells of itself. Whoever asks limits the time.
    fn ask(&self, address: &str) -> Asked;

    /// Has the broker at `address` begin to leave, or tell how far it is with that. Whoever asks limits the
    /// time.
    fn drain(&self, address: &str, request: DrainRequest) -> AskedToLeave;
}

impl AskBroker for Links {
    fn ask(&self, address: &str) -> Asked {
        let channel = self.channel(address);
        Box::pin(async move {
            let channel = channel.map_err(|error| error.to_string())?;
            let mut client =
                ClusterStatusClient::new(channel).max_decoding_message_size(MAX_REPORT_BYTES);
            let answer = client.report(ReportRequest {}).await;
            let answer = answer.map_err(|status| net::status_words(&status))?;
            serde_json::from_slice(&answer.into_inner().report)
                .map_err(|error| format!("its answer cannot be read: {error}"))
        })
    }

    fn drain(&self, address: &str, request: DrainRequest) -> AskedToLeave {
        let channel = self.channel(address);
        Box::pin(async move {
            let channel = channel.map_err(|error| Status::unavailable(error.to_string()))?;
            let answer = ClusterStatusClient::new(channel).drain(request).await?.into_inner();
            let DrainResponse { step, segments, segment_bytes, trouble } = answer;
            let trouble = Some(trouble).filter(|trouble| !trouble.is_empty());
            Ok(DrainReport { step, segments, segment_bytes, trouble })
        })
    }
}

/// The service. See [`cluster_status_service`].
pub struct ClusterStatusService {
    teller: Arc<StatusTeller>,
}

/// The service `ClusterStatus`, to be put beside [`crate::cluster::cluster_service`].
pub fn cluster_status_service(
    teller: &Arc<StatusTeller>,
) -> ClusterStatusServer<ClusterStatusService> {
    ClusterStatusServer::new(ClusterStatusService { teller: Arc::clone(teller) })
        .max_encoding_message_size(MAX_REPORT_BYTES)
}

#[tonic::async_trait]
impl ClusterStatus for ClusterStatusService {
    async fn report(&self, _: Request<ReportRequest>) -> Result<Response<ReportResponse>, Status> {
        let report = serde_json::to_vec(&self.teller.report());
        let report = report.expect("texts and numbers are JSON");
        Ok(Response::new(ReportResponse { report: Bytes::from(report) }))
    }

    async fn drain(
        &self,
        request: Request<DrainRequest>,
    ) -> Result<Response<DrainResponse>, Status> {
        let DrainRequest { to, begin, by } = request.into_inner();
        let broker = &self.teller.broker;
        let own = broker.inner.clustered.as_ref().map(|clustered| clustered.members.own().0);
        if own != Some(to) {
            return Err(Status::failed_precondition(
                "this is another broker than the one that is meant: its address was given to another",
            ));
        }
        if begin {
            tracing::info!(by, "another broker passes on that this one is to leave the cluster");
            broker.drain().await.map_err(|error| match error {
                DrainError::Alone | DrainError::Last | DrainError::NoMajority { .. } => {
                    Status::failed_precondition(error.to_string())
                }
                DrainError::NotAgreed(_) => Status::unavailable(error.to_string()),
            })?;
        }
        let progress = broker.drain_progress();
        let progress = progress.ok_or_else(|| Status::internal("a broker of no cluster"))?;
        let DrainReport { step, segments, segment_bytes, trouble } = progress.into();
        let trouble = trouble.unwrap_or_default();
        Ok(Response::new(DrainResponse { step, segments, segment_bytes, trouble }))
    }
}
