//! How much payload of agents may be in memory at once.

use std::ops::RangeInclusive;
use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Payload that may be under way over all agents, from its arrival until it is acknowledged, is this
/// part of the memory that the process may take …
const MEMORY_SHARE: u64 = 16;
/// … within these.
const TOTAL_BYTES: RangeInclusive<u64> = 8 << 20..=128 << 20;
/// The unit in which it is given out.
const UNIT_BYTES: usize = 1 << 10;
/// What one agent may have under way when there are very many, and when there are few.
const WINDOW_BYTES: RangeInclusive<usize> = 16 << 10..=8 << 20;

/// The payload of all agents that is under way.
#[derive(Debug)]
pub(crate) struct PayloadBudget {
    units: Arc<Semaphore>,
    total_bytes: usize,
}

impl PayloadBudget {
    /// A budget of a process that may take so much memory.
    pub(crate) fn new(memory_bytes: u64) -> Self {
        let share = memory_bytes / MEMORY_SHARE;
        // At most 128 MiB.
        let total_bytes = share.clamp(*TOTAL_BYTES.start(), *TOTAL_BYTES.end()) as usize;
        let units = Arc::new(Semaphore::new(total_bytes / UNIT_BYTES));
        PayloadBudget { units, total_bytes }
    }

    /// What each of so many agents may have under way. An agent may always send one batch.
    pub(super) fn window_bytes(&self, agents: usize) -> usize {
        (self.total_bytes / agents.max(1)).clamp(*WINDOW_BYTES.start(), *WINDOW_BYTES.end())
    }

    /// Waits until a payload may be under way; what it yields is held until it no longer is.
    pub(super) async fn admit(&self, payload_bytes: usize) -> OwnedSemaphorePermit {
        let units = u32::try_from(payload_bytes.div_ceil(UNIT_BYTES));
        let units = units.expect("a message has a few megabytes");
        // A message that is larger than all of it has it alone.
        let units = units.min((self.total_bytes / UNIT_BYTES) as u32);
        let admitted = Arc::clone(&self.units).acquire_many_owned(units).await;
        admitted.expect("the semaphore is never closed")
    }

    /// What is under way now, rounded up for each payload.
    pub(crate) fn taken_bytes(&self) -> usize {
        self.total_bytes - self.units.available_permits() * UNIT_BYTES
    }
}
