//! Commands: everything that may happen to the catalog.

use codec::varint;

use crate::envelope::{self, Fields, put_id, put_list, put_new_block, put_position, put_tombstone};
use crate::{
    BlockId, BrokerId, BrokerInfo, CatalogError, Incarnation, Lane, LeaseClaim, LogPosition, Mark,
    NewBlock, NewSegment, StoreId, Tombstone, cluster_bytes,
};

/// One change of the state, all or nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Gives the store its identity, once.
    CreateStore {
        /// Random.
        store: StoreId,
    },
    /// Hands out ids for blocks that are about to be written, so that two writers never write the
    /// same blob.
    ReserveIds {
        /// How many.
        count: u64,
    },
    /// Adds the blocks of a flush, and says that the log before a position is no longer needed.
    Flush {
        /// What was written; empty if only the position moves.
        added: Vec<NewBlock>,
        /// All frames before it are in blocks.
        flushed_through: LogPosition,
        /// The last delete before that position: this one and those before it are done in the
        /// blocks, all later ones are younger than what is in them.
        deletes_through: u64,
    },
    /// Replaces blocks of one tenant and signal by what they were merged into.
    Swap {
        /// What was merged.
        removed: Vec<BlockId>,
        /// The outcome; empty if nothing was left.
        added: Vec<NewBlock>,
        /// Deletes up to this number are done in the outcome.
        deletes_through: u64,
    },
    /// Forgets blocks whose retention is over, quarantined ones too.
    Expire {
        /// Which.
        removed: Vec<BlockId>,
    },
    /// Takes a damaged block out of the manifest, and remembers that answers in its range are
    /// partial.
    Quarantine {
        /// Which.
        block: BlockId,
    },
    /// Writes a key of the versioned key space.
    Put {
        /// At most [`crate::MAX_KEY_BYTES`].
        key: String,
        /// At most [`crate::MAX_VALUE_BYTES`].
        value: Vec<u8>,
        /// What the writer believes to replace.
        expected: Expected,
    },
    /// Removes a key; removing an absent one is no error unless a version was expected.
    Delete {
        /// The key.
        key: String,
        /// What the writer believes to remove.
        expected: Expected,
    },
    /// Notes that a batch of an agent is stored, or passed over. It stands in one frame with the
    /// samples. The one command that does not count in [`crate::State::version`]: a start applies
    /// it together with the samples, after the other commands.
    Mark(Mark),
    /// Forgets the marks of incarnations that sent nothing for long.
    ExpireMarks {
        /// Nothing since then, milliseconds since the epoch.
        before_ms: i64,
    },
    /// Hides rows that were committed before.
    DeleteRows(Tombstone),
    /// Says that blocks hold no row which a delete up to a number hides.
    SettleDeletes {
        /// Which blocks.
        blocks: Vec<BlockId>,
        /// Up to which delete.
        deletes_through: u64,
    },
    /// Takes a broker into the cluster, or notes what it says of itself now.
    SetBroker {
        /// Which.
        broker: BrokerId,
        /// What it says.
        info: Box<BrokerInfo>,
    },
    /// Forgets a broker that has nothing left that is in no block.
    RemoveBroker {
        /// Which.
        broker: BrokerId,
    },
    /// Begins the next epoch of a broker's log: what the one before adds from now on is refused, and the
    /// leases that the broker held are over.
    BeginLog {
        /// Whose.
        broker: BrokerId,
    },
    /// Says that a segment is durable in the store: from here on it is stored.
    AddSegment(Box<NewSegment>),
    /// Adds the blocks of a flush of a broker's segments.
    FlushLog {
        /// Whose.
        broker: BrokerId,
        /// In which epoch.
        epoch: u64,
        /// All segments below this number are in blocks.
        through: u64,
        /// What was written.
        added: Vec<NewBlock>,
        /// As in [`Command::Flush`].
        deletes_through: u64,
        /// All segments below that number which could not be read, also those that earlier flushes named:
        /// their rows are in no block, and they stay known as missing.
        unread: Vec<u64>,
    },
    /// Takes a job, or keeps it for longer.
    TakeLease {
        /// Which.
        job: String,
        /// Who wants it.
        holder: BrokerId,
        /// By what right. Only how soon another one gets it depends on clocks, never that two have it.
        claim: LeaseClaim,
        /// Until when, by the proposer's clock: for people.
        until_ms: i64,
    },
    /// Gives a job back.
    GiveLease {
        /// Which.
        job: String,
        /// Under which term it was held.
        term: u64,
    },
    /// Does something only if a lease is still held.
    Under {
        /// Of which job.
        job: String,
        /// Under which term.
        term: u64,
        /// What; not another of this kind.
        command: Box<Command>,
    },
    /// Refuses blocks with ids below one from now on, so that those in the store which are not listed
    /// can be removed: who was about to add one writes it again.
    RetireBlocks {
        /// The first that is not refused; one that was handed out, or the next.
        below: BlockId,
    },
    /// Adds blocks that come from another store.
    AddBlocks {
        /// Which; as blocks of one flush, later than all others.
        added: Vec<NewBlock>,
        /// Deletes up to this number hide nothing of them: they came after those.
        deletes_through: u64,
    },
    /// Lists a block again that was quarantined and can be read by now. It takes its place in the order of
    /// commits again, or the last one if blocks were merged meanwhile between which it lay.
    Restore {
        /// Which.
        block: BlockId,
    },
    /// Adds the blocks of segments that can be read again.
    FlushUnread {
        /// Whose.
        broker: BrokerId,
        /// Their numbers.
        seqs: Vec<u64>,
        /// What was written.
        added: Vec<NewBlock>,
        /// As in [`Command::Flush`].
        deletes_through: u64,
    },
    /// Forgets segments that could not be read and whose retention is over.
    ForgetUnread {
        /// Which.
        segments: Vec<(BrokerId, u64)>,
    },
}

/// What a writer of a key expects to find. A write that finds something else is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    /// Anything.
    Any,
    /// No such key.
    Absent,
    /// The key with this version, see [`crate::KeyValue::version`].
    Version(u64),
}

impl Command {
    /// Appends the command's bytes.
    pub fn encode(&self, out: &mut Vec<u8>) {
        self.encode_at(envelope::FORMAT_VERSION, out);
    }

    /// As [`Command::encode`], in a version that others read, see [`crate::format_version`].
    pub fn encode_at(&self, version: u8, out: &mut Vec<u8>) {
        envelope::seal(out, version, |out| self.put(out, version));
    }

    /// Reads a command back; `bytes` is one command and nothing else.
    ///
    /// # Errors
    /// `Corrupt`, `NewerVersion`.
    pub fn decode(bytes: &[u8]) -> Result<Command, CatalogError> {
        envelope::unseal(bytes, Command::take)
    }

    fn put(&self, out: &mut Vec<u8>, version: u8) {
        match self {
            Command::CreateStore { store } => {
                varint::put_u64(out, 1);
                out.extend_from_slice(&store.0);
            }
            Command::ReserveIds { count } => {
                varint::put_u64(out, 2);
                varint::put_u64(out, *count);
            }
            Command::Flush { added, flushed_through, deletes_through } => {
                varint::put_u64(out, 3);
                put_position(out, *flushed_through);
                put_list(out, added.iter(), put_new_block);
                varint::put_u64(out, *deletes_through);
            }
            Command::Swap { removed, added, deletes_through } => {
                varint::put_u64(out, 4);
                put_list(out, removed.iter(), put_id);
                put_list(out, added.iter(), put_new_block);
                varint::put_u64(out, *deletes_through);
            }
            Command::Expire { removed } => {
                varint::put_u64(out, 5);
                put_list(out, removed.iter(), put_id);
            }
            Command::Quarantine { block } => {
                varint::put_u64(out, 6);
                put_id(out, block);
            }
            Command::Put { key, value, expected } => {
                varint::put_u64(out, 7);
                varint::put_bytes(out, key.as_bytes());
                varint::put_bytes(out, value);
                expected.put(out);
            }
            Command::Delete { key, expected } => {
                varint::put_u64(out, 8);
                varint::put_bytes(out, key.as_bytes());
                expected.put(out);
            }
            Command::Mark(mark) => {
                varint::put_u64(out, 9);
                put_mark(out, mark);
            }
            Command::ExpireMarks { before_ms } => {
                varint::put_u64(out, 10);
                varint::put_i64(out, *before_ms);
            }
            Command::DeleteRows(tombstone) => {
                varint::put_u64(out, 11);
                put_tombstone(out, tombstone);
            }
            Command::SettleDeletes { blocks, deletes_through } => {
                varint::put_u64(out, 12);
                put_list(out, blocks.iter(), put_id);
                varint::put_u64(out, *deletes_through);
            }
            Command::SetBroker { broker, info } => {
                varint::put_u64(out, 13);
                varint::put_u64(out, broker.0);
                cluster_bytes::put_info(out, info);
            }
            Command::RemoveBroker { broker } => {
                varint::put_u64(out, 14);
                varint::put_u64(out, broker.0);
            }
            Command::BeginLog { broker } => {
                varint::put_u64(out, 15);
                varint::put_u64(out, broker.0);
            }
            Command::AddSegment(segment) => {
                varint::put_u64(out, 16);
                cluster_bytes::put_new_segment(out, segment, version);
            }
            Command::FlushLog { broker, epoch, through, added, deletes_through, unread } => {
                varint::put_u64(out, 17);
                varint::put_u64(out, broker.0);
                varint::put_u64(out, *epoch);
                varint::put_u64(out, *through);
                put_list(out, added.iter(), put_new_block);
                varint::put_u64(out, *deletes_through);
                put_list(out, unread.iter(), |out, seq| varint::put_u64(out, *seq));
            }
            Command::TakeLease { job, holder, claim, until_ms } => {
                varint::put_u64(out, 18);
                varint::put_bytes(out, job.as_bytes());
                varint::put_u64(out, holder.0);
                cluster_bytes::put_claim(out, *claim);
                varint::put_i64(out, *until_ms);
            }
            Command::GiveLease { job, term } => {
                varint::put_u64(out, 19);
                varint::put_bytes(out, job.as_bytes());
                varint::put_u64(out, *term);
            }
            Command::Under { job, term, command } => {
                varint::put_u64(out, 20);
                varint::put_bytes(out, job.as_bytes());
                varint::put_u64(out, *term);
                command.put(out, version);
            }
            Command::RetireBlocks { below } => {
                varint::put_u64(out, 21);
                put_id(out, below);
            }
            Command::AddBlocks { added, deletes_through } => {
                varint::put_u64(out, 22);
                put_list(out, added.iter(), put_new_block);
                varint::put_u64(out, *deletes_through);
            }
            Command::Restore { block } => {
                varint::put_u64(out, 25);
                put_id(out, block);
            }
            Command::FlushUnread { broker, seqs, added, deletes_through } => {
                varint::put_u64(out, 23);
                varint::put_u64(out, broker.0);
                put_list(out, seqs.iter(), |out, seq| varint::put_u64(out, *seq));
                put_list(out, added.iter(), put_new_block);
                varint::put_u64(out, *deletes_through);
            }
            Command::ForgetUnread { segments } => {
                varint::put_u64(out, 24);
                put_list(out, segments.iter(), |out, (broker, seq)| {
                    varint::put_u64(out, broker.0);
                    varint::put_u64(out, *seq);
                });
            }
        }
    }

    fn take(fields: &mut Fields<'_>) -> Result<Command, CatalogError> {
        let kind = fields.number()?;
        Command::take_kind(kind, fields)
    }

    fn take_kind(kind: u64, fields: &mut Fields<'_>) -> Result<Command, CatalogError> {
        Ok(match kind {
            1 => Command::CreateStore { store: fields.store()? },
            2 => Command::ReserveIds { count: fields.number()? },
            3 => Command::Flush {
                flushed_through: fields.position()?,
                added: fields.list(Fields::new_block)?,
                deletes_through: fields.deletes_through()?,
            },
            4 => Command::Swap {
                removed: fields.list(Fields::id)?,
                added: fields.list(Fields::new_block)?,
                deletes_through: fields.deletes_through()?,
            },
            5 => Command::Expire { removed: fields.list(Fields::id)? },
            6 => Command::Quarantine { block: fields.id()? },
            7 => Command::Put {
                key: fields.text()?,
                value: fields.bytes()?.to_vec(),
                expected: Expected::take(fields)?,
            },
            8 => Command::Delete { key: fields.text()?, expected: Expected::take(fields)? },
            9 => Command::Mark(take_mark(fields)?),
            10 => Command::ExpireMarks { before_ms: fields.signed()? },
            11 => Command::DeleteRows(fields.tombstone()?),
            12 => Command::SettleDeletes {
                blocks: fields.list(Fields::id)?,
                deletes_through: fields.deletes_through()?,
            },
            13 => Command::SetBroker {
                broker: BrokerId(fields.number()?),
                info: Box::new(cluster_bytes::take_info(fields)?),
            },
            14 => Command::RemoveBroker { broker: BrokerId(fields.number()?) },
            15 => Command::BeginLog { broker: BrokerId(fields.number()?) },
            16 => Command::AddSegment(Box::new(cluster_bytes::take_new_segment(fields)?)),
            17 => Command::FlushLog {
                broker: BrokerId(fields.number()?),
                epoch: fields.number()?,
                through: fields.number()?,
                added: fields.list(Fields::new_block)?,
                deletes_through: fields.deletes_through()?,
                unread: fields.list(Fields::number)?,
            },
            18 => Command::TakeLease {
                job: fields.text()?,
                holder: BrokerId(fields.number()?),
                claim: cluster_bytes::take_claim(fields)?,
                until_ms: fields.signed()?,
            },
            19 => Command::GiveLease { job: fields.text()?, term: fields.number()? },
            20 => {
                let (job, term) = (fields.text()?, fields.number()?);
                let kind = fields.number()?;
                if kind == 20 {
                    return Err(fields.corrupt("a command under a lease under a lease"));
                }
                let command = Box::new(Command::take_kind(kind, fields)?);
                Command::Under { job, term, command }
            }
            21 => Command::RetireBlocks { below: fields.id()? },
            22 => Command::AddBlocks {
                added: fields.list(Fields::new_block)?,
                deletes_through: fields.deletes_through()?,
            },
            25 => Command::Restore { block: fields.id()? },
            23 => Command::FlushUnread {
                broker: BrokerId(fields.number()?),
                seqs: fields.list(Fields::number)?,
                added: fields.list(Fields::new_block)?,
                deletes_through: fields.deletes_through()?,
            },
            24 => Command::ForgetUnread {
                segments: fields
                    .list(|fields| Ok((BrokerId(fields.number()?), fields.number()?)))?,
            },
            _ => return Err(fields.corrupt("unknown command")),
        })
    }
}

pub(crate) fn put_mark(out: &mut Vec<u8>, mark: &Mark) {
    varint::put_bytes(out, mark.agent.as_bytes());
    out.extend_from_slice(&mark.incarnation.0);
    varint::put_u64(out, mark.lane as u64);
    varint::put_u64(out, mark.seq);
    varint::put_u64(out, mark.after_seq);
    varint::put_i64(out, mark.at_ms);
}

pub(crate) fn take_mark(fields: &mut Fields<'_>) -> Result<Mark, CatalogError> {
    Ok(Mark {
        agent: fields.text()?.into(),
        incarnation: Incarnation(fields.sixteen()?),
        lane: Lane::from_number(fields.number()?).ok_or_else(|| fields.corrupt("unknown lane"))?,
        seq: fields.number()?,
        after_seq: fields.number()?,
        at_ms: fields.signed()?,
    })
}

impl Expected {
    fn put(self, out: &mut Vec<u8>) {
        let number = match self {
            Expected::Any => 0,
            Expected::Absent => 1,
            // Versions count applied commands, so the largest is never reached.
            Expected::Version(version) => version.saturating_add(1),
        };
        varint::put_u64(out, number);
    }

    fn take(fields: &mut Fields<'_>) -> Result<Expected, CatalogError> {
        Ok(match fields.number()? {
            0 => Expected::Any,
            1 => Expected::Absent,
            number => Expected::Version(number - 1),
        })
    }
}
