//! Graphite's plaintext and OpenTSDB's telnet protocol: lines over TCP, without answers.

use model::{DEFAULT_TENANT, MetricBatch};
use tokio::sync::oneshot;
use wire::{Refusals, graphite, opentsdb};

use crate::Broker;
use crate::ingest::IngestOutcome;

/// A protocol of lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LineProtocol {
    /// `path value [timestamp]`.
    Graphite,
    /// `put metric timestamp value tag=value…`.
    OpenTsdb,
}

impl Broker {
    /// Stores lines and returns when they are durable. The protocols have no answer, so what was
    /// refused is counted and told in the log.
    pub async fn ingest_lines(&self, protocol: LineProtocol, lines: Vec<u8>) {
        let (stored, answer) = oneshot::channel();
        let broker = self.clone();
        let work = move || {
            let mut batch = MetricBatch::default();
            let refusals = match protocol {
                LineProtocol::Graphite => {
                    graphite::decode(&lines, broker.now_ms(), broker.limits(), &mut batch)
                }
                LineProtocol::OpenTsdb => {
                    opentsdb::decode_lines(&lines, broker.limits(), &mut batch)
                }
            };
            broker.ingest(DEFAULT_TENANT, &batch, move |result| {
                let _ = stored.send(result);
            });
            refusals
        };
        // At most 64 KiB: far less than a millisecond, unless the disk is behind.
        let refusals = if self.is_congested() { self.off_the_sockets(work).await } else { work() };
        let result = match (refusals, answer.await) {
            (Ok(refusals), Ok(Ok(outcome))) => Ok((refusals, outcome)),
            (Err(error), _) => Err(error.to_string()),
            (Ok(_), Ok(Err(error))) => Err(error.to_string()),
            (Ok(_), Err(_)) => Err("the broker is stopping".to_owned()),
        };
        match result {
            Ok((refusals, outcome)) => self.tell(protocol, refusals, outcome),
            Err(error) => {
                tracing::warn!(
                    ?protocol,
                    error,
                    "lines were not stored, and the sender cannot know"
                );
            }
        }
    }

    fn tell(&self, protocol: LineProtocol, refusals: Refusals, mut outcome: IngestOutcome) {
        let lines: u64 = refusals.iter().map(|refused| refused.series).sum();
        self.count_lines_refused(lines);
        outcome.add_refusals(refusals);
        if let Some(complaint) = outcome.complaint() {
            tracing::warn!(?protocol, complaint, "some lines were not stored");
        }
    }
}
