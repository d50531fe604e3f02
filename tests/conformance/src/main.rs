//! Runs conformance tables kept as data against Watchfire's engines:
//! `watchfire-conformance <language> <directory>`.

mod alerting;
mod case;
mod discovery;
mod host_metrics;
mod logql;
mod promql;
mod textparse;

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, bail};

const USAGE: &str = "usage: watchfire-conformance alerting DIRECTORY
       watchfire-conformance discovery DIRECTORY
       watchfire-conformance host-metrics DIRECTORY
       watchfire-conformance logql DIRECTORY
       watchfire-conformance textparse DIRECTORY
       watchfire-conformance promql DIRECTORY";

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
    let [language, directory] = arguments.as_slice() else { bail!("{USAGE}") };
    let (language, directory) = (language.as_str(), Path::new(directory));
    let results = match language {
        "alerting" => alerting::run(directory),
        "discovery" => run_discovery(directory),
        "host-metrics" => run_host_metrics(directory),
        "textparse" => textparse::run(directory),
        "promql" => run_promql(directory),
        "logql" => run_logql(directory),
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

/// Runs the PromQL scripts and tells how each file fared.
fn run_promql(directory: &Path) -> anyhow::Result<Vec<case::CaseResult>> {
    let run = promql::run(directory)?;
    let mut out = io::stdout().lock();
    for line in &run.summary {
        writeln!(out, "{line}").context("write the report")?;
    }
    Ok(run.results)
}

/// Runs the LogQL tables and tells how each fared.
fn run_logql(directory: &Path) -> anyhow::Result<Vec<case::CaseResult>> {
    let run = logql::run(directory)?;
    let mut out = io::stdout().lock();
    for line in &run.summary {
        writeln!(out, "{line}").context("write the report")?;
    }
    Ok(run.results)
}
