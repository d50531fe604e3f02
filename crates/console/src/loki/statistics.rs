//! The `stats` of an answer: Loki's shape, with what was read here.
//!
//! What Loki counts of chunks is told of blocks, of its ingesters of what is in memory. What there is no such thing
//! here of is 0. Lines and bytes are those that were looked at, those that a filter dropped among them; what filters
//! of blocks excluded was not read and is not counted.

use std::time::Duration;

use logql::metric::Entry;
use serde_json::{Value, json};

use crate::log_data::LogReads;

/// What came to a pipeline, and what came out of it.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Processed {
    pub(crate) lines: u64,
    pub(super) line_bytes: u64,
    pub(super) metadata_bytes: u64,
    pub(super) kept: u64,
}

impl Processed {
    pub(super) fn merge(&mut self, other: Processed) {
        self.lines += other.lines;
        self.line_bytes += other.line_bytes;
        self.metadata_bytes += other.metadata_bytes;
        self.kept += other.kept;
    }

    pub(super) fn add(&mut self, line: &Entry<'_>) {
        self.lines += 1;
        self.line_bytes += line.line_bytes;
        let metadata = line.metadata.iter().map(|(name, value)| name.len() + value.len());
        self.metadata_bytes += metadata.sum::<usize>() as u64;
    }
}

/// What an answer took.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Statistics {
    pub(super) reads: LogReads,
    pub(super) processed: Processed,
    pub(super) queued: Duration,
    pub(super) executed: Duration,
    /// Lines or series that are yielded.
    pub(super) yielded: usize,
}

impl Statistics {
    pub(super) fn to_json(self) -> Value {
        let Statistics { reads, processed, queued, executed, yielded } = self;
        // What was counted without a look at lines was read by nobody else.
        let lines = reads.lines.max(processed.lines);
        let line_bytes = reads.bytes.max(processed.line_bytes);
        let bytes = line_bytes + processed.metadata_bytes;
        let seconds = executed.as_secs_f64();
        let per_second = |count: u64| {
            if seconds > 0.0 { (count as f64 / seconds) as u64 } else { 0 }
        };
        let store = |refs: u64, is_all: bool| {
            let of = |count: u64| if is_all { count } else { 0 };
            json!({
                "totalChunksRef": refs,
                "totalChunksDownloaded": refs,
                "chunksDownloadTime": 0,
                "queryReferencedStructuredMetadata": is_all && processed.metadata_bytes > 0,
                "chunk": {
                    "headChunkBytes": 0,
                    "headChunkLines": 0,
                    "decompressedBytes": of(bytes),
                    "decompressedLines": of(lines),
                    "compressedBytes": 0,
                    "totalDuplicates": 0,
                    "postFilterLines": of(processed.kept),
                    "headChunkStructuredMetadataBytes": 0,
                    "decompressedStructuredMetadataBytes": of(processed.metadata_bytes),
                },
                "chunkRefsFetchTime": 0,
                "congestionControlLatency": 0,
                "pipelineWrapperFilteredLines": 0,
            })
        };
        let cache = json!({
            "entriesFound": 0,
            "entriesRequested": 0,
            "entriesStored": 0,
            "bytesReceived": 0,
            "bytesSent": 0,
            "requests": 0,
            "downloadTime": 0,
            "queryLengthServed": 0,
        });
        json!({
            "summary": {
                "bytesProcessedPerSecond": per_second(bytes),
                "linesProcessedPerSecond": per_second(lines),
                "totalBytesProcessed": bytes,
                "totalLinesProcessed": lines,
                "execTime": seconds,
                "queueTime": queued.as_secs_f64(),
                "subqueries": 0,
                "totalEntriesReturned": yielded,
                "splits": 0,
                "shards": 0,
                "totalPostFilterLines": processed.kept,
                "totalStructuredMetadataBytesProcessed": processed.metadata_bytes,
            },
            "querier": { "store": store(reads.blocks, true) },
            "ingester": {
                "totalReached": u64::from(reads.heads > 0),
                "totalChunksMatched": reads.heads,
                "totalBatches": 0,
                "totalLinesSent": 0,
                "store": store(0, false),
            },
            "cache": {
                "chunk": cache,
                "index": cache,
                "result": cache,
                "statsResult": cache,
                "volumeResult": cache,
                "seriesResult": cache,
                "labelResult": cache,
                "instantMetricResult": cache,
            },
            "index": {
                "totalChunks": 0,
                "postFilterChunks": 0,
                "shardsDuration": 0,
                "usedBloomFilters": false,
            },
        })
    }
}
