//! The parser against the corpus of bad inputs, where it is at hand.

use std::path::PathBuf;

use logql::compile;
use logql::syntax::parse;
use serde_json::Value;

#[test]
fn corpus_of_bad_inputs() {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/corpus");
    let Ok(lines) = std::fs::read_to_string(root.join("logql.jsonl")) else { return };
    let mut wrong = Vec::new();
    for line in lines.lines() {
        let case: Value = serde_json::from_str(line).expect("the corpus is JSON lines");
        let text = case["text"].as_str().unwrap_or_default();
        let result = parse(text).and_then(|expr| compile::check(&expr));
        let fits = match case["expect"].as_str() {
            Some("accept") => result.is_ok(),
            Some("reject") => result.is_err(),
            _ => true,
        };
        if !fits {
            wrong.push(format!("{case}: {:?}", result.err()));
        }
    }
    assert!(wrong.is_empty(), "{}:\n{}", wrong.len(), wrong.join("\n"));
}
