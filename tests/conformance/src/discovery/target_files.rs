//! `file_sd.jsonl`: files of target groups.

use serde_json::Value;
use settings::target_groups::parse;

use super::{Run, Table, text};

pub(super) fn run(table: &Table, run: &mut Run) {
    run.add("file_sd.jsonl", table.run(check));
}

fn check(case: &Value) -> Result<(), String> {
    match (text(case, "expect"), parse(text(case, "id"), text(case, "text").as_bytes())) {
        ("ok", Ok(groups)) if !groups.is_empty() => Ok(()),
        ("ok", Ok(_)) => Err("no groups were found".to_owned()),
        ("ok", Err(faults)) => Err(format!("must be accepted:\n{}", faults.render())),
        ("error", Err(_)) => Ok(()),
        ("error", Ok(groups)) => Err(format!("must be refused, got {groups:?}")),
        (other, _) => Err(format!("verdict {other:?} is not known")),
    }
}
