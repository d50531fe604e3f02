//! The public corpus of bad inputs, where it lies beside the repository; it is no part of it.

use std::path::{Path, PathBuf};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::Value;

/// Larger cases are for the tests of limits; here they would only slow the search down.
const MAX_CASE_BYTES: usize = 64 << 10;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/corpus")
}

/// The bytes of all cases of these protocols; none where the corpus is absent.
pub(crate) fn cases(protocols: &[&str]) -> Vec<Vec<u8>> {
    let mut cases = Vec::new();
    for protocol in protocols {
        let lines = std::fs::read_to_string(root().join(format!("{protocol}.jsonl")));
        for line in lines.unwrap_or_default().lines() {
            let case: Value = serde_json::from_str(line).expect("the corpus is JSON lines");
            cases.push(match case["b64"].as_str() {
                Some(encoded) => BASE64_STANDARD.decode(encoded).expect("the corpus is base64"),
                None => case["text"].as_str().unwrap_or_default().as_bytes().to_vec(),
            });
        }
        let files = std::fs::read_dir(root().join("files").join(protocol));
        for entry in files.into_iter().flatten().flatten() {
            cases.extend(std::fs::read(entry.path()).ok());
        }
    }
    cases.retain(|case| case.len() <= MAX_CASE_BYTES);
    cases
}
