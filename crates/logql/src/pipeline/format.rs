//! `line_format` and `label_format`.

use model::Zones;

use super::entry::{Category, ERROR_DETAILS_LABEL, ERROR_LABEL, Span, StageError, State};
use super::names::{Name, Names};
use super::template::{Expressions, Moment, Template, TemplateError, sorted_labels};

/// Why a format cannot be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// `line_format` with what is no template.
    #[error("invalid line template: {0}")]
    Line(TemplateError),
    /// `label_format` with what is no template.
    #[error("invalid template for label '{0}': {1}")]
    Label(String, TemplateError),
    /// One label twice.
    #[error("multiple label name '{0}' not allowed in a single format operation")]
    Twice(String),
    /// The label of the error is not for formats.
    #[error("{0} cannot be formatted")]
    Reserved(String),
}

/// What formats need besides the state.
pub(crate) struct FormatWork<'w> {
    pub(crate) timestamp_ns: i64,
    pub(crate) now_ns: i64,
    pub(crate) zones: Zones,
    pub(crate) expressions: &'w mut Expressions,
    pub(crate) out: &'w mut String,
}

/// Replaces the line by what a template makes of its labels.
#[derive(Debug, Clone)]
pub struct LineFormat {
    template: Template,
}

impl LineFormat {
    /// Reads a template.
    ///
    /// # Errors
    /// `template` is none.
    pub fn new(template: &str) -> Result<Self, FormatError> {
        let template = Template::new("line", template).map_err(FormatError::Line)?;
        Ok(LineFormat { template })
    }

    /// The template.
    pub fn template(&self) -> &Template {
        &self.template
    }

    pub(crate) fn bind(&mut self, names: &mut Names) {
        self.template.bind(names);
    }

    pub(crate) fn process(&self, origin: &str, state: &mut State, work: &mut FormatWork<'_>) {
        work.out.clear();
        let all = if self.template.needs_all() { sorted_labels(state, origin) } else { Vec::new() };
        let moment = Moment {
            line: state.line(origin),
            timestamp_ns: work.timestamp_ns,
            now_ns: work.now_ns,
            zones: work.zones,
        };
        let field = |name| Some(state.value_or_error(origin, name));
        let outcome = self.template.execute(&field, &all, moment, work.expressions, work.out);
        match outcome {
            Ok(()) => {
                let line = state.write(work.out);
                state.set_line(line);
            }
            Err(details) => state.set_error(StageError::TemplateFormat, &details),
        }
    }
}

/// Where `label_format` takes a label from.
#[derive(Debug, Clone)]
pub enum LabelSource {
    /// Another label, which goes away.
    Rename(String),
    /// A template.
    Template(String),
}

#[derive(Debug, Clone)]
enum Bound {
    Rename(String, Name),
    Template(Box<Template>),
}

/// Renames labels and makes labels by templates.
#[derive(Debug, Clone)]
pub struct LabelFormat {
    formats: Vec<(String, Name, Bound)>,
    /// Labels that templates use by name.
    used: Vec<Name>,
    needs_all: bool,
    /// Labels as the first template of a line saw them; memory to use again.
    seen: Vec<(Name, Span)>,
    names: Vec<Name>,
}

impl LabelFormat {
    /// Labels with where they come from, in order.
    ///
    /// # Errors
    /// A template is none, or a label is told twice or is the error's.
    pub fn new(formats: Vec<(String, LabelSource)>) -> Result<Self, FormatError> {
        let mut bound: Vec<(String, Name, Bound)> = Vec::with_capacity(formats.len());
        for (label, source) in formats {
            if label == ERROR_LABEL || label == ERROR_DETAILS_LABEL {
                return Err(FormatError::Reserved(label));
            }
            if bound.iter().any(|(known, _, _)| *known == label) {
                return Err(FormatError::Twice(label));
            }
            let source = match source {
                LabelSource::Rename(from) => Bound::Rename(from, Name::default()),
                LabelSource::Template(text) => match Template::new("label", &text) {
                    Ok(template) => Bound::Template(Box::new(template)),
                    Err(error) => return Err(FormatError::Label(label, error)),
                },
            };
            bound.push((label, Name::default(), source));
        }
        let (used, seen, names) = (Vec::new(), Vec::new(), Vec::new());
        Ok(LabelFormat { formats: bound, used, needs_all: false, seen, names })
    }

    /// Names of the labels it makes, in order.
    pub fn labels(&self) -> impl Iterator<Item = &str> {
        self.formats.iter().map(|(label, _, _)| label.as_str())
    }

    pub(crate) fn bind(&mut self, names: &mut Names) {
        self.used.clear();
        self.needs_all = false;
        for (label, name, source) in &mut self.formats {
            *name = names.intern(label);
            match source {
                Bound::Rename(from, name) => *name = names.intern(from),
                Bound::Template(template) => {
                    template.bind(names);
                    self.used.extend_from_slice(template.fields());
                    self.needs_all |= template.needs_all();
                }
            }
        }
    }

    pub(crate) fn process(&mut self, origin: &str, state: &mut State, work: &mut FormatWork<'_>) {
        // All templates see the labels as they were at the first one.
        let mut is_seen = false;
        for (_, name, source) in &self.formats {
            match source {
                Bound::Rename(_, from) => {
                    let category = state.get(origin, *from).map(|(_, category)| category);
                    if let (Some(category), Some(value)) = (category, state.span(*from)) {
                        state.set(category, *name, value);
                        state.delete(*from);
                    }
                }
                Bound::Template(template) => {
                    if !std::mem::replace(&mut is_seen, true) {
                        if self.needs_all {
                            state.label_names(origin, &mut self.names);
                        } else {
                            self.names.clone_from(&self.used);
                        }
                        self.seen.clear();
                        let spans = self.names.iter();
                        self.seen
                            .extend(spans.filter_map(|name| Some((*name, state.span(*name)?))));
                    }
                    match execute(template, origin, state, &self.seen, work) {
                        Ok(()) => {
                            let value = state.write(work.out);
                            state.set(Category::Parsed, *name, value);
                        }
                        Err(details) => state.set_error(StageError::TemplateFormat, &details),
                    }
                }
            }
        }
    }
}

fn execute(
    template: &Template,
    origin: &str,
    state: &State,
    seen: &[(Name, Span)],
    work: &mut FormatWork<'_>,
) -> Result<(), String> {
    work.out.clear();
    let mut all = Vec::new();
    if template.needs_all() {
        all.extend(
            seen.iter().map(|(name, span)| (state.names.text(*name), state.text(origin, *span))),
        );
        all.sort_unstable();
    }
    let moment = Moment {
        line: state.line(origin),
        timestamp_ns: work.timestamp_ns,
        now_ns: work.now_ns,
        zones: work.zones,
    };
    let field = |wanted| {
        let found = seen.iter().find(|(name, _)| *name == wanted);
        found.map(|(_, span)| state.text(origin, *span))
    };
    template.execute(&field, &all, moment, work.expressions, work.out)
}
