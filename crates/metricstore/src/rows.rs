//! Samples as columns: what travels from the edge to shards, and runs that merge into one.

use model::{DEFAULT_TENANT, Exemplar, Histogram, Labels, TenantId};

/// Samples on their way to one shard, as columns of equal length, in arrival order.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ShardRows {
    /// The registry's ordinal of each row's series.
    pub ordinals: Vec<u32>,
    /// Timestamps in milliseconds.
    pub timestamps_ms: Vec<i64>,
    /// Values, bit-exact.
    pub values: Vec<f64>,
    /// When each value began at zero, milliseconds since the epoch; 0 = not known. It may be shorter
    /// than the other columns: of what is behind its end it is not known.
    pub starts_ms: Vec<i64>,
    /// Histograms, which come after the floats. Valid, compact, of a known schema.
    pub histograms: Vec<HistogramRow>,
}

/// A histogram on its way to a shard.
#[derive(Debug, Clone, PartialEq)]
pub struct HistogramRow {
    /// The registry's ordinal of the series.
    pub ordinal: u32,
    /// Timestamp in milliseconds.
    pub t_ms: i64,
    /// When its counts began at zero, milliseconds since the epoch; 0 = not known.
    pub start_ms: i64,
    /// The histogram.
    pub histogram: Histogram,
}

/// An exemplar on its way to the log and to what is kept.
#[derive(Debug, Clone, PartialEq)]
pub struct ExemplarRow {
    /// The registry's ordinal of the series.
    pub ordinal: u32,
    /// The series.
    pub series: Labels,
    /// The exemplar.
    pub exemplar: Exemplar,
}

impl ShardRows {
    /// Number of rows, floats and histograms.
    pub fn len(&self) -> usize {
        self.ordinals.len() + self.histograms.len()
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.ordinals.is_empty() && self.histograms.is_empty()
    }

    /// Appends one float.
    #[inline]
    pub fn push(&mut self, ordinal: u32, t_ms: i64, value: f64) {
        self.ordinals.push(ordinal);
        self.timestamps_ms.push(t_ms);
        self.values.push(value);
    }

    /// Says when the float that was pushed last began at zero; 0 = not known.
    #[inline]
    pub fn set_last_start(&mut self, start_ms: i64) {
        if start_ms != 0 {
            self.starts_ms.resize(self.values.len().saturating_sub(1), 0);
            self.starts_ms.push(start_ms);
        }
    }

    /// When the float at `row` began at zero; 0 = not known.
    #[inline]
    pub fn start_ms(&self, row: usize) -> i64 {
        self.starts_ms.get(row).copied().unwrap_or(0)
    }

    fn clear(&mut self) {
        self.ordinals.clear();
        self.timestamps_ms.clear();
        self.values.clear();
        self.starts_ms.clear();
        self.histograms.clear();
    }
}

/// Samples that were refused for one reason, with the text the protocol answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reject {
    /// Why, naming limit, value and remedy where there are any.
    pub reason: String,
    /// How many entries of the batch it hit.
    pub series: u64,
    /// How many samples it hit, floats and histograms.
    pub samples: u64,
    /// How many of them are histograms.
    pub histograms: u64,
    /// The first series it hit, as Prometheus prints it; empty if its labels cannot be read.
    pub first: String,
    /// Whether the same may be stored when it comes again later.
    pub may_come_again: bool,
}

/// Why a series is not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// As in [`Reject::reason`].
    pub(crate) reason: String,
    /// As in [`Reject::may_come_again`].
    pub(crate) may_come_again: bool,
}

impl From<String> for Refusal {
    fn from(reason: String) -> Self {
        Refusal { reason, may_come_again: false }
    }
}

/// A batch whose series are known: rows by shard, and what was refused.
#[derive(Debug, Clone, PartialEq)]
pub struct ResolvedBatch {
    /// Whose samples they are.
    pub tenant: TenantId,
    /// One entry per shard; a series is always in shard `ordinal % shards.len()`.
    pub shards: Vec<ShardRows>,
    /// Exemplars, in arrival order; they are no rows.
    pub exemplars: Vec<ExemplarRow>,
    /// What was refused, one entry per kind of reason and at most [`MAX_REJECTS`] of them.
    pub rejects: Vec<Reject>,
    /// Series of the batch that were not known before.
    pub new_series: usize,
    /// Scratch of the registry: the ordinal of each entry of the batch.
    pub(crate) ordinals: Vec<u32>,
}

impl Default for ResolvedBatch {
    fn default() -> Self {
        ResolvedBatch {
            tenant: DEFAULT_TENANT,
            shards: Vec::new(),
            exemplars: Vec::new(),
            rejects: Vec::new(),
            new_series: 0,
            ordinals: Vec::new(),
        }
    }
}

/// Most distinct texts of refusals kept per batch; further ones are counted under the last.
pub const MAX_REJECTS: usize = 16;

impl ResolvedBatch {
    /// Number of rows accepted, floats and histograms.
    pub fn rows(&self) -> usize {
        self.shards.iter().map(ShardRows::len).sum()
    }

    /// Whether there is nothing to be stored.
    pub fn is_empty(&self) -> bool {
        self.rows() == 0 && self.exemplars.is_empty()
    }

    /// Number of samples refused.
    pub fn rejected_samples(&self) -> u64 {
        self.rejects.iter().map(|reject| reject.samples).sum()
    }

    /// Empties the batch for `tenant` and `shards`, keeping its memory.
    ///
    /// # Panics
    /// `shards` is 0.
    pub fn reset(&mut self, tenant: TenantId, shards: usize) {
        assert!(shards > 0, "rows need at least one shard");
        self.tenant = tenant;
        self.shards.resize_with(shards, ShardRows::default);
        self.shards.iter_mut().for_each(ShardRows::clear);
        self.exemplars.clear();
        self.rejects.clear();
        self.new_series = 0;
    }

    /// Counts `samples` of one more entry as refused, of which `histograms` are histograms. `series`
    /// is asked for the name of the first one.
    pub(crate) fn reject(
        &mut self,
        refusal: impl Into<Refusal>,
        samples: u64,
        histograms: u64,
        series: impl FnOnce() -> String,
    ) {
        let Refusal { reason, may_come_again } = refusal.into();
        let known = self.rejects.iter().position(|reject| reject.reason == reason);
        let slot = match known {
            Some(slot) => slot,
            None if self.rejects.len() == MAX_REJECTS => MAX_REJECTS - 1,
            None => {
                let first = series();
                let (series, samples, histograms) = (0, 0, 0);
                let reject = Reject { reason, series, samples, histograms, first, may_come_again };
                self.rejects.push(reject);
                self.rejects.len() - 1
            }
        };
        self.rejects[slot].series += 1;
        self.rejects[slot].samples += samples;
        self.rejects[slot].histograms += histograms;
    }
}

/// What to do about two samples with the same series and timestamp was decided once, here: the
/// earlier one stays. Sorts `samples`, given in commit order, by time and drops later ones of
/// equal timestamps. Yields how many were dropped with a value that differs.
pub(crate) fn sort_first_wins(samples: &mut Vec<(i64, u64)>) -> u64 {
    // Stable, so commit order decides; made of few sorted runs, so it is nearly linear.
    samples.sort_by_key(|sample| sample.0);
    let mut conflicts = 0;
    samples.dedup_by(|later, earlier| {
        let same = later.0 == earlier.0;
        conflicts += u64::from(same && later.1 != earlier.1);
        same
    });
    conflicts
}

/// Puts samples from `start` on in order of time, as [`sort_first_wins`].
pub(crate) fn settle_from(
    timestamps: &mut Vec<i64>,
    values: &mut Vec<f64>,
    start: usize,
    scratch: &mut Vec<(i64, u64)>,
) -> u64 {
    // Fast path: parts do not overlap.
    if timestamps[start..].is_sorted_by(|a, b| a < b) {
        return 0;
    }
    scratch.clear();
    scratch.extend(
        timestamps[start..].iter().zip(&values[start..]).map(|(&t, value)| (t, value.to_bits())),
    );
    let conflicts = sort_first_wins(scratch);
    timestamps.truncate(start);
    values.truncate(start);
    timestamps.extend(scratch.iter().map(|sample| sample.0));
    values.extend(scratch.iter().map(|sample| f64::from_bits(sample.1)));
    conflicts
}

/// Drops samples from `start` on that lie outside `range`; they must be in order.
pub(crate) fn trim_from(
    timestamps: &mut Vec<i64>,
    values: &mut Vec<f64>,
    start: usize,
    range: model::TimeRange,
) {
    let end = start + timestamps[start..].partition_point(|&t| t < range.end_ms);
    timestamps.truncate(end);
    values.truncate(end);
    let begin = start + timestamps[start..].partition_point(|&t| t < range.start_ms);
    if begin > start {
        timestamps.drain(start..begin);
        values.drain(start..begin);
    }
}

/// Drops samples from `start` on that lie outside `range`, in whatever order they are.
pub(crate) fn retain_from(
    timestamps: &mut Vec<i64>,
    values: &mut Vec<f64>,
    start: usize,
    range: model::TimeRange,
) {
    let mut end = start;
    for at in start..timestamps.len() {
        if range.contains(timestamps[at]) {
            timestamps[end] = timestamps[at];
            values[end] = values[at];
            end += 1;
        }
    }
    timestamps.truncate(end);
    values.truncate(end);
}
