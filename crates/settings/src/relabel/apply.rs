//! Rules at work.

use std::fmt::Write as _;

use md5::{Digest, Md5};

use super::buffer::{Entry, LabelBuffer, Scratch};
use super::rule::{Action, Compiled, RelabelConfig};

/// Applies `rules` one after the other. False means the label set is dropped; what it then holds
/// is unspecified.
///
/// Costs one match per rule and no allocation once `labels` has grown.
pub fn relabel(rules: &[RelabelConfig], labels: &mut LabelBuffer) -> bool {
    rules.iter().all(|rule| relabel_one(rule, labels))
}

/// Applies one rule, for those who show each step.
pub fn relabel_one(rule: &RelabelConfig, labels: &mut LabelBuffer) -> bool {
    // The memory is taken out for the time of the rule, so that it and the labels can be used
    // at once.
    let mut scratch = std::mem::take(&mut labels.scratch);
    let kept = apply(rule.compiled(), labels, &mut scratch);
    labels.scratch = scratch;
    kept
}

fn apply(rule: &Compiled, labels: &mut LabelBuffer, scratch: &mut Scratch) -> bool {
    let fields = &rule.fields;
    join(rule, labels, &mut scratch.joined);
    let target = fields.target_label.as_str();
    match fields.action {
        Action::Keep => return fields.regex.is_match(&scratch.joined),
        Action::Drop => return !fields.regex.is_match(&scratch.joined),
        Action::KeepEqual => return labels.get(target) == scratch.joined,
        Action::DropEqual => return labels.get(target) != scratch.joined,
        Action::Replace => replace(rule, labels, scratch),
        Action::HashMod => {
            let bucket = hash(&scratch.joined) % fields.modulus;
            scratch.value.clear();
            write!(scratch.value, "{bucket}").expect("a String takes every text");
            labels.set(target, &scratch.value);
        }
        Action::Lowercase => {
            change_case(&scratch.joined, &mut scratch.value, char::to_lowercase);
            labels.set(target, &scratch.value);
        }
        Action::Uppercase => {
            change_case(&scratch.joined, &mut scratch.value, char::to_uppercase);
            labels.set(target, &scratch.value);
        }
        Action::LabelMap => label_map(rule, labels, scratch),
        Action::LabelDrop => labels.retain(|name| !fields.regex.is_match(name)),
        Action::LabelKeep => labels.retain(|name| fields.regex.is_match(name)),
    }
    true
}

fn join(rule: &Compiled, labels: &LabelBuffer, joined: &mut String) {
    joined.clear();
    for (index, name) in rule.fields.source_labels.iter().enumerate() {
        if index > 0 {
            joined.push_str(&rule.fields.separator);
        }
        joined.push_str(labels.get(name));
    }
}

fn replace(rule: &Compiled, labels: &mut LabelBuffer, scratch: &mut Scratch) {
    let regex = &rule.fields.regex;
    if let (Some(target), Some(value)) = (rule.target.constant(), rule.replacement.constant()) {
        // No group is looked at, so it is enough to know whether the expression matches.
        if regex.is_match(&scratch.joined) && rule.names.is_label_name(target) {
            labels.set(target, value);
        }
        return;
    }
    if let (true, Some(target), Some(0 | 1)) =
        (regex.is_match_all(), rule.target.constant(), rule.replacement.single_group())
    {
        // A plain copy, the most frequent rule of all.
        labels.set(target, &scratch.joined);
        return;
    }
    if !capture(rule, scratch) {
        return;
    }
    let Scratch { joined, name, value, groups, .. } = scratch;
    name.clear();
    rule.target.expand(name, groups, joined);
    if !rule.names.is_label_name(name) {
        return;
    }
    value.clear();
    rule.replacement.expand(value, groups, joined);
    labels.set(name, value);
}

/// Matches the joined text and leaves its groups in `scratch.groups`.
fn capture(rule: &Compiled, scratch: &mut Scratch) -> bool {
    rule.fields.regex.captures(&scratch.joined, &mut scratch.groups)
}

fn label_map(rule: &Compiled, labels: &mut LabelBuffer, scratch: &mut Scratch) {
    let mut snapshot: Vec<Entry> = std::mem::take(&mut scratch.entries);
    labels.snapshot(&mut snapshot);
    for entry in &snapshot {
        scratch.joined.clear();
        scratch.joined.push_str(labels.name_of(entry));
        if !capture(rule, scratch) {
            continue;
        }
        let Scratch { joined, name, value, groups, .. } = &mut *scratch;
        name.clear();
        rule.replacement.expand(name, groups, joined);
        value.clear();
        value.push_str(labels.value_of(entry));
        labels.set(name, value);
    }
    scratch.entries = snapshot;
}

/// The last 8 bytes of the MD5 of `text`, big endian: what every Prometheus ever used, so that
/// sharded scrapers of both kinds share targets alike.
fn hash(text: &str) -> u64 {
    let digest: [u8; 16] = Md5::digest(text.as_bytes()).into();
    let (_, last) = digest.split_at(8);
    u64::from_be_bytes(last.try_into().expect("half of 16 bytes"))
}

/// Changes letter by letter by Unicode's simple mappings, as Go does: a letter becomes one letter.
fn change_case<I: Iterator<Item = char>>(from: &str, to: &mut String, change: fn(char) -> I) {
    to.clear();
    to.extend(from.chars().map(|c| {
        let mut changed = change(c);
        match (changed.next(), changed.next()) {
            (Some(one), None) => one,
            // Rust has the full mappings only. Where those yield two letters, a simple one
            // exists for the dotted I and for Greek letters with iota.
            _ => match c {
                'İ' => 'i',
                'ᾀ'..='ᾇ' | 'ᾐ'..='ᾗ' | 'ᾠ'..='ᾧ' => {
                    char::from_u32(c as u32 + 8).unwrap_or(c)
                }
                'ᾳ' | 'ῃ' | 'ῳ' => char::from_u32(c as u32 + 9).unwrap_or(c),
                _ => c,
            },
        }
    }));
}

#[cfg(test)]
mod tests {
    use super::super::parse_rules;
    use super::*;
    use crate::NameValidation;

    #[test]
    fn the_second_series_takes_no_memory() {
        let rules = br#"[
            {"source_labels": ["__name__"], "regex": "go_.*|process_.*", "action": "drop"},
            {"source_labels": ["a", "b"], "regex": "(.);(.*)", "target_label": "c", "replacement": "$2-$1"},
            {"source_labels": ["a"], "target_label": "d"},
            {"regex": "b(.*)", "replacement": "e$1", "action": "labelmap"},
            {"regex": "x.*", "action": "labeldrop"},
            {"source_labels": ["a"], "target_label": "f", "action": "uppercase"},
            {"source_labels": ["a"], "target_label": "g", "modulus": 7, "action": "hashmod"}
        ]"#;
        let rules = parse_rules("rules", rules, NameValidation::Utf8).expect("valid rules");
        let mut labels = LabelBuffer::new();
        let mut held = None;
        for series in 0..50 {
            labels.clear();
            labels.load_label("__name__", "http_requests_total");
            labels.load_label("a", if series % 2 == 0 { "1" } else { "2" });
            labels.load_label("b", "some value");
            labels.load_label("x1", "dropped");
            assert!(relabel(&rules, &mut labels));
            let mut packed = Vec::new();
            labels.pack_into(&mut packed);
            assert_eq!(*held.get_or_insert(labels.held()), labels.held());
        }
        let set = labels.to_labels().expect("unique names").to_string();
        let expected = r#"http_requests_total{a="2", b="some value", c="some value-2", d="2", e="some value", f="2", g="#;
        assert!(set.starts_with(expected), "{set}");
    }

    #[test]
    fn case_changes_letter_by_letter() {
        let mut out = String::new();
        change_case("ßİᾳᾀΣé", &mut out, char::to_uppercase);
        assert_eq!(out, "ßİᾼᾈΣÉ");
        change_case("İΣÉ", &mut out, char::to_lowercase);
        assert_eq!(out, "iσé");
    }
}
