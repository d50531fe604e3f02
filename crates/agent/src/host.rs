//! The thread that runs the passes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::clock::wall_ns;
use crate::config::AgentConfig;
use crate::counters::AgentCounters;
use crate::discovery;
use crate::error::AgentError;
use crate::exposition::{self, Exposition, Questions};
use crate::queue::{BatchReceiver, BatchRing, BatchSender, Bell, queue, ring};
use crate::registry::Registry;

const NS_PER_MS: i64 = 1_000_000;

const THREAD_NAME: &str = "host-collect";

/// The host collectors at work on their own thread. Dropping it stops the thread.
///
/// Passes begin at multiples of the interval since the epoch, one more at once on start, and every
/// sample of a pass bears the same timestamp: the tick's if the pass began within a hundredth of
/// the interval of it, else the time it began. So timestamps of a healthy host are regular,
/// which is what codecs compress best, and never lie by more than 1 % of the interval.
pub struct HostAgent {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    counters: Arc<AgentCounters>,
    exposition: Exposition,
    found: Vec<String>,
}

impl HostAgent {
    /// Starts collecting; the receiver yields one batch per pass.
    ///
    /// # Errors
    /// `OutOfRange` or `UnknownCollector` for the configuration, `Thread` if the system gives no
    /// thread.
    pub fn start(config: AgentConfig) -> Result<(HostAgent, BatchReceiver), AgentError> {
        config.check()?;
        let (sender, receiver) = queue(config.queue_passes);
        Ok((Self::start_sending(config, sender)?, receiver))
    }

    /// Starts collecting into a queue that rings `bell` at each pass.
    ///
    /// # Errors
    /// As [`HostAgent::start`].
    pub(crate) fn start_ringing(
        config: AgentConfig,
        bell: Bell,
    ) -> Result<(HostAgent, BatchRing), AgentError> {
        config.check()?;
        let (sender, receiver) = ring(config.queue_passes, bell);
        Ok((Self::start_sending(config, sender)?, receiver))
    }

    fn start_sending(config: AgentConfig, sender: BatchSender) -> Result<HostAgent, AgentError> {
        let registry = Registry::new(&config)?;
        let counters = Arc::new(AgentCounters::new(&registry.collector_names()));
        let stop = Arc::new(AtomicBool::new(false));
        let (exposition, questions) = exposition::questions();
        let mut passes = Passes {
            registry,
            sender,
            questions,
            counters: Arc::clone(&counters),
            stop: Arc::clone(&stop),
            interval_ms: config.interval_ms as i64,
            last_timestamp_ms: None,
        };
        let found = discovery::found(&config);
        let thread = thread::Builder::new()
            .name(THREAD_NAME.to_owned())
            .spawn(move || passes.run())
            .map_err(|source| AgentError::Thread { name: THREAD_NAME, source })?;
        let exposition = exposition(thread.thread().clone());
        Ok(HostAgent { stop, thread: Some(thread), counters, exposition, found })
    }

    /// The agent's own counters, for `/metrics`.
    pub fn counters(&self) -> &Arc<AgentCounters> {
        &self.counters
    }

    /// Where the current samples can be had as text.
    pub fn exposition(&self) -> &Exposition {
        &self.exposition
    }

    /// What was found on this host at the start, one short line per kind, for people to read.
    pub fn found(&self) -> &[String] {
        &self.found
    }

    /// Stops collecting and waits for the running pass. What is in the queue stays receivable.
    pub fn stop(self) {
        drop(self);
    }
}

impl Drop for HostAgent {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            if thread.join().is_err() {
                tracing::error!("the host collector thread panicked; no host metrics were kept");
            }
        }
    }
}

struct Passes {
    registry: Registry,
    sender: BatchSender,
    questions: Questions,
    counters: Arc<AgentCounters>,
    stop: Arc<AtomicBool>,
    interval_ms: i64,
    last_timestamp_ms: Option<i64>,
}

impl Passes {
    fn run(&mut self) {
        // The first pass comes at once, so that a host is seen before its first second is over,
        // unless the tick is so near that rates between the two would be noise.
        let now_ms = wall_ns() / NS_PER_MS;
        if next_tick(now_ms, self.interval_ms, None) - now_ms >= self.interval_ms / 4 {
            self.pass(now_ms);
        }
        loop {
            let tick_ms =
                next_tick(wall_ns() / NS_PER_MS, self.interval_ms, self.last_timestamp_ms);
            if !self.sleep_until(tick_ms) {
                return;
            }
            let began_ms = wall_ns() / NS_PER_MS;
            let timely = (began_ms - tick_ms).abs() <= self.interval_ms / 100;
            if !timely {
                self.counters.pass_late();
            }
            let timestamp_ms = if timely { tick_ms } else { began_ms };
            // Only if the wall clock was set back to the very millisecond is a time taken.
            if self.last_timestamp_ms != Some(timestamp_ms) {
                self.pass(timestamp_ms);
            }
        }
    }

    fn pass(&mut self, timestamp_ms: i64) {
        let began = Instant::now();
        self.last_timestamp_ms = Some(timestamp_ms);
        let empty = self.sender.empty_batch();
        let batch = self.registry.pass(timestamp_ms, wall_ns(), empty, &self.counters);
        let samples = batch.rows();
        if self.sender.send(batch) {
            self.registry.delivered();
        } else {
            self.counters.batch_dropped(samples);
        }
        self.counters.pass_done(samples, self.registry.live_series(), began.elapsed());
    }

    /// Sleeps until the wall clock should show `tick_ms`; false when it is time to end.
    fn sleep_until(&self, tick_ms: i64) -> bool {
        let left_ns = (tick_ms * NS_PER_MS).saturating_sub(wall_ns());
        let wake_at = Instant::now() + Duration::from_nanos(u64::try_from(left_ns).unwrap_or(0));
        loop {
            if self.stop.load(Ordering::Acquire) || self.sender.is_abandoned() {
                return false;
            }
            self.questions.answer(|| self.registry.page());
            let left = wake_at.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return true;
            }
            thread::park_timeout(left);
        }
    }
}

/// The first multiple of the interval after `now_ms` that is not the tick of the last pass, which
/// it would be if that pass began a little early.
fn next_tick(now_ms: i64, interval_ms: i64, last_timestamp_ms: Option<i64>) -> i64 {
    let tick_ms = now_ms - now_ms.rem_euclid(interval_ms) + interval_ms;
    if last_timestamp_ms == Some(tick_ms) { tick_ms + interval_ms } else { tick_ms }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_multiples_and_never_come_twice() {
        assert_eq!(next_tick(1_500, 1_000, None), 2_000);
        assert_eq!(next_tick(2_000, 1_000, Some(2_000)), 3_000);
        // The pass for 2 s began at 1,999 ms by the wall clock and is over.
        assert_eq!(next_tick(1_999, 1_000, Some(2_000)), 3_000);
        // The clock was set back by an hour.
        assert_eq!(next_tick(1_500, 1_000, Some(3_602_000)), 2_000);
        assert_eq!(next_tick(-1, 1_000, None), 0);
    }
}
