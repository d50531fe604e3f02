//! The catalog, fed by what was agreed upon; its snapshots.

use std::sync::Arc;

use blockstore::{BlobError, Disk};
use catalog::{CatalogError, Command, Outcome, State};
use codec::varint;
use openraft::storage::{RaftStateMachine, Snapshot, SnapshotMeta};
use openraft::{
    EntryPayload, ErrorSubject, ErrorVerb, OptionalSend, RaftSnapshotBuilder, StorageIOError,
};
use parking_lot::{Mutex, RwLock};
use tokio::sync::watch;

use crate::bytes_of::{
    Malformed, put_log_id, put_option, put_stored_membership, take_log_id, take_option,
    take_stored_membership,
};
use crate::sessions::{Sessions, Waiting};
use crate::types::{Applied, Entry, LogId, Proposal, StorageError, StoredMembership, Types};

const MAGIC: &[u8; 4] = b"WFRS";
const VERSION: u8 = 2;
const CHECKSUM_BYTES: usize = 4;

/// Hears of what changes, in order, before anybody who waits for it.
pub trait Observer: Send + Sync {
    /// A command was applied. Called under the lock of the state: it must be quick and not ask this
    /// consensus anything.
    fn applied(&self, command: &Command, outcome: &Result<Outcome, CatalogError>, state: &State);

    /// The state was replaced by a newer one: what lies between is not told.
    fn replaced(&self, state: &State);
}

/// The applied state of a member.
#[derive(Debug, Default, Clone)]
pub(crate) struct Reached {
    pub(crate) state: State,
    pub(crate) last: Option<LogId>,
    pub(crate) membership: StoredMembership,
    sessions: Sessions,
}

/// Feeds the state. One per member; clones share it.
#[derive(Clone)]
pub(crate) struct Machine {
    reached: Arc<RwLock<Reached>>,
    /// The index of the last entry.
    index: watch::Sender<u64>,
    /// Number of the member and of its process.
    own: (u64, u64),
    waiting: Arc<Mutex<Waiting>>,
    observer: Arc<dyn Observer>,
    snapshots: Arc<Snapshots>,
}

/// Where they lie.
struct Snapshots {
    disk: Arc<dyn Disk>,
    directory: String,
    /// Held while one is written: one that is built and one that is received may meet.
    writing: Mutex<()>,
    durable: watch::Sender<Durable>,
}

/// The last entry in a snapshot that is durable, or why none will be any more.
pub(crate) type Durable = Result<u64, String>;

/// Why snapshots cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The disk failed.
    #[error(transparent)]
    Disk(#[from] BlobError),
    /// It is damaged.
    #[error("{path} is damaged ({cause}). {}", crate::config::BEGIN_ANEW)]
    Damaged {
        /// The file.
        path: String,
        /// What is wrong.
        cause: String,
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

impl Machine {
    /// Begins with the newest snapshot in `directory`.
    pub(crate) fn open(
        disk: Arc<dyn Disk>,
        directory: &str,
        own: (u64, u64),
        observer: Arc<dyn Observer>,
    ) -> Result<Machine, SnapshotError> {
        let (writing, durable) = (Mutex::default(), watch::Sender::new(Ok(0)));
        let snapshots = Snapshots { disk, directory: directory.to_owned(), writing, durable };
        // The process before may have ended with the name of one not synced yet.
        snapshots.disk.sync_directory(directory)?;
        let reached = snapshots.load()?.unwrap_or_default();
        let _ = snapshots.durable.send_replace(Ok(index_of(reached.last)));
        if reached.last.is_some() {
            observer.replaced(&reached.state);
        }
        let index = watch::Sender::new(index_of(reached.last));
        let reached = Arc::new(RwLock::new(reached));
        let (waiting, snapshots) = (Arc::default(), Arc::new(snapshots));
        Ok(Machine { reached, index, own, waiting, observer, snapshots })
    }

    pub(crate) fn waiting(&self) -> Arc<Mutex<Waiting>> {
        Arc::clone(&self.waiting)
    }

    /// Which snapshot is durable.
    pub(crate) fn durable(&self) -> watch::Receiver<Durable> {
        self.snapshots.durable.subscribe()
    }

    pub(crate) fn index(&self) -> watch::Receiver<u64> {
        self.index.subscribe()
    }

    /// Lets `read` look at the state. Changes wait meanwhile.
    pub(crate) fn read<T>(&self, read: impl FnOnce(&Reached) -> T) -> T {
        read(&self.reached.read())
    }

    fn apply_one(&self, reached: &mut Reached, entry: Entry) {
        reached.last = Some(entry.log_id);
        match entry.payload {
            EntryPayload::Blank => {}
            EntryPayload::Membership(membership) => {
                reached.sessions.retain(|id| membership.get_node(&id).is_some());
                reached.membership = StoredMembership::new(Some(entry.log_id), membership);
            }
            EntryPayload::Normal(Proposal { place, command, .. }) => {
                if !reached.sessions.is_new(&place) {
                    return;
                }
                let outcome = reached.state.apply(&command);
                self.observer.applied(&command, &outcome, &reached.state);
                if (place.origin, place.process) == self.own
                    && let Some(waiting) = self.waiting.lock().end(place.seq)
                {
                    // It may not wait any more.
                    let _ = waiting.send(outcome);
                }
            }
        }
    }

    fn snapshot(&self) -> Snapshot<Types> {
        let reached = self.reached.read().clone();
        let mut bytes = Vec::new();
        encode(&reached, &mut bytes);
        Snapshot { meta: meta(&reached), snapshot: Box::new(bytes) }
    }
}

fn meta(reached: &Reached) -> SnapshotMeta<u64, crate::types::Seat> {
    SnapshotMeta {
        last_log_id: reached.last,
        last_membership: reached.membership.clone(),
        snapshot_id: index_of(reached.last).to_string(),
    }
}

fn index_of(id: Option<LogId>) -> u64 {
    id.map_or(0, |id| id.index)
}

impl RaftStateMachine<Types> for Machine {
    type SnapshotBuilder = Machine;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), StorageError> {
        let reached = self.reached.read();
        Ok((reached.last, reached.membership.clone()))
    }

    async fn apply<I>(&mut self, entries: I) -> Result<Vec<Applied>, StorageError>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut answers = Vec::new();
        let last = {
            let mut reached = self.reached.write();
            for entry in entries {
                self.apply_one(&mut reached, entry);
                answers.push(Applied);
            }
            reached.last
        };
        self.index.send_replace(index_of(last));
        Ok(answers)
    }

    async fn get_snapshot_builder(&mut self) -> Machine {
        self.clone()
    }

    async fn begin_receiving_snapshot(&mut self) -> Result<Box<Vec<u8>>, StorageError> {
        Ok(Box::default())
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta<u64, crate::types::Seat>,
        snapshot: Box<Vec<u8>>,
    ) -> Result<(), StorageError> {
        let fault = |error: &dyn std::fmt::Display| {
            let error = std::io::Error::other(error.to_string());
            StorageIOError::write_snapshot(Some(meta.signature()), &error)
        };
        let reached = decode(&snapshot).map_err(|error| fault(&error))?;
        self.snapshots.keep(index_of(reached.last), &snapshot).map_err(|error| fault(&error))?;
        {
            let mut current = self.reached.write();
            self.observer.replaced(&reached.state);
            *current = reached;
            self.index.send_replace(index_of(current.last));
        }
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot<Types>>, StorageError> {
        let fault = |error: SnapshotError| {
            let error = std::io::Error::other(error.to_string());
            StorageIOError::new(ErrorSubject::Snapshot(None), ErrorVerb::Read, &error)
        };
        let Some(reached) = self.snapshots.load().map_err(fault)? else { return Ok(None) };
        let mut bytes = Vec::new();
        encode(&reached, &mut bytes);
        Ok(Some(Snapshot { meta: meta(&reached), snapshot: Box::new(bytes) }))
    }
}

impl RaftSnapshotBuilder<Types> for Machine {
    async fn build_snapshot(&mut self) -> Result<Snapshot<Types>, StorageError> {
        let snapshot = self.snapshot();
        let index = index_of(snapshot.meta.last_log_id);
        self.snapshots.keep(index, &snapshot.snapshot).map_err(|error| {
            let signature = Some(snapshot.meta.signature());
            StorageIOError::write_snapshot(signature, &std::io::Error::other(error.to_string()))
        })?;
        Ok(snapshot)
    }
}

impl Snapshots {
    /// The newest.
    fn load(&self) -> Result<Option<Reached>, SnapshotError> {
        let Some(path) = self.paths()?.pop() else { return Ok(None) };
        let file = self.disk.open(&path)?;
        let len = usize::try_from(file.size_bytes()).expect("a snapshot fits in memory");
        let mut bytes = vec![0; len];
        file.read_exact_at(0, &mut bytes)?;
        match decode(&bytes) {
            Ok(reached) => Ok(Some(reached)),
            Err(Malformed::Command(CatalogError::NewerVersion { found, supported })) => {
                Err(SnapshotError::Newer { path, found, supported })
            }
            Err(error) => Err(SnapshotError::Damaged { path, cause: error.to_string() }),
        }
    }

    /// Makes one durable, then removes those before it. After an error the member must stop.
    fn keep(&self, index: u64, bytes: &[u8]) -> Result<(), BlobError> {
        let _writing = self.writing.lock();
        let kept = self.write(index, bytes);
        match &kept {
            Ok(()) => self.durable.send_if_modified(|durable| match durable {
                Ok(before) if *before < index => {
                    *before = index;
                    true
                }
                _ => false,
            }),
            Err(error) => {
                let why = format!("the snapshot was not kept: {error}");
                let _ = self.durable.send_replace(Err(why));
                true
            }
        };
        kept
    }

    fn write(&self, index: u64, bytes: &[u8]) -> Result<(), BlobError> {
        let path = format!("{}/{index:020}.wfs", self.directory);
        let before = self.paths()?;
        // Two of the same index hold the same, and a later one holds more.
        if before.last() >= Some(&path) {
            return Ok(());
        }
        let unfinished = format!("{}/unfinished", self.directory);
        self.disk.remove(&unfinished)?;
        let mut file = self.disk.create(&unfinished)?;
        file.append(&[bytes])?;
        file.sync_data()?;
        self.disk.rename(&unfinished, &path)?;
        self.disk.sync_directory(&self.directory)?;
        for old in &before {
            self.disk.remove(old)?;
        }
        Ok(())
    }

    /// Ascending.
    fn paths(&self) -> Result<Vec<String>, BlobError> {
        let files = self.disk.list(&self.directory)?.into_iter().map(|info| info.key);
        Ok(files.filter(|path| path.ends_with(".wfs")).collect())
    }
}

fn encode(reached: &Reached, out: &mut Vec<u8>) {
    out.extend_from_slice(MAGIC);
    out.push(VERSION);
    put_option(out, reached.last.as_ref(), put_log_id);
    put_stored_membership(out, &reached.membership);
    reached.sessions.put(out);
    let mut state = Vec::new();
    reached.state.encode_at(catalog::format_version(reached.state.feature_level()), &mut state);
    varint::put_bytes(out, &state);
    let checksum = codec::checksum(out);
    out.extend_from_slice(&checksum.to_le_bytes());
}

pub(crate) fn decode(bytes: &[u8]) -> Result<Reached, Malformed> {
    let (sealed, checksum) = bytes
        .split_last_chunk::<CHECKSUM_BYTES>()
        .ok_or(Malformed::Shape("shorter than its checksum"))?;
    if codec::checksum(sealed) != u32::from_le_bytes(*checksum) {
        return Err(Malformed::Shape("the checksum does not match"));
    }
    let mut input = sealed.strip_prefix(MAGIC).ok_or(Malformed::Shape("it is no snapshot"))?;
    let found = crate::bytes_of::take_byte(&mut input)?;
    if found > VERSION {
        return Err(CatalogError::NewerVersion { found, supported: VERSION }.into());
    }
    if found < VERSION {
        return Err(Malformed::Shape("it has a version that was in no release"));
    }
    let last = take_option(&mut input, take_log_id)?;
    let membership = take_stored_membership(&mut input)?;
    let sessions = Sessions::take(&mut input)?;
    let state = State::decode(varint::take_prefixed(&mut input)?)?;
    if input.is_empty() {
        Ok(Reached { state, last, membership, sessions })
    } else {
        Err(Malformed::Shape("bytes follow the state"))
    }
}

#[cfg(test)]
mod tests;
