//! Relabel rules, and Go's regular expressions in another engine.

use model::Labels;
use settings::NameValidation;
use settings::relabel::{LabelBuffer, Regex, RelabelConfig, parse_rules, relabel};

use crate::input::text_of;

/// An expression, a line end, and ASCII candidates, one per line. Where the engine below takes the
/// same text and means the same by it, both agree.
pub(crate) fn go_regex(bytes: &[u8]) {
    let text = text_of(bytes);
    let (pattern, candidates) = text.split_once('\n').unwrap_or((text, ""));
    let Ok(translated) = Regex::new(pattern) else { return };
    assert_eq!(translated.as_str(), pattern);
    let naive = regex::RegexBuilder::new(&format!("^(?s:{pattern})$")).build();
    let naive = naive.ok().filter(|_| means_the_same(pattern));
    for candidate in candidates.split('\n').chain(["", "a", "1 b"]) {
        let is_match = translated.is_match(candidate);
        if let Some(naive) = naive.as_ref().filter(|_| candidate.is_ascii()) {
            assert_eq!(is_match, naive.is_match(candidate), "{pattern:?} on {candidate:?}");
        }
    }
}

/// Whether the text surely means the same in Go and in the crate `regex`: without escapes, flags,
/// counts (Go takes no leading zeros) and operators of sets. Unit tests compare those.
fn means_the_same(pattern: &str) -> bool {
    let other = ["\\", "{", "(?", "&&", "--", "~~", "[^"];
    let may_nest = pattern.matches('[').count() > 1;
    !may_nest && !other.iter().any(|part| pattern.contains(part))
}

/// A list of rules over fixed labels: names stay unique, what is packed reads back.
pub(crate) fn rules(bytes: &[u8]) {
    for names in [NameValidation::Utf8, NameValidation::Legacy] {
        let rules = match parse_rules("fuzz.yml", bytes, names) {
            Ok(rules) => rules,
            Err(faults) => {
                let _ = faults.render();
                continue;
            }
        };
        let _ = serde_json::to_string(&rules).expect("rules are plain data");
        let mut buffer = LabelBuffer::new();
        let (kept, labels) = apply(&rules, &mut buffer);
        assert_eq!(buffer.len(), labels.len());
        let mut packed = Vec::new();
        buffer.pack_into(&mut packed);
        assert_eq!(Labels::from_packed(&packed).expect("own bytes"), labels);
        // What the first series left in the buffer's memory changes nothing for the next.
        assert_eq!(apply(&rules, &mut buffer), (kept, labels));
    }
}

fn apply(rules: &[RelabelConfig], buffer: &mut LabelBuffer) -> (bool, Labels) {
    buffer.clear();
    buffer.load_label("__address__", "host-1:9100");
    buffer.load_label("__meta_a", "é x");
    buffer.load_label("a", "1;2");
    buffer.load_label("job", "node");
    let kept = relabel(rules, buffer);
    (kept, buffer.to_labels().expect("names are unique and not empty"))
}
