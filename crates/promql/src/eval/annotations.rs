//! Warnings and infos: collecting them without doubles and rendering their place.

use std::fmt::Display;

use super::format::quoted;
use crate::ast::Span;
use crate::parse_error::Position;
use crate::value::{Annotation, AnnotationLevel};

impl Annotation {
    pub(crate) fn warning(text: impl Display, span: Span) -> Self {
        let message = format!("PromQL warning: {text}");
        Annotation { level: AnnotationLevel::Warning, message, span, is_summary: false }
    }

    pub(crate) fn info(text: impl Display, span: Span) -> Self {
        let message = format!("PromQL info: {text}");
        Annotation { level: AnnotationLevel::Info, message, span, is_summary: false }
    }

    /// The same, about all steps together if `is_summary`.
    pub(crate) fn about_all_steps(self, is_summary: bool) -> Self {
        Annotation { is_summary, ..self }
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

/// What there may be to tell about the histograms of one series, or of a group of series.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Finding {
    /// A range has floats and histograms, and the function is for one of them at a time.
    Mixed,
    /// A group has floats and histograms.
    MixedGroup,
    /// A range has floats and histograms, and only floats count.
    Ignored,
    /// Exponential and custom buckets together.
    MixedSchemas,
    /// A gauge taken for a counter.
    NotCounter,
    /// A counter taken for a gauge.
    NotGauge,
    /// Custom bounds given up in an addition.
    ReconciledSum,
    /// Custom bounds given up in a subtraction.
    ReconciledDifference,
    /// Custom bounds given up in an aggregation.
    ReconciledGroup,
    /// Histograms that say they were reset and ones that say they were not, in an aggregation.
    Collision,
    /// A counter that started before the sample before it.
    Overlap,
}

impl Finding {
    const ALL: [Finding; 11] = [
        Finding::Mixed,
        Finding::MixedGroup,
        Finding::Ignored,
        Finding::MixedSchemas,
        Finding::NotCounter,
        Finding::NotGauge,
        Finding::ReconciledSum,
        Finding::ReconciledDifference,
        Finding::ReconciledGroup,
        Finding::Collision,
        Finding::Overlap,
    ];

    /// Prometheus' words about the metric called `name`.
    ///
    /// Source: `util/annotations` of Prometheus 3.
    fn annotation(self, name: &str, span: Span) -> Annotation {
        let of_metric = |text: &str| format!("{text} {}", quoted(name));
        let reconciled =
            |operation| format!("mismatched custom buckets were reconciled during {operation}");
        match self {
            Finding::Mixed => Annotation::warning(
                of_metric("encountered a mix of histograms and floats for metric name"),
                span,
            ),
            Finding::MixedGroup => Annotation::warning(
                "encountered a mix of histograms and floats for aggregation",
                span,
            ),
            Finding::Ignored => Annotation::info(
                of_metric(
                    "ignored histograms in a range containing both floats and histograms for \
                     metric name",
                ),
                span,
            ),
            Finding::MixedSchemas => Annotation::warning(
                of_metric(
                    "vector contains a mix of histograms with exponential and custom buckets \
                     schemas for metric name",
                ),
                span,
            ),
            Finding::NotCounter => Annotation::warning(
                of_metric("this native histogram metric is not a counter:"),
                span,
            ),
            Finding::NotGauge => {
                Annotation::warning(of_metric("this native histogram metric is not a gauge:"), span)
            }
            Finding::ReconciledSum => Annotation::info(reconciled("addition"), span),
            Finding::ReconciledDifference => Annotation::info(reconciled("subtraction"), span),
            Finding::ReconciledGroup => Annotation::info(reconciled("aggregation"), span),
            Finding::Collision => {
                Annotation::warning("conflicting counter resets during histogram aggregation", span)
            }
            Finding::Overlap => Annotation::warning(
                of_metric(
                    "sample has start time that overlaps with previous sample timestamp for metric",
                ),
                span,
            ),
        }
    }
}

/// Findings, each at most once: cheap to note at every step of a series.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Findings(u16);

impl Findings {
    /// Notes `finding`.
    #[inline]
    pub(crate) fn note(&mut self, finding: Finding) {
        self.0 |= 1 << finding as u16;
    }

    /// Notes `finding` if `is_so`.
    #[inline]
    pub(crate) fn note_if(&mut self, is_so: bool, finding: Finding) {
        if is_so {
            self.note(finding);
        }
    }

    /// Puts them into words about the metric called `name`, which are about what stands at `span`.
    pub(crate) fn tell(self, name: &str, span: Span, notes: &mut Notes) {
        if self.0 == 0 {
            return;
        }
        for finding in Finding::ALL {
            if self.0 & 1 << finding as u16 != 0 {
                notes.add(finding.annotation(name, span));
            }
        }
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
