//! `sd_configs.json`: the keys Prometheus documents for jobs, HTTP clients and each mechanism of
//! discovery, and what they are when they are absent.

use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use serde_json::{Map, Value, json};
use settings::prometheus::Discovery;
use settings::relabel::RelabelFields;

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
    let (mut known, mut defaults, mut meta_labels, mut not_kept) = (Vec::new(), Vec::new(), 0, 0);
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
            let Some(documented) = keys[*key].as_str() else { continue };
            let Some(ours) = default_of(section, key) else {
                not_kept += 1;
                continue;
            };
            let documented = documented.trim_matches(['\'', '"']);
            defaults.push(CaseResult {
                name: format!("{section}.{key} by default"),
                file: path.clone(),
                line: line_of(&text, section, key),
                outcome: if ours == documented {
                    Ok(())
                } else {
                    Err(format!("want {documented}\ngot  {ours}"))
                },
            });
        }
    }
    run.add("sd_configs.json keys", known);
    run.add("sd_configs.json defaults", defaults);
    run.summary.push(format!(
        "sd_configs.json: {not_kept} defaults not run: they follow `global` or belong to \
         mechanisms that are not run yet"
    ));
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

/// What a key is when it is absent, for those whose values are kept; as the documentation writes
/// it.
fn default_of(section: &str, key: &str) -> Option<String> {
    let required = match section {
        "dns_sd_config" => json!({"names": ["x"]}),
        "file_sd_config" => json!({"files": ["x.yml"]}),
        "http_sd_config" => json!({"url": "http://x"}),
        "relabel_config" => json!({"target_label": "x"}),
        "scrape_config" | "http_config" => json!({}),
        _ => return None,
    };
    let loaded = load_alone(&wrap(section, required).to_string()).ok()?;
    let job = loaded.config.scrape_configs.first()?;
    let minutes = |interval: Duration| match interval.as_secs() {
        seconds if seconds > 60 => format!("{}m", seconds / 60),
        seconds => format!("{seconds}s"),
    };
    let value = match (section, key, job.discovery.first()) {
        ("scrape_config", "metrics_path", _) => job.metrics_path.clone(),
        ("scrape_config", "scheme", _) => job.scheme.clone(),
        ("scrape_config", "honor_labels", _) => job.honor_labels.to_string(),
        ("scrape_config", "honor_timestamps", _) => job.honor_timestamps.to_string(),
        ("scrape_config", "track_timestamps_staleness", _) => {
            job.track_timestamps_staleness.to_string()
        }
        ("scrape_config", "enable_compression", _) => job.enable_compression.to_string(),
        ("scrape_config", "body_size_limit", _) => job.body_size_limit.to_string(),
        ("scrape_config", "sample_limit", _) => job.sample_limit.to_string(),
        ("scrape_config", "label_limit", _) => job.label_limit.to_string(),
        ("scrape_config", "label_name_length_limit", _) => job.label_name_length_limit.to_string(),
        ("scrape_config", "label_value_length_limit", _) => {
            job.label_value_length_limit.to_string()
        }
        ("scrape_config", "target_limit", _) => job.target_limit.to_string(),
        ("scrape_config", "keep_dropped_targets", _) => job.keep_dropped_targets.to_string(),
        ("scrape_config", "native_histogram_bucket_limit", _) => {
            job.native_histogram_bucket_limit.to_string()
        }
        ("scrape_config", "native_histogram_min_bucket_factor", _) => {
            job.native_histogram_min_bucket_factor.to_string()
        }
        ("http_config", "follow_redirects", _) => job.http.follow_redirects.to_string(),
        ("dns_sd_config", "type", Some(Discovery::Dns(dns))) => {
            format!("{:?}", dns.record_type).to_uppercase()
        }
        (_, "refresh_interval", Some(Discovery::Dns(dns))) => minutes(dns.refresh_interval),
        (_, "refresh_interval", Some(Discovery::File(file))) => minutes(file.refresh_interval),
        (_, "refresh_interval", Some(Discovery::Http(http))) => minutes(http.refresh_interval),
        ("relabel_config", key, _) => relabel_default(job.relabel_configs.first()?.fields(), key)?,
        _ => return None,
    };
    Some(value)
}

fn relabel_default(fields: &RelabelFields, key: &str) -> Option<String> {
    Some(match key {
        "separator" => fields.separator.clone(),
        "regex" => fields.regex.as_str().to_owned(),
        "replacement" => fields.replacement.clone(),
        "action" => fields.action.name().to_owned(),
        _ => return None,
    })
}
