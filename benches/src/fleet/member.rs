//! One simulated agent: a certificate of its own, a connection of its own, and what it would
//! collect.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use model::{Labels, MetricBatch};
use net::rpc::agent_message::Message as ToBroker;
use net::rpc::broker_message::Message as FromBroker;
use net::rpc::ingest_client::IngestClient;
use net::rpc::{AgentMessage, Batch, BrokerMessage, Hello, Lane, Welcome};
use net::tls::ClientTls;
use net::{Identity, Role};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use crate::families::Fleet;
use crate::values::Values;

/// As an agent waits, from the first packet to the broker's answer.
const OPEN_TIMEOUT: Duration = Duration::from_secs(20);
/// Agents that join at once.
const JOINING: usize = 32;
/// Batches that wait to be written to the connection.
const QUEUE: usize = 64;
const SEED: u64 = 0x00f1_ee70;

/// An agent that has joined.
pub(crate) struct Member {
    pub(crate) index: usize,
    /// Every broker, as it was told.
    targets: Arc<[String]>,
    tls: ClientTls,
    hello: Hello,
}

/// A stream that the broker has welcomed.
pub(crate) struct Session {
    sender: mpsc::Sender<AgentMessage>,
    answers: Streaming<BrokerMessage>,
    /// Number of the last live batch that was sent.
    seq: u64,
}

/// Lets agents join the brokers at `targets`, each by the RPC that real agents call.
pub(crate) async fn join(
    count: usize,
    targets: &[SocketAddr],
    token: &str,
    directory: &Path,
) -> Result<Vec<Arc<Member>>> {
    let targets: Arc<[String]> = targets.iter().map(SocketAddr::to_string).collect();
    let mut joining = JoinSet::new();
    let mut members = Vec::with_capacity(count);
    for index in 0..count {
        if joining.len() == JOINING {
            members.push(joining.join_next().await.context("some join")???);
        }
        let directory = directory.join(index.to_string());
        let (targets, token) = (Arc::clone(&targets), token.to_owned());
        joining.spawn(async move { Member::join(index, targets, &token, &directory).await });
    }
    while let Some(member) = joining.join_next().await {
        members.push(member??);
    }
    members.sort_by_key(|member| member.index);
    Ok(members.into_iter().map(Arc::new).collect())
}

impl Member {
    async fn join(
        index: usize,
        targets: Arc<[String]>,
        token: &str,
        directory: &Path,
    ) -> Result<Member> {
        let name = format!("agent-{index:05}");
        let target = &targets[index % targets.len()];
        let identity =
            Identity::load_or_join(directory, target, Some(token), &name, Role::Agent).await?;
        let hello = Hello {
            incarnation: Bytes::copy_from_slice(&(index as u128 + 1).to_le_bytes()),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            hostname: name,
            started_ms: now_ms(),
            ..Hello::default()
        };
        Ok(Member { index, targets, tls: identity.tls()?, hello })
    }

    /// Opens a connection to its own broker, or after so many attempts that failed to the one that many places
    /// further, and a stream on it, and is welcomed.
    pub(crate) async fn open(&self, failed: usize) -> Result<Session> {
        let target = &self.targets[(self.index + failed) % self.targets.len()];
        timeout(OPEN_TIMEOUT, self.greet(target)).await.context("no answer within 20 s")?
    }

    async fn greet(&self, target: &str) -> Result<Session> {
        let mut client = IngestClient::new(net::channel(target, &self.tls)?);
        let (sender, queue) = mpsc::channel(QUEUE);
        sender.send(AgentMessage { message: Some(ToBroker::Hello(self.hello.clone())) }).await?;
        let mut answers = client.push(ReceiverStream::new(queue)).await?.into_inner();
        match answers.message().await?.and_then(|message| message.message) {
            Some(FromBroker::Welcome(Welcome { live_through_seq, .. })) => {
                Ok(Session { sender, answers, seq: live_through_seq })
            }
            other => bail!("instead of a welcome: {other:?}"),
        }
    }
}

impl Session {
    /// Sends a batch and yields its number.
    pub(crate) async fn send(&mut self, batch: &MetricBatch) -> Result<u64> {
        let seq = self.seq + 1;
        self.send_numbered(numbered(seq, batch)).await?;
        Ok(seq)
    }

    /// Sends a batch that has its number already.
    pub(crate) async fn send_numbered(&mut self, batch: Batch) -> Result<()> {
        self.seq = batch.seq;
        Ok(self.sender.send(AgentMessage { message: Some(ToBroker::Batch(batch)) }).await?)
    }

    /// Number of the last batch: of those that were sent, or at first of those that were stored.
    pub(crate) fn seq(&self) -> u64 {
        self.seq
    }

    /// The number through which all is acknowledged, when there is a new one. Keeps nothing if it
    /// is given up.
    ///
    /// # Errors
    /// The stream ended, or the broker refused something.
    pub(crate) async fn acknowledged(&mut self) -> Result<u64> {
        match self.answers.message().await?.context("the broker ended the stream")?.message {
            Some(FromBroker::Ack(ack)) if ack.refused_samples == 0 => Ok(ack.through_seq),
            other => bail!("the broker says {other:?}"),
        }
    }
}

/// A batch of the live lane that follows the one before it.
pub(crate) fn numbered(seq: u64, batch: &MetricBatch) -> Batch {
    let mut payload = Vec::new();
    wire::agent_batch::encode(batch, &mut payload);
    Batch {
        lane: Lane::Live as i32,
        seq,
        after_seq: seq - 1,
        created_ms: now_ms(),
        payload: payload.into(),
    }
}

/// What one agent collects.
pub(super) struct Collected {
    batch: MetricBatch,
    values: Vec<Values>,
}

impl Collected {
    /// The first `series` of a host's, see `families.rs`.
    pub(super) fn new(index: usize, series: usize) -> Result<Collected> {
        let (mut batch, mut values) = (MetricBatch::default(), Vec::with_capacity(series));
        let instance = format!("web-{index:05}.eu-west-1.example.com");
        'all: for families in Fleet::Node.families() {
            let combinations = families.combinations();
            for name in families.names {
                for (place, labels) in combinations.iter().enumerate() {
                    if values.len() == series {
                        break 'all;
                    }
                    let fixed =
                        [("__name__", *name), ("instance", instance.as_str()), ("job", "node")];
                    let labels = labels.iter().copied().chain(fixed);
                    batch.push(&Labels::from_pairs(labels)?, 0, 0.0);
                    let seed = SEED ^ ((index as u64) << 20) ^ values.len() as u64;
                    values.push(Values::new(families.behaviour, place < families.moving, seed));
                }
            }
        }
        Ok(Collected { batch, values })
    }

    /// What a pass at this moment finds.
    pub(super) fn pass(&mut self) -> &MetricBatch {
        let t_ms = now_ms();
        self.batch.timestamps_ms.fill(t_ms);
        for (value, values) in self.batch.values.iter_mut().zip(&mut self.values) {
            *value = values.next(t_ms);
        }
        &self.batch
    }
}

pub(crate) fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
