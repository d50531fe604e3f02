//! Runs conformance tables kept as data against Watchfire's engines:
//! `watchfire-conformance <language> <directory>`.

mod case;
mod discovery;
mod host_metrics;
mod promql;
mod textparse;

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, bail};

const USAGE: &str = "usage: watchfire-conformance discovery DIRECTORY
       watchfire-conformance host-metrics DIRECTORY
       watchfire-conformance textparse DIRECTORY
       watchfire-conformance promql [--floats-only] DIRECTORY";

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(2)
        }
    }
}

/// Whether every case passed.
fn run() -> anyhow::Result<bool> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (flags, words): (Vec<&str>, Vec<&str>) =
        arguments.iter().map(String::as_str).partition(|word| word.starts_with("--"));
    let (language, directory, floats_only) = match (words.as_slice(), flags.as_slice()) {
        ([language, directory], []) => (*language, Path::new(directory), false),
        (["promql", directory], ["--floats-only"]) => ("promql", Path::new(directory), true),
        _ => bail!("{USAGE}"),
    };
    let results = match language {
        "discovery" => run_discovery(directory),
        "host-metrics" => run_host_metrics(directory),
        "textparse" => textparse::run(directory),
        "promql" => run_promql(directory, floats_only),
        other => bail!("no conformance cases for {other:?}\n{USAGE}"),
    }
    .with_context(|| format!("run {language} cases of {}", directory.display()))?;
    let totals = case::report(&mut io::stdout().lock(), &results).context("write the report")?;
    Ok(totals.failed == 0)
}

/// Runs the configuration tables and tells which parts of them were left out.
fn run_discovery(directory: &Path) -> anyhow::Result<Vec<case::CaseResult>> {
    let run = discovery::run(directory)?;
    let mut out = io::stdout().lock();
    for line in &run.summary {
        writeln!(out, "{line}").context("write the report")?;
    }
    Ok(run.results)
}

/// Runs the collectors over fake and real hosts and tells which metrics neither can have.
fn run_host_metrics(directory: &Path) -> anyhow::Result<Vec<case::CaseResult>> {
    let run = host_metrics::run(directory)?;
    let mut out = io::stdout().lock();
    for line in &run.summary {
        writeln!(out, "{line}").context("write the report")?;
    }
    Ok(run.results)
}

/// Runs the PromQL scripts and tells how each file fared and how many cases were left out.
fn run_promql(directory: &Path, floats_only: bool) -> anyhow::Result<Vec<case::CaseResult>> {
    let run = promql::run(directory, floats_only)?;
    let mut out = io::stdout().lock();
    for line in &run.summary {
        writeln!(out, "{line}").context("write the report")?;
    }
    if floats_only {
        writeln!(out, "{} not run: they need native histograms", run.not_run)
            .context("write the report")?;
    }
    Ok(run.results)
}
