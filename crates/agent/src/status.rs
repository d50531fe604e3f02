//! What only the agent knows of itself, as it tells the broker.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use net::rpc;
use rustix::time::{ClockId, clock_gettime};

use crate::counters::AgentCounters;
use crate::ship::ShipCounters;
use crate::spool::SpoolCounters;

/// What the scraper tells of its targets, for the fleet's table.
#[derive(Debug, Default)]
pub struct TargetCounts {
    up: AtomicU32,
    down: AtomicU32,
    series: AtomicU64,
}

impl TargetCounts {
    /// Sets how many targets answer and how many do not, and how many series those that do have.
    pub fn set(&self, up: u32, down: u32, series: u64) {
        self.up.store(up, Ordering::Relaxed);
        self.down.store(down, Ordering::Relaxed);
        self.series.store(series, Ordering::Relaxed);
    }
}

/// Where the figures of a status come from.
pub(crate) struct StatusSources {
    pub(crate) host: Option<Arc<AgentCounters>>,
    pub(crate) spool: Arc<SpoolCounters>,
    pub(crate) ship: Arc<ShipCounters>,
    pub(crate) targets: Arc<TargetCounts>,
    /// Scraped samples that were taken, and that were too large for any batch.
    pub(crate) offered_samples: u64,
    pub(crate) oversized_samples: u64,
}

impl StatusSources {
    /// The status of this moment. One read of `/proc/self/statm`.
    pub(crate) fn message(&self, now_ms: i64, oldest_ms: Option<i64>) -> rpc::AgentMessage {
        let host = |of: fn(&AgentCounters) -> u64| self.host.as_deref().map_or(0, of);
        let (spool_bytes, spool_limit_bytes) = self.spool.size_and_limit_bytes();
        let status = rpc::Status {
            now_ms,
            spool_bytes,
            spool_limit_bytes,
            oldest_unacknowledged_ms: oldest_ms.unwrap_or(0),
            samples_collected: host(AgentCounters::samples) + self.offered_samples,
            samples_dropped: host(AgentCounters::dropped_samples)
                + self.spool.missing_samples()
                + self.ship.refused_samples()
                + self.oversized_samples,
            batches_dropped: host(AgentCounters::dropped_batches)
                + self.spool.missing_batches()
                + self.ship.refused_batches(),
            active_series: host(AgentCounters::live_series)
                + self.targets.series.load(Ordering::Relaxed),
            resident_bytes: resident_bytes().unwrap_or(0),
            cpu_seconds: cpu_seconds(),
            targets_up: self.targets.up.load(Ordering::Relaxed),
            targets_down: self.targets.down.load(Ordering::Relaxed),
        };
        rpc::AgentMessage { message: Some(rpc::agent_message::Message::Status(status)) }
    }
}

/// Resident memory of this process.
fn resident_bytes() -> Option<u64> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = statm.split(' ').nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as u64)
}

/// CPU time of this process, all threads.
fn cpu_seconds() -> f64 {
    let spent = clock_gettime(ClockId::ProcessCPUTime);
    spent.tv_sec as f64 + spent.tv_nsec as f64 / 1e9
}
