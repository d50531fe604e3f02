//! Patterns of the lines of a file.

use std::collections::BTreeSet;

use ::logql::drain::PatternFinder;
use anyhow::Context;

use super::table::Case;

pub(super) fn check(case: &Case) -> anyhow::Result<Option<Result<(), String>>> {
    let file = case.directory.join(case.text("input_file").context("a case has no input_file")?);
    let text =
        std::fs::read_to_string(&file).with_context(|| format!("read {}", file.display()))?;
    let mut finder = PatternFinder::default();
    for line in text.lines() {
        finder.learn(line);
    }
    let got: BTreeSet<String> = finder.patterns().into_iter().map(|(_, text)| text).collect();
    let want: BTreeSet<String> = case.value["patterns"]
        .as_array()
        .context("a case expects no patterns")?
        .iter()
        .filter_map(|pattern| pattern.as_str().map(str::to_owned))
        .collect();
    let differences: Vec<String> = want
        .difference(&got)
        .map(|pattern| format!("lacks {pattern}"))
        .chain(got.difference(&want).map(|pattern| format!("has {pattern}")))
        .collect();
    let outcome = if differences.is_empty() { Ok(()) } else { Err(differences.join("\n")) };
    Ok(Some(outcome))
}
