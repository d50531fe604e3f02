//! PromQL: scripts in Prometheus' test language, and a table of texts to parse.
//!
//! `*.test` files hold commands that load samples and queries with their results; the format is
//! that of `promql/promqltest` in the Prometheus repository. `parse_cases.json` lists inputs of
//! the parser.

mod check;
mod compare;
mod parse_cases;
mod script;
mod store;

use std::path::{Path, PathBuf};

use anyhow::Context;

use self::script::{Command, CommandKind};
use self::store::Store;
use crate::case::CaseResult;

/// What ran, and what did not.
#[derive(Debug, Default)]
pub(crate) struct Run {
    pub(crate) results: Vec<CaseResult>,
    /// One line per file.
    pub(crate) summary: Vec<String>,
}

/// Runs everything in `directory`.
pub(crate) fn run(directory: &Path) -> anyhow::Result<Run> {
    let mut run = Run::default();
    for path in scripts(directory)? {
        let text =
            std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        let before = run.results.len();
        run.script(&path, script::parse(&text));
        run.summarise(&path, before);
    }
    let parse_table = directory.join("parse_cases.json");
    if parse_table.exists() {
        let before = run.results.len();
        run.results.extend(parse_cases::run(&parse_table)?);
        run.summarise(&parse_table, before);
    }
    Ok(run)
}

fn scripts(directory: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    let entries =
        std::fs::read_dir(directory).with_context(|| format!("list {}", directory.display()))?;
    for entry in entries {
        let path = entry.context("list a directory")?.path();
        if path.extension().is_some_and(|extension| extension == "test") {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

impl Run {
    fn script(&mut self, path: &Path, commands: Vec<Command>) {
        let mut store = Store::default();
        for Command { line, kind } in commands {
            let (name, outcome) = match kind {
                CommandKind::Clear => {
                    store = Store::default();
                    continue;
                }
                CommandKind::Load(load) => match store.load(&load) {
                    Ok(()) => continue,
                    Err(error) => ("a load".to_owned(), Err(format!("{error:#}"))),
                },
                CommandKind::Broken(error) => {
                    ("a broken command".to_owned(), Err(format!("{error:#}")))
                }
                CommandKind::Eval(eval) => {
                    let outcome = check::check(&eval, &store);
                    (eval.text, outcome)
                }
            };
            self.results.push(CaseResult { name, file: path.to_owned(), line, outcome });
        }
    }

    fn summarise(&mut self, path: &Path, before: usize) {
        let results = &self.results[before..];
        let passed = results.iter().filter(|case| case.outcome.is_ok()).count();
        let file = path.file_name().unwrap_or_default().to_string_lossy();
        // Only the closing line of a run may say how many passed and failed: it is counted.
        self.summary.push(format!("{file}: {passed} of {} pass", results.len()));
    }
}
