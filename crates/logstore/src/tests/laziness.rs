//! What a query does not need is not read.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use blockstore::{BlobError, InMemory, ReadAt};

use super::model::{Line, block_bytes, labels};
use crate::time::MINUTE_NS;
use crate::{
    Entries, IndexCache, LogBlock, NsRange, Order, Query, ReadWatch, Source, Together, count,
};

/// Counts what is read.
struct Counted {
    file: InMemory,
    bytes: AtomicU64,
}

impl ReadAt for Counted {
    fn size_bytes(&self) -> u64 {
        self.file.size_bytes()
    }

    fn read_exact_at(&self, offset: u64, out: &mut [u8]) -> Result<(), BlobError> {
        self.bytes.fetch_add(out.len() as u64, Ordering::Relaxed);
        self.file.read_exact_at(offset, out)
    }
}

/// Lines of four streams at the same times, with ids.
fn many() -> Vec<Line> {
    let line = |n: u64| Line {
        stream: (n % 4) as usize,
        timestamp_ns: n as i64 * MINUTE_NS / 200,
        text: format!("request {:016x}{:016x} done", mixed(n), mixed(n + 7)),
        metadata: vec![("trace".to_owned(), format!("{:016x}", mixed(n + 1)))],
    };
    (0..20_000).map(line).collect()
}

#[test]
fn lines_that_are_alike_are_templates_and_read_as_they_were() {
    let alike = |n: u64, line: Line| Line {
        text: format!(
            "at=22:13:{:02}.{:03}Z msg=done took={}ms user={}",
            n / 1_000 % 60,
            n % 1_000,
            mixed(n) % 900,
            mixed(n + 1) % 5_000
        ),
        ..line
    };
    let lines: Vec<Line> = (0..).zip(many()).map(|(n, line)| alike(n, line)).collect();
    // What is even is written with templates.
    let [templates, plain] = [32 << 10, (32 << 10) + 1].map(|group_bytes| {
        let file = Arc::new(InMemory(block_bytes(&lines, group_bytes)));
        Arc::new(LogBlock::open(file, &IndexCache::new(0)).expect("it was written so"))
    });
    let of_lines = |block: &LogBlock| block.column_bytes().0[2];
    let (small, large) = (of_lines(&templates), of_lines(&plain));
    assert!(small * 10 < large * 9, "{small} and {large} bytes");
    assert_eq!(super::merging::contents(&templates), super::merging::contents(&plain));
}

fn mixed(n: u64) -> u64 {
    crate::grams::mixed(n + 1_000)
}

#[test]
fn few_bytes_are_read_for_few_lines_for_needles_and_for_counts() {
    let lines = many();
    let bytes = block_bytes(&lines, 32 << 10);
    let size = bytes.len() as u64;
    let file = Arc::new(Counted { file: InMemory(bytes), bytes: AtomicU64::new(0) });
    let opened = LogBlock::open(Arc::clone(&file) as Arc<dyn ReadAt>, &IndexCache::new(1 << 20));
    let block = Arc::new(opened.expect("it was written so"));
    assert!(block.groups() > 40, "{} groups", block.groups());
    let all = || Query::new(Vec::new(), NsRange::all());
    let read = |query: Query, most: usize| {
        file.bytes.store(0, Ordering::Relaxed);
        let sources = vec![Source::block(Arc::clone(&block))];
        let mut entries = Entries::new(query, sources).expect("nothing is damaged");
        let mut times = Vec::new();
        while times.len() < most
            && let Some(entry) = entries.next_entry().expect("nothing is damaged")
        {
            times.push((entry.timestamp_ns, entry.labels.clone()));
        }
        (times, file.bytes.load(Ordering::Relaxed))
    };
    let key = |n: usize| (lines[n].timestamp_ns, labels(lines[n].stream));
    // The skip index is read once, and then known.
    read(all().with_needle(b"nothing of this"), 1);

    let (found, bytes) = read(all().in_order(Order::Backward), 20);
    assert_eq!(found, (0..20).map(|n| key(19_999 - n)).collect::<Vec<_>>());
    assert!(bytes < size / 8, "newest lines: {bytes} of {size} bytes");

    let needle = &lines[12_345].text.as_bytes()[12..36];
    let (found, bytes) = read(all().with_needle(needle), 9);
    assert_eq!(found, [key(12_345)]);
    assert!(bytes < size / 10, "needle: {bytes} of {size} bytes");

    let trace = &lines[777].metadata[0].1;
    let (found, bytes) = read(all().with_field("trace", trace), 9);
    assert_eq!(found, [key(777)]);
    assert!(bytes < size / 10, "field: {bytes} of {size} bytes");

    file.bytes.store(0, Ordering::Relaxed);
    let mut total = 0;
    let sources = vec![Source::block(Arc::clone(&block))];
    count(&all(), sources, &mut |_, _| true, &mut |count| total += count.lines)
        .expect("nothing is damaged");
    assert_eq!(total, 20_000);
    let bytes = file.bytes.load(Ordering::Relaxed);
    assert_eq!(bytes, block.part_bytes()[1], "nothing but counters");
    assert!(bytes < size / 50, "counts: {bytes} of {size} bytes");
}

/// The other way round, so that an order that matters is found.
#[derive(Default)]
struct LastFirst(AtomicU64);

impl Together for LastFirst {
    fn run(&self, jobs: usize, job: &(dyn Fn(usize) + Sync)) {
        self.0.fetch_add(jobs as u64, Ordering::Relaxed);
        (0..jobs).rev().for_each(job);
    }
}

/// Nobody waits any more.
struct Nobody;

impl ReadWatch for Nobody {
    fn looks_at(&self, _: u64, _: u64) -> bool {
        false
    }
}

#[test]
fn blocks_are_looked_into_together_and_by_nobody_who_does_not_wait() {
    let lines = many();
    let mut files = Vec::new();
    let mut sources = Vec::new();
    for part in lines.chunks(4_000) {
        let file = InMemory(block_bytes(part, 32 << 10));
        let file = Arc::new(Counted { file, bytes: AtomicU64::new(0) });
        let block = LogBlock::open(Arc::clone(&file) as Arc<dyn ReadAt>, &IndexCache::new(0));
        sources.push(Source::block(Arc::new(block.expect("it was written so"))));
        files.push(file);
    }
    let together = Arc::new(LastFirst::default());
    let all = || Query::new(Vec::new(), NsRange::all()).with_together(Arc::clone(&together) as _);
    let found = |query: Query| {
        let mut entries = Entries::new(query, sources.clone()).expect("nothing is damaged");
        let mut times = Vec::new();
        while let Some(entry) = entries.next_entry().expect("nothing is damaged") {
            times.push(entry.timestamp_ns);
        }
        times
    };
    for n in [3, 9_999, 19_998] {
        let needle = &lines[n].text.as_bytes()[12..36];
        assert_eq!(found(all().with_needle(needle)), [lines[n].timestamp_ns]);
    }
    // Three times five blocks, and what streams a group has where one was found.
    let done = together.0.load(Ordering::Relaxed);
    assert!((15..=27).contains(&done), "{done}");
    // Where nothing is looked for, groups of several streams are opened together all the same.
    let times = found(all());
    assert!(times.len() == lines.len() && times.is_sorted());
    assert!(together.0.load(Ordering::Relaxed) > done);

    files.iter().for_each(|file| file.bytes.store(0, Ordering::Relaxed));
    let query = all().with_needle(b"anything").with_watch(Arc::new(Nobody));
    let ended = Entries::new(query, sources.clone()).err().expect("it is ended");
    assert!(ended.to_string().contains("a query that was ended"), "{ended}");
    assert!(files.iter().all(|file| file.bytes.load(Ordering::Relaxed) == 0), "nothing is read");
}
