//! One case of a conformance table and the report over many.

use std::fmt;
use std::io::{self, Write};
use std::path::PathBuf;

/// What became of one case.
#[derive(Debug, Clone)]
pub(crate) struct CaseResult {
    /// The case as its table names it, or the input itself when it has no name.
    pub(crate) name: String,
    /// The file the case stands in.
    pub(crate) file: PathBuf,
    /// The line it starts on, from 1.
    pub(crate) line: usize,
    /// `Err` tells what was expected and what came.
    pub(crate) outcome: Result<(), String>,
}

/// The closing line of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Totals {
    pub(crate) passed: usize,
    pub(crate) failed: usize,
}

impl fmt::Display for Totals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed", self.passed, self.failed)
    }
}

/// Writes every failed case as `file:line: name` with its reason indented below, then the totals.
///
/// # Errors
/// Only those of `out`.
pub(crate) fn report(out: &mut impl Write, results: &[CaseResult]) -> io::Result<Totals> {
    let mut totals = Totals { passed: 0, failed: 0 };
    for case in results {
        match &case.outcome {
            Ok(()) => totals.passed += 1,
            Err(reason) => {
                totals.failed += 1;
                writeln!(out, "{}:{}: {}", case.file.display(), case.line, case.name)?;
                for line in reason.lines() {
                    writeln!(out, "    {line}")?;
                }
            }
        }
    }
    writeln!(out, "{totals}")?;
    Ok(totals)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_shown_with_its_place() {
        let case = |name: &str, outcome| CaseResult {
            name: name.to_owned(),
            file: PathBuf::from("dir/a.test"),
            line: 7,
            outcome,
        };
        let results = [case("good", Ok(())), case("bad", Err("want 1\ngot 2".to_owned()))];
        let mut out = Vec::new();
        let totals = report(&mut out, &results).expect("a Vec takes every byte");
        assert_eq!(totals, Totals { passed: 1, failed: 1 });
        assert_eq!(
            String::from_utf8(out).expect("the report is text"),
            "dir/a.test:7: bad\n    want 1\n    got 2\n1 passed, 1 failed\n"
        );
    }
}
