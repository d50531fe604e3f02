//! Commands: everything that may happen to the catalog.

use codec::varint;

use crate::envelope::{self, Fields, put_id, put_list, put_new_block, put_position};
use crate::{BlockId, CatalogError, LogPosition, NewBlock, StoreId};

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
    },
    /// Replaces blocks of one tenant and signal by what they were merged into.
    Swap {
        /// What was merged.
        removed: Vec<BlockId>,
        /// The outcome; empty if nothing was left.
        added: Vec<NewBlock>,
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
        envelope::seal(out, |out| self.put(out));
    }

    /// Reads a command back; `bytes` is one command and nothing else.
    ///
    /// # Errors
    /// `Corrupt`, `NewerVersion`.
    pub fn decode(bytes: &[u8]) -> Result<Command, CatalogError> {
        envelope::unseal(bytes, Command::take)
    }

    fn put(&self, out: &mut Vec<u8>) {
        match self {
            Command::CreateStore { store } => {
                varint::put_u64(out, 1);
                out.extend_from_slice(&store.0);
            }
            Command::ReserveIds { count } => {
                varint::put_u64(out, 2);
                varint::put_u64(out, *count);
            }
            Command::Flush { added, flushed_through } => {
                varint::put_u64(out, 3);
                put_position(out, *flushed_through);
                put_list(out, added.iter(), put_new_block);
            }
            Command::Swap { removed, added } => {
                varint::put_u64(out, 4);
                put_list(out, removed.iter(), put_id);
                put_list(out, added.iter(), put_new_block);
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
        }
    }

    fn take(fields: &mut Fields<'_>) -> Result<Command, CatalogError> {
        Ok(match fields.number()? {
            1 => Command::CreateStore { store: fields.store()? },
            2 => Command::ReserveIds { count: fields.number()? },
            3 => Command::Flush {
                flushed_through: fields.position()?,
                added: fields.list(Fields::new_block)?,
            },
            4 => Command::Swap {
                removed: fields.list(Fields::id)?,
                added: fields.list(Fields::new_block)?,
            },
            5 => Command::Expire { removed: fields.list(Fields::id)? },
            6 => Command::Quarantine { block: fields.id()? },
            7 => Command::Put {
                key: fields.text()?,
                value: fields.bytes()?.to_vec(),
                expected: Expected::take(fields)?,
            },
            8 => Command::Delete { key: fields.text()?, expected: Expected::take(fields)? },
            _ => return Err(fields.corrupt("unknown command")),
        })
    }
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
