//! What memory makes due: flushes before their time, and series to be forgotten.

use std::time::Duration;

use governor::Governor;

use super::Maintenance;

/// How often idle series are looked for while memory is short.
const SHORT_SWEEP_MS: u64 = 10_000;
/// A series without samples for this long gives its ordinal back; earlier where memory is short.
const IDLE_MS: i64 = 2 * 60 * 60 * 1_000;
/// Memory makes no flush due sooner after the last one: each writes a block that is merged later.
const EARLY_FLUSH_EVERY: Duration = Duration::from_secs(30);
/// Most memory of the head that makes a flush due whatever the log says.
const FLUSH_HEAD_BYTES: u64 = 2 << 30;

/// Memory of lines in heads that makes a flush due where there are few series. Lines come in much larger numbers of
/// bytes than samples do; what blocks of them take on the disk, and to be written, is about the same from this size on.
const FLUSH_LINE_BYTES: u64 = 256 << 20;
/// As many more for each series: a flush writes those as well, and what that costs goes by their number.
const FLUSH_LINE_BYTES_PER_SERIES: u64 = 2 << 10;

/// Whether lines make a flush due, which take this much in the heads, beside so many series.
pub(crate) fn lines_want_flush(line_bytes: u64, series: impl FnOnce() -> usize) -> bool {
    // Fast path: nobody asks how many series there are.
    line_bytes >= FLUSH_LINE_BYTES
        && line_bytes >= FLUSH_LINE_BYTES + series() as u64 * FLUSH_LINE_BYTES_PER_SERIES
}

/// Memory of the head that makes a flush due.
pub(crate) fn flush_head_bytes(governor: &Governor) -> u64 {
    FLUSH_HEAD_BYTES.min(governor.flush_bytes())
}

/// A series without samples for this long gives its ordinal back, milliseconds.
pub(crate) fn idle_ms(governor: &Governor, when_short_ms: i64) -> i64 {
    if governor.heads_are_nearly_full() { when_short_ms.min(IDLE_MS) } else { IDLE_MS }
}

impl Maintenance {
    /// Whether memory is so short that fresh samples become a block before their time; counts it.
    pub(super) fn memory_wants_flush(&self) -> bool {
        let is_early = self.flushed.elapsed() >= EARLY_FLUSH_EVERY
            && self.governor.wants_flush(self.head_bytes());
        if is_early {
            self.governor.count_early_flush();
        }
        is_early
    }

    /// Whether idle series are to be looked for before their time.
    pub(super) fn memory_wants_release(&self, now_ms: i64, released_ms: i64) -> bool {
        self.governor.heads_are_nearly_full() && now_ms.abs_diff(released_ms) >= SHORT_SWEEP_MS
    }

    /// Gives the ordinals of series back that are silent and have nothing in the head.
    ///
    /// A batch that is resolved but not yet with the shards shows nowhere but in the time its
    /// series were looked up, and a clock that jumps ahead makes that look long ago. So all such
    /// batches are waited for; those resolved later look up at the new time.
    pub(super) fn release_idle_series(&self, now_ms: i64) {
        let idle_ms = idle_ms(&self.governor, self.idle_series_ms);
        if self.registry.idle(now_ms, idle_ms).is_empty() {
            return;
        }
        let _releasing = self.registry.begin_release(now_ms);
        drop(self.resolving.write());
        if !self.fence() {
            return;
        }
        let empty = self.shards.without_samples(&self.registry.idle(now_ms, idle_ms));
        self.live.forget(&empty);
        let released = self.registry.release(&empty, now_ms, idle_ms);
        self.count(&self.counters.released_series, released as u64);
    }
}
