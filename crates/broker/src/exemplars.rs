//! Exemplars: what is kept of them in memory, and the file by which they outlive the log.
//!
//! They go into the log with their samples and are kept when the log is synced, in its order. A
//! flush, after which the log is removed, writes all of them into a file that is named after the
//! place in the log before which it has everything. So a start reads the file that belongs to the
//! last flush, and then the log; `docs/decisions` has the record.

use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result};
use blockstore::{BlobError, Disk, quarantine_file};
use catalog::LogPosition;
use metricstore::{
    Delete, ExemplarFileError, ExemplarOutcome, ExemplarRefusals, ExemplarSnapshot, ExemplarStore,
    ResolvedBatch, Standing,
};
use model::{Matcher, SeriesExemplars, TenantId, TimeRange};
use parking_lot::RwLock;

use crate::commit::Cut;

/// Where the files lie, below the data directory.
const DIRECTORY: &str = "exemplars";
const SUFFIX: &str = ".wfe";
/// Series looked at before writers are let in between.
const PLACES_AT_ONCE: usize = 512;

/// What became of the exemplars that came.
#[derive(Debug, Default)]
pub(crate) struct ExemplarCounters {
    pub(crate) stored: AtomicU64,
    pub(crate) repeated: AtomicU64,
    pub(crate) out_of_order: AtomicU64,
    pub(crate) unknown_series: AtomicU64,
    pub(crate) too_long: AtomicU64,
    pub(crate) malformed: AtomicU64,
    pub(crate) out_of_bounds: AtomicU64,
    /// More of them than a batch holds, without a value, or none are kept at all.
    pub(crate) left_out: AtomicU64,
}

/// All exemplars that are kept.
pub(crate) struct ExemplarBook {
    /// Written by the committer alone.
    store: RwLock<ExemplarStore>,
    /// Through which change a durable file has them.
    saved: AtomicU64,
    /// The start found the file damaged.
    pub(crate) was_damaged: bool,
    pub(crate) counters: ExemplarCounters,
}

impl ExemplarBook {
    /// Reads what the flush at `flushed_through` wrote. Files of flushes that were not finished go;
    /// without an intact catalog nobody knows which those are, and the last file counts.
    ///
    /// # Errors
    /// The disk cannot be listed, or a newer program wrote the file. A damaged one is set aside.
    pub(crate) fn open(
        disk: &dyn Disk,
        flushed_through: LogPosition,
        is_intact: bool,
        max_exemplars: usize,
        seed: u64,
    ) -> Result<Self> {
        let mut store = ExemplarStore::new(max_exemplars, seed);
        let mut was_damaged = false;
        let mut files = files(disk).context("list the exemplars")?;
        if is_intact {
            for (_, unfinished) in files.extract_if(.., |(at, _)| *at > flushed_through) {
                disk.remove(&unfinished).context("remove exemplars of an unfinished flush")?;
            }
        }
        if let Some((_, path)) = files.last() {
            match read(disk, path, &mut store) {
                Ok(()) => {}
                Err(ReadError::File(newer @ ExemplarFileError::Newer { .. })) => {
                    return Err(newer).with_context(|| format!("read {path}"));
                }
                Err(error) => {
                    was_damaged = true;
                    let saved_as = quarantine_file(disk, path).context("set exemplars aside")?;
                    tracing::error!(
                        file = %path, %error, saved_as,
                        "exemplars older than the log are lost; samples are not concerned"
                    );
                }
            }
        }
        let saved = AtomicU64::new(store.changes());
        let (store, counters) = (RwLock::new(store), ExemplarCounters::default());
        Ok(ExemplarBook { store, saved, was_damaged, counters })
    }

    /// Whether any are kept.
    pub(crate) fn is_enabled(&self) -> bool {
        self.store.read().max_exemplars() > 0
    }

    /// Bytes of memory they take.
    pub(crate) fn bytes(&self) -> u64 {
        self.store.read().bytes() as u64
    }

    /// How many there are, of how many series, at most how many, and the time of the first.
    pub(crate) fn totals(&self) -> (usize, usize, usize, Option<i64>) {
        let store = self.store.read();
        (store.len(), store.series(), store.max_exemplars(), store.oldest_ms())
    }

    /// Takes those out of a batch that are durable already or come too late, before they get into
    /// the log: a target shows the same exemplars in every scrape.
    pub(crate) fn take_known_out(&self, batch: &mut ResolvedBatch) -> ExemplarOutcome {
        let mut outcome = ExemplarOutcome::default();
        let (store, tenant) = (self.store.read(), batch.tenant);
        batch.exemplars.retain(|row| {
            let standing = store.standing(tenant, &row.series, &row.exemplar);
            if standing != Standing::New {
                outcome.count(standing);
            }
            standing == Standing::New
        });
        drop(store);
        self.count(outcome);
        outcome
    }

    /// Keeps the exemplars of a batch that is durable.
    pub(crate) fn keep(&self, batch: &mut ResolvedBatch) -> ExemplarOutcome {
        let mut outcome = ExemplarOutcome::default();
        // Fast path: most batches have none.
        if batch.exemplars.is_empty() {
            return outcome;
        }
        let mut store = self.store.write();
        for row in batch.exemplars.drain(..) {
            outcome.count(store.push(batch.tenant, &row.series, row.exemplar));
        }
        drop(store);
        self.count(outcome);
        outcome
    }

    /// Forgets what a delete hides.
    pub(crate) fn forget_deleted(&self, delete: &Delete) {
        self.store.write().forget_deleted(delete);
    }

    /// All of them, unless a file has them already.
    pub(crate) fn unsaved(&self) -> Option<ExemplarSnapshot> {
        let store = self.store.read();
        (store.changes() != self.saved.load(Ordering::Acquire)).then(|| store.snapshot())
    }

    /// Writes those of a cut, if there are any, durably. Until the flush is known to the catalog the
    /// file before counts, if the process ends.
    pub(crate) fn write(&self, disk: &dyn Disk, cut: &Cut) -> Result<(), BlobError> {
        let Some(snapshot) = &cut.exemplars else { return Ok(()) };
        let mut bytes = Vec::new();
        snapshot.encode(&mut bytes);
        let path = path(cut.through);
        let written = disk.create(&path).and_then(|mut file| {
            file.append(&[&bytes])?;
            file.sync_data()?;
            disk.sync_directory(DIRECTORY)
        });
        if written.is_err() {
            // The fault that is told is the one that came first; the next start looks again.
            let _ = disk.remove(&path);
        }
        written
    }

    /// The catalog knows of the flush at the cut: if it wrote a file, those before are of no use any
    /// more.
    pub(crate) fn saved(&self, disk: &dyn Disk, cut: &Cut) {
        let Some(snapshot) = &cut.exemplars else { return };
        self.saved.store(snapshot.changes(), Ordering::Release);
        let removed = files(disk).and_then(|files| {
            files
                .iter()
                .filter(|(at, _)| *at != cut.through)
                .try_for_each(|(_, path)| disk.remove(path))
        });
        if let Err(error) = removed {
            tracing::warn!(%error, "files of older exemplars stay until the next flush");
        }
    }

    /// The exemplars in `range` of the tenant's series that satisfy any of `selectors`, ascending by
    /// labels.
    pub(crate) fn select(
        &self,
        tenant: TenantId,
        selectors: &[Vec<Matcher>],
        range: TimeRange,
    ) -> Vec<SeriesExemplars> {
        let mut found = Vec::new();
        let mut from = 0;
        loop {
            // The committer waits for this lock, so it is held for a part at a time.
            let store = self.store.read();
            if from >= store.places() {
                break;
            }
            store.collect(from..from + PLACES_AT_ONCE, tenant, selectors, range, &mut found);
            from += PLACES_AT_ONCE;
        }
        found.sort_by(|a, b| a.labels.cmp(&b.labels));
        // A series whose last exemplar gave way and that came back may have been met at both places.
        found.dedup_by(|later, earlier| {
            let same = later.labels == earlier.labels;
            if same {
                earlier.exemplars.append(&mut later.exemplars);
                earlier.exemplars.sort_by(|a, b| a.order(b));
                earlier.exemplars.dedup_by(|b, a| a.order(b).is_eq());
            }
            same
        });
        found
    }

    pub(crate) fn count_refused(&self, refusals: ExemplarRefusals) {
        let ExemplarRefusals { unknown_series, too_long, malformed, out_of_bounds } = refusals;
        let counters = &self.counters;
        for (counter, by) in [
            (&counters.unknown_series, unknown_series),
            (&counters.too_long, too_long),
            (&counters.malformed, malformed),
            (&counters.out_of_bounds, out_of_bounds),
        ] {
            counter.fetch_add(by, Ordering::Relaxed);
        }
    }

    fn count(&self, outcome: ExemplarOutcome) {
        let ExemplarOutcome { stored, repeated, out_of_order } = outcome;
        self.counters.stored.fetch_add(stored, Ordering::Relaxed);
        self.counters.repeated.fetch_add(repeated, Ordering::Relaxed);
        self.counters.out_of_order.fetch_add(out_of_order, Ordering::Relaxed);
    }
}

/// Gives a copy of the store, below `root`, the exemplars that the last flush wrote. The copy's log
/// begins anew.
///
/// # Errors
/// Faults of the disk.
pub(crate) fn link(disk: &dyn Disk, through: LogPosition, root: &str) -> Result<(), BlobError> {
    let files = files(disk)?;
    let Some((_, source)) = files.iter().rfind(|(at, _)| *at <= through) else { return Ok(()) };
    disk.link(source, &format!("{root}/{}", path(LogPosition::default())))?;
    disk.sync_directory(&format!("{root}/{DIRECTORY}"))
}

#[derive(Debug, thiserror::Error)]
enum ReadError {
    #[error(transparent)]
    Disk(#[from] BlobError),
    #[error(transparent)]
    File(#[from] ExemplarFileError),
}

fn read(disk: &dyn Disk, path: &str, store: &mut ExemplarStore) -> Result<(), ReadError> {
    let file = disk.open(path)?;
    let mut bytes = vec![0; usize::try_from(file.size_bytes()).unwrap_or(usize::MAX)];
    file.read_exact_at(0, &mut bytes)?;
    Ok(store.load(&bytes)?)
}

fn path(through: LogPosition) -> String {
    format!("{DIRECTORY}/{:020}-{:020}{SUFFIX}", through.file, through.offset)
}

/// The files by ascending position.
fn files(disk: &dyn Disk) -> Result<Vec<(LogPosition, String)>, BlobError> {
    let listed = disk.list(DIRECTORY)?.into_iter().filter_map(|file| {
        let name = file.key.strip_prefix(DIRECTORY)?.strip_prefix('/')?.strip_suffix(SUFFIX)?;
        let (sequence, offset) = name.split_once('-')?;
        let at = LogPosition { file: sequence.parse().ok()?, offset: offset.parse().ok()? };
        Some((at, file.key))
    });
    let mut files: Vec<_> = listed.collect();
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use blockstore::MemoryDisk;
    use metricstore::ExemplarRow;
    use model::{DEFAULT_TENANT, Exemplar, Labels};

    use super::*;

    fn at(file: u64) -> LogPosition {
        LogPosition { file, offset: 56 }
    }

    fn batch(t_ms: i64) -> ResolvedBatch {
        let series = Labels::from_pairs([("__name__", "m")]).expect("valid");
        let exemplar = Exemplar { labels: Labels::empty(), value: 1.0, t_ms, is_dated: true };
        let mut batch = ResolvedBatch::default();
        batch.exemplars.push(ExemplarRow { ordinal: 0, series, exemplar });
        batch
    }

    fn cut(book: &ExemplarBook, file: u64) -> Cut {
        let (parts, exemplars) = (Vec::new(), book.unsaved());
        let lines = crossbeam_channel::never();
        Cut { through: at(file), parts, lines, deletes_through: 0, exemplars, state: None }
    }

    fn open(disk: &dyn Disk, flushed_through: LogPosition, is_intact: bool) -> ExemplarBook {
        ExemplarBook::open(disk, flushed_through, is_intact, 10, 1).expect("memory")
    }

    fn times(book: &ExemplarBook) -> Vec<i64> {
        let found = book.select(DEFAULT_TENANT, &[Vec::new()], TimeRange::all());
        found.iter().flat_map(|series| series.exemplars.iter().map(|e| e.t_ms)).collect()
    }

    /// A disk after one flush, and what comes before the second.
    fn prepared() -> (MemoryDisk, ExemplarBook) {
        let disk = MemoryDisk::new();
        let book = open(&disk, LogPosition::default(), true);
        assert_eq!(book.keep(&mut batch(1)).stored, 1);
        let first = cut(&book, 1);
        book.write(&disk, &first).expect("memory");
        book.saved(&disk, &first);
        assert!(cut(&book, 2).exemplars.is_none(), "nothing is new");
        assert_eq!(book.keep(&mut batch(2)).stored, 1);
        (disk, book)
    }

    #[test]
    fn a_power_cut_at_any_step_leaves_the_file_that_the_catalog_means() {
        let (disk, book) = prepared();
        let before = disk.steps();
        let second = cut(&book, 2);
        book.write(&disk, &second).expect("memory");
        let written = disk.steps() - before;
        book.saved(&disk, &second);
        let steps = disk.steps() - before;
        assert!((3..steps).contains(&written), "{written} of {steps} steps");
        for (after, seed) in (0..=steps).flat_map(|after| (0..8).map(move |seed| (after, seed))) {
            let (disk, book) = prepared();
            disk.cut_power_after(after);
            let second = cut(&book, 2);
            let is_written = book.write(&disk, &second).is_ok();
            assert_eq!(is_written, after >= written);
            if is_written {
                book.saved(&disk, &second);
            }
            let crashed = disk.crash(seed);
            // The catalog hears of the second flush between the two, or does not.
            for flushed in [1, 2].into_iter().filter(|flushed| *flushed == 1 || is_written) {
                if flushed == 1 && after > written {
                    continue;
                }
                let book = open(&crashed.crash(seed), at(flushed), true);
                let wanted: Vec<i64> = (1..=flushed as i64).collect();
                assert_eq!(times(&book), wanted, "cut {after}, seed {seed}, flush {flushed}");
                assert!(!book.was_damaged);
            }
        }
    }

    #[test]
    fn without_an_intact_catalog_the_last_file_counts() {
        let (disk, book) = prepared();
        let second = cut(&book, 2);
        book.write(&disk, &second).expect("memory");
        assert_eq!(times(&open(&disk, LogPosition::default(), false)), [1, 2]);
        assert_eq!(files(&disk).expect("memory").len(), 2, "nothing is removed");
        assert_eq!(times(&open(&disk, at(1), true)), [1]);
        assert_eq!(files(&disk).expect("memory").len(), 1);
    }

    #[test]
    fn a_newer_file_stops_the_start() {
        let (disk, _) = prepared();
        let (_, path) = files(&disk).expect("memory").remove(0);
        let mut bytes = b"WFEXM\r\n\x1a\x09".to_vec();
        bytes.extend_from_slice(&codec::checksum(&bytes).to_le_bytes());
        disk.remove(&path).expect("memory");
        disk.create(&path).expect("memory").append(&[&bytes]).expect("memory");
        let error = ExemplarBook::open(&disk, at(1), true, 10, 1).err().expect("newer");
        assert!(format!("{error:#}").contains("upgrade it"), "{error:#}");
    }
}
