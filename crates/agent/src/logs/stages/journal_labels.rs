//! Labels of the journal as Promtail and Alloy make them: by rules over `__journal_…`.

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use model::Labels;
use settings::relabel::{LabelBuffer, RelabelConfig, relabel};

use crate::logs::{Entries, Entry, Pipeline, Stages};

/// Labels that the source has made of fields, by the fields they are made of.
const OF_FIELDS: &[(&str, &str)] = &[
    ("hostname", "__journal__hostname"),
    ("systemd_unit", "__journal__systemd_unit"),
    ("systemd_user_unit", "__journal__systemd_user_unit"),
    ("syslog_identifier", "__journal_syslog_identifier"),
    ("transport", "__journal__transport"),
];

/// Words of severities as the source has them, with number and word that Promtail has.
const SEVERITIES: &[(&str, &str, &str)] = &[
    ("emergency", "0", "emerg"),
    ("alert", "1", "alert"),
    ("critical", "2", "crit"),
    ("error", "3", "error"),
    ("warning", "4", "warning"),
    ("notice", "5", "notice"),
    ("informational", "6", "info"),
    ("debug", "7", "debug"),
];

/// Stages behind rules over the fields of entries. Labels are those that are configured and those that
/// rules make, and no others.
#[derive(Debug)]
pub struct JournalLabels {
    labels: Labels,
    rules: Arc<[RelabelConfig]>,
    inner: Arc<dyn Stages>,
}

impl JournalLabels {
    /// Puts rules before `inner`. `labels` are those of all entries.
    pub fn before(labels: Labels, rules: &[RelabelConfig], inner: Arc<dyn Stages>) -> Self {
        JournalLabels { labels, rules: rules.into(), inner }
    }
}

impl Stages for JournalLabels {
    fn start(&self) -> Box<dyn Pipeline> {
        Box::new(Labelling {
            labels: self.labels.clone(),
            rules: Arc::clone(&self.rules),
            inner: self.inner.start(),
            buffer: LabelBuffer::new(),
        })
    }
}

struct Labelling {
    labels: Labels,
    rules: Arc<[RelabelConfig]>,
    inner: Box<dyn Pipeline>,
    buffer: LabelBuffer,
}

impl fmt::Debug for Labelling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Labelling")
    }
}

impl Labelling {
    /// Yields whether the entry stays.
    fn label(&mut self, entry: &mut Entry) -> bool {
        let buffer = &mut self.buffer;
        buffer.load(&self.labels);
        for (name, field) in OF_FIELDS {
            buffer.set(field, entry.labels.get(name).unwrap_or_default());
        }
        let mut named = String::new();
        for (name, value) in &entry.metadata {
            if let Some((_, number, word)) =
                SEVERITIES.iter().find(|(known, ..)| name == "severity" && known == value)
            {
                buffer.set("__journal_priority", number);
                buffer.set("__journal_priority_keyword", word);
            }
            // Whether the journal itself or the program has set a field is not known any more.
            for start in ["__journal_", "__journal__"] {
                named.clear();
                named.push_str(start);
                named.push_str(name);
                buffer.set(&named, value);
            }
        }
        if !relabel(&self.rules, buffer) {
            return false;
        }
        let kept = buffer.iter().filter(|(name, _)| !name.starts_with("__"));
        entry.labels = Labels::from_pairs(kept).unwrap_or_else(|_| Labels::empty());
        true
    }
}

impl Pipeline for Labelling {
    fn process(&mut self, entry: &mut Entry, now: Instant, out: &mut dyn Entries) {
        if self.label(entry) {
            self.inner.process(entry, now, out);
        }
    }

    fn deadline(&self) -> Option<Instant> {
        self.inner.deadline()
    }

    fn flush(&mut self, now: Option<Instant>, out: &mut dyn Entries) {
        self.inner.flush(now, out);
    }

    fn held(&self, offsets: &mut Vec<u64>) {
        self.inner.held(offsets);
    }

    fn ready_at(&self) -> Option<Instant> {
        self.inner.ready_at()
    }
}

#[cfg(test)]
mod tests {
    use settings::NameValidation;
    use settings::relabel::parse_rules;

    use super::*;
    use crate::logs::Unchanged;

    #[test]
    fn rules_see_the_fields_of_an_entry() {
        let rules = parse_rules(
            "r.yml",
            b"[{source_labels: [__journal__systemd_unit], target_label: unit},
               {source_labels: [__journal_priority_keyword], target_label: level},
               {source_labels: [__journal__comm], target_label: comm},
               {source_labels: [unit], regex: noisy.service, action: drop}]",
            NameValidation::Utf8,
        )
        .expect("rules");
        let fixed = Labels::from_pairs([("job", "j")]).expect("valid");
        let stages = JournalLabels::before(fixed, &rules, Arc::new(Unchanged));
        let mut pipeline = stages.start();
        let mut out: Vec<Entry> = Vec::new();
        for unit in ["sshd.service", "noisy.service"] {
            let pairs = [("systemd_unit", unit), ("host", "h"), ("job", "journal")];
            let labels = Labels::from_pairs(pairs).expect("valid");
            let metadata = [("severity", "informational"), ("comm", "sshd")];
            let metadata = metadata.map(|(n, v)| (n.to_owned(), v.to_owned())).to_vec();
            let mut entry = Entry { labels, metadata, ..Entry::default() };
            pipeline.process(&mut entry, Instant::now(), &mut out);
        }
        let [entry] = out.as_slice() else { panic!("{out:?}") };
        let want = r#"{comm="sshd", job="j", level="info", unit="sshd.service"}"#;
        assert_eq!(entry.labels.to_string(), want);
        assert_eq!(entry.metadata.len(), 2);
    }
}
