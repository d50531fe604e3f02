//! `cargo xtask bench NAME`: builds in release and runs the benchmark program.

use anyhow::Result;

use crate::process;

/// Runs one benchmark; the program installs nothing and names what is missing.
pub(crate) fn run(name: &str, rest: &[&str]) -> Result<bool> {
    process::check(".", "cargo", &["build", "--release", "--package", "watchfire"])?;
    if name == "hour" {
        return hour();
    }
    let mut arguments =
        vec!["run", "--quiet", "--release", "--package", "watchfire-benches", "--", name];
    arguments.extend(rest);
    Ok(process::command(".", "cargo", &arguments).status()?.success())
}

/// A broker away for an hour: the system test of that name, at its full length.
fn hour() -> Result<bool> {
    process::check(".", "cargo", &["build", "--release", "--package", "watchfire-system"])?;
    // Beside the program under test.
    let run = ["run", "--quiet", "--release", "--package", "watchfire-system", "--"];
    let mut command = process::command(".", "cargo", &run);
    Ok(command.arg("tier/hour-away").env("RUN_SLOW_TESTS", "1").status()?.success())
}
