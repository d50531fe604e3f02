//! Appends frames.

use std::collections::BTreeMap;
use std::sync::Arc;

use catalog::{LogPosition, StoreId};

use super::frame::{FILE_HEADER_LEN, FileHeader, FileSeal, FrameHeader, MAX_PAYLOAD_BYTES};
use super::{DIRECTORY, FrameKind, LogError, LogReader, copy_path, log_path};
use crate::blobs::BlobError;
use crate::counters::Counters;
use crate::disk::{Disk, DiskFile};

/// The one writer of a log. A frame is durable once [`LogWriter::sync`] has returned after it.
///
/// After a fault that is not `Full` the writer refuses everything: the process has to stop.
pub struct LogWriter {
    disk: Arc<dyn Disk>,
    counters: Arc<Counters>,
    store: StoreId,
    next_sequence: u64,
    /// Where the newest file of an earlier run ended, until this run has a file.
    behind: LogPosition,
    /// What the first file of this run will begin with. Kept while the disk is full.
    first_snapshot: Vec<u8>,
    current: Option<OpenFile>,
    /// Closed files by sequence, with their length.
    closed: BTreeMap<u64, u64>,
    flushed_through: LogPosition,
    poisoned: Option<String>,
}

struct OpenFile {
    file: Box<dyn DiskFile>,
    sequence: u64,
    seal: FileSeal,
    /// Where the last good frame ends.
    end: u64,
    synced: bool,
}

impl LogWriter {
    /// Makes durable all that `reader` found and begins a new file behind it. On a full disk the
    /// file is begun by the first append that finds space.
    ///
    /// `flushed_through` and `snapshot` are those of the catalog as replayed.
    ///
    /// # Errors
    /// Faults of the disk other than `Full`; a snapshot above the limit.
    pub fn open(
        reader: LogReader,
        counters: Arc<Counters>,
        store: StoreId,
        flushed_through: LogPosition,
        snapshot: Vec<u8>,
    ) -> Result<LogWriter, LogError> {
        reader.sync_newest()?;
        let (disk, closed, next_sequence, behind) = reader.into_parts();
        let mut writer = LogWriter {
            disk,
            counters,
            store,
            next_sequence,
            behind,
            first_snapshot: snapshot,
            current: None,
            closed,
            flushed_through,
            poisoned: None,
        };
        match writer.ensure_file() {
            Ok(()) | Err(LogError::Disk(BlobError::Full { .. })) => Ok(writer),
            Err(error) => Err(error),
        }
    }

    /// Appends one frame, not yet durable, and returns where it begins. Its payload is `parts` one
    /// after the other. One system call.
    ///
    /// # Errors
    /// `Full`: nothing was appended, later appends may succeed. `TooLarge`. All others are final.
    pub fn append(&mut self, kind: FrameKind, parts: &[&[u8]]) -> Result<LogPosition, LogError> {
        self.check_poison()?;
        self.ensure_file()?;
        let synced = self.current.as_ref().is_some_and(|current| current.synced);
        let header = frame_header(kind, parts, synced)?;
        let current = self.current.as_mut().expect("ensured above");
        let position = LogPosition { file: current.sequence, offset: current.end };
        let header_bytes = header.encode(&current.seal, current.end);
        let mut all = Vec::with_capacity(parts.len() + 1);
        all.push(&header_bytes[..]);
        all.extend_from_slice(parts);
        current.synced = false;
        if let Err(error) = current.file.append(&all) {
            // A part of the frame may be there; what follows must not come behind it.
            let cut = current.file.truncate(current.end);
            return Err(match (cut, error) {
                (Ok(()), error @ BlobError::Full { .. }) => {
                    self.counters.log_full.add(1);
                    LogError::Disk(error)
                }
                (Ok(()), error) => self.poison(error),
                (Err(cut), _) => self.poison(cut),
            });
        }
        current.end += header.frame_len();
        self.counters.log_frames.add(1);
        self.counters.log_bytes.add(header.frame_len());
        Ok(position)
    }

    /// Makes all appended frames durable. Costs nothing if they are.
    ///
    /// # Errors
    /// Final: after a failed sync nothing is known about the file.
    pub fn sync(&mut self) -> Result<(), LogError> {
        self.check_poison()?;
        let Some(current) = self.current.as_mut().filter(|current| !current.synced) else {
            return Ok(());
        };
        self.counters.log_syncs.add(1);
        match current.file.sync_data() {
            Ok(()) => {
                current.synced = true;
                Ok(())
            }
            Err(error) => Err(self.poison(error)),
        }
    }

    /// Syncs the current file and begins a new one with `snapshot`, the catalog after all frames
    /// appended so far. Returns where the old one ended.
    ///
    /// # Errors
    /// `Full`: the current file goes on. `TooLarge`. All others are final.
    pub fn rotate(&mut self, snapshot: &[u8]) -> Result<LogPosition, LogError> {
        self.sync()?;
        if self.current.is_none() {
            self.first_snapshot = snapshot.to_vec();
            self.ensure_file()?;
            return Ok(self.behind);
        }
        let end = self.end();
        let begun = self.begin_file(end, true, snapshot)?;
        let old = self.current.replace(begun).expect("checked above");
        self.closed.insert(old.sequence, old.end);
        Ok(end)
    }

    /// Where the next frame will begin: all frames so far lie before it.
    pub fn end(&self) -> LogPosition {
        self.current.as_ref().map_or(self.behind, |current| LogPosition {
            file: current.sequence,
            offset: current.end,
        })
    }

    /// Sequence of the file that takes frames; `None` while a full disk prevents the first one.
    pub fn current_file(&self) -> Option<u64> {
        self.current.as_ref().map(|current| current.sequence)
    }

    /// Bytes in the current file: a reason to rotate.
    pub fn current_file_bytes(&self) -> u64 {
        self.current.as_ref().map_or(0, |current| current.end)
    }

    /// Bytes of log behind the last flush: a reason to flush, and what a start has to read.
    pub fn bytes_since_flush(&self) -> u64 {
        let flushed = self.flushed_through;
        let current = self.current.as_ref().map(|current| (current.sequence, current.end));
        let closed = self.closed.range(flushed.file..).map(|(&sequence, &len)| (sequence, len));
        let unflushed = |(sequence, len): (u64, u64)| {
            if sequence == flushed.file { len.saturating_sub(flushed.offset) } else { len }
        };
        closed.chain(current).map(unflushed).sum()
    }

    /// Notes that all frames before `position` are in blocks, and removes files that hold nothing
    /// else and nothing behind `keep`, from where on somebody still reads. Call it when the flush
    /// that says so is durable, or when `keep` has moved. The current file stays.
    ///
    /// # Errors
    /// Faults of the disk; the files left are removed by the next call.
    pub fn delete_before(
        &mut self,
        position: LogPosition,
        keep: Option<LogPosition>,
    ) -> Result<(), LogError> {
        self.flushed_through = self.flushed_through.max(position);
        let wanted = keep.map_or(self.flushed_through, |keep| keep.min(self.flushed_through));
        // Oldest first: a crash between must not leave a hole.
        while let Some((&sequence, _)) = self.closed.first_key_value() {
            if sequence >= wanted.file {
                break;
            }
            // The copy first: alone it would stand for a file that was lost.
            self.disk.remove(&copy_path(sequence))?;
            self.disk.remove(&log_path(sequence))?;
            self.closed.remove(&sequence);
            self.counters.log_files_removed.add(1);
        }
        Ok(())
    }

    fn check_poison(&self) -> Result<(), LogError> {
        match &self.poisoned {
            Some(reason) => Err(LogError::Poisoned { reason: reason.clone() }),
            None => Ok(()),
        }
    }

    fn poison(&mut self, error: BlobError) -> LogError {
        self.poisoned = Some(error.to_string());
        self.counters.log_poisoned.add(1);
        LogError::Disk(error)
    }

    /// Begins the first file of this run, unless that is done.
    fn ensure_file(&mut self) -> Result<(), LogError> {
        if self.current.is_none() {
            let snapshot = std::mem::take(&mut self.first_snapshot);
            match self.begin_file(self.behind, false, &snapshot) {
                Ok(begun) => self.current = Some(begun),
                Err(error) => {
                    self.first_snapshot = snapshot;
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// Writes a new file with its header and snapshot, durably, and then the copy of both.
    fn begin_file(
        &mut self,
        previous: LogPosition,
        previous_synced: bool,
        snapshot: &[u8],
    ) -> Result<OpenFile, LogError> {
        let frame = frame_header(FrameKind::CatalogSnapshot, &[snapshot], false)?;
        // A sequence is used once, even if its file was given up.
        let sequence = self.next_sequence;
        self.next_sequence += 1;
        let header = FileHeader { sequence, previous, previous_synced, store: self.store }.encode();
        let seal = FileSeal::new(self.store, sequence);
        let frame_bytes = frame.encode(&seal, FILE_HEADER_LEN as u64);
        let parts = [&header[..], &frame_bytes, snapshot];
        let file = match self.write_file(&log_path(sequence), &parts) {
            Ok(file) => file,
            Err(error @ BlobError::Full { .. }) => {
                // A later start must not take its snapshot for the newest.
                self.discard(&log_path(sequence))?;
                self.counters.log_full.add(1);
                return Err(error.into());
            }
            Err(error) => return Err(self.poison(error)),
        };
        match self.write_file(&copy_path(sequence), &parts) {
            Ok(_) => {}
            // The file itself is whole; only its insurance is missing.
            Err(BlobError::Full { .. }) => self.discard(&copy_path(sequence))?,
            Err(error) => return Err(self.poison(error)),
        }
        self.counters.log_files.add(1);
        let end = FILE_HEADER_LEN as u64 + frame.frame_len();
        Ok(OpenFile { file, sequence, seal, end, synced: true })
    }

    fn write_file(&self, path: &str, parts: &[&[u8]]) -> Result<Box<dyn DiskFile>, BlobError> {
        let mut file = self.disk.create(path)?;
        file.append(parts)?;
        file.sync_data()?;
        self.disk.sync_directory(DIRECTORY)?;
        Ok(file)
    }

    fn discard(&mut self, path: &str) -> Result<(), LogError> {
        let gone = self.disk.remove(path).and_then(|()| self.disk.sync_directory(DIRECTORY));
        gone.map_err(|error| self.poison(error))
    }
}

fn frame_header(
    kind: FrameKind,
    parts: &[&[u8]],
    after_sync: bool,
) -> Result<FrameHeader, LogError> {
    FrameHeader::of(kind, parts, after_sync).ok_or_else(|| LogError::TooLarge {
        found_bytes: parts.iter().map(|part| part.len() as u64).sum(),
        limit_bytes: MAX_PAYLOAD_BYTES,
    })
}
