//! What this broker answers others about its heads.

use std::sync::Arc;
use std::time::Duration;

use catalog::State;
use futures_util::stream;
use metricstore::Deletes;
use net::rpc::{FreshEnd, FreshPart, FreshRequest};
use tokio::sync::mpsc;
use tonic::Status;

use super::heads::{Body, Heads};
use super::{BEGIN_WAIT, FreshParts, count};
use crate::Broker;
use crate::cluster::Clustered;

/// Bytes of one part.
const PIECE_BYTES: usize = 512 << 10;
/// Parts that wait for the network; then the rest does.
const WAITING: usize = 4;
/// How often whoever asked is told that the answer is still being made.
const STILL_AT_WORK: Duration = Duration::from_secs(1);

impl Broker {
    /// Answers what another broker asks about the heads of this one. The answer begins when this broker
    /// has applied what it is asked to have applied. The work ends soon when the stream is dropped.
    pub fn answer_fresh(&self, request: FreshRequest) -> FreshParts {
        let (sender, parts) = mpsc::channel(WAITING);
        let broker = self.clone();
        tokio::spawn(async move {
            let Some(clustered) = &broker.inner.clustered else { return };
            if let Err(status) = broker.send_fresh(clustered, request, &sender).await {
                let _ = sender.send(Err(status)).await;
            }
        });
        Box::pin(stream::unfold(
            parts,
            |mut parts| async move { Some((parts.recv().await?, parts)) },
        ))
    }

    async fn send_fresh(
        &self,
        clustered: &Clustered,
        request: FreshRequest,
        sender: &mpsc::Sender<Result<FreshPart, Status>>,
    ) -> Result<(), Status> {
        let others = &clustered.peers;
        if request.to != others.own.0 {
            return Err(Status::failed_precondition(format!(
                "this is broker {}, not broker {}: its address was given to another",
                others.own, request.to
            )));
        }
        if !others.applied(request.at_least, BEGIN_WAIT).await {
            return Err(Status::unavailable("it is behind what the cluster has agreed upon"));
        }
        // Whoever asks reads the segments instead, and tells which of them it cannot read.
        if others.consensus.read(|state| clustered.lacks_unknown(state)) {
            return Err(Status::unavailable("its start could not read all of its segments"));
        }
        let gone = |_| Status::cancelled("nobody waits any more");
        sender.send(Ok(FreshPart::default())).await.map_err(gone)?;
        let turn = clustered.answering.acquire();
        let Some(turn) = net::at_work(turn, sender, STILL_AT_WORK).await else { return Ok(()) };
        let _turn = turn.map_err(|_| Status::unavailable("the broker is stopping"))?;
        let account = self.governor().account();
        let (broker, working) = (self.clone(), Arc::clone(&account));
        let seed = self.inner.config.hash_seed();
        let work = others.work.run(move || {
            let inner = &broker.inner;
            let heads = Heads {
                registry: &inner.registry,
                shards: &inner.shards,
                deletes: &inner.deletes,
                exemplars: &inner.exemplars,
                known_deletes: Deletes::default(),
                log_heads: &inner.lines.heads,
                line_deletes: &inner.lines.deletes,
                known_line_deletes: Arc::new([]),
                log_format: &inner.lines.format,
                seed,
            };
            heads.answer(&request, &working)
        });
        let Some(answer) = net::at_work(work, sender, STILL_AT_WORK).await else {
            account.cancel();
            return Ok(());
        };
        let Body { bytes, deletes_through, held: _held } = answer?;
        // Behind the heads: nothing that had left them by then lacks in the blocks of this version.
        let version = others.consensus.read(State::version);
        count(&others.counters.answered, 1);
        let mut rest = bytes;
        while rest.len() > PIECE_BYTES {
            let piece = rest.split_to(PIECE_BYTES);
            sender.send(Ok(FreshPart { piece, end: None })).await.map_err(gone)?;
        }
        let end = Some(FreshEnd { version, deletes_through });
        sender.send(Ok(FreshPart { piece: rest, end })).await.map_err(gone)
    }
}
