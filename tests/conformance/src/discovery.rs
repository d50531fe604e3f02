//! Runs the tables about Prometheus' configuration, relabeling and target files, and the bad
//! configurations beside them.

mod bad_inputs;
mod config;
mod keys;
mod relabel;
mod target_files;

use std::path::{Path, PathBuf};

use anyhow::Context;
use serde_json::Value;

use crate::case::CaseResult;

/// What became of the tables.
pub(crate) struct Run {
    pub(crate) results: Vec<CaseResult>,
    /// A line per table, and one per part that was not run.
    pub(crate) summary: Vec<String>,
}

/// One table of cases: a line of JSON each.
struct Table {
    path: PathBuf,
    cases: Vec<(usize, Value)>,
}

impl Table {
    /// Reads a table; an absent one has no cases.
    fn read(directory: &Path, name: &str) -> anyhow::Result<Table> {
        let path = directory.join(name);
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(error).with_context(|| format!("read {}", path.display())),
        };
        let cases = text
            .lines()
            .enumerate()
            .filter(|(_, line)| !line.trim().is_empty())
            .map(|(index, line)| {
                let case = serde_json::from_str(line)
                    .with_context(|| format!("parse {}:{}", path.display(), index + 1))?;
                Ok((index + 1, case))
            })
            .collect::<anyhow::Result<_>>()?;
        Ok(Table { path, cases })
    }

    /// Runs `check` on each case.
    fn run(&self, check: impl Fn(&Value) -> Result<(), String>) -> Vec<CaseResult> {
        self.cases
            .iter()
            .map(|(line, case)| CaseResult {
                name: case["id"].as_str().unwrap_or("a case without a name").to_owned(),
                file: self.path.clone(),
                line: *line,
                outcome: check(case),
            })
            .collect()
    }
}

/// Runs every table of `directory`, and `../../corpus` if it is there.
///
/// # Errors
/// A table that cannot be read or is not of the known shape.
pub(crate) fn run(directory: &Path) -> anyhow::Result<Run> {
    let mut run = Run { results: Vec::new(), summary: Vec::new() };
    config::run(&Table::read(directory, "prometheus_config.jsonl")?, &mut run);
    relabel::run(directory, &mut run)?;
    target_files::run(&Table::read(directory, "file_sd.jsonl")?, &mut run);
    keys::run(directory, &mut run)?;
    bad_inputs::run(&directory.join("../../corpus"), &mut run)?;
    for (table, why) in [
        ("consul_sd.jsonl", "Consul is not discovered from yet"),
        ("consul_requests_seen.jsonl", "Consul is not discovered from yet"),
        ("docker_sd.jsonl", "Docker is not discovered from yet"),
    ] {
        let cases = Table::read(directory, table)?.cases.len();
        if cases > 0 {
            run.summary.push(format!("{table}: {cases} not run: {why}"));
        }
    }
    Ok(run)
}

impl Run {
    /// Adds the results of one table.
    fn add(&mut self, name: &str, results: Vec<CaseResult>) {
        let passed = results.iter().filter(|case| case.outcome.is_ok()).count();
        self.summary.push(format!("{name}: {passed} of {}", results.len()));
        self.results.extend(results);
    }
}

/// Text of a case's field; empty if there is none.
fn text<'a>(case: &'a Value, field: &str) -> &'a str {
    case[field].as_str().unwrap_or_default()
}
