//! The other brokers, as the console's queries see them: where two roles meet.

use std::sync::Arc;

use broker::Broker;
use broker::cluster::NearBroker;
use console::{EvaluateParts, Worker, Workers};
use futures_util::TryFutureExt;
use model::{NO_TENANT, TenantId, TenantName};
use net::rpc::EvaluateRequest;
use net::rpc::evaluation_client::EvaluationClient;
use tonic::Status;

use super::late::LateLinks;
use crate::about::now_ms;

/// Brokers that are asked one after the other, before this one computes a piece itself.
const MOST: usize = 2;

/// The brokers of the cluster, nearest by the ring.
pub(super) struct OtherBrokers {
    pub(super) own: u64,
    pub(super) broker: Broker,
    pub(super) links: Arc<LateLinks>,
}

impl Workers for OtherBrokers {
    fn own(&self) -> u64 {
        self.own
    }

    fn tenant_number(&self, tenant: TenantName) -> Option<u32> {
        Some(self.broker.tenant_id(tenant)).filter(|id| *id != NO_TENANT).map(|id| id.0)
    }

    fn now_ms(&self) -> i64 {
        now_ms()
    }

    fn nearest(&self, tenant: u32, days: &[i64]) -> Vec<Vec<Worker>> {
        let worker =
            |near: NearBroker| Worker { number: near.id.0, name: near.name, address: near.address };
        let nearer = self.broker.nearer_brokers(TenantId(tenant), days, MOST).into_iter();
        nearer.map(|of_day| of_day.into_iter().map(worker).collect()).collect()
    }

    fn evaluate(&self, worker: &Worker, request: EvaluateRequest) -> EvaluateParts {
        let channel = match self.links.get() {
            Some(links) => links.channel(&worker.address).map_err(|error| error.to_string()),
            None => Err("this broker has no certificate yet".to_owned()),
        };
        let call = async move {
            let channel = channel.map_err(Status::unavailable)?;
            Ok::<_, Status>(EvaluationClient::new(channel).evaluate(request).await?.into_inner())
        };
        Box::pin(call.try_flatten_stream())
    }
}
