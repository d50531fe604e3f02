//! What members say to each other, and its bytes.

use bytes::Bytes;
use codec::varint;
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, VoteRequest, VoteResponse,
};
use openraft::storage::SnapshotMeta;

use crate::bytes_of::{
    Malformed, put_entry, put_log_id, put_option, put_proposal, put_seat, put_stored_membership,
    put_vote, take_byte, take_entry, take_flag, take_log_id, take_option, take_proposal, take_seat,
    take_stored_membership, take_text, take_vote,
};
use crate::types::{LogId, Proposal, Seat, Types, Vote};

/// What a member asks another.
#[derive(Debug)]
pub(crate) enum Request {
    Append(AppendEntriesRequest<Types>),
    Vote(VoteRequest<u64>),
    /// Whether it would vote for the sender, whose last entry that is.
    WouldVote {
        last: Option<LogId>,
    },
    /// A part of a snapshot, in order; the answer says how much there is of it now.
    SnapshotPart {
        vote: Vote,
        id: String,
        offset: u64,
        bytes: Vec<u8>,
    },
    /// All parts were sent: it is to be installed.
    Snapshot {
        vote: Vote,
        meta: SnapshotMeta<u64, Seat>,
        size_bytes: u64,
    },
    /// For the leader.
    Propose(Proposal),
    /// For the leader: through which entry everything is agreed upon by now.
    ReadIndex,
    /// For the leader: to take a member in that does not vote yet.
    Admit {
        id: u64,
        seat: Seat,
    },
    /// For the leader: to let a member go.
    Dismiss {
        id: u64,
    },
    /// For a voter, by who led in this term and leads no more: to stand for election at once.
    Lead {
        term: u64,
    },
}

/// Its answer.
#[derive(Debug)]
pub(crate) enum Response {
    Append(AppendEntriesResponse<u64>),
    Vote(VoteResponse<u64>),
    /// Also whether it stands for election.
    WouldVote(bool),
    Snapshot(SnapshotResponse<u64>),
    /// So many bytes of the snapshot are there.
    SnapshotParts(u64),
    /// It is agreed upon, as this entry; who proposed it hears more from its own state.
    Proposed(u64),
    ReadIndex(u64),
    Admitted,
    Dismissed,
    /// Another one leads, if that is known.
    NotLeader(Option<u64>),
    /// In words.
    Failed(String),
}

impl Request {
    /// For the member with the log `incarnation` only; 0 for whoever it is.
    pub(crate) fn encode(&self, incarnation: u64) -> Bytes {
        let mut out = Vec::new();
        varint::put_u64(&mut out, incarnation);
        match self {
            Request::Append(request) => {
                out.push(1);
                put_vote(&mut out, &request.vote);
                put_option(&mut out, request.prev_log_id.as_ref(), put_log_id);
                put_option(&mut out, request.leader_commit.as_ref(), put_log_id);
                varint::put_u64(&mut out, request.entries.len() as u64);
                for entry in &request.entries {
                    put_entry(&mut out, entry);
                }
            }
            Request::Vote(request) => {
                out.push(2);
                put_vote(&mut out, &request.vote);
                put_option(&mut out, request.last_log_id.as_ref(), put_log_id);
            }
            Request::WouldVote { last } => {
                out.push(3);
                put_option(&mut out, last.as_ref(), put_log_id);
            }
            Request::Snapshot { vote, meta, size_bytes } => {
                out.push(4);
                put_vote(&mut out, vote);
                put_option(&mut out, meta.last_log_id.as_ref(), put_log_id);
                put_stored_membership(&mut out, &meta.last_membership);
                varint::put_bytes(&mut out, meta.snapshot_id.as_bytes());
                varint::put_u64(&mut out, *size_bytes);
            }
            Request::SnapshotPart { vote, id, offset, bytes } => {
                out.push(8);
                put_vote(&mut out, vote);
                varint::put_bytes(&mut out, id.as_bytes());
                varint::put_u64(&mut out, *offset);
                varint::put_bytes(&mut out, bytes);
            }
            Request::Propose(proposal) => {
                out.push(5);
                put_proposal(&mut out, proposal);
            }
            Request::ReadIndex => out.push(6),
            Request::Admit { id, seat } => {
                out.push(7);
                varint::put_u64(&mut out, *id);
                put_seat(&mut out, seat);
            }
            Request::Dismiss { id } => {
                out.push(9);
                varint::put_u64(&mut out, *id);
            }
            Request::Lead { term } => {
                out.push(10);
                varint::put_u64(&mut out, *term);
            }
        }
        out.into()
    }

    /// Yields whom it is for as well.
    pub(crate) fn decode(mut input: &[u8]) -> Result<(u64, Request), Malformed> {
        let input = &mut input;
        let incarnation = varint::take_u64(input)?;
        let request = match take_byte(input)? {
            1 => {
                let vote = take_vote(input)?;
                let prev_log_id = take_option(input, take_log_id)?;
                let leader_commit = take_option(input, take_log_id)?;
                let mut entries = Vec::new();
                for _ in 0..varint::take_u64(input)? {
                    entries.push(take_entry(input)?);
                }
                Request::Append(AppendEntriesRequest { vote, prev_log_id, entries, leader_commit })
            }
            2 => {
                let vote = take_vote(input)?;
                Request::Vote(VoteRequest { vote, last_log_id: take_option(input, take_log_id)? })
            }
            3 => Request::WouldVote { last: take_option(input, take_log_id)? },
            4 => {
                let vote = take_vote(input)?;
                let last_log_id = take_option(input, take_log_id)?;
                let last_membership = take_stored_membership(input)?;
                let snapshot_id = take_text(input)?;
                let size_bytes = varint::take_u64(input)?;
                let meta = SnapshotMeta { last_log_id, last_membership, snapshot_id };
                Request::Snapshot { vote, meta, size_bytes }
            }
            5 => Request::Propose(take_proposal(input)?),
            6 => Request::ReadIndex,
            7 => Request::Admit { id: varint::take_u64(input)?, seat: take_seat(input)? },
            8 => Request::SnapshotPart {
                vote: take_vote(input)?,
                id: take_text(input)?,
                offset: varint::take_u64(input)?,
                bytes: varint::take_prefixed(input)?.to_vec(),
            },
            9 => Request::Dismiss { id: varint::take_u64(input)? },
            10 => Request::Lead { term: varint::take_u64(input)? },
            _ => return Err(Malformed::Shape("a request of an unknown kind")),
        };
        match input.is_empty() {
            true => Ok((incarnation, request)),
            false => Err(Malformed::Shape("bytes follow a request")),
        }
    }
}

impl Response {
    /// Whether these are the bytes of a [`Response::Failed`].
    pub(crate) fn is_failure(bytes: &[u8]) -> bool {
        bytes.first() == Some(&9)
    }

    pub(crate) fn encode(&self) -> Bytes {
        let mut out = Vec::new();
        match self {
            Response::Append(response) => {
                out.push(1);
                match response {
                    AppendEntriesResponse::Success => out.push(0),
                    AppendEntriesResponse::PartialSuccess(through) => {
                        out.push(1);
                        put_option(&mut out, through.as_ref(), put_log_id);
                    }
                    AppendEntriesResponse::Conflict => out.push(2),
                    AppendEntriesResponse::HigherVote(vote) => {
                        out.push(3);
                        put_vote(&mut out, vote);
                    }
                }
            }
            Response::Vote(response) => {
                out.push(2);
                put_vote(&mut out, &response.vote);
                out.push(u8::from(response.vote_granted));
                put_option(&mut out, response.last_log_id.as_ref(), put_log_id);
            }
            Response::WouldVote(would) => {
                out.push(3);
                out.push(u8::from(*would));
            }
            Response::Snapshot(response) => {
                out.push(4);
                put_vote(&mut out, &response.vote);
            }
            Response::Proposed(index) => {
                out.push(5);
                varint::put_u64(&mut out, *index);
            }
            Response::ReadIndex(index) => {
                out.push(6);
                varint::put_u64(&mut out, *index);
            }
            Response::Admitted => out.push(7),
            Response::Dismissed => out.push(11),
            Response::SnapshotParts(size_bytes) => {
                out.push(10);
                varint::put_u64(&mut out, *size_bytes);
            }
            Response::NotLeader(leader) => {
                out.push(8);
                put_option(&mut out, leader.as_ref(), |out, id| varint::put_u64(out, *id));
            }
            Response::Failed(reason) => {
                out.push(9);
                varint::put_bytes(&mut out, reason.as_bytes());
            }
        }
        out.into()
    }

    pub(crate) fn decode(mut input: &[u8]) -> Result<Response, Malformed> {
        let input = &mut input;
        let response = match take_byte(input)? {
            1 => Response::Append(match take_byte(input)? {
                0 => AppendEntriesResponse::Success,
                1 => AppendEntriesResponse::PartialSuccess(take_option(input, take_log_id)?),
                2 => AppendEntriesResponse::Conflict,
                3 => AppendEntriesResponse::HigherVote(take_vote(input)?),
                _ => return Err(Malformed::Shape("an answer of an unknown kind")),
            }),
            2 => {
                let vote = take_vote(input)?;
                let vote_granted = take_flag(input)?;
                let last_log_id = take_option(input, take_log_id)?;
                Response::Vote(VoteResponse { vote, vote_granted, last_log_id })
            }
            3 => Response::WouldVote(take_flag(input)?),
            4 => Response::Snapshot(SnapshotResponse { vote: take_vote(input)? }),
            5 => Response::Proposed(varint::take_u64(input)?),
            6 => Response::ReadIndex(varint::take_u64(input)?),
            7 => Response::Admitted,
            8 => Response::NotLeader(take_option(input, |input| Ok(varint::take_u64(input)?))?),
            9 => Response::Failed(take_text(input)?),
            10 => Response::SnapshotParts(varint::take_u64(input)?),
            11 => Response::Dismissed,
            _ => return Err(Malformed::Shape("an answer of an unknown kind")),
        };
        match input.is_empty() {
            true => Ok(response),
            false => Err(Malformed::Shape("bytes follow an answer")),
        }
    }
}
