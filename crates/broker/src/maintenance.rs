//! The thread that turns the head into blocks, merges blocks and forgets old ones.
//!
//! A flush: the committer starts a new log file and the shards freeze what they hold (a *cut*);
//! the frozen rows are written as blocks; the catalog is told; the blocks are published; the
//! frozen rows are dropped; the old log files are removed. A crash anywhere leaves either the log
//! or the blocks in charge, never both and never none.

mod damage;
mod logs;
mod memory;
mod on_request;
mod planning;
mod retention;
mod wake;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use blockstore::{
    Ballast, BlobError, Blobs, BlockError, BlockSet, Disk, LogError, MergeError, MergeJob,
    MergePolicy, OpenBlock,
};
use catalog::{BlockId, BlockMeta, Command, NewBlock, Outcome, Signal, State};
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use governor::Governor;
use logstore::LogFormat;
use metricstore::{CutData, FlushPlan, MetricBlock, MetricFormat, PlannedBlock, Registry};
use parking_lot::{Mutex, RwLock};

use crate::commit::{CommitError, Cut, Message};
use crate::committer::stop;
use crate::deletes::DeleteBook;
use crate::exemplars::ExemplarBook;
use crate::fleet::Fleet;
use crate::in_effect::InEffect;
use crate::live::LiveHub;
use crate::logs::Lines;
use crate::shards::{Shards, receive};
use crate::visible::{CommitCounters, Visible};
use crate::{BrokerConfig, command};

use logs::WrittenLines;

pub(crate) use damage::{Damaged, DamagedBlocks, Unfinished, is_damage, words_of_quarantined};
pub(crate) use memory::{flush_head_bytes, idle_ms, lines_want_flush};
pub(crate) use planning::{DAY_MS, Due, MergeTerms, Planner, Unreadable};
pub(crate) use wake::{Wake, WakeQueue};

/// How often the thread looks whether something is due, unless flushes are due more often.
const TICK: Duration = Duration::from_secs(1);
/// After a failure nothing is tried again for this long.
const RETRY: Duration = Duration::from_secs(10);
/// How often, by the clock that dates samples, old blocks and idle series are looked for.
const SWEEP_MS: u64 = 60_000;

/// Counters of this thread.
#[derive(Debug, Default)]
pub(crate) struct MaintenanceCounters {
    pub(crate) flushes: AtomicU64,
    pub(crate) flush_failures: AtomicU64,
    pub(crate) flushed_samples: AtomicU64,
    pub(crate) flush_micros: AtomicU64,
    pub(crate) conflicts: AtomicU64,
    pub(crate) merges: AtomicU64,
    pub(crate) merge_failures: AtomicU64,
    pub(crate) merge_micros: AtomicU64,
    pub(crate) expired_blocks: AtomicU64,
    pub(crate) rewritten_blocks: AtomicU64,
    pub(crate) thinned_blocks: AtomicU64,
    pub(crate) downsampled_blocks: AtomicU64,
    pub(crate) released_series: AtomicU64,
    pub(crate) quarantined_blocks: AtomicU64,
    pub(crate) cleaned_blocks: AtomicU64,
    pub(crate) snapshots: AtomicU64,
}

/// The thread's state.
pub(crate) struct Maintenance {
    now_ms: fn() -> i64,
    governor: Arc<Governor>,
    idle_series_ms: i64,
    has_upkeep: bool,
    flush_interval: Duration,
    flush_bytes: u64,
    planner: Planner,
    committer: Sender<Message>,
    disk: Arc<dyn Disk>,
    blobs: Arc<dyn Blobs>,
    deletes: Arc<DeleteBook>,
    exemplars: Arc<ExemplarBook>,
    format: MetricFormat,
    blocks: Arc<BlockSet<MetricFormat>>,
    lines: Lines,
    log_blocks: Arc<BlockSet<LogFormat>>,
    catalog: Arc<Mutex<State>>,
    registry: Arc<Registry>,
    shards: Arc<Shards>,
    ballast: Arc<Mutex<Ballast>>,
    live: Arc<LiveHub>,
    fleet: Arc<Fleet>,
    resolving: Arc<RwLock<()>>,
    commits: Arc<CommitCounters>,
    counters: Arc<MaintenanceCounters>,
    /// Frozen rows of flushes that failed: they go with the next.
    pending: Vec<CutData>,
    /// When the head was last written into blocks.
    flushed: Instant,
    /// After a failure nothing is tried again before.
    not_before: Instant,
    /// What was asked for while something else was looked for.
    put_off: VecDeque<Wake>,
    damaged: Arc<DamagedBlocks>,
}

/// Why something could not be done now. It is tried again.
#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error(transparent)]
    Commit(#[from] CommitError),
    #[error(transparent)]
    Block(#[from] BlockError),
    #[error(transparent)]
    Merge(#[from] MergeError),
    #[error("write the snapshot: {0}")]
    Copy(#[from] LogError),
}

impl From<BlobError> for Fault {
    fn from(error: BlobError) -> Self {
        Fault::Block(error.into())
    }
}

impl Fault {
    /// Ends the process if a sync failed: nobody knows what is on the disk, and trying again would
    /// find nothing wrong.
    fn stop_if_final(&self) {
        if let Fault::Block(error) | Fault::Merge(MergeError { error, .. }) = self
            && let BlockError::Blob(fault @ BlobError::SyncFailed { .. }) = error
        {
            stop(fault);
        }
        if let Fault::Copy(LogError::Disk(fault @ BlobError::SyncFailed { .. })) = self {
            stop(fault);
        }
    }
}

impl Maintenance {
    #[expect(clippy::too_many_arguments, reason = "called once, by the broker's start")]
    pub(crate) fn new(
        config: &BrokerConfig,
        in_effect: Arc<InEffect>,
        committer: Sender<Message>,
        disk: Arc<dyn Disk>,
        blobs: Arc<dyn Blobs>,
        visible: Visible,
        blocks: Arc<BlockSet<MetricFormat>>,
        log_blocks: Arc<BlockSet<LogFormat>>,
        catalog: Arc<Mutex<State>>,
        registry: Arc<Registry>,
        ballast: Arc<Mutex<Ballast>>,
        live: Arc<LiveHub>,
        fleet: Arc<Fleet>,
        resolving: Arc<RwLock<()>>,
        counters: Arc<MaintenanceCounters>,
        damaged: Arc<DamagedBlocks>,
    ) -> Self {
        let Visible { shards, exemplars, deletes, counters: commits, lines } = visible;
        Maintenance {
            now_ms: config.now_ms,
            governor: Arc::clone(&config.governor),
            idle_series_ms: config.idle_series_ms,
            has_upkeep: config.has_upkeep,
            flush_interval: Duration::from_millis(
                u64::try_from(config.flush_interval_ms).unwrap_or(1_000),
            ),
            flush_bytes: config.flush_bytes,
            planner: Planner::new(config, in_effect, MergePolicy::default()),
            committer,
            disk,
            blobs,
            deletes,
            exemplars,
            format: config.format(),
            blocks,
            lines,
            log_blocks,
            catalog,
            registry,
            shards,
            ballast,
            live,
            fleet,
            resolving,
            commits,
            counters,
            pending: Vec::new(),
            flushed: Instant::now(),
            not_before: Instant::now(),
            put_off: VecDeque::new(),
            damaged,
        }
    }

    /// Works until told to stop.
    pub(crate) fn run(mut self, woken: &Receiver<Wake>) {
        let mut swept_ms: Option<i64> = None;
        let mut released_ms = 0;
        self.finish_damaged();
        loop {
            match self.next_wake(woken) {
                Ok(Wake::Stop) | Err(RecvTimeoutError::Disconnected) => return,
                Ok(Wake::Damaged(id)) => self.set_aside(id),
                Ok(Wake::Flush(reply)) => self.flush_for_all(vec![reply]),
                Ok(Wake::CleanDeleted(reply)) => self.clean_for_all(reply, woken),
                Ok(Wake::Snapshot { name, with_head, reply }) => {
                    on_request::answer(&[reply], self.snapshot(&name, with_head));
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
            if !self.has_upkeep {
                continue;
            }
            self.flush_if_due();
            if Instant::now() >= self.not_before
                && let Err(error) = self.merge_what_is_due(woken)
            {
                error.stop_if_final();
                self.counters.merge_failures.fetch_add(1, Ordering::Relaxed);
                tracing::warn!(%error, "merge failed and is tried again; nothing is lost");
                self.not_before = Instant::now() + RETRY;
            }
            let now_ms = (self.now_ms)();
            // Either way: a clock that was set back must not put this off for long.
            if swept_ms.is_none_or(|at| now_ms.abs_diff(at) >= SWEEP_MS) {
                swept_ms = Some(now_ms);
                self.finish_damaged();
                self.expire();
                self.forget_agents();
                released_ms = now_ms;
                self.release_idle_series(now_ms);
                self.refill_ballast();
            } else if self.memory_wants_release(now_ms, released_ms) {
                released_ms = now_ms;
                self.release_idle_series(now_ms);
            }
        }
    }

    /// Flushes if that is due.
    fn flush_if_due(&mut self) {
        if Instant::now() >= self.not_before && self.flush_is_due() {
            match self.try_flush() {
                true => self.flushed = Instant::now(),
                false => self.not_before = Instant::now() + RETRY,
            }
        }
    }

    /// Flushes; whether that went well. A fault is told and counted.
    fn try_flush(&mut self) -> bool {
        let Err(error) = self.flush(false) else { return true };
        error.stop_if_final();
        self.counters.flush_failures.fetch_add(1, Ordering::Relaxed);
        tracing::warn!(%error, "flush failed and is tried again; nothing is lost");
        false
    }

    fn flush_is_due(&self) -> bool {
        let has_waited = self.flushed.elapsed() >= self.flush_interval;
        let has_work = || {
            let rows = self.shards.totals().rows + self.lines.heads.totals().lines;
            rows > 0 || self.has_unflushed_deletes()
        };
        if (has_waited && has_work()) || self.flush_is_urgent() {
            return true;
        }
        self.memory_wants_flush()
    }

    fn flush_is_urgent(&self) -> bool {
        self.commits.unflushed_bytes.load(Ordering::Relaxed) >= self.flush_bytes
            || self.head_bytes() >= flush_head_bytes(&self.governor)
            || lines_want_flush(self.lines.heads.totals().bytes, || self.registry.all_series())
    }

    /// Memory of samples and lines in heads.
    fn head_bytes(&self) -> u64 {
        self.shards.totals().bytes + self.lines.heads.totals().bytes
    }

    /// Writes the head into blocks. If it is wanted, yields the catalog as it was at the cut with the
    /// new blocks: the store at one moment.
    fn flush(&mut self, with_state: bool) -> Result<Option<State>, Fault> {
        let started = Instant::now();
        let (reply, answer) = bounded(1);
        let ask = Message::Cut { with_state, reply };
        self.committer.send(ask).map_err(|_| CommitError::Stopping)?;
        let mut cut = answer.recv().map_err(|_| CommitError::Stopping)??;
        self.pending.extend(cut.parts.iter().flat_map(receive));
        let cuts = self.pending.clone();
        let samples: u64 = cuts.iter().map(CutData::rows).sum();
        let written = match samples {
            0 => Vec::new(),
            _ => self.write_blocks(cuts.clone(), cut.deletes_through)?,
        };
        let heads = receive(&cut.lines);
        let lines = match self.write_log_blocks(&heads, cut.deletes_through) {
            Ok(lines) => lines,
            Err(error) => {
                self.delete_blobs(&written.iter().map(|(new, _)| new.id).collect::<Vec<_>>());
                return Err(error);
            }
        };
        let mut state = cut.state.take();
        if let Some(state) = &mut state {
            let added = written.iter().map(|(new, _)| *new);
            let added = added.chain(lines.iter().map(|(new, _)| *new)).collect();
            state.apply(&flush_command(added, &cut)).map_err(CommitError::Catalog)?;
        }
        // Before the catalog says that nobody needs the log any more.
        self.exemplars.write(&*self.disk, &cut)?;
        self.publish(written, lines, &cut)?;
        self.exemplars.saved(&*self.disk, &cut);
        self.shards.drop_flushed(&cuts);
        self.lines.heads.drop_flushed(&heads);
        // What is in blocks now makes no other flush due.
        self.lines.heads.settle();
        self.pending.clear();
        self.forget_deletes();
        self.count(&self.counters.flushes, 1);
        self.count(&self.counters.flushed_samples, samples);
        self.count(&self.counters.flush_micros, micros_since(started));
        Ok(state)
    }

    /// Writes and opens the blocks of a flush; they are not in the manifest yet.
    fn write_blocks(
        &self,
        cuts: Vec<CutData>,
        deletes_through: u64,
    ) -> Result<Vec<(NewBlock, Arc<MetricBlock>)>, Fault> {
        let deletes = self.deletes.current().0.through(deletes_through);
        let plan = FlushPlan::new(cuts, &deletes, &self.registry);
        let mut ids = self.reserve(plan.blocks().len() as u64)?;
        let mut written = Vec::new();
        for planned in plan.blocks() {
            let id = BlockId(ids.next().expect("as many ids as blocks were reserved"));
            match self.write_block(&plan, planned, id) {
                Ok(block) => written.extend(block),
                Err(error) => {
                    let mut ids: Vec<BlockId> = written.iter().map(|(new, _)| new.id).collect();
                    ids.push(id);
                    self.delete_blobs(&ids);
                    return Err(error);
                }
            }
        }
        Ok(written)
    }

    /// Writes and opens one block; `None` if no row of it is left.
    fn write_block(
        &self,
        plan: &FlushPlan,
        planned: &PlannedBlock,
        id: BlockId,
    ) -> Result<Option<(NewBlock, Arc<MetricBlock>)>, Fault> {
        let mut out = self.blobs.create(&id.key(Signal::Metrics))?;
        let summary = plan.write(planned, &self.format, &self.registry, &mut *out)?;
        self.count(&self.counters.conflicts, summary.conflicts);
        if summary.rows == 0 {
            return Ok(None);
        }
        let size_bytes = out.position();
        out.finish()?;
        let new = NewBlock {
            id,
            tenant: planned.tenant(),
            signal: Signal::Metrics,
            range: summary.range,
            rows: summary.rows,
            series: summary.series,
            size_bytes,
            level: 0,
        };
        Ok(Some((new, self.blocks.open_block(id)?)))
    }

    fn publish(
        &self,
        written: Vec<(NewBlock, Arc<MetricBlock>)>,
        lines: Vec<WrittenLines>,
        cut: &Cut,
    ) -> Result<(), Fault> {
        let added = written.iter().map(|(new, _)| *new);
        let added: Vec<NewBlock> = added.chain(lines.iter().map(|(new, _)| *new)).collect();
        let outcome = self.command_or_discard(flush_command(added.clone(), cut), &added)?;
        let through = cut.through;
        let mut metas = added_metas(outcome);
        // In the order of the command.
        let of_lines = metas.split_off(written.len());
        let opened = metas
            .into_iter()
            .zip(written)
            .map(|(meta, (_, block))| OpenBlock { meta, block })
            .collect();
        self.blocks.add(opened);
        self.show_log_blocks(of_lines, lines);
        self.committer.send(Message::Truncate { through }).map_err(|_| CommitError::Stopping)?;
        Ok(())
    }

    fn reserve(&self, count: u64) -> Result<std::ops::Range<u64>, Fault> {
        match command(&self.committer, Command::ReserveIds { count })? {
            Outcome::Reserved(ids) => Ok(ids),
            other => unreachable!("the catalog answers a reservation with ids, not {other:?}"),
        }
    }

    /// Applies a command that adds blocks. If it is refused their files are deleted: a disk that is
    /// full would get fuller with every attempt.
    fn command_or_discard(
        &self,
        adding: Command,
        added: &[NewBlock],
    ) -> Result<Outcome, CommitError> {
        let outcome = command(&self.committer, adding);
        // While stopping nobody knows whether the command is in the log; the next start does.
        if outcome.as_ref().is_err_and(|error| *error != CommitError::Stopping) {
            let (samples, lines): (Vec<&NewBlock>, Vec<&NewBlock>) =
                added.iter().partition(|new| new.signal == Signal::Metrics);
            self.delete_blobs(&samples.iter().map(|new| new.id).collect::<Vec<_>>());
            self.delete_log_blobs(&lines.iter().map(|new| new.id).collect::<Vec<_>>());
        }
        outcome
    }

    /// Merges until nothing is due or something else is to be done.
    fn merge_what_is_due(&mut self, woken: &Receiver<Wake>) -> Result<(), Fault> {
        let flushed = self.flushed;
        while woken.is_empty() && self.put_off.is_empty() && !self.flush_is_urgent() {
            // What was flushed meanwhile may make merges due without end: others have their turn first.
            if self.flushed != flushed {
                return Ok(());
            }
            let snapshot = self.blocks.snapshot();
            self.planner.retain(&snapshot);
            let due = match self.planner.next(&snapshot) {
                Ok(Some(due)) => due,
                Ok(None) => return self.merge_lines_that_are_due(woken),
                Err(Unreadable { block, error }) if is_damage(&error) => {
                    self.set_aside(block);
                    continue;
                }
                Err(Unreadable { error, .. }) => return Err(error.into()),
            };
            let started = Instant::now();
            self.merge(due.job(), woken)?;
            due.count(&self.counters);
            self.count(&self.counters.merge_micros, micros_since(started));
        }
        Ok(())
    }

    fn merge(&mut self, job: &MergeJob, woken: &Receiver<Wake>) -> Result<(), Fault> {
        let id = BlockId(self.reserve(1)?.start);
        let terms = self.planner.terms(job, &self.deletes);
        let deletes_through = terms.deletes_through;
        let blocks = Arc::clone(&self.blocks);
        let meanwhile = &mut || self.meanwhile(woken);
        let hidden = |meta: &BlockMeta| terms.hidden(meta);
        let merged = match blocks.merge(&terms.format, job, id, terms.keep, &hidden, meanwhile) {
            Ok(merged) => merged,
            Err(MergeError { input: Some(index), error }) if is_damage(&error) => {
                tracing::error!(block = %job.inputs[index], %error, "a block is damaged");
                self.set_aside(job.inputs[index]);
                return Ok(());
            }
            Err(error) => {
                self.delete_blobs(&[id]);
                return Err(error.into());
            }
        };
        let added: Vec<NewBlock> = merged.added.iter().map(|(new, _)| *new).collect();
        if !self.planner.rules_hold(&terms) {
            drop(merged);
            self.delete_blobs(&added.iter().map(|new| new.id).collect::<Vec<_>>());
            return self.merge(job, woken);
        }
        self.count(&self.counters.conflicts, merged.conflicts);
        let removed = job.inputs.clone();
        let mut blocks = merged.added.iter().map(|(_, block)| block);
        let may_differ = blocks.clone().any(|block| block.rollup_ms() > 0 || block.lacks_floats());
        let windows_ms = blocks.find(|block| block.lacks_floats()).map(|block| block.rollup_ms());
        let swap =
            Command::Swap { removed: removed.clone(), added: added.clone(), deletes_through };
        let outcome = self.command_or_discard(swap, &added)?;
        for new in &added {
            self.planner.wrote(new.id, &terms);
        }
        let opened = added_metas(outcome)
            .into_iter()
            .zip(merged.added)
            .map(|(meta, (_, block))| OpenBlock { meta, block })
            .collect();
        if let Some(window_ms) = windows_ms {
            self.shards.changes().note_windows(window_ms);
        }
        self.blocks.swap(&removed, opened);
        if may_differ || !self.planner.rules_are_same(&terms) {
            // Answers may come from rollups instead of samples, and samples may be gone; or the rules
            // changed a moment ago, and what those of before took showed again until now.
            self.shards.changes().note_range(job.range);
        }
        self.delete_blobs(&removed);
        self.forget_deletes();
        Ok(())
    }

    /// Waits until every batch in the committer's queue is with the shards; whether it is.
    fn fence(&self) -> bool {
        let (reply, answer) = bounded(1);
        let done = Box::new(move || _ = reply.send(()));
        self.committer.send(Message::Fence { done }).is_ok() && answer.recv().is_ok()
    }

    /// Keeps some space in reserve for commands that make room.
    fn refill_ballast(&self) {
        match self.ballast.lock().refill() {
            Ok(()) => {}
            Err(error @ BlobError::SyncFailed { .. }) => stop(&error),
            Err(error) => tracing::warn!(%error, "no space is held in reserve"),
        }
    }

    fn delete_blobs(&self, ids: &[BlockId]) {
        if let Err(error) = self.blocks.delete_blobs(ids) {
            tracing::warn!(%error, "files of removed blocks stay until the next start");
        }
    }

    fn count(&self, counter: &AtomicU64, by: u64) {
        counter.fetch_add(by, Ordering::Relaxed);
    }
}

fn flush_command(added: Vec<NewBlock>, cut: &Cut) -> Command {
    let (flushed_through, deletes_through) = (cut.through, cut.deletes_through);
    Command::Flush { added, flushed_through, deletes_through }
}

fn added_metas(outcome: Outcome) -> Vec<BlockMeta> {
    match outcome {
        Outcome::Added(metas) => metas,
        other => unreachable!("the catalog answers added blocks with their places, not {other:?}"),
    }
}

fn micros_since(started: Instant) -> u64 {
    u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX)
}
