//! Lines that are collected and that no broker has yet, and how far their sources are read.
//!
//! One record holds both, under one checksum: a line is in the spool if and only if the position of its
//! source is behind it. What is in the spool is sent under the number it has there, for as long as it
//! takes. The file of positions is written when a broker has acknowledged, before the record goes.
//! Layout: `docs/formats/spool.md`.

#[cfg(test)]
mod tests;

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use blockstore::{BlobError, Disk};
use bytes::{Buf, Bytes};
use model::LogBatch;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::position::{Positions, Update};
use crate::clock::Now;
use crate::error::AgentError;
use crate::spool::{Incarnation, Lane, NewBatch, Spool, SpoolConfig, SpoolCounters};

/// The file of positions, and the name it has while it is written.
const POSITIONS: &str = "positions.json";
const POSITIONS_NEW: &str = "positions.json.new";
/// The positions of acknowledged lines are written this often.
const WRITE_EVERY: Duration = Duration::from_secs(1);
/// Before the sent part of a record: how long the rest is, which of how many records of a batch it is.
const PREFIX_LEN: usize = 8;

/// A batch of lines as it is sent.
#[derive(Debug, Clone)]
pub(crate) struct LineRecord {
    pub(crate) seq: u64,
    pub(crate) created_ms: i64,
    pub(crate) lines: u32,
    /// As `docs/formats/agent-lines.md` draws it.
    pub(crate) payload: Bytes,
}

/// The spool of lines of one agent. Whoever collects and whoever ships share it.
pub(crate) struct LineSpool {
    inner: Mutex<Inner>,
    incarnation: Incarnation,
}

struct Inner {
    disk: Arc<dyn Disk>,
    spool: Spool,
    /// Those that a broker has.
    acknowledged: Positions,
    /// Batches that no broker has, with what becomes known when one has them.
    pending: VecDeque<(u64, Vec<Update>)>,
    acknowledged_through: u64,
    /// The last batch of which a broker has all records.
    covered_through: u64,
    is_written: bool,
    written_at: Option<Instant>,
    /// Records of batches of which not all were written. Their lines are read again.
    incomplete: HashSet<u64>,
}

/// The file of positions.
#[derive(Debug, Serialize, Deserialize)]
struct Written {
    version: u32,
    /// Which spool it stands beside.
    spool: String,
    /// All batches of the spool up to it are acknowledged or given up.
    through: u64,
    positions: Positions,
}

const VERSION: u32 = 1;

impl LineSpool {
    /// Opens what earlier runs left, and tells how far all sources are read.
    ///
    /// # Errors
    /// As [`Spool::open`]; `Positions` if their file cannot be read, because to begin without them would
    /// double what is in all files.
    pub(crate) fn open(
        disk: Arc<dyn Disk>,
        config: SpoolConfig,
        random: Incarnation,
        counters: Arc<SpoolCounters>,
    ) -> Result<(LineSpool, Positions), AgentError> {
        let mut spool = Spool::open_of_lines(Arc::clone(&disk), config, random, counters)?;
        let incarnation = *spool.incarnation();
        let written = read_positions(disk.as_ref())?;
        let is_of_spool = written.as_ref().is_some_and(|file| file.spool == name(&incarnation));
        let through = written.as_ref().filter(|_| is_of_spool).map_or(0, |file| file.through);
        let acknowledged = written.map_or_else(Positions::default, |file| file.positions);
        // What the file knows already must not be applied again: it may have been given up.
        spool.acknowledge(Lane::Live, through);
        let mut inner = Inner {
            disk,
            spool,
            acknowledged,
            pending: VecDeque::new(),
            acknowledged_through: through,
            covered_through: through,
            is_written: is_of_spool,
            written_at: None,
            incomplete: HashSet::new(),
        };
        inner.read_pending();
        let mut latest = inner.acknowledged.clone();
        for (_, updates) in &inner.pending {
            latest.apply(updates);
        }
        Ok((LineSpool { inner: Mutex::new(inner), incarnation }, latest))
    }

    /// What a broker knows the spool by.
    pub(crate) fn incarnation(&self) -> &Incarnation {
        &self.incarnation
    }

    /// Makes lines durable together with the positions behind them. The batches are of one tenant each.
    /// False if there is no room or the disk does not take it: nothing is kept then, and the caller
    /// comes again with the same.
    pub(crate) fn put(
        &self,
        batches: &[(Option<&str>, &LogBatch)],
        updates: &[Update],
        now: Now,
    ) -> bool {
        self.inner.lock().put(batches, updates, now)
    }

    /// Notes positions that moved without a line to be kept. They count when all that was put before is
    /// acknowledged; a kill before makes their sources be read again, with the same outcome.
    pub(crate) fn note(&self, updates: Vec<Update>) {
        let mut inner = self.inner.lock();
        match inner.pending.back_mut() {
            Some((_, pending)) => pending.extend(updates),
            None => {
                inner.acknowledged.apply(&updates);
                inner.is_written = false;
            }
        }
    }

    /// The next batch that was not read since the last rewind. `Err` while somebody writes: the bell is
    /// rung behind it.
    pub(crate) fn try_next(&self) -> Result<Option<LineRecord>, Busy> {
        Ok(self.inner.try_lock().ok_or(Busy)?.next())
    }

    /// As [`LineSpool::try_next`], for who can wait.
    pub(crate) fn next(&self) -> Option<LineRecord> {
        self.inner.lock().next()
    }

    /// Reads everything that is not acknowledged again.
    pub(crate) fn rewind(&self) {
        self.inner.lock().spool.rewind(Lane::Live);
    }

    /// The last batches that were put, each of one tenant, as far as they are on disk.
    pub(crate) fn last_batches(&self) -> Vec<(Option<String>, LogBatch)> {
        let payloads = self.inner.lock().spool.last_payloads(Lane::Live);
        let decode = |payload: &Bytes| {
            let prefix = Prefix::read(payload)?;
            let lines = &payload[PREFIX_LEN + prefix.updates_len..];
            wire::agent_lines::decode(lines, usize::MAX).ok()
        };
        payloads.iter().filter_map(decode).collect()
    }

    /// Says that a broker has everything through a number.
    pub(crate) fn acknowledge(&self, through: u64) {
        self.inner.lock().acknowledge(through);
    }

    /// Writes the positions of what is acknowledged, if it is time, and lets go of what they cover.
    pub(crate) fn write_positions(&self, now: Now, at_once: bool) {
        self.inner.lock().write_positions(now, at_once);
    }

    /// When the oldest batch that is not acknowledged was collected.
    pub(crate) fn oldest_ms(&self) -> Option<i64> {
        let mut inner = self.inner.lock();
        if inner.pending.is_empty() {
            return None;
        }
        inner.spool.oldest_ms()
    }

    /// Batches that wait for their acknowledgement.
    pub(crate) fn pending_batches(&self) -> usize {
        self.inner.lock().pending.len()
    }
}

/// Somebody else uses the spool at this moment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Busy;

impl Inner {
    /// Finds out what the spool holds.
    fn read_pending(&mut self) {
        let mut group: Vec<u64> = Vec::new();
        while let Some(record) = self.spool.next(Lane::Live) {
            let Some(prefix) = Prefix::read(&record.payload) else {
                self.incomplete.insert(record.seq);
                continue;
            };
            if usize::from(prefix.index) != group.len() {
                self.incomplete.extend(group.drain(..));
            }
            if usize::from(prefix.index) != group.len() {
                // The beginning of its batch is damaged.
                self.incomplete.insert(record.seq);
                continue;
            }
            group.push(record.seq);
            if prefix.index + 1 < prefix.count {
                continue;
            }
            group.clear();
            let updates = prefix.updates(&record.payload);
            self.pending.push_back((record.seq, updates.unwrap_or_default()));
        }
        self.incomplete.extend(group);
        self.spool.rewind(Lane::Live);
    }

    fn put(&mut self, batches: &[(Option<&str>, &LogBatch)], updates: &[Update], now: Now) -> bool {
        let updates_text = serde_json::to_vec(updates).expect("positions are texts and numbers");
        let count = batches.len().max(1);
        let mut written = Vec::new();
        for (index, (tenant, batch)) in batches.iter().enumerate() {
            let is_last = index + 1 == count;
            let text: &[u8] = if is_last { &updates_text } else { &[] };
            let mut payload = Prefix::put(index, count, text);
            wire::agent_lines::encode(*tenant, batch, &mut payload);
            let samples = usize::try_from(batch.lines()).unwrap_or(usize::MAX);
            let record = NewBatch { created_ms: now.wall_ms, samples, payload: &payload };
            match self.spool.put_or_wait(Lane::Live, record, now.wall_ms) {
                Some(seq) => written.push(seq),
                None => {
                    // The next batch begins at 0 again, so a start knows that these are no whole.
                    self.incomplete.extend(written);
                    return false;
                }
            }
        }
        if let Some(seq) = written.last() {
            self.pending.push_back((*seq, updates.to_vec()));
        }
        true
    }

    fn next(&mut self) -> Option<LineRecord> {
        loop {
            let record = self.spool.next(Lane::Live)?;
            // What is acknowledged stays until the positions are written.
            if record.seq <= self.acknowledged_through || self.incomplete.contains(&record.seq) {
                continue;
            }
            // The last of a batch that is being written stands at the end: nothing is read in between,
            // since whoever writes holds the lock.
            let prefix = Prefix::read(&record.payload)?;
            let mut payload = record.payload;
            payload.advance(PREFIX_LEN + prefix.updates_len);
            let (seq, created_ms, lines) = (record.seq, record.created_ms, record.samples);
            return Some(LineRecord { seq, created_ms, lines, payload });
        }
    }

    fn acknowledge(&mut self, through: u64) {
        if through <= self.acknowledged_through {
            return;
        }
        self.acknowledged_through = through;
        self.is_written = false;
        while let Some((seq, updates)) = self.pending.pop_front_if(|(seq, _)| *seq <= through) {
            self.acknowledged.apply(&updates);
            self.covered_through = seq;
        }
        if self.pending.is_empty() {
            self.covered_through = through;
        }
    }

    fn write_positions(&mut self, now: Now, at_once: bool) {
        let is_time = |at: Instant| now.at.saturating_duration_since(at) >= WRITE_EVERY;
        if self.is_written || !(at_once || self.written_at.is_none_or(is_time)) {
            return;
        }
        self.written_at = Some(now.at);
        self.acknowledged.forget(now.wall_ms);
        let written = Written {
            version: VERSION,
            spool: name(self.spool.incarnation()),
            through: self.covered_through,
            positions: self.acknowledged.clone(),
        };
        let text = serde_json::to_vec(&written).expect("positions are texts and numbers");
        match replace(self.disk.as_ref(), &text) {
            Ok(()) => {
                self.is_written = true;
                let through = self.covered_through;
                self.spool.acknowledge(Lane::Live, through);
                self.incomplete.retain(|seq| *seq > through);
            }
            Err(error) => tracing::warn!(
                %error,
                "the positions of collected lines are not written; acknowledged lines stay in the \
                 spool until they are"
            ),
        }
    }
}

/// What stands before the sent part of a record.
struct Prefix {
    index: u16,
    count: u16,
    updates_len: usize,
}

impl Prefix {
    fn put(index: usize, count: usize, updates: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(PREFIX_LEN + updates.len());
        let number = |number: usize| u16::try_from(number).expect("there are few tenants");
        out.extend_from_slice(&number(index).to_le_bytes());
        out.extend_from_slice(&number(count).to_le_bytes());
        let len = u32::try_from(updates.len()).expect("there are few sources");
        out.extend_from_slice(&len.to_le_bytes());
        out.extend_from_slice(updates);
        out
    }

    fn read(payload: &[u8]) -> Option<Prefix> {
        let (prefix, rest) = payload.split_first_chunk::<PREFIX_LEN>()?;
        let [a, b, c, d, len @ ..] = *prefix;
        let updates_len = usize::try_from(u32::from_le_bytes(len)).ok()?;
        let (index, count) = (u16::from_le_bytes([a, b]), u16::from_le_bytes([c, d]));
        (index < count && updates_len <= rest.len()).then_some(Prefix { index, count, updates_len })
    }

    fn updates(&self, payload: &[u8]) -> Option<Vec<Update>> {
        serde_json::from_slice(&payload[PREFIX_LEN..PREFIX_LEN + self.updates_len]).ok()
    }
}

fn name(incarnation: &Incarnation) -> String {
    format!("{:032x}", u128::from_be_bytes(*incarnation))
}

fn read_positions(disk: &dyn Disk) -> Result<Option<Written>, AgentError> {
    let file = match disk.open(POSITIONS) {
        Ok(file) => file,
        Err(BlobError::NotFound { .. }) => return Ok(None),
        Err(error) => return Err(AgentError::Positions(error.to_string())),
    };
    let mut text = vec![0; usize::try_from(file.size_bytes()).unwrap_or(0)];
    file.read_exact_at(0, &mut text).map_err(|error| AgentError::Positions(error.to_string()))?;
    let written: Written =
        serde_json::from_slice(&text).map_err(|error| AgentError::Positions(error.to_string()))?;
    match written.version {
        VERSION => Ok(Some(written)),
        newer => Err(AgentError::Positions(format!("it is of version {newer}"))),
    }
}

fn replace(disk: &dyn Disk, text: &[u8]) -> Result<(), BlobError> {
    match disk.remove(POSITIONS_NEW) {
        Ok(()) | Err(BlobError::NotFound { .. }) => {}
        Err(error) => return Err(error),
    }
    let mut file = disk.create(POSITIONS_NEW)?;
    file.append(&[text])?;
    file.sync_data()?;
    drop(file);
    disk.rename(POSITIONS_NEW, POSITIONS)?;
    disk.sync_directory("")
}
