//! The thread that runs the passes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::config::AgentConfig;
use crate::counters::AgentCounters;
use crate::discovery;
use crate::error::AgentError;
use crate::queue::{BatchReceiver, BatchSender, queue};
use crate::registry::Registry;

const THREAD_NAME: &str = "host-collect";

/// The host collectors at work on their own thread. Dropping it stops the thread.
///
/// Passes begin at multiples of the interval since the epoch, one more at once on start, and every
/// sample of a pass bears the same timestamp: the tick's if the pass began within a hundredth of
/// the interval after it, else the time it began. So timestamps of a healthy host are regular,
/// which is what codecs compress best, and never lie by more than 1 % of the interval.
pub struct HostAgent {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    counters: Arc<AgentCounters>,
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
        let registry = Registry::new(&config)?;
        let counters = Arc::new(AgentCounters::new(&registry.collector_names()));
        let stop = Arc::new(AtomicBool::new(false));
        let (sender, receiver) = queue(config.queue_passes);
        let mut passes = Passes {
            registry,
            sender,
            counters: Arc::clone(&counters),
            stop: Arc::clone(&stop),
            interval_ms: config.interval_ms,
            last_timestamp_ms: None,
        };
        let found = discovery::found(&config);
        let thread = thread::Builder::new()
            .name(THREAD_NAME.to_owned())
            .spawn(move || passes.run())
            .map_err(|source| AgentError::Thread { name: THREAD_NAME, source })?;
        Ok((HostAgent { stop, thread: Some(thread), counters, found }, receiver))
    }

    /// The agent's own counters, for `/metrics`.
    pub fn counters(&self) -> &Arc<AgentCounters> {
        &self.counters
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
    counters: Arc<AgentCounters>,
    stop: Arc<AtomicBool>,
    interval_ms: u64,
    last_timestamp_ms: Option<i64>,
}

impl Passes {
    fn run(&mut self) {
        // The first pass comes at once, so that a host is seen before its first second is over,
        // unless the tick is so near that rates between the two would be noise.
        if self.until_next_tick() >= Duration::from_millis(self.interval_ms / 4) {
            self.pass(now_ns() / 1_000_000);
        }
        while self.wait_for_tick() {
            let began_ms = now_ns() / 1_000_000;
            let interval_ms = self.interval_ms as i64;
            let tick_ms = began_ms - began_ms.rem_euclid(interval_ms);
            let timely = began_ms - tick_ms <= interval_ms / 100;
            if !timely {
                self.counters.pass_late();
            }
            let timestamp_ms = if timely { tick_ms } else { began_ms };
            // The wall clock was set back by less than an interval: this time is taken.
            if self.last_timestamp_ms != Some(timestamp_ms) {
                self.pass(timestamp_ms);
            }
        }
    }

    fn pass(&mut self, timestamp_ms: i64) {
        let began = Instant::now();
        self.last_timestamp_ms = Some(timestamp_ms);
        let empty = self.sender.empty_batch();
        let batch = self.registry.pass(timestamp_ms, now_ns(), empty, &self.counters);
        let samples = batch.rows();
        if self.sender.send(batch) {
            self.registry.delivered();
        } else {
            self.counters.batch_dropped(samples);
        }
        self.counters.pass_done(samples, self.registry.live_series(), began.elapsed());
    }

    /// Sleeps until the next tick; false when it is time to end.
    fn wait_for_tick(&self) -> bool {
        let wake_at = Instant::now() + self.until_next_tick();
        loop {
            if self.stop.load(Ordering::Acquire) || self.sender.is_abandoned() {
                return false;
            }
            let left = wake_at.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return true;
            }
            thread::park_timeout(left);
        }
    }

    fn until_next_tick(&self) -> Duration {
        let interval_ns = self.interval_ms as i64 * 1_000_000;
        let left_ns = interval_ns - now_ns().rem_euclid(interval_ns);
        Duration::from_nanos(left_ns as u64)
    }
}

/// Wall clock, nanoseconds since the epoch.
fn now_ns() -> i64 {
    match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_nanos()).unwrap_or(i64::MAX),
        Err(before) => -i64::try_from(before.duration().as_nanos()).unwrap_or(i64::MAX),
    }
}
