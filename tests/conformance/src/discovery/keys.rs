//! `sd_configs.json`: the keys Prometheus documents for jobs, HTTP clients and each mechanism of
//! discovery.

use std::path::Path;

use anyhow::Context;
use serde_json::{Map, Value, json};

use super::Run;
use super::config::load_alone;
use crate::case::CaseResult;

/// Headings of the documentation that stand among the keys.
const NO_KEYS: [&str; 1] = ["stackit_sd_config"];

pub(super) fn run(directory: &Path, run: &mut Run) -> anyhow::Result<()> {
    let path = directory.join("sd_configs.json");
    if !path.exists() {
        return Ok(());
    }
    let text = std::fs::read_to_string(&path).context("read sd_configs.json")?;
    let sections: Map<String, Value> =
        serde_json::from_str(&text).context("parse sd_configs.json")?;
    let (mut known, mut meta_labels) = (Vec::new(), 0);
    for (section, documented) in &sections {
        meta_labels += documented["meta_labels"].as_array().map_or(0, Vec::len);
        let keys = documented["keys"].as_object().context("`keys` is no object")?;
        let names: Vec<&str> = keys.keys().map(String::as_str).collect();
        for key in names.iter().filter(|key| !NO_KEYS.contains(key)) {
            known.push(CaseResult {
                name: format!("{section}.{key}"),
                file: path.clone(),
                line: line_of(&text, section, key),
                outcome: check(section, key, &names),
            });
        }
    }
    run.add("sd_configs.json keys", known);
    run.summary.push(format!(
        "sd_configs.json: {meta_labels} meta labels not run: only static, file, HTTP and DNS are \
         discovered from yet"
    ));
    Ok(())
}

fn line_of(text: &str, section: &str, key: &str) -> usize {
    let start = text.find(&format!("\"{section}\": {{")).unwrap_or(0);
    let at = text[start..].find(&format!("\"{key}\": ")).map_or(start, |at| start + at);
    text[..at].lines().count()
}

/// Whether a key is known: where it is documented, or one level below another documented key,
/// because the documentation's nested keys are listed flat.
fn check(section: &str, key: &str, siblings: &[&str]) -> Result<(), String> {
    let unknown = format!("field {key} not found");
    let is_known = |value: Value| {
        let config = wrap(section, value).to_string();
        match load_alone(&config) {
            Ok(_) => true,
            // Faults about what is missing beside the key do not matter here, but a place that
            // cannot hold keys does not count.
            Err(faults) => {
                let said = faults.to_string();
                !said.contains(&unknown) && !said.contains("cannot unmarshal")
            }
        }
    };
    if is_known(json!({key: null})) {
        return Ok(());
    }
    let containers = siblings.iter().copied().chain(["oauth2", "basic_auth"]);
    for container in containers.filter(|container| *container != key) {
        if is_known(json!({container: {key: null}})) || is_known(json!({container: [{key: null}]}))
        {
            return Ok(());
        }
    }
    Err("the key is not known, neither here nor one level below".to_owned())
}

/// A whole configuration with `value` where the section belongs.
fn wrap(section: &str, value: Value) -> Value {
    let job = |mut job: Value| {
        job["job_name"] = json!("job");
        json!({"scrape_configs": [job]})
    };
    match section {
        "scrape_config" | "http_config" => job(value),
        "tls_config" => job(json!({"tls_config": value})),
        "static_config" => job(json!({"static_configs": [value]})),
        "relabel_config" => job(json!({"relabel_configs": [value]})),
        mechanism => job(json!({format!("{mechanism}s"): [value]})),
    }
}
