//! The log as openraft wants it: entries in memory, and the journal behind them.

use std::fmt::Debug;
use std::ops::RangeBounds;
use std::sync::Arc;
use std::time::Duration;

use blockstore::{BlobError, Disk};
use openraft::storage::{LogFlushed, LogState, RaftLogStorage};
use openraft::{ErrorSubject, ErrorVerb, OptionalSend, RaftLogReader, StorageIOError};
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot, watch};

use crate::bytes_of::Malformed;
use crate::journal::{Journal, JournalError};
use crate::machine::Durable;
use crate::record::{Contents, Held, Record};
use crate::runtime::Chance;
use crate::types::{Entry, LogId, StorageError, Types, Vote};

/// Most bytes of entries that are sent at once, if there is more than one: openraft waits no longer
/// for the answer than one heartbeat, over any link.
const SENT_AT_ONCE_BYTES: usize = 256 << 10;
/// Most bytes, roughly, that are synced at once.
const SYNCED_AT_ONCE_BYTES: usize = 8 << 20;

/// Where the journal is written.
#[derive(Debug, Clone)]
pub enum Writing {
    /// On a thread of its own, several changes with one sync.
    Thread,
    /// Where it is asked for: in a simulation, which has one thread.
    Inline,
    /// As a thread would, on one thread with everything else: in a simulation whose disks take time.
    Task(Latency),
}

/// Says how long the next sync takes.
#[derive(Clone)]
pub struct Latency(pub Arc<dyn Fn() -> Duration + Send + Sync>);

impl Debug for Latency {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("Latency")
    }
}

/// Called when this member cannot take part any more: nothing that was promised can be kept, so it should
/// end the process. It may be called more than once.
pub type OnFailure = Arc<dyn Fn(&Failure<'_>) + Send + Sync>;

/// Why a member cannot take part any more.
#[derive(Debug, thiserror::Error)]
pub enum Failure<'a> {
    /// The disk failed.
    #[error("the log of the cluster cannot be written: {0}; check the disk of the data directory")]
    Disk(&'a BlobError),
    /// Its part ended by itself: a snapshot that cannot be written or read, or a panic.
    #[error("the consensus of this broker has ended ({0}); check the disk of the data directory")]
    Ended(&'a str),
    /// The others agree by a program that came after this one.
    #[error(
        "the cluster writes its catalog in version {found} and this program reads up to {supported}: start \
         this broker with the version of the others"
    )]
    Newer {
        /// What they write.
        found: u8,
        /// The highest this program reads.
        supported: u8,
    },
}

/// A member's log.
#[derive(Clone)]
pub(crate) struct LogStore {
    contents: Arc<Mutex<Contents>>,
    writer: Writer,
    /// Nothing is purged that is not in a durable snapshot.
    snapshots: watch::Receiver<Durable>,
}

#[derive(Clone)]
enum Writer {
    Queue(mpsc::UnboundedSender<Job>),
    Inline(Arc<Mutex<Journal>>, OnFailure),
}

/// Records to be synced, and who waits.
struct Job {
    records: Vec<Record>,
    done: Done,
}

enum Done {
    Flushed(LogFlushed<Types>),
    Waiting(oneshot::Sender<Result<(), std::io::Error>>),
    Nobody,
}

impl Job {
    /// Roughly.
    fn size_bytes(&self) -> usize {
        self.records.iter().map(Record::size_bytes).sum()
    }
}

impl Done {
    fn tell(self, result: Result<(), std::io::Error>) {
        match self {
            Done::Flushed(callback) => callback.log_io_completed(result),
            Done::Waiting(sender) => {
                let _ = sender.send(result);
            }
            Done::Nobody => {}
        }
    }
}

impl LogStore {
    /// Opens the journal in `directory`, whose snapshots are told by `snapshots`.
    pub(crate) fn open(
        disk: Arc<dyn Disk>,
        directory: &str,
        writing: Writing,
        snapshots: watch::Receiver<Durable>,
        on_failure: OnFailure,
    ) -> Result<LogStore, JournalError> {
        let incarnation = Chance::between(1..u64::MAX);
        let snapshot = snapshots.borrow().clone().unwrap_or(0);
        let (journal, contents) = Journal::open(disk, directory, incarnation, snapshot)?;
        let writer = match writing {
            Writing::Inline => Writer::Inline(Arc::new(Mutex::new(journal)), on_failure),
            Writing::Thread => {
                let (sender, jobs) = mpsc::unbounded_channel();
                std::thread::Builder::new()
                    .name("raft-log".to_owned())
                    .spawn(move || write(journal, jobs, &on_failure))
                    .map_err(|source| {
                        let key = directory.to_owned();
                        BlobError::Io { action: "start the thread that writes", key, source }
                    })?;
                Writer::Queue(sender)
            }
            Writing::Task(latency) => {
                let (sender, jobs) = mpsc::unbounded_channel();
                tokio::spawn(write_in_time(journal, jobs, latency, on_failure));
                Writer::Queue(sender)
            }
        };
        Ok(LogStore { contents: Arc::new(Mutex::new(contents)), writer, snapshots })
    }

    /// The last entry that this member has, or had before it was purged.
    pub(crate) fn last(&self) -> Option<LogId> {
        self.contents.lock().last()
    }

    /// See [`Contents::incarnation`].
    pub(crate) fn incarnation(&self) -> u64 {
        self.contents.lock().incarnation
    }

    /// Of the entries in memory, so many bytes.
    pub(crate) fn size_bytes(&self) -> u64 {
        self.contents.lock().size_bytes()
    }

    /// The first index from which on all entries are no more than so many bytes together.
    pub(crate) fn last_within(&self, most_bytes: u64) -> u64 {
        self.contents.lock().last_within(most_bytes)
    }

    /// Waits until a snapshot that holds an entry is durable.
    async fn wait_for_snapshot(&self, of: LogId) -> Result<(), StorageError> {
        let mut snapshots = self.snapshots.clone();
        let there = snapshots.wait_for(|durable| {
            durable.as_ref().is_ok_and(|at| *at >= of.index) || durable.is_err()
        });
        let failed = match there.await {
            Ok(durable) => durable.as_ref().err().cloned(),
            Err(_) => Some("it has stopped".to_owned()),
        };
        match failed {
            None => Ok(()),
            Some(why) => {
                let error = std::io::Error::other(why);
                Err(StorageIOError::new(ErrorSubject::Logs, ErrorVerb::Delete, &error).into())
            }
        }
    }

    fn start(&self, records: Vec<Record>, done: Done) {
        let job = Job { records, done };
        match &self.writer {
            Writer::Queue(sender) => {
                if let Err(refused) = sender.send(job) {
                    refused.0.done.tell(Err(std::io::Error::other("the journal has failed")));
                }
            }
            Writer::Inline(journal, on_failure) => {
                let mut journal = journal.lock();
                let result = write_jobs(&mut journal, vec![job]);
                if let Err(error) = result {
                    on_failure(&Failure::Disk(&error));
                }
            }
        }
    }

    async fn write(&self, records: Vec<Record>, verb: ErrorVerb) -> Result<(), StorageError> {
        let (sender, answer) = oneshot::channel();
        self.start(records, Done::Waiting(sender));
        let result = answer.await.unwrap_or_else(|_| Err(std::io::Error::other("it has stopped")));
        result.map_err(|error| StorageIOError::new(ErrorSubject::Logs, verb, &error).into())
    }
}

/// Serves jobs until nobody can send any.
fn write(mut journal: Journal, mut jobs: mpsc::UnboundedReceiver<Job>, on_failure: &OnFailure) {
    while let Some(first) = jobs.blocking_recv() {
        let group = with_those_behind(first, &mut jobs);
        if let Err(error) = write_jobs(&mut journal, group) {
            on_failure(&Failure::Disk(&error));
            return;
        }
    }
}

/// As [`write`], where each sync takes as long as it is told.
async fn write_in_time(
    mut journal: Journal,
    mut jobs: mpsc::UnboundedReceiver<Job>,
    Latency(latency): Latency,
    on_failure: OnFailure,
) {
    while let Some(first) = jobs.recv().await {
        let group = with_those_behind(first, &mut jobs);
        tokio::time::sleep(latency()).await;
        if let Err(error) = write_jobs(&mut journal, group) {
            on_failure(&Failure::Disk(&error));
            return;
        }
    }
}

/// What is synced at once.
fn with_those_behind(first: Job, jobs: &mut mpsc::UnboundedReceiver<Job>) -> Vec<Job> {
    let mut size_bytes = first.size_bytes();
    let mut group = vec![first];
    while size_bytes < SYNCED_AT_ONCE_BYTES
        && let Ok(job) = jobs.try_recv()
    {
        size_bytes += job.size_bytes();
        group.push(job);
    }
    group
}

fn write_jobs(journal: &mut Journal, group: Vec<Job>) -> Result<(), BlobError> {
    let mut has_purged = false;
    for record in group.iter().flat_map(|job| &job.records) {
        has_purged |= matches!(record, Record::Purged(_));
        journal.add(record);
    }
    // A hint alone need not be durable: it goes with the next.
    let is_hint = |job: &Job| matches!(job.done, Done::Nobody);
    // What is purged is removed only where the journal says so durably.
    let need_not_last = !has_purged && group.iter().all(is_hint);
    let written = if need_not_last { Ok(()) } else { journal.sync() };
    let written = match has_purged {
        true => written.and_then(|()| journal.remove_purged()),
        false => written,
    };
    for job in group {
        job.done.tell(match &written {
            Ok(()) => Ok(()),
            Err(error) => Err(std::io::Error::other(error.to_string())),
        });
    }
    written
}

#[expect(clippy::result_large_err, reason = "openraft's own error, which its traits take")]
fn entry_of(held: &Held) -> Result<Entry, StorageError> {
    held.entry().map_err(|error: Malformed| {
        StorageIOError::read_log_at_index(held.log_id.index, &error).into()
    })
}

impl RaftLogReader<Types> for LogStore {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry>, StorageError> {
        self.contents.lock().entries(range).map(entry_of).collect()
    }

    async fn limited_get_log_entries(
        &mut self,
        start: u64,
        end: u64,
    ) -> Result<Vec<Entry>, StorageError> {
        let contents = self.contents.lock();
        let mut size_bytes = 0;
        let fits = |held: &&Held| {
            let is_first = size_bytes == 0;
            size_bytes += held.bytes.len();
            is_first || size_bytes <= SENT_AT_ONCE_BYTES
        };
        contents.entries(start..end).take_while(fits).map(entry_of).collect()
    }
}

impl RaftLogStorage<Types> for LogStore {
    type LogReader = LogStore;

    async fn get_log_state(&mut self) -> Result<LogState<Types>, StorageError> {
        let contents = self.contents.lock();
        let (last_purged_log_id, last_log_id) = (contents.purged, contents.last());
        Ok(LogState { last_purged_log_id, last_log_id })
    }

    async fn get_log_reader(&mut self) -> LogStore {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), StorageError> {
        self.write(vec![Record::Vote(*vote)], ErrorVerb::Write).await?;
        self.contents.lock().vote = Some(*vote);
        Ok(())
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, StorageError> {
        Ok(self.contents.lock().vote)
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), StorageError> {
        self.contents.lock().committed = committed;
        self.start(vec![Record::Committed(committed)], Done::Nobody);
        Ok(())
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, StorageError> {
        let contents = self.contents.lock();
        // A hint may be ahead of what was synced beside it.
        Ok(contents.committed.min(contents.last()))
    }

    async fn append<I>(
        &mut self,
        entries: I,
        callback: LogFlushed<Types>,
    ) -> Result<(), StorageError>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let added: Vec<Held> = entries.into_iter().map(|entry| Held::new(&entry)).collect();
        self.contents.lock().extend(added.iter().cloned());
        let records = added.into_iter().map(Record::Entry).collect();
        self.start(records, Done::Flushed(callback));
        Ok(())
    }

    async fn truncate(&mut self, from: LogId) -> Result<(), StorageError> {
        self.contents.lock().cut_from(from.index);
        self.write(vec![Record::CutFrom(from.index)], ErrorVerb::Delete).await
    }

    async fn purge(&mut self, through: LogId) -> Result<(), StorageError> {
        // openraft asks for it while a snapshot that it received is still on its way to the disk.
        self.wait_for_snapshot(through).await?;
        self.contents.lock().purge(Some(through));
        // Nobody waits for the disk: a member says nothing meanwhile, and a leader whose disk is slow would
        // be missed. What is written later lies behind it in the journal, and where it is lost the start
        // finds entries that the snapshot holds as well.
        self.start(vec![Record::Purged(through)], Done::Nobody);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
