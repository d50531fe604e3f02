//! What this crate counts about itself.

use std::sync::atomic::{AtomicU64, Ordering};

/// One number that only grows. Relaxed: it orders nothing.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, by: u64) {
        self.0.fetch_add(by, Ordering::Relaxed);
    }

    /// The number now.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A counter as a metrics page shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CounterRow {
    /// Name of the metric; all are of type counter.
    pub name: &'static str,
    /// What it counts.
    pub help: &'static str,
    /// Its value.
    pub value: u64,
}

macro_rules! counters {
    ($($field:ident: $name:literal, $help:literal;)*) => {
        /// Counters of the log and of the blocks, shared by all parts of one store.
        #[derive(Debug, Default)]
        pub struct Counters {
            $(#[doc = $help] pub $field: Counter,)*
        }

        impl Counters {
            /// All counters with name and help, in a fixed order.
            pub fn rows(&self) -> Vec<CounterRow> {
                vec![$(CounterRow { name: $name, help: $help, value: self.$field.get() },)*]
            }
        }
    };
}

counters! {
    log_frames: "watchfire_blockstore_log_frames_total", "Frames appended to the log.";
    log_bytes: "watchfire_blockstore_log_bytes_total", "Bytes appended to the log.";
    log_syncs: "watchfire_blockstore_log_syncs_total", "Syncs of the log.";
    log_files: "watchfire_blockstore_log_files_total", "Log files begun.";
    log_files_removed: "watchfire_blockstore_log_files_removed_total",
        "Log files removed because all their data is in blocks.";
    log_full: "watchfire_blockstore_log_full_total", "Writes to the log refused by a full disk.";
    log_poisoned: "watchfire_blockstore_log_poisoned_total",
        "Faults after which the log takes no more writes.";
    log_replayed_frames: "watchfire_blockstore_log_replayed_frames_total",
        "Frames of the log read by a start.";
    log_damaged_ranges: "watchfire_blockstore_log_damaged_ranges_total",
        "Damaged ranges of the log found by a start.";
    log_damaged_bytes: "watchfire_blockstore_log_damaged_bytes_total",
        "Bytes in damaged ranges of the log.";
    log_torn_bytes: "watchfire_blockstore_log_torn_bytes_total",
        "Bytes of unfinished writes cut off the end of the log.";
}
