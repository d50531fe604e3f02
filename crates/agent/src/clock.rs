//! The time as both clocks show it.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// One moment on the monotonic and on the wall clock.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Now {
    /// For how long things take.
    pub(crate) at: Instant,
    /// For what is written down; milliseconds since the epoch.
    pub(crate) wall_ms: i64,
}

impl Now {
    /// This moment.
    pub(crate) fn get() -> Now {
        Now { at: Instant::now(), wall_ms: wall_ns() / 1_000_000 }
    }
}

/// Wall clock, nanoseconds since the epoch.
pub(crate) fn wall_ns() -> i64 {
    match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_nanos()).unwrap_or(i64::MAX),
        Err(before) => -i64::try_from(before.duration().as_nanos()).unwrap_or(i64::MAX),
    }
}
