//! The files of one lane: written at the end, read from a cursor, removed from the front.

use std::collections::VecDeque;
use std::sync::Arc;

use blockstore::{BlobError, Disk, DiskFile, ReadAt};
use bytes::Bytes;

use super::counters::SpoolCounters;
use super::directory::{FoundFile, file_name};
use super::record::{
    BATCH, FILE_HEADER_LEN, FileHeader, FileSeal, Incarnation, MARKS, RecordHeader, decode_marks,
};
use super::segment::{Found, Segment};
use super::{Lane, Record};
use crate::error::AgentError;

/// Where a record begins.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Position {
    file: u64,
    offset: u64,
}

impl Position {
    fn start_of(file: u64) -> Self {
        Position { file, offset: FILE_HEADER_LEN as u64 }
    }
}

/// A new file, to write and to read.
type BothEnds = (Box<dyn DiskFile>, Arc<dyn ReadAt>);

/// What reading the headers of a lane's records brought to light.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct LaneReport {
    /// The newest marks of `live` and `backlog`.
    pub(super) marks: (u64, u64),
    /// The last staged pass that became part of a batch.
    pub(super) staged_through: u64,
}

/// The files of one lane.
pub(super) struct LaneFiles {
    disk: Arc<dyn Disk>,
    lane: Lane,
    incarnation: Incarnation,
    counters: Arc<SpoolCounters>,
    segments: VecDeque<Segment>,
    /// Of the last segment, if this process began it.
    writer: Option<Box<dyn DiskFile>>,
    next_file: u64,
    last_seq: u64,
    acked: u64,
    /// The first record that is not acknowledged, or the end.
    head: Position,
    /// What is read next, and the number of what was read last.
    cursor: Position,
    cursor_seq: u64,
    /// Number of the last batch that was read and is good.
    read_seq: u64,
    /// Batches up to this number that are lost have been counted.
    lost_through: u64,
}

impl LaneFiles {
    /// Takes over what earlier runs left, `files` by ascending number. `next_file` is above every
    /// number that a name in the directory bears.
    ///
    /// # Errors
    /// `SpoolNewer`.
    pub(super) fn open(
        disk: Arc<dyn Disk>,
        lane: Lane,
        incarnation: Incarnation,
        counters: Arc<SpoolCounters>,
        files: Vec<FoundFile>,
        next_file: u64,
    ) -> Result<(LaneFiles, LaneReport), AgentError> {
        let mut lane = LaneFiles {
            disk,
            lane,
            incarnation,
            counters,
            segments: VecDeque::new(),
            writer: None,
            next_file,
            last_seq: 0,
            acked: 0,
            head: Position::default(),
            cursor: Position::default(),
            cursor_seq: 0,
            read_seq: 0,
            lost_through: 0,
        };
        let mut report = LaneReport::default();
        for index in 0..files.len() {
            let stated_len = files
                .get(index + 1)
                .filter(|next| next.header.previous == files[index].header.number)
                .map(|next| next.header.previous_len);
            lane.take_over(&files[index], stated_len, &mut report)?;
        }
        Ok((lane, report))
    }

    /// Reads the record headers of one file. `stated_len` is what its successor says of it.
    fn take_over(
        &mut self,
        found: &FoundFile,
        stated_len: Option<u64>,
        report: &mut LaneReport,
    ) -> Result<(), AgentError> {
        let size_bytes = found.file.size_bytes();
        let len = stated_len.map_or(size_bytes, |stated| stated.min(size_bytes));
        let seal = FileSeal::new(&self.incarnation, self.lane, found.header.number);
        let (number, path) = (found.header.number, found.path.clone());
        let mut segment = Segment::new(number, path, seal, Arc::clone(&found.file), len);
        segment.damage_known = true;
        let missing = stated_len.map_or(0, |stated| stated.saturating_sub(size_bytes));
        if missing > 0 {
            self.counters.damaged(missing);
        }
        let mut offset = FILE_HEADER_LEN as u64;
        let mut bad_from = None;
        let good_end = loop {
            match segment.at(offset) {
                Found::Record(header) => {
                    if let Some(from) = bad_from.take() {
                        self.counters.bad_range(offset - from, header.after_sync);
                    }
                    self.note(&mut segment, offset, &header, report);
                    offset += header.record_len();
                }
                Found::Bad { next: Some(next) } => {
                    bad_from = Some(offset);
                    offset = next;
                }
                Found::Newer(kind) => {
                    let path = segment.path;
                    return Err(AgentError::SpoolNewer { path, what: "a record of kind", kind });
                }
                Found::Bad { next: None } | Found::End => break offset,
            }
        };
        if good_end < len {
            // Only the end of what was written last can be unfinished.
            self.counters.bad_range(len - good_end, stated_len.is_some());
        }
        if good_end < size_bytes && stated_len.is_none() {
            // Should this fail, the next start finds the same again.
            let _ = self.disk.truncate(&segment.path, good_end);
        }
        segment.len = good_end;
        self.segments.push_back(segment);
        Ok(())
    }

    fn note(
        &mut self,
        segment: &mut Segment,
        offset: u64,
        header: &RecordHeader,
        report: &mut LaneReport,
    ) {
        if header.kind == BATCH {
            self.last_seq = self.last_seq.max(header.seq);
            segment.last_seq = segment.last_seq.max(header.seq);
            report.staged_through = report.staged_through.max(header.staged_through);
        } else if header.kind == MARKS {
            let marks = segment.payload(offset, header).and_then(|bytes| decode_marks(&bytes));
            let (live, backlog) = marks.unwrap_or_default();
            report.marks = (report.marks.0.max(live), report.marks.1.max(backlog));
        }
    }

    /// Number of the last batch that was ever in the lane.
    pub(super) fn last_seq(&self) -> u64 {
        self.last_seq
    }

    /// Says that a number was given to a batch that lies elsewhere.
    pub(super) fn skip_to(&mut self, seq: u64) {
        self.last_seq = self.last_seq.max(seq);
    }

    /// Through which number everything is acknowledged.
    pub(super) fn acknowledged(&self) -> u64 {
        self.acked
    }

    /// Size of all files.
    pub(super) fn bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.len).sum()
    }

    /// Whether there is no file at all.
    pub(super) fn is_empty(&self) -> bool {
        self.segments.is_empty()
    }

    /// Size of the file that is being written; `None` if the next write begins a new one.
    pub(super) fn open_file_bytes(&self) -> Option<u64> {
        self.writer.as_ref()?;
        self.segments.back().map(|segment| segment.len)
    }

    /// Begins a file, durably.
    ///
    /// # Errors
    /// `Full`, `SyncFailed` and other faults of the disk; the lane is as before.
    pub(super) fn begin_file(&mut self) -> Result<(), BlobError> {
        self.writer = None;
        let number = self.next_file;
        // A number whose file could not be finished is not tried again: the name may be taken.
        self.next_file += 1;
        let path = file_name(self.lane, number);
        let previous = self.segments.back().map_or((0, 0), |last| (last.number, last.len));
        let header = FileHeader {
            lane: self.lane,
            number,
            previous: previous.0,
            previous_len: previous.1,
            incarnation: self.incarnation,
        };
        match self.create(&path, &header) {
            Ok((writer, reader)) => {
                let seal = FileSeal::new(&self.incarnation, self.lane, number);
                let len = FILE_HEADER_LEN as u64;
                self.segments.push_back(Segment::new(number, path, seal, reader, len));
                self.writer = Some(writer);
                Ok(())
            }
            Err(error) => {
                if !matches!(error, BlobError::SyncFailed { .. }) {
                    // What stays behind is set aside by the next start.
                    let _ = self.disk.remove(&path);
                }
                Err(error)
            }
        }
    }

    fn create(&self, path: &str, header: &FileHeader) -> Result<BothEnds, BlobError> {
        let mut writer = self.disk.create(path)?;
        writer.append(&[&header.encode()])?;
        writer.sync_data()?;
        self.disk.sync_directory("")?;
        let reader = self.disk.open(path)?;
        Ok((writer, reader))
    }

    /// Appends records to the file that is being written, and syncs. `after_sync` of the first is
    /// set here.
    ///
    /// # Errors
    /// `Full`, `SyncFailed` and other faults of the disk; none of the records is in the lane then.
    ///
    /// # Panics
    /// No file is being written.
    pub(super) fn append(
        &mut self,
        records: &mut [(RecordHeader, &[u8])],
    ) -> Result<(), BlobError> {
        let segment = self.segments.back_mut().expect("a file was begun");
        let writer = self.writer.as_mut().expect("a file was begun");
        let mut headers = Vec::with_capacity(records.len());
        let mut end = segment.len;
        for (index, (header, _)) in records.iter_mut().enumerate() {
            header.after_sync = index == 0;
            headers.push(header.encode(segment.seal(), end));
            end += header.record_len();
        }
        let mut parts: Vec<&[u8]> = Vec::with_capacity(2 * records.len());
        for (header, (_, payload)) in headers.iter().zip(records.iter()) {
            parts.push(header);
            parts.push(payload);
        }
        if let Err(error) = writer.append(&parts) {
            if writer.truncate(segment.len).is_err() {
                // What follows the good records is known to be none by the next file's header.
                self.writer = None;
            }
            return Err(error);
        }
        writer.sync_data()?;
        segment.len = end;
        for (header, _) in records.iter().filter(|(header, _)| header.kind == BATCH) {
            segment.last_seq = header.seq;
            self.last_seq = self.last_seq.max(header.seq);
        }
        Ok(())
    }

    /// The next batch that was not read yet, if its number is less than `below`; bad bytes are
    /// skipped and counted.
    pub(super) fn next(&mut self, below: u64) -> Option<Record> {
        loop {
            let found = self.find(self.cursor, self.cursor_seq);
            let (at, header) = found.filter(|(_, header)| header.seq < below)?;
            self.cursor = Position { file: at.file, offset: at.offset + header.record_len() };
            self.cursor_seq = header.seq;
            let segment = self.segment(at.file).expect("just found");
            if let Some(payload) = segment.payload(at.offset, &header) {
                self.read_seq = header.seq;
                return Some(Record::new(&header, payload));
            }
            self.count_lost(&header);
            if self.read_seq <= self.acked {
                // Nobody waits for an acknowledgement that would cover it.
                self.acknowledge(header.seq);
            }
        }
    }

    /// Payloads of the batches in the last file that has any, also of those that are acknowledged. Bad
    /// bytes are passed over.
    pub(super) fn last_payloads(&self) -> Vec<Bytes> {
        let Some(segment) = self.segments.iter().rev().find(|segment| segment.last_seq > 0) else {
            return Vec::new();
        };
        let (mut at, mut found) = (FILE_HEADER_LEN as u64, Vec::new());
        loop {
            match segment.at(at) {
                Found::Record(header) => {
                    if header.kind == BATCH {
                        found.extend(segment.payload(at, &header));
                    }
                    at += header.record_len();
                }
                Found::Bad { next: Some(next) } => at = next,
                Found::Bad { next: None } | Found::Newer(_) | Found::End => return found,
            }
        }
    }

    /// When the first batch that is not acknowledged was collected.
    pub(super) fn oldest_ms(&mut self) -> Option<i64> {
        self.find(self.head, self.acked).map(|(_, header)| header.created_ms)
    }

    /// Reads everything that is not acknowledged again.
    pub(super) fn rewind(&mut self) {
        self.cursor = self.head;
        self.cursor_seq = self.acked;
        self.read_seq = self.acked;
    }

    /// Says that everything through a number is acknowledged.
    pub(super) fn acknowledge(&mut self, through: u64) {
        if through <= self.acked {
            return;
        }
        // What was read behind the last good batch is lost.
        let lost_through = if through >= self.read_seq { self.cursor_seq } else { 0 };
        self.acked = through.max(lost_through);
        self.last_seq = self.last_seq.max(self.acked);
        self.cursor_seq = self.cursor_seq.max(self.acked);
        self.head = match self.find(self.head, self.acked) {
            Some((at, _)) => at,
            None => self.segments.back().map_or(Position::default(), |last| Position {
                file: last.number,
                offset: last.len,
            }),
        };
    }

    /// Removes the files that hold nothing unacknowledged. If `keep_number`, the one with the last
    /// number stays, and in any case one file.
    ///
    /// # Errors
    /// Faults of the disk; the file is tried again later.
    pub(super) fn remove_acknowledged(&mut self, keep_number: bool) -> Result<(), BlobError> {
        let last = self.segments.iter().map(|segment| segment.last_seq).max().unwrap_or(0);
        while let Some(first) = self.segments.front().filter(|first| first.last_seq <= self.acked) {
            let holds_number = first.last_seq == last && last > 0 || self.segments.len() == 1;
            if keep_number && holds_number {
                break;
            }
            self.remove_first()?;
        }
        Ok(())
    }

    /// Removes the oldest file with all that is in it, which is counted as dropped; false if
    /// there is none.
    ///
    /// # Errors
    /// Faults of the disk; nothing is dropped then.
    pub(super) fn drop_oldest(&mut self) -> Result<bool, BlobError> {
        let Some(first) = self.segments.front().map(|segment| segment.number) else {
            return Ok(false);
        };
        let (mut batches, mut samples) = (0, 0);
        let (mut at, mut above) = (self.head, self.acked);
        while let Some((found, header)) = self.find(at, above).filter(|(at, _)| at.file == first) {
            batches += 1;
            samples += u64::from(header.samples);
            above = header.seq;
            at = Position { file: found.file, offset: found.offset + header.record_len() };
        }
        self.remove_first()?;
        self.counters.dropped(batches, samples);
        Ok(true)
    }

    /// Removes all files, durably.
    ///
    /// # Errors
    /// Faults of the disk.
    pub(super) fn clear(&mut self) -> Result<(), BlobError> {
        if self.segments.is_empty() {
            return Ok(());
        }
        while !self.segments.is_empty() {
            self.remove_first()?;
        }
        self.disk.sync_directory("")
    }

    fn remove_first(&mut self) -> Result<(), BlobError> {
        let first = self.segments.front().expect("the caller has looked");
        self.disk.remove(&first.path)?;
        self.segments.pop_front();
        if self.segments.is_empty() {
            self.writer = None;
        }
        let next = self.segments.front().map_or(self.next_file, |segment| segment.number);
        for position in [&mut self.head, &mut self.cursor] {
            if position.file < next {
                *position = Position::start_of(next);
            }
        }
        Ok(())
    }

    fn segment(&self, number: u64) -> Option<&Segment> {
        let index = self.segments.partition_point(|segment| segment.number < number);
        self.segments.get(index)
    }

    /// The first batch with a number above `above` at or behind `at`.
    fn find(&mut self, mut at: Position, above: u64) -> Option<(Position, RecordHeader)> {
        let above = above.max(self.acked);
        loop {
            let index = self.segments.partition_point(|segment| segment.number < at.file);
            let segment = self.segments.get_mut(index)?;
            if segment.number != at.file {
                at = Position::start_of(segment.number);
            }
            let found = if segment.last_seq <= above { Found::End } else { segment.at(at.offset) };
            match found {
                Found::Record(header) if header.kind == BATCH && header.seq > above => {
                    return Some((at, header));
                }
                Found::Record(header) => at.offset += header.record_len(),
                Found::Bad { next } => {
                    if !segment.damage_known {
                        segment.damage_known = true;
                        let end = next.unwrap_or(segment.len);
                        self.counters.damaged(end - at.offset);
                    }
                    at = next.map_or(Position::start_of(at.file + 1), |offset| Position {
                        offset,
                        ..at
                    });
                }
                Found::Newer(_) | Found::End => at = Position::start_of(at.file + 1),
            }
        }
    }

    fn count_lost(&mut self, header: &RecordHeader) {
        if header.seq > self.lost_through {
            self.lost_through = header.seq;
            self.counters.lost(header.samples, header.record_len());
        }
    }
}

impl Record {
    fn new(header: &RecordHeader, payload: Bytes) -> Record {
        Record { seq: header.seq, created_ms: header.created_ms, samples: header.samples, payload }
    }
}
