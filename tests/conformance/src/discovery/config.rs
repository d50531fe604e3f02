//! `prometheus_config.jsonl`: whole configurations with the verdict of Prometheus.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use serde_json::Value;
use settings::Faults;
use settings::prometheus::{Config, Loaded, Surroundings};

use super::{Run, Table, text};

/// The directory Prometheus' own test reads its files from; it stands in messages.
const DIRECTORY: &str = "testdata";

/// Files held in memory.
pub(super) struct Files(pub(super) BTreeMap<PathBuf, String>);

impl Surroundings for Files {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let text = self.0.get(path).ok_or(io::ErrorKind::NotFound)?;
        Ok(text.clone().into_bytes())
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<String>> {
        let names = self.0.keys().filter(|path| path.parent() == Some(directory));
        Ok(names.filter_map(|path| path.file_name()?.to_str().map(str::to_owned)).collect())
    }

    fn variable(&self, name: &str) -> Option<String> {
        (name == "TEST").then(|| "test".to_owned())
    }
}

/// Loads one text as a configuration that includes nothing.
pub(super) fn load_alone(yaml: &str) -> Result<Loaded, Faults> {
    let path = PathBuf::from("prometheus.yml");
    Config::load(&path, &Files([(path.clone(), yaml.to_owned())].into()))
}

/// Whether a refusal says what it must: where, with a caret, and never more than it knows.
pub(super) fn check_rendering(faults: &Faults) -> Result<(), String> {
    let rendered = faults.render();
    for fault in faults.iter().filter(|fault| fault.line > 0) {
        let place = format!("{}:{}:{}: error: ", fault.file, fault.line, fault.column);
        if !rendered.contains(&place) || !rendered.contains('^') {
            return Err(format!("no place in:\n{rendered}"));
        }
    }
    Ok(())
}

pub(super) fn run(table: &Table, run: &mut Run) {
    let files = Files(
        table.cases.iter().map(|(_, case)| (path(case), text(case, "yaml").to_owned())).collect(),
    );
    let results = table.run(|case| check(case, &files));
    let unjudged =
        table.cases.iter().filter(|(_, case)| text(case, "expect") == "unspecified").count();
    run.add("prometheus_config.jsonl", results);
    if unjudged > 0 {
        let line = format!("prometheus_config.jsonl: {unjudged} of them have no verdict");
        run.summary.push(line);
    }
}

fn path(case: &Value) -> PathBuf {
    let id = text(case, "id");
    Path::new(DIRECTORY).join(id.split_once('/').map_or(id, |(_, name)| name))
}

fn check(case: &Value, files: &Files) -> Result<(), String> {
    let loaded = Config::load(&path(case), files);
    match (text(case, "expect"), loaded) {
        ("ok", Ok(_)) | ("unspecified", Ok(_)) => Ok(()),
        ("ok", Err(faults)) => Err(format!("must be accepted:\n{}", faults.render())),
        ("error", Ok(_)) => Err(format!("must be refused: {}", case["error_contains"])),
        ("unspecified", Err(faults)) => check_rendering(&faults),
        ("error", Err(faults)) => {
            let wanted = text(case, "error_contains");
            let said = faults.to_string();
            if !said.contains(wanted) {
                return Err(format!("want {wanted}\ngot  {said}"));
            }
            check_rendering(&faults)
        }
        (other, _) => Err(format!("verdict {other:?} is not known")),
    }
}
