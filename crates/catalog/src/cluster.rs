//! What only a cluster has: brokers, the segments they wrote, and leases.
//!
//! A broker's *log* is the row of its segments that are in no block yet. Whoever may add to it or
//! flush it holds its epoch: a broker that starts takes the next one, and so does another that takes
//! over what a dead broker left, so that the one that was thought dead is refused when it comes back.
//! A lease lets one broker at a time do a job; its term grows with each holder, and what is done
//! [`Command::Under`] an older term is refused.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Bound;

use model::TimeRange;

use crate::state::Outcome;
use crate::{BlockId, CatalogError, Command, Mark, NewBlock, PushMark, Standing, State};

/// Most brokers of a cluster, those that left and whose segments are not in blocks included.
pub const MAX_BROKERS: usize = 1_000;
/// Most segments of one broker that are in no block: a flush is long overdue then.
pub const MAX_SEGMENTS_PER_BROKER: usize = 100_000;
/// Most batches of one segment.
pub const MAX_BATCHES_PER_SEGMENT: u32 = 1 << 20;
/// Most leases, those aside by which brokers say that they are there.
pub const MAX_LEASES: usize = 100_000;
/// Most segments that are in no block because they could not be read.
pub const MAX_UNREAD_SEGMENTS: usize = 100_000;
/// What the lease of a broker that is there begins with; its id follows.
pub const BROKER_LEASES: &str = "broker/";
/// Most bytes of a name, an address or a zone.
const MAX_TEXT_BYTES: usize = 256;

/// Identity of a broker, and of its member in the consensus: random, kept in its data directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BrokerId(pub u64);

impl fmt::Display for BrokerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// What a broker is there for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BrokerState {
    /// It takes writes and jobs.
    Active,
    /// It takes none and leaves when everything it wrote is in blocks.
    Draining,
}

/// What a broker says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokerInfo {
    /// For people.
    pub name: String,
    /// Where the others and agents reach it, `HOST:PORT`.
    pub address: String,
    /// Where programs and people reach it over HTTP, `HOST:PORT`; empty if nowhere.
    pub http_address: String,
    /// The failure domain it stands in; empty if none was named.
    pub zone: String,
    /// Version of its program, for people.
    pub version: String,
    /// The newest format and behaviour it knows: the cluster uses what all know.
    pub feature_level: u32,
    /// What it is there for.
    pub state: BrokerState,
}

/// A broker and what it wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broker {
    /// What it said.
    pub info: BrokerInfo,
    /// Of its log, see above; no two logs ever have the same.
    pub epoch: u64,
    /// Numbers of segments below are in blocks, or will never be: a late one is refused.
    pub flushed_through: u64,
    /// Those that are in no block, by number.
    pub segments: BTreeMap<u64, Segment>,
}

/// A segment that is durable in the store, with everything that decides what it comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    /// The epoch it was written in; a part of its key.
    pub epoch: u64,
    /// Length of its blob.
    pub size_bytes: u64,
    /// CRC-32 of its blob.
    pub checksum: u32,
    /// Rows in it.
    pub rows: u64,
    /// Range of its rows.
    pub range: TimeRange,
    /// The last delete before it: later ones are younger than all its rows.
    pub deletes_through: u64,
    /// Batches of it, by number and ascending, that were stored before or must not be stored yet:
    /// their rows do not count.
    pub passed_over: Vec<u32>,
}

/// A segment as its writer announces it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewSegment {
    /// Who wrote it.
    pub broker: BrokerId,
    /// In which epoch.
    pub epoch: u64,
    /// Its number: higher than all before it.
    pub seq: u64,
    /// Length of its blob.
    pub size_bytes: u64,
    /// CRC-32 of its blob.
    pub checksum: u32,
    /// Rows in it.
    pub rows: u64,
    /// Range of its rows.
    pub range: TimeRange,
    /// Marks of agents, with the number of the batch each belongs to; ascending by batch.
    pub marks: Vec<(u32, Mark)>,
    /// Pushes of lines that are to be stored once, likewise. None below [`crate::PUSHES_LEVEL`].
    pub pushes: Vec<(u32, PushMark)>,
}

/// Why a batch of a segment does not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PassedOver {
    /// It was stored before.
    Known,
    /// One before it is missing.
    Gap {
        /// The last batch before the gap.
        through: u64,
    },
}

/// Who may do a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// The broker.
    pub holder: BrokerId,
    /// Grows with every holder.
    pub term: u64,
    /// How often it was renewed: whoever sees it stand still knows that its holder is gone, without a clock
    /// that both have.
    pub renewals: u64,
    /// Until when its holder means to have it, by its own clock, milliseconds since the epoch: for people.
    pub until_ms: i64,
}

/// By what right somebody takes a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeaseClaim {
    /// Nobody has it, or the same broker.
    Free,
    /// It is held under this term: it is to be kept for longer.
    Held {
        /// The term.
        term: u64,
    },
    /// It was not renewed for as long as it may be, as the one who takes it saw by its own clock.
    Over {
        /// The term that was seen.
        term: u64,
        /// … and how often it was renewed.
        renewals: u64,
    },
}

/// Key of a segment's blob: `segments/<broker>/<epoch>-<seq>.wfs`. Written once, never over.
pub fn segment_key(broker: BrokerId, epoch: u64, seq: u64) -> String {
    format!("segments/{broker}/{epoch:010}-{seq:020}.wfs")
}

impl State {
    /// The brokers, ascending by id; none where one machine is alone.
    pub fn brokers(&self) -> impl ExactSizeIterator<Item = (BrokerId, &Broker)> {
        self.brokers.iter().map(|(id, broker)| (*id, broker))
    }

    /// One of them.
    pub fn broker(&self, id: BrokerId) -> Option<&Broker> {
        self.brokers.get(&id)
    }

    /// The lease of a job, whether it is over or not.
    pub fn lease(&self, job: &str) -> Option<&Lease> {
        self.leases.get(job)
    }

    /// Segments that could not be read when everything around them was flushed, with their brokers and
    /// numbers: they stay in the store, and answers in their range are partial.
    pub fn unread_segments(&self) -> impl ExactSizeIterator<Item = (BrokerId, u64, &Segment)> {
        self.unread.iter().map(|((id, seq), segment)| (*id, *seq, segment))
    }

    /// All leases whose job starts with `prefix`, ascending.
    pub fn leases<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = (&'a str, &'a Lease)> {
        let from = self.leases.range::<str, _>((Bound::Included(prefix), Bound::Unbounded));
        let same = from.take_while(move |(job, _)| job.starts_with(prefix));
        same.map(|(job, lease)| (job.as_str(), lease))
    }

    /// Grows whenever a broker comes, goes or begins to drain: the circle is another one then.
    pub fn ring_epoch(&self) -> u64 {
        self.ring_epoch
    }

    /// What all brokers know; 0 if there are none. It never falls while there are any: what was written
    /// at a level may say what those below do not know.
    pub fn feature_level(&self) -> u32 {
        self.brokers.values().map(|broker| broker.info.feature_level).min().unwrap_or(0)
    }

    pub(crate) fn set_broker(
        &mut self,
        id: BrokerId,
        info: &BrokerInfo,
    ) -> Result<Outcome, CatalogError> {
        for (what, text) in [
            ("a broker's name", &info.name),
            ("a broker's address", &info.address),
            ("a broker's HTTP address", &info.http_address),
            ("a broker's zone", &info.zone),
            ("a broker's version", &info.version),
        ] {
            crate::state::check_size(what, text.len(), MAX_TEXT_BYTES)?;
        }
        let level = self.feature_level();
        if info.feature_level < level {
            return Err(CatalogError::OldProgram { found: info.feature_level, level });
        }
        let place = |broker: &Broker| (broker.info.state, broker.info.zone.clone());
        let before = self.brokers.get(&id).map(place);
        let drains = |state: BrokerState| state == BrokerState::Draining;
        let begins_to_drain =
            drains(info.state) && before.as_ref().is_none_or(|(state, _)| !drains(*state));
        let mut others = self.brokers.iter().filter(|(other, _)| **other != id);
        if begins_to_drain && others.all(|(_, broker)| drains(broker.info.state)) {
            return Err(CatalogError::LastBroker { broker: id });
        }
        if before.is_none() {
            crate::state::check_size(
                "the cluster's list of brokers",
                self.brokers.len() + 1,
                MAX_BROKERS,
            )?;
        }
        // Above those of an earlier life, by which they are found.
        let unread = self.unread.range((id, 0)..=(id, u64::MAX)).next_back();
        let flushed_through = unread.map_or(0, |((_, seq), _)| seq + 1);
        let broker = self.brokers.entry(id).or_insert_with(|| Broker {
            info: info.clone(),
            epoch: 0,
            flushed_through,
            segments: BTreeMap::new(),
        });
        broker.info = info.clone();
        if before != Some(place(broker)) {
            self.ring_epoch += 1;
        }
        Ok(Outcome::Done)
    }

    pub(crate) fn remove_broker(&mut self, id: BrokerId) -> Result<Outcome, CatalogError> {
        let broker = self.known(id)?;
        if !broker.segments.is_empty() {
            let segments = broker.segments.len() as u64;
            return Err(CatalogError::UnflushedBroker { broker: id, segments });
        }
        self.brokers.remove(&id);
        self.leases.retain(|_, lease| lease.holder != id);
        self.ring_epoch += 1;
        Ok(Outcome::Done)
    }

    pub(crate) fn begin_log(&mut self, id: BrokerId) -> Result<Outcome, CatalogError> {
        self.known(id)?;
        // One that was removed and comes again must not give old keys to new segments.
        self.next_term += 1;
        let broker = self.brokers.get_mut(&id).expect("known");
        broker.epoch = self.next_term;
        // Whoever held them under this identity does not go on with what it began.
        self.leases.retain(|_, lease| lease.holder != id);
        Ok(Outcome::Epoch(self.next_term))
    }

    pub(crate) fn retire_blocks(&mut self, below: BlockId) -> Result<Outcome, CatalogError> {
        if below.0 > self.next_block_id {
            let reason = "ids that were not handed out cannot be retired";
            return Err(CatalogError::UnfitBlock { id: below, reason });
        }
        self.retired_below = self.retired_below.max(below);
        Ok(Outcome::Done)
    }

    /// Blocks below this id that are not listed will never be: whatever is stored under it is nobody's.
    pub fn retired_below(&self) -> BlockId {
        self.retired_below
    }

    /// The id that the next reservation begins with.
    pub fn next_block(&self) -> BlockId {
        BlockId(self.next_block_id)
    }

    /// Whether a segment in the store will never count: nobody can add it any more, and it neither is listed
    /// nor waits until it can be read.
    pub fn is_orphaned_segment(&self, broker: BrokerId, epoch: u64, seq: u64) -> bool {
        if self.unread.get(&(broker, seq)).is_some_and(|segment| segment.epoch == epoch) {
            return false;
        }
        let Some(known) = self.brokers.get(&broker) else {
            // What may come of it begins in a later epoch.
            return epoch <= self.next_term;
        };
        let is_listed = known.segments.get(&seq).is_some_and(|segment| segment.epoch == epoch);
        let last = known.segments.last_key_value().map_or(0, |(last, _)| last + 1);
        let is_late = epoch == known.epoch && seq < last.max(known.flushed_through);
        !is_listed && (epoch < known.epoch || is_late)
    }

    pub(crate) fn add_segment(&mut self, new: &NewSegment) -> Result<Outcome, CatalogError> {
        let broker = self.in_epoch(new.broker, new.epoch)?;
        let last = broker.segments.last_key_value().map(|(seq, _)| *seq);
        let least = last.map_or(broker.flushed_through, |last| last + 1);
        if new.seq < least {
            return Err(CatalogError::StaleSegment { seq: new.seq, least });
        }
        let found = broker.segments.len() + 1;
        crate::state::check_size("a broker's list of segments", found, MAX_SEGMENTS_PER_BROKER)?;
        let is_marked = |batch: &u32| new.marks.binary_search_by_key(batch, |mark| mark.0).is_ok();
        if !are_batches(&new.marks)
            || !are_batches(&new.pushes)
            || new.pushes.iter().any(|(batch, _)| is_marked(batch))
        {
            return Err(CatalogError::UnfitSegment { seq: new.seq });
        }
        for (_, mark) in &new.marks {
            mark.check()?;
        }
        let mut passed_over = Vec::new();
        for (batch, mark) in &new.marks {
            match self.marks.standing(mark) {
                Standing::Next => self.marks.store(mark)?,
                Standing::Known => passed_over.push((*batch, PassedOver::Known)),
                Standing::Gap { through } => {
                    passed_over.push((*batch, PassedOver::Gap { through }))
                }
            }
        }
        for (batch, push) in &new.pushes {
            if !self.pushes.store(*push) {
                passed_over.push((*batch, PassedOver::Known));
            }
        }
        passed_over.sort_unstable_by_key(|(batch, _)| *batch);
        let segment = Segment {
            epoch: new.epoch,
            size_bytes: new.size_bytes,
            checksum: new.checksum,
            rows: new.rows,
            range: new.range,
            deletes_through: self.last_delete,
            passed_over: passed_over.iter().map(|(batch, _)| *batch).collect(),
        };
        let broker = self.brokers.get_mut(&new.broker).expect("known");
        broker.segments.insert(new.seq, segment);
        Ok(Outcome::Segment(passed_over))
    }

    pub(crate) fn flush_log(
        &mut self,
        id: BrokerId,
        epoch: u64,
        through: u64,
        added: &[NewBlock],
        deletes_through: u64,
        unread: &[u64],
    ) -> Result<Outcome, CatalogError> {
        let broker = self.in_epoch(id, epoch)?;
        // One that adds blocks always reaches further, so that it counts once however often it is sent.
        let is_again = through == broker.flushed_through && !added.is_empty();
        if through < broker.flushed_through || is_again {
            let reached = broker.flushed_through;
            return Err(CatalogError::StaleSegment { seq: through, least: reached });
        }
        let flushed = broker.segments.range(..through);
        let done = flushed.map(|(_, segment)| segment.deletes_through).max().unwrap_or(0);
        if deletes_through < done || deletes_through > self.last_delete {
            return Err(CatalogError::DeletesBackwards { found: deletes_through, reached: done });
        }
        self.check_added(added)?;
        let stays = |seq: &&u64| {
            broker.segments.range(..through).any(|(known, _)| known == *seq)
                || self.unread.contains_key(&(id, **seq))
        };
        let of_others = self.unread.keys().filter(|(broker, _)| *broker != id).count();
        let missing = of_others + unread.iter().filter(stays).count();
        let what = "the list of segments that cannot be read";
        crate::state::check_size(what, missing, MAX_UNREAD_SEGMENTS)?;
        let broker = self.brokers.get_mut(&id).expect("known");
        let left = broker.segments.split_off(&through);
        let flushed = std::mem::replace(&mut broker.segments, left);
        broker.flushed_through = through;
        self.unread.extend(flushed.into_iter().map(|(seq, segment)| ((id, seq), segment)));
        // What can be read by now is in blocks.
        self.unread.retain(|(broker, seq), _| *broker != id || unread.contains(seq));
        Ok(self.add_flushed(added, deletes_through))
    }

    /// Makes blocks of segments that can be read again: those are known as missing no longer.
    pub(crate) fn flush_unread(
        &mut self,
        id: BrokerId,
        seqs: &[u64],
        added: &[NewBlock],
        deletes_through: u64,
    ) -> Result<Outcome, CatalogError> {
        let mut done = 0;
        for (place, seq) in seqs.iter().enumerate() {
            match self.unread.get(&(id, *seq)).filter(|_| !seqs[..place].contains(seq)) {
                Some(segment) => done = segment.deletes_through.max(done),
                None => return Err(CatalogError::NotMissing { broker: id, seq: *seq }),
            }
        }
        if deletes_through < done || deletes_through > self.last_delete {
            return Err(CatalogError::DeletesBackwards { found: deletes_through, reached: done });
        }
        self.check_added(added)?;
        for seq in seqs {
            self.unread.remove(&(id, *seq));
        }
        Ok(self.add_flushed(added, deletes_through))
    }

    /// Forgets that segments are missing. Those that are not are none of it: a later start may have read them.
    pub(crate) fn forget_unread(&mut self, segments: &[(BrokerId, u64)]) -> Outcome {
        for place in segments {
            self.unread.remove(place);
        }
        Outcome::Done
    }

    pub(crate) fn take_lease(
        &mut self,
        job: &str,
        holder: BrokerId,
        claim: LeaseClaim,
        until_ms: i64,
    ) -> Result<Outcome, CatalogError> {
        crate::state::check_size("the name of a job", job.len(), MAX_TEXT_BYTES)?;
        self.known(holder)?;
        let before = self.leases.get(job);
        // Jobs that nobody gave back must not keep a broker from saying that it is there.
        if before.is_none() && !job.starts_with(BROKER_LEASES) {
            let of_brokers = self.leases(BROKER_LEASES).count();
            let found = self.leases.len() - of_brokers + 1;
            crate::state::check_size("the list of leases", found, MAX_LEASES)?;
        }
        let (term, renewals) = match (before, claim) {
            (Some(lease), LeaseClaim::Held { term })
                if lease.term == term && lease.holder == holder =>
            {
                (term, lease.renewals + 1)
            }
            // Another has, or had, it meanwhile.
            (_, LeaseClaim::Held { term }) => {
                return Err(CatalogError::LeaseLost { job: job.to_owned(), term });
            }
            (Some(lease), _) if lease.holder == holder => (lease.term, lease.renewals + 1),
            (Some(lease), claim)
                if claim != (LeaseClaim::Over { term: lease.term, renewals: lease.renewals }) =>
            {
                let (holder, until_ms) = (lease.holder, lease.until_ms);
                return Err(CatalogError::LeaseHeld { job: job.to_owned(), holder, until_ms });
            }
            // Terms of all jobs are drawn from one row, so that one whose lease was forgotten does not
            // begin again.
            _ => {
                self.next_term += 1;
                (self.next_term, 0)
            }
        };
        self.leases.insert(job.to_owned(), Lease { holder, term, renewals, until_ms });
        Ok(Outcome::Term(term))
    }

    pub(crate) fn give_lease(&mut self, job: &str, term: u64) -> Result<Outcome, CatalogError> {
        self.check_term(job, term)?;
        self.leases.remove(job);
        Ok(Outcome::Done)
    }

    pub(crate) fn check_term(&self, job: &str, term: u64) -> Result<(), CatalogError> {
        match self.leases.get(job) {
            Some(lease) if lease.term == term => Ok(()),
            _ => Err(CatalogError::LeaseLost { job: job.to_owned(), term }),
        }
    }

    pub(crate) fn apply_under(
        &mut self,
        job: &str,
        term: u64,
        command: &Command,
    ) -> Result<Outcome, CatalogError> {
        self.check_term(job, term)?;
        self.apply(command)
    }

    /// Whether a segment holds rows that are older than a delete. Also one that cannot be read for now: it
    /// may be some day, and what the delete hides of it must not come back then.
    pub(crate) fn has_segments_before(&self, delete: u64) -> bool {
        let segments = self.brokers.values().flat_map(|broker| broker.segments.values());
        let mut segments = segments.chain(self.unread.values());
        segments.any(|segment| segment.deletes_through < delete)
    }

    fn known(&self, id: BrokerId) -> Result<&Broker, CatalogError> {
        self.brokers.get(&id).ok_or(CatalogError::UnknownBroker { broker: id })
    }

    fn in_epoch(&self, id: BrokerId, epoch: u64) -> Result<&Broker, CatalogError> {
        let broker = self.known(id)?;
        if broker.epoch != epoch {
            let reached = broker.epoch;
            return Err(CatalogError::Fenced { broker: id, epoch, reached });
        }
        Ok(broker)
    }
}

/// Whether things are of batches of a segment, ascending.
fn are_batches<T>(of: &[(u32, T)]) -> bool {
    of.windows(2).all(|pair| pair[0].0 < pair[1].0)
        && of.iter().all(|(batch, _)| *batch < MAX_BATCHES_PER_SEGMENT)
}
