//! Escaping by context, as Go's `html/template` does it.
//!
//! What a value becomes depends on what stands before it: a text, an attribute, an address, a
//! script, a style. Go finds that out before it executes a template, by looking at all ways through
//! it, and refuses those whose ways differ. Here it is found out while the output is written, from
//! what was really written. So the context is always exact, and nothing needs to be refused because
//! of ways that were not taken.

mod attributes;
mod context;
mod css;
mod entities;
mod filters;
mod script;
mod steps;
mod tags;
mod transition;
mod url;

use context::{Context, Delim, State};
pub(crate) use steps::Steps;
use transition::after_text;

/// What stands in place of a value that would be dangerous. Source: Go's `html/template`.
const FAILSAFE: &str = "ZgotmplZ";

/// An error of the text of a template, in Go's words.
pub(crate) fn told(name: &str, problem: String) -> String {
    if name.is_empty() {
        return format!("html/template: {problem}");
    }
    format!("html/template:{name}: {problem}")
}

/// Knows where in HTML the output is.
#[derive(Debug)]
pub(crate) struct Escaper {
    context: Context,
}

impl Escaper {
    pub(crate) fn new() -> Self {
        Escaper { context: Context::default() }
    }

    /// Appends text of the template itself: without comments, and with what is no tag escaped.
    ///
    /// # Errors
    /// It is no HTML that could be understood.
    pub(crate) fn text(&mut self, text: &str, out: &mut String) -> Result<(), String> {
        let start = out.len();
        let (mut at, mut written) = (0, 0);
        while at < text.len() {
            let before = self.context.clone();
            let (after, read) = after_text(before.clone(), &text[at..])?;
            let end = at + read;
            if matches!(before.state, State::Text | State::Rcdata) {
                let mut bound = end;
                if after.state != before.state {
                    bound = text[at..end].rfind('<').map_or(end, |open| at + open);
                }
                for (open, _) in text[at..bound].match_indices('<') {
                    let open = at + open;
                    let is_doctype = text.as_bytes()[open..]
                        .get(..9)
                        .is_some_and(|tag| tag.eq_ignore_ascii_case(b"<!DOCTYPE"));
                    if !is_doctype {
                        out.push_str(&text[written..open]);
                        out.push_str("&lt;");
                        written = open + 1;
                    }
                }
            } else if before.state.is_comment() && before.delim == Delim::None {
                match before.state {
                    State::JsBlockComment => {
                        let breaks = ['\n', '\r', '\u{2028}', '\u{2029}'];
                        let broken = text[written..end].contains(breaks);
                        out.push(if broken { '\n' } else { ' ' });
                    }
                    State::CssBlockComment => out.push(' '),
                    _ => {}
                }
                written = end;
            }
            let begins = before.state != after.state && after.state.is_comment();
            if begins && after.delim == Delim::None {
                let mark = match after.state {
                    State::HtmlComment | State::JsHtmlOpenComment => 4,
                    State::JsHtmlCloseComment => 3,
                    _ => 2,
                };
                out.push_str(text.get(written..end - mark).unwrap_or_default());
                written = end;
            }
            if before.state.is_script_literal() {
                written = script::write_literal(text, written, at..end, out);
            }
            if read == 0 && after == before {
                return Err("the text cannot be understood as HTML".to_owned());
            }
            (self.context, at) = (after, end);
        }
        if written == 0 {
            // Nothing of it is changed; a comment that ends before its first character is none.
            out.truncate(start);
            out.push_str(text);
        } else if !(self.context.state.is_comment() && self.context.delim == Delim::None) {
            out.push_str(&text[written..]);
        }
        Ok(())
    }

    /// Whether `html` or `urlquery` may stand at the end of a pipeline here.
    pub(crate) fn takes_explicit(&self, name: &str) -> bool {
        let nudged = self.context.clone().nudged();
        let unquoted = nudged.state == State::Attr && nudged.delim == Delim::SpaceOrTagEnd;
        !(unquoted && name == "html")
    }

    /// What is to be done with a value that is written here.
    ///
    /// # Errors
    /// No value may stand here.
    pub(crate) fn begin_value(&mut self) -> Result<Steps, String> {
        let mut context = std::mem::take(&mut self.context).nudged();
        let steps = Steps::of(&mut context);
        self.context = context;
        steps
    }

    /// Whether the output may end here.
    ///
    /// # Errors
    /// It ends inside a tag, a script, a comment or the like.
    pub(crate) fn finish(&self) -> Result<(), String> {
        if self.context.state == State::Text {
            return Ok(());
        }
        Err(format!("ends in a non-text context: {}", self.context))
    }
}

#[cfg(test)]
mod tests;
