//! Licences of all dependencies against the list in `deny.toml`. `cargo deny check` knows more
//! (advisories, sources); this part needs no network and no other tool, so it always runs.

use std::collections::BTreeSet;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::process::{command, root};

/// Adds a finding for every package whose licence is not allowed.
pub(crate) fn check(findings: &mut Vec<String>) -> Result<()> {
    let allowed = allowed()?;
    let output = command(".", "cargo", &["metadata", "--format-version=1", "--locked"])
        .output()
        .context("run cargo metadata")?;
    if !output.status.success() {
        findings.push("Cargo.lock does not fit the manifests: run `cargo check`, commit it".into());
        return Ok(());
    }
    let metadata: Value = serde_json::from_slice(&output.stdout).context("read cargo metadata")?;
    for package in metadata["packages"].as_array().into_iter().flatten() {
        let licence = package["license"].as_str().unwrap_or_default();
        if !is_allowed(licence, &allowed) {
            findings.push(format!(
                "{} {} has licence {licence:?}, which deny.toml does not allow",
                package["name"].as_str().unwrap_or("?"),
                package["version"].as_str().unwrap_or("?"),
            ));
        }
    }
    Ok(())
}

/// The strings of `allow = […]` under `[licenses]`.
fn allowed() -> Result<BTreeSet<String>> {
    let text = std::fs::read_to_string(root().join("deny.toml")).context("read deny.toml")?;
    let list = text
        .split_once("allow = [")
        .and_then(|(_, rest)| rest.split_once(']'))
        .context("deny.toml has no list of allowed licences")?;
    Ok(list.0.split('"').skip(1).step_by(2).map(str::to_owned).collect())
}

/// Every part joined by AND must offer something allowed.
fn is_allowed(licence: &str, allowed: &BTreeSet<String>) -> bool {
    let plain = licence.replace(['(', ')'], "").replace(" / ", " OR ").replace('/', " OR ");
    !plain.is_empty()
        && plain
            .split(" AND ")
            .all(|part| part.split(" OR ").any(|name| allowed.contains(name.trim())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_are_read() {
        let allowed: BTreeSet<String> =
            ["MIT", "BSD-3-Clause"].into_iter().map(str::to_owned).collect();
        for good in ["MIT", "MIT/Apache-2.0", "(Apache-2.0 OR MIT) AND BSD-3-Clause"] {
            assert!(is_allowed(good, &allowed), "{good}");
        }
        for bad in ["", "GPL-3.0", "MIT AND GPL-3.0"] {
            assert!(!is_allowed(bad, &allowed), "{bad}");
        }
    }
}
