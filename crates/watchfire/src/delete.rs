//! `watchfire delete`: removes samples of a running server, after saying of how many series.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::http_client::{HttpClient, ServerArguments};
use crate::waiting::Waiting;

/// What to delete, and where.
#[derive(Debug, Args)]
pub(crate) struct DeleteArguments {
    /// Selectors of the series, such as '{env="dev"}'; those that match any of them
    #[arg(value_name = "SELECTOR", required = true, value_parser = selector)]
    selectors: Vec<String>,

    #[command(flatten)]
    server: ServerArguments,

    /// Only samples from this time on: seconds since 1970 or RFC 3339 [default: all]
    #[arg(long, value_name = "TIME", value_parser = time)]
    start: Option<String>,

    /// Only samples up to this time
    #[arg(long, value_name = "TIME", value_parser = time)]
    end: Option<String>,

    /// Say how many series have samples there, and delete nothing
    #[arg(long)]
    dry_run: bool,

    /// Do not ask
    #[arg(long, short, conflicts_with = "dry_run")]
    yes: bool,

    /// Give the space back at once instead of at the next merge: writes every block concerned anew
    #[arg(long, conflicts_with = "dry_run")]
    free_space: bool,
}

/// What to show below the help.
pub(crate) const EXAMPLES: &str = "\
Examples:
  watchfire delete --dry-run '{job=\"test\"}'
      of how many series there are samples, and which the first are
  watchfire delete '{job=\"test\"}'
      asks, and deletes them
  watchfire delete --yes --start 2026-11-01T00:00:00Z --end 2026-11-02T00:00:00Z node_load1
      a day of one metric, in a script

What is deleted is in no answer any more as soon as this returns. There is no way back but a snapshot
from before: `watchfire snapshot`.";

/// Series that are shown.
const SHOWN: usize = 5;
/// Writing many blocks anew takes its time.
const CLEANING_TIMEOUT: Duration = Duration::from_secs(24 * 60 * 60);

fn selector(text: &str) -> Result<String, String> {
    promql::parse_selector(text).map(|_| text.to_owned()).map_err(|error| error.to_string())
}

fn time(text: &str) -> Result<String, String> {
    let told = console::parse_time_ms(text).map(|_| text.to_owned());
    told.ok_or_else(|| "give seconds since 1970 or a time such as 2026-11-01T00:00:00Z".to_owned())
}

/// Deletes, unless there is nothing or the user says no.
pub(crate) fn run(arguments: &DeleteArguments) -> Result<()> {
    let ms = |time: &Option<String>| time.as_deref().and_then(console::parse_time_ms);
    if let (Some(start_ms), Some(end_ms)) = (ms(&arguments.start), ms(&arguments.end)) {
        ensure!(start_ms <= end_ms, "--start is later than --end, so nothing lies between them");
    }
    let mut client = arguments.server.client()?.with_answer_timeout(CLEANING_TIMEOUT);
    let form = form(arguments);
    let count = series_count(&mut client, &form)?;
    if count == 0 {
        eprintln!("no series match; nothing is deleted");
        return Ok(());
    }
    let times = match (&arguments.start, &arguments.end) {
        (None, None) => "all of their samples".to_owned(),
        (start, end) => format!(
            "their samples from {} to {}",
            start.as_deref().unwrap_or("the first"),
            end.as_deref().unwrap_or("the last")
        ),
    };
    let series = if count == 1 { "1 series".to_owned() } else { format!("{count} series") };
    let tenant = arguments.server.tenant.map(|tenant| format!(" of the tenant {tenant}"));
    println!("{series}{} on {}", tenant.unwrap_or_default(), client.url(""));
    for labels in first_series(&mut client, &form)? {
        println!("  {labels}");
    }
    if count > SHOWN {
        println!("  and {} more", count - SHOWN);
    }
    if arguments.dry_run {
        eprintln!("--dry-run: nothing is deleted; without it {times} would be");
        return Ok(());
    }
    if !arguments.yes && !confirm(&format!("Delete {times}? There is no way back."))? {
        bail!("nothing is deleted");
    }
    let path = "/api/v1/admin/tsdb/delete_series";
    client.post_form(path, &form)?.success().with_context(|| client.url(path))?;
    eprintln!("deleted: no answer has them any more");
    if arguments.free_space {
        let path = "/api/v1/admin/tsdb/clean_tombstones";
        let waiting = Waiting::begin("writing blocks anew without what is deleted");
        let cleaned = client.post_form(path, &[])?.success();
        drop(waiting);
        cleaned.with_context(|| client.url(path))?;
        eprintln!("their space is free");
    } else {
        eprintln!("their space comes free with the next merge, or at once with --free-space");
    }
    Ok(())
}

fn form(arguments: &DeleteArguments) -> Vec<(&'static str, String)> {
    let selectors = arguments.selectors.iter().map(|text| ("match[]", text.clone()));
    let start = arguments.start.iter().map(|time| ("start", time.clone()));
    let end = arguments.end.iter().map(|time| ("end", time.clone()));
    selectors.chain(start).chain(end).collect()
}

#[derive(Deserialize)]
struct Found<T> {
    data: Vec<T>,
}

fn series<T: for<'de> Deserialize<'de>>(
    client: &mut HttpClient,
    form: &[(&str, String)],
) -> Result<Vec<T>> {
    let path = "/api/v1/series";
    let answer = client.post_form(path, form)?.success().with_context(|| client.url(path))?;
    let found: Found<T> = serde_json::from_slice(&answer.body).with_context(|| {
        format!("{} answered with something else than series", client.url(path))
    })?;
    Ok(found.data)
}

/// How many series have samples there; of each nothing is kept.
fn series_count(client: &mut HttpClient, form: &[(&str, String)]) -> Result<usize> {
    Ok(series::<IgnoredAny>(client, form)?.len())
}

fn first_series(client: &mut HttpClient, form: &[(&str, String)]) -> Result<Vec<String>> {
    let mut form = form.to_vec();
    form.push(("limit", SHOWN.to_string()));
    let found: Vec<std::collections::BTreeMap<String, String>> = series(client, &form)?;
    let text = |labels: std::collections::BTreeMap<String, String>| {
        let pairs = labels.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        model::Labels::from_pairs(pairs).map_or_else(|_| format!("{labels:?}"), |l| l.to_string())
    };
    Ok(found.into_iter().map(text).collect())
}

/// Whether the user says yes.
fn confirm(question: &str) -> Result<bool> {
    ensure!(
        std::io::stdin().is_terminal(),
        "there is nobody to ask: add --yes, or look first with --dry-run"
    );
    eprint!("{question} Type yes: ");
    std::io::stderr().flush().context("ask")?;
    let mut said = String::new();
    std::io::stdin().read_line(&mut said).context("read the answer")?;
    Ok(said.trim().eq_ignore_ascii_case("yes"))
}
