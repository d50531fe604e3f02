//! What brokers ask one another for the state of the cluster.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use net::rpc::cluster_status_client::ClusterStatusClient;
use net::rpc::cluster_status_server::{ClusterStatus, ClusterStatusServer};
use net::rpc::{ReportRequest, ReportResponse};
use tonic::{Request, Response, Status};

use super::{BrokerReport, StatusTeller};
use crate::cluster::Links;

/// Most bytes of a report: a hundred tenants and all stores have a tenth of it.
const MAX_REPORT_BYTES: usize = 1 << 20;

/// An answer on its way; why there is none, in words.
pub type Asked = Pin<Box<dyn Future<Output = Result<BrokerReport, String>> + Send>>;

/// The way to other brokers.
pub trait AskBroker: Send + Sync + 'static {
    /// What the broker at `address` tells of itself. Whoever asks limits the time.
    fn ask(&self, address: &str) -> Asked;
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
}
