//! The labels of a series as text, before they become a label set.

use std::ops::Range;

use model::{LabelError, METRIC_NAME, MetricType};

use crate::text_entry::{RawLabel, RawSeries};
use crate::type_and_unit::{TYPE, UNIT, type_label};

/// The labels of one series, unescaped; memory to be used again for the next one.
#[derive(Debug, Clone, Default)]
pub struct LabelText {
    text: Vec<u8>,
    spans: Vec<RawLabel>,
}

impl LabelText {
    /// Name and value of each label by ascending name, labels with an empty value included.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.spans.iter().map(|span| (self.utf8(&span.name), self.utf8(&span.value)))
    }

    fn utf8(&self, span: &Range<usize>) -> &str {
        std::str::from_utf8(&self.text[span.clone()]).expect("checked when it was read")
    }

    /// Takes the labels of `series` in place of those it holds.
    pub(crate) fn read(&mut self, series: &RawSeries<'_>) -> Result<(), LabelError> {
        self.write(series);
        self.finish()
    }

    /// As [`LabelText::read`], with type and unit of the family as labels in place of those that
    /// the series may have itself; an unknown type and an empty unit are none.
    pub(crate) fn read_described(
        &mut self,
        series: &RawSeries<'_>,
        kind: MetricType,
        unit: &str,
    ) -> Result<(), LabelError> {
        self.write(series);
        let described = [(TYPE, type_label(kind)), (UNIT, unit)];
        let (text, mut index) = (&mut self.text, 0);
        self.spans.retain(|span| {
            let name = &text[span.name.clone()];
            let is_said = name == METRIC_NAME.as_bytes()
                || described
                    .iter()
                    .any(|(said, value)| name == said.as_bytes() && !value.is_empty());
            index += 1;
            // The name itself stands first.
            index == 1 || !is_said
        });
        for (name, value) in described.into_iter().filter(|(_, value)| !value.is_empty()) {
            let start = text.len();
            text.extend_from_slice(name.as_bytes());
            let middle = text.len();
            text.extend_from_slice(value.as_bytes());
            self.spans.push(RawLabel { name: start..middle, value: middle..text.len() });
        }
        self.finish()
    }

    fn write(&mut self, series: &RawSeries<'_>) {
        self.text.clear();
        self.spans.clear();
        series.write_labels(&mut self.text, &mut self.spans);
    }

    fn finish(&mut self) -> Result<(), LabelError> {
        let text = &self.text;
        self.spans.sort_by(|a, b| text[a.name.clone()].cmp(&text[b.name.clone()]));
        let fault = self.fault();
        if fault.is_some() {
            self.spans.clear();
        }
        fault.map_or(Ok(()), Err)
    }

    fn fault(&self) -> Option<LabelError> {
        let part = |span: &Range<usize>| std::str::from_utf8(&self.text[span.clone()]);
        let mut before = "";
        for span in &self.spans {
            let (Ok(name), Ok(_)) = (part(&span.name), part(&span.value)) else {
                return Some(LabelError::Malformed);
            };
            if name.is_empty() {
                return Some(LabelError::EmptyName);
            }
            if name == before {
                return Some(LabelError::Duplicate(name.to_owned()));
            }
            before = name;
        }
        None
    }
}
