//! Lines that become one batch, and equal ones among them.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use hashbrown::HashMap as FastMap;
use model::{Labels, LogBatch, LogRecord};
use rapidhash::fast::RandomState;
use rapidhash::v3::{RapidSecrets, rapidhash_v3_inline};

use super::entry::{Entries, Entry};

/// A batch is full with so many bytes of lines.
pub(crate) const BATCH_BYTES: usize = 1 << 20;
/// Longest line. A payload with one of them and a full batch before it stays below what brokers take.
pub(crate) const MAX_LINE_BYTES: usize = 1 << 20;
/// Most metadata of one line in bytes; what is beyond is left out.
const MAX_METADATA_BYTES: usize = 256 << 10;
/// Lines of which the last are remembered, twice as many at most: 8 MiB.
const REMEMBERED: usize = 128 << 10;

/// Lines on their way into the spool, by tenant.
#[derive(Debug, Default)]
pub(crate) struct LinesBatch {
    tenants: BTreeMap<Option<Arc<str>>, TenantLines>,
    bytes: usize,
    moments: Moments,
    pub(crate) counts: BatchCounts,
}

#[derive(Debug, Default)]
struct TenantLines {
    batch: LogBatch,
    /// Of the last line, and what stands for them among the moments.
    labels: Option<Labels>,
    stream: u64,
}

/// What was done to lines.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BatchCounts {
    pub(crate) lines: u64,
    pub(crate) bytes: u64,
    /// Lines that were longer than may be.
    pub(crate) cut: u64,
    /// Lines without a label, which no store takes.
    pub(crate) unlabelled: u64,
}

impl LinesBatch {
    /// Bytes of lines, labels and metadata so far.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.tenants.values().all(|lines| lines.batch.is_empty())
    }

    /// What there is, a batch for each tenant.
    pub(crate) fn batches(&self) -> Vec<(Option<&str>, &LogBatch)> {
        let filled = self.tenants.iter().filter(|(_, lines)| !lines.batch.is_empty());
        filled.map(|(tenant, lines)| (tenant.as_deref(), &lines.batch)).collect()
    }

    /// Takes note of lines that an earlier run has kept, so that none of now is taken for one of them.
    pub(crate) fn remember(&mut self, tenant: Option<&str>, batch: &LogBatch) {
        let (mut records, mut metadata) = (batch.records(), Vec::new());
        let mut stream = 0;
        while let Ok(Some(record)) = records.next_record(&mut metadata) {
            match record {
                LogRecord::Stream(labels) => stream = self.moments.stream(tenant, &labels),
                LogRecord::Line { timestamp_ns, line } => {
                    self.moments.place(stream, line, timestamp_ns);
                }
            }
        }
    }

    /// Begins the next batch.
    pub(crate) fn clear(&mut self) {
        self.bytes = 0;
        // Tenants come from lines: those of long ago are not kept.
        if self.tenants.len() > 64 {
            self.tenants.clear();
        }
        for lines in self.tenants.values_mut() {
            lines.batch.clear();
            lines.labels = None;
        }
    }
}

impl Entries for LinesBatch {
    fn take(&mut self, entry: &Entry) {
        if entry.labels.is_empty() {
            self.counts.unlabelled += 1;
            return;
        }
        let mut line = &entry.line[..];
        if line.len() > MAX_LINE_BYTES {
            self.counts.cut += 1;
            line = cut(line, MAX_LINE_BYTES);
        }
        if !self.tenants.contains_key(&entry.tenant) {
            self.tenants.insert(entry.tenant.clone(), TenantLines::default());
        }
        let lines = self.tenants.get_mut(&entry.tenant).expect("just inserted");
        if lines.labels.as_ref() != Some(&entry.labels) {
            lines.batch.stream(&entry.labels);
            lines.labels = Some(entry.labels.clone());
            lines.stream = self.moments.stream(entry.tenant.as_deref(), &entry.labels);
            self.bytes += entry.labels.as_packed().len();
        }
        let timestamp_ns = self.moments.place(lines.stream, line, entry.timestamp_ns);
        let mut left = MAX_METADATA_BYTES;
        let fits = entry.metadata.iter().take_while(|(name, value)| {
            let room = left.checked_sub(name.len() + value.len());
            left = room.unwrap_or(0);
            room.is_some()
        });
        let fits = fits.count();
        let metadata = entry.metadata[..fits].iter();
        let pushed = lines.batch.push_with(
            timestamp_ns,
            line,
            metadata.map(|(name, value)| (name.as_str(), value.as_str())),
        );
        pushed.expect("a batch is far smaller than it may be");
        self.counts.lines += 1;
        self.counts.bytes += line.len() as u64;
        self.bytes += line.len() + (MAX_METADATA_BYTES - left) + 16;
    }
}

/// The beginning of a line, between characters if it has some.
pub(crate) fn cut(line: &[u8], limit: usize) -> &[u8] {
    let mut end = limit;
    while end > limit.saturating_sub(4) && line.get(end).is_some_and(|byte| byte & 0xc0 == 0x80) {
        end -= 1;
    }
    &line[..end.min(line.len())]
}

/// Which lines were at which times. Two equal lines of one stream and one time are one line to a store
/// (`docs/decisions/0075`), and this agent, which sends nothing twice, means two.
#[derive(Debug)]
struct Moments {
    secrets: RapidSecrets,
    /// By stream, line and time: how far behind is the next time at which the line may not be yet.
    recent: FastMap<u64, i64, RandomState>,
    before: FastMap<u64, i64, RandomState>,
    streams: HashMap<Labels, u64>,
}

impl Default for Moments {
    fn default() -> Self {
        Moments {
            secrets: RapidSecrets::seed(0x7477_696e_7320_6f66),
            recent: FastMap::default(),
            before: FastMap::default(),
            streams: HashMap::new(),
        }
    }
}

impl Moments {
    fn stream(&mut self, tenant: Option<&str>, labels: &Labels) -> u64 {
        let of_tenant = tenant.map_or(0, |tenant| {
            rapidhash_v3_inline::<true, false, true>(tenant.as_bytes(), &self.secrets)
        });
        if let Some(hash) = self.streams.get(labels) {
            return hash ^ of_tenant;
        }
        if self.streams.len() >= 4_096 {
            self.streams.clear();
        }
        let hash = rapidhash_v3_inline::<true, false, true>(labels.as_packed(), &self.secrets);
        self.streams.insert(labels.clone(), hash);
        hash ^ of_tenant
    }

    /// The time for a line: its own, or the next one at which its stream has no such line.
    fn place(&mut self, stream: u64, line: &[u8], wanted_ns: i64) -> i64 {
        let line = rapidhash_v3_inline::<true, false, true>(line, &self.secrets);
        let line = line ^ stream.rotate_left(32).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let wanted = at(line, wanted_ns);
        let mut time_ns = wanted_ns;
        while let Some(step) = self.step(at(line, time_ns)) {
            let Some(next) = time_ns.checked_add(step) else { return wanted_ns };
            time_ns = next;
        }
        if self.recent.len() >= REMEMBERED {
            std::mem::swap(&mut self.recent, &mut self.before);
            self.recent.clear();
        }
        self.recent.insert(at(line, time_ns), 1);
        if time_ns != wanted_ns {
            // Many equal lines would else be tried against each other one by one.
            self.recent.insert(wanted, time_ns.wrapping_sub(wanted_ns).saturating_add(1));
        }
        time_ns
    }

    fn step(&self, key: u64) -> Option<i64> {
        self.recent.get(&key).or_else(|| self.before.get(&key)).copied()
    }
}

fn at(line: u64, time_ns: i64) -> u64 {
    let mixed = (line ^ time_ns as u64).wrapping_mul(0xd6e8_feb8_6659_fd93);
    (mixed ^ mixed >> 32).wrapping_mul(0xd6e8_feb8_6659_fd93) ^ line.rotate_left(17)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(stream: &str, timestamp_ns: i64, line: &str) -> Entry {
        Entry {
            timestamp_ns,
            labels: Labels::from_pairs([("s", stream)]).expect("valid"),
            line: line.as_bytes().to_vec(),
            ..Entry::default()
        }
    }

    fn times(batch: &LogBatch) -> Vec<(i64, String)> {
        let (mut records, mut metadata, mut out) = (batch.records(), Vec::new(), Vec::new());
        while let Some(record) = records.next_record(&mut metadata).expect("own parts") {
            if let LogRecord::Line { timestamp_ns, line } = record {
                out.push((timestamp_ns, String::from_utf8_lossy(line).into_owned()));
            }
        }
        out
    }

    #[test]
    fn equal_lines_of_one_time_are_two_also_across_batches() {
        let mut batch = LinesBatch::default();
        for (stream, time, line) in [
            ("a", 5, "x"),
            ("a", 5, "x"),
            ("a", 6, "x"),
            ("a", 5, "y"),
            ("b", 5, "x"),
            ("a", 5, "x"),
        ] {
            batch.take(&entry(stream, time, line));
        }
        let found: Vec<i64> = times(batch.batches()[0].1).into_iter().map(|(at, _)| at).collect();
        assert_eq!(found, [5, 6, 7, 5, 5, 8]);
        batch.clear();
        assert!(batch.is_empty());
        batch.take(&entry("a", 5, "x"));
        assert_eq!(times(batch.batches()[0].1), [(9, "x".to_owned())]);
        let mut next_run = LinesBatch::default();
        next_run.remember(None, batch.batches()[0].1);
        for (time, wanted) in [(9, 10), (5, 5)] {
            next_run.take(&entry("a", time, "x"));
            assert_eq!(times(next_run.batches()[0].1).pop(), Some((wanted, "x".to_owned())));
        }
    }

    #[test]
    fn a_million_equal_lines_cost_little() {
        let mut moments = Moments::default();
        for number in 0..1_000_000 {
            assert_eq!(moments.place(1, b"x", 7), 7 + number);
        }
    }

    #[test]
    fn lines_are_cut_between_characters_and_tenants_are_apart() {
        assert_eq!(cut("äää".as_bytes(), 3), "ä".as_bytes());
        assert_eq!(cut(&[0x80; 9], 7).len(), 3);
        let mut batch = LinesBatch::default();
        batch.take(&entry("a", 1, &"x".repeat(MAX_LINE_BYTES + 1)));
        batch.take(&Entry { tenant: Some(Arc::from("t")), ..entry("a", 1, "of t") });
        batch.take(&Entry { labels: Labels::empty(), ..entry("a", 1, "without labels") });
        assert_eq!(batch.counts.cut, 1);
        assert_eq!(batch.counts.unlabelled, 1);
        let batches = batch.batches();
        assert_eq!(batches.len(), 2);
        assert_eq!(times(batches[0].1)[0].1.len(), MAX_LINE_BYTES);
        assert_eq!((batches[1].0, times(batches[1].1)), (Some("t"), vec![(1, "of t".to_owned())]));
    }
}
