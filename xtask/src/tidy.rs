//! `cargo xtask tidy`: what the compiler does not check about the house.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::process::root;

/// Layers from the ground up; a crate may use crates of lower layers only, never a sibling.
const LAYERS: &[&[&str]] = &[
    &["model"],
    &["codec", "gotemplate"],
    &["labelindex", "catalog", "settings"],
    &["blockstore"],
    &["alerting", "logql", "logstore", "metricstore", "promql", "wire"],
    &["consensus", "governor", "net", "ruletest"],
    &["discovery", "objects", "receivers"],
    &["agent", "broker", "console", "ruler"],
    &["watchfire"],
];

/// Engines: pure, so they know neither sockets nor an async runtime.
const ENGINES: &[&str] = &[
    "model",
    "codec",
    "gotemplate",
    "labelindex",
    "catalog",
    "blockstore",
    "metricstore",
    "promql",
    "logql",
    "logstore",
    "settings",
    "alerting",
    "ruletest",
    "wire",
];
const ASYNC: &[&str] = &["tokio", "hyper", "axum", "tonic"];

/// Names that say nothing.
const EMPTY_NAMES: &[&str] = &["util", "utils", "common", "manager", "helper", "helpers", "misc"];

/// A source file above this many lines must be listed in `xtask/tidy-sizes.txt` with its size,
/// and may not grow past it.
const LINE_MARK: usize = 600;

/// Runs all checks and prints each finding. Yields whether there were none.
pub(crate) fn run() -> Result<bool> {
    let mut findings = Vec::new();
    arrows(&mut findings)?;
    sources(&mut findings)?;
    crate::licences::check(&mut findings)?;
    for finding in &findings {
        println!("tidy: {finding}");
    }
    Ok(findings.is_empty())
}

fn layer(name: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&name))
}

fn arrows(findings: &mut Vec<String>) -> Result<()> {
    let crates = root().join("crates");
    for entry in std::fs::read_dir(&crates).context("list crates/")? {
        let path = entry?.path();
        let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default().to_owned();
        let Some(own) = layer(&name) else {
            findings.push(format!("crates/{name} has no layer in xtask/src/tidy.rs"));
            continue;
        };
        let manifest = std::fs::read_to_string(path.join("Cargo.toml"))
            .with_context(|| format!("read crates/{name}/Cargo.toml"))?;
        for dependency in dependencies(&manifest) {
            match layer(&dependency) {
                Some(other) if other == own => findings.push(format!(
                    "crates/{name} uses its sibling {dependency}: move what they share down"
                )),
                Some(other) if other > own => {
                    findings.push(format!("crates/{name} uses {dependency}, which lies above it"))
                }
                _ => {}
            }
            if ENGINES.contains(&name.as_str()) && ASYNC.contains(&dependency.as_str()) {
                findings.push(format!("crates/{name} is an engine and must not use {dependency}"));
            }
        }
    }
    Ok(())
}

/// Names under `[dependencies]` of a manifest written one per line, as all of ours are.
fn dependencies(manifest: &str) -> Vec<String> {
    let mut inside = false;
    let mut names = Vec::new();
    for line in manifest.lines().map(str::trim) {
        if line.starts_with('[') {
            inside = line == "[dependencies]";
        } else if inside && let Some((name, _)) = line.split_once(['.', '=']) {
            names.push(name.trim().to_owned());
        }
    }
    names
}

fn sources(findings: &mut Vec<String>) -> Result<()> {
    let allowed = allowed_sizes()?;
    let mut files = Vec::new();
    for directory in ["crates", "fuzz", "xtask", "tests", "benches"] {
        rust_files(&root().join(directory), &mut files)?;
    }
    for path in files {
        let shown = path.strip_prefix(root()).unwrap_or(&path).display().to_string();
        let text = std::fs::read_to_string(&path).with_context(|| format!("read {shown}"))?;
        let stem = path.file_stem().and_then(|s| s.to_str()).unwrap_or_default();
        if EMPTY_NAMES.contains(&stem) {
            findings.push(format!("{shown}: the name {stem:?} says nothing; name what is inside"));
        }
        let lines = text.lines().count();
        let mark = allowed.get(&shown).copied().unwrap_or(LINE_MARK);
        if lines > mark {
            findings.push(format!("{shown} has {lines} lines, its mark is {mark}: split it"));
        }
        for (number, line) in text.lines().enumerate() {
            // Spelt in two parts so that this file does not find itself.
            if line.contains(concat!("TO", "DO")) && !line.contains("issue #") {
                findings.push(format!("{shown}:{}: an open end must name its issue", number + 1));
            }
        }
    }
    Ok(())
}

fn allowed_sizes() -> Result<BTreeMap<String, usize>> {
    let text = std::fs::read_to_string(root().join("xtask/tidy-sizes.txt"))
        .context("read xtask/tidy-sizes.txt")?;
    Ok(text
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split_once(' '))
        .filter_map(|(size, path)| Some((path.trim().to_owned(), size.parse().ok()?)))
        .collect())
}

fn rust_files(directory: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in
        std::fs::read_dir(directory).with_context(|| format!("list {}", directory.display()))?
    {
        let path = entry?.path();
        if path.is_dir() {
            if path.file_name().is_some_and(|name| name != "node_modules" && name != "target") {
                rust_files(&path, files)?;
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_dependencies_of_a_manifest() {
        let manifest = "[package]\nname = \"x\"\n[dependencies]\nmodel.workspace = true\nbar = \"1\"\n[dev-dependencies]\nproptest.workspace = true\n";
        assert_eq!(dependencies(manifest), ["model", "bar"]);
    }

    #[test]
    fn layers_name_no_crate_twice() {
        let mut names: Vec<_> = LAYERS.iter().flat_map(|layer| layer.iter()).collect();
        let count = names.len();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), count);
    }
}
