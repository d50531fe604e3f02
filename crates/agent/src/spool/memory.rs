//! Batches that the disk did not take, within a bound.

use std::collections::VecDeque;

use super::Record;

/// One lane's batches in memory, by ascending number.
#[derive(Debug, Default)]
pub(super) struct MemoryLane {
    records: VecDeque<Record>,
    /// How many of them have been read.
    read: usize,
    bytes: u64,
}

impl MemoryLane {
    /// Bytes of all payloads.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn push(&mut self, record: Record) {
        self.bytes += record.payload.len() as u64;
        self.records.push_back(record);
    }

    /// Number of the next batch that was not read.
    pub(super) fn peek_seq(&self) -> Option<u64> {
        self.records.get(self.read).map(|record| record.seq)
    }

    /// The next batch; it stays until it is acknowledged.
    pub(super) fn next(&mut self) -> Option<Record> {
        let record = self.records.get(self.read)?.clone();
        self.read += 1;
        Some(record)
    }

    pub(super) fn rewind(&mut self) {
        self.read = 0;
    }

    pub(super) fn acknowledge(&mut self, through: u64) {
        while self.records.front().is_some_and(|first| first.seq <= through) {
            self.pop_oldest();
        }
    }

    /// Gives the oldest batch up.
    pub(super) fn pop_oldest(&mut self) -> Option<Record> {
        let record = self.records.pop_front()?;
        self.bytes -= record.payload.len() as u64;
        self.read = self.read.saturating_sub(1);
        Some(record)
    }

    /// When the oldest batch was collected.
    pub(super) fn oldest_ms(&self) -> Option<i64> {
        self.records.front().map(|record| record.created_ms)
    }
}
