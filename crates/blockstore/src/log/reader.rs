//! Reads the log at a start.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use catalog::{LogPosition, StoreId};

use super::frame::{FILE_HEADER_LEN, FIRST_OPTIONAL_KIND, FileHeader, FileSeal, LAST_KIND};
use super::repair::{Arranged, NamedFile, arrange};
use super::scan::{CHUNK_BYTES, Found, HOP_BYTES, Scanner};
use super::{Frame, FrameKind, LogError, NameKind};
use crate::blobs::ReadAt;
use crate::counters::Counters;
use crate::disk::{Disk, read_by_pages};
use crate::quarantine;

/// A range of the log that is lost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// Path of the file.
    pub file: String,
    /// Where the range begins.
    pub offset: u64,
    /// Its length.
    pub size_bytes: u64,
    /// What was found.
    pub cause: &'static str,
    /// Where a copy is kept; `None` if there are no bytes, or no space for them.
    pub saved_as: Option<String>,
}

/// What a start found in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplayReport {
    /// Files in the log.
    pub files: u64,
    /// Good frames handed to the visitor of [`LogReader::replay`].
    pub frames: u64,
    /// Bytes in their payloads.
    pub payload_bytes: u64,
    /// Frames of an optional kind that this program does not know.
    pub skipped_frames: u64,
    /// Snapshots whose frame was bad and whose copy was good.
    pub recovered_snapshots: u64,
    /// Bad bytes behind the last sync that the log knows of. A power cut leaves them, and as far
    /// as the log knows nobody was told that they are durable: this is not counted as damage.
    pub torn_bytes: u64,
    /// Lost ranges, in the order of the log.
    pub damage: Vec<Damage>,
    /// Whether all commands since the newest good snapshot could be read. If not, blocks that the
    /// catalog does not list may be wanted all the same.
    pub catalog_intact: bool,
}

/// Reads the files an earlier run left.
pub struct LogReader {
    disk: Arc<dyn Disk>,
    counters: Arc<Counters>,
    store: Option<StoreId>,
    files: Vec<LogFile>,
    next_sequence: u64,
    /// Where the last file's good frames end, once replayed.
    end: LogPosition,
    report: ReplayReport,
}

struct LogFile {
    path: String,
    sequence: u64,
    size_bytes: u64,
    file: Option<Arc<dyn ReadAt>>,
    copy: Option<Arc<dyn ReadAt>>,
    /// From the file, else from its copy.
    header: Option<FileHeader>,
    /// Whether the header is in the file itself.
    begins_well: bool,
}

/// One thing that a walk through a file meets.
enum Step {
    /// A good frame, of whatever kind, that proves all before it in its file to be durable.
    Durable,
    Frame(Frame),
    /// A good frame of a kind that this program does not know and may skip.
    Unknown,
    Bad(BadRange),
}

struct BadRange {
    offset: u64,
    end: u64,
    cause: &'static str,
    /// Whether a command may have been in it.
    catalog: bool,
}

impl LogReader {
    /// Puts the files in order and finds out whose they are. Reads their headers only.
    ///
    /// # Errors
    /// `Newer`; faults of the disk while renaming.
    pub fn open(disk: Arc<dyn Disk>, counters: Arc<Counters>) -> Result<LogReader, LogError> {
        let Arranged { files, store, removed } = arrange(&*disk)?;
        let next_sequence = files.iter().map(|file| file.named).max().unwrap_or(0) + 1;
        let report = ReplayReport {
            files: 0,
            frames: 0,
            payload_bytes: 0,
            skipped_frames: 0,
            recovered_snapshots: 0,
            torn_bytes: 0,
            damage: Vec::new(),
            catalog_intact: true,
        };
        let files = pair_with_copies(files);
        let end = LogPosition::default();
        let mut reader = LogReader { disk, counters, store, files, next_sequence, end, report };
        reader.report.files = reader.files.len() as u64;
        for (file, cause, saved_as) in removed {
            let saved_as = Some(saved_as);
            let (file, size_bytes) = (file.path, file.size_bytes);
            reader.damaged(Damage { file, offset: 0, size_bytes, cause, saved_as });
        }
        Ok(reader)
    }

    /// Identity of the store as the headers say; `None` if there is no log yet, or no header of it
    /// can be read.
    pub fn store(&self) -> Option<StoreId> {
        self.store
    }

    /// What was found so far.
    pub fn report(&self) -> &ReplayReport {
        &self.report
    }

    /// Hands the newest good snapshot and all commands after it to `visit`, in order. Data frames
    /// are hopped over: the cost is one small read for each of them.
    ///
    /// # Errors
    /// `Newer`.
    pub fn replay_catalog(&mut self, visit: &mut dyn FnMut(Frame)) -> Result<(), LogError> {
        let snapshots = |file: &LogFile| file.snapshot(self.store).is_some();
        let newest = self.files.iter().rposition(snapshots);
        let mut intact = newest.is_some() || self.files.is_empty();
        let start = newest.unwrap_or(0);
        for (index, file) in self.files.iter().enumerate().skip(start) {
            let mut bad_ranges = Vec::new();
            let mut durable = 0;
            file.walk(self.store, HOP_BYTES, is_catalog, &mut |step| match step {
                Step::Frame(frame) => visit(frame),
                Step::Unknown => {}
                Step::Durable => durable = bad_ranges.len(),
                Step::Bad(bad) => bad_ranges.push(bad),
            })?;
            if let Some(next) = self.files.get(index + 1).and_then(|next| next.header) {
                let end = LogPosition { file: file.sequence, offset: file.size_bytes };
                intact &= next.previous <= end;
                if next.previous_synced {
                    durable = bad_ranges.len();
                }
            }
            // Zeros behind the last sync were allocated but never written.
            let unwritten = |(at, bad)| at >= durable && file.is_zero(bad);
            intact &= bad_ranges.iter().enumerate().all(|bad| !bad.1.catalog || unwritten(bad));
        }
        self.report.catalog_intact &= intact;
        Ok(())
    }

    /// Hands all frames from `from` on to `visit`, in order, those of the catalog too. Cuts off
    /// what a power cut left at the end, copies damaged ranges to quarantine, and goes on behind
    /// them.
    ///
    /// About as fast as memory is copied and CRC-32 computed; payloads are not copied again.
    ///
    /// # Errors
    /// `Newer`. Damage is no error.
    pub fn replay(
        &mut self,
        from: LogPosition,
        visit: &mut dyn FnMut(Frame),
    ) -> Result<(), LogError> {
        for index in 0..self.files.len() {
            self.check_previous(index, from);
            if self.files[index].sequence >= from.file {
                self.replay_file(index, from, visit)?;
            }
        }
        Ok(())
    }

    fn replay_file(
        &mut self,
        index: usize,
        from: LogPosition,
        visit: &mut dyn FnMut(Frame),
    ) -> Result<(), LogError> {
        let file = &self.files[index];
        let mut bad_ranges = Vec::new();
        let mut durable = 0;
        let report = &mut self.report;
        let frames_before = report.frames;
        let good_end = file.walk(self.store, CHUNK_BYTES, |_| true, &mut |step| match step {
            Step::Frame(frame) if frame.position < from => {}
            Step::Frame(frame) => {
                report.frames += 1;
                report.payload_bytes += frame.payload.len() as u64;
                visit(frame);
            }
            Step::Unknown => report.skipped_frames += 1,
            Step::Durable => durable = bad_ranges.len(),
            Step::Bad(bad) => bad_ranges.push(bad),
        })?;
        let begins_badly =
            bad_ranges.first().is_some_and(|bad| bad.offset <= FILE_HEADER_LEN as u64);
        if begins_badly && file.needs_copy(self.store) {
            report.recovered_snapshots += 1;
        }
        self.counters.log_replayed_frames.add(report.frames - frames_before);
        let next = self.files.get(index + 1).and_then(|next| next.header);
        let closed = next.is_some_and(|header| header.previous_synced);
        if closed || file.file.is_none() {
            durable = bad_ranges.len();
        }
        for (at, bad) in bad_ranges.iter().enumerate() {
            let damage = self.save(index, bad);
            if at < durable {
                self.damaged(damage);
            } else {
                self.torn(index, bad, &damage);
            }
        }
        self.end = LogPosition { file: self.files[index].sequence, offset: good_end };
        Ok(())
    }

    /// Compares what a file says of the one before it with what was found.
    fn check_previous(&mut self, index: usize, from: LogPosition) {
        let Some(header) = self.files[index].header else { return };
        let LogPosition { file: previous, offset: expected } = header.previous;
        if previous == 0 || previous < from.file {
            return;
        }
        let before = index.checked_sub(1).map(|index| &self.files[index]);
        let (offset, cause) = match before.filter(|file| file.sequence == previous) {
            Some(file) => (file.size_bytes, "bytes at the end are missing"),
            None => (0, "file is missing"),
        };
        if offset < expected {
            let file = super::log_path(previous);
            let size_bytes = expected - offset;
            self.damaged(Damage { file, offset, size_bytes, cause, saved_as: None });
        }
    }

    /// Counts an unfinished write, and cuts it off if it is the end of the log. If its bytes cannot
    /// be kept they stay; nothing is ever appended to them.
    fn torn(&mut self, index: usize, bad: &BadRange, saved: &Damage) {
        self.report.torn_bytes += saved.size_bytes;
        self.counters.log_torn_bytes.add(saved.size_bytes);
        let file = &self.files[index];
        let is_end = index + 1 == self.files.len() && bad.end == file.size_bytes;
        let may_go = saved.saved_as.is_some() || file.is_zero(bad);
        if is_end && may_go && self.disk.truncate(&file.path, bad.offset).is_ok() {
            self.files[index].size_bytes = bad.offset;
        }
    }

    /// Copies a bad range to quarantine, unless it is all zeros.
    fn save(&self, index: usize, bad: &BadRange) -> Damage {
        let log_file = &self.files[index];
        let name = format!("log-{:020}-{}", log_file.sequence, bad.offset);
        let save = |file: &Arc<dyn ReadAt>| {
            quarantine::save_range(&*self.disk, &name, &**file, bad.offset, bad.end).ok()
        };
        Damage {
            file: log_file.path.clone(),
            offset: bad.offset,
            size_bytes: bad.end - bad.offset,
            cause: bad.cause,
            saved_as: log_file.file.as_ref().filter(|_| !log_file.is_zero(bad)).and_then(save),
        }
    }

    fn damaged(&mut self, damage: Damage) {
        self.counters.log_damaged_ranges.add(1);
        self.counters.log_damaged_bytes.add(damage.size_bytes);
        self.report.damage.push(damage);
    }

    /// Makes durable what can be read. The newest file may hold frames that were never synced, if
    /// the process ended and the power did not; whoever acts on one of them must not lose it later.
    /// Older files were synced when the one behind them was begun, or by the start after them.
    pub(super) fn sync_newest(&self) -> Result<(), LogError> {
        let Some(file) = self.files.last().filter(|file| file.file.is_some()) else {
            return Ok(());
        };
        // To the length it has: all that is asked for is the sync.
        Ok(self.disk.truncate(&file.path, file.size_bytes)?)
    }

    /// What a writer needs: the disk, closed files with their lengths, the next sequence, and
    /// where the last file ended.
    pub(super) fn into_parts(self) -> (Arc<dyn Disk>, BTreeMap<u64, u64>, u64, LogPosition) {
        let closed = self.files.iter().map(|file| (file.sequence, file.size_bytes)).collect();
        (self.disk, closed, self.next_sequence, self.end)
    }
}

impl LogFile {
    /// Goes through the file: first the snapshot, from the copy if need be, then all that follows.
    /// Returns where the last good frame ends. Payloads of unwanted kinds are neither read nor
    /// handed out.
    fn walk(
        &self,
        store: Option<StoreId>,
        chunk_bytes: usize,
        wanted: impl Fn(u8) -> bool,
        step: &mut dyn FnMut(Step),
    ) -> Result<u64, LogError> {
        let snapshot = self.snapshot(store);
        let first = snapshot.is_some().then_some(FILE_HEADER_LEN as u64);
        if let (Some(payload), Some(offset)) = (snapshot, first) {
            step(Step::Frame(self.frame(offset, FrameKind::CatalogSnapshot, payload)));
        }
        let mut whole = |cause| {
            let end = self.size_bytes;
            step(Step::Bad(BadRange { offset: 0, end, cause, catalog: true }));
            Ok(0)
        };
        let Some(file) = &self.file else {
            return whole("file is missing or cannot be opened");
        };
        let Some(seal) = self.seal(store) else {
            // A start that a power cut ended before its first write leaves an empty file.
            return if self.size_bytes == 0 { Ok(0) } else { whole("no header is readable") };
        };
        let mut scanner = Scanner::new(&**file, seal, chunk_bytes);
        let mut at = if self.begins_well { FILE_HEADER_LEN as u64 } else { 0 };
        let mut good_end = at;
        loop {
            let (bad_end, cause, catalog) = match scanner.at(at, &wanted) {
                Found::End => return Ok(good_end),
                Found::Frame { header, payload } => {
                    let position = at;
                    at += header.frame_len();
                    good_end = at;
                    if header.after_sync {
                        step(Step::Durable);
                    }
                    match (FrameKind::from_number(header.kind), payload) {
                        (Some(_), Some(_)) if Some(position) == first => {}
                        (Some(kind), Some(payload)) => {
                            step(Step::Frame(self.frame(position, kind, payload)));
                        }
                        (Some(_), None) => {}
                        (None, _) if header.kind >= FIRST_OPTIONAL_KIND => step(Step::Unknown),
                        (None, _) => return Err(self.newer_kind(header.kind)),
                    }
                    continue;
                }
                Found::BadPayload { header } => {
                    (at + header.frame_len(), "payload is damaged", is_catalog(header.kind))
                }
                Found::CutOff { header } => {
                    (self.size_bytes, "frame is cut off", is_catalog(header.kind))
                }
                Found::Garbage { next } => {
                    (next.unwrap_or(self.size_bytes), "frame header is damaged", true)
                }
            };
            step(Step::Bad(BadRange { offset: at, end: bad_end, cause, catalog }));
            at = bad_end;
        }
    }

    fn frame(&self, offset: u64, kind: FrameKind, payload: Bytes) -> Frame {
        let end = offset + super::frame::FRAME_HEADER_LEN as u64 + payload.len() as u64;
        let file = self.sequence;
        Frame {
            position: LogPosition { file, offset },
            end: LogPosition { file, offset: end },
            kind,
            payload,
        }
    }

    fn seal(&self, store: Option<StoreId>) -> Option<FileSeal> {
        Some(FileSeal::new(store?, self.sequence))
    }

    /// The payload of the first frame, from the file or from its copy.
    fn snapshot(&self, store: Option<StoreId>) -> Option<Bytes> {
        let own = self.file.as_ref().and_then(|file| self.snapshot_in(&**file, store));
        own.or_else(|| self.snapshot_in(&**self.copy.as_ref()?, store))
    }

    fn snapshot_in(&self, file: &dyn ReadAt, store: Option<StoreId>) -> Option<Bytes> {
        let mut scanner = Scanner::new(file, self.seal(store)?, HOP_BYTES);
        match scanner.first(FILE_HEADER_LEN as u64)? {
            (header, payload) if header.kind == FrameKind::CatalogSnapshot as u8 => Some(payload),
            _ => None,
        }
    }

    /// Whether the snapshot comes from the copy.
    fn needs_copy(&self, store: Option<StoreId>) -> bool {
        let own = self.file.as_ref().and_then(|file| self.snapshot_in(&**file, store));
        own.is_none() && self.snapshot(store).is_some()
    }

    fn is_zero(&self, range: &BadRange) -> bool {
        let Some(file) = &self.file else { return false };
        let mut chunk = vec![0; CHUNK_BYTES];
        let mut at = range.offset;
        while at < range.end {
            let len = usize::try_from(range.end - at).unwrap_or(usize::MAX).min(CHUNK_BYTES);
            read_by_pages(&**file, at, &mut chunk[..len]);
            if chunk[..len].iter().any(|byte| *byte != 0) {
                return false;
            }
            at += len as u64;
        }
        true
    }

    fn newer_kind(&self, found: u8) -> LogError {
        let (what, file) = ("log frame kind", self.path.clone());
        LogError::Newer { what, file, found, supported: LAST_KIND }
    }
}

fn is_catalog(kind: u8) -> bool {
    kind == FrameKind::CatalogSnapshot as u8 || kind == FrameKind::CatalogCommand as u8
}

/// Log files in ascending order of sequences, each with its copy. A copy alone stands for a file
/// that was lost: a file is removed after its copy.
fn pair_with_copies(files: Vec<NamedFile>) -> Vec<LogFile> {
    let (copies, logs): (Vec<_>, Vec<_>) =
        files.into_iter().partition(|file| file.kind == NameKind::Copy);
    let mut paired: BTreeMap<u64, LogFile> = BTreeMap::new();
    for log in logs {
        let file = LogFile {
            begins_well: log.header.is_some(),
            header: log.header,
            copy: None,
            path: log.path,
            sequence: log.named,
            size_bytes: log.size_bytes,
            file: log.file,
        };
        paired.insert(log.named, file);
    }
    for copy in copies {
        let copied = copy.header.filter(|header| header.sequence == copy.named);
        let file = paired.entry(copy.named).or_insert_with(|| LogFile {
            begins_well: false,
            header: None,
            copy: None,
            path: super::log_path(copy.named),
            sequence: copy.named,
            size_bytes: 0,
            file: None,
        });
        file.header = file.header.or(copied);
        file.copy = copy.file;
    }
    paired.into_values().collect()
}
