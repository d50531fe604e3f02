//! The stages of `cargo xtask test`.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::process::{self, Counts};

const ONE: Counts = Counts { passed: 1, failed: 0 };

pub(crate) fn format() -> Result<Counts> {
    process::check(".", "cargo", &["fmt", "--all", "--check"])?;
    Ok(ONE)
}

pub(crate) fn tidy() -> Result<Counts> {
    let is_tidy = crate::tidy::run()?;
    Ok(Counts { passed: u64::from(is_tidy), failed: u64::from(!is_tidy) })
}

pub(crate) fn clippy() -> Result<Counts> {
    let arguments =
        ["clippy", "--quiet", "--workspace", "--all-targets", "--", "--deny", "warnings"];
    process::check(".", "cargo", &arguments)?;
    Ok(ONE)
}

pub(crate) fn unit() -> Result<Counts> {
    process::count(".", "cargo", &["test", "--quiet", "--workspace", "--no-fail-fast"])
}

/// Rebuilds the console's pages from their sources.
pub(crate) fn build_web() -> Result<bool> {
    process::check("web", "npm", &["ci", "--no-audit", "--no-fund", "--loglevel=error"])?;
    process::check("web", "npm", &["run", "--silent", "build"])?;
    Ok(true)
}

/// The committed `web/dist` must be what its sources build to.
pub(crate) fn web() -> Result<Counts> {
    let before = fingerprint(&process::root().join("web/dist"))?;
    build_web()?;
    if before != fingerprint(&process::root().join("web/dist"))? {
        bail!("web/dist is not what web/src builds to: run `cargo xtask web` and commit web/dist");
    }
    process::check("web", "npm", &["run", "--silent", "check"])?;
    process::check("web", "npm", &["test", "--silent"])?;
    Ok(Counts { passed: 3, failed: 0 })
}

/// Names and contents of all files below `directory`, in a fixed order.
fn fingerprint(directory: &Path) -> Result<Vec<(PathBuf, Vec<u8>)>> {
    let mut files = Vec::new();
    let mut open = vec![directory.to_owned()];
    while let Some(directory) = open.pop() {
        let entries = std::fs::read_dir(&directory)
            .with_context(|| format!("list {}", directory.display()))?;
        for entry in entries {
            let path = entry?.path();
            if path.is_dir() {
                open.push(path);
            } else {
                let bytes = std::fs::read(&path)?;
                files.push((path, bytes));
            }
        }
    }
    files.sort();
    Ok(files)
}

/// `cargo xtask conformance SUITE DIR`.
pub(crate) fn conformance(suite: &str, rest: &[&str]) -> Result<bool> {
    let mut arguments = runner(suite);
    if over_sockets(suite) {
        build_binary()?;
    }
    // The program runs in the root; a directory is meant as seen from where the user stands.
    let given: Vec<String> = rest
        .iter()
        .map(|word| {
            std::path::absolute(word)
                .ok()
                .filter(|path| !word.starts_with('-') && path.exists())
                .map_or_else(|| (*word).to_owned(), |path| path.display().to_string())
        })
        .collect();
    arguments.extend(given.iter().map(String::as_str));
    Ok(process::command(".", "cargo", &arguments).status()?.success())
}

/// Whether a suite is run against the program rather than against its engines.
fn over_sockets(suite: &str) -> bool {
    suite == "remote-write"
}

/// What runs a suite, without the directory of its cases.
fn runner(suite: &str) -> Vec<&str> {
    if over_sockets(suite) {
        vec!["run", "--quiet", "--package", "watchfire-system", "--", "conformance", suite]
    } else {
        vec!["run", "--quiet", "--package", "watchfire-conformance", "--", suite]
    }
}

/// Runs a suite over the public cases beside the repository; they are no part of it, so where
/// they are absent the stage says so and counts nothing.
fn suite(name: &str) -> Result<Counts> {
    let cases = process::root().join("../shared/conformance").join(name);
    if !cases.is_dir() {
        println!("  the public {name} cases are not on this machine; nothing run");
        return Ok(Counts::default());
    }
    let cases = cases.display().to_string();
    if over_sockets(name) {
        build_binary()?;
    }
    let mut arguments = runner(name);
    arguments.push(cases.as_str());
    process::count(".", "cargo", &arguments)
}

pub(crate) fn promql() -> Result<Counts> {
    suite("promql")
}

pub(crate) fn logql() -> Result<Counts> {
    suite("logql")
}

pub(crate) fn discovery() -> Result<Counts> {
    suite("discovery")
}

pub(crate) fn alerting() -> Result<Counts> {
    suite("alerting")
}

pub(crate) fn host_metrics() -> Result<Counts> {
    suite("host-metrics")
}

pub(crate) fn remote_write() -> Result<Counts> {
    suite("remote-write")
}

pub(crate) fn textparse() -> Result<Counts> {
    suite("textparse")
}

fn build_binary() -> Result<()> {
    process::check(".", "cargo", &["build", "--quiet", "--package", "watchfire"])
}

fn system_tests(groups: &[&str]) -> Result<Counts> {
    build_binary()?;
    let mut arguments = vec!["run", "--quiet", "--package", "watchfire-system", "--"];
    arguments.extend(groups);
    process::count(".", "cargo", &arguments)
}

pub(crate) fn system() -> Result<Counts> {
    system_tests(&["alerting", "api", "faults", "interop", "docs", "security", "tenants", "tier"])
}

/// The crate of shared stores against real ones.
pub(crate) fn stores() -> Result<Counts> {
    process::count(".", "cargo", &["run", "--quiet", "--package", "watchfire-stores"])
}

/// Brokers of a cluster as real processes.
pub(crate) fn cluster() -> Result<Counts> {
    system_tests(&["cluster"])
}

/// The same over stores of others and over networks that break.
pub(crate) fn cluster_stores() -> Result<Counts> {
    system_tests(&["cluster-stores"])
}

/// What has bounds of time and memory runs by itself.
pub(crate) fn measured() -> Result<Counts> {
    system_tests(&["live", "memory"])
}

pub(crate) fn crash() -> Result<Counts> {
    system_tests(&["crash"])
}

pub(crate) fn browser() -> Result<Counts> {
    process::check("tests/browser", "npm", &["ci", "--no-audit", "--no-fund", "--loglevel=error"])?;
    system_tests(&["browser"])
}

pub(crate) fn quickstart() -> Result<Counts> {
    system_tests(&["quickstart"])
}

pub(crate) fn dist() -> Result<Counts> {
    build_binary()?;
    crate::dist::check()
}
