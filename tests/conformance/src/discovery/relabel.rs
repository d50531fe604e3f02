//! `prometheus_relabel*.jsonl`: rules applied, checked and read.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Value, json};
use settings::NameValidation;
use settings::relabel::{LabelBuffer, parse_rules, relabel};

use super::{Run, Table, text};

pub(super) fn run(directory: &Path, run: &mut Run) -> anyhow::Result<()> {
    for (name, check) in [
        ("prometheus_relabel.jsonl", apply as fn(&Value) -> Result<(), String>),
        ("prometheus_relabel_validate.jsonl", validate),
        ("prometheus_relabel_yaml.jsonl", read),
    ] {
        let table = Table::read(directory, name)?;
        run.add(name, table.run(check));
    }
    Ok(())
}

fn apply(case: &Value) -> Result<(), String> {
    let rules = case["relabel_configs"].to_string();
    let rules = parse_rules("rules", rules.as_bytes(), NameValidation::Utf8)
        .map_err(|faults| faults.render())?;
    let mut labels = LabelBuffer::new();
    for (name, value) in case["input"].as_object().ok_or("`input` is no object")? {
        labels.load_label(name, value.as_str().ok_or("a value is no text")?);
    }
    let kept = relabel(&rules, &mut labels);
    if kept == case["drop"].as_bool().ok_or("`drop` is no bool")? {
        return Err(format!("kept: {kept}"));
    }
    if !kept {
        return Ok(());
    }
    let got: BTreeMap<&str, &str> = labels.iter().collect();
    let got = json!(got);
    if got == case["output"] { Ok(()) } else { Err(format!("want {}\ngot  {got}", case["output"])) }
}

/// These cases were built in Go without the defaults a file has: no action is none at all.
fn validate(case: &Value) -> Result<(), String> {
    let mut config = case["config"].clone();
    let fields = config.as_object_mut().ok_or("`config` is no object")?;
    let names = match fields.remove("name_validation_scheme") {
        Some(scheme) if scheme == "legacy" => NameValidation::Legacy,
        _ => NameValidation::Utf8,
    };
    fields.entry("action").or_insert(Value::Null);
    let refused = parse_rules("rules", json!([config]).to_string().as_bytes(), names).err();
    match (case["error_contains"].as_str(), refused) {
        (None, None) => Ok(()),
        (None, Some(faults)) => Err(format!("must be accepted:\n{}", faults.render())),
        (Some(wanted), None) => Err(format!("must be refused: {wanted}")),
        (Some(wanted), Some(faults)) if faults.to_string().contains(wanted) => Ok(()),
        (Some(wanted), Some(faults)) => Err(format!("want {wanted}\ngot  {faults}")),
    }
}

fn read(case: &Value) -> Result<(), String> {
    let rule: String = text(case, "yaml").lines().map(|line| format!("  {line}\n")).collect();
    let list = format!("-\n{rule}");
    match (text(case, "expect"), parse_rules("rules", list.as_bytes(), NameValidation::Utf8)) {
        ("ok", Ok(_)) | ("error", Err(_)) => Ok(()),
        ("ok", Err(faults)) => Err(format!("must be accepted:\n{}", faults.render())),
        (other, _) => Err(format!("verdict {other:?} was not reached")),
    }
}
