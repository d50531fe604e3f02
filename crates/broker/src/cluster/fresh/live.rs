//! Live samples that other brokers take, for those who subscribed at this one.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{Stream, StreamExt, stream};
use net::rpc::{LiveEvents, LiveRequest, SubscribeRequest};
use tokio::task::AbortHandle;
use tokio::time::sleep;
use tonic::Status;

use super::{Others, Peer};
use crate::Broker;
use crate::live::{LiveHub, Subscriber};
use crate::rpc::{live_events, messages, tenant_named};

/// Live samples of another broker on their way.
pub type LiveParts = Pin<Box<dyn Stream<Item = Result<LiveEvents, Status>> + Send>>;

/// Between two tries to subscribe at one.
const PAUSE: Duration = Duration::from_millis(250);

impl Broker {
    /// Answers another broker with what this one takes. The stream must be read: nothing else holds it up,
    /// but what is not read is dropped and counted as missed.
    pub fn answer_live(&self, request: LiveRequest) -> LiveParts {
        let events = self.live_here(request);
        match events {
            Ok(events) => {
                let open = stream::iter([Ok(LiveEvents::default())]);
                Box::pin(open.chain(events))
            }
            Err(status) => Box::pin(stream::iter([Err(status)])),
        }
    }

    fn live_here(&self, request: LiveRequest) -> Result<LiveParts, Status> {
        let own = self.inner.clustered.as_ref().map_or(0, |clustered| clustered.peers.own.0);
        if request.to != own {
            return Err(Status::failed_precondition(format!(
                "this is broker {own}, not broker {}: its address was given to another",
                request.to
            )));
        }
        let ask = request.ask.unwrap_or_default();
        let tenant = tenant_named(&ask.tenant)?;
        let selector = messages::matchers(&ask.selector.unwrap_or_default())?;
        let feed = self.subscribe_here(tenant, selector).map_err(Status::resource_exhausted)?;
        Ok(live_events(feed, self.stopping()))
    }
}

impl Others {
    /// Begins to bring what all others take into a subscription; ends when it is aborted. `None` where
    /// there is no runtime for it.
    pub(crate) fn bring_live(
        self: &Arc<Self>,
        ask: SubscribeRequest,
    ) -> Option<impl FnOnce(Arc<LiveHub>, Arc<Subscriber>) -> AbortHandle> {
        let runtime = self.runtime.clone()?;
        let others = Arc::clone(self);
        Some(move |hub, subscriber| {
            runtime.spawn(others.follow_all(ask, hub, subscriber)).abort_handle()
        })
    }

    async fn follow_all(
        self: Arc<Self>,
        ask: SubscribeRequest,
        hub: Arc<LiveHub>,
        subscriber: Arc<Subscriber>,
    ) {
        let begin = |peer: &Peer, _: Option<()>| {
            let request = LiveRequest { to: peer.id.0, ask: Some(ask.clone()) };
            let (hub, subscriber) = (Arc::clone(&hub), Arc::clone(&subscriber));
            Arc::clone(&self).follow_one(peer.address.clone(), request, hub, subscriber)
        };
        self.follow_each(None, begin).await;
    }

    /// Reads what one broker takes, again and again.
    async fn follow_one(
        self: Arc<Self>,
        address: String,
        request: LiveRequest,
        hub: Arc<LiveHub>,
        subscriber: Arc<Subscriber>,
    ) {
        let mut was_open = false;
        loop {
            let mut parts = self.peers.live(&address, request.clone());
            let mut numbers = HashMap::new();
            let mut is_open = false;
            while let Some(part) = parts.next().await {
                let events = match part {
                    Ok(events) => events,
                    Err(status) => {
                        tracing::debug!(address, %status, "no live samples of another broker");
                        break;
                    }
                };
                if !is_open {
                    is_open = true;
                    // Nobody knows how many came in between.
                    if was_open {
                        subscriber.miss();
                    }
                    was_open = true;
                }
                if let Err(fault) = subscriber.take_in(&hub, &mut numbers, events) {
                    tracing::warn!(address, fault, "another broker tells live samples wrongly");
                    break;
                }
            }
            sleep(PAUSE).await;
        }
    }
}
