//! What the notifier knows, kept as a list of changes.
//!
//! | key | holds |
//! |---|---|
//! | `alerting/notify/head` | the generation in force, in decimal: for people |
//! | `alerting/notify/<generation>/<number>` | a piece of that generation's journal |
//!
//! A generation begins with everything that was known, and goes on with what changed. Pieces that belong
//! together are one write: a write of which the last piece is missing was never acknowledged and counts
//! for nothing. The newest generation that begins with a whole write counts, so there is no moment at which
//! a crash would leave half of one. In a cluster it may not be known what became of a write: a number that
//! was tried once is no other attempt's.
//!
//! A piece is a byte of version, a byte that says whether it is the last of its write, and bytes of the
//! write: lines of JSON under zstd. Numbers in keys are hexadecimal with leading zeros.

use std::collections::BTreeMap;
use std::io::Read;
use std::sync::Arc;

use alerting::notify::{
    AlertRecord, Changes, Fingerprint, GroupPlace, GroupRecord, LogEntry, LogKey, LogRecord,
    SNAPSHOT_VERSION, Silence, Snapshot,
};
use serde::{Deserialize, Serialize};
use tokio::task::{JoinHandle, JoinSet};

use crate::keep::{Keep, KeepError, MAX_VALUE_BYTES};

const PREFIX: &str = "alerting/notify/";
const HEAD: &str = "alerting/notify/head";
/// Of a piece.
const VERSION: u8 = 1;
const HEADER_BYTES: usize = 2;
/// A generation is not replaced before its changes take this much, and as much as what it began with:
/// so each byte is written twice at most.
const MIN_CHANGES_BYTES: usize = 1 << 20;
/// Pieces of generations of before that are removed at once, beside what is written.
const REMOVED_AT_ONCE: usize = 16;
/// A generation of so many pieces is replaced as well: each is a key of the catalog.
const MAX_PIECES: u64 = 2_000;
/// A write that unpacks to more is none that was made here.
const MAX_WRITE_BYTES: u64 = 4 << 30;

/// Writes changes down.
pub(super) struct Journal {
    keep: Arc<dyn Keep>,
    generation: u64,
    /// The highest number of a generation that was ever tried.
    newest: u64,
    next: u64,
    /// What the generation began with, and what was added since, in bytes.
    base_bytes: usize,
    added_bytes: usize,
    /// Whether something could not be written, so that only a new generation is whole.
    is_torn: bool,
    /// Removes generations of before.
    removing: Option<JoinHandle<()>>,
}

/// Why what was kept cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JournalError {
    /// It is damaged, or another version wrote it.
    #[error(
        "the state of notifications in {key} cannot be read: {reason}. Start the version that wrote it, or \
         remove the keys below {PREFIX} with `watchfire admin`: silences are then gone, and receivers are \
         told again of what fires"
    )]
    Unreadable {
        /// Where.
        key: String,
        /// Why.
        reason: String,
    },
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line {
    Alert(Fingerprint, Box<AlertRecord>),
    AlertGone(Fingerprint),
    Group(Box<GroupRecord>),
    GroupGone(GroupPlace),
    Silence(Box<Silence>),
    SilenceGone(String),
    Log(Box<LogRecord>),
    LogGone(LogKey),
}

impl Journal {
    /// Reads what was kept, and yields it with the journal that goes on.
    ///
    /// # Errors
    /// [`JournalError`].
    pub(super) fn open(keep: Arc<dyn Keep>) -> Result<(Snapshot, Journal), JournalError> {
        let keys = keep.list(PREFIX);
        let unreadable = |key: &str, reason: String| {
            let key = key.to_owned();
            JournalError::Unreadable { key, reason }
        };
        let head = keys.iter().find(|(key, _)| key == HEAD);
        // Pieces by generation and number.
        let mut generations: BTreeMap<u64, BTreeMap<u64, (&str, &[u8])>> = BTreeMap::new();
        for (key, value) in keys.iter().filter(|(key, _)| key != HEAD) {
            let number = |text: &str| u64::from_str_radix(text, 16).ok();
            let place = key[PREFIX.len()..].split_once('/');
            let place = place.and_then(|(of, piece)| Some((number(of)?, number(piece)?)));
            let (of, piece) =
                place.ok_or_else(|| unreadable(key, "its key is no number".to_owned()))?;
            generations.entry(of).or_default().insert(piece, (key.as_str(), value.as_slice()));
        }
        let newest = generations.keys().next_back().copied().unwrap_or(0);
        // A head may be written without anybody knowing, or not though it was tried: what counts is the newest
        // one that begins with everything.
        let whole = generations.iter().rev().find(|(_, pieces)| begins_whole(pieces));
        let Some((generation, pieces)) = whole else {
            return match head {
                Some((key, _)) => Err(unreadable(key, "what it names is not there".to_owned())),
                None => Ok((Snapshot::default(), Journal::new(keep, newest))),
            };
        };
        let mut known = Known::default();
        let (mut next, mut first_bytes, mut added_bytes) = (0, None, 0);
        let mut write: Vec<u8> = Vec::new();
        for (number, (key, value)) in pieces {
            let [version, is_last, bytes @ ..] = value else {
                return Err(unreadable(key, "it is too short".to_owned()));
            };
            if *version != VERSION {
                return Err(unreadable(key, format!("version {version}, and {VERSION} is known")));
            }
            if *number != next {
                // What was there of a write that never ended.
                write.clear();
            }
            next = number + 1;
            write.extend_from_slice(bytes);
            if *is_last == 1 {
                let size = write.len();
                known.read(&write).map_err(|reason| unreadable(key, reason))?;
                write.clear();
                match first_bytes {
                    None => first_bytes = Some(size),
                    Some(_) => added_bytes += size,
                }
            }
        }
        let base_bytes = first_bytes.unwrap_or(0);
        // One number stays free, so that what goes on is not taken for the end of a torn write.
        let next = next + u64::from(!write.is_empty());
        let journal = Journal {
            keep,
            generation: *generation,
            newest,
            next,
            base_bytes,
            added_bytes,
            // Pieces of a later one that never became whole go with the next.
            is_torn: *generation != newest,
            removing: None,
        };
        Ok((known.into_snapshot(), journal))
    }

    /// Nothing was kept. Numbers up to `newest` were used.
    fn new(keep: Arc<dyn Keep>, newest: u64) -> Journal {
        let (generation, next, base_bytes, added_bytes) = (newest, 0, 0, 0);
        let (is_torn, removing) = (true, None);
        Journal { keep, generation, newest, next, base_bytes, added_bytes, is_torn, removing }
    }

    /// Proves that nobody else writes here by now.
    ///
    /// # Errors
    /// Somebody does, or it is not known.
    pub(super) async fn fence(&self) -> Result<(), KeepError> {
        self.keep.fence().await
    }

    /// Whether all should be written anew.
    pub(super) fn wants_everything(&self) -> bool {
        self.is_torn
            || self.added_bytes > MIN_CHANGES_BYTES.max(self.base_bytes)
            || self.next > MAX_PIECES
    }

    /// Writes changes down; they are durable when this is done.
    ///
    /// # Errors
    /// Nothing counts then, and what is written next must be everything.
    pub(super) async fn append(&mut self, changes: Changes) -> Result<(), KeepError> {
        let bytes = match packed(lines_of(changes)) {
            Ok(bytes) => bytes,
            Err(error) => return Err(KeepError::Unavailable(error)),
        };
        self.added_bytes += bytes.len();
        let written = self.write(self.generation, self.next, &bytes).await;
        match written {
            Ok(next) => {
                self.next = next;
                Ok(())
            }
            Err(error) => {
                self.is_torn = true;
                // Pieces that were written are no beginning of what comes.
                self.next += bytes.len().div_ceil(MAX_VALUE_BYTES - HEADER_BYTES) as u64 + 1;
                Err(error)
            }
        }
    }

    /// Begins a new generation with everything that is known.
    ///
    /// # Errors
    /// The generation of before stays in force.
    pub(super) async fn replace(&mut self, snapshot: Snapshot) -> Result<(), KeepError> {
        // A number that no attempt before had: what became of that one may not be known.
        let generation = self.newest + 1;
        self.newest = generation;
        let all = Changes {
            alerts: snapshot.alerts,
            groups: snapshot.groups,
            silences: snapshot.silences,
            log: snapshot.log,
            ..Changes::default()
        };
        let bytes = packed(lines_of(all)).map_err(KeepError::Unavailable)?;
        let next = self.write(generation, 0, &bytes).await?;
        self.keep.put(HEAD.to_owned(), generation.to_string().into_bytes()).await?;
        self.generation = generation;
        self.next = next;
        (self.base_bytes, self.added_bytes, self.is_torn) = (bytes.len(), 0, false);
        // They may be thousands, each of which is agreed upon: nobody waits for that. If they stay, the next
        // generation removes them.
        let before =
            self.removing.replace(tokio::spawn(remove(Arc::clone(&self.keep), generation)));
        before.inspect(JoinHandle::abort);
        Ok(())
    }

    /// Writes one write, in as many pieces as it takes; yields the number after them.
    async fn write(&self, generation: u64, first: u64, bytes: &[u8]) -> Result<u64, KeepError> {
        let pieces: Vec<&[u8]> = bytes.chunks(MAX_VALUE_BYTES - HEADER_BYTES).collect();
        let mut number = first;
        for (index, piece) in pieces.iter().enumerate() {
            let mut value = Vec::with_capacity(piece.len() + HEADER_BYTES);
            value.extend_from_slice(&[VERSION, u8::from(index + 1 == pieces.len())]);
            value.extend_from_slice(piece);
            self.keep.put(format!("{PREFIX}{generation:016x}/{number:016x}"), value).await?;
            number += 1;
        }
        Ok(number)
    }
}

/// Removes all generations before one.
async fn remove(keep: Arc<dyn Keep>, generation: u64) {
    let before = format!("{PREFIX}{generation:016x}/");
    let keys = keep.list(PREFIX).into_iter().map(|(key, _)| key);
    let mut keys = keys.filter(|key| key != HEAD && *key < before);
    let mut under_way = JoinSet::new();
    loop {
        while under_way.len() < REMOVED_AT_ONCE
            && let Some(key) = keys.next()
        {
            let keep = Arc::clone(&keep);
            under_way.spawn(async move { keep.delete(key).await });
        }
        match under_way.join_next().await {
            None => return,
            Some(Ok(Ok(()))) => {}
            Some(_) => return,
        }
    }
}

fn lines_of(changes: Changes) -> impl Iterator<Item = Line> {
    let alerts = changes.alerts.into_iter().map(|(id, one)| Line::Alert(id, Box::new(one)));
    let groups = changes.groups.into_iter().map(|one| Line::Group(Box::new(one)));
    let silences = changes.silences.into_values().map(|one| Line::Silence(Box::new(one)));
    let log = changes.log.into_iter().map(|one| Line::Log(Box::new(one)));
    alerts
        .chain(changes.gone_alerts.into_iter().map(Line::AlertGone))
        .chain(groups)
        .chain(changes.gone_groups.into_iter().map(Line::GroupGone))
        .chain(silences)
        .chain(changes.gone_silences.into_iter().map(Line::SilenceGone))
        .chain(log)
        .chain(changes.gone_log.into_iter().map(Line::LogGone))
}

fn packed(lines: impl Iterator<Item = Line>) -> Result<Vec<u8>, String> {
    let failed = |error: String| format!("the state of notifications could not be packed: {error}");
    let mut encoder =
        zstd::Encoder::new(Vec::new(), 1).map_err(|error| failed(error.to_string()))?;
    for line in lines {
        serde_json::to_writer(&mut encoder, &line).map_err(|error| failed(error.to_string()))?;
        std::io::Write::write_all(&mut encoder, b"\n")
            .map_err(|error| failed(error.to_string()))?;
    }
    encoder.finish().map_err(|error| failed(error.to_string()))
}

/// Whether all pieces of the first write are there.
fn begins_whole(pieces: &BTreeMap<u64, (&str, &[u8])>) -> bool {
    let in_order = (0..).zip(pieces).take_while(|(number, (piece, _))| number == *piece);
    // One that is too short is told when it is read.
    let mut marks = in_order.map(|(_, (_, (_, value)))| value.get(1).copied());
    marks.any(|mark| mark.is_none_or(|mark| mark == 1))
}

/// What was read so far.
#[derive(Default)]
struct Known {
    alerts: BTreeMap<Fingerprint, AlertRecord>,
    groups: BTreeMap<GroupPlace, GroupRecord>,
    silences: BTreeMap<String, Silence>,
    log: BTreeMap<LogKey, LogEntry>,
}

impl Known {
    fn read(&mut self, write: &[u8]) -> Result<(), String> {
        let decoder = zstd::Decoder::new(write).map_err(|error| error.to_string())?;
        let mut text = Vec::new();
        decoder.take(MAX_WRITE_BYTES).read_to_end(&mut text).map_err(|error| error.to_string())?;
        for line in text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            let line: Line = serde_json::from_slice(line).map_err(|error| error.to_string())?;
            match line {
                Line::Alert(id, one) => drop(self.alerts.insert(id, *one)),
                Line::AlertGone(id) => drop(self.alerts.remove(&id)),
                Line::Group(one) => drop(self.groups.insert(one.place.clone(), *one)),
                Line::GroupGone(place) => drop(self.groups.remove(&place)),
                Line::Silence(one) => drop(self.silences.insert(one.id.clone(), *one)),
                Line::SilenceGone(id) => drop(self.silences.remove(&id)),
                Line::Log(one) => drop(self.log.insert(one.key, one.entry)),
                Line::LogGone(key) => drop(self.log.remove(&key)),
            }
        }
        Ok(())
    }

    fn into_snapshot(self) -> Snapshot {
        let log = self.log.into_iter().map(|(key, entry)| LogRecord { key, entry });
        Snapshot {
            version: SNAPSHOT_VERSION,
            alerts: self.alerts,
            groups: self.groups.into_values().collect(),
            silences: self.silences,
            log: log.collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use super::*;
    use crate::shelf::Shelf;

    fn alert(number: u64, text: &str) -> (Fingerprint, AlertRecord) {
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let record = AlertRecord {
            labels: [pair("alertname", &format!("A{number}"))].into(),
            annotations: [pair("summary", text)].into(),
            starts_at_ns: 5,
            ends_at_ns: 7,
            updated_at_ns: 6,
            timed_out: true,
            generator_url: String::new(),
            firing: true,
            grouped: false,
        };
        (Fingerprint(number), record)
    }

    fn some(numbers: impl IntoIterator<Item = u64>, text: &str) -> Changes {
        Changes {
            alerts: numbers.into_iter().map(|number| alert(number, text)).collect(),
            ..Changes::default()
        }
    }

    /// Bytes that do not get shorter.
    fn noise(length: usize) -> String {
        let mut state = 1_u64;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            char::from(b'!' + u8::try_from((state >> 33) % 90).expect("below 90"))
        };
        (0..length).map(|_| next()).collect()
    }

    #[tokio::test]
    async fn what_was_written_is_read_again() {
        let shelf = Shelf::new();
        let (nothing, mut journal) = Journal::open(Arc::clone(&shelf) as _).expect("opens");
        assert_eq!(nothing, Snapshot::default());
        assert!(journal.wants_everything());
        journal.replace(nothing).await.expect("is written");
        assert!(!journal.wants_everything());
        journal.append(some([1, 2, 3], &noise(900_000))).await.expect("is written");
        let gone = Changes { gone_alerts: vec![Fingerprint(2)], ..Changes::default() };
        journal.append(gone).await.expect("is written");
        let (read, mut again) = Journal::open(Arc::clone(&shelf) as _).expect("opens");
        let ids: Vec<u64> = read.alerts.keys().map(|id| id.0).collect();
        assert_eq!(ids, [1, 3]);
        assert!(again.wants_everything(), "1.8 MB changed, and nothing was there before");
        again.replace(read.clone()).await.expect("is written");
        assert!(!again.wants_everything());
        assert_eq!(Journal::open(Arc::clone(&shelf) as _).expect("opens").0, read);
        again.removing.take().expect("it was begun").await.expect("it ends");
        let others =
            shelf.list(PREFIX).into_iter().filter(|(key, _)| key.contains("/0000000000000001/"));
        assert_eq!(others.count(), 0, "the generation of before is gone");
    }

    #[tokio::test]
    async fn a_write_that_broke_off_at_any_place_counts_wholly_or_not_at_all() {
        for writes in 0..12 {
            let shelf = Shelf::new();
            let (nothing, mut journal) = Journal::open(Arc::clone(&shelf) as _).expect("opens");
            journal.replace(nothing).await.expect("is written");
            journal.append(some([1], "first")).await.expect("is written");
            shelf.writes_left.store(writes, Ordering::SeqCst);
            let appended = journal.append(some([2, 3], &noise(700_000))).await.is_ok();
            let wanted = journal.wants_everything();
            assert_eq!(wanted, !appended || writes >= 3);
            let mut everything = some([1, 2, 3, 4], &noise(400_000));
            everything.alerts.remove(&Fingerprint(1));
            let replacing = Snapshot { alerts: everything.alerts, ..Snapshot::default() };
            let replaced = journal.replace(replacing).await.is_ok();
            let (read, mut again) = Journal::open(Arc::clone(&shelf) as _).expect("opens");
            let ids: Vec<u64> = read.alerts.keys().map(|id| id.0).collect();
            let before: &[u64] = if appended { &[1, 2, 3] } else { &[1] };
            // What is whole counts, also if only its head is missing.
            assert!(ids == [2, 3, 4] || !replaced && ids == before, "{writes}: {ids:?}");
            // And what comes after the restart is not mixed with what is left of it.
            shelf.writes_left.store(usize::MAX, Ordering::SeqCst);
            again.append(some([9], "after")).await.expect("is written");
            let (read, _) = Journal::open(Arc::clone(&shelf) as _).expect("opens");
            assert!(read.alerts.contains_key(&Fingerprint(9)), "{writes}");
            assert_eq!(read.alerts.len(), ids.len() + 1, "{writes}");
        }
    }

    #[tokio::test]
    async fn a_write_of_which_nobody_knows_whether_it_counts_loses_nothing() {
        let all = |numbers: &[u64]| Snapshot {
            alerts: some(numbers.iter().copied(), &noise(400_000)).alerts,
            ..Snapshot::default()
        };
        for doubtful in 0..8 {
            for writes in 0..12 {
                let shelf = Shelf::new();
                let (nothing, mut journal) = Journal::open(Arc::clone(&shelf) as _).expect("opens");
                journal.replace(nothing).await.expect("is written");
                journal.append(some([1], "first")).await.expect("is written");
                shelf.doubtful_in.store(doubtful, Ordering::SeqCst);
                let first = journal.replace(all(&[1, 2])).await.is_ok();
                shelf.writes_left.store(writes, Ordering::SeqCst);
                let second = journal.replace(all(&[1, 2, 3])).await.is_ok();
                let (read, _) = Journal::open(Arc::clone(&shelf) as _).expect("opens");
                let ids: Vec<u64> = read.alerts.keys().map(|id| id.0).collect();
                let least = if second { 3 } else { 1 + usize::from(first) };
                let context = format!("{doubtful} {writes}: {ids:?}");
                assert!(ids.len() >= least && ids == [1, 2, 3][..ids.len()], "{context}");
            }
        }
    }

    #[tokio::test]
    async fn what_cannot_be_read_is_told_with_its_key() {
        let shelf = Shelf::new();
        let (nothing, mut journal) = Journal::open(Arc::clone(&shelf) as _).expect("opens");
        journal.replace(nothing).await.expect("is written");
        let key = format!("{PREFIX}{:016x}/{:016x}", 1, 0);
        for bytes in [vec![], vec![9, 1], vec![1, 1, 2, 3, 4]] {
            shelf.keys.lock().insert(key.clone(), bytes);
            let error = Journal::open(Arc::clone(&shelf) as _).err().expect("it is damaged");
            assert!(error.to_string().contains(&key), "{error}");
        }
    }
}
