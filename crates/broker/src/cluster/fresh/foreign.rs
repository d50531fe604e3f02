//! Heads of a broker that does not answer, made of what it acknowledged and did not flush: its segments
//! in the store, as the catalog lists them.
//!
//! They are made when a query first needs them, follow the catalog from query to query, and go when the
//! broker answers again.

use std::sync::Arc;
use std::time::Duration;

use blockstore::MemoryDisk;
use catalog::{BrokerId, LogPosition, Segment, State, Tombstone};
use futures_util::{FutureExt, StreamExt, stream};
use governor::{Account, Held};
use metricstore::{Delete, Deletes, Registry};
use net::rpc::FreshRequest;
use tokio::time::{Instant, timeout_at};

use super::heads::{Body, Heads};
use super::{FreshAnswer, Others, SHOWN_WAIT, count};
use crate::ReadError;
use crate::cluster::rebuild::{AT_ONCE, Rebuild};
use crate::exemplars::ExemplarBook;
use crate::rpc::messages;
use crate::shards::Shards;
use crate::visible::Visible;

/// How long a query waits for segments.
const SEGMENTS_WAIT: Duration = Duration::from_secs(5);
/// How long one that did not fit into memory is not read again.
const FULL: Duration = Duration::from_secs(30);
/// Exemplars that are kept of one broker.
const EXEMPLARS: usize = 10_000;

/// The heads of one other broker.
pub(super) struct Foreign {
    registry: Arc<Registry>,
    visible: Visible,
    /// Which log it is, and the segment below which all were in blocks when these heads were begun.
    first: Begun,
    /// Segments below are in these heads, or known not to be readable.
    through: u64,
    /// Deletes up to this number lie before what comes next.
    deletes: u64,
    /// Segments that are damaged or gone, in words.
    unreadable: Vec<String>,
    held: Held,
    /// They did not fit into memory: they are begun anew at this time, not earlier.
    full_until: Option<Instant>,
}

/// Epoch of a log, and the segment below which all are in blocks. One broker's numbers begin again when it
/// was removed and comes again, its epochs do not.
type Begun = (u64, u64);

/// What the catalog says of one broker's segments at one moment.
struct Wanted {
    version: u64,
    first: Begun,
    segments: Vec<(u64, Segment)>,
    tombstones: Vec<Arc<Tombstone>>,
    last_delete: u64,
}

impl Wanted {
    /// `from` is the first one that is not known yet. If there are none, yields the version of the catalog
    /// since which everything is in blocks.
    fn of(state: &State, broker: BrokerId, from: impl FnOnce(Begun) -> u64) -> Result<Wanted, u64> {
        let listed = state.broker(broker).filter(|listed| !listed.segments.is_empty());
        let Some(listed) = listed else { return Err(state.version()) };
        let first = (listed.epoch, listed.flushed_through);
        let segments = listed.segments.range(from(first)..);
        Ok(Wanted {
            version: state.version(),
            first,
            segments: segments.map(|(seq, segment)| (*seq, segment.clone())).collect(),
            tombstones: state.tombstones().cloned().collect(),
            last_delete: state.last_delete(),
        })
    }
}

impl Foreign {
    pub(super) fn bytes(&self) -> usize {
        self.held.bytes()
    }

    fn through_of(foreign: Option<&Foreign>, first: Begun) -> u64 {
        let same = foreign.filter(|foreign| foreign.first == first);
        same.map_or(first.1, |foreign| foreign.through)
    }
}

impl Others {
    /// What a broker that does not answer has in no block, from its segments; and what of that cannot be
    /// read, in words.
    pub(super) async fn of_segments(
        &self,
        broker: BrokerId,
        request: &FreshRequest,
        account: &Arc<Account>,
    ) -> Result<(Option<FreshAnswer>, Vec<String>), ReadError> {
        let other = self.other(broker);
        let mut foreign = Arc::clone(&other.foreign).lock_owned().await;
        let wanted = self.consensus.read(|state| {
            Wanted::of(state, broker, |first| Foreign::through_of(foreign.as_ref(), first))
        });
        let mut wanted = match wanted {
            Ok(wanted) => wanted,
            Err(version) => {
                *foreign = None;
                return Ok((None, self.in_blocks(version).await));
            }
        };
        let first = wanted.first;
        let is_of_use = |foreign: &Foreign| {
            foreign.first == first && foreign.full_until.is_none_or(|until| Instant::now() < until)
        };
        if !foreign.as_ref().is_some_and(is_of_use) {
            *foreign = None;
            // All of them, also what the heads before had.
            let all =
                |state: &State| Wanted::of(state, broker, |(_, flushed_through)| flushed_through);
            match self.consensus.read(all) {
                Ok(all) => wanted = all,
                Err(version) => return Ok((None, self.in_blocks(version).await)),
            }
            match self.begin(wanted.first) {
                Ok(begun) => *foreign = Some(begun),
                Err(error) => return Ok((None, vec![format!("{error:#}")])),
            }
        }
        let mut lacking = Vec::new();
        let heads = foreign.as_mut().expect("it was begun");
        let version = match self.follow(broker, heads, &wanted).await {
            Ok(version) => version,
            Err(why) => {
                lacking.push(why);
                wanted.version
            }
        };
        lacking.extend(heads.unreadable.iter().cloned());
        if !self.shown(version, SHOWN_WAIT).await {
            lacking.push("the deletes that concern it are not known here yet".to_owned());
        }
        let (request, account) = (request.clone(), Arc::clone(account));
        let (deletes, seed) = (Arc::clone(&self.deletes), self.seed);
        // One whose pattern this program cannot compile has stopped it.
        let known = wanted.tombstones.iter().filter_map(|one| Delete::new(Arc::clone(one)).ok());
        let known_deletes = Deletes::new(known.map(Arc::new).collect());
        let answer = self.work.run(move || {
            let Some(Foreign { registry, visible, .. }) = &*foreign else {
                unreachable!("it was begun, and the lock is ours");
            };
            let Visible { shards, exemplars, .. } = visible;
            let deletes = &*deletes;
            let heads = Heads { registry, shards, deletes, exemplars, known_deletes, seed };
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
        };
        Ok(Foreign {
            registry: Arc::new(Registry::new(self.seed)),
            visible,
            first,
            through: first.1,
            deletes: 0,
            unreadable: Vec::new(),
            held: self.governor.account().hold(0)?,
            full_until: None,
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
        let (registry, visible) = (Arc::clone(&heads.registry), heads.visible.clone());
        let rebuild = Rebuild {
            broker,
            store: &self.store,
            work: self.work,
            registry: &registry,
            visible: &visible,
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
                return Err(format!(
                    "the store does not give its segments from number {seq} on, with {} rows or more",
                    segment.rows
                ));
            };
            rebuild.pass_deletes(&wanted.tombstones, &mut heads.deletes, segment.deletes_through);
            count(&self.counters.segments_read, 1);
            match batches {
                Ok(batches) => {
                    for mut batch in batches {
                        visible.exemplars.keep(&mut batch);
                        visible.shards.append(batch.shards, Box::new(|_| {}));
                    }
                }
                // It is in blocks by now, and was removed.
                Err(_) if !self.is_listed(broker, seq) => {
                    version = self.consensus.read(State::version)
                }
                Err(_) => heads.unreadable.push(format!(
                    "its segment {seq} with {} rows from {} to {} ms cannot be read",
                    segment.rows, segment.range.start_ms, segment.range.end_ms
                )),
            }
            heads.through = seq + 1;
            let bytes =
                registry.bytes() as u64 + visible.shards.totals().bytes + visible.exemplars.bytes();
            let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
            if let Err(refused) = heads.held.resize(bytes) {
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
