//! The log of a member on its disk: votes, entries, what was cut off at either end.
//!
//! A directory of files, each a header and records, appended and synced; drawn in
//! `docs/formats/consensus.md`. All entries that are not purged are in memory as well, so the files
//! are read at the start only. The first record of a file is the vote at that time: older files can
//! go as soon as their entries are purged.

use std::collections::BTreeMap;
use std::sync::Arc;

use blockstore::{BlobError, Disk, DiskFile};
use codec::varint;

use crate::bytes_of::{
    Malformed, put_entry, put_log_id, put_option, put_vote, take_entry, take_log_id, take_option,
    take_vote,
};
use crate::types::{Entry, LogId, Vote};

const MAGIC: &[u8; 4] = b"WFRJ";
const VERSION: u8 = 1;
const HEADER_BYTES: usize = 5;
/// Length and checksum in front of a record.
const FRAME_BYTES: usize = 8;
/// A file is not continued beyond this.
const FILE_BYTES: u64 = 16 << 20;
/// Longer than any command.
const MAX_RECORD_BYTES: usize = 64 << 20;

/// Why the journal cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The disk failed.
    #[error(transparent)]
    Disk(#[from] BlobError),
    /// Bytes that were synced are damaged: this member may have forgotten a vote, or an entry that
    /// others count on.
    #[error(
        "{path} is damaged at byte {offset} ({cause}), so this broker may have forgotten what it \
         agreed to and must not vote: move the directory `consensus` of its data away and let it \
         join the cluster again; the other brokers have everything"
    )]
    Damaged {
        /// The file.
        path: String,
        /// Where in it.
        offset: usize,
        /// What is wrong.
        cause: String,
    },
    /// A newer program wrote it.
    #[error("{path} has version {found} and this program knows up to {VERSION}: use a newer one")]
    Newer {
        /// The file.
        path: String,
        /// What it says.
        found: u8,
    },
}

/// What the journal holds, in memory.
#[derive(Debug, Default, Clone, PartialEq)]
pub(crate) struct Contents {
    pub(crate) vote: Option<Vote>,
    pub(crate) committed: Option<LogId>,
    pub(crate) purged: Option<LogId>,
    /// By index, without gaps, from behind what was purged.
    pub(crate) entries: BTreeMap<u64, Entry>,
}

impl Contents {
    /// The last entry, or the last that was purged.
    pub(crate) fn last(&self) -> Option<LogId> {
        self.entries.last_key_value().map(|(_, entry)| entry.log_id).or(self.purged)
    }

    fn apply(&mut self, record: Record) -> Result<(), Malformed> {
        match record {
            Record::Begin { vote, committed, purged } => {
                self.vote = vote;
                self.committed = committed.max(self.committed);
                self.purge(purged);
            }
            Record::Vote(vote) => self.vote = Some(vote),
            Record::Committed(id) => self.committed = id.max(self.committed),
            Record::Entry(entry) => {
                let index = entry.log_id.index;
                if self.purged.is_some_and(|purged| index <= purged.index) {
                    return Ok(());
                }
                let next = self.last().map_or(index, |last| last.index + 1);
                if index != next {
                    return Err(Malformed::Shape("an entry does not follow the one before"));
                }
                self.entries.insert(index, entry);
            }
            Record::CutFrom(index) => {
                self.entries.split_off(&index);
            }
            Record::Purged(id) => self.purge(Some(id)),
        }
        Ok(())
    }

    fn purge(&mut self, through: Option<LogId>) {
        if let Some(through) = through.filter(|id| Some(*id) > self.purged) {
            self.entries = self.entries.split_off(&(through.index + 1));
            self.purged = Some(through);
        }
    }
}

/// One change.
#[derive(Debug, Clone)]
pub(crate) enum Record {
    /// In front of every file.
    Begin {
        vote: Option<Vote>,
        committed: Option<LogId>,
        purged: Option<LogId>,
    },
    /// Synced before anybody hears of it.
    Vote(Vote),
    Entry(Entry),
    /// All entries from this index on are gone.
    CutFrom(u64),
    /// All entries through this one are in a snapshot.
    Purged(LogId),
    /// How far entries are known to be agreed upon; a hint, never synced for its own sake.
    Committed(Option<LogId>),
}

impl Record {
    fn put(&self, out: &mut Vec<u8>) {
        match self {
            Record::Begin { vote, committed, purged } => {
                out.push(1);
                put_option(out, vote.as_ref(), put_vote);
                put_option(out, committed.as_ref(), put_log_id);
                put_option(out, purged.as_ref(), put_log_id);
            }
            Record::Vote(vote) => {
                out.push(2);
                put_vote(out, vote);
            }
            Record::Entry(entry) => {
                out.push(3);
                put_entry(out, entry);
            }
            Record::CutFrom(index) => {
                out.push(4);
                varint::put_u64(out, *index);
            }
            Record::Purged(id) => {
                out.push(5);
                put_log_id(out, id);
            }
            Record::Committed(id) => {
                out.push(6);
                put_option(out, id.as_ref(), put_log_id);
            }
        }
    }

    fn take(mut input: &[u8]) -> Result<Record, Malformed> {
        let (&kind, rest) = input.split_first().ok_or(Malformed::Shape("an empty record"))?;
        input = rest;
        let record = match kind {
            1 => Record::Begin {
                vote: take_option(&mut input, take_vote)?,
                committed: take_option(&mut input, take_log_id)?,
                purged: take_option(&mut input, take_log_id)?,
            },
            2 => Record::Vote(take_vote(&mut input)?),
            3 => Record::Entry(take_entry(&mut input)?),
            4 => Record::CutFrom(varint::take_u64(&mut input)?),
            5 => Record::Purged(take_log_id(&mut input)?),
            6 => Record::Committed(take_option(&mut input, take_log_id)?),
            _ => return Err(Malformed::Shape("a record of an unknown kind")),
        };
        if input.is_empty() { Ok(record) } else { Err(Malformed::Shape("bytes follow a record")) }
    }
}

/// Writes the journal. Not read again before the next start.
pub(crate) struct Journal {
    disk: Arc<dyn Disk>,
    directory: String,
    file: Box<dyn DiskFile>,
    sequence: u64,
    size_bytes: u64,
    /// Closed files that are still there, with the last index of an entry in each.
    older: Vec<(u64, u64)>,
    /// The last index of an entry in the open one.
    last_index: u64,
    /// What the next file begins with.
    vote: Option<Vote>,
    committed: Option<LogId>,
    purged: Option<LogId>,
    buffer: Vec<u8>,
    record: Vec<u8>,
}

impl Journal {
    /// Reads what is in `directory`, and begins a file behind it.
    pub(crate) fn open(
        disk: Arc<dyn Disk>,
        directory: &str,
    ) -> Result<(Journal, Contents), JournalError> {
        let mut records = Vec::new();
        let mut older = Vec::new();
        let mut sequences: Vec<u64> =
            disk.list(directory)?.iter().filter_map(|info| sequence_of(&info.key)).collect();
        sequences.sort_unstable();
        for (at, &sequence) in sequences.iter().enumerate() {
            let path = path(directory, sequence);
            let bytes = read(&*disk, &path)?;
            let found = records.len();
            let sound = records_of(&path, &bytes, &mut records)?;
            if sound < bytes.len() {
                if at + 1 < sequences.len() || has_record_behind(&bytes[sound..]) {
                    let cause = "a checksum does not match".to_owned();
                    return Err(JournalError::Damaged { path, offset: sound, cause });
                }
                // What was not synced yet when the power went. It must not stand in front of what
                // is written now.
                disk.truncate(&path, sound as u64)?;
            }
            let indexes = records[found..].iter().filter_map(|(_, _, record)| match record {
                Record::Entry(entry) => Some(entry.log_id.index),
                _ => None,
            });
            older.push((sequence, indexes.max().unwrap_or(0)));
        }
        let contents = contents_of(directory, records)?;
        let sequence = sequences.last().map_or(1, |last| last + 1);
        let file = disk.create(&path(directory, sequence))?;
        let mut journal = Journal {
            disk,
            directory: directory.to_owned(),
            file,
            sequence,
            size_bytes: 0,
            older,
            last_index: 0,
            vote: contents.vote,
            committed: contents.committed,
            purged: contents.purged,
            buffer: Vec::new(),
            record: Vec::new(),
        };
        journal.begin()?;
        journal.remove_purged()?;
        Ok((journal, contents))
    }

    /// Adds a record to what the next [`Journal::sync`] writes.
    pub(crate) fn add(&mut self, record: &Record) {
        match record {
            Record::Vote(vote) => self.vote = Some(*vote),
            Record::Entry(entry) => self.last_index = self.last_index.max(entry.log_id.index),
            Record::Purged(id) => self.purged = Some(*id),
            Record::Committed(id) => self.committed = *id,
            Record::Begin { .. } | Record::CutFrom(_) => {}
        }
        self.record.clear();
        record.put(&mut self.record);
        let len = u32::try_from(self.record.len()).expect("commands are far below 4 GiB");
        self.buffer.extend_from_slice(&len.to_le_bytes());
        self.buffer.extend_from_slice(&codec::checksum(&self.record).to_le_bytes());
        self.buffer.extend_from_slice(&self.record);
    }

    /// Writes and syncs what was added. After an error the process must stop: nobody knows what is
    /// on the disk.
    pub(crate) fn sync(&mut self) -> Result<(), BlobError> {
        if !self.buffer.is_empty() {
            self.file.append(&[&self.buffer])?;
            self.size_bytes += self.buffer.len() as u64;
            self.buffer.clear();
        }
        self.file.sync_data()?;
        if self.size_bytes >= FILE_BYTES {
            self.rotate()?;
        }
        Ok(())
    }

    /// Removes files of which every entry is purged; call it after a sync.
    pub(crate) fn remove_purged(&mut self) -> Result<(), BlobError> {
        let through = self.purged.map_or(0, |id| id.index);
        // From the front only: a cut in a file speaks of the entries of those before it.
        while let Some(&(sequence, last)) = self.older.first()
            && last <= through
        {
            self.disk.remove(&path(&self.directory, sequence))?;
            self.older.remove(0);
        }
        Ok(())
    }

    fn rotate(&mut self) -> Result<(), BlobError> {
        self.older.push((self.sequence, self.last_index));
        self.sequence += 1;
        self.file = self.disk.create(&path(&self.directory, self.sequence))?;
        self.size_bytes = 0;
        // What is cut off at the end may be of files before: they are needed as long as these.
        self.begin()
    }

    fn begin(&mut self) -> Result<(), BlobError> {
        let (vote, committed, purged) = (self.vote, self.committed, self.purged);
        self.buffer.extend_from_slice(MAGIC);
        self.buffer.push(VERSION);
        self.add(&Record::Begin { vote, committed, purged });
        self.file.append(&[&self.buffer])?;
        self.size_bytes = self.buffer.len() as u64;
        self.buffer.clear();
        self.file.sync_data()?;
        self.disk.sync_directory(&self.directory)
    }
}

/// A record, where it stands, and in which file.
type Placed = (u64, usize, Record);

/// Appends the records of a file; yields how many of its bytes are sound.
fn records_of(path: &str, bytes: &[u8], out: &mut Vec<Placed>) -> Result<usize, JournalError> {
    let damaged = |offset, cause: &dyn std::fmt::Display| JournalError::Damaged {
        path: path.to_owned(),
        offset,
        cause: cause.to_string(),
    };
    let sequence = sequence_of(path).unwrap_or(0);
    let header = match bytes.get(..HEADER_BYTES) {
        Some(header) if &header[..4] == MAGIC => header,
        // Created, and its beginning not written yet.
        _ => return Ok(0),
    };
    if header[4] > VERSION {
        return Err(JournalError::Newer { path: path.to_owned(), found: header[4] });
    }
    let mut at = HEADER_BYTES;
    while let Some(record) = framed(&bytes[at..]) {
        out.push((sequence, at, Record::take(record).map_err(|error| damaged(at, &error))?));
        at += FRAME_BYTES + record.len();
    }
    Ok(at)
}

/// What records come to.
fn contents_of(directory: &str, records: Vec<Placed>) -> Result<Contents, JournalError> {
    let mut contents = Contents::default();
    let purged = records.iter().filter_map(|(_, _, record)| match record {
        Record::Purged(id) => Some(*id),
        Record::Begin { purged, .. } => *purged,
        _ => None,
    });
    // First of all: files whose entries are purged may be gone, and those behind them then do not
    // follow anything.
    contents.purge(purged.max());
    for (sequence, offset, record) in records {
        contents.apply(record).map_err(|error| JournalError::Damaged {
            path: path(directory, sequence),
            offset,
            cause: error.to_string(),
        })?;
    }
    Ok(contents)
}

/// The record at the front, if it is all there and as it was written.
fn framed(bytes: &[u8]) -> Option<&[u8]> {
    let (len, rest) = bytes.split_first_chunk::<4>()?;
    let (checksum, rest) = rest.split_first_chunk::<4>()?;
    let len = usize::try_from(u32::from_le_bytes(*len)).ok()?;
    if len == 0 || len > MAX_RECORD_BYTES {
        return None;
    }
    let record = rest.get(..len)?;
    (codec::checksum(record) == u32::from_le_bytes(*checksum)).then_some(record)
}

/// Whether a whole record begins anywhere: then what is in front of it was synced once.
fn has_record_behind(bytes: &[u8]) -> bool {
    (0..bytes.len())
        .any(|at| framed(&bytes[at..]).is_some_and(|record| Record::take(record).is_ok()))
}

fn read(disk: &dyn Disk, path: &str) -> Result<Vec<u8>, BlobError> {
    let file = disk.open(path)?;
    let mut bytes = vec![0; usize::try_from(file.size_bytes()).expect("a journal file is small")];
    file.read_exact_at(0, &mut bytes)?;
    Ok(bytes)
}

fn path(directory: &str, sequence: u64) -> String {
    format!("{directory}/{sequence:020}.wfj")
}

fn sequence_of(path: &str) -> Option<u64> {
    let name = path.rsplit('/').next()?.strip_suffix(".wfj")?;
    (name.len() == 20).then(|| name.parse().ok()).flatten()
}
