//! What is done with a value, by the place it comes to stand at.

use crate::budget::{Budget, Limits};
use crate::encode;
use crate::value::{Safety, Value};

use super::context::{Context, Delim, Slash, State, UrlPart};
use super::filters::Extent;
use super::script::Literal;
use super::{css, filters, script, url};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Attribute,
    Comment,
    Css,
    CssValue,
    Html,
    Name,
    Unquoted,
    Rcdata,
    JsValue,
    JsLiteral(Literal),
    SourceSet,
    UrlFilter,
    UrlNormalized,
    UrlEscaped,
    /// Go's own `html`.
    ExplicitHtml,
    /// Go's own `urlquery`.
    ExplicitQuery,
}

/// What is done with a value, one after the other.
#[derive(Debug)]
pub(crate) struct Steps(Vec<Step>);

impl Steps {
    /// What is done at a place, which is then behind the value.
    pub(super) fn of(context: &mut Context) -> Result<Steps, String> {
        let mut steps = Vec::with_capacity(3);
        match context.state {
            State::Url
            | State::CssDoubleQuoted
            | State::CssSingleQuoted
            | State::CssDoubleQuotedUrl
            | State::CssSingleQuotedUrl
            | State::CssUrl => {
                if context.url_part == UrlPart::Start {
                    steps.push(Step::UrlFilter);
                }
                let is_string =
                    matches!(context.state, State::CssDoubleQuoted | State::CssSingleQuoted);
                steps.push(match context.url_part {
                    UrlPart::QueryOrFragment => Step::UrlEscaped,
                    _ if is_string => Step::Css,
                    _ => Step::UrlNormalized,
                });
            }
            State::MetaContentUrl => steps.push(Step::UrlFilter),
            State::Js => {
                steps.push(Step::JsValue);
                // A slash behind a value divides.
                context.slash = Slash::Division;
            }
            State::JsDoubleQuoted | State::JsSingleQuoted => {
                steps.push(Step::JsLiteral(Literal::String));
            }
            State::JsTemplate => steps.push(Step::JsLiteral(Literal::Template)),
            State::JsRegexp => steps.push(Step::JsLiteral(Literal::Regexp)),
            State::Css => steps.push(Step::CssValue),
            State::Text => steps.push(Step::Html),
            State::Rcdata => steps.push(Step::Rcdata),
            State::Attr | State::MetaContent => {}
            State::AttrName | State::Tag => {
                context.state = State::AttrName;
                steps.push(Step::Name);
            }
            State::Srcset => steps.push(Step::SourceSet),
            state if state.is_comment() => steps.push(Step::Comment),
            state => return Err(format!("a value cannot stand here: {state:?}")),
        }
        let quoted = match context.delim {
            Delim::None => return Ok(Steps(steps)),
            Delim::SpaceOrTagEnd => Step::Unquoted,
            Delim::DoubleQuote | Delim::SingleQuote => Step::Attribute,
        };
        // What these make needs no more escaping between quotes.
        let enough = matches!(steps.last(), Some(Step::Comment | Step::Css | Step::JsLiteral(_)));
        if !(enough && quoted == Step::Attribute) {
            steps.push(quoted);
        }
        Ok(Steps(steps))
    }

    /// Replaces steps that do what `html` or `urlquery` does by that function. Yields whether there
    /// was one, so that it need not be called before.
    pub(crate) fn imply(&mut self, name: &str) -> bool {
        let mut found = false;
        for step in &mut self.0 {
            let twin = match (name, *step) {
                ("html", Step::Attribute | Step::Html | Step::Rcdata) => Step::ExplicitHtml,
                ("urlquery", Step::UrlEscaped | Step::UrlNormalized) => Step::ExplicitQuery,
                _ => continue,
            };
            *step = twin;
            found = true;
        }
        found
    }

    /// The text of values at that place.
    ///
    /// # Errors
    /// It is longer than `limit`.
    pub(crate) fn escape(&self, values: &[Value<'_>], limit: usize) -> Result<String, String> {
        let mut made: Option<String> = None;
        for step in &self.0 {
            let text = match made {
                None => step.first(values, limit)?,
                Some(text) => step.apply(&text, None, limit)?,
            };
            if text.len() > limit {
                return Err(format!("the output is longer than {limit} bytes; print less"));
            }
            made = Some(text);
        }
        Ok(made.unwrap_or_else(|| joined(values, limit)))
    }
}

/// Values as `print` joins them; those that are none are left out.
fn joined(values: &[Value<'_>], limit: usize) -> String {
    let mut out = String::new();
    let mut text_before = true;
    let some = values.iter().filter(|value| !matches!(value, Value::Nil));
    for (index, value) in some.enumerate() {
        let is_text = value.as_text().is_some();
        if index > 0 && !is_text && !text_before {
            out.push(' ');
        }
        value.write(&mut out, limit);
        text_before = is_text;
    }
    out
}

impl Step {
    /// What it makes of values.
    fn first(self, values: &[Value<'_>], limit: usize) -> Result<String, String> {
        if self == Step::JsValue {
            return Ok(script::value(values, || joined(values, limit), limit));
        }
        match values {
            [Value::Text(text)] => self.apply(text, None, limit),
            [Value::Safe(safe)] => self.apply(&safe.text, Some(safe.safety), limit),
            values => self.apply(&joined(values, limit), None, limit),
        }
    }

    /// What it makes of a text.
    fn apply(self, text: &str, safety: Option<Safety>, limit: usize) -> Result<String, String> {
        let is_html = safety == Some(Safety::Html);
        let is_url = safety == Some(Safety::Url);
        let explicit =
            |function: for<'d> fn(&mut Budget, &[Value<'d>]) -> Result<Value<'d>, String>| {
                let mut budget = Budget::new(Limits { text_bytes: limit, ..Limits::default() });
                let made = function(&mut budget, &[Value::text(text)])?;
                Ok::<_, String>(made.as_text().unwrap_or_default().to_owned())
            };
        Ok(match self {
            Step::Attribute => filters::attribute(text, is_html),
            Step::Comment => String::new(),
            Step::Css => css::escaped(text),
            Step::CssValue => css::filtered(text),
            Step::Html if is_html => text.to_owned(),
            Step::Html => filters::escaped(text, Extent::Marks, false),
            Step::Name => filters::name(text),
            Step::Unquoted => filters::unquoted(text, is_html),
            Step::Rcdata => filters::escaped(text, Extent::Marks, is_html),
            Step::JsValue => {
                let mut out = String::new();
                crate::json::write_text(text, &mut out);
                out
            }
            Step::JsLiteral(kind) => script::literal(text, kind),
            // A comma would separate it from another.
            Step::SourceSet if is_url => url::escaped(text, true).replace(',', "%2c"),
            Step::SourceSet => url::source_set(text),
            Step::UrlFilter if is_url => text.to_owned(),
            Step::UrlFilter => url::filtered(text),
            Step::UrlNormalized => url::escaped(text, true),
            Step::UrlEscaped => url::escaped(text, is_url),
            Step::ExplicitHtml => explicit(encode::html)?,
            Step::ExplicitQuery => explicit(encode::urlquery)?,
        })
    }
}
