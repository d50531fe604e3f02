//! What is not taken of a request with lines, in Loki's words.

use std::fmt::Write as _;

/// Most different texts kept of one request.
const MAX_TEXTS: usize = 16;

/// Why lines are not taken. Sources: `pkg/validation/validate.go` of Loki.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LogRefusal {
    /// A stream without a label.
    MissingLabels,
    /// Labels that cannot be read.
    InvalidLabels,
    /// Too many labels.
    MaxLabelNames,
    /// The name of a label is too long.
    LabelNameTooLong,
    /// The value of a label is too long.
    LabelValueTooLong,
    /// A label is there twice.
    DuplicateLabelNames,
    /// The line is too old.
    TooOld,
    /// The line is too far in the future.
    TooNew,
    /// The line is too long.
    LineTooLong,
    /// Metadata, where the tenant may send none.
    MetadataDisallowed,
    /// Too many bytes of metadata.
    MetadataTooLarge,
    /// Too many pairs of metadata.
    MetadataTooMany,
    /// It is not of its format.
    Malformed,
}

impl LogRefusal {
    /// The value of the label `reason` of Loki's `loki_discarded_samples_total`.
    pub fn as_str(self) -> &'static str {
        match self {
            LogRefusal::MissingLabels => "missing_labels",
            LogRefusal::InvalidLabels => "invalid_labels",
            LogRefusal::MaxLabelNames => "max_label_names_per_series",
            LogRefusal::LabelNameTooLong => "label_name_too_long",
            LogRefusal::LabelValueTooLong => "label_value_too_long",
            LogRefusal::DuplicateLabelNames => "duplicate_label_names",
            LogRefusal::TooOld => "greater_than_max_sample_age",
            LogRefusal::TooNew => "too_far_in_future",
            LogRefusal::LineTooLong => "line_too_long",
            LogRefusal::MetadataDisallowed => "disallowed_structured_metadata",
            LogRefusal::MetadataTooLarge => "structured_metadata_too_large",
            LogRefusal::MetadataTooMany => "structured_metadata_too_many",
            LogRefusal::Malformed => "malformed",
        }
    }
}

/// What was not taken with one text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogRefused {
    /// Why.
    pub reason: LogRefusal,
    /// Why, for the sender.
    pub text: String,
    /// How often that is said: once per line, or once per stream where its labels are the fault.
    pub errors: u64,
    /// How many lines.
    pub lines: u64,
    /// How many bytes of lines and metadata.
    pub bytes: u64,
}

/// What was not taken of one request; all else of it is in the batch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogRefusals {
    groups: Vec<LogRefused>,
}

impl LogRefusals {
    /// The status of an answer that tells them.
    pub const STATUS: u16 = 400;

    /// Counts lines that are not taken. Of many texts the further ones are counted with the first of
    /// their reason.
    pub(super) fn add(
        &mut self,
        reason: LogRefusal,
        text: &str,
        errors: u64,
        lines: u64,
        bytes: u64,
    ) {
        let same =
            self.groups.iter().position(|group| group.reason == reason && group.text == text);
        let is_full = self.groups.len() >= MAX_TEXTS;
        let alike = || self.groups.iter().position(|group| group.reason == reason);
        let slot = same.or_else(|| if is_full { alike() } else { None }).unwrap_or_else(|| {
            let text = text.to_owned();
            self.groups.push(LogRefused { reason, text, errors: 0, lines: 0, bytes: 0 });
            self.groups.len() - 1
        });
        let group = &mut self.groups[slot];
        group.errors += errors;
        group.lines += lines;
        group.bytes += bytes;
    }

    /// Whether everything was taken.
    pub fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// Each text, in the order in which they came up.
    pub fn iter(&self) -> impl Iterator<Item = &LogRefused> {
        self.groups.iter()
    }

    /// How many lines were not taken.
    pub fn lines(&self) -> u64 {
        self.groups.iter().map(|group| group.lines).sum()
    }

    /// All of it as Loki tells it: `2 errors like: …; 1 errors like: …`, and the mere text if there is
    /// but one.
    pub fn text(&self) -> String {
        let mut out = String::new();
        for (index, group) in self.groups.iter().enumerate() {
            if index > 0 {
                out.push_str("; ");
            }
            if self.groups.len() > 1 || group.errors > 1 {
                write!(out, "{} errors like: ", group.errors).expect("a string takes everything");
            }
            out.push_str(&group.text);
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_grouped_and_bounded() {
        let mut refusals = LogRefusals::default();
        refusals.add(LogRefusal::TooOld, "old", 1, 1, 5);
        assert_eq!((refusals.text().as_str(), refusals.lines()), ("old", 1));
        refusals.add(LogRefusal::TooOld, "old", 1, 1, 5);
        assert_eq!(refusals.text(), "2 errors like: old");
        refusals.add(LogRefusal::TooNew, "new", 1, 1, 5);
        assert_eq!(refusals.text(), "2 errors like: old; 1 errors like: new");
        for index in 0..100 {
            refusals.add(LogRefusal::TooNew, &format!("new {index}"), 1, 1, 1);
        }
        assert_eq!((refusals.iter().count(), refusals.lines()), (MAX_TEXTS, 103));
        let of_all: u64 = refusals.iter().map(|group| group.errors).sum();
        assert_eq!(of_all, 103);
        // A reason that is new is told all the same, once.
        refusals.add(LogRefusal::LineTooLong, "long", 1, 1, 1);
        refusals.add(LogRefusal::LineTooLong, "longer", 1, 1, 1);
        assert_eq!(refusals.iter().last().map(|group| group.errors), Some(2));
    }
}
