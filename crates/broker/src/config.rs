//! What a broker is told when it is opened.

use std::path::PathBuf;
use std::sync::Arc;

use blockstore::Retention;
use catalog::StoreId;
use governor::Governor;
use metricstore::{DownsamplingRules, MetricFormat, RetentionRules};
use model::Limits;

use crate::aggregation::AggregationConfig;
use crate::ha::HaConfig;
use crate::tenants::TenantSettings;

/// What a broker is told.
#[derive(Debug, Clone)]
pub struct BrokerConfig {
    /// Directory of the data; made if absent.
    pub data: PathBuf,
    /// Limits of every tenant that has none of its own.
    pub limits: Limits,
    /// Tenants that have.
    pub tenants: TenantSettings,
    /// How long data is kept.
    pub retention: Retention,
    /// How long lines of logs are kept, milliseconds; `None` for ever. The bytes of `retention` are those of
    /// both.
    pub logs_retention_ms: Option<i64>,
    /// How long the samples of some series are kept, where that is shorter.
    pub retention_rules: RetentionRules,
    /// How much less densely the samples of some series are kept when they are older.
    pub downsampling: DownsamplingRules,
    /// What is kept of samples when their retention is over: ascending, each for longer than the one
    /// before and of windows that are a multiple of its windows.
    pub rollups: Vec<RollupTier>,
    /// The head becomes blocks at least this often, milliseconds.
    pub flush_interval_ms: i64,
    /// … and when this many bytes of log are not in blocks yet.
    pub flush_bytes: u64,
    /// Most bytes of log that are kept for a remote that does not take what is written to it.
    pub remote_write_limit_bytes: u64,
    /// Shards of the head, at least one; one thread each.
    pub shards: usize,
    /// The budget of memory.
    pub governor: Arc<Governor>,
    /// When memory is short, a series without samples for this long is forgotten, milliseconds.
    pub idle_series_ms: i64,
    /// Milliseconds since the epoch.
    pub now_ms: fn() -> i64,
    /// Most exemplars that are kept, of all series together; 0 for none.
    pub max_exemplars: usize,
    /// How pairs of replicas that write the same are told apart; `None` if they are not.
    pub ha: Option<HaConfig>,
    /// What is aggregated before it is stored.
    pub aggregation: AggregationConfig,
    /// Whether OTLP and remote write 2.0 give series their type and unit as labels `__type__` and
    /// `__unit__`: Prometheus' feature `type-and-unit-labels`.
    pub type_and_unit_labels: bool,
    /// Version of what the cluster keeps that the retention, rollups and downsampling of this broker take
    /// the place of; without it they must be the same.
    pub change_kept: Option<u64>,
    /// Whether it looks after the data by itself: flushes, merges, retention, rollups, the space in
    /// reserve. Without, it does what it is asked for and nothing else, see
    /// [`BrokerConfig::without_upkeep`].
    pub has_upkeep: bool,
    /// Random: keys the hashes of label bytes, and names a new store.
    pub seed: [u8; 24],
}

/// How long lines of logs are kept unless something else is told.
pub(crate) const DEFAULT_LOGS_RETENTION_MS: Option<i64> = Some(31 * 86_400_000);

/// Of the limit of memory, the part that pages of blocks may take that queries read lately …
const PAGE_CACHE_SHARE: u64 = 64;
/// … and the most that is of use: what dashboards of a fleet of hosts come back for.
const MAX_PAGE_CACHE_BYTES: usize = 32 << 20;

/// Of the limit of memory, the part that indexes of blocks of logs may take that searches used lately …
const LOG_INDEX_SHARE: u64 = 32;
/// … and the most that is of use.
const MAX_LOG_INDEX_BYTES: usize = 256 << 20;

/// Rollups that are kept for longer than samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RollupTier {
    /// Length of their windows, milliseconds, more than 0.
    pub resolution_ms: i64,
    /// Age after which the next tier takes their place, or they are forgotten, milliseconds.
    pub kept_ms: i64,
}

impl Default for RollupTier {
    /// 5 minutes, for a year.
    fn default() -> Self {
        RollupTier { resolution_ms: 300_000, kept_ms: 365 * 86_400_000 }
    }
}

impl BrokerConfig {
    /// The defaults of `watchfire.yml`, on one shard, without a limit of memory and without chance.
    pub fn new(data: PathBuf, now_ms: fn() -> i64) -> BrokerConfig {
        BrokerConfig {
            data,
            limits: Limits::default(),
            tenants: TenantSettings::default(),
            retention: Retention::default(),
            logs_retention_ms: DEFAULT_LOGS_RETENTION_MS,
            retention_rules: RetentionRules::default(),
            downsampling: DownsamplingRules::default(),
            rollups: vec![RollupTier::default()],
            flush_interval_ms: 300_000,
            flush_bytes: 1 << 30,
            remote_write_limit_bytes: 8 << 30,
            shards: 1,
            governor: Governor::unlimited(),
            idle_series_ms: 300_000,
            now_ms,
            max_exemplars: 100_000,
            ha: None,
            aggregation: AggregationConfig::default(),
            type_and_unit_labels: false,
            change_kept: None,
            has_upkeep: true,
            seed: [7; 24],
        }
    }

    /// For a look at data that is another process' to keep, whose settings nobody knows here: nothing of it
    /// is too old, nothing is made coarser, and the log stays for whoever follows it.
    pub fn without_upkeep(data: PathBuf, now_ms: fn() -> i64) -> BrokerConfig {
        BrokerConfig {
            retention: Retention { time_ms: None, size_bytes: None },
            logs_retention_ms: None,
            rollups: Vec::new(),
            max_exemplars: usize::MAX,
            has_upkeep: false,
            ..BrokerConfig::new(data, now_ms)
        }
    }

    /// How long anything is kept, in any form.
    pub(crate) fn kept(&self) -> Retention {
        let Retention { time_ms, size_bytes } = self.retention;
        let rollups_ms = self.rollups.last().map_or(0, |tier| tier.kept_ms);
        Retention { time_ms: time_ms.map(|time_ms| time_ms.max(rollups_ms)), size_bytes }
    }

    /// The format of blocks, with the rollups that merges write.
    pub(crate) fn format(&self) -> MetricFormat {
        let resolutions_ms: Vec<i64> = self.rollups.iter().map(|tier| tier.resolution_ms).collect();
        MetricFormat::new(self.hash_seed()).with_rollups(&resolutions_ms)
    }

    /// What may be kept of what queries read of blocks.
    pub(crate) fn page_cache_bytes(&self) -> usize {
        let bytes = self.governor.limit_bytes() / PAGE_CACHE_SHARE;
        usize::try_from(bytes).unwrap_or(usize::MAX).min(MAX_PAGE_CACHE_BYTES)
    }

    /// What may be kept of indexes of blocks of logs that searches used lately.
    pub(crate) fn log_index_bytes(&self) -> usize {
        let bytes = self.governor.limit_bytes() / LOG_INDEX_SHARE;
        usize::try_from(bytes).unwrap_or(usize::MAX).min(MAX_LOG_INDEX_BYTES)
    }

    /// Names a store that has no name yet.
    pub(crate) fn store_id(&self) -> StoreId {
        let mut id = [0; 16];
        id.copy_from_slice(&self.seed[..16]);
        StoreId(id)
    }

    /// Keys hashes.
    pub(crate) fn hash_seed(&self) -> u64 {
        let mut half = [0; 8];
        half.copy_from_slice(&self.seed[16..]);
        u64::from_le_bytes(half)
    }
}
