//! `watchfire import prometheus DIR`.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use clap::Args;
use model::Matcher;
use wire::prometheus_block::SeriesEntry;
use wire::prometheus_chunk::Samples;

use super::block::{Block, Wanted};
use super::sender::Sender;
use crate::about::now_ms;
use crate::http_client::{HttpClient, ServerArguments};
use crate::progress::{Progress, short};

/// What to import, and where to.
#[derive(Debug, Args)]
pub(crate) struct PrometheusArguments {
    /// Data directory of Prometheus (`--storage.tsdb.path`), a snapshot, or one block
    #[arg(value_name = "DIR")]
    directory: PathBuf,

    #[command(flatten)]
    server: ServerArguments,

    /// Only series that match; can be given more than once
    #[arg(long = "match", value_name = "SELECTOR", value_parser = selector)]
    selectors: Vec<Selector>,

    /// Only samples from this time on: seconds since 1970 or RFC 3339
    #[arg(long, value_name = "TIME", value_parser = time)]
    start: Option<i64>,

    /// Only samples up to this time
    #[arg(long, value_name = "TIME", value_parser = time)]
    end: Option<i64>,

    /// Say what would be imported, and send nothing
    #[arg(long)]
    dry_run: bool,
}

#[derive(Debug, Clone)]
struct Selector(Vec<Matcher>);

fn selector(text: &str) -> Result<Selector, String> {
    promql::parse_selector(text).map(Selector).map_err(|error| error.to_string())
}

fn time(text: &str) -> Result<i64, String> {
    console::parse_time_ms(text)
        .ok_or_else(|| "give seconds since 1970 or a time such as 2026-11-01T00:00:00Z".to_owned())
}

/// Imports every block that reaches into what is wanted and kept.
pub(super) fn run(arguments: &PrometheusArguments) -> Result<()> {
    let blocks = Block::find(&arguments.directory)?;
    let has_log = arguments.directory.join("wal").is_dir();
    if blocks.is_empty() {
        let remedy = if has_log {
            "what there is lies in its write-ahead log only: let Prometheus write a snapshot (POST \
             /api/v1/admin/tsdb/snapshot, with --web.enable-admin-api) and import that"
        } else {
            "give the directory named by --storage.tsdb.path, a snapshot, or one block"
        };
        bail!("{} has no blocks of Prometheus; {remedy}", arguments.directory.display());
    }
    let mut client = arguments.server.client()?;
    let oldest_ms = oldest_kept_ms(&mut client)?;
    let start_ms = arguments.start.unwrap_or(i64::MIN);
    let end_ms = arguments.end.unwrap_or(i64::MAX);
    let (kept, left): (Vec<_>, Vec<_>) = blocks.into_iter().partition(|block| {
        block.meta.max_time > start_ms.max(oldest_ms) && block.meta.min_time <= end_ms
    });
    let total: u64 = kept.iter().map(|block| block.meta.stats.num_samples).sum();
    eprintln!(
        "{} blocks with {} samples of up to {} series to {}",
        kept.len(),
        short(total as f64),
        short(kept.iter().map(|block| block.meta.stats.num_series).sum::<u64>() as f64),
        client.url("")
    );
    let too_old = left.iter().filter(|block| block.meta.max_time <= oldest_ms).count();
    if too_old > 0 {
        eprintln!(
            "{too_old} more are older than what the server keeps; raise storage.retention there \
             and run this again to have them, too"
        );
    }
    if has_log {
        eprintln!(
            "What Prometheus has taken in since its newest block is not in a block yet: import a \
             snapshot of it for the last two hours"
        );
    }
    if arguments.dry_run {
        return Ok(());
    }
    let selectors = arguments.selectors.iter().map(|selector| selector.0.clone()).collect();
    let wanted = Wanted { selectors, start_ms: start_ms.max(oldest_ms), end_ms };
    import(&kept, &wanted, total, &arguments.server)
}

/// Since when the server keeps samples, milliseconds since the epoch; all of them if it does not
/// tell.
fn oldest_kept_ms(client: &mut HttpClient) -> Result<i64> {
    let path = "/api/v1/status/runtimeinfo";
    let answer = client.get(path)?.success().with_context(|| client.url(path))?;
    let told: serde_json::Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    let retention = told["data"]["storageRetention"].as_str().and_then(|text| {
        // A limit of size may stand behind it.
        promql::parse_duration(text.split(" or ").next()?.trim()).ok()
    });
    Ok(retention.map_or(i64::MIN, |kept_ms| now_ms() - kept_ms))
}

fn import(blocks: &[Block], wanted: &Wanted, total: u64, server: &ServerArguments) -> Result<()> {
    let started = Instant::now();
    let mut sender = Sender::start(server)?;
    let mut progress = Progress::new(total, "samples");
    let (mut samples, mut series, mut deleted) = (0_u64, 0_u64, 0_u64);
    for block in blocks {
        let outcome = block.each_series(wanted, |entry, found| {
            let count = (found.timestamps_ms.len() + found.histograms.len()) as u64;
            push(&mut sender, entry, found)?;
            progress.add(count);
            samples += count;
            series += 1;
            Ok(())
        });
        deleted += outcome.with_context(|| {
            progress.clear();
            format!("import block {}; what was sent before is stored", block.name())
        })?;
    }
    let refusals = sender.finish()?;
    progress.clear();
    let seconds = started.elapsed().as_secs_f64();
    eprintln!(
        "imported {samples} samples of {series} series in {} blocks in {seconds:.1} s ({}/s)",
        blocks.len(),
        short(samples as f64 / seconds.max(0.001))
    );
    if deleted > 0 {
        eprintln!("{deleted} samples were not, because they had been deleted");
    }
    if let Some(first) = refusals.first {
        bail!("of {} requests the server refused a part; the first: {first}", refusals.requests);
    }
    Ok(())
}

/// Floats of one series that go into one request.
const PIECE: usize = 10_000;

fn push(sender: &mut Sender, entry: &SeriesEntry, samples: &Samples) -> Result<()> {
    let columns = samples.timestamps_ms.chunks(PIECE).zip(samples.values.chunks(PIECE));
    for (times, values) in columns {
        sender.batch().push_rows(&entry.labels, times, values);
        sender.flush_if_full()?;
    }
    for (t_ms, histogram) in &samples.histograms {
        sender.batch().push_histogram(&entry.labels, *t_ms, None, histogram.clone());
        sender.flush_if_full()?;
    }
    Ok(())
}
