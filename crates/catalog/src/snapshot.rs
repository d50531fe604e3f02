//! The bytes of a whole state.

use std::collections::BTreeMap;
use std::sync::Arc;

use codec::varint;

use crate::cluster_bytes::{put_cluster, take_cluster};
use crate::envelope::{self, Fields, put_block, put_list, put_position, put_tombstone};
use crate::marks::{LaneMark, Marks, SpoolMarks};
use crate::{BlockId, BlockMeta, CatalogError, Incarnation, KeyValue, State};

impl State {
    /// Appends the snapshot of this state: about 60 bytes per block and per agent. Equal states give equal
    /// bytes.
    pub fn encode(&self, out: &mut Vec<u8>) {
        self.encode_at(envelope::FORMAT_VERSION, out);
    }

    /// As [`State::encode`], in a version that others read, see [`crate::format_version`].
    pub fn encode_at(&self, version: u8, out: &mut Vec<u8>) {
        envelope::seal(out, version, |out| {
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
            put_marks(out, &self.marks);
            varint::put_u64(out, self.last_delete);
            varint::put_u64(out, self.flushed_deletes);
            put_cluster(out, self, version);
            put_list(out, self.tombstones.values().map(|tombstone| &**tombstone), put_tombstone);
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
    // Version 1 ends here.
    if fields.version > 1 {
        state.marks = take_marks(fields)?;
    }
    // Version 2 ends here.
    if fields.version > 2 {
        take_deletes(fields, &mut state)?;
    }
    Ok(state)
}

fn take_deletes(fields: &mut Fields<'_>, state: &mut State) -> Result<(), CatalogError> {
    state.last_delete = fields.number()?;
    state.flushed_deletes = fields.number()?;
    let mut blocks = state.blocks.values().chain(state.quarantined.values());
    if state.flushed_deletes > state.last_delete
        || blocks.any(|block| block.deletes_through > state.last_delete)
    {
        return Err(fields.corrupt("a delete is done that never was"));
    }
    // Version 3 has no clusters.
    if fields.version > 3 {
        take_cluster(fields, state)?;
    }
    for _ in 0..fields.number()? {
        let tombstone = fields.tombstone()?;
        let number = tombstone.number;
        let is_next = state.tombstones.last_key_value().map_or(0, |(last, _)| *last) < number;
        if !is_next || number > state.last_delete || tombstone.check().is_err() {
            return Err(fields.corrupt("a delete is out of order or void"));
        }
        if !state.is_needed(&tombstone) {
            return Err(fields.corrupt("a delete concerns nothing"));
        }
        state.tombstones.insert(number, Arc::new(tombstone));
    }
    Ok(())
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

fn put_marks(out: &mut Vec<u8>, marks: &Marks) {
    varint::put_u64(out, marks.agents.len() as u64);
    for (agent, incarnations) in &marks.agents {
        varint::put_bytes(out, agent.as_bytes());
        varint::put_u64(out, incarnations.len() as u64);
        for (incarnation, spool) in incarnations {
            out.extend_from_slice(&incarnation.0);
            varint::put_i64(out, spool.at_ms);
            for lane in &spool.lanes {
                varint::put_u64(out, lane.through);
                varint::put_u64(out, lane.beyond.len() as u64);
                for (seq, after_seq) in &lane.beyond {
                    varint::put_u64(out, *seq);
                    varint::put_u64(out, *after_seq);
                }
            }
        }
    }
}

fn take_marks(fields: &mut Fields<'_>) -> Result<Marks, CatalogError> {
    let mut marks = Marks::default();
    for _ in 0..fields.number()? {
        let agent: Arc<str> = fields.text()?.into();
        if marks.agents.last_key_value().is_some_and(|(last, _)| *last >= agent) {
            return Err(fields.corrupt("agents are not in ascending order"));
        }
        let mut incarnations: BTreeMap<Incarnation, SpoolMarks> = BTreeMap::new();
        for _ in 0..fields.number()? {
            let incarnation = Incarnation(fields.sixteen()?);
            if incarnations.last_key_value().is_some_and(|(last, _)| *last >= incarnation) {
                return Err(fields.corrupt("incarnations are not in ascending order"));
            }
            let at_ms = fields.signed()?;
            let lanes = [take_lane(fields)?, take_lane(fields)?];
            incarnations.insert(incarnation, SpoolMarks { at_ms, lanes });
        }
        if incarnations.is_empty() {
            return Err(fields.corrupt("an agent without incarnations"));
        }
        marks.incarnations += incarnations.len();
        marks.agents.insert(agent, incarnations);
    }
    Ok(marks)
}

fn take_lane(fields: &mut Fields<'_>) -> Result<LaneMark, CatalogError> {
    let mut lane = LaneMark { through: fields.number()?, beyond: BTreeMap::new() };
    for _ in 0..fields.number()? {
        let (seq, after_seq) = (fields.number()?, fields.number()?);
        let is_last = lane.beyond.last_key_value().is_none_or(|(last, _)| *last < seq);
        if !is_last || after_seq <= lane.through || after_seq >= seq {
            return Err(fields.corrupt("a batch above a gap is not"));
        }
        lane.beyond.insert(seq, after_seq);
    }
    Ok(lane)
}
