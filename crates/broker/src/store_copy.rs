//! What a copy of a store of one machine holds, for whoever takes it over.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use blockstore::{Counters, Disk, FileDisk, LogReader};
use catalog::{BlockMeta, Signal, State, StoreId, Tombstone};
use model::{MatchOp, TenantId, TenantName, TimeRange, rfc3339};

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
                    && (block.tenant, block.signal) == (tombstone.tenant, tombstone.signal)
                    && block.range.overlaps(&tombstone.range)
            })
        })
    }

    /// The highest number of a delete that was ever made there.
    pub fn last_delete(&self) -> u64 {
        self.state.last_delete()
    }

    /// Deletes that are still known, by number, as somebody would make them again: those of samples by
    /// `watchfire delete`, those of lines by Loki's API.
    pub fn deletes(&self) -> impl Iterator<Item = (u64, String)> {
        self.state.tombstones().map(|one| {
            let again = match one.signal {
                Signal::Metrics => self.as_command(one),
                Signal::Logs => self.as_request(one),
            };
            (one.number, again)
        })
    }

    /// How the tenant of a delete is named, unless it is the default one.
    fn tenant_of(&self, delete: &Tombstone) -> Option<String> {
        match self.tenant_name(delete.tenant) {
            Some(tenant) if tenant.is_default() => None,
            Some(tenant) => Some(tenant.to_string()),
            None => Some(format!("'#{}'", delete.tenant.0)),
        }
    }

    fn as_request(&self, delete: &Tombstone) -> String {
        let mut requests = Vec::new();
        for selector in &delete.selectors {
            let (of_line, of_labels): (Vec<_>, Vec<_>) =
                selector.iter().partition(|one| one.name == crate::LINE);
            let labels: Vec<String> = of_labels
                .iter()
                .map(|one| condition(&one.name, one.op.as_str(), &one.value))
                .collect();
            let mut query = format!("{{{}}}", labels.join(","));
            for one in of_line {
                let op = match one.op {
                    MatchOp::Equal => "|= ",
                    MatchOp::NotEqual => "!= ",
                    MatchOp::Regex => "|~ ",
                    MatchOp::NotRegex => "!~ ",
                };
                query += &format!(" {}", condition("", op, &one.value));
            }
            let mut request = "POST /loki/api/v1/delete".to_owned();
            if let Some(tenant) = self.tenant_of(delete) {
                request += &format!(" of tenant {tenant}");
            }
            request += &format!(" with query={query}");
            let start = match delete.range.start_ms == TimeRange::all().start_ms {
                true => "0".to_owned(),
                false => rfc3339(delete.range.start_ms),
            };
            // What is younger was not there.
            let last_ms = delete.range.end_ms.saturating_sub(1).min(delete.at_ms);
            requests.push(request + &format!(" start={start} end={}", rfc3339(last_ms)));
        }
        requests.join("; ")
    }

    fn as_command(&self, delete: &Tombstone) -> String {
        let mut arguments = "watchfire delete ".to_owned();
        if let Some(tenant) = self.tenant_of(delete) {
            arguments += &format!("--tenant {tenant} ");
        }
        let seconds = |ms: i64| ms as f64 / 1e3;
        if delete.range.start_ms != TimeRange::all().start_ms {
            arguments += &format!("--start {} ", seconds(delete.range.start_ms));
        }
        // What is younger was not there.
        let last_ms = delete.range.end_ms.saturating_sub(1).min(delete.at_ms);
        arguments += &format!("--end {}", seconds(last_ms));
        for selector in &delete.selectors {
            let conditions: Vec<String> = selector
                .iter()
                .map(|one| condition(&one.name, one.op.as_str(), &one.value))
                .collect();
            let selector = format!("{{{}}}", conditions.join(","));
            arguments += &format!(" '{}'", selector.replace('\'', r"'\''"));
        }
        arguments
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

/// A condition as it is written in a query.
fn condition(name: &str, op: &str, value: &str) -> String {
    let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    format!("{name}{op}\"{value}\"")
}

#[cfg(test)]
mod tests {
    use model::{DEFAULT_TENANT, Labels, MatchOp, Matcher, MetricBatch};

    use super::*;
    use crate::{Broker, BrokerConfig};

    const NOW_MS: i64 = 1_795_219_200_000;

    fn write(broker: &Broker, name: &str) {
        write_at(broker, name, NOW_MS);
    }

    fn write_at(broker: &Broker, name: &str, t_ms: i64) {
        let labels = Labels::from_pairs([("__name__", name)]).expect("valid");
        let mut batch = MetricBatch::default();
        batch.push(&labels, t_ms, 1.0);
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
        assert_eq!([&before, &deleted, &cleaned].map(StoreCopy::last_delete), [0, 1, 1]);
        let told: Vec<_> = deleted.deletes().collect();
        let expected = format!("watchfire delete --end {} '{{__name__=\"gone\"}}'", NOW_MS / 1_000);
        assert_eq!(told, [(1, expected)]);
        let rows = |copy: &StoreCopy| copy.blocks().iter().map(|(meta, _)| meta.rows).sum::<u64>();
        assert_eq!([&before, &deleted, &cleaned].map(rows), [2, 2, 1]);
        assert_eq!(before.blocks()[0].1, Some(TenantName::DEFAULT));
        assert!(StoreCopy::open(&data.path().join("snapshots")).is_err());
    }

    #[test]
    fn a_delete_of_lines_is_told_as_a_request() {
        let data = tempfile::tempdir().expect("a temporary directory");
        let config = BrokerConfig::new(data.path().to_owned(), || NOW_MS);
        let broker = Broker::open(config, Arc::default()).expect("an empty disk");
        // A delete that can hide nothing in a block is forgotten.
        let mut batch = model::LogBatch::default();
        batch.stream(&Labels::from_pairs([("app", "a\"b")]).expect("valid"));
        batch.push(NOW_MS * 1_000_000, b"a line", &[]).expect("it is short");
        let (sender, receiver) = std::sync::mpsc::channel();
        broker.ingest_logs(DEFAULT_TENANT, batch, None, move |result| {
            sender.send(result).expect("waiting");
        });
        receiver.recv().expect("an answer").expect("stored");
        broker.snapshot("before", true).expect("written");
        let matcher = |name, op, value| Matcher::new(name, op, value).expect("it compiles");
        let selector = vec![
            matcher("app", MatchOp::Equal, "a\"b"),
            matcher(crate::LINE, MatchOp::NotRegex, "x.*y"),
        ];
        let range = TimeRange::new(NOW_MS - 10_000, NOW_MS + 10_000);
        broker.delete_logs(DEFAULT_TENANT, &[selector], range).expect("deleted");
        broker.snapshot("copy", true).expect("written");
        broker.stop();
        let copy = StoreCopy::open(&data.path().join("snapshots/copy")).expect("a copy");
        let told: Vec<_> = copy.deletes().map(|(_, again)| again).collect();
        let (start, end) = (rfc3339(NOW_MS - 10_000), rfc3339(NOW_MS));
        let query = r#"{app="a\"b"} !~ "x.*y""#;
        assert_eq!(
            told,
            [format!("POST /loki/api/v1/delete with query={query} start={start} end={end}")]
        );
    }

    #[test]
    fn a_broker_that_only_makes_a_copy_keeps_what_defaults_would_not() {
        const DAY_MS: i64 = 86_400_000;
        let data = tempfile::tempdir().expect("a temporary directory");
        let path = data.path().to_owned();
        let config = BrokerConfig {
            retention: blockstore::Retention { time_ms: None, size_bytes: None },
            rollups: Vec::new(),
            flush_interval_ms: 3_600_000,
            ..BrokerConfig::new(path.clone(), || NOW_MS)
        };
        let broker = Broker::open(config, Arc::default()).expect("an empty disk");
        for days in [400, 100] {
            write_at(&broker, "old", NOW_MS - days * DAY_MS);
            broker.snapshot(&format!("after-{days}"), true).expect("written");
        }
        write(&broker, "in_the_log");
        broker.stop();
        drop(broker);
        // As if streams were aggregated there: what is open of it is not ours to remove.
        std::fs::create_dir(path.join("aggregation")).expect("a new directory");
        std::fs::write(path.join("aggregation/windows"), b"theirs").expect("written");
        let files = |below: &str| -> BTreeMap<String, Vec<u8>> {
            let read = |entry: std::io::Result<std::fs::DirEntry>| {
                let entry = entry.expect("listed");
                let name = entry.file_name().to_string_lossy().into_owned();
                (name, std::fs::read(entry.path()).expect("readable"))
            };
            std::fs::read_dir(path.join(below)).expect("there").map(read).collect()
        };
        let (blocks, logs) = (files("blocks/metrics"), files("log"));
        assert_eq!(blocks.len(), 2);
        // So soon that upkeep would have its turn meanwhile.
        let config = BrokerConfig {
            flush_interval_ms: 1,
            ..BrokerConfig::without_upkeep(path.clone(), || NOW_MS)
        };
        let broker = Broker::open(config, Arc::default()).expect("it is whole");
        std::thread::sleep(std::time::Duration::from_millis(100));
        broker.snapshot("copy", true).expect("written");
        std::thread::sleep(std::time::Duration::from_millis(100));
        broker.clean_deleted().expect("nothing is");
        broker.stop();
        let after = files("blocks/metrics");
        assert_eq!(after.len(), 3, "the head became a block, nothing else changed");
        for (name, bytes) in &blocks {
            assert!(after.get(name) == Some(bytes), "block {name} is not what it was");
        }
        for name in logs.keys() {
            assert!(files("log").contains_key(name), "{name} may be followed by somebody");
        }
        assert_eq!(files("aggregation")["windows"], b"theirs");
        let copy = StoreCopy::open(&path.join("snapshots/copy")).expect("a copy");
        assert_eq!(copy.blocks().len(), 3);
    }
}
