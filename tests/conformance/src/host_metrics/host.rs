//! Runs the agent over a host and keeps what it says.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use agent::{AgentConfig, HostAgent};
use anyhow::{Context, bail};
use model::{Labels, MetricBatch};

use super::archive;
use super::exposition::{Exposition, shown};

/// A device or a file that hangs would keep a collector from answering.
const DEADLINE: Duration = Duration::from_secs(30);

/// What one agent said until each of its collectors had run.
#[derive(Debug, Default)]
pub(crate) struct Observed {
    pub(crate) exposition: Exposition,
    /// Whether each collector succeeded.
    pub(crate) success: BTreeMap<String, bool>,
    /// Series that came twice in one pass.
    pub(crate) doubled: BTreeSet<String>,
}

impl Observed {
    /// Whether there is a series or a family of this name.
    pub(crate) fn has(&self, family: &str) -> bool {
        let samples = &self.exposition.samples;
        samples.keys().any(|series| super::exposition::name_of(series) == family)
            || self.exposition.families.contains_key(family)
    }
}

/// Starts an agent and takes its passes until every collector in the configuration has run.
///
/// # Errors
/// A configuration the agent refuses, and a collector that does not answer in 30 s.
pub(crate) fn observe(config: AgentConfig) -> anyhow::Result<Observed> {
    let names = |list: &[String], name: &str| list.iter().any(|other| other == name);
    let expected = agent::COLLECTORS
        .iter()
        .filter(|info| info.by_default || names(&config.enabled_collectors, info.name))
        .filter(|info| !names(&config.disabled_collectors, info.name))
        .count();
    let (agent, mut receiver) =
        HostAgent::start(AgentConfig { interval_ms: 100, ..config }).context("start the agent")?;
    let began = Instant::now();
    let mut observed = Observed::default();
    while observed.success.len() < expected {
        if began.elapsed() > DEADLINE {
            let missing = agent::COLLECTORS.iter().map(|info| info.name);
            let missing: Vec<_> =
                missing.filter(|name| !observed.success.contains_key(*name)).collect();
            bail!("some of these collectors do not answer: {}", missing.join(", "));
        }
        let batch = receiver.recv_timeout(Duration::from_secs(5)).context("wait for a pass")?;
        keep(&batch, &mut observed)?;
        receiver.recycle(batch);
    }
    agent.stop();
    Ok(observed)
}

/// Keeps the first sample of each series, and the metadata.
fn keep(batch: &MetricBatch, observed: &mut Observed) -> anyhow::Result<()> {
    let mut pass = Exposition::default();
    for series in &batch.series {
        let labels = Labels::from_packed(batch.label_bytes_of(series))?;
        let value = batch.values[series.first_row as usize];
        if model::is_stale_nan(value) {
            continue;
        }
        if labels.metric_name() == Some("node_scrape_collector_success") {
            let collector = labels.get("collector").unwrap_or_default().to_owned();
            observed.success.insert(collector, value == 1.0);
        }
        if let Err(series) = pass.collected(&labels, value) {
            observed.doubled.insert(shown(&series));
        }
    }
    for (series, sample) in pass.samples {
        observed.exposition.samples.entry(series).or_insert(sample);
    }
    for metadata in &batch.metadata {
        let described = (metadata.kind, metadata.help.clone(), 0);
        observed.exposition.families.entry(metadata.metric.clone()).or_insert(described);
    }
    Ok(())
}

/// Node Exporter's fake host with the links that its tests unpack, below `root`:
/// `root/collector/fixtures/{proc,sys,…}`, and the same as `root/fixtures`.
///
/// # Errors
/// Those of the disk and of the archive.
pub(crate) fn unpack_fixtures(fixtures: &Path, root: &Path) -> anyhow::Result<()> {
    let fixtures = std::path::absolute(fixtures)?;
    let unpacked = root.join("collector/fixtures");
    std::fs::create_dir_all(unpacked.join("proc"))?;
    symlink("collector/fixtures", root.join("fixtures"))?;
    for entry in std::fs::read_dir(fixtures.join("proc")).context("list proc")? {
        let path = entry?.path();
        let name = PathBuf::from("proc").join(path.file_name().context("an entry has a name")?);
        if name.ends_with("self") {
            let target = std::fs::read_to_string(&path)?;
            symlink(target.trim(), unpacked.join(name))?;
        } else {
            symlink(&path, unpacked.join(name))?;
        }
    }
    let archive = std::fs::read(fixtures.join("sys.ttar")).context("read sys.ttar")?;
    archive::unpack(&archive, &unpacked).context("unpack sys.ttar")?;
    for entry in std::fs::read_dir(&fixtures)? {
        let path = entry?.path();
        let target = unpacked.join(path.file_name().context("an entry has a name")?);
        if !target.exists() {
            symlink(&path, target)?;
        }
    }
    Ok(())
}
