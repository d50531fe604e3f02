//! A proposal that was sent twice is applied once (the sessions of Ongaro's thesis, 6.3).

use std::collections::{BTreeMap, BTreeSet};

use catalog::{CatalogError, Outcome};
use codec::varint;
use tokio::sync::oneshot;

use crate::bytes_of::{Malformed, Taken};

/// Processes of one member that are told apart: those before them are gone.
const PROCESSES: usize = 4;
/// Most proposals of one process behind its oldest open one; beyond, older ones count as applied.
const WINDOW: usize = 1 << 14;

/// Members that left and whose proposals are still told apart.
const GONE: usize = 64;

/// Which proposal it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    /// The member that proposes.
    pub(crate) origin: u64,
    /// A random number of its process.
    pub(crate) process: u64,
    /// Counts the proposals of the process.
    pub(crate) seq: u64,
    /// Nobody waits for those below any more, so they are not sent again.
    pub(crate) oldest: u64,
}

impl Place {
    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        for number in [self.origin, self.process, self.seq, self.oldest] {
            varint::put_u64(out, number);
        }
    }

    pub(crate) fn take(input: &mut &[u8]) -> Taken<Place> {
        let origin = varint::take_u64(input)?;
        let process = varint::take_u64(input)?;
        let seq = varint::take_u64(input)?;
        let oldest = varint::take_u64(input)?;
        Ok(Place { origin, process, seq, oldest })
    }
}

/// Proposals of this process on their way.
#[derive(Debug, Default)]
pub(crate) struct Waiting {
    next: u64,
    open: BTreeMap<u64, oneshot::Sender<Told>>,
}

/// What a command came to.
pub(crate) type Told = Result<Outcome, CatalogError>;

impl Waiting {
    /// Yields the number of the next proposal and the lowest that is open.
    pub(crate) fn begin(&mut self, told: oneshot::Sender<Told>) -> (u64, u64) {
        let seq = self.next;
        self.next += 1;
        self.open.insert(seq, told);
        (seq, *self.open.first_key_value().expect("one was added").0)
    }

    /// Takes out who waits for a proposal, if anybody does.
    pub(crate) fn end(&mut self, seq: u64) -> Option<oneshot::Sender<Told>> {
        self.open.remove(&seq)
    }
}

/// Which proposals are applied: a part of the state, the same at every member.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Sessions {
    of: BTreeMap<u64, Vec<Session>>,
    /// Those that are members no more, by when they left: what they proposed before may still come
    /// again, and some come back.
    gone: Vec<u64>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Session {
    process: u64,
    /// All below are applied, or never come again.
    below: u64,
    applied: BTreeSet<u64>,
}

impl Sessions {
    /// Whether a proposal is to be applied; from then on it is not.
    pub(crate) fn is_new(&mut self, place: &Place) -> bool {
        let sessions = self.of.entry(place.origin).or_default();
        let at = sessions.iter().position(|session| session.process == place.process);
        let at = at.unwrap_or_else(|| {
            if sessions.len() == PROCESSES {
                sessions.remove(0);
            }
            let process = place.process;
            sessions.push(Session { process, below: 0, applied: BTreeSet::new() });
            sessions.len() - 1
        });
        let session = &mut sessions[at];
        if place.seq < session.below || !session.applied.insert(place.seq) {
            return false;
        }
        if place.oldest > session.below {
            session.below = place.oldest;
            session.applied = session.applied.split_off(&place.oldest);
        }
        while session.applied.len() > WINDOW {
            let first = session.applied.pop_first().expect("there are many");
            session.below = first + 1;
        }
        true
    }

    /// Forgets members that are gone for long.
    pub(crate) fn retain(&mut self, is_member: impl Fn(u64) -> bool) {
        self.gone.retain(|origin| !is_member(*origin));
        for &origin in self.of.keys() {
            if !is_member(origin) && !self.gone.contains(&origin) {
                self.gone.push(origin);
            }
        }
        while self.gone.len() > GONE {
            self.of.remove(&self.gone.remove(0));
        }
    }

    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        varint::put_u64(out, self.of.len() as u64);
        for (origin, sessions) in &self.of {
            varint::put_u64(out, *origin);
            varint::put_u64(out, sessions.len() as u64);
            for session in sessions {
                varint::put_u64(out, session.process);
                varint::put_u64(out, session.below);
                varint::put_u64(out, session.applied.len() as u64);
                for seq in &session.applied {
                    varint::put_u64(out, *seq);
                }
            }
        }
        varint::put_u64(out, self.gone.len() as u64);
        for origin in &self.gone {
            varint::put_u64(out, *origin);
        }
    }

    pub(crate) fn take(input: &mut &[u8]) -> Taken<Sessions> {
        let mut of = BTreeMap::new();
        for _ in 0..varint::take_u64(input)? {
            let origin = varint::take_u64(input)?;
            let mut sessions = Vec::new();
            for _ in 0..varint::take_u64(input)? {
                if sessions.len() == PROCESSES {
                    return Err(Malformed::Shape("more processes than are told apart"));
                }
                let process = varint::take_u64(input)?;
                let below = varint::take_u64(input)?;
                let mut applied = BTreeSet::new();
                for _ in 0..varint::take_u64(input)? {
                    applied.insert(varint::take_u64(input)?);
                }
                sessions.push(Session { process, below, applied });
            }
            of.insert(origin, sessions);
        }
        let mut gone = Vec::new();
        for _ in 0..varint::take_u64(input)? {
            if gone.len() == GONE {
                return Err(Malformed::Shape("more members that are gone than are remembered"));
            }
            gone.push(varint::take_u64(input)?);
        }
        Ok(Sessions { of, gone })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(process: u64, seq: u64, oldest: u64) -> Place {
        Place { origin: 1, process, seq, oldest }
    }

    #[test]
    fn each_is_applied_once_in_any_order() {
        let mut sessions = Sessions::default();
        for seq in [0, 2, 1, 5] {
            assert!(sessions.is_new(&place(9, seq, 0)));
            assert!(!sessions.is_new(&place(9, seq, 0)));
        }
        // Below the oldest that anybody waits for nothing is new.
        assert!(sessions.is_new(&place(9, 7, 6)));
        assert!(!sessions.is_new(&place(9, 3, 0)));
        assert!(sessions.is_new(&place(9, 6, 6)));
        // Another process counts for itself.
        assert!(sessions.is_new(&place(10, 0, 0)));
        let mut bytes = Vec::new();
        sessions.put(&mut bytes);
        assert_eq!(Sessions::take(&mut &bytes[..]), Ok(sessions));
    }

    #[test]
    fn who_leaves_and_comes_back_is_known() {
        let mut sessions = Sessions::default();
        for origin in 0..100 {
            assert!(sessions.is_new(&Place { origin, ..place(9, 3, 0) }));
        }
        sessions.retain(|origin| origin != 1);
        assert!(!sessions.is_new(&place(9, 3, 0)));
        let mut bytes = Vec::new();
        sessions.put(&mut bytes);
        assert_eq!(Sessions::take(&mut &bytes[..]), Ok(sessions.clone()));
        sessions.retain(|_| true);
        assert!(sessions.gone.is_empty());
        assert!(!sessions.is_new(&place(9, 3, 0)));
        sessions.retain(|_| false);
        assert_eq!((sessions.of.len(), sessions.gone.len()), (GONE, GONE));
    }

    #[test]
    fn memory_is_bounded() {
        let mut sessions = Sessions::default();
        for seq in 0..2 * WINDOW as u64 {
            assert!(sessions.is_new(&place(1, seq, 0)));
        }
        for process in 2..20 {
            assert!(sessions.is_new(&place(process, 0, 0)));
        }
        let of_one = &sessions.of[&1];
        assert_eq!(of_one.len(), PROCESSES);
        assert!(of_one.iter().all(|session| session.applied.len() <= WINDOW));
    }
}
