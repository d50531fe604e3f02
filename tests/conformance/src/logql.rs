//! LogQL: tables of cases taken from Loki's tests.
//!
//! Each table is a JSON file with `cases`; what their fields mean stands in its `meta`.

mod docs_queries;
mod drain;
mod engine;
mod levels;
mod lex;
mod metric_extract;
mod parse_err;
mod parse_ok;
mod paths;
mod pipeline_cases;
mod table;

use std::path::{Path, PathBuf};

use self::table::{Case, Table};
use crate::case::CaseResult;

/// What ran, and what did not.
#[derive(Debug, Default)]
pub(crate) struct Run {
    pub(crate) results: Vec<CaseResult>,
    /// One line per file.
    pub(crate) summary: Vec<String>,
}

/// What a table's runner makes of one case; `None` if it leaves it out.
type Check = fn(&Case) -> anyhow::Result<Option<Result<(), String>>>;

/// The tables and what runs them.
const TABLES: &[(&str, Check)] = &[
    ("lex.json", lex::check),
    ("parse_ok.json", parse_ok::check),
    ("parse_err.json", parse_err::check),
    ("docs_queries.json", docs_queries::check),
    ("pipeline_cases.json", pipeline_cases::check),
    ("metric_extract_cases.json", metric_extract::check),
    ("json_logfmt_paths.json", paths::check),
    ("level_detection.json", levels::check),
    ("drain_patterns.json", drain::check),
];

/// Runs everything in `directory`.
pub(crate) fn run(directory: &Path) -> anyhow::Result<Run> {
    let mut run = Run::default();
    for &(name, check) in TABLES {
        let path = directory.join(name);
        if path.exists() {
            run.table(path, check)?;
        }
    }
    let path = directory.join("engine_cases.json");
    if path.exists() {
        let results = engine::run(&path)?;
        let passed = results.iter().filter(|case| case.outcome.is_ok()).count();
        run.summary.push(format!("engine_cases.json: {passed} of {} pass", results.len()));
        run.results.extend(results);
    }
    Ok(run)
}

impl Run {
    fn table(&mut self, path: PathBuf, check: Check) -> anyhow::Result<()> {
        let table = Table::read(&path)?;
        let (mut passed, mut left_out) = (0, Vec::new());
        let before = self.results.len();
        for case in &table.cases {
            let Some(outcome) = check(case)? else {
                left_out.push(case.id.clone());
                continue;
            };
            passed += usize::from(outcome.is_ok());
            let name = format!("{} {}", case.id, case.name());
            self.results.push(CaseResult { name, file: path.clone(), line: case.line, outcome });
        }
        let file = path.file_name().unwrap_or_default().to_string_lossy();
        let ran = self.results.len() - before;
        // Only the closing line of a run may say how many passed and failed: it is counted.
        let mut line = format!("{file}: {passed} of {ran} pass");
        if !left_out.is_empty() {
            line += &format!("; {} are no queries: {}", left_out.len(), left_out.join(" "));
        }
        self.summary.push(line);
        Ok(())
    }
}
