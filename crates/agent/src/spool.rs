//! What was collected and is not acknowledged yet, on disk.
//!
//! A batch gets its lane and number here and is durable before anyone can read it, so that a
//! number never names two batches. Layout: `docs/formats/spool.md`. One owner, no threads.

mod counters;
mod directory;
mod lane;
mod memory;
mod record;
mod segment;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Instant;

use blockstore::{BlobError, Disk};
use bytes::Bytes;

use crate::error::AgentError;
use directory::Directory;
use lane::{LaneFiles, LaneReport};
use memory::MemoryLane;
use record::{BATCH, RecordHeader};

pub use counters::SpoolCounters;
pub(crate) use record::Incarnation;
pub(crate) use record::MAX_PAYLOAD_BYTES;

/// Largest file of the backlog.
const MAX_FILE_BYTES: u64 = 4 << 20;
/// Smallest.
const MIN_FILE_BYTES: u64 = 64 << 10;

/// Numbers given per millisecond before they run ahead of the clock.
const NUMBERS_PER_MS_BITS: u32 = 20;
/// The year 2248, above which a clock says nothing.
const MAX_CLOCK_MS: i64 = 1 << 43;

/// In which order batches wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lane {
    /// Collected while a broker took them.
    Live = 1,
    /// Collected while none did.
    Backlog = 2,
    /// Passes that will be one batch of the backlog; never sent.
    Staged = 3,
}

impl Lane {
    const ALL: [Lane; 3] = [Lane::Live, Lane::Backlog, Lane::Staged];
    /// Those that are sent, the more urgent one first.
    pub(crate) const SENT: [Lane; 2] = [Lane::Live, Lane::Backlog];

    /// As in names of files and labels of counters.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Lane::Live => "live",
            Lane::Backlog => "backlog",
            Lane::Staged => "staged",
        }
    }
}

/// What happens to batches when the spool is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum FullPolicy {
    /// The oldest ones make room: fresh data is worth more.
    #[default]
    DropOldest,
    /// New ones are refused: what is there stays complete.
    Pause,
}

/// How large the spool may become.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpoolConfig {
    /// Most bytes on disk, from 1 MiB.
    pub limit_bytes: u64,
    /// Most of what the file system has free, counting the spool itself as free; percent, from 1
    /// to 100. The lesser of both limits holds.
    pub disk_share_percent: u8,
    /// What happens when it is full.
    pub policy: FullPolicy,
    /// Most bytes of batches in memory that a full or broken disk did not take.
    pub memory_bytes: u64,
}

impl Default for SpoolConfig {
    fn default() -> Self {
        SpoolConfig {
            limit_bytes: 1 << 30,
            disk_share_percent: 10,
            policy: FullPolicy::DropOldest,
            memory_bytes: 4 << 20,
        }
    }
}

/// A batch that has no number yet.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NewBatch<'a> {
    pub(crate) created_ms: i64,
    pub(crate) samples: usize,
    /// At most [`MAX_PAYLOAD_BYTES`].
    pub(crate) payload: &'a [u8],
}

/// A batch as it is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) seq: u64,
    pub(crate) created_ms: i64,
    pub(crate) samples: u32,
    pub(crate) payload: Bytes,
}

/// Where a batch is now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kept {
    /// Durable.
    Disk,
    /// In memory, because the disk did not take it.
    Memory,
    /// Still among the staged passes on a disk that takes no writes; the next start sends it.
    Staged,
    /// Nowhere: spool and memory are full.
    Refused,
}

/// The spool of one agent.
pub(crate) struct Spool {
    disk: Arc<dyn Disk>,
    config: SpoolConfig,
    incarnation: Incarnation,
    counters: Arc<SpoolCounters>,
    live: LaneFiles,
    backlog: LaneFiles,
    staged: LaneFiles,
    memory: [MemoryLane; 2],
    /// The marks that the open file of `live` bears.
    marks_written: (u64, u64),
    /// Staged passes may be part of a batch and not durably gone yet. Until they are, no file of the
    /// backlog may go, or a restart would not know that they have been sent.
    staged_covered: bool,
    /// Staged passes are left to the next start; nothing may be staged behind them.
    staging_ended: bool,
    /// How large the spool may be, as of the last write.
    limit_bytes: u64,
    /// A sync failed: nothing is written any more.
    poisoned: bool,
    /// The disk refused the last write; said once in the log.
    refused: bool,
    /// Of lines, whose sources wait when there is no room.
    of_lines: bool,
}

impl Spool {
    /// Opens what earlier runs left on a disk of its own; `random` names the spool if there is
    /// nothing. Neither damage nor a full disk is an error.
    ///
    /// # Errors
    /// `SpoolNewer` if a newer program wrote it; `Spool` if the directory cannot be listed.
    pub(crate) fn open(
        disk: Arc<dyn Disk>,
        config: SpoolConfig,
        random: Incarnation,
        counters: Arc<SpoolCounters>,
    ) -> Result<Spool, AgentError> {
        let mut directory = Directory::find(disk.as_ref(), &counters)?;
        let incarnation = directory.incarnation().unwrap_or(random);
        let mut report = LaneReport::default();
        let mut lanes = Vec::with_capacity(Lane::ALL.len());
        for lane in Lane::ALL {
            let own = directory.take_lane(lane, &incarnation, disk.as_ref(), &counters);
            let next_file = directory.next_file(lane);
            let (opened, read) = LaneFiles::open(
                Arc::clone(&disk),
                lane,
                incarnation,
                Arc::clone(&counters),
                own,
                next_file,
            )?;
            report.marks.0 = report.marks.0.max(read.marks.0);
            report.marks.1 = report.marks.1.max(read.marks.1);
            report.staged_through = report.staged_through.max(read.staged_through);
            lanes.push(opened);
        }
        let [live, backlog, staged] =
            <[LaneFiles; 3]>::try_from(lanes).ok().expect("one for each lane");
        let mut spool = Spool {
            disk,
            config,
            incarnation,
            counters,
            live,
            backlog,
            staged,
            memory: Default::default(),
            marks_written: (0, 0),
            staged_covered: false,
            staging_ended: false,
            limit_bytes: 0,
            poisoned: false,
            refused: false,
            of_lines: false,
        };
        spool.limit_bytes = spool.limit_now();
        spool.staged.acknowledge(report.staged_through);
        spool.staged_covered = !spool.staged.is_empty() && report.staged_through > 0;
        spool.clear_staged_if_covered();
        for (lane, mark) in Lane::SENT.into_iter().zip([report.marks.0, report.marks.1]) {
            spool.files(lane).acknowledge(mark);
        }
        Ok(spool)
    }

    /// As [`Spool::open`], for batches whose sources wait while there is no room: they are never given up
    /// and never in memory alone. All are of the live lane.
    ///
    /// # Errors
    /// As [`Spool::open`].
    pub(crate) fn open_of_lines(
        disk: Arc<dyn Disk>,
        config: SpoolConfig,
        random: Incarnation,
        counters: Arc<SpoolCounters>,
    ) -> Result<Spool, AgentError> {
        let config = SpoolConfig { policy: FullPolicy::Pause, ..config };
        let mut spool = Spool::open(disk, config, random, counters)?;
        spool.of_lines = true;
        Ok(spool)
    }

    /// Keeps a batch on disk under the next number, which it yields; `None` if the disk does not take it
    /// now.
    pub(crate) fn put_or_wait(
        &mut self,
        lane: Lane,
        batch: NewBatch<'_>,
        now_ms: i64,
    ) -> Option<u64> {
        let seq = self.next_seq(lane, now_ms);
        self.write(lane, seq, &batch, 0).then_some(seq)
    }

    /// What the broker knows this spool by.
    pub(crate) fn incarnation(&self) -> &Incarnation {
        &self.incarnation
    }

    /// Keeps a batch under the next number of a lane; durable on return unless it says otherwise.
    pub(crate) fn put(&mut self, lane: Lane, batch: NewBatch<'_>, now_ms: i64) -> Kept {
        let seq = self.next_seq(lane, now_ms);
        if self.write(lane, seq, &batch, 0) {
            return Kept::Disk;
        }
        self.keep_in_memory(lane, seq, &batch)
    }

    /// Keeps a pass until it is sealed in a batch together with others; false if the disk does
    /// not take it.
    pub(crate) fn stage(&mut self, pass: NewBatch<'_>, now_ms: i64) -> bool {
        if self.staging_ended || !self.clear_staged_if_covered() {
            return false;
        }
        let seq = self.next_seq(Lane::Staged, now_ms);
        self.write(Lane::Staged, seq, &pass, 0)
    }

    /// Number of the pass staged last.
    pub(crate) fn last_staged(&self) -> u64 {
        self.staged.last_seq()
    }

    /// Keeps a batch that holds every staged pass up to a number.
    pub(crate) fn seal(&mut self, batch: NewBatch<'_>, staged_through: u64, now_ms: i64) -> Kept {
        let seq = self.next_seq(Lane::Backlog, now_ms);
        if self.write(Lane::Backlog, seq, &batch, staged_through) {
            self.staged_covered = true;
            self.staged.acknowledge(staged_through);
            self.clear_staged_if_covered();
            return Kept::Disk;
        }
        // On a full disk the passes make room for the batch, which is smaller. They have to go
        // before it may be sent from memory: else a restart would send them once more.
        let sealed_all = staged_through >= self.staged.last_seq();
        if !sealed_all || !self.clear_staged() {
            self.staging_ended = true;
            return Kept::Staged;
        }
        if self.write(Lane::Backlog, seq, &batch, 0) {
            return Kept::Disk;
        }
        self.keep_in_memory(Lane::Backlog, seq, &batch)
    }

    /// A staged pass that an earlier run did not seal; call until there is none.
    pub(crate) fn next_staged(&mut self) -> Option<Record> {
        self.staged.next(u64::MAX)
    }

    /// The next batch of a lane that was not read since the last rewind.
    pub(crate) fn next(&mut self, lane: Lane) -> Option<Record> {
        // Batches in memory and on disk may alternate; their numbers say which is first.
        let below = self.memory(lane).peek_seq().unwrap_or(u64::MAX);
        self.files(lane).next(below).or_else(|| self.memory(lane).next())
    }

    /// The last batches that were kept in a lane, also acknowledged ones, as far as they are on disk.
    pub(crate) fn last_payloads(&mut self, lane: Lane) -> Vec<Bytes> {
        self.files(lane).last_payloads()
    }

    /// Reads everything unacknowledged in a lane again, from its first batch.
    pub(crate) fn rewind(&mut self, lane: Lane) {
        self.files(lane).rewind();
        self.memory(lane).rewind();
    }

    /// Says that a broker has everything of a lane through a number.
    pub(crate) fn acknowledge(&mut self, lane: Lane, through: u64) {
        if through > self.files(lane).last_seq() {
            // The directory was set back to an earlier state, as by a snapshot of the machine.
            tracing::warn!(
                lane = lane.as_str(),
                through,
                "the broker has batches that this spool does not know of; counting on from there"
            );
            self.files(lane).skip_to(through);
        }
        self.memory(lane).acknowledge(through);
        self.files(lane).acknowledge(through);
        if !self.poisoned {
            self.remove_acknowledged(lane);
        }
        self.publish_sizes();
    }

    /// When the oldest batch that is not acknowledged was collected.
    pub(crate) fn oldest_ms(&mut self) -> Option<i64> {
        let on_disk = [self.live.oldest_ms(), self.backlog.oldest_ms(), self.staged.oldest_ms()];
        let in_memory = self.memory.iter().filter_map(MemoryLane::oldest_ms);
        on_disk.into_iter().flatten().chain(in_memory).min()
    }

    fn files(&mut self, lane: Lane) -> &mut LaneFiles {
        match lane {
            Lane::Live => &mut self.live,
            Lane::Backlog => &mut self.backlog,
            Lane::Staged => &mut self.staged,
        }
    }

    fn memory(&mut self, lane: Lane) -> &mut MemoryLane {
        &mut self.memory[usize::from(lane != Lane::Live)]
    }

    /// The number for a new batch. The clock keeps numbers apart that the disk has forgotten.
    fn next_seq(&mut self, lane: Lane, now_ms: i64) -> u64 {
        let by_clock = now_ms.clamp(0, MAX_CLOCK_MS).unsigned_abs() << NUMBERS_PER_MS_BITS;
        let files = self.files(lane);
        let seq = by_clock.max(files.last_seq() + 1);
        files.skip_to(seq);
        seq
    }

    /// Writes and syncs a batch; false if the disk did not take it, which is counted.
    fn write(&mut self, lane: Lane, seq: u64, batch: &NewBatch<'_>, staged_through: u64) -> bool {
        assert!(batch.payload.len() <= MAX_PAYLOAD_BYTES, "batches are split before");
        if self.poisoned {
            return false;
        }
        let header = RecordHeader {
            kind: BATCH,
            after_sync: false,
            payload_len: batch.payload.len() as u32,
            payload_checksum: crc32fast::hash(batch.payload),
            seq,
            created_ms: batch.created_ms,
            samples: u32::try_from(batch.samples).unwrap_or(u32::MAX),
            staged_through,
        };
        loop {
            self.limit_bytes = self.limit_now();
            let fits = self.bytes() + header.record_len() <= self.limit_bytes;
            let error = if fits {
                match self.try_write(lane, header, batch.payload) {
                    Ok(()) => {
                        self.refused = false;
                        self.publish_sizes();
                        return true;
                    }
                    Err(error) => Some(error),
                }
            } else {
                None
            };
            let is_full = matches!(error, None | Some(BlobError::Full { .. }));
            let may_drop = is_full && self.config.policy == FullPolicy::DropOldest;
            if may_drop && self.drop_oldest() {
                continue;
            }
            self.note_refusal(error);
            self.publish_sizes();
            return false;
        }
    }

    fn try_write(
        &mut self,
        lane: Lane,
        header: RecordHeader,
        payload: &[u8],
    ) -> Result<(), BlobError> {
        if self.live.is_empty() && lane != Lane::Live {
            // The one file that never goes carries the spool's name across restarts.
            self.live.begin_file()?;
        }
        let file_bytes = (self.config.limit_bytes / 16).clamp(MIN_FILE_BYTES, MAX_FILE_BYTES);
        let is_long = lane == Lane::Backlog || self.of_lines;
        let file_bytes = if is_long { file_bytes } else { file_bytes / 4 };
        let begun = self.files(lane).open_file_bytes().is_some_and(|bytes| bytes < file_bytes);
        if !begun {
            self.files(lane).begin_file()?;
            if lane == Lane::Live {
                self.marks_written = (0, 0);
            }
        }
        let began = Instant::now();
        let marks = (self.live.acknowledged(), self.backlog.acknowledged());
        if lane == Lane::Live && marks != self.marks_written {
            let (marks_header, bytes) = RecordHeader::of_marks(marks.0, marks.1);
            self.live.append(&mut [(marks_header, &bytes), (header, payload)])?;
            self.marks_written = marks;
        } else {
            self.files(lane).append(&mut [(header, payload)])?;
        }
        // Staged passes were durable before they became a batch.
        let new_samples = if header.staged_through == 0 { header.samples } else { 0 };
        self.counters.written(new_samples, began.elapsed());
        if !begun {
            self.remove_acknowledged(lane);
        }
        if lane == Lane::Live {
            self.remove_acknowledged(Lane::Backlog);
        }
        Ok(())
    }

    fn keep_in_memory(&mut self, lane: Lane, seq: u64, batch: &NewBatch<'_>) -> Kept {
        let need = batch.payload.len() as u64;
        let samples = u32::try_from(batch.samples).unwrap_or(u32::MAX);
        while self.memory_bytes() + need > self.config.memory_bytes {
            let oldest = match self.config.policy {
                FullPolicy::DropOldest => self.pop_oldest_in_memory(),
                FullPolicy::Pause => None,
            };
            let Some(oldest) = oldest else {
                self.counters.dropped(1, u64::from(samples));
                return Kept::Refused;
            };
            self.counters.dropped(1, u64::from(oldest.samples));
        }
        let payload = Bytes::copy_from_slice(batch.payload);
        let record = Record { seq, created_ms: batch.created_ms, samples, payload };
        self.memory(lane).push(record);
        self.counters.kept_in_memory();
        self.publish_sizes();
        Kept::Memory
    }

    fn pop_oldest_in_memory(&mut self) -> Option<Record> {
        let [live, backlog] = &mut self.memory;
        match (live.oldest_ms(), backlog.oldest_ms()) {
            (Some(live_ms), Some(backlog_ms)) if live_ms < backlog_ms => live.pop_oldest(),
            (_, Some(_)) => backlog.pop_oldest(),
            (_, None) => live.pop_oldest(),
        }
    }

    fn memory_bytes(&self) -> u64 {
        self.memory.iter().map(MemoryLane::bytes).sum()
    }

    /// Gives the oldest file of the backlog up; false if there is none.
    fn drop_oldest(&mut self) -> bool {
        if !self.clear_staged_if_covered() {
            return false;
        }
        self.backlog.drop_oldest().unwrap_or_else(|error| {
            self.note_fault(&error);
            false
        })
    }

    fn remove_acknowledged(&mut self, lane: Lane) {
        if lane == Lane::Backlog && !self.clear_staged_if_covered() {
            return;
        }
        // A lane's last number must stand somewhere, or it might be given once more.
        let keep_number = lane == Lane::Live || self.marks_written.1 < self.backlog.last_seq();
        if let Err(error) = self.files(lane).remove_acknowledged(keep_number) {
            self.note_fault(&error);
        }
    }

    /// Removes staged passes that are part of a batch; false if there are and they stay.
    fn clear_staged_if_covered(&mut self) -> bool {
        if !self.staged_covered {
            return true;
        }
        self.staged.last_seq() <= self.staged.acknowledged() && self.clear_staged()
    }

    fn clear_staged(&mut self) -> bool {
        if self.poisoned {
            return false;
        }
        match self.staged.clear() {
            Ok(()) => {
                self.staged_covered = false;
                true
            }
            Err(error) => {
                self.note_fault(&error);
                false
            }
        }
    }

    fn bytes(&self) -> u64 {
        self.live.bytes() + self.backlog.bytes() + self.staged.bytes()
    }

    fn limit_now(&self) -> u64 {
        let share = self.disk.free_space_bytes().map_or(u64::MAX, |free| {
            let available = free.saturating_add(self.bytes());
            available / 100 * u64::from(self.config.disk_share_percent.min(100))
        });
        share.min(self.config.limit_bytes)
    }

    fn publish_sizes(&self) {
        self.counters.set_sizes(self.bytes(), self.limit_bytes, self.memory_bytes());
    }

    /// Counts a write that did not happen; `None` means that the spool's own limit is reached.
    fn note_refusal(&mut self, error: Option<BlobError>) {
        match error {
            Some(error) => self.note_fault(&error),
            None if self.refused => {}
            None if self.of_lines => {
                self.refused = true;
                tracing::warn!(
                    limit_bytes = self.limit_bytes,
                    "the spool of lines has reached its limit; files are not read further until a \
                     broker takes what is there"
                );
            }
            None => {
                self.refused = true;
                tracing::warn!(
                    limit_bytes = self.limit_bytes,
                    "the spool has reached its limit; new batches are kept in memory within a \
                     bound, raise agent.spool.limit_bytes or free disk space"
                );
            }
        }
    }

    fn note_fault(&mut self, error: &BlobError) {
        let full = matches!(error, BlobError::Full { .. });
        self.counters.fault(full);
        if matches!(error, BlobError::SyncFailed { .. }) {
            self.poisoned = true;
            self.counters.poison();
            tracing::error!(
                %error,
                "the spool takes no more writes until the agent is restarted: what reached the \
                 disk is not known after a failed sync; samples are kept in memory within a \
                 bound, lines are not read further; check the disk"
            );
        } else if !self.refused {
            self.refused = true;
            tracing::warn!(
                %error,
                "the disk did not take a batch; samples are kept in memory within a bound, lines are \
                 not read further, and each further batch tries the disk again"
            );
        }
    }
}
