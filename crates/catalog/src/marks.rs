//! Through which batch of each agent everything is stored.
//!
//! An agent numbers its batches, and sends one again when it does not know what became of it. Its
//! mark says which of them are stored: what lies at or below it is acknowledged and not stored
//! again. A mark moves in the same frame of the log that holds the samples, so neither is ever
//! there without the other.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use crate::CatalogError;

/// Longest name of an agent, in bytes; certificates allow less.
pub const MAX_AGENT_NAME_BYTES: usize = 256;
/// Incarnations remembered of one agent. A further one makes the longest silent be forgotten.
pub const MAX_INCARNATIONS_PER_AGENT: usize = 8;
/// Incarnations remembered over all agents; about 150 bytes each.
pub const MAX_INCARNATIONS: usize = 1 << 17;
/// Batches remembered above a gap, for each lane. Only damage of the log makes gaps.
const MAX_BEYOND: usize = 1 << 10;

/// Random identity of an agent's spool. A new spool counts its batches from 1 again.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Incarnation(pub [u8; 16]);

impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

impl fmt::Debug for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Each lane of an agent is numbered and ordered on its own. Its number is part of the format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Lane {
    /// What is fresh.
    Live = 1,
    /// What the spool kept while no broker took it.
    Backlog = 2,
}

impl Lane {
    /// All lanes, in the order of their numbers.
    pub const ALL: [Lane; 2] = [Lane::Live, Lane::Backlog];

    /// The word that names the lane in texts and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Lane::Live => "live",
            Lane::Backlog => "backlog",
        }
    }

    pub(crate) fn from_number(number: u64) -> Option<Lane> {
        Lane::ALL.into_iter().find(|lane| *lane as u64 == number)
    }

    fn index(self) -> usize {
        self as usize - 1
    }
}

/// One batch of an agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    /// Name of the agent, as in its certificate.
    pub agent: Arc<str>,
    /// Which spool numbered it.
    pub incarnation: Incarnation,
    /// In which lane.
    pub lane: Lane,
    /// From 1.
    pub seq: u64,
    /// The batch that must be stored before this one; 0 if there is none.
    pub after_seq: u64,
    /// When it was taken, milliseconds since the epoch.
    pub at_ms: i64,
}

impl Mark {
    /// Whether it may ever be applied.
    ///
    /// # Errors
    /// `TooLarge` for a name that is too long, `UnfitMark` for a batch that follows itself or a
    /// later one.
    pub fn check(&self) -> Result<(), CatalogError> {
        let (found, limit) = (self.agent.len(), MAX_AGENT_NAME_BYTES);
        if found > limit {
            let (found, limit) = (found as u64, limit as u64);
            return Err(CatalogError::TooLarge { what: "the name of an agent", found, limit });
        }
        if self.after_seq >= self.seq {
            let (seq, after_seq) = (self.seq, self.after_seq);
            return Err(CatalogError::UnfitMark { seq, after_seq });
        }
        Ok(())
    }
}

/// What a batch is to the marks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Not stored yet; it may be.
    Next,
    /// Stored, or passed over.
    Known,
    /// The batch it follows is not stored: nothing must overtake that one.
    Gap {
        /// Through which batch everything is stored.
        through: u64,
    },
}

/// The marks of one incarnation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LaneMarks {
    /// Through which batch of the live lane everything is stored; 0 if nothing is known.
    pub live_through: u64,
    /// The same of the backlog.
    pub backlog_through: u64,
    /// When the last batch was taken, milliseconds since the epoch.
    pub at_ms: i64,
}

/// All marks.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Marks {
    pub(crate) agents: BTreeMap<Arc<str>, BTreeMap<Incarnation, SpoolMarks>>,
    /// Over all agents.
    pub(crate) incarnations: usize,
}

/// What is known of one incarnation.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct SpoolMarks {
    pub(crate) at_ms: i64,
    /// In the order of [`Lane::ALL`].
    pub(crate) lanes: [LaneMark; 2],
}

/// What is stored of one lane.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct LaneMark {
    /// Everything up to it.
    pub(crate) through: u64,
    /// Batches above a gap, each with the one it follows. A batch is logged only behind the one it
    /// follows, so a gap is a frame that a start found damaged or unfinished: if it was never
    /// acknowledged it comes again, and must not be taken for known.
    pub(crate) beyond: BTreeMap<u64, u64>,
}

impl LaneMark {
    fn standing(&self, mark: &Mark) -> Standing {
        if mark.seq <= self.through || self.beyond.contains_key(&mark.seq) {
            Standing::Known
        } else if mark.after_seq > self.through && !self.beyond.contains_key(&mark.after_seq) {
            Standing::Gap { through: self.through }
        } else {
            Standing::Next
        }
    }

    fn store(&mut self, mark: &Mark) {
        if mark.seq <= self.through {
            return;
        }
        if mark.after_seq > self.through {
            if self.beyond.len() < MAX_BEYOND {
                self.beyond.insert(mark.seq, mark.after_seq);
            }
            return;
        }
        self.through = mark.seq;
        // What waited behind the gap.
        let follows = |through: u64, (&seq, &after_seq): (&u64, &u64)| {
            (seq <= through || after_seq <= through).then_some(seq)
        };
        while let Some(seq) = self.beyond.iter().find_map(|one| follows(self.through, one)) {
            self.beyond.remove(&seq);
            self.through = self.through.max(seq);
        }
    }
}

impl SpoolMarks {
    fn summary(&self) -> LaneMarks {
        let through = |lane: Lane| self.lanes[lane.index()].through;
        LaneMarks {
            live_through: through(Lane::Live),
            backlog_through: through(Lane::Backlog),
            at_ms: self.at_ms,
        }
    }
}

impl Marks {
    pub(crate) fn standing(&self, mark: &Mark) -> Standing {
        let empty = LaneMark::default();
        let spool = self.agents.get(&mark.agent).and_then(|of| of.get(&mark.incarnation));
        spool.map_or(&empty, |spool| &spool.lanes[mark.lane.index()]).standing(mark)
    }

    pub(crate) fn of(&self, agent: &str, incarnation: Incarnation) -> LaneMarks {
        let spool = self.agents.get(agent).and_then(|of| of.get(&incarnation));
        spool.map(SpoolMarks::summary).unwrap_or_default()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Arc<str>, Incarnation, LaneMarks)> {
        self.agents.iter().flat_map(|(agent, of)| {
            of.iter().map(move |(incarnation, spool)| (agent, *incarnation, spool.summary()))
        })
    }

    pub(crate) fn store(&mut self, mark: &Mark) -> Result<(), CatalogError> {
        mark.check()?;
        // Fast path: an incarnation that is known, and no allocation.
        let known = self.agents.get_mut(&mark.agent).and_then(|of| of.get_mut(&mark.incarnation));
        let spool = match known {
            Some(spool) => spool,
            None => self.begin(&mark.agent, mark.incarnation),
        };
        // Clocks of brokers differ: who hears of an agent last does not make it silent for longer.
        spool.at_ms = spool.at_ms.max(mark.at_ms);
        spool.lanes[mark.lane.index()].store(mark);
        Ok(())
    }

    /// Adds an incarnation, and forgets another where there are too many.
    fn begin(&mut self, agent: &Arc<str>, incarnation: Incarnation) -> &mut SpoolMarks {
        let of = self.agents.get(agent);
        if of.is_some_and(|of| of.len() >= MAX_INCARNATIONS_PER_AGENT) {
            self.forget_oldest(|name| name == agent);
        } else if self.incarnations >= MAX_INCARNATIONS {
            self.forget_oldest(|_| true);
        }
        self.incarnations += 1;
        let of = self.agents.entry(Arc::clone(agent)).or_default();
        of.entry(incarnation).or_default()
    }

    fn forget_oldest(&mut self, may_go: impl Fn(&Arc<str>) -> bool) {
        let candidates = self.agents.iter().filter(|(agent, _)| may_go(agent));
        let oldest = candidates
            .flat_map(|(agent, of)| of.iter().map(move |(id, spool)| (spool.at_ms, agent, *id)))
            .min()
            .map(|(_, agent, id)| (Arc::clone(agent), id));
        if let Some((agent, incarnation)) = oldest {
            self.retain(|name, id, _| (name, id) != (&agent, incarnation));
        }
    }

    /// Forgets incarnations that sent nothing since `before_ms`.
    pub(crate) fn expire(&mut self, before_ms: i64) {
        self.retain(|_, _, spool| spool.at_ms >= before_ms);
    }

    fn retain(&mut self, keep: impl Fn(&Arc<str>, Incarnation, &SpoolMarks) -> bool) {
        self.agents.retain(|agent, of| {
            of.retain(|incarnation, spool| keep(agent, *incarnation, spool));
            !of.is_empty()
        });
        self.incarnations = self.agents.values().map(BTreeMap::len).sum();
    }
}
