//! Graphite's plaintext and OpenTSDB's telnet protocol: lines over TCP, without answers.

use std::sync::Arc;
use std::time::{Duration, Instant};

use model::{DEFAULT_TENANT, MetricBatch};
use tokio::sync::oneshot;
use wire::{Refusals, graphite, opentsdb};

use crate::Broker;
use crate::commit::CommitError;
use crate::ingest::IngestOutcome;

/// A protocol of lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LineProtocol {
    /// `path value [timestamp]`.
    Graphite,
    /// `put metric timestamp value tag=value…`.
    OpenTsdb,
}

/// Between tries while the broker takes nothing; meanwhile nothing more is read of the connection.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

impl Broker {
    /// Stores lines and returns when they are durable. While there is no room for them it tries
    /// again, until the broker stops. The protocols have no answer, so what was refused for good is
    /// counted and told in the log.
    pub async fn ingest_lines(&self, protocol: LineProtocol, lines: Vec<u8>) {
        let mut batch = MetricBatch::default();
        // At most 64 KiB: far less than a millisecond.
        let decoded = match protocol {
            LineProtocol::Graphite => {
                graphite::decode(&lines, self.now_ms(), &self.limits(), &mut batch)
            }
            LineProtocol::OpenTsdb => opentsdb::decode_lines(&lines, &self.limits(), &mut batch),
        };
        let result = match decoded {
            Ok(refusals) => match self.ingest_patiently(protocol, Arc::new(batch)).await {
                Ok(outcome) => Ok((refusals, outcome)),
                Err(error) => Err(error.to_string()),
            },
            Err(error) => Err(error.to_string()),
        };
        match result {
            Ok((refusals, outcome)) => self.tell(protocol, refusals, outcome),
            Err(error) => {
                let lines = lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
                self.count_lines_refused(lines.count() as u64);
                self.complain(
                    protocol,
                    &error,
                    "lines were not stored, and the sender cannot know",
                );
            }
        }
    }

    /// Stores a batch, again and again while the reason that it is not is one that passes.
    async fn ingest_patiently(
        &self,
        protocol: LineProtocol,
        batch: Arc<MetricBatch>,
    ) -> Result<IngestOutcome, CommitError> {
        loop {
            let (stored, answer) = oneshot::channel();
            let (broker, batch) = (self.clone(), Arc::clone(&batch));
            let work = move || {
                broker.ingest(DEFAULT_TENANT, &batch, move |result| {
                    let _ = stored.send(result);
                });
            };
            if self.is_congested() {
                self.off_the_sockets(work).await;
            } else {
                work();
            }
            let error = match answer.await {
                Ok(Ok(outcome)) => return Ok(outcome),
                Ok(Err(error)) => error,
                Err(_) => CommitError::Stopping,
            };
            if !error.passes() || self.ready().is_err() {
                return Err(error);
            }
            self.complain(protocol, &error.to_string(), "lines have to wait");
            tokio::time::sleep(RETRY_PAUSE).await;
        }
    }

    fn tell(&self, protocol: LineProtocol, refusals: Refusals, mut outcome: IngestOutcome) {
        let lines: u64 = refusals.iter().map(|refused| refused.series).sum();
        self.count_lines_refused(lines);
        outcome.add_refusals(refusals);
        if let Some(complaint) = outcome.complaint() {
            self.complain(protocol, &complaint, "some lines were not stored");
        }
    }

    /// A line in the log, unless one like it was written lately.
    fn complain(&self, protocol: LineProtocol, complaint: &str, what: &str) {
        if let Some(more) = self.inner.line_complaints.may_say(complaint, Instant::now()) {
            tracing::warn!(?protocol, complaint, more_like_it_before = more, "{what}");
        }
    }
}
