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
    blocks_damaged: "watchfire_blockstore_blocks_damaged_total",
        "Blocks taken out because they are missing or damaged.";
    blocks_orphaned: "watchfire_blockstore_blocks_orphaned_total",
        "Blobs found by a start that the catalog does not list.";
    blocks_deleted: "watchfire_blockstore_blocks_deleted_total",
        "Blobs of merged or expired blocks deleted.";
    merges: "watchfire_blockstore_merges_total", "Blocks written by merges.";
    merged_rows: "watchfire_blockstore_merged_rows_total", "Rows written by merges.";
    merged_bytes: "watchfire_blockstore_merged_bytes_total", "Bytes written by merges.";
    merge_conflicts: "watchfire_blockstore_merge_conflicts_total",
        "Rows left out by merges because an earlier commit has another value.";
}
