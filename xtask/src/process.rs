//! Running other programs: in the repository's root, echoed, with their output read for counts.

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Mutex;

use anyhow::{Context, Result, bail};

/// What a test runner said at its end.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
}

impl Counts {
    pub(crate) fn add(&mut self, other: Counts) {
        self.passed += other.passed;
        self.failed += other.failed;
    }
}

/// Lines that told of failures so far. They are said again at the end of a whole run: what stands
/// in the middle of ten thousand lines is not found, and is lost where only the end is kept.
static FAILURES: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// The most lines kept, and the most of each. A broken build fails everywhere.
const FAILURES_KEPT: usize = 60;
const FAILURE_BYTES: usize = 2_000;

/// Keeps a line for [`failures`].
pub(crate) fn note_failure(line: &str) {
    let mut failures = FAILURES.lock().expect("nobody panics while holding it");
    if failures.len() < FAILURES_KEPT {
        failures.push(line.chars().take(FAILURE_BYTES).collect());
    }
}

/// What was said of failures, in the order in which it was said.
pub(crate) fn failures() -> Vec<String> {
    FAILURES.lock().expect("nobody panics while holding it").clone()
}

/// Whether a runner says with this line that something failed: `name FAIL why` of our own ones,
/// `test name ... FAILED` and `thread 'name' panicked at` of Rust's.
fn tells_failure(line: &str) -> bool {
    let line = line.trim_start();
    line.contains(" FAIL ")
        || line.contains(" FAIL: ")
        || line.ends_with("... FAILED")
        || line.ends_with("--- FAILED")
        || (line.starts_with("thread '") && line.contains("panicked at"))
}

/// The repository's root. Cargo tells where it started this program from; where it was built may be
/// another clone that shares the target directory.
pub(crate) fn root() -> PathBuf {
    let package = std::env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
    let package = package.unwrap_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")));
    package.parent().expect("xtask lies in the root").to_owned()
}

/// A command that will run in `directory` below the root.
pub(crate) fn command(directory: &str, program: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(arguments).current_dir(root().join(directory)).stdin(Stdio::null());
    // Tests and benches count what is stored; those that want what a program stores by itself say so.
    command.env("WATCHFIRE_OWN_METRICS", "false").env("WATCHFIRE_BUILTIN_RULES", "false");
    command
}

/// Runs a program and fails unless it exits with 0.
pub(crate) fn check(directory: &str, program: &str, arguments: &[&str]) -> Result<()> {
    let status = command(directory, program, arguments)
        .status()
        .with_context(|| format!("start {program}; is it installed?"))?;
    if !status.success() {
        bail!("`{program} {}` ended with {status}", arguments.join(" "));
    }
    Ok(())
}

/// Runs a test program, passes its standard output on and sums the counts it prints, both
/// `test result: ok. N passed; N failed` and plain `N passed, N failed` lines. A program that
/// fails without counting a failure counts as one.
pub(crate) fn count(directory: &str, program: &str, arguments: &[&str]) -> Result<Counts> {
    let mut child = command(directory, program, arguments)
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("start {program}; is it installed?"))?;
    let output = child.stdout.take().expect("standard output is piped");
    let mut total = Counts::default();
    let mut screen = std::io::stdout();
    let mut is_reason = false;
    for line in BufReader::new(output).lines() {
        let line = line.context("read the program's output")?;
        if let Some(counts) = parse_counts(&line) {
            total.add(counts);
        }
        // Rust's runner tells the reason in the line below the place.
        if is_reason || tells_failure(&line) {
            note_failure(line.trim());
        }
        is_reason = line.trim_start().starts_with("thread '") && line.contains("panicked at");
        // The closing line of the whole run must be the only plain one at the start of a line.
        let _ = writeln!(screen, "  {line}");
    }
    let status = child.wait()?;
    if !status.success() && total.failed == 0 {
        total.failed = 1;
    }
    Ok(total)
}

fn parse_counts(line: &str) -> Option<Counts> {
    let line = line.split_once("test result:").map_or(line, |(_, rest)| rest);
    let line = line.trim_start_matches(|c: char| !c.is_ascii_digit());
    let (passed, rest) = line.split_once(" passed")?;
    let rest = rest.trim_start_matches([',', ';']).trim_start();
    let (failed, _) = rest.split_once(" failed")?;
    Some(Counts { passed: passed.parse().ok()?, failed: failed.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_what_tells_of_failures() {
        assert!(tells_failure("tier/hour-away FAIL no answer (9.0 s)"));
        assert!(tells_failure("    host: loads FAIL: Timeout"));
        assert!(tells_failure("test head::tests::is_sorted ... FAILED"));
        assert!(tells_failure("head::tests::is_sorted --- FAILED"));
        assert!(tells_failure("thread 'head::tests::is_sorted' panicked at src/head.rs:7:5:"));
        assert!(!tells_failure("tier/hour-away ok none FAILED (9.0 s)"));
        assert!(!tells_failure("test result: FAILED. 9 passed; 1 failed"));
    }

    #[test]
    fn reads_the_closing_lines_of_runners() {
        let counts = |passed, failed| Some(Counts { passed, failed });
        assert_eq!(parse_counts("test result: ok. 9 passed; 1 failed; 0 ignored"), counts(9, 1));
        assert_eq!(parse_counts("12 passed, 0 failed"), counts(12, 0));
        assert_eq!(parse_counts("12 passed, 0 failed, 3 not run"), counts(12, 0));
        assert_eq!(parse_counts("running 9 tests"), None);
        assert_eq!(parse_counts("it passed"), None);
    }
}
