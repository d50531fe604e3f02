//! The relabel engine against a model that does everything the slow way.

use std::collections::BTreeMap;

use md5::{Digest, Md5};
use proptest::prelude::*;
use settings::NameValidation;
use settings::relabel::{Action, LabelBuffer, Regex, RelabelConfig, RelabelFields, relabel};

/// Labels in the order Prometheus' builder walks them: what came, by name, then what was added.
#[derive(Debug, Clone, Default)]
struct Model {
    came: Vec<(String, String)>,
    added: Vec<(String, String)>,
}

impl Model {
    fn all(&self) -> Vec<(String, String)> {
        self.came.iter().chain(&self.added).cloned().collect()
    }

    fn get(&self, name: &str) -> String {
        self.all().into_iter().find(|(n, _)| n == name).map(|(_, v)| v).unwrap_or_default()
    }

    fn remove(&mut self, name: &str) {
        self.came.retain(|(n, _)| n != name);
        self.added.retain(|(n, _)| n != name);
    }

    fn set(&mut self, name: &str, value: &str) {
        if value.is_empty() {
            self.remove(name);
        } else if let Some(entry) = self.added.iter_mut().find(|(n, _)| n == name) {
            entry.1 = value.to_owned();
        } else if !name.is_empty() {
            self.remove(name);
            self.added.push((name.to_owned(), value.to_owned()));
        }
    }

    fn apply(&mut self, rule: &RelabelFields) -> bool {
        let values: Vec<String> = rule.source_labels.iter().map(|name| self.get(name)).collect();
        let joined = values.join(&rule.separator);
        let regex = regex::Regex::new(&format!("^(?s:{})$", rule.regex.as_str())).expect("valid");
        let expand = |template: &str, text: &str| {
            regex.captures(text).map(|captures| {
                let mut out = String::new();
                captures.expand(template, &mut out);
                out
            })
        };
        let target = rule.target_label.as_str();
        match rule.action {
            Action::Keep => return regex.is_match(&joined),
            Action::Drop => return !regex.is_match(&joined),
            Action::KeepEqual => return self.get(target) == joined,
            Action::DropEqual => return self.get(target) != joined,
            Action::Replace => {
                if let Some(name) = expand(target, &joined).filter(|name| !name.is_empty()) {
                    let value = expand(&rule.replacement, &joined).expect("matched above");
                    self.set(&name, &value);
                }
            }
            Action::HashMod => {
                let digest: [u8; 16] = Md5::digest(joined.as_bytes()).into();
                let hash = digest[8..].iter().fold(0_u64, |hash, b| hash << 8 | u64::from(*b));
                self.set(target, &(hash % rule.modulus).to_string());
            }
            Action::Lowercase => self.set(target, &joined.to_lowercase()),
            Action::Uppercase => self.set(target, &joined.to_uppercase()),
            Action::LabelMap => {
                for (name, value) in self.all() {
                    if let Some(mapped) = expand(&rule.replacement, &name) {
                        self.set(&mapped, &value);
                    }
                }
            }
            Action::LabelDrop => {
                for (name, _) in self.all().iter().filter(|(name, _)| regex.is_match(name)) {
                    self.remove(name);
                }
            }
            Action::LabelKeep => {
                for (name, _) in self.all().iter().filter(|(name, _)| !regex.is_match(name)) {
                    self.remove(name);
                }
            }
        }
        true
    }
}

fn label_name() -> impl Strategy<Value = String> {
    "[abc]{1,2}"
}

fn pattern() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("(.*)".to_owned()),
        Just("(.+)".to_owned()),
        Just("(a)?(.*)".to_owned()),
        Just("([ab]+);?(.*)".to_owned()),
        Just("a|b|cc".to_owned()),
        Just("(a|b)(c?)".to_owned()),
        Just(String::new()),
        "[abc.*;]{0,3}".prop_filter("an expression", |text| Regex::new(text).is_ok()),
    ]
}

fn template() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("$1".to_owned()),
        Just("${1}".to_owned()),
        Just("${2}x".to_owned()),
        Just("a${1}".to_owned()),
        Just("$0".to_owned()),
        "[abc]{0,2}",
    ]
}

prop_compose! {
    fn rule()(
        action in prop::sample::select(Action::ALL.to_vec()),
        source_labels in prop::collection::vec(label_name(), 0..3),
        separator in "[;,]?",
        pattern in pattern(),
        modulus in 1_u64..20,
        name in label_name(),
        target in template(),
        replacement in template(),
    ) -> RelabelFields {
        use Action::{DropEqual, HashMod, KeepEqual, LabelDrop, LabelKeep, LabelMap, Replace};
        let default = RelabelFields::default();
        let equal = matches!(action, DropEqual | KeepEqual);
        let names_only = matches!(action, LabelDrop | LabelKeep);
        RelabelFields {
            action,
            source_labels: if names_only { Vec::new() } else { source_labels },
            separator: if equal || names_only { default.separator } else { separator },
            regex: if equal { default.regex } else { Regex::new(&pattern).expect("valid") },
            modulus: if action == HashMod { modulus } else { 0 },
            target_label: match action {
                Replace => target,
                LabelDrop | LabelKeep => String::new(),
                _ => name,
            },
            replacement: match action {
                Replace | LabelMap => replacement,
                _ => default.replacement,
            },
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn engine_and_model_agree(
        labels in prop::collection::btree_map(label_name(), "[abcAÉ;]{1,4}", 0..5),
        rules in prop::collection::vec(rule(), 1..5),
    ) {
        let rules: Vec<RelabelConfig> = rules
            .into_iter()
            .filter_map(|fields| RelabelConfig::new(fields, NameValidation::Utf8).ok())
            .collect();
        let mut model = Model {
            came: labels.iter().map(|(n, v)| (n.clone(), v.clone())).collect(),
            added: Vec::new(),
        };
        let mut buffer = LabelBuffer::new();
        for (name, value) in &labels {
            buffer.load_label(name, value);
        }
        let kept = relabel(&rules, &mut buffer);
        prop_assert_eq!(kept, rules.iter().all(|rule| model.apply(rule.fields())));
        if kept {
            let got: BTreeMap<String, String> =
                buffer.iter().map(|(n, v)| (n.to_owned(), v.to_owned())).collect();
            let want: BTreeMap<String, String> = model.all().into_iter().collect();
            prop_assert_eq!(buffer.len(), got.len());
            prop_assert_eq!(&got, &want);
            let mut packed = Vec::new();
            buffer.pack_into(&mut packed);
            let labels = model::Labels::from_packed(&packed).expect("own bytes");
            prop_assert_eq!(labels, buffer.to_labels().expect("unique names"));
        }
    }
}
