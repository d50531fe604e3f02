//! Blocks of logs, and the payloads of the log they are made from.

use std::sync::Arc;

use blockstore::{BlobWriter, Blobs, BlockFormat, DiskBlobs, InMemory, MemoryDisk, MergeInput};
use logstore::{
    Entries, IndexCache, LogBlock, LogFormat, LogHead, NsRange, Order, Query, Source, count,
    decode_payload, encode_payload,
};
use model::{DEFAULT_TENANT, Labels, LogBatch, TimeRange};

/// A block of damaged counters may tell of more lines than could be there; nobody waits for all of them.
const MOST_LINES: usize = 10_000;

/// A block: refused, or read by every way there is to its end or to a fault with a place. Where checksums count
/// nothing, parts of a block may say different things: that is why there are checksums.
pub(crate) fn log_block(bytes: &[u8]) {
    let cache = IndexCache::new(0);
    let Ok(block) = LogBlock::open(Arc::new(InMemory(bytes.to_vec())), &cache) else { return };
    let block = Arc::new(block);
    let all = || Query::new(Vec::new(), NsRange::all());
    let source = || vec![Source::block(Arc::clone(&block))];
    let is_read = |query: Query| -> bool {
        let Ok(mut entries) = Entries::new(query, source()) else { return false };
        for _ in 0..MOST_LINES {
            match entries.next_entry() {
                Ok(Some(_)) => {}
                Ok(None) => return true,
                Err(error) => {
                    assert!(!error.to_string().is_empty());
                    return false;
                }
            }
        }
        false
    };
    let is_whole = is_read(all());
    is_read(all().in_order(Order::Backward));
    is_read(all().with_needle(b"took").with_field("level", "error"));
    let mut counted = 0_u64;
    let _ = count(&all(), source(), &mut |_, _| true, &mut |count| {
        counted = counted.saturating_add(count.lines);
    });
    let format = LogFormat::new(1, cache);
    let blobs = DiskBlobs::open(Arc::new(MemoryDisk::new())).expect("memory");
    let mut out: Box<dyn BlobWriter> = blobs.create("blocks/b").expect("memory");
    let input = |block| MergeInput { block, deletes: Vec::new() };
    let inputs = [input(Arc::clone(&block)), input(block)];
    if is_whole {
        let _ = format.merge(&inputs, TimeRange::all(), 1, &mut *out);
    }
}

/// A payload of the log: refused, or the lines that are in it come back when they are written again.
pub(crate) fn log_payload(bytes: &[u8]) {
    let Ok((tenant, batch)) = decode_payload(bytes) else { return };
    let mut again = Vec::new();
    encode_payload(&batch, tenant, &mut again);
    let (of, same) = decode_payload(&again).expect("it was just written");
    assert_eq!((of, same.as_parts()), (tenant, batch.as_parts()));
    let mut head = LogHead::new(1);
    head.push_batch(&batch);
    assert_eq!(head.rows(), batch.lines());
}

fn batch() -> LogBatch {
    let mut batch = LogBatch::default();
    for app in ["a", "b"] {
        batch.stream(&Labels::from_pairs([("app", app), ("host", "h1")]).expect("valid"));
        for number in 0..40_i64 {
            let line = format!("took={}ms user={} done", number * 7_919 % 1_000, number % 7);
            let level = if number % 5 == 0 { "error" } else { "info" };
            let trace = format!("92f3577b34da6a3c{number:04x}");
            let metadata = [("level", level), ("trace_id", trace.as_str())];
            batch.push(number * 1_000_000_007, line.as_bytes(), &metadata).expect("it is small");
        }
        batch.push(9, b"\xff", &[]).expect("it is small");
    }
    batch
}

/// Blocks as a flush and as a merge write them.
pub(crate) fn block_seeds() -> Vec<Vec<u8>> {
    let mut head = LogHead::new(1);
    head.push_batch(&batch());
    let cache = IndexCache::new(0);
    let format = LogFormat::new(1, Arc::clone(&cache));
    let blobs = DiskBlobs::open(Arc::new(MemoryDisk::new())).expect("memory");
    let bytes = |key: &str| {
        let file = blobs.open(key).expect("memory");
        let mut bytes = vec![0; usize::try_from(file.size_bytes()).expect("small")];
        file.read_exact_at(0, &mut bytes).expect("memory");
        bytes
    };
    let mut out: Box<dyn BlobWriter> = blobs.create("blocks/a").expect("memory");
    format.flush(&head, &mut *out).expect("flush");
    out.finish().expect("memory");
    let flushed = bytes("blocks/a");
    let block = LogBlock::open(Arc::new(InMemory(flushed.clone())), &cache).expect("as written");
    let mut out: Box<dyn BlobWriter> = blobs.create("blocks/b").expect("memory");
    let input = MergeInput { block: Arc::new(block), deletes: Vec::new() };
    format.merge(&[input], TimeRange::all(), 1, &mut *out).expect("merge");
    out.finish().expect("memory");
    vec![flushed, bytes("blocks/b")]
}

pub(crate) fn payload_seeds() -> Vec<Vec<u8>> {
    let mut payload = Vec::new();
    encode_payload(&batch(), DEFAULT_TENANT, &mut payload);
    vec![payload]
}
