//! What a dead broker left: its segments become blocks by another one's work.
//!
//! Who does it begins the next epoch of the dead broker's log first. From then on nobody else can add to
//! it or flush it, the dead one included: if it comes back it begins an epoch of its own, which refuses what
//! is not agreed upon here by then, and reads from the catalog what is left for it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use blockstore::Disk;
use catalog::{BrokerId, Command, LogPosition, Outcome, Segment, State, segment_key};
use governor::Governor;
use metricstore::Registry;
use tokio::time::Instant;

use super::blocks::BlockWriting;
use super::jobs::Rests;
use super::kept::Keeping;
use super::leases::{Held, Leases, NoResult};
use super::members::Members;
use super::metrics::ClusterCounters;
use super::rebuild::Rebuild;
use super::signals::{Frozen, named};
use super::writer::AGREE_DEADLINE;
use crate::deletes::DeleteBook;
use crate::exemplars::ExemplarBook;
use crate::logs::{LineDeleteBook, Lines};
use crate::recovery::Recovered;
use crate::shards::{Shards, receive};
use crate::visible::{CommitCounters, Visible};

/// Of the limit of memory, what lies in memory beside the broker's own of segments that are made blocks at
/// once may take …
const CHUNK_SHARE: u64 = 16;
/// … and the most and least of it.
const MAX_CHUNK_BYTES: u64 = 256 << 20;
const MIN_CHUNK_BYTES: u64 = 16 << 20;
/// What a row takes in heads, about, with its share of its series.
const ROW_BYTES: u64 = 40;
/// As much of segments that are read late is made blocks at once.
pub(super) const LATE_CHUNK_BYTES: u64 = 32 << 20;
/// So often, at the least, a segment that cannot be read is tried before it is passed over.
const TRIES: u32 = 5;

/// Takes over what dead brokers left.
pub(super) struct Adoption {
    pub(super) own: BrokerId,
    pub(super) keeping: Keeping,
    pub(super) members: Arc<Members>,
    pub(super) leases: Leases,
    pub(super) writing: BlockWriting,
    pub(super) cluster: Arc<ClusterCounters>,
    pub(super) governor: Arc<Governor>,
    pub(super) disk: Arc<dyn Disk>,
    pub(super) seed: u64,
    pub(super) now_ms: fn() -> i64,
    /// How often it is looked whether something is due.
    pub(super) every: Duration,
    /// A broker that is silent for so long is taken for dead.
    pub(super) after: Duration,
    /// A segment that cannot be read for so long is passed over.
    pub(super) pass_over_after: Duration,
    /// How often segments could not be read, and since when.
    pub(super) unreadable: BTreeMap<(BrokerId, u64), (u32, Instant)>,
    /// The epochs that were begun here of logs of others.
    pub(super) begun: BTreeMap<BrokerId, u64>,
    pub(super) rests: Rests<BrokerId>,
}

impl Adoption {
    /// Works until it is aborted.
    pub(super) async fn run(mut self) {
        loop {
            tokio::time::sleep(self.every).await;
            self.step().await;
        }
    }

    /// Takes over what dead brokers left, of those that this broker is nearest to. One that fails keeps no
    /// other waiting, and is tried again soon.
    async fn step(&mut self) {
        let ring = self.members.ring();
        let is_mine = |id: BrokerId| ring.owner(id.0) == Some(self.own);
        let dead: Vec<BrokerId> =
            self.dead().into_iter().filter(|id| *id != self.own && is_mine(*id)).collect();
        for id in dead {
            if !self.rests.is_over(&id) {
                continue;
            }
            let Some(lease) = self.leases.take(format!("adopt/{id}")).await else { continue };
            let outcome = lease.keep(self.adopt(&lease, id)).await;
            lease.give().await;
            self.rests.note(id, &format!("taking over what broker {id} left"), outcome);
        }
    }

    /// Brokers that are silent for long and have segments that are in no block.
    fn dead(&self) -> Vec<BrokerId> {
        let is_left = |broker: &catalog::Broker| !broker.segments.is_empty();
        let began_here = |id: BrokerId, epoch: u64| self.begun.get(&id) == Some(&epoch);
        self.members.silent_for(self.after, is_left, began_here)
    }

    async fn adopt(&mut self, lease: &Held, id: BrokerId) -> Result<()> {
        let consensus = self.writing.consensus.clone();
        // One that was cut off hears of everybody's signs of life before it takes anything over.
        consensus.catch_up(AGREE_DEADLINE).await.context("look at the catalog of now")?;
        if !self.dead().contains(&id) {
            return Ok(());
        }
        // What it wrote elsewhere would be passed over.
        self.keeping.reads_segments()?;
        let epoch = consensus.read(|state| state.broker(id).map(|broker| broker.epoch));
        let is_begun = epoch.is_some() && epoch == self.begun.get(&id).copied();
        let epoch = match epoch {
            // An attempt before began it, and nobody has since.
            Some(epoch) if is_begun => epoch,
            _ => {
                let begun = lease.propose(Command::BeginLog { broker: id }).await?;
                let Outcome::Epoch(epoch) = begun else {
                    unreachable!("a log that begins is answered with its epoch, not {begun:?}")
                };
                self.begun.insert(id, epoch);
                epoch
            }
        };
        tracing::warn!(broker = %id, epoch, "a broker is dead: its segments are made blocks here");
        let most = self.governor.limit_bytes() / CHUNK_SHARE;
        let most = most.clamp(MIN_CHUNK_BYTES, MAX_CHUNK_BYTES);
        loop {
            // Nobody but us can change what is there of it, unless it comes back.
            let state = consensus.read(State::clone);
            let Some(through) = next_chunk(&state, id, most) else { return Ok(()) };
            self.flush(lease, id, epoch, &state, through).await?;
        }
    }

    /// Makes segments below a number blocks.
    async fn flush(
        &mut self,
        lease: &Held,
        broker: BrokerId,
        epoch: u64,
        state: &State,
        through: u64,
    ) -> Result<()> {
        let wanted = state.broker(broker).into_iter().flat_map(|own| own.segments.range(..through));
        let wanted: u64 = wanted.map(|(_, segment)| head_bytes(segment)).sum();
        let in_memory = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
        let no_room = |why: String| anyhow!("there is no memory for its segments: {why}");
        let mut room = self.governor.room(in_memory(wanted)).map_err(no_room)?;
        let registry = Arc::new(Registry::new(self.seed));
        let deletes = DeleteBook::load(state)?;
        let deletes_through = state.last_delete();
        let now = (deletes.current().0, LineDeleteBook::load(state)?.current().0);
        let visible = heads(&*self.disk, deletes, self.seed)?;
        let rebuild = Rebuild {
            broker,
            store: &self.writing.store,
            work: self.writing.work,
            registry: &registry,
            visible: &visible,
            now_ms: (self.now_ms)(),
        };
        let left_out = rebuild.run(state, through, &mut Recovered::default()).await?;
        let listed = state.broker(broker).into_iter().flat_map(|own| own.segments.range(..through));
        let listed: Vec<(u64, u64)> = listed.map(|(seq, segment)| (*seq, segment.epoch)).collect();
        for (seq, _) in listed.iter().filter(|(seq, _)| left_out.unread.contains(seq)) {
            let first = (0, Instant::now());
            let (tries, since) = self.unreadable.entry((broker, *seq)).or_insert(first);
            *tries += 1;
            if *tries < TRIES || since.elapsed() < self.pass_over_after {
                bail!("segment {seq} cannot be read now: it is tried again before it is left out");
            }
        }
        room.resize(in_memory(registry.bytes() as u64 + visible.head_bytes())).map_err(no_room)?;
        if left_out.is_all && self.writing.blocks.is_empty() {
            bail!("none of its segments is in the store, and no block: it is another store");
        }
        // Those that were left out before, too.
        let late = state.unread_segments().filter(|(of, ..)| *of == broker);
        let late = late.map(|(_, seq, segment)| (seq, segment.epoch));
        let read = listed.iter().copied().chain(late);
        let read = read.filter(|(seq, _)| !left_out.unread.contains(seq));
        let keys: Vec<String> = read.map(|(seq, epoch)| segment_key(broker, epoch, seq)).collect();
        let frozen = self.writing.work.run(move || cut(&visible)).await;
        let (samples, _) = frozen.rows();
        let added = self.writing.write_frozen(frozen, now, deletes_through, &registry).await?;
        let blocks = named(&added);
        let segments = keys.len() as u64;
        let unread = left_out.unread.into_iter().collect();
        let command = Command::FlushLog { broker, epoch, through, added, deletes_through, unread };
        match lease.propose(command).await {
            Ok(_) => {}
            Err(error @ NoResult::Refused(_)) => {
                self.writing.discard(blocks);
                return Err(error.into());
            }
            Err(error @ NoResult::Doubtful(_)) => {
                self.writing.forget(&blocks);
                return Err(error.into());
            }
        }
        self.unreadable.retain(|(of, seq), _| *of != broker || *seq >= through);
        self.writing.remove_later(keys);
        ClusterCounters::count(&self.cluster.adopted_segments, segments);
        self.writing.counters.flushed_samples.fetch_add(samples, Ordering::Relaxed);
        Ok(())
    }
}

/// What a segment takes in heads, about.
fn head_bytes(segment: &Segment) -> u64 {
    segment.size_bytes.saturating_add(segment.rows.saturating_mul(ROW_BYTES))
}

/// The number below which segments are taken next, so that they take about so many bytes in heads; `None` if
/// there are none.
fn next_chunk(state: &State, id: BrokerId, most: u64) -> Option<u64> {
    let mut bytes: u64 = 0;
    let mut through = None;
    for (seq, segment) in &state.broker(id)?.segments {
        bytes = bytes.saturating_add(head_bytes(segment));
        if through.is_some() && bytes > most {
            break;
        }
        through = Some(seq + 1);
    }
    through
}

/// Heads of their own, without exemplars: those are forgotten with the broker.
pub(super) fn heads(disk: &dyn Disk, deletes: DeleteBook, seed: u64) -> Result<Visible> {
    const SHARDS: usize = 1;
    let exemplars = ExemplarBook::open(disk, LogPosition::default(), false, 0, 0)?;
    Ok(Visible {
        shards: Arc::new(Shards::inline(SHARDS)),
        exemplars: Arc::new(exemplars),
        deletes: Arc::new(deletes),
        counters: Arc::new(CommitCounters::default()),
        lines: Lines::inline(seed),
    })
}

pub(super) fn cut(visible: &Visible) -> Frozen {
    let samples = visible.shards.start_cut().iter().flat_map(receive).collect();
    Frozen { samples, lines: receive(&visible.lines.heads.start_cut()) }
}

#[cfg(test)]
mod tests {
    use catalog::{BrokerInfo, BrokerState, NewSegment};
    use model::TimeRange;

    use super::*;

    #[test]
    fn a_chunk_is_what_fits_into_memory_and_one_segment_at_least() {
        let (broker, mut state) = (BrokerId(1), State::default());
        let info = BrokerInfo {
            name: String::new(),
            address: String::new(),
            http_address: String::new(),
            zone: String::new(),
            version: String::new(),
            feature_level: 1,
            state: BrokerState::Active,
        };
        state.apply(&Command::SetBroker { broker, info: Box::new(info) }).expect("new");
        state.apply(&Command::BeginLog { broker }).expect("known");
        assert_eq!(next_chunk(&state, broker, 1), None);
        // Few bytes in the store may be many rows.
        for (seq, rows) in [(0, 1_000_000), (1, 10), (2, 10), (7, u64::MAX), (8, 0)] {
            let new = NewSegment {
                broker,
                epoch: 1,
                seq,
                size_bytes: 100,
                checksum: 0,
                rows,
                range: TimeRange::new(0, 1),
                marks: Vec::new(),
                pushes: Vec::new(),
            };
            state.apply(&Command::AddSegment(Box::new(new))).expect("next");
        }
        assert_eq!(next_chunk(&state, broker, 16 << 20), Some(1));
        assert_eq!(next_chunk(&state, broker, 64 << 20), Some(3));
        assert_eq!(next_chunk(&state, broker, u64::MAX - 1), Some(3));
        assert_eq!(next_chunk(&state, broker, u64::MAX), Some(9));
    }
}
