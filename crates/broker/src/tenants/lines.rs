//! How fast lines of a tenant may come, how many streams it may have, and what is counted of its lines.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use model::{LogBatch, LogLimits, LogRecord, TenantName};
use parking_lot::Mutex;
use wire::logs::{LogRefusals, LogSummary};
use wire::text_encode::TextEncoder;

use super::Tenant;
use super::pace::Pace;
use super::streams::{Piece, Streams, hash, pieces_of};

/// Texts that an answer has.
const MAX_TEXTS: usize = 16;

/// Behind why streams of a request are too many or too fast whose lines have no time.
const NOTHING: &str = "nothing of this request was stored, since of lines without a time those that are stored \
                       would be there twice when it comes again";

/// Reasons for which lines are not taken, besides those of `wire::logs::LogRefusal`, as Loki names them.
const RATE_LIMITED: &str = "rate_limited";
const STREAM_RATE: &str = "per_stream_rate_limit";
const STREAM_LIMIT: &str = "stream_limit";

/// What is known of a tenant's lines.
#[derive(Debug, Default)]
pub(crate) struct TenantLines {
    pace: Mutex<Pace>,
    streams: Mutex<Streams>,
    stored: AtomicU64,
    stored_bytes: AtomicU64,
    /// Lines and bytes that were not taken, by reason.
    discarded: Mutex<BTreeMap<&'static str, (u64, u64)>>,
}

/// Lines that come faster than they may: none of a request is taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TooFast {
    /// In Loki's words.
    pub(crate) text: String,
    pub(crate) retry_after_ms: u64,
}

/// What of a request is left out because of its streams: the sender may send it again.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct LeftOut {
    pub(crate) lines: u64,
    texts: Vec<String>,
}

impl LeftOut {
    pub(crate) fn is_empty(&self) -> bool {
        self.lines == 0
    }

    /// Why, in Loki's words.
    pub(crate) fn text(&self) -> String {
        self.texts.join("; ")
    }

    fn add(&mut self, lines: u64, text: impl FnOnce() -> String) {
        self.lines += lines;
        if self.texts.len() < MAX_TEXTS {
            self.texts.push(text());
        }
    }
}

impl TenantLines {
    /// Takes the lines of a request, if they do not come faster than they may.
    ///
    /// # Errors
    /// They do.
    pub(crate) fn admit(
        &self,
        name: TenantName,
        summary: &LogSummary,
        limits: &LogLimits,
        now_ms: i64,
    ) -> Result<(), TooFast> {
        let LogLimits { ingestion_rate_bytes: rate, ingestion_burst_bytes: burst, .. } = *limits;
        let bytes = bytes_of(summary);
        if rate == 0 || bytes == 0 {
            return Ok(());
        }
        let taken = self.pace.lock().take(bytes, rate, burst, now_ms);
        taken.map_err(|retry_after_ms| {
            self.discard(RATE_LIMITED, summary.lines, bytes as u64);
            let lines = summary.lines;
            let text = format!(
                "ingestion rate limit exceeded for user {name} (limit: {rate} bytes/sec) while attempting to \
                 ingest '{lines}' lines totaling '{bytes}' bytes, reduce log volume or contact your Loki \
                 administrator to see if the limit can be increased"
            );
            TooFast { text, retry_after_ms }
        })
    }

    /// Gives back what was admitted and is not stored.
    pub(crate) fn give_back(&self, summary: &LogSummary, limits: &LogLimits) {
        if limits.ingestion_rate_bytes > 0 {
            self.pace.lock().give_back(bytes_of(summary) as u64);
        }
    }

    /// Takes lines out of a batch whose streams are too many or too fast.
    pub(crate) fn limit_streams(
        &self,
        name: TenantName,
        batch: LogBatch,
        limits: &LogLimits,
        now_ms: i64,
    ) -> (LogBatch, LeftOut) {
        // Fast path: nothing is limited.
        if limits.max_streams == 0 && limits.stream_rate_bytes == 0 {
            return (batch, LeftOut::default());
        }
        let mut taking = Taking {
            name,
            limits,
            kept: LogBatch::default(),
            left_out: LeftOut::default(),
            by_reason: BTreeMap::new(),
        };
        let mut streams = self.streams.lock();
        let (mut records, mut metadata) = (batch.records(), Vec::new());
        let mut stream = None;
        while let Some(record) = records.next_record(&mut metadata).expect("a batch is whole") {
            match record {
                LogRecord::Stream(labels) => {
                    if let Some(before) = stream.take() {
                        taking.end(before);
                    }
                    let hash = hash(labels.as_packed());
                    let is_known = streams.meet(hash, limits, now_ms);
                    let (is_begun, lines, slow, first) = (false, 0, 0, None);
                    stream = Some(Under { labels, hash, is_known, is_begun, lines, slow, first });
                }
                LogRecord::Line { timestamp_ns, line } => {
                    let stream = stream.as_mut().expect("a line is of a stream");
                    let of_metadata: usize =
                        metadata.iter().map(|(name, value)| name.len() + value.len()).sum();
                    let bytes = line.len() + of_metadata;
                    stream.lines += 1;
                    if !stream.is_known {
                        taking.count(STREAM_LIMIT, bytes);
                    } else if !streams.admits(stream.hash, bytes, limits, now_ms) {
                        taking.count(STREAM_RATE, bytes);
                        stream.slow += 1;
                        stream.first.get_or_insert((timestamp_ns, bytes));
                    } else {
                        if !std::mem::replace(&mut stream.is_begun, true) {
                            taking.kept.stream(&stream.labels);
                        }
                        let kept = taking.kept.push(timestamp_ns, line, &metadata);
                        kept.expect("it is part of one that fits");
                    }
                }
            }
        }
        if let Some(last) = stream.take() {
            taking.end(last);
        }
        let Taking { kept, left_out, by_reason, .. } = taking;
        for (reason, (lines, bytes)) in by_reason {
            self.discard(reason, lines, bytes);
        }
        (kept, left_out)
    }

    /// As [`TenantLines::limit_streams`], all or nothing: of lines that would not be the same ones when they come
    /// again. What a stream has in the batch is one piece, so it may be more than a burst, as a request of a
    /// tenant may.
    pub(crate) fn limit_whole(
        &self,
        name: TenantName,
        batch: LogBatch,
        limits: &LogLimits,
        now_ms: i64,
    ) -> (LogBatch, LeftOut) {
        // Fast path: nothing is limited.
        if limits.max_streams == 0 && limits.stream_rate_bytes == 0 {
            return (batch, LeftOut::default());
        }
        let pieces = pieces_of(&batch);
        let mut streams = self.streams.lock();
        let mut at_fault: Vec<&Piece> = streams.too_many(&pieces, limits, now_ms);
        let reason = if at_fault.is_empty() { STREAM_RATE } else { STREAM_LIMIT };
        if at_fault.is_empty() {
            let mut taken = Vec::new();
            for piece in &pieces {
                streams.meet(piece.hash, limits, now_ms);
                match streams.admits(piece.hash, piece.bytes, limits, now_ms) {
                    true => taken.push(piece),
                    false => at_fault.push(piece),
                }
            }
            if at_fault.is_empty() {
                return (batch, LeftOut::default());
            }
            for piece in taken {
                streams.give_back(piece.hash, piece.bytes, limits);
            }
        }
        let mut left_out = LeftOut::default();
        for piece in at_fault {
            left_out.add(0, || match reason {
                STREAM_LIMIT => too_many(name, &piece.labels),
                _ => too_fast(name, limits, piece),
            });
        }
        let bytes = pieces.iter().map(|piece| piece.bytes as u64).sum();
        left_out.lines = batch.lines();
        self.discard(reason, left_out.lines, bytes);
        left_out.texts.push(NOTHING.to_owned());
        (LogBatch::default(), left_out)
    }

    /// Counts what a decoder refused.
    pub(crate) fn count_refusals(&self, refusals: &LogRefusals) {
        for refused in refusals.iter() {
            self.discard(refused.reason.as_str(), refused.lines, refused.bytes);
        }
    }

    /// Counts lines that are stored.
    pub(crate) fn count_stored(&self, lines: u64, bytes: u64) {
        self.stored.fetch_add(lines, Ordering::Relaxed);
        self.stored_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Lines and bytes that are stored.
    pub(crate) fn stored(&self) -> (u64, u64) {
        (self.stored.load(Ordering::Relaxed), self.stored_bytes.load(Ordering::Relaxed))
    }

    /// Lines and bytes that were not taken, by reason.
    pub(crate) fn discarded(&self) -> BTreeMap<&'static str, (u64, u64)> {
        self.discarded.lock().clone()
    }

    fn discard(&self, reason: &'static str, lines: u64, bytes: u64) {
        let mut discarded = self.discarded.lock();
        let counts = discarded.entry(reason).or_default();
        counts.0 += lines;
        counts.1 += bytes;
    }
}

/// Own metrics of lines: a name and the tenants of each row, and what nobody's name stands for.
pub(super) fn render(
    rows: &[(&str, &[Arc<Tenant>])],
    strangers: Option<&TenantLines>,
    out: &mut TextEncoder<'_>,
) {
    let all = || {
        let known = rows.iter().map(|(name, of)| {
            (*name, of.iter().map(|tenant| &tenant.lines).collect::<Vec<&TenantLines>>())
        });
        known.chain(strangers.map(|strangers| ("", vec![strangers])))
    };
    type Count = fn((u64, u64)) -> u64;
    let (lines, bytes): (Count, Count) = (|counts| counts.0, |counts| counts.1);
    for (name, help, count) in [
        ("watchfire_broker_tenant_log_lines_total", "Lines of the tenant stored.", lines),
        (
            "watchfire_broker_tenant_log_bytes_total",
            "Bytes of lines of the tenant stored, without metadata.",
            bytes,
        ),
    ] {
        out.family(name, "counter", help);
        for (tenant, of) in all().filter(|(tenant, _)| !tenant.is_empty()) {
            let stored: u64 = of.iter().map(|one| count(one.stored())).sum();
            out.sample(name, &[("tenant", tenant)], stored as f64);
        }
    }
    for (name, help, count) in [
        (
            "watchfire_broker_tenant_log_lines_discarded_total",
            "Lines of the tenant that were not taken, by reason.",
            lines,
        ),
        (
            "watchfire_broker_tenant_log_bytes_discarded_total",
            "Bytes of lines and metadata of the tenant that were not taken, by reason.",
            bytes,
        ),
    ] {
        out.family(name, "counter", help);
        for (tenant, of) in all() {
            let mut by_reason: BTreeMap<&str, u64> = BTreeMap::new();
            for (reason, counts) in of.iter().flat_map(|one| one.discarded()) {
                *by_reason.entry(reason).or_default() += count(counts);
            }
            for (reason, discarded) in by_reason {
                out.sample(name, &[("tenant", tenant), ("reason", reason)], discarded as f64);
            }
        }
    }
}

fn bytes_of(summary: &LogSummary) -> usize {
    usize::try_from(summary.line_bytes + summary.metadata_bytes).unwrap_or(usize::MAX)
}

/// A batch whose streams are looked at.
struct Taking<'t> {
    name: TenantName,
    limits: &'t LogLimits,
    kept: LogBatch,
    left_out: LeftOut,
    by_reason: BTreeMap<&'static str, (u64, u64)>,
}

/// The stream under way.
struct Under {
    labels: model::Labels,
    hash: u64,
    /// Whether it may have lines at all.
    is_known: bool,
    is_begun: bool,
    lines: u64,
    /// How many of them come too fast.
    slow: u64,
    /// Time and bytes of the first of those.
    first: Option<(i64, usize)>,
}

impl Taking<'_> {
    fn count(&mut self, reason: &'static str, bytes: usize) {
        let counts = self.by_reason.entry(reason).or_default();
        counts.0 += 1;
        counts.1 += bytes as u64;
    }

    fn end(&mut self, stream: Under) {
        let Under { labels, is_known, lines, slow, first, hash, .. } = stream;
        let (name, limits) = (self.name, self.limits);
        if !is_known {
            self.left_out.add(lines, || too_many(name, &labels));
        } else if let Some((first_ns, bytes)) = first {
            let piece = Piece { labels, hash, lines, slow, first_ns, bytes };
            self.left_out.add(slow, || too_fast(name, limits, &piece));
        }
    }
}

fn too_many(name: TenantName, labels: &model::Labels) -> String {
    format!(
        "maximum active stream limit exceeded when trying to create stream {labels}, reduce the \
         number of active streams (reduce labels or reduce label values), or contact your Loki \
         administrator to see if the limit can be increased, user: '{name}'"
    )
}

fn too_fast(name: TenantName, limits: &LogLimits, piece: &Piece) -> String {
    let Piece { labels, lines, slow, first_ns, bytes, .. } = piece;
    let rate = limits.stream_rate_bytes;
    let time = model::rfc3339(first_ns.div_euclid(1_000_000));
    format!(
        "entry with timestamp {time} ignored, reason: 'Per stream rate limit exceeded (limit: \
         {rate}B/sec) while attempting to ingest for stream '{labels}' totaling {bytes}B, consider \
         splitting a stream via additional labels or contact your Loki administrator to see if \
         the limit can be increased',\nuser '{name}', total ignored: {slow} out of {lines} for \
         stream: {labels}"
    )
}

#[cfg(test)]
mod tests {
    use model::Labels;

    use super::super::streams::{ACTIVE_MS, PRUNE_MS};
    use super::*;

    fn batch(streams: &[(&str, usize)]) -> LogBatch {
        let mut batch = LogBatch::default();
        for (name, lines) in streams {
            batch.stream(&Labels::from_pairs([("s", *name)]).expect("valid"));
            for at in 0..*lines {
                batch.push(at as i64, &[b'x'; 10], &[]).expect("short");
            }
        }
        batch
    }

    #[test]
    fn streams_beyond_the_limit_are_left_out_until_one_rests() {
        let lines = TenantLines::default();
        let limits = LogLimits { max_streams: 2, ..LogLimits::default() };
        let limit = |streams: &[(&str, usize)], now_ms| {
            let (kept, out) =
                lines.limit_streams(TenantName::DEFAULT, batch(streams), &limits, now_ms);
            (kept, out.lines, out.text())
        };
        let (kept, left_out, text) = limit(&[("a", 1), ("b", 1), ("c", 3), ("a", 1)], 0);
        assert_eq!((kept, left_out), (batch(&[("a", 1), ("b", 1), ("a", 1)]), 3));
        assert!(text.contains("when trying to create stream {s=\"c\"}, reduce"), "{text}");
        assert_eq!(limit(&[("a", 1)], ACTIVE_MS - 1).1, 0);
        assert_eq!(limit(&[("c", 1)], ACTIVE_MS - 1).1, 1);
        assert_eq!(limit(&[("c", 1)], ACTIVE_MS + PRUNE_MS).1, 0, "b rests");
        assert_eq!(limit(&[("b", 1)], ACTIVE_MS + 2 * PRUNE_MS).1, 1, "and is one too many now");
        assert_eq!(lines.discarded()["stream_limit"], (5, 50));
    }

    #[test]
    fn a_stream_that_is_too_fast_loses_what_is_too_much() {
        let lines = TenantLines::default();
        let limits =
            LogLimits { stream_rate_bytes: 10, stream_burst_bytes: 30, ..LogLimits::default() };
        let limit = |streams: &[(&str, usize)], now_ms| {
            lines.limit_streams(TenantName::DEFAULT, batch(streams), &limits, now_ms)
        };
        let (kept, out) = limit(&[("a", 5), ("b", 1)], 0);
        assert_eq!((kept, out.lines), (batch(&[("a", 3), ("b", 1)]), 2));
        assert!(
            out.text().contains("total ignored: 2 out of 5 for stream: {s=\"a\"}"),
            "{}",
            out.text()
        );
        assert_eq!(limit(&[("a", 2)], 1_000).1.lines, 1);
        assert_eq!(lines.discarded()["per_stream_rate_limit"], (3, 30));
    }

    #[test]
    fn all_streams_of_a_request_are_within_the_limits_or_none_is() {
        let lines = TenantLines::default();
        let limits = LogLimits {
            max_streams: 2,
            stream_rate_bytes: 10,
            stream_burst_bytes: 30,
            ..LogLimits::default()
        };
        let limit = |streams: &[(&str, usize)], now_ms| {
            let batch = batch(streams);
            let (kept, out) =
                lines.limit_whole(TenantName::DEFAULT, batch.clone(), &limits, now_ms);
            assert!(kept == batch && out.is_empty() || kept.lines() == 0 && !out.is_empty());
            (out.lines, out.text())
        };
        let (left_out, text) = limit(&[("a", 1), ("b", 1), ("c", 1), ("a", 1)], 0);
        assert_eq!(left_out, 4);
        assert!(
            text.contains("create stream {s=\"c\"}, reduce") && text.ends_with(NOTHING),
            "{text}"
        );
        // None of them has become one of the two, and nothing was taken of what a stream may have.
        assert_eq!(limit(&[("b", 3), ("c", 2)], 0).0, 0);
        let (left_out, text) = limit(&[("c", 1), ("b", 2)], 0);
        assert_eq!(left_out, 3);
        assert!(text.contains("2 out of 2 for stream: {s=\"b\"}; nothing of this"), "{text}");
        assert_eq!(limit(&[("c", 1)], 0).0, 0, "it was given back");
        assert_eq!(limit(&[("c", 1)], 0).0, 1);
        assert_eq!(limit(&[("b", 9)], 2_000).0, 9);
        assert_eq!(limit(&[("b", 9)], 3_000).0, 0, "more than a burst, when that is full");
        assert_eq!(limit(&[("b", 1)], 6_000).0, 1, "and then it waits for it");
        assert_eq!(lines.discarded()["stream_limit"], (4, 40));
    }

    #[test]
    fn a_tenant_that_is_too_fast_is_told_when_to_come_again() {
        let lines = TenantLines::default();
        let limits = LogLimits { ingestion_rate_bytes: 10, ..LogLimits::default() };
        let summary = |bytes| LogSummary { lines: 1, line_bytes: bytes, ..LogSummary::default() };
        let admit =
            |bytes, now_ms| lines.admit(TenantName::DEFAULT, &summary(bytes), &limits, now_ms);
        assert_eq!(admit(100, 0), Ok(()));
        let error = admit(20, 0).expect_err("too fast");
        assert_eq!(error.retry_after_ms, 2_000);
        assert!(error.text.contains("(limit: 10 bytes/sec)"), "{}", error.text);
        lines.give_back(&summary(20), &limits);
        assert_eq!(admit(20, 0), Ok(()));
        assert_eq!(lines.discarded()["rate_limited"], (1, 20));
    }
}
