//! What the log has of the lines that one request brought. Drawn in `docs/formats/logs-payload.md`.

use std::cell::RefCell;

use codec::varint::{put_u64, take_bytes, take_u64};
use model::{LogBatch, LogBatchError, MAX_LOG_BATCH_BYTES, TenantId};

/// The version of payloads, and the highest that is read.
const VERSION: u8 = 1;
/// Compression stands before every acknowledgement.
const ZSTD_LEVEL: i32 = 1;

thread_local! {
    /// Requests are many, and each context has tables of its own to be cleared.
    static COMPRESSOR: RefCell<zstd::bulk::Compressor<'static>> =
        RefCell::new(zstd::bulk::Compressor::new(ZSTD_LEVEL).expect("memory for zstd's context"));
}

/// Why a payload is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PayloadError {
    /// It is damaged or not one. The frame is to be counted as lost.
    #[error("log payload of lines is corrupt at byte {offset}: {detail}")]
    Corrupt {
        /// Where, from the start of the payload; of what is compressed in it, from the start of that.
        offset: usize,
        /// What was expected.
        detail: String,
    },
    /// It was written by a newer program.
    #[error(
        "log payload of lines has version {found}, this program reads up to {supported}: upgrade it"
    )]
    Version {
        /// What the payload says.
        found: u8,
        /// The highest this program reads.
        supported: u8,
    },
}

/// Appends the payload of `batch` to `out`.
pub fn encode_payload(batch: &LogBatch, tenant: TenantId, out: &mut Vec<u8>) {
    let parts = batch.as_parts();
    out.push(VERSION);
    put_u64(out, u64::from(tenant.0));
    put_u64(out, parts.len() as u64);
    let packed = COMPRESSOR.with_borrow_mut(|zstd| zstd.compress(parts));
    out.extend_from_slice(&packed.expect("memory for zstd"));
}

/// Reads a payload whole.
///
/// # Errors
/// `Corrupt`, `Version`.
pub fn decode_payload(payload: &[u8]) -> Result<(TenantId, LogBatch), PayloadError> {
    let mut input = payload;
    let found = take_bytes(&mut input, 1).map_err(|e| corrupt(0, e))?[0];
    if found > VERSION {
        return Err(PayloadError::Version { found, supported: VERSION });
    }
    if found == 0 {
        return Err(corrupt(0, "there is no version 0"));
    }
    let tenant = take_u64(&mut input).map_err(|e| corrupt(1, e))?;
    let tenant = u32::try_from(tenant).map_err(|_| corrupt(1, "a tenant above 32 bits"))?;
    let offset = payload.len() - input.len();
    let len = take_u64(&mut input).map_err(|e| corrupt(offset, e))?;
    let len = usize::try_from(len).ok().filter(|len| *len <= MAX_LOG_BATCH_BYTES);
    let offset = payload.len() - input.len();
    let len = len.ok_or_else(|| corrupt(offset, "more lines than a batch has"))?;
    let parts = zstd::bulk::decompress(input, len).map_err(|e| corrupt(offset, e))?;
    if parts.len() != len {
        return Err(corrupt(offset, format!("{} bytes instead of {len}", parts.len())));
    }
    let batch = LogBatch::from_parts(parts).map_err(|error| match error {
        LogBatchError::Corrupt { offset, detail } => PayloadError::Corrupt { offset, detail },
        error @ LogBatchError::TooLarge { .. } => corrupt(offset, error),
    })?;
    Ok((TenantId(tenant), batch))
}

fn corrupt(offset: usize, detail: impl ToString) -> PayloadError {
    PayloadError::Corrupt { offset, detail: detail.to_string() }
}

#[cfg(test)]
mod tests {
    use model::{Labels, LogRecord};
    use proptest::prelude::*;

    use super::*;

    type Pairs = Vec<(String, String)>;

    type Lines = Vec<(i64, Vec<u8>, Pairs)>;

    fn parts() -> impl Strategy<Value = Vec<(u8, Lines)>> {
        let pairs = prop::collection::vec(("[a-c]{0,2}", "\\PC{0,3}"), 0..3);
        let line = (any::<i64>(), prop::collection::vec(any::<u8>(), 0..9), pairs);
        prop::collection::vec((0_u8..3, prop::collection::vec(line, 0..5)), 0..5)
    }

    fn labels(stream: u8) -> Labels {
        Labels::from_pairs([("s", stream.to_string().as_str())]).expect("valid labels")
    }

    proptest! {
        #[test]
        fn batches_come_back_and_damage_is_noticed_or_harmless(
            parts in parts(),
            at in any::<prop::sample::Index>(),
            change: u8,
        ) {
            let mut batch = LogBatch::default();
            for (stream, lines) in &parts {
                batch.stream(&labels(*stream));
                for (at, line, metadata) in lines {
                    let metadata = metadata.iter().map(|(n, v)| (n.as_str(), v.as_str()));
                    let metadata: Vec<(&str, &str)> = metadata.collect();
                    batch.push(*at, line, &metadata).expect("it is small");
                }
            }
            let mut payload = Vec::new();
            encode_payload(&batch, TenantId(70_000), &mut payload);
            let (tenant, back) = decode_payload(&payload).expect("it was written so");
            prop_assert_eq!(tenant, TenantId(70_000));
            let all: usize = parts.iter().map(|(_, lines)| lines.len()).sum();
            prop_assert_eq!((back.lines(), back.line_bytes()), (all as u64, batch.line_bytes()));
            let (mut records, mut metadata) = (back.records(), Vec::new());
            for (stream, lines) in &parts {
                let next = records.next_record(&mut metadata).expect("it was decoded");
                prop_assert_eq!(next, Some(LogRecord::Stream(labels(*stream))));
                for (timestamp_ns, line, pairs) in lines {
                    let next = records.next_record(&mut metadata).expect("it was decoded");
                    let wanted = LogRecord::Line { timestamp_ns: *timestamp_ns, line };
                    prop_assert_eq!(next, Some(wanted));
                    let pairs = pairs.iter().map(|(n, v)| (n.as_str(), v.as_str()));
                    prop_assert!(metadata.iter().copied().eq(pairs));
                }
            }
            prop_assert_eq!(records.next_record(&mut metadata), Ok(None));
            let at = at.index(payload.len());
            payload[at] ^= change;
            let _ = decode_payload(&payload);
            payload.truncate(at);
            // A frame of nothing may lose its end.
            prop_assert!(decode_payload(&payload).is_err() || parts.is_empty());
        }

        #[test]
        fn any_body_is_refused_or_read(body in prop::collection::vec(any::<u8>(), 0..60)) {
            let mut payload = vec![VERSION, 0];
            put_u64(&mut payload, body.len() as u64);
            payload.extend(zstd::bulk::compress(&body, 1).expect("memory for zstd"));
            let _ = decode_payload(&payload);
        }
    }

    #[test]
    fn what_is_newer_is_refused() {
        let error = decode_payload(&[2, 0, 0]).expect_err("it is newer");
        assert_eq!(error, PayloadError::Version { found: 2, supported: 1 });
    }
}
