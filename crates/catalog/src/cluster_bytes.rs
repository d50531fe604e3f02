//! The bytes of what only a cluster has.

use std::collections::BTreeMap;

use codec::varint;
use model::TimeRange;

use crate::command::{put_mark, take_mark};
use crate::envelope::{Fields, PUSHES_VERSION, put_list};
use crate::{
    Broker, BrokerId, BrokerInfo, BrokerState, CatalogError, Lease, LeaseClaim, MAX_PUSHES,
    NewSegment, PushMark, Segment, State,
};

pub(crate) fn put_info(out: &mut Vec<u8>, info: &BrokerInfo) {
    for text in [&info.name, &info.address, &info.http_address, &info.zone, &info.version] {
        varint::put_bytes(out, text.as_bytes());
    }
    varint::put_u64(out, info.feature_level.into());
    varint::put_u64(
        out,
        match info.state {
            BrokerState::Active => 1,
            BrokerState::Draining => 2,
        },
    );
}

pub(crate) fn take_info(fields: &mut Fields<'_>) -> Result<BrokerInfo, CatalogError> {
    let (name, address, http_address) = (fields.text()?, fields.text()?, fields.text()?);
    let (zone, version) = (fields.text()?, fields.text()?);
    let level = u32::try_from(fields.number()?);
    let feature_level = level.map_err(|_| fields.corrupt("feature level is above 2^32"))?;
    let state = match fields.number()? {
        1 => BrokerState::Active,
        2 => BrokerState::Draining,
        _ => return Err(fields.corrupt("unknown state of a broker")),
    };
    Ok(BrokerInfo { name, address, http_address, zone, version, feature_level, state })
}

pub(crate) fn put_claim(out: &mut Vec<u8>, claim: LeaseClaim) {
    match claim {
        LeaseClaim::Free => varint::put_u64(out, 0),
        LeaseClaim::Held { term } => {
            varint::put_u64(out, 1);
            varint::put_u64(out, term);
        }
        LeaseClaim::Over { term, renewals } => {
            varint::put_u64(out, 2);
            varint::put_u64(out, term);
            varint::put_u64(out, renewals);
        }
    }
}

pub(crate) fn take_claim(fields: &mut Fields<'_>) -> Result<LeaseClaim, CatalogError> {
    Ok(match fields.number()? {
        0 => LeaseClaim::Free,
        1 => LeaseClaim::Held { term: fields.number()? },
        2 => LeaseClaim::Over { term: fields.number()?, renewals: fields.number()? },
        _ => return Err(fields.corrupt("unknown claim of a lease")),
    })
}

pub(crate) fn put_new_segment(out: &mut Vec<u8>, segment: &NewSegment, version: u8) {
    varint::put_u64(out, segment.broker.0);
    varint::put_u64(out, segment.epoch);
    varint::put_u64(out, segment.seq);
    varint::put_u64(out, segment.size_bytes);
    varint::put_u64(out, segment.checksum.into());
    varint::put_u64(out, segment.rows);
    varint::put_i64(out, segment.range.start_ms);
    varint::put_i64(out, segment.range.end_ms);
    varint::put_u64(out, segment.marks.len() as u64);
    for (batch, mark) in &segment.marks {
        varint::put_u64(out, u64::from(*batch));
        put_mark(out, mark);
    }
    if version >= PUSHES_VERSION {
        varint::put_u64(out, segment.pushes.len() as u64);
        for (batch, push) in &segment.pushes {
            varint::put_u64(out, u64::from(*batch));
            put_push(out, push);
        }
    }
}

pub(crate) fn take_new_segment(fields: &mut Fields<'_>) -> Result<NewSegment, CatalogError> {
    Ok(NewSegment {
        broker: BrokerId(fields.number()?),
        epoch: fields.number()?,
        seq: fields.number()?,
        size_bytes: fields.number()?,
        checksum: take_u32(fields)?,
        rows: fields.number()?,
        range: TimeRange::new(fields.signed()?, fields.signed()?),
        marks: fields.list(|fields| Ok((take_u32(fields)?, take_mark(fields)?)))?,
        pushes: match fields.version >= PUSHES_VERSION {
            true => fields.list(|fields| Ok((take_u32(fields)?, take_push(fields)?)))?,
            false => Vec::new(),
        },
    })
}

fn put_push(out: &mut Vec<u8>, push: &PushMark) {
    out.extend_from_slice(&push.0);
}

fn take_push(fields: &mut Fields<'_>) -> Result<PushMark, CatalogError> {
    fields.sixteen().map(PushMark)
}

pub(crate) fn put_cluster(out: &mut Vec<u8>, state: &State, version: u8) {
    varint::put_u64(out, state.brokers.len() as u64);
    for (id, broker) in &state.brokers {
        varint::put_u64(out, id.0);
        put_info(out, &broker.info);
        varint::put_u64(out, broker.epoch);
        varint::put_u64(out, broker.flushed_through);
        varint::put_u64(out, broker.segments.len() as u64);
        for (seq, segment) in &broker.segments {
            varint::put_u64(out, *seq);
            put_segment(out, segment);
        }
    }
    varint::put_u64(out, state.ring_epoch);
    varint::put_u64(out, state.next_term);
    varint::put_u64(out, state.leases.len() as u64);
    for (job, lease) in &state.leases {
        varint::put_bytes(out, job.as_bytes());
        varint::put_u64(out, lease.holder.0);
        varint::put_u64(out, lease.term);
        varint::put_u64(out, lease.renewals);
        varint::put_i64(out, lease.until_ms);
    }
    varint::put_u64(out, state.retired_below.0);
    varint::put_u64(out, state.unread.len() as u64);
    for ((broker, seq), segment) in &state.unread {
        varint::put_u64(out, broker.0);
        varint::put_u64(out, *seq);
        put_segment(out, segment);
    }
    if version >= PUSHES_VERSION {
        put_list(out, state.pushes.iter(), put_push);
    }
}

pub(crate) fn take_cluster(fields: &mut Fields<'_>, state: &mut State) -> Result<(), CatalogError> {
    for _ in 0..fields.number()? {
        let id = BrokerId(fields.number()?);
        if state.brokers.last_key_value().is_some_and(|(last, _)| *last >= id) {
            return Err(fields.corrupt("brokers are not in ascending order"));
        }
        let broker = take_broker(fields, state.last_delete)?;
        state.brokers.insert(id, broker);
    }
    state.ring_epoch = fields.number()?;
    state.next_term = fields.number()?;
    for _ in 0..fields.number()? {
        let job = fields.text()?;
        if state.leases.last_key_value().is_some_and(|(last, _)| *last >= job) {
            return Err(fields.corrupt("leases are not in ascending order"));
        }
        let holder = BrokerId(fields.number()?);
        let (term, renewals) = (fields.number()?, fields.number()?);
        let lease = Lease { holder, term, renewals, until_ms: fields.signed()? };
        if lease.term > state.next_term || !state.brokers.contains_key(&holder) {
            return Err(fields.corrupt("a lease was never given"));
        }
        state.leases.insert(job, lease);
    }
    if state.brokers.values().any(|broker| broker.epoch > state.next_term) {
        return Err(fields.corrupt("an epoch was never begun"));
    }
    state.retired_below = fields.id()?;
    if state.retired_below.0 > state.next_block_id {
        return Err(fields.corrupt("ids are retired that were never handed out"));
    }
    take_unread(fields, state)?;
    // Version 5 ends here.
    if fields.version >= PUSHES_VERSION {
        for _ in 0..fields.number()? {
            if state.pushes.iter().len() == MAX_PUSHES || !state.pushes.store(take_push(fields)?) {
                return Err(fields.corrupt("a push is known twice, or one too many"));
            }
        }
    }
    Ok(())
}

fn take_broker(fields: &mut Fields<'_>, last_delete: u64) -> Result<Broker, CatalogError> {
    let info = take_info(fields)?;
    let (epoch, flushed_through) = (fields.number()?, fields.number()?);
    let mut segments: BTreeMap<u64, Segment> = BTreeMap::new();
    for _ in 0..fields.number()? {
        let seq = fields.number()?;
        let is_next =
            segments.last_key_value().map_or(flushed_through, |(last, _)| last + 1) <= seq;
        let segment = take_segment(fields)?;
        if !is_next || segment.epoch > epoch || segment.deletes_through > last_delete {
            return Err(fields.corrupt("a segment was never added"));
        }
        segments.insert(seq, segment);
    }
    Ok(Broker { info, epoch, flushed_through, segments })
}

fn take_unread(fields: &mut Fields<'_>, state: &mut State) -> Result<(), CatalogError> {
    for _ in 0..fields.number()? {
        let place = (BrokerId(fields.number()?), fields.number()?);
        let segment = take_segment(fields)?;
        let is_next = state.unread.last_key_value().is_none_or(|(last, _)| *last < place);
        // Its broker may have left.
        let is_flushed =
            state.brokers.get(&place.0).is_none_or(|broker| place.1 < broker.flushed_through);
        if !is_next || !is_flushed || segment.epoch > state.next_term {
            return Err(fields.corrupt("a segment that cannot be read was never added"));
        }
        state.unread.insert(place, segment);
    }
    Ok(())
}

fn put_segment(out: &mut Vec<u8>, segment: &Segment) {
    varint::put_u64(out, segment.epoch);
    varint::put_u64(out, segment.size_bytes);
    varint::put_u64(out, segment.checksum.into());
    varint::put_u64(out, segment.rows);
    varint::put_i64(out, segment.range.start_ms);
    varint::put_i64(out, segment.range.end_ms);
    varint::put_u64(out, segment.deletes_through);
    varint::put_u64(out, segment.passed_over.len() as u64);
    for batch in &segment.passed_over {
        varint::put_u64(out, u64::from(*batch));
    }
}

fn take_segment(fields: &mut Fields<'_>) -> Result<Segment, CatalogError> {
    let segment = Segment {
        epoch: fields.number()?,
        size_bytes: fields.number()?,
        checksum: take_u32(fields)?,
        rows: fields.number()?,
        range: TimeRange::new(fields.signed()?, fields.signed()?),
        deletes_through: fields.number()?,
        passed_over: fields.list(take_u32)?,
    };
    if segment.passed_over.windows(2).any(|pair| pair[0] >= pair[1]) {
        return Err(fields.corrupt("batches are not in ascending order"));
    }
    Ok(segment)
}

fn take_u32(fields: &mut Fields<'_>) -> Result<u32, CatalogError> {
    u32::try_from(fields.number()?).map_err(|_| fields.corrupt("a number is above 2^32"))
}
