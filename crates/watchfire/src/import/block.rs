//! A block of Prometheus on disk.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use model::Matcher;
use serde::Deserialize;
use wire::prometheus_block::{Index, SeriesEntry, Tombstone, read_tombstones};
use wire::prometheus_chunk::Samples;

use super::chunk_file::ChunkFile;

/// What `meta.json` tells.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Meta {
    version: u32,
    ulid: String,
    /// First time, milliseconds since the epoch.
    pub(super) min_time: i64,
    /// End, exclusive.
    pub(super) max_time: i64,
    /// Sizes.
    #[serde(default)]
    pub(super) stats: Stats,
}

/// How much a block holds.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Stats {
    pub(super) num_samples: u64,
    pub(super) num_series: u64,
}

/// A block, found but not read.
#[derive(Debug, Clone)]
pub(super) struct Block {
    pub(super) path: PathBuf,
    pub(super) meta: Meta,
}

/// What of a block is wanted.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    /// Any of them; everything if there are none.
    pub(super) selectors: Vec<Vec<Matcher>>,
    /// First time, inclusive, milliseconds since the epoch.
    pub(super) start_ms: i64,
    /// Last time, inclusive.
    pub(super) end_ms: i64,
}

impl Wanted {
    fn series(&self, entry: &SeriesEntry) -> bool {
        let matches = |matchers: &Vec<Matcher>| {
            matchers.iter().all(|m| m.matches(entry.labels.get(&m.name).unwrap_or_default()))
        };
        self.selectors.is_empty() || self.selectors.iter().any(matches)
    }
}

impl Block {
    /// All blocks in `directory`, which may be one itself, in the order of time.
    pub(super) fn find(directory: &Path) -> Result<Vec<Block>> {
        if directory.join("meta.json").is_file() {
            return Ok(vec![Block::open(directory)?]);
        }
        let entries = std::fs::read_dir(directory)
            .with_context(|| format!("list {}", directory.display()))?;
        let mut blocks = Vec::new();
        for entry in entries {
            let path = entry.with_context(|| format!("list {}", directory.display()))?.path();
            // Those that are being written or removed have other names.
            let is_named = path.file_name().is_some_and(|name| name.len() == 26);
            if is_named && path.join("meta.json").is_file() {
                blocks.push(Block::open(&path)?);
            }
        }
        blocks.sort_by_key(|block| (block.meta.min_time, block.meta.max_time));
        Ok(blocks)
    }

    fn open(path: &Path) -> Result<Block> {
        let file = path.join("meta.json");
        let shown = || format!("read {}", file.display());
        let text = std::fs::read_to_string(&file).with_context(shown)?;
        let meta: Meta = serde_json::from_str(&text).with_context(shown)?;
        if meta.version != 1 {
            bail!("{}: version {} of blocks is not known here", file.display(), meta.version);
        }
        Ok(Block { path: path.to_owned(), meta })
    }

    /// Its name.
    pub(super) fn name(&self) -> &str {
        &self.meta.ulid
    }

    /// Shows every wanted series that has samples: its entry and all wanted samples, ascending.
    /// Yields what was deleted and so passed over, in samples.
    pub(super) fn each_series(
        &self,
        wanted: &Wanted,
        mut show: impl FnMut(&SeriesEntry, &Samples) -> Result<()>,
    ) -> Result<u64> {
        let path = self.path.join("index");
        let bytes = std::fs::read(&path).with_context(|| format!("read {}", path.display()))?;
        let index = Index::open(&bytes).with_context(|| path.display().to_string())?;
        let tombstones = self.tombstones()?;
        let mut files: Vec<Option<ChunkFile>> = Vec::new();
        let (mut samples, mut deleted) = (Samples::default(), 0);
        for entry in index.series() {
            let entry = entry.with_context(|| path.display().to_string())?;
            if !wanted.series(&entry) {
                continue;
            }
            samples.clear();
            for chunk in &entry.chunks {
                if chunk.last_ms < wanted.start_ms || wanted.end_ms < chunk.first_ms {
                    continue;
                }
                self.file(&mut files, chunk.file)?.read(chunk.offset, &mut samples)?;
            }
            deleted += retain(&mut samples, wanted, &tombstones, entry.id);
            if !samples.timestamps_ms.is_empty() || !samples.histograms.is_empty() {
                show(&entry, &samples)?;
            }
        }
        Ok(deleted)
    }

    /// File `number` of the chunks, opened when it is needed first; only one stays open, because
    /// series refer to them in order.
    fn file<'a>(
        &self,
        files: &'a mut Vec<Option<ChunkFile>>,
        number: usize,
    ) -> Result<&'a mut ChunkFile> {
        let path = self.path.join("chunks").join(format!("{:06}", number + 1));
        if number >= files.len() {
            // The number comes from the index, whose checksum fits; files are few.
            anyhow::ensure!(number < 1 << 20, "{}: no block has as many files", path.display());
            files.resize_with(number + 1, || None);
        }
        if files[number].is_none() {
            files.iter_mut().for_each(|file| *file = None);
            files[number] = Some(ChunkFile::open(&path)?);
        }
        Ok(files[number].as_mut().expect("opened above"))
    }

    fn tombstones(&self) -> Result<Vec<Tombstone>> {
        let path = self.path.join("tombstones");
        match std::fs::read(&path) {
            Ok(bytes) => read_tombstones(&bytes).with_context(|| path.display().to_string()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(error).with_context(|| format!("read {}", path.display())),
        }
    }
}

/// Keeps wanted samples. Yields how many of the others had been deleted.
fn retain(samples: &mut Samples, wanted: &Wanted, tombstones: &[Tombstone], series: u64) -> u64 {
    let gone: Vec<&Tombstone> = tombstones.iter().filter(|one| one.series == series).collect();
    let mut deleted = 0;
    let mut keep = |t_ms: i64| {
        let is_gone = gone.iter().any(|one| (one.from_ms..=one.to_ms).contains(&t_ms));
        deleted += u64::from(is_gone);
        !is_gone && (wanted.start_ms..=wanted.end_ms).contains(&t_ms)
    };
    let mut kept = 0;
    for index in 0..samples.timestamps_ms.len() {
        if keep(samples.timestamps_ms[index]) {
            samples.timestamps_ms[kept] = samples.timestamps_ms[index];
            samples.values[kept] = samples.values[index];
            kept += 1;
        }
    }
    samples.timestamps_ms.truncate(kept);
    samples.values.truncate(kept);
    samples.histograms.retain(|(t_ms, _)| keep(*t_ms));
    deleted
}
