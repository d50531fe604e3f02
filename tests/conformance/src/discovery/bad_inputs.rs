//! The corpus of bad inputs, as far as it is about configurations.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde_json::{Map, Value};
use settings::Severity;

use super::Run;
use super::config::{Files, check_rendering, load_alone};
use crate::case::CaseResult;

/// Files of the corpus that are good, or bad only together with files that do not lie beside
/// them. Each is pinned to be accepted, so that a change of mind is noticed.
const ACCEPTED: [(&str, &str); 1] = [(
    "bad-sd-file-extension.nonexistent",
    "an empty file is a valid configuration; the case is about the ending of its name",
)];

pub(super) fn run(corpus: &Path, run: &mut Run) -> anyhow::Result<()> {
    for (protocol, check) in [
        ("prometheus-config", prometheus as fn(&str, &[u8]) -> Result<(), String>),
        ("http-client-config", http_client),
        ("discovery-targets", targets),
    ] {
        let files = files_of(&corpus.join("files").join(protocol))?;
        let mut results = Vec::with_capacity(files.len());
        for path in files {
            let bytes = std::fs::read(&path).with_context(|| format!("read {}", path.display()))?;
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let accepted = ACCEPTED.iter().any(|(part, _)| name.ends_with(part));
            let outcome = match (check(name, &bytes), accepted) {
                (Err(reason), false) => Err(reason),
                (Ok(()), true) => Err("is refused, but pinned as accepted".to_owned()),
                _ => Ok(()),
            };
            results.push(CaseResult { name: name.to_owned(), file: path, line: 1, outcome });
        }
        if !results.is_empty() {
            run.add(&format!("corpus {protocol}"), results);
        }
    }
    Ok(())
}

/// The files of a directory in order; none if it does not exist.
fn files_of(directory: &Path) -> anyhow::Result<Vec<PathBuf>> {
    if !directory.exists() {
        return Ok(Vec::new());
    }
    let mut paths = Vec::new();
    for entry in
        std::fs::read_dir(directory).with_context(|| format!("list {}", directory.display()))?
    {
        paths.push(entry.with_context(|| format!("list {}", directory.display()))?.path());
    }
    paths.sort();
    Ok(paths)
}

fn prometheus(_: &str, bytes: &[u8]) -> Result<(), String> {
    refused(&String::from_utf8_lossy(bytes))
}

/// Keys of an HTTP client, put into a job; JSON ones by merging objects.
fn http_client(name: &str, bytes: &[u8]) -> Result<(), String> {
    let text = String::from_utf8_lossy(bytes);
    let tls = name.contains("tls_config");
    if name.ends_with(".json") {
        let mut job: Map<String, Value> =
            serde_json::from_str(&text).map_err(|error| format!("the case itself: {error}"))?;
        if tls {
            job = Map::from_iter([("tls_config".to_owned(), Value::Object(job))]);
        }
        job.insert("job_name".to_owned(), "job".into());
        return refused(&serde_json::json!({"scrape_configs": [job]}).to_string());
    }
    let indent = if tls { "      " } else { "    " };
    let keys: String = text.lines().map(|line| format!("{indent}{line}\n")).collect();
    let head = if tls { "    tls_config:\n" } else { "" };
    refused(&format!("scrape_configs:\n  - job_name: job\n{head}{keys}"))
}

/// Refused at once, or found to be a mistake when looked at closely.
fn refused(yaml: &str) -> Result<(), String> {
    let loaded = match load_alone(yaml) {
        Ok(loaded) => loaded,
        Err(faults) => return check_rendering(&faults),
    };
    let closely = loaded.check(&Files(BTreeMap::new()));
    let mut all = loaded.warnings.iter().chain(&closely);
    if all.any(|found| found.severity == Severity::Mistake) {
        Ok(())
    } else {
        Err("must be refused".to_owned())
    }
}

/// The good files of Prometheus' discovery tests lie among the bad ones; their names tell.
fn targets(name: &str, bytes: &[u8]) -> Result<(), String> {
    let good = name.contains("-valid");
    match (settings::target_groups::parse(name, bytes), good) {
        (Ok(_), true) | (Err(_), false) => Ok(()),
        (Ok(groups), false) => Err(format!("must be refused, got {groups:?}")),
        (Err(faults), true) => Err(format!("must be accepted:\n{}", faults.render())),
    }
}
