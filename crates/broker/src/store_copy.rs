//! What a copy of a store of one machine holds, for whoever takes it over.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use blockstore::{Counters, Disk, FileDisk, LogReader};
use catalog::{BlockMeta, State, StoreId};
use model::{TenantId, TenantName};

use crate::{recovery, tenants};

/// A copy as [`Broker::snapshot`](crate::Broker::snapshot) writes it, with everything in blocks. Nobody
/// else may use its directory meanwhile.
pub struct StoreCopy {
    state: State,
    tenants: BTreeMap<TenantId, TenantName>,
}

impl StoreCopy {
    /// Reads what lies in `directory`.
    ///
    /// # Errors
    /// There is no copy, it is damaged, or a newer program wrote it.
    pub fn open(directory: &Path) -> Result<StoreCopy> {
        let disk: Arc<dyn Disk> = Arc::new(FileDisk::open(directory)?);
        let mut reader = LogReader::open(disk, Arc::new(Counters::default()))?;
        let (state, _) = recovery::replay_catalog(&mut reader)?;
        let shown = directory.display();
        ensure!(state.store().is_some(), "{shown} holds no copy of a store");
        ensure!(
            reader.report().damage.is_empty(),
            "the catalog in {shown} is damaged: make the copy again"
        );
        let tenants = tenants::names(&state).context("read the names of its tenants")?;
        Ok(StoreCopy { state, tenants })
    }

    /// Whose copy it is.
    pub fn store(&self) -> StoreId {
        self.state.store().expect("looked at when it was opened")
    }

    /// Its blocks, each with its tenant; `None` if the name was lost. Their files lie below the directory at
    /// [`BlockMeta::key`].
    pub fn blocks(&self) -> Vec<(BlockMeta, Option<TenantName>)> {
        self.state.blocks().map(|meta| (*meta, self.tenant_name(meta.tenant))).collect()
    }

    /// Those that were damaged and are not in the copy.
    pub fn quarantined(&self) -> usize {
        self.state.quarantined().len()
    }

    /// Whether there are deletes that blocks still have to be cleaned of.
    pub fn has_deletes(&self) -> bool {
        self.state.tombstones().any(|tombstone| {
            self.state.blocks().any(|block| {
                block.deletes_through < tombstone.number
                    && block.tenant == tombstone.tenant
                    && block.range.overlaps(&tombstone.range)
            })
        })
    }

    /// The name of a tenant.
    pub fn tenant_name(&self, id: TenantId) -> Option<TenantName> {
        self.tenants.get(&id).copied()
    }

    /// Keys that start with `prefix`, with their values.
    pub fn keys(&self, prefix: &str) -> Vec<(String, Vec<u8>)> {
        let owned =
            |(key, value): (&str, &catalog::KeyValue)| (key.to_owned(), value.value.clone());
        self.state.keys(prefix).map(owned).collect()
    }
}

#[cfg(test)]
mod tests {
    use model::{DEFAULT_TENANT, Labels, MatchOp, Matcher, MetricBatch, TimeRange};

    use super::*;
    use crate::{Broker, BrokerConfig};

    const NOW_MS: i64 = 1_795_219_200_000;

    fn write(broker: &Broker, name: &str) {
        let labels = Labels::from_pairs([("__name__", name)]).expect("valid");
        let mut batch = MetricBatch::default();
        batch.push(&labels, NOW_MS, 1.0);
        let (sender, receiver) = std::sync::mpsc::channel();
        broker.ingest(DEFAULT_TENANT, &batch, move |result| sender.send(result).expect("waiting"));
        receiver.recv().expect("an answer").expect("stored");
    }

    #[test]
    fn a_copy_tells_its_blocks_and_what_is_still_to_be_cleaned() {
        let data = tempfile::tempdir().expect("a temporary directory");
        let config = BrokerConfig {
            flush_interval_ms: 3_600_000,
            ..BrokerConfig::new(data.path().to_owned(), || NOW_MS)
        };
        let broker = Broker::open(config, Arc::default()).expect("an empty disk");
        write(&broker, "kept");
        write(&broker, "gone");
        broker.snapshot("before", true).expect("written");
        let gone = Matcher::new("__name__", MatchOp::Equal, "gone").expect("no regex");
        broker.delete_series(DEFAULT_TENANT, &[vec![gone]], TimeRange::all()).expect("deleted");
        broker.snapshot("deleted", true).expect("written");
        broker.clean_deleted().expect("cleaned");
        broker.snapshot("cleaned", true).expect("written");
        broker.stop();
        let copy = |name: &str| {
            StoreCopy::open(&data.path().join("snapshots").join(name)).expect("a copy")
        };
        let (before, deleted, cleaned) = (copy("before"), copy("deleted"), copy("cleaned"));
        assert_eq!(before.store(), cleaned.store());
        assert_eq!([&before, &deleted, &cleaned].map(StoreCopy::has_deletes), [false, true, false]);
        let rows = |copy: &StoreCopy| copy.blocks().iter().map(|(meta, _)| meta.rows).sum::<u64>();
        assert_eq!([&before, &deleted, &cleaned].map(rows), [2, 2, 1]);
        assert_eq!(before.blocks()[0].1, Some(TenantName::DEFAULT));
        assert!(StoreCopy::open(&data.path().join("snapshots")).is_err());
    }
}
