//! From the bytes on the disk to a running broker.

use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result};
use blockstore::{
    Ballast, Blobs, BlockSet, Counters, DamagedBlock, Disk, DiskBlobs, Frame, FrameKind, LogReader,
    LogWriter, Orphans,
};
use bytes::Bytes;
use catalog::{Command, LogPosition, Mark, Signal, State, StoreId, Tombstone};
use logstore::{LogFormat, decode_payload};
use metricstore::{
    Delete, LogDecoder, LogEncoder, MetricFormat, PageCache, Registry, ResolvedBatch,
};
use parking_lot::Mutex;

use crate::committer::{Committer, HeadParts};
use crate::deletes::DeleteBook;
use crate::exemplars::ExemplarBook;
use crate::following::Following;
use crate::logs::{self, Lines, LogHeads};
use crate::shards::Shards;
use crate::visible::{CommitCounters, Visible};
use crate::{BrokerConfig, agent_frame, aggregation, sender, snapshots};

/// What a start found, for the log and the metrics.
#[derive(Debug, Clone, Default)]
pub struct Recovered {
    /// Samples replayed from the log.
    pub samples: u64,
    /// Lines replayed from the log.
    pub lines: u64,
    /// Series they belong to.
    pub series: usize,
    /// Exemplars there are.
    pub exemplars: usize,
    /// Blocks opened.
    pub blocks: usize,
    /// Ranges of the log that were damaged.
    pub damaged_ranges: u64,
    /// Frames whose payload could not be used.
    pub unusable_frames: u64,
    /// Blocks moved to quarantine.
    pub damaged_blocks: u64,
    /// Files of exemplars moved to quarantine.
    pub damaged_exemplars: u64,
    /// How long it took.
    pub seconds: f64,
}

/// The parts a broker is made of.
pub(crate) struct Parts {
    pub(crate) committer: Committer,
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) blobs: Arc<dyn Blobs>,
    pub(crate) blocks: BlockSet<MetricFormat>,
    pub(crate) log_blocks: BlockSet<LogFormat>,
    /// What queries read of them lately.
    pub(crate) pages: Arc<PageCache>,
    /// Blocks to be taken out of the manifest.
    pub(crate) damaged: Vec<DamagedBlock>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) recovered: Recovered,
    /// Of series that are aggregated.
    pub(crate) input_registry: Arc<Registry>,
    /// Open windows, if anything is aggregated.
    pub(crate) windows: Option<aggregation::Opened>,
}

/// Opens the store on `disk`.
///
/// # Errors
/// The disk cannot be used, or a newer program wrote what is on it.
pub(crate) fn open(disk: Arc<dyn Disk>, config: &BrokerConfig) -> Result<Parts> {
    let started = Instant::now();
    let ballast = Ballast::open(Arc::clone(&disk)).context("look for the space in reserve")?;
    snapshots::remove_unfinished(&*disk).context("remove an unfinished snapshot")?;
    let counters = Arc::new(Counters::default());
    let mut reader =
        LogReader::open(Arc::clone(&disk), Arc::clone(&counters)).context("open the log")?;
    let (mut state, known_before) = replay_catalog(&mut reader)?;
    let store = identity(&mut state, &reader, config)?;
    let registry = Arc::new(Registry::new(config.hash_seed()));
    let shards = Arc::new(Shards::start(config.shards)?);
    let exemplars = ExemplarBook::open(
        &*disk,
        state.flushed_through(),
        reader.report().catalog_intact,
        config.max_exemplars,
        config.hash_seed(),
    )?;
    let heads = LogHeads::start(config.hash_seed())?;
    let lines = Lines::new(heads, &state, config.hash_seed(), config.log_index_bytes())?;
    let mut recovered = Recovered::default();
    let mut places = DeletePlaces {
        known_before,
        through: state.flushed_deletes(),
        expected: state.flushed_through(),
    };
    let head_parts = replay_data(
        &mut reader,
        &mut state,
        &mut places,
        &registry,
        &shards,
        &exemplars,
        &lines,
        config,
        &mut recovered,
    )?;
    recovered.exemplars = exemplars.totals().0;
    recovered.damaged_exemplars = exemplars.was_damaged.into();
    let orphans =
        if reader.report().catalog_intact { Orphans::Delete } else { Orphans::Quarantine };
    for damage in &reader.report().damage {
        tracing::error!(
            file = %damage.file,
            offset = damage.offset,
            bytes = damage.size_bytes,
            cause = damage.cause,
            saved_as = damage.saved_as.as_deref().unwrap_or("nothing"),
            "part of the log is damaged and was skipped; restore it from a backup if you have one"
        );
    }
    recovered.damaged_ranges = reader.report().damage.len() as u64;
    let mut snapshot = Vec::new();
    state.encode(&mut snapshot);
    let log =
        LogWriter::open(reader, Arc::clone(&counters), store, state.flushed_through(), snapshot)
            .context("begin a log file")?;
    let blobs: Arc<dyn Blobs> =
        Arc::new(DiskBlobs::open(Arc::clone(&disk)).context("open the blocks")?);
    let metas: Vec<_> = state.blocks().copied().collect();
    let pages = PageCache::new(config.page_cache_bytes());
    let (blocks, mut damaged) = BlockSet::open(
        Arc::clone(&blobs),
        config.format().with_cache(Arc::clone(&pages)),
        Signal::Metrics,
        metas.iter().copied(),
        orphans,
        Arc::clone(&counters),
    )
    .context("open the blocks")?;
    let (log_blocks, damaged_logs) = BlockSet::open(
        Arc::clone(&blobs),
        lines.format.clone(),
        Signal::Logs,
        metas,
        orphans,
        Arc::clone(&counters),
    )
    .context("open the blocks of logs")?;
    damaged.extend(damaged_logs);
    for block in &damaged {
        tracing::error!(
            block = %block.meta.id,
            error = %block.error,
            "a block is damaged and was moved to quarantine; answers in its range are partial"
        );
    }
    recovered.blocks = blocks.snapshot().len() + log_blocks.snapshot().len();
    recovered.damaged_blocks = damaged.len() as u64;
    recovered.seconds = started.elapsed().as_secs_f64();
    let deletes = Arc::new(DeleteBook::load(&state)?);
    let following = Arc::new(Following::default());
    following.publish(log.end());
    sender::hold_what_is_unsent(&state, &following);
    let now_ms = (config.now_ms)();
    let windows = match config.has_upkeep {
        true => aggregation::Opened::open(&disk, &config.aggregation, log.end(), now_ms)?,
        false => {
            // Open windows may have been read to anywhere in it.
            following.hold(aggregation::READER, LogPosition::default());
            None
        }
    };
    if let Some(windows) = &windows {
        following.hold(aggregation::READER, windows.through());
    }
    let input_registry = Arc::new(Registry::new(config.hash_seed()));
    let committer = Committer {
        log,
        encoder: LogEncoder::new(),
        input_encoder: LogEncoder::new(),
        input_registry: Arc::clone(&input_registry),
        catalog: Arc::new(Mutex::new(state)),
        registry,
        ballast: Arc::new(Mutex::new(ballast)),
        visible: Visible {
            shards,
            exemplars: Arc::new(exemplars),
            deletes,
            counters: Arc::new(CommitCounters::default()),
            lines,
        },
        head_parts,
        following,
    };
    committer.show_unflushed();
    Ok(Parts {
        committer,
        disk,
        blobs,
        blocks,
        log_blocks,
        pages,
        damaged,
        counters,
        recovered,
        input_registry,
        windows,
    })
}

/// The state, and the last delete that the newest snapshot knows of.
pub(crate) fn replay_catalog(reader: &mut LogReader) -> Result<(State, u64)> {
    let mut state = State::default();
    let mut known_before = 0;
    let mut newer = None;
    reader
        .replay_catalog(&mut |frame| {
            let result = match frame.kind {
                FrameKind::CatalogSnapshot => State::decode(&frame.payload).map(|snapshot| {
                    known_before = snapshot.last_delete();
                    state = snapshot;
                }),
                // A command that the catalog refused when it was logged is refused again.
                FrameKind::CatalogCommand => Command::decode(&frame.payload).map(|command| {
                    if let Err(error) = state.apply(&command) {
                        tracing::debug!(%error, "a logged command is refused, as it was before");
                    }
                }),
                // Their marks are applied with their samples.
                FrameKind::Metrics
                | FrameKind::AgentMetrics
                | FrameKind::Aggregated
                | FrameKind::AggregationEnd
                | FrameKind::Logs
                | FrameKind::AgentLogs => Ok(()),
            };
            if let Err(error) = result {
                newer.get_or_insert(error);
            }
        })
        .context("replay the catalog")?;
    match newer {
        // The frame's checksum was right, so this is no damage: a newer program wrote it.
        Some(error) => Err(error).context("read the catalog"),
        None => Ok((state, known_before)),
    }
}

fn identity(state: &mut State, reader: &LogReader, config: &BrokerConfig) -> Result<StoreId> {
    if let Some(store) = state.store() {
        return Ok(store);
    }
    let store = reader.store().unwrap_or_else(|| config.store_id());
    state.apply(&Command::CreateStore { store }).context("create the store")?;
    Ok(store)
}

#[expect(clippy::too_many_arguments, reason = "called once, by the start")]
fn replay_data(
    reader: &mut LogReader,
    state: &mut State,
    places: &mut DeletePlaces,
    registry: &Registry,
    shards: &Shards,
    exemplars: &ExemplarBook,
    lines: &Lines,
    config: &BrokerConfig,
    recovered: &mut Recovered,
) -> Result<HeadParts> {
    let mut head_parts = HeadParts::default();
    shards.begin_after_delete(state.flushed_deletes());
    lines.heads.begin_after_delete(None, state.flushed_deletes());
    let mut decoder = LogDecoder::new();
    let mut file = 0;
    let now_ms = (config.now_ms)();
    reader
        .replay(state.flushed_through(), &mut |frame| {
            if frame.position.file != file {
                file = frame.position.file;
                decoder = LogDecoder::new();
            }
            let before = places.through;
            if let Some(number) = places.passed(&frame, state) {
                // As the committer did.
                shards.begin_after_delete(number);
                lines.heads.begin_after_delete(None, number);
                forget_deleted(exemplars, state, before, number);
                head_parts.open += u64::from(std::mem::take(&mut head_parts.has_rows));
            }
            if matches!(frame.kind, FrameKind::Logs | FrameKind::AgentLogs) {
                match replay_lines(&frame, lines, recovered) {
                    Ok(None) => {}
                    Ok(Some(mark)) => move_mark(&frame, mark, state),
                    // As below.
                    Err(reason) => unusable(&frame, &reason, recovered),
                }
                return;
            }
            let (mark, samples) = match parts_of(&frame) {
                Ok(Some(parts)) => parts,
                Ok(None) => return,
                Err(reason) => return unusable(&frame, &reason, recovered),
            };
            if !samples.is_empty() {
                let mut batch = ResolvedBatch::default();
                let decoded =
                    decoder.decode(&samples, registry, shards.count(), now_ms, &mut batch);
                if let Err(error) = decoded {
                    // Its mark stays where it is: if the batch was never acknowledged it comes
                    // again.
                    return unusable(&frame, &error.to_string(), recovered);
                }
                recovered.samples += batch.rows() as u64;
                head_parts.has_rows |= batch.rows() > 0;
                exemplars.keep(&mut batch);
                shards.append(batch.shards, Box::new(|_| {}));
            }
            if let Some(mark) = mark {
                move_mark(&frame, mark, state);
            }
        })
        .context("replay the log")?;
    // The last answers of the shards: everything is searchable when the start is over.
    shards.settle();
    lines.heads.settle();
    recovered.series = registry.all_series();
    Ok(head_parts)
}

fn move_mark(frame: &Frame, mark: Mark, state: &mut State) {
    if let Err(error) = state.apply(&Command::Mark(mark)) {
        tracing::error!(position = %frame.position, %error, "a mark in the log is unusable");
    }
}

/// Adds the lines of a frame to the heads, and its pushes to those that are known: not before it is seen that
/// the lines can be read. Yields the mark of the agent whose batch it is.
fn replay_lines(
    frame: &Frame,
    lines: &Lines,
    recovered: &mut Recovered,
) -> Result<Option<Mark>, String> {
    let (mark, stored, payload) = match frame.kind {
        FrameKind::AgentLogs => {
            let (mark, payload) = agent_frame::split(&frame.payload)?;
            (Some(mark), Vec::new(), payload)
        }
        _ => {
            let (stored, payload) = logs::split(&frame.payload)?;
            (None, stored, payload)
        }
    };
    if !payload.is_empty() {
        let (tenant, batch) = decode_payload(&payload).map_err(|error| error.to_string())?;
        recovered.lines += batch.lines();
        lines.heads.append(tenant, Box::new(batch), Box::new(|| {}));
    }
    stored.into_iter().for_each(|push| lines.note(Some(push)));
    Ok(mark)
}

/// Forgets exemplars that deletes hide, from one number to another.
fn forget_deleted(exemplars: &ExemplarBook, state: &State, after: u64, through: u64) {
    let is_passed = |one: &&Arc<Tombstone>| {
        one.signal == Signal::Metrics && one.number > after && one.number <= through
    };
    for tombstone in state.tombstones().filter(is_passed) {
        // One whose pattern this program cannot compile stops the start a little later.
        if let Ok(delete) = Delete::new(Arc::clone(tombstone)) {
            exemplars.forget_deleted(&delete);
        }
    }
}

/// Which deletes lie before what is replayed next, also where frames that held some are damaged.
struct DeletePlaces {
    /// The newest snapshot knows of the deletes up to this number: damage before it may have been
    /// some of them. Those in frames after it are known only if their frames are sound.
    known_before: u64,
    /// Those up to this number lie before.
    through: u64,
    /// Where the next frame begins if nothing is missing.
    expected: LogPosition,
}

impl DeletePlaces {
    /// Takes the next frame. Yields a number if samples from here on come after deletes up to it,
    /// and those before do not.
    fn passed(&mut self, frame: &Frame, state: &State) -> Option<u64> {
        let is_missing = frame.position != self.expected;
        self.expected = frame.end;
        let passed = match frame.kind {
            // It begins a file and knows all that was deleted before.
            FrameKind::CatalogSnapshot => {
                State::decode(&frame.payload).ok().map(|snapshot| snapshot.last_delete())
            }
            // Where it was among what is lost nobody knows: to show deleted rows is better than to
            // lose some that were stored after the delete.
            _ if is_missing => delete_in(frame, state).max(Some(self.known_before)),
            _ => delete_in(frame, state),
        };
        let passed = passed.filter(|number| *number > self.through)?;
        self.through = passed;
        Some(passed)
    }
}

/// The number of the delete in a frame behind the last flush. All that were applied are listed: none
/// is forgotten before a flush.
fn delete_in(frame: &Frame, state: &State) -> Option<u64> {
    if frame.kind != FrameKind::CatalogCommand {
        return None;
    }
    // One that cannot be read was told by the replay of the catalog.
    let Ok(Command::DeleteRows(tombstone)) = Command::decode(&frame.payload) else { return None };
    state.tombstones().any(|listed| **listed == tombstone).then_some(tombstone.number)
}

/// Mark and samples of a frame, the latter empty if there are none; `None` for frames without data.
fn parts_of(frame: &Frame) -> Result<Option<(Option<Mark>, Bytes)>, String> {
    match frame.kind {
        FrameKind::CatalogSnapshot
        | FrameKind::CatalogCommand
        | FrameKind::AggregationEnd
        | FrameKind::Logs
        | FrameKind::AgentLogs => Ok(None),
        FrameKind::Metrics => Ok(Some((None, frame.payload.clone()))),
        FrameKind::AgentMetrics => {
            let (mark, samples) = agent_frame::split(&frame.payload)?;
            Ok(Some((Some(mark), samples)))
        }
        // What is aggregated is read by who aggregates.
        FrameKind::Aggregated => {
            let parts = aggregation::frame::split(&frame.payload)?;
            Ok(Some((parts.mark, parts.samples)))
        }
    }
}

fn unusable(frame: &Frame, reason: &str, recovered: &mut Recovered) {
    recovered.unusable_frames += 1;
    tracing::error!(position = %frame.position, reason, "a log frame is unusable");
}
