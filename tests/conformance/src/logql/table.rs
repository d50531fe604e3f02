//! A file of cases.

use std::path::{Path, PathBuf};

use anyhow::Context;
use base64::Engine as _;
use serde_json::Value;

/// The cases of one file.
pub(super) struct Table {
    pub(super) cases: Vec<Case>,
}

/// One case.
pub(super) struct Case {
    pub(super) id: String,
    /// The line of the file its id stands on.
    pub(super) line: usize,
    /// Where its file lies, for cases that name others.
    pub(super) directory: PathBuf,
    pub(super) value: Value,
}

impl Table {
    pub(super) fn read(path: &Path) -> anyhow::Result<Self> {
        let text =
            std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
        let mut root: Value = serde_json::from_str(&text)
            .with_context(|| format!("read {} as JSON", path.display()))?;
        let Value::Array(cases) = root["cases"].take() else {
            anyhow::bail!("{} has no cases", path.display());
        };
        let directory = path.parent().unwrap_or(Path::new(".")).to_owned();
        let cases = cases
            .into_iter()
            .map(|value| {
                let id = value["id"].as_str().context("a case has no id")?.to_owned();
                let before = text.find(&format!("\"{id}\"")).map_or("", |at| &text[..at]);
                let line = 1 + before.matches('\n').count();
                Ok(Case { id, line, directory: directory.clone(), value })
            })
            .collect::<anyhow::Result<_>>()?;
        Ok(Table { cases })
    }
}

impl Case {
    /// What a report calls it.
    pub(super) fn name(&self) -> &str {
        ["query", "input", "title", "name", "stages", "line"]
            .iter()
            .find_map(|field| self.value[field].as_str())
            .unwrap_or_default()
    }

    /// A field that is text, or bytes written as `{"b64": …}`.
    pub(super) fn bytes(&self, field: &str) -> anyhow::Result<Vec<u8>> {
        let value = &self.value[field];
        if let Some(text) = value.as_str() {
            return Ok(text.as_bytes().to_vec());
        }
        let encoded =
            value["b64"].as_str().with_context(|| format!("case {} has no {field}", self.id))?;
        base64::engine::general_purpose::STANDARD
            .decode(encoded)
            .with_context(|| format!("case {} has a {field} that is no base64", self.id))
    }

    pub(super) fn text(&self, field: &str) -> Option<&str> {
        self.value[field].as_str()
    }
}

/// Compares, and tells both where they differ.
pub(super) fn same(what: &str, got: &str, want: &str) -> Result<(), String> {
    if got == want { Ok(()) } else { Err(format!("{what}\nwant {want}\ngot  {got}")) }
}
