//! What one remote counts, under Prometheus' names where it has one.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use super::rows::{Amount, Row};

/// Why a sample was not sent. The words are label values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dropped {
    /// `write_relabel_configs` dropped its series.
    Series,
    /// Older than `sample_age_limit`.
    TooOld,
    /// The log may keep no more for this remote.
    LogLimit,
    /// The same series and time as the sample before it: the first one counts.
    Duplicate,
    /// Version 1 has no histograms with custom buckets.
    CustomBuckets,
}

impl Dropped {
    pub(super) const ALL: [Dropped; 5] = [
        Dropped::Series,
        Dropped::TooOld,
        Dropped::LogLimit,
        Dropped::Duplicate,
        Dropped::CustomBuckets,
    ];

    pub(super) fn word(self) -> &'static str {
        match self {
            Dropped::Series => "dropped_series",
            Dropped::TooOld => "too_old",
            Dropped::LogLimit => "log_limit",
            Dropped::Duplicate => "duplicate",
            Dropped::CustomBuckets => "nhcb_in_rw1_not_supported",
        }
    }
}

/// Upper bounds of the durations of requests, seconds; Prometheus' own.
pub(super) const DURATION_BOUNDS: [f64; 15] =
    [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 25.0, 60.0, 120.0, 300.0];

/// Counts of one kind of things that are sent.
#[derive(Debug, Default)]
pub(super) struct Sent {
    pub(super) total: AtomicU64,
    pub(super) failed: AtomicU64,
    pub(super) retried: AtomicU64,
    pub(super) pending: AtomicI64,
    pub(super) dropped: [AtomicU64; Dropped::ALL.len()],
}

/// All counts of one remote.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) floats: Sent,
    pub(super) histograms: Sent,
    pub(super) exemplars: Sent,
    pub(super) metadata: Sent,
    pub(super) bytes: AtomicU64,
    pub(super) metadata_bytes: AtomicU64,
    pub(super) enqueue_retries: AtomicU64,
    /// Newest timestamps read and sent, milliseconds since the epoch.
    pub(super) newest_read_ms: AtomicI64,
    pub(super) newest_sent_ms: AtomicI64,
    pub(super) shards: AtomicU64,
    /// Bits of a float.
    desired_shards: AtomicU64,
    pub(super) behind_bytes: AtomicU64,
    /// Stretches of the log that could not be read.
    pub(super) gaps: AtomicU64,
    /// Time requests took and rows that were delivered by them, for the number of shards.
    pub(super) busy_micros: AtomicU64,
    pub(super) delivered_rows: AtomicU64,
    pub(super) durations: [AtomicU64; DURATION_BOUNDS.len() + 1],
    pub(super) duration_micros: AtomicU64,
}

impl Counters {
    pub(super) fn drop_rows(&self, amount: Amount, why: Dropped) {
        let place = Dropped::ALL.iter().position(|one| *one == why).expect("all are listed");
        self.floats.dropped[place].fetch_add(amount.floats, Relaxed);
        self.histograms.dropped[place].fetch_add(amount.histograms, Relaxed);
        self.exemplars.dropped[place].fetch_add(amount.exemplars, Relaxed);
    }

    /// Rows wait for their request, or no longer.
    pub(super) fn add_pending(&self, amount: Amount) {
        self.floats.pending.fetch_add(amount.floats as i64, Relaxed);
        self.histograms.pending.fetch_add(amount.histograms as i64, Relaxed);
        self.exemplars.pending.fetch_add(amount.exemplars as i64, Relaxed);
    }

    pub(super) fn take_pending(&self, amount: Amount) {
        self.floats.pending.fetch_sub(amount.floats as i64, Relaxed);
        self.histograms.pending.fetch_sub(amount.histograms as i64, Relaxed);
        self.exemplars.pending.fetch_sub(amount.exemplars as i64, Relaxed);
    }

    /// About how many bytes the rows take that wait. Labels are shared; a histogram and an exemplar
    /// have something of their own.
    pub(super) fn pending_bytes(&self) -> u64 {
        const ROW: u64 = size_of::<Row>() as u64;
        let kinds =
            [(&self.floats, ROW), (&self.histograms, ROW + 512), (&self.exemplars, ROW + 256)];
        let waiting = |sent: &Sent| u64::try_from(sent.pending.load(Relaxed)).unwrap_or(0);
        kinds.iter().map(|(sent, bytes)| waiting(sent) * bytes).sum()
    }

    pub(super) fn set_desired_shards(&self, desired: f64) {
        self.desired_shards.store(desired.to_bits(), Relaxed);
    }

    pub(super) fn desired_shards(&self) -> f64 {
        f64::from_bits(self.desired_shards.load(Relaxed))
    }

    /// One request took so long, whatever the answer.
    pub(super) fn note_request(&self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let seconds = took.as_secs_f64();
        let place = DURATION_BOUNDS.iter().position(|bound| seconds <= *bound);
        self.durations[place.unwrap_or(DURATION_BOUNDS.len())].fetch_add(1, Relaxed);
        self.duration_micros.fetch_add(micros, Relaxed);
    }
}
