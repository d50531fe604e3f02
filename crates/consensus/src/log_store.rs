//! The log as openraft wants it: entries in memory, and the journal behind them.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::ops::RangeBounds;
use std::sync::Arc;

use blockstore::{BlobError, Disk};
use openraft::storage::{LogFlushed, LogState, RaftLogStorage};
use openraft::{ErrorSubject, ErrorVerb, OptionalSend, RaftLogReader, StorageIOError};
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};

use crate::journal::{Contents, Journal, JournalError, Record};
use crate::types::{Entry, LogId, StorageError, Types, Vote};

/// Most bytes, roughly, of entries that are sent at once.
const MAX_ENTRIES_AT_ONCE: usize = 256;

/// Where the journal is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Writing {
    /// On a thread of its own, several changes with one sync.
    Thread,
    /// Where it is asked for: in a simulation, which has one thread.
    Inline,
}

/// Called when the disk failed: nothing that was promised can be kept any more, so it should end the
/// process.
pub type OnFailure = Arc<dyn Fn(&BlobError) + Send + Sync>;

/// A member's log.
#[derive(Clone)]
pub(crate) struct LogStore {
    contents: Arc<Mutex<Contents>>,
    writer: Writer,
}

#[derive(Clone)]
enum Writer {
    Thread(mpsc::UnboundedSender<Job>),
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
    /// Opens the journal in `directory`.
    pub(crate) fn open(
        disk: Arc<dyn Disk>,
        directory: &str,
        writing: Writing,
        on_failure: OnFailure,
    ) -> Result<LogStore, JournalError> {
        let (journal, contents) = Journal::open(disk, directory)?;
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
                Writer::Thread(sender)
            }
        };
        Ok(LogStore { contents: Arc::new(Mutex::new(contents)), writer })
    }

    /// The last entry that this member has, or had before it was purged.
    pub(crate) fn last(&self) -> Option<LogId> {
        self.contents.lock().last()
    }

    fn start(&self, records: Vec<Record>, done: Done) {
        let job = Job { records, done };
        match &self.writer {
            Writer::Thread(sender) => {
                if let Err(refused) = sender.send(job) {
                    refused.0.done.tell(Err(std::io::Error::other("the journal has failed")));
                }
            }
            Writer::Inline(journal, on_failure) => {
                let mut journal = journal.lock();
                let result = write_jobs(&mut journal, vec![job]);
                if let Err(error) = result {
                    on_failure(&error);
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
        let mut group = vec![first];
        while let Ok(job) = jobs.try_recv() {
            group.push(job);
        }
        if let Err(error) = write_jobs(&mut journal, group) {
            on_failure(&error);
            return;
        }
    }
}

fn write_jobs(journal: &mut Journal, group: Vec<Job>) -> Result<(), BlobError> {
    let mut has_purged = false;
    for record in group.iter().flat_map(|job| &job.records) {
        has_purged |= matches!(record, Record::Purged(_));
        journal.add(record);
    }
    // A hint alone need not be durable: it goes with the next.
    let is_hint = |job: &Job| matches!(job.done, Done::Nobody);
    let written = if group.iter().all(is_hint) { Ok(()) } else { journal.sync() };
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

impl RaftLogReader<Types> for LogStore {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry>, StorageError> {
        let contents = self.contents.lock();
        Ok(contents.entries.range(range).map(|(_, entry)| entry.clone()).collect())
    }

    async fn limited_get_log_entries(
        &mut self,
        start: u64,
        end: u64,
    ) -> Result<Vec<Entry>, StorageError> {
        let contents = self.contents.lock();
        let entries = contents.entries.range(start..end).take(MAX_ENTRIES_AT_ONCE);
        Ok(entries.map(|(_, entry)| entry.clone()).collect())
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
        let added: BTreeMap<u64, Entry> =
            entries.into_iter().map(|entry| (entry.log_id.index, entry)).collect();
        let records = added.values().cloned().map(Record::Entry).collect();
        self.contents.lock().entries.extend(added);
        self.start(records, Done::Flushed(callback));
        Ok(())
    }

    async fn truncate(&mut self, from: LogId) -> Result<(), StorageError> {
        self.contents.lock().entries.split_off(&from.index);
        self.write(vec![Record::CutFrom(from.index)], ErrorVerb::Delete).await
    }

    async fn purge(&mut self, through: LogId) -> Result<(), StorageError> {
        {
            let mut contents = self.contents.lock();
            contents.entries = contents.entries.split_off(&(through.index + 1));
            contents.purged = Some(through);
        }
        self.write(vec![Record::Purged(through)], ErrorVerb::Delete).await
    }
}
