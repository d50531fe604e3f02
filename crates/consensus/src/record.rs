//! What the log of a member holds, and the records that change it.

use std::collections::BTreeMap;

use bytes::Bytes;
use codec::varint;

use crate::bytes_of::{
    Malformed, put_entry, put_log_id, put_option, put_vote, take_entry, take_log_id, take_option,
    take_vote,
};
use crate::types::{Entry, LogId, Vote};

/// An entry as it lies in memory: its bytes, a fraction of what it takes when it is taken apart, and
/// so that memory can be counted.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Held {
    pub(crate) log_id: LogId,
    pub(crate) bytes: Bytes,
}

impl Held {
    pub(crate) fn new(entry: &Entry) -> Held {
        let mut bytes = Vec::new();
        put_entry(&mut bytes, entry);
        Held { log_id: entry.log_id, bytes: bytes.into() }
    }

    pub(crate) fn entry(&self) -> Result<Entry, Malformed> {
        take_entry(&mut &self.bytes[..])
    }
}

/// What the journal holds, in memory.
#[derive(Debug, Default, Clone, PartialEq)]
pub(crate) struct Contents {
    /// A random number that the journal got when it was begun: one that was lost and begun again
    /// has another.
    pub(crate) incarnation: u64,
    pub(crate) vote: Option<Vote>,
    pub(crate) committed: Option<LogId>,
    pub(crate) purged: Option<LogId>,
    /// By index, without gaps, from behind what was purged.
    entries: BTreeMap<u64, Held>,
    /// Of all entries.
    size_bytes: u64,
}

impl Contents {
    /// The last entry, or the last that was purged.
    pub(crate) fn last(&self) -> Option<LogId> {
        self.entries.last_key_value().map(|(_, held)| held.log_id).or(self.purged)
    }

    pub(crate) fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    pub(crate) fn entries(
        &self,
        range: impl std::ops::RangeBounds<u64>,
    ) -> impl Iterator<Item = &Held> {
        self.entries.range(range).map(|(_, held)| held)
    }

    /// The first index from which on all entries are no more than so many bytes together.
    pub(crate) fn last_within(&self, most_bytes: u64) -> u64 {
        let mut from = self.last().map_or(0, |last| last.index + 1);
        let mut size_bytes = 0;
        for (index, held) in self.entries.iter().rev() {
            size_bytes += held.bytes.len() as u64;
            if size_bytes > most_bytes {
                break;
            }
            from = *index;
        }
        from
    }

    /// Adds entries behind the last.
    pub(crate) fn extend(&mut self, added: impl Iterator<Item = Held>) {
        for held in added {
            self.size_bytes += held.bytes.len() as u64;
            self.entries.insert(held.log_id.index, held);
        }
    }

    /// Forgets the entries from `index` on.
    pub(crate) fn cut_from(&mut self, index: u64) {
        let cut = self.entries.split_off(&index);
        self.size_bytes -= size_of(&cut);
    }

    /// Forgets the entries through an index.
    pub(crate) fn purge(&mut self, through: Option<LogId>) {
        if let Some(through) = through.filter(|id| Some(*id) > self.purged) {
            let kept = self.entries.split_off(&(through.index + 1));
            let purged = std::mem::replace(&mut self.entries, kept);
            self.size_bytes -= size_of(&purged);
            self.purged = Some(through);
        }
    }

    pub(crate) fn apply(&mut self, record: Record) -> Result<(), Malformed> {
        match record {
            Record::Begin { incarnation, vote, committed, purged } => {
                if self.incarnation != 0 && self.incarnation != incarnation {
                    return Err(Malformed::Shape("it is a file of another journal"));
                }
                self.incarnation = incarnation;
                self.vote = vote;
                self.committed = committed.max(self.committed);
                self.purge(purged);
            }
            Record::Vote(vote) => self.vote = Some(vote),
            Record::Committed(id) => self.committed = id.max(self.committed),
            Record::Entry(held) => {
                let index = held.log_id.index;
                if self.purged.is_some_and(|purged| index <= purged.index) {
                    return Ok(());
                }
                let next = self.last().map_or(index, |last| last.index + 1);
                if index != next {
                    return Err(Malformed::Shape("an entry does not follow the one before"));
                }
                self.extend(std::iter::once(held));
            }
            Record::CutFrom(index) => self.cut_from(index),
            Record::Purged(id) => self.purge(Some(id)),
        }
        Ok(())
    }
}

fn size_of(entries: &BTreeMap<u64, Held>) -> u64 {
    entries.values().map(|held| held.bytes.len() as u64).sum()
}

/// One change.
#[derive(Debug, Clone)]
pub(crate) enum Record {
    /// In front of every file.
    Begin {
        incarnation: u64,
        vote: Option<Vote>,
        committed: Option<LogId>,
        purged: Option<LogId>,
    },
    /// Synced before anybody hears of it.
    Vote(Vote),
    Entry(Held),
    /// All entries from this index on are gone.
    CutFrom(u64),
    /// All entries through this one are in a snapshot.
    Purged(LogId),
    /// How far entries are known to be agreed upon; a hint, never synced for its own sake.
    Committed(Option<LogId>),
}

impl Record {
    /// Roughly.
    pub(crate) fn size_bytes(&self) -> usize {
        match self {
            Record::Entry(held) => held.bytes.len(),
            _ => 0,
        }
    }

    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        match self {
            Record::Begin { incarnation, vote, committed, purged } => {
                out.push(1);
                varint::put_u64(out, *incarnation);
                put_option(out, vote.as_ref(), put_vote);
                put_option(out, committed.as_ref(), put_log_id);
                put_option(out, purged.as_ref(), put_log_id);
            }
            Record::Vote(vote) => {
                out.push(2);
                put_vote(out, vote);
            }
            Record::Entry(held) => {
                out.push(3);
                out.extend_from_slice(&held.bytes);
            }
            Record::CutFrom(index) => {
                out.push(4);
                varint::put_u64(out, *index);
            }
            Record::Purged(id) => {
                out.push(5);
                put_log_id(out, id);
            }
            Record::Committed(id) => {
                out.push(6);
                put_option(out, id.as_ref(), put_log_id);
            }
        }
    }

    /// Takes one from the front.
    pub(crate) fn take(input: &mut &[u8]) -> Result<Record, Malformed> {
        let (&kind, rest) = input.split_first().ok_or(Malformed::Shape("an empty record"))?;
        *input = rest;
        Ok(match kind {
            1 => Record::Begin {
                incarnation: varint::take_u64(input)?,
                vote: take_option(input, take_vote)?,
                committed: take_option(input, take_log_id)?,
                purged: take_option(input, take_log_id)?,
            },
            2 => Record::Vote(take_vote(input)?),
            3 => {
                let log_id = take_entry(input)?.log_id;
                let bytes = Bytes::copy_from_slice(&rest[..rest.len() - input.len()]);
                Record::Entry(Held { log_id, bytes })
            }
            4 => Record::CutFrom(varint::take_u64(input)?),
            5 => Record::Purged(take_log_id(input)?),
            6 => Record::Committed(take_option(input, take_log_id)?),
            _ => return Err(Malformed::Shape("a record of an unknown kind")),
        })
    }
}
