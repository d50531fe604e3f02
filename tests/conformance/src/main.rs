//! Runs conformance tables kept as data against Watchfire's engines:
//! `watchfire-conformance <language> <directory>`.

mod case;
mod textparse;

use std::io;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, bail};

const USAGE: &str = "usage: watchfire-conformance textparse DIRECTORY";

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
    let directory = Path::new(directory);
    let results = match language.as_str() {
        "textparse" => textparse::run(directory),
        other => bail!("no conformance cases for {other:?}\n{USAGE}"),
    }
    .with_context(|| format!("run {language} cases of {}", directory.display()))?;
    let totals = case::report(&mut io::stdout().lock(), &results).context("write the report")?;
    Ok(totals.failed == 0)
}
