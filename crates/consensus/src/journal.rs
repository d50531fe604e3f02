//! The log of a member on its disk: votes, entries, what was cut off at either end.
//!
//! A directory of files, each a header and frames, appended and synced; drawn in
//! `docs/formats/consensus.md`. A frame is what one sync made durable: of one that the power cut off
//! any part may be there or not, so it counts as a whole or not at all. All entries that are not
//! purged are in memory as well, so the files are read at the start only. The first record of a file
//! is the vote at that time: older files can go as soon as their entries are purged.

use std::sync::Arc;

use blockstore::{BlobError, Disk, DiskFile};
use catalog::CatalogError;

use crate::bytes_of::Malformed;
use crate::record::{Contents, Record};
use crate::types::{LogId, Vote};

const MAGIC: &[u8; 4] = b"WFRJ";
const VERSION: u8 = 2;
const HEADER_BYTES: usize = 5;
/// Length of a frame's body, its checksum, and a checksum of these two.
const FRAME_BYTES: usize = 12;
/// A file is not continued beyond this.
const FILE_BYTES: u64 = 16 << 20;

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
         agreed to and must not vote. {}",
        crate::config::BEGIN_ANEW
    )]
    Damaged {
        /// The file.
        path: String,
        /// Where in it.
        offset: usize,
        /// What is wrong.
        cause: String,
    },
    /// It goes on behind the snapshot, or there is a snapshot and no log.
    #[error(
        "{directory} holds {found}, so entries are missing that this broker had once, and it must \
         not vote. {}",
        crate::config::BEGIN_ANEW
    )]
    Gap {
        /// Where the log lies.
        directory: String,
        /// What is there.
        found: String,
    },
    /// A newer program wrote it.
    #[error("{path} has version {found} and this program knows up to {supported}: use a newer one")]
    Newer {
        /// The file.
        path: String,
        /// What it says.
        found: u8,
        /// What this program knows.
        supported: u8,
    },
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
    incarnation: u64,
    vote: Option<Vote>,
    committed: Option<LogId>,
    purged: Option<LogId>,
    /// The records of the next frame.
    body: Vec<u8>,
}

impl Journal {
    /// Reads what is in `directory`, and begins a file behind it. `incarnation`, a random number that
    /// is not 0, is that of a journal which begins now; `snapshot` the last entry in a snapshot.
    pub(crate) fn open(
        disk: Arc<dyn Disk>,
        directory: &str,
        incarnation: u64,
        snapshot: u64,
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
            let is_last = at + 1 == sequences.len();
            if sound < bytes.len() && (!is_last || has_frame_behind(&bytes[sound..])) {
                let cause = "a checksum does not match".to_owned();
                return Err(JournalError::Damaged { path, offset: sound, cause });
            }
            if is_last {
                // What was not synced yet when the power went must not stand in front of what is
                // written now. What is whole may not be synced either, where only the process
                // ended: it counts from now on, so it must be.
                disk.truncate(&path, sound as u64)?;
            }
            let indexes = records[found..].iter().filter_map(|(_, _, record)| match record {
                Record::Entry(held) => Some(held.log_id.index),
                _ => None,
            });
            older.push((sequence, indexes.max().unwrap_or(0)));
        }
        let mut contents = contents_of(directory, records)?;
        check_gap(directory, &contents, snapshot)?;
        if contents.incarnation == 0 {
            contents.incarnation = incarnation;
        }
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
            incarnation: contents.incarnation,
            vote: contents.vote,
            committed: contents.committed,
            purged: contents.purged,
            body: Vec::new(),
        };
        journal.begin()?;
        journal.remove_purged()?;
        Ok((journal, contents))
    }

    /// Adds a record to what the next [`Journal::sync`] writes.
    pub(crate) fn add(&mut self, record: &Record) {
        match record {
            Record::Vote(vote) => self.vote = Some(*vote),
            Record::Entry(held) => self.last_index = self.last_index.max(held.log_id.index),
            Record::Purged(id) => self.purged = Some(*id),
            Record::Committed(id) => self.committed = *id,
            Record::Begin { .. } | Record::CutFrom(_) => {}
        }
        record.put(&mut self.body);
    }

    /// Writes and syncs what was added. After an error the process must stop: nobody knows what is
    /// on the disk.
    pub(crate) fn sync(&mut self) -> Result<(), BlobError> {
        if !self.body.is_empty() {
            let frame = frame(&self.body);
            self.file.append(&[&frame, &self.body])?;
            self.size_bytes += (FRAME_BYTES + self.body.len()) as u64;
            self.body.clear();
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
        let (incarnation, vote) = (self.incarnation, self.vote);
        let (committed, purged) = (self.committed, self.purged);
        self.add(&Record::Begin { incarnation, vote, committed, purged });
        let frame = frame(&self.body);
        self.file.append(&[MAGIC, &[VERSION], &frame, &self.body])?;
        self.size_bytes = (HEADER_BYTES + FRAME_BYTES + self.body.len()) as u64;
        self.body.clear();
        self.file.sync_data()?;
        self.disk.sync_directory(&self.directory)
    }
}

/// What stands in front of the records of a sync.
fn frame(body: &[u8]) -> [u8; FRAME_BYTES] {
    let len = u32::try_from(body.len()).expect("what is synced at once is far below 4 GiB");
    let mut frame = [0; FRAME_BYTES];
    frame[..4].copy_from_slice(&len.to_le_bytes());
    frame[4..8].copy_from_slice(&codec::checksum(body).to_le_bytes());
    let checksum = codec::checksum(&frame[..8]);
    frame[8..].copy_from_slice(&checksum.to_le_bytes());
    frame
}

/// A record, where it stands, and in which file.
type Placed = (u64, usize, Record);

/// Appends the records of a file; yields how many of its bytes are sound.
fn records_of(path: &str, bytes: &[u8], out: &mut Vec<Placed>) -> Result<usize, JournalError> {
    let sequence = sequence_of(path).unwrap_or(0);
    let header = match bytes.get(..HEADER_BYTES) {
        Some(header) if &header[..4] == MAGIC => header,
        // Created, and its beginning not written yet.
        _ => return Ok(0),
    };
    if header[4] > VERSION {
        let (path, found, supported) = (path.to_owned(), header[4], VERSION);
        return Err(JournalError::Newer { path, found, supported });
    }
    if header[4] < VERSION {
        let cause = format!("it has version {}, which was in no release", header[4]);
        return Err(JournalError::Damaged { path: path.to_owned(), offset: 4, cause });
    }
    let mut at = HEADER_BYTES;
    while let Some(mut body) = framed(&bytes[at..]) {
        let len = body.len();
        while !body.is_empty() {
            let offset = at + FRAME_BYTES + len - body.len();
            let record = Record::take(&mut body).map_err(|error| unfit(path, offset, error))?;
            out.push((sequence, offset, record));
        }
        at += FRAME_BYTES + len;
    }
    Ok(at)
}

/// A record whose checksum matches cannot be read.
fn unfit(path: &str, offset: usize, error: Malformed) -> JournalError {
    let path = path.to_owned();
    match error {
        Malformed::Command(CatalogError::NewerVersion { found, supported }) => {
            JournalError::Newer { path, found, supported }
        }
        error => JournalError::Damaged { path, offset, cause: error.to_string() },
    }
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
        let applied = contents.apply(record);
        applied.map_err(|error| unfit(&path(directory, sequence), offset, error))?;
    }
    Ok(contents)
}

/// What was purged must be in the snapshot, and no snapshot is there before a log.
fn check_gap(directory: &str, contents: &Contents, snapshot: u64) -> Result<(), JournalError> {
    let purged = contents.purged.map_or(0, |id| id.index);
    let found = if purged > snapshot {
        format!("entries from {} on beside a snapshot through entry {snapshot}", purged + 1)
    } else if snapshot > 0 && contents.incarnation == 0 {
        format!("no log beside a snapshot through entry {snapshot}")
    } else {
        return Ok(());
    };
    Err(JournalError::Gap { directory: directory.to_owned(), found })
}

/// The body of the frame at the front, if it is all there and as it was written.
fn framed(bytes: &[u8]) -> Option<&[u8]> {
    let (frame, rest) = bytes.split_first_chunk::<FRAME_BYTES>()?;
    let number = |at| u32::from_le_bytes([frame[at], frame[at + 1], frame[at + 2], frame[at + 3]]);
    if number(8) != codec::checksum(&frame[..8]) {
        return None;
    }
    let body = rest.get(..usize::try_from(number(0)).ok()?)?;
    (codec::checksum(body) == number(4)).then_some(body)
}

/// Whether a whole frame begins anywhere: then what is in front of it was synced once.
fn has_frame_behind(bytes: &[u8]) -> bool {
    (1..bytes.len()).any(|at| framed(&bytes[at..]).is_some())
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

#[cfg(test)]
mod tests;
