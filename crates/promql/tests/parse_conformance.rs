//! The parser against Prometheus' own cases and the corpus of bad inputs, where they are at hand.

use std::path::PathBuf;

use promql::{parse, parse_selector};
use serde_json::Value;

fn shared(path: &str) -> Option<String> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared");
    std::fs::read_to_string(root.join(path)).ok()
}

fn text<'v>(case: &'v Value, key: &str) -> &'v str {
    case[key].as_str().unwrap_or_default()
}

#[test]
fn prometheus_own_table_of_cases() {
    let Some(cases) = shared("conformance/promql/parse_cases.json") else { return };
    let cases: Vec<Value> = serde_json::from_str(&cases).expect("the table is JSON");
    assert!(cases.len() > 300);
    let wrong: Vec<String> = cases
        .iter()
        .filter(|case| parse(text(case, "input")).is_err() != (case["fail"] == true))
        .map(|case| format!("{case}: {:?}", parse(text(case, "input")).err()))
        .collect();
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}

/// Wrong as the test scripts' notation of a series, which it was collected for, but a subtraction
/// to everybody else.
const SERIES_NOTATION: &str = r#"my_metric{a="b"} -3-3 -3"#;

#[test]
fn corpus_of_bad_inputs() {
    let Some(lines) = shared("corpus/promql.jsonl") else { return };
    let mut wrong = Vec::new();
    for line in lines.lines() {
        let case: Value = serde_json::from_str(line).expect("the corpus is JSON lines");
        let result = parse(text(&case, "text"));
        let fits = match text(&case, "expect") {
            "accept" => result.is_ok(),
            "reject" if text(&case, "text") == SERIES_NOTATION => result.is_ok(),
            "reject" => result.is_err(),
            // These say what evaluation does, or that either answer is fine.
            _ => true,
        };
        if !fits {
            wrong.push(format!("{case}: {:?}", result.err()));
        }
    }
    assert!(wrong.is_empty(), "{}:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn corpus_of_selectors() {
    let Some(lines) = shared("corpus/promql-selector.jsonl") else { return };
    for line in lines.lines() {
        let case: Value = serde_json::from_str(line).expect("the corpus is JSON lines");
        let selector = text(&case, "text");
        assert_eq!(parse_selector(selector).is_ok(), !selector.is_empty(), "{case}");
    }
}
