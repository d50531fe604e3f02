//! The bytes of a whole state.

use std::collections::BTreeMap;

use codec::varint;

use crate::envelope::{self, Fields, put_block, put_list, put_position};
use crate::{BlockId, BlockMeta, CatalogError, KeyValue, State};

impl State {
    /// Appends the snapshot of this state: about 60 bytes per block. Equal states give equal
    /// bytes.
    pub fn encode(&self, out: &mut Vec<u8>) {
        envelope::seal(out, |out| {
            match self.store {
                Some(store) => {
                    out.push(1);
                    out.extend_from_slice(&store.0);
                }
                None => out.push(0),
            }
            varint::put_u64(out, self.version);
            varint::put_u64(out, self.next_block_id);
            varint::put_u64(out, self.next_sequence);
            put_position(out, self.flushed_through);
            put_list(out, self.blocks.values(), put_block);
            put_list(out, self.quarantined.values(), put_block);
            varint::put_u64(out, self.keys.len() as u64);
            for (key, entry) in &self.keys {
                varint::put_bytes(out, key.as_bytes());
                varint::put_bytes(out, &entry.value);
                varint::put_u64(out, entry.version);
            }
        });
    }

    /// Reads a snapshot back; `bytes` is one snapshot and nothing else.
    ///
    /// # Errors
    /// `Corrupt`, also when a checksum fits bytes that no state has; `NewerVersion`.
    pub fn decode(bytes: &[u8]) -> Result<State, CatalogError> {
        envelope::unseal(bytes, take_state)
    }
}

fn take_state(fields: &mut Fields<'_>) -> Result<State, CatalogError> {
    let store = match fields.number()? {
        0 => None,
        1 => Some(fields.store()?),
        _ => return Err(fields.corrupt("store is neither there nor absent")),
    };
    let mut state = State {
        store,
        version: fields.number()?,
        next_block_id: fields.number()?,
        next_sequence: fields.number()?,
        flushed_through: fields.position()?,
        ..State::default()
    };
    state.blocks = take_blocks(fields, &state)?;
    state.quarantined = take_blocks(fields, &state)?;
    if state.quarantined.keys().any(|id| state.blocks.contains_key(id)) {
        return Err(fields.corrupt("a block is both listed and quarantined"));
    }
    state.keys = take_keys(fields, state.version)?;
    Ok(state)
}

fn take_blocks(
    fields: &mut Fields<'_>,
    state: &State,
) -> Result<BTreeMap<BlockId, BlockMeta>, CatalogError> {
    let mut blocks = BTreeMap::new();
    for _ in 0..fields.number()? {
        let block = fields.block()?;
        if blocks.last_key_value().is_some_and(|(last, _)| *last >= block.id) {
            return Err(fields.corrupt("blocks are not in ascending order"));
        }
        let sequenced = block.first_sequence <= block.last_sequence
            && block.last_sequence < state.next_sequence;
        if block.id.0 >= state.next_block_id || !sequenced {
            return Err(fields.corrupt("a block's id or sequence was never handed out"));
        }
        blocks.insert(block.id, block);
    }
    Ok(blocks)
}

fn take_keys(
    fields: &mut Fields<'_>,
    version: u64,
) -> Result<BTreeMap<String, KeyValue>, CatalogError> {
    let mut keys: BTreeMap<String, KeyValue> = BTreeMap::new();
    for _ in 0..fields.number()? {
        let key = fields.text()?;
        let entry = KeyValue { value: fields.bytes()?.to_vec(), version: fields.number()? };
        if keys.last_key_value().is_some_and(|(last, _)| *last >= key) {
            return Err(fields.corrupt("keys are not in ascending order"));
        }
        if entry.version > version {
            return Err(fields.corrupt("a key is newer than the state"));
        }
        keys.insert(key, entry);
    }
    Ok(keys)
}
