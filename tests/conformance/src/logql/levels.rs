//! Levels of lines.

use ::logql::level::{Level, LevelDetection, SEVERITY_NUMBER, scan};
use anyhow::Context;

use super::table::{Case, same};

pub(super) fn check(case: &Case) -> anyhow::Result<Option<Result<(), String>>> {
    let line = case.text("line").unwrap_or_default();
    let mut detection = LevelDetection::default();
    if let Some(fields) = case.value["log_level_fields"].as_array() {
        detection.fields =
            fields.iter().filter_map(|field| field.as_str().map(str::to_owned)).collect();
    }
    if let Some(depth) = case.value["max_depth"].as_u64() {
        detection.json_depth = usize::try_from(depth).context("read max_depth")?;
    }
    if let Some(want) = case.text("raw_value") {
        let got = detection.json_field(line).unwrap_or_default();
        return Ok(Some(same("value", &got, want)));
    }
    let got = match case.text("mode") {
        Some("keyword") => {
            let word = case.text("word").context("a case has no word")?;
            Level::from_word(word).unwrap_or(Level::Unknown)
        }
        Some(_) => scan(line),
        None => {
            let number = case.value["structured_metadata"][SEVERITY_NUMBER].as_str();
            detection.detect(line, number)
        }
    };
    let want = case.text("level").context("a case expects no level")?;
    Ok(Some(same("level", got.as_str(), want)))
}
