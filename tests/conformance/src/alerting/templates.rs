//! Tables of templates: Alertmanager's, Prometheus', and which of Prometheus' rules can be read.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, LazyLock};

use alerting::templates::notice::{Kv, NOTICE_LIMITS, Templates, data_classes};
use alerting::templates::rule::{self, QuerySample, SampleValue, Surroundings};
use anyhow::Context;
use gotemplate::{LIST, Limits, MAP, MissingKey, TEXTS, Value};
use model::go_time::GoTime;
use serde_json::Value as Json;

use crate::case::CaseResult;

/// What a table's runner makes of one case.
type Check = fn(&Json) -> Result<(), String>;

/// The tables and what runs them.
const TABLES: &[(&str, Check)] = &[
    ("alertmanager_template.jsonl", notice_case),
    ("prometheus_template.jsonl", rule_case),
    ("prometheus_rule_template_parse.jsonl", parse_case),
];

/// Runs the tables that the directory has.
pub(crate) fn run(directory: &Path) -> anyhow::Result<Vec<CaseResult>> {
    let mut results = Vec::new();
    for (name, check) in TABLES {
        let file = directory.join(name);
        if !file.exists() {
            continue;
        }
        let text =
            std::fs::read_to_string(&file).with_context(|| format!("read {}", file.display()))?;
        for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.is_empty()) {
            let case: Json = serde_json::from_str(line)
                .with_context(|| format!("read line {} of {}", index + 1, file.display()))?;
            let name = case["id"].as_str().unwrap_or_default().to_owned();
            let outcome = check(&case);
            results.push(CaseResult { name, file: file.clone(), line: index + 1, outcome });
        }
    }
    Ok(results)
}

/// Compares what came with what was wanted: an output, an error, or any error.
fn compare(
    got: Result<String, String>,
    want: Option<&str>,
    error: Option<&str>,
) -> Result<(), String> {
    match (got, want, error) {
        (Ok(got), Some(want), _) if got == want => Ok(()),
        (Err(got), None, Some(want)) if got == want => Ok(()),
        (Err(_), None, None) => Ok(()),
        (got, want, error) => Err(format!("want {want:?} error {error:?}\ngot  {got:?}")),
    }
}

/// The default templates, with the zones of this host.
static TEMPLATES: LazyLock<Templates> = LazyLock::new(|| {
    let zones = |name: &str| {
        let file = std::fs::read(Path::new("/usr/share/zoneinfo").join(name)).ok()?;
        Some(Arc::from(file))
    };
    Templates::new(NOTICE_LIMITS, Arc::new(zones))
});

fn notice_case(case: &Json) -> Result<(), String> {
    let templates = &*TEMPLATES;
    let text = case["in"].as_str().unwrap_or_default();
    let is_html = case["html"].as_bool().unwrap_or(false);
    let data = &case["data"];
    let routes: Kv = match data["RouteLabels"].as_object() {
        Some(labels) => labels
            .iter()
            .map(|(name, value)| (name.clone(), value.as_str().unwrap_or_default().to_owned()))
            .collect(),
        None => Kv::new(),
    };
    let got = templates.any(text, notice_value(data), &routes, 1_700_000_000_000_000_000, is_html);
    compare(got.map_err(|error| error.to_string()), case["exp"].as_str(), case["expErr"].as_str())
}

/// A part of a notification, or other data as Go would have them.
fn notice_value(data: &Json) -> Value<'_> {
    let [whole, ..] = data_classes();
    let Json::Object(fields) = data else { return plain(data) };
    if fields.is_empty() || !fields.keys().all(|name| whole.fields.contains(&name.as_str())) {
        return plain(data);
    }
    structure(0, data)
}

/// The notification, or one of its alerts, with what is not told as Go has it at first.
fn structure(class: usize, data: &Json) -> Value<'_> {
    let classes = data_classes();
    let [_, alerts, _, labels] = classes;
    let values = classes[class].fields.iter().map(|name| match (*name, &data[*name]) {
        ("Alerts", list) => {
            let list = list.as_array().map(Vec::as_slice).unwrap_or_default();
            Value::list(alerts, list.iter().map(|alert| structure(2, alert)).collect())
        }
        (name, Json::Object(pairs)) if name.ends_with("abels") || name.ends_with("nnotations") => {
            let texts = pairs.iter().map(|(name, value)| {
                (name.as_str().into(), Value::text(value.as_str().unwrap_or_default()))
            });
            Value::map(labels, texts.collect())
        }
        (name, _) if name.ends_with("abels") || name.ends_with("nnotations") => {
            Value::nil_map(labels)
        }
        ("StartsAt" | "EndsAt", time) => {
            let time = time.as_str().and_then(|text| GoTime::parse(RFC3339, text));
            Value::time(time.unwrap_or_else(GoTime::zero))
        }
        (_, text) => Value::text(text.as_str().unwrap_or_default()),
    });
    Value::structure(classes[class], values.collect())
}

const RFC3339: &str = "2006-01-02T15:04:05Z07:00";

/// Data as Go's tests write them.
fn plain(data: &Json) -> Value<'_> {
    match data {
        Json::Null => Value::Nil,
        Json::Bool(value) => Value::Bool(*value),
        Json::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(value), _) => Value::Int(value),
            (None, Some(value)) => Value::Uint(value),
            (None, None) => Value::Float(number.as_f64().unwrap_or(f64::NAN)),
        },
        Json::String(text) => match (text.as_str(), GoTime::parse(RFC3339, text)) {
            ("math.MaxUint64", _) => Value::Uint(u64::MAX),
            ("math.MaxInt64", _) => Value::Int64(i64::MAX),
            ("math.MinInt64", _) => Value::Int64(i64::MIN),
            (_, Some(time)) => Value::time(time),
            (text, None) => Value::text(text),
        },
        Json::Array(list) => {
            let items: Vec<Value<'_>> = list.iter().map(plain).collect();
            let texts = items.iter().all(|item| matches!(item, Value::Text(_)));
            Value::list(if texts { &TEXTS } else { &LIST }, items)
        }
        Json::Object(fields) => {
            let entries = fields.iter().map(|(name, value)| (name.as_str().into(), plain(value)));
            Value::map(&MAP, entries.collect())
        }
    }
}

fn rule_case(case: &Json) -> Result<(), String> {
    let samples: Vec<QuerySample> = case["query_result"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default()
        .iter()
        .map(|sample| QuerySample {
            labels: sample["labels"]
                .as_object()
                .map(|labels| {
                    let text = |value: &Json| value.as_str().unwrap_or_default().to_owned();
                    labels.iter().map(|(name, value)| (name.clone(), text(value))).collect()
                })
                .unwrap_or_else(BTreeMap::new),
            value: SampleValue::Float(sample["value"].as_f64().unwrap_or(f64::NAN)),
        })
        .collect();
    let options = case["options"].as_array();
    let missing_key = match options.and_then(|options| options.first()).and_then(Json::as_str) {
        Some("missingkey=error") => MissingKey::Error,
        Some("missingkey=zero") => MissingKey::Zero,
        Some(_) => MissingKey::NoValue,
        // No list stands for what Prometheus has, an empty one for what Go has.
        None if options.is_none() => MissingKey::Zero,
        None => MissingKey::NoValue,
    };
    let surroundings = Surroundings {
        now_ms: 1_353_755_652_000,
        external_url: "http://testhost:9090/path/prefix",
        missing_key,
        html: case["html"].as_bool().unwrap_or(false),
        limits: Limits::default(),
    };
    let text = case["text"].as_str().unwrap_or_default();
    let mut queries = |_: &str, _: i64| Ok(samples.clone());
    let got = rule::expand_value("test", text, plain(&case["input"]), surroundings, &mut queries);
    compare(got.map_err(|error| error.to_string()), case["output"].as_str(), case["error"].as_str())
}

/// Labels and annotations of a file of rules are templates, or one of them is none.
fn parse_case(case: &Json) -> Result<(), String> {
    let wanted = case["should_pass"].as_bool().unwrap_or(false);
    let mut failure = None;
    let mut inside = false;
    for line in case["rules_yaml"].as_str().unwrap_or_default().lines() {
        let text = line.trim();
        inside =
            matches!(text, "labels:" | "annotations:") || (inside && line.starts_with("      "));
        let Some((_, quoted)) = text.split_once(": ").filter(|_| inside) else { continue };
        let text: String = serde_json::from_str(quoted).unwrap_or_else(|_| quoted.to_owned());
        if let Err(error) = rule::check_named("__alert_test", &text) {
            failure = Some(error.to_string());
        }
    }
    match (wanted, failure) {
        (true, None) | (false, Some(_)) => Ok(()),
        (wanted, failure) => Err(format!("want it to pass: {wanted}\ngot  {failure:?}")),
    }
}
