//! Heads of a broker that does not answer, made of what it acknowledged and did not flush: its segments
//! in the store, as the catalog lists them.
//!
//! They are made when a query first needs them, follow the catalog from query to query, and go when nobody
//! has needed them for a while and the broker answers again, or when all of it is in blocks. One query at a
//! time reads segments, for all that wait; they answer side by side.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use blockstore::MemoryDisk;
use catalog::{BrokerId, LogPosition, Segment, State, Tombstone};
use futures_util::{FutureExt, StreamExt, stream};
use governor::{Account, Held};
use metricstore::{Delete, Deletes, Registry};
use net::rpc::FreshRequest;
use parking_lot::Mutex;
use tokio::time::{Instant, sleep, timeout_at};

use super::heads::{Body, Heads};
use super::{FreshAnswer, Other, Others, SHOWN_WAIT, count};
use crate::ReadError;
use crate::cluster::rebuild::{AT_ONCE, Rebuild};
use crate::exemplars::ExemplarBook;
use crate::logs::{LineDelete, LineDeletes, Lines};
use crate::rpc::messages;
use crate::shards::Shards;
use crate::visible::{Hiding, Visible};

/// How long a query waits for segments.
const SEGMENTS_WAIT: Duration = Duration::from_secs(5);
/// How long one that did not fit into memory is not read again.
const FULL: Duration = Duration::from_secs(30);
/// Exemplars that are kept of one broker.
const EXEMPLARS: usize = 10_000;

/// Heads stay for so long after the last query that needed them: one that is busy falls silent again.
const KEPT: Duration = Duration::from_secs(60);

/// The heads of one other broker, and how far they reach.
pub(super) struct Foreign {
    heads: Arc<ForeignHeads>,
    /// Which log it is, and the segment below which all were in blocks when these heads were begun.
    first: Begun,
    /// Segments below are in these heads, or known not to be readable.
    through: u64,
    /// Deletes up to this number lie before what comes next.
    deletes: u64,
    /// Deletes that were in effect at any time since these heads were begun: what they hide here may be in
    /// blocks by now, and forgotten.
    known: BTreeMap<u64, Arc<Delete>>,
    known_of_lines: BTreeMap<u64, Arc<LineDelete>>,
    /// Segments that are damaged or gone, in words.
    unreadable: BTreeMap<u64, String>,
    /// They did not fit into memory: they are begun anew at this time, not earlier.
    full_until: Option<Instant>,
    /// When the store last did not give a segment, and what was said.
    failed: Option<(Instant, String)>,
}

/// What is read of them, also while somebody adds to them.
struct ForeignHeads {
    registry: Arc<Registry>,
    visible: Visible,
    /// The version of the catalog that whoever adds to them goes by: its deletes lie between what is here.
    version: AtomicU64,
    held: Mutex<Held>,
}

/// What a query answers from.
struct Ready {
    heads: Arc<ForeignHeads>,
    known_deletes: Deletes,
    known_line_deletes: LineDeletes,
    /// The version of the catalog that has to be shown beside them.
    version: u64,
}

/// Epoch of a log, and the segment below which all are in blocks. One broker's numbers begin again when it
/// was removed and comes again, its epochs do not.
type Begun = (u64, u64);

/// What the catalog says of one broker's segments at one moment.
struct Wanted {
    version: u64,
    first: Begun,
    /// Whether the heads that there are go on; if not, they are begun anew.
    goes_on: bool,
    /// Those that are not in these heads.
    segments: Vec<(u64, Segment)>,
    tombstones: Vec<Arc<Tombstone>>,
    last_delete: u64,
}

impl Wanted {
    /// If there are none, yields the version of the catalog since which everything is in blocks.
    fn of(state: &State, broker: BrokerId, foreign: Option<&Foreign>) -> Result<Wanted, u64> {
        let listed = state.broker(broker).filter(|listed| !listed.segments.is_empty());
        let Some(listed) = listed else { return Err(state.version()) };
        let first = (listed.epoch, listed.flushed_through);
        let foreign = foreign.filter(|foreign| foreign.is_of_use(first));
        let from = foreign.map_or(first.1, |foreign| foreign.through);
        let segments = listed.segments.range(from..);
        Ok(Wanted {
            version: state.version(),
            first,
            goes_on: foreign.is_some(),
            segments: segments.map(|(seq, segment)| (*seq, segment.clone())).collect(),
            tombstones: state.tombstones().cloned().collect(),
            last_delete: state.last_delete(),
        })
    }
}

impl Foreign {
    pub(super) fn bytes(&self) -> usize {
        self.heads.held.lock().bytes()
    }

    /// Whether a log that has come so far is the one that these heads follow, and they have something of it
    /// that is in no block. What is in blocks meanwhile does no harm, it is one sample. Nor can a delete of
    /// it have come and gone unseen: one that came since the last look is kept for what is in no block.
    fn is_of_use(&self, (epoch, flushed_through): Begun) -> bool {
        let is_full = self.full_until.is_some_and(|until| Instant::now() >= until);
        !is_full
            && self.first.0 == epoch
            && (self.first.1 == flushed_through || flushed_through < self.through)
    }

    fn learn(&mut self, wanted: &Wanted) {
        for tombstone in &wanted.tombstones {
            let number = tombstone.number;
            if self.known.contains_key(&number) || self.known_of_lines.contains_key(&number) {
                continue;
            }
            // One whose pattern this program cannot compile has stopped it.
            match Hiding::new(Arc::clone(tombstone)) {
                Ok(Hiding::Samples(delete)) => _ = self.known.insert(number, delete),
                Ok(Hiding::Lines(delete)) => _ = self.known_of_lines.insert(number, delete),
                Err(_) => {}
            }
        }
        // Those below are in blocks, or the catalog says that they are missing.
        self.unreadable.retain(|seq, _| *seq >= wanted.first.1);
    }
}

impl Others {
    /// What a broker that does not answer has in no block, from its segments; and what of that cannot be
    /// read, in words.
    pub(super) async fn of_segments(
        self: &Arc<Self>,
        broker: BrokerId,
        request: &FreshRequest,
        account: &Arc<Account>,
    ) -> Result<(Option<FreshAnswer>, Vec<String>), ReadError> {
        let other = self.other(broker);
        let (ready, mut lacking) = self.brought_up(broker, &other).await;
        let Some(Ready { heads, known_deletes, known_line_deletes, version }) = ready else {
            return Ok((None, lacking));
        };
        if !self.shown(version, SHOWN_WAIT).await {
            lacking.push("the deletes that concern it are not known here yet".to_owned());
        }
        // Another query may have added what comes behind later deletes.
        let mut known = version;
        while let version = heads.version.load(Ordering::Acquire)
            && version > known
            && self.applied(version, SHOWN_WAIT).await
        {
            known = version;
        }
        let (request, account) = (request.clone(), Arc::clone(account));
        let (deletes, seed) = (Arc::clone(&self.deletes), self.seed);
        let Lines { deletes: line_deletes, format: log_format, .. } = self.lines.clone();
        let answer = self.work.run(move || {
            let ForeignHeads { registry, visible, .. } = &*heads;
            let Visible { shards, exemplars, lines, .. } = visible;
            let deletes = &*deletes;
            let heads = Heads {
                registry,
                shards,
                deletes,
                exemplars,
                known_deletes,
                log_heads: &lines.heads,
                line_deletes: &line_deletes,
                known_line_deletes,
                log_format: &log_format,
                seed,
            };
            heads.answer(&request, &account)
        });
        match answer.await {
            Ok(Body { bytes, deletes_through, held }) if !bytes.is_empty() => {
                let bytes = bytes.into();
                Ok((Some(FreshAnswer { broker, bytes, deletes_through, held }), lacking))
            }
            Ok(_) => Ok((None, lacking)),
            Err(status) => match messages::fault_of(&status) {
                Some(fault) => Err(fault),
                None => {
                    lacking.push(net::status_words(&status));
                    Ok((None, lacking))
                }
            },
        }
    }

    /// Brings the heads of a broker up to date, unless another query just did or could not. Yields them, if
    /// anything is to be read of them, and what lacks, in words.
    async fn brought_up(
        self: &Arc<Self>,
        broker: BrokerId,
        other: &Arc<Other>,
    ) -> (Option<Ready>, Vec<String>) {
        let came = Instant::now();
        *other.needed.lock() = Some(came);
        let mut foreign = other.foreign.lock().await;
        let wanted = self.consensus.read(|state| Wanted::of(state, broker, foreign.as_ref()));
        let wanted = match wanted {
            Ok(wanted) => wanted,
            Err(version) => {
                *foreign = None;
                drop(foreign);
                return (None, self.in_blocks(version).await);
            }
        };
        if !wanted.goes_on {
            let is_first = foreign.take().is_none();
            match self.begin(wanted.first) {
                Ok(begun) => *foreign = Some(begun),
                Err(error) => return (None, vec![format!("{error:#}")]),
            }
            if is_first {
                tokio::spawn(release(Arc::downgrade(self), broker, Arc::downgrade(other)));
            }
        }
        let heads = foreign.as_mut().expect("it was begun");
        heads.learn(&wanted);
        heads.heads.version.fetch_max(wanted.version, Ordering::Release);
        let mut lacking = Vec::new();
        let failed = heads.failed.as_ref().filter(|(when, _)| *when >= came);
        let outcome = match failed {
            // It would cost this query as long again.
            Some((_, why)) if !wanted.segments.is_empty() => Err(why.clone()),
            _ => self.follow(broker, heads, &wanted).await,
        };
        let version = match outcome {
            Ok(version) => version,
            Err(why) => {
                lacking.push(why);
                wanted.version
            }
        };
        lacking.extend(heads.unreadable.values().cloned());
        let known_deletes = Deletes::new(heads.known.values().cloned().collect());
        let known_line_deletes = heads.known_of_lines.values().cloned().collect();
        let heads = Arc::clone(&heads.heads);
        (Some(Ready { heads, known_deletes, known_line_deletes, version }), lacking)
    }

    /// Another one may have made blocks of them a moment ago. Yields what lacks, in words.
    async fn in_blocks(&self, version: u64) -> Vec<String> {
        match self.shown(version, SHOWN_WAIT).await {
            true => Vec::new(),
            false => vec!["blocks of its segments cannot be read from the store yet".to_owned()],
        }
    }

    fn begin(&self, first: Begun) -> anyhow::Result<Foreign> {
        // Nothing of it is written: the disk is there because exemplars of a broker have one.
        let disk = MemoryDisk::new();
        let position = LogPosition::default();
        let exemplars = ExemplarBook::open(&disk, position, true, EXEMPLARS, self.seed)?;
        let visible = Visible {
            shards: Arc::new(Shards::inline(1)),
            exemplars: Arc::new(exemplars),
            deletes: Arc::clone(&self.deletes),
            counters: Arc::default(),
            lines: Lines::inline(self.seed),
        };
        let heads = ForeignHeads {
            registry: Arc::new(Registry::new(self.seed)),
            visible,
            version: AtomicU64::new(0),
            held: Mutex::new(self.governor.account().hold(0)?),
        };
        Ok(Foreign {
            heads: Arc::new(heads),
            first,
            through: first.1,
            deletes: 0,
            known: BTreeMap::new(),
            known_of_lines: BTreeMap::new(),
            unreadable: BTreeMap::new(),
            full_until: None,
            failed: None,
        })
    }

    /// Reads the segments that are not in the heads yet, in their order. Yields the version of the catalog
    /// that has to be shown beside them.
    ///
    /// # Errors
    /// Which cannot be read for now, and why: the rest is there.
    async fn follow(
        &self,
        broker: BrokerId,
        heads: &mut Foreign,
        wanted: &Wanted,
    ) -> Result<u64, String> {
        if heads.full_until.is_some() {
            return Err("its segments do not fit into memory here".to_owned());
        }
        let mut version = wanted.version;
        let to = Arc::clone(&heads.heads);
        let ForeignHeads { registry, visible, held, .. } = &*to;
        let rebuild = Rebuild {
            broker,
            store: &self.store,
            work: self.work,
            registry,
            visible,
            now_ms: (self.now_ms)(),
        };
        let end = Instant::now() + SEGMENTS_WAIT;
        let read = |(seq, segment): (u64, Segment)| {
            let rebuild = &rebuild;
            async move {
                let batches = timeout_at(end, rebuild.read(seq, &segment)).await;
                (seq, segment, batches)
            }
            .boxed()
        };
        let mut segments = stream::iter(wanted.segments.clone()).map(read).buffered(AT_ONCE);
        while let Some((seq, segment, batches)) = segments.next().await {
            let Ok(batches) = batches else {
                let why = format!(
                    "the store does not give its segments from number {seq} on, with {} rows or more",
                    segment.rows
                );
                heads.failed = Some((Instant::now(), why.clone()));
                return Err(why);
            };
            rebuild.pass_deletes(&wanted.tombstones, &mut heads.deletes, segment.deletes_through);
            count(&self.counters.segments_read, 1);
            match batches {
                Ok(batches) => {
                    batches.into_iter().for_each(|rows| visible.bring_back(rows));
                }
                // It is in blocks by now, and was removed.
                Err(_) if !self.is_listed(broker, seq) => {
                    version = self.consensus.read(State::version)
                }
                Err(_) => {
                    let why = format!(
                        "its segment {seq} with {} rows from {} to {} ms cannot be read",
                        segment.rows, segment.range.start_ms, segment.range.end_ms
                    );
                    heads.unreadable.insert(seq, why);
                }
            }
            heads.through = seq + 1;
            let bytes = registry.bytes() as u64 + visible.head_bytes() + visible.exemplars.bytes();
            let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
            if let Err(refused) = held.lock().resize(bytes) {
                heads.full_until = Some(Instant::now() + FULL);
                return Err(format!(
                    "its segments behind number {seq} do not fit into memory here: {refused}"
                ));
            }
        }
        rebuild.pass_deletes(&wanted.tombstones, &mut heads.deletes, wanted.last_delete);
        Ok(version)
    }

    fn is_listed(&self, broker: BrokerId, seq: u64) -> bool {
        let has = |state: &State| {
            state.broker(broker).is_some_and(|listed| listed.segments.contains_key(&seq))
        };
        self.consensus.read(has)
    }
}

/// Lets the heads of a broker go when nobody needs them any more.
async fn release(others: Weak<Others>, broker: BrokerId, other: Weak<Other>) {
    loop {
        sleep(KEPT).await;
        let (Some(others), Some(other)) = (others.upgrade(), other.upgrade()) else { return };
        let is_needed = other.needed.lock().is_some_and(|needed| needed.elapsed() < KEPT);
        if is_needed {
            continue;
        }
        let is_silent = other.silent.lock().is_some();
        let mut foreign = other.foreign.lock().await;
        let is_of_use = |state: &State| {
            let wanted = Wanted::of(state, broker, foreign.as_ref());
            wanted.is_ok_and(|wanted| wanted.goes_on)
        };
        if !is_silent || !others.consensus.read(is_of_use) {
            *foreign = None;
            return;
        }
    }
}
