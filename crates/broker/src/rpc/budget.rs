//! How much payload of agents may be in memory at once.

use std::ops::RangeInclusive;
use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Payload that may be under way over all agents, from its arrival until it is acknowledged.
const TOTAL_BYTES: usize = 128 << 20;
/// The unit in which it is given out.
const UNIT_BYTES: usize = 1 << 10;
/// What one agent may have under way when there are very many, and when there are few.
const WINDOW_BYTES: RangeInclusive<usize> = 16 << 10..=8 << 20;

/// The payload of all agents that is under way.
#[derive(Debug)]
pub(crate) struct PayloadBudget(Arc<Semaphore>);

impl Default for PayloadBudget {
    fn default() -> Self {
        PayloadBudget(Arc::new(Semaphore::new(TOTAL_BYTES / UNIT_BYTES)))
    }
}

impl PayloadBudget {
    /// What each of so many agents may have under way. An agent may always send one batch.
    pub(super) fn window_bytes(agents: usize) -> usize {
        (TOTAL_BYTES / agents.max(1)).clamp(*WINDOW_BYTES.start(), *WINDOW_BYTES.end())
    }

    /// Waits until a payload may be under way; what it yields is held until it no longer is.
    pub(super) async fn admit(&self, payload_bytes: usize) -> OwnedSemaphorePermit {
        let units = u32::try_from(payload_bytes.div_ceil(UNIT_BYTES));
        let units = units.expect("a message has a few megabytes");
        let admitted = Arc::clone(&self.0).acquire_many_owned(units).await;
        admitted.expect("the semaphore is never closed")
    }

    /// What is under way now, rounded up for each payload.
    pub(crate) fn taken_bytes(&self) -> usize {
        TOTAL_BYTES - self.0.available_permits() * UNIT_BYTES
    }
}
