//! Files of rules, and files of tests of rules: tables taken from Prometheus' tests.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use ruletest::{Features, TestOptions, run_file};
use serde_json::Value;
use settings::NameValidation;
use settings::prometheus::Surroundings;
use settings::prometheus::rules::{self, RuleChecks};

use crate::case::CaseResult;

/// What runs one case.
type Check = fn(&Value) -> anyhow::Result<Result<(), String>>;

/// The tables and what runs them.
const TABLES: [(&str, Check); 3] = [
    ("prometheus_rulefile.jsonl", rule_file),
    ("prometheus_rule_template_parse.jsonl", rule_templates),
    ("promtool_unittest.jsonl", unit_test),
];

/// Runs the tables that the directory has.
pub(crate) fn run(directory: &Path) -> anyhow::Result<Vec<CaseResult>> {
    let mut results = Vec::new();
    for (name, check) in TABLES {
        let path = directory.join(name);
        if !path.exists() {
            continue;
        }
        let text =
            std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.is_empty()) {
            let place = || format!("{}:{}", path.display(), index + 1);
            let case: Value = serde_json::from_str(line).with_context(place)?;
            let name = text_of(&case, "id").with_context(place)?.to_owned();
            let outcome = check(&case).with_context(place)?;
            results.push(CaseResult { name, file: path.clone(), line: index + 1, outcome });
        }
    }
    Ok(results)
}

fn text_of<'a>(case: &'a Value, field: &str) -> anyhow::Result<&'a str> {
    case[field].as_str().with_context(|| format!("the case has no {field}"))
}

/// A file is right, or says what is wrong with it.
fn rule_file(case: &Value) -> anyhow::Result<Result<(), String>> {
    let names = match text_of(case, "name_validation")? {
        "utf8" => NameValidation::Utf8,
        "legacy" => NameValidation::Legacy,
        other => bail!("there are no names by the rule {other:?}"),
    };
    let checks = RuleChecks { names, ..ruletest::checks() };
    let read = rules::parse("rules.yml", text_of(case, "yaml")?.as_bytes(), &checks);
    let wanted = case["error_contains"].as_str();
    Ok(match (read, text_of(case, "expect")?, wanted) {
        (Ok(_), "ok", _) => Ok(()),
        (Ok(_), _, wanted) => Err(format!("it should be refused: {wanted:?}")),
        (Err(faults), "ok", _) => Err(format!("it is refused: {faults}")),
        (Err(faults), _, Some(wanted)) if !faults.to_string().contains(wanted) => {
            Err(format!("want {wanted}\ngot  {faults}"))
        }
        (Err(_), _, _) => Ok(()),
    })
}

/// The templates of a file are right, or not.
fn rule_templates(case: &Value) -> anyhow::Result<Result<(), String>> {
    let checks = ruletest::checks();
    let read = rules::parse("rules.yml", text_of(case, "rules_yaml")?.as_bytes(), &checks);
    let should_pass = case["should_pass"].as_bool().context("the case has no should_pass")?;
    Ok(match (read, should_pass) {
        (Ok(_), true) | (Err(_), false) => Ok(()),
        (Ok(_), false) => Err("it should be refused".to_owned()),
        (Err(faults), true) => Err(format!("it is refused: {faults}")),
    })
}

/// The files of one case.
struct Files(BTreeMap<PathBuf, Vec<u8>>);

impl Surroundings for Files {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.0.get(path).cloned().ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<String>> {
        let of = |path: &&PathBuf| path.parent() == Some(directory);
        let names = self.0.keys().filter(of).filter_map(|path| path.file_name()?.to_str());
        Ok(names.map(str::to_owned).collect())
    }

    fn variable(&self, _: &str) -> Option<String> {
        None
    }
}

/// A file of tests succeeds, or not. A case names what of the engine is on; tests of `--run` have the
/// engine of the program itself.
fn unit_test(case: &Value) -> anyhow::Result<Result<(), String>> {
    let directory = Path::new("case");
    let path = directory.join("test.yml");
    let mut files =
        BTreeMap::from([(path.clone(), text_of(case, "test_yaml")?.as_bytes().to_vec())]);
    let rule_files = case["rule_files"].as_object().context("the case has no rule_files")?;
    for (name, text) in rule_files {
        let text = text.as_str().with_context(|| format!("{name} is no text"))?;
        files.insert(directory.join(name), text.as_bytes().to_vec());
    }
    let switched_on = |name: &str| case["query_opts"][name].as_bool().unwrap_or(false);
    let patterns: Vec<String> = match &case["run"] {
        Value::Array(patterns) => {
            patterns.iter().filter_map(|one| Some(one.as_str()?.to_owned())).collect()
        }
        _ => Vec::new(),
    };
    let options = TestOptions {
        run: TestOptions::named(&patterns).map_err(anyhow::Error::msg)?,
        ignore_unknown_fields: case["ignore_unknown_fields"].as_bool().unwrap_or(false),
        diff: false,
        debug: false,
        features: Features {
            at_modifier: switched_on("EnableAtModifier"),
            negative_offset: switched_on("EnableNegativeOffset"),
        },
    };
    let report = run_file(&path, &Files(files), &options);
    let exit = i64::from(!report.is_success());
    let want = case["want_exit"].as_i64().context("the case has no want_exit")?;
    if exit == want {
        return Ok(Ok(()));
    }
    let failures: Vec<&str> = report.all_failures().collect();
    Ok(Err(format!("want {want}\ngot  {exit}\n{}", failures.join("\n"))))
}
