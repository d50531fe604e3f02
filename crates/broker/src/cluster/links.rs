//! The way from this broker to the others.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use consensus::{Call, Member, Transport, TransportError};
use futures_util::TryFutureExt;
use net::rpc::cluster_client::ClusterClient;
use net::rpc::read_client::ReadClient;
use net::rpc::{
    AboutRequest, AboutResponse, ConsensusRequest, FreshRequest, HandleRequest, LiveLinesRequest,
    LiveRequest, PageResponse,
};
use net::tls::ClientTls;
use net::{Identity, status_words};
use parking_lot::Mutex;
use tonic::transport::Channel;
use tonic::{Status, Streaming};

use super::fresh::{FreshParts, LiveLineParts, LiveParts, Peers};

/// A message of the consensus: a part of a snapshot, or as many commands as one message takes.
pub(super) const MAX_MESSAGE_BYTES: usize = 72 << 20;

/// Connections to other brokers, each made when it is first used and made anew when it breaks.
pub struct Links {
    tls: ClientTls,
    channels: Mutex<HashMap<String, Channel>>,
}

impl std::fmt::Debug for Links {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Links").finish_non_exhaustive()
    }
}

impl Links {
    /// As the broker that `identity` says.
    ///
    /// # Errors
    /// The authority's certificate cannot be used.
    pub fn new(identity: &Arc<Identity>) -> Result<Links, net::tls::TlsError> {
        Ok(Links { tls: identity.tls()?, channels: Mutex::default() })
    }

    /// Asks the broker at `address` which cluster it is of.
    ///
    /// # Errors
    /// It cannot be reached, is none of this installation, or does not answer in time.
    pub async fn about(
        &self,
        address: &str,
        deadline: Duration,
    ) -> Result<AboutResponse, TransportError> {
        let mut client = ClusterClient::new(self.channel(address)?);
        let call = client.about(tonic::Request::new(AboutRequest {}));
        match tokio::time::timeout(deadline, call).await {
            Ok(Ok(answer)) => Ok(answer.into_inner()),
            Ok(Err(status)) => Err(failed(&status)),
            Err(_) => Err(TransportError::Lost(format!("no answer within {deadline:?}"))),
        }
    }

    /// Why the broker at `address` does not take this one's certificate; `None` if it does, or is not
    /// reached in time.
    pub async fn refusal(&self, address: &str, deadline: Duration) -> Option<String> {
        let mut client = ClusterClient::new(self.channel(address).ok()?);
        let call = client.about(tonic::Request::new(AboutRequest {}));
        match tokio::time::timeout(deadline, call).await {
            Ok(Err(status)) if status.code() == tonic::Code::Unauthenticated => {
                Some(status_words(&status))
            }
            _ => None,
        }
    }

    /// Has the broker at `address` handle a request of users; what is told of failures says whether it may
    /// have arrived.
    ///
    /// # Errors
    /// It cannot be reached, refuses, or does not begin to answer in time.
    pub async fn handle(
        &self,
        address: &str,
        request: HandleRequest,
        deadline: Duration,
    ) -> Result<Streaming<PageResponse>, TransportError> {
        let mut client = ReadClient::new(self.channel(address)?);
        match tokio::time::timeout(deadline, client.handle(request)).await {
            Ok(Ok(answer)) => Ok(answer.into_inner()),
            Ok(Err(status)) => Err(failed(&status)),
            Err(_) => Err(TransportError::Lost(format!("no answer within {deadline:?}"))),
        }
    }

    /// The connection to the broker at `address`.
    ///
    /// # Errors
    /// Nothing can be reached under such an address.
    pub fn channel(&self, address: &str) -> Result<Channel, TransportError> {
        let mut channels = self.channels.lock();
        if let Some(channel) = channels.get(address) {
            return Ok(channel.clone());
        }
        let channel = net::channel(address, &self.tls)
            .map_err(|error| TransportError::Unreached(error.to_string()))?;
        channels.insert(address.to_owned(), channel.clone());
        Ok(channel)
    }
}

impl Transport for Links {
    fn call(&self, to: u64, member: &Member, request: Bytes, deadline: Duration) -> Call {
        let channel = self.channel(&member.address);
        Box::pin(async move {
            let mut client = ClusterClient::new(channel?)
                .max_decoding_message_size(MAX_MESSAGE_BYTES)
                .max_encoding_message_size(MAX_MESSAGE_BYTES);
            let request = tonic::Request::new(ConsensusRequest { to, body: request });
            match tokio::time::timeout(deadline, client.consensus(request)).await {
                Ok(Ok(answer)) => Ok(answer.into_inner().body),
                Ok(Err(status)) => Err(failed(&status)),
                Err(_) => Err(TransportError::Lost(format!("no answer within {deadline:?}"))),
            }
        })
    }
}

impl Peers for Links {
    fn fresh(&self, address: &str, request: FreshRequest) -> FreshParts {
        let channel = self.channel(address);
        let call = async move {
            let channel = channel.map_err(|error| Status::unavailable(error.to_string()))?;
            let mut client = ClusterClient::new(channel);
            let parts = client.fresh(request).await?.into_inner();
            Ok::<_, Status>(parts)
        };
        Box::pin(call.try_flatten_stream())
    }

    fn live(&self, address: &str, request: LiveRequest) -> LiveParts {
        let channel = self.channel(address);
        let call = async move {
            let channel = channel.map_err(|error| Status::unavailable(error.to_string()))?;
            Ok::<_, Status>(ClusterClient::new(channel).live(request).await?.into_inner())
        };
        Box::pin(call.try_flatten_stream())
    }

    fn live_lines(&self, address: &str, request: LiveLinesRequest) -> LiveLineParts {
        let channel = self.channel(address);
        let call = async move {
            let channel = channel.map_err(|error| Status::unavailable(error.to_string()))?;
            let client = ClusterClient::new(channel).max_decoding_message_size(MAX_MESSAGE_BYTES);
            Ok::<_, Status>({ client }.live_lines(request).await?.into_inner())
        };
        Box::pin(call.try_flatten_stream())
    }
}

/// What is known of a call that failed. That it did not arrive is certain only where no connection came
/// about, or where the other side refused it.
fn failed(status: &Status) -> TransportError {
    let words = status_words(status);
    if net::never_left(status) {
        return TransportError::Unreached(words);
    }
    match status.code() {
        tonic::Code::Unauthenticated
        | tonic::Code::PermissionDenied
        | tonic::Code::Unimplemented
        | tonic::Code::FailedPrecondition => TransportError::Unreached(words),
        _ => TransportError::Lost(words),
    }
}
