//! Alertmanager: configurations, matchers, routes, intervals, inhibition, and whole scenarios of
//! notifications in virtual time.

mod acceptance;
mod configs;
mod inhibit;
mod intervals;
mod matchers;
mod routes;

use std::io;
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde_json::Value;
use settings::Faults;
use settings::alertmanager::{Config, Loaded, MatcherMode};
use settings::prometheus::Surroundings;

use crate::case::CaseResult;

/// What runs one case.
type Check = fn(&Value) -> Result<(), String>;

/// The tables and what runs them.
const TABLES: &[(&str, Check)] = &[
    ("alertmanager_config.jsonl", configs::check),
    ("alertmanager_receiver_config.jsonl", configs::check_part),
    ("alertmanager_matcher.jsonl", matchers::check),
    ("alertmanager_routing.jsonl", routes::check),
    ("alertmanager_timeinterval.jsonl", intervals::check),
    ("alertmanager_inhibit.jsonl", inhibit::check),
    ("alertmanager_acceptance.jsonl", acceptance::check),
];

/// Runs the tables that the directory has: a line of JSON per case.
pub(crate) fn run(directory: &Path) -> anyhow::Result<Vec<CaseResult>> {
    let mut results = Vec::new();
    for (name, check) in TABLES {
        let path = directory.join(name);
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error).with_context(|| format!("read {}", path.display())),
        };
        for (at, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            let case: Value = serde_json::from_str(line)
                .with_context(|| format!("parse {}:{}", path.display(), at + 1))?;
            // Said to lack what it takes to run it: neither passed nor failed.
            if case["incomplete"].as_bool() == Some(true) {
                continue;
            }
            results.push(CaseResult {
                name: text_of(&case, "id").to_owned(),
                file: path.clone(),
                line: at + 1,
                outcome: check(&case),
            });
        }
    }
    Ok(results)
}

/// The text below a key; empty if there is none.
fn text_of<'a>(case: &'a Value, key: &str) -> &'a str {
    case[key].as_str().unwrap_or_default()
}

/// Pairs of a mapping of texts.
fn pairs_of(labels: &Value) -> Vec<(String, String)> {
    let pairs = labels.as_object().into_iter().flatten();
    pairs
        .map(|(name, value)| (name.clone(), value.as_str().unwrap_or_default().to_owned()))
        .collect()
}

/// Labels of a mapping of texts.
fn labels_of(labels: &Value) -> Result<model::Labels, String> {
    let pairs = pairs_of(labels);
    let pairs = pairs.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    model::Labels::from_pairs(pairs).map_err(|error| error.to_string())
}

/// One configuration in memory, and the zones of time of this system.
struct OneFile<'a>(&'a str);

const FILE: &str = "alertmanager.yml";

impl Surroundings for OneFile<'_> {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        if path == Path::new(FILE) {
            Ok(self.0.as_bytes().to_vec())
        } else if path.starts_with("/usr/share/zoneinfo") {
            std::fs::read(path)
        } else {
            Err(io::ErrorKind::NotFound.into())
        }
    }

    fn list(&self, _: &Path) -> io::Result<Vec<String>> {
        Ok(Vec::new())
    }

    fn variable(&self, _: &str) -> Option<String> {
        None
    }
}

fn load(yaml: &str, mode: MatcherMode) -> Result<Loaded, Faults> {
    Config::load(&PathBuf::from(FILE), mode, &OneFile(yaml))
}

/// Whether a refusal says what it must. Places are ours: what Alertmanager says of lines is left
/// out.
fn says(said: &str, wanted: &str) -> Result<(), String> {
    let of_line = |line: &str| {
        let line = line.trim();
        let rest = line.strip_prefix("line ").and_then(|rest| rest.split_once(": "));
        rest.map_or(line, |(_, message)| message).to_owned()
    };
    let lines = wanted.lines().filter(|line| !line.starts_with("yaml: unmarshal errors"));
    let missing: Vec<String> =
        lines.map(of_line).filter(|line| !said.contains(line.as_str())).collect();
    if missing.is_empty() {
        Ok(())
    } else {
        Err(format!("want {}\ngot  {said}", missing.join("; ")))
    }
}
