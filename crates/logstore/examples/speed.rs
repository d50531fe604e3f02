//! Times heads and blocks over lines in memory, made up but shaped like real ones.
//!
//! `cargo run --release -p watchfire-logstore --example speed [MiB]` pushes so many MiB (256 unless told) of
//! each form into heads, flushes and merges them, and asks for things; on one thread.

use std::error::Error;
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use blockstore::{BlobError, BlockFormat, InMemory, MergeInput, ReadAt};
use logstore::{
    Entries, IndexCache, LogBlock, LogFormat, LogHead, MetadataWanted, NsRange, Order, Query,
    Source, count,
};
use model::{Labels, TimeRange};

/// Lines that are in memory before they are flushed.
const HEAD_BYTES: usize = 64 << 20;
const STREAMS: u64 = 20;

/// Counts what is read of a block.
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

/// A form of lines: what line number n is.
type Form = fn(u64) -> String;

fn main() -> Result<(), Box<dyn Error>> {
    let mib = std::env::args().nth(1).map_or(Ok(256), |mib| mib.parse::<usize>())?;
    let forms: [(&str, Form); 3] = [("logfmt", logfmt), ("access", access), ("json", json)];
    for (name, form) in forms {
        run(name, form, mib << 20)?;
    }
    Ok(())
}

fn run(name: &str, form: Form, most_bytes: usize) -> Result<(), Box<dyn Error>> {
    let mut out = io::stdout().lock();
    let format = LogFormat::new(1, IndexCache::new(256 << 20));
    let streams: Vec<Labels> = (0..STREAMS)
        .map(|n| Labels::from_pairs([("app", name), ("pod", format!("pod-{n}").as_str())]))
        .collect::<Result<_, _>>()?;
    let (mut raw, mut lines) = (0, 0_u64);
    let (mut push_s, mut flush_s, mut zstd_s) = (0.0, 0.0, 0.0);
    let (mut flushed, mut zstd_bytes) = (Vec::new(), 0);
    while raw < most_bytes {
        let mut texts = Vec::new();
        let mut in_head = 0;
        while in_head < HEAD_BYTES {
            texts.push(form(lines + texts.len() as u64));
            in_head += texts[texts.len() - 1].len() + 1;
        }
        let start = Instant::now();
        let mut head = LogHead::new(2);
        for (n, text) in (lines..).zip(&texts) {
            let stream = head.stream(&streams[(n % STREAMS) as usize]);
            let trace = format!("{:016x}{:016x}", mixed(n / 7), mixed(n / 7 + 1));
            let level = if n % 50 == 0 { "error" } else { "info" };
            let metadata = [("detected_level", level), ("trace_id", trace.as_str())];
            head.push(stream, time(n), text.as_bytes(), &metadata)?;
        }
        push_s += start.elapsed().as_secs_f64();
        let start = Instant::now();
        let mut block = InMemory::default();
        format.flush(&head, &mut block)?;
        flush_s += start.elapsed().as_secs_f64();
        flushed.push(block.0);
        let start = Instant::now();
        let joined = texts.join("\n");
        zstd_bytes += zstd::bulk::compress(joined.as_bytes(), 3)?.len();
        zstd_s += start.elapsed().as_secs_f64();
        lines += texts.len() as u64;
        raw += in_head;
    }
    let of_flushes: usize = flushed.iter().map(Vec::len).sum();
    let open = |bytes| format.open(Arc::new(InMemory(bytes)));
    let inputs: Vec<MergeInput<LogBlock, _>> = flushed
        .into_iter()
        .map(|bytes| Ok(MergeInput { block: Arc::new(open(bytes)?), deletes: Vec::new() }))
        .collect::<Result<_, blockstore::BlockError>>()?;
    let start = Instant::now();
    let mut merged = InMemory::default();
    format.merge(&inputs, TimeRange::all(), 1, &mut merged)?;
    let merge_s = start.elapsed().as_secs_f64();
    drop(inputs);
    let size = merged.size_bytes();
    let file = Arc::new(Counted { file: merged, bytes: AtomicU64::new(0) });
    let block = Arc::new(format.open(Arc::clone(&file) as Arc<dyn ReadAt>)?);
    let mb = |bytes: usize, seconds: f64| bytes as f64 / seconds / 1e6;
    writeln!(out, "{name}: {lines} lines, {:.0} bytes each", raw as f64 / lines as f64)?;
    writeln!(
        out,
        "  push {:>6.0} MB/s   flush {:>6.0} MB/s   merge {:>6.0} MB/s",
        mb(raw, push_s),
        mb(raw, flush_s),
        mb(raw, merge_s)
    )?;
    writeln!(
        out,
        "  bytes a line: flushed {:.2}, merged {:.2} of it pages, counters, filters, indexes {:?}; zstd -3 of the lines alone {:.2} at {:.0} MB/s",
        of_flushes as f64 / lines as f64,
        size as f64 / lines as f64,
        block.part_bytes().map(|bytes| (100 * bytes / size).to_string() + "%"),
        zstd_bytes as f64 / lines as f64,
        mb(raw, zstd_s)
    )?;
    let (first, named) = block.column_bytes();
    let each = |bytes: u64| format!("{:.2}", bytes as f64 / lines as f64);
    writeln!(
        out,
        "  times, lengths, lines, rest {:?}, metadata {:?}",
        first.map(each),
        named.iter().map(|(name, bytes)| (*name, each(*bytes))).collect::<Vec<_>>()
    )?;
    let all = || Query::new(Vec::new(), NsRange::all());
    let middle = form(lines / 2);
    let id = &middle[middle.find("id").map_or(0, |at| at + 5)..][..20];
    let trace = format!("{:016x}{:016x}", mixed(lines / 14), mixed(lines / 14 + 1));
    let queries = [
        ("needle", all().with_needle(id.as_bytes()), usize::MAX),
        ("needle, again", all().with_needle(id.as_bytes()), usize::MAX),
        ("field", all().with_field("trace_id", &trace), usize::MAX),
        ("newest 100", all().in_order(Order::Backward), 100),
        ("newest 100 with a common word", all().in_order(Order::Backward).with_needle(b"GET"), 100),
        (
            "all with a common word",
            all().with_needle(b"GET").with_metadata(MetadataWanted::None),
            usize::MAX,
        ),
        ("all lines", all().with_metadata(MetadataWanted::None), usize::MAX),
    ];
    for (what, query, most) in queries {
        file.bytes.store(0, Ordering::Relaxed);
        let start = Instant::now();
        let mut entries = Entries::new(query, vec![Source::block(Arc::clone(&block))])?;
        let mut found = 0;
        while found < most && entries.next_entry()?.is_some() {
            found += 1;
        }
        report(&mut out, what, start, found as u64, raw, &file)?;
    }
    file.bytes.store(0, Ordering::Relaxed);
    let start = Instant::now();
    let mut found = 0;
    let sources = vec![Source::block(Arc::clone(&block))];
    count(&all(), sources, &mut |_, _| true, &mut |count| found += count.lines)?;
    report(&mut out, "count by level and minute", start, found, raw, &file)?;
    Ok(())
}

fn report(
    out: &mut impl Write,
    what: &str,
    start: Instant,
    found: u64,
    raw: usize,
    file: &Counted,
) -> io::Result<()> {
    let seconds = start.elapsed().as_secs_f64();
    let read = file.bytes.load(Ordering::Relaxed);
    writeln!(
        out,
        "  {what:<30} {found:>9} lines {:>9.3} ms, {:>8.2} GB/s of raw, {:>6.2} % read",
        seconds * 1e3,
        raw as f64 / seconds / 1e9,
        100.0 * read as f64 / file.size_bytes() as f64,
    )
}

/// A thousand lines a second.
fn time(n: u64) -> i64 {
    1_700_000_000_000_000_000 + n as i64 * 1_000_000 + (mixed(n) % 900_000) as i64
}

fn mixed(n: u64) -> u64 {
    let mut z = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

const PATHS: [&str; 8] = [
    "/",
    "/api/v1/orders",
    "/api/v1/users",
    "/healthz",
    "/static/app.js",
    "/login",
    "/api/v1/cart",
    "/metrics",
];

fn logfmt(n: u64) -> String {
    let r = mixed(n);
    format!(
        "ts=2023-11-14T22:13:{:02}.{:03}Z level={} caller=server.go:{} msg=\"request done\" method=GET path={} status={} request_id={:016x}{:016x} duration={}ms user={}",
        n / 1_000 % 60,
        n % 1_000,
        if n.is_multiple_of(50) { "error" } else { "info" },
        100 + r % 7,
        PATHS[(r % 8) as usize],
        [200, 200, 200, 404, 500][(r % 5) as usize],
        mixed(n + 1),
        mixed(n + 2),
        r % 900,
        r % 5_000,
    )
}

fn access(n: u64) -> String {
    let r = mixed(n);
    format!(
        "10.{}.{}.{} - - [14/Nov/2023:22:{:02}:{:02} +0000] \"GET {} HTTP/1.1\" {} {} \"-\" \"Mozilla/5.0 (X11; Linux x86_64; rv:109.0) Gecko/20100101 Firefox/119.0\" id=\"{:016x}{:016x}\"",
        r % 4,
        r / 4 % 256,
        r / 1_024 % 256,
        n / 60_000 % 60,
        n / 1_000 % 60,
        PATHS[(r % 8) as usize],
        [200, 200, 304, 404][(r % 4) as usize],
        r % 50_000,
        mixed(n + 1),
        mixed(n + 2),
    )
}

fn json(n: u64) -> String {
    let r = mixed(n);
    format!(
        "{{\"time\":\"2023-11-14T22:13:{:02}.{:03}Z\",\"level\":\"{}\",\"logger\":\"com.example.shop.{}\",\"message\":\"GET order\",\"id\":\"{:016x}{:016x}\",\"items\":{},\"total\":{}.{:02}}}",
        n / 1_000 % 60,
        n % 1_000,
        if n.is_multiple_of(50) { "ERROR" } else { "INFO" },
        ["Cart", "Orders", "Payment"][(r % 3) as usize],
        mixed(n + 1),
        mixed(n + 2),
        r % 12,
        r % 400,
        r % 100,
    )
}
