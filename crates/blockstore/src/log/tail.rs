//! Reads the log while it is written, for whoever passes on what is in it.

use std::sync::Arc;

use catalog::{LogPosition, StoreId};

use super::frame::{FILE_HEADER_LEN, FileSeal, FrameHeader};
use super::scan::{CHUNK_BYTES, Found, Scanner};
use super::{DIRECTORY, Frame, FrameKind, LogError, NameKind, log_path, parse_path};
use crate::blobs::{BlobError, ReadAt};
use crate::disk::Disk;

/// Payload after which one call of [`LogTail::read`] ends.
const READ_BYTES: u64 = 4 << 20;

/// Follows a log from a position on. It opens files anew for every read, so that it never holds one
/// that was removed, and only reads what the writer says is durable.
pub struct LogTail {
    disk: Arc<dyn Disk>,
    store: StoreId,
    position: LogPosition,
}

/// What one read came upon.
#[derive(Debug, Default)]
pub struct Tailed {
    /// Frames with samples or ends of windows, in the order of the log.
    pub frames: Vec<Frame>,
    /// Bytes that were passed over because they are damaged.
    pub damaged_bytes: u64,
    /// Whether the file of the position was gone, so that frames were missed.
    pub is_cut: bool,
}

impl LogTail {
    /// Begins at `from`, which is the end of a frame, or of no file if 0.
    pub fn new(disk: Arc<dyn Disk>, store: StoreId, from: LogPosition) -> Self {
        LogTail { disk, store, position: from }
    }

    /// Through where everything was read.
    pub fn position(&self) -> LogPosition {
        self.position
    }

    /// Reads on, up to `until`, which lies at the end of a durable frame; some megabytes at most. An
    /// answer without frames with a position before `until` means that there are none on this
    /// stretch: call it again.
    ///
    /// # Errors
    /// Faults of the disk. Damage is none.
    pub fn read(&mut self, until: LogPosition) -> Result<Tailed, LogError> {
        let mut tailed = Tailed::default();
        if self.position >= until {
            return Ok(tailed);
        }
        match self.disk.open(&log_path(self.position.file)) {
            Ok(file) => {
                let is_at_end = self.read_file(&*file, until, &mut tailed);
                if is_at_end && tailed.frames.is_empty() && self.position.file < until.file {
                    self.enter_next(until)?;
                }
            }
            Err(BlobError::NotFound { .. }) => {
                tailed.is_cut = self.position.file > 0;
                self.enter_next(until)?;
            }
            Err(error) => return Err(error.into()),
        }
        Ok(tailed)
    }

    /// Bytes of log between `from` and `until`.
    ///
    /// # Errors
    /// Faults of the disk.
    pub fn bytes_between(
        disk: &dyn Disk,
        from: LogPosition,
        until: LogPosition,
    ) -> Result<u64, LogError> {
        let sizes = sizes(disk, from.file, until)?;
        let all: u64 = sizes.iter().map(|(_, size_bytes)| size_bytes).sum();
        let begun = sizes.iter().any(|(sequence, _)| *sequence == from.file);
        Ok(if begun { all.saturating_sub(from.offset) } else { all })
    }

    /// Where to begin so that no more than `limit_bytes` lie before `until`: the beginning of a
    /// file, and of the last one at the latest, since files are removed whole.
    ///
    /// # Errors
    /// Faults of the disk.
    pub fn oldest_within(
        disk: &dyn Disk,
        until: LogPosition,
        limit_bytes: u64,
    ) -> Result<LogPosition, LogError> {
        let mut total = 0_u64;
        let mut oldest = LogPosition { file: until.file, offset: 0 };
        for (sequence, size_bytes) in sizes(disk, 0, until)?.into_iter().rev() {
            total = total.saturating_add(size_bytes);
            if total > limit_bytes && sequence < until.file {
                break;
            }
            oldest.file = sequence;
        }
        Ok(oldest)
    }

    /// Reads on in the file of the position; whether it is read to its end.
    fn read_file(&mut self, file: &dyn ReadAt, until: LogPosition, tailed: &mut Tailed) -> bool {
        let is_closed = self.position.file < until.file;
        let end = if is_closed { file.size_bytes() } else { until.offset };
        let begin = self.position.offset.max(FILE_HEADER_LEN as u64);
        let wanted = end.saturating_sub(begin).min(CHUNK_BYTES as u64);
        let chunk_bytes = usize::try_from(wanted).unwrap_or(CHUNK_BYTES).max(1);
        let seal = FileSeal::new(self.store, self.position.file);
        let mut scanner = Scanner::new(file, seal, chunk_bytes);
        let mut at = begin;
        let mut read_bytes = 0;
        while at < end && read_bytes < READ_BYTES {
            match scanner.at(at, has_samples) {
                Found::Frame { header, payload } => {
                    if let (Some(kind), Some(payload)) =
                        (FrameKind::from_number(header.kind), payload)
                    {
                        read_bytes += payload.len() as u64;
                        tailed.frames.push(self.frame(at, &header, kind, payload));
                    }
                    at += header.frame_len();
                }
                Found::BadPayload { header } => {
                    tailed.damaged_bytes += header.frame_len();
                    at += header.frame_len();
                }
                Found::Garbage { next } => {
                    let next = next.unwrap_or(end).min(end);
                    tailed.damaged_bytes += next - at;
                    at = next;
                }
                Found::CutOff { .. } | Found::End => {
                    tailed.damaged_bytes += end - at;
                    at = end;
                }
            }
        }
        self.position.offset = at.max(self.position.offset);
        at >= end
    }

    fn frame(
        &self,
        at: u64,
        header: &FrameHeader,
        kind: FrameKind,
        payload: bytes::Bytes,
    ) -> Frame {
        let place = |offset| LogPosition { file: self.position.file, offset };
        Frame { position: place(at), end: place(at + header.frame_len()), kind, payload }
    }

    /// Goes to the beginning of the next file there is.
    fn enter_next(&mut self, until: LogPosition) -> Result<(), LogError> {
        let next = sizes(&*self.disk, self.position.file + 1, until)?;
        let file = next.first().map_or(until.file, |(sequence, _)| *sequence);
        self.position = LogPosition { file, offset: 0 };
        if next.is_empty() {
            // Not even the file that is said to be durable is there: nothing of it can be read.
            self.position = until;
        }
        Ok(())
    }
}

fn has_samples(kind: u8) -> bool {
    match FrameKind::from_number(kind) {
        Some(
            FrameKind::Metrics
            | FrameKind::AgentMetrics
            | FrameKind::Aggregated
            | FrameKind::AggregationEnd,
        ) => true,
        Some(
            FrameKind::CatalogSnapshot
            | FrameKind::CatalogCommand
            | FrameKind::Logs
            | FrameKind::AgentLogs,
        )
        | None => false,
    }
}

/// Files from sequence `from` on, with their sizes, as far as `until`, in order.
fn sizes(disk: &dyn Disk, from: u64, until: LogPosition) -> Result<Vec<(u64, u64)>, LogError> {
    let mut found: Vec<(u64, u64)> = disk
        .list(DIRECTORY)?
        .into_iter()
        .filter_map(|info| match parse_path(&info.key) {
            Some((NameKind::Log, sequence)) if sequence >= from && sequence <= until.file => {
                let is_last = sequence == until.file;
                Some((sequence, if is_last { until.offset } else { info.size_bytes }))
            }
            _ => None,
        })
        .collect();
    found.sort_unstable();
    Ok(found)
}
