//! Warnings and infos: collecting them without doubles and rendering their place.

use std::fmt::Display;

use crate::ast::Span;
use crate::parse_error::Position;
use crate::value::{Annotation, AnnotationLevel};

impl Annotation {
    pub(crate) fn warning(text: impl Display, span: Span) -> Self {
        let message = format!("PromQL warning: {text}");
        Annotation { level: AnnotationLevel::Warning, message, span }
    }

    pub(crate) fn info(text: impl Display, span: Span) -> Self {
        let message = format!("PromQL info: {text}");
        Annotation { level: AnnotationLevel::Info, message, span }
    }

    /// The message followed by the place in `query` it is about, as Prometheus' HTTP API shows
    /// it: `PromQL info: … (1:5)`. Line and column count from 1, the column in bytes.
    pub fn render(&self, query: &str) -> String {
        format!("{} ({})", self.message, Position::of(self.span, query))
    }
}

/// Annotations in order of appearance, each once.
#[derive(Debug, Default)]
pub(crate) struct Notes(Vec<Annotation>);

/// More different annotations than this are not collected: no one reads them, and a query over
/// a million differently named metrics must not keep a million texts.
const MAX_NOTES: usize = 1_000;

impl Notes {
    pub(crate) fn add(&mut self, note: Annotation) {
        if self.0.len() < MAX_NOTES && !self.0.contains(&note) {
            self.0.push(note);
        }
    }

    pub(crate) fn merge(&mut self, other: Notes) {
        for note in other.0 {
            self.add(note);
        }
    }

    pub(crate) fn into_annotations(self) -> Vec<Annotation> {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_lines_and_columns() {
        let note = |start| Annotation::info("x", Span { start, end: start + 1 });
        assert_eq!(note(5).render("rate(foo)"), "PromQL info: x (1:6)");
        assert_eq!(note(7).render("sum(\n  rate(x))"), "PromQL info: x (2:3)");
        assert_eq!(note(99).render("up"), "PromQL info: x (1:3)");
    }

    #[test]
    fn doubles_are_dropped() {
        let mut notes = Notes::default();
        notes.add(Annotation::info("a", Span::default()));
        notes.add(Annotation::info("a", Span::default()));
        notes.add(Annotation::warning("a", Span::default()));
        assert_eq!(notes.into_annotations().len(), 2);
    }
}
