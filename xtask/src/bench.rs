//! `cargo xtask bench NAME`: builds in release and runs the benchmark program.

use anyhow::Result;

use crate::process;

/// Runs one benchmark; the program installs nothing and names what is missing.
pub(crate) fn run(name: &str, rest: &[&str]) -> Result<bool> {
    process::check(".", "cargo", &["build", "--release", "--package", "watchfire"])?;
    let mut arguments =
        vec!["run", "--quiet", "--release", "--package", "watchfire-benches", "--", name];
    arguments.extend(rest);
    Ok(process::command(".", "cargo", &arguments).status()?.success())
}
