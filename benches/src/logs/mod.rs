//! Lines of logs: what it costs to take them in and keep them, and to find them again, beside zstd and ripgrep
//! over the same lines in files, and beside VictoriaLogs where that is installed.

mod corpus;
mod push;
mod questions;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::slice;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};

use crate::server::{Flushing, Kind, Server};
use crate::table::{Table, grouped, megabytes};
use corpus::Form;
use push::Corpus;
use questions::Asked;

/// Over which the times of the lines go, the last ones now.
const SPAN_NS: i64 = 6 * 3_600 * 1_000_000_000;

/// What `bench logs` is told.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Options {
    /// Mebibytes of lines, of each form as many
    #[arg(long, default_value_t = 5_120)]
    mib: u64,
    /// Connections that push at once
    #[arg(long, default_value_t = 4)]
    connections: u64,
    /// Megabytes a second at which all forms are pushed once more, to see what memory that takes; 0: not at all
    #[arg(long, default_value_t = 50)]
    pace: u64,
    /// Only these
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Form::ALL)]
    forms: Vec<Form>,
}

/// Versions of what is compared.
pub(crate) fn versions() -> Result<String> {
    let first_line = |program: &str, argument: &str| -> Result<String> {
        let output = Command::new(program).arg(argument).output().with_context(|| {
            format!("start {program}: install Debian's packages ripgrep and zstd")
        })?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        Ok(text.lines().next().unwrap_or_default().trim_matches('*').trim().to_owned())
    };
    let peer = Kind::VictoriaLogs.version().map_or(String::new(), |version| format!(", {version}"));
    Ok(format!(
        "{}{peer}, {}, {}",
        Kind::Watchfire.version()?,
        first_line("rg", "--version")?,
        first_line("zstd", "--version")?
    ))
}

/// Pushes the lines of each form to one server, asks it and ripgrep, and yields the tables.
pub(crate) fn run(options: &Options) -> Result<String> {
    ensure!(
        options.connections > 0 && !options.forms.is_empty(),
        "--connections must be at least 1"
    );
    let directory = tempfile::Builder::new().prefix("watchfire-bench-").tempdir()?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).context("the clock is before 1970")?;
    // To the minute, as counters of blocks have it.
    let end_ns = now.as_nanos() as i64 / 60_000_000_000 * 60_000_000_000;
    let range = (end_ns - SPAN_NS, end_ns);
    let most_bytes = (options.mib << 20) / options.forms.len() as u64;
    let mut taken = Table::new([
        "form",
        "lines",
        "raw MB",
        "MB/s",
        "MB/s per CPU s",
        "stored MB",
        "raw / stored",
        "raw / zstd -3",
        "peak RSS MB",
    ]);
    let has_peer = Kind::VictoriaLogs.binary().is_ok();
    if !has_peer {
        eprintln!(
            "without VictoriaLogs: {:#}",
            Kind::VictoriaLogs.binary().expect_err("it is missing")
        );
    }
    let (mut corpora, mut files, mut squeezed) = (Vec::new(), Vec::new(), 0);
    for &form in &options.forms {
        eprintln!("making {} MiB of {}", most_bytes >> 20, form.name());
        let file = directory.path().join(form.name());
        let corpus = push::encode(form, most_bytes, options.connections, range, &file)?;
        let of_zstd = zstd_bytes(&file)?;
        squeezed += of_zstd;
        let server = Server::start(Kind::Watchfire, Flushing::Soon)?;
        taken.push(take_in(form.name(), slice::from_ref(&corpus), of_zstd, &server, None)?);
        drop(server);
        if has_peer {
            let peer = Server::start(Kind::VictoriaLogs, Flushing::Default)?;
            let name = format!("{}, VictoriaLogs", form.name());
            taken.push(take_in(&name, slice::from_ref(&corpus), of_zstd, &peer, None)?);
        }
        corpora.push(corpus);
        files.push((form, file));
    }
    if options.pace > 0 {
        let server = Server::start(Kind::Watchfire, Flushing::Default)?;
        let name = format!("all at {} MB/s", options.pace);
        taken.push(take_in(&name, &corpora, squeezed, &server, Some(options.pace))?);
    }
    let mut peers = Vec::new();
    if has_peer {
        let peer = Server::start(Kind::VictoriaLogs, Flushing::Default)?;
        taken.push(take_in("all at once, VictoriaLogs", &corpora, squeezed, &peer, None)?);
        for question in questions::all(&corpora) {
            eprintln!("asking VictoriaLogs: {}", question.name);
            peers.push(question.ask(&peer, range)?);
        }
    }
    let server = Server::start(Kind::Watchfire, Flushing::Soon)?;
    taken.push(take_in("all at once", &corpora, squeezed, &server, None)?);
    corpora.iter_mut().for_each(|corpus| corpus.lanes = Vec::new());
    let answers = ask(&corpora, &files, &server, &peers, range)?;
    Ok(format!(
        "{}\nPushed over {} connections as protobuf under snappy, about 1 MiB of lines a request, each connection its own \
         streams, {} of each form. CPU: from the first request until the server was quiet; flushed each 20 s, or as by \
         default where a pace is kept, and merged within the time measured. Stored: what the directory gained, with index, filters and what is left of the log.\n\n{}\n\
         Times of the server over HTTP, the first and the median of 5, caches of results off; ripgrep with all cores over \
         the lines in files that are in the page cache, the median of 3. Read: bytes the process read of files when it was \
         asked first, of all that is stored. Where ripgrep can count what was asked for, both found the same.\n",
        taken.render(),
        options.connections,
        corpus::STREAMS,
        answers.render()
    ))
}

/// Pushes lines, at a pace in megabytes a second if there is one, waits until the server has put them in order, and
/// yields a row of the table.
fn take_in(
    name: &str,
    corpora: &[Corpus],
    squeezed: u64,
    server: &Server,
    pace: Option<u64>,
) -> Result<Vec<String>> {
    let lines: u64 = corpora.iter().map(|corpus| corpus.lines).sum();
    let raw_bytes: u64 = corpora.iter().map(|corpus| corpus.raw_bytes).sum();
    eprintln!("{name}: pushing {lines} lines");
    let (cpu, disk) = (server.cpu_seconds()?, server.disk_bytes()?);
    let wall_seconds = push_all(corpora, server, pace)?;
    let pushed_cpu_seconds = server.cpu_seconds()? - cpu;
    server.wait_quiet()?;
    let cpu_seconds = server.cpu_seconds()? - cpu;
    let stored = server.disk_bytes()?.saturating_sub(disk);
    let raw = raw_bytes as f64;
    eprintln!(
        "{name}: {wall_seconds:.1} s, {pushed_cpu_seconds:.1} of {cpu_seconds:.1} s of CPU until then"
    );
    Ok(vec![
        name.to_owned(),
        grouped(lines as f64),
        megabytes(raw_bytes),
        format!("{:.0}", raw / 1e6 / wall_seconds),
        format!("{:.1}", raw / 1e6 / cpu_seconds),
        megabytes(stored),
        format!("{:.1} x", raw / stored as f64),
        format!("{:.1} x", raw / squeezed as f64),
        megabytes(server.memory()?.peak_bytes),
    ])
}

fn ask(
    corpora: &[Corpus],
    files: &[(Form, PathBuf)],
    server: &Server,
    peers: &[Asked],
    range: (i64, i64),
) -> Result<Table> {
    let mut table = Table::new([
        "question",
        "found",
        "first ms",
        "p50 ms",
        "CPU ms",
        "read MB",
        "% of stored",
        "ripgrep ms",
        "x faster",
        "VictoriaLogs ms",
        "x faster",
    ]);
    let stored = server.disk_bytes()?;
    for (at, question) in questions::all(corpora).iter().enumerate() {
        eprintln!("asking: {}", question.name);
        let asked = question.ask(server, range)?;
        let (scan_ms, scanned) = question.scan(files)?;
        eprintln!("  {:.1} ms, ripgrep {scan_ms:.0} ms", asked.p50_ms);
        question.compare(asked.found, scanned)?;
        let peer = peers.get(at);
        if let Some(peer) = peer
            && peer.found != asked.found
        {
            eprintln!("  {} found, and {} by VictoriaLogs", asked.found, peer.found);
        }
        table.push(vec![
            question.name.to_owned(),
            grouped(asked.found),
            format!("{:.1}", asked.first_ms),
            format!("{:.1}", asked.p50_ms),
            format!("{:.1}", asked.cpu_ms),
            megabytes(asked.read_bytes),
            format!("{:.2}", asked.read_bytes as f64 * 100.0 / stored as f64),
            format!("{scan_ms:.0}"),
            format!("{:.1} x", scan_ms / asked.p50_ms),
            peer.map_or("-".to_owned(), |peer| match peer.found == asked.found {
                true => format!("{:.1}", peer.p50_ms),
                // Another question, perhaps, or a wrong one.
                false => format!("{:.1} ({} found)", peer.p50_ms, grouped(peer.found)),
            }),
            peer.map_or("-".to_owned(), |peer| format!("{:.1} x", peer.p50_ms / asked.p50_ms)),
        ]);
    }
    Ok(table)
}

/// Pushes bodies of all forms in turn, as programs of one fleet write at once. Yields seconds until the last
/// acknowledgement.
fn push_all(corpora: &[Corpus], server: &Server, pace: Option<u64>) -> Result<f64> {
    let started = Instant::now();
    let sent = AtomicU64::new(0);
    let bodies: usize = corpora.iter().flat_map(|corpus| &corpus.lanes).map(Vec::len).sum();
    let bytes: u64 = corpora.iter().map(|corpus| corpus.raw_bytes).sum();
    let wait_for_turn = || {
        let Some(pace) = pace else { return };
        let share = sent.fetch_add(1, Ordering::Relaxed) as f64 / bodies.max(1) as f64;
        let due = Duration::from_secs_f64(share * bytes as f64 / (pace as f64 * 1e6));
        std::thread::sleep(due.saturating_sub(started.elapsed()));
    };
    let lanes = corpora.iter().map(|corpus| corpus.lanes.len()).max().unwrap_or(0);
    std::thread::scope(|scope| {
        let push = |lane: usize| -> Result<()> {
            let mut client = server.client()?;
            let of_forms: Vec<&[Vec<u8>]> =
                corpora.iter().filter_map(|corpus| Some(&corpus.lanes.get(lane)?[..])).collect();
            let most = of_forms.iter().map(|bodies| bodies.len()).max().unwrap_or(0);
            let bodies = (0..most).flat_map(|at| of_forms.iter().filter_map(move |b| b.get(at)));
            for body in bodies {
                wait_for_turn();
                // As Promtail does: what the server has no room for now is sent again.
                let path = match server.kind {
                    Kind::VictoriaLogs => "/insert/loki/api/v1/push",
                    _ => "/loki/api/v1/push",
                };
                let answer = loop {
                    let answer = client.write(path, body)?;
                    if ![429, 503].contains(&answer.status) {
                        break answer.successful();
                    }
                    std::thread::sleep(Duration::from_millis(500));
                };
                answer.with_context(|| format!("the server logged:\n{}", server.last_words()))?;
            }
            Ok(())
        };
        let senders: Vec<_> = (0..lanes).map(|lane| scope.spawn(move || push(lane))).collect();
        senders.into_iter().try_for_each(|one| one.join().expect("a sender returns its errors"))
    })?;
    Ok(started.elapsed().as_secs_f64())
}

/// What zstd makes of a file at its default level, in one frame.
fn zstd_bytes(file: &Path) -> Result<u64> {
    let output = file.with_extension("zst");
    let status = Command::new("zstd")
        .args(["-3", "--quiet", "--force", "-o"])
        .arg(&output)
        .arg(file)
        .stdin(Stdio::null())
        .status()
        .context("start zstd: install Debian's package zstd (apt-get install zstd)")?;
    ensure!(status.success(), "zstd ended with {status}");
    let bytes = File::open(&output)?.metadata()?.len();
    std::fs::remove_file(&output)?;
    Ok(bytes)
}
