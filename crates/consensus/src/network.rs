//! Members reach each other by a [`Transport`] of the caller's.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use openraft::error::{
    Fatal, NetworkError, RPCError, RaftError, ReplicationClosed, StreamingError, Unreachable,
};
use openraft::network::{Backoff, RPCOption, RaftNetwork, RaftNetworkFactory};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, VoteRequest, VoteResponse,
};
use openraft::storage::Snapshot;
use openraft::{OptionalSend, RaftTypeConfig};
use tokio::time::Instant;

use crate::message::{Request, Response};
use crate::types::{Member, Seat, Types, Vote};

/// A request on its way.
pub type Call = Pin<Box<dyn Future<Output = Result<Bytes, TransportError>> + Send>>;

/// Brings requests to other members. Bytes are opaque: the other side gives them to
/// [`crate::Consensus::answer`], whose result comes back.
pub trait Transport: Send + Sync + 'static {
    /// Asks one member. After `deadline` nobody waits any more.
    fn call(&self, to: u64, member: &Member, request: Bytes, deadline: Duration) -> Call;
}

/// Why there is no answer.
#[derive(Debug, Clone, thiserror::Error)]
pub enum TransportError {
    /// The request was not sent: nothing came of it.
    #[error("{0}")]
    Unreached(String),
    /// Nobody knows whether it arrived.
    #[error("{0}")]
    Lost(String),
}

/// How long to wait before a member that cannot be reached is tried again.
const RETRY_AFTER: Duration = Duration::from_millis(100);
/// Snapshots are sent in parts of this size, so that a link that is cut is noticed soon.
const PART_BYTES: usize = 128 << 10;
/// Longest time for a part, also over a slow link.
const PART_DEADLINE: Duration = Duration::from_secs(5);
/// Longest time until a snapshot that is there is in use …
const INSTALL_DEADLINE: Duration = Duration::from_secs(30);
/// … and how long to wait before it is asked again whether it is: the question or the answer may be lost,
/// and until it is known nothing else is sent to that member.
const ASK_AGAIN: Duration = Duration::from_secs(2);

type NodeId = <Types as RaftTypeConfig>::NodeId;
type CallError<E> = RPCError<NodeId, Seat, RaftError<NodeId, E>>;

/// Makes a [`Link`] to each member.
pub(crate) struct Links(pub(crate) Arc<dyn Transport>);

/// The way to one member.
pub(crate) struct Link {
    transport: Arc<dyn Transport>,
    to: u64,
    seat: Seat,
}

impl RaftNetworkFactory<Types> for Links {
    type Network = Link;

    async fn new_client(&mut self, to: u64, seat: &Seat) -> Link {
        Link { transport: Arc::clone(&self.0), to, seat: seat.clone() }
    }
}

impl Link {
    async fn ask(&self, request: Request, deadline: Duration) -> Result<Response, TransportError> {
        let Seat { member, incarnation } = &self.seat;
        let request = request.encode(*incarnation);
        let answer = self.transport.call(self.to, member, request, deadline).await?;
        Response::decode(&answer).map_err(|error| TransportError::Lost(error.to_string()))
    }

    async fn send_snapshot(
        &self,
        vote: Vote,
        snapshot: Snapshot<Types>,
    ) -> Result<SnapshotResponse<u64>, TransportError> {
        let Snapshot { meta, snapshot } = snapshot;
        let lost = |said: &Response| TransportError::Lost(format!("it answered {said:?}"));
        let mut offset = 0;
        for part in snapshot.chunks(PART_BYTES) {
            let (id, bytes) = (meta.snapshot_id.clone(), part.to_vec());
            let request = Request::SnapshotPart { vote, id, offset, bytes };
            offset += part.len() as u64;
            match self.ask(request, PART_DEADLINE).await? {
                Response::SnapshotParts(there) if there == offset => {}
                // It knows of a later leader.
                Response::Snapshot(response) => return Ok(response),
                other => return Err(lost(&other)),
            }
        }
        let end = Instant::now() + INSTALL_DEADLINE;
        loop {
            let request = Request::Snapshot { vote, meta: meta.clone(), size_bytes: offset };
            match self.ask(request, ASK_AGAIN).await {
                Ok(Response::Snapshot(response)) => return Ok(response),
                Ok(other) => return Err(lost(&other)),
                Err(TransportError::Lost(_)) if Instant::now() < end => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn unfit<E: std::error::Error>(&self, response: &Response) -> CallError<E> {
        let said = match response {
            Response::Failed(reason) => reason.clone(),
            other => format!("it answered {other:?}"),
        };
        let fault = std::io::Error::other(said);
        // Unreachable, so that it is not asked again at once.
        RPCError::Unreachable(Unreachable::new(&fault))
    }
}

fn call_error<E: std::error::Error>(error: &TransportError) -> CallError<E> {
    match error {
        TransportError::Unreached(_) => RPCError::Unreachable(Unreachable::new(error)),
        TransportError::Lost(_) => RPCError::Network(NetworkError::new(error)),
    }
}

impl RaftNetwork<Types> for Link {
    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<Types>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<u64>, RPCError<u64, Seat, RaftError<u64>>> {
        match self.ask(Request::Append(request), option.hard_ttl()).await {
            Ok(Response::Append(response)) => Ok(response),
            Ok(other) => Err(self.unfit(&other)),
            Err(error) => Err(call_error(&error)),
        }
    }

    async fn vote(
        &mut self,
        request: VoteRequest<u64>,
        option: RPCOption,
    ) -> Result<VoteResponse<u64>, RPCError<u64, Seat, RaftError<u64>>> {
        match self.ask(Request::Vote(request), option.hard_ttl()).await {
            Ok(Response::Vote(response)) => Ok(response),
            Ok(other) => Err(self.unfit(&other)),
            Err(error) => Err(call_error(&error)),
        }
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot<Types>,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<u64>, StreamingError<Types, Fatal<u64>>> {
        tokio::select! {
            biased;
            closed = cancel => Err(StreamingError::Closed(closed)),
            sent = self.send_snapshot(vote, snapshot) => {
                sent.map_err(|error| StreamingError::Unreachable(Unreachable::new(&error)))
            }
        }
    }

    fn backoff(&self) -> Backoff {
        Backoff::new(std::iter::repeat(RETRY_AFTER))
    }
}
