//! The one thread that writes the log: it makes batches durable in groups and hands them to the
//! shards, and it applies commands to the catalog in the same order. It alone decides which batches
//! of agents are new.
//!
//! A sync covers everything that arrived while the one before it ran, so under load one sync
//! serves many requests, and an idle broker acknowledges after one sync. Nothing waits on
//! purpose; a group is bounded by [`MAX_GROUP_BYTES`], which a disk of today syncs in far less
//! than the 25 ms a write may have to wait.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use blockstore::{Ballast, BlobError, FrameKind, LogError, LogWriter};
use catalog::{Command, Incarnation, LogPosition, Mark, Outcome, Signal, Standing, State};
use crossbeam_channel::Receiver;
use metricstore::{LogEncoder, Registry, ResolvedBatch};
use model::LogBatch;
use model::TenantId;
use parking_lot::Mutex;

use crate::agent_frame;
use crate::aggregation;
use crate::commit::{CommitError, Cut, Message, OnApplied, OnMarks, OnStored};
use crate::deletes::DeleteRequest;
use crate::following::Following;
use crate::logs::{self, NewLines, OnLines, Push};
use crate::visible::{Hiding, Visible};

/// Most bytes of payload made durable by one sync.
const MAX_GROUP_BYTES: usize = 8 << 20;
/// Parts into which deletes may cut the head between two flushes; each takes memory for every series.
const MAX_HEAD_PARTS: u64 = 8;
/// The committer's state; [`Committer::run`] is its thread.
pub(crate) struct Committer {
    pub(crate) log: LogWriter,
    pub(crate) encoder: LogEncoder,
    /// Of what is aggregated.
    pub(crate) input_encoder: LogEncoder,
    pub(crate) input_registry: Arc<Registry>,
    /// Shared for reading; only the committer changes it.
    pub(crate) catalog: Arc<Mutex<State>>,
    pub(crate) registry: Arc<Registry>,
    /// Filled by the maintenance.
    pub(crate) ballast: Arc<Mutex<Ballast>>,
    pub(crate) visible: Visible,
    pub(crate) head_parts: HeadParts,
    pub(crate) following: Arc<Following>,
}

/// How often deletes cut the head since its last flush.
#[derive(Debug, Default)]
pub(crate) struct HeadParts {
    /// Whether anything was written since the last one.
    pub(crate) has_rows: bool,
    /// After the last cut for a flush.
    pub(crate) open: u64,
    /// Before it, as long as the flush is not done.
    pub(crate) frozen: u64,
}

/// Work that is in the log but not yet synced.
enum Pending {
    Write { batch: Box<ResolvedBatch>, done: OnStored },
    Known { done: OnStored },
    Marks { agent: Arc<str>, incarnation: Incarnation, done: OnMarks },
    Command { outcome: Result<Outcome, CommitError>, done: OnApplied },
    Lines { tenant: TenantId, batch: Box<LogBatch>, done: OnLines },
    KnownLines { done: OnLines },
    Delete { delete: Hiding, done: OnApplied },
}

impl Committer {
    /// Serves messages until all senders are gone, then syncs once more.
    pub(crate) fn run(mut self, messages: &Receiver<Message>) {
        let mut payload = Vec::new();
        let mut group = Vec::new();
        while let Ok(first) = messages.recv() {
            let mut bytes = 0;
            let mut next = Some(first);
            while let Some(message) = next.take() {
                match message {
                    Message::Write { batch, input, mark, done } => {
                        bytes += self.log_batch(batch, input, mark, done, &mut payload, &mut group);
                    }
                    Message::WriteLines { lines, done } => {
                        bytes += self.log_lines(*lines, done, &mut payload, &mut group);
                    }
                    Message::EndWindows { at_ms, done } => {
                        payload.clear();
                        aggregation::frame::put_end(at_ms, &mut payload);
                        match self.log.append(FrameKind::AggregationEnd, &[&payload]) {
                            Ok(_) => {
                                let outcome = Ok(Outcome::Done);
                                group.push(Pending::Command { outcome, done });
                            }
                            Err(error) => done(Err(self.refusal(error))),
                        }
                    }
                    Message::Marks { agent, incarnation, done } => {
                        group.push(Pending::Marks { agent, incarnation, done });
                    }
                    Message::Command { command, done } => {
                        let outcome = self.log_command(&command, &mut payload);
                        bytes += payload.len();
                        group.push(Pending::Command { outcome, done });
                    }
                    Message::Delete { request, done } => {
                        bytes += self.log_delete(request, done, &mut payload, &mut group);
                    }
                    Message::Fence { done } => {
                        self.settle(&mut group);
                        done();
                    }
                    Message::Cut { with_state, reply } => {
                        // Everything before the cut must be with the shards before they cut.
                        self.settle(&mut group);
                        let _ = reply.send(self.cut(with_state));
                    }
                    Message::Truncate { through } => {
                        self.truncate(through);
                        self.head_parts.frozen = 0;
                        self.show_unflushed();
                    }
                    Message::LetGo => self.truncate(LogPosition::default()),
                }
                if bytes < MAX_GROUP_BYTES {
                    next = messages.try_recv().ok();
                }
            }
            self.settle(&mut group);
        }
        self.settle(&mut group);
    }

    fn truncate(&mut self, through: LogPosition) {
        if let Err(error) = self.log.delete_before(through, self.following.keep()) {
            tracing::warn!(%error, "old log files could not be removed yet");
        }
    }

    /// Appends a batch to the log; it is answered when the group is synced. Yields its size.
    fn log_batch(
        &mut self,
        batch: Box<ResolvedBatch>,
        input: Option<Box<ResolvedBatch>>,
        mark: Option<Box<Mark>>,
        done: OnStored,
        payload: &mut Vec<u8>,
        group: &mut Vec<Pending>,
    ) -> usize {
        match mark.as_ref().map(|mark| self.catalog.lock().standing(mark)) {
            None | Some(Standing::Next) => {}
            // What made it known may still have to be synced: it is answered with the group.
            Some(Standing::Known) => {
                group.push(Pending::Known { done });
                return 0;
            }
            Some(Standing::Gap { through }) => {
                done(Err(CommitError::Gap { through }));
                return 0;
            }
        }
        payload.clear();
        let mark = mark.map(|mark| Command::Mark(*mark));
        let kind = match (&input, &mark) {
            (Some(input), mark) => {
                let mut part = Vec::new();
                self.input_encoder.encode(input, &self.input_registry, &mut part);
                aggregation::frame::put(mark.as_ref(), &part, payload);
                FrameKind::Aggregated
            }
            (None, Some(mark)) => {
                agent_frame::put_mark(mark, payload);
                FrameKind::AgentMetrics
            }
            (None, None) => FrameKind::Metrics,
        };
        if !batch.is_empty() {
            self.encoder.encode(&batch, &self.registry, payload);
        }
        match self.log.append(kind, &[payload]) {
            Ok(_) => {
                // The log first, as with every command.
                if let Some(mark) = mark {
                    self.catalog.lock().apply(&mark).expect("checked when the batch came");
                }
                self.head_parts.has_rows |= batch.rows() > 0;
                group.push(Pending::Write { batch, done });
                payload.len()
            }
            Err(error) => {
                // What this payload defined is not in the file.
                self.encoder.begin_file();
                self.input_encoder.begin_file();
                done(Err(self.refusal(error)));
                0
            }
        }
    }

    /// Appends lines to the log; they are answered when the group is synced. Yields their size.
    fn log_lines(
        &mut self,
        lines: NewLines,
        done: OnLines,
        payload: &mut Vec<u8>,
        group: &mut Vec<Pending>,
    ) -> usize {
        let NewLines { tenant, batch, payload: encoded, push, mark, at_ms, .. } = lines;
        match mark.as_ref().map(|mark| self.catalog.lock().standing(mark)) {
            None | Some(Standing::Next) => {}
            Some(Standing::Known) => {
                group.push(Pending::KnownLines { done });
                return 0;
            }
            Some(Standing::Gap { through }) => {
                done(Err(CommitError::Gap { through }));
                return 0;
            }
        }
        let push = push.map(|id| Push { id, at_ms });
        if push.is_some_and(|push| self.visible.lines.is_known(&push)) {
            // What made it known may still have to be synced: it is answered with the group.
            group.push(Pending::KnownLines { done });
            return 0;
        }
        payload.clear();
        let mark = mark.map(|mark| Command::Mark(*mark));
        let kind = match &mark {
            Some(mark) => {
                agent_frame::put_mark(mark, payload);
                FrameKind::AgentLogs
            }
            None => {
                logs::put_pushes(push.as_slice().iter().copied(), payload);
                FrameKind::Logs
            }
        };
        match self.log.append(kind, &[payload, &encoded]) {
            Ok(_) => {
                // The log first, as with every command.
                if let Some(mark) = mark {
                    self.catalog.lock().apply(&mark).expect("checked when the batch came");
                }
                // What comes behind it is answered behind it.
                self.visible.lines.note(push);
                group.push(Pending::Lines { tenant, batch, done });
                payload.len() + encoded.len()
            }
            Err(error) => {
                done(Err(self.refusal(error)));
                0
            }
        }
    }

    /// Keeps what is known of pushes in the log, whose frames before are about to go.
    fn log_pushes(&mut self) {
        let mut payload = Vec::new();
        {
            let pushes = self.visible.lines.pushes.lock();
            if pushes.iter().len() == 0 {
                return;
            }
            logs::put_pushes(pushes.iter(), &mut payload);
        }
        if let Err(error) = self.log.append(FrameKind::Logs, &[&payload]) {
            // Stops where nothing can be promised any more.
            let error = self.refusal(error);
            tracing::warn!(%error, "pushes that come again after a restart may be stored again");
        }
    }

    /// Appends a delete to the log, unless it is refused; it takes effect when the group is synced.
    /// Yields its size.
    fn log_delete(
        &mut self,
        request: DeleteRequest,
        done: OnApplied,
        payload: &mut Vec<u8>,
        group: &mut Vec<Pending>,
    ) -> usize {
        let parts = &self.head_parts;
        let is_of_samples = request.signal == Signal::Metrics;
        if is_of_samples && parts.has_rows && parts.open + parts.frozen >= MAX_HEAD_PARTS {
            done(Err(CommitError::HeadInParts { limit: MAX_HEAD_PARTS }));
            return 0;
        }
        let checked = {
            let catalog = self.catalog.lock();
            let tombstone = request.numbered(catalog.last_delete().saturating_add(1));
            // Before it is logged: a start takes every delete in the log for one that was applied.
            catalog.check_delete(&tombstone).map(|()| tombstone)
        };
        let tombstone = match checked {
            Ok(tombstone) => tombstone,
            Err(error) => {
                done(Err(error.into()));
                return 0;
            }
        };
        let command = Command::DeleteRows(tombstone.clone());
        match self.log_command(&command, payload) {
            Ok(_) => {
                let delete = Hiding::new(Arc::new(tombstone));
                let delete = delete.expect("its matchers were compiled before");
                if is_of_samples && std::mem::take(&mut self.head_parts.has_rows) {
                    self.head_parts.open += 1;
                }
                group.push(Pending::Delete { delete, done });
                payload.len()
            }
            Err(error) => {
                done(Err(error));
                0
            }
        }
    }

    fn log_command(
        &mut self,
        command: &Command,
        payload: &mut Vec<u8>,
    ) -> Result<Outcome, CommitError> {
        payload.clear();
        command.encode(payload);
        // The log first: a command that does not reach it must not change the catalog. One that
        // the catalog refuses is refused again, and changes nothing, when it is replayed.
        let mut logged = self.log.append(FrameKind::CatalogCommand, &[payload]);
        let is_full = matches!(logged, Err(LogError::Disk(BlobError::Full { .. })));
        if is_full && makes_room(command) && self.release_ballast() {
            // Nobody else can take the space: this thread alone writes the log.
            logged = self.log.append(FrameKind::CatalogCommand, &[payload]);
        }
        match logged {
            Ok(_) => Ok(self.catalog.lock().apply(command)?),
            Err(error) => Err(self.refusal(error)),
        }
    }

    /// Gives the disk what is in reserve; whether there was anything.
    fn release_ballast(&self) -> bool {
        match self.ballast.lock().release() {
            Ok(released) => released,
            Err(error @ BlobError::SyncFailed { .. }) => stop(&error),
            Err(error) => {
                tracing::warn!(%error, "the space in reserve cannot be released");
                false
            }
        }
    }

    /// Makes the group durable, then visible, then acknowledges it.
    fn settle(&mut self, group: &mut Vec<Pending>) {
        if group.is_empty() {
            return;
        }
        let started = Instant::now();
        if let Err(error) = self.log.sync() {
            stop(&error);
        }
        let nanos = u64::try_from(started.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let counters = &self.visible.counters;
        counters.sync_nanos.fetch_add(nanos, Ordering::Relaxed);
        counters.groups.fetch_add(1, Ordering::Relaxed);
        let is_followed = self.following.publish(self.log.end());
        self.show_unflushed();
        for pending in group.drain(..) {
            match pending {
                Pending::Write { batch, done } => {
                    if is_followed {
                        self.following.count(&batch);
                    }
                    self.visible.show(batch, done);
                }
                Pending::Known { done } => self.visible.known(done),
                Pending::Lines { tenant, batch, done } => {
                    self.visible.show_lines(tenant, batch, done);
                }
                Pending::KnownLines { done } => self.visible.known_lines(done),
                Pending::Marks { agent, incarnation, done } => {
                    let marks = self.catalog.lock().marks_of(&agent, incarnation);
                    done(Ok(marks));
                }
                Pending::Command { outcome, done } => done(outcome),
                Pending::Delete { delete, done } => {
                    self.visible.hide(delete);
                    done(Ok(Outcome::Done));
                }
            }
        }
    }

    /// Says how much of the log is in no block; a flush is due when it is too much.
    pub(crate) fn show_unflushed(&self) {
        let bytes = self.log.bytes_since_flush();
        self.visible.counters.unflushed_bytes.store(bytes, Ordering::Relaxed);
    }

    fn cut(&mut self, with_state: bool) -> Result<Cut, CommitError> {
        let mut snapshot = Vec::new();
        let (deletes_through, state) = {
            let catalog = self.catalog.lock();
            catalog.encode(&mut snapshot);
            (catalog.last_delete(), with_state.then(|| catalog.clone()))
        };
        if let Err(error) = self.log.rotate(&snapshot) {
            return Err(self.refusal(error));
        }
        self.encoder.begin_file();
        self.input_encoder.begin_file();
        self.following.publish(self.log.end());
        let parts = std::mem::take(&mut self.head_parts);
        self.head_parts.frozen = parts.frozen + parts.open;
        let (through, parts) = (self.log.end(), self.visible.shards.start_cut());
        let lines = self.visible.lines.heads.start_cut();
        self.log_pushes();
        let exemplars = self.visible.exemplars.unsaved();
        Ok(Cut { through, parts, lines, deletes_through, exemplars, state })
    }

    /// What a fault of the log means to the sender; stops the process where nothing can be
    /// promised any more.
    fn refusal(&self, error: LogError) -> CommitError {
        match error {
            LogError::Disk(BlobError::Full { .. }) => {
                self.visible.counters.full.fetch_add(1, Ordering::Relaxed);
                CommitError::Full
            }
            LogError::TooLarge { .. } => CommitError::TooLarge(error.to_string()),
            error => stop(&error),
        }
    }
}

/// Whether files can be removed once the command is durable.
fn makes_room(command: &Command) -> bool {
    match command {
        Command::Flush { .. }
        | Command::Swap { .. }
        | Command::Expire { .. }
        | Command::Quarantine { .. }
        | Command::Delete { .. }
        | Command::ExpireMarks { .. }
        | Command::SettleDeletes { .. }
        | Command::FlushLog { .. }
        | Command::FlushUnread { .. }
        | Command::ForgetUnread { .. } => true,
        Command::Under { command, .. } => makes_room(command),
        Command::CreateStore { .. }
        | Command::ReserveIds { .. }
        | Command::Put { .. }
        | Command::DeleteRows(_)
        | Command::Mark(_)
        | Command::SetBroker { .. }
        | Command::RemoveBroker { .. }
        | Command::BeginLog { .. }
        | Command::AddBlocks { .. }
        | Command::AddSegment(_)
        | Command::TakeLease { .. }
        | Command::GiveLease { .. }
        | Command::RetireBlocks { .. }
        | Command::Restore { .. } => false,
    }
}

/// Ends the process: after a failed write or sync of the log no further promise can be kept, and
/// a restart finds out by reading what is on the disk.
pub(crate) fn stop(error: &dyn std::error::Error) -> ! {
    tracing::error!(
        %error,
        "the log cannot be made durable: stopping; check the disk and the kernel's log, then \
         start again, nothing acknowledged is lost"
    );
    #[expect(clippy::print_stderr, reason = "the last words must be seen whatever the log level")]
    {
        eprintln!(
            "watchfire: the log cannot be made durable ({error}); stopping. Check the disk and \
             the kernel's log, then start again: nothing acknowledged is lost."
        );
    }
    std::process::exit(74)
}
