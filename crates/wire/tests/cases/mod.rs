//! The public corpus of bad inputs, where it lies beside the repository.

use std::path::{Path, PathBuf};

use serde_json::Value;
use wire::WireError;

/// A case of the corpus.
pub(crate) struct Case {
    /// What it is called.
    pub(crate) id: String,
    /// What is to become of it.
    pub(crate) expect: String,
    /// Whence it comes.
    pub(crate) source: String,
    /// What is read.
    pub(crate) bytes: Vec<u8>,
}

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/corpus")
}

/// The cases of `protocol`; none where the corpus is absent.
pub(crate) fn cases(protocol: &str) -> Vec<Case> {
    let mut cases = Vec::new();
    let text = std::fs::read_to_string(corpus().join(format!("{protocol}.jsonl")));
    for line in text.unwrap_or_default().lines() {
        let case: Value = serde_json::from_str(line).expect("the corpus is JSON lines");
        let field = |name: &str| case[name].as_str().unwrap_or_default().to_owned();
        let bytes = match case["b64"].as_str() {
            Some(encoded) => base64(encoded),
            None => field("text").into_bytes(),
        };
        cases.push(Case {
            id: field("id"),
            expect: field("expect"),
            source: field("source"),
            bytes,
        });
    }
    let index = std::fs::read_to_string(corpus().join("index.tsv")).unwrap_or_default();
    for row in index.lines() {
        let columns: Vec<_> = row.split('\t').collect();
        let [id, proto, _, expect, _, _, place, source, ..] = columns.as_slice() else { continue };
        if *proto == protocol && place.starts_with("files/") {
            cases.push(Case {
                id: (*id).to_owned(),
                expect: (*expect).to_owned(),
                source: (*source).to_owned(),
                bytes: std::fs::read(corpus().join(place)).expect("the index names files"),
            });
        }
    }
    cases
}

fn base64(encoded: &str) -> Vec<u8> {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = Vec::new();
    let (mut bits, mut count) = (0_u32, 0);
    for byte in encoded.trim_end_matches('=').bytes() {
        let digit = ALPHABET.iter().position(|&candidate| candidate == byte);
        bits = bits << 6 | digit.expect("the corpus is base64") as u32;
        count += 6;
        if count >= 8 {
            count -= 8;
            out.push((bits >> count) as u8);
        }
    }
    out
}

/// Runs `decode` over the cases and collects those whose outcome is another than expected.
pub(crate) fn check(
    protocol: &str,
    is_decided_otherwise: impl Fn(&Case) -> bool,
    decode: impl Fn(&[u8]) -> Result<(), WireError>,
) {
    let mut wrong = Vec::new();
    for case in cases(protocol) {
        let outcome = decode(&case.bytes);
        let fits = match case.expect.as_str() {
            "accept" | "accept-and-escape" => outcome.is_ok(),
            "reject" | "reject-limit" => outcome.is_err(),
            _ => true,
        };
        if !fits && !is_decided_otherwise(&case) {
            let shown: String = String::from_utf8_lossy(&case.bytes).chars().take(120).collect();
            wrong.push(format!("{} {} {:?} {shown:?}", case.id, case.expect, outcome.err()));
        }
    }
    assert!(wrong.is_empty(), "{protocol}:\n{}", wrong.join("\n"));
}
