//! Runs tests one after the other, prints a line for each, and keeps what a failure needs.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, anyhow, bail};

/// One test: yields a figure for its line, such as `100 kills, 0 lost`. It may also panic.
pub(crate) type Test = fn(&Scratch) -> Result<String>;

/// Tests of one area, in the order they run.
pub(crate) struct Group {
    /// As given on the command line.
    pub(crate) name: &'static str,
    /// Name, lower case with dashes, and function of each test.
    pub(crate) tests: &'static [(&'static str, Test)],
}

/// The directory of one test.
pub(crate) struct Scratch {
    path: PathBuf,
}

impl Scratch {
    /// The directory itself.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// A path below it; nothing is made there.
    pub(crate) fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }
}

/// Runs the tests that `wanted` names (`GROUP` or `GROUP/WORD`) and prints the closing line
/// `N passed, N failed`. Yields whether all passed.
///
/// # Errors
/// A name that fits no test; the temporary directory cannot be made.
pub(crate) fn run(groups: &[Group], wanted: &[String]) -> Result<bool> {
    let chosen = choose(groups, wanted)?;
    let root = std::env::temp_dir().join(format!("watchfire-system-{}", std::process::id()));
    let (mut passed, mut failed) = (0, 0);
    for (group, name, test) in chosen {
        let scratch = Scratch { path: root.join(format!("{group}-{name}")) };
        std::fs::create_dir_all(&scratch.path)
            .with_context(|| format!("make {}", scratch.path.display()))?;
        let begin = Instant::now();
        let outcome = guarded(test, &scratch);
        let seconds = begin.elapsed().as_secs_f64();
        match outcome {
            Ok(figure) => {
                passed += 1;
                println!("{group}/{name} ok {figure} ({seconds:.1} s)");
                std::fs::remove_dir_all(&scratch.path)
                    .with_context(|| format!("remove {}", scratch.path.display()))?;
            }
            Err(error) => {
                failed += 1;
                println!("{group}/{name} FAIL {error:#} ({seconds:.1} s)");
                println!("  kept: {}", scratch.path.display());
            }
        }
    }
    // Fails when a failed test left its directory there, which is wanted.
    let _ = std::fs::remove_dir(&root);
    println!("{passed} passed, {failed} failed");
    Ok(failed == 0)
}

fn choose<'g>(groups: &'g [Group], wanted: &[String]) -> Result<Vec<(&'g str, &'g str, Test)>> {
    if wanted.is_empty() {
        let names: Vec<&str> = groups.iter().map(|group| group.name).collect();
        bail!("name the groups to run, of: {}", names.join(" "));
    }
    let mut chosen = Vec::new();
    for want in wanted {
        let (group_name, word) = want.split_once('/').unwrap_or((want, ""));
        let before = chosen.len();
        for group in groups.iter().filter(|group| group.name == group_name) {
            let fits = group.tests.iter().filter(|(name, _)| name.contains(word));
            chosen.extend(fits.map(|&(name, test)| (group.name, name, test)));
        }
        if chosen.len() == before {
            bail!("no test fits {want:?}");
        }
    }
    Ok(chosen)
}

/// A test that panics has failed; the others still run.
fn guarded(test: Test, scratch: &Scratch) -> Result<String> {
    catch_unwind(AssertUnwindSafe(|| test(scratch))).unwrap_or_else(|panic| {
        let text = panic
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| panic.downcast_ref::<&str>().copied())
            .unwrap_or("panicked");
        Err(anyhow!("{text}"))
    })
}
