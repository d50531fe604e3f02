//! Entries, votes and memberships as bytes: in the journal, in snapshots and on the wire. Drawn in
//! `docs/formats/consensus.md`.

use std::collections::{BTreeMap, BTreeSet};

use catalog::{CatalogError, Command};
use codec::{CodecError, varint};
use openraft::{CommittedLeaderId, EntryPayload, LeaderId};

use crate::sessions::Place;
use crate::types::{Entry, LogId, Member, Membership, Proposal, Seat, StoredMembership, Vote};

/// Why bytes are not what they should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// A number or a length is damaged.
    #[error(transparent)]
    Codec(#[from] CodecError),
    /// The command inside is damaged, or of a newer program.
    #[error(transparent)]
    Command(#[from] CatalogError),
    /// Something else.
    #[error("{0}")]
    Shape(&'static str),
}

pub(crate) type Taken<T> = Result<T, Malformed>;

/// Most members, voters or learners, that bytes may speak of.
const MAX_MEMBERS: u64 = 10_000;
/// A joint membership has two.
const MAX_CONFIGS: u64 = 8;

pub(crate) fn put_vote(out: &mut Vec<u8>, vote: &Vote) {
    varint::put_u64(out, vote.leader_id.term);
    // Shifted by one: 0 says that nobody was voted for.
    varint::put_u64(out, vote.leader_id.voted_for.map_or(0, |id| id.saturating_add(1)));
    out.push(u8::from(vote.committed));
}

pub(crate) fn take_vote(input: &mut &[u8]) -> Taken<Vote> {
    let term = varint::take_u64(input)?;
    let voted_for = varint::take_u64(input)?.checked_sub(1);
    let committed = take_flag(input)?;
    if voted_for.is_none() && committed {
        return Err(Malformed::Shape("a vote for nobody is committed"));
    }
    Ok(Vote { leader_id: LeaderId { term, voted_for }, committed })
}

pub(crate) fn put_log_id(out: &mut Vec<u8>, id: &LogId) {
    varint::put_u64(out, id.leader_id.term);
    varint::put_u64(out, id.index);
}

pub(crate) fn take_log_id(input: &mut &[u8]) -> Taken<LogId> {
    let term = varint::take_u64(input)?;
    let index = varint::take_u64(input)?;
    Ok(LogId::new(CommittedLeaderId::new(term, 0), index))
}

pub(crate) fn put_option<T>(
    out: &mut Vec<u8>,
    value: Option<&T>,
    put: impl FnOnce(&mut Vec<u8>, &T),
) {
    out.push(u8::from(value.is_some()));
    if let Some(value) = value {
        put(out, value);
    }
}

pub(crate) fn take_option<T>(
    input: &mut &[u8],
    take: impl FnOnce(&mut &[u8]) -> Taken<T>,
) -> Taken<Option<T>> {
    take_flag(input)?.then(|| take(input)).transpose()
}

pub(crate) fn take_flag(input: &mut &[u8]) -> Taken<bool> {
    match take_byte(input)? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(Malformed::Shape("a flag is neither 0 nor 1")),
    }
}

pub(crate) fn take_byte(input: &mut &[u8]) -> Taken<u8> {
    Ok(varint::take_bytes(input, 1)?[0])
}

pub(crate) fn put_entry(out: &mut Vec<u8>, entry: &Entry) {
    put_log_id(out, &entry.log_id);
    match &entry.payload {
        EntryPayload::Blank => out.push(0),
        EntryPayload::Normal(proposal) => {
            out.push(1);
            put_proposal(out, proposal);
        }
        EntryPayload::Membership(membership) => {
            out.push(2);
            put_membership(out, membership);
        }
    }
}

pub(crate) fn take_entry(input: &mut &[u8]) -> Taken<Entry> {
    let log_id = take_log_id(input)?;
    let payload = match take_byte(input)? {
        0 => EntryPayload::Blank,
        1 => EntryPayload::Normal(take_proposal(input)?),
        2 => EntryPayload::Membership(take_membership(input)?),
        _ => return Err(Malformed::Shape("an entry of an unknown kind")),
    };
    Ok(Entry { log_id, payload })
}

pub(crate) fn put_proposal(out: &mut Vec<u8>, proposal: &Proposal) {
    proposal.place.put(out);
    let mut command = Vec::new();
    proposal.command.encode_at(proposal.version, &mut command);
    varint::put_bytes(out, &command);
}

pub(crate) fn take_proposal(input: &mut &[u8]) -> Taken<Proposal> {
    let place = Place::take(input)?;
    let sealed = varint::take_prefixed(input)?;
    let command = Command::decode(sealed)?;
    let version = sealed.first().copied().unwrap_or_default();
    Ok(Proposal { place, version, command })
}

pub(crate) fn put_seat(out: &mut Vec<u8>, seat: &Seat) {
    let Seat { member, incarnation } = seat;
    varint::put_u64(out, *incarnation);
    for text in [&member.name, &member.address, &member.zone] {
        varint::put_bytes(out, text.as_bytes());
    }
}

pub(crate) fn take_seat(input: &mut &[u8]) -> Taken<Seat> {
    let incarnation = varint::take_u64(input)?;
    let (name, address, zone) = (take_text(input)?, take_text(input)?, take_text(input)?);
    Ok(Seat { member: Member { name, address, zone }, incarnation })
}

pub(crate) fn take_text(input: &mut &[u8]) -> Taken<String> {
    let bytes = varint::take_prefixed(input)?;
    let text = std::str::from_utf8(bytes).map_err(|_| Malformed::Shape("a text is not UTF-8"))?;
    Ok(text.to_owned())
}

pub(crate) fn put_membership(out: &mut Vec<u8>, membership: &Membership) {
    let configs = membership.get_joint_config();
    varint::put_u64(out, configs.len() as u64);
    for config in configs {
        varint::put_u64(out, config.len() as u64);
        for &id in config {
            varint::put_u64(out, id);
        }
    }
    let nodes: Vec<_> = membership.nodes().collect();
    varint::put_u64(out, nodes.len() as u64);
    for (&id, seat) in nodes {
        varint::put_u64(out, id);
        put_seat(out, seat);
    }
}

pub(crate) fn take_membership(input: &mut &[u8]) -> Taken<Membership> {
    let mut configs = Vec::new();
    for _ in 0..take_count(input, MAX_CONFIGS)? {
        let mut config = BTreeSet::new();
        for _ in 0..take_count(input, MAX_MEMBERS)? {
            config.insert(varint::take_u64(input)?);
        }
        configs.push(config);
    }
    let mut nodes = BTreeMap::new();
    for _ in 0..take_count(input, MAX_MEMBERS)? {
        let id = varint::take_u64(input)?;
        nodes.insert(id, take_seat(input)?);
    }
    if configs.iter().flatten().any(|id| !nodes.contains_key(id)) {
        return Err(Malformed::Shape("a voter is no member"));
    }
    Ok(Membership::new(configs, nodes))
}

pub(crate) fn put_stored_membership(out: &mut Vec<u8>, stored: &StoredMembership) {
    put_option(out, stored.log_id().as_ref(), put_log_id);
    put_membership(out, stored.membership());
}

pub(crate) fn take_stored_membership(input: &mut &[u8]) -> Taken<StoredMembership> {
    let log_id = take_option(input, take_log_id)?;
    Ok(StoredMembership::new(log_id, take_membership(input)?))
}

fn take_count(input: &mut &[u8], most: u64) -> Taken<u64> {
    match varint::take_u64(input)? {
        count if count <= most => Ok(count),
        _ => Err(Malformed::Shape("more members than there can be")),
    }
}
