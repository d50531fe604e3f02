//! Templates of `line_format` and `label_format`: Go's `text/template` with Loki's functions.
//!
//! The engine is `gotemplate`; here are the functions and how labels are seen. Differences to Go:
//! integers that overflow wrap.

mod arithmetic;
mod calls;
mod collector;
mod decimal;
mod digest;
mod encode;
mod free;
mod functions;
mod strings;
mod times;

use super::entry::State;
use super::names::{Name, Names};
use calls::Calls;
pub use free::{FreeTemplate, TemplateMemory};
use functions::Dialect;
pub(crate) use gotemplate::Expressions;
use gotemplate::{Limits, MissingKey, Parsed, Part, Request, Value};
use model::Zones;

/// A text that is no template, or uses a function there is not, in Go's words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct TemplateError(String);

/// A template, read once.
#[derive(Debug, Clone)]
pub struct Template {
    /// What errors call it.
    name: &'static str,
    text: String,
    parsed: Parsed,
    /// Names of the fields it uses.
    fields: Vec<Name>,
    /// The template as text and fields, if it is nothing else.
    simple: Option<Vec<Part>>,
}

/// The names of the functions that templates may use.
pub fn template_functions() -> impl Iterator<Item = &'static str> {
    functions::names()
}

/// What a template sees besides labels.
#[derive(Clone, Copy)]
pub(crate) struct Moment<'d> {
    pub(crate) line: &'d str,
    pub(crate) timestamp_ns: i64,
    pub(crate) now_ns: i64,
    pub(crate) zones: Zones,
}

impl Template {
    /// Reads a template that errors call `name`.
    ///
    /// # Errors
    /// `text` is no template.
    pub(crate) fn new(name: &'static str, text: &str) -> Result<Self, TemplateError> {
        let parsed = Parsed::new(name, text, &Dialect::Query).map_err(TemplateError)?;
        let simple = parsed.parts();
        Ok(Template { name, text: text.to_owned(), parsed, fields: Vec::new(), simple })
    }

    /// The template as written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Names of labels it uses by name.
    pub fn labels(&self) -> impl Iterator<Item = &str> {
        self.parsed.fields().iter().map(String::as_str)
    }

    pub(crate) fn bind(&mut self, names: &mut Names) {
        self.fields = self.parsed.fields().iter().map(|field| names.intern(field)).collect();
    }

    /// Whether it may reach labels it does not name.
    pub(crate) fn needs_all(&self) -> bool {
        self.parsed.needs_all()
    }

    /// Whether it may fail at some line. One that only puts labels into text does not, but for an output that
    /// is too long.
    pub(crate) fn can_fail(&self) -> bool {
        self.simple.is_none()
    }

    /// Numbers of fields with the names of their labels.
    pub(crate) fn fields(&self) -> &[Name] {
        &self.fields
    }

    /// Appends what it makes of a line to `out`. `field` yields the value of a label, `all` all
    /// labels in the order of their names, which are only needed if [`Template::needs_all`].
    ///
    /// # Errors
    /// What Go says; some of the output was appended then.
    pub(crate) fn execute<'d>(
        &'d self,
        field: &dyn Fn(Name) -> Option<&'d str>,
        all: &'d [(&'d str, &'d str)],
        moment: Moment<'d>,
        expressions: &mut Expressions,
        out: &mut String,
    ) -> Result<(), String> {
        if let Some(parts) = &self.simple {
            let start = out.len();
            for part in parts {
                match part {
                    Part::Text(text) => out.push_str(text),
                    Part::Field(number) => out.push_str(field(self.fields[*number]).unwrap_or("")),
                }
                check_length(self.name, out.len() - start)?;
            }
            return Ok(());
        }
        let fields = Fields { fields: &self.fields, get: field };
        let mut calls = Calls::new(moment, expressions, &fields, Dialect::Query);
        gotemplate::execute(request(&self.parsed, all), &mut calls, out)
    }
}

/// A template over labels; all of them are there if it needs them all.
fn request<'d>(parsed: &'d Parsed, all: &'d [(&'d str, &'d str)]) -> Request<'d> {
    let missing_key = MissingKey::Zero;
    Request { library: parsed, data: Value::Labels(all), missing_key, html: false }
}

/// Whether an output may be so long.
fn check_length(name: &str, len: usize) -> Result<(), String> {
    let most = Limits::default().text_bytes;
    if len > most {
        return Err(format!("template: {name}: the output is longer than {most} bytes"));
    }
    Ok(())
}

struct Fields<'f, 'd> {
    fields: &'f [Name],
    get: &'f dyn Fn(Name) -> Option<&'d str>,
}

impl<'d> calls::Fields<'d> for Fields<'_, 'd> {
    fn field(&self, number: usize) -> Option<&'d str> {
        self.fields.get(number).and_then(|name| (self.get)(*name))
    }
}

/// All labels of a line in the order of their names.
pub(crate) fn sorted_labels<'a>(state: &'a State, origin: &'a str) -> Vec<(&'a str, &'a str)> {
    let mut all = Vec::new();
    state.for_each(origin, |name, value, _| all.push((state.names.text(name), value)));
    all.sort_unstable();
    all
}

#[cfg(test)]
mod tests;
