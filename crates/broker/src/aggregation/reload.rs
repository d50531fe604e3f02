//! Other rules while the process runs.
//!
//! ```text
//! prepare: rules that are new begin with their windows in the file, durably   (may fail, can be undone)
//! put:     batches are split by the new rules; those split by the old ones are in the log
//!          rules that are gone end behind the last of those
//! ```
//!
//! So what is acknowledged is stored or counts for a rule, at each moment and through a kill at any.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use blockstore::BlobError;
use catalog::LogPosition;
use crossbeam_channel::{RecvTimeoutError, bounded};
use settings::stream_aggregation::AggregationRule;

use super::orders::Orders;
use super::{AggregationConfig, Follower, Opened, READER};
use crate::Broker;
use crate::commit::Message;
use crate::committer::stop;
use crate::shards::AbortOnPanic;

/// How long the follower may be busy with what it has before a reload is refused.
const BUSY_FOR: Duration = Duration::from_secs(10);

/// The thread that follows the log.
pub(crate) struct RunningFollower {
    pub(crate) thread: std::thread::JoinHandle<()>,
    pub(super) orders: Arc<Orders>,
}

/// Rules that are ready to be [put in effect](Broker::put_aggregation). Dropped, they are forgotten.
pub(crate) struct PreparedAggregation {
    broker: Broker,
    /// `None` if these are in effect already.
    config: Option<AggregationConfig>,
    /// Rules that have begun for it.
    begun: Vec<AggregationRule>,
}

impl AggregationConfig {
    /// Whether the same happens to the same samples.
    fn is_just(&self, other: &AggregationConfig) -> bool {
        let identities = |config: &AggregationConfig| {
            config.rules.iter().map(|rule| rule.identity.clone()).collect::<Vec<_>>()
        };
        (self.keep_input, self.drop_input) == (other.keep_input, other.drop_input)
            && identities(self) == identities(other)
    }
}

impl Broker {
    /// Begins rules that are new, durably.
    ///
    /// # Errors
    /// The disk takes nothing, or windows wait for room.
    pub(crate) fn prepare_aggregation(
        &self,
        config: &AggregationConfig,
    ) -> Result<PreparedAggregation> {
        let known = self.inner.aggregation.config();
        let is_new = |rule: &&AggregationRule| {
            !known.rules.iter().any(|known| known.identity == rule.identity)
        };
        let begun: Vec<_> = config.rules.iter().filter(is_new).cloned().collect();
        // Where rules only go, nobody waits for the follower: it may be waiting for room because of them.
        if !begun.is_empty() {
            if self.inner.clustered.is_some() {
                bail!(
                    "stream_aggregation follows the log of one machine: leave it out in a cluster"
                );
            }
            self.begin_rules(&begun).context("begin rules of stream_aggregation")?;
        }
        let config = (!known.is_just(config)).then(|| config.clone());
        Ok(PreparedAggregation { broker: self.clone(), config, begun })
    }

    fn begin_rules(&self, rules: &[AggregationRule]) -> Result<()> {
        let mut follower = self.inner.follower.lock();
        // Whoever stops takes the thread after saying so.
        if self.inner.aggregation.stopping.load(Ordering::Acquire) {
            bail!("the broker is stopping");
        }
        if self.inner.aggregation.config().rules.is_empty()
            && let Some(ending) = follower.take()
        {
            // Of rules that were removed a while ago.
            if !ending.thread.is_finished() {
                *follower = Some(ending);
                bail!("rules that were removed write their last windows; try again in a moment");
            }
            let _ = ending.thread.join();
        }
        let Some(running) = &*follower else {
            let following = &self.inner.following;
            let mut end = following.durable();
            loop {
                following.hold(READER, end);
                let now = following.durable();
                // Otherwise the file may have gone before it was held.
                if now.file == end.file {
                    break;
                }
                end = now;
            }
            let start = || match Opened::begin(&self.inner.disk, rules, end, self.now_ms()) {
                Ok(opened) => self.start_follower(opened),
                // What of the file is on the disk is unknown from now on.
                Err(error @ BlobError::SyncFailed { .. }) => stop(&error),
                Err(error) => Err(anyhow!(error).context("write the open windows")),
            };
            *follower = Some(start().inspect_err(|_| following.release(READER))?);
            return Ok(());
        };
        let (reply, answer) = bounded(1);
        running.orders.begin(rules.to_vec(), reply);
        self.inner.following.wake_all();
        match answer.recv_timeout(BUSY_FOR) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(reason)) => bail!("{reason}"),
            Err(RecvTimeoutError::Timeout) => {
                running.orders.forget(rules.to_vec());
                bail!(
                    "windows that have ended wait for room for their series, see the log: rules can go \
                     now and limits be raised, but new rules have to wait; try again when there is room"
                )
            }
            Err(RecvTimeoutError::Disconnected) => bail!("the broker is stopping"),
        }
    }

    /// Starts the thread that aggregates.
    pub(crate) fn start_follower(&self, opened: Opened) -> Result<RunningFollower> {
        let orders = Arc::<Orders>::default();
        let follower = Follower::new(opened, self, Arc::clone(&orders));
        let thread = std::thread::Builder::new()
            .name("aggregation".to_owned())
            .spawn(move || {
                let _guard = AbortOnPanic("aggregation");
                follower.run();
            })
            .context("start the thread that aggregates")?;
        Ok(RunningFollower { thread, orders })
    }

    /// Puts what is prepared in effect.
    pub(crate) fn put_aggregation(&self, mut prepared: PreparedAggregation) {
        prepared.begun.clear();
        let Some(config) = prepared.config.take() else { return };
        let rules = config.rules.clone();
        let (reply, answer) = bounded(1);
        let is_sent = {
            // Whoever splits a batch holds it until the batch is in the committer's queue.
            let _resolving = self.inner.resolving.write();
            self.inner.aggregation.set(config);
            let done = Box::new(move || _ = reply.send(()));
            self.send(Message::Fence { done }).is_ok()
        };
        // Otherwise the broker stops, and a start reads the rules there are then.
        if is_sent && answer.recv().is_ok() {
            self.keep_rules(rules, self.inner.following.durable());
        }
    }

    fn keep_rules(&self, rules: Vec<AggregationRule>, through: LogPosition) {
        if let Some(running) = &*self.inner.follower.lock() {
            // One that has ended has no rules.
            running.orders.keep(rules, through);
        }
        self.inner.following.wake_all();
    }
}

impl Drop for PreparedAggregation {
    fn drop(&mut self) {
        if self.begun.is_empty() {
            return;
        }
        let inner = &self.broker.inner;
        if let Some(running) = &*inner.follower.lock() {
            running.orders.forget(std::mem::take(&mut self.begun));
        }
        inner.following.wake_all();
    }
}
